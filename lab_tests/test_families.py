"""Every family with the names of llama computes what a plain one-token-at-a-time forward pass computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.naive.decoder_forward import naive_logits

from homolog.lab.model import run_model
from homolog.lab.shape import Shape, initialise

pytestmark = pytest.mark.lab

LLAMA = Shape(vocab=40, width=24, layers=2, ffn=20, heads=6, kv_heads=2)
SHAPES = [
    LLAMA,
    replace(LLAMA, family="qwen2", tied=True),
    replace(LLAMA, family="qwen3"),
    replace(LLAMA, family="pangu"),
    replace(LLAMA, family="qwen2_moe", experts=4, shared_ffn=16),
    replace(LLAMA, family="pangu_pro_moe", experts=6, chosen=2, groups=2, shared_ffn=16),
    replace(LLAMA, family="pangu_pro_moe", experts=8, chosen=4, groups=2, shared_ffn=16),
    replace(LLAMA, head_size=10),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.family}-{shape.chosen}-{shape.head_dim}")
def test_the_forward_pass_agrees_with_the_plain_one(shape: Shape) -> None:
    rng = np.random.default_rng(5)
    weights = {
        name: w + 0.3 * rng.standard_normal(w.shape).astype(np.float32)
        for name, w in initialise(shape, seed=3, std=0.2).items()
    }
    ids = [7, 3, 30, 3, 11, 25, 0, 39]
    with torch.no_grad():
        logits, _ = run_model({n: torch.tensor(w) for n, w in weights.items()}, shape, torch.tensor([ids]))
    np.testing.assert_allclose(logits[0].numpy(), naive_logits(shape, weights, ids), rtol=1e-3, atol=2e-4)
