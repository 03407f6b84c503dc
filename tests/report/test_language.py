"""Languages: every text has its translation, with the same gaps, and what is said in Chinese is said in Chinese throughout."""

from __future__ import annotations

import tomllib
from string import Formatter

import pytest
from tests.report.collected import SOURCE, hidden_words, own_words

from homolog.errors import UsageError
from homolog.report.language import guess_language, speaking, t, t_html

CHINESE = SOURCE / "report" / "languages" / "zh"


def catalogue(name: str) -> dict[str, str]:
    return tomllib.loads((CHINESE / name).read_text("utf-8"))


def gaps(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def test_every_word_of_the_report_is_in_the_catalogue() -> None:
    known = catalogue("words.toml")
    missing = {text: place for text, place in own_words().items() if text not in known}
    assert not missing, "\n".join(f'"{text}" = ""  # {place}' for text, place in missing.items())


def test_no_word_of_the_report_is_hidden_from_the_collection() -> None:
    assert hidden_words() == [
        "base.py: t(text)",
        "words.py: t(known)",
    ]  # those of `expression` and `say`, which are collected


def test_translations_have_the_gaps_of_the_original() -> None:
    for text, translation in catalogue("words.toml").items():
        if translation:
            assert gaps(translation) == gaps(text), text


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh"}, "zh"),
        ({"LANG": "zh-Hans"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "en_GB.UTF-8"}, "en"),
        ({"LC_ALL": "", "LC_MESSAGES": "zh_TW.Big5"}, "zh"),
        ({"LC_ALL": "C", "LANG": "zh_CN"}, "en"),
        ({"LANG": "zha_CN"}, "en"),
    ],
)
def test_the_locale_is_the_default(environment: dict[str, str], expected: str) -> None:
    assert guess_language(environment) == expected


def test_values_are_put_in_and_escaped_in_html() -> None:
    assert t("{name}: {value}", name="{x}", value=3) == "{x}: 3"
    assert t_html("<b>{name}</b>", name="<i>") == "<b>&lt;i&gt;</b>"


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(UsageError, match="en and zh"), speaking("tlh"):
        pass
