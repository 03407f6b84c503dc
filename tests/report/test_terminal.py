"""The comparison in the terminal, at 80 columns: kept as text, so that a change of wording is seen."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.report.samples import SAMPLES, hostile, partly_related, related

from homolog.report.terminal import print_comparison

KEPT = Path(__file__).parent / "kept"


def shown(
    comparison: dict[str, Any], *, environ: dict[str, str] | None = None, terminal: bool = False, width: int = 80
) -> str:
    out = io.StringIO()
    color: Any = "standard" if terminal else None
    console = Console(file=out, width=width, force_terminal=terminal, color_system=color, _environ=environ or {})
    print_comparison(comparison, console)
    return out.getvalue()


@pytest.mark.parametrize("name", list(SAMPLES))
def test_output_is_as_kept(name: str) -> None:
    assert shown(SAMPLES[name]()) == (KEPT / f"{name}.txt").read_text(encoding="utf-8")


def test_output_in_colour_is_as_kept() -> None:
    kept = (KEPT / "related-colour.txt").read_bytes().decode()
    assert shown(related(), terminal=True) == kept


@pytest.mark.parametrize("name", list(SAMPLES))
@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_window_or_ends_in_blanks(name: str, width: int) -> None:
    for line in shown(SAMPLES[name](), width=width).splitlines():
        assert len(line) <= width
        assert line == line.rstrip() or width < 80


def test_operations_with_one_text_share_a_line() -> None:
    comparison = SAMPLES["independent"]()
    comparison["ruled_out"] = [
        {"operation": name, "share": 0.05, "text": "would have been found"}
        for name in ("layers_added", "ffn_widened", "merged")
    ]
    assert "  Layers added, FFN widened, merged with another model: would have been found\n" in shown(comparison)


def test_nothing_is_excluded_where_something_was_found() -> None:
    assert "Ruled out:\n  Not asked: a relation was found.\n" in shown(related() | {"ruled_out": []})


def test_the_sentence_is_first() -> None:
    first = " ".join(shown(related()).split("\n\n")[0].split())
    assert first.startswith("Related. " + related()["sentence"])


def test_no_color_is_honoured() -> None:
    plain = shown(related(), environ={"NO_COLOR": "1"}, terminal=True)
    assert re.search(r"\x1b\[[0-9;]*3[0-7]", plain) is None
    assert re.sub(r"\x1b\[[0-9;]*m", "", plain) == shown(related())


def test_layer_map_reads_without_colour() -> None:
    line = next(line for line in shown(partly_related()).splitlines() if line.startswith("▆"))
    assert line == "▆▆·" * 16


def test_hostile_strings_have_no_effect() -> None:
    comparison = hostile()
    comparison["a"]["id"] = "[bold red]name[/] [link=http://x]y[/link] \x1b[2J\x07"
    out = shown(comparison, terminal=True)
    assert "[bold red]name[/]" in out
    assert "\\x1b[2J\\x07" in out
    assert "\x1b[2J" not in out
    assert "\x07" not in out
    assert "\u202e" not in out


def test_terminal_without_unicode_gets_plain_characters() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    print_comparison(partly_related(), Console(file=stream, width=80, _environ={}))
    stream.flush()
    out = raw.getvalue().decode("ascii")
    assert "66." * 16 in out
    assert "-87.3" in out
