"""One model as GGUF and as safetensors is one model, whatever the converter did to it; its independent twin stays independent."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.checkpoint.convert_gguf import convert

from homolog.comparison import Comparison
from homolog.pipeline import compare

ZOO = Path(__file__).parent.parent / "zoo"


def untrained(comparison: Comparison) -> float | None:
    return next(finding for finding in comparison.findings if finding.probe == "tokens.untrained").log10_p


@pytest.mark.parametrize("kind", ["F32", "BF16"])
@pytest.mark.parametrize("model", ["a", "g", "q", "q-upcycled"])
def test_exact_copies_are_identical(tmp_path: Path, model: str, kind: str) -> None:
    copy = convert(ZOO / model, tmp_path / "copy.gguf", kind)
    for pair in ((ZOO / model, copy), (copy, ZOO / model)):
        comparison = compare(*pair)
        assert comparison.verdict.verdict == "identical"
        assert [origin.a for origin in comparison.origins] == list(range(len(comparison.origins)))


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_1", "Q4_0"])
def test_quantised_copies_are_related_and_said_to_be_quantised(tmp_path: Path, kind: str) -> None:
    copy = convert(ZOO / "a", tmp_path / "copy.gguf", kind)
    comparison = compare(ZOO / "a", copy)
    assert comparison.verdict.verdict == "related"
    assert (comparison.verdict.log10_p or 0) < -100
    assert comparison.inherited is not None
    assert comparison.inherited.low > 0.9
    assert [origin.a for origin in comparison.origins] == list(range(5))
    assert any(f"as {kind}" in note for note in comparison.b.notes)
    assert [step.kind for step in comparison.operations] == ["quantised"]
    assert [step.kind for step in compare(copy, ZOO / "a").operations] == ["dequantised"]


@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q4_0"])
def test_the_independent_twin_stays_independent(tmp_path: Path, kind: str) -> None:
    twin = convert(ZOO / "b", tmp_path / "twin.gguf", kind)
    comparison = compare(ZOO / "a", twin)
    assert comparison.verdict.verdict == "independent"
    assert untrained(comparison) is None or untrained(comparison) > -2  # type: ignore[operator]


def test_a_fine_tune_in_pieces_is_related(tmp_path: Path) -> None:
    convert(ZOO / "a-code-tuned", tmp_path / "tuned.gguf", "Q8_0", pieces=20)
    assert len(list(tmp_path.glob("*-of-*.gguf"))) > 1
    comparison = compare(ZOO / "a", tmp_path)
    assert comparison.verdict.verdict == "related"
    assert (untrained(comparison) or 0) < -30
    assert [step.kind for step in comparison.operations] == ["quantised", "continued_training"]


def test_two_files_of_gguf_compare(tmp_path: Path) -> None:
    first = convert(ZOO / "a", tmp_path / "a.gguf", "Q5_1")
    second = convert(ZOO / "a-solar", tmp_path / "solar.gguf", "Q8_0")
    comparison = compare(first, second)
    assert comparison.verdict.verdict == "related"
    assert [origin.a for origin in comparison.origins] == [0, 1, 2, 3, 1, 2, 3, 4]
