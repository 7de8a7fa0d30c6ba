(* How well updates of low rank approximate a target: one update, a chain of
   adapted layers, a sequence of merged updates.

   chain Ws        == the product W_1 *m ... *m W_L of a sequence of square
                      layers; the OUTPUT layer comes first, the input layer last
   prefix W l      == the product W_(l-1) *m ... *m W_0 of rectangular layers,
                      numbered from the input: W i : 'M_(d i.+1, d i)
   suffix W L l    == the product W_(L-1) *m ... *m W_l (l <= L)
   singular_values E, sv_sum P s Q, orthonormal Q, sv_sorted s: see svd.v
   sv_at r s       == the entry of s of index r (sigma_(r+1)), 0 beyond the last
   sv_trunc r s    == s with the entries from index r on put to 0
   sv_tail r s     == the sum of the squares of the entries of s from index r on
   low_rank r E    == the first r terms of the singular value decomposition of E
   frob2 A         == the squared Frobenius norm of A (lowrank.v)
   op_le c A       == c bounds the spectral norm of A, in squares
   spectral_norm A == the largest singular value of A, the least c >= 0 with op_le c A
   update W T l    == the update of layer l that the construction through the intermediate
                      targets T makes; adapted_prefix W T l is the adapted product so far
   solvable W T    == where a target moves, the layers after have a suffix of full row rank and
                      the adapted layers before a prefix of full column rank
   truncated_target W r T l
                   == prefix W L + the first r l terms of T - prefix W L
   WU              == a sequence of pairs (W_l, U_l), a layer and its update

   Indices start at 0: the entry of index r is sigma_(r+1). Theorems that name singular values are over a real closed field;
   the lemmas behind them take a decomposition, over any ordered field.

   Trap: [\rank (A - B)] on square matrices needs [(A - B)%R], as scope MS reads
   sums and differences of matrices as operations on row spaces. *)
From mathcomp Require Import all_ssreflect all_fingroup all_algebra.
From LoraLimits Require Import lowrank.
From LoraLimits Require Export svd.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

Section SumsOfUpdates.
Variable F : fieldType.

Lemma mxrank_bigsum m n (I : finType) (A : I -> 'M[F]_(m, n)) :
  (\rank (\sum_i A i)%R <= \sum_i \rank (A i))%N.
Proof.
elim/big_ind2: _ => [|A1 k1 A2 k2 le1 le2|i _]; rewrite ?mxrank0 //.
by apply: leq_trans (mxrank_add _ _) _; apply: leq_add.
Qed.

Lemma mxrank_pid_le m n r : (\rank (pid_mx r : 'M[F]_(m, n)) <= r)%N.
Proof.
rewrite -pid_mx_minv -pid_mx_minh rank_pid_mx ?geq_minl //.
  by rewrite !geq_min leqnn !orbT.
by rewrite geq_min geq_minl orbT.
Qed.

(* A matrix of rank at most a + b splits into one of rank at most a and one of rank at most b. *)
Lemma mxrank_split m n a b (E : 'M[F]_(m, n)) : (\rank E <= a + b)%N ->
  exists A B : 'M[F]_(m, n), [/\ A + B = E, (\rank A <= a)%N & (\rank B <= b)%N].
Proof.
move=> leE; have [lea | lta] := leqP (\rank E) a.
  by exists E, 0; rewrite addr0 mxrank0.
have [C [Q defE]] : exists C : 'M[F]_(m, \rank E), exists Q : 'M[F]_(\rank E, n), C *m Q = E.
  by exists (col_base E), (row_base E); apply: mulmx_base.
exists (C *m pid_mx a *m Q), (C *m copid_mx a *m Q); split.
- by rewrite -mulmxDl -mulmxDr addrCA subrr addr0 mulmx1.
- by rewrite (leq_trans (mxrankM_maxl _ _)) // (leq_trans (mxrankM_maxr _ _)) ?mxrank_pid_le.
- rewrite (leq_trans (mxrankM_maxl _ _)) // (leq_trans (mxrankM_maxr _ _)) //.
  by rewrite rank_copid_mx ?leq_subLR // ltnW.
Qed.

(* merge_and_reset [linear core of parallel low-rank training and of restart
   schemes]: T rounds of rank r, with reset, reach exactly the targets of rank at most T r. *)
Theorem merge_and_reset (m n r T : nat) (E : 'M[F]_(m, n)) :
  (exists U : 'I_T -> 'M[F]_(m, n), (forall t, \rank (U t) <= r)%N /\ (\sum_t U t)%R = E) <->
  (\rank E <= T * r)%N.
Proof.
split=> [[U [leU <-]] | ].
  rewrite (leq_trans (mxrank_bigsum U)) //.
  by rewrite (leq_trans (leq_sum _ (fun t _ => leU t))) // sum_nat_const card_ord.
elim: T E => [|T IHT] E.
  rewrite leqn0 mxrank_eq0 => /eqP->; exists (fun=> 0).
  by split=> [t|]; rewrite ?mxrank0 // big_ord0.
rewrite mulSn => /mxrank_split[A [B [<- leA /IHT[U [leU <-]]]]].
exists (fun t => oapp U A (unlift ord0 t)); split.
  by move=> t; case: unliftP => [u|] _ /=.
by rewrite big_ord_recl unlift_none; congr (_ + _); apply: eq_bigr => t _; rewrite liftK.
Qed.

Lemma rank_diag_mx k (t : 'rV[F]_k) : (\rank (diag_mx t) <= \sum_i (t 0%R i != 0%R))%N.
Proof.
have -> : diag_mx t = (\sum_i t 0 i *: delta_mx i i)%R.
  apply/matrixP => i j; rewrite summxE (bigD1 i) //= big1 => [|l neq_li]; last first.
    by rewrite !mxE eq_sym (negPf neq_li) mulr0.
  rewrite !mxE eqxx addr0 /= [j == i]eq_sym.
  by case: eqP; rewrite ?mulr1n ?mulr1 ?mulr0n ?mulr0.
apply: leq_trans (mxrank_bigsum _) _; apply: leq_sum => i _.
have [-> | _] := eqVneq (t 0 i) 0; first by rewrite scale0r mxrank0.
by rewrite (leq_trans (mxrank_scale _ _)) // mxrank_delta.
Qed.

Lemma sum_band_le k a b : (\sum_(i < k) (a <= i < a + b) <= b)%N.
Proof.
have -> : (\sum_(i < k) (a <= i < a + b) = #|[pred i : 'I_k | a <= i < a + b]|)%N.
  by rewrite -sum1_card [RHS]big_mkcond; apply: eq_bigr => i _; rewrite inE; case: ifP.
rewrite cardE -(size_map val) -{2}(size_iota a b); apply: uniq_leq_size.
  by rewrite (map_inj_uniq val_inj) enum_uniq.
by move=> _ /mapP[i + ->]; rewrite mem_enum mem_iota.
Qed.

End SumsOfUpdates.

Section SpectralFloor.

(* eckart_young, spectral lower bound, without naming singular values: if E stretches
   every row of an (r+1)-dimensional space by at least s, no U of rank r comes closer
   than s. *)
Theorem eckart_young (R : realFieldType) (m n r : nat)
    (D U : 'M[R]_(m, n)) (S : 'M[R]_(r.+1, n)) (s2 : R) :
  row_free S -> (forall v : 'rV[R]_n, (v <= S)%MS -> s2 * frob2 v <= frob2 (v *m D^T)) ->
  (\rank U <= r)%N ->
  exists v : 'rV[R]_n, [/\ v != 0, (v <= S)%MS & s2 * frob2 v <= frob2 (v *m (D - U)^T)].
Proof.
move=> freeS stretch leU.
have kernelN0 : kermx (S *m U^T) != 0.
  rewrite kermx_eq0 /row_free neq_ltn (leq_ltn_trans (mxrankM_maxr _ _)) //.
  by rewrite mxrank_tr ltnS.
have /rowV0Pn[x xker xN0] := kernelN0.
exists (x *m S); split; last 1 first.
- rewrite linearB /= mulmxBr -(mulmxA x S U^T) (sub_kermxP xker) subr0.
  by apply: stretch; apply: submxMl.
- by rewrite -(mul0mx _ S) (inj_eq (row_free_inj freeS)).
- exact: submxMl.
Qed.

End SpectralFloor.

Definition chain (F : fieldType) d (Ws : seq 'M[F]_d) : 'M[F]_d := foldr mulmx 1%:M Ws.

Section Chains.
Variable F : fieldType.

Lemma chain_cat d (Ws Vs : seq 'M[F]_d) : chain (Ws ++ Vs) = chain Ws *m chain Vs.
Proof. by elim: Ws => [|W Ws IH] /=; rewrite ?mul1mx // IH mulmxA. Qed.

Lemma chain_rcons d (Ws : seq 'M[F]_d) W : chain (rcons Ws W) = chain Ws *m W.
Proof. by rewrite -cats1 chain_cat /= mulmx1. Qed.

Lemma chain_unit d (Ws : seq 'M[F]_d) : all (mem unitmx) Ws -> chain Ws \in unitmx.
Proof.
by elim: Ws => [|W Ws IH] /=; rewrite ?unitmx1 // unitmx_mul => /andP[-> /IH].
Qed.

(* deep_linear, first sentence: a product of adapted layers moves by no more than the
   sum of the ranks of the updates. *)
Theorem deep_linear (d : nat) (WU : seq ('M[F]_d * 'M[F]_d)) :
  (\rank (chain [seq p.1 + p.2 | p <- WU] - chain [seq p.1 | p <- WU])%R
     <= \sum_(p <- WU) \rank p.2)%N.
Proof.
elim: WU => [|[W U] WU IH]; first by rewrite big_nil subrr mxrank0.
rewrite big_cons /=; set C' := chain _ in IH *; set C := chain _ in IH *.
have -> : (W + U) *m C' - W *m C = U *m C' + W *m (C' - C).
  by rewrite mulmxBr mulmxDl addrA [U *m C' + _]addrC.
rewrite (leq_trans (mxrank_add _ _)) // leq_add ?mxrankM_maxl //.
exact: leq_trans (mxrankM_maxr _ _) IH.
Qed.

End Chains.

(* Which products L adapted layers can reach, whatever the construction. *)
Section ReachableProducts.
Variable F : fieldType.

(* Two nonzero matrices have a common row vector that neither of them kills. *)
Lemma common_nonkilled_row p q q' (X : 'M[F]_(p, q)) (Y : 'M[F]_(p, q')) : X != 0 -> Y != 0 ->
  exists b : 'rV[F]_p, b *m X != 0 /\ b *m Y != 0.
Proof.
have nonkilled t (Z : 'M[F]_(p, t)) : Z != 0 -> exists b : 'rV[F]_p, b *m Z != 0.
  by move=> /rowV0Pn[_ /submxP[b ->] bZ]; exists b.
move=> /nonkilled[b bX] /nonkilled[c cY].
have [bY|] := eqVneq (b *m Y) 0; last by exists b.
have [cX|] := eqVneq (c *m X) 0; last by exists c.
by exists (b + c); rewrite !mulmxDl bY cX add0r addr0.
Qed.

Lemma common_nonzero_form p q (X Y : 'M[F]_(p, q)) : X != 0 -> Y != 0 ->
  exists (b : 'rV[F]_p) (a : 'cV[F]_q), (b *m X *m a) 0 0 != 0 /\ (b *m Y *m a) 0 0 != 0.
Proof.
have entryN0 (c : 'M[F]_1) : c != 0 -> c 0 0 != 0.
  by apply: contraNneq => c0; rewrite [c]mx11_scalar c0 raddf0.
move=> X0 Y0; have [b [bX bY]] := common_nonkilled_row X0 Y0.
have trN0 q1 q2 (v : 'M[F]_(q1, q2)) : v != 0 -> v^T != 0.
  by apply: contraNneq => v0; rewrite -[v]trmxK v0 trmx0.
have [a [aX aY]] := common_nonkilled_row (trN0 _ _ _ bX) (trN0 _ _ _ bY).
have trE (v : 'rV[F]_q) : v *m a^T = (a *m v^T)^T by rewrite trmx_mul trmxK.
by exists b, a^T; rewrite !trE; split; apply: entryN0; apply: trN0.
Qed.

(* Wedderburn: subtracting this matrix of rank one lowers the rank. *)
Lemma mxrank_wedderburn p q (N : 'M[F]_(p, q)) (b : 'rV[F]_p) (a : 'cV[F]_q) (c : F) :
  b *m N *m a = c%:M -> c != 0 ->
  (\rank (N - c^-1 *: (N *m a *m (b *m N)))%R < \rank N)%N.
Proof.
move=> defc cN0; set N' := N - _.
have N'a : N' *m a = 0.
  by rewrite mulmxBl -scalemxAl -!mulmxA (mulmxA b) defc -scalemx1 -!scalemxAr mulmx1 scalerA
             mulVf // scale1r subrr.
apply: rank_ltmx; rewrite ltmxE; apply/andP; split.
  have -> : N' = (1%:M - c^-1 *: (N *m a *m b)) *m N.
    by rewrite mulmxBl mul1mx -scalemxAl /N' !mulmxA.
  exact: submxMl.
apply/negP => /submxP[X defN].
have Na0 : N *m a = 0 by rewrite defN -mulmxA N'a mulmx0.
have /matrixP/(_ 0 0) := defc.
by rewrite -mulmxA Na0 mulmx0 !mxE /= mulr1n => /esym/eqP; rewrite (negPf cN0).
Qed.

(* A matrix other than 1 has a factor of the form 1 + (rank one) on the left such that
   what is left is closer to 1 in rank; A may be singular. *)
Lemma mx_peel1 n (A : 'M[F]_n) : A != 1%:M ->
  exists G A' : 'M[F]_n, [/\ A = G *m A', (\rank (G - 1%:M)%R <= 1)%N
                           & (\rank (A' - 1%:M)%R < \rank (A - 1%:M)%R)%N].
Proof.
move=> A1; pose N := A - 1%:M.
have N0 : N != 0 by rewrite subr_eq0.
(* It is enough to find b, a and v with b N a invertible and v A' = (b N a)^-1 b N. *)
suffices [b [a [v [c [defc cN0 defv]]]]] : exists (b : 'rV[F]_n) (a : 'cV[F]_n) (v : 'rV[F]_n) (c : F),
    [/\ b *m N *m a = c%:M, c != 0
      & v *m (A - c^-1 *: (N *m a *m (b *m N))) = c^-1 *: (b *m N)].
  exists (1%:M + N *m a *m v), (A - c^-1 *: (N *m a *m (b *m N))); split.
  - by rewrite mulmxDl mul1mx -(mulmxA _ v) defv -scalemxAr subrK.
  - rewrite addrC addKr (leq_trans (mxrankM_maxr _ _)) //; exact: rank_leq_row.
  - by rewrite addrAC; apply: mxrank_wedderburn.
have [unitA | singA] := boolP (A \in unitmx).
  have NV0 : N *m invmx A != 0.
    by apply: contraNneq N0 => NV0; rewrite -(mulmxKV unitA N) NV0 mul0mx.
  have [b [a [c0 e0]]] := common_nonzero_form N0 NV0.
  pose c := (b *m N *m a) 0 0; pose e := (b *m (N *m invmx A) *m a) 0 0.
  have defc : b *m N *m a = c%:M by apply: mx11_scalar.
  have defe : b *m (N *m invmx A) *m a = e%:M by apply: mx11_scalar.
  exists b, a, (e^-1 *: (b *m (N *m invmx A))), c; split=> //.
  have defd : b *m (N *m invmx A) *m (N *m a) = (c - e)%:M.
    rewrite raddfB /= -defc -defe -!mulmxA -mulmxBr -mulmxBr; congr (b *m (N *m _)).
    by rewrite mulmxA /N mulmxBr mulVmx // mulmx1 mulmxBl mul1mx.
  rewrite -scalemxAl mulmxBr -scalemxAr (mulmxA _ (N *m a)) defd mul_scalar_mx scalerA.
  have -> : b *m (N *m invmx A) *m A = b *m N by rewrite mulmxA mulmxKV.
  rewrite -{1}[b *m N]scale1r -scalerBl scalerA; congr (_ *: _).
  have -> : 1 - c^-1 * (c - e) = c^-1 * e by rewrite mulrBr mulVf // opprB addrCA subrr addr0.
  by rewrite mulrCA mulVf // mulr1.
(* A is singular: take for b a vector that A kills on the left. *)
have /rowV0Pn[y /sub_kermxP yA y0] : kermx A != 0 by rewrite kermx_eq0 row_free_unit.
have yN : y *m N = - y by rewrite mulmxBr yA mulmx1 sub0r.
have [a /eqP ya] : exists a : 'cV[F]_n, (y *m a) 0 0 <> 0.
  have [j yj] : exists j, y 0 j != 0.
    by apply/existsP; apply: contraNT y0 => /existsPn y0; apply/eqP/rowP => j;
       rewrite mxE; apply/eqP/negPn.
  by exists (delta_mx j 0); rewrite -colE mxE; apply/eqP.
pose c := - (y *m a) 0 0.
have defc : y *m N *m a = c%:M.
  by rewrite yN mulNmx [y *m a]mx11_scalar raddfN.
have cN0 : c != 0 by rewrite oppr_eq0.
exists y, a, (- c^-1 *: y), c; split=> //.
rewrite -scalemxAl mulmxBr yA sub0r -scalemxAr !mulmxA defc mul_scalar_mx -scalemxAl.
rewrite scalerA mulVf // scale1r.
by rewrite scaleNr scalerN opprK.
Qed.

Lemma mxrank_mulB1 n (G H : 'M[F]_n) :
  (\rank (G *m H - 1%:M)%R <= \rank (G - 1%:M)%R + \rank (H - 1%:M)%R)%N.
Proof.
have -> : G *m H - 1%:M = (G - 1%:M) *m H + (H - 1%:M) by rewrite mulmxBl mul1mx addrA subrK.
by rewrite (leq_trans (mxrank_add _ _)) // leq_add2r mxrankM_maxl.
Qed.

Lemma mx_peel n a b (A : 'M[F]_n) : (\rank (A - 1%:M)%R <= a + b)%N ->
  exists G A' : 'M[F]_n,
    [/\ A = G *m A', (\rank (G - 1%:M)%R <= a)%N & (\rank (A' - 1%:M)%R <= b)%N].
Proof.
elim: a A => [|a IHa] A leA; first by exists 1%:M, A; rewrite mul1mx subrr mxrank0.
have [-> | A1] := eqVneq A 1%:M.
  by exists 1%:M, 1%:M; rewrite mul1mx subrr mxrank0.
have [G1 [A1' [defA leG1 ltA1]]] := mx_peel1 A1.
have [G [A' [defA1' leG leA']]] := IHa A1' (leq_trans ltA1 leA).
exists (G1 *m G), A'; split=> //; first by rewrite defA defA1' mulmxA.
by rewrite (leq_trans (mxrank_mulB1 _ _)) // -add1n leq_add.
Qed.

Lemma chain_reach d R (Ws : seq 'M[F]_d) (A : 'M[F]_d) : all (mem unitmx) Ws ->
  (\rank (A - 1%:M)%R <= R * size Ws)%N ->
  exists WU : seq ('M[F]_d * 'M[F]_d),
    [/\ [seq p.1 | p <- WU] = Ws, all (fun p => \rank p.2 <= R)%N WU
      & chain [seq p.1 + p.2 | p <- WU] = A *m chain Ws].
Proof.
elim: Ws A => [|W Ws IH] A /=.
  rewrite muln0 leqn0 mxrank_eq0 subr_eq0 => _ /eqP->.
  by exists [::]; split; rewrite //= mul1mx.
case/andP=> unitW unitWs; rewrite mulnS => /mx_peel[G [A' [-> leG leA']]].
have [|WU [<- leWU defWU]] := IH (invmx W *m A' *m W) unitWs.
  have -> : invmx W *m A' *m W - 1%:M = invmx W *m (A' - 1%:M) *m W.
    by rewrite mulmxBr mulmx1 mulmxBl mulVmx.
  by rewrite (leq_trans (mxrankM_maxl _ _)) // (leq_trans (mxrankM_maxr _ _)).
exists ((W, (G - 1%:M) *m W) :: WU); split=> //=.
  by rewrite (leq_trans (mxrankM_maxl _ _)).
rewrite defWU mulmxBl mul1mx addrC subrK -!mulmxA; congr (G *m _).
by rewrite mulKVmx.
Qed.

(* deep_linear, sharpened [ours; the linear case of Z asks for non-singular intermediate
   targets]: if every frozen layer is invertible, L adapted layers of rank R reach
   EXACTLY the products T with rank (T - P) <= R L, singular T included. *)
Theorem deep_linear_exact d R (Ws : seq 'M[F]_d) (T : 'M[F]_d) : all (mem unitmx) Ws ->
  (exists WU : seq ('M[F]_d * 'M[F]_d),
     [/\ [seq p.1 | p <- WU] = Ws, all (fun p => \rank p.2 <= R)%N WU
       & chain [seq p.1 + p.2 | p <- WU] = T]) <->
  (\rank (T - chain Ws)%R <= R * size Ws)%N.
Proof.
move=> unitWs; split=> [[WU [<- /allP leWU <-]] | leT].
  rewrite (leq_trans (deep_linear WU)) // size_map.
  rewrite big_seq (leq_trans (leq_sum _ leWU)) // -big_seq.
  by rewrite big_const_seq count_predT iter_addn_0.
have unitP := chain_unit unitWs.
have [|WU [defWs leWU defT]] := @chain_reach d R Ws (T *m invmx (chain Ws)) unitWs.
  rewrite -(mulmxV unitP) -mulmxBl.
  exact: leq_trans (mxrankM_maxl _ _) leT.
by exists WU; split; rewrite // defT mulmxKV.
Qed.

End ReachableProducts.

(* Layer by layer, input layer first: the construction that runs through given
   intermediate targets T_0 = P, T_1, ..., T_L. *)
Section LayerByLayer.
Variable F : fieldType.

Fixpoint prefix (d : nat -> nat) (W : forall i, 'M[F]_(d i.+1, d i)) l : 'M[F]_(d l, d 0%N) :=
  if l is l'.+1 return 'M[F]_(d l, d 0%N) then W l' *m prefix W l' else 1%:M.

(* [conform_mx 0 1%:M] is 1%:M seen at type 'M_(d L, d l); it is used at l = L. *)
Fixpoint suffix (d : nat -> nat) (W : forall i, 'M[F]_(d i.+1, d i)) L l : 'M[F]_(d L, d l) :=
  if L is L'.+1 return 'M[F]_(d L, d l) then
    if (l <= L')%N then W L' *m suffix W L' l else conform_mx 0 (1%:M : 'M_(d l))
  else conform_mx 0 (1%:M : 'M_(d l)).

Lemma mulmx_pinv2 m p q r (S : 'M[F]_(m, p)) (D : 'M[F]_(m, q)) (A : 'M[F]_(r, q)) :
  row_free S -> row_full A -> S *m (pinvmx S *m D *m pinvmx A *m A) = D.
Proof.
by move=> freeS fullA; rewrite -(mulmxA (_ *m D)) mulVpmx // mulmx1 mulmxA mulmxVp // mul1mx.
Qed.

Section Rectangular.
Variables (d : nat -> nat) (W : forall i, 'M[F]_(d i.+1, d i)).

Lemma suffix_diag L : suffix W L L = 1%:M.
Proof. by case: L => [|L] /=; rewrite ?ltnn conform_mx_id. Qed.

Lemma suffixS L l : (l < L)%N -> suffix W L l = suffix W L l.+1 *m W l.
Proof.
elim: L => // L IH; rewrite ltnS leq_eqVlt => /predU1P[-> | lt_lL].
  by rewrite suffix_diag mul1mx /= leqnn suffix_diag mulmx1.
by rewrite /= lt_lL ltnW // IH // mulmxA.
Qed.

Lemma suffix0 L : suffix W L 0%N = prefix W L.
Proof. by elim: L => [|L IH] /=; rewrite ?conform_mx_id // IH. Qed.

Variables (L : nat) (T : nat -> 'M[F]_(d L, d 0%N)).

(* The update of layer l, given the adapted prefix A of the layers before it. *)
Definition layer_update l (A : 'M[F]_(d l, d 0%N)) : 'M[F]_(d l.+1, d l) :=
  pinvmx (suffix W L l.+1) *m (T l.+1 - T l) *m pinvmx A.

Fixpoint adapted_prefix l : 'M[F]_(d l, d 0%N) :=
  if l is l'.+1 return 'M[F]_(d l, d 0%N) then
    (W l' + layer_update (adapted_prefix l')) *m adapted_prefix l'
  else 1%:M.

Definition update l : 'M[F]_(d l.+1, d l) := layer_update (adapted_prefix l).

Lemma adapted_prefixE l : adapted_prefix l = prefix (fun i => W i + update i) l.
Proof. by elim: l => //= l IH; rewrite {1}/update -IH. Qed.

(* Only a layer whose target moves needs a suffix and a prefix of full rank. *)
Definition solvable : Prop := forall l, (l < L)%N -> T l.+1 != T l ->
  row_free (suffix W L l.+1) /\ row_full (adapted_prefix l).

Lemma suffix_adapted l : T 0%N = prefix W L -> solvable -> (l <= L)%N ->
  suffix W L l *m adapted_prefix l = T l.
Proof.
move=> T0 solve; elim: l => [_|l IH lt_lL]; first by rewrite suffix0 mulmx1 T0.
rewrite /= mulmxDl mulmxDr mulmxA -suffixS // IH ?(ltnW lt_lL) // /layer_update.
have [-> | moves] := eqVneq (T l.+1) (T l); first by rewrite subrr mulmx0 !mul0mx mulmx0 addr0.
by have [freeS fullA] := solve l lt_lL moves; rewrite mulmx_pinv2 // addrC subrK.
Qed.

(* deep_linear in the form of the code, rectangular layers: if, for every layer whose target
   moves, the suffix product has full row rank and the adapted prefix full column rank, the
   updates built layer by layer have rank at most R and the adapted product is the last
   intermediate target. *)
Theorem deep_linear_rectangular R : T 0%N = prefix W L -> solvable ->
  (forall l, (l < L)%N -> (\rank (T l.+1 - T l)%R <= R)%N) ->
  [/\ forall l, (l < L)%N -> (\rank (update l) <= R)%N,
      forall l, (l <= L)%N -> suffix W L l *m prefix (fun i => W i + update i) l = T l
    & prefix (fun i => W i + update i) L = T L].
Proof.
move=> T0 solve leT; split=> [l lt_lL | l le_lL |].
- by rewrite (leq_trans (mxrankM_maxl _ _)) // (leq_trans (mxrankM_maxr _ _)) ?leT.
- by rewrite -adapted_prefixE suffix_adapted.
- by rewrite -adapted_prefixE -(suffix_adapted T0 solve) // suffix_diag mul1mx.
Qed.

(* deep_linear, first sentence, rectangular layers. *)
Theorem deep_linear_rank_rectangular (U : forall i, 'M[F]_(d i.+1, d i)) k :
  (\rank (prefix (fun i => W i + U i) k - prefix W k)%R <= \sum_(i < k) \rank (U i))%N.
Proof.
elim: k => [|k IH]; first by rewrite subrr mxrank0.
rewrite big_ord_recr /= addnC.
set C' := prefix _ k in IH *; set C := prefix W k in IH *.
have -> : (W k + U k) *m C' - W k *m C = U k *m C' + W k *m (C' - C).
  by rewrite mulmxBr mulmxDl addrA [U k *m C' + _]addrC.
rewrite (leq_trans (mxrank_add _ _)) // leq_add ?mxrankM_maxl //.
exact: leq_trans (mxrankM_maxr _ _) IH.
Qed.

End Rectangular.

(* deep_linear in the form of the code, square layers [Z, linear case]: with invertible
   layers and intermediate targets T_1, ..., T_(L-1) that are non-singular and move by
   rank at most R, L layers of rank R reach T_L. *)
Theorem deep_linear_attained n R (Ws : seq 'M[F]_n) (T : nat -> 'M[F]_n) :
  all (mem unitmx) Ws -> T 0%N = chain Ws ->
  (forall l, (0 < l < size Ws)%N -> T l \in unitmx) ->
  (forall l, (l < size Ws)%N -> (\rank (T l.+1 - T l)%R <= R)%N) ->
  exists WU : seq ('M[F]_n * 'M[F]_n),
    [/\ [seq p.1 | p <- WU] = Ws, all (fun p => \rank p.2 <= R)%N WU
      & chain [seq p.1 + p.2 | p <- WU] = T (size Ws)].
Proof.
elim/last_ind: Ws T => [|Ws W IH] T; first by move=> _ T0 _ _; exists [::]; split.
rewrite all_rcons size_rcons chain_rcons => /andP[_ unitWs] T0 unitT leT.
have unitP := chain_unit unitWs.
pose V := invmx (chain Ws) *m T 1%N.
have rank_update : (\rank (V - W)%R <= R)%N.
  rewrite -(mulKmx unitP W) -T0 -mulmxBr.
  exact: leq_trans (mxrankM_maxr _ _) (leT 0%N _).
case: Ws => [|W1 Ws] in IH unitWs unitP unitT leT V rank_update T0 *.
  exists [:: (W, V - W)]; split; rewrite /= ?rank_update //.
  by rewrite mulmx1 addrC subrK /V invmx1 mul1mx.
have unitV : V \in unitmx by rewrite unitmx_mul unitmx_inv unitP unitT.
have [||| WU [defWs leWU defT]] := IH (fun l => T l.+1 *m invmx V) unitWs.
- by rewrite -{1}(mulKVmx unitP (T 1%N)) -/V mulmxK.
- by move=> l /andP[l0 ltl]; rewrite unitmx_mul unitmx_inv unitV unitT.
- move=> l ltl; rewrite -mulmxBl.
  by rewrite (leq_trans (mxrankM_maxl _ _)) // leT.
exists (rcons WU (W, V - W)); split.
- by rewrite map_rcons defWs.
- by rewrite all_rcons rank_update.
by rewrite map_rcons chain_rcons defT [W + _]addrC subrK mulmxKV.
Qed.

End LayerByLayer.

(* Singular values: what the best update of rank r leaves, in both norms. *)
Section Decomposition.
Variable R : realFieldType.

Definition sv_trunc r k (s : 'rV[R]_k) : 'rV[R]_k := \row_i (if (i < r)%N then s 0 i else 0).
Definition sv_at r k (s : 'rV[R]_k) : R := if insub r is Some j then s 0 j else 0.
Definition sv_tail r k (s : 'rV[R]_k) : R := \sum_(i < k | (r <= i)%N) s 0 i ^+ 2.

Lemma frob2_row k (x : 'rV[R]_k) : frob2 x = \sum_i x 0 i ^+ 2.
Proof. by rewrite /frob2 big_ord1. Qed.

Lemma frob2_rows m n (A : 'M[R]_(m, n)) : frob2 A = \sum_i frob2 (row i A).
Proof.
by apply: eq_bigr => i _; rewrite frob2_row; apply: eq_bigr => j _; rewrite mxE.
Qed.

Definition op_le m n c (M : 'M[R]_(m, n)) : Prop := forall x : 'cV[R]_n, frob2 (M *m x) <= c ^+ 2 * frob2 x.

Lemma op_le_row m n c (M : 'M[R]_(m, n)) :
  op_le c M <-> forall v : 'rV[R]_n, frob2 (v *m M^T) <= c ^+ 2 * frob2 v.
Proof.
split=> le_c x; last by rewrite -(frob2_tr (M *m x)) trmx_mul -(frob2_tr x).
by rewrite -frob2_tr trmx_mul trmxK -(frob2_tr x).
Qed.

(* Orthonormal rows keep the norm, their transpose does not increase it. *)
Lemma frob2_mul_orthonormal m k n (A : 'M[R]_(m, k)) (Q : 'M[R]_(k, n)) :
  orthonormal Q -> frob2 (A *m Q) = frob2 A.
Proof. by move/eqP=> oQ; rewrite !frob2_mxtrace trmx_mul mulmxA -(mulmxA A) oQ mulmx1. Qed.

Lemma frob2_tr_mul_orthonormal m k n (A : 'M[R]_(k, n)) (P : 'M[R]_(k, m)) :
  orthonormal P -> frob2 (P^T *m A) = frob2 A.
Proof. by move=> oP; rewrite -frob2_tr trmx_mul trmxK frob2_mul_orthonormal ?frob2_tr. Qed.

Lemma frob2_projector m n (A : 'M[R]_(m, n)) (Pi : 'M[R]_n) : Pi^T = Pi -> Pi *m Pi = Pi ->
  frob2 A = frob2 (A *m Pi) + frob2 (A *m (1%:M - Pi)).
Proof.
move=> symPi idemPi.
have {1}-> : A = A *m Pi + A *m (1%:M - Pi) by rewrite -mulmxDr addrC subrK mulmx1.
rewrite frob2D.
have -> : A *m Pi *m (A *m (1%:M - Pi))^T = 0.
  rewrite trmx_mul linearB /= trmx1 symPi mulmxA -(mulmxA A) mulmxBr mulmx1 idemPi subrr.
  by rewrite mulmx0 mul0mx.
by rewrite mxtrace0 mul0rn addr0.
Qed.

Lemma frob2_mul_projector_le m n (A : 'M[R]_(m, n)) (Pi : 'M[R]_n) :
  Pi^T = Pi -> Pi *m Pi = Pi -> frob2 (A *m Pi) <= frob2 A.
Proof. by move=> ? ?; rewrite [leRHS](frob2_projector A (Pi := Pi)) // ler_addl frob2_ge0. Qed.

Lemma orthonormal_projector k n (Q : 'M[R]_(k, n)) : orthonormal Q ->
  (Q^T *m Q)^T = Q^T *m Q /\ Q^T *m Q *m (Q^T *m Q) = Q^T *m Q.
Proof.
move=> /eqP oQ; split; first by rewrite trmx_mul trmxK.
by rewrite -mulmxA (mulmxA Q) oQ mul1mx.
Qed.

Lemma frob2_mul_orthonormal_tr_le m k n (A : 'M[R]_(m, n)) (Q : 'M[R]_(k, n)) :
  orthonormal Q -> frob2 (A *m Q^T) <= frob2 A.
Proof.
move=> oQ; rewrite -(frob2_mul_orthonormal _ oQ) -mulmxA.
by have [sym idem] := orthonormal_projector oQ; apply: frob2_mul_projector_le.
Qed.

(* The orthogonal projector on the row space of U; its trace is the rank of U. *)
Lemma row_space_projector m n (U : 'M[R]_(m, n)) : exists Pi : 'M[R]_n,
  [/\ Pi^T = Pi, Pi *m Pi = Pi, U *m Pi = U & \tr Pi = (\rank U)%:R].
Proof.
have [A [freeA subUA]] : exists A : 'M[R]_(\rank U, n), row_free A /\ (U <= A)%MS.
  by exists (row_base U); rewrite row_base_free eq_row_base.
pose G := A *m A^T.
have unitG : G \in unitmx.
  rewrite -row_free_unit; apply: inj_row_free => x xG0.
  apply: (row_free_inj freeA); rewrite mul0mx; apply/eqP; rewrite -frob2_eq0.
  by rewrite frob2_mxtrace trmx_mul mulmxA -(mulmxA x) xG0 mul0mx mxtrace0.
have symG : G^T = G by rewrite trmx_mul trmxK.
exists (A^T *m invmx G *m A); split.
- by rewrite !trmx_mul trmxK trmx_inv symG mulmxA.
- rewrite -!mulmxA; congr (A^T *m _); rewrite (mulmxA A A^T) -/G.
  by rewrite mulKmx.
- have [X defU] := submxP subUA.
  by rewrite {1}defU -!mulmxA (mulmxA A A^T) -/G mulKVmx // -defU.
- by rewrite mxtrace_mulC mulmxA -/G mulmxV // mxtrace1.
Qed.

(* Weights between 0 and 1 that sum to at least k - r leave at least the tail. *)
Lemma sv_tail_le_weighted k r (s : 'rV[R]_k) (w : 'I_k -> R) : sv_sorted s ->
  (forall i, 0 <= w i <= 1) -> k%:R - r%:R <= \sum_i w i -> sv_tail r s <= \sum_i s 0 i ^+ 2 * w i.
Proof.
move=> sorted_s w01 sum_w; have [le_kr | lt_rk] := leqP k r.
  rewrite /sv_tail big1 => [|i le_ri]; last first.
    by have := leq_trans (ltn_ord i) (leq_trans le_kr le_ri); rewrite ltnn.
  by apply: sumr_ge0 => i _; case/andP: (w01 i) => w0 _; rewrite mulr_ge0 ?sqr_ge0.
pose c := s 0 (Ordinal lt_rk) ^+ 2.
have count_tail : \sum_(i < k) (r <= i)%N%:R = k%:R - r%:R :> R.
  rewrite -natr_sum -natrB ?(ltnW lt_rk) // -big_mkcondr /=; congr (_%:R).
  by rewrite -(big_geq_mkord r k xpredT (fun=> 1%N)) sum_nat_const_nat muln1.
have termwise i : s 0 i ^+ 2 * (r <= i)%N%:R + c * (w i - (r <= i)%N%:R) <= s 0 i ^+ 2 * w i.
  case/andP: (w01 i) => w0 w1; have [le_ri | lt_ir] := leqP r i.
    rewrite mulr1 -ler_subr_addl -{2}[s 0 i ^+ 2]mulr1 -mulrBr.
    by rewrite ler_wnmul2r ?subr_le0 //; apply: (sorted_s (Ordinal lt_rk) i).
  rewrite mulr0 add0r subr0 ler_wpmul2r //; apply: (sorted_s i (Ordinal lt_rk)).
  exact: ltnW.
apply: le_trans (ler_sum _ (fun i _ => termwise i)); rewrite big_split /=.
rewrite -mulr_sumr sumrB count_tail.
have -> : \sum_i s 0 i ^+ 2 * (r <= i)%N%:R = sv_tail r s.
  rewrite /sv_tail [RHS]big_mkcond /=; apply: eq_bigr => i _.
  by case: ifP => _; rewrite ?mulr1 ?mulr0.
by rewrite ler_addl mulr_ge0 ?sqr_ge0 // subr_ge0.
Qed.

Lemma frob2_trunc r k (s : 'rV[R]_k) : \sum_i (s - sv_trunc r s) 0 i ^+ 2 = sv_tail r s.
Proof.
rewrite /sv_tail [RHS]big_mkcond; apply: eq_bigr => i _; rewrite !mxE.
by case: ltnP => _; rewrite ?subrr ?expr0n ?subr0.
Qed.

Section FixedDecomposition.
Variables (k m n : nat) (P : 'M[R]_(k, m)) (s : 'rV[R]_k) (Q : 'M[R]_(k, n)).

Lemma sv_sumB (t : 'rV[R]_k) : sv_sum P s Q - sv_sum P t Q = sv_sum P (s - t) Q.
Proof. by rewrite /sv_sum raddfB /= mulmxBr mulmxBl. Qed.

Lemma frob2_sv_sum (t : 'rV[R]_k) : orthonormal P -> orthonormal Q ->
  frob2 (sv_sum P t Q) = \sum_i t 0 i ^+ 2.
Proof.
move=> oP oQ; rewrite frob2_mul_orthonormal // frob2_tr_mul_orthonormal //.
apply: eq_bigr => i _; rewrite (bigD1 i) //= big1 ?addr0 => [|j neq_ji].
  by rewrite !mxE eqxx mulr1n.
by rewrite !mxE eq_sym (negPf neq_ji) mulr0n expr0n.
Qed.

Lemma frob2_mul_sv_sum_tr (t : 'rV[R]_k) (v : 'rV[R]_n) : orthonormal P ->
  frob2 (v *m (sv_sum P t Q)^T) = \sum_i (v *m Q^T) 0 i ^+ 2 * t 0 i ^+ 2.
Proof.
move=> oP; rewrite !trmx_mul trmxK tr_diag_mx !mulmxA frob2_mul_orthonormal // frob2_row.
apply: eq_bigr => i _; rewrite mxE (bigD1 i) //= big1 ?addr0 => [|j neq_ji].
  by rewrite [diag_mx _ _ _]mxE eqxx mulr1n exprMn.
by rewrite [diag_mx _ _ _]mxE (negPf neq_ji) mulr0n mulr0.
Qed.

Lemma rank_sv_trunc r : (\rank (sv_sum P (sv_trunc r s) Q) <= r)%N.
Proof.
rewrite /sv_sum; have -> : diag_mx (sv_trunc r s) = pid_mx r *m diag_mx s.
  rewrite mul_mx_diag; apply/matrixP => i j; rewrite !mxE.
  have [-> | neq_ij] := eqVneq i j; last by rewrite (negPf (_ : i != j :> nat)) // mulr0n mul0r.
  by rewrite eqxx mulr1n; case: ifP; rewrite ?mul1r ?mul0r.
rewrite (leq_trans (mxrankM_maxl _ _)) // (leq_trans (mxrankM_maxr _ _)) //.
by rewrite (leq_trans (mxrankM_maxl _ _)) ?mxrank_pid_le.
Qed.

Lemma orthonormal_pid r : orthonormal Q -> (r <= k)%N -> orthonormal (pid_mx r *m Q : 'M_(r, n)).
Proof.
move=> /eqP oQ le_rk; apply/eqP; rewrite trmx_mul mulmxA -(mulmxA _ Q) oQ mulmx1 tr_pid_mx.
by rewrite pid_mx_id // pid_mx_1.
Qed.

Lemma orthonormal_free p q (A : 'M[R]_(p, q)) : orthonormal A -> row_free A.
Proof. by move/eqP=> oA; apply/row_freeP; exists A^T. Qed.

(* Frobenius norm: no matrix of rank at most r leaves less than the tail, which the truncated
   decomposition does leave. *)
Lemma sv_tail_floor r (U : 'M[R]_(m, n)) :
  orthonormal P -> orthonormal Q -> sv_sorted s -> (\rank U <= r)%N ->
  sv_tail r s <= frob2 (sv_sum P s Q - U).
Proof.
move=> oP oQ sorted_s leU; have [Pi [symPi idemPi UPi trPi]] := row_space_projector U.
have [symQ idemQ] := orthonormal_projector oQ.
(* Project the error on the orthogonal complement of the row space of U. *)
rewrite (frob2_projector (sv_sum P s Q - U) symPi idemPi) -[leLHS]add0r.
apply: ler_add; first exact: frob2_ge0.
have symC : (1%:M - Pi)^T = 1%:M - Pi by rewrite linearB /= trmx1 symPi.
have idemC : (1%:M - Pi) *m (1%:M - Pi) = 1%:M - Pi.
  by rewrite mulmxBl mul1mx mulmxBr mulmx1 idemPi subrr subr0.
have -> : (sv_sum P s Q - U) *m (1%:M - Pi) = P^T *m (diag_mx s *m (Q *m (1%:M - Pi))).
  by rewrite mulmxBl (mulmxBr U) mulmx1 UPi subrr subr0 !mulmxA.
rewrite frob2_tr_mul_orthonormal // frob2_rows.
pose w i := frob2 (row i (Q *m (1%:M - Pi))).
have rowE i : frob2 (row i (diag_mx s *m (Q *m (1%:M - Pi)))) = s 0 i ^+ 2 * w i.
  by rewrite mul_diag_mx -frob2Z; congr frob2; apply/rowP => j; rewrite !mxE.
rewrite (eq_bigr _ (fun i _ => rowE i)).
apply: sv_tail_le_weighted => // [i|]; rewrite /w.
  rewrite frob2_ge0 row_mul (le_trans (frob2_mul_projector_le _ symC idemC)) //.
  have /matrixP/(_ i i) := eqP oQ; rewrite [RHS]mxE eqxx mulr1n => <-.
  rewrite frob2_row mxE; apply: ler_sum => j _; by rewrite !mxE expr2.
rewrite -frob2_rows.
have frobQ : frob2 Q = k%:R by rewrite frob2_mxtrace (eqP oQ) mxtrace1.
rewrite ler_subl_addr -frobQ (frob2_projector Q symPi idemPi) addrC ler_add2l.
rewrite -frob2_tr trmx_mul symPi -(frob2_mul_orthonormal _ oQ) -mulmxA.
apply: le_trans (frob2_mul_projector_le _ symQ idemQ) _.
by rewrite frob2_mxtrace symPi idemPi trPi ler_nat.
Qed.

Lemma sv_tail_attained r : orthonormal P -> orthonormal Q ->
  frob2 (sv_sum P s Q - sv_sum P (sv_trunc r s) Q) = sv_tail r s.
Proof. by move=> oP oQ; rewrite sv_sumB frob2_sv_sum ?frob2_trunc. Qed.

(* Spectral norm: no matrix of rank at most r leaves less than the entry of index r ... *)
Lemma sv_at_floor r (U : 'M[R]_(m, n)) c : orthonormal P -> orthonormal Q -> sv_sorted s ->
  (\rank U <= r)%N -> op_le c (sv_sum P s Q - U) -> sv_at r s ^+ 2 <= c ^+ 2.
Proof.
move=> oP oQ sorted_s leU le_c; rewrite /sv_at; case: insubP => [i _ def_i | _]; last by rewrite expr0n sqr_ge0.
rewrite -def_i in leU; pose S : 'M[R]_(i.+1, n) := pid_mx i.+1 *m Q.
have oS : orthonormal S by apply: orthonormal_pid.
have [|v [v0 _ le_v]] := @eckart_young _ _ _ _ (sv_sum P s Q) U S (s 0 i ^+ 2) (orthonormal_free oS) _ leU.
  move=> _ /submxP[x ->]; rewrite (frob2_mul_orthonormal x oS) frob2_mul_sv_sum_tr //.
  rewrite -mulmxA -(mulmxA _ Q) (eqP oQ) mulmx1.
  have -> : frob2 x = \sum_j (x *m (pid_mx i.+1 : 'M_(i.+1, k))) 0 j ^+ 2.
    rewrite -frob2_row frob2_mul_orthonormal //; apply/eqP.
    by rewrite tr_pid_mx pid_mx_id // pid_mx_1.
  rewrite mulr_sumr; apply: ler_sum => j _; rewrite mulrC.
  have [le_ji | lt_ij] := leqP j i; first by rewrite ler_wpmul2l ?sqr_ge0 ?sorted_s.
  rewrite mxE big1 ?expr0n ?mul0r // => l _; rewrite mxE.
  by case: eqP => [->|_] /=; rewrite ?mulr0 // ltnS leqNgt lt_ij mulr0.
have v_pos : 0 < frob2 v by rewrite lt0r frob2_eq0 v0 frob2_ge0.
by rewrite -(ler_pmul2r v_pos); apply: le_trans le_v _; move/op_le_row: le_c; apply.
Qed.

(* ... which the truncated decomposition does leave. *)
Lemma sv_at_attained r : orthonormal P -> orthonormal Q -> sv_sorted s ->
  op_le (sv_at r s) (sv_sum P s Q - sv_sum P (sv_trunc r s) Q).
Proof.
move=> oP oQ sorted_s; apply/op_le_row => v.
apply: le_trans (ler_wpmul2l (sqr_ge0 _) (frob2_mul_orthonormal_tr_le v oQ)).
rewrite sv_sumB frob2_mul_sv_sum_tr // (frob2_row (v *m Q^T)) mulr_sumr.
apply: ler_sum => j _; rewrite mulrC ler_wpmul2r ?sqr_ge0 // !mxE.
have [_ | le_rj] := ltnP j r; first by rewrite subrr expr0n sqr_ge0.
by rewrite subr0 /sv_at insubT ?(leq_ltn_trans le_rj) //= => lt_rk; apply: sorted_s.
Qed.

End FixedDecomposition.

Lemma sv_at_sqr_le r m n k k' (P : 'M[R]_(k, m)) (s : 'rV[R]_k) (Q : 'M[R]_(k, n))
    (P' : 'M[R]_(k', m)) (s' : 'rV[R]_k') (Q' : 'M[R]_(k', n)) :
  orthonormal P -> orthonormal Q -> sv_sorted s -> orthonormal P' -> orthonormal Q' -> sv_sorted s' ->
  sv_sum P s Q = sv_sum P' s' Q' -> sv_at r s ^+ 2 <= sv_at r s' ^+ 2.
Proof.
move=> oP oQ sorted_s oP' oQ' sorted_s' eqE.
by apply: (sv_at_floor oP oQ sorted_s (rank_sv_trunc P' s' Q' r)); rewrite eqE; apply: sv_at_attained.
Qed.

(* Two targets that differ in r terms. *)
Lemma rank_sv_band k m n (P : 'M[R]_(k, m)) (s : 'rV[R]_k) (Q : 'M[R]_(k, n)) a r :
  (\rank (sv_sum P (sv_trunc (a + r) s) Q - sv_sum P (sv_trunc a s) Q)%R <= r)%N.
Proof.
rewrite sv_sumB (leq_trans (mxrankM_maxl _ _)) // (leq_trans (mxrankM_maxr _ _)) //.
apply: leq_trans (rank_diag_mx _) (leq_trans _ (sum_band_le k a r)).
apply: leq_sum => i _; rewrite !mxE.
have [lt_ia | le_ai] := ltnP i a; first by rewrite ltn_addr // subrr eqxx.
by case: ifP => _; rewrite ?subr0 ?eqxx //; apply: leq_b1.
Qed.

End Decomposition.

(* What a singular value decomposition says of every matrix over a real closed field. *)
Section SingularValues.
Variable R : rcfType.

Theorem singular_value_decomposition m n (E : 'M[R]_(m, n)) :
  [/\ orthonormal (left_sv E), orthonormal (right_sv E), sv_sorted (singular_values E),
      forall i, 0 <= singular_values E 0 i
    & E = sv_sum (left_sv E) (singular_values E) (right_sv E)].
Proof. exact: svdP. Qed.

Lemma sv_at_ge0 r k (s : 'rV[R]_k) : (forall i, 0 <= s 0 i) -> 0 <= sv_at r s.
Proof. by move=> s0; rewrite /sv_at; case: insub. Qed.

(* ... and no two decompositions differ in them: with n terms or with fewer. *)
Theorem singular_values_unique m n k (P : 'M[R]_(k, m)) (s : 'rV[R]_k) (Q : 'M[R]_(k, n)) r :
  orthonormal P -> orthonormal Q -> sv_sorted s -> (forall i, 0 <= s 0 i) ->
  sv_at r (singular_values (sv_sum P s Q)) = sv_at r s.
Proof.
move=> oP oQ sorted_s s0; set E := sv_sum P s Q.
have [oL oR sorted_E E0 defE] := svdP E.
apply: (pexpIrn (isT : (0 < 2)%N)); rewrite ?nnegrE ?sv_at_ge0 //.
apply: le_anti; apply/andP; split; first exact: sv_at_sqr_le oL oR sorted_E oP oQ sorted_s (esym defE).
exact: sv_at_sqr_le oP oQ sorted_s oL oR sorted_E defE.
Qed.

(* The first r terms, and the spectral norm. *)
Definition low_rank r m n (E : 'M[R]_(m, n)) : 'M[R]_(m, n) :=
  sv_sum (left_sv E) (sv_trunc r (singular_values E)) (right_sv E).
Definition spectral_norm m n (E : 'M[R]_(m, n)) : R := sv_at 0 (singular_values E).

Lemma spectral_norm_ge0 m n (E : 'M[R]_(m, n)) : 0 <= spectral_norm E.
Proof. by have [_ _ _ s0 _] := svdP E; apply: sv_at_ge0. Qed.

Lemma rank_low_rank r m n (E : 'M[R]_(m, n)) : (\rank (low_rank r E) <= r)%N.
Proof. exact: rank_sv_trunc. Qed.

Lemma low_rank0 m n (E : 'M[R]_(m, n)) : low_rank 0 E = 0.
Proof. by apply/eqP; rewrite -mxrank_eq0 -leqn0 rank_low_rank. Qed.

(* The spectral norm is the least bound of |E x| / |x|. *)
Theorem spectral_norm_least m n (E : 'M[R]_(m, n)) c : 0 <= c -> spectral_norm E <= c <-> op_le c E.
Proof.
move=> c0; have [oP oQ sorted_s s0 defE] := svdP E; split=> le_c; last first.
  rewrite -(ler_pexpn2r (isT : (0 < 2)%N)) ?nnegrE ?spectral_norm_ge0 //.
  by apply: (sv_at_floor oP oQ sorted_s (U := 0)); rewrite ?mxrank0 // subr0 -defE.
move=> x; apply: le_trans (_ : _ <= spectral_norm E ^+ 2 * frob2 x) _.
  by rewrite -[E in E *m x]subr0 -(low_rank0 E) {1}defE; apply: sv_at_attained.
by rewrite ler_wpmul2r ?frob2_ge0 // ler_pexpn2r ?nnegrE ?spectral_norm_ge0.
Qed.

(* eckart_young, spectral norm: no update of rank at most r leaves less than sigma_(r+1). *)
Theorem eckart_young_spectral m n r (E U : 'M[R]_(m, n)) : (\rank U <= r)%N ->
  sv_at r (singular_values E) <= spectral_norm (E - U).
Proof.
move=> leU; have [oP oQ sorted_s s0 defE] := svdP E.
rewrite -(ler_pexpn2r (isT : (0 < 2)%N)) ?nnegrE ?spectral_norm_ge0 ?sv_at_ge0 //.
apply: (sv_at_floor oP oQ sorted_s leU); rewrite -defE.
by apply/spectral_norm_least; rewrite ?spectral_norm_ge0.
Qed.

(* eckart_young, spectral norm, attained by the first r terms of the decomposition. *)
Theorem eckart_young_spectral_attained m n r (E : 'M[R]_(m, n)) :
  (\rank (low_rank r E) <= r)%N /\ spectral_norm (E - low_rank r E) = sv_at r (singular_values E).
Proof.
split; first exact: rank_low_rank.
apply: le_anti; rewrite eckart_young_spectral ?rank_low_rank // andbT.
have [oP oQ sorted_s s0 defE] := svdP E; apply/spectral_norm_least; first exact: sv_at_ge0.
by rewrite [X in X - _]defE; apply: sv_at_attained.
Qed.

(* eckart_young, Frobenius norm: no update of rank at most r leaves less than the tail of the
   squared singular values. *)
Theorem eckart_young_frobenius m n r (E U : 'M[R]_(m, n)) : (\rank U <= r)%N ->
  sv_tail r (singular_values E) <= frob2 (E - U).
Proof.
by move=> leU; have [oP oQ sorted_s _ defE] := svdP E; rewrite [X in X - _]defE; apply: sv_tail_floor.
Qed.

(* eckart_young, Frobenius norm, attained by the same matrix. *)
Theorem eckart_young_frobenius_attained m n r (E : 'M[R]_(m, n)) :
  frob2 (E - low_rank r E) = sv_tail r (singular_values E).
Proof. by have [oP oQ _ _ defE] := svdP E; rewrite [X in X - _]defE; apply: sv_tail_attained. Qed.

(* The singular values of a multiple of the identity. *)
Lemma singular_values_scalar n r (a : R) : (r <= n)%N ->
  sv_at r (singular_values (a%:M : 'M[R]_n.+1)) = `|a|.
Proof.
move=> le_rn; pose e : R := if 0 <= a then 1 else - 1.
have defa : a%:M = sv_sum e%:M (const_mx `|a|) 1%:M :> 'M[R]_n.+1.
  rewrite /sv_sum tr_scalar_mx mulmx1 mul_scalar_mx diag_const_mx scale_scalar_mx; congr _%:M.
  by rewrite /e; case: ger0P => _; rewrite ?mul1r // mulN1r opprK.
have ee : e * e = 1 by rewrite /e; case: ifP; rewrite ?mulr1 ?mulrNN ?mulr1.
rewrite defa singular_values_unique; last by move=> i; rewrite mxE.
- by rewrite /sv_at insubT //= mxE.
- by rewrite /orthonormal tr_scalar_mx -scalar_mxM ee.
- by rewrite /orthonormal trmx1 mulmx1.
- by move=> i j _; rewrite !mxE.
Qed.

End SingularValues.

(* The claim about a chain as a whole: the least error that L adapted layers leave. *)
Section ChainError.
Variables (R : rcfType) (d r : nat) (Ws : seq 'M[R]_d) (T : 'M[R]_d).

Lemma adapted_chain_rank (WU : seq ('M[R]_d * 'M[R]_d)) :
  [seq p.1 | p <- WU] = Ws -> all (fun p => \rank p.2 <= r)%N WU ->
  (\rank (chain [seq p.1 + p.2 | p <- WU] - chain Ws)%R <= r * size Ws)%N.
Proof.
move=> <- /allP leWU; rewrite (leq_trans (deep_linear WU)) // size_map.
rewrite big_seq (leq_trans (leq_sum _ leWU)) // -big_seq.
by rewrite big_const_seq count_predT iter_addn_0.
Qed.

(* deep_linear, lower bound: whatever the layers, L updates of rank r leave at least the
   tail of T - P from index r L on, in the Frobenius norm and in the spectral norm. *)
Theorem deep_linear_floor (WU : seq ('M[R]_d * 'M[R]_d)) :
  [seq p.1 | p <- WU] = Ws -> all (fun p => \rank p.2 <= r)%N WU ->
  sv_tail (r * size Ws) (singular_values (T - chain Ws))
    <= frob2 (T - chain [seq p.1 + p.2 | p <- WU]) /\
  sv_at (r * size Ws) (singular_values (T - chain Ws))
    <= spectral_norm (T - chain [seq p.1 + p.2 | p <- WU]).
Proof.
move=> defWs leWU; have leU := adapted_chain_rank defWs leWU.
set C := chain [seq _ | p <- WU] in leU *.
have -> : T - C = T - chain Ws - (C - chain Ws) by rewrite opprB addrA subrK.
by split; [apply: eckart_young_frobenius | apply: eckart_young_spectral].
Qed.

(* deep_linear, upper bound: with invertible layers the same errors are attained, both by
   the same updates, and without any condition on intermediate products. *)
Theorem deep_linear_floor_attained : all (mem unitmx) Ws ->
  exists WU : seq ('M[R]_d * 'M[R]_d),
    [/\ [seq p.1 | p <- WU] = Ws, all (fun p => \rank p.2 <= r)%N WU,
        frob2 (T - chain [seq p.1 + p.2 | p <- WU])
          = sv_tail (r * size Ws) (singular_values (T - chain Ws))
      & spectral_norm (T - chain [seq p.1 + p.2 | p <- WU])
          = sv_at (r * size Ws) (singular_values (T - chain Ws))].
Proof.
move=> unitWs; pose E' := low_rank (r * size Ws) (T - chain Ws).
have [|WU [defWs leWU defC]] := (deep_linear_exact r (chain Ws + E') unitWs).2.
  by rewrite addrC addKr rank_low_rank.
exists WU; rewrite defC opprD addrA eckart_young_frobenius_attained.
by rewrite (eckart_young_spectral_attained _ _).2.
Qed.

(* deep_linear in the form of the code: if every P + LR_(r l) (T - P) with 0 < l < L is
   non-singular, the construction runs through them (see deep_linear_attained). *)
Theorem deep_linear_truncated_targets : all (mem unitmx) Ws ->
  (forall l, (0 < l < size Ws)%N -> chain Ws + low_rank (r * l) (T - chain Ws) \in unitmx) ->
  exists WU : seq ('M[R]_d * 'M[R]_d),
    [/\ [seq p.1 | p <- WU] = Ws, all (fun p => \rank p.2 <= r)%N WU
      & chain [seq p.1 + p.2 | p <- WU] = chain Ws + low_rank (r * size Ws) (T - chain Ws)].
Proof.
move=> unitWs unitT.
apply: (@deep_linear_attained _ d r Ws (fun l => chain Ws + low_rank (r * l) (T - chain Ws))) => //.
  by rewrite muln0 low_rank0 addr0.
by move=> l _; rewrite opprD addrACA subrr add0r mulnS addnC rank_sv_band.
Qed.

End ChainError.

(* The same for rectangular layers. *)
Section RectangularError.
Variables (R : rcfType) (d : nat -> nat) (W : forall i, 'M[R]_(d i.+1, d i)) (L r : nat).
Variable T : 'M[R]_(d L, d 0%N).

(* The intermediate targets P + LR_(r l) (T - P). *)
Definition truncated_target l : 'M[R]_(d L, d 0%N) :=
  prefix W L + low_rank (r * l) (T - prefix W L).

Lemma truncated_target0 : truncated_target 0%N = prefix W L.
Proof. by rewrite /truncated_target muln0 low_rank0 addr0. Qed.

Lemma rank_truncated_target l : (\rank (truncated_target l.+1 - truncated_target l)%R <= r)%N.
Proof. by rewrite opprD addrACA subrr add0r mulnS addnC rank_sv_band. Qed.

(* deep_linear, rectangular layers, in the form of the code: suffix products of full row rank
   and adapted prefixes of full column rank, where a target moves, give, layer by layer,
   updates of rank at most r with the least possible error in both norms. *)
Theorem deep_linear_rectangular_attained (U := update W truncated_target) :
  solvable W truncated_target ->
  [/\ forall l, (l < L)%N -> (\rank (U l) <= r)%N,
      frob2 (T - prefix (fun i => W i + U i) L) = sv_tail (r * L) (singular_values (T - prefix W L))
    & spectral_norm (T - prefix (fun i => W i + U i) L)
        = sv_at (r * L) (singular_values (T - prefix W L))].
Proof.
move=> solve; have rank_step l : (l < L)%N -> (\rank (truncated_target l.+1 - truncated_target l)%R <= r)%N.
  by move=> _; apply: rank_truncated_target.
have [leU _ ->] := deep_linear_rectangular truncated_target0 solve rank_step.
rewrite /truncated_target opprD addrA eckart_young_frobenius_attained.
by rewrite (eckart_young_spectral_attained _ _).2.
Qed.

(* ... and no updates of rank r do better. *)
Theorem deep_linear_rectangular_floor (U : forall i, 'M[R]_(d i.+1, d i)) :
  (forall l, (l < L)%N -> (\rank (U l) <= r)%N) ->
  sv_tail (r * L) (singular_values (T - prefix W L)) <= frob2 (T - prefix (fun i => W i + U i) L) /\
  sv_at (r * L) (singular_values (T - prefix W L)) <= spectral_norm (T - prefix (fun i => W i + U i) L).
Proof.
move=> leU; set C := prefix (fun i => W i + U i) L.
have leC : (\rank (C - prefix W L)%R <= r * L)%N.
  rewrite (leq_trans (deep_linear_rank_rectangular W U L)) //.
  rewrite (leq_trans (leq_sum _ (fun i _ => leU _ (ltn_ord i)))) //.
  by rewrite sum_nat_const card_ord mulnC.
have -> : T - C = T - prefix W L - (C - prefix W L) by rewrite opprB addrA subrK.
by split; [apply: eckart_young_frobenius | apply: eckart_young_spectral].
Qed.

End RectangularError.

(* Tails of the two spectra of the claim, in closed form or between closed forms. *)
Section SpectralConcentration.
Variable R : realFieldType.

Lemma sv_tail_nat k r (f : nat -> R) (s : 'rV[R]_k) : (forall i : 'I_k, s 0 i ^+ 2 = f i) ->
  sv_tail r s = \sum_(r <= i < k) f i.
Proof. by move=> def_s; rewrite big_geq_mkord; apply: eq_bigr => i _; apply: def_s. Qed.

Lemma telescope_subr r k (f : nat -> R) : (r <= k)%N -> f r - f k = \sum_(r <= i < k) (f i - f i.+1).
Proof.
move=> le_rk; rewrite -opprB -telescope_sumr // -sumrN.
by apply: eq_bigr => i _; rewrite opprB.
Qed.

(* spectral_concentration, spectrum q^i: the share of the energy beyond the first r of k
   singular values is (x^r - x^k) / (1 - x^k) with x = q^2, at most x^r. *)
Theorem spectral_concentration_geometric k r (q : R) (s : 'rV[R]_k) :
  0 < q < 1 -> (r <= k)%N -> (0 < k)%N -> (forall i : 'I_k, s 0 i = q ^+ i) ->
  sv_tail r s / sv_tail 0 s = ((q ^+ 2) ^+ r - (q ^+ 2) ^+ k) / (1 - (q ^+ 2) ^+ k)
  /\ sv_tail r s / sv_tail 0 s <= (q ^+ 2) ^+ r.
Proof.
move=> /andP[q0 q1] le_rk k0 def_s; pose x := q ^+ 2; rewrite -/x.
have x0 : 0 < x by rewrite exprn_gt0.
have x1 : x < 1 by rewrite exprn_ilt1 // ltW.
have tailE j : (j <= k)%N -> sv_tail j s = (x ^+ j - x ^+ k) / (1 - x).
  move=> le_jk; rewrite (@sv_tail_nat k j (fun i => x ^+ i)) => [|i]; last by rewrite def_s exprAC.
  apply: (canRL (mulfK _)); first by rewrite subr_eq0 eq_sym lt_eqF.
  rewrite mulr_suml (telescope_subr (fun i => x ^+ i) le_jk).
  by apply: eq_bigr => i _; rewrite exprSr mulrBr mulr1.
have xk1 : 0 < 1 - x ^+ k by rewrite subr_gt0 exprn_ilt1 ?(ltW x0) // -lt0n.
have -> : sv_tail r s / sv_tail 0 s = (x ^+ r - x ^+ k) / (1 - x ^+ k).
  by rewrite !tailE // expr0 -mulf_div divff ?mulr1 // invr_eq0 subr_eq0 eq_sym lt_eqF.
split=> //; rewrite ler_pdivr_mulr // mulrBr mulr1 ler_sub //.
exact: ler_pimull (exprn_ge0 _ (ltW x0)) (exprn_ile1 _ (ltW x0) (ltW x1)).
Qed.

(* ... hence the rank that keeps the share e of the energy. *)
Theorem spectral_concentration_geometric_rank k r (q e : R) (s : 'rV[R]_k) :
  0 < q < 1 -> (r <= k)%N -> (0 < k)%N -> (forall i : 'I_k, s 0 i = q ^+ i) ->
  (sv_tail r s <= (1 - e) * sv_tail 0 s) =
  ((q ^+ 2) ^+ r <= (1 - e) * (1 - (q ^+ 2) ^+ k) + (q ^+ 2) ^+ k).
Proof.
move=> q01 le_rk k0 def_s.
have [shareE _] := spectral_concentration_geometric q01 le_rk k0 def_s.
have [/andP[q0 q1]] := (q01, tt).
have tail0 : 0 < sv_tail 0 s.
  rewrite /sv_tail (bigD1 (Ordinal k0)) //= ltr_spaddl ?def_s ?exprn_gt0 //.
  by apply: sumr_ge0 => i _; apply: sqr_ge0.
have xk1 : 0 < 1 - (q ^+ 2) ^+ k.
  by rewrite subr_gt0 exprn_ilt1 ?exprn_ge0 ?(ltW q0) ?exprn_ilt1 ?(ltW q0) // -lt0n.
by rewrite -ler_pdivr_mulr // shareE ler_pdivr_mulr // ler_subl_addr.
Qed.

(* spectral_concentration, spectrum 1/i: the energy beyond the first r of k singular values
   lies between 1/(r+1) - 1/(k+1) and 1/r - 1/k. *)
Theorem spectral_concentration_harmonic k r (s : 'rV[R]_k) :
  (0 < r <= k)%N -> (forall i : 'I_k, s 0 i = i.+1%:R^-1) ->
  r.+1%:R^-1 - k.+1%:R^-1 <= sv_tail r s <= r%:R^-1 - k%:R^-1.
Proof.
move=> /andP[r0 le_rk] def_s; rewrite (@sv_tail_nat k r (fun i => i.+1%:R^-1 ^+ 2)) => [|i]; last first.
  by rewrite def_s.
have gap i : (0 < i)%N -> i%:R^-1 - i.+1%:R^-1 = (i%:R * i.+1%:R)^-1 :> R.
  move=> i0; have iN0 j : (0 < j)%N -> j%:R != 0 :> R by rewrite pnatr_eq0 lt0n.
  rewrite -[i%:R^-1]div1r -[i.+1%:R^-1]div1r -mulNr addf_div ?iN0 // mul1r mulN1r.
  by rewrite -natrB ?leqnSn // subSnn div1r.
rewrite (telescope_subr (fun i => i.+1%:R^-1) le_rk) (telescope_subr (fun i => i%:R^-1) le_rk).
apply/andP; split; apply: ler_sum_nat => i /andP[le_ri _]; rewrite gap ?(leq_trans r0 le_ri) //.
  by rewrite expr2 invfM ler_pmul2l ?invr_gt0 ?ltr0n // lef_pinv ?posrE ?ltr0n // ler_nat.
rewrite expr2 invfM ler_pmul2r ?invr_gt0 ?ltr0n // lef_pinv ?posrE ?ltr0n ?ler_nat //.
exact: leq_trans r0 le_ri.
Qed.

(* spectral_concentration, any spectrum with these energies, of real powers of i say: the share of the energy beyond the
   first r of k singular values, from partial sums. *)
Theorem spectral_concentration_sums k r (energy : nat -> R) (s : 'rV[R]_k) :
  (r <= k)%N -> (forall i : 'I_k, s 0 i ^+ 2 = energy i.+1) ->
  let H j := \sum_(1 <= i < j.+1) energy i in
  sv_tail r s / sv_tail 0 s = (H k - H r) / H k.
Proof.
move=> le_rk def_s H; have tailE j : sv_tail j s = \sum_(j.+1 <= i < k.+1) energy i.
  by rewrite (@sv_tail_nat k j (fun i => energy i.+1)) // big_add1.
rewrite !tailE; congr (_ / _); rewrite /H [X in _ = X - _](big_cat_nat _ _ _ (_ : 1 <= r.+1)%N) //=.
by rewrite addrC addKr.
Qed.

End SpectralConcentration.

(* Worked instances, and for each hypothesis an instance that fails without it. *)
Section Instances.
Variable F : fieldType.

(* One round of rank 1 is not enough for the identity of size 2. *)
Example merge_and_reset_too_few :
  ~ exists U : 'I_1 -> 'M[F]_2, (forall t, \rank (U t) <= 1)%N /\ (\sum_t U t)%R = 1%:M.
Proof. by move/merge_and_reset; rewrite mxrank1. Qed.

(* deep_linear_exact needs invertible layers: behind a zero layer two updates of rank 1
   never reach the identity, although the gap has rank 2. *)
Example deep_linear_singular_layer (Ws := [:: 1%:M; 0] : seq 'M[F]_2) :
  (\rank (1%:M - chain Ws)%R <= 1 * size Ws)%N /\
  ~ exists WU : seq ('M[F]_2 * 'M[F]_2),
      [/\ [seq p.1 | p <- WU] = Ws, all (fun p => \rank p.2 <= 1)%N WU
        & chain [seq p.1 + p.2 | p <- WU] = 1%:M].
Proof.
split; first by rewrite mul1n rank_leq_row.
case=> [[|[W1 U1] [|[W2 U2] [|? ?]]]] [] //= [_ ->] /and3P[_ leU2 _] prod1.
have : (\rank (1%:M : 'M[F]_2) <= 1)%N.
  by rewrite -prod1 add0r mulmx1 (leq_trans (mxrankM_maxr _ _)).
by rewrite mxrank1.
Qed.

(* The non-singular intermediate targets of deep_linear_attained are not necessary: from
   the identity two updates of rank 1 reach 0, and none of the targets on the way is
   invertible. *)
Example deep_linear_singular_targets (Ws := [:: 1%:M; 1%:M] : seq 'M[F]_2) :
  (exists WU : seq ('M[F]_2 * 'M[F]_2),
     [/\ [seq p.1 | p <- WU] = Ws, all (fun p => \rank p.2 <= 1)%N WU
       & chain [seq p.1 + p.2 | p <- WU] = 0]) /\
  forall T1 : 'M[F]_2, (\rank (0 - T1)%R <= 1)%N -> T1 \notin unitmx.
Proof.
split=> [|T1].
  by apply/deep_linear_exact; [rewrite /= unitmx1 | rewrite mul1n rank_leq_row].
rewrite sub0r mxrank_opp => leT1; apply/negP => /mxrank_unit rankT1.
by rewrite rankT1 in leT1.
Qed.

End Instances.

Section RationalInstances.

(* Two layers of size 2, both the identity: updates of rank 1 each reach diag(2, 3), whose
   gap to the identity has rank 2. *)
Example deep_linear_diagonal (T := diag_mx (\row_(j < 2) j.+2%:R) : 'M[rat]_2) :
  chain [:: 1%:M + delta_mx ord0 ord0; 1%:M + 2%:R *: delta_mx ord_max ord_max] = T /\
  \rank (T - chain [:: 1%:M; 1%:M])%R = 2%N.
Proof.
split.
  rewrite /= mulmx1 mulmxDl mul1mx mulmxDr mulmx1 -scalemxAr mul_delta_mx_0 // scaler0 addr0.
  apply/matrixP => i j; rewrite !mxE.
  by case: i => [[|[|?]] ?] //; case: j => [[|[|?]] ?] //; apply/eqP.
have -> : T - chain [:: 1%:M; 1%:M] = diag_mx (\row_(j < 2) j.+1%:R).
  rewrite /= !mulmx1; apply/matrixP => i j; rewrite !mxE.
  by case: i => [[|[|?]] ?] //; case: j => [[|[|?]] ?] //; apply/eqP.
by rewrite mxrank_unit // unitmxE det_diag !big_ord_recl big_ord0 !mxE unitfE.
Qed.

Definition pair_row (a b : rat) : 'rV[rat]_2 := \row_j (if j == ord0 then a else b).

Lemma orthonormal1 n : orthonormal (1%:M : 'M[rat]_n).
Proof. by rewrite /orthonormal trmx1 mulmx1. Qed.

Lemma sv_tail_pair a b : sv_tail 1 (pair_row a b) = b ^+ 2.
Proof. by rewrite /sv_tail big_mkcond !big_ord_recl big_ord0 /= !mxE add0r addr0. Qed.

(* diag(2, 1) has distance exactly 1 to the matrices of rank 1. *)
Example eckart_young_diagonal (E := sv_sum 1%:M (pair_row 2%:R 1) 1%:M : 'M_2) :
  (forall U : 'M[rat]_2, (\rank U <= 1)%N -> 1 <= frob2 (E - U)) /\
  exists U : 'M[rat]_2, (\rank U <= 1)%N /\ frob2 (E - U) = 1.
Proof.
have tail1 : sv_tail 1 (pair_row 2%:R 1) = 1 by rewrite sv_tail_pair expr1n.
split=> [U leU|].
  rewrite -[leLHS]tail1; apply: sv_tail_floor leU; try exact: orthonormal1.
  by move=> i j; rewrite !mxE; case: i => [[|[|?]] ?] //; case: j => [[|[|?]] ?].
exists (sv_sum 1%:M (sv_trunc 1 (pair_row 2%:R 1)) 1%:M); rewrite -[RHS]tail1.
by rewrite rank_sv_trunc sv_tail_attained ?orthonormal1.
Qed.

(* Without sorting: with the entries 1, 2 the "tail" 4 is no lower bound at rank 1. *)
Example eckart_young_unsorted (E := sv_sum 1%:M (pair_row 1 2%:R) 1%:M : 'M_2) :
  sv_tail 1 (pair_row 1 2%:R) = 4%:R /\
  exists U : 'M[rat]_2, (\rank U <= 1)%N /\ frob2 (E - U) = 1.
Proof.
split; first by rewrite sv_tail_pair.
exists (2%:R *: delta_mx ord_max ord_max); split.
  by rewrite (leq_trans (mxrank_scale _ _)) // mxrank_delta.
rewrite /E /sv_sum trmx1 mul1mx mulmx1 /frob2 !big_ord_recl !big_ord0 !mxE /=.
by apply/eqP; vm_compute.
Qed.

(* Without orthonormal rows: P = 1, s = (1, 1) and Q constant give a matrix of rank 1. *)
Example eckart_young_not_orthonormal (E := sv_sum 1%:M (pair_row 1 1) (const_mx 1) : 'M_2) :
  sv_tail 1 (pair_row 1 1) = 1 /\ (\rank E <= 1)%N.
Proof.
split; first by rewrite sv_tail_pair expr1n.
have -> : E = (const_mx 1 : 'M_(2, 1)) *m (const_mx 1 : 'M_(1, 2)).
  rewrite /E /sv_sum trmx1 mul1mx mul_diag_mx; apply/matrixP => i j.
  by rewrite !mxE big_ord1 !mxE; case: ifP.
by rewrite (leq_trans (mxrankM_maxl _ _)) ?rank_leq_col.
Qed.

(* eckart_young needs independent rows S: on S = 0 every premise holds, the conclusion not. *)
Example eckart_young_not_free (S := 0 : 'M[rat]_(2, 2)) :
  (forall v : 'rV[rat]_2, (v <= S)%MS -> 1 * frob2 v <= frob2 (v *m (0 : 'M[rat]_2)^T)) /\
  ~ exists2 v : 'rV[rat]_2, v != 0 & (v <= S)%MS.
Proof.
rewrite /S; split=> [v | [v v0]]; last by rewrite submx0 (negPf v0).
by rewrite submx0 => /eqP->; rewrite mul0mx frob20 mulr0.
Qed.

(* Energy 1, 1/4: one fifth lies beyond the first singular value. *)
Example spectral_concentration_half (s := pair_row 1 (2%:R^-1)) :
  sv_tail 1 s / sv_tail 0 s = 5%:R^-1.
Proof.
have half01 : 0 < (2%:R^-1 : rat) < 1 by [].
have def_s (i : 'I_2) : s 0 i = 2%:R^-1 ^+ i by rewrite mxE; case: i => [[|[|?]] ?].
have [-> _] := @spectral_concentration_geometric _ 2 1 _ s half01 isT isT def_s.
by apply/eqP; vm_compute.
Qed.

End RationalInstances.

Section RealClosedInstances.
Variable R : rcfType.

(* 1 x 1: the singular value is not -1 in -1 = 1 (-1) 1, nor 1 in 2 = 1 1 2, where 2 is no unit
   vector. *)
Example singular_values_hypotheses :
  sv_at 0 (singular_values (sv_sum 1%:M (const_mx (- 1)) 1%:M : 'M[R]_1)) = 1 /\
  sv_at 0 (singular_values (sv_sum 1%:M (const_mx 1) 2%:R%:M : 'M[R]_1)) = 2%:R.
Proof.
rewrite /sv_sum !trmx1 !mul1mx !diag_const_mx mulmx1 -scalar_mxM mul1r.
by rewrite !singular_values_scalar // normrN1 normr_nat.
Qed.

(* 2 x 2: diag(1, 2) has the singular values 2, 1, in this order. *)
Example singular_values_diagonal (E := diag_mx (\row_(i < 2) i.+1%:R) : 'M[R]_2) :
  [/\ sv_at 0 (singular_values E) = 2%:R, sv_at 1 (singular_values E) = 1 & spectral_norm E = 2%:R].
Proof.
suffices svE r : sv_at r (singular_values E) = sv_at r (\row_(i < 2) (2 - i)%:R).
  by rewrite /spectral_norm !svE /sv_at !insubT //= !mxE.
pose p : 'S_2 := tperm ord0 ord_max; pose s : 'rV[R]_2 := \row_i i.+1%:R.
have o1 : orthonormal (1%:M : 'M[R]_2) by rewrite /orthonormal trmx1 mulmx1.
have -> : E = sv_sum (row_perm p 1%:M) (col_perm p s) (row_perm p 1%:M).
  by rewrite sv_sum_perm /sv_sum trmx1 mul1mx mulmx1.
have def_s : \row_(i < 2) (2 - i)%:R = col_perm p s.
  apply/rowP => -[[|[|?]] lt_i] //; rewrite !mxE /p.
    by rewrite (_ : Ordinal lt_i = ord0) ?tpermL //; apply: val_inj.
  by rewrite (_ : Ordinal lt_i = ord_max) ?tpermR //; apply: val_inj.
rewrite -def_s singular_values_unique ?orthonormal_perm // => [i j le_ij | i]; rewrite !mxE ?ler0n //.
by rewrite ler_sqr ?nnegrE ?ler0n // ler_nat leq_sub2l.
Qed.

End RealClosedInstances.
