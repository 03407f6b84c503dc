"""The layer map and the frame of the embeddings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from tests.naive import index_statistics as naive

from homolog.align.layers import map_by_cosine, map_by_profile
from homolog.align.matching import cosines
from homolog.align.residual import fit_embedding_frame
from homolog.checkpoint.base import Array
from homolog.probes.indices import index_test

_SEEDS = st.integers(0, 2**32 - 1)


def _normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape, dtype=np.float32)


def _rotation(rng: np.random.Generator, d: int) -> Array:
    q, _ = np.linalg.qr(rng.standard_normal((d, d)))
    return np.asarray(q, dtype=np.float32)


@given(_SEEDS)
def test_a_layer_map_does_not_heed_the_names_of_units(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = [[_normal(rng, 12, 6), _normal(rng, 12, 6)] for _ in range(3)]
    b = [[_normal(rng, 12, 6), _normal(rng, 12, 6)] for _ in range(2)]
    names = [rng.permutation(12) for _ in b]
    plain = map_by_cosine(a, b)
    renamed = map_by_cosine(a, [[part[n] for part in block] for n, block in zip(names, b, strict=True)])
    np.testing.assert_allclose(renamed.scores, plain.scores, atol=1e-5)
    np.testing.assert_array_equal(renamed.matched, plain.matched)
    profiles = map_by_profile([x[0] for x in a], [y[0] for y in b])
    renamed = map_by_profile([x[0] for x in a], [y[0][n] for n, y in zip(names, b, strict=True)])
    np.testing.assert_allclose(renamed.scores, profiles.scores, atol=1e-5)


@given(_SEEDS)
def test_a_layer_map_counts_what_the_naive_twin_counts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = [[_normal(rng, 7, 4)] for _ in range(2)], [[_normal(rng, 5, 4)] for _ in range(3)]
    table = map_by_cosine(a, b)
    for i, y in enumerate(b):
        for j, x in enumerate(a):
            similarity = np.abs(cosines(y[0], x[0]))
            pairs = naive.mutual_matches(similarity.tolist())
            assert table.matched[i, j] == len(pairs)
            assert table.equal[i, j] == sum(p == q for p, q in pairs)
            assert table.scores[i, j] == pytest.approx(sum(similarity[p, q] for p, q in pairs) / 5, abs=1e-5)


def test_every_layer_finds_its_own_under_other_names_and_noise() -> None:
    rng = np.random.default_rng(0)
    a = [[_normal(rng, 64, 32), _normal(rng, 64, 32)] for _ in range(6)]
    order = [4, 0, 2, 2, 5]
    b = []
    for layer in order:
        names = rng.permutation(64)
        b.append([part[names] + np.float32(0.7) * _normal(rng, 64, 32) for part in a[layer]])
    table = map_by_cosine(a, b)
    assert [table.best(row) for row in range(len(order))] == order


@given(_SEEDS, st.booleans())
def test_the_frame_is_procrustes(seed: int, rotated: bool) -> None:
    rng = np.random.default_rng(seed)
    a = _normal(rng, 40, 10)
    b = (a @ _rotation(rng, 10) if rotated else _normal(rng, 40, 10)) + np.float32(0.1) * _normal(rng, 40, 10)
    frame = fit_embedding_frame(a, b)
    assert frame is not None
    assert frame.rank == 10
    expected, _ = orthogonal_procrustes(a - a.mean(axis=0), b - b.mean(axis=0))
    np.testing.assert_allclose(frame.a @ frame.b.T, expected, atol=2e-4)


@given(_SEEDS, st.integers(12, 20), st.integers(12, 20))
def test_with_few_tokens_the_frame_is_the_same_on_what_they_span(seed: int, wide_a: int, wide_b: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = _normal(rng, 11, wide_a), _normal(rng, 11, wide_b)
    frame = fit_embedding_frame(a, b)
    assert frame is not None
    a, b = (x - x.mean(axis=0) for x in (a, b))
    u, s, vt = np.linalg.svd(a.T @ b, full_matrices=False)
    kept = s > 1e-5 * s[0]
    assert frame.rank == kept.sum() == 10
    np.testing.assert_allclose(frame.a @ frame.b.T, u[:, kept] @ vt[kept], atol=5e-3)
    for side in (frame.a, frame.b):
        np.testing.assert_allclose(side.T @ side, np.eye(10), atol=1e-4)


@pytest.mark.parametrize("tokens", [200, 24])
def test_the_frame_undoes_a_rotation_of_the_stream(tokens: int) -> None:
    rng = np.random.default_rng(0)
    turn = _rotation(rng, 32)
    embedding, rows = _normal(rng, tokens, 32), _normal(rng, 64, 32)
    frame = fit_embedding_frame(embedding, embedding @ turn)
    assert frame is not None
    turned = np.asarray(rows @ turn @ frame.b, dtype=np.float32)
    test = index_test([rows @ frame.a], [turned], same_axis=True, rngs=lambda _: rng)
    assert test.statistic == 64


@pytest.mark.parametrize("tokens", [0, 1, 8])
def test_too_few_tokens_make_no_frame(tokens: int) -> None:
    x = np.ones((tokens, 16), dtype=np.float32)
    assert fit_embedding_frame(x, x) is None


def test_tokens_that_are_all_alike_make_no_frame() -> None:
    assert fit_embedding_frame(np.ones((40, 16), dtype=np.float32), np.ones((40, 16), dtype=np.float32)) is None
