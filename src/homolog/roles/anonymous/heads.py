"""Which matrices of an attention work on the same heads: values with outputs, queries with keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from homolog.checkpoint.base import Array
from homolog.roles.anonymous.statistics import assign, head_angles

__all__ = ["Pairs", "pair_grouped", "pair_plain", "pair_thirds"]

_ALIKE = 5.0
"""Product of `head_angles` from which on two matrices may work on the same heads; strangers in the zoo stay within 4.3."""
_AHEAD = 2.5
"""How far it must be ahead of every rival."""
_SMALLEST_HEAD = 4
_NEVER = -1e6


@dataclass(frozen=True, slots=True)
class Pairs:
    """What belongs together beyond doubt."""

    flows: tuple[tuple[str, str], ...] = ()
    """Values, each with the outputs that they flow into."""
    scores: tuple[tuple[str, str], ...] = ()
    """Queries, each with its keys; in no order where both are of one shape."""
    total: float = 0.0
    """Sum of the scores of all pairs, clear or not."""


def pair_grouped(
    readers: Mapping[str, Array], writers: Mapping[str, Array], projections: Mapping[str, Array], head_dim: int
) -> Pairs:
    """Fewer keys than queries: readers may be queries, writers outputs (a square may be either), projections are keys and values.

    All have units as rows.
    """
    kv, query = (len(next(iter(blocks.values()))) for blocks in (projections, readers))
    return _best(kv, query, head_dim, lambda size: _pair_grouped(readers, writers, projections, size))


def pair_plain(readers: Mapping[str, Array], writers: Mapping[str, Array], head_dim: int) -> Pairs:
    """As many keys as queries: readers may be queries, keys or values, writers outputs, and queries are not told from keys."""
    length = len(next(iter(readers.values())))
    return _best(length, length, head_dim, lambda size: _pair_plain(readers, writers, size))


def pair_thirds(values: Mapping[str, Array], outputs: Mapping[str, Array], head_dim: int) -> Pairs:
    """Values by the name of the projection that holds them, and outputs, both with units as rows."""
    length = len(next(iter(values.values())))
    return _best(length, length, head_dim, lambda size: _pair_thirds(values, outputs, size))


def _best(kv: int, query: int, head_dim: int, pair: Callable[[int], Pairs]) -> Pairs:
    """The pairs at the size of a head at which all of them agree most, if config.json does not state it."""
    sizes = [head_dim] if head_dim else [size for size in range(_SMALLEST_HEAD, kv + 1) if kv % size == 0]
    found = [pair(size) for size in sizes if query % size == 0]
    return max(found, key=lambda pairs: pairs.total, default=Pairs())


def _pair_grouped(
    readers: Mapping[str, Array], writers: Mapping[str, Array], projections: Mapping[str, Array], size: int
) -> Pairs:
    heads = len(next(iter(projections.values()))) // size
    others = _angles(projections, size, heads)
    names, kept = sorted({*readers, *writers}), list(projections)
    along, across = (
        _scores(names, list(blocks), _angles(blocks, size, heads) @ others.T) for blocks in (readers, writers)
    )
    chosen, margins = assign(np.maximum(along, across))
    flows, scores, total = [], [], 0.0
    for row, column in enumerate(chosen):
        best, other = sorted((float(along[row, column]), float(across[row, column])), reverse=True)
        total += best
        if best < _ALIKE or min(float(margins[row]), best - other) < _AHEAD:
            continue
        if across[row, column] == best:
            flows.append((kept[column], names[row]))
        else:
            scores.append((names[row], kept[column]))
    return Pairs(tuple(flows), tuple(scores), total)


def _pair_plain(readers: Mapping[str, Array], writers: Mapping[str, Array], size: int) -> Pairs:
    heads = len(next(iter(readers.values()))) // size
    rows, columns = _angles(readers, size, heads), _angles(writers, size, heads)
    names = sorted({*readers, *writers})
    along = _scores(names, list(readers), _scores(names, list(readers), rows @ rows.T).T)
    across = _scores(names, list(writers), _scores(names, list(readers), rows @ columns.T).T)
    # a matrix is no partner of its own, and a pair counts in whichever way it agrees most
    ways = np.stack([along, across, across.T])
    ways[:, np.arange(len(names)), np.arange(len(names))] = _NEVER
    alike = ways.max(axis=0)
    second, first = np.sort(alike, axis=1)[:, -2:].T
    partner = alike.argmax(axis=1)
    flows, scores = [], []
    for one, other in enumerate(partner):
        lead = float(first[one] - max(second[one], second[other], np.sort(ways[:, one, other])[-2]))
        if one > other or partner[other] != one or first[one] < _ALIKE or lead < _AHEAD:
            continue
        way = int(ways[:, one, other].argmax())
        if way:
            value, output = (other, one) if way == 1 else (one, int(other))
            flows.append((names[value], names[output]))
        else:
            scores.append((names[one], names[other]))
    return Pairs(tuple(flows), tuple(scores), float(first.sum()))


def _scores(names: Sequence[str], given: Sequence[str], scores: Array) -> Array:
    """Scores with one row for each name; those that were not given can have no partner."""
    out = np.full((len(names), scores.shape[1]), _NEVER, dtype=np.float32)
    out[[names.index(name) for name in given]] = scores
    return out


def _pair_thirds(values: Mapping[str, Array], outputs: Mapping[str, Array], size: int) -> Pairs:
    heads = len(next(iter(values.values()))) // size
    alike = _angles(outputs, size, heads) @ _angles(values, size, heads).T
    chosen, margins = assign(alike)
    names = list(outputs), list(values)
    best = alike[np.arange(len(chosen)), chosen]
    flows = [
        (names[1][column], names[0][row])
        for row, column in enumerate(chosen)
        if best[row] >= _ALIKE and margins[row] >= _AHEAD
    ]
    return Pairs(tuple(flows), (), float(best.sum()))


def _angles(blocks: Mapping[str, Array], size: int, heads: int) -> Array:
    return np.stack([head_angles(block, size, heads) for block in blocks.values()])
