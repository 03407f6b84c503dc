"""The operations by name: what each takes, what it gives back, and which families it is defined for."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from homolog.errors import UsageError
from homolog.lab.shape import FAMILIES, Shape, Weights

__all__ = [
    "DECODERS",
    "DENSE",
    "EVERY",
    "OPERATIONS",
    "Find",
    "Operation",
    "Outcome",
    "apply_operation",
    "is_defined",
    "register",
]

EVERY = frozenset(FAMILIES)
DECODERS = EVERY - {"gpt2"}
"""The families with the tensor names of llama."""
DENSE = EVERY - {"qwen2_moe", "pangu_pro_moe"}
"""The families with one FFN a layer."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A model after an operation; ``fresh`` are the tensors that did not come from the parent as a whole."""

    shape: Shape
    weights: Weights
    fresh: frozenset[str] = frozenset()
    facts: dict[str, Any] | None = None
    """What a detector could be asked to recover: which layer or unit came from which."""


Operation = Callable[..., Outcome]
Find = Callable[[str], tuple[Shape, Weights]]
"""Opens another finished model of the lab by name."""

OPERATIONS: dict[str, Operation] = {}
_FAMILIES: dict[str, frozenset[str]] = {}


def register(families: frozenset[str] = DECODERS) -> Callable[[Operation], Operation]:
    """Give an operation its function's name, for these families."""

    def named(function: Operation) -> Operation:
        OPERATIONS[function.__name__], _FAMILIES[function.__name__] = function, families
        return function

    return named


def is_defined(kind: str, family: str) -> bool:
    """Whether there is an operation ``kind`` for models of this family."""
    return family in _FAMILIES.get(kind, frozenset())


def apply_operation(shape: Shape, weights: Weights, step: dict[str, Any], *, find: Find | None = None) -> Outcome:
    """Do one ``[[operations]]`` entry of a recipe: ``kind`` names the function, the rest are its arguments.

    ``find`` opens the other models that a merge names. Raises ``UsageError`` for an unknown kind, arguments that it does not take or
    that are of another type, or a family that it is not defined for.
    """
    arguments = dict(step)
    kind = arguments.pop("kind", None)
    if kind not in OPERATIONS:
        raise UsageError(f"operation {kind!r}: the lab knows {', '.join(sorted(OPERATIONS))}")
    if shape.family not in _FAMILIES[kind]:
        raise UsageError(f"operation {kind!r} is not defined for {shape.family}")
    parameters = inspect.signature(OPERATIONS[kind]).parameters
    if "find" in parameters:
        arguments["find"] = find
    try:
        inspect.signature(OPERATIONS[kind]).bind(shape, weights, **arguments)
    except TypeError as error:
        raise UsageError(f"operation {kind!r}: {error}") from error
    for name, value in arguments.items():
        _check_type(kind, name, value, str(parameters[name].annotation) if name in parameters else "Any")
    return OPERATIONS[kind](shape, weights, **arguments)


def _check_type(kind: str, name: str, value: object, annotation: str) -> None:
    """Against the annotation as it is written; the operations use these and no others for what a recipe can say."""
    kinds: dict[str, tuple[type, ...]] = {
        "int": (int,),
        "float": (int, float),
        "str": (str,),
        "bool": (bool,),
        "list[int]": (list,),
        "list[str]": (list,),
        "list[int] | None": (list,),
    }
    expected = kinds.get(annotation)
    if expected is None:
        return
    inner = {"list[int]": int, "list[int] | None": int, "list[str]": str}.get(annotation)
    wrong = not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected)
    if wrong or (inner and isinstance(value, list) and not all(type(item) is inner for item in value)):
        raise UsageError(f"operation {kind!r}: {name} is {value!r}, expected {annotation}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"operation {kind!r}: {name} is {value}, expected a finite number")
    if name in {"seed", "std", "spread"} and isinstance(value, int | float) and value < 0:
        raise UsageError(f"operation {kind!r}: {name} is {value}, expected 0 or more")
