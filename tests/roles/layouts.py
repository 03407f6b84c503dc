"""Fused and turned tensors taken apart in plain numpy, as the model classes do it: the oracle of the layouts.

Every function takes a stored tensor and gives the parts that lie in it, each as an output × input matrix (or a bias), in the order in
which the family file lists them. Sources are those of the family files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from homolog.roles.role import Role

__all__ = ["ODD", "Odd"]

Array = npt.NDArray[np.float32]
Parts = Sequence[Array]

QKV, GATE_UP = ("attn.q", "attn.k", "attn.v"), ("ffn.gate", "ffn.up")


@dataclass(frozen=True)
class Odd:
    """How one tensor of a family is stored."""

    ending: str
    """What its name ends with, without ``.weight`` or ``.bias``."""
    kinds: tuple[str, ...]
    split: Callable[[Array, Mapping[str, Any]], Parts]
    stacked: bool = False
    """Whether the leading axis lists the experts."""

    def roles(self, layer: int, part: str, array: Array, config: Mapping[str, Any]) -> dict[Role, Array]:
        """The roles in one tensor with their matrices."""
        blocks = enumerate(array) if self.stacked else [(-1, array)]
        return {
            Role(kind, part, layer, expert): matrix
            for expert, block in blocks
            for kind, matrix in zip(self.kinds, self.split(block, config), strict=True)
        }


def thirds(w: Array, _: Mapping[str, Any]) -> Parts:
    return np.split(w, 3)


def halves(w: Array, _: Mapping[str, Any]) -> Parts:
    return np.split(w, 2)


def conv1d_thirds(w: Array, _: Mapping[str, Any]) -> Parts:
    return np.split(w.T, 3)


def turned(w: Array, _: Mapping[str, Any]) -> Parts:
    return [w.T]


def as_it_is(w: Array, _: Mapping[str, Any]) -> Parts:
    return [w]


def flat(w: Array, _: Mapping[str, Any]) -> Parts:
    return [w.reshape(len(w), -1)]


def _heads(config: Mapping[str, Any]) -> int:
    return next(int(config[key]) for key in ("num_attention_heads", "n_head", "n_heads") if key in config)


def uneven(w: Array, config: Mapping[str, Any]) -> Parts:
    """Queries, keys and values one after the other, with fewer keys (Phi-3, MPT, ChatGLM)."""
    heads = _heads(config)
    keys = config.get("multi_query_group_num", config.get("num_key_value_heads", heads))
    dim = len(w) // (heads + 2 * keys)
    return np.split(w, [heads * dim, (heads + keys) * dim])


def by_head(w: Array, config: Mapping[str, Any]) -> Parts:
    """``view(heads, 3 * dim)`` (GPT-NeoX, BLOOM, GPT-BigCode with many key heads)."""
    x = w.reshape(_heads(config), 3, -1, *w.shape[1:])
    return [x[:, i].reshape(-1, *w.shape[1:]) for i in range(3)]


def by_group(w: Array, config: Mapping[str, Any]) -> Parts:
    """``view(groups, heads / groups + 2, dim)`` (InternLM2, Falcon with grouped keys)."""
    groups = config.get("num_kv_heads", config.get("num_key_value_heads"))
    x = w.reshape(groups, _heads(config) // groups + 2, -1, *w.shape[1:])
    return [part.reshape(-1, *w.shape[1:]) for part in (x[:, :-2], x[:, -2], x[:, -1])]


def one_key_head(w: Array, config: Mapping[str, Any]) -> Parts:
    """``view(heads + 2, dim)`` (Falcon-7B, StarCoder)."""
    x = w.reshape(_heads(config) + 2, -1, *w.shape[1:])
    return [part.reshape(-1, *w.shape[1:]) for part in (x[:-2], x[-2], x[-1])]


def latent_and_key(w: Array, config: Mapping[str, Any]) -> Parts:
    return np.split(w, [config["kv_lora_rank"]])


def keys_and_values(w: Array, config: Mapping[str, Any]) -> Parts:
    """``view(heads, nope + v, latent).split([nope, v])`` (MLA)."""
    x = w.reshape(config["num_attention_heads"], -1, w.shape[1])
    nope = config["qk_nope_head_dim"]
    return [part.reshape(-1, w.shape[1]) for part in (x[:, :nope], x[:, nope:])]


def alternating(w: Array, _: Mapping[str, Any]) -> Parts:
    """``[..., ::2]`` and ``[..., 1::2]`` of an input × output matrix, or of a bias (gpt-oss)."""
    return [w[..., 0::2].T, w[..., 1::2].T]


def turned_halves(w: Array, _: Mapping[str, Any]) -> Parts:
    """``chunk(2, dim=-1)`` of an input × output matrix (Llama 4)."""
    return np.split(w.T, 2)


_MLA = [
    Odd("kv_a_proj_with_mqa", ("attn.kv_a", "attn.k_rotary"), latent_and_key),
    Odd("kv_b_proj", ("attn.k", "attn.v"), keys_and_values),
]
_STACK = [
    Odd("mlp.experts.gate_up_proj", GATE_UP, halves, True),
    Odd("mlp.experts.down_proj", ("ffn.down",), as_it_is, True),
]
_JOINED = [Odd("mlp.gate_up_proj", GATE_UP, halves)]

ODD: dict[tuple[str, str], list[Odd]] = {
    ("gpt2", "base"): [
        Odd("c_attn", QKV, conv1d_thirds),
        Odd("attn.c_proj", ("attn.o",), turned),
        Odd("c_fc", ("ffn.up",), turned),
        Odd("mlp.c_proj", ("ffn.down",), turned),
    ],
    ("phi3", "grouped"): [Odd("qkv_proj", QKV, uneven), *_JOINED],
    ("phi3", "plain"): [Odd("qkv_proj", QKV, uneven), *_JOINED],
    ("glm", "language model"): _JOINED,
    ("glm4", "language model"): _JOINED,
    ("chatglm", "two key heads"): [Odd("query_key_value", QKV, uneven), Odd("dense_h_to_4h", GATE_UP, halves)],
    ("baichuan", "alibi"): [Odd("W_pack", QKV, thirds)],
    ("qwen", "language model"): [Odd("c_attn", QKV, thirds)],
    ("mpt", "language model"): [Odd("Wqkv", QKV, uneven)],
    ("modernbert", "base"): [Odd("Wqkv", QKV, thirds), Odd("Wi", GATE_UP, halves)],
    ("gpt_neox", "language model"): [Odd("query_key_value", QKV, by_head)],
    ("bloom", "language model"): [Odd("query_key_value", QKV, by_head)],
    ("falcon", "alibi, biases"): [Odd("query_key_value", QKV, by_head)],
    ("falcon", "grouped"): [Odd("query_key_value", QKV, by_group)],
    ("falcon", "one key head"): [Odd("query_key_value", QKV, one_key_head)],
    ("gpt_bigcode", "many key heads"): [Odd("c_attn", QKV, by_head)],
    ("gpt_bigcode", "one key head"): [Odd("c_attn", QKV, one_key_head)],
    ("internlm2", "grouped"): [Odd("wqkv", QKV, by_group)],
    ("deepseek_v2", "one query projection"): _MLA,
    ("deepseek_v3", "dense first"): _MLA,
    ("deepseek_v3", "in memory"): [*_MLA, *_STACK],
    ("kimi_k2", "dense first"): _MLA,
    ("minicpm3", "language model"): _MLA,
    ("mixtral", "in memory"): _STACK,
    ("qwen2_moe", "in memory"): _STACK,
    ("qwen3_moe", "in memory"): _STACK,
    ("olmoe", "in memory"): _STACK,
    ("glm4_moe", "in memory"): _STACK,
    ("phimoe", "in memory"): _STACK,
    ("hunyuan_v1_moe", "in memory"): _STACK,
    ("ernie4_5_moe", "in memory"): _STACK,
    ("granitemoe", "language model"): [
        Odd("input_linear", GATE_UP, halves, True),
        Odd("output_linear", ("ffn.down",), as_it_is, True),
    ],
    ("gpt_oss", "language model"): [
        Odd("experts.gate_up_proj", GATE_UP, alternating, True),
        Odd("experts.gate_up_proj_bias", GATE_UP, alternating, True),
        Odd("experts.down_proj", ("ffn.down",), turned, True),
        Odd("experts.down_proj_bias", ("ffn.down",), as_it_is, True),
    ],
    ("llama4_text", "language model"): [
        Odd("experts.gate_up_proj", GATE_UP, turned_halves, True),
        Odd("experts.down_proj", ("ffn.down",), turned, True),
    ],
    ("vit", "base"): [Odd("patch_embeddings.projection", ("embed.project",), flat)],
    ("clip_vision", "base"): [Odd("patch_embedding", ("embed.project",), flat)],
    ("torch_transformer_encoder", "bare"): [Odd("in_proj_weight", QKV, thirds), Odd("in_proj_bias", QKV, thirds)],
}
