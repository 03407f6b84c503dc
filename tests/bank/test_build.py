"""Building a bank from trained models, stopping in between, and what must not go into one."""

from __future__ import annotations

import json
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from tests.bank.test_bank import model

from homolog.bank.bank import Bank, BankModel
from homolog.bank.storage import load_bank
from homolog.calibration import build
from homolog.calibration.build import WITHIN, build_bank, describe_model, plan_pairs
from homolog.calibration.statistics import STATISTICS
from homolog.errors import UsageError
from homolog.pipeline import compare

ZOO = Path(__file__).parents[1] / "zoo"
BASES = [ZOO / name for name in ("a", "b", "s", "q")]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bank, Path]:
    path = tmp_path_factory.mktemp("bank") / "bank.json"
    return build_bank(BASES, path), path


def test_a_bank_of_independent_models_holds_every_pair_with_what_compare_measured(built: tuple[Bank, Path]) -> None:
    bank, path = built
    assert [m.id for m in bank.models] == ["a", "b", "q", "s"]
    assert bank.pairs.tolist() == [list(pair) for pair in combinations(range(4), 2)]
    values = compare(ZOO / "a", ZOO / "b").exhibits["std_curves"]["correlation"]
    for kind in "qkvo":
        assert bank.statistics[f"std_curves.{kind}"][0] == pytest.approx(values[kind])
    assert set(bank.statistics) == set(STATISTICS)
    assert np.allclose(load_bank(path).statistics["norm_gains"], bank.statistics["norm_gains"], rtol=1e-4)
    assert [entry.name for entry in path.parent.iterdir()] == ["bank.json"]


def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(
    built: tuple[Bank, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[str, str]] = []
    measure = build._measure

    def count(a: build._Member, b: build._Member, seed: int) -> build.Values:
        if len(compared) == 4:
            compared.append(("", ""))
            raise KeyboardInterrupt
        compared.append((a.model.id, b.model.id))
        return measure(a, b, seed)

    monkeypatch.setattr(build, "_measure", count)
    out = tmp_path / "bank.json"
    with pytest.raises(KeyboardInterrupt):
        build_bank(BASES, out)
    assert not out.exists()
    with (tmp_path / "bank.json.pairs").open("a", encoding="utf-8") as file:
        file.write('{"made_by": [')  # a line torn by the kill
    build_bank(BASES, out)
    assert len(set(compared)) == len(compared) == 7
    assert out.read_bytes() == built[1].read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["bank.json"]


def test_a_bank_is_extended_by_models_and_keeps_what_it_had(built: tuple[Bank, Path], tmp_path: Path) -> None:
    bank = build_bank([ZOO / "deep", ZOO / "g"], tmp_path / "more.json", extend=built[0])
    assert [m.id for m in bank.models] == ["a", "b", "deep", "g", "q", "s"]
    by_name = {(bank.models[i].id, bank.models[j].id): row for row, (i, j) in enumerate(bank.pairs.tolist())}
    assert by_name.keys() == {*combinations(["a", "b", "q", "s"], 2), ("deep", "g")}
    old = bank.statistics["norm_gains"][[by_name[pair] for pair in combinations(["a", "b", "q", "s"], 2)]]
    assert np.allclose(old, built[0].statistics["norm_gains"])


def test_related_models_and_models_given_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="trained independently"):
        build_bank([ZOO / "a", ZOO / "a-zh-1x"], tmp_path / "bank.json")
    with pytest.raises(
        UsageError, match="trained independently"
    ):  # the same first random numbers are no descent, yet not independent
        build_bank([ZOO / "a", ZOO / "a-order2"], tmp_path / "shared.json")
    shutil.copytree(ZOO / "a", tmp_path / "copy")
    with pytest.raises(UsageError, match="same digest"):
        build_bank([ZOO / "a", tmp_path / "copy"], tmp_path / "twice.json")
    with pytest.raises(UsageError, match="at least two"):
        build_bank([ZOO / "a"], tmp_path / "one.json")
    assert not list(tmp_path.glob("*.json"))


def test_a_folder_that_is_none_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        build_bank([ZOO / "a", ZOO / "b"], tmp_path / "nowhere" / "bank.json")


def test_a_model_is_described_by_its_sizes_and_its_recipe() -> None:
    described = describe_model(ZOO / "a")
    assert (described.layers, described.width, described.units, described.parameters) == (5, 64, 128, 250_560)
    assert described.recipe.startswith("lab a, seed 1, digest ")


def test_a_model_that_is_not_the_labs_is_described_by_its_shape(tmp_path: Path) -> None:
    shutil.copytree(ZOO / "a", tmp_path / "mine")
    (tmp_path / "mine" / "truth.json").write_text("[]", encoding="utf-8")
    described = describe_model(tmp_path / "mine")
    assert (described.group, described.recipe) == ("llama 5x64, 128 units", "named by the user")


def test_pairs_are_planned_within_groups_some_across_and_students_meet_their_teachers() -> None:
    models = [model(0), model(1), model(2), model(3, "h"), model(4, "h")]
    assert plan_pairs(models, across=1) == [(0, 1), (0, 2), (0, 3), (1, 2), (3, 4)]
    student = BankModel(**{**{f: getattr(models[4], f) for f in models[4].__slots__}, "teacher": models[2].id})
    assert (2, 4) in plan_pairs([*models[:4], student], across=1)


def test_in_a_large_group_every_model_meets_as_many_others_and_in_a_small_one_all() -> None:
    large = plan_pairs([model(i) for i in range(30)])
    assert {sum(i in pair for pair in large) for i in range(30)} == {2 * WITHIN}
    assert plan_pairs([model(i) for i in range(13)]) == list(combinations(range(13), 2))


def test_lines_of_another_making_are_not_taken_over(tmp_path: Path) -> None:
    out = tmp_path / "bank.json"
    a, b = (describe_model(ZOO / name).digest for name in ("a", "b"))
    line = {"made_by": ["0", 0, []], "pair": sorted([a, b]), "values": {"headline": 99.0}}
    (tmp_path / "bank.json.pairs").write_text(json.dumps(line) + "\n", encoding="utf-8")
    assert build_bank([ZOO / "a", ZOO / "b"], out).statistics["headline"][0] < 3
