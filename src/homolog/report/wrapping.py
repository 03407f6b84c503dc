"""Lines of text for a terminal, in scripts that put no spaces between words too."""

from __future__ import annotations

import re

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

__all__ = ["wrap"]

_WIDE = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\u3000-\u303f"
_OPENING, _CLOSING = "（《〈「『【“‘", "）》〉」』】，。、；：！？”’%"
_PIECES = re.compile(rf"\s+|[{_OPENING}]*(?:[^\s{_WIDE}{_OPENING}{_CLOSING}]+|[{_WIDE}]|$)[{_CLOSING}]*|[{_CLOSING}]+")
"""Blanks; words; and single wide characters. What opens stays with what follows, what closes with what it follows."""


def wrap(text: Text, console: Console, width: int) -> list[Text]:
    """``text`` in lines of at most ``width`` columns, without blanks at their ends.

    A line may end between any two Chinese characters, but none begins with a stop or a closing bracket.
    """
    wide = re.search(f"[{_WIDE}]", text.plain)
    lines = text.divide(_breaks(text.plain, width)) if wide else text.wrap(console, width)
    for line in lines:
        line.rstrip()
    return list(lines)


def _breaks(plain: str, width: int) -> list[int]:
    """Where lines begin, the first left out."""
    breaks, start = [], 0
    for piece in _PIECES.finditer(plain):
        word = piece[0].rstrip()
        if word and piece.start() > start and cell_len(plain[start : piece.start()] + word) > width:
            start = piece.start()
            breaks.append(start)
        while cell_len(plain[start : piece.end()].rstrip()) > width:
            start = _end_of_line(plain, start, width)
            breaks.append(start)
    return breaks


def _end_of_line(plain: str, start: int, width: int) -> int:
    """Where a line ends that is full before its word is."""
    end = start + 1
    while cell_len(plain[start : end + 1]) <= width:
        end += 1
    return end
