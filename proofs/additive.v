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
   count_vectors Z k == the vectors of counts {ffun Z -> 'I_k.+1} that sum to k (facts.v)
   rights a b q    == the set of bridges that are answered right at table q
   table_weight mu q == the probability of table q when its values are independent, each of law mu
   complete_homogeneous mu k == the sum over multisets of k values of the products of their mu
   injective_tables Y Z == the tables that give every bridge another answer
   permuted s q    == the table q read in another order of its places
   monotones Y Z   == the tables in which a later place never has an earlier value
   step_pattern Y k == the table that gives one answer at the first k places, the other one elsewhere
   order_weight a q == the sum of a y (q y): what an order of a table's values weighs
   put (g, q)      == the table q with g in its places in S; restrict S q == its values there
   patterns_ceiling h n m == the right side of counting_mean for h hypotheses: the number of
                      (bridge, table) pairs that h patterns can answer
   moments_ceiling n m == the right side of additive_limit_moments
   additive_bounds n m total == all ceilings on the mean that are proved for additive merges hold of total
   additive_part net U1 U2 y q z == net(U1 y) + net(U2 q) - net(0), at answer z
   interaction net U1 U2 y q z   == what the network adds to that: the logits of the sum, less it
   affine_patterns k d M == \sum_(i <= d) 'C(k, i) * M ^ i: strict argmaxes on k bridges through d numbers
   wins w x z      == z is the strict argmax of the logits x w
   sees_numbers d f == the logits f are affine in d numbers of the table, up to a term that all values share
   averaged_logits == the logits of a merge that adds B's and A's before it multiplies them

   The counts run over all pairs (y, q): out of n * m ^ n. P <= 3/4 + 1/(4m) is written
   4 * m * total <= (3 * m + 1) * (n * m ^ n), in nat.

   Traps: a and b have different types of offsets (b takes the whole table, the offsets in reaches
   are those of ONE table); a query with a tie is never answered; #|Y|.-1 and (n + m).-1 are
   truncated at 0; 'C(n, k) is the binomial coefficient; correct_by 0 asks for a margin above 0.
   The premise 0 < #|Z| of additive_limit is harmless (without answers the total is 0), the premise
   1 < #|Y| is not: additive_limit_one_place. The first bound is sharp at n = 2
   (additive_limit_attained) and, m = 1 apart, nowhere else (additive_limit_lt): at n = 3, m = 2 it
   allows 21 of 24 where 20 is the most (twenty_of_twenty_four). *)
From mathcomp Require Import all_ssreflect fingroup perm all_algebra.
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
move=> uniq_gs reach; pose count g : {ffun Z -> 'I_#|Y|.+1} := [ffun z => inord #|[pred y | g y == z]|].
have countE g z : count g z = #|[pred y | g y == z]| :> nat by rewrite ffunE inordK // ltnS max_card.
have count_inj : {in gs &, injective count}.
  move=> g g' /reach[b best] /reach[b' best'] /ffunP same.
  by apply: reaches_counts_inj best best' _ => z; rewrite -!countE same.
rewrite -(card_uniqP uniq_gs) -(card_in_image count_inj); apply: leq_trans (card_count_vectors Z #|Y|).
apply/subset_leq_card/subsetP => _ /imageP[g _ ->]; rewrite inE (eq_bigr _ (fun z _ => countE g z)).
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

(* ---- Moments, tails and lightest orders ---- *)

(* The sum over thresholds k of the tail that the k-th moment leaves. *)
Definition moments_ceiling (n m : nat) : nat :=
  \sum_(1 <= k < n.+1) minn (m ^ n) ('C(n, k) * ('C((k + m).-1, k) * m ^ (n - k))).

Definition table_weight (R : realFieldType) (Y Z : finType) (mu : Z -> R) (q : {ffun Y -> Z}) : R := \prod_y mu (q y).
Definition complete_homogeneous (R : realFieldType) (Z : finType) (mu : Z -> R) (k : nat) : R :=
  \sum_(c : {ffun Z -> 'I_k.+1} | (\sum_z c z == k)%N) \prod_z mu z ^+ c z.

Definition injective_tables (Y Z : finType) := [set q : {ffun Y -> Z} | injectiveb q].

Section Moments.
Variables (R : realFieldType) (Y Z : finType) (a : Y -> Z -> R) (b : {ffun Y -> Z} -> Z -> R).
Implicit Types (y : Y) (z : Z) (q g : {ffun Y -> Z}) (S : {set Y}).

Definition rights q := [set y | correct a b y q].

Lemma card_rights q : (\sum_y correct a b y q)%N = #|rights q|.
Proof. by rewrite -sum1_card [RHS]big_mkcond; apply: eq_bigr => y _; rewrite inE; case: correct. Qed.

(* Two tables that are answered on all of S, with equal counts on S and equal values elsewhere, are
   one table: the argument of reaches_counts_inj, place by place of S. *)
Lemma rights_inj S q q' : S \subset rights q -> S \subset rights q' ->
    (forall y, y \notin S -> q y = q' y) ->
    (forall z, #|[pred y in S | q y == z]| = #|[pred y in S | q' y == z]|) -> q = q'.
Proof.
move=> /subsetP Sq /subsetP Sq' off counts.
pose on g := [ffun y : {y | y \in S} => g (val y)].
have reach g : {subset S <= rights g} -> reaches (fun y : {y | y \in S} => a (val y)) (b g) (on g).
  move=> Sg y z; rewrite ffunE => zg.
  by have := Sg _ (valP y); rewrite inE => /correctP; apply.
have countE g z : #|[pred y | on g y == z]| = #|[pred y in S | g y == z]|.
  rewrite -(card_image val_inj); apply: eq_card => y; apply/imageP/andP => [[y' y'z ->] | [Sy yz]].
    by rewrite (valP y'); move: y'z; rewrite inE ffunE.
  by exists (Sub y Sy); rewrite // inE ffunE SubK.
have /ffunP same : on q = on q'.
  by apply: reaches_counts_inj (reach _ Sq) (reach _ Sq') _ => z; rewrite !countE.
apply/ffunP => y; have [Sy | /off //] := boolP (y \in S).
by have := same (Sub y Sy); rewrite !ffunE SubK.
Qed.

Variable mu : Z -> R.
Hypothesis mu_ge0 : forall z, 0 <= mu z.

Lemma complete_homogeneous_ge0 k : 0 <= complete_homogeneous mu k.
Proof. by apply: sumr_ge0 => c _; apply: prodr_ge0 => z _; rewrite exprn_ge0. Qed.

(* The tables that are answered on all of S: their weight is at most that of the multisets on S. *)
Lemma moment_subset S :
  \sum_(q | S \subset rights q) table_weight mu q
    <= complete_homogeneous mu #|S| * (\sum_z mu z) ^+ (#|Y| - #|S|).
Proof.
set k := #|S|; have s_ge0 : 0 <= \sum_z mu z by apply: sumr_ge0.
have [S0 | [y0 Sy0]] := set_0Vmem S.
  rewrite /k S0 cards0 subn0 (_ : complete_homogeneous mu 0 = 1).
    rewrite mul1r -prodr_const bigA_distr_bigA /= big_mkcond; apply: ler_sum => q _.
    by rewrite sub0set.
  rewrite /complete_homogeneous (big_pred1 [ffun=> ord0]) ?big1 // => [z _|c]; first by rewrite ffunE.
  rewrite big1 => [|z _]; last by rewrite [c z]ord1.
  by apply/esym/eqP/ffunP => z; rewrite ffunE [c z]ord1.
have [z0 _ | Z0] := pickP Z; last first.
  by rewrite big_pred0 ?mulr_ge0 ?complete_homogeneous_ge0 ?exprn_ge0 // => q; have := Z0 (q y0).
pose count q z := #|[pred y in S | q y == z]|.
pose cnt q : {ffun Z -> 'I_k.+1} := [ffun z => inord (count q z)].
pose off q := [ffun y => if y \in S then z0 else q y].
have cntE q z : cnt q z = count q z :> nat.
  by rewrite ffunE inordK // ltnS; apply/subset_leq_card/subsetP => y /andP[].
have code_inj : {in [set q | S \subset rights q] &, injective (fun q => (cnt q, off q))}.
  move=> q q'; rewrite !inE => Sq Sq' [/ffunP cc' /ffunP oo'].
  apply: rights_inj Sq Sq' _ _ => [y /negbTE yS | z].
    by have := oo' y; rewrite !ffunE yS.
  by rewrite -/(count q z) -cntE cc' cntE.
pose F1 (c : {ffun Z -> 'I_k.+1}) := \prod_z mu z ^+ c z.
pose F2 (f : {ffun Y -> Z}) := \prod_(y | y \notin S) mu (f y).
pose F x := F1 x.1 * F2 x.2.
have F1_ge0 c : 0 <= F1 c by rewrite prodr_ge0 // => z _; rewrite exprn_ge0.
have F_ge0 x : 0 <= F x by apply: mulr_ge0 => //; apply: prodr_ge0.
have weightE q : table_weight mu q = F (cnt q, off q).
  rewrite /table_weight (bigID (mem S)) /= /F /F1 /F2 /=; congr (_ * _); last first.
    by apply: eq_bigr => y /negbTE yS; rewrite ffunE yS.
  rewrite (partition_big q xpredT) //=; apply: eq_bigr => z _; rewrite cntE -prodr_const.
  by apply: eq_bigr => y /andP[_ /eqP ->].
rewrite (eq_bigr _ (fun q _ => weightE q)) -(eq_bigl _ _ (fun q => in_set _ q)) -(big_imset _ code_inj) /=.
pose A := fun c : {ffun Z -> 'I_k.+1} => (\sum_z c z == k)%N.
pose B f := f \in pfamily z0 (fun y => y \notin S) (fun=> predT).
apply: (@le_trans _ _ (\sum_(x | A x.1 && B x.2) F x)).
  rewrite big_mkcond [X in _ <= X]big_mkcond; apply: ler_sum => x _.
  case: imsetP => [[q _ ->] | _]; last by case: ifP.
  rewrite /A /=; case: ifP => // /negbT; rewrite negb_and => /orP[] /negP[].
    rewrite (eq_bigr _ (fun z _ => cntE q z)) /k -sum1_card (partition_big q xpredT) //=.
    by apply/eqP/eq_bigr => z _; rewrite sum1_card.
  rewrite /B /=; apply/pfamilyP; split=> //; apply/subsetP => y; rewrite !inE ffunE.
  by case: ifP => [_ | /negbT yS _]; rewrite ?eqxx.
rewrite /F -(pair_big A B (fun c f => F1 c * F2 f)) /= /complete_homogeneous big_distrl /=.
apply: ler_sum => c _; rewrite -big_distrr /= ler_wpmul2l //.
rewrite -(big_distr_big_dep z0 (fun y => y \notin S) (fun=> predT) (fun=> mu)) /= prodr_const.
rewrite le_eqVlt; apply/orP; left; apply/eqP; congr (_ ^+ _).
by rewrite -(cardsC S) addKn; apply: eq_card => y; rewrite !inE.
Qed.

(* The k-th binomial moment counts the sets of k places that are all answered. *)
Lemma rights_moment k (w : {ffun Y -> Z} -> R) :
  \sum_(q : {ffun Y -> Z}) w q * ('C(#|rights q|, k))%:R
    = \sum_(S in [set S : {set Y} | #|S| == k]) \sum_(q | S \subset rights q) w q.
Proof.
rewrite (exchange_big_dep xpredT) //=; apply: eq_bigr => q _.
rewrite -cards_draws mulr_natr -sumr_const; apply: eq_bigl => S.
by rewrite !inE andbC.
Qed.

Lemma moments_weight k :
  \sum_(q : {ffun Y -> Z}) table_weight mu q * ('C(\sum_y correct a b y q, k))%:R
    <= ('C(#|Y|, k))%:R * (complete_homogeneous mu k * (\sum_z mu z) ^+ (#|Y| - k)).
Proof.
rewrite (eq_bigr (fun q => table_weight mu q * ('C(#|rights q|, k))%:R)) => [|q _]; last by rewrite card_rights.
rewrite rights_moment -card_draws mulr_natl -sumr_const; apply: ler_sum => S.
by rewrite inE => /eqP <-; apply: moment_subset.
Qed.

End Moments.

(* additive_limit, part 3, without uniformity (ours): let the values of the table be independent with
   any law mu; the k-th binomial moment of the number of bridges answered right is at most C(n, k)
   times the complete homogeneous polynomial of mu, 'C(k+m-1, k) / m^k where mu is uniform. *)
Theorem additive_moments_weighted (R : realFieldType) (Y Z : finType) (mu : Z -> R)
    (a : Y -> Z -> R) (b : {ffun Y -> Z} -> Z -> R) (k : nat) :
  (forall z, 0 <= mu z) -> \sum_z mu z = 1 ->
  \sum_(q : {ffun Y -> Z}) table_weight mu q * ('C(\sum_y correct a b y q, k))%:R
    <= ('C(#|Y|, k))%:R * complete_homogeneous mu k.
Proof. by move=> mu_ge0 mu1; have := moments_weight a b mu_ge0 k; rewrite mu1 expr1n mulr1. Qed.

Section MomentLimits.
Variables (R : realFieldType) (Y Z : finType) (a : Y -> Z -> R) (b : {ffun Y -> Z} -> Z -> R).
Implicit Types (q : {ffun Y -> Z}) (k t : nat).

(* additive_limit, part 3, the moments behind it (ours): on each k-subset of the bridges one table at
   most is answered for each multiset of k values, whatever the values elsewhere. *)
Theorem additive_moments k :
  (\sum_(q : {ffun Y -> Z}) 'C(\sum_y correct a b y q, k)
     <= 'C(#|Y|, k) * ('C((k + #|Z|).-1, k) * #|Z| ^ (#|Y| - k)))%N.
Proof.
pose one (z : Z) : R := 1; have := moments_weight a b (fun z => ler01 : 0 <= one z) k.
have -> : complete_homogeneous one k = #|count_vectors Z k|%:R.
  rewrite -sumr_const; apply: eq_big => [c | c _]; first by rewrite inE.
  by apply: big1 => z _; apply: expr1n.
rewrite (eq_bigr (fun q => ('C(\sum_y correct a b y q, k))%:R)) => [|q _]; last first.
  by rewrite (_ : table_weight one q = 1) ?mul1r //; apply: big1.
rewrite sumr_const -natr_sum -natrX -!natrM ler_nat => /leq_trans; apply.
by rewrite !leq_mul2l leq_mul2r card_count_vectors !orbT.
Qed.

(* additive_limit, part 3, in one world (ours): the k-th moment bounds for t or more right bridges, by
   Markov; k = t is the tail itself. *)
Theorem additive_moment_markov k t :
  ('C(t, k) * #|[set q : {ffun Y -> Z} | t <= \sum_y correct a b y q]|
     <= 'C(#|Y|, k) * ('C((k + #|Z|).-1, k) * #|Z| ^ (#|Y| - k)))%N.
Proof.
apply: leq_trans (additive_moments k); rewrite mulnC -sum_nat_const big_mkcond /=.
by apply: leq_sum => q _; rewrite inE; case: ifP => // le_t; apply: leq_bin2l.
Qed.

Lemma rights_le q : (\sum_y correct a b y q <= #|Y|)%N.
Proof. by rewrite card_rights max_card. Qed.

(* additive_limit, part 3 (standard): the mean is the sum of the tails, so that each threshold may take
   the best bound there is. *)
Theorem additive_mean_of_tails :
  (\sum_(q : {ffun Y -> Z}) \sum_y correct a b y q
     = \sum_(1 <= k < #|Y|.+1) #|[set q : {ffun Y -> Z} | k <= \sum_y correct a b y q]|)%N.
Proof.
rewrite (eq_bigr _ (fun q _ => sum_thresholds (rights_le q))) exchange_big /=.
apply: eq_bigr => k _; rewrite -sum1_card [RHS]big_mkcond /=.
by apply: eq_bigr => q _; rewrite inE; case: leqP.
Qed.

(* additive_limit, part 3, sharpened (ours): the mean from the moments; of order e / sqrt n for m >= n. *)
Theorem additive_limit_moments :
  (\sum_(q : {ffun Y -> Z}) \sum_y correct a b y q
     <= \sum_(1 <= k < #|Y|.+1)
          minn (#|Z| ^ #|Y|) ('C(#|Y|, k) * ('C((k + #|Z|).-1, k) * #|Z| ^ (#|Y| - k))))%N.
Proof.
rewrite additive_mean_of_tails; apply: leq_sum => k _; rewrite leq_min card_ffun_le /=.
by have := additive_moment_markov k k; rewrite binn mul1n.
Qed.

(* additive_limit, part 3, the step from moments to the mean (standard): C(., k+1) lies above its
   tangents, the one at j having slope C(j, k). *)
Theorem bin_tangent (j k x : nat) : ('C(j, k.+1) + x * 'C(j, k) <= 'C(x, k.+1) + j * 'C(j, k))%N.
Proof.
have [le_jx | /ltnW le_xj] := leqP j x.
  rewrite -(subnKC le_jx); elim: (x - j)%N => [|d IHd]; first by rewrite addn0.
  rewrite addnS binS mulSn addnCA [leqRHS]addnAC [leqRHS]addnC; apply: leq_add IHd.
  exact/leq_bin2l/leq_addr.
have rise d : ('C(x + d, k.+1) <= 'C(x, k.+1) + d * 'C(x + d, k))%N.
  elim: d => [|d IHd]; first by rewrite mul0n !addn0.
  rewrite {1}addnS binS mulSn [leqRHS]addnCA [X in (X <= _)%N]addnC; apply: leq_add.
    by apply: leq_bin2l; rewrite leq_add2l.
  by apply: leq_trans IHd _; rewrite leq_add2l leq_mul2l leq_bin2l ?leq_add2l ?orbT.
by rewrite -(subnKC le_xj) mulnDl [leqRHS]addnCA [X in (X <= _)%N]addnC leq_add2l rise.
Qed.

(* additive_limit, part 3 (ours): the mean from one moment, at any place j of its tangent. *)
Theorem additive_tangent j k :
  ('C(j, k) * (\sum_(q : {ffun Y -> Z}) \sum_y correct a b y q) + 'C(j, k.+1) * #|Z| ^ #|Y|
     <= 'C(#|Y|, k.+1) * ('C(k + #|Z|, k.+1) * #|Z| ^ (#|Y| - k.+1)) + j * 'C(j, k) * #|Z| ^ #|Y|)%N.
Proof.
have := additive_moments k.+1; rewrite addSn /= => moment.
rewrite -card_ffun ![(_ * #|_|)%N]mulnC -!sum_nat_const addnC big_distrr -big_split /=.
apply: leq_trans (leq_add moment (leqnn _)); rewrite -big_split; apply: leq_sum => q _ /=.
by rewrite [('C(j, k) * _)%N]mulnC bin_tangent.
Qed.

(* additive_limit, part 3, in one world (ours): k or more bridges are right with probability at most
   C(n+m-1, n) P[Bin(n, 1/m) >= k]. *)
Theorem additive_tail_counting k : (0 < k)%N ->
  (#|[set q : {ffun Y -> Z} | k <= \sum_y correct a b y q]|
     <= 'C((#|Y| + #|Z|).-1, #|Y|) * (\sum_(k <= j < #|Y|.+1) 'C(#|Y|, j) * #|Z|.-1 ^ (#|Y| - j)))%N.
Proof.
move=> k_gt0; have [G [_ cardG extends]] := additive_hypotheses a b.
apply: leq_trans (leq_mul cardG (leqnn _)); apply: leq_trans (counting_tail G k).
apply/subset_leq_card/subsetP => q; rewrite !inE => le_k; have [g Gg g_q] := extends q.
by rewrite -max_agree_ge //; apply: leq_trans le_k (correct_le_agree Gg g_q).
Qed.
End MomentLimits.

Section Orders.
Variables (R : realFieldType) (Y Z : finType) (a : Y -> Z -> R) (b : {ffun Y -> Z} -> Z -> R).
Implicit Types (y : Y) (z : Z) (q : {ffun Y -> Z}) (S : {set Y}) (k t : nat).

Definition permuted (s : {perm Y}) q : {ffun Y -> Z} := [ffun y => q (s y)].

Lemma count_permuted S (s : {perm Y}) q z : perm_on S s ->
  #|[pred y in S | permuted s q y == z]| = #|[pred y in S | q y == z]|.
Proof.
move=> on_S; rewrite -!sum1_card [RHS](reindex_inj (@perm_inj _ s)); apply: eq_bigl => y.
by rewrite !inE ffunE (perm_closed _ on_S).
Qed.

Lemma injective_subset S :
  (#|[set q in injective_tables Y Z | S \subset rights a b q]| * #|S|`! <= #|injective_tables Y Z|)%N.
Proof.
set A := [set q in _ | _]; rewrite -card_perm -[X in (_ * X)%N]cardsE -cardsX.
have move_inj : {in setX A [set s | perm_on S s] &, injective (fun x => permuted x.2 x.1)}.
  move=> [q s] [q' s']; rewrite !inE /= => /andP[/andP[/injectiveP q_inj Sq] on_s].
  move=> /andP[/andP[_ Sq'] on_s'] same.
  have off y : y \notin S -> q y = q' y.
    by move=> yS; have /ffunP/(_ y) := same; rewrite !ffunE !(out_perm _ yS) //.
  have eq_q : q = q'.
    apply: rights_inj Sq Sq' off _ => z.
    by rewrite -(count_permuted q z on_s) -(count_permuted q' z on_s') same.
  congr (_, _) => //; apply/permP => y; apply: q_inj.
  by have /ffunP/(_ y) := same; rewrite !ffunE eq_q.
rewrite -(card_in_imset move_inj); apply/subset_leq_card/subsetP => _ /imsetP[[q s] + ->] /=.
rewrite !inE => /andP[/andP[/injectiveP q_inj _] _]; apply/injectiveP => y y'.
by rewrite !ffunE => /q_inj/perm_inj.
Qed.

(* additive_limit, part 3, for tables that give every bridge another answer, permutations if n = m
   (ours): E C(K, k) <= C(n, k) / k!. Of the k! orders of the values on a k-subset one at most is
   answered there. *)
Theorem additive_moments_injective k :
  (\sum_(q in injective_tables Y Z) 'C(\sum_y correct a b y q, k) * k`!
     <= 'C(#|Y|, k) * #|injective_tables Y Z|)%N.
Proof.
rewrite -big_distrl /=.
have -> : (\sum_(q in injective_tables Y Z) 'C(\sum_y correct a b y q, k)
    = \sum_(S in [set S : {set Y} | #|S| == k]) #|[set q in injective_tables Y Z | S \subset rights a b q]|)%N.
  under [RHS]eq_bigr do rewrite -sum1_card.
  rewrite (exchange_big_dep (mem (injective_tables Y Z))) /= => [|S q _]; last by rewrite inE => /andP[].
  apply: eq_bigr => q inj_q; rewrite card_rights -cards_draws -sum1_card; apply: eq_bigl => S.
  by rewrite !inE in inj_q *; rewrite inj_q andbC.
rewrite big_distrl -card_draws -sum_nat_const /=; apply: leq_sum => S; rewrite inE => /eqP <-.
exact: injective_subset.
Qed.

(* The weight of an order of the answers, and the lightest one. *)
Definition order_weight q : R := \sum_y a y (q y).


Lemma swapE y1 y2 q : swap y1 y2 q = permuted (tperm y1 y2) q.
Proof.
apply/ffunP => y; rewrite [RHS]ffunE.
case: tpermP => [-> | -> | /eqP/negbTE y1' /eqP/negbTE y2']; rewrite ?swapL ?swapR //.
by rewrite ffunE y1' y2'.
Qed.

Lemma count_swap y1 y2 q z : #|[pred y | swap y1 y2 q y == z]| = #|[pred y | q y == z]|.
Proof.
rewrite -!sum1_card [RHS](reindex_inj (@perm_inj _ (tperm y1 y2))); apply: eq_bigl => y.
by rewrite !inE swapE ffunE.
Qed.

(* Where two places with different answers are right, exchanging the answers makes a lighter order. *)
Lemma swap_lighter y1 y2 q : q y1 != q y2 -> correct a b y1 q -> correct a b y2 q ->
  order_weight (swap y1 y2 q) < order_weight q.
Proof.
move=> q12 ok1 ok2; have y21 : y2 != y1 by apply: contraNneq q12 => ->.
rewrite /order_weight (bigD1 y1) //= (bigD1 y2) //= [X in _ < X](bigD1 y1) //= [X in _ < _ + X](bigD1 y2) //=.
rewrite !addrA swapL swapR; apply: ltr_le_add; first exact: correct_exchange ok1 ok2.
by rewrite le_eqVlt; apply/orP; left; apply/eqP/eq_bigr => y /andP[/negbTE y1' /negbTE y2']; rewrite ffunE y1' y2'.
Qed.


(* A table with given counts. *)
Lemma table_of_counts t (c : {ffun Z -> 'I_t.+1}) : (\sum_z c z = #|Y|)%N ->
  exists q, forall z, #|[pred y | q y == z]| = c z.
Proof.
move=> c_n; pose s := flatten [seq nseq (c z) z | z <- enum Z].
have size_s : size s == #|Y|.
  rewrite size_flatten sumnE /shape -map_comp big_map big_enum /= -c_n; apply/eqP/eq_bigr => z _ /=.
  by rewrite size_nseq.
exists [ffun y => tnth (Tuple size_s) (enum_rank y)] => z.
rewrite -sum1_card (reindex (@enum_val Y xpredT)) /=; last exact/onW_bij/enum_val_bij.
have -> : c z = count (pred1 z) s :> nat.
  rewrite count_flatten sumnE big_map big_map big_enum /= (bigD1 z) //= count_nseq /= eqxx mul1n.
  by rewrite big1 ?addn0 // => z' /negbTE z'z; rewrite count_nseq /= z'z.
rewrite -sum1_count -[s]/(tval (Tuple size_s)) big_tuple; apply: eq_bigl => i.
by rewrite !inE ffunE enum_valK.
Qed.


(* Of the orders of a multiset of answers the lightest is answered at copies of one value alone. *)
Lemma lightest_rights t q : (forall z, #|[pred y | q y == z]| <= t)%N ->
    (forall q', (forall z, #|[pred y | q' y == z]| = #|[pred y | q y == z]|) -> order_weight q <= order_weight q') ->
  (#|rights a b q| <= t)%N.
Proof.
move=> few lightest; have [-> | [y0]] := set_0Vmem (rights a b q); first by rewrite cards0.
rewrite inE => ok0; apply: leq_trans (few (q y0)); apply/subset_leq_card/subsetP => y.
rewrite !inE => ok; apply: contraT => q_y.
by have := swap_lighter q_y ok ok0; rewrite ltNge lightest // => z; apply: count_swap.
Qed.

(* additive_limit, part 1, the reason beyond n = 2 (ours): at most m^n tables, less one for each
   multiset of n values none of which occurs more than t times, have more than t right bridges. *)
Theorem additive_lightest_order t :
  (#|[set q : {ffun Y -> Z} | t < \sum_y correct a b y q]|
     + #|[set c : {ffun Z -> 'I_t.+1} | \sum_z c z == #|Y|]| <= #|Z| ^ #|Y|)%N.
Proof.
set K := [set q | _]; set C := [set c | _].
have order_of (c : {c | c \in C}) : exists q,
    (forall z, #|[pred y | q y == z]| = val c z) /\ (#|rights a b q| <= t)%N.
  have /[!inE]/eqP/table_of_counts[q0 q0_c] := valP c.
  pose like q := [forall z, #|[pred y | q y == z]| == val c z].
  have like0 : like q0 by apply/forallP => z; rewrite q0_c.
  have [q /forallP q_c lightest] : exists2 q, like q & forall q', like q' -> order_weight q <= order_weight q'.
    by exists [arg min_(q < q0 | like q) order_weight q]%O; case: arg_minP.
  exists q; split=> [z | ]; first exact/eqP/q_c.
  apply: lightest_rights => [z | q' same]; first by rewrite (eqP (q_c z)) -ltnS.
  by apply/lightest/forallP => z; rewrite same.
have [order orderP] := fin_all_exists order_of.
have order_inj : injective order.
  move=> c c' cc'; apply/val_inj/ffunP => z; apply: val_inj.
  by rewrite /= -(orderP c).1 cc' (orderP c').1.
have <- : #|codom order| = #|C| by rewrite (card_codom order_inj) card_sig; apply: eq_card => c; rewrite !inE.
rewrite -card_ffun -[#|codom order|]cardsE -cardsUI (_ : K :&: _ = set0) ?cards0 ?addn0 ?max_card //.
apply/setP => q; rewrite !inE; apply/negP => /andP[lt_t /codomP[c qE]].
by move: lt_t; rewrite card_rights ltnNge qE (orderP c).2.
Qed.

(* additive_limit, part 1 (ours): the same at t = 1: each of the C(m, n) sets of n different values has
   an order in which one bridge at most is right. *)
Theorem additive_lightest_distinct : 
  (#|[set q : {ffun Y -> Z} | 1 < \sum_y correct a b y q]| + 'C(#|Z|, #|Y|) <= #|Z| ^ #|Y|)%N.
Proof.
apply: leq_trans (additive_lightest_order 1); rewrite leq_add2l -card_draws.
pose count (A : {set Z}) : {ffun Z -> 'I_2} := [ffun z => inord (z \in A)].
have countE A z : count A z = (z \in A) :> nat by rewrite ffunE inordK // ltnS leq_b1.
have count_inj : injective count.
  move=> A A' /ffunP same; apply/setP => z; have := congr1 val (same z).
  by rewrite /= !countE; do 2!case: (z \in _).
rewrite -(card_imset _ count_inj); apply/subset_leq_card/subsetP => _ /imsetP[A + ->].
rewrite !inE => /eqP <-; rewrite -sum1_card [X in _ == X]big_mkcond; apply/eqP/eq_bigr => z _.
by rewrite countE; case: (z \in A).
Qed.

End Orders.

Section Subsets.
Variables (R : realFieldType) (Y Z : finType) (a : Y -> Z -> R) (b : {ffun Y -> Z} -> Z -> R).
Implicit Types (y : Y) (z : Z) (q : {ffun Y -> Z}) (S : {set Y}).

(* Each place of Y lies in 'C(n - 1, j - 1) of the sets of j places. *)
Lemma sum_draws j (F : Y -> nat) : (0 < j)%N ->
  (\sum_(S in [set S : {set Y} | #|S| == j]) \sum_(y in S) F y = 'C(#|Y|.-1, j.-1) * \sum_y F y)%N.
Proof.
move=> j_gt0; rewrite (exchange_big_dep xpredT) //= big_distrr; apply: eq_bigr => y _ /=.
rewrite sum_nat_const; congr (_ * _)%N; rewrite -(cardsC1 y) -cards_draws.
pose without (S : {set Y}) := S :\ y.
have without_inj : {in [pred S : {set Y} | (S \in [set S : {set Y} | #|S| == j]) && (y \in S)] &, injective without}.
  by move=> S S'; rewrite !inE => /andP[_ Sy] /andP[_ Sy'] SS'; rewrite -(setD1K Sy) -(setD1K Sy') -/(without S) SS'.
rewrite -(card_in_image without_inj); apply: eq_card => S; apply/imageP/idP => [[S' + ->] | ].
  rewrite !inE => /andP[/eqP <- Sy]; rewrite (cardsD1 y S') Sy eqxx andbT.
  by apply/subsetP => y'; rewrite !inE => /andP[].
rewrite !inE => /andP[/subsetP sub /eqP cardS].
have yS : y \notin S by apply/negP => /sub; rewrite !inE eqxx.
exists (y |: S); last by rewrite /without setU1K.
by rewrite !inE eqxx cardsU1 yS cardS add1n prednK ?eqxx.
Qed.

Section Places.
Variable S : {set Y}.
Local Notation part := {y | y \in S}.

(* The table q with g on S. *)
Definition put (x : {ffun part -> Z} * {ffun Y -> Z}) : {ffun Y -> Z} :=
  [ffun y => if insub y is Some y' then x.1 y' else x.2 y].
Definition restrict q : {ffun part -> Z} := [ffun y => q (val y)].

Lemma put_val x (y : part) : put x (val y) = x.1 y.
Proof. by rewrite ffunE valK. Qed.

Lemma exchangeK : involutive (fun x => (restrict x.2, put x)).
Proof.
move=> [g q]; congr (_, _); apply/ffunP => y; first by rewrite ffunE /= put_val.
by rewrite ffunE /=; case: insubP => [y' _ <- | yS]; rewrite ffunE //= insubN.
Qed.

Lemma sum_put (F : {ffun Y -> Z} -> nat) :
  (\sum_q \sum_g F (put (g, q)) = #|Z| ^ #|S| * \sum_q F q)%N.
Proof.
transitivity (\sum_(x : {ffun part -> Z} * {ffun Y -> Z}) F x.2)%N; last first.
  rewrite -(pair_big xpredT xpredT (fun (g : {ffun part -> Z}) q => F q)) /= sum_nat_const.
  by rewrite card_ffun card_sig; congr (_ ^ _ * _)%N; apply: eq_card => y; rewrite !inE.
rewrite (reindex_inj (inv_inj exchangeK)) exchange_big pair_big /=.
by apply: eq_bigr => -[].
Qed.

End Places.

(* Additive logits restricted to the places of S, the table elsewhere being fixed, are additive. *)
Lemma correct_put S q (g : {ffun {y | y \in S} -> Z}) (i : {y | y \in S}) :
  correct a b (val i) (put (g, q)) = correct (fun i => a (val i)) (fun g => b (put (g, q))) i g.
Proof. by rewrite /correct put_val. Qed.

(* additive_limit, part 1 (ours): more bridges never raise the best share. A bound u / v on the share
   of every additive merge over j bridges holds for every n >= j bridges. *)
Theorem additive_limit_fewer_bridges (j u v : nat) : (0 < j <= #|Y|)%N ->
    (forall (Y' : finType) (a' : Y' -> Z -> R) (b' : {ffun Y' -> Z} -> Z -> R), #|Y'| = j ->
      (v * (\sum_(q : {ffun Y' -> Z}) \sum_y correct a' b' y q) <= u * (#|Y'| * #|Z| ^ #|Y'|))%N) ->
  (v * (\sum_(q : {ffun Y -> Z}) \sum_y correct a b y q) <= u * (#|Y| * #|Z| ^ #|Y|))%N.
Proof.
move=> /andP[j_gt0 le_jn] limit; have [Z0 | Z_gt0] := posnP #|Z|.
  rewrite big1 ?muln0 // => q _; have [y _] : exists y : Y, true.
    by have /card_gt0P[y _] := leq_trans j_gt0 le_jn; exists y.
  by have := card0_eq Z0 (q y).
have bin_gt0 : (0 < 'C(#|Y|.-1, j.-1))%N by rewrite bin_gt0 -ltnS !prednK // (leq_trans j_gt0).
have pow_gt0 : (0 < #|Z| ^ j)%N by rewrite expn_gt0 Z_gt0.
pose c S q := (\sum_(y in S) correct a b y q)%N.
have on_S S : #|S| = j -> (v * (\sum_q c S q) <= u * (j * #|Z| ^ #|Y|))%N.
  move=> cardS; rewrite -(leq_pmul2l pow_gt0) mulnCA -{1}cardS -sum_put.
  have cards : #|{: {y | y \in S}}| = j by rewrite card_sig -cardS; apply: eq_card => y; rewrite !inE.
  rewrite big_distrr /=.
  have -> : (#|Z| ^ j * (u * (j * #|Z| ^ #|Y|)) = #|Z| ^ #|Y| * (u * (j * #|Z| ^ j)))%N by ring.
  rewrite -card_ffun -sum_nat_const; apply: leq_sum => q _.
  have := limit _ (fun i : {y | y \in S} => a (val i)) (fun g => b (put (g, q))) cards; rewrite cards; apply: leq_trans.
  rewrite leq_mul2l; apply/orP; right; apply: leq_sum => g _; rewrite /c.
  rewrite (reindex_omap (val : {y | y \in S} -> Y) insub) => [|y Sy]; last by rewrite insubT.
  rewrite (eq_bigl xpredT) => [|i]; last by rewrite valK eqxx (valP i).
  by apply/eq_leq/eq_bigr => i _; rewrite correct_put.
rewrite -(leq_pmul2l bin_gt0) mulnCA big_distrr /=.
rewrite (eq_bigr _ (fun q _ => esym (sum_draws (fun y => correct a b y q) j_gt0))) exchange_big big_distrr /=.
have -> : ('C(#|Y|.-1, j.-1) * (u * (#|Y| * #|Z| ^ #|Y|)) = 'C(#|Y|, j) * (u * (j * #|Z| ^ #|Y|)))%N.
  have := mul_bin_diag #|Y| j.-1; rewrite (prednK j_gt0) => diag.
  transitivity ((#|Y| * 'C(#|Y|.-1, j.-1)) * (u * #|Z| ^ #|Y|))%N; first by ring.
  by rewrite diag; ring.
rewrite -card_draws -sum_nat_const; apply: leq_sum => S; rewrite inE => /eqP.
exact: on_S.
Qed.

End Subsets.

Section Three.
Variables (R : realFieldType) (Y Z : finType).
Implicit Types (a : Y -> Z -> R) (b : {ffun Y -> Z} -> Z -> R).

Lemma bin_three m : ('C(m.+2, 3) = 'C(m, 3) + m ^ 2)%N.
Proof.
have bin2 : (2 * 'C(m, 2) + m = m ^ 2)%N.
  case: m => // m; have := mul_bin_diag m.+1 1; rewrite bin1 => <-.
  by rewrite -[X in (_ + X)%N]muln1 -mulnDr addn1.
by rewrite !binS bin1 -bin2; ring.
Qed.

Lemma bound_three m : (3 * m * (2 * m ^ 3 + m ^ 2) = (2 * m + 1) * (3 * m ^ 3))%N.
Proof.
rewrite [RHS]mulnCA -mulnA; congr (_ * _)%N.
by rewrite mulnDl mulnDr mul1n -[in RHS]mulnA mulnCA -!expnS.
Qed.

(* additive_limit, part 1, three bridges or more (ours): at most 2/3 + 1/(3m), from the two moments at
   n = 3 and the lightest orders. *)
Theorem additive_limit_three a b :
  (2 < #|Y|)%N ->
  (3 * #|Z| * (\sum_(q : {ffun Y -> Z}) \sum_y correct a b y q)
     <= (2 * #|Z| + 1) * (#|Y| * #|Z| ^ #|Y|))%N.
Proof.
move=> Y_gt2; apply: (@additive_limit_fewer_bridges _ _ _ a b 3) => // {}Y' {}a {}b Y3.
have two := additive_lightest_distinct a b; have three := additive_moment_markov a b 3 3.
rewrite Y3 !binn !mul1n subnn muln1 bin_three in two three.
have total : (\sum_(q : {ffun Y' -> Z}) \sum_y correct a b y q <= 2 * #|Z| ^ 3 + #|Z| ^ 2)%N.
  rewrite additive_mean_of_tails Y3; do 3!rewrite big_ltn //; rewrite big_geq // addn0.
  rewrite mul2n -addnn -addnA; apply: leq_add; first by rewrite -Y3 card_ffun_le.
  rewrite -(leq_add2r 'C(#|Z|, 3)) addnAC; apply: leq_trans (leq_add two three) _.
  by rewrite [('C(_, _) + _)%N]addnC addnA.
rewrite Y3; move: (\sum_q _)%N #|Z| total => N m total.
apply: leq_trans (_ : 3 * m * (2 * m ^ 3 + m ^ 2) <= _)%N; first by rewrite leq_mul2l total orbT.
by rewrite bound_three.
Qed.

End Three.

(* ---- Networks, norms and weighted merges ---- *)

(* What is proved of the number of (bridge, table) pairs that an additive merge answers. *)
Definition additive_bounds (n m total : nat) : Prop :=
  [/\ (1 < n)%N -> (4 * m * total <= (3 * m + 1) * (n * m ^ n))%N,
      (2 < n)%N -> (3 * m * total <= (2 * m + 1) * (n * m ^ n))%N,
      (total <= patterns_ceiling 'C((n + m).-1, n) n m)%N,
      (total <= moments_ceiling n m)%N
    & forall j k, ('C(j, k) * total + 'C(j, k.+1) * m ^ n
        <= 'C(n, k.+1) * ('C(k + m, k.+1) * m ^ (n - k.+1)) + j * 'C(j, k) * m ^ n)%N].

Section Networks.
Variables (R : realFieldType) (Y Z : finType).
Implicit Types (y : Y) (z : Z) (q : {ffun Y -> Z}) (a : Y -> Z -> R).

(* Credit that implies an additive answer obeys every ceiling. *)
Lemma additive_ceilings (c : Y -> {ffun Y -> Z} -> bool) a (b : {ffun Y -> Z} -> Z -> R) :
    (forall y q, c y q -> correct a b y q) ->
  additive_bounds #|Y| #|Z| (\sum_(q : {ffun Y -> Z}) \sum_(y : Y) c y q).
Proof.
move=> c_ok; have le_total := leq_sum_credit c_ok.
split=> [Y_gt1 | Y_gt2 | | | j k].
- have [-> // | Z_gt0] := posnP #|Z|.
  exact: leq_trans (leq_mul (leqnn _) le_total) (additive_limit a b Y_gt1 Z_gt0).
- exact: leq_trans (leq_mul (leqnn _) le_total) (additive_limit_three a b Y_gt2).
- exact: leq_trans le_total (additive_limit_counting a b).
- exact: leq_trans le_total (additive_limit_moments a b).
by apply: leq_trans (additive_tangent a b j k); rewrite leq_add2r leq_mul2l le_total orbT.
Qed.

(* additive_limit, what it covers (ours): sums with any weights (a mean has w1 = w2 = 1/2), any base
   logits, and a scale >= 0 that may depend on both adapters (a final RMSNorm): every ceiling holds. *)
Theorem weighted_merge_limit (base : Z -> R) (w1 w2 : R) (scale : Y -> {ffun Y -> Z} -> R)
    a (b : {ffun Y -> Z} -> Z -> R) :
    (forall y q, 0 <= scale y q) ->
  additive_bounds #|Y| #|Z| (\sum_(q : {ffun Y -> Z}) \sum_(y : Y)
    correct_by 0 (fun y q z => scale y q * (base z + w1 * a y z + w2 * b q z))%R y q).
Proof.
move=> scale_ge0.
apply: (additive_ceilings (a := fun y z => base z + w1 * a y z) (b := fun q z => w2 * b q z)).
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

(* additive_limit, part 4 (ours): in ANY network the additive part of the merged logits obeys every
   ceiling. V is the space of updates; nothing is assumed of net. *)
Theorem additive_part_limit :
  additive_bounds #|Y| #|Z| (\sum_(q : {ffun Y -> Z}) \sum_(y : Y) correct_by 0 additive_part y q).
Proof. exact: additive_ceilings correct_additive_part. Qed.

(* additive_limit, part 4 (ours): so do the queries that the merged network itself answers with a
   margin above twice a bound on the interaction AT that query. *)
Theorem network_margin_limit (delta : Y -> {ffun Y -> Z} -> R) :
    (forall y q z, `|interaction y q z| <= delta y q) ->
  additive_bounds #|Y| #|Z| (\sum_(q : {ffun Y -> Z}) \sum_(y : Y)
    correct_by (2%:R * delta y q) (fun y q => net (U1 y + U2 q)) y q).
Proof.
move=> small; apply: additive_ceilings => y q ok.
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

(* additive_limit, every ceiling for real matrices (ours), with a scale per query between the sum
   and the read-out (a final RMSNorm without bias; its gains are part of E). *)
Theorem linear_merge_counting (R : realFieldType) (d m n1 n2 : nat) (Y : finType)
    (E : 'M[R]_(m, d)) (h : 'cV[R]_d) (f1 : 'cV[R]_n1) (f2 : 'cV[R]_n2)
    (U1 : Y -> 'M[R]_(d, n1)) (U2 : {ffun Y -> 'I_m} -> 'M[R]_(d, n2))
    (scale : Y -> {ffun Y -> 'I_m} -> R) :
    (forall y q, 0 <= scale y q) ->
  additive_bounds #|Y| m (\sum_(q : {ffun Y -> 'I_m}) \sum_(y : Y)
    correct_by 0 (fun y q z => (E *m (scale y q *: (h + U1 y *m f1 + U2 q *m f2))) z ord0)%R y q).
Proof.
move=> scale_ge0.
have := weighted_merge_limit (fun z => (E *m h) z ord0) 1 1 (fun y z => (E *m (U1 y *m f1)) z ord0)
  (fun q z => (E *m (U2 q *m f2)) z ord0) scale_ge0.
rewrite card_ord; congr (additive_bounds _ _ _).
apply: eq_bigr => q _; apply: eq_bigr => y _; congr nat_of_bool; apply: eq_forallb => z.
by rewrite !mul1r -!scalemxAr !mulmxDr !mxE.
Qed.

Section SoftRouting.
Variables (R : realFieldType) (Y Z : finType).

(* additive_limit, what it covers (ours): a soft router on the last matrix, whose weights look at both
   adapters, is additive once multiplied by its denominator, which is positive. s0, s1, s2 are the
   exponentials of its scores of base, first and second adapter. *)
Theorem soft_routing_limit (base : Z -> R) (s0 : R)
    (s1 : Y -> R) (s2 : {ffun Y -> Z} -> R) (a : Y -> Z -> R) (b : {ffun Y -> Z} -> Z -> R) :
  0 <= s0 -> (forall y, 0 < s1 y) -> (forall q, 0 < s2 q) ->
  let w y q := (s0 + s1 y + s2 q)^-1 in
  additive_bounds #|Y| #|Z| (\sum_q \sum_y correct_by 0%R (fun y q z =>
       base z + s1 y * w y q * a y z + s2 q * w y q * b q z)%R y q)%N.
Proof.
move=> s0_ge0 s1_gt0 s2_gt0 w.
pose a' y z := s0 * base z + s1 y * (base z + a y z); pose b' q z := s2 q * (base z + b q z).
apply: (additive_ceilings (a := a') (b := b')) => y q /correct_byP ok.
apply/correctP => z zq; have := ok z zq; rewrite addr0.
have den_gt0 : 0 < s0 + s1 y + s2 q by rewrite addr_gt0 // ltr_paddl.
have mergedE z' : (s0 + s1 y + s2 q) * (base z' + s1 y * w y q * a y z' + s2 q * w y q * b q z')
    = a' y z' + b' q z'.
  have scaled u x : (s0 + s1 y + s2 q) * (u * w y q * x) = u * x.
    by rewrite mulrA [_ * (u * _)]mulrCA mulfV ?gt_eqF // mulr1.
  rewrite mulrDr mulrDr !scaled /a' /b' !mulrDl !mulrDr !addrA.
  by congr (_ + _); rewrite addrAC.
by rewrite -(ltr_pmul2l den_gt0) !mergedE.
Qed.

End SoftRouting.

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

Definition monotones := [set g : {ffun Y -> Z} |
  [forall y, forall y', (place y <= place y')%N ==> (place (g y) <= place (g y'))%N]].

Lemma monotonesP g : reflect (monotone g) (g \in monotones).
Proof.
rewrite inE; apply: (iffP forallP) => [mono y y' le_y | mono y].
  exact: (implyP (forallP (mono y) y') le_y).
by apply/forallP => y'; apply/implyP/mono.
Qed.

Lemma place_rank (T : finType) (x : T) : place x = enum_rank x :> nat.
Proof. by rewrite -{1}[x]enum_rankK (enum_val_nth x) /place index_uniq ?enum_uniq // -cardE. Qed.

Lemma card_monotones : ('C((#|Y| + #|Z|).-1, #|Y|) <= #|monotones|)%N.
Proof.
have [z0 _ | Z0] := pickP Z; last first.
  case Yn: #|Y| => [|n]; last by rewrite (eq_card0 Z0) addn0 bin_small.
  rewrite bin0 card_gt0; apply/set0Pn.
  have noY y : False by move: Yn; rewrite (cardD1 y).
  by exists [ffun y => False_rect Z (noY y)]; apply/monotonesP => y; have := noY y.
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
rewrite Zm addnS -card_sorted_tuples -(card_imset _ g_inj).
apply/subset_leq_card/subsetP => _ /imsetP[t + ->]; rewrite inE => sorted_t.
apply/monotonesP => y y'; rewrite !place_g !place_rank => le_yy'.
have := sorted_leq_nth leq_trans leqnn 0%N sorted_t (enum_rank y) (enum_rank y').
rewrite !inE size_map size_tuple !ltn_ord => /(_ isT isT le_yy').
by rewrite !(nth_map ord0) ?size_tuple // -!tnth_nth.
Qed.

(* additive_limit, part 2 (ours): sharp for all n and m. Logits that are products of the places of
   bridge and answer reach every monotone pattern, and there are C(n+m-1, n) of them. *)
Theorem additive_patterns_attained :
  exists gs : seq {ffun Y -> Z},
    [/\ uniq gs, forall g, g \in gs -> exists b, reaches products b g
      & size gs = 'C((#|Y| + #|Z|).-1, #|Y|)].
Proof.
exists (take 'C((#|Y| + #|Z|).-1, #|Y|) (enum monotones)); split=> [|g /mem_take|].
- exact/take_uniq/enum_uniq.
- by rewrite mem_enum => /monotonesP mono; exists (tariff g); apply: reaches_monotone.
by rewrite size_takel // -cardE card_monotones.
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

(* ---- What products of places score ---- *)

(* Bridges on which a table does not fall; the largest such set is a longest non-decreasing subsequence. *)
Definition rising (Y Z : finType) (q : {ffun Y -> Z}) (S : {set Y}) :=
  [forall y in S, forall y' in S, (place y <= place y')%N ==> (place (q y) <= place (q y'))%N].
Definition longest_rise (Y Z : finType) (q : {ffun Y -> Z}) : nat := \max_(S : {set Y} | rising q S) #|S|.

Section Rises.
Variables (R : realFieldType) (Y Z : finType).
Implicit Types (y : Y) (z : Z) (q : {ffun Y -> Z}) (S : {set Y}).

Lemma risingP q S : reflect {in S &, forall y y', (place y <= place y')%N -> (place (q y) <= place (q y'))%N}
  (rising q S).
Proof.
apply: (iffP forall_inP) => [rise y y' Sy Sy' | rise y Sy]; first exact/implyP/(forall_inP (rise y Sy)).
by apply/forall_inP => y' Sy'; apply/implyP/rise.
Qed.

(* What is right beside products of places does not fall: a fall would be heavier exchanged. *)
Lemma rights_rising (b : {ffun Y -> Z} -> Z -> R) q : rising q (rights (@products R Y Z) b q).
Proof.
apply/risingP => y y'; rewrite !inE => right right' le_y; rewrite leqNgt; apply/negP => fall.
have qN : q y != q y' by apply: contraTneq fall => ->; rewrite ltnn.
have := correct_exchange qN right right'; rewrite /products -!natrD ltr_nat; apply/negP; rewrite -leqNgt.
rewrite -!mulnA -!mulnDr leq_pmul2l //.
have [d ->] : exists d, place y' = (place y + d)%N by exists (place y' - place y)%N; rewrite subnKC.
have [e ->] : exists e, place (q y) = (place (q y') + e)%N by exists (place (q y) - place (q y'))%N; rewrite subnKC // ltnW.
by rewrite !mulnDl !mulnDr [leqRHS]addnCA leq_add2l leq_add2l leq_addr.
Qed.

(* A set on which the table does not fall lies in the agreement with a pattern that never falls. *)
Lemma rise_extends q S : rising q S -> exists2 g, g \in monotones Y Z & (#|S| <= agree g q)%N.
Proof.
move/risingP=> rise; have [-> | [s0 S0]] := set_0Vmem S.
  have [y0 _ | Y0] := pickP (mem Y); last by exists q; rewrite ?cards0 //; apply/monotonesP => y; have := Y0 y.
  by exists [ffun=> q y0]; rewrite ?cards0 //; apply/monotonesP => y y'; rewrite !ffunE.
pose top y := \max_(s in S | (place s <= place y)%N) place (q s).
have place_lt z : (place z < #|Z|)%N by rewrite cardE index_mem mem_enum.
have top_lt y : (top y < #|Z|)%N.
  rewrite -(prednK (leq_ltn_trans (leq0n _) (place_lt (q s0)))) ltnS; apply/bigmax_leqP => s _.
  by rewrite -ltnS (prednK (leq_ltn_trans (leq0n _) (place_lt (q s0)))) place_lt.
pose g : {ffun Y -> Z} := [ffun y => nth (q s0) (enum Z) (top y)].
have gE y : place (g y) = top y by rewrite ffunE /place index_uniq ?enum_uniq // -cardE.
exists g; first apply/monotonesP => y y' le_y.
  rewrite !gE; apply/bigmax_leqP => s /andP[Ss le_s].
  by apply: (leq_bigmax_cond (F := fun s => place (q s))); rewrite Ss (leq_trans le_s).
rewrite subset_leq_card //; apply/subsetP => y Sy; rewrite inE; apply/eqP/place_inj; rewrite gE.
apply/eqP; rewrite eqn_leq; apply/andP; split; first by apply/bigmax_leqP => s /andP[Ss]; apply: rise.
by apply: (leq_bigmax_cond (F := fun s => place (q s))); rewrite Sy leqnn.
Qed.

(* additive_limit, products of places (ours): over all tables they answer as much as the longest
   non-decreasing subsequences hold together, and no offsets beside them answer more. *)
Theorem additive_products_score :
  (forall b : {ffun Y -> Z} -> Z -> R,
     \sum_(q : {ffun Y -> Z}) \sum_y correct (@products R Y Z) b y q <= \sum_(q : {ffun Y -> Z}) longest_rise q)%N
  /\ exists b : {ffun Y -> Z} -> Z -> R,
     (\sum_(q : {ffun Y -> Z}) \sum_y correct (@products R Y Z) b y q = \sum_(q : {ffun Y -> Z}) longest_rise q)%N.
Proof.
have upper (b : {ffun Y -> Z} -> Z -> R) : (\sum_(q : {ffun Y -> Z}) \sum_y correct (@products R Y Z) b y q
    <= \sum_(q : {ffun Y -> Z}) longest_rise q)%N.
  apply: leq_sum => q _; rewrite card_rights.
  exact: (leq_bigmax_cond (F := fun S : {set Y} => #|S|) _ (rights_rising b q)).
split=> //; have [_ /(_ (monotones Y Z))[|b lower]] := additive_optimum_patterns (@products R Y Z).
  by move=> g /monotonesP mono; exists (tariff R g); apply: reaches_monotone.
exists b; apply/eqP; rewrite eqn_leq upper; apply: leq_trans lower; apply: leq_sum => q _.
apply/bigmax_leqP => S /rise_extends[g mono le_S]; apply: leq_trans le_S _.
exact: (leq_bigmax_cond (F := fun g => agree g q)).
Qed.

End Rises.

(* ---- Three bridges: attained ---- *)

Section AttainedThree.
Variables (R : realFieldType) (Y Z : finType).
Implicit Types (y : Y) (z : Z) (q g : {ffun Y -> Z}).

(* Two places in order are met by a monotone table. *)
Lemma monotone_pair q y y' : (place y < place y')%N -> (place (q y) <= place (q y'))%N ->
  exists2 g, g \in monotones Y Z & (1 < agree g q)%N.
Proof.
move=> lt_y le_q; exists [ffun x => if (place x <= place y)%N then q y else q y'].
  apply/monotonesP => x x' le_x; rewrite !ffunE.
  by case: (leqP (place x') _) => [le_x' | _]; rewrite ?(leq_trans le_x le_x') //; case: ifP.
have y'y : y' != y by apply: contraTneq lt_y => ->; rewrite ltnn.
rewrite /agree (cardsD1 y) inE ffunE leqnn eqxx (cardsD1 y') !inE y'y ffunE [(place y' <= _)%N]leqNgt lt_y eqxx.
by rewrite addnA leq_addr.
Qed.

Definition decreasing q := [forall y, forall y', (place y < place y')%N ==> (place (q y') < place (q y))%N].

Definition flip (y : Y) : Y := enum_val (rev_ord (enum_rank y)).
Lemma flip_inj : injective flip.
Proof. by move=> y y' /enum_val_inj/rev_ord_inj/enum_rank_inj. Qed.

Lemma flip_place y y' : (place y < place y')%N -> (place (flip y') < place (flip y))%N.
Proof.
rewrite !place_rank !enum_valK /= => lt_y; rewrite ltn_sub2l //.
exact: leq_ltn_trans lt_y (ltn_ord _).
Qed.

Lemma card_decreasing : (0 < #|Y|)%N -> (#|[set q | decreasing q]| <= 'C(#|Z|, #|Y|))%N.
Proof.
move=> Y_gt0; pose t := perm flip_inj.
have up q y y' : decreasing q -> (place y < place y')%N -> (place (permuted t q y) < place (permuted t q y'))%N.
  move=> /forallP dec lt_y; rewrite !ffunE !permE.
  by have /forallP/(_ (flip y))/implyP := dec (flip y'); apply; apply: flip_place.
have le_inj : (#|[set q | decreasing q]| * #|Y|`! <= #|injective_tables Y Z|)%N.
  have := additive_moments_injective (@products R Y Z) (fun q => tariff R q) #|Y|.
  rewrite binn mul1n => /(leq_trans _); apply; rewrite -sum_nat_const.
  have t_inj : injective (permuted t : {ffun Y -> Z} -> _).
    move=> q q' /ffunP same; apply/ffunP => y.
    by have := same (t^-1%g y); rewrite !ffunE permKV.
  rewrite -(big_imset (fun=> #|Y|`!) (h := permuted t) (in2W t_inj)) /= big_mkcond [leqRHS]big_mkcond.
  apply: leq_sum => g _; case: imsetP => // -[q]; rewrite inE => dec ->.
  have inj_q : permuted t q \in injective_tables Y Z.
    rewrite inE; apply/injectiveP => y y' same; apply/eqP; apply: contraT => yy'.
    have [lt_y | lt_y | /place_inj eq_y] := ltngtP (place y) (place y').
    - by have := up q _ _ dec lt_y; rewrite same ltnn.
    - by have := up q _ _ dec lt_y; rewrite same ltnn.
    by rewrite eq_y eqxx in yy'.
  have mono : monotone (permuted t q).
    move=> y y'; rewrite leq_eqVlt => /orP[/eqP/place_inj -> // | lt_y]; exact: ltnW (up q _ _ dec lt_y).
  rewrite inj_q -[X in (X <= _)%N]mul1n leq_mul2r; apply/orP; right.
  have -> : (\sum_y correct (@products R Y Z) (fun q => tariff R q) y (permuted t q) = #|Y|)%N.
    rewrite -sum1_card; apply: eq_bigr => y _.
    suff -> : correct (@products R Y Z) (fun q => tariff R q) y (permuted t q) by [].
    by apply/correctP => z; apply: reaches_monotone.
  by rewrite binn.
move: le_inj; rewrite card_inj_ffuns -bin_ffact leq_mul2r => /orP[|//].
by rewrite eqn0Ngt fact_gt0.
Qed.
(* additive_limit, the optimum at n = 3 (ours): 2/3 + 1/(3m) is attained for every m, by products of the
   places. A table with m values is met by a monotone one in one place, in two unless it falls from
   place to place, and in all if it never falls. *)
Theorem additive_limit_three_attained : #|Y| = 3%N ->
  exists (a : Y -> Z -> R) (b : {ffun Y -> Z} -> Z -> R),
    (3 * #|Z| * (\sum_(q : {ffun Y -> Z}) \sum_y correct a b y q)
       = (2 * #|Z| + 1) * (#|Y| * #|Z| ^ #|Y|))%N.
Proof.
move=> Y3; have reach g : g \in monotones Y Z -> exists c : Z -> R, reaches (@products R Y Z) c g.
  by move=> /monotonesP mono; exists (tariff R g); apply: reaches_monotone.
have [b enough] := (additive_optimum_patterns (@products R Y Z)).2 _ reach.
exists (@products R Y Z), b; apply/eqP; rewrite eqn_leq additive_limit_three ?Y3 //=.
have [y0 _] : exists y0 : Y, true by have /card_gt0P[y0 _] : (0 < #|Y|)%N; [rewrite Y3 | exists y0].
have least q : (1 + ~~ decreasing q + (q \in monotones Y Z) <= \max_(g in monotones Y Z) agree g q)%N.
  have [mono | _] := boolP (q \in monotones Y Z).
    apply: leq_trans (leq_bigmax_cond (F := fun g => agree g q) _ mono).
    have -> : agree q q = 3%N by rewrite /agree -Y3 -cardsT; apply: eq_card => y; rewrite !inE eqxx.
    by case: (~~ _).
  rewrite addn0; have [dec | ] := boolP (decreasing q).
    have mono : [ffun=> q y0] \in monotones Y Z by apply/monotonesP => y y' _; rewrite !ffunE.
    apply: leq_trans (leq_bigmax_cond (F := fun g => agree g q) _ mono).
    by rewrite card_gt0; apply/set0Pn; exists y0; rewrite inE ffunE eqxx.
  move=> /forallPn[y /forallPn[y']]; rewrite negb_imply -leqNgt => /andP[lt_y le_q].
  have [g mono two] := monotone_pair lt_y le_q.
  exact: leq_trans two (leq_bigmax_cond (F := fun g => agree g q) _ mono).
have from_least : (\sum_(q : {ffun Y -> Z}) (1 + ~~ decreasing q + (q \in monotones Y Z)) <= _)%N :=
  leq_trans (leq_sum _ (fun q _ => least q)) enough.
have sum_set (A : {set {ffun Y -> Z}}) : (\sum_q (q \in A) = #|A|)%N.
  by rewrite -sum1_card [RHS]big_mkcond; apply: eq_bigr => q _; case: (q \in A).
have dec_le : (#|[set q | decreasing q]| <= 'C(#|Z|, 3))%N by rewrite -Y3 card_decreasing ?Y3.
have mono_ge : ('C(#|Z|, 3) + #|Z| ^ 2 <= #|monotones Y Z|)%N.
  by rewrite -bin_three -[3%N]Y3 -[X in 'C(X, _)]/(3 + #|Z|).-1 -Y3 card_monotones.
have not_dec : (\sum_(q : {ffun Y -> Z}) ~~ decreasing q + #|[set q | decreasing q]| = #|Z| ^ 3)%N.
  rewrite -sum_set -big_split /= -Y3 -card_ffun -sum1_card; apply: eq_bigr => q _.
  by rewrite inE; case: decreasing.
move: from_least; rewrite !big_split /= sum1_card card_ffun Y3 sum_set.
move: (\sum_q _)%N #|[set q | _]| #|monotones Y Z| (\sum_q _)%N not_dec dec_le mono_ge.
move=> T d M D not_dec dec_le mono_ge from_least.
have total : (2 * #|Z| ^ 3 + #|Z| ^ 2 <= T)%N.
  rewrite -(leq_add2r d); apply: leq_trans (leq_add from_least (leqnn d)).
  rewrite [leqRHS]addnAC -[(_ + D + d)%N]addnA not_dec addnn -mul2n -addnA leq_add2l.
  by apply: leq_trans mono_ge; rewrite addnC leq_add2r.
rewrite -(bound_three #|Z|); rewrite leq_mul2l total orbT //.
Qed.

End AttainedThree.

(* ---- Two answers ---- *)

Section TwoValues.
Variables (R : realFieldType) (Y : finType).
Implicit Types (y : Y) (q g : {ffun Y -> bool}) (a : Y -> bool -> R) (b : {ffun Y -> bool} -> bool -> R).

(* The first k bridges get one answer, the others the other. *)
Definition step_pattern (k : nat) : {ffun Y -> bool} := [ffun y => (k <= enum_rank y)%N].

Lemma correct_bool a b y q :
  correct a b y q = (a y (~~ q y) + b q (~~ q y) < a y (q y) + b q (q y)).
Proof.
apply/correctP/idP => [ok | lt z]; first by apply: ok; case: (q y).
by case: (q y) lt => lt; case: z.
Qed.

(* An order of the bridges along which s never falls. *)
Lemma order_along (s : Y -> R) : exists t : {perm Y},
  forall y y', s y < s y' -> (enum_rank (t y) < enum_rank (t y'))%N.
Proof.
pose r := sort (fun y y' => s y <= s y') (enum Y).
have in_r y : y \in r by rewrite mem_sort mem_enum.
have size_r : size r = #|Y| by rewrite size_sort -cardE.
have lt_pos y : (index y r < #|Y|)%N by rewrite -size_r index_mem.
have pos_inj : injective (fun y => enum_val (Ordinal (lt_pos y))).
  move=> y y' /enum_val_inj[eq_pos]; by rewrite -(nth_index y (in_r y)) eq_pos nth_index.
exists (perm pos_inj) => y y' lt_s; rewrite !permE !enum_valK /= ltnNge; apply/negP.
rewrite leq_eqVlt => /orP[/eqP eq_pos | lt_pos'].
  by move: lt_s; rewrite -(nth_index y (in_r y)) -eq_pos nth_index ?ltxx.
have r_sorted : sorted (fun y y' => s y <= s y') r by apply: sort_sorted => x x'; apply: le_total.
have trans : transitive (fun y y' => s y <= s y') by move=> x x' x''; apply: le_trans.
by have := sorted_ltn_index trans r_sorted y' y (in_r y') (in_r y) lt_pos'; rewrite leNgt lt_s.
Qed.

Lemma agree_permuted (t : {perm Y}) g q : agree (permuted t g) (permuted t q) = agree g q.
Proof.
rewrite !agreeE [RHS](reindex_inj (@perm_inj _ t)).
by apply: eq_bigr => y _; rewrite !ffunE.
Qed.

Lemma permuted_inj (t : {perm Y}) : injective (fun q => permuted t q : {ffun Y -> bool}).
Proof.
move=> q q' /ffunP same; apply/ffunP => y.
by have := same (t^-1%g y); rewrite !ffunE permKV.
Qed.

(* additive_limit, the optimum at m = 2 (ours): no additive merge answers more than the best of n + 1
   thresholds along one order of the bridges, chosen per table. The agreement with threshold k is the
   number of bridges with the second answer plus a walk of n fair steps after k, so that the mean share
   is 1/2 + E[max S_k] / n. *)
Theorem additive_two_values a b :
  (\sum_(q : {ffun Y -> bool}) \sum_y correct a b y q
     <= \sum_(q : {ffun Y -> bool}) \max_(k < #|Y|.+1) agree (step_pattern k) q)%N.
Proof.
have [t order] := order_along (fun y => a y true - a y false).
rewrite [leqRHS](reindex_inj (@permuted_inj (t^-1)%g)); apply: leq_sum => q _.
pose theta := b q false - b q true.
have correctE y : correct a b y q = if q y then theta < a y true - a y false else a y true - a y false < theta.
  rewrite correct_bool /theta; case: (q y) => /=.
    by rewrite ltr_subl_addr addrAC ltr_subr_addr [b q false + _]addrC.
  by rewrite ltr_subr_addr addrAC ltr_subl_addr [b q false + _]addrC.
pose k := \max_(y | a y true - a y false < theta) (enum_rank (t y)).+1.
have lt_k : (k < #|Y|.+1)%N by rewrite ltnS; apply/bigmax_leqP => y _; apply: ltn_ord.
apply: leq_trans (leq_bigmax (Ordinal lt_k)); rewrite /= -(agree_permuted t) agreeE.
apply: leq_sum => y _; rewrite correctE !ffunE permK.
case: (q y).
  case above: (theta < _) => //; rewrite (_ : (k <= _)%N = true) //.
  by apply/bigmax_leqP => y' below; apply: order; apply: lt_trans below above.
case below: (_ < theta) => //; rewrite (_ : (k <= _)%N = false) //; apply/negbTE; rewrite -ltnNge.
exact: (leq_bigmax_cond (F := fun y => (enum_rank (t y)).+1)).
Qed.

(* How many of the first k bridges have the first answer, and the second: the walk is their difference. *)
Definition zeros q (k : nat) : nat := #|[pred y | (enum_rank y < k)%N && ~~ q y]|.
Definition ones q (k : nat) : nat := #|[pred y | (enum_rank y < k)%N && q y]|.

(* additive_limit, the optimum at m = 2 as a walk (ours): the best agreement with a threshold is the number
   of second answers and how high a walk rises, one up for the first answer and one down for the second.
   Over all tables the former is half of all pairs: 1/2 + E[max S_k] / n. *)
Theorem additive_two_values_walk :
  (2 * (\sum_(q : {ffun Y -> bool}) \max_(k < #|Y|.+1) agree (step_pattern k) q)
     = #|Y| * 2 ^ #|Y| + 2 * (\sum_(q : {ffun Y -> bool}) \max_(k < #|Y|.+1) (zeros q k - ones q k)))%N.
Proof.
have countE (P : pred Y) : #|[pred y | P y]| = (\sum_y P y)%N.
  by rewrite -sum1_card big_mkcond; apply: eq_bigr => y _; rewrite inE; case: (P y).
have agreeW q k : (agree (step_pattern k) q + ones q k = #|[pred y | q y]| + zeros q k)%N.
  have -> : zeros q k = (\sum_y ((enum_rank y < k) && ~~ q y))%N := countE _.
  have -> : ones q k = (\sum_y ((enum_rank y < k) && q y))%N := countE _.
  rewrite agreeE (countE q) -!big_split; apply: eq_bigr => y _.
  by rewrite ffunE leqNgt /=; case: (_ < k)%N; case: (q y).
have rise q : (\max_(k < #|Y|.+1) agree (step_pattern k) q
    = #|[pred y | q y]| + \max_(k < #|Y|.+1) (zeros q k - ones q k))%N.
  apply/eqP; rewrite eqn_leq; apply/andP; split.
    apply/bigmax_leqP => k _; rewrite -(leq_add2r (ones q k)) agreeW -addnA leq_add2l addnC -leq_subLR.
    exact: (leq_bigmax (F := fun k : 'I_#|Y|.+1 => (zeros q k - ones q k)%N)).
  have [|k ->] := @eq_bigmax [finType of 'I_#|Y|.+1] (fun k => zeros q k - ones q k)%N; first by rewrite card_ord.
  have at_most j : (agree (step_pattern (j : 'I_#|Y|.+1)) q <= \max_(k < #|Y|.+1) agree (step_pattern k) q)%N.
    exact: (leq_bigmax (F := fun k : 'I_#|Y|.+1 => agree (step_pattern k) q)).
  have [le_k | /ltnW/eqP->] := leqP (ones q k) (zeros q k).
    by apply: leq_trans (at_most k); rewrite -(leq_add2r (ones q k)) agreeW -addnA subnK.
  apply: leq_trans (at_most ord0); rewrite addn0 -(leq_add2r (ones q 0)) agreeW leq_add2l /ones /zeros.
  by apply/subset_leq_card/subsetP => y; rewrite !inE ltn0.
rewrite (eq_bigr _ (fun q _ => rise q)) big_split /= mulnDr; congr (_ + _)%N.
have := counting_single [ffun=> true : bool] => /= halfE.
rewrite (eq_bigr (fun q => agree [ffun=> true] q)) => [|q _].
  by rewrite halfE card_bool; case: #|Y| => [|n] //; rewrite expnS mulnCA.
by apply: eq_card => y; rewrite !inE ffunE eq_sym eqb_id.
Qed.

(* Slopes by rank, and the best threshold for each table. *)
Definition slopes (y : Y) (z : bool) : R := if z then (2 * enum_rank y)%:R else 0.

(* additive_limit, the optimum at m = 2 (ours): slopes by rank attain it. *)
Theorem additive_two_values_attained : exists b : {ffun Y -> bool} -> bool -> R,
  (\sum_(q : {ffun Y -> bool}) \max_(k < #|Y|.+1) agree (step_pattern k) q
     <= \sum_(q : {ffun Y -> bool}) \sum_y correct slopes b y q)%N.
Proof.
pose best q : 'I_#|Y|.+1 := [arg max_(k > ord0) agree (step_pattern k) q].
exists (fun q z => if z then 1 else (2 * best q)%:R); apply: leq_sum => q _.
have -> : (\max_(k < #|Y|.+1) agree (step_pattern k) q = agree (step_pattern (best q)) q)%N.
  exact: bigmax_eq_arg.
rewrite agreeE; apply: leq_sum => y _; rewrite ffunE correct_bool /slopes.
case: (q y) => /=; rewrite add0r -[1]/(1%:R) -natrD ltr_nat addn1.
  by rewrite ltnS leq_pmul2l // eqb_id.
by rewrite -add2n -mulnS leq_pmul2l // eqbF_neg -ltnNge.
Qed.

End TwoValues.

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

(* ---- merges that see the table through few numbers: averages of factors ---- *)

(* Patterns of strict argmaxes on k bridges through d numbers; M pairs of values. *)
Definition affine_patterns (k d M : nat) : nat := (\sum_(i < d.+1) 'C(k, i) * M ^ i)%N.

Lemma affine_patternsS k d M :
  affine_patterns k.+1 d.+1 M = (affine_patterns k d.+1 M + M * affine_patterns k d M)%N.
Proof.
rewrite /affine_patterns big_ord_recl [in RHS]big_ord_recl !bin0 -addnA; congr (_ + _)%N.
rewrite big_distrr -big_split; apply: eq_bigr => i _ /=; rewrite /bump add1n binS mulnDl expnS.
by congr (_ + _)%N; rewrite mulnCA.
Qed.

Lemma affine_patterns_gt0 k d M : (0 < affine_patterns k d M)%N.
Proof. by rewrite /affine_patterns big_ord_recl bin0. Qed.

Lemma affine_patterns0 k M : affine_patterns k 0 M = 1%N.
Proof. by rewrite /affine_patterns big_ord_recl big_ord0 bin0. Qed.

Definition pairs_below m : {set 'I_m * 'I_m} := [set p : 'I_m * 'I_m | (p.1 < p.2)%N].

Lemma card_pairs_below m : #|pairs_below m| = 'C(m, 2).
Proof.
rewrite -triangular_sum big_mkord -sum1_card.
rewrite (eq_bigl (fun p : 'I_m * 'I_m => (p.1 < p.2)%N)) => [|p]; last by rewrite inE.
rewrite -(pair_big_dep xpredT (fun i j : 'I_m => (i < j)%N) (fun _ _ => 1%N)) /= (exchange_big_dep xpredT) //=.
apply: eq_bigr => j _; rewrite -(big_ord_widen m (fun=> 1%N)) ?(ltnW (ltn_ord j)) //.
by rewrite sum1_card card_ord.
Qed.

(* A set of values has at most one more member than pairs. *)
Lemma card_le_pairs m (A : {set 'I_m}) :
  (#|A| <= (A != set0) + \sum_(p in pairs_below m) (p.1 \in A) && (p.2 \in A))%N.
Proof.
have [-> | [x Ax]] := set_0Vmem A; first by rewrite cards0.
have A0 : A != set0 by apply/set0Pn; exists x.
case: (arg_minnP (fun i : 'I_m => val i) Ax) => a Aa least; have {}Aa : a \in A by [].
rewrite A0 (cardsD1 a) Aa leq_add2l -(card_imset (mem (A :\ a)) (_ : injective (pair a))) => [|b c []//].
rewrite big_mkcond -sum1_card [leqLHS]big_mkcond /=; apply: leq_sum => p _.
case: imsetP => [[b /setD1P[ba Ab] ->] | _]; last by case: ifP.
have le_ab : (a <= b)%N := least b Ab.
have lt_ab : (a < b)%N by rewrite ltn_neqAle le_ab andbT eq_sym (inj_eq val_inj).
by rewrite inE /= lt_ab Aa Ab.
Qed.

Section AffinePatterns.
Variables (R : realFieldType) (e m : nat).
Implicit Types (x : 'rV[R]_e) (w : 'M[R]_(e, m)) (z : 'I_m).

(* z is the strict argmax of the logits x w *)
Definition wins w x z : bool := [forall z', (z' != z) ==> ((x *m w) 0 z' < (x *m w) 0 z)].

Lemma winsP w x z : reflect (forall z', z' != z -> (x *m w) 0 z' < (x *m w) 0 z) (wins w x z).
Proof. by apply: (iffP forallP) => win z'; [move=> zz; exact: implyP (win z') zz | apply/implyP/win]. Qed.

Lemma wins_between w x x' z s s' : 0 < s -> 0 < s' -> wins w x z -> wins w x' z -> wins w (s *: x + s' *: x') z.
Proof.
move=> s_gt0 s'_gt0 /winsP win /winsP win'; apply/winsP => z' zz; rewrite mulmxDl -!scalemxAl.
by rewrite mxE [in ltRHS]mxE; apply: ltr_add; rewrite mxE [in ltRHS]mxE ltr_pmul2l ?win ?win'.
Qed.

(* The patterns of strict argmaxes over k bridges, where x runs through a flat of dimension D: every bridge adds to
   each cell at most the cells of the hyperplanes on which two of its values tie. *)
Lemma card_cells k (ws : k.-tuple 'M[R]_(e, m)) D (V : 'M[R]_e) (x0 : 'rV[R]_e) (F : {set k.-tuple 'I_m}) :
    (\rank V <= D)%N ->
    (forall g, g \in F -> exists2 x, (x - x0 <= V)%MS & forall i, wins (tnth ws i) x (tnth g i)) ->
  (#|F| <= affine_patterns k D 'C(m, 2))%N.
Proof.
elim: k ws D V x0 F => [|k IH] ws D V x0 F rankV real.
  by apply: leq_trans (max_card _) _; rewrite card_tuple affine_patterns_gt0.
case/tupleP: ws real => w ws real.
pose A (t : k.-tuple 'I_m) := [set z | [tuple of z :: t] \in F].
have cardF : #|F| = (\sum_t #|A t|)%N.
  rewrite -sum1_card (reindex (fun p : k.-tuple 'I_m * 'I_m => [tuple of p.2 :: p.1])) /=; last first.
    exists (fun g : k.+1.-tuple 'I_m => ([tuple of behead g], thead g)) => [[t z] _ | g _] /=.
      by congr (_, _); apply: val_inj.
    by rewrite -tuple_eta.
  rewrite -(pair_big_dep xpredT (fun (t : k.-tuple 'I_m) z => [tuple of z :: t] \in F) (fun _ _ => 1%N)) /=.
  by apply: eq_bigr => t _; rewrite -sum1_card; apply: eq_bigl => z; rewrite inE.
pose T := [set t | A t != set0]; pose P (p : 'I_m * 'I_m) := [set t | (p.1 \in A t) && (p.2 \in A t)].
have split_F : (#|F| <= #|T| + \sum_(p in pairs_below m) #|P p|)%N.
  rewrite cardF; apply: leq_trans (leq_sum _ (fun t _ => card_le_pairs (A t))) _; rewrite big_split /=.
  apply: leq_add; first by rewrite -sum1_card [leqRHS]big_mkcond; apply: leq_sum => t _; rewrite inE; case: ifP.
  rewrite exchange_big /=; apply: leq_sum => p _.
  by rewrite -sum1_card [leqRHS]big_mkcond; apply: leq_sum => t _; rewrite [t \in P p]inE; case: ifP.
have tail (g : k.-tuple 'I_m) z : [tuple of z :: g] \in F ->
    exists x, [/\ (x - x0 <= V)%MS, wins w x z & forall i, wins (tnth ws i) x (tnth g i)].
  case/real => x xV win; exists x; split=> //; first by have := win ord0; rewrite !tnth0.
  by move=> i; have := win (lift ord0 i); rewrite !tnthS.
have cardT : (#|T| <= affine_patterns k D 'C(m, 2))%N.
  apply: (IH ws D V x0 T rankV) => t; rewrite inE => /set0Pn[z]; rewrite inE => /tail[x [xV _ win]].
  by exists x.
have addE (a b : 'M[R]_1) : (a + b) 0 0 = a 0 0 + b 0 0 by rewrite mxE.
have subE (a b : 'M[R]_1) : (a - b) 0 0 = a 0 0 - b 0 0 by rewrite !mxE.
have scaleE c (a : 'M[R]_1) : (c *: a) 0 0 = c * a 0 0 by rewrite mxE.
have gapE x a b : (x *m (col a w - col b w)) 0 0 = (x *m w) 0 a - (x *m w) 0 b.
  by rewrite mulmxBr !colE !mulmxA -!colE !mxE.
have cardP p : p \in pairs_below m -> (#|P p| <= if D is D'.+1 then affine_patterns k D' 'C(m, 2) else 0)%N.
  rewrite inE => lt_p; have [-> | [t0 Pt0]] := set_0Vmem (P p); first by rewrite cards0.
  pose u := col p.1 w - col p.2 w; have ne_p : p.1 != p.2 by rewrite -(inj_eq val_inj) neq_ltn lt_p.
  have ends t : t \in P p -> exists x x', [/\ (x - x0 <= V)%MS, (x' - x0 <= V)%MS,
      0 < (x *m u) 0 0 /\ (x' *m u) 0 0 < 0,
      forall i, wins (tnth ws i) x (tnth t i) & forall i, wins (tnth ws i) x' (tnth t i)].
    rewrite !inE => /andP[/tail[x [xV /winsP win1 wins1]] /tail[x' [x'V /winsP win2 wins2]]].
    exists x, x'; split=> //; rewrite /u !gapE subr_gt0 subr_lt0.
    by rewrite win1 1?eq_sym // win2.
  have meet t : t \in P p -> exists x, [/\ (x - x0 <= V)%MS, (x *m u) 0 0 = 0
      & forall i, wins (tnth ws i) x (tnth t i)].
    move=> /ends[x [x' [xV x'V [pos neg] win1 win2]]].
    have gap_gt0 : 0 < (x *m u) 0 0 - (x' *m u) 0 0 by rewrite subr_gt0 (lt_trans neg pos).
    pose s := - (x' *m u) 0 0 / ((x *m u) 0 0 - (x' *m u) 0 0).
    pose s' := (x *m u) 0 0 / ((x *m u) 0 0 - (x' *m u) 0 0).
    have ss : s + s' = 1 by rewrite /s /s' -mulrDl addrC divff // gt_eqF.
    exists (s *: x + s' *: x'); split.
    - have -> : s *: x + s' *: x' - x0 = s *: (x - x0) + s' *: (x' - x0).
        by rewrite !scalerBr addrACA -opprD -scalerDl ss scale1r.
      by apply: addmx_sub; apply: scalemx_sub.
    - rewrite mulmxDl -!scalemxAl addE !scaleE /s /s' mulrAC [X in _ + X]mulrAC -mulrDl.
      by rewrite mulNr mulrC addNr mul0r.
    - by move=> i; apply: wins_between; rewrite ?win1 ?win2 // divr_gt0 // oppr_gt0.
  have [x1 [x1V x1u _]] := meet _ Pt0.
  have rankV' : (\rank (V :&: kermx u)%MS < \rank V)%N.
    have [x [x' [xV x'V [pos neg] _ _]]] := ends _ Pt0.
    rewrite ltn_neqAle mxrankS ?capmxSl // andbT; apply/negP => /eqP same.
    have sub : (V <= kermx u)%MS.
      by apply: submx_trans (capmxSr V _); rewrite -(geq_leqif (mxrank_leqif_sup (capmxSl V _))) same.
    have : ((x - x0 - (x' - x0)) *m u == 0) by rewrite -sub_kermx (submx_trans _ sub) // addmx_sub ?eqmx_opp.
    rewrite opprB addrA subrK mulmxBl => /eqP/matrixP/(_ 0 0); rewrite subE [RHS]mxE => /eqP.
    by rewrite subr_eq0 => /eqP eq_gap; have := lt_trans neg pos; rewrite eq_gap ltxx.
  case: D rankV {cardT} => [|D'] rankV; first by move: rankV' rankV; rewrite leqn0 => /[swap] /eqP ->.
  apply: (IH ws D' (V :&: kermx u)%MS x1 (P p)); first by rewrite -ltnS (leq_trans rankV').
  move=> t /meet[x [xV xu win]]; exists x => //; rewrite sub_capmx; apply/andP; split.
    have -> : x - x1 = (x - x0) - (x1 - x0) by rewrite opprB addrA subrK.
    by rewrite addmx_sub ?eqmx_opp.
  by apply/sub_kermxP/matrixP => i j; rewrite !ord1 mulmxBl subE xu x1u subrr mxE.
apply: leq_trans split_F _.
case: D rankV cardT cardP => [|D] rankV cardT cardP.
  rewrite affine_patterns0 -[X in (_ <= X)%N](affine_patterns0 k 'C(m, 2)) -[X in (_ <= X)%N]addn0.
  by apply: leq_add cardT _; rewrite leqn0 sum_nat_eq0; apply/forall_inP => p /cardP; rewrite leqn0.
rewrite affine_patternsS; apply: leq_add cardT _.
by rewrite -[X in (_ <= X * _)%N]card_pairs_below -sum_nat_const; apply: leq_sum => p /cardP.
Qed.
End AffinePatterns.

Section FewNumbers.
Variables (R : realFieldType) (Y : finType) (m d : nat).
Implicit Types (y : Y) (q g : {ffun Y -> 'I_m}) (S : {set Y}).

(* Logits that see the table through d numbers, up to a term that all values share. *)
Definition sees_numbers (f : Y -> {ffun Y -> 'I_m} -> 'I_m -> R) : Prop :=
  exists (c : Y -> 'rV[R]_m) (w : Y -> 'M[R]_(d, m)) (t : {ffun Y -> 'I_m} -> 'rV[R]_d)
    (s : Y -> {ffun Y -> 'I_m} -> R),
  forall y q z, f y q z = (c y + t q *m w y) 0 z + s y q.

(* Patterns on a set of bridges that numbers t can reach, as tuples along its enumeration. *)
Lemma card_patterns k (ys : k.-tuple Y) (c : Y -> 'rV[R]_m) (w : Y -> 'M[R]_(d, m)) (F : {set k.-tuple 'I_m}) :
    (forall h, h \in F -> exists t : 'rV[R]_d, forall i z, z != tnth h i ->
       (c (tnth ys i) + t *m w (tnth ys i)) 0 z < (c (tnth ys i) + t *m w (tnth ys i)) 0 (tnth h i)) ->
  (#|F| <= affine_patterns k d 'C(m, 2))%N.
Proof.
pose V : 'M[R]_(1 + d) := <<row_mx 0 1%:M : 'M_(d, 1 + d)>>%MS => real.
have rankV : (\rank V <= d)%N by rewrite genmxE rank_leq_row.
apply: (card_cells (ws := map_tuple (fun y => col_mx (c y) (w y)) ys) (x0 := row_mx 1%:M 0) rankV) => h.
case/real => t win; exists (row_mx 1%:M t).
  by rewrite genmxE opp_row_mx add_row_mx subrr subr0; apply/submxP; exists t; rewrite mul_mx_row mulmx0 mulmx1.
move=> i; apply/winsP => z zg; rewrite tnth_map !mul_row_col !mul1mx; exact: win.
Qed.

(* Claim few_numbers: with the numbers of the second adapter free, the strict argmaxes over n bridges form at most
   sum_(i <= d) C(n, i) C(m, 2)^i patterns. Ours; cells of an arrangement. *)
Theorem few_numbers_patterns (c : Y -> 'rV[R]_m) (w : Y -> 'M[R]_(d, m)) (G : {set {ffun Y -> 'I_m}}) :
    (forall g, g \in G -> exists t : 'rV[R]_d, forall y z, z != g y ->
       (c y + t *m w y) 0 z < (c y + t *m w y) 0 (g y)) ->
  (#|G| <= affine_patterns #|Y| d 'C(m, 2))%N.
Proof.
move=> real; pose ys := enum_tuple Y; pose read g := map_tuple g ys.
have read_inj : injective read.
  move=> g g' /(congr1 val) /= same; apply/ffunP => y.
  by have /eq_in_map/(_ y) := same; rewrite mem_enum; apply.
have cardE : size (enum Y) = #|Y| by rewrite -cardE.
rewrite -(card_imset _ read_inj); apply: (card_patterns (ys := ys) (c := c) (w := w)) => _ /imsetP[g /real[t win] ->].
by exists t => i z; rewrite tnth_map; apply: win.
Qed.

Variable f : Y -> {ffun Y -> 'I_m} -> 'I_m -> R.
Hypothesis few : sees_numbers f.

Lemma card_answered S : (#|[set q | S \subset [set y | correct_by 0 f y q]]|
  <= affine_patterns #|S| d 'C(m, 2) * m ^ (#|Y| - #|S|))%N.
Proof.
have [c [w [t [s fE]]]] := few.
have [Y0 | [y0 _]] := set_0Vmem [set: Y].
  have n0 : #|Y| = 0%N by rewrite -cardsT Y0 cards0.
  have S0 : #|S| = 0%N by apply/eqP; rewrite -leqn0 -n0 max_card.
  apply: leq_trans (max_card _) _; rewrite card_ffun n0 expn0 S0 sub0n expn0 muln1; exact: affine_patterns_gt0.
have [z0 _ | Z0] := pickP 'I_m; last first.
  apply: leq_trans (_ : (0 <= _)%N) => //; rewrite leqn0 cards_eq0; apply/eqP/setP => q.
  by have := Z0 (q y0).
pose ys := enum_tuple S; pose A := [set q | S \subset [set y | correct_by 0 f y q]].
pose off q := [ffun y => if y \in S then z0 else q y].
pose code q := (map_tuple q ys, off q).
have code_inj : injective code.
  move=> q q' [/eq_in_map same /ffunP out]; apply/ffunP => y.
  have [Sy | yS] := boolP (y \in S); first by apply: same; rewrite mem_enum.
  by have := out y; rewrite !ffunE (negbTE yS).
pose F := [set map_tuple (q : {ffun Y -> 'I_m}) ys | q in A].
pose B := pffun_on z0 (fun y => y \notin S) (predT : pred 'I_m).
have cardF : (#|F| <= affine_patterns #|S| d 'C(m, 2))%N.
  apply: (card_patterns (ys := ys) (c := c) (w := w)) => _ /imsetP[q Aq ->]; exists (t q) => i z.
  rewrite tnth_map => zq; have Si : tnth ys i \in S by rewrite -mem_enum mem_tnth.
  move: Aq; rewrite inE => /subsetP/(_ _ Si); rewrite inE => /correct_byP/(_ z zq).
  by rewrite addr0 !fE ltr_add2r.
have cardB : #|B| = (m ^ (#|Y| - #|S|))%N.
  by rewrite card_pffun_on card_ord -(cardC S) addKn.
rewrite -/A -(card_imset _ code_inj) -cardB.
apply: leq_trans (leq_mul cardF (leqnn _)).
rewrite -cardX; apply/subset_leq_card/subsetP => _ /imsetP[q Aq ->]; rewrite inE /=; apply/andP; split.
  by apply/imsetP; exists q.
apply/pffun_onP; split=> //; apply/subsetP => y; rewrite unfold_in /= ffunE.
by rewrite [in X in _ -> X]unfold_in; case: (y \in S); rewrite ?eqxx.
Qed.

(* The k-th binomial moment counts the sets of k bridges that are all answered. *)
Lemma credit_moment (credit : {ffun Y -> 'I_m} -> {set Y}) k b :
    (forall S, #|S| = k -> (#|[set q | S \subset credit q]| <= b)%N) ->
  (\sum_(q : {ffun Y -> 'I_m}) 'C(#|credit q|, k) <= 'C(#|Y|, k) * b)%N.
Proof.
move=> most; rewrite (eq_bigr (fun q => \sum_(S : {set Y} | #|S| == k) (S \subset credit q))%N) => [|q _].
  rewrite exchange_big /= -card_draws -sum_nat_const [leqRHS](eq_bigl (fun S : {set Y} => #|S| == k)) => [|S].
    apply: leq_sum => S /eqP/most; rewrite -sum1_card big_mkcond; apply: leq_trans.
    by apply: leq_sum => q _; rewrite inE; case: (S \subset _).
  by rewrite inE.
rewrite -cards_draws -sum1_card big_mkcond [RHS]big_mkcond; apply: eq_bigr => S _.
by rewrite inE andbC; case: eqP => // _; case: (S \subset _).
Qed.

(* Claim few_numbers: E C(K, k) <= C(n, k) min(1, patterns / m^k), K the number of bridges right. Ours. *)
Theorem few_numbers_moments k :
  (\sum_(q : {ffun Y -> 'I_m}) 'C(\sum_y correct_by 0 f y q, k)
     <= 'C(#|Y|, k) * minn (m ^ #|Y|) (affine_patterns k d 'C(m, 2) * m ^ (#|Y| - k)))%N.
Proof.
rewrite (eq_bigr (fun q => 'C(#|[set y | correct_by 0 f y q]|, k))) => [|q _].
  apply: credit_moment => S <-; rewrite leq_min card_answered andbT.
  by apply: leq_trans (max_card _) _; rewrite card_ffun card_ord.
congr 'C(_, k); rewrite -sum1_card [RHS]big_mkcond; apply: eq_bigr => y _.
by rewrite inE; case: correct_by.
Qed.

(* The mean from one moment, at any place j of its tangent. *)
Theorem few_numbers_tangent j k :
  ('C(j, k) * (\sum_(q : {ffun Y -> 'I_m}) \sum_y correct_by 0 f y q) + 'C(j, k.+1) * m ^ #|Y|
     <= 'C(#|Y|, k.+1) * minn (m ^ #|Y|) (affine_patterns k.+1 d 'C(m, 2) * m ^ (#|Y| - k.+1))
        + j * 'C(j, k) * m ^ #|Y|)%N.
Proof.
have cardQ : #|{ffun Y -> 'I_m}| = (m ^ #|Y|)%N by rewrite card_ffun card_ord.
rewrite -{1 3}cardQ ![(_ * #|_|)%N]mulnC -!sum_nat_const addnC big_distrr -big_split /=.
apply: leq_trans (leq_add (few_numbers_moments k.+1) (leqnn _)); rewrite -big_split; apply: leq_sum => q _ /=.
by rewrite [('C(j, k) * _)%N]mulnC bin_tangent.
Qed.

End FewNumbers.

(* Attained for two values, by the signs of monic polynomials of degree d at n places: C holds the places before which
   the sign changes. *)
Section MonicSigns.
Variables (R : realFieldType) (n d : nat).
Implicit Types (C : {set 'I_n}) (y : 'I_n).

Definition later C (k : nat) : {set 'I_n} := [set c in C | (k <= c)%N].
Definition monic_at C : {poly R} := (\prod_(c in C) ('X - (c%:R + 2%:R^-1)%:P)) * ('X - (-1)%:P) ^+ (d - #|C|).

Lemma later_step C y : (y \in C) = odd #|later C y| (+) odd #|later C y.+1|.
Proof.
have -> : later C y.+1 = later C y :\ y.
  by apply/setP => c; rewrite !inE ltn_neqAle (inj_eq (@ord_inj _)) eq_sym andbCA.
rewrite (cardsD1 y (later C y)) inE leqnn andbT oddD.
by rewrite oddb addbK.
Qed.

Lemma later_inj C D : (forall y, odd #|later C y| = odd #|later D y|) -> C = D.
Proof.
move=> same; apply/setP => y; rewrite !later_step same; congr (_ (+) _).
have [lt_n | ge_n] := ltnP y.+1 n; first exact: (same (Ordinal lt_n)).
have none E : later E y.+1 = set0.
  by apply/setP => c; rewrite !inE leqNgt (leq_trans (ltn_ord c)) ?andbF.
by rewrite !none.
Qed.

Lemma sgr_monic C y : Num.sg (monic_at C).[y%:R] = (-1) ^+ #|later C y|.
Proof.
have up : 0 < (y%:R + 1) ^+ (d - #|C|) :> R by rewrite exprn_gt0 // ltr_paddl ?ler0n ?ltr01.
rewrite /monic_at hornerM horner_exp hornerXsubC opprK sgrM (gtr0_sg up) mulr1.
rewrite horner_prod (big_morph _ (@sgrM R) (sgr1 R)) -sum1_card expr_sum big_mkcond [RHS]big_mkcond.
apply: eq_bigr => c _; rewrite inE expr1 !hornerE; case: (c \in C) => //=; case: leqP => [le_yc | lt_cy].
  by rewrite ltr0_sg // subr_lt0 ltr_spaddr ?invr_gt0 ?ltr0n // ler_nat.
rewrite gtr0_sg // subr_gt0; apply: (@lt_le_trans _ _ (c.+1)%:R); last by rewrite ler_nat.
by rewrite -[in X in _ < X]addn1 natrD ltr_add2l invf_lt1 ?ltr0n // ltr1n.
Qed.

Lemma monic_size C : (#|C| <= d)%N -> monic_at C \is monic /\ size (monic_at C) = d.+1.
Proof.
move=> le_Cd.
have monic1 : \prod_(c in C) ('X - (c%:R + 2%:R^-1)%:P) \is @monic R by apply: monic_prod_XsubC.
have monic2 : ('X - (-1)%:P) ^+ (d - #|C|) \is @monic R by rewrite monic_exp ?monicXsubC.
split; first by rewrite monicMl.
rewrite size_monicM ?monic_neq0 // size_exp_XsubC -big_enum size_prod_XsubC -cardE.
by rewrite addSn addnS subnKC.
Qed.

(* The two values: 0, and the polynomial. *)
Lemma monic_horner C y : (#|C| <= d)%N ->
  (monic_at C).[y%:R] = y%:R ^+ d + \sum_(i < d) (monic_at C)`_i * y%:R ^+ i.
Proof.
move=> /monic_size[/monicP lead sized]; rewrite (horner_coef_wide _ (_ : size (monic_at C) <= d.+1)%N) ?sized //.
by rewrite big_ord_recr /= addrC -[d]/(d.+1.-1) -sized -lead_coefE lead mul1r.
Qed.

Definition sign_table C : {ffun 'I_n -> 'I_2} := [ffun y : 'I_n => if odd #|later C y| then ord0 else ord_max].

Theorem few_numbers_attained :
  exists (c : 'I_n -> 'rV[R]_2) (w : 'I_n -> 'M[R]_(d, 2)) (G : {set {ffun 'I_n -> 'I_2}}),
    #|G| = affine_patterns n d 'C(2, 2) /\
    forall g, g \in G -> exists t : 'rV[R]_d, forall y z, z != g y ->
      (c y + t *m w y) 0 z < (c y + t *m w y) 0 (g y).
Proof.
exists (fun y => \row_z ((z == ord_max)%:R * y%:R ^+ d)), (fun y => \matrix_(i, z) ((z == ord_max)%:R * y%:R ^+ i)).
exists [set sign_table C | C : {set 'I_n} & (#|C| <= d)%N]; split; last first.
  move=> _ /imsetP[C le_Cd ->]; exists (\row_i (monic_at C)`_i) => y z.
  have gap (x : 'I_2) : (\row_z ((z == ord_max)%:R * y%:R ^+ d) + \row_(i < d) (monic_at C)`_i *m
      \matrix_(i, z) ((z == ord_max)%:R * y%:R ^+ i)) 0 x = (x == ord_max)%:R * (monic_at C).[y%:R] :> R.
    rewrite monic_horner; last by move: le_Cd; rewrite inE.
    by rewrite !mxE mulrDr mulr_sumr; congr (_ + _); apply: eq_bigr => i _; rewrite !mxE mulrCA.
  rewrite !gap ffunE; have := sgr_monic C y; rewrite -signr_odd; case: odd => sg_p.
    case: z => -[|[|]] // lt_z _; rewrite mul1r mul0r -sgr_lt0 sg_p expr1.
    exact: ltrN10.
  case: z => -[|[|]] // lt_z _; rewrite mul1r mul0r -sgr_gt0 sg_p expr0.
  exact: ltr01.
rewrite card_in_imset => [|C D]; last first.
  rewrite !inE => _ _ /ffunP same; apply: later_inj => y; have := same y; rewrite !ffunE.
  by case: odd; case: odd.
rewrite /affine_patterns binn -sum1dep_card (partition_big (fun C : {set 'I_n} => inord #|C| : 'I_d.+1) xpredT) //=.
apply: eq_bigr => i _; have := card_draws [finType of 'I_n] i; rewrite exp1n muln1 card_ord => <-.
rewrite -sum1_card; apply: eq_bigl => C.
rewrite !inE; apply/andP/eqP => [[le_C /eqP <-] | ->]; first by rewrite inordK.
by rewrite inord_val leq_ord eqxx.
Qed.
End MonicSigns.

(* Logits of a merge that averages the factors: both adapters' A and B are added (weights and scales are part of them)
   before they are multiplied, at a feature x and a base h that know neither adapter. *)
Definition averaged_logits (R : realFieldType) (Y : finType) (D n1 r m : nat)
    (E : 'M[R]_(m, D)) (h : 'cV[R]_D) (x : 'cV[R]_n1) (B1 : Y -> 'M[R]_(D, r)) (A1 : Y -> 'M[R]_(r, n1))
    (B2 : {ffun Y -> 'I_m} -> 'M[R]_(D, r)) (A2 : {ffun Y -> 'I_m} -> 'M[R]_(r, n1)) y q : 'cV[R]_m :=
  E *m (h + (B1 y + B2 q) *m (A1 y + A2 q) *m x).

Section FactorAverage.
Variables (R : realFieldType) (Y : finType) (D n1 r m : nat).
Implicit Types (y : Y) (q : {ffun Y -> 'I_m.+1}).
Variables (E : 'M[R]_(m.+1, D)) (h : 'cV[R]_D) (x : 'cV[R]_n1).
Variables (B1 : Y -> 'M[R]_(D, r)) (A1 : Y -> 'M[R]_(r, n1)).
Variables (B2 : {ffun Y -> 'I_m.+1} -> 'M[R]_(D, r)) (A2 : {ffun Y -> 'I_m.+1} -> 'M[R]_(r, n1)).
Let logits := averaged_logits E h x B1 A1 B2 A2.

(* It sees the second adapter through m (r + 1) - 1 numbers: r of A2, and of B2 and B2 A2 the differences to one
   value's. Ours. *)
Theorem few_numbers_factors :
  sees_numbers (r + (m * r + m)) (fun y q z => logits y q z 0).
Proof.
pose emb : 'M[R]_(m, 1 + m) := row_mx 0 1%:M.
pose u y := A1 y *m x; pose v q := A2 q *m x; pose P y := E *m B1 y; pose Q q := E *m B2 q.
pose Q0 q := \matrix_(i < m, j < r) (Q q (lift ord0 i) j - Q q ord0 j).
exists (fun y => (E *m h + P y *m u y)^T).
exists (fun y => col_mx (P y)^T (col_mx (lin1_mx (trmx \o mulmxr (u y) \o vec_mx) *m emb) emb)).
exists (fun q => row_mx (v q)^T (row_mx (mxvec (Q0 q)) (Q0 q *m v q)^T)).
exists (fun y q => (Q q *m (u y + v q)) ord0 0) => y q z.
rewrite !mul_row_col [mxvec _ *m _]mulmxA mul_rV_lin1 /= mxvecK -mulmxDl -linearD /= -mulmxDr -trmx_mul.
have Q0E (s : 'cV[R]_r) i : (Q0 q *m s) i 0 = (Q q *m s) (lift ord0 i) 0 - (Q q *m s) ord0 0.
  by rewrite !mxE -sumrB; apply: eq_bigr => j _; rewrite mxE mulrBl.
have embE (a : 'cV[R]_m) : (a^T *m emb) 0 z = if unlift ord0 z is Some i then a i 0 else 0.
  rewrite /emb mul_mx_row mulmx0 mulmx1 mxE; case: unliftP => [i -> | ->]; case: splitP => j /= eq_j; rewrite ?mxE //.
    by move: eq_j; rewrite ord1.
  by congr (a _ 0); apply: val_inj; case: eq_j.
have addE (a b : 'rV[R]_m.+1) : (a + b) 0 z = a 0 z + b 0 z by rewrite mxE.
have trE (a : 'cV[R]_m.+1) : a^T 0 z = a z 0 by rewrite mxE.
rewrite !addE embE !trE.
have -> : logits y q z 0 =
    (E *m h + P y *m u y) z 0 + (P y *m v q) z 0 + (Q q *m (u y + v q)) z 0.
  have colE' (a b : 'cV[R]_m.+1) : (a + b) z 0 = a z 0 + b z 0 by rewrite mxE.
  rewrite -!colE'; congr (fun_of_matrix _ z 0); rewrite /logits /averaged_logits [LHS]mulmxDr.
  rewrite -(mulmxA (B1 y + B2 q)) [E *m (_ *m _)]mulmxA.
  by rewrite [E *m (_ + _)]mulmxDr mulmxDl [(A1 y + A2 q) *m x]mulmxDl [P y *m (_ + _)]mulmxDr !addrA.
rewrite -!addrA; congr (_ + (_ + _)).
by case: unliftP => [i -> | ->]; rewrite ?Q0E ?subrK // add0r.
Qed.

Lemma averaged_numbers : (r + (m * r + m) = (m.+1 * r.+1).-1)%N.
Proof. by rewrite mulSn mulnS addSn /= addnCA addnA [RHS]addnC -addnA [RHS]addnC addnC addnA. Qed.

(* The moments of a factor average. Ours. *)
Theorem few_numbers_factor_moments k :
  (\sum_(q : {ffun Y -> 'I_m.+1}) 'C(\sum_y correct_by 0 (fun y q z => logits y q z 0)%R y q, k)
     <= 'C(#|Y|, k) * minn (m.+1 ^ #|Y|)
          (affine_patterns k (m.+1 * r.+1).-1 'C(m.+1, 2) * m.+1 ^ (#|Y| - k)))%N.
Proof. by rewrite -averaged_numbers; apply: few_numbers_moments few_numbers_factors k. Qed.

End FactorAverage.

Lemma affine_patterns_lt n d : (d < n)%N -> (affine_patterns n d 1 < 2 ^ n)%N.
Proof.
move=> lt_dn; have le_dn : (d.+1 <= n)%N by [].
have -> : (2 ^ n = \sum_(i < n.+1) 'C(n, i))%N.
  by rewrite -[2%N]/(1 + 1)%N expnDn; apply: eq_bigr => i _; rewrite !exp1n !muln1.
rewrite /affine_patterns (eq_bigr (fun i : 'I_d.+1 => 'C(n, i))) => [|i _]; last by rewrite exp1n muln1.
rewrite [X in (_ < X)%N]big_ord_recr /= binn addn1 ltnS (big_ord_widen n (fun i => 'C(n, i))) // big_mkcond.
by apply: leq_sum => i _; case: ifP.
Qed.

(* A factor average of rank r answers all bridges of all tables only if there are at most 2 r + 1 bridges. Ours. *)
Theorem few_numbers_all_tables (R : realFieldType) (Y : finType) (D n1 r m : nat)
    (E : 'M[R]_(m.+2, D)) (h : 'cV[R]_D) (x : 'cV[R]_n1)
    (B1 : Y -> 'M[R]_(D, r)) (A1 : Y -> 'M[R]_(r, n1))
    (B2 : {ffun Y -> 'I_m.+2} -> 'M[R]_(D, r)) (A2 : {ffun Y -> 'I_m.+2} -> 'M[R]_(r, n1)) :
    (forall y q, correct_by 0 (fun y q z => averaged_logits E h x B1 A1 B2 A2 y q z 0) y q) ->
  (#|Y| <= (r + r).+1)%N.
Proof.
move=> all_right; pose two (i : 'I_2) : 'I_m.+2 := widen_ord (leq_addr m 2) i.
have two_inj : injective two by move=> i j /(congr1 val) /= /val_inj.
pose table (g : {ffun Y -> 'I_2}) : {ffun Y -> 'I_m.+2} := [ffun y => two (g y)].
pose E2 : 'M[R]_(2, D) := \matrix_(i, j) E (two i) j.
have E2E (a : 'cV[R]_D) i : (E2 *m a) i 0 = (E *m a) (two i) 0.
  by rewrite !mxE; apply: eq_bigr => j _; rewrite mxE.
pose f := fun y g z => averaged_logits E2 h x B1 A1 (fun g => B2 (table g)) (fun g => A2 (table g)) y g z 0.
have few : sees_numbers (r + (1 * r + 1)) f by apply: few_numbers_factors.
have := card_answered few setT; rewrite cardsT subnn expn0 muln1 binn.
have -> : [set g | setT \subset [set y | correct_by 0 f y g]] = setT.
  apply/setP => g; rewrite !inE; apply/subsetP => y _; rewrite inE; apply/correct_byP => z zg.
  have zt : two z != table g y by rewrite ffunE (inj_eq two_inj).
  have /correct_byP/(_ (two z) zt) := all_right y (table g).
  by rewrite /f /averaged_logits !E2E ffunE.
rewrite cardsT card_ffun card_ord mul1n addn1 addnS => le_2n.
by rewrite leqNgt; apply/negP => /affine_patterns_lt; rewrite ltnNge le_2n.
Qed.

(* A number that outgrows finitely many. *)
Lemma loud_enough (R : realFieldType) (T : finType) (P : pred T) (f g : T -> R) :
  (forall t, P t -> 0 < g t) -> exists2 l, 1 <= l & forall t, P t -> f t < l * g t.
Proof.
move=> g_gt0; exists (1 + \sum_(t | P t) `|f t| / g t).
  by rewrite ler_addl sumr_ge0 // => t /g_gt0/ltW ?; rewrite divr_ge0.
move=> t Pt; rewrite -ltr_pdivr_mulr ?g_gt0 // (bigD1 t) //=.
apply: (@le_lt_trans _ _ (`|f t| / g t)); first by rewrite ler_pmul2r ?invr_gt0 ?g_gt0 ?ler_norm.
rewrite addrCA ltr_addl ltr_paddr ?ltr01 ?sumr_ge0 // => s /andP[/g_gt0/ltW ? _].
by rewrite divr_ge0.
Qed.


(* What rises up to c and falls from there on is largest at c. *)
Lemma peak (R : realFieldType) (f : nat -> R) m c z :
    (forall i, (i < c)%N -> f i < f i.+1) -> (forall i, (c <= i < m)%N -> f i.+1 < f i) ->
  (z <= m)%N -> z != c -> f z < f c.
Proof.
move=> up down le_zm; case: ltngtP => // [lt_zc | lt_cz] _.
  have {le_zm} : (z < c <= c)%N by rewrite lt_zc leqnn.
  elim: {-3}c => // k IH /andP[]; rewrite ltnS leq_eqVlt => /orP[/eqP-> | lt_zk] lt_kc; first exact: up.
  by apply: lt_trans (up _ lt_kc); apply: IH; rewrite lt_zk ltnW.
elim: z le_zm lt_cz => // z IH lt_zm; rewrite ltnS leq_eqVlt => /orP[/eqP eq_cz | lt_cz].
  by rewrite eq_cz; apply: down; rewrite eq_cz leqnn.
by apply: lt_trans (IH (ltnW lt_zm) lt_cz); apply: down; rewrite (ltnW lt_cz).
Qed.

(* A factor of rank 1 composes three bridges: entries Q of the second adapter's B, one for each value, and v of its A are
   read together, as (P + Q) (u + v), by first adapters that are loud (t3, which reads Q alone), of small negative u + v
   (t1) and of a positive one (t2). At v = - spot c what t1 reads is largest and what t2 reads is smallest at c. *)
Section ThreeBridges.
Variables (R : realFieldType) (m : nat).
Implicit Types (i c z : nat).

Definition width : R := (m.+1.*2 + m.+1.*2)%:R.
Definition spot c : R := (c.*2.+1)%:R.
Definition tick i : R := (i.+1.*2)%:R.
Definition rise z : R := \sum_(i < z) tick i.
Definition fall z : R := \sum_(i < z) (width - tick i).
Definition ground z : R := - \sum_(i < z) tick i * (width - tick i).
Definition near c z : R := ground z + fall z * spot c.
Definition wide c z : R := ground z + rise z * (width - spot c).
Definition both c z : R := near c z / spot c + wide c z / (width - spot c).

Lemma tick_spot i c : (i < c)%N = (tick i < spot c).
Proof. by rewrite ltr_nat ltnS leq_double. Qed.

Lemma spot_tick i c : (c <= i)%N = (spot c < tick i).
Proof. by rewrite ltr_nat doubleS !ltnS leq_double. Qed.

Lemma room i c : (i < m)%N -> (c <= m)%N -> tick i + spot c < width.
Proof.
move=> lt_im le_cm; rewrite -natrD ltr_nat -addnS -doubleS.
by rewrite leq_add // leq_double // ltnW.
Qed.

Lemma spot_gt0 c : 0 < spot c. Proof. by rewrite ltr0n. Qed.
Lemma spot_ge1 c : 1 <= spot c. Proof. by rewrite ler1n. Qed.
Lemma tick_gt0 i : 0 < tick i. Proof. by rewrite ltr0n. Qed.

Lemma rest_ge1 c : (c <= m)%N -> 1 <= width - spot c.
Proof.
move=> le_cm; rewrite ler_subr_addl -(natrD _ _ 1) ler_nat addn1 -doubleS.
by apply: (leq_trans _ (leq_addr _ _)); rewrite leq_double.
Qed.

Lemma wideS c i : wide c i.+1 = wide c i - tick i * (spot c - tick i).
Proof.
rewrite /wide /ground /rise !big_ord_recr /=; move: (tick i) (spot c) width (\sum_(_ < _) _) (\sum_(_ < _) _).
move=> b p w s t; rewrite mulrDl opprD [LHS](AC (2*2) (1*3*(4*2))) /=; congr (_ + _).
by rewrite -mulrN -mulrN -mulrDr; congr (_ * _); rewrite !opprB addrC addrA subrK.
Qed.

Lemma nearS c i : near c i.+1 = near c i + (width - tick i) * (spot c - tick i).
Proof.
rewrite /near /ground /fall !big_ord_recr /=; move: (tick i) (spot c) width (\sum_(_ < _) _) (\sum_(_ < _) _).
move=> b p w s t; rewrite mulrDl opprD [LHS](AC (2*2) (1*3*(4*2))) /=; congr (_ + _).
by rewrite [b * _]mulrC -mulrBr.
Qed.

Lemma bothS c i : both c i.+1 =
  both c i + (spot c - tick i) * ((width - tick i) / spot c - tick i / (width - spot c)).
Proof.
rewrite /both nearS wideS; move: (spot c) (near c i) (wide c i) (tick i) (width - tick i) (width - spot c).
move=> p f g b x y; rewrite ![in LHS]mulrDl mulNr [LHS](AC (2*2) (1*3*(2*4))) /=; congr (_ + _).
by rewrite [RHS]mulrBr; congr (_ - _); rewrite !mulrA; congr (_ / _); rewrite mulrC.
Qed.

Lemma wide_least c z : (c <= m)%N -> (z <= m)%N -> z != c -> wide c c < wide c z.
Proof.
move=> le_cm; rewrite -ltr_opp2; apply: (peak (f := fun z => - wide c z)) => i => [lt_ic | /andP[le_ci _]].
  by rewrite wideS opprB ltr_addr pmulr_rgt0 ?tick_gt0 // subr_gt0 -tick_spot.
by rewrite wideS opprB gtr_addr pmulr_rlt0 ?tick_gt0 // subr_lt0 -spot_tick.
Qed.

Lemma both_most c z : (c <= m)%N -> (z <= m)%N -> z != c -> both c z < both c c.
Proof.
move=> le_cm; have slope i : (i < m)%N -> 0 < (width - tick i) / spot c - tick i / (width - spot c).
  move=> lt_im; have := room lt_im le_cm; have w_gt0 := lt_le_trans ltr01 (rest_ge1 le_cm).
  rewrite subr_gt0 ltr_pdivr_mulr // mulrAC ltr_pdivl_mulr ?spot_gt0 // => lt_w.
  by rewrite [X in X < _]mulrC; apply: ltr_pmul; rewrite ?ler0n // ltr_subr_addl // addrC.
apply: peak => i => [lt_ic | /andP[le_ci lt_im]]; rewrite bothS.
  by rewrite ltr_addl pmulr_lgt0 ?slope ?(leq_trans lt_ic) // subr_gt0 -tick_spot.
by rewrite gtr_addl pmulr_llt0 ?slope // subr_lt0 -spot_tick.
Qed.

Section Marks.
Variables (T : finType) (t1 t2 t3 : T -> 'I_m.+1) (hum : T -> 'I_m.+1 -> R).
Implicit Types (t : T) (x : 'I_m.+1).

Let same t := (t1 t == t2 t) && (t2 t != t3 t).
Let aim t : R := if same t then - (width + 1) else - spot (t3 t).
Let marks k l b t x : R :=
  if same t then b * ((x == t3 t)%:R - (x == t1 t)%:R)
  else k * (x == t2 t)%:R - l * (wide (t3 t) x / (width - spot (t3 t))) - b * ((t1 t != t3 t) && (x == t1 t))%:R.

Lemma at_first k l b t x : ~~ same t ->
  l * ground x + (- (l * fall x) + marks k l b t x) * aim t =
  spot (t3 t) * (l * both (t3 t) x - k * (x == t2 t)%:R + b * ((t1 t != t3 t) && (x == t1 t))%:R).
Proof.
rewrite /marks /aim => /negbTE ->; rewrite /both /near.
have := spot_gt0 (t3 t); set q := wide (t3 t) x / _; move: q (spot _) (k * _) (b * _) (ground x) (fall x).
move=> q p ks bs g f /lt0r_neq0 p0; rewrite [in RHS]mulrDl mulfK // mulrN -mulNr mulrC.
have -> : l * (g / p + f + q) - ks + bs = l * g / p - (- (l * f) + (ks - l * q - bs)).
  by rewrite !mulrDr !opprD !opprK mulrA [LHS](AC (3*1*1) (1*(2*(4*3*5)))).
by rewrite [RHS]mulrC mulrBl divfK // mulNr [g * l]mulrC.
Qed.

Lemma at_second k l b t x : ~~ same t ->
  l * ground x + (l * rise x + marks k l b t x) * (width + aim t) =
  (width - spot (t3 t)) * (k * (x == t2 t)%:R - b * ((t1 t != t3 t) && (x == t1 t))%:R).
Proof.
rewrite /marks /aim => /negbTE ->; rewrite /wide.
have := lt_le_trans ltr01 (rest_ge1 (leq_ord (t3 t))).
move: (width - _) (k * _) (b * _) (ground x) (rise x) => y ks bs g r /lt0r_neq0 y0.
have -> : l * r + (ks - l * ((g + r * y) / y) - bs) = ks - bs - l * g / y.
  rewrite mulrDl mulfK // mulrDr opprD mulrA.
  by rewrite [LHS](AC (1*(1*2*1)) (2*5*3*(1*4))) /= subrr addr0.
by rewrite mulrBl divfK // addrC subrK mulrC.
Qed.

Lemma three_bridges : exists (h P1 P2 : 'I_m.+1 -> R) (u : R) (Q : T -> 'I_m.+1 -> R) (v : T -> R), forall t x,
  [/\ x != t3 t -> Q t x < Q t (t3 t),
      x != t1 t -> h x + (P1 x + Q t x) * v t + hum t x < h (t1 t) + (P1 (t1 t) + Q t (t1 t)) * v t + hum t (t1 t) &
      x != t2 t -> h x + (P2 x + Q t x) * (u + v t) + hum t x
                     < h (t2 t) + (P2 (t2 t) + Q t (t2 t)) * (u + v t) + hum t (t2 t)].
Proof.
have [|k k_ge1 k_gt] := loud_enough (P := xpredT : pred (T * 'I_m.+1 * 'I_m.+1))
    (fun p => hum p.1.1 p.1.2 - hum p.1.1 p.2) (g := fun=> 1); first by rewrite ltr01.
have {k_gt} hum_lt t x y : hum t x - hum t y < k by rewrite -[k]mulr1 (k_gt (t, x, y)).
have k_ge0 : 0 <= k := le_trans ler01 k_ge1.
have [l l_ge1 l_gt] : exists2 l : R, 1 <= l & forall c z : 'I_m.+1, z != c ->
    k + k < l * (both c c - both c z) /\ k < l * ((wide c z - wide c c) / (width - spot c)).
  have [|l l_ge1 l_gt] := loud_enough (P := fun p : bool * 'I_m.+1 * 'I_m.+1 => p.2 != p.1.2) (fun=> k + k)
    (g := fun p => if p.1.1 then both p.1.2 p.1.2 - both p.1.2 p.2
                   else (wide p.1.2 p.2 - wide p.1.2 p.1.2) / (width - spot p.1.2)).
    move=> [[[] c] z] /= zc; first by rewrite subr_gt0 both_most ?leq_ord.
    by rewrite divr_gt0 ?subr_gt0 ?wide_least ?leq_ord // -subr_gt0 (lt_le_trans ltr01) ?rest_ge1 ?leq_ord.
  exists l => // c z zc; split; first exact: (l_gt (true, c, z)).
  by apply: le_lt_trans (l_gt (false, c, z) zc); rewrite ler_addl.
pose e (i : option bool) t x : R := match i with
  | None => spot (t3 t) * (l * both (t3 t) x)
  | Some true => l * ground x - l * rise x
  | Some false => l * ground x + l * fall x * (width + 1)
  end + hum t x.
have [|b b_ge1 b_gt] := loud_enough (P := xpredT : pred (option bool * T * 'I_m.+1 * 'I_m.+1))
    (fun p => e p.1.1.1 p.1.1.2 p.1.2 - e p.1.1.1 p.1.1.2 p.2 + spot (t3 p.1.1.2) * k) (g := fun=> 1).
  by rewrite ltr01.
have {b_gt} e_lt (i : option bool) t x y : e i t x - e i t y + spot (t3 t) * k < b by rewrite -[b]mulr1 (b_gt (i, t, x, y)).
have b_gt0 : 0 < b := lt_le_trans ltr01 b_ge1.
exists (fun x => l * ground x), (fun x => - (l * fall x)), (fun x => l * rise x), width, (marks k l b), aim => t x.
have w_ge1 := spot_ge1 (t3 t); have w_gt0 := spot_gt0 (t3 t).
have y_ge1 := rest_ge1 (leq_ord (t3 t)); have y_gt0 := lt_le_trans ltr01 y_ge1.
have wk_ge0 : 0 <= spot (t3 t) * k by rewrite mulr_ge0 // ltW.
have e_sub (i : option bool) (z z' : 'I_m.+1) : e i t z - e i t z' < b by apply: le_lt_trans (e_lt i t z z'); rewrite ler_addl.
case same_t: (same t).
  have [/eqP eq12 ne23] := andP same_t; have ne13 : t1 t != t3 t by rewrite eq12.
  split=> ne; rewrite /aim /marks same_t.
  - rewrite eqxx (negbTE ne) [t3 t == _]eq_sym (negbTE ne13) ltr_pmul2l // ltr_le_sub ?ltr01 //.
    by rewrite ler0n.
  - have gapE (z : 'I_m.+1) d :
        l * ground z + (- (l * fall z) + d) * - (width + 1) + hum t z = e (Some false) t z - d * (width + 1).
      by rewrite /e mulrDl mulrNN [d * _]mulrN addrA addrAC.
    rewrite !gapE eqxx (negbTE ne) (negbTE ne13) subr0 sub0r mulrN1 mulNr opprK.
    apply: (@le_lt_trans _ _ (e (Some false) t x)).
      by rewrite ger_addl oppr_le0 !mulr_ge0 ?ler0n ?ltW // ltr_paddl ?ltr01 ?ler0n.
    rewrite -ltr_subl_addl; apply: lt_le_trans (e_sub _ _ _) _.
    by rewrite ler_pmulr // ler_addr ler0n.
  - have gapE (z : 'I_m.+1) d :
        l * ground z + (l * rise z + d) * (width - (width + 1)) + hum t z = e (Some true) t z - d.
      by rewrite /e opprD addrA subrr sub0r mulrN1 opprD addrA addrAC.
    rewrite -eq12 in ne *; rewrite !gapE eqxx (negbTE ne) (negbTE ne13) subr0 sub0r mulrN1 opprK.
    apply: (@le_lt_trans _ _ (e (Some true) t x)).
      by rewrite ger_addl oppr_le0 mulr_ge0 ?ler0n ?ltW.
    by rewrite -ltr_subl_addl.
split=> ne.
- rewrite /marks same_t.
  have [_ kl] := l_gt (t3 t) x ne.
  apply: (@le_lt_trans _ _ (k - l * (wide (t3 t) x / (width - spot (t3 t))))).
    rewrite ler_subl_addr ler_paddr ?mulr_ge0 ?ler0n ?(ltW b_gt0) // ler_add2r ler_pimulr //.
    by rewrite lern1 leq_b1.
  apply: (@lt_le_trans _ _ (- (l * (wide (t3 t) (t3 t) / (width - spot (t3 t)))))).
    by rewrite ltr_subl_addr addrC -mulrBr -mulrBl.
  by rewrite [t3 t == t1 t]eq_sym andNb mulr0 subr0 ler_addr mulr_ge0 ?ler0n.
- rewrite !at_first ?same_t // (negbTE ne) andbF mulr0 addr0 eqxx andbT.
  apply: (@le_lt_trans _ _ (e None t x)).
    by rewrite /e ler_add2r ler_pmul2l // ger_addl oppr_le0 mulr_ge0 ?ler0n.
  case: (eqVneq (t1 t) (t3 t)) => [eq13 | ne13] /=.
    rewrite mulr0 addr0 eq13; rewrite eq13 in ne; have [kl _] := l_gt (t3 t) x ne.
    apply: (@lt_le_trans _ _ (spot (t3 t) * (l * both (t3 t) (t3 t) - k) + hum t (t3 t))); last first.
      by rewrite ler_add2r ler_pmul2l // ler_add2l ler_opp2 ler_pimulr // lern1 leq_b1.
    have : hum t x - hum t (t3 t) < spot (t3 t) * (l * both (t3 t) (t3 t) - k) - spot (t3 t) * (l * both (t3 t) x).
      apply: lt_le_trans (hum_lt _ _ _) _; rewrite -mulrBr; apply: (@le_trans _ _ (spot (t3 t) * k)).
        by rewrite ler_pmull // (lt_le_trans ltr01).
      by rewrite ler_pmul2l // addrAC -mulrBr ler_subr_addr ltW.
    by rewrite ltr_subl_addr addrAC ltr_subr_addr addrC.
  have -> : (t1 t == t2 t) = false.
    by apply: contraFF same_t => /eqP eq12; rewrite /same eq12 eqxx -eq12.
  rewrite mulr0 subr0 mulr1 mulrDr addrAC -ltr_subl_addl; apply: lt_le_trans (e_sub None _ _) _.
  by rewrite ler_pmull.
- rewrite !at_second ?same_t // (negbTE ne) mulr0 sub0r eqxx mulr1.
  have -> : (t1 t != t3 t) && (t2 t == t1 t) = false.
    by apply: contraFF same_t => /andP[ne13 /eqP eq21]; rewrite /same eq21 eqxx.
  rewrite mulr0 subr0; apply: (@le_lt_trans _ _ (hum t x)).
    by rewrite ger_addr mulr_ge0_le0 ?(ltW y_gt0) // oppr_le0 mulr_ge0 ?ler0n // ltW.
  rewrite -ltr_subl_addr; apply: lt_le_trans (hum_lt _ _ _) _.
  by rewrite ler_pmull // (lt_le_trans ltr01).
Qed.
End Marks.
End ThreeBridges.

Section Composes.
Variables (R : realFieldType) (Y : finType) (r m : nat) (S : {set Y}).
Hypothesis few : (#|S| <= (r.+1 + r.+1).+1)%N.
Implicit Types (y : Y) (q : {ffun Y -> 'I_m.+1}) (z a : 'I_m.+1) (j : 'I_r.+1) (i : nat).

(* The bridges in S have seats 0 .. 2 r + 2, all others a seat beyond. *)
Definition seat y := if y \in S then index y (enum S) else (r.+1 + r.+1).+1.
Definition held q i : 'I_m.+1 := if [pick y in S | seat y == i] is Some y then q y else ord0.
Definition target q y : 'I_m.+1 := if y \in S then q y else ord0.

Lemma heldE q y : y \in S -> held q (seat y) = q y.
Proof.
move=> Sy; rewrite /held; case: pickP => [y' /andP[Sy'] | /(_ y)]; last by rewrite Sy eqxx.
rewrite /seat Sy Sy' => /eqP same; congr (q _).
by rewrite -(nth_index y (_ : y \in enum S)) ?mem_enum // -same nth_index ?mem_enum.
Qed.

Lemma seat_lt y : y \in S -> (seat y < (r.+1 + r.+1).+1)%N.
Proof. by move=> Sy; rewrite /seat Sy (leq_trans _ few) // cardE index_mem mem_enum. Qed.

Let hum q z : R := \sum_(j < r) (z == held q (lift ord0 j))%:R * (held q (r.+1 + lift ord0 j))%:R.

Variables (h P1 P2 : 'I_m.+1 -> R) (u : R) (Q : {ffun Y -> 'I_m.+1} -> 'I_m.+1 -> R) (v : {ffun Y -> 'I_m.+1} -> R).
Variable loud : R.

Definition composing_base : 'cV[R]_m.+1 := \col_z h z.
Definition composing_B1 y : 'M[R]_(m.+1, r.+1) := \matrix_(z, j)
  (if (seat y == r.+1 + r.+1)%N then (j == ord0)%:R * P2 z
   else if seat y == r.+1 then (j == ord0)%:R * P1 z
   else if (seat y < r.+1)%N then 0
   else (j == ord0)%:R * - (loud * z%:R ^+ 2) + (seat y == r.+1 + j)%N%:R * (2%:R * loud ^+ 2 * z%:R)).
Definition composing_A1 y : 'cV[R]_r.+1 := \col_j
  (if (seat y == r.+1 + r.+1)%N then (j == ord0)%:R * u
   else if seat y == r.+1 then 0
   else if (seat y < r.+1)%N then (seat y == j)%:R * loud
   else (j == ord0)%:R * loud).
Definition composing_B2 q : 'M[R]_(m.+1, r.+1) := \matrix_(z, j)
  if j == ord0 then Q q z else (z == held q j)%:R.
Definition composing_A2 q : 'cV[R]_r.+1 := \col_j
  if j == ord0 then v q else (held q (r.+1 + j))%:R.

Definition composing_logits y q z : R :=
  averaged_logits 1%:M composing_base 1%:M composing_B1 composing_A1 composing_B2 composing_A2 y q z 0.

Let full q z : R := \sum_j composing_B2 q z j * composing_A2 q j 0.

Lemma composing_logitsE y q z : composing_logits y q z = h z +
  \sum_j (composing_B1 y z j + composing_B2 q z j) * (composing_A1 y j 0 + composing_A2 q j 0).
Proof.
rewrite /composing_logits /averaged_logits !mul1mx mulmx1 mxE [composing_base z 0]mxE; congr (_ + _).
by rewrite mxE; apply: eq_bigr => j _; congr (_ * _); rewrite mxE.
Qed.

Lemma at_product y q z : seat y = (r.+1 + r.+1)%N ->
  composing_logits y q z = h z + (P2 z + Q q z) * (u + v q) + hum q z.
Proof.
move=> at_y; rewrite composing_logitsE big_ord_recl -addrA !mxE at_y !eqxx !mul1r; congr (_ + (_ + _)).
by apply: eq_bigr => j _; rewrite !mxE at_y !eqxx !mul0r !add0r.
Qed.

Lemma at_entry y q z : seat y = r.+1 ->
  composing_logits y q z = h z + (P1 z + Q q z) * v q + hum q z.
Proof.
move=> at_y; rewrite composing_logitsE big_ord_recl -addrA !mxE at_y.
have -> : (r.+1 == r.+1 + r.+1)%N = false by rewrite -{1}[r.+1]addn0 eqn_add2l.
rewrite !eqxx !mul1r add0r; congr (_ + (_ + _)).
apply: eq_bigr => j _; rewrite !mxE at_y.
by have -> : (r.+1 == r.+1 + r.+1)%N = false; rewrite ?eqxx ?mul0r ?add0r // -{1}[r.+1]addn0 eqn_add2l.
Qed.

Lemma at_column y q z j : seat y = j ->
  composing_logits y q z = h z + full q z + loud * composing_B2 q z j.
Proof.
move=> at_y; rewrite composing_logitsE -addrA; congr (_ + _).
have [ne2 ne1] : (seat y == (r.+1 + r.+1)%N) = false /\ (seat y == r.+1) = false.
  by split; apply/negbTE; rewrite at_y neq_ltn (leq_trans (ltn_ord j)) ?leq_addr.
rewrite (bigD1 j) //= [full q z](bigD1 j) //= [in RHS]addrAC; congr (_ + _).
  by rewrite !mxE ne2 ne1 at_y ltn_ord eqxx mul1r add0r mulrDr addrC [loud * _]mulrC.
apply: eq_bigr => k kj; rewrite [composing_B1 y z k]mxE [composing_A1 y k 0]mxE ne2 ne1 at_y ltn_ord add0r.
by rewrite (_ : nat_of_ord j == k = false) ?mul0r ?add0r // eq_sym; apply: negbTE.
Qed.

Lemma reading y q (x : R) : (r.+1 < seat y)%N -> seat y != (r.+1 + r.+1)%N ->
  \sum_(j < r) (seat y == r.+1 + lift ord0 j)%N%:R * x * (held q (r.+1 + lift ord0 j))%:R = x * (target q y)%:R.
Proof.
move=> gt_y ne2; rewrite /target; case: ifP => Sy; last first.
  rewrite mulr0 big1 // => j _; rewrite (_ : (_ == _)%N = false) ?mul0r //.
  by rewrite /seat Sy gtn_eqF // ltnS leq_add2l ltnW.
have lt_y : (seat y - r.+2 < r)%N.
  rewrite ltn_subLR // addSnnS; have := seat_lt Sy; rewrite ltnS leq_eqVlt (negbTE ne2) /=.
  by rewrite addSnnS.
have at_y : seat y = (r.+1 + lift ord0 (Ordinal lt_y))%N by rewrite /= /bump /= add1n addnS -addSn subnKC.
rewrite (bigD1 (Ordinal lt_y)) // big1 => [|j /andP[_ ne]]; last first.
  by rewrite at_y eqn_add2l (inj_eq (@ord_inj _)) (inj_eq lift_inj) eq_sym (negbTE ne) !mul0r.
by rewrite -at_y eqxx mul1r [LHS]addr0 heldE.
Qed.

Lemma at_others y q z : (r.+1 < seat y)%N -> seat y != (r.+1 + r.+1)%N ->
  composing_logits y q z = loud ^+ 2 * (2%:R * z%:R * (target q y)%:R - z%:R ^+ 2)
    + loud * (Q q z - z%:R ^+ 2 * v q) + (h z + full q z).
Proof.
move=> gt_y ne2.
have ne1 : (seat y == r.+1) = false by apply/negbTE; rewrite neq_ltn gt_y orbT.
have nlt : (seat y < r.+1)%N = false by rewrite ltnNge ltnW.
rewrite composing_logitsE big_ord_recl !mxE (negbTE ne2) ne1 nlt !eqxx !mul1r addn0 ne1 mul0r addr0.
have -> : full q z = Q q z * v q + \sum_(j < r) composing_B2 q z (lift ord0 j) * composing_A2 q (lift ord0 j) 0.
  by rewrite /full big_ord_recl !mxE !eqxx.
have -> : \sum_(j < r) (composing_B1 y z (lift ord0 j) + composing_B2 q z (lift ord0 j)) *
      (composing_A1 y (lift ord0 j) 0 + composing_A2 q (lift ord0 j) 0) =
    2%:R * loud ^+ 2 * z%:R * (target q y)%:R +
      \sum_(j < r) composing_B2 q z (lift ord0 j) * composing_A2 q (lift ord0 j) 0.
  rewrite -(reading q _ gt_y ne2) -big_split; apply: eq_bigr => j _ /=.
  rewrite [composing_B1 y z _]mxE [composing_A1 y _ 0]mxE (negbTE ne2) ne1 nlt !mul0r !add0r mulrDl.
  by congr (_ + _); rewrite [composing_A2 q _ 0]mxE.
move: (target q y)%:R z%:R (\sum_(_ < _) _) (Q q z) (v q) (h z) => t x s c w g.
rewrite mulrDl !mulrDr !mulNr [LHS](AC (1*((2*2)*2)) ((6*2)*(4*3)*(1*(5*7)))) /= !mulrN.
rewrite [2%:R * loud ^+ 2]mulrC !expr2 -!mulrA [x * (x * loud)]mulrA [x * x * loud]mulrC [c * loud]mulrC.
by [].
Qed.
End Composes.

Lemma outgrown (R : realFieldType) (l a x p p' f f' : R) : `|p - p'| + `|f - f'| < l -> 1 <= l ->
  1 <= (a - x) ^+ 2 -> l ^+ 2 * (2%:R * x * a - x ^+ 2) + l * p + f < l ^+ 2 * (2%:R * a * a - a ^+ 2) + l * p' + f'.
Proof.
move=> near l_ge1 far; have -> : 2%:R * a * a - a ^+ 2 = 2%:R * x * a - x ^+ 2 + (a - x) ^+ 2.
  rewrite sqrrB [RHS](AC (2*3) ((1*4)*(2*5)*3)) /= addNr addr0 -!mulrA !(mulr_natl _ 2) [x * a]mulrC subrr add0r.
  by rewrite -expr2 mulr2n addrK.
have l_gt0 := lt_le_trans ltr01 l_ge1.
move: (2%:R * x * a - _) => g; rewrite mulrDr -!addrA ltr_add2l -ltr_subl_addr opprD addrACA -mulrBr.
apply: (@lt_le_trans _ _ (l * l)); last by rewrite -expr2 ler_pmulr ?exprn_gt0.
apply: le_lt_trans (_ : l * (`|p - p'| + `|f - f'|) < _); last by rewrite ltr_pmul2l.
rewrite [X in _ <= X]mulrDr ler_add ?ler_pmul2l ?ler_norm //.
by rewrite (le_trans (ler_norm _)) // ler_pemull.
Qed.

(* Any 2 r + 1 bridges are answered, and all others get the first value. *)
Lemma composes_on (R : realFieldType) (Y : finType) (r m : nat) (S : {set Y}) :
    (0 < r)%N -> (#|S| <= (r + r).+1)%N ->
  exists (base : 'cV[R]_m) (B1 : Y -> 'M[R]_(m, r)) (A1 : Y -> 'cV[R]_r)
    (B2 : {ffun Y -> 'I_m} -> 'M[R]_(m, r)) (A2 : {ffun Y -> 'I_m} -> 'cV[R]_r),
  forall y (q : {ffun Y -> 'I_m}), (y \in S) || (q y == 0 :> nat)%N ->
  correct_by 0 (fun y q z => averaged_logits 1%:M base 1%:M B1 A1 B2 A2 y q z 0) y q.
Proof.
case: r => // r _; case: m => [|m] few.
  by exists 0, (fun=> 0), (fun=> 0), (fun=> 0), (fun=> 0) => y q; case: (q y) => -[].
pose at_seat i (q : {ffun Y -> 'I_m.+1}) := held r S q i.
pose hum q (z : 'I_m.+1) : R :=
  \sum_(j < r) (z == at_seat (lift ord0 j) q)%:R * (at_seat (r.+1 + lift ord0 j)%N q)%:R.
have [h [P1 [P2 [u [Q [v three]]]]]] :=
  three_bridges (at_seat r.+1) (at_seat (r.+1 + r.+1)%N) (at_seat 0%N) hum.
pose B2 := composing_B2 r S Q; pose A2 := composing_A2 r S v.
pose full q z : R := h z + \sum_j B2 q z j * A2 q j 0.
pose part q (z : 'I_m.+1) : R := Q q z - z%:R ^+ 2 * v q.
have B2_lt q (j : 'I_r.+1) z : z != at_seat j q -> B2 q z j < B2 q (at_seat j q) j.
  rewrite !mxE; case: (eqVneq j ord0) => [-> | _] ne; first by have [/(_ ne)] := three q z.
  by rewrite eqxx (negbTE ne) ltr01.
have [|l l_ge1 l_gt] := loud_enough
    (P := fun p : bool * {ffun Y -> 'I_m.+1} * 'I_r.+1 * 'I_m.+1 * 'I_m.+1 =>
            p.1.1.1.1 ==> (p.2 != at_seat p.1.1.2 p.1.1.1.2))
    (fun p => if p.1.1.1.1 then full p.1.1.1.2 p.2 - full p.1.1.1.2 p.1.2
              else `|part p.1.1.1.2 p.2 - part p.1.1.1.2 p.1.2| + `|full p.1.1.1.2 p.2 - full p.1.1.1.2 p.1.2|)
    (g := fun p => if p.1.1.1.1 then B2 p.1.1.1.2 (at_seat p.1.1.2 p.1.1.1.2) p.1.1.2 - B2 p.1.1.1.2 p.2 p.1.1.2
                   else 1).
  by move=> [[[[[] q] j] a] z] /= => [ne | _]; rewrite ?ltr01 // subr_gt0 B2_lt.
exists (composing_base h), (composing_B1 r S P1 P2 l), (composing_A1 r S u l), B2, A2 => y q answered.
apply/correct_byP => z zq; rewrite addr0.
rewrite -!/(composing_logits r S h P1 P2 u Q v l y q _).
have targetE : target S q y = q y.
  by move: answered; rewrite /target; case: ifP => //= _ /eqP q0; apply: val_inj.
have others : (r.+1 < seat r S y)%N -> seat r S y != (r.+1 + r.+1)%N ->
    composing_logits r S h P1 P2 u Q v l y q z < composing_logits r S h P1 P2 u Q v l y q (q y).
  move=> gt_y ne_y; rewrite !(at_others few) // targetE.
  have := l_gt (false, q, ord0, q y, z); rewrite mulr1 => /(_ isT) /outgrown; apply=> //.
  rewrite -real_normK ?num_real // exprn_ege1 //.
  have [lt_zq | lt_qz | same] := ltngtP z (q y); last by rewrite (val_inj same) eqxx in zq.
    by rewrite ger0_norm ?subr_ge0 ?ler_nat ?(ltnW lt_zq) // -natrB 1?ltnW // ler1n subn_gt0.
  by rewrite distrC ger0_norm ?subr_ge0 ?ler_nat ?(ltnW lt_qz) // -natrB 1?ltnW // ler1n subn_gt0.
case Sy: (y \in S); last first.
  apply: others; rewrite /seat Sy ?ltnS ?leq_addr // .
  by rewrite neq_ltn ltnSn orbT.
have qE i : seat r S y = i -> at_seat i q = q y by move<-; rewrite /at_seat heldE.
have [at_y | ne2] := eqVneq (seat r S y) (r.+1 + r.+1)%N.
  by rewrite !at_product //; have [_ _] := three q z; rewrite qE // => ->.
have [at_y | ne1] := eqVneq (seat r S y) r.+1.
  by rewrite !at_entry //; have [_ + _] := three q z; rewrite qE // => ->.
have [lt_y | ge_y] := ltnP (seat r S y) r.+1; last by apply: others; rewrite // ltn_neqAle eq_sym ne1.
rewrite !(at_column _ _ _ _ _ _ _ _ _ (_ : seat r S y = Ordinal lt_y)) //.
have := l_gt (true, q, Ordinal lt_y, q y, z); rewrite /= qE // => /(_ zq) lt_full.
have : full q z + l * B2 q z (Ordinal lt_y) < full q (q y) + l * B2 q (q y) (Ordinal lt_y); last by [].
by rewrite -ltr_subl_addl addrAC -ltr_subr_addr -mulrBr.
Qed.

(* A factor average of rank r > 0 composes as many as 2 r + 1 bridges, whatever the values: each adapter writes r of its
   factors' entries and reads the other's, and one bridge more reads a product of both. Ours. *)
Theorem few_numbers_compose (R : realFieldType) (Y : finType) (r m : nat) :
    (0 < r)%N -> (#|Y| <= (r + r).+1)%N ->
  exists (base : 'cV[R]_m) (B1 : Y -> 'M[R]_(m, r)) (A1 : Y -> 'cV[R]_r)
    (B2 : {ffun Y -> 'I_m} -> 'M[R]_(m, r)) (A2 : {ffun Y -> 'I_m} -> 'cV[R]_r),
  forall y q, correct_by 0 (fun y q z => averaged_logits 1%:M base 1%:M B1 A1 B2 A2 y q z 0) y q.
Proof.
move=> r_gt0; rewrite -cardsT => few; have [base [B1 [A1 [B2 [A2 all_right]]]]] := composes_on R m r_gt0 few.
by exists base, B1, A1, B2, A2 => y q; apply: all_right; rewrite inE.
Qed.

(* Of more bridges it answers 2 r + 1 always, and the others where the table holds the first value. Ours. *)
Theorem few_numbers_share (R : realFieldType) (Y : finType) (r m : nat) : (0 < r)%N ->
  exists (base : 'cV[R]_m) (B1 : Y -> 'M[R]_(m, r)) (A1 : Y -> 'cV[R]_r)
    (B2 : {ffun Y -> 'I_m} -> 'M[R]_(m, r)) (A2 : {ffun Y -> 'I_m} -> 'cV[R]_r),
  ((minn #|Y| (r + r).+1 * m + (#|Y| - (r + r).+1)) * m ^ #|Y|
     <= m * \sum_(q : {ffun Y -> 'I_m}) \sum_y
              correct_by 0 (fun y q z => averaged_logits 1%:M base 1%:M B1 A1 B2 A2 y q z 0)%R y q)%N.
Proof.
move=> r_gt0; pose S := [set y : Y | (place y < minn #|Y| (r + r).+1)%N].
have cardS : #|S| = minn #|Y| (r + r).+1 by rewrite cardsE card_place_lt // geq_minl.
have [|base [B1 [A1 [B2 [A2 right]]]]] := @composes_on R Y r m S r_gt0; first by rewrite cardS geq_minr.
exists base, B1, A1, B2, A2; case: m => [|m] in base B1 A1 B2 A2 right *.
  rewrite muln0 mul0n; case: (posnP #|Y|) => [-> | n_gt0]; first by rewrite sub0n mul0n.
  by rewrite exp0n // muln0.
have -> : (#|Y| - (r + r).+1 = #|Y| - #|S|)%N by rewrite cardS minnE subKn ?leq_subr.
rewrite -cardS exchange_big big_distrr /= (bigID (mem S)) /= mulnDl leq_add //.
  rewrite -mulnA -sum_nat_const; apply: leq_sum => y Sy; rewrite leq_mul2l.
  rewrite (eq_bigr (fun=> 1%N)) => [|q _]; last by rewrite right ?Sy.
  by rewrite sum1_card card_ffun card_ord leqnn orbT.
have -> : (#|Y| - #|S| = #|~: S|)%N by rewrite -(cardsC S) addKn.
rewrite -sum_nat_const (eq_bigl (fun y => y \notin S)) => [|y]; last by rewrite inE.
apply: leq_sum => y _; pose g : {ffun Y -> 'I_m.+1} := [ffun=> ord0].
have n_gt0 : (0 < #|Y|)%N by apply/card_gt0P; exists y.
have := card_agree_on g [set y]; rewrite cards1 subn1 card_ord => at_first.
rewrite -{1}(prednK n_gt0) expnS leq_mul2l -at_first -sum1_card big_mkcond leq_sum // => q _.
rewrite inE sub1set inE ffunE; case: eqP => // q0.
by rewrite right // -q0 orbT.
Qed.
