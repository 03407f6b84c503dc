"""Profiles: numbers about a unit that need no frame, because no rotation or permutation of the residual stream changes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from homolog.checkpoint.base import Array
from homolog.roles.role import Role
from homolog.sketch.sketch import Sketch, UnitBlock

__all__ = ["channel_profile", "unit_profile"]

_TINY = 1e-20


def unit_profile(block: UnitBlock, *, channels: int, with_down: bool) -> Array:
    """Features (s, f) of the units: log norms of gate, up and down, their pairwise cosines, and biases.

    ``channels`` is how many residual channels are used (the fewest that either model has read), ``with_down`` whether both models
    have read what their units write. A block of projected rows brings the features along; then ``channels`` is of no account.
    """
    if block.profiles is not None:
        plain, full = block.profiles
        return full if with_down and full is not None else plain
    vectors = [v[:, :channels] for v in (block.gate, block.up) if v is not None]
    if with_down and block.down is not None:
        vectors.append(block.down[:, :channels])
    norms = [np.sqrt(np.einsum("ij,ij->i", v, v)) for v in vectors]
    features = [np.log(norm + _TINY) for norm in norms]
    for i in range(len(vectors)):
        for j in range(i + 1, len(vectors)):
            dots = np.einsum("ij,ij->i", vectors[i], vectors[j])
            features.append(dots / (norms[i] * norms[j] + _TINY))
    if block.bias is not None:
        features.extend(block.bias.T)
    return np.stack(features, axis=1).astype(np.float32)


def channel_profile(sketch: Sketch, roles: Sequence[Role]) -> Array:
    """Features (d, f) of the residual channels: the entries of norm gains and biases, and norms of columns where they were read.

    ``roles`` says which vectors, in order; a role stands for its column norms if it is a matrix.
    """
    columns = [sketch.channels[role] if role in sketch.channels else sketch.column_norms[role] for role in roles]
    return np.stack(columns, axis=1).astype(np.float32)
