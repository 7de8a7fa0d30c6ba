(* Composition, the limits: what two adapters can answer at a two-hop prompt when their logits add.

   Y, Z            == the bridges and the answers (finite types); n = #|Y|, m = #|Z|
   q : {ffun Y -> Z}  == the table that the second adapter holds: every bridge gets an answer
   y               == the bridge that the first adapter holds; the right answer is q y
   a y z           == the logit of answer z that comes from the base and the first adapter
   b q z           == the logit of answer z that comes from the second adapter
   correct a b y q == at bridge y and table q, the right answer is the STRICT argmax of a y + b q
   correct_by mu f y q == it wins over every other answer by more than mu in the logits f y q
   reaches a b g   == the offsets b : Z -> R make g y the strict argmax of a y + b, for every y
   agree g q       == the number of bridges at which the tables g and q coincide (facts.v)
   swap y1 y2 q    == the table q with its values at y1 and y2 exchanged
   exchange_fails c == the credit c y q (say correct a b) is never given at all four points of two
                      places in a table and in its swap
   shortfall c y1 y2 q == what the four points miss of the 3 (or 4) that they could be
   patterns_ceiling h n m == the right side of counting_mean for h hypotheses: the number of
                      (bridge, table) pairs that h patterns can answer
   additive_part net U1 U2 y q z == net(U1 y) + net(U2 q) - net(0), at answer z
   interaction net U1 U2 y q z   == what the network adds to that: the logits of the sum, less it

   The counts run over all pairs (y, q): out of n * m ^ n. P <= 3/4 + 1/(4m) is written
   4 * m * total <= (3 * m + 1) * (n * m ^ n), in nat.

   Traps: a and b have different types of offsets (b takes the whole table, the offsets in reaches
   are those of ONE table); a query with a tie is never answered; #|Y|.-1 and (n + m).-1 are
   truncated at 0; 'C(n, k) is the binomial coefficient; correct_by 0 asks for a margin above 0.
   The premise 0 < #|Z| of additive_limit is harmless (without answers the total is 0), the premise
   1 < #|Y| is not: additive_limit_one_place. The first bound is sharp at n = 2
   (additive_limit_attained) and, m = 1 apart, nowhere else (additive_limit_lt): at n = 3, m = 2 it
   allows 21 of 24 where 20 is the most (twenty_of_twenty_four). *)
From mathcomp Require Import all_ssreflect all_algebra.
From LoraLimits Require Import lowrank facts.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

Definition correct (R : realFieldType) (Y Z : finType) (a : Y -> Z -> R) (b : {ffun Y -> Z} -> Z -> R)
    (y : Y) (q : {ffun Y -> Z}) : bool :=
  [forall z, (z != q y) ==> (a y z + b q z < a y (q y) + b q (q y))].

Definition correct_by (R : realFieldType) (Y Z : finType) (mu : R) (f : Y -> {ffun Y -> Z} -> Z -> R)
    (y : Y) (q : {ffun Y -> Z}) : bool :=
  [forall z, (z != q y) ==> (f y q z + mu < f y q (q y))].

Definition reaches (R : realFieldType) (Y Z : finType) (a : Y -> Z -> R) (b : Z -> R) (g : {ffun Y -> Z}) :=
  forall y z, z != g y -> a y z + b z < a y (g y) + b (g y).

Section Tables.
Variables (Y Z : finType).
Implicit Types (y : Y) (q : {ffun Y -> Z}).

Definition swap y1 y2 q : {ffun Y -> Z} :=
  [ffun y => if y == y1 then q y2 else if y == y2 then q y1 else q y].

Lemma swapL y1 y2 q : swap y1 y2 q y1 = q y2.
Proof. by rewrite ffunE eqxx. Qed.

Lemma swapR y1 y2 q : swap y1 y2 q y2 = q y1.
Proof. by rewrite ffunE eqxx; case: eqVneq => [->|]. Qed.

Lemma swapK y1 y2 : involutive (swap y1 y2).
Proof.
move=> q; apply/ffunP=> y; rewrite ffunE swapL swapR ffunE.
by case: eqVneq => [->|_] //; case: eqVneq => [->|].
Qed.

Lemma reindex_swap (F : {ffun Y -> Z} -> nat) y1 y2 :
  (\sum_(q : {ffun Y -> Z}) F q = \sum_(q : {ffun Y -> Z}) F (swap y1 y2 q))%N.
Proof. exact/reindex_inj/inv_inj/swapK. Qed.

(* Tables that hold one value at two different places: one in #|Z|. *)
Lemma card_collisions y1 y2 : y1 != y2 ->
  ((\sum_(q : {ffun Y -> Z}) (q y1 == q y2 :> Z)) * #|Z| = #|Z| ^ #|Y|)%N.
Proof.
move=> y12; have y21 : (y2 == y1) = false by rewrite eq_sym (negPf y12).
pose K := [set q : {ffun Y -> Z} | q y1 == q y2 :> Z].
pose put (p : {ffun Y -> Z} * Z) := [ffun y => if y == y1 then p.2 else p.1 y].
have put_inj : {in setX K setT &, injective put}.
  move=> [q z] [q' z'] /setXP[/= qK _] /setXP[/= qK' _] /ffunP eq_put.
  have at_y1 := eq_put y1; have at_y2 := eq_put y2.
  rewrite !ffunE eqxx /= in at_y1; rewrite !ffunE y21 /= in at_y2.
  rewrite !inE in qK qK'; congr (_, _) => //; apply/ffunP => y.
  by have := eq_put y; rewrite !ffunE; case: eqP => [->|//]; rewrite (eqP qK) (eqP qK').
have put_onto : [set put p | p in setX K setT] = setT.
  apply/setP=> q; rewrite inE; apply/imsetP.
  exists ([ffun y => if y == y1 then q y2 else q y], q y1).
    by rewrite !inE !ffunE eqxx y21 eqxx.
  by apply/ffunP=> y; rewrite !ffunE /=; case: eqP => [->|].
have <- : #|K| = (\sum_(q : {ffun Y -> Z}) (q y1 == q y2 :> Z))%N.
  by rewrite -sum1_card big_mkcond; apply: eq_bigr => q _; rewrite inE; case: eqP.
by rewrite -[#|Z|]cardsT -cardsX -(card_in_imset put_inj) put_onto cardsT card_ffun cardsT.
Qed.


(* Every pair of different places is met once in each order. *)
Lemma sum_pairs (S : Y -> nat) :
  (\sum_y1 \sum_(y2 | y1 != y2) (S y1 + S y2) = 2 * (#|Y|.-1 * \sum_y S y))%N.
Proof.
have firsts : (\sum_y1 \sum_(y2 | y1 != y2) S y1 = #|Y|.-1 * \sum_y S y)%N.
  rewrite big_distrr; apply: eq_bigr => y1 _.
  by rewrite sum_nat_const -(cardC1 y1); congr (_ * _)%N; apply: eq_card => y; rewrite !inE eq_sym.
have seconds : (\sum_y1 \sum_(y2 | y1 != y2) S y2 = #|Y|.-1 * \sum_y S y)%N.
  rewrite -firsts (exchange_big_dep xpredT) //=; apply: eq_bigr => y1 _.
  by apply: eq_bigl => y2; rewrite eq_sym.
rewrite mul2n -addnn -{1}firsts -seconds -big_split /=.
by apply: eq_bigr => y1 _; rewrite big_split.
Qed.

(* A rule of credit that never rewards both places in a table and in its swap: of the four points of
   a table and its swap at most 3 are given (4 where the swap changes nothing). *)
Section Credit.
Variable c : Y -> {ffun Y -> Z} -> bool.

Definition exchange_fails := forall y1 y2 q, y1 != y2 -> q y1 != q y2 ->
  ~~ [&& c y1 q, c y2 q, c y1 (swap y1 y2 q) & c y2 (swap y1 y2 q)].

Definition points y1 y2 q : nat :=
  (c y1 q + c y2 q + c y1 (swap y1 y2 q) + c y2 (swap y1 y2 q))%N.
Definition shortfall y1 y2 q : nat := (3 + (q y1 == q y2) - points y1 y2 q)%N.

Lemma points_le y1 y2 q : exchange_fails -> y1 != y2 -> (points y1 y2 q <= 3 + (q y1 == q y2))%N.
Proof.
move=> not4 y12; rewrite /points.
by case: eqP => [_|/eqP /(not4 _ _ _ y12)]; do 4!case: (c _ _).
Qed.

Lemma swap_balance : exchange_fails ->
  (#|Y|.-1 * (4 * #|Z| * (\sum_(q : {ffun Y -> Z}) \sum_y c y q))
     + #|Z| * (\sum_y1 \sum_(y2 | y1 != y2) \sum_(q : {ffun Y -> Z}) shortfall y1 y2 q)
   = #|Y|.-1 * ((3 * #|Z| + 1) * (#|Y| * #|Z| ^ #|Y|)))%N.
Proof.
move=> not4; pose S y := (\sum_(q : {ffun Y -> Z}) c y q)%N.
have pair_eq y1 y2 : y1 != y2 -> (2 * #|Z| * (S y1 + S y2)
    + #|Z| * (\sum_(q : {ffun Y -> Z}) shortfall y1 y2 q) = (3 * #|Z| + 1) * #|Z| ^ #|Y|)%N.
  move=> y12; have four : (2 * (S y1 + S y2) = \sum_(q : {ffun Y -> Z}) points y1 y2 q)%N.
    rewrite /points !big_split /= -(reindex_swap (fun q => c y1 q : nat)).
    by rewrite -(reindex_swap (fun q => c y2 q : nat)) -addnA mul2n addnn.
  rewrite mulnAC mulnC -mulnDr four -big_split /=.
  rewrite (eq_bigr (fun q : {ffun Y -> Z} => 3 + (q y1 == q y2))%N) => [|q _]; last first.
    by rewrite subnKC // points_le.
  rewrite big_split /= mulnC mulnDl (card_collisions y12) sum_nat_const card_ffun.
  by move: (_ ^ _)%N => N; ring.
have -> : (\sum_(q : {ffun Y -> Z}) \sum_y c y q = \sum_y S y)%N by rewrite exchange_big.
have -> : (#|Y|.-1 * (4 * #|Z| * \sum_y S y) = 2 * #|Z| * (2 * (#|Y|.-1 * \sum_y S y)))%N.
  by rewrite -[4%N]/(2 * 2)%N; ring.
rewrite -sum_pairs !big_distrr -big_split /=.
transitivity (\sum_(y1 : Y) #|Y|.-1 * ((3 * #|Z| + 1) * #|Z| ^ #|Y|))%N.
  apply: eq_bigr => y1 _; rewrite -(cardC1 y1) !big_distrr -big_split /= -sum_nat_const.
  rewrite (eq_bigl (predC1 y1)) => [|y2]; last by rewrite /= eq_sym.
  by apply: eq_bigr => y2 y21; rewrite pair_eq // eq_sym.
rewrite sum_nat_const; move: (_ ^ _)%N => N; rewrite !mulnA; congr (_ * _)%N.
by rewrite -mulnA mulnC.
Qed.

Lemma swap_limit : exchange_fails -> (1 < #|Y|)%N ->
  (4 * #|Z| * (\sum_(q : {ffun Y -> Z}) \sum_y c y q) <= (3 * #|Z| + 1) * (#|Y| * #|Z| ^ #|Y|))%N.
Proof.
move=> not4 Y_gt1; have Y1_gt0 : (0 < #|Y|.-1)%N by rewrite -subn1 subn_gt0.
by rewrite -(leq_pmul2l Y1_gt0) -(swap_balance not4) leq_addr.
Qed.

(* Three places, two values: an odd cycle of exchanges, so that one of them falls short. *)
Lemma shortfall_exists : exchange_fails -> (2 < #|Y|)%N -> (1 < #|Z|)%N ->
  [exists y1, exists y2, exists q, (y1 != y2) && (0 < shortfall y1 y2 q)%N].
Proof.
move=> not4 /card_gt2P[y1 [y2 [y3 [_ [y12 y23 y31]]]]] /card_gt1P[u [v [_ _ uv]]].
apply: contraT => /existsPn none.
have full i j q : i != j -> points i j q = (3 + (q i == q j))%N.
  move=> ij; apply/eqP; rewrite eqn_leq points_le //= -subn_eq0.
  have /existsPn/(_ j)/existsPn/(_ q) := none i.
  by rewrite ij /= lt0n negbK.
pose e i : {ffun Y -> Z} := [ffun y => if y == i then v else u].
have sure i j k : j != i -> k != i -> j != k -> c j (e i).
  move=> /negPf ji /negPf ki jk; have := full j k (e i) jk.
  by rewrite /points !ffunE ji ki eqxx; do 4!case: (c _ _).
have swap_e i j : i != j -> swap i j (e i) = e j.
  move=> ij; apply/ffunP=> y; rewrite !ffunE eqxx [j == i]eq_sym (negPf ij).
  have [->|yi] := eqVneq y i; first by rewrite (negPf ij).
  by have [] := eqVneq y j.
have one i j : i != j -> c j (e i) -> c i (e j) -> c i (e i) (+) c j (e j).
  move=> ij cji cij; have := full i j (e i) ij; rewrite /points swap_e // cji cij.
  have /negPf -> : e i i != e i j by rewrite !ffunE eqxx [j == i]eq_sym (negPf ij) eq_sym.
  by case: (c i _); case: (c j _).
have y21 : y2 != y1 by rewrite eq_sym.
have y32 : y3 != y2 by rewrite eq_sym.
have y13 : y1 != y3 by rewrite eq_sym.
have := one _ _ y12 (sure _ _ y3 y21 y31 y23) (sure _ _ y3 y12 y32 y13).
have := one _ _ y23 (sure _ _ y1 y32 y12 y31) (sure _ _ y1 y23 y13 y21).
have := one _ _ y13 (sure _ _ y2 y31 y21 y32) (sure _ _ y2 y13 y23 y12).
by do 3!case: (c _ _).
Qed.

Lemma swap_limit_lt : exchange_fails -> (2 < #|Y|)%N -> (1 < #|Z|)%N ->
  (4 * #|Z| * (\sum_(q : {ffun Y -> Z}) \sum_y c y q) < (3 * #|Z| + 1) * (#|Y| * #|Z| ^ #|Y|))%N.
Proof.
move=> not4 Y_gt2 Z_gt1; have Y1_gt0 : (0 < #|Y|.-1)%N by rewrite -subn1 subn_gt0 ltnW.
have /existsP[y1 /existsP[y2 /existsP[q /andP[y12 short]]]] := shortfall_exists not4 Y_gt2 Z_gt1.
rewrite -(ltn_pmul2l Y1_gt0) -(swap_balance not4) -[X in (X < _)%N]addn0 ltn_add2l.
rewrite muln_gt0 (ltnW Z_gt1) (bigD1 y1) //= (bigD1 y2) //= (bigD1 q) //=.
by rewrite -!addnA ltn_addr.
Qed.

End Credit.

End Tables.

Section AdditiveLimit.
Variables (R : realFieldType) (Y Z : finType).
Implicit Types (y : Y) (z : Z) (q g : {ffun Y -> Z}) (a : Y -> Z -> R) (b : {ffun Y -> Z} -> Z -> R).

Lemma correctP a b y q :
  reflect (forall z, z != q y -> a y z + b q z < a y (q y) + b q (q y)) (correct a b y q).
Proof.
apply: (iffP forallP) => [ok z zq | ok z]; last exact/implyP/ok.
exact: (implyP (ok z) zq).
Qed.

Lemma correct_byP mu (f : Y -> {ffun Y -> Z} -> Z -> R) y q :
  reflect (forall z, z != q y -> f y q z + mu < f y q (q y)) (correct_by mu f y q).
Proof.
apply: (iffP forallP) => [ok z zq | ok z]; last exact/implyP/ok.
exact: (implyP (ok z) zq).
Qed.

Lemma leq_sum_credit (c c' : Y -> {ffun Y -> Z} -> bool) :
    (forall y q, c y q -> c' y q) ->
  (\sum_(q : {ffun Y -> Z}) \sum_y c y q <= \sum_(q : {ffun Y -> Z}) \sum_y c' y q)%N.
Proof.
move=> cc'; apply: leq_sum => q _; apply: leq_sum => y _.
by case cyq: (c y q) => //; rewrite cc'.
Qed.

(* Two places answered right from one table: exchanging the answers loses, and b drops out. *)
Lemma correct_exchange a b y1 y2 q : q y1 != q y2 -> correct a b y1 q -> correct a b y2 q ->
  a y1 (q y2) + a y2 (q y1) < a y1 (q y1) + a y2 (q y2).
Proof.
move=> q12 /correctP ok1 /correctP ok2.
have := ltr_add (ok1 (q y2) _) (ok2 (q y1) q12); rewrite eq_sym => /(_ q12).
by rewrite addrACA [X in _ < X]addrACA [b q (q y2) + _]addrC ltr_add2r.
Qed.

Lemma correct_exchange_fails a b : exchange_fails (correct a b).
Proof.
move=> y1 y2 q y12 q12; apply/and4P=> -[ok1 ok2 ok1' ok2'].
have gain := correct_exchange q12 ok1 ok2.
have q21' : swap y1 y2 q y1 != swap y1 y2 q y2 by rewrite swapL swapR eq_sym.
have := correct_exchange q21' ok1' ok2'.
by rewrite swapL swapR ltNge (ltW gain).
Qed.

(* additive_limit, part 1 (ours): an additive merge answers at most 3/4 + 1/(4m) of all (bridge,
   table) pairs, whatever the ranks of the adapters. *)
Theorem additive_limit a b : (1 < #|Y|)%N -> (0 < #|Z|)%N ->
  (4 * #|Z| * (\sum_(q : {ffun Y -> Z}) \sum_(y : Y) correct a b y q)
     <= (3 * #|Z| + 1) * (#|Y| * #|Z| ^ #|Y|))%N.
Proof.
by move=> Y_gt1 _; apply: swap_limit Y_gt1; apply: correct_exchange_fails.
Qed.

(* additive_limit, part 1, loose beyond n = 2 (ours): with three bridges and two answers or more of
   each the bound is never attained. *)
Theorem additive_limit_lt a b : (2 < #|Y|)%N -> (1 < #|Z|)%N ->
  (4 * #|Z| * (\sum_(q : {ffun Y -> Z}) \sum_(y : Y) correct a b y q)
     < (3 * #|Z| + 1) * (#|Y| * #|Z| ^ #|Y|))%N.
Proof. exact/swap_limit_lt/correct_exchange_fails. Qed.

(* additive_limit, part 4, for one query: with margin > 2 delta over a perturbation of at most
   delta, the unperturbed logits have the same strict argmax. *)
Theorem additive_part_answers (f g : Y -> {ffun Y -> Z} -> Z -> R) (delta : R) y q :
    (forall z, `|f y q z - g y q z| <= delta) ->
  correct_by (2%:R * delta) f y q -> correct_by 0 g y q.
Proof.
move=> near /correct_byP ok; apply/correct_byP=> z zq; rewrite addr0.
have := ok z zq; have := near z; have := near (q y).
rewrite !ler_distl mulr_natl mulr2n => /andP[_ right_le] /andP[wrong_ge _] margin.
rewrite -(ltr_add2r delta); apply: lt_le_trans right_le; apply: le_lt_trans margin.
by rewrite addrA ler_add2r -ler_subl_addr.
Qed.

Lemma correct_by0 a b y q : correct_by 0 (fun y q z => a y z + b q z) y q = correct a b y q.
Proof. by apply/correct_byP/correctP => ok z zq; have := ok z zq; rewrite addr0. Qed.

(* additive_limit, parts 1 and 4 (ours): logits within delta of additive ones answer at most
   3/4 + 1/(4m) of the pairs with a margin above 2 delta. *)
Theorem additive_limit_robust a b (I : Y -> {ffun Y -> Z} -> Z -> R) (delta : R) :
  (1 < #|Y|)%N -> (0 < #|Z|)%N -> (forall y q z, `|I y q z| <= delta) ->
  (4 * #|Z| * (\sum_(q : {ffun Y -> Z}) \sum_(y : Y)
       correct_by (2%:R * delta)%R (fun y q z => a y z + b q z + I y q z)%R y q)
     <= (3 * #|Z| + 1) * (#|Y| * #|Z| ^ #|Y|))%N.
Proof.
move=> Y_gt1 Z_gt0 I_le; apply: leq_trans (additive_limit a b Y_gt1 Z_gt0).
apply/leq_mul/leq_sum_credit => // y q ok; rewrite -correct_by0.
by apply: additive_part_answers ok => z; rewrite addrAC subrr add0r.
Qed.

End AdditiveLimit.

(* additive_limit, part 1, and layer_order (a) (ours): two updates of any rank that read features
   fixed by the prompt and the base, before a linear read-out E, obey the limit when added. *)
Theorem linear_merge_limit (R : realFieldType) (d m n1 n2 : nat) (Y : finType)
    (E : 'M[R]_(m, d)) (h : 'cV[R]_d) (f1 : 'cV[R]_n1) (f2 : 'cV[R]_n2)
    (U1 : Y -> 'M[R]_(d, n1)) (U2 : {ffun Y -> 'I_m} -> 'M[R]_(d, n2)) :
  (1 < #|Y|)%N -> (0 < m)%N ->
  (4 * m * (\sum_(q : {ffun Y -> 'I_m}) \sum_(y : Y)
       correct_by 0%R (fun y q z => (E *m (h + U1 y *m f1 + U2 q *m f2)) z ord0)%R y q)
     <= (3 * m + 1) * (#|Y| * m ^ #|Y|))%N.
Proof.
move=> Y_gt1 m_gt0.
pose a y (z : 'I_m) := (E *m (h + U1 y *m f1)) z ord0.
pose b q (z : 'I_m) := (E *m (U2 q *m f2)) z ord0.
have Z_gt0 : (0 < #|'I_m|)%N by rewrite card_ord.
have := additive_limit a b Y_gt1 Z_gt0; rewrite card_ord; apply: leq_trans.
apply/leq_mul/leq_sum_credit => // y q /correct_byP ok; apply/correctP=> z zq.
by have := ok z zq; rewrite addr0 /a /b mulmxDr mxE [X in _ < X]mxE.
Qed.

Section Patterns.
Variables (R : realFieldType) (Y Z : finType).
Implicit Types (y : Y) (z : Z) (g : {ffun Y -> Z}) (a : Y -> Z -> R) (b : Z -> R).

Lemma sum_offsets b g : \sum_y b (g y) = \sum_z b z *+ #|[pred y | g y == z]|.
Proof.
rewrite (partition_big g xpredT) //=; apply: eq_bigr => z _.
by rewrite -sumr_const; apply: eq_bigr => y /eqP->.
Qed.

Lemma reaches_lt_sum a b g g' : reaches a b g -> g' != g ->
  \sum_y (a y (g' y) + b (g' y)) < \sum_y (a y (g y) + b (g y)).
Proof.
move=> best g'g; have [y gy] : exists y, g' y != g y.
  apply/existsP; apply: contraR g'g => /existsPn same.
  by apply/eqP/ffunP=> y; apply/eqP; have := same y; rewrite negbK.
rewrite (bigD1 y) //= [X in _ < X](bigD1 y) //=; apply: ltr_le_add; first exact: best.
apply: ler_sum => y' _; have [-> //|] := eqVneq (g' y') (g y').
by move/best/ltW.
Qed.

(* additive_limit, part 2, the reason (standard, transport duality): two patterns that give every
   answer equally often cannot both be strict optima, whatever the offsets. *)
Theorem reaches_counts_inj a b b' g g' : reaches a b g -> reaches a b' g' ->
  (forall z, #|[pred y | g y == z]| = #|[pred y | g' y == z]|) -> g = g'.
Proof.
move=> best best' counts; apply/eqP; apply: contraT => gg'.
have offsets c : \sum_y c (g y) = \sum_y c (g' y) :> R.
  by rewrite !sum_offsets; apply: eq_bigr => z _; rewrite counts.
have := reaches_lt_sum best' gg'; rewrite !big_split /= offsets ltr_add2r ltNge.
rewrite eq_sym in gg'; have := reaches_lt_sum best gg'.
by rewrite !big_split /= offsets ltr_add2r => /ltW->.
Qed.

(* additive_limit, part 2 (ours): with a fixed, the offsets reach at most C(n+m-1, n) patterns. *)
Theorem additive_patterns a (gs : seq {ffun Y -> Z}) :
  uniq gs -> (forall g, g \in gs -> exists b, reaches a b g) ->
  (size gs <= 'C((#|Y| + #|Z|).-1, #|Y|))%N.
Proof.
move=> uniq_gs reach; rewrite -(card_uniqP uniq_gs).
have [z0 _ | Z0] := pickP Z; last first.
  apply: leq_trans (max_card _) _; rewrite card_ffun (eq_card0 Z0) addn0.
  by case: #|Y| => [|n]; rewrite ?bin0 // exp0n.
have [m Zm] : exists m, #|Z| = m.+1.
  by exists #|Z|.-1; rewrite prednK //; apply/card_gt0P; exists z0.
have size_enum : size (enum Z) = m.+1 by rewrite -cardE.
pose count g z := #|[pred y | g y == z]|.
pose t g := [tuple inord (count g (nth z0 (enum Z) i)) : 'I_#|Y|.+1 | i < m.+1].
have val_t g i : tnth (t g) i = count g (nth z0 (enum Z) i) :> nat.
  by rewrite tnth_mktuple inordK // ltnS max_card.
have t_inj : {in gs &, injective t}.
  move=> g g' /reach[b best] /reach[b' best'] tgg'; apply: reaches_counts_inj best best' _ => z.
  have lt_z : (index z (enum Z) < m.+1)%N by rewrite -size_enum index_mem mem_enum.
  by have := val_t g (Ordinal lt_z); rewrite tgg' val_t /= nth_index ?mem_enum.
rewrite -(card_in_imset t_inj) Zm addnS /= -(bin_sub (leq_addr _ _)) addKn addnC.
rewrite -card_ord_partitions; apply/subset_leq_card/subsetP=> _ /imsetP[g _ ->].
rewrite inE big_tuple (eq_bigr _ (fun i _ => val_t g i)).
rewrite -(big_mkord xpredT (fun i => count g (nth z0 (enum Z) i))) -size_enum.
rewrite -(big_nth z0 xpredT (count g)) big_enum /=.
by rewrite -[#|Y|]sum1_card (partition_big g xpredT) //=; apply/eqP/eq_bigr => z _; rewrite sum1_card.
Qed.

End Patterns.

(* ---- The counting form ---- *)

(* What h patterns can answer of all n-entry tables over m values, after counting_mean. *)
Definition patterns_ceiling (h n m : nat) : nat :=
  \sum_(1 <= k < n.+1) minn (m ^ n) (h * (\sum_(k <= j < n.+1) 'C(n, j) * m.-1 ^ (n - j))).

Section Counting.
Variables (R : realFieldType) (Y Z : finType).
Implicit Types (y : Y) (z : Z) (q g : {ffun Y -> Z}) (a : Y -> Z -> R).

(* Finitely many numbers that are not 0 stay away from 0. *)
Lemma nonzero_lb (T : finType) (f : T -> R) :
  exists2 d, 0 < d & forall t, f t != 0 -> d <= `|f t|.
Proof.
pose s := 1 + \sum_(t | f t != 0) `|f t|^-1.
have s_gt0 : 0 < s by rewrite ltr_paddr ?ltr01 // sumr_ge0 // => t _; rewrite invr_ge0.
exists s^-1 => [|t ft0]; first by rewrite invr_gt0.
rewrite -[X in _ <= X]invrK lef_pinv ?posrE ?invr_gt0 ?normr_gt0 //.
rewrite /s (bigD1 t) //= addrCA ler_addl addr_ge0 ?ler01 // sumr_ge0 // => t' _.
by rewrite invr_ge0.
Qed.

(* Small offsets that differ from answer to answer break every tie and keep every strict order. *)
Lemma break_ties a (b : Z -> R) : exists2 b',
    forall y z z', a y z + b z < a y z' + b z' -> a y z + b' z < a y z' + b' z'
  & forall y z z', z != z' -> a y z + b' z != a y z' + b' z'.
Proof.
pose gap (t : Y * Z * Z) := a t.1.1 t.2 + b t.2 - (a t.1.1 t.1.2 + b t.1.2).
have [d d_gt0 d_le] := nonzero_lb gap.
pose e := d / #|Z|.+1%:R; pose b' z := b z + e * (enum_rank z)%:R.
have Z_gt0 : 0 < #|Z|.+1%:R :> R by rewrite ltr0n.
have e_gt0 : 0 < e by rewrite divr_gt0.
have small z : e * (enum_rank z)%:R < d.
  by rewrite /e mulrAC ltr_pdivr_mulr // ltr_pmul2l // ltr_nat ltnS ltnW.
have keep y z z' : a y z + b z < a y z' + b z' -> a y z + b' z < a y z' + b' z'.
  move=> lt_zz'; have gap_gt0 : 0 < gap (y, z, z') by rewrite subr_gt0.
  have := d_le (y, z, z'); rewrite gtr0_norm // gt_eqF // => /(_ isT) gap_ge.
  rewrite /b' !addrA -subr_gt0 opprD addrACA addrA subr_gt0.
  apply: lt_le_trans (lt_le_trans (small z) gap_ge) _.
  by rewrite /gap /= ler_addl mulr_ge0 // ltW.
exists b' => // y z z' zz'; have [lt|lt|eq_zz'] := ltgtP (a y z + b z) (a y z' + b z').
- by rewrite lt_eqF // keep.
- by rewrite gt_eqF // keep.
have e_neq0 : e != 0 by rewrite gt_eqF.
rewrite /b' !addrA eq_zz' (inj_eq (addrI _)) (inj_eq (mulfI e_neq0)) eqr_nat.
by rewrite (inj_eq val_inj) (inj_eq enum_rank_inj).
Qed.

(* A pattern with ties extends to a pattern without, reached by other offsets. *)
Lemma reaches_extend a (b : Z -> R) (z0 : Z) : exists g, (exists b', reaches a b' g) /\
  forall y z, (forall z', z' != z -> a y z' + b z' < a y z + b z) -> g y = z.
Proof.
have [b' keep strict] := break_ties a b.
pose g := [ffun y => [arg max_(z > z0) (a y z + b' z)]%O].
have best y z : z != g y -> a y z + b' z < a y (g y) + b' (g y).
  move=> zg; rewrite lt_neqAle strict //= ffunE.
  by case: arg_maxP => // z1 _ max_z1; apply: max_z1.
exists g; split=> [|y z bestz]; first by exists b'.
apply/eqP; apply: contraT => gz; have := keep _ _ _ (bestz _ gz).
by rewrite ltNge ltW // best // eq_sym.
Qed.

Lemma additive_hypotheses a (b : {ffun Y -> Z} -> Z -> R) : exists G : {set {ffun Y -> Z}},
  [/\ forall g, g \in G -> exists b', reaches a b' g, (#|G| <= 'C((#|Y| + #|Z|).-1, #|Y|))%N
    & forall q, exists2 g, g \in G & forall y, correct a b y q -> g y = q y].
Proof.
have pattern_of q : exists g, (exists b', reaches a b' g) /\
    forall y, correct a b y q -> g y = q y.
  have [z0 _ | Z0] := pickP Z; last first.
    by exists q; split=> //; exists (b q) => y z; have := Z0 z.
  have [g [reach extends]] := reaches_extend a (b q) z0.
  by exists g; split=> // y /correctP; apply: extends.
have [g g_of] := fin_all_exists pattern_of; pose G := [set g q | q in {ffun Y -> Z}].
have reach g' : g' \in G -> exists b', reaches a b' g'.
  by case/imsetP=> q _ ->; have [] := g_of q.
exists G; split=> // [|q]; last by exists (g q); [apply: imset_f | have [] := g_of q].
rewrite cardE; apply: (@additive_patterns _ _ _ a) (enum_uniq _) _ => g'.
by rewrite mem_enum; apply: reach.
Qed.

Lemma correct_le_agree a b (G : {set {ffun Y -> Z}}) q g : g \in G ->
  (forall y, correct a b y q -> g y = q y) ->
  (\sum_(y : Y) correct a b y q <= \max_(g in G) agree g q)%N.
Proof.
move=> Gg g_q; apply: leq_trans (leq_bigmax_cond g Gg).
rewrite /agree -sum1_card [leqRHS]big_mkcond; apply: leq_sum => y _.
by rewrite inE; case cyq: correct => //; rewrite (g_q y cyq) eqxx.
Qed.

(* additive_limit, part 3 (ours): an additive merge answers no more than C(n+m-1, n) fixed patterns
   could, the best one chosen per table; divided by n m^n this is counting_bound(ln C(n+m-1,n), n, m). *)
Theorem additive_limit_counting a (b : {ffun Y -> Z} -> Z -> R) :
  (\sum_(q : {ffun Y -> Z}) \sum_(y : Y) correct a b y q
     <= \sum_(1 <= k < #|Y|.+1) minn (#|Z| ^ #|Y|) ('C((#|Y| + #|Z|).-1, #|Y|) *
          (\sum_(k <= j < #|Y|.+1) 'C(#|Y|, j) * #|Z|.-1 ^ (#|Y| - j))))%N.
Proof.
have [G [_ cardG extends]] := additive_hypotheses a b.
have le_agree : (\sum_(q : {ffun Y -> Z}) \sum_(y : Y) correct a b y q
    <= \sum_(q : {ffun Y -> Z}) \max_(g in G) agree g q)%N.
  by apply: leq_sum => q _; have [g Gg g_q] := extends q; apply: correct_le_agree Gg g_q.
apply: leq_trans le_agree (leq_trans (counting_mean G) _).
apply: leq_sum => k _; rewrite leq_min geq_minl /=.
exact: leq_trans (geq_minr _ _) (leq_mul cardG (leqnn _)).
Qed.

End Counting.

(* ---- Networks, norms and weighted merges ---- *)

Section Networks.
Variables (R : realFieldType) (Y Z : finType).
Implicit Types (y : Y) (z : Z) (q : {ffun Y -> Z}) (a : Y -> Z -> R).

(* Credit that implies an additive answer obeys both ceilings. *)
Lemma additive_ceilings (c : Y -> {ffun Y -> Z} -> bool) a (b : {ffun Y -> Z} -> Z -> R) :
    (1 < #|Y|)%N -> (forall y q, c y q -> correct a b y q) ->
  let total := (\sum_(q : {ffun Y -> Z}) \sum_(y : Y) c y q)%N in
  (4 * #|Z| * total <= (3 * #|Z| + 1) * (#|Y| * #|Z| ^ #|Y|))%N /\
  (total <= patterns_ceiling 'C((#|Y| + #|Z|).-1, #|Y|) #|Y| #|Z|)%N.
Proof.
move=> Y_gt1 c_ok total; have le_total := leq_sum_credit c_ok; split.
  have [Z0 | Z_gt0] := posnP #|Z|; first by rewrite Z0.
  exact: leq_trans (leq_mul (leqnn _) le_total) (additive_limit a b Y_gt1 Z_gt0).
exact: leq_trans le_total (additive_limit_counting a b).
Qed.

(* additive_limit, what it covers (ours): sums with any weights (a mean has w1 = w2 = 1/2), any base
   logits, and a scale >= 0 that may depend on both adapters (a final RMSNorm): both ceilings hold. *)
Theorem weighted_merge_limit (base : Z -> R) (w1 w2 : R) (scale : Y -> {ffun Y -> Z} -> R)
    a (b : {ffun Y -> Z} -> Z -> R) :
    (1 < #|Y|)%N -> (forall y q, 0 <= scale y q) ->
  let total := (\sum_(q : {ffun Y -> Z}) \sum_(y : Y)
    correct_by 0 (fun y q z => scale y q * (base z + w1 * a y z + w2 * b q z))%R y q)%N in
  (4 * #|Z| * total <= (3 * #|Z| + 1) * (#|Y| * #|Z| ^ #|Y|))%N /\
  (total <= patterns_ceiling 'C((#|Y| + #|Z|).-1, #|Y|) #|Y| #|Z|)%N.
Proof.
move=> Y_gt1 scale_ge0.
apply: (additive_ceilings (a := fun y z => base z + w1 * a y z) (b := fun q z => w2 * b q z)) => //.
move=> y q /correct_byP ok; apply/correctP=> z zq; have := ok z zq.
by rewrite addr0; apply: contraTT; rewrite -!leNgt; apply: ler_wpmul2l.
Qed.

Variables (V : zmodType) (net : V -> Z -> R) (U1 : Y -> V) (U2 : {ffun Y -> Z} -> V).

(* The logits of a network at a fixed prompt, as a function of the update; the additive part of
   the merged logits, and the rest. *)
Definition additive_part y q z : R := net (U1 y) z + net (U2 q) z - net 0 z.
Definition interaction y q z : R := net (U1 y + U2 q) z - net (U1 y) z - net (U2 q) z + net 0 z.

Lemma additive_partD y q z : additive_part y q z + interaction y q z = net (U1 y + U2 q) z.
Proof.
have -> : interaction y q z = net (U1 y + U2 q) z - additive_part y q z.
  by rewrite /additive_part !opprD !addrA opprK.
by rewrite addrC subrK.
Qed.

Lemma correct_additive_part y q : correct_by 0 additive_part y q ->
  correct (fun y z => net (U1 y) z) (fun q z => net (U2 q) z - net 0 z) y q.
Proof.
by move=> /correct_byP ok; apply/correctP=> z zq; rewrite !addrA -[X in X < _]addr0 ok.
Qed.

(* additive_limit, part 4 (ours): in ANY network the additive part of the merged logits obeys both
   ceilings. V is the space of updates; nothing is assumed of net. *)
Theorem additive_part_limit : (1 < #|Y|)%N ->
  let total := (\sum_(q : {ffun Y -> Z}) \sum_(y : Y) correct_by 0 additive_part y q)%N in
  (4 * #|Z| * total <= (3 * #|Z| + 1) * (#|Y| * #|Z| ^ #|Y|))%N /\
  (total <= patterns_ceiling 'C((#|Y| + #|Z|).-1, #|Y|) #|Y| #|Z|)%N.
Proof. by move=> Y_gt1; apply: additive_ceilings Y_gt1 _; apply: correct_additive_part. Qed.

(* additive_limit, part 4 (ours): so do the queries that the merged network itself answers with a
   margin above twice a bound on the interaction AT that query. *)
Theorem network_margin_limit (delta : Y -> {ffun Y -> Z} -> R) :
    (1 < #|Y|)%N -> (forall y q z, `|interaction y q z| <= delta y q) ->
  let total := (\sum_(q : {ffun Y -> Z}) \sum_(y : Y)
    correct_by (2%:R * delta y q) (fun y q => net (U1 y + U2 q)) y q)%N in
  (4 * #|Z| * total <= (3 * #|Z| + 1) * (#|Y| * #|Z| ^ #|Y|))%N /\
  (total <= patterns_ceiling 'C((#|Y| + #|Z|).-1, #|Y|) #|Y| #|Z|)%N.
Proof.
move=> Y_gt1 small; apply: additive_ceilings Y_gt1 _ => y q ok.
apply: correct_additive_part; apply: additive_part_answers ok => z.
by rewrite -additive_partD addrC addKr.
Qed.

(* additive_limit, part 4 (ours): what a merged network answers above the ceiling it answers where
   its additive part does not. *)
Theorem interaction_carries_excess :
  (\sum_(q : {ffun Y -> Z}) \sum_(y : Y) correct_by 0 (fun y q => net (U1 y + U2 q)) y q
     <= patterns_ceiling 'C((#|Y| + #|Z|).-1, #|Y|) #|Y| #|Z|
        + \sum_(q : {ffun Y -> Z}) \sum_(y : Y)
            (correct_by 0 (fun y q => net (U1 y + U2 q)) y q && ~~ correct_by 0 additive_part y q))%N.
Proof.
have le_part := leq_sum_credit correct_additive_part.
have le_ceiling := leq_trans le_part (additive_limit_counting _ _).
apply: leq_trans (leq_add le_ceiling (leqnn _)); rewrite -big_split; apply: leq_sum => q _.
rewrite -big_split; apply: leq_sum => y _ /=.
by case: (correct_by 0 additive_part y q); case: correct_by.
Qed.

End Networks.

(* additive_limit, parts 1 and 3 for real matrices (ours), with a scale per query between the sum
   and the read-out (a final RMSNorm without bias; its gains are part of E). *)
Theorem linear_merge_counting (R : realFieldType) (d m n1 n2 : nat) (Y : finType)
    (E : 'M[R]_(m, d)) (h : 'cV[R]_d) (f1 : 'cV[R]_n1) (f2 : 'cV[R]_n2)
    (U1 : Y -> 'M[R]_(d, n1)) (U2 : {ffun Y -> 'I_m} -> 'M[R]_(d, n2))
    (scale : Y -> {ffun Y -> 'I_m} -> R) :
    (1 < #|Y|)%N -> (forall y q, 0 <= scale y q) ->
  let total := (\sum_(q : {ffun Y -> 'I_m}) \sum_(y : Y)
    correct_by 0 (fun y q z => (E *m (scale y q *: (h + U1 y *m f1 + U2 q *m f2))) z ord0)%R y q)%N in
  (4 * m * total <= (3 * m + 1) * (#|Y| * m ^ #|Y|))%N /\
  (total <= patterns_ceiling 'C((#|Y| + m).-1, #|Y|) #|Y| m)%N.
Proof.
move=> Y_gt1 scale_ge0 total.
have := weighted_merge_limit (fun z => (E *m h) z ord0) 1 1 (fun y z => (E *m (U1 y *m f1)) z ord0)
  (fun q z => (E *m (U2 q *m f2)) z ord0) Y_gt1 scale_ge0.
rewrite card_ord /=; suff -> : total = (\sum_(q : {ffun Y -> 'I_m}) \sum_(y : Y) correct_by 0
    (fun y q z => scale y q * ((E *m h) z ord0 + 1 * (E *m (U1 y *m f1)) z ord0
                               + 1 * (E *m (U2 q *m f2)) z ord0))%R y q)%N by [].
apply: eq_bigr => q _; apply: eq_bigr => y _; congr nat_of_bool; apply: eq_forallb => z.
by rewrite !mul1r -!scalemxAr !mulmxDr !mxE.
Qed.

(* ---- Tightness ---- *)

Section AttainedTwo.
Variables (R : realFieldType) (Y Z : finType) (y1 y2 : Y).
Implicit Types (y : Y) (z : Z) (q : {ffun Y -> Z}).

(* Logits that attain additive_limit when Y = {y1, y2}: the first adapter holds a staircase at y1
   and nothing at y2, the second raises the two answers of its table, that of y2 a little more. *)
Definition staircase y z : R := ((y == y1) * (2 * enum_rank z))%:R.
Definition spikes q z : R := ((z == q y1) * (2 * #|Z|) + (z == q y2) * (2 * #|Z|).+1)%:R.

Lemma ltr_staircase y q z z' : (staircase y z + spikes q z < staircase y z' + spikes q z') =
  ((y == y1) * (2 * enum_rank z) + ((z == q y1) * (2 * #|Z|) + (z == q y2) * (2 * #|Z|).+1)
   < (y == y1) * (2 * enum_rank z') + ((z' == q y1) * (2 * #|Z|) + (z' == q y2) * (2 * #|Z|).+1))%N.
Proof. by rewrite -!natrD ltr_nat. Qed.

Lemma correct_staircase2 q : y1 != y2 -> correct staircase spikes y2 q.
Proof.
move=> y12.
apply/correctP=> z zq2; rewrite ltr_staircase [y2 == y1]eq_sym (negPf y12) (negPf zq2) eqxx.
rewrite !mul0n !add0n addn0 mul1n addnS ltnS; apply: leq_trans (leq_addl _ _).
by case: (_ == _); rewrite ?mul1n.
Qed.

Lemma correct_staircase1 q :
  correct staircase spikes y1 q = (enum_rank (q y2) <= enum_rank (q y1))%N.
Proof.
have rank_lt z : (2 * enum_rank z < 2 * #|Z|)%N by rewrite ltn_pmul2l.
have [q12 | q12] := eqVneq (q y1) (q y2); apply/correctP/idP => [ok | le21 z zq1].
- by rewrite q12.
- rewrite ltr_staircase eqxx -q12 (negPf zq1) eqxx !mul1n !mul0n !addn0 !addnS addnA ltnS.
  exact: leq_trans (ltnW (rank_lt z)) (leq_addl _ _).
- have := ok (q y2); rewrite eq_sym q12 ltr_staircase !eqxx [q y2 == q y1]eq_sym (negPf q12).
  rewrite !mul1n !mul0n addn0 add0n addnS -addSn ltn_add2r => /(_ isT)/ltnW.
  by rewrite ltn_pmul2l // => /ltnW.
rewrite ltr_staircase !eqxx (negPf zq1) (negPf q12) !mul1n !mul0n addn0 add0n.
have [-> | zq2] := eqVneq z (q y2); last by rewrite mul0n addn0 ltn_addl.
rewrite mul1n addnS -addSn ltn_add2r -add2n -mulnS leq_pmul2l // ltn_neqAle le21 andbT.
by rewrite (inj_eq val_inj) (inj_eq enum_rank_inj) eq_sym.
Qed.

Lemma total_staircase : y1 != y2 -> #|Y| = 2%N ->
  (4 * #|Z| * (\sum_(q : {ffun Y -> Z}) \sum_(y : Y) correct staircase spikes y q)
     = (3 * #|Z| + 1) * (#|Y| * #|Z| ^ #|Y|))%N.
Proof.
move=> y12 Y2; have only y : (y != y1) && (y != y2) = false.
  apply/negbTE/negP => /andP[yy1 yy2].
  have : (#|[:: y; y1; y2]| <= #|Y|)%N by apply: max_card.
  suff /card_uniqP-> : uniq [:: y; y1; y2] by rewrite Y2.
  by rewrite /= !inE negb_or yy1 yy2 y12.
pose le21 q := (enum_rank (q y2) <= enum_rank (q y1))%N.
have -> : (\sum_(q : {ffun Y -> Z}) \sum_(y : Y) correct staircase spikes y q
    = \sum_(q : {ffun Y -> Z}) (le21 q + 1))%N.
  apply: eq_bigr => q _; rewrite (bigD1 y1) //= (bigD1 y2) /= 1?eq_sym //.
  by rewrite (big_pred0 _ _ _ _ only) addn0 correct_staircase1 correct_staircase2.
have twice : (2 * (\sum_(q : {ffun Y -> Z}) le21 q)
    = #|Z| ^ #|Y| + \sum_(q : {ffun Y -> Z}) (q y1 == q y2 :> Z))%N.
  rewrite mul2n -addnn {2}(reindex_swap _ y1 y2) -big_split /=.
  rewrite -card_ffun -sum1_card -big_split /=; apply: eq_bigr => q _.
  rewrite /le21 swapL swapR -(inj_eq enum_rank_inj) -(inj_eq val_inj).
  by case: ltngtP.
have := card_collisions Z y12; move: twice; rewrite big_split /= sum_nat_const card_ffun muln1 Y2.
set A := (\sum_(q : {ffun Y -> Z}) le21 q)%N.
set K := (\sum_(q : {ffun Y -> Z}) (q y1 == q y2 :> Z))%N.
move: A K (#|Z| ^ 2)%N => A K N twice collide.
have four : (4 * #|Z| * (A + N) = 2 * #|Z| * (2 * A) + 4 * #|Z| * N)%N.
  by rewrite -[4%N]/(2 * 2)%N; ring.
have expand : (2 * #|Z| * (N + K) + 4 * #|Z| * N = 6 * #|Z| * N + 2 * (K * #|Z|))%N.
  by rewrite -[6%N]/(2 + 4)%N; ring.
by rewrite four twice expand collide -[6%N]/(3 * 2)%N -[(3 * 2 * _ * _)%N]mulnA mulnACA mulnDl mul1n.
Qed.

End AttainedTwo.

(* additive_limit, part 1 (ours): sharp at n = 2 for every m. *)
Theorem additive_limit_attained (R : realFieldType) (Y Z : finType) : #|Y| = 2%N ->
  exists (a : Y -> Z -> R) (b : {ffun Y -> Z} -> Z -> R),
    (4 * #|Z| * (\sum_(q : {ffun Y -> Z}) \sum_(y : Y) correct a b y q)
       = (3 * #|Z| + 1) * (#|Y| * #|Z| ^ #|Y|))%N.
Proof.
move=> Y2; have /card_gt1P[y1 [y2 [_ _ y12]]] : (1 < #|Y|)%N by rewrite Y2.
by exists (staircase R y1), (spikes R y1 y2); apply: total_staircase.
Qed.

(* additive_limit, part 3 (ours): at n = 2 the counting form has the same value, so it is sharp
   there too. *)
Theorem patterns_ceiling_card2 (m : nat) :
  (4 * m * patterns_ceiling 'C((2 + m).-1, 2) 2 m = (3 * m + 1) * (2 * m ^ 2))%N.
Proof.
case: m => [|m]; first by rewrite muln0.
have bin2E : (2 * 'C(m.+2, 2) = m.+2 * m.+1)%N by rewrite -(mul_bin_diag m.+2 1) bin1.
rewrite /patterns_ceiling (_ : (2 + m.+1).-1 = m.+2) //; move: 'C(m.+2, 2) bin2E => C bin2E.
rewrite big_nat_recr // big_nat1 /= big_nat_recr // !big_nat1 /= bin1 binn expn1 expn0 mul1n muln1.
have le_C : (C <= m.+1 ^ 2)%N.
  rewrite -(leq_pmul2l (isT : (0 < 2)%N)) bin2E expnS expn1 mulnA leq_mul2r /=.
  by rewrite mulnS -[m.+2]add2n leq_add2l leq_pmull.
have ge_C : (m.+1 ^ 2 <= C * (2 * m + 1))%N.
  rewrite -(leq_pmul2l (isT : (0 < 2)%N)) [leqRHS]mulnA bin2E expnS expn1 mulnA [leqRHS]mulnAC leq_mul2r /=.
  by apply: leq_trans (leq_mul (_ : 2 <= m.+2) (leqnn _))%N => //; rewrite leq_pmul2l // addn1 ltnS leq_pmull.
rewrite (minn_idPl ge_C) (minn_idPr le_C) mulnDr.
have -> : (4 * m.+1 * C = 2 * m.+1 * (m.+2 * m.+1))%N by rewrite -bin2E -[4%N]/(2 * 2)%N; ring.
rewrite -[m.+2]addn1 expnS expn1; move: m.+1 => M.
by rewrite -[4%N]/(2 * 2)%N -[3%N]/(2 + 1)%N; ring.
Qed.

(* ---- Every one of the C(n+m-1, n) patterns can be reached ---- *)

Section AttainedPatterns.
Variables (R : realFieldType) (Y Z : finType).
Implicit Types (y : Y) (z : Z) (g : {ffun Y -> Z}).

(* The place of an element in the enumeration of its type. *)
Definition place (T : finType) (x : T) : nat := index x (enum T).

Lemma place_inj (T : finType) : injective (@place T).
Proof.
move=> x x' xx'; have at_place (x1 : T) : nth x (enum T) (place x1) = x1 by rewrite nth_index ?mem_enum.
by rewrite -(at_place x) xx' at_place.
Qed.

Lemma card_place_lt (T : finType) k : (k <= #|T|)%N -> #|[pred x : T | (place x < k)%N]| = k.
Proof.
move=> le_k; rewrite -[RHS](_ : size (take k (enum T)) = k); last by rewrite size_takel -?cardE.
rewrite -(card_uniqP (take_uniq k (enum_uniq T))); apply: eq_card => x.
by rewrite [RHS]in_take ?mem_enum.
Qed.

(* The first adapter holds products of places: slopes that grow with the answer. *)
Definition products y z : R := (2 * place y * place z)%:R.

(* Patterns in which a later bridge never has an earlier answer. *)
Definition monotone g := forall y y', (place y <= place y')%N -> (place (g y) <= place (g y'))%N.

(* The step from answer number w to the next costs what separates the bridges that should take it. *)
Definition takers g (w : nat) : nat := #|[pred y | (place (g y) <= w)%N]|.
Definition tariff g z : R := \sum_(0 <= w < place z) (1 - (2 * takers g w)%:R).

Lemma tariff_step g y z : products y z + tariff g z =
  \sum_(0 <= w < place z) ((2 * place y).+1%:R - (2 * takers g w)%:R).
Proof.
rewrite /products natrM mulr_natr -[place z in X in X + _]subn0 -sumr_const_nat -big_split /=.
by apply: eq_bigr => w _; rewrite addrA -mulrSr.
Qed.

Lemma step_up g y w : monotone g -> (w < place (g y))%N ->
  0 < (2 * place y).+1%:R - (2 * takers g w)%:R :> R.
Proof.
move=> mono lt_w; rewrite subr_gt0 ltr_nat ltnS leq_pmul2l //.
rewrite -(@card_place_lt Y (place y)); last by rewrite ltnW // cardE index_mem mem_enum.
apply/subset_leq_card/subsetP=> y'; rewrite !inE ltnNge => le_w.
by apply: contraTN lt_w => /mono/leq_trans/(_ le_w); rewrite -leqNgt.
Qed.

Lemma step_down g y w : monotone g -> (place (g y) <= w)%N ->
  (2 * place y).+1%:R - (2 * takers g w)%:R < 0 :> R.
Proof.
move=> mono le_w; rewrite subr_lt0 ltr_nat -add2n -mulnS leq_pmul2l //.
rewrite -(@card_place_lt Y (place y).+1); last by rewrite cardE index_mem mem_enum.
apply/subset_leq_card/subsetP=> y'; rewrite !inE ltnS => /mono le_y.
exact: leq_trans le_w.
Qed.

Lemma sum_range_gt0 (F : nat -> R) i j : (i < j)%N ->
  (forall w, (i <= w < j)%N -> 0 < F w) -> 0 < \sum_(i <= w < j) F w.
Proof.
move=> lt_ij F_gt0; rewrite big_ltn // ltr_paddr ?F_gt0 ?leqnn //.
rewrite big_nat; apply: sumr_ge0 => w /andP[lt_iw lt_wj].
by rewrite ltW // F_gt0 // ltnW.
Qed.

Lemma sum_split (F : nat -> R) i j : (i <= j)%N ->
  \sum_(0 <= w < j) F w = \sum_(0 <= w < i) F w + \sum_(i <= w < j) F w.
Proof. by move=> le_ij; rewrite -big_cat_nat. Qed.

Lemma reaches_monotone g : monotone g -> reaches products (tariff g) g.
Proof.
move=> mono y z zg; rewrite !tariff_step -subr_gt0.
have [le_gz|lt_zg|/place_inj eq_zg] := ltngtP (place (g y)) (place z).
- rewrite [X in _ - X](sum_split _ (ltnW le_gz)) opprD addrA subrr sub0r.
  rewrite -sumrN; apply: sum_range_gt0 => // w /andP[le_w _].
  by rewrite oppr_gt0 step_down.
- rewrite (sum_split _ (ltnW lt_zg)) addrC addKr.
  by apply: sum_range_gt0 => // w /andP[_ lt_w]; apply: step_up.
by rewrite eq_zg eqxx in zg.
Qed.

(* additive_limit, part 2 (ours): sharp for all n and m. Logits that are products of the places of
   bridge and answer reach every monotone pattern, and there are C(n+m-1, n) of them. *)
Theorem additive_patterns_attained :
  exists (a : Y -> Z -> R) (gs : seq {ffun Y -> Z}),
    [/\ uniq gs, forall g, g \in gs -> exists b, reaches a b g
      & size gs = 'C((#|Y| + #|Z|).-1, #|Y|)].
Proof.
exists products; have [z0 _ | Z0] := pickP Z; last first.
  exists (enum {ffun Y -> Z}); split=> [|g _|]; first exact: enum_uniq.
    by exists (fun _ => 0) => y z; have := Z0 z.
  rewrite -cardE card_ffun (eq_card0 Z0) addn0.
  by case: #|Y| => [|n]; rewrite ?bin0 // exp0n // bin_small.
have [m Zm] : exists m, #|Z| = m.+1.
  by exists #|Z|.-1; rewrite prednK //; apply/card_gt0P; exists z0.
have size_enum : size (enum Z) = m.+1 by rewrite -cardE.
pose T := [set t : #|Y|.-tuple 'I_m.+1 | sorted leq [seq val i | i <- t]].
pose g (t : #|Y|.-tuple 'I_m.+1) : {ffun Y -> Z} := [ffun y => nth z0 (enum Z) (tnth t (enum_rank y))].
have place_g t y : place (g t y) = tnth t (enum_rank y).
  by rewrite ffunE /place index_uniq ?enum_uniq // size_enum.
have g_inj : injective g.
  move=> t t' gtt'; apply: eq_from_tnth => i; apply: val_inj.
  by have := place_g t (enum_val i); rewrite gtt' place_g enum_valK => /esym.
have place_rank y : place y = enum_rank y :> nat.
  by rewrite -{1}[y]enum_rankK (enum_val_nth y) /place index_uniq ?enum_uniq // -cardE.
exists [seq g t | t <- enum T]; split.
- by rewrite map_inj_uniq ?enum_uniq.
- move=> g' /mapP[t]; rewrite mem_enum inE => sorted_t ->; exists (tariff (g t)).
  apply: reaches_monotone => y y'; rewrite !place_rank !place_g => le_yy'.
  have := sorted_leq_nth leq_trans leqnn 0%N sorted_t (enum_rank y) (enum_rank y').
  rewrite !inE size_map size_tuple !ltn_ord => /(_ isT isT le_yy').
  by rewrite !(nth_map ord0) ?size_tuple // -!tnth_nth.
by rewrite size_map -cardE card_sorted_tuples Zm addnS.
Qed.

End AttainedPatterns.

(* ---- The optimum, pattern by pattern ---- *)

(* additive_limit, the optimum (ours): with a fixed, choosing b is choosing one reachable pattern per
   table. So the best total is that of the best agreement with reachable patterns, which is what an
   exact search over patterns computes. *)
Section Optimum.
Variables (R : realFieldType) (Y Z : finType) (a : Y -> Z -> R).
Implicit Types (y : Y) (z : Z) (q g : {ffun Y -> Z}) (b : {ffun Y -> Z} -> Z -> R).

Theorem additive_optimum_patterns :
  (forall b, exists2 G : {set {ffun Y -> Z}}, (forall g, g \in G -> exists c : Z -> R, reaches a c g)
     & (\sum_(q : {ffun Y -> Z}) \sum_(y : Y) correct a b y q
          <= \sum_(q : {ffun Y -> Z}) \max_(g in G) agree g q)%N) /\
  (forall G : {set {ffun Y -> Z}}, (forall g, g \in G -> exists c : Z -> R, reaches a c g) ->
     exists b, (\sum_(q : {ffun Y -> Z}) \max_(g in G) agree g q
                  <= \sum_(q : {ffun Y -> Z}) \sum_(y : Y) correct a b y q)%N).
Proof.
split=> [b | G reach].
  have [G [reach _ extends]] := additive_hypotheses a b.
  by exists G => //; apply: leq_sum => q _; have [g Gg g_q] := extends q; apply: correct_le_agree g_q.
have best_of q : exists c : Z -> R, forall b, b q = c ->
    (\max_(g in G) agree g q <= \sum_(y : Y) correct a b y q)%N.
  have [G0 | G_gt0] := posnP #|G|.
    exists (fun _ => 0) => b _; rewrite big_pred0 // => g.
    by rewrite (card0_eq G0).
  have [g Gg ->] := eq_bigmax_cond (fun g => agree g q) G_gt0.
  have [c best] := reach g Gg; exists c => b bq; rewrite /agree -sum1_card big_mkcond.
  apply: leq_sum => y _; rewrite inE; case: eqP => // gq.
  suff -> : correct a b y q by [].
  by apply/correctP=> z; rewrite bq -gq; apply: best.
have [b b_of] := fin_all_exists best_of.
by exists b; apply: leq_sum => q _; apply: b_of.
Qed.

End Optimum.

(* ---- For fixed m the excess over 1/m vanishes ---- *)

(* z ^+ (m w) - 1 grows slower than z ^+ (w + m) near z = 1, so that a threshold of (1/m + 1/w) n
   agreements is exponentially rare, while C(n+m-1, n) <= (n+1)^(m-1) is a power of n. *)

Section Vanishing.
Implicit Types (n m v w c d k : nat) (x z h delta : rat).

Lemma leq_expl m n k : (m <= n)%N -> (m ^ k <= n ^ k)%N.
Proof. by move=> le_mn; case: k => // k; rewrite leq_exp2r. Qed.

Lemma leq_bin_expn n k : ('C(n + k, n) <= n.+1 ^ k)%N.
Proof.
rewrite -(bin_sub (leq_addr _ _)) addKn; elim: k => [|k IHk]; first by rewrite addn0 bin0.
rewrite -(leq_pmul2l (ltn0Sn k)) addnS -mul_bin_diag expnS mulnA.
by apply: leq_mul IHk; rewrite mulSn -addSn leq_add2l leq_pmulr.
Qed.

Lemma bernoulli h k : 0 <= h -> 1 + h *+ k <= (1 + h) ^+ k.
Proof.
move=> h_ge0; elim: k => [|k IHk]; first by rewrite mulr0n addr0.
rewrite exprS; apply: le_trans (ler_wpmul2l (addr_ge0 ler01 h_ge0) IHk).
have -> : (1 + h) * (1 + h *+ k) = 1 + h *+ k.+1 + h * (h *+ k).
  by rewrite mulrDl mul1r mulrDr mulr1 mulrSr !addrA.
by rewrite ler_addl mulr_ge0 // mulrn_wge0.
Qed.

Lemma expr1D_inv h k : 0 <= h -> (1 + h) ^+ k * (1 - h *+ k) <= 1.
Proof.
move=> h_ge0; elim: k => [|k IHk]; first by rewrite mulr0n subr0 mulr1.
apply: le_trans IHk; rewrite exprSr -mulrA ler_wpmul2l ?exprn_ge0 ?addr_ge0 //.
have -> : (1 + h) * (1 - h *+ k.+1) = 1 - h *+ k - h * (h *+ k.+1).
  by rewrite mulrDl mul1r mulrBr mulr1 mulrSr opprD !addrA subrK.
by rewrite ler_subl_addr ler_addl mulr_ge0 // mulrn_wge0.
Qed.

(* An exponential outgrows every power. *)
Lemma poly_exp delta c d : 0 < delta -> exists N, forall n, (N <= n)%N ->
  (c * n.+1 ^ d)%:R <= (1 + delta) ^+ n.
Proof.
move=> delta_gt0; pose mu := Num.min 1 delta.
have mu_gt0 : 0 < mu by rewrite lt_minr ltr01.
pose need : rat := (c * d.+1 ^ d)%:R / mu ^+ d.+1.
have need_ge0 : 0 <= need by rewrite divr_ge0 ?ler0n // exprn_ge0 // ltW.
exists (Num.bound need * d.+1)%N => n le_n; pose k := (n %/ d.+1)%N.
have need_le : need <= k.+1%:R.
  apply: ltW (lt_le_trans (archi_boundP need_ge0) _); rewrite ler_nat ltnW // ltnS.
  by rewrite /k leq_divRL.
have lt_n : (n.+1 <= d.+1 * k.+1)%N by rewrite mulnC ltn_ceil.
have base_ge : mu * k.+1%:R <= 1 + delta *+ k.
  rewrite mulr_natr mulrS ler_add ?le_minl ?lexx // ler_wmuln2r // le_minl lexx orbT //.
apply: (@le_trans _ _ ((1 + delta) ^+ (k * d.+1))); last first.
  by rewrite ler_eexpn2l ?ltr_addl // leq_trunc_div.
apply: (@le_trans _ _ ((mu * k.+1%:R) ^+ d.+1)); last first.
  rewrite exprM ler_expn2r ?nnegrE ?mulr_ge0 ?exprn_ge0 ?addr_ge0 ?(ltW mu_gt0) ?(ltW delta_gt0) //.
  by apply: le_trans base_ge (bernoulli _ (ltW delta_gt0)).
apply: (@le_trans _ _ (c * (d.+1 * k.+1) ^ d)%:R).
  by rewrite ler_nat leq_mul2l leq_expl ?orbT.
rewrite expnMn mulnA natrM natrX exprMn [k.+1%:R ^+ d.+1]exprS mulrA ler_wpmul2r ?exprn_ge0 //.
by rewrite mulrC -ler_pdivr_mulr ?exprn_gt0.
Qed.

(* The binomial tail times x ^ k is at most the binomial sum at x. *)
Lemma tail_le x n m k : 1 <= x -> (0 < m)%N -> (k <= n)%N ->
  (\sum_(k <= j < n.+1) 'C(n, j) * m.-1 ^ (n - j))%N%:R * x ^+ k <= (m.-1%:R + x) ^+ n.
Proof.
move=> x_ge1 m_gt0 le_kn; have x_ge0 : 0 <= x by apply: le_trans x_ge1.
rewrite exprDn -(big_mkord xpredT (fun i => (m.-1%:R ^+ (n - i) * x ^+ i) *+ 'C(n, i))).
rewrite [X in _ <= X](@big_cat_nat _ _ _ k) //=; last exact: leqW.
apply: (@le_trans _ _ (\sum_(k <= i < n.+1) m.-1%:R ^+ (n - i) * x ^+ i *+ 'C(n, i))); last first.
  by rewrite ler_addr sumr_ge0 // => i _; rewrite mulrn_wge0 // mulr_ge0 ?exprn_ge0 ?ler0n.
rewrite natr_sum mulr_suml !big_nat; apply: ler_sum => j /andP[le_kj _].
rewrite natrM natrX -mulrA mulr_natl ler_muln2r; apply/orP; right.
by rewrite ler_wpmul2l ?exprn_ge0 ?ler0n // ler_weexpn2l.
Qed.

(* The rate: at thresholds above (1/m + 1/w) n the tail is exponentially small. *)
Lemma tail_rate m w : (0 < m)%N -> (0 < w)%N -> exists2 delta : rat, 0 < delta &
  forall n k, (k <= n)%N -> ((w + m) * n <= k * (m * w))%N ->
    (\sum_(k <= j < n.+1) 'C(n, j) * m.-1 ^ (n - j))%N%:R * (1 + delta) ^+ n <= (m ^ n)%:R.
Proof.
move=> m_gt0 w_gt0.
pose t : rat := (2 * w)%:R^-1; pose s : rat := (2 * w + m)%:R^-1.
have t_gt0 : 0 < t by rewrite invr_gt0 ltr0n muln_gt0.
have s_gt0 : 0 < s by rewrite invr_gt0 ltr0n addn_gt0 muln_gt0 w_gt0.
have lt_st : s < t.
  by rewrite ltf_pinv ?posrE ?ltr0n ?addn_gt0 ?muln_gt0 ?w_gt0 // ltr_nat -{1}[(2 * w)%N]addn0 ltn_add2l.
have wm_gt0 : 0 < (w + m)%:R :> rat by rewrite ltr0n addn_gt0 w_gt0.
have [h h_gt0 hE] : exists2 h, 0 < h & h * (w + m)%:R = t.
  by exists (t / (w + m)%:R); rewrite ?divr_gt0 // divfK // gt_eqF.
pose z := 1 + h; pose x := z ^+ (m * w).
have z_ge1 : 1 <= z by rewrite ler_addl ltW.
have x_ge1 : 1 <= x by rewrite exprn_ege1.
have tE : 2%:R * w%:R * t = 1 by rewrite -natrM divff // pnatr_eq0 -lt0n muln_gt0.
have sE : (2%:R * w%:R + m%:R) * s = 1.
  by rewrite -natrM -natrD divff // pnatr_eq0 -lt0n addn_gt0 muln_gt0 w_gt0.
have sum_s : 1 + m%:R * s = 2%:R * (w + m)%:R * s.
  by rewrite -{1}sE -mulrDl -addrA -[m%:R + m%:R]mulr2n -[m%:R *+ 2]mulr_natl -mulrDr natrD.
have gap_s : (1 - h *+ (m * w)) * (1 + m%:R * s) = 1.
  rewrite mulrBl mul1r {2}sum_s -[h *+ (m * w)]mulr_natr natrM.
  have -> : h * (m%:R * w%:R) * (2%:R * (w + m)%:R * s) = 2%:R * w%:R * (h * (w + m)%:R) * (m%:R * s).
    rewrite [m%:R * w%:R]mulrC !mulrA; congr (_ * _); rewrite [RHS]mulrAC; congr (_ * _).
    by rewrite [LHS]mulrAC; congr (_ * _); rewrite mulrC [h * _]mulrC mulrA.
  by rewrite hE tE mul1r addrK.
have x_le : x <= 1 + m%:R * s.
  have s1_ge0 : 0 <= 1 + m%:R * s by rewrite addr_ge0 // mulr_ge0 ?ler0n // ltW.
  by have := ler_wpmul2r s1_ge0 (expr1D_inv (m * w) (ltW h_gt0)); rewrite -mulrA gap_s mulr1 mul1r.
have den_ge : 1 + t <= z ^+ (w + m).
  by rewrite -hE mulr_natr bernoulli // ltW.
exists ((1 + t) / (1 + s) - 1).
  by rewrite subr_gt0 ltr_pdivl_mulr ?mul1r ?ltr_add2l // ltr_paddr // ltW.
move=> n k le_kn big_k; rewrite addrC subrK expr_div_n mulrA ler_pdivr_mulr; last first.
  by rewrite exprn_gt0 // ltr_paddr // ltW.
set tail := (\sum_(_ <= j < _) _)%N.
apply: (@le_trans _ _ (tail%:R * x ^+ k)).
  rewrite ler_wpmul2l ?ler0n // /x -exprM; apply: (@le_trans _ _ ((z ^+ (w + m)) ^+ n)).
    by rewrite ler_expn2r ?nnegrE ?exprn_ge0 ?addr_ge0 // ltW.
  by rewrite -exprM ler_weexpn2l // [(_ * k)%N]mulnC.
apply: le_trans (tail_le x_ge1 m_gt0 le_kn) _; rewrite natrX -exprMn.
have x_ge0 : 0 <= x by apply: le_trans x_ge1.
rewrite ler_expn2r ?nnegrE ?mulr_ge0 ?addr_ge0 ?ler0n ?(ltW s_gt0) //.
apply: le_trans (ler_add (lexx _) x_le) _.
have pred1 : m.-1%:R + 1 = m%:R :> rat by rewrite -mulrSr prednK.
by rewrite addrA mulrDr mulr1 pred1.
Qed.

(* Of the thresholds k = 1..n, at most d / c have k c < d. *)
Lemma count_small_thresholds n c d : ((\sum_(1 <= k < n.+1) (k * c < d)) * c <= d)%N.
Proof.
elim: n => [|n IHn]; first by rewrite big_nil.
rewrite big_nat_recr //=; case: ltnP => [lt_d | _]; last by rewrite addn0.
apply: leq_trans (ltnW lt_d); rewrite leq_mul2r addn1 ltnS; apply/orP; right.
rewrite -[X in (_ <= X)%N]muln1 -[X in (_ <= X * _)%N](subn1 n.+1) -sum_nat_const_nat.
by apply: leq_sum => k _; case: ltnP.
Qed.

(* additive_limit, part 3 (ours): for fixed m the counting form tends to 1/m; whatever obeys it is
   within 1/v of 1/m of all pairs once there are enough bridges. *)
Theorem patterns_ceiling_vanishes m v : (0 < m)%N -> (0 < v)%N -> exists N, forall n, (N <= n)%N ->
  (m * v * patterns_ceiling 'C((n + m).-1, n) n m <= (m + v) * (n * m ^ n))%N.
Proof.
move=> m_gt0 v_gt0; pose w := (2 * v)%N; have w_gt0 : (0 < w)%N by rewrite muln_gt0.
have [delta delta_gt0 rate] := tail_rate m_gt0 w_gt0.
have [N poly] := poly_exp w m.-1 delta_gt0; exists N => n /poly poly_n.
pose tail k := (\sum_(k <= j < n.+1) 'C(n, j) * m.-1 ^ (n - j))%N.
have small k : (k <= n)%N -> ((w + m) * n <= k * (m * w))%N ->
    (w * ('C((n + m).-1, n) * tail k) <= m ^ n)%N.
  move=> le_kn /(rate _ _ le_kn) tail_small; rewrite -(ler_nat [numDomainType of rat]).
  apply: le_trans tail_small; rewrite mulnA mulnC natrM ler_wpmul2l ?ler0n //.
  apply: le_trans poly_n; rewrite ler_nat leq_mul2l -{1}(prednK m_gt0) addnS leq_bin_expn orbT //.
pose big k := (k * (m * w) < (w + m) * n)%N.
have term k : (1 <= k < n.+1)%N ->
    (m * w * minn (m ^ n) ('C((n + m).-1, n) * tail k) <= m * m ^ n + big k * (m * w) * m ^ n)%N.
  move=> /andP[_ le_kn]; rewrite /big; case: ltnP => [_ | big_k].
    by rewrite /= mul1n (leq_trans _ (leq_addl _ _)) // leq_mul2l geq_minl orbT.
  rewrite /= addn0 -mulnA leq_mul2l; apply/orP; right.
  by apply: leq_trans (small k le_kn big_k); rewrite leq_mul2l geq_minr orbT.
have total : (m * w * patterns_ceiling 'C((n + m).-1, n) n m
    <= \sum_(1 <= k < n.+1) (m * m ^ n + big k * (m * w) * m ^ n))%N.
  by rewrite /patterns_ceiling big_distrr !big_nat; apply: leq_sum => k; apply: term.
rewrite -(leq_pmul2l (isT : (0 < 2)%N)).
have -> : (2 * (m * v * patterns_ceiling 'C((n + m).-1, n) n m)
    = m * w * patterns_ceiling 'C((n + m).-1, n) n m)%N by rewrite !mulnA [(m * 2)%N]mulnC.
apply: leq_trans total _.
rewrite big_split sum_nat_const_nat subn1 /= -!big_distrl /=.
apply: leq_trans (leq_add (leqnn _) (leq_mul (count_small_thresholds n (m * w) ((w + m) * n)) (leqnn _))) _.
by rewrite /w; move: (m ^ n)%N => M; apply/eq_leq; ring.
Qed.

(* additive_limit, part 3 (ours): for fixed m no additive merge keeps an excess over 1/m as n grows. *)
Theorem additive_limit_vanishes m v : (0 < m)%N -> (0 < v)%N -> exists N,
  forall (R : realFieldType) (Y Z : finType) (a : Y -> Z -> R) (b : {ffun Y -> Z} -> Z -> R),
    #|Z| = m -> (N <= #|Y|)%N ->
  (m * v * (\sum_(q : {ffun Y -> Z}) \sum_(y : Y) correct a b y q)
     <= (m + v) * (#|Y| * #|Z| ^ #|Y|))%N.
Proof.
move=> m_gt0 v_gt0; have [N ceiling] := patterns_ceiling_vanishes m_gt0 v_gt0.
exists N => R Y Z a b Zm le_N; have := additive_limit_counting a b; rewrite Zm => le_total.
by apply: leq_trans (ceiling _ le_N); rewrite leq_mul2l le_total orbT.
Qed.

End Vanishing.

(* ---- Worked instances and counter-examples ---- *)

Section AllCorrect.
Variables Y Z : finType.

Lemma all_correct_beats (c : Y -> {ffun Y -> Z} -> bool) :
    (forall y q, c y q) -> (0 < #|Y|)%N -> (1 < #|Z|)%N ->
  ((3 * #|Z| + 1) * (#|Y| * #|Z| ^ #|Y|) < 4 * #|Z| * (\sum_(q : {ffun Y -> Z}) \sum_(y : Y) c y q))%N.
Proof.
move=> all_c Y_gt0 Z_gt1; have Z_gt0 := ltnW Z_gt1.
have -> : (\sum_(q : {ffun Y -> Z}) \sum_(y : Y) c y q = #|Y| * #|Z| ^ #|Y|)%N.
  rewrite -card_ffun mulnC -sum_nat_const; apply: eq_bigr => q _.
  by rewrite -sum1_card; apply: eq_bigr => y _; rewrite all_c.
by rewrite ltn_pmul2r ?muln_gt0 ?Y_gt0 ?expn_gt0 ?Z_gt0 // [ltnRHS]mulSnr ltn_add2l.
Qed.

End AllCorrect.

(* additive_limit needs two places: with one, the second adapter knows the answer. *)
Example additive_limit_one_place (R : realFieldType) (Y Z : finType) : #|Y| = 1%N -> (1 < #|Z|)%N ->
  exists (a : Y -> Z -> R) (b : {ffun Y -> Z} -> Z -> R),
    ((3 * #|Z| + 1) * (#|Y| * #|Z| ^ #|Y|)
       < 4 * #|Z| * (\sum_(q : {ffun Y -> Z}) \sum_(y : Y) correct a b y q))%N.
Proof.
move=> Y1 Z_gt1; have /card_gt0P[y0 _] : (0 < #|Y|)%N by rewrite Y1.
exists (fun _ _ => 0), (fun q z => (z == q y0)%:R); apply: all_correct_beats; rewrite ?Y1 // => y q.
have Y_le1 : (#|Y| <= 1)%N by rewrite Y1.
have -> : y = y0 by apply: (card_le1_eqP Y_le1).
by apply/correctP=> z /negPf zq; rewrite zq eqxx !add0r ltr01.
Qed.

(* additive_limit needs additive logits: a bilinear network, whose additive part is 0, answers every
   query from the sum of a pointer and a table. *)
Definition bilinear (R : realFieldType) n m (v : 'rV[R]_n * 'M[R]_(n, m)) (z : 'I_m) : R := (v.1 *m v.2) 0 z.

Example bilinear_network_composes (R : realFieldType) (n m : nat) :
    (0 < n)%N -> (1 < m)%N ->
  let U1 (y : 'I_n) : 'rV[R]_n * 'M[R]_(n, m) := (delta_mx 0 y, 0) in
  let U2 (q : {ffun 'I_n -> 'I_m}) : 'rV[R]_n * 'M[R]_(n, m) := (0, \matrix_(y, z) (z == q y)%:R) in
  (forall y q z, additive_part (@bilinear R n m) U1 U2 y q z = 0) /\
  ((3 * m + 1) * (n * m ^ n) < 4 * m * (\sum_(q : {ffun 'I_n -> 'I_m}) \sum_y
     correct_by 0 (fun y q => bilinear (U1 y + U2 q)%R) y q))%N.
Proof.
move=> n_gt0 m_gt1 U1 U2; split=> [y q z|].
  by rewrite /additive_part /bilinear /= mulmx0 !mul0mx mxE addr0 subrr.
have := all_correct_beats (c := correct_by 0 (fun y q => bilinear (U1 y + U2 q)%R)).
rewrite !card_ord; apply=> // y q; apply/correct_byP=> z /negPf zq.
by rewrite addr0 /bilinear /= addr0 add0r -rowE !mxE zq eqxx ltr01.
Qed.

(* The factor 2 of additive_limit_robust cannot be lowered: with margin just under 2 delta a
   perturbation of size delta of the zero logits answers everything. *)
Example margin_two_sharp (R : realFieldType) (Y Z : finType) (delta mu : R) :
    0 <= delta -> mu < 2%:R * delta -> (0 < #|Y|)%N -> (1 < #|Z|)%N ->
  exists2 I : Y -> {ffun Y -> Z} -> Z -> R, (forall y q z, `|I y q z| <= delta)
    & ((3 * #|Z| + 1) * (#|Y| * #|Z| ^ #|Y|)
        < 4 * #|Z| * (\sum_(q : {ffun Y -> Z}) \sum_(y : Y)
            correct_by mu (fun y q z => 0 + 0 + I y q z)%R y q))%N.
Proof.
move=> delta_ge0 mu_lt Y_gt0 Z_gt1; exists (fun y q z => if z == q y then delta else - delta).
  by move=> y q z; case: (z == q y); rewrite ?normrN ger0_norm.
apply: all_correct_beats => // y q; apply/correct_byP=> z /negPf zq.
by rewrite zq eqxx addr0 !add0r addrC ltr_subl_addr -mulr2n -mulr_natl.
Qed.

(* reaches asks for strict optima: among weak ones every pattern counts. *)
Example weak_patterns_unlimited (R : realFieldType) (Y Z : finType) :
  let a (y : Y) (z : Z) : R := 0 in let b (z : Z) : R := 0 in
  forall (g : {ffun Y -> Z}) y z, a y z + b z <= a y (g y) + b (g y).
Proof. by []. Qed.

(* Two bridges, two answers, rational logits: 7 of the 8 queries, the value of both ceilings. *)
Definition pair_logit1 (y z : bool) : rat := if ~~ y && z then 1 else 0.
Definition pair_logit2 (q : {ffun bool -> bool}) (z : bool) : rat :=
  match q false, q true with
  | true, false => if z then 0 else 1 / 2%:R
  | u, _ => if z == u then 2%:R else 0
  end.

Lemma sum_tables_bool (F : {ffun bool -> bool} -> nat) :
  (\sum_(q : {ffun bool -> bool}) F q = \sum_u \sum_v F [ffun y : bool => if y then v else u])%N.
Proof.
rewrite pair_big (reindex (fun p : bool * bool => [ffun y : bool => if y then p.2 else p.1])) //=.
exists (fun q => (q false, q true)) => [[u v] _ | q _]; first by rewrite !ffunE.
by apply/ffunP=> -[]; rewrite ffunE.
Qed.

Lemma correct_bool (Y : finType) (a : Y -> bool -> rat) b y (q : {ffun Y -> bool}) :
  correct a b y q = (a y (~~ q y) + b q (~~ q y) < a y (q y) + b q (q y)).
Proof.
apply/correctP/idP => [ok | lt z]; first by apply: ok; case: (q y).
by case: (q y) lt => lt; case: z.
Qed.

Example seven_of_eight :
  (\sum_(q : {ffun bool -> bool}) \sum_(y : bool) correct pair_logit1 pair_logit2 y q = 7)%N.
Proof.
rewrite sum_tables_bool !big_bool /= !correct_bool /pair_logit1 /pair_logit2 !ffunE.
by vm_compute.
Qed.

Example patterns_ceiling_2_2 : patterns_ceiling 'C(3, 2) 2 2 = 7%N.
Proof. by rewrite /patterns_ceiling unlock. Qed.

(* Three bridges, two answers: 20 of the 24 queries, the value of the counting form; the first form
   would allow 21. The second adapter moves the threshold between bridges 0, 1, 2 to the best place. *)
Local Notation three := (bool + unit)%type (only parsing).

Definition slope (y : three) : rat :=
  match y with inl false => 0 | inl true => 1 | inr _ => 2%:R end.
Definition threshold (q : {ffun three -> bool}) : rat :=
  match q (inl false), q (inl true), q (inr tt) with
  | false, false, true | true, false, true => 3%:R / 2%:R
  | false, true, true => 1 / 2%:R
  | true, true, _ => - 1
  | _, _, _ => 3%:R
  end.

Lemma sum_three (F : three -> nat) : (\sum_y F y = F (inl true) + F (inl false) + F (inr tt))%N.
Proof. by rewrite big_sumType big_bool (big_pred1 tt) //; case. Qed.

Lemma sum_tables_three (F : {ffun three -> bool} -> nat) :
  (\sum_(q : {ffun three -> bool}) F q = \sum_(u : bool) \sum_(v : bool) \sum_(w : bool)
     F [ffun y : three => match y with inl false => u | inl true => v | inr _ => w end])%N.
Proof.
under [RHS]eq_bigr do rewrite pair_big.
rewrite pair_big (reindex (fun p : bool * (bool * bool) => [ffun y : three =>
  match y with inl false => p.1 | inl true => p.2.1 | inr _ => p.2.2 end])) //=.
exists (fun q => (q (inl false), (q (inl true), q (inr tt)))) => [[u [v w]] _ | q _].
  by rewrite !ffunE.
by apply/ffunP=> -[[]|[]]; rewrite ffunE.
Qed.

Definition three_logit1 (y : three) (z : bool) : rat := if z then slope y else 0.
Definition three_logit2 (q : {ffun three -> bool}) (z : bool) : rat := if z then - threshold q else 0.

(* A table whose answers go up scores 3, every other one 2. *)
Lemma score_three (u v w : bool) :
  (\sum_(y : three) correct three_logit1 three_logit2 y
     [ffun y => match y with inl false => u | inl true => v | inr _ => w end]
   = 2 + ((u ==> v) && (v ==> w)))%N.
Proof.
rewrite sum_three !correct_bool /three_logit1 /three_logit2 /slope /threshold !ffunE.
by case: u; case: v; case: w.
Qed.

Example twenty_of_twenty_four :
  (\sum_(q : {ffun three -> bool}) \sum_(y : three) correct three_logit1 three_logit2 y q = 20)%N.
Proof.
rewrite sum_tables_three; under eq_bigr do under eq_bigr do under eq_bigr do rewrite score_three.
by rewrite !big_bool.
Qed.

Example patterns_ceiling_3_2 : patterns_ceiling 'C(4, 3) 3 2 = 20%N.
Proof. by rewrite /patterns_ceiling unlock. Qed.

(* At eight bridges and two answers the counting form is below the first. *)
Example counting_below_swap : (4 * 2 * patterns_ceiling 'C(9, 8) 8 2 < (3 * 2 + 1) * (8 * 2 ^ 8))%N.
Proof. by rewrite /patterns_ceiling unlock; vm_compute. Qed.
