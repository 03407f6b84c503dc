"""Loss on held-out text without torch: the forward pass in numpy, for the families with one FFN a layer."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

import numpy as np
import numpy.typing as npt

from homolog.errors import UsageError
from homolog.lab.shape import MIXTURES, Shape, Weights

__all__ = ["WINDOW", "evaluate_loss", "evaluate_streams", "run_numpy"]

Array = npt.NDArray[np.float32]
Ids = npt.NDArray[np.integer]

WINDOW = 64
"""Tokens of context, as in the lab's trainings."""

_AT_ONCE = 32


def evaluate_streams(
    shape: Shape, weights: Weights, held_out: Mapping[str, Ids], *, windows: int = 128
) -> dict[str, float]:
    """Mean loss in nats per token on the first windows of every stream; the same windows as `homolog.lab.train.measure_loss` takes."""
    return {name: evaluate_loss(shape, weights, ids, windows=windows) for name, ids in sorted(held_out.items())}


def evaluate_loss(shape: Shape, weights: Weights, ids: Ids, *, windows: int = 128) -> float:
    """Mean loss in nats per token on the first ``windows`` of one run of token ids. Raises ``UsageError`` for too short a run."""
    starts = range(0, min(len(ids) - 1, windows * WINDOW) // WINDOW * WINDOW, WINDOW)
    if not starts:
        raise UsageError(f"{len(ids)} tokens of held-out text, expected more than {WINDOW}")
    drawn = np.stack([ids[start : start + WINDOW + 1] for start in starts]).astype(np.int64)
    losses = []
    for first in range(0, len(drawn), _AT_ONCE):
        some = drawn[first : first + _AT_ONCE]
        logits = run_numpy(shape, weights, some[:, :-1]).astype(np.float64)
        logits -= logits.max(axis=-1, keepdims=True)
        chosen = np.take_along_axis(logits, some[:, 1:, None], axis=-1)[..., 0]
        losses.append(np.log(np.exp(logits).sum(axis=-1)) - chosen)
    return float(np.concatenate(losses).mean())


def run_numpy(shape: Shape, weights: Weights, ids: Ids) -> Array:
    """Logits ``(batch, length, vocab)`` for ``ids`` ``(batch, length)``, as `homolog.lab.model.run_model` computes them with torch.

    Raises ``UsageError`` for a mixture of experts, which this does not run.
    """
    if shape.family in MIXTURES:
        raise UsageError(f"loss without torch: {shape.family} has experts, expected one FFN a layer")
    if shape.family == "gpt2":
        return _run_gpt2(shape, weights, ids)
    x = weights["model.embed_tokens.weight"][ids]
    rope = _rope(shape, ids.shape[1])
    before_ffn = "pre_mlp_layernorm" if shape.sandwich else "post_attention_layernorm"
    for layer in range(shape.layers):
        here = f"model.layers.{layer}"
        update = _attend_grouped(shape, weights, here, _rms(weights, f"{here}.input_layernorm", x), rope)
        x = x + (_rms(weights, f"{here}.post_attention_layernorm", update) if shape.sandwich else update)
        h = _rms(weights, f"{here}.{before_ffn}", x)
        gate, up, down = (weights[f"{here}.mlp.{name}_proj.weight"].T for name in ("gate", "up", "down"))
        z = h @ gate
        update = (_silu(z) * (h @ up)) @ down
        x = x + (_rms(weights, f"{here}.post_mlp_layernorm", update) if shape.sandwich else update)
    head = weights["model.embed_tokens.weight" if shape.tied else "lm_head.weight"]
    return np.asarray(_rms(weights, "model.norm", x) @ head.T)


def _silu(z: Array) -> Array:
    return np.asarray(z * (0.5 + 0.5 * np.tanh(0.5 * z)))  # the sigmoid without overflow


def _rms(weights: Weights, place: str, x: Array) -> Array:
    scale = np.sqrt(np.einsum("...d,...d->...", x, x)[..., None] / x.shape[-1] + 1e-6)
    return np.asarray(x / scale * weights[f"{place}.weight"], dtype=np.float32)


def _rope(shape: Shape, length: int) -> tuple[Array, Array]:
    half = shape.head_dim // 2
    angles = np.arange(length)[:, None] * shape.theta ** (-np.arange(half) / half)
    return np.tile(np.cos(angles), 2).astype(np.float32), np.tile(np.sin(angles), 2).astype(np.float32)


def _turn(x: Array, rope: tuple[Array, Array]) -> Array:
    first, second = np.split(x, 2, axis=-1)
    return np.asarray(x * rope[0] + np.concatenate([-second, first], axis=-1) * rope[1])


def _attend_grouped(shape: Shape, weights: Weights, here: str, x: Array, rope: tuple[Array, Array]) -> Array:
    place = f"{here}.self_attn"

    def project(name: str, heads: int) -> Array:
        y = x @ weights[f"{place}.{name}_proj.weight"].T + weights.get(f"{place}.{name}_proj.bias", np.float32(0))
        y = y.reshape(*x.shape[:2], heads, shape.head_dim)
        return (_rms(weights, f"{place}.{name}_norm", y) if f"{place}.{name}_norm.weight" in weights else y).swapaxes(
            1, 2
        )

    repeat = shape.heads // shape.kv_heads
    q = _turn(project("q", shape.heads), rope)
    k = np.repeat(_turn(project("k", shape.kv_heads), rope), repeat, axis=1)
    y = _mix(q, k, np.repeat(project("v", shape.kv_heads), repeat, axis=1))
    return np.asarray(y @ weights[f"{place}.o_proj.weight"].T + weights.get(f"{place}.o_proj.bias", np.float32(0)))


def _mix(q: Array, k: Array, v: Array) -> Array:
    """Causal attention; ``(batch, heads, length, size)`` each, heads side by side in what comes back."""
    length, size = q.shape[2:]
    scores = q @ k.swapaxes(2, 3) / np.float32(sqrt(size))
    scores[..., np.triu(np.ones((length, length), dtype=bool), 1)] = -np.inf
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ v
    return np.asarray(mixed.swapaxes(1, 2).reshape(len(q), length, -1))


def _run_gpt2(shape: Shape, weights: Weights, ids: Ids) -> Array:
    def norm(x: Array, place: str) -> Array:
        x = x - x.mean(axis=-1, keepdims=True)
        scale = np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5)
        return np.asarray(x / scale * weights[f"{place}.weight"] + weights[f"{place}.bias"], dtype=np.float32)

    def conv(x: Array, place: str) -> Array:
        return np.asarray(x @ weights[f"{place}.weight"] + weights[f"{place}.bias"])

    x = weights["transformer.wte.weight"][ids] + weights["transformer.wpe.weight"][: ids.shape[1]]
    for layer in range(shape.layers):
        here = f"transformer.h.{layer}"
        qkv = conv(norm(x, f"{here}.ln_1"), f"{here}.attn.c_attn")
        q, k, v = np.moveaxis(qkv.reshape(*ids.shape, 3, shape.heads, shape.head_dim), 2, 0).swapaxes(2, 3)
        x = x + conv(_mix(q, k, v), f"{here}.attn.c_proj")
        z = conv(norm(x, f"{here}.ln_2"), f"{here}.mlp.c_fc")
        x = x + conv(0.5 * z * (1 + np.tanh(sqrt(2 / np.pi) * (z + 0.044715 * z**3))), f"{here}.mlp.c_proj")
    return np.asarray(norm(x, "transformer.ln_f") @ weights["transformer.wte.weight"].T)
