"""The forward pass, as a function of named tensors: what is trained is exactly what is stored."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from homolog.lab.shape import Shape

__all__ = ["run_model"]

Tensors = Mapping[str, Tensor]


def run_model(tensors: Tensors, shape: Shape, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Logits ``(batch, length, vocab)`` for ``ids`` ``(batch, length)``, and the experts' load-balance loss.

    The latter is 0 for a dense model.
    """
    if shape.family == "gpt2":
        return _run_gpt2(tensors, shape, ids), torch.zeros(())
    x = functional.embedding(ids, tensors["model.embed_tokens.weight"])
    rope = _rope(shape, ids.shape[1])
    balance = torch.zeros(())
    before_ffn = "pre_mlp_layernorm" if shape.sandwich else "post_attention_layernorm"
    for layer in range(shape.layers):
        here = f"model.layers.{layer}"
        update = _attend(tensors, shape, here, _norm(tensors, f"{here}.input_layernorm", x), rope)
        x = x + (_norm(tensors, f"{here}.post_attention_layernorm", update) if shape.sandwich else update)
        h = _norm(tensors, f"{here}.{before_ffn}", x)
        if shape.experts:
            update, load = _mix_experts(tensors, shape, f"{here}.mlp", h)
            balance = balance + load
        else:
            update = _ffn(tensors, f"{here}.mlp", h)
        x = x + (_norm(tensors, f"{here}.post_mlp_layernorm", update) if shape.sandwich else update)
    x = _norm(tensors, "model.norm", x)
    return x @ tensors["model.embed_tokens.weight" if shape.tied else "lm_head.weight"].T, balance


def _norm(tensors: Tensors, place: str, x: Tensor) -> Tensor:
    return functional.rms_norm(x, x.shape[-1:], tensors[f"{place}.weight"], 1e-6)


def _rope(shape: Shape, length: int) -> tuple[Tensor, Tensor]:
    half = shape.head_dim // 2
    rates = shape.theta ** (-torch.arange(half, dtype=torch.float32) / half)
    angles = torch.arange(length, dtype=torch.float32)[:, None] * rates
    return torch.cat([angles.cos(), angles.cos()], -1), torch.cat([angles.sin(), angles.sin()], -1)


def _turn(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * rope[0] + torch.cat([-second, first], -1) * rope[1]


def _attend(tensors: Tensors, shape: Shape, here: str, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    batch, length, _ = x.shape
    place = f"{here}.self_attn"

    def project(name: str, heads: int) -> Tensor:
        y = functional.linear(x, tensors[f"{place}.{name}_proj.weight"], tensors.get(f"{place}.{name}_proj.bias"))
        y = y.view(batch, length, heads, shape.head_dim)
        return (_norm(tensors, f"{place}.{name}_norm", y) if f"{place}.{name}_norm.weight" in tensors else y).transpose(
            1, 2
        )

    repeat = shape.heads // shape.kv_heads
    q = _turn(project("q", shape.heads), rope)
    k = _turn(project("k", shape.kv_heads), rope).repeat_interleave(repeat, 1)
    v = project("v", shape.kv_heads).repeat_interleave(repeat, 1)
    y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    y = y.transpose(1, 2).reshape(batch, length, -1)
    return functional.linear(y, tensors[f"{place}.o_proj.weight"], tensors.get(f"{place}.o_proj.bias"))


def _ffn(tensors: Tensors, place: str, x: Tensor) -> Tensor:
    gate = functional.silu(x @ tensors[f"{place}.gate_proj.weight"].T)
    return (gate * (x @ tensors[f"{place}.up_proj.weight"].T)) @ tensors[f"{place}.down_proj.weight"].T


def _mix_experts(tensors: Tensors, shape: Shape, place: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """All experts run on all tokens, which at this size is faster than routing; outside the top k their share is 0."""
    scores = (x @ tensors[f"{place}.gate.weight"].T).softmax(-1)
    shared = _ffn(tensors, f"{place}.shared_expert", x)
    if shape.family == "pangu_pro_moe":
        picked = _pick_in_groups(shape, scores)
        share = scores * picked * tensors[f"{place}.router_scale"].squeeze(0)
    else:
        best, chosen = scores.topk(shape.chosen, -1)
        share = torch.zeros_like(scores).scatter(-1, chosen, best / best.sum(-1, keepdim=True))
        picked = (share > 0).float()
        shared = shared * (x @ tensors[f"{place}.shared_expert_gate.weight"].T).sigmoid()
    experts = torch.stack([_ffn(tensors, f"{place}.experts.{e}", x) for e in range(shape.experts)], -2)
    load = picked.mean((0, 1)) / shape.chosen
    return (share[..., None] * experts).sum(-2) + shared, shape.experts * (load * scores.mean((0, 1))).sum()


def _pick_in_groups(shape: Shape, scores: Tensor) -> Tensor:
    """1 for the best ``chosen / groups`` experts of every group, 0 for the others: Pangu Pro MoE (arXiv 2505.21411)."""
    grouped = scores.unflatten(-1, (shape.groups, -1))
    best = grouped.topk(shape.chosen // shape.groups, -1).indices
    return torch.zeros_like(grouped).scatter(-1, best, 1.0).flatten(-2)


def _run_gpt2(tensors: Tensors, shape: Shape, ids: Tensor) -> Tensor:
    batch, length = ids.shape

    def norm(x: Tensor, place: str) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], tensors[f"{place}.weight"], tensors[f"{place}.bias"], 1e-5)

    def conv(x: Tensor, place: str) -> Tensor:
        return x @ tensors[f"{place}.weight"] + tensors[f"{place}.bias"]

    x = functional.embedding(ids, tensors["transformer.wte.weight"]) + tensors["transformer.wpe.weight"][:length]
    for layer in range(shape.layers):
        here = f"transformer.h.{layer}"
        qkv = conv(norm(x, f"{here}.ln_1"), f"{here}.attn.c_attn").view(batch, length, 3, shape.heads, shape.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1 / math.sqrt(shape.head_dim))
        x = x + conv(y.transpose(1, 2).reshape(batch, length, shape.width), f"{here}.attn.c_proj")
        x = x + conv(
            functional.gelu(conv(norm(x, f"{here}.ln_2"), f"{here}.mlp.c_fc"), approximate="tanh"), f"{here}.mlp.c_proj"
        )
    return norm(x, "transformer.ln_f") @ tensors["transformer.wte.weight"].T
