"""The parts of a lab model by what they do: which tensors read the residual stream, which write to it, which belong to one FFN."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from homolog.lab.shape import Shape, Weights

__all__ = [
    "attention_places",
    "change_values",
    "dimensions_of",
    "fold_gains",
    "gain_names",
    "list_blocks",
    "turn_residual",
]

_BLOCK = re.compile(r"(.*\.mlp(?:\.experts\.\d+|\.shared_expert)?)\.up_proj\.weight")
_READS = re.compile(
    r".*(embed_tokens|lm_head|q_proj|k_proj|v_proj|gate_proj|up_proj|mlp\.gate|shared_expert_gate)\.weight"
)
_WRITES = re.compile(r".*(o_proj|down_proj)\.weight")
_GAIN = re.compile(r".*(input_layernorm|post_attention_layernorm|model\.norm)\.weight")
_AFTER = {
    "input_layernorm": re.compile(r"self_attn\.[qkv]_proj\.weight"),
    "post_attention_layernorm": re.compile(r"mlp\.(.*\.)?(gate_proj|up_proj|gate|shared_expert_gate)\.weight"),
}
"""For each norm of a layer the matrices that read what it scales."""

Change = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.floating]]


def list_blocks(weights: Weights) -> list[str]:
    """The places of all FFNs, experts and shared experts included: ``….mlp``, ``….mlp.experts.3``."""
    return [match[1] for name in weights if (match := _BLOCK.fullmatch(name))]


def attention_places(shape: Shape) -> list[str]:
    """The place of the attention of every layer."""
    return [f"model.layers.{layer}.self_attn" for layer in range(shape.layers)]


def gain_names(weights: Weights) -> list[str]:
    """The norm gains that scale the residual stream."""
    return [name for name in weights if _GAIN.fullmatch(name)]


def dimensions_of(heads: npt.NDArray[np.intp], size: int) -> npt.NDArray[np.intp]:
    """The dimensions of some heads, head by head."""
    return np.asarray((heads[:, None] * size + np.arange(size)).ravel(), dtype=np.intp)


def turn_residual(weights: Weights, change: Change) -> Weights:
    """``change`` applied to the residual axis of every matrix, given as rows ``(other, residual)``."""
    changed = dict(weights)
    for name, tensor in weights.items():
        if _READS.fullmatch(name):
            changed[name] = change(tensor).astype(np.float32)
        elif _WRITES.fullmatch(name):
            changed[name] = np.ascontiguousarray(change(tensor.T).T, dtype=np.float32)
    return changed


def fold_gains(shape: Shape, weights: Weights) -> Weights:
    """Every norm gain multiplied into the matrices that read what it scales, the unembedding untied."""
    changed = dict(weights)
    for layer in range(shape.layers):
        place = f"model.layers.{layer}."
        for norm, after in _AFTER.items():
            gain = weights[f"{place}{norm}.weight"]
            for name in weights:
                if name.startswith(place) and after.fullmatch(name[len(place) :]):
                    changed[name] = weights[name] * gain
            changed[f"{place}{norm}.weight"] = np.ones_like(gain)
    gain = weights["model.norm.weight"]
    changed["lm_head.weight"] = weights.get("lm_head.weight", weights["model.embed_tokens.weight"]) * gain
    changed["model.norm.weight"] = np.ones_like(gain)
    return changed


def change_values(shape: Shape, weights: Weights, draw: Callable[[int], npt.NDArray[np.float64]]) -> Weights:
    """The values of every key-value head multiplied by a matrix that ``draw(head_dim)`` gives, and the output matrix by its inverse."""
    size, per_group, changed = shape.head_dim, shape.heads // shape.kv_heads, dict(weights)
    for place in attention_places(shape):
        output = weights[f"{place}.o_proj.weight"].astype(np.float64)
        values = {
            part: weights[f"{place}.v_proj.{part}"].astype(np.float64)
            for part in ("weight", "bias")
            if f"{place}.v_proj.{part}" in weights
        }
        for group in range(shape.kv_heads):
            mixing = draw(size)
            here = slice(group * size, (group + 1) * size)
            for value in values.values():
                value[here] = mixing @ value[here]
            for head in range(group * per_group, (group + 1) * per_group):
                there = slice(head * size, (head + 1) * size)
                output[:, there] = output[:, there] @ np.linalg.inv(mixing)
        changed[f"{place}.o_proj.weight"] = output.astype(np.float32)
        for part, value in values.items():
            changed[f"{place}.v_proj.{part}"] = value.astype(np.float32)
    return changed
