"""The bench's answer as one HTML file, in the style of the report."""

from __future__ import annotations

from collections.abc import Sequence

from homolog.arena.bench.attacks import ATTACKS
from homolog.arena.bench.charts import draw_detection, draw_map, draw_price
from homolog.arena.bench.points import HIDDEN, Point
from homolog.arena.bench.rows import FROM_NOTHING, Row, show_amount, show_worth
from homolog.report.charts.base import Spec
from homolog.report.page import fill_page
from homolog.version import __version__

__all__ = ["render_page"]


def render_page(points: Sequence[Point], rows: Sequence[Row], command: str) -> str:
    """The page as text; ``command`` is what made it."""
    charts: dict[str, Spec] = {"map": draw_map(points)}
    nothing = [point for point in points if point.attack == FROM_NOTHING]
    hidden = [point for point in points if point.face == HIDDEN]
    attacks = []
    for number, attack in enumerate(ATTACKS):
        here = [point for point in points if point.attack == attack.name]
        if not here:
            continue
        priced = any(point.loss is not None for point in here)
        entry = {
            "name": attack.name,
            "text": attack.text,
            "rows": [row for row in rows if row.attack is attack],
            "detection": f"d{number}",
            "price": f"p{number}" if priced else None,
        }
        charts[f"d{number}"] = draw_detection(here, attack.axis)
        if priced:
            charts[f"p{number}"] = draw_price(here, nothing, attack.axis)
        attacks.append(entry)
    inherited = {attack.name for attack in ATTACKS if attack.inherits}
    stolen = [point for point in hidden if point.attack in inherited]
    view = {
        "version": __version__,
        "command": command,
        "models": len(hidden),
        "bases": sorted({point.base for point in points}),
        "held_out": sorted({point.base for point in points if point.held_out}),
        "found": sum(point.found for point in stolen),
        "stolen": len(stolen),
        "cleared": sum(point.cleared for point in stolen),
        "comparisons": sum(len(point.strangers) for point in points),
        "accused": sum(len(point.accused) for point in points),
        "attacks": attacks,
        "show_amount": show_amount,
        "show_worth": show_worth,
    }
    return fill_page("adversary.html.j2", view, charts, package="homolog.arena")
