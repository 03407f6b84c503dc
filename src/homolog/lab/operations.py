"""What can be done to a model short of training it: named, seeded steps, each a function of tensors.

An operation takes ``(shape, weights)`` and returns an `Outcome`. Those marked *keeps the function* change the logits by
less than 1e-3 relative (tested); the rest need training afterwards.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from homolog.errors import UsageError
from homolog.lab.shape import Shape, Weights, list_tensors

__all__ = ["OPERATIONS", "Outcome", "apply_operation"]

_LAYER = re.compile(r"model\.layers\.(\d+)\.(.*)")
_FFN_IN = ("mlp.gate_proj.weight", "mlp.up_proj.weight")
_FFN_OUT = "mlp.down_proj.weight"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A model after an operation; ``fresh`` are the tensors that did not come from the parent as a whole."""

    shape: Shape
    weights: Weights
    fresh: frozenset[str] = frozenset()
    facts: dict[str, Any] | None = None
    """What a detector could be asked to recover: which layer or unit came from which."""


Operation = Callable[..., Outcome]
OPERATIONS: dict[str, Operation] = {}


def apply_operation(shape: Shape, weights: Weights, step: dict[str, Any]) -> Outcome:
    """Do one ``[[operations]]`` entry of a recipe: ``kind`` names the function, the rest are its arguments.

    Raises ``UsageError`` for an unknown kind, arguments that it does not take, or a family that it does not know.
    """
    arguments = dict(step)
    kind = arguments.pop("kind", None)
    if kind not in OPERATIONS:
        raise UsageError(f"operation {kind!r}: the lab knows {', '.join(sorted(OPERATIONS))}")
    if shape.family == "gpt2":
        raise UsageError(f"operation {kind!r} is not defined for gpt2")
    try:
        inspect.signature(OPERATIONS[kind]).bind(shape, weights, **arguments)
    except TypeError as error:
        raise UsageError(f"operation {kind!r}: {error}") from error
    return OPERATIONS[kind](shape, weights, **arguments)


def _named(function: Operation) -> Operation:
    OPERATIONS[function.__name__] = function
    return function


@_named
def keep_layers(shape: Shape, weights: Weights, *, layers: list[int]) -> Outcome:
    """The new model's layer ``i`` is the old layer ``layers[i]``: drops layers, or doubles them as SOLAR did."""
    if not layers or not all(0 <= layer < shape.layers for layer in layers):
        raise UsageError(f"keep_layers: layers {layers} of a model with {shape.layers}")
    kept = {name: tensor for name, tensor in weights.items() if not _LAYER.match(name)}
    for new, old in enumerate(layers):
        kept |= {f"model.layers.{new}.{rest}": tensor.copy() for rest, tensor in _layer(weights, old).items()}
    return Outcome(replace(shape, layers=len(layers)), kept, facts={"sources": list(layers)})


@_named
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
                name = f"model.layers.{len(sources)}.{rest}"
                kept[name] = _start(rng, rest, tensor.shape, std)
                fresh.add(name)
            sources.append(None)
        if old < shape.layers:
            kept |= {f"model.layers.{len(sources)}.{rest}": tensor for rest, tensor in _layer(weights, old).items()}
            sources.append(old)
    return Outcome(replace(shape, layers=len(sources)), kept, frozenset(fresh), {"sources": sources})


@_named
def widen_ffn(
    shape: Shape, weights: Weights, *, units: int, interleave: bool = False, seed: int, std: float = 0.02
) -> Outcome:
    """Add ``units`` random FFN units a layer with zero output, after or between the old ones. Keeps the function."""
    _need_dense(shape, "widen_ffn")
    rng = np.random.default_rng(seed)
    total = shape.ffn + units
    new = np.sort(rng.choice(total, units, replace=False)) if interleave else np.arange(shape.ffn, total)
    old = np.setdiff1d(np.arange(total), new)
    changed = dict(weights)
    for layer in range(shape.layers):
        for rest in _FFN_IN:
            name = f"model.layers.{layer}.{rest}"
            wide = rng.normal(0.0, std, (total, shape.width)).astype(np.float32)
            wide[old] = weights[name]
            changed[name] = wide
        name = f"model.layers.{layer}.{_FFN_OUT}"
        wide = np.zeros((shape.width, total), dtype=np.float32)
        wide[:, old] = weights[name]
        changed[name] = wide
    return Outcome(replace(shape, ffn=total), changed, facts={"new_units": new.tolist()})


@_named
def prune_ffn(shape: Shape, weights: Weights, *, units: int) -> Outcome:
    """Keep the ``units`` FFN units of largest |up| · |down| in every layer, in their order."""
    _need_dense(shape, "prune_ffn")
    if not 0 < units < shape.ffn:
        raise UsageError(f"prune_ffn: units {units} of {shape.ffn}")
    changed, kept = dict(weights), []
    for layer in range(shape.layers):
        here = f"model.layers.{layer}."
        score = np.linalg.norm(weights[here + _FFN_IN[1]], axis=1) * np.linalg.norm(weights[here + _FFN_OUT], axis=0)
        keep = np.sort(np.argsort(-score, kind="stable")[:units])
        for rest in _FFN_IN:
            changed[here + rest] = weights[here + rest][keep]
        changed[here + _FFN_OUT] = weights[here + _FFN_OUT][:, keep]
        kept.append(keep.tolist())
    return Outcome(replace(shape, ffn=units), changed, facts={"kept_units": kept})


@_named
def upcycle(
    shape: Shape, weights: Weights, *, experts: int, chosen: int, seed: int, noise: float = 0.0, std: float = 0.02
) -> Outcome:
    """A dense qwen2 becomes qwen2_moe: routed experts and the shared expert are copies of the FFN, each of half weight.

    ``noise`` is added to the routed experts, relative to each matrix's own deviation; without it, keeps the function.
    """
    if shape.family != "qwen2":
        raise UsageError(f"upcycle: from qwen2, not {shape.family}")
    rng = np.random.default_rng(seed)
    target = replace(shape, family="qwen2_moe", experts=experts, chosen=chosen, shared_ffn=shape.ffn)
    grown: Weights = {}
    for name, size in list_tensors(target).items():
        source = re.sub(r"\.mlp\.(experts\.\d+|shared_expert)\.", ".mlp.", name)
        if source in weights:
            tensor = weights[source].copy()
            if ".experts." in name:
                tensor += noise * tensor.std() * rng.standard_normal(size).astype(np.float32)
                tensor *= 0.5 if "down_proj" in name else 1.0
        elif "shared_expert_gate" in name:
            tensor = np.zeros(size, dtype=np.float32)
        else:
            tensor = rng.normal(0.0, std, size).astype(np.float32)
        grown[name] = tensor
    fresh = frozenset(name for name in grown if name not in weights)
    return Outcome(target, grown, fresh, {"experts": experts, "noise": noise})


@_named
def extend_vocabulary(shape: Shape, weights: Weights, *, tokens: int, seed: int) -> Outcome:
    """Append ``tokens`` rows to the embedding and unembedding: the mean row plus noise of the rows' own deviation."""
    rng = np.random.default_rng(seed)
    changed = dict(weights)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in weights:
            rows = weights[name]
            new = rows.mean(0) + 0.5 * rows.std(0) * rng.standard_normal((tokens, shape.width))
            changed[name] = np.concatenate([rows, new.astype(np.float32)])
    return Outcome(replace(shape, vocab=shape.vocab + tokens), changed, facts={"new_tokens": tokens})


@_named
def add_noise(shape: Shape, weights: Weights, *, relative: float, seed: int) -> Outcome:
    """Washing, first half: normal noise on every matrix, ``relative`` to its own deviation.

    The second half, repair, is the training after it.
    """
    rng = np.random.default_rng(seed)
    changed = dict(weights)
    for name in sorted(weights):
        if weights[name].ndim > 1:
            noise = rng.standard_normal(weights[name].shape).astype(np.float32)
            changed[name] = weights[name] + relative * weights[name].std() * noise
    return Outcome(shape, changed)


def _layer(weights: Weights, layer: int) -> Weights:
    found = ((_LAYER.match(name), tensor) for name, tensor in weights.items())
    return {match[2]: tensor for match, tensor in found if match and int(match[1]) == layer}


def _start(rng: np.random.Generator, rest: str, size: Iterable[int], std: float) -> npt.NDArray[np.float32]:
    size = tuple(size)
    if len(size) == 1:
        return np.full(size, 0.0 if rest.endswith("bias") else 1.0, dtype=np.float32)
    if rest in {"self_attn.o_proj.weight", _FFN_OUT}:
        return np.zeros(size, dtype=np.float32)
    return rng.normal(0.0, std, size).astype(np.float32)


def _need_dense(shape: Shape, operation: str) -> None:
    if shape.family == "qwen2_moe":
        raise UsageError(f"{operation}: for a dense FFN, not {shape.family}")
