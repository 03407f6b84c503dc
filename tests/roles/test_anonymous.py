"""Checkpoints whose names were replaced: roles from shapes and values, each right or left open, and no verdict that goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks.anonymous import (
    INDEPENDENT,
    RELATED,
    SAME_START,
    SHAPES,
    ZOO,
    stranger,
    strip_names,
    tally_roles,
    verdict,
)
from tests.checkpoint.writers import AnyArray, encode_safetensors
from tests.compare.disguise import load, save
from tests.compare.test_disguises import TREATMENTS

from homolog.checkpoint.base import Array
from homolog.checkpoint.open import open_checkpoint
from homolog.pipeline import compare
from homolog.roles.anonymous.feed_forward import LEAD, gate_lead
from homolog.roles.anonymous.infer import INFERRED
from homolog.roles.anonymous.skeleton import find_skeleton
from homolog.roles.anonymous.statistics import head_angles, kinship, sign_score, swap_margins, tie_lead
from homolog.roles.resolve import resolve

DRAWS = 400


def normal(rng: np.random.Generator, *shape: int) -> Array:
    return np.asarray(rng.standard_normal(shape), dtype=np.float32)


LEAST = {
    "a": 1.0,
    "b": 1.0,
    "c": 1.0,
    "deep": 0.75,
    "g": 0.5,
    "k": 0.8,
    "q": 0.75,
    "deep-minitron": 0.75,
    "gpt2-48-00": 0.5,
}
"""Share of the tensors whose role is found, at least; left open are biases, norms of heads, and queries beside as many keys."""


@pytest.mark.parametrize("model", SHAPES)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_role_is_right_or_left_open(tmp_path: Path, model: str, seed: int) -> None:
    names = strip_names(ZOO / model, tmp_path, seed, config=bool(seed))
    tally = tally_roles(ZOO / model, tmp_path, names)
    assert tally.wrong == 0
    assert tally.right >= LEAST.get(model, 0.0) * (tally.right + tally.left_open)


@pytest.mark.parametrize("model", SHAPES)
def test_a_nameless_copy_meets_its_original_and_a_stranger(model: str) -> None:
    assert verdict(model, model, 5, sides="other", config=False)[0] in ("related", "inconclusive")
    assert verdict(stranger(model), model, 6, sides="other", config=False)[0] in ("independent", "inconclusive")


def test_the_result_says_that_roles_were_inferred_and_how_sure_that_is(tmp_path: Path) -> None:
    strip_names(ZOO / "a", tmp_path, 3, config=True)
    with open_checkpoint(tmp_path) as checkpoint:
        anatomy = resolve(checkpoint)
    assert anatomy.architecture == INFERRED
    assert anatomy.reason is None
    assert "inferred from shapes and values" in anatomy.notes[0]
    assert "standard deviations" in anatomy.notes[0]
    assert any("the order of the layers is not known" in note for note in anatomy.notes)
    assert set(anatomy.unused) | {view.tensor for view in anatomy.views.values()} == set(checkpoint.tensors)


def test_names_and_file_order_change_nothing_but_names(tmp_path: Path) -> None:
    found = []
    for seed in (0, 1):
        names = strip_names(ZOO / "b", tmp_path / str(seed), seed, config=False)
        back = {new: old for old, new in names.items()}
        with open_checkpoint(tmp_path / str(seed)) as checkpoint:
            views = resolve(checkpoint).views
        found.append({(role.kind, back[view.tensor]) for role, view in views.items()})
    assert found[0] == found[1]


def test_a_file_that_was_written_layer_by_layer_keeps_their_order(tmp_path: Path) -> None:
    with open_checkpoint(ZOO / "a") as checkpoint:
        arrays = {f"x{place}": checkpoint.read_rows(name) for place, name in enumerate(checkpoint.stored_order())}
    (tmp_path / "w.safetensors").write_bytes(encode_safetensors(arrays))
    with open_checkpoint(tmp_path / "w.safetensors") as checkpoint:
        anatomy = resolve(checkpoint)
    assert any("in the order in which the file holds them" in note for note in anatomy.notes)


@pytest.mark.parametrize(("a", "b"), [RELATED[0], RELATED[6], *RELATED[-4:]])
@pytest.mark.parametrize("sides", ["one", "both"])
def test_descent_is_found_or_left_open(a: str, b: str, sides: str) -> None:
    assert verdict(a, b, 7, sides=sides, config=True)[0] in ("related", "partly_related", "inconclusive")


def test_descent_is_found_behind_replaced_names() -> None:
    found = [verdict(a, b, 7, sides="both", config=False)[0] for a, b in RELATED[:4]]
    assert found == ["related"] * 4


@pytest.mark.parametrize(("a", "b"), [*SAME_START[:3], SAME_START[6]])
def test_a_shared_start_is_not_called_descent(a: str, b: str) -> None:
    assert verdict(a, b, 7, sides="other", config=True)[0] in ("shared_initialisation", "inconclusive")


@pytest.mark.parametrize(("a", "b"), INDEPENDENT[::3])
@pytest.mark.parametrize("sides", ["one", "both"])
def test_independent_twins_stay_independent(a: str, b: str, sides: str) -> None:
    assert verdict(a, b, 7, sides=sides, config=False)[0] in ("independent", "inconclusive")


def test_a_copy_under_other_names_is_related(tmp_path: Path) -> None:
    strip_names(ZOO / "b", tmp_path, 11, config=False)
    comparison = compare(ZOO / "b", tmp_path)
    assert comparison.verdict.verdict == "related"
    assert any("inferred" in note for note in comparison.b.notes)


@pytest.mark.parametrize(("model", "said"), [("a", "related"), ("b", "independent")])
@pytest.mark.parametrize(
    "treatment", ["gains folded", "residual rotated", "units permuted, residual rotated", "layers reversed"]
)
def test_a_disguise_beneath_replaced_names(tmp_path: Path, model: str, said: str, treatment: str) -> None:
    change, config = TREATMENTS[treatment]
    changed = change(load(ZOO / model), np.random.default_rng(3))
    save(changed, ZOO / model, tmp_path / "changed", **config)
    (tmp_path / "changed" / "tokenizer_config.json").write_text("{}", "utf-8")
    names = strip_names(tmp_path / "changed", tmp_path / "nameless", 1, config=False)
    assert tally_roles(tmp_path / "changed", tmp_path / "nameless", names).wrong == 0
    assert compare(ZOO / "a", tmp_path / "nameless").verdict.verdict == said


# what the statistics say of models that nobody trained


@pytest.mark.nulls
@pytest.mark.parametrize("tail", ["normal", "heavy", "outliers"])
def test_two_of_one_kind_are_rarely_told_apart(tail: str) -> None:
    """Null: both matrices have fair signs, and norms that go together with those of the downs alike. Standard normal, or narrower."""
    rng = np.random.default_rng(17)
    leads, signs = [], []
    for _ in range(DRAWS):
        common = rng.lognormal(sigma=0.4, size=(96, 1)).astype(np.float32)
        blocks = [normal(rng, 96, 48) for _ in range(3)]
        if tail == "heavy":
            blocks = [np.asarray(rng.standard_t(2.5, block.shape), dtype=np.float32) for block in blocks]
        if tail == "outliers":  # a few channels that all rows share
            for block in blocks:
                block[:, :3] += 6 * rng.choice([-1.0, 1.0], (96, 1))
        one, other, down = (
            block * common * rng.lognormal(sigma=0.2, size=(96, 1)) * rng.choice([-1.0, 1.0], (96, 1))
            for block in blocks
        )
        signs.append(sign_score(one))
        leads.append(gate_lead(signs[-1], sign_score(other), tie_lead(other, one, down)))
    assert abs(np.mean(signs)) < 4 / np.sqrt(DRAWS)
    assert 0.7 < np.std(signs) < 1.2
    assert abs(np.mean(leads)) < 4 / np.sqrt(DRAWS)
    assert 0.6 < np.std(leads) < 1.2
    assert np.mean(np.abs(leads) >= LEAD) <= 0.01


@pytest.mark.nulls
def test_a_bend_and_a_tie_are_seen() -> None:
    rng = np.random.default_rng(18)
    rows = normal(rng, 128, 64) + 0.2 * normal(rng, 1, 64)
    assert sign_score(rows) > 4
    scale = rng.lognormal(sigma=0.4, size=(128, 1)).astype(np.float32)
    up, down, gate = normal(rng, 128, 64) * scale, normal(rng, 128, 64) * scale, normal(rng, 128, 64)
    assert tie_lead(up, gate, down) > LEAD
    assert tie_lead(gate, up, down) == pytest.approx(-tie_lead(up, gate, down))


@pytest.mark.nulls
def test_heads_of_strangers_are_not_alike_and_those_of_kin_are() -> None:
    """Null: rows drawn independently; the score is standard normal. Kin: values and outputs whose dimensions were mixed in one way."""
    rng = np.random.default_rng(21)
    heads, size = 4, 12

    def mixed(turn: Array) -> Array:
        return np.concatenate([part @ normal(rng, size, 48) for part in turn])

    def product(a: Array, b: Array) -> float:
        return float(head_angles(a, size, heads) @ head_angles(b, size, heads))

    draws = [product(normal(rng, heads * size, 48), normal(rng, heads * size, 48)) for _ in range(DRAWS)]
    assert abs(np.mean(draws)) < 4 / np.sqrt(DRAWS)
    assert 0.85 < np.std(draws) < 1.15
    turn = normal(rng, heads, size, size)
    values, outputs = mixed(turn), mixed(turn)
    assert product(values, outputs) > 8
    order = np.concatenate([head * size + rng.permutation(size) for head in range(heads)])
    assert product(values[order], outputs[order]) == pytest.approx(product(values, outputs), rel=1e-3)


def test_margins_are_those_of_the_naive_search() -> None:
    rng = np.random.default_rng(22)
    scores = normal(rng, 4, 6)
    columns = rng.permutation(6)[:4]
    for row, margin in enumerate(swap_margins(scores, columns)):
        losses = [scores[row, columns[row]] - scores[row, free] for free in range(6) if free not in columns]
        for other in range(4):
            if other != row:
                now = scores[row, columns[row]] + scores[other, columns[other]]
                losses.append(now - scores[row, columns[other]] - scores[other, columns[row]])
        assert margin == pytest.approx(min(losses), abs=1e-5)


@pytest.mark.nulls
def test_strangers_are_no_kin() -> None:
    """Null: rows drawn independently. The mean is that of two squared normal scores, one of them one-sided: 1.5."""
    rng = np.random.default_rng(19)
    found = np.array(
        [
            kinship(normal(rng, 96, 48) * rng.lognormal(size=(96, 1)).astype(np.float32), normal(rng, 96, 48))
            for _ in range(DRAWS)
        ]
    )
    assert 1.1 < found.mean() < 2.0
    assert found.max() < 20


def test_kin_are_found_whatever_the_order_of_their_common_units() -> None:
    rng = np.random.default_rng(20)
    scale = rng.lognormal(sigma=0.5, size=(96, 1)).astype(np.float32)
    a, b = normal(rng, 96, 48) * scale, normal(rng, 96, 48) * scale
    order = rng.permutation(96)
    assert kinship(a, b) > 20
    assert kinship(a[order], b[order]) == pytest.approx(kinship(a, b), rel=1e-3)


# what has no roles to infer


def arrays_of(seed: int = 0) -> dict[str, AnyArray]:
    """The shapes of a small model, never trained: no gate is bent."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, AnyArray] = {"e": normal(rng, 96, 32), "u": normal(rng, 96, 32)}
    for layer in range(4):
        arrays |= {f"{layer}{kind}": normal(rng, 32, 32) for kind in "qo"}
        arrays |= {f"{layer}{kind}": normal(rng, 16, 32) for kind in "kv"}
        arrays |= {f"{layer}{kind}": normal(rng, 64, 32) for kind in "gh"} | {f"{layer}d": normal(rng, 32, 64)}
        arrays |= {f"{layer}{kind}": np.ones(32, dtype=np.float32) for kind in "nm"}
    return arrays


@pytest.mark.parametrize("fault", ["none", "nan", "zero", "equal"])
def test_untrained_broken_and_constant_numbers_are_left_open(tmp_path: Path, fault: str) -> None:
    arrays = arrays_of()
    for array in arrays.values():
        if fault == "nan":
            array[...] = np.nan
        if fault in ("zero", "equal"):
            array[...] = fault == "equal"
    path = tmp_path / "w.safetensors"
    path.write_bytes(encode_safetensors(arrays))
    with open_checkpoint(path) as checkpoint:
        assert not isinstance(find_skeleton(checkpoint.tensors), str)
        anatomy = resolve(checkpoint)
    assert anatomy.architecture == "unknown"
    assert anatomy.reason
    assert compare(path, path).verdict.verdict == "inconclusive"


def test_other_shapes_are_not_forced_into_a_transformer(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    shapes = [(10, 7), (7, 5), (5, 3), (64, 3, 3, 3), (12,), ()]
    arrays = {
        f"n{place}": np.asarray(rng.standard_normal(shape), dtype=np.float32) for place, shape in enumerate(shapes)
    }
    (tmp_path / "w.safetensors").write_bytes(encode_safetensors(arrays))
    with open_checkpoint(tmp_path / "w.safetensors") as checkpoint:
        assert resolve(checkpoint).architecture == "unknown"


def test_thousands_of_shapes_are_refused_at_once(tmp_path: Path) -> None:
    arrays = {f"n{place}": np.zeros((1 + place, 8), dtype=np.float16) for place in range(300)}
    (tmp_path / "w.safetensors").write_bytes(encode_safetensors(arrays))
    with open_checkpoint(tmp_path / "w.safetensors") as checkpoint:
        assert "different shapes" in str(resolve(checkpoint).reason)


def test_a_config_that_contradicts_the_shapes_is_not_believed(tmp_path: Path) -> None:
    strip_names(ZOO / "a", tmp_path, 5, config=True)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_attention_heads": 7}), "utf-8")
    with open_checkpoint(tmp_path) as checkpoint:
        assert resolve(checkpoint).dims.heads == 0
