"""The map of whole models: units, experts, token rows and tensors of B, each with what it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from homolog.checkpoint.base import Checkpoint
from homolog.derivation.blocks import Place, list_places
from homolog.derivation.heads import LayerHeads
from homolog.derivation.layers import LayerOrigin
from homolog.derivation.stream import Stream
from homolog.derivation.tensors import Tensors, sum_up_tensors
from homolog.derivation.units import BlockOrigin
from homolog.derivation.vocabulary import VocabularyMap, join_tokens, map_vocabulary
from homolog.derivation.whole import Wholes, join_wholes
from homolog.roles.read import count_units
from homolog.roles.role import Anatomy, Space
from homolog.sketch.token_table import vocabularies_of

__all__ = ["LayerUnits", "ModelMap", "draw_map"]

_MOST_ROWS = 1024
"""Experts that the document lists, of each model."""

_SAME_EXPERT = 0.5


@dataclass(frozen=True, slots=True)
class LayerUnits:
    """The FFN units of one layer of B, all its experts together."""

    layer: int
    b: int
    a: int
    """Of the layer that they came from; 0 if none is known."""
    carried: int
    new: int
    copied: int
    """Carried units whose partner another unit of the layer has already."""
    split: int
    pruned: int
    """Units of A's layer that no unit of B's carries."""
    order: str

    @property
    def widened(self) -> int:
        """By how many units B's layer has more than A's."""
        return max(0, self.b - self.a) if self.a else 0

    def to_json(self) -> dict[str, Any]:
        """As the document has it, under ``layers[].units``."""
        return {
            "b": self.b,
            "a": self.a,
            "carried": self.carried,
            "new": self.new,
            "copied": self.copied,
            "split": self.split,
            "pruned": self.pruned,
            "widened": self.widened,
            "order": self.order,
        }


@dataclass(frozen=True, slots=True)
class ModelMap:
    """Everything that is drawn from whole tensors, or why it is not there."""

    units: Mapping[int, LayerUnits] = field(default_factory=dict)
    origins: Mapping[Place, BlockOrigin] = field(default_factory=dict)
    mixtures: bool = False
    """Whether one of the two has experts."""
    vocabulary: VocabularyMap = field(default_factory=VocabularyMap)
    tensors: Tensors = field(default_factory=Tensors)
    wholes: Wholes | None = None
    absent: str | None = None

    @classmethod
    def missing(cls, reason: str) -> ModelMap:
        """No map, with the reason."""
        return cls(vocabulary=VocabularyMap(absent=reason), tensors=Tensors(absent=reason), absent=reason)

    @property
    def heads(self) -> Mapping[int, LayerHeads]:
        """The attention heads of every layer of B that were looked up."""
        return {} if self.wholes is None else self.wholes.heads

    @property
    def experts_permuted(self) -> bool:
        """Whether experts of one mixture stand at other indices in the other."""
        moved = [place.expert != main.expert for place, main in _main_experts(self.origins)]
        return bool(moved) and sum(moved) > len(moved) / 2

    def to_json(self) -> dict[str, Any]:
        """The keys that it adds to ``derivation``."""
        return {
            "experts": self._experts(),
            "vocabulary": self.vocabulary.to_json(),
            "tensors": self.tensors.to_json(),
            "low_rank": self.tensors.ranks_to_json(),
        }

    def _experts(self) -> dict[str, Any]:
        absent = self.absent or (None if self.mixtures else "neither model is a mixture of experts")
        if absent is None and not self.origins:
            absent = "no layer of B has a source in A"
        if absent:
            return {"rows": [], "from_a": [], "permuted": False, "left_out": 0, "absent": absent}
        rows = [_origin_to_json(origin) for origin in self.origins.values()]
        back = list(_list_targets(self.origins))
        return {
            "rows": rows[:_MOST_ROWS],
            "from_a": back[:_MOST_ROWS],
            "permuted": self.experts_permuted,
            "left_out": max(0, len(rows) - _MOST_ROWS) + max(0, len(back) - _MOST_ROWS),
            "absent": None,
        }


def draw_map(
    models: tuple[Checkpoint, Checkpoint],
    anatomies: tuple[Anatomy, Anatomy],
    origins: Sequence[LayerOrigin],
    stream: Stream,
) -> ModelMap:
    """The map of two related models, given the layers' origins and how the residual streams meet.

    Reads every tensor of both, layer by layer. Raises CheckpointError where a file cannot be read, and what reading over a network raises.
    """
    heights = [anatomy.dims.vocab for anatomy in anatomies]
    joined = join_tokens(*vocabularies_of(*models), *heights)
    layers = {origin.b: origin.a for origin in origins}
    rows = None if joined.absent else (joined.a, joined.b)
    wholes = join_wholes(models, anatomies, stream, layers, rows)
    compared = {origin.b for origin in origins if origin.units}
    vocabulary = map_vocabulary(models, anatomies, joined, stream.frame)
    if stream.channels is None:
        tensors = Tensors(
            absent="the residual stream of B is in another basis: numbers of tensors have no counterparts"
        )
    else:
        tensors = sum_up_tensors(wholes.pairs())
    return ModelMap(
        units={units.layer: units for units in _count_units(wholes, compared)},
        origins=wholes.origins,
        mixtures=any(anatomy.dims.experts for anatomy in anatomies),
        vocabulary=vocabulary,
        tensors=tensors,
        wholes=wholes,
    )


def _count_units(wholes: Wholes, compared: set[int]) -> Iterator[LayerUnits]:
    sizes = [_sizes(anatomy) for anatomy in wholes.anatomies]
    for layer in sorted(sizes[1]):
        source = wholes.layers.get(layer)
        blocks = [origin for place, origin in wholes.origins.items() if place.layer == layer]
        if source is None or not blocks:
            if layer in compared and source is None:
                yield LayerUnits(layer, sizes[1][layer], 0, 0, sizes[1][layer], 0, 0, 0, "none")
            continue
        partners = [
            (origin.sources[block], unit)
            for origin in blocks
            for block, unit in zip(origin.block.tolist(), origin.unit.tolist(), strict=True)
            if block >= 0
        ]
        total = sum(map(len, blocks))
        orders = {origin.order for origin in blocks} - {"none"}
        yield LayerUnits(
            layer=layer,
            b=total,
            a=sizes[0].get(source, 0),
            carried=len(partners),
            new=total - len(partners),
            copied=len(partners) - len(set(partners)),
            split=sum(origin.split for origin in blocks),
            pruned=max(0, sizes[0].get(source, 0) - len(set(partners))),
            order="none" if not orders else "permuted" if "permuted" in orders else "kept",
        )


def _sizes(anatomy: Anatomy) -> dict[int, int]:
    """Units of every layer that has an FFN."""
    sizes: dict[int, int] = {}
    for place, role in list_places(anatomy).items():
        sizes[place.layer] = sizes.get(place.layer, 0) + count_units(anatomy.views[role], Space.FFN)
    return sizes


def _main_experts(origins: Mapping[Place, BlockOrigin]) -> Iterator[tuple[Place, Place]]:
    """Routed experts with the routed expert that most of their units came from."""
    for place, origin in origins.items():
        found = origin.shares()
        if place.expert >= 0 and found and found[0][0].expert >= 0 and found[0][1] >= _SAME_EXPERT * len(origin):
            yield place, found[0][0]


def _place_to_json(place: Place) -> dict[str, Any]:
    return {"layer": place.layer, "expert": place.expert, "shared": place.shared}


def _origin_to_json(origin: BlockOrigin) -> dict[str, Any]:
    n = len(origin)
    sizes = dict(zip(origin.sources, origin.sizes, strict=True))
    return {
        **_place_to_json(origin.place),
        "units": n,
        "new": n - origin.carried,
        "carried": origin.carried,
        "copied": origin.copied,
        "order": origin.order,
        "sources": [
            {
                "model": "a",
                **_place_to_json(source),
                "units": count,
                "of": sizes[source],
                "share": count / n if n else 0.0,
                "covers": len(np.unique(origin.unit[origin.block == origin.sources.index(source)])) / sizes[source],
            }
            for source, count in origin.shares()
        ],
    }


def _list_targets(origins: Mapping[Place, BlockOrigin]) -> Iterator[dict[str, Any]]:
    """FFN of A by FFN of A: how many of its units stand in which FFN of B."""
    went: dict[Place, dict[Place, set[int]]] = {}
    sizes: dict[Place, int] = {}
    for place, origin in origins.items():
        sizes |= dict(zip(origin.sources, origin.sizes, strict=True))
        for block, unit in zip(origin.block.tolist(), origin.unit.tolist(), strict=True):
            if block >= 0:
                went.setdefault(origin.sources[block], {}).setdefault(place, set()).add(unit)
    for source in sorted(sizes):
        targets = went.get(source, {})
        n = sizes[source]
        yield {
            **_place_to_json(source),
            "units": n,
            "found": len(set().union(*targets.values())),
            "targets": [
                {**_place_to_json(place), "units": len(units), "share": len(units) / n if n else 0.0}
                for place, units in sorted(targets.items(), key=lambda item: (-len(item[1]), item[0]))
            ],
        }
