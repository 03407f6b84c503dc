"""How a run ends: exit codes, and what is on which stream."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import homolog.cli
import homolog.cli.app
from homolog.errors import MalformedCheckpoint, UsageError

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_version_and_help(homolog: Run) -> None:
    version = homolog("--version")
    assert (version.returncode, version.stdout, version.stderr) == (0, "homolog 0.1.0\n", "")
    for arguments in (["--help"], ["compare", "--help"], ["inspect", "--help"], ["demo", "--help"]):
        done = homolog(*arguments)
        assert done.returncode == 0
        assert done.stdout.startswith("Usage: homolog")
        assert done.stderr == ""


def test_help_waits_for_nothing_heavy() -> None:
    code = "import sys, homolog.cli.app; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "typer" in loaded
    assert not {"numpy", "scipy", "altair", "jinja2", "rich.console", "ml_dtypes", "platformdirs"} & set(loaded)


def test_linear_algebra_runs_in_one_thread_unless_told() -> None:
    code = (
        "import os, homolog.cli, homolog.cli.app as app\n"
        "app.run = lambda: print(os.environ['OPENBLAS_NUM_THREADS'], os.environ['OMP_NUM_THREADS']) or 0\n"
        "homolog.cli.main()"
    )
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    for more, expected in ({}, "1 1\n"), ({"OMP_NUM_THREADS": "3"}, "1 3\n"):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env={**environment, **more}, capture_output=True, text=True, check=True)
        assert done.stdout == expected


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["compare", "a"], ["compare", "a", "b", "--units", "x"], ["inspect", "--no"]]
)
def test_a_call_that_is_off_exits_with_2(homolog: Run, arguments: list[str]) -> None:
    done = homolog(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


def _ends_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    def run() -> int:
        raise error

    monkeypatch.setattr(homolog.cli.app, "run", run)
    return homolog.cli.main()


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("r.html: exists already"), 2, "homolog: r.html: exists already\n"),
        (
            MalformedCheckpoint("m.bin", at="header", found="6 bytes", expected="8"),
            2,
            "homolog: m.bin: at header: found 6 bytes, expected 8\n",
        ),
        (UsageError("a\x1b[31m\nb"), 2, "homolog: a\\x1b[31m\\x0ab\n"),
        (PermissionError(13, "Permission denied", "x"), 2, "homolog: [Errno 13] Permission denied: 'x'\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_is_one_line_and_a_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    assert _ends_with(monkeypatch, error) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == line


def test_a_defect_exits_with_101_and_tells_how_to_see_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HOMOLOG_DEBUG", raising=False)
    assert _ends_with(monkeypatch, ZeroDivisionError("oh")) == 101
    error = capsys.readouterr().err
    assert error.startswith("homolog: internal error: ZeroDivisionError: oh (HOMOLOG_DEBUG=1 ")
    assert error.count("\n") == 1
    monkeypatch.setenv("HOMOLOG_DEBUG", "1")
    assert _ends_with(monkeypatch, ZeroDivisionError("oh")) == 101
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error() -> None:
    # --help is longer than nothing, and the pipe's reader is gone before the first byte
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "homolog", "--help"], stdout=writer, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_an_interrupt_is_quiet(tmp_path: Path) -> None:
    # a named pipe that nobody writes to keeps the run waiting until it is interrupted
    code = (
        "import sys, time, homolog.cli.app as app, homolog.cli\n"
        "def run():\n    print('waiting', flush=True)\n    time.sleep(60)\n"
        "app.run = run\nsys.exit(homolog.cli.main())"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"waiting\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (130, b"")


@pytest.mark.parametrize("target", ["there.html", "folder", "no-such-folder/r.html"])
def test_a_report_that_cannot_be_written_is_refused_before_any_work(homolog: Run, tmp_path: Path, target: str) -> None:
    (tmp_path / "there.html").write_text("mine")
    (tmp_path / "folder").mkdir()
    began = time.perf_counter()
    # the models do not exist either: that this is not complained of shows that nothing was opened
    done = homolog("compare", tmp_path / "a", tmp_path / "b", "--report", tmp_path / target)
    assert time.perf_counter() - began < 10
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert target.split("/", maxsplit=1)[0] in done.stderr
    assert (tmp_path / "there.html").read_text() == "mine"
