"""The layer map, laid out: A's layers in one column, B's in another, and a ribbon for what came from where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from homolog.report.format import count, percent
from homolog.report.language import t
from homolog.report.layers import LayerRow, read_layers, read_ribbons

__all__ = ["arrange_columns"]

Json = Mapping[str, Any]

_ROWS = ((8, 36), (16, 26), (32, 20), (48, 16))
"""Pixels of a row, by how many layers the deeper model has at most."""

_LOWEST, _LOWEST_EMPTY, _EMPTY = 12.5, 3.0, 220.0
"""Pixels of a row of still deeper models; and where nothing was traced, and how high such a map may be at most."""

_TALL = 700.0
"""Pixels from which on a map is made smaller in print, to stay on one page."""

_NUMBERED = 11.0
"""Pixels of a row from which every layer carries its number; else every fifth."""

_GAP = 0.16
"""Share of a row that stays empty beneath it."""


@dataclass(frozen=True, slots=True)
class _Column:
    """Rows of one model, evenly over the height of the map."""

    layers: int
    height: float

    @property
    def row(self) -> float:
        return self.height / self.layers

    @property
    def block(self) -> float:
        return self.row * (1 - _GAP)

    def place(self, layer: int) -> dict[str, Any]:
        """Where a layer stands, in pixels, and the number that it shows."""
        every = 1 if self.row >= _NUMBERED else 5
        return {
            "layer": layer,
            "y": f"{layer * self.row:.2f}",
            "h": f"{self.block:.2f}",
            "number": str(layer) if layer % every == 0 or layer == self.layers - 1 else "",
        }


def arrange_columns(comparison: Json) -> dict[str, Any] | None:
    """Both columns with their ribbons, in pixels of height; ``None`` if the comparison traced no layers."""
    rows, ribbons = read_layers(comparison), read_ribbons(comparison)
    if not rows:
        return None
    dims = comparison["a"].get("dims") or {}
    of_a = max([int(dims.get("layers") or 0), 1, *(ribbon.a + 1 for ribbon in ribbons)])
    height = _height(max(of_a, len(rows)), traced=any(row.source for row in rows))
    a, b = _Column(of_a, height), _Column(len(rows), height)
    used = {ribbon.a for ribbon in ribbons}
    units = {
        int(entry["b"]): entry.get("units") or {} for entry in (comparison.get("derivation") or {}).get("layers") or ()
    }
    position = {row.layer: place for place, row in enumerate(rows)}
    return {
        "height": f"{height:.0f}",
        "dense": b.row < 20,
        "tall": height > _TALL,
        "a": [a.place(layer) | {"used": layer in used} for layer in range(of_a)],
        "b": [
            b.place(place)
            | {
                "frozen": row.frozen,
                "traced": bool(row.source),
                "says": row.words,
                "share": f"{100 * _share(row, units.get(row.layer, {})):.1f}",
                "percent": percent(_share(row, units.get(row.layer, {}))),
                "source": row.source,
                "from": t(" and ").join(str(ribbon.a) for ribbon in ribbons if ribbon.b == row.layer),
                "extras": _extras(row.frozen, units.get(row.layer, {})),
                "units": _count_units(units.get(row.layer, {})),
            }
            for place, row in enumerate(rows)
        ],
        "ribbons": [
            {
                "path": _draw_ribbon(a, b, ribbon.a, position[ribbon.b]),
                "opacity": f"{0.14 + 0.34 * ribbon.share:.2f}",
                "says": t(
                    "layer {b} of B: {share} from layer {a} of A", b=ribbon.b, a=ribbon.a, share=percent(ribbon.share)
                ),
            }
            for ribbon in ribbons
            if ribbon.b in position
        ],
        "of_a": of_a,
        "of_b": len(rows),
        "traced": sum(bool(row.source) for row in rows),
        "frozen": sum(row.frozen for row in rows),
        "unused": [layer for layer in range(of_a) if layer not in used] if used else [],
        "counted": any(units.values()),
    }


def _share(row: LayerRow, units: Json) -> float:
    """Of the layer's units that have a source: over all its FFNs where they were counted, else over those that were sampled."""
    return int(units["carried"]) / int(units["b"]) if row.source and units.get("b") else row.share


def _height(layers: int, *, traced: bool) -> float:
    row = next((pixels for most, pixels in _ROWS if layers <= most), _LOWEST)
    if traced:
        return row * layers
    return max(_LOWEST_EMPTY * layers, min(_EMPTY, row * layers))


def _draw_ribbon(a: _Column, b: _Column, source: int, place: int) -> str:
    """A band across a box 100 wide: from the block of A's layer to that of B's."""
    top, bottom = source * a.row, source * a.row + a.block
    to, low = place * b.row, place * b.row + b.block
    return f"M0 {top:.2f}C45 {top:.2f} 55 {to:.2f} 100 {to:.2f}V{low:.2f}C55 {low:.2f} 45 {bottom:.2f} 0 {bottom:.2f}Z"


def _extras(frozen: bool, units: Json) -> list[str]:
    """What else is to be said of a layer, in a few words each."""
    said = [t("bit-identical")] if frozen else []
    if units.get("new"):
        said.append(t("{n} new", n=count(units["new"])))
    if units.get("copied"):
        said.append(t("{n} copies", n=count(units["copied"])))
    if units.get("split"):
        said.append(t("{n} split", n=count(units["split"])))
    if units.get("pruned"):
        said.append(t("{n} pruned", n=count(units["pruned"])))
    if units.get("order") == "permuted":
        said.append(t("reordered"))
    return said


_COUNTS: Sequence[str] = ("b", "a", "carried", "new", "copied", "split", "pruned")


def _count_units(units: Json) -> list[str]:
    """The counts for the table, dashes where there are none."""
    return [count(units.get(key)) if units else "–" for key in _COUNTS]
