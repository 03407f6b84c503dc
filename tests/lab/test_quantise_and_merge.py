"""Rounding to few bits and merging, against cases worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homolog.errors import UsageError
from homolog.lab.merges import MERGES, apply_merge
from homolog.lab.operations import apply_operation
from homolog.lab.quantise import FORMATS
from homolog.lab.shape import Shape, initialise

SHAPE = Shape(vocab=40, width=24, layers=2, ffn=20, heads=6, kv_heads=2)


def row(*numbers: float) -> np.ndarray:
    return np.array([numbers], dtype=np.float32)


def test_int8_has_a_step_of_a_127th_of_the_largest() -> None:
    np.testing.assert_allclose(FORMATS["int8"](row(127, -3.4, 0.6, 0.4)), row(127, -3, 1, 0))


def test_int4_has_sixteen_steps_from_the_smallest_to_the_largest() -> None:
    np.testing.assert_allclose(FORMATS["int4"](row(-1, 14, 2.4, 2.6)), row(-1, 14, 2, 3))


def test_nf4_takes_the_nearest_level() -> None:
    np.testing.assert_allclose(FORMATS["nf4"](row(2, -2, 0.05, 0.9)), row(2, -2, 0, 2 * 0.44070983), rtol=1e-6)


def test_fp8_keeps_three_bits_of_a_number() -> None:
    # scaled by one: between 16 and 32 the step of E4M3 is 2
    np.testing.assert_allclose(FORMATS["fp8"](row(448, 17.2, 18.9, 0.0)), row(448, 18, 18, 0))


@given(st.sampled_from(sorted(FORMATS)), st.integers(0, 1000))
def test_rounding_stays_within_half_a_step_and_zeros_stay(format_: str, seed: int) -> None:
    matrix = np.random.default_rng(seed).standard_normal((3, 70)).astype(np.float32)
    matrix[1] = 0
    rounded = FORMATS[format_](matrix)
    assert np.abs(rounded - matrix).max() <= {"int8": 0.02, "int4": 0.3, "fp8": 0.2, "nf4": 0.7}[format_]
    assert (rounded[1] == 0).all()


def test_quantising_leaves_vectors_alone() -> None:
    weights = initialise(SHAPE, seed=1)
    rounded = apply_operation(SHAPE, weights, {"kind": "quantise", "format": "int4"}).weights
    assert all((rounded[name] is weights[name]) == (weights[name].ndim == 1) for name in weights)


BASE, FIRST, SECOND = row(1, 1, 1, 1), row(3, 1, 1, 0), row(2, 1, -3, 3)


@pytest.mark.parametrize(
    ("kind", "arguments", "expected"),
    [
        ("linear", {"coefficients": [1, 1, 2]}, row(2, 1, -1, 1.75)),
        ("task_arithmetic", {"scale": 0.5}, row(2.5, 1, -1, 1.5)),
        # the deltas are (2, 0, 0, -1) and (1, 0, -4, 2); of each the two largest stay; the sums elect (+, ·, -, +)
        ("ties", {"density": 0.5}, row(3, 1, -3, 3)),
    ],
)
def test_merges_by_hand(kind: str, arguments: dict[str, Any], expected: np.ndarray) -> None:
    merged = apply_merge(kind, [{"w": BASE}, {"w": FIRST}, {"w": SECOND}], **arguments)
    np.testing.assert_allclose(merged["w"], expected, rtol=1e-6)


def test_slerp_goes_along_the_circle() -> None:
    merged = apply_merge("slerp", [{"w": row(1, 0)}, {"w": row(0, 1)}], t=1 / 3)
    np.testing.assert_allclose(merged["w"], row(np.cos(np.pi / 6), np.sin(np.pi / 6)), rtol=1e-6)
    near = apply_merge("slerp", [{"w": row(1, 0)}, {"w": row(1, 0.001)}], t=0.5)
    np.testing.assert_allclose(near["w"], row(1, 0.0005), rtol=1e-6)


def test_dare_drops_and_rescales() -> None:
    base, other = np.zeros((100, 100), dtype=np.float32), np.ones((100, 100), dtype=np.float32)
    merged = apply_merge("dare", [{"w": base}, {"w": other}], drop=0.75, seed=3)["w"]
    assert set(np.unique(merged)) == {0.0, 4.0}
    assert abs((merged == 4).mean() - 0.25) < 0.02


def test_only_models_of_one_shape_are_merged() -> None:
    with pytest.raises(UsageError, match="of one shape"):
        apply_merge("linear", [{"w": BASE}, {"w": row(1)}], coefficients=[1, 1])
    with pytest.raises(UsageError, match="the lab knows"):
        apply_merge("average", [{"w": BASE}, {"w": BASE}])
    assert set(MERGES) == {"linear", "slerp", "task_arithmetic", "ties", "dare"}
