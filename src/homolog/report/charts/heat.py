"""Heat maps of layers against layers: before and after two models are put into one frame."""

from __future__ import annotations

from collections.abc import Sequence

from homolog.report.charts.base import Spec, expression
from homolog.report.charts.matrix import draw_cells

__all__ = ["draw_heat", "heat_width"]

Grid = Sequence[Sequence[float]]

_MARGIN = 52


def draw_heat(grid: Grid, rows: Sequence[int], columns: Sequence[int]) -> Spec:
    """Layers of B (``rows``) × layers of A (``columns``), shaded by a share between 0 and 1."""
    sentence = expression(
        "layer {b} of B, layer {a} of A: {share}", b="datum.b", a="datum.a", share="format(datum.n, '.1%')"
    )
    cells = [
        {"a": a, "b": b, "n": n} for b, row in zip(rows, grid, strict=True) for a, n in zip(columns, row, strict=True)
    ]
    return draw_cells(cells, rows, columns, of=1.0, labels=10, cell=_cell(rows, columns), sentence=sentence)


def heat_width(rows: Sequence[int], columns: Sequence[int]) -> int:
    """Pixels at which the cells are square; narrower screens squeeze them."""
    return _cell(rows, columns) * len(columns) + _MARGIN


def _cell(rows: Sequence[int], columns: Sequence[int]) -> int:
    return max(7, min(34, 290 // max(len(rows), len(columns), 1)))
