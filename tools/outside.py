"""What others have published or released, held against what is said here: `make outside`.

Nothing of theirs is in this repository. A check whose material is not at hand is skipped with a word:

- *memory*: needs nothing. Correlation memories, sums of n products of random vectors in d dimensions, are said to be
  all right from d^2 = 8 n ln n on (arXiv 2605.05189). At such d this is a trend and no equality: more are right well
  above than well below;
- *tables*: `MERGING=` a checkout of r-three/realistic-adaptive-merging (arXiv 2602.12323), whose tables say by task
  what a mean of about a thousand adapters, TSV and TIES reach, and the model without any. A mean helps tasks (what it
  dilutes are facts), TIES does not: intervals of the difference, the task being the unit;
- *lte*: `LTE=` a checkout of minyoungg/LTE. Its own layer is trained and merged; the rank of what was merged is that of
  claim telescoping_merge, with and without reset;
- *knots*: `KNOTS=` a checkout of gstoica27/KnOTS, whose merge of random adapters is the bench's `knots_sv`;
- *core*: `CORE_SPACE=` a checkout of apanariello4/core-space-merging, whose merges in Core Space, in the whole space
  and in KnOTS' are the bench's.

What was found is in docs/methods.md.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from empirical.engine.intervals import interval
from empirical.reuse import spectral
from empirical.training.bases import Updates, dense
from theory.continual import telescoping_rank
from theory.lowrank import LowRank
from theory.numerics import Array, require, stream

if TYPE_CHECKING:
    from torch import nn

#: (whether it is as said here, what was found)
Found = Iterator[tuple[bool, str]]

#: level of the intervals by task
LEVEL = 0.99
#: column -> what is said of the mean difference to the model without adapters
MERGES = {"performance_agg": "helps", "performance_ties": "does not help"}
#: module -> (out, in) of the adapters that are merged; three of rank 8 fill them
SHAPES = {"wide": (24, 24), "tall": (40, 24)}
#: scale of every merge
SCALE = 0.6
#: how far results of other code may be from the bench's, relative to their norm: theirs are in single precision
ROUNDING = 16 * float(np.finfo(np.float32).eps)


def column(file: Path, name: str) -> dict[str, float]:
    """Task -> number, of the tasks that have one.

    Raises:
        ValueError: the table has no such column.
    """
    with file.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    require(bool(rows) and {"task", name} <= rows[0].keys(), file.name, f"columns task and {name}", list(rows[:1]))
    return {row["task"]: float(row[name]) for row in rows if row[name]}


def gain(folder: Path, name: str) -> tuple[int, float, float, float]:
    """(tasks, mean difference to the model without adapters, its interval) of one way of merging."""
    tables = folder / "results" / "tables"
    plain = column(tables / "zero_shot_performance.csv", "zero_shot")
    merged = column(tables / "merged_performance_eval_experts_summary.csv", name)
    gains = [merged[task] - plain[task] for task in sorted(merged.keys() & plain.keys())]
    low, high = interval(gains, LEVEL, step=1e-3)
    return len(gains), float(np.mean(gains)), low, high


def recalled(d: int, excess: float, rng: np.random.Generator) -> bool:
    """Whether a sum of n products of normal vectors finds every value by its key, at d^2 of about excess n ln n."""
    n = max(k for k in range(2, d * d) if excess * k * np.log(k) <= d * d)
    keys, values = (rng.standard_normal((n, d)) / np.sqrt(d) for _ in range(2))
    scores: Array = values @ (values.T @ keys) @ keys.T
    return bool((scores.argmax(axis=0) == np.arange(n)).all())


def tables(folder: Path) -> Found:
    """What the published tables say, and whether it is what is said here."""
    for name, wanted in MERGES.items():
        count, mean, low, high = gain(folder, name)
        found = "helps" if low > 0 else "does not help" if mean <= 0 else "undecided"
        yield found == wanted, f"{name}: {mean:+.3f} [{low:+.3f}, {high:+.3f}] over {count} tasks: {found}"


def memory(d: int = 128, draws: int = 20) -> Found:
    """Shares of memories that are all right, below, about and above 8 n ln n."""
    from scipy.stats import fisher_exact

    rng = stream(0, "outside", "memory")
    right = {c: sum(recalled(d, c, rng) for _ in range(draws)) for c in (4, 8, 12, 16)}
    below, above = right[4], right[16]
    chance = fisher_exact([[above, draws - above], [below, draws - below]], alternative="greater").pvalue
    said = ", ".join(f"{k / draws:.2f} at {c}" for c, k in right.items())
    more = chance < 1 - LEVEL
    yield more, f"d = {d}, d^2 / (n ln n): all right in {said}: {'more' if more else 'no more'} above 8 than below"


# ---------------------------------------------------------------- code of others


@contextlib.contextmanager
def checkout(folder: Path, holds: str) -> Iterator[None]:
    """Imports from a checkout. Its modules have everybody's names, so they are forgotten afterwards; it prints nothing.

    `utils` is not its own, which imports CLIP, but the two look-ups that its merges take from there.

    Raises:
        ValueError: no such file in the folder.
    """
    require((folder / holds).is_file(), str(folder), f"a checkout that holds {holds}", "none")
    before = set(sys.modules)
    sys.modules["utils"] = utils = types.ModuleType("utils")
    vars(utils)["get_mask_fn"] = lambda name: getattr(sys.modules["masking_ops"], f"{name}_masking")
    vars(utils)["get_merging_fn"] = lambda name: getattr(sys.modules["merging_functions"], f"{name}_merging")
    sys.path.insert(0, str(folder))
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        sys.path.remove(str(folder))
        del sys.modules["utils"]
        for name in sys.modules.keys() - before:
            if str(folder) in str(getattr(sys.modules[name], "__file__", None)):
                del sys.modules[name]


def lte(folder: Path, heads: int = 3, r: int = 2, rounds: int = 4) -> Found:
    """Ranks of what LoRA-the-Explorer's layer has merged after each round, without reset (its default) and with it.

    `reset_lora_parameters` alone leaves the products that the layer subtracts, so that its merges telescope as well.
    """
    with checkout(folder, "lte/prepare.py"):
        code = importlib.import_module("lte")
        for mode, reset in {
            "no reset": False,
            "factors reset": False,
            "factors and what is subtracted reset": True,
        }.items():
            wanted = [telescoping_rank(heads, r, t + 1, reset) for t in range(rounds)]
            found = merged_ranks(code, mode, heads, r, rounds)
            yield found == wanted, f"{mode}: ranks after each merge {found}, expected {wanted}"


def merged_ranks(code: Any, mode: str, heads: int, r: int, rounds: int, d: int = 24) -> list[int]:
    """Ranks of a layer that is trained towards a random matrix of full rank and merged so many times."""
    import torch

    found = []
    with torch.random.fork_rng(devices=()):  # layers draw their start from torch's own stream
        torch.manual_seed(0)
        plain: Any = torch.nn.Sequential(torch.nn.Linear(d, d, bias=False)).double()
        start = plain[0].weight.detach().clone()
        model = code.prepare_model_for_lte(plain, code.LTEConfig.default(lora_r=r, lora_alpha=r, num_heads=heads))
        layer: Any = model[0]
        inputs, goal = (torch.randn(n, d, dtype=torch.float64) for n in (32 * heads, d))
        for _ in range(rounds):
            optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=2e-2)
            for _ in range(20):
                optimiser.zero_grad()
                (model(inputs) - inputs @ goal.T).square().mean().backward()
                optimiser.step()
            layer.merge_parameters()
            found.append(int(torch.linalg.matrix_rank(layer.weight.detach() - start, rtol=1e-9)))
            if mode != "no reset":
                layer.reset_lora_parameters()
            if mode.startswith("factors and"):
                layer.prev_lora_A_weight.zero_()
                layer.prev_lora_B_weight.zero_()
    return found


def adapters(r: int, count: int = 3) -> list[Updates]:
    """Random adapters of rank r on `SHAPES`."""
    rng = stream(0, "outside", "adapters", r)
    return [
        {
            n: LowRank(rng.standard_normal((out, r)), rng.standard_normal((r, inner)))
            for n, (out, inner) in SHAPES.items()
        }
        for _ in range(count)
    ]


def model(updates: Updates | None = None) -> nn.Module:
    """Linear layers whose weights are the updates, or zero."""
    from torch import nn, tensor

    layers = nn.ModuleDict({n: nn.Linear(inner, out, bias=False) for n, (out, inner) in SHAPES.items()})
    for name, layer in layers.items():
        layer.weight.data = tensor(dense(updates[name]) if updates else np.zeros(SHAPES[name])).float()
    return layers


def weights(layers: nn.Module) -> dict[str, Array]:
    """What :func:`model` took."""
    return {name.removesuffix(".weight"): held.double().numpy() for name, held in layers.state_dict().items()}


def apart(theirs: Mapping[str, Array], ours: Updates) -> float:
    """Largest distance of a module's two updates, relative to the first one's norm."""
    return max(float(np.linalg.norm(u - dense(ours[n])) / np.linalg.norm(u)) for n, u in theirs.items())


def equal(what: str, theirs: Mapping[str, Array], ours: Updates, wanted: bool = True) -> tuple[bool, str]:
    """Whether two merges are one up to rounding, as they should be or not."""
    distance = apart(theirs, ours)
    return (distance <= ROUNDING) == wanted, f"{what}: {distance:.1e} apart"


def kept(percent: int, entries: int) -> float:
    """The density at which the bench keeps what the authors keep of so many entries: all, or the share and one."""
    return 1.0 if percent == 100 else (entries * percent // 100 + 1.5) / entries


def knots(folder: Path) -> Found:
    """KnOTS as its authors run it."""
    with checkout(folder, "task_merger.py"):
        code, handlers = importlib.import_module("task_merger"), importlib.import_module("ft_handlers")
        given = adapters(3)
        merger = code.SVDMerger([model(a) for a in given], model(), handlers.GeneralHandler, device="cpu")
        merger.set_scaling_coeffs(SCALE)
        for percent in (20, 100):
            settings = {"merge_method": "ties", "merging_type": "mean", "topK": percent}
            merger.transform(settings)
            theirs = weights(merger.merge(settings))
            entries = sum(3 * len(given) * inner for _, inner in SHAPES.values())
            ours = spectral.knots_sv(given, kept(percent, entries), SCALE)
            yield equal(f"TIES of {percent} % and knots_sv", theirs, ours)


def core(folder: Path) -> Found:
    """The merges of Core Space's authors: rank 3, which leaves directions free, and rank 8, which does not."""
    with checkout(folder, "task_merger.py"):
        code, handlers = importlib.import_module("task_merger"), importlib.import_module("ft_handlers")

        def merge(given: Sequence[Updates], space: str, method: str, **settings: Any) -> dict[str, Array]:
            from torch import tensor

            stored = [
                {f"{n}.lora_{f}.default.weight": tensor(getattr(u, f)).float() for n, u in a.items() for f in "AB"}
                for a in given
            ]
            merger = code.MatrixPerLayerMerger(stored, model(), handlers.LoRAHandler, device="cpu")
            merger.set_scaling_coeffs(SCALE)
            return weights(merger.merge({"merge_space": space, "merge_method": method, **settings}))

        for r in (3, 8):
            yield from core_merges(merge, adapters(r), r)


def core_merges(merge: Callable[..., dict[str, Array]], given: Sequence[Updates], r: int) -> Found:
    """Merges by the authors' code (adapters, space, method and settings -> updates) and by the bench."""
    columns = len(given) * r
    fills = columns >= min(min(shape) for shape in SHAPES.values())
    total = merge(given, "core", "tv")
    yield equal(f"rank {r}: sums in Core Space and in the whole", merge(given, "full", "tv"), total)
    yield equal(f"rank {r}: sum and core_sum", total, spectral.core_sum(given, SCALE))
    for percent in (20, 100):
        theirs = merge(given, "core", "ties", topK=percent)
        ours = spectral.core_ties(given, kept(percent, columns**2), SCALE)
        yield equal(f"rank {r}: TIES of {percent} % and core_ties", theirs, ours)
        theirs = merge(given, "knots", "ties", topK=percent)
        ours = spectral.knots(given, kept(percent, columns * SHAPES["wide"][1]))
        yield equal(f"rank {r}: TIES of {percent} % and knots", theirs, scaled(ours))
    tsv = merge(given, "core", "tsv")
    yield equal(f"rank {r}: TSV and core_tsv", tsv, spectral.core_tsv(given, SCALE))
    # in the whole space vectors of singular value zero, which are arbitrary, take part
    yield equal(f"rank {r}: TSV in the whole and tsv", merge(given, "full", "tsv"), spectral.tsv(given, SCALE), fills)
    yield equal(f"rank {r}: Iso-C and iso_c", merge(given, "core", "tv", isotropize=True), spectral.iso_c(given, SCALE))


def scaled(updates: Updates) -> Updates:
    """The updates at `SCALE`."""
    return {name: SCALE * dense(update) for name, update in updates.items()}


#: variable -> (check, the checkout it takes)
CHECKS: dict[str, tuple[Callable[[Path], Found], str]] = {
    "MERGING": (tables, "r-three/realistic-adaptive-merging"),
    "LTE": (lte, "minyoungg/LTE"),
    "KNOTS": (knots, "gstoica27/KnOTS"),
    "CORE_SPACE": (core, "apanariello4/core-space-merging"),
}


def main() -> int:
    """Run what can be run; 1 where something is not as it is said here, 2 for material that cannot be read."""
    checks: dict[str, Found] = {"memory": memory()}
    for variable, (check, source) in CHECKS.items():
        if folder := os.environ.get(variable):
            checks[check.__name__] = check(Path(folder).resolve())
        else:
            print(f"{check.__name__}: skipped, no {variable}=<a checkout of {source}>")
    right = True
    for name, check_of in checks.items():
        try:
            found = list(check_of)
        except ModuleNotFoundError as error:
            print(f"{name}: skipped, its code needs the package {error.name}")
            continue
        except (OSError, ValueError) as error:
            print(f"outside: {name}: {error}", file=sys.stderr)
            return 2
        for fits, line in found:
            print(f"{'as said' if fits else 'NOT AS SAID'}: {name}: {line}")
        right &= all(fits for fits, _ in found)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
