"""A direction is named where a fact holds in one order only and the elder has nothing else; siblings never get one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.derivation.make import ZOO, derive, move_on, save

from homolog.lab.store import load_model
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


DISGUISES: dict[str, list[dict[str, Any]]] = {
    "folded": [{"kind": "fold_norms"}],
    "rescaled": [{"kind": "rescale", "seed": 1}],
    "mixed": [{"kind": "mix_values", "seed": 1}],
    "turned": [{"kind": "permute_heads", "seed": 1}, {"kind": "rotate_residual", "seed": 1}],
    "all": [
        {"kind": kind, "seed": 1}
        for kind in ("permute_units", "permute_heads", "mix_values", "rescale", "rotate_residual")
    ],
}


@pytest.mark.parametrize("kind", DISGUISES)
def test_a_disguised_copy_follows_from_its_original_both_ways_round(kind: str, tmp_path: Path) -> None:
    folder, _ = derive("a-zh-1x", tmp_path / "b", *DISGUISES[kind])
    forth, back = compare(ZOO / "a-zh-1x", folder), compare(folder, ZOO / "a-zh-1x")
    assert (forth.relation, back.relation) == ("a_to_b", "b_to_a")
    assert [fact.kind for fact in forth.direction.facts] == ["numbers_follow"]
    assert compare(ZOO / "a", folder).relation == "undirected", "its original's parent is not its original"


@pytest.mark.parametrize(("first", "second"), [("folded", "turned"), ("mixed", "rescaled"), ("rescaled", "all")])
def test_two_disguised_copies_of_one_model_get_no_direction(first: str, second: str, tmp_path: Path) -> None:
    a, b = (derive("a", tmp_path / kind, *DISGUISES[kind])[0] for kind in (first, second))
    assert compare(a, b).relation == "undirected"


@pytest.mark.parametrize("changed", ["layers.4.mlp.down_proj", "layers.0.self_attn.q_proj", "embed_tokens"])
def test_a_sibling_with_one_matrix_of_its_own_is_not_what_a_disguised_copy_follows_from(
    changed: str, tmp_path: Path
) -> None:
    folder, _ = derive("a", tmp_path / "b", *DISGUISES["all"])
    shape, weights = load_model(ZOO / "a")
    name = f"model.{changed}.weight"
    rng = np.random.default_rng(1)
    few = weights[name].copy()
    few[:8] += 0.05 * few.std() * rng.standard_normal(few[:8].shape).astype(np.float32)
    sibling = save("a", tmp_path / "sibling", shape, weights | {name: few})
    assert compare(sibling, folder).relation == compare(folder, sibling).relation == "undirected"


@pytest.mark.parametrize("sibling", ["a-low-rank", "a-frozen-core", "a-same-1x", "a-zh-0.2x"])
def test_heirs_are_not_what_a_disguised_copy_of_their_parent_follows_from(sibling: str, tmp_path: Path) -> None:
    folder, _ = derive("a", tmp_path / "b", *DISGUISES["folded"])
    assert compare(ZOO / sibling, folder).relation == compare(folder, ZOO / sibling).relation == "undirected"


def test_numbers_that_only_moved_tell_no_order(tmp_path: Path) -> None:
    moved = [{"kind": kind, "seed": 1} for kind in ("permute_units", "permute_heads", "permute_residual", "flip_signs")]
    folder, _ = derive("a", tmp_path / "b", *moved)
    assert compare(ZOO / "a", folder).direction.facts == ()


@pytest.mark.parametrize("kind", ["int8", "fp8", "int4", "nf4"])
@pytest.mark.parametrize("name", ["a-zh-1x", "q", "m"])
def test_numbers_put_through_few_bits_are_later(name: str, kind: str, tmp_path: Path) -> None:
    folder, _ = derive(name, tmp_path / "b", {"kind": "quantise", "format": kind})
    forth, back = compare(ZOO / name, folder), compare(folder, ZOO / name)
    assert (forth.relation, back.relation) == ("a_to_b", "b_to_a")
    assert [fact.kind for fact in forth.direction.facts] == ["lattice_rounded"]
    assert kind in forth.direction.facts[0].text


@pytest.mark.parametrize("kind", ["int8", "int4", "fp8"])
@pytest.mark.parametrize("sibling", ["a-low-rank", "a-frozen-core", "a-same-1x", "a-zh-0.2x"])
def test_heirs_are_not_what_a_quantised_copy_of_their_parent_came_from(sibling: str, kind: str, tmp_path: Path) -> None:
    folder, _ = derive("a", tmp_path / "b", {"kind": "quantise", "format": kind})
    assert compare(ZOO / sibling, folder).relation == compare(folder, ZOO / sibling).relation == "undirected"


@pytest.mark.parametrize("kind", ["int8", "int4", "nf4"])
@pytest.mark.parametrize("changed", ["norm", "embed_tokens", "layers.2.mlp.up_proj"])
def test_a_sibling_with_one_tensor_of_its_own_is_not_what_a_quantised_copy_came_from(
    changed: str, kind: str, tmp_path: Path
) -> None:
    folder, _ = derive("a", tmp_path / "b", {"kind": "quantise", "format": kind})
    shape, weights = load_model(ZOO / "a")
    name = f"model.{changed}.weight"
    noise = np.random.default_rng(1).standard_normal(weights[name].shape).astype(np.float32)
    own = weights[name] + 0.1 * weights[name].std() * noise
    sibling = save("a", tmp_path / "sibling", shape, weights | {name: own})
    assert compare(sibling, folder).relation == compare(folder, sibling).relation == "undirected"


def test_two_quantised_copies_get_no_direction(tmp_path: Path) -> None:
    a, b = (derive("a", tmp_path / kind, {"kind": "quantise", "format": kind})[0] for kind in ("int8", "fp8"))
    assert compare(a, b).relation == compare(b, a).relation == "undirected"


def test_pruning_and_nothing_else_is_told_both_ways_round(tmp_path: Path) -> None:
    folder, _ = derive("a-zh-1x", tmp_path / "b", {"kind": "prune_ffn", "units": 64})
    forth, back = compare(ZOO / "a-zh-1x", folder), compare(folder, ZOO / "a-zh-1x")
    assert (forth.relation, back.relation) == ("a_to_b", "b_to_a")
    assert "only_pruned" in {fact.kind for fact in forth.direction.facts}


@pytest.mark.parametrize("sibling", ["a-low-rank", "a-frozen-core", "a-same-1x", "a-zh-0.2x"])
def test_heirs_are_not_what_a_pruned_copy_of_their_parent_came_from(sibling: str, tmp_path: Path) -> None:
    folder, _ = derive("a", tmp_path / "b", {"kind": "prune_ffn", "units": 64})
    assert compare(ZOO / sibling, folder).relation == compare(folder, ZOO / sibling).relation == "undirected"


def test_units_added_here_and_there_are_not_taken_for_pruned_ones(tmp_path: Path) -> None:
    folder, _ = derive("a", tmp_path / "b", {"kind": "widen_ffn", "units": 64, "interleave": True, "seed": 1})
    assert compare(ZOO / "a", folder).relation == compare(folder, ZOO / "a").relation == "undirected"


def test_a_copy_with_layers_twice_is_not_what_an_heir_of_its_original_was_updated_from(tmp_path: Path) -> None:
    folder, _ = derive("a", tmp_path / "b", {"kind": "keep_layers", "layers": [0, 1, 2, 3, 1, 2, 3, 4]})
    assert relation("a-low-rank", folder) == relation(folder, "a-low-rank") == "undirected"
