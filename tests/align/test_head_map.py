"""Heads find themselves in another order, basis and mixture; heads of independent models find nobody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.naive.heads import naive_likeness
from tests.roles.cases import case
from tests.roles.memory import MemoryCheckpoint
from tests.roles.test_layouts import draw

from homolog.align.agreement import measure_agreement
from homolog.align.body import read_body
from homolog.align.head_map import HeadMap, assign, compare_heads, match_heads
from homolog.align.heads import Attention, list_attention, read_attention
from homolog.align.residual import Frame, identity_frame
from homolog.checkpoint.base import Array, Checkpoint
from homolog.checkpoint.open import open_checkpoint
from homolog.lab.disguises import draw_rotation
from homolog.roles.resolve import resolve

ZOO = Path(__file__).parents[1] / "zoo"
_SEEDS = st.integers(0, 2**32 - 1)


def draw_heads(
    rng: np.random.Generator, groups: int = 3, per_group: int = 2, size: int = 6, width: int = 40
) -> Attention:
    def rows(count: int) -> Array:
        return rng.standard_normal((count, size, width)).astype(np.float32)

    return Attention(0, rows(groups * per_group), rows(groups), rows(groups), rows(groups * per_group))


def take(attention: Attention, heads: list[int], groups: list[int]) -> Attention:
    return replace(
        attention,
        query=attention.query[heads],
        output=attention.output[heads],
        key=attention.key[groups],
        value=attention.value[groups],
    )


def mix_values(attention: Attention, rng: np.random.Generator) -> Attention:
    """Every value basis mixed, queries and keys scaled against each other."""
    size = attention.value.shape[1]
    value, output = attention.value.copy(), attention.output.copy()
    for group in range(attention.groups):
        mixing = draw_rotation(rng, size) * np.exp(0.3 * rng.standard_normal(size)) @ draw_rotation(rng, size)
        value[group] = mixing @ value[group]
        for head in range(group * attention.per_group, (group + 1) * attention.per_group):
            output[head] = np.linalg.inv(mixing).T @ output[head]
    scale = np.exp(rng.standard_normal((1, attention.key.shape[1], 1))).astype(np.float32)
    return replace(attention, value=value, output=output, key=attention.key * scale, query=attention.query / scale)


@given(_SEEDS, st.integers(1, 3), st.integers(1, 3))
@settings(deadline=None, max_examples=20)
def test_likeness_is_that_of_whole_matrices(seed: int, per_a: int, per_b: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = draw_heads(rng, per_group=per_a), draw_heads(rng, per_group=per_b, size=4)
    b = replace(b, key=a.key[:, :4] + b.key, query=np.resize(a.query, (b.heads, 6, 40))[:, :4] + b.query)
    assert np.abs(compare_heads(a, b) - naive_likeness(a, b)).max() < 1e-5


@given(_SEEDS)
@settings(deadline=None, max_examples=20)
def test_heads_find_themselves_in_any_order_and_basis(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = draw_heads(rng)
    groups = rng.permutation(3)
    heads = np.concatenate([group * 2 + rng.permutation(2) for group in groups])
    turn = draw_rotation(rng, 40).astype(np.float32)
    b = mix_values(take(a, heads.tolist(), groups.tolist()), rng).turn(turn)
    found = match_heads(a, b, Frame(turn, np.eye(40, dtype=np.float32)))
    assert found.head.tolist() == heads.tolist()
    assert found.group.tolist() == groups.tolist()
    assert found.likeness.min() > 0.999
    assert all(value is not None and value.residual < 1e-3 for value in found.values)


@pytest.mark.parametrize("name", ["one query projection", "dense first"])
def test_heads_of_latent_attention_find_themselves_in_another_latent_basis(name: str) -> None:
    one = case("deepseek_v2", name)
    arrays = draw(one, seed=1)
    rng, place = np.random.default_rng(4), "model.layers.0.self_attn"
    heads = int(one.config["num_attention_heads"])
    order = rng.permutation(heads)

    def reorder(rows: Array) -> Array:
        return rows.reshape(heads, -1, rows.shape[1])[order].reshape(rows.shape)

    gain = arrays[f"{place}.kv_a_layernorm.weight"]
    turn = draw_rotation(rng, len(gain)).astype(np.float32)
    down = arrays[f"{place}.kv_a_proj_with_mqa.weight"].copy()
    down[: len(gain)] = turn @ down[: len(gain)]
    queries = next(key for key in (f"{place}.q_proj.weight", f"{place}.q_b_proj.weight") if key in arrays)
    changed = arrays | {
        f"{place}.kv_a_proj_with_mqa.weight": down,
        f"{place}.kv_a_layernorm.weight": np.ones_like(gain),
        f"{place}.kv_b_proj.weight": reorder(np.asarray((arrays[f"{place}.kv_b_proj.weight"] * gain) @ turn.T)),
        f"{place}.o_proj.weight": reorder(arrays[f"{place}.o_proj.weight"].T).T,
        queries: reorder(arrays[queries]),
    }
    a, b = (MemoryCheckpoint(tensors, one.config) for tensors in (arrays, changed))
    sides = [read_attention(model, resolve(model), 0) for model in (a, b)]
    assert isinstance(sides[0], Attention)
    assert isinstance(sides[1], Attention)
    found = match_heads(sides[0], sides[1], None)
    assert found.head.tolist() == order.tolist()
    assert found.likeness.min() > 0.999


def test_heads_that_were_dropped_doubled_or_drawn_anew() -> None:
    rng = np.random.default_rng(1)
    a = draw_heads(rng)
    dropped = match_heads(a, take(a, [0, 1, 4, 5], [0, 2]), None)
    assert dropped.head.tolist() == [0, 1, 4, 5]
    assert dropped.group.tolist() == [0, 2]
    narrowed = match_heads(a, take(a, [1, 2, 4], [0, 1, 2]), None)
    assert narrowed.head.tolist() == [1, 2, 4]
    doubled = match_heads(a, take(a, [0, 1, 0, 1, 2, 3, 4, 5], [0, 0, 1, 2]), None)
    assert doubled.head.tolist() == [0, 1, 0, 1, 2, 3, 4, 5]
    one_by_one = match_heads(a, take(a, [0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 2, 2]), None)
    assert one_by_one.head.tolist() == [0, 1, 2, 3, 4, 5]
    assert one_by_one.group.tolist() == [0, 0, 1, 1, 2, 2]
    new = draw_heads(rng)
    mixed = replace(
        a, query=np.concatenate([a.query[:5], new.query[5:]]), output=np.concatenate([a.output[:5], new.output[5:]])
    )
    assert match_heads(a, mixed, None).head.tolist() == [0, 1, 2, 3, 4, -1]
    assert match_heads(a, new, None).head.tolist() == [-1] * 6


def test_value_dimensions_are_kept_moved_or_mixed() -> None:
    rng = np.random.default_rng(2)
    a = draw_heads(rng, size=8, width=64)

    def order(b: Attention) -> set[str]:
        return {value.order for value in match_heads(a, b, None).values if value is not None}

    noisy = replace(a, value=a.value + 0.7 * rng.standard_normal(a.value.shape).astype(np.float32))
    assert order(a) == order(noisy) == {"kept"}
    moved = [3, 0, 1, 2, 7, 4, 5, 6]
    assert order(replace(a, value=a.value[:, moved], output=a.output[:, moved])) == {"permuted"}
    assert order(mix_values(a, rng)) == {"mixed"}


def test_an_assignment_has_the_largest_total() -> None:
    rng = np.random.default_rng(3)
    for shape in ((4, 4), (3, 5), (5, 3), (1, 1)):
        scores = rng.random(shape).astype(np.float32)
        found = assign(scores)
        known = found[found >= 0]
        assert len(known) == min(shape) == len(set(known.tolist()))
        total = float(scores[np.flatnonzero(found >= 0), known].sum())
        for _ in range(200):
            rows, columns = rng.permutation(shape[0])[: min(shape)], rng.permutation(shape[1])[: min(shape)]
            assert total >= scores[rows, columns].sum() - 1e-5


def body_frame(a: Checkpoint, b: Checkpoint) -> Frame:
    first, second = (read_body(model, resolve(model)) for model in (a, b))
    frame = measure_agreement(first, second).frame
    assert frame is not None
    return frame


def all_maps(a: Checkpoint, b: Checkpoint, frame: Frame) -> list[HeadMap]:
    """Every layer of B against every layer of A."""
    sides = []
    for model in (a, b):
        anatomy = resolve(model)
        sides.append([read_attention(model, anatomy, layer) for layer in list_attention(anatomy)])
    return [
        match_heads(x, y, frame)
        for x in sides[0]
        for y in sides[1]
        if isinstance(x, Attention) and isinstance(y, Attention)
    ]


INDEPENDENT = [
    ("a", "b"),
    ("c", "d"),
    ("k", "q"),
    ("g", "gpt2-48-02"),
    ("m", "s"),
    ("llama-32-00", "llama-64-02"),
    ("llama-32-00", "distilled-32-00"),
]


@pytest.mark.parametrize(("first", "second"), [*INDEPENDENT, ("c", "c-order2")])
def test_heads_of_independent_models_find_nobody(first: str, second: str) -> None:
    with open_checkpoint(ZOO / first) as a, open_checkpoint(ZOO / second) as b:
        frames = [body_frame(a, b)]
        # Models that share their first random numbers are somewhat alike in the frame of their files, and nowhere else.
        if (first, second) in INDEPENDENT and resolve(a).dims.width == resolve(b).dims.width:
            frames.append(identity_frame(resolve(a).dims.width))
        maps = [found for frame in frames for found in all_maps(a, b, frame)]
    assert maps
    assert max(float(found.likeness.max()) for found in maps) < 0.2
    assert all((found.head < 0).all() for found in maps)
