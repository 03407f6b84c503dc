"""What values say of a matrix, and of two matrices, without a name: statistics of one model that treat its units and channels alike.

None of them depends on which index a unit or a channel has, so that roles chosen by them leave every test of indices valid: relabelling
the units of a model relabels them in the roles too, and changes no choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
import numpy.typing as npt

from homolog.checkpoint.base import Array

__all__ = [
    "assign",
    "composition",
    "head_angles",
    "kinship",
    "log_norms",
    "profile_match",
    "sign_score",
    "swap_margins",
    "tie_lead",
    "unit_rows",
    "whitened",
]

_TINY = 1e-20
_FLOOR = 0.01
"""Share of the largest variance under which directions are not stretched further."""
_MOST_ALIKE = 0.9999
_MOST_ROWS = 2048
"""Rows whose signs are looked at: more tell nothing that these do not."""

Pairs = npt.NDArray[np.intp]


def log_norms(units: Array) -> Array:
    """Logarithm of the norm of each row."""
    squares: Array = np.einsum("ij,ij->i", units, units)
    return np.asarray(0.5 * np.log(squares + _TINY), dtype=np.float32)


def unit_rows(x: Array) -> Array:
    """Rows scaled to length 1; zero rows stay zero."""
    norms = np.sqrt(np.einsum("ij,ij->i", x, x))[:, None]
    norms[norms == 0.0] = 1.0
    return np.asarray(x / norms, dtype=np.float32)


def sign_score(units: Array) -> float:
    """By how many standard deviations the sum of all rows is longer than with random signs.

    Turning the signs of a unit's up row and down column changes no function, and training treats both alike: the signs of up rows are
    independent and uniform, and so are those of values, of queries and of keys. A gate is bent at zero and knows no such symmetry.
    The moments are exact: with Gram matrix G, mean tr G and variance 2 Σ_{i≠j} G_ij².
    """
    units = units[:_MOST_ROWS]
    gram = units @ units.T
    diagonal = np.diag(gram).astype(np.float64)
    excess = float(gram.sum(dtype=np.float64) - diagonal.sum())
    variance = 2.0 * (float(np.square(gram, dtype=np.float64).sum()) - float(np.square(diagonal).sum()))
    return float(excess) / sqrt(variance) if variance > 0 else 0.0


def kinship(a: Array, b: Array) -> float:
    """How closely two sets of rows belong together, row by row: about 2 for strangers, growing with the number of rows else.

    The squares of two scores that are standard normal for unrelated rows: the correlation of log norms, either way round, and the mean
    squared cosine of row i with row i, if it is larger than chance.
    """
    units, channels = min(len(a), len(b)), min(a.shape[1], b.shape[1])
    a, b = a[:units], b[:units]
    x, y = log_norms(a), log_norms(b)
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt(float(x @ x) * float(y @ y)))
    norms = np.sqrt(units) * float(x @ y) / size if size > 0 else 0.0
    cosines = np.einsum("ij,ij->i", unit_rows(a[:, :channels]), unit_rows(b[:, :channels]))
    content = (channels * float(np.square(cosines).mean()) - 1.0) * float(np.sqrt(units / 2.0))
    return float(norms**2 + max(content, 0.0) ** 2)


def tie_lead(first: Array, second: Array, downs: Array) -> float:
    """By how many standard deviations the norms of ``first`` go together with those of ``downs`` better than the norms of ``second`` do.

    Gradients leave ‖up‖² − ‖down‖² of a unit as it is, because scaling one against the other changes no function; a gate is tied to
    neither.
    The difference of two correlations that share a variable, by Fisher's z with the covariance of Steiger (Psychological Bulletin 87, 245,
    1980), which is about standard normal where both are the same.
    """
    count = min(len(first), len(second), len(downs))
    if count < 4:
        return 0.0
    x, y, w = (_standardise(log_norms(rows[:count])[None])[0] for rows in (first, second, downs))
    a, b, between = (float(np.clip(u @ v, -_MOST_ALIKE, _MOST_ALIKE)) for u, v in ((x, w), (y, w), (x, y)))
    mean = (a + b) / 2
    shared = between * (1 - 2 * mean**2) - mean**2 * (1 - 2 * mean**2 - between**2) / 2
    covariance = min(shared / (1 - mean**2) ** 2, _MOST_ALIKE)
    return float((np.arctanh(a) - np.arctanh(b)) * np.sqrt((count - 3) / (2 - 2 * covariance)))


def profile_match(made: Array, gains: Sequence[Array]) -> Array:
    """How well what readers make of the channels follows gains of norms, shape (*readers, gains): the sum of two correlations.

    ``made`` has the log norm of each reader's columns, shape (*readers, channels). The correlation over the channels with the log gains
    is taken once as they are, and once without what all readers, and all gains, have in common: outlier channels are common to all.
    """
    through = np.log(np.abs(np.stack(gains)) + 1e-6)
    shared = tuple(range(made.ndim - 1))
    apart = _standardise(made - made.mean(axis=shared)) @ _standardise(through - through.mean(axis=0)).T
    return np.asarray(_standardise(made) @ _standardise(through).T + apart, dtype=np.float32)


def composition(reader: Array, writer: Array) -> float:
    """How much of what ``writer`` writes ``reader`` reads: ‖R Wᵀ‖² d / (‖R‖² ‖W‖²), 1 for unrelated directions.

    Both have channels as columns.
    """
    channels = min(reader.shape[1], writer.shape[1])
    r, w = reader[:, :channels], writer[:, :channels]
    both = float(np.square(r, dtype=np.float64).sum()) * float(np.square(w, dtype=np.float64).sum())
    return float(np.sum((r.T @ r) * (w.T @ w), dtype=np.float64)) * channels / both if both > 0 else 0.0


def head_angles(rows: Array, size: int, heads: int) -> Array:
    """What the dimensions of each head are to one another: the product of two such vectors is a standard score, about normal for strangers.

    ``rows`` are ``heads`` × so many heads that share a key × ``size`` dimensions. Gradients leave O_hᵀ O_h − V_h V_hᵀ of a head as it is
    (with grouped keys, the sum over the group), because turning the dimensions between the two changes no function; what both were at
    the start is small. Queries and keys are tied in the same way, as far as positions do not turn them. So the cosines between the
    dimensions agree, and those of other heads do not. Of each head the cosines of all pairs are taken, centred over the model's heads.
    """
    parts = rows.astype(np.float64).reshape(heads, -1, size, rows.shape[1])
    flat = parts.transpose(0, 2, 1, 3).reshape(heads, size, -1)
    gram = flat @ flat.transpose(0, 2, 1)
    lengths = np.sqrt(np.einsum("hii->hi", gram)) + _TINY
    first, second = np.triu_indices(size, 1)
    angles = (gram / lengths[:, :, None] / lengths[:, None, :])[:, first, second].reshape(-1)
    angles = angles - angles.mean()
    return np.asarray(angles * len(angles) ** 0.25 / (np.sqrt(float(angles @ angles)) + _TINY), dtype=np.float32)


def whitened(readers: Sequence[Array]) -> Array:
    """The directions that each reads more than all do, shape (readers, numbers): the product of two such rows is a correlation.

    With M = RᵀR / ‖R‖², and their mean S over the readers: the upper triangle of S^(-1/2) M S^(-1/2), centred over the readers.
    """
    moments = np.array(
        [reader.T @ reader / (float(np.square(reader, dtype=np.float64).sum()) + _TINY) for reader in readers]
    )
    values, vectors = np.linalg.eigh(moments.mean(axis=0, dtype=np.float64))
    floor = max(float(values.max()) * _FLOOR, _TINY)
    root = (vectors / np.sqrt(np.maximum(values, floor))) @ vectors.T
    turned = root @ moments @ root
    flat = (turned - turned.mean(axis=0))[(slice(None), *np.triu_indices(turned.shape[1]))]
    return np.asarray(flat / (np.linalg.norm(flat, axis=1, keepdims=True) + _TINY), dtype=np.float32)


def assign(scores: Array) -> tuple[Pairs, Array]:
    """One column for each row with the largest total score, and for each row its score over the best rival in its row or column.

    Needs at least as many columns as rows.
    """
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415  (slow to import, and most checkpoints have names)

    rows, columns = linear_sum_assignment(-scores)
    chosen = scores[rows, columns]
    rivals = scores.astype(np.float64).copy()
    rivals[rows, columns] = -np.inf
    best = np.maximum(rivals.max(axis=1), rivals.max(axis=0)[columns])
    margins = chosen - np.where(np.isfinite(best), best, 0.0)
    return columns, np.asarray(margins, dtype=np.float32)


def swap_margins(scores: Array, columns: Pairs) -> Array:
    """For each row of an assignment what the total loses at least if it changes places with another, or takes a column that is free."""
    rows = np.arange(len(columns))
    chosen = scores[rows, columns].astype(np.float64)
    swapped = scores[:, columns].astype(np.float64)
    losses = chosen[:, None] + chosen[None, :] - swapped - swapped.T
    losses[rows, rows] = np.inf
    free = np.setdiff1d(np.arange(scores.shape[1]), columns)
    if len(free):
        losses = np.concatenate([losses, chosen[:, None] - scores[:, free]], axis=1)
    return np.asarray(losses.min(axis=1, initial=np.inf), dtype=np.float32)


def _standardise(x: Array) -> Array:
    """Centred over the channels and of length 1; what is equal throughout becomes zero."""
    x = x - x.mean(axis=-1, keepdims=True)
    return np.asarray(x / (np.sqrt(np.square(x).sum(axis=-1, keepdims=True)) + _TINY), dtype=np.float32)
