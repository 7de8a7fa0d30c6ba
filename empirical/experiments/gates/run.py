"""Gates that depend on the input: K experts on the last matrix, weighed anew at every prompt.

``W x + sum_k g_k(x) B_k A_k x`` with ``g = softmax(G x)``, as in instance-wise adapters of recommenders (iLoRA, NeurIPS
2024: K = 4 parts of one LoRA, gates from the user's history). The world is that of `one_matrix`: persons' bridges, a
table of values, and questions of two hops.

*gates*: experts of first hops and experts of second hops, trained apart. Gates are drawn at random; or learn to tell
first-hop from second-hop prompts, of people that the base knows; or learn the answers of both hops; or experts and
gates learn both together.
*groups*: an expert for each group of bridges, which knows the group's values; the gates have learnt people's groups, at
two-hop prompts or at first-hop prompts. With a group for each bridge they know the bridge.

At a prompt whose bridge p lies in group k the logits are ``a(p) + g_k(p) b_k(q)``, where a knows nothing of the group's
values, and ``g_k > 0`` changes no order: within the group they are additive in p and q. So the additive ceiling holds
for as many bridges as a group has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import repeat
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from empirical.engine.experiment import Experiment, Kind
from empirical.experiments.gates.predictions import declare
from empirical.experiments.gates.tables import Answered, Grouped, Measured, Merge, Settings, WorldCell
from empirical.experiments.known import top1
from empirical.experiments.one_matrix import World, constructed
from empirical.training.adapter import Schedule, descend
from empirical.training.bases import generator
from empirical.training.store import moved
from theory.lowrank import LowRank
from theory.numerics import require
from theory.routing import gated_merge_error

#: features (N, in) -> gates (N, K)
Gates = Callable[[torch.Tensor], torch.Tensor]
#: of the entries of G that are drawn, in logits: so that no gate is nearly one at all prompts
SPREAD = 2.0


def cells(settings: Settings) -> list[WorldCell]:
    """One cell a world. Raises ValueError for an odd number of experts, or groups that cannot be of one size."""
    require(settings.experts % 2 == 0, "experts", "an even number", settings.experts)
    for number in settings.groups:
        require(settings.bridges % number == 0, "groups", f"divisors of {settings.bridges} bridges", number)
    return [WorldCell.of(settings, seed=seed) for seed in settings.seeds]


class Experts(NamedTuple):
    """B (K, out, r) and A (K, r, in)."""

    B: torch.Tensor
    A: torch.Tensor

    def add(self, features: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        """What they add to the logits (N, out) of features (N, in) under gates (N, K)."""
        read = torch.einsum("ni,kri->nkr", features, self.A) * gates[..., None]
        return torch.einsum("nkr,kor->no", read, self.B)

    def updates(self) -> list[LowRank]:
        """As updates of the matrix."""
        return [LowRank(b.numpy(), a.numpy()) for b, a in zip(self.B, self.A, strict=True)]


class Lesson(NamedTuple):
    """Features (N, in) and the token, kind or group that is to be said at each (N,)."""

    features: torch.Tensor
    answers: torch.Tensor

    def of(self, expert: int, experts: int) -> Lesson:
        """Every so manieth line, an expert's own."""
        return Lesson(self.features[expert::experts], self.answers[expert::experts])


def together(*lessons: Lesson) -> Lesson:
    """One lesson of several."""
    return Lesson(*(torch.cat(side) for side in zip(*lessons, strict=True)))


def run_world(cell: WorldCell, device: str) -> Measured:
    """All gates and groups of a world. Raises TrainingDiverged where a loss was not finite."""
    run = WorldRun(cell, device)
    apart = run.apart()
    gates = {"random": run.drawn("gates"), "kind": run.by_kind(), "answers": run.by_answers(apart)}
    scores = {name: run.asked(apart, found) for name, found in gates.items()}
    joint, gates["together"] = run.joint()
    scores["together"] = run.asked(joint, gates["together"])
    merges = {n: run.merged(joint if n == "together" else apart, found) for n, found in gates.items()}
    merges["even"] = run.merged(apart, run.even(cell.experts))
    nothing = run.asked(apart, lambda x: torch.zeros(len(x), cell.experts).to(x))
    return Measured(base=nothing, gates=scores, merges=merges, groups={str(k): run.grouped(k) for k in cell.groups})


class WorldRun:
    """A world, its base, and what experts and gates are taught."""

    def __init__(self, cell: WorldCell, device: str) -> None:
        self.cell, self.device, self.world = cell, device, World(cell, cell.seed)
        self.base = constructed(cell, self.world, device)
        w = self.world
        self.first = Lesson(self.base.first, self._tensor(w.bridge[w.p]))
        self.second = Lesson(self.base.second, self._tensor(w.value[w.q]))

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(values, device=self.device)

    # ------------------------------------------------------------ training

    def descend(
        self, name: str, parameters: Sequence[nn.Parameter], loss: Callable[[], torch.Tensor], *given: object
    ) -> None:
        """Train parameters in place on all that they are taught; `given`: what the loss is of, beside them."""
        plan = Schedule(self.cell.steps, 1, self.cell.rate)
        told = {"name": name, "seed": self.cell.seed, **asdict(plan)}
        made_of = {**told, "W": self.base.W, "given": given, "code": WorldRun}
        moved("gates", made_of, parameters, lambda: descend(parameters, lambda _: loss(), repeat([]), plan, told))

    def fresh(self, name: str, experts: int, rank: int) -> Experts:
        """Untrained experts: B zero, A as peft draws it."""
        out, inputs = self.base.W.shape
        draw = torch.rand((experts, rank, inputs), generator=generator(self.cell.seed, "init", name)).double()
        A = nn.Parameter(((draw * 2 - 1) / inputs**0.5).to(self.device))
        return Experts(nn.Parameter(torch.zeros((experts, out, rank)).to(A)), A)

    def taught(self, name: str, lesson: Lesson, experts: int) -> Experts:
        """Experts that are trained apart, each on its own lines of a lesson."""
        each = [lesson.of(k, experts) for k in range(experts)]
        x, y = (torch.stack(side) for side in zip(*each, strict=True))
        found = self.fresh(name, experts, min(self.cell.rank, x.shape[1]))
        with torch.no_grad():
            before = self.base.readout(x)

        def loss() -> torch.Tensor:
            logits = before + x @ found.A.mT @ found.B.mT
            return nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())

        self.descend(name, found, loss, x, y)  # type: ignore[arg-type]
        return Experts(*(side.detach() for side in found))

    def apart(self) -> Experts:
        """Half of the experts know first hops, half second hops, and none both."""
        half = self.cell.experts // 2
        first, second = self.taught("first", self.first, half), self.taught("second", self.second, half)
        rank = max(first.A.shape[1], second.A.shape[1])
        B = [nn.functional.pad(e.B, (0, rank - e.A.shape[1])) for e in (first, second)]
        A = [nn.functional.pad(e.A, (0, 0, 0, rank - e.A.shape[1])) for e in (first, second)]
        return Experts(torch.cat(B), torch.cat(A))

    # ------------------------------------------------------------ gates

    def weights(self, name: str, experts: int) -> torch.Tensor:
        """A drawn G (K, in): logits of gates at two-hop prompts have about the standard deviation SPREAD."""
        inputs = self.base.W.shape[1]
        draw = torch.randn((experts, inputs), generator=generator(self.cell.seed, "init", name)).double()
        found: torch.Tensor = SPREAD * draw.to(self.device) / self.base.both.norm(dim=1).mean()
        return found

    def drawn(self, name: str) -> Gates:
        """Gates that nothing was taught."""
        return softmax(self.weights(name, self.cell.experts))

    def even(self, experts: int) -> Gates:
        """Gates that are 1 / K at every prompt."""
        return lambda x: torch.full((len(x), experts), 1 / experts).to(x)

    def by_kind(self) -> Gates:
        """Gates that tell first-hop prompts (of people known to the base) from second-hop ones, for experts of each."""
        half, G = self.cell.experts // 2, nn.Parameter(self.weights("by kind", self.cell.experts))
        x = torch.cat([self.base.old, self.base.second])
        kind = self._tensor(np.repeat([0, 1], [len(self.base.old), len(self.base.second)]))

        def loss() -> torch.Tensor:
            logits = x @ G.T
            return nn.functional.cross_entropy(
                torch.stack([logits[:, :half].logsumexp(1), logits[:, half:].logsumexp(1)], dim=1), kind
            )

        self.descend("by kind", [G], loss, x, kind)
        return softmax(G.detach())

    def by_answers(self, experts: Experts) -> Gates:
        """Gates that are taught the answers of both hops, with experts that stay."""
        G, lesson = nn.Parameter(self.weights("by answers", len(experts.A))), together(self.first, self.second)
        self.descend("by answers", [G], lambda: self.loss(lesson, experts, softmax(G)), lesson, experts)
        return softmax(G.detach())

    def joint(self) -> tuple[Experts, Gates]:
        """Experts and gates that are taught both hops together."""
        experts = self.fresh("joint", self.cell.experts, self.cell.rank)
        G, lesson = nn.Parameter(self.weights("joint", self.cell.experts)), together(self.first, self.second)
        taught = [*experts, G]
        self.descend("joint", taught, lambda: self.loss(lesson, experts, softmax(G)), lesson)  # type: ignore[arg-type]
        return Experts(*(side.detach() for side in experts)), softmax(G.detach())

    def by_group(self, prompts: torch.Tensor, groups: int) -> Gates:
        """Gates that are taught the group of everybody's bridge, at these prompts, and of bridges at their own."""
        w = self.world
        G = nn.Parameter(self.weights(f"{groups} groups", groups))
        bridges = Lesson(self.base.second, self._tensor(np.arange(w.n) % groups))
        lesson = together(Lesson(prompts, self._tensor(w.p % groups)), bridges)

        def loss() -> torch.Tensor:
            return nn.functional.cross_entropy(lesson.features @ G.T, lesson.answers)

        self.descend(f"{groups} groups", [G], loss, lesson)
        return softmax(G.detach())

    def loss(self, lesson: Lesson, experts: Experts, gates: Gates) -> torch.Tensor:
        """Mean cross-entropy of a lesson under gates."""
        logits = self.base.readout(lesson.features) + experts.add(lesson.features, gates(lesson.features))
        return nn.functional.cross_entropy(logits, lesson.answers)

    # ------------------------------------------------------------ questions

    @torch.no_grad()
    def asked(self, experts: Experts, gates: Gates) -> Answered:
        """What is answered under gates."""
        w, base = self.world, self.base

        def logits(features: torch.Tensor) -> np.ndarray:
            found: np.ndarray = (base.readout(features) + experts.add(features, gates(features))).cpu().numpy()
            return found

        return Answered(
            first=top1(logits(base.first), w.bridge[w.p]), second=top1(logits(base.second), w.value[w.q]),
            two_hop=top1(logits(base.both)[:, w.value], w.q[w.p]),
        )  # fmt: skip

    def merged(self, experts: Experts, gates: Gates) -> Merge:
        """What one weight in place of the gates at two-hop prompts is off by."""
        table = gates(self.base.both).cpu().numpy()
        found = Experts(*(side.cpu() for side in experts)).updates()
        return Merge(ignored=gated_merge_error(found, table),
                     mean=gated_merge_error(found, table, table.mean(axis=0)))  # fmt: skip

    def grouped(self, groups: int) -> Grouped:
        """An expert for each group of bridges."""
        experts = self.taught(f"{groups} experts", self.second, groups)
        gates, carried = (self.by_group(prompts, groups) for prompts in (self.base.both, self.base.first))
        told = gates(self.base.both).cpu().numpy()
        return Grouped(
            found=top1(told, self.world.p % groups), gated=self.asked(experts, gates),
            carried=self.asked(experts, carried), mean=self.asked(experts, self.even(groups)),
            summed=self.asked(experts, lambda x: torch.ones((len(x), groups)).to(x)),
        )  # fmt: skip


def softmax(G: torch.Tensor) -> Gates:
    """Gates softmax(G x)."""
    return lambda x: (x @ G.T).softmax(dim=1)


def seconds(cell: WorldCell) -> float:
    """A guess of the seconds that a world takes on one core."""
    return 2.0 + cell.steps * (6e-3 + 5e-3 * len(cell.groups) + 1e-5 * sum(cell.groups))


WORLD = Kind(run_world, seconds, stores=True)

experiment = Experiment(
    purpose="Gates by the input: experts weighed anew at every prompt, under the additive ceiling and over it",
    order=21,
    protocol=1,
    settings=Settings,
    cells=cells,
    kinds=(WORLD,),
    declare=declare,
)
