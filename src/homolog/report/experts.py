"""Where the experts of B came from, arranged: a grid where A is dense, matrices layer by layer where A has experts too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from homolog.report.charts.matrix import HEAT_STEPS
from homolog.report.format import count, percent
from homolog.report.language import t

__all__ = ["arrange_experts"]

Json = Mapping[str, Any]

_WIDE = 24
"""Experts of a layer up to which a cell of the grid shows its number."""

_MATRICES = 24
"""Layers that are drawn; the others are in the JSON and, as far as they fit, in the table."""

_ROWS = 300
"""Rows of the table."""

_SIDE = 132
"""Pixels of the longer side of a matrix."""


@dataclass(frozen=True, slots=True, order=True)
class _Block:
    """An FFN of a layer: shared ones first, then experts by number; a dense one is neither."""

    layer: int
    is_routed: bool
    expert: int

    @classmethod
    def of(cls, row: Json) -> _Block:
        return cls(int(row["layer"]), not row.get("shared") and int(row["expert"]) >= 0, int(row["expert"]))

    def name(self, *, shared: bool) -> str:
        if self.is_routed:
            return str(self.expert)
        return t("shared") if shared else t("dense")


def arrange_experts(found: Json | None) -> dict[str, Any] | None:
    """The experts of B with their sources in A, and of A with what they went into; ``None`` where there are none."""
    rows = (found or {}).get("rows") or ()
    if not found or not rows:
        return None
    from_a = found.get("from_a") or ()
    mixed = any(_Block.of(row).is_routed for row in from_a) or any(
        int(source["expert"]) >= 0 and not source.get("shared") for row in rows for source in row.get("sources") or ()
    )
    lost = [row for row in from_a if not row.get("found")]
    return {
        "grid": None if mixed else _grid(rows),
        "matrices": _matrices(rows, from_a) if mixed else [],
        "layers": len({int(row["layer"]) for row in rows}),
        "permuted": bool(found.get("permuted")),
        "steps": range(HEAT_STEPS),
        "table": [_table_row(row) for row in rows[:_ROWS]],
        "more": count(len(rows) - _ROWS + int(found.get("left_out") or 0)) if len(rows) > _ROWS else "",
        "from_a": [_of_a(row) for row in from_a[:_ROWS]],
        "lost": count(len(lost)) if lost else "",
    }


def _shade(share: float) -> int:
    return max(0, min(HEAT_STEPS - 1, round(share * (HEAT_STEPS - 1))))


def _share(row: Json) -> float:
    return min(1.0, sum(float(source["share"]) for source in row.get("sources") or ()))


def _grid(rows: Sequence[Json]) -> dict[str, Any]:
    """Layers of B × its experts, each with its share of units that come from A's FFN."""
    blocks = {_Block.of(row): row for row in rows}
    columns = sorted({(block.is_routed, block.expert) for block in blocks})
    named = {
        (block.is_routed, block.expert): block.name(shared=bool(row.get("shared"))) for block, row in blocks.items()
    }
    lines = []
    for layer in sorted({block.layer for block in blocks}):
        cells: list[dict[str, Any] | None] = []
        for routed, expert in columns:
            row = blocks.get(_Block(layer, routed, expert))
            if row is None:
                cells.append(None)
                continue
            share = _share(row)
            elsewhere = sorted({int(source["layer"]) for source in row.get("sources") or ()} - {layer})
            cells.append(
                {
                    "text": f"{100 * share:.0f}",
                    "shade": _shade(share),
                    "light": _shade(share) >= HEAT_STEPS // 2 + 1,
                    "says": _say_sources(row),
                    "elsewhere": ", ".join(map(str, elsewhere)),
                }
            )
        lines.append({"layer": layer, "cells": cells})
    return {"columns": [named[key] for key in columns], "rows": lines, "compact": len(columns) > _WIDE}


def _matrices(rows: Sequence[Json], from_a: Sequence[Json]) -> list[dict[str, Any]]:
    """For each layer of B its experts × the experts of A's layers that they draw on."""
    by_layer: dict[int, list[Json]] = {}
    for row in rows:
        by_layer.setdefault(int(row["layer"]), []).append(row)
    known = {_Block.of(row) for row in from_a}
    drawn = []
    for layer, of_layer in sorted(by_layer.items())[:_MATRICES]:
        sources = {_Block.of(source) for row in of_layer for source in row.get("sources") or ()}
        layers = {source.layer for source in sources} or {layer}
        columns = {block: i for i, block in enumerate(sorted(sources | {b for b in known if b.layer in layers}))}
        side = _SIDE / max(len(columns), len(of_layer), 1)
        size = min(side, 16.0)
        cells = [
            {
                "x": f"{columns[_Block.of(source)] * size:.2f}",
                "y": f"{place * size:.2f}",
                "opacity": f"{max(0.12, float(source['share'])):.2f}",
            }
            for place, row in enumerate(sorted(of_layer, key=_Block.of))
            for source in row.get("sources") or ()
        ]
        drawn.append(
            {
                "layer": layer,
                "from": ", ".join(str(source) for source in sorted(layers)),
                "width": f"{size * len(columns):.2f}",
                "height": f"{size * len(of_layer):.2f}",
                "cell": f"{size * 0.94:.2f}",
                "cells": cells,
                "rows": len(of_layer),
                "columns": len(columns),
            }
        )
    return drawn


def _say_sources(row: Json) -> str:
    """Which FFNs of A an expert of B draws on, in words."""
    said = [
        t(
            "{n} of {of} units of {block}",
            n=count(source["units"]),
            of=count(source["of"]),
            block=_say_block(source, "A"),
        )
        for source in row.get("sources") or ()
    ]
    return t("; ").join(said) if said else t("no source found")


def _say_block(block: Json, model: str) -> str:
    layer, expert = int(block["layer"]), int(block["expert"])
    if block.get("shared"):
        if expert < 0:
            return t("the shared expert of layer {n} of {model}", n=layer, model=model)
        return t("shared expert {expert} of layer {n} of {model}", expert=expert, n=layer, model=model)
    if expert < 0:
        return t("the FFN of layer {n} of {model}", n=layer, model=model)
    return t("expert {expert} of layer {n} of {model}", expert=expert, n=layer, model=model)


def _table_row(row: Json) -> dict[str, Any]:
    order = {"kept": t("kept"), "permuted": t("reordered")}.get(str(row.get("order")), "–")
    return {
        "layer": int(row["layer"]),
        "name": _Block.of(row).name(shared=bool(row.get("shared"))),
        "units": count(row.get("units")),
        "carried": count(row.get("carried")),
        "new": count(row.get("new")),
        "order": order,
        "sources": _say_sources(row),
    }


def _of_a(row: Json) -> dict[str, Any]:
    targets = row.get("targets") or ()
    return {
        "block": _say_block(row, "A"),
        "units": count(row.get("units")),
        "found": count(row.get("found")),
        "share": percent(float(row.get("found") or 0) / max(int(row.get("units") or 0), 1)),
        "targets": t("; ").join(_say_block(target, "B") for target in targets[:12]) if targets else t("none found"),
        "more": max(0, len(targets) - 12),
    }
