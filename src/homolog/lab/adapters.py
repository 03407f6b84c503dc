"""Adapters: two thin factors beside a matrix, whose product is added to it. For arrays of numpy and of torch alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["is_adapter", "merge_adapters", "name_adapter"]

_FIRST, _SECOND = ".lora_A.weight", ".lora_B.weight"


def name_adapter(name: str) -> tuple[str, str]:
    """The names of both factors of a matrix, the one that reads first, as peft writes them."""
    place = name.removesuffix(".weight")
    return place + _FIRST, place + _SECOND


def is_adapter(name: str) -> bool:
    """Whether a tensor is a factor of an update."""
    return name.endswith((_FIRST, _SECOND))


def merge_adapters(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors without adapters, each product added to its matrix; those without an adapter are passed on as they are."""
    merged = {name: tensor for name, tensor in tensors.items() if not is_adapter(name)}
    for name in tensors:
        if name.endswith(_FIRST):
            matrix = name.removesuffix(_FIRST) + ".weight"
            merged[matrix] = merged[matrix] + tensors[name_adapter(matrix)[1]] @ tensors[name]
    return merged
