"""FFNs, heads and the residual stream made wider and narrower."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from homolog.errors import UsageError
from homolog.lab.parts import (
    Ffn,
    attention_places,
    dimensions_of,
    fold_gains,
    gain_names,
    list_ffns,
    residual_axes,
    written,
)
from homolog.lab.registry import DECODERS, DENSE, Outcome, register
from homolog.lab.shape import Shape, Weights

__all__ = ["prune_ffn", "prune_heads", "prune_residual", "widen_ffn", "widen_residual"]


@register(DENSE)
def widen_ffn(
    shape: Shape, weights: Weights, *, units: int, interleave: bool = False, seed: int, std: float = 0.02
) -> Outcome:
    """Add ``units`` random FFN units a layer with zero output, after or between the old ones. Keeps the function."""
    if units < 1:
        raise UsageError(f"widen_ffn: units {units}, expected at least 1")
    rng = np.random.default_rng(seed)
    total = shape.ffn + units
    new = np.sort(rng.choice(total, units, replace=False)) if interleave else np.arange(shape.ffn, total)
    old = np.setdiff1d(np.arange(total), new)
    changed = dict(weights)
    for ffn in _in_order(weights):
        for name, axis in ffn.axes.items():
            size = tuple(total if at == axis else length for at, length in enumerate(weights[name].shape))
            silent = name == ffn.writes or len(size) == 1
            wide = np.zeros(size) if silent else rng.normal(0.0, std, size)
            changed[name] = _insert(wide.astype(np.float32), weights[name], old, axis)
    fresh = frozenset(name for ffn in list_ffns(weights) for name in ffn.axes)
    return Outcome(replace(shape, ffn=total), changed, fresh, {"new_units": new.tolist()})


@register(DENSE)
def prune_ffn(shape: Shape, weights: Weights, *, units: int) -> Outcome:
    """Keep the ``units`` FFN units of largest |up| · |down| in every layer, in their order."""
    if not 0 < units < shape.ffn:
        raise UsageError(f"prune_ffn: units {units} of {shape.ffn}")
    changed, kept = dict(weights), []
    for ffn in _in_order(weights):
        keep = np.sort(np.argsort(-ffn.importance(weights), kind="stable")[:units])
        changed |= ffn.take(weights, keep)
        kept.append(keep.tolist())
    return Outcome(replace(shape, ffn=units), changed, facts={"kept_units": kept})


@register(DECODERS)
def prune_heads(shape: Shape, weights: Weights, *, groups: int) -> Outcome:
    """Keep the ``groups`` key-value heads of largest |value| · |output| in every layer, in their order, with the queries that read them."""
    if not 0 < groups < shape.kv_heads:
        raise UsageError(f"prune_heads: groups {groups} of {shape.kv_heads}")
    size, per_group, changed, kept = shape.head_dim, shape.heads // shape.kv_heads, dict(weights), []
    for place in attention_places(shape):
        value, output = (weights[f"{place}.{name}_proj.weight"] for name in ("v", "o"))
        importance = np.linalg.norm(value.reshape(shape.kv_heads, -1), axis=1)
        importance *= np.linalg.norm(output.T.reshape(shape.kv_heads, -1), axis=1)
        keep = np.sort(np.argsort(-importance, kind="stable")[:groups])
        heads = (keep[:, None] * per_group + np.arange(per_group)).ravel()
        for name, rows in (("q", heads), ("k", keep), ("v", keep)):
            for part in ("weight", "bias"):
                if (key := f"{place}.{name}_proj.{part}") in weights:
                    changed[key] = weights[key][dimensions_of(rows, size)]
        changed[f"{place}.o_proj.weight"] = output[:, dimensions_of(heads, size)]
        kept.append(heads.tolist())
    smaller = replace(shape, heads=groups * per_group, kv_heads=groups, head_size=size)
    return Outcome(smaller, changed, facts={"heads": kept})


@register(DECODERS)
def prune_residual(shape: Shape, weights: Weights, *, channels: int) -> Outcome:
    """Keep the ``channels`` most important channels of the residual stream, in their order, and all heads (Minitron, arXiv 2407.14679).

    A channel's importance is the norm of all that is written to it times the norm of all that reads it through its gain, as Minitron's
    activations have it, but from the weights alone.
    """
    if not 0 < channels < shape.width:
        raise UsageError(f"prune_residual: channels {channels} of {shape.width}")
    axes = residual_axes(weights)
    keep = np.sort(np.argsort(-_channel_importance(shape, weights), kind="stable")[:channels])
    narrow = {
        name: np.take(tensor, keep, axis=axes[name]) if name in axes else tensor for name, tensor in weights.items()
    }
    smaller = replace(shape, width=channels, head_size=shape.head_dim)
    return Outcome(smaller, narrow, facts={"kept_channels": keep.tolist()})


@register(DECODERS)
def widen_residual(shape: Shape, weights: Weights, *, channels: int, seed: int, std: float = 0.02) -> Outcome:
    """Add ``channels`` channels to the residual stream in random places, read at random and written by nothing yet. Keeps the function.

    The gains are rescaled, because RMSNorm now divides by more channels. All heads are kept.
    """
    if channels < 1:
        raise UsageError(f"widen_residual: channels {channels}, expected at least 1")
    rng, total = np.random.default_rng(seed), shape.width + channels
    new = np.sort(rng.choice(total, channels, replace=False))
    old = np.setdiff1d(np.arange(total), new)
    gains, changed = set(gain_names(weights)), dict(weights)
    for name, axis in residual_axes(weights).items():
        size = tuple(total if at == axis else length for at, length in enumerate(weights[name].shape))
        if name in gains:
            wide, tensor = np.ones(size), weights[name] * np.float32((shape.width / total) ** 0.5)
        else:
            wide, tensor = np.zeros(size) if written(name) else rng.normal(0.0, std, size), weights[name]
        changed[name] = _insert(wide.astype(np.float32), tensor, old, axis)
    wider = replace(shape, width=total, head_size=shape.head_dim)
    return Outcome(wider, changed, frozenset(residual_axes(weights)), {"new_channels": new.tolist()})


def _insert(
    wide: npt.NDArray[np.float32], tensor: npt.NDArray[np.float32], old: npt.NDArray[np.intp], axis: int
) -> npt.NDArray[np.float32]:
    wide[(slice(None),) * axis + (old,)] = tensor
    return wide


def _in_order(weights: Weights) -> list[Ffn]:
    """The FFNs of a dense model by layer, whatever the order of its tensors."""
    return sorted(list_ffns(weights), key=lambda ffn: int(ffn.writes.split(".")[2]))


def _channel_importance(shape: Shape, weights: Weights) -> npt.NDArray[np.float64]:
    """Squared norm of all that is written to a channel times that of all that reads it, shape ``(width,)``."""
    folded = fold_gains(shape, weights)
    gains, into, out_of = set(gain_names(weights)), np.zeros(shape.width), np.zeros(shape.width)
    for name, axis in residual_axes(folded).items():
        if name in gains:
            continue
        power = np.moveaxis(folded[name].astype(np.float64) ** 2, axis, 0).reshape(shape.width, -1).sum(axis=1)
        if written(name):
            into += power
        else:
            out_of += power
    return np.asarray(into * out_of)
