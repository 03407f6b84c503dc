"""A console or pipe that cannot hold every letter ends no run: an ASCII locale, a code page of Windows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ZOO = Path(__file__).parents[1] / "zoo"


def run(encoding: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """homolog with Python's UTF-8 mode off, and an error for every file that is opened in the locale's encoding."""
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": encoding, "LC_ALL": "C"}
    options = ["-X", "warn_default_encoding", "-W", "error::EncodingWarning:homolog"]
    return subprocess.run(
        [sys.executable, *options, "-m", "homolog", *arguments], env=environment, capture_output=True, check=False
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp936", "utf-8"])
def test_inspect_prints_in_any_encoding(encoding: str) -> None:
    done = run(encoding, "inspect", str(ZOO / "a"))
    assert done.returncode == 0, done.stderr
    assert b"llama" in done.stdout


def test_json_is_whole_in_any_encoding() -> None:
    documents = []
    for encoding in ("ascii", "utf-8"):
        done = run(encoding, "inspect", str(ZOO / "g"), "--json")
        assert done.returncode == 0, done.stderr
        documents.append(json.loads(done.stdout.decode(encoding)))
    assert documents[0] == documents[1]


def test_compare_and_its_report_in_an_ascii_locale(tmp_path: Path) -> None:
    report = tmp_path / "r.html"
    done = run("ascii", "compare", str(ZOO / "q"), str(ZOO / "q-zh-1x"), "--report", str(report))
    assert done.returncode == 1, done.stderr
    assert "<html" in report.read_text("utf-8")


def test_an_error_about_a_foreign_name_is_one_line_in_an_ascii_locale(tmp_path: Path) -> None:
    done = run("ascii", "inspect", str(tmp_path / "模型"))
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
