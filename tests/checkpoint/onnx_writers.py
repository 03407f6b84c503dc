"""Writes ONNX models and npz archives by hand, well-formed and not, without onnx or numpy's own writer."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from tests.checkpoint.writers import NUMPY_KINDS, AnyArray, kind_of, write_zip

KINDS = {
    **{"F32": 1, "U8": 2, "I8": 3, "U16": 4, "I16": 5, "I32": 6, "I64": 7, "BOOL": 9, "F16": 10, "F64": 11, "U32": 12},
    **{"U64": 13, "BF16": 16, "F8_E4M3": 17, "F8_E4M3FNUZ": 18, "F8_E5M2": 19, "F8_E5M2FNUZ": 20, "F8_E8M0": 24},
}
"""``TensorProto.DataType``."""


def varint(value: int) -> bytes:
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def whole(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def run(number: int, block: bytes | str) -> bytes:
    raw = block.encode() if isinstance(block, str) else block
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def tensor(name: str, array: AnyArray, *, typed: bool = False, external: Mapping[str, str] | None = None) -> bytes:
    """A ``TensorProto``: raw, in its typed field, or in another file."""
    kind = kind_of(array)
    head = run(1, b"".join(map(varint, array.shape))) + whole(2, KINDS[kind]) + run(8, name)
    if external is not None:
        pairs = b"".join(run(13, run(1, key) + run(2, value)) for key, value in external.items())
        return head + pairs + whole(14, 1)
    if not typed:
        return head + run(9, array.tobytes())
    if kind in ("F32", "F64"):
        return head + run(4 if kind == "F32" else 10, array.tobytes())
    bits = array.view(f"u{array.itemsize}") if kind in ("F16", "BF16") else array
    field = {"I64": 7, "U32": 11, "U64": 11}.get(kind, 5)
    return head + run(field, b"".join(varint(int(number)) for number in bits.reshape(-1)))


def attribute(name: str, value: int | bytes) -> bytes:
    """A whole number, or a tensor."""
    if isinstance(value, bytes):
        return run(5, run(1, name) + run(5, value) + whole(20, 4))
    return run(5, run(1, name) + whole(3, value) + whole(20, 2))


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], *attributes: bytes, name: str = "") -> bytes:
    body = b"".join(run(1, value) for value in inputs) + b"".join(run(2, value) for value in outputs)
    return body + (run(3, name) if name else b"") + run(4, op) + b"".join(attributes)


def model(tensors: Iterable[bytes], nodes: Iterable[bytes] = ()) -> bytes:
    """A model around initialisers and nodes."""
    graph = b"".join(run(1, one) for one in nodes) + run(2, "main") + b"".join(run(5, one) for one in tensors)
    return whole(1, 10) + run(2, "by hand") + run(7, graph) + run(8, whole(2, 17))


def encode_onnx(arrays: Mapping[str, AnyArray]) -> bytes:
    """A well-formed file that holds the arrays and does nothing with them."""
    return model(tensor(name, array) for name, array in arrays.items())


def pack_npy(header: bytes, data: bytes, *, version: int = 1, length: int | None = None) -> bytes:
    """An array's header, as raw text, and its bytes behind a length that may lie."""
    text = header + b" " * (-(len(header) + 11) % 64) + b"\n"
    count = len(text) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", count) + text + data


def encode_npy(array: AnyArray, *, columns: bool = False, version: int = 1) -> bytes:
    kind = kind_of(array)
    descr = "|V2" if kind == "BF16" else np.dtype(NUMPY_KINDS[kind]).str
    header = f"{{'descr': '{descr}', 'fortran_order': {columns}, 'shape': {array.shape}, }}"
    return pack_npy(header.encode(), array.tobytes(order="F" if columns else "C"), version=version)


def encode_npz(arrays: Mapping[str, AnyArray], *, deflate: bool = False) -> bytes:
    members = {f"{name}.npy": encode_npy(array) for name, array in arrays.items()}
    return write_zip(members, members if deflate else ())
