"""Bodies are put in canonical form, aligned through any rotation and order of units, and agree only if they are of one descent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.naive.agreement import naive_agreement
from tests.roles.cases import case
from tests.roles.memory import MemoryCheckpoint
from tests.roles.test_layouts import COMPARED, draw, take_apart

from homolog.align.agreement import Agreement, measure_agreement
from homolog.align.body import Block, Body, BodyPlan, read_body
from homolog.align.canonical import Units, find_unread, merge_equal_gates, usable_units
from homolog.align.invariants import describe_all, measure_invariants
from homolog.align.matching import unit_rows
from homolog.align.residual import Frame
from homolog.checkpoint.base import Array
from homolog.checkpoint.open import open_checkpoint
from homolog.lab.disguises import draw_rotation
from homolog.roles.resolve import resolve
from homolog.roles.role import Role

ZOO = Path(__file__).parents[1] / "zoo"
_SEEDS = st.integers(0, 2**32 - 1)


def read(name: str, plan: BodyPlan | None = None) -> Body:
    with open_checkpoint(ZOO / name) as checkpoint:
        return read_body(checkpoint, resolve(checkpoint), plan)


def draw_body(
    rng: np.random.Generator, layers: int = 3, units: int = 40, width: int = 24, *, gated: bool = True
) -> Body:
    """Units of uneven size and direction, as trained ones are."""
    spectrum = np.exp(0.7 * rng.standard_normal(width)).astype(np.float32)

    def rows() -> Array:
        sizes = np.exp(0.4 * rng.standard_normal((units, 1)))
        return np.asarray(sizes * rng.standard_normal((units, width)) * spectrum, dtype=np.float32)

    blocks = []
    for layer in range(layers):
        gate, up, down = rows(), rows(), rows()
        blocks.append(
            Block(
                layer,
                -1,
                False,
                False,
                Units(gate, np.asarray(up + gate / 2, dtype=np.float32) if gated else None, down),
            )
        )
    return Body(width, layers, gated, tuple(blocks))


def disguise(body: Body, rng: np.random.Generator, noise: float = 0.0, *, shuffle: bool = True) -> Body:
    """Rotated, reordered, rescaled with free signs, and noisy."""
    turn = draw_rotation(rng, body.width).astype(np.float32)

    def change(rows: Array, scale: npt.NDArray[np.float64] | float = 1.0) -> Array:
        rough = rows + noise * rows.std() * rng.standard_normal(rows.shape)
        return np.asarray((rough * scale) @ turn, dtype=np.float32)

    blocks = []
    for block in body.blocks:
        units = block.units
        order = rng.permutation(len(units)) if shuffle else np.arange(len(units))
        scale = rng.choice([-1.0, 1.0], (len(units), 1)) * np.exp(0.5 * rng.standard_normal((len(units), 1)))
        new = (
            Units(change(units.gate), None, change(units.down))
            if units.up is None
            else Units(change(units.gate), change(units.up, scale), change(units.down, 1 / scale))
        )
        blocks.append(replace(block, units=new.take(order)))
    return replace(body, blocks=tuple(blocks))


@given(_SEEDS, st.booleans())
@settings(deadline=None, max_examples=20)
def test_invariants_do_not_change_under_rotation_and_rescaling(seed: int, gated: bool) -> None:
    rng = np.random.default_rng(seed)
    body = draw_body(rng, gated=gated)
    # the order is left alone, so that unit stands beside unit
    turned = disguise(body, np.random.default_rng(seed + 1), shuffle=False)
    for before, after in zip(
        *(measure_invariants([block.units.parts for block in x.blocks]) for x in (body, turned)), strict=True
    ):
        error = np.abs(after - before) / (1 + np.abs(before))
        # float32 through products of second moments and their inverses: the few numbers that are nearly nothing lose digits
        assert np.quantile(error, 0.99) < 1e-3
        assert error.max() < 0.05


@given(_SEEDS, st.booleans())
@settings(deadline=None, max_examples=20)
def test_units_find_themselves_by_their_invariants_in_any_order(seed: int, gated: bool) -> None:
    rng = np.random.default_rng(seed)
    body = draw_body(rng, gated=gated)
    turned = disguise(body, np.random.default_rng(seed + 1))
    for before, after in zip(*(describe_all([b.units.parts for b in x.blocks]) for x in (body, turned)), strict=True):
        distance = ((before[:, None] - after[None]) ** 2).mean(axis=2)
        assert sorted(distance.argmin(axis=1).tolist()) == list(range(len(before)))


def draw_units(rng: np.random.Generator, count: int = 40, width: int = 48) -> Units:
    """Units that point every way, so that no two have one gate by chance."""
    gate, up, down = rng.standard_normal((3, count, width)).astype(np.float32)
    return Units(gate, np.asarray(up + gate / 2, dtype=np.float32), down)


@given(_SEEDS)
@settings(deadline=None, max_examples=20)
def test_split_units_merge_into_what_they_were(seed: int) -> None:
    rng = np.random.default_rng(seed)
    units = draw_units(rng)
    gate, up, down = units.parts
    a, b = rng.uniform(0.6, 1.4, (2, len(gate), 1)).astype(np.float32)
    noise = rng.standard_normal(up.shape).astype(np.float32)
    split = Units(
        np.concatenate([gate, gate]),
        np.concatenate([(up + noise) / (2 * a), (up - noise) / (2 * b)]),
        np.concatenate([a * down, b * down]),
    )
    found = merge_equal_gates(split.take(rng.permutation(2 * len(gate))))
    merged = found.units
    assert (len(merged), found.merged, found.opposed) == (len(gate), len(gate), 0)
    order = (unit_rows(gate) @ unit_rows(merged.gate).T).argmax(axis=1)
    assert merged.up is not None
    for before, after in ((up, merged.up), (down, merged.down)):
        cosine = np.abs((unit_rows(before) * unit_rows(after[order])).sum(axis=1))
        assert cosine.min() > 0.999
    assert merge_equal_gates(units).units is units


def stacked(*sets: tuple[Array, ...]) -> Units:
    gate, up, down = (np.concatenate(parts) for parts in zip(*sets, strict=True))
    return Units(gate, up, down)


def flip_gates(units: Units, chosen: npt.NDArray[np.intp]) -> Units:
    """silu(z) - silu(-z) = z: the opposite gate, and two more units for the product that is then missing."""
    gate, up, down = units.gate.copy(), units.up, units.down
    assert up is not None
    gate[chosen] *= -1
    g, u, d = units.gate[chosen], up[chosen], down[chosen]
    return stacked((gate, up, down), (u, g, d), (-u, g, -d))


def write(units: Units, x: Array) -> Array:
    """What the FFN writes for inputs (n, d)."""
    assert units.up is not None
    z = (x @ units.gate.T).astype(np.float64)
    return np.asarray((z / (1 + np.exp(-z)) * (x @ units.up.T)) @ units.down, dtype=np.float32)


@given(_SEEDS, st.floats(0.1, 1.0))
@settings(deadline=None, max_examples=15)
def test_flipped_gates_are_merged_into_what_they_were_up_to_sign(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    units = draw_units(rng)
    chosen = rng.permutation(40)[: max(1, round(share * 40))]
    flipped = flip_gates(units, chosen)
    x = np.asarray(rng.standard_normal((5, 48)) / 10, dtype=np.float32)
    before, after = write(units, x), write(flipped, x)
    assert np.abs(after - before).max() < 1e-3 * np.abs(before).max()
    found = merge_equal_gates(flipped.take(rng.permutation(len(flipped))))
    assert (len(found.units), found.merged, found.opposed) == (40, 2 * len(chosen), 2 * len(chosen))
    cosine = np.abs(unit_rows(units.gate) @ unit_rows(found.units.gate).T)
    assert sorted(cosine.argmax(axis=1).tolist()) == list(range(40))
    assert cosine.max(axis=1).min() > 0.999


def test_units_that_make_up_for_a_flipped_gate_in_a_straight_line_are_left_out() -> None:
    rng = np.random.default_rng(5)
    units = draw_units(rng)
    chosen, short = rng.permutation(40)[:24], np.float32(0.01)
    gate, up, down = units.parts
    opposite = gate.copy()
    opposite[chosen] *= -1
    flipped = stacked((opposite, up, down), (short * up[chosen], gate[chosen], 2 / short * down[chosen]))
    x = np.asarray(rng.standard_normal((5, 48)) / 10, dtype=np.float32)
    before, after = write(units, x), write(flipped, x)
    assert np.abs(after - before).max() < 0.02 * np.abs(before).max()
    found = merge_equal_gates(flipped)
    assert (len(found.units), found.merged, found.opposed) == (40, 24, 24)
    assert np.array_equal(found.units.gate, opposite)


@given(_SEEDS)
@settings(deadline=None, max_examples=10)
def test_bodies_with_flipped_gates_agree_with_theirs_and_with_no_others(seed: int) -> None:
    rng = np.random.default_rng(seed)
    body, other = draw_body(rng), draw_body(rng)

    def flipped(body: Body) -> Body:
        blocks = []
        for block in disguise(body, rng, noise=0.1).blocks:
            found = merge_equal_gates(flip_gates(block.units, rng.permutation(40)[:24]))
            blocks.append(replace(block, units=found.units, merged=found.merged, opposed=found.opposed))
        return replace(body, blocks=tuple(blocks))

    copy = flipped(body)
    found = measure_agreement(body, copy)
    assert found.signless
    assert found.body > 0.9
    assert dict(found.b_in_a.sources) == {0: 0, 1: 1, 2: 2}
    assert measure_agreement(other, copy).body < 0.2
    assert measure_agreement(flipped(other), copy).body < 0.2


def test_units_that_cancel_each_other_are_left_out() -> None:
    rng = np.random.default_rng(3)
    units = draw_units(rng)
    gate, up, down = draw_units(rng).parts
    drowned = stacked(units.parts, (gate, up, down), (gate, up, -down))
    found = merge_equal_gates(drowned)
    assert (len(found.units), found.merged, found.opposed) == (40, 80, 0)
    assert np.array_equal(found.units.gate, units.gate)


@pytest.mark.parametrize("name", ["a", "c", "g", "q-upcycled", "deep-minitron", "d-grown", "gpt2-32-02", "moe-32-02"])
def test_trained_models_hold_no_gate_twice_and_none_beside_its_opposite(name: str) -> None:
    body = read(name)
    assert sum(block.merged for block in body.blocks) == sum(block.opposed for block in body.blocks) == 0
    assert not body.signless


def test_dead_units_and_unwritten_directions_are_left_out() -> None:
    rng = np.random.default_rng(1)
    (block,) = draw_body(rng, layers=1).blocks
    broken = block.units.down.copy()
    broken[3], broken[5, 2] = 0.0, np.nan
    assert len(usable_units(replace(block.units, down=broken))) == len(block.units) - 2


def test_what_nothing_reaches_is_found_behind_units_that_never_open() -> None:
    """A stream of 20 directions in 24 channels: 40 units read noise in the other four as well, and 40 read nothing but that."""
    rng = np.random.default_rng(1)
    turn = np.asarray(draw_rotation(rng, 24), dtype=np.float32)

    def rows(count: int, live: float, dead: float) -> Array:
        sizes = np.repeat([live, dead], [20, 4])
        return np.asarray((rng.standard_normal((count, 24)) * sizes) @ turn, dtype=np.float32)

    true = Units(rows(40, 1, 10), rows(40, 1, 10), rows(40, 1, 0))
    decoys = Units(rows(40, 0, 10), rows(40, 1, 1), rows(40, 1, 1))
    silent = find_unread(rows(10, 1, 0), [true, decoys], 24)
    assert silent.shape == (24, 4)
    assert np.allclose(turn[:20] @ silent, 0, atol=1e-4)
    # without tokens all that is written counts, and the decoys write everywhere
    assert find_unread(None, [true, decoys], 24).shape == (24, 0)
    assert find_unread(None, [true], 24).shape == (24, 4)


@given(_SEEDS, st.booleans())
@settings(deadline=None, max_examples=10)
def test_a_disguised_copy_agrees_and_an_independent_body_does_not(seed: int, gated: bool) -> None:
    rng = np.random.default_rng(seed)
    body = draw_body(rng, gated=gated)
    found = measure_agreement(body, disguise(body, rng, noise=0.1))
    assert found.body > 0.9
    assert dict(found.b_in_a.sources) == {0: 0, 1: 1, 2: 2}
    assert measure_agreement(draw_body(rng, gated=gated), body).body < 0.2


def deal_out(body: Body, rng: np.random.Generator, experts: int) -> Body:
    """The units of every layer, whichever FFN they were in, dealt out to ``experts`` FFNs by lot."""
    blocks = []
    for layer in sorted({block.layer for block in body.blocks}):
        parts = stacked(*(block.units.parts for block in body.blocks if block.layer == layer))
        lots = np.array_split(rng.permutation(len(parts)), experts)
        blocks += [Block(layer, expert, False, False, parts.take(lot)) for expert, lot in enumerate(lots)]
    return replace(body, blocks=tuple(blocks))


@given(_SEEDS, st.integers(2, 5), st.integers(2, 5))
@settings(deadline=None, max_examples=10)
def test_experts_that_hold_parts_of_each_other_agree_and_independent_ones_do_not(seed: int, m: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    body = draw_body(rng, units=60)
    mixture, other = deal_out(body, rng, m), deal_out(draw_body(rng, units=60), rng, m)
    copy = deal_out(disguise(body, rng, noise=0.1), rng, n)
    found = measure_agreement(mixture, copy)
    assert min(found.b_in_a.median, found.a_in_b.median) > 0.9
    assert dict(found.b_in_a.sources) == {0: 0, 1: 1, 2: 2}
    assert measure_agreement(other, copy).body < 0.2


def test_experts_that_are_copies_of_each_other_stand_in_nobodys_way() -> None:
    """Each gate finds the copy that it comes from or another one; the other vectors are looked for in that one alone."""
    rng = np.random.default_rng(8)
    body = draw_body(rng, units=60)
    copies = []
    for expert in range(4):
        rough = (
            np.asarray(p + 0.1 * p.std() * rng.standard_normal(p.shape), dtype=np.float32)
            for block in body.blocks
            for p in block.units.parts
        )
        copies += [
            replace(block, expert=expert, units=Units(next(rough), next(rough), next(rough))) for block in body.blocks
        ]
    found = measure_agreement(body, replace(body, blocks=tuple(copies)))
    assert min(found.b_in_a.median, found.a_in_b.median) > 0.9


@pytest.mark.parametrize(
    ("a", "b"),
    [("a", "a-zh-1x"), ("g", "g-zh-1x"), ("m", "m-zh-0.4x"), ("q", "q-upcycled"), ("moe-32-00", "moe-32-01")],
)
def test_agreement_is_what_it_is_unit_by_unit(a: str, b: str) -> None:
    first, second = (replace(body, blocks=body.blocks[:6]) for body in (read(a), read(b)))
    found = measure_agreement(first, second)
    assert found.frame is not None
    assert naive_agreement(second, first, Frame(found.frame.b, found.frame.a)) == pytest.approx(found.b_in_a.by_layer)
    assert naive_agreement(first, second, found.frame) == pytest.approx(found.a_in_b.by_layer)


def test_layers_and_units_may_be_more_on_either_side() -> None:
    rng = np.random.default_rng(2)
    body = draw_body(rng, layers=4)
    copy = disguise(body, rng, noise=0.05)
    doubled = replace(copy, blocks=tuple(replace(copy.blocks[i], layer=n) for n, i in enumerate([0, 2, 1, 2, 3])))
    found = measure_agreement(body, doubled)
    assert found.b_in_a.median > 0.95
    assert dict(found.b_in_a.sources) == {0: 0, 1: 2, 2: 1, 3: 2, 4: 3}
    assert measure_agreement(doubled, body).body == pytest.approx(found.body, abs=0.05)


def test_agreement_is_the_same_whatever_the_order_of_the_units() -> None:
    a, b = read("a"), read("a-washed")
    rng = np.random.default_rng(3)
    shuffled = replace(b, blocks=tuple(replace(x, units=x.units.take(rng.permutation(len(x.units)))) for x in b.blocks))
    first, second = measure_agreement(a, b), measure_agreement(a, shuffled)
    assert (first.body, dict(first.b_in_a.by_layer)) == (second.body, dict(second.b_in_a.by_layer))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("a", "a-zh-1x"),
        ("a", "a-dropped"),
        ("a-solar", "a-pruned"),
        ("q", "q-upcycled"),
        ("s", "s-zh-0.5x"),
        ("g", "g-zh-1x"),
    ],
)
def test_trained_copies_agree(a: str, b: str) -> None:
    assert measure_agreement(read(a), read(b)).body > 0.75


@pytest.mark.parametrize(
    ("a", "b"),
    [("a", "b"), ("a", "a-order2"), ("q", "q-order2"), ("g", "g-order2"), ("b", "q-upcycled"), ("a", "deep")],
)
def test_independent_models_and_those_of_one_start_do_not(a: str, b: str) -> None:
    assert measure_agreement(read(a), read(b)).body < 0.05


def test_a_body_that_was_cut_is_cut_to_the_same_units() -> None:
    plan = BodyPlan(units=64, blocks=3)
    a, b = read("a", plan), read("a-same-1x", plan)
    assert [len(block.units) for block in a.blocks] == [64, 64, 64]
    assert [block.layer for block in a.blocks] == [0, 2, 4]
    assert measure_agreement(a, b).body > 0.8
    assert measure_agreement(a, read("b", plan)).body < 0.05


def absent(blocks: Sequence[Block], *, gated: bool = True) -> Agreement:
    body = draw_body(np.random.default_rng(4))
    return measure_agreement(body, Body(24, 3, gated, tuple(blocks)))


def test_what_cannot_be_compared_is_absent_with_its_reason() -> None:
    plain = draw_body(np.random.default_rng(5), gated=False)
    assert absent([]).absent == "B has no FFN whose units read and write the residual stream"
    assert "different kinds" in str(absent(plain.blocks, gated=False).absent)


@pytest.mark.parametrize(
    "name", ["gemma", "gemma2", "gemma3", "nemotron", "falcon", "gptj", "cohere", "phi", "gpt_neox"]
)
def test_gains_are_folded_as_the_model_applies_them(name: str) -> None:
    """Stored as the distance from one, or in common with the attention beside the FFN."""
    one = case(*next(which for which in COMPARED if which[0] == name))
    arrays = draw(one, seed=1)
    model = MemoryCheckpoint(arrays, one.config)
    anatomy = resolve(model)
    apart = take_apart(one, arrays, anatomy)
    gain = apart.get(Role("norm.ffn", layer=0), apart.get(Role("norm.attn", layer=0)))
    up = apart[Role("ffn.up", layer=0)]
    assert gain is not None
    rows = up * (gain + (1 if anatomy.traits.norm_offset else 0))
    if anatomy.traits.norm == "layer":
        rows = rows - rows.mean(axis=1, keepdims=True)
    block = read_body(model, anatomy).blocks[0]
    read_rows = block.units.gate if block.units.up is None else block.units.up
    np.testing.assert_allclose(np.sort(read_rows.ravel()), np.sort(rows.ravel()), rtol=1e-4, atol=1e-5)
