"""The weights of an ONNX model: its initialisers in place, by the names of the parameters that they were."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod

from homolog.checkpoint.affine import Affine
from homolog.checkpoint.base import TensorInfo
from homolog.checkpoint.extent import Extent
from homolog.checkpoint.onnx.graph import Graph, Record, read_graph
from homolog.checkpoint.onnx.names import Origin, find_origins, is_parameter
from homolog.checkpoint.onnx.place import KINDS, OpenBeside, Placer
from homolog.checkpoint.onnx.scales import Scaled, find_scaled, hidden_names
from homolog.checkpoint.source import Source
from homolog.checkpoint.wording import list_names
from homolog.errors import MalformedCheckpoint

__all__ = ["OnnxWeights", "read_onnx"]

_MADE_UP_ENDINGS = ("_quantized", "_DequantizeLinear_Output")
"""What onnxruntime appends to the name of a weight that it quantises."""


@dataclass(frozen=True, slots=True)
class OnnxWeights:
    """The tensors in the order in which the graph uses them."""

    extents: Mapping[str, Extent]
    notes: tuple[str, ...]


def read_onnx(source: Source, open_beside: OpenBeside | None = None) -> OnnxWeights:
    """Read the graph and give every weight its place; no weight is read.

    Integers with a scale come under the name of the real numbers that they stand for. ``open_beside`` opens files of the same folder.
    Raises ``MalformedCheckpoint``, ``UnsupportedFormat``, and for data in other files what `Placer.place` raises.
    """
    graph = read_graph(source)
    records = _by_name(source, graph)
    scaled = {one.stored: one for one in find_scaled(graph)}
    hidden = hidden_names(scaled.values())
    kept = [record for record in graph.records if record.name not in hidden and _is_weight(record, scaled)]
    values = {scaled[record.name].value if record.name in scaled else record.name: record.name for record in kept}
    origins = find_origins(graph, values)
    placer = Placer(source, open_beside)
    extents: dict[str, Extent] = {}
    for record in sorted(kept, key=_first_use(graph, values)):
        one = scaled.get(record.name)
        name = _name_of(record, one, origins.get(record.name))
        if name in extents:
            raise MalformedCheckpoint(
                source.path, at=f"tensor {name}", found="two tensors of that name", expected="one"
            )
        extent = placer.place(record)
        if one is not None:
            zero = placer.place(records[one.zero]) if one.zero else None
            extent = replace(extent, affine=Affine(placer.place(records[one.scale]), zero, one.axis))
        extents[name] = _finish(name, extent, origins.get(record.name))
    _add_aliases(graph, values, extents, origins)
    if not extents:
        raise MalformedCheckpoint(source.path, at="graph", found="no weights in it", expected="initialisers")
    left_out = len(graph.records) - len(kept) - len(hidden)
    return OnnxWeights(extents, tuple(_notes(scaled, origins, left_out)))


def _by_name(source: Source, graph: Graph) -> dict[str, Record]:
    records: dict[str, Record] = {}
    for record in graph.records:
        if not record.name or record.name in records:
            found = f"the initialiser {record.name!r} twice, or without a name"
            raise MalformedCheckpoint(source.path, at="graph", found=found, expected="each name once")
        records[record.name] = record
    return records


def _is_weight(record: Record, scaled: Mapping[str, Scaled]) -> bool:
    """Not the constants of the computation: single numbers, and integers that no scale makes numbers of."""
    if is_parameter(record.name) or record.name in scaled:
        return True
    kind = KINDS.get(record.kind, "")
    return kind.startswith(("F", "BF")) and prod(record.dims) > 1 and len(record.dims) <= 3


def _first_use(graph: Graph, values: Mapping[str, str]) -> Callable[[Record], int]:
    """Sort key: the place of the first node that uses a weight."""
    first: dict[str, int] = {}
    for place, node in enumerate(graph.nodes):
        for value in node.inputs:
            if value in values:
                first.setdefault(values[value], place)
    last = len(graph.nodes)
    return lambda record: first.get(record.name, last)


def _name_of(record: Record, scaled: Scaled | None, origin: Origin | None) -> str:
    if origin is not None:
        return origin.name
    return _plain(scaled.value if scaled and is_parameter(scaled.value) else record.name)


def _finish(name: str, extent: Extent, origin: Origin | None) -> Extent:
    """The tensor under the name of its parameter, as the numbers that it stands for."""
    stored = extent.info
    info = replace(stored, name=name, transposed=bool(origin and origin.transposed and len(stored.shape) == 2))
    if extent.affine is not None:
        info = replace(info, dtype="F32", lattice=_lattice(stored, extent.affine))
    return replace(extent, info=info)


def _plain(name: str) -> str:
    for ending in _MADE_UP_ENDINGS:
        name = name.removesuffix(ending)
    return name


def _lattice(info: TensorInfo, affine: Affine) -> str:
    kind = info.dtype.replace("I", "int").replace("U", "uint")
    return f"{kind}, {'one scale' if affine.axis is None else f'a scale for each index of axis {affine.axis}'}"


def _add_aliases(
    graph: Graph, values: Mapping[str, str], extents: dict[str, Extent], origins: Mapping[str, Origin]
) -> None:
    """Equal parameters are stored once, and stand under their other names behind an ``Identity``."""
    for node in graph.nodes:
        if node.op != "Identity" or not node.inputs or not node.outputs or node.inputs[0] not in values:
            continue
        first, second = values[node.inputs[0]], node.outputs[0]
        first = origins[first].name if first in origins else _plain(first)
        if is_parameter(second) and second not in extents and first in extents:
            extents[second] = replace(extents[first], info=replace(extents[first].info, name=second))


def _notes(scaled: Mapping[str, Scaled], origins: Mapping[str, Origin], left_out: int) -> list[str]:
    notes = []
    if scaled:
        notes.append(
            f"{len(scaled)} matrices are stored as integers with scales and read as the numbers that they stand for"
        )
    if origins:
        shown = list_names([f"{stored} is {one.name}" for stored, one in origins.items()])
        notes.append(
            f"the names of {len(origins)} tensors were made up by the exporter and are read off the graph: {shown}"
        )
    if left_out:
        notes.append(f"{left_out} constants of the computation were left out")
    return notes
