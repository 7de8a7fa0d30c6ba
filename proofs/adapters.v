(* Adapters: the algebra of s B A.

   W                  == the frozen matrix, m x n
   update s B A       == s *: (B *m A), what the adapter (B, A, s) adds to W; B is m x r, A is r x n
   side_path W s B A x == W *m x + s *: (B *m (A *m x)), the adapter kept beside W; the columns of x
                         are the inputs (tokens)
   tied_side, tied_merged == an embedding E^T and a head E that share one matrix, the adapter U of the
                         embedding kept beside it, or merged into the shared matrix
   chart M11 M12 M21  == the matrix of rank r with these blocks, M11 invertible of size r
   slope G U          == \tr (G^T *m U), by how much the loss changes along U, to first order
   grad_B G s A, grad_A G s B == the gradients of the factors, G that of the weight
   sign_mx M          == the signs of the entries of M: Adam's first step is the sign of the gradient

   Trap: \rank of a square matrix and (A <= B)%MS speak of row spaces; the size r of an adapter is the
   inner dimension of the product, an upper bound on the rank only. *)
From mathcomp Require Import all_ssreflect all_algebra.
From LoraLimits Require Import lowrank.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

Section Adapter.
Variable F : fieldType.

Definition update m r n (s : F) (B : 'M[F]_(m, r)) (A : 'M[F]_(r, n)) : 'M[F]_(m, n) := s *: (B *m A).
Definition side_path m r n p (W : 'M[F]_(m, n)) (s : F) (B : 'M[F]_(m, r)) (A : 'M[F]_(r, n))
    (x : 'M[F]_(n, p)) : 'M[F]_(m, p) := W *m x + s *: (B *m (A *m x)).

(* adapter_algebra [H]: B = 0 gives the base model exactly, merged or not. *)
Theorem adapter_zero m r n p (W : 'M[F]_(m, n)) s (A : 'M[F]_(r, n)) (x : 'M[F]_(n, p)) :
  side_path W s 0 A x = W *m x /\ W + update s 0 A = W.
Proof. by split; rewrite /side_path /update !mul0mx scaler0 addr0. Qed.

(* adapter_algebra [H]: merging into W gives the same outputs as the side path. *)
Theorem adapter_merge m r n p (W : 'M[F]_(m, n)) s (B : 'M[F]_(m, r)) (A : 'M[F]_(r, n))
    (x : 'M[F]_(n, p)) :
  (W + update s B A) *m x = side_path W s B A x.
Proof. by rewrite mulmxDl -scalemxAl -mulmxA. Qed.

(* adapter_algebra (standard): with a shared matrix the merged model differs from the side path by what
   the adapter does in the head. *)
Definition tied_side v d p (E : 'M[F]_(v, d)) (U : 'M[F]_(d, v)) (x : 'M[F]_(v, p)) :=
  E *m ((E^T + U) *m x).
Definition tied_merged v d p (E : 'M[F]_(v, d)) (U : 'M[F]_(d, v)) (x : 'M[F]_(v, p)) :=
  (E + U^T) *m ((E + U^T)^T *m x).
Theorem adapter_tied v d p (E : 'M[F]_(v, d)) (U : 'M[F]_(d, v)) (x : 'M[F]_(v, p)) :
  tied_merged E U x = tied_side E U x + U^T *m ((E^T + U) *m x).
Proof.
rewrite /tied_merged; have -> : (E + U^T)^T = E^T + U by rewrite linearD /= trmxK.
by rewrite mulmxDl.
Qed.

(* adapter_algebra [H]: (B, A, s) and (B T, T^-1 A, s) are the same adapter. *)
Theorem adapter_gauge m r n s (B : 'M[F]_(m, r)) (A : 'M[F]_(r, n)) (T : 'M[F]_r) :
  T \in unitmx -> update s (B *m T) (invmx T *m A) = update s B A.
Proof. by move=> T_unit; rewrite /update -mulmxA (mulmxA T) mulmxV ?mul1mx. Qed.

(* Nothing else is: of full rank, two adapters with the same update differ by one such T (standard);
   so r^2 of the r (m + n) parameters are redundant. *)
Theorem adapter_gauge_unique m r n s (B B1 : 'M[F]_(m, r)) (A A1 : 'M[F]_(r, n)) :
    s != 0 -> \rank B = r -> \rank A = r -> update s B1 A1 = update s B A ->
  exists! T : 'M[F]_r, [/\ T \in unitmx, B1 = B *m T & A1 = invmx T *m A].
Proof.
move=> s_neq0 rankB rankA /(scalerI s_neq0) sameBA.
have fullB : row_full B by apply/eqP.
have freeA : row_free A by apply/eqP.
have [Bi BiB] := row_fullP fullB; have [Ai AAi] := row_freeP freeA.
have rankBA : \rank (B *m A) = r by rewrite mxrankMfree.
have freeA1 : row_free A1.
  by rewrite /row_free eqn_leq rank_leq_row /= -{1}rankBA -sameBA mxrankM_maxr.
have [Ai1 A1Ai1] := row_freeP freeA1.
pose T := A *m Ai1.
have defB1 : B1 = B *m T by rewrite -[LHS]mulmx1 -A1Ai1 mulmxA sameBA mulmxA.
have defA : A = T *m A1.
  by rewrite -[LHS]mul1mx -BiB -mulmxA -sameBA defB1 !mulmxA BiB mul1mx.
have [T_unit _] : T \in unitmx /\ A1 *m Ai \in unitmx.
  by apply: mulmx1_unit; rewrite mulmxA -defA.
exists T; split.
  by split=> //; rewrite defA mulmxA mulVmx ?mul1mx.
by move=> T1 [T1_unit defB1' _]; rewrite -[LHS]mul1mx -BiB -mulmxA -defB1 defB1' mulmxA BiB mul1mx.
Qed.

(* adapter_algebra: the updates of an adapter of size r are the matrices of rank <= r (standard). *)
Theorem adapter_rank_le m r n s (B : 'M[F]_(m, r)) (A : 'M[F]_(r, n)) : (\rank (update s B A) <= r)%N.
Proof. by rewrite (leq_trans (mxrank_scale _ _)) // mulmx_max_rank. Qed.

Theorem adapter_rankP m r n s (U : 'M[F]_(m, n)) : s != 0 ->
  (\rank U <= r)%N <-> exists B : 'M[F]_(m, r), exists A : 'M[F]_(r, n), U = update s B A.
Proof.
move=> s_neq0; split=> [rankU | [B [A ->]]]; last exact: adapter_rank_le.
exists (s^-1 *: (col_ebase U *m pid_mx (\rank U))), (pid_mx (\rank U) *m row_ebase U).
rewrite /update -scalemxAl scalerA mulfV // scale1r -mulmxA (mulmxA (pid_mx _)).
by rewrite mul_pid_mx minnn (minn_idPr rankU) mulmxA mulmx_ebase.
Qed.

(* adapter_algebra: a target of rank > r is out of reach at size r, whatever the factors. *)
Theorem adapter_out_of_reach m r n s (E : 'M[F]_(m, n)) : (r < \rank E)%N ->
  forall (B : 'M[F]_(m, r)) (A : 'M[F]_(r, n)), update s B A != E.
Proof.
move=> r_lt B A; apply: contraTneq r_lt => <-.
by rewrite -leqNgt adapter_rank_le.
Qed.

End Adapter.

Section Dimension.
Variable F : fieldType.

(* The rank through an invertible leading block (standard: the Schur complement). *)
Lemma mxrank_schur r m n (M11 : 'M[F]_r) (M12 : 'M_(r, n)) (M21 : 'M_(m, r)) (M22 : 'M_(m, n)) :
    M11 \in unitmx ->
  \rank (block_mx M11 M12 M21 M22) = (r + \rank (M22 - M21 *m invmx M11 *m M12)%R)%N.
Proof.
move=> M11_unit.
pose L := block_mx 1%:M 0 (M21 *m invmx M11) 1%:M : 'M[F]_(r + m).
pose Q := block_mx 1%:M (invmx M11 *m M12) 0 1%:M : 'M[F]_(r + n).
have L_unit : L \in unitmx by rewrite unitmxE det_lblock !det1 mulr1 unitr1.
have Q_unit : Q \in unitmx by rewrite unitmxE det_ublock !det1 mulr1 unitr1.
have -> : block_mx M11 M12 M21 M22
    = L *m block_mx M11 0 0 (M22 - M21 *m invmx M11 *m M12)%R *m Q.
  rewrite !mulmx_block !mul1mx !mulmx1 !mul0mx !mulmx0 !addr0 !add0r.
  by rewrite -(mulmxA M21) mulVmx // mulmx1 (mulmxA M11) mulmxV // mul1mx mulmxA addrC subrK.
rewrite mxrankMfree ?row_free_unit // (eqmxMfull _ _) ?row_full_unit //.
by rewrite rank_diag_block_mx mxrank_unit.
Qed.

(* adapter_algebra: given an invertible leading r x r block, rank <= r (and then = r) is the one
   equation M22 = M21 M11^-1 M12 (standard). *)
Theorem adapter_dimension r m n (M11 : 'M[F]_r) (M12 : 'M_(r, n)) (M21 : 'M_(m, r)) (M22 : 'M_(m, n)) :
    M11 \in unitmx ->
  let M := block_mx M11 M12 M21 M22 in
  ((\rank M <= r)%N <-> M22 = M21 *m invmx M11 *m M12) /\
  (\rank M = r <-> M22 = M21 *m invmx M11 *m M12).
Proof.
move=> M11_unit /=; rewrite mxrank_schur //.
have zero : (\rank (M22 - M21 *m invmx M11 *m M12)%R == 0)%N = (M22 == M21 *m invmx M11 *m M12).
  by rewrite mxrank_eq0 subr_eq0.
split; split=> [rank_r | /eqP]; try by rewrite -zero => /eqP ->; rewrite addn0.
- by apply/eqP; rewrite -zero -leqn0 -(leq_add2l r) addn0.
by apply/eqP; rewrite -zero -(eqn_add2l r) addn0 rank_r.
Qed.

(* The chart: r^2 + r n + m r free entries, M11 invertible, give each such matrix exactly once. *)
Definition chart r m n (M11 : 'M[F]_r) (M12 : 'M_(r, n)) (M21 : 'M_(m, r)) : 'M_(r + m, r + n) :=
  block_mx M11 M12 M21 (M21 *m invmx M11 *m M12).

Theorem adapter_chart r m n :
  [/\ forall (M11 : 'M[F]_r) (M12 : 'M_(r, n)) (M21 : 'M_(m, r)), M11 \in unitmx ->
        [/\ \rank (chart M11 M12 M21) = r, ulsubmx (chart M11 M12 M21) = M11,
            ursubmx (chart M11 M12 M21) = M12 & dlsubmx (chart M11 M12 M21) = M21],
      forall M : 'M[F]_(r + m, r + n), ulsubmx M \in unitmx -> \rank M = r ->
        M = chart (ulsubmx M) (ursubmx M) (dlsubmx M)
    & (r * r + r * n + m * r = r * ((r + m) + (r + n) - r))%N].
Proof.
split=> [M11 M12 M21 M11_unit | M M11_unit rankM |].
- rewrite /chart block_mxKul block_mxKur block_mxKdl; split=> //.
  exact: (adapter_dimension M12 M21 _ M11_unit).2.2.
- rewrite -{1}[M]submxK /chart; congr block_mx.
  by apply: (adapter_dimension _ _ _ M11_unit).2.1; rewrite submxK.
by rewrite -(addnA r m) addKn !mulnDr [(m * r)%N]mulnC addnC.
Qed.

(* adapter_algebra: the r (m + n) parameters are that dimension (for r <= min(m, n)) and the r^2 of the gauge. *)
Theorem adapter_parameter_count r m n : (r <= m + n)%N -> (r * (m + n) = r * (m + n - r) + r * r)%N.
Proof. by move=> le_r; rewrite -mulnDr subnK. Qed.

(* adapter_algebra, "a generic target is out of reach": from any target E, along the line E + t I_(r+1),
   at most r + 1 values of t are within reach of an adapter of size r < min(m, n) (ours in this form). *)
Theorem adapter_generic r m n (E : 'M[F]_(r.+1 + m, r.+1 + n)) (ts : seq F) :
    uniq ts -> (forall t, t \in ts -> (\rank (E + t *: pid_mx r.+1)%R <= r)%N) ->
  (size ts <= r.+1)%N.
Proof.
move=> uniq_ts within; pose p := char_poly (- ulsubmx E).
have p_neq0 : p != 0 by rewrite monic_neq0 ?char_poly_monic.
have roots : all (root p) ts.
  apply/allP => t ts_t; rewrite -eigenvalue_root_char /eigenvalue /eigenspace kermx_eq0.
  have -> : - ulsubmx E - t%:M = - ulsubmx (E + t *: pid_mx r.+1).
    rewrite pid_mx_block scale_block_mx -[E]submxK add_block_mx !block_mxKul.
    by rewrite scalemx1 opprD.
  have sub_rank (M : 'M[F]_(r.+1 + m, r.+1 + n)) : (\rank (ulsubmx M) <= \rank M)%N.
    have -> : ulsubmx M = row_mx 1%:M 0 *m M *m col_mx 1%:M 0.
      rewrite -{2}[M]submxK mul_row_block mul_row_col !mul1mx !mul0mx !mulmx0 !addr0.
      by rewrite mulmx1.
    by rewrite (leq_trans (mxrankM_maxl _ _)) ?mxrankM_maxr.
  rewrite /row_free mxrank_opp neq_ltn ltnS.
  by rewrite (leq_trans (sub_rank _)) ?within.
by rewrite -ltnS -(size_char_poly (- ulsubmx E)) max_poly_roots.
Qed.

End Dimension.

(* ---- the first step of training, G the gradient at the frozen weight ---- *)

Section FirstStep.
Variables (R : realFieldType) (m n r : nat) (G : 'M[R]_(m, n)).
Implicit Types (s eta : R) (B : 'M[R]_(m, r)) (A : 'M[R]_(r, n)).

(* By how much the loss changes along U, to first order. *)
Definition slope m n (G U : 'M[R]_(m, n)) : R := \tr (G^T *m U).

(* The gradients of the two factors, by the chain rule. *)
Definition grad_B s A : 'M[R]_(m, r) := s *: (G *m A^T).
Definition grad_A s B : 'M[R]_(r, n) := s *: (B^T *m G).

(* Claim first_step_size: these are the gradients. Standard. *)
Theorem first_step_gradient s B A dB dA :
  slope G (update s dB A) = slope (grad_B s A) dB /\ slope G (update s B dA) = slope (grad_A s B) dA.
Proof.
rewrite /slope /update /grad_B /grad_A.
have trZ (p q : nat) (M : 'M[R]_(p, q)) : (s *: M)^T = s *: M^T by apply/matrixP => i j; rewrite !mxE.
rewrite !trZ !trmx_mul !trmxK -!scalemxAl -!scalemxAr !mxtraceZ.
by split; congr (_ * _); rewrite !mulmxA // mxtrace_mulC mulmxA.
Qed.

(* Claim first_step_size, gradient descent: with B = 0 the first update lies in the rows of A, with A = 0 in the
   columns of B, and is what the gradient leaves there. Standard. *)
Theorem first_step_size s eta B A :
  update s (0 - eta *: grad_B s A) (A - eta *: grad_A s (0 : 'M_(m, r))) = - (eta * s ^+ 2) *: (G *m A^T *m A) /\
  update s (B - eta *: grad_B s (0 : 'M_(r, n))) (0 - eta *: grad_A s B) = - (eta * s ^+ 2) *: (B *m B^T *m G).
Proof.
rewrite /update /grad_B /grad_A !sub0r !trmx0 mul0mx mulmx0 !scaler0 !subr0; split.
  rewrite mulNmx scalerN -!scalemxAl !scalerA scaleNr; congr (- (_ *: _)).
  by rewrite expr2 !mulrA [s * eta]mulrC.
rewrite mulmxN scalerN -!scalemxAr !scalerA mulmxA scaleNr; congr (- (_ *: _)).
by rewrite expr2 !mulrA [s * eta]mulrC.
Qed.

(* Claim first_step_size, which factor is zero does not matter: the two cases are transposes. Standard. *)
Theorem first_step_transposed B : (B *m B^T *m G)^T = G^T *m (B^T)^T *m B^T.
Proof. by rewrite !trmx_mul trmxK mulmxA. Qed.

End FirstStep.

Section FirstStepSize.
Variables (R : realFieldType) (m n r : nat) (G : 'M[R]_(m, n)) (s eta : R).

Lemma frob2_orthogonal p (X : 'M[R]_(p, r)) (A : 'M[R]_(r, n)) c : A *m A^T = c%:M ->
  frob2 (X *m A) = c * frob2 X.
Proof. by move=> AA; rewrite !frob2_mxtrace trmx_mul mulmxA -(mulmxA X) AA mul_mx_scalar -scalemxAl mxtraceZ. Qed.

(* Claim first_step_size, how far the loss falls, to first order, and how large the update is where the rows of
   A are orthogonal and of one length. Ours. *)
Theorem first_step_descent (A : 'M[R]_(r, n)) (step := - (eta * s ^+ 2) *: (G *m A^T *m A)) :
  slope G step = - (eta * s ^+ 2 * frob2 (G *m A^T)) /\
  forall c, A *m A^T = c%:M -> frob2 step = eta ^+ 2 * s ^+ 4 * c * frob2 (G *m A^T).
Proof.
split=> [|c AA].
  rewrite /slope /step -scalemxAr mxtraceZ mulNr; congr (- (_ * _)).
  by rewrite frob2_mxtrace mxtrace_mulC trmx_mul trmxK mulmxA.
by rewrite frob2Z sqrrN exprMn -exprM (frob2_orthogonal _ AA) !mulrA.
Qed.

(* Claim first_step_size, the mean over random factors whose rows have second moments sigma2. Ours. *)
Theorem first_step_mean (Omega : finType) (mu : Omega -> R) (A : Omega -> 'M[R]_(r, n)) (sigma2 : R) :
  (forall k i j, \sum_o mu o * (A o k i * A o k j) = sigma2 *+ (i == j)) ->
  \sum_o mu o *: (- (eta * s ^+ 2) *: (G *m (A o)^T *m A o)) = - (eta * (s ^+ 2 * r%:R) * sigma2) *: G /\
  \sum_o mu o * frob2 (G *m (A o)^T) = r%:R * sigma2 * frob2 G.
Proof.
move=> moments; have gram : \sum_o mu o *: ((A o)^T *m A o) = (r%:R * sigma2)%:M.
  apply/matrixP => i j; rewrite summxE mxE.
  transitivity (\sum_o \sum_k mu o * (A o k i * A o k j)).
    by apply: eq_bigr => o _; rewrite !mxE mulr_sumr; apply: eq_bigr => k _; rewrite mxE.
  rewrite exchange_big (eq_bigr _ (fun k _ => moments k i j)) sumr_const card_ord.
  by rewrite -mulrnAr mulr_natl mulrnAC.
split.
  transitivity (- (eta * s ^+ 2) *: (G *m \sum_o mu o *: ((A o)^T *m A o))).
    rewrite mulmx_sumr scaler_sumr; apply: eq_bigr => o _.
    by rewrite -scalemxAr !scalerA mulmxA mulrC.
  by rewrite gram mul_mx_scalar scalerA mulNr !mulrA.
transitivity (\tr (G *m (\sum_o mu o *: ((A o)^T *m A o)) *m G^T)).
  rewrite mulmx_sumr mulmx_suml raddf_sum; apply: eq_bigr => o _ /=.
  by rewrite -scalemxAr -scalemxAl mxtraceZ frob2_mxtrace trmx_mul trmxK !mulmxA.
by rewrite gram mul_mx_scalar -scalemxAl mxtraceZ -frob2_mxtrace.
Qed.

(* Adam's first step is the sign of the gradient, where that is not zero. *)
Definition sign_mx m n (M : 'M[R]_(m, n)) : 'M[R]_(m, n) := map_mx Num.sg M.

(* Claim first_step_size, Adam: its size where the rows of A are orthogonal, and how far the loss falls. Ours. *)
Theorem first_step_adam (A : 'M[R]_(r, n)) (step := update s (0 - eta *: sign_mx (grad_B G s A)) A) : 0 < s ->
  slope G step = - (eta * s * \sum_i \sum_k `|(G *m A^T) i k|) /\
  forall c, A *m A^T = c%:M -> (forall i k, (G *m A^T) i k != 0) ->
    frob2 step = eta ^+ 2 * s ^+ 2 * c * (m * r)%:R.
Proof.
move=> s0; have signE : sign_mx (grad_B G s A) = sign_mx (G *m A^T).
  by apply/matrixP => i k; rewrite !mxE sgrM gtr0_sg // mul1r.
have stepE : step = - (eta * s) *: (sign_mx (G *m A^T) *m A).
  by rewrite /step /update signE sub0r mulNmx scalerN -scalemxAl scalerA mulrC scaleNr.
split=> [|c AA some].
  rewrite stepE /slope -scalemxAr mxtraceZ mulNr; congr (- (_ * _)).
  rewrite mulmxA mxtrace_mulC mulmxA -[A *m G^T]trmxK trmx_mul trmxK.
  rewrite /mxtrace exchange_big; apply: eq_bigr => k _; rewrite mxE; apply: eq_bigr => i _.
  by rewrite [_^T _ _]mxE [sign_mx _ _ _]mxE normrEsg mulrC.
rewrite stepE frob2Z sqrrN exprMn (frob2_orthogonal _ AA) !mulrA; congr (_ * _).
rewrite /frob2 (eq_bigr (fun=> r%:R)) => [|i _]; first by rewrite sumr_const card_ord -[_ *+ m]mulr_natl natrM.
rewrite (eq_bigr (fun=> 1)) => [|k _]; first by rewrite sumr_const card_ord.
by rewrite mxE sqr_sg some.
Qed.

(* Claim first_step_size, Adam in the mean: where every row of A has the same law, the loss falls r times as far as
   for one row. Standard. *)
Theorem first_step_adam_mean (Omega : finType) (mu : Omega -> R) (A : Omega -> 'M[R]_(r, n)) (level : R) :
  (forall k, \sum_o mu o * (\sum_i `|(G *m (A o)^T) i k|) = level) ->
  \sum_o mu o * (\sum_i \sum_k `|(G *m (A o)^T) i k|) = r%:R * level.
Proof.
move=> same; transitivity (\sum_k \sum_o mu o * (\sum_i `|(G *m (A o)^T) i k|)).
  by rewrite exchange_big; apply: eq_bigr => o _; rewrite exchange_big mulr_sumr.
by rewrite (eq_bigr _ (fun k _ => same k)) sumr_const card_ord mulr_natl.
Qed.

(* Claim first_step_size, the conventions: alpha / r, and alpha over a root of r. Standard. *)
Theorem first_step_conventions (alpha root : R) : (0 < r)%N -> root ^+ 2 = r%:R ->
  [/\ (alpha / r%:R) ^+ 2 * r%:R = alpha ^+ 2 / r%:R, alpha / r%:R * r%:R = alpha,
      (alpha / root) ^+ 2 * r%:R = alpha ^+ 2 & alpha / root * r%:R = alpha * root].
Proof.
move=> r0 rootE; have r_neq0 : r%:R != 0 :> R by rewrite pnatr_eq0 -lt0n.
have root_neq0 : root != 0 by rewrite -sqrf_eq0 rootE.
split.
- by rewrite expr_div_n [r%:R ^+ 2]expr2 invfM mulrA divfK.
- by rewrite divfK.
- by rewrite expr_div_n rootE divfK.
by rewrite -rootE expr2 mulrA divfK.
Qed.

End FirstStepSize.

Section Instances.

Lemma unitmx_zero : ((0 : 'M[rat]_1) \in unitmx) = false.
Proof. by rewrite -row_free_unit /row_free mxrank0. Qed.

(* A rank-one adapter on a 2 x 3 matrix, merged and beside it, on one token. *)
Example adapter_merge_small :
  let W : 'M[rat]_(2, 3) := \matrix_(i, j) (i + 2 * j)%:R in
  let B : 'M[rat]_(2, 1) := \matrix_(i, j) (i.+1)%:R in
  let A : 'M[rat]_(1, 3) := \matrix_(i, j) (j.+1)%:R in
  let x : 'cV[rat]_3 := const_mx 1 in
  (W + update 2%:R B A) *m x = \matrix_(i, j) (if i == 0 then 18%:R else 33%:R)
    /\ side_path W 2%:R B A x = \matrix_(i, j) (if i == 0 then 18%:R else 33%:R).
Proof.
move=> W B A x; suff sideE : side_path W 2%:R B A x = \matrix_(i, j) (if i == 0 then 18%:R else 33%:R).
  by rewrite adapter_merge.
apply/matrixP => i j; rewrite /side_path !mxE !big_ord_recl big_ord0 /= !mxE !big_ord_recl big_ord0 /=.
rewrite big_ord0 !mxE /=.
by case: i => [[|[|i]] lt_i].
Qed.

(* Tied embeddings: on the 1 x 1 model the side path gives 2, the merged one 4. *)
Example adapter_tied_differs :
  let E : 'M[rat]_1 := 1%:M in let U : 'M[rat]_1 := 1%:M in let x : 'cV[rat]_1 := 1%:M in
  tied_side E U x = 2%:R%:M /\ tied_merged E U x = 4%:R%:M.
Proof.
move=> E U x; rewrite adapter_tied /tied_side /E /U /x trmx1 !mul1mx mulmx1.
by rewrite -!raddfD.
Qed.

(* T must be invertible: T = 0 destroys the adapter. *)
Example adapter_gauge_singular :
  let T : 'M[rat]_1 := 0 in update 1 (1%:M *m T) (invmx T *m 1%:M) != update 1 1%:M 1%:M.
Proof.
rewrite /update mulmx0 !mul0mx scaler0 mulmx1 scale1r eq_sym.
exact: matrix_nonzero1.
Qed.

(* Full rank is needed for uniqueness: B = 0 hides A altogether. *)
Example adapter_gauge_hidden :
  let A : 'M[rat]_1 := 1%:M in let A1 : 'M[rat]_1 := 0 in
  update 1 (0 : 'M_1) A1 = update 1 (0 : 'M_1) A /\ forall T : 'M[rat]_1, T \in unitmx -> A1 != invmx T *m A.
Proof.
split=> [|T T_unit]; first by rewrite /update !mul0mx.
rewrite mulmx1; apply: contraTneq T_unit => Ti0.
by rewrite -unitmx_inv -Ti0 unitmx_zero.
Qed.

(* s = 0 reaches the zero update only, however large r is. *)
Example adapter_rank_scale_zero (B A : 'M[rat]_1) : update 0 B A != 1%:M.
Proof. by rewrite /update scale0r eq_sym; exact: matrix_nonzero1. Qed.

(* The leading block must be invertible: here M22 = M21 M11^-1 M12 and the rank is 2, not 1. *)
Example adapter_dimension_singular :
  let M11 : 'M[rat]_1 := 0 in let M12 : 'M[rat]_1 := 1%:M in let M21 : 'M[rat]_1 := 1%:M in
  (0 : 'M_1) = M21 *m invmx M11 *m M12 /\ \rank (block_mx M11 M12 M21 0) = 2%N.
Proof.
have inv0 : invmx (0 : 'M[rat]_1) = 0 by exact: invmx_out (negbT unitmx_zero).
split; first by rewrite inv0 mulmx0 mul0mx.
pose S : 'M[rat]_(1 + 1) := block_mx 0 1%:M 1%:M 0.
suff [S_unit _] : S \in unitmx /\ S \in unitmx by rewrite -[LHS]/(\rank S) mxrank_unit.
apply: mulmx1_unit.
by rewrite mulmx_block !mul0mx !mulmx0 !mul1mx !addr0 !add0r -scalar_mx_block.
Qed.

(* r(m + n - r) against m n: rank-one updates of a 2 x 2 matrix, 3 of 4 dimensions, and the identity is
   out of reach. *)
Example adapter_identity_out_of_reach (B : 'M[rat]_(2, 1)) (A : 'M[rat]_(1, 2)) :
  (1 * (2 + 2 - 1) = 3)%N /\ update 1 B A != 1%:M.
Proof. by split=> //; apply: adapter_out_of_reach; rewrite mxrank1. Qed.

End Instances.
