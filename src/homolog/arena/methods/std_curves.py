"""Std curves: the intrinsic fingerprint of the July 2025 study (arXiv 2507.03014).

For each layer the standard deviations of W_Q, W_K, W_V and W_O; each of the four curves is normalised over the layers (mean 0,
deviation 1); the fingerprints of two models are compared by Pearson's correlation, interpolated to the smaller depth if the depths
differ. Of four normalised curves put end to end the correlation is the mean of the four correlations. The study calls pairs of
unrelated models "below 0.7".
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from homolog.arena.methods.base import Method, Model, NotApplicable
from homolog.roles.role import Role

__all__ = ["STD_CURVES", "correlate_curves", "measure_curves"]

Curves = npt.NDArray[np.float64]


def measure_curves(model: Model) -> Curves:
    """Standard deviations, shape ``(4, layers)``: Q, K, V, O."""
    return np.array(
        [[model.read(Role(f"attn.{kind}", layer=layer)).std() for layer in range(model.layers)] for kind in "qkvo"],
        dtype=np.float64,
    )


def correlate_curves(a: Curves, b: Curves) -> float:
    """Mean over the four kinds of Pearson's correlation of the curves, interpolated to the smaller depth."""
    depth = min(a.shape[1], b.shape[1])
    if depth < 3:
        raise NotApplicable("fewer than three layers make no curve")
    first, second = (_normalise(_resample(curves, depth)) for curves in (a, b))
    return float((first * second).sum() / (len(first) * depth))


def _resample(curves: Curves, depth: int) -> Curves:
    here, there = np.linspace(0, 1, curves.shape[1]), np.linspace(0, 1, depth)
    return np.array([np.interp(there, here, curve) for curve in curves])


def _normalise(curves: Curves) -> Curves:
    spread = curves.std(axis=1, keepdims=True)
    if not (spread > 0).all():
        raise NotApplicable("a curve is constant")
    return np.asarray((curves - curves.mean(axis=1, keepdims=True)) / spread)


STD_CURVES = Method(
    name="std-curves",
    citation="Yoon et al. 2025, Intrinsic Fingerprint of LLMs, arXiv 2507.03014 (withdrawn)",
    access="weights",
    statistic="mean correlation of the four curves",
    compute=lambda a, b: correlate_curves(measure_curves(a), measure_curves(b)),
    own_threshold=0.7,
    threshold_source="the study: unrelated models stay below 0.7",
)
