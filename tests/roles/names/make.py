"""Write the tensor names and shapes of tiny instances of the real model classes, as JSON beside this script.

The tests read the JSON, where ``{0-2}`` in a name stands for each number of the range; this script needs ``torch`` and
``transformers``, which homolog itself never does. Run it from the root of the repository:

    pip install torch==2.13.0 transformers==5.23.0
    python -m tests.roles.names.make [family …]

Models of transformers are saved and the header of the saved file is read, so that the names are those of published checkpoints
(tied tensors left out, experts one by one), not those in memory. The modules of SCEPTR are rebuilt with the attribute names of
yutanagano/libtcrlm at 5b309af56a56fefffa720a56879f960e8eff4e25 (src/libtcrlm).
"""

from __future__ import annotations

import json
import struct
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from tests.roles.names.folded import fold
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

TINY = {**SMALL, "num_hidden_layers": 2}
TINY_GROUPED = {**TINY, "num_key_value_heads": 2}
TINY_WIDE = {**TINY_GROUPED, "head_dim": 8}
LATENT = {
    **TINY,
    "num_key_value_heads": 4,
    "kv_lora_rank": 10,
    "q_lora_rank": 12,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 2,
    "v_head_dim": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 2,
    "moe_intermediate_size": 20,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
}
VISION = {**TINY, "image_size": 8, "patch_size": 4}

Recipes = dict[str, dict[str, tuple[str, dict[str, Any]]]]

DECODERS: Recipes = {
    "gemma": {"tied": ("GemmaForCausalLM", TINY_WIDE), "classifier": ("GemmaForSequenceClassification", TINY_WIDE)},
    "gemma2": {"tied": ("Gemma2ForCausalLM", TINY_WIDE)},
    "gemma3": {
        "text": ("Gemma3ForCausalLM", TINY_WIDE),
        "with a vision tower": (
            "Gemma3ForConditionalGeneration",
            {"text_config": TINY_WIDE, "vision_config": VISION, "mm_tokens_per_image": 4},
        ),
    },
    "phi": {"language model": ("PhiForCausalLM", TINY), "normed": ("PhiForCausalLM", {**TINY, "qk_layernorm": True})},
    "phi3": {
        "grouped": ("Phi3ForCausalLM", {**TINY_GROUPED, "pad_token_id": 0}),
        "plain": ("Phi3ForCausalLM", {**TINY, "pad_token_id": 0}),
    },
    "gpt_neox": {
        "language model": ("GPTNeoXForCausalLM", TINY),
        "no biases": ("GPTNeoXForCausalLM", {**TINY, "attention_bias": False}),
        "classifier": ("GPTNeoXForSequenceClassification", TINY),
    },
    "gptj": {"language model": ("GPTJForCausalLM", {**GPT2, "n_layer": 2, "rotary_dim": 2})},
    "gpt_neo": {
        "language model": (
            "GPTNeoForCausalLM",
            {
                "vocab_size": 40,
                "hidden_size": 16,
                "num_layers": 2,
                "num_heads": 4,
                "max_position_embeddings": 32,
                "attention_types": [[["global", "local"], 1]],
            },
        )
    },
    "gpt_bigcode": {
        "one key head": ("GPTBigCodeForCausalLM", {**GPT2, "n_layer": 2}),
        "many key heads": ("GPTBigCodeForCausalLM", {**GPT2, "n_layer": 2, "multi_query": False}),
    },
    "falcon": {
        "one key head": ("FalconForCausalLM", TINY),
        "grouped": ("FalconForCausalLM", {**TINY, "new_decoder_architecture": True, "num_kv_heads": 2}),
        "grouped, one norm": (
            "FalconForCausalLM",
            {**TINY, "new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1},
        ),
        "alibi, biases": (
            "FalconForCausalLM",
            {**TINY, "multi_query": False, "parallel_attn": False, "bias": True, "alibi": True},
        ),
    },
    "opt": {
        "language model": (
            "OPTForCausalLM",
            {**TINY, "ffn_dim": 24, "word_embed_proj_dim": 16, "max_position_embeddings": 32},
        ),
    },
    "opt_projected": {
        "language model": (
            "OPTForCausalLM",
            {
                **TINY,
                "ffn_dim": 24,
                "word_embed_proj_dim": 8,
                "do_layer_norm_before": False,
                "max_position_embeddings": 32,
            },
        ),
    },
    "bloom": {"language model": ("BloomForCausalLM", {"vocab_size": 40, "hidden_size": 16, "n_layer": 2, "n_head": 4})},
    "mpt": {
        "language model": (
            "MptForCausalLM",
            {"vocab_size": 40, "d_model": 16, "n_layers": 2, "n_heads": 4, "max_seq_len": 32},
        )
    },
    "glm": {"language model": ("GlmForCausalLM", {**TINY_WIDE, "pad_token_id": 0})},
    "glm4": {"language model": ("Glm4ForCausalLM", {**TINY_WIDE, "pad_token_id": 0, "attention_bias": True})},
    "olmo": {"language model": ("OlmoForCausalLM", TINY_GROUPED)},
    "olmo2": {"language model": ("Olmo2ForCausalLM", TINY_GROUPED)},
    "stablelm": {
        "language model": ("StableLmForCausalLM", TINY_GROUPED),
        "biases": ("StableLmForCausalLM", {**TINY_GROUPED, "use_qkv_bias": True}),
        "normed by head": ("StableLmForCausalLM", {**TINY_GROUPED, "qk_layernorm": True}),
        "parallel": ("StableLmForCausalLM", {**TINY_GROUPED, "use_parallel_residual": True}),
    },
    "starcoder2": {"language model": ("Starcoder2ForCausalLM", TINY_GROUPED)},
    "minicpm3": {
        "language model": (
            "MiniCPM3ForCausalLM",
            {**{key: LATENT[key] for key in LATENT if "rank" in key or "head_dim" in key}, **TINY},
        )
    },
    "cohere": {
        "tied": ("CohereForCausalLM", TINY_GROUPED),
        "normed": ("CohereForCausalLM", {**TINY_GROUPED, "use_qk_norm": True}),
        "without positions": ("Cohere2ForCausalLM", TINY_GROUPED),
    },
    "granite": {"language model": ("GraniteForCausalLM", TINY_GROUPED)},
    "nemotron": {"language model": ("NemotronForCausalLM", {**TINY_WIDE, "pad_token_id": 0})},
    "exaone4": {"language model": ("Exaone4ForCausalLM", TINY_GROUPED)},
    "hunyuan_v1_dense": {"language model": ("HunYuanDenseV1ForCausalLM", {**TINY_WIDE, "pad_token_id": 0})},
    "ernie4_5": {"language model": ("Ernie4_5ForCausalLM", TINY_WIDE)},
    "smollm3": {"language model": ("SmolLM3ForCausalLM", {**TINY_GROUPED, "pad_token_id": 0})},
    "seed_oss": {"language model": ("SeedOssForCausalLM", TINY_WIDE)},
}

MIXTURES: Recipes = {
    "mixtral": {"language model": ("MixtralForCausalLM", {**TINY_GROUPED, "num_local_experts": 4})},
    "qwen3_moe": {
        "all sparse": ("Qwen3MoeForCausalLM", {**TINY_WIDE, "num_experts": 4, "moe_intermediate_size": 20}),
        "dense first": (
            "Qwen3MoeForCausalLM",
            {
                **TINY_WIDE,
                "num_experts": 4,
                "moe_intermediate_size": 20,
                "mlp_only_layers": [0],
                "attention_bias": True,
            },
        ),
    },
    "olmoe": {"language model": ("OlmoeForCausalLM", {**TINY_GROUPED, "num_experts": 4})},
    "granitemoe": {"language model": ("GraniteMoeForCausalLM", {**TINY_GROUPED, "num_local_experts": 4})},
    "phimoe": {
        "language model": (
            "PhimoeForCausalLM",
            {**TINY_GROUPED, "num_local_experts": 4, "attention_bias": True, "lm_head_bias": True},
        )
    },
    "deepseek_v2": {
        "dense first": ("DeepseekV2ForCausalLM", LATENT),
        "one query projection": ("DeepseekV2ForCausalLM", {**LATENT, "q_lora_rank": None}),
    },
    "deepseek_v3": {
        "dense first": ("DeepseekV3ForCausalLM", LATENT),
        "one query projection": ("DeepseekV3ForCausalLM", {**LATENT, "q_lora_rank": None}),
    },
    "glm4_moe": {
        "dense first": (
            "Glm4MoeForCausalLM",
            {
                **TINY_WIDE,
                "n_routed_experts": 4,
                "moe_intermediate_size": 20,
                "attention_bias": True,
                "use_qk_norm": True,
                "pad_token_id": 0,
            },
        )
    },
    "gpt_oss": {"language model": ("GptOssForCausalLM", {**TINY_WIDE, "num_local_experts": 4})},
    "llama4_text": {
        "language model": (
            "Llama4ForCausalLM",
            {**TINY_WIDE, "num_local_experts": 4, "intermediate_size_mlp": 20, "interleave_moe_layer_step": 2},
        )
    },
    "hunyuan_v1_moe": {
        "language model": ("HunYuanMoEV1ForCausalLM", {**TINY_WIDE, "num_experts": 4, "moe_topk": 2, "pad_token_id": 0})
    },
    "ernie4_5_moe": {
        "dense first": (
            "Ernie4_5_MoeForCausalLM",
            {
                **TINY_GROUPED,
                "moe_num_experts": 4,
                "moe_num_shared_experts": 2,
                "moe_intermediate_size": 20,
                "moe_layer_start_index": 1,
            },
        )
    },
}

SEQ = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "vocab_size": 40,
}
CLIP_TEXT = {**TINY, "max_position_embeddings": 32, "projection_dim": 12}
ENCODERS: Recipes = {
    "distilbert": {
        case: (
            kind,
            {"vocab_size": 40, "dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24, "max_position_embeddings": 32},
        )
        for case, kind in {
            "masked": "DistilBertForMaskedLM",
            "base": "DistilBertModel",
            "classifier": "DistilBertForSequenceClassification",
            "questions": "DistilBertForQuestionAnswering",
        }.items()
    },
    "albert": {
        case: (kind, {**TINY, "embedding_size": 8, "max_position_embeddings": 32})
        for case, kind in {
            "pretraining": "AlbertForPreTraining",
            "masked": "AlbertForMaskedLM",
            "base": "AlbertModel",
            "classifier": "AlbertForSequenceClassification",
            "questions": "AlbertForQuestionAnswering",
        }.items()
    }
    | {
        "two groups": (
            "AlbertModel",
            {**TINY, "embedding_size": 8, "num_hidden_groups": 2, "max_position_embeddings": 32},
        )
    },
    "mpnet": {
        case: (kind, {**TINY, "max_position_embeddings": 32})
        for case, kind in {
            "masked": "MPNetForMaskedLM",
            "base": "MPNetModel",
            "classifier": "MPNetForSequenceClassification",
            "questions": "MPNetForQuestionAnswering",
        }.items()
    },
    "electra": {
        case: (kind, {**TINY, "embedding_size": 8, "max_position_embeddings": 32})
        for case, kind in {
            "discriminator": "ElectraForPreTraining",
            "generator": "ElectraForMaskedLM",
            "base": "ElectraModel",
            "classifier": "ElectraForSequenceClassification",
            "questions": "ElectraForQuestionAnswering",
        }.items()
    },
    "electra_base": {
        case: (kind, {**TINY, "embedding_size": 16, "max_position_embeddings": 32})
        for case, kind in {
            "discriminator": "ElectraForPreTraining",
            "generator": "ElectraForMaskedLM",
            "token classifier": "ElectraForTokenClassification",
        }.items()
    },
    "modernbert": {
        "masked": (
            "ModernBertForMaskedLM",
            {**TINY, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
        ),
        "base": (
            "ModernBertModel",
            {**TINY, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
        ),
    },
    "t5": {
        "tied": (
            "T5ForConditionalGeneration",
            {"vocab_size": 40, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4},
        ),
        "encoder": (
            "T5EncoderModel",
            {"vocab_size": 40, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4},
        ),
    },
    "t5_gated": {
        "untied": (
            "T5ForConditionalGeneration",
            {
                "vocab_size": 40,
                "d_model": 16,
                "d_kv": 4,
                "d_ff": 24,
                "num_layers": 2,
                "num_decoder_layers": 3,
                "num_heads": 4,
                "feed_forward_proj": "gated-gelu",
                "tie_word_embeddings": False,
            },
        ),
    },
    "bart": {
        "language model": (
            "BartForConditionalGeneration",
            {**SEQ, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 32},
        ),
        "base": ("BartModel", {**SEQ, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 32}),
    },
    "whisper": {
        "speech to text": (
            "WhisperForConditionalGeneration",
            {
                **SEQ,
                "encoder_ffn_dim": 24,
                "decoder_ffn_dim": 24,
                "num_mel_bins": 6,
                "max_source_positions": 20,
                "max_target_positions": 12,
                "pad_token_id": 0,
            },
        ),
        "base": (
            "WhisperModel",
            {
                **SEQ,
                "encoder_ffn_dim": 24,
                "decoder_ffn_dim": 24,
                "num_mel_bins": 6,
                "max_source_positions": 20,
                "max_target_positions": 12,
                "pad_token_id": 0,
            },
        ),
    },
    "vit": {"base": ("ViTModel", VISION), "classifier": ("ViTForImageClassification", VISION)},
    "clip_text": {
        "projected": ("CLIPTextModelWithProjection", CLIP_TEXT),
        "base": ("CLIPTextModel", CLIP_TEXT),
        "with a vision tower": (
            "CLIPModel",
            {"text_config": CLIP_TEXT, "vision_config": {**VISION, "num_hidden_layers": 1}, "projection_dim": 12},
        ),
    },
    "clip_vision": {
        "projected": ("CLIPVisionModelWithProjection", {**VISION, "projection_dim": 12}),
        "base": ("CLIPVisionModel", VISION),
    },
}

CASES: Recipes = {
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
    **DECODERS,
    **MIXTURES,
    **ENCODERS,
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
    return {"class": name, "config": sizes(written), "tensors": {key: header[key]["shape"] for key in sorted(header)}}


def held(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Names and shapes in memory, where release 5 joins the experts of a layer, and the config."""
    kind = getattr(transformers, name)
    model = kind(kind.config_class(**settings))
    shapes = {key: list(value.shape) for key, value in sorted(model.state_dict().items())}
    return {"class": name, "config": sizes(model.config.to_dict()), "tensors": shapes}


def sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a config.json says of names and shapes: its whole numbers, and the kind of model."""
    kept = {key: value for key, value in config.items() if type(value) is int and not key.endswith("token_id")}
    nested = {key: sizes(value) for key, value in config.items() if key.endswith("_config") and isinstance(value, dict)}
    words = {key: config[key] for key in ("model_type", "tie_word_embeddings", "head_dim", "n_inner") if key in config}
    return dict(sorted({**kept, **nested, **words}.items()))


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
    """Write one file a family, of all families or of those that are named."""
    made = f"torch {torch.__version__.partition('+')[0]}, transformers {transformers.__version__}"
    wanted = sys.argv[1:] or [*CASES, "torch_transformer_encoder"]
    for family in wanted:
        if family == "torch_transformer_encoder":
            cases = {case: stated("nn.TransformerEncoder", *recipe()) for case, recipe in torch_encoders().items()}
        else:
            cases = {case: saved(*recipe) for case, recipe in CASES[family].items()}
            if family in (*MIXTURES, "qwen2_moe"):
                cases["in memory"] = held(*next(iter(CASES[family].values())))
        for case in cases.values():
            case["tensors"] = fold(case["tensors"])
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
