"""ONNX models and npz archives that lie: one typed error each, within a second and 200 MB."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from tests.checkpoint.onnx_writers import (
    attribute,
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
from tests.hostile.test_hostile_files import refuse

from homolog.checkpoint.open import open_checkpoint
from homolog.errors import (
    CheckpointError,
    CheckpointNotFound,
    IncompleteCheckpoint,
    MalformedCheckpoint,
    UnsafeCheckpoint,
    UnsupportedFormat,
)

W: AnyArray = np.ones((2, 3), dtype=np.float32)
PLAIN = encode_onnx({"a.weight": W})


def elsewhere(location: str, **more: str) -> bytes:
    return model([tensor("a.weight", W, external={"location": location, **more})])


def one(body: bytes) -> bytes:
    return model([body])


def nested(depth: int) -> bytes:
    """A graph in an attribute of a node of a graph …"""
    graph = b""
    for _ in range(depth):
        graph = run(1, run(4, "If") + run(5, run(1, "then_branch") + run(6, graph)))
    return whole(1, 10) + run(7, graph + run(5, tensor("a.weight", W)))


MODELS: dict[str, tuple[bytes, type[CheckpointError]]] = {
    "data above the folder": (elsewhere("../weights.bin"), UnsafeCheckpoint),
    "data above a subfolder": (elsewhere("data/../../weights.bin"), UnsafeCheckpoint),
    "data at an absolute path": (elsewhere("/etc/passwd"), UnsafeCheckpoint),
    "data at a path of Windows": (elsewhere("..\\weights.bin"), UnsafeCheckpoint),
    "data on a drive of Windows": (elsewhere("C:weights.bin"), UnsafeCheckpoint),
    "data in the folder itself": (elsewhere("."), UnsafeCheckpoint),
    "data nowhere": (elsewhere(""), UnsafeCheckpoint),
    "data under a name with a line feed": (elsewhere("a\nb"), UnsafeCheckpoint),
    "data in a file that is not there": (elsewhere("missing.bin"), IncompleteCheckpoint),
    "data beyond the end of its file": (elsewhere("small.bin", offset="20"), MalformedCheckpoint),
    "data at an offset of 2^63": (elsewhere("small.bin", offset=str(1 << 63)), MalformedCheckpoint),
    "data at a negative offset": (elsewhere("small.bin", offset="-4"), MalformedCheckpoint),
    "data of another length": (elsewhere("small.bin", length="20"), MalformedCheckpoint),
    "data in a folder": (elsewhere("folder"), CheckpointNotFound),
    "a cut file": (PLAIN[:-30], MalformedCheckpoint),
    "a message of 2^40 bytes": (whole(1, 10) + b"\x3a" + varint(1 << 40) + b"x", MalformedCheckpoint),
    "a number that does not end": (whole(1, 10) + b"\x3a" + b"\xff" * 20, MalformedCheckpoint),
    "a group": (whole(1, 10) + run(7, b"\x0b") + b"", MalformedCheckpoint),
    "field number 0": (whole(1, 10) + run(7, b"\x00\x00"), MalformedCheckpoint),
    "a graph that is a number": (whole(1, 10) + whole(7, 5), MalformedCheckpoint),
    "no graph": (whole(1, 10) + run(2, "nothing"), UnsupportedFormat),
    "two graphs": (PLAIN + run(7, b""), UnsupportedFormat),
    "no initialisers": (model([]), MalformedCheckpoint),
    "a name of 1 MB": (one(run(8, "x" * (1 << 20)) + run(9, b"")), MalformedCheckpoint),
    "a name that is no text": (one(run(8, b"\xff\xfe") + run(9, b"")), MalformedCheckpoint),
    "no name": (one(run(1, varint(1)) + whole(2, 1) + run(9, bytes(4))), MalformedCheckpoint),
    "one name twice": (model([tensor("a.weight", W)] * 2), MalformedCheckpoint),
    "100 axes": (one(run(1, varint(1) * 100) + whole(2, 1) + run(8, "a.b") + run(9, bytes(4))), MalformedCheckpoint),
    "2^40 × 2^40 numbers": (one(run(1, varint(1 << 40) * 2) + whole(2, 1) + run(8, "a.b")), MalformedCheckpoint),
    "a negative axis": (one(run(1, varint(-3)) + whole(2, 1) + run(8, "a.b") + run(9, bytes(12))), MalformedCheckpoint),
    "fewer bytes than numbers": (
        one(run(1, varint(3)) + whole(2, 1) + run(8, "a.b") + run(9, bytes(8))),
        MalformedCheckpoint,
    ),
    "raw bytes twice": (one(tensor("a.b", W) + run(9, bytes(24))), MalformedCheckpoint),
    "raw bytes and a typed field": (one(tensor("a.b", W) + run(4, bytes(24))), MalformedCheckpoint),
    "two typed fields": (one(tensor("a.b", W, typed=True) + run(5, b"\x01")), MalformedCheckpoint),
    "the wrong typed field": (
        one(run(1, varint(1)) + whole(2, 1) + run(8, "a.b") + run(7, b"\x01")),
        MalformedCheckpoint,
    ),
    "numbers one by one": (one(run(1, varint(1)) + whole(2, 1) + run(8, "a.b") + b"\x25\0\0\0\0"), UnsupportedFormat),
    "a kind that nobody knows": (
        one(run(1, varint(1)) + whole(2, 99) + run(8, "a.b") + run(9, b"a")),
        UnsupportedFormat,
    ),
    "strings": (one(run(1, varint(1)) + whole(2, 8) + run(8, "a.b")), UnsupportedFormat),
    "four-bit integers": (one(run(1, varint(2)) + whole(2, 22) + run(8, "a.b") + run(9, b"a")), UnsupportedFormat),
    "a segment": (one(run(3, b"") + tensor("a.b", W)), UnsupportedFormat),
    "integers that take more steps than are allowed": (
        one(run(1, varint(140_000)) + whole(2, 3) + run(8, "a.b") + run(5, b"\x00" * 140_000)),
        MalformedCheckpoint,
    ),
}


@pytest.mark.parametrize("what", MODELS)
def test_models(tmp_path: Path, what: str) -> None:
    data, kind = MODELS[what]
    (tmp_path / "small.bin").write_bytes(bytes(24))
    (tmp_path / "folder").mkdir()
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    refuse(path, kind)


def test_more_fields_than_any_model_has_are_refused_within_a_second(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(whole(1, 10) + run(7, b"\x78\x00" * 400_000))
    started = time.process_time()
    with pytest.raises(MalformedCheckpoint, match="fields"):
        open_checkpoint(path)
    assert time.process_time() - started < 1


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_data_behind_a_link_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(24))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.bin").symlink_to(tmp_path / "secret")
    (folder / "model.onnx").write_bytes(elsewhere("weights.bin"))
    refuse(folder / "model.onnx", UnsafeCheckpoint)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_data_in_a_subfolder_that_is_a_link_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "weights.bin").write_bytes(bytes(24))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "data").symlink_to(tmp_path / "out")
    (folder / "model.onnx").write_bytes(elsewhere("data/weights.bin"))
    refuse(folder / "model.onnx", UnsafeCheckpoint)


@pytest.mark.parametrize("depth", [5, 500])
def test_nested_graphs_are_not_entered(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(nested(depth))
    with open_checkpoint(path) as checkpoint:
        assert list(checkpoint.tensors) == ["a.weight"]


def test_a_circle_of_nodes_and_a_product_with_itself_end(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Cast", ["a"], ["b"]),
        node("Mul", ["b", "b"], ["a"]),
        node("Cast", ["b"], ["b"]),
        node("MatMulInteger", ["w", "q", "q", "q"], ["q"], attribute("transB", 1 << 62), name="/" * 999),
    ]
    path = tmp_path / "model.onnx"
    path.write_bytes(model([tensor("w", W), tensor("q", W.astype(np.int8))], nodes))
    with open_checkpoint(path) as checkpoint:
        assert "w" in checkpoint.tensors


def test_long_paths_through_many_modules_end_within_a_second(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", f"w{i}"], [f"y{i}"], name="/a" * 400) for i in range(2000)]
    small = np.ones(2, dtype=np.float32)
    tensors = [tensor(f"w{i}", small) for i in range(2000)] + [tensor(".".join("a" * 400) + ".weight", small)]
    path = tmp_path / "model.onnx"
    path.write_bytes(model(tensors, nodes))
    with open_checkpoint(path) as checkpoint:
        assert len(checkpoint.tensors) == 2001


def npz(header: bytes, data: bytes = bytes(12), **options: int) -> bytes:
    return write_zip({"a.npy": pack_npy(header, data, **options)})


def head(descr: str = "'<f4'", order: str = "False", shape: str = "(3,)") -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()


ARCHIVES: dict[str, tuple[bytes, type[CheckpointError]]] = {
    "pickled objects": (npz(head("'|O'")), UnsafeCheckpoint),
    "big-endian numbers": (npz(head("'>f4'")), UnsupportedFormat),
    "text": (npz(head("'<U3'")), UnsupportedFormat),
    "a record": (npz(head("[('x', '<f4')]")), MalformedCheckpoint),
    "a header that calls a function": (npz(b"__import__('os').system('true')"), MalformedCheckpoint),
    "a header of nested brackets": (npz(head(shape="(" * 5000)), MalformedCheckpoint),
    "a header of 60,000 bytes": (npz(head() + b" " * 60_000), MalformedCheckpoint),
    "a header length beyond the array": (npz(head(), length=60_000), MalformedCheckpoint),
    "a negative size": (npz(head(shape="(-3,)")), MalformedCheckpoint),
    "a size of 2^80": (npz(head(shape=f"({1 << 80},)")), MalformedCheckpoint),
    "sizes whose product is 2^80": (npz(head(shape=f"({1 << 40}, {1 << 40})")), MalformedCheckpoint),
    "60 axes": (npz(head(shape="(" + "1, " * 60 + ")")), MalformedCheckpoint),
    "a field twice": (npz(b"{'descr': '<f4', 'descr': '<f4', 'shape': (3,), }"), MalformedCheckpoint),
    "a field missing": (npz(b"{'descr': '<f4', 'shape': (3,), }"), MalformedCheckpoint),
    "fewer bytes than numbers": (npz(head(shape="(4,)")), MalformedCheckpoint),
    "more bytes than numbers": (npz(head(shape="(2,)")), MalformedCheckpoint),
    "an array that is none": (write_zip({"a.npy": b"plain"}), MalformedCheckpoint),
    "a version of the future": (npz(head(), version=9), MalformedCheckpoint),
    "a name with a line feed": (write_zip({"a\nb.npy": pack_npy(head(), bytes(12))}), MalformedCheckpoint),
    "100 MB of zeros, deflated": (
        write_zip({"a.npy": pack_npy(head(shape=f"({25 << 20},)"), bytes(100 << 20))}, ["a.npy"]),
        UnsupportedFormat,
    ),
    "a cut archive": (encode_npz({"a": W})[:-9], MalformedCheckpoint),
    "arrays beside other files": (write_zip({"a.npy": pack_npy(head(), bytes(12)), "b.txt": b""}), UnsupportedFormat),
}


@pytest.mark.parametrize("what", ARCHIVES)
def test_archives(tmp_path: Path, what: str) -> None:
    data, kind = ARCHIVES[what]
    path = tmp_path / "model.npz"
    path.write_bytes(data)
    refuse(path, kind)


DISGUISED: dict[str, tuple[str, bytes]] = {
    "an ONNX model named safetensors": ("model.safetensors", PLAIN),
    "an ONNX model named bin": ("pytorch_model.bin", PLAIN),
    "an npz named onnx": ("model.onnx", encode_npz({"a.weight": W})),
    "an npz named bin": ("weights.bin", encode_npz({"a.weight": W})),
}


@pytest.mark.parametrize("what", DISGUISED)
def test_the_first_bytes_tell_the_format_and_not_the_name(tmp_path: Path, what: str) -> None:
    name, data = DISGUISED[what]
    path = tmp_path / name
    path.write_bytes(data)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.format == ("npz" if "npz" in what else "onnx")
        assert np.array_equal(checkpoint.read_rows("a.weight"), W)


def test_a_text_named_onnx_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x0a but then plain words follow")
    refuse(path, UnsupportedFormat)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    refuse(path, IncompleteCheckpoint)
