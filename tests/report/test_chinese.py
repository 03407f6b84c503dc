"""What is said in Chinese is said in Chinese throughout: every sentence of the library, the report and the terminal of real pairs."""

from __future__ import annotations

import html
import json
import re
import time
import tomllib
import zipfile
from collections.abc import Iterator
from functools import cache
from io import StringIO
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tests.report.collected import SENTENCES, SOURCE, english_runs, library_sentences
from tests.report.samples import hostile

from homolog.demo.catalogue import read_catalogue
from homolog.pipeline import compare
from homolog.report.html import render
from homolog.report.language import speaking, translate
from homolog.report.terminal import print_comparison
from homolog.report.words import EVIDENCE, OPERATIONS
from homolog.roles.architecture import load_architectures

CATALOGUES = sorted((SOURCE / "report" / "languages" / "zh").glob("*.toml"))
ZOO = Path(__file__).parents[1] / "zoo"

PAIRS = {
    "identical": ("a", "a"),
    "related": ("d", "d-grown"),
    "upcycled": ("q", "q-upcycled"),
    "swapped": ("d", "d-swapped-vocabulary"),
    "shrunk": ("deep", "deep-minitron"),
    "partly_related": ("a", "a-frozen-core"),
    "shared_initialisation": ("g", "g-order2"),
    "independent": ("a", "gpt2-32-00"),
}


@cache
def document(name: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(compare(*(ZOO / model for model in PAIRS[name])).to_json()))
    if name == "partly_related":
        sentence = next(text for text in SENTENCES["whole"] if "common descent for part of B" in text)
        made |= {"verdict": name, "sentence": sentence}
    return made


@pytest.fixture(scope="module")
def inconclusive(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("unknown") / "unknown.npz"
    draw = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(9):
            with archive.open(f"w{number}.npy", "w") as file:
                np.save(file, draw.normal(size=(8, 8 + number)).astype(np.float32))
    made: dict[str, Any] = json.loads(json.dumps(compare(ZOO / "a", path).to_json()))
    assert made["verdict"] == "inconclusive"
    return made


def test_every_sentence_of_the_library_has_its_translation() -> None:
    excused = {*SENTENCES["parts"], *SENTENCES["unsaid"]}
    with speaking("zh"):
        lacking = {text: place for text, place in library_sentences().items() if english_runs(translate(text))}
    new = "\n".join(f'{place}: "{text}"' for text, place in lacking.items() if text not in excused)
    assert not new, (
        f"no catalogue in report/languages/zh has these, nor are they excused in tests/report/sentences.toml:\n{new}"
    )


def test_no_excuse_outlives_its_sentence() -> None:
    assert not {*SENTENCES["parts"], *SENTENCES["unsaid"]} - library_sentences().keys()


@pytest.mark.parametrize("text", SENTENCES["whole"])
def test_sentences_put_together_of_parts_are_translated_whole(text: str) -> None:
    with speaking("zh"):
        translated = translate(text)
    assert not english_runs(translated)
    for figure in re.findall(r"\d[\d.]*\d|\d", text):
        assert figure in translated or figure == "1"
    assert translate(text) == text


def test_every_identifier_of_the_library_has_words() -> None:
    source = "".join(path.read_text("utf-8") for path in sorted((SOURCE / "derivation").glob("*.py")))
    operations = {*re.findall(r'Operation\(\s*"(\w+)"', source)}
    assert len(operations) > 10
    assert operations <= OPERATIONS.keys()
    source = "".join((SOURCE / "probes" / f"{name}.py").read_text("utf-8") for name in ("initialisation", "agreement"))
    evidence = {*re.findall(r'"(\w+_(?:agreement|cosine|correlation|log10_p))"', source)} - {"weigh_agreement"}
    assert len(evidence) > 4
    assert evidence <= EVIDENCE.keys()


def test_titles_of_the_demo_are_translated() -> None:
    with speaking("zh"):
        for comparison in read_catalogue().comparisons:
            assert not english_runs(translate(comparison.title))


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_translations_are_whole(path: Path) -> None:
    for text, translation in tomllib.loads(path.read_text("utf-8")).items():
        gaps, kept = ({name for _, name, _, _ in Formatter().parse(side) if name} for side in (text, translation))
        assert gaps == kept, text
        assert not english_runs(re.sub(r"<[^>]*>|homolog bank show|Vega-Lite|\{[^}]*\}", "", translation)), text


def test_nobody_is_accused_in_chinese() -> None:
    for path in CATALOGUES:
        assert not re.search("抄袭|剽窃|窃取|盗用|盗版|套壳|侵权|偷", path.read_text("utf-8")), path


@pytest.mark.parametrize("name", PAIRS)
def test_a_chinese_report_is_chinese_throughout(name: str) -> None:
    check_page(document(name))


def test_a_chinese_report_without_a_conclusion_is_chinese_throughout(inconclusive: dict[str, Any]) -> None:
    check_page(inconclusive)


def check_page(made: dict[str, Any]) -> None:
    page = render(made, lang="zh")
    assert '<html lang="zh-Hans">' in page
    charts = json.loads(re.split(r'id="chart-data">|</script>', page)[1])
    said = [*shown_texts(page), charts["failed"], *strings(charts["charts"])]
    leaks = [text for text in said if english_runs(text)]
    assert not leaks
    families = "|".join(re.escape(family.id) for family in load_architectures())
    names = re.compile(rf"{families}|{_ROLES}|tokenizer\.json")
    words = {word for text in shown_texts(page) for word in re.findall("[A-Za-z]{3,}", names.sub("", text))}
    assert words <= _KEPT


_KEPT = {
    "BSD",
    "Clause",
    "FFN",
    "JSON",
    "JavaScript",
    "LoRA",
    "Transformer",
    "Vega",
    "comparison",
    "config",
    "homolog",
    "json",
    "log",
    "upcycling",
}
"""Names, and what is written so in Chinese too."""

_ROLES = r"(?:unembed|(?:embed|norm|attn|ffn)\.\w+)(?: weight| bias)?"


def shown_texts(page: str) -> Iterator[str]:
    """Text and labels; not scripts and styles, nor what is quoted: names, identifiers, the command."""
    body = re.sub(r"(?s)<(script|style|code|bdi|title)\b.*?</\1>", " ", page)
    body = re.sub(r'(?s)<p class="aside">[^<]* = [^<]*</p>', " ", body)
    for text in (*re.findall(r">([^<]+)<", body), *re.findall(r'(?:aria-label|title|data-label)="([^"]*)"', body)):
        yield html.unescape(text).replace("Vega-Lite", "").replace("homolog bank show", "")


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value.replace("homolog bank show", "")
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


@pytest.mark.parametrize("width", [44, 100])
@pytest.mark.parametrize("name", PAIRS)
def test_a_chinese_terminal_is_chinese_throughout(name: str, width: int) -> None:
    text = printed(document(name), width)
    assert not english_runs(re.sub(r"tests/zoo\S*", "", text))
    with speaking("zh"):
        assert translate(document(name)["sentence"])[:8] in text


def printed(made: dict[str, Any], width: int) -> str:
    console = Console(file=StringIO(), width=width, legacy_windows=False)
    with speaking("zh"):
        print_comparison(made, console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_no_line_is_too_wide_or_begins_with_a_stop() -> None:
    for width in (44, 61, 100):
        console = Console(width=width)
        for line in printed(document("independent"), width).splitlines():
            assert console.render_str(line, markup=False).cell_len <= width
            assert not re.match(r"\s*[，。；：、）」”]", line)


def test_names_of_a_hostile_file_are_neither_translated_nor_slow() -> None:
    made = hostile()
    made["warnings"] = [f"A: FFN of {'{x} of ' * 5000}: contains NaN", "; " * 30_000, "layer " * 30_000, "A: " * 30_000]
    start = time.process_time()
    page = render(made, lang="zh")
    assert time.process_time() - start < 10
    assert "<script>alert" not in page.replace("&lt;script&gt;alert", "")


def test_a_newer_sentence_is_shown_as_it_stands() -> None:
    with speaking("zh"):
        assert translate("A sentence of 2031 that is in no catalogue.") == "A sentence of 2031 that is in no catalogue."
