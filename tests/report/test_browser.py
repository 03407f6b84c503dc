"""The report as a reader meets it: opened in Chromium, hovered, squeezed, darkened and printed."""

from __future__ import annotations

import base64
import json
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait
from tests.report.pdf_text import read_pages
from tests.report.samples import SAMPLES, hostile

from homolog.report.html import write_report

pytestmark = pytest.mark.browser

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def find_program(*names: str) -> str:
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    pytest.fail(
        f"none of {', '.join(names)} is installed; the report is tested in a real browser (apt-get install chromium)"
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = find_program("chromium", "chromium-browser", "google-chrome")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(find_program("chromedriver")))
    yield driver
    driver.quit()


def read_log(driver: webdriver.Chrome, kind: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = driver.get_log(kind)  # type: ignore[no-untyped-call]
    return entries


def look(driver: webdriver.Chrome, page: Path, width: int, scheme: str = "light") -> None:
    """Open the page in a window of this width and colour scheme, and wait until all charts are drawn."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    driver.get(page.as_uri())
    WebDriverWait(driver, 20).until(
        lambda d: d.execute_script("return document.documentElement.dataset.charts") == "done"
    )


def requested(driver: webdriver.Chrome) -> set[str]:
    """Addresses that the page asked for since the last look; a data: address asks nobody, chrome: is its own new tab."""
    events = [json.loads(entry["message"])["message"] for entry in read_log(driver, "performance")]
    addresses = [
        event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
    ]
    return {address for address in addresses if not address.startswith(("data:", "chrome:"))}


def hover(driver: webdriver.Chrome, element: WebElement) -> str:
    """What the tooltip says when the element is pointed at."""
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    ActionChains(driver).move_to_element(element).perform()
    tip = WebDriverWait(driver, 5).until(lambda d: d.find_element(By.CSS_SELECTOR, "#vg-tooltip-element.visible"))
    return str(tip.text)


def colour(driver: webdriver.Chrome, selector: str, name: str) -> str:
    script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    return str(driver.execute_script(script, selector, name))


@pytest.mark.parametrize("name", [*SAMPLES, "hostile"])
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_page_opens_clean(browser: webdriver.Chrome, tmp_path: Path, name: str, width: int, scheme: str) -> None:
    comparison = hostile() if name == "hostile" else SAMPLES[name]()
    page = write_report(comparison, tmp_path / "report.html")
    read_log(browser, "performance")
    look(browser, page, width, scheme)

    assert read_log(browser, "browser") == []
    assert requested(browser) == {page.as_uri()}
    boxes = browser.find_elements(By.CSS_SELECTOR, "[data-chart]")
    assert boxes
    assert {box.get_attribute("data-state") for box in boxes} == {"drawn"}
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.execute_script(
        "return [...document.querySelectorAll('.chart svg')].every(s => s.getBoundingClientRect().right <= innerWidth)"
    )


@pytest.mark.parametrize("width", [1280, 390])
def test_marks_explain_themselves(browser: webdriver.Chrome, tmp_path: Path, width: int) -> None:
    look(browser, write_report(SAMPLES["related"](), tmp_path / "report.html"), width)
    marks = browser.find_elements(By.CSS_SELECTOR, "[data-chart='null-0'] .mark-symbol path")
    assert hover(browser, marks[-1]) == "these two models, layer 0: 512 of 512"
    cells = browser.find_elements(By.CSS_SELECTOR, "[data-chart='matrix'] .mark-rect path")
    assert len(cells) == 144
    assert hover(browser, cells[13]) == "layer 1 of B, layer 1 of A: 64 of 64, by chance about 1"


@pytest.mark.parametrize("width", [1280, 390])
def test_a_chinese_page_fits_and_its_marks_speak_chinese(browser: webdriver.Chrome, tmp_path: Path, width: int) -> None:
    page = write_report(SAMPLES["related"](), tmp_path / "report.html", lang="zh")
    look(browser, page, width)
    assert read_log(browser, "browser") == []
    assert browser.execute_script("return document.documentElement.lang") == "zh-Hans"
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    marks = browser.find_elements(By.CSS_SELECTOR, "[data-chart='null-0'] .mark-symbol path")
    assert hover(browser, marks[-1]) == "这两个模型，第 0 层：512 个中有 512 个"
    cells = browser.find_elements(By.CSS_SELECTOR, "[data-chart='matrix'] .mark-rect path")
    assert hover(browser, cells[13]) == "B 的第 1 层对 A 的第 1 层：64 个中有 64 个，偶然情况下约 1 个"


@pytest.mark.parametrize("width", [1280, 390])
def test_the_second_look_explains_itself(browser: webdriver.Chrome, tmp_path: Path, width: int) -> None:
    look(browser, write_report(SAMPLES["aligned"](), tmp_path / "report.html"), width)
    bars = browser.find_elements(By.CSS_SELECTOR, "[data-chart='bank'] .mark-rect path")
    assert len(bars) == 2
    assert hover(browser, bars[0]) == "0 % to 2 %: 1,340 pairs of independent models"
    mark = browser.find_elements(By.CSS_SELECTOR, "[data-chart='bank'] .mark-symbol path")[-1]
    assert hover(browser, mark) == "these two models: 98 % in the median layer"
    cells = browser.find_elements(By.CSS_SELECTOR, "[data-chart='heat-fitted'] .mark-rect path")
    assert len(cells) == 144
    assert hover(browser, cells[13]).startswith("layer 1 of B, layer 1 of A: 9")


@pytest.mark.parametrize(("name", "width"), [("partly_related", 1280), ("partly_related", 390), ("related", 390)])
def test_layer_map_names_and_joins_every_layer(
    browser: webdriver.Chrome, tmp_path: Path, name: str, width: int
) -> None:
    comparison = SAMPLES[name]()
    look(browser, write_report(comparison, tmp_path / "report.html"), width)
    layers = comparison["derivation"]["layers"]
    joined = browser.find_elements(By.CSS_SELECTOR, ".ribbons path")
    assert len(joined) == sum(len(layer["sources"]) for layer in layers)
    rows = browser.find_elements(By.CSS_SELECTOR, ".columns .right .cell")
    numbers = [row.find_element(By.CSS_SELECTOR, "i").text for row in rows]
    assert numbers == [str(layer["b"]) for layer in layers]
    # ribbons end where the blocks of B stand
    tops = browser.execute_script(
        "return ['.ribbons path', '.columns .right .cell b'].map(s => [...document.querySelectorAll(s)]"
        ".map(e => e.getBoundingClientRect()).map(r => [r.top, r.bottom, r.right, r.left]))"
    )
    blocks = [block for block, layer in zip(tops[1], layers, strict=True) if layer["sources"]]
    for ribbon, block in zip(tops[0], blocks, strict=True):
        assert ribbon[0] <= block[0] + 1
        assert ribbon[1] >= block[1] - 1
        assert abs(ribbon[2] - block[3]) <= 1
    words = browser.find_elements(By.CSS_SELECTOR, ".columns .right em")
    assert all(word.text for word in words)
    heights = browser.execute_script(
        "return [...document.querySelectorAll('.columns .right .cell i')].map(e => e.getBoundingClientRect().height)"
    )
    assert min(heights) >= 9, "numbers are large enough to be read"


def test_tooltip_shows_hostile_names_as_text(browser: webdriver.Chrome, tmp_path: Path) -> None:
    look(browser, write_report(hostile(), tmp_path / "report.html"), 1280)
    mark = browser.find_elements(By.CSS_SELECTOR, "[data-chart='null-0'] .mark-symbol path")[-1]
    assert "</script><script>alert(1)" in hover(browser, mark)
    assert browser.find_elements(By.CSS_SELECTOR, "#vg-tooltip-element img, #vg-tooltip-element script") == []


def test_charts_follow_the_colour_scheme(browser: webdriver.Chrome, tmp_path: Path) -> None:
    page = write_report(SAMPLES["related"](), tmp_path / "report.html")
    seen = {}
    for scheme in ("light", "dark"):
        look(browser, page, 1280, scheme)
        seen[scheme] = (
            colour(browser, "body", "backgroundColor"),
            colour(browser, "[data-chart='null-0'] .mark-rule line", "stroke"),
            colour(browser, "[data-chart='matrix'] .mark-rect path", "fill"),
        )
    assert all(light != dark for light, dark in zip(seen["light"], seen["dark"], strict=True))


@pytest.mark.parametrize("width", [1280, 390])
def test_terms_are_explained_on_tap_and_by_keyboard(browser: webdriver.Chrome, tmp_path: Path, width: int) -> None:
    look(browser, write_report(SAMPLES["upcycled"](), tmp_path / "report.html"), width)
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    terms = browser.find_elements(By.CSS_SELECTOR, "abbr")
    assert len(terms) >= 6
    for term in terms:
        browser.execute_script("arguments[0].focus()", term)
        shown = browser.execute_script("return getComputedStyle(arguments[0], '::after').content", term)
        assert shown.strip('"') == term.get_attribute("title")
        assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    terms[0].click()
    assert "not the probability" in browser.execute_script(
        "return getComputedStyle(document.activeElement, '::after').content"
    )


@pytest.mark.parametrize("name", list(SAMPLES))
def test_print_holds_the_sentence_and_the_folded_tables(browser: webdriver.Chrome, tmp_path: Path, name: str) -> None:
    comparison: dict[str, Any] = SAMPLES[name]()
    look(browser, write_report(comparison, tmp_path / "report.html"), 1280, "dark")
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    # some fonts set “fi” as one letter
    pages = [unicodedata.normalize("NFKC", page) for page in read_pages(base64.b64decode(printed["data"]))]
    assert 1 <= len(pages) <= 40
    assert "".join(comparison["sentence"].split()) in pages[0]
    assert comparison["findings"][-1]["null"]["id"] in "".join(pages), "folded details are open in print"
    assert browser.execute_script("return document.querySelectorAll('details[open]').length") == 0
