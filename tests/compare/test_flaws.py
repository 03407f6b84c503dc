"""Broken numbers and odd models: a warning and an absent group with its reason, never a crash and never a guess."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.compare.disguise import Tensors, load, pick_layers, pick_units, save

from homolog.errors import UsageError
from homolog.pipeline import compare

ZOO = Path(__file__).parents[1] / "zoo"
FFN = "model.layers.{}.mlp.{}.weight"


@pytest.fixture
def copy() -> Tensors:
    return load(ZOO / "a-same-1x")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_inf_are_warnings_and_leave_the_rest_to_decide(copy: Tensors, value: float, tmp_path: Path) -> None:
    copy[FFN.format(2, "up_proj")][5, 7] = value
    comparison = compare(ZOO / "a", save(copy, ZOO / "a", tmp_path / "b"))
    assert comparison.verdict.verdict == "related"
    assert comparison.warnings == ("B: FFN of layer 2: contains NaN or Inf",)
    rows = comparison.findings[0]
    assert rows.absent_groups == {"layer 2": "contains NaN or Inf"}
    assert {group.b_layer for group in rows.groups} == {0, 1, 3, 4}


def test_nan_everywhere_is_inconclusive(copy: Tensors, tmp_path: Path) -> None:
    ruined = {name: np.full_like(tensor, np.nan) for name, tensor in copy.items()}
    comparison = compare(ZOO / "a", save(ruined, ZOO / "a", tmp_path / "b"))
    assert comparison.verdict.verdict == "inconclusive"
    assert comparison.exit_code == 3
    assert all(finding.absent for finding in comparison.findings)
    assert comparison.to_json()["log10_p"] is None


def test_zeroed_layers_are_named(copy: Tensors, tmp_path: Path) -> None:
    for matrix in ("gate_proj", "up_proj", "down_proj"):
        copy[FFN.format(1, matrix)][:] = 0.0
    comparison = compare(ZOO / "a", save(copy, ZOO / "a", tmp_path / "b"))
    assert comparison.verdict.verdict == "related"
    assert comparison.warnings == ("B: FFN of layer 1: all zero",)
    assert comparison.origins[1].a is None


def test_all_zero_is_inconclusive(copy: Tensors, tmp_path: Path) -> None:
    nothing = {name: np.zeros_like(tensor) for name, tensor in copy.items()}
    assert compare(ZOO / "a", save(nothing, ZOO / "a", tmp_path / "b")).verdict.verdict == "inconclusive"


def test_padding_with_the_same_zero_units_is_no_evidence(tmp_path: Path) -> None:
    """Both twins end in 32 zero units and share 32 constant ones: equal indices that say nothing."""
    padded = []
    for name in ("a", "b"):
        tensors = load(ZOO / name)
        for layer in range(5):
            for matrix in ("gate_proj", "up_proj"):
                tensors[FFN.format(layer, matrix)][96:] = 0.0
                tensors[FFN.format(layer, matrix)][64:96] = 1.0
        padded.append(save(tensors, ZOO / name, tmp_path / name))
    comparison = compare(*padded)
    assert comparison.verdict.verdict == "independent"


def test_units_sorted_by_size_in_both_models_are_left_out(tmp_path: Path) -> None:
    """Two independent models sorted by importance would match by rank; the order is seen and the groups abstain."""
    ordered = []
    for name in ("a", "b"):
        tensors = load(ZOO / name)
        for layer in range(5):
            order = np.argsort(np.linalg.norm(tensors[FFN.format(layer, "gate_proj")], axis=1))
            tensors |= {FFN.format(layer, m): tensors[FFN.format(layer, m)][order] for m in ("gate_proj", "up_proj")}
            tensors[FFN.format(layer, "down_proj")] = tensors[FFN.format(layer, "down_proj")][:, order]
        ordered.append(save(tensors, ZOO / name, tmp_path / name))
    comparison = compare(*ordered)
    assert not comparison.verdict.found
    profiles = next(f for f in comparison.findings if f.probe == "ffn.profiles")
    assert len(profiles.absent_groups) == 5
    assert all("follows its index" in reason for reason in profiles.absent_groups.values())


def test_one_layer_and_few_units_are_too_little_to_decide(tmp_path: Path) -> None:
    models = []
    for name in ("a", "b"):
        tensors = pick_units(pick_layers(load(ZOO / name), [0]), np.arange(6))
        for table in ("model.embed_tokens.weight", "lm_head.weight"):
            tensors[table] = np.ones_like(tensors[table])  # tokens and channels have nothing to say either
        models.append(save(tensors, ZOO / name, tmp_path / name, num_hidden_layers=1, intermediate_size=6))
    comparison = compare(*models)
    assert comparison.verdict.verdict in ("inconclusive", "independent")
    needed = [item.share for item in comparison.verdict.ruled_out]
    assert all(share <= 1.0 for share in needed)


def test_an_unknown_family_is_inconclusive_with_its_reason(tmp_path: Path) -> None:
    renamed = {f"blob{i}": tensor.reshape(-1) for i, tensor in enumerate(load(ZOO / "a").values())}
    comparison = compare(
        ZOO / "a", save(renamed, ZOO / "a", tmp_path / "b", architectures=["Nothing"], model_type="no")
    )
    assert comparison.verdict.verdict == "inconclusive"
    assert comparison.verdict.reason is not None
    assert "architecture of B is not recognised" in comparison.verdict.reason
    assert comparison.findings == ()


def test_frozen_embeddings_are_a_shared_component_only(tmp_path: Path) -> None:
    """An independent model that borrowed a's token tables verbatim is not related to it by them."""
    tensors = load(ZOO / "b")
    borrowed = load(ZOO / "a")
    for table in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[table] = borrowed[table]
    comparison = compare(ZOO / "a", save(tensors, ZOO / "b", tmp_path / "b"))
    assert comparison.verdict.verdict == "independent"
    assert any("same in both models" in (finding.absent or "") for finding in comparison.findings)


def test_the_same_inputs_give_the_same_document() -> None:
    first, second = (compare(ZOO / "a", ZOO / "a-order2").to_json() for _ in range(2))
    assert first.pop("run") is not None
    second.pop("run")
    assert first == second


def test_it_shows_itself_in_a_notebook() -> None:
    shown = compare(ZOO / "a", ZOO / "b")._repr_html_()
    assert "independent" in shown
    assert "ffn.rows" in shown


@pytest.mark.parametrize("options", [{"units": 4}, {"seed": -1}])
def test_options_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="must be at least"):
        compare(ZOO / "a", ZOO / "b", **options)  # type: ignore[arg-type]
