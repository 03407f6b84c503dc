"""The arena's pictures: the scores of a method by truth, its ROC, and for p-values the p–p plot."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from typing import Any

import numpy as np

from homolog.arena.cases import INDEPENDENT, RELATED, SHARED
from homolog.arena.run import Result
from homolog.arena.scores import curve
from homolog.report.charts.base import INK, PAIR, QUIET, RULE, Rows, Spec, finish, says

__all__ = ["draw_p_plot", "draw_roc", "draw_scores"]

_ROWS = {RELATED: "related", SHARED: "shared start", INDEPENDENT: "independent"}
_BINS = 40
_FAR = 60.0
"""Values of -log10 p are drawn up to here: beyond, more is no more."""


def draw_scores(results: Sequence[Result], threshold: float | None, *, is_p_value: bool) -> Spec:
    """A histogram for each truth, one above the other on one axis; the method's own threshold as a line.

    The highest bar of each fills its row; a bar of one pair can still be seen.
    """
    import altair as alt  # noqa: PLC0415 - half a second that only a page has to pay

    def shown(value: float) -> float:
        return min(value, _FAR) if is_p_value else value

    values = {
        label: [shown(r.score.value) for r in results if r.label == label and r.score.value is not None]
        for label in _ROWS
    }
    every = [value for row in values.values() for value in row]
    edges = np.histogram_bin_edges([*every, *([] if threshold is None else [shown(threshold)])] or [0.0], _BINS)
    bars: Rows = []
    for place, (label, row) in enumerate(reversed(values.items())):
        counts, _ = np.histogram(row, edges)
        for count, start, stop in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            if count:
                height = max(0.05, 0.86 * count / int(counts.max()))
                told = f"{count} of {len(row)} pairs ({_ROWS[label]}): {start:.4g} to {stop:.4g}"
                bars.append(
                    {"row": _ROWS[label], "from": start, "to": stop, "y": place, "top": place + height, "says": told}
                )
    names = list(_ROWS.values())
    x = alt.X(
        "from", type="quantitative", scale=alt.Scale(zero=False, padding=8), axis=alt.Axis(title=None, tickCount=5)
    )
    ground = alt.Axis(
        title=None,
        domain=False,
        ticks=False,
        values=[place + 0.4 for place in range(len(names))],
        labelExpr=f"{names[::-1]}[floor(datum.value)]",
    )
    y = alt.Y("y", type="quantitative", scale=alt.Scale(domain=[0, len(names)], nice=False), axis=ground)
    colour = alt.Color("row", type="nominal", legend=None, scale=alt.Scale(domain=names, range=[PAIR, INK, QUIET]))
    layers: list[Any] = [
        alt.Chart(alt.NamedData("bars"))
        .mark_rect(opacity=0.75)
        .encode(x=x, x2=alt.X2("to"), y=y, y2=alt.Y2("top"), color=colour, tooltip=says()),
        alt.Chart(alt.NamedData("grounds")).mark_rule(color=RULE).encode(y=y),
    ]
    if threshold is not None:
        layers.append(
            alt.Chart(alt.NamedData("line")).mark_rule(color=INK, strokeDash=[3, 3]).encode(x=x, tooltip=says())
        )
    line = [{"from": shown(threshold), "says": f"its own threshold: {threshold:g}"}] if threshold is not None else []
    grounds: Rows = [{"y": place} for place in range(len(names))]
    return finish(alt.layer(*layers), 190, bars=bars, grounds=grounds, line=line)


def draw_roc(results: Sequence[Result]) -> Spec:
    """Detections against false accusations as the threshold falls."""
    import altair as alt  # noqa: PLC0415

    points = [
        {"x": x, "y": y, "i": i, "says": f"{y:.0%} of the related found at {x:.1%} of the independent accused"}
        for i, (x, y) in enumerate(_thin(curve(results)))
    ]

    def axis(field: str, title: str) -> dict[str, Any]:
        return {
            "shorthand": field,
            "type": "quantitative",
            "scale": alt.Scale(domain=[0, 1], padding=4),
            "axis": alt.Axis(title=title, values=[0, 0.5, 1], format="%"),
        }

    chart = (
        alt.Chart(alt.NamedData("roc"))
        .mark_line(color=PAIR, strokeWidth=1.8, point=alt.OverlayMarkDef(color=PAIR, size=12, opacity=0.6))
        .encode(
            x=alt.X(**axis("x", "independent pairs accused")),
            y=alt.Y(**axis("y", "related pairs found")),
            order=alt.Order("i", type="quantitative"),
            tooltip=says(),
        )
    )
    chance = (
        alt.Chart(alt.NamedData("chance"))
        .mark_line(color=RULE, strokeDash=[3, 3])
        .encode(x=alt.X(**axis("x", "independent pairs accused")), y=alt.Y(**axis("y", "related pairs found")))
    )
    return finish(alt.layer(chance, chart), 210, roc=points, chance=[{"x": 0, "y": 0}, {"x": 1, "y": 1}])


def draw_p_plot(results: Sequence[Result]) -> Spec:
    """Quantiles of -log10 p over independent pairs against those of uniform p-values: an honest test stays on or below the diagonal."""
    import altair as alt  # noqa: PLC0415

    values = sorted(
        (r.score.value for r in results if r.label == INDEPENDENT and r.score.value is not None), reverse=True
    )
    n = len(values)
    points = [
        {
            "x": -log10((rank + 0.5) / n),
            "y": min(value, _FAR),
            "says": f"expected {-log10((rank + 0.5) / n):.2f}, seen {value:.2f}",
        }
        for rank, value in enumerate(values)
    ]
    end = -log10(0.5 / n) if n else 1.0
    x = alt.X("x", type="quantitative", axis=alt.Axis(title="-log10 p expected of honest p-values", tickCount=4))
    y = alt.Y("y", type="quantitative", axis=alt.Axis(title="-log10 p seen", tickCount=4))
    dots = alt.Chart(alt.NamedData("dots")).mark_point(shape="circle", size=16, color=PAIR, filled=True, opacity=0.7)
    diagonal = alt.Chart(alt.NamedData("diagonal")).mark_line(color=QUIET, strokeDash=[3, 3])
    chart = alt.layer(diagonal.encode(x=x, y=y), dots.encode(x=x, y=y, tooltip=says()))
    return finish(chart, 210, dots=points, diagonal=[{"x": 0, "y": 0}, {"x": end, "y": end}])


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The corners of the curve: a point between two others on one straight line says nothing."""
    kept = points[:1]
    for before, point, after in zip(points, points[1:], points[2:], strict=False):
        turn = (point[0] - before[0]) * (after[1] - point[1]) - (point[1] - before[1]) * (after[0] - point[0])
        if abs(turn) > 1e-12:
            kept.append(point)
    return kept + points[1:][-1:]
