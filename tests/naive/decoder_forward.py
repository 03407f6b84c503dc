"""The forward pass of a llama or qwen2 decoder, one token and one head at a time, as its papers write it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from homolog.lab.shape import Shape

Array = npt.NDArray[np.float64]


def naive_logits(shape: Shape, weights: Mapping[str, npt.NDArray[np.float32]], ids: list[int]) -> Array:
    """Logits of every position, shape ``(len(ids), vocab)``."""
    w = {name: tensor.astype(np.float64) for name, tensor in weights.items()}
    stream = [w["model.embed_tokens.weight"][token] for token in ids]
    for layer in range(shape.layers):
        here = f"model.layers.{layer}"
        normed = [_norm(x, w[f"{here}.input_layernorm.weight"]) for x in stream]
        stream = [x + update for x, update in zip(stream, _attend(shape, w, f"{here}.self_attn", normed), strict=True)]
        normed = [_norm(x, w[f"{here}.post_attention_layernorm.weight"]) for x in stream]
        stream = [x + _feed(shape, w, f"{here}.mlp", h) for x, h in zip(stream, normed, strict=True)]
    head = w["model.embed_tokens.weight" if shape.tied else "lm_head.weight"]
    return np.stack([head @ _norm(x, w["model.norm.weight"]) for x in stream])


def _norm(x: Array, gain: Array) -> Array:
    return np.asarray(x / np.sqrt((x**2).mean() + 1e-6) * gain)


def _attend(shape: Shape, w: Mapping[str, Array], here: str, inputs: list[Array]) -> list[Array]:
    size, updates = shape.head_dim, []

    def project(name: str, x: Array, head: int) -> Array:
        rows = slice(head * size, (head + 1) * size)
        y = w[f"{here}.{name}_proj.weight"][rows] @ x
        return np.asarray(y + w[f"{here}.{name}_proj.bias"][rows] if f"{here}.{name}_proj.bias" in w else y)

    for position, x in enumerate(inputs):
        heads = []
        for head in range(shape.heads):
            group = head * shape.kv_heads // shape.heads
            query = _turn(shape, project("q", x, head), position)
            seen = inputs[: position + 1]
            scores = np.array([query @ _turn(shape, project("k", y, group), at) for at, y in enumerate(seen)])
            scores = np.exp((scores - scores.max()) / np.sqrt(size))
            values = [project("v", y, group) for y in seen]
            heads.append(sum(s * v for s, v in zip(scores / scores.sum(), values, strict=True)))
        updates.append(w[f"{here}.o_proj.weight"] @ np.concatenate(heads))
    return updates


def _turn(shape: Shape, x: Array, position: int) -> Array:
    half = shape.head_dim // 2
    angles = position * shape.theta ** (-np.arange(half) / half)
    first, second = x[:half], x[half:]
    return np.concatenate(
        [first * np.cos(angles) - second * np.sin(angles), second * np.cos(angles) + first * np.sin(angles)]
    )


def _feed(shape: Shape, w: Mapping[str, Array], place: str, x: Array) -> Array:
    def unit(at: str) -> Array:
        gate = w[f"{at}.gate_proj.weight"] @ x
        return np.asarray(w[f"{at}.down_proj.weight"] @ (gate / (1 + np.exp(-gate)) * (w[f"{at}.up_proj.weight"] @ x)))

    if not shape.experts:
        return unit(place)
    scores = np.exp(w[f"{place}.gate.weight"] @ x)
    scores /= scores.sum()
    best = np.argsort(-scores)[: shape.chosen]
    shared = unit(f"{place}.shared_expert") / (1 + np.exp(-w[f"{place}.shared_expert_gate.weight"] @ x))
    return np.asarray(shared + sum(scores[e] / scores[best].sum() * unit(f"{place}.experts.{e}") for e in best))
