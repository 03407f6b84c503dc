"""The forward pass of a decoder with the names of llama or of GPT-2, one token and one head at a time, as its papers write it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from homolog.lab.shape import Shape

Array = npt.NDArray[np.float64]


def naive_logits(shape: Shape, weights: Mapping[str, npt.NDArray[np.float32]], ids: list[int]) -> Array:
    """Logits of every position, shape ``(len(ids), vocab)``."""
    w = {name: tensor.astype(np.float64) for name, tensor in weights.items()}
    if shape.family == "gpt2":
        return _gpt2_logits(shape, w, ids)
    stream = [w["model.embed_tokens.weight"][token] for token in ids]
    for layer in range(shape.layers):
        here = f"model.layers.{layer}"
        normed = [_norm(x, w[f"{here}.input_layernorm.weight"]) for x in stream]
        updates = _attend(shape, w, f"{here}.self_attn", normed)
        before_ffn = "post_attention_layernorm"
        if shape.family == "pangu":
            updates = [_norm(y, w[f"{here}.post_attention_layernorm.weight"]) for y in updates]
            before_ffn = "pre_mlp_layernorm"
        stream = [x + update for x, update in zip(stream, updates, strict=True)]
        updates = [_feed(shape, w, f"{here}.mlp", _norm(x, w[f"{here}.{before_ffn}.weight"])) for x in stream]
        if shape.family == "pangu":
            updates = [_norm(y, w[f"{here}.post_mlp_layernorm.weight"]) for y in updates]
        stream = [x + update for x, update in zip(stream, updates, strict=True)]
    head = w["model.embed_tokens.weight" if shape.tied else "lm_head.weight"]
    return np.stack([head @ _norm(x, w["model.norm.weight"]) for x in stream])


def _norm(x: Array, gain: Array) -> Array:
    return np.asarray(x / np.sqrt((x**2).mean() + 1e-6) * gain)


def _attend(shape: Shape, w: Mapping[str, Array], here: str, inputs: list[Array]) -> list[Array]:
    size, updates = shape.head_dim, []

    def project(name: str, x: Array, head: int) -> Array:
        rows = slice(head * size, (head + 1) * size)
        y = w[f"{here}.{name}_proj.weight"][rows] @ x
        y = y + w[f"{here}.{name}_proj.bias"][rows] if f"{here}.{name}_proj.bias" in w else y
        return _norm(y, w[f"{here}.{name}_norm.weight"]) if f"{here}.{name}_norm.weight" in w else np.asarray(y)

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
        update = w[f"{here}.o_proj.weight"] @ np.concatenate(heads)
        updates.append(update + w[f"{here}.o_proj.bias"] if f"{here}.o_proj.bias" in w else update)
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
    shared = unit(f"{place}.shared_expert")
    if shape.family == "pangu_pro_moe":
        size = shape.experts // shape.groups
        best = [
            group * size + place_in_group
            for group in range(shape.groups)
            for place_in_group in np.argsort(-scores[group * size : (group + 1) * size])[: shape.chosen // shape.groups]
        ]
        weights = {e: scores[e] * w[f"{place}.router_scale"][0, e] for e in best}
    else:
        chosen = np.argsort(-scores)[: shape.chosen]
        weights = {e: scores[e] / scores[chosen].sum() for e in chosen}
        shared = shared / (1 + np.exp(-w[f"{place}.shared_expert_gate.weight"] @ x))
    return np.asarray(shared + sum(share * unit(f"{place}.experts.{e}") for e, share in weights.items()))


def _gpt2_logits(shape: Shape, w: Mapping[str, Array], ids: list[int]) -> Array:
    """Matrices stand as (input, output); the unembedding is the embedding."""
    stream = [w["transformer.wte.weight"][token] + w["transformer.wpe.weight"][at] for at, token in enumerate(ids)]

    def norm(place: str, x: Array) -> Array:
        centred = x - x.mean()
        return np.asarray(centred / np.sqrt((centred**2).mean() + 1e-5) * w[f"{place}.weight"] + w[f"{place}.bias"])

    def linear(place: str, x: Array) -> Array:
        return np.asarray(x @ w[f"{place}.weight"] + w[f"{place}.bias"])

    for layer in range(shape.layers):
        here, size = f"transformer.h.{layer}", shape.head_dim
        fused = [linear(f"{here}.attn.c_attn", norm(f"{here}.ln_1", x)) for x in stream]
        updates = []
        for position in range(len(ids)):
            heads = []
            for head in range(shape.heads):
                own = slice(head * size, (head + 1) * size)
                queries, keys, values = (
                    [part[kind * shape.width : (kind + 1) * shape.width][own] for part in fused[: position + 1]]
                    for kind in range(3)
                )
                scores = np.array([queries[-1] @ key for key in keys])
                scores = np.exp((scores - scores.max()) / np.sqrt(size))
                heads.append(sum(s * v for s, v in zip(scores / scores.sum(), values, strict=True)))
            updates.append(linear(f"{here}.attn.c_proj", np.concatenate(heads)))
        stream = [x + update for x, update in zip(stream, updates, strict=True)]
        opened = [linear(f"{here}.mlp.c_fc", norm(f"{here}.ln_2", x)) for x in stream]
        active = [y / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3))) for y in opened]
        stream = [x + linear(f"{here}.mlp.c_proj", y) for x, y in zip(stream, active, strict=True)]
    return np.stack([w["transformer.wte.weight"] @ norm("transformer.ln_f", x) for x in stream])
