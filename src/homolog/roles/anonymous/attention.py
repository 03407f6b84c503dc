"""Which matrices of an attention are queries, keys, values and outputs, and whose FFN they stand before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from homolog.checkpoint.base import Array
from homolog.roles.anonymous.blocks import Blocks
from homolog.roles.anonymous.skeleton import Skeleton
from homolog.roles.anonymous.statistics import assign, composition, kinship

__all__ = ["Attention", "Heads", "find_attention"]

_KIN = 20.0
_APART = 1.5
"""Ratio of scores at the border between two kinds from which on they are told apart."""
_NEXT = 0.02
"""Share by which an output must flow better into its FFN than into any other."""
_SMALLEST_HEAD = 8


@dataclass(frozen=True, slots=True)
class Heads:
    """Values and outputs that belong together; with a fused projection, the tensor that holds queries, keys and values."""

    value: str
    output: str


@dataclass(frozen=True, slots=True)
class Attention:
    """What is known of the attention; FFNs are numbered as they were given."""

    heads: Mapping[int, Heads]
    """By the FFN that they stand before."""
    queries: tuple[str, ...] = ()
    """In no order; the layer of each is not known."""
    keys: tuple[str, ...] = ()
    reason: str = ""
    """Why there is nothing, or not all."""


def find_attention(
    blocks: Blocks, skeleton: Skeleton, fused: Sequence[str], readers: Sequence[Array], head_dim: int
) -> Attention:
    """Tell the kinds apart, pair values with outputs, and outputs with the FFNs ``readers`` (units as rows) that read them first.

    ``fused`` are projections that hold queries, keys and values; ``head_dim`` is 0 where it is not known.
    """
    if not blocks.whole:
        return Attention(
            {}, reason="the attention was not looked at: the model is large, and its matrices were read in part"
        )
    if skeleton.fused >= 0:
        outputs = blocks.all_units(skeleton.squares, 1 - skeleton.fused)
        thirds = [np.split(block, 3) for block in blocks.all_units(fused, skeleton.fused)]
        return _fused(skeleton, fused, outputs, thirds, readers)
    squares = dict(zip(skeleton.squares, blocks.all_units(skeleton.squares, 0), strict=True))
    if skeleton.projections:
        projections = dict(zip(skeleton.projections, blocks.all_units(skeleton.projections, 0), strict=True))
        return _grouped(squares, projections, readers, head_dim)
    return _plain(squares, readers)


def _fused(
    skeleton: Skeleton,
    names: Sequence[str],
    outputs: Sequence[Array],
    thirds: Sequence[Sequence[Array]],
    readers: Sequence[Array],
) -> Attention:
    """Queries, keys and values lie in this order in every model that fuses them part by part: the last must be the kin of an output."""
    scores = [np.array([[kinship(output, part[place]) for part in thirds] for output in outputs]) for place in range(3)]
    if scores[2].shape[0] != scores[2].shape[1]:
        return Attention({}, reason="the fused projections of the attention cannot be told from the FFNs")
    columns, margins = assign(scores[2].astype(np.float32))
    rows = np.arange(len(columns))
    clear = (scores[2][rows, columns] >= _KIN) & (margins >= _KIN / 2)
    for other in scores[:2]:
        clear &= scores[2][rows, columns] > 2 * other.max(axis=1)
    if not clear.all():
        return Attention({}, reason="no third of the fused projections is the kin of an output throughout")
    pairs = [Heads(names[column], skeleton.squares[row]) for row, column in zip(rows, columns, strict=True)]
    return Attention(_before(pairs, list(outputs), readers))


def _grouped(
    squares: Mapping[str, Array], projections: Mapping[str, Array], readers: Sequence[Array], head_dim: int
) -> Attention:
    """Fewer keys than queries: squares are queries and outputs, the others keys and values, shared by groups of heads."""
    length = len(next(iter(projections.values())))
    best: tuple[float, Attention] = (
        0.0,
        Attention({}, reason="the kinds of the attention's matrices cannot be told apart"),
    )
    sizes = [head_dim] if head_dim else [size for size in range(_SMALLEST_HEAD, length + 1) if length % size == 0]
    for size in sizes:
        repeated = {
            name: _repeat(block, size, len(next(iter(squares.values())))) for name, block in projections.items()
        }
        rows = np.array([[kinship(square, block) for block in repeated.values()] for square in squares.values()])
        columns = np.array([[kinship(square.T, block) for block in repeated.values()] for square in squares.values()])
        clarity, attention = _split_grouped(list(squares), list(projections), rows, columns, squares, readers)
        if clarity > best[0]:
            best = clarity, attention
    return best[1]


def _split_grouped(
    squares: list[str],
    projections: list[str],
    rows: Array,
    columns: Array,
    blocks: Mapping[str, Array],
    readers: Sequence[Array],
) -> tuple[float, Attention]:
    """Queries are kin of keys row by row, outputs of values column by row; how clear that is, and what follows."""
    half = len(squares) // 2
    keys = _upper_half(np.sort(np.log1p(rows), axis=0)[-half:].mean(axis=0))
    queries = _upper_half(np.log1p(rows[:, keys[0]]).mean(axis=1)) if keys else None
    if not keys or not queries:
        return 0.0, Attention({}, reason="queries and keys cannot be told from the rest of the attention")
    outputs = [i for i in range(len(squares)) if i not in queries[0]]
    values = [i for i in range(len(projections)) if i not in keys[0]]
    matched, margins = assign(columns[np.ix_(outputs, values)].astype(np.float32))
    chosen = columns[np.ix_(outputs, values)][np.arange(half), matched]
    clear = (chosen >= _KIN / 2) & (margins >= _KIN / 4)
    pairs = [
        Heads(projections[values[column]], squares[outputs[row]]) for row, column in enumerate(matched) if clear[row]
    ]
    heads = _before(pairs, [blocks[pair.output].T for pair in pairs], readers)
    found = Attention(heads, tuple(squares[i] for i in queries[0]), tuple(projections[i] for i in keys[0]))
    return min(keys[1], queries[1]) * float(chosen.sum()), found


def _plain(squares: Mapping[str, Array], readers: Sequence[Array]) -> Attention:
    """As many keys as queries, all of one shape: queries and keys are kin of each other, and stay together."""
    names, blocks = list(squares), list(squares.values())
    rows = np.array([[kinship(a, b) if a is not b else 0.0 for b in blocks] for a in blocks])
    half = len(names) // 4 * 2
    rotated = _upper_half(np.sort(np.log1p(rows), axis=1)[:, -half:].mean(axis=1), half)
    if rotated is None:
        return Attention({}, reason="queries and keys cannot be told from values and outputs")
    rest = [i for i in range(len(names)) if i not in rotated[0]]
    # An output flows into the FFN behind it; the same matrix taken for a value, turned, flows into none.
    flow = np.array([max(composition(reader, blocks[i].T) for reader in readers) for i in rest])
    turned = np.array([max(composition(reader, blocks[i]) for reader in readers) for i in rest])
    order = np.argsort(turned - flow, kind="stable")
    count = len(names) // 4
    outputs, values = [rest[i] for i in order[:count]], [rest[i] for i in order[count : 2 * count]]
    columns = np.array([[kinship(blocks[o].T, blocks[v]) for v in values] for o in outputs], dtype=np.float32)
    matched, margins = assign(columns)
    clear = (columns[np.arange(count), matched] >= _KIN) & (margins >= _KIN / 2)
    pairs = [Heads(names[values[column]], names[outputs[row]]) for row, column in enumerate(matched) if clear[row]]
    reason = "queries and keys are of one shape and kind: which is which is not known"
    return Attention(_before(pairs, [squares[pair.output].T for pair in pairs], readers), reason=reason)


def _before(pairs: Sequence[Heads], outputs: Sequence[Array], readers: Sequence[Array]) -> dict[int, Heads]:
    """For each FFN the heads whose output it is the first to read: where most of that output flows."""
    if not pairs or len(pairs) > len(readers):
        return {}
    flow = np.array([[composition(reader, output) for reader in readers] for output in outputs])
    flow /= flow.mean(axis=0)
    columns, margins = assign(flow.astype(np.float32))
    return {int(column): pairs[row] for row, column in enumerate(columns) if margins[row] >= _NEXT}


def _upper_half(scores: Array, count: int | None = None) -> tuple[list[int], float] | None:
    """The positions of the larger half and the ratio at the border; ``None`` if there is no clear border."""
    count = count or len(scores) // 2
    order = np.argsort(-scores, kind="stable")
    inside, outside = float(scores[order[count - 1]]), float(scores[order[count]])
    if inside < _APART * max(outside, 1e-9):
        return None
    return sorted(int(i) for i in order[:count]), inside / max(outside, 1e-9)


def _repeat(block: Array, size: int, length: int) -> Array:
    """Rows of keys or values, each head as often as queries share it."""
    heads = len(block) // size
    return np.repeat(block.reshape(heads, 1, size, -1), length // len(block), axis=1).reshape(length, -1)
