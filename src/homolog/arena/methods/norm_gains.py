"""Norm-gain cosine: the evidence of the December 2025 accusation of Solar-Open-100B, which was taken back.

The cosine of the gain vectors of the norms of equal role and layer, averaged. The accusation rested on a cosine of 0.989; independent
models reach it too, because gains are positive and close to each other.
"""

from __future__ import annotations

import numpy as np

from homolog.arena.methods.base import Method, Model, NotApplicable
from homolog.checkpoint.base import Array

__all__ = ["NORM_GAINS", "cosine"]


def cosine(x: Array, y: Array) -> float:
    """Cosine of two arrays taken as vectors; 0 where one of them is zero."""
    first, second = (vector.astype(np.float64).ravel() for vector in (x, y))
    scale = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / scale if scale > 0 else 0.0


def _mean_cosine(a: Model, b: Model) -> float:
    roles = [
        role
        for role, shape in a.roles.items()
        if role.kind in ("norm.attn", "norm.ffn") and role.part == "weight" and b.roles.get(role) == shape
    ]
    if not roles:
        raise NotApplicable("no norm of equal layer and width")
    return float(np.mean([cosine(a.read(role), b.read(role)) for role in roles]))


NORM_GAINS = Method(
    name="norm-gains",
    citation="the public accusation of Solar-Open-100B, December 2025, taken back",
    access="weights",
    statistic="mean cosine of norm gains of equal layer",
    compute=_mean_cosine,
    own_threshold=0.989,
    threshold_source="the cosine on which the accusation rested",
)
