"""Training: a base from scratch, one LoRA adapter with peft, new rows of an embedding, all weights.

Every loss is the mean cross-entropy over answer tokens only. An adapter comes back as plain updates
(module name -> :class:`theory.lowrank.LowRank`), so that whatever reuses it needs neither peft nor the model;
:mod:`empirical.adapters.trained` writes them as peft does. Many adapters over one base:
:mod:`empirical.training.together`.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import wraps
from typing import Any, ParamSpec, TypedDict

import numpy as np
import torch
from torch import nn

from empirical.tasks.sentences import Batch, Part, batches
from empirical.training.bases import Update, factors, generator, lora_layers, update_of, with_peft
from empirical.training.forms import Form
from empirical.training.store import stored
from theory.lowrank import LowRank
from theory.numerics import integer, require, stream


class TrainingDiverged(RuntimeError):
    """A loss that is not finite.

    Attributes:
        config: the configuration that led there; of several adapters trained by one call, a list.
        finished: name -> :class:`Trained`, what the other adapters of that call came to.
    """

    def __init__(self, config: Any, finished: Mapping[str, Trained] | None = None) -> None:
        super().__init__(f"the loss is not finite: {config}")
        self.config = config
        self.finished = dict(finished or {})


class AdamW(TypedDict):
    """Keywords of ``torch.optim.AdamW``."""

    lr: float
    betas: tuple[float, float]
    weight_decay: float


@dataclass(frozen=True)
class Schedule:
    """AdamW with linear warm-up and cosine decay to `floor` of the peak rate; gradients clipped to norm `clip`."""

    steps: int
    batch: int
    rate: float
    warmup: int = 20
    floor: float = 0.05
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0

    def __post_init__(self) -> None:
        integer(self.steps, "steps", 1)
        integer(self.batch, "batch", 1)
        require(self.rate > 0, "rate", "a positive learning rate", self.rate)

    def adamw(self) -> AdamW:
        """What AdamW is told; the rate is set anew at every step."""
        return {"lr": self.rate, "betas": self.betas, "weight_decay": self.weight_decay}

    def factor(self, step: int) -> float:
        """Learning rate at `step` (from 0) relative to the peak."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class AdapterShape:
    """What peft's ``LoraConfig`` is told.

    `layers` is the adapter's placement, the decoder layers into which its facts are written; None for all.
    """

    rank: int
    alpha: int
    layers: tuple[int, ...] | None = None
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    rslora: bool = False

    def __post_init__(self) -> None:
        integer(self.rank, "rank", 1)
        require(self.layers is None or len(self.layers) > 0, "layers", "None or at least one layer", self.layers)

    def lora_config(self) -> Any:
        """This shape as peft's ``LoraConfig``."""
        from peft import LoraConfig

        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules=list(self.targets),
            layers_to_transform=None if self.layers is None else list(self.layers),
            lora_dropout=0.0,
            bias="none",
            use_rslora=self.rslora,
        )


@dataclass(frozen=True)
class Job:
    """One adapter to be trained: what it is shown, how it is shaped, how long.

    :func:`train_adapter` takes one that peft knows, :func:`empirical.training.together.train_adapters` a list of any.
    """

    name: str
    parts: Sequence[Part]
    shape: AdapterShape | Form
    schedule: Schedule
    seed: int

    def describe(self) -> dict[str, object]:
        """Everything but the sentences; of a form of its own, its modules."""
        shape = self.shape.modules if isinstance(self.shape, Form) else asdict(self.shape)
        return {"name": self.name, "shape": shape, "schedule": asdict(self.schedule), "seed": self.seed}

    def data(self) -> Iterator[list[Batch]]:
        """The batches of every step, endless, from a stream of the job's own."""
        return batches(self.parts, self.schedule.batch, stream(self.seed, "train", "adapter", self.name))

    def start(self) -> torch.Generator:
        """The generator of all initial A, module by module in the base's order; every B starts at zero."""
        return generator(self.seed, "init", "adapter", self.name)


def initial(rank: int, columns: int, draw: torch.Generator) -> torch.Tensor:
    """An initial A (rank x columns), uniform as peft and ``nn.Linear`` draw it (Kaiming, a = sqrt(5))."""
    return (torch.rand((rank, columns), generator=draw) * 2 - 1) * (1.0 / math.sqrt(columns))


@dataclass(frozen=True)
class Trained:
    """An adapter as plain updates, its loss at every step, and the parameters of a form of its own."""

    updates: Mapping[str, Update]
    losses: list[float] = field(repr=False)
    values: Mapping[str, torch.Tensor] = field(repr=False, default_factory=dict)

    def tensors(self) -> dict[str, torch.Tensor]:
        """All of it as tensors by name, in float32 where that loses nothing; :meth:`of` gives it back bit for bit."""
        found: dict[str, Any] = {"losses": self.losses}
        for name, update in self.updates.items():
            low = isinstance(update, LowRank)
            found |= {f"{name}.{f}": getattr(update, f) for f in _FACTORS} if low else {f"{name}.dense": update}
        plain = {key: _narrow(torch.tensor(value, dtype=torch.float64)) for key, value in found.items()}
        return {**plain, **{f"{name}.value": value for name, value in self.values.items()}}

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor]) -> Trained:
        """What was trained, from its :meth:`tensors`."""
        parts: dict[str, dict[str, Any]] = {}
        values: dict[str, torch.Tensor] = {}
        for key, tensor in tensors.items():
            name, _, part = key.rpartition(".")
            if part == "value":
                values[name] = tensor
            else:
                parts.setdefault(name, {})[part] = tensor.double().numpy()
        losses = parts.pop("")["losses"].tolist()
        return cls({n: p["dense"] if "dense" in p else LowRank(p["B"], p["A"], float(p["scale"]))
                    for n, p in parts.items()}, losses, values)  # fmt: skip


_FACTORS = ("B", "A", "scale")
P = ParamSpec("P")


def _narrow(tensor: torch.Tensor) -> torch.Tensor:
    """In float32, if that loses nothing."""
    return narrow if torch.equal((narrow := tensor.float()).double(), tensor) else tensor


def kept(train: Callable[P, Trained]) -> Callable[P, Trained]:
    """A trainer that takes its arguments for everything that decides what comes of them; see `stored`."""

    @wraps(train)
    def trained(*args: P.args, **kwargs: P.kwargs) -> Trained:
        given = inspect.signature(train).bind(*args, **kwargs)
        given.apply_defaults()
        return Trained.of(stored(train.__name__, given.arguments, lambda: train(*args, **kwargs).tensors()))

    return trained


def answer_states(model: Any, batch: Batch) -> torch.Tensor:
    """States (n answers, width) in front of every answer of `batch`, of which the head makes logits.

    The last column is never an input. There is no attention mask: the padding is on the right, and the causal mask
    hides it from every answer.
    """
    device = next(model.parameters()).device
    tokens = torch.as_tensor(batch.tokens, device=device)
    rows, columns = torch.as_tensor(batch.rows, device=device), torch.as_tensor(batch.columns, device=device)
    states: torch.Tensor = model.base_model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
    return states[rows, columns - 1]


def answer_logits(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (n answers, vocabulary) in front of every answer of `batch`, and the answers (n,)."""
    states = answer_states(model, batch)
    answers = torch.as_tensor(batch.tokens[batch.rows, batch.columns], device=states.device)
    return model.get_output_embeddings()(states), answers


def answer_loss(model: Any, group: Sequence[Batch]) -> torch.Tensor:
    """Mean cross-entropy over all answers of the batches of one step."""
    pairs = [answer_logits(model, batch) for batch in group]
    logits, answers = (torch.cat(side) for side in zip(*pairs, strict=True))
    return nn.functional.cross_entropy(logits, answers)


def adamw(parameters: Sequence[nn.Parameter], schedule: Schedule) -> torch.optim.Optimizer:
    """The optimiser of everything that is trained here, unless another is named."""
    return torch.optim.AdamW(parameters, **schedule.adamw(), fused=True)


#: parameters, schedule -> their optimiser
Optimizer = Callable[[Sequence[nn.Parameter], Schedule], torch.optim.Optimizer]


def descend(
    parameters: Sequence[nn.Parameter],
    loss_of: Callable[[list[Batch]], torch.Tensor],
    data: Iterator[list[Batch]],
    schedule: Schedule,
    config: Any,
    optimizer_of: Optimizer = adamw,
) -> list[float]:
    """Run the schedule on `parameters`; the losses, one per step.

    Raises:
        TrainingDiverged: a loss was not finite (looked at every 25 steps and at the end).
    """
    optimizer = optimizer_of(parameters, schedule)
    losses: list[torch.Tensor] = []
    for step in range(schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate * schedule.factor(step)
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(next(data))
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, schedule.clip)
        optimizer.step()
        losses.append(loss.detach())
        look = (step + 1) % 25 == 0 or step + 1 == schedule.steps
        if look and not bool(torch.isfinite(torch.stack(losses[-25:])).all()):
            raise TrainingDiverged(config)
    return [float(x) for x in torch.stack(losses)]


def pretrain(base: Any, parts: Sequence[Part], schedule: Schedule, seed: int) -> list[float]:
    """Train every weight of `base` in place on the mixture; the losses."""

    def make() -> dict[str, torch.Tensor]:
        base.train().requires_grad_(True)
        parameters = [p for p in base.parameters() if p.requires_grad]
        data = batches(parts, schedule.batch, stream(seed, "train", "base"))
        losses = descend(parameters, lambda g: answer_loss(base, g), data, schedule, asdict(schedule))
        return {"losses": torch.tensor(losses, dtype=torch.float64), **dict(base.named_parameters())}

    found = stored("base", {"base": base, "parts": parts, "schedule": schedule, "seed": seed}, make)
    base.eval().requires_grad_(False)
    for name, parameter in base.named_parameters():
        parameter.copy_(found[name])
    return [float(x) for x in found["losses"]]


def peft_config(base: Any, shape: AdapterShape) -> Any:
    """peft's ``LoraConfig`` for this shape on this base.

    Raises:
        ValueError: the shape names a layer that the base does not have.
    """
    depth = int(base.config.num_hidden_layers)
    for layer in shape.layers or ():
        require(0 <= layer < depth, "layers", f"layers from 0 to {depth - 1}", layer)
    return shape.lora_config()


def train_adapter(base: Any, job: Job) -> Trained:
    """Train one adapter with peft on a frozen `base`, which is left as it was.

    Raises:
        TrainingDiverged: the loss was not finite.
        ValueError: the shape names a layer that the base does not have, or is a form that peft does not know.
    """
    shape = job.shape
    if not isinstance(shape, AdapterShape):
        raise ValueError(f"{job.name}: expected an AdapterShape, got a form of its own (train_adapters takes it)")
    # peft draws its own initial A from the global generator; it is replaced below
    with torch.random.fork_rng(devices=[]), with_peft(base, peft_config(base, shape), job.name) as wrapped:
        draw = job.start()
        layers = lora_layers(wrapped)
        for layer in layers.values():
            a, _ = factors(layer, job.name)
            with torch.no_grad():
                a.copy_(initial(shape.rank, a.shape[1], draw))
        parameters = [p for p in wrapped.parameters() if p.requires_grad]
        inner = wrapped.get_base_model()
        losses = descend(parameters, lambda g: answer_loss(inner, g), job.data(), job.schedule, job.describe())
        updates = {name: update_of(layer, job.name) for name, layer in layers.items()}
    return Trained(updates, losses)


@kept
def train_rows(base: Any, tokens: np.ndarray, parts: Sequence[Part], schedule: Schedule, seed: int) -> Trained:
    """Train only the embedding rows of `tokens` (everything else frozen): the clean way to add new names.

    The update is returned as B (one-hot columns that pick the rows) times A (the changes of the rows), a
    :class:`LowRank` of the embedding, so that every exact method of reuse applies. A tied head changes with it.
    """
    name = "model.embed_tokens"
    weight = base.get_submodule(name).weight
    assert isinstance(weight, torch.Tensor)
    index = torch.as_tensor(np.asarray(tokens, dtype=np.int64), device=weight.device)
    change = nn.Parameter(torch.zeros(len(index), weight.shape[1], device=weight.device))

    def loss_of(group: list[Batch]) -> torch.Tensor:
        rows = weight.detach().index_add(0, index, change)
        pairs = [
            torch.func.functional_call(_Answers(base), {f"model.{name}.weight": rows}, (batch,)) for batch in group
        ]
        logits, answers = (torch.cat(side) for side in zip(*pairs, strict=True))
        return nn.functional.cross_entropy(logits, answers)

    data = batches(parts, schedule.batch, stream(seed, "train", "rows"))
    losses = descend([change], loss_of, data, schedule, asdict(schedule))
    pick = np.zeros((weight.shape[0], len(index)))
    pick[index.cpu().numpy(), np.arange(len(index))] = 1.0
    return Trained({name: LowRank(pick, change.detach().cpu().numpy())}, losses)


class _Answers(nn.Module):
    """:func:`answer_logits` as a module, for a functional call with replaced weights (ties are kept)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return answer_logits(self.model, batch)


@kept
def train_everything(
    base: Any,
    parts: Sequence[Part],
    schedule: Schedule,
    seed: int,
    modules: Sequence[str] | None = None,
    optimizer_of: Optimizer = adamw,
) -> Trained:
    """Full fine-tuning on a copy; the changes of all weight matrices and norms, or of these modules, as dense updates.

    Raises:
        TrainingDiverged: the loss was not finite.
    """
    tuned = copy.deepcopy(base).train().requires_grad_(modules is None)
    for name in modules or ():
        tuned.get_submodule(name).requires_grad_(True)
    parameters = [p for p in tuned.parameters() if p.requires_grad]
    data = batches(parts, schedule.batch, stream(seed, "train", "everything"))
    losses = descend(parameters, lambda g: answer_loss(tuned, g), data, schedule, asdict(schedule), optimizer_of)
    before = dict(base.named_parameters())  # a tied matrix is listed once, under its first name
    updates: dict[str, Update] = {}
    for key, after in tuned.named_parameters():
        if not after.requires_grad:
            continue
        change = after.detach().double() - before[key].detach().double()
        updates[key.removesuffix(".weight")] = change.cpu().numpy()
    return Trained(updates, losses)
