(* Facts: what it costs to write facts into a matrix, in rank and in bits.

   agree g q    == the number of arguments at which the tables g and q have the same value
   family F     == the tables q with q y in F y for every y (MathComp's finfun)
   binomial_tail n m k    == P[Bin(n, 1/m) >= k]
   counting_ceiling n m G == counting_bound(ln G, n, m) of the theory: the mean over k = 1..n of
                   min(1, G P[Bin(n, 1/m) >= k])
   K            == the keys, one column per fact (the features at which the facts are read)
   D            == the wanted change of the outputs there, one column per fact
   mp_inv K     == the Moore-Penrose inverse K^+
   A i j        == in margin_rank: the change of the logit of right class i at fact j
   count_vectors Z k == the vectors of counts {ffun Z -> 'I_k.+1} that sum to k
   entrywise_power A k == the matrix of the k-th powers of the entries of A
   circle t     == the point ((1 - t^2)/(1 + t^2), 2 t/(1 + t^2)) of the unit circle
   circle_code N == N such points, one per row
   bad_words b  == the number of words of r signs at a bad number of agreements with a given one

   Traps: #|S| is the number of elements of S, while \rank A and (A <= B)%MS speak of ROW
   spaces; [\rank (\sum_i D i)] is read in scope MS, the matrix sum is [\rank (\sum_i D i)%R].
   In the counting part every number is in nat, and subtraction is truncated; [n.-1] is 0 at n = 0.
   counting_bound (the theorem) is the union bound in binomial form; counting_ceiling is the number. *)
From mathcomp Require Import all_ssreflect all_algebra.
From LoraLimits Require Import lowrank.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

Definition agree (Y Z : finType) (g q : {ffun Y -> Z}) : nat := #|[set y | g y == q y]|.

Section Counting.
Variables Y Z : finType.
Implicit Types (g q : {ffun Y -> Z}) (S : {set Y}) (G : {set {ffun Y -> Z}}).
Local Open Scope nat_scope.

Lemma agree_le g q : agree g q <= #|Y|.
Proof. exact: max_card. Qed.

(* Tables constrained one way on S and another way off S. *)
Lemma card_family_if S (P Q : Y -> pred Z) a b :
    (forall y, #|P y| = a) -> (forall y, #|Q y| = b) ->
  #|family (fun y => if y \in S then P y else Q y)| = a ^ #|S| * b ^ (#|Y| - #|S|).
Proof.
move=> cardP cardQ; rewrite card_family foldrE big_map big_enum /=.
rewrite (bigID (mem S)) /=; congr (_ * _).
  rewrite (eq_bigr (fun _ => a)) ?prod_nat_const // => y Sy.
  by rewrite Sy cardP.
have <- : #|~: S| = #|Y| - #|S| by rewrite -(cardsC S) addKn.
rewrite -prod_nat_const; apply: eq_big => [y | y /negbTE Sy]; first by rewrite inE.
by rewrite Sy cardQ.
Qed.

(* Tables that agree with g on S, and perhaps elsewhere. *)
Lemma card_agree_on g S :
  #|[set q : {ffun Y -> Z} | S \subset [set y | g y == q y]]| = #|Z| ^ (#|Y| - #|S|).
Proof.
have card_one y : #|pred1 (g y)| = 1 by exact: card1.
pose all_values (y : Y) : pred Z := predT.
have card_all y : #|all_values y| = #|Z| by exact: eq_card.
rewrite -[RHS]mul1n -(exp1n #|S|) -(card_family_if S card_one card_all) -[RHS]cardsE.
apply: eq_card => q; rewrite !inE; apply/subsetP/familyP => sub y.
  case: ifP => // Sy; have := sub y Sy.
  by rewrite !inE eq_sym.
move=> Sy; have := sub y; rewrite Sy !inE.
by rewrite eq_sym.
Qed.

(* Tables that agree with g on S and nowhere else. *)
Lemma card_agree_exactly g S :
  #|[set q : {ffun Y -> Z} | [set y | g y == q y] == S :> {set Y}]| = #|Z|.-1 ^ (#|Y| - #|S|).
Proof.
have card_one y : #|pred1 (g y)| = 1 by exact: card1.
have card_others y : #|predC1 (g y)| = #|Z|.-1 by rewrite cardC1.
rewrite -[RHS]mul1n -(exp1n #|S|) -(card_family_if S card_one card_others) -[RHS]cardsE.
apply: eq_card => q; rewrite !inE; apply/eqP/familyP => [<- y | same].
  by rewrite inE; case: ifP => [/eqP -> | /negbT neq]; rewrite !inE 1?eq_sym.
apply/setP => y; have := same y; rewrite inE eq_sym.
by case: ifP => _; rewrite !inE; [move-> | move/negbTE->].
Qed.

Lemma card_agree_eq g j :
  #|[set q : {ffun Y -> Z} | agree g q == j]| = 'C(#|Y|, j) * #|Z|.-1 ^ (#|Y| - j).
Proof.
rewrite -card_draws -sum_nat_const.
rewrite -sum1_card (partition_big (fun q => [set y | g y == q y]) (mem [set S : {set Y} | #|S| == j])) /=.
  apply: eq_bigr => S; rewrite inE => /eqP cardS.
  rewrite -cardS -(card_agree_exactly g S) -[RHS]sum1_card; apply: eq_bigl => q; rewrite !inE /agree.
  by case: ([set y | g y == q y] =P S) => [-> | _]; rewrite ?eqxx ?andbF.
by move=> q; rewrite !inE.
Qed.

(* The binomial tail in counting form: tables with at least k agreements with g. *)
Lemma card_agree_ge g k :
  #|[set q : {ffun Y -> Z} | k <= agree g q]|
    = \sum_(k <= j < #|Y|.+1) 'C(#|Y|, j) * #|Z|.-1 ^ (#|Y| - j).
Proof.
rewrite (eq_bigr _ (fun j _ => esym (card_agree_eq g j))).
rewrite -sum1_card big_mkcond /=.
under [in RHS]eq_bigr do rewrite -sum1_card big_mkcond /=.
rewrite exchange_big /=; apply: eq_bigr => q _.
under [in RHS]eq_bigr do rewrite inE.
rewrite inE; case: (leqP k (agree g q)) => [le_k | lt_k].
  rewrite (@big_cat_nat _ _ _ (agree g q)) //=; last exact: leqW (agree_le g q).
  rewrite big_nat_cond big1 ?add0n; last first.
    by move=> j /andP[/andP[_ lt_j] _]; rewrite gtn_eqF.
  rewrite big_nat_recl ?agree_le // eqxx big_nat_cond big1 // => j /andP[/andP[le_j _] _].
  by rewrite ltn_eqF // ltnS.
rewrite big_nat_cond big1 // => j /andP[/andP[le_j _] _].
by rewrite ltn_eqF // (leq_trans lt_k).
Qed.

Lemma card_bigcup_le (I T : finType) (P : pred I) (F : I -> {set T}) :
  #|\bigcup_(i | P i) F i| <= \sum_(i | P i) #|F i|.
Proof.
elim/big_rec2: _ => [|i m B _ le_Bm]; first by rewrite cards0.
by apply: leq_trans (leq_card_setU _ _) _; rewrite leq_add2l.
Qed.

(* capacity_bits, the union bound behind it (standard): few hypotheses agree with few random
   tables in k places. *)
Theorem counting_bound G k :
  #|[set q : {ffun Y -> Z} | [exists g in G, k <= agree g q]]|
    <= #|G| * 'C(#|Y|, k) * #|Z| ^ (#|Y| - k).
Proof.
pose on g S := [set q : {ffun Y -> Z} | S \subset [set y | g y == q y]].
pose draws := [set S : {set Y} | #|S| == k].
have cover : [set q | [exists g in G, k <= agree g q]]
    \subset \bigcup_(g in G) \bigcup_(S in draws) on g S.
  apply/subsetP => q; rewrite inE => /existsP[g /andP[Gg /card_geqP[s [uniq_s size_s sub_s]]]].
  apply/bigcupP; exists g => //; apply/bigcupP; exists [set y in s].
    by rewrite inE cardsE (card_uniqP uniq_s) size_s.
  by rewrite inE; apply/subsetP => y; rewrite inE => /sub_s.
apply: leq_trans (subset_leq_card cover) _.
apply: leq_trans (card_bigcup_le _ _) _.
rewrite -mulnA -sum_nat_const; apply: leq_sum => g _.
apply: leq_trans (card_bigcup_le _ _) _.
rewrite -card_draws -sum_nat_const; apply: leq_sum => S; rewrite inE => /eqP <-.
by rewrite card_agree_on.
Qed.

(* A count is the number of thresholds that it reaches. *)
Lemma sum_thresholds n x : x <= n -> x = \sum_(1 <= k < n.+1) (k <= x).
Proof.
move=> le_xn; rewrite (@big_cat_nat _ _ _ x.+1) //=.
rewrite big_nat (eq_bigr (fun _ => 1)) -?big_nat => [|k /andP[_]]; last by rewrite ltnS => ->.
rewrite sum_nat_const_nat subn1 muln1 /= big_nat big1 ?addn0 // => k /andP[lt_xk _].
by rewrite leqNgt lt_xk.
Qed.

Lemma max_agree_le G q : \max_(g in G) agree g q <= #|Y|.
Proof. by apply/bigmax_leqP => g _; apply: agree_le. Qed.

Lemma max_agree_ge G q k : 0 < k ->
  (k <= \max_(g in G) agree g q) = [exists g in G, k <= agree g q].
Proof.
move=> k_gt0; apply/idP/idP => [|/existsP[g /andP[Gg le_k]]]; last first.
  exact: leq_trans le_k (leq_bigmax_cond _ Gg).
case: k k_gt0 => // k _; apply: contraLR => /existsPn none; rewrite -ltnNge ltnS.
apply/bigmax_leqP => g Gg; have := none g.
by rewrite Gg /= -ltnNge ltnS.
Qed.

Lemma card_ffun_le (A : {set {ffun Y -> Z}}) : #|A| <= #|Z| ^ #|Y|.
Proof. by rewrite -card_ffun max_card. Qed.

(* capacity_bits (ours; one kernel, shared with additive_limit): the best of few hypotheses, chosen
   after the table is known, recalls random tables no better than the sum of the capped tails;
   dividing by |Y| |Z|^|Y| gives counting_bound(ln |G|, |Y|, |Z|). *)
Theorem counting_mean G :
  \sum_(q : {ffun Y -> Z}) \max_(g in G) agree g q
    <= \sum_(1 <= k < #|Y|.+1)
         minn (#|Z| ^ #|Y|) (#|G| * (\sum_(k <= j < #|Y|.+1) 'C(#|Y|, j) * #|Z|.-1 ^ (#|Y| - j))).
Proof.
rewrite (eq_bigr _ (fun q _ => sum_thresholds (max_agree_le G q))) exchange_big /=.
rewrite !big_nat; apply: leq_sum => k /andP[k_gt0 _].
have -> : \sum_(q : {ffun Y -> Z}) (k <= \max_(g in G) agree g q)
    = #|[set q : {ffun Y -> Z} | k <= \max_(g in G) agree g q]|.
  by rewrite -[RHS]sum1_card [RHS]big_mkcond; apply: eq_bigr => q _; rewrite inE; case: leqP.
rewrite leq_min card_ffun_le /=.
have cover : [set q | k <= \max_(g in G) agree g q]
    \subset \bigcup_(g in G) [set q : {ffun Y -> Z} | k <= agree g q].
  apply/subsetP => q; rewrite inE (max_agree_ge _ _ k_gt0) => /existsP[g /andP[Gg le_k]].
  by apply/bigcupP; exists g; rewrite ?inE.
apply: leq_trans (subset_leq_card cover) _; apply: leq_trans (card_bigcup_le _ _) _.
by rewrite -sum_nat_const; apply: leq_sum => g _; rewrite card_agree_ge.
Qed.

End Counting.

Section OneTable.
Variables Y Z : finType.
Implicit Types (g q : {ffun Y -> Z}).
Local Open Scope nat_scope.

Lemma agreeE g q : agree g q = \sum_y (g y == q y).
Proof. by rewrite /agree -sum1_card big_mkcond; apply: eq_bigr => y _; rewrite inE; case: eqP. Qed.

(* capacity_bits, "exactly 1/m at G = 1" (ours): one fixed table agrees with one in |Z| of the entries
   of a random one, with equality. *)
Theorem counting_single g : \sum_(q : {ffun Y -> Z}) agree g q = #|Y| * #|Z| ^ #|Y|.-1.
Proof.
rewrite (eq_bigr _ (fun q _ => agreeE g q)) exchange_big /= -sum_nat_const.
apply: eq_bigr => y _; rewrite -subn1 -(cards1 y) -(card_agree_on g [set y]).
rewrite -sum1_card [RHS]big_mkcond; apply: eq_bigr => q _.
by rewrite inE sub1set inE; case: eqP.
Qed.

(* The same for the bound: at |G| = 1 the sum of counting_mean is n m^(n-1), no cap being active. *)
Theorem counting_mean_single (z0 : Z) :
  \sum_(1 <= k < #|Y|.+1)
      minn (#|Z| ^ #|Y|) (1 * (\sum_(k <= j < #|Y|.+1) 'C(#|Y|, j) * #|Z|.-1 ^ (#|Y| - j)))
    = #|Y| * #|Z| ^ #|Y|.-1.
Proof.
pose g : {ffun Y -> Z} := [ffun=> z0].
rewrite -(counting_single g) [in RHS](eq_bigr _ (fun q _ => sum_thresholds (agree_le g q))).
rewrite exchange_big /=; apply: eq_bigr => k _.
rewrite mul1n -(card_agree_ge g k) (minn_idPr (card_ffun_le _)) -sum1_card big_mkcond.
by apply: eq_bigr => q _; rewrite inE; case: leqP.
Qed.

End OneTable.

Section Codes.
Local Open Scope nat_scope.

Lemma counting_sum_monotone n m G1 G2 (tail : nat -> nat) : G1 <= G2 ->
  \sum_(1 <= k < n.+1) minn m (G1 * tail k) <= \sum_(1 <= k < n.+1) minn m (G2 * tail k).
Proof. by move=> leG; apply: leq_sum => k _; rewrite leq_min geq_minl geq_min leq_mul2r leG !orbT. Qed.

(* capacity_bits (ours): [decode] is what a model does with an adapter, [write q] the adapter that the
   training run leaves for table q; an adapter of b bits is an element of a type of at most 2^b
   elements, say 'I_(2 ^ b) or b.-tuple bool. It names at most 2^b functions, so counting_mean applies. *)
Theorem capacity_bits (Y Z Code : finType) bits (decode : Code -> {ffun Y -> Z})
    (write : {ffun Y -> Z} -> Code) : #|Code| <= 2 ^ bits ->
  #|codom decode| <= 2 ^ bits /\
  \sum_(q : {ffun Y -> Z}) agree (decode (write q)) q
    <= \sum_(1 <= k < #|Y|.+1) minn (#|Z| ^ #|Y|)
         (2 ^ bits * (\sum_(k <= j < #|Y|.+1) 'C(#|Y|, j) * #|Z|.-1 ^ (#|Y| - j))).
Proof.
move=> card_code; split; first exact: leq_trans (leq_image_card _ _) card_code.
have card_functions : #|decode @: setT| <= 2 ^ bits.
  by rewrite (leq_trans (leq_imset_card _ _)) ?cardsT.
apply: leq_trans (counting_sum_monotone _ _ _ card_functions).
apply: leq_trans (counting_mean _); apply: leq_sum => q _.
exact: (leq_bigmax_cond (F := fun g => agree g q)) (imset_f _ _).
Qed.

(* capacity_bits, last sentence (ours): the count of tables that some hypothesis matches in k places or
   more, by the binomial tail; divided by |Z|^|Y| it is |G| P[Bin(|Y|, 1/|Z|) >= k]. *)
Theorem counting_tail (Y Z : finType) (G : {set {ffun Y -> Z}}) k :
  #|[set q : {ffun Y -> Z} | [exists g in G, k <= agree g q]]|
    <= #|G| * (\sum_(k <= j < #|Y|.+1) 'C(#|Y|, j) * #|Z|.-1 ^ (#|Y| - j)).
Proof.
have cover : [set q | [exists g in G, k <= agree g q]]
    \subset \bigcup_(g in G) [set q : {ffun Y -> Z} | k <= agree g q].
  apply/subsetP => q; rewrite inE => /existsP[g /andP[Gg le_k]].
  by apply/bigcupP; exists g; rewrite ?inE.
apply: leq_trans (subset_leq_card cover) _; apply: leq_trans (card_bigcup_le _ _) _.
by rewrite -sum_nat_const; apply: leq_sum => g _; rewrite card_agree_ge.
Qed.

End Codes.

Section Ceiling.
Variable R : realFieldType.

(* P[Bin(n, 1/m) >= k], and counting_bound of the code with G hypotheses. *)
Definition binomial_tail n m k : R :=
  \sum_(k <= j < n.+1) ('C(n, j))%:R * (m%:R^-1) ^+ j * (1 - m%:R^-1) ^+ (n - j).
Definition counting_ceiling n m (G : nat) : R :=
  n%:R^-1 * \sum_(1 <= k < n.+1) Num.min 1 (G%:R * binomial_tail n m k).

Lemma binomial_tail_nat n m k : (0 < m)%N ->
  (\sum_(k <= j < n.+1) 'C(n, j) * m.-1 ^ (n - j))%N%:R = (m ^ n)%:R * binomial_tail n m k.
Proof.
case: m => // m _; have m1_neq0 : m.+1%:R != 0 :> R by rewrite pnatr_eq0.
rewrite natr_sum /binomial_tail big_distrr /= !big_nat; apply: eq_bigr => j /andP[_ le_jn].
rewrite natrM natrX mulrCA -!mulrA; congr (_ * _).
rewrite natrX -[in RHS](subnKC (le_jn : (j <= n)%N)) exprD exprVn addKn.
have -> : 1 - m.+1%:R^-1 = m%:R / m.+1%:R :> R.
  have -> : m%:R = m.+1%:R - 1 :> R by rewrite mulrSr addrK.
  by rewrite mulrBl divff // mul1r.
by rewrite expr_div_n -mulrA mulKf ?expf_neq0 // mulrC divfK ?expf_neq0.
Qed.

Lemma natr_minn a b : (minn a b)%:R = Num.min a%:R b%:R :> R.
Proof. by rewrite /Num.min ltr_nat /minn; case: ifP. Qed.

Lemma counting_ceiling_nat n m G : (0 < m)%N ->
  (\sum_(1 <= k < n.+1) minn (m ^ n)
      (G * (\sum_(k <= j < n.+1) 'C(n, j) * m.-1 ^ (n - j))))%N%:R
    = (\sum_(1 <= k < n.+1) Num.min 1 (G%:R * binomial_tail n m k)) * (m ^ n)%:R.
Proof.
move=> m_gt0; rewrite natr_sum big_distrl /=; apply: eq_bigr => k _.
rewrite natr_minn natrM binomial_tail_nat // minr_pmull ?ler0n // mul1r mulrCA.
by rewrite [G%:R * _ * _]mulrC.
Qed.

(* capacity_bits in the form in which it is computed: mean accuracy over uniform tables, the table of
   answers being the best of G hypotheses, is at most counting_bound(ln G, n, m). *)
Theorem counting_mean_accuracy (Y Z : finType) (H : {set {ffun Y -> Z}}) G :
    (0 < #|Y|)%N -> (0 < #|Z|)%N -> (#|H| <= G)%N ->
  (\sum_(q : {ffun Y -> Z}) \max_(g in H) agree g q)%N%:R / (#|Y| * #|Z| ^ #|Y|)%N%:R
    <= counting_ceiling #|Y| #|Z| G.
Proof.
move=> Y_gt0 Z_gt0 leHG; set n := #|Y|; set m := #|Z|.
have tables_gt0 : 0 < (m ^ n)%:R :> R by rewrite ltr0n expn_gt0 Z_gt0.
have n_gt0 : 0 < n%:R :> R by rewrite ltr0n.
rewrite /counting_ceiling natrM invfM mulrCA.
rewrite ler_wpmul2l ?invr_ge0 ?(ltW n_gt0) // ler_pdivr_mulr // -counting_ceiling_nat //.
by rewrite ler_nat (leq_trans (counting_mean H)) ?counting_sum_monotone.
Qed.

(* The range of that bound: exactly 1/m at G = 1, growing with G, at most 1. *)
Theorem counting_ceiling_single n m : (0 < n)%N -> (0 < m)%N -> counting_ceiling n m 1 = m%:R^-1.
Proof.
case: n m => // n [//|m] _ _; rewrite /counting_ceiling.
have tables_neq0 : (m.+1 ^ n.+1)%:R != 0 :> R by rewrite pnatr_eq0 -lt0n expn_gt0.
have n_neq0 : n.+1%:R != 0 :> R by rewrite pnatr_eq0.
have m_neq0 : m.+1%:R != 0 :> R by rewrite pnatr_eq0.
apply: (mulIf tables_neq0); rewrite -mulrA -counting_ceiling_nat //.
have := @counting_mean_single (ordinal_finType n.+1) (ordinal_finType m.+1) ord0.
by rewrite !card_ord => ->; rewrite natrM mulKf // expnS natrM mulKf.
Qed.

Lemma binomial_tail_ge0 n m k : (0 < m)%N -> 0 <= binomial_tail n m k.
Proof.
move=> m_gt0; have m_gt0R : 0 < m%:R :> R by rewrite ltr0n.
apply: sumr_ge0 => j _; rewrite !mulr_ge0 ?ler0n ?exprn_ge0 ?invr_ge0 ?ler0n //.
by rewrite subr_ge0 invf_le1 // ler1n.
Qed.

Theorem counting_ceiling_monotone n m G1 G2 : (0 < m)%N -> (G1 <= G2)%N ->
  counting_ceiling n m G1 <= counting_ceiling n m G2.
Proof.
move=> m_gt0 leG; rewrite /counting_ceiling ler_wpmul2l ?invr_ge0 ?ler0n //.
apply: ler_sum => k _; rewrite le_minr le_minl lexx /= le_minl.
by rewrite ler_wpmul2r ?binomial_tail_ge0 ?ler_nat // orbT.
Qed.

Theorem counting_ceiling_le1 n m G : (0 < n)%N -> counting_ceiling n m G <= 1.
Proof.
move=> n_gt0; have n_gt0R : 0 < n%:R :> R by rewrite ltr0n.
rewrite /counting_ceiling ler_pdivr_mull // mulr1.
have -> : n%:R = \sum_(1 <= k < n.+1) 1 :> R by rewrite sumr_const_nat subn1.
by apply: ler_sum => k _; rewrite le_minl lexx.
Qed.

End Ceiling.

Section TraceRank.
Variable R : realFieldType.

Lemma mxtrace_cauchy m n (X Y : 'M[R]_(m, n)) : (\tr (X *m Y^T)) ^+ 2 <= frob2 X * frob2 Y.
Proof.
have [-> | Y_neq0] := eqVneq Y 0; first by rewrite trmx0 mulmx0 mxtrace0 expr0n /= frob20 mulr0.
have normY_gt0 : 0 < frob2 Y by rewrite lt_def frob2_eq0 Y_neq0 frob2_ge0.
set t := \tr _.
have := frob2_ge0 (frob2 Y *: X + (- t) *: Y).
have -> : frob2 (frob2 Y *: X + (- t) *: Y) = frob2 Y * (frob2 X * frob2 Y - t ^+ 2).
  rewrite frob2D !frob2Z linearZ /= -scalemxAr -scalemxAl !mxtraceZ -/t.
  rewrite sqrrN mulNr mulrCA -expr2 [t ^+ 2 * _]mulrC mulr2n addrA addrK.
  by rewrite expr2 -mulrA [_ * frob2 X]mulrC -mulrBr.
by rewrite pmulr_rge0 // subr_ge0.
Qed.

(* Gram matrices of independent rows are invertible over an ordered field. *)
Lemma gram_unitmx r n (S : 'M[R]_(r, n)) : row_free S -> S *m S^T \in unitmx.
Proof.
move=> freeS; rewrite -row_free_unit; apply: inj_row_free => v vSS0.
apply: (row_free_inj freeS); rewrite mul0mx; apply/eqP.
by rewrite -frob2_eq0 frob2_mxtrace trmx_mul mulmxA -(mulmxA v) vSS0 mul0mx mxtrace0.
Qed.

Lemma gram_tr_unitmx m r (C : 'M[R]_(m, r)) : row_full C -> C^T *m C \in unitmx.
Proof.
by move=> fullC; rewrite -{2}[C]trmxK gram_unitmx // /row_free mxrank_tr.
Qed.

(* margin_rank, the inequality it rests on (standard). *)
Theorem trace_rank n (A : 'M[R]_n) : (\tr A) ^+ 2 <= (\rank A)%:R * frob2 A.
Proof.
have [C [B fullC defA]] : exists C : 'M[R]_(n, \rank A), exists2 B, row_full C & A = C *m B.
  by exists (col_base A); exists (row_base A); rewrite ?col_base_full ?mulmx_base.
pose Gi := invmx (C^T *m C); pose P := C *m Gi *m C^T.
have CC_unit := gram_tr_unitmx fullC.
have Gi_sym : Gi^T = Gi by rewrite trmx_inv trmx_mul trmxK.
have P_sym : P^T = P by rewrite /P !trmx_mul trmxK Gi_sym mulmxA.
have PC : P *m C = C by rewrite /P -!mulmxA mulVmx ?mulmx1.
have PP : P *m P = P by rewrite {2}/P !mulmxA PC.
have trP : \tr P = (\rank A)%:R by rewrite /P -mulmxA mxtrace_mulC -mulmxA mulVmx ?mxtrace1.
have trA : \tr A = \tr (A *m P^T) by rewrite P_sym mxtrace_mulC defA mulmxA PC.
have normP : frob2 P = (\rank A)%:R by rewrite frob2_mxtrace P_sym PP.
by rewrite trA -normP mulrC mxtrace_cauchy.
Qed.

End TraceRank.

Section MarginRank.
Variable R : realFieldType.

(* margin_rank for changes bounded in total square off the diagonal (ours): the sharpest form;
   the two that follow bound the total. *)
Theorem margin_rank_total N (A : 'M[R]_N) :
    (forall i, 1 <= A i i) ->
  N%:R ^+ 2 <= (\rank A)%:R * (N%:R + \sum_i \sum_(j | j != i) A i j ^+ 2).
Proof.
move=> diag_ge1; have diag_gt0 i : 0 < A i i by apply: lt_le_trans (diag_ge1 i); exact: ltr01.
pose d := \row_i (A i i)^-1; pose A1 := diag_mx d *m A.
have A1E i j : A1 i j = (A i i)^-1 * A i j by rewrite /A1 mul_diag_mx !mxE.
have A1_diag i : A1 i i = 1 by rewrite A1E mulVf // gt_eqF.
have trA1 : \tr A1 = N%:R.
  by rewrite /mxtrace (eq_bigr _ (fun i _ => A1_diag i)) sumr_const card_ord.
have A1_le i j : A1 i j ^+ 2 <= A i j ^+ 2.
  have inv_le1 : (A i i)^-1 <= 1 by rewrite invf_le1.
  by rewrite A1E exprMn ler_pimull ?sqr_ge0 // exprn_ile1 // invr_ge0 ltW.
have normA1 : frob2 A1 <= N%:R + \sum_i \sum_(j | j != i) A i j ^+ 2.
  rewrite -[N%:R]/(N%:R) -[in X in X + _](card_ord N) -sumr_const -big_split /=.
  apply: ler_sum => i _; rewrite (bigD1 i) //= A1_diag expr1n ler_add2l.
  exact: ler_sum.
rewrite -{1}trA1; apply: le_trans (trace_rank A1) _.
have rankA1 : (\rank A1 <= \rank A)%N by exact: mxrankM_maxr.
by apply: ler_pmul; rewrite ?ler0n ?frob2_ge0 ?ler_nat.
Qed.

(* margin_rank for changes bounded in mean square off the diagonal (ours). *)
Theorem margin_rank_mean_square N (A : 'M[R]_N) (eps : R) :
    (forall i, 1 <= A i i) ->
    \sum_i \sum_(j | j != i) A i j ^+ 2 <= (N * N.-1)%:R * eps ^+ 2 ->
  N%:R <= (\rank A)%:R * (1 + N.-1%:R * eps ^+ 2).
Proof.
case: N A => [|N] A diag_ge1 offdiag_le.
  by rewrite mulr_ge0 ?ler0n // addr_ge0 ?ler01 // mulr_ge0 ?ler0n ?sqr_ge0.
have N_gt0 : 0 < N.+1%:R :> R by rewrite ltr0n.
rewrite -(ler_pmul2l N_gt0) -expr2; apply: le_trans (margin_rank_total diag_ge1) _.
rewrite mulrCA ler_wpmul2l ?ler0n // mulrDr mulr1 ler_add2l.
by rewrite mulrA -natrM.
Qed.

(* margin_rank (i) (ours) in matrix form: A i j is the change of the logit of right class i at fact j. *)
Theorem margin_rank N (A : 'M[R]_N) (eps : R) :
    (forall i, 1 <= A i i) -> (forall i j, i != j -> `|A i j| <= eps) ->
  N%:R <= (\rank A)%:R * (1 + N.-1%:R * eps ^+ 2).
Proof.
move=> diag_ge1 offdiag_le; apply: margin_rank_mean_square => //.
have row_le i : \sum_(j | j != i) A i j ^+ 2 <= N.-1%:R * eps ^+ 2.
  have -> : N.-1 = #|[pred j : 'I_N | j != i]| by rewrite cardC1 card_ord.
  rewrite mulr_natl -sumr_const; apply: ler_sum => j; rewrite eq_sym => neq_ij.
  have := offdiag_le i j neq_ij.
  by rewrite -real_normK ?num_real // => le_eps; rewrite ler_pexpn2r ?nnegrE // (le_trans _ le_eps).
apply: le_trans (ler_sum _ (fun i _ => row_le i)) _.
by rewrite sumr_const card_ord natrM -mulrA [X in _ <= X]mulr_natl.
Qed.

End MarginRank.

Section CountVectors.
Variable Z : finType.
Local Open Scope nat_scope.

(* One vector of counts for each multiset of k values. *)
Definition count_vectors k := [set c : {ffun Z -> 'I_k.+1} | \sum_z c z == k].

Lemma card_count_vectors k : #|count_vectors k| <= 'C((k + #|Z|).-1, k).
Proof.
have [z0 _ | Z0] := pickP Z; last first.
  have [-> | k_gt0] := posnP k.
    apply: leq_trans (max_card _) _.
    by rewrite card_ffun card_ord (eq_card0 Z0).
  rewrite eq_card0 // => c; rewrite inE big_pred0 // eq_sym.
  by apply/negbTE; rewrite -lt0n.
have [m Zm] : exists m, #|Z| = m.+1.
  by exists #|Z|.-1; rewrite prednK //; apply/card_gt0P; exists z0.
have size_enum : size (enum Z) = m.+1 by rewrite -cardE.
pose t (c : {ffun Z -> 'I_k.+1}) := [tuple c (nth z0 (enum Z) i) | i < m.+1].
have t_inj : injective t.
  move=> c c' cc'; apply/ffunP => z.
  have lt_z : index z (enum Z) < m.+1 by rewrite -size_enum index_mem mem_enum.
  have := congr1 (fun s => tnth s (Ordinal lt_z)) cc'.
  by rewrite !tnth_mktuple /= nth_index ?mem_enum.
rewrite -(card_imset _ t_inj) Zm addnS /= -(bin_sub (leq_addr _ _)) addKn addnC.
rewrite -card_ord_partitions; apply/subset_leq_card/subsetP=> _ /imsetP[c c_k ->].
move: c_k; rewrite /count_vectors !inE => c_k; rewrite big_tuple (eq_bigr (fun i : 'I_m.+1 => c (nth z0 (enum Z) i) : nat)).
  rewrite -(big_mkord xpredT (fun i => c (nth z0 (enum Z) i) : nat)) -size_enum.
  by rewrite -(big_nth z0 xpredT (fun z => c z : nat)) big_enum /= (eq_bigl xpredT).
by move=> i _; rewrite tnth_mktuple.
Qed.

End CountVectors.

Section EntrywisePower.
Variable R : realFieldType.

Definition entrywise_power m n (A : 'M[R]_(m, n)) (k : nat) : 'M[R]_(m, n) := \matrix_(i, j) A i j ^+ k.

(* One monomial of degree k in the coordinates for each vector of exponents. *)
Lemma monomials r k (F : 'I_r -> R) : (\sum_l F l) ^+ k =
  \sum_(c in count_vectors [finType of 'I_r] k)
    (\prod_l F l ^+ c l) *+ #|[pred f : {ffun 'I_k -> 'I_r} | [forall l, #|[pred t | f t == l]| == c l]]|.
Proof.
pose cnt (f : {ffun 'I_k -> 'I_r}) : {ffun 'I_r -> 'I_k.+1} := [ffun l => inord #|[pred t | f t == l]|].
have cntE f l : cnt f l = #|[pred t | f t == l]| :> nat.
  by rewrite ffunE inordK // ltnS -[X in (_ <= X)%N](card_ord k) max_card.
rewrite -[in LHS](card_ord k) -prodr_const bigA_distr_bigA /=.
rewrite (partition_big cnt (mem (count_vectors [finType of 'I_r] k))) /= => [|f _]; last first.
  rewrite inE (eq_bigr _ (fun l _ => cntE f l)) -[X in _ == X](card_ord k) -sum1_card.
  by rewrite (partition_big f xpredT) //=; apply/eqP/eq_bigr => l _; rewrite sum1_card.
apply: eq_bigr => c _; rewrite -sumr_const; apply: eq_big => [f | f /eqP <-].
  rewrite inE; apply/eqP/forallP => [<- l | same]; first by rewrite cntE.
  by apply/ffunP => l; apply: val_inj; rewrite /= cntE (eqP (same l)).
rewrite (partition_big f xpredT) //=; apply: eq_bigr => l _; rewrite cntE -prodr_const.
by apply: eq_bigr => t /eqP ->.
Qed.

(* margin_rank, the reason of the sharper floor (standard): the k-th powers of the entries of a matrix of
   rank r are combinations of the C(r+k-1, k) monomials of degree k in r coordinates. *)
Theorem rank_entrywise_power m n k (A : 'M[R]_(m, n)) :
  (\rank (entrywise_power A k) <= 'C((\rank A + k).-1, k))%N.
Proof.
pose V := count_vectors [finType of 'I_(\rank A)] k.
apply: leq_trans (_ : #|V| <= _)%N; last by have := card_count_vectors [finType of 'I_(\rank A)] k; rewrite card_ord addnC.
have [C [B defA]] : exists C : 'M[R]_(m, \rank A), exists B : 'M[R]_(\rank A, n), A = C *m B.
  by exists (col_base A), (row_base A); rewrite mulmx_base.
pose number (c : {ffun 'I_(\rank A) -> 'I_k.+1}) :=
  #|[pred f : {ffun 'I_k -> 'I_(\rank A)} | [forall l, #|[pred t | f t == l]| == c l]]|.
pose c (a : 'I_#|V|) : {ffun 'I_(\rank A) -> 'I_k.+1} := enum_val a.
pose M : 'M[R]_(m, #|V|) := \matrix_(i, a) ((\prod_l C i l ^+ c a l) *+ number (c a)).
pose N : 'M[R]_(#|V|, n) := \matrix_(a, j) \prod_l B l j ^+ c a l.
have -> : entrywise_power A k = M *m N; last exact: mulmx_max_rank.
apply/matrixP => i j; rewrite !mxE {1}defA mxE monomials big_enum_val; apply: eq_bigr => a _.
rewrite !mxE mulrnAl -big_split; congr (_ *+ _); apply: eq_bigr => l _.
exact: exprMn.
Qed.

Lemma margin_rank_powers_ge N k (A : 'M[R]_N) (eps : R) :
    (forall i, 1 <= A i i) -> (forall i j, i != j -> `|A i j| <= eps) ->
  N%:R <= ('C((\rank A + k).-1, k))%:R * (1 + N.-1%:R * eps ^+ (2 * k)).
Proof.
move=> diag off; rewrite mulnC exprM.
have diag_k i : 1 <= (entrywise_power A k) i i by rewrite mxE exprn_ege1.
have off_k i j : i != j -> `|(entrywise_power A k) i j| <= eps ^+ k.
  by move=> ij; rewrite mxE normrX; apply: ler_expn2r; rewrite ?nnegrE ?(le_trans _ (off _ _ ij)) ?off.
apply: le_trans (margin_rank diag_k off_k) _; rewrite ler_wpmul2r ?ler_nat ?rank_entrywise_power //.
by rewrite addr_ge0 ?ler01 // mulr_ge0 ?ler0n ?sqr_ge0.
Qed.

(* margin_rank (i), sharper (standard): a floor on the rank for every power k, k = 1 being the bound above. *)
Theorem margin_rank_powers N k (A : 'M[R]_N) (eps : R) :
  (forall i, A i i = 1) -> (forall i j, i != j -> `|A i j| <= eps) ->
  N%:R <= ('C((\rank A + k).-1, k))%:R * (1 + N.-1%:R * eps ^+ (2 * k)).
Proof. by move=> diag; apply: margin_rank_powers_ge => i; rewrite diag. Qed.

(* margin_rank (i), sharper, as it is used: any keys, the right class rises by >= 1, the others move by
   <= eps. *)
Theorem margin_rank_powers_keys k c m n N (E : 'M[R]_(c, m)) (U : 'M[R]_(m, n)) (K : 'M[R]_(n, N))
    (right : 'I_N -> 'I_c) (eps : R) :
    (forall i, 1 <= (E *m U *m K) (right i) i) ->
    (forall i j, i != j -> `|(E *m U *m K) (right i) j| <= eps) ->
  N%:R <= ('C((\rank U + k).-1, k))%:R * (1 + N.-1%:R * eps ^+ (2 * k)).
Proof.
move=> rise others; pose A := rowsub right E *m U *m K.
have AE i j : A i j = (E *m U *m K) (right i) j by rewrite /A !mul_rowsub_mx mxE.
have rankA : (\rank A <= \rank U)%N by rewrite (leq_trans (mxrankM_maxl _ _)) ?mxrankM_maxr.
have bound : N%:R <= ('C((\rank A + k).-1, k))%:R * (1 + N.-1%:R * eps ^+ (2 * k)).
  by apply: margin_rank_powers_ge => [i | i j ij]; rewrite AE ?others.
apply: le_trans bound _; apply: ler_wpmul2r.
  by rewrite addr_ge0 ?ler01 // mulr_ge0 ?ler0n // exprM exprn_ge0 ?sqr_ge0.
by rewrite ler_nat leq_bin2l // -!subn1 leq_sub2r // leq_add2r.
Qed.

End EntrywisePower.

Section FactRank.
Variable F : fieldType.

(* fact_rank (standard): feasible iff the row space of D lies in that of K, the least rank is rank D. *)
Theorem fact_rank m n N (K : 'M[F]_(n, N)) (D : 'M[F]_(m, N)) :
  [/\ (exists U : 'M[F]_(m, n), U *m K = D) <-> (D <= K)%MS,
      forall U : 'M[F]_(m, n), U *m K = D -> (\rank D <= \rank U)%N
    & (D <= K)%MS -> exists2 U : 'M[F]_(m, n), U *m K = D & \rank U = \rank D].
Proof.
have rank_ge (U : 'M[F]_(m, n)) : U *m K = D -> (\rank D <= \rank U)%N.
  by move=> <-; apply: mxrankM_maxl.
split=> // [|subDK].
  by split=> [[U <-] | /submxP[U ->]]; [exact: submxMl | exists U].
exists (D *m pinvmx K); first exact: mulmxKpV.
apply/eqP; rewrite eqn_leq mxrankM_maxl /=; apply: rank_ge; exact: mulmxKpV.
Qed.

(* fact_rank, last sentence: N facts with independent keys and independent changes cost rank N. *)
Theorem fact_rank_independent m n N (K : 'M[F]_(n, N)) (D : 'M[F]_(m, N)) :
    \rank K = N -> \rank D = N ->
  [/\ forall U : 'M[F]_(m, n), U *m K = D -> (N <= \rank U)%N
    & exists2 U : 'M[F]_(m, n), U *m K = D & \rank U = N].
Proof.
move=> rankK rankD; have [_ rank_ge rank_attained] := fact_rank K D.
have subDK : (D <= K)%MS by apply: submx_full; apply/eqP.
split=> [U /rank_ge | ]; first by rewrite rankD.
by have [U UK rankU] := rank_attained subDK; exists U; rewrite ?rankU.
Qed.

End FactRank.

Section LeastNorm.
Variable R : realFieldType.

(* One-sided inverses of a matrix with independent rows, and with independent columns. *)
Definition gram_rinv r N (B : 'M[R]_(r, N)) := B^T *m invmx (B *m B^T).
Definition gram_linv n r (C : 'M[R]_(n, r)) := invmx (C^T *m C) *m C^T.

Lemma gram_rinvP r N (B : 'M[R]_(r, N)) : row_free B ->
  B *m gram_rinv B = 1%:M /\ (gram_rinv B *m B)^T = gram_rinv B *m B.
Proof.
move=> freeB; split; first by rewrite mulmxA mulmxV ?gram_unitmx.
by rewrite !trmx_mul trmx_inv trmx_mul !trmxK mulmxA.
Qed.

Lemma gram_linvP n r (C : 'M[R]_(n, r)) : row_full C ->
  gram_linv C *m C = 1%:M /\ (C *m gram_linv C)^T = C *m gram_linv C.
Proof.
move=> fullC; split; first by rewrite -mulmxA mulVmx ?gram_tr_unitmx.
by rewrite !trmx_mul trmx_inv trmx_mul !trmxK mulmxA.
Qed.

(* The Moore-Penrose inverse K^+, from a rank factorization K = C B: B^+ C^+. *)
Definition mp_inv n N (K : 'M[R]_(n, N)) : 'M[R]_(N, n) :=
  gram_rinv (row_base K) *m gram_linv (col_base K).

Lemma mp_inv_factors n N (K : 'M[R]_(n, N)) :
  exists r : nat, exists C : 'M[R]_(n, r), exists B : 'M[R]_(r, N),
  exists Bi : 'M[R]_(N, r), exists2 Ci : 'M[R]_(r, n), K = C *m B /\ mp_inv K = Bi *m Ci
  & [/\ B *m Bi = 1%:M, Ci *m C = 1%:M, (Bi *m B)^T = Bi *m B & (C *m Ci)^T = C *m Ci].
Proof.
have [BBi symB] := gram_rinvP (row_base_free K).
have [CiC symC] := gram_linvP (col_base_full K).
exists (\rank K), (col_base K), (row_base K), (gram_rinv (row_base K)), (gram_linv (col_base K)) => //.
by rewrite mulmx_base.
Qed.

(* The four Penrose conditions. *)
Lemma mp_inv_mulK n N (K : 'M[R]_(n, N)) : K *m mp_inv K *m K = K.
Proof.
have [r [C [B [Bi [Ci [-> ->] [BBi CiC _ _]]]]]] := mp_inv_factors K.
by rewrite -!mulmxA (mulmxA Ci) CiC mul1mx (mulmxA B) BBi mul1mx.
Qed.

Lemma mp_inv_mulKi n N (K : 'M[R]_(n, N)) : mp_inv K *m K *m mp_inv K = mp_inv K.
Proof.
have [r [C [B [Bi [Ci [defK ->] [BBi CiC _ _]]]]]] := mp_inv_factors K; rewrite defK.
by rewrite -!mulmxA (mulmxA B) BBi mul1mx (mulmxA Ci) CiC mul1mx.
Qed.

Lemma mp_inv_symr n N (K : 'M[R]_(n, N)) : (K *m mp_inv K)^T = K *m mp_inv K.
Proof.
have [r [C [B [Bi [Ci [defK ->] [BBi _ _ symC]]]]]] := mp_inv_factors K.
have -> : K *m (Bi *m Ci) = C *m Ci by rewrite defK -mulmxA (mulmxA B) BBi mul1mx.
exact: symC.
Qed.

Lemma mp_inv_syml n N (K : 'M[R]_(n, N)) : (mp_inv K *m K)^T = mp_inv K *m K.
Proof.
have [r [C [B [Bi [Ci [defK ->] [_ CiC symB _]]]]]] := mp_inv_factors K.
have -> : Bi *m Ci *m K = Bi *m B by rewrite defK -mulmxA (mulmxA Ci) CiC mul1mx.
exact: symB.
Qed.

(* fact_rank: the joint edit D K^+ attains the least rank and, among all updates that write the
   facts, the least Frobenius norm (standard). *)
Theorem fact_rank_least_norm m n N (K : 'M[R]_(n, N)) (D : 'M[R]_(m, N)) : (D <= K)%MS ->
  [/\ D *m mp_inv K *m K = D,
      \rank (D *m mp_inv K) = \rank D
    & forall U : 'M[R]_(m, n), U *m K = D -> frob2 (D *m mp_inv K) <= frob2 U].
Proof.
case/submxP => X defD; have writes : D *m mp_inv K *m K = D.
  by rewrite defD -(mulmxA X) -(mulmxA X) mp_inv_mulK.
split=> // [|U UK].
  by apply/eqP; rewrite eqn_leq mxrankM_maxl /= -{1}writes mxrankM_maxl.
have [P [DK P_sym PP]] : exists P : 'M_n, [/\ D *m mp_inv K = U *m P, P^T = P & P *m P = P].
  exists (K *m mp_inv K); split; first by rewrite -UK mulmxA.
    exact: mp_inv_symr.
  by rewrite mulmxA mp_inv_mulK.
have orthogonal : \tr ((U *m P) *m (U - U *m P)^T) = 0.
  by rewrite linearB /= mulmxBr !trmx_mul P_sym -!mulmxA (mulmxA P P) PP subrr mxtrace0.
rewrite DK -[in X in _ <= X](subrK (U *m P) U) addrC frob2D orthogonal mul0rn addr0.
by rewrite ler_addl frob2_ge0.
Qed.

End LeastNorm.

Section MarginKeys.
Variable R : realFieldType.

(* margin_rank (i) as it is used (ours): c logits, N facts with any keys K, read-out E, update U; the
   logit of the right class rises by >= 1 at every fact, that of every other right class moves by <= eps.
   Facts that share answers count once: #|codom right| is the number of distinct answers. *)
Theorem margin_rank_shared c m n N (E : 'M[R]_(c, m)) (U : 'M[R]_(m, n)) (K : 'M[R]_(n, N))
    (right : 'I_N -> 'I_c) (eps : R) :
    (forall i, 1 <= (E *m U *m K) (right i) i) ->
    (forall i j, right i != right j -> `|(E *m U *m K) (right i) j| <= eps) ->
  #|codom right|%:R <= (\rank U)%:R * (1 + #|codom right|.-1%:R * eps ^+ 2).
Proof.
move=> rise others; set answers := #|codom right|.
pose fact (a : 'I_answers) : 'I_N := iinv (enum_valP a).
have right_fact a : right (fact a) = enum_val a by apply: f_iinv.
pose A : 'M[R]_answers := \matrix_(a, b) (E *m U *m K) (right (fact a)) (fact b).
have rankA : (\rank A <= \rank U)%N.
  have -> : A = rowsub (right \o fact) E *m U *m colsub fact K.
    by apply/matrixP => a b; rewrite !mul_rowsub_mx mulmx_colsub mxE [RHS]mxE [RHS]mxE.
  by rewrite (leq_trans (mxrankM_maxl _ _)) ?mxrankM_maxr.
have bound : answers%:R <= (\rank A)%:R * (1 + answers.-1%:R * eps ^+ 2).
  apply: margin_rank => [a | a b neq_ab]; rewrite mxE //.
  by apply: others; rewrite !right_fact (inj_eq enum_val_inj).
apply: le_trans bound _; rewrite ler_wpmul2r ?ler_nat //.
by rewrite addr_ge0 ?ler01 // mulr_ge0 ?ler0n ?sqr_ge0.
Qed.

(* N facts with N distinct right classes, and any keys. *)
Theorem margin_rank_keys c m n N (E : 'M[R]_(c, m)) (U : 'M[R]_(m, n)) (K : 'M[R]_(n, N))
    (right : 'I_N -> 'I_c) (eps : R) :
    injective right ->
    (forall i, 1 <= (E *m U *m K) (right i) i) ->
    (forall i j, i != j -> `|(E *m U *m K) (right i) j| <= eps) ->
  N%:R <= (\rank U)%:R * (1 + N.-1%:R * eps ^+ 2).
Proof.
move=> inj_right rise others.
have -> : N = #|codom right| by rewrite card_codom ?card_ord.
apply: (margin_rank_shared rise) => i j neq.
by apply: others; apply: contraNneq neq => ->.
Qed.

(* The same with the changes of the other right classes bounded in mean square only (ours). *)
Theorem margin_rank_keys_mean_square c m n N (E : 'M[R]_(c, m)) (U : 'M[R]_(m, n)) (K : 'M[R]_(n, N))
    (right : 'I_N -> 'I_c) (eps : R) :
    (forall i, 1 <= (E *m U *m K) (right i) i) ->
    \sum_i \sum_(j | j != i) (E *m U *m K) (right i) j ^+ 2 <= (N * N.-1)%:R * eps ^+ 2 ->
  N%:R <= (\rank U)%:R * (1 + N.-1%:R * eps ^+ 2).
Proof.
move=> rise mean_square; pose A := rowsub right E *m U *m K.
have AE i j : A i j = (E *m U *m K) (right i) j by rewrite /A !mul_rowsub_mx mxE.
have rankA : (\rank A <= \rank U)%N by rewrite (leq_trans (mxrankM_maxl _ _)) ?mxrankM_maxr.
have bound : N%:R <= (\rank A)%:R * (1 + N.-1%:R * eps ^+ 2).
  apply: margin_rank_mean_square => [i | ]; first by rewrite AE.
  apply: le_trans mean_square; apply: ler_sum => i _; apply: ler_sum => j _.
  by rewrite AE.
apply: le_trans bound _; rewrite ler_wpmul2r ?ler_nat //.
by rewrite addr_ge0 ?ler01 // mulr_ge0 ?ler0n ?sqr_ge0.
Qed.

(* The bound of margin_rank is attained (ours): the simplex of N.+2 classes has rank N.+1 and
   eps = 1/(N.+1). *)
Theorem margin_rank_attained N : exists A : 'M[R]_N.+2, let eps := N.+1%:R^-1 in
  [/\ forall i, A i i = 1, forall i j, i != j -> `|A i j| = eps
    & N.+2%:R = (\rank A)%:R * (1 + N.+1%:R * eps ^+ 2)].
Proof.
pose eps : R := N.+1%:R^-1.
have N1_gt0 : 0 < N.+1%:R :> R by rewrite ltr0n.
have N1eps : N.+1%:R * eps = 1 by rewrite mulfV ?gt_eqF.
pose A : 'M[R]_N.+2 := \matrix_(i, j) if i == j then 1 else - eps.
have A_diag i : A i i = 1 by rewrite mxE eqxx.
have A_off i j : i != j -> `|A i j| = eps.
  by move=> /negbTE neq; rewrite mxE neq normrN ger0_norm ?invr_ge0 ?ltW.
have factorE : 1 + N.+1%:R * eps ^+ 2 = N.+2%:R * eps.
  by rewrite expr2 mulrA N1eps mul1r mulrSr mulrDl N1eps mul1r.
have rank_le : (\rank A <= N.+1)%N.
  pose v : 'rV[R]_N.+2 := const_mx 1.
  have vA : v *m A = 0.
    apply/rowP => j; rewrite !mxE (bigD1 j) //= !mxE eqxx mul1r.
    rewrite (eq_bigr (fun=> - eps)) => [|i /negbTE neq]; last by rewrite !mxE neq mul1r.
    by rewrite sumr_const cardC1 card_ord mulNrn -[eps *+ _]mulr_natl N1eps subrr.
  rewrite -ltnS ltn_neqAle rank_leq_row andbT -/(row_free A) -kermx_eq0.
  apply/negP => /eqP ker0; have : (v <= kermx A)%MS by apply/sub_kermxP.
  rewrite ker0 submx0 => /eqP/rowP/(_ 0); rewrite !mxE => /eqP.
  by rewrite oner_eq0.
have rank_ge : (N.+1 <= \rank A)%N.
  have bound : N.+2%:R <= (\rank A)%:R * (1 + N.+1%:R * eps ^+ 2).
    by apply: margin_rank => [i | i j neq]; rewrite ?A_diag ?A_off.
  move: bound; rewrite factorE mulrCA ler_pmulr ?ltr0n //.
  by rewrite ler_pdivl_mulr // mul1r ler_nat.
exists A; split=> //; rewrite factorE.
have -> : \rank A = N.+1 by apply/eqP; rewrite eqn_leq rank_le.
by rewrite mulrCA N1eps mulr1.
Qed.

End MarginKeys.

Section Circle.
Variable R : realFieldType.
Implicit Types (s t u v : R).

(* The rational points of the unit circle. *)
Definition circle t : 'rV[R]_2 :=
  \row_j if j == 0 then (1 - t ^+ 2) / (1 + t ^+ 2) else t *+ 2 / (1 + t ^+ 2).

(* N of them on the right half, parameters -1, -1 + 2/N, .. *)
Definition circle_code N : 'M[R]_(N, 2) := \matrix_i circle ((i * 2)%:R / N%:R - 1).

Lemma circle_denominator t : 0 < 1 + t ^+ 2.
Proof. by rewrite ltr_paddr ?ltr01 ?sqr_ge0. Qed.

Lemma circle_identity s t :
  (1 + s ^+ 2) * (1 + t ^+ 2) - ((1 - s ^+ 2) * (1 - t ^+ 2) + (s * t) *+ 4) = (s - t) ^+ 2 *+ 2.
Proof.
set u := s ^+ 2; set v := t ^+ 2.
have plusE : (1 + u) * (1 + v) = (u + v) + (1 + u * v).
  by rewrite mulrDl mul1r mulrDr mulr1 [u + u * v]addrC addrACA addrC [v + u]addrC.
have minusE : (1 - u) * (1 - v) = (1 + u * v) - (u + v).
  by rewrite mulrBl mul1r mulrBr mulr1 opprB addrACA -opprD [v + u]addrC.
rewrite plusE minusE opprD addrA addrKA opprK -mulr2n.
by rewrite sqrrB -/u -/v addrAC mulrnBl -mulrnA.
Qed.

Lemma circle_prod s t : \sum_j circle s 0 j * circle t 0 j
  = 1 - (s - t) ^+ 2 *+ 2 / ((1 + s ^+ 2) * (1 + t ^+ 2)).
Proof.
have [s_gt0 t_gt0] := (circle_denominator s, circle_denominator t).
have den_neq0 : (1 + s ^+ 2) * (1 + t ^+ 2) != 0 by rewrite mulf_neq0 ?gt_eqF.
rewrite -circle_identity mulrBl divff // subKr !big_ord_recl big_ord0 !mxE /= addr0.
by rewrite !mulf_div -mulrDl mulrnAl mulrnAr -mulrnA.
Qed.

Lemma circle_codeE N i j : (circle_code N *m (circle_code N)^T) i j =
  \sum_l circle ((i * 2)%:R / N%:R - 1) 0 l * circle ((j * 2)%:R / N%:R - 1) 0 l.
Proof. by rewrite mxE; apply: eq_bigr => l _; rewrite !mxE. Qed.

Lemma circle_parameter_le1 N (i : 'I_N) : ((i * 2)%:R / N%:R - 1) ^+ 2 <= 1 :> R.
Proof.
have N_gt0 : 0 < N%:R :> R by rewrite ltr0n (leq_trans _ (ltn_ord i)).
rewrite -subr_le0 subr_sqr_1 subrK mulr_le0_ge0 ?divr_ge0 ?ler0n //.
rewrite -addrA -opprD subr_le0 -[1 + 1]/2%:R ler_pdivr_mulr // -natrM ler_nat mulnC.
by rewrite leq_mul2l ltnW.
Qed.

(* margin_rank (ii) (ours), with explicit rational points in place of the N-th roots of unity: N unit
   vectors of the plane, one per class, used as read-out and as keys. Every fact has its right class on
   top, with margin at least 2/N^2 of the logit, at rank 2, for every N. *)
Theorem margin_circle N :
  [/\ (\rank (circle_code N *m (circle_code N)^T) <= 2)%N,
      forall i, (circle_code N *m (circle_code N)^T) i i = 1
    & forall i j, i != j -> (circle_code N *m (circle_code N)^T) i j <= 1 - 2%:R / N%:R ^+ 2].
Proof.
split=> [|i|i j neq_ij]; first exact: mulmx_max_rank.
  by rewrite circle_codeE circle_prod subrr expr0n mul0rn mul0r subr0.
have N_gt0 : 0 < N%:R :> R by rewrite ltr0n (leq_trans _ (ltn_ord i)).
rewrite circle_codeE circle_prod ler_add2l ler_opp2.
set s := _ - 1; set t := _ - 1.
have den_gt0 : 0 < (1 + s ^+ 2) * (1 + t ^+ 2) by rewrite mulr_gt0 ?circle_denominator.
have den_le4 : (1 + s ^+ 2) * (1 + t ^+ 2) <= 4%:R.
  rewrite -[4%N]/(2 * 2)%N natrM; apply: ler_pmul; rewrite ?(ltW (circle_denominator _)) //.
    by rewrite -[2%:R]/(1 + 1) ler_add2l circle_parameter_le1.
  by rewrite -[2%:R]/(1 + 1) ler_add2l circle_parameter_le1.
have gap : 4%:R <= (s - t) ^+ 2 * N%:R ^+ 2.
  have -> : s - t = ((i * 2)%:R - (j * 2)%:R) / N%:R by rewrite /s /t opprB addrA subrK mulrBl.
  rewrite exprMn exprVn divfK ?expf_neq0 ?gt_eqF // !natrM -mulrBl exprMn -natrX ler_pmull ?ltr0n //.
  have : (1 <= ((i%:Z - j%:Z) ^+ 2)%R) by rewrite -gtz0_ge1 exprn_even_gt0 //= subr_eq0.
  by rewrite -(ler_int R) rmorphX rmorphB /=.
rewrite ler_pdivr_mulr ?exprn_gt0 // mulrAC ler_pdivl_mulr //.
apply: le_trans (_ : 2%:R * 4%:R <= _); first by rewrite ler_wpmul2l ?ler0n.
by rewrite -[(_ - _) ^+ 2 *+ 2]mulr_natl -mulrA ler_wpmul2l ?ler0n.
Qed.

(* The same as an update (ours): with independent keys and independent read-out rows, some update of rank
   <= 2 gets every argmax right, whatever the logits without it. *)
Theorem margin_circle_update m n N (E : 'M[R]_(N, m)) (K : 'M[R]_(n, N)) (L : 'M[R]_N) :
    \rank E = N -> \rank K = N ->
  exists2 U : 'M[R]_(m, n), (\rank U <= 2)%N
    & forall i j, j != i -> (L + E *m U *m K) j i < (L + E *m U *m K) i i.
Proof.
move=> rankE rankK; have [_ diag off] := margin_circle N.
have [Ei EEi] : exists Ei, E *m Ei = 1%:M by apply/row_freeP; apply/eqP.
have [Ki KiK] : exists Ki, Ki *m K = 1%:M by apply/row_fullP; apply/eqP.
pose M := \sum_i \sum_j `|L j i - L i i|.
have deficit_le i j : L j i - L i i <= M.
  rewrite (le_trans (ler_norm _)) // /M (bigD1 i) //= (bigD1 j) //= -addrA ler_addl.
  by rewrite addr_ge0 ?sumr_ge0 // => k _; rewrite ?sumr_ge0.
have M_ge0 : 0 <= M by apply: sumr_ge0 => i _; apply: sumr_ge0.
pose c := N%:R ^+ 2 / 2%:R * (1 + M).
have c_ge0 : 0 <= c by rewrite !mulr_ge0 ?invr_ge0 ?ler0n ?addr_ge0 ?ler01.
pose C := circle_code N; pose U := c *: (Ei *m C *m (C^T *m Ki)).
have EUK : E *m U *m K = c *: (C *m C^T).
  by rewrite -scalemxAr -scalemxAl !mulmxA EEi mul1mx -!mulmxA KiK mulmx1.
exists U; first by rewrite (leq_trans (mxrank_scale _ _)) ?mulmx_max_rank.
move=> i j neq_ji; have logitE k l : (L + E *m U *m K) k l = L k l + c * (C *m C^T) k l.
  by rewrite EUK mxE [X in _ + X]mxE.
rewrite !logitE.
have N_gt0 : 0 < N%:R :> R by rewrite ltr0n (leq_trans _ (ltn_ord i)).
have two_gt0 : 0 < 2%:R :> R by rewrite ltr0n.
have -> : (C *m C^T) i i = 1 by apply: diag.
have gain : 1 + M <= c - c * (C *m C^T) j i.
  rewrite -{1}[c]mulr1 -mulrBr -[X in X <= _]mulr1.
  have -> : 1 + M = c * (2%:R / N%:R ^+ 2).
    by rewrite /c mulrAC mulf_div [2%:R * _]mulrC divff ?mul1r ?mulf_neq0 ?expf_neq0 ?gt_eqF.
  rewrite mulr1 ler_wpmul2l ?c_ge0 //.
  by rewrite ler_subr_addr addrC -ler_subr_addr off.
rewrite mulr1 -subr_gt0 opprD addrACA.
apply: lt_le_trans (ler_add (lexx (L i i - L j i)) gain).
by rewrite addrCA ltr_paddr ?ltr01 // addrC -opprB subr_ge0.
Qed.

(* Rank 1 is not enough (ours): it gets at most two facts right. *)
Theorem argmax_rank_one N (A : 'M[R]_N) :
  (\rank A <= 1)%N -> (forall i j, j != i -> A j i < A i i) -> (N <= 2)%N.
Proof.
move=> rankA right.
have [u [v AE]] : exists u : 'cV[R]_N, exists v : 'rV[R]_N, forall i j, A i j = u i 0 * v 0 j.
  have defA : (col_ebase A *m pid_mx (\rank A) : 'cV_N) *m (pid_mx (\rank A) *m row_ebase A) = A.
    rewrite -mulmxA (mulmxA (pid_mx _)) mul_pid_mx minnn (minn_idPr rankA) mulmxA.
    exact: mulmx_ebase.
  exists (col_ebase A *m pid_mx (\rank A)), (pid_mx (\rank A) *m row_ebase A) => i j.
  by rewrite -{1}defA mxE big_ord1.
pose up i := 0 < v 0 i.
have top i j : j != i -> u j 0 * v 0 i < u i 0 * v 0 i by rewrite -!AE; apply: right.
have same_side i j : up i = up j -> i = j.
  move=> sides; apply/eqP; apply: contraT => neq_ij.
  have top_i := top i j; rewrite eq_sym in top_i; have {top_i} := top_i neq_ij.
  have := top j i neq_ij; move: sides; rewrite /up.
  have [vi_gt0 | vi_le0] := ltP 0 (v 0 i); move=> /esym sides.
    by rewrite !ltr_pmul2r // => lt_ij /(lt_trans lt_ij); rewrite ltxx.
  have vj_le0 : v 0 j <= 0 by rewrite leNgt sides.
  move=> lt_ij lt_ji; have vi_lt0 : v 0 i < 0.
    by rewrite lt_neqAle vi_le0 andbT; apply: contraTneq lt_ji => ->; rewrite !mulr0 ltxx.
  have vj_lt0 : v 0 j < 0.
    by rewrite lt_neqAle vj_le0 andbT; apply: contraTneq lt_ij => ->; rewrite !mulr0 ltxx.
  move: lt_ij lt_ji; rewrite !ltr_nmul2r // => lt_ji /(lt_trans lt_ji).
  by rewrite ltxx.
by rewrite -card_bool -{1}(card_ord N) -(card_codom same_side) max_card.
Qed.

End Circle.

Section RandomCodes.
Variables N r : nat.
Local Notation word := {ffun 'I_r -> bool}.
Implicit Types (c : {ffun 'I_N -> word}) (bad : pred nat).

(* The number of words at a bad count of agreements with a given word. *)
Definition bad_words bad : nat := \sum_(k < r.+1 | bad k) 'C(r, k).

Lemma card_bad_words bad (w : word) : #|[pred x : word | bad (agree w x)]| = bad_words bad.
Proof.
pose count (x : word) : 'I_r.+1 := inord (agree w x).
have countE x : count x = agree w x :> nat.
  by rewrite inordK // ltnS (leq_trans (agree_le _ _)) ?card_ord.
rewrite -sum1_card (partition_big count bad) => [|x /=]; last by rewrite inE countE.
apply: eq_bigr => k bad_k; have := card_agree_eq w k.
rewrite card_ord card_bool exp1n muln1 => <-; rewrite -[RHS]sum1_card; apply: eq_bigl => x.
rewrite !inE -val_eqE /= countE.
by case: eqP => [-> | _]; rewrite ?bad_k ?andbF.
Qed.

Lemma card_bad_pair bad (i j : 'I_N) : i != j ->
  #|[set c : {ffun 'I_N -> word} | bad (agree (c i) (c j))]| = (bad_words bad * (2 ^ r) ^ N.-1)%N.
Proof.
move=> neq_ij; have card_word : #|{: word}| = (2 ^ r)%N by rewrite card_ffun card_bool card_ord.
pose F (w : word) (k : 'I_N) : pred word :=
  if k == i then pred1 w else if k == j then [pred x | bad (agree w x)] else predT.
have cardF w : #|family (F w)| = (bad_words bad * (2 ^ r) ^ N.-2)%N.
  rewrite card_family foldrE big_map big_enum /= (bigD1 i) //= (bigD1 j) 1?eq_sym //=.
  rewrite {1 2}/F !eqxx card1 mul1n eq_sym (negbTE neq_ij) card_bad_words; congr (_ * _)%N.
  rewrite (eq_bigr (fun=> 2 ^ r)%N) => [|k /andP[/negbTE ki /negbTE kj]]; last first.
    by rewrite /F ki kj -card_word; apply: eq_card.
  rewrite prod_nat_const; congr (_ ^ _)%N.
  have := cardC (pred2 i j); rewrite card2 neq_ij card_ord => /(congr1 (fun k => k.-2)) /=.
  by move=> <-; apply: eq_card => k; rewrite !inE negb_or.
have N_gt1 : (1 < N)%N.
  by have := max_card (pred2 i j); rewrite card2 neq_ij card_ord.
rewrite -sum1_card (partition_big (fun c => c i) xpredT) //=.
have -> : (bad_words bad * (2 ^ r) ^ N.-1 = \sum_(w : word) bad_words bad * (2 ^ r) ^ N.-2)%N.
  by rewrite sum_nat_const card_word mulnCA -expnS; congr (_ * _ ^ _)%N; rewrite -subn2 subnSK ?subn1.
apply: eq_bigr => w _; rewrite -(cardF w) -[RHS]sum1_card; apply: eq_bigl => c; rewrite inE.
apply/andP/familyP => [[bad_c /eqP ci] k | fam].
  rewrite /F; case: eqP => [-> | _]; first by rewrite inE ci.
  by case: eqP => [-> | _] //; rewrite inE -ci.
have := fam i; rewrite /F eqxx inE => ci; split=> //.
by have := fam j; rewrite /F eq_sym (negbTE neq_ij) eqxx inE (eqP ci).
Qed.

(* margin_rank (iii) in counting form (ours): of all codes of N words of r signs, at most a share
   C(N, 2) V / 2^r has a pair with a bad number of agreements, V of the 2^r words being bad for one. *)
Theorem random_codes bad :
  (#|[set c : {ffun 'I_N -> word} |
        [exists i : 'I_N, [exists j : 'I_N, (i < j) && bad (agree (c i) (c j))]]]|
     <= 'C(N, 2) * (bad_words bad * (2 ^ r) ^ N.-1))%N.
Proof.
set bad_pair := fun i j => [set c : {ffun 'I_N -> word} | bad (agree (c i) (c j))].
have cover : [set c : {ffun 'I_N -> word} |
      [exists i : 'I_N, [exists j : 'I_N, (i < j)%N && bad (agree (c i) (c j))]]]
    \subset \bigcup_(j < N) \bigcup_(i < N | (i < j)%N) bad_pair i j.
  apply/subsetP => c; rewrite inE => /existsP[i /existsP[j /andP[lt_ij bad_ij]]].
  by apply/bigcupP; exists j => //; apply/bigcupP; exists i; rewrite ?inE.
apply: leq_trans (subset_leq_card cover) _; apply: leq_trans (card_bigcup_le _ _) _.
rewrite -triangular_sum big_mkord big_distrl /=; apply: leq_sum => j _.
apply: leq_trans (card_bigcup_le _ _) _.
have -> : (j * (bad_words bad * (2 ^ r) ^ N.-1)
    = \sum_(i < N | (i < j)%N) bad_words bad * (2 ^ r) ^ N.-1)%N.
  have le_jN := ltnW (ltn_ord j).
  by rewrite -(big_ord_widen N (fun=> bad_words bad * _)%N le_jN) sum_nat_const card_ord.
apply: leq_sum => i lt_ij; rewrite card_bad_pair // neq_ltn.
by rewrite lt_ij.
Qed.

(* margin_rank (iii), existence (ours): as soon as that share is below 1, some N unit codes of dimension r
   keep every off-diagonal change within eps, at rank r. *)
Theorem margin_codes (R : realFieldType) (eps : R) : (0 < r)%N ->
    ('C(N, 2) * bad_words (fun k => eps * r%:R < `|k%:R *+ 2 - r%:R|)%R < 2 ^ r)%N ->
  exists A : 'M[R]_N,
    [/\ (\rank A <= r)%N, forall i, A i i = 1 & forall i j, i != j -> `|A i j| <= eps].
Proof.
set bad := fun k => _; move=> r_gt0 few; have r_gt0R : 0 < r%:R :> R by rewrite ltr0n.
have [-> | N_gt0] := posnP N.
  by exists 0; split=> [|[]|[]] //; rewrite mxrank0.
have [c good] : exists c : {ffun 'I_N -> word}, forall i j : 'I_N, (i < j)%N -> ~~ bad (agree (c i) (c j)).
  have : (0 < #|~: [set c : {ffun 'I_N -> word} |
        [exists i : 'I_N, [exists j : 'I_N, (i < j)%N && bad (agree (c i) (c j))]]]|)%N.
    rewrite cardsCs setCK subn_gt0; apply: leq_ltn_trans (random_codes bad) _.
    have -> : #|{: {ffun 'I_N -> word}}| = (2 ^ r * (2 ^ r) ^ N.-1)%N.
      by rewrite -expnS prednK // card_ffun card_ffun card_bool !card_ord.
    by rewrite mulnA ltn_pmul2r ?expn_gt0.
  case/card_gt0P => c; rewrite !inE => /existsPn none; exists c => i j lt_ij.
  by have /existsPn/(_ j) := none i; rewrite lt_ij.
pose S : 'M[R]_(N, r) := \matrix_(i, l) (-1) ^+ (~~ c i l).
have rE : r%:R = \sum_(l < r) 1 :> R by rewrite sumr_const card_ord.
have SSE i j : (S *m S^T) i j = (agree (c i) (c j))%:R *+ 2 - r%:R.
  rewrite agreeE natr_sum -sumrMnl rE -sumrB mxE; apply: eq_bigr => l _.
  rewrite !mxE; case: (c i l); case: (c j l);
    by rewrite /= ?expr0 ?expr1 ?mulrNN ?mulr1 ?mul1r ?mul0rn ?sub0r // mulr2n addrK.
have SS_sym i j : (S *m S^T) i j = (S *m S^T) j i.
  by rewrite !mxE; apply: eq_bigr => l _; rewrite !mxE mulrC.
have off (i j : 'I_N) : (i < j)%N -> `|(S *m S^T) i j| <= eps * r%:R.
  by move=> /good; rewrite SSE -leNgt.
exists (r%:R^-1 *: (S *m S^T)); split=> [|i|i j neq_ij].
- by rewrite (leq_trans (mxrank_scale _ _)) ?mulmx_max_rank.
- rewrite mxE SSE agreeE (eq_bigr (fun=> 1%N)) => [|l _]; last by rewrite eqxx.
  by rewrite sum1_card card_ord mulr2n addrK mulVf ?gt_eqF.
rewrite mxE normrM normfV gtr0_norm // ler_pdivr_mull // mulrC.
by case: (ltngtP i j) neq_ij => [/off // | lt_ji _ | /val_inj ->]; rewrite ?eqxx // SS_sym off.
Qed.

End RandomCodes.

Section Instances.

(* Two hypotheses against tables of two bits: at most 6 of the 8 entries, 3/4. *)
Example counting_mean_two (G : {set {ffun bool -> bool}}) : #|G| = 2%N ->
  (\sum_(q : {ffun bool -> bool}) \max_(g in G) agree g q <= 6)%N.
Proof.
move=> cardG; apply: leq_trans (counting_mean G) _; rewrite cardG card_bool.
by do ![rewrite big_ltn; last by [] | rewrite big_geq; last by []].
Qed.

(* The hypotheses must be few: with every table among them recall is perfect, and the bound says so. *)
Example counting_mean_all (Y Z : finType) :
  (\sum_(q : {ffun Y -> Z}) \max_(g in [set: {ffun Y -> Z}]) agree g q = #|Y| * #|Z| ^ #|Y|)%N.
Proof.
rewrite (eq_bigr (fun=> #|Y|)) => [|q _].
  by rewrite sum_nat_const card_ffun mulnC.
apply/eqP; rewrite eqn_leq max_agree_le /=.
apply: (bigmax_sup q); first by rewrite inE.
by rewrite agreeE (eq_bigr (fun=> 1%N)) ?sum1_card // => y _; rewrite eqxx.
Qed.

(* An adapter of one bit on tables of two bits: the same 6 of 8. *)
Example capacity_one_bit (decode : 'I_2 -> {ffun bool -> bool}) (write : {ffun bool -> bool} -> 'I_2) :
  (\sum_(q : {ffun bool -> bool}) agree (decode (write q)) q <= 6)%N.
Proof.
have [|_ recalled] := @capacity_bits _ _ _ 1 decode write; first by rewrite card_ord.
apply: leq_trans recalled _; rewrite card_bool.
by do ![rewrite big_ltn; last by [] | rewrite big_geq; last by []].
Qed.

(* Two facts written with one key but different changes: no update. *)
Example fact_rank_same_key (U : 'M[rat]_1) :
  U *m const_mx 1 != (\row_(j < 2) (j == 0)%:R : 'rV[rat]_2).
Proof.
apply/eqP => /rowP UK; have := UK 0; have := UK 1.
by rewrite !mxE !big_ord1 !mxE mulr1 => -> /eqP.
Qed.

(* Independent keys alone do not cost rank N: two facts with the same change cost rank 1. *)
Example fact_rank_same_change :
  let K : 'M[rat]_2 := 1%:M in let D : 'M[rat]_2 := const_mx 1 in
  \rank K = 2%N /\ exists2 U : 'M[rat]_2, U *m K = D & \rank U = 1%N.
Proof.
split; first exact: mxrank1.
exists (const_mx 1); first by rewrite mulmx1.
have -> : const_mx 1 = (const_mx 1 : 'cV[rat]_2) *m (const_mx 1 : 'rV[rat]_2).
  by apply/matrixP => i j; rewrite !mxE big_ord1 !mxE mulr1.
apply/eqP; rewrite eqn_leq mulmx_max_rank lt0n mxrank_eq0; apply/eqP => /matrixP/(_ 0 0).
by rewrite !mxE big_ord1 !mxE mulr1.
Qed.

(* Counting facts in place of answers is wrong: any number of facts over two answers is written, with the
   other answer unchanged, at rank 2. *)
Example margin_rank_two_answers N (right : 'I_N -> 'I_2) : exists U : 'M[rat]_(2, N),
  [/\ (\rank U <= 2)%N, forall i, (1%:M *m U *m 1%:M) (right i) i = 1
    & forall i j, right i != right j -> (1%:M *m U *m 1%:M) (right i) j = 0].
Proof.
exists (\matrix_(a, j) (right j == a)%:R); rewrite mul1mx mulmx1.
split=> [|i|i j neq]; first exact: rank_leq_row.
  by rewrite mxE eqxx.
by rewrite mxE eq_sym (negbTE neq).
Qed.

(* The rise of the right logits is needed: the zero update changes no logit, at rank 0. *)
Example margin_rank_no_rise : let A : 'M[rat]_1 := 0 in
  (forall i j, i != j -> `|A i j| <= 0) /\ (\rank A)%:R * (1 + 0%:R * 0 ^+ 2) < 1%:R :> rat.
Proof. by split=> [i j|]; rewrite ?mxE ?normr0 // mxrank0 mul0r. Qed.

(* Nor does rank follow from the rise alone: all logits up by one cost rank 1. *)
Example margin_rank_no_bound N : let A : 'M[rat]_N.+2 := const_mx 1 in
  (forall i, 1 <= A i i) /\ (\rank A <= 1)%N.
Proof.
split=> [i|]; first by rewrite mxE.
have -> : const_mx 1 = (const_mx 1 : 'cV[rat]_N.+2) *m (const_mx 1 : 'rV[rat]_N.+2).
  by apply/matrixP => i j; rewrite !mxE big_ord1 !mxE mulr1.
exact: mulmx_max_rank.
Qed.

(* A point of the circle: t = 1/2 gives (3/5, 4/5). *)
Example circle_half : circle (2%:R^-1 : rat) = \row_j (if j == 0 then 3%:R / 5%:R else 4%:R / 5%:R).
Proof. by apply/rowP => j; rewrite !mxE; case: ifP => _; apply/eqP. Qed.

(* counting_bound(ln 2, 2, 2) = 3/4, the figure of counting_mean_two. *)
Example counting_ceiling_small : counting_ceiling rat_realFieldType 2 2 2 = 3%:R / 4%:R.
Proof.
rewrite /counting_ceiling /binomial_tail.
do ![rewrite big_ltn; last by [] | rewrite big_geq; last by []].
by apply/eqP.
Qed.

End Instances.
