"""Disguises: what hides a copy at no cost, because the model computes the same as before.

Named, seeded steps like those of `homolog.lab.operations`, and registered with them. In numpy alone, so that a disguised model is
recomputed from its recipe where it is needed and never stored. Every one of them changes the logits by less than 1e-3 relative (tested).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from homolog.errors import UsageError
from homolog.lab.parts import (
    attention_places,
    change_values,
    dimensions_of,
    fold_gains,
    layer_place,
    list_blocks,
    list_ffns,
    residual_axes,
    table_names,
    turn_residual,
)
from homolog.lab.registry import DECODERS, EVERY, OPERATIONS, Outcome, register
from homolog.lab.shape import MIXTURES, Shape, Weights

__all__ = ["DISGUISES", "draw_rotation"]


@register(EVERY)
def permute_units(shape: Shape, weights: Weights, *, seed: int) -> Outcome:
    """The units of every FFN, and of every expert, in a new order. Keeps the function."""
    rng = np.random.default_rng(seed)
    return Outcome(shape, _reorder_units(weights, lambda importance: rng.permutation(len(importance))))


@register(EVERY)
def sort_units(shape: Shape, weights: Weights) -> Outcome:
    """The units of every FFN in descending order of |up| · |down|. Keeps the function.

    Two independent models sorted alike agree in their indices: a trap for every test of indices.
    """
    return Outcome(shape, _reorder_units(weights, lambda importance: np.argsort(-importance, kind="stable")))


@register(EVERY)
def permute_heads(shape: Shape, weights: Weights, *, seed: int) -> Outcome:
    """Key-value groups in a new order, and the query heads within each group. Keeps the function."""
    rng = np.random.default_rng(seed)
    orders: list[list[int]] = []
    if shape.family == "gpt2":
        return Outcome(shape, _permute_gpt2_heads(shape, weights, rng, orders), facts={"heads": orders})
    per_group, changed = shape.heads // shape.kv_heads, dict(weights)
    for place in attention_places(shape):
        groups = rng.permutation(shape.kv_heads)
        heads = np.concatenate([group * per_group + rng.permutation(per_group) for group in groups])
        orders.append(heads.tolist())
        kv, query = dimensions_of(groups, shape.head_dim), dimensions_of(heads, shape.head_dim)
        for name, order in (("q", query), ("k", kv), ("v", kv)):
            for part in ("weight", "bias"):
                if (key := f"{place}.{name}_proj.{part}") in weights:
                    changed[key] = weights[key][order]
        changed[f"{place}.o_proj.weight"] = weights[f"{place}.o_proj.weight"][:, query]
    return Outcome(shape, changed, facts={"heads": orders})


@register(frozenset(MIXTURES))
def permute_experts(shape: Shape, weights: Weights, *, seed: int) -> Outcome:
    """The routed experts of every layer in a new order, with their rows of the router. Keeps the function.

    Where experts form groups, the groups change places and the experts within each.
    """
    rng, changed = np.random.default_rng(seed), dict(weights)
    for layer in range(shape.layers):
        place, order = f"model.layers.{layer}.mlp", _draw_expert_order(shape, rng)
        changed[f"{place}.gate.weight"] = weights[f"{place}.gate.weight"][order]
        if f"{place}.router_scale" in weights:
            changed[f"{place}.router_scale"] = weights[f"{place}.router_scale"][:, order]
        for new, old in enumerate(order):
            for name in ("gate_proj", "up_proj", "down_proj"):
                changed[f"{place}.experts.{new}.{name}.weight"] = weights[f"{place}.experts.{old}.{name}.weight"]
    return Outcome(shape, changed)


@register(EVERY)
def permute_residual(shape: Shape, weights: Weights, *, seed: int) -> Outcome:
    """The channels of the residual stream in a new order. Keeps the function."""
    order = np.random.default_rng(seed).permutation(shape.width)
    changed = dict(weights)
    for name, axis in residual_axes(weights).items():
        changed[name] = np.ascontiguousarray(np.take(weights[name], order, axis=axis))
    return Outcome(shape, changed)


@register()
def flip_signs(shape: Shape, weights: Weights, *, seed: int) -> Outcome:
    """About half of the channels of the residual stream with the other sign. Keeps the function."""
    signs = np.random.default_rng(seed).choice(np.array([-1, 1], dtype=np.float32), shape.width)
    return Outcome(shape, turn_residual(weights, lambda rows: rows * signs))


@register()
def fold_norms(shape: Shape, weights: Weights) -> Outcome:
    """Norm gains moved into the matrices that read what they scale; a tied unembedding becomes one of its own. Keeps the function."""
    return Outcome(replace(shape, tied=False), fold_gains(shape, weights))


@register(DECODERS - {"pangu"})
def rotate_residual(shape: Shape, weights: Weights, *, seed: int) -> Outcome:
    """The residual stream in a random orthonormal basis, after folding the norms. Keeps the function (RMSNorm alone allows it)."""
    basis = draw_rotation(np.random.default_rng(seed), shape.width)
    turned = turn_residual(fold_gains(shape, weights), lambda rows: rows @ basis)
    return Outcome(replace(shape, tied=False), turned)


@register(EVERY)
def rescale(shape: Shape, weights: Weights, *, seed: int, spread: float = 0.5) -> Outcome:
    """Up rows and value rows times random factors, down and output columns divided by them. Keeps the function.

    Plain FFNs, which have no up rows, stay as they are. ``spread`` is the deviation of the factors' logarithm.
    """
    rng, changed = np.random.default_rng(seed), dict(weights)
    for place in list_blocks(weights):
        up, down = weights[f"{place}.up_proj.weight"], weights[f"{place}.down_proj.weight"]
        factors = np.exp(spread * rng.standard_normal(len(up))).astype(np.float32)
        changed[f"{place}.up_proj.weight"], changed[f"{place}.down_proj.weight"] = up * factors[:, None], down / factors
    values = change_values(shape, changed, lambda size: np.diag(np.exp(spread * rng.standard_normal(size))))
    return Outcome(shape, values)


@register(EVERY)
def mix_values(shape: Shape, weights: Weights, *, seed: int, spread: float = 0.3) -> Outcome:
    """The value dimensions of every key-value head mixed by an invertible matrix, undone in the output matrix. Keeps the function."""
    rng = np.random.default_rng(seed)

    def draw(size: int) -> npt.NDArray[np.float64]:
        scales = np.exp(spread * rng.standard_normal(size))
        return draw_rotation(rng, size) * scales @ draw_rotation(rng, size)

    return Outcome(shape, change_values(shape, weights, draw))


@register(EVERY)
def overwrite_rows(shape: Shape, weights: Weights, *, rows: list[int], seed: int, own: bool = False) -> Outcome:
    """The embedding and unembedding rows of ``rows`` replaced by noise of the table's deviation.

    For tokens that no text contains it keeps what the model says of every text, up to the share that the softmax gives to tokens that never
    come: training has learned to give them none, and noise forgets it. With ``own`` the rows are drawn around their own mean with their own
    deviations, which keeps that too.
    """
    if not all(0 <= row < shape.vocab for row in rows):
        raise UsageError(f"overwrite_rows: rows {rows} of a vocabulary of {shape.vocab}")
    rng, changed = np.random.default_rng(seed), dict(weights)
    for name in table_names(weights):
        table = weights[name].copy()
        noise = rng.standard_normal((len(rows), shape.width)).astype(np.float32)
        table[rows] = (
            table[rows].mean(axis=0) + table[rows].std(axis=0) * noise if own and rows else table.std() * noise
        )
        changed[name] = table
    return Outcome(shape, changed)


@register()
def rename(shape: Shape, weights: Weights) -> Outcome:
    """Tensors without their prefix, as some exporters write them. Keeps the function; no other operation can follow."""
    return Outcome(shape, {name.removeprefix("model."): tensor for name, tensor in weights.items()})


def draw_rotation(rng: np.random.Generator, size: int) -> npt.NDArray[np.float64]:
    """An orthogonal matrix from the uniform distribution (Mezzadri 2007)."""
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    return np.asarray(q * np.sign(np.diag(r)), dtype=np.float64)


def _draw_expert_order(shape: Shape, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    if shape.groups < 2:
        return np.asarray(rng.permutation(shape.experts), dtype=np.intp)
    grouped = np.arange(shape.experts).reshape(shape.groups, -1)[rng.permutation(shape.groups)]
    return np.asarray(rng.permuted(grouped, axis=1).ravel(), dtype=np.intp)


def _reorder_units(weights: Weights, choose: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.intp]]) -> Weights:
    changed = dict(weights)
    for ffn in list_ffns(weights):
        changed |= ffn.take(weights, choose(ffn.importance(weights)))
    return changed


def _permute_gpt2_heads(shape: Shape, weights: Weights, rng: np.random.Generator, orders: list[list[int]]) -> Weights:
    """Heads of the fused query, key and value matrix, and the rows of the output matrix that read them; ``orders`` takes the new orders."""
    changed = dict(weights)
    for layer in range(shape.layers):
        place = f"{layer_place(shape, layer)}.attn"
        heads = rng.permutation(shape.heads)
        orders.append(heads.tolist())
        order = dimensions_of(heads, shape.head_dim)
        fused = np.concatenate([part * shape.width + order for part in range(3)])
        changed[f"{place}.c_attn.weight"] = weights[f"{place}.c_attn.weight"][:, fused]
        changed[f"{place}.c_attn.bias"] = weights[f"{place}.c_attn.bias"][fused]
        changed[f"{place}.c_proj.weight"] = weights[f"{place}.c_proj.weight"][order]
    return changed


DISGUISES = {
    name: OPERATIONS[name]
    for name in (
        "permute_units",
        "sort_units",
        "permute_heads",
        "permute_experts",
        "permute_residual",
        "flip_signs",
        "fold_norms",
        "rotate_residual",
        "rescale",
        "mix_values",
        "overwrite_rows",
        "rename",
    )
}
