"""Coefficients of given parents, against plain least squares and against merges whose recipe is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.derivation.make import ZOO, merge

from homolog.derivation.merges import Merge, _Sums
from homolog.pipeline import compare

HEIRS = ["a-zh-1x", "a-code-tuned"]


def fit(b: Path, *parents: str) -> Merge:
    found = compare(ZOO / parents[0], b, also=[ZOO / parent for parent in parents[1:]]).merge
    assert found is not None
    return found


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 4))
def test_coefficients_are_those_of_naive_least_squares(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    parents = [rng.normal(size=50).astype(np.float32) for _ in range(count)]
    b = rng.normal(size=50).astype(np.float32)
    found = _Sums.of(parents, b).solve()
    differences = np.stack([p.astype(np.float64) - parents[0] for p in parents[1:]], axis=1)
    naive, *_ = np.linalg.lstsq(differences, b.astype(np.float64) - parents[0], rcond=None)
    assert np.allclose(found[1:], naive, atol=1e-8)
    assert abs(found.sum() - 1) < 1e-9


@pytest.mark.parametrize(
    ("kind", "names", "arguments", "expected"),
    [
        ("linear", HEIRS, {"coefficients": [0.7, 0.3]}, [0.7, 0.3]),
        ("linear", ["a", "a-zh-3x"], {"coefficients": [0.2, 0.8]}, [0.2, 0.8]),
        ("slerp", HEIRS, {"t": 0.3}, [0.7, 0.3]),
        ("task_arithmetic", ["a", *HEIRS], {"scale": 0.4}, [0.2, 0.4, 0.4]),
        ("dare", ["a", *HEIRS], {"drop": 0.5, "seed": 1}, [0.0, 0.5, 0.5]),
    ],
)
def test_coefficients_are_recovered(
    kind: str, names: list[str], arguments: dict[str, Any], expected: list[float], tmp_path: Path
) -> None:
    comparison = compare(
        ZOO / names[0], merge(kind, names, tmp_path / "b", **arguments), also=[ZOO / n for n in names[1:]]
    )
    found = comparison.merge
    assert found is not None
    assert found.total is not None
    assert np.abs(np.array(found.total.coefficients) - expected).max() <= 0.02
    assert found.plain == (kind in ("linear", "task_arithmetic"))
    assert found.along_arcs == (kind == "slerp")
    assert ("merged" in {step.kind for step in comparison.operations}) == (kind != "dare")
    if found.plain:
        assert all(np.abs(np.array(layer.coefficients) - expected).max() <= 0.02 for layer in found.layers)
        assert comparison.relation == "a_to_b"


def test_a_parent_does_not_follow_from_the_merge(tmp_path: Path) -> None:
    folder = merge("linear", HEIRS, tmp_path / "b", coefficients=[0.7, 0.3])
    comparison = compare(folder, ZOO / HEIRS[0], also=[ZOO / HEIRS[1]])
    assert comparison.relation != "a_to_b"
    assert comparison.merge is not None
    assert comparison.merge.fact is None


def test_number_wise_merges_leave_a_rest_and_say_so(tmp_path: Path) -> None:
    found = fit(merge("ties", ["a", *HEIRS], tmp_path / "b", density=0.3), "a", *HEIRS)
    assert not found.plain
    assert found.equal[0] > 0.3
    assert "TIES" in found.text


def test_an_independent_parent_has_no_part(tmp_path: Path) -> None:
    found = fit(merge("linear", HEIRS, tmp_path / "b", coefficients=[0.7, 0.3]), HEIRS[0], "b")
    assert found.total is not None
    assert abs(found.total.coefficients[1]) < 0.05
    assert found.total.low[1] < 0 < found.total.high[1]
    assert not found.plain


def test_parents_that_cannot_be_told_apart_are_warned_of(tmp_path: Path) -> None:
    folder = merge("linear", HEIRS, tmp_path / "b", coefficients=[0.5, 0.5])
    same = fit(folder, HEIRS[0], HEIRS[1], HEIRS[1])
    assert same.collinear
    assert len(same.warnings) == 2
    assert not same.plain
    assert not fit(folder, HEIRS[0], HEIRS[1], "a").collinear


def test_parents_of_other_shapes_are_absent_with_a_reason() -> None:
    assert (
        "no tensor" in (fit(ZOO / "a-zh-0.2x", "a", "a-pruned").absent or "")
        or fit(ZOO / "a-zh-0.2x", "a", "a-pruned").layers
    )
    found = fit(ZOO / "a-zh-0.2x", "a", "llama-48-00")
    assert found.absent == "P2 has 48 residual channels, A 64"
    assert fit(ZOO / "b", "a", "a-zh-1x").absent == "no relation was found"


def test_without_other_parents_there_is_nothing() -> None:
    comparison = compare(ZOO / "a", ZOO / "a-zh-0.2x")
    assert comparison.merge is None
    assert comparison.to_json()["derivation"]["merges"] is None
