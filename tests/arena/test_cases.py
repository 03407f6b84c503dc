"""What is true of every pair, and that derived models are what their names say."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from homolog.arena.cases import Case, Pair, open_case, plan_pairs
from homolog.arena.methods.base import Model
from homolog.arena.recipes import MERGE_RECIPES, list_recipes
from homolog.arena.zoo import read_zoo
from homolog.errors import UsageError
from homolog.lab.operations import OPERATIONS
from homolog.lab.shape import Shape

_ZOO = Path(__file__).parents[1] / "zoo"


def by_name(pairs: list[Pair]) -> dict[frozenset[str], Pair]:
    return {frozenset((pair.a.name, pair.b.name)): pair for pair in pairs if pair.a.is_trained and pair.b.is_trained}


def test_truth_follows_the_records(small_zoo: Path) -> None:
    pairs = by_name(plan_pairs(read_zoo(small_zoo)))
    assert len(pairs) == 14, "within lineages, between their first models, and each other model with a stranger"
    truth = {
        ("a", "a-same-1x"): ("related", "continued_training"),
        ("a-same-1x", "a-zh-1x"): ("related", "siblings"),
        ("a", "a-order2"): ("shared_initialisation", "shared_initialisation"),
        ("a-order2", "a-zh-1x"): ("shared_initialisation", "shared_initialisation"),
        ("a", "b"): ("independent", "other_seed"),
        ("b", "g"): ("independent", "other_shape"),
    }
    for names, expected in truth.items():
        pair = pairs[frozenset(names)]
        assert (pair.label, pair.operation) == expected
    assert pairs[frozenset(("a", "a-same-1x"))].a.name == "a", "the elder is the known model"
    assert pairs[frozenset(("a-order2", "b"))].lineages == ("a", "b"), "a shared start is one lineage"


def test_every_recipe_is_tried_on_a_relative_and_on_a_stranger(small_zoo: Path) -> None:
    zoo = read_zoo(small_zoo)
    derived = [pair for pair in plan_pairs(zoo) if not (pair.a.is_trained and pair.b.is_trained)]
    counts = Counter((pair.operation, pair.label) for pair in derived)
    shape = Shape(**zoo.records["a"].truth["shape"])
    for operation in list_recipes(shape, [0]):
        assert counts[operation, "related"] == 2, "of the lineages a and b"
        assert counts[operation, "independent"] == 2
    for operation in MERGE_RECIPES:
        assert counts[operation, "related"] == 1, "only a has two descendants of its shape"
    assert counts["units_sorted", "independent"] == 1
    assert counts["untrained", "independent"] == 3
    assert {pair.label for pair in derived} == {"related", "independent"}


def test_a_derived_model_is_made_and_gone(small_zoo: Path) -> None:
    zoo = read_zoo(small_zoo)
    case = Case("x", ("a",), ({"kind": "prune_ffn", "units": 40}, {"kind": "permute_units", "seed": 3}))
    with open_case(case, zoo) as folder, Model(folder) as made, Model(zoo.records["a"].folder) as base:
        assert (made.anatomy.dims.ffn, base.anatomy.dims.ffn) == (40, 128)
        assert made.vocabulary == base.vocabulary
        rows = {row.tobytes() for row in base.read(base.blocks()[0])}
        kept = made.read(made.blocks()[0])
        assert all(row.tobytes() in rows for row in kept)
    assert not folder.exists()
    with open_case(Case("a", ("a",)), zoo) as folder:
        assert folder == zoo.records["a"].folder


def test_a_merge_lies_between_its_sources(small_zoo: Path) -> None:
    zoo = read_zoo(small_zoo)
    sources = ("a-same-1x", "a-zh-1x")
    with open_case(Case("m", sources, (), MERGE_RECIPES["merged_linear"]), zoo) as folder, Model(folder) as merged:
        role = merged.blocks()[0]
        both = []
        for name in sources:
            with Model(zoo.records[name].folder) as model:
                both.append(model.read(role))
        np.testing.assert_allclose(merged.read(role), np.mean(both, axis=0), rtol=0.01, atol=1e-6)


def test_a_case_of_another_recipe_has_another_digest(small_zoo: Path) -> None:
    zoo = read_zoo(small_zoo)
    a = Case("a", ("a",))

    def digest(b: Case) -> str:
        return Pair(a, b, "related", "x", ("a",), held_out=False).digest(zoo)

    step = {"kind": "permute_units", "seed": 1}
    assert digest(Case("x", ("a",), (step,))) == digest(Case("y", ("a",), (dict(step),)))
    assert len({digest(Case("x", ("a",), (step | {"seed": n},))) for n in (1, 2)} | {digest(Case("b", ("b",)))}) == 3


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen2_moe", "gpt2"])
def test_recipes_name_operations_that_exist(family: str) -> None:
    shape = Shape(family=family, tied=family == "gpt2", experts=4 if family == "qwen2_moe" else 0, shared_ffn=64)
    recipes = list_recipes(shape, [0, 1])
    assert len(recipes) >= 15
    assert all(step["kind"] in OPERATIONS for steps in recipes.values() for step in steps)
    assert ("residual_rotated" in recipes) == (family != "gpt2")
    assert ("upcycled" in recipes) == (family in ("llama", "qwen2"))
    assert ("experts_permuted" in recipes) == (family == "qwen2_moe")


def test_a_record_may_say_that_it_is_held_out(small_zoo: Path, tmp_path: Path) -> None:
    zoo = read_zoo(small_zoo)
    assert not zoo.is_held_out("a"), "the statistics were developed on it"
    truth = {**zoo.records["b"].truth, "name": "fresh", "held_out": True}
    (tmp_path / "other" / "fresh").mkdir(parents=True)
    (tmp_path / "other" / "fresh" / "truth.json").write_text(json.dumps(truth))
    assert read_zoo(tmp_path / "other").is_held_out("fresh")


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "x"}'])
def test_a_record_that_is_none_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "truth.json").write_text(text)
    with pytest.raises(UsageError, match=r"x/truth\.json"):
        read_zoo(tmp_path)


def test_a_folder_without_models_is_no_zoo(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--zoo"):
        read_zoo(tmp_path)


def test_the_zoo_holds_what_the_arena_needs() -> None:
    zoo = read_zoo(_ZOO)
    pairs = plan_pairs(zoo)
    counts = Counter(pair.label for pair in pairs)
    trained = Counter(pair.label for pair in pairs if pair.a.is_trained and pair.b.is_trained)
    made = {pair.b.name for pair in pairs if pair.label == "related" and not pair.b.is_trained}
    strangers = Counter(pair.operation for pair in pairs if pair.label == "independent")
    assert len({lineage for pair in pairs for lineage in pair.lineages}) >= 30
    assert trained["independent"] >= 500
    assert counts["shared_initialisation"] >= 6
    assert len(made) >= 60
    for kind in (
        "distilled",
        "layers_duplicated",
        "other_seed",
        "other_shape",
        "units_sorted",
        "untrained",
        "upcycled",
    ):
        assert strangers[kind] >= 10, kind


def test_records_that_leave_a_key_of_the_shape_to_its_default_are_of_one_shape() -> None:
    pairs = plan_pairs(read_zoo(_ZOO))
    merged = {pair.b.sources[0] for pair in pairs if pair.operation == "merged_ties"}
    assert merged == {"a", "c", "g"}, "the lineages with two descendants of the shape of their base"
    assert {pair.b.sources[0] for pair in pairs if pair.operation == "residual_rotated"} >= {"c-zh-1x", "d-zh-1x"}


def test_random_numbers_have_the_shape_of_a_model_and_none_of_its_numbers(small_zoo: Path) -> None:
    zoo = read_zoo(small_zoo)
    pair = next(pair for pair in plan_pairs(zoo) if pair.b.name == "b untrained")
    assert (pair.a.name, pair.label, pair.operation, pair.lineages) == ("b", "independent", "untrained", ("b",))
    with open_case(pair.a, zoo) as trained, open_case(pair.b, zoo) as drawn, Model(trained) as a, Model(drawn) as b:
        assert a.roles == b.roles
        assert a.vocabulary is not None
        assert b.vocabulary == a.vocabulary
        for role in a.blocks():
            assert abs(np.corrcoef(a.read(role).ravel(), b.read(role).ravel())[0, 1]) < 0.05


def test_what_repeats_itself_meets_every_other_base(small_zoo: Path) -> None:
    zoo = read_zoo(_ZOO)
    pairs = plan_pairs(zoo)
    for name in ("a-solar", "q-upcycled"):
        met = {pair.a.name for pair in pairs if pair.b.name == name} | {
            pair.b.name for pair in pairs if pair.a.name == name
        }
        assert met >= set("abcdgkmqs") | {"deep"}
    doubled = [pair for pair in plan_pairs(read_zoo(small_zoo)) if pair.b.name == "b + layers_duplicated"]
    assert {pair.a.name for pair in doubled} == {"a", "b"}
