"""The bench's pictures: price against detection for all attacks at once, and a curve of either for each attack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from homolog.arena.bench.attacks import ATTACKS
from homolog.arena.bench.points import HIDDEN, PLAIN, Point
from homolog.report.charts.base import CHANCE, INK, PAIR, QUIET, RULE, Rows, Spec, finish, says

__all__ = ["draw_detection", "draw_map", "draw_price"]

_SAID = {"found": PAIR, "undecided": QUIET, "cleared": INK}
_FARTHEST = 2.0
"""Nats per token: whoever pays more has nothing left that is worth stealing."""


def _said(point: Point) -> str:
    return "found" if point.found else "cleared" if point.cleared else "undecided"


def _tell(point: Point) -> str:
    price = "" if point.price is None else f", loss {point.price:+.2f}"
    agreement = "" if point.agreement is None else f", agreement {point.agreement:.2f}"
    return f"{point.attack} {point.amount:g} on {point.base}, {point.face}: {point.verdict}{price}{agreement}"


def draw_map(points: Sequence[Point]) -> Spec:
    """A row for each attack, a dot for each hidden model, at its price; colour and shape are what homolog says."""
    import altair as alt  # noqa: PLC0415 - half a second that only a page has to pay

    shown = [p for p in points if p.face == HIDDEN and p.price is not None]
    names = [attack.name for attack in ATTACKS if any(p.attack == attack.name for p in shown)]
    dots: Rows = [
        {"row": p.attack, "x": min(max(p.price or 0.0, -0.5), _FARTHEST), "said": _said(p), "says": _tell(p)}
        for p in sorted(shown, key=lambda p: list(_SAID).index(_said(p)))
    ]
    scale = alt.Scale(domain=list(_SAID), range=list(_SAID.values()))
    shapes = alt.Scale(domain=list(_SAID), range=["circle", "square", "cross"])
    axis = alt.Axis(title="loss beyond the base's, nats per token (2 and more at the end)", tickCount=6)
    title: Any = alt.Legend(title=None, orient="top")
    chart = (
        alt.Chart(alt.NamedData("dots"))
        .mark_point(size=46, filled=True, opacity=0.75)
        .encode(
            x=alt.X("x", type="quantitative", scale=alt.Scale(domain=[-0.5, _FARTHEST], padding=6), axis=axis),
            y=alt.Y(
                "row", type="nominal", sort=names, axis=alt.Axis(title=None, domain=False, ticks=False, labelLimit=220)
            ),
            color=alt.Color("said", type="nominal", scale=scale, legend=title),
            shape=alt.Shape("said", type="nominal", scale=shapes, legend=title),
            tooltip=says(),
        )
    )
    line = alt.Chart(alt.NamedData("line")).mark_rule(color=RULE).encode(x=alt.X("x", type="quantitative"))
    return finish(alt.layer(line, chart), 24 * len(names) + 70, dots=dots, line=[{"x": 0.0}])


def draw_detection(points: Sequence[Point], axis: str) -> Spec:
    """Share of the bases found by amount: as it is, and hidden."""
    import altair as alt  # noqa: PLC0415

    faces = {HIDDEN: PAIR, PLAIN: CHANCE}
    lines: Rows = []
    for face in faces:
        for amount in sorted({p.amount for p in points if p.face == face}):
            here = [p for p in points if p.face == face and p.amount == amount]
            share = sum(p.found for p in here) / len(here)
            words = f"{share:.0%} of {len(here)} found at {amount:g}, {face}"
            lines.append({"x": f"{amount:.3g}", "y": share, "face": face, "says": words, "i": amount})
    order = list(dict.fromkeys(f"{p:.3g}" for p in sorted({p.amount for p in points})))
    chart = (
        alt.Chart(alt.NamedData("lines"))
        .mark_line(strokeWidth=1.8, point=alt.OverlayMarkDef(size=26))
        .encode(
            x=alt.X("x", type="ordinal", sort=order, axis=alt.Axis(title=axis or None, labelAngle=0)),
            y=alt.Y(
                "y",
                type="quantitative",
                scale=alt.Scale(domain=[0, 1], padding=4),
                axis=alt.Axis(title="found", values=[0, 0.5, 1], format="%"),
            ),
            color=alt.Color(
                "face",
                type="nominal",
                scale=alt.Scale(domain=list(faces), range=list(faces.values())),
                legend=alt.Legend(title=None, orient="top"),
            ),
            order=alt.Order("i", type="quantitative"),
            tooltip=says(),
        )
    )
    return finish(chart, 170, lines=lines)


def draw_price(points: Sequence[Point], nothing: Sequence[Point], axis: str) -> Spec:
    """Loss by amount, a line for each base; beside it that of a new model of as many tokens, where the amount counts tokens."""
    import altair as alt  # noqa: PLC0415

    seen = [p for p in points if p.face == HIDDEN and p.loss is not None]
    lines: Rows = [
        {"x": f"{p.amount:.3g}", "y": p.loss, "who": p.base, "kind": "attacked", "i": p.amount, "says": _tell(p)}
        for p in seen
    ]
    lines += [
        {
            "x": f"{p.amount:.3g}",
            "y": p.base_loss,
            "who": f"{p.base}: base",
            "kind": "base",
            "i": p.amount,
            "says": f"{p.base} itself",
        }
        for p in seen
    ]
    if axis.startswith("tokens"):
        lines += [
            {
                "x": f"{p.amount:.3g}",
                "y": p.loss,
                "who": f"{p.base}: new",
                "kind": "a new model",
                "i": p.amount,
                "says": _tell(p),
            }
            for p in nothing
            if p.face == HIDDEN and p.loss is not None and any(q.amount == p.amount for q in seen)
        ]
    kinds = {"attacked": PAIR, "base": RULE, "a new model": QUIET}
    order = list(dict.fromkeys(f"{amount:.3g}" for amount in sorted({p.amount for p in seen})))
    chart = (
        alt.Chart(alt.NamedData("lines"))
        .mark_line(strokeWidth=1.4, point=alt.OverlayMarkDef(size=18))
        .encode(
            x=alt.X("x", type="ordinal", sort=order, axis=alt.Axis(title=axis or None, labelAngle=0)),
            y=alt.Y(
                "y",
                type="quantitative",
                scale=alt.Scale(zero=False, padding=6),
                axis=alt.Axis(title="loss", tickCount=4),
            ),
            color=alt.Color(
                "kind",
                type="nominal",
                scale=alt.Scale(domain=list(kinds), range=list(kinds.values())),
                legend=alt.Legend(title=None, orient="top"),
            ),
            detail=alt.Detail("who", type="nominal"),
            order=alt.Order("i", type="quantitative"),
            tooltip=says(),
        )
    )
    return finish(chart, 170, lines=lines)
