"""A run that is stopped goes on where it stopped, gives the same bytes, and leaves nothing half-written."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from homolog.checkpoint.open import open_checkpoint
from homolog.errors import UsageError
from homolog.roles.resolve import resolve
from homolog.sketch.digests import ResumeFile, digest_tensors
from homolog.sketch.make import make_sketch

ZOO = Path(__file__).parents[1] / "zoo"

_SLOWLY = """
import sys, time
from homolog.sketch import digests
from homolog.sketch.make import make_sketch
inner, digests._SECONDS = digests._digest_tensor, 0.0
def slowly(*arguments):
    time.sleep(0.02)
    return inner(*arguments)
digests._digest_tensor = slowly
print("begun", flush=True)
make_sketch(sys.argv[1], sys.argv[2], full=True)
"""


def _start(out: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOWLY, str(ZOO / "a"), str(out)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.stdout.close()
    return process


def test_a_killed_run_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    make_sketch(ZOO / "a", tmp_path / "plain.hsk", full=True)
    out, random, killed = tmp_path / "killed.hsk", Random(0), 0
    while not out.exists():
        process = _start(out)
        try:
            process.wait(random.uniform(0.2, 0.6) if killed < 3 else 60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
        assert killed < 10
    assert out.read_bytes() == (tmp_path / "plain.hsk").read_bytes()
    assert not (tmp_path / "killed.hsk.partial").exists()


def test_an_interrupt_leaves_only_the_digests_that_are_done(tmp_path: Path) -> None:
    out = tmp_path / "m.hsk"
    partial = tmp_path / "m.hsk.partial"
    process = _start(out)
    until = time.monotonic() + 60
    while not partial.exists() and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0
    assert [path.name for path in tmp_path.iterdir()] == [partial.name]


def test_what_killed_runs_were_writing_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = [f".m.hsk.partial.{ended.pid}", f".m.hsk.{ended.pid}.partial", f".m.hsk.partial.{os.getppid()}", ".m.hsk.x"]
    for name in names:
        (tmp_path / name).write_text("half")
    make_sketch(ZOO / "a", tmp_path / "m.hsk", full=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["m.hsk", *names[2:]])


def test_digests_that_are_done_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_checkpoint(ZOO / "a") as checkpoint:
        anatomy = resolve(checkpoint)
        whole = digest_tensors(checkpoint, anatomy, None, lambda *_: None)
        resume = ResumeFile(tmp_path / "p", "bound")
        resume.done = {tensor.name: tensor.sha256.removeprefix("sha256:") for tensor in whole}
        resume.save(now=True)
        before = checkpoint.meter.bytes
        assert digest_tensors(checkpoint, anatomy, ResumeFile(tmp_path / "p", "bound"), lambda *_: None) == whole
        assert checkpoint.meter.bytes == before
        assert ResumeFile(tmp_path / "p", "another").done == {}
    resume.remove()
    assert not list(tmp_path.iterdir())


def test_a_model_that_changed_starts_from_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Path(shutil.copytree(ZOO / "a", tmp_path / "model"))
    out = tmp_path / "m.hsk"

    def refuse(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("homolog.sketch.make._write", refuse)
        with pytest.raises(KeyboardInterrupt):
            make_sketch(model, out, full=True)
    partial = tmp_path / "m.hsk.partial"
    first = partial.read_text()
    weights = model / "model.safetensors"
    body = bytearray(weights.read_bytes())
    body[-1] ^= 1  # in the unembedding's last row, which no sketch samples
    weights.write_bytes(body)
    os.utime(weights, ns=(1, 1))
    make_sketch(model, out, full=True)
    assert not partial.exists()
    make_sketch(ZOO / "a", tmp_path / "old.hsk", full=True)
    assert out.read_bytes() != (tmp_path / "old.hsk").read_bytes()
    assert "lm_head" in first


def test_digests_are_those_of_the_bytes(tmp_path: Path) -> None:
    import hashlib

    with open_checkpoint(ZOO / "a") as checkpoint:
        for tensor in digest_tensors(checkpoint, resolve(checkpoint), None, lambda *_: None):
            assert tensor.sha256 == f"sha256:{hashlib.sha256(checkpoint.read_bytes(tensor.name)).hexdigest()}"
            assert tensor.roles


def test_what_exists_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "m.hsk"
    out.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        make_sketch(ZOO / "a", out)
    assert out.read_text() == "mine"
    make_sketch(ZOO / "a", out, force=True)
    assert out.read_bytes().startswith(b"PK")
    foreign = tmp_path / "n.hsk.partial"
    foreign.write_text("mine too")
    with pytest.raises(UsageError, match="no unfinished sketch"):
        make_sketch(ZOO / "a", tmp_path / "n.hsk", full=True)
    assert foreign.read_text() == "mine too"
    for place in (tmp_path, tmp_path / "nowhere" / "m.hsk"):
        with pytest.raises(UsageError):
            make_sketch(ZOO / "a", place)
    for options in ({"seed": -1}, {"units": 7}, {"dimensions": 7}, {"dimensions": 5000}):
        with pytest.raises(UsageError):
            make_sketch(ZOO / "a", tmp_path / "x.hsk", **options)  # type: ignore[arg-type]
