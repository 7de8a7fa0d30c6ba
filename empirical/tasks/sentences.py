"""Sentences as token numbers, and endless batches of them: what every task hands to training.

Glossary: an *answer* is a token that is predicted and scored; all others are only read. :class:`Sentences` have one
length and answers in the same columns; :class:`Ragged` ones have lengths and answers of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from theory.numerics import integer, require

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Sentences(NamedTuple):
    """Sentences of one length.

    tokens: (n, L). answers: the columns that are answers; each is predicted from the columns before it.
    """

    tokens: Ints
    answers: tuple[int, ...]

    def take(self, rows: Ints | Bools) -> Sentences:
        """The sentences of these rows (indices or a mask)."""
        return Sentences(self.tokens[rows], self.answers)


class Ragged(NamedTuple):
    """Sentences of their own lengths.

    tokens: (n, L) padded on the right with 0. lengths: (n,). answers: (n, L), True where a token is an answer.
    """

    tokens: Ints
    lengths: Ints
    answers: Bools

    def take(self, rows: Ints | Bools) -> Ragged:
        """The sentences of these rows (indices or a mask), padded no further than they need."""
        lengths = self.lengths[rows]
        longest = int(lengths.max(initial=0))
        return Ragged(self.tokens[rows, :longest], lengths, self.answers[rows, :longest])


def ragged(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> Ragged:
    """Each prompt followed by its answer, every token of which is to be predicted.

    Raises:
        ValueError: not as many answers as prompts, or an empty prompt or answer.
    """
    require(len(prompts) == len(answers), "answers", f"{len(prompts)}, one per prompt", len(answers))
    rows = [(list(p), list(a)) for p, a in zip(prompts, answers, strict=True)]
    require(all(p and a for p, a in rows), "prompts and answers", "at least one token in each", "an empty one")
    lengths = np.array([len(p) + len(a) for p, a in rows], dtype=np.int64)
    tokens = np.zeros((len(rows), int(lengths.max(initial=0))), dtype=np.int64)
    marks = np.zeros(tokens.shape, dtype=np.bool_)
    for i, (prompt, answer) in enumerate(rows):
        tokens[i, : lengths[i]] = prompt + answer
        marks[i, len(prompt) : lengths[i]] = True
    return Ragged(tokens, lengths, marks)


class Part(NamedTuple):
    """Sentences and their relative share of every batch."""

    sentences: Sentences | Ragged
    weight: float


class Batch(NamedTuple):
    """Padded sentences of similar length.

    tokens: (n, L) padded on the right with 0. rows, columns: positions of the answers; an answer at column c is
    predicted from the columns before it, so that padding is never seen.
    """

    tokens: Ints
    rows: Ints
    columns: Ints


LONG = 6  # sentences of at least this many tokens are batched apart: padding the short ones would double the work


def _answers(sentences: Sentences | Ragged) -> tuple[Ints, Ints]:
    """Rows and columns of all answers."""
    if isinstance(sentences, Ragged):
        rows, columns = np.nonzero(sentences.answers)
        return rows, columns
    n = len(sentences.tokens)
    return np.repeat(np.arange(n), len(sentences.answers)), np.tile(np.asarray(sentences.answers), n)


def collate(sentences: Sequence[Sentences | Ragged]) -> list[Batch]:
    """At most two batches (short and long sentences)."""
    batches = []
    for wanted in (False, True):
        group = [s for s in sentences if len(s.tokens) and (s.tokens.shape[1] >= LONG) == wanted]
        if not group:
            continue
        width = max(s.tokens.shape[1] for s in group)
        tokens = np.concatenate([np.pad(s.tokens, ((0, 0), (0, width - s.tokens.shape[1]))) for s in group])
        rows, columns, start = [], [], 0
        for s in group:
            own_rows, own_columns = _answers(s)
            rows.append(own_rows + start)
            columns.append(own_columns)
            start += len(s.tokens)
        batches.append(Batch(tokens, np.concatenate(rows), np.concatenate(columns)))
    return batches


def batches(parts: Sequence[Part], size: int, rng: np.random.Generator) -> Iterator[list[Batch]]:
    """Endless batches of `size` sentences; each part is cycled through in a fresh random order.

    Shares are exact in the long run: the fractional rows of each step are carried over to the next.

    Raises:
        ValueError: no parts, an empty part, or a weight that is not positive.
    """
    require(len(parts) > 0, "parts", "at least one part", "none")
    integer(size, "size", 1)
    for part in parts:
        require(len(part.sentences.tokens) > 0, "parts", "sentences in every part", "an empty part")
        require(part.weight > 0, "parts", "positive weights", part.weight)
    share = np.array([p.weight for p in parts]) / sum(p.weight for p in parts) * size
    owed = np.zeros(len(parts))
    orders: list[Ints] = [np.empty(0, dtype=np.int64) for _ in parts]
    while True:
        owed += share
        counts = np.floor(owed).astype(int)
        missing = size - int(counts.sum())
        counts[np.argsort(counts - owed, kind="stable")[:missing]] += 1
        owed -= counts
        chosen = []
        for i, (part, count) in enumerate(zip(parts, counts, strict=True)):
            while len(orders[i]) < count:
                orders[i] = np.concatenate([orders[i], rng.permutation(len(part.sentences.tokens))])
            chosen.append(part.sentences.take(orders[i][:count]))
            orders[i] = orders[i][count:]
        yield collate(chosen)


def shuffle_answers(sentences: Sentences, rng: np.random.Generator) -> Sentences:
    """The same prompts with the last answer permuted over the sentences: nothing true can be learnt from them."""
    tokens = sentences.tokens.copy()
    column = sentences.answers[-1]
    tokens[:, column] = rng.permutation(tokens[:, column])
    return Sentences(tokens, sentences.answers)
