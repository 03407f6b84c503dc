"""Sketches of models that lie elsewhere, and sketches beside them: the bytes of local ones, planned, within the budget."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.remote.conftest import Hub, run_homolog

from homolog import compare, make_sketch
from homolog.errors import BudgetExceeded, NotCached, UsageError

ZOO = Path(__file__).parents[1] / "zoo"


@pytest.mark.parametrize("full", [False, True])
def test_a_sketch_of_a_repository_has_the_bytes_of_one_of_its_files(hub: Hub, tmp_path: Path, full: bool) -> None:
    said: list[str] = []
    make_sketch(ZOO / "a", tmp_path / "local.hsk", full=full)
    make_sketch("zoo/a", tmp_path / "remote.hsk", full=full, announce=said.append)
    assert (tmp_path / "remote.hsk").read_bytes() == (tmp_path / "local.hsk").read_bytes()
    assert len(said) == 1
    assert said[0].startswith("zoo/a: fetching ")
    assert len(hub.log()) <= 12
    size = (ZOO / "a" / "model.safetensors").stat().st_size
    assert sum(entry["sent"] for entry in hub.log() if entry["port"] == "cdn") <= size
    hub.forget()
    make_sketch("zoo/a", tmp_path / "offline.hsk", full=full, offline=True)
    assert (tmp_path / "offline.hsk").read_bytes() == (tmp_path / "local.hsk").read_bytes()
    assert hub.log() == []


@pytest.mark.parametrize("full", [False, True])
def test_a_budget_without_room_ends_before_anything_is_written(hub: Hub, tmp_path: Path, full: bool) -> None:
    with pytest.raises(BudgetExceeded):
        make_sketch("zoo/a", tmp_path / "m.hsk", full=full, budget=200_000)
    assert sum(entry["sent"] for entry in hub.log()) <= 200_000
    with pytest.raises(NotCached):
        make_sketch("zoo/b", tmp_path / "m.hsk", full=full, offline=True)
    with pytest.raises(UsageError, match="budget"):
        make_sketch("zoo/a", tmp_path / "m.hsk", budget=-1)
    assert [path for path in tmp_path.iterdir() if path.suffix in (".hsk", ".partial")] == []


def test_digests_of_another_commit_are_not_taken_over(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that changes no number that a sketch samples is another model all the same."""

    def refuse(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    path = hub.root / "zoo" / "a" / "model.safetensors"
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("homolog.sketch.make._write", refuse)
        with pytest.raises(KeyboardInterrupt):
            make_sketch("zoo/a", tmp_path / "m.hsk", full=True)
    assert (tmp_path / "m.hsk.partial").exists()
    try:
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        make_sketch("zoo/a", tmp_path / "m.hsk", full=True)
        make_sketch(hub.root / "zoo" / "a", tmp_path / "fresh.hsk", full=True)
    finally:
        path.write_bytes(before)
    assert (tmp_path / "m.hsk").read_bytes() == (tmp_path / "fresh.hsk").read_bytes()


def test_a_sketch_meets_a_repository(hub: Hub, tmp_path: Path) -> None:
    said: list[str] = []
    make_sketch(ZOO / "a", tmp_path / "a.hsk")
    for other, verdict in (("a-zh-1x", "related"), ("b", "independent")):
        remote = compare(tmp_path / "a.hsk", f"zoo/{other}", announce=said.append)
        local = compare(tmp_path / "a.hsk", ZOO / other)
        assert remote.verdict == local.verdict
        assert remote.verdict.verdict == verdict
        assert remote.findings == local.findings
    assert [text[:19] for text in said] == ["B: zoo/a-zh-1x: fet", "B: zoo/b: fetching "]
    short = compare(tmp_path / "a.hsk", "zoo/a@v1.0", budget=150_000)
    assert short.verdict.verdict == "inconclusive"
    assert "budget" in short.verdict.sentence


def test_the_command_says_what_it_fetches(hub: Hub, tmp_path: Path) -> None:
    done = run_homolog("sketch", "zoo/a", "-o", str(tmp_path / "a.hsk"))
    assert done.returncode == 0
    assert done.stderr.startswith("zoo/a: fetching ")
    assert done.stderr.count("\n") == 1
    assert run_homolog("sketch", "zoo/a", "-o", str(tmp_path / "b.hsk"), "--offline", "--quiet").stderr == ""
    done = run_homolog("sketch", "zoo/b", "-o", str(tmp_path / "c.hsk"), "--budget", "150kB")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    shown = run_homolog("inspect", "zoo/b")
    assert shown.stderr.startswith("zoo/b: fetching ")
    whole = run_homolog("inspect", "zoo/b", "--values")
    assert "zoo/b: fetching " in whole.stderr
