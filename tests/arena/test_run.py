"""A run goes on where it stopped, and its files say the same."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

from homolog.arena.cases import Pair, plan_pairs
from homolog.arena.hold import hold_arena
from homolog.arena.methods.base import Method, Model, NotApplicable
from homolog.arena.methods.catalogue import choose_methods
from homolog.arena.run import RESULTS, _making, run_arena
from homolog.arena.zoo import read_zoo
from homolog.errors import UsageError


class Counting:
    """A method that counts how often it is asked, and stops the run when told to."""

    def __init__(self, *, stop_at: int = -1) -> None:
        self.asked, self.stop_at = 0, stop_at

    def __call__(self, a: Model, b: Model) -> float:
        if self.asked == self.stop_at:
            raise KeyboardInterrupt
        self.asked += 1
        if b.anatomy.architecture != a.anatomy.architecture:
            raise NotApplicable("other families")
        return float(self.asked)

    def method(self) -> Method:
        return Method("counting", "none", "nothing", "how often it was asked", self)


@pytest.fixture
def pairs(small_zoo: Path) -> list[Pair]:
    planned = plan_pairs(read_zoo(small_zoo))
    return [*planned[:14], *[pair for pair in planned if pair.operation == "units_permuted"]]


def test_two_processes_give_the_scores_of_one(small_zoo: Path, pairs: list[Pair], tmp_path: Path) -> None:
    zoo, methods = read_zoo(small_zoo), choose_methods(["std-curves", "awm"])
    alone = run_arena(zoo, pairs, methods, tmp_path / "one")
    shared = run_arena(zoo, pairs, methods, tmp_path / "two", jobs=2)
    assert [r.score.value for r in shared] == [r.score.value for r in alone]
    assert [(r.a, r.b, r.method) for r in shared] == [(r.a, r.b, r.method) for r in alone]


def test_a_stopped_run_goes_on_where_it_stopped(small_zoo: Path, pairs: list[Pair], tmp_path: Path) -> None:
    zoo, out = read_zoo(small_zoo), tmp_path / "out"
    stopped = Counting(stop_at=7)
    with pytest.raises(KeyboardInterrupt):
        run_arena(zoo, pairs, [stopped.method()], out)
    assert len((out / RESULTS).read_text().splitlines()) == 7
    with (out / RESULTS).open("a") as file:
        file.write('{"key": "torn')
    rest = Counting()
    results = run_arena(zoo, pairs, [rest.method()], out)
    assert rest.asked == len(pairs) - 7
    assert [(r.a, r.b) for r in results] == [(p.a.name, p.b.name) for p in pairs]
    assert {r.score.reason for r in results if r.score.value is None} == {"other families"}
    again = Counting()
    assert run_arena(zoo, pairs, [again.method()], out) == results
    assert again.asked == 0
    assert all(json.loads(line)["key"] for line in (out / RESULTS).read_text().splitlines())


def test_what_failed_or_was_not_installed_is_tried_again(small_zoo: Path, pairs: list[Pair], tmp_path: Path) -> None:
    def fail(_: Model, __: Model) -> float:
        raise IndexError("out of range")

    zoo = read_zoo(small_zoo)
    failing = Method("counting", "none", "nothing", "none", fail)
    absent = Method("absent", "none", "nothing", "none", fail, missing=lambda: "not installed")
    results = run_arena(zoo, pairs, [failing, absent], tmp_path)
    assert {r.score.reason for r in results} == {"failed: IndexError: out of range", "not installed"}
    counting = Counting()
    run_arena(zoo, pairs, [counting.method()], tmp_path)
    assert counting.asked == len(pairs)


def test_a_model_that_was_made_anew_is_scored_anew(small_zoo: Path, pairs: list[Pair], tmp_path: Path) -> None:
    zoo, first, second = read_zoo(small_zoo), Counting(), Counting()
    run_arena(zoo, pairs, [first.method()], tmp_path)
    changed = {**zoo.records, "b": replace(zoo.records["b"])}
    changed["b"].__dict__["digest"] = "another"
    run_arena(replace(zoo, records=changed), pairs, [second.method()], tmp_path)
    assert second.asked == sum("b" in (*pair.a.sources, *pair.b.sources) for pair in pairs)


def test_a_score_belongs_to_the_code_that_made_its_models(small_zoo: Path) -> None:
    making = {pair.operation: _making(pair) for pair in plan_pairs(read_zoo(small_zoo))}
    always = {"lab/parts.py", "lab/shape.py"}
    assert making["continued_training"] == making["other_seed"] == ()
    assert set(making["untrained"]) == always
    assert set(making["layers_dropped"]) == always | {"lab/operations/depth.py"}
    assert set(making["fully_disguised"]) == always | {"lab/disguises.py", "lab/widening.py"}
    assert set(making["merged_ties"]) == always | {"lab/merges.py"}
    assert all((files("homolog") / part).is_file() for parts in making.values() for part in parts)


def test_a_slow_method_is_asked_about_a_few_pairs_of_every_kind(small_zoo: Path, tmp_path: Path) -> None:
    zoo = read_zoo(small_zoo)
    pairs = plan_pairs(zoo)[:14]
    slow, other = Counting(), Counting()
    methods = [other.method(), replace(slow.method(), name="slow", most=2)]
    results = run_arena(zoo, pairs, methods, tmp_path)
    assert (other.asked, slow.asked) != (0, 0)
    asked = [(r.label, r.operation) for r in results if r.method == "slow"]
    kinds = Counter((pair.label, pair.operation) for pair in pairs)
    assert Counter(asked) == {kind: min(2, count) for kind, count in kinds.items()}
    assert len(results) == 14 + len(asked)


def test_progress_is_told(small_zoo: Path, pairs: list[Pair], tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    run_arena(read_zoo(small_zoo), pairs, [Counting().method()], tmp_path, lambda *step: told.append(step))
    assert [done for _, done, _ in told] == [*range(len(pairs)), len(pairs)]
    assert {total for *_, total in told} == {len(pairs)}


def test_an_output_that_cannot_be_written_is_named(small_zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file/out"):
        run_arena(read_zoo(small_zoo), [], [], tmp_path / "file" / "out")


def test_the_files_of_a_quick_run(small_zoo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    held = hold_arena(small_zoo, out, ["std-curves", "match-weights"], quick=True)
    assert [path.name for path in held.files] == ["scores.csv", "table.md", "arena.html"]
    assert not list(out.glob(".*"))
    with (out / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * sum(held.table.counts.values())
    assert {row["method"] for row in rows} == {"std-curves", "match-weights"}
    assert all(bool(row["value"]) != bool(row["reason"]) for row in rows)
    markdown = (out / "table.md").read_text()
    for words in ("| std-curves |", "| units_permuted_and_residual_rotated |", "3 lineages", "## What fools them"):
        assert words in markdown
    page = (out / "arena.html").read_text()
    assert "homolog arena --zoo" in page
    assert "fully_disguised" in page
    kept = out / RESULTS
    before = kept.read_bytes()
    again = hold_arena(small_zoo, out, ["std-curves", "match-weights"], quick=True)
    assert kept.read_bytes() == before
    assert again.table.summaries == held.table.summaries
