"""Positions that no training reached testify like never-trained tokens; trained ones, which mean the same to all models, never do."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.null_draws import exceedances
from benchmarks.positions import HEIGHT, WIDTH, WORLDS, curve, draw, start, step, trained, weigh
from hypothesis import given, settings
from hypothesis import strategies as st

from homolog.comparison import Comparison
from homolog.lab.operations import apply_operation
from homolog.lab.shape import Weights
from homolog.lab.store import load_model, save_weights
from homolog.pipeline import compare
from homolog.probes.finding import Finding
from homolog.probes.indices import index_test_within
from homolog.probes.positions import find_untouched
from homolog.sketch.make import make_sketch
from homolog.sketch.position_table import choose_positions

ZOO = Path(__file__).parents[1] / "zoo"
_SEEDS = st.integers(0, 2**32 - 1)
TITLE = "position table"


def untrained(found: Comparison) -> Finding:
    return next(finding for finding in found.findings if finding.probe == "tokens.untrained")


@pytest.mark.parametrize("world", WORLDS)
def test_tables_that_share_what_position_means_give_no_p_below_its_level(world: str) -> None:
    found = draw(world, 150, seed=5)
    assert not exceedances(np.array([0.0 if p is None else p for p in found]))
    tested = sum(p is not None for p in found)
    assert tested > 140 if world in ("one length", "two lengths", "other names") else tested < 75


def test_the_trap_is_real_trained_positions_agree_in_models_that_share_nothing() -> None:
    rng = np.random.default_rng(1)
    learned = curve(rng)
    a, b = (trained(rng, learned, step(HEIGHT)) for _ in range(2))
    naive = index_test_within([a], [b], rngs=lambda role: np.random.default_rng([len(role), ord(role[0])]))
    assert naive.log10_p < -9
    assert "training has reached the last positions of A" in str(find_untouched(a, b))


@given(_SEEDS)
@settings(deadline=None, max_examples=20)
def test_the_choice_does_not_change_when_untouched_rows_change_places(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = WORLDS["two lengths"](rng)
    chosen = find_untouched(a, b)
    if isinstance(chosen, str):
        return
    order = np.arange(HEIGHT)
    order[chosen] = rng.permutation(chosen)
    again = find_untouched(a[order], b)
    # the look at neighbours may withhold the test, and nothing else may change
    assert np.array_equal(again, chosen) if not isinstance(again, str) else "neighbours" in again


def test_a_copy_that_was_trained_on_rotated_and_decayed_is_found() -> None:
    rng = np.random.default_rng(3)
    learned = curve(rng)
    a = trained(rng, learned, step(64))
    more = a + np.float32(0.02) * step(96)[:, None] * curve(rng)
    assert (weigh(a, np.asarray(0.6 * more, dtype=np.float32), seed=1) or 0.0) < -100


def test_what_cannot_be_told_is_absent_with_its_reason() -> None:
    rng = np.random.default_rng(2)
    table, fresh = trained(rng, curve(rng), step(64)), start(rng)
    broken = table.copy()
    broken[3, 1] = np.nan
    assert "shows nowhere" in str(find_untouched(table, fresh))
    assert "of B holds NaN" in str(find_untouched(table, broken))
    assert "too few rows" in str(find_untouched(table[:32], table[:32]))
    assert "set by hand" in str(find_untouched(table, np.zeros((HEIGHT, WIDTH), dtype=np.float32)))
    faded = trained(rng, curve(rng), np.asarray(np.exp(-np.arange(HEIGHT) / 40), dtype=np.float32))
    assert "faded out" in str(find_untouched(faded, table))
    smooth = table.copy()
    smooth[64:] = np.cumsum(fresh[64:], axis=0) / np.sqrt(np.arange(1, HEIGHT - 63))[:, None]
    assert isinstance(find_untouched(table, smooth), str)


def test_rows_are_chosen_by_the_heights_of_the_tables_alone() -> None:
    assert choose_positions(0) == ()
    assert choose_positions(192) == tuple(range(192))
    chosen = choose_positions(2048)
    assert chosen[-192:] == tuple(range(1856, 2048))
    assert len(chosen) == len(set(chosen)) == 256
    assert list(chosen) == sorted(chosen)


@pytest.mark.parametrize("copy", ["g-zh-1x", "g-washed", "g-solar"])
def test_copies_in_the_zoo_keep_their_untouched_positions(copy: str) -> None:
    finding = untrained(compare(ZOO / "g", ZOO / copy))
    assert finding.tests == 9
    assert [g.statistic for g in finding.groups if g.group == TITLE] == [128, 128]
    assert min(g.log10_p for g in finding.groups if g.group == TITLE) < -200


def make(folder: Path, name: str, seed: int, *, hidden: bool = False) -> Path:
    """The model ``name`` with a table as long as g's, which more of the same training would have left like this; hidden if asked."""
    shape, weights = load_model(ZOO / name)
    rng = np.random.default_rng(seed)
    table = weights["transformer.wpe.weight"]
    marked = table * np.float32(0.05 / table[-16:].std())
    more = np.float32(0.0145) * rng.standard_normal((256 - len(table), shape.width), dtype=np.float32)
    changed: Weights = {**weights, "transformer.wpe.weight": np.concatenate([marked, more])}
    shape = replace(shape, positions=256)
    for kind in ("permute_units", "permute_heads", "permute_residual") if hidden else ():
        changed = apply_operation(shape, changed, {"kind": kind, "seed": 1}).weights
    save_weights(folder, shape, changed)
    shutil.copy(ZOO / name / "tokenizer.json", folder)
    return folder


def test_independent_models_with_untouched_positions_are_cleared_and_a_hidden_copy_is_found(tmp_path: Path) -> None:
    first, second = make(tmp_path / "a", "gpt2-32-00", 1), make(tmp_path / "b", "gpt2-32-01", 2)
    hidden = make(tmp_path / "c", "gpt2-32-00", 1, hidden=True)
    apart, found = compare(first, second), compare(first, hidden)
    assert apart.verdict.verdict == "independent"
    tested = [g for g in untrained(apart).groups if g.group == TITLE]
    assert tested
    assert min(g.log10_p for g in tested) > -3
    assert found.verdict.found
    assert min(g.log10_p for g in untrained(found).groups if g.group == TITLE) < -100


def test_models_without_such_a_table_and_sketches_plan_no_test_for_it(tmp_path: Path) -> None:
    assert untrained(compare(ZOO / "a", ZOO / "g")).tests == 6
    make_sketch(ZOO / "g", tmp_path / "g.hsk")
    assert untrained(compare(tmp_path / "g.hsk", ZOO / "g-zh-1x")).tests == 6
