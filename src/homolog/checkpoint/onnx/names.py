"""The names that weights had before they were exported.

Exporters keep the names of parameters that they store as they are. A matrix that they turn or quantise on the way gets a name like
``onnx::MatMul_1234`` or ``val_49``; the graph still says whose it was: by the bias that is added to its product, which kept its name,
or by the path of the node, ``/encoder/layer.0/attention/self/query/MatMul``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from homolog.checkpoint.onnx.graph import Graph, Node

__all__ = ["Origin", "find_origins", "is_parameter"]

_PRODUCTS = (
    "MatMul",
    "MatMulInteger",
    "QLinearMatMul",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
    "Gemm",
    "QGemm",
)
"""Operations that multiply by a matrix with inputs along its first axis (``Gemm`` and ``QGemm`` unless ``transB``)."""
_PASSED = ("Cast", "Mul", "DequantizeLinear", "QuantizeLinear")
"""Between an integer product and the addition of its bias."""
_FARTHEST = 6
_DEEPEST = 16
"""Steps of a path that are looked at."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The name that an initialiser had, and whether its matrix was turned."""

    name: str
    transposed: bool


def is_parameter(name: str) -> bool:
    """Whether a name is that of a module's parameter, ``layer.0.dense.weight``, and none that an exporter made up."""
    return "." in name and not name.startswith(("onnx::", "/"))


class _Uses:
    """Which nodes use a value, and in which place."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._uses: dict[str, list[tuple[Node, int]]] = {}
        for node in nodes:
            for place, value in enumerate(node.inputs):
                if value:
                    self._uses.setdefault(value, []).append((node, place))

    def of(self, value: str) -> list[tuple[Node, int]]:
        return self._uses.get(value, [])

    def bias_behind(self, product: Node, parameters: frozenset[str]) -> str | None:
        """The parameter that is added to a product, casts and scales in between passed over; ``None`` if there is none."""
        value = product.outputs[0] if product.outputs else ""
        for _ in range(_FARTHEST):
            users = self.of(value)
            if len(users) != 1:
                return None
            node = users[0][0]
            if node.op == "Add":
                return next((one for one in node.inputs if one in parameters and one.endswith(".bias")), None)
            if node.op not in _PASSED or not node.outputs:
                return None
            value = node.outputs[0]
        return None


def find_origins(graph: Graph, weights: Mapping[str, str]) -> dict[str, Origin]:
    """For each initialiser whose own name says nothing, the name and orientation that the graph gives it.

    ``weights`` maps every float value that stands for an initialiser (itself, or what a dequantisation makes of it) to the initialiser.
    Names that two initialisers could claim go to neither.
    """
    uses = _Uses(graph.nodes)
    parameters = frozenset(name for name in weights if is_parameter(name))
    modules = _modules(parameters)
    claims: dict[str, Origin] = {}
    for value, stored in weights.items():
        if is_parameter(value) or is_parameter(stored):
            continue
        origin = next(
            (one for node, place in uses.of(value) if (one := _origin(node, place, uses, parameters, modules))), None
        )
        if origin is not None:
            claims[stored] = origin
    taken: dict[str, int] = {}
    for origin in claims.values():
        taken[origin.name] = taken.get(origin.name, 0) + 1
    return {stored: one for stored, one in claims.items() if taken[one.name] == 1 and one.name not in parameters}


def _origin(node: Node, place: int, uses: _Uses, parameters: frozenset[str], modules: frozenset[str]) -> Origin | None:
    if node.op in _PRODUCTS and place > 0:
        turned = not node.attributes.get("transB", 0)
        bias = next((one for one in node.inputs if one in parameters and one.endswith(".bias")), None)
        bias = bias or uses.bias_behind(node, parameters)
        if bias is not None:
            return Origin(f"{bias.removesuffix('.bias')}.weight", turned)
        module = _module_of(node, modules)
        return Origin(f"{module}.weight", turned) if module else None
    if node.op in ("Gather", "Mul", "Add", "LayerNormalization", "SimplifiedLayerNormalization"):
        module = _module_of(node, modules)
        bias_like = node.op == "Add" or (node.op == "LayerNormalization" and place == 2)
        return Origin(f"{module}.{'bias' if bias_like else 'weight'}", False) if module else None
    return None


def _module_of(node: Node, modules: frozenset[str]) -> str:
    """The module of a node named by its path, led back to where the parameters' names begin; empty if its name is no path."""
    if not node.name.startswith("/"):
        return ""
    steps = node.name.split("/")[1:-1][-_DEEPEST:]
    best = max(range(len(steps)), key=lambda start: (_known(steps[start:], modules), -start), default=0)
    return ".".join(steps[best:])


def _known(steps: Sequence[str], modules: frozenset[str]) -> int:
    """How many leading steps together name a module; modules hold every module that contains one of them."""
    for count in range(len(steps)):
        if ".".join(steps[: count + 1]) not in modules:
            return count
    return len(steps)


def _modules(parameters: Iterable[str]) -> frozenset[str]:
    """Every module that a parameter's name goes through."""
    modules: set[str] = set()
    for name in parameters:
        module = name.rpartition(".")[0]
        while module and module not in modules:
            modules.add(module)
            module = module.rpartition(".")[0]
    return frozenset(modules)
