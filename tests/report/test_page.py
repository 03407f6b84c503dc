"""The report as a page: what it holds, what it never does, and that the same comparison gives the same bytes."""

from __future__ import annotations

import json
import re
import time
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import altair as alt
import pytest
from tests.report.sample_parts import finding, group
from tests.report.samples import HOSTILE, SAMPLES, hostile, partly_related, related

from homolog.errors import UsageError
from homolog.report.document import arrange
from homolog.report.html import render, write_report

ALL = pytest.mark.parametrize("name", [*SAMPLES, "hostile"])


def build(name: str) -> dict[str, Any]:
    return hostile() if name == "hostile" else SAMPLES[name]()


@cache
def rendered(name: str) -> str:
    return render(build(name))


@cache
def parsed(name: str) -> Page:
    return Page(rendered(name))


class Page(HTMLParser):
    """Elements, addresses, identifiers and text of a page; scripts and styles apart."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.ids: list[str] = []
        self.scripts: list[str] = []
        self.attributes: dict[str, list[str]] = {}
        self.text = ""
        self._inside = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside = tag if tag in {"script", "style"} else ""
        if tag == "script":
            self.scripts.append("")
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")
            if name in {"src", "href", "action", "data", "poster", "srcset", "formaction", "xlink:href"}:
                self.addresses.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)
            if name == "id":
                self.ids.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif not self._inside:
            self.text += data


@ALL
def test_page_is_small_and_deterministic(name: str) -> None:
    page = rendered(name)
    assert len(page.encode()) <= 2_000_000
    assert page == render(build(name))


@ALL
def test_page_asks_nobody_for_anything(name: str) -> None:
    source, page = rendered(name), parsed(name)
    assert set(page.addresses) == {"data:,"}
    assert not {"iframe", "object", "embed", "img", "audio", "video", "base", "form"} & set(page.tags)
    style = source.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert "sourceMappingURL" not in source
    policy = next(value for value in page.attributes["content"] if "default-src" in value)
    assert policy.startswith("default-src 'none'")
    assert "unsafe-eval" not in policy
    assert "script-src 'sha256-" in policy


@ALL
def test_every_section_and_number_is_there_without_a_script(name: str) -> None:
    comparison = build(name)
    page = parsed(name)
    text = re.sub(r"\s+", " ", page.text)
    if name != "hostile":
        assert comparison["sentence"] in text
    for heading in (
        "How to read this",
        "Findings",
        "Ruled out, and not",
        "Limits, and how to rebut this",
        "What was read",
    ):
        assert heading in text
    for side in "ab":
        assert comparison[side]["digest"] in text
    for found in comparison["findings"]:
        for part in found["groups"]:
            assert f"{part['log10_p']:,.1f}".replace("-", "−").replace("−0.0", "0.0") in text
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("h1") == 1
    assert page.tags.count("caption") == page.tags.count("table")


@ALL
def test_charts_follow_the_schema(name: str) -> None:
    """Rendering skips Altair's own check for speed, so it is made here."""
    comparison = build(name)
    charts = arrange(comparison)["charts"]
    for place in charts.keys() & {"null-0", "matrix", "curve-q", "spread-gains"}:
        # The rows are plain objects, which the schema says nothing of.
        alt.Chart.from_dict(charts[place] | {"datasets": {}}, validate=True)
    answered = [found for found in comparison["findings"] if not found["absent"]]
    assert sum(place.startswith("null-") for place in charts) == len(answered)


def test_every_chart_has_its_place_and_every_place_its_chart() -> None:
    page = parsed("related")
    data = json.loads(next(script for script in page.scripts if script.startswith('{"config"')))
    assert sorted(page.attributes["data-chart"]) == sorted(data["charts"])


def test_hostile_strings_stay_text() -> None:
    page = parsed("hostile")
    benign = parsed("related")
    assert not page.handlers
    assert page.tags.count("script") == benign.tags.count("script")
    assert "img" not in page.tags
    assert "alert(1)" in page.text
    assert "{{7*7}}" in page.text
    assert "\u202e" not in page.text
    assert "\x1b" not in page.text


def test_chart_data_cannot_leave_its_script() -> None:
    page = parsed("hostile")
    data = next(script for script in page.scripts if script.startswith('{"config"'))
    assert "<" not in data
    assert ">" not in data
    shown = json.dumps(json.loads(data)["charts"]["null-0"], ensure_ascii=False)
    assert "alert(1)" in shown, "the string is there, as a value"
    assert "\u202e" not in shown


def test_no_expression_or_field_comes_from_a_checkpoint() -> None:
    """Strings of a checkpoint may be in the rows of a chart only, never where Vega reads an expression."""

    def without_rows(spec: dict[str, Any]) -> str:
        return json.dumps({key: value for key, value in spec.items() if key != "datasets"})

    for spec in arrange(hostile())["charts"].values():
        assert "alert" not in without_rows(spec)


def test_nothing_is_said_of_descent_where_none_was_found() -> None:
    for name in ("independent", "shared_initialisation", "inconclusive"):
        text = parsed(name).text
        assert "Direction" not in text
        assert "and that is all they say" not in text
    assert "Direction unknown" in parsed("related").text


def test_nobody_is_accused() -> None:
    for name in SAMPLES:
        text = parsed(name).text.lower()
        for word in ("stolen", "theft", "thief", "steal", "guilt", "plagiar", "culprit", "suspect"):
            assert word not in text.replace("a suspicion", "")


def test_p_is_capped_in_words_and_kept_in_tables() -> None:
    source = rendered("related")
    assert "p&nbsp;≤&nbsp;10<sup>−30</sup>" in source
    assert "10<sup>−1161</sup>" in source
    assert "the assumptions are the weaker link" in source
    assert "−1,165.2" in source


def test_thousands_of_groups_stay_small() -> None:
    comparison = partly_related()
    groups = [
        group("ffn.rows", (layer, layer), 64 - (layer * expert) % 9, 64, 0.9)
        | {"group": f"layer {layer} expert {expert}"}
        for layer in range(94)
        for expert in range(128)
    ]
    comparison["findings"] = [finding(probe, groups) for probe in ("ffn.rows", "ffn.profiles", "experts.rows")]
    comparison["layer_matrix"]["counts"] = [[1] * 126 for _ in range(126)]
    page = render(comparison)
    assert len(page.encode()) <= 2_000_000
    assert "11732 more are in the JSON output" in Page(page).text


def test_missing_extras_are_left_out() -> None:
    comparison = related()
    for key in ("exhibits", "layer_matrix", "derivation", "initialisation", "inherited", "run", "warnings"):
        del comparison[key]
    for found in comparison["findings"]:
        found.pop("null_curve")
        found.pop("total")
    text = Page(render(comparison)).text
    assert "Exhibits" not in text
    assert "Layer by layer" not in text


def test_nan_in_an_exhibit_is_a_gap() -> None:
    comparison = related()
    comparison["exhibits"]["std_curves"]["b"]["q"][3] = float("nan")
    comparison["exhibits"]["norm_gains"]["cosine"][0] = None
    assert "NaN" not in render(comparison).split('id="chart-data"')[1].split("</script>")[0]


def test_rendering_is_quick() -> None:
    """The budget is a second; a machine that is busy gets three."""
    comparison = partly_related()
    render(comparison)
    start = time.process_time()
    render(comparison)
    assert time.process_time() - start < 3


def test_report_is_written_whole(tmp_path: Path) -> None:
    path = write_report(related(), tmp_path / "report.html")
    assert path.read_text(encoding="utf-8") == render(related())
    assert [item.name for item in tmp_path.iterdir()] == ["report.html"]


def test_existing_file_is_kept_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(UsageError, match=r"exists already.*--force"):
        write_report(related(), path)
    assert path.read_text() == "mine"
    write_report(related(), path, overwrite=True)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_places_that_cannot_hold_a_report(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        write_report(related(), tmp_path)
    with pytest.raises(UsageError, match="there is no folder"):
        write_report(related(), tmp_path / "nowhere" / "report.html")
    with pytest.raises(UsageError, match="cannot be written"):
        write_report(related(), tmp_path / ("x" * 300 + ".html"))


def test_other_objects_are_refused() -> None:
    with pytest.raises(UsageError, match="no comparison object"):
        render({"schema": "homolog.sketch/1"})


def test_hostile_sample_is_hostile() -> None:
    assert "</script>" in HOSTILE
    assert "<!--" in HOSTILE
