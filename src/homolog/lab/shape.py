"""The shape of a lab model, its tensors by their hub names, and how they start."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from homolog.errors import UsageError

__all__ = ["FAMILIES", "Shape", "Weights", "initialise", "list_tensors"]

FAMILIES = ("llama", "qwen2", "qwen2_moe", "gpt2")
Weights = dict[str, npt.NDArray[np.float32]]
"""A model: tensors by hub name."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes and conventions of one decoder model."""

    family: str = "llama"
    vocab: int = 512
    width: int = 64
    layers: int = 5
    ffn: int = 128
    heads: int = 4
    kv_heads: int = 2
    tied: bool = False
    positions: int = 256
    """Rows of the learned position table (gpt2); the longest context otherwise."""
    theta: float = 10000.0
    experts: int = 0
    chosen: int = 2
    """Experts per token."""
    shared_ffn: int = 0
    """Units of the shared expert."""

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise UsageError(f"family {self.family!r}: the lab makes {', '.join(FAMILIES)}")
        if self.width % self.heads or self.heads % self.kv_heads or (self.width // self.heads) % 2:
            raise UsageError(f"width {self.width}, heads {self.heads}, kv_heads {self.kv_heads} do not divide evenly")

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.width // self.heads

    def config(self) -> dict[str, Any]:
        """``config.json`` as the hub spells it."""
        if self.family == "gpt2":
            return {
                "architectures": ["GPT2LMHeadModel"],
                "model_type": "gpt2",
                "vocab_size": self.vocab,
                "n_embd": self.width,
                "n_layer": self.layers,
                "n_head": self.heads,
                "n_inner": self.ffn,
                "n_positions": self.positions,
                "activation_function": "gelu_new",
                "layer_norm_epsilon": 1e-5,
                "tie_word_embeddings": True,
                "torch_dtype": "bfloat16",
            }
        names = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen2_moe": "Qwen2MoeForCausalLM"}
        config = {
            "architectures": [names[self.family]],
            "model_type": self.family,
            "vocab_size": self.vocab,
            "hidden_size": self.width,
            "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "max_position_embeddings": self.positions,
            "rope_theta": self.theta,
            "rms_norm_eps": 1e-6,
            "hidden_act": "silu",
            "tie_word_embeddings": self.tied,
            "torch_dtype": "bfloat16",
        }
        if self.family == "llama":
            config |= {"attention_bias": False, "mlp_bias": False, "head_dim": self.head_dim}
        if self.family == "qwen2_moe":
            config |= {
                "num_experts": self.experts,
                "num_experts_per_tok": self.chosen,
                "moe_intermediate_size": self.ffn,
                "shared_expert_intermediate_size": self.shared_ffn,
                "norm_topk_prob": True,
                "decoder_sparse_step": 1,
                "mlp_only_layers": [],
            }
        return config

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a recipe or a truth record."""
        return asdict(self)


def list_tensors(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Every tensor of a model of this shape, in a fixed order, with its shape."""
    if shape.family == "gpt2":
        return _list_gpt2(shape)
    d, kv = shape.width, shape.kv_heads * shape.head_dim
    tensors: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocab, d)}
    for layer in range(shape.layers):
        here = f"model.layers.{layer}"
        tensors[f"{here}.input_layernorm.weight"] = (d,)
        for name, rows in (("q", d), ("k", kv), ("v", kv)):
            tensors[f"{here}.self_attn.{name}_proj.weight"] = (rows, d)
            if shape.family != "llama":
                tensors[f"{here}.self_attn.{name}_proj.bias"] = (rows,)
        tensors[f"{here}.self_attn.o_proj.weight"] = (d, d)
        tensors[f"{here}.post_attention_layernorm.weight"] = (d,)
        if shape.family == "qwen2_moe":
            tensors[f"{here}.mlp.gate.weight"] = (shape.experts, d)
            for expert in range(shape.experts):
                tensors |= _list_ffn(f"{here}.mlp.experts.{expert}", d, shape.ffn)
            tensors |= _list_ffn(f"{here}.mlp.shared_expert", d, shape.shared_ffn)
            tensors[f"{here}.mlp.shared_expert_gate.weight"] = (1, d)
        else:
            tensors |= _list_ffn(f"{here}.mlp", d, shape.ffn)
    tensors["model.norm.weight"] = (d,)
    if not shape.tied:
        tensors["lm_head.weight"] = (shape.vocab, d)
    return tensors


def _list_ffn(place: str, width: int, units: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{place}.gate_proj.weight": (units, width),
        f"{place}.up_proj.weight": (units, width),
        f"{place}.down_proj.weight": (width, units),
    }


def _list_gpt2(shape: Shape) -> dict[str, tuple[int, ...]]:
    d = shape.width
    tensors: dict[str, tuple[int, ...]] = {
        "transformer.wte.weight": (shape.vocab, d),
        "transformer.wpe.weight": (shape.positions, d),
    }
    for layer in range(shape.layers):
        here = f"transformer.h.{layer}"
        blocks = {"ln_1": (d,), "attn.c_attn": (d, 3 * d), "attn.c_proj": (d, d), "ln_2": (d,)}
        blocks |= {"mlp.c_fc": (d, shape.ffn), "mlp.c_proj": (shape.ffn, d)}
        for name, size in blocks.items():
            tensors[f"{here}.{name}.weight"] = size
            tensors[f"{here}.{name}.bias"] = (size[-1],)
    tensors["transformer.ln_f.weight"] = (d,)
    tensors["transformer.ln_f.bias"] = (d,)
    return tensors


def initialise(shape: Shape, *, seed: int, std: float = 0.02) -> Weights:
    """Matrices N(0, std²), norm gains 1, biases 0. numpy draws, so the numbers do not depend on torch's version."""
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for name, size in list_tensors(shape).items():
        if len(size) > 1:
            weights[name] = rng.normal(0.0, std, size).astype(np.float32)
        else:
            weights[name] = np.full(size, 0.0 if name.endswith("bias") else 1.0, dtype=np.float32)
    return weights
