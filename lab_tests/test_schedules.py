"""What a schedule can say besides the text: frozen and thawed tensors, low-rank updates, dirty data, no training at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from homolog.lab import zoo
from homolog.lab.adapters import is_adapter, merge_adapters
from homolog.lab.corpus import Corpus
from homolog.lab.operations import apply_operation
from homolog.lab.recipe import Recipe, Schedule
from homolog.lab.shape import Shape, initialise
from homolog.lab.store import load_model, load_truth
from homolog.lab.train import draw_windows, soil_windows, train
from homolog.lab.zoo import make_model

pytestmark = pytest.mark.lab

SHAPE = Shape(vocab=320, width=16, layers=2, ffn=24, heads=2, kv_heads=1)
PLAN = Schedule(mixture={"en": 0.5, "zh": 0.5}, steps=12, batch=4, context=16, warmup=3)
BASE = Recipe("one", kind="base", train=PLAN, seed=1, shape=SHAPE)


@pytest.fixture
def built(tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one finished base."""
    monkeypatch.setattr(zoo, "load_corpus", lambda cache, vocabulary, tokenizer=None: corpus)
    make_model(BASE, out=tmp_path / "out", cache=tmp_path / "cache")
    return tmp_path


def test_frozen_tensors_move_from_the_step_at_which_they_thaw(tmp_path: Path, corpus: Corpus) -> None:
    start = initialise(SHAPE, seed=1)
    frozen = frozenset(name for name in start if "layers.0" in name)
    late, _ = train(SHAPE, start, replace(PLAN, thaw=12), corpus, frozen=frozen, work=tmp_path / "late")
    never, _ = train(SHAPE, start, PLAN, corpus, frozen=frozen, work=tmp_path / "never")
    half, _ = train(SHAPE, start, replace(PLAN, thaw=6), corpus, frozen=frozen, work=tmp_path / "half")
    assert {name for name in start if np.array_equal(late[name], start[name])} == frozen
    assert all(np.array_equal(late[name], never[name]) for name in start)
    assert [name for name in start if np.array_equal(half[name], start[name])] == []


def test_a_low_rank_update_moves_the_matrices_named_by_that_rank_and_nothing_else(
    tmp_path: Path, corpus: Corpus
) -> None:
    start = initialise(SHAPE, seed=1)
    step = {"kind": "add_adapters", "rank": 3, "targets": ["v_proj", "down_proj"], "layers": [1], "seed": 1}
    adapted = apply_operation(SHAPE, start, step).weights
    frozen = frozenset(name for name in adapted if not is_adapter(name))
    after = merge_adapters(train(SHAPE, adapted, PLAN, corpus, frozen=frozen, work=tmp_path)[0])
    moved = {name for name in start if not np.array_equal(after[name], start[name])}
    assert moved == {f"model.layers.1.{name}.weight" for name in ("self_attn.v_proj", "mlp.down_proj")}
    assert after.keys() == start.keys()
    for name in moved:
        values = np.linalg.svd(after[name].astype(np.float64) - start[name], compute_uv=False)
        assert values[2] > 1e-6
        assert values[3] < 1e-4 * values[2]


def test_a_low_rank_update_is_recorded(built: Path) -> None:
    step = {"kind": "add_adapters", "rank": 2, "targets": ["q_proj"], "seed": 1}
    recipe = Recipe("two", kind="low_rank_update", train=replace(PLAN, lr=0.05), parent="one", operations=(step,))
    truth = make_model(recipe, out=built / "out", cache=built / "cache")
    assert truth["operations"][0]["facts"] == {"rank": 2, "layers": [0, 1], "targets": ["q_proj"]}
    (_, parent), (shape, child) = load_model(built / "out" / "one"), load_model(built / "out" / "two")
    assert shape == SHAPE
    assert truth["frozen"] == sorted(name for name in child if np.array_equal(child[name], parent[name]))
    assert set(child) - set(truth["frozen"]) == {f"model.layers.{i}.self_attn.q_proj.weight" for i in range(2)}
    assert truth["moved"]["relative_change"] > 0


def test_no_steps_leave_the_model_as_the_operations_made_it(built: Path) -> None:
    step = {"kind": "permute_units", "seed": 1}
    recipe = Recipe("two", kind="disguised", train=replace(PLAN, steps=0), parent="one", operations=(step,))
    truth = make_model(recipe, out=built / "out", cache=built / "cache")
    assert (truth["curve"], truth["tokens"]) == ([], 0)
    expected = apply_operation(*load_model(built / "out" / "one"), step).weights
    made = load_model(built / "out" / "two")[1]
    assert all(np.array_equal(made[name], expected[name]) for name in expected)


def test_a_merge_descends_from_all_its_sources_and_its_line_ends_in_the_base(built: Path) -> None:
    plans = {"en": replace(PLAN, mixture={"en": 1.0}), "zh": replace(PLAN, mixture={"zh": 1.0})}
    for name, plan in plans.items():
        child = Recipe(name, kind="continued_training", train=plan, parent="one")
        make_model(child, out=built / "out", cache=built / "cache")
    step = {"kind": "merge", "method": "linear", "models": ["zh"], "coefficients": [1, 3]}
    recipe = Recipe("merged", kind="merged", train=replace(PLAN, steps=0), parent="en", operations=(step,))
    assert recipe.needs == ("en", "zh")
    truth = make_model(recipe, out=built / "out", cache=built / "cache")
    assert truth["ancestors"] == ["en", "zh", "one"]
    en, zh, merged = (load_model(built / "out" / name)[1] for name in ("en", "zh", "merged"))
    for name, tensor in merged.items():
        np.testing.assert_allclose(tensor, 0.25 * en[name] + 0.75 * zh[name], rtol=0.01, atol=1e-6)


def test_a_base_says_whether_it_is_held_out(built: Path) -> None:
    assert "held_out" not in load_truth(built / "out" / "one")
    for held in (True, False):
        recipe = replace(BASE, name=f"held-{held}", held_out=held)
        assert make_model(recipe, out=built / "out", cache=built / "cache")["held_out"] is held


def test_dirt_is_the_share_that_the_schedule_says(corpus: Corpus) -> None:
    plan = replace(PLAN, steps=100, random_tokens=0.25, shuffled_labels=0.5)
    clean = draw_windows(corpus, plan)
    ids, targets = soil_windows(clean, plan, 320)
    random = (ids != clean).any(axis=1)
    assert random.sum() == 100
    assert set(range(26)) <= set(ids[random].ravel().tolist()), "ids that occur in no text too"
    shuffled = (targets != ids[:, 1:]).any(axis=1)
    assert 195 <= shuffled.sum() <= 200, "a window may be shuffled into itself"
    assert not (random & shuffled).any()
    assert (np.sort(targets[shuffled], axis=1) == np.sort(ids[shuffled, 1:], axis=1)).all()
    again, same = soil_windows(clean, plan, 320)
    assert np.array_equal(ids, again)
    assert np.array_equal(targets, same)


def test_clean_data_stay_as_they_are(corpus: Corpus) -> None:
    clean = draw_windows(corpus, PLAN)
    ids, targets = soil_windows(clean, PLAN, 320)
    assert np.array_equal(ids, clean)
    assert np.array_equal(targets, clean[:, 1:])


def test_training_on_dirt_alone_teaches_nothing(tmp_path: Path, corpus: Corpus) -> None:
    ids = np.tile(np.arange(26, 66, dtype=np.uint16), 100)
    text = Corpus(corpus.tokenizer, {("en", "a"): ids})
    plan = Schedule(mixture={"en": 1.0}, steps=60, batch=4, context=32, warmup=5)
    start = initialise(SHAPE, seed=1)
    _, clean = train(SHAPE, start, plan, text, work=tmp_path / "clean")
    _, dirty = train(SHAPE, start, replace(plan, random_tokens=1.0), text, work=tmp_path / "dirty")
    assert clean[-1][1] < 0.7 * clean[0][1]
    assert dirty[-1][1] > 0.95 * np.log(320)
