"""The committed zoo against its own records."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from homolog.errors import UsageError
from homolog.lab import zoo
from homolog.lab.bpe import Tokenizer
from homolog.lab.corpus import Corpus
from homolog.lab.micro import IN_ZOO, list_classes, load_class
from homolog.lab.operations import apply_operation
from homolog.lab.recipe import RECIPES, Recipe, load_recipe
from homolog.lab.shape import Shape, initialise, list_tensors
from homolog.lab.store import load_model, load_truth
from homolog.lab.zoo import build_model

pytestmark = pytest.mark.lab

ZOO = Path(__file__).parents[1] / "tests" / "zoo"
MODELS = sorted(path.parent for path in ZOO.glob("*/truth.json"))


MICRO = {recipe.name: recipe for name in list_classes() for recipe in load_class(name)[:IN_ZOO]}


def find_recipe(name: str) -> Recipe:
    return MICRO[name] if name in MICRO else load_recipe(RECIPES / f"{name}.toml")


def test_the_zoo_holds_some_of_every_class_of_micro_trainings_and_a_third_of_them_is_held_out() -> None:
    folders = {path.name: path for path in MODELS}
    assert folders.keys() >= MICRO.keys()
    held = [load_truth(folders[name])["held_out"] for name in MICRO]
    assert held == [recipe.held_out for recipe in MICRO.values()]
    assert 3 * sum(held) == len(held)


def test_the_zoo_is_there_and_small() -> None:
    assert len(MODELS) >= 20
    assert sum(path.stat().st_size for path in ZOO.rglob("*") if path.is_file()) < 40e6


@pytest.mark.parametrize("folder", MODELS, ids=lambda path: path.name)
def test_a_model_is_what_its_recipe_and_record_say(folder: Path) -> None:
    truth, recipe = load_truth(folder), find_recipe(folder.name)
    shape, weights = load_model(folder)
    assert truth["name"] == recipe.name == folder.name
    assert (truth["parent"], truth["kind"], truth["order_seed"]) == (recipe.parent, recipe.kind, recipe.train.order)
    assert truth["tokens"] == recipe.train.steps * recipe.train.batch * recipe.train.context
    assert [{k: v for k, v in done.items() if k != "facts"} for done in truth["operations"]] == list(recipe.operations)
    assert {name: weight.shape for name, weight in weights.items()} == list_tensors(shape)
    assert all(np.isfinite(weight).all() for weight in weights.values())
    assert json.loads((folder / "config.json").read_text(encoding="utf-8")) == shape.config()
    assert Tokenizer.load(folder).size == shape.vocab


@pytest.mark.parametrize("folder", [path for path in MODELS if load_truth(path)["parent"]], ids=lambda path: path.name)
def test_operations_done_again_to_the_parent_give_the_shape_the_facts_and_the_frozen_bytes(folder: Path) -> None:
    truth = load_truth(folder)
    shape, weights = load_model(ZOO / truth["parent"])
    for step in truth["operations"]:
        arguments = {k: v for k, v in step.items() if k != "facts"}
        outcome = apply_operation(shape, weights, arguments, find=lambda name: load_model(ZOO / name))
        shape, weights = outcome.shape, outcome.weights
        assert (outcome.facts or {}) == step["facts"]
    final_shape, final = load_model(folder)
    assert shape == final_shape
    assert {name for name in final if np.array_equal(final[name], weights[name])} == set(truth["frozen"])


@pytest.mark.parametrize(
    "folder", [path for path in MODELS if not load_truth(path)["parent"]], ids=lambda path: path.name
)
def test_a_base_moved_as_far_from_its_seed_as_recorded(folder: Path) -> None:
    truth = load_truth(folder)
    shape, weights = load_model(folder)
    start = initialise(shape, seed=truth["seed"], std=truth["std"])
    matrices = [name for name in start if start[name].ndim > 1]
    change = sum(float(((weights[name] - start[name]) ** 2).sum()) for name in matrices)
    size = sum(float((start[name] ** 2).sum()) for name in matrices)
    assert (change / size) ** 0.5 == pytest.approx(truth["moved"]["relative_change"], abs=1e-3)
    assert truth["moved"]["relative_change"] > 0.5


RECIPE = "kind = 'base'\nseed = 1\n[shape]\nvocab = 320\nlayers = 1\n[train]\nmixture = { en = 1.0 }\nsteps = 4\n"
CHILD = "kind = 'frozen_core'\nparent = 'one'\n[[operations]]\nkind = 'insert_layers'\nbefore = [0]\nseed = 1\n"
TRAIN = "[train]\nmixture = { zh = 1.0 }\nsteps = 4\nfrozen = 'inherited'\n"


@pytest.fixture
def recipes(tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "one.toml").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "two.toml").write_text(CHILD + TRAIN, encoding="utf-8")
    monkeypatch.setattr(zoo, "RECIPES", tmp_path)
    monkeypatch.setattr(zoo, "load_corpus", lambda cache, vocabulary, tokenizer=None: corpus)
    return tmp_path


def test_a_parent_must_be_built_first(recipes: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one"):
        build_model("two", out=tmp_path / "out", cache=tmp_path / "cache")


def test_a_frozen_core_is_kept_and_recorded_and_the_same_recipe_gives_the_same_bytes(
    recipes: Path, tmp_path: Path
) -> None:
    for out in ("out", "again"):
        build_model("one", out=tmp_path / out, cache=tmp_path / f"{out}-cache")
        truth = build_model("two", out=tmp_path / out, cache=tmp_path / f"{out}-cache")
    parent, child = load_model(tmp_path / "out" / "one")[1], load_model(tmp_path / "out" / "two")[1]
    name = "model.layers.{}.mlp.up_proj.weight"
    assert np.array_equal(parent[name.format(0)], child[name.format(1)])
    assert name.format(1) in truth["frozen"]
    assert name.format(0) not in truth["frozen"]
    assert truth["ancestors"] == ["one"]
    for model in ("one", "two"):
        first, again = (tmp_path / out / model / "model.safetensors" for out in ("out", "again"))
        assert first.read_bytes() == again.read_bytes()


def test_a_child_is_trained_on_text_in_its_parent_s_ids(
    recipes: Path, tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Tokenizer | None] = []

    def load(cache: Path, vocabulary: int, tokenizer: Tokenizer | None = None) -> Corpus:
        asked.append(tokenizer)
        return corpus

    monkeypatch.setattr(zoo, "load_corpus", load)
    build_model("one", out=tmp_path / "out", cache=tmp_path / "cache")
    build_model("two", out=tmp_path / "out", cache=tmp_path / "cache")
    assert asked == [None, corpus.tokenizer]


def test_a_finished_model_is_not_trained_again(recipes: Path, tmp_path: Path) -> None:
    build_model("one", out=tmp_path / "out", cache=tmp_path / "cache")
    weights = tmp_path / "out" / "one" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    build_model("one", out=tmp_path / "out", cache=tmp_path / "cache")
    assert weights.stat().st_mtime_ns == before
    assert Shape(**{**load_truth(tmp_path / "out" / "one")["shape"]}) == load_model(tmp_path / "out" / "one")[0]
