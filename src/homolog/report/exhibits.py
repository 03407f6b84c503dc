"""The exhibits, arranged: pictures that people look for and that are not evidence, beside what independent pairs show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from homolog.report.charts.exhibits import draw_curves, draw_spread
from homolog.report.format import number, percent
from homolog.report.language import t
from homolog.report.words import EXHIBITS, say, tell

__all__ = ["arrange_exhibits"]

Json = Mapping[str, Any]

_KINDS = "qkvo"


def arrange_exhibits(exhibits: Json, drawn: dict[str, Any]) -> dict[str, Any] | None:
    """The std curves and the norm gains, as far as the comparison has them; pictures go into ``drawn``."""
    curves = _curves(exhibits.get("std_curves") or {}, drawn)
    gains = _gains(exhibits.get("norm_gains") or {}, drawn)
    return {"curves": curves, "gains": gains} if curves or gains else None


def _curves(curves: Json, drawn: dict[str, Any]) -> dict[str, Any] | None:
    panels = []
    correlation = curves.get("correlation") or {}
    others = _values(curves.get("background"))
    for kind in _KINDS:
        a, b = (_finite((curves.get(side) or {}).get(kind) or ()) for side in ("a", "b"))
        if any(value is not None for value in a + b):
            drawn[f"curve-{kind}"] = draw_curves(a, b)
            panels.append(
                {
                    "chart": f"curve-{kind}",
                    "name": say(EXHIBITS, kind),
                    "correlation": number(correlation.get(kind)),
                    "reached": _share_reaching(others, correlation.get(kind)),
                    "rows": _rows(a, b),
                }
            )
    if not panels:
        return None
    pair = [(say(EXHIBITS, kind), value) for kind, value in correlation.items() if kind in _KINDS and value is not None]
    return {"panels": panels, "spread": _spread("spread-curves", curves.get("background"), pair, drawn)}


def _gains(gains: Json, drawn: dict[str, Any]) -> dict[str, Any] | None:
    values = _finite(gains.get("cosine") or ())
    pair = [(t("layer {n}", n=layer), value) for layer, value in enumerate(values) if value is not None]
    if not pair:
        return None
    return {
        "rows": [(name, f"{value:.4f}") for name, value in pair],
        "low": f"{min(value for _, value in pair):.4f}",
        "high": f"{max(value for _, value in pair):.4f}",
        "reached": _share_reaching(_values(gains.get("background")), min(value for _, value in pair)),
        "spread": _spread("spread-gains", gains.get("background"), pair, drawn),
    }


def _spread(
    place: str, background: Json | None, pair: list[tuple[str, float]], drawn: dict[str, Any]
) -> dict[str, Any] | None:
    values = _values(background)
    if not pair:
        return None
    drawn[place] = draw_spread(values, pair)
    return {
        "chart": place,
        "text": tell((background or {}).get("text")),
        "values": [number(v) for v in sorted(values)],
    }


def _values(background: Json | None) -> list[float]:
    return [value for value in _finite((background or {}).get("values") or ()) if value is not None]


def _share_reaching(others: list[float], value: float | None) -> str | None:
    """How many of the values of independent pairs are at least ``value``; ``None`` if there are none to compare with."""
    if not others or value is None:
        return None
    return percent(sum(other >= value for other in others) / len(others))


def _rows(a: list[float | None], b: list[float | None]) -> list[tuple[int, str, str]]:
    """Layer, A's value, B's value; the shorter model's column ends in dashes."""

    def cell(side: list[float | None], layer: int) -> str:
        value = side[layer] if layer < len(side) else None
        return "–" if value is None else f"{value:.4g}"

    return [(layer, cell(a, layer), cell(b, layer)) for layer in range(max(len(a), len(b)))]


def _finite(values: Iterable[float | None]) -> list[float | None]:
    """A broken layer may hold NaN; a picture leaves it out."""
    return [float(value) if value is not None and math.isfinite(value) else None for value in values]
