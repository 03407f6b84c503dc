"""Heat maps of layers against layers: before and after two models are put into one frame."""

from __future__ import annotations

from collections.abc import Sequence

from homolog.report.charts.base import Spec, expression, finish, says
from homolog.report.charts.matrix import HEAT_STEPS
from homolog.report.language import t

__all__ = ["draw_heat", "heat_width"]

Grid = Sequence[Sequence[float]]

_MARGIN = 52


def draw_heat(grid: Grid, rows: Sequence[int], columns: Sequence[int]) -> Spec:
    """Layers of B (``rows``) × layers of A (``columns``), shaded by a share between 0 and 1."""
    import altair as alt  # noqa: PLC0415

    cell = _cell(rows, columns)

    def axis(layers: Sequence[int], title: str) -> alt.Axis:
        step = -(-len(layers) // 10)
        return alt.Axis(title=title, values=list(layers[::step]), labelAngle=0, ticks=False, domain=False)

    shades = alt.Scale(
        type="threshold",
        domain=[(step + 0.5) / (HEAT_STEPS - 1) for step in range(HEAT_STEPS - 1)],
        range=[f"var(--heat-{step})" for step in range(HEAT_STEPS)],
    )
    sentence = expression(
        "layer {b} of B, layer {a} of A: {share}", b="datum.b", a="datum.a", share="format(datum.n, '.1%')"
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
    cells = [
        {"a": a, "b": b, "n": n} for b, row in zip(rows, grid, strict=True) for a, n in zip(columns, row, strict=True)
    ]
    return finish(chart, cell * len(rows) + 46, cells=cells)


def heat_width(rows: Sequence[int], columns: Sequence[int]) -> int:
    """Pixels at which the cells are square; narrower screens squeeze them."""
    return _cell(rows, columns) * len(columns) + _MARGIN


def _cell(rows: Sequence[int], columns: Sequence[int]) -> int:
    return max(7, min(34, 290 // max(len(rows), len(columns), 1)))
