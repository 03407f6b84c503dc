"""A hub's family and the same tensors as llama.cpp stores them: the same roles, with the same numbers in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf.constants import MODEL_ARCH, MODEL_ARCH_NAMES
from tests.checkpoint.convert_gguf import SIZES, rename_and_turn
from tests.checkpoint.gguf_writer import encode_gguf, plain
from tests.checkpoint.writers import encode_safetensors
from tests.roles.cases import CASES, Case

from homolog.checkpoint.base import Array
from homolog.checkpoint.open import open_checkpoint
from homolog.derivation.identical import same_numbers
from homolog.pipeline import compare
from homolog.roles.resolve import resolve

ARCHITECTURES = {
    "llama": MODEL_ARCH.LLAMA,
    "mistral": MODEL_ARCH.LLAMA,
    "mixtral": MODEL_ARCH.LLAMA,
    "qwen2": MODEL_ARCH.QWEN2,
    "qwen2_moe": MODEL_ARCH.QWEN2MOE,
    "qwen3": MODEL_ARCH.QWEN3,
    "qwen3_moe": MODEL_ARCH.QWEN3MOE,
    "gemma": MODEL_ARCH.GEMMA,
    "gemma2": MODEL_ARCH.GEMMA2,
    "gemma3": MODEL_ARCH.GEMMA3,
    "olmo": MODEL_ARCH.OLMO,
    "olmo2": MODEL_ARCH.OLMO2,
    "olmoe": MODEL_ARCH.OLMOE,
    "gpt2": MODEL_ARCH.GPT2,
    "phi3": MODEL_ARCH.PHI3,
    "phi": MODEL_ARCH.PHI2,
    "phimoe": MODEL_ARCH.PHIMOE,
    "starcoder2": MODEL_ARCH.STARCODER2,
    "stablelm": MODEL_ARCH.STABLELM,
    "mpt": MODEL_ARCH.MPT,
    "gptj": MODEL_ARCH.GPTJ,
    "cohere": MODEL_ARCH.COMMAND_R,
    "granite": MODEL_ARCH.GRANITE,
    "nemotron": MODEL_ARCH.NEMOTRON,
    "smollm3": MODEL_ARCH.SMOLLM3,
    "seed_oss": MODEL_ARCH.SEED_OSS,
    "exaone4": MODEL_ARCH.EXAONE4,
    "glm4": MODEL_ARCH.GLM4,
    "hunyuan_v1_dense": MODEL_ARCH.HUNYUAN_DENSE,
    "ernie4_5": MODEL_ARCH.ERNIE4_5,
    "deepseek_v2": MODEL_ARCH.DEEPSEEK2,
    "deepseek_v3": MODEL_ARCH.DEEPSEEK2,
    "kimi_k2": MODEL_ARCH.DEEPSEEK2,
    "minicpm": MODEL_ARCH.MINICPM,
    "minicpm3": MODEL_ARCH.MINICPM3,
    "falcon": MODEL_ARCH.FALCON,
    "gpt_neox": MODEL_ARCH.GPTNEOX,
    "gpt_bigcode": MODEL_ARCH.STARCODER,
    "bloom": MODEL_ARCH.BLOOM,
    "baichuan": MODEL_ARCH.BAICHUAN,
    "internlm2": MODEL_ARCH.INTERNLM2,
    "chatglm": MODEL_ARCH.CHATGLM,
    "glm": MODEL_ARCH.CHATGLM,
    "glm4_moe": MODEL_ARCH.GLM4_MOE,
    "qwen": MODEL_ARCH.QWEN,
    "granitemoe": MODEL_ARCH.GRANITE_MOE,
    "ernie4_5_moe": MODEL_ARCH.ERNIE4_5_MOE,
    "hunyuan_v1_moe": MODEL_ARCH.HUNYUAN_MOE,
    "gpt_oss": MODEL_ARCH.GPT_OSS,
    "llama4_text": MODEL_ARCH.LLAMA4,
    "openpangu_embedded": MODEL_ARCH.PANGU_EMBED,
    "exaone": MODEL_ARCH.EXAONE,
    "bert": MODEL_ARCH.BERT,
    "roberta": MODEL_ARCH.BERT,
    "distilbert": MODEL_ARCH.BERT,
}
_HEADS = (
    "cls.",
    "lm_head.d",
    "vocab_",
    "score.",
    "qa_outputs.",
    "classifier.",
    "multiple_choice_head.",
    "vision_tower.",
)
_NOT_CONVERTED = (
    "in memory",
    "normed",
    "normed by head",
    "every second",
    "with a vision tower",
    "alibi, biases",
    "many key heads",
)
"""What llama.cpp's converter has no names for, and what no hub stores so."""
_ALL_MIXED = ("qwen2_moe", "qwen3_moe")
"""Whose architectures in llama.cpp have no names for a dense layer among the mixtures."""
_ONLY_IN_MEMORY = ("gpt_oss", "llama4_text")
COVERED = [
    case
    for case in CASES
    if case.family in ARCHITECTURES
    and (case.name not in _NOT_CONVERTED or (case.name == "in memory" and case.family in _ONLY_IN_MEMORY))
    and not (case.name == "dense first" and case.family in _ALL_MIXED)
    and not any(name.startswith(_HEADS) for name in case.tensors)
]


def draw(case: Case, seed: int) -> dict[str, Array]:
    """Numbers that one may be added to, and taken from, without rounding."""
    rng = np.random.default_rng(seed)
    return {
        name: (rng.integers(-64, 64, shape) / 32).astype(np.float32)
        for name, shape in case.tensors.items()
        if "pooler." not in name  # llama.cpp keeps no pooler
    }


def write_both(case: Case, folder: Path, seed: int = 0) -> tuple[Path, Path]:
    model, architecture = draw(case, seed), ARCHITECTURES[case.family]
    name = MODEL_ARCH_NAMES[architecture]
    hub, copy = folder / f"model{seed}.safetensors", folder / f"copy{seed}.gguf"
    hub.write_bytes(encode_safetensors(dict(model)))
    metadata: dict[str, Any] = {"general.architecture": name}
    config = case.config | ({"num_key_value_heads": 1} if case.name == "one key head" else {})
    for key, spellings in SIZES.items():
        metadata |= {f"{name}.{key}": config[spelling] for spelling in spellings[::-1] if config.get(spelling)}
    tensors = rename_and_turn(model, config, architecture)
    copy.write_bytes(encode_gguf(metadata, [plain(key, weights) for key, weights in tensors.items()]))
    return hub, copy


@pytest.mark.parametrize("case", COVERED, ids=str)
def test_a_model_and_its_conversion_are_identical_and_another_is_not(case: Case, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(case.config))
    hub, copy = write_both(case, tmp_path)
    assert compare(hub, copy).verdict.verdict == "identical"
    other, _ = write_both(case, tmp_path, seed=1)
    cleared = compare(copy, other).verdict
    assert cleared.verdict in ("independent", "inconclusive")
    assert cleared.log10_p is not None
    assert cleared.log10_p > -2


@pytest.mark.parametrize("case", COVERED, ids=str)
def test_both_layouts_hold_the_same_roles_and_numbers(case: Case, tmp_path: Path) -> None:
    hub, copy = write_both(case, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(case.config))
    with open_checkpoint(hub) as first, open_checkpoint(copy) as second:
        one, other = resolve(first), resolve(second)
        assert one.reason is None
        assert other.reason is None
        assert set(one.views) == set(other.views)
        assert same_numbers(first, second, one, other)
        assert (one.traits.gated, one.traits.pre_norm) == (other.traits.gated, other.traits.pre_norm)
        assert one.traits.norm_offset == other.traits.norm_offset
        # one family of the hub holds the sequential models of StableLM and those whose blocks stand side by side
        assert case.family == "stablelm" or one.traits.parallel == other.traits.parallel
        assert one.traits.norm == other.traits.norm


def test_as_many_are_compared_as_the_data_model_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data-model.md").read_text("utf-8")
    assert f"{len(COVERED)} tiny models of {len({case.family for case in COVERED})} families" in page
