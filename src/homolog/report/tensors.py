"""What became of each tensor, arranged: kinds by layers, a sign for what happened; and the ranks of what was added."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from homolog.report.format import clean, count, percent
from homolog.report.language import t

__all__ = ["SIGNS", "arrange_low_rank", "arrange_tensors", "share_out"]

Json = Mapping[str, Any]

SIGNS: Mapping[str, str] = {
    "frozen": "■",
    "near_frozen": "▣",
    "changed": "○",
    "replaced": "×",
    "new": "+",
    "mixed": "◧",
}
"""A sign for every state, so that colour adds nothing."""

_LAYERS = 128
"""Columns of a grid, at most."""


def share_out(parts: Sequence[tuple[str, int, str]]) -> list[dict[str, Any]]:
    """Parts of a whole for a bar and its legend: name, count and kind, without those that are empty."""
    total = sum(n for _, n, _ in parts)
    return [
        {"name": name, "n": n, "count": count(n), "kind": kind, "share": percent(n / total)}
        for name, n, kind in parts
        if n
    ]


def arrange_tensors(found: Json | None) -> dict[str, Any] | None:
    """Counts of all states, and a grid where not simply all of them changed."""
    if not found or not found.get("rows"):
        return None
    counted = {state: int(found.get(state) or 0) for state in ("frozen", "near_frozen", "changed", "replaced", "new")}
    words = {
        "frozen": t("bit-identical"),
        "near_frozen": t("nearly identical"),
        "changed": t("changed"),
        "replaced": t("replaced"),
        "new": t("new"),
    }
    uniform = sum(bool(n) for n in counted.values()) <= 1
    grid = None if uniform else _grid(found["rows"])
    return {
        "parts": share_out([(words[state], n, state) for state, n in counted.items()]),
        "signs": [(SIGNS[state], words[state]) for state, n in counted.items() if n]
        + ([(SIGNS["mixed"], t("some of each"))] if grid and grid["mixed"] else []),
        "grid": grid,
        "frozen_numbers": percent(found.get("frozen_numbers")) if found.get("frozen_numbers") else "",
        "bound": f"{100 * float(found.get('bound') or 0):g}",
    }


def _grid(rows: Sequence[Json]) -> dict[str, Any]:
    """Kinds × layers of B; of several tensors in one cell (experts) the state that all have, or that they differ."""
    cells: dict[tuple[str, int], Counter[str]] = {}
    kinds: dict[str, None] = {}
    for row in rows:
        name = clean(row["kind"], 60) + ("" if row.get("part", "weight") == "weight" else f" {clean(row['part'], 20)}")
        kinds.setdefault(name)
        cells.setdefault((name, _layer(row)), Counter())[str(row["state"])] += 1
    layers = sorted({layer for _, layer in cells if layer >= 0})[:_LAYERS]
    outside = [(name, counted) for (name, layer), counted in cells.items() if layer < 0]
    inside = [name for name in kinds if any((name, layer) in cells for layer in layers)]
    return {
        "layers": layers,
        "rows": [{"name": name, "cells": [_cell(cells.get((name, layer))) for layer in layers]} for name in inside],
        "outside": [{"name": name} | _cell(counted) for name, counted in outside],
        "mixed": any(len(counted) > 1 for counted in cells.values()),
    }


def _layer(row: Json) -> int:
    """-1 for what stands outside the layers."""
    layer = row.get("layer")
    return -1 if layer is None else int(layer)


def _cell(counted: Counter[str] | None) -> dict[str, str]:
    if not counted:
        return {"sign": "", "state": "none"}
    state = next(iter(counted)) if len(counted) == 1 else "mixed"
    return {"sign": SIGNS.get(state, "?"), "state": state if state in SIGNS else "none"}


def arrange_low_rank(found: Json | None) -> dict[str, Any] | None:
    """The ranks of differences of low rank, kinds by layers; ``None`` where none is of low rank."""
    matrices = (found or {}).get("matrices") or ()
    if not found or not matrices:
        return None
    ranks: dict[tuple[str, int], set[int]] = {}
    kinds: dict[str, None] = {}
    for matrix in matrices:
        kind = clean(matrix["kind"], 60)
        kinds.setdefault(kind)
        ranks.setdefault((kind, _layer(matrix)), set()).add(int(matrix["rank"]))
    layers = sorted({layer for _, layer in ranks})[:_LAYERS]
    return {
        "n": count(len(matrices)),
        "of": count(found.get("tested")),
        "rank": found.get("rank"),
        "layers": layers,
        "rows": [(kind, [_span(ranks.get((kind, layer))) for layer in layers]) for kind in kinds],
    }


def _span(ranks: set[int] | None) -> str:
    if not ranks:
        return ""
    return str(min(ranks)) if len(ranks) == 1 else f"{min(ranks)}–{max(ranks)}"
