"""What compare says of every model of the zoo under every free disguise, of one trained apart from the same start, and of a stranger.

python benchmarks/disguises.py
python benchmarks/disguises.py --held-out
python benchmarks/disguises.py --models a-zh-1x q-upcycled --lines

Every model is compared with the base that it goes back to (itself, if it is one), with the bases that share its first random numbers and
nothing else, and with a base of another lineage. Steps that are not free for a family are left out for it: GPT-2's layout is not rotated,
as its LayerNorms fix the mean over channels, nor split, nor its ups rescaled, as it has none; the sandwich norms of Pangu Ultra are not
rotated; experts are permuted and not split. Regrouping experts is not free, and only mixtures have any. Lineages that no threshold was
chosen on are counted apart.
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

from homolog.arena.recipes import Step
from homolog.arena.zoo import Zoo, read_zoo
from homolog.lab.operations import apply_operation
from homolog.lab.registry import is_defined
from homolog.lab.store import load_model, save_weights
from homolog.pipeline import compare
from homolog.sketch.vocabulary import read_vocabulary

_ZOO = Path(__file__).parents[1] / "tests" / "zoo"
_SEED = {"seed": 1}
_ROTATED: Step = {"kind": "rotate_residual", **_SEED}
_PERMUTED: tuple[Step, ...] = ({"kind": "permute_units", **_SEED}, {"kind": "permute_heads", **_SEED})
_RESCALED: tuple[Step, ...] = ({"kind": "rescale", **_SEED}, {"kind": "mix_values", **_SEED})
_SPLIT: Step = {"kind": "split_units", **_SEED}
_REGROUPED: Step = {"kind": "regroup_experts", "parts": 4, **_SEED}
"""Not free: tokens go to other units than before. It is here for what it hides."""

DISGUISES: dict[str, tuple[Step, ...]] = {
    "none": (),
    "permutation": (*_PERMUTED, {"kind": "permute_residual", **_SEED}),
    "rotation and folding": (_ROTATED,),
    "rescaling": _RESCALED,
    "all three": (*_PERMUTED, *_RESCALED, _ROTATED),
    "… and splitting": (_SPLIT, *_PERMUTED, *_RESCALED, _ROTATED),
    "… and rows overwritten": (_SPLIT, *_PERMUTED, *_RESCALED, _ROTATED),
    "experts regrouped, rows overwritten": (_REGROUPED, *_PERMUTED, *_RESCALED, _ROTATED),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison."""

    a: str
    b: str
    disguise: str
    kind: str
    """Of one line, of one start, or strangers."""
    held_out: bool
    verdict: str
    tier: int | None
    headline: float | None
    agreement: float | None


@cache
def the_zoo() -> Zoo:
    """Read once a process."""
    return read_zoo(_ZOO)


def recipe_of(name: str, disguise: str) -> list[Step]:
    """The steps that hide the model ``name``, as far as they are free for its family; experts are permuted as well."""
    shape, _ = load_model(_ZOO / name)
    steps = list(DISGUISES[disguise])
    if _REGROUPED in steps and not is_defined(str(_REGROUPED["kind"]), shape.family):
        return []
    if any(step["kind"] == "permute_units" for step in steps):
        steps.insert(0, {"kind": "permute_experts", **_SEED})
    if disguise.endswith("overwritten"):
        vocabulary = read_vocabulary(_ZOO / name)
        assert vocabulary is not None
        unused = sorted(vocabulary.ids[token] for token in vocabulary.untrained)
        steps.append({"kind": "overwrite_rows", "rows": unused, **_SEED})
    return [step for step in steps if is_defined(str(step["kind"]), shape.family)]


def measure(task: tuple[str, str]) -> list[Line]:
    """One model in one disguise, beside the base of its line, those of its start and a stranger."""
    name, disguise = task
    zoo = the_zoo()
    shape, weights = load_model(_ZOO / name)
    steps = recipe_of(name, disguise)
    if DISGUISES[disguise] and not steps:
        return []
    for step in steps:
        outcome = apply_operation(shape, weights, dict(step))
        shape, weights = outcome.shape, outcome.weights
    with TemporaryDirectory(prefix="homolog-disguise-") as made:
        folder = Path(made) / "model"
        save_weights(folder, shape, weights)
        shutil.copy(_ZOO / name / "tokenizer.json", folder)
        others = (zoo.records[name].root, *same_start(zoo, name), stranger(zoo, name))
        return [compared(zoo, a, name, disguise, folder) for a in others if steps or a != name]


def compared(zoo: Zoo, a: str, name: str, disguise: str, folder: Path) -> Line:
    """``folder`` holds ``name`` in disguise."""
    found = compare(_ZOO / a, folder)
    kin = bool(zoo.records[a].family & zoo.records[name].family)
    return Line(
        a,
        name,
        disguise,
        "one line" if kin else "one start" if zoo.lineage(a) == zoo.lineage(name) else "strangers",
        any(zoo.is_held_out(zoo.lineage(model)) for model in (a, name)),
        found.verdict.verdict,
        found.verdict.tier,
        found.verdict.log10_p,
        found.agreement.value,
    )


def bases_of(zoo: Zoo) -> list[str]:
    """Models that descend from no other."""
    return [name for name, record in sorted(zoo.records.items()) if record.root == name]


def same_start(zoo: Zoo, name: str) -> list[str]:
    """Bases that began from the same random numbers as the base of ``name``, without it."""
    return [base for base in bases_of(zoo) if zoo.lineage(base) == zoo.lineage(name) and base != zoo.records[name].root]


def stranger(zoo: Zoo, name: str) -> str:
    """A base of another lineage: the next by name."""
    lineages = sorted({zoo.lineage(base) for base in zoo.records})
    return lineages[(lineages.index(zoo.lineage(name)) + 1) % len(lineages)]


def show(line: Line) -> str:
    """One comparison in one line."""
    figures = "  ".join("–" if value is None else f"{value:.3f}" for value in (line.headline, line.agreement))
    held_out = "held out" if line.held_out else ""
    return f"{line.a:16} {line.b:18} {line.disguise:24} {line.kind:10} {held_out:9} {line.verdict:22} {line.tier}  {figures}"


def summarise(lines: list[Line]) -> Iterator[str]:
    """A row of the table for each disguise and kind of pair."""
    yield "| disguise | pairs | said | headline log₁₀ p | agreement of bodies |"
    yield "|---|---|---|---|---|"
    cells: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in lines:
        kind = line.kind if line.kind == "strangers" else f"of {line.kind}"
        cells[line.disguise, kind + ", held out" * line.held_out].append(line)
    for (disguise, kind), found in sorted(
        cells.items(), key=lambda cell: (cell[0][1], list(DISGUISES).index(cell[0][0]))
    ):
        said = Counter(f"{line.verdict}{f' (tier {line.tier})' if line.tier else ''}" for line in found)
        words = ", ".join(f"{count} {verdict}" for verdict, count in said.most_common())
        exact = [line.headline for line in found if line.tier == 1]
        spreads = (spread(exact, 1), spread([line.agreement for line in found], 3))
        yield f"| {disguise} | {len(found)} {kind} | {words} | {' | '.join(spreads)} |"


def spread(values: list[float | None], digits: int) -> str:
    """Smallest to largest."""
    known = sorted(value for value in values if value is not None)
    return f"{known[0]:.{digits}f} … {known[-1]:.{digits}f}" if known else "–"


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="*", help="only these")
    parser.add_argument("--disguises", nargs="*", choices=[*DISGUISES], help="only these")
    parser.add_argument("--held-out", action="store_true", help="only lineages that no threshold was chosen on")
    parser.add_argument("--lines", action="store_true", help="one line a pair")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    zoo = the_zoo()
    models = options.models or sorted(zoo.records)
    if options.held_out:
        models = [name for name in models if zoo.is_held_out(zoo.lineage(name))]
    tasks = list(product(models, options.disguises or DISGUISES))
    tasks.sort(key=lambda task: list(DISGUISES).index(task[1]))
    lines = []
    with ProcessPoolExecutor(options.processes) as pool:
        for found in pool.map(measure, tasks):
            lines += found
            for line in found if options.lines else ():
                print(show(line), flush=True)
    print("\n".join(summarise(lines)))


if __name__ == "__main__":
    main()
