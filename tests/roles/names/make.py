"""Write the tensor names and shapes of tiny instances of the real model classes, as JSON beside this script.

The tests read the JSON; this script needs ``torch`` and ``transformers``, which homolog itself never does:

    pip install torch==2.13.0 transformers==5.23.0
    python tests/roles/names/make.py

Models of transformers are saved and the header of the saved file is read, so that the names are those of published checkpoints
(tied tensors left out, experts one by one), not those in memory. The modules of SCEPTR are rebuilt with the attribute names of
yutanagano/libtcrlm at 5b309af56a56fefffa720a56879f960e8eff4e25 (src/libtcrlm).
"""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

transformers: Any = import_module("transformers")

HERE = Path(__file__).parent
SMALL = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 24}
GROUPED = {**SMALL, "num_key_value_heads": 2}
WIDE_HEADS = {**GROUPED, "head_dim": 8}
MOE = {
    **GROUPED,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 12,
    "shared_expert_intermediate_size": 20,
}
GPT2 = {"vocab_size": 40, "n_embd": 16, "n_layer": 3, "n_head": 4, "n_positions": 32}
BERT = {**SMALL, "max_position_embeddings": 32, "type_vocab_size": 2, "num_labels": 3}

KEPT = (
    *GPT2,
    *MOE,
    "n_inner",
    "head_dim",
    "max_position_embeddings",
    "model_type",
    "tie_word_embeddings",
    "type_vocab_size",
)
"""Keys of config.json that say something about names and shapes."""

CASES: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "llama": {
        "untied": ("LlamaForCausalLM", GROUPED),
        "tied": ("LlamaForCausalLM", {**GROUPED, "tie_word_embeddings": True}),
        "biases": ("LlamaForCausalLM", {**GROUPED, "attention_bias": True, "mlp_bias": True}),
        "base": ("LlamaModel", GROUPED),
        "classifier": ("LlamaForSequenceClassification", GROUPED),
        "token classifier": ("LlamaForTokenClassification", GROUPED),
        "questions": ("LlamaForQuestionAnswering", GROUPED),
    },
    "mistral": {
        "untied": ("MistralForCausalLM", GROUPED),
        "wide heads": ("MistralForCausalLM", WIDE_HEADS),
        "questions": ("MistralForQuestionAnswering", GROUPED),
    },
    "qwen2": {
        "untied": ("Qwen2ForCausalLM", GROUPED),
        "tied": ("Qwen2ForCausalLM", {**GROUPED, "tie_word_embeddings": True}),
        "classifier": ("Qwen2ForSequenceClassification", GROUPED),
    },
    "qwen3": {
        "untied": ("Qwen3ForCausalLM", WIDE_HEADS),
        "tied": ("Qwen3ForCausalLM", {**WIDE_HEADS, "tie_word_embeddings": True}),
        "biases": ("Qwen3ForCausalLM", {**WIDE_HEADS, "attention_bias": True}),
    },
    "qwen2_moe": {
        "all sparse": ("Qwen2MoeForCausalLM", MOE),
        "dense first": ("Qwen2MoeForCausalLM", {**MOE, "mlp_only_layers": [0]}),
        "no biases": ("Qwen2MoeForCausalLM", {**MOE, "qkv_bias": False}),
        "every second": ("Qwen2MoeForCausalLM", {**MOE, "decoder_sparse_step": 2}),
    },
    "gpt2": {
        "language model": ("GPT2LMHeadModel", GPT2),
        "untied": ("GPT2LMHeadModel", {**GPT2, "tie_word_embeddings": False}),
        "base": ("GPT2Model", {**GPT2, "n_inner": 24}),
        "classifier": ("GPT2ForSequenceClassification", {**GPT2, "pad_token_id": 0}),
        "token classifier": ("GPT2ForTokenClassification", GPT2),
        "questions": ("GPT2ForQuestionAnswering", GPT2),
        "double heads": ("GPT2DoubleHeadsModel", GPT2),
    },
    "bert": {
        "pretraining": ("BertForPreTraining", BERT),
        "masked": ("BertForMaskedLM", BERT),
        "untied": ("BertForMaskedLM", {**BERT, "tie_word_embeddings": False}),
        "next sentence": ("BertForNextSentencePrediction", BERT),
        "classifier": ("BertForSequenceClassification", BERT),
        "token classifier": ("BertForTokenClassification", BERT),
        "questions": ("BertForQuestionAnswering", BERT),
        "choice": ("BertForMultipleChoice", BERT),
        "base": ("BertModel", BERT),
    },
    "roberta": {
        "masked": ("RobertaForMaskedLM", {**BERT, "type_vocab_size": 1}),
        "untied": ("RobertaForMaskedLM", {**BERT, "tie_word_embeddings": False}),
        "causal": ("RobertaForCausalLM", {**BERT, "is_decoder": True}),
        "classifier": ("RobertaForSequenceClassification", BERT),
        "token classifier": ("RobertaForTokenClassification", BERT),
        "questions": ("RobertaForQuestionAnswering", BERT),
        "base": ("RobertaModel", BERT),
    },
}


def saved(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Names and shapes in the file that a model writes, and the config beside it."""
    kind = getattr(transformers, name)
    model = kind(kind.config_class(**settings))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        with (Path(folder) / "model.safetensors").open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        written = json.loads((Path(folder) / "config.json").read_text())
    header.pop("__metadata__", None)
    config = {key: written[key] for key in KEPT if key in written}
    return {"class": name, "config": config, "tensors": {key: header[key]["shape"] for key in sorted(header)}}


def stated(name: str, module: nn.Module, config: Mapping[str, Any]) -> dict[str, Any]:
    """Names and shapes of a module's state_dict."""
    shapes = {key: list(value.shape) for key, value in sorted(module.state_dict().items())}
    return {"class": name, "config": dict(config), "tensors": shapes}


def named(**members: nn.Module | torch.Tensor) -> nn.Module:
    """A module that holds children and buffers under given names."""
    module = nn.Module()
    for name, member in members.items():
        if isinstance(member, nn.Module):
            module.add_module(name, member)
        else:
            module.register_buffer(name, member)
    return module


def stack(**settings: Any) -> nn.TransformerEncoder:
    """Three encoder layers."""
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 24, **settings), 3, enable_nested_tensor=False)


def torch_encoders() -> dict[str, Callable[[], tuple[nn.Module, dict[str, Any]]]]:
    """Models around ``nn.TransformerEncoder``."""

    def sceptr(tokens: nn.Module, **members: nn.Module) -> nn.Module:
        head = named(projector=nn.Linear(16, 20))
        inner = named(_self_attention_stack=stack(), **members)
        return named(_token_embedder=tokens, _self_attention_stack=inner, _mlm_token_prediction_projector=head)

    def projected(tokens: nn.Module, features: int) -> nn.Module:
        head = named(projector=nn.Linear(16, 20))
        inner = named(
            _initial_projector=nn.Linear(features, 16, bias=False),
            _standard_stack=named(_self_attention_stack=stack()),
        )
        return named(_token_embedder=tokens, _self_attention_stack=inner, _mlm_token_prediction_projector=head)

    def one_hot(tokens: int) -> nn.Module:
        return named(_token_embeddings=torch.cat([torch.zeros(1, tokens - 1), torch.eye(tokens - 1)]))

    blosum = named(_blosum_embeddings=torch.zeros(23, 20), _special_token_embeddings=nn.Embedding(3, 20))
    nested = {"model": {"self_attention_stack": {"initargs": {"num_layers": 3, "d_model": 16, "nhead": 4}}}}
    return {
        "bare": lambda: (stack(), {}),
        "pre-norm with a final norm": lambda: (
            nn.TransformerEncoder(
                nn.TransformerEncoderLayer(16, 4, 24, norm_first=True),
                3,
                norm=nn.LayerNorm(16),
                enable_nested_tensor=False,
            ),
            {"d_model": 16, "nhead": 4, "num_layers": 3, "dim_feedforward": 24},
        ),
        "no biases": lambda: (stack(bias=False), {}),
        "tutorial": lambda: (
            named(
                pos_encoder=named(pe=torch.zeros(50, 1, 16)),
                transformer_encoder=stack(),
                encoder=nn.Embedding(40, 16),
                decoder=nn.Linear(16, 40),
            ),
            {},
        ),
        "sceptr": lambda: (
            projected(named(_token_embedding=one_hot(23), _compartment_embedding=one_hot(7)), 29),
            nested,
        ),
        "sceptr blosum": lambda: (
            projected(named(_blosum_embedding=blosum, _compartment_embedding=one_hot(7)), 27),
            nested,
        ),
        "sceptr left-aligned": lambda: (
            sceptr(
                named(
                    token_embedding=nn.Embedding(23, 16),
                    position_embedding=named(position_embedding_matrix=torch.zeros(101, 16)),
                    compartment_embedding=nn.Embedding(7, 16),
                )
            ),
            nested,
        ),
    }


def main() -> None:
    """Write one file a family."""
    made = f"torch {torch.__version__.partition('+')[0]}, transformers {transformers.__version__}"
    written: dict[str, dict[str, Any]] = {
        family: {case: saved(*recipe) for case, recipe in cases.items()} for family, cases in CASES.items()
    }
    written["torch_transformer_encoder"] = {
        case: stated("nn.TransformerEncoder", *recipe()) for case, recipe in torch_encoders().items()
    }
    for family, cases in written.items():
        (HERE / f"{family}.json").write_text(_lines({"made_with": made, "cases": cases}) + "\n", "utf-8")


def _lines(value: Any, depth: int = 0) -> str:
    """JSON with one tensor or one config a line."""
    if depth == 4 or not isinstance(value, dict) or "model_type" in value or not value:
        return json.dumps(value, sort_keys=True)
    pad = " " * (depth + 1)
    inner = ",\n".join(f"{pad}{json.dumps(key)}: {_lines(value[key], depth + 1)}" for key in sorted(value))
    return "{\n" + inner + "\n" + " " * depth + "}"


if __name__ == "__main__":
    main()
