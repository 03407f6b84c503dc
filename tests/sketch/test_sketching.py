"""Profiles that no rotation moves, the choice of token rows, vocabularies, and how much is read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homolog.checkpoint.base import Array
from homolog.errors import MalformedCheckpoint
from homolog.roles.role import Anatomy, Dims, Traits
from homolog.sketch.anchors import choose_anchors
from homolog.sketch.plan import SMALL, plan_reading
from homolog.sketch.profile import unit_profile
from homolog.sketch.sketch import UnitBlock
from homolog.sketch.vocabulary import IMPOSSIBLE_BYTES, Vocabulary, read_vocabulary

_SEEDS = st.integers(0, 2**32 - 1)


def _block(rng: np.random.Generator, *, gated: bool) -> UnitBlock:
    def part(*shape: int) -> Array:
        return rng.standard_normal(shape, dtype=np.float32)

    gate = part(9, 12) if gated else None
    return UnitBlock(0, -1, False, 9, part(9, 12), gate, part(9, 12), part(9, 1), b"")


def _map_parts(block: UnitBlock, matrix: Array) -> UnitBlock:
    gate, up, down = (None if x is None else x @ matrix for x in (block.gate, block.up, block.down))
    assert up is not None
    return replace(block, gate=gate, up=up, down=down)


@given(_SEEDS, st.booleans(), st.booleans())
def test_a_profile_is_untouched_by_any_rotation_or_permutation_of_the_stream(
    seed: int, gated: bool, permuted: bool
) -> None:
    rng = np.random.default_rng(seed)
    block = _block(rng, gated=gated)
    turn = np.eye(12)[rng.permutation(12)] if permuted else np.linalg.qr(rng.standard_normal((12, 12)))[0]
    moved = _map_parts(block, np.asarray(turn, dtype=np.float32))
    plain = unit_profile(block, channels=12, with_down=True)
    np.testing.assert_allclose(unit_profile(moved, channels=12, with_down=True), plain, atol=1e-4)


@given(_SEEDS, st.booleans(), st.booleans())
def test_a_profile_holds_norms_cosines_and_biases(seed: int, gated: bool, with_down: bool) -> None:
    block = _block(np.random.default_rng(seed), gated=gated)
    parts = [part for part in (block.gate, block.up, block.down if with_down else None) if part is not None]
    assert block.bias is not None
    for unit, profile in enumerate(unit_profile(block, channels=7, with_down=with_down)):
        vectors = [part[unit, :7].astype(float) for part in parts]
        lengths = [float(np.linalg.norm(v)) for v in vectors]
        pairs = [(i, j) for i in range(len(parts)) for j in range(i + 1, len(parts))]
        expected = [float(np.log(length)) for length in lengths]
        expected += [float(vectors[i] @ vectors[j]) / lengths[i] / lengths[j] for i, j in pairs]
        np.testing.assert_allclose(profile, [*expected, float(block.bias[unit, 0])], atol=1e-4)


def _vocabulary(tokens: dict[bytes, int], untrained: dict[bytes, str] | None = None) -> Vocabulary:
    return Vocabulary("tokenizer.json", tokens, untrained or {})


def test_tokens_are_joined_by_their_bytes_and_classes_kept_apart() -> None:
    a = _vocabulary(
        {b"x": 0, b"y": 1, b"\xc0": 2, b"\0<unused0>": 3, b"only a": 4}, {b"\xc0": "byte", b"\0<unused0>": "reserved"}
    )
    b = _vocabulary({b"\0<unused0>": 0, b"y": 2, b"x": 1, b"\xc0": 3}, {b"\xc0": "byte", b"\0<unused0>": "reserved"})
    anchors = choose_anchors(a, b, 8, 7)
    assert (anchors.ordinary_a, anchors.ordinary_b) == ((0, 1), (1, 2))
    assert (anchors.untrained_a, anchors.untrained_b) == ((2, 3, 5, 6), (3, 0, 5, 6))
    spare = "a row beyond the tokenizer's last token"
    assert anchors.classes == ("byte", "reserved", spare, spare)


@given(st.permutations(range(20)), st.permutations(range(20)))
def test_joined_rows_are_the_same_token_whatever_the_ids(first: list[int], second: list[int]) -> None:
    a, b = (_vocabulary({b"t%d" % i: ids[i] for i in range(20)}) for ids in (first, second))
    anchors = choose_anchors(a, b, 20, 20)
    assert sorted(anchors.ordinary_a) == list(range(20))
    assert all(first.index(i) == second.index(j) for i, j in zip(anchors.ordinary_a, anchors.ordinary_b, strict=True))


def test_without_a_tokenizer_rows_are_joined_by_position_and_no_token_is_called_never_trained() -> None:
    anchors = choose_anchors(None, _vocabulary({b"x": 0}), 700, 700)
    assert anchors.ordinary_a == anchors.ordinary_b == tuple(range(512))
    assert anchors.untrained_a == ()
    assert anchors.no_untrained == "no tokenizer that homolog reads beside the weights of A"
    assert "differ in height" in str(choose_anchors(None, None, 10, 11).no_ordinary)
    assert choose_anchors(None, None, 0, 11).no_ordinary == "no token embedding"


def _write(folder: Path, tokenizer: object) -> Vocabulary:
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    vocabulary = read_vocabulary(folder)
    assert vocabulary is not None
    return vocabulary


def test_a_byte_level_tokenizer(tmp_path: Path) -> None:
    vocabulary = _write(
        tmp_path,
        {
            "model": {
                "type": "BPE",
                "vocab": {"Ġa": 0, "b": 1, "À": 2, "õ": 3, "ab": 4, "zz": 5, "<unused7>": 6, "é": 7},
                "merges": ["a b", ["Ġ", "a"]],
            },
            "added_tokens": [{"id": 9, "content": "<|reserved_special_token_3|>"}, {"id": 8, "content": "<s>"}],
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}]},
        },
    )
    assert vocabulary.ids[b" a"] == 0
    assert vocabulary.ids[b"\xc0"] == 2
    assert {vocabulary.ids[token]: why for token, why in vocabulary.untrained.items()} == {
        2: "a byte that UTF-8 cannot contain",
        3: "a byte that UTF-8 cannot contain",
        5: "no merge produces it",
        6: "a reserved token",
        9: "a reserved token",
    }


def test_a_sentencepiece_tokenizer_and_wordpiece(tmp_path: Path) -> None:
    vocabulary = _write(
        tmp_path, {"model": {"type": "Unigram", "vocab": [["▁a", -1.0], ["<0xC0>", 0.0], ["<0x41>", 0.0]]}}
    )
    assert vocabulary.ids == {b" a": 0, b"\xc0": 1, b"A": 2}
    assert vocabulary.untrained == {b"\xc0": "a byte that UTF-8 cannot contain"}
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.txt").write_text("[PAD]\n[unused1]\nword\n", encoding="utf-8")
    words = read_vocabulary(tmp_path)
    assert words is not None
    assert len(words) == 3
    assert words.untrained == {b"\0[unused1]": "a reserved token"}
    assert read_vocabulary(None) is None


def test_thirteen_bytes_are_in_no_text() -> None:
    seen = {byte for point in range(0x110000) if not 0xD800 <= point < 0xE000 for byte in chr(point).encode()}
    assert frozenset(range(256)) - seen == IMPOSSIBLE_BYTES
    assert len(IMPOSSIBLE_BYTES) == 13


@pytest.mark.parametrize(
    "document",
    [[], {"model": 3}, {"model": {"vocab": {"a": -1}}}, {"model": {"vocab": {"a": True}}}, {"model": {"vocab": 7}}],
)
def test_a_tokenizer_that_contradicts_its_format_is_named(tmp_path: Path, document: object) -> None:
    with pytest.raises(MalformedCheckpoint):
        _write(tmp_path, document)


def test_a_tokenizer_that_is_no_text_is_named(tmp_path: Path) -> None:
    for content in (b"\xff\xfe", b"{", b"[" * 100_000):
        (tmp_path / "tokenizer.json").write_bytes(content)
        with pytest.raises(MalformedCheckpoint):
            read_vocabulary(tmp_path)


def _anatomy(ffn: int, layers: int = 2) -> Anatomy:
    return Anatomy("synthetic", Dims(layers, 16, ffn, 100), Traits(), {}, {}, ())


def test_small_pairs_are_read_whole_and_of_wide_ones_more_units() -> None:
    whole = plan_reading(_anatomy(100), _anatomy(50), SMALL, 64, False)
    assert [(plan.units, plan.whole) for plan in whole] == [(0, True), (0, True)]
    for first, second, expected in (
        (100, 100, (64, 64)),
        (200, 100, (128, 64)),
        (100, 300, (64, 192)),
        (900, 100, (256, 64)),
    ):
        plans = plan_reading(_anatomy(first), _anatomy(second), SMALL + 1, 64, False)
        assert tuple(plan.units for plan in plans) == expected
    full = plan_reading(_anatomy(100), _anatomy(100), SMALL + 1, 64, True)
    assert [(plan.units, plan.whole, plan.slab) for plan in full] == [(256, True, None)] * 2
