"""How much of each parent is in each layer of a merge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from homolog.report.charts.base import INK, PAIR, QUIET, RULE, Rows, Spec, finish, says
from homolog.report.language import t

__all__ = ["MARKS", "draw_coefficients"]

_STYLES = (("circle", PAIR), ("square", INK), ("triangle-up", QUIET), ("diamond", PAIR), ("cross", INK))

MARKS = tuple(zip("●■▲◆✚", (colour for _, colour in _STYLES), strict=True))
"""The same shapes as text with their colours, parent by parent, for the legend."""


def draw_coefficients(layers: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Spec:
    """Layer of B × coefficient, one shape a parent, a bar for the interval. ``layers`` are rows of the JSON, ``names`` the parents'."""
    import altair as alt  # noqa: PLC0415

    values = [float(v) for row in layers for key in ("low", "high", "coefficients") for v in row.get(key) or ()]
    low, high = min([0.0, *values]), max([1.0, *values])
    last = max((int(row["b"]) for row in layers), default=0)
    x_axis = alt.Axis(title=t("layer of B"), tickMinStep=1, format="d", tickCount=min(12, last + 1))
    y_axis = alt.Axis(title=None, tickCount=5, format=".2~f")
    x_scale = alt.Scale(domain=[-0.6, last + 0.6], nice=False)
    y_scale = alt.Scale(domain=[low - 0.06, high + 0.06], nice=False)
    parts = [alt.Chart(alt.NamedData("ground")).mark_rule(color=RULE).encode(y=alt.Y("y", type="quantitative"))]
    data: dict[str, Rows] = {"ground": [{"y": 0.0}, {"y": 1.0}]}
    for place, name in enumerate(names[: len(_STYLES)]):
        shape, colour = _STYLES[place]
        series = f"parent_{place}"
        data[series] = _points(layers, place, name, len(names))
        base = alt.Chart(alt.NamedData(series)).encode(
            x=alt.X("x", type="quantitative", scale=x_scale, axis=x_axis), tooltip=says()
        )
        parts.append(
            base.mark_rule(color=colour, strokeWidth=1.6).encode(
                y=alt.Y("low", type="quantitative", scale=y_scale, axis=y_axis), y2=alt.Y2("high")
            )
        )
        parts.append(
            base.mark_point(shape=shape, filled=True, fill=colour, size=62, opacity=1).encode(
                y=alt.Y("y", type="quantitative", scale=y_scale, axis=y_axis)
            )
        )
    return finish(alt.layer(*parts), 190, **data)


def _points(layers: Sequence[Mapping[str, Any]], place: int, name: str, parents: int) -> Rows:
    """Parents stand side by side within a layer, so that equal coefficients do not hide each other."""
    aside = (place - (parents - 1) / 2) * 0.16
    points = []
    for row in layers:
        value = float(row["coefficients"][place])
        low, high = (float((row.get(key) or row["coefficients"])[place]) for key in ("low", "high"))
        says_ = t(
            "layer {b} of B: {value} of {name} ({low} to {high})",
            b=row["b"],
            value=f"{value:.3f}",
            name=name,
            low=f"{low:.3f}",
            high=f"{high:.3f}",
        )
        points.append({"x": int(row["b"]) + aside, "y": value, "low": low, "high": high, "says": says_})
    return points
