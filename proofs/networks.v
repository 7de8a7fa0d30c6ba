(* Networks: how adapters of low rank turn a frozen net into a target net.

   relu A            == A with its negative entries put to 0
   layer d           == a pair (W, b) of a square matrix and a bias
   relu_net net x    == the output of a net whose layers come INPUT layer first, with relu
                        after every layer, the last too
   active net x      == at x no pre-activation of the net is negative
   in_box c A        == no entry of A exceeds c in absolute value
   norm_le c A       == the Frobenius (Euclidean) norm of A is at most c, in squares:
                        frob2 A <= c ^+ 2 (meant for c >= 0; no square root is needed)
   relu_run W b x l  == the state after l layers of the net (W 0, b 0), (W 1, b 1), ...
   spectral_norm M, op_le c M, singular_values M, sv_at r s: see approximation.v
   error_bound w s beta radius L
                     == \sum_(i < L) s_i X_i \prod_(i < k < L) (w_k + s_k), X_i = state_bound
                        w beta radius i (X_0 = radius, X_(i+1) = w_i X_i + beta_i)
   groups L Lbar     == the sizes of Lbar groups of L layers: L %/ Lbar each, the last group
                        takes the rest
   chain Ws          == the product of a sequence of matrices, OUTPUT layer first
                        (approximation.v): the product of layers listed input first is
                        [chain (rev Ws)]
   head, block       == one attention head, one transformer block with H heads; tokens are
                        columns; scores X^T W_k^T W_q X; sm stands for any map of score
                        matrices (a softmax of any scale and mask)
   calib B T l       == the matrix C_(l+1) of the claim: 1 for l = 0, else
                        w2 (T l.-1) *m (w2 (B l.-1))^-1

   Traps: [\rank (A - B)%R] as in approximation.v; a block here has neither a residual
   stream nor a LayerNorm, so nothing here speaks of GPT blocks. *)
From mathcomp Require Import all_ssreflect all_algebra.
From LoraLimits Require Import lowrank approximation.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

Section Relu.
Variable R : realFieldType.

Definition relu m n (A : 'M[R]_(m, n)) : 'M[R]_(m, n) := map_mx (fun a => Num.max 0 a) A.
Definition in_box c m n (A : 'M[R]_(m, n)) : Prop := forall i j, `|A i j| <= c.
Definition norm_le c m n (A : 'M[R]_(m, n)) : bool := frob2 A <= c ^+ 2.

Lemma relu_id m n (A : 'M[R]_(m, n)) : (forall i j, 0 <= A i j) -> relu A = A.
Proof. by move=> A0; apply/matrixP => i j; rewrite mxE; apply/max_idPr. Qed.

Lemma relu0 m n : relu (0 : 'M[R]_(m, n)) = 0.
Proof. by apply: relu_id => i j; rewrite mxE. Qed.

Lemma in_box_relu c m n (A : 'M[R]_(m, n)) : in_box c A -> in_box c (relu A).
Proof.
move=> boxA i j; rewrite mxE; have := boxA i j.
by case: (leP 0 (A i j)) => _; rewrite ?normr0 // => /(le_trans (normr_ge0 _)).
Qed.

Lemma in_boxD c c' m n (A B : 'M[R]_(m, n)) : in_box c A -> in_box c' B -> in_box (c + c') (A + B).
Proof. by move=> boxA boxB i j; rewrite mxE (le_trans (ler_norm_add _ _)) // ler_add. Qed.

Lemma in_box_exists m n (A : 'M[R]_(m, n)) : exists2 c, 0 <= c & in_box c A.
Proof.
exists (\sum_i \sum_j `|A i j|); first by do 2![apply: sumr_ge0 => ? _].
move=> i j; rewrite (bigD1 i) //= (bigD1 j) //= -addrA ler_addl addr_ge0 //.
  by apply: sumr_ge0.
by do 2![apply: sumr_ge0 => ? _].
Qed.

(* The image of a box under a matrix lies in a box. *)
Lemma in_box_mul c m n p (V : 'M[R]_(m, n)) : exists2 c', 0 <= c' &
  forall A : 'M[R]_(n, p), in_box c A -> in_box c' (V *m A).
Proof.
have [v v0 boxV] := in_box_exists V.
exists (v * `|c| *+ n); first by rewrite mulrn_wge0 ?mulr_ge0.
move=> A boxA i j; rewrite mxE (le_trans (ler_norm_sum _ _ _)) //.
rewrite -[n in leRHS]card_ord -sumr_const; apply: ler_sum => l _.
by rewrite normrM ler_pmul ?boxV // (le_trans (boxA l j)) ?ler_norm.
Qed.

Lemma norm_le_in_box c m n (A : 'M[R]_(m, n)) : 0 <= c -> norm_le c A -> in_box c A.
Proof.
move=> c0 leA i j; rewrite -(ler_pexpn2r (n := 2)) ?nnegrE ?normr_ge0 // real_normK ?num_real //.
apply: le_trans leA; rewrite /frob2 (bigD1 i) //= (bigD1 j) //= -addrA ler_addl addr_ge0 //.
  by apply: sumr_ge0 => l _; apply: sqr_ge0.
by do 2![apply: sumr_ge0 => ? _]; apply: sqr_ge0.
Qed.

End Relu.

Section ReluNets.
Variables (R : realFieldType) (d : nat).

Definition layer (R : realFieldType) (d : nat) : Type := ('M[R]_d * 'cV[R]_d)%type.
Implicit Types (net : seq (layer R d)) (x : 'cV[R]_d).

Fixpoint relu_net net x : 'cV[R]_d :=
  if net is l :: net' then relu_net net' (relu (l.1 *m x + l.2)) else x.

Fixpoint affine_net net x : 'cV[R]_d :=
  if net is l :: net' then affine_net net' (l.1 *m x + l.2) else x.

Fixpoint active net x : Prop :=
  if net is l :: net' then
    (forall i j, 0 <= (l.1 *m x + l.2) i j) /\ active net' (l.1 *m x + l.2)
  else True.

Lemma relu_net_cons l net x : relu_net (l :: net) x = relu_net net (relu (l.1 *m x + l.2)).
Proof. by []. Qed.

Lemma relu_net_cat net net' x : relu_net (net ++ net') x = relu_net net' (relu_net net x).
Proof. by elim: net x => /=. Qed.

Lemma affine_netE net x : affine_net net x = chain (rev [seq l.1 | l <- net]) *m x + affine_net net 0.
Proof.
elim: net x => [|[W b] net IH] x /=; first by rewrite mul1mx addr0.
rewrite IH [in RHS]IH mulmx0 add0r rev_cons chain_rcons mulmxDr addrA; congr (_ + _ + _).
exact: mulmxA.
Qed.

(* relu_network, first part: where no pre-activation is negative the net is affine, and its
   linear part is the product of its layers. *)
Theorem relu_network_affine net x : active net x ->
  relu_net net x = chain (rev [seq l.1 | l <- net]) *m x + affine_net net 0.
Proof.
rewrite -affine_netE; elim: net x => //= l net IH x [pos act].
by rewrite relu_id // IH.
Qed.

Lemma chain_rev_cons (V : 'M[R]_d) Vs : chain (rev (V :: Vs)) = chain (rev Vs) *m V.
Proof. by rewrite rev_cons chain_rcons. Qed.

(* One group of layers: biases that keep the inner pre-activations positive on a box make
   it a single ReLU layer there, for any bias of that layer. *)
Lemma relu_block (Vs : seq 'M[R]_d) c (b : 'cV[R]_d) : (0 < size Vs)%N ->
  exists2 bs : seq 'cV[R]_d, size bs = size Vs &
    forall x, in_box c x -> relu_net (zip Vs bs) x = relu (chain (rev Vs) *m x + b).
Proof.
elim: Vs c b => // V [|V' Vs] IH c b _.
  by exists [:: b] => // x _; rewrite /= mulmx1.
have [c' c'0 boxV] := in_box_mul c 1 V.
pose b1 : 'cV[R]_d := const_mx c'.
have [bs size_bs net_bs] := IH (c' + c') (b - chain (rev (V' :: Vs)) *m b1) isT.
exists (b1 :: bs) => [|x boxx]; first by rewrite /= size_bs.
have boxVx := boxV x boxx.
have pos : relu (V *m x + b1) = V *m x + b1.
  apply: relu_id => i j; rewrite mxE [b1 i j]mxE -ler_subl_addr sub0r ler_oppl.
  by case/ler_normlP: (boxVx i j).
have boxVxb1 : in_box (c' + c') (V *m x + b1) by apply: in_boxD => // i j; rewrite mxE ger0_norm.
rewrite -[zip _ _]/((V, b1) :: zip (V' :: Vs) bs) relu_net_cons pos (net_bs _ boxVxb1).
congr relu; rewrite (chain_rev_cons V) mulmxDr -mulmxA -addrA; congr (_ + _).
by rewrite addrC subrK.
Qed.

(* The linear case inside one group: the adapted layers multiply to any target whose gap
   has rank at most r times the number of layers. *)
Lemma block_update r (Ws : seq 'M[R]_d) (T : 'M[R]_d) : all (mem unitmx) Ws ->
  (\rank (T - chain (rev Ws))%R <= r * size Ws)%N ->
  exists2 Vs : seq 'M[R]_d, all2 (fun W V => \rank (V - W)%R <= r)%N Ws Vs & chain (rev Vs) = T.
Proof.
move=> unitWs; rewrite -(size_rev Ws).
have unit_rev : all (mem unitmx) (rev Ws) by rewrite all_rev.
case/(deep_linear_exact r T unit_rev) => WU [defWs leWU <-].
exists (rev [seq p.1 + p.2 | p <- WU]); last by rewrite revK.
have -> : Ws = rev [seq p.1 | p <- WU] by rewrite defWs revK.
rewrite -!map_rev all2E !size_map eqxx /= zip_map all_map all_rev.
by apply: sub_all leWU => p /=; rewrite addrC addKr.
Qed.

Lemma all2_zip_fst (T1 T2 T3 : Type) (p : T1 -> T2 -> bool) (s1 : seq T1) (s2 : seq T2) (s3 : seq T3) :
  size s3 = size s2 -> all2 (fun (a : T1) (q : T2 * T3) => p a q.1) s1 (zip s2 s3) = all2 p s1 s2.
Proof. by elim: s1 s2 s3 => [|x1 s1 IH] [|x2 s2] [|x3 s3] //= [/IH->]. Qed.

Lemma all2_cat_eq_size (T1 T2 : Type) (p : T1 -> T2 -> bool) (s1 s2 : seq T1) (t1 t2 : seq T2) :
  size t1 = size s1 -> all2 p (s1 ++ s2) (t1 ++ t2) = all2 p s1 t1 && all2 p s2 t2.
Proof. by elim: s1 t1 => [|x1 s1 IH] [|y1 t1] //= [/IH->]; rewrite andbA. Qed.

(* relu_network, exact part, for any grouping of the frozen layers: in each group the
   frozen weights are invertible and the gap of their product to the target's weight has
   rank at most r times the number of layers of the group. *)
Theorem relu_network_groups r c (groups : seq (seq 'M[R]_d)) (target : seq (layer R d)) :
  all2 (fun Ws l => [&& 0 < size Ws, all (mem unitmx) Ws
                      & \rank (l.1 - chain (rev Ws))%R <= r * size Ws])%N groups target ->
  exists2 net, all2 (fun W l => \rank (l.1 - W)%R <= r)%N (flatten groups) net &
    forall x, in_box c x -> relu_net net x = relu_net target x.
Proof.
elim: groups target c => [|Ws groups IH] [|[T b] target] c //=; first by exists [::].
case/andP=> /and3P[size_Ws unitWs leT] ok_rest.
have [Vs leVs defT] := block_update unitWs leT.
have size_Vs : size Vs = size Ws by move: leVs; rewrite all2E => /andP[/eqP].
have [bs size_bs net_bs] := @relu_block Vs c b (leq_trans size_Ws (eq_leq (esym size_Vs))).
have [c1 _ boxT] := in_box_mul c 1 T; have [c2 _ boxb] := in_box_exists b.
have [net le_net net_rest] := IH target (c1 + c2) ok_rest.
exists (zip Vs bs ++ net) => [|x boxx].
  rewrite all2_cat_eq_size ?size_zip ?size_bs ?minnn ?size_Vs // le_net andbT.
  pose close W V : bool := (\rank (V - W : 'M[R]_d)%R <= r)%N.
  by rewrite (all2_zip_fst close Ws (s2 := Vs) (s3 := bs)).
rewrite relu_net_cat net_bs // defT net_rest //.
by apply: in_box_relu; apply: in_boxD => //; apply: boxT.
Qed.

End ReluNets.

(* The grouping of the claim: M = L %/ Lbar frozen layers per target layer. *)
Section Grouping.
Variables (R : realFieldType) (d : nat).
Implicit Types (frozen target : seq (layer R d)).

Lemma all2_mapl (T1 T2 T3 : Type) (p : T2 -> T3 -> bool) (f : T1 -> T2) (s : seq T1) (t : seq T3) :
  all2 p (map f s) t = all2 (fun a b => p (f a) b) s t.
Proof. by elim: s t => [|a s IH] [|b t] //=; rewrite IH. Qed.

Definition groups (L Lbar : nat) : seq nat :=
  (rcons (nseq Lbar.-1 (L %/ Lbar)) (L - Lbar.-1 * (L %/ Lbar)))%N.

Lemma size_groups L Lbar : (0 < Lbar)%N -> size (groups L Lbar) = Lbar.
Proof. by case: Lbar => // n _; rewrite size_rcons size_nseq. Qed.

Lemma sumn_groups L Lbar : sumn (groups L Lbar) = L.
Proof.
rewrite /groups -cats1 sumn_cat sumn_nseq /= addn0 mulnC subnKC //.
by rewrite (leq_trans _ (leq_trunc_div L Lbar)) // mulnC leq_mul2l leq_pred orbT.
Qed.

Lemma groups_ge L Lbar i : (i < Lbar)%N -> (L %/ Lbar <= nth 0%N (groups L Lbar) i)%N.
Proof.
case: Lbar => // n; rewrite ltnS /groups nth_rcons size_nseq nth_nseq leq_eqVlt => /predU1P[-> | lt_in].
  have le_L : (n.+1 * (L %/ n.+1) <= L)%N by rewrite mulnC leq_trunc_div.
  rewrite ltnn eqxx /= leq_subRL; first by rewrite addnC -mulSn.
  by rewrite (leq_trans _ le_L) // leq_mul2r leqnSn orbT.
by rewrite lt_in.
Qed.

(* relu_network [Z, construction]: a frozen ReLU net of depth L with invertible weights
   adapts exactly, on inputs of norm at most the radius, to a target of depth Lbar, with
   updates of rank r in every layer, if every gap between a target weight and the product
   of its group has rank at most r M (that is r >= ceil (rank / M)). No intermediate
   product has to be non-singular. *)
Theorem relu_network r radius frozen target
    (M := (size frozen %/ size target)%N)
    (Ws := reshape (groups (size frozen) (size target)) [seq l.1 | l <- frozen]) :
  0 <= radius -> (0 < size target <= size frozen)%N -> all (fun l => l.1 \in unitmx) frozen ->
  (forall i, (i < size target)%N ->
     (\rank ((nth 0 target i).1 - chain (rev (nth [::] Ws i)))%R <= r * M)%N) ->
  exists2 net, all2 (fun l l' => \rank (l'.1 - l.1)%R <= r)%N frozen net &
    forall x, norm_le radius x -> relu_net net x = relu_net target x.
Proof.
move=> radius0 /andP[target0 le_target] unit_frozen le_gap.
pose sizes := groups (size frozen) (size target).
have sum_sizes : sumn sizes = size [seq l.1 | l <- frozen] by rewrite sumn_groups size_map.
have flattenWs : flatten Ws = [seq l.1 | l <- frozen] by apply: reshapeKr; rewrite sum_sizes.
have sizeWs : size Ws = size target by rewrite size_reshape size_groups.
have M0 : (0 < M)%N by rewrite divn_gt0.
have [|net le_net eq_net] := @relu_network_groups _ d r radius Ws target.
  rewrite all2E sizeWs eqxx /=; apply/(all_nthP ([::], 0)) => i.
  rewrite size_zip sizeWs minnn => lt_i; rewrite nth_zip //=.
  have size_group : (M <= size (nth [::] Ws i))%N.
    rewrite -(nth_map _ 0%N) ?sizeWs // -/(shape Ws) reshapeKl ?sum_sizes //.
    exact: groups_ge.
  rewrite (leq_trans M0 size_group) (leq_trans (le_gap i lt_i)) ?leq_mul2l ?size_group ?orbT //.
  rewrite andbT; apply/allP => W inW; have : W \in flatten Ws.
    by apply/flattenP; exists (nth [::] Ws i); rewrite ?mem_nth ?sizeWs.
  by rewrite flattenWs => /mapP[l inl ->]; apply: (allP unit_frozen).
exists net => [|x normx]; last by apply: eq_net; apply: norm_le_in_box normx.
move: le_net; rewrite flattenWs; pose close W (l : layer R d) : bool := (\rank (l.1 - W)%R <= r)%N.
by rewrite (all2_mapl close fst).
Qed.

End Grouping.

(* Below the threshold: how far two ReLU nets are apart whose layers are close. *)
Section BelowThreshold.
Variable R : realFieldType.

Lemma norm_leD m n a b (A B : 'M[R]_(m, n)) : 0 <= a -> 0 <= b ->
  norm_le a A -> norm_le b B -> norm_le (a + b) (A + B).
Proof.
move=> a0 b0 leA leB; rewrite /norm_le frob2D sqrrD [leRHS]addrAC.
apply: ler_add; first exact: ler_add leA leB.
rewrite ler_muln2r orFb.
have norm0 c (C : 'M[R]_(m, n)) : c = 0 -> norm_le c C -> C = 0.
  move=> ->; rewrite /norm_le expr0n /= => leC; apply/eqP.
  by rewrite -frob2_eq0 eq_le leC frob2_ge0.
have [a_eq0 | aN0] := eqVneq a 0.
  by rewrite (norm0 a A) // mul0mx mxtrace0 mulr_ge0.
have [b_eq0 | bN0] := eqVneq b 0.
  by rewrite (norm0 b B) // trmx0 mulmx0 mxtrace0 mulr_ge0.
have ab_gt0 : 0 < a * b by rewrite mulr_gt0 // lt0r ?aN0 ?bN0.
(* Cauchy-Schwarz, from the square of b A - a B. *)
have := frob2_ge0 (b *: A + (- a) *: B).
rewrite frob2D !frob2Z sqrrN linearZ /= -scalemxAr -scalemxAl scalerA mxtraceZ.
rewrite !mulNr mulNrn subr_ge0 -mulrnAr => le_t.
have : a * b * (\tr (A *m B^T) *+ 2) <= a * b * ((a * b) *+ 2).
  apply: le_trans le_t _.
  rewrite mulrnAr mulr2n -expr2 exprMn [X in _ <= X + _]mulrC.
  by apply: ler_add; rewrite ler_wpmul2l ?sqr_ge0.
by rewrite ler_pmul2l // ler_muln2r.
Qed.

Lemma norm_le_relu m n c (A B : 'M[R]_(m, n)) : norm_le c (A - B) -> norm_le c (relu A - relu B).
Proof.
apply: le_trans; apply: ler_sum => i _; apply: ler_sum => j _; rewrite !mxE.
have contract (a b : R) : (Num.max 0 a - Num.max 0 b) ^+ 2 <= (a - b) ^+ 2.
  wlog le_ba : a b / b <= a => [wlog_ba|].
    have [/wlog_ba // | /ltW/wlog_ba] := leP b a.
    by rewrite -sqrrN opprB -[in leRHS]sqrrN opprB.
  rewrite ler_pexpn2r ?nnegrE ?subr_ge0 //; last by rewrite le_maxl !le_maxr lexx le_ba !orbT.
  have [b0 | b0] := leP 0 b; first by rewrite (max_idPr (le_trans b0 le_ba)).
  rewrite subr0; have [a0 | a0] := leP 0 a; first by rewrite ler_addl oppr_ge0 ltW.
  by rewrite subr_ge0.
exact: contract.
Qed.

Lemma norm_le_mul m n c e (M : 'M[R]_(m, n)) (x : 'cV[R]_n) : op_le c M -> norm_le e x ->
  norm_le (c * e) (M *m x).
Proof.
by move=> leM lex; rewrite /norm_le exprMn (le_trans (leM x)) // ler_wpmul2l ?sqr_ge0.
Qed.

Section Trajectories.
Variable d : nat.
Implicit Types (W D : nat -> 'M[R]_d) (b : nat -> 'cV[R]_d) (w s beta : nat -> R).

(* The state of the net with layers (W 0, b 0), (W 1, b 1), ... after l layers. *)
Fixpoint relu_run W b (x : 'cV[R]_d) l : 'cV[R]_d :=
  if l is l'.+1 then relu (W l' *m relu_run W b x l' + b l') else x.

Lemma relu_net_run W b x L : relu_net (mkseq (fun i => (W i, b i)) L) x = relu_run W b x L.
Proof.
elim: L => // L IH; rewrite /mkseq -(addn1 L) iotaD map_cat relu_net_cat add0n.
by rewrite -/(mkseq _ L) IH (addn1 L).
Qed.

(* X_l of the claim: the largest norm that the target's state can have after l layers. *)
Fixpoint state_bound w beta radius l : R :=
  if l is l'.+1 then w l' * state_bound w beta radius l' + beta l' else radius.

Definition error_bound w s beta radius L : R :=
  \sum_(0 <= i < L) s i * state_bound w beta radius i * \prod_(i.+1 <= k < L) (w k + s k).

Lemma error_boundS w s beta radius L : error_bound w s beta radius L.+1 =
  (w L + s L) * error_bound w s beta radius L + s L * state_bound w beta radius L.
Proof.
rewrite /error_bound big_nat_recr //= [\prod_(L.+1 <= k < L.+1) _]big_geq // mulr1; congr (_ + _).
rewrite mulr_sumr; apply: eq_big_nat => i /andP[_ lt_iL].
by rewrite big_nat_recr //= mulrA mulrC.
Qed.

(* relu_network, below the threshold [ours]: with layers W + D against W, where D is a map of
   norm at most s, the outputs differ by at most
   sum_i s_i X_(i-1) prod_(k > i) (|W_k| + s_k). *)
Theorem relu_network_perturbed W D b w s beta radius L x :
  (forall i, (i < L)%N -> [/\ 0 <= w i, 0 <= s i & 0 <= beta i]) ->
  (forall i, (i < L)%N -> [/\ op_le (w i) (W i), op_le (s i) (D i) & norm_le (beta i) (b i)]) ->
  0 <= radius -> norm_le radius x ->
  norm_le (error_bound w s beta radius L)
    (relu_run (fun i => W i + D i) b x L - relu_run W b x L).
Proof.
move=> pos le_layers radius0 lex.
suffices [] : [/\ 0 <= state_bound w beta radius L, norm_le (state_bound w beta radius L) (relu_run W b x L),
                  0 <= error_bound w s beta radius L
                & norm_le (error_bound w s beta radius L)
                    (relu_run (fun i => W i + D i) b x L - relu_run W b x L)] by [].
elim: L => [|L IH] in pos le_layers *.
  by rewrite /error_bound big_geq //= subrr /norm_le frob20 expr0n lexx.
have [||X0 leX E0 leE] := IH; [by move=> i /ltnW; apply: pos | by move=> i /ltnW; apply: le_layers |].
have [w0 s0 beta0] := pos L (ltnSn L); have [leW leD leb] := le_layers L (ltnSn L).
rewrite error_boundS /=.
set X := state_bound _ _ _ _ in X0 leX *; set E := error_bound _ _ _ _ _ in E0 leE *.
set u := relu_run (fun i => _) _ _ _ in leE *; set y := relu_run W b x L in leX leE *.
have X1 : 0 <= w L * X + beta L by rewrite addr_ge0 ?mulr_ge0.
have E1 : 0 <= (w L + s L) * E + s L * X by rewrite addr_ge0 ?mulr_ge0 ?addr_ge0.
split=> //.
  rewrite -[relu _]subr0 -(relu0 _ _ _); apply: norm_le_relu; rewrite subr0.
  by apply: norm_leD; rewrite ?mulr_ge0 //; apply: norm_le_mul.
apply: norm_le_relu.
have -> : (W L + D L) *m u + b L - (W L *m y + b L) = W L *m (u - y) + D L *m (u - y) + D L *m y.
  by rewrite opprD addrACA subrr addr0 -!mulmxDl mulmxBr -addrA; congr (_ + _); rewrite mulmxDl opprD subrK.
rewrite mulrDl; apply: norm_leD; rewrite ?addr_ge0 ?mulr_ge0 //; last exact: norm_le_mul.
by apply: norm_leD; rewrite ?mulr_ge0 //; apply: norm_le_mul.
Qed.

End Trajectories.

(* The bound is attained, for all values of the numbers in it and every number of layers: by layers of
   size 1 that are these numbers. *)
Theorem relu_network_perturbed_attained (w s beta : nat -> R) (radius : R) L
    (one := fun c : R => c%:M : 'M[R]_1) :
  (forall i, [/\ 0 <= w i, 0 <= s i & 0 <= beta i]) -> 0 <= radius ->
  [/\ forall i, [/\ op_le (w i) (one (w i)), op_le (s i) (one (s i)) & norm_le (beta i) (one (beta i))],
      norm_le radius (one radius)
    & relu_run (fun i => one (w i) + one (s i)) (one \o beta) (one radius) L
        - relu_run (one \o w) (one \o beta) (one radius) L = one (error_bound w s beta radius L)].
Proof.
move=> pos radius0; have normE c : norm_le c (one c) by rewrite /norm_le /frob2 !big_ord1 mxE eqxx.
have opE c : op_le c (one c) by move=> x; rewrite mul_scalar_mx frob2Z.
have reluE a : 0 <= a -> relu (one a : 'cV[R]_1) = one a by move=> a0; apply: relu_id => i j; rewrite !mxE !ord1 eqxx.
split=> [i||]; [by split | by [] |].
suffices: [/\ relu_run (one \o w) (one \o beta) (one radius) L = one (state_bound w beta radius L),
    relu_run (fun i => one (w i) + one (s i)) (one \o beta) (one radius) L
      = one (state_bound w beta radius L + error_bound w s beta radius L)
  & 0 <= state_bound w beta radius L /\ 0 <= error_bound w s beta radius L].
  case=> runE run2E _; rewrite run2E runE.
  by rewrite /one raddfD /= addrAC subrr add0r.
elim: L => [|L [IHt IHn [X0 E0]]]; first by rewrite /error_bound big_geq // addr0.
have [w0 s0 beta0] := pos L; rewrite error_boundS.
have addE a c : one a + one c = one (a + c) by rewrite /one raddfD.
have mulE a c : one a *m one c = one (a * c) by rewrite -scalar_mxM.
rewrite [relu_run _ _ _ L.+1]/= [relu_run (fun=> _) _ _ L.+1]/= IHt IHn /comp !(addE, mulE) !reluE ?addr_ge0 ?mulr_ge0 ?addr_ge0 //.
split=> //; congr (one _); rewrite /= mulrDr [_ * state_bound _ _ _ _]mulrDl -!addrA; congr (_ + _).
by rewrite addrC [_ + beta L]addrC -addrA.
Qed.

End BelowThreshold.

(* The bound of the claim, with the singular values of the gaps. *)
Section BelowThresholdNets.
Variable R : rcfType.

Lemma choice_below (U : Type) (u0 : U) (P : nat -> U -> Prop) L :
  (forall l, (l < L)%N -> exists u, P l u) -> exists f, forall l, (l < L)%N -> P l (f l).
Proof.
elim: L => [|L IH] exP; first by exists (fun=> u0).
have [l /ltnW/exP // | f Pf] := IH; have [u Pu] := exP L (ltnSn L).
exists (fun l => if l == L then u else f l) => l.
by rewrite ltnS leq_eqVlt; case: eqP => [-> // | _] /=; apply: Pf.
Qed.

(* relu_network, below the threshold [ours]: updates of rank r whose net differs from the
   target by at most sum_i s_i X_(i-1) prod_(k > i) (|W_k| + s_k), where s_i is the singular
   value number r |P_i| + 1 of the gap of group i. *)
Theorem relu_network_bound d r radius (gs : seq (seq 'M[R]_d)) (Wbar : nat -> 'M[R]_d)
    (bbar : nat -> 'cV[R]_d) (L := size gs)
    (w := fun i => spectral_norm (Wbar i)) (beta := fun i => Num.sqrt (frob2 (bbar i)))
    (s := fun i => sv_at (r * size (nth [::] gs i))
                         (singular_values (Wbar i - chain (rev (nth [::] gs i))))) : 0 <= radius ->
  (forall i, (i < L)%N -> (0 < size (nth [::] gs i))%N && all (mem unitmx) (nth [::] gs i)) ->
  exists2 net, all2 (fun W l => \rank (l.1 - W)%R <= r)%N (flatten gs) net &
    forall x, norm_le radius x ->
      norm_le (error_bound w s beta radius L)
              (relu_net net x - relu_net (mkseq (fun i => (Wbar i, bbar i)) L) x).
Proof.
move=> radius0 ok_groups; pose P i := chain (rev (nth [::] gs i)).
(* The target less what rank r |P_i| leaves of the gap. *)
pose D i := P i + low_rank (r * size (nth [::] gs i)) (Wbar i - P i) - Wbar i.
have [|net le_net eq_net] :=
    @relu_network_groups _ d r radius gs (mkseq (fun i => (Wbar i + D i, bbar i)) L).
  rewrite all2E size_mkseq eqxx /=; apply/(all_nthP ([::], (0, 0))) => i.
  rewrite size_zip size_mkseq minnn => lt_i; rewrite nth_zip ?size_mkseq // nth_mkseq //=.
  have /andP[-> ->] := ok_groups i lt_i.
  by rewrite /D [Wbar i + _]addrC subrK addrC addKr rank_low_rank.
exists net => // x lex; rewrite eq_net; last exact: norm_le_in_box lex.
rewrite !(relu_net_run (fun i => _)); apply: relu_network_perturbed => // i lt_i; split.
- exact: spectral_norm_ge0.
- by have [_ _ _ s0 _] := singular_value_decomposition (Wbar i - P i); apply: sv_at_ge0.
- exact: sqrtr_ge0.
- by apply/spectral_norm_least; rewrite ?spectral_norm_ge0.
- have [_ left_s] := eckart_young_spectral_attained (r * size (nth [::] gs i)) (Wbar i - P i).
  rewrite -[s i]left_s (_ : D i = - (Wbar i - P i - low_rank (r * size (nth [::] gs i)) (Wbar i - P i)));
    last by rewrite /D !opprB addrA [P i + _]addrC.
  move=> y; rewrite mulNmx -scaleN1r frob2Z sqrrN expr1n mul1r.
  exact: (spectral_norm_least _ (spectral_norm_ge0 _)).1 (lexx _) y.
- by rewrite /norm_le sqr_sqrtr ?frob2_ge0.
Qed.

(* The bound is attained for every rank and every number of layers: in r + 1 dimensions weights
   1 in the target and 1 + h >= 1 in the frozen net, whose updates make it 1 on r axes; on the
   last axis the outputs differ by the bound. *)
Theorem relu_network_bound_attained r (h : R) L (Wbar := 1%:M : 'M[R]_r.+1) (W := (1 + h)%:M : 'M[R]_r.+1)
    (V := W - h *: pid_mx r) (x := delta_mx ord_max 0 : 'cV[R]_r.+1) : 0 <= h ->
  [/\ spectral_norm Wbar = 1, sv_at r (singular_values (Wbar - W)) = h,
      (\rank (V - W)%R <= r)%N, frob2 x = 1
    & relu_run (fun=> V) (fun=> 0) x L - relu_run (fun=> Wbar) (fun=> 0) x L
        = error_bound (fun=> 1) (fun=> h) (fun=> 0) 1 L *: x].
Proof.
move=> h0.
have x0 (c : R) : 0 <= c -> relu (c *: x) = c *: x.
  by move=> c0; apply: relu_id => i j; rewrite !mxE mulr_ge0 ?ler0n.
have Vx : V *m x = (1 + h) *: x.
  rewrite mulmxBl mul_scalar_mx -scalemxAl (_ : pid_mx r *m x = 0) ?scaler0 ?subr0 //.
  apply/matrixP => i j; rewrite !mxE big1 // => l _; rewrite !mxE.
  by have [-> | _] := eqVneq l ord_max; rewrite ?mulr0 //= [_ == r]eqn_leq; case: ltnP; rewrite ?andbF ?mul0r.
have runV l : relu_run (fun=> V) (fun=> 0) x l = (1 + h) ^+ l *: x.
  elim: l => [|l IH]; first by rewrite expr0 scale1r.
  by rewrite /= IH addr0 -scalemxAr Vx scalerA mulrC -exprS x0 ?exprn_ge0 ?addr_ge0 ?ler01.
have run1 l : relu_run (fun=> Wbar) (fun=> 0) x l = x.
  by elim: l => //= l ->; rewrite addr0 mul1mx -[x]scale1r x0 ?ler01.
split.
- by rewrite /spectral_norm singular_values_scalar ?normr1.
- by rewrite -raddfB singular_values_scalar // opprD addrA subrr sub0r normrN ger0_norm.
- by rewrite addrC addKr mxrank_opp (leq_trans (mxrank_scale _ _)) ?mxrank_pid_le.
- rewrite /frob2 (bigD1 ord_max) //= big_ord1 !mxE !eqxx expr1n big1 ?addr0 // => i neq_i.
  by rewrite big_ord1 !mxE (negPf neq_i) expr0n.
rewrite runV run1 -[X in _ - X]scale1r -scalerBl; congr (_ *: _).
elim: L => [|L IH]; first by rewrite /error_bound big_geq // expr0 subrr.
rewrite error_boundS -IH (_ : state_bound _ _ _ L = 1) ?mulr1; last first.
  by elim: L {IH} => //= L ->; rewrite mul1r addr0.
by rewrite mulrBr mulr1 -exprS -[RHS]addrA opprD -addrA addNr addr0.
Qed.

End BelowThresholdNets.

(* Attention: two factors, calibrated products, and a whole transformer without residual
   stream. *)
Section TwoFactors.
Variable F : fieldType.

(* transformer, algebraic core [Z, construction]: two invertible factors reach with updates of
   rank r exactly the products G whose gap has rank at most 2 r. *)
Theorem transformer_product d r (A B G : 'M[F]_d) : A \in unitmx -> B \in unitmx ->
  (exists A' B' : 'M[F]_d,
     [/\ (\rank (A' - A)%R <= r)%N, (\rank (B' - B)%R <= r)%N & A' *m B' = G]) <->
  (\rank (G - A *m B)%R <= 2 * r)%N.
Proof.
move=> unitA unitB.
have unitAB : all (mem unitmx) [:: A; B] by rewrite /= unitA unitB.
have := deep_linear_exact r G unitAB; rewrite /= mulmx1 [(r * 2)%N]mulnC => <-; split.
  move=> [A' [B' [leA leB prodAB]]]; exists [:: (A, A' - A); (B, B' - B)].
  by rewrite /= leA leB [A + _]addrC [B + _]addrC !subrK mulmx1.
case=> [[|[A1 U] [|[B1 V] [|? ?]]]] [] //= [-> ->] /and3P[leU leV _] prodAB.
by exists (A + U), (B + V); rewrite ![_ + U - _]addrAC ![_ + V - _]addrAC !subrr !add0r -prodAB mulmx1.
Qed.

(* ... and the scores: queries and keys as they enter them. *)
Theorem transformer_scores d r (Wk Wq G : 'M[F]_d) : Wk \in unitmx -> Wq \in unitmx ->
  (exists Wk' Wq' : 'M[F]_d,
     [/\ (\rank (Wk' - Wk)%R <= r)%N, (\rank (Wq' - Wq)%R <= r)%N & Wk'^T *m Wq' = G]) <->
  (\rank (G - Wk^T *m Wq)%R <= 2 * r)%N.
Proof.
move=> unitk unitq; have unitkT : Wk^T \in unitmx by rewrite unitmx_tr.
rewrite -(transformer_product r G unitkT unitq); split=> -[A [B [leA leB prodAB]]].
  by exists A^T, B; rewrite -linearB mxrank_tr.
by exists A^T, B; rewrite -mxrank_tr linearB /= !trmxK.
Qed.

(* The same products in the form of the code: through a non-singular half-way product T1, with
   the input factor adapted first. *)
Theorem transformer_product_halfway d r (A B T1 G : 'M[F]_d) : A \in unitmx -> T1 \in unitmx ->
  (\rank (T1 - A *m B)%R <= r)%N -> (\rank (G - T1)%R <= r)%N ->
  let B' := invmx A *m T1 in let A' := G *m invmx B' in
  [/\ (\rank (A' - A)%R <= r)%N, (\rank (B' - B)%R <= r)%N, A' *m B' = G & (A'^T :=: G^T)%MS].
Proof.
move=> unitA unitT1 leB leA B' A'.
have unitB' : B' \in unitmx by rewrite unitmx_mul unitmx_inv unitA.
have AB' : A *m B' = T1 by rewrite mulKVmx.
split.
- rewrite -[A](mulmxK unitB') AB' -mulmxBl.
  exact: leq_trans (mxrankM_maxl _ _) leA.
- rewrite -[B](mulKmx unitA) -mulmxBr.
  exact: leq_trans (mxrankM_maxr _ _) leB.
- by rewrite mulmxKV.
- by rewrite trmx_mul; apply: eqmxMfull; rewrite row_full_unit unitmx_tr unitmx_inv.
Qed.

(* A pair of factors A B reaches the product G by updates of rank r: nothing is missing, or A has full row
   rank, B is invertible and the gap has rank at most 2 r. *)
Definition pair_reaches V d r (A : 'M[F]_(V, d)) (B : 'M[F]_d) (G : 'M[F]_(V, d)) : bool :=
  (G == A *m B) || [&& row_free A, B \in unitmx & (\rank (G - A *m B)%R <= 2 * r)%N].

(* It does: with A = P M, P of full row rank and M invertible, the gap is one of M B. *)
Theorem transformer_pair V d r (A : 'M[F]_(V, d)) (B : 'M[F]_d) (G : 'M[F]_(V, d)) : pair_reaches r A B G ->
  exists (A' : 'M[F]_(V, d)) (B' : 'M[F]_d),
    [/\ (\rank (A' - A)%R <= r)%N, (\rank (B' - B)%R <= r)%N & A' *m B' = G].
Proof.
case/orP=> [/eqP-> | /and3P[freeA unitB gap]]; first by exists A, B; rewrite !subrr !mxrank0.
pose M := row_ebase A; pose P : 'M[F]_(V, d) := A *m invmx M.
have unitM : M \in unitmx by apply: row_ebase_unit.
have PM : P *m M = A by rewrite mulmxKV.
have freeP : row_free P by rewrite /row_free mxrankMfree ?row_free_unit ?unitmx_inv.
pose G1 := M *m B + pinvmx P *m (G - A *m B).
have [|M' [B' [leM leB prod]]] := (transformer_product r G1 unitM unitB).2.
  by rewrite /G1 addrC addKr (leq_trans (mxrankM_maxr _ _)).
exists (P *m M'), B'; split=> //; first by rewrite -PM -mulmxBr (leq_trans (mxrankM_maxr _ _)).
rewrite -mulmxA prod mulmxDr [P *m (M *m B)]mulmxA PM [P *m (pinvmx P *m _)]mulmxA.
by rewrite (mulmxVp freeP) mul1mx addrC subrK.
Qed.

End TwoFactors.

Section Transformer.
Variables (R : realFieldType) (d H : nat).
(* What turns scores into attention weights: any map, fixed for each number of tokens. *)
Variable sm : forall N, 'M[R]_N -> 'M[R]_N.

Record head := Head {hq : 'M[R]_d; hk : 'M[R]_d; hv : 'M[R]_d; ho : 'M[R]_d}.
Record block := Block {
  heads : 'I_H -> head; w1 : 'M[R]_d; b1 : 'cV[R]_d; w2 : 'M[R]_d; b2 : 'cV[R]_d}.

Definition on_tokens N (b : 'cV[R]_d) : 'M[R]_(d, N) := b *m const_mx 1.

Definition head_out N (h : head) (X : 'M[R]_(d, N)) : 'M[R]_(d, N) :=
  ho h *m hv h *m X *m sm (X^T *m ((hk h)^T *m hq h) *m X).

Definition hidden N (B : block) (X : 'M[R]_(d, N)) : 'M[R]_(d, N) :=
  relu (w1 B *m (\sum_i head_out (heads B i) X) + on_tokens N (b1 B)).

Definition block_out N (B : block) (X : 'M[R]_(d, N)) : 'M[R]_(d, N) :=
  w2 B *m hidden B X + on_tokens N (b2 B).

Fixpoint stream N (B : nat -> block) l (X : 'M[R]_(d, N)) : 'M[R]_(d, N) :=
  if l is l'.+1 then block_out (B l') (stream B l' X) else X.

Definition calib (B T : nat -> block) l : 'M[R]_d :=
  if l is l'.+1 then w2 (T l') *m invmx (w2 (B l')) else 1%:M.

Lemma on_tokens_mul N (M : 'M[R]_d) b : M *m on_tokens N b = on_tokens N (M *m b).
Proof. exact: mulmxA. Qed.

(* What a head of the target does to calibrated states, a head with the calibrated products
   does to the states themselves. *)
Lemma head_out_calibrated N (a t : head) (W Wbar C : 'M[R]_d) (X : 'M[R]_(d, N)) : W \in unitmx ->
  (hk a)^T *m hq a = C^T *m ((hk t)^T *m hq t) *m C ->
  ho a *m hv a = invmx W *m Wbar *m ho t *m hv t *m C ->
  W *m head_out a X = Wbar *m head_out t (C *m X).
Proof.
move=> unitW scores values; rewrite /head_out scores values trmx_mul !mulmxA.
by rewrite mulmxV // mul1mx.
Qed.

(* transformer, calibrated identities: if the adapted blocks A meet them, the adapted net and the
   target are equal on all inputs, whatever the number of tokens and the map of scores. *)
Theorem transformer_calibrated V L (B T A : nat -> block) (Wout Wbar : 'M[R]_(V, d)) :
  (forall l, (l <= L)%N -> w1 (B l) \in unitmx) ->
  (forall l, (l <= L)%N -> w1 (A l) = w1 (B l) /\ b1 (A l) = b1 (T l)) ->
  (forall l i, (l <= L)%N ->
     (hk (heads (A l) i))^T *m hq (heads (A l) i) =
       (calib B T l)^T *m ((hk (heads (T l) i))^T *m hq (heads (T l) i)) *m calib B T l /\
     ho (heads (A l) i) *m hv (heads (A l) i) =
       invmx (w1 (B l)) *m w1 (T l) *m ho (heads (T l) i) *m hv (heads (T l) i) *m calib B T l) ->
  (forall l, (l < L)%N -> [/\ w2 (B l) \in unitmx, w2 (A l) = w2 (B l)
                            & calib B T l.+1 *m b2 (A l) = b2 (T l)]) ->
  Wout *m w2 (A L) = Wbar *m w2 (T L) -> Wout *m b2 (A L) = Wbar *m b2 (T L) ->
  forall N (X : 'M[R]_(d, N)), Wout *m stream A L.+1 X = Wbar *m stream T L.+1 X.
Proof.
move=> unit_w1 same_w1 products same_w2 out_w out_b N X.
have hidden_eq l : (l <= L)%N -> stream T l X = calib B T l *m stream A l X ->
    hidden (A l) (stream A l X) = hidden (T l) (stream T l X).
  move=> le_lL ->; rewrite /hidden; have [-> ->] := same_w1 l le_lL.
  congr (relu (_ + _)); rewrite !mulmx_sumr; apply: eq_bigr => i _.
  have [scores values] := products l i le_lL.
  exact: head_out_calibrated (unit_w1 l le_lL) scores values.
have stream_eq l : (l <= L)%N -> stream T l X = calib B T l *m stream A l X.
  elim: l => [_|l IH lt_lL]; first by rewrite mul1mx.
  have [unit_w2 eq_w2 eq_b2] := same_w2 l lt_lL.
  rewrite [stream T _ _]/= [stream A _ _]/= /block_out hidden_eq ?(ltnW lt_lL) ?IH ?(ltnW lt_lL) //.
  by rewrite mulmxDr on_tokens_mul eq_b2 eq_w2 mulmxA mulmxKV.
rewrite /= /block_out hidden_eq ?stream_eq // !mulmxDr /on_tokens !mulmxA.
by rewrite out_w out_b.
Qed.

(* An adapter of rank r on a block: every attention matrix moves by rank at most r, w1 stays; w2
   moves by rank at most r2; the biases are free. *)
Definition adapts_block r r2 (B A : block) : Prop :=
  [/\ w1 A = w1 B, (\rank (w2 A - w2 B)%R <= r2)%N &
      forall i (b := heads B i) (a := heads A i),
        [&& \rank (hq a - hq b)%R <= r, \rank (hk a - hk b)%R <= r,
            \rank (hv a - hv b)%R <= r & \rank (ho a - ho b)%R <= r]%N].

(* transformer [Z, construction]: rank r reaches the target exactly on all inputs if every calibrated gap
   is 0 or of rank at most 2 r between invertible factors (no half-way product has to be non-singular; the
   readout may have fewer rows than columns), the target's b2 lies in the range of its w2 (for the last
   block it is enough that Wbar b2 lies in the range of Wbar w2). *)
Theorem transformer V r L (B T : nat -> block) (Wout Wbar : 'M[R]_(V, d)) :
  (forall l, (l <= L)%N -> w1 (B l) \in unitmx) -> (forall l, (l < L)%N -> w2 (B l) \in unitmx) ->
  (forall l i (b := heads (B l) i) (t := heads (T l) i) (C := calib B T l), (l <= L)%N ->
     pair_reaches r (hk b)^T (hq b) (C^T *m ((hk t)^T *m hq t) *m C) /\
     pair_reaches r (ho b) (hv b) (invmx (w1 (B l)) *m w1 (T l) *m ho t *m hv t *m C)) ->
  pair_reaches r Wout (w2 (B L)) (Wbar *m w2 (T L)) ->
  (forall l, (l < L)%N -> exists c, b2 (T l) = w2 (T l) *m c) ->
  (exists c, Wbar *m b2 (T L) = Wbar *m w2 (T L) *m c) ->
  exists (A : nat -> block) (Wout' : 'M[R]_(V, d)),
    [/\ forall l, (l <= L)%N -> adapts_block r (if l == L then r else 0%N) (B l) (A l),
        (\rank (Wout' - Wout)%R <= r)%N
      & forall N (X : 'M[R]_(d, N)), Wout' *m stream A L.+1 X = Wbar *m stream T L.+1 X].
Proof.
move=> unit_w1 unit_w2 gaps /transformer_pair[V_out [V2 [le_out le_V2 prod_out]]] range_b2 [c_out range_out].
pose good_head l i (a : head) := let b := heads (B l) i in let t := heads (T l) i in
  [/\ [&& \rank (hq a - hq b)%R <= r, \rank (hk a - hk b)%R <= r,
          \rank (hv a - hv b)%R <= r & \rank (ho a - ho b)%R <= r]%N,
      (hk a)^T *m hq a = (calib B T l)^T *m ((hk t)^T *m hq t) *m calib B T l
    & ho a *m hv a = invmx (w1 (B l)) *m w1 (T l) *m ho t *m hv t *m calib B T l].
have good_heads l : (l <= L)%N -> exists hs : 'I_H -> head, forall i, good_head l i (hs i).
  move=> le_lL; apply: (fin_all_exists (P := good_head l)) => i.
  have [/transformer_pair[k [q [le_k le_q scores]]] /transformer_pair[o [v [le_o le_v values]]]] := gaps l i le_lL.
  have le_kT : (\rank (k^T - hk (heads (B l) i))%R <= r)%N by rewrite -mxrank_tr linearB /= trmxK.
  by exists (Head q k^T v o); split; rewrite /= ?trmxK //; apply/and4P.
(* One adapted block at a time; the last one also carries its share of the output product. *)
pose good l (A : block) :=
  [/\ forall i, good_head l i (heads A i), w1 A = w1 (B l), b1 A = b1 (T l)
    & if l == L then w2 A = V2 /\ V_out *m b2 A = Wbar *m b2 (T L)
      else w2 A = w2 (B l) /\ calib B T l.+1 *m b2 A = b2 (T l)].
have [|A goodA] := @choice_below block (B 0%N) good L.+1.
  move=> l; rewrite ltnS => le_lL; have [hs good_hs] := good_heads l le_lL.
  have [eq_lL | neq_lL] := eqVneq l L.
    exists (Block hs (w1 (B l)) (b1 (T l)) V2 (V2 *m c_out)).
    split=> //; rewrite eq_lL eqxx /=; split=> //.
    by rewrite range_out -prod_out mulmxA.
  have [|c def_c] := range_b2 l; first by rewrite ltn_neqAle neq_lL.
  exists (Block hs (w1 (B l)) (b1 (T l)) (w2 (B l)) (w2 (B l) *m c)).
  split=> //; rewrite (negPf neq_lL) /=; split=> //.
  by rewrite def_c mulmxA mulmxKV ?unit_w2 // ltn_neqAle neq_lL.
exists A, V_out; split=> // [l le_lL | ].
  have [good_hs eq_w1 _ eq_w2] := goodA l le_lL; split=> // [|i].
    by case: eqP eq_w2 => [-> [-> _] // | _ [-> _]]; rewrite subrr mxrank0.
  by have [] := good_hs i.
apply: (@transformer_calibrated V L B T A V_out Wbar) => //.
- by move=> l le_lL; have [] := goodA l le_lL.
- by move=> l i le_lL; have [good_hs _ _ _] := goodA l le_lL; have [] := good_hs i.
- move=> l lt_lL; have [_ _ _] := goodA l (ltnW lt_lL).
  by rewrite ltn_eqF // => -[eq_w2 eq_b2]; rewrite unit_w2.
- by have [_ _ _] := goodA L (leqnn L); rewrite eqxx => -[-> _].
by have [_ _ _] := goodA L (leqnn L); rewrite eqxx => -[].
Qed.

End Transformer.

(* Worked instances, and instances that fail without a hypothesis. *)
Section Instances.

(* Two frozen identity layers of size 2, rank 1: every target layer is reached on every ball. *)
Example relu_network_two_layers (R : realFieldType) (radius : R) (T : 'M[R]_2) (b : 'cV[R]_2)
    (frozen := [:: (1%:M, 0); (1%:M, 0)] : seq (layer R 2)) : 0 <= radius ->
  exists2 net, all2 (fun l l' => \rank (l'.1 - l.1)%R <= 1)%N frozen net &
    forall x, norm_le radius x -> relu_net net x = relu (T *m x + b).
Proof.
move=> radius0; have [|||net le_net eq_net] := @relu_network R 2 1 radius frozen [:: (T, b)] radius0 => //.
- by rewrite /= unitmx1.
- by case=> // _; rewrite mul1n; apply: rank_leq_row.
by exists net.
Qed.

(* An input layer 0 with an update of rank 1 is blind to some direction: no biases and no
   other layers make the net the identity on the positive inputs of a box. *)
Example relu_network_singular_layer (R : realFieldType) (V : 'M[R]_2) (c : 'cV[R]_2) (net : seq (layer R 2)) :
  (\rank (V - 0)%R <= 1)%N ->
  ~ forall x, in_box 2%:R x -> relu_net ((V, c) :: net) x = relu (1%:M *m x + 0).
Proof.
rewrite subr0 => leV eq_net.
have /rowV0Pn[u /sub_kermxP uV u0] : kermx V^T != 0.
  by rewrite kermx_eq0 /row_free mxrank_tr neq_ltn ltnS leV.
have Vu : V *m u^T = 0 by rewrite -[V]trmxK -trmx_mul uV trmx0.
have [a a0 boxu] := in_box_exists u.
pose v : 'cV[R]_2 := (a + 1)^-1 *: u^T.
have a1 : 0 < a + 1 by rewrite ltr_spaddr.
have boxv : in_box 1 v.
  move=> i j; rewrite !mxE normrM gtr0_norm ?invr_gt0 // mulrC ler_pdivr_mulr // mul1r.
  by rewrite (le_trans (boxu j i)) // ler_addl.
have Vv : V *m v = 0 by rewrite -scalemxAr Vu scaler0.
have box1 : in_box 1 (const_mx 1 : 'cV[R]_2) by move=> i j; rewrite mxE normr1.
have box12 : in_box 2%:R (const_mx 1 : 'cV[R]_2) by move=> i j; rewrite mxE normr1 ler1n.
have box1v : in_box 2%:R (const_mx 1 + v) by rewrite -[2%:R]/(1 + 1); apply: in_boxD.
have := eq_net _ box1v; rewrite /= mulmxDr Vv addr0 -[LHS]/(relu_net ((V, c) :: net) (const_mx 1)).
rewrite (eq_net _ box12) !mul1mx !addr0 !relu_id => [|i j|i j]; last 2 first.
- by rewrite mxE [const_mx 1 i j]mxE -ler_subl_addl sub0r; case/ler_normlP: (boxv i j); rewrite ler_oppl.
- by rewrite mxE ler01.
move/eqP; rewrite -subr_eq0 opprD addrA subrr sub0r oppr_eq0 scaler_eq0 invr_eq0 gt_eqF //=.
by rewrite -[u^T == 0](inj_eq trmx_inj) trmxK trmx0 (negPf u0).
Qed.

(* The biases serve a box, not the whole space: these two layers equal relu (1 - x) where
   |x| <= c, and differ from it at x = - (c + 1). *)
Example relu_network_outside_box (R : realFieldType) (c : R) (x := (- (c + 1))%:M : 'cV[R]_1)
    (net := [:: (1%:M, c%:M); (- 1%:M, (1 + c)%:M)] : seq (layer R 1)) : 0 <= c ->
  (forall a, `|a| <= c -> relu_net net a%:M = relu (- 1%:M *m a%:M + 1%:M)) /\
  relu_net net x != relu (- 1%:M *m x + 1%:M).
Proof.
move=> c0; have sD (a b : R) : a%:M + b%:M = (a + b)%:M :> 'M[R]_1 by rewrite raddfD.
have sN (a : R) : - 1%:M *m a%:M = (- a)%:M :> 'M[R]_1 by rewrite mulNmx mul1mx raddfN.
have max_pos (a : R) : 0 <= a -> Num.max 0 a = a by move/max_idPr.
have max_neg (a : R) : a <= 0 -> Num.max 0 a = 0 by move/max_idPl.
have reluE (a : R) : relu (a%:M : 'cV[R]_1) = (Num.max 0 a)%:M.
  by apply/matrixP => i j; rewrite !mxE !ord1 eqxx !mulr1n.
have netE (a : R) : relu_net net a%:M = (Num.max 0 (- Num.max 0 (a + c) + (1 + c)))%:M.
  by rewrite /= mul1mx sD reluE sN sD reluE.
have targetE (a : R) : relu (- 1%:M *m a%:M + 1%:M) = (Num.max 0 (- a + 1))%:M :> 'cV[R]_1.
  by rewrite sN sD reluE.
split=> [a /ler_normlP[le_Nac _]|].
  have ac0 : 0 <= a + c by rewrite -ler_subl_addl sub0r.
  by rewrite netE targetE (max_pos _ ac0) opprD addrACA addNr addr0.
have neg : - (c + 1) + c <= 0 by rewrite opprD addrAC addNr add0r oppr_le0 ler01.
have pos1 : 0 <= 1 + c by rewrite addr_ge0 ?ler01.
have pos2 : 0 <= c + 1 + 1 by rewrite !addr_ge0 ?ler01.
rewrite netE targetE opprK (max_neg _ neg) oppr0 add0r (max_pos _ pos1) (max_pos _ pos2).
apply/eqP => /matrixP/(_ ord0 ord0); rewrite !mxE eqxx !mulr1n [c + 1]addrC.
by move/eqP; rewrite -[X in X == _]addr0 (inj_eq (addrI _)) eq_sym oner_eq0.
Qed.

(* Rank 1 on each of two identities of size 2 reaches the product 0, although no half-way product
   on the way is invertible. *)
Example transformer_product_singular (F : fieldType) :
  (exists A' B' : 'M[F]_2,
     [/\ (\rank (A' - 1%:M)%R <= 1)%N, (\rank (B' - 1%:M)%R <= 1)%N & A' *m B' = 0]) /\
  forall T1 : 'M[F]_2, (\rank (0 - T1)%R <= 1)%N -> T1 \notin unitmx.
Proof.
split; last by have [_] := deep_linear_singular_targets F.
by apply/transformer_product; rewrite ?unitmx1 // rank_leq_row.
Qed.

(* Singular factors: from the product of the identity and 0 rank 1 does not reach the identity. *)
Example transformer_product_needs_unit (F : fieldType) :
  (\rank (1%:M - 1%:M *m 0 : 'M[F]_2)%R <= 2 * 1)%N /\
  ~ exists A' B' : 'M[F]_2,
      [/\ (\rank (A' - 1%:M)%R <= 1)%N, (\rank (B' - 0)%R <= 1)%N & A' *m B' = 1%:M].
Proof.
split=> [|[A' [B' [_ leB prod1]]]]; first exact: rank_leq_row.
have : (\rank (1%:M : 'M[F]_2) <= 1)%N.
  by rewrite -prod1 (leq_trans (mxrankM_maxr _ _)) // -[B']subr0.
by rewrite mxrank1.
Qed.

End Instances.
