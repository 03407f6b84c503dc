"""Which layer of A each layer of B came from, and how much of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10, sqrt

from homolog.probes.ffn import usable_blocks
from homolog.probes.finding import Finding, GroupResult
from homolog.probes.pair import Pair

__all__ = ["Inherited", "LayerOrigin", "count_inherited", "map_layers"]

_SIGNIFICANT = -3.0
"""log10 p of one block, corrected over all blocks: below it a source is named."""


@dataclass(frozen=True, slots=True)
class LayerOrigin:
    """Where one layer of B came from."""

    b: int
    a: int | None
    """``None`` if no layer of A is recognised in it."""
    share: float
    """Share of the sampled units that kept their index (or, between FFNs of unequal width, their order)."""
    units: int
    """Sampled units of one FFN of this layer of B; 0 if it could not be compared."""
    frozen: bool
    """The sampled FFN rows are bit-identical to the source's."""


@dataclass(frozen=True, slots=True)
class Inherited:
    """How many of B's sampled FFN units are inherited, with a 95 % interval that treats layers, not units, as independent."""

    units: int
    inherited: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """Inherited units over sampled units."""
        return self.inherited / self.units


def map_layers(pair: Pair, findings: Sequence[Finding]) -> tuple[LayerOrigin, ...]:
    """For each layer of B that was read the layer of A that the FFN probe with the smallest p names as its source."""
    groups: dict[int, list[GroupResult]] = {}
    blocks = 0
    for finding in findings:
        blocks = max(blocks, finding.tests)
        for group in finding.groups:
            groups.setdefault(group.b_layer, []).append(group)
    frozen = _frozen_layers(pair)
    blocks_of_b = usable_blocks(pair.b)
    sampled = {block.name: len(block.up) for block in blocks_of_b}
    of_layer = {block.layer: len(block.up) for block in blocks_of_b}
    origins = []
    for layer in filter(pair.b.has_read, range(pair.b.anatomy.dims.layers)):
        best = min(groups.get(layer, []), key=lambda group: group.log10_p, default=None)
        if best is None or best.log10_p + log10(max(blocks, 1)) > _SIGNIFICANT:
            origins.append(LayerOrigin(layer, None, 0.0, of_layer[layer] if best else 0, False))
            continue
        units = sampled[
            best.group.partition(" ← ")[0]
        ]  # the experts of a layer may differ in width from its shared one
        share = best.statistic / units
        origins.append(LayerOrigin(layer, best.a_layer, share, units, (layer, best.a_layer) in frozen))
    return tuple(origins)


def count_inherited(origins: Sequence[LayerOrigin]) -> Inherited | None:
    """Inherited units over all layers that could be compared; ``None`` if none could."""
    compared = [origin for origin in origins if origin.units]
    units = sum(origin.units for origin in compared)
    if not units:
        return None
    inherited = sum(round(origin.share * origin.units) for origin in compared)
    share = inherited / units
    deviations = sum((origin.units / units * (origin.share - share)) ** 2 for origin in compared)
    n = len(compared)
    # Wilson over units where the layers agree, widened by how much they differ where they do not.
    z = 1.96
    between = z * sqrt(deviations * n / max(n - 1, 1))
    centre = (share + z * z / (2 * units)) / (1 + z * z / units)
    within = z * sqrt(share * (1 - share) / units + z * z / (4 * units * units)) / (1 + z * z / units)
    half = sqrt(within**2 + between**2)
    return Inherited(units, inherited, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


def _frozen_layers(pair: Pair) -> set[tuple[int, int]]:
    digests = {(block.layer, block.digest) for block in usable_blocks(pair.a)}
    return {
        (block.layer, layer)
        for block in usable_blocks(pair.b)
        for layer in range(pair.a.anatomy.dims.layers)
        if (layer, block.digest) in digests
    }
