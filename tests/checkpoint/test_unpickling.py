"""The pickle machine: it runs nothing, and what torch does not write is one typed error."""

from __future__ import annotations

import os
import pickle
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.checkpoint.writers import (
    Leaf,
    call,
    finish,
    mapping,
    name,
    number,
    pack_legacy,
    pack_zip,
    pickle_state,
    several,
    text,
)

from homolog.checkpoint.base import Checkpoint
from homolog.checkpoint.open import open_checkpoint
from homolog.errors import MalformedCheckpoint, UnsafeCheckpoint

LEAF = Leaf("0", "F32", 6, (2, 3), (3, 1))
STORAGE = {"0": struct.pack("<6f", *range(6))}
REBUILD = "torch._utils._rebuild_tensor_v2"


class _Runs:
    """Pickles to a call of ``os.system``, as an attacker would write it."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (self.command,))


def _open_zip(tmp_path: Path, body: bytes, protocol: int = 2) -> Checkpoint:
    path = tmp_path / "m.bin"
    path.write_bytes(pack_zip(finish(body, protocol), STORAGE))
    return open_checkpoint(path)


def _nested(command: str) -> bytes:
    """A pickle inside a pickle, by the function that torch itself uses for storages in bytes."""
    inner = pickle.dumps(_Runs(command))
    return name("torch.storage._load_from_bytes") + several(b"B" + struct.pack("<I", len(inner)) + inner) + b"R"


ATTACKS: dict[str, Callable[[str], bytes]] = {
    "reduce": lambda touch: pickle.dumps(_Runs(touch), protocol=2)[2:-1],
    "nested pickle": _nested,
    "getattr chain": lambda touch: (
        call("builtins.getattr", name("os.path"), text("os"))
        + call("builtins.getattr", text("system"))
        + several(text(touch))
        + b"R"
    ),
    "dotted name": lambda touch: b"\x8c\x0bcollections\x8c\x0fOrderedDict.get\x93" + several(text(touch)) + b"R",
    "stack global": lambda touch: text("os") + text("system") + b"\x93" + several(text(touch)) + b"R",
    "global in a permitted call": lambda touch: call(REBUILD, name("builtins.eval")),
    "import through torch": lambda touch: call("torch.hub.load", text(touch)),
    "inst": lambda touch: b"(" + text(touch) + b"ios\nsystem\n",
    "obj": lambda touch: b"(" + name("collections.OrderedDict") + text(touch) + b"o",
    "newobj": lambda touch: name("collections.OrderedDict") + b")\x81",
    "newobj with keywords": lambda touch: name("collections.OrderedDict") + b")}\x92",
    "extension code": lambda touch: b"\x82\x01",
    "extension code of four bytes": lambda touch: b"\x84\x01\0\0\0",
    "persistent id in text": lambda touch: b"Pstorage\n",
    "out-of-band buffer": lambda touch: b"\x97",
    "state for a function": lambda touch: name(REBUILD) + mapping([(text("__setstate__"), text(touch))]) + b"b",
    "state for a tensor": lambda touch: LEAF.pickle() + mapping([(text("__class__"), text(touch))]) + b"b",
    "a call of what was called": lambda touch: call("collections.OrderedDict") + several(text(touch)) + b"R",
}


@pytest.mark.parametrize("layout", ["zip", "legacy"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_in_a_pickle_runs(tmp_path: Path, attack: str, layout: str) -> None:
    touched = tmp_path / "touched"
    path = tmp_path / "m.bin"
    body = finish(ATTACKS[attack](f"touch {touched}"), 4)
    path.write_bytes(pack_zip(body, {}) if layout == "zip" else pack_legacy(body, {}, {}))
    modules = set(sys.modules)
    with pytest.raises(UnsafeCheckpoint, match=r"pickle, byte \d+"):
        open_checkpoint(path)
    assert not touched.exists()
    assert set(sys.modules) == modules


def test_the_error_names_the_global_and_its_place(tmp_path: Path) -> None:
    with pytest.raises(UnsafeCheckpoint) as caught:
        _open_zip(tmp_path, b"}" + text("w") + name("fairseq.models.Thing"))
    assert caught.value.found == "the name fairseq.models.Thing"
    assert caught.value.at == "pickle, byte 9"
    assert "safetensors" in caught.value.expected


MALFORMED = {
    "nothing on the stack": b"R",
    "no value at the end": b"",
    "two values at the end": b"NN",
    "an open mark at the end": b"}(",
    "a pop through a mark": b"}(s",
    "a mark that is not there": b"t",
    "too many marks": b"(" * 1001,
    "a memo never set": b"h\x07",
    "a memo number that is none": b"}p-1\n",
    "items in a list": b"](" + text("a") + b"Nu",
    "an odd number of items": b"}(" + text("a") + b"u",
    "a key that nests": b"})Ns",
    "values appended to a dictionary": b"}Na",
    "text that is not UTF-8": b"X\x02\0\0\0\xff\xff",
    "a string longer than the file": b"X\xff\xff\x0f\0abc",
    "a string of 4 GB": b"X\xff\xff\xff\xff",
    "a string of 2^63 bytes": b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",
    "bytes of 2^63 bytes": b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
    "an integer of 2 GB": b"\x8b\xff\xff\xff\x7f",
    "a negative length of an integer": b"\x8b\xff\xff\xff\xff",
    "a line without end": b"c" + b"x" * 2000,
    "a line that the file cuts": b"cos",
    "protocol 1": b"\x80\x01",
    "a global of no text": b"NN\x93",
    "arguments that are no tuple": name("torch.Size") + b"NR",
    "a call of a class that is none": name("torch.float32") + b")R",
    "too few arguments": call(REBUILD, number(1)),
    "too many arguments": call("torch.device", *[b"N"] * 17),
    "an OrderedDict from a list": call("collections.OrderedDict", b"]"),
    "a tensor over no storage": call(REBUILD, b"N", number(0), b")", b")"),
    "a tensor without offset": LEAF.pickle().replace(number(0), b"N"),
    "a tensor with an offset that is a truth value": LEAF.pickle().replace(number(0), b"\x89"),
    "sizes that are text": LEAF.pickle().replace(number(2), text("2")),
    "33 sizes": call("torch.Size", several(*[number(1)] * 33)),
    "a tensor of a dtype that is none": Leaf("0", "F32", 6, (6,), (1,), dtype="Size").pickle(),
    "a parameter of no tensor": call("torch._utils._rebuild_parameter", b"N", b"\x88", b"N"),
    "a tensor of an unknown class": call(
        "torch._tensor._rebuild_from_type_v2", name(REBUILD), name("torch.Size"), b")", b"N"
    ),
    "a tensor made by no maker of tensors": call(
        "torch._tensor._rebuild_from_type_v2", name("torch.device"), name("torch.Tensor"), b")", b"N"
    ),
    "a persistent id that is text": text("0") + b"Q",
    "a storage of another word": several(text("module"), b"N", b"N", b"N", b"N") + b"Q",
    "a storage without class": several(text("storage"), b"N", text("0"), text("cpu"), number(1)) + b"Q",
    "a storage of negative length": several(
        text("storage"), name("torch.FloatStorage"), text("0"), text("cpu"), number(-1)
    )
    + b"Q",
    "one storage in two kinds": LEAF.pickle() + b"0" + Leaf("0", "F16", 6, (6,), (1,)).pickle(),
    "a view of no three": several(
        text("storage"), name("torch.FloatStorage"), text("0"), text("cpu"), number(6), several(text("v"))
    )
    + b"Q",
    "a view beyond its storage": several(
        text("storage"),
        name("torch.FloatStorage"),
        text("0"),
        text("cpu"),
        number(6),
        several(text("v"), number(4), number(3)),
    )
    + b"Q",
    "a list": b"]",
    "a tensor alone": LEAF.pickle(),
    "no tensor": b"}",
    "a storage that the archive lacks": pickle_state({"w": Leaf("9", "F32", 1, (1,), (1,))}),
    "itself nested in itself": b"}q\x00(" + text("x") + b"h\x00u",
    "one name twice": pickle_state({"a.b": LEAF, "a": {"b": LEAF}}),
    "a name without end": pickle_state({"x" * 1001: LEAF}),
    "sizes and strides of different number": pickle_state({"w": Leaf("0", "F32", 6, (2, 3), (1,))}),
    "a negative size": pickle_state({"w": Leaf("0", "F32", 6, (-2, 3), (3, 1))}),
    "a negative stride": pickle_state({"w": Leaf("0", "F32", 6, (2, 3), (-3, 1))}),
    "a negative offset": pickle_state({"w": Leaf("0", "F32", 6, (2,), (1,), offset=-1)}),
    "a size beyond all files": pickle_state({"w": Leaf("0", "F32", 6, (0, 1 << 62), (1, 1))}),
    "one number too many": pickle_state({"w": Leaf("0", "F32", 6, (2, 3), (4, 1))}),
    "an offset one too far": pickle_state({"w": Leaf("0", "F32", 6, (2, 3), (3, 1), offset=1)}),
    "a storage shorter than it says": pickle_state({"w": Leaf("0", "F32", 7, (7,), (1,))}),
    "an axis of stride 0 that fills memory": pickle_state({"w": Leaf("0", "F32", 6, (1 << 40,), (0,))}),
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_what_torch_does_not_write_is_malformed(tmp_path: Path, fault: str) -> None:
    with pytest.raises(MalformedCheckpoint):
        _open_zip(tmp_path, MALFORMED[fault])


def test_what_old_and_new_pythons_write_is_read(tmp_path: Path) -> None:
    entries = [
        b"U\x01a" + LEAF.pickle(),  # Python 2's byte strings
        b"T\x01\0\0\0b" + LEAF.pickle() + b"p9\n",
        b"\x8c\x01c" + b"g9\n",
        b"\x8d\x01\0\0\0\0\0\0\0d" + b"j\x09\0\0\0",
        b"\x8a\x01\x07" + b"h\x09" + b"2" + b"0",
        b"\x88" + b"h\x09",
    ]
    body = b"\x95" + bytes(8) + b"}(" + b"".join(entries) + b"u" + b"(NN1" + b"(0" + b"}b"
    with _open_zip(tmp_path, body, 4) as checkpoint:
        assert list(checkpoint.tensors) == ["7", "True", "a", "b", "c", "d"]
        for key in checkpoint.tensors:
            np.testing.assert_array_equal(checkpoint.read_rows(key), np.arange(6).reshape(2, 3))


def test_numpy_scalars_and_devices_beside_the_tensors_do_no_harm(tmp_path: Path) -> None:
    dtype = call("numpy.dtype", text("f8"), b"\x89", b"\x88") + several(number(3), text("<")) + b"b"
    scalar = call("numpy.core.multiarray.scalar", dtype, call("_codecs.encode", text("12345678"), text("latin1")))
    state = {
        "w": LEAF,
        "best": scalar,
        "on": call("torch.device", text("cpu")),
        "size": call("torch.Size"),
        "epoch": 3,
        "lr": 0.5,
    }
    with _open_zip(tmp_path, pickle_state(state)) as checkpoint:
        assert list(checkpoint.tensors) == ["w"]
        assert checkpoint.notes == ("entries that are no tensors were left out: best, on, size and 2 more",)


def test_parameters_and_subclasses_are_their_tensors(tmp_path: Path) -> None:
    parameter = call("torch._utils._rebuild_parameter", LEAF.pickle(), b"\x88", mapping([]))
    stateful = call("torch._utils._rebuild_parameter_with_state", LEAF.pickle(), b"\x88", mapping([]), b"}")
    arguments = several(LEAF.pickle(), b"\x88", mapping([]))
    kind = name("torch.nn.parameter.Parameter")
    subclass = call(
        "torch._tensor._rebuild_from_type_v2", name("torch._utils._rebuild_parameter"), kind, arguments, b"}"
    )
    with _open_zip(tmp_path, pickle_state({"p": parameter, "s": stateful, "t": subclass})) as checkpoint:
        for key in ("p", "s", "t"):
            np.testing.assert_array_equal(checkpoint.read_rows(key), np.arange(6).reshape(2, 3))


def test_a_view_of_a_storage_starts_where_it_says(tmp_path: Path) -> None:
    view = several(text("v"), number(2), number(4))
    storage = several(text("storage"), name("torch.FloatStorage"), text("0"), text("cpu"), number(6), view) + b"Q"
    tensor = call(REBUILD, storage, number(1), several(number(3)), several(number(1)), b"\x89", mapping([]))
    path = tmp_path / "m.bin"
    path.write_bytes(pack_legacy(finish(pickle_state({"w": tensor})), STORAGE, {"0": 6}))
    with open_checkpoint(path) as checkpoint:
        np.testing.assert_array_equal(checkpoint.read_rows("w"), [3, 4, 5])


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "module"])
def test_wrappers_and_prefixes_are_dropped_and_noted(tmp_path: Path, wrapper: str) -> None:
    with _open_zip(tmp_path, pickle_state({"step": 1, wrapper: {"module._orig_mod.w": LEAF}})) as checkpoint:
        assert list(checkpoint.tensors) == ["w"]
        assert [
            wrapper in checkpoint.notes[0],
            "'module.'" in checkpoint.notes[1],
            "'_orig_mod.'" in checkpoint.notes[2],
        ] == [True] * 3


def test_a_model_whose_own_part_is_called_model_is_not_unwrapped(tmp_path: Path) -> None:
    with _open_zip(tmp_path, pickle_state({"model": {"a": LEAF}, "head": LEAF})) as checkpoint:
        assert list(checkpoint.tensors) == ["head", "model.a"]
        assert checkpoint.notes == ()


def test_a_note_holds_no_control_characters_of_the_file(tmp_path: Path) -> None:
    with _open_zip(tmp_path, pickle_state({"w": LEAF, "\x1b[31m" + "y" * 500: 1})) as checkpoint:
        assert checkpoint.notes[0].isprintable()
        assert len(checkpoint.notes[0]) < 160
