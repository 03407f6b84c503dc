"""Structured seeds: small files of every kind, well-formed and nearly so."""

from __future__ import annotations

import struct
from itertools import islice

import numpy as np
from tests.checkpoint.gguf_writer import Stored, encode_gguf, plain
from tests.checkpoint.writers import (
    NUMPY_KINDS,
    AnyArray,
    Leaf,
    call,
    encode_index,
    encode_safetensors,
    encode_torch_legacy,
    encode_torch_zip,
    finish,
    legacy_head,
    mapping,
    name,
    number,
    pack_legacy,
    pack_safetensors,
    pack_zip,
    pickle_state,
    several,
    text,
    write_zip,
)
from tests.fuzz.graphs import npz_seeds, onnx_seeds
from tests.fuzz.sketches import make_sketch_seeds


def make_seeds() -> dict[str, list[bytes]]:
    """Inputs by target."""
    pickles = _pickles()
    return {
        "safetensors": _safetensors(),
        "torch_zip": _zips(pickles),
        "torch_legacy": _legacies(pickles),
        "unpickler": pickles,
        "onnx": onnx_seeds(),
        "npz": npz_seeds(),
        "gguf": _ggufs(),
        "sketch": make_sketch_seeds(),
    }


def _safetensors() -> list[bytes]:
    arrays: dict[str, AnyArray] = {kind: np.zeros(2, dtype=dtype) for kind, dtype in NUMPY_KINDS.items()}
    small: dict[str, AnyArray] = {
        "a.weight": np.ones((2, 3), dtype=np.float32),
        "b": np.array(1, dtype=np.float16),
        "none": np.ones((0, 4), dtype=np.int8),
    }
    files = [
        encode_safetensors(arrays),
        encode_safetensors(small, {"format": "pt", "\\u00e9": '{"a": [1]}'}),
        pack_safetensors({}),
        pack_safetensors(b"{} "),
        pack_safetensors({}, length=1 << 40),
        pack_safetensors({"x": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}, b"ab"),
        pack_safetensors({"x": {"dtype": "Q9", "shape": [4], "data_offsets": [0, 2]}}, b"ab"),
        pack_safetensors({"x": {"dtype": "U8", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 2]}}, b"ab"),
        pack_safetensors({"x": {"dtype": "U8", "shape": [-2], "data_offsets": [0, 2]}}, b"ab"),
        pack_safetensors({f"x{i}": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]} for i in range(2)}, b"abc"),
        pack_safetensors(b"[" * 300),
        b"short",
    ]
    indices = [
        encode_index({"a": "one.safetensors", "b": "two.safetensors"}),
        encode_index({"a": "../../etc/passwd"}),
        encode_index({"z": "one.safetensors"}),
        b'{"metadata": {"a": [1, -2.5e3, true, null, {"b": "\\u0041"}], "c": {}}, "weight_map": {}}',
    ]
    configs = [b'{"a": [1, {"b": "c"}], "d": null}', b"[" * 300, b"\xef\xbb\xbf{}", b'"text"']
    return [b"f" + one for one in files] + [b"i" + one for one in indices] + [b"c" + one for one in configs]


def _pickles() -> list[bytes]:
    plain = Leaf("0", "F32", 6, (2, 3), (3, 1))
    turned = Leaf("0", "F32", 6, (3, 2), (1, 3))
    spread = Leaf("1", "BF16", 3, (4, 3), (0, 1))
    fp8 = Leaf("2", "F8_E4M3", 4, (2, 2), (2, 1), dtype="float8_e4m3fn")
    scalar = Leaf("3", "BOOL", 1, (), ())
    view = several(
        text("storage"),
        name("torch.FloatStorage"),
        text("0"),
        text("cpu"),
        number(6),
        several(text("v"), number(2), number(4)),
    )
    over_view = call(
        "torch._utils._rebuild_tensor_v2", view + b"Q", number(0), several(number(4)), several(number(1)), b"\x89", b"N"
    )
    parameter = call("torch._utils._rebuild_parameter", plain.pickle(), b"\x88", mapping([]))
    subclass = call(
        "torch._tensor._rebuild_from_type_v2",
        name("torch._utils._rebuild_parameter"),
        name("torch.nn.parameter.Parameter"),
        several(plain.pickle(), b"\x88", mapping([])),
        b"}",
    )
    numpy_scalar = call(
        "numpy.core.multiarray.scalar",
        call("numpy.dtype", text("f8"), b"\x89", b"\x88") + several(number(3), text("<")) + b"b",
        b"C\x0812345678",
    )
    states: list[object] = [
        {"w": plain, "t": turned, "s": spread, "f": fp8, "b": scalar},
        {"state_dict": {"module.w": plain, "module.n.b": scalar}, "epoch": 3, "best": 0.5},
        {"model": {"a": plain, "p": parameter, "q": subclass, "v": over_view}, "score": numpy_scalar},
        {
            "a": plain,
            "b": {
                "c": {"d": turned, "e": call("torch.device", text("cpu")), "g": call("torch.Size", several(number(1)))}
            },
        },
    ]
    memoised = text("w") + b"q\x00" + b"h\x00" + b"0" + b"2" + plain.pickle() + b"r\x01\0\0\0" + b"s"
    bodies = [
        *(pickle_state(state) for state in states),
        b"}" + b"\x94" + text("k") + b"(\x4b\x01M\x01\x01]\x85(N\x88\x89le1" + several() + b"\x86s",
        b"}(" + b"\x8c\x01a" + plain.pickle() + b"\x8d\x01\0\0\0\0\0\0\0b" + turned.pickle() + b"u}b",
        b"}(" + b"U\x01a" + plain.pickle() + b"T\x01\0\0\0b" + b"C\x01x" + b"d",
        b"}p5\ng5\n" + b"0" + b"j\x05\0\0\0" + b"0" + memoised.replace(b"s", b"s"),
        b"\x95\x08\0\0\0\0\0\0\0" + b"}\x8c\x05torch\x8c\x04Size\x93" + b")R" + b"0" + b"\x8b\x01\0\0\0\x07" + b"0",
        name("os.system") + several(text("true")) + b"R",
        name("builtins.getattr") + b".",
        b"]q\x00" + b"h\x00a" * 20,
        b"}q\x00(" + text("x") + b"h\x00u",
        b"(" * 50,
    ]
    return [
        finish(body, protocol)
        for body, protocol in zip(bodies, [2, 2, 2, 2, 4, 4, 2, 2, 4, 2, 2, 2, 2, 5], strict=True)
    ]


def _latent() -> list[Stored]:
    """Keys and values of latent attention, stored head by head."""
    heads = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    return [
        plain("blk.0.attn_k_b.weight", heads),
        plain("blk.0.attn_v_b.weight", heads),
        plain("blk.1.attn_k_b.weight", heads.reshape(6, 4)),
    ]


def _ggufs() -> list[bytes]:
    model = {
        "general.architecture": "llama",
        "llama.attention.head_count": 2,
        "llama.attention.head_count_kv": np.array([1, 1], dtype=np.uint32),
        "llama.block_count": 2,
        "llama.rope.freq_base": 1e4,
    }
    tokens = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": ["<s>", "Ġa", "b", "[PAD3]"],
        "tokenizer.ggml.token_type": np.array([3, 1, 1, 5], dtype=np.int32),
        "tokenizer.ggml.merges": ["Ġ a"],
    }
    kinds = {"general.alignment": 64, "a": True, "b": [[1, 2], [3]], "c": 2.5, "d": [True, False], "e": -1, "f": ["x"]}
    queries = plain("blk.0.attn_q.weight", np.arange(24, dtype=np.float32).reshape(8, 3))
    keys = plain("blk.1.attn_k.bias", np.ones(4, dtype=np.float16), "F16")
    norm = plain("blk.0.attn_norm.weight", np.zeros(3, dtype=np.uint16), "BF16")
    eighths = Stored("w", (2, 64), "Q8_0", bytes(range(136)))
    vector = Stored("v", (256,), "Q6_K", bytes(210))
    cube = Stored("x", (2, 1, 32), "MXFP4", bytes(range(34)))
    plain_model = encode_gguf(model, [queries, keys, norm])
    return [
        plain_model,
        encode_gguf({**model, **tokens}, [queries]),
        encode_gguf({"general.architecture": "gemma"}, [norm, eighths]),
        encode_gguf({"general.architecture": "deepseek2", "deepseek2.attention.head_count": 2}, _latent()),
        encode_gguf({"tokenizer.ggml.model": "bert", "tokenizer.ggml.tokens": ["a", "\u2581b"]}, []),
        encode_gguf(kinds, [eighths, vector], alignment=64),
        encode_gguf({"split.no": 0, "split.count": 2, "split.tensors.count": 1}, [cube], version=2),
        encode_gguf({}, [plain("s", np.array(1, dtype=np.int8), "I8"), Stored("e", (0, 32), "IQ1_S", b"")]),
        *(encode_gguf({}, [Stored("k", (256,), kind, bytes(300))]) for kind in ("Q8_K", "IQ2_XXS", "TQ1_0", 77)),
        encode_gguf({}, [eighths, vector], offsets=[0, 96]),
        encode_gguf({}, [eighths], counts=(1 << 60, 0)),
        encode_gguf({}, [], version=3 << 24),
        plain_model[:100],
        plain_model[:-40],
    ]


_STORAGES = {"0": struct.pack("<6f", *range(6)), "1": b"\x80\x3f" * 3, "2": b"\x38" * 4, "3": b"\x01"}
_COUNTS = {"0": 6, "1": 3, "2": 4, "3": 1}


def _zips(pickles: list[bytes]) -> list[bytes]:
    whole = pack_zip(pickles[0], _STORAGES)
    arrays: dict[str, AnyArray] = {
        "a": np.ones((2, 3), dtype=np.float32),
        "b": np.arange(4, dtype=np.int64).reshape(2, 2).T,
    }
    return [
        *(pack_zip(pickle, _STORAGES) for pickle in islice(pickles, 7)),
        encode_torch_zip(arrays),
        pack_zip(pickles[0], _STORAGES, order=b"big"),
        pack_zip(pickles[0], _STORAGES, order=None, deflate=["data.pkl"]),
        pack_zip(pickles[0], _STORAGES, deflate=["data/0"]),
        write_zip({"archive/data.pkl": pickles[0], "archive/constants.pkl": b""}),
        write_zip({"word/document.xml": b"<a/>"}),
        whole + b"comment",
        whole[:-5],
        _as_zip64(whole),
    ]


def _as_zip64(archive: bytes) -> bytes:
    """The same archive with its end told in the zip64 records, and one entry's offset in a zip64 field."""
    end = archive.rindex(b"PK\x05\x06")
    _, _, count, _, length, start = struct.unpack("<HHHHII", archive[end + 4 : end + 20])
    directory = bytearray(archive[start : start + length])
    name_length = struct.unpack("<H", directory[28:30])[0]
    field = struct.pack("<HHQ", 1, 8, struct.unpack("<I", directory[42:46])[0])
    directory[30:32] = struct.pack("<H", len(field))
    directory[42:46] = b"\xff" * 4
    directory[46 + name_length : 46 + name_length] = field
    record = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, len(directory), start)
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, start + len(directory), 1)
    last = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return archive[:start] + bytes(directory) + record + locator + last


def _legacies(pickles: list[bytes]) -> list[bytes]:
    arrays: dict[str, AnyArray] = {
        "a": np.ones((2, 3), dtype=np.float32),
        "b": np.arange(4, dtype=np.int64).reshape(2, 2).T,
    }
    used = ("0123", "03", "0", "0", "", "0")
    plain = encode_torch_legacy(arrays)
    one = finish(pickle_state({"w": Leaf("0", "F32", 6, (2, 3), (3, 1))}))
    return [
        *(
            pack_legacy(pickle, {key: _STORAGES[key] for key in keys}, _COUNTS)
            for pickle, keys in zip(pickles[:6], used, strict=True)
        ),
        plain,
        plain[:-3],
        pack_legacy(one, {"0": _STORAGES["0"]}, _COUNTS),
        pack_legacy(one, {"0": _STORAGES["0"]}, {"0": 7}),
        pack_legacy(one, {"9": b""}, {"9": 0}),
        pack_legacy(one, {}, {}),
        pack_legacy(one, {}, {}, head=legacy_head(magic=5)),
        pack_legacy(one, {}, {}, head=legacy_head(protocol=1000)),
        pack_legacy(one, {}, {}, head=legacy_head(little=b"\x89")),
        legacy_head() + one + finish(b"N"),
    ]
