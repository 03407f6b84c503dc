"""Every tensor of the real model classes has one role or a stated reason, however the names are dressed."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable

import pytest
from tests.roles.cases import CASES, Case, case
from tests.roles.memory import of_shapes

from homolog.errors import MalformedCheckpoint
from homolog.roles.resolve import resolve
from homolog.roles.role import Anatomy, Role, Space

LLAMA = case("llama", "untied")
SCEPTR = case("torch_transformer_encoder", "sceptr")


def accounted(anatomy: Anatomy, tensors: dict[str, list[int]]) -> None:
    """Each tensor has a role or a reason and not both; cuts of a fused tensor cover it once."""
    cuts = Counter(view.tensor for view in anatomy.views.values())
    assert set(cuts) | set(anatomy.unused) == set(tensors)
    assert not set(cuts) & set(anatomy.unused)
    numbers: Counter[str] = Counter()
    for view in anatomy.views.values():
        count = 1
        for length in view.shape:
            count *= length
        numbers[view.tensor] += count
    for name, count in numbers.items():
        size = 1
        for length in tensors[name]:
            size *= length
        assert count == size


@pytest.mark.parametrize("one", CASES, ids=str)
def test_every_tensor_of_a_real_class_has_a_role_or_a_reason(one: Case) -> None:
    anatomy = resolve(of_shapes(one.tensors, one.config))
    assert (anatomy.architecture, anatomy.reason, anatomy.missing) == (one.family, None, ())
    accounted(anatomy, one.tensors)
    assert not [reason for reason in anatomy.unused.values() if reason.startswith("no rule")]


@pytest.mark.parametrize("one", CASES, ids=str)
def test_without_config_the_names_give_the_same_roles(one: Case) -> None:
    told, untold = resolve(of_shapes(one.tensors, one.config)), resolve(of_shapes(one.tensors))
    headless = {name for name, reason in untold.unused.items() if reason.endswith("how many heads there are")}
    assert untold.views == {role: view for role, view in told.views.items() if view.tensor not in headless}
    assert {name: reason for name, reason in untold.unused.items() if name not in headless} == told.unused
    if untold.architecture != told.architecture:
        assert any(f"{told.architecture}" in note and "same layout" in note for note in untold.notes)


DRESSES: dict[str, Callable[[str], str]] = {
    "wrapped": lambda name: f"module.{name}",
    "wrapped twice": lambda name: f"_orig_mod.module.{name}",
    "in an ensemble": lambda name: f"models.3.{name}",
}


FIRST = list({one.family: one for one in reversed(CASES)}.values())


@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.parametrize("one", FIRST, ids=str)
def test_a_prefix_changes_nothing(one: Case, dress: str) -> None:
    rename = DRESSES[dress]
    plain = resolve(of_shapes(one.tensors, one.config))
    dressed = resolve(of_shapes({rename(name): shape for name, shape in one.tensors.items()}, one.config))
    assert dressed.architecture == plain.architecture
    assert dressed.dims == plain.dims
    assert {role: rename(view.tensor) for role, view in plain.views.items()} == {
        role: view.tensor for role, view in dressed.views.items()
    }
    assert dressed.traits.ordered == plain.traits.ordered


@pytest.mark.parametrize("one", FIRST, ids=str)
def test_the_order_of_keys_changes_nothing(one: Case) -> None:
    names = list(one.tensors)
    random.Random(1).shuffle(names)
    shuffled = of_shapes({name: one.tensors[name] for name in names}, one.config)
    shuffled.tensors = {name: shuffled.tensors[name] for name in names}
    assert resolve(shuffled) == resolve(of_shapes(one.tensors, one.config))


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gpt2"])
def test_dropping_the_head_changes_nothing_else(family: str) -> None:
    one = case(family, "untied")
    whole = resolve(of_shapes(one.tensors, one.config))
    without = {name: shape for name, shape in one.tensors.items() if not name.startswith("lm_head")}
    tied = resolve(of_shapes(without, {**one.config, "tie_word_embeddings": True}))
    assert tied.dims == whole.dims
    assert tied.views == {role: view for role, view in whole.views.items() if role.kind != "unembed"}
    assert "no unembedding is stored: config.json ties it to the token embedding" in tied.notes


def test_dims_of_each_family() -> None:
    def dims(family: str, name: str) -> tuple[int, ...]:
        one = case(family, name)
        found = resolve(of_shapes(one.tensors, one.config)).dims
        return (
            found.layers,
            found.width,
            found.ffn,
            found.vocab,
            found.heads,
            found.kv_heads,
            found.head_dim,
            found.experts,
        )

    assert dims("llama", "untied") == (3, 16, 24, 40, 4, 2, 4, 0)
    assert dims("mistral", "wide heads") == (3, 16, 24, 40, 4, 2, 8, 0)
    assert dims("qwen3", "untied") == (3, 16, 24, 40, 4, 2, 8, 0)
    assert dims("qwen2_moe", "all sparse") == (3, 16, 12, 40, 4, 2, 4, 4)
    assert dims("qwen2_moe", "dense first") == (3, 16, 24, 40, 4, 2, 4, 4)
    assert dims("gpt2", "language model") == (3, 16, 64, 40, 4, 4, 4, 0)
    assert dims("bert", "base") == (3, 16, 24, 40, 4, 4, 4, 0)
    assert dims("torch_transformer_encoder", "sceptr") == (3, 16, 24, 23, 4, 4, 4, 0)
    assert dims("torch_transformer_encoder", "bare") == (3, 16, 24, 0, 0, 0, 0, 0)


def test_head_dim_without_config_comes_from_the_norms_of_queries() -> None:
    dims = resolve(of_shapes(case("qwen3", "untied").tensors)).dims
    assert (dims.heads, dims.kv_heads, dims.head_dim) == (4, 2, 8)
    dims = resolve(of_shapes(LLAMA.tensors)).dims
    assert (dims.heads, dims.kv_heads, dims.head_dim) == (0, 0, 0)


def test_a_fused_projection_is_cut_in_thirds() -> None:
    views = resolve(of_shapes(SCEPTR.tensors, SCEPTR.config)).views
    name = "_self_attention_stack._standard_stack._self_attention_stack.layers.1.self_attn.in_proj_weight"
    for number, (kind, space) in enumerate([("attn.q", Space.QUERY), ("attn.k", Space.KV), ("attn.v", Space.KV)]):
        view = views[Role(kind, layer=1)]
        assert (view.tensor, view.axes, view.shape) == (name, (space, Space.RESIDUAL), (16, 16))
        assert (view.axis, view.start, view.stop) == (0, 16 * number, 16 * (number + 1))
    gpt2 = resolve(of_shapes(case("gpt2", "base").tensors)).views[Role("attn.k", layer=0)]
    assert (gpt2.axes, gpt2.shape, gpt2.axis, gpt2.start, gpt2.stop) == (
        (Space.RESIDUAL, Space.KV),
        (16, 16),
        1,
        16,
        32,
    )


def test_the_fixed_tables_of_sceptr_are_known_to_be_fixed() -> None:
    traits = resolve(of_shapes(SCEPTR.tensors, SCEPTR.config)).traits
    assert set(traits.fixed) == {
        "_token_embedder._token_embedding._token_embeddings",
        "_token_embedder._compartment_embedding._token_embeddings",
    }
    assert set(traits.ordered) == {"input"}
    left = case("torch_transformer_encoder", "sceptr left-aligned")
    traits = resolve(of_shapes(left.tensors, left.config)).traits
    assert set(traits.fixed) == {"_token_embedder.position_embedding.position_embedding_matrix"}
    assert set(traits.ordered) == {"residual"}


def test_experts_dense_layers_and_the_shared_expert_are_told_apart() -> None:
    one = case("qwen2_moe", "dense first")
    anatomy = resolve(of_shapes(one.tensors, one.config))
    assert anatomy.views[Role("ffn.up", layer=0)].shape == (24, 16)
    assert anatomy.views[Role("ffn.up", layer=1, expert=3)].shape == (12, 16)
    assert anatomy.views[Role("ffn.up", layer=1, shared=True)].shape == (20, 16)
    assert "layers 1–2: 4 routed experts each" in anatomy.notes
    assert "layers 0: a dense FFN" in anatomy.notes


@pytest.mark.parametrize("one", CASES, ids=str)
def test_one_lost_tensor_is_found_or_listed_as_missing(one: Case) -> None:
    whole = resolve(of_shapes(one.tensors, one.config))
    alike = {re.sub(r"\d+", "#", name): name for name in one.tensors}
    for name in alike.values():
        rest = {other: shape for other, shape in one.tensors.items() if other != name}
        anatomy = resolve(of_shapes(rest, one.config))
        lost = [role for role, view in whole.views.items() if view.tensor == name]
        if anatomy.reason is not None:
            assert whole.dims.layers == 1  # by the anchor of its one layer the family is found
            continue
        if anatomy.architecture != whole.architecture:
            assert {anatomy.architecture, whole.architecture} == {
                "clip_text",
                "clip_vision",
            }  # of two towers the whole one
            continue
        assert set(anatomy.views) >= set(whole.views) - set(lost)
        if anatomy.missing:  # the one stack of a model is listed by its roles, as if they were stored one by one
            assert name in anatomy.missing[0] or any(str(role) in anatomy.missing[0] for role in lost)
        accounted(anatomy, rest)


def test_a_llama_without_one_tensor_lists_it() -> None:
    lost = "model.layers.1.self_attn.k_proj.weight"
    rest = {name: shape for name, shape in LLAMA.tensors.items() if name != lost}
    anatomy = resolve(of_shapes(rest, LLAMA.config))
    assert anatomy.architecture == "llama"
    assert anatomy.missing == (f"layer 1 attn.k weight ({lost})",)


def test_a_gap_in_the_layers_is_missing() -> None:
    shapes = {name.replace("layers.2.", "layers.3."): shape for name, shape in LLAMA.tensors.items()}
    anatomy = resolve(of_shapes(shapes))
    assert anatomy.architecture == "llama"
    assert anatomy.dims.layers == 4
    assert len(anatomy.missing) == 9
    assert all(line.startswith("layer 2 ") for line in anatomy.missing)


def test_a_lost_expert_and_a_lost_mixture_are_missing() -> None:
    one = case("qwen2_moe", "all sparse")
    rest = {name: shape for name, shape in one.tensors.items() if "layers.1.mlp.experts.2.up_proj" not in name}
    assert resolve(of_shapes(rest, one.config)).missing == (
        "layer 1 expert 2 ffn.up weight (model.layers.1.mlp.experts.2.up_proj.weight)",
    )
    rest = {name: shape for name, shape in one.tensors.items() if "layers.1.mlp." not in name}
    assert resolve(of_shapes(rest, one.config)).missing == ("layer 1 FFN, dense or mixture",)


def test_ffn_widths_may_differ_by_layer() -> None:
    shapes = dict(LLAMA.tensors)
    for part, shape in {"gate_proj": [20, 16], "up_proj": [20, 16], "down_proj": [16, 20]}.items():
        shapes[f"model.layers.1.mlp.{part}.weight"] = shape
    anatomy = resolve(of_shapes(shapes, LLAMA.config))
    assert anatomy.architecture == "llama"
    assert anatomy.dims.ffn == 24
    assert "the number of units of the FFN differs by layer: from 20 to 24" in anatomy.notes


@pytest.mark.parametrize(
    ("rename", "words"),
    [
        (lambda name: name.replace("self_attn", "attention"), "no tensor is named like the layers"),
        (lambda name: name.replace("mlp.", "ff."), "does not name 9 of the tensors"),
    ],
    ids=["no layer is recognised", "only attention is recognised"],
)
def test_an_unknown_family_is_never_guessed(rename: Callable[[str], str], words: str) -> None:
    shapes = {rename(name): shape for name, shape in LLAMA.tensors.items()}
    anatomy = resolve(of_shapes(shapes, LLAMA.config))
    assert anatomy.architecture == "unknown"
    assert anatomy.reason is not None
    assert words in anatomy.reason
    assert not anatomy.views
    assert set(anatomy.unused) == set(shapes)


def test_two_tensors_of_one_role_are_one_role_and_one_reason() -> None:
    anatomy = resolve(of_shapes({**SCEPTR.tensors, "embedding.weight": [23, 16]}, SCEPTR.config))
    assert anatomy.architecture == "torch_transformer_encoder"
    first = "_token_embedder._token_embedding._token_embeddings"
    assert anatomy.views[Role("embed.token")].tensor == first
    assert anatomy.unused == {"embedding.weight": f"{first} has the same role and is read instead"}


def test_no_tensors_at_all() -> None:
    assert resolve(of_shapes({})).reason == "the checkpoint holds no tensors"


def test_a_small_unexplained_tensor_is_listed() -> None:
    anatomy = resolve(of_shapes({**LLAMA.tensors, "watermark.key": [8]}, LLAMA.config))
    assert anatomy.architecture == "llama"
    assert anatomy.unused == {"watermark.key": "no rule of the family llama names it"}


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"tower.weight": [64, 64]}, "does not name 1 of the tensors"),
        ({"model.layers.0.mlp.up_proj.weight_scale_inv": [1, 1]}, "stands beside a tensor that has a role"),
    ],
    ids=["a large unexplained tensor", "a scale beside a weight"],
)
def test_what_may_change_the_meaning_is_refused(extra: dict[str, list[int]], words: str) -> None:
    anatomy = resolve(of_shapes({**LLAMA.tensors, **extra}, LLAMA.config))
    assert anatomy.architecture == "unknown"
    assert anatomy.reason is not None
    assert words in anatomy.reason


def test_an_unexplained_tensor_with_something_missing_is_refused() -> None:
    shapes = {name.replace("layers.1.mlp.up_proj", "layers.1.mlp.up"): shape for name, shape in LLAMA.tensors.items()}
    assert resolve(of_shapes(shapes, LLAMA.config)).architecture == "unknown"


def test_shapes_that_contradict_each_other_are_not_this_family() -> None:
    shapes = {**LLAMA.tensors, "model.layers.1.mlp.up_proj.weight": [24, 17]}
    reason = resolve(of_shapes(shapes)).reason
    assert reason is not None
    assert "model.layers.1.mlp.up_proj.weight has 17 along residual" in reason
    shapes = {**LLAMA.tensors, "model.layers.1.mlp.up_proj.weight": [24]}
    reason = resolve(of_shapes(shapes)).reason
    assert reason is not None
    assert "has shape 24, where its role has the axes ffn × residual" in reason


def test_a_fused_tensor_that_cannot_be_cut_is_not_this_family() -> None:
    name = next(name for name in SCEPTR.tensors if name.endswith("layers.1.self_attn.in_proj_weight"))
    reason = resolve(of_shapes({**SCEPTR.tensors, name: [47, 16]})).reason
    assert reason is not None
    assert "has shape 47×16, where axis 0 holds 3 equal parts" in reason


def test_pruned_heads_are_not_counted() -> None:
    bert = case("bert", "base")
    shapes = dict(bert.tensors)
    for part, shape in {
        "self.query": [8, 16],
        "self.key": [8, 16],
        "self.value": [8, 16],
        "output.dense": [16, 8],
    }.items():
        shapes[f"encoder.layer.2.attention.{part}.weight"] = shape
        shapes[f"encoder.layer.2.attention.{part}.bias"] = shape[:1]
    anatomy = resolve(of_shapes(shapes, bert.config))
    assert anatomy.architecture == "bert"
    assert (anatomy.dims.heads, anatomy.dims.head_dim) == (0, 0)
    assert "the number of query dimensions differs by layer: from 8 to 16" in anatomy.notes


def test_an_unembedding_of_another_length_is_noted() -> None:
    anatomy = resolve(of_shapes({**LLAMA.tensors, "lm_head.weight": [48, 16]}, LLAMA.config))
    assert anatomy.dims.vocab == 40
    assert "the unembedding has 48 tokens, the embedding 40" in anatomy.notes


def test_packed_weights_are_not_read_as_numbers() -> None:
    checkpoint = of_shapes(LLAMA.tensors, LLAMA.config)
    checkpoint.arrays["model.layers.0.mlp.up_proj.weight"] = checkpoint.arrays[
        "model.layers.0.mlp.up_proj.weight"
    ].astype("uint8")
    packed = type(checkpoint)(checkpoint.arrays, checkpoint.config)
    reason = resolve(packed).reason
    assert reason is not None
    assert "is stored as U8" in reason


@pytest.mark.parametrize(
    ("one", "changes", "at", "found", "expected"),
    [
        (LLAMA, {"hidden_size": 512}, "hidden_size", "512", "16, as the tensors have it"),
        (LLAMA, {"num_hidden_layers": 4}, "num_hidden_layers", "4", "3, as the tensors have it"),
        (LLAMA, {"intermediate_size": 25}, "intermediate_size", "25", "24, as the tensors have it"),
        (LLAMA, {"vocab_size": 41}, "vocab_size", "41", "40, as the tensors have it"),
        (LLAMA, {"num_attention_heads": 3}, "num_attention_heads", "3", "a divisor of 16"),
        (LLAMA, {"num_key_value_heads": 4}, "num_key_value_heads", "4", "2, as the tensors have it"),
        (LLAMA, {"head_dim": 8}, "num_attention_heads", "4", "2, as the tensors have it"),
        (LLAMA, {"head_dim": 3}, "head_dim", "3", "a whole number of heads of 3 in 16 and 8 dimensions"),
        (LLAMA, {"hidden_size": "16"}, "hidden_size", "16", "a number"),
        (LLAMA, {"hidden_size": True}, "hidden_size", "True", "a number"),
        (LLAMA, {"hidden_size": -16}, "hidden_size", "-16", "a number"),
        (LLAMA, {"hidden_size": 10**400}, "hidden_size", None, "16, as the tensors have it"),
        (case("qwen3", "untied"), {"head_dim": 4}, "head_dim", "4", "8, as the tensors have it"),
        (case("gpt2", "base"), {"n_inner": 48}, "n_inner", "48", "24, as the tensors have it"),
        (case("bert", "base"), {"type_vocab_size": 3}, "type_vocab_size", "3", "2, as the tensors have it"),
        (case("qwen2_moe", "all sparse"), {"num_experts": 8}, "num_experts", "8", "4, as the tensors have it"),
    ],
)
def test_a_config_that_lies_is_an_error(
    one: Case, changes: dict[str, object], at: str, found: str | None, expected: str
) -> None:
    with pytest.raises(MalformedCheckpoint) as caught:
        resolve(of_shapes(one.tensors, {**one.config, "head_dim": None, **changes}))
    assert caught.value.at == f"config.json: {at}"
    assert found is None or caught.value.found == found
    assert caught.value.expected == expected


def test_a_nested_config_is_checked_too() -> None:
    config = {"model": {"self_attention_stack": {"initargs": {"num_layers": 3, "d_model": 32, "nhead": 4}}}}
    with pytest.raises(MalformedCheckpoint, match=r"initargs\.d_model: found 32"):
        resolve(of_shapes(SCEPTR.tensors, config))


def test_a_model_type_is_a_hint_and_names_decide() -> None:
    anatomy = resolve(of_shapes(LLAMA.tensors, {**LLAMA.config, "model_type": "bert"}))
    assert anatomy.architecture == "llama"
    assert "config.json says model_type 'bert'; the tensors are laid out as llama" in anatomy.notes
    anatomy = resolve(of_shapes(LLAMA.tensors, {**LLAMA.config, "model_type": "qwen2"}))
    assert anatomy.architecture == "llama"
    anatomy = resolve(of_shapes(LLAMA.tensors, {**LLAMA.config, "model_type": ["llama"]}))
    assert anatomy.architecture == "llama"


def test_the_same_layout_is_noted() -> None:
    mistral = case("mistral", "untied")
    told = resolve(of_shapes(mistral.tensors, mistral.config))
    words = r"(\w+, )*llama(, \w+)* and mistral store the same layout; taken as mistral: config\.json says so"
    assert re.fullmatch(words, told.notes[0])
    untold = resolve(of_shapes(mistral.tensors))
    words = r"(\w+, )*mistral(, \w+)* and llama store the same layout; taken as llama: it is the first by preference"
    assert re.fullmatch(words, untold.notes[0])


def test_old_spellings_and_buffers_of_published_files() -> None:
    bert = case("bert", "pretraining")
    spelt = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): shape
        for name, shape in bert.tensors.items()
    }
    buffers: dict[str, list[int]] = {"bert.embeddings.position_ids": [1, 32]}
    anatomy = resolve(of_shapes({**spelt, **buffers}, bert.config))
    assert anatomy.architecture == "bert"
    assert not anatomy.missing
    assert set(anatomy.unused) == set(buffers)
    gpt2 = case("gpt2", "language model")
    masks = {
        f"transformer.h.{layer}.attn.{name}": [1, 1, 4, 4] for layer in range(3) for name in ("bias", "masked_bias")
    }
    assert set(resolve(of_shapes({**gpt2.tensors, **masks}, gpt2.config)).unused) == set(masks)
    rotary = {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": [2] for layer in range(3)}
    assert set(resolve(of_shapes({**LLAMA.tensors, **rotary}, LLAMA.config)).unused) == set(rotary)
