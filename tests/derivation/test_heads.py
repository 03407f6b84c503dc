"""Attention heads of whole models: which head of A each head of B is, through every disguise; and tensors put back in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.checkpoint.writers import encode_safetensors
from tests.derivation.make import ZOO, derive

from homolog.comparison import Comparison
from homolog.lab.merges import apply_merge
from homolog.lab.operations import apply_operation
from homolog.lab.store import load_model, load_truth, save_weights
from homolog.pipeline import compare

PERMUTED: dict[str, Any] = {"kind": "permute_heads", "seed": 3}
MIXED: dict[str, Any] = {"kind": "mix_values", "seed": 3}
HIDDEN: list[dict[str, Any]] = [
    PERMUTED,
    MIXED,
    {"kind": "permute_units", "seed": 3},
    {"kind": "rotate_residual", "seed": 3},
]
OF_HEADS = {"heads_permuted", "heads_pruned", "heads_added", "values_mixed", "values_permuted"}


def heads_in(comparison: Comparison) -> dict[int, Any]:
    layers = comparison.to_json()["derivation"]["layers"]
    return {layer["b"]: layer["heads"] for layer in layers}


def named(comparison: Comparison) -> set[str]:
    return {step.kind for step in comparison.operations} & OF_HEADS


@pytest.mark.parametrize("name", ["c-zh-1x", "d-zh-1x", "g-zh-1x", "k-zh-0.4x", "s-width-pruned", "m-zh-0.4x"])
@pytest.mark.parametrize("hidden", [False, True])
def test_heads_of_trained_copies_are_found(name: str, hidden: bool, tmp_path: Path) -> None:
    root = load_truth(ZOO / name)["parent"]
    shape, _ = load_model(ZOO / name)
    steps = [
        step
        for step in (HIDDEN if hidden else [PERMUTED])
        if step["kind"] != "rotate_residual" or shape.family != "gpt2"
    ]
    folder, facts = derive(name, tmp_path / "b", *steps)
    comparison = compare(ZOO / root, folder)
    expected = facts[0]["heads"]
    for layer, found in heads_in(comparison).items():
        assert found["sources"] == expected[layer]
        assert found["values"] == ("mixed" if hidden else "kept")
        assert (found["unrecognised"], found["missing"], found["copied"]) == (0, 0, 0)
    assert named(comparison) == ({"heads_permuted", "values_mixed"} if hidden else {"heads_permuted"})


@pytest.mark.parametrize("name", ["a-zh-1x", "c-solar", "d-grown", "g-dropped", "q-pangu", "s-zh-0.5x"])
def test_nothing_is_said_of_heads_that_stayed_where_they_were(name: str) -> None:
    comparison = compare(ZOO / load_truth(ZOO / name)["parent"], ZOO / name)
    assert named(comparison) == set()
    known = [found for found in heads_in(comparison).values() if found and found["a"]]
    assert known
    assert all(found["sources"] == list(range(found["b"])) for found in known)
    assert {(found["order"], found["values"]) for found in known} == {("kept", "kept")}


def test_independent_models_have_no_heads_in_common() -> None:
    for a, b in (("a", "b"), ("c", "d"), ("a", "a-order2")):
        assert set(heads_in(compare(ZOO / a, ZOO / b)).values()) == {None}


def test_heads_of_a_new_layer_are_recognised_nowhere() -> None:
    found = heads_in(compare(ZOO / "a", ZOO / "a-inserted"))
    for layer in (2, 5):
        assert found[layer]["sources"] == [None] * 4
        assert (found[layer]["a"], found[layer]["unrecognised"]) == (0, 4)
    assert found[3]["sources"] == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["a-zh-0.2x", "d-zh-1x", "k-zh-0.4x"])
def test_dropped_heads_are_counted(name: str, tmp_path: Path) -> None:
    root = load_truth(ZOO / name)["parent"]
    folder, facts = derive(name, tmp_path / "b", {"kind": "prune_heads", "groups": 1})
    found, kept = heads_in(comparison := compare(ZOO / root, folder)), facts[0]["heads"]
    of = {"a": load_model(ZOO / name)[0].heads, "b": len(kept[0])}
    for layer, heads in found.items():
        assert heads["sources"] == kept[layer]
        assert {key: heads[key] for key in of} == of
        assert heads["missing"] == of["a"] - of["b"]
    assert named(comparison) == {"heads_pruned"}
    grown = compare(folder, ZOO / root)
    for layer, heads in heads_in(grown).items():
        assert heads["sources"] == [kept[layer].index(i) if i in kept[layer] else None for i in range(of["a"])]
    assert named(grown) == {"heads_added"}


def test_heads_that_the_younger_lacks_leave_the_order_open(tmp_path: Path) -> None:
    shape, weights = load_model(ZOO / "a")
    rng = np.random.default_rng(1)
    finer = {key: (x * (1 + 1e-4 * rng.standard_normal(x.shape))).astype(np.float32) for key, x in weights.items()}
    pruned = apply_operation(shape, finer, {"kind": "prune_heads", "groups": 1})
    for name, kept, tensors in (("a", shape, finer), ("whole", shape, finer), ("b", pruned.shape, pruned.weights)):
        save_weights(tmp_path / name, kept, tensors)
        (tmp_path / name / "tokenizer.json").write_bytes((ZOO / "a" / "tokenizer.json").read_bytes())
    (tmp_path / "a" / "model.safetensors").write_bytes(encode_safetensors(dict(sorted(finer.items()))))
    for a, b, order in (("a", "b", "a_to_b"), ("b", "a", "b_to_a")):
        direction = compare(tmp_path / a, tmp_path / b).direction
        assert [fact.direction for fact in direction.facts if fact.kind == "numbers_rounded"] == [order]
        assert direction.relation == "undirected"
        assert "parts that the younger lacks" in direction.why
    assert compare(tmp_path / "a", tmp_path / "whole").relation == "a_to_b"


@pytest.mark.parametrize("name", ["a", "g", "k", "m", "q-pangu"])
def test_tensors_of_permuted_heads_are_put_back(name: str, tmp_path: Path) -> None:
    folder, _ = derive(
        name, tmp_path / "b", PERMUTED, {"kind": "permute_units", "seed": 3}, {"kind": "permute_residual", "seed": 3}
    )
    tensors = compare(ZOO / name, folder).map.tensors
    assert tensors.count("frozen") == len(tensors.states)


@pytest.mark.parametrize("name", ["a", "g", "k", "m", "q-pangu"])
@pytest.mark.parametrize("steps", [[MIXED], [PERMUTED, MIXED, {"kind": "permute_residual", "seed": 3}]])
def test_tensors_of_mixed_values_are_mixed_likewise(name: str, steps: list[dict[str, Any]], tmp_path: Path) -> None:
    folder, _ = derive(name, tmp_path / "b", *steps)
    tensors = compare(ZOO / name, folder).map.tensors
    assert tensors.count("replaced") == tensors.count("new") == 0
    for state in tensors.states:
        mixed = state.role.kind == "attn.v" or (state.role.kind, state.role.part) == ("attn.o", "weight")
        assert state.change is not None
        # Biases are a vector a head: their rounding is not made up for by that of others.
        assert state.change < (0.02 if mixed else 1e-9)


def test_values_that_were_drawn_anew_are_replaced_and_not_mixed(tmp_path: Path) -> None:
    folder, _ = derive("a", tmp_path / "b")
    shape, weights = load_model(ZOO / "a")
    rng = np.random.default_rng(1)
    for layer in range(shape.layers):
        for part in "vo":
            key = f"model.layers.{layer}.self_attn.{part}_proj.weight"
            weights[key] = (weights[key].std() * rng.standard_normal(weights[key].shape)).astype(np.float32)
    save_weights(folder, shape, weights)
    comparison = compare(ZOO / "a", folder)
    assert named(comparison) == set()
    assert {found["values"] for found in heads_in(comparison).values()} == {"none"}
    replaced = [state.role.kind for state in comparison.map.tensors.states if state.state == "replaced"]
    assert sorted(replaced) == sorted(["attn.o", "attn.v"] * shape.layers)


def test_low_rank_updates_are_seen_in_heads_that_moved(tmp_path: Path) -> None:
    plain = compare(ZOO / "a", ZOO / "a-low-rank").map.tensors
    folder, _ = derive("a-low-rank", tmp_path / "b", PERMUTED)
    moved = compare(ZOO / "a", folder).map.tensors
    assert moved.rank == plain.rank == 8
    assert len(moved.low_rank) == len(plain.low_rank)
    assert [state.state for state in moved.states] == [state.state for state in plain.states]


def test_coefficients_of_a_merge_whose_heads_moved(tmp_path: Path) -> None:
    models = [load_model(ZOO / name) for name in ("a-zh-1x", "a-code-tuned")]
    merged = apply_merge("linear", [weights for _, weights in models], coefficients=[0.7, 0.3])
    outcome = apply_operation(models[0][0], merged, PERMUTED)
    save_weights(tmp_path / "b", outcome.shape, outcome.weights)
    (tmp_path / "b" / "tokenizer.json").write_bytes((ZOO / "a" / "tokenizer.json").read_bytes())
    found = compare(ZOO / "a-zh-1x", tmp_path / "b", also=[ZOO / "a-code-tuned"]).merge
    assert found is not None
    assert found.total is not None
    assert found.plain
    assert np.abs(np.array(found.total.coefficients) - [0.7, 0.3]).max() < 0.01
