"""KnOTS, TSV-Merge, Iso-C and Core Space against dense decompositions."""

import numpy as np
import pytest

from empirical.reuse.methods import Options, merged
from tests.empirical.reuse.adapters import adapter, close, formed, slow_election, slow_ties, union_sum
from theory.lowrank import LowRank

#: decompositions of matrices of at most 32 x 96 with entries of order 1
FACTORED = 1e4 * np.finfo(np.float64).eps


def side_by_side(values):
    """(left, values, right by adapter) of the updates side by side, without the zero singular values."""
    left, strength, right = np.linalg.svd(np.hstack(list(values)), full_matrices=False)
    rank = int(np.count_nonzero(strength > 1e-9 * strength[0]))
    return left[:, :rank], strength[:rank], np.split(right[:rank], len(values), axis=1)


@pytest.mark.parametrize("density", [0.4, 1.0])
@pytest.mark.parametrize("layers", [None, [1]])
def test_knots_merges_in_the_joint_basis(base, density, layers):
    adapters = [adapter(base, 1), adapter(base, 2, 3, 0.5, layers)]
    wanted = {}
    for name, values in formed(adapters).items():
        left, strength, right = side_by_side(values)
        wanted[name] = (left * strength) @ slow_ties(right, density)
    close(merged("knots", adapters, base, Options(density=density)), wanted, FACTORED)
    as_dense = [{n: u.dense() for n, u in a.items()} for a in adapters]
    close(merged("knots", as_dense, base, Options(density=density)), wanted, FACTORED)
    close(merged("knots@1", adapters[:1], base), union_sum(adapters[:1], [1.0]), FACTORED)


@pytest.mark.parametrize("density", [0.3, 1.0])
def test_released_knots_weighs_by_singular_values_and_trims_over_all_modules(base, density):
    strengths = [1.0, 0.1, 3.0]
    adapters = [
        {n: LowRank(u.B, u.A, u.scale * strengths[i % 3]) for i, (n, u) in enumerate(adapter(base, seed).items())}
        for seed in (1, 2)
    ]
    spaces = {n: side_by_side(v) for n, v in formed(adapters).items()}
    kept: list[list[np.ndarray]] = []
    for i in range(2):
        parts = [np.diag(s) @ right[i] for _, s, right in spaces.values()]
        flat = np.concatenate([p.ravel() for p in parts])
        least = np.sort(np.abs(flat))[::-1][int(density * flat.size) - 1]
        kept.append([np.where(np.abs(p) >= least, p, 0.0) for p in parts])
    wanted = {
        n: 0.8 * left @ slow_election([kept[0][j], kept[1][j]]) for j, (n, (left, _, _)) in enumerate(spaces.items())
    }
    close(merged("knots_sv", adapters, base, Options(density=density, scale=0.8)), wanted, FACTORED)


def dense_tsv(values, most):
    """TSV-Merge with full decompositions; the k largest triples of each update that are not zero."""
    tall, weights, wide = [], [], []
    for value in values:
        u, s, vt = np.linalg.svd(value)
        keep = [j for j in range(min(most, len(s))) if s[j] > 1e-9 * s[0]] if s[0] > 0 else []
        tall.append(u[:, keep])
        weights.append(s[keep])
        wide.append(vt[keep])

    def whitened(columns):
        """X (X^T X)^(-1/2)."""
        eigenvalues, vectors = np.linalg.eigh(columns.T @ columns)
        return columns @ (vectors * eigenvalues**-0.5) @ vectors.T

    return whitened(np.hstack(tall)) @ np.diag(np.concatenate(weights)) @ whitened(np.vstack(wide).T).T


@pytest.mark.parametrize("layers", [None, [1]])
def test_tsv_whitens_the_singular_vectors_of_all_tasks(base, layers):
    for rank, methods in ((2, ("tsv", "core_tsv")), (3, ("tsv",))):  # at equal ranks Core Space loses nothing of it
        adapters = [adapter(base, 1), adapter(base, 2, rank, 0.5, layers)]
        wanted = {n: 0.9 * dense_tsv(v, min(v.shape[1:]) // 2) for n, v in formed(adapters).items()}
        for method in methods:
            close(merged(f"{method}@0.9", adapters, base), wanted, FACTORED)


def test_tsv_in_core_space_cuts_what_is_beyond_the_mean_rank(base):
    adapters = [adapter(base, 1, 1), adapter(base, 2, 3)]
    cut = [adapters[0], {n: u.truncate(2) for n, u in adapters[1].items()}]
    close(merged("core_tsv", adapters, base), merged("tsv", cut, base), FACTORED)


def test_tsv_keeps_a_share_of_large_updates(base):
    adapters = [adapter(base, seed, rank=8) for seed in (1, 2, 3)]  # 3 x 8 directions do not fit into 16
    close(merged("tsv", adapters, base), {n: dense_tsv(v, 16 // 3) for n, v in formed(adapters).items()}, FACTORED)


def test_iso_c_makes_all_directions_of_the_sum_equally_strong(base):
    adapters = [adapter(base, 1), adapter(base, 2, 1, 0.5, [1])]
    wanted = {}
    for name, values in formed(adapters).items():
        u, s, vt = np.linalg.svd(values.sum(axis=0))
        rank = int(np.count_nonzero(s > 1e-9 * s[0]))
        wanted[name] = 1.2 * s[:rank].mean() * u[:, :rank] @ vt[:rank]
    close(merged("iso_c@1.2", adapters, base), wanted, FACTORED)


def test_core_space_is_the_dense_projection(base):
    adapters = [adapter(base, 1), adapter(base, 2, 3, 0.5)]
    wanted = {}
    for name, values in formed(adapters).items():
        tall = np.linalg.svd(np.hstack([a[name].scale * a[name].B for a in adapters]))[0][:, :5]
        wide = np.linalg.svd(np.vstack([a[name].A for a in adapters]))[2][:5]
        wanted[name] = 0.5 * tall @ slow_ties([tall.T @ v @ wide.T for v in values], 0.4) @ wide
    close(merged("core_ties", adapters, base, Options(density=0.4, scale=0.5)), wanted, FACTORED)
    close(merged("core_sum", adapters, base, Options(scale=0.3)), union_sum(adapters, [0.3, 0.3]), FACTORED)


@pytest.mark.parametrize("method", ["knots", "knots_sv", "tsv", "iso_c", "core_sum", "core_ties", "core_tsv", "svd"])
def test_what_is_merged_in_factors_stays_in_factors(base, method):
    adapters = [adapter(base, 1), adapter(base, 2, layers=[0])]
    for name, update in merged(method, adapters, base).items():
        assert isinstance(update, LowRank), name
        assert update.columns <= 4
