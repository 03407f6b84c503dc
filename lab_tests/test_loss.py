"""Loss without torch is the loss that torch measures."""

from __future__ import annotations

import pytest
from lab_tests.conftest import make_corpus

from homolog.lab.loss import evaluate_streams
from homolog.lab.shape import Shape, initialise
from homolog.lab.train import measure_loss

pytestmark = pytest.mark.lab

SMALL = {"vocab": 320, "width": 24, "layers": 2, "ffn": 20, "heads": 6}


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "pangu", "gpt2"])
def test_numpy_and_torch_agree(family: str) -> None:
    shape = Shape(family=family, kv_heads=6 if family == "gpt2" else 2, tied=family == "gpt2", **SMALL)
    weights = initialise(shape, seed=3, std=0.2)
    corpus = make_corpus()
    held_out = {stream: ids for (stream, part), ids in corpus.streams.items() if part == "val"}
    found = evaluate_streams(shape, weights, held_out, windows=20)
    for stream, loss in found.items():
        assert loss == pytest.approx(measure_loss(shape, weights, corpus, stream, windows=20), rel=1e-4)
