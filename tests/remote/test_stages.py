"""Reading in stages: which layers, when it stops, what is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.remote.conftest import Hub

from homolog import compare, open_checkpoint
from homolog.roles.resolve import resolve
from homolog.roles.role import Anatomy, Dims, Traits
from homolog.sketch.plan import SMALL, count_blocks, plan_stages, spaced_layers, thin_out

ZOO = Path(__file__).parents[1] / "zoo"


def _anatomy(layers: int) -> Anatomy:
    return Anatomy("toy", Dims(layers=layers, width=8, ffn=512, vocab=10), Traits(), {}, {}, ())


def test_layers_are_spaced_from_end_to_end() -> None:
    assert spaced_layers(48, 8) == (0, 7, 13, 20, 27, 34, 40, 47)
    assert spaced_layers(5, 8) == (0, 1, 2, 3, 4)
    assert spaced_layers(9, 1) == (0,)


def test_few_layers_then_all_then_more_units() -> None:
    stages = plan_stages(_anatomy(48), _anatomy(48), SMALL + 1)
    assert [(a.units, a.layers and len(a.layers)) for a, _ in stages] == [(64, 8), (64, None), (256, None)]
    assert all(a == b for a, b in stages)


@pytest.mark.parametrize(
    ("nbytes", "options", "units"),
    [(SMALL, {}, [0]), (SMALL + 1, {"deep": True}, [256]), (SMALL + 1, {"full": True}, [256])],
)
def test_nothing_to_escalate(nbytes: int, options: dict[str, bool], units: list[int]) -> None:
    assert [a.units for a, _ in plan_stages(_anatomy(48), _anatomy(48), nbytes, **options)] == units


def test_models_of_unequal_depth_are_read_in_all_layers_or_at_the_ends() -> None:
    stages = plan_stages(_anatomy(48), _anatomy(40), SMALL + 1)
    assert [a.layers for a, _ in stages] == [None, None]
    a, b = thin_out(stages[0], _anatomy(48), _anatomy(40), 4)
    assert (a.layers, b.layers) == ((0, 1, 46, 47), (0, 1, 38, 39))


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the models of the zoo pass for large ones."""
    for module in ("plan", "reading"):
        monkeypatch.setattr(f"homolog.sketch.{module}.SMALL", 0)
    for module in ("stages", "second_look", "whole"):
        monkeypatch.setattr(f"homolog.examination.{module}.SMALL", 0)
    monkeypatch.setattr("homolog.sketch.plan._FEW_LAYERS", 2)


@pytest.mark.usefixtures("large")
def test_descent_is_decided_by_few_layers_of_remote_models(hub: Hub) -> None:
    remote, local = compare("zoo/a", "zoo/a-zh-1x"), compare(ZOO / "a", ZOO / "a-zh-1x")
    assert remote.verdict.verdict == local.verdict.verdict == "related"
    assert [origin.b for origin in remote.origins] == [0, remote.b.dims["layers"] - 1]
    assert len(local.origins) == local.b.dims["layers"]
    assert remote.layer_matrix == {}
    assert local.layer_matrix
    assert not {"layers_dropped", "layers_added"} & {step.kind for step in remote.operations}
    assert any("2 of " in note and "--deep" in note for note in remote.a.notes)
    assert remote.a.read_bytes < local.a.read_bytes
    assert remote.planned == local.planned
    assert remote.to_json() == compare("zoo/a", "zoo/a-zh-1x").to_json() | {"run": remote.run.to_json()}


@pytest.mark.usefixtures("large")
def test_independence_takes_every_layer(hub: Hub) -> None:
    remote, local = compare("zoo/a", "zoo/b"), compare(ZOO / "a", ZOO / "b")
    assert remote.verdict == local.verdict
    assert remote.verdict.verdict == "independent"
    assert remote.findings == local.findings
    assert len(remote.origins) == remote.b.dims["layers"]


@pytest.mark.usefixtures("large")
def test_deep_reads_all_at_once(hub: Hub) -> None:
    remote, local = compare("zoo/a", "zoo/a-zh-1x", deep=True), compare(ZOO / "a", ZOO / "a-zh-1x", deep=True)
    assert remote.findings == local.findings
    assert remote.a.digest == local.a.digest


@pytest.mark.usefixtures("large")
def test_the_tests_of_all_stages_are_counted() -> None:
    comparison = compare(ZOO / "a", ZOO / "b")
    with open_checkpoint(ZOO / "a") as a, open_checkpoint(ZOO / "b") as b:
        anatomies = (resolve(a), resolve(b))
    stages = plan_stages(*anatomies, SMALL + 1)
    blocks = [count_blocks(anatomies[0], first) * count_blocks(anatomies[1], second) for first, second in stages]
    rows = next(finding for finding in comparison.findings if finding.probe == "ffn.rows")
    assert rows.tests == len(stages) * max(blocks) >= sum(blocks)
    alone = replace(rows, tests=blocks[-1])
    assert rows.log10_p is not None
    assert alone.log10_p is not None
    assert rows.log10_p >= alone.log10_p
