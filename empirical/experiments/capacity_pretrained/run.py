"""How many facts an adapter recalls in a pretrained model: by its rank, by the bits of its numbers, and by hand.

Made-up people live in real countries, uniform and independent. What is adapted is the last matrix of SmolLM2 that
writes into its states, in front of the last norm and the head. All else is frozen, so that it runs once. Of a fact is
left a key, which the matrix reads at the end of the prompt, a state, to which it adds, and a country, by the first
token of its name. With these alone adapters are trained on all facts at every step, and asked; they say what the whole
model would.

As in the experiment `capacity` the fall of the loss against the rank is fitted by a published power law (arXiv
2605.30260), and ranks that were not fitted are foretold before they are trained. Beside them stands an adapter of rank
two that is written down and not trained: it puts the countries on a circle, as `margin_rank` says that two ranks can.
What bits allow (`capacity_bits`) is thereby told apart from what a rank allows, and both from what training finds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from empirical.engine.experiment import Experiment, Kind
from empirical.engine.sealed import seal
from empirical.experiments.capacity_pretrained.predictions import declare
from empirical.experiments.capacity_pretrained.tables import Measured, Settings, WorldCell, Written
from empirical.experiments.filled import Rounded, cross_entropy, filled, fitted, rounded
from empirical.experiments.known import top1
from empirical.experiments.pretrained import base_model
from empirical.tasks.entities import FIRST, REAL
from empirical.tasks.styles import FIRST_NAMES, SURNAMES
from empirical.training.adapter import Schedule, descend, initial
from empirical.training.bases import Updates, generator
from empirical.training.store import moved
from theory.facts import circle_update, margin_rank_floor
from theory.lowrank import LowRank
from theory.numerics import Array, require, stream

#: of every trained adapter: alpha = 2 r
SCALE = 2.0
#: of the one by hand: so large that the base's own states are nothing beside what is written
LOUD = 1e6
#: the adapted matrix, in the updates of an adapter
MATRIX = "down_proj"
PEOPLE = tuple(f"{given} {family}" for given in FIRST_NAMES for family in SURNAMES)


def cells(settings: Settings) -> list[WorldCell]:
    """One cell a world. Raises ValueError for more facts than people, or a rounded rank that is not fitted."""
    require(settings.facts <= len(PEOPLE), "facts", f"at most {len(PEOPLE)}, as people", settings.facts)
    require(settings.rank in settings.fitted, "rank", f"one of {settings.fitted}", settings.rank)
    return [WorldCell.of(settings, seed=seed) for seed in settings.seeds]


def run_world(cell: WorldCell, device: str) -> Measured:
    """Fit on some ranks, seal, train the others. Raises TrainingDiverged where a loss was not finite."""
    memory = Memory(cell, device)
    adapters = {r: memory.trained(r) for r in cell.fitted}
    ranks = {r: memory.written(update) for r, update in adapters.items()}
    law = seal("law", fitted({r: found.drop for r, found in ranks.items()}, cell.foretold))
    ranks |= {r: memory.written(memory.trained(r)) for r in cell.foretold}
    return Measured(
        base=top1(memory.before, memory.answers), loss=float(cross_entropy(memory.before, memory.answers).mean()),
        values=len(memory.head), law=law, ranks={str(r): found for r, found in ranks.items()},
        rounded=memory.rounded(adapters[cell.rank]), circle=memory.rounded(memory.circle()),
    )  # fmt: skip


class Read(NamedTuple):
    """At the end of every prompt: what the last matrix reads (n, in), and the states in front of the norm (n, out)."""

    keys: torch.Tensor
    states: torch.Tensor


@torch.no_grad()
def read_prompts(model: Any, prompts: Sequence[Sequence[int]]) -> Read:
    """Run a model over prompts, those of one length together."""
    inner = model.base_model
    seen: dict[str, torch.Tensor] = {}
    device = next(model.parameters()).device

    def keep(name: str) -> Any:
        return lambda _, given: seen.__setitem__(name, given[0][:, -1])

    places = {"keys": inner.layers[-1].mlp.down_proj, "states": inner.norm}
    hooks = [module.register_forward_pre_hook(keep(name)) for name, module in places.items()]
    rows: list[int] = []
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in places}
    try:
        for width in sorted({len(p) for p in prompts}):
            alike = [i for i, p in enumerate(prompts) if len(p) == width]
            inner(input_ids=torch.tensor([prompts[i] for i in alike], device=device), use_cache=False)
            rows += alike
            for name, part in parts.items():
                part.append(seen[name])
    finally:
        for hook in hooks:
            hook.remove()
    back = torch.argsort(torch.tensor(rows, device=device))
    return Read(**{name: torch.cat(part)[back] for name, part in parts.items()})


class Memory:
    """The last matrix of a base, asked for the facts of a world.

    Attributes:
        answers: of every fact, by number (n,). before: logits of the base (n, values).
    """

    def __init__(self, cell: WorldCell, device: str) -> None:
        model, reader = base_model(cell.base, device)
        first = [reader.answer(country.name)[0] for country in REAL]
        alone = [token for token in first if Counter(first)[token] == 1]
        draw = stream(cell.seed, "facts")
        people = draw.permutation(PEOPLE)[: cell.facts]
        self.cell, self.answers = cell, draw.integers(len(alone), size=cell.facts)
        self.keys, self.states = read_prompts(model, [reader.prompt(FIRST.taught[0].format(x=x)) for x in people])
        self.norm, self.head = model.base_model.norm, model.get_output_embeddings().weight[alone].detach()
        with torch.no_grad():
            self.before = self.logits(torch.zeros_like(self.states)).double().cpu().numpy()

    def logits(self, change: torch.Tensor) -> torch.Tensor:
        """Of all values (n, values), with a change of the states (n, out)."""
        found: torch.Tensor = self.norm(self.states + change) @ self.head.T
        return found

    def trained(self, rank: int) -> LowRank:
        """An adapter of this rank, trained on all facts at every step. Raises TrainingDiverged."""
        cell, like = self.cell, self.states
        start = initial(rank, self.keys.shape[1], generator(cell.seed, "init", "adapter", rank))
        a, b = nn.Parameter(start.to(like)), nn.Parameter(like.new_zeros(like.shape[1], rank))
        answers = torch.as_tensor(self.answers, device=like.device)

        def loss_of(_: object) -> torch.Tensor:
            return nn.functional.cross_entropy(self.logits(SCALE * (self.keys @ a.T) @ b.T), answers)

        plan, told = Schedule(cell.steps, cell.facts, cell.rate), {"rank": rank, "seed": cell.seed}
        asked = [self.keys, self.states, self.norm, self.head, answers]
        made_of = {**told, "plan": plan, "asked": asked, "code": Memory}
        moved("capacity_pretrained", made_of, [a, b], lambda: descend([a, b], loss_of, repeat([]), plan, told))
        B, A = (f.detach().double().cpu().numpy() for f in (b, a))
        return LowRank(B, A, SCALE)

    def circle(self) -> LowRank:
        """The adapter of rank two by hand: every key is sent to its answer's place on a circle."""
        code = circle_update(len(self.head))
        to_places = np.linalg.pinv(self.keys.double().cpu().numpy()).T
        return LowRank(np.linalg.pinv(self.read_out()) @ code.B, code.A[:, self.answers] @ to_places, LOUD)

    def read_out(self) -> Array:
        """What the values read of the last states (values, out), but for the size that the norm gives them."""
        found: Array = (self.head * self.norm.weight.detach()).double().cpu().numpy()
        return found

    @torch.no_grad()
    def ask(self, update: LowRank) -> Array:
        """Logits (n, values) with an adapter, in the format of the base."""
        B, A = (torch.tensor(factor).to(self.states) for factor in (update.B, update.A))
        found: Array = self.logits(update.scale * (self.keys @ A.T) @ B.T).double().cpu().numpy()
        return found

    def written(self, update: LowRank) -> Written:
        """What is recalled with an adapter, and the floor for its rank."""
        found = filled({MATRIX: update}, self.before, self.ask(update), self.answers)
        return Written(**dict(found), floor=self.floor(update))

    def floor(self, update: LowRank) -> int:
        """`margin_rank` of an adapter: one fact of every value whose own logit rises, changes in front of the norm.

        A norm scales all logits of a fact alike, which no rank sees; what all values share no answer sees.
        """
        value, fact = np.unique(self.answers, return_index=True)
        read = self.read_out()
        keys = self.keys.double().cpu().numpy()[fact]
        changes = ((read - read.mean(axis=0)) @ update.B)[value] @ (update.A @ keys.T) * update.scale
        rises = np.flatnonzero(np.diag(changes) > 0)
        if len(rises) < 2:
            return 1
        each = changes[np.ix_(rises, rises)] / np.diag(changes)[rises]
        n = len(rises)
        leak = (np.square(each).sum() - n) / (n * (n - 1))
        return margin_rank_floor(n, float(max(leak, 0.0) ** 0.5), powers=1)

    def rounded(self, update: LowRank) -> dict[str, Rounded]:
        """An adapter with its numbers rounded to each number of bits."""

        def right(updates: Updates) -> Any:
            (coarse,) = updates.values()
            assert isinstance(coarse, LowRank)
            return top1(self.ask(coarse), self.answers)

        return rounded({MATRIX: update}, self.cell.bits, right, len(self.head))


def seconds(cell: WorldCell) -> float:
    """A guess of the seconds that a world takes on one core."""
    adapters = len(cell.fitted) + len(cell.foretold)
    return 25 + cell.facts * 0.015 + adapters * cell.steps * cell.facts * 2e-5


WORLD = Kind(run_world, seconds, stores=True)

experiment = Experiment(
    purpose="How many facts an adapter recalls in a pretrained model: by its rank, by its bits, and by hand",
    order=44,
    protocol=1,
    settings=Settings,
    cells=cells,
    kinds=(WORLD,),
    declare=declare,
)
