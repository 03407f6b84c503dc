"""A run that is killed, a disk that is full, a model that is missing: what was finished stays, and the next call goes on."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from homolog.cli import main
from homolog.errors import UsageError
from homolog.lab import zoo
from homolog.lab.corpus import Corpus
from homolog.lab.recipe import Recipe, Schedule
from homolog.lab.shape import Shape
from homolog.lab.zoo import make_model

pytestmark = pytest.mark.lab

SHAPE = Shape(vocab=320, width=16, layers=1, ffn=16, heads=2, kv_heads=1)
PLAN = Schedule(mixture={"en": 1.0}, steps=510, batch=2, context=8, warmup=10, keep=(505,))
BASE = Recipe("one", kind="base", train=PLAN, seed=1, shape=SHAPE)
CHILD = Recipe("two", kind="continued_training", train=PLAN, parent="one")


@pytest.fixture(autouse=True)
def small_corpus(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "load_corpus", lambda cache, vocabulary, tokenizer=None: corpus)


def read(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


BUILD = """
    import os, signal, sys
    from pathlib import Path
    from homolog.lab import zoo
    from lab_tests.conftest import make_corpus
    from lab_tests.test_interruptions import BASE

    def report(text):
        if "kill" in sys.argv:
            os.kill(os.getpid(), signal.SIGKILL)

    zoo.load_corpus = lambda cache, vocabulary, tokenizer=None: make_corpus()
    zoo.make_model(BASE, out=Path(sys.argv[1]) / "out", cache=Path(sys.argv[1]) / "cache", report=report)
"""


def build(folder: Path, *more: str) -> int:
    command = [sys.executable, "-c", textwrap.dedent(BUILD), str(folder), *more]
    return subprocess.run(command, check=False, cwd=Path(__file__).parents[1]).returncode


def test_a_run_ended_by_kill_9_goes_on_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert build(whole) == 0
    assert build(killed, "kill") == -signal.SIGKILL
    assert read(killed / "out") == {}
    assert (killed / "cache" / "runs" / "one" / "state.pt").is_file()
    assert build(killed) == 0
    assert read(killed / "out") == read(whole / "out")
    assert "one/truth.json" in read(whole / "out")
    assert not (killed / "cache" / "runs" / "one" / "state.pt").exists()


def fill_the_disk(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    """From now on writing a file whose path holds ``word`` fails after half of it, as on a full disk."""
    write = Path.write_bytes

    def fail(path: Path, data: bytes) -> int:
        if word not in str(path):
            return write(path, data)
        write(path, bytes(data)[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", fail)


@pytest.mark.parametrize("word", ["model.safetensors", "state", "step-000505"])
def test_a_full_disk_is_one_error_and_nothing_half_written(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, cache = tmp_path / "out", tmp_path / "cache"
    make_model(BASE, out=out, cache=cache)
    before = read(out)
    undisturbed = make_model(CHILD, out=out, cache=tmp_path / "other")
    whole = read(out / "two")
    shutil.rmtree(out / "two")
    with monkeypatch.context() as patch:
        fill_the_disk(patch, word)
        with pytest.raises(UsageError, match=r"not written: No space left on device; the next call goes on"):
            make_model(CHILD, out=out, cache=cache)
    assert read(out) == before
    assert sorted(path.name for path in out.iterdir()) == ["one"]
    assert not list(cache.rglob("*.part"))
    assert make_model(CHILD, out=out, cache=cache) == undisturbed
    assert read(out / "two") == whole


def test_a_disk_that_fills_while_the_record_is_written_leaves_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("homolog.lab.store.json.dumps", fail)
        with pytest.raises(UsageError, match="No space left"):
            make_model(BASE, out=tmp_path / "out", cache=tmp_path / "cache")
    assert read(tmp_path / "out") == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kind = 'x'\nparent = 'nobody'\n[train]\nmixture = {en = 1.0}\nsteps = 1\n", "nobody: no finished lab model"),
        ("kind = 'base'\nseed = 1\n[train]\nmixture = {fr = 1.0}\nsteps = 1\n", "no stream 'fr'"),
        (
            "kind = 'base'\nseed = 1\n[train]\nmixture = {en = 1.0}\nsteps = 1\nteacher = 'nobody'\n",
            "nobody: no finished",
        ),
        (
            "kind = 'base'\nseed = 1\n[shape]\nfamily = 'gpt2'\n[train]\nmixture = {en = 1.0}\nsteps = 1\ncontext = 300\n",
            "context 300 of a model with 256 positions",
        ),
        (
            "kind = 'base'\nseed = 1\n[[operations]]\nkind = 'merge'\nmethod = 'linear'\nmodels = ['nobody']\n"
            "[train]\nmixture = {en = 1.0}\nsteps = 1\n",
            "nobody: no finished lab model",
        ),
        (
            "kind = 'x'\nseed = 1\n[[operations]]\nkind = 'keep_layers'\nlayers = [9]\n[train]\nmixture = {en = 1.0}\nsteps = 1\n",
            "mine: keep_layers: layers [9] of a model with 5",
        ),
    ],
)
def test_what_cannot_be_built_is_one_line_and_exit_code_2(
    text: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = tmp_path / "mine.toml", tmp_path / "out"
    recipe.write_text(text, encoding="utf-8")
    arguments = ["homolog", "lab", "build", str(recipe), "--out", str(out), "--cache", str(tmp_path / "cache")]
    monkeypatch.setattr(sys, "argv", arguments)
    assert main() == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert says in captured.err
    assert not out.exists()


def test_the_verb_builds_parents_first_and_tells_what_it_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = "[train]\nmixture = {en = 1.0}\nsteps = 3\n"
    (tmp_path / "zero.toml").write_text(
        "kind = 'base'\nseed = 1\n[shape]\nvocab = 320\nlayers = 1\n" + train, encoding="utf-8"
    )
    (tmp_path / "copy.toml").write_text("kind = 'x'\nparent = 'zero'\n" + train, encoding="utf-8")
    files = [str(tmp_path / name) for name in ("copy.toml", "zero.toml")]
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["homolog", "lab", "build", *files, "--out", str(out), "--cache", str(tmp_path)])
    assert main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["zero", "copy"]
    assert sorted(path.name for path in out.iterdir()) == ["copy", "zero"]


def test_text_threads_and_the_steps_between_states_are_those_that_were_asked_for(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(cache: Path, vocabulary: int) -> Corpus:
        raise AssertionError("the lab's own text was opened")

    monkeypatch.setattr(zoo, "load_corpus", refuse)
    said: list[str] = []
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    plan = replace(PLAN, steps=10, keep=())
    truth = make_model(
        replace(BASE, train=plan),
        out=tmp_path,
        cache=tmp_path,
        corpus=corpus,
        save_every=4,
        threads=2,
        report=said.append,
    )
    assert truth["data"]["digest"] == corpus.digest(("en",), "a")
    assert [text.split(",")[0] for text in said] == ["one: step 4 of 10", "one: step 8 of 10"]
    assert threads == [2]
