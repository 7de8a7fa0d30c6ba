(* Low-rank updates: what every topic shares.

   frob2 A    == the squared Frobenius norm of A, \sum_i \sum_j A i j ^+ 2
   A^T        == the transpose of A
   \tr A      == the trace of A
   \rank A    == the rank of A (MathComp's mxalgebra)

   Trap: [\rank (\sum_i D i)] is read in scope MS, where the sum is one of row
   SPACES; for square [D i] both readings type-check. The matrix sum is written
   [\rank (\sum_i D i)%R]. *)
From mathcomp Require Import all_ssreflect all_algebra.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

Definition frob2 (R : realFieldType) m n (A : 'M[R]_(m, n)) : R := \sum_i \sum_j A i j ^+ 2.

Section Frobenius.
Variable R : realFieldType.

Lemma frob2_mxtrace m n (A : 'M[R]_(m, n)) : frob2 A = \tr (A *m A^T).
Proof.
by apply: eq_bigr => i _; rewrite mxE; apply: eq_bigr => j _; rewrite mxE expr2.
Qed.

Lemma frob2_ge0 m n (A : 'M[R]_(m, n)) : 0 <= frob2 A.
Proof. by do 2![apply: sumr_ge0 => ? _]; apply: sqr_ge0. Qed.

Lemma frob2_tr m n (A : 'M[R]_(m, n)) : frob2 A^T = frob2 A.
Proof.
rewrite /frob2 exchange_big; apply: eq_bigr => i _.
by apply: eq_bigr => j _; rewrite mxE.
Qed.

Lemma frob20 m n : frob2 (0 : 'M[R]_(m, n)) = 0.
Proof. by rewrite /frob2 !big1 // => i _; rewrite big1 // => j _; rewrite mxE expr0n. Qed.

Lemma frob2_eq0 m n (A : 'M[R]_(m, n)) : (frob2 A == 0) = (A == 0).
Proof.
apply/eqP/eqP => [A0 | ->]; last exact: frob20.
have row_ge0 i : 0 <= \sum_j A i j ^+ 2 by apply: sumr_ge0 => j _; apply: sqr_ge0.
apply/matrixP => i j; rewrite mxE; apply/eqP; rewrite -sqrf_eq0.
have rowi0 : \sum_j A i j ^+ 2 = 0.
  by apply: (psumr_eq0P (fun i _ => row_ge0 i) A0).
by rewrite (psumr_eq0P (fun j _ => sqr_ge0 (A i j)) rowi0).
Qed.

Lemma frob2Z m n (c : R) (A : 'M[R]_(m, n)) : frob2 (c *: A) = c ^+ 2 * frob2 A.
Proof.
rewrite /frob2 big_distrr; apply: eq_bigr => i _; rewrite big_distrr.
by apply: eq_bigr => j _; rewrite mxE exprMn.
Qed.

(* Pythagoras: orthogonal updates add in squared Frobenius norm. *)
Lemma frob2D m n (A B : 'M[R]_(m, n)) :
  frob2 (A + B) = frob2 A + frob2 B + (\tr (A *m B^T)) *+ 2.
Proof.
rewrite !frob2_mxtrace linearD /= mulmxDl !mulmxDr !mxtraceD.
have -> : \tr (B *m A^T) = \tr (A *m B^T) by rewrite -mxtrace_tr trmx_mul trmxK.
by rewrite mulr2n -!addrA; congr (_ + _); rewrite addrA [LHS]addrC.
Qed.

End Frobenius.
