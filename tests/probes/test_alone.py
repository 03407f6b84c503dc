"""One checkpoint against itself: copies are found, independent blocks are left alone, and what cannot be asked has its reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import log10
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.naive import index_statistics as naive
from tests.roles.cases import CASES
from tests.roles.memory import MemoryCheckpoint

from homolog.checkpoint.base import Array
from homolog.checkpoint.open import open_checkpoint
from homolog.examination.alone import generators, inspect, look_at_checkpoint
from homolog.probes.alone.alike import SHARES, count_partners, find_alike
from homolog.probes.alone.basis import ALIKE, Basis, _mix, measure_spread, weigh_basis
from homolog.probes.alone.copies import AS_ONE, Copies, find_copies, plan_tests
from homolog.probes.alone.found import Alone
from homolog.probes.alone.gathered import gather
from homolog.probes.bounds import log10_fixed_points
from homolog.roles.resolve import resolve
from homolog.sketch.sketch import UnitBlock

ZOO = Path(__file__).parents[1] / "zoo"

Parts = tuple[Array, Array, Array]


def drawn(rng: np.random.Generator, units: int = 48, width: int = 40) -> Parts:
    gate, up, down = rng.standard_normal((3, units, width), dtype=np.float32)
    return gate, up, down


def moved(parts: Parts, rng: np.random.Generator, noise: float = 0.5) -> Parts:
    gate, up, down = (part + np.float32(noise) * rng.standard_normal(part.shape, dtype=np.float32) for part in parts)
    return gate, up, down


def renamed(parts: Parts, order: np.ndarray) -> Parts:
    gate, up, down = (part[order] for part in parts)
    return gate, up, down


def block(layer: int, parts: Parts, *, expert: int = -1, digest: bytes | None = None) -> UnitBlock:
    gate, up, down = parts
    return UnitBlock(layer, expert, False, len(up), up, gate, down, None, digest or f"{layer} {expert}".encode(), None)


def copies(blocks: Sequence[UnitBlock], seed: int = 0, **options: str | int | None) -> Copies:
    return find_copies(blocks, generators(seed), **options)  # type: ignore[arg-type]


def test_experts_that_began_as_one_are_a_group_and_fresh_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    first = drawn(rng)
    blocks = [block(0, moved(first, rng), expert=expert) for expert in range(3)]
    blocks += [block(1, drawn(rng), expert=expert) for expert in range(3)]
    found = copies(blocks)
    (group,) = found.groups
    assert (group.kind, group.layers, group.of) == ("experts", (0,), 48)
    assert group.blocks == tuple(f"layer 0 expert {expert}" for expert in range(3))
    assert group.statistic > 40
    assert group.log10_p <= AS_ONE
    assert found.log10_p is not None
    assert found.log10_p <= group.log10_p
    assert found.tests == plan_tests(6) == 2 * 15
    assert not group.identical


@pytest.mark.parametrize(
    ("sources", "kinds"),
    [
        ([0, 1, 2, 1, 2, 3], [("layers", (1, 3)), ("layers", (2, 4))]),
        ([0, 0, 0, 0], [("every_layer", (0, 1, 2, 3))]),
        ([0, 1, 2, 3], []),
    ],
)
def test_layers_that_stand_twice_are_joined(sources: list[int], kinds: list[tuple[str, tuple[int, ...]]]) -> None:
    rng = np.random.default_rng(1)
    known = [drawn(rng) for _ in range(4)]
    found = copies([block(layer, moved(known[source], rng)) for layer, source in enumerate(sources)])
    assert [(group.kind, group.layers) for group in found.groups] == kinds
    said = Alone(found).sentences
    assert len(said) == len({kind for kind, _ in kinds})
    assert all(("TransformerEncoder" in text) == (kinds[0][0] == "every_layer") for text in said)


def test_blocks_that_hold_the_same_numbers_are_said_to() -> None:
    first = drawn(np.random.default_rng(2))
    found = copies(
        [block(0, first, digest=b"same"), block(1, first, digest=b"same"), block(2, drawn(np.random.default_rng(3)))]
    )
    (group,) = found.groups
    assert group.identical
    assert "of these, 2 hold the same numbers in every row that was read" in Alone(found).sentences


def test_a_widened_copy_keeps_its_order() -> None:
    rng = np.random.default_rng(4)
    first, new = drawn(rng), drawn(rng, 16)
    places = np.sort(rng.permutation(64)[:48])
    wide = tuple(np.empty((64, 40), dtype=np.float32) for _ in range(3))
    for whole, old, fresh in zip(wide, moved(first, rng), new, strict=True):
        whole[places], whole[np.setdiff1d(np.arange(64), places)] = old, fresh
    (group,) = copies([block(0, first), block(1, (wide[0], wide[1], wide[2])), block(2, drawn(rng))]).groups
    assert group.layers == (0, 1)


def test_copies_under_other_names_show_no_index() -> None:
    rng = np.random.default_rng(5)
    first = drawn(rng)
    blocks = [
        block(0, moved(first, rng), expert=0),
        block(0, renamed(moved(first, rng), rng.permutation(48)), expert=1),
    ]
    found = copies(blocks)
    assert not found.groups
    shared = find_alike(blocks, [], centred=False, rng=rng)
    assert [group.kind for group in shared.groups] == ["experts"]
    assert shared.groups[0].most > 0.8


def test_the_count_is_that_of_the_naive_twin() -> None:
    rng = np.random.default_rng(6)
    first = drawn(rng, 30, 24)
    second = moved(first, rng, 0.8)
    rows = [
        [
            sum(
                abs(np.dot(x[i], y[j]) / np.linalg.norm(x[i]) / np.linalg.norm(y[j]))
                for x, y in zip(first[:2], second[:2], strict=True)
            )
            for j in range(30)
        ]
        for i in range(30)
    ]
    pairs = naive.mutual_matches(rows)
    equal = sum(i == j for i, j in pairs)
    (group,) = copies([block(0, first), block(1, second)]).groups
    assert (group.statistic, group.of) == (equal, 30)
    assert group.log10_p == pytest.approx(log10_fixed_points(equal, len(pairs), 30) + log10(2))


def worst_pair(rng: np.random.Generator) -> list[UnitBlock]:
    """All that the null allows: the second block holds the very units of the first, and only their names are drawn by lot."""
    first = drawn(rng, 12, 8)
    return [block(0, first), block(1, renamed(first, rng.permutation(12)))]


def fresh_pair(rng: np.random.Generator) -> list[UnitBlock]:
    return [block(layer, drawn(rng, 12, 8)) for layer in range(2)]


def drifted_model(rng: np.random.Generator) -> list[UnitBlock]:
    """Four blocks of the same features, each named on its own."""
    first = drawn(rng, 12, 8)
    return [block(layer, renamed(moved(first, rng, 0.3), rng.permutation(12))) for layer in range(4)]


@pytest.mark.nulls
@pytest.mark.parametrize("draw", [worst_pair, fresh_pair, drifted_model])
def test_the_p_value_is_conservative_over_many_draws(draw: Callable[[np.random.Generator], list[UnitBlock]]) -> None:
    draws = 3000
    found = np.array([copies(draw(np.random.default_rng([7, n])), seed=n).log10_p for n in range(draws)])
    for alpha in (0.5, 0.2, 0.1, 0.05, 0.01, 0.002):
        seen = float((found <= log10(alpha) + 1e-12).mean())
        assert seen <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / draws)
    # the bound is near the truth for units whose names alone are drawn: it does not pass by never rejecting
    if draw is worst_pair:
        assert float((found <= log10(0.2)).mean()) > 0.01


@pytest.mark.parametrize(
    ("blocks", "ordered", "reason"),
    [
        ([], None, "no FFN was found"),
        ([block(0, drawn(np.random.default_rng(0)))], None, "there is one FFN only"),
        ([block(n, drawn(np.random.default_rng(n))) for n in range(2)], "nested by design", "nested by design"),
        (
            [block(n, (np.ones((9, 8), np.float32),) * 3) for n in range(2)],
            None,
            "all units of a block are alike",
        ),
        ([replace(block(n, drawn(np.random.default_rng(n))), flaw="all zero") for n in range(2)], None, "all zero"),
    ],
)
def test_what_cannot_be_asked_is_absent_with_its_reason(
    blocks: list[UnitBlock], ordered: str | None, reason: str
) -> None:
    found = copies(blocks, ordered=ordered)
    assert found.absent is not None
    assert found.absent.startswith(reason)
    assert found.log10_p is None
    assert reason in Alone(found).summary


def test_one_flawed_block_and_blocks_of_any_number_leave_the_others() -> None:
    rng = np.random.default_rng(8)
    first = drawn(rng)
    blocks = [block(0, moved(first, rng), expert=expert) for expert in range(3)]
    blocks += [block(1, drawn(rng, 20), expert=0), replace(block(2, drawn(rng)), flaw="contains NaN or Inf")]
    found = copies(blocks)
    assert [group.layers for group in found.groups] == [(0,)]
    assert found.absent_blocks == {"layer 2": "contains NaN or Inf"}
    assert found.tests == plan_tests(5)


def test_units_in_an_order_of_their_own_on_both_sides_are_left_out() -> None:
    rng = np.random.default_rng(9)
    sizes = np.exp(np.linspace(-2, 2, 48, dtype=np.float32))[:, None]
    gate, up, down = drawn(rng)
    both = [block(n, moved((gate * sizes, up * sizes, down * sizes), rng, 0.01)) for n in range(2)]
    found = copies(both)
    assert not found.groups
    assert found.absent is not None
    assert "may not be exchangeable" in found.absent


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_turned_stream_and_units_renamed_together_change_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    known = [drawn(rng, 24, 16) for _ in range(2)]
    parts = [moved(known[source], rng, 0.2) for source in (0, 1, 0)]
    order, (turn, _) = rng.permutation(24), np.linalg.qr(rng.standard_normal((16, 16)))
    other = [renamed(tuple(np.asarray(part @ turn, dtype=np.float32) for part in each), order) for each in parts]  # type: ignore[arg-type]
    before, after = (copies([block(n, each) for n, each in enumerate(side)]) for side in (parts, other))
    assert [group.blocks for group in before.groups] == [group.blocks for group in after.groups]
    assert before.groups[0].statistic == after.groups[0].statistic


@pytest.mark.parametrize("gated", [True, False])
def test_strangers_share_hardly_a_unit_and_half_a_copy_is_seen(gated: bool) -> None:
    rng = np.random.default_rng(10)
    first, second = drawn(rng, 64), drawn(rng, 64)
    half = tuple(np.concatenate([old[::2], new[::2]]) for old, new in zip(moved(first, rng), second, strict=True))
    blocks = [block(0, first), block(1, second), block(2, renamed((half[0], half[1], half[2]), rng.permutation(64)))]
    if not gated:
        blocks = [replace(one, gate=None) for one in blocks]
    found = find_alike(blocks[:2], [], centred=False, rng=rng)
    assert found.groups == ()
    assert found.most is not None
    assert found.most < SHARES["gated"] / 2
    (group,) = find_alike(blocks, [], centred=False, rng=rng).groups
    assert set(group.blocks) >= {"layer 0", "layer 2"}


def test_partners_are_those_of_the_naive_twin() -> None:
    rng = np.random.default_rng(11)
    x = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in drawn(rng, 20, 12)]
    y = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in moved((x[0], x[1], x[2]), rng, 0.25)]
    expected = 0
    for i in range(20):
        partners = set()
        for number in range(3):
            sign = abs if number else (lambda value: value)
            j = max(range(20), key=lambda j, n=number, s=sign: s(float(x[n][i] @ y[n][j])))  # type: ignore[misc]
            back = max(range(20), key=lambda k, n=number, s=sign, j=j: s(float(x[n][k] @ y[n][j])))  # type: ignore[misc]
            partners.add(j if back == i else -1)
        expected += len(partners) == 1 and -1 not in partners
    assert count_partners(x, y) == (expected, 20)
    assert 0 < expected < 20


def test_units_that_were_read_in_part_have_no_partners() -> None:
    rng = np.random.default_rng(12)
    blocks = [replace(block(n, drawn(rng)), down=None) for n in range(2)]
    assert find_alike(blocks, [], centred=False, rng=rng).absent is not None
    small = [block(n, drawn(rng, 8)) for n in range(2)]
    found = find_alike(small, [], centred=False, rng=rng)
    assert found.absent == "the blocks have fewer than 16 units"
    assert find_alike(small[:1], [], centred=False, rng=rng).absent is not None


def test_sets_are_joined_by_their_strongest_pairs() -> None:
    assert list(gather(5, [(0, 2), (2, 4), (0, 4), (1, 3)])) == [([0, 2, 4], [0, 1]), ([1, 3], [3])]
    assert list(gather(3, [])) == []


@pytest.mark.parametrize("width", [1, 2, 15, 16, 64])
def test_the_fast_basis_is_orthonormal(width: int) -> None:
    made = _mix(np.eye(width, dtype=np.float32))
    np.testing.assert_allclose(made @ made.T, np.eye(width), atol=1e-5)


def loud(rng: np.random.Generator, width: int = 64) -> list[Array]:
    """Rows in which a few channels are outliers."""
    loudness = np.exp(rng.standard_normal(width)).astype(np.float32)
    return [rng.standard_normal((200, width), dtype=np.float32) * loudness for _ in range(4)]


def test_a_turned_stream_with_flat_gains_is_warned_of_and_others_are_not() -> None:
    rng = np.random.default_rng(13)
    rows, flat = loud(rng), [np.ones(64, dtype=np.float32)] * 3
    turn = np.linalg.qr(rng.standard_normal((64, 64)))[0].astype(np.float32)
    turned = [part @ turn for part in rows]

    def weigh(gains: list[Array], read: list[Array]) -> Basis:
        return weigh_basis(gains, lambda: read, np.random.default_rng(0))

    assert weigh(flat, turned).warning is not None
    assert weigh(flat, rows).warning is None
    trained = [*flat, 1 + 0.1 * rng.standard_normal(64, dtype=np.float32)]
    assert weigh(trained, turned) == Basis(flat=False)
    assert weigh([], turned).absent is not None
    assert weigh(flat, []).absent is not None
    assert weigh([np.full(64, np.nan, dtype=np.float32)], turned).absent is not None


def test_the_fast_bases_give_what_uniform_ones_give() -> None:
    rng = np.random.default_rng(14)
    rows = loud(rng)

    def variance(parts: list[Array]) -> float:
        squares = [(part**2).mean(axis=0) for part in parts]
        return float(np.log(np.mean([square / square.mean() for square in squares], axis=0)).var())

    uniform = []
    for _ in range(40):
        q, r = np.linalg.qr(rng.standard_normal((64, 64)))
        uniform.append(variance([part @ (q * np.sign(np.diag(r))).astype(np.float32) for part in rows]))
    expected = variance(rows) / np.median(uniform)
    assert measure_spread(rows, np.random.default_rng(1)) == pytest.approx(expected, rel=0.25)
    assert expected > 4 * ALIKE


def look(name: str, *, values: bool = False) -> Alone:
    with open_checkpoint(ZOO / name) as checkpoint:
        return look_at_checkpoint(checkpoint, resolve(checkpoint), values=values)


@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("q-upcycled", [("experts", (layer,)) for layer in range(4)]),
        ("a-solar", [("layers", (1, 4)), ("layers", (2, 5)), ("layers", (3, 6))]),
        ("c-solar", [("layers", (1, 4)), ("layers", (2, 5)), ("layers", (3, 6))]),
        ("g-solar", [("layers", (1, 3)), ("layers", (2, 4))]),
    ],
)
def test_trained_models_that_were_made_of_copies(
    name: str, groups: list[tuple[str, tuple[int, ...]]], values: bool
) -> None:
    found = look(name, values=values)
    assert [(group.kind, group.layers) for group in found.copies.groups] == groups
    assert all(group.log10_p < -30 for group in found.copies.groups)
    assert not found.alike.groups
    assert found.basis.warning is None


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "b",
        "c",
        "d",
        "g",
        "k",
        "m",
        "q",
        "s",
        "deep",
        "moe-32-00",
        "moe-32-01",
        "moe-32-02",
        "a-inserted",
        "a-interleaved",
        "c-frozen-core",
        "d-grown",
        "d-upcycled",
        "distilled-32-00",
        "gpt2-32-01",
        "g-pruned",
    ],
)
def test_trained_models_without_copies_say_so(name: str) -> None:
    found = look(name, values=True)
    assert found.sentences == ()
    assert found.summary == f"of the {found.copies.blocks} FFNs that were read no two are shown to have begun as one"
    assert found.copies.log10_p is not None
    assert found.copies.log10_p > -3
    assert found.alike.absent is None or name == "d-upcycled"


def test_experts_that_hold_parts_of_one_ffn_share_units() -> None:
    found = look("q-pangu", values=True)
    assert not found.copies.groups
    assert {group.kind for group in found.alike.groups} == {"experts"}
    assert {group.layers for group in found.alike.groups} == {(layer,) for layer in range(4)}
    assert "on calibrated and not exact evidence" in found.sentences[0]
    assert look("q-pangu").alike.absent == "not asked for: --values compares whole FFNs"


@pytest.mark.parametrize("number", range(0, len(CASES), 7))
@pytest.mark.parametrize("numbers", ["random", "zero", "not a number", "equal"])
def test_no_family_and_no_numbers_break_it(number: int, numbers: str) -> None:
    rng = np.random.default_rng(number)
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in CASES[number].tensors.items()}
    if numbers != "random":
        value = {"zero": 0.0, "not a number": np.nan, "equal": 1.0}[numbers]
        arrays = {name: np.full_like(array, value) for name, array in arrays.items()}
    for values in (False, True):
        found = inspect(MemoryCheckpoint(arrays, CASES[number].config), values=values).alone
        assert found is not None
        assert found["sentences"] == []
        assert (found["copies"]["absent"] is not None) or numbers == "random"
        assert (found["alike"]["absent"] is not None) or values
