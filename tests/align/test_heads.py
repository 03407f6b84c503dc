"""The heads of a layer are read from every layout alike, and what a change of basis inside them cannot alter stays as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tests.roles.cases import Case, case
from tests.roles.memory import MemoryCheckpoint
from tests.roles.test_layouts import COMPARED, draw, take_apart

from homolog.align.heads import Attention, Forms, NoAttention, list_attention, read_attention
from homolog.checkpoint.base import Array
from homolog.checkpoint.open import open_checkpoint
from homolog.lab.disguises import draw_rotation
from homolog.lab.operations import apply_operation
from homolog.lab.shape import Shape, Weights
from homolog.lab.store import load_model
from homolog.roles.resolve import resolve
from homolog.roles.role import Anatomy, Role

ZOO = Path(__file__).parents[1] / "zoo"
Floats = npt.NDArray[np.float64]


def heads_of(model: MemoryCheckpoint, layer: int = 0) -> Attention:
    found = read_attention(model, resolve(model), layer)
    assert isinstance(found, Attention), found
    return found


def in_memory(shape: Shape, weights: Weights) -> MemoryCheckpoint:
    return MemoryCheckpoint(weights, shape.config())


def whole(forms: Forms) -> Floats:
    """The forms as matrices (n, d, d), written × read."""
    sized = forms.size[:, :, None].astype(np.float64) * forms.right.astype(np.float64)
    return np.asarray(np.swapaxes(sized, 1, 2) @ forms.left.astype(np.float64), dtype=np.float64)


def naive(apart: dict[Role, Array], anatomy: Anatomy, layer: int) -> tuple[list[Floats], list[Floats]]:
    """OV and QK forms head by head, width × width, from output × input matrices; as the model classes compute them."""

    def of(kind: str) -> Floats | None:
        found = apart.get(Role(kind, layer=layer))
        return None if found is None else found.astype(np.float64)

    dims, traits = anatomy.dims, anatomy.traits
    q, k, v, o = (of(f"attn.{kind}") for kind in "qkvo")
    assert q is not None
    assert k is not None
    assert v is not None
    assert o is not None
    shift = 1.0 if traits.norm_offset else 0.0
    before, after = of("norm.attn"), of("norm.attn_post")
    if not traits.pre_norm:
        before, after = None, before if traits.norm == "rms" else None
    gain = np.ones(dims.width) if before is None else before + shift
    scale = np.ones(dims.width) if after is None else after + shift
    centre = np.eye(dims.width)
    if traits.pre_norm and traits.norm == "layer":
        centre -= 1 / dims.width
    reads = np.diag(gain) @ centre
    latents = {}
    for side in ("q", "kv"):
        down, norm = of(f"attn.{side}_a"), of(f"norm.{side}_a")
        latents[side] = reads if down is None else np.diag(np.ones(len(down)) if norm is None else norm) @ down @ reads
    rotary = of("attn.k_rotary")
    q_gain, k_gain = of("norm.q"), of("norm.k")
    per_group = dims.heads // dims.kv_heads
    ov, qk = [], []
    for head in range(dims.heads):
        group = head // per_group
        query, key, value = (
            np.split(x, count)[i]
            for x, count, i in ((q, dims.heads, head), (k, dims.kv_heads, group), (v, dims.kv_heads, group))
        )
        query, key = query @ latents["q"], key @ latents["kv"]
        if rotary is not None:
            key = np.concatenate([key, rotary @ reads])
        for_each = [np.ones(len(query)), np.ones(len(key))]
        for place, (norm, count, i) in enumerate(((q_gain, dims.heads, head), (k_gain, dims.kv_heads, group))):
            if norm is not None:
                every = norm.ravel() + shift
                for_each[place] = every if len(every) == len(query) else np.split(every, count)[i]
        write = np.split(np.diag(scale) @ o, dims.heads, axis=1)[head]
        ov.append(centre @ write @ value @ latents["kv"])
        qk.append((key * for_each[1][:, None]).T @ (query * for_each[0][:, None]))
    return ov, qk


KNOWN = [
    *(case(*which) for which in COMPARED if which[0] != "torch_transformer_encoder"),
    case("cohere", "normed"),
]


@pytest.mark.parametrize("one", KNOWN, ids=str)
def test_every_family_gives_the_forms_that_it_computes_with(one: Case) -> None:
    arrays = draw(one, seed=1)
    model = MemoryCheckpoint(arrays, one.config)
    anatomy = resolve(model)
    apart = take_apart(one, arrays, anatomy)
    layers = list_attention(anatomy)
    assert layers
    for layer in layers[:2]:
        found = read_attention(model, anatomy, layer)
        assert isinstance(found, Attention), found
        assert (found.heads, found.groups) == (anatomy.dims.heads, anatomy.dims.kv_heads)
        for forms, expected in zip((found.read_ov(), found.read_qk()), naive(apart, anatomy, layer), strict=True):
            scale = float(np.abs(expected).max())
            assert np.abs(whole(forms) - np.stack(expected)).max() < 1e-5 * scale
            for rows in (forms.left, forms.right):
                assert np.abs(rows @ np.swapaxes(rows, 1, 2) - np.eye(rows.shape[1])).max() < 1e-5
            assert (np.diff(forms.size) <= 0).all()


@pytest.mark.parametrize("name", ["a", "g", "k", "m"])
@pytest.mark.parametrize("kind", ["mix_values", "rescale"])
def test_forms_do_not_change_where_value_dimensions_do(name: str, kind: str) -> None:
    shape, weights = load_model(ZOO / name)
    changed = apply_operation(shape, weights, {"kind": kind, "seed": 3})
    before, after = heads_of(in_memory(shape, weights)), heads_of(in_memory(changed.shape, changed.weights))
    assert np.abs(after.value - before.value).max() > 0.1 * np.abs(before.value).max()
    for x, y in ((before.read_ov(), after.read_ov()), (before.read_qk(), after.read_qk())):
        assert np.abs(whole(x) - whole(y)).max() < 1e-4 * np.abs(whole(x)).max()


def test_forms_do_not_change_where_queries_are_turned_and_scaled_against_keys() -> None:
    shape, weights = load_model(ZOO / "a")
    rng, size = np.random.default_rng(3), shape.head_dim
    changed = dict(weights)
    place = "model.layers.0.self_attn"
    query, key = (weights[f"{place}.{part}_proj.weight"].copy() for part in "qk")
    for group in range(shape.kv_heads):
        angle, scale = rng.uniform(0, 2 * np.pi, size // 2), np.exp(rng.standard_normal(size // 2)).astype(np.float32)
        turn = np.eye(size, dtype=np.float32)
        for i, (c, s) in enumerate(zip(np.cos(angle), np.sin(angle), strict=True)):
            turn[np.ix_([i, i + size // 2], [i, i + size // 2])] = [[c, -s], [s, c]]
        pairs = np.concatenate([scale, scale])[:, None]
        key[group * size : (group + 1) * size] = turn @ key[group * size : (group + 1) * size] / pairs
        for head in range(group * shape.heads // shape.kv_heads, (group + 1) * shape.heads // shape.kv_heads):
            query[head * size : (head + 1) * size] = turn @ query[head * size : (head + 1) * size] * pairs
    changed |= {f"{place}.q_proj.weight": query, f"{place}.k_proj.weight": key}
    before, after = (heads_of(in_memory(shape, tensors)).read_qk() for tensors in (weights, changed))
    assert np.abs(whole(before) - whole(after)).max() < 1e-4 * np.abs(whole(before)).max()


@pytest.mark.parametrize("family", ["deepseek_v2", "deepseek_v3"])
def test_forms_do_not_change_with_the_basis_of_a_latent(family: str) -> None:
    one = case(family, "one query projection" if family == "deepseek_v2" else "dense first")
    arrays = draw(one, seed=1)
    rng, turned = np.random.default_rng(2), dict(arrays)
    place = "model.layers.0.self_attn"
    for down, norm, up in (
        ("kv_a_proj_with_mqa", "kv_a_layernorm", "kv_b_proj"),
        ("q_a_proj", "q_a_layernorm", "q_b_proj"),
    ):
        if f"{place}.{norm}.weight" not in arrays:
            continue
        gain = arrays[f"{place}.{norm}.weight"]
        turn = draw_rotation(rng, len(gain)).astype(np.float32)
        rows = arrays[f"{place}.{down}.weight"].copy()
        rows[: len(gain)] = turn @ rows[: len(gain)]
        turned |= {
            f"{place}.{down}.weight": rows,
            f"{place}.{norm}.weight": np.ones_like(gain),
            f"{place}.{up}.weight": np.asarray((arrays[f"{place}.{up}.weight"] * gain) @ turn.T, dtype=np.float32),
        }
    before, after = (heads_of(MemoryCheckpoint(tensors, one.config)) for tensors in (arrays, turned))
    for x, y in ((before.read_ov(), after.read_ov()), (before.read_qk(), after.read_qk())):
        assert np.abs(whole(x) - whole(y)).max() < 1e-4 * np.abs(whole(x)).max()


def test_a_rotated_stream_turns_the_forms() -> None:
    shape, weights = load_model(ZOO / "a")
    turned = apply_operation(shape, weights, {"kind": "rotate_residual", "seed": 3})
    basis = draw_rotation(np.random.default_rng(3), shape.width).astype(np.float32)
    before, after = heads_of(in_memory(shape, weights)), heads_of(in_memory(turned.shape, turned.weights))
    for x, y in ((before.turn(basis).read_ov(), after.read_ov()), (before.turn(basis).read_qk(), after.read_qk())):
        assert np.abs(whole(x) - whole(y)).max() < 1e-4 * np.abs(whole(x)).max()


def test_heads_that_cannot_be_read_say_why() -> None:
    def why(model: MemoryCheckpoint, layer: int = 0) -> str:
        found = read_attention(model, resolve(model), layer)
        assert isinstance(found, NoAttention)
        return found.reason

    one = case("torch_transformer_encoder", "bare")
    assert "is not stated" in why(MemoryCheckpoint(draw(one, seed=1), one.config))
    shape, weights = load_model(ZOO / "a")
    assert "no queries" in why(in_memory(shape, weights), layer=99)
    broken = weights["model.layers.1.self_attn.v_proj.weight"].copy()
    broken[0, 0] = np.nan
    model = in_memory(shape, {**weights, "model.layers.1.self_attn.v_proj.weight": broken})
    assert "not finite" in why(model, layer=1)
    assert heads_of(model).heads == shape.heads


def test_a_checkpoint_on_disk_is_read_as_one_in_memory() -> None:
    shape, weights = load_model(ZOO / "a")
    with open_checkpoint(ZOO / "a") as checkpoint:
        anatomy = resolve(checkpoint)
        assert list_attention(anatomy) == list(range(shape.layers))
        stored = read_attention(checkpoint, anatomy, 2)
    assert isinstance(stored, Attention)
    known = heads_of(in_memory(shape, weights), 2)
    for part in ("query", "key", "value", "output"):
        assert np.array_equal(getattr(stored, part), getattr(known, part))
