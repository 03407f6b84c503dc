"""Norms that the parent did not have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from homolog.lab.registry import Outcome, register
from homolog.lab.shape import Shape, Weights, list_tensors

__all__ = ["add_norms"]


@register(frozenset({"llama", "qwen2"}))
def add_norms(shape: Shape, weights: Weights, *, gain: float = 0.0) -> Outcome:
    """What attention and FFN write is normalised before it is added: llama or qwen2 becomes pangu, with Pangu Ultra's sandwich norms.

    The gain of the new norms starts at ``gain``, or for 0 at 1 / √(2 · layers): the deeper the model, the smaller, as Pangu Ultra's does
    (arXiv 2504.07866). Biases that the parent has not are zero. The norm before the FFN is the parent's, under its new name.
    """
    target = replace(shape, family="pangu")
    start = gain or (2 * shape.layers) ** -0.5
    grown: Weights = {}
    for name, size in list_tensors(target).items():
        if name.endswith("pre_mlp_layernorm.weight"):
            grown[name] = weights[name.replace("pre_mlp", "post_attention")].copy()
        elif name.endswith(("post_attention_layernorm.weight", "post_mlp_layernorm.weight")):
            grown[name] = np.full(size, start, dtype=np.float32)
        else:
            grown[name] = weights[name].copy() if name in weights else np.zeros(size, dtype=np.float32)
    new = [name for name in grown if name.endswith(("post_attention_layernorm.weight", "post_mlp_layernorm.weight"))]
    fresh = frozenset(new) | (grown.keys() - weights.keys())
    fresh -= {name for name in fresh if name.endswith("pre_mlp_layernorm.weight")}
    return Outcome(target, grown, fresh, {"norms": "sandwich", "gain": round(start, 6)})
