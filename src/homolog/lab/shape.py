"""The shape of a lab model, its tensors by their hub names, and how they start."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from homolog.errors import UsageError

__all__ = ["FAMILIES", "MIXTURES", "Shape", "Weights", "initialise", "list_tensors"]

FAMILIES = {
    "llama": ("llama", "LlamaForCausalLM"),
    "qwen2": ("qwen2", "Qwen2ForCausalLM"),
    "qwen3": ("qwen3", "Qwen3ForCausalLM"),
    "qwen2_moe": ("qwen2_moe", "Qwen2MoeForCausalLM"),
    "pangu_pro_moe": ("PanguProMoE", "PanguProMoEForCausalLM"),
    "pangu": ("PanguEmbedded", "PanguEmbeddedForCausalLM"),
    "gpt2": ("gpt2", "GPT2LMHeadModel"),
}
"""Each with its ``model_type`` and its class. The names of pangu_pro_moe are those of vllm-project/vllm-ascend,
vllm_ascend/models/pangu_moe.py at 082c258 (grouped routing, ``router_scale``, an ungated shared expert, a bias on the output projection);
those of pangu, a dense decoder with norms before and after each block, of vllm-project/vllm, vllm/model_executor/models/openpangu.py."""
MIXTURES = ("qwen2_moe", "pangu_pro_moe")
_BIASED = {"qwen2": "qkv", "qwen2_moe": "qkv", "pangu_pro_moe": "qkvo", "pangu": "qkvo"}
"""The projections of the attention that have a bias."""

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
    groups: int = 0
    """Groups of experts that give ``chosen / groups`` each (pangu_pro_moe)."""
    head_size: int = 0
    """Channels of one head where they are not ``width / heads``."""

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise UsageError(f"family {self.family!r}: the lab makes {', '.join(FAMILIES)}")
        for name in ("vocab", "width", "layers", "ffn", "heads", "kv_heads", "positions"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}: expected at least 1")
        if (self.width % self.heads and not self.head_size) or self.heads % self.kv_heads or self.head_dim % 2:
            raise UsageError(f"width {self.width}, heads {self.heads}, kv_heads {self.kv_heads} do not divide evenly")
        if self.head_size < 0 or (self.head_size and self.family == "gpt2"):
            raise UsageError(f"head_size {self.head_size}: expected 0 or more, and 0 for gpt2")
        self._check_experts()

    def _check_experts(self) -> None:
        if (self.experts > 0) != (self.family in MIXTURES):
            raise UsageError(f"experts {self.experts}: of a {self.family}, expected {self._expected_experts()}")
        if not self.experts:
            return
        if not 1 <= self.chosen <= self.experts or self.shared_ffn < 1:
            raise UsageError(
                f"experts {self.experts}, chosen {self.chosen}, shared_ffn {self.shared_ffn}: expected 1 to {self.experts} chosen ones, "
                "and a shared expert"
            )
        if self.family == "pangu_pro_moe" and (
            self.groups < 1 or self.experts % self.groups or self.chosen % self.groups
        ):
            raise UsageError(
                f"groups {self.groups}: expected a divisor of experts {self.experts} and of chosen {self.chosen}"
            )

    def _expected_experts(self) -> str:
        return "1 or more" if self.family in MIXTURES else "0"

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.head_size or self.width // self.heads

    @property
    def sandwich(self) -> bool:
        """Whether what a block writes is normalised before it is added."""
        return self.family == "pangu"

    def config(self) -> dict[str, Any]:
        """``config.json`` as the hub spells it."""
        kind, model_class = FAMILIES[self.family]
        if self.family == "gpt2":
            return {
                "architectures": [model_class],
                "model_type": kind,
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
        config = {
            "architectures": [model_class],
            "model_type": kind,
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
        if self.family == "qwen3":
            config |= {"attention_bias": False, "head_dim": self.head_dim}
        if self.head_size:
            config |= {"head_dim": self.head_size}
        if self.family == "pangu":
            config |= {"bias": True, "sandwich_norm": True}
        return config | self._expert_config()

    def _expert_config(self) -> dict[str, Any]:
        if not self.experts:
            return {}
        sizes = {
            "num_experts": self.experts,
            "num_experts_per_tok": self.chosen,
            "moe_intermediate_size": self.ffn,
            "shared_expert_intermediate_size": self.shared_ffn,
        }
        if self.family == "pangu_pro_moe":
            return sizes
        return sizes | {"norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []}

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a recipe or a truth record."""
        return asdict(self)


def list_tensors(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Every tensor of a model of this shape, in a fixed order, with its shape."""
    if shape.family == "gpt2":
        return _list_gpt2(shape)
    d, q, kv = shape.width, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    biased = _BIASED.get(shape.family, "")
    tensors: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocab, d)}
    for layer in range(shape.layers):
        here = f"model.layers.{layer}"
        tensors[f"{here}.input_layernorm.weight"] = (d,)
        for name, rows, columns in (("q", q, d), ("k", kv, d), ("v", kv, d), ("o", d, q)):
            tensors[f"{here}.self_attn.{name}_proj.weight"] = (rows, columns)
            if name in biased:
                tensors[f"{here}.self_attn.{name}_proj.bias"] = (rows,)
        if shape.family == "qwen3":
            tensors[f"{here}.self_attn.q_norm.weight"] = tensors[f"{here}.self_attn.k_norm.weight"] = (shape.head_dim,)
        tensors[f"{here}.post_attention_layernorm.weight"] = (d,)
        if shape.sandwich:
            tensors[f"{here}.pre_mlp_layernorm.weight"] = tensors[f"{here}.post_mlp_layernorm.weight"] = (d,)
        tensors |= _list_experts(f"{here}.mlp", shape) if shape.experts else _list_ffn(f"{here}.mlp", d, shape.ffn)
    tensors["model.norm.weight"] = (d,)
    if not shape.tied:
        tensors["lm_head.weight"] = (shape.vocab, d)
    return tensors


def _list_experts(place: str, shape: Shape) -> dict[str, tuple[int, ...]]:
    tensors: dict[str, tuple[int, ...]] = {f"{place}.gate.weight": (shape.experts, shape.width)}
    if shape.family == "pangu_pro_moe":
        tensors[f"{place}.router_scale"] = (1, shape.experts)
    for expert in range(shape.experts):
        tensors |= _list_ffn(f"{place}.experts.{expert}", shape.width, shape.ffn)
    tensors |= _list_ffn(f"{place}.shared_expert", shape.width, shape.shared_ffn)
    if shape.family == "qwen2_moe":
        tensors[f"{place}.shared_expert_gate.weight"] = (1, shape.width)
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
    """Matrices N(0, std²), norm gains and router scales 1, biases 0. numpy draws, so the numbers do not depend on torch's version."""
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for name, size in list_tensors(shape).items():
        if len(size) > 1 and not name.endswith("router_scale"):
            weights[name] = rng.normal(0.0, std, size).astype(np.float32)
        else:
            weights[name] = np.full(size, 0.0 if name.endswith("bias") else 1.0, dtype=np.float32)
    return weights
