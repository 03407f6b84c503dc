from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

from homolog.errors import UsageError
from homolog.lab import train as training
from homolog.lab.bpe import Tokenizer
from homolog.lab.corpus import Corpus
from homolog.lab.model import run_model
from homolog.lab.recipe import RECIPES, Schedule, load_recipe
from homolog.lab.shape import Shape, initialise, list_tensors
from homolog.lab.store import load_model, round_weights, save_model
from homolog.lab.train import draw_windows, rate, train

pytestmark = pytest.mark.lab

SHAPES = {
    "llama": Shape(vocab=320, width=32, layers=2, ffn=48),
    "qwen2": Shape(family="qwen2", vocab=320, width=32, layers=2, ffn=48, tied=True),
    "qwen2_moe": Shape(family="qwen2_moe", vocab=320, width=32, layers=2, ffn=48, experts=3, shared_ffn=48),
    "gpt2": Shape(family="gpt2", vocab=320, width=32, layers=2, ffn=48, kv_heads=4, tied=True),
}
PLAN = Schedule(mixture={"en": 0.5, "zh": 0.5}, steps=12, batch=2, context=16, warmup=3)


@pytest.mark.parametrize("family", SHAPES)
def test_a_logit_depends_on_no_later_token(family: str) -> None:
    shape = SHAPES[family]
    tensors = {n: torch.tensor(w) for n, w in initialise(shape, seed=1, std=0.2).items()}
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, 320, (1, 20)))
    changed = ids.clone()
    changed[0, 12] = (ids[0, 12] + 1) % 320
    first, second = run_model(tensors, shape, ids)[0], run_model(tensors, shape, changed)[0]
    assert torch.allclose(first[:, :12], second[:, :12], atol=1e-5)
    assert not torch.allclose(first[:, 12:], second[:, 12:], atol=1e-3)


@pytest.mark.parametrize("family", SHAPES)
def test_training_moves_every_tensor_and_lowers_the_loss(family: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    shape = SHAPES[family]
    ids = np.tile(np.arange(26, 66, dtype=np.uint16), 100)
    corpus = Corpus(tokenizer, {("en", "a"): ids, ("zh", "a"): ids})
    before = initialise(shape, seed=1)
    after, curve = train(
        shape, before, Schedule(mixture={"en": 1.0}, steps=60, batch=4, context=32, warmup=5), corpus, work=tmp_path
    )
    assert curve[-1][1] < 0.5 * curve[0][1]
    assert {n: w.shape for n, w in after.items()} == list_tensors(shape)
    assert [name for name in before if np.array_equal(before[name], after[name])] == []


def test_a_killed_run_ends_in_the_same_bytes(tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY", 5)
    shape, start = SHAPES["llama"], initialise(SHAPES["llama"], seed=1)
    whole, curve = train(shape, start, PLAN, corpus, work=tmp_path / "whole")

    def kill(step: int, loss: float) -> None:
        if step == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(shape, start, PLAN, corpus, work=tmp_path / "killed", progress=kill)
    assert (tmp_path / "killed" / "state.pt").exists()
    resumed, again = train(shape, start, PLAN, corpus, work=tmp_path / "killed")
    assert curve == again
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)
    assert not (tmp_path / "killed" / "state.pt").exists()


def test_a_state_of_another_run_is_not_taken_up(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY", 5)
    shape, start = SHAPES["llama"], initialise(SHAPES["llama"], seed=1)
    other = replace(PLAN, order=2)
    whole, _ = train(shape, start, other, corpus, work=tmp_path / "whole")

    def kill(step: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(shape, start, PLAN, corpus, work=tmp_path / "killed", progress=kill)
    after, _ = train(shape, start, other, corpus, work=tmp_path / "killed")
    assert all(np.array_equal(whole[name], after[name]) for name in whole)


def test_frozen_tensors_stay(tmp_path: Path, corpus: Corpus) -> None:
    shape, start = SHAPES["llama"], initialise(SHAPES["llama"], seed=1)
    frozen = frozenset(name for name in start if "layers.0" in name)
    after, _ = train(shape, start, PLAN, corpus, frozen=frozen, work=tmp_path)
    assert {name for name in start if np.array_equal(start[name], after[name])} == frozen


def test_the_order_permutes_the_windows_and_changes_none(corpus: Corpus) -> None:
    first = draw_windows(corpus, PLAN)
    other = draw_windows(corpus, replace(PLAN, order=2))
    assert first.shape == (24, 17)
    assert not np.array_equal(first, other)
    assert sorted(map(tuple, first.tolist())) == sorted(map(tuple, other.tolist()))


def test_parts_share_no_window(corpus: Corpus) -> None:
    first = draw_windows(corpus, PLAN)
    other = draw_windows(corpus, replace(PLAN, part="b"))
    assert not set(map(tuple, first.tolist())) & set(map(tuple, other.tolist()))


def test_an_unknown_stream_is_named(corpus: Corpus) -> None:
    with pytest.raises(UsageError, match="'fr'"):
        draw_windows(corpus, Schedule(mixture={"fr": 1.0}, steps=1))


def test_the_rate_rises_then_falls_to_a_tenth() -> None:
    plan = Schedule(mixture={"en": 1.0}, steps=100, warmup=10, lr=1.0)
    rates = [rate(plan, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("family", SHAPES)
def test_a_stored_model_reads_back(family: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    shape = SHAPES[family]
    weights = round_weights(initialise(shape, seed=1))
    save_model(tmp_path / "m", shape, weights, tokenizer, {"name": "m", "shape": shape.to_dict()})
    again, back = load_model(tmp_path / "m")
    assert again == shape
    assert all(np.array_equal(weights[name], back[name]) for name in weights)
    assert json.loads((tmp_path / "m" / "config.json").read_text(encoding="utf-8"))["model_type"] == family
    stored = sum(w.size for w in weights.values()) * np.dtype(ml_dtypes.bfloat16).itemsize
    assert stored < (tmp_path / "m" / "model.safetensors").stat().st_size < stored + 20_000


def test_every_recipe_opens_and_its_parent_is_one() -> None:
    recipes = {path.stem: load_recipe(path) for path in RECIPES.glob("*.toml")}
    assert len(recipes) > 30
    assert {r.parent for r in recipes.values() if r.parent} <= recipes.keys()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kind = 'base'\nseed = 1\ncolour = 3\n[train]\nmixture = {en = 1.0}\nsteps = 1", "colour"),
        ("kind = 'base'\nseed = 1\n[train]\nmixture = {en = 1.0}\nstep = 1", "step"),
        ("kind = 'base'\nseed = 1\n[train]\nsteps = 1", "mixture"),
        ("kind = 'base'\nseed = 1\nparent = 'a'\n[train]\nmixture = {en = 1.0}\nsteps = 1", "either"),
        ("kind = 'base'\nseed = 1\n[shape]\nwidth = 63\n[train]\nmixture = {en = 1.0}\nsteps = 1", "63"),
        ("kind = ", "TOML"),
    ],
)
def test_a_recipe_that_is_off_is_one_clear_error(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "r.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=says):
        load_recipe(tmp_path / "r.toml")
