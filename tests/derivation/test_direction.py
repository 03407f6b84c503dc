"""A direction is named where a fact holds in one order only and the elder has nothing else; siblings never get one."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.derivation.make import ZOO, derive, move_on

from homolog.pipeline import compare


def relation(a: str | Path, b: str | Path) -> str | None:
    return compare(ZOO / a, ZOO / b).relation


@pytest.mark.parametrize(
    ("parent", "child"), [("a", "a-solar"), ("a", "a-code-tuned"), ("k", "k-zh-0.4x"), ("a", "a-zh-1x")]
)
def test_decayed_rows_exclude_one_order_both_ways_round(parent: str, child: str) -> None:
    forth, back = compare(ZOO / parent, ZOO / child).direction, compare(ZOO / child, ZOO / parent).direction
    assert {fact.direction for fact in forth.facts if fact.kind == "rows_decayed"} == {"a_to_b"}
    assert {fact.direction for fact in back.facts if fact.kind == "rows_decayed"} == {"b_to_a"}
    assert forth.relation == back.relation == "undirected", "a sibling with its ancestor's frozen table looks the same"
    assert "ancestor" in forth.why


def test_an_update_of_low_rank_is_told_both_ways_round() -> None:
    assert relation("a", "a-low-rank") == "a_to_b"
    assert relation("a-low-rank", "a") == "b_to_a"


def test_copied_experts_show_where_they_parted() -> None:
    assert {fact.kind for fact in compare(ZOO / "q", ZOO / "q-upcycled").direction.facts} == {"experts_forked"}
    assert compare(ZOO / "q-zh-1x", ZOO / "q-upcycled").direction.facts == ()


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("a-zh-0.2x", "a-solar"),
        ("a-low-rank", "a-code-tuned"),
        ("a-low-rank", "a-solar"),
        ("a-frozen-core", "a-low-rank"),
        ("a-frozen-core", "a-inserted"),
        ("a-same-1x", "a-zh-1x"),
        ("a-pruned", "a-widened"),
        ("s-width-pruned", "s-zh-0.5x"),
    ],
)
def test_siblings_get_no_direction(a: str, b: str) -> None:
    assert relation(a, b) == relation(b, a) == "undirected"


def test_pruning_is_told_from_growing_and_not_more_than_that() -> None:
    pruned = compare(ZOO / "a", ZOO / "a-pruned").direction
    assert "units_pruned" in {fact.kind for fact in pruned.facts}
    for a, b in (("a-interleaved", "a"), ("a", "a-interleaved"), ("a-widened", "a")):
        assert "units_pruned" not in {fact.kind for fact in compare(ZOO / a, ZOO / b).direction.facts}


def test_new_layers_around_a_frozen_core_look_like_dropped_ones() -> None:
    assert relation("a", "a-frozen-core") == relation("a-frozen-core", "a") == "undirected"


def test_independent_models_have_no_direction() -> None:
    comparison = compare(ZOO / "a", ZOO / "b")
    assert comparison.relation is None
    assert comparison.direction.facts == ()


def test_copied_layers_that_are_still_the_same(tmp_path: Path) -> None:
    folder, _ = derive("a-zh-1x", tmp_path / "b", {"kind": "keep_layers", "layers": [0, 1, 2, 1, 2, 3, 4]})
    assert "layers_copied" in {fact.kind for fact in compare(ZOO / "a-zh-1x", folder).direction.facts}
    assert relation("a-zh-1x", folder) == "a_to_b"
    assert relation(folder, "a-zh-1x") == "b_to_a"
    assert relation("a", folder) == "undirected"


@pytest.mark.parametrize("kind", ["int4", "nf4"])
def test_numbers_moved_to_levels_were_first_between_them(kind: str, tmp_path: Path) -> None:
    folder, _ = derive("a", tmp_path / "b", {"kind": "quantise", "format": kind})
    forth, back = compare(ZOO / "a", folder), compare(folder, ZOO / "a")
    assert {forth.relation, back.relation} == {"a_to_b", "b_to_a"}
    assert forth.direction.facts[0].kind == "lattice_rounded"
    assert compare(ZOO / "a-zh-0.2x", folder).relation == "undirected"


def test_what_was_moved_on_in_numpy_is_later(tmp_path: Path) -> None:
    child = move_on("a-zh-1x", tmp_path / "child", seed=1)
    sibling = move_on("a-zh-1x", tmp_path / "sibling", seed=2, factor=0.9281)
    assert [fact.direction for fact in compare(ZOO / "a-zh-1x", child).direction.facts] == ["a_to_b"]
    assert compare(child, sibling).direction.facts == ()
