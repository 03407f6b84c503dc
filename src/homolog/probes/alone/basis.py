"""Does the residual stream still have the basis that it was trained in?

Training leaves some residual channels louder than others, in the gains of the norms and in what matrices read. In a random basis the gains
have to be folded away (they are all alike then), and every channel is a mixture of all: they sound alike. Both together are worth a
warning and no more: quantisers turn the stream as well (QuaRot, SpinQuant), and models that were never trained look so too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from homolog.checkpoint.base import Array

__all__ = ["ALIKE", "FLAT", "Basis", "measure_spread", "weigh_basis"]

FLAT = 1e-3
"""Largest spread of a norm's gains, relative to their mean, that counts as none; training moves them by a quarter and more in the zoo."""

ALIKE = 1.5
"""Spread of the channels' loudness, as a multiple of what a random basis gives, below which no channel stands out. Of the zoo's
development lineages one of 53 models with its gains folded away lies below (of 32 channels), and 153 of 159 that were turned as well
(`python -m benchmarks.alone`)."""

_TURNS, _NUMBERS = 9, 2**21
"""Random bases that are tried, and numbers that are turned at most."""

_WARNING = (
    "the norms treat all residual channels alike, and no channel stands out in what the matrices read: the stream may have been put into "
    "a random basis. Quantisers do that too (QuaRot, SpinQuant), and models that were never trained look so. Channels then show nothing, "
    "and rows need a frame"
)


@dataclass(frozen=True, slots=True)
class Basis:
    """Gains and channels of one residual stream."""

    flat: bool | None = None
    """Whether every norm's gains are all alike; ``None`` if there are none."""
    spread: float | None = None
    """Variance over channels of their log loudness, divided by the median of the same in random bases; only where the gains are flat."""
    absent: str | None = None

    @property
    def warning(self) -> str | None:
        """What to say of it, if anything: never a verdict."""
        return _WARNING if self.flat and self.spread is not None and self.spread < ALIKE else None

    def to_json(self) -> dict[str, Any]:
        """As the document has it."""
        return {
            "gains_alike": self.flat,
            "spread": self.spread,
            "threshold": ALIKE,
            "warning": self.warning,
            "absent": self.absent,
        }


def weigh_basis(gains: Sequence[Array], read_rows: Callable[[], Sequence[Array]], rng: np.random.Generator) -> Basis:
    """``gains`` are what the norms on the residual stream multiply by, each (d,); ``read_rows`` gives rows (n, d) of matrices that read
    the stream, gains folded in, and is called only if the gains are flat. ``rng`` draws the bases.
    """
    whole = [gain for gain in gains if len(gain) and np.isfinite(gain).all()]
    if not whole:
        return Basis(absent="no norm on the residual stream has gains: whether they were folded away cannot be seen")
    if not all(float(np.ptp(gain)) <= FLAT * abs(float(gain.mean())) for gain in whole):
        return Basis(flat=False)
    rows = [part for part in read_rows() if len(part) and np.isfinite(part).all() and part.any()]
    if not rows:
        return Basis(flat=True, absent="no rows over the whole residual stream were read")
    return Basis(flat=True, spread=measure_spread(rows, rng))


def measure_spread(rows: Sequence[Array], rng: np.random.Generator) -> float:
    """How differently loud the residual channels are, as a multiple of how differently they are in a random basis.

    ``rows`` are matrices (n, d). A channel's loudness is the mean square of its column, each matrix scaled to a mean of one, averaged
    over the matrices. The random bases are products of two random sign changes, a random order and two fast transforms: near enough to
    uniform, and quick on wide streams.
    """
    width = rows[0].shape[1]
    most = max(16, _NUMBERS // (width * len(rows)))
    rows = [np.asarray(part[:most], dtype=np.float32) for part in rows]
    turned = []
    for _ in range(_TURNS):
        signs, order = rng.choice(np.array([-1, 1], dtype=np.float32), (2, width)), rng.permutation(width)
        turned.append(_variance([_mix(_mix(part * signs[0])[:, order] * signs[1]) for part in rows]))
    return _variance(rows) / max(float(np.median(turned)), 1e-12)


def _variance(rows: Sequence[Array]) -> float:
    squares = [np.square(part, dtype=np.float32).mean(axis=0, dtype=np.float64) for part in rows]
    loudness = np.mean([square / square.mean() for square in squares], axis=0)
    return float(np.log(np.maximum(loudness, 1e-12)).var())


def _mix(rows: Array) -> Array:
    """Rows in the orthonormal real Fourier basis: every new channel is made of all old ones."""
    width = rows.shape[1]
    found = np.fft.rfft(rows, axis=1, norm="ortho")
    last = (width + 1) // 2
    parts = [found[:, :1].real, np.sqrt(2) * found[:, 1:last].real, np.sqrt(2) * found[:, 1:last].imag]
    if width % 2 == 0:
        parts.append(found[:, -1:].real)
    return np.concatenate(parts, axis=1).astype(np.float32)
