(* Merging adapters: weighted sums of updates, averages of their factors, what dilution and interference
   do to a fact, which weights are best, what a mean over masks keeps.

   U i                 == the update of adapter i; B i *m A i where its two factors matter
   w i                 == its weight in a sum of updates
   b i, a i            == its weights in an average of the factors; [c i] where both are the same
   row_direct U        == the row spaces of the U i are independent (their sum is direct)
   col_direct U        == so are their column spaces, the row spaces of the transposes
   factor_merge b a B A == the factor average (\sum_i b i *: B i) *m (\sum_j a j *: A j)
   cross_terms b a B A == what it holds beside the own terms,
                          \sum_i \sum_(j | j != i) (b i * a j) *: (B i *m A j)
   best l z0           == z0 is the strict argmax of the logits l (a column, one entry for each answer)
   gap l z0 z          == l z0 - l z, by how much z0 beats its rival z: the gain of an update, the negative
                          of the deficit of the base
   weighting w         == the weights w are not negative and sum to one
   mask_chance p mask  == the chance of a mask that drops each coordinate with probability p
   mask_mx mask        == the diagonal matrix that applies it

   Traps: [\rank (\sum_i U i)] is read in scope MS, where the sum is one of row SPACES; the matrix sum is
   written [\rank (\sum_i U i)%R]. The spaces in [mxdirect (\sum_i <<U i>>)] are row spaces; column spaces
   need the transpose. A rank-0 update is independent of everything. [k%:R^-1] is 0, not an error, where
   k%:R = 0; over a realFieldType that is k = 0 alone. *)
From mathcomp Require Import all_ssreflect all_algebra.
From LoraLimits Require Import lowrank.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

Notation row_direct U := (mxdirect (\sum_i <<U i>>)).
Notation col_direct U := (mxdirect (\sum_i <<(U i)^T>>)).

(* ---- ranks ---- *)

Section DirectSum.
Variables (F : fieldType) (k n : nat).

(* Terms that come from independent row spaces cannot cancel. *)
Lemma direct_sum_eq0 p (r : 'I_k -> nat) (A : forall i, 'M[F]_(r i, n)) (V : 'I_k -> 'M[F]_(p, n)) :
  row_direct A -> (forall i, (V i <= A i)%MS) -> \sum_i V i = 0 -> forall i, V i = 0.
Proof.
move=> /mxdirect_sumsP dxA sVA V0 i; apply/eqP.
rewrite -submx0 -(dxA i isT) sub_capmx genmxE sVA /=.
have -> : V i = - (\sum_(j | j != i) V j).
  by apply/eqP; rewrite -addr_eq0; move: V0; rewrite (bigD1 i) //= => ->.
rewrite eqmx_opp.
by apply: summx_sub_sums => j _; rewrite genmxE sVA.
Qed.

End DirectSum.

(* Only independent updates keep all their ranks in the sum ... *)
Lemma mxrank_sum_row_direct (F : fieldType) (m n k : nat) (U : 'I_k -> 'M[F]_(m, n)) :
  \rank (\sum_i U i)%R = (\sum_i \rank (U i))%N -> row_direct U.
Proof.
move=> rankU; rewrite mxdirectEgeq /=.
rewrite (eq_bigr (fun i => \rank (U i))) => [|i _]; last exact: mxrank_gen.
by rewrite -rankU mxrankS // summx_sub_sums // => i _; rewrite genmxE.
Qed.

Section MergeRank.
Variables (F : fieldType) (m n k : nat).

Lemma mxrank_sum_leq (U : 'I_k -> 'M[F]_(m, n)) : (\rank (\sum_i U i)%R <= \sum_i \rank (U i))%N.
Proof.
elim/big_ind2: _ => [|M1 s1 M2 s2 le1 le2|//]; first by rewrite mxrank0.
exact: leq_trans (mxrank_add _ _) (leq_add le1 le2).
Qed.

Lemma mxrank_scale_neq0 (c : F) (M : 'M[F]_(m, n)) : c != 0 -> \rank (c *: M) = \rank M.
Proof. by move=> c0; rewrite (eqmx_scale M c0). Qed.

(* Claim merge_rank, the bound by the ranks of the updates themselves. Standard. *)
Theorem merge_rank_sum (w : 'I_k -> F) (U : 'I_k -> 'M[F]_(m, n)) :
  (\rank (\sum_i w i *: U i)%R <= \sum_i \rank (U i))%N.
Proof. by apply: leq_trans (mxrank_sum_leq _) _; apply: leq_sum => i _; apply: mxrank_scale. Qed.

(* Claim merge_rank, the bound: a weighted sum has at most the sum of the ranks of the factors. Ours. *)
Theorem merge_rank (r : 'I_k -> nat) (w : 'I_k -> F)
    (B : forall i, 'M[F]_(m, r i)) (A : forall i, 'M[F]_(r i, n)) :
  (\rank (\sum_i w i *: (B i *m A i))%R <= \sum_i r i)%N.
Proof.
apply: leq_trans (mxrank_sum_leq _) _; apply: leq_sum => i _.
by apply: leq_trans (mxrank_scale _ _) (leq_trans (mxrankM_maxl _ _) (rank_leq_col _)).
Qed.

(* ... and independent updates do: a row vector that the sum kills is killed by each of them. *)
Lemma mxrank_sum_direct (U : 'I_k -> 'M[F]_(m, n)) :
  row_direct U -> col_direct U -> \rank (\sum_i U i)%R = (\sum_i \rank (U i))%N.
Proof.
move=> dxR dxC; apply/eqP; rewrite eqn_leq mxrank_sum_leq /=.
set C : 'M[F]_m := (\sum_i <<(U i)^T>>)%MS.
have rankC : \rank C = (\sum_i \rank (U i))%N.
  by move/mxdirectP: dxC => /= ->; apply: eq_bigr => i _; rewrite mxrank_gen mxrank_tr.
set S := (\sum_i U i)%R; have kerS i : kermx S *m U i = 0.
  apply: (direct_sum_eq0 dxR (V := fun i => kermx S *m U i)) => [j|]; first exact: submxMl.
  by rewrite -mulmx_sumr mulmx_ker.
have sCK : (C <= kermx (kermx S)^T)%MS.
  apply/sumsmx_subP => i _; rewrite genmxE; apply/sub_kermxP.
  by rewrite -trmx_mul kerS trmx0.
have := mxrankS sCK; rewrite mxrank_ker mxrank_tr mxrank_ker rankC.
by rewrite subKn // rank_leq_row.
Qed.

(* Claim merge_rank, the equality: the rank of the sum is the sum of the ranks exactly when the row
   spaces and the column spaces are independent. Ours. *)
Theorem merge_rank_eq (w : 'I_k -> F) (U : 'I_k -> 'M[F]_(m, n)) : (forall i, w i != 0) ->
  \rank (\sum_i w i *: U i)%R = (\sum_i \rank (U i))%N <-> row_direct U /\ col_direct U.
Proof.
move=> w0.
have rankw : (\sum_i \rank (w i *: U i) = \sum_i \rank (U i))%N.
  by apply: eq_bigr => i _; apply: mxrank_scale_neq0.
have rowE : row_direct (fun i => w i *: U i) = row_direct U.
  rewrite !mxdirectE /=; congr (\rank _ == _); apply: eq_bigr => i _.
    exact/eq_genmx/eqmx_scale.
  by rewrite !mxrank_gen mxrank_scale_neq0.
have colE : col_direct (fun i => w i *: U i) = col_direct U.
  rewrite !mxdirectE /=; congr (\rank _ == _); apply: eq_bigr => i _.
    by apply: eq_genmx; rewrite linearZ; apply: eqmx_scale.
  by rewrite !mxrank_gen !mxrank_tr mxrank_scale_neq0.
rewrite -rankw -rowE -colE; split=> [rankS | [dxR dxC]]; last exact: mxrank_sum_direct.
split; first exact: mxrank_sum_row_direct.
apply: mxrank_sum_row_direct; rewrite -linear_sum mxrank_tr rankS.
by apply: eq_bigr => i _; rewrite mxrank_tr.
Qed.

End MergeRank.

Section MergeFactors.
Variables (F : fieldType) (m n k : nat) (r : 'I_k -> nat) (w : 'I_k -> F).
Variables (B : forall i, 'M[F]_(m, r i)) (A : forall i, 'M[F]_(r i, n)).

(* Claim merge_rank, for adapters that use their whole rank: the sum of the r i is reached exactly when
   the column spaces of the B i are independent and the row spaces of the A i are. Ours. *)
Theorem merge_rank_factors : (forall i, w i != 0) ->
    (forall i, \rank (B i) = r i) -> (forall i, \rank (A i) = r i) ->
  \rank (\sum_i w i *: (B i *m A i))%R = (\sum_i r i)%N <-> row_direct A /\ col_direct B.
Proof.
move=> w0 rankB rankA.
have fullB i : row_full (B i) by rewrite /row_full rankB.
have freeA i : row_free (A i) by rewrite /row_free rankA.
have rankBA i : \rank (B i *m A i) = r i by rewrite mxrankMfree.
have := @merge_rank_eq F m n k w (fun i => B i *m A i) w0.
rewrite (eq_bigr (fun i => r i)) => [-> | i _]; last exact: rankBA.
have -> : row_direct (fun i => B i *m A i) = row_direct A.
  rewrite !mxdirectE /=; congr (\rank _ == _); apply: eq_bigr => i _.
    exact/eq_genmx/eqmxMfull.
  by rewrite !mxrank_gen rankBA rankA.
suff -> : col_direct (fun i => B i *m A i) = col_direct B by [].
rewrite !mxdirectE /=; congr (\rank _ == _); apply: eq_bigr => i _.
  apply: eq_genmx; rewrite trmx_mul; apply: eqmxMfull.
  by rewrite /row_full mxrank_tr rankA.
by rewrite !mxrank_gen !mxrank_tr rankBA rankB.
Qed.

End MergeFactors.

Section MergeTruncate.
Variables (F : fieldType) (m n k : nat).

(* Claim merge_rank, truncation: a rank-r stand-in for the sum of independent updates misses it by a
   matrix of rank at least (sum of the ranks) - r, so it is never exact below the sum of the ranks. How
   much norm that costs is the tail of eckart_young. Ours. *)
Theorem merge_rank_truncate (r : nat) (w : 'I_k -> F) (U : 'I_k -> 'M[F]_(m, n)) (M : 'M[F]_(m, n)) :
    (forall i, w i != 0) -> row_direct U -> col_direct U -> (\rank M <= r)%N ->
  (\sum_i \rank (U i) - r <= \rank (\sum_i w i *: U i - M)%R)%N.
Proof.
move=> w0 dxR dxC rankM; set S := (\sum_i w i *: U i)%R.
have rankS : \rank S = (\sum_i \rank (U i))%N by apply/(merge_rank_eq U w0).
rewrite -rankS leq_subLR addnC; apply: leq_trans (leq_add (leqnn _) rankM).
by rewrite -{1}[S](subrK M); apply: mxrank_add.
Qed.

End MergeTruncate.

(* Worked instance: k updates, each on its own row and column, keep all their ranks: the sum is the
   identity. *)
Example merge_rank_diagonal k :
  \rank (\sum_(i < k) (delta_mx i i : 'M[rat]_k))%R = (\sum_(i < k) \rank (delta_mx i i : 'M[rat]_k))%N.
Proof.
rewrite -mx1_sum_delta mxrank1 (eq_bigr (fun=> 1%N)) ?sum_nat_const ?card_ord ?muln1 // => i _.
exact: mxrank_delta.
Qed.

(* Independent row spaces are not enough: two updates that write one output from different features. *)
Example merge_rank_col_needed (U := fun i : 'I_2 => delta_mx 0 i : 'M[rat]_(1, 2)) :
  row_direct U /\ (\rank (\sum_i U i)%R < \sum_i \rank (U i))%N.
Proof.
split; first exact: (mxdirect_delta _ (in2W (@inj_id _))).
apply: leq_ltn_trans (rank_leq_row _) _.
by rewrite !big_ord_recl big_ord0 /U !mxrank_delta.
Qed.

(* Independent column spaces are not enough: two updates that read one feature into different outputs. *)
Example merge_rank_row_needed (U := fun i : 'I_2 => delta_mx i 0 : 'M[rat]_(2, 1)) :
  col_direct U /\ (\rank (\sum_i U i)%R < \sum_i \rank (U i))%N.
Proof.
split.
  have -> : col_direct U = row_direct (fun i : 'I_2 => delta_mx 0 i : 'M[rat]_(1, 2)).
    rewrite !mxdirectE /=; congr (\rank _ == _); apply: eq_bigr => i _; first by rewrite trmx_delta.
    by rewrite !mxrank_gen mxrank_tr !mxrank_delta.
  exact: (mxdirect_delta _ (in2W (@inj_id _))).
apply: leq_ltn_trans (rank_leq_col _) _.
by rewrite !big_ord_recl big_ord0 /U !mxrank_delta.
Qed.

(* A weight 0 drops its update, however independent it is. *)
Example merge_rank_weight_needed (U : 'M[rat]_1) : U = 1 ->
  \rank (\sum_(i < 1) 0 *: U)%R != (\sum_(i < 1) \rank U)%N.
Proof. by move=> ->; rewrite !big_ord1 scale0r mxrank0 mxrank1. Qed.

(* ---- averages of factors ---- *)

Definition factor_merge (F : fieldType) m n r k (b a : 'I_k -> F) (B : 'I_k -> 'M[F]_(m, r))
  (A : 'I_k -> 'M[F]_(r, n)) : 'M[F]_(m, n) := (\sum_i b i *: B i) *m (\sum_j a j *: A j).

Definition cross_terms (F : fieldType) m n r k (b a : 'I_k -> F) (B : 'I_k -> 'M[F]_(m, r))
  (A : 'I_k -> 'M[F]_(r, n)) : 'M[F]_(m, n) := \sum_i \sum_(j | j != i) (b i * a j) *: (B i *m A j).

Section FactorAverage.
Variables (F : fieldType) (m n r k : nat).
Implicit Types (b a c w : 'I_k -> F) (B : 'I_k -> 'M[F]_(m, r)) (A : 'I_k -> 'M[F]_(r, n)).

Lemma factor_mergeE b a B A :
  factor_merge b a B A = \sum_i (b i * a i) *: (B i *m A i) + cross_terms b a B A.
Proof.
rewrite /factor_merge mulmx_suml -big_split; apply: eq_bigr => i _ /=.
rewrite mulmx_sumr (bigD1 i) //=; congr (_ + _); last apply: eq_bigr => j _.
  by rewrite -scalemxAl -scalemxAr scalerA.
by rewrite -scalemxAl -scalemxAr scalerA.
Qed.

(* Claim factor_average, the identity: one set of weights for both factors. Ours. *)
Theorem factor_average c B A :
  (\sum_i c i *: B i) *m (\sum_j c j *: A j) =
  \sum_i (c i) ^+ 2 *: (B i *m A i) + \sum_i \sum_(j | j != i) (c i * c j) *: (B i *m A j).
Proof.
have := factor_mergeE c c B A; rewrite /factor_merge /cross_terms => ->.
by under eq_bigr do rewrite -expr2.
Qed.

(* Claim factor_average, square-root weights (b i * a i = w i covers peft's sign on one side): the own
   terms are exactly right, and the error is the cross terms. Ours. *)
Theorem factor_average_sqrt b a w B A : (forall i, b i * a i = w i) ->
  factor_merge b a B A - \sum_i w i *: (B i *m A i) = cross_terms b a B A.
Proof.
move=> baw; rewrite factor_mergeE (eq_bigr (fun i => w i *: (B i *m A i))) => [|i _]; last by rewrite baw.
by rewrite addrC addKr.
Qed.

(* Claim factor_average, the plain convention with weights 1/k: of each update 1/k^2 is kept, 1/k of its
   share in the mean of the updates, and k (k - 1) cross terms come in with the same weight. Ours. *)
Theorem factor_average_plain B A (q := k%:R^-1 : F) :
  factor_merge (fun=> q) (fun=> q) B A =
    q ^+ 2 *: (\sum_i B i *m A i) + q ^+ 2 *: (\sum_i \sum_(j | j != i) B i *m A j) /\
  q ^+ 2 *: (\sum_i B i *m A i) = q *: (q *: (\sum_i B i *m A i)).
Proof.
split; last by rewrite scalerA expr2.
rewrite factor_mergeE -expr2 -scaler_sumr; congr (_ + _); rewrite /cross_terms scaler_sumr.
by apply: eq_bigr => i _; rewrite scaler_sumr -expr2.
Qed.

Lemma row_block_eq0 B (V : 'I_k -> 'M[F]_(r, n)) :
  col_direct B -> \sum_i B i *m V i = 0 -> forall i, B i *m V i = 0.
Proof.
move=> dxB BV0 i; apply: trmx_inj; rewrite trmx0.
apply: (direct_sum_eq0 dxB (V := fun i => (B i *m V i)^T)) => [j|].
  by rewrite trmx_mul submxMl.
by rewrite -linear_sum BV0 linear0.
Qed.

(* Claim factor_average, exactness: with independent column spaces of the B i and independent row spaces
   of the A j the cross terms cannot cancel; they vanish exactly when each of them is zero. Ours. *)
Theorem factor_average_exact b a B A : row_direct A -> col_direct B ->
  cross_terms b a B A = 0 <-> forall i j, j != i -> b i * a j = 0 \/ B i *m A j = 0.
Proof.
move=> dxA dxB; split=> [cross0 i j ji | zero]; last first.
  apply: big1 => i _; apply: big1 => j ji.
  by have [-> | ->] := zero i j ji; rewrite ?scale0r ?scaler0.
pose V j := if j != i then (b i * a j) *: (B i *m A j) else 0.
have sumV : \sum_j V j = 0.
  have -> : \sum_j V j = B i *m \sum_(j | j != i) (b i * a j) *: A j.
    rewrite mulmx_sumr [RHS]big_mkcond; apply: eq_bigr => l _.
    by rewrite /V; case: ifP => // _; rewrite scalemxAr.
  apply: (row_block_eq0 (V := fun i => \sum_(j | j != i) (b i * a j) *: A j) dxB).
  rewrite -[RHS]cross0; apply: eq_bigr => l _; rewrite mulmx_sumr.
  by apply: eq_bigr => j' _; rewrite scalemxAr.
have sVA l : (V l <= A l)%MS.
  by rewrite /V; case: ifP => _; rewrite ?sub0mx // scalemx_sub // submxMl.
have := direct_sum_eq0 dxA sVA sumV j; rewrite /V ji => /eqP.
by rewrite scaler_eq0 => /orP[/eqP | /eqP]; [left | right].
Qed.

(* The same for adapters of full column rank with no weight 0: two or more of them always leave an error. *)
Theorem factor_average_neq0 b a B A : (1 < k)%N -> row_direct A -> col_direct B ->
    (forall i, b i != 0) -> (forall j, a j != 0) ->
    (forall i, \rank (B i) = r) -> (forall j, A j != 0) ->
  cross_terms b a B A != 0.
Proof.
move=> k1 dxA dxB b0 a0 fullB A0; apply/eqP => /(factor_average_exact b a dxA dxB) zero.
have k0 : (0 < k)%N by apply: leq_trans k1.
have [|/eqP|BA0] := zero (Ordinal k0) (Ordinal k1); first by [].
  by rewrite mulf_eq0 (negbTE (b0 _)) (negbTE (a0 _)).
have := A0 (Ordinal k1); have fB : row_full (B (Ordinal k0)) by rewrite /row_full fullB.
by rewrite (row_full_inj fB (etrans BA0 (esym (mulmx0 _ _)))) eqxx.
Qed.

(* With full column ranks the rows need not be independent, if the field does not divide k - 1: the
   cross terms of independent column spaces vanish only if the A j themselves do. *)
Theorem factor_average_col_direct b a B A : (k.-1)%:R != 0 :> F -> col_direct B ->
    (forall i, b i != 0) -> (forall i, \rank (B i) = r) ->
  cross_terms b a B A = 0 <-> forall j, a j *: A j = 0.
Proof.
move=> k1 dxB b0 fullB; pose T := \sum_j a j *: A j; split=> [cross0 | aA0]; last first.
  apply: big1 => i _; apply: big1 => j _.
  by rewrite -scalerA scalemxAr aA0 mulmx0 scaler0.
have aAT i : a i *: A i = T.
  have fB : row_full (B i) by rewrite /row_full fullB.
  have BV0 : B i *m (b i *: (T - a i *: A i)) = 0.
    apply: (row_block_eq0 (V := fun i => b i *: (T - a i *: A i)) dxB).
    rewrite -[RHS]cross0; apply: eq_bigr => l _; rewrite /T (bigD1 l) //= addrC addKr.
    rewrite scaler_sumr mulmx_sumr; apply: eq_bigr => j _.
    by rewrite !scalerA -scalemxAr.
  have := row_full_inj fB (etrans BV0 (esym (mulmx0 _ _))).
  by move/eqP; rewrite scaler_eq0 (negbTE (b0 i)) subr_eq0 => /eqP.
have kT : T = k%:R *: T.
  rewrite {1}/T (eq_bigr (fun=> T)) => [|j _]; last exact: aAT.
  by rewrite sumr_const card_ord scaler_nat.
suff T0 : T = 0 by move=> j; rewrite aAT.
have k0 : (0 < k)%N by case: (k) k1 => //=; rewrite eqxx.
have: (k.-1)%:R *: T = 0.
  apply: (addrI T); rewrite addr0 {3}kT -{1}[T]scale1r -scalerDl -[1]/(1%:R) -natrD.
  by rewrite add1n prednK.
by move/eqP; rewrite scaler_eq0 (negbTE k1) => /eqP.
Qed.

(* Claim factor_average, rank: the factor average has rank at most r, so for independent updates it
   misses their weighted sum by a matrix of rank at least (sum of the ranks) - r, whatever its weights.
   Ours. *)
Theorem factor_average_rank b a w B A : (forall i, w i != 0) ->
    row_direct (fun i => B i *m A i) -> col_direct (fun i => B i *m A i) ->
  (\sum_i \rank (B i *m A i) - r <= \rank (\sum_i w i *: (B i *m A i) - factor_merge b a B A)%R)%N.
Proof.
move=> w0 dxR dxC; apply: merge_rank_truncate => //.
by apply: leq_trans (mxrankM_maxl _ _) (rank_leq_col _).
Qed.

End FactorAverage.

(* The average depends on the factors and not on the updates alone: (B T, T^-1 A) in place of one (B, A)
   leaves every update as it is and changes their average. *)
Theorem factor_average_gauge (R : realFieldType) :
  exists (B A : 'I_2 -> 'M[R]_1) (T : 'M[R]_1), T \in unitmx /\
    let B' i := if i == 0 then B i *m T else B i in
    let A' i := if i == 0 then invmx T *m A i else A i in
    let q := 2%:R^-1 in
    (forall i, B' i *m A' i = B i *m A i) /\
    factor_merge (fun=> q) (fun=> q) B' A' != factor_merge (fun=> q) (fun=> q) B A.
Proof.
have two0 : 2%:R != 0 :> R by rewrite pnatr_eq0.
have unitT : (2%:R%:M : 'M[R]_1) \in unitmx by rewrite unitmxE det_scalar1 unitfE.
exists (fun=> 1%:M), (fun=> 1%:M), 2%:R%:M; split=> // B' A' q; split=> [i|].
  by rewrite /B' /A'; case: eqP => // _; rewrite mul1mx !mulmx1 mulmxV.
rewrite /factor_merge /B' /A' !big_ord_recl !big_ord0 /= !addr0 !mul1mx !mulmx1 invmx_scalar.
have q2 : q * 2%:R = 1 by rewrite mulVf.
rewrite !scale_scalar_mx -!raddfD /= -!scalar_mxM q2 !mulr1 -mulr2n -[q *+ 2]mulr_natr q2 mulr1.
apply/eqP => /matrixP/(_ 0 0); rewrite !mxE !eqxx !mulr1n => /(congr1 ( *%R 8%:R)).
have -> : 8%:R * ((1 + q) * (q * 2%:R^-1 + q)) = 9%:R.
  have three : 2%:R * (1 + q) = 3%:R by rewrite mulrDr mulr1 [_ * q]mulrC q2 -(natrD _ 2 1).
  have -> : q * 2%:R^-1 + q = q * (1 + q) by rewrite mulrDr mulr1 addrC.
  have -> : 8%:R = 2%:R * (2%:R * 2%:R) :> R by rewrite -!natrM.
  by rewrite [(1 + q) * _]mulrCA mulrACA [(2%:R * 2%:R) * _]mulrACA [2%:R * q]mulrC q2 mul1r three -natrM.
by rewrite mulr1 => /eqP; rewrite eqr_nat.
Qed.

(* Two orthogonal adapters in the plain convention: 1/4 of each is kept, and each reads the feature of
   the other. *)
Example factor_average_two (B A : 'I_2 -> 'M[rat]_(2, 2)) (q := (2%:R^-1 : rat)) :
    (forall i, B i = delta_mx i 0) -> (forall i, A i = delta_mx 0 i) ->
  factor_merge (fun=> q) (fun=> q) B A = const_mx (4%:R^-1).
Proof.
move=> defB defA; apply/matrixP => i j.
rewrite /factor_merge !big_ord_recl !big_ord0 !mxE !big_ord_recl big_ord0 !mxE !defB !defA !mxE /q.
by case: i => [[|[|//]] ?]; case: j => [[|[|//]] ?].
Qed.

(* Independent column spaces are not enough where the B i lack full column rank: three rank-one adapters
   whose cross terms are not 0 but cancel (all A j live in one dimension). *)
Example factor_average_row_needed
    (B := fun i : 'I_3 => delta_mx i i : 'M[rat]_3)
    (A := fun j : 'I_3 => \col_i (if i == j then 0 else if i + 1 == j then 1 else -1) : 'cV[rat]_3) :
  [/\ col_direct B, cross_terms (fun=> 1) (fun=> 1) B A = 0 & B 0 *m A 1 != 0].
Proof.
split; last 1 first.
- apply/eqP => /matrixP /(_ 0 0).
  by rewrite !mxE !big_ord_recl big_ord0 !mxE /=; apply/eqP.
- have -> : col_direct B = row_direct (fun i : 'I_3 => delta_mx 0 i : 'M[rat]_(1, 3)).
    rewrite !mxdirectE /=; congr (\rank _ == _); apply: eq_bigr => i _.
      apply/eq_genmx/eqmxP; rewrite /B trmx_delta; apply/andP; split.
        by rewrite -(mul_delta_mx (0 : 'I_1)) submxMl.
      by rewrite -(mul_delta_mx i) submxMl.
    by rewrite !mxrank_gen mxrank_tr !mxrank_delta.
  exact: (mxdirect_delta _ (in2W (@inj_id _))).
apply/matrixP => i j; rewrite /cross_terms !big_ord_recl !big_ord0.
by do 3![rewrite big_mkcond !big_ord_recl big_ord0]; rewrite !mxE !big_ord_recl !big_ord0 !mxE;
  case: i => [[|[|[|//]]] ?].
Qed.

(* Nor are independent row spaces: the transposed adapters, all B i in one dimension. *)
Example factor_average_col_needed
    (A := fun i : 'I_3 => delta_mx i i : 'M[rat]_3)
    (B := fun j : 'I_3 => \row_i (if i == j then 0 else if i + 1 == j then 1 else -1) : 'rV[rat]_3) :
  [/\ row_direct A, cross_terms (fun=> 1) (fun=> 1) B A = 0 & B 1 *m A 0 != 0].
Proof.
split; last 1 first.
- apply/eqP => /matrixP /(_ 0 0).
  by rewrite !mxE !big_ord_recl big_ord0 !mxE /=; apply/eqP.
- have -> : row_direct A = row_direct (fun i : 'I_3 => delta_mx 0 i : 'M[rat]_(1, 3)).
    rewrite !mxdirectE /=; congr (\rank _ == _); apply: eq_bigr => i _.
      apply/eq_genmx/eqmxP; rewrite /A; apply/andP; split.
        by rewrite -(mul_delta_mx (0 : 'I_1)) submxMl.
      by rewrite -(mul_delta_mx i) submxMl.
    by rewrite !mxrank_gen !mxrank_delta.
  exact: (mxdirect_delta _ (in2W (@inj_id _))).
apply/matrixP => i j; rewrite /cross_terms !big_ord_recl !big_ord0.
by do 3![rewrite big_mkcond !big_ord_recl big_ord0]; rewrite !mxE !big_ord_recl !big_ord0 !mxE;
  case: j => [[|[|[|//]]] ?].
Qed.

(* Where the field divides k - 1, equal A j cancel: three adapters over F_2. *)
Example factor_average_char_needed (B := fun i : 'I_3 => delta_mx i 0 : 'cV['F_2]_3) :
  cross_terms (fun=> 1) (fun=> 1) B (fun=> 1%:M) = 0.
Proof.
rewrite /cross_terms; apply: big1 => i _.
rewrite (eq_bigr (fun=> B i)) => [|j _]; last by rewrite mulr1 scale1r mulmx1.
by rewrite sumr_const cardC1 card_ord -scaler_nat (_ : 2%:R = 0) ?scale0r //; apply: val_inj.
Qed.

(* ---- the size of the error ---- *)

(* Orthogonal adapters, what independent random ones are on average: the products B i *m A j, all k^2 of
   them, are pairwise orthogonal in the Frobenius inner product and have one norm, frob2 = nu. *)
Section OrthogonalAdapters.
Variables (R : realFieldType) (m n r k : nat) (nu : R).
Variables (B : 'I_k -> 'M[R]_(m, r)) (A : 'I_k -> 'M[R]_(r, n)).
Let orthogonal := forall i j i' j', (i, j) != (i', j') -> \tr (B i *m A j *m (B i' *m A j')^T) = 0.
Let one_norm := forall i j, frob2 (B i *m A j) = nu.

Lemma frob2_pairs (e : 'I_k -> 'I_k -> R) : orthogonal -> one_norm ->
  frob2 (\sum_i \sum_j e i j *: (B i *m A j)) = nu * \sum_i \sum_j e i j ^+ 2.
Proof.
move=> orth norm; rewrite !pair_bigA /= frob2_mxtrace linear_sum mulmx_suml linear_sum mulr_sumr.
apply: eq_bigr => p _; rewrite mulmx_sumr linear_sum (bigD1 p) //= big1 ?addr0 => [|p' p'p].
  by rewrite -frob2_mxtrace frob2Z norm mulrC.
rewrite linearZ /= -scalemxAl -scalemxAr !mxtraceZ orth ?mulr0 //.
by rewrite -!surjective_pairing eq_sym.
Qed.

Lemma diagonal_pairs (w : R) :
  \sum_i w *: (B i *m A i) = \sum_i \sum_j (w *+ (i == j)) *: (B i *m A j).
Proof.
apply: eq_bigr => i _; rewrite (bigD1 i) //= eqxx big1 ?addr0 // => j /negbTE ji.
by rewrite eq_sym ji scale0r.
Qed.

Lemma factor_error_pairs (c w : R) :
  factor_merge (fun=> c) (fun=> c) B A - \sum_i w *: (B i *m A i) =
  \sum_i \sum_j (c ^+ 2 - w *+ (i == j)) *: (B i *m A j).
Proof.
rewrite diagonal_pairs /factor_merge mulmx_suml -sumrB; apply: eq_bigr => i _.
rewrite mulmx_sumr -sumrB; apply: eq_bigr => j _.
by rewrite -scalemxAl -scalemxAr scalerA scalerBl.
Qed.

Lemma sum_row_sqr (x y : R) (i : 'I_k) :
  \sum_j (x - y *+ (i == j)) ^+ 2 = (x - y) ^+ 2 + (k.-1)%:R * x ^+ 2.
Proof.
rewrite (bigD1 i) //= eqxx; congr (_ + _).
rewrite (eq_bigr (fun=> x ^+ 2)) => [|j /negbTE ji]; last by rewrite eq_sym ji subr0.
by rewrite sumr_const cardC1 card_ord mulr_natl.
Qed.

Lemma sum_diag_sqr (y : R) (i : 'I_k) : \sum_j (y *+ (i == j)) ^+ 2 = y ^+ 2.
Proof.
rewrite (bigD1 i) //= eqxx big1 ?addr0 // => j /negbTE ji.
by rewrite eq_sym ji expr0n.
Qed.

(* Claim factor_average, square-root weights: if all products of factors are orthogonal and of one norm,
   the error of equal weights is sqrt(k - 1) of the true sum (squared: k - 1 times). Ours. *)
Theorem factor_average_sqrt_error (c w : R) : orthogonal -> one_norm -> c ^+ 2 = w ->
  frob2 (factor_merge (fun=> c) (fun=> c) B A - \sum_i w *: (B i *m A i)) =
  (k.-1)%:R * frob2 (\sum_i w *: (B i *m A i)).
Proof.
move=> orth norm cw; rewrite factor_error_pairs cw diagonal_pairs !frob2_pairs // mulrCA; congr (_ * _).
rewrite mulr_sumr; apply: eq_bigr => i _; rewrite sum_diag_sqr sum_row_sqr.
by rewrite subrr expr0n add0r.
Qed.

(* Claim factor_average, weights 1/k on each factor: if all products of factors are orthogonal and of
   one norm, the error is sqrt(1 - 1/k) of the true mean: 0.71, 0.82, 0.87 at k = 2, 3, 4. Ours. *)
Theorem factor_average_plain_error (q := k%:R^-1 : R) : (0 < k)%N -> orthogonal -> one_norm ->
  frob2 (factor_merge (fun=> q) (fun=> q) B A - \sum_i q *: (B i *m A i)) =
  (1 - q) * frob2 (\sum_i q *: (B i *m A i)).
Proof.
move=> k_gt0 orth norm; rewrite factor_error_pairs diagonal_pairs !frob2_pairs // mulrCA; congr (_ * _).
rewrite mulr_sumr; apply: eq_bigr => i _.
rewrite sum_row_sqr sum_diag_sqr.
have kq : (k.-1)%:R * q = 1 - q.
  have k0 : k%:R != 0 :> R by rewrite pnatr_eq0 -lt0n.
  by rewrite -{1}subn1 natrB // mulrBl mul1r divff.
have -> : q ^+ 2 - q = - (1 - q) * q by rewrite expr2 mulNr mulrBl mul1r opprB.
have -> : (q ^+ 2) ^+ 2 = q * (q * q ^+ 2) by rewrite -exprM -!exprS.
rewrite mulrA kq exprMn sqrrN [(1 - q) ^+ 2]expr2 -mulrA -mulrDr -mulrDl.
by rewrite subrK mul1r.
Qed.

End OrthogonalAdapters.

(* Such adapters exist: adapter i reads feature i and writes output i. *)
Example orthogonal_adapters k (B := fun i : 'I_k => delta_mx i 0 : 'cV[rat]_k)
    (A := fun j : 'I_k => delta_mx 0 j : 'rV[rat]_k) :
  (forall i j i' j', (i, j) != (i', j') -> \tr (B i *m A j *m (B i' *m A j')^T) = 0) /\
  (forall i j, frob2 (B i *m A j) = 1).
Proof.
split=> [i j i' j' ne | i j]; rewrite /B /A ?frob2_mxtrace !mul_delta_mx trmx_delta mul_delta_mx_cond.
  have [jj' | _] := eqVneq j j'; last by rewrite mulr0n mxtrace0.
  rewrite mulr1n /mxtrace big1 // => l _; rewrite mxE; have [li | //] := eqVneq l i.
  by have [li' | //] := eqVneq l i'; rewrite -li -li' jj' eqxx in ne.
rewrite eqxx mulr1n /mxtrace (bigD1 i) //= mxE eqxx big1 ?addr0 // => l /negbTE li.
by rewrite mxE li.
Qed.

(* ---- dilution: what a uniform mean keeps of an edit ---- *)

Definition gap (R : realFieldType) m (l : 'cV[R]_m) (z0 z : 'I_m) : R := l z0 0 - l z 0.

Definition best (R : realFieldType) m (l : 'cV[R]_m) (z0 : 'I_m) : bool :=
  [forall z, (z != z0) ==> (l z 0 < l z0 0)].

Section Logits.
Variables (R : realFieldType) (m : nat) (z0 : 'I_m).
Implicit Types l : 'cV[R]_m.

Lemma bestP l : reflect (forall z, z != z0 -> 0 < gap l z0 z) (best l z0).
Proof.
apply: (iffP forallP) => [win z z_z0 | win z]; last first.
  by apply/implyP => z_z0; rewrite -subr_gt0; apply: win.
by rewrite /gap subr_gt0; apply: (implyP (win z)).
Qed.

Lemma gapD l1 l2 z : gap (l1 + l2) z0 z = gap l1 z0 z + gap l2 z0 z.
Proof. by rewrite /gap !mxE opprD addrACA. Qed.

Lemma gapZ c l z : gap (c *: l) z0 z = c * gap l z0 z.
Proof. by rewrite /gap !mxE mulrBr. Qed.

Lemma gap0 z : gap (0 : 'cV[R]_m) z0 z = 0.
Proof. by rewrite /gap !mxE subrr. Qed.

Lemma gap_sum (I : Type) (s : seq I) (P : pred I) (l : I -> 'cV[R]_m) z :
  gap (\sum_(i <- s | P i) l i) z0 z = \sum_(i <- s | P i) gap (l i) z0 z.
Proof.
elim: s => [|i s IHs]; first by rewrite !big_nil gap0.
by rewrite !big_cons; case: ifP => // _; rewrite gapD IHs.
Qed.

(* A share 1/c of an update beats a rival exactly if its gain beats c times the deficit. *)
Lemma gap_diluted (c : R) l own z : 0 < c ->
  (0 < gap (l + c^-1 *: own) z0 z) = (c * - gap l z0 z < gap own z0 z).
Proof.
move=> c0; rewrite gapD gapZ -(ltr_pmul2l c0) mulr0 mulrDr mulVKf ?gt_eqF //.
by rewrite mulrN -[RHS]subr_gt0 opprK addrC.
Qed.

(* An edit that works at full strength works at a share 1/c of it exactly if its gain beats c times the
   deficit wherever there is a deficit. *)
Lemma best_diluted (c : R) (l own : 'cV[R]_m) : 1 <= c -> best (l + own) z0 ->
  best (l + c^-1 *: own) z0 <-> forall z, z != z0 -> 0 < - gap l z0 z -> c * - gap l z0 z < gap own z0 z.
Proof.
move=> c1 /bestP works; have c0 : 0 < c := lt_le_trans ltr01 c1.
split=> [/bestP kept z z_z0 _ | kept]; first by rewrite -gap_diluted ?kept.
apply/bestP => z z_z0; rewrite gap_diluted //; have [d0 | d0] := ltP 0 (- gap l z0 z); first exact: kept.
apply: le_lt_trans (_ : _ <= - gap l z0 z) _.
  by rewrite -subr_ge0 -{1}[- gap l z0 z]mul1r -mulrBl mulr_le0 // subr_le0.
by rewrite -subr_gt0 opprK addrC -gapD; apply: works.
Qed.

End Logits.

Section Dilution.
Variables (R : realFieldType) (m d n k : nat).
Variables (E : 'M[R]_(m, d)) (h : 'cV[R]_d) (key : 'cV[R]_n) (i : 'I_k) (z0 : 'I_m).

(* [h] is the base's hidden state at the prompt, [key] the feature that the adapted matrix reads there,
   [E] the read-out: the base has the logits E *m h, the update U adds E *m (U *m key). *)
Let deficit z := - gap (E *m h) z0 z.

Lemma natr_k_ge1 : 1 <= k%:R :> R.
Proof. by rewrite ler1n (leq_ltn_trans _ (ltn_ord i)). Qed.

(* Claim dilution, the mean of updates: if the other updates leave the key alone, the uniform mean of k
   updates keeps an edit that works by itself exactly if for every rival with a positive deficit the
   gain beats k times the deficit. Ours. *)
Theorem dilution (U : 'I_k -> 'M[R]_(d, n)) :
    (forall j, j != i -> U j *m key = 0) -> best (E *m (h + U i *m key)) z0 ->
  best (E *m (h + (k%:R^-1 *: (\sum_j U j)) *m key)) z0 <->
  forall z, z != z0 -> 0 < deficit z -> k%:R * deficit z < gap (E *m (U i *m key)) z0 z.
Proof.
move=> alone works.
have -> : (k%:R^-1 *: (\sum_j U j)) *m key = k%:R^-1 *: (U i *m key).
  rewrite -scalemxAl mulmx_suml (bigD1 i) //= big1 ?addr0 // => j; exact: alone.
rewrite !mulmxDr -scalemxAr in works *; exact: best_diluted natr_k_ge1 works.
Qed.

Variables (r : nat) (B : 'I_k -> 'M[R]_(d, r)) (A : 'I_k -> 'M[R]_(r, n)).

(* What the factor average of weights 1/k adds to the logits at the key: the own update, and what the
   other adapters write from the feature that adapter i reads. *)
Let own := E *m (B i *m A i *m key).
Let cross := E *m (\sum_(j | j != i) B j *m A i *m key).
Let merged := factor_merge (fun=> k%:R^-1) (fun=> k%:R^-1) B A.

Lemma factor_merge_key : (forall j, j != i -> A j *m key = 0) ->
  E *m (h + merged *m key) = E *m h + (k%:R ^+ 2)^-1 *: (own + cross).
Proof.
move=> alone; rewrite mulmxDr; congr (_ + _).
rewrite /merged /factor_merge -!scaler_sumr -scalemxAl -scalemxAr scalerA -expr2 exprVn.
rewrite -scalemxAl -scalemxAr; congr (_ *: _).
have Akey : (\sum_j A j) *m key = A i *m key.
  by rewrite mulmx_suml (bigD1 i) //= big1 ?addr0 // => j; apply: alone.
rewrite -mulmxA Akey -[own + cross]mulmxDr mulmx_suml (bigD1 i) //= mulmxA.
by congr (E *m (_ + _)); apply: eq_bigr => j _; rewrite mulmxA.
Qed.

(* Claim dilution, the average of factors, exactly: the own gain counts 1/k^2, and so do the cross
   terms. Ours. *)
Theorem dilution_factor : (forall j, j != i -> A j *m key = 0) ->
  best (E *m (h + merged *m key)) z0 <->
  forall z, z != z0 -> k%:R ^+ 2 * deficit z < gap own z0 z + gap cross z0 z.
Proof.
move=> alone; have k2 : 0 < k%:R ^+ 2 :> R by rewrite exprn_gt0 // (lt_le_trans ltr01 natr_k_ge1).
have keptE z : (0 < gap (E *m (h + merged *m key)) z0 z) =
               (k%:R ^+ 2 * deficit z < gap own z0 z + gap cross z0 z).
  by rewrite (factor_merge_key alone) gap_diluted // gapD.
by split=> [/bestP kept z z_z0 | kept]; [rewrite -keptE kept | apply/bestP => z z_z0; rewrite keptE kept].
Qed.

(* Claim dilution, the own-term limit: where the cross terms do not tell z0 from its rivals, the edit is
   kept exactly if its gain beats k^2 times every positive deficit. Ours. *)
Theorem dilution_factor_own : (forall j, j != i -> A j *m key = 0) ->
    (forall z, z != z0 -> gap cross z0 z = 0) -> best (E *m (h + B i *m A i *m key)) z0 ->
  best (E *m (h + merged *m key)) z0 <->
  forall z, z != z0 -> 0 < deficit z -> k%:R ^+ 2 * deficit z < gap own z0 z.
Proof.
move=> alone cross0 works; have k2 : 1 <= k%:R ^+ 2 :> R by rewrite exprn_ege1 // natr_k_ge1.
rewrite mulmxDr in works.
split=> [/(dilution_factor alone) kept z z_z0 _ | own_limit].
  by have := kept z z_z0; rewrite cross0 // addr0.
apply/(dilution_factor alone) => z z_z0; rewrite cross0 // addr0.
have /bestP/(_ z z_z0) := (best_diluted k2 works).2 own_limit.
by rewrite gap_diluted // (lt_le_trans ltr01 k2).
Qed.

End Dilution.

Section DilutionLimits.
Variables (R : realFieldType).

(* Claim dilution, when the own-term limit is no guarantee: if it tells for every base l whether the
   edit is kept, the cross terms vanish on every rival. (c is k^2.) Ours. *)
Theorem dilution_factor_cross m (z0 : 'I_m) (own cross : 'cV[R]_m) (c : R) : 0 < c ->
    (forall l, best (l + c^-1 *: (own + cross)) z0 <->
               forall z, z != z0 -> c * - gap l z0 z < gap own z0 z) ->
  forall z, z != z0 -> gap cross z0 z = 0.
Proof.
move=> c0 limit z1 z1_z0; apply: contraTeq isT => /= cross1.
pose low z := Num.min (gap own z0 z) (gap own z0 z + gap cross z0 z).
(* a base whose deficit at z1 lies between the two conditions, and far below both at every other rival *)
pose l : 'cV[R]_m := \col_z if z == z0 then 0 else c^-1 * (if z == z1 then low z else low z - 1).
have deficitE z : z != z0 -> c * - gap l z0 z = if z == z1 then low z else low z - 1.
  by move=> z_z0; rewrite /gap !mxE eqxx (negbTE z_z0) sub0r opprK mulVKf // gt_eqF.
have low_pred z : low z - 1 < low z by rewrite gtr_addl oppr_lt0.
have own_iff : (forall z, z != z0 -> c * - gap l z0 z < gap own z0 z) <-> low z1 < gap own z0 z1.
  split=> [/(_ z1 z1_z0) | own1 z z_z0]; first by rewrite deficitE // eqxx.
  rewrite deficitE //; have [-> | z_z1] := eqVneq z z1; first by [].
  by apply: lt_le_trans (_ : _ < low z) _; rewrite ?low_pred // /low le_minl lexx.
have kept_iff : best (l + c^-1 *: (own + cross)) z0 <-> low z1 < gap own z0 z1 + gap cross z0 z1.
  split=> [/bestP/(_ z1 z1_z0) | cross1_gt]; first by rewrite gap_diluted // gapD deficitE // eqxx.
  apply/bestP => z z_z0; rewrite gap_diluted // gapD deficitE //.
  have [-> | z_z1] := eqVneq z z1; first by [].
  by apply: lt_le_trans (_ : _ < low z) _; rewrite ?low_pred // /low le_minl lexx orbT.
have /iffLR iff1 : low z1 < gap own z0 z1 <-> low z1 < gap own z0 z1 + gap cross z0 z1.
  by rewrite -own_iff -limit kept_iff.
have /iffLR iff2 : low z1 < gap own z0 z1 + gap cross z0 z1 <-> low z1 < gap own z0 z1.
  by rewrite -own_iff -limit kept_iff.
have [pos | neg | zero] := ltgtP (gap cross z0 z1) 0; last by rewrite zero eqxx in cross1.
  by have := iff1; rewrite /low min_r ?ger_addl ?ltW // ltxx gtr_addl pos => /(_ isT).
by have := iff2; rewrite /low min_l ?ler_addl ?ltW // ltxx ltr_addl neg => /(_ isT).
Qed.

(* Claim dilution, the number that the code reports: with c = ceil (gain / deficit) - 1, and c = 0 where
   the gain is at most the deficit, means of k <= c updates keep the edit and no others. Ours. *)
Theorem dilution_limit (gain deficit : R) (c : nat) : 0 < deficit ->
    ((0 < c)%N -> c%:R * deficit < gain) -> gain <= c.+1%:R * deficit ->
  forall k : nat, (0 < k)%N -> (k%:R * deficit < gain) = (k <= c)%N.
Proof.
move=> d0 lo hi k k0; apply/idP/idP => [kept | le_kc]; last first.
  by apply: le_lt_trans (lo (leq_trans k0 le_kc)); rewrite ler_pmul2r // ler_nat.
by rewrite -ltnS -(ltr_nat R) -(ltr_pmul2r d0) (lt_le_trans kept).
Qed.

End DilutionLimits.

(* gain 10 against a deficit of 5 survives alone, and no mean of two: 10 = 2 * 5 is a tie, not a win. *)
Example dilution_ten_five (k : nat) : (0 < k)%N -> (k%:R * 5%:R < 10%:R :> rat) = (k <= 1)%N.
Proof. exact: dilution_limit. Qed.

(* Claim dilution, "dies at any gain": with B 1 = - B 0 the average of the two factors is 0 at any
   weight, so it leaves the base's answer. Ours. *)
Theorem dilution_factor_opposite (R : realFieldType) (m n r : nat) (W : 'M[R]_(m, n)) (q : R)
    (B : 'I_2 -> 'M[R]_(m, r)) (A : 'I_2 -> 'M[R]_(r, n)) :
  B 1 = - B 0 -> W + factor_merge (fun=> q) (fun=> q) B A = W.
Proof.
move=> oppB; rewrite /factor_merge !big_ord_recl big_ord0 addr0.
have -> : lift ord0 ord0 = 1 :> 'I_2 by apply: val_inj.
by rewrite oppB scalerN subrr mul0mx addr0.
Qed.

(* "By itself" cannot be dropped: without deficit and without gain there is a tie, and no edit to keep. *)
Example dilution_works_needed (l own : 'cV[rat]_2) : l = 0 -> own = 0 ->
  (forall z, z != 0 -> 0 < - gap l 0 z -> 2%:R * - gap l 0 z < gap own 0 z) /\
  ~~ best (l + 2%:R^-1 *: own) 0.
Proof.
move=> -> ->; split=> [z _ | ]; first by rewrite gap0 oppr0 ltxx.
by rewrite scaler0 addr0; apply/bestP => /(_ 1 isT); rewrite gap0 ltxx.
Qed.

(* Keys must not overlap: a second update that answers the same key the other way undoes an edit whose
   gain is far above twice the deficit. *)
Example dilution_overlap (l own : 'cV[rat]_2) : l = delta_mx 1 0 -> own = 100%:R *: delta_mx 0 0 ->
  2%:R * - gap l 0 1 < gap own 0 1 /\ ~~ best (l + 2%:R^-1 *: (own + (- own))) 0.
Proof.
move=> -> ->; split; first by rewrite /gap !mxE.
by rewrite subrr scaler0 addr0; apply/bestP => /(_ 1 isT); rewrite /gap !mxE.
Qed.

(* ---- weights: a merge against its least lead ---- *)

Section Gordan.
Variable R : realFieldType.

(* Between lower and upper bounds there is a number where each lower one is below each upper one. *)
Lemma between (low up : seq R) : (forall l u, l \in low -> u \in up -> l < u) ->
  exists x, (forall l, l \in low -> l < x) /\ (forall u, u \in up -> x < u).
Proof.
elim: low => [_ | l low IHlow lu]; last first.
  have [l0 u l0_low u_up | x [x_low x_up]] := IHlow; first by apply: lu => //; rewrite inE l0_low orbT.
  have {}lu u : u \in up -> l < u by apply: lu; rewrite inE eqxx.
  have [l_x | x_l] := ltP l x.
    by exists x; split=> // l0; rewrite inE => /predU1P[-> | /x_low].
  suff [x' [l_x' x'_up]] : exists x', l < x' /\ forall u, u \in up -> x' < u.
    exists x'; split=> // l0; rewrite inE => /predU1P[-> // | /x_low l0_x].
    exact: lt_trans l0_x (le_lt_trans x_l l_x').
  elim: up lu {x_up IHlow x_low} => [_ | u up IHup lu]; first by exists (l + 1); rewrite ltr_addl ltr01.
  have [u0 u0_up | x' [l_x' x'_up]] := IHup; first by apply: lu; rewrite inE u0_up orbT.
  have l_u : l < u by apply: lu; rewrite inE eqxx.
  exists (Num.min x' ((l + u) / 2%:R)); split; first by rewrite lt_minr l_x' (midf_lt l_u).1.
  move=> u0; rewrite inE lt_minl => /predU1P[-> | /x'_up -> //].
  by rewrite (midf_lt l_u).2 orbT.
elim: up => [|u up [x [_ x_up]]]; first by exists 0; split.
exists (Num.min x (u - 1)); split=> // u0; rewrite inE lt_minl => /predU1P[-> | /x_up -> //].
by rewrite ltr_subl_addr ltr_addl ltr01 orbT.
Qed.

(* Gordan's alternative: rows that no x answers positively combine to 0. Fourier and Motzkin's elimination,
   one coordinate after another; K holds every positive combination of the rows. *)
Lemma gordan n (K : 'rV[R]_n -> Prop) :
  (forall a b, K a -> K b -> K (a + b)) -> (forall c a, 0 < c -> K a -> K (c *: a)) ->
  forall k (s : seq 'rV[R]_n), (forall a, a \in s -> K a) ->
    (forall a (i : 'I_n), a \in s -> (k <= i)%N -> a 0 i = 0) ->
  K 0 \/ exists x : 'cV[R]_n, forall a, a \in s -> 0 < (a *m x) 0 0.
Proof.
move=> Kadd Kscale; elim=> [|k IHk] s sK tail0.
  case: s sK tail0 => [|a s] sK tail0; first by right; exists 0.
  left; have <- : a = 0 by apply/rowP => i; rewrite mxE tail0 // mem_head.
  by apply: sK; apply: mem_head.
have [le_nk | lt_kn] := leqP n k.
  by apply: IHk sK _ => a i _ le_ki; have := leq_trans le_nk le_ki; rewrite leqNgt ltn_ord.
pose o := Ordinal lt_kn; pose c (a : 'rV[R]_n) := a 0 o.
pose mix a b := - c b *: a + c a *: b.
pose pos := [seq a <- s | 0 < c a]; pose neg := [seq a <- s | c a < 0].
pose s' := [seq a <- s | c a == 0] ++ [seq mix a b | a <- pos, b <- neg].
have [| |K0 | [x xs']] := IHk s'; [| | by left |].
- move=> a; rewrite mem_cat mem_filter => /orP[/andP[_ /sK //] | /allpairsP[[a1 b] /= [a1P bN ->]]].
  move: a1P bN; rewrite !mem_filter => /andP[a1_gt0 /sK Ka] /andP[b_lt0 /sK Kb].
  by apply: Kadd; apply: Kscale => //; rewrite oppr_gt0.
- move=> a i; rewrite mem_cat mem_filter; have [-> a_s' _ | ki a_s' le_ki] := eqVneq i o.
    case/orP: a_s' => [/andP[/eqP //] | /allpairsP[[a1 b] /= [_ _ ->]]].
    by rewrite !mxE -/(c a1) -/(c b) mulNr [c a1 * _]mulrC addNr.
  have {ki le_ki} lt_ki : (k < i)%N by rewrite ltn_neqAle le_ki andbT eq_sym.
  case/orP: a_s' => [/andP[_ a_s] | /allpairsP[[a1 b] /= [a1P bN ->]]]; first exact: tail0.
  move: a1P bN; rewrite !mem_filter => /andP[_ a1_s] /andP[_ b_s].
  by rewrite !mxE !tail0 // !mulr0 addr0.
pose v (a : 'rV[R]_n) := (a *m x) 0 0.
have [| y [y_low y_up]] := between (low := [seq - (v a / c a) | a <- pos]) (up := [seq v b / - c b | b <- neg]).
  move=> l u /mapP[a aP ->] /mapP[b bN ->]; have : 0 < v (mix a b).
    by apply: xs'; rewrite mem_cat (allpairs_f mix aP bN) orbT.
  move: aP bN; rewrite !mem_filter => /andP[a_gt0 _] /andP[b_lt0 _].
  rewrite /v /mix mulmxDl -!scalemxAl !mxE -/(v a) -/(v b) => mix_gt0.
  rewrite ltr_pdivl_mulr ?oppr_gt0 // mulrNN mulrAC ltr_pdivr_mulr // -subr_gt0.
  by apply: lt_le_trans mix_gt0 _; rewrite mulNr addrC [c b * _]mulrC [c a * _]mulrC lexx.
right; exists (x + y *: delta_mx o 0) => a a_s.
have -> : (a *m (x + y *: delta_mx o 0)) 0 0 = v a + y * c a.
  by rewrite mulmxDr -scalemxAr mxE -/(v a) [X in _ + X]mxE -colE mxE.
have [c_lt0 | c_gt0 | c0] := ltgtP (c a) 0.
- have : y < v a / - c a by apply: y_up; apply: map_f; rewrite mem_filter c_lt0.
  by rewrite ltr_pdivl_mulr ?oppr_gt0 // mulrN -subr_gt0 opprK.
- have : - (v a / c a) < y by apply: y_low; apply: map_f; rewrite mem_filter c_gt0.
  by rewrite -mulNr ltr_pdivr_mulr // ltr_oppl -subr_gt0 opprK.
by rewrite c0 mulr0 addr0; apply: xs'; rewrite mem_cat mem_filter c0 eqxx a_s.
Qed.
End Gordan.

(* Non-negative weights of sum one. *)
Definition weighting (R : realFieldType) n (w : 'I_n -> R) := (forall j, 0 <= w j) /\ \sum_j w j = 1.

Section OptimalWeights.
Variables (R : realFieldType).

(* Claim optimal_weights, weights that sum to one average the leads: what a pair of right answer and
   rival has under the merge is the mean of what it has with each adapter alone. Ours. *)
Theorem optimal_weights_lead (m d n k : nat) (E : 'M[R]_(m, d)) (h : 'cV[R]_d) (key : 'cV[R]_n)
    (U : 'I_k -> 'M[R]_(d, n)) (w : 'I_k -> R) (z0 z : 'I_m) : \sum_j w j = 1 ->
  gap (E *m (h + (\sum_j w j *: U j) *m key)) z0 z = \sum_j w j * gap (E *m (h + U j *m key)) z0 z.
Proof.
move=> sum_w; have -> : h + (\sum_j w j *: U j) *m key = \sum_j w j *: (h + U j *m key).
  rewrite (eq_bigr _ (fun j _ => scalerDr (w j) _ _)) big_split -scaler_suml sum_w scale1r; congr (_ + _).
  by rewrite mulmx_suml; apply: eq_bigr => j _; rewrite scalemxAl.
by rewrite mulmx_sumr gap_sum; apply: eq_bigr => j _; rewrite -scalemxAr gapZ.
Qed.

Variables (P k : nat) (M : 'M[R]_(P, k)).
Hypothesis k_gt0 : (0 < k)%N.

(* M p j is the lead of pair p with adapter j alone. *)
Let lead (w : 'I_k -> R) p := \sum_j M p j * w j.
Let mean (y : 'I_P -> R) j := \sum_p y p * M p j.

Lemma mean_leadE y w : \sum_j mean y j * w j = \sum_p y p * lead w p.
Proof.
rewrite (eq_bigr _ (fun j _ => mulr_suml _ _ _ _)) exchange_big; apply: eq_bigr => p _.
by rewrite mulr_sumr; apply: eq_bigr => j _; rewrite mulrA.
Qed.

(* A mean that does not exceed its least term has that term wherever it has weight. *)
Lemma weighted_tight n (w f : 'I_n -> R) t : weighting w -> (forall i, t <= f i) -> \sum_i w i * f i <= t ->
  forall i, w i != 0 -> f i = t.
Proof.
case=> w_ge0 w1 le_tf mean_le i wi_n0.
have above_ge0 j : true -> 0 <= w j * (f j - t) by rewrite mulr_ge0 ?subr_ge0.
have none : \sum_j w j * (f j - t) = 0.
  apply/eqP; rewrite eq_le sumr_ge0 // andbT (eq_bigr _ (fun j _ => mulrBr _ _ _)) sumrB -mulr_suml w1 mul1r.
  by rewrite subr_le0.
have /eqP : w i * (f i - t) = 0 by apply: (psumr_eq0P above_ge0 none).
by rewrite mulf_eq0 (negPf wi_n0) subr_eq0 => /eqP.
Qed.

(* Claim optimal_weights, duality: no weights lift every lead above t exactly if some mixture of the
   pairs has with no adapter alone a mean lead above t. Von Neumann's minimax theorem; its use here ours. *)
Theorem optimal_weights t :
  (exists y, weighting y /\ forall j, mean y j <= t) <-> (forall w, weighting w -> exists p, lead w p <= t).
Proof.
split=> [[y [yP mean_le]] w wP | blocked].
  apply/existsP; have [// | ] := boolP [exists p, lead w p <= t].
  rewrite negb_exists => /forallP lead_gt; have [y_ge0 y1] := yP.
  have [p yp_neq0 | all0] := pickP (fun p => y p != 0).
    suff : lead w p = t by move/eqP; rewrite eq_le (negPf (lead_gt p)).
    apply: (weighted_tight yP _ _ yp_neq0) => [p'|]; first by rewrite ltW // ltNge.
    rewrite -mean_leadE; case: wP => w_ge0 w1; rewrite -[t]mulr1 -w1 mulr_sumr.
    by apply: ler_sum => j _; apply: ler_wpmul2r.
  by have /eqP := y1; rewrite big1 1?eq_sym ?oner_eq0 // => p _; apply/eqP/negPn; rewrite all0.
pose K (v : 'rV[R]_k) := exists y z, [/\ forall p, 0 <= y p, forall j, 0 <= z j,
  0 < \sum_p y p + \sum_j z j & forall j, v 0 j = \sum_(p < P) y p * (M p j - t) + z j].
pose s := [seq row p (M - const_mx t) | p <- enum 'I_P] ++ [seq delta_mx 0 j | j <- enum 'I_k].
have [| | | | [y [z [y_ge0 z_ge0 some v0]]] | [x xs]] := @gordan R k K _ _ k s _ _.
- move=> a b [y [z [y0 z0 some aE]]] [y' [z' [y0' z0' some' bE]]].
  exists (fun p => y p + y' p), (fun j => z j + z' j); split=> [p | j | | j]; rewrite ?addr_ge0 //.
    by rewrite !big_split /= addrACA addr_gt0.
  rewrite mxE aE bE addrACA -big_split; congr (_ + _).
  by apply: eq_bigr => p _; rewrite mulrDl.
- move=> c a c_gt0 [y [z [y0 z0 some aE]]].
  exists (fun p => c * y p), (fun j => c * z j); split=> [p | j | | j].
  + by rewrite mulr_ge0 // ltW.
  + by rewrite mulr_ge0 // ltW.
  + by rewrite -!mulr_sumr -mulrDr mulr_gt0.
  rewrite mxE aE mulrDr mulr_sumr; congr (_ + _).
  by apply: eq_bigr => p _; rewrite mulrA.
- move=> a; rewrite mem_cat => /orP[/mapP[p _ ->] | /mapP[j _ ->]].
    exists (fun p' => (p' == p)%:R), (fun=> 0); split=> [p' | j | | j]; rewrite ?ler0n //.
      rewrite [X in _ + X]big1 // addr0 (bigD1 p) //= eqxx.
      by apply: ltr_spaddl; [exact: ltr01 | apply: sumr_ge0 => p' _; apply: ler0n].
    rewrite addr0 (bigD1 p) //= eqxx mul1r big1 ?addr0 => [|p' /negPf ->]; last by rewrite mul0r.
    by rewrite !mxE.
  exists (fun=> 0), (fun j' => (j' == j)%:R); split=> [p | j' | | j']; rewrite ?ler0n //.
    rewrite big1 // add0r (bigD1 j) //= eqxx.
    by apply: ltr_spaddl; [exact: ltr01 | apply: sumr_ge0 => j' _; apply: ler0n].
  by rewrite big1 ?add0r => [|p _]; rewrite ?mul0r // mxE eqxx.
- by move=> a i _; rewrite leqNgt ltn_ord.
- have Y_gt0 : 0 < \sum_p y p.
    rewrite lt_neqAle sumr_ge0 // andbT eq_sym; apply: contraTneq some => Y0.
    rewrite Y0 add0r -leNgt big1 // => j _; have := v0 j; rewrite mxE big1 ?add0r // => p _.
    by rewrite (psumr_eq0P _ Y0) ?mul0r.
  exists (fun p => y p / \sum_p y p); split=> [|j].
    by split=> [p|]; [rewrite divr_ge0 // ltW | rewrite -mulr_suml mulfV // gt_eqF].
  rewrite /mean (eq_bigr _ (fun p _ => mulrAC _ _ _)) -mulr_suml ler_pdivr_mulr // mulr_sumr -subr_le0 -sumrB.
  rewrite (eq_bigr (fun p => y p * (M p j - t))) => [|p _]; last by rewrite mulrBr [t * _]mulrC.
  have := v0 j; rewrite mxE => /esym/eqP; rewrite addr_eq0 => /eqP ->.
  by rewrite oppr_le0.
have x_gt0 j : 0 < x j 0.
  have := xs (delta_mx 0 j); rewrite -rowE mxE; apply.
  by rewrite mem_cat; apply/orP; right; apply: map_f; rewrite mem_enum.
have S_gt0 : 0 < \sum_j x j 0.
  by rewrite (bigD1 (Ordinal k_gt0)) //= ltr_paddr // sumr_ge0 // => j _; apply: ltW.
have [|p] := blocked (fun j => x j 0 / \sum_j x j 0).
  by split=> [j|]; [rewrite divr_ge0 ?ltW | rewrite -mulr_suml mulfV // gt_eqF].
rewrite /lead (eq_bigr _ (fun j _ => mulrA _ _ _)) -mulr_suml ler_pdivr_mulr // mulr_sumr -subr_le0 -sumrB => lead_le.
have : 0 < (row p (M - const_mx t) *m x) 0 0.
  by apply: xs; rewrite mem_cat; apply/orP; left; apply: map_f; rewrite mem_enum.
rewrite mxE ltNge => /negP[]; apply: le_trans lead_le; rewrite le_eqVlt; apply/orP; left; apply/eqP.
by apply: eq_bigr => j _; rewrite !mxE mulrBl.
Qed.

(* Claim optimal_weights, when the uniform mean is best, t its least lead: exactly if some mixture of the
   pairs with that lead has the mean lead t with every adapter alone. Ours (complementary slackness). *)
Theorem optimal_weights_uniform t (u := fun=> k%:R^-1) : (forall p, t <= lead u p) ->
  (forall w, weighting w -> exists p, lead w p <= t) <->
  exists y, [/\ weighting y, forall j, mean y j = t & forall p, y p != 0 -> lead u p = t].
Proof.
move=> le_t; split=> [/optimal_weights[y [yP mean_le]] | [y [yP meanE _]]]; last first.
  by apply/optimal_weights; exists y; split=> // j; rewrite meanE.
have k_neq0 : k%:R != 0 :> R by rewrite pnatr_eq0 -lt0n.
have uP : weighting u.
  split=> [j|]; first by rewrite invr_ge0 ler0n.
  by rewrite /u sumr_const card_ord -[_ *+ k]mulr_natr mulVf.
exists y; split=> // [j|]; last first.
  apply: (weighted_tight yP le_t); rewrite -mean_leadE; case: uP => u_ge0 u1.
  by rewrite -[t]mulr1 -u1 mulr_sumr; apply: ler_sum => j _; apply: ler_wpmul2r.
apply: oppr_inj; apply: (weighted_tight (f := fun j => - mean y j) uP) => [j'||]; rewrite ?ler_opp2 ?invr_eq0 //.
rewrite (eq_bigr _ (fun j _ => mulrN _ _)) sumrN ler_opp2 (eq_bigr _ (fun j _ => mulrC _ _)) mean_leadE.
by case: yP => y_ge0 y1; rewrite -[t]mul1r -y1 mulr_suml; apply: ler_sum => p _; apply: ler_wpmul2l.
Qed.

(* Where every key is read by its own adapter alone, o p says by which one. *)
Variables (o : 'I_P -> 'I_k) (gain deficit : 'I_P -> R).
Hypothesis apart : forall p j, M p j = gain p *+ (j == o p) - deficit p.
Hypothesis gain_gt0 : forall p, 0 < gain p.

Lemma lead_apart w p : \sum_j w j = 1 -> lead w p = w (o p) * gain p - deficit p.
Proof.
move=> w1; rewrite /lead (eq_bigr _ (fun j _ => congr1 (fun x => x * w j) (apart p j))).
rewrite (eq_bigr _ (fun j _ => mulrBl _ _ _)) sumrB -mulr_sumr w1 mulr1 (bigD1 (o p)) //= eqxx mulr1n big1 ?addr0.
  by rewrite mulrC.
by move=> j /negPf ->; rewrite mulr0n mul0r.
Qed.

(* Claim optimal_weights, the uniform mean of updates that leave one another's keys alone: best exactly
   if every adapter has a pair with the least lead. Ours. *)
Theorem optimal_weights_apart t (u := fun=> k%:R^-1) : (forall p, t <= lead u p) ->
  (forall w, weighting w -> exists p, lead w p <= t) <-> forall j, exists2 p, o p = j & lead u p = t.
Proof.
move=> le_t; split=> [/(optimal_weights_uniform le_t)[y [[y_ge0 y1] meanE tight]] j | least w [w_ge0 w1]]; last first.
  have k_neq0 : k%:R != 0 :> R by rewrite pnatr_eq0 -lt0n.
  have u1 : \sum_j u j = 1 by rewrite /u sumr_const card_ord -[_ *+ k]mulr_natr mulVf.
  have [j le_w | big_w] := pickP (fun j => w j <= k%:R^-1).
    have [p op lead_p] := least j; exists p; rewrite -lead_p !lead_apart // ler_add2r op.
    by rewrite ler_wpmul2r // ltW.
  have : 0 < \sum_j (w j - u j).
    rewrite (bigD1 (Ordinal k_gt0)) //=; apply: ltr_spaddl; first by rewrite subr_gt0 ltNge big_w.
    by apply: sumr_ge0 => j _; rewrite subr_ge0 ltW // ltNge big_w.
  by rewrite sumrB w1 u1 subrr ltxx.
pose own j' := \sum_(p | o p == j') y p * gain p.
have meanE' j' : mean y j' = own j' - \sum_p y p * deficit p.
  rewrite /mean /own [X in X - _]big_mkcond -sumrB; apply: eq_bigr => p _; rewrite apart mulrBr eq_sym.
  by case: eqP => _; rewrite ?mulr0n ?mulr0.
have own_same j' : own j' = own j by apply: (addIr (- \sum_p y p * deficit p)); rewrite -!meanE' !meanE.
have own_term_ge0 p : 0 <= y p * gain p by rewrite mulr_ge0 // ltW.
have [p yp_neq0 | all0] := pickP (fun p => y p != 0); last first.
  by have /eqP := y1; rewrite big1 1?eq_sym ?oner_eq0 // => p _; apply/eqP/negPn; rewrite all0.
have own_gt0 : 0 < own j.
  rewrite -(own_same (o p)) /own (bigD1 p) //=; apply: ltr_spaddl; last exact: sumr_ge0.
  by rewrite mulr_gt0 // lt_def yp_neq0 y_ge0.
have [p' /andP[/eqP op' yp'] | none] := pickP (fun p => (o p == j) && (y p != 0)); first by exists p'; rewrite ?tight.
move: own_gt0; rewrite /own big1 ?ltxx // => p' /eqP op'; have := none p'.
by rewrite op' eqxx /= => /negbFE/eqP ->; rewrite mul0r.
Qed.

(* Claim optimal_weights, what answers every fact: if need j is the largest of 0 and the quotients
   deficit / gain of adapter j's pairs, some weights do exactly if the needs sum to less than one. Ours. *)
Theorem optimal_weights_need (need : 'I_k -> R) :
  (forall j, 0 <= need j) -> (forall p, deficit p <= need (o p) * gain p) ->
  (forall j, need j = 0 \/ exists2 p, o p = j & deficit p = need j * gain p) ->
  (exists2 w, weighting w & forall p, 0 < lead w p) <-> \sum_j need j < 1.
Proof.
move=> need_ge0 enough least; split=> [[w [w_ge0 w1] answers] | lt1].
  have le_need j : need j <= w j.
    have [-> // | [p <- deficitE]] := least j; have := answers p.
    by rewrite lead_apart // deficitE subr_gt0 ltr_pmul2r //; apply: ltW.
  rewrite lt_neqAle -w1 ler_sum // andbT; apply/eqP => same.
  have wE j : w j = need j.
    have diff_ge0 i : true -> 0 <= w i - need i by rewrite subr_ge0.
    apply/eqP; rewrite -subr_eq0; apply/eqP; apply: (psumr_eq0P diff_ge0) => //.
    by rewrite sumrB same subrr.
  have all0 j : w j = 0.
    rewrite wE; have [-> // | [p op deficitE]] := least j; have := answers p.
    by rewrite lead_apart // wE op deficitE subrr ltxx.
  by have /eqP := w1; rewrite big1 1?eq_sym ?oner_eq0.
have k_neq0 : k%:R != 0 :> R by rewrite pnatr_eq0 -lt0n.
pose spare := (1 - \sum_j need j) / k%:R.
have spare_gt0 : 0 < spare by rewrite divr_gt0 ?subr_gt0 // ltr0n.
have sum1 : \sum_j (need j + spare) = 1.
  by rewrite big_split /= sumr_const card_ord -[_ *+ k]mulr_natr divfK // addrC subrK.
exists (fun j => need j + spare) => [|p]; first by split=> // j; rewrite addr_ge0 // ltW.
by rewrite lead_apart // mulrDl addrAC ltr_paddl ?subr_ge0 // mulr_gt0.
Qed.

End OptimalWeights.

(* Two facts whose uniform mean loses one and whose best weights answer both: gains 10 and 10 against
   deficits 6 and 1. *)
Example optimal_weights_beat_uniform (gain := 10%:R : rat) :
  (2%:R^-1 * gain - 6%:R < 0) /\ (0 < 4%:R / 5%:R * gain - 6%:R) /\ (0 < 5%:R^-1 * gain - 1).
Proof. by []. Qed.

(* ---- masks: what the mean over them keeps of an update ---- *)

(* A mask keeps each coordinate with probability 1 - p; its chance, and the matrix that applies it. *)
Definition mask_chance (R : realFieldType) n (p : R) (mask : {ffun 'I_n -> bool}) : R :=
  \prod_i (if mask i then 1 - p else p).

Definition mask_mx (R : realFieldType) n (mask : {ffun 'I_n -> bool}) : 'M[R]_n := diag_mx (\row_i (mask i)%:R).

Section Masks.
Variables (R : realFieldType).

Lemma mask_mean n (p : R) (f : 'I_n -> bool -> R) :
  \sum_(mask : {ffun 'I_n -> bool}) mask_chance p mask * \prod_i f i (mask i)
    = \prod_i ((1 - p) * f i true + p * f i false).
Proof.
rewrite (eq_bigr (fun i => \sum_(b : bool) (if b then 1 - p else p) * f i b)) => [|i _]; last by rewrite big_bool.
by rewrite bigA_distr_bigA; apply: eq_bigr => mask _; rewrite -big_split.
Qed.

Lemma mask_total n (p : R) : \sum_(mask : {ffun 'I_n -> bool}) mask_chance p mask = 1.
Proof.
have := mask_mean p (fun (i : 'I_n) b => 1); rewrite [RHS]big1 => [|i _]; last by rewrite !mulr1 subrK.
by move=> <-; apply: eq_bigr => mask _; rewrite big1 ?mulr1.
Qed.

Lemma mask_kept n (p : R) (j : 'I_n) :
  \sum_(mask : {ffun 'I_n -> bool}) mask_chance p mask * (mask j)%:R = 1 - p.
Proof.
pose f (i : 'I_n) b : R := if i == j then b%:R else 1.
have <- : \prod_i ((1 - p) * f i true + p * f i false) = 1 - p.
  rewrite (bigD1 j) //= big1 => [|i /negPf ij]; last by rewrite /f ij !mulr1 subrK.
  by rewrite /f eqxx !mulr1 mulr0 addr0.
rewrite -(mask_mean p f); apply: eq_bigr => mask _; congr (_ * _).
by rewrite (bigD1 j) //= big1 => [|i /negPf ij]; rewrite /f ?ij // eqxx mulr1.
Qed.

Variables (m r n : nat) (p q : R).
Let chance (out : {ffun 'I_m -> bool}) (inp : {ffun 'I_n -> bool}) := mask_chance p out * mask_chance q inp.

Lemma chance_total : \sum_out \sum_inp chance out inp = 1.
Proof.
by rewrite (eq_bigr _ (fun out _ => esym (mulr_sumr _ _ _ _))) -mulr_suml !mask_total mulr1.
Qed.

(* Claim mask_dilution, the mean over independent masks of outputs and inputs keeps the share
   (1 - p) (1 - q) of an update. Standard; its reading as dilution ours. *)
Theorem mask_dilution (B : 'M[R]_(m, r)) (A : 'M[R]_(r, n)) :
  \sum_out \sum_inp chance out inp *: ((mask_mx R out *m B) *m (A *m mask_mx R inp))
    = ((1 - p) * (1 - q)) *: (B *m A).
Proof.
apply/matrixP => i j; rewrite !mxE summxE.
transitivity (\sum_(out : {ffun 'I_m -> bool}) \sum_(inp : {ffun 'I_n -> bool})
    (mask_chance p out * (out i)%:R) * ((mask_chance q inp * (inp j)%:R) * (B *m A) i j)).
  apply: eq_bigr => out _; rewrite summxE; apply: eq_bigr => inp _.
  rewrite mxE mulmxA -(mulmxA (mask_mx R out)) mul_mx_diag mxE mul_diag_mx !mxE.
  rewrite /chance -!mulrA; congr (_ * _); rewrite mulrCA; congr (_ * _); congr (_ * _).
  by rewrite mulrC.
rewrite (eq_bigr _ (fun out _ => esym (mulr_sumr _ _ _ _))) -mulr_suml mask_kept -mulr_suml mask_kept.
by rewrite mulrA mxE.
Qed.

(* Claim mask_dilution, masks divided by the share that each keeps leave the update whole. Standard. *)
Theorem mask_dilution_rescaled (B : 'M[R]_(m, r)) (A : 'M[R]_(r, n)) : p != 1 -> q != 1 ->
  \sum_out \sum_inp chance out inp *:
    (((1 - p)^-1 *: mask_mx R out *m B) *m (A *m ((1 - q)^-1 *: mask_mx R inp))) = B *m A.
Proof.
move=> p1 q1; have p0 : 1 - p != 0 by rewrite subr_eq0 eq_sym.
have q0 : 1 - q != 0 by rewrite subr_eq0 eq_sym.
rewrite -[RHS](scalerK (mulf_neq0 p0 q0)) -mask_dilution scaler_sumr; apply: eq_bigr => out _.
rewrite scaler_sumr; apply: eq_bigr => inp _.
by rewrite -!scalemxAl -!scalemxAr !scalerA [in RHS]mulrC invfM mulrA.
Qed.

(* Claim mask_dilution, the ensemble of all masks keeps an edit that works by itself exactly if every
   positive deficit is below (1 - p) (1 - q) times the gain: dilution by k = 1 / ((1 - p) (1 - q)). Ours. *)
Theorem mask_dilution_answer (v : nat) (E : 'M[R]_(v, m)) (h : 'cV[R]_m) (key : 'cV[R]_n) (z0 : 'I_v)
    (B : 'M[R]_(m, r)) (A : 'M[R]_(r, n)) : 0 <= p < 1 -> 0 <= q < 1 -> best (E *m (h + B *m A *m key)) z0 ->
  best (\sum_out \sum_inp chance out inp *:
          (E *m (h + (mask_mx R out *m B) *m (A *m mask_mx R inp) *m key))) z0 <->
  forall z, z != z0 -> 0 < - gap (E *m h) z0 z ->
    - gap (E *m h) z0 z < (1 - p) * (1 - q) * gap (E *m (B *m A *m key)) z0 z.
Proof.
move=> /andP[p0 p1] /andP[q0 q1]; rewrite mulmxDr => works.
have share_gt0 : 0 < (1 - p) * (1 - q) by rewrite mulr_gt0 ?subr_gt0.
have share_le1 : (1 - p) * (1 - q) <= 1.
  by rewrite mulr_ile1 ?subr_ge0 ?(ltW p1) ?(ltW q1) // ler_subl_addr ler_addl.
have -> : \sum_out \sum_inp chance out inp *: (E *m (h + (mask_mx R out *m B) *m (A *m mask_mx R inp) *m key))
    = E *m h + ((1 - p) * (1 - q))^-1^-1 *: (E *m (B *m A *m key)).
  rewrite invrK scalemxAr scalemxAl -mask_dilution -[E *m h]scale1r -chance_total.
  rewrite mulmx_suml mulmx_sumr scaler_suml -big_split; apply: eq_bigr => out _ /=.
  rewrite mulmx_suml mulmx_sumr scaler_suml -big_split; apply: eq_bigr => inp _ /=.
  by rewrite mulmxDr scalerDr -scalemxAl -scalemxAr.
have le1 : 1 <= ((1 - p) * (1 - q))^-1 by rewrite invf_ge1.
by rewrite (best_diluted le1 works); split=> kept z z_z0 d0; have := kept z z_z0 d0; rewrite ltr_pdivr_mull.
Qed.

End Masks.

(* Masks drop whole rows and columns: the mean of one draw is not the update. *)
Example mask_dilution_one_draw (B A : 'M[rat]_1) (off : {ffun 'I_1 -> bool}) : off = [ffun=> false] ->
  (mask_mx _ off *m B) *m (A *m mask_mx _ off) = 0.
Proof.
move=> ->; have -> : mask_mx _ [ffun _ : 'I_1 => false] = 0 :> 'M[rat]_1; last by rewrite mul0mx mul0mx.
by apply/matrixP => i j; rewrite !mxE ffunE mul0rn.
Qed.

(* ---- interference: what the other updates do to a fact ---- *)

Section Interference.
Variable F : fieldType.

(* Claim interference, exactly: an adapter with B of full column rank leaves a key alone iff A does.
   Ours. *)
Theorem interference (m r n : nat) (B : 'M[F]_(m, r)) (A : 'M[F]_(r, n)) (key : 'cV[F]_n) :
  \rank B = r -> (B *m A *m key = 0 <-> A *m key = 0).
Proof.
move=> rankB; have fB : row_full B by rewrite /row_full rankB.
split=> [BAk0 | Ak0]; last by rewrite -mulmxA Ak0 mulmx0.
by apply: (row_full_inj fB); rewrite mulmx0 mulmxA.
Qed.

End Interference.

(* Full column rank is needed: B = 0 leaves every key alone. *)
Example interference_rank_needed (B A : 'M[rat]_1) (key : 'cV[rat]_1) :
  B = 0 -> A = 1 -> key = 1 -> B *m A *m key = 0 /\ A *m key != 0.
Proof. by move=> -> -> ->; rewrite !mul0mx mul1mx oner_eq0. Qed.

Section InterferenceNorm.
Variable R : realFieldType.

(* Cauchy-Schwarz for finite sums. *)
Lemma sqr_sum_le n (u v : 'I_n -> R) :
  (\sum_i u i * v i) ^+ 2 <= (\sum_i u i ^+ 2) * (\sum_i v i ^+ 2).
Proof.
have lagrange : 0 <= \sum_i \sum_j (u i * v j - u j * v i) ^+ 2.
  by apply: sumr_ge0 => i _; apply: sumr_ge0 => j _; apply: sqr_ge0.
suff sumE : \sum_i \sum_j (u i * v j - u j * v i) ^+ 2 =
    ((\sum_i u i ^+ 2) * (\sum_i v i ^+ 2) - (\sum_i u i * v i) ^+ 2) *+ 2.
  by rewrite -subr_ge0; move: lagrange; rewrite sumE pmulrn_lge0.
have termE i j : (u i * v j - u j * v i) ^+ 2 =
    u i ^+ 2 * v j ^+ 2 + v i ^+ 2 * u j ^+ 2 - (u i * v i) * (u j * v j) *+ 2.
  rewrite sqrrB !exprMn addrAC [u j ^+ 2 * _]mulrC; congr (_ - _ *+ 2).
  by rewrite mulrACA [v j * v i]mulrC mulrACA.
rewrite (eq_bigr (fun i => u i ^+ 2 * (\sum_j v j ^+ 2) + v i ^+ 2 * (\sum_j u j ^+ 2)
    - (u i * v i) * (\sum_j u j * v j) *+ 2)) => [|i _]; last first.
  rewrite !mulr_sumr -big_split -sumrMnl -sumrB.
  by apply: eq_bigr => j _; rewrite termE.
rewrite sumrB big_split sumrMnl /= -!mulr_suml -expr2 [X in _ + X - _]mulrC -mulr2n.
by rewrite mulrnBl.
Qed.

Lemma frob2M_le m n p (M : 'M[R]_(m, n)) (P : 'M[R]_(n, p)) : frob2 (M *m P) <= frob2 M * frob2 P.
Proof.
rewrite /frob2 mulr_suml; apply: ler_sum => i _.
have -> : \sum_i \sum_j P i j ^+ 2 = \sum_j \sum_i P i j ^+ 2 by rewrite exchange_big.
rewrite mulr_sumr; apply: ler_sum => j _; rewrite mxE; exact: sqr_sum_le.
Qed.

(* Claim interference, the bound on the damage: beta is the square of any bound on the operator norm of
   B, the spectral norm for the least of them; all squared, so that no square root is needed. Ours. *)
Theorem interference_bound m r n (s beta : R) (B : 'M[R]_(m, r)) (A : 'M[R]_(r, n)) (key : 'cV[R]_n) :
    (forall x : 'cV[R]_r, frob2 (B *m x) <= beta * frob2 x) ->
  frob2 ((s *: (B *m A)) *m key) <= s ^+ 2 * beta * frob2 (A *m key).
Proof.
move=> betaB; rewrite -scalemxAl frob2Z -mulrA ler_wpmul2l ?sqr_ge0 //.
by rewrite -mulmxA betaB.
Qed.

(* Its Frobenius form, with the norm that needs no spectral decomposition. Ours. *)
Theorem interference_bound_frob m r n (s : R) (B : 'M[R]_(m, r)) (A : 'M[R]_(r, n)) (key : 'cV[R]_n) :
  frob2 ((s *: (B *m A)) *m key) <= s ^+ 2 * frob2 B * frob2 (A *m key).
Proof. by apply: interference_bound => x; apply: frob2M_le. Qed.

Lemma gap_row m d (E : 'M[R]_(m, d)) (x : 'cV[R]_d) z0 z :
  gap (E *m x) z0 z = ((row z0 E - row z E) *m x) 0 0.
Proof. by rewrite /gap mulmxBl -!row_mul !mxE. Qed.

(* What a change x of the hidden state does to the lead of z0 over z. *)
Lemma gap_norm m d (E : 'M[R]_(m, d)) (x : 'cV[R]_d) z0 z :
  gap (E *m x) z0 z ^+ 2 <= frob2 (row z0 E - row z E) * frob2 x.
Proof.
apply: le_trans (frob2M_le _ _); rewrite gap_row /frob2 big_ord1 big_ord1; exact: lexx.
Qed.

End InterferenceNorm.

Section Survival.
Variables (R : realFieldType) (m d n k N : nat).
Variables (E : 'M[R]_(m, d)) (w : 'I_k -> R) (U : 'I_k -> 'M[R]_(d, n)).

(* N facts: fact f is asked with hidden state [h f] and key [key f], its right answer is [right f], and
   the update [owner f] holds it. *)
Variables (h : 'I_N -> 'cV[R]_d) (key : 'I_N -> 'cV[R]_n) (right : 'I_N -> 'I_m) (owner : 'I_N -> 'I_k).

(* The margin of fact f with its owner alone, and the merged logits. *)
Let alone f := E *m (h f + w (owner f) *: (U (owner f) *m key f)).
Let merged f := E *m (h f + (\sum_j w j *: U j) *m key f).

Lemma gap_merged f z : gap (merged f) (right f) z =
  gap (alone f) (right f) z + \sum_(j | j != owner f) w j * gap (E *m (U j *m key f)) (right f) z.
Proof.
rewrite /merged /alone !mulmxDr !gapD -addrA; congr (_ + _).
rewrite mulmx_suml mulmx_sumr gap_sum (bigD1 (owner f)) //=; congr (_ + _).
  by rewrite -scalemxAl.
by apply: eq_bigr => j _; rewrite -scalemxAl -scalemxAr gapZ.
Qed.

(* Claim interference, survival of a set of facts: every fact whose margin beats the sum of the damages
   of the other updates is answered right by the sum. [damage f j] bounds what update j does to the lead
   of the right answer. Ours. *)
Theorem interference_survival (margin : 'I_N -> R) (damage : 'I_N -> 'I_k -> R) :
    (forall f z, z != right f -> margin f <= gap (alone f) (right f) z) ->
    (forall f j z, j != owner f -> z != right f -> `|gap (E *m (U j *m key f)) (right f) z| <= damage f j) ->
    (forall f, \sum_(j | j != owner f) `|w j| * damage f j < margin f) ->
  forall f, best (merged f) (right f).
Proof.
move=> has_margin has_damage small f; apply/bestP => z z_right; rewrite gap_merged.
rewrite -ltr_subl_addr sub0r; apply: lt_le_trans (has_margin f z z_right); apply: le_lt_trans (small f).
rewrite -sumrN; apply: ler_sum => j j_owner; apply: le_trans (ler_norm _) _.
by rewrite normrN normrM ler_wpmul2l // has_damage.
Qed.

(* The same from logits alone: damage f j bounds every logit of update j at the key of f, and counts
   twice. Ours. *)
Theorem interference_survival_logits (margin : 'I_N -> R) (damage : 'I_N -> 'I_k -> R) :
    (forall f z, z != right f -> margin f <= gap (alone f) (right f) z) ->
    (forall f j z, j != owner f -> `|(E *m (U j *m key f)) z 0| <= damage f j) ->
    (forall f, 2%:R * (\sum_(j | j != owner f) `|w j| * damage f j) < margin f) ->
  forall f, best (merged f) (right f).
Proof.
move=> has_margin has_damage small.
pose twice f j := damage f j *+ 2.
apply: (interference_survival (margin := margin) (damage := twice)) => [|f j z j_owner _|f].
- exact: has_margin.
- by rewrite /gap /twice mulr2n; apply: le_trans (ler_norm_sub _ _) _; rewrite ler_add ?has_damage.
apply: le_lt_trans (small f); rewrite mulr_sumr ler_sum // => j _.
by rewrite mulrnAr mulr_natl.
Qed.

End Survival.

Section SurvivalFactors.
Variables (R : realFieldType) (m d n k N : nat) (r : 'I_k -> nat).
Variables (E : 'M[R]_(m, d)) (w : 'I_k -> R).
Variables (B : forall j, 'M[R]_(d, r j)) (A : forall j, 'M[R]_(r j, n)).
Variables (h : 'I_N -> 'cV[R]_d) (key : 'I_N -> 'cV[R]_n) (right : 'I_N -> 'I_m) (owner : 'I_N -> 'I_k).
Let alone f := E *m (h f + w (owner f) *: (B (owner f) *m A (owner f) *m key f)).
Let merged f := E *m (h f + (\sum_j w j *: (B j *m A j)) *m key f).

(* Claim interference, in key coherence: coherence f j bounds what each of the r j readers (rows of A j)
   answers to the key of f, gain f j what each column of B j does to the lead of the right answer. Ours.
   *)
Theorem interference_survival_coherence (margin : 'I_N -> R) (coherence gain : 'I_N -> 'I_k -> R) :
    (forall f z, z != right f -> margin f <= gap (alone f) (right f) z) ->
    (forall f j i, j != owner f -> `|(A j *m key f) i 0| <= coherence f j) ->
    (forall f j i z, j != owner f -> z != right f -> `|gap (E *m col i (B j)) (right f) z| <= gain f j) ->
    (forall f, \sum_(j | j != owner f) `|w j| * ((r j)%:R * (coherence f j * gain f j)) < margin f) ->
  forall f, best (merged f) (right f).
Proof.
move=> has_margin has_coherence has_gain.
apply: (interference_survival (margin := margin)) => [//|f j z j_owner z_right].
have -> : B j *m A j *m key f = \sum_i (A j *m key f) i 0 *: col i (B j).
  apply/matrixP => x y; rewrite ord1 -mulmxA summxE mxE.
  by apply: eq_bigr => i _; rewrite !mxE mulrC.
rewrite mulmx_sumr gap_sum; apply: le_trans (ler_norm_sum _ _ _) _.
rewrite mulr_natl -[X in _ *+ X]card_ord -sumr_const; apply: ler_sum => i _.
by rewrite -scalemxAr gapZ normrM ler_pmul ?has_coherence ?has_gain.
Qed.

(* Claim interference, in norms: readout f bounds the distance of the answers' rows of E, spectral j the
   operator norm of B j, reading f j the norm of A j *m key f. Ours. *)
Theorem interference_survival_norm (margin readout : 'I_N -> R) (spectral : 'I_k -> R)
    (reading : 'I_N -> 'I_k -> R) :
    (forall f z, z != right f -> margin f <= gap (alone f) (right f) z) ->
    (forall f z, z != right f -> frob2 (row (right f) E - row z E) <= readout f ^+ 2) ->
    (forall j (x : 'cV[R]_(r j)), frob2 (B j *m x) <= spectral j ^+ 2 * frob2 x) ->
    (forall f j, j != owner f -> frob2 (A j *m key f) <= reading f j ^+ 2) ->
    (forall f, 0 <= readout f) -> (forall j, 0 <= spectral j) -> (forall f j, 0 <= reading f j) ->
    (forall f, \sum_(j | j != owner f) `|w j| * (readout f * (spectral j * reading f j)) < margin f) ->
  forall f, best (merged f) (right f).
Proof.
move=> has_margin has_readout has_spectral has_reading e0 b0 a0.
apply: (interference_survival (margin := margin)) => [//|f j z j_owner z_right].
rewrite -ler_sqr ?nnegrE ?mulr_ge0 // -normrX ger0_norm ?sqr_ge0 //.
apply: le_trans (gap_norm _ _ _ _) _; rewrite !exprMn ler_pmul ?frob2_ge0 ?has_readout //.
rewrite -mulmxA; apply: le_trans (has_spectral _ _) _.
by rewrite ler_wpmul2l ?sqr_ge0 ?has_reading.
Qed.

End SurvivalFactors.

Section SurvivalOutputs.
Variables (R : realFieldType) (m n k N : nat) (r : 'I_k -> nat) (w : 'I_k -> R).
Variables (B : forall j, 'M[R]_(m, r j)) (A : forall j, 'M[R]_(r j, n)).
Variables (h : 'I_N -> 'cV[R]_m) (key : 'I_N -> 'cV[R]_n) (right : 'I_N -> 'I_m) (owner : 'I_N -> 'I_k).

(* Claim interference, as it is stated, the outputs of the adapted matrix being the logits (E = 1): two
   answers' rows are root2 = sqrt 2 apart. Ours. *)
Theorem interference_survival_root2 (root2 : R) (margin : 'I_N -> R) (spectral : 'I_k -> R)
    (reading : 'I_N -> 'I_k -> R) :
    0 <= root2 -> root2 ^+ 2 = 2%:R ->
    (forall f z, z != right f ->
       margin f <= gap (h f + w (owner f) *: (B (owner f) *m A (owner f) *m key f)) (right f) z) ->
    (forall j (x : 'cV[R]_(r j)), frob2 (B j *m x) <= spectral j ^+ 2 * frob2 x) ->
    (forall f j, j != owner f -> frob2 (A j *m key f) <= reading f j ^+ 2) ->
    (forall j, 0 <= spectral j) -> (forall f j, 0 <= reading f j) ->
    (forall f, root2 * (\sum_(j | j != owner f) `|w j| * spectral j * reading f j) < margin f) ->
  forall f, best (h f + (\sum_j w j *: (B j *m A j)) *m key f) (right f).
Proof.
move=> root0 root2E has_margin has_spectral has_reading b0 a0 small f.
rewrite -[X in best X]mul1mx.
apply: (interference_survival_norm (margin := margin) (readout := fun=> root2) (spectral := spectral)
  (reading := reading) (owner := owner)) => // {}f => [z z_right | z z_right |].
- by rewrite mul1mx has_margin.
- rewrite root2E /frob2 big_ord1 (bigD1 (right f)) //= (bigD1 z) //= big1 => [|i /andP[ir iz]].
    by rewrite !mxE !eqxx (negbTE z_right) eq_sym (negbTE z_right) subr0 sub0r sqrrN expr1n addr0.
  by rewrite !mxE eq_sym (negbTE ir) eq_sym (negbTE iz) subrr expr0n.
apply: le_lt_trans (small f); rewrite mulr_sumr ler_sum // => j _.
by rewrite mulrCA !mulrA.
Qed.
End SurvivalOutputs.

Section SurvivalEdits.
Variables (R : realFieldType) (m d n N : nat).
Variables (E : 'M[R]_(m, d)) (h : 'I_N -> 'cV[R]_d) (key : 'I_N -> 'cV[R]_n) (right : 'I_N -> 'I_m).
Variable change : 'I_N -> 'cV[R]_d.

(* The plain sum of N rank-one edits, edit g writing [change g] at [key g]; [coh g f] is how much of it
   the key of f reads, 1 at its own key and the cosine for keys of one length. *)
Let edits := \sum_g (frob2 (key g))^-1 *: (change g *m (key g)^T).
Let coh g f := (frob2 (key g))^-1 * ((key g)^T *m key f) 0 0.

Lemma edits_key f : edits *m key f = \sum_g coh g f *: change g.
Proof.
rewrite mulmx_suml; apply: eq_bigr => g _.
by rewrite -scalemxAl -mulmxA [_^T *m _]mx11_scalar mul_mx_scalar scalerA.
Qed.

Lemma coh_own f : key f != 0 -> coh f f = 1.
Proof.
rewrite -frob2_eq0 => key0; rewrite /coh -[X in _ * X]/(((key f)^T *m key f) 0 0).
suff -> : ((key f)^T *m key f) 0 0 = frob2 (key f) by rewrite mulVf.
rewrite mxE /frob2; apply: eq_bigr => i _.
by rewrite big_ord1 !mxE expr2.
Qed.

(* Claim interference, for the plain sum of rank-one edits: all N facts survive if each margin beats the
   coherences with the other keys times what the other edits do to its lead. Ours. *)
Theorem interference_edits (margin : 'I_N -> R) (gain : 'I_N -> 'I_N -> R) :
    (forall f, key f != 0) ->
    (forall f z, z != right f -> margin f <= gap (E *m (h f + change f)) (right f) z) ->
    (forall f g z, z != right f -> `|gap (E *m change g) (right f) z| <= gain f g) ->
    (forall f, \sum_(g | g != f) `|coh g f| * gain f g < margin f) ->
  forall f, best (E *m (h f + edits *m key f)) (right f).
Proof.
move=> key0 has_margin has_gain small f; apply/bestP => z z_right.
rewrite edits_key (bigD1 f) //= coh_own // scale1r addrA mulmxDr gapD mulmx_sumr gap_sum.
rewrite -ltr_subl_addr sub0r; apply: lt_le_trans (has_margin f z z_right); apply: le_lt_trans (small f).
rewrite -sumrN; apply: ler_sum => g _; apply: le_trans (ler_norm _) _.
by rewrite normrN -scalemxAr gapZ normrM ler_wpmul2l // has_gain.
Qed.

(* With one bound mu on every coherence and one on every gain: (N - 1) mu gain below the margin is
   enough. Ours. *)
Theorem interference_edits_coherence (mu margin gain : R) : 0 <= gain ->
    (forall f, key f != 0) ->
    (forall f z, z != right f -> margin <= gap (E *m (h f + change f)) (right f) z) ->
    (forall f g z, z != right f -> `|gap (E *m change g) (right f) z| <= gain) ->
    (forall f g, g != f -> `|coh g f| <= mu) -> (N.-1)%:R * (mu * gain) < margin ->
  forall f, best (E *m (h f + edits *m key f)) (right f).
Proof.
move=> gain0 key0 has_margin has_gain has_mu small.
apply: (interference_edits (margin := fun=> margin) (gain := fun _ _ => gain)) => // f.
apply: le_lt_trans small; rewrite mulr_natl -[N in N.-1]card_ord -(cardC1 f) -sumr_const.
by apply: ler_sum => g g_f; rewrite ler_wpmul2r // has_mu.
Qed.

End SurvivalEdits.

(* The margin has to be beaten: damage equal to the margin leaves a tie. *)
Example interference_tie (l : 'cV[rat]_2) : l = delta_mx 0 0 -> gap l 0 1 = 1 /\ ~~ best (l + - l) 0.
Proof.
by move=> ->; split; [rewrite /gap !mxE | rewrite subrr; apply/bestP => /(_ 1 isT); rewrite gap0 ltxx].
Qed.

(* The condition is not necessary: damages can cancel, however large. *)
Example interference_not_necessary (l x : 'cV[rat]_2) : l = delta_mx 0 0 -> x = 100%:R *: delta_mx 1 0 ->
  `|gap x 0 1| + `|gap (- x) 0 1| = 200%:R /\ best (l + (x + (- x))) 0.
Proof.
move=> -> ->; split; first by rewrite /gap !mxE; apply/eqP.
by rewrite subrr addr0; apply/bestP => z; rewrite /gap !mxE; case: z => [[|[|//]] ?].
Qed.

(* Orthogonal keys: the plain sum of two rank-one edits writes the facts exactly. *)
Example interference_orthogonal (R : realFieldType) (d n : nat) (k1 k2 : 'cV[R]_n) (c1 c2 : 'cV[R]_d) :
  k1 != 0 -> k2^T *m k1 = 0 ->
  ((frob2 k1)^-1 *: (c1 *m k1^T) + (frob2 k2)^-1 *: (c2 *m k2^T)) *m k1 = c1.
Proof.
move=> k1_0 k21; rewrite mulmxDl -!scalemxAl -!mulmxA k21 mulmx0 scaler0 addr0.
have -> : k1^T *m k1 = (frob2 k1)%:M.
  rewrite [k1^T *m _]mx11_scalar; congr _%:M; rewrite mxE /frob2.
  by apply: eq_bigr => i _; rewrite big_ord1 !mxE expr2.
by rewrite mul_mx_scalar scalerA mulVf ?scale1r // frob2_eq0.
Qed.
