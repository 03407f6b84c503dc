"""The verbs on published weights, as a user runs them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def receptors(real: Callable[[str], Path]) -> Path:
    return real("sceptr") / "sceptr/_model_saves"


def test_a_relation_exits_with_1_and_its_absence_with_0(homolog: Run, receptors: Path) -> None:
    related = homolog("compare", receptors / "SCEPTR", receptors / "SCEPTR_finetuned")
    assert (related.returncode, related.stderr) == (1, "")
    assert "The weights support common descent" in related.stdout
    independent = homolog("compare", receptors / "SCEPTR", receptors / "SCEPTR_MLM_only")
    assert (independent.returncode, independent.stderr) == (0, "")
    assert "Nothing in the weights supports common descent" in independent.stdout


def test_quiet_prints_the_sentence_alone(homolog: Run, receptors: Path) -> None:
    pair = (receptors / "SCEPTR", receptors / "SCEPTR_finetuned")
    quiet = homolog("compare", *pair, "--quiet")
    document = json.loads(homolog("compare", *pair, "--json", "--quiet").stdout)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (1, document["sentence"] + "\n", "")


def test_options_reach_the_comparison(homolog: Run, receptors: Path) -> None:
    done = homolog(
        "compare", receptors / "SCEPTR", receptors / "SCEPTR_finetuned", "--json", "--seed", 7, "--units", 32, "--full"
    )
    document = json.loads(done.stdout)
    assert document["provenance"]["options"] == {"seed": 7, "units": 32, "full": True, "deep": False, "budget": None}
    assert document["provenance"]["command"].endswith("--seed 7 --units 32 --full")


def test_a_report_is_written_once(homolog: Run, receptors: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    command = ("compare", receptors / "SCEPTR", receptors / "SCEPTR_finetuned", "--json", "--report", report)
    first = homolog(*command)
    assert (first.returncode, first.stderr) == (1, f"report written to {report}\n")
    assert json.loads(first.stdout)["verdict"] == "related"
    page = report.read_text(encoding="utf-8")
    report.write_text("changed since")
    second = homolog(*command)
    assert (second.returncode, second.stdout) == (2, "")
    assert second.stderr == f"homolog: {report}: exists already; --force overwrites it\n"
    assert report.read_text() == "changed since"
    assert homolog(*command, "--force", "--quiet").returncode == 1
    assert len(report.read_text(encoding="utf-8")) == pytest.approx(len(page), rel=0.01)


@pytest.mark.parametrize("verb", ["compare", "inspect"])
def test_colours_are_for_terminals_that_want_them(homolog: Run, receptors: Path, verb: str) -> None:
    models = [receptors / "SCEPTR", receptors / "SCEPTR_finetuned"][: 2 if verb == "compare" else 1]
    piped = homolog(verb, *models)
    assert "\x1b" not in piped.stdout
    # FORCE_COLOR stands for a terminal here; NO_COLOR must win over it
    forced = homolog(verb, *models, FORCE_COLOR="1", TERM="xterm-256color")
    assert "\x1b[" in forced.stdout
    refused = homolog(verb, *models, FORCE_COLOR="1", TERM="xterm-256color", NO_COLOR="1")
    assert "\x1b[3" not in refused.stdout
    assert "\x1b[9" not in refused.stdout


def test_inspect_names_roles_and_sizes(homolog: Run, receptors: Path) -> None:
    done = homolog("inspect", receptors / "SCEPTR")
    assert (done.returncode, done.stderr) == (0, "")
    assert "153,656 in 41 tensors" in done.stdout
    assert "torch-zip, 1 file" in done.stdout
    assert "ffn.up weight" in done.stdout


def test_a_hostile_tensor_name_does_not_reach_the_terminal(homolog: Run, tmp_path: Path) -> None:
    name = "evil\x1b[2J\x1b[31m[bold]name"
    header = json.dumps({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    file = tmp_path / "m.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0\x80?")
    done = homolog("inspect", file, COLUMNS="300")
    assert (done.returncode, done.stderr) == (0, "")
    assert "evil\\x1b[2J\\x1b[31m[bold]name" in done.stdout
    assert "\x1b" not in done.stdout


def test_the_demo_compares_and_names_its_reports(homolog: Run, real: Callable[[str], Path], tmp_path: Path) -> None:
    real("rxnfp")
    real("sceptr")
    done = homolog("demo", "--out", tmp_path / "reports")
    assert (done.returncode, done.stderr) == (0, "")
    verdicts = [line.partition(".")[0] for line in done.stdout.splitlines() if line.startswith(("Related.", "Indep"))]
    assert verdicts == ["Related", "Independent", "Related"]
    named = done.stdout.splitlines()[-3:]
    assert sorted(map(Path, named)) == sorted((tmp_path / "reports").iterdir())
    assert homolog("demo", "--out", tmp_path / "reports").returncode == 0
