"""The heat map: every layer of B against every layer of A."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from homolog.report.charts.base import Spec, expression, finish, says
from homolog.report.language import t

__all__ = ["HEAT_STEPS", "draw_cells", "draw_layer_matrix", "matrix_width"]

HEAT_STEPS = 9
"""Shades of the heat map, ``--heat-0`` to ``--heat-8``."""

_MARGIN = 56


def draw_layer_matrix(matrix: Mapping[str, Any]) -> Spec:
    """Layer of B × layer of A, shaded by how many sampled units match with equal index."""
    counts, of, expected = matrix["counts"], float(matrix["of"]), float(matrix["expected"])
    rows, columns, cell = _measure(counts)
    sentence = expression(
        "layer {b} of B, layer {a} of A: {n} of {of}, by chance about {expected}",
        b="datum.b",
        a="datum.a",
        n="datum.n",
        of=f"'{of:.0f}'",
        expected=f"'{expected:g}'",
    )
    cells = [{"a": a, "b": b, "n": n} for b, row in enumerate(counts) for a, n in enumerate(row)]
    return draw_cells(cells, range(rows), range(columns), of=of, labels=12, cell=cell, sentence=sentence)


def draw_cells(
    cells: list[dict[str, Any]],
    rows: Sequence[int],
    columns: Sequence[int],
    *,
    of: float,
    labels: int,
    cell: int,
    sentence: str,
) -> Spec:
    """Layers of B (``rows``) × layers of A (``columns``): each of ``cells`` (``a``, ``b``, ``n``) shaded by ``n`` between 0 and ``of``.

    At most ``labels`` layers are named on an axis. ``sentence``, an expression over a cell, is put together in the page: sixteen thousand
    sentences would fill the file.
    """
    import altair as alt  # noqa: PLC0415

    def axis(layers: Sequence[int], title: str) -> Any:
        step = -(-len(layers) // labels)
        return alt.Axis(title=title, values=list(layers[::step]), labelAngle=0, ticks=False, domain=False)

    shades = alt.Scale(
        type="threshold",
        domain=[of * (step + 0.5) / (HEAT_STEPS - 1) for step in range(HEAT_STEPS - 1)],
        range=[f"var(--heat-{step})" for step in range(HEAT_STEPS)],
    )
    chart = (
        alt.Chart(alt.NamedData("cells"))
        .transform_calculate(says=sentence)
        .mark_rect(stroke="var(--paper)", strokeWidth=1 if cell > 12 else 0.5, aria=False)
        .encode(
            x=alt.X("a", type="ordinal", axis=axis(columns, t("layer of A")), scale=alt.Scale(padding=0)),
            y=alt.Y("b", type="ordinal", axis=axis(rows, t("layer of B")), scale=alt.Scale(padding=0)),
            fill=alt.Fill("n", type="quantitative", legend=None, scale=shades),
            tooltip=says(),
        )
    )
    return finish(chart, cell * len(rows) + 46, cells=cells)


def matrix_width(matrix: Mapping[str, Any]) -> int:
    """Pixels at which the cells are square; narrower screens squeeze them."""
    _, columns, cell = _measure(matrix["counts"])
    return cell * columns + _MARGIN


def _measure(counts: Sequence[Sequence[int]]) -> tuple[int, int, int]:
    """Rows, columns, and the side of a cell in pixels."""
    rows, columns = len(counts), max((len(row) for row in counts), default=0)
    return rows, columns, max(9, min(34, 430 // max(rows, columns, 1)))
