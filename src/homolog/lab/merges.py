"""Merges: one model from the weights of several that share their shape, with the arithmetic of the field's merging tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from homolog.errors import UsageError
from homolog.lab.shape import Weights

__all__ = ["MERGES", "apply_merge"]

Array = npt.NDArray[np.float32]
Rng = np.random.Generator


def apply_merge(kind: str, models: Sequence[Weights], *, seed: int = 0, **arguments: Any) -> Weights:
    """Merge ``models`` tensor by tensor; for ``task_arithmetic``, ``ties`` and ``dare`` the first is the base.

    Raises ``UsageError`` for an unknown kind or models that do not share their shapes.
    """
    if kind not in MERGES:
        raise UsageError(f"merge {kind!r}: the lab knows {', '.join(sorted(MERGES))}")
    shapes = [{name: tensor.shape for name, tensor in model.items()} for model in models]
    if len(models) < 2 or any(shape != shapes[0] for shape in shapes[1:]):
        raise UsageError(f"merge {kind!r}: of two or more models of one shape")
    merged: Weights = {}
    for name in sorted(models[0]):
        rng = np.random.default_rng([seed, crc32(name.encode())])
        merged[name] = MERGES[kind]([model[name] for model in models], rng, **arguments).astype(np.float32)
    return merged


def _linear(tensors: Sequence[Array], _: Rng, *, coefficients: Sequence[float]) -> Array:
    """Σ cᵢ Wᵢ / Σ cᵢ (model soups, arXiv 2203.05482)."""
    total = sum(c * tensor for c, tensor in zip(coefficients, tensors, strict=True))
    return np.asarray(total / sum(coefficients))


def _slerp(tensors: Sequence[Array], _: Rng, *, t: float) -> Array:
    """Spherical interpolation of two tensors taken as vectors (Shoemake 1985); linear where they are all but parallel."""
    first, second = tensors
    lengths = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    cosine = float(np.vdot(first, second)) / lengths if lengths else 1.0
    if abs(cosine) > 0.9995:
        return (1 - t) * first + t * second
    angle = float(np.arccos(cosine))
    return np.asarray((np.sin((1 - t) * angle) * first + np.sin(t * angle) * second) / np.sin(angle))


def _task_arithmetic(tensors: Sequence[Array], _: Rng, *, scale: float = 1.0) -> Array:
    """Base + scale · Σ (Wᵢ − base) (arXiv 2212.04089)."""
    base, *others = tensors
    return np.asarray(base + scale * sum(other - base for other in others))


def _ties(tensors: Sequence[Array], _: Rng, *, density: float = 0.5, scale: float = 1.0) -> Array:
    """Trim every delta to its largest ``density``, elect the sign with more mass, average what agrees (arXiv 2306.01708)."""
    base, *others = tensors
    deltas = np.stack([_trim(other - base, density) for other in others])
    elected = np.sign(deltas.sum(axis=0))
    agree = (np.sign(deltas) == elected) & (elected != 0)
    counts = agree.sum(axis=0)
    return np.asarray(base + scale * (deltas * agree).sum(axis=0) / np.maximum(counts, 1))


def _dare(tensors: Sequence[Array], rng: Rng, *, drop: float = 0.5, scale: float = 1.0) -> Array:
    """Drop each entry of every delta with probability ``drop``, rescale the rest, average the deltas (arXiv 2311.03099)."""
    base, *others = tensors
    deltas = [(rng.random(base.shape) >= drop) * (other - base) / (1 - drop) for other in others]
    return np.asarray(base + scale * sum(deltas) / len(deltas))


def _trim(delta: Array, density: float) -> Array:
    kept = max(1, round(density * delta.size))
    threshold = np.partition(np.abs(delta), delta.size - kept, axis=None)[delta.size - kept]
    return np.asarray(delta * (np.abs(delta) >= threshold))


MERGES: dict[str, Callable[..., Array]] = {
    "linear": _linear,
    "slerp": _slerp,
    "task_arithmetic": _task_arithmetic,
    "ties": _ties,
    "dare": _dare,
}
