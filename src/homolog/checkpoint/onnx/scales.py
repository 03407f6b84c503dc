"""Which initialisers are integers that stand for real numbers, and where their scales and zero points lie.

The patterns are those of onnxruntime's quantisation (microsoft/onnxruntime, ``quantization``): a ``DequantizeLinear`` behind the
integers, or behind the rows that a ``Gather`` takes of them; an integer product (``MatMulInteger``, ``QLinearMatMul``,
``ConvInteger`` …) whose result is scaled; and what other exporters write, a ``Cast`` and a ``Mul``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from homolog.checkpoint.onnx.graph import Graph, Node, Record

__all__ = ["Scaled", "find_scaled"]

_INTEGERS = (2, 3, 4, 5, 6)
"""UINT8, INT8, UINT16, INT16, INT32."""
_STATED = {
    **dict.fromkeys(("QLinearMatMul", "QGemm", "QLinearConv"), (3, 4, 5)),
    "DynamicQuantizeMatMul": (1, 2, 3),
    "MatMulIntegerToFloat": (1, 3, 5),
}
"""Places of the integers, their scale and their zero point among the inputs."""
_TRACED = ("MatMulInteger", "ConvInteger")
"""Integers in place 1, zero point in place 3, and the scale somewhere behind the product."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """An initialiser of integers with what makes real numbers of them."""

    stored: str
    value: str
    """The float value that stands for it: its own name where it is multiplied as integers."""
    scale: str
    zero: str | None
    axis: int | None


class _Values:
    """Initialisers by name, and what makes and what uses each value."""

    def __init__(self, graph: Graph) -> None:
        self.records: Mapping[str, Record] = {record.name: record for record in graph.records if record.name}
        self.made: dict[str, Node] = {}
        self.uses: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for value in node.outputs:
                self.made[value] = node
            for value in node.inputs:
                if value:
                    self.uses.setdefault(value, []).append(node)

    def only_use(self, value: str) -> Node | None:
        """The one node that uses a value; ``None`` if there are several or none."""
        users = self.uses.get(value, [])
        return users[0] if len(users) == 1 else None

    def integers(self, node: Node, place: int) -> Record | None:
        """The initialiser of integers in this place of a node."""
        record = self.records.get(_input(node, place))
        return record if record is not None and record.kind in _INTEGERS and len(record.dims) >= 2 else None


def find_scaled(graph: Graph) -> list[Scaled]:
    """Every initialiser whose scale is found, in the order of execution, each once."""
    values = _Values(graph)
    found: dict[str, Scaled] = {}
    for node in graph.nodes:
        one = _scaled(values, node)
        if one is not None:
            found.setdefault(one.stored, one)
    return list(found.values())


def _scaled(values: _Values, node: Node) -> Scaled | None:
    if node.op in _STATED:
        stored, scale, zero = (_input(node, place) for place in _STATED[node.op])
        record = values.integers(node, _STATED[node.op][0])
        axis = 0 if node.op == "QLinearConv" else -1
        return _complete(values, record, stored, scale, zero, axis) if record else None
    if node.op in _TRACED and (record := values.integers(node, 1)):
        scale = _scale_behind(values, node)
        return _complete(values, record, record.name, scale, _input(node, 3), 0 if node.op == "ConvInteger" else -1)
    if node.op == "DequantizeLinear" and not node.attributes.get("block_size", 0):
        return _dequantised(values, node)
    if node.op == "Cast" and (record := values.integers(node, 0)):
        return _cast_and_scaled(values, node, record)
    return None


def _dequantised(values: _Values, node: Node) -> Scaled | None:
    scale, zero = _input(node, 1), _input(node, 2)
    if record := values.integers(node, 0):
        return _complete(values, record, _output(node), scale, zero, node.attributes.get("axis", 1))
    gather = values.made.get(_input(node, 0))
    if gather is None or gather.op != "Gather" or (record := values.integers(gather, 0)) is None:
        return None
    one = _complete(values, record, record.name, scale, zero, None)
    return one if one is not None and one.axis is None else None


def _cast_and_scaled(values: _Values, cast: Node, record: Record) -> Scaled | None:
    """``Cast``, perhaps ``Sub`` of a zero point, and ``Mul`` by a scale that broadcasts over the tensor."""
    node, zero, value = values.only_use(_output(cast)), "", _output(cast)
    if node is not None and node.op == "Sub" and _input(node, 0) == value:
        zero, value = _input(node, 1), _output(node)
        node = values.only_use(value)
    if node is None or node.op != "Mul" or len(node.inputs) != 2:
        return None
    scale = next((one for one in node.inputs if one != value), "")
    dims = values.records[scale].dims if scale in values.records else ()
    aligned = (1,) * (len(record.dims) - len(dims)) + dims
    wide = [axis for axis, length in enumerate(aligned) if length != 1]
    if len(wide) > 1 or len(aligned) != len(record.dims):
        return None
    return _complete(values, record, _output(node), scale, zero, wide[0] if wide else None)


def _scale_behind(values: _Values, product: Node) -> str:
    """The initialiser that scales the result of an integer product: ``Cast``, then ``Mul`` by (scale of the input · its scale)."""
    node = values.only_use(_output(product))
    if node is None or node.op != "Cast":
        return ""
    value = _output(node)
    node = values.only_use(value)
    if node is None or node.op != "Mul":
        return ""
    for factor in node.inputs:
        if factor in values.records:
            return factor
        made = values.made.get(factor)
        if factor != value and made is not None and made.op == "Mul":
            return next((one for one in made.inputs if one in values.records), "")
    return ""


def _complete(values: _Values, record: Record, value: str, scale: str, zero: str, axis: int | None) -> Scaled | None:
    """The finding, if scale and zero point are initialisers that fit the tensor."""
    given = values.records.get(scale)
    if given is None:
        return None
    count = prod(given.dims)
    axes = len(record.dims)
    if count == 1:
        along = None
    elif axis is None or not -axes <= axis < axes or count != record.dims[axis]:
        return None
    else:
        along = axis % axes
    if zero and (zero not in values.records or prod(values.records[zero].dims) not in (1, count)):
        return None
    return Scaled(record.name, value, scale, zero or None, along)


def _input(node: Node, place: int) -> str:
    return node.inputs[place] if place < len(node.inputs) else ""


def _output(node: Node) -> str:
    return node.outputs[0] if node.outputs else ""


def hidden_names(scaled: Iterable[Scaled]) -> set[str]:
    """Scales and zero points, which are part of what they scale."""
    return {name for one in scaled for name in (one.scale, one.zero) if name}
