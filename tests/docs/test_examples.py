"""Every example of the README and of docs/ is run: ``console`` and ``python`` blocks as written, against what they show.

Blocks of one page run in order, in one folder, with published models under ``models/`` and the repository's ``tests/``. ``...`` stands
for anything. ``json`` and ``toml`` are parsed. Of ``make`` only the targets are looked up. What cannot be run here (an installation,
say) is fenced as ``sh``.
"""

from __future__ import annotations

import doctest
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PAGES = [_ROOT / "README.md", _ROOT / "README.zh-CN.md", *sorted((_ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MODELS = {
    "rxnfp": ("rxnfp/models/transformers", ["bert_pretrained", "bert_ft", "bert_ft_10k_25s"]),
    "sceptr": ("sceptr/_model_saves", ["SCEPTR", "SCEPTR_MLM_only", "SCEPTR_finetuned"]),
}


_PARSERS: dict[str, Callable[[str], object]] = {"json": json.loads, "toml": tomllib.loads}


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        yield Block(match[1], match[2], text.count("\n", 0, match.start()) + 2)


def _run_console(block: Block, page: Path, folder: Path) -> None:
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    for step in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, expected = step.partition("\n")
        if command.startswith("make "):
            subprocess.run([*command.split(), "--dry-run", f"--directory={_ROOT}"], check=True, capture_output=True)
            continue
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        _check(f"{page.name}:{block.line}: $ {command}", expected, done.stdout)


def _check(where: str, expected: str, got: str) -> None:
    expected, got = ("".join(f"{line.rstrip()}\n" for line in text.splitlines()) for text in (expected, got))
    checker = doctest.OutputChecker()
    if not checker.check_output(expected, got, doctest.ELLIPSIS):
        pytest.fail(f"{where}\nshown:\n{expected}\nprinted:\n{got}", pytrace=False)


def _run_python(block: Block, page: Path, names: dict[str, object]) -> None:
    test = doctest.DocTestParser().get_doctest(block.text, names, page.name, str(page), block.line)
    runner = doctest.DebugRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    try:
        runner.run(test, clear_globs=False)
    except doctest.DocTestFailure as failure:
        where = f"{page.name}:{block.line + failure.example.lineno}: {failure.example.source}"
        pytest.fail(f"{where}\nshown:\n{failure.example.want}\ngot:\n{failure.got}", pytrace=False)
    except doctest.UnexpectedException as failure:
        where = f"{page.name}:{block.line + failure.example.lineno}: {failure.example.source}"
        pytest.fail(f"{where}raised {failure.exc_info[1]!r}", pytrace=False)
    names.update(test.globs)


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_the_examples_of_a_page_hold(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real: Callable[[str], Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tests").symlink_to(_ROOT / "tests")
    blocks = list(_blocks(page))
    text = "".join(block.text for block in blocks)
    for package, (inner, models) in _MODELS.items():
        for model in models:
            if f"models/{model}" in text:
                shutil.copytree(real(package) / inner / model, tmp_path / "models" / model)
    names: dict[str, object] = {}
    for block in blocks:
        if block.language == "console":
            _run_console(block, page, tmp_path)
        elif block.language in {"python", "pycon"}:
            assert ">>> " in block.text, f"{page.name}:{block.line}: Python without a prompt shows no result to check"
            _run_python(block, page, names)
        elif block.language in _PARSERS:
            _PARSERS[block.language](block.text)
        else:
            assert block.language == "sh", f"{page.name}:{block.line}: a fence that nothing checks"


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in [*_PAGES, _ROOT / "CONTRIBUTING.md", _ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_chinese_readme_shows_what_the_english_one_shows() -> None:
    """The same commands, figures and links, in the same order; words aside."""
    english, chinese = ((_ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
    for pattern in (
        r"^```\w+$",
        r"^\$ .*$",
        r"^>>> .*?(?=  #|$)",
        r"^#{1,2} ",
        r"\]\(([^)#]+)\)",
        r"-?\d+\.\d{4}|-\d{3,}\.\d",
    ):
        found = [re.findall(pattern, text, re.MULTILINE) for text in (english, chinese)]
        shown = [[text for text in side if not text.startswith("README")] for side in found]
        assert shown[0] == shown[1], pattern
