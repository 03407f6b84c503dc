"""Checkpoints whose names were replaced: how many roles are found, and whether any verdict goes wrong.

``python -m benchmarks.anonymous`` prints, for every model of the zoo, with and without config.json, how many of its tensors have a role
that is right, left open, or wrong; then the verdict on each beside its original and beside a stranger, and on chosen pairs of which one
side or both are anonymous. Every tensor gets a random name, and the order in the file is shuffled.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from homolog.checkpoint.open import open_checkpoint
from homolog.pipeline import compare
from homolog.roles.anonymous.infer import INFERRED
from homolog.roles.resolve import resolve
from homolog.roles.role import Anatomy, Role

ZOO = Path(__file__).parents[1] / "tests" / "zoo"
MODELS = tuple(sorted(path.parent.name for path in ZOO.glob("*/truth.json")))
SHAPES = (
    *(
        "a",
        "b",
        "c",
        "deep",
        "g",
        "k",
        "m",
        "q",
        "s",
        "q-upcycled",
        "q-pangu",
        "d-grown",
        "d-upcycled",
        "s-width-pruned",
        "deep-minitron",
    ),
    *(
        "a-widened",
        "a-pruned",
        "a-dropped",
        "a-solar",
        "a-inserted",
        "g-zh-1x",
        "g-widened",
        "distilled-48-00",
        "llama-24-00",
    ),
    *("llama-32-00", "llama-48-00", "llama-64-00", "gpt2-32-00", "gpt2-48-00", "qwen2-40-00", "moe-32-00"),
)
"""One model of every shape, and a few that are hard."""
RELATED = (
    *(
        ("a", "a-code-tuned"),
        ("a", "a-zh-1x"),
        ("a", "a-zh-3x"),
        ("a", "a-washed"),
        ("a", "a-pruned"),
        ("a", "a-widened"),
    ),
    *(("a", "a-dropped"), ("a", "a-inserted"), ("a", "a-solar"), ("a", "a-frozen-core"), ("a-washed", "a-zh-0.2x")),
    *(("g", "g-zh-1x"), ("q", "q-zh-1x"), ("q", "q-upcycled"), ("s", "s-zh-0.5x")),
)
SAME_START = (
    *(
        ("a", "a-order2"),
        ("a", "a-other-text"),
        ("a", "a-other-rate"),
        ("a", "a-zh-code"),
        ("a-same-1x", "a-other-rate"),
    ),
    *(("b", "b-order2"), ("g", "g-order2"), ("q", "q-order2"), ("s", "s-order2")),
)
INDEPENDENT = (
    *(
        ("a", "b"),
        ("a", "s"),
        ("a", "deep"),
        ("a", "q"),
        ("b", "s"),
        ("b", "a-zh-1x"),
        ("g", "q"),
        ("q", "s"),
        ("s", "b-order2"),
    ),
    *(("b", "a-solar"), ("b", "a-washed"), ("deep", "b"), ("g-order2", "a"), ("s", "a-order2"), ("q-order2", "a")),
)
SIDES = ("one", "other", "both")


@dataclass(frozen=True, slots=True)
class Tally:
    """Tensors by what became of their role."""

    right: int
    left_open: int
    wrong: int

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.right + other.right, self.left_open + other.left_open, self.wrong + other.wrong)


def strip_names(model: Path, out: Path, seed: int, *, config: bool) -> dict[str, str]:
    """Write a model of the zoo under random names and in random order; returns the new name of every tensor."""
    raw = (model / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    rng = np.random.default_rng(seed)
    names = {name: f"t{rng.integers(1 << 60):015x}" for name in sorted(header)}
    entries, blocks, place = {}, [], 0
    for name in rng.permutation(sorted(header)).tolist():
        start, stop = header[name]["data_offsets"]
        block = raw[8 + length + start : 8 + length + stop]
        entries[names[name]] = {**header[name], "data_offsets": [place, place + len(block)]}
        blocks.append(block)
        place += len(block)
    text = json.dumps(entries).encode()
    out.mkdir(parents=True, exist_ok=True)
    # a file of no hub's name needs no config.json beside it
    (out / "weights.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blocks))
    for file in ("tokenizer.json", "tokenizer_config.json", *(("config.json",) if config else ())):
        (out / file).write_bytes((model / file).read_bytes())
    return names


def tally_roles(model: Path, stripped: Path, names: dict[str, str]) -> Tally:
    """What was inferred against what the names say, up to the numbering of the layers."""
    with open_checkpoint(model) as checkpoint:
        truth = {(names[view.tensor], view.start): role for role, view in resolve(checkpoint).views.items()}
    with open_checkpoint(stripped) as checkpoint:
        anatomy = resolve(checkpoint)
        tensors = len(checkpoint.tensors)
    wrong = {tensor for tensor, _ in _wrong(anatomy, truth)}
    placed = {view.tensor for view in anatomy.views.values()}
    return Tally(len(placed - wrong), tensors - len(placed), len(wrong))


def _wrong(anatomy: Anatomy, truth: dict[tuple[str, int], Role]) -> Iterator[tuple[str, int]]:
    """Tensors whose kind is another, or whose layer is another than that of the FFN that they were put with."""
    layers = {
        role.layer: truth[view.tensor, view.start].layer
        for role, view in anatomy.views.items()
        if role.kind == "ffn.down"
    }
    for role, view in anatomy.views.items():
        key = (view.tensor, view.start)
        true = truth.get(key)
        if true is None or (true.kind, true.part, true.layer) != (role.kind, role.part, layers.get(role.layer, -1)):
            yield key


def stranger(model: str) -> str:
    """A model that is independent of this one, of the same shape where there is one."""
    twins = {
        "a": "b",
        "b": "a",
        "c": "a",
        "d": "a",
        "g": "gpt2-48-00",
        "q": "qwen2-40-00",
        "k": "q",
        "m": "q-pangu",
        "s": "a",
        "deep": "a",
    }
    base, _, number = model.rpartition("-")
    if number.isdecimal():
        return f"{base}-0{(int(number) + 1) % 3}"
    return twins[model.partition("-")[0]]


def show_roles(seeds: Sequence[int]) -> Tally:
    """One line a model, with and without config.json."""
    total = Tally(0, 0, 0)
    print("model | config.json | right | left open | wrong | of tensors")
    for model in MODELS:
        for config in (True, False):
            tally = Tally(0, 0, 0)
            for seed in seeds:
                with tempfile.TemporaryDirectory() as scratch:
                    names = strip_names(ZOO / model, Path(scratch), seed, config=config)
                    tally += tally_roles(ZOO / model, Path(scratch), names)
            total += tally
            of = tally.right + tally.left_open + tally.wrong
            print(
                f"{model} | {'with' if config else 'without'} | {tally.right} | {tally.left_open} | {tally.wrong} | {of}"
            )
    return total


def verdict(a: str, b: str, seed: int, *, sides: str, config: bool) -> tuple[str, bool]:
    """The verdict on a pair with one side or both anonymous, and whether any role was inferred."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = [ZOO / a, ZOO / b]
        for place, side in enumerate(("one", "other")):
            if sides in (side, "both"):
                out = Path(scratch) / side
                strip_names(paths[place], out, seed + place, config=config)
                paths[place] = out
        comparison = compare(*paths)
    return comparison.verdict.verdict, INFERRED in (comparison.a.architecture, comparison.b.architecture)


def show_verdicts(
    title: str,
    pairs: Iterable[tuple[str, str]],
    seeds: Sequence[int],
    sides: Sequence[str] = SIDES,
    configs: Sequence[bool] = (True, False),
) -> Counter[str]:
    """Counts of verdicts over pairs, sides, seeds, and with and without config.json."""
    counts: Counter[str] = Counter()
    for a, b in pairs:
        for side in sides:
            for seed in seeds:
                for config in configs:
                    said, _ = verdict(a, b, 100 * seed, sides=side, config=config)
                    counts[said] += 1
                    descent = title in ("related", "each and its original")
                    if said in (
                        ("independent", "shared_initialisation")
                        if descent
                        else ("related", "partly_related", "identical")
                    ):
                        print(
                            f"WRONG: {title} {a} {b}, {side} anonymous, seed {seed}, config {config}: {said}",
                            flush=True,
                        )
    print(f"{title} | {', '.join(f'{said} {count}' for said, count in sorted(counts.items()))}", flush=True)
    return counts


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="random renamings of each model")
    parser.add_argument("--pair-seeds", type=int, default=1, help="random renamings of each pair")
    options = parser.parse_args()
    total = show_roles(range(options.seeds))
    print(f"together: {total.right} right, {total.left_open} left open, {total.wrong} wrong")
    print("pairs | verdicts")
    show_verdicts(
        "each and its original", [(model, model) for model in MODELS], range(options.pair_seeds), ("other",), (False,)
    )
    strangers = [(stranger(model), model) for model in MODELS]
    show_verdicts("each and a stranger", strangers, range(options.pair_seeds), ("other",), (False,))
    for title, pairs in (("related", RELATED), ("same initialisation", SAME_START), ("independent", INDEPENDENT)):
        show_verdicts(title, pairs, range(options.pair_seeds))


if __name__ == "__main__":
    main()
