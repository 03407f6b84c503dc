"""Tier 2, arranged: how far the bodies agree beside independent models, and every layer against every layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homolog.report.charts.bank import draw_bank
from homolog.report.charts.heat import draw_heat, heat_width
from homolog.report.charts.matrix import HEAT_STEPS
from homolog.report.format import count, fine_percent, log10, number, percent, power_html
from homolog.report.words import tell

__all__ = ["arrange_bodies"]

Json = Mapping[str, Any]


def arrange_bodies(agreement: Json | None, drawn: dict[str, Any]) -> dict[str, Any] | None:
    """The agreement in words, or why there is none; pictures go into ``drawn``. ``None`` for an object that does not know of it."""
    if not agreement:
        return None
    value, bank = agreement.get("value"), agreement.get("bank") or {}
    heads = _heads(agreement.get("heads"), drawn)
    if value is None:
        return {"absent": tell(agreement.get("absent") or "the bodies were not compared", 1000), "heads": heads}
    layers = [(int(row["layer"]), float(row["share"])) for row in agreement.get("b_in_a") or ()]
    other = [(int(row["layer"]), float(row["share"])) for row in agreement.get("a_in_b") or ()]
    most, thresholds = bank.get("most"), agreement.get("thresholds") or {}
    decided_from = None
    if most is not None and thresholds:
        decided_from = max(float(thresholds["share"]), float(thresholds["times_the_bank"]) * float(most))
    drawn["bank"] = draw_bank(bank.get("histogram") or (), float(value), layers, decided_from)
    p = agreement.get("log10_p")
    return {
        "absent": None,
        "unjudged": tell(agreement["absent"], 1000) if agreement.get("absent") else None,
        "value": fine_percent(value),
        "most": fine_percent(most),
        "pairs": count(bank.get("pairs")),
        "models": count(bank.get("models")),
        "decided_from": None if decided_from is None else percent(decided_from),
        "p": None if p is None else power_html(p),
        "bound": p is not None and p <= -2,
        "log10_p": log10(p),
        "outside": [tell(text, 400) for text in bank.get("outside") or ()],
        "rows": _rows(layers, other, agreement),
        "heat": _heat(agreement.get("heat"), drawn),
        "heads": heads,
    }


def _heads(heads: Json | None, drawn: dict[str, Any]) -> dict[str, Any] | None:
    """The agreement of attention, drawn like that of units; ``None`` where it was not asked."""
    if not heads or heads.get("value") is None:
        return None
    bank, value = heads.get("bank") or {}, float(heads["value"])
    layers = [(int(row["layer"]), float(row["cosine"])) for row in heads.get("b_in_a") or ()]
    clipped = [(layer, max(cosine, 0.0)) for layer, cosine in layers]
    drawn["bank-heads"] = draw_bank(bank.get("histogram") or (), max(value, 0.0), clipped, None, cosines=True)
    p = heads.get("log10_p")
    return {
        "value": number(value),
        "most": number(bank.get("most")),
        "pairs": count(bank.get("pairs")),
        "models": count(bank.get("models")),
        "p": None if p is None else power_html(p),
        "bound": p is not None and p <= -2,
        "unjudged": tell(heads["absent"], 1000) if heads.get("absent") else None,
        "rows": [
            {"layer": row["layer"], "cosine": number(row["cosine"]), "source": row["source"]}
            for row in heads.get("b_in_a") or ()
        ],
    }


def _rows(b_in_a: list[tuple[int, float]], a_in_b: list[tuple[int, float]], agreement: Json) -> list[dict[str, Any]]:
    """Layer by layer: of B in A with its partner, and of A in B."""
    sources = {int(row["layer"]): row.get("source") for row in agreement.get("b_in_a") or ()}
    targets = {int(row["layer"]): row.get("source") for row in agreement.get("a_in_b") or ()}
    b, a = dict(b_in_a), dict(a_in_b)
    return [
        {
            "layer": layer,
            "b": percent(b.get(layer)),
            "b_source": sources.get(layer, "–"),
            "a": percent(a.get(layer)),
            "a_source": targets.get(layer, "–"),
        }
        for layer in sorted({*b, *a})
    ]


def _heat(heat: Json | None, drawn: dict[str, Any]) -> dict[str, Any] | None:
    if not heat or not heat.get("fitted"):
        return None
    rows, columns = heat["b"], heat["a"]
    for name in ("stored", "fitted"):
        if heat.get(name):
            drawn[f"heat-{name}"] = draw_heat(heat[name], rows, columns)
    return {
        "stored": bool(heat.get("stored")),
        "width": heat_width(rows, columns),
        "steps": range(HEAT_STEPS),
        "units": count(heat["units"]),
        "best": {
            name: percent(max(max(row) for row in heat[name])) if heat.get(name) else None
            for name in ("stored", "fitted")
        },
        "columns": columns,
        "tables": [
            (
                name,
                [(layer, [f"{100 * share:.0f}" for share in row]) for layer, row in zip(rows, heat[name], strict=True)],
            )
            for name in ("stored", "fitted")
            if heat.get(name)
        ],
    }
