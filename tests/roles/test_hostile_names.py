"""Names that a hostile file may hold: each ends in a plain answer, and soon."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.roles.cases import case
from tests.roles.memory import MemoryCheckpoint, of_shapes

from homolog.checkpoint.base import TensorInfo
from homolog.roles.names import NameTable, is_index, template
from homolog.roles.resolve import resolve

LLAMA = case("llama", "untied")
SECONDS = 8.0
"""Of the processor. Generous: each takes two at most; a pattern that backtracks would take hours."""


def named(names: list[str]) -> MemoryCheckpoint:
    """A checkpoint of tiny tensors, described but not held."""
    checkpoint = MemoryCheckpoint({})
    checkpoint.tensors = {name: TensorInfo(name, (2, 2), "F32", 16) for name in sorted(names)}
    return checkpoint


ANCHOR = "self_attn.q_proj.weight"
HOSTILE = {
    "a name of a million letters": ["a" * 1_000_000],
    "a name of a million dots": ["." * 1_000_000],
    "a name of a million numbers": [".".join(["7"] * 500_000)],
    "a long prefix before a layer": ["x." * 100_000 + f"layers.0.{ANCHOR}"],
    "a long prefix before a layer of torch": ["x." * 100_000 + "layers.0.self_attn.in_proj_weight"],
    "a layer number beyond counting": [f"model.layers.999999999.{ANCHOR}"],
    "a layer number of a thousand digits": [f"model.layers.{'9' * 1000}.{ANCHOR}"],
    "the last layer alone": [f"model.layers.99999.{ANCHOR}"],
    "a negative layer": [f"model.layers.-1.{ANCHOR}"],
    "a layer in Arabic digits": [f"model.layers.٣.{ANCHOR}"],
    "a layer in superscript": [f"model.layers.².{ANCHOR}"],
    "a layer with leading zeros": [f"model.layers.007.{ANCHOR}"],
    "thirty thousand prefixes": [f"p{n}.layers.0.{ANCHOR}" for n in range(30_000)],
    "thirty thousand layers": [f"model.layers.{n}.{ANCHOR}" for n in range(30_000)],
    "nested repetition": [("layers.0." * 20_000) + ANCHOR],
    "almost the anchor, often": [f"layers.0.self_attn.q_proj.{n}" for n in range(50_000)],
    "control characters": ["\x00\x1b[31m.weight", "layers.0\n.self_attn.q_proj.weight"],
    "the empty name": [""],
    "what stands for a number inside": ["layers...self_attn.q_proj.weight", "layers.#.self_attn.q_proj.weight"],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_names_are_unknown_and_soon(kind: str) -> None:
    checkpoint = named(HOSTILE[kind])
    start = time.process_time()
    anatomy = resolve(checkpoint)
    assert time.process_time() - start < SECONDS
    assert anatomy.architecture == "unknown"
    assert anatomy.reason is not None
    assert len(anatomy.reason) < 2_000
    assert anatomy.reason.isprintable()
    assert set(anatomy.unused) == set(checkpoint.tensors)


@pytest.mark.parametrize("number", ["999999999", "-1", "٣", "²", "01"])
def test_a_strange_layer_number_in_a_real_model_is_no_layer(number: str) -> None:
    extra = {f"model.layers.{number}.input_layernorm.weight": [16]}
    anatomy = resolve(of_shapes({**LLAMA.tensors, **extra}, LLAMA.config))
    assert anatomy.architecture == "llama"
    assert anatomy.dims.layers == 3
    assert set(anatomy.unused) == set(extra)


def test_experts_that_only_a_router_claims_are_missing_in_bounded_words() -> None:
    moe = case("qwen2_moe", "all sparse")
    checkpoint = of_shapes(moe.tensors)
    tensors = dict(checkpoint.tensors)
    for layer in range(3):
        name = f"model.layers.{layer}.mlp.gate.weight"
        tensors[name] = TensorInfo(name, (1 << 40, 16), "F32", 1 << 46)
    checkpoint.tensors = tensors
    start = time.process_time()
    anatomy = resolve(checkpoint)
    assert time.process_time() - start < SECONDS
    assert anatomy.architecture == "unknown"


def test_many_missing_tensors_are_cut_short() -> None:
    layers = 400
    shapes = {name: shape for name, shape in LLAMA.tensors.items() if "layers" not in name}
    body = {
        name.replace("layers.0.", "layers.{}."): shape for name, shape in LLAMA.tensors.items() if "layers.0." in name
    }
    for layer in range(layers):
        kept = body.items() if layer % 2 else list(body.items())[3:]
        shapes |= {name.format(layer): shape for name, shape in kept}
    anatomy = resolve(of_shapes(shapes))
    assert anatomy.architecture == "llama"
    assert len(anatomy.missing) == 600
    shapes |= {name.format(layers + 99): shape for name, shape in body.items()}
    anatomy = resolve(of_shapes(shapes))
    assert anatomy.architecture == "llama"
    assert len(anatomy.missing) == 1001
    assert anatomy.missing[-1] == "and 491 more"
    shapes |= {name.format(2 * layers + 99): shape for name, shape in body.items()}
    anatomy = resolve(of_shapes(shapes))
    assert anatomy.architecture == "unknown"


@given(st.lists(st.text(max_size=30), unique=True, max_size=20))
def test_any_names_get_an_answer(names: list[str]) -> None:
    anatomy = resolve(named(names))
    assert anatomy.architecture == "unknown"
    assert set(anatomy.unused) == set(names)


@given(st.data())
def test_real_names_with_strange_ones_among_them(data: st.DataObject) -> None:
    parts = st.sampled_from(["model", "layers", "0", "1", "99", "-1", "mlp", "up_proj", "weight", "bias", "", "x"])
    extra = data.draw(st.lists(st.lists(parts, min_size=1, max_size=6).map(".".join), unique=True, max_size=8))
    shapes = {**{name: [2] for name in extra}, **LLAMA.tensors}
    anatomy = resolve(of_shapes(shapes))
    used = {view.tensor for view in anatomy.views.values()}
    assert used | set(anatomy.unused) == set(shapes)
    assert not used & set(anatomy.unused)


@given(st.integers(min_value=0, max_value=99_999))
def test_whole_numbers_are_indices(number: int) -> None:
    assert is_index(str(number))
    assert not is_index(f"0{number}")
    assert not is_index(f"-{number}")
    assert not is_index(f"{number}.")


@pytest.mark.parametrize("text", ["a.{layer}.{layer}", "a.{head}.b", "a{layer}.b", "a..b", ""])
def test_a_template_says_what_is_wrong_with_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"stands twice|is neither a word nor one of"):
        template(text)


def test_a_template_may_hold_fixed_numbers() -> None:
    spelling = template("stack.{layer}.mlp.0.weight")
    table = NameTable(["stack.4.mlp.0.weight", "stack.4.mlp.2.weight"])
    fitting = [name for name, holes in table.below("")[spelling.key] if spelling.fits(holes)]
    assert fitting == ["stack.4.mlp.0.weight"]
    assert spelling.fill(layer=7) == "stack.7.mlp.0.weight"
