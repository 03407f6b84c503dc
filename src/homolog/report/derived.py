"""The map beyond layers, arranged: experts, heads, vocabulary, tensors, low-rank differences, merges, a third model. Only what is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homolog.report.charts.merges import MARKS, draw_coefficients
from homolog.report.experts import arrange_experts
from homolog.report.format import clean, count, fine_percent, number, percent
from homolog.report.heads import arrange_heads
from homolog.report.language import t
from homolog.report.tensors import arrange_low_rank, arrange_tensors, share_out
from homolog.report.words import tell

__all__ = ["arrange_derived"]

Json = Mapping[str, Any]


def arrange_derived(derivation: Json, drawn: dict[str, Any]) -> dict[str, Any] | None:
    """Every part of the map that the comparison holds; pictures go into ``drawn``. ``None`` if there is none."""
    parts = {
        "experts": arrange_experts(_present(derivation, "experts")),
        "heads": arrange_heads(derivation.get("layers") or ()),
        "vocabulary": _arrange_vocabulary(_present(derivation, "vocabulary")),
        "tensors": arrange_tensors(_present(derivation, "tensors")),
        "low_rank": arrange_low_rank(_present(derivation, "low_rank")),
        "merges": _arrange_merges(derivation.get("merges"), drawn),
        "given": _arrange_given(derivation.get("given")),
    }
    if not any(parts.values()):
        return None
    return parts


def _present(derivation: Json, key: str) -> Json | None:
    part: Json | None = derivation.get(key)
    return None if not part or part.get("absent") else part


def _arrange_vocabulary(found: Json | None) -> dict[str, Any] | None:
    if not found or not found.get("b"):
        return None
    changed = [int(found.get(key) or 0) for key in ("retrained", "new", "dropped")]
    tables = found.get("tables") or {}
    return {
        "parts": share_out(
            [
                (t("as in A, or trained on from it"), int(found.get("carried") or 0), "carried"),
                (t("no longer like A’s"), changed[0], "other"),
                (t("new words"), changed[1], "new"),
            ]
        ),
        "a": count(found.get("a")),
        "b": count(found.get("b")),
        "joined": count(found.get("joined")),
        "how": tell(found.get("how")),
        "identical": count(found.get("identical")) if found.get("identical") else "",
        "dropped": count(changed[2]) if changed[2] else "",
        "quiet": not any(changed),
        "tables": [
            {
                "name": tell(name),
                "counts": [count(table.get(key)) for key in ("compared", "identical", "carried", "retrained")],
                "cosine": number(table.get("median_cosine")),
            }
            for name, table in tables.items()
        ],
    }


def _arrange_merges(found: Json | None, drawn: dict[str, Any]) -> dict[str, Any] | None:
    if not found:
        return None
    if found.get("absent"):
        return {"absent": tell(found["absent"])}
    names = [_name_parent(model) for model in found.get("models") or ()]
    layers = [row for row in found.get("layers") or () if int(row["b"]) >= 0]
    if layers:
        drawn["merges"] = draw_coefficients(layers, names)
    return {
        "absent": None,
        "text": _sentence(found.get("text")),
        "warnings": [_sentence(text) for text in found.get("warnings") or ()],
        "drawn": bool(layers),
        "parents": [
            {
                "mark": MARKS[place][0] if place < len(MARKS) else "",
                "colour": MARKS[place][1] if place < len(MARKS) else "inherit",
                "name": names[place],
                "value": f"{float(parent['value']):.3f}",
                "low": f"{float(parent['low']):.3f}",
                "high": f"{float(parent['high']):.3f}",
            }
            for place, parent in enumerate(found.get("coefficients") or ())
        ],
        "names": names,
        "residual": fine_percent(found.get("residual")),
        "collinear": bool(found.get("collinear")),
        "rows": [
            {
                "layer": t("outside the layers") if int(row["b"]) < 0 else str(row["b"]),
                "values": [
                    t("{value} ({low} to {high})", value=f"{v:.3f}", low=f"{low:.3f}", high=f"{high:.3f}")
                    for v, low, high in zip(row["coefficients"], row["low"], row["high"], strict=True)
                ],
                "residual": fine_percent(row.get("residual")),
                "tensors": count(row.get("tensors")),
            }
            for row in found.get("layers") or ()
        ],
    }


def _sentence(text: str | None) -> str:
    """A text of the comparison with its full stop."""
    told = tell(text, 2000)
    return told if not told or told.endswith((".", "。")) else t("{text}.", text=told)


def _name_parent(model: Json) -> str:
    """``A``, or the parent's number and the last part of its name."""
    if model["model"] == "a":
        return "A"
    last = clean(str(model.get("id") or "").rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1], 60)
    return f"{clean(model['model'], 8).upper()} {last}".rstrip()


def _arrange_given(found: Json | None) -> dict[str, Any] | None:
    if not found:
        return None
    return {
        "model": clean(found.get("model") or "", 200),
        "answered": not found.get("absent"),
        "text": _sentence(found.get("absent") or found.get("text")),
        "values": [
            (clean(str(name), 60).replace("_", " "), _show(value))
            for name, value in (found.get("values") or {}).items()
        ],
    }


def _show(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return clean(str(value), 60)
    return percent(value) if isinstance(value, float) and 0 < value < 1 else number(value, 3)
