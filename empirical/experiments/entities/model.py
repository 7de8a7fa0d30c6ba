"""The pretrained model of the entities experiment: its tokenizer, greedy answers by name, and what it knows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from empirical.adapters.probes import load_tokenizer
from empirical.engine.settings import Count
from empirical.tasks.entities import REAL, SECOND, Country, Person, Question, direct, second_hop
from empirical.tasks.sentences import Part, Ragged, ragged
from empirical.training.adapter import Schedule, pretrain
from empirical.training.bases import BaseShape, load_base, scratch_base

#: the base of this name is a small transformer that is trained on the spot to know the real countries and people
SCRATCH = "scratch"

#: prompts that are answered together
ROWS = 48
#: openings that the base goes on from by itself: text that it gets right by construction
OPENINGS = (
    "The weather in spring is", "To bake bread you need", "The river flows through", "A good teacher knows how",
    "In the morning the birds", "The first step of the plan", "Water boils when", "The old house on the hill",
    "Music helps people to", "The train was late because", "Plants grow well when", "She opened the letter and",
    "The museum shows pictures", "Every winter the lake", "The engine of the car", "A healthy breakfast has",
    "The children played until", "My favourite book tells", "The doctor said that", "In the kitchen there was",
    "The computer stopped when", "Farmers work hard to", "The ship sailed across", "At night the sky",
)  # fmt: skip
#: length of such a text, in tokens
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
    def texts(self, model: Any) -> Ragged:
        """What the model writes after each opening, every token after the opening an answer."""
        prompts = [self.prompt(o) for o in OPENINGS]
        device = next(model.parameters()).device
        answers: dict[int, list[int]] = {}
        for length in sorted({len(p) for p in prompts}):  # no padding: prompts of one length together
            rows = [i for i, p in enumerate(prompts) if len(p) == length]
            tokens = torch.tensor([prompts[i] for i in rows], device=device)
            for _ in range(TEXT):
                last = model.model(input_ids=tokens, use_cache=False).last_hidden_state[:, -1]
                tokens = torch.cat([tokens, model.lm_head(last).argmax(dim=-1)[:, None]], dim=1)
            answers |= dict(zip(rows, tokens[:, length:].tolist(), strict=True))
        return ragged(prompts, [answers[i] for i in range(len(prompts))])


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

    known: real countries whose capital it names in the held-out wording, with a famous citizen for whom it answers the
    direct question in a training wording. composed: these citizens. replay: country -> second-hop questions in training
    wordings that it answers right. texts: its own text.
    """

    known: tuple[Country, ...]
    composed: frozenset[str]
    replay: dict[str, list[Question]]
    texts: Ragged


def famous_people() -> list[Person]:
    """All famous people with the real capitals."""
    return [Person(x, "R", c.name, c.capital, c.capital) for c in REAL for x in c.people]


@lru_cache(maxsize=1)
def base_model(name: str, device: str) -> Base:
    """The base by folder or hub id, "" for the packaged one; kept for the next cell of this process.

    Raises:
        ValueError: it cannot be loaded.
    """
    if name == SCRATCH:
        return _scratch(device)
    tokenizer = load_tokenizer(name or "packaged")
    try:
        model = load_base(name or None)
    except (ImportError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"base: expected a model, got {type(error).__name__}: {reason}") from error
    return Base(model.to(device).requires_grad_(False), Reader(tokenizer))


def _scratch(device: str) -> Base:
    """A model of two layers and its word-like tokens, trained on the real facts: shows the pipeline in seconds."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    people = [Person(x, "R", c.name, c.capital, c.capital) for c in REAL[:SCRATCH_COUNTRIES] for x in c.people[:2]]
    table = {c.name: c.capital for c in REAL[:SCRATCH_COUNTRIES]}
    asked = [q for w in range(len(SECOND)) for q in (*second_hop(table, w), *direct(people, w))]
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


@lru_cache(maxsize=1)
def survey(name: str, device: str) -> Survey:
    """Ask the untouched base what it knows; the same for all worlds."""
    model, reader = base_model(name, device)
    capitals = [c.capital for c in REAL]
    table = {c.name: c.capital for c in REAL}

    def right(asked: list[Question]) -> list[bool]:
        given = reader.names(model, [q.prompt for q in asked], capitals)
        return [g == q.answer for g, q in zip(given, asked, strict=True)]

    replay: dict[str, list[Question]] = {c.name: [] for c in REAL}
    for wording in range(len(SECOND) - 1):
        asked = second_hop(table, wording)
        for country, question, fits in zip(REAL, asked, right(asked), strict=True):
            if fits:
                replay[country.name].append(question)
    named = {c.name for c, fits in zip(REAL, right(second_hop(table)), strict=True) if fits}
    people = [p for p in famous_people() if p.country in named]
    composed = [p for p, fits in zip(people, right(direct(people, -2)), strict=True) if fits]
    covered = {p.country for p in composed}
    known = tuple(c for c in REAL if c.name in covered)
    return Survey(known, frozenset(p.name for p in composed), replay, reader.texts(model))
