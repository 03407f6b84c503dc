"""One report for every operation, from the zoo: docs/gallery.md with its pictures, and the reports themselves.

python benchmarks/gallery.py reports/gallery
python benchmarks/gallery.py reports/gallery --docs docs
python benchmarks/gallery.py reports/gallery --only merged rotated

The first writes a report and its JSON for every entry. With --docs every report is also opened in headless Chromium, what tells most of
the operation becomes a picture, and the page is written. `make gallery` does that. The same zoo gives the same page.
"""

from __future__ import annotations

import argparse
import base64
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from homolog.arena.recipes import MERGE_RECIPES, list_recipes
from homolog.cli.output import canonical
from homolog.lab.merges import apply_merge
from homolog.lab.operations import apply_operation
from homolog.lab.store import load_model, save_weights
from homolog.pipeline import compare
from homolog.report.done import list_operations, say_order
from homolog.report.html import write_report
from homolog.report.words import VERDICTS, say
from homolog.sketch.vocabulary import read_vocabulary

if TYPE_CHECKING:
    from selenium import webdriver

_ZOO = Path("tests/zoo")

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
)

_MAP, _TESTS, _PARTS = (
    ".map .columns",
    "[aria-labelledby=tests] .panel",
    "[aria-labelledby=parts] .body > :not(details)",
)

_BOUNDS = """
const boxes = [...document.querySelectorAll(arguments[0])].slice(0, arguments[1]).map(e => e.getBoundingClientRect());
const left = Math.min(...boxes.map(b => b.left)), top = Math.min(...boxes.map(b => b.top));
return [left + scrollX, top + scrollY, Math.max(...boxes.map(b => b.right)) - left, Math.max(...boxes.map(b => b.bottom)) - top];
"""

Step = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A pair to show."""

    name: str
    title: str
    text: str
    """What was really done, in a sentence."""
    a: str
    b: str
    """A model of the zoo, from which B is made by ``steps`` if there are any."""
    steps: tuple[Step, ...] = ()
    merged_with: str = ""
    """With this model of the zoo, half and half; it is named to the comparison."""
    given: str = ""
    """A third model of the zoo, named to the comparison."""
    shown: tuple[str, int] = (_MAP, 1)
    """What becomes the picture: the first so many elements of a selector, in the report."""

    @property
    def options(self) -> dict[str, Any]:
        """What the comparison is told besides the two models."""
        named: dict[str, Any] = {"also": [str(_ZOO / self.merged_with)]} if self.merged_with else {}
        return named | ({"given": str(_ZOO / self.given)} if self.given else {})


def list_entries() -> list[Entry]:
    """All entries, in the order of the page."""
    shape, _ = load_model(_ZOO / "a-zh-1x")
    vocabulary = read_vocabulary(_ZOO / "a-zh-1x")
    assert vocabulary is not None
    recipes = list_recipes(shape, sorted(vocabulary.ids[token] for token in vocabulary.untrained))
    hidden = recipes["fully_disguised_rows_overwritten"]
    return [
        Entry(
            "continued",
            "Continued training",
            "B is A, trained on Chinese for as many steps as A had in all.",
            "a",
            "a-zh-1x",
            shown=(_TESTS, 2),
        ),
        Entry(
            "upcycled",
            "Upcycled",
            "Every FFN of A became a shared expert and four experts of B, which was trained on.",
            "q",
            "q-upcycled",
            shown=(_PARTS, 3),
        ),
        Entry(
            "subsets",
            "Upcycled, Pangu's shape",
            "Each of B's eight experts took some of the neurons of A's FFN, a quarter of them new; experts stand in two groups.",
            "q",
            "q-pangu",
            shown=(_PARTS, 3),
        ),
        Entry(
            "grown",
            "Depth and width",
            "Two layers were inserted, every FFN was widened, norms were added, and all of it was trained on.",
            "d",
            "d-grown",
        ),
        Entry(
            "frozen-core",
            "Frozen core",
            "A was frozen, new layers were put between, and only they were trained.",
            "a",
            "a-frozen-core",
        ),
        Entry(
            "solar",
            "Layers doubled",
            "Two overlapping runs of A's layers were stacked, and trained on.",
            "a",
            "a-solar",
        ),
        Entry("dropped", "Layers dropped", "Two layers were taken out, the rest was trained on.", "a", "a-dropped"),
        Entry("pruned", "FFN pruned", "Of every FFN 80 of 128 units were kept and trained on.", "a", "a-pruned"),
        Entry(
            "merged",
            "Merged",
            "B is the mean of A, trained on Chinese, and a sibling, trained on code, which is named to the comparison.",
            "a-zh-1x",
            "a-zh-1x",
            merged_with="a-code-tuned",
            shown=("figure:has([data-chart=merges])", 1),
        ),
        Entry(
            "low-rank",
            "Low-rank update",
            "Adapters of rank 8 were trained in layers 1 to 3 and merged into the weights.",
            "a",
            "a-low-rank",
            shown=(".scroll:has(.signs)", 2),
        ),
        Entry(
            "quantised",
            "Quantised",
            "A child of A, every matrix rounded to four bits and written out again in full precision.",
            "a",
            "a-zh-1x",
            recipes["quantised_int4"],
            shown=(".facts", 1),
        ),
        Entry(
            "vocabulary",
            "Another vocabulary",
            "The tokenizer and its embeddings were replaced; the body was trained on.",
            "d",
            "d-swapped-vocabulary",
            shown=(_PARTS, 3),
        ),
        Entry(
            "rotated",
            "Rotated",
            "The inner space of a child of A was rotated, which changes every number and nothing that the model says.",
            "a",
            "a-zh-1x",
            recipes["residual_rotated"],
            shown=(_TESTS, 2),
        ),
        Entry(
            "disguised",
            "Fully disguised",
            "Of a child of A neurons were split, neurons and heads reordered, value spaces mixed, weights rescaled, the inner space "
            "rotated, and the rows of never-trained tokens overwritten.",
            "a",
            "a-zh-1x",
            hidden,
            shown=("[aria-labelledby=bodies] .body > :not(details)", 9),
        ),
        Entry(
            "shared-start",
            "Shared initialisation",
            "Both were trained from the same random numbers, on the same text in another order. That is not descent.",
            "a",
            "a-order2",
            shown=(".box", 1),
        ),
        Entry(
            "siblings",
            "Siblings, given their parent",
            "Both are children of a third model, one trained on Chinese, one on code. Neither descends from the other.",
            "a-zh-1x",
            "a-code-tuned",
            given="a",
            shown=("[aria-labelledby=layers] .facts, .given", 2),
        ),
        Entry(
            "independent",
            "Independent",
            "Twins: same configuration, same text in the same order, another seed.",
            "a",
            "b",
            shown=(_TESTS, 2),
        ),
        Entry(
            "distilled",
            "Distilled",
            "B learned what A answers, and inherited no weight.",
            "llama-32-00",
            "distilled-32-00",
            shown=(_TESTS, 2),
        ),
    ]


def make_model(entry: Entry, models: Path) -> Path:
    """The folder of B: in the zoo, or made below ``models``."""
    if not entry.steps and not entry.merged_with:
        return _ZOO / entry.b
    shape, weights = load_model(_ZOO / entry.b)
    if entry.merged_with:
        arguments = dict(MERGE_RECIPES["merged_linear"])
        weights = apply_merge(arguments.pop("kind"), [weights, load_model(_ZOO / entry.merged_with)[1]], **arguments)
    for step in entry.steps:
        outcome = apply_operation(shape, weights, dict(step))
        shape, weights = outcome.shape, outcome.weights
    folder = models / f"{entry.b}-{entry.name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_weights(folder, shape, weights)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(_ZOO / entry.b / name, folder / name)
    return folder


def make_report(entry: Entry, out: Path) -> dict[str, Any]:
    """The comparison of an entry as a document, and its report in ``out``."""
    document = canonical(compare(_ZOO / entry.a, make_model(entry, out / "models"), **entry.options).to_json())
    (out / f"{entry.name}.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    write_report(document, out / f"{entry.name}.html", overwrite=True)
    return document


@contextmanager
def _open_browser() -> Iterator[webdriver.Chrome]:
    from selenium import webdriver  # noqa: PLC0415 - only pictures need it

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
    with TemporaryDirectory() as profile:
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver") or ""))
        try:
            yield driver
        finally:
            driver.quit()


def take_picture(driver: webdriver.Chrome, report: Path, shown: tuple[str, int], picture: Path) -> None:
    """Save a part of a report as PNG, at six tenths of its size."""
    from selenium.webdriver.support.ui import WebDriverWait  # noqa: PLC0415

    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 1180, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    driver.get(report.resolve().as_uri())
    WebDriverWait(driver, 30).until(
        lambda d: d.execute_script("return document.documentElement.dataset.charts") == "done"
    )
    x, y, width, height = driver.execute_script(_BOUNDS, *shown)
    clip = {"x": x - 14, "y": y - 14, "width": width + 28, "height": height + 28, "scale": 0.8}
    taken = driver.execute_cdp_cmd(
        "Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True, "clip": clip}
    )
    picture.write_bytes(base64.b64decode(taken["data"]))


def _say_more(document: Mapping[str, Any]) -> list[str]:
    """The order of the two, what the parents of a merge hold of it, and how a third model stands to both, as far as is known."""
    derivation = document["derivation"]
    said = [order] if (order := say_order(document)) else []
    said += [f"{part['text']}." for key in ("merges", "given") if (part := derivation.get(key)) and not part["absent"]]
    return [" ".join(said), ""] if said else []


def write_page(entries: Sequence[tuple[Entry, Mapping[str, Any]]], docs: Path) -> None:
    """``gallery.md``: for every entry what was done, what homolog says, and the picture."""
    lines = [
        "# Gallery",
        "",
        "One report for every operation, made from the models of [the zoo](../tests/zoo/README.md), whose ancestry is known because",
        "they were trained for it. A is the known model, B the one in question. `make gallery` makes the reports (`reports/gallery`),",
        "the pictures and this page again; a test holds the verdicts to what homolog says today.",
        "",
    ]
    for entry, document in entries:
        done = list_operations(document)
        picture = f"images/gallery/{entry.name}.png"
        lines += [
            f"## {entry.title}",
            "",
            entry.text,
            "",
            f"    {document['provenance']['command']}",
            "",
            f"**{say(VERDICTS, document['verdict'])}.** {document['sentence']}",
            "",
            *([f"B seen from A: {done}.", ""] if done else []),
            *_say_more(document),
            f"![{entry.title}: part of the report; {say(VERDICTS, document['verdict']).lower()}]({picture})",
            "",
        ]
    (docs / "gallery.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the reports, and with --docs the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the reports")
    parser.add_argument("--docs", type=Path, help="folder of the page to write; needs chromium")
    parser.add_argument("--only", nargs="*", default=[], help="names of entries")
    chosen = parser.parse_args(arguments)
    chosen.out.mkdir(parents=True, exist_ok=True)
    made = []
    for entry in list_entries():
        if not chosen.only or entry.name in chosen.only:
            made.append((entry, make_report(entry, chosen.out)))
            print(f"{entry.name:14s} {made[-1][1]['verdict']:22s} {made[-1][1]['sentence']}", flush=True)
    if chosen.docs:
        pictures = chosen.docs / "images" / "gallery"
        pictures.mkdir(parents=True, exist_ok=True)
        with _open_browser() as driver:
            for entry, _ in made:
                take_picture(driver, chosen.out / f"{entry.name}.html", entry.shown, pictures / f"{entry.name}.png")
        if not chosen.only:
            write_page(made, chosen.docs)


if __name__ == "__main__":
    main()
