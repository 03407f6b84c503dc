"""The reader's language: of the report's own words, and of the sentences that a comparison brings along.

The JSON output is English, whatever language is spoken. The report and the terminal are made from it, so its sentences are translated
here, at the very end: a sentence is recognised by the template that made it (``{n} of {of} experts``), and what stood in the gaps goes
into the same gaps of the translation. A text that no template fits is shown as it stands.

A catalogue is a folder ``languages/<language>`` of TOML files: ``words.toml`` for `t`, all others for `translate`. Keys are English.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Formatter
from typing import Any

from markupsafe import Markup

from homolog.errors import UsageError

__all__ = ["LANGUAGES", "check_language", "current_language", "guess_language", "speaking", "t", "t_html", "translate"]

LANGUAGES = ("en", "zh")
"""English and Chinese, by their codes."""

_LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG")
"""The environment's say in it, the first that is set."""

_DEEPEST = 8
"""Sentences within sentences: only a hostile text has more."""

_spoken: ContextVar[str] = ContextVar("language", default="en")


def check_language(language: str) -> str:
    """The language itself; raises UsageError if it is not one of `LANGUAGES`."""
    if language not in LANGUAGES:
        raise UsageError(f"there is no language {language!r} here; homolog speaks {' and '.join(LANGUAGES)}")
    return language


def guess_language(environment: Mapping[str, str]) -> str:
    """The language of a POSIX locale: ``zh`` for ``zh_CN.UTF-8``, ``en`` for all that is not Chinese."""
    locale = next((environment[name] for name in _LOCALE if environment.get(name)), "")
    return "zh" if re.match(r"zh\b|zh_", locale.lower()) else "en"


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Within this block `t` and `translate` speak ``language``. Raises UsageError if there is no such language."""
    token = _spoken.set(check_language(language))
    try:
        yield
    finally:
        _spoken.reset(token)


def current_language() -> str:
    """The language that is spoken."""
    return _spoken.get()


def t(text: str, /, **values: object) -> str:
    """The report's own words in the language that is spoken, with ``values`` put where the text names them."""
    return _own(text).format(**values)


def t_html(text: str, /, **values: object) -> Markup:
    """The same as safe HTML: ``text`` may hold elements, and values are escaped unless they are safe already."""
    return Markup(_own(text)).format(**values)


def translate(text: str) -> str:
    """A sentence of a comparison in the language that is spoken."""
    return _translate(text, _DEEPEST)


def _translate(text: str, depth: int) -> str:
    catalogue = _load(_spoken.get())
    if exact := catalogue.sentences.get(text):
        return exact
    if not depth or not catalogue.patterns:
        return text
    for mark, pattern, translation in catalogue.patterns:
        if mark in text and (found := pattern.fullmatch(text)):
            return _Sentences(depth - 1).vformat(translation, (), found.groupdict())
    parts = text.split("; ")
    return "；".join(_translate(part, depth - 1) for part in parts) if len(parts) > 1 else text


class _Sentences(Formatter):
    """``{reason!t}`` is itself a sentence and is translated before it is put in, ``{names!l}`` a list of things with commas between."""

    def __init__(self, depth: int) -> None:
        self._depth = depth

    def convert_field(self, value: Any, conversion: str | None) -> Any:
        if conversion == "l":
            return "、".join(_translate(part, self._depth) for part in value.split(", "))
        return _translate(value, self._depth) if conversion == "t" else super().convert_field(value, conversion)


@dataclass(frozen=True, slots=True)
class _Catalogue:
    words: Mapping[str, str]
    sentences: Mapping[str, str]
    """Those without gaps."""
    patterns: tuple[tuple[str, re.Pattern[str], str], ...]
    """Those with gaps, those that begin with words and have the most of them first: of two that fit, they say more.
    Each with its longest words, which are quicker to look for."""


@cache
def _load(language: str) -> _Catalogue:
    words: dict[str, str] = {}
    sentences: dict[str, str] = {}
    if language != "en":
        for file in sorted((files("homolog.report") / "languages" / language).iterdir(), key=lambda file: file.name):
            if file.name.endswith(".toml"):
                (words if file.name == "words.toml" else sentences).update(tomllib.loads(file.read_text("utf-8")))
    gapped = [text for text, translation in sentences.items() if "{" in text and translation]
    literals = {text: [literal for literal, *_ in Formatter().parse(text)] for text in gapped}
    gapped.sort(key=lambda text: (text[0] == "{", -sum(map(len, literals[text]))))
    return _Catalogue(
        {text: translation for text, translation in words.items() if translation},
        {text: translation for text, translation in sentences.items() if translation and "{" not in text},
        tuple((max(literals[text], key=len), _compile(text), sentences[text]) for text in gapped),
    )


_CONTENTS = {"": ".+?", "d": r"[-−]?\d(?:[\d.,–−-]*\d)?", "w": r"\S+", "n": r"\d[\d, –]*", "k": r"\w+(?: \(\w+\))?"}


def _own(text: str) -> str:
    return _load(_spoken.get()).words.get(text, text)


def _compile(template: str) -> re.Pattern[str]:
    """What a template can have made.

    ``{n:d}`` is a number, ``{name:w}`` a word, ``{layers:n}`` several numbers, ``{kind:k}`` a kind of them, such as ``fp8 (E4M3)``; a gap
    that says nothing holds any text.

    Every gap but the last ends where the text after it first occurs, and is not tried again: a hostile name costs no more than others.
    """
    parts = [*Formatter().parse(template), ("", None, None, None)]
    pattern = re.escape(parts[0][0])
    gaps = [(name, spec, parts[place + 1][0]) for place, (_, name, spec, _) in enumerate(parts) if name is not None]
    for place, (name, spec, following) in enumerate(gaps):
        gap = f"(?P<{name}>{_CONTENTS[spec or '']}){re.escape(following)}"
        pattern += gap if place == len(gaps) - 1 else f"(?>{gap})"
    return re.compile(pattern, re.DOTALL)
