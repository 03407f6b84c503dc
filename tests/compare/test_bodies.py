"""Copies that lost every index are found at Tier 2 and named for what was done to them; independent twins in the same disguise are not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from homolog.arena.recipes import list_recipes
from homolog.bank.bank import Bank, BankModel
from homolog.comparison import Comparison
from homolog.derivation import bodies
from homolog.lab.operations import apply_operation
from homolog.lab.shape import Shape, Weights
from homolog.lab.store import load_model, save_weights
from homolog.pipeline import compare
from homolog.probes.agreement import LAYER, STATISTIC
from homolog.probes.attention import HEADS, UNITS
from homolog.sketch.vocabulary import read_vocabulary

ZOO = Path(__file__).parents[1] / "zoo"

Make = Callable[[str, str], Path]


def bank(*values: float, width: int = 64) -> Bank:
    models = tuple(
        BankModel(
            id=f"m{i}", group="g", architecture="llama", parameters=250_000, layers=3 + 2 * (i % 2), width=width,
            units=128 + 16 * (i % 2), digest="", recipe="",
        )
        for i in range(len(values) + 1)
    )  # fmt: skip
    pairs = np.array([[i, i + 1] for i in range(len(values))], dtype=np.intp)
    known = {
        STATISTIC: np.array(values),
        LAYER: np.array(values),
        UNITS: np.array(values),
        HEADS: np.array(values) * 12,
    }
    return Bank(models, pairs, known, dict.fromkeys(known, "agreement"))


@pytest.fixture(autouse=True)
def small_bank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "load_bank", lambda: bank(0.0, 0.008, 0.012))


def unused_of(name: str) -> list[int]:
    """The tokens of a model of the zoo that no text contains, by id."""
    vocabulary = read_vocabulary(ZOO / name)
    assert vocabulary is not None
    return sorted(vocabulary.ids[token] for token in vocabulary.untrained)


def write_changed(folder: Path, name: str, shape: Shape, weights: Weights, steps: Iterable[Mapping[str, Any]]) -> Path:
    """The model after ``steps`` in ``folder``, with the tokenizer of the zoo's model ``name``."""
    for step in steps:
        outcome = apply_operation(shape, weights, dict(step))
        shape, weights = outcome.shape, outcome.weights
    save_weights(folder, shape, weights)
    shutil.copy(ZOO / name / "tokenizer.json", folder)
    return folder


@pytest.fixture(scope="module")
def disguised(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """``disguised("a-zh-1x", "fully_disguised")`` is the folder of that model under the arena's recipe."""

    def make(name: str, recipe: str) -> Path:
        folder = tmp_path_factory.mktemp("made") / recipe
        shape, weights = load_model(ZOO / name)
        return write_changed(folder, name, shape, weights, list_recipes(shape, unused_of(name))[recipe])

    return make


def kinds(comparison: Comparison) -> set[str]:
    return {step.kind for step in comparison.operations}


HIDDEN = "fully_disguised_rows_overwritten"


@pytest.mark.parametrize(
    ("a", "b", "recipe", "tier", "named"),
    [
        ("a", "a-zh-1x", "units_permuted", 1, {"units_permuted"}),
        ("a", "a-zh-1x", "signs_flipped", 1, {"residual_permuted"}),
        ("a", "a-zh-1x", "residual_permuted", 1, {"residual_permuted"}),
        ("a", "a-zh-1x", "residual_rotated", 1, {"residual_rotated"}),
        ("a", "a-zh-1x", "rescaled", 1, {"rescaled"}),
        ("a", "a-zh-1x", "fully_disguised", 1, {"units_permuted", "units_split", "residual_rotated"}),
        ("a", "a-zh-1x", HIDDEN, 2, {"units_permuted", "units_split", "residual_rotated", "continued_training"}),
        ("q", "q-upcycled", HIDDEN, 2, {"units_permuted", "residual_rotated", "upcycled"}),
        ("s", "s-zh-0.5x", HIDDEN, 2, {"units_permuted", "units_split", "residual_rotated"}),
    ],
)
def test_a_disguised_copy_is_found_and_its_disguise_named(
    disguised: Make, a: str, b: str, recipe: str, tier: int, named: set[str]
) -> None:
    found = compare(ZOO / a, disguised(b, recipe))
    assert (found.verdict.verdict, found.verdict.tier) == ("related", tier)
    assert named <= kinds(found)
    assert [origin.a for origin in found.origins] == list(range(len(found.origins)))
    assert found.inherited is not None
    assert found.inherited.share > 0.9
    if tier == 2:
        assert found.verdict.log10_p == pytest.approx(np.log10(1 / 5))
        assert "calibrated and not exact" in found.verdict.sentence
        assert found.agreement.to_json()["bank"]["pairs"] == 3


@pytest.mark.parametrize(("a", "b"), [("b", "a-zh-1x"), ("a", "q-upcycled"), ("q", "s-zh-0.5x")])
def test_an_independent_twin_in_the_same_disguise_is_not(disguised: Make, a: str, b: str) -> None:
    found = compare(ZOO / a, disguised(b, HIDDEN))
    assert found.verdict.verdict == "independent"
    assert found.agreement.value is not None
    assert found.agreement.value < 0.05
    seen = {item.operation: item.tier for item in found.verdict.ruled_out}
    assert seen["units_permuted_and_residual_rotated"] == seen["units_split"] == 2
    assert "retrained_until_lost" in found.verdict.not_ruled_out


@pytest.mark.parametrize("recipe", ["residual_rotated", "fully_disguised"])
def test_one_start_in_disguise_is_no_descent(disguised: Make, recipe: str) -> None:
    found = compare(ZOO / "a", disguised("a-order2", recipe))
    assert found.verdict.verdict == "shared_initialisation"
    assert found.initialisation.evidence["aligned_agreement"] < 0.05


@pytest.fixture(scope="module")
def reordered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A model with its units, heads and residual channels in another order, all gains kept, and its values mixed."""

    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp("made") / name
        shape, weights = load_model(ZOO / name)
        for kind in ("permute_units", "permute_heads", "mix_values", "permute_residual"):
            outcome = apply_operation(shape, weights, {"kind": kind, "seed": 1})
            shape, weights = outcome.shape, outcome.weights
        save_weights(folder, shape, weights)
        shutil.copy(ZOO / name / "tokenizer.json", folder)
        return folder

    return make


def test_gains_are_compared_over_the_layers_that_bodies_show(reordered: Callable[[str], Path]) -> None:
    """Grown in depth and reordered: rows in the frame of the files pair the wrong layers, whose gains have nothing in common."""
    copy = reordered("d-grown")
    found, apart = compare(ZOO / "d", copy), compare(ZOO / "d-order2", copy)
    assert found.verdict.verdict == "related"
    # two of its seven layers are new; over the wrong layers it was 0.45
    assert found.initialisation.evidence["gain_correlation"] > 0.7
    assert apart.verdict.verdict == "shared_initialisation"
    assert not compare(ZOO / "c", copy).verdict.found


@pytest.mark.parametrize(("a", "b"), [("g-order2", "g-solar"), ("q-order2", "q-zh-1x")])
def test_likeness_of_tables_is_no_descent_where_a_start_was_shared(a: str, b: str, tmp_path: Path) -> None:
    """Units and heads in another order, channels in place: the tables agree, and no layer does."""
    shape, weights = load_model(ZOO / b)
    for kind in ("permute_units", "permute_heads", "mix_values"):
        weights = apply_operation(shape, weights, {"kind": kind, "seed": 1}).weights
    save_weights(tmp_path / "made", shape, weights)
    shutil.copy(ZOO / b / "tokenizer.json", tmp_path / "made")
    assert compare(ZOO / a, tmp_path / "made").verdict.verdict == "shared_initialisation"
    assert compare(ZOO / b, tmp_path / "made").verdict.verdict == "related"


ATTACKS: dict[str, list[dict[str, Any]]] = {
    "gates flipped": [{"kind": "flip_gates", "share": 0.6, "seed": 1}],
    "gates flipped quietly": [{"kind": "flip_gates", "share": 0.5, "quiet": 0.1, "seed": 1}],
    "units drowned": [{"kind": "add_decoys", "pairs": 256, "length": 2.0, "seed": 1}],
    "noise where nothing reaches": [{"kind": "bury_units", "groups": 2, "noise": 10.0, "seed": 1}],
    "all of it": [
        {"kind": "flip_gates", "share": 0.6, "seed": 1},
        {"kind": "split_units", "seed": 1},
        {"kind": "bury_units", "groups": 2, "noise": 10.0, "seed": 1},
        {"kind": "add_decoys", "pairs": 256, "length": 2.0, "seed": 1},
    ],
}
"""Steps that make a copy larger and keep its function, each against one step of the search; everything else follows."""


@pytest.mark.parametrize(
    ("b", "of", "stranger", "attack"),
    [*(("a-zh-1x", "a", "b", attack) for attack in ATTACKS), ("q-zh-1x", "q", "a", "noise where nothing reaches")],
)
def test_the_strongest_free_attacks_hide_no_copy_and_accuse_no_stranger(
    b: str, of: str, stranger: str, attack: str, tmp_path: Path
) -> None:
    shape, weights = load_model(ZOO / b)
    hiding: list[dict[str, Any]] = [
        *({"kind": kind, "seed": 1} for kind in ("permute_units", "permute_heads", "mix_values", "rescale"))
    ]
    hiding += [{"kind": "rotate_residual", "seed": 1}, {"kind": "overwrite_rows", "rows": unused_of(b), "seed": 1}]
    write_changed(tmp_path / "made", b, shape, weights, (*ATTACKS[attack], *hiding))
    found, other = compare(ZOO / of, tmp_path / "made"), compare(ZOO / stranger, tmp_path / "made")
    assert (found.verdict.verdict, found.verdict.tier) == ("related", 2)
    assert found.agreement.value is not None
    assert found.agreement.value > 0.9
    assert ("gates_flipped" in kinds(found)) == ("flip_gates" in {step["kind"] for step in ATTACKS[attack]})
    assert other.verdict.verdict == "independent"
    assert other.agreement.value is not None
    assert other.agreement.value < 0.05


@pytest.mark.parametrize(
    ("b", "of", "stranger"),
    [("m-zh-0.4x", "m", "q-upcycled"), ("q-pangu", "q-pangu", "m"), ("moe-32-00", "moe-32-00", "moe-32-01")],
)
@pytest.mark.parametrize("parts", [2, 4])
def test_experts_regrouped_hide_no_copy_and_accuse_no_stranger(
    b: str, of: str, stranger: str, parts: int, tmp_path: Path
) -> None:
    """Every expert of B holds parts of several of A, and the reverse; then everything that is free, and the rows overwritten."""
    shape, weights = load_model(ZOO / b)
    steps: list[dict[str, Any]] = [{"kind": "regroup_experts", "parts": parts, "seed": 1}]
    steps += [
        *({"kind": kind, "seed": 1} for kind in ("permute_experts", "permute_units", "permute_heads", "mix_values"))
    ]
    steps += [{"kind": "rescale", "seed": 1}, {"kind": "rotate_residual", "seed": 1}]
    steps.append({"kind": "overwrite_rows", "rows": unused_of(b), "seed": 1})
    made = write_changed(tmp_path / "made", b, shape, weights, steps)
    for first, second in ((ZOO / of, made), (made, ZOO / of)):
        found = compare(first, second)
        assert (found.verdict.verdict, found.verdict.tier) == ("related", 2)
        assert (found.agreement.value or 0.0) > 0.9
    for first, second in ((ZOO / stranger, made), (made, ZOO / stranger)):
        other = compare(first, second)
        assert other.verdict.verdict == "independent"
        assert other.agreement.value is not None
        assert other.agreement.value < 0.05


def test_units_settle_what_gains_leave_open() -> None:
    copy, twin = (compare(ZOO / "a", ZOO / name) for name in ("a-zh-3x", "a-other-rate"))
    assert (copy.verdict.verdict, twin.verdict.verdict) == ("related", "shared_initialisation")


def test_a_bank_of_other_shapes_is_said_to_be_one(disguised: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "load_bank", lambda: bank(0.01, width=32))
    found = compare(ZOO / "a", disguised("a", HIDDEN))
    assert found.verdict.verdict == "related"
    assert "64 residual channels (the bank: 32 to 32)" in found.verdict.sentence


@pytest.mark.parametrize(
    ("values", "reason"),
    [((0.4,), "1 pairs of independent models reach 40.0% at most"), ((), "nothing to set that beside")],
    ids=["no factor of three", "no values"],
)
def test_agreement_without_a_bank_far_below_it_decides_nothing(
    disguised: Make, monkeypatch: pytest.MonkeyPatch, values: tuple[Any, ...], reason: str
) -> None:
    monkeypatch.setattr(bodies, "load_bank", lambda: bank(*values))
    found = compare(ZOO / "a", disguised("a", HIDDEN))
    assert found.verdict.verdict == "inconclusive"
    assert reason in (found.verdict.reason or "")
    assert found.agreement.value == 1.0


@pytest.fixture(scope="module")
def transplanted(tmp_path_factory: pytest.TempPathFactory, disguised: Make) -> Callable[[str, str, str], Path]:
    """``transplanted(name, donor, what)``: a hidden copy of ``name`` whose FFNs, or whose last three layers, are those of ``donor``.

    Trained weights throughout, and what is left of ``name`` is as it was; what the whole would need is training.
    """

    def make(name: str, donor: str, what: str) -> Path:
        shape, weights = load_model(ZOO / name)
        _, others = load_model(ZOO / donor)
        changed = dict(weights)
        for key in weights:
            layer = key.split(".")[2] if key.startswith("model.layers.") else ""
            if (what == "ffns" and ".mlp." in key) or (what == "layers" and layer in ("2", "3", "4")):
                changed[key] = others[key]
        folder = tmp_path_factory.mktemp("transplanted") / f"{name}-{what}"
        return write_changed(folder, name, shape, changed, list_recipes(shape, unused_of(name))[HIDDEN])

    return make


@pytest.mark.parametrize("name", ["a-zh-1x", "a-washed"])
def test_attention_keeps_a_copy_from_being_cleared_where_all_ffns_are_another_models(
    name: str, transplanted: Callable[[str, str, str], Path]
) -> None:
    hidden = transplanted(name, "b", "ffns")
    found = compare(ZOO / "a", hidden)
    assert found.verdict.verdict == "inconclusive"
    assert found.verdict.reason is not None
    assert "also ask alike" in found.verdict.reason
    assert found.agreement.value is not None
    assert found.agreement.value < 0.05
    assert compare(ZOO / "q", hidden).verdict.verdict == "independent"


def test_attention_of_one_start_and_another_training_is_ordinary(
    transplanted: Callable[[str, str, str], Path],
) -> None:
    found = compare(ZOO / "a", transplanted("a-other-text", "b", "ffns"))
    assert found.agreement.heads.ordinary
    assert found.verdict.verdict == "independent"


@pytest.mark.parametrize("name", ["distilled-32-00", "distilled-32-01", "distilled-48-00"])
def test_a_student_is_not_related_to_its_teacher_though_its_heads_ask_more_alike(name: str) -> None:
    found = compare(ZOO / "llama-32-00", ZOO / name)
    assert found.verdict.verdict in ("independent", "inconclusive")
    assert not found.agreement.related


def test_two_layers_of_five_are_found(transplanted: Callable[[str, str, str], Path]) -> None:
    hidden = transplanted("a-zh-1x", "b", "layers")
    found = compare(ZOO / "a", hidden)
    assert (found.verdict.verdict, found.verdict.tier) == ("partly_related", 2)
    assert found.agreement.layer_agrees
    assert not found.agreement.related
    assert compare(ZOO / "q", hidden).verdict.verdict == "independent"
    assert compare(ZOO / "b", hidden).verdict.verdict in ("related", "partly_related")
