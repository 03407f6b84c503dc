"""What a comparison and an inspection say of each model by itself: in the JSON, in the terminal and in the report."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.cli.test_schema import _complaints

from homolog import compare, inspect, open_checkpoint
from homolog.lab.operations import apply_operation
from homolog.lab.store import load_model, save_weights
from homolog.report.html import render
from homolog.report.terminal import print_comparison
from homolog.sketch.make import make_sketch

ZOO = Path(__file__).parents[1] / "zoo"

Run = Callable[..., subprocess.CompletedProcess[str]]


def made(name: str, folder: Path, *steps: dict[str, Any]) -> Path:
    shape, weights = load_model(ZOO / name)
    for step in steps:
        outcome = apply_operation(shape, weights, step)
        shape, weights = outcome.shape, outcome.weights
    save_weights(folder, shape, weights)
    return folder


def test_a_comparison_says_which_of_its_models_holds_copies() -> None:
    document = compare(ZOO / "q", ZOO / "q-upcycled").to_json()
    assert _complaints("comparison-1.json", document) == []
    assert document["a"]["self"]["sentences"] == []
    assert document["a"]["self"]["copies"]["groups"] == []
    assert len(document["b"]["self"]["copies"]["groups"]) == 4
    console = Console(file=StringIO(), width=100)
    print_comparison(document, console)
    assert isinstance(console.file, StringIO)
    printed = console.file.getvalue()
    assert "B by itself: experts of one layer began as one FFN" in printed
    assert "A by itself" not in printed
    page = render(document)
    assert "Each model by itself" in page
    assert "no two are shown to have begun as one" in page


@pytest.mark.parametrize("name", ["a", "c"])
def test_a_turned_stream_is_warned_of_and_the_verdict_is_what_it_was(name: str, tmp_path: Path) -> None:
    turned = made(name, tmp_path / "turned", {"kind": "rotate_residual", "seed": 1})
    folded = made(name, tmp_path / "folded", {"kind": "fold_norms"})
    found = compare(ZOO / name, turned)
    assert found.verdict.verdict == "related"
    (warning,) = found.warnings
    assert warning.startswith("B: the norms treat all residual channels alike")
    assert "QuaRot, SpinQuant" in warning
    assert _complaints("comparison-1.json", found.to_json()) == []
    assert compare(ZOO / name, folded).warnings == ()
    for folder, warned in ((turned, True), (folded, False), (ZOO / name, False)):
        with open_checkpoint(folder) as checkpoint:
            document = inspect(checkpoint).to_json()
        assert _complaints("inspection-1.json", document) == []
        assert any("random basis" in text for text in document["warnings"]) is warned
        assert (document["self"]["basis"]["warning"] is not None) is warned


def test_layers_doubled_in_numpy_are_found_and_under_other_names_on_calibrated_evidence(tmp_path: Path) -> None:
    twice = {"kind": "keep_layers", "layers": [0, 1, 2, 3, 4, 1, 2, 3, 4]}
    noise = {"kind": "add_noise", "relative": 0.5, "seed": 1}
    doubled = made("d", tmp_path / "doubled", twice, noise)
    hidden = made("d", tmp_path / "hidden", twice, noise, {"kind": "permute_units", "seed": 1})
    with open_checkpoint(doubled) as checkpoint:
        found = inspect(checkpoint).to_json()["self"]
    assert [group["layers"] for group in found["copies"]["groups"]] == [[1, 5], [2, 6], [3, 7], [4, 8]]
    with open_checkpoint(hidden) as checkpoint:
        found = inspect(checkpoint, values=True).to_json()["self"]
    assert found["copies"]["groups"] == []
    assert [group["layers"] for group in found["alike"]["groups"]] == [[1, 5], [2, 6], [3, 7], [4, 8]]


def test_a_sketch_knows_its_copies_and_not_its_basis(tmp_path: Path) -> None:
    make_sketch(ZOO / "a-solar", tmp_path / "b.hsk")
    document = compare(ZOO / "a", tmp_path / "b.hsk").to_json()
    assert _complaints("comparison-1.json", document) == []
    assert [group["layers"] for group in document["b"]["self"]["copies"]["groups"]] == [[1, 4], [2, 5], [3, 6]]
    assert document["b"]["self"]["alike"]["absent"] == "a sketch holds no units whole"


def test_the_same_inputs_give_the_same_words() -> None:
    first, second = (compare(ZOO / "moe-32-00", ZOO / "g-solar").to_json() for _ in range(2))
    assert first["b"]["self"] == second["b"]["self"]
    assert first["a"]["self"] == second["a"]["self"]
    assert second["b"]["self"]["sentences"][0].startswith("layers 1 = 3, 2 = 4 began as copies of each other")


def test_of_large_models_the_units_of_the_largest_effect_are_set_beside_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = made("q-upcycled", tmp_path / "hidden", {"kind": "permute_units", "seed": 1})
    monkeypatch.setattr("homolog.pipeline.SMALL", 0)
    monkeypatch.setattr("homolog.examination.alone._LARGEST_WHOLE", 0)
    document = compare(ZOO / "g", hidden, full=True).to_json()
    assert _complaints("comparison-1.json", document) == []
    assert document["a"]["self"]["alike"]["groups"] == []
    found = [group["layers"] for group in document["b"]["self"]["alike"]["groups"]]
    assert found == [[layer] for layer in range(4)]
    with open_checkpoint(hidden) as checkpoint:
        alone = inspect(checkpoint, values=True).to_json()["self"]
    assert [group["layers"] for group in alone["alike"]["groups"]] == found
