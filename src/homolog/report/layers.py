"""The layer map: which layer of B holds what of which layer of A, as plain rows for the strip and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from homolog.report.format import percent
from homolog.report.language import t

__all__ = ["LayerRow", "Ribbon", "read_layers", "read_ribbons"]


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer of B."""

    layer: int
    share: float
    """Inherited from any source, at most 1."""
    source: str
    """``layer 3 of A``; several are joined; empty if the layer has no source."""
    frozen: bool

    @property
    def words(self) -> str:
        """What the strip says of this layer when it is pointed at."""
        if not self.source:
            return t("layer {n} of B: no source in A was found", n=self.layer)
        if self.frozen:
            return t(
                "layer {n} of B: {share} from {source}, bit-identical",
                n=self.layer,
                share=self.percent,
                source=self.source,
            )
        return t("layer {n} of B: {share} from {source}", n=self.layer, share=self.percent, source=self.source)

    @property
    def percent(self) -> str:
        """The share in words."""
        return percent(self.share)


@dataclass(frozen=True, slots=True)
class Ribbon:
    """A band from a layer of A (above) to a layer of B (below); positions are layer numbers."""

    a: int
    b: int
    share: float


def read_layers(comparison: Mapping[str, Any]) -> list[LayerRow]:
    """One row for every layer of B, in order; empty if the comparison traced no layers."""
    rows = []
    for entry in (comparison.get("derivation") or {}).get("layers") or []:
        sources = entry.get("sources") or []
        rows.append(
            LayerRow(
                layer=int(entry["b"]),
                share=min(1.0, sum(float(source["share"]) for source in sources)),
                source=t(" and ").join(
                    t("layer {n} of {model}", n=source["layer"], model=str(source["model"]).upper())
                    for source in sources
                ),
                frozen=bool(entry.get("frozen")),
            )
        )
    return sorted(rows, key=lambda row: row.layer)


def read_ribbons(comparison: Mapping[str, Any]) -> list[Ribbon]:
    """One band for every layer of A that a layer of B draws on."""
    return [
        Ribbon(a=int(source["layer"]), b=int(entry["b"]), share=float(source["share"]))
        for entry in (comparison.get("derivation") or {}).get("layers") or []
        for source in entry.get("sources") or []
        if source["model"] == "a"
    ]
