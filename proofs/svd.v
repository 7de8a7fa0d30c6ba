(* The singular value decomposition over a real closed field.

   orthonormal Q   == the ROWS of Q are orthonormal
   sv_sum P s Q    == P^T *m diag_mx s *m Q, the sum of s_i p_i^T q_i over the rows
                      p_i of P and q_i of Q: a singular value decomposition of it if
                      P and Q are orthonormal (signs of s are free)
   sv_sorted s     == the squares of the entries of s do not increase

   singular_values E, left_sv E, right_sv E
                   == s, P and Q of a decomposition of E with minn m n terms, s >= 0

   The way: by induction a symmetric matrix of size n + 1 is diagonal but for one row and
   one column; its largest eigenvalue is a root of one polynomial, which the intermediate
   value theorem gives (no complex numbers), and its eigenvector can be written down. A
   reflection takes the first axis to it, and what is left is smaller. The decomposition
   peels off one pair of singular vectors after the other in the same way. *)
From mathcomp Require Import all_ssreflect all_fingroup all_algebra.
From LoraLimits Require Import lowrank.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

Section Orthonormal.
Variable R : realFieldType.

Definition orthonormal k n (Q : 'M[R]_(k, n)) : bool := Q *m Q^T == 1%:M.
Definition sv_sum k m n (P : 'M[R]_(k, m)) (s : 'rV[R]_k) (Q : 'M[R]_(k, n)) : 'M[R]_(m, n) :=
  P^T *m diag_mx s *m Q.
Definition sv_sorted k (s : 'rV[R]_k) : Prop :=
  forall i j : 'I_k, (i <= j)%N -> s 0 j ^+ 2 <= s 0 i ^+ 2.

Lemma orthonormal_mul k n p (Q : 'M[R]_(k, n)) (O : 'M[R]_(n, p)) :
  orthonormal Q -> orthonormal O -> orthonormal (Q *m O).
Proof. by move=> /eqP oQ /eqP oO; apply/eqP; rewrite trmx_mul mulmxA -(mulmxA Q) oO mulmx1. Qed.

Lemma orthonormal_block k n (Q : 'M[R]_(k, n)) : orthonormal Q ->
  orthonormal (block_mx 1%:M 0 0 Q : 'M_(1 + k, 1 + n)).
Proof.
move=> /eqP oQ; apply/eqP; rewrite tr_block_mx mulmx_block !trmx0 trmx1 oQ.
by rewrite !mul0mx !mulmx0 mulmx1 !addr0 add0r -scalar_mx_block.
Qed.

(* A square matrix with orthonormal rows has orthonormal columns. *)
Lemma orthonormal_tr n (Q : 'M[R]_n) : orthonormal Q -> Q^T *m Q = 1%:M.
Proof. by move=> /eqP oQ; apply: mulmx1C. Qed.

Lemma trmx11 (A : 'M[R]_1) : A^T = A.
Proof. by apply/matrixP => i j; rewrite mxE !ord1. Qed.

Lemma first_axis n (Q : 'M[R]_(1 + n)) : orthonormal Q ->
  orthonormal (usubmx Q) /\ usubmx Q *m Q^T = row_mx 1%:M 0.
Proof.
move=> /eqP oQ; split; last by rewrite mul_usub_mx oQ scalar_mx_block col_mxKu.
have := congr1 ulsubmx oQ; rewrite -{1 2}[Q]vsubmxK tr_col_mx mul_col_row scalar_mx_block !block_mxKul.
by move/eqP.
Qed.

Lemma sv_sum_tr k m n (P : 'M[R]_(k, m)) (s : 'rV[R]_k) (Q : 'M[R]_(k, n)) :
  (sv_sum P s Q)^T = sv_sum Q s P.
Proof. by rewrite /sv_sum !trmx_mul trmxK tr_diag_mx mulmxA. Qed.

(* The order of the terms is free, and there is one in which their squares do not increase. *)
Lemma orthonormal_perm k n (p : 'S_k) (Q : 'M[R]_(k, n)) : orthonormal Q -> orthonormal (row_perm p Q).
Proof.
move=> /eqP/matrixP oQ; apply/eqP/matrixP => i j; have := oQ (p i) (p j).
rewrite !mxE (inj_eq perm_inj) => <-; by apply: eq_bigr => l _; rewrite !mxE.
Qed.

Lemma sv_sum_perm k m n (p : 'S_k) (P : 'M[R]_(k, m)) (s : 'rV[R]_k) (Q : 'M[R]_(k, n)) :
  sv_sum (row_perm p P) (col_perm p s) (row_perm p Q) = sv_sum P s Q.
Proof.
rewrite /sv_sum !mul_mx_diag; apply/matrixP => i j; rewrite !mxE [RHS](reindex_inj (@perm_inj _ p)).
by apply: eq_bigr => l _; rewrite !mxE.
Qed.

Lemma sv_sorting k (s : 'rV[R]_k) : exists p : 'S_k, sv_sorted (col_perm p s).
Proof.
pose geq2 (a b : R) := b ^+ 2 <= a ^+ 2; pose t := [tuple s 0 i | i < k].
have /tuple_permP[p sortE] : perm_eq (sort geq2 t) t by rewrite perm_sort.
have sorted_t : sorted geq2 (sort geq2 t) by apply: sort_sorted => a b; apply: le_total.
have trans : transitive geq2 by move=> b a c le_ba /le_trans; apply.
exists p => i j le_ij; rewrite !mxE.
have nthE l : nth 0 (sort geq2 t) (l : 'I_k) = s 0 (p l).
  by rewrite sortE -tnth_nth !tnth_mktuple.
have refl : reflexive geq2 by move=> a; apply: lexx.
by rewrite -!nthE; apply: (sorted_leq_nth trans refl) => //; rewrite inE size_sort size_tuple.
Qed.

(* One term of a decomposition: E in bases that begin with a pair of singular vectors. *)
Lemma sv_sum_cons m n k (E : 'M[R]_(1 + m, 1 + n)) (s1 : R) (P1 : 'M[R]_(1 + m)) (Q1 : 'M[R]_(1 + n))
    (P : 'M[R]_(k, m)) (s : 'rV[R]_k) (Q : 'M[R]_(k, n)) :
  orthonormal P1 -> orthonormal Q1 -> usubmx P1 *m E = s1 *: usubmx Q1 ->
  usubmx Q1 *m E^T = s1 *: usubmx P1 -> drsubmx (P1 *m E *m Q1^T) = sv_sum P s Q ->
  E = sv_sum (block_mx 1%:M 0 0 P *m P1) (row_mx s1%:M s) (block_mx 1%:M 0 0 Q *m Q1).
Proof.
move=> oP oQ uE Ev defE'; set D := P1 *m E *m Q1^T in defE'.
have first_row p q (O : 'M[R]_(1 + p)) (O' : 'M[R]_(1 + q)) (X : 'M[R]_(1 + p, 1 + q)) :
    orthonormal O' -> usubmx O *m X = s1 *: usubmx O' -> usubmx (O *m X *m O'^T) = row_mx s1%:M 0.
  move=> /first_axis[_ uO'] eqX; rewrite -!mul_usub_mx eqX -scalemxAl uO'.
  by rewrite scale_row_mx scaler0 scale_scalar_mx mulr1.
have defD : D = block_mx s1%:M 0 0 (sv_sum P s Q).
  rewrite -defE' -[LHS]submxK; congr block_mx.
  - by rewrite /ulsubmx first_row // row_mxKl.
  - by rewrite /ursubmx first_row // row_mxKr.
  - by rewrite -[LHS]trmxK trmx_dlsub !trmx_mul trmxK mulmxA /ursubmx first_row // row_mxKr trmx0.
have -> : E = P1^T *m D *m Q1 by rewrite !mulmxA orthonormal_tr // mul1mx -mulmxA orthonormal_tr // mulmx1.
rewrite defD /sv_sum !trmx_mul -!mulmxA; congr (_ *m _); rewrite !mulmxA; congr (_ *m _).
rewrite diag_mx_row tr_block_mx !mulmx_block !trmx0 trmx1 !mul0mx !mulmx0 !mulmx1 !mul1mx !addr0 !add0r mul0mx.
by congr block_mx; apply/matrixP => i j; rewrite !mxE !ord1 !mulr1n.
Qed.

(* A reflection that takes the first axis to u. *)
Lemma reflection n (u : 'rV[R]_(1 + n)) : orthonormal u ->
  exists Q : 'M[R]_(1 + n), orthonormal Q /\ usubmx Q = u.
Proof.
move=> /eqP uu; pose e : 'rV[R]_(1 + n) := row_mx 1%:M 0.
have ee : e *m e^T = 1%:M by rewrite tr_row_mx mul_row_col trmx1 mulmx1 trmx0 mulmx0 addr0.
suffices [Q [oQ eQ]] : exists Q : 'M[R]_(1 + n), orthonormal Q /\ e *m Q = u.
  by exists Q; split=> //; rewrite -eQ -{2}[Q]vsubmxK mul_row_col mul1mx mul0mx addr0.
have [eq_eu | neq_eu] := eqVneq e u.
  by exists 1%:M; rewrite /orthonormal trmx1 !mulmx1.
pose v := e - u; pose c := frob2 v.
have c0 : c != 0 by rewrite frob2_eq0 subr_eq0.
have vv : v *m v^T = c%:M by rewrite [LHS]mx11_scalar /c frob2_mxtrace /mxtrace big_ord1.
have ev : e *m v^T = (c / 2%:R)%:M.
  have ue : u *m e^T = e *m u^T by rewrite -[RHS]trmx11 trmx_mul trmxK.
  have := vv; rewrite /v linearB /= mulmxBl !mulmxBr ee uu ue opprB addrACA -mulr2n => two.
  apply: (scalerI (_ : 2%:R != 0)); first by rewrite pnatr_eq0.
  by rewrite scale_scalar_mx mulrC divfK ?pnatr_eq0 // -two -opprD -mulr2n scaler_nat mulrnBl.
have defu : e - v = u by rewrite opprB addrC subrK.
clearbody v c; pose w := (2%:R / c) *: (v^T *m v); exists (1%:M - w); split; last first.
  rewrite mulmxBr mulmx1 -scalemxAr mulmxA ev mul_scalar_mx scalerA.
  by rewrite mulf_div [_ * c]mulrC divff ?mulf_neq0 ?pnatr_eq0 // scale1r.
have wT : w^T = w by rewrite linearZ /= trmx_mul trmxK.
have ww : w *m w = w *+ 2.
  rewrite -scalemxAr -scalemxAl -!mulmxA (mulmxA v) vv mul_scalar_mx -scalemxAr !scalerA.
  by rewrite -mulrA divfK // mulr_natr scalerMnl.
clearbody w; apply/eqP; rewrite linearB /= trmx1 wT mulmxBl mul1mx mulmxBr mulmx1 ww.
by rewrite mulr2n opprB addrK subrK.
Qed.

End Orthonormal.

Section Spectral.
Variable R : rcfType.

(* The largest eigenvalue of a diagonal matrix with a border is a root between the largest
   entry of the diagonal and a large number; its eigenvector has entries b_i / (l - mu_i). *)
Lemma bordered_eigenvector n (a : R) (b mu : 'rV[R]_n) :
  exists (l : R) (w : 'rV[R]_(1 + n)), w != 0 /\ w *m block_mx a%:M b b^T (diag_mx mu) = l *: w.
Proof.
have mulE c (y : 'rV[R]_n) : row_mx c%:M y *m block_mx a%:M b b^T (diag_mx mu) =
    row_mx (c * a + \sum_i y 0 i * b 0 i)%:M (\row_i (c * b 0 i + y 0 i * mu 0 i)).
  rewrite mul_row_block -scalar_mxM mul_scalar_mx mul_mx_diag; congr row_mx.
    apply/matrixP => i j; rewrite !ord1 !mxE !mulr1n; congr (_ + _).
    by apply: eq_bigr => k _; rewrite !mxE.
  by apply/rowP => i; rewrite !mxE.
case: n b mu mulE => [|n] b mu mulE.
  exists a, (row_mx 1%:M 0); rewrite mulE mul1r big_ord0 addr0; split.
    by rewrite row_mx_eq0 (negPf (matrix_nonzero1 _ _)).
  rewrite scale_row_mx scaler0 scale_scalar_mx mulr1; congr row_mx.
  by apply/rowP => -[].
have [k le_k] : exists k, forall i, mu 0 i <= mu 0 k.
  by have [k _ max_k] := @arg_maxP _ R _ (ord0 : 'I_n.+1) xpredT (fun i => mu 0 i) isT; exists k => i; apply: max_k.
pose others i x := \prod_(j | j != i) (x - mu 0 j).
pose f := ('X - a%:P) * \prod_i ('X - (mu 0 i)%:P) -
          \sum_i (b 0 i ^+ 2)%:P * \prod_(j | j != i) ('X - (mu 0 j)%:P).
have fE x : f.[x] = (x - a) * \prod_i (x - mu 0 i) - \sum_i b 0 i ^+ 2 * others i x.
  rewrite !hornerE horner_prod horner_sum; congr (_ * _ - _).
    by apply: eq_bigr => i _; rewrite hornerXsubC.
  apply: eq_bigr => i _; rewrite hornerM hornerC horner_prod; congr (_ * _).
  by apply: eq_bigr => j _; rewrite hornerXsubC.
have f_k : f.[mu 0 k] = - (b 0 k ^+ 2 * others k (mu 0 k)).
  rewrite fE (bigD1 k) //= subrr mul0r mulr0 sub0r (bigD1 k) //= big1 ?addr0 // => i neq_ik.
  by rewrite /others (bigD1 k) 1?eq_sym //= subrr mul0r mulr0.
have f_above x : (forall i, mu 0 i < x) ->
    f.[x] = (x - a - \sum_i b 0 i ^+ 2 / (x - mu 0 i)) * \prod_i (x - mu 0 i).
  move=> lt_x; rewrite fE [in RHS]mulrBl mulr_suml; congr (_ - _); apply: eq_bigr => i _.
  by rewrite [in RHS](bigD1 i) //= mulrA divfK // subr_eq0 gt_eqF.
pose c := mu 0 k + 1 + `|a - mu 0 k| + \sum_i b 0 i ^+ 2.
have sum_b0 : 0 <= \sum_i b 0 i ^+ 2 by apply: sumr_ge0 => i _; apply: sqr_ge0.
have le_1c i : 1 <= c - mu 0 i.
  rewrite ler_subr_addl; apply: le_trans (_ : mu 0 k + 1 <= c); first by rewrite ler_add2r le_k.
  by rewrite /c -addrA ler_addl addr_ge0.
have lt_c i : mu 0 i < c by rewrite -subr_gt0 (lt_le_trans ltr01).
have [||l /andP[le_l _] /rootP f_l] := @poly_ivt _ f (mu 0 k) c; first exact: ltW.
  rewrite f_k oppr_le0 mulr_ge0 ?sqr_ge0 ?prodr_ge0 //= => [|i _]; last by rewrite subr_ge0.
  rewrite (f_above _ lt_c) mulr_ge0 ?prodr_ge0 // => [|i _]; last by rewrite subr_ge0 ltW.
  rewrite subr_ge0 (le_trans (_ : _ <= \sum_i b 0 i ^+ 2)) //.
    by apply: ler_sum => i _; rewrite ler_pdivr_mulr ?(lt_le_trans ltr01) // ler_pemulr ?sqr_ge0.
  have -> : c - a = (1 + (`|a - mu 0 k| - (a - mu 0 k))) + \sum_i b 0 i ^+ 2.
    by rewrite /c opprB addrAC !addrA; congr (_ - _ + _); rewrite -addrA addrC.
  by rewrite ler_addr addr_ge0 // subr_ge0 ler_norm.
have [lt_kl | le_lk] := ltP (mu 0 k) l.
  have lt_l i : mu 0 i < l by apply: le_lt_trans lt_kl.
  have gap i : l - mu 0 i != 0 by rewrite subr_eq0 gt_eqF.
  have def_l : l = a + \sum_i b 0 i / (l - mu 0 i) * b 0 i.
    move/eqP: f_l; rewrite (f_above _ lt_l) mulf_eq0 prodf_seq_eq0 subr_eq0 => /orP[/eqP defS | /hasP[i _ /=]].
      rewrite -[LHS](subrK a) addrC defS; congr (_ + _).
      by apply: eq_bigr => i _; rewrite [in RHS]mulrAC.
    by rewrite (negPf (gap i)).
  exists l, (row_mx 1%:M (\row_i (b 0 i / (l - mu 0 i)))); rewrite row_mx_eq0 (negPf (matrix_nonzero1 _ _)).
  split=> //; rewrite mulE mul1r scale_row_mx scale_scalar_mx mulr1; congr row_mx.
    by rewrite [in RHS]def_l; congr (_ + _)%:M; apply: eq_bigr => i _; rewrite mxE.
  apply/rowP => i; rewrite !mxE mul1r -[X in X + _](divfK (gap i)) -mulrDr subrK.
  exact: mulrC.
have {le_l le_lk} def_l : l = mu 0 k by apply/eqP; rewrite eq_le le_lk.
(* Otherwise an axis is an eigenvector, or two axes span one. *)
have axes (v : 'rV[R]_n.+1) : v != 0 -> \sum_i v 0 i * b 0 i = 0 -> (forall i, v 0 i * mu 0 i = l * v 0 i) ->
    exists (l : R) (w : 'rV[R]_(1 + n.+1)), w != 0 /\ w *m block_mx a%:M b b^T (diag_mx mu) = l *: w.
  move=> v0 vb vmu; exists l, (row_mx 0%:M v); rewrite row_mx_eq0 negb_and v0 orbT; split=> //.
  rewrite mulE mul0r vb addr0 scale_row_mx scale_scalar_mx mulr0; congr row_mx.
  by apply/rowP => i; rewrite !mxE mul0r add0r vmu.
have sum1 (g : 'I_n.+1 -> R) j : \sum_i (delta_mx 0 j : 'rV_n.+1) 0 i * g i = g j.
  rewrite (bigD1 j) //= mxE !eqxx mul1r big1 ?addr0 // => i neq_ij.
  by rewrite mxE (negPf neq_ij) mul0r.
have [bk0 | bkN0] := eqVneq (b 0 k) 0.
  apply: (axes (delta_mx 0 k)) => [||i]; first 1 last.
  - by rewrite sum1.
  - by rewrite mxE eqxx def_l; case: eqP => [->|_]; rewrite ?mulr1 ?mul1r // mul0r mulr0.
  by apply/negP => /eqP/matrixP/(_ 0 k)/eqP; rewrite !mxE !eqxx oner_eq0.
have [j neq_jk mu_j] : exists2 j, j != k & mu 0 j = mu 0 k.
  move/eqP: f_l; rewrite def_l f_k oppr_eq0 mulf_eq0 sqrf_eq0 (negPf bkN0) /= => /prodf_eq0[j neq_jk].
  by rewrite subr_eq0 => /eqP eq_jk; exists j.
apply: (axes (b 0 j *: delta_mx 0 k - b 0 k *: delta_mx 0 j)) => [||i].
- apply/negP => /eqP/matrixP/(_ 0 j)/eqP; rewrite !mxE !eqxx (negPf neq_jk) mulr0 sub0r mulr1.
  by rewrite oppr_eq0 (negPf bkN0).
- rewrite (eq_bigr (fun i => (delta_mx 0 k : 'rV_n.+1) 0 i * (b 0 j * b 0 i) -
                             (delta_mx 0 j : 'rV_n.+1) 0 i * (b 0 k * b 0 i))) => [|i _].
    by rewrite sumrB !sum1 mulrC subrr.
  by rewrite !mxE mulrBl ![b 0 _ * _%:R]mulrC -!mulrA.
rewrite !mxE eqxx def_l /=.
have [-> | _] := eqVneq i k; first by rewrite mulrC.
have [-> | _] := eqVneq i j; first by rewrite mu_j mulrC.
by rewrite !mulr0 subrr mul0r mulr0.
Qed.

Lemma unit_row n (w : 'rV[R]_n) : w != 0 -> exists2 c : R, 0 < c & orthonormal (c *: w).
Proof.
rewrite -frob2_eq0 => w0; have pos : 0 < frob2 w by rewrite lt0r w0 frob2_ge0.
exists (Num.sqrt (frob2 w))^-1; first by rewrite invr_gt0 sqrtr_gt0.
apply/eqP; rewrite linearZ /= -scalemxAl -scalemxAr scalerA -expr2 exprVn sqr_sqrtr ?frob2_ge0 //.
rewrite [_ *m _]mx11_scalar scale_scalar_mx (_ : (w *m w^T) 0 0 = frob2 w) ?mulVf //.
by rewrite frob2_mxtrace /mxtrace big_ord1.
Qed.

(* The spectral theorem. *)
Lemma spectral n (A : 'M[R]_n) : A^T = A ->
  exists (Q : 'M[R]_n) (d : 'rV[R]_n), orthonormal Q /\ A = sv_sum Q d Q.
Proof.
elim: n A => [|n IH] A symA; first by exists 1%:M, 0; split; [apply/eqP |]; apply/matrixP => -[].
move: A symA; rewrite -[n.+1]/(1 + n)%N => A symA.
have [l [u [ou uA]]] : exists (l : R) (u : 'rV[R]_(1 + n)), orthonormal u /\ u *m A = l *: u.
  pose C : 'M[R]_n := drsubmx A.
  have [|V [mu [oV defC]]] := IH C; first by rewrite trmx_drsub symA.
  have [l [w [w0 eig_w]]] := bordered_eigenvector (ulsubmx A 0 0) (ursubmx A *m V^T) mu.
  pose B : 'M[R]_(1 + n) := block_mx 1%:M 0 0 V.
  have oB : orthonormal B by apply: orthonormal_block.
  have defA : B *m A *m B^T = block_mx (ulsubmx A 0 0)%:M (ursubmx A *m V^T) (ursubmx A *m V^T)^T (diag_mx mu).
    rewrite -{1}[A]submxK /B tr_block_mx !mulmx_block !trmx0 trmx1 !mul0mx !mulmx0 !mul1mx !mulmx1 !addr0 !add0r.
    congr block_mx; first exact: mx11_scalar.
      by rewrite trmx_mul trmxK trmx_ursub symA.
    rewrite -/C defC /sv_sum !mulmxA (eqP oV) mul1mx -mulmxA (eqP oV) mulmx1 //.
  have [|c c0 ou] := @unit_row _ (w *m B).
    by apply: contraNneq w0 => wB0; rewrite -[w]mulmx1 -(eqP oB) mulmxA wB0 mul0mx.
  exists l, (c *: (w *m B)); split=> //.
  rewrite -scalemxAl -[A]mulmx1 -(orthonormal_tr oB) !mulmxA -(mulmxA w) -(mulmxA w) defA eig_w.
  by rewrite -scalemxAl !scalerA mulrC.
have [Q [oQ defu]] := reflection ou.
have [|P [d [oP defD]]] := IH (drsubmx (Q *m A *m Q^T)).
  by rewrite trmx_drsub !trmx_mul trmxK symA mulmxA.
exists (block_mx 1%:M 0 0 P *m Q), (row_mx l%:M d); split.
  exact: orthonormal_mul (orthonormal_block oP) oQ.
by apply: sv_sum_cons; rewrite ?symA ?defu.
Qed.

Lemma svd_wide m n (E : 'M[R]_(m, n)) : (m <= n)%N ->
  exists (P : 'M[R]_m) (s : 'rV[R]_m) (Q : 'M[R]_(m, n)),
    [/\ orthonormal P, orthonormal Q, forall i, 0 <= s 0 i & E = sv_sum P s Q].
Proof.
elim: m n E => [|m IH] n E.
  by exists 1%:M, 0, E; split; [apply/eqP | apply/eqP | case |]; try apply/matrixP => -[].
case: n E => // n; rewrite ltnS -[m.+1]/(1 + m)%N -[n.+1]/(1 + n)%N => E le_mn.
have [|U [mu [oU eigU]]] := @spectral _ (E *m E^T); first by rewrite trmx_mul trmxK.
pose u := usubmx U; have [ou eU] := first_axis oU; rewrite -/u in ou eU.
have [l eig_u] : exists l, u *m (E *m E^T) = l *: u.
  exists (lsubmx mu 0 0); rewrite eigU /sv_sum !mulmxA eU -[mu]hsubmxK diag_mx_row mul_row_block.
  rewrite mul1mx !mul0mx !mulmx0 !addr0 -[U in _ *m U]vsubmxK mul_row_col mul0mx addr0 hsubmxK.
  rewrite -mul_scalar_mx; congr (_ *m _); apply/matrixP => i j; by rewrite !mxE !ord1.
have [s [v [s0 ov uE vE]]] : exists (s : R) (v : 'rV[R]_(1 + n)),
    [/\ 0 <= s, orthonormal v, u *m E = s *: v & v *m E^T = s *: u].
  have [uE0 | /unit_row[c c0 ov]] := eqVneq (u *m E) 0.
    have rankE : (\rank E <= n)%N.
      apply: leq_trans le_mn; rewrite -ltnS ltn_neqAle rank_leq_row andbT; apply/negP => freeE.
      have u0 : u = 0 by apply: (row_free_inj freeE); rewrite uE0 mul0mx.
      by move: ou; rewrite u0 /orthonormal mul0mx eq_sym (negPf (matrix_nonzero1 _ _)).
    have /rowV0Pn[w /sub_kermxP wE w0] : kermx E^T != 0.
      by rewrite kermx_eq0 /row_free mxrank_tr neq_ltn ltnS rankE.
    have [c _ ov] := unit_row w0; exists 0, (c *: w).
    by rewrite -scalemxAl wE scaler0 !scale0r.
  exists c^-1, (c *: (u *m E)); split=> //; rewrite ?invr_ge0 ?(ltW c0) ?scalerA ?mulVf ?scale1r ?gt_eqF //.
  rewrite -scalemxAl -mulmxA eig_u scalerA; congr (_ *: _).
  move: ov; rewrite /orthonormal linearZ /= trmx_mul -scalemxAl -scalemxAr !mulmxA -(mulmxA u) eig_u.
  rewrite -scalemxAl (eqP ou) !scalerA scalemx1 => /eqP/matrixP/(_ 0 0); rewrite !mxE !mulr1n => cc.
  by rewrite -[LHS](mulKf (lt0r_neq0 c0)) cc mulr1.
have [[P1 [oP1 uP1]] [Q1 [oQ1 vQ1]]] := (reflection ou, reflection ov).
have [P [t [Q [oP oQ t0 defE']]]] := IH n (drsubmx (P1 *m E *m Q1^T)) le_mn.
exists (block_mx 1%:M 0 0 P *m P1), (row_mx s%:M t), (block_mx 1%:M 0 0 Q *m Q1); split.
- exact: orthonormal_mul (orthonormal_block oP) oP1.
- exact: orthonormal_mul (orthonormal_block oQ) oQ1.
- by move=> i; rewrite mxE; case: split => j; rewrite ?ord1 ?mxE ?mulr1n.
- by apply: sv_sum_cons; rewrite ?uP1 ?vQ1.
Qed.

(* Every matrix has a singular value decomposition. *)
Lemma svd_exists m n (E : 'M[R]_(m, n)) :
  exists (P : 'M[R]_(minn m n, m)) (s : 'rV[R]_(minn m n)) (Q : 'M[R]_(minn m n, n)),
    [/\ orthonormal P, orthonormal Q, sv_sorted s, forall i, 0 <= s 0 i & E = sv_sum P s Q].
Proof.
have [P [s [Q [oP oQ s0 ->]]]] : exists (P : 'M[R]_(minn m n, m)) (s : 'rV[R]_(minn m n))
    (Q : 'M[R]_(minn m n, n)), [/\ orthonormal P, orthonormal Q, forall i, 0 <= s 0 i & E = sv_sum P s Q].
  have [le_mn | /ltnW le_nm] := leqP m n; first exact: svd_wide.
  have [P [s [Q [oP oQ s0 defE]]]] := svd_wide E^T le_nm.
  by exists Q, s, P; split=> //; rewrite -[E]trmxK defE sv_sum_tr.
have [p sorted_p] := sv_sorting s.
exists (row_perm p P), (col_perm p s), (row_perm p Q); rewrite !orthonormal_perm // sv_sum_perm.
by split=> // i; rewrite mxE.
Qed.

(* The one that the theorems speak of. Its singular values are those of any other
   (approximation.v, singular_values_unique). *)
Definition is_svd m n (E : 'M[R]_(m, n))
    (d : 'M[R]_(minn m n, m) * 'rV[R]_(minn m n) * 'M[R]_(minn m n, n)) : bool :=
  let: (P, s, Q) := d in
  [&& orthonormal P, orthonormal Q, [forall i, 0 <= s 0 i], E == sv_sum P s Q
    & [forall i : 'I_(minn m n), forall j : 'I_(minn m n), (i <= j)%N ==> (s 0 j ^+ 2 <= s 0 i ^+ 2)]].

Lemma is_svd_exists m n (E : 'M[R]_(m, n)) : exists d, is_svd E d.
Proof.
have [P [s [Q [oP oQ sorted_s s0 ->]]]] := svd_exists E; exists (P, s, Q).
apply/and5P; split=> //; first exact/forallP.
by apply/forallP => i; apply/forallP => j; apply/implyP; apply: sorted_s.
Qed.

Definition svd m n (E : 'M[R]_(m, n)) := xchoose (is_svd_exists E).
Definition left_sv m n (E : 'M[R]_(m, n)) : 'M[R]_(minn m n, m) := (svd E).1.1.
Definition singular_values m n (E : 'M[R]_(m, n)) : 'rV[R]_(minn m n) := (svd E).1.2.
Definition right_sv m n (E : 'M[R]_(m, n)) : 'M[R]_(minn m n, n) := (svd E).2.

Lemma svdP m n (E : 'M[R]_(m, n)) :
  [/\ orthonormal (left_sv E), orthonormal (right_sv E), sv_sorted (singular_values E),
      forall i, 0 <= singular_values E 0 i
    & E = sv_sum (left_sv E) (singular_values E) (right_sv E)].
Proof.
rewrite /left_sv /singular_values /right_sv; have := xchooseP (is_svd_exists E).
rewrite -/(svd E); case: svd => -[P s] Q /and5P[oP oQ /forallP s0 /eqP defE /forallP sorted_s].
by split=> // i j le_ij; move/forallP/(_ j)/implyP/(_ le_ij): (sorted_s i).
Qed.

End Spectral.
