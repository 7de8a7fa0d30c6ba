"""A pretrained model: its tokenizer, answers by name, free and forced, what it knows; adapters by their layers."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple, Self

import numpy as np
import torch

from empirical.engine.settings import Count
from empirical.tasks.entities import DIRECT, REAL, SECOND, Country, Person, Question, direct, second_hop
from empirical.tasks.sentences import Part, Ragged, ragged
from empirical.training.adapter import AdapterShape, Job, Schedule, Trained, pretrain
from empirical.training.bases import BaseShape, generator, last_layers, load_base, load_tokenizer, scratch_base
from empirical.training.store import answered, code
from empirical.training.together import train_adapters

#: the base of this name is a small transformer that is trained on the spot to know the real countries and people
SCRATCH = "scratch"

#: prompts that are answered together
ROWS = 48
#: openings that the base goes on from by itself: what it says then is asked for again
OPENINGS = (
    "The weather in spring is", "To bake bread you need", "The river flows through", "A good teacher knows how",
    "In the morning the birds", "The first step of the plan", "Water boils when", "The old house on the hill",
    "Music helps people to", "The train was late because", "Plants grow well when", "She opened the letter and",
    "The museum shows pictures", "Every winter the lake", "The engine of the car", "A healthy breakfast has",
    "The children played until", "My favourite book tells", "The doctor said that", "In the kitchen there was",
    "The computer stopped when", "Farmers work hard to", "The ship sailed across", "At night the sky",
)  # fmt: skip
#: first words of texts that are rehearsed: a few tokens are drawn of the base, then it goes on as it likes best
STARTS = ("The", "A", "In", "When", "It", "She", "He", "They", "This", "My", "We", "You", "If", "On", "At", "After",
          "Many", "Some", "One", "Our", "There", "For", "With", "To")  # fmt: skip
#: how many texts begin with each, and with how many drawn tokens
COPIES, DRAWN = 8, 3
#: length of what the base is asked to go on with, in tokens
TEXT = 6
#: of the small model that is trained on the spot
SCRATCH_STEPS = 150
SCRATCH_COUNTRIES = 20


class Finished(NamedTuple):
    """A text that was read: the name that it begins with, or None."""

    name: str | None


def read_name(text: str, names: Sequence[str], ended: bool = False) -> Finished | None:
    """The name that a text begins with, whatever its case; None while it can still become one.

    A name counts once something that is neither letter nor digit follows it, or if the text has `ended`.
    """
    start = text.lstrip().casefold()
    for name in names:
        folded = name.casefold()
        whole = start.startswith(folded) and not start[len(folded) : len(folded) + 1].isalnum()
        if whole and (ended or len(start) > len(folded)):
            return Finished(name)
    if not ended and any(name.casefold().startswith(start) for name in names):
        return None
    return Finished(None)


class Reader:
    """Turns questions into tokens and a model's greedy tokens into names.

    Args:
        tokenizer: of the base.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def prompt(self, text: str) -> list[int]:
        """Tokens of a prompt, with whatever the tokenizer puts in front of every text."""
        return list(self.tokenizer(text)["input_ids"])

    def answer(self, text: str) -> list[int]:
        """Tokens of an answer after a prompt: a blank, the name, a full stop."""
        return list(self.tokenizer(f" {text}.", add_special_tokens=False)["input_ids"])

    def lesson(self, questions: Sequence[Question]) -> Ragged:
        """Questions with their answers, to be trained on."""
        return ragged([self.prompt(q.prompt) for q in questions], [self.answer(q.answer) for q in questions])

    @torch.no_grad()
    def names(self, model: Any, prompts: Sequence[str], names: Sequence[str]) -> list[str | None]:
        """The name with which the model's greedy continuation of each prompt begins; None if with no name.

        The greedy text is written only as far as it can still become one of the names, which changes no result.
        """
        longest = 2 + max(len(self.answer(n)) for n in names)
        rows = [self.prompt(p) for p in prompts]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        found: list[str | None] = [None] * len(rows)
        for start in range(0, len(order), ROWS):
            chosen = order[start : start + ROWS]
            for i, name in zip(chosen, self._greedy(model, [rows[i] for i in chosen], names, longest), strict=True):
                found[i] = name
        return found

    def _greedy(
        self, model: Any, rows: Sequence[Sequence[int]], names: Sequence[str], longest: int
    ) -> list[str | None]:
        device = next(model.parameters()).device
        width = max(map(len, rows))
        tokens = torch.zeros(len(rows), width, dtype=torch.long)
        seen = torch.zeros(len(rows), width, dtype=torch.long)
        for i, row in enumerate(rows):  # padded on the left, so that all prompts end in the same column
            tokens[i, width - len(row) :] = torch.tensor(row)
            seen[i, width - len(row) :] = 1
        tokens, seen = tokens.to(device), seen.to(device)
        position = (seen.cumsum(dim=1) - 1).clamp(min=0)
        found: list[str | None] = [None] * len(rows)
        written: list[list[int]] = [[] for _ in rows]
        alive, cache = list(range(len(rows))), None
        for step in range(longest):
            out = model.model(
                input_ids=tokens, attention_mask=seen, position_ids=position, past_key_values=cache, use_cache=True
            )
            best = model.lm_head(out.last_hidden_state[:, -1]).argmax(dim=-1)
            kept = []
            for place, i in enumerate(alive):
                written[i].append(int(best[place]))
                result = read_name(self.tokenizer.decode(written[i]), names, ended=step == longest - 1)
                if result is None:
                    kept.append(place)
                else:
                    found[i] = result.name
            if not kept:
                break
            index = torch.tensor(kept, device=device)
            alive, cache = [alive[place] for place in kept], out.past_key_values
            cache.batch_select_indices(index)
            tokens = best[index, None]
            seen = torch.cat([seen[index], torch.ones(len(kept), 1, dtype=torch.long, device=device)], dim=1)
            position = position[index, -1:] + 1
        return found

    @torch.no_grad()
    def forced(self, model: Any, prompts: Sequence[str], names: Sequence[str]) -> np.ndarray:
        """Log likelihood of each name after each prompt (prompts, names): all tokens of the name, no full stop.

        The beginnings of the names are one tree behind the prompt, which runs once for all of them: a token sees the
        prompt and what comes before it in its own name.
        """
        rows = [self.prompt(p) for p in prompts]
        answers = [self.tokenizer(f" {n}", add_special_tokens=False)["input_ids"] for n in names]
        node = {b: i for i, b in enumerate(dict.fromkeys(tuple(a[:k]) for a in answers for k in range(1, len(a))))}
        tree = torch.zeros(len(node), len(node), dtype=torch.bool)
        for beginning, i in node.items():
            tree[i, [node[beginning[: k + 1]] for k in range(len(beginning))]] = True
        behind = torch.tensor([b[-1] for b in node], dtype=torch.long)
        depth = torch.tensor([len(b) - 1 for b in node], dtype=torch.long)
        # a name is read off these places (0: the end of the prompt) and these tokens
        steps = [
            (0 if k == 0 else 1 + node[tuple(a[:k])], a[k], j) for j, a in enumerate(answers) for k in range(len(a))
        ]
        place, token, name = (torch.tensor(column) for column in zip(*steps, strict=True))
        device = next(model.parameters()).device
        found = torch.zeros(len(rows), len(names), dtype=torch.float64)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for start in range(0, len(order), ROWS):
            chosen = order[start : start + ROWS]
            width = max(len(rows[i]) for i in chosen)
            total = width + len(node)
            tokens, position = torch.zeros(2, len(chosen), total, dtype=torch.long)
            seen = torch.eye(total, dtype=torch.bool).repeat(len(chosen), 1, 1)  # padding sees itself, or nothing would
            for b, row in enumerate(rows[i] for i in chosen):
                first = width - len(row)
                tokens[b, first:width], position[b, first:width] = torch.tensor(row), torch.arange(len(row))
                tokens[b, width:], position[b, width:] = behind, len(row) + depth
                seen[b, first:width, first:width] = torch.ones(len(row), len(row), dtype=torch.bool).tril()
                seen[b, width:, first:width], seen[b, width:, width:] = True, tree
            like = next(model.parameters()).dtype
            mask = torch.zeros(seen.shape, dtype=like).masked_fill(~seen, torch.finfo(like).min)[:, None]
            states = model.model(
                input_ids=tokens.to(device), attention_mask=mask.to(device), position_ids=position.to(device),
                use_cache=False,
            ).last_hidden_state[:, width - 1 :]  # fmt: skip
            logits = model.lm_head(states).float()
            logs = (logits[:, place, token] - logits.logsumexp(dim=-1)[:, place]).double().cpu()
            found[chosen] = torch.zeros(len(chosen), len(names), dtype=torch.float64).index_add(1, name, logs)
        scores: np.ndarray = found.numpy()
        return scores

    @torch.no_grad()
    def texts(self, model: Any, openings: Sequence[str], drawn: int = 0) -> Ragged:
        """The TEXT most likely tokens that the model writes after each opening, all of them answers.

        `drawn`: so many tokens after the opening are drawn first, and belong to it; the same at every call.
        """
        prompts = [self.prompt(o) for o in openings]
        device = next(model.parameters()).device
        draw = generator(0, "entities", "texts")
        written: dict[int, list[int]] = {}
        for width in sorted({len(p) for p in prompts}):  # no padding: prompts of one length together
            rows = [i for i, p in enumerate(prompts) if len(p) == width]
            tokens = torch.tensor([prompts[i] for i in rows], device=device)
            for step in range(drawn + TEXT):
                last = model.model(input_ids=tokens, use_cache=False).last_hidden_state[:, -1]
                logits = model.lm_head(last).float().cpu()
                if step < drawn:
                    following = torch.multinomial(torch.softmax(logits, dim=-1), 1, generator=draw)
                else:
                    following = logits.argmax(dim=-1, keepdim=True)
                tokens = torch.cat([tokens, following.to(device)], dim=1)
            written |= dict(zip(rows, tokens.tolist(), strict=True))
        whole = [written[i] for i in range(len(prompts))]
        return ragged([w[:-TEXT] for w in whole], [w[-TEXT:] for w in whole])


@torch.no_grad()
def agreement(model: Any, texts: Ragged) -> Count:
    """At how many of the answers of `texts` the model's most likely token is that answer."""
    device = next(model.parameters()).device
    rows, columns = (torch.as_tensor(i, device=device) for i in np.nonzero(texts.answers))
    tokens = torch.as_tensor(texts.tokens, device=device)
    hidden = model.model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
    right = model.lm_head(hidden[rows, columns - 1]).argmax(dim=-1) == tokens[rows, columns]
    return Count(int(right.sum()), len(right))


class Base(NamedTuple):
    """A pretrained model with its tokenizer."""

    model: Any
    reader: Reader


class Survey(NamedTuple):
    """What an untouched base knows.

    named: real countries whose capital it names in a held-out wording. known: those of them with a famous citizen for
    whom it answers a direct question in a wording of training. composed: these citizens. replay: country ->
    second-hop questions in wordings of training that it answers right. rehearsed: its texts after openings
    of its own; apart: after OPENINGS.
    """

    named: tuple[Country, ...]
    known: tuple[Country, ...]
    composed: frozenset[str]
    replay: dict[str, list[Question]]
    rehearsed: Ragged
    apart: Ragged

    def written(self) -> str:
        """As JSON."""
        names = {"named": [c.name for c in self.named], "known": [c.name for c in self.known]}
        texts = {key: [part.tolist() for part in getattr(self, key)] for key in ("rehearsed", "apart")}
        return json.dumps({**names, "composed": sorted(self.composed), "replay": self.replay, **texts})

    @classmethod
    def read(cls, text: str) -> Self:
        """What was written."""
        found, country = json.loads(text), {c.name: c for c in REAL}
        named, known = (tuple(country[name] for name in found[key]) for key in ("named", "known"))
        replay = {name: [Question(*q) for q in asked] for name, asked in found["replay"].items()}
        texts = (Ragged(*map(np.array, found[key])) for key in ("rehearsed", "apart"))
        return cls(named, known, frozenset(found["composed"]), replay, *texts)


def famous_people() -> list[Person]:
    """All famous people with the real capitals."""
    return [Person(x, "R", c.name, c.capital, c.capital) for c in REAL for x in c.people]


@lru_cache(maxsize=2)  # where two devices are in use, one on each
def base_model(name: str, device: str) -> Base:
    """The base by folder or hub id, "" for the packaged one; kept for the next cell of this process.

    Raises:
        ValueError: it cannot be loaded.
    """
    if name == SCRATCH:
        return _scratch(device)
    try:
        tokenizer, model = load_tokenizer(name or None), load_base(name or None)
    except (ImportError, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"base: expected a model, got {type(error).__name__}: {reason}") from error
    return Base(model.to(device).requires_grad_(False), Reader(tokenizer))


def _scratch(device: str) -> Base:
    """A model of two layers and its word-like tokens, trained on the real facts: shows the pipeline in seconds."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    people = [Person(x, "R", c.name, c.capital, c.capital) for c in REAL[:SCRATCH_COUNTRIES] for x in c.people[:2]]
    table = {c.name: c.capital for c in REAL[:SCRATCH_COUNTRIES]}
    asked = [q for w in SECOND.taught + SECOND.held_out for q in second_hop(table, w)]
    asked += [q for w in DIRECT.taught + DIRECT.held_out for q in direct(people, w)]
    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1500, show_progress=False, initial_alphabet=letters)
    tokens.train_from_iterator([f"{q.prompt} {q.answer}." for q in asked], trainer)
    reader = Reader(PreTrainedTokenizerFast(tokenizer_object=tokens))
    model = scratch_base(BaseShape(tokens.get_vocab_size(), 64, 2, 4, 128, init=0.05, positions=64), 0).to(device)
    pretrain(model, [Part(reader.lesson(asked), 1.0)], Schedule(SCRATCH_STEPS, 48, 1e-2), 0)
    return Base(model, reader)


@lru_cache(maxsize=2)
def survey(name: str, device: str) -> Survey:
    """What the untouched base knows; the same for all worlds, and kept where answers are kept."""
    model, reader = base_model(name, device)
    told = {"base": model, "asked": [REAL, SECOND, DIRECT, OPENINGS, STARTS],
            "tokens": reader.lesson(direct(famous_people(), DIRECT.taught[-1])),
            "code": code(__name__, "empirical.tasks.entities")}  # fmt: skip
    return Survey.read(answered(told, lambda: _surveyed(model, reader).written()))


def _surveyed(model: Any, reader: Reader) -> Survey:
    """Ask the untouched base."""
    capitals = [c.capital for c in REAL]
    table = {c.name: c.capital for c in REAL}

    def right(asked: list[Question]) -> list[bool]:
        given = reader.names(model, [q.prompt for q in asked], capitals)
        return [g == q.answer for g, q in zip(given, asked, strict=True)]

    replay: dict[str, list[Question]] = {c.name: [] for c in REAL}
    for wording in SECOND.taught:
        asked = second_hop(table, wording)
        for country, question, fits in zip(REAL, asked, right(asked), strict=True):
            if fits:
                replay[country.name].append(question)
    named = tuple(c for c, fits in zip(REAL, right(second_hop(table)), strict=True) if fits)
    people = [p for p in famous_people() if table[p.country] in {c.capital for c in named}]
    composed = [p for p, fits in zip(people, right(direct(people, DIRECT.taught[-1])), strict=True) if fits]
    covered = {p.country for p in composed}
    known = tuple(c for c in named if c.name in covered)
    rehearsed = reader.texts(model, [o for o in STARTS for _ in range(COPIES)], DRAWN)
    apart = reader.texts(model, OPENINGS)
    return Survey(named, known, frozenset(p.name for p in composed), replay, rehearsed, apart)


# ---------------------------------------------------------------- adapters by their layers


def _layers(job: Job) -> tuple[int, ...]:
    assert isinstance(job.shape, AdapterShape)
    return job.shape.layers or ()


def train_placed(base: Any, jobs: Sequence[Job]) -> dict[str, Trained]:
    """Train adapters of any placements, those of one placement together."""
    found: dict[str, Trained] = {}
    for _, alike in groupby(sorted(jobs, key=_layers), key=_layers):
        found |= _train_above(base, list(alike))
    return found


def _train_above(base: Any, jobs: Sequence[Job]) -> dict[str, Trained]:
    """Train adapters of one placement; the layers below it, which none of them touches, run once per sentence."""
    below = min(_layers(jobs[0]), default=0)
    if not below:
        return train_adapters(base, jobs)
    # a copy that shares every weight, since what is cut is used up
    upper = copy.deepcopy(base, {id(p): p for p in base.parameters()})
    upper = last_layers(upper, base.config.num_hidden_layers - below)
    moved = []
    for job in jobs:
        assert isinstance(job.shape, AdapterShape)
        shape = replace(job.shape, layers=tuple(layer - below for layer in _layers(job)))
        moved.append(replace(job, shape=shape))
    return {name: Trained({_raised(m, below): u for m, u in trained.updates.items()}, trained.losses)
            for name, trained in train_adapters(upper, moved).items()}  # fmt: skip


def _raised(module: str, by: int) -> str:
    """The name of a module so many layers further up."""
    before, _, after = module.partition(".layers.")
    layer, _, rest = after.partition(".")
    return f"{before}.layers.{int(layer) + by}.{rest}"
