"""``homolog arena`` at the command line, and its page in a browser."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from tests.report.test_browser import FLAGS, find_program, look, read_log

from homolog.arena.hold import hold_arena


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "homolog", "arena", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_the_verb_prints_a_table_and_names_its_files(small_zoo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("--zoo", small_zoo, "--out", out, "--quick", "--methods", "std-curves, norm-gains")
    assert done.returncode == 0, done.stderr
    assert "std-curves" in done.stdout
    assert "norm-gains" in done.stdout
    assert "awm" not in done.stdout
    assert done.stderr.split() == [
        word for name in ("scores.csv", "table.md", "arena.html") for word in ("written:", str(out / name))
    ]


@pytest.mark.parametrize("arguments", [("--methods", "reef"), ("--zoo", "nowhere")])
def test_bad_input_is_one_line_and_exit_code_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run("--out", tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_no_torch_is_needed() -> None:
    code = "import sys, homolog.arena.hold; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = find_program("chromium", "chromium-browser", "google-chrome")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(find_program("chromedriver")))
    yield driver
    driver.quit()


@pytest.mark.browser
def test_the_page_draws_all_its_charts(browser: webdriver.Chrome, small_zoo: Path, tmp_path: Path) -> None:
    held = hold_arena(small_zoo, tmp_path / "out", ["match-weights", "norm-gains"], quick=True)
    for width in (1280, 390):
        look(browser, held.files[-1], width)
        states = browser.execute_script(
            "return [...document.querySelectorAll('[data-chart]')].map(x => x.dataset.state)"
        )
        assert states == ["drawn"] * 5
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert read_log(browser, "browser") == []
