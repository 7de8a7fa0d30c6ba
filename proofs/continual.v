(* Continual merging: heads that train from the merged weights, round after round.

   W t         == the merged weights before round t
   U t h       == the update of head h in round t
   K h, D h    == the keys of head h's facts, one per column, and the outputs wanted there

   Traps: \rank (\sum_h U h) may be read in scope MS, where the sum is one of row spaces. *)
From mathcomp Require Import all_ssreflect all_algebra.
From LoraLimits Require Import lowrank adapters approximation facts merging.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* A uniform mean closes one H-th of what is left in each round, where each head fits its own facts from
   the merged weights and leaves the keys of the others alone. *)
Theorem round_dilution (F : fieldType) (m n H : nat) (N : 'I_H -> nat)
    (K : forall h, 'M[F]_(n, N h)) (D : forall h, 'M[F]_(m, N h))
    (W : nat -> 'M[F]_(m, n)) (U : nat -> 'I_H -> 'M[F]_(m, n)) :
  H%:R != 0 :> F ->
  (forall t h, U t h *m K h = D h - W t *m K h) ->
  (forall t h g, h != g -> U t h *m K g = 0) ->
  (forall t, W t.+1 = W t + H%:R^-1 *: \sum_h U t h) ->
  forall T h, D h - W T *m K h = (1 - H%:R^-1) ^+ T *: (D h - W 0%N *m K h).
Proof.
move=> _ fits apart merges T h; elim: T => [|T IHT]; first by rewrite scale1r.
rewrite exprS -scalerA -IHT merges mulmxDl -scalemxAl mulmx_suml (bigD1 h) //= fits.
rewrite big1 => [|g gh]; last exact: apart.
by rewrite addr0 scalerBl scale1r opprD addrA.
Qed.

(* What is written after T rounds, as a share of the whole change. *)
Definition round_share (F : fieldType) (H T : nat) : F := 1 - (1 - H%:R^-1) ^+ T.

(* So a fact, or any combination c of head h's facts, is answered after T rounds exactly where that share
   of its gain beats the base's deficit. *)
Theorem round_dilution_answer (R : realFieldType) (v m n H : nat) (N : 'I_H -> nat)
    (K : forall h, 'M[R]_(n, N h)) (D : forall h, 'M[R]_(m, N h))
    (W : nat -> 'M[R]_(m, n)) (U : nat -> 'I_H -> 'M[R]_(m, n))
    (E : 'M[R]_(v, m)) (x : 'cV[R]_m) (h : 'I_H) (c : 'cV[R]_(N h)) (z0 : 'I_v) :
  (forall t g, U t g *m K g = D g - W t *m K g) ->
  (forall t f g, f != g -> U t f *m K g = 0) ->
  (forall t, W t.+1 = W t + H%:R^-1 *: \sum_g U t g) ->
  let base := E *m (x + W 0%N *m K h *m c) in
  let edit := E *m ((D h - W 0%N *m K h) *m c) in
  forall T, best (E *m (x + W T *m K h *m c)) z0 <->
            (forall z, z != z0 -> - gap base z0 z < round_share R H T * gap edit z0 z).
Proof.
move=> fits apart merges base edit T.
have H0 : H%:R != 0 :> R by rewrite pnatr_eq0 -lt0n; apply: leq_ltn_trans (ltn_ord h).
have writtenE : W T *m K h = W 0%N *m K h + round_share R H T *: (D h - W 0%N *m K h).
  rewrite scalerBl scale1r -(round_dilution H0 fits apart merges T h).
  by rewrite opprB addrC addrAC subrK addrC subrK.
have gapE z : (0 < gap (E *m (x + W T *m K h *m c)) z0 z) = (- gap base z0 z < round_share R H T * gap edit z0 z).
  by rewrite writtenE mulmxDl -scalemxAl addrA mulmxDr -scalemxAr gapD gapZ -ltr_subl_addl sub0r.
by split=> [/bestP kept z /kept | kept]; [rewrite gapE | apply/bestP => z /kept; rewrite gapE].
Qed.

Lemma pow_share (R : realFieldType) (h : R) (T : nat) : 0 <= h <= 1 -> (1 - h) ^+ T * (1 + T%:R * h) <= 1.
Proof.
move=> /andP[h0 h1]; elim: T => [|T IHT]; first by rewrite mul0r addr0 mulr1.
have g0 : 0 <= 1 - h by rewrite subr_ge0.
apply: le_trans IHT; rewrite exprSr -mulrA ler_wpmul2l ?exprn_ge0 //.
rewrite -addn1 natrD [_ * h]mulrDl mul1r addrA mulrBl mul1r ler_subl_addr ler_add2l -[X in X <= _]mulr1.
by rewrite ler_wpmul2l // -addrA ler_addl addr_ge0 // mulr_ge0 // ler0n.
Qed.

(* Against rivals that the whole change beats, some number of rounds is enough, and so is every larger one. *)
Theorem round_dilution_lasts (R : archiFieldType) (H : nat) (rivals : finType) (gain deficit : rivals -> R) :
  (0 < H)%N -> (forall z, deficit z < gain z) ->
  exists T0, forall T, (T0 <= T)%N -> forall z, deficit z < round_share R H T * gain z.
Proof.
move=> H0 wins; set h : R := H%:R^-1.
have Hpos : 0 < H%:R :> R by rewrite ltr0n.
have h01 : 0 <= h <= 1 by rewrite invr_ge0 ler0n invf_le1 // ler1n.
have one z : exists T0, forall T, (T0 <= T)%N -> deficit z < round_share R H T * gain z.
  have pow0 T : 0 <= (1 - h) ^+ T by rewrite exprn_ge0 // subr_ge0; case/andP: h01.
  have [gain_le0 | gain0] := leP (gain z) 0.
    exists 0%N => T _; apply: lt_le_trans (wins z) _.
    by rewrite /round_share mulrBl mul1r ler_addl oppr_ge0 mulr_ge0_le0 // pow0.
  pose e := gain z - deficit z; have e0 : 0 < e by rewrite subr_gt0.
  exists (Num.bound (gain z * H%:R / e)) => T le_T.
  have bound_lt : gain z * H%:R / e < T%:R.
    apply: lt_le_trans (archi_boundP _) _; last by rewrite ler_nat.
    by rewrite divr_ge0 ?mulr_ge0 ?ltW.
  rewrite /round_share mulrBl mul1r ltr_subr_addl -ltr_subr_addr -/e.
  have Th0 : 0 < 1 + T%:R * h by apply: ltr_spaddl; rewrite ?ltr01 ?mulr_ge0 ?ler0n //; case/andP: h01.
  rewrite -(ltr_pmul2r Th0) mulrAC; apply: le_lt_trans (ler_wpmul2r (ltW gain0) (pow_share T h01)) _.
  rewrite mul1r mulrDr mulr1; apply: ltr_spaddl => //; rewrite mulrA /h ler_pdivl_mulr //.
  by move: bound_lt; rewrite ltr_pdivr_mulr // [T%:R * e]mulrC => /ltW.
have [T0 enough] := fin_all_exists one; exists (\max_z T0 z) => T le_T z.
by apply: enough; apply: leq_trans le_T; apply: leq_bigmax.
Qed.

(* Against one rival some number of rounds will do exactly where the base or the whole change beats it. *)
Theorem round_dilution_reached (R : archiFieldType) (H : nat) (gain deficit : R) : (0 < H)%N ->
  (exists T, deficit < round_share R H T * gain) <-> deficit < 0 \/ deficit < gain.
Proof.
move=> H0; split=> [[T] | [base | whole]]; last 2 first.
- by exists 0%N; rewrite /round_share expr0 subrr mul0r.
- have [T0 enough] := round_dilution_lasts (rivals := unit_finType) (gain := fun=> gain) (deficit := fun=> deficit) H0 (fun=> whole).
  by exists T0; apply: enough (leqnn _) tt.
have /andP[s0 s1] : 0 <= round_share R H T <= 1.
  rewrite /round_share subr_ge0 ler_subl_addr ler_addl exprn_ile1 ?exprn_ge0 ?subr_ge0 ?ler_subl_addr ?ler_addl //;
  by rewrite ?invr_ge0 ?invf_le1 ?ltr0n ?ler0n ?ler1n.
have [gain_le0 beats | /ltW gain0 beats] := leP gain 0.
  by left; apply: lt_le_trans beats _; apply: mulr_ge0_le0.
by right; apply: lt_le_trans beats _; rewrite -[X in _ <= X]mul1r ler_wpmul2r.
Qed.

(* Without reset the merges telescope: what is left after any number of rounds is one sum of the heads'
   last updates. *)
Theorem telescoping_merge_sum (F : fieldType) (m n H : nat) (c : F)
    (W : nat -> 'M[F]_(m, n)) (U : nat -> 'I_H -> 'M[F]_(m, n)) :
  (forall h, U 0%N h = 0) ->
  (forall t, W t.+1 = W t + c *: \sum_h (U t.+1 h - U t h)) ->
  forall T, W T - W 0%N = c *: \sum_h U T h.
Proof.
move=> start merges T; elim: T => [|T IHT]; first by rewrite subrr big1 ?scaler0.
by rewrite merges addrAC IHT sumrB scalerBr addrC subrK.
Qed.

Lemma rank_sum_const (F : fieldType) (m n r : nat) (I : finType) (A : I -> 'M[F]_(m, n)) :
  (forall i, (\rank (A i) <= r)%N) -> (\rank (\sum_i A i)%R <= #|I| * r)%N.
Proof.
by move=> thin; rewrite -sum_nat_const (leq_trans (mxrank_bigsum A)) // leq_sum.
Qed.

(* That is of rank at most H r. *)
Theorem telescoping_merge (F : fieldType) (m n H r : nat) (c : F)
    (W : nat -> 'M[F]_(m, n)) (U : nat -> 'I_H -> 'M[F]_(m, n)) :
  (forall t h, (\rank (U t h) <= r)%N) -> (forall h, U 0%N h = 0) ->
  (forall t, W t.+1 = W t + c *: \sum_h (U t.+1 h - U t h)) ->
  forall T, (\rank (W T - W 0%N)%R <= H * r)%N.
Proof.
move=> thin start merges T; rewrite (telescoping_merge_sum start merges).
by apply: leq_trans (mxrank_scale _ _) _; rewrite -[H in (_ <= H * _)%N]card_ord; apply: rank_sum_const.
Qed.

(* With reset every round adds H updates of its own. *)
Theorem telescoping_merge_reset (F : fieldType) (m n H r : nat) (c : F)
    (W : nat -> 'M[F]_(m, n)) (U : nat -> 'I_H -> 'M[F]_(m, n)) :
  (forall t h, (\rank (U t h) <= r)%N) -> (forall t, W t.+1 = W t + c *: \sum_h U t h) ->
  forall T, (\rank (W T - W 0%N)%R <= T * (H * r))%N.
Proof.
move=> thin merges T; have -> : W T - W 0%N = \sum_(t < T) c *: \sum_h U t h.
  elim: T => [|T IHT]; first by rewrite subrr big_ord0.
  by rewrite merges addrAC IHT big_ord_recr.
rewrite -[T in (_ <= T * _)%N]card_ord; apply: rank_sum_const => t.
by apply: leq_trans (mxrank_scale _ _) _; rewrite -[H in (_ <= H * _)%N]card_ord; apply: rank_sum_const.
Qed.

(* Both ranks are attained, whatever the number of rounds. *)
Theorem telescoping_merge_attained (F : fieldType) (H r T : nat) :
  (exists (W : nat -> 'M[F]_(H * r)) (U : nat -> 'I_H -> 'M[F]_(H * r)),
     [/\ forall t h, (\rank (U t h) <= r)%N, forall h, U 0%N h = 0,
         forall t, W t.+1 = W t + \sum_h (U t.+1 h - U t h)
       & \rank (W T.+1 - W 0%N)%R = (H * r)%N])
  /\ (exists (W : nat -> 'M[F]_(T * (H * r))) (U : nat -> 'I_H -> 'M[F]_(T * (H * r))),
     [/\ forall t h, (\rank (U t h) <= r)%N, forall t, W t.+1 = W t + \sum_h U t h
       & \rank (W T - W 0%N)%R = (T * (H * r))%N]).
Proof.
have full n k : (n <= k)%N -> (\rank (1%:M : 'M[F]_n) <= k)%N by rewrite mxrank1.
split.
  have [V [thin sumV]] := (merge_and_reset r H (1%:M : 'M[F]_(H * r))).2 (full _ _ (leqnn _)).
  pose U t h := if t is 0%N then 0 else V h.
  exists (fun t => \sum_h U t h), U; split=> [[|t] h | // | t |]; rewrite ?mxrank0 //.
    by rewrite sumrB addrCA addrN addr0.
  by rewrite [X in _ - X]big1 // subr0 sumV mxrank1.
have [V [thin sumV]] := (merge_and_reset (H * r) T (1%:M : 'M[F]_(T * (H * r)))).2 (full _ _ (leqnn _)).
have piece t : exists u : 'I_H -> 'M[F]_(T * (H * r)), (forall h, (\rank (u h) <= r)%N) /\ \sum_h u h = V t.
  by apply/merge_and_reset.
have [u uP] := fin_all_exists piece.
pose U t h := if insub t is Some s then u s h else 0.
exists (fun t => \sum_(s < t) \sum_h U s h), U; split=> [t h | t |]; last 2 first.
- by rewrite big_ord_recr.
- rewrite big_ord0 subr0 -[RHS](mxrank1 F) -sumV; congr (\rank _); apply: eq_bigr => s _.
  by rewrite -(uP s).2; apply: eq_bigr => h _; rewrite /U valK.
by rewrite /U; case: insubP => [s _ _ | _]; [case: (uP s) | rewrite mxrank0].
Qed.

(* T rehearsals drawn evenly from the facts of a buffer Y show each of them T / #|Y| times in the mean. *)
Theorem exposure_law (Y : finType) (T : nat) (y : Y) :
  ((\sum_(d : {ffun 'I_T -> Y}) #|[set t | d t == y]|) * #|Y| = T * #|Y| ^ T)%N.
Proof.
transitivity ((\sum_(d : {ffun 'I_T -> Y}) agree [ffun=> y] d) * #|Y|)%N.
  congr (_ * _)%N; apply: eq_bigr => d _; congr #|pred_of_set _|.
  by apply/setP => t; rewrite !inE ffunE eq_sym.
by rewrite counting_single card_ord; case: T => [|T] //; rewrite -mulnA -expnSr.
Qed.

(* The heads must leave one another's keys alone: two heads that both fit one fact of size 1 write it
   whole in the first round, not half of it. *)
Example round_dilution_shared_key :
  1 - 2%:R^-1 * (1 + 1) = 0 :> rat /\ (1 - 2%:R^-1) ^+ 1 * (1 - 0) != 0 :> rat.
Proof. by split; apply/eqP. Qed.

(* ---- a frozen route between factors that move ---- *)

Section FrozenRoute.
Variables (F : fieldType) (m r n : nat) (s : F) (Rt : 'M[F]_r).
Implicit Types (B : 'M[F]_(m, r)) (A : 'M[F]_(r, n)).

(* Claim frozen_route_drift: what the old path adds moves with the factors, by two terms; it stays at all
   inputs exactly if the product does, and so if both factors are frozen. Ours. *)
Theorem frozen_route_drift B B' A A' :
  [/\ s *: (B' *m Rt *m A') - s *: (B *m Rt *m A) =
        s *: ((B' - B) *m (Rt *m A') + B *m (Rt *m (A' - A))),
      s != 0 -> (forall x : 'cV_n, s *: (B' *m Rt *m A') *m x = s *: (B *m Rt *m A) *m x) <->
                B' *m Rt *m A' = B *m Rt *m A
    & B' = B -> A' = A -> s *: (B' *m Rt *m A') = s *: (B *m Rt *m A)].
Proof.
split=> [| s_neq0 | -> -> //].
  rewrite -scalerBr mulmxBl !mulmxA mulmxBr; congr (s *: _).
  by rewrite addrA subrK.
split=> [same | -> //]; apply: (scalerI s_neq0); apply/matrixP => i j.
have := congr1 (fun v : 'cV_m => v i 0) (same (delta_mx j 0)).
by rewrite -!colE !mxE.
Qed.

(* Claim frozen_route_drift, for an invertible route and factors of full rank: nothing drifts exactly if the
   factors move by one gauge, B' = B R T R^-1 and A' = T^-1 A. Ours. *)
Theorem frozen_route_drift_gauge B B' A A' : Rt \in unitmx -> \rank B = r -> \rank A = r ->
  B' *m Rt *m A' = B *m Rt *m A <->
  exists2 T : 'M[F]_r, T \in unitmx & B' = B *m (Rt *m T *m invmx Rt) /\ A' = invmx T *m A.
Proof.
move=> R_unit rankB rankA; split=> [same | [T T_unit [-> ->]]]; last first.
  by rewrite !mulmxA mulmxKV // mulmxK.
have rankBR : \rank (B *m Rt) = r by rewrite mxrankMfree ?row_free_unit.
have one_neq0 : 1 != 0 :> F by apply: oner_neq0.
have upd : adapters.update 1 (B' *m Rt) A' = adapters.update 1 (B *m Rt) A by rewrite /adapters.update same.
have [T [[T_unit BE AE] _]] := adapter_gauge_unique one_neq0 rankBR rankA upd.
exists T => //; split=> //; apply: (can_inj (mulmxK R_unit)).
by rewrite BE !mulmxA mulmxKV.
Qed.

(* Claim frozen_route_drift, one factor that moves alone always shows. Ours. *)
Theorem frozen_route_drift_alone B B' A A' : Rt \in unitmx -> \rank B = r -> \rank A = r ->
  (B' *m Rt *m A = B *m Rt *m A <-> B' = B) /\ (B *m Rt *m A' = B *m Rt *m A <-> A' = A).
Proof.
move=> R_unit rankB rankA.
have freeRA : row_free (Rt *m A) by rewrite /row_free (eqmxMfull _ _) ?row_full_unit // rankA.
have fullBR : row_full (B *m Rt) by rewrite /row_full mxrankMfree ?row_free_unit // rankB.
split; split=> [same | -> //].
  by apply: (row_free_inj freeRA); rewrite !mulmxA.
exact: (row_full_inj fullBR same).
Qed.

(* Claim frozen_route_drift, whatever is routed through one pair of factors stays of rank r. Standard. *)
Theorem frozen_route_rank B A (old new : 'M[F]_r) : (\rank (s *: (B *m (old + new) *m A)) <= r)%N.
Proof. by apply: leq_trans (mxrank_scale _ _) (mulmx_max_rank _ _). Qed.

End FrozenRoute.

(* Full rank is needed for "alone": a route that skips a factor does not see it move. *)
Example frozen_route_drift_skipped (B' : 'M[rat]_1) : B' *m (0 : 'M_1) *m 1%:M = 0.
Proof. by rewrite mulmx0 mul0mx. Qed.
