"""What `one_layer` predicts of each kind of cell; values from theory and settings alone."""

from __future__ import annotations

from collections.abc import Sequence

from empirical.engine.intervals import Alternative
from empirical.engine.predictions import Measure, Predictions, measure
from empirical.engine.settings import Count
from empirical.experiments.one_layer.tables import (
    Adversary,
    AdversarySettings,
    Settings,
    Survival,
    Tail,
    TailSettings,
    TwoHop,
    TwoHopSettings,
)
from theory.additive import additive_ceiling, additive_optimum, additive_threshold
from theory.one_layer import relu_key_cosine
from theory.routing import bridge_blind_ceiling

#: margin for the mean cosine of keys: with 1024 hidden units one world's relation token moves it by about 0.03
COSINE = 0.05
#: the merges that additive_limit speaks of: each update is changed by itself, then all are added
COVERED = ("sum", "mean", "cat", "svd_full", "dare_each", "magnitude_each")
#: which claim says what becomes of facts, by the name of the merge
FATES = (
    ("guarded mean", "dilution", "mean of adapters that leave each other's keys alone"),
    ("guarded factor_mean", "factor_average", "factors averaged with weights 1/k"),
    ("guarded linear", "factor_average", "peft linear"),
    ("guarded sum", "interference", "sum of adapters that leave each other's keys alone"),
    ("joint", "interference", "joint edits, alone and summed"),
    ("summed", "one_layer_composition", "rank-one edits, alone and summed"),
)


#: a method is said to be blind to the bridge if it reads it in no larger a share of the questions
READS = 1 / 15

#: what the covered merges are one function with, which is judged once
LIKE_SUM = ("cat", "svd_full")


def survival(said: Predictions) -> None:
    """Every fact lives or dies as computed."""

    def over(fates: str, what: str) -> Measure:
        def read(w: Survival) -> Count:
            return Count.total(getattr(f, what) for name, f in w.fates.items() if name.startswith(fates))

        return measure(Survival, f"survival: {fates}: {what}", read)

    for prefix, claim, says in FATES:
        says = f"{says}: every one-hop fact lives or dies as computed"
        said.exact(f"fate.{prefix.replace(' ', '.')}", claim, says, of=over(prefix, "agree"), equal=1.0)
    works, joint, summed = "one_layer_composition", over("joint alone", "kept"), over("summed alone", "kept")
    said.exact("joint_keeps", works, "one joint edit keeps all its facts", of=joint, equal=1.0)
    says = "sums of adapters that leave each other's keys alone keep all facts"
    said.exact("guarded_keeps", "interference", says, of=over("guarded sum", "kept"), equal=1.0)
    says = "the plain sum of rank-one edits keeps fewer facts than the joint edit"
    said.control("summed_interferes", works, says, of=joint - summed, above=0.0)
    says, over_bound = "no update disturbs another's key by more than its bound", "survival: damages above their bound"
    said.exact("bound", "interference", says, of=measure(Survival, over_bound, lambda w: w.bounds), equal=0.0)
    says, dead = "no fact that was certain to survive the sum dies", "survival: dead among the certain"
    said.exact("certified", "interference", says, of=measure(Survival, dead, lambda w: w.certified), equal=0.0)
    says = "mean cosine of keys that share the relation: the wide limit"
    cosine = measure(Survival, "survival: mean cosine of keys", lambda w: w.cosine, step=0.001)
    plain = Alternative("the hidden layer leaves the cosine of its inputs, 1/2", 0.5, deviation=0.03)
    limit = relu_key_cosine(0.5)
    said.hypothesis("cosine", works, says, of=cosine, equal=limit, within=COSINE, unless=plain)


def two_hop(said: Predictions, settings: TwoHopSettings, name: str, methods: Sequence[str]) -> None:
    """What merges do on one base with one way of writing, as in "constructed closed"."""
    top = 0 if name.endswith("closed") else max(settings.ranks)
    ceiling = additive_ceiling(settings.bridges, settings.values)
    blind = bridge_blind_ceiling(settings.bridges, settings.values)
    beyond = Alternative("a merge that passes the ceiling by a tenth", ceiling + 0.1, 0.03, settings.persons)
    little, much = (blind + share * (1 - blind) for share in (READS, 1 / 5))
    composes = Alternative("it reads the bridge in one question of five", much, 0.03, settings.persons)
    said.prefix, said.words = name.replace(" ", "."), name
    for method in methods:
        # one rank is enough, all are in the records
        right = scores(name, f"{method} {top}", "two_hop")
        if method in COVERED:
            says = f"{method} (covered) is under the additive ceiling"
            said.ceiling(f"{method}.{top}", "additive_limit", says, of=right, at_most=ceiling, unless=beyond,
                         about=method)  # fmt: skip
        else:
            says = f"{method} (not covered): blind to the bridge in all but one question of fifteen"
            said.hypothesis(f"{method}.{top}", "additive_limit", says, of=right, at_most=little, unless=composes,
                            about=method, family=f"no method, {name}")  # fmt: skip


def scores(base: str, condition: str, what: str) -> Measure:
    """Right answers of a condition in the worlds of one base and way of writing."""
    return measure(
        TwoHop,
        f"{base}: {condition}: {what}",
        lambda w: getattr(w.scores[condition], what) if condition in w.scores else None,
        lambda cell: f"{cell.base} {cell.writing}" == base,
    )


def alone(said: Predictions, settings: TwoHopSettings, name: str) -> None:
    """That single adapters hold their facts, and that what is no sum may compose."""
    closed = name.endswith("closed")
    top, ceiling = 0 if closed else max(settings.ranks), additive_ceiling(settings.bridges, settings.values)
    said.prefix, said.words = name.replace(" ", "."), name
    for adapter, what, says in (
        ("first", "first", "the first adapter alone holds its facts"),
        ("second", "second", "the second adapter alone holds its facts"),
        ("direct", "two_hop", "a direct two-hop adapter answers"),
    ):
        right = scores(name, f"{adapter} {top}", what)
        if closed:
            said.exact(f"alone.{adapter}", "one_layer_composition", says, of=right, equal=1.0)
        else:
            says += ", beyond the ceiling"
            said.control(f"alone.{adapter}", "one_layer_composition", says, of=right, at_least=ceiling)
    if name == "constructed closed":
        says = "factors whose product composes pass the ceiling under peft linear"
        said.exact("product", "factor_average", says, of=scores(name, "product linear", "two_hop"), equal=1.0)


def tail(said: Predictions, settings: TailSettings) -> None:
    """The most right bridges of a single world, but for the chance `level`."""
    n = settings.bridges
    most = float(additive_threshold(n, settings.values, settings.level) - 1)
    said.prefix = said.words = "tail"
    for method in settings.methods:
        says = f"{method}: right bridges of {n} in one world (more: below {settings.level:g})"
        right = measure(Tail, f"tail: {method}: right bridges", lambda w, m=method: float(w.right[m].right))  # type: ignore[misc]
        said.exact(method, "additive_limit", says, of=right, at_most=most)


def adversary(said: Predictions, settings: AdversarySettings) -> None:
    """Optimised logits do not pass the optimum, which enumeration attains."""
    claim = "additive_limit"
    said.prefix = said.words = ""
    for n, m in settings.sizes:
        optimum, key, size = additive_optimum(n, m), f"{n},{m}", f"n = {n}, m = {m}"
        whole = float(optimum * n * m**n)  # a whole number of right answers

        def right(what: str, key: str = key) -> Measure:
            return measure(Adversary, f"adversary {key}: {what}", lambda w: float(getattr(w.small[key], what).right))

        optimised, extremal = right("optimised"), right("extremal")
        says = f"{size}: optimised logits do not pass the optimum"
        said.exact(f"optimum.{n}.{m}", claim, says, of=optimised, at_most=whole)
        says = f"{size}: over all tables the extremal logits attain the optimum"
        said.exact(f"attained.{n}.{m}", claim, says, of=extremal, equal=whole)
        share = measure(Adversary, f"adversary {key}: share of the optimum that was found",
                        lambda w, key=key, whole=whole: w.small[key].optimised.right / whole, step=0.01)  # type: ignore[misc]  # fmt: skip
        says = f"{size}: optimised logits find the optimum, but for a tenth"
        said.control(f"found.{n}.{m}", claim, says, of=share, at_least=0.9)
    n, m = settings.bridges, settings.values
    pooled = measure(Adversary, "adversary: right at fresh tables", lambda w: Count.total(w.large))
    most = measure(Adversary, "adversary: right bridges at the best fresh table",
                   lambda w: float(max(c.right for c in w.large)))  # fmt: skip
    says = f"optimised logits: right bridges of {n} at a fresh table (more: below 1e-06)"
    said.exact("adversary.tail", claim, says, of=most, at_most=float(additive_threshold(n, m, 1e-6) - 1))
    size, ceiling, blind = f"n = {n}, m = {m}", additive_ceiling(n, m), bridge_blind_ceiling(n, m)
    passes = Alternative("it passes the ceiling by a twentieth", ceiling + 0.05, 0.02, n * settings.tables)
    says = f"{size}: optimised logits stay under the ceiling"
    said.ceiling("adversary.ceiling", claim, says, of=pooled, at_most=ceiling, unless=passes)
    says = f"{size}: and pass whatever an answer blind to the bridge reaches"
    said.control("adversary.bites", claim, says, of=pooled, at_least=blind)


def declare(settings: Settings) -> Predictions:
    """What is said of each kind of cell."""
    said = Predictions()
    survival(said)
    for base in map(" ".join, settings.bases):
        two_hop(said, settings.two_hop, base, [m for m in settings.two_hop.methods if m not in LIKE_SUM])
        alone(said, settings.two_hop, base)
    tail(said, settings.tail)
    adversary(said, settings.adversary)
    return said


def of_method(settings: Settings) -> Predictions:
    """What is said of a merge of the user's own, of which no theorem speaks."""
    said = Predictions()
    for base in map(" ".join, settings.bases):
        two_hop(said, settings.two_hop, base, ["own"])
    return said
