"""Layers dropped, doubled and inserted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from homolog.errors import UsageError
from homolog.lab.parts import layer_place
from homolog.lab.registry import EVERY, Outcome, register
from homolog.lab.shape import Shape, Weights

__all__ = ["insert_layers", "keep_layers", "list_layer"]

_LAYER = re.compile(r"(?:model\.layers|transformer\.h)\.(\d+)\.(.*)")
_OUTPUT = re.compile(r".*(o_proj|down_proj|c_proj)\.weight")


@register(EVERY)
def keep_layers(shape: Shape, weights: Weights, *, layers: list[int]) -> Outcome:
    """The new model's layer ``i`` is the old layer ``layers[i]``: drops layers, or doubles them as SOLAR did (arXiv 2312.15166)."""
    if not layers or not all(0 <= layer < shape.layers for layer in layers):
        raise UsageError(f"keep_layers: layers {layers} of a model with {shape.layers}")
    kept = {name: tensor for name, tensor in weights.items() if not _LAYER.match(name)}
    for new, old in enumerate(layers):
        kept |= {f"{layer_place(shape, new)}.{rest}": tensor.copy() for rest, tensor in _layer(weights, old).items()}
    return Outcome(replace(shape, layers=len(layers)), kept, facts={"sources": list(layers)})


@register(EVERY)
def insert_layers(shape: Shape, weights: Weights, *, before: list[int], seed: int, std: float = 0.02) -> Outcome:
    """New random layers before the old layers ``before``, with zeroed outputs. Keeps the function."""
    if not all(0 <= place <= shape.layers for place in before):
        raise UsageError(f"insert_layers: before {before} of a model with {shape.layers}")
    rng = np.random.default_rng(seed)
    kept = {name: tensor for name, tensor in weights.items() if not _LAYER.match(name)}
    sources: list[int | None] = []
    fresh: set[str] = set()
    for old in range(shape.layers + 1):
        if old in before:
            for rest, tensor in _layer(weights, 0).items():
                name = f"{layer_place(shape, len(sources))}.{rest}"
                kept[name] = _start(rng, rest, tensor.shape, std)
                fresh.add(name)
            sources.append(None)
        if old < shape.layers:
            here = layer_place(shape, len(sources))
            kept |= {f"{here}.{rest}": tensor for rest, tensor in _layer(weights, old).items()}
            sources.append(old)
    return Outcome(replace(shape, layers=len(sources)), kept, frozenset(fresh), {"sources": sources})


def list_layer(weights: Weights, layer: int) -> Weights:
    """The tensors of one layer by their full names."""
    found = ((_LAYER.match(name), name, tensor) for name, tensor in weights.items())
    return {name: tensor for match, name, tensor in found if match and int(match[1]) == layer}


def _layer(weights: Weights, layer: int) -> Weights:
    found = ((_LAYER.match(name), tensor) for name, tensor in weights.items())
    return {match[2]: tensor for match, tensor in found if match and int(match[1]) == layer}


def _start(rng: np.random.Generator, rest: str, size: Iterable[int], std: float) -> npt.NDArray[np.float32]:
    size = tuple(size)
    if len(size) == 1 or rest.endswith("router_scale"):
        return np.full(size, 0.0 if rest.endswith("bias") else 1.0, dtype=np.float32)
    if _OUTPUT.fullmatch(rest):
        return np.zeros(size, dtype=np.float32)
    return rng.normal(0.0, std, size).astype(np.float32)
