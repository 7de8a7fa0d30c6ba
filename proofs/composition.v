(* Composition, continued: what writes a fact, when two edits compose, and in which order of layers.

   edit W key t        == the least-norm rank-one update after which W sends [key] to t
   key_inv K           == (K^T *m K)^-1 *m K^T, the pseudo-inverse (and a left inverse) of independent keys K
   joint_edit W K T    == (T - W *m K) *m key_inv K, the update that writes the columns of T at all keys
   twohop, onehop      == the features of the one-layer model at the prompts "x R1 R2" and "x R"
   hidden phi1 h0 W1   == the hidden state of the two-layer residual stack, h1 = h0 + W1 phi1(h0)
   stack phi1 phi2 E h0 W1 W2 == its logits, E (h1 + W2 phi2(h1))
   right_count f       == how many of the pairs (bridge y, table q) the logits f y q answer right
   correct_by mu f y q == at bridge y and table q the logits f y q have q y as argmax, by more than mu
   vec s, ind P        == on the worked stack the unit vector of slot s, the 0/1 vector of the slots with P
   arrow s t           == the matrix unit that reads slot s and writes slot t
   share R S           == #|S| / #|Q| for a set S of queries in Q; 0 where Q is empty

   Keys are the COLUMNS of K (in MathComp's row-space idiom they are rows of K^T), so [\rank K = N] says
   that N keys are independent. [key_inv] is meaningless for dependent keys: invmx of a singular matrix is
   that matrix. A prompt, its features and the frozen matrices never depend on the bridge y or on the
   table q: those are what the adapters hold. *)
From mathcomp Require Import all_ssreflect all_algebra.
From LoraLimits Require Import lowrank facts additive.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

(* ---- edits: what writes facts into one matrix ---- *)

Definition edit (R : realFieldType) m n (W : 'M[R]_(m, n)) (key : 'cV[R]_n) (t : 'cV[R]_m) : 'M[R]_(m, n) :=
  (frob2 key)^-1 *: ((t - W *m key) *m key^T).

Definition key_inv (R : realFieldType) n N (K : 'M[R]_(n, N)) : 'M[R]_(N, n) := invmx (K^T *m K) *m K^T.

Definition joint_edit (R : realFieldType) m n N (W : 'M[R]_(m, n)) (K : 'M[R]_(n, N)) (T : 'M[R]_(m, N)) :
  'M[R]_(m, n) := (T - W *m K) *m key_inv K.

Section Edits.
Variable R : realFieldType.

Lemma gram_unit n N (K : 'M[R]_(n, N)) : \rank K = N -> K^T *m K \in unitmx.
Proof.
move=> rankK; rewrite -row_free_unit -kermx_eq0; apply/eqP/row_matrixP => i; rewrite row0.
set v := row i _; have v_ker : v *m (K^T *m K) = 0 by apply/sub_kermxP/row_sub.
have freeK : row_free K^T by rewrite /row_free mxrank_tr rankK.
apply/eqP; rewrite -(mulmx_free_eq0 _ freeK) -frob2_eq0 frob2_mxtrace.
by rewrite trmx_mul trmxK mulmxA -[v *m _ *m K]mulmxA v_ker mul0mx mxtrace0.
Qed.

Lemma key_invK n N (K : 'M[R]_(n, N)) : \rank K = N -> key_inv K *m K = 1%:M.
Proof. by move=> rankK; rewrite /key_inv -mulmxA mulVmx ?gram_unit. Qed.

Lemma key_inv_orthogonal n N (K : 'M[R]_(n, N)) p (X : 'M[R]_(n, p)) : K^T *m X = 0 -> key_inv K *m X = 0.
Proof. by move=> KX0; rewrite /key_inv -mulmxA KX0 mulmx0. Qed.

Lemma gram_col n (key : 'cV[R]_n) : key^T *m key = (frob2 key)%:M.
Proof.
rewrite [LHS]mx11_scalar; congr _%:M; rewrite mxE; apply: eq_bigr => i _.
by rewrite big_ord1 !mxE expr2.
Qed.

(* One key: the joint edit is the rank-one edit. *)
Lemma joint_edit1 m n (W : 'M[R]_(m, n)) (key : 'cV[R]_n) (t : 'cV[R]_m) :
  joint_edit W key t = edit W key t.
Proof.
by rewrite /joint_edit /key_inv gram_col invmx_scalar mul_scalar_mx -scalemxAr.
Qed.

(* Claim one_layer_composition, the joint edit D K^+: it writes every fact, leaves keys orthogonal to
   all its keys alone, has exactly the rank of the change, and every other update that writes the facts
   is longer, by exactly what it adds to the joint edit. Standard. *)
Theorem joint_edit_least m n N (W : 'M[R]_(m, n)) (K : 'M[R]_(n, N)) (T : 'M[R]_(m, N)) : \rank K = N ->
  [/\ (W + joint_edit W K T) *m K = T,
      forall other : 'cV[R]_n, K^T *m other = 0 -> (W + joint_edit W K T) *m other = W *m other,
      \rank (joint_edit W K T) = \rank (T - W *m K)
    & forall U : 'M[R]_(m, n), (W + U) *m K = T ->
        frob2 U = frob2 (joint_edit W K T) + frob2 (U - joint_edit W K T)].
Proof.
move=> rankK; have KK := key_invK rankK; set D := T - W *m K; set J := joint_edit W K T.
have JK : J *m K = D by rewrite /J /joint_edit -mulmxA KK mulmx1.
split=> [|other orth||U writes].
- by rewrite mulmxDl JK addrC subrK.
- by rewrite mulmxDl /J /joint_edit -mulmxA key_inv_orthogonal // mulmx0 addr0.
- by rewrite mxrankMfree //; apply/row_freeP; exists K.
have XK : (U - J) *m K = 0 by rewrite mulmxBl JK /D -writes mulmxDl addrAC subrr add0r subrr.
have JX : J *m (U - J)^T = 0.
  by rewrite {1}/J /joint_edit /key_inv -!mulmxA -trmx_mul XK trmx0 !mulmx0.
by rewrite -{1}[U](subrK J) addrC frob2D JX mxtrace0 mul0rn addr0.
Qed.

(* So the joint edit is the only shortest update that writes the facts. Standard. *)
Theorem joint_edit_unique m n N (W U : 'M[R]_(m, n)) (K : 'M[R]_(n, N)) (T : 'M[R]_(m, N)) : \rank K = N ->
  (W + U) *m K = T -> frob2 U <= frob2 (joint_edit W K T) -> U = joint_edit W K T.
Proof.
move=> rankK writes; have [_ _ _ /(_ U writes) ->] := joint_edit_least W T rankK.
rewrite ger_addl => le0; apply/eqP; rewrite -subr_eq0 -frob2_eq0.
by rewrite eq_le le0 frob2_ge0.
Qed.

(* Claim one_layer_composition, the rank-one edit: it changes one fact, leaves keys orthogonal to it
   alone and is the least-Frobenius-norm update that changes it. Model and edit after [C], Prop. 1. *)
Theorem rank_one_edit m n (W : 'M[R]_(m, n)) (key : 'cV[R]_n) (t : 'cV[R]_m) : key != 0 ->
  [/\ (W + edit W key t) *m key = t,
      (\rank (edit W key t) <= 1)%N,
      forall other : 'cV[R]_n, key^T *m other = 0 -> (W + edit W key t) *m other = W *m other
    & forall U : 'M[R]_(m, n), (W + U) *m key = t -> frob2 (edit W key t) <= frob2 U].
Proof.
move=> key0; have rank_key : \rank key = 1%N.
  by apply/eqP; rewrite eqn_leq rank_leq_col lt0n mxrank_eq0.
have [writes local rankJ least] := joint_edit_least W t rank_key.
rewrite !joint_edit1 in writes local rankJ least.
split=> [//||//|U /least ->]; first by rewrite rankJ rank_leq_col.
by rewrite ler_addl frob2_ge0.
Qed.

End Edits.

(* Two keys at an angle: the joint edit writes both facts, the plain sum of the two rank-one edits
   neither. *)
Section PlainSum.
Let k1 : 'cV[rat]_2 := \col_i 1.
Let k2 : 'cV[rat]_2 := delta_mx 0 0.
Let t : 'cV[rat]_1 := 1.

Example plain_sum_overshoots :
  [/\ k1 != 0, k2 != 0 & (edit 0 k1 t + edit 0 k2 t) *m k1 = 2%:R *: t /\
      (edit 0 k1 t + edit 0 k2 t) *m k2 = (3%:R / 2%:R) *: t].
Proof.
have k1k2 : k1^T *m k2 = 1%:M.
  by apply/matrixP => i j; rewrite !ord1 !mxE !big_ord_recl big_ord0 !mxE; apply/eqP.
have k11 : frob2 k1 = 2%:R by rewrite /frob2 !big_ord_recl !big_ord0 !mxE; apply/eqP.
have k22 : frob2 k2 = 1 by rewrite /frob2 !big_ord_recl !big_ord0 !mxE; apply/eqP.
have k2k1 : k2^T *m k1 = 1%:M by rewrite -[k1]trmxK -trmx_mul k1k2 trmx1.
rewrite -!frob2_eq0 k11 k22; split=> //.
rewrite /edit !mul0mx !subr0 k11 k22 !mulmxDl -!scalemxAl -!mulmxA !gram_col k1k2 k2k1 k11 k22.
rewrite !mul_mx_scalar !scalerA -!scalerDl; split; congr (_ *: _); exact/eqP.
Qed.
End PlainSum.

(* Independence of the keys is needed: one key cannot hold two values. *)
Example joint_edit_rank_needed (K T : 'M[rat]_(1, 2)) : K = const_mx 1 -> T = delta_mx 0 0 ->
  forall U : 'M[rat]_1, U *m K != T.
Proof.
move=> -> -> U; apply/eqP => /matrixP UK; have := UK 0 0; have := UK 0 1.
by rewrite !mxE !big_ord_recl !big_ord0 !mxE => -> /eqP.
Qed.

(* ---- bridge alignment ---- *)

Section Alignment.

(* Claim bridge_alignment: an update that holds the facts D at the keys K adds D *m alpha at every
   feature K *m alpha. Ours. *)
Theorem bridge_alignment (F : fieldType) (m n N : nat)
    (U : 'M[F]_(m, n)) (K : 'M[F]_(n, N)) (D : 'M[F]_(m, N)) (alpha : 'cV[F]_N) :
  U *m K = D -> U *m (K *m alpha) = D *m alpha.
Proof. by move=> <-; rewrite mulmxA. Qed.

Variables (R : realFieldType) (m n N : nat).
Variables (W : 'M[R]_(m, n)) (K : 'M[R]_(n, N)) (T : 'M[R]_(m, N)).

(* Claim bridge_alignment, the joint edit at any feature psi: it adds D *m alpha with alpha = K^+ psi,
   which is the alpha of psi's part in the span of the keys; if alpha is the j-th unit vector, it adds
   exactly what it adds at key j, and that is so exactly when psi and key j differ by something
   orthogonal to every key. Ours. *)
Theorem bridge_alignment_joint (psi : 'cV[R]_n) (j : 'I_N) : \rank K = N ->
  [/\ joint_edit W K T *m psi = (T - W *m K) *m (key_inv K *m psi),
      K^T *m (psi - K *m (key_inv K *m psi)) = 0,
      key_inv K *m psi = delta_mx j 0 -> joint_edit W K T *m psi = joint_edit W K T *m col j K
    & key_inv K *m psi = delta_mx j 0 <-> K^T *m (psi - col j K) = 0].
Proof.
move=> rankK; have KK := key_invK rankK; have unitG := gram_unit rankK.
have at_key : key_inv K *m col j K = delta_mx j 0 by rewrite colE mulmxA KK mul1mx.
have normal : K^T *m (psi - K *m (key_inv K *m psi)) = 0.
  by rewrite mulmxBr /key_inv !mulmxA mulmxV // mul1mx subrr.
split=> //; first by rewrite /joint_edit mulmxA.
  by move=> aligned; rewrite /joint_edit -mulmxA aligned -[RHS]mulmxA at_key.
split=> [aligned | orth].
  by move: normal; rewrite aligned -colE.
by apply/eqP; rewrite -at_key -subr_eq0 -mulmxBr key_inv_orthogonal.
Qed.

(* The whole answer is then the one at key j, if what the frozen matrix adds there is the same; psi =
   key j will do. Ours. *)
Theorem bridge_alignment_answer m' (E : 'M[R]_(m', m)) (l : 'cV[R]_m') (psi : 'cV[R]_n) (j : 'I_N) :
    \rank K = N -> key_inv K *m psi = delta_mx j 0 -> E *m (W *m psi) = E *m (W *m col j K) ->
  l + E *m ((W + joint_edit W K T) *m psi) = l + E *m col j T.
Proof.
move=> rankK aligned same; congr (l + _).
have [_ _ /(_ aligned) addsJ _] := bridge_alignment_joint psi j rankK.
have [writes _ _ _] := joint_edit_least W T rankK.
have -> : col j T = (W + joint_edit W K T) *m col j K by rewrite -{1}writes !colE mulmxA.
by rewrite !mulmxDl !mulmxDr same addsJ.
Qed.

End Alignment.

(* Claim bridge_alignment, the sufficient condition: L the logits that the second-hop adapter adds per
   key, l those without it; enough alignment beats the deficit. Ours. *)
Theorem alignment_margin (R : realFieldType) (m N : nat)
    (L : 'M[R]_(m, N)) (alpha : 'cV[R]_N) (l : 'I_m -> R) (j0 : 'I_N) (z0 : 'I_m) (g g' deficit : R) :
  0 <= alpha j0 ord0 ->
  (forall z, z != z0 -> g <= L z0 j0 - L z j0) ->
  (forall j z, j != j0 -> `|L z0 j - L z j| <= g') ->
  (forall z, z != z0 -> l z - l z0 <= deficit) ->
  deficit < alpha j0 ord0 * g - g' * (\sum_(j | j != j0) `|alpha j ord0|) ->
  forall z, z != z0 -> l z + (L *m alpha) z ord0 < l z0 + (L *m alpha) z0 ord0.
Proof.
move=> alpha0 gain_own gain_other has_deficit enough z z_z0.
pose lead j := (L z0 j - L z j) * alpha j ord0.
have leadE : (L *m alpha) z0 ord0 - (L *m alpha) z ord0 = lead j0 + \sum_(j | j != j0) lead j.
  by rewrite !mxE -sumrB (bigD1 j0) //= /lead mulrBl; congr (_ + _); apply: eq_bigr => j _; rewrite mulrBl.
have own_ge : alpha j0 ord0 * g <= lead j0 by rewrite mulrC ler_wpmul2r ?gain_own.
have other_ge : - (g' * (\sum_(j | j != j0) `|alpha j ord0|)) <= \sum_(j | j != j0) lead j.
  rewrite mulr_sumr -sumrN; apply: ler_sum => j j_j0; rewrite ler_oppl.
  by apply: le_trans (ler_norm _) _; rewrite normrN normrM ler_wpmul2r ?gain_other.
rewrite -ltr_subr_addr -addrA -ltr_subl_addl leadE.
apply: le_lt_trans (lt_le_trans enough (ler_add own_ge other_ge)).
exact: has_deficit.
Qed.

(* A negative alignment is no alignment: with alpha = -1 and the (true, but weak) bound g = -10 every
   other premise holds, and the right answer falls behind. *)
Example alignment_sign_needed (L : 'cV[rat]_2) (alpha : 'cV[rat]_1) (g := - 10%:R : rat) :
    L = delta_mx 0 0 -> alpha = const_mx (- 1) ->
  [/\ g <= L 0 0 - L 1 0, 0 < alpha 0 0 * g - 0 * (\sum_(j | j != 0) `|alpha j 0|)
    & (L *m alpha) 0 0 < (L *m alpha) 1 0].
Proof. by move=> -> ->; rewrite big_mkcond !mxE !big_ord1 !mxE. Qed.

(* Not aligned, not composed: where psi reads another key, the answer of that key comes out. *)
Example alignment_other_key (N : nat) (D : 'M[rat]_N) (j : 'I_N) : D *m delta_mx j (0 : 'I_1) = col j D.
Proof. by rewrite colE. Qed.

(* ---- the one-layer model ---- *)

Section OneLayer.
Variables (R : realFieldType) (token : Type) (d n m : nat).
Variables (embed : token -> 'cV[R]_d) (V : 'M[R]_d) (inner : 'M[R]_(n, d)) (phi : R -> R) (W : 'M[R]_(m, n)).

(* The features at "x REL" and at "x REL1 REL2"; phi is the ReLU or any other entrywise map; the logits
   are W times the feature, and W alone is adapted. *)
Definition onehop (x rel : token) : 'cV[R]_n := map_mx phi (inner *m (V *m embed x + embed rel)).
Definition twohop (x rel1 rel2 : token) : 'cV[R]_n :=
  map_mx phi (inner *m (V *m embed x + V *m embed rel1 + embed rel2)).

Variables (x rel1 rel2 : token) (Y : finType) (bridge_token : Y -> token).

(* First hop: for each bridge y the adapter that writes the logits [first y] at "x REL1". Second hop:
   for each table q the joint edit that writes the logits [second q] at all the prompts "y REL2"; K2
   holds their features. *)
Let key1 := onehop x rel1.
Let K2 : 'M[R]_(n, #|Y|) := \matrix_(i, j) onehop (bridge_token (enum_val j)) rel2 i 0.
Let psi := twohop x rel1 rel2.
Variables (first : Y -> 'cV[R]_m) (second : {ffun Y -> 'I_m} -> 'M[R]_(m, #|Y|)).
Let merged y q := W + edit W key1 (first y) + joint_edit W K2 (second q).

(* Claim one_layer_composition, the two-hop prompt: each edit enters it with coefficients of the prompt
   alone (the cosine with the first key, K2^+ psi), so the logits are a sum of a term in y and a term in
   q. Ours. *)
Theorem one_layer_composition y q :
  merged y q *m psi = W *m psi + ((frob2 key1)^-1 * (key1^T *m psi) 0 0) *: (first y - W *m key1)
                      + (second q - W *m K2) *m (key_inv K2 *m psi).
Proof.
rewrite [LHS]mulmxDl [X in X + _]mulmxDl; congr (_ + _ + _); last exact/esym/mulmxA.
by rewrite /edit -scalemxAl -mulmxA {1}[key1^T *m psi]mx11_scalar mul_mx_scalar scalerA.
Qed.

(* Claim one_layer_composition, the limit: so every ceiling of additive_limit holds for the merged
   edits, whatever targets they write. Ours. *)
Theorem one_layer_limit : additive_bounds #|Y| m (\sum_(q : {ffun Y -> 'I_m}) \sum_(y : Y)
  correct_by 0%R (fun y q z => (merged y q *m psi) z ord0) y q).
Proof.
have := linear_merge_counting 1%:M (W *m psi) psi psi (fun y => edit W key1 (first y))
  (fun q => joint_edit W K2 (second q)) (fun _ _ => ler01).
congr (additive_bounds _ _ _).
apply: eq_bigr => q _; apply: eq_bigr => y _; congr (nat_of_bool _).
by apply: eq_forallb => z; rewrite mul1mx scale1r /merged !mulmxDl.
Qed.

(* Claim one_layer_composition, the way out: one edit at the two-hop prompt itself answers every bridge
   and table. [C], Prop. 1 for one fact. *)
Theorem one_layer_direct (y : Y) (q : {ffun Y -> 'I_m}) (t : 'cV[R]_m) : psi != 0 ->
  (forall z, z != q y -> t z 0 < t (q y) 0) ->
  correct_by 0 (fun y q z => ((W + edit W psi t) *m psi) z 0) y q.
Proof.
move=> psi0 t_best; have [writes _ _ _] := rank_one_edit W t psi0.
by apply/correct_byP => z z_qy; rewrite writes addr0; apply: t_best.
Qed.

End OneLayer.

(* ---- orders of layers ---- *)

(* Cauchy-Schwarz for a row and a column. *)
Lemma row_col_cauchy (R : realFieldType) n (a : 'rV[R]_n) (x : 'cV[R]_n) (rho delta : R) : 0 <= rho -> 0 <= delta ->
  frob2 a <= rho ^+ 2 -> frob2 x <= delta ^+ 2 -> `|(a *m x) 0 0| <= rho * delta.
Proof.
move=> rho0 delta0 a_le x_le; rewrite -(@ler_pexpn2r _ 2) ?nnegrE ?mulr_ge0 // -normrX ger0_norm ?sqr_ge0 //.
have := mxtrace_cauchy a x^T; rewrite trmxK frob2_tr /mxtrace big_ord1 => /le_trans; apply.
by rewrite exprMn ler_pmul ?frob2_ge0.
Qed.

Section LayerOrder.
Variables (R : realFieldType) (D n1 n2 m : nat) (Y : finType).
Variables (phi1 : 'cV[R]_D -> 'cV[R]_n1) (phi2 : 'cV[R]_D -> 'cV[R]_n2) (E : 'M[R]_(m, D)) (h0 : 'cV[R]_D).
Implicit Types (y : Y) (q : {ffun Y -> 'I_m}).

Definition hidden (W1 : 'M[R]_(D, n1)) : 'cV[R]_D := h0 + W1 *m phi1 h0.
Definition stack (W1 : 'M[R]_(D, n1)) (W2 : 'M[R]_(D, n2)) : 'cV[R]_m :=
  E *m (hidden W1 + W2 *m phi2 (hidden W1)).

(* How many of the pairs (bridge, table) a merge of logits [f y q] gets right. *)
Definition right_count (f : Y -> {ffun Y -> 'I_m} -> 'cV[R]_m) : nat :=
  (\sum_(q : {ffun Y -> 'I_m}) \sum_(y : Y) correct_by 0%R (fun y q z => f y q z ord0) y q)%N.

Lemma eq_right_count f g : (forall y q, f y q = g y q) -> right_count f = right_count g.
Proof.
move=> fg; apply: eq_bigr => q _; apply: eq_bigr => y _; congr (nat_of_bool _).
by apply: eq_forallb => z; rewrite !fg.
Qed.

Lemma right_count_all (f : Y -> {ffun Y -> 'I_m} -> 'cV[R]_m) :
  (forall y q z, z != q y -> f y q z 0 < f y q (q y) 0) ->
  right_count f = (#|Y| * m ^ #|Y|)%N.
Proof.
move=> win; rewrite /right_count (eq_bigr (fun=> #|Y|)) => [|q _].
  by rewrite sum_nat_const card_ffun card_ord mulnC.
rewrite -sum1_card; apply: eq_bigr => y _; apply/eqP; rewrite eqb1.
by apply/correct_byP => z /win; rewrite addr0.
Qed.

(* Two updates that read fixed features before the read-out obey every ceiling of additive_limit. *)
Lemma right_count_additive n3 n4 (E' : 'M[R]_(m, D)) (h : 'cV[R]_D) (f1 : 'cV[R]_n3) (f2 : 'cV[R]_n4)
    (U1 : Y -> 'M[R]_(D, n3)) (U2 : {ffun Y -> 'I_m} -> 'M[R]_(D, n4)) f :
    (forall y q, f y q = E' *m (h + U1 y *m f1 + U2 q *m f2)) ->
  additive_bounds #|Y| m (right_count f).
Proof.
move=> fE; have := linear_merge_counting E' h f1 f2 U1 U2 (fun _ _ => ler01).
congr (additive_bounds _ _ _); apply: eq_bigr => q _; apply: eq_bigr => y _; congr (nat_of_bool _).
by apply: eq_forallb => z; rewrite scale1r fE.
Qed.

(* Claim layer_order (a): with both hops on the last matrix the logits are additive, and every ceiling
   of additive_limit holds. Ours. *)
Theorem layer_order_last (W1 : 'M[R]_(D, n1)) (W2 : 'M[R]_(D, n2))
    (U1 : Y -> 'M[R]_(D, n2)) (U2 : {ffun Y -> 'I_m} -> 'M[R]_(D, n2)) :
  additive_bounds #|Y| m (right_count (fun y q => stack W1 (W2 + U1 y + U2 q))).
Proof.
set h1 := hidden W1.
apply: (right_count_additive (E' := E) (h := h1 + W2 *m phi2 h1) (f1 := phi2 h1) (f2 := phi2 h1)
          (U1 := U1) (U2 := U2)) => y q.
by rewrite /stack -/h1 !mulmxDl !addrA.
Qed.

(* Claim layer_order (b): first hop early, second hop late. Where the first hop makes the late feature
   that of the one-hop prompt of its bridge (K2 alpha with alpha a unit vector), the sum answers as the
   second-hop adapter does at its own key; with any alpha it adds D2 alpha. Ours. *)
Theorem layer_order_early_late (W1 : 'M[R]_(D, n1)) (W2 : 'M[R]_(D, n2))
    (U1 : Y -> 'M[R]_(D, n1)) (U2 : {ffun Y -> 'I_m} -> 'M[R]_(D, n2)) N
    (K2 : 'M[R]_(n2, N)) (D2 : {ffun Y -> 'I_m} -> 'M[R]_(D, N)) (alpha : Y -> 'cV[R]_N) :
    (forall q, U2 q *m K2 = D2 q) -> (forall y, phi2 (hidden (W1 + U1 y)) = K2 *m alpha y) ->
  forall y q, stack (W1 + U1 y) (W2 + U2 q) = stack (W1 + U1 y) W2 + E *m (D2 q *m alpha y).
Proof.
move=> holds aligned y q; rewrite /stack aligned mulmxDl addrA mulmxDr.
by rewrite (bridge_alignment _ (holds q)).
Qed.

(* So it is right at every bridge and table whose margin at the key beats the deficit there. Ours. *)
Theorem layer_order_early_late_right (W1 : 'M[R]_(D, n1)) (W2 : 'M[R]_(D, n2))
    (U1 : Y -> 'M[R]_(D, n1)) (U2 : {ffun Y -> 'I_m} -> 'M[R]_(D, n2))
    (K2 : 'M[R]_(n2, #|Y|)) (D2 : {ffun Y -> 'I_m} -> 'M[R]_(D, #|Y|)) :
    (forall q, U2 q *m K2 = D2 q) -> (forall y, phi2 (hidden (W1 + U1 y)) = col (enum_rank y) K2) ->
    (forall y q z, z != q y -> (stack (W1 + U1 y) W2) z 0 - (stack (W1 + U1 y) W2) (q y) 0
       < (E *m D2 q) (q y) (enum_rank y) - (E *m D2 q) z (enum_rank y)) ->
  right_count (fun y q => stack (W1 + U1 y) (W2 + U2 q)) = (#|Y| * m ^ #|Y|)%N.
Proof.
move=> holds aligned margin; apply: right_count_all => y q z z_qy.
have mergedE : stack (W1 + U1 y) (W2 + U2 q) = stack (W1 + U1 y) W2 + col (enum_rank y) (E *m D2 q).
  pose alpha (y : Y) : 'cV[R]_#|Y| := delta_mx (enum_rank y) 0.
  rewrite (layer_order_early_late (K2 := K2) (D2 := D2) (alpha := alpha) W2 holds).
    by rewrite mulmxA -colE.
  by move=> y'; rewrite aligned colE.
rewrite mergedE mxE [X in _ < X]mxE [col _ _ z _]mxE [col _ _ (q y) _]mxE.
by rewrite -ltr_subr_addr -addrA -ltr_subl_addl margin.
Qed.

(* For least-norm edits it is enough that the feature is read as the key of its bridge; what it has
   besides, off the span of the keys, is not read. Ours. *)
Theorem layer_order_early_late_joint (W1 : 'M[R]_(D, n1)) (W2 : 'M[R]_(D, n2)) (U1 : Y -> 'M[R]_(D, n1))
    (K2 : 'M[R]_(n2, #|Y|)) (T : {ffun Y -> 'I_m} -> 'M[R]_(D, #|Y|)) :
    \rank K2 = #|Y| -> (forall y, key_inv K2 *m phi2 (hidden (W1 + U1 y)) = delta_mx (enum_rank y) 0) ->
  let lead q := E *m (T q - W2 *m K2) in
  (forall y q, stack (W1 + U1 y) (W2 + joint_edit W2 K2 (T q))
     = stack (W1 + U1 y) W2 + col (enum_rank y) (lead q)) /\
  ((forall y q z, z != q y -> (stack (W1 + U1 y) W2) z 0 - (stack (W1 + U1 y) W2) (q y) 0
      < lead q (q y) (enum_rank y) - lead q z (enum_rank y)) ->
   right_count (fun y q => stack (W1 + U1 y) (W2 + joint_edit W2 K2 (T q))) = (#|Y| * m ^ #|Y|)%N).
Proof.
move=> rankK aligned lead; have mergedE y q :
    stack (W1 + U1 y) (W2 + joint_edit W2 K2 (T q)) = stack (W1 + U1 y) W2 + col (enum_rank y) (lead q).
  rewrite /stack mulmxDl addrA mulmxDr; congr (_ + _).
  have [-> _ _ _] := bridge_alignment_joint W2 (T q) (phi2 (hidden (W1 + U1 y))) (enum_rank y) rankK.
  by rewrite aligned mulmxA -colE.
split=> // margin; apply: right_count_all => y q z z_qy; rewrite mergedE.
rewrite mxE [X in _ < X]mxE [col _ _ z _]mxE [col _ _ (q y) _]mxE.
by rewrite -ltr_subr_addr -addrA -ltr_subl_addl margin.
Qed.

(* Claim layer_order (b), robust: the late feature may miss the key of its bridge by delta. The sum is right wherever
   the lead at the key beats the deficit by more than delta times the length of the difference of the two rows of the
   second hop in logits. Ours. *)
Theorem layer_order_early_late_robust (W1 : 'M[R]_(D, n1)) (W2 : 'M[R]_(D, n2))
    (U1 : Y -> 'M[R]_(D, n1)) (U2 : {ffun Y -> 'I_m} -> 'M[R]_(D, n2))
    (K2 : 'M[R]_(n2, #|Y|)) (D2 : {ffun Y -> 'I_m} -> 'M[R]_(D, #|Y|))
    (delta : R) (rho : {ffun Y -> 'I_m} -> 'I_m -> 'I_m -> R) :
    0 <= delta -> (forall q z z', 0 <= rho q z z') ->
    (forall q, U2 q *m K2 = D2 q) ->
    (forall y, frob2 (phi2 (hidden (W1 + U1 y)) - col (enum_rank y) K2) <= delta ^+ 2) ->
    (forall q z z', frob2 (row z (E *m U2 q) - row z' (E *m U2 q)) <= rho q z z' ^+ 2) ->
    (forall y q z, z != q y ->
       (stack (W1 + U1 y) W2) z 0 - (stack (W1 + U1 y) W2) (q y) 0 + rho q (q y) z * delta
         < (E *m D2 q) (q y) (enum_rank y) - (E *m D2 q) z (enum_rank y)) ->
  right_count (fun y q => stack (W1 + U1 y) (W2 + U2 q)) = (#|Y| * m ^ #|Y|)%N.
Proof.
move=> delta0 rho0 holds near lengths margin; apply: right_count_all => y q z z_qy.
set h := hidden (W1 + U1 y); pose off := phi2 h - col (enum_rank y) K2.
have mergedE w : (stack (W1 + U1 y) (W2 + U2 q)) w 0 =
    (stack (W1 + U1 y) W2) w 0 + (E *m D2 q) w (enum_rank y) + (row w (E *m U2 q) *m off) 0 0.
  rewrite -row_mul [row w _ 0 0]mxE -holds /stack -/h mulmxDl addrA mulmxDr mxE -addrA.
  congr (_ + _); rewrite -[phi2 h in LHS](subrK (col (enum_rank y) K2)) -/off addrC.
  rewrite mulmxDr mulmxDr mxE [E *m (U2 q *m off)]mulmxA; congr (_ + _).
  by rewrite colE !mulmxA -colE mxE.
rewrite !mergedE -subr_gt0.
have := row_col_cauchy (rho0 q (q y) z) delta0 (lengths q (q y) z) (near y).
have subE (a b : 'M[R]_1) : (a - b) 0 0 = a 0 0 - b 0 0 by rewrite !mxE.
rewrite -/h -/off mulmxBl subE => /ler_normlP[+ _].
rewrite ler_oppl => least; have := ltr_le_add (margin y q z z_qy) least; rewrite addrK -subr_gt0.
by congr (_ < _); rewrite !opprD !opprK [RHS](AC (3*3) ((2*5)*(3*6)*(4*1))).
Qed.

(* ... and no further: at every distance delta there is a feature that loses rho delta of its lead. *)
Theorem layer_order_robust_sharp n (a : 'rV[R]_n) (rho delta : R) : 0 < rho -> frob2 a = rho ^+ 2 ->
  exists2 off : 'cV[R]_n, frob2 off = delta ^+ 2 & (a *m off) 0 0 = - (rho * delta).
Proof.
move=> rho0 aE; have rho_neq0 : rho != 0 by rewrite gt_eqF.
exists (- (delta / rho) *: a^T).
  by rewrite frob2Z frob2_tr aE sqrrN expr_div_n mulfVK // expf_neq0.
rewrite -scalemxAr mxE; have -> : (a *m a^T) 0 0 = rho ^+ 2.
  by rewrite -aE frob2_mxtrace /mxtrace big_ord1.
by rewrite mulNr expr2 mulrA mulfVK // mulrC.
Qed.

(* Claim layer_order (c), only what reads it later can compose. Both hops early, and the layer above
   reads them linearly (phi2 h = G h): additive. Ours. *)
Theorem layer_order_first_linear (W1 : 'M[R]_(D, n1)) (W2 : 'M[R]_(D, n2)) (G : 'M[R]_(n2, D))
    (U1 : Y -> 'M[R]_(D, n1)) (U2 : {ffun Y -> 'I_m} -> 'M[R]_(D, n1)) :
    (forall h, phi2 h = G *m h) ->
  additive_bounds #|Y| m (right_count (fun y q => stack (W1 + U1 y + U2 q) W2)).
Proof.
move=> linear; apply: (right_count_additive (E' := E + E *m W2 *m G) (h := h0 + W1 *m phi1 h0)
  (f1 := phi1 h0) (f2 := phi1 h0) (U1 := U1) (U2 := U2)) => y q.
by rewrite /stack linear mulmxDr !mulmxA -mulmxDl /hidden !mulmxDl !addrA.
Qed.

(* Second hop early, first hop late: if what the first hop writes at the two-hop prompt does not depend
   on what the second wrote early, the logits are additive too. Ours. *)
Theorem layer_order_late_unread (W1 : 'M[R]_(D, n1)) (W2 : 'M[R]_(D, n2))
    (U1 : Y -> 'M[R]_(D, n2)) (U2 : {ffun Y -> 'I_m} -> 'M[R]_(D, n1)) :
    (forall y q q', U1 y *m phi2 (hidden (W1 + U2 q)) = U1 y *m phi2 (hidden (W1 + U2 q'))) ->
  additive_bounds #|Y| m (right_count (fun y q => stack (W1 + U2 q) (W2 + U1 y))).
Proof.
move=> unread.
pose a y (z : 'I_m) := (E *m (U1 y *m phi2 (hidden (W1 + U2 [ffun=> z])))) z 0.
pose b q (z : 'I_m) := stack (W1 + U2 q) W2 z 0.
have mergedE y q z : stack (W1 + U2 q) (W2 + U1 y) z 0 = a y z + b q z.
  by rewrite /a /b /stack -(unread y q) mulmxDl addrA mulmxDr mxE addrC.
rewrite -{1}(card_ord m); apply: (additive_ceilings (a := a) (b := b)) => y q /correct_byP ok.
by apply/correctP => z z_qy; have := ok z z_qy; rewrite addr0 !mergedE.
Qed.

(* A late first hop whose strength depends on the table: additive once divided by the strength, where
   that is positive, and where it is 0 the second hop alone decides, at any scale. *)
Lemma scaled_limit (a : Y -> 'I_m -> R) (b : {ffun Y -> 'I_m} -> 'I_m -> R) (c : {ffun Y -> 'I_m} -> R) :
    (forall q, 0 <= c q) ->
  additive_bounds #|Y| m (\sum_(q : {ffun Y -> 'I_m}) \sum_(y : Y)
    correct_by 0%R (fun y q z => c q * a y z + b q z)%R y q).
Proof.
move=> c_ge0; pose gap (t : {ffun Y -> 'I_m} * 'I_m * 'I_m) := b t.1.1 t.1.2 - b t.1.1 t.2.
have [d d_gt0 d_le] := nonzero_lb gap; pose top := \sum_y \sum_z `|a y z|.
have a_le y z : `|a y z| <= top.
  rewrite /top (bigD1 y) //= (bigD1 z) //= -addrA ler_addl addr_ge0 ?sumr_ge0 // => y' _.
  by rewrite sumr_ge0.
pose scale q := if c q == 0 then (top *+ 2 + 1) / d else (c q)^-1.
rewrite -{1}(card_ord m); apply: (additive_ceilings (a := a) (b := fun q z => scale q * b q z)).
move=> y q /correct_byP ok; apply/correctP => z zq; have := ok z zq; rewrite addr0 /scale.
have [-> | c_neq0] := eqVneq (c q) 0.
  rewrite !mul0r !add0r => lt_b; have gap_gt0 : 0 < gap (q, q y, z) by rewrite subr_gt0.
  have := d_le (q, q y, z); rewrite gt_eqF // gtr0_norm // => /(_ isT) d_le_gap.
  rewrite -subr_gt0 opprD addrACA -mulrBr -ltr_subl_addl sub0r.
  have a_gap : - (a y (q y) - a y z) < top *+ 2 + 1.
    rewrite opprB; apply: le_lt_trans (ler_norm _) _; apply: le_lt_trans (ler_norm_sub _ _) _.
    by rewrite mulr2n ltr_spaddr // ler_add.
  apply: lt_le_trans a_gap _; rewrite mulrAC ler_pdivl_mulr // ler_wpmul2l //.
  by rewrite addr_ge0 // mulrn_wge0 // sumr_ge0 // => y' _; rewrite sumr_ge0.
have c_gt0 : 0 < c q by rewrite lt_def c_neq0 c_ge0.
by move=> lt_z; rewrite -(ltr_pmul2l c_gt0) !mulrDr !mulVKf.
Qed.

End LayerOrder.

Section LateFirstHop.
Variables (R : realFieldType) (D n1 n2 m : nat) (Y : finType).
Variables (phi1 : 'cV[R]_D -> 'cV[R]_n1) (phi2 : 'cV[R]_D -> 'cV[R]_n2) (E : 'M[R]_(m, D)) (h0 : 'cV[R]_D).
Variables (W1 : 'M[R]_(D, n1)) (W2 : 'M[R]_(D, n2)).
Variables (key : 'cV[R]_n2) (first : Y -> 'cV[R]_D) (U2 : {ffun Y -> 'I_m} -> 'M[R]_(D, n1)).

(* Second hop early, first hop late as the least-norm edit at its key: [late q] is the feature that the
   late layer sees at the two-hop prompt, [response q] what the first hop's key reads in it. *)
Let late q := phi2 (hidden phi1 h0 (W1 + U2 q)).
Let response q := (key^T *m late q) 0 0.
Let merged y q := stack phi1 phi2 E h0 (W1 + U2 q) (W2 + edit W2 key (first y)).

Lemma late_first_hop y q : merged y q =
  ((frob2 key)^-1 * response q) *: (E *m (first y - W2 *m key))
  + E *m (hidden phi1 h0 (W1 + U2 q) + W2 *m late q).
Proof.
rewrite /merged /stack -/(late q) mulmxDl addrA mulmxDr addrC; congr (_ + _).
by rewrite /edit -scalemxAl -mulmxA {1}[key^T *m late q]mx11_scalar mul_mx_scalar scalerA scalemxAr.
Qed.

(* Claim layer_order (c), least-norm edits: a late first hop is zero on what is orthogonal to its key,
   so if what the second hop writes early does not move that key's reading from 0, the bridge is not in
   the answer at all. Ours. *)
Theorem layer_order_late_orthogonal q : key^T *m late q = 0 -> forall y y', merged y q = merged y' q.
Proof. by move=> orth y y'; rewrite !late_first_hop /response orth mxE mulr0 !scale0r. Qed.

(* Claim layer_order (c), the limit for least-norm edits: while the key's reading is never negative,
   whatever the second hop writes early, the merge obeys every ceiling of additive_limit. Ours. *)
Theorem layer_order_late_limit : (forall q, 0 <= response q) -> additive_bounds #|Y| m (right_count merged).
Proof.
move=> response0.
pose a y (z : 'I_m) := (E *m (first y - W2 *m key)) z 0.
pose b q (z : 'I_m) := (E *m (hidden phi1 h0 (W1 + U2 q) + W2 *m late q)) z 0.
pose c q := (frob2 key)^-1 * response q.
have c0 q : 0 <= c q by rewrite mulr_ge0 ?invr_ge0 ?frob2_ge0.
have mergedE y q z : merged y q z 0 = c q * a y z + b q z.
  by rewrite late_first_hop mxE; congr (_ + _); rewrite mxE.
have := scaled_limit a b c0; congr (additive_bounds _ _ _).
apply: eq_bigr => q _; apply: eq_bigr => y _; congr (nat_of_bool _).
by apply: eq_forallb => z; rewrite !mergedE.
Qed.

(* Features that are never negative, such as ReLU's, meet the premise. Ours. *)
Theorem layer_order_late_relu : (forall h i, 0 <= phi2 h i 0) -> (forall i, 0 <= key i 0) ->
  additive_bounds #|Y| m (right_count merged).
Proof.
move=> phi0 key0; apply: layer_order_late_limit => q.
by rewrite /response mxE sumr_ge0 // => i _; rewrite mxE mulr_ge0 ?key0 ?phi0.
Qed.

End LateFirstHop.

(* A reading of both signs is enough for two bridges and two values: strength 1 for the identity table,
   -1 for the exchange, 0 for the constant tables, and all 8 answers are right. *)
Example scaled_limit_sign_needed
    (c := fun q : {ffun 'I_2 -> 'I_2} => (q 1 : nat)%:R - (q 0 : nat)%:R : rat)
    (a := fun y z : 'I_2 => (y == z)%:R : rat)
    (b := fun (q : {ffun 'I_2 -> 'I_2}) z => (q 0 == z)%:R / 2%:R : rat) :
  forall y q, correct_by 0 (fun y q z => c q * a y z + b q z) y q.
Proof.
move=> y q; apply/correct_byP => z; rewrite /c /a /b.
have [-> | ->] : y = 0 \/ y = 1 by case: y => [[|[|//]] ?]; [left | right]; apply: val_inj.
  by case: (q 0) (q 1) z => [[|[|//]] ?] [[|[|//]] ?] [[|[|//]] ?].
by case: (q 0) (q 1) z => [[|[|//]] ?] [[|[|//]] ?] [[|[|//]] ?].
Qed.

(* The same on a stack: slot 0 is the first hop's key, slots 1 and 2 are read out; the second hop writes
   early a column that depends on the table alone, the first hop is the least-norm edit late,
   phi2 the identity. All 8 answers are right: it is the sign of the reading that holds least-norm edits
   to the limit, not their order alone. *)
Theorem layer_order_late_sign_needed
    (E := \matrix_(z < 2, i < 3) (i == lift ord0 z)%:R : 'M[rat]_(2, 3))
    (U2 := fun q : {ffun 'I_2 -> 'I_2} =>
       \col_(i < 3) (if unlift ord0 i is Some z then (q 0 == z)%:R / 2%:R
                     else (q 1 : nat)%:R - (q 0 : nat)%:R) : 'cV[rat]_3)
    (first := fun y : 'I_2 => delta_mx (lift ord0 y) 0 : 'cV[rat]_3) (key := delta_mx 0 0 : 'cV[rat]_3) :
  right_count (fun y q => stack (fun=> 1%:M) id E 0 (0 + U2 q) (0 + edit 0 key (first y))) = (2 * 2 ^ 2)%N.
Proof.
have readE (x : 'cV[rat]_3) z : (E *m x) z 0 = x (lift ord0 z) 0.
  rewrite mxE (bigD1 (lift ord0 z)) //= big1 => [|i /negbTE iz]; first by rewrite !mxE eqxx mul1r addr0.
  by rewrite mxE iz mul0r.
have key1 : frob2 key = 1.
  by rewrite /frob2 !big_ord_recl !big_ord0 !mxE; apply/eqP.
have keyE (x : 'cV[rat]_3) : (key^T *m x) 0 0 = x 0 0 by rewrite /key trmx_delta -rowE mxE.
rewrite right_count_all ?card_ord // => y q z z_qy.
have logitE z' : stack (fun=> 1%:M) id E 0 (0 + U2 q) (0 + edit 0 key (first y)) z' 0 =
    ((q 1 : nat)%:R - (q 0 : nat)%:R) * (y == z')%:R + (q 0 == z')%:R / 2%:R.
  rewrite late_first_hop mxE [X in X + _]mxE !readE key1 invr1 mul1r keyE /hidden.
  rewrite !add0r !mul0mx subr0 addr0 mulmx1.
  by rewrite /U2 /first !mxE unlift_none liftK (inj_eq lift_inj) andbT eq_sym.
have := scaled_limit_sign_needed y q; move=> /correct_byP/(_ z z_qy).
by rewrite addr0 !logitE.
Qed.

(* Nor do non-negative features hold a late joint edit of two facts to the limit: with keys (1, 0) and
   (1, 1), at feature (q 1, q 0) it reads q 1 - q 0 for its first fact. The second hop writes feature and
   offsets early, from the table alone; the first hop writes the bridge at the first key and 0 at the
   second, phi2 is a ReLU of two slots. All 8 answers are right. *)
Theorem layer_order_late_joint_edit
    (phi2 := fun h : 'cV[rat]_(2 + 2) => \col_(i < 2) Num.max 0 (h (lshift 2 i) 0))
    (E := row_mx 0 1%:M : 'M[rat]_(2, 2 + 2))
    (K := \matrix_(i < 2, j < 2) (i <= j)%:R : 'M[rat]_2)
    (first := fun y : 'I_2 => delta_mx (rshift 2 y) 0 : 'M[rat]_(2 + 2, 2))
    (U2 := fun q : {ffun 'I_2 -> 'I_2} =>
       col_mx (\col_i (q (rev_ord i) : nat)%:R) (\col_z ((q 0 == z)%:R / 2%:R)) : 'cV[rat]_(2 + 2)) :
  right_count (fun y q => stack (fun=> 1%:M) phi2 E 0 (0 + U2 q) (0 + joint_edit 0 K (first y))) = (2 * 2 ^ 2)%N.
Proof.
pose Ki : 'M[rat]_2 := \matrix_(i, j) ((i == j)%:R - (i < j)%:R).
have KKi : K *m Ki = 1%:M.
  by apply/matrixP => -[[|[|//]] ?] [[|[|//]] ?]; rewrite !mxE !big_ord_recl big_ord0 !mxE; apply/eqP.
have rankK : \rank K = 2%N by apply/eqP/row_freeP; exists Ki.
have read (x : 'cV[rat]_2) : key_inv K *m x = Ki *m x.
  by rewrite -[x in LHS]mul1mx -KKi !mulmxA key_invK ?mul1mx.
have ER n (M : 'M[rat]_(2 + 2, n)) : E *m M = dsubmx M by rewrite -[in LHS](vsubmxK M) mul_row_col mul0mx mul1mx add0r.
rewrite right_count_all ?card_ord // => y q z z_qy.
have logitE z' : stack (fun=> 1%:M) phi2 E 0 (0 + U2 q) (0 + joint_edit 0 K (first y)) z' 0 =
    ((q 1 : nat)%:R - (q 0 : nat)%:R) * (y == z')%:R + (q 0 == z')%:R / 2%:R.
  have featureE : phi2 (hidden (fun=> 1%:M) 0 (0 + U2 q)) = \col_i (q (rev_ord i) : nat)%:R.
    apply/colP => i; rewrite mxE /hidden !add0r mulmx1 col_mxEu mxE.
    by apply/max_idPr; rewrite ler0n.
  rewrite /stack featureE /hidden !add0r mulmx1 mulmxDr ER col_mxKd mxE addrC.
  rewrite /joint_edit mul0mx subr0 -mulmxA read mulmxA ER.
  congr (_ + _); last by rewrite mxE.
  have r0 : rev_ord ord0 = 1 :> 'I_2 by apply: val_inj.
  have r1 : rev_ord (lift ord0 ord0) = 0 :> 'I_2 by apply: val_inj.
  rewrite [LHS]mxE big_ord_recl big_ord1 !mxE !big_ord_recl !big_ord0 !mxE r0 r1 eq_rshift [z' == y]eq_sym /=.
  by rewrite !andbT !andbF !mul0r !addr0 ?subr0 ?sub0r ?mul1r ?mulN1r mulrC.
have := scaled_limit_sign_needed y q; move=> /correct_byP/(_ z z_qy).
by rewrite addr0 !logitE.
Qed.

Section FewWritings.
Variables Y Z W : finType.

(* The converse to placing the second hop early (ours): where what it writes at the two-hop prompt takes
   at most #|W| values over all tables, whatever reads it later recalls no more than #|W| tables do. *)
Theorem few_writings_limit (written : {ffun Y -> Z} -> W) (answer : Y -> W -> Z) :
  (\sum_(q : {ffun Y -> Z}) \sum_y (answer y (written q) == q y)
     <= \sum_(1 <= k < #|Y|.+1)
          minn (#|Z| ^ #|Y|) (#|W| * (\sum_(k <= j < #|Y|.+1) 'C(#|Y|, j) * #|Z|.-1 ^ (#|Y| - j))))%N.
Proof.
pose read w : {ffun Y -> Z} := [ffun y => answer y w].
have card_read : (#|read @: setT| <= #|W|)%N by rewrite (leq_trans (leq_imset_card _ _)) ?cardsT.
apply: leq_trans (counting_sum_monotone _ _ _ card_read); apply: leq_trans (counting_mean _).
apply: leq_sum => q _.
apply: leq_trans (leq_bigmax_cond (F := fun g => agree g q) (read (written q)) (imset_f _ (in_setT _))).
by rewrite agreeE; apply: leq_sum => y _; rewrite ffunE.
Qed.

End FewWritings.

(* Both ends are attained: one writing leaves a constant table, right in one m-th; as many as there are
   tables name the table. *)
Theorem few_writings_attained (Y Z : finType) (z0 : Z) :
  let ceiling G := (\sum_(1 <= k < #|Y|.+1)
    minn (#|Z| ^ #|Y|) (G * (\sum_(k <= j < #|Y|.+1) 'C(#|Y|, j) * #|Z|.-1 ^ (#|Y| - j))))%N in
  (exists answer : Y -> unit -> Z, forall written : {ffun Y -> Z} -> unit,
     (\sum_(q : {ffun Y -> Z}) \sum_y (answer y (written q) == q y))%N = ceiling #|{: unit}|)
  /\ (exists (answer : Y -> {ffun Y -> Z} -> Z) (written : {ffun Y -> Z} -> {ffun Y -> Z}),
     (\sum_(q : {ffun Y -> Z}) \sum_y (answer y (written q) == q y))%N = ceiling #|{: {ffun Y -> Z}}|).
Proof.
move=> ceiling; split.
  exists (fun _ _ => z0) => written; rewrite card_unit /ceiling counting_mean_single //.
  rewrite -(counting_single [ffun=> z0]); apply: eq_bigr => q _.
  by rewrite agreeE; apply: eq_bigr => y _; rewrite ffunE.
exists (fun y q => q y), id; apply/eqP; rewrite eqn_leq; apply/andP; split.
  exact: (few_writings_limit id (fun y (q : {ffun Y -> Z}) => q y)).
rewrite (eq_bigr (fun=> #|Y|)) => [|q _]; last by rewrite -sum1_card; apply: eq_bigr => y _; rewrite eqxx.
rewrite sum_nat_const card_ffun mulnC -{2}[#|Y|]subn0 -subSS -sum_nat_const_nat.
by apply: leq_sum => k _; apply: geq_minl.
Qed.

(* ---- all four placements on one concrete stack ---- *)

(* For any bridges Y and m values, exact and with no training. Both hops on the last layer is
   layer_order_last, which no construction escapes; the other three placements compose. *)
Section Placements.
Variables (R : realFieldType) (Y : finType) (m : nat).
Implicit Types (y : Y) (q : {ffun Y -> 'I_m}).

(* The hidden state has a slot for the prompt, one for each bridge, one for each answer, one for each
   table cell. *)
Definition slot := [finType of unit + Y + 'I_m + Y * 'I_m].
Definition ask : slot := inl (inl (inl tt)).
Definition bridge (y : Y) : slot := inl (inl (inr y)).
Definition answer (z : 'I_m) : slot := inl (inr z).
Definition cell (y : Y) (z : 'I_m) : slot := inr (y, z).

Implicit Types (s t : slot) (P Q : pred slot).

(* [vec s] is the unit vector of slot s, [ind P] the 0/1 vector of the slots with P. *)
Definition vec (s : slot) : 'cV[R]_#|slot| := delta_mx (enum_rank s) 0.
Definition ind (P : pred slot) : 'cV[R]_#|slot| := \col_i (P (enum_val i))%:R.
Definition arrow (s t : slot) : 'M[R]_#|slot| := delta_mx (enum_rank t) (enum_rank s).
Definition readout : 'M[R]_(m, #|slot|) := \matrix_(z, i) (i == enum_rank (answer z))%:R.

Lemma eq_cell y z y' z' : (cell y z == cell y' z') = (y == y') && (z == z').
Proof. by []. Qed.

Lemma eq_answer z z' : (answer z == answer z') = (z == z').
Proof. by []. Qed.

Lemma eq_ind P Q : P =1 Q -> ind P = ind Q.
Proof. by move=> PQ; apply/matrixP => i j; rewrite !mxE PQ. Qed.

Lemma vecE s : vec s = ind (pred1 s).
Proof. by apply/matrixP => i j; rewrite !mxE ord1 andbT -{1}(enum_valK i) (inj_eq enum_rank_inj). Qed.

Lemma ind_entry P s : ind P (enum_rank s) 0 = (P s)%:R.
Proof. by rewrite mxE enum_rankK. Qed.

Lemma arrowE s t : arrow s t = vec t *m (vec s)^T.
Proof. by rewrite /vec trmx_delta mul_delta_mx. Qed.

Lemma arrow_ind s t P : arrow s t *m ind P = (P s)%:R *: vec t.
Proof.
rewrite arrowE -mulmxA [_^T *m _]mx11_scalar mul_mx_scalar; congr (_ *: _).
by rewrite /vec trmx_delta -rowE mxE ind_entry.
Qed.

Lemma readout_ind P : readout *m ind P = \col_z (P (answer z))%:R.
Proof.
apply/matrixP => z j; rewrite ord1 mxE (bigD1 (enum_rank (answer z))) //= big1 => [|i iz].
  by rewrite !mxE eqxx mul1r addr0 enum_rankK.
by rewrite mxE (negbTE iz) mul0r.
Qed.

(* An entrywise activation that fixes 0 and 1, as the identity and the ReLU do, leaves 0/1 vectors alone. *)
Lemma map_ind (f : R -> R) P : f 0 = 0 -> f 1 = 1 -> map_mx f (ind P) = ind P.
Proof. by move=> f0 f1; apply/matrixP => i j; rewrite !mxE; case: (P _). Qed.

Lemma rank_outer (u v : 'cV[R]_#|slot|) : (\rank (u *m v^T) <= 1)%N.
Proof. exact: leq_trans (mxrankM_maxl _ _) (rank_leq_col _). Qed.

Lemma rank_answers (v : 'I_m -> 'cV[R]_#|slot|) : (\rank (\sum_z vec (answer z) *m (v z)^T)%R <= m)%N.
Proof.
apply: (@leq_trans (\sum_(z < m) 1)); last by rewrite sum1_card card_ord.
elim/big_ind2: _ => [|M1 s1 M2 s2 le1 le2|z _]; first by rewrite mxrank0.
  exact: leq_trans (mxrank_add _ _) (leq_add le1 le2).
exact: rank_outer.
Qed.

(* What the adapters write. *)
Definition first_write y := arrow ask (bridge y).
Definition second_read q := \sum_y arrow (bridge y) (answer (q y)).
Definition second_write q := \sum_y arrow ask (cell y (q y)).
Definition first_read y := \sum_z arrow (cell y z) (answer z).

Lemma rank_first_write y : (\rank (first_write y) <= 1)%N.
Proof. by rewrite /first_write arrowE rank_outer. Qed.

Lemma rank_second_write q : (\rank (second_write q) <= 1)%N.
Proof.
rewrite /second_write (eq_bigr _ (fun y _ => arrowE _ _)) -mulmx_suml; exact: rank_outer.
Qed.

Lemma rank_first_read y : (\rank (first_read y) <= m)%N.
Proof. by rewrite /first_read (eq_bigr _ (fun z _ => arrowE _ _)) rank_answers. Qed.

Lemma rank_second_read q : (\rank (second_read q) <= m)%N.
Proof.
rewrite /second_read (partition_big q xpredT) //=.
rewrite (eq_bigr (fun z => vec (answer z) *m (\sum_(y | q y == z) vec (bridge y))^T)) => [|z _].
  exact: rank_answers.
rewrite linear_sum mulmx_sumr; apply: eq_bigr => y /eqP qy.
by rewrite arrowE qy.
Qed.

Definition bridge_of y (s : slot) : bool := if s is inl (inl (inr y')) then y' == y else false.
Definition table_of q (s : slot) : bool := if s is inr (y, z) then z == q y else false.

Lemma first_write_ask P y : P ask -> first_write y *m ind P = ind (bridge_of y).
Proof.
move=> Pask; rewrite /first_write arrow_ind Pask scale1r vecE.
by apply: eq_ind => -[[[[]|y']|z]|[y' z]].
Qed.

Lemma second_write_ask P q : P ask -> second_write q *m ind P = ind (table_of q).
Proof.
move=> Pask; rewrite mulmx_suml; apply/matrixP => i j; rewrite summxE ord1.
rewrite (eq_bigr (fun y => (enum_val i == cell y (q y))%:R)) => [|y _]; last first.
  by rewrite arrow_ind Pask scale1r vecE mxE.
rewrite [RHS]mxE; case: (enum_val i) => [s | [y z]]; first by rewrite big1.
rewrite -/(cell y z) (bigD1 y) //= big1 ?addr0 => [|y' y'y]; first by rewrite eq_cell eqxx.
by rewrite eq_cell eq_sym (negbTE y'y).
Qed.

(* Exactly the right answer's unit vector. *)
Let right y q : 'cV[R]_m := \col_z (z == q y)%:R.

Lemma readout_right P y q : (forall z, ~~ P (answer z)) ->
  readout *m (ind P + vec (answer (q y))) = right y q.
Proof.
move=> noP; rewrite mulmxDr vecE !readout_ind; apply/matrixP => z j.
by rewrite !mxE (negbTE (noP z)) add0r /= eq_answer.
Qed.

Variable f : R -> R.
Let phi (h : 'cV[R]_#|slot|) := map_mx f h.

(* Claim layer_order (b): the first hop writes the bridge early, rank 1, the second reads it late, rank
   at most m; the frozen layers do nothing. Ours. *)
Theorem layer_order_compose_late : f 0 = 0 -> f 1 = 1 -> forall y q,
  [/\ (\rank (first_write y) <= 1)%N, (\rank (second_read q) <= m)%N
    & stack phi phi readout (vec ask) (0 + first_write y) (0 + second_read q) = right y q].
Proof.
move=> f0 f1 y q; split; rewrite ?rank_first_write ?rank_second_read //.
have h1E : hidden phi (vec ask) (0 + first_write y) = ind (fun s => (s == ask) || bridge_of y s).
  rewrite /hidden add0r /phi vecE map_ind // first_write_ask //.
  by apply/matrixP => i j; rewrite !mxE /=; case: (enum_val i) => [[[[]|y']|z]|[y' z]]; rewrite ?addr0 ?add0r.
rewrite /stack h1E add0r /phi map_ind //.
have -> : second_read q *m ind (fun s => (s == ask) || bridge_of y s) = vec (answer (q y)).
  rewrite mulmx_suml (bigD1 y) //= arrow_ind /= eqxx scale1r big1 ?addr0 // => y' y'y.
  by rewrite arrow_ind /= (negbTE y'y) scale0r.
exact: readout_right.
Qed.

(* Claim layer_order (c), through the first hop: the second hop writes its whole table early, rank 1,
   without knowing the bridge; the first hop reads its own row of it late, rank at most m. The frozen
   layers do nothing. Ours. *)
Theorem layer_order_compose_first_hop : f 0 = 0 -> f 1 = 1 -> forall y q,
  [/\ (\rank (second_write q) <= 1)%N, (\rank (first_read y) <= m)%N
    & stack phi phi readout (vec ask) (0 + second_write q) (0 + first_read y) = right y q].
Proof.
move=> f0 f1 y q; split; rewrite ?rank_second_write ?rank_first_read //.
have h1E : hidden phi (vec ask) (0 + second_write q) = ind (fun s => (s == ask) || table_of q s).
  rewrite /hidden add0r /phi vecE map_ind // second_write_ask //.
  by apply/matrixP => i j; rewrite !mxE /=; case: (enum_val i) => [[[[]|y']|z]|[y' z]]; rewrite ?addr0 ?add0r.
rewrite /stack h1E add0r /phi map_ind //.
have -> : first_read y *m ind (fun s => (s == ask) || table_of q s) = vec (answer (q y)).
  rewrite mulmx_suml (bigD1 (q y)) //= arrow_ind /= eqxx scale1r big1 ?addr0 // => z z_qy.
  by rewrite arrow_ind /= (negbTE z_qy) scale0r.
exact: readout_right.
Qed.

(* The frozen layer above: ReLU gates, open where the written bridge meets a written table cell, wired
   to the answers. It knows neither the bridge nor the table. *)
Definition gate_in : 'M[R]_#|slot| :=
  \sum_(p : Y * 'I_m) (arrow (cell p.1 p.2) (cell p.1 p.2) + arrow (bridge p.1) (cell p.1 p.2)).
Definition is_cell (s : slot) : bool := if s is inr _ then true else false.
Definition gate (h : 'cV[R]_#|slot|) : 'cV[R]_#|slot| := map_mx (Num.max 0) (gate_in *m h - ind is_cell).
Definition gate_out : 'M[R]_#|slot| := \sum_(p : Y * 'I_m) arrow (cell p.1 p.2) (answer p.2).

Lemma gate_ind P : gate (ind P) = ind (fun s => if s is inr p then P (bridge p.1) && P s else false).
Proof.
apply/matrixP => i j; rewrite ord1.
have inE : (gate_in *m ind P) i 0 = \sum_(p : Y * 'I_m)
    ((P (cell p.1 p.2))%:R + (P (bridge p.1))%:R) * (enum_val i == cell p.1 p.2)%:R.
  rewrite mulmx_suml summxE; apply: eq_bigr => p _.
  by rewrite mulmxDl !arrow_ind -scalerDl mxE vecE mxE.
rewrite /gate [LHS]mxE [X in Num.max 0 X]mxE inE [X in _ + X]mxE [ind is_cell _ _]mxE [RHS]mxE.
case: (enum_val i) => [s | p] /=; first by rewrite big1 ?subr0 ?maxxx // => p _; rewrite mulr0.
have cellE : cell p.1 p.2 = inr p by rewrite /cell -surjective_pairing.
rewrite (bigD1 p) //= big1 ?addr0 => [|p' p'p]; last first.
  by rewrite -cellE eq_cell -xpair_eqE -!surjective_pairing eq_sym (negbTE p'p) mulr0.
rewrite -cellE eqxx mulr1 cellE.
case: (P (bridge _)); case: (P (inr p)); rewrite /= ?addr0 ?add0r ?addrK ?subrr ?maxxx //.
  by rewrite max_r ?ler01.
by rewrite max_l // oppr_le0 ler01.
Qed.

(* Claim layer_order (c), through the frozen layer above: both hops are written early, rank 1 each, and
   the frozen gates compose them. Ours. *)
Theorem layer_order_compose_frozen : f 0 = 0 -> f 1 = 1 -> forall y q,
  [/\ (\rank (first_write y) <= 1)%N, (\rank (second_write q) <= 1)%N
    & stack phi gate readout (vec ask) (0 + first_write y + second_write q) gate_out = right y q].
Proof.
move=> f0 f1 y q; split; rewrite ?rank_first_write ?rank_second_write //.
pose both s := [|| s == ask, bridge_of y s | table_of q s].
have h1E : hidden phi (vec ask) (0 + first_write y + second_write q) = ind both.
  rewrite /hidden add0r mulmxDl /phi vecE map_ind // first_write_ask // second_write_ask //.
  apply/matrixP => i j; rewrite !mxE /both /=.
  by case: (enum_val i) => [[[[]|y']|z]|[y' z]]; rewrite ?addr0 ?add0r //= ?orbF.
rewrite /stack h1E gate_ind.
have -> : gate_out *m ind (fun s => if s is inr p then both (bridge p.1) && both s else false) =
    vec (answer (q y)).
  rewrite mulmx_suml (bigD1 (y, q y)) //= arrow_ind /both /= !eqxx scale1r big1 ?addr0 // => -[y' z] p_ne.
  rewrite arrow_ind /=; case: eqP => [y'y | _]; last by rewrite scale0r.
  case: eqP => [z_qy | _]; last by rewrite scale0r.
  by rewrite y'y z_qy y'y eqxx in p_ne.
exact: readout_right.
Qed.

(* The three constructions are right on every bridge and table, with margin 1. *)
Lemma right_correct y q : correct_by 0 (fun y q z => right y q z 0) y q.
Proof. by apply/correct_byP => z z_qy; rewrite !mxE eqxx (negbTE z_qy) addr0 ltr01. Qed.

End Placements.

(* The identity and the ReLU are such activations, *)
Example relu_fixes (R : realFieldType) : Num.max 0 (0 : R) = 0 /\ Num.max 0 (1 : R) = 1.
Proof. by rewrite maxxx max_r ?ler01. Qed.

(* and with them two bridges and two values are answered right 8 times of 8, where the limit leaves 7. *)
Example placements_beat_limit (R : realFieldType) (f : R -> R) : f 0 = 0 -> f 1 = 1 ->
  right_count (fun (y : bool) (q : {ffun bool -> 'I_2}) =>
    stack (map_mx f) (map_mx f) (readout R bool_finType 2) (vec R (ask bool_finType 2))
      (0 + first_write R 2 y) (0 + second_read R q)) = 8%N /\ ~~ (4 * 2 * 8 <= (3 * 2 + 1) * (2 * 2 ^ 2))%N.
Proof.
move=> f0 f1; split=> //; rewrite right_count_all ?card_bool // => y q z z_qy.
have [_ _ ->] := layer_order_compose_late f0 f1 y q.
by rewrite !mxE eqxx (negbTE z_qy) ltr01.
Qed.

(* ---- writing the chain out ---- *)

Section ChainOfThought.
Variables (Q Y Z : finType).

(* On the queries Q: [bridge x] and [answer x] are right; [step1 x] is the bridge that the model writes,
   [step2 x y] the answer that it gives after bridge y (teacher-forced at y = bridge x). *)
Variables (bridge step1 : Q -> Y) (answer : Q -> Z) (step2 : Q -> Y -> Z).

Definition bridge_right := [set x | step1 x == bridge x].
Definition last_right := [set x | step2 x (bridge x) == answer x].
Definition chain_right := [set x | step2 x (step1 x) == answer x].

Definition share (R : realFieldType) (S : {set Q}) : R := #|S|%:R / #|Q|%:R.

Lemma both_right_sub : bridge_right :&: last_right \subset chain_right.
Proof. by apply/subsetP => x; rewrite !inE => /andP[/eqP -> ->]. Qed.

(* Claim chain_of_thought, the union bound in counts: a query on which both steps are right is answered
   right. Ours. *)
Theorem chain_of_thought_count : (#|bridge_right| + #|last_right| <= #|chain_right| + #|Q|)%N.
Proof.
rewrite -cardsUI addnC leq_add ?max_card //; exact: subset_leq_card both_right_sub.
Qed.

(* Claim chain_of_thought, the union bound: accuracy >= s1 + s2 - 1. Ours. *)
Theorem chain_of_thought (R : realFieldType) : (0 < #|Q|)%N ->
  share R bridge_right + share R last_right - 1 <= share R chain_right.
Proof.
move=> Q_gt0; have Q0 : 0 < #|Q|%:R :> R by rewrite ltr0n.
rewrite ler_subl_addr /share -mulrDl -[X in _ <= _ + X](divff (lt0r_neq0 Q0)) -mulrDl ler_pmul2r ?invr_gt0 //.
by rewrite -!natrD ler_nat chain_of_thought_count.
Qed.

(* Claim chain_of_thought, independent steps: accuracy >= s1 s2, with equality if no wrong bridge leads
   to the right answer. Ours. *)
Theorem chain_of_thought_independent (R : realFieldType) : (0 < #|Q|)%N ->
    (#|bridge_right :&: last_right| * #|Q| = #|bridge_right| * #|last_right|)%N ->
  share R bridge_right * share R last_right <= share R chain_right /\
  ((forall x, step1 x != bridge x -> step2 x (step1 x) != answer x) ->
   share R chain_right = share R bridge_right * share R last_right).
Proof.
move=> Q_gt0 indep; have Q0 : #|Q|%:R != 0 :> R by rewrite pnatr_eq0 -lt0n.
have -> : share R bridge_right * share R last_right = share R (bridge_right :&: last_right).
  apply: (mulIf (mulf_neq0 Q0 Q0)); rewrite /share mulf_div divfK ?mulf_neq0 //.
  by rewrite -natrM -indep natrM mulrA divfK.
split=> [|no_luck].
  by rewrite /share ler_wpmul2r ?invr_ge0 ?ler0n // ler_nat subset_leq_card ?both_right_sub.
congr (_%:R / _); apply: eq_card => x; rewrite !inE.
case: (eqVneq (step1 x) (bridge x)) => [-> // | wrong]; exact/negbTE/no_luck.
Qed.

End ChainOfThought.

(* Steps that depend on different parts of a query are independent: a step right on A of the first parts
   and one right on B of the second parts are both right on #|A| * #|B| queries. *)
Lemma product_independent (Q1 Q2 : finType) (A : {set Q1}) (B : {set Q2})
    (S1 := [set x : Q1 * Q2 | x.1 \in A]) (S2 := [set x : Q1 * Q2 | x.2 \in B]) :
  (#|S1 :&: S2| * #|{: Q1 * Q2}| = #|S1| * #|S2|)%N.
Proof.
have -> : S1 = setX A setT by apply/setP => x; rewrite !inE andbT.
have -> : S2 = setX setT B by apply/setP => x; rewrite !inE.
have -> : setX A setT :&: setX setT B = setX A B by apply/setP => x; rewrite !inE andbT.
by rewrite !cardsX !cardsT card_prod [(#|Q1| * _)%N]mulnC mulnACA [(#|B| * _)%N]mulnC.
Qed.

(* The bound is attained: each step is right on one query of two, the chain on none (s1 s2 would be 1/4). *)
Example chain_of_thought_attained (step1 := fun x : bool => true) (step2 := fun x y => ~~ (x || y)) :
  [/\ bridge_right id step1 = [set true], last_right id (fun=> true) step2 = [set false]
    & chain_right step1 (fun=> true) step2 = set0].
Proof. by split; apply/setP => -[]; rewrite !inE. Qed.

(* Equality needs its premise: where every bridge leads to the right answer, a chain that is right half
   the time on each bridge answers everything, and s1 s2 = 1/2. *)
Example chain_of_thought_luck (step1 := fun x : bool => true) (step2 := fun x y : bool => true) :
  [/\ bridge_right id step1 = [set true], last_right id (fun=> true) step2 = setT
    & chain_right step1 (fun=> true) step2 = setT].
Proof. by split; apply/setP => -[]; rewrite !inE. Qed.

(* ---- coverage ---- *)

Section Coverage.
Variables (R : realFieldType) (Q : finType) (C L P right : {set Q}) (m : nat).

(* Of the queries Q (new first hop, changed second hop), C have a covered bridge, on L the first-hop
   expert's bridge is retrieved, on P the second-hop expert holds the changed fact, [right] are answered
   right. *)
Let c : R := share R C.
Let lambda : R := #|C :&: L|%:R / #|C|%:R.
Let p2 : R := #|C :&: P|%:R / #|C|%:R.
Let composed := C :&: L :&: P.

Lemma share_composed : (#|composed| * #|C| = #|C :&: L| * #|C :&: P|)%N ->
  share R composed = c * lambda * p2.
Proof.
move=> indep; rewrite /c /lambda /p2 /share; have [C0 | C_gt0] := posnP #|C|.
  have -> : #|composed| = 0%N by apply/eqP; rewrite -leqn0 -C0 subset_leq_card // /composed -setIA subsetIl.
  by rewrite C0 !mul0r.
have C0 : #|C|%:R != 0 :> R by rewrite pnatr_eq0 -lt0n.
have -> : #|C|%:R / #|Q|%:R * (#|C :&: L|%:R / #|C|%:R) = #|C :&: L|%:R / #|Q|%:R :> R.
  by rewrite mulrC mulrA divfK.
by rewrite mulf_div -natrM -indep natrM -mulf_div divff // mulr1.
Qed.

(* Claim coverage_law, as the count that it is when its premises hold: within covered bridges retrieval
   and the changed fact are independent, what is retrieved and held is answered right, and of all other
   queries at most one in m is. Then accuracy is c lambda p2 + r with r in [0, (1 - c lambda p2) / m].
   Ours. *)
Theorem coverage_law : (0 < #|Q|)%N -> (0 < m)%N ->
    (#|composed| * #|C| = #|C :&: L| * #|C :&: P|)%N ->
    composed \subset right -> (m * #|right :\: composed| <= #|~: composed|)%N ->
  c * lambda * p2 <= share R right <= c * lambda * p2 + (1 - c * lambda * p2) / m%:R.
Proof.
move=> Q_gt0 m_gt0 indep sub_right luck; rewrite -(share_composed indep).
have Q0 : 0 < #|Q|%:R :> R by rewrite ltr0n.
have m0 : 0 < m%:R :> R by rewrite ltr0n.
have failE : 1 - share R composed = share R (~: composed).
  rewrite /share -[X in X - _](divff (lt0r_neq0 Q0)) -mulrBl -{1}(cardsC composed).
  by rewrite natrD addrAC subrr add0r.
have rightE : share R right = share R composed + share R (right :\: composed).
  by rewrite /share -mulrDl -natrD -{1}(setIidPr sub_right) cardsID.
rewrite rightE failE ler_addl ler_add2l; apply/andP; split; first by rewrite /share divr_ge0 ?ler0n.
rewrite ler_pdivl_mulr // /share mulrAC ler_wpmul2r ?invr_ge0 ?ler0n //.
by rewrite -natrM ler_nat mulnC.
Qed.

(* Claim coverage_law, the lower end, where every failure gives another answer (the old value, say). Ours. *)
Theorem coverage_law_low : (#|composed| * #|C| = #|C :&: L| * #|C :&: P|)%N -> right = composed ->
  share R right = c * lambda * p2.
Proof. by move=> indep ->; apply: share_composed. Qed.

(* Claim coverage_law, the upper end, where the failures hit the right value exactly once in m. Ours. *)
Theorem coverage_law_high : (0 < #|Q|)%N -> (0 < m)%N ->
    (#|composed| * #|C| = #|C :&: L| * #|C :&: P|)%N ->
    composed \subset right -> (m * #|right :\: composed| = #|~: composed|)%N ->
  share R right = c * lambda * p2 + (1 - c * lambda * p2) / m%:R.
Proof.
move=> Q_gt0 m_gt0 indep sub_right luck; rewrite -(share_composed indep).
have Q0 : #|Q|%:R != 0 :> R by rewrite pnatr_eq0 -lt0n.
have m0 : m%:R != 0 :> R by rewrite pnatr_eq0 -lt0n.
have -> : share R right = share R composed + share R (right :\: composed).
  by rewrite /share -mulrDl -natrD -{1}(setIidPr sub_right) cardsID.
congr (_ + _); apply: (mulIf m0); rewrite divfK // /share mulrAC -natrM mulnC luck.
rewrite -[X in _ = X - _](divff Q0) -mulrBl -{2}(cardsC composed).
by rewrite natrD addrAC subrr add0r.
Qed.

End Coverage.

(* Coverage acts bridge by bridge: with every first hop asked at every bridge, the share of covered
   queries is the share of covered bridges. *)
Lemma share_bridges (R : realFieldType) (X Y : finType) (covered : {set Y}) : (0 < #|X|)%N ->
  share R [set x : X * Y | x.2 \in covered] = #|covered|%:R / #|Y|%:R.
Proof.
move=> X_gt0; have X0 : #|X|%:R != 0 :> R by rewrite pnatr_eq0 -lt0n.
have -> : [set x : X * Y | x.2 \in covered] = setX setT covered by apply/setP => x; rewrite !inE.
by rewrite /share cardsX cardsT card_prod !natrM -mulf_div divff // mul1r.
Qed.

(* Worked instance: 2 bridges, one covered; 2 persons, one retrieved; the fact is held: 1 of 4 is
   composed, and with m = 3 values at most 1 of the other 3 is hit by luck. *)
Example coverage_quarter 
    (C := [set x : bool * bool | x.2]) (L := [set x : bool * bool | x.1]) (P := [set: bool * bool])
    (right := [set x : bool * bool | x.1]) :
  1 / 4%:R <= share rat_realFieldType right <= 1 / 4%:R + (1 - 1 / 4%:R) / 3%:R.
Proof.
have cC : #|C| = 2%N by rewrite (_ : C = setX setT [set true]) ?cardsX ?cardsT ?cards1 ?card_bool //;
  apply/setP => -[[] []]; rewrite !inE.
have cCL : #|C :&: L| = 1%N by rewrite (_ : C :&: L = [set (true, true)]) ?cards1 //;
  apply/setP => -[[] []]; rewrite !inE.
have cQ : #|{: bool * bool}| = 4%N by rewrite card_prod card_bool.
have := @coverage_law rat_realFieldType _ C L P right 3.
rewrite /P !setIT cCL cC cQ /share cC cQ => law.
have -> : 1 / 4%:R = 2%:R / 4%:R * (1%:R / 2%:R) * (2%:R / 2%:R) :> rat by apply/eqP.
apply: law => //; first by apply/subsetP => x; rewrite !inE => /andP[].
rewrite [#|~: _|]cardsCs setCK cCL cQ (_ : right :\: _ = [set (true, false)]) ?cards1 //.
by apply/setP => -[[] []]; rewrite !inE.
Qed.

(* Independence is a premise, not a fact: where the retrieved persons are exactly those whose fact is
   not held, nothing is composed although c = 1, lambda = p2 = 1/2. *)
Example coverage_independence_needed (C := [set: bool]) (L := [set true]) (P := [set false]) :
  [/\ C :&: L :&: P = set0, #|C :&: L| = 1%N & #|C :&: P| = 1%N].
Proof.
by rewrite /C !setTI !cards1; split=> //; apply/setP => -[]; rewrite !inE.
Qed.
