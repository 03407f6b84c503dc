"""Writes checkpoints by hand, well-formed and not, without torch or safetensors."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

AnyArray = np.ndarray[Any, Any]

NUMPY_KINDS: dict[str, Any] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
    "I8": "i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "U8": "u1",
    "U16": "<u2",
    "U32": "<u4",
    "U64": "<u8",
    "BOOL": "?",
}
STORAGES = {
    "F64": "DoubleStorage",
    "F32": "FloatStorage",
    "F16": "HalfStorage",
    "BF16": "BFloat16Storage",
    "I8": "CharStorage",
    "I16": "ShortStorage",
    "I32": "IntStorage",
    "I64": "LongStorage",
    "U8": "ByteStorage",
    "BOOL": "BoolStorage",
}
"""The kinds that torch gives a storage class."""


def kind_of(array: AnyArray) -> str:
    """The name of the array's dtype in the spelling of safetensors."""
    return next(kind for kind, dtype in NUMPY_KINDS.items() if np.dtype(dtype) == array.dtype)


# safetensors


def pack_safetensors(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    """Header, as an object or as raw bytes, and data behind a length that may lie."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def encode_safetensors(arrays: Mapping[str, AnyArray], metadata: Mapping[str, str] | None = None) -> bytes:
    """A well-formed file that holds the arrays in the mapping's order."""
    header: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    data = b""
    for name, array in arrays.items():
        block = array.tobytes()
        header[name] = {
            "dtype": kind_of(array),
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(block)],
        }
        data += block
    return pack_safetensors(header, data)


def encode_index(weight_map: Mapping[str, str]) -> bytes:
    return json.dumps({"metadata": {"total_size": 0}, "weight_map": dict(weight_map)}).encode()


# pickles, opcode by opcode


def name(full: str) -> bytes:
    module, _, attribute = full.rpartition(".")
    return b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def several(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def call(function: str, *arguments: bytes) -> bytes:
    return name(function) + several(*arguments) + b"R"


def mapping(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    return call("collections.OrderedDict") + b"(" + b"".join(key + value for key, value in items) + b"u"


def finish(body: bytes, protocol: int = 2) -> bytes:
    return b"\x80" + bytes([protocol]) + body + b"."


@dataclass(frozen=True)
class Leaf:
    """A tensor over a named storage; ``count`` numbers in all."""

    key: str
    kind: str
    count: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    dtype: str | None = None
    """For kinds without a storage class: the name of torch's dtype, over untyped bytes."""

    def pickle(self) -> bytes:
        storage = "torch.storage.UntypedStorage" if self.dtype else f"torch.{STORAGES[self.kind]}"
        reference = several(text("storage"), name(storage), text(self.key), text("cpu"), number(self.count)) + b"Q"
        geometry = (number(self.offset), several(*map(number, self.shape)), several(*map(number, self.strides)))
        hooks = call("collections.OrderedDict")
        if self.dtype:
            return call(
                "torch._utils._rebuild_tensor_v3", reference, *geometry, b"\x89", hooks, name(f"torch.{self.dtype}")
            )
        return call("torch._utils._rebuild_tensor_v2", reference, *geometry, b"\x89", hooks)


def pickle_state(value: object) -> bytes:
    """Opcodes for nested dictionaries of leaves and plain values; ``bytes`` stand for themselves."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, Leaf):
        return value.pickle()
    if isinstance(value, Mapping):
        return mapping((text(key), pickle_state(inner)) for key, inner in value.items())
    if isinstance(value, str):
        return text(value)
    if isinstance(value, int):
        return number(value)
    assert isinstance(value, float)
    return b"G" + struct.pack(">d", value)


def leaves_of(arrays: Mapping[str, AnyArray]) -> tuple[dict[str, Leaf], dict[str, bytes]]:
    """Each array as a leaf over a storage of its own; strides are the array's, so that a transposed one stays so."""
    leaves, storages = {}, {}
    for place, (key, array) in enumerate(arrays.items()):
        strides = tuple(stride // array.itemsize for stride in array.strides)
        stored = (
            np.lib.stride_tricks.as_strided(array, (array.size,), (array.itemsize,))
            if array.size
            else array.reshape(-1)
        )
        leaves[key] = Leaf(str(place), kind_of(array), array.size, array.shape, strides)
        storages[str(place)] = stored.tobytes()
    return leaves, storages


# torch's two layouts


def pack_zip(
    pickle: bytes,
    storages: Mapping[str, bytes],
    *,
    root: str = "archive",
    order: bytes | None = b"little",
    deflate: Iterable[str] = (),
) -> bytes:
    """The zip layout around a pickle; ``deflate`` lists members to compress."""
    members = {"data.pkl": pickle, **{f"data/{key}": block for key, block in storages.items()}, "version": b"3\n"}
    if order is not None:
        members["byteorder"] = order
    return write_zip(
        {f"{root}/{member}": block for member, block in members.items()}, {f"{root}/{member}" for member in deflate}
    )


def write_zip(members: Mapping[str, bytes], deflate: Iterable[str] = ()) -> bytes:
    out = io.BytesIO()
    squeezed = set(deflate)
    with zipfile.ZipFile(out, "w") as archive:
        for member, block in members.items():
            entry = zipfile.ZipInfo(member)
            entry.compress_type = zipfile.ZIP_DEFLATED if member in squeezed else zipfile.ZIP_STORED
            archive.writestr(entry, block)
    return out.getvalue()


LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def legacy_head(*, magic: int = LEGACY_MAGIC, protocol: int = 1001, little: bytes = b"\x88") -> bytes:
    system = b"}(" + text("protocol_version") + number(1001) + text("little_endian") + little + b"u"
    return finish(number(magic)) + finish(number(protocol)) + finish(system)


def pack_legacy(
    pickle: bytes, storages: Mapping[str, bytes], counts: Mapping[str, int], head: bytes | None = None
) -> bytes:
    """The layout before torch 1.6: pickles, then each storage after its count."""
    keys = finish(b"](" + b"".join(text(key) for key in storages) + b"e")
    body = b"".join(struct.pack("<q", counts[key]) + block for key, block in storages.items())
    return (legacy_head() if head is None else head) + pickle + keys + body


def encode_torch_zip(arrays: Mapping[str, AnyArray]) -> bytes:
    leaves, storages = leaves_of(arrays)
    return pack_zip(finish(pickle_state(leaves)), storages)


def encode_torch_legacy(arrays: Mapping[str, AnyArray]) -> bytes:
    leaves, storages = leaves_of(arrays)
    return pack_legacy(finish(pickle_state(leaves)), storages, {leaf.key: leaf.count for leaf in leaves.values()})
