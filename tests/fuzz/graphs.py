"""Seeds and mutations for ONNX models and npz archives."""

from __future__ import annotations

import io
import zipfile
from random import Random

import numpy as np
from tests.checkpoint.onnx_writers import (
    attribute,
    encode_npy,
    encode_npz,
    encode_onnx,
    model,
    node,
    pack_npy,
    run,
    tensor,
    varint,
    whole,
)
from tests.checkpoint.writers import AnyArray, write_zip

_MOST_NESTED = 6
_TEXTS = (
    b"",
    b"MatMul",
    b"Identity",
    b"Constant",
    b"DequantizeLinear",
    b"w",
    b"a.weight",
    b"../x",
    b"/etc/passwd",
    b"\xff",
    b"beside",
)
_VALUES = (0, 1, 2, 3, 7, 16, 25, 127, 1 << 31, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
_HEADS = (
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }",
    b"{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
    b"{'descr': '>f4', 'fortran_order': False, 'shape': (3,), }",
    b"{'shape': (), 'descr': '|b1', 'fortran_order': True}",
    b"{'descr': '|V2', 'fortran_order': True, 'shape': (3, 2), }",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999999999,), }",
    b"{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (3,), }",
    b"{'descr': '<f4', 'descr': '<f4', 'shape': (3,), }",
    b"{'descr': (1, ), 'fortran_order': '<f4', 'shape': True, }",
)


def onnx_seeds() -> list[bytes]:
    """Models of every pattern that the reader knows, and a few that are broken."""
    table, scale, zero = np.arange(12, dtype=np.int8).reshape(4, 3), np.full(3, 0.5, np.float32), np.zeros(3, np.int8)
    one, none = np.array(0.5, np.float32), np.array(3, np.int8)
    quantised = [tensor("w_quantized", table), tensor("s", scale), tensor("z", zero), tensor("a.bias", scale)]
    single = [tensor("w", table), tensor("s", one), tensor("z", none)]
    traced = [
        node("MatMulInteger", ["x", "w_quantized", "xz", "z"], ["p"], name="/a/MatMul"),
        node("Cast", ["p"], ["pf"]),
        node("Mul", ["xs", "s"], ["m"]),
        node("Mul", ["pf", "m"], ["y"]),
        node("Add", ["y", "a.bias"], ["o"]),
    ]
    typed = [
        tensor(kind, np.arange(3).astype(kind), typed=True)
        for kind in ("f4", "f8", "i1", "u1", "i2", "i4", "i8", "u4", "u8", "f2", "?")
    ]
    by_hand: dict[str, AnyArray] = {"w": np.ones((2, 3), dtype=np.float32), "b.weight": np.ones(2, dtype=np.float16)}
    arrays: dict[str, AnyArray] = {**by_hand, "scalar": np.array(2.0, dtype=np.float32)}
    elsewhere = {"location": "beside", "offset": "4", "length": "24"}
    spread = [tensor("a.weight", by_hand["w"], external=elsewhere)]
    plain = encode_onnx(arrays)
    return [
        plain,
        model(typed),
        model(quantised, traced),
        model(quantised, [node("DequantizeLinear", ["w_quantized", "s", "z"], ["w"], attribute("axis", 1))]),
        model(single, [node("Gather", ["w", "ids"], ["g"]), node("DequantizeLinear", ["g", "s", "z"], ["f"])]),
        model(
            single, [node("Cast", ["w"], ["f"]), node("Sub", ["f", "z"], ["c"]), node("Mul", ["c", "s"], ["a.weight"])]
        ),
        model(quantised, [node("QLinearMatMul", ["x", "xs", "xz", "w_quantized", "s", "z"], ["y"])]),
        model(
            [],
            [
                node("Constant", [], ["a.weight"], attribute("value", tensor("", by_hand["w"]))),
                node("Identity", ["a.weight"], ["b.weight"]),
            ],
        ),
        model(
            [tensor("onnx::MatMul_1", by_hand["w"])],
            [node("Gemm", ["x", "onnx::MatMul_1"], ["y"], attribute("transB", 1), name="/a/b/Gemm")],
        ),
        model(spread),
        model([tensor("a.weight", by_hand["w"], external={"location": "../beside"})]),
        model([tensor("a.weight", by_hand["w"], external={"location": "nowhere"})]),
        model([run(1, varint(1 << 40)) + whole(2, 1) + run(8, "huge")]),
        model([run(1, varint(3)) + whole(2, 8) + run(8, "text")]),
        plain[:-9],
        whole(1, 10) + run(2, "no graph"),
    ]


def npz_seeds() -> list[bytes]:
    """Archives stored and deflated, and arrays with headers of every kind."""
    arrays: dict[str, AnyArray] = {"a.weight": np.ones((2, 3), dtype=np.float32), "b": np.array(1, dtype=np.int64)}
    turned = np.arange(6, dtype=np.float16).reshape(2, 3)
    return [
        encode_npz(arrays),
        encode_npz(arrays, deflate=True),
        write_zip({"a.npy": encode_npy(turned, columns=True, version=2), "b.npy": encode_npy(turned, version=3)}),
        *(write_zip({"a.npy": pack_npy(head, bytes(12))}) for head in _HEADS),
        write_zip({"a.npy": pack_npy(_HEADS[0], bytes(12), length=9999)}),
        write_zip({"a.npy": pack_npy(_HEADS[0], bytes(11))}),
        write_zip({"a.npy": b"\x93NUMPY"}),
        encode_npz(arrays)[:-4],
    ]


def mutate_onnx(data: bytes, random: Random) -> bytes:
    """Change a field somewhere in the tree of messages, lengths around it put right; now and then only bytes."""
    from tests.fuzz.mutators import mutate_bytes

    if random.random() < 0.2:
        return mutate_bytes(data, random)
    for _ in range(random.randrange(1, 4)):
        changed = _mutate_message(data, random, 0)
        data = changed if changed is not None else mutate_bytes(data, random)
    return data


def _mutate_message(data: bytes, random: Random, depth: int) -> bytes | None:
    """The message with one field changed; ``None`` if the bytes are no message."""
    fields = _split(data)
    if not fields:
        return None
    place = random.randrange(len(fields))
    number, kind, body = fields[place]
    match random.randrange(12):
        case 0:
            del fields[place]
        case 1:
            fields.insert(random.randrange(len(fields) + 1), fields[place])
        case 2:
            fields[place] = (random.randrange(1, 26), kind, body)
        case 3:
            other = random.randrange(len(fields))
            fields[place], fields[other] = fields[other], fields[place]
        case _:
            fields[place] = (number, kind, _mutate_body(kind, body, random, depth))
    return b"".join(_join(field) for field in fields)


def _mutate_body(kind: int, body: bytes, random: Random, depth: int) -> bytes:
    if kind == 0:
        return varint(random.choice(_VALUES))
    if kind != 2:
        return random.randbytes(len(body))
    if depth < _MOST_NESTED and random.random() < 0.8 and (changed := _mutate_message(body, random, depth + 1)):
        return changed
    if random.random() < 0.4:
        return random.choice(_TEXTS)
    cut = random.randrange(len(body) + 1)
    return body[:cut] + random.randbytes(random.randrange(3)) + body[cut + random.randrange(3) :]


def _split(data: bytes) -> list[tuple[int, int, bytes]]:
    """Fields as (number, wire type, body); empty if the bytes are no message to the end."""
    fields: list[tuple[int, int, bytes]] = []
    place = 0
    while place < len(data):
        tag, place = _read(data, place)
        kind = tag & 7
        if kind == 0:
            start = place
            _, place = _read(data, place)
        elif kind == 2:
            length, place = _read(data, place)
            start, place = place, place + length
        elif kind in (1, 5):
            start, place = place, place + (8 if kind == 1 else 4)
        else:
            return []
        if not tag >> 3 or place > len(data):
            return []
        fields.append((tag >> 3, kind, data[start:place]))
    return fields


def _read(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data):
        value |= (data[place] & 0x7F) << shift
        shift += 7
        place += 1
        if data[place - 1] < 0x80:
            return value, place
    return 0, len(data) + 1


def _join(field: tuple[int, int, bytes]) -> bytes:
    number, kind, body = field
    return varint(number << 3 | kind) + (varint(len(body)) if kind == 2 else b"") + body


def mutate_npz(data: bytes, random: Random) -> bytes:
    """Change one array of the archive, its header or its name; or the archive itself."""
    from tests.fuzz.mutators import mutate_bytes, mutate_zip

    if random.random() < 0.3:
        return mutate_zip(data, random)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {entry.filename: archive.read(entry) for entry in archive.infolist() if entry.file_size < 1 << 16}
    except Exception:  # what is no archive any more is mutated as bytes
        return mutate_bytes(data, random)
    if not members:
        return mutate_bytes(data, random)
    name = random.choice(list(members))
    block = members[name]
    match random.randrange(5):
        case 0:
            members[name] = pack_npy(random.choice(_HEADS), block[-24:])
        case 1:
            members[random.choice(("b.npy", ".npy", "a", "a/data.pkl", "x" * 1001 + ".npy"))] = members.pop(name)
        case 2:
            end = block.find(b"\n") + 1
            head = block[10:end].strip()
            members[name] = pack_npy(mutate_bytes(head, random), block[end:], version=random.choice((1, 2, 3, 4)))
        case _:
            members[name] = mutate_bytes(block, random)
    return write_zip(members, [name] if random.random() < 0.3 else ())
