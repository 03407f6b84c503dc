"""Makes the reference values: tiny models with adapters that PEFT made, saved and merged.

    python tests/checkpoint/adapters/make_reference.py tests/checkpoint/adapters/reference

needs torch 2.13.0, transformers 5.23.0 and peft 0.21.2; the tests need none of them. Each case is a folder with ``adapter`` (as PEFT
saves it) and ``merged.npz``, the tensors of ``merge_and_unload`` that differ from the base; the bases lie beside them, as transformers
saves them.
Weights of the adapter are drawn, not trained: PEFT starts with B = 0, which would merge to nothing.
"""

# mypy: disable-error-code="import-not-found,import-untyped,no-untyped-call"
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

_PLAIN = ["q_proj", "v_proj", "down_proj"]
_CASES: dict[str, dict[str, Any]] = {
    "plain": {"r": 4, "lora_alpha": 8, "target_modules": _PLAIN},
    "patterns": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": _PLAIN,
        "rank_pattern": {"layers.0.self_attn.q_proj": 2, "down_proj": 6},
        "alpha_pattern": {"v_proj": 3},
    },
    "rslora": {"r": 4, "lora_alpha": 8, "target_modules": _PLAIN, "use_rslora": True},
    "dora": {"r": 4, "lora_alpha": 8, "target_modules": _PLAIN, "use_dora": True},
    "saved": {
        "r": 2,
        "lora_alpha": 8,
        "target_modules": ["q_proj"],
        "bias": "lora_only",
        "modules_to_save": ["lm_head", "norm"],
    },
    "embedding": {"r": 4, "lora_alpha": 8, "target_modules": ["embed_tokens", "up_proj"]},
    "conv1d": {"r": 4, "lora_alpha": 8, "target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True},
}


def base_of(case: str) -> str:
    return {"conv1d": "gpt2", "saved": "llama-biased"}.get(case, "llama")


def make_base(kind: str) -> torch.nn.Module:
    if kind == "gpt2":
        shape = GPT2Config(vocab_size=24, n_embd=16, n_layer=1, n_head=2, n_positions=8, bos_token_id=0, eos_token_id=1)
        return GPT2LMHeadModel(shape)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=24,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            attention_bias=kind == "llama-biased",
            tie_word_embeddings=False,
        )
    )


def make(folder: Path, case: str) -> None:
    torch.manual_seed(3)
    base = make_base(base_of(case))
    bases = folder.parent / "bases" / base_of(case)
    base.save_pretrained(bases)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **_CASES[case]))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    model.peft_config["default"].base_model_name_or_path = "example/tiny"
    model.save_pretrained(folder / "adapter")
    after = model.merge_and_unload().state_dict()
    changed = {name: tensor.numpy() for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    np.savez_compressed(folder / "merged.npz", **changed)
    for extra in ("README.md", "generation_config.json"):
        for place in (bases, folder / "adapter"):
            (place / extra).unlink(missing_ok=True)


if __name__ == "__main__":
    for name in _CASES:
        make(Path(sys.argv[1]) / name, name)
