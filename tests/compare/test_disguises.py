"""A real training under disguise and surgery is found; an independent twin under the same treatment is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.compare.disguise import (
    Tensors,
    add_noise,
    fold_gains,
    insert_units,
    layers_of,
    load,
    permutation,
    permute_residual,
    permute_units,
    pick_layers,
    pick_units,
    rotation,
    save,
    turn_residual,
)

from homolog.comparison import Comparison
from homolog.pipeline import compare

ZOO = Path(__file__).parents[1] / "zoo"
WIDTH, UNITS = 64, 128

Treatment = Callable[[Tensors, np.random.Generator], Tensors]

TREATMENTS: dict[str, tuple[Treatment, dict[str, int]]] = {
    "nothing but another dtype": (lambda t, _: t, {}),
    "noise of a third of every weight": (lambda t, rng: add_noise(t, 0.3, rng), {}),
    "gains folded": (lambda t, _: fold_gains(t), {}),
    "units permuted": (permute_units, {}),
    "residual permuted": (lambda t, rng: turn_residual(t, permutation(WIDTH, rng)), {}),
    "residual permuted, gains along": (lambda t, rng: permute_residual(t, rng.permutation(WIDTH)), {}),
    "residual rotated": (lambda t, rng: turn_residual(t, rotation(WIDTH, rng)), {}),
    "units permuted, residual rotated": (
        lambda t, rng: turn_residual(permute_units(t, rng), rotation(WIDTH, rng)),
        {},
    ),
    "layers dropped": (lambda t, _: pick_layers(t, [0, 2, 4]), {"num_hidden_layers": 3}),
    "layers doubled": (lambda t, _: pick_layers(t, [0, 1, 2, 1, 2, 3, 4]), {"num_hidden_layers": 7}),
    "layers reversed": (lambda t, _: pick_layers(t, [4, 3, 2, 1, 0]), {}),
    "half of the units pruned": (
        lambda t, rng: pick_units(t, np.sort(rng.permutation(UNITS)[: UNITS // 2])),
        {"intermediate_size": UNITS // 2},
    ),
    "a fresh unit after every two": (
        lambda t, rng: insert_units(t, 2, rng),
        {"intermediate_size": UNITS + UNITS // 2},
    ),
}


def treat(name: str, source: str, tmp_path: Path) -> Comparison:
    treatment, config = TREATMENTS[name]
    treated = treatment(load(ZOO / source), np.random.default_rng(7))
    return compare(ZOO / "a", save(treated, ZOO / source, tmp_path / "treated", **config))


@pytest.mark.parametrize("name", TREATMENTS)
def test_a_continued_training_is_found_through(name: str, tmp_path: Path) -> None:
    comparison = treat(name, "a-same-1x", tmp_path)
    assert comparison.verdict.log10_p is not None
    assert comparison.verdict.log10_p <= -9
    assert comparison.verdict.verdict == "related"
    if name == "units permuted, residual rotated":
        # Only never-trained tokens see through both; that it was more than a common start, whole units in an aligned frame say.
        assert [f.probe for f in comparison.findings if f.log10_p is not None and f.log10_p < -9] == [
            "tokens.untrained"
        ]
        assert "body_agreement" in comparison.initialisation.evidence


@pytest.mark.parametrize("name", TREATMENTS)
def test_an_independent_twin_is_not(name: str, tmp_path: Path) -> None:
    comparison = treat(name, "b", tmp_path)
    assert comparison.verdict.verdict == "independent"
    assert comparison.verdict.log10_p is not None
    assert comparison.verdict.log10_p > -2


@pytest.mark.parametrize(
    ("name", "layers"),
    [("layers dropped", [0, 2, 4]), ("layers doubled", [0, 1, 2, 1, 2, 3, 4]), ("layers reversed", [4, 3, 2, 1, 0])],
)
def test_the_layer_map_is_recovered(name: str, layers: list[int], tmp_path: Path) -> None:
    comparison = treat(name, "a-same-1x", tmp_path)
    assert [origin.a for origin in comparison.origins] == layers
    assert comparison.relation == "undirected", "what went on for as long as the base may be its sibling's child"


def test_operations_are_named(tmp_path: Path) -> None:
    seen = {
        name: {operation.kind for operation in treat(name, "a-same-1x", tmp_path / str(i)).operations}
        for i, name in enumerate(TREATMENTS)
    }
    assert seen["layers dropped"] == {"layers_dropped", "continued_training"}
    assert seen["layers doubled"] == {"layers_duplicated", "continued_training"}
    assert "ffn_pruned" in seen["half of the units pruned"]
    assert "ffn_widened" in seen["a fresh unit after every two"]


@pytest.mark.parametrize("name", ["residual permuted", "residual rotated"])
def test_a_change_of_basis_alone_is_no_training(name: str, tmp_path: Path) -> None:
    alone = {operation.kind for operation in treat(name, "a", tmp_path / "alone").operations}
    trained = {operation.kind for operation in treat(name, "a-same-1x", tmp_path / "trained").operations}
    assert "continued_training" not in alone
    assert "continued_training" in trained
    assert alone & trained


def test_a_shared_start_is_told_apart_through_a_permuted_residual_stream(tmp_path: Path) -> None:
    """Gains must be compared channel by channel, whatever order the channels are in."""
    treated = permute_residual(load(ZOO / "a-order2"), np.random.default_rng(7).permutation(WIDTH))
    comparison = compare(ZOO / "a", save(treated, ZOO / "a", tmp_path / "treated"))
    assert not comparison.verdict.found


def test_layers_that_write_nothing_yet_are_compared(tmp_path: Path) -> None:
    """Block expansion: a layer copied, with its outputs zeroed."""
    grown = pick_layers(load(ZOO / "a-same-1x"), [0, 1, 1, 2, 3, 4])
    for matrix in ("self_attn.o_proj", "mlp.down_proj"):
        grown[f"model.layers.2.{matrix}.weight"] = np.zeros_like(grown[f"model.layers.2.{matrix}.weight"])
    comparison = compare(ZOO / "a", save(grown, ZOO / "a", tmp_path / "grown", num_hidden_layers=6))
    assert comparison.verdict.verdict == "related"
    assert [origin.a for origin in comparison.origins] == [0, 1, 1, 2, 3, 4]


def test_fresh_units_are_not_counted_as_inherited(tmp_path: Path) -> None:
    comparison = treat("a fresh unit after every two", "a-same-1x", tmp_path)
    assert comparison.inherited is not None
    assert comparison.inherited.units == 5 * (UNITS + UNITS // 2)
    assert 0.6 < comparison.inherited.share < 0.72  # 128 of 192, and fresh units in order by chance


def test_renaming_sharding_and_key_order_change_nothing(tmp_path: Path) -> None:
    tensors = load(ZOO / "a")
    assert layers_of(tensors) == 5
    shuffled = dict(reversed(tensors.items()))
    stripped = {name.removeprefix("model."): tensor for name, tensor in shuffled.items()}
    comparison = compare(ZOO / "a", save(stripped, ZOO / "a", tmp_path / "renamed"))
    assert comparison.verdict.verdict == "identical"
