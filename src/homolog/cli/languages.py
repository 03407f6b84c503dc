"""``--lang``: in which language a verb speaks. JSON and errors are English whatever is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

__all__ = ["Lang", "choose_language", "console_speaking"]

Lang = Annotated[
    str | None,
    typer.Option(
        "--lang", metavar="en|zh", help="Language of summary and report.  [default: the locale's]", show_default=False
    ),
]
"""The option, the same for every verb that has it."""

_TOUCHSTONE = "中文字"


def choose_language(lang: str | None) -> str:
    """What was asked for, or the locale's. Raises ``UsageError`` for a language that there is not."""
    import os

    from homolog.report.language import check_language, guess_language

    return check_language(lang) if lang is not None else guess_language(os.environ)


@contextmanager
def console_speaking(language: str) -> Iterator[None]:
    """Speak ``language``, or English with a note if stdout cannot hold its letters: question marks would help nobody."""
    import sys

    from homolog.cli import output
    from homolog.report.language import speaking

    encoding = sys.stdout.encoding or "utf-8"
    if language == "zh" and not _holds(encoding):
        output.note(f"the terminal's encoding ({encoding}) has no Chinese letters: the summary is in English")
        language = "en"
    with speaking(language):
        yield


def _holds(encoding: str) -> bool:
    try:
        _TOUCHSTONE.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
