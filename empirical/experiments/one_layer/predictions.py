"""What `one_layer` predicts of each kind of cell; values from theory and settings alone."""

from __future__ import annotations

from collections.abc import Sequence

from empirical.engine.predictions import Predictions
from empirical.engine.settings import Count
from empirical.experiments.one_layer.tables import (
    Adversary,
    AdversarySettings,
    Survival,
    Tail,
    TailSettings,
    TwoHop,
    TwoHopSettings,
)
from theory.additive import additive_ceiling, additive_optimum, additive_threshold
from theory.numerics import require
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


def survival(worlds: Sequence[Survival]) -> Predictions:
    """Every fact lives or dies as computed."""
    said = Predictions()
    for prefix, claim, says in FATES:
        agree = [Count.total(f.agree for name, f in w.fates.items() if name.startswith(prefix)) for w in worlds]
        says = f"{says}: every one-hop fact lives or dies as computed"
        said.exact(f"fate.{prefix.replace(' ', '.')}", claim, says, of=agree, equal=1.0)
    joint, summed = ([w.fates[f"{writing} alone"].kept for w in worlds] for writing in ("joint", "summed"))
    guarded = [Count.total(f.kept for name, f in w.fates.items() if name.startswith("guarded sum")) for w in worlds]
    works = "one_layer_composition"
    said.exact("joint_keeps", works, "one joint edit keeps all its facts", of=joint, equal=1.0)
    says = "sums of adapters that leave each other's keys alone keep all facts"
    said.exact("guarded_keeps", "interference", says, of=guarded, equal=1.0)
    says = "the plain sum of rank-one edits keeps fewer facts than the joint edit"
    gaps = [a.rate - b.rate for a, b in zip(joint, summed, strict=True)]
    said.control("summed_interferes", works, says, of=gaps, above=0.0)
    says = "no update disturbs another's key by more than its bound"
    said.exact("bound", "interference", says, of=[w.bounds for w in worlds], equal=0.0)
    says = "no fact that was certain to survive the sum dies"
    said.exact("certified", "interference", says, of=[w.certified for w in worlds], equal=0.0)
    says = "mean cosine of keys that share the relation: the wide limit"
    said.hypothesis("cosine", works, says, of=[w.cosine for w in worlds], equal=relu_key_cosine(0.5), within=COSINE)
    return said


def two_hop(settings: TwoHopSettings, name: str, worlds: Sequence[TwoHop]) -> Predictions:
    """Of the worlds of one base and way of writing, as in "constructed closed"."""
    ceiling, closed = additive_ceiling(settings.bridges, settings.values), name.endswith("closed")
    said = Predictions(name.replace(" ", "."), words=name)
    ranks, top = ([0], 0) if closed else (settings.ranks, max(settings.ranks))
    own = ["own"] if any(s.startswith("own ") for s in worlds[0].scores) else []
    for rank in ranks:
        # the rank belongs to the group here: "constructed trained, rank 4: ..."
        said.words = name if closed else f"{name}, rank {rank}"
        for method in [*settings.methods, *own]:
            right = [w.scores[f"{method} {rank}"].two_hop for w in worlds]
            if method in COVERED:
                says = f"{method} (covered) is under the additive ceiling"
                said.ceiling(f"{method}.{rank}", "additive_limit", says, of=right, at_most=ceiling)
            elif rank == top:  # no theorem speaks of these; one rank is enough, all are in the records
                says = f"{method} (not covered) is under the additive ceiling"
                said.hypothesis(f"{method}.{rank}", "additive_limit", says, of=right, at_most=ceiling)
    said.words = name
    for adapter, says in (
        ("first", "the first adapter alone holds its facts"),
        ("second", "the second adapter alone holds its facts"),
        ("direct", "a direct two-hop adapter answers"),
    ):
        scores = [w.scores[f"{adapter} {top}"] for w in worlds]
        right = [{"first": s.first, "second": s.second, "direct": s.two_hop}[adapter] for s in scores]
        if closed:
            said.exact(f"alone.{adapter}", "one_layer_composition", says, of=right, equal=1.0)
        else:  # right in every world, it is judged on worlds: it is held against the ceiling, not 1
            says += ", beyond the ceiling"
            said.control(f"alone.{adapter}", "one_layer_composition", says, of=right, at_least=ceiling)
    if "product linear" in worlds[0].scores:
        linear, plain = ([w.scores[f"product {m}"].two_hop for w in worlds] for m in ("linear", "sum"))
        says = "factors whose product composes pass the ceiling under peft linear"
        said.exact("product", "factor_average", says, of=linear, equal=1.0)
        says = "the sum of the same two adapters is under it"
        said.ceiling("product.sum", "additive_limit", says, of=plain, at_most=ceiling)
    return said


def tail(settings: TailSettings, worlds: Sequence[Tail]) -> Predictions:
    """The most right bridges of a single world, but for the chance `level`."""
    n, said = settings.bridges, Predictions("tail")
    most = float(additive_threshold(n, settings.values, settings.level) - 1)
    for method in settings.methods:
        says = f"{method}: right bridges of {n} in one world (more: below {settings.level:g})"
        said.exact(method, "additive_limit", says, of=[float(w.right[method].right) for w in worlds], at_most=most)
    return said


def adversary(settings: AdversarySettings, worlds: Sequence[Adversary]) -> Predictions:
    """Optimised logits find the optimum and do not pass it."""
    said, claim = Predictions(), "additive_limit"
    for n, m in settings.sizes:
        optimum, small = additive_optimum(n, m), [w.small[f"{n},{m}"] for w in worlds]
        whole, size = float(optimum * n * m**n), f"n = {n}, m = {m}"  # a whole number of right answers
        optimised, extremal = ([float(c.right) for c in cs] for cs in ([s.optimised for s in small],
                                                                      [s.extremal for s in small]))  # fmt: skip
        said.exact(f"optimum.{n}.{m}", claim, f"{size}: optimised logits do not pass the optimum", of=optimised,
                   at_most=whole)  # fmt: skip
        said.exact(f"attained.{n}.{m}", claim, f"{size}: the extremal logits attain the optimum", of=extremal,
                   equal=whole)  # fmt: skip
        said.hypothesis(f"found.{n}.{m}", claim, f"{size}: optimised logits find the optimum",
                        of=[s.optimised for s in small], equal=float(optimum), within=0.02)  # fmt: skip
    n, m = settings.bridges, settings.values
    require(
        all(len(w.large) == settings.tables for w in worlds), "tables", f"{settings.tables} in every world", "others"
    )
    pooled, size = [Count.total(w.large) for w in worlds], f"n = {n}, m = {m}"
    right, most = [float(c.right) for w in worlds for c in w.large], float(additive_threshold(n, m, 1e-6) - 1)
    says = f"optimised logits: right bridges of {n} at a fresh table (more: below 1e-06)"
    said.exact("adversary.tail", claim, says, of=right, at_most=most)
    says = f"{size}: optimised logits stay under the ceiling"
    said.ceiling("adversary.ceiling", claim, says, of=pooled, at_most=additive_ceiling(n, m))
    says = f"{size}: and pass whatever an answer blind to the bridge reaches"
    said.control("adversary.bites", claim, says, of=pooled, at_least=bridge_blind_ceiling(n, m))
    return said
