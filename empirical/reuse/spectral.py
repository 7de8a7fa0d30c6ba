"""Merges in the directions that the updates share: KnOTS, TSV-Merge, Iso-C, Core Space. All stay in factor space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from empirical.reuse.linear import by_module
from empirical.reuse.trimmed import elect, ties_arrays, trim
from empirical.training.bases import Update, Updates
from theory.lowrank import LowRank
from theory.numerics import Array

# ---------------------------------------------------------------- KnOTS


class Joint(NamedTuple):
    """``[U_1 ... U_k] = left diag(values) [V_1 ... V_k]``, zero singular values dropped.

    left: (out, r). values: (r,). right: k arrays (r, in).
    """

    left: Array
    values: Array
    right: list[Array]


def joint(updates: Sequence[LowRank]) -> Joint:
    """The thin SVD of the updates (all out x in) side by side."""
    inner = updates[0].shape[1]
    blocks = np.zeros((sum(u.columns for u in updates), inner * len(updates)))
    start = 0
    for i, u in enumerate(updates):
        blocks[start : start + u.columns, i * inner : (i + 1) * inner] = u.A
        start += u.columns
    left, values, right = LowRank(np.hstack([u.scale * u.B for u in updates]), blocks).svd()
    return Joint(left, values, np.split(right, len(updates), axis=1))


def knots(updates: Sequence[Updates], density: float) -> Updates:
    """KnOTS (Stoica et al. 2024, arXiv 2410.19735) module by module: TIES of the V_i, without singular values.

    ``[U_1 ... U_k] = Q S [V_1 ... V_k]``; the V_i are trimmed and merged by TIES; the update is ``Q S V``.
    """
    merged = {}
    for name, low in by_module(updates):
        found = joint(low)
        merged[name] = LowRank(found.left * found.values, ties_arrays(found.right, density))
    return merged


def knots_sv(updates: Sequence[Updates], density: float, scale: float) -> Updates:
    """KnOTS as its authors run it: TIES of the ``S V_i``, trimmed over all modules at once.

    With S, an entry weighs as much as the update makes of it. Their settings: density 1, and a scale that is tuned.
    """
    found = {name: joint(low) for name, low in by_module(updates)}
    ends = np.cumsum([j.right[0].size for j in found.values()])[:-1]
    merged: dict[str, Update] = {}
    trimmed = []
    for i in range(len(updates)):
        values = np.concatenate([(j.values[:, None] * j.right[i]).ravel() for j in found.values()])
        trimmed.append(np.split(trim(values, density), ends))
    for place, (name, j) in enumerate(found.items()):
        right = elect([t[place].reshape(j.right[0].shape) for t in trimmed])
        merged[name] = LowRank(j.left, right, scale)
    return merged


# ---------------------------------------------------------------- singular vectors of each task


def near_orthonormal(columns: Array) -> Array:
    """The orthonormal columns nearest to these: the polar factor P Q^T of ``P D Q^T`` (Procrustes)."""
    left, _, right = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(left @ right)


def tsv_module(updates: Sequence[LowRank]) -> LowRank:
    """TSV-Merge of one module; see :func:`tsv`."""
    most = min(updates[0].shape) // len(updates)
    left, values, right = zip(*(u.svd() for u in updates), strict=True)
    tall = near_orthonormal(np.hstack([x[:, :most] for x in left]))
    wide = near_orthonormal(np.vstack([x[:most] for x in right]).T).T
    return LowRank(tall * np.concatenate([v[:most] for v in values]), wide)


def tsv(updates: Sequence[Updates], scale: float) -> Updates:
    """TSV-Merge (Gargiulo et al. 2024, arXiv 2412.00081): singular vectors of all tasks, made orthogonal to each other.

    Of each update ``min(out, in) / k`` singular triples are kept at most, which is all of an adapter's. Their left
    vectors side by side are replaced by the nearest orthonormal ones, and so are the right ones. Zero singular values,
    whose vectors are arbitrary, take no part, nor do adapters that do not touch the module.
    """
    return {name: _times(tsv_module(_active(low)), scale) for name, low in by_module(updates)}


def iso_c(updates: Sequence[Updates], scale: float) -> Updates:
    """Iso-C (Marczak et al. 2025, arXiv 2502.04959): the sum, with its singular values replaced by their mean.

    Its mean is over the rank of the sum, as in Core Space: directions that no adapter writes have no vectors of their
    own.
    """
    merged = {}
    for name, low in by_module(updates):
        left, values, right = LowRank.combine(low, [1.0] * len(low)).svd()
        merged[name] = LowRank(left, right, scale * float(values.mean()) if values.size else 0.0)
    return merged


def _active(updates: list[LowRank]) -> list[LowRank]:
    """Those of some rank, or one of them if there is none."""
    return [u for u in updates if u.columns] or updates[:1]


def _times(update: LowRank, scale: float) -> LowRank:
    return LowRank(update.B, update.A, scale * update.scale)


# ---------------------------------------------------------------- Core Space


class Core(NamedTuple):
    """Every update as ``left @ core_i @ right`` with orthonormal columns of `left` and rows of `right`."""

    left: Array
    cores: list[Array]
    right: Array


def core_space(updates: Sequence[LowRank]) -> Core:
    """The common space of one module's updates (Panariello et al. 2025, arXiv 2509.17786), without loss.

    `left` are the left singular vectors of all B side by side (with their scales), `right` the right ones of all A
    stacked, so that a core has at most as many rows as the adapters have columns together.
    """
    left = np.linalg.svd(np.hstack([u.scale * u.B for u in updates]), full_matrices=False)[0]
    right = np.linalg.svd(np.vstack([u.A for u in updates]), full_matrices=False)[2]
    return Core(left, [u.scale * ((left.T @ u.B) @ (u.A @ right.T)) for u in updates], right)


def in_core(updates: Sequence[Updates], merge: Callable[[list[Array]], Array], scale: float) -> Updates:
    """Merge the cores of each module and map the result back."""
    merged = {}
    for name, low in by_module(updates):
        space = core_space(_active(low))
        merged[name] = LowRank(space.left @ merge(space.cores), space.right, scale)
    return merged


def core_sum(updates: Sequence[Updates], scale: float) -> Updates:
    """Task arithmetic in Core Space, which is task arithmetic."""
    return in_core(updates, lambda cores: np.asarray(np.sum(cores, axis=0)), scale)


def core_ties(updates: Sequence[Updates], density: float, scale: float) -> Updates:
    """TIES in Core Space, module by module."""
    return in_core(updates, lambda cores: ties_arrays(cores, density), scale)


def core_tsv(updates: Sequence[Updates], scale: float) -> Updates:
    """TSV-Merge in Core Space: that of the updates themselves, if all have one rank.

    A core has room for the mean rank of the adapters, so that of unequal ones the larger are cut.
    """
    return in_core(updates, lambda cores: tsv_module([LowRank(c, np.eye(c.shape[1])) for c in cores]).dense(), scale)
