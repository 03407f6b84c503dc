"""The gallery says what homolog says today, and its pictures are small and named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from benchmarks.gallery import Entry, list_entries, make_model

from homolog.pipeline import compare
from homolog.report.words import VERDICTS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "gallery.md"
PICTURE, ALL_PICTURES = 90_000, 1_500_000


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries name the zoo as a reader would who stands in the repository."""
    monkeypatch.chdir(ROOT)


def sections() -> dict[str, str]:
    """Text of every section by its title."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_entry_has_its_section_and_its_picture() -> None:
    entries = list_entries()
    assert list(sections()) == [entry.title for entry in entries]
    sizes = []
    for entry in entries:
        shown = re.search(r"!\[(.+)\]\((.+)\)", sections()[entry.title])
        assert shown is not None
        assert len(shown[1]) > 20
        picture = (PAGE.parent / shown[2]).read_bytes()
        assert picture.startswith(b"\x89PNG")
        sizes.append(len(picture))
    assert max(sizes) <= PICTURE
    assert sum(sizes) <= ALL_PICTURES
    kept = {path.stem for path in (PAGE.parent / "images" / "gallery").iterdir()}
    assert kept == {entry.name for entry in entries}


@pytest.mark.parametrize("entry", list_entries(), ids=lambda entry: entry.name)
def test_verdicts_are_those_of_today(entry: Entry, tmp_path: Path) -> None:
    found = compare(Path("tests/zoo") / entry.a, make_model(entry, tmp_path), **entry.options)
    said = re.search(r"^\*\*(.+)\.\*\*", sections()[entry.title], flags=re.MULTILINE)
    assert said is not None
    assert said[1] == VERDICTS[found.verdict.verdict]
