"""``homolog bank`` from the shell."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Run

from homolog.bank.storage import load_bank

ZOO = Path(__file__).parents[1] / "zoo"


def test_a_bank_is_built_shown_and_not_overwritten(homolog: Run, tmp_path: Path) -> None:
    out = tmp_path / "mine.json"
    built = homolog("bank", "build", ZOO / "a", ZOO / "b", ZOO / "s", "-o", out)
    assert (built.returncode, built.stdout) == (0, "")
    assert "3 models, 3 pairs" in built.stderr
    shown = json.loads(homolog("bank", "show", out, "--json").stdout)
    assert (shown["models"], shown["pairs"]) == (3, 3)
    assert shown["sizes"]["width"] == {"least": 64, "most": 64}
    again = homolog("bank", "build", ZOO / "a", ZOO / "b", "-o", out)
    assert again.returncode == 2
    assert "--force" in again.stderr
    assert len(load_bank(out).models) == 3


def test_related_models_are_refused_with_one_line(homolog: Run, tmp_path: Path) -> None:
    refused = homolog("bank", "build", ZOO / "a", ZOO / "a-zh-1x", "-o", tmp_path / "bank.json")
    assert refused.returncode == 2
    assert len(refused.stderr.strip().splitlines()) == 1
    assert "expected two models trained independently" in refused.stderr


def test_the_package_has_a_bank_and_shows_how_statistics_move_with_size(homolog: Run) -> None:
    shown = homolog("bank", "show")
    assert shown.returncode == 0
    assert "norm_gains" in shown.stdout
