"""``--lang``: what the terminal and the report speak, and that JSON, errors and exit codes do not change with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Run

ZOO = Path(__file__).parents[1] / "zoo"
RELATED = (ZOO / "a", ZOO / "a-zh-1x")


def test_json_is_the_same_in_every_language(homolog: Run) -> None:
    documents = []
    for options in ((), ("--lang", "en"), ("--lang", "zh")):
        made = json.loads(homolog("compare", *RELATED, "--json", *options, LC_ALL="C.UTF-8").stdout)
        del made["run"]
        documents.append(json.dumps(made))
    assert len({*documents}) == 1


def test_the_locale_chooses_and_the_option_overrides_it(homolog: Run) -> None:
    for environment, options, expected in (
        ({"LC_ALL": "", "LC_MESSAGES": "", "LANG": "zh_CN.UTF-8"}, (), "权重支持共同来源"),
        ({"LC_ALL": "zh_CN.UTF-8"}, ("--lang", "en"), "The weights support common descent"),
        ({"LC_ALL": "C.UTF-8"}, ("--lang", "zh"), "权重支持共同来源"),
        ({"LC_ALL": "C.UTF-8"}, (), "The weights support common descent"),
    ):
        done = homolog("compare", *RELATED, "--quiet", *options, **environment, PYTHONUTF8="1")
        assert done.returncode == 1
        assert done.stdout.startswith(expected)


@pytest.mark.parametrize(
    "verb", [("compare", *RELATED), ("inspect", ZOO / "a"), ("sketch", ZOO / "a", "-o", "never.hsk")]
)
def test_an_unknown_language_is_a_usage_error(homolog: Run, verb: tuple[object, ...]) -> None:
    done = homolog(*verb, "--lang", "eo")
    assert done.returncode == 2
    assert done.stderr == "homolog: there is no language 'eo' here; homolog speaks en and zh\n"


def test_report_and_note_speak_chinese(homolog: Run, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    done = homolog("compare", *RELATED, "--report", path, "--lang", "zh", PYTHONUTF8="1")
    assert done.returncode == 1
    assert done.stderr == f"报告已写入 {path}\n"
    assert '<html lang="zh-Hans">' in path.read_text("utf-8")


def test_inspect_and_sketch_speak_chinese(homolog: Run, tmp_path: Path) -> None:
    shown = homolog("inspect", ZOO / "m", "--lang", "zh", PYTHONUTF8="1").stdout
    assert "每层 8 个路由专家" in shown
    assert "architecture" not in shown
    sketched = homolog("sketch", ZOO / "m", "-o", tmp_path / "m.hsk", "--lang", "zh", PYTHONUTF8="1").stdout
    assert "单凭草图可以伪造" in sketched
    assert sketched == homolog("inspect", tmp_path / "m.hsk", "--lang", "zh", PYTHONUTF8="1").stdout


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "gbk", "utf-8"])
def test_a_terminal_without_chinese_letters_is_spoken_to_in_english(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "report.html"
    command: list[str | Path] = [sys.executable, "-m", "homolog", "compare", *RELATED, "--lang", "zh", "--report", path]
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": encoding, "LC_ALL": "C"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "权重支持共同来源" in path.read_text("utf-8")
    if encoding in {"gbk", "utf-8"}:
        assert "权重支持共同来源".encode(encoding) in done.stdout
    else:
        assert b"The weights support common descent" in done.stdout
        assert f"the encoding {encoding} has no Chinese letters".encode() in done.stderr
        assert b"?" not in done.stdout
