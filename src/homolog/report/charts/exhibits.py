"""The pictures that people look for: curves by depth, and values beside those of independent pairs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from homolog.report.charts.base import PAIR, QUIET, Rows, Spec, finish, says
from homolog.report.language import t

__all__ = ["draw_curves", "draw_spread"]


def draw_curves(a: Sequence[float | None], b: Sequence[float | None]) -> Spec:
    """One kind of attention matrix: its standard deviation by depth, A dashed and B solid."""
    import altair as alt  # noqa: PLC0415

    ends = f"datum.value == 0 ? {json.dumps(t('first layer'))} : {json.dumps(t('last'))}"

    def line(name: str, color: str, dash: list[int]) -> Any:
        base = alt.Chart(alt.NamedData(name)).encode(
            x=alt.X(
                "x",
                type="quantitative",
                scale=alt.Scale(domain=[0, 1], padding=6),
                axis=alt.Axis(title=None, values=[0, 1], labelExpr=ends, labelFlush=True),
            ),
            y=alt.Y(
                "y",
                type="quantitative",
                scale=alt.Scale(zero=False),
                axis=alt.Axis(title=None, tickCount=3, format=".2~g"),
            ),
            tooltip=says(),
        )
        return base.mark_line(color=color, strokeWidth=1.8, strokeDash=dash) + base.mark_point(
            shape="circle", size=26, filled=True, fill=color, opacity=1
        )

    return finish(line("a", QUIET, [4, 3]) + line("b", PAIR, [1, 0]), 120, a=_points("A", a), b=_points("B", b))


def draw_spread(background: Sequence[float], pair: Sequence[tuple[str, float]]) -> Spec:
    """Values of independent pairs as grey ticks above, one for each per cent, those of this pair as rings below; the axis ends at 1."""
    import altair as alt  # noqa: PLC0415

    their_row, our_row = t("independent pairs"), t("these two")
    lowest = min([*background, *(value for _, value in pair)])
    # The axis begins at a round number below the lowest value: 0.9, 0.5 or 0, or -1 where correlations are negative.
    begin = next((start for start in (0.9, 0.5, 0.0) if lowest >= start), -1.0)
    x_scale = alt.Scale(domain=[begin, 1], nice=False, padding=6)

    def chart(name: str) -> Any:
        return alt.Chart(alt.NamedData(name)).encode(
            x=alt.X("x", type="quantitative", scale=x_scale, axis=alt.Axis(title=None, tickCount=5)),
            y=alt.Y(
                "row", type="nominal", sort=[their_row, our_row], axis=alt.Axis(title=None, domain=False, ticks=False)
            ),
            tooltip=says(),
        )

    ours = [
        {"row": our_row, "x": value, "says": t("{name}: {value}", name=name, value=f"{value:.3f}")}
        for name, value in pair
    ]
    others = [
        {"row": their_row, "x": value, "says": t("{name}: {value}", name=their_row, value=f"{value:.3f}")}
        for value in background
    ]
    rings = chart("ours").mark_point(shape="circle", size=54, stroke=PAIR, strokeWidth=1.8, fill="transparent")
    if not others:
        return finish(alt.layer(rings), 74, ours=ours)
    ticks = chart("others").mark_tick(color=QUIET, thickness=1.4, opacity=0.65, bandSize=20)
    return finish(alt.layer(ticks, rings), 104, ours=ours, others=others)


def _points(model: str, values: Sequence[float | None]) -> Rows:
    last = max(1, len(values) - 1)
    return [
        {
            "x": layer / last,
            "y": value,
            "says": t("{model}, layer {n}: {value}", model=model, n=layer, value=f"{value:.4g}"),
        }
        for layer, value in enumerate(values)
        if value is not None
    ]
