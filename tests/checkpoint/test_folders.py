"""Which file of a folder is the model, and what is said where there is no telling."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.checkpoint.writers import (
    encode_index,
    encode_safetensors,
    encode_torch_legacy,
    encode_torch_zip,
)

from homolog.checkpoint.open import open_checkpoint
from homolog.errors import (
    CheckpointNotFound,
    IncompleteCheckpoint,
    MalformedCheckpoint,
    UnsafeCheckpoint,
    UnsupportedFormat,
)

ARRAYS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}
SAFE = encode_safetensors(ARRAYS)
ZIP = encode_torch_zip(ARRAYS)
LEGACY = encode_torch_legacy(ARRAYS)


def make_folder(home: Path, **files: bytes) -> Path:
    """Write files; ``__`` in a keyword stands for a dot, so that ``config__json`` is ``config.json``."""
    home.mkdir(parents=True, exist_ok=True)
    for file, data in files.items():
        (home / file.replace("__", ".")).write_bytes(data)
    return home


def test_a_hub_folder_reads_with_its_config(tmp_path: Path) -> None:
    make_folder(tmp_path, model__safetensors=SAFE, config__json=b'{"model_type": "bert"}', tokenizer__json=b"{}")
    with open_checkpoint(str(tmp_path)) as checkpoint:
        assert checkpoint.config == {"model_type": "bert"}
        assert checkpoint.folder == tmp_path
        assert checkpoint.path == tmp_path
        assert checkpoint.files == (tmp_path / "model.safetensors",)
        assert checkpoint.notes == ()


@pytest.mark.parametrize(("data", "layout"), [(SAFE, "safetensors"), (ZIP, "torch-zip"), (LEGACY, "torch-legacy")])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "weights", "state.ckpt"])
def test_content_decides_the_format_not_the_name(tmp_path: Path, data: bytes, layout: str, name: str) -> None:
    (tmp_path / name).write_bytes(data)
    with open_checkpoint(tmp_path / name) as checkpoint:
        assert checkpoint.format == layout
        assert checkpoint.config == {}
        np.testing.assert_array_equal(checkpoint.read_rows("w"), ARRAYS["w"])


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_hub_folder_without_config_names_the_next_step(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(SAFE)
    with pytest.raises(IncompleteCheckpoint, match="name the weight file itself"):
        open_checkpoint(tmp_path)
    with open_checkpoint(tmp_path / name) as checkpoint:
        assert list(checkpoint.tensors) == ["w"]


def test_one_state_dict_and_any_config_is_enough(tmp_path: Path) -> None:
    make_folder(tmp_path, state_dict__pt=ZIP, config__json=b'{"anything": []}')
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.config == {"anything": []}
    (tmp_path / "config.json").unlink()
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.config == {}


def test_what_training_leaves_behind_is_no_model(tmp_path: Path) -> None:
    leftovers = (
        "training_args.bin",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state_0.pth",
        "optimizer_state.bin",
        "random_states_0.pt",
        "scaler.pt",
    )
    for name in leftovers:
        (tmp_path / name).write_bytes(b"not read")
    with pytest.raises(CheckpointNotFound, match="7 files, none of them weights"):
        open_checkpoint(tmp_path)
    make_folder(tmp_path, pytorch_model__bin=LEGACY, config__json=b"{}")
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.notes == ()


def test_several_formats_of_one_model_are_one_choice_and_said(tmp_path: Path) -> None:
    make_folder(tmp_path, model__safetensors=SAFE, pytorch_model__bin=b"not read", config__json=b"{}")
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.format == "safetensors"
        assert checkpoint.notes == ("model.safetensors was chosen; pytorch_model.bin lies beside it and was not read",)


def test_other_names_prefer_safetensors_too(tmp_path: Path) -> None:
    make_folder(tmp_path, consolidated__safetensors=SAFE, consolidated__pth=ZIP)
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.format == "safetensors"
        assert "consolidated.pth lies beside it" in checkpoint.notes[0]


def test_two_models_in_a_folder_are_no_choice(tmp_path: Path) -> None:
    make_folder(tmp_path, one__pt=ZIP, two__pt=ZIP)
    with pytest.raises(CheckpointNotFound, match="name the file itself"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "files", [("adapter_config.json",), ("adapter_model.safetensors", "adapter_config.json"), ("adapter_model.bin",)]
)
def test_an_adapter_alone_lacks_its_base(tmp_path: Path, files: tuple[str, ...]) -> None:
    for name in files:
        (tmp_path / name).write_bytes(SAFE)
    with pytest.raises(IncompleteCheckpoint, match=r"without its base model.*merge"):
        open_checkpoint(tmp_path)
    with pytest.raises(IncompleteCheckpoint, match="without its base model"):
        open_checkpoint(tmp_path / files[0])


def test_an_adapter_beside_a_model_is_left_out_and_said(tmp_path: Path) -> None:
    make_folder(tmp_path, model__safetensors=SAFE, adapter_model__safetensors=b"", config__json=b"{}")
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.notes == ("an adapter was left out: adapter_model.safetensors",)


@pytest.mark.parametrize("name", ["model.gguf", "tf_model.h5", "flax_model.msgpack", "model.onnx"])
def test_other_frameworks_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(UnsupportedFormat, match=name):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"FUGG\0\0\0\x03", "a GGUF file"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"<html><body>", "an HTML or XML page"),
        (b"#!/bin/sh", "starts with"),
    ],
)
def test_other_content_is_named(tmp_path: Path, start: bytes, kind: str) -> None:
    (tmp_path / "weights.bin").write_bytes(start + bytes(64))
    with pytest.raises(UnsupportedFormat, match=kind):
        open_checkpoint(tmp_path / "weights.bin")


def test_a_pointer_to_the_weights_is_not_the_weights(tmp_path: Path) -> None:
    for name in ("model.safetensors", "pytorch_model.bin"):
        (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
        with pytest.raises(IncompleteCheckpoint, match="git lfs pull"):
            open_checkpoint(tmp_path / name)


def test_a_piece_named_by_itself_says_that_it_is_one(tmp_path: Path) -> None:
    path = tmp_path / "model-00002-of-00003.safetensors"
    path.write_bytes(SAFE)
    with open_checkpoint(path) as checkpoint:
        assert "one of 3 pieces" in checkpoint.notes[0]
    with pytest.raises(IncompleteCheckpoint, match="1 of 3 pieces"):
        open_checkpoint(tmp_path)


def _sharded(home: Path, weight_map: dict[str, str]) -> Path:
    make_folder(home, config__json=b"{}")
    (home / "pytorch_model.bin.index.json").write_bytes(encode_index(weight_map))
    return home


def test_a_sharded_torch_model_is_one_model(tmp_path: Path) -> None:
    home = _sharded(tmp_path, {"w": "one.bin", "v": "two.bin"})
    make_folder(home, one__bin=ZIP, two__bin=encode_torch_legacy({"v": ARRAYS["w"], "extra": ARRAYS["w"]}))
    for path in (home, home / "pytorch_model.bin.index.json"):
        with open_checkpoint(path) as checkpoint:
            assert list(checkpoint.tensors) == ["extra", "v", "w"]
            assert checkpoint.files == (home / "one.bin", home / "two.bin")
            assert "does not list: extra" in checkpoint.notes[0]
            assert "several formats" in checkpoint.notes[1]


def test_a_missing_shard_or_tensor_is_incomplete(tmp_path: Path) -> None:
    home = _sharded(tmp_path, {"w": "one.bin", "v": "two.bin"})
    make_folder(home, one__bin=ZIP)
    with pytest.raises(IncompleteCheckpoint, match=r"no file two\.bin"):
        open_checkpoint(home)
    make_folder(home, two__bin=ZIP)
    with pytest.raises(IncompleteCheckpoint, match=r"weight_map of v: found no such tensor in two\.bin"):
        open_checkpoint(home)


def test_one_tensor_in_two_pieces_without_an_index_is_malformed(tmp_path: Path) -> None:
    for place in (1, 2):
        (tmp_path / f"model-{place:05}-of-00002.safetensors").write_bytes(SAFE)
    with pytest.raises(MalformedCheckpoint, match="tensor w"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "..", ".", "", "a/b.bin", "..\\\\b", "C:b", "a\\u0000b", "a\\nb"]
)
def test_an_index_may_not_leave_its_folder(tmp_path: Path, name: str) -> None:
    home = _sharded(tmp_path, {})
    (home / "pytorch_model.bin.index.json").write_text('{"weight_map": {"w": "' + name + '"}}')
    with pytest.raises(UnsafeCheckpoint, match="plain file name"):
        open_checkpoint(home)


def _linked(link: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "shard.bin"])
def test_a_link_out_of_the_folder_is_unsafe(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(SAFE)
    home = tmp_path / "home"
    if name == "shard.bin":
        _sharded(home, {"w": name})
    else:
        make_folder(home, model__safetensors=SAFE, config__json=b"{}")
        (home / name).unlink()
    _linked(home / name, outside)
    with pytest.raises(UnsafeCheckpoint, match="a link to"):
        open_checkpoint(home)


def test_links_of_a_hub_cache_and_inside_the_folder_are_followed(tmp_path: Path) -> None:
    repo = tmp_path / "models--org--name"
    make_folder(repo / "blobs", aa=SAFE, bb=b"{}")
    snapshot = repo / "snapshots" / "0123"
    _linked(snapshot / "model.safetensors", Path("../../blobs/aa"))
    _linked(snapshot / "config.json", Path("../../blobs/bb"))
    for path in (snapshot, snapshot / "model.safetensors"):
        with open_checkpoint(path) as checkpoint:
            assert list(checkpoint.tensors) == ["w"]
    plain = make_folder(tmp_path / "plain", real=SAFE, config__json=b"{}")
    _linked(plain / "model.safetensors", Path("real"))
    _linked(tmp_path / "named", plain)
    with open_checkpoint(tmp_path / "named") as checkpoint:
        assert list(checkpoint.tensors) == ["w"]
    (snapshot / "config.json").unlink()
    _linked(snapshot / "config.json", tmp_path / "plain" / "config.json")
    with pytest.raises(UnsafeCheckpoint):
        open_checkpoint(snapshot)


def test_links_in_a_circle_are_one_typed_error(tmp_path: Path) -> None:
    make_folder(tmp_path, config__json=b"{}")
    _linked(tmp_path / "model.safetensors", tmp_path / "model.safetensors")
    with pytest.raises((UnsafeCheckpoint, CheckpointNotFound)):
        open_checkpoint(tmp_path)
    with pytest.raises(CheckpointNotFound):
        open_checkpoint(tmp_path / "model.safetensors")


CONFIGS = {
    "nested": b"[" * 200_000,
    "nested objects": b'{"a":' * 200_000,
    "too large": b" " * (10 << 20) + b"{}",
    "a list": b"[]",
    "text": b'"text"',
    "no JSON": b"{'a': 1}",
    "not UTF-8": b'{"a": "\xff"}',
    "empty": b"",
    "a number of 5,000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "too many values": b'{"a": [' + b'"",' * 600_000 + b'""]}',
}


@pytest.mark.parametrize("fault", CONFIGS)
def test_a_config_that_is_none_is_malformed(tmp_path: Path, fault: str) -> None:
    make_folder(tmp_path, model__safetensors=SAFE, config__json=CONFIGS[fault])
    for path in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(MalformedCheckpoint) as caught:
            open_checkpoint(path)
        assert caught.value.path == tmp_path / "config.json"


def test_a_large_honest_config_is_read(tmp_path: Path) -> None:
    labels = {str(place): f"label {place}" for place in range(30_000)}
    make_folder(tmp_path, model__safetensors=SAFE, config__json=json.dumps({"id2label": labels}).encode())
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.config["id2label"] == labels


def test_more_files_than_may_be_open_at_once(tmp_path: Path) -> None:
    count = 80
    for place in range(1, count + 1):
        data = encode_safetensors({f"w{place}": np.full((1, 2), place, dtype=np.float32)})
        (tmp_path / f"m-{place:05}-of-{count:05}.safetensors").write_bytes(data)
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir())) if descriptors.exists() else 0
    with open_checkpoint(tmp_path) as checkpoint:
        for place in range(1, count + 1):
            assert checkpoint.read_rows(f"w{place}").tolist() == [[place, place]]
        if descriptors.exists():
            assert len(list(descriptors.iterdir())) <= before + 33
    if descriptors.exists():
        assert len(list(descriptors.iterdir())) == before


def test_shards_may_not_hold_tensors_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every shard lists the same empty tensors; the index says that all are in the first, so that none is found twice."""
    monkeypatch.setattr("homolog.checkpoint.shards._MOST_ENTRIES", 300)
    files = [f"{letter}.safetensors" for letter in "abcdef"]
    empty = {str(place): np.empty(0, dtype=np.float32) for place in range(99)}
    make_folder(tmp_path, config__json=b"{}")
    for file in files:
        (tmp_path / file).write_bytes(encode_safetensors(empty))
    weight_map = dict.fromkeys(empty, files[0]) | {file: file for file in files}
    (tmp_path / "model.safetensors.index.json").write_bytes(encode_index(weight_map))
    with pytest.raises(MalformedCheckpoint, match="at most 300 in all") as caught:
        open_checkpoint(tmp_path)
    assert caught.value.path.name == "d.safetensors"
