(* Continual merging: heads that train from the merged weights, round after round.

   W t         == the merged weights before round t
   U t h       == the update of head h in round t
   K h, D h    == the keys of head h's facts, one per column, and the outputs wanted there

   Traps: \rank (\sum_h U h) may be read in scope MS, where the sum is one of row spaces. *)
From mathcomp Require Import all_ssreflect all_algebra.
From LoraLimits Require Import lowrank.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory.
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

(* Without reset the merges telescope: what H heads of rank r have left after any number of rounds is
   one sum of their last updates, of rank at most H r. *)
Theorem telescoping_merge (F : fieldType) (m n H r : nat) (c : F)
    (W : nat -> 'M[F]_(m, n)) (U : nat -> 'I_H -> 'M[F]_(m, n)) :
  (forall t h, (\rank (U t h) <= r)%N) -> (forall h, U 0%N h = 0) ->
  (forall t, W t.+1 = W t + c *: \sum_h (U t.+1 h - U t h)) ->
  forall T, (\rank (W T - W 0%N)%R <= H * r)%N.
Proof.
move=> thin start merges T; have -> : W T - W 0%N = c *: \sum_h U T h.
  elim: T => [|T IHT]; first by rewrite subrr big1 ?scaler0.
  by rewrite merges addrAC IHT sumrB scalerBr addrC subrK.
apply: leq_trans (mxrank_scale _ _) _; rewrite -[X in (_ <= X * _)%N]card_ord -sum_nat_const.
elim/big_rec2: _ => [|h s A _ le_A]; first by rewrite mxrank0.
exact: leq_trans (mxrank_add _ _) (leq_add (thin _ _) le_A).
Qed.

(* The heads must leave one another's keys alone: two heads that both fit one fact of size 1 write it
   whole in the first round, not half of it. *)
Example round_dilution_shared_key :
  1 - 2%:R^-1 * (1 + 1) = 0 :> rat /\ (1 - 2%:R^-1) ^+ 1 * (1 - 0) != 0 :> rat.
Proof. by split; apply/eqP. Qed.
