"""Installed programs are called as they are; stand-ins play them here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from homolog.arena.methods.base import Model, NotApplicable
from homolog.arena.methods.external import MODELDNA, PROVENANCE_KIT, run_program

ZOO = Path(__file__).parents[1] / "zoo"


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return tmp_path


def install(folder: Path, name: str, body: str) -> Path:
    program = folder / name
    program.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
    program.chmod(0o755)
    return program


def test_what_is_not_installed_says_so(bin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(bin_folder / "python"))
    with Model(ZOO / "a") as a, Model(ZOO / "b") as b:
        for method in (MODELDNA, PROVENANCE_KIT):
            score = method.score(a, b)
            assert (score.value, score.says_related, score.reason) == (None, None, "not installed")


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ('{"verdict": {"verdict": "FINE_TUNE", "probability": 0.97}}', (0.97, True)),
        ('{"verdict": {"verdict": "SAME_FAMILY_UNRESOLVED", "probability": 0.6}}', (0.6, False)),
        ('{"verdict": {"verdict": "NO_MATCH", "probability": null}}', (0.0, False)),
        ('{"verdict": {"verdict": "INSUFFICIENT", "probability": null}}', (None, None)),
        ("Traceback", (None, None)),
    ],
)
def test_modeldna_is_read(printed: str, expected: tuple[float | None, bool | None], bin_folder: Path) -> None:
    install(bin_folder, "modeldna", f"print('a note'); print('''{printed}''' if sys.argv[1] == 'compare' else '')")
    with Model(ZOO / "a") as a, Model(ZOO / "b") as b:
        score = MODELDNA.score(a, b)
    assert (score.value, score.says_related) == expected
    if score.value is not None:
        assert score.seconds is not None
        assert score.seconds > 0
        assert score.peak_bytes is None or score.peak_bytes > 1_000_000
    else:
        assert score.reason


@pytest.mark.parametrize(("value", "related"), [(1.0, True), (0.651, True), (0.65, False)])
def test_the_provenance_kit_is_read(value: float, related: bool, bin_folder: Path) -> None:
    install(bin_folder, "provenancekit", f'print(\'{{"scores": {{"pipeline_score": {value}}}}}\')')
    with Model(ZOO / "a") as a, Model(ZOO / "b") as b:
        assert PROVENANCE_KIT.score(a, b).says_related is related


def test_a_program_gets_a_home_of_its_own_and_no_network(bin_folder: Path) -> None:
    body = "import json, os; print(json.dumps({k: os.environ[k] for k in ('HOME', 'HF_HUB_OFFLINE')}))"
    document, _, _ = run_program([str(install(bin_folder, "x", body))])
    assert document["HF_HUB_OFFLINE"] == "1"
    assert document["HOME"] != os.environ["HOME"]
    assert not Path(document["HOME"]).exists()


def test_a_program_that_hangs_is_stopped(bin_folder: Path) -> None:
    program = install(bin_folder, "x", "import time; time.sleep(60)")
    with pytest.raises(NotApplicable, match="too long"):
        run_program([str(program)], patience=0.2)
