"""Noise: the half of washing that is not training. Training on random tokens and on shuffled labels is told in a recipe's schedule."""

from __future__ import annotations

import numpy as np

from homolog.errors import UsageError
from homolog.lab.registry import EVERY, Outcome, register
from homolog.lab.shape import Shape, Weights

__all__ = ["add_noise"]


@register(EVERY)
def add_noise(shape: Shape, weights: Weights, *, relative: float, seed: int) -> Outcome:
    """Washing, first half: normal noise on every matrix, ``relative`` to its own deviation.

    The second half, repair, is the training after it.
    """
    if not 0 <= relative < np.inf:
        raise UsageError(f"add_noise: relative {relative}, expected a finite number of 0 or more")
    rng = np.random.default_rng(seed)
    changed = dict(weights)
    for name in sorted(weights):
        if weights[name].ndim > 1:
            noise = rng.standard_normal(weights[name].shape).astype(np.float32)
            changed[name] = weights[name] + relative * weights[name].std() * noise
    return Outcome(shape, changed)
