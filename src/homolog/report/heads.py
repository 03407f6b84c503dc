"""The attention heads of B, arranged: how many are heads of A, a grid of which is which where they moved, and a table by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from homolog.report.format import count, number
from homolog.report.language import t
from homolog.report.words import tell

__all__ = ["arrange_heads"]

Json = Mapping[str, Any]

_HEADS, _LAYERS = 64, 128
"""Rows and columns of the grid, at most."""


def arrange_heads(layers: Sequence[Json]) -> dict[str, Any] | None:
    """Of the layers of a comparison; ``None`` where no heads were looked up."""
    rows = [(int(layer["b"]), layer["heads"]) for layer in layers if layer.get("heads")]
    known = [(layer, heads) for layer, heads in rows if not heads.get("absent")]
    absent = list(dict.fromkeys(tell(heads["absent"]) for _, heads in rows if heads.get("absent")))
    if not any(heads["a"] for _, heads in known) and not absent:
        return None
    moved = [layer for layer, heads in known if heads.get("order") == "permuted"]
    total, carried = (sum(int(heads[key]) for _, heads in known) for key in ("b", "carried"))
    values = {
        kind: sum(heads.get("values") == kind for _, heads in known if heads["a"]) for kind in ("mixed", "permuted")
    }
    missing = sum(int(heads["missing"]) for _, heads in known)
    quiet = carried == total and not moved and not missing
    strange = any(heads["a"] and (heads["unrecognised"] or heads["missing"]) for _, heads in known)
    return {
        "of": count(total),
        "n": count(carried),
        "all": quiet,
        "moved": count(len(moved)) if moved else "",
        "mixed": count(values["mixed"]) if values["mixed"] else "",
        "turned": count(values["permuted"]) if values["permuted"] else "",
        "missing": count(missing) if missing else "",
        "grid": _grid(known) if moved or strange else None,
        "absent": absent[:3],
        "table": [_row(layer, heads) for layer, heads in known],
    }


def _grid(known: Sequence[tuple[int, Json]]) -> dict[str, Any] | None:
    """Heads × layers of B, each with the number of the head of A; ``None`` where there are too many to be drawn."""
    most = max((len(heads["sources"]) for _, heads in known), default=0)
    if not 0 < most <= _HEADS or len(known) > _LAYERS:
        return None
    return {
        "layers": [layer for layer, _ in known],
        "rows": [
            {"head": head, "cells": [_cell(heads["sources"], head) for _, heads in known]} for head in range(most)
        ],
        "strange": any(source is None for _, heads in known for source in heads["sources"]),
    }


def _cell(sources: Sequence[int | None], head: int) -> dict[str, str]:
    if head >= len(sources):
        return {"text": "", "state": "none"}
    source = sources[head]
    if source is None:
        return {"text": "–", "state": "new"}
    return {"text": str(source), "state": "frozen" if source == head else "moved"}


def _row(layer: int, heads: Json) -> dict[str, Any]:
    counts = [count(heads[key]) for key in ("b", "a", "carried", "unrecognised", "copied", "missing")]
    orders = {"kept": t("kept"), "permuted": t("reordered")}
    kinds = {"kept": t("kept"), "permuted": t("reordered"), "mixed": t("mixed")}
    return {
        "layer": layer,
        "counts": counts,
        "likeness": "–" if heads.get("likeness") is None else number(heads["likeness"]),
        "order": orders.get(str(heads.get("order")), "–"),
        "values": kinds.get(str(heads.get("values")), "–"),
    }
