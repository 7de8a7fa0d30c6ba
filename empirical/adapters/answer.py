"""The answer first: what an audit comes to, in at most six sentences; the reasons are :mod:`empirical.adapters.advice`.

Every number in them is one of the report, or computed from it by a claim's function.
"""

from __future__ import annotations

import math
from itertools import permutations
from typing import NamedTuple

from empirical.adapters.library import duplicates, listed, multiples, reached
from empirical.adapters.report import Answer, AuditReport, PairTotal
from empirical.adapters.show import span
from theory.additive import additive_ceiling

#: relative errors up to this are called none: peft combines in float32, unit 6e-8, over up to some hundred products
NOTHING = 1e-5
#: the last matrix before the logits, under the names in use
HEADS = ("lm_head", "embed_out", "score", "classifier")


def answer(data: AuditReport) -> Answer:
    """The six sentences about an audit; None where there is nothing to say."""
    return Answer(_merge(data), _keep(data), _disturb(data), _waste(data), _join(data), _do(data))


def share(value: float) -> str:
    """A share in two digits or so, for a sentence."""
    value = value if abs(value) >= 5e-4 else 0.0  # no -0.0%
    if abs(value) >= 10:
        return f"{value:.0f} times" if abs(value) < 1e4 else f"{value:.1e} times"
    return f"{value:.0%}" if abs(value) >= 0.1 else f"{value:.1%}"


def dead(data: AuditReport) -> list[int]:
    """Adapters whose update is zero everywhere."""
    return [i for i, t in enumerate(data.total.adapters) if t.norm == 0.0]


def distinct(data: AuditReport) -> list[int]:
    """Adapters that do something, each once."""
    idle = {*dead(data), *(j for _, j in duplicates(data))}
    return [i for i in range(len(data.adapters)) if i not in idle]


def strengths(data: AuditReport) -> list[str]:
    """Of updates that are multiples of others but not the same: which, and how large."""
    names, twice = [a.name for a in data.adapters], duplicates(data)
    return [f"{names[j]} = {x:.3g} x {names[i]}" for i, j, x in multiples(data) if (i, j) not in twice]


def meeting(data: AuditReport) -> list[PairTotal]:
    """Pairs of adapters that do something and are not the same."""
    own = set(distinct(data))
    return [p for p in data.total.pairs if {p.first, p.second} <= own]


def dropped(data: AuditReport) -> list[str]:
    """Modules that some combination of peft leaves out without a word."""
    return sorted({m for v in data.total.combinations.values() for m in v.dropped})


def on_last_matrix(data: AuditReport) -> bool:
    """Whether all adapters act on the matrix before the logits alone, so that their logits add."""
    return all(m.name.rpartition(".")[2] in HEADS for m in data.modules)


def ceilings() -> str:
    """What additive merges can answer, by claim additive_limit, for a small table and a large one."""
    few, many = (f"{additive_ceiling(n, 10):.0%} with {n} bridges" for n in (10, 1000))
    return f"{few}, {many}"


class Depth(NamedTuple):
    """The stack of layers in which an adapter acts ("" where it acts in none), its first and its last layer there."""

    stack: str
    first: float
    last: float


def depth(data: AuditReport, index: int) -> Depth | None:
    """Where an adapter acts; embeddings lie below all layers, the last matrix above.

    None where the names of its modules do not tell, or name several stacks.
    """
    stacks, layers = set(), []
    for m in data.modules:
        if all(p.adapter != index or p.norm == 0.0 for p in m.parts):
            continue
        parts = m.name.split(".")
        at = next((i for i, p in enumerate(parts) if p.isdigit()), None)
        if at is not None:
            stacks.add(".".join(parts[:at]))
            layers.append(float(parts[at]))
        elif m.kind == "embedding":
            layers.append(-math.inf)
        elif parts[-1] in HEADS:
            layers.append(math.inf)
        else:
            return None
    return Depth("".join(stacks), min(layers), max(layers)) if layers and len(stacks) < 2 else None


def below(data: AuditReport) -> list[tuple[int, int]]:
    """Pairs (lower, upper) of which one acts wholly below the other, in one stack of layers."""
    place = {i: found for i in distinct(data) if (found := depth(data, i)) is not None}
    return [
        (i, j)
        for (i, low), (j, high) in permutations(place.items(), 2)
        if low.last < high.first and (low.stack == high.stack or not (low.stack and high.stack))
    ]


# ---------------------------------------------------------------- the sentences


def _merge(data: AuditReport) -> str | None:
    merge, found = data.total.merge, data.total.combinations
    if data.total.norm == 0.0:
        return "The sum is zero: there is nothing to merge."
    good = [f"peft's {k}" for k, v in found.items() if v.error is not None and v.error <= NOTHING]
    tools = " or ".join(["lora-limits merge", *good[:1]]) if len(data.adapters) > 1 else "lora-limits merge"
    ranks = span([merge.smallest_rank, merge.largest_rank])
    said = [f"exactly, by {tools}: rank {ranks} in {_modules(data.total.modules)}"]
    svd = found.get("svd")
    error, rank = (svd.error or 0.0, svd.rank) if svd is not None else (0.0, None)
    if error > NOTHING:
        said.append(f"peft's default (svd, rank {rank}) misses the sum by {share(error)}")
    if (merge.truncation or 0.0) > NOTHING and not (rank == merge.kept_rank and error > NOTHING):
        said.append(f"kept at rank {merge.kept_rank} it loses at least {share(merge.truncation or 0.0)}")
    return _sentence(said)


def _keep(data: AuditReport) -> str | None:
    names, own = [a.name for a in data.adapters], distinct(data)
    said = []
    if len(data.adapters) > 1 and own and data.total.norm > 0.0:
        summed, mean = _in_sum(data), [t.kept_by_mean or 0.0 for t in data.total.adapters]
        low, high = min(own, key=mean.__getitem__), max(own, key=mean.__getitem__)
        if len(own) <= 2:
            each = " and ".join(f"{share(summed[i])} of {names[i]}" for i in own)
            said.append(f"the sum keeps {each}, a mean {' and '.join(share(mean[i]) for i in own)}")
        else:
            sums = [summed[i] for i in own]
            said.append(
                f"the sum keeps {share(min(sums))} to {share(max(sums))} of each, a mean {share(mean[low])} "
                f"({names[low]}) to {share(mean[high])} ({names[high]})"
            )
    if data.probe is not None:
        found = data.probe.answered
        single, both = "the adapter", ""
        if len(data.adapters) > 1:
            single, both = "the best adapter for each", f", the sum {found.sum}, a mean {found.mean}"
        said.append(
            f"of {len(data.probe.lines)} probes the base answers {found.base}, {single} {found.best_single}{both}"
        )
    return _sentence(said)


def _in_sum(data: AuditReport) -> list[float]:
    """Of every update, the projection of the wanted sum on it, relative to it; 0 of a dead one."""
    weights, norms = data.options.weights, [t.norm for t in data.total.adapters]
    kept = [w if n else 0.0 for w, n in zip(weights, norms, strict=True)]
    for p in data.total.pairs:
        for i, j in ((p.first, p.second), (p.second, p.first)):
            kept[i] += weights[j] * p.cosine * norms[j] / norms[i] if norms[i] else 0.0
    return kept


def _disturb(data: AuditReport) -> str | None:
    names, pairs = [a.name for a in data.adapters], meeting(data)
    if not pairs:
        return None
    worst = max(pairs, key=reached)
    if not worst.common_modules:
        return "No two adapt the same module, so none acts on what another reads; they meet through the layers between."
    two = (worst.second_on_first.mean_largest or 0.0) >= (worst.first_on_second.mean_largest or 0.0)
    doer, owner = (names[i] for i in ((worst.second, worst.first) if two else (worst.first, worst.second)))
    over = ", enough to write over it" if reached(worst) >= 1.0 else ""  # as much as the owner of the keys does
    among = f", the worst of {len(pairs)} pairs" if len(pairs) > 1 else ""
    return (
        f"On inputs that {owner} reads, {doer} does up to {share(reached(worst))} of what {owner} itself does{over} "
        f"(mean over {_modules(worst.common_modules)}{among})."
    )


def _waste(data: AuditReport) -> str | None:
    names = [a.name for a in data.adapters]
    idle, twice, left, scaled = dead(data), duplicates(data), dropped(data), strengths(data)
    said = []
    if idle:
        said.append(f"an update of zero, which changes nothing: {listed([names[i] for i in idle])}")
    partly = [(names[i], count, of) for i, (count, of) in enumerate(_zero_modules(data)) if 0 < count < of]
    if partly:
        said.append(f"an update of zero in {listed([f'{count} of {of} modules of {n}' for n, count, of in partly])}")
    if twice:
        said.append(f"one update twice: {listed([f'{names[i]} = {names[j]}' for i, j in twice])}")
    if scaled:
        said.append(f"one update at two strengths: {listed(scaled)}")
    if left:
        said.append(f"left out by peft without a word: {len(left)} of {_modules(data.total.modules)}")
    return _sentence(said)


def _zero_modules(data: AuditReport) -> list[tuple[int, int]]:
    """Per adapter: modules in which it changes nothing, and all of them."""
    norms: list[list[float]] = [[] for _ in data.adapters]
    for m in data.modules:
        for p in m.parts:
            norms[p.adapter].append(p.norm)
    return [(n.count(0.0), len(n)) for n in norms]


def _join(data: AuditReport) -> str | None:
    names, own, ordered = [a.name for a in data.adapters], distinct(data), below(data)
    if len(own) < 2:
        return None
    if on_last_matrix(data):
        return (
            "Never a fact of one with a fact of another: all act on the last matrix alone, so logits add, and of such "
            f"questions over ten answers at most {ceilings()} can be answered."
        )
    if ordered:
        low, high = (names[i] for i in ordered[0])
        more = f" (as in {len(ordered) - 1} more pairs)" if len(ordered) > 1 else ""
        return (
            f"Perhaps a fact of {low} with a fact of {high}, in this order: {low} acts wholly below {high}{more}, "
            "which can read what is written there; only questions show whether it does."
        )
    return (
        "Do not expect a fact of one with a fact of another: what merely adds up is capped, and none acts wholly below "
        "another, where a first step would have to be written for a second to read it."
    )


def _do(data: AuditReport) -> str | None:
    names, own = [a.name for a in data.adapters], distinct(data)
    idle = [n for i, n in enumerate(names) if i not in own]
    steps = [f"leave out {listed(idle)}"] if idle and own else []
    if len(own) > 1 and data.total.norm == 0.0:
        steps.append("choose other weights: with these the updates cancel")
    elif len(own) > 1:
        asked = data.probe.answered if data.probe is not None else None
        mean = " as a mean (--weights)" if asked is not None and asked.mean > asked.sum else ""
        steps.append(f"merge{' the others' if idle else ''} with lora-limits merge{mean}")
        if asked is None:
            steps.append("try it on your own questions (--base, --probe)")
        elif (lost := asked.best_single - max(asked.sum, asked.mean)) > 0:
            steps.append(f"keep them apart where lost answers matter ({lost} of {asked.best_single})")
        steps.append("ask in two steps what needs facts of two")
    return _sentence(steps)


def _sentence(parts: list[str]) -> str | None:
    """Parts that begin with a word of ours, not with a name, as one sentence."""
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else None


def _modules(count: int) -> str:
    return f"{count} module{'s' if count != 1 else ''}"
