"""Never-trained tokens: rows of the embedding whose token no training text contains keep what initialisation gave them.

Training is equivariant under permuting such tokens among themselves, and no function-preserving disguise touches token identity: so
equal tokens among the mutual matches of these rows are evidence through any permutation, rotation or change of depth. The same holds of
learned positions that no training text was long enough to reach.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from homolog.align.residual import Frame
from homolog.checkpoint.base import Array
from homolog.probes.exchangeable import find_order, ordered_on_both_sides
from homolog.probes.finding import NOT_ALIGNED, Finding, GroupResult, Null
from homolog.probes.groups import group_of
from homolog.probes.indices import index_test_within
from homolog.probes.pair import Pair
from homolog.probes.positions import find_untouched
from homolog.sketch.anchors import Anchors
from homolog.sketch.position_table import POSITION, count_positions
from homolog.sketch.sketch import TokenRows

__all__ = ["probe_untrained"]

NULL = Null(
    "exchangeable-untrained-tokens",
    "At least one of the two models was trained without the other's weights. Tokens that no training text contains were initialised "
    "alike and their rows moved only by rules that treat them alike, so within each class (impossible bytes, reserved tokens, spare "
    "rows, tokens that no merge produces, positions beyond the longest text) which token has which row is uniformly random.",
)

_TABLES = {"embed": "embedding", "unembed": "unembedding"}
_POSITIONS = "position table"
_FEWEST = 6
_FRAMES = 3
"""That of the files, of the ordinary tokens and of the FFN units: all are planned, whether they can be had or not."""

_STORED = None
"""The frame that the files are in."""


def probe_untrained(
    pair: Pair,
    anchors: Anchors,
    frame: Frame | None,
    no_frame: str,
    shared_table: str | None,
    *,
    body: Frame | str = NOT_ALIGNED,
) -> Finding:
    """Never-trained rows of embedding, unembedding and position table, in the frame of the files and in two that were fitted.

    ``frame`` is that of the ordinary tokens (``no_frame`` says why there is none), ``body`` that of the FFN units, or why there is none.
    Neither has seen a row that is tested here, so under the null the rows' tokens stay uniformly random whatever the frame is.
    """
    name, tables = "tokens.untrained", _tables_of(pair)
    tests = len(tables) * _FRAMES
    if reason := shared_table or (anchors.no_untrained if POSITION not in tables else None):
        return Finding.missing(name, NULL, reason, tests=tests)
    frames: dict[str, Frame | str | None] = {"identity": _STORED, "embedding": frame or no_frame, "body": body}
    groups: list[GroupResult] = []
    left_out: dict[str, str] = {}
    for key, title in tables.items():
        first, second = pair.tables(key)
        if first is None or second is None:
            left_out |= pair.lacking(key, title)
            continue
        classes = _classes(key, first, second, anchors)
        if isinstance(classes, str):
            left_out[title] = classes
            continue
        x = [_centred(first.untrained[positions]) for positions in classes]
        y = [_centred(second.untrained[positions]) for positions in classes]
        if reason := _ordered(pair, title, x, y):
            left_out[title] = reason
            continue
        for kind, found in frames.items():
            coordinates = _coordinates(pair, key, classes, kind, found)
            if isinstance(coordinates, str):
                left_out[f"{title}, {kind} frame"] = coordinates
                continue
            test = index_test_within(*coordinates, rngs=pair.rngs(name, key, kind))
            groups.append(group_of(title, test, frame=kind))
    return Finding.conclude(name, NULL, tests, groups, left_out)


def _tables_of(pair: Pair) -> dict[str, str]:
    """The tables that are planned, by their shapes alone: that of positions only where both models have one."""
    both = all(count_positions(sketch.anatomy) for sketch in (pair.a, pair.b))
    return {**_TABLES, POSITION: _POSITIONS} if both else _TABLES


def _classes(key: str, first: TokenRows, second: TokenRows, anchors: Anchors) -> Sequence[npt.NDArray[np.intp]] | str:
    """Positions among the rows that are kept of a table, class by class, or why there are too few."""
    if key == POSITION:
        return _untouched(first, second)
    if anchors.no_untrained:
        return anchors.no_untrained
    classes = [_usable(first, second, anchors.classes, label) for label in sorted(set(anchors.classes))]
    classes = [positions for positions in classes if len(positions) >= 2]
    count = sum(len(positions) for positions in classes)
    if count < _FEWEST:
        return f"{count} of {len(anchors.classes)} never-trained rows are distinct at the precision of the file"
    return classes


def _untouched(first: TokenRows, second: TokenRows) -> Sequence[npt.NDArray[np.intp]] | str:
    if np.array_equal(first.untrained, second.untrained):
        return "the position table is the same in both models: a fixed, borrowed or frozen table shows no descent"
    found = find_untouched(first.untrained, second.untrained)
    return found if isinstance(found, str) else [found]


def _usable(first: TokenRows, second: TokenRows, classes: Sequence[str], label: str) -> npt.NDArray[np.intp]:
    """Positions of the class ``label`` whose rows, in both models, are distinct from the mean of the class.

    Rows that differ from it by no more than the rounding of the file have collapsed onto one row.
    """
    positions = np.flatnonzero([c == label for c in classes])
    for rows in (first, second):
        block = rows.untrained[positions]
        positions = positions[np.isfinite(block).all(axis=1)]
        block = rows.untrained[positions]
        size, rest = np.sqrt((block**2).sum(axis=1)), np.sqrt((_centred(block) ** 2).sum(axis=1))
        positions = positions[(size > 0) & (rest > 4 * rows.precision * size)]
    return positions


def _centred(block: Array) -> Array:
    return np.asarray(block - block.mean(axis=0), dtype=np.float32) if len(block) else block


def _coordinates(
    pair: Pair, key: str, classes: Sequence[npt.NDArray[np.intp]], kind: str, frame: Frame | str | None
) -> tuple[Sequence[Array], Sequence[Array]] | str:
    if isinstance(frame, str):
        return frame
    if kind == "identity" and pair.no_frame:
        return pair.no_frame
    first, second = (pair.turned or pair if kind == "embedding" else pair).tables(key)
    if first is None or second is None:
        return "the table is not kept in coordinates that a rotation leaves alone"
    x, y = ([_centred(rows.untrained[positions]) for positions in classes] for rows in (first, second))
    if frame is _STORED:
        return x, y
    if (x[0].shape[1], y[0].shape[1]) != (len(frame.a), len(frame.b)):
        return "the rows are kept in other coordinates than the frame's"
    return [block @ frame.a for block in x], [block @ frame.b for block in y]


def _ordered(pair: Pair, title: str, x: Sequence[Array], y: Sequence[Array]) -> str | None:
    largest = max(range(len(x)), key=lambda g: len(x[g]))

    def find(side: str) -> str | None:
        rows = (x if side == "A" else y)[largest]
        size = (rows**2).sum(axis=1, keepdims=True)
        return find_order(rows, size, pair.rngs("order tokens", title)(side))

    return ordered_on_both_sides("rows", find)
