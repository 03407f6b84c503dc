"""The picture of a test: where independent models fall, and where these two are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from homolog.report.charts.base import CHANCE, INK, PAIR, QUIET, RULE, Rows, Spec, finish, says
from homolog.report.format import count, power
from homolog.report.language import t
from homolog.report.words import tell

__all__ = ["draw_null"]

Json = Mapping[str, Any]


def draw_null(curve: Json, best: Json, groups: Sequence[Json]) -> Spec:
    """One axis from 0 to the size of the group ``best``; bars are the tail under the null, the tall mark is ``best``.

    The bars are the tail that the finding carries: how often independent models reach at least k. The rings beneath are all
    ``groups``, so a single lucky layer could not hide.
    """
    import altair as alt  # noqa: PLC0415

    of, seen = float(best["of"]), float(best["statistic"])
    bars = _bars(curve)
    # The labels stand to the right of the bars that reach up to them.
    edges = [max((bar["to"] for bar in bars if bar["tail"] > height), default=0.5) for height in (0.85, 0.49)]
    right = seen > of / 2
    last = max(of, *(float(group["statistic"]) for group in groups))

    x_scale, y_scale = alt.Scale(domain=[-0.5, last + 0.5], nice=False), alt.Scale(domain=[-0.34, 1.12], nice=False)
    x_axis = alt.Axis(title=None, values=sorted({round(last * part / 4) for part in range(5)}), format=",d")
    y_axis = alt.Axis(title=None, values=[0, 0.5, 1], format="%", domain=False, ticks=False)

    def x(field: str) -> Any:
        return alt.X(field, type="quantitative", scale=x_scale, axis=x_axis)

    def y(field: str) -> Any:
        return alt.Y(field, type="quantitative", scale=y_scale, axis=y_axis)

    def layer(name: str) -> Any:
        return alt.Chart(alt.NamedData(name))

    side: dict[str, Any] = {"align": "right", "dx": -11} if right else {"align": "left", "dx": 11}
    chart = alt.layer(
        layer("bars")
        .mark_rect(fill=CHANCE, stroke=CHANCE, strokeWidth=1)
        .encode(x=x("from"), x2=alt.X2("to"), y=y("tail"), y2=alt.datum(0), tooltip=says()),
        layer("ground").mark_rule(color=RULE).encode(y=y("y")),
        layer("rings")
        .mark_point(shape="circle", size=34, stroke=PAIR, strokeWidth=1.2, strokeOpacity=0.8, fill="transparent")
        .encode(x=x("x"), y=alt.datum(-0.19), tooltip=says()),
        layer("mark").mark_rule(color=PAIR, strokeWidth=2).encode(x=x("x"), y=y("y"), y2=alt.datum(0), tooltip=says()),
        layer("mark")
        .mark_point(shape="circle", filled=True, fill=PAIR, size=110, opacity=1)
        .encode(x=x("x"), y=y("y"), tooltip=says()),
        layer("chance_label")
        .mark_text(align="left", dx=6, color=QUIET, text=t("independent models fall here"))
        .encode(x=x("x"), y=y("y")),
        layer("pair_label")
        .mark_text(color=INK, fontWeight=600, text=t("these two models"), **side)
        .encode(x=x("x"), y=y("y")),
    )
    here = t("these two models, {group}: {seen} of {of}", group=tell(best["group"], 60), seen=count(seen), of=count(of))
    return finish(
        chart,
        150,
        bars=bars,
        ground=[{"y": 0}],
        rings=_rings(groups),
        mark=[{"x": seen, "y": 0.62, "says": here}],
        chance_label=[{"x": edges[0], "y": 0.97}],
        pair_label=[{"x": seen if right else max(seen, edges[1]), "y": 0.62}],
    )


def _bars(curve: Json) -> Rows:
    """One bar for every k that chance reaches at least once in a thousand; less could not be seen.

    Of a long curve only some k are there: a bar then reaches to the next, as high as at its left end, which is never too low.
    """
    tail = list(zip(curve.get("k") or (), curve.get("log10_tail") or (), strict=True))
    following = [k for k, _ in tail[1:]] + [k + 1 for k, _ in tail[-1:]]
    return [
        {
            "from": k - 0.5,
            "to": after - 0.5,
            "tail": 10**p,
            "says": t("chance reaches {k} or more: p = {p}", k=count(k), p=power(p)),
        }
        for (k, p), after in zip(tail, following, strict=True)
        if p > -3
    ]


def _rings(groups: Sequence[Json]) -> Rows:
    """One ring for every value that was seen, naming the groups that have it."""
    by_value: dict[tuple[int, int], list[str]] = {}
    for group in groups:
        by_value.setdefault((group["statistic"], group["of"]), []).append(tell(group["group"], 60))
    return [
        {"x": seen, "says": t("{groups}: {seen} of {of}", groups=_list(names), seen=count(seen), of=count(of))}
        for (seen, of), names in by_value.items()
    ]


def _list(names: Sequence[str]) -> str:
    if len(names) <= 4:
        return t(", ").join(names)
    return t("{names} and {n} more", names=t(", ").join(names[:4]), n=count(len(names) - 4))
