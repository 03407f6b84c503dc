"""GGUF: every kind of block as the gguf package decodes it, whole and by row; metadata, pieces, and the undoing of the conversion."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.gguf_writer import GGUFWriter
from gguf.quants import dequantize, quantize
from hypothesis import given
from hypothesis import strategies as st
from tests.checkpoint.gguf_writer import Stored, encode_gguf, plain

from homolog.checkpoint.base import Checkpoint
from homolog.checkpoint.gguf.blocks import KINDS
from homolog.checkpoint.gguf.undo import Undo
from homolog.checkpoint.open import open_checkpoint
from homolog.errors import IncompleteCheckpoint, MalformedCheckpoint, UnsupportedFormat

BLOCKS = {kind.name: kind for kind in KINDS.values() if kind.block > 1 and kind.storage is not None}


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def same(read: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    np.testing.assert_array_equal(read, expected)
    assert read.dtype == np.float32


def test_kinds_are_those_of_the_gguf_package() -> None:
    assert {number: (kind.name, kind.block, kind.itemsize) for number, kind in KINDS.items()} == {
        kind.value: (kind.name, *GGML_QUANT_SIZES[kind]) for kind in GGMLQuantizationType
    }


def test_only_what_the_package_cannot_decode_is_named_and_not_read() -> None:
    for kind in KINDS.values():
        try:
            dequantize(np.zeros((1, kind.itemsize), dtype=np.uint8), GGMLQuantizationType[kind.name])
        except NotImplementedError:
            assert kind.name in ("Q8_1", "Q8_K", "Q1_0", "I8", "I16", "I32", "I64", "F64")
        else:
            assert kind.storage is not None


@pytest.mark.parametrize("kind", BLOCKS)
def test_blocks_are_read_as_the_package_decodes_them(tmp_path: Path, kind: str) -> None:
    dtype = BLOCKS[kind]
    rng = np.random.default_rng(len(kind))
    rows, across = 37, 3
    raw = rng.integers(0, 256, (rows, across * dtype.itemsize), dtype=np.uint8)
    stack = rng.integers(0, 256, (3, 4, dtype.itemsize), dtype=np.uint8)
    tensors = [
        Stored("w", (rows, across * dtype.block), kind, raw.tobytes()),
        Stored("stack", (3, 4, dtype.block), kind, stack.tobytes()),
        Stored("v", (2 * dtype.block,), kind, raw.tobytes()[: 2 * dtype.itemsize]),
    ]
    with np.errstate(all="ignore"):
        expected = dequantize(raw, GGMLQuantizationType[kind])
        experts = dequantize(stack, GGMLQuantizationType[kind])
    with open_checkpoint(write(tmp_path / "m.gguf", encode_gguf({}, tensors))) as checkpoint:
        info = checkpoint.tensors["w"]
        assert (info.shape, info.dtype, info.nbytes) == (expected.shape, kind, raw.size)
        assert info.real
        same(checkpoint.read_rows("w"), expected)
        for start, stop in ((0, 1), (5, 9), (36, 37), (7, 7)):
            same(checkpoint.read_rows("w", start, stop), expected[start:stop])
        ids = [36, 0, 3, 3, 20]
        same(checkpoint.read_rows_at("w", ids), expected[ids])
        same(checkpoint.read_block("stack", (2,), 1, 3), experts[2, 1:3])
        same(checkpoint.read_rows("stack", 1, 2), experts[1:2])
        same(checkpoint.read_rows("v"), checkpoint.read_rows("w", 0, 1)[0, : 2 * dtype.block])
        same(
            checkpoint.read_rows("v", dtype.block - 1, dtype.block + 1), expected[0, dtype.block - 1 : dtype.block + 1]
        )
        assert checkpoint.read_bytes("w", 2, 4) == raw[2:4].tobytes()


@pytest.mark.parametrize("kind", ["Q4_0", "Q6_K", "IQ4_XS"])
def test_rows_are_read_by_the_blocks_they_lie_in(tmp_path: Path, kind: str) -> None:
    dtype = BLOCKS[kind]
    wide = 40
    tensor = Stored("w", (64, wide * dtype.block), kind, bytes(64 * wide * dtype.itemsize))
    with open_checkpoint(write(tmp_path / "m.gguf", encode_gguf({}, [tensor]))) as checkpoint:
        before = checkpoint.meter.bytes
        checkpoint.read_rows("w", 10, 12)
        assert checkpoint.meter.bytes - before == 2 * wide * dtype.itemsize
        checkpoint.read_rows_at("w", [0, 63])
        assert checkpoint.meter.bytes - before == 4 * wide * dtype.itemsize


@pytest.mark.parametrize(("kind", "error"), [("Q8_0", 0.01), ("Q5_1", 0.06), ("Q4_0", 0.12)])
def test_what_the_package_quantised_is_read_back_nearly(tmp_path: Path, kind: str, error: float) -> None:
    weights = np.random.default_rng(0).standard_normal((8, 256)).astype(np.float32)
    path = tmp_path / "m.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_array("tokenizer.ggml.tokens", ["a", "é"])
    writer.add_tensor("w", quantize(weights, GGMLQuantizationType[kind]), raw_dtype=GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.config == {"model_type": "llama", "num_hidden_layers": 1}
        assert checkpoint.tokenizer is not None
        assert checkpoint.tokenizer.tokens == [b"a", "é".encode()]
        assert checkpoint.notes == (f"quantised tensors: 1 as {kind}",)
        assert np.abs(checkpoint.read_rows("w") - weights).mean() < error


def test_metadata_of_every_kind(tmp_path: Path) -> None:
    from tests.fuzz.targets import BytesSource

    from homolog.checkpoint.gguf.header import read_gguf

    given_: dict[str, Any] = {
        "flag": True,
        "count": 7,
        "negative": -7,
        "real": 0.5,
        "text": "größer",
        "texts": ["a", "", "é"],
        "flags": np.array([True, False]),
        "nested": [[1, 2], []],
        **{f"numbers.{letter}": np.array([1, 2], dtype=letter) for letter in "bBhHiIqQfd"},
    }
    _, read = read_gguf(BytesSource(encode_gguf(given_, [], version=2)))
    assert read["texts"] == [b"a", b"", "é".encode()]
    assert [list(inner) for inner in read["nested"]] == [[1, 2], []]
    for key, value in given_.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(read[key], value)
        elif key not in ("texts", "nested"):
            assert read[key] == value


@given(alignment=st.sampled_from([8, 32, 64, 4096]), lengths=st.lists(st.integers(0, 50), max_size=5))
def test_tensors_lie_at_their_alignment(
    tmp_path_factory: pytest.TempPathFactory, alignment: int, lengths: list[int]
) -> None:
    tensors = [plain(f"t{n}", np.full(length, n, dtype=np.float32)) for n, length in enumerate(lengths)]
    data = encode_gguf({"general.alignment": alignment}, tensors, alignment=alignment)
    path = write(tmp_path_factory.getbasetemp() / "aligned.gguf", data)
    with open_checkpoint(path) as checkpoint:
        for n, length in enumerate(lengths):
            same(checkpoint.read_rows(f"t{n}"), np.full(length, n, dtype=np.float32))


def piece(number: int, count: int, name: str, tensors: int = 2) -> bytes:
    metadata = {"split.no": number, "split.count": count, "split.tensors.count": tensors}
    return encode_gguf(metadata, [plain(name, np.full(3, number, dtype=np.float32))])


def test_pieces_are_joined(tmp_path: Path) -> None:
    for number in (0, 1):
        write(tmp_path / f"m-{number + 1:05}-of-00002.gguf", piece(number, 2, f"w{number}"))
    with open_checkpoint(tmp_path) as checkpoint:
        assert list(checkpoint.tensors) == ["w0", "w1"]
        same(checkpoint.read_rows("w1"), np.ones(3, dtype=np.float32))
    with open_checkpoint(tmp_path / "m-00001-of-00002.gguf") as checkpoint:
        assert "one of 2 pieces" in checkpoint.notes[0]


def test_pieces_of_different_models_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "m-00001-of-00002.gguf", piece(0, 2, "a"))
    second = write(tmp_path / "m-00002-of-00002.gguf", piece(0, 2, "b"))
    with pytest.raises(MalformedCheckpoint, match=r"split\.no"):
        open_checkpoint(tmp_path)
    write(second, piece(1, 2, "b", tensors=3))
    write(tmp_path / "m-00001-of-00002.gguf", piece(0, 2, "a", tensors=3))
    with pytest.raises(IncompleteCheckpoint, match=r"split\.tensors"):
        open_checkpoint(tmp_path)
    second.unlink()
    with pytest.raises(IncompleteCheckpoint, match="1 of 2 pieces"):
        open_checkpoint(tmp_path)


def test_one_format_and_one_quantisation_is_chosen_and_said(tmp_path: Path) -> None:
    small, large = (encode_gguf({}, [plain("w", np.zeros(size, dtype=np.float32))]) for size in (4, 400))
    write(tmp_path / "tiny-Q4_K_M.gguf", small)
    write(tmp_path / "tiny-BF16.gguf", large)
    write(tmp_path / "mmproj-tiny-F16.gguf", large)
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.tensors["w"].shape == (400,)
        assert "tiny-BF16.gguf, the largest, was chosen; tiny-Q4_K_M.gguf lies beside it" in checkpoint.notes[0]
    fixture = Path(__file__).parent.parent / "zoo" / "a"
    for file in ("model.safetensors", "config.json"):
        shutil.copy(fixture / file, tmp_path / file)
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.format == "safetensors"
        assert "was chosen; tiny-BF16.gguf" in checkpoint.notes[0]


def converted(tmp_path: Path, architecture: str, tensors: list[Stored], **sizes: Any) -> Checkpoint:
    metadata = {"general.architecture": architecture} | {f"{architecture}.{key}": value for key, value in sizes.items()}
    return open_checkpoint(write(tmp_path / f"{architecture}.gguf", encode_gguf(metadata, tensors)))


def permute(weights: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """As the converter does it: conversion/llama.py, ``LlamaModel.permute``."""
    halves = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weights.shape))


@given(heads=st.integers(1, 5), half=st.integers(1, 6), data=st.data())
def test_rotary_pairs_come_back_in_halves(
    tmp_path_factory: pytest.TempPathFactory, heads: int, half: int, data: st.DataObject
) -> None:
    rows = 2 * heads * half
    weights = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    same(permute(weights, heads)[Undo(heads=heads).order(rows)], weights)
    tensors = [
        plain("blk.0.attn_q.weight", permute(weights, heads)),
        plain("blk.0.attn_k.bias", permute(weights[:, 0], heads)),
        plain("blk.0.attn_v.weight", weights),
    ]
    folder = tmp_path_factory.getbasetemp()
    sizes = {"attention.head_count": heads, "attention.head_count_kv": np.array([heads], dtype=np.uint32)}
    with converted(folder, "llama", tensors, **sizes) as checkpoint:
        start = data.draw(st.integers(0, rows))
        stop = data.draw(st.integers(start, rows))
        ids = data.draw(st.lists(st.integers(0, rows - 1), max_size=8))
        same(checkpoint.read_rows("blk.0.attn_q.weight", start, stop), weights[start:stop])
        same(checkpoint.read_rows_at("blk.0.attn_q.weight", ids), weights[ids])
        same(checkpoint.read_rows("blk.0.attn_k.bias"), weights[:, 0])
        same(checkpoint.read_rows("blk.0.attn_v.weight"), weights)
        same(checkpoint.read_block("blk.0.attn_q.weight", (start % rows,)), weights[start % rows])
        assert checkpoint.read_bytes("blk.0.attn_q.weight", start, stop) == weights[start:stop].tobytes()
        for bad in ((-1, 1), (0, rows + 1)):
            with pytest.raises(IndexError):
                checkpoint.read_rows("blk.0.attn_q.weight", *bad)
        with pytest.raises(IndexError):
            checkpoint.read_rows_at("blk.0.attn_q.weight", [rows])
    with converted(folder, "qwen2", tensors[:1], **sizes) as checkpoint:
        same(checkpoint.read_rows("blk.0.attn_q.weight"), permute(weights, heads))


def test_norms_lose_the_one_that_was_added(tmp_path: Path) -> None:
    gain = np.array([0.25, -1.0, 3.0], dtype=np.float32)
    tensors = [plain("blk.0.attn_norm.weight", gain + 1), plain("output_norm.bias", gain)]
    for architecture, added in (("gemma3", 0), ("gemma4", 1), ("llama", 1)):
        with converted(tmp_path, architecture, tensors) as checkpoint:
            same(checkpoint.read_rows("blk.0.attn_norm.weight"), gain + np.float32(added))
            same(checkpoint.read_rows_at("output_norm.bias", [2]), gain[2:])


def test_the_gate_of_the_shared_expert_is_a_row(tmp_path: Path) -> None:
    gate = plain("blk.0.ffn_gate_inp_shexp.weight", np.arange(4, dtype=np.float32))
    with converted(tmp_path, "qwen2moe", [gate]) as checkpoint:
        assert checkpoint.tensors[gate.name].shape == (1, 4)
        same(checkpoint.read_rows(gate.name), np.arange(4, dtype=np.float32)[None])


def test_sizes_of_latent_attention_are_not_taken_for_heads(tmp_path: Path) -> None:
    sizes = {"attention.head_count": 16, "attention.head_count_kv": 1, "attention.key_length": 576}
    with converted(tmp_path, "deepseek2", [], **sizes, **{"attention.kv_lora_rank": 512}) as checkpoint:
        assert checkpoint.config == {"model_type": "deepseek2", "num_attention_heads": 16}


def test_kinds_that_are_only_named_say_so(tmp_path: Path) -> None:
    data = encode_gguf({}, [Stored("w", (256,), "Q8_K", bytes(292))])
    with (
        open_checkpoint(write(tmp_path / "m.gguf", data)) as checkpoint,
        pytest.raises(UnsupportedFormat, match="Q8_K"),
    ):
        checkpoint.read_rows("w")


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.booleans(), st.data())
def test_heads_of_a_latent_are_read_as_units(
    tmp_path_factory: pytest.TempPathFactory, heads: int, keys: int, latent: int, flat: bool, data: st.DataObject
) -> None:
    rows = heads * keys
    weights = np.arange(rows * latent, dtype=np.float32).reshape(heads, keys, latent)
    turned, units = weights.swapaxes(1, 2), weights.reshape(rows, latent)
    stored = turned.reshape(heads * latent, keys) if flat else turned
    tensors = [plain("blk.0.attn_k_b.weight", stored), plain("blk.0.attn_v_b.weight", units if flat else weights)]
    with converted(
        tmp_path_factory.getbasetemp(), "deepseek2", tensors, **{"attention.head_count": heads}
    ) as checkpoint:
        start = data.draw(st.integers(0, rows))
        stop = data.draw(st.integers(start, rows))
        ids = data.draw(st.lists(st.integers(0, rows - 1), max_size=8))
        for name in ("blk.0.attn_k_b.weight", "blk.0.attn_v_b.weight"):
            assert checkpoint.tensors[name].shape == (rows, latent)
            same(checkpoint.read_rows(name, start, stop), units[start:stop])
            same(checkpoint.read_rows_at(name, ids), units[ids])
            with pytest.raises(IndexError):
                checkpoint.read_rows(name, 0, rows + 1)
        assert checkpoint.read_bytes("blk.0.attn_v_b.weight", start, stop) == units[start:stop].tobytes()
        pieces = [checkpoint.read_bytes("blk.0.attn_k_b.weight", row, row + 1) for row in range(rows)]
        assert b"".join(pieces) == stored.tobytes()


def test_quantised_heads_of_a_latent_are_read_as_units(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((2, 6, 32)).astype(np.float32)
    stored = quantize(weights, GGMLQuantizationType.Q8_0)
    tensor = Stored("blk.3.attn_k_b.weight", weights.shape, "Q8_0", stored.tobytes())
    with converted(tmp_path, "deepseek2", [tensor]) as checkpoint:
        exact = dequantize(stored, GGMLQuantizationType.Q8_0).swapaxes(1, 2).reshape(64, 6)
        same(checkpoint.read_rows("blk.3.attn_k_b.weight", 30, 35), exact[30:35])
        assert checkpoint.nbytes == len(stored.tobytes())
