"""What the shapes alone say: width, number of layers, and which tensors can only be of one kind.

A transformer repeats the same shapes in every layer. The skeleton is the one way to explain the number of matrices of each shape as so many
layers of attention and FFN with a few tables beside them; where there are several ways, or none, it says so and nothing is guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from homolog.checkpoint.base import TensorInfo

__all__ = ["Shape", "Skeleton", "find_skeleton"]

Shape = tuple[int, int]

_FEWEST_LAYERS, _MOST_LAYERS = 2, 256
_MOST_EXPERTS = 1024
_MOST_KINDS = 64
"""Different shapes of matrices; a transformer has about ten."""
_MOST_TABLES = 8
_STRANGE_SHARE = 0.02
"""Of the numbers; up to this share may lie in tensors that fit nowhere."""


@dataclass(frozen=True, slots=True)
class Skeleton:
    """One explanation of the shapes. Every tensor of two axes is in exactly one of the groups."""

    width: int
    layers: int
    ffn: int
    gated: bool
    experts: int
    """FFNs a layer, shared ones among them."""
    routed: int
    """Experts that the router counts; 0 without a router."""
    ffn_in: tuple[str, ...]
    """Matrices that read the stream into FFN units: gates and ups."""
    ffn_out: tuple[str, ...]
    in_axis: int
    """Axis of the FFN units in ``ffn_in``."""
    query: int
    kv: int
    fused: int
    """Axis of queries, keys and values where one matrix holds all three; -1 where they are apart."""
    squares: tuple[str, ...]
    """Matrices of width × width: queries and outputs, and more where all heads are of one kind. Empty where queries have another width."""
    reading: tuple[str, ...]
    """Matrices of query × width where that is no square: queries, and keys and values where they are as many."""
    writing: tuple[str, ...]
    """Matrices of width × query where that is no square: outputs."""
    projections: tuple[str, ...]
    """Matrices of keys and values; of fused queries, keys and values. Empty where they are among the squares or ``reading``, and where
    they have the shape of ``ffn_in``."""
    routers: tuple[str, ...]
    tables: tuple[str, ...]
    vectors: tuple[str, ...]
    strange: tuple[str, ...]
    """Tensors of other kinds, small enough to be passed over."""


@dataclass(frozen=True, slots=True)
class _Scheme:
    """How one kind of transformer uses shapes, and how many of each a layer has."""

    layers: int
    ffn: int
    gated: bool
    in_axis: int
    experts: int
    routed: int
    query: int
    kv: int
    fused: int
    needs: Counter[Shape]


def find_skeleton(tensors: Mapping[str, TensorInfo]) -> Skeleton | str:
    """The skeleton, or in words why there is none."""
    matrices = {name: (info.shape[0], info.shape[1]) for name, info in tensors.items() if _floats(info, 2)}
    vectors = tuple(name for name, info in tensors.items() if _floats(info, 1))
    strange = tuple(name for name in tensors if name not in matrices and name not in vectors)
    numbers = sum(tensors[name].size for name in strange if _floats(tensors[name]))
    if numbers > _STRANGE_SHARE * sum(info.size for info in tensors.values()):
        return "much of it lies in tensors that are neither matrices nor vectors"
    widths = _widths(matrices)
    counts = Counter(matrices.values())
    if len(counts) > _MOST_KINDS:
        return f"the matrices have {len(counts)} different shapes"
    found = [(width, scheme) for width in widths for scheme in _schemes(counts, width)]
    if not found:
        return "the numbers of matrices of each shape are those of no transformer that homolog knows"
    most = max(sum(scheme.needs.values()) for _, scheme in found)
    best = [(width, scheme) for width, scheme in found if sum(scheme.needs.values()) == most]
    if len(best) > 1:
        return f"the shapes can be explained in {len(best)} ways"
    return _lay_out(best[0][0], best[0][1], matrices, vectors, strange)


def _floats(info: TensorInfo, axes: int | None = None) -> bool:
    return info.dtype.startswith(("F", "BF", "Q", "IQ")) and (
        axes is None or (len(info.shape) == axes and 0 not in info.shape)
    )


def _widths(matrices: Mapping[str, Shape]) -> list[int]:
    """Lengths that every matrix has as an axis."""
    common: set[int] | None = None
    for shape in matrices.values():
        common = {*shape} if common is None else common & {*shape}
    return sorted(common or ())


def _schemes(counts: Counter[Shape], width: int) -> Iterator[_Scheme]:
    """Every way to explain the counts that leaves nothing but a few tables."""
    lengths = {max(shape) if width in shape and min(shape) == width else min(shape) for shape in counts}
    lengths |= {length for shape in counts for length in shape}
    for layers in sorted({count // k for count in counts.values() for k in (1, 2, 3, 4) if count % k == 0}):
        if not _FEWEST_LAYERS <= layers <= _MOST_LAYERS:
            continue
        for ffn in lengths - {width}:
            for in_axis in (0, 1):
                for gated in (True, False):
                    for experts, routed, router in _mixtures(counts, width, ffn, layers, gated, in_axis):
                        base = Counter(router)
                        base[_shape(ffn, width, in_axis)] += (2 if gated else 1) * experts * layers
                        base[_shape(ffn, width, 1 - in_axis)] += experts * layers
                        for query, kv, fused, attention in _attentions(counts, width, layers, ffn):
                            needs = base + attention
                            if _fused_agrees(fused, in_axis) and _explains(counts, needs, width, ffn, layers):
                                yield _Scheme(layers, ffn, gated, in_axis, experts, routed, query, kv, fused, needs)


def _shape(length: int, width: int, axis: int) -> Shape:
    return (length, width) if axis == 0 else (width, length)


def _fused_agrees(fused: int, in_axis: int) -> bool:
    """Storage that is turned is turned throughout."""
    return fused < 0 or fused == in_axis


def _mixtures(
    counts: Counter[Shape], width: int, ffn: int, layers: int, gated: bool, in_axis: int
) -> Iterator[tuple[int, int, Counter[Shape]]]:
    """FFNs a layer, routed experts among them, and the routers' matrices."""
    out = counts[_shape(ffn, width, 1 - in_axis)]
    if out < layers or out % layers:
        return
    if not gated and in_axis == 1 and not any(axis == 3 * width for shape in counts for axis in shape):
        return  # nothing but a fused projection tells a plain FFN that is stored turned from one that is not
    if out == layers or not gated:
        if out == layers:
            yield 1, 0, Counter()
        return
    each = out // layers
    for routed in (each, each - 1):
        if 1 < routed <= _MOST_EXPERTS and counts[routed, width] == layers:
            routers = Counter({(routed, width): layers})
            if counts[1, width] == layers:
                routers[1, width] = layers
            yield each, routed, routers


def _attentions(
    counts: Counter[Shape], width: int, layers: int, ffn: int
) -> Iterator[tuple[int, int, int, Counter[Shape]]]:
    """Length of queries and of keys, axis of a fused projection, and the matrices of the attention."""
    square = (width, width)
    if counts[square] >= 4 * layers:
        yield width, width, -1, Counter({square: 4 * layers})
    for axis in (0, 1):
        fused = _shape(3 * width, width, axis)
        if counts[square] >= layers and counts[fused] >= layers:
            yield width, width, axis, Counter({square: layers, fused: layers})
    lengths = [length for (length, other) in counts if other == width and length not in (width, ffn)]
    for kv in lengths:
        if kv < width and width % kv == 0 and counts[kv, width] >= 2 * layers:
            yield width, kv, -1, Counter({square: 2 * layers, (kv, width): 2 * layers})
    # heads that together are wider or narrower than the stream
    for query in lengths:
        if counts[width, query] < layers:
            continue
        if counts[query, width] >= 3 * layers:
            yield query, query, -1, Counter({(query, width): 3 * layers, (width, query): layers})
        for kv in lengths:
            if kv < query and query % kv == 0 and counts[kv, width] >= 2 * layers:
                yield query, kv, -1, Counter({(query, width): layers, (width, query): layers, (kv, width): 2 * layers})


def _explains(counts: Counter[Shape], needs: Counter[Shape], width: int, ffn: int, layers: int) -> bool:
    """Whether what the layers do not need are tables with a row for each token, position or segment."""
    if any(counts[shape] < count for shape, count in needs.items()):
        return False
    rest = counts - needs
    if sum(rest.values()) > _MOST_TABLES or rest[width, width] >= min(layers, 4):
        return False
    tables = [shape for shape in rest if shape != (width, width)]
    return bool(tables) and all(other == width and rest[length, other] <= 2 for length, other in tables)


def _lay_out(
    width: int, scheme: _Scheme, matrices: Mapping[str, Shape], vectors: tuple[str, ...], strange: tuple[str, ...]
) -> Skeleton:
    shape_in, shape_out = (_shape(scheme.ffn, width, axis) for axis in (scheme.in_axis, 1 - scheme.in_axis))
    square = (width, width)
    reading, writing = (scheme.query, width), (width, scheme.query)
    keys = _shape(3 * width, width, scheme.fused) if scheme.fused >= 0 else (scheme.kv, width)

    def of(*shapes: Shape) -> tuple[str, ...]:
        return tuple(name for name, shape in matrices.items() if shape in shapes)

    routers = of((scheme.routed, width), (1, width)) if scheme.routed else ()
    known = {shape_in, shape_out, square, keys, reading, writing}
    tables = tuple(name for name, shape in matrices.items() if shape not in known and name not in routers)
    return Skeleton(
        width=width,
        layers=scheme.layers,
        ffn=scheme.ffn,
        gated=scheme.gated,
        experts=scheme.experts,
        routed=scheme.routed,
        ffn_in=of(shape_in),
        ffn_out=of(shape_out),
        in_axis=scheme.in_axis,
        query=scheme.query,
        kv=scheme.kv,
        fused=scheme.fused,
        squares=of(square),
        reading=of(reading) if reading != square else (),
        writing=of(writing) if writing != square else (),
        projections=of(keys) if keys not in (shape_in, shape_out, square, reading) else (),
        routers=routers,
        tables=tables,
        vectors=vectors,
        strange=strange,
    )
