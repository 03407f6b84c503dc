"""The names of a checkpoint, by their last segment: where a format's tensors stand, without looking at each name again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

from homolog.checkpoint.base import Checkpoint, TensorInfo
from homolog.checkpoint.quant.bits import Stored
from homolog.checkpoint.quant.raw import RawReader
from homolog.errors import MalformedCheckpoint

__all__ = ["Hints", "Survey", "share_evenly"]

_LARGEST_NOTE = 4096
"""Bytes of a stored note (a shape, a few settings) at most."""
_MOST_NOTES = 256
"""Different notes that are read when a checkpoint is opened, at most."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What config.json says of the numbers. It may say anything: whatever is not of the expected kind counts as not said."""

    method: str = ""
    bits: int = 0
    group: int = 0
    block: tuple[int, int] = (0, 0)
    symmetric: bool | None = None
    version: str = ""
    """``gptq`` or ``gptq_v2``: whether the zeros are stored less one; of AWQ, how the words are ordered."""
    mode: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Settings of single modules (MLX)."""

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Hints:
        """From ``quantization_config`` (or ``quantization`` as MLX writes it), wherever it stands."""
        section = _find_section(config)
        if section is None:
            return cls()
        settings = section
        for key in ("config_groups", "quant_config"):
            inner = section.get(key)
            if isinstance(inner, Mapping):
                settings = _first_weights(inner) or settings
        method = section.get("quant_method")
        mlx = method is None and "group_size" in section and "bits" in section
        block = settings.get("block_structure", section.get("weight_block_size"))
        return cls(
            method=method[:64] if isinstance(method, str) else "mlx" if mlx else "",
            bits=_whole(settings, "bits", "num_bits", "w_bit", "nbits", most=64),
            group=_whole(settings, "group_size", "q_group_size", most=1 << 32),
            block=_pair(block),
            symmetric=next(
                (value for key in ("symmetric", "sym") if isinstance(value := settings.get(key), bool)), None
            ),
            version=_text(section, "checkpoint_format") or _text(section, "version"),
            mode=_text(section, "mode"),
            overrides=section if mlx else {},
        )


class Survey:
    """Tensors by the last segment of their names; what was claimed already is passed over."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.tensors: Mapping[str, TensorInfo] = checkpoint.tensors
        self.hints = Hints.read(checkpoint.config)
        self.reader = RawReader(checkpoint)
        self._checkpoint = checkpoint
        self._modules: dict[str, list[str]] = {}
        self._notes: dict[tuple[object, ...], Stored] = {}
        self.claimed: set[str] = set()
        for name in checkpoint.tensors:
            module, dot, leaf = name.rpartition(".")
            self._modules.setdefault(leaf, []).append(module + dot)

    def leaves(self) -> tuple[str, ...]:
        """All last segments."""
        return tuple(self._modules)

    def places(self, leaf: str) -> Iterator[str]:
        """What stands before ``leaf``, dot included, in every name that ends so and is not yet claimed."""
        for place in self._modules.get(leaf, ()):
            if place + leaf not in self.claimed:
                yield place

    def get(self, name: str) -> TensorInfo | None:
        """The tensor, unless it is claimed or not there."""
        return None if name in self.claimed else self.tensors.get(name)

    def matrix(self, name: str, most_axes: int = 3) -> TensorInfo:
        """The tensor, which must have at least two axes and none of length zero."""
        info = self.tensors[name]
        if not 2 <= len(info.shape) <= most_axes or 0 in info.shape:
            raise self.fail(
                name, f"shape {list(info.shape)}", "a matrix" if most_axes == 2 else "a matrix, or a stack of them"
            )
        return info

    def note(self, name: str, *alike: object) -> Stored:
        """A small stored note, flat; of all tensors that are ``alike`` only the first is read."""
        key = (name.rpartition(".")[2], *alike)
        if key not in self._notes:
            info = self.tensors[name]
            if info.nbytes > _LARGEST_NOTE or not info.nbytes:
                raise self.fail(name, f"{info.nbytes} bytes", f"a note of 1 to {_LARGEST_NOTE} bytes")
            if len(self._notes) == _MOST_NOTES:
                raise self.fail(name, f"more than {_MOST_NOTES} different settings", "fewer")
            self._notes[key] = self.reader.whole(name)
        return self._notes[key]

    def fail(self, name: str, found: str, expected: str) -> MalformedCheckpoint:
        """The error for what a tensor holds."""
        return self.reader.fail(name, found, expected)

    def locate(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self._checkpoint.locate(name)

    def missing(self, name: str, beside: str) -> MalformedCheckpoint:
        """The error for a tensor that is not there."""
        at = f"tensor {name}"
        return MalformedCheckpoint(
            self._checkpoint.locate(beside), at=at, found="no such tensor", expected=f"it beside {beside}"
        )


def share_evenly(length: int, groups: int, hints: tuple[int, ...]) -> int:
    """How many of ``length`` share one of ``groups``: a hint if one fits (the last group may be short), else an even share; 0 if none."""
    if groups == 1:
        return length
    for hint in hints:
        if 0 < hint <= length and ceil(length / hint) == groups:
            return hint
    return length // groups if groups and length % groups == 0 else 0


def _find_section(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for holder in (config, config.get("text_config"), config.get("llm_config")):
        if isinstance(holder, Mapping):
            for key in ("quantization_config", "compression_config", "quantization"):
                section = holder.get(key)
                if isinstance(section, Mapping):
                    return section
    return None


def _first_weights(groups: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Settings of the weights in the first group of compressed-tensors, or in HQQ's."""
    for group in [groups, *groups.values()]:
        if isinstance(group, Mapping):
            for key in ("weights", "weight_quant_params"):
                weights = group.get(key)
                if isinstance(weights, Mapping):
                    return weights
    return None


def _whole(section: Mapping[str, Any], *keys: str, most: int) -> int:
    for key in keys:
        value = section.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most:
            return value
    return 0


def _pair(value: object) -> tuple[int, int]:
    if isinstance(value, list) and len(value) == 2 and all(type(side) is int and 0 < side <= 1 << 32 for side in value):
        return (value[0], value[1])
    return (0, 0)


def _text(section: Mapping[str, Any], key: str) -> str:
    value = section.get(key)
    return value[:64].lower() if isinstance(value, str) else ""
