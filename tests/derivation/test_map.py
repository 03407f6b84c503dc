"""Units, experts, token rows and tensors of whole models, with what is known of how they were made; twins show none of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.derivation.make import ZOO, derive

from homolog.comparison import Comparison
from homolog.lab.store import load_truth
from homolog.pipeline import compare


def of_zoo(a: str, b: str) -> Comparison:
    return compare(ZOO / a, ZOO / b)


@pytest.mark.parametrize("name", ["a-widened", "a-interleaved"])
def test_new_units_are_told_from_carried_ones(name: str) -> None:
    new = set(load_truth(ZOO / name)["operations"][0]["facts"]["new_units"])
    found = of_zoo("a", name).map
    for units in found.units.values():
        assert (units.b, units.a, units.new, units.carried, units.widened, units.pruned) == (192, 128, 64, 128, 64, 0)
        assert units.order == "kept"
    for origin in found.origins.values():
        assert set(np.flatnonzero(origin.block < 0).tolist()) == new
        assert origin.unit[origin.block >= 0].tolist() == list(range(128))


def test_pruned_units_are_counted() -> None:
    kept = load_truth(ZOO / "a-pruned")["operations"][0]["facts"]["kept_units"]
    found = of_zoo("a", "a-pruned").map
    assert [units.pruned for units in found.units.values()] == [48] * 5
    assert [origin.unit.tolist() for origin in found.origins.values()] == kept


def test_split_units_go_back_to_one(tmp_path: Path) -> None:
    folder, _ = derive("a", tmp_path / "b", {"kind": "split_units", "seed": 3})
    for units in compare(ZOO / "a", folder).map.units.values():
        assert units.split > 0
        assert units.carried == units.b
        assert units.copied == units.split
        assert units.pruned == 0


def test_units_are_found_in_another_order_and_basis(tmp_path: Path) -> None:
    steps = ({"kind": "permute_units", "seed": 3}, {"kind": "rotate_residual", "seed": 3})
    folder, _ = derive("a-zh-0.2x", tmp_path / "b", *steps)
    found = compare(ZOO / "a", folder).map
    assert [units.carried for units in found.units.values()] == [128] * 5
    assert {units.order for units in found.units.values()} == {"permuted"}
    assert found.tensors.absent is not None
    assert "another basis" in found.tensors.absent


def test_channels_in_another_order_are_put_back(tmp_path: Path) -> None:
    folder, _ = derive(
        "a", tmp_path / "b", {"kind": "permute_residual", "seed": 3}, {"kind": "permute_units", "seed": 3}
    )
    tensors = compare(ZOO / "a", folder).map.tensors
    assert tensors.count("frozen") == len(tensors.states)


def test_new_layers_have_new_units() -> None:
    found = of_zoo("a", "a-inserted").map
    new = {layer for layer, units in found.units.items() if units.new == units.b}
    assert new == {2, 5}
    assert all(units.carried == units.b for layer, units in found.units.items() if layer not in new)


def test_experts_hold_parts_of_one_ffn() -> None:
    comparison = of_zoo("q", "q-pangu")
    facts = load_truth(ZOO / "q-pangu")["operations"][0]["facts"]["units"]
    for place, origin in comparison.map.origins.items():
        wanted = facts[place.layer][-1 if place.shared else place.expert]
        assert origin.unit.tolist() == wanted
        ((source, count),) = origin.shares()
        assert (source.layer, source.expert, source.shared) == (place.layer, -1, False)
        assert count == sum(unit >= 0 for unit in wanted)
    rows = comparison.to_json()["derivation"]["experts"]
    assert [row["found"] >= 140 for row in rows["from_a"]] == [True] * 4
    assert {row["new"] for row in rows["rows"]} == {0, 9}


def test_experts_in_another_order_are_named(tmp_path: Path) -> None:
    folder, _ = derive("m", tmp_path / "b", {"kind": "permute_experts", "seed": 3})
    experts = compare(ZOO / "m", folder).to_json()["derivation"]["experts"]
    assert experts["permuted"]
    rows = [row for row in experts["rows"] if not row["shared"]]
    assert all(row["sources"][0]["share"] == 1.0 for row in rows)
    assert any(row["sources"][0]["expert"] != row["expert"] for row in rows)
    assert sorted(row["sources"][0]["expert"] for row in rows if row["layer"] == 0) == list(range(8))


def test_a_mixture_with_more_experts_than_the_other(tmp_path: Path) -> None:
    folder, facts = derive("m", tmp_path / "b", {"kind": "grow_experts", "experts": 2, "seed": 3})
    rows = compare(ZOO / "m", folder).to_json()["derivation"]["experts"]["rows"]
    for row in rows:
        if not row["shared"]:
            old = facts[0]["experts"][row["expert"]]
            assert [source["expert"] for source in row["sources"][:1]] == ([] if old is None else [old])


def test_independent_models_have_no_map() -> None:
    for a, b in (("a", "b"), ("m", "q-pangu"), ("moe-32-00", "moe-32-01"), ("a", "a-order2")):
        derivation = of_zoo(a, b).to_json()["derivation"]
        for part in ("experts", "vocabulary", "tensors", "low_rank"):
            assert derivation[part]["absent"] == "no relation was found"
        assert all(layer["units"] is None for layer in derivation["layers"])


def test_a_dense_pair_has_no_experts() -> None:
    assert (
        of_zoo("a", "a-pruned").to_json()["derivation"]["experts"]["absent"] == "neither model is a mixture of experts"
    )


def test_frozen_tensors_are_counted() -> None:
    tensors = of_zoo("a", "a-frozen-core").map.tensors
    assert tensors.count("frozen") == sum(state.source is not None for state in tensors.states) == 48
    assert {state.role.layer for state in tensors.states if state.state == "new"} == {0, 6} or tensors.count(
        "new"
    ) == 18
    moved = of_zoo("a", "a-zh-0.2x").map.tensors
    assert moved.count("changed") == 48


def test_rounding_is_nearly_frozen(tmp_path: Path) -> None:
    folder, _ = derive("a", tmp_path / "b", {"kind": "add_noise", "relative": 0.001, "seed": 1})
    tensors = compare(ZOO / "a", folder).map.tensors
    assert tensors.count("near_frozen") + tensors.count("frozen") == len(tensors.states)


def test_a_low_rank_update_has_its_rank() -> None:
    comparison = of_zoo("a", "a-low-rank")
    assert comparison.map.tensors.rank == 8
    assert {found.role.layer for found in comparison.map.tensors.low_rank} == {1, 2, 3}
    kinds = {step.kind for step in comparison.operations}
    assert "low_rank_update" in kinds
    assert "continued_training" not in kinds


@pytest.mark.parametrize("name", ["a-zh-0.2x", "a-code-tuned", "a-washed"])
def test_training_of_everything_has_no_low_rank(name: str) -> None:
    comparison = of_zoo("a", name)
    assert comparison.map.tensors.low_rank == ()
    assert comparison.map.tensors.tested > 30
    assert "low_rank_update" not in {step.kind for step in comparison.operations}


def test_heads_that_swapped_places_are_no_low_rank_update(tmp_path: Path) -> None:
    folder, _ = derive("a", tmp_path / "b", {"kind": "permute_heads", "seed": 1})
    comparison = compare(ZOO / "a", folder)
    assert comparison.map.tensors.rank is None
    assert "low_rank_update" not in {step.kind for step in comparison.operations}


def test_token_rows_carried_and_drawn_anew(tmp_path: Path) -> None:
    grown, _ = derive("a-zh-0.2x", tmp_path / "b", {"kind": "extend_vocabulary", "tokens": 16, "seed": 3})
    rows = compare(ZOO / "a", grown).map.vocabulary.to_json()
    assert (rows["joined"], rows["new"], rows["dropped"], rows["identical"]) == (512, 16, 0, 0)
    assert rows["carried"] >= 500
    anew = of_zoo("b", "b-embeddings").map.vocabulary.to_json()
    assert anew["retrained"] >= 500


def test_no_shared_token_is_absent_with_its_reason(tmp_path: Path) -> None:
    folder, _ = derive("a-zh-0.2x", tmp_path / "b")
    document = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    vocabulary = document["model"]["vocab"]
    document["model"]["vocab"] = {f"%{token}%": i for token, i in vocabulary.items()}
    document["model"]["merges"], document["added_tokens"] = [], []
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    comparison = compare(ZOO / "a", folder)
    assert comparison.verdict.verdict == "related"
    assert comparison.map.vocabulary.absent == "no token in common"
    assert comparison.map.units[0].carried == 128


def test_a_model_with_one_layer(tmp_path: Path) -> None:
    folder, _ = derive("a", tmp_path / "b", {"kind": "keep_layers", "layers": [2]})
    comparison = compare(ZOO / "a", folder)
    assert [origin.a for origin in comparison.origins] == [2]
    assert comparison.map.units[0].carried == 128
    assert compare(folder, ZOO / "a").map.absent is None
