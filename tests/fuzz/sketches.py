"""The target of sketches: a small one, mutated member by member with its digests written anew, must be read or refused."""

from __future__ import annotations

import io
import json
import zipfile
from functools import cache
from random import Random
from typing import Any

from tests.sketch.synthetic import DrawnCheckpoint, qwen_shapes

from homolog.checkpoint.source import Source
from homolog.roles.resolve import resolve
from homolog.sketch.container import MANIFEST, pack
from homolog.sketch.kept_tokens import join_tokens
from homolog.sketch.make import sketch_checkpoint
from homolog.sketch.storage import decode_sketch, encode_sketch
from homolog.sketch.stored import SketchOptions, Stored, TensorDigest

__all__ = ["make_sketch_seeds", "mutate_sketch", "read_sketch_bytes"]

_CONFIG = {
    "model_type": "qwen2",
    "hidden_size": 12,
    "intermediate_size": 10,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "vocab_size": 30,
}
_VALUES: tuple[Any, ...] = (0, 1, -1, 2, 7, 12, 255, 10**6, 2**31, 2**63, 10**19, True, 1.5, None, "x", "", [], {})


@cache
def make_small(seed: int = 0, dimensions: int = 8) -> Stored:
    checkpoint = DrawnCheckpoint(qwen_shapes(layers=2, width=12, ffn=10, kv=4, vocab=30), dict(_CONFIG), seed)
    anatomy = resolve(checkpoint)
    return sketch_checkpoint(checkpoint, anatomy, SketchOptions(0, 8, dimensions), lambda *_: None)


def make_sketch_seeds() -> list[bytes]:
    whole = encode_sketch(make_small())
    digest = TensorDigest("w", "BF16", (2, 3), f"sha256:{'0' * 64}", ("layer 0 ffn.up weight",))
    members = _members(whole)
    odd = json.loads(members[MANIFEST]) | {"version": 2}
    return [
        whole,
        encode_sketch(make_small(1, 16)),
        encode_sketch(make_small().with_tensors((digest,), f"sha256:{'1' * 64}")),
        pack(members | {"more.npy": members["values.npy"]}),
        encode_sketch(make_small(2)),
        pack(members | {MANIFEST: json.dumps(odd).encode()}),
        pack(members | {MANIFEST: b"{}"}),
        whole[:-5],
        b"PK\x03\x04",
    ]


def read_sketch_bytes(source: Source) -> None:
    """Everything that a comparison asks of a sketch before the probes; what was read can be written and read again."""
    stored = decode_sketch(source)
    small = make_small()
    shared = join_tokens(stored.tokens, small.tokens)
    sketch = stored.condensed.unfold(stored.anatomy, shared.ordinary[0], shared.untrained[0])
    assert len(sketch.units) == len(stored.condensed.blocks)
    json.dumps(stored.to_json(), allow_nan=False)
    assert all(stored.limits)
    assert encode_sketch(stored)


def mutate_sketch(data: bytes, random: Random) -> bytes:
    """Change the manifest, an array's header or numbers, or which members there are; now and then only bytes."""
    from tests.fuzz.mutators import mutate_bytes

    if random.random() < 0.15:
        return mutate_bytes(data, random)
    try:
        members = _members(data)
        manifest = json.loads(members[MANIFEST])
    except (ValueError, KeyError, OSError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile):
        return mutate_bytes(data, random)
    name = random.choice(sorted(members))
    match random.randrange(14):
        case 0 | 1 | 2 | 3 | 4:
            for _ in range(random.randrange(1, 4)):
                manifest = _change(manifest, random)
            members[MANIFEST] = json.dumps(manifest).encode()
        case 5:
            del members[name]
        case 6:
            members[random.choice(sorted(members))] = members[name]
        case 7:
            head, rest = members[name][:128], members[name][128:]
            members[name] = mutate_bytes(head, random) + rest
        case 8:
            members[name] = members[name][: random.randrange(len(members[name]) + 1)]
        case _:
            place = random.randrange(128, max(129, len(members[name])))
            members[name] = (members[name][:place] + random.randbytes(4) + members[name][place + 4 :])[
                : len(members[name])
            ]
    packed = pack({MANIFEST: b"{}"} | members)
    return mutate_bytes(packed, random) if random.random() < 0.05 else packed


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist() if entry.filename != "SHA256SUMS"}


def _change(value: Any, random: Random) -> Any:
    """One place somewhere in the document."""
    if isinstance(value, dict) and value and random.random() < 0.95:
        key = random.choice(sorted(value))
        if random.random() < 0.1:
            return {other: inner for other, inner in value.items() if other != key}
        return value | {key: _change(value[key], random)}
    if isinstance(value, list) and value and random.random() < 0.9:
        place = random.randrange(len(value))
        match random.randrange(5):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return [*value, value[place]]
            case _:
                return [*value[:place], _change(value[place], random), *value[place + 1 :]]
    if isinstance(value, int) and random.random() < 0.6:
        return value + random.choice((-2, -1, 1, 2, 4))
    return random.choice(_VALUES)
