"""Ways to reuse adapters: name -> (adapters, base) -> a model to ask.

An adapter is a dict from module names of the base to updates (:class:`theory.lowrank.LowRank`, or a dense array). A
*merge* turns several adapters into one such dict; a *router* decides at every token and every module. Each is a row of
`METHODS`; what it needs are the names of its arguments. :func:`reused` is the one door: it yields the base with the
adapters in place and takes them out again.

A number after ``@`` sets the option that a row names: ``sum@0.3`` is the sum at scale 0.3, ``svd@8`` that of rank 8. A
merge or router of your own is one function in a file; ``"my_merge.py:merge"`` is its name (:mod:`empirical.reuse.own`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from torch import nn

from empirical.reuse import linear, routers, spectral, trimmed, with_data
from empirical.reuse.linear import modules_of, random_like, weighted_sum
from empirical.reuse.options import SPECIAL, Options, arguments, needs
from empirical.reuse.own import is_own, own_answer, own_needs
from empirical.reuse.peft_forms import peft_weighted, through_peft
from empirical.reuse.routers import Routing, oracle_right, routed
from empirical.training.bases import Updates, check_updates, updated
from theory.numerics import one_of, require

__all__ = [
    "MERGES", "METHODS", "ROUTERS", "Method", "Options", "asks", "check_method", "merged", "modules_of",
    "oracle_right", "peft_weighted", "random_like", "reused", "weighted_sum",
]  # fmt: skip


@dataclass(frozen=True)
class Method:
    """A way to reuse adapters.

    Args:
        name: of the row, and in records.
        kind: a merge gives updates, a router a :class:`Routing`.
        run: what it does; the names of its arguments say what it needs (:mod:`empirical.reuse.options`).
        says: what it is, in a few words.
        reference: an arXiv number, or whose code it follows; "" for what needs none.
        limit: the claims that bound it, where it works on the last matrix before the logits; none for what is only
            measured.
        number: the option that a number after ``@`` sets; "" for none.
    """

    name: str
    kind: Literal["merge", "router"]
    run: Callable[..., Any]
    says: str
    reference: str = ""
    limit: tuple[str, ...] = ()
    number: str = ""

    @property
    def needs(self) -> frozenset[str]:
        """What it asks for."""
        return needs(self.run)

    def examples(self, adapters: int, few: int) -> int:
        """How many it is shown, where `few` are given of each adapter's task and of the task to be solved."""
        return few * (adapters * ("probes" in self.needs) + ("data" in self.needs))


_ADDITIVE = ("additive_limit",)
_ARROW = "2405.11157"

ROWS = (
    Method("sum", "merge", linear.scaled_sum, "sum of the updates: task arithmetic", "2212.04089", _ADDITIVE, "scale"),
    Method("mean", "merge", linear.mean, "mean of the updates: Uniform", _ARROW, ("additive_limit", "dilution")),
    Method("cat", "merge", linear.scaled_sum, "the sum, columns stacked", "peft", _ADDITIVE, "scale"),
    Method("svd", "merge", linear.svd, "best approximation of the sum at a rank", "peft", (), "rank"),
    Method("linear", "merge", through_peft("linear"), "factors summed, each with the root of its scale", "peft",
           ("factor_average", "few_numbers")),
    Method("factor_mean", "merge", linear.factor_mean, "factors averaged: Uniform as mttl mixes it", _ARROW,
           ("factor_average", "few_numbers")),
    Method("ties", "merge", trimmed.ties, "TIES on the updates", "2306.01708", (), "density"),
    Method("dare", "merge", trimmed.dare, "DARE on the updates, summed", "2311.03099", _ADDITIVE, "density"),
    Method("dare_ties", "merge", trimmed.dare_ties, "DARE on the updates, signs as in TIES", "2311.03099", (),
           "density"),
    Method("breadcrumbs", "merge", trimmed.breadcrumbs, "smallest and largest entries dropped, summed", "2312.06795",
           _ADDITIVE, "density"),
    Method("ties_factors", "merge", through_peft("ties"), "TIES on the factors, as peft has it", "peft"),
    Method("dare_factors", "merge", through_peft("dare_linear"), "DARE on the factors, as peft has it", "peft",
           ("few_numbers",)),
    Method("dare_ties_factors", "merge", through_peft("dare_ties"), "DARE and TIES on the factors, as in peft", "peft"),
    Method("knots", "merge", spectral.knots, "TIES in the joint basis, module by module", "2410.19735", (), "density"),
    Method("knots_sv", "merge", spectral.knots_sv, "KnOTS as released: singular values on V, all modules at once",
           "2410.19735", (), "density"),
    Method("tsv", "merge", spectral.tsv, "TSV-Merge", "2412.00081", (), "scale"),
    Method("iso_c", "merge", spectral.iso_c, "Iso-C", "2502.04959", (), "scale"),
    Method("core_sum", "merge", spectral.core_sum, "task arithmetic in Core Space", "2509.17786", _ADDITIVE, "scale"),
    Method("core_ties", "merge", spectral.core_ties, "TIES in Core Space", "2509.17786", (), "density"),
    Method("core_tsv", "merge", spectral.core_tsv, "TSV-Merge in Core Space", "2509.17786", (), "scale"),
    Method("regmean", "merge", with_data.regmean, "RegMean: nearest to each adapter on its own inputs", "2212.09849"),
    Method("lora_soups", "merge", with_data.lora_soups, "LoRA Soups: weights learnt module by module", "2410.13025"),
    Method("lora_hub", "merge", with_data.lora_hub, "LoraHub: a weight per adapter, found without gradients",
           "2307.13269"),
    Method("random", "merge", linear.random, "control: random updates of the same ranks and norms", "", _ADDITIVE),
    Method("arrow_top1", "router", partial(routers.arrow, top=1), "Arrow, one adapter per token", _ARROW),
    Method("arrow_top2", "router", partial(routers.arrow, top=2), "Arrow, two adapters per token", _ARROW),
    Method("arrow", "router", partial(routers.arrow, top=None), "Arrow over all adapters, updates mixed", _ARROW),
    Method("arrow_factors", "router", partial(routers.arrow, top=None, factors=True),
           "Arrow over all adapters, factors mixed as in mttl", _ARROW),
    *(Method(name, "router", run, f"Arrow less general knowledge, {'updates' if 'updates' in name else 'factors'}",
             "2505.10939") for name, run in routers.ARROW_SUBTRACT.items()),
)  # fmt: skip

METHODS = {row.name: row for row in ROWS}
MERGES = {name: row for name, row in METHODS.items() if row.kind == "merge"}
ROUTERS = {name: row for name, row in METHODS.items() if row.kind == "router"}


def find(name: str, options: Options) -> tuple[Method, Options]:
    """The row of a name, and the options with the number behind ``@`` in them.

    Raises:
        ValueError: an unknown name, or a number that the row does not take.
    """
    known, at, number = name.partition("@")
    row = METHODS[one_of(known, "method", tuple(METHODS))]
    if at:
        require(bool(row.number), "method", f"{known} without a number", repr(name))
        try:
            value: Any = int(number) if row.number == "rank" else float(number)
        except ValueError:
            raise ValueError(f"method: expected a number behind {known}@, got {name!r}") from None
        options = replace(options, **{row.number: value})
    return row, options


def check_method(name: str) -> str:
    """`name` if it is a known method or ``file.py:function`` of a readable file.

    Raises:
        ValueError: neither.
    """
    asks(name)
    return name


def asks(name: str) -> frozenset[str]:
    """What a method, known or one's own, asks for that an experiment may not have: general, probes, data.

    Raises:
        ValueError: see :func:`check_method`.
    """
    return SPECIAL & (own_needs(name) if is_own(name) else find(name, Options())[0].needs)


def _answer(name: str, updates: Sequence[Updates], base: nn.Module, options: Options | None) -> Updates | Routing:
    """What a method makes of the adapters, checked against `base`."""
    require(len(updates) > 0, "adapters", "at least one adapter", "none")
    for i, adapter in enumerate(updates):
        check_updates(base, adapter, f"adapters[{i}]")
    options = options or Options()
    if is_own(name):
        return own_answer(name, updates, base, options)
    row, options = find(name, options)
    answer: Updates | Routing = row.run(**arguments(row.run, updates, base, options))
    return answer if isinstance(answer, Routing) else check_updates(base, answer, name)


def merged(name: str, updates: Sequence[Updates], base: nn.Module, options: Options | None = None) -> Updates:
    """The updates that a merge gives, checked against `base`.

    Raises:
        ValueError: unknown name, adapters that do not fit the base, a merge that returns the wrong thing, or a router.
    """
    answer = _answer(name, updates, base, options)
    if isinstance(answer, Routing):
        raise ValueError(f"method: expected a merge, got the router {name}")
    return answer


@contextmanager
def reused(
    name: str, updates: Sequence[Updates], base: nn.Module, options: Options | None = None
) -> Iterator[nn.Module]:
    """`base` with the adapters reused by method `name`; as it was, bit for bit, on leaving.

    Raises:
        ValueError: see :func:`merged`.
    """
    answer = _answer(name, updates, base, options)
    with routed(base, answer) if isinstance(answer, Routing) else updated(base, answer) as model:
        yield model
