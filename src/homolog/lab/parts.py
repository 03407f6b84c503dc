"""The parts of a lab model by what they do: which tensors read the residual stream, which write to it, which belong to one FFN."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from homolog.lab.shape import Shape, Weights

__all__ = [
    "Ffn",
    "attention_places",
    "change_values",
    "dimensions_of",
    "fold_gains",
    "gain_names",
    "layer_place",
    "list_blocks",
    "list_ffns",
    "residual_axes",
    "table_names",
    "turn_residual",
    "written",
]

_BLOCK = re.compile(r"(.*\.mlp(?:\.experts\.\d+|\.shared_expert)?)\.up_proj\.weight")
_READS = re.compile(
    r".*(embed_tokens|lm_head|q_proj|k_proj|v_proj|gate_proj|up_proj|mlp\.gate|shared_expert_gate)\.weight"
)
_WRITES = re.compile(r".*(o_proj|down_proj)\.weight")
_OFFSETS = re.compile(r".*o_proj\.bias")
_GAIN = re.compile(r".*(input_layernorm|post_attention_layernorm|(pre|post)_mlp_layernorm|model\.norm)\.weight")
_READ_BY_ATTENTION = re.compile(r"self_attn\.[qkv]_proj\.weight")
_READ_BY_FFN = re.compile(r"mlp\.(.*\.)?(gate_proj|up_proj|gate|shared_expert_gate)\.weight")
_GPT2_FFN = re.compile(r"(transformer\.h\.\d+\.mlp)\.c_fc\.weight")
_GPT2_LAST = re.compile(r"transformer\.(wte|wpe)\.weight|transformer\..*c_proj\.weight")
"""GPT-2 stores matrices as (input, output), so what writes to the stream has its channels last."""
_GPT2_FIRST = re.compile(r"transformer\..*(ln_\w+\.(weight|bias)|c_attn\.weight|c_fc\.weight|c_proj\.bias)")


@dataclass(frozen=True, slots=True)
class Ffn:
    """One FFN or expert: the axis of each of its tensors that counts units, and the matrix that writes to the residual stream."""

    axes: Mapping[str, int]
    reads: str
    """The matrix whose rows (columns in GPT-2) weigh a unit's input most plainly: up, or GPT-2's only one."""
    writes: str

    def importance(self, weights: Weights) -> npt.NDArray[np.float32]:
        """|input weights| · |output weights| of every unit, shape ``(units,)``."""
        return np.asarray(
            np.linalg.norm(weights[self.reads], axis=1 - self.axes[self.reads])
            * np.linalg.norm(weights[self.writes], axis=1 - self.axes[self.writes])
        )

    def take(self, weights: Weights, units: npt.NDArray[np.intp]) -> Weights:
        """Its tensors with these units, in this order."""
        return {name: np.take(weights[name], units, axis=axis) for name, axis in self.axes.items()}


Change = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.floating]]


def list_ffns(weights: Weights) -> list[Ffn]:
    """All FFNs, experts and shared experts included."""
    gated = [
        Ffn({f"{place}.{name}_proj.weight": axis for name, axis in (("gate", 0), ("up", 0), ("down", 1))}, *ends)
        for place in list_blocks(weights)
        for ends in [(f"{place}.up_proj.weight", f"{place}.down_proj.weight")]
    ]
    plain = [match[1] for name in weights if (match := _GPT2_FFN.fullmatch(name))]
    return gated + [
        Ffn(
            {f"{p}.c_fc.weight": 1, f"{p}.c_fc.bias": 0, f"{p}.c_proj.weight": 0},
            f"{p}.c_fc.weight",
            f"{p}.c_proj.weight",
        )
        for p in plain
    ]


def layer_place(shape: Shape, layer: int | str) -> str:
    """The prefix of a layer's tensors, without the last dot."""
    return f"{'transformer.h' if shape.family == 'gpt2' else 'model.layers'}.{layer}"


def table_names(weights: Weights) -> list[str]:
    """The embedding, and the unembedding if it is a matrix of its own."""
    return [
        name for name in ("model.embed_tokens.weight", "transformer.wte.weight", "lm_head.weight") if name in weights
    ]


def residual_axes(weights: Weights) -> dict[str, int]:
    """The axis of every tensor that counts residual channels."""
    axes = {name: 1 for name in weights if _READS.fullmatch(name) or _GPT2_LAST.fullmatch(name)}
    axes |= {
        name: 0 for name in weights if any(kind.fullmatch(name) for kind in (_WRITES, _OFFSETS, _GAIN, _GPT2_FIRST))
    }
    return axes


def written(name: str) -> bool:
    """Whether a tensor writes to the residual stream: an embedding, an output matrix or its bias."""
    return bool(_WRITES.fullmatch(name) or _OFFSETS.fullmatch(name)) or "embed_tokens" in name


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
        elif _OFFSETS.fullmatch(name):
            changed[name] = change(tensor[None])[0].astype(np.float32)
    return changed


def fold_gains(shape: Shape, weights: Weights) -> Weights:
    """Every norm gain multiplied into the matrices that read what it scales, the unembedding untied."""
    changed = dict(weights)
    before_ffn = "pre_mlp_layernorm" if shape.sandwich else "post_attention_layernorm"
    for layer in range(shape.layers):
        place = f"model.layers.{layer}."
        for norm, after in (("input_layernorm", _READ_BY_ATTENTION), (before_ffn, _READ_BY_FFN)):
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
    if shape.family == "gpt2":
        return _change_gpt2_values(shape, weights, draw)
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


def _change_gpt2_values(shape: Shape, weights: Weights, draw: Callable[[int], npt.NDArray[np.float64]]) -> Weights:
    """Queries, keys and values are the three parts of one matrix, (input, output)."""
    size, changed = shape.head_dim, dict(weights)
    for layer in range(shape.layers):
        place = f"{layer_place(shape, layer)}.attn"
        fused, offset = (weights[f"{place}.c_attn.{part}"].astype(np.float64) for part in ("weight", "bias"))
        output = weights[f"{place}.c_proj.weight"].astype(np.float64)
        for head in range(shape.heads):
            mixing = draw(size)
            here = slice(2 * shape.width + head * size, 2 * shape.width + (head + 1) * size)
            fused[:, here], offset[here] = fused[:, here] @ mixing.T, mixing @ offset[here]
            there = slice(head * size, (head + 1) * size)
            output[there] = np.linalg.inv(mixing).T @ output[there]
        for name, tensor in (("c_attn.weight", fused), ("c_attn.bias", offset), ("c_proj.weight", output)):
            changed[f"{place}.{name}"] = tensor.astype(np.float32)
    return changed
