"""``homolog sketch``, and ``inspect`` and ``compare`` on what it wrote."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

Run = Callable[..., subprocess.CompletedProcess[str]]

ZOO = Path(__file__).parents[1] / "zoo"


def _complaints(name: str, document: Any) -> list[str]:
    schema = json.loads(files("homolog").joinpath("schema", name).read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return [error.message[:200] for error in Draft202012Validator(schema).iter_errors(document)]


def test_a_sketch_is_made_shown_and_compared(homolog: Run, tmp_path: Path) -> None:
    out = tmp_path / "a.hsk"
    made = homolog("sketch", ZOO / "a", "-o", out, "--json")
    assert (made.returncode, made.stderr) == (0, "")
    document = json.loads(made.stdout)
    assert _complaints("sketch-1.json", document) == []
    assert document["bytes"] == out.stat().st_size
    assert not document["sketch"]["options"]["full"]
    assert "forged" in document["cannot"][0]

    shown = homolog("inspect", out, "--json")
    assert shown.returncode == 0
    assert json.loads(shown.stdout) == {key: document[key] for key in ("schema", "id", "bytes", "sketch", "cannot")}
    summary = homolog("inspect", out).stdout
    assert "61,120 numbers" in summary
    assert "forged" in summary

    compared = homolog("compare", out, ZOO / "b", "--json", "--report", tmp_path / "r.html")
    assert compared.returncode == 0
    comparison = json.loads(compared.stdout)
    assert _complaints("comparison-1.json", comparison) == []
    assert comparison["verdict"] == "independent"
    assert comparison["a"]["sketch"] == document["sketch"]
    assert comparison["b"]["sketch"] is None
    assert any("forged" in warning for warning in comparison["warnings"])
    assert "units_permuted_and_residual_rotated" in comparison["not_ruled_out"]
    assert "forged" in (tmp_path / "r.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("verb", ["inspect", "sketch"])
def test_a_broken_sketch_costs_one_line(homolog: Run, tmp_path: Path, verb: str) -> None:
    broken = tmp_path / "broken.hsk"
    broken.write_bytes(b"PK\x03\x04 and no more")
    done = homolog(verb, broken, *(["-o", tmp_path / "x.hsk"] if verb == "sketch" else []))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["broken.hsk"]


def test_there_are_no_sketches_of_sketches(homolog: Run, tmp_path: Path) -> None:
    assert homolog("sketch", ZOO / "s", "-o", tmp_path / "s.hsk", "--quiet").stdout == ""
    done = homolog("sketch", tmp_path / "s.hsk", "-o", tmp_path / "x.hsk")
    assert done.returncode == 2
    assert "found a sketch, expected the weights themselves" in done.stderr


def test_an_output_that_exists_is_refused_before_anything_is_read(homolog: Run, tmp_path: Path) -> None:
    out = tmp_path / "a.hsk"
    out.write_text("mine")
    done = homolog("sketch", tmp_path / "no-such-model", "-o", out)
    assert done.returncode == 2
    assert "exists already" in done.stderr
    assert out.read_text() == "mine"
