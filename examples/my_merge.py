"""A merge of your own: one function, run beside the known methods.

    make experiments EXPERIMENT=coverage METHOD=examples/my_merge.py:merge

`adapters` is a list of dicts, module name -> theory.lowrank.LowRank (B, A, scale; .dense(), .norm(), .truncate(r));
`base` is the torch model that they adapt. Give back a dict, module name -> LowRank or a dense out x in array.
"""

from theory.lowrank import LowRank


def merge(adapters, base):
    """A sum in which all adapters have equal weight in every module: each is scaled to the mean Frobenius norm."""
    merged = {}
    for name in {name for adapter in adapters for name in adapter}:
        updates = [adapter[name] for adapter in adapters if name in adapter]
        sizes = [u.norm("frobenius") for u in updates]
        mean = sum(sizes) / len(sizes)
        merged[name] = LowRank.combine(updates, [mean / size if size else 0.0 for size in sizes])
    return merged
