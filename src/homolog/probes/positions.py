"""Positions that training never reached: the last rows of a learned position table, where they look as they were drawn.

A model that only ever saw short texts leaves the rest of its table to weight decay. How far it was trained its config does not tell, and a
config may say anything. So the rows are looked at, each model by itself: those from some position on have to be of one size and point
nowhere in particular, and those before not. Rows of *trained* positions resemble their neighbours, and are alike in models that share
nothing, because position means the same to all: a table is left out wherever there is a sign of that.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from homolog.checkpoint.base import Array

__all__ = ["find_untouched"]

_FEWEST = 32
"""Rows in which structure can be told from chance."""

_STEP, _MARGIN, _MOST = 8, 4, 128
"""Candidates for the first untouched row lie so far apart; a quarter of what is found is left out, next to what was trained; and at most
so many rows are tested."""

_UNEVEN, _EVEN = 1.3, 0.4
"""Deviation of the squared lengths over that of normal draws. Untouched rows of the zoo: 0.86 to 1.07; positions that were trained: 1.5 and
more, but for those of one published model (0.97), and 0.3 to 0.8 where the table is made of waves."""

_EDGE = 1.15
"""Largest eigenvalue of the Gram matrix over the edge of what draws reach, ``(√n + √d)²`` (Marchenko and Pastur 1967). Untouched rows of
the zoo: 0.89 to 1.02; trained ones 1.4 and more, those of published models 2.6 and more."""

_ALIKE, _LAGS = 4.0, (1, 2, 4, 8)
"""Standard deviations that the cosines of rows at these distances may add up to. Of draws 6 in 100,000 go beyond; published tables reach 40
to 500."""

_TINY = 1e-300

_MARKED, _BEFORE = 2.0, 16
"""How many times as long or as short, squared, as untouched rows the last ones before them have to be: training ended there at once, as it
does with texts of one length. Where long texts are merely rare it fades, and nothing tells faintly trained rows from untouched ones."""


def find_untouched(a: Array, b: Array) -> npt.NDArray[np.intp] | str:
    """Which rows of two position tables (n, d_a) and (n, d_b), the same positions in order, no training touched; or why none are told.

    *Exactness.* In each table the suffix begins at the least candidate t for which a symmetric function of the rows from t on, and anything
    of those before, says yes. Exchanging rows from there on changes neither the answer for t nor that for an earlier candidate. So if
    these rows of one model are exchangeable, they still are given the choice, whatever the other model's choice was; and the looks at
    neighbours can only withhold the test.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} positions: expected the same ones of both")
    starts = []
    for name, rows in (("A", a), ("B", b)):
        start = _find_start(rows.astype(np.float64))
        if isinstance(start, str):
            return start.format(name=name)
        starts.append(start)
    start = max(starts)
    first = start + max(_STEP, (len(a) - start) // _MARGIN)
    chosen = np.arange(max(first, len(a) - _MOST), len(a))
    for name, rows in (("A", a), ("B", b)):
        if _resembles_neighbours(rows[start:].astype(np.float64)):
            return f"the last positions of {name} resemble their neighbours, as trained ones do"
    return chosen


def _find_start(rows: npt.NDArray[np.float64]) -> int | str:
    """The first row of the suffix that looks as it was drawn, or why there is none."""
    if not np.isfinite(rows).all():
        return "the position table of {name} holds NaN or Inf"
    if len(rows) < _FEWEST + _STEP:
        return "the position tables have too few rows in common to tell where training ended"
    for start in range(0, len(rows) - _FEWEST + 1, _STEP):
        if not _looks_drawn(rows[start:]):
            continue
        if start == 0:
            return "the position table of {name} shows nowhere that it was trained"
        if not _is_marked(rows[max(start - _BEFORE, 0) : start], rows[start:]):
            return "training faded out over the positions of {name}, so that nothing tells where it ended"
        return start
    return "training has reached the last positions of {name}, or the table was set by hand"


def _looks_drawn(rows: npt.NDArray[np.float64]) -> bool:
    """Whether rows (n, d) are of one size and without structure; a symmetric function of them.

    Their mean is free: the token table may hold what they have in common.
    """
    rest = rows - rows.mean(axis=0)
    size = np.einsum("ij,ij->i", rest, rest)
    if not size.mean() > 0:
        return False
    spread = float(size.std() / size.mean()) * np.sqrt(rows.shape[1] / 2)
    return bool(_EVEN <= spread <= _UNEVEN) and _structure(rest) <= _EDGE


def _structure(rest: npt.NDArray[np.float64]) -> float:
    """Largest eigenvalue of the Gram matrix of centred rows (n, d), in units of what independent draws reach at most."""
    n, d = rest.shape
    gram = rest @ rest.T if n <= d else rest.T @ rest
    variance = float(np.trace(gram)) / (max(n - 1, 1) * d)
    return float(np.linalg.eigvalsh(gram)[-1] / (variance * (np.sqrt(n) + np.sqrt(d)) ** 2))


def _is_marked(before: npt.NDArray[np.float64], drawn: npt.NDArray[np.float64]) -> bool:
    mean = drawn.mean(axis=0)
    sizes = [float(np.einsum("ij,ij->i", rows - mean, rows - mean).mean()) for rows in (before, drawn)]
    return not 1 / _MARKED < sizes[0] / sizes[1] < _MARKED


def _resembles_neighbours(rows: npt.NDArray[np.float64]) -> bool:
    rest = rows - rows.mean(axis=0)
    unit = rest / np.sqrt(np.maximum(np.einsum("ij,ij->i", rest, rest), _TINY))[:, None]
    n, d = unit.shape
    return any(
        abs(float(np.einsum("ij,ij->", unit[:-lag], unit[lag:]))) > _ALIKE * np.sqrt((n - lag) / d)
        for lag in _LAGS
        if n > lag
    )
