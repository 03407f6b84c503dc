"""What compare says of every descendant in the zoo under every free disguise, and of an independent model in its place.

python benchmarks/disguises.py
python benchmarks/disguises.py --models a-zh-1x q-upcycled --lines

Every model is compared with the base that it goes back to (itself, if it is one) and with a base of another lineage. Bases of the GPT-2
layout are left out, because the lab's operations are not defined for it. Lineages that no threshold was chosen on are counted apart.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from homolog.arena.recipes import Step, list_recipes
from homolog.arena.zoo import Zoo, read_zoo
from homolog.lab.operations import apply_operation
from homolog.lab.store import load_model, save_weights
from homolog.pipeline import compare
from homolog.sketch.vocabulary import read_vocabulary

_ZOO = Path(__file__).parents[1] / "tests" / "zoo"
_SEED = {"seed": 1}
_ROTATED: Step = {"kind": "rotate_residual", **_SEED}
_PERMUTED: tuple[Step, ...] = ({"kind": "permute_units", **_SEED}, {"kind": "permute_heads", **_SEED})
_RESCALED: tuple[Step, ...] = ({"kind": "rescale", **_SEED}, {"kind": "mix_values", **_SEED})
_SPLIT: Step = {"kind": "split_units", **_SEED}

DISGUISES: dict[str, tuple[Step, ...]] = {
    "none": (),
    "permutation": (*_PERMUTED, {"kind": "permute_residual", **_SEED}),
    "rotation and folding": (_ROTATED,),
    "rescaling": _RESCALED,
    "all three": (*_PERMUTED, *_RESCALED, _ROTATED),
    "… and splitting": (_SPLIT, *_PERMUTED, *_RESCALED, _ROTATED),
    "… and rows overwritten": (_SPLIT, *_PERMUTED, *_RESCALED, _ROTATED),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison."""

    a: str
    b: str
    disguise: str
    kin: bool
    held_out: bool
    verdict: str
    tier: int | None
    agreement: float | None


@cache
def the_zoo() -> Zoo:
    """Read once a process."""
    return read_zoo(_ZOO)


def recipe_of(name: str, disguise: str) -> list[Step]:
    """The steps that hide the model ``name``; experts are permuted as well, and only dense FFNs are split."""
    shape, _ = load_model(_ZOO / name)
    steps = [step for step in DISGUISES[disguise] if not (shape.experts and step["kind"] == "split_units")]
    if shape.experts and any(step["kind"] == "permute_units" for step in steps):
        steps.insert(0, {"kind": "permute_experts", **_SEED})
    if disguise.endswith("overwritten"):
        vocabulary = read_vocabulary(_ZOO / name)
        assert vocabulary is not None
        unused = sorted(vocabulary.ids[token] for token in vocabulary.untrained)
        steps.append(list_recipes(shape, unused)["rows_overwritten"][0])
    return steps


def measure(task: tuple[str, str]) -> list[Line]:
    """One model in one disguise, beside the base of its line and beside a stranger."""
    name, disguise = task
    zoo = the_zoo()
    shape, weights = load_model(_ZOO / name)
    for step in recipe_of(name, disguise):
        outcome = apply_operation(shape, weights, dict(step))
        shape, weights = outcome.shape, outcome.weights
    with TemporaryDirectory(prefix="homolog-disguise-") as made:
        folder = Path(made) / "model"
        save_weights(folder, shape, weights)
        shutil.copy(_ZOO / name / "tokenizer.json", folder)
        return [compared(zoo, a, name, disguise, folder) for a in (zoo.records[name].root, stranger(zoo, name))]


def compared(zoo: Zoo, a: str, name: str, disguise: str, folder: Path) -> Line:
    """``folder`` holds ``name`` in disguise."""
    found = compare(_ZOO / a, folder)
    return Line(
        a,
        name,
        disguise,
        bool(zoo.records[a].family & zoo.records[name].family),
        any(zoo.is_held_out(zoo.lineage(model)) for model in (a, name)),
        found.verdict.verdict,
        found.verdict.tier,
        found.agreement.value,
    )


def stranger(zoo: Zoo, name: str) -> str:
    """A base of another lineage that is not of the GPT-2 layout: the next by name."""
    bases = sorted({zoo.lineage(other) for other in usable(zoo)})
    return bases[(bases.index(zoo.lineage(name)) + 1) % len(bases)]


def usable(zoo: Zoo) -> list[str]:
    """Models that the lab can disguise."""
    return [name for name, record in sorted(zoo.records.items()) if record.truth["shape"]["family"] != "gpt2"]


def summarise(lines: list[Line]) -> Iterator[str]:
    """A row of the table for each disguise and kind of pair."""
    yield "| disguise | pairs | said | agreement of bodies |"
    yield "|---|---|---|---|"
    cells: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in lines:
        cells[line.disguise, ("of one line" if line.kin else "strangers") + (", held out" * line.held_out)].append(line)
    for (disguise, kind), found in cells.items():
        said = Counter(f"{line.verdict}{f' (tier {line.tier})' if line.tier else ''}" for line in found)
        values = sorted(line.agreement for line in found if line.agreement is not None)
        shown = f"{values[0]:.3f} … {values[-1]:.3f}" if values else "–"
        words = ", ".join(f"{count} {verdict}" for verdict, count in said.most_common())
        yield f"| {disguise} | {len(found)} {kind} | {words} | {shown} |"


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="*", help="only these")
    parser.add_argument("--disguises", nargs="*", choices=[*DISGUISES], help="only these")
    parser.add_argument("--lines", action="store_true", help="one line a pair")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    tasks = list(product(options.models or usable(the_zoo()), options.disguises or DISGUISES))
    tasks.sort(key=lambda task: list(DISGUISES).index(task[1]))
    with ProcessPoolExecutor(options.processes) as pool:
        lines = [line for found in pool.map(measure, tasks) for line in found]
    if options.lines:
        for line in lines:
            print(f"{line.a:8} {line.b:16} {line.disguise:24} {line.verdict:24} {line.tier} {line.agreement}")
    print("\n".join(summarise(lines)))


if __name__ == "__main__":
    main()
