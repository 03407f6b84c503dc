"""The adversary's bench: what it plans, what it measures, how it sums up, and what it says where something is missing."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from homolog.arena.bench import hold, points
from homolog.arena.bench.attacks import ATTACKS, GROUPS, Attack, Target, make_recipe, name_model
from homolog.arena.bench.points import HIDDEN, PLAIN, Point, measure_points
from homolog.arena.bench.rows import FROM_NOTHING, make_rows, show_worth, write_csv, write_markdown
from homolog.arena.bench.train import find_targets, plan_recipes
from homolog.arena.zoo import Zoo, read_zoo
from homolog.lab.corpus import Corpus

ZOO = Path(__file__).parents[1] / "zoo"
TEXT = np.random.default_rng(1).integers(26, 512, 200).astype(np.uint16)
NAMES = {attack.name: attack for attack in ATTACKS}


@pytest.fixture
def two_bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Zoo:
    """Two independent bases and one that they can be merged with; a handful of attacks; random ids as text."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    for name in "abc":
        (folder / name).symlink_to(ZOO / name)
    few = tuple(
        replace(NAMES[name], amounts=amounts, fewer={})
        for name, amounts in (("hidden", (1.0,)), ("noise", (0.3, 4.0)), ("merged", (0.3,)), ("retrained", (0.2,)))
    )
    monkeypatch.setattr(points, "ATTACKS", few)
    streams = {(name, part): TEXT for name in ("en", "zh", "code") for part in ("a", "b", "val")}
    text: Callable[..., Corpus] = lambda cache, tokenizer: Corpus(tokenizer, streams)  # noqa: E731
    monkeypatch.setattr(points, "load_corpus", text)
    return read_zoo(folder)


def test_every_attack_is_planned_once_with_seeds_of_its_own() -> None:
    targets = find_targets(read_zoo(ZOO))
    assert set(targets) == {name for group in GROUPS for name in group}
    plans = list(plan_recipes(targets))
    names = [recipe.name for *_, recipe in plans]
    assert len(set(names)) == len(names)
    assert len({recipe.train.order for *_, recipe in plans}) == len(plans)
    for attack, target, amount, recipe in plans:
        assert recipe == make_recipe(attack, target, amount)
        assert recipe.name == name_model(attack, target.name, amount)
        assert (recipe.parent is None) == attack.fresh
        assert recipe.train.part == "b", "the attacker has text of his own"
    costs = [recipe.train.steps * target.shape.width**2 * target.shape.layers for _, target, _, recipe in plans]
    assert costs == sorted(costs)


def test_what_is_measured_of_a_base_and_of_its_twin(two_bases: Zoo, tmp_path: Path) -> None:
    found, missing = measure_points(two_bases, tmp_path / "models", tmp_path / "out", tmp_path)
    assert missing == 2, "retraining, of two bases"
    assert {(p.attack, p.amount, p.face) for p in found if p.base == "a"} == {
        ("hidden", 1.0, HIDDEN),
        *(("noise", amount, face) for amount in (0.3, 4.0) for face in (PLAIN, HIDDEN)),
        *(("merged", 0.3, face) for face in (PLAIN, HIDDEN)),
    }
    said = {(p.base, p.attack, p.amount, p.face): p for p in found}
    for base, stranger in (("a", "c"), ("c", "a")):
        assert said[base, "hidden", 1.0, HIDDEN].found
        assert said[base, "noise", 0.3, HIDDEN].found
        assert not said[base, "noise", 4.0, HIDDEN].found
        assert all(p.strangers == (stranger,) and p.accused == () for p in found if p.base == base)
    assert [p.held_out for p in found] == [p.base == "c" for p in found]
    free, dear = said["a", "hidden", 1.0, HIDDEN], said["a", "noise", 4.0, HIDDEN]
    assert free.price is not None
    assert dear.price is not None
    assert abs(free.price) < 0.01
    assert dear.price > 1
    assert free.parameters == pytest.approx(1.49, abs=0.01), "units split, an unembedding of its own"


def test_a_run_goes_on_where_it_was_stopped(two_bases: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    first, _ = measure_points(two_bases, tmp_path / "models", out, tmp_path)
    kept = (out / points.RESULTS).read_text(encoding="utf-8").splitlines(keepends=True)
    (out / points.RESULTS).write_text("".join(kept[:-1]) + kept[-1][:30], encoding="utf-8")
    asked: list[str] = []
    measure = points.Bench.measure

    def ask(self: points.Bench, task: tuple[Attack, Target, float]) -> list[Point]:
        asked.append(task[1].name)
        return measure(self, task)

    monkeypatch.setattr(points.Bench, "measure", ask)
    again, _ = measure_points(two_bases, tmp_path / "models", out, tmp_path)
    assert again == first
    assert len(asked) == 1
    assert measure_points(two_bases, tmp_path / "models", out, tmp_path)[0] == first
    assert len(asked) == 1


def test_where_there_is_no_text_there_is_no_loss(
    two_bases: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(cache: Path, tokenizer: object) -> Corpus:
        raise FileNotFoundError("apt-get")

    monkeypatch.setattr(points, "load_corpus", offline)
    monkeypatch.setattr(points, "ATTACKS", (NAMES["hidden"],))
    held = hold.hold_bench(tmp_path / "zoo", tmp_path / "out", tmp_path)
    assert "no loss is measured" in held.notes[0]
    assert [path.name for path in held.files] == ["adversary.csv", "adversary.md", "adversary.html"]
    assert all(row.price is None and row.worth is None for row in held.rows)
    assert "| hidden | – | 2 | – | – | 1.5× | – | 100% | 0% |" in held.files[1].read_text(encoding="utf-8")


def make_point(attack: str, amount: float, loss: float, **changed: object) -> Point:
    point = Point(
        attack,
        amount,
        "llama-32-00",
        False,
        HIDDEN,
        "related",
        2,
        -2.3,
        0.9,
        0.8,
        ("llama-32-01",),
        (),
        0.2,
        1.0,
        loss,
        3.0,
    )
    return replace(point, **changed)  # type: ignore[arg-type]


def test_worth_is_read_off_the_curve_of_new_models() -> None:
    made = [
        make_point(FROM_NOTHING, 0.05, 5.0),
        make_point(FROM_NOTHING, 0.2, 4.0),
        make_point("hidden", 1.0, 3.0),
        make_point("noise", 0.1, 4.5, verdict="independent", agreement=0.1),
        make_point("noise", 0.1, 4.5, base="llama-32-02", accused=("llama-32-01",)),
        make_point("noise", 0.1, 4.0, base="llama-32-02", face=PLAIN),
        make_point("noise", 0.3, 9.0),
    ]
    rows = {(row.attack.name, row.amount): row for row in make_rows(made)}
    noise = rows["noise", 0.1]
    assert (noise.plain, noise.hidden, noise.cleared) == (1.0, 0.5, 0.5)
    assert (noise.bases, noise.comparisons, noise.accused) == (2, 3, 1)
    assert noise.agreement == (0.1, 0.9)
    assert noise.price == pytest.approx(1.5)
    assert noise.worth == pytest.approx(0.1), "half way down, along the logarithm"
    assert show_worth(rows["noise", 0.3]) == "< 0.05×"
    assert show_worth(rows["hidden", 1.0]) == "≥ 1×"
    table = write_markdown(list(rows.values()))
    assert "| hidden | small | all | – | – | – | – | – |" in table
    assert "| noise | small | – | 0.1 | 50% / 0% / 50% | 0.2× | +1.50 | 0.10× |" in table
    assert "| from nothing | small |" not in table, "which steals nothing"
    assert "| noise | 0.1 | 2 | +1.50 | 0.10× | 1.0× | 100% | 50% | 50% | 0.10 … 0.90 | 0.80 … 0.80 | 1 of 3 |" in table
    lines = list(csv.DictReader(io.StringIO(write_csv(made))))
    assert len(lines) == len(made)
    assert lines[4]["accused"] == "llama-32-01"


def test_free_means_free() -> None:
    free = [attack.name for attack in ATTACKS if attack.is_free]
    assert free == ["hidden", "split", "flipped", "flipped quietly", "drowned", "buried", "all that is free"]
    assert all(not attack.is_free for attack in ATTACKS if attack.tokens is not None)
    assert [attack.name for attack in ATTACKS if not attack.inherits] == ["distilled", FROM_NOTHING]


@pytest.mark.parametrize("arguments", [("--train",), ("--cache", "somewhere"), ("--bench", "--zoo", "nowhere")])
def test_bad_input_is_one_line_and_exit_code_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "homolog", "arena", "--out", str(tmp_path / "out"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_no_torch_is_needed_to_measure() -> None:
    code = "import sys, homolog.arena.bench.hold; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_attack_is_described() -> None:
    assert all(isinstance(attack, Attack) and attack.text.endswith(".") and attack.amounts for attack in ATTACKS)
