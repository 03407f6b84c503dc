"""Numbers about a unit that no rotation of the residual stream changes, from the unit and from all the others.

Apart from lengths and angles inside the unit there are the forms ``xᵀ C y`` of its vectors, where C is a second moment of what gates, ups
or downs of the same model look like (or of the same FFN, or a power of it): a rotation turns x, y and C alike. Many such numbers tell a
unit from the others of its FFN even after long training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from homolog.align.canonical import describe_units
from homolog.align.matching import normal_scores, unit_rows
from homolog.checkpoint.base import Array

__all__ = ["describe_all", "measure_invariants"]

_RIDGE = 0.1
"""Added to a second moment of unit trace per direction before it is inverted."""

_FLOOR = 1e-9


def describe_all(blocks: Sequence[Sequence[Array]]) -> list[Array]:
    """For every FFN the normal scores (n, f) of its units' invariants; ``blocks`` are lists of parts (gate, up, down) or (in, out)."""
    return [normal_scores(numbers) for numbers in measure_invariants(blocks)]


def measure_invariants(blocks: Sequence[Sequence[Array]]) -> list[Array]:
    """The invariants themselves, (n, f) for every FFN."""
    unit = [[unit_rows(part) for part in parts] for parts in blocks]
    pooled = [_second_moment(np.concatenate([parts[p] for parts in unit])) for p in range(len(unit[0]))]
    shared = [*pooled, *(c @ c for c in pooled), pooled[0] @ pooled[-1] + pooled[-1] @ pooled[0]]
    identity = np.eye(len(pooled[0]), dtype=np.float32)
    shared += [np.linalg.inv(c + np.float32(_RIDGE) * identity) for c in pooled]
    return [
        np.concatenate([_lengths(raw), _forms(parts, [*shared, *map(_second_moment, parts)])], axis=1)
        for raw, parts in zip(blocks, unit, strict=True)
    ]


def _lengths(parts: Sequence[Array]) -> Array:
    return describe_units(*parts) if len(parts) == 3 else describe_units(parts[0], None, parts[1])


def _second_moment(rows: Array) -> Array:
    """Of unit rows (n, d), scaled to trace d."""
    return np.asarray((rows.T @ rows) * np.float32(rows.shape[1] / len(rows)), dtype=np.float32)


def _forms(parts: Sequence[Array], moments: Sequence[Array]) -> Array:
    """Quadratic forms of each part and, with the free signs of up and down removed, bilinear forms of every two."""
    columns = []
    for moment in moments:
        turned = [part @ moment for part in parts]
        columns += [np.log(np.maximum(_dots(part, other), _FLOOR)) for part, other in zip(parts, turned, strict=True)]
        if len(parts) == 2:
            columns.append(_dots(turned[0], parts[1]))
        else:
            columns += [
                np.abs(_dots(turned[0], parts[1])),
                np.abs(_dots(turned[0], parts[2])),
                _dots(turned[1], parts[2]),
            ]
    return np.stack(columns, axis=1)


def _dots(x: Array, y: Array) -> Array:
    return np.asarray(np.einsum("ij,ij->i", x, y), dtype=np.float32)
