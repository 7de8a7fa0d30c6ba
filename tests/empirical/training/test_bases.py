"""The last layers of a model, on states that are computed once, are the model."""

import copy

import numpy as np
import pytest
import torch

from empirical.tasks.sentences import Part, Ragged, collate, ragged
from empirical.training.adapter import AdapterShape, Job, Schedule, answer_logits, train_everything
from empirical.training.bases import BaseShape, dense, last_layers, linear_modules, scratch_base
from empirical.training.together import train_adapters
from theory.numerics import stream


def some(count: int = 6) -> Ragged:
    rng = stream(0, "test", "last layers")
    sizes = rng.integers(1, 6, size=count)
    prompts = [rng.integers(0, 20, size=n).tolist() for n in sizes]  # 0 is a token like others inside a sentence
    return ragged(prompts, [rng.integers(1, 20, size=2).tolist() for _ in range(count)])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_last_layers_compute_what_the_model_does(count: int) -> None:
    whole = scratch_base(BaseShape(20, width=16, layers=3, heads=2, feed_forward=24), 0).double()
    upper = last_layers(copy.deepcopy(whole), count)
    assert len(linear_modules(upper)) == 7 * count
    sentences = some()
    for rows in (np.arange(6), np.array([4, 1]), np.arange(6)):  # the second and third time from memory, other padding
        (batch,) = collate([sentences.take(rows)])
        (wanted, targets), (found, same) = answer_logits(whole, batch), answer_logits(upper, batch)
        assert torch.equal(targets, same)
        # float64 sums of at most 24 terms in three layers, on logits below one
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-13)


def test_fine_tuning_the_last_layer_gives_the_same_change() -> None:
    whole = scratch_base(BaseShape(20, width=16, layers=3, heads=2, feed_forward=24), 0).double()
    upper = last_layers(copy.deepcopy(whole), 1)
    plan = Schedule(5, 4, 1e-2)
    lesson = [Part(some(), 1.0)]
    wanted = train_everything(whole, lesson, plan, 0, linear_modules(whole, [2])).updates
    found = train_everything(upper, lesson, plan, 0, linear_modules(upper)).updates
    for (name, change), (_, own) in zip(wanted.items(), found.items(), strict=True):
        assert np.abs(np.asarray(change)).max() > 1e-3, name
        # five steps of AdamW, whose division by a small root can enlarge a rounding of 1e-16 by about 1 / eps = 1e8
        np.testing.assert_allclose(np.asarray(own), np.asarray(change), rtol=0, atol=1e-8)


def test_adapters_on_the_last_layer_are_those_of_the_whole_model() -> None:
    whole = scratch_base(BaseShape(20, width=16, layers=3, heads=2, feed_forward=24), 0).double()
    upper = last_layers(copy.deepcopy(whole), 1)

    def job(layer: int) -> Job:
        plan = Schedule(5, 4, 1e-2)
        return Job("some", [Part(some(), 1.0)], AdapterShape(2, 4, (layer,)), plan, 0)

    wanted, found = (train_adapters(base, [job(k)])["some"].updates for base, k in ((whole, 2), (upper, 0)))
    assert len(wanted) == 7
    for (name, update), own in zip(wanted.items(), found.values(), strict=True):
        assert np.abs(dense(update)).max() > 1e-4, name
        # as above: five steps of AdamW
        np.testing.assert_allclose(dense(own), dense(update), rtol=0, atol=1e-8)


@pytest.mark.parametrize("count", [0, 4])
def test_a_model_has_only_so_many_layers(count: int) -> None:
    with pytest.raises(ValueError, match="count: expected 1 to 3 layers"):
        last_layers(scratch_base(BaseShape(20, width=16, layers=3, heads=2, feed_forward=24), 0), count)
