"""What of an ONNX model matters here: its initialisers, and the nodes that use them.

Field numbers are those of onnx/onnx, ``onnx/onnx.proto``. Only the main graph is read: subgraphs, functions and training graphs are
passed over, so that nothing nests deeper than model, graph, node, attribute and tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from homolog.checkpoint.extent import MOST_AXES
from homolog.checkpoint.onnx.wire import BYTES, VARINT, Field, Wire
from homolog.checkpoint.source import Source
from homolog.errors import UnsupportedFormat

__all__ = ["Graph", "Node", "Record", "read_graph"]

_LONGEST_NAME = 1000
_MOST_RECORDS = 100_000
_MOST_INPUTS = 10_000
_EXTERNAL_KEYS = ("location", "offset", "length")
_TYPED = {4: "float_data", 5: "int32_data", 7: "int64_data", 10: "double_data", 11: "uint64_data"}
_NONE: Mapping[str, int] = MappingProxyType({})


@dataclass(slots=True)
class Record:
    """One ``TensorProto`` as the file has it; nothing of it is checked against its shape yet."""

    name: str = ""
    dims: tuple[int, ...] = ()
    kind: int = 0
    """``data_type``."""
    raw: tuple[int, int] | None = None
    """Bytes of ``raw_data``."""
    typed: tuple[str, int, int] | None = None
    """Name and bytes of the one typed field."""
    external: dict[str, str] | None = None
    """``location``, ``offset`` and ``length`` where the numbers lie in another file."""
    packed: bool = True
    """Whether the typed field is one packed run."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operation of the graph."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, int] = field(default_factory=lambda: _NONE)
    """Those that are whole numbers."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Initialisers in stored order, constants among them, and nodes in the order of execution."""

    records: tuple[Record, ...]
    nodes: tuple[Node, ...]


def read_graph(source: Source) -> Graph:
    """Read the main graph of a model.

    Raises ``MalformedCheckpoint`` where the bytes are no model, ``UnsupportedFormat`` without a graph.
    """
    wire = Wire(source)
    graphs = []
    for part in wire.fields(0, source.size, "model"):
        if part.number == 7:
            graphs.append(_span(wire, part, "graph"))
    if len(graphs) != 1:
        raise UnsupportedFormat(source.path, at="model", found=f"{len(graphs)} graphs", expected="an ONNX model: one")
    records: list[Record] = []
    nodes: list[Node] = []
    for part in wire.fields(*graphs[0], "graph"):
        if part.number == 1:
            node, constant = _node(wire, part)
            if constant is not None:
                records.append(constant)
            else:
                nodes.append(node)
        elif part.number == 5:
            records.append(_record(wire, part, "initialiser"))
        if len(records) > _MOST_RECORDS:
            raise wire.fail(part.start, "graph", f"more than {_MOST_RECORDS} initialisers", "fewer")
    return Graph(tuple(records), tuple(nodes))


def _node(wire: Wire, whole: Field) -> tuple[Node, Record | None]:
    """A node; a node that is a constant comes with it."""
    inputs: list[str] = []
    outputs: list[str] = []
    texts = {3: "", 4: ""}
    attributes: dict[str, int] = {}
    constant: Record | None = None
    for part in wire.fields(*_span(wire, whole, "node"), "node"):
        if part.number in (1, 2):
            (inputs if part.number == 1 else outputs).append(wire.text(part, _LONGEST_NAME, "node"))
            if len(inputs) + len(outputs) > _MOST_INPUTS:
                raise wire.fail(part.start, "node", f"more than {_MOST_INPUTS} inputs and outputs", "fewer")
        elif part.number in texts:
            texts[part.number] = wire.text(part, _LONGEST_NAME, "node")
        elif part.number == 5:
            name, value = _attribute(wire, part)
            if isinstance(value, Record):
                constant = value
            elif value is not None:
                attributes[name] = value
    node = Node(texts[4], texts[3], tuple(inputs), tuple(outputs), attributes)
    if node.op != "Constant" or constant is None or len(outputs) != 1:
        return node, None
    constant.name = outputs[0]
    return node, constant


def _attribute(wire: Wire, whole: Field) -> tuple[str, int | Record | None]:
    """Name and value of an attribute that is a whole number or a tensor; of all others no value."""
    name, value = "", None
    for part in wire.fields(*_span(wire, whole, "attribute"), "attribute"):
        if part.number == 1:
            name = wire.text(part, _LONGEST_NAME, "attribute")
        elif part.number == 3:
            value = wire.number(part, "attribute")
        elif part.number == 5:
            return name, _record(wire, part, "constant")
    return name, value


def _record(wire: Wire, whole: Field, at: str) -> Record:
    record = Record()
    dims: list[int] = []
    external: dict[str, str] = {}
    elsewhere = False
    for part in wire.fields(*_span(wire, whole, at), at):
        if part.number == 1:
            dims += wire.numbers(part, MOST_AXES, at)
            if len(dims) > MOST_AXES:
                raise wire.fail(part.start, at, f"more than {MOST_AXES} axes", "fewer")
        elif part.number == 2:
            record.kind = wire.number(part, at)
        elif part.number == 3:
            raise UnsupportedFormat(wire.source.path, at=at, found="a segment of a tensor", expected="whole tensors")
        elif part.number == 8:
            record.name = wire.text(part, _LONGEST_NAME, at)
        elif part.number == 9:
            if record.raw is not None:
                raise wire.fail(part.start, at, "raw_data twice", "once")
            record.raw = _span(wire, part, at)
        elif part.number in _TYPED:
            _note_typed(wire, record, part, at)
        elif part.number == 13:
            key, value = _pair(wire, part, at)
            if key in _EXTERNAL_KEYS:
                external[key] = value
        elif part.number == 14:
            elsewhere = wire.number(part, at) == 1
    record.dims = tuple(dims)
    record.external = external if elsewhere else None
    return record


def _note_typed(wire: Wire, record: Record, part: Field, at: str) -> None:
    name = _TYPED[part.number]
    if part.kind != BYTES:
        record.packed = False
        record.typed = (name, 0, 0)
    elif record.typed is not None:
        raise wire.fail(part.start, at, f"{name} beside {record.typed[0]}", "the numbers once, in one run")
    else:
        record.typed = (name, part.start, part.stop)


def _pair(wire: Wire, whole: Field, at: str) -> tuple[str, str]:
    pair = {1: "", 2: ""}
    for part in wire.fields(*_span(wire, whole, at), at):
        if part.number in pair:
            pair[part.number] = wire.text(part, _LONGEST_NAME, at)
    return pair[1], pair[2]


def _span(wire: Wire, part: Field, at: str) -> tuple[int, int]:
    if part.kind != BYTES:
        kind = "a whole number" if part.kind == VARINT else "a fixed number"
        raise wire.fail(part.start, at, f"{kind} in field {part.number}", "a message or bytes")
    return part.start, part.stop
