"""Seeded projections: rows over the residual stream as a hundred numbers each, comparable wherever the same seed was used.

The signs come from SHAKE-256, not from a library's generator: they are the same in any language and in any year.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import shake_256

import numpy as np
import numpy.typing as npt

from homolog.checkpoint.base import Array
from homolog.sketch.sketch import TokenRows

__all__ = ["Projection", "fit_token_directions"]

_TOKENS = 64
"""Directions that turn with the residual stream, at most: as many as ordinary tokens are used to find them."""

_FEWEST = 9
_NEGLIGIBLE = 1e-8
"""Share of the largest eigenvalue below which a direction carries nothing but rounding."""

Wide = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Projection:
    """Random signs for every residual channel (Achlioptas 2003): inner products are kept in expectation."""

    seed: int
    dimensions: int

    def frame(self, width: int) -> str:
        """Which coordinates the rows of a model of this width get; rows of equal frames can be compared."""
        if width <= self.dimensions:
            return f"the {width} channels themselves"
        return f"{self.dimensions} signs of seed {self.seed} over {width} channels"

    def apply(self, rows: Array) -> Wide:
        """Coordinates of ``rows`` (n, width), shape (n, min(width, dimensions)); narrow rows are their own coordinates."""
        wide = rows.astype(np.float64)
        width = rows.shape[1]
        if width <= self.dimensions:
            return wide
        return np.asarray(wide @ self.signs(width) / np.sqrt(self.dimensions))

    def signs(self, width: int) -> Wide:
        """The matrix (width, dimensions) of +1 and -1.

        Bit ``i`` of ``SHAKE-256("homolog.sketch/1 signs <seed> <width> <dimensions>")``, counted from the lowest bit of the first byte,
        is the sign of entry ``i``, row by row: +1 for 0, -1 for 1.
        """
        return _draw_signs(self.seed, width, self.dimensions)


def fit_token_directions(table: TokenRows) -> Wide | None:
    """Directions (width, t) of the residual stream that belong to the first ordinary tokens of a table: ``None`` with too few of them.

    The orthonormal matrix closest to the transposed rows ``E`` (centred): ``Eᵀ (E Eᵀ)^(-1/2)``. Where the stream is rotated or permuted
    so are the rows, and with them the directions: the coordinates of everything else stay what they were.
    """
    rows = table.ordinary[:_TOKENS].astype(np.float64)
    rows = rows[np.isfinite(rows).all(axis=1) & rows.any(axis=1)]
    if len(rows) < _FEWEST:
        return None
    rows = rows - rows.mean(axis=0)
    values, vectors = np.linalg.eigh(rows @ rows.T)
    kept = values > _NEGLIGIBLE * values[-1]
    if int(kept.sum()) < _FEWEST - 1:
        return None
    root = (vectors[:, kept] / np.sqrt(values[kept])) @ vectors[:, kept].T
    return np.asarray(rows.T @ root)


@lru_cache(maxsize=4)
def _draw_signs(seed: int, width: int, dimensions: int) -> Wide:
    count = width * dimensions
    text = f"homolog.sketch/1 signs {seed} {width} {dimensions}".encode("ascii")
    block = np.frombuffer(shake_256(text).digest(-(-count // 8)), dtype=np.uint8)
    bits = np.unpackbits(block, count=count, bitorder="little")
    signs = np.asarray(1.0 - 2.0 * bits.reshape(width, dimensions), dtype=np.float64)
    signs.flags.writeable = False
    return signs
