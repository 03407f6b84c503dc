"""What the demo makes of a language model, on a small one: each version is told for what it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.checkpoint.convert_gguf import convert

from homolog.checkpoint.base import Checkpoint
from homolog.checkpoint.open import open_checkpoint
from homolog.comparison import Comparison
from homolog.demo.catalogue import read_catalogue
from homolog.demo.derive import Disguise, deepen, disguise, draw_alike, requantise
from homolog.demo.language import language_cases
from homolog.pipeline import compare

ZOO = Path(__file__).parent.parent / "zoo"


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Checkpoint]:
    with open_checkpoint(convert(ZOO / "a", tmp_path / "a.gguf", "Q8_0")) as opened:
        yield opened


def kinds(comparison: Comparison) -> list[str]:
    return [step.kind for step in comparison.operations]


def test_a_rotated_copy_under_other_names_is_related(model: Checkpoint, tmp_path: Path) -> None:
    folder = disguise(model, tmp_path / "b", Disguise())
    comparison = compare(model.path, folder)
    assert comparison.verdict.verdict == "related"
    assert (comparison.verdict.log10_p or 0) < -100


def test_reordered_units_are_seen_as_such(model: Checkpoint, tmp_path: Path) -> None:
    comparison = compare(model.path, disguise(model, tmp_path / "b", Disguise(rotate=False, units=True)))
    assert comparison.verdict.verdict == "related"
    assert next(f for f in comparison.findings if f.probe == "ffn.rows").log10_p > -2  # type: ignore[operator]


def test_a_deepened_copy_names_its_layers(model: Checkpoint, tmp_path: Path) -> None:
    comparison = compare(model.path, deepen(model, tmp_path / "b", 1, 3))
    assert comparison.verdict.verdict == "related"
    assert [origin.a for origin in comparison.origins] == [0, 1, 2, 3, 1, 2, 3, 4]
    assert comparison.relation == "a_to_b"
    assert kinds(comparison) == ["layers_duplicated", "dequantised"]


def test_a_requantised_copy_is_said_to_be_one(model: Checkpoint, tmp_path: Path) -> None:
    comparison = compare(model.path, requantise(model, tmp_path / "b.gguf", "Q5_0"))
    assert comparison.verdict.verdict == "related"
    assert kinds(comparison) == ["requantised"]


def test_numbers_drawn_alike_are_independent(model: Checkpoint, tmp_path: Path) -> None:
    comparison = compare(model.path, draw_alike(model, tmp_path / "b"))
    assert comparison.verdict.verdict == "independent"
    assert (comparison.verdict.log10_p or 0) > -2


def test_the_cases_of_the_demo_have_reports_of_their_own(tmp_path: Path) -> None:
    catalogue = read_catalogue()
    reports = [case.report for case in language_cases(catalogue, tmp_path)]
    assert len(set(reports)) == len(reports) == 6
    for joined in catalogue.joined.values():
        assert len(joined.sha256) == 64
        assert set(joined.parts) <= set(catalogue.packages)
