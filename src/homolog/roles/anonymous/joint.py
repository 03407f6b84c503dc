"""Which queries and keys, which values and which gain are one attention, and before which FFN it stands: settled at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from homolog.checkpoint.base import Array
from homolog.roles.anonymous.statistics import assign, log_norms, profile_match, whitened

__all__ = ["Joined", "join"]

Places = npt.NDArray[np.intp]

_READING, _FLOWING = 0.5, 2.0
"""Weights of what is read in common and of what flows on, beside the agreement with a gain."""
_ROUNDS = 20
_NEVER = -1e3


@dataclass(frozen=True, slots=True)
class Joined:
    """For each of the queries and keys the values, the gain and the FFN, as numbers in the order given."""

    values: Places
    gains: Places
    places: Places
    margins: Array
    """What the total loses at least by any exchange with another: of values, of gains, of places, or of several of them."""


@dataclass(frozen=True, slots=True)
class _Evidence:
    through: Array
    """Shape (scores, values, gains): whether what both together make of the channels follows the gain."""
    reading: Array
    """Shape (scores, FFNs): whether they read what the FFN reads."""
    flowing: Array
    """Shape (values, FFNs): whether what is written flows into the FFN."""

    def total(self, rows: Places, values: Places, gains: Places, places: Places) -> npt.NDArray[np.float64]:
        """The evidence for each row; all may be arrays of one shape."""
        total = self.through[rows, values, gains].astype(np.float64)
        return total + self.reading[rows, places] + self.flowing[values, places]


def join(
    scores: Sequence[Array],
    values: Sequence[Array],
    gains: Sequence[Array],
    readers: Sequence[Array],
    flow: Array,
    *,
    together: bool,
) -> Joined:
    """Settle what belongs together. ``scores`` hold queries and keys, ``readers`` gates and ups, all with units as rows.

    ``flow`` has a row for each of the values and a column for each FFN. ``together`` says that the scores are in the order of their values.
    There are as many scores, values and FFNs, and at least as many gains.
    """
    made = [[np.exp(2 * log_norms(one.T)) + np.exp(2 * log_norms(other.T)) for other in values] for one in scores]
    through = profile_match(np.log(np.array(made)), gains)
    if together:
        through[~np.eye(len(values), dtype=bool)] = _NEVER
    reading = np.asarray(_READING * whitened(scores) @ whitened(readers).T, dtype=np.float32)
    evidence = _Evidence(through, reading, np.asarray(_FLOWING * flow, dtype=np.float32))
    settled = _settle(evidence)
    return Joined(*settled, _margins(evidence, *settled))


def _settle(evidence: _Evidence) -> tuple[Places, Places, Places]:
    """Values, gains and places, each the best for the others; first with the places of the values by their flow alone."""
    rows = np.arange(len(evidence.reading))
    place_of, _ = assign(evidence.flowing)
    gains, _ = assign(evidence.through.max(axis=1))
    start = evidence.reading[:, place_of]
    values = rows
    for _ in range(_ROUNDS):
        before = values, gains
        values, _ = assign(evidence.through[rows, :, gains] + start)
        gains, _ = assign(evidence.through[rows, values])
        if (values == before[0]).all() and (gains == before[1]).all():
            break
    places = place_of[values]
    for _ in range(_ROUNDS):
        settled = values, gains, places
        values, _ = assign(evidence.through[rows, :, gains] + evidence.flowing[:, places].T)
        places, _ = assign(evidence.reading + evidence.flowing[values])
        gains, _ = assign(evidence.through[rows, values])
        if all((now == then).all() for now, then in zip((values, gains, places), settled, strict=True)):
            break
    return values, gains, places


def _margins(evidence: _Evidence, values: Places, gains: Places, places: Places) -> Array:
    rows = np.arange(len(values))
    own = evidence.total(rows, values, gains, places)
    one, other = np.meshgrid(rows, rows, indexing="ij")
    least = np.full(len(rows), np.inf)
    for moved in product((False, True), repeat=3):
        if not any(moved):
            continue
        taken = [part[np.where(move, other, one)] for part, move in zip((values, gains, places), moved, strict=True)]
        after = evidence.total(one, *taken)
        losses = own[:, None] + own[None, :] - after - after.T
        np.fill_diagonal(losses, np.inf)
        least = np.minimum(least, losses.min(axis=1))
    free = np.setdiff1d(np.arange(evidence.through.shape[2]), gains)
    if len(free):
        chosen = evidence.through[rows, values, gains]
        least = np.minimum(least, (chosen[:, None] - evidence.through[rows, values][:, free]).min(axis=1))
    return np.asarray(least, dtype=np.float32)
