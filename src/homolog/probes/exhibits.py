"""Exhibits: figures that people look for, drawn because they look for them, and never part of the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from homolog.bank.storage import load_bank
from homolog.probes.channels import common_roles
from homolog.probes.pair import Pair

__all__ = ["background", "gain_cosines", "std_curves"]


_BANKED: Mapping[str, tuple[str, ...]] = {
    "std_curves": tuple(f"std_curves.{kind}" for kind in "qkvo"),
    "norm_gains": ("norm_gains",),
}


@cache
def background(exhibit: str) -> Mapping[str, Any]:
    """``text`` and ``values`` of one exhibit over the independent pairs of the bank: 101 values, from the least to the most."""
    bank = load_bank()
    values = np.concatenate([bank.values(name) for name in _BANKED[exhibit]])
    drawn = np.quantile(values, np.linspace(0, 1, 101))
    text = (
        f"{len(values):,} values over {len(bank.pairs):,} pairs of {len(bank.models)} models trained independently of each other, "
        "in steps of one per cent (homolog bank show)."
    )
    return {"text": text, "values": [float(value) for value in drawn]}


def std_curves(pair: Pair) -> dict[str, object]:
    """Standard deviation of Q, K, V and O by layer and the correlation of the curves (arXiv 2507.03014).

    The deeper model's curve is interpolated to the other's depth. Measured on 16 rows of every matrix.
    """
    correlation: dict[str, float | None] = {}
    for kind in "qkvo":
        x, y = pair.a.spreads.get(kind), pair.b.spreads.get(kind)
        correlation[kind] = _correlate(np.array(x), np.array(y)) if x and y else None
    curves = [{kind: _finite(curve) for kind, curve in sketch.spreads.items()} for sketch in (pair.a, pair.b)]
    return {"a": curves[0], "b": curves[1], "correlation": correlation}


def _finite(curve: Sequence[float]) -> list[float | None]:
    """``None`` in place of what NaN or Inf in the weights made of a layer."""
    return [value if np.isfinite(value) else None for value in curve]


def gain_cosines(pair: Pair, layers: Mapping[int, int]) -> list[float | None]:
    """Cosine of the norm gains of each layer of B with those of its layer of A; independent models reach 0.99 too."""
    by_layer: dict[int, list[float]] = {}
    for role_a, role_b in zip(*common_roles(pair, layers), strict=True):
        if role_b.layer < 0 or role_b.part != "weight" or not role_b.kind.startswith("norm"):
            continue
        x, y = pair.a.channels[role_a], pair.b.channels[role_b]
        scale = float(np.sqrt((x @ x) * (y @ y))) if len(x) == len(y) and pair.same_width else 0.0
        if scale > 0:
            by_layer.setdefault(role_b.layer, []).append(float(x @ y) / scale)
    return [float(np.mean(by_layer[i])) if i in by_layer else None for i in range(pair.b.anatomy.dims.layers)]


def _correlate(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float | None:
    if len(x) != len(y):
        longer, shorter = (x, y) if len(x) > len(y) else (y, x)
        longer = np.interp(np.linspace(0, 1, len(shorter)), np.linspace(0, 1, len(longer)), longer)
        x, y = longer, shorter
    if len(x) < 3 or not (np.isfinite(x).all() and np.isfinite(y).all()) or not (x.std() > 0 and y.std() > 0):
        return None
    return float(np.corrcoef(x, y)[0, 1])
