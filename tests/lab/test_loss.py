"""Loss without torch: the forward pass against the naive one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.lab.test_disguises import IDS, LLAMA, MOE, QWEN, QWEN3, SANDWICH, make
from tests.naive.decoder_forward import naive_logits

from homolog.errors import UsageError
from homolog.lab.loss import WINDOW, evaluate_loss, run_numpy
from homolog.lab.shape import Shape


@pytest.mark.parametrize("shape", [LLAMA, QWEN, QWEN3, SANDWICH, replace(LLAMA, head_size=6)], ids=lambda s: s.family)
def test_logits_are_those_of_the_naive_pass(shape: Shape) -> None:
    weights, ids = make(shape), np.array([IDS, IDS[::-1]])
    expected = np.stack([naive_logits(shape, weights, row.tolist()) for row in ids])
    np.testing.assert_allclose(run_numpy(shape, weights, ids), expected, rtol=1e-3, atol=1e-3)


def test_loss_is_the_mean_surprise_of_the_next_token() -> None:
    weights = make(LLAMA)
    ids = np.random.default_rng(1).integers(0, LLAMA.vocab, 2 * WINDOW + 1)
    surprise = []
    for start in (0, WINDOW):
        logits = naive_logits(LLAMA, weights, ids[start : start + WINDOW].tolist())
        spread = np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1)
        surprise.append(spread - logits[np.arange(WINDOW), ids[start + 1 : start + WINDOW + 1]])
    assert evaluate_loss(LLAMA, weights, ids) == pytest.approx(float(np.mean(surprise)), rel=1e-4)
    assert evaluate_loss(LLAMA, weights, ids, windows=1) == pytest.approx(float(np.mean(surprise[0])), rel=1e-4)


def test_what_cannot_be_measured_is_said() -> None:
    with pytest.raises(UsageError, match="experts"):
        run_numpy(MOE, make(MOE), np.array([IDS]))
    with pytest.raises(UsageError, match="held-out text"):
        evaluate_loss(LLAMA, make(LLAMA), np.arange(WINDOW) % LLAMA.vocab)
