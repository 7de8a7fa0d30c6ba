"""A merge of your own: one function, run beside the known methods.

    make experiments EXPERIMENT=coverage METHOD=examples/my_merge.py:merge

`updates` is a list of dicts, one per adapter: module name -> theory.lowrank.LowRank (B, A, scale; .dense(), .norm(),
.truncate(r)). Give back a dict, module name -> LowRank or a dense out x in array.
"""

from theory.lowrank import LowRank


def merge(updates: list[dict[str, LowRank]]) -> dict[str, LowRank]:
    """A sum in which all adapters have equal weight in every module: each is scaled to the mean Frobenius norm."""
    merged: dict[str, LowRank] = {}
    for name in {name for adapter in updates for name in adapter}:
        here = [adapter[name] for adapter in updates if name in adapter]
        sizes = [u.norm("frobenius") for u in here]
        mean = sum(sizes) / len(sizes)
        merged[name] = LowRank.combine(here, [mean / size if size else 0.0 for size in sizes])
    return merged
