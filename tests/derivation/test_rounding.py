"""Rows that decay and are rounded again tell which file was first."""

from __future__ import annotations

from collections.abc import Iterator

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homolog.checkpoint.base import Array
from homolog.derivation.rounding import compare_rows, find_step, round_to
from homolog.derivation.whole import TensorPair
from homolog.roles.role import Role


def rounded(values: Array) -> Array:
    return np.asarray(values.astype(ml_dtypes.bfloat16), dtype=np.float32)


def pair(a: Array, b: Array, dtype: str = "BF16") -> Iterator[TensorPair]:
    role = Role("embed.token")
    yield TensorPair(role, role, a, b, 1.0, b.size, (dtype, dtype))


def table(seed: int, rows: int = 40, columns: int = 64) -> Array:
    return rounded(np.random.default_rng(seed).normal(0, 0.02, (rows, columns)).astype(np.float32))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_a_child_follows_from_its_parent_and_siblings_from_neither(seed: int) -> None:
    start, factor = table(seed), np.random.default_rng(seed).uniform(0.56, 0.985)  # no round factor: those make ties
    child, other = rounded(start * np.float32(factor)), rounded(start * np.float32(0.9123 * factor))
    found = compare_rows(pair(start, child))
    assert found is not None
    assert found.from_a
    assert not found.from_b
    back = compare_rows(pair(child, start))
    assert back is not None
    assert back.from_b
    between = compare_rows(pair(child, other))
    assert between is not None
    assert between.from_neither


def test_what_shows_nothing_is_none() -> None:
    start = table(0)
    assert compare_rows(pair(start, start)) is None, "the same rows have no order"
    assert compare_rows(pair(start, table(1))) is None, "other rows have nothing in common"
    assert compare_rows(pair(start[:5], rounded(start[:5] * np.float32(0.9)))) is None, "five rows are too few"
    fine = np.random.default_rng(2).normal(size=(40, 64)).astype(np.float32)
    assert compare_rows(pair(fine, fine * np.float32(0.9), "F32")) is None, "32 bits lose too little"


def test_a_power_of_two_loses_nothing() -> None:
    start = table(3)
    found = compare_rows(pair(start, start * np.float32(0.5)))
    assert found is not None
    assert not found.from_a
    assert not found.from_b
    assert not found.from_neither


def test_rows_that_training_touched_are_left_out() -> None:
    start, rng = table(4, rows=80), np.random.default_rng(4)
    moved = start * np.float32(0.93)
    moved[:20] += (2e-3 * moved.std() * rng.standard_normal((20, 64))).astype(np.float32)
    found = compare_rows(pair(start, rounded(moved)))
    assert found is not None
    assert found.from_a
    assert found.rows <= 62


@pytest.mark.parametrize(("dtype", "kind"), [("BF16", "BF16"), ("F16", "F16"), ("", None), ("Q8_0", None)])
def test_the_step_of_a_storage_type(dtype: str, kind: str | None) -> None:
    assert find_step(table(5), dtype) == kind


def test_16_bits_written_out_in_32_are_seen() -> None:
    assert find_step(table(6), "F32") == "BF16"
    assert find_step(np.array([0.1], dtype=np.float32), "F32") is None
    assert round_to(np.array([0.1], dtype=np.float32), "F16")[0] == np.float32(np.float16(0.1))
