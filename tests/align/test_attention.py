"""Heads of copies ask alike in a frame that was fitted to what they read and write; those of independent models do not."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from homolog.align.attention import HeadAgreement, Heads, measure_heads, merge_equal_heads, read_heads
from homolog.align.heads import Forms
from homolog.align.residual import Frame, fit_embedding_frame, identity_frame
from homolog.checkpoint.base import Array
from homolog.checkpoint.open import open_checkpoint
from homolog.lab.disguises import draw_rotation
from homolog.lab.operations import apply_operation
from homolog.lab.store import load_model, save_weights
from homolog.roles.read import read_units
from homolog.roles.resolve import resolve
from homolog.roles.role import Role, Space

ZOO = Path(__file__).parents[1] / "zoo"

HIDDEN: tuple[Mapping[str, object], ...] = (
    {"kind": "permute_heads", "seed": 1},
    {"kind": "mix_values", "seed": 2},
    {"kind": "rescale", "seed": 3},
    {"kind": "rotate_residual", "seed": 4},
)


def open_heads(folder: Path) -> tuple[Heads, Array]:
    with open_checkpoint(folder) as checkpoint:
        anatomy = resolve(checkpoint)
        tokens = read_units(checkpoint, anatomy.views[Role("embed.token")], Space.VOCAB)
        return read_heads(checkpoint, anatomy), tokens


@cache
def read(name: str) -> tuple[Heads, Array]:
    return open_heads(ZOO / name)


def look(a: tuple[Heads, Array], b: tuple[Heads, Array]) -> HeadAgreement:
    frame = fit_embedding_frame(a[1], b[1])
    assert frame is not None
    return measure_heads(a[0], b[0], [frame])


def hide(name: str, folder: Path, steps: tuple[Mapping[str, object], ...] = HIDDEN) -> tuple[Heads, Array]:
    shape, weights = load_model(ZOO / name)
    for step in steps:
        outcome = apply_operation(shape, weights, dict(step))
        shape, weights = outcome.shape, outcome.weights
    save_weights(folder, shape, weights)
    shutil.copy(ZOO / name / "tokenizer.json", folder)
    return open_heads(folder)


@pytest.mark.parametrize("name", ["a-zh-1x", "a-washed", "q-zh-1x", "q-upcycled", "s-zh-0.5x", "k-zh-0.4x"])
def test_heads_of_a_hidden_copy_ask_alike_and_those_of_a_stranger_do_not(name: str, tmp_path: Path) -> None:
    hidden = hide(name, tmp_path / "hidden")
    base, stranger = name[0], "b" if name[0] != "b" else "a"
    assert look(read(base), hidden).value > 0.45
    assert look(hidden, read(base)).value > 0.45
    assert look(read(stranger), hidden).value < 0.11


def test_layers_are_traced(tmp_path: Path) -> None:
    found = look(read("a"), hide("a-solar", tmp_path / "hidden"))
    assert dict(found.b_in_a.sources) == {0: 0, 1: 1, 2: 2, 3: 3, 4: 1, 5: 2, 6: 3, 7: 4}
    assert min(found.b_in_a.by_layer.values()) > 0.6


@pytest.mark.parametrize(
    ("a", "b"),
    [("a", "a-order2"), ("a", "a-other-rate"), ("a-order2", "a-other-text"), ("b", "b-order2"), ("q", "q-order2")],
)
def test_runs_from_one_start_do_not_ask_alike(a: str, b: str) -> None:
    assert look(read(a), read(b)).value < 0.11


@pytest.mark.parametrize(
    ("a", "b"),
    [("a", "b"), ("a", "q"), ("gpt2-48-00", "gpt2-48-01"), ("llama-64-00", "llama-64-01"), ("b", "gpt2-48-02")],
)
def test_independent_models_do_not_ask_alike_even_where_the_frame_was_made_to_fit(a: str, b: str) -> None:
    found = look(read(a), read(b))
    assert found.value < 0.11
    assert found.fit > 0.12  # the search does find something in what heads read and write: hence a witness


def test_nothing_depends_on_the_order_of_heads_or_the_basis_of_values(tmp_path: Path) -> None:
    plain = look(read("a"), read("a-washed"))
    moved = look(read("a"), hide("a-washed", tmp_path / "hidden", HIDDEN[:3]))
    assert moved.value == pytest.approx(plain.value, abs=1e-3)
    assert moved.fit == pytest.approx(plain.fit, abs=1e-3)


def test_two_runs_give_the_same_numbers() -> None:
    first, second = (look(open_heads(ZOO / "a"), open_heads(ZOO / "a-zh-1x")) for _ in range(2))
    assert first.b_in_a == second.b_in_a
    assert first.frame is not None
    assert second.frame is not None
    assert np.array_equal(first.frame.a, second.frame.a)


def test_a_wider_stream_is_joined_to_a_narrower_one() -> None:
    rng = np.random.default_rng(5)
    heads = read("a")[0]
    basis = np.asarray(draw_rotation(rng, 96)[:64], dtype=np.float32)
    wide = replace(heads, basis=np.ascontiguousarray(basis.T))
    start = Frame(np.eye(64, dtype=np.float32), wide.basis)
    assert measure_heads(heads, wide, [start]).value == pytest.approx(1.0, abs=1e-3)


def test_a_bad_start_beside_a_good_one_does_no_harm() -> None:
    rng = np.random.default_rng(6)
    a, b = read("a")[0], read("a-zh-1x")[0]
    bad = Frame(np.asarray(draw_rotation(rng, 64), dtype=np.float32), np.eye(64, dtype=np.float32))
    good = measure_heads(a, b, [identity_frame(64)])
    assert measure_heads(a, b, [bad, identity_frame(64)]).value == good.value


def test_what_cannot_be_compared_has_a_reason() -> None:
    heads = read("a")[0]
    assert measure_heads(heads, heads, []).absent is not None
    missing = Heads.missing("no layer has attention that is known")
    assert measure_heads(heads, missing, [identity_frame(64)]).absent == "B: no layer has attention that is known"


def forms(rng: np.random.Generator, heads: int, rank: int = 6, width: int = 24) -> Forms:
    def rows() -> Array:
        found = [draw_rotation(rng, width)[:rank] for _ in range(heads)]
        return np.asarray(np.stack(found), dtype=np.float32)

    size = -np.sort(-np.exp(rng.standard_normal((heads, rank))), axis=1)
    return Forms(rows(), np.asarray(size, dtype=np.float32), rows())


def full(form: Forms, head: int) -> Array:
    return np.asarray((form.right[head].T * form.size[head]) @ form.left[head])


def split(ov: Forms, head: int, rng: np.random.Generator) -> Forms:
    """The form of one head as the sum of two: a part of each direction here, the rest there."""
    share = np.asarray(rng.uniform(-1, 2, ov.size.shape[1]), dtype=np.float32)
    size, left, right = (np.concatenate([part, part[head : head + 1]]) for part in (ov.size, ov.left, ov.right))
    size[head], size[-1] = ov.size[head] * np.abs(share), ov.size[head] * np.abs(1 - share)
    right[head], right[-1] = (ov.right[head] * np.sign(part)[:, None] for part in (share, 1 - share))
    return Forms(left, size, right)


def test_a_head_that_was_split_comes_back() -> None:
    rng = np.random.default_rng(7)
    ov, qk = forms(rng, 4), forms(rng, 4)
    doubled = Forms(*(np.concatenate([part, part[1:2]]) for part in (qk.left, qk.size, qk.right)))
    merged, asked = merge_equal_heads(split(ov, 1, rng), doubled)
    assert len(merged.size) == len(asked.size) == 4
    for head in range(4):
        np.testing.assert_allclose(full(merged, head), full(ov, head), atol=1e-4)


def test_heads_that_cancel_go_and_others_are_left_alone() -> None:
    rng = np.random.default_rng(8)
    ov, qk = forms(rng, 3), forms(rng, 3)
    decoy, asks = forms(rng, 1), forms(rng, 1)
    pair = [Forms(decoy.left, decoy.size, np.float32(sign) * decoy.right) for sign in (1, -1)]
    more = Forms(*(np.concatenate([getattr(x, name) for x in (ov, *pair)]) for name in ("left", "size", "right")))
    asked = Forms(*(np.concatenate([getattr(x, name) for x in (qk, asks, asks)]) for name in ("left", "size", "right")))
    merged, left = merge_equal_heads(more, asked)
    assert len(merged.size) == len(left.size) == 3
    same_ov, same_qk = merge_equal_heads(ov, qk)
    assert same_ov is ov
    assert same_qk is qk
