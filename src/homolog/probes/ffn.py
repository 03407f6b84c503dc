"""FFN units: does B's unit i resemble A's unit i more often than any other?

Three probes. ``ffn.rows`` compares what units read from the residual stream, in the frame that the files are in. ``ffn.rows.aligned``
does so in frames that undo any rotation or permutation of the stream: that of the embeddings, and that of the FFN units themselves.
``ffn.profiles`` needs no frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from homolog.align.layers import BlockMap, map_by_cosine, map_by_profile
from homolog.align.matching import distinct_rows, normal_scores
from homolog.align.residual import Frame
from homolog.checkpoint.base import Array
from homolog.probes.bounds import log10_total
from homolog.probes.exchangeable import find_order, ordered_on_both_sides
from homolog.probes.finding import NOT_ALIGNED, Finding, GroupResult, Null
from homolog.probes.groups import group_of
from homolog.probes.indices import index_test, profile_test
from homolog.probes.pair import Pair
from homolog.roles.role import Space
from homolog.sketch.profile import unit_profile
from homolog.sketch.sketch import Sketch, UnitBlock

__all__ = ["Clones", "FfnResult", "probe_aligned_rows", "probe_profiles", "probe_rows", "usable_blocks"]

Clones = tuple[Mapping[str, str], Mapping[str, str]]
"""For A and for B what `find_clones` found."""

NULL = Null(
    "exchangeable-ffn-units",
    "At least one of the two models was trained without the other's weights. The units of its FFNs were initialised alike and "
    "trained by a rule that treats them alike, so which index a unit has is uniformly random, whatever data, tokenizer, recipe or "
    "configuration the two share.",
)

_ALIGNED = ("embedding", "body")
"""The frames of ``ffn.rows.aligned``, all of them planned whether they can be had or not."""


@dataclass(frozen=True, slots=True)
class FfnResult:
    """A finding and the label-free map of FFN blocks that it used."""

    finding: Finding
    blocks: BlockMap | None = None
    """Rows: blocks of B without a flaw; columns: blocks of A without a flaw."""

    def layers(self, pair: Pair) -> dict[int, int]:
        """For each layer of B the layer of A that its FFN resembles most; layer by layer where nothing was mapped."""
        if self.blocks is None:
            depth = min(pair.a.anatomy.dims.layers, pair.b.anatomy.dims.layers)
            return {layer: layer for layer in range(depth)}
        usable_a, usable_b = (usable_blocks(sketch) for sketch in (pair.a, pair.b))
        return {block.layer: usable_a[self.blocks.best(row)].layer for row, block in reversed([*enumerate(usable_b)])}

    def likeness(self) -> float:
        """How alike each block of B is to the block of A that it resembles most, on average; 0 without a map."""
        return (
            0.0 if self.blocks is None or not self.blocks.scores.size else float(self.blocks.scores.max(axis=1).mean())
        )


def usable_blocks(sketch: Sketch) -> list[UnitBlock]:
    """FFN blocks that can be compared, in reading order."""
    return [block for block in sketch.units if block.flaw is None]


@dataclass(frozen=True, slots=True)
class _Result:
    group: GroupResult
    rate: float
    names: tuple[str, str]
    """Of the block of A and the block of B."""


def probe_rows(pair: Pair, clones: Clones) -> FfnResult:
    """FFN rows in the frame of the files. Absent where these share none."""
    tests = _planned(pair)
    if reason := pair.no_frame:
        return FfnResult(Finding.missing("ffn.rows", NULL, reason, tests=tests))
    components = partial(_components, both_gated=_both_gated(pair))
    return _probe(pair, clones, "ffn.rows", "identity", components)


def probe_aligned_rows(
    pair: Pair, clones: Clones, frame: Frame | None, no_frame: str, *, body: Frame | str = NOT_ALIGNED
) -> FfnResult:
    """FFN rows in the frame of the embeddings (``no_frame`` says why there is none) and in ``body``, that of the units themselves.

    A body frame is fitted to the same rows, but as unordered sets: which index a unit has plays no part in it, so that under the null
    the indices stay uniformly random given the frame. Absent where no frame was found, or rows were read in part.
    """
    name, tests = "ffn.rows.aligned", len(_ALIGNED) * _planned(pair)
    frames = dict(zip(_ALIGNED, (frame or no_frame, body), strict=True))
    results = {kind: _in_frame(pair, clones, kind, found) for kind, found in frames.items()}
    findings = {kind: result.finding for kind, result in results.items()}
    groups = [group for finding in findings.values() for group in finding.groups]
    if not groups:
        reasons = dict.fromkeys(finding.absent or "nothing to test" for finding in findings.values())
        return FfnResult(Finding.missing(name, NULL, "; ".join(reasons), tests=tests))
    left_out = {f"{kind} frame": finding.absent for kind, finding in findings.items() if finding.absent is not None}
    left_out |= {
        f"{group}, {kind} frame": reason
        for kind, finding in findings.items()
        if finding.groups
        for group, reason in finding.absent_groups.items()
    }
    # Rows of one FFN share their labels in all frames, so the total is that of one frame: the first planned that has one.
    total = next((finding.total for finding in findings.values() if finding.groups), {})
    blocks = next((result.blocks for result in results.values() if result.blocks is not None), None)
    return FfnResult(Finding.conclude(name, NULL, tests, groups, left_out, total), blocks)


def _in_frame(pair: Pair, clones: Clones, kind: str, frame: Frame | str) -> FfnResult:
    if isinstance(frame, str):
        return FfnResult(Finding.missing("ffn.rows.aligned", NULL, frame))
    sides = {id(pair.a): frame.a, id(pair.b): frame.b}
    if any(block.up.shape[1] != len(sides[id(s)]) for s in (pair.a, pair.b) for block in s.units):
        return FfnResult(
            Finding.missing("ffn.rows.aligned", NULL, "units are stored as columns and were read in part only")
        )
    both_gated = _both_gated(pair)

    def components(sketch: Sketch, block: UnitBlock) -> list[Array]:
        return [part @ sides[id(sketch)] for part in _components(sketch, block, both_gated=both_gated)]

    return _probe(pair, clones, "ffn.rows.aligned", kind, components)


def probe_profiles(pair: Pair, clones: Clones) -> FfnResult:
    """Unit profiles: untouched by any rotation or permutation of the residual stream."""
    blocks = [block for sketch in (pair.a, pair.b) for block in sketch.units]
    if not blocks:
        return FfnResult(Finding.missing("ffn.profiles", NULL, "no FFN was found"))
    channels = min(block.up.shape[1] for block in blocks)
    with_down = all(block.knows_down for block in blocks)
    shapes = {(block.gate is None, block.bias is None) for block in blocks}
    if len(shapes) > 1:
        reason = "the FFNs are of different kinds (gated or plain, with or without biases)"
        return FfnResult(Finding.missing("ffn.profiles", NULL, reason, tests=_planned(pair)))

    def components(_: Sketch, block: UnitBlock) -> list[Array]:
        return [unit_profile(block, channels=channels, with_down=with_down)]

    return _probe(pair, clones, "ffn.profiles", "none", components)


def _probe(
    pair: Pair,
    clones: Clones,
    probe: str,
    frame: str,
    components: Callable[[Sketch, UnitBlock], list[Array]],
) -> FfnResult:
    tests = _planned(pair)
    if not pair.a.units or not pair.b.units:
        return FfnResult(Finding.missing(probe, NULL, "no FFN was found", tests=tests))
    if reason := pair.ordered(Space.FFN):
        return FfnResult(Finding.missing(probe, NULL, reason, tests=tests))
    usable_a, usable_b = usable_blocks(pair.a), usable_blocks(pair.b)
    left_out = {block.name: block.flaw for block in pair.b.units if block.flaw}
    if not usable_a or not usable_b:
        return FfnResult(Finding.conclude(probe, NULL, tests, [], left_out or {"A": "every FFN of A is flawed"}))
    parts_a = [components(pair.a, block) for block in usable_a]
    parts_b = [components(pair.b, block) for block in usable_b]
    blocks = _map(parts_a, parts_b, profiles=frame == "none")
    results: list[_Result] = []
    for row, (block, parts) in enumerate(zip(usable_b, parts_b, strict=True)):
        column = blocks.best(row)
        partner = usable_a[column]
        if reason := _ordered(pair, partner, block):
            left_out[block.name] = reason
            continue
        same_axis = partner.width == block.width
        rngs = pair.rngs(*((probe, frame) if frame == "body" else (probe,)), block.name)
        test = (
            profile_test(_living(partner, parts_a[column]), _living(block, parts), same_axis=same_axis, rngs=rngs)
            if frame == "none"
            else index_test(parts_a[column], parts, same_axis=same_axis, rngs=rngs)
        )
        if test is None:
            left_out[block.name] = "no feature varies over the units"
            continue
        name = block.name if block.name == partner.name else f"{block.name} ← {partner.name}"
        group = group_of(name, test, frame=frame, b_layer=block.layer, a_layer=partner.layer)
        results.append(_Result(group, test.rate, (partner.name, block.name)))
    finding = Finding.conclude(
        probe, NULL, tests, [result.group for result in results], left_out, _total(results, clones)
    )
    return FfnResult(finding, blocks)


def _planned(pair: Pair) -> int:
    """Every block of B against every block of A: the block to compare with is chosen after reading, so all that it could be count.

    The choice does not look at matches of indices, but it scores the leading units of each block, and which units lead is a matter of
    their indices. Counting all blocks makes any choice valid.
    """
    return len(pair.a.units) * len(pair.b.units)


def _map(a: Sequence[Sequence[Array]], b: Sequence[Sequence[Array]], *, profiles: bool) -> BlockMap:
    if profiles:
        return map_by_profile([normal_scores(x[0]) for x in a], [normal_scores(y[0]) for y in b])
    return map_by_cosine(a, b)


def _living(block: UnitBlock, profile: Sequence[Array]) -> Array:
    """The profile, NaN for units that read nothing: padding stands at the end of both models, so its index is not a mere name."""
    return np.where(np.any(block.up != 0, axis=1, keepdims=True), profile[0], np.float32(np.nan))


def _components(_: Sketch, block: UnitBlock, *, both_gated: bool) -> list[Array]:
    return [block.gate, block.up] if both_gated and block.gate is not None else [block.up]


def _both_gated(pair: Pair) -> bool:
    return all(block.gate is not None for sketch in (pair.a, pair.b) for block in sketch.units)


def _ordered(pair: Pair, a: UnitBlock, b: UnitBlock) -> str | None:
    def find(side: str) -> str | None:
        block = a if side == "A" else b
        rng = pair.rngs("order", block.name)(side)
        kept = distinct_rows(block.up, rng)
        features = unit_profile(block, channels=block.up.shape[1], with_down=True)
        return find_order(block.up[kept], features[kept], rng)

    return ordered_on_both_sides("units", find)


def _total(results: Sequence[_Result], clones: Clones) -> Mapping[str, float]:
    """Fixed points over groups that share no labels on either side: one of each set of clones."""
    seen_a: set[str] = set()
    seen_b: set[str] = set()
    counted = []
    for result in results:
        first_a, first_b = clones[0][result.names[0]], clones[1][result.names[1]]
        if result.group.kind == "fixed_points" and first_a not in seen_a and first_b not in seen_b:
            counted.append(result)
            seen_a.add(first_a)
            seen_b.add(first_b)
    if not counted:
        return {}
    statistic, rate = sum(r.group.statistic for r in counted), sum(r.rate for r in counted)
    return {
        "statistic": statistic,
        "of": sum(r.group.of for r in counted),
        "expected": rate,
        "log10_p": log10_total(statistic, rate),
        "groups": len(counted),
    }
