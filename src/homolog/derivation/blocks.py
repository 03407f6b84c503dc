"""FFN units of whole models, each at its index: what the map of units, experts and tensors is drawn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from homolog.align.body import read_norm
from homolog.align.canonical import Units, group_equal_gates, merge_group
from homolog.checkpoint.base import Array, Checkpoint
from homolog.roles.read import read_units
from homolog.roles.role import Anatomy, Role, Space

__all__ = ["Place", "WholeBlock", "list_places", "read_block"]

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where an FFN stands in its model."""

    layer: int
    expert: int
    """-1 for a dense FFN and for a shared expert."""
    shared: bool

    @property
    def name(self) -> str:
        """In words: ``layer 3``, ``layer 3 expert 5``, ``layer 3 shared expert``."""
        tail = " shared expert" if self.shared else f" expert {self.expert}" if self.expert >= 0 else ""
        return f"layer {self.layer}{tail}"


@dataclass(frozen=True, slots=True)
class WholeBlock:
    """All units of one FFN. Units with one gate are merged; ``member_of`` says into which row of ``units`` a unit went."""

    place: Place
    units: Units
    """(m, d): merged units; norm gains folded in."""
    member_of: Indices
    """(n,): for every unit of the file its row in ``units``, -1 for one that reads or writes nothing."""

    def __len__(self) -> int:
        return len(self.member_of)

    @property
    def split(self) -> int:
        """How many units share the gate of another."""
        return int((self.member_of >= 0).sum()) - len(self.units)


def list_places(anatomy: Anatomy) -> dict[Place, Role]:
    """The FFNs of a model that can be read whole, each by the role of its up matrix, in order."""
    return {
        Place(role.layer, role.expert, role.shared): role
        for role in sorted(anatomy.views)
        if role.kind == "ffn.up" and role.part == "weight" and replace(role, kind="ffn.down") in anatomy.views
    }


def read_block(checkpoint: Checkpoint, anatomy: Anatomy, role: Role) -> WholeBlock:
    """The FFN with the up matrix ``role``. Raises CheckpointError where the file cannot be read."""
    gate = anatomy.views.get(replace(role, kind="ffn.gate"))
    views = [view for view in (gate, anatomy.views[role]) if view is not None]
    reads = [read_units(checkpoint, view, Space.FFN) for view in views]
    writes = read_units(checkpoint, anatomy.views[replace(role, kind="ffn.down")], Space.FFN)
    units = read_norm(checkpoint, anatomy, role.layer).fold(reads, writes)
    merged, member_of = _merge(units)
    return WholeBlock(Place(role.layer, role.expert, role.shared), merged, member_of)


def _merge(units: Units) -> tuple[Units, Indices]:
    alive = np.flatnonzero(np.logical_and.reduce([_living(part) for part in units.parts]))
    known = units.take(alive)
    groups = group_equal_gates(known.gate)
    leaders = np.arange(len(known))
    for group in groups:
        leaders[group] = group.min()
    kept = np.unique(leaders)
    parts = [part[kept].copy() for part in known.parts]
    for group in groups:
        row = int(np.searchsorted(kept, group.min()))
        for part, merged in zip(parts, merge_group(known, group).parts, strict=True):
            part[row] = merged[0]
    member_of = np.full(len(units), -1, dtype=np.intp)
    member_of[alive] = np.searchsorted(kept, leaders)
    return Units(parts[0], parts[1] if len(parts) == 3 else None, parts[-1]), member_of


def _living(rows: Array) -> npt.NDArray[np.bool_]:
    size = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return np.asarray(np.isfinite(size) & (size > 1e-20))


def in_layers(places: Sequence[Place], layer: int) -> Iterator[Place]:
    """The places in one layer."""
    return (place for place in places if place.layer == layer)
