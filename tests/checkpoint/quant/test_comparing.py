"""Quantised models are compared as what they stand for: across any two formats, with their origin, and with an independent twin."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.checkpoint.quant.quantisers import FORMATS, quantise_folder

from homolog import compare
from homolog.checkpoint.open import open_checkpoint
from homolog.comparison import Comparison
from homolog.sketch.make import make_sketch

ZOO = Path("tests/zoo")
NAMES = sorted(FORMATS)


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    root = tmp_path_factory.mktemp("quantised")
    return {
        (model, form): quantise_folder(ZOO / model, root / f"{model}-{form}", form) for model in "ab" for form in NAMES
    }


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a large model, a few units of every layer are read, and of matrices with units as columns a slab."""
    for module in ("sketch.plan", "examination.stages", "examination.second_look", "examination.whole"):
        monkeypatch.setattr(f"homolog.{module}.SMALL", 1)


def kinds_of(found: Comparison) -> dict[str, str]:
    return {step.kind: step.detail for step in found.operations}


@pytest.mark.parametrize("form", NAMES)
def test_a_quantised_copy_is_related_and_its_lattice_is_named(
    form: str, quantised: dict[tuple[str, str], Path]
) -> None:
    found = compare(ZOO / "a", quantised["a", form])
    assert found.verdict.verdict == "related"
    assert found.inherited is not None
    assert found.inherited.share > 0.9
    with open_checkpoint(quantised["a", form]) as checkpoint:
        lattice = checkpoint.tensors["model.layers.0.mlp.up_proj.weight"].lattice
    assert set(kinds_of(found)) == {"quantised"}
    assert lattice in kinds_of(found)["quantised"]


@pytest.mark.parametrize("form", NAMES)
def test_any_two_formats_of_one_model_are_related(
    form: str, quantised: dict[tuple[str, str], Path], sampled: None
) -> None:
    for other in NAMES[NAMES.index(form) + 1 :]:
        found = compare(quantised["a", form], quantised["a", other])
        assert found.verdict.verdict in ("related", "identical"), other
        assert "continued_training" not in kinds_of(found), other
        assert ("requantised" in kinds_of(found)) == (_lattice(quantised["a", form]) != _lattice(quantised["a", other]))


def _lattice(folder: Path) -> str:
    with open_checkpoint(folder) as checkpoint:
        return checkpoint.tensors["model.layers.0.mlp.up_proj.weight"].lattice


@pytest.mark.parametrize("form", NAMES)
def test_the_twin_in_the_same_format_is_independent(
    form: str, quantised: dict[tuple[str, str], Path], sampled: None
) -> None:
    """Two models on one lattice share its steps, and nothing else."""
    found = compare(quantised["a", form], quantised["b", form])
    assert found.verdict.verdict == "independent"
    assert found.operations == ()


@pytest.mark.parametrize("form", ["gptq-act-order", "nf4"])
def test_the_twin_is_independent_of_the_unquantised_too(form: str, quantised: dict[tuple[str, str], Path]) -> None:
    assert compare(ZOO / "a", quantised["b", form]).verdict.verdict == "independent"


def test_units_stored_as_columns_are_read_in_slabs(quantised: dict[tuple[str, str], Path], sampled: None) -> None:
    with open_checkpoint(quantised["a", "gptq"]) as checkpoint:
        said = " ".join(checkpoint.notes)
    assert "35 matrices keep units as columns: units are read in slabs of residual channels" in said
    found = compare(ZOO / "a", quantised["a", "gptq"])
    assert found.verdict.verdict == "related"
    assert found.b.read_bytes < found.b.of_bytes


@pytest.mark.parametrize("form", NAMES)
def test_sketches_keep_the_lattice(form: str, quantised: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    """Two sketches name what the weights name, and take no rounding for training; those of the twin stay independent."""
    for name, path in (("a", ZOO / "a"), ("form", quantised["a", form]), ("twin", quantised["b", form])):
        make_sketch(path, tmp_path / f"{name}.hsk", dimensions=32)
    weights, found = compare(ZOO / "a", quantised["a", form]), compare(tmp_path / "a.hsk", tmp_path / "form.hsk")
    assert found.verdict.verdict == "related"
    assert kinds_of(found) == kinds_of(weights)
    mixed = compare(tmp_path / "form.hsk", ZOO / "a")
    assert set(kinds_of(mixed)) == {"dequantised"}
    twin = compare(tmp_path / "a.hsk", tmp_path / "twin.hsk")
    assert twin.verdict.verdict == "independent"
    assert twin.operations == ()
