"""``--lang``: in which language a verb speaks. JSON, errors and help are English whatever is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

__all__ = ["Lang", "announce", "spoken"]

Lang = Annotated[
    str | None,
    typer.Option(
        "--lang", metavar="LANG", help="Speak en or zh.  [default: the language of the locale]", show_default=False
    ),
]
"""The option, the same for every verb that has it."""

_TOUCHSTONE = "中文字，一二三。"


@contextmanager
def spoken(lang: str | None) -> Iterator[str]:
    """Within this block the terminal speaks what was asked for, or what the locale says; yields that language, for reports.

    A terminal whose encoding cannot hold the letters is spoken to in English: question marks would help nobody. Raises ``UsageError``
    for a language that there is not.
    """
    import os
    import sys

    from homolog.cli import output
    from homolog.report.language import check_language, guess_language, speaking

    language = guess_language(os.environ) if lang is None else check_language(lang)
    lacking = [stream.encoding for stream in (sys.stdout, sys.stderr) if not _holds(stream.encoding, language)]
    if lacking and lang is not None:
        output.note(f"the encoding {lacking[0]} has no Chinese letters: what is printed is in English")
    with speaking("en" if lacking else language):
        yield language


def announce(text: str) -> None:
    """Tell the user what the library is about to do."""
    from homolog.cli import output
    from homolog.report.words import tell

    output.note(tell(text, 2000))


def _holds(encoding: str | None, language: str) -> bool:
    try:
        _TOUCHSTONE.encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return language != "zh"
    return True
