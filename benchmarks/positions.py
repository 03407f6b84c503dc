"""Never-trained positions: p-values of tables of models that share nothing but what position means, and of copies.

    python benchmarks/positions.py
    python benchmarks/positions.py --zoo tests/zoo

The first draws pairs of tables for which the null hypothesis of `tokens.untrained` holds, in worlds as awkward as can be: trained
positions hold the *same* curve in both tables, in one frame. The second compares the tables of every two independent models under a
folder, as they are and lengthened by rows that no training reached, and those of one line; and, to show the trap, what the first 64 rows
of independent models would say in the frame of their embeddings.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations
from pathlib import Path

import numpy as np
from benchmarks.null_draws import exceedances

from homolog.align.residual import fit_embedding_frame
from homolog.arena.zoo import read_zoo
from homolog.checkpoint.base import Array
from homolog.checkpoint.open import open_checkpoint
from homolog.probes.indices import index_test_within
from homolog.probes.positions import find_untouched
from homolog.roles.read import read_units
from homolog.roles.resolve import resolve
from homolog.roles.role import Role, Space
from homolog.sketch.position_table import choose_positions, position_view

Generator = np.random.Generator
World = Callable[[Generator], tuple[Array, Array]]

HEIGHT, WIDTH = 256, 48
_SHOWN = (0.05, 0.01, 0.001)


def curve(rng: Generator, turns: float = 0.02) -> Array:
    """A smooth curve through the stream, (HEIGHT, WIDTH) of unit variance: what training writes into positions."""
    place = np.arange(HEIGHT)[:, None]
    waves = np.cos(place * turns * np.exp(2 * rng.standard_normal((1, 8))) + 6.28 * rng.random((1, 8)))
    mixed = waves @ rng.standard_normal((8, WIDTH)) / 2
    return np.asarray(mixed, dtype=np.float32)


def start(rng: Generator) -> Array:
    """What initialisation and decay leave."""
    return np.float32(0.01) * rng.standard_normal((HEIGHT, WIDTH), dtype=np.float32)


def trained(rng: Generator, learned: Array, weight: Array) -> Array:
    """A table of which ``weight`` (HEIGHT,) of ``learned`` was written into each row, in rows of twice the size of untouched ones."""
    return np.asarray(start(rng) + np.float32(0.02) * weight[:, None] * learned, dtype=np.float32)


def step(at: int) -> Array:
    """Trained up to a position."""
    return np.asarray(np.arange(HEIGHT) < at, dtype=np.float32)


def fade(length: float) -> Array:
    """Trained less and less: long texts are rare."""
    return np.asarray(np.exp(-np.arange(HEIGHT) / length), dtype=np.float32)


def one_length(rng: Generator) -> tuple[Array, Array]:
    """Both trained on texts of one length."""
    learned = curve(rng)
    return trained(rng, learned, step(64)), trained(rng, learned, step(64))


def two_lengths(rng: Generator) -> tuple[Array, Array]:
    """One trained on longer texts."""
    learned, at = curve(rng), int(rng.integers(40, 200))
    return trained(rng, learned, step(64)), trained(rng, learned, step(at))


def other_names(rng: Generator) -> tuple[Array, Array]:
    """The untouched rows of one are those of the other in another order, and sorted by size."""
    learned = curve(rng)
    a = trained(rng, learned, step(64))
    a[64:] = a[64:][np.argsort((a[64:] ** 2).sum(axis=1))]
    b = trained(rng, learned, step(64))
    b[64:] = a[64:][rng.permutation(HEIGHT - 64)] + np.float32(0.1) * b[64:]
    return a, b


def texts_of_all_lengths(rng: Generator) -> tuple[Array, Array]:
    """A smooth curve in both, fainter the longer the text."""
    learned, length = curve(rng), float(rng.uniform(10, 120))
    return trained(rng, learned, fade(length)), trained(rng, learned, fade(length))


def ragged(rng: Generator) -> tuple[Array, Array]:
    """The same, and neighbours have nothing in common: every position its own vector, the same in both models."""
    learned, length = rng.standard_normal((HEIGHT, WIDTH), dtype=np.float32), float(rng.uniform(10, 120))
    return trained(rng, learned, fade(length)), trained(rng, learned, fade(length))


def trained_throughout(rng: Generator) -> tuple[Array, Array]:
    """All positions trained, the last half faintly."""
    learned, faint = curve(rng), float(rng.uniform(0.1, 1))
    weight = np.asarray(np.where(np.arange(HEIGHT) < 128, 1, faint), dtype=np.float32)
    return trained(rng, learned, weight), trained(rng, learned, weight)


def waves(rng: Generator) -> tuple[Array, Array]:
    """Both began from one table of sines and cosines, and its first rows were trained."""
    angle = np.arange(HEIGHT)[:, None] / 10_000.0 ** (np.arange(WIDTH // 2)[None, :] / (WIDTH // 2))
    table = np.float32(0.01) * np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)
    learned, noise = curve(rng), float(rng.uniform(0, 2))
    a, b = (noise * trained(rng, learned, step(64)) for _ in range(2))
    return np.asarray(table + a, dtype=np.float32), np.asarray(table + b, dtype=np.float32)


WORLDS: Mapping[str, World] = {
    world.__name__.replace("_", " "): world
    for world in (one_length, two_lengths, other_names, texts_of_all_lengths, ragged, trained_throughout, waves)
}


def weigh(a: Array, b: Array, seed: int) -> float | None:
    """log10 p of two tables in the frame that they share; ``None`` where there is no test."""
    chosen = find_untouched(a, b)
    if isinstance(chosen, str):
        return None
    x, y = (rows[chosen] - rows[chosen].mean(axis=0) for rows in (a, b))
    return index_test_within([x], [y], rngs=lambda role: np.random.default_rng([seed, len(role), ord(role[0])])).log10_p


def draw(name: str, draws: int, seed: int) -> list[float | None]:
    """p-values of one world."""
    rng = np.random.default_rng([seed, list(WORLDS).index(name)])
    return [weigh(*WORLDS[name](rng), seed=seed + i) for i in range(draws)]


def measure_nulls(draws: int, seed: int, jobs: int) -> None:
    """Print the table of null draws; a pair without a test counts as p = 1."""
    print(
        f"{'tables':26}{'draws':>7}{'tested':>9}{'smallest p':>12}"
        + "".join(f"{f'P(p<={alpha:g})':>12}" for alpha in _SHOWN)
    )
    with ProcessPoolExecutor(jobs) as pool:
        for name, found in zip(
            WORLDS, pool.map(draw, WORLDS, [draws] * len(WORLDS), [seed] * len(WORLDS)), strict=True
        ):
            known = np.array([0.0 if p is None else p for p in found])
            shares = "".join(f"{(known <= np.log10(alpha) + 1e-9).mean():12.5f}" for alpha in _SHOWN)
            over = exceedances(known)
            tested = sum(p is not None for p in found) / draws
            print(
                f"{name:26}{draws:7}{tested:9.1%}{10 ** known.min():12.1e}{shares}  {'OVER' if over else 'kept'}",
                flush=True,
            )


def read_tables(folder: Path) -> dict[str, Array]:
    """Position tables of the models under a folder, by name."""
    return dict(_read_tables(folder))


def _read_tables(folder: Path) -> Iterator[tuple[str, Array]]:
    for path in sorted(folder.iterdir()):
        if not (path / "truth.json").exists():
            continue
        with open_checkpoint(path) as checkpoint:
            view = position_view(resolve(checkpoint))
            if view is not None:
                yield path.name, read_units(checkpoint, view, Space.POSITION)


def measure_trap(folder: Path, pairs: list[tuple[str, str]]) -> None:
    """Print how far trained rows of independent models agree by number, in the frame of their embeddings."""
    found = []
    for a, b in pairs:
        (x, tokens_x), (y, tokens_y) = (read_rows(folder / name) for name in (a, b))
        frame = fit_embedding_frame(tokens_x, tokens_y)
        if frame is not None:
            turned = [(x - x.mean(axis=0)) @ frame.a], [(y - y.mean(axis=0)) @ frame.b]
            found.append(
                index_test_within(*turned, rngs=lambda role: np.random.default_rng([len(role), ord(role[0])])).log10_p
            )
    print(f"trained rows independent  {len(found):5} pairs, log10 p {min(found):.2f} to {max(found):.2f}", flush=True)


def read_rows(folder: Path) -> tuple[Array, Array]:
    """The first 64 rows of the position table, and the first 450 of the embedding."""
    with open_checkpoint(folder) as checkpoint:
        anatomy = resolve(checkpoint)
        view = position_view(anatomy)
        assert view is not None
        tokens = read_units(checkpoint, anatomy.views[Role("embed.token")], Space.VOCAB, 0, 450)
        return read_units(checkpoint, view, Space.POSITION, 0, 64), tokens


def lengthen(table: Array, seed: int) -> Array:
    """With rows up to ``HEIGHT`` that no training reached, at the size that the lab's models leave them with."""
    rng = np.random.default_rng(seed)
    more = np.float32(0.0145) * rng.standard_normal((max(HEIGHT - len(table), 0), table.shape[1]), dtype=np.float32)
    return np.concatenate([table, more])


def measure_models(folder: Path) -> None:
    """Print what the tables of trained models say."""
    tables, zoo = read_tables(folder), read_zoo(folder)
    measure_trap(folder, [(a, b) for a, b in combinations(tables, 2) if zoo.lineage(a) != zoo.lineage(b)])
    for title, change in (("as they are", lambda table, seed: table), ("lengthened", lengthen)):
        made = {name: change(table, 100 + i) for i, (name, table) in enumerate(tables.items())}
        for kind, wanted in (("independent", False), ("of one line", True)):
            found = []
            for a, b in combinations(made, 2):
                kin = bool(zoo.records[a].family & zoo.records[b].family)
                if (
                    kin != wanted
                    or (zoo.lineage(a) == zoo.lineage(b) and not kin)
                    or made[a].shape[1] != made[b].shape[1]
                ):
                    continue
                if kin and title == "lengthened" and len(tables[a]) < HEIGHT:
                    continue
                height = min(len(made[a]), len(made[b]))
                rows = list(choose_positions(height))
                found.append(weigh(made[a][rows], made[b][rows], seed=1))
            known = [p for p in found if p is not None]
            figures = f"log10 p {min(known):.2f} to {max(known):.2f}" if known else "–"
            print(f"{title:12} {kind:12} {len(found):5} pairs, {len(known):5} tested, {figures}", flush=True)


def main() -> None:
    """Run one of the two measurements."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--zoo", type=Path, nargs="*", help="folders of models with truth records")
    parser.add_argument("--draws", type=int, default=2000, help="pairs of tables for each world")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    for folder in options.zoo or ():
        measure_models(folder)
    if not options.zoo:
        measure_nulls(options.draws, options.seed, options.jobs)


if __name__ == "__main__":
    main()
