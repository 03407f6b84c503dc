"""Never-trained rows that were replaced: how often it is said, of models whose rows were and of those whose were not.

    python -m benchmarks.overwritten
    python -m benchmarks.overwritten --held-out --lines

Every model of the zoo, with its never-trained rows as they are, overwritten with noise of the table's deviation, and drawn anew around
their own mean with their own deviations, is compared with the base that it goes back to, with those of its start, and with a base of
another lineage. A table whose rows have collapsed onto one is left out whatever was done, and counted as such; `replaced` counts the
tables of which it is said that their rows were replaced.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.disguises import recipe_of, same_start, stranger, the_zoo

from homolog.lab.operations import apply_operation
from homolog.lab.store import load_model, save_weights
from homolog.pipeline import compare
from homolog.sketch.vocabulary import read_vocabulary

_ZOO = Path(__file__).parents[1] / "tests" / "zoo"
_KINDS = ("as they are", "noise", "own mean and deviation", "noise, and all three disguises")


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison: of each token table whether its rows agree, were called replaced, were not distinct, or just do not agree."""

    a: str
    b: str
    rows: str
    kind: str
    verdict: str
    embedding: str
    unembedding: str


def measure(task: tuple[str, str]) -> list[Line]:
    """One model with its rows as they are or overwritten, beside the base of its line, those of its start and a stranger."""
    name, rows = task
    zoo, vocabulary = the_zoo(), read_vocabulary(_ZOO / name)
    assert vocabulary is not None
    shape, weights = load_model(_ZOO / name)
    unused = sorted(vocabulary.ids[token] for token in vocabulary.untrained)
    if rows != _KINDS[0]:
        step: dict[str, Any] = {"kind": "overwrite_rows", "rows": unused, "seed": 3, "own": rows == _KINDS[2]}
        weights = apply_operation(shape, weights, step).weights
    for hidden in recipe_of(name, "all three") if rows == _KINDS[3] else ():
        outcome = apply_operation(shape, weights, dict(hidden))
        shape, weights = outcome.shape, outcome.weights
    others = {
        "one line": [zoo.records[name].root],
        "one start": same_start(zoo, name),
        "strangers": [stranger(zoo, name)],
    }
    lines = []
    with TemporaryDirectory(prefix="homolog-overwritten-") as made:
        folder = Path(made) / "model"
        save_weights(folder, shape, weights)
        shutil.copy(_ZOO / name / "tokenizer.json", folder)
        for kind, bases in others.items():
            for base in bases:
                if base == name and rows == _KINDS[0]:
                    continue
                lines.append(compared(base, name, rows, kind, folder))
    return lines


def compared(a: str, name: str, rows: str, kind: str, folder: Path) -> Line:
    """``folder`` holds ``name`` with those rows."""
    found = compare(_ZOO / a, folder)
    finding = next(finding for finding in found.findings if finding.probe == "tokens.untrained")
    said = []
    for title in ("embedding", "unembedding"):
        groups = [group.log10_p for group in finding.groups if group.group == title]
        reason = finding.absent_groups.get(title, "")
        absent = "replaced" if "were replaced" in reason else "absent"
        said.append(absent if not groups else "agrees" if min(groups) <= -3 else "silent")
    assert any("were replaced" in text for text in found.warnings) == ("replaced" in said)
    return Line(a, name, rows, kind, found.verdict.verdict, *said)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--held-out", action="store_true", help="only lineages that no threshold was chosen on; else only the others"
    )
    parser.add_argument("--lines", action="store_true", help="one line a pair")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    zoo = the_zoo()
    models = [name for name in sorted(zoo.records) if zoo.is_held_out(zoo.lineage(name)) == options.held_out]
    counts: dict[tuple[str, str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    with ProcessPoolExecutor(options.processes) as pool:
        for lines in pool.map(measure, product(models, _KINDS)):
            for line in lines:
                if options.lines:
                    print(line, flush=True)
                for title in ("embedding", "unembedding"):
                    counts[line.kind, line.rows, title][getattr(line, title)] += 1
    print("| pairs | rows of B | table | agrees | replaced | silent | absent |\n|---|---|---|---|---|---|---|")
    for (kind, rows, title), found in sorted(counts.items()):
        print(
            f"| {kind} | {rows} | {title} | "
            + " | ".join(str(found[key]) for key in ("agrees", "replaced", "silent", "absent"))
            + " |"
        )


if __name__ == "__main__":
    main()
