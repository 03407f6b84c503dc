"""Do sketches say what the weights say? Every pair of the zoo by its weights, by two sketches, and by one of each.

    python benchmarks/sketches.py
    python benchmarks/sketches.py --dimensions 32 --disguised

Sketches are made at 96 numbers a row, which is more than the models of the zoo are wide, and at fewer, as of a large model, where rows are
projected. ``--disguised`` adds what the arena derives from the models: permuted, rotated, rescaled, pruned, merged.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from homolog.arena.cases import Case, Pair, open_case, plan_pairs
from homolog.arena.zoo import read_zoo
from homolog.comparison import Comparison
from homolog.pipeline import compare
from homolog.sketch.make import make_sketch

_ZOO = Path(__file__).parents[1] / "tests" / "zoo"
_BOTH = "units_permuted_and_residual_rotated"
"""What only aligned bodies see; sketches hold none."""
_FOUND = ("identical", "related", "partly_related")


@dataclass(frozen=True)
class Answer:
    """One pair, judged by the weights, by two sketches, and by a sketch and a checkpoint."""

    pair: str
    label: str
    operation: str
    verdicts: tuple[str, str, str]
    headlines: tuple[float | None, float | None, float | None]
    open: tuple[frozenset[str], frozenset[str], frozenset[str]]
    """What each does not rule out."""


def sketch_case(case: Case, folder: Path, dimensions: int) -> Path:
    """The sketch of a model, made once."""
    path = folder / f"{case.name.replace('/', '_')}.hsk"
    if not path.exists():
        with open_case(case, read_zoo(_ZOO)) as model:
            make_sketch(model, path, dimensions=dimensions)
    return path


def judge(pair: Pair, folder: Path, dimensions: int) -> Answer:
    """Compare one pair three times."""
    zoo = read_zoo(_ZOO)
    first, second = (sketch_case(case, folder, dimensions) for case in (pair.a, pair.b))
    with open_case(pair.a, zoo) as a, open_case(pair.b, zoo) as b:
        results: list[Comparison] = [compare(a, b), compare(first, second), compare(first, b)]
    verdicts = [result.verdict for result in results]
    return Answer(
        pair.name,
        pair.label,
        pair.operation,
        (verdicts[0].verdict, verdicts[1].verdict, verdicts[2].verdict),
        (verdicts[0].log10_p, verdicts[1].log10_p, verdicts[2].log10_p),
        (
            frozenset(verdicts[0].not_ruled_out),
            frozenset(verdicts[1].not_ruled_out),
            frozenset(verdicts[2].not_ruled_out),
        ),
    )


def count_wrong(answers: list[Answer], which: int) -> tuple[int, int, int, int]:
    """False accusations; false clearances of what the weights find, with the disguise ruled out and with it left open; pairs left open."""
    accused = sum(a.label != "related" and a.verdicts[which] in _FOUND and a.verdicts[0] not in _FOUND for a in answers)
    unseen = [a for a in answers if a.verdicts[0] in _FOUND and a.verdicts[which] == "independent"]
    said = sum(_BOTH in a.open[which] for a in unseen)
    opened = sum(a.verdicts[which] == "inconclusive" != a.verdicts[0] for a in answers)
    return accused, len(unseen) - said, said, opened


def main() -> None:
    """Judge all pairs and print the table of docs/sketches.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dimensions", type=int, default=96, help="numbers kept of a row")
    parser.add_argument("--disguised", action="store_true", help="also the models that the arena derives")
    parser.add_argument("--every", type=int, default=1, help="take every so manieth pair only")
    options = parser.parse_args()
    pairs = [
        pair for pair in plan_pairs(read_zoo(_ZOO)) if options.disguised or (pair.a.is_trained and pair.b.is_trained)
    ][:: options.every]
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(os.cpu_count()) as pool:
        cases = {case.name: case for pair in pairs for case in (pair.a, pair.b)}
        sketching = partial(sketch_case, folder=Path(folder), dimensions=options.dimensions)
        list(pool.map(sketching, cases.values()))
        answers = list(pool.map(partial(judge, folder=Path(folder), dimensions=options.dimensions), pairs, chunksize=8))
    for label in ("related", "shared_initialisation", "independent"):
        of_label = [answer for answer in answers if answer.label == label]
        if not of_label:
            continue
        print(f"{label}: {len(of_label)} pairs")
        for which, name in ((1, "two sketches"), (2, "a sketch and a checkpoint")):
            same = sum(answer.verdicts[which] == answer.verdicts[0] for answer in of_label)
            accused, cleared, said, opened = count_wrong(of_label, which)
            moved = [
                abs(y - x)
                for answer in of_label
                if (x := answer.headlines[0]) is not None and (y := answer.headlines[which]) is not None
            ]
            moved.sort()
            print(
                f"    {name}: {same} the same verdict, {accused} falsely accused, {cleared} falsely cleared, {said} unseen and not "
                f"ruled out, {opened} left open; "
                f"the headline moves by {moved[len(moved) // 2]:.2f} (median), {moved[-1]:.1f} at most"
            )
    for answer in answers:
        if len(set(answer.verdicts)) > 1:
            print("   ", answer.pair, answer.operation, answer.label, answer.verdicts, answer.headlines)
    operations = Counter(operation for answer in answers for operation in answer.open[1] - answer.open[0])
    print(f"not ruled out by sketches where the weights rule it out: {dict(operations)}")


if __name__ == "__main__":
    main()
