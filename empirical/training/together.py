"""Many adapters at once over one frozen base, and several bases at once.

The members of a sweep share every product with a frozen weight: their batches are stacked along the batch axis, the
base runs once, and what differs (the parameters of the adapters) has the adapter in front. All
parameters of one member are one row of a block, so that clipping, the learning rate and AdamW act row by row; a smaller
rank, or a module without this adapter, is a row with zeros, which have zero gradients and stay zero.

A LoRA comes out as :func:`empirical.training.adapter.train_adapter` gives it alone, up to rounding; ``SEQUENTIAL=1`` in
the environment keeps to that path. Any other :class:`~empirical.training.forms.Form` is trained here alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from empirical.tasks.sentences import LONG, Batch, Part, batches
from empirical.training.adapter import (
    AdapterShape,
    Job,
    Schedule,
    Trained,
    TrainingDiverged,
    initial,
    peft_config,
    train_adapter,
)
from empirical.training.forms import Form, Outputs, Values, low_rank
from empirical.training.store import stored
from theory.adapters import adapter_scale
from theory.numerics import integer, require, stream

#: sentences that run through the base at once, by device: on a processor more only leaves its caches
ROWS = {"cpu": 1024, "cuda": 16384}


def trainer() -> str:
    """``"together"``, or ``"peft"`` where ``SEQUENTIAL=1`` is set: how adapters that peft knows are trained."""
    return "peft" if os.environ.get("SEQUENTIAL") == "1" else "together"


def train_adapters(
    base: Any, jobs: Sequence[Job], *, rows: int | None = None, capture: bool = False
) -> dict[str, Trained]:
    """Train adapters on a frozen `base`, which is left as it was; the results by name, in the order of `jobs`.

    Ranks, placements, batch sizes, steps, rates and data may differ from job to job; each has the initial values and
    the batches that :func:`empirical.training.adapter.train_adapter` would give it.

    Args:
        base: a causal language model of transformers whose target modules are ``nn.Linear``.
        jobs: with different names.
        rows: most sentences at once, which bounds the memory; by default :data:`ROWS`. Jobs beyond it wait.
        capture: replay each step's passes as a CUDA graph.

    Raises:
        TrainingDiverged: after all others have finished; `config` lists all that diverged, `finished` has the others.
        ValueError: two jobs of one name, a target module that is no ``nn.Linear``, a layer that the base does not have,
            or a base whose logits are not its head on causal states.
    """
    names = [job.name for job in jobs]
    require(len(set(names)) == len(names), "jobs", "different names", ", ".join(names))
    found: dict[str, Trained] = {}
    apart = [job for job in jobs if trainer() == "peft" and isinstance(job.shape, AdapterShape)]
    for job in apart:
        found |= _kept(base, [job], partial(_train_alone, base, job))
    if rest := [job for job in jobs if job not in apart]:
        check_base(base)
        limit = ROWS.get(next(base.parameters()).device.type, ROWS["cpu"]) if rows is None else integer(rows, "rows", 1)
        for chunk in chunks(rest, [form_of(base, job) for job in rest], limit):
            train = partial(_train_together, base, chunk, capture)
            found |= _kept(base, [m.job for m in chunk], train, capture)
    finished = {name: found[name] for name in names if name in found}
    if len(finished) < len(jobs):
        raise TrainingDiverged([job.describe() for job in jobs if job.name not in found], finished)
    return finished


def _kept(
    base: Any, jobs: Sequence[Job], train: Callable[[], Mapping[str, Trained]], capture: bool = False
) -> Mapping[str, Trained]:
    """The adapters of `jobs` by name, of which those that diverged are missing.

    They are kept together: rounding depends on the company in which an adapter is trained.
    """
    # those that run together have one function, which draws from one place
    draw = next((job.shape.draw for job in jobs if isinstance(job.shape, Form)), None)

    def make() -> dict[str, torch.Tensor]:
        found = train()
        if len(found) < len(jobs):
            raise TrainingDiverged([job.describe() for job in jobs if job.name not in found], found)
        made = {f"{name}/{key}": t for name, trained in found.items() for key, t in trained.tensors().items()}
        return made if draw is None else {**made, "/draw": draw.get_state()}

    try:
        made_of = {"base": base, "jobs": jobs, "trainer": trainer(), "capture": capture}
        tensors = dict(stored("adapters", made_of, make))
    except TrainingDiverged as error:
        return error.finished
    if draw is not None:
        draw.set_state(tensors.pop("/draw"))
    mine: dict[str, dict[str, torch.Tensor]] = {job.name: {} for job in jobs}
    for key, tensor in tensors.items():
        name, _, part = key.rpartition("/")
        mine[name][part] = tensor
    return {name: Trained.of(parts) for name, parts in mine.items()}


# ---------------------------------------------------------------- what runs together


def check_base(base: Any) -> None:
    """Refuse a base in which stacking with padding on the right would not be invisible.

    Raises:
        ValueError: logits that depend on later tokens, or are not the output matrix times the last hidden state.
    """
    device = next(base.parameters()).device
    tokens = torch.tensor([[1, 1], [1, 2]], device=device)  # 0 pads where the layers below are computed once
    with torch.no_grad():
        states = base.base_model(input_ids=tokens, use_cache=False).last_hidden_state
        logits, whole = base.get_output_embeddings()(states), base(input_ids=tokens, use_cache=False).logits
    room = math.sqrt(torch.finfo(whole.dtype).eps) * float(whole.abs().max())  # far above rounding, far below an effect
    causal, plain = (float(d.abs().max()) <= room for d in (whole[0, 0] - whole[1, 0], whole - logits))
    require(causal, "base", "a causal model", "logits that depend on later tokens")
    require(plain, "base", "logits that are the output matrix times the last hidden state", "others")


def places(base: Any, shape: AdapterShape) -> dict[str, nn.Linear]:
    """The modules that peft would adapt, in the base's order.

    Raises:
        ValueError: there are none, or one is not a plain ``nn.Linear``.
    """
    from peft.tuners.tuners_utils import check_target_module_exists

    config = peft_config(base, shape)
    found = {name: m for name, m in base.named_modules() if check_target_module_exists(config, name)}
    require(len(found) > 0, "targets", "names of modules of the base", ", ".join(shape.targets))
    for name, module in found.items():
        require(type(module) is nn.Linear, f"targets: {name}", "an nn.Linear", type(module).__name__)
    return found


def form_of(base: Any, job: Job) -> Form:
    """The form of a job: its own, or that of its shape with the initial values that peft draws."""
    shape = job.shape
    if isinstance(shape, Form):
        return shape
    draw = job.start()
    factors = {
        name: (torch.zeros(module.out_features, shape.rank), initial(shape.rank, module.in_features, draw))
        for name, module in places(base, shape).items()
    }
    return low_rank(factors, adapter_scale(shape.alpha, shape.rank, shape.rslora))


class Member(NamedTuple):
    """A job and its form."""

    job: Job
    form: Form


def chunks(jobs: Sequence[Job], forms: Sequence[Form], rows: int) -> list[list[Member]]:
    """Lists of jobs that run together: at most `rows` sentences, padding included, and at least one job.

    Jobs of one placement and batch size stand together, longest first; a batch size joins another only where padding
    to the larger at most doubles the work, and a form only its like.
    """
    members = [Member(*pair) for pair in zip(jobs, forms, strict=True)]
    kinds = list(dict.fromkeys(form.outputs for form in forms))
    members.sort(key=lambda m: (kinds.index(m.form.outputs), m.form.modules, -m.job.schedule.batch))
    out: list[list[Member]] = []
    for member in members:
        sizes = [m.job.schedule.batch for m in (out[-1] if out else [])] + [member.job.schedule.batch]
        padded = len(sizes) * max(sizes)
        alike = bool(out) and out[-1][0].form.outputs is member.form.outputs
        if not alike or padded > rows or padded > 2 * sum(sizes):
            out.append([])
        out[-1].append(member)
    for chunk in out:  # those that are still to be trained are always the first ones
        chunk.sort(key=lambda m: -m.job.schedule.steps)
    return out


class Stacked(NamedTuple):
    """One batch of n members, padded to b sentences of L tokens and to a answers each.

    tokens: (n b, L). rows, columns: (n, a), where the answers stand. weights: (n, a), one over the member's answers in
    this step, 0 where there is padding.
    """

    tokens: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    weights: torch.Tensor


def stack(groups: Sequence[Sequence[Batch]], device: torch.device) -> list[Stacked]:
    """The batches of all members at one step: short sentences together and long ones together."""
    n = len(groups)
    total = [sum(len(batch.rows) for batch in group) for group in groups]
    out = []
    for wanted in (False, True):
        chosen = {k: b for k, group in enumerate(groups) for b in group if (b.tokens.shape[1] >= LONG) == wanted}
        if not chosen:
            continue
        size, width = (max(b.tokens.shape[axis] for b in chosen.values()) for axis in (0, 1))
        most = max(len(b.rows) for b in chosen.values())
        tokens = np.zeros((n, size, width), dtype=np.int64)
        rows = np.repeat(np.arange(n)[:, None] * size, most, axis=1)
        columns, weights = np.ones((n, most), dtype=np.int64), np.zeros((n, most))
        for k, batch in chosen.items():
            tokens[k, : batch.tokens.shape[0], : batch.tokens.shape[1]] = batch.tokens
            answers = len(batch.rows)
            rows[k, :answers] += batch.rows
            columns[k, :answers] = batch.columns
            weights[k, :answers] = 1.0 / total[k]
        parts = (tokens.reshape(n * size, width), rows, columns, weights)
        out.append(Stacked(*(torch.as_tensor(part, device=device) for part in parts)))
    return out


# ---------------------------------------------------------------- adapters


@contextmanager
def adapted(modules: Mapping[str, nn.Linear], outputs: Outputs, values: Values) -> Iterator[None]:
    """While open, `modules` put out what `outputs` makes of their inputs and the values (n, ...) of n adapters.

    Row i of a stacked batch of n b sentences belongs to adapter i // b.

    Raises:
        ValueError: in use: a module is given its inputs in another arrangement (a mixture of experts, say).
    """
    n = len(next(iter(values.values())))

    def forward(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
        module = modules[name]

        def act(x: torch.Tensor) -> torch.Tensor:
            whole = x.dim() == 3 and len(x) % n == 0
            require(whole, f"targets: {name}", f"inputs (sentences of {n} adapters, tokens, in)", tuple(x.shape))
            found = outputs(name, module, x.reshape(n, -1, x.shape[-1]), values)
            return found.view(*x.shape[:-1], -1)

        return act

    try:
        for name, module in modules.items():
            module.forward = forward(name)  # type: ignore[method-assign, assignment]
        yield
    finally:
        for module in modules.values():
            module.__dict__.pop("forward", None)  # the class has its own


def _losses(base: Any, stacked: Sequence[Stacked]) -> torch.Tensor:
    """Mean cross-entropy of the answers, by member (n,)."""
    head, total = base.get_output_embeddings(), []
    for tokens, rows, columns, weights in stacked:
        hidden = base.base_model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
        logits = head(hidden[rows, columns - 1])
        exact = logits.float() if logits.dtype.itemsize < 4 else logits
        each = nn.functional.cross_entropy(exact.mT, tokens[rows, columns], reduction="none")
        total.append((each * weights.to(each)).sum(dim=1))
    return torch.stack(total).sum(dim=0)


def _train_alone(base: Any, job: Job) -> dict[str, Trained]:
    return {job.name: train_adapter(base, job)}


def _train_together(base: Any, members: Sequence[Member], capture: bool) -> dict[str, Trained]:
    """The adapters of one chunk but those that diverged, longest first."""
    base.requires_grad_(False)
    weight, outputs = next(base.parameters()), members[0].form.outputs
    modules = {n: m for n, m in base.named_modules() if any(n in member.form.modules for member in members)}
    block = Block(_joint([m.form.trained for m in members]), [m.job.schedule for m in members], weight)
    trained = block.leaves(len(members))
    fixed = {n: weight.new_zeros((len(members), *s)) for n, s in _joint([m.form.fixed for m in members]).items()}
    with torch.no_grad():
        for k, member in enumerate(members):
            for values, own in ((trained, member.form.trained), (fixed, member.form.fixed)):
                for name, value in own.items():
                    _own(values[name], k, value).copy_(value)

    def losses_of(leaves: Values, stacked: Sequence[Stacked]) -> torch.Tensor:
        count = len(next(iter(leaves.values())))
        with adapted(modules, outputs, {**leaves, **{n: v[:count] for n, v in fixed.items()}}):
            return _losses(base, stacked)

    losses = block.descend(losses_of, [m.job.data() for m in members], capture)
    out: dict[str, Trained] = {}
    for k, ((job, form), own_losses) in enumerate(zip(members, losses, strict=True)):
        values = {n: _own(trained[n], k, v).detach().cpu().clone() for n, v in form.trained.items()}
        if np.isfinite(own_losses).all() and all(bool(v.isfinite().all()) for v in values.values()):
            updates = form.updates({**form.fixed, **values})
            out[job.name] = Trained(updates, own_losses, values if job.shape is form else {})
    return out


def _joint(values: Sequence[Values]) -> dict[str, tuple[int, ...]]:
    """Name -> the smallest shape that has room for each adapter's value."""
    names = dict.fromkeys(name for own in values for name in own)
    found = {name: [tuple(own[name].shape) for own in values if name in own] for name in names}
    return {name: tuple(map(max, zip(*shapes, strict=True))) for name, shapes in found.items()}


def _own(joint: torch.Tensor, k: int, value: torch.Tensor) -> torch.Tensor:
    """The part of a joint value (n, ...) that is adapter k's."""
    return joint[k][tuple(slice(size) for size in value.shape)]


# ---------------------------------------------------------------- descent


class Block:
    """Parameters of many members, one row each, and their descent.

    Args:
        shapes: name -> shape of a parameter of one member.
        schedules: one per member, no fewer steps than the next one's.
        like: a tensor of the base: device, and format unless that is a half-precision one (then float32).
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], schedules: Sequence[Schedule], like: torch.Tensor
    ) -> None:
        self.shapes, self.schedules = shapes, schedules
        dtype = like.dtype if like.dtype.itemsize >= 4 else torch.float32
        size = sum(math.prod(shape) for shape in shapes.values())
        self.values = torch.zeros((len(schedules), size), dtype=dtype, device=like.device)
        self.gradients = torch.zeros_like(self.values)

    def split(self, block: torch.Tensor) -> dict[str, torch.Tensor]:
        """The parameters (n, *shape) as views of a block (n, size)."""
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        parts = block.split(sizes, dim=1)
        return {
            name: part.view(len(block), *shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def leaves(self, n: int) -> dict[str, torch.Tensor]:
        """The parameters of the first n members, to be differentiated; they share the block's memory."""
        return {name: view.requires_grad_() for name, view in self.split(self.values[:n].detach()).items()}

    def descend(
        self,
        losses_of: Callable[[Mapping[str, torch.Tensor], Sequence[Stacked]], torch.Tensor],
        data: Sequence[Iterator[list[Batch]]],
        capture: bool = False,
    ) -> list[list[float]]:
        """Run every member's schedule; its losses, one per step. A member that has finished moves no more."""
        rows = [nn.Parameter(row) for row in self.values]  # views: AdamW writes into the block
        optimizer = torch.optim.AdamW(
            [{"params": [row], **s.adamw()} for row, s in zip(rows, self.schedules, strict=True)],
            fused=True,
        )
        clips = torch.tensor([s.clip for s in self.schedules], dtype=self.values.dtype, device=self.values.device)
        seen: list[torch.Tensor] = []
        n = 0
        for step in range(self.schedules[0].steps):
            still = sum(s.steps > step for s in self.schedules)
            if still != n:
                n, run = still, self._passes(losses_of, still, capture)
                for k, row in enumerate(rows):
                    row.grad = self.gradients[k] if k < n else None
            seen.append(run(stack([next(batch) for batch in data[:n]], self.values.device)))
            norms = torch.linalg.vector_norm(self.gradients[:n], dim=1)
            self.gradients[:n] *= (clips[:n] / (norms + 1e-6)).clamp(max=1.0)[:, None]  # as clip_grad_norm_ does
            for group, schedule in zip(optimizer.param_groups[:n], self.schedules, strict=False):
                group["lr"] = schedule.rate * schedule.factor(step)
            optimizer.step()
        columns = [losses.tolist() for losses in seen]
        return [[columns[t][k] for t in range(s.steps)] for k, s in enumerate(self.schedules)]

    def _passes(self, losses_of: Callable[..., torch.Tensor], n: int, capture: bool) -> Callable[..., torch.Tensor]:
        """One step's forward and backward pass: gives the losses (n,), leaves the gradients in the block."""
        leaves = self.leaves(n)
        views = list(self.split(self.gradients[:n]).values())

        def run(stacked: Sequence[Stacked]) -> torch.Tensor:
            losses = losses_of(leaves, stacked)
            found = torch.autograd.grad(losses.sum(), list(leaves.values()), materialize_grads=True)
            for view, gradient in zip(views, found, strict=True):
                view.copy_(gradient)
            return losses.detach()

        return _Captured(run) if capture else run


class _Captured:
    """A step's passes as CUDA graphs, one per shape of its batches."""

    def __init__(self, run: Callable[[Sequence[Stacked]], torch.Tensor]) -> None:
        require(torch.cuda.is_available(), "capture", "a CUDA device", "none")
        self.run = run
        self.graphs: dict[Any, tuple[list[Stacked], Any, torch.Tensor]] = {}

    def __call__(self, stacked: Sequence[Stacked]) -> torch.Tensor:
        key = tuple(t.shape for s in stacked for t in s)
        if key not in self.graphs:
            fixed = [Stacked(*(t.clone() for t in s)) for s in stacked]
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):  # libraries set themselves up outside the capture
                for _ in range(3):
                    self.run(fixed)
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                losses = self.run(fixed)
            self.graphs[key] = fixed, graph, losses
        fixed, graph, losses = self.graphs[key]
        for place, new in zip(fixed, stacked, strict=True):
            for into, value in zip(place, new, strict=True):
                into.copy_(value)
        graph.replay()
        return losses.clone()


# ---------------------------------------------------------------- bases


def pretrain_many(
    bases: Sequence[Any], parts: Sequence[Sequence[Part]], schedule: Schedule, seeds: Sequence[int]
) -> list[list[float]]:
    """Train every weight of several bases of one architecture in place, each on its own mixture; their losses.

    The same as :func:`empirical.training.adapter.pretrain` one by one, up to rounding.

    Args:
        bases: models with the same parameters.
        parts: one mixture per base. seeds: one per base.

    Raises:
        TrainingDiverged: some losses were not finite; `config` lists these bases by number. All bases are as trained.
        ValueError: not one mixture and seed per base, or bases of different shapes.
    """
    require(len(bases) > 0, "bases", "at least one", "none")
    for name, given in (("parts", parts), ("seeds", seeds)):
        require(len(given) == len(bases), name, f"{len(bases)}, one per base", len(given))
    own = [dict(base.named_parameters()) for base in bases]
    shapes = [{name: tuple(p.shape) for name, p in each.items()} for each in own]
    require(all(s == shapes[0] for s in shapes), "bases", "the same parameters", "different ones")
    block = Block(shapes[0], [schedule] * len(bases), next(bases[0].parameters()))
    with torch.no_grad():
        for k, each in enumerate(own):
            for name, view in block.split(block.values).items():
                view[k] = each[name]
    first = bases[0].train()
    trained = _Losses(first)

    def losses_of(leaves: Mapping[str, torch.Tensor], stacked: Sequence[Stacked]) -> torch.Tensor:
        def one(weights: dict[str, torch.Tensor], group: list[Stacked]) -> torch.Tensor:
            named = {f"base.{k}": v for k, v in weights.items()}
            losses: torch.Tensor = torch.func.functional_call(trained, named, (group,))
            return losses

        n = len(bases)
        apart = [Stacked(s.tokens.view(n, -1, s.tokens.shape[1]), *s[1:]) for s in stacked]
        apart = [s._replace(rows=s.rows - torch.arange(n, device=s.rows.device)[:, None] * s.tokens.shape[1])
                 for s in apart]  # fmt: skip
        return torch.func.vmap(one)(dict(leaves), apart)

    data = [batches(p, schedule.batch, stream(s, "train", "base")) for p, s in zip(parts, seeds, strict=True)]
    with sdpa_kernel(SDPBackend.MATH):  # the fused attention kernels have no rule for vmap
        losses = block.descend(losses_of, data)
    with torch.no_grad():
        for k, each in enumerate(own):
            for name, view in block.split(block.values).items():
                each[name].copy_(view[k])
    for base in bases:
        base.eval().requires_grad_(False)
    bad = [k for k, found in enumerate(losses) if not np.isfinite(found).all()]
    if bad:
        raise TrainingDiverged([{"base": k, "seed": seeds[k], "schedule": asdict(schedule)} for k in bad])
    return losses


class _Losses(nn.Module):
    """The loss of one base as a module, for a functional call with replaced weights (ties are kept)."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.base = base

    def forward(self, group: Sequence[Stacked]) -> torch.Tensor:
        single = [s._replace(rows=s.rows[None], columns=s.columns[None], weights=s.weights[None]) for s in group]
        return _losses(self.base, single)[0]
