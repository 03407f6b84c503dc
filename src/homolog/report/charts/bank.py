"""Where the agreement of two bodies stands among that of independent pairs, and how it lies over the layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from homolog.report.charts.base import CHANCE, INK, PAIR, QUIET, RULE, Rows, Spec, finish, says
from homolog.report.format import count, number, percent
from homolog.report.language import t

__all__ = ["draw_bank"]


def draw_bank(
    histogram: Sequence[int],
    value: float,
    layers: Sequence[tuple[int, float]],
    decided_from: float | None,
    *,
    cosines: bool = False,
) -> Spec:
    """One axis from 0 to 1: grey bars are pairs of the bank, on a root scale; the tall mark is this pair, a ring each of B's layers.

    ``layers`` are layers of B with their shares of units, or with ``cosines`` the median cosines of their heads; ``decided_from`` is where
    a dashed line says that Tier 2 begins to decide.
    """
    import altair as alt  # noqa: PLC0415 - half a second that only a report has to pay

    most = max([*histogram, 1])
    right = value > 0.5
    x_scale = alt.Scale(domain=[-0.012, 1.012], nice=False)
    say = number if cosines else percent
    x_axis = alt.Axis(title=None, values=[0, 0.25, 0.5, 0.75, 1], format=".2f" if cosines else "%")
    y_scale = alt.Scale(domain=[-0.24, 1.16], nice=False)
    y_axis = alt.Axis(title=None, labels=False, ticks=False, domain=False, values=[])

    def layer(name: str) -> alt.Chart:
        return alt.Chart(alt.NamedData(name))

    def x(field: str) -> alt.X:
        return alt.X(field, type="quantitative", scale=x_scale, axis=x_axis)

    def y(field: str) -> alt.Y:
        return alt.Y(field, type="quantitative", scale=y_scale, axis=y_axis)

    side: dict[str, Any] = {"align": "right", "dx": -11} if right else {"align": "left", "dx": 11}
    chart = alt.layer(
        layer("bars")
        .mark_rect(fill=CHANCE, stroke=CHANCE, strokeWidth=1)
        .encode(x=x("from"), x2=alt.X2("to"), y=y("height"), y2=alt.datum(0), tooltip=says()),
        layer("ground").mark_rule(color=RULE).encode(y=y("y")),
        layer("bar_from")
        .mark_rule(color=QUIET, strokeDash=[4, 3])
        .encode(x=x("x"), y=y("y"), y2=alt.datum(0), tooltip=says()),
        layer("rings")
        .mark_point(shape="circle", size=34, stroke=PAIR, strokeWidth=1.2, strokeOpacity=0.8, fill="transparent")
        .encode(x=x("x"), y=alt.datum(-0.13), tooltip=says()),
        layer("mark").mark_rule(color=PAIR, strokeWidth=2).encode(x=x("x"), y=y("y"), y2=alt.datum(0), tooltip=says()),
        layer("mark")
        .mark_point(shape="circle", filled=True, fill=PAIR, size=110, opacity=1)
        .encode(x=x("x"), y=y("y"), tooltip=says()),
        layer("bank_label")
        .mark_text(align="left", dx=6, color=QUIET, text=t("independent models fall here"))
        .encode(x=x("x"), y=y("y")),
        layer("pair_label")
        .mark_text(color=INK, fontWeight=600, text=t("these two models"), **side)
        .encode(x=x("x"), y=y("y")),
    )
    here = {"x": value, "y": 0.62}
    return finish(
        chart,
        150,
        bars=_bars(histogram, most, say),
        ground=[{"y": 0}],
        bar_from=[] if decided_from is None else [_threshold(decided_from, say)],
        rings=[{"x": share, "says": _layer(layer_of_b, say(share), cosines=cosines)} for layer_of_b, share in layers],
        mark=[here | {"says": t("these two models: {share} in the median layer", share=say(value))}],
        bank_label=[{"x": _reach(histogram, most), "y": 1.02}],
        pair_label=[here if right else {"x": max(value, _reach(histogram, most)), "y": 0.62}],
    )


def _layer(layer: int, said: str, *, cosines: bool) -> str:
    if cosines:
        return t("layer {b} of B: {cosine} over its heads", b=layer, cosine=said)
    return t("layer {b} of B: {share} of its units", b=layer, share=said)


def _bars(histogram: Sequence[int], most: int, say: Callable[[float], str]) -> Rows:
    bins = len(histogram)
    return [
        {
            "from": place / bins,
            "to": (place + 1) / bins,
            "height": (pairs / most) ** 0.5,
            "says": t(
                "{low} to {high}: {pairs} pairs of independent models",
                low=say(place / bins),
                high=say((place + 1) / bins),
                pairs=count(pairs),
            ),
        }
        for place, pairs in enumerate(histogram)
        if pairs
    ]


def _threshold(share: float, say: Callable[[float], str]) -> dict[str, float | str]:
    return {"x": share, "y": 0.86, "says": t("a relation is said only above {share}", share=say(share))}


def _reach(histogram: Sequence[int], most: int) -> float:
    """Right end of the bars that reach up to the label."""
    high = [place for place, pairs in enumerate(histogram) if (pairs / most) ** 0.5 > 0.9]
    return (max(high) + 1) / len(histogram) if high else 0.0
