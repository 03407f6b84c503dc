"""Micro-trainings: the classes of the package, and what building one does."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from homolog.errors import UsageError
from homolog.lab import micro, zoo
from homolog.lab.corpus import Corpus
from homolog.lab.micro import build_class, list_classes, load_class
from homolog.lab.recipe import RECIPES, Schedule, load_recipe
from homolog.lab.shape import Shape, initialise, list_tensors
from homolog.lab.store import load_model, load_truth
from homolog.lab.train import train

pytestmark = pytest.mark.lab


def test_the_package_holds_two_hundred_micro_models_of_several_shapes_and_widths() -> None:
    classes = {name: load_class(name) for name in list_classes()}
    models = list(chain.from_iterable(classes.values()))
    sizes = [sum(int(np.prod(size)) for size in list_tensors(recipe.shape).values()) for recipe in models]
    assert len(models) >= 200
    assert len({(recipe.shape.family, recipe.shape.width, recipe.shape.layers) for recipe in models}) >= 4
    assert len({recipe.shape.width for recipe in models}) >= 4
    assert sum(bool(recipe.train.teacher) for recipe in models) >= 20
    assert max(sizes) <= 100_000


def test_no_two_trainings_of_the_package_start_from_the_same_seed_unless_they_are_meant_to() -> None:
    seeds = [recipe.seed for name in list_classes() for recipe in load_class(name)]
    bases = {load_recipe(path).seed for path in RECIPES.glob("*.toml")}
    assert len(set(seeds)) == len(seeds)
    assert not bases & set(seeds)


def test_a_teacher_is_listed_before_its_students() -> None:
    order = list(chain.from_iterable(([r.name for r in load_class(name)]) for name in list_classes()))
    students = [recipe for name in list_classes() for recipe in load_class(name) if recipe.train.teacher]
    assert all(order.index(student.train.teacher) < order.index(student.name) for student in students)


CLASS = "kind = 'base'\nseed = 5\nmodels = {}\n[shape]\nvocab = 320\nlayers = 1\n[train]\nmixture = {{ en = 1.0 }}\nsteps = 4\n"


@pytest.fixture
def classes(tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(micro, "CLASSES", tmp_path)
    monkeypatch.setattr(zoo, "load_corpus", lambda cache, vocabulary, tokenizer=None: corpus)
    return tmp_path


def test_a_class_is_trained_from_consecutive_seeds_on_the_same_text(classes: Path, tmp_path: Path) -> None:
    (classes / "tiny.toml").write_text(CLASS.format(2), encoding="utf-8")
    truths = build_class("tiny", out=tmp_path / "out", cache=tmp_path / "cache")
    assert [(truth["name"], truth["seed"]) for truth in truths] == [("tiny-00", 5), ("tiny-01", 6)]
    assert truths[0]["data"] == truths[1]["data"]
    first, second = (load_model(tmp_path / "out" / truth["name"])[1] for truth in truths)
    assert not np.array_equal(first["lm_head.weight"], second["lm_head.weight"])


def test_a_class_without_models_or_with_an_unbuilt_teacher_is_refused(classes: Path, tmp_path: Path) -> None:
    (classes / "none.toml").write_text(CLASS.format(0), encoding="utf-8")
    with pytest.raises(UsageError, match="models is 0"):
        load_class("none")
    (classes / "pupil.toml").write_text(CLASS.format(1) + "teacher = 'nobody'\n", encoding="utf-8")
    with pytest.raises(UsageError, match="nobody"):
        build_class("pupil", out=tmp_path / "out", cache=tmp_path / "cache")
    assert not (tmp_path / "out" / "pupil-00").exists()


def test_a_student_comes_to_predict_what_its_teacher_predicts_and_not_what_the_text_says(
    tmp_path: Path, corpus: Corpus
) -> None:
    """The teacher knows nothing: a student of it stays ignorant, where one that reads the text learns it."""
    shape = Shape(vocab=320, width=32, layers=1, ffn=32, kv_heads=4)
    teacher, start = initialise(shape, seed=1), initialise(shape, seed=2)
    plan = Schedule(mixture={"en": 1.0}, steps=60, warmup=5)
    _, taught = train(shape, start, plan, corpus, teacher=(shape, teacher), work=tmp_path / "taught")
    _, read = train(shape, start, plan, corpus, work=tmp_path / "read")
    assert taught[-1][1] == pytest.approx(np.log(shape.vocab), abs=0.05)
    assert read[-1][1] < taught[-1][1] - 0.3


def test_the_records_of_a_class_name_its_teacher(classes: Path, tmp_path: Path) -> None:
    (classes / "tiny.toml").write_text(CLASS.format(1), encoding="utf-8")
    (classes / "pupil.toml").write_text(CLASS.format(1) + "teacher = 'tiny-00'\n", encoding="utf-8")
    for name in list_classes():
        build_class(name, out=tmp_path / "out", cache=tmp_path / "cache")
    assert load_truth(tmp_path / "out" / "pupil-00")["recipe"]["teacher"] == "tiny-00"
