"""What a user sees of bad input: one line that says where and what, exit code 2, soon and in little memory."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

# the process measures itself: what its parent would be told includes the parent's own memory
_MEASURED = """
import json, sys, time
from homolog.cli import main
from homolog.provenance import Stopwatch
code = main()
print(json.dumps([time.process_time(), Stopwatch().read().peak_bytes]), file=sys.__stdout__)
sys.exit(code)
"""


def _safetensors(path: Path, header: object, data: bytes = b"") -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def _no_such_path(folder: Path) -> Path:
    return folder / "nowhere"


def _empty_folder(folder: Path) -> Path:
    return folder


def _no_config(folder: Path) -> Path:
    _safetensors(folder / "model.safetensors", {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4)
    return folder


def _zero_length(folder: Path) -> Path:
    (folder / "model.safetensors").write_bytes(b"")
    return folder / "model.safetensors"


def _truncated(folder: Path) -> Path:
    file = folder / "model.safetensors"
    _safetensors(file, {"w": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}, b"\0" * 100)
    return file


def _boastful_header(folder: Path) -> Path:
    file = folder / "model.safetensors"
    file.write_bytes(struct.pack("<Q", 1 << 40) + b"{}")
    return file


def _nested_header(folder: Path) -> Path:
    file = folder / "model.safetensors"
    text = b'{"w":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    file.write_bytes(struct.pack("<Q", len(text)) + text)
    return file


def _adapter(folder: Path) -> Path:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    header = {"base_model.model.q.lora_A.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    _safetensors(folder / "adapter_model.safetensors", header, b"\0" * 4)
    return folder


class _Bomb:
    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.touched,)


def _pickle_bomb(folder: Path) -> Path:
    file = folder / "model.pt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps({"w": _Bomb(folder / "boom")}, protocol=2))
        archive.writestr("model/version", "3\n")
    return file


def _huge_member(folder: Path) -> Path:
    file = folder / "model.pt"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("model/data.pkl", "w") as member:
        for _ in range(1000):
            member.write(b"\0" * (1 << 20))
    return file


def _index_outside(folder: Path) -> Path:
    (folder / "config.json").write_text("{}")
    index = {"metadata": {}, "weight_map": {"w": "../../etc/passwd"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def _missing_shard(folder: Path) -> Path:
    (folder / "config.json").write_text("{}")
    index = {"metadata": {}, "weight_map": {"w": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def _text_file(folder: Path) -> Path:
    (folder / "model.safetensors").write_text("these are not the weights you are looking for\n" * 9)
    return folder / "model.safetensors"


@dataclass(frozen=True)
class Ended:
    code: int
    line: str
    seconds: float
    peak_bytes: int


def _run(*arguments: object) -> Ended:
    command = [sys.executable, "-c", _MEASURED, *map(str, arguments)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    printed = done.stdout.splitlines()
    assert len(printed) == 1, "something was printed besides the measurement"
    seconds, peak_bytes = json.loads(printed[0])
    return Ended(done.returncode, done.stderr, seconds, peak_bytes)


_CASES = [
    (_no_such_path, "no such file or folder"),
    (_empty_folder, "expected a weight file"),
    (_no_config, "config.json"),
    (_zero_length, "0 bytes"),
    (_truncated, "expected"),
    (_boastful_header, "1099511627776"),
    (_nested_header, "expected"),
    (_adapter, "adapter_"),
    (_pickle_bomb, "expected"),
    (_huge_member, "expected"),
    (_index_outside, "../../etc/passwd"),
    (_missing_shard, "model-00001-of-00001.safetensors"),
    (_text_file, "expected"),
]


@pytest.mark.parametrize("verb", ["inspect", "compare"])
@pytest.mark.parametrize(("make", "says"), _CASES, ids=[make.__name__.strip("_") for make, _ in _CASES])
def test_bad_input_ends_in_one_line(make: Callable[[Path], Path], says: str, verb: str, tmp_path: Path) -> None:
    path = make(tmp_path)
    ended = _run(verb, path, *([path] if verb == "compare" else []))
    assert ended.code == 2, ended.line
    assert ended.line.count("\n") == 1
    assert ended.line.startswith(f"homolog: {tmp_path}")
    assert says in ended.line
    assert ended.seconds < 1.0 + _start_up_seconds()
    assert ended.peak_bytes < 200e6
    assert not (tmp_path / "boom").exists()


def _start_up_seconds() -> float:
    return _run("--no-such-option").seconds
