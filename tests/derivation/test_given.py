"""A third model: siblings are not each other's children, and a chain is not a pair of siblings."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.derivation.make import ZOO, move_on

from homolog.derivation.given import GivenModel, find_between
from homolog.pipeline import compare


def given(a: str | Path, b: str | Path, c: str | Path) -> GivenModel:
    found = compare(ZOO / a, ZOO / b, given=ZOO / c).given
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("a", "b", "c"),
    [("a-zh-0.2x", "a-zh-1x", "a"), ("a-solar", "a-code-tuned", "a"), ("s-width-pruned", "s-zh-0.5x", "s")],
)
def test_siblings(a: str, b: str, c: str) -> None:
    assert given(a, b, c).outcome == given(b, a, c).outcome == "sibling"


def test_a_chain_is_told_in_every_order(tmp_path: Path) -> None:
    child = move_on("a-zh-1x", tmp_path / "child", seed=1)
    assert given("a-zh-1x", child, "a").outcome == "c_a_b"
    assert given(child, "a-zh-1x", "a").outcome == "c_b_a"
    assert given("a", child, "a-zh-1x").outcome == "a_c_b"
    assert given("a", "a-zh-1x", child).outcome == "a_b_c"


def test_models_without_unused_rows_are_undecided_but_placed() -> None:
    found = given("q-upcycled", "q-zh-1x", "q")
    assert found.outcome == "undecided"
    assert found.between == "c"
    assert found.edges == ()


def test_rows_that_two_models_share_decide_nothing() -> None:
    assert given("a-low-rank", "a-zh-0.2x", "a").outcome == "undecided"


def test_an_unrelated_model_is_absent_with_its_reason() -> None:
    assert given("a", "b", "c").absent == "A and B: no relation was found"
    assert given("a", "a-zh-1x", "b").absent == "C and A: no relation was found"
    document = compare(ZOO / "a", ZOO / "a-zh-1x", given=ZOO / "b").to_json()["derivation"]["given"]
    assert document["outcome"] == "undecided"
    assert compare(ZOO / "a", ZOO / "a-zh-1x").to_json()["derivation"]["given"] is None


def test_between_needs_a_clear_overlap() -> None:
    assert find_between({}) is None
    assert find_between({"a_in_b_since_c": 0.3, "b_in_a_since_c": 0.1}) == "c"
    assert find_between({"a_in_b_since_c": 0.7, "b_in_a_since_c": 0.2}) is None
    assert find_between({"a_in_b_since_c": 0.95, "b_in_a_since_c": 0.55}) == "a"
    assert find_between({"a_in_b_since_c": 0.95, "b_in_a_since_c": 0.9}) is None, (
        "either may have gone on from the other"
    )
    assert find_between({"a_in_b_since_c": 0.4, "b_in_a_since_c": 0.9}) == "b"
