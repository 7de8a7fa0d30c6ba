"""The one-layer model of the claim one_layer_composition.

Glossary: a *prompt* is a tuple of tokens, ``(x, REL)`` for one hop and ``(x, REL1, REL2)`` for two; its *key* is the
vector that the adapted matrix W reads there. Arrays are float64; an experiment may hand them to another library.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from theory.facts import least_rank
from theory.lowrank import LowRank
from theory.numerics import Array, integer, matrix, real, require, vector


def one_layer_edit(W: ArrayLike, key: ArrayLike, target: ArrayLike) -> LowRank:
    """The least-norm edit that makes W answer `target` at `key`: ``(t - W k) k^T / ||k||^2``.

    Args:
        W: out x in.
        key: (in,), not zero.
        target: (out,).

    Returns:
        a LowRank with one column. Keys orthogonal to `key` keep their output; among all U with (W + U) key = target
        it has the least Frobenius norm.

    Raises:
        ValueError: sizes that do not fit, or a zero key.

    Source: [C] Prop. 1 (there with one-hot targets); least-norm property standard.
    """
    w, k, t = matrix(W, "W"), vector(key, "key"), vector(target, "target")
    require(k.size == w.shape[1], "key", f"length {w.shape[1]}", k.size)
    require(t.size == w.shape[0], "target", f"length {w.shape[0]}", t.size)
    require(bool(k.any()), "key", "a key that is not zero", "zero")
    largest = float(np.abs(k).max())
    unit = k / largest  # between 1 and in: its square neither overflows nor underflows
    return LowRank((t - w @ k)[:, None] / largest, (unit / (unit @ unit))[None, :])


def joint_edit(W: ArrayLike, keys: ArrayLike, targets: ArrayLike) -> LowRank:
    """The least-norm edit that makes W answer `targets` at all `keys` at once: ``(T - W K) K^+``.

    Args:
        W: out x in.
        keys: in x N.
        targets: out x N.

    Returns:
        a LowRank of rank rank(T - W K), see :func:`theory.facts.least_rank` for its accuracy.

    Raises:
        ValueError: sizes that do not fit, or keys too dependent for these targets.

    Source: claim fact_rank (standard).
    """
    w, k, t = matrix(W, "W"), matrix(keys, "keys"), matrix(targets, "targets")
    require(k.shape[0] == w.shape[1], "keys", f"{w.shape[1]} rows", k.shape[0])
    require(t.shape == (w.shape[0], k.shape[1]), "targets", f"shape {(w.shape[0], k.shape[1])}", t.shape)
    found = least_rank(k, t - w @ k)
    require(found.feasible, "keys", "keys whose row space holds the wanted change", "dependent keys")
    assert found.update is not None  # feasible says so
    return found.update


def summed_edits(W: ArrayLike, keys: ArrayLike, targets: ArrayLike) -> LowRank:
    """The plain sum of the N rank-one edits, which disturb each other unless the keys are orthogonal.

    Arguments and errors as :func:`joint_edit`, and no key may be zero.

    Source: [C] Prop. 1 for each edit.
    """
    k, t = matrix(keys, "keys"), matrix(targets, "targets")
    require(k.shape[1] == t.shape[1], "targets", f"{k.shape[1]} columns, one per key", t.shape[1])
    require(k.shape[1] > 0, "keys", "at least one key", "none")
    edits = [one_layer_edit(W, key, target) for key, target in zip(k.T, t.T, strict=True)]
    return LowRank.combine(edits, [1.0] * len(edits))


def relu_key_cosine(cosine: float) -> float:
    """Cosine of two ReLU keys for a wide Gaussian first layer, from the cosine of what it reads.

    ``(sin t + (pi - t) cos t) / pi`` with t the angle: 1/pi for orthogonal prompts, 0.609 for prompts that share one of
    two equal parts. By `math`, not NumPy, the last digit of whose arc cosine goes by the processor: the value
    is declared.

    Args:
        cosine: in [-1, 1].

    Raises:
        ValueError: outside [-1, 1].

    Source: standard (arc-cosine kernel of order one).
    """
    c = real(cosine, "cosine")
    require(-1 <= c <= 1, "cosine", "a number in [-1, 1]", cosine)
    return (math.sqrt((1 - c) * (1 + c)) + (math.pi / 2 + math.asin(c)) * c) / math.pi


class OneLayer(NamedTuple):
    """``logits = W relu(U h)``, h = the last token's embedding plus ``V`` times the sum of the earlier ones.

    embedding: d x tokens. value: d x d (V). hidden: k x d (U). readout: tokens x k (W, the adapted matrix).
    """

    embedding: Array
    value: Array
    hidden: Array
    readout: Array

    def key(self, prompt: Sequence[int]) -> Array:
        """The vector (k,) that W reads at `prompt`: ``relu(U (V sum_{t < last} e_t + e_last))``.

        Raises:
            ValueError: no tokens, or a token out of range.
        """
        require(len(prompt) > 0, "prompt", "at least one token", "none")
        tokens = [integer(t, "prompt", 0) for t in prompt]
        size = self.embedding.shape[1]
        require(max(tokens) < size, "prompt", f"tokens below {size}", max(tokens))
        earlier = self.embedding[:, tokens[:-1]].sum(axis=1)
        read: Array = np.maximum(self.hidden @ (self.value @ earlier + self.embedding[:, tokens[-1]]), 0.0)
        return read

    def keys(self, prompts: Sequence[Sequence[int]]) -> Array:
        """Keys of several prompts as columns (k x N)."""
        return np.array([self.key(p) for p in prompts]).reshape(len(prompts), self.hidden.shape[0]).T

    def logits(self, prompt: Sequence[int], updates: Sequence[LowRank] = ()) -> Array:
        """Logits (tokens,) at `prompt` with the sum of `updates` added to W."""
        k = self.key(prompt)
        return sum((u.apply(k) for u in updates), self.readout @ k)

    def write(self, prompts: Sequence[Sequence[int]], answers: Sequence[int], joint: bool = True) -> LowRank:
        """The edit of W that makes the logits one-hot at `answers`: joint, or the sum of rank-one edits.

        Raises:
            ValueError: not one answer per prompt, an answer out of range, or keys that are dependent.
        """
        require(len(answers) == len(prompts), "answers", f"{len(prompts)} answers, one per prompt", len(answers))
        tokens = [integer(t, "answers", 0) for t in answers]
        size = self.readout.shape[0]
        require(max(tokens, default=0) < size, "answers", f"tokens below {size}", max(tokens, default=0))
        targets = np.eye(size)[:, tokens]
        return (joint_edit if joint else summed_edits)(self.readout, self.keys(prompts), targets)


def one_layer_model(tokens: int, width: int, hidden: int, rng: np.random.Generator) -> OneLayer:
    """A random model with an empty readout: unit embeddings, orthogonal V, hidden units of length 1.

    Args:
        tokens: vocabulary size. Embeddings are orthonormal if tokens <= width.
        width: d.
        hidden: k.
        rng: source of the random numbers.

    Raises:
        ValueError: a size below 1.

    Source: [C], the model of Prop. 1.
    """
    vocabulary, d, k = integer(tokens, "tokens", 1), integer(width, "width", 1), integer(hidden, "hidden", 1)
    embedding = rng.standard_normal((d, vocabulary))
    embedding = np.linalg.qr(embedding)[0] if vocabulary <= d else embedding / np.linalg.norm(embedding, axis=0)
    units = rng.standard_normal((k, d))
    return OneLayer(
        embedding,
        np.linalg.qr(rng.standard_normal((d, d)))[0],
        units / np.linalg.norm(units, axis=1)[:, None],
        np.zeros((vocabulary, k)),
    )
