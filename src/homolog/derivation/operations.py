"""What was done: operations that turn A into B, read off the map, and the one-way facts that give a direction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from homolog.derivation.heads import LayerHeads
from homolog.derivation.layers import LayerOrigin
from homolog.derivation.merges import Merge
from homolog.derivation.tensors import Tensors
from homolog.probes.finding import Finding
from homolog.probes.pair import Pair
from homolog.sketch.stream import SEEN, lattice_precision

__all__ = ["Operation", "add_low_rank", "add_merge", "read_heads", "read_operations"]

_MATCHED, _ALIKE = 0.8, 0.6
"""Share of units with a mutual partner, and median |cosine| of the partners, from which a block counts as relabelled.

Independent blocks of the zoo reach 0.54 and 0.33 at 64 channels; at more channels cosines are smaller still.
"""

_KEPT = 0.01
"""How far a sketch moves a row by keeping it in eight bits: steps of a 127th of the largest of some 96 numbers."""

_SOME = 0.25
"""Share of the layers in which heads have to be moved, mixed or missing for that to be an operation."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One step in the vocabulary of derivations, with what was seen of it."""

    kind: str
    detail: str


def read_operations(pair: Pair, origins: Sequence[LayerOrigin], ffn: Sequence[Finding]) -> tuple[Operation, ...]:
    """Operations on layers, FFN widths, experts and vocabulary, B in terms of A. The reading says nothing of which came first.

    ``ffn`` are the findings on FFN units.
    """
    a, b = pair.a.anatomy.dims, pair.b.anatomy.dims
    known = [origin for origin in origins if origin.a is not None]
    if not known:
        return _without_indices(ffn)
    found = []
    compared = [origin for origin in origins if origin.units]
    new = [origin.b for origin in compared if origin.a is None]
    sources = Counter(origin.a for origin in known)
    repeated = [layer for layer, count in sorted(sources.items(), key=str) if count > 1]
    unused = sorted(
        set(filter(pair.a.has_read, range(a.layers))) - {origin.a for origin in known if origin.a is not None}
    )
    if repeated:
        found.append(Operation("layers_duplicated", f"{_layers(repeated)} of A stand more than once in B"))
    if new:
        found.append(Operation("layers_added", f"{_layers(new)} of B are recognised in no layer of A"))
    if unused and not new:
        found.append(Operation("layers_dropped", f"{_layers(unused)} of A are recognised in no layer of B"))
    if b.experts and not a.experts:
        found.append(Operation("upcycled", f"FFNs of A stand among the {b.experts} experts of B's layers"))
    elif a.ffn and b.ffn > a.ffn:
        found.append(Operation("ffn_widened", f"{a.ffn} units in A, {b.ffn} in B"))
    elif a.ffn and b.ffn < a.ffn:
        found.append(Operation("ffn_pruned", f"{a.ffn} units in A, {b.ffn} in B"))
    if b.width < a.width:
        found.append(Operation("width_pruned", f"{a.width} residual channels in A, {b.width} in B"))
    if a.vocab != b.vocab:
        found.append(Operation("vocabulary_changed", f"{a.vocab} rows in A, {b.vocab} in B"))
    frozen = [origin.b for origin in known if origin.frozen]
    if frozen and len(frozen) < len(compared):
        found.append(
            Operation(
                "frozen_core", f"the sampled FFN rows of {_layers(frozen)} of B are bit-identical to their source"
            )
        )
    found += _requantised(pair)
    if len(frozen) < len(known) and not _explained_by_rounding(pair, known):
        found.append(Operation("continued_training", "numbers differ in layers that were recognised"))
    return tuple(found)


def _requantised(pair: Pair) -> list[Operation]:
    a, b = pair.a.lattice, pair.b.lattice
    if a == b:
        return []
    if not a:
        return [Operation("quantised", f"the FFNs of B {_kept(b)}, those of A are not quantised")]
    if not b:
        return [Operation("dequantised", f"the FFNs of A {_kept(a)}, those of B are not quantised")]
    return [Operation("requantised", f"the FFNs of A {_kept(a)}, those of B {_kept(b)}")]


def _kept(lattice: str) -> str:
    if lattice.endswith(SEEN):
        return f"lie on the levels of {lattice.removesuffix(SEEN)}, though stored in full precision"
    return f"are stored as {lattice}"


def _explained_by_rounding(pair: Pair, known: Sequence[LayerOrigin]) -> bool:
    """Whether the FFN rows of most layers differ by no more than their quantisation rounds."""
    rounding = sum(_reach(lattice_precision(sketch.lattice)) for sketch in (pair.a, pair.b))
    if not rounding:
        return False
    rounding += sum(_KEPT for sketch in (pair.a, pair.b) if sketch.frame)
    blocks = {(block.layer, block.expert, block.shared): block.up for block in pair.a.units if not block.flaw}
    origins = {origin.b: origin.a for origin in known if origin.a is not None}
    moved = []
    for block in pair.b.units:
        source = blocks.get((origins.get(block.layer, -1), block.expert, block.shared))
        if source is not None and source.shape == block.up.shape and not block.flaw:
            moved.append(float(np.linalg.norm(block.up - source) / max(float(np.linalg.norm(source)), 1e-30)))
    return bool(moved) and float(np.median(moved)) <= rounding


def _reach(precision: float) -> float:
    """How far a quantiser may move numbers: at four bits and fewer many make up for one error with another, and move them further."""
    return 1.5 * precision if precision >= 2.0**-3 else precision


def add_low_rank(steps: Sequence[Operation], tensors: Tensors) -> tuple[Operation, ...]:
    """The same steps with a low-rank update among them, where most of the matrices that changed differ by one.

    It stands in the place of training on where it explains all the matrices that changed.
    """
    if tensors.rank is None:
        return tuple(steps)
    layers = sorted({found.role.layer for found in tensors.low_rank if found.role.layer >= 0})
    ranks = sorted({found.rank for found in tensors.low_rank})
    shown = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}, most often {tensors.rank}"
    detail = f"{len(tensors.low_rank)} of {tensors.tested} matrices that changed, in {_layers(layers)}, differ by matrices of {shown}"
    explained = len(tensors.low_rank) == tensors.tested
    kept = [step for step in steps if not (explained and step.kind == "continued_training")]
    return (*kept, Operation("low_rank_update", detail))


def add_merge(steps: Sequence[Operation], merge: Merge | None) -> tuple[Operation, ...]:
    """The same steps, with a merge in the place of training on where B is a plain combination of given parents."""
    if merge is None or not (merge.plain or merge.along_arcs):
        return tuple(steps)
    return (*(step for step in steps if step.kind != "continued_training"), Operation("merged", merge.text))


def read_heads(heads: Mapping[int, LayerHeads]) -> tuple[Operation, ...]:
    """What was done to the attention heads, where they were looked up."""
    known = [found for found in heads.values() if found.found is not None]
    return tuple(_name_head_changes(known)) if known else ()


def _name_head_changes(known: Sequence[LayerHeads]) -> Iterator[Operation]:
    def some(layers: Sequence[int], of: Sequence[LayerHeads]) -> bool:
        return bool(layers) and len(layers) >= _SOME * len(of)

    ordered = [found for found in known if found.order != "none"]
    moved = [found.layer for found in ordered if found.order == "permuted"]
    if some(moved, ordered):
        yield Operation(
            "heads_permuted", f"the attention heads of {_layers(moved)} of B stand in another order than A's"
        )
    fitted = [found for found in known if found.values != "none"]
    mixed = [found.layer for found in fitted if found.values == "mixed"]
    if some(mixed, fitted):
        yield Operation(
            "values_mixed", f"the value dimensions inside the heads of {_layers(mixed)} of B are mixtures of A's"
        )
    turned = [found.layer for found in fitted if found.values == "permuted"]
    if some(turned, fitted):
        detail = f"the value dimensions inside the heads of {_layers(turned)} of B stand in another order than A's"
        yield Operation("values_permuted", detail)
    fewer = [found.layer for found in known if found.b < found.a]
    if some(fewer, known):
        lost = sum(found.a - found.b for found in known if found.b < found.a)
        yield Operation("heads_pruned", f"B has {lost} attention heads fewer than A, in {_layers(fewer)}")
    more = [found.layer for found in known if found.b > found.a]
    if some(more, known):
        added = sum(found.b - found.a for found in known if found.b > found.a)
        yield Operation("heads_added", f"B has {added} attention heads more than A, in {_layers(more)}")


def _without_indices(ffn: Sequence[Finding]) -> tuple[Operation, ...]:
    """Units that have close partners, but not at their own index, were relabelled."""
    for finding in ffn:
        close = [
            g
            for g in finding.groups
            if g.frame != "none" and g.matched >= _MATCHED * g.of and g.median_similarity >= _ALIKE
        ]
        if close and 2 * len(close) >= len(finding.groups):
            detail = f"in {len(close)} of {len(finding.groups)} FFNs nearly every unit of B has a close partner in A, at another index"
            return (Operation("units_permuted", detail),)
    return ()


def _layers(numbers: Sequence[int | None]) -> str:
    shown = ", ".join(str(number) for number in numbers[:12])
    more = f" and {len(numbers) - 12} more" if len(numbers) > 12 else ""
    return f"layer{'s' if len(numbers) > 1 else ''} {shown}{more}"
