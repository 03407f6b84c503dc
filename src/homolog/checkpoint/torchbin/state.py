"""From what a pickle describes to tensors in place: unwrap, flatten, and check every tensor against its storage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from homolog.checkpoint.base import TensorInfo
from homolog.checkpoint.extent import MOST_AXES, MOST_NUMBERS, Extent, measure_span
from homolog.checkpoint.source import Source
from homolog.checkpoint.torchbin.objects import Storage, Tensor
from homolog.checkpoint.wording import list_names
from homolog.errors import MalformedCheckpoint

__all__ = ["PlacedStorage", "flatten_state", "place_tensor"]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
_PREFIXES = ("module.", "_orig_mod.")
_DEEPEST = 32
_MOST_ENTRIES = 200_000
_MOST_CHARACTERS = 16 << 20
_LONGEST_NAME = 1000
_FREELY_EXPANDED = 16 << 20
"""Bytes up to which a tensor may be larger than its file, by an axis of stride 0."""


@dataclass(frozen=True, slots=True)
class PlacedStorage:
    """Where the bytes of a storage lie."""

    offset: int
    nbytes: int


def flatten_state(value: object, source: Source) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of nested dictionaries by dotted name, and notes on what was unwrapped, stripped and left out."""
    if not isinstance(value, dict):
        raise _fail(source, "pickle", f"a {type(value).__name__}", "a dictionary of tensors")
    value, notes = _unwrap(value)
    tensors: dict[str, Tensor] = {}
    others: list[str] = []
    for name, leaf in _walk(value, source):
        if not isinstance(leaf, Tensor):
            others.append(name)
        elif name in tensors:
            raise _fail(source, f"tensor {name}", "two tensors of that name", "one")
        else:
            tensors[name] = leaf
    if others:
        notes.append(f"entries that are no tensors were left out: {list_names(others)}")
    if not tensors:
        raise _fail(source, "pickle", "no tensor in it", "a dictionary of tensors")
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) and len(name) > len(prefix) for name in tensors):
            tensors = {name[len(prefix) :]: tensor for name, tensor in tensors.items()}
            notes.append(f"the prefix {prefix!r} was dropped from every name")
    return tensors, notes


def _unwrap(value: dict[str, object]) -> tuple[dict[str, object], list[str]]:
    """Training scripts save the tensors beside their own state, under one of a few names."""
    path: list[str] = []
    while len(path) < _DEEPEST and not any(isinstance(entry, Tensor) for entry in value.values()):
        name = next((name for name in _WRAPPERS if isinstance(value.get(name), dict)), None)
        inner = value.get(name) if name else None
        if name is None or not isinstance(inner, dict):
            break
        path.append(name)
        value = inner
    beside = f"the tensors are those under {'.'.join(path)!r}; what lies beside it was left out"
    return value, [beside] if path else []


def _walk(value: dict[str, object], source: Source) -> Iterator[tuple[str, object]]:
    """Leaves of nested dictionaries; a pickle may nest one in itself, so depth, number and names are bounded."""
    pending = [("", iter(value.items()))]
    entries = characters = 0
    while pending:
        prefix, items = pending[-1]
        key, inner = next(items, (None, None))
        if key is None:
            pending.pop()
            continue
        name = prefix + key
        entries += 1
        characters += len(name)
        if (
            len(pending) > _DEEPEST
            or entries > _MOST_ENTRIES
            or characters > _MOST_CHARACTERS
            or len(name) > _LONGEST_NAME
        ):
            expected = f"at most {_DEEPEST} levels, {_MOST_ENTRIES} entries, names of {_LONGEST_NAME} characters"
            raise _fail(source, "pickle", f"dictionaries beyond any model's at {name[:80]!r}", expected)
        if isinstance(inner, dict):
            pending.append((f"{name}.", iter(inner.items())))
        else:
            yield name, inner


def place_tensor(name: str, tensor: Tensor, storages: Mapping[str, PlacedStorage], source: Source) -> Extent:
    """Check shape, strides and offset against the storage; nothing is read."""
    at = f"tensor {name}"
    shape, strides, dtype = tensor.shape, tensor.strides, tensor.dtype
    if len(shape) != len(strides) or len(shape) > MOST_AXES:
        raise _fail(source, at, f"{len(shape)} sizes and {len(strides)} strides", f"equally many, at most {MOST_AXES}")
    if tensor.offset < 0 or any(number < 0 for number in (*shape, *strides)):
        raise _fail(
            source, at, f"shape {list(shape)}, strides {list(strides)}, offset {tensor.offset}", "nothing negative"
        )
    if prod(max(1, length) for length in shape) > MOST_NUMBERS:
        raise _fail(source, at, f"shape {list(shape)}", "at most 2^48 numbers")
    placed = storages[tensor.storage.key]
    start, room = _room(tensor.storage, placed)
    span = measure_span(shape, strides)
    offset = tensor.offset * dtype.itemsize
    if offset + span * dtype.itemsize > room:
        found = f"numbers {tensor.offset} to {tensor.offset + span} of a storage of {room} bytes"
        raise _fail(source, at, found, f"a place inside the storage for shape {list(shape)}, strides {list(strides)}")
    nbytes = prod(shape) * dtype.itemsize
    if nbytes > max(_FREELY_EXPANDED, source.size):
        raise _fail(source, at, f"{nbytes} bytes spread out of {room}", "a tensor no larger than its file")
    # An axis of length 1 or 0 is never stepped along: its stride, which torch leaves arbitrary, must not reach numpy.
    strides = tuple(stride if length > 1 else 0 for length, stride in zip(shape, strides, strict=True))
    info = TensorInfo(name, shape, dtype.name, nbytes)
    return Extent(info, dtype, source, placed.offset + start + offset, strides)


def _room(storage: Storage, placed: PlacedStorage) -> tuple[int, int]:
    """First byte and length of the (view of the) storage, inside the stored bytes."""
    item = storage.dtype.itemsize
    return storage.start * item, min(storage.count * item, placed.nbytes - storage.start * item)


def _fail(source: Source, at: str, found: str, expected: str) -> MalformedCheckpoint:
    return MalformedCheckpoint(source.path, at=at, found=found, expected=expected)
