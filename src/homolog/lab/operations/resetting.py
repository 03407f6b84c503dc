"""Parts of a body back to random numbers, as before any training."""

from __future__ import annotations

import numpy as np

from homolog.errors import UsageError
from homolog.lab.operations.depth import list_layer
from homolog.lab.parts import list_ffns
from homolog.lab.registry import EVERY, Outcome, register
from homolog.lab.shape import Shape, Weights

__all__ = ["reset_layers", "reset_units"]


@register(EVERY)
def reset_units(shape: Shape, weights: Weights, *, share: float, seed: int, std: float = 0.02) -> Outcome:
    """A share of the units of every FFN and expert, drawn at random, back to random numbers of deviation ``std``."""
    if not 0 <= share <= 1:
        raise UsageError(f"reset_units: share {share}, expected 0 to 1")
    rng, changed, reset = np.random.default_rng(seed), dict(weights), {}
    for ffn in list_ffns(weights):
        units = len(ffn.importance(weights))
        chosen = np.sort(rng.permutation(units)[: round(share * units)])
        for name, axis in ffn.axes.items():
            rows = np.moveaxis(weights[name].copy(), axis, 0)
            rows[chosen] = rng.normal(0.0, std, rows[chosen].shape) if rows.ndim > 1 else 0.0
            changed[name] = np.ascontiguousarray(np.moveaxis(rows, 0, axis))
        reset[ffn.writes] = chosen.tolist()
    return Outcome(shape, changed, frozenset(name for ffn in list_ffns(weights) for name in ffn.axes), {"reset": reset})


@register(EVERY)
def reset_layers(shape: Shape, weights: Weights, *, layers: list[int], seed: int, std: float = 0.02) -> Outcome:
    """The layers ``layers`` back to random numbers of deviation ``std``; their gains are 1 and their biases 0."""
    if not all(0 <= layer < shape.layers for layer in layers):
        raise UsageError(f"reset_layers: layers {layers} of a model with {shape.layers}")
    rng, new = np.random.default_rng(seed), {}
    for layer in layers:
        for name, tensor in sorted(list_layer(weights, layer).items()):
            if tensor.ndim > 1 and not name.endswith("router_scale"):
                new[name] = rng.normal(0.0, std, tensor.shape).astype(np.float32)
            else:
                new[name] = np.full_like(tensor, 0.0 if name.endswith("bias") else 1.0)
    return Outcome(shape, weights | new, frozenset(new), {"reset": list(layers)})
