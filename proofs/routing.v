(* Routing: a query is handed to one adapter.

   q            == the table of the second adapter, q y the right answer for bridge y; uniform over
                   {ffun Y -> Z} = independent uniform entries
   g1 y         == the answer of adapter 1 alone: it knows the bridge y, not the table
   g2 q         == the answer of adapter 2 alone: it knows the table q, not the bridge
   max_load q   == the size of the largest bin when the |Y| entries of q fall into the |Z| values;
                   its mean over q is maxload(|Y|, |Z|)

   Trap: all counts are in nat; dividing by |Y| |Z|^|Y| gives probabilities, and the bound may exceed
   1 (the ceiling of the code is clamped to 1). *)
From mathcomp Require Import all_ssreflect all_algebra.
From LoraLimits Require Import lowrank facts.
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
