(* Routing: a query is handed to one adapter, or experts are weighted by gates.

   q            == the table of the second adapter, q y the right answer for bridge y; uniform over
                   {ffun Y -> Z} = independent uniform entries
   g1 y         == the answer of adapter 1 alone: it knows the bridge y, not the table
   g2 q         == the answer of adapter 2 alone: it knows the table q, not the bridge
   max_load q   == the size of the largest bin when the |Y| entries of q fall into the |Z| values;
                   its mean over q is maxload(|Y|, |Z|)
   gated g U    == what the experts U add together at the gates g, \sum_k g k *: U k

   Trap: all counts are in nat; dividing by |Y| |Z|^|Y| gives probabilities, and the bound may exceed
   1 (the ceiling of the code is clamped to 1). *)
From mathcomp Require Import all_ssreflect all_algebra.
From LoraLimits Require Import lowrank facts additive.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

Definition max_load (Y Z : finType) (q : {ffun Y -> Z}) : nat := \max_(z : Z) #|[set y | q y == z]|.

Section HardRouting.
Variables Y Z : finType.
Implicit Types q : {ffun Y -> Z}.
Local Open Scope nat_scope.

Lemma load_sum q z : \sum_y (z == q y) = #|[set y | q y == z]|.
Proof.
rewrite -sum1_card [RHS]big_mkcond; apply: eq_bigr => y _.
by rewrite inE eq_sym; case: eqP.
Qed.

Lemma load_le_max q z : #|[set y | q y == z]| <= max_load q.
Proof. exact: (leq_bigmax_cond (F := fun z => #|[set y | q y == z]|)). Qed.

Lemma max_load_attained (z0 : Z) q : exists z, #|[set y | q y == z]| == max_load q.
Proof.
have Z_gt0 : 0 < #|Z| by apply/card_gt0P; exists z0.
have [z maxE] := eq_bigmax (fun z => #|[set y | q y == z]|) Z_gt0.
by exists z; rewrite /max_load maxE.
Qed.

(* hard_routing, last sentence (ours): an answer that does not depend on the bridge is right at most
   maxload(n, m)/n of the time. *)
Theorem blind_to_bridge (g2 : {ffun Y -> Z} -> Z) :
  \sum_(q : {ffun Y -> Z}) \sum_(y : Y) (g2 q == q y) <= \sum_(q : {ffun Y -> Z}) max_load q.
Proof. by apply: leq_sum => q _; rewrite load_sum load_le_max. Qed.

(* The same bound is attained, by the most frequent value of the table. *)
Theorem blind_to_bridge_attained (z0 : Z) : exists g2,
  \sum_(q : {ffun Y -> Z}) \sum_(y : Y) (g2 q == q y) = \sum_(q : {ffun Y -> Z}) max_load q.
Proof.
pose mode q := xchoose (max_load_attained z0 q).
exists mode; apply: eq_bigr => q _.
by rewrite load_sum; apply/eqP; apply: (xchooseP (max_load_attained z0 q)).
Qed.

(* hard_routing, last sentence, in brackets (ours): an answer that ignores the table, bridge known or
   not, is right exactly 1/m of the time. *)
Theorem blind_to_table (g1 : Y -> Z) :
  \sum_(q : {ffun Y -> Z}) \sum_(y : Y) (g1 y == q y) = #|Y| * #|Z| ^ #|Y|.-1.
Proof.
rewrite -(counting_single (finfun g1)); apply: eq_bigr => q _; rewrite agreeE.
by apply: eq_bigr => y _; rewrite ffunE.
Qed.

(* hard_routing (ours), first sentence: whichever adapter the oracle picks, query by query. *)
Theorem hard_routing (g1 : Y -> Z) (g2 : {ffun Y -> Z} -> Z) :
  \sum_(q : {ffun Y -> Z}) \sum_(y : Y) ((g1 y == q y) || (g2 q == q y))
    <= #|Y| * #|Z| ^ #|Y|.-1 + \sum_(q : {ffun Y -> Z}) \max_(z : Z) #|[set y | q y == z]|.
Proof.
rewrite -(blind_to_table g1); apply: leq_trans (leq_add (leqnn _) (blind_to_bridge g2)).
rewrite -big_split; apply: leq_sum => q _; rewrite -big_split; apply: leq_sum => y _ /=.
by case: (g1 y == q y).
Qed.

(* hard_routing with t further choices, none of which knows the table (ours). *)
Theorem hard_routing_choices t (g1 : Y -> Z) (g2 : {ffun Y -> Z} -> Z) (others : 'I_t -> Y -> Z) :
  \sum_(q : {ffun Y -> Z}) \sum_(y : Y) [|| g1 y == q y, g2 q == q y | [exists i, others i y == q y]]
    <= t.+1 * (#|Y| * #|Z| ^ #|Y|.-1) + \sum_(q : {ffun Y -> Z}) max_load q.
Proof.
have others_right : \sum_(q : {ffun Y -> Z}) \sum_(y : Y) [exists i, others i y == q y] <= t * (#|Y| * #|Z| ^ #|Y|.-1).
  apply: (@leq_trans (\sum_(q : {ffun Y -> Z}) \sum_(y : Y) \sum_i (others i y == q y))).
    apply: leq_sum => q _; apply: leq_sum => y _.
    by case: existsP => // -[i right]; rewrite (bigD1 i) //= right.
  under eq_bigr do rewrite exchange_big; rewrite exchange_big /=.
  by rewrite (eq_bigr _ (fun i _ => blind_to_table (others i))) sum_nat_const card_ord.
rewrite mulSn -addnA addnCA; apply: leq_trans (leq_add others_right (hard_routing g1 g2)).
rewrite -big_split; apply: leq_sum => q _; rewrite -big_split; apply: leq_sum => y _ /=.
by case: (g1 y == q y); case: (g2 q == q y); case: [exists i, _].
Qed.

(* hard_routing for a router proper: [route y q] says whether adapter 1 answers. *)
Theorem hard_routing_router (route : Y -> {ffun Y -> Z} -> bool) (g1 : Y -> Z) (g2 : {ffun Y -> Z} -> Z) :
  \sum_(q : {ffun Y -> Z}) \sum_(y : Y) ((if route y q then g1 y else g2 q) == q y)
    <= #|Y| * #|Z| ^ #|Y|.-1 + \sum_(q : {ffun Y -> Z}) max_load q.
Proof.
apply: leq_trans (hard_routing g1 g2); apply: leq_sum => q _; apply: leq_sum => y _.
by case: route; case: (g1 y == q y); case: (g2 q == q y).
Qed.

(* hard_routing, "a ceiling, not an optimum" (ours): never attained. At the table q = g1 adapter 1 is
   right everywhere, and adapter 2's share is counted again. *)
Theorem hard_routing_strict (g1 : Y -> Z) (g2 : {ffun Y -> Z} -> Z) : 0 < #|Y| ->
  \sum_(q : {ffun Y -> Z}) \sum_(y : Y) ((g1 y == q y) || (g2 q == q y))
    < #|Y| * #|Z| ^ #|Y|.-1 + \sum_(q : {ffun Y -> Z}) max_load q.
Proof.
case/card_gt0P => y0 _; pose q1 : {ffun Y -> Z} := finfun g1.
have gap q : \sum_(y : Y) ((g1 y == q y) || (g2 q == q y)) + (q == q1)
    <= \sum_(y : Y) (g1 y == q y) + max_load q.
  have [-> | _] := eqVneq q q1; last first.
    rewrite addn0; apply: leq_trans (leq_add (leqnn _) (load_le_max q (g2 q))).
    rewrite -load_sum -big_split; apply: leq_sum => y _ /=.
    by case: (g1 y == q y).
  apply: leq_add; first by apply: leq_sum => y _; rewrite ffunE eqxx.
  apply: leq_trans (load_le_max q1 (g1 y0)).
  by apply/card_gt0P; exists y0; rewrite inE ffunE.
have total : \sum_(q : {ffun Y -> Z}) (\sum_y ((g1 y == q y) || (g2 q == q y)) + (q == q1))
    <= \sum_(q : {ffun Y -> Z}) (\sum_y (g1 y == q y) + max_load q) by apply: leq_sum => q _; apply: gap.
have one_q1 : \sum_(q : {ffun Y -> Z}) (q == q1) = 1.
  by rewrite (bigD1 q1) //= eqxx big1 // => q /negbTE ->.
by move: total; rewrite !big_split /= blind_to_table one_q1 addn1.
Qed.

End HardRouting.

Section Accuracy.
Variable R : realFieldType.

(* maxload(n, m): the mean of the largest bin over uniform tables. *)
Definition maxload (Y Z : finType) : R :=
  (\sum_(q : {ffun Y -> Z}) max_load q)%N%:R / (#|Z| ^ #|Y|)%N%:R.

(* hard_routing in the form in which it is computed: mean accuracy over uniform bridge and table is at
   most 1/m + maxload(n, m)/n, and at most 1. *)
Theorem hard_routing_accuracy (Y Z : finType) (route : Y -> {ffun Y -> Z} -> bool)
    (g1 : Y -> Z) (g2 : {ffun Y -> Z} -> Z) : (0 < #|Y|)%N ->
  (\sum_(q : {ffun Y -> Z}) \sum_(y : Y) ((if route y q then g1 y else g2 q) == q y))%N%:R
      / (#|Y| * #|Z| ^ #|Y|)%N%:R
    <= Num.min 1 (#|Z|%:R^-1 + maxload Y Z / #|Y|%:R).
Proof.
move=> Y_gt0; have Z_gt0 : (0 < #|Z|)%N by have [y0 _] := card_gt0P Y_gt0; apply/card_gt0P; exists (g1 y0).
have n_gt0 : 0 < #|Y|%:R :> R by rewrite ltr0n.
have m_gt0 : 0 < #|Z|%:R :> R by rewrite ltr0n.
have all_gt0 : 0 < (#|Y| * #|Z| ^ #|Y|)%N%:R :> R by rewrite ltr0n muln_gt0 Y_gt0 expn_gt0 Z_gt0.
rewrite le_minr !ler_pdivr_mulr //; apply/andP; split.
  rewrite mul1r ler_nat mulnC -card_ffun -sum_nat_const; apply: leq_sum => q _.
  by rewrite -sum1_card; apply: leq_sum => y _; case: eqP.
have -> : (#|Z|%:R^-1 + maxload Y Z / #|Y|%:R) * (#|Y| * #|Z| ^ #|Y|)%N%:R
    = (#|Y| * #|Z| ^ #|Y|.-1 + \sum_(q : {ffun Y -> Z}) max_load q)%N%:R :> R.
  have tables_neq0 : (#|Z| ^ #|Y|)%N%:R != 0 :> R by rewrite pnatr_eq0 -lt0n expn_gt0 Z_gt0.
  rewrite mulrDl natrD; congr (_ + _).
    have -> : (#|Z| ^ #|Y| = #|Z| * #|Z| ^ #|Y|.-1)%N by rewrite -expnS prednK.
    by rewrite mulnCA natrM mulKf ?gt_eqF.
  by rewrite natrM mulrA divfK ?gt_eqF // /maxload divfK.
by rewrite ler_nat hard_routing_router.
Qed.

End Accuracy.

Section Instances.
Local Open Scope nat_scope.

(* Two bridges: the two entries collide in m of the m^2 tables, so maxload(2, m) = 1 + 1/m. *)
Lemma max_load_pair (Z : finType) (q : {ffun bool -> Z}) :
  max_load q = 1 + (q true == q false).
Proof.
have loadE z : #|[set y | q y == z]| = (q true == z) + (q false == z).
  by rewrite -load_sum big_bool !(eq_sym z).
apply/eqP; rewrite eqn_leq; apply/andP; split.
  apply/bigmax_leqP => z _; rewrite loadE.
  case: eqP => [-> | _]; first by rewrite leq_add2l eq_sym.
  by rewrite add0n (leq_trans (leq_b1 _)).
by apply: leq_trans (load_le_max q (q true)); rewrite loadE eqxx eq_sym.
Qed.

Example max_load_two (Z : finType) :
  \sum_(q : {ffun bool -> Z}) max_load q = #|Z| ^ 2 + #|Z|.
Proof.
rewrite (eq_bigr _ (fun q _ => max_load_pair q)) big_split /=.
rewrite sum1_card card_ffun card_bool; congr (_ + _).
have diagonal : injective (fun z : Z => [ffun=> z] : {ffun bool -> Z}).
  by move=> z1 z2 /ffunP/(_ true); rewrite !ffunE.
rewrite -(card_image diagonal) -sum1_card [RHS]big_mkcond; apply: eq_bigr => q _.
suff -> : (q \in [seq [ffun=> z] | z : Z]) = (q true == q false) by case: eqP.
apply/imageP/eqP => [[z _ ->] | collide]; first by rewrite !ffunE.
by exists (q true) => //; apply/ffunP => -[]; rewrite ffunE.
Qed.

(* Ignoring the counts is not enough for 1/m: the answer "the entry of one fixed bridge" counts nothing,
   and at two bridges it already attains maxload, 1/2 + 1/(2 m) of the answers. *)
Example blind_to_bridge_one_entry (Z : finType) :
  \sum_(q : {ffun bool -> Z}) \sum_(y : bool) (q true == q y) = #|Z| ^ 2 + #|Z|.
Proof.
rewrite -max_load_two; apply: eq_bigr => q _.
by rewrite big_bool max_load_pair eqxx.
Qed.

(* At two bridges the ceiling is 1/m + (1 + 1/m)/2: in counts 2 m + m^2 + m out of 2 m^2, vacuous
   for m <= 3 and 3/4 at m = 6, out of |Y| m^|Y| = 72: 54. *)
Example hard_routing_two (g1 : bool -> 'I_6) (g2 : {ffun bool -> 'I_6} -> 'I_6) :
  \sum_(q : {ffun bool -> 'I_6}) \sum_(y : bool) ((g1 y == q y) || (g2 q == q y)) <= 54.
Proof.
by apply: leq_trans (hard_routing g1 g2) _; rewrite max_load_two card_ord card_bool.
Qed.

(* The premise that adapter 1 does not know the table is needed: with it every answer is right. *)
Example hard_routing_leak : exists g : {ffun bool -> 'I_6} -> bool -> 'I_6,
  54 < \sum_(q : {ffun bool -> 'I_6}) \sum_(y : bool) (g q y == q y).
Proof.
exists (fun q y => q y).
rewrite (eq_bigr (fun=> 2)) => [|q _]; last by rewrite big_bool !eqxx.
by rewrite sum_nat_const card_ffun card_ord card_bool.
Qed.

(* No bridge at all: the strict form fails at |Y| = 0, both sides being 0. *)
Example hard_routing_strict_empty (g1 : 'I_0 -> 'I_2) (g2 : {ffun 'I_0 -> 'I_2} -> 'I_2) :
  \sum_(q : {ffun 'I_0 -> 'I_2}) \sum_(y : 'I_0) ((g1 y == q y) || (g2 q == q y))
    = #|'I_0| * #|'I_2| ^ #|'I_0|.-1 + \sum_(q : {ffun 'I_0 -> 'I_2}) max_load q.
Proof.
rewrite card_ord mul0n add0n; apply: eq_bigr => q _; rewrite big_ord0.
by apply/esym/eqP; rewrite -leqn0; apply/bigmax_leqP => z _; rewrite -load_sum big_ord0.
Qed.

End Instances.

(* ---- gates: experts that are weighted input by input ---- *)

(* What the experts U add together at the gates g. *)
Definition gated (F : fieldType) m n K (g : 'I_K -> F) (U : 'I_K -> 'M[F]_(m, n)) : 'M[F]_(m, n) :=
  \sum_k g k *: U k.

Section GatedMerge.
Variables (F : fieldType) (m n K : nat) (C : Type) (g : C -> 'I_K -> F) (U : 'I_K -> 'M[F]_(m, n)).

(* Claim gated_merge: gates that depend on a context u, whose inputs span. One weight serves all contexts
   exactly if the gated sum is the same in all of them. Ours. *)
Theorem gated_merge (N : C -> nat) (X : forall u, 'M[F]_(n, N u)) (W : 'M[F]_(m, n)) (u0 : C) :
  (forall u, \rank (X u) = n) ->
  (exists W', forall u, W' *m X u = W *m X u + gated (g u) U *m X u) <->
  forall u v, gated (g u) U = gated (g v) U.
Proof.
move=> span; split=> [[W' serves] u v | same]; last first.
  by exists (W + gated (g u0) U) => u; rewrite mulmxDl (same u u0).
have sumE c : W + gated (g c) U = W'.
  have freeX : row_free (X c) by rewrite /row_free span.
  by apply: (row_free_inj freeX); rewrite mulmxDl serves.
by apply: (addrI W); rewrite !sumE.
Qed.

(* Claim gated_merge, for linearly independent experts that is: exactly if no gate moves. Standard. *)
Theorem gated_merge_gates : (forall c : 'I_K -> F, gated c U = 0 -> forall k, c k = 0) ->
  (forall u v, gated (g u) U = gated (g v) U) <-> (forall u v k, g u k = g v k).
Proof.
move=> free; split=> [same u v k | same u v]; last by apply: eq_bigr => k _; rewrite (same u v).
apply/eqP; rewrite -subr_eq0; apply/eqP; apply: (free (fun k => g u k - g v k)).
have := same u v => /eqP; rewrite -subr_eq0 -sumrB => /eqP <-.
by apply: eq_bigr => k' _; rewrite scalerBl.
Qed.

End GatedMerge.

Section GatedError.
Variables (R : realFieldType) (m n K : nat) (C : finType) (mu : C -> R) (g : C -> 'I_K -> R).
Variables (U : 'I_K -> 'M[R]_(m, n)).

(* Claim gated_merge, the merge that ignores the gates: off by the experts at one minus the gates; with
   gates 1/K everywhere it adds K times what it should. Ours. *)
Theorem gated_merge_ignored (c : 'I_K -> R) :
  (\sum_k U k)%R - gated c U = gated (fun k => 1 - c k) U /\
  ((0 < K)%N -> (\sum_k U k)%R = K%:R *: gated (fun=> K%:R^-1) U).
Proof.
split; first by rewrite -sumrB; apply: eq_bigr => k _; rewrite scalerBl scale1r.
move=> K0; rewrite scaler_sumr; apply: eq_bigr => k _.
by rewrite scalerA mulfV ?scale1r // pnatr_eq0 -lt0n.
Qed.

(* Claim gated_merge, the best fixed update is that at the mean gates: every other adds its distance from
   it to the mean squared error. Standard. *)
Theorem gated_merge_best (V : 'M[R]_(m, n)) (mean := fun k => \sum_u mu u * g u k) : \sum_u mu u = 1 ->
  \sum_u mu u * frob2 (V - gated (g u) U) =
    frob2 (V - gated mean U) + \sum_u mu u * frob2 (gated mean U - gated (g u) U).
Proof.
move=> mu1; have centred : \sum_u mu u *: (gated mean U - gated (g u) U) = 0.
  rewrite (eq_bigr _ (fun u _ => scalerBr _ _ _)) sumrB -scaler_suml mu1 scale1r.
  apply/eqP; rewrite subr_eq0; apply/eqP; rewrite /gated [RHS](eq_bigr _ (fun u _ => scaler_sumr _ _ _ _)).
  rewrite exchange_big; apply: eq_bigr => k _; rewrite /mean scaler_suml.
  by apply: eq_bigr => u _; rewrite scalerA.
have step u : mu u * frob2 (V - gated (g u) U) = mu u * frob2 (V - gated mean U)
    + mu u * frob2 (gated mean U - gated (g u) U)
    + 2%:R * (\tr ((V - gated mean U) *m (mu u *: (gated mean U - gated (g u) U))^T)).
  rewrite -[V - gated (g u) U](subrKA (gated mean U)) [frob2 (_ + (_ - _))]frob2D mulrDr mulrDr mulrnAr.
  rewrite -[_ *+ 2]mulr_natl; congr (_ + _ * _).
  by rewrite [(mu u *: _)^T]linearZ -scalemxAr mxtraceZ.
rewrite (eq_bigr _ (fun u _ => step u)) !big_split /= -mulr_suml mu1 mul1r -mulr_sumr -[RHS]addr0.
congr (_ + _); rewrite -raddf_sum -mulmx_sumr -linear_sum centred linear0 mulmx0 raddf0.
by rewrite mulr0.
Qed.

End GatedError.

(* Claim gated_merge, gates that depend on the prompt alone: experts that know the bridge and experts that know
   the table, none both, stay additive at the prompt, on the last matrix. Ours. *)
Theorem gated_merge_limit (R : realFieldType) (d m n K : nat) (Y : finType) (E : 'M[R]_(m, d)) (h : 'cV[R]_d)
    (x : 'I_K -> 'cV[R]_n) (g : 'I_K -> R) (first : pred 'I_K)
    (U1 : Y -> 'I_K -> 'M[R]_(d, n)) (U2 : {ffun Y -> 'I_m} -> 'I_K -> 'M[R]_(d, n)) :
  additive_bounds #|Y| m (\sum_(q : {ffun Y -> 'I_m}) \sum_(y : Y)
    correct_by 0 (fun y q z =>
      (E *m (h + \sum_k g k *: ((if first k then U1 y k else U2 q k) *m x k))) z ord0)%R y q).
Proof.
pose a y z := (E *m (h + \sum_(k | first k) g k *: (U1 y k *m x k))) z ord0.
pose b (q : {ffun Y -> 'I_m}) z := (E *m (\sum_(k | ~~ first k) g k *: (U2 q k *m x k))) z ord0.
rewrite -[m in additive_bounds _ m]card_ord.
apply: (additive_ceilings (a := a) (b := b)) => y q /correct_byP ok.
apply/correctP => z zq; have := ok z zq; rewrite addr0.
have splitE z' : (E *m (h + \sum_k g k *: ((if first k then U1 y k else U2 q k) *m x k))) z' ord0 = a y z' + b q z'.
  rewrite /a /b (bigID first) /= addrA mulmxDr mxE; congr (_ + _).
    by congr ((E *m (h + _)) z' ord0); apply: eq_bigr => k ->.
  by congr ((E *m _) z' ord0); apply: eq_bigr => k /negPf ->.
by rewrite !splitE.
Qed.

(* Claim gated_merge, gates that have learnt the group of the bridge: one expert knows the table on a group Y of
   bridges, the others know those of other groups, given here; base and first hops may know the bridge. While
   that expert's gate is positive, the ceilings of the group stand. Ours. *)
Theorem gated_merge_groups (R : realFieldType) (d m n K : nat) (Y : finType) (E : 'M[R]_(m, d))
    (h : Y -> 'cV[R]_d) (x : 'I_K -> 'cV[R]_n) (g : Y -> 'I_K -> R) (group : 'I_K)
    (V : 'I_K -> 'M[R]_(d, n)) (U : {ffun Y -> 'I_m} -> 'M[R]_(d, n)) : (forall y, 0 < g y group) ->
  additive_bounds #|Y| m (\sum_(q : {ffun Y -> 'I_m}) \sum_(y : Y)
    correct_by 0 (fun y q z =>
      (E *m (h y + \sum_k g y k *: ((if k == group then U q else V k) *m x k))) z ord0)%R y q).
Proof.
move=> g_gt0; pose a y z := (E *m (h y + \sum_(k | k != group) g y k *: (V k *m x k))) z ord0 / g y group.
pose b q z := (E *m (U q *m x group)) z ord0.
rewrite -[m in additive_bounds _ m]card_ord.
apply: (additive_ceilings (a := a) (b := b)) => y q /correct_byP ok.
apply/correctP => z zq; have := ok z zq; rewrite addr0.
have splitE z' : (E *m (h y + \sum_k g y k *: ((if k == group then U q else V k) *m x k))) z' ord0 =
    g y group * (a y z' + b q z').
  rewrite (bigD1 group) //= eqxx addrCA mulmxDr -scalemxAr [LHS]mxE [X in X + _]mxE mulrDr addrC.
  congr (_ + _); rewrite /a mulrCA mulfV ?gt_eqF // mulr1; congr ((E *m (h y + _)) z' ord0).
  by apply: eq_bigr => k /negPf ->.
by rewrite !splitE ltr_pmul2l.
Qed.

(* Claim gated_merge, gates that have learnt the bridge escape: with one expert for each bridge, which writes
   the table's answer there, every two-hop query is answered. Ours. *)
Theorem gated_merge_bridge (R : realFieldType) (m n : nat) (q : {ffun 'I_n -> 'I_m}) (y : 'I_n) :
  correct_by 0 (fun y (q : {ffun 'I_n -> 'I_m}) z =>
    (\sum_k (k == y)%:R *: (delta_mx (q k) 0 : 'cV[R]_m)) z ord0) y q.
Proof.
apply/correct_byP => z z_q; rewrite addr0 (bigD1 y) //= big1 => [|k /negPf ->]; last by rewrite scale0r.
by rewrite addr0 eqxx scale1r !mxE eqxx andbT (negPf z_q) ltr01.
Qed.

(* Gates may move and their sum stand still: two equal experts. *)
Example gated_merge_equal (U : 'M[rat]_1) (c : rat) :
  gated (fun k : 'I_2 => if k == ord0 then c else 1 - c) (fun=> U) = U.
Proof. by rewrite /gated !big_ord_recl big_ord0 addr0 -scalerDl addrC subrK scale1r. Qed.

(* Claim gated_merge, a gate of both signs escapes: with two bridges and three values 16 of 18 queries are right,
   where the ceiling is 15. Ours. *)
Theorem gated_merge_sign_needed
    (g := fun y : 'I_2 => 1 - (y : nat)%:R *+ 2 : rat)
    (a := fun (y : 'I_2) (z : 'I_3) => ((y : nat) * (z == ord0))%:R *+ 2 : rat)
    (b := fun (q : {ffun 'I_2 -> 'I_3}) z =>
      (if q ord0 == q ord_max then (q ord0 == z)%:R else (q ord0 == z)%:R *+ 3 - (q ord_max == z)%:R *+ 3) : rat) :
  (15 < \sum_(q : {ffun 'I_2 -> 'I_3}) \sum_(y : 'I_2) correct_by 0 (fun y q z => (a y z + g y * b q z)%R) y q)%N.
Proof.
pose easy (y : 'I_2) (q : {ffun 'I_2 -> 'I_3}) := [|| q ord0 != q ord_max, y == ord0 | q ord0 == ord0].
have two (y : 'I_2) : y = ord0 \/ y = ord_max by case: y => [[|[|//]] ?]; [left | right]; apply: val_inj.
have right y q : easy y q -> correct_by 0 (fun y q z => (a y z + g y * b q z)%R) y q.
  move=> easy_yq; apply/correct_byP => z; move: easy_yq; rewrite /easy /g /a /b.
  have [-> | ->] := two y.
    by case: (q ord0) (q ord_max) z => [[|[|[|//]]] ?] [[|[|[|//]]] ?] [[|[|[|//]]] ?].
  by case: (q ord0) (q ord_max) z => [[|[|[|//]]] ?] [[|[|[|//]]] ?] [[|[|[|//]]] ?].
pose hard := [set q : {ffun 'I_2 -> 'I_3} | (q ord0 == q ord_max) && (q ord0 != ord0)].
have card_hard : (#|hard| <= 2)%N.
  have inj : {in hard &, injective (fun q : {ffun 'I_2 -> 'I_3} => q ord0)}.
    move=> q q'; rewrite !inE => /andP[/eqP q01 _] /andP[/eqP q'01 _] eq0; apply/ffunP => y.
    by have [-> | ->] := two y; rewrite // -q01 -q'01.
  rewrite -(card_in_imset inj); apply: leq_trans (_ : #|[set~ (ord0 : 'I_3)]| <= 2)%N; last by rewrite cardsC1 card_ord.
  by apply/subset_leq_card/subsetP => _ /imsetP[q + ->]; rewrite !inE => /andP[].
have each q : (\sum_y easy y q + (q \in hard))%N = 2%N.
  rewrite big_ord_recl big_ord1 /easy inE /=.
  by case: (q ord0 == q ord_max); case: (q ord0 == ord0).
have total : (\sum_q \sum_y easy y q + #|hard|)%N = 18%N.
  have -> : #|hard| = (\sum_q (q \in hard))%N.
    by rewrite -sum1_card big_mkcond; apply: eq_bigr => q _; case: (q \in hard).
  rewrite -big_split (eq_bigr _ (fun q _ => each q)) sum_nat_const.
  by rewrite card_ffun !card_ord.
apply: (@leq_trans (\sum_q \sum_y easy y q)%N).
  by rewrite -(leq_add2r #|hard|) total (leq_add2l 16 _ 2).
apply: leq_sum => q _; apply: leq_sum => y _.
by case easy_yq: (easy y q) => //; rewrite right.
Qed.
