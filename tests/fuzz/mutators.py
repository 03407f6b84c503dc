"""Mutations that keep a file's outer shape, so that the fuzzer reaches what lies behind the first checks."""

from __future__ import annotations

import io
import json
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable
from random import Random

from tests.checkpoint.writers import call, name, number, pack_safetensors, several, text, write_zip
from tests.fuzz.graphs import mutate_npz, mutate_onnx
from tests.fuzz.sketches import mutate_sketch

Mutate = Callable[[bytes, Random], bytes]

_NUMBERS: tuple[object, ...] = (
    0,
    1,
    2,
    3,
    4,
    8,
    255,
    256,
    1 << 31,
    (1 << 32) - 1,
    1 << 40,
    (1 << 63) - 1,
    1 << 63,
    10**19,
    -1,
    True,
    1.5,
    "2",
    None,
    [],
    {},
)
_KINDS = ("F32", "F16", "BF16", "U8", "I64", "BOOL", "F8_E4M3", "F4", "F6_E2M3", "C64", "f32", "")
_NAMES = ("a", "b", "module.a", "__metadata__", "", "x" * 1001, "\ud83d", "../x", "one.safetensors", "/etc/passwd")
_OPCODES = (
    *(bytes([code]) for code in b"(012N)]}tldaesuRbQ.i\x85\x86\x87\x88\x93\x94"),
    *(b"K\x01", b"M\x00\x01", b"G\0\0\0\0\0\0\0\0", b"C\x00", b"\x8a\x01\x05", b"\x8b\xff\xff\xff\x7f", b"\x82\x01"),
    *(b"X\xff\xff\xff\xff", b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x95\0\0\0\0\0\0\0\0"),
    *(b"q\x00", b"h\x00", b"p0\n", b"g0\n", b"g99\n"),
    *map(text, ("storage", "cpu", "state_dict", "0")),
    *map(number, (-1, 1 << 70, 6)),
    *map(
        name,
        (
            "torch.FloatStorage",
            "torch.float8_e5m2",
            "torch.Tensor",
            "torch.Size",
            "collections.OrderedDict",
            "builtins.eval",
        ),
    ),
    *(name(f"torch._utils._rebuild_{kind}") for kind in ("tensor_v2", "tensor_v3", "parameter")),
    call("collections.OrderedDict"),
    *(several(number(first), number(second)) for first, second in ((2, 3), (3, 1), (0, 0))),
)


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """Flip, cut, repeat, or overwrite with a telling number."""
    if not data:
        return bytes([random.randrange(256)])
    place = random.randrange(len(data))
    width = random.choice((1, 2, 4, 8))
    match random.randrange(5):
        case 0:
            return data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]
        case 1:
            return data[:place] + data[place + random.randrange(1, 17) :]
        case 2:
            return data[:place] + data[place : place + random.randrange(1, 17)] + data[place:]
        case 3:
            limit = (1 << (8 * width)) - 1
            telling = random.choice((0, 1, limit, limit >> 1, len(data), place)) & limit
            return data[:place] + telling.to_bytes(width, "little") + data[place + width :]
        case _:
            return data[:place] + random.randbytes(width) + data[place:]


def mutate_safetensors(data: bytes, random: Random) -> bytes:
    kind, body = data[:1], data[1:]
    if random.random() < 0.25:
        return mutate_bytes(data, random)
    try:
        start = 0 if kind in (b"i", b"c") else 8
        end = len(body) if kind in (b"i", b"c") else 8 + int.from_bytes(body[:8], "little")
        document = json.loads(body[start:end])
    except (ValueError, RecursionError):
        return mutate_bytes(data, random)
    for _ in range(random.randrange(1, 4)):
        document = _mutate_json(document, random)
    encoded = json.dumps(document).encode("utf-8", "replace")
    if random.random() < 0.2:
        encoded = mutate_bytes(encoded, random)
    return kind + (encoded if start == 0 else pack_safetensors(encoded, body[end:]))


def _mutate_json(value: object, random: Random) -> object:
    """Change one place somewhere in the document."""
    if isinstance(value, dict) and value and random.random() < 0.9:
        return _mutate_object(value, random)
    if isinstance(value, list) and value and random.random() < 0.9:
        return _mutate_list(value, random)
    if isinstance(value, str):
        return random.choice((*_KINDS, *_NAMES))
    if isinstance(value, int) and random.random() < 0.6:
        return value + random.choice((-2, -1, 1, 2, 4, 8))
    return random.choice(_NUMBERS)


def _mutate_object(value: dict[str, object], random: Random) -> object:
    changed = dict(value)
    key = random.choice(list(changed))
    match random.randrange(8):
        case 0:
            del changed[key]
        case 1:
            changed[random.choice(_NAMES)] = changed.pop(key)
        case 2:
            changed[random.choice(_NAMES)] = changed[key]
        case _:
            changed[key] = _mutate_json(changed[key], random)
    return changed


def _mutate_list(value: list[object], random: Random) -> object:
    place = random.randrange(len(value))
    match random.randrange(7):
        case 0:
            return value[:place] + value[place + 1 :]
        case 1:
            return [*value, value[place]]
        case _:
            return [*value[:place], _mutate_json(value[place], random), *value[place + 1 :]]


def mutate_pickle(data: bytes, random: Random) -> bytes:
    """Delete, repeat, swap or insert whole opcodes; now and then only bytes."""
    if random.random() < 0.2:
        return mutate_bytes(data, random)
    places = [0]
    try:
        places += [place for _, _, place in pickletools.genops(data) if place]
    except Exception:  # what is no pickle any more is cut at random
        places += sorted(random.randrange(len(data) + 1) for _ in range(4))
    opcodes = [data[start:stop] for start, stop in zip(places, [*places[1:], len(data)], strict=True)]
    for _ in range(random.randrange(1, 4)):
        here, there = random.randrange(len(opcodes)), random.randrange(len(opcodes))
        match random.randrange(5):
            case 0:
                del opcodes[here : here + 1]
                opcodes = opcodes or [b"."]
            case 1:
                opcodes[there:there] = opcodes[here : here + random.randrange(1, 6)]
            case 2:
                opcodes[here], opcodes[there] = opcodes[there], opcodes[here]
            case 3:
                opcodes.insert(here, random.choice(_OPCODES))
            case _:
                opcodes[here] = random.choice((mutate_bytes(opcodes[here], random), random.choice(_OPCODES)))
    return b"".join(opcodes)


def mutate_zip(data: bytes, random: Random) -> bytes:
    if random.random() < 0.4:
        return _mutate_directory(data, random)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {entry.filename: archive.read(entry) for entry in archive.infolist() if entry.file_size < 1 << 16}
    except Exception:  # what is no archive any more is mutated as bytes
        return mutate_bytes(data, random)
    if not members:
        return mutate_bytes(data, random)
    member = random.choice(list(members))
    if member.endswith("data.pkl") or random.random() < 0.5:
        member = next((other for other in members if other.endswith("data.pkl")), member)
        members[member] = mutate_pickle(members[member], random)
    elif random.random() < 0.5:
        members[member] = mutate_bytes(members[member], random)
    else:
        members[
            random.choice(("archive/data.pkl", "archive/data/0", "archive/data/1", "archive/byteorder", "b/data.pkl"))
        ] = members.pop(member)
    return write_zip(members, [member] if random.random() < 0.2 else ())


def _mutate_directory(data: bytes, random: Random) -> bytes:
    """Overwrite a field of a header, an entry or the end record."""
    marks = (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07")
    mark = random.choice(marks)
    starts = [match.start() for match in re.finditer(re.escape(mark), data)]
    if not starts:
        return mutate_bytes(data, random)
    place = random.choice(starts) + random.randrange(4, 46)
    width = random.choice((1, 2, 4, 8))
    limit = (1 << (8 * width)) - 1
    present = int.from_bytes(data[place : place + width], "little")
    telling = random.choice((0, 1, 8, limit, present + 1, present - 1, len(data))) & limit
    return data[:place] + telling.to_bytes(width, "little") + data[place + width :]


def mutate_legacy(data: bytes, random: Random) -> bytes:
    """Mutate one of the five pickles, or the counts and storages behind them."""
    stream = io.BytesIO(data)
    cuts = [0]
    try:
        for _ in range(5):
            for _ in pickletools.genops(stream):
                pass
            cuts.append(stream.tell())
    except Exception:  # what is no pickle any more ends the run of pickles
        pass
    if len(cuts) == 1:
        return mutate_pickle(data, random)
    parts = [data[start:stop] for start, stop in zip(cuts, [*cuts[1:], len(data)], strict=True)]
    place = random.choices(range(len(parts)), weights=[1, 1, 1, 8, 3, 4][: len(parts)])[0]
    if place == 5:
        tail = parts[place]
        count = random.choice((-1, 0, 1, 3, 6, 1 << 40, (1 << 63) - 1))
        parts[place] = mutate_bytes(tail, random) if random.random() < 0.5 else struct.pack("<q", count) + tail[8:]
    else:
        parts[place] = mutate_pickle(parts[place], random)
    return b"".join(parts)


_GGUF_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_GGUF_NUMBERS = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    9,
    12,
    13,
    16,
    31,
    32,
    33,
    64,
    255,
    1 << 20,
    1 << 31,
    1 << 32,
    1 << 60,
    (1 << 64) - 1,
)
_GGUF_TEXTS = (
    *(
        b"",
        b"\xff\xfe",
        b"general.architecture",
        b"llama",
        b"gemma",
        b"qwen2",
        b"general.alignment",
        b"split.no",
        b"split.count",
    ),
    *(
        b"llama.attention.head_count",
        b"llama.attention.head_count_kv",
        b"tokenizer.ggml.tokens",
        b"tokenizer.ggml.merges",
    ),
    *(
        b"tokenizer.ggml.token_type",
        b"blk.0.attn_q.weight",
        b"blk.0.attn_k.bias",
        b"blk.1.attn_norm.weight",
        b"x" * 1001,
    ),
    *(b"blk.99999999999.attn_q.weight", b"<0xC0>", b"[PAD1]", b"a b", "\u2581a".encode()),
)


class _GgufFields:
    """Where the numbers and strings of a GGUF header lie, as far as the header can be followed."""

    def __init__(self, data: bytes) -> None:
        self.numbers: list[tuple[int, int]] = [(4, 4)]
        self.texts: list[tuple[int, int]] = []
        """From the start of the length to the end of the string."""
        self._data, self._place = data, 8
        try:
            tensors, keys = self._number(8), self._number(8)
            for _ in range(min(keys, 100)):
                self._text()
                self._value(self._number(4), 0)
            for _ in range(min(tensors, 100)):
                self._text()
                for _ in range(min(self._number(4), 8)):
                    self._number(8)
                self._number(4)
                self._number(8)
        except EOFError:
            pass

    def _number(self, width: int) -> int:
        place = self._place
        self._place += width
        if self._place > len(self._data):
            raise EOFError
        self.numbers.append((place, width))
        return int.from_bytes(self._data[place : self._place], "little")

    def _text(self) -> None:
        start = self._place
        self._place += self._number(8)
        if self._place > len(self._data):
            raise EOFError
        self.texts.append((start, self._place))

    def _value(self, kind: int, depth: int) -> None:
        if kind == 8:
            self._text()
        elif kind == 9 and depth < 8:
            inner = self._number(4)
            for _ in range(min(self._number(8), 100)):
                self._value(inner, depth + 1)
        else:
            self._number(_GGUF_WIDTHS.get(kind, 1 << 62))


def mutate_gguf(data: bytes, random: Random) -> bytes:
    """Overwrite numbers of the header, replace strings, repeat or drop what lies between two of them."""
    if random.random() < 0.15:
        return mutate_bytes(data, random)
    fields = _GgufFields(data)
    if random.random() < 0.3 and fields.texts:
        start, stop = random.choice(fields.texts)
        text = random.choice(_GGUF_TEXTS)
        return data[:start] + struct.pack("<Q", len(text)) + text + data[stop:]
    if random.random() < 0.2 and len(fields.texts) > 1:
        first, second = sorted(random.sample(fields.texts, 2))
        part = data[first[0] : second[0]]
        return data[: first[0]] + part * random.choice((0, 2)) + data[second[0] :]
    place, width = random.choice(fields.numbers)
    present = int.from_bytes(data[place : place + width], "little")
    telling = random.choice((*_GGUF_NUMBERS, present + 1, present - 1, present * 2, len(data))) & (
        (1 << (8 * width)) - 1
    )
    return data[:place] + telling.to_bytes(width, "little") + data[place + width :]


MUTATORS: dict[str, Mutate] = {
    "safetensors": mutate_safetensors,
    "torch_zip": mutate_zip,
    "torch_legacy": mutate_legacy,
    "unpickler": mutate_pickle,
    "onnx": mutate_onnx,
    "npz": mutate_npz,
    "gguf": mutate_gguf,
    "sketch": mutate_sketch,
}
