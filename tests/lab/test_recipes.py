"""Recipes: those of the package can be built, and one that is off is told in one line. Nothing here needs torch."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import pytest

from homolog.cli import main
from homolog.errors import UsageError
from homolog.lab.adapters import merge_adapters
from homolog.lab.operations import MODULES, OPERATIONS, apply_operation
from homolog.lab.recipe import Recipe, find_recipe, list_recipes, load_recipe, read_comment, sort_by_need
from homolog.lab.shape import Shape, Weights, initialise, list_tensors

ROOT = Path(__file__).parents[2]
TRAIN = "[train]\nmixture = {en = 1.0}\nsteps = 1\n"


@cache
def recipes() -> dict[str, Recipe]:
    return {name: load_recipe(find_recipe(name)) for name in list_recipes()}


def begin(name: str) -> tuple[Shape, Weights]:
    """Where the training of a recipe begins, on random numbers in place of its parents' weights."""
    recipe = recipes()[name]
    shape = begin(recipe.parent)[0] if recipe.parent else recipe.shape
    weights = initialise(shape, seed=1)
    for step in recipe.operations:
        outcome = apply_operation(shape, weights, step, find=begin)
        shape, weights = outcome.shape, outcome.weights
    return shape, merge_adapters(weights)


@pytest.mark.parametrize("name", [name for name, recipe in recipes().items() if recipe.operations])
def test_the_operations_of_a_recipe_can_be_done_and_are_those_it_is_named_for(name: str) -> None:
    shape, weights = begin(name)
    assert {n: w.shape for n, w in weights.items()} == list_tensors(shape)
    assert recipes()[name].kind != "base"
    again = begin(name)[1]
    assert all((weights[n] == again[n]).all() for n in weights)


def test_every_recipe_says_what_it_is_and_needs_only_recipes() -> None:
    for name, recipe in recipes().items():
        assert read_comment(find_recipe(name))
        assert recipe.name == name
        assert set(recipe.needs) <= recipes().keys()


def test_a_third_of_the_lineages_is_held_out_and_carries_every_kind_of_operation() -> None:
    bases = [recipe for recipe in recipes().values() if recipe.kind == "base"]
    held = {recipe.name for recipe in bases if recipe.held_out}
    assert held == {"c", "d", "g"}
    assert len(held) / len(bases) >= 0.3
    kinds = {recipe.kind for recipe in recipes().values() if recipe.parent in held}
    assert kinds >= {
        "continued_training",
        "ffn_pruned",
        "ffn_widened",
        "layers_dropped",
        "layers_duplicated",
        "layers_added",
        "washed",
        "frozen_core",
        "upcycled",
        "low_rank_update",
        "width_pruned",
        "vocabulary_changed",
    }
    assert {recipe.seed for recipe in recipes().values() if recipe.kind == "shared_initialisation"} >= {
        recipes()[name].seed for name in held
    }


def test_no_two_trainings_of_a_lineage_see_the_same_windows_in_the_same_order() -> None:
    derived = [recipe for recipe in recipes().values() if recipe.parent]
    seen = {(recipe.parent, recipe.train.order, recipe.train.part, str(recipe.train.mixture)) for recipe in derived}
    assert len(seen) == len(derived)


def test_recipes_come_after_those_that_they_need() -> None:
    ordered = [recipe.name for recipe in sort_by_need(list(recipes().values()))]
    assert sorted(ordered) == sorted(recipes())
    for name, recipe in recipes().items():
        assert all(ordered.index(other) < ordered.index(name) for other in recipe.needs)


def test_recipes_that_need_each_other_are_an_error(tmp_path: Path) -> None:
    for name, parent in (("one", "two"), ("two", "one")):
        (tmp_path / f"{name}.toml").write_text(f"kind = 'x'\nparent = '{parent}'\n{TRAIN}", encoding="utf-8")
    with pytest.raises(UsageError, match="one → two → one"):
        sort_by_need([load_recipe(tmp_path / f"{name}.toml") for name in ("one", "two")])


BAD = [
    ("kind = ", "not TOML"),
    ("kind = 'base'\nseed = 1\ncolour = 3\n" + TRAIN, "unknown key in the top: colour"),
    ("kind = 'base'\nseed = 1\n[shape]\nwide = 3\n" + TRAIN, "unknown key in shape: wide"),
    ("kind = 'base'\nseed = 1\n" + TRAIN + "step = 1\n", "unknown key in train: step"),
    ("seed = 1\n" + TRAIN, "kind is missing"),
    ("kind = 'base'\nseed = 1\n[train]\nsteps = 1\n", "mixture is missing"),
    ("kind = 'base'\nseed = 1\n", "mixture, steps is missing"),
    ("kind = 'base'\n" + TRAIN, "either a parent or a seed"),
    ("kind = 'base'\nseed = 1\nparent = 'a'\n" + TRAIN, "either a parent or a seed"),
    ("kind = 'x'\nparent = 'a'\n[shape]\nwidth = 32\n" + TRAIN, "a shape, though"),
    ("kind = 'base'\nseed = '1'\n" + TRAIN, "seed in the top is '1', expected int"),
    ("kind = 'base'\nseed = true\n" + TRAIN, "seed in the top is True, expected int"),
    ("kind = 'base'\nseed = 1.5\n" + TRAIN, "seed in the top is 1.5, expected int"),
    ("kind = 3\nseed = 1\n" + TRAIN, "kind in the top is 3, expected str"),
    ("kind = 'base'\nseed = 1\nshape = 3\n" + TRAIN, "shape is 3, expected a table"),
    ("kind = 'x'\nparent = 'a'\noperations = 3\n" + TRAIN, "operations in the top is 3"),
    ("kind = 'base'\nseed = 1\n[shape]\ntied = 1\n" + TRAIN, "tied in shape is 1, expected bool"),
    ("kind = 'base'\nseed = 1\n[shape]\nwidth = 63\n" + TRAIN, "do not divide evenly"),
    ("kind = 'base'\nseed = 1\n[shape]\nwidth = 0\n" + TRAIN, "width 0: expected at least 1"),
    ("kind = 'base'\nseed = 1\n[shape]\nlayers = -1\n" + TRAIN, "layers -1: expected at least 1"),
    ("kind = 'base'\nseed = 1\n[shape]\nfamily = 'mamba'\n" + TRAIN, "the lab makes llama"),
    ("kind = 'base'\nseed = 1\n[shape]\nexperts = 4\n" + TRAIN, "experts 4: of a llama, expected 0"),
    (
        "kind = 'base'\nseed = 1\n[shape]\nfamily = 'qwen2_moe'\n" + TRAIN,
        "experts 0: of a qwen2_moe, expected 1 or more",
    ),
    (
        "kind = 'base'\nseed = 1\n[shape]\nfamily = 'qwen2_moe'\nexperts = 4\nchosen = 5\nshared_ffn = 8\n" + TRAIN,
        "1 to 4 chosen",
    ),
    (
        "kind = 'base'\nseed = 1\n[shape]\nfamily = 'pangu_pro_moe'\nexperts = 4\ngroups = 3\nshared_ffn = 8\n" + TRAIN,
        "groups 3: expected a divisor",
    ),
    ("kind = 'base'\nseed = 1\n[shape]\nfamily = 'gpt2'\nhead_size = 8\n" + TRAIN, "head_size 8"),
    ("kind = 'base'\nseed = 1\n[train]\nmixture = {en = 0.5}\nsteps = 1\n", "add up to 1"),
    ("kind = 'base'\nseed = 1\n[train]\nmixture = {en = 1.5, zh = -0.5}\nsteps = 1\n", "add up to 1"),
    ("kind = 'base'\nseed = 1\n[train]\nmixture = {en = nan}\nsteps = 1\n", "add up to 1"),
    ("kind = 'base'\nseed = 1\n[train]\nmixture = {en = 'all'}\nsteps = 1\n", "mixture in train is"),
    ("kind = 'base'\nseed = 1\n[train]\nmixture = {en = 1.0}\nsteps = -1\n", "steps -1"),
    ("kind = 'base'\nseed = 1\n" + TRAIN + "batch = 0\n", "batch 0"),
    ("kind = 'base'\nseed = 1\n" + TRAIN + "lr = inf\n", "lr inf"),
    ("kind = 'base'\nseed = 1\n" + TRAIN + "lr = 0\n", "lr 0"),
    ("kind = 'base'\nseed = 1\n" + TRAIN + "decay = nan\n", "decay nan"),
    ("kind = 'base'\nseed = 1\n" + TRAIN + "order = -1\n", "order -1"),
    ("kind = 'base'\nseed = -1\n" + TRAIN, "seed -1"),
    ("kind = 'base'\nseed = 1\nstd = nan\n" + TRAIN, "std nan"),
    ("kind = 'base'\nseed = 1\n" + TRAIN + "part = 'val'\n", "'val' is for measuring"),
    ("kind = 'base'\nseed = 1\n" + TRAIN + "frozen = 'all'\n", "frozen 'all'"),
    ("kind = 'base'\nseed = 1\n" + TRAIN + "keep = ['1']\n", "keep in train is"),
    ("kind = 'base'\nseed = 1\n" + TRAIN + "random_tokens = 0.7\nshuffled_labels = 0.7\n", "add up to 1 at most"),
]


@pytest.mark.parametrize(("text", "says"), BAD, ids=[says for _, says in BAD])
def test_a_recipe_that_is_off_is_one_error_that_names_its_file(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)


def test_a_recipe_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"kind = '\xff'")
    with pytest.raises(UsageError, match="not TOML"):
        load_recipe(tmp_path / "mine.toml")
    with pytest.raises(UsageError, match="no such recipe"):
        load_recipe(tmp_path / "other.toml")
    with pytest.raises(UsageError, match="no such recipe"):
        find_recipe(str(tmp_path / "other.toml"))


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["homolog", "lab", *map(str, arguments)])
    return main()


def test_without_torch_building_is_one_line_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert call(monkeypatch, "build", "a", "--out", tmp_path / "out") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "homolog[lab]" in captured.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [("build", "nobody"), ("show", "nobody"), ("build", "nobody.toml")])
def test_a_recipe_that_is_not_there_is_one_line(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *arguments) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert "no such recipe" in captured.err


def test_the_lists_name_everything(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert call(monkeypatch, "recipes") == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()} >= recipes().keys()
    assert call(monkeypatch, "operations") == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()} >= OPERATIONS.keys()


def test_show_prints_a_recipe_as_it_is_and_an_operation_with_its_arguments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "show", "a-washed") == 0
    assert capsys.readouterr().out.strip() == find_recipe("a-washed").read_text(encoding="utf-8").strip()
    assert call(monkeypatch, "show", "merge") == 0
    shown = capsys.readouterr().out
    assert "method: str" in shown
    assert "find" not in shown.split("\n\n")[0]


def test_every_operation_is_documented_and_of_one_module() -> None:
    page = (ROOT / "docs" / "lab.md").read_text(encoding="utf-8")
    modules = {module.__name__ for module in MODULES}
    for name, operation in OPERATIONS.items():
        assert operation.__doc__
        assert operation.__module__ in modules
        assert f"`{name}`" in page


def test_every_key_of_a_recipe_is_documented() -> None:
    page = (ROOT / "docs" / "lab.md").read_text(encoding="utf-8")
    keys = {*Recipe.__dataclass_fields__, *Shape.__dataclass_fields__, *type(recipes()["a"].train).__dataclass_fields__}
    inner = {
        "name",
        "train",
        "shape",
        "operations",
        "models",
    }  # tables of their own; a name is the file's; models is for micro-trainings
    assert {key for key in keys - inner if f"`{key}`" not in page} == set()
