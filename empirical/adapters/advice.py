"""From the numbers of an audit to plain sentences, each with the claim that it rests on and what limits it."""

from __future__ import annotations

from empirical.adapters.answer import NOTHING, below, ceilings, dead, dropped, meeting, on_last_matrix, share, strengths
from empirical.adapters.library import FEW, duplicates, listed, worst_pairs
from empirical.adapters.report import AuditReport, PairTotal, Probes, Sentence

#: rank correlation, within a world, of a forecast with what sums of trained adapters kept of their probes: mean over
#: the worlds of the experiment audit_outcomes, of small models from scratch and of SmolLM2-135M (last two layers)
ORDERED = {"additive": (0.74, 0.54), "interference": (0.26, 0.66), "keys": (0.29, 0.59), "cosine": (0.30, 0.43)}


def _ordered(forecast: str) -> str:
    small, smollm2 = ORDERED[forecast]
    return f"{small:.2f} on small models, {smollm2:.2f} on SmolLM2"


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.1%}" if value < 10 else share(value)


def verdict(data: AuditReport) -> list[Sentence]:
    """Reasons behind the answer; `level` is "fine", "warning" or "limit" (nothing that a merge could mend).

    Args:
        data: what :func:`empirical.adapters.audit.audit` measured.
    """
    lines = [_exact(data), *_dead(data), *_doubled(data)]
    if len(data.adapters) > 1:
        lines += [*_peft(data), _kept(data), *_overlap(data)]
    lines.append(_truncation(data))
    if data.probe is not None:
        lines += [_probe(data.probe), *_weights(data, data.probe)]
    if len(data.adapters) > 1:
        lines += [_joining(data), _instead()]
    return lines


def _exact(data: AuditReport) -> Sentence:
    merge = data.total.merge
    ranks = str(merge.largest_rank)
    if merge.smallest_rank != merge.largest_rank:
        ranks = f"{merge.smallest_rank} to {merge.largest_rank}"
    saved = merge.compressed_modules
    extra = f"; the spaces overlap in {saved} of them, which saves rank" if saved else ", the sum of the ranks"
    return Sentence(
        "merge_rank", "fine",
        f"The weighted sum can be merged exactly: it needs rank {ranks} in {data.total.modules} modules{extra}. "
        "lora-limits merge writes it as one adapter.",
        "Exact means: the merged adapter computes what its parts compute together. Whether that is useful is not said.",
    )  # fmt: skip


def _peft(data: AuditReport) -> list[Sentence]:
    found = data.total.combinations
    version = data.tool["peft"]
    lines = []
    default = found["svd"]
    if default.error is not None:
        text = f"peft {version}'s default (svd, rank {default.rank}) misses the weighted sum by "
        text += _percent(default.error)
        linear = found["linear"]
        if linear.error is not None:
            text += f"; linear, which averages factors, by {_percent(linear.error)}"
        good = [k for k, v in found.items() if v.error is not None and v.error <= NOTHING]
        text += f". Exact here: {', '.join(good)}." if good else ". No combination type of peft is exact here."
        fine = default.error <= NOTHING
        lines.append(
            Sentence("factor_average", "fine" if fine else "warning", text,
                  "Relative Frobenius error over all modules; random types are one draw. A small error is no promise "
                  "of equal answers, a large one no proof of bad ones.")
        )  # fmt: skip
    left = dropped(data)
    if left:
        lines.append(
            Sentence("factor_average", "warning",
                  f"peft {version} would drop {len(left)} modules without a word, because the first adapter's "
                  f"configuration does not choose them: {listed(left)}.",
                  "Read off peft's own matching of names; put another adapter first, or use lora-limits merge.")
        )  # fmt: skip
    scaled = [k for k, v in found.items() if v.reason is None and v.scale != 1.0]
    if scaled:
        lines.append(
            Sentence("factor_average", "warning",
                  f"The first adapter is rank-stabilised: peft {version} multiplies every combination by the square "
                  f"root of its rank ({found[scaled[0]].scale:.3g} for {scaled[0]}).",
                  "A fault of this version of peft, as measured; the errors above include it.")
        )  # fmt: skip
    return lines


def _kept(data: AuditReport) -> Sentence:
    mean = data.total.mean
    k = mean.adapters
    kept = [t.kept_by_mean for t in data.total.adapters]
    shares = ", ".join(f"{a.name} {_percent(t)}" for a, t in zip(data.adapters, kept, strict=True))
    if len(kept) > FEW:
        known = [t for t in kept if t is not None]
        shares = f"{_percent(min(known, default=None))} to {_percent(max(known, default=None))}"
    text = f"A uniform mean keeps 1/{k} of each update, plus what the others share with it (measured: {shares})"
    if mean.factor_error is not None:
        text += (
            f"; averaging the factors with weights 1/{k} keeps 1/{k**2} and adds cross terms "
            f"({_percent(mean.factor_error)} off the mean)"
        )
    return Sentence(
        "dilution", "warning",
        f"{text}. An answer survives the mean only if its gain exceeds {k} times the deficit that the base left.",
        "A theorem where the update acts on the logits linearly and the other adapters do not read the key; gains and "
        "deficits need a base and a probe file.",
    )  # fmt: skip


def _dead(data: AuditReport) -> list[Sentence]:
    idle = [data.adapters[i].name for i in dead(data)]
    if not idle:
        return []
    return [
        Sentence(
            "adapter_algebra", "warning",
            f"{listed(idle)}: an update of zero, which changes nothing (saved before training, or a run that trained "
            "nothing).",
            "Read off the factors: B A = 0 in every module.",
        )
    ]  # fmt: skip


def _doubled(data: AuditReport) -> list[Sentence]:
    names = [a.name for a in data.adapters]
    doubled, scaled = [f"{names[i]} = {names[j]}" for i, j in duplicates(data)], strengths(data)
    limits = "A cosine of 1 or -1 over all modules, to rounding."
    lines = []
    if doubled:
        text = f"The same update twice: {listed(doubled)}. A sum counts it twice."
        lines.append(Sentence("merge_rank", "warning", text, limits))
    if scaled:
        text = f"One update at two strengths: {listed(scaled)}. A sum of them is this update at another strength."
        lines.append(Sentence("merge_rank", "warning", text, limits))
    return lines


def _overlap(data: AuditReport) -> list[Sentence]:
    names = [a.name for a in data.adapters]
    met = meeting(data)
    return [_pair(names[p.first], names[p.second], p) for p in worst_pairs(data) if p in met]


def _pair(one: str, two: str, pair: PairTotal) -> Sentence:
    reached = [x.mean_largest for x in (pair.second_on_first, pair.first_on_second) if x.mean_largest is not None]
    if not reached:
        return Sentence(
            "interference", "fine",
            f"{one} and {two} adapt different modules: no update acts on the other's.",
            "They still meet through the layers between them.",
        )  # fmt: skip
    over = max(reached) >= 1.0  # as much as the owner of the keys does there
    word = ", enough to write over it" if over else ""
    return Sentence(
        "interference", "warning" if over else "fine",
        f"{one} and {two}: row spaces share {_percent(pair.keys_share)} (chance {_percent(pair.keys_chance)}), cosine "
        f"of the updates {pair.cosine:+.3f}; on keys that one reads, the other does up to {_percent(max(reached))} of "
        f"what it does itself (mean over modules){word}.",
        "A worst case over all keys in the row space, not over the prompts that you will ask; orthogonal updates can "
        "still fail together. How well such numbers order sums by what they keep was measured, as a rank correlation: "
        f"reach {_ordered('interference')}; shared keys {_ordered('keys')}; cosine {_ordered('cosine')}. None tells "
        "how much a sum keeps better than the mean over all sums does.",
    )  # fmt: skip


def _truncation(data: AuditReport) -> Sentence:
    merge = data.total.merge
    lost = merge.truncation
    return Sentence(
        "eckart_young", "fine" if lost is not None and lost <= NOTHING else "warning",
        f"Kept at rank {merge.kept_rank}, the sum loses at least {_percent(lost)} of its norm, whatever the method.",
        "Least possible Frobenius error at this rank; what it costs in answers depends on the keys.",
    )  # fmt: skip


def _probe(probe: Probes) -> Sentence:
    answered = probe.answered
    total = len(probe.lines)
    limits = [x.mean_limit for x in probe.lines if x.mean_limit is not None]
    text = (
        f"Of {total} probes the base answers {answered.base}, the best single adapter {answered.best_single}, "
        f"the weighted sum {answered.sum} (foretold from single adapters, if logits added up: {answered.added}), the "
        f"uniform mean {answered.mean}."
    )
    if limits:
        most = f"{min(limits)} adapter{'' if min(limits) == 1 else 's'}"
        text += f" By dilution a mean holds at most {most} before the first of these answers drowns."
    return Sentence(
        "dilution", "warning" if answered.mean < answered.best_single else "fine", text,
        "First token of each answer. The limit extrapolates the gain of a single adapter linearly; the counts are "
        "measured. Forecasts from single adapters order sums by what they keep with a rank correlation of "
        f"{_ordered('additive')}.",
    )  # fmt: skip


def _weights(data: AuditReport, probe: Probes) -> list[Sentence]:
    best = probe.advised
    if best is None:
        return []
    named = ", ".join(f"{w:.2f} {a.name}" for w, a in zip(best.weights, data.adapters, strict=True))
    text = (
        f"Of weights that sum to one, {named} would lift the least margin most, to {best.foretold:+.2f}; with them "
        f"{best.answered} of {len(probe.lines)} probes are answered, with equal ones {probe.answered.mean}."
    )
    if best.ceiling <= 0:
        text += " No such weights would answer every probe."
    return [Sentence(
        "optimal_weights", "fine" if best.ceiling > 0 else "warning", text,
        "Exact where logits are linear in the merge; here what each adapter adds by itself is added up. The counts are "
        "measured. Weights chosen on these probes are no forecast for others.",
    )]  # fmt: skip


def _joining(data: AuditReport) -> Sentence:
    names = [a.name for a in data.adapters]
    ordered = [f"{names[i]} below {names[j]}" for i, j in below(data)]
    if on_last_matrix(data):
        text = (
            "No weighted sum of these will join a fact of one adapter with a fact of another: they act on the last "
            "matrix alone, so their logits add. Of questions whose two hops are in different adapters, over ten "
            f"possible answers, at most {ceilings()} can be answered."
        )
        limits = "A theorem, at any rank and weights, for a base and prompts that know neither hop."
    else:
        text = (
            "Do not expect a merge to join a fact of one adapter with a fact of another (two hops, new bridge and new "
            "value). What an additive part can contribute is capped, and the first hop would have to be written before "
            "the layer that reads it, at the keys that the second adapter was trained on."
        )
        if ordered:
            text += f" The first of these holds here: {listed(ordered)}. The second does not show in weights."
        limits = (
            "The ceiling is a theorem for adapters on the last matrix and for the additive part of any network; for "
            "several adapted layers composition is not excluded (layer_order, coverage_law), only not to be expected."
        )
    return Sentence("additive_limit", "limit", text, limits)


def _instead() -> Sentence:
    return Sentence(
        "chain_of_thought", "limit",
        "Instead: let the model spell out the bridge (both steps must then survive the merge, each in the prompt in "
        "which it is asked), train one adapter on data with the bridge in it, or keep the adapters apart and ask them "
        "in turn.",
        "Spelled out, accuracy is at least s1 + s2 - 1 for the two steps in one prompt, which can each be worse than "
        "the same question asked alone; a router that gives each query to one adapter joins nothing either "
        "(hard_routing).",
    )  # fmt: skip
