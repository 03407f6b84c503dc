"""Rows that were replaced testify to nothing: said where trained rows go together and these do not, and nowhere else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from homolog.comparison import Comparison
from homolog.lab.operations import apply_operation
from homolog.lab.store import load_model, save_weights
from homolog.pipeline import compare
from homolog.sketch.vocabulary import read_vocabulary

ZOO = Path(__file__).parents[1] / "zoo"
HIDING = ("permute_units", "permute_heads", "mix_values", "rescale", "rotate_residual")


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """``made("a", own=True)`` is the folder of that model with its never-trained rows drawn anew, and hidden if asked."""

    def make(name: str, *, own: bool = False, steps: tuple[str, ...] = ()) -> Path:
        shape, weights = load_model(ZOO / name)
        vocabulary = read_vocabulary(ZOO / name)
        assert vocabulary is not None
        unused = sorted(vocabulary.ids[token] for token in vocabulary.untrained)
        first: dict[str, Any] = {"kind": "overwrite_rows", "rows": unused, "seed": 3, "own": own}
        for step in (first, *({"kind": kind, "seed": 1} for kind in steps)):
            outcome = apply_operation(shape, weights, step)
            shape, weights = outcome.shape, outcome.weights
        save_weights(tmp_path / "made", shape, weights)
        shutil.copy(ZOO / name / "tokenizer.json", tmp_path / "made")
        return tmp_path / "made"

    return make


def said(found: Comparison) -> tuple[str, bool]:
    """Why the rows of the embedding are left out, and whether there is a warning of it."""
    finding = next(finding for finding in found.findings if finding.probe == "tokens.untrained")
    reason = finding.absent_groups.get("embedding", "")
    assert not reason or not any(group.group == "embedding" for group in finding.groups)
    return reason, any("testify to nothing" in text and reason in text for text in found.warnings)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(("a", "b"), [("a", "a-same-1x"), ("a", "a-zh-1x"), ("k", "k-zh-0.4x")])
def test_rows_that_were_overwritten_are_absent_and_a_warning_says_so(
    made: Callable[..., Path], a: str, b: str, own: bool
) -> None:
    reason, warned = said(compare(ZOO / a, made(b, own=own)))
    assert "these were replaced, drowned in noise or never shared" in reason
    assert warned


@pytest.mark.parametrize("steps", [HIDING, HIDING[4:]], ids=["hidden", "rotated"])
def test_it_is_seen_through_disguises_too(made: Callable[..., Path], steps: tuple[str, ...]) -> None:
    found = compare(ZOO / "a", made("a-zh-1x", steps=steps))
    assert found.verdict.verdict == "related"
    reason, warned = said(found)
    assert "were replaced" in reason
    assert warned
    assert "units_permuted_and_residual_rotated" not in {item.operation for item in found.verdict.ruled_out}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("a", "b"),
        ("a", "a-order2"),
        ("llama-48-00", "moe-32-01"),
        ("distilled-32-01", "llama-32-00"),
        ("b", "b-embeddings"),
    ],
)
def test_nothing_is_said_of_rows_that_were_left_alone_or_of_tables_that_were_never_carried(a: str, b: str) -> None:
    reason, warned = said(compare(ZOO / a, ZOO / b))
    assert "replaced" not in reason
    assert not warned


@pytest.mark.parametrize(("a", "b"), [("b", "a-zh-1x"), ("q", "k-zh-0.4x")])
def test_independent_models_whose_rows_were_overwritten_are_cleared(made: Callable[..., Path], a: str, b: str) -> None:
    found = compare(ZOO / a, made(b))
    assert found.verdict.verdict == "independent"
    assert not said(found)[1]


@pytest.mark.parametrize("b", ["a-zh-1x", "a-washed", "a-zh-3x"])
def test_rows_that_a_copy_kept_go_on_testifying(b: str) -> None:
    finding = next(f for f in compare(ZOO / "a", ZOO / b).findings if f.probe == "tokens.untrained")
    assert finding.log10_p is not None
    assert finding.log10_p < (-6 if b == "a-washed" else -9)
