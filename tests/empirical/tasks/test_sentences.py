"""Sentences of different lengths in one batch: what is padded is never an answer and never seen by one."""

import numpy as np
import pytest
import torch

from empirical.tasks.sentences import Part, Sentences, batches, collate, ragged
from empirical.training.adapter import answer_logits
from empirical.training.bases import BaseShape, scratch_base
from theory.numerics import stream


def test_a_ragged_row_holds_prompt_then_answer():
    rows = ragged([[5, 6, 7], [8]], [[1], [2, 3]])
    assert rows.tokens.tolist() == [[5, 6, 7, 1], [8, 2, 3, 0]]
    assert rows.lengths.tolist() == [4, 3]
    assert rows.answers.tolist() == [[False, False, False, True], [False, True, True, False]]
    assert rows.take(np.array([1])).tokens.tolist() == [[8, 2, 3]]


@pytest.mark.parametrize(("prompts", "answers"), [([[1]], []), ([[]], [[1]]), ([[1]], [[]])])
def test_a_prompt_without_an_answer_is_refused(prompts, answers):
    with pytest.raises(ValueError, match="answers"):
        ragged(prompts, answers)


def test_every_answer_of_a_mixed_batch_is_predicted_as_when_it_stands_alone():
    rng = stream(0, "test", "ragged")
    prompts = [rng.integers(1, 20, size=n).tolist() for n in (1, 3, 9, 4)]
    answers = [rng.integers(1, 20, size=n).tolist() for n in (2, 1, 3, 1)]
    fixed = Sentences(rng.integers(1, 20, size=(3, 4)), (2, 3))
    base = scratch_base(BaseShape(vocabulary=20, width=16, layers=2, heads=2, feed_forward=16), 0)
    (mixed,) = collate([ragged(prompts, answers), Sentences(np.pad(fixed.tokens, ((0, 0), (0, 3))), (2, 3))])
    together, targets = answer_logits(base, mixed)
    alone = [answer_logits(base, collate([ragged([p], [a])])[0]) for p, a in zip(prompts, answers, strict=True)]
    alone += [answer_logits(base, collate([fixed.take(np.array([i]))])[0]) for i in range(3)]
    assert targets.tolist() == [int(t) for _, own in alone for t in own]
    # float32 sums of 16 terms in another order: 16 eps on logits of order one, with room for two layers
    torch.testing.assert_close(together, torch.cat([logits for logits, _ in alone]), rtol=0, atol=1e-5)


def test_endless_batches_take_ragged_parts():
    one = ragged([[i] * (1 + i % 3) for i in range(1, 8)], [[10 + i] for i in range(1, 8)])
    stepping = batches([Part(one, 1.0)], 7, stream(1, "test"))
    for _ in range(3):
        answers = [int(b.tokens[r, c]) for b in next(stepping) for r, c in zip(b.rows, b.columns, strict=True)]
        assert sorted(answers) == list(range(11, 18)), "each sentence once per pass"
