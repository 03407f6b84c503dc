"""Write tensor names and shapes of model classes that no installable library holds, transcribed from their published sources.

Every family says where it was read: repository, path and commit. The sizes are tiny; ``{0-1}`` stands for each number of the range.
Run from the root of the repository, with nothing installed:

    python -m tests.roles.names.transcribed
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["FAMILIES"]

V, D, H, KV, F, E = 40, 16, 16, 8, 24, 12
"""Tokens, residual channels, query dimensions, key dimensions, FFN units, units of an expert."""

_CONFIG = {
    "vocab_size": V,
    "hidden_size": D,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": F,
}
_GROUPED = {**_CONFIG, "num_key_value_heads": 2}
_L = "model.layers.{0-1}."
_LLAMA = {
    "lm_head.weight": [V, D],
    "model.embed_tokens.weight": [V, D],
    "model.norm.weight": [D],
    f"{_L}input_layernorm.weight": [D],
    f"{_L}post_attention_layernorm.weight": [D],
    f"{_L}self_attn.o_proj.weight": [D, H],
}
_SPLIT = {
    f"{_L}self_attn.q_proj.weight": [H, D],
    f"{_L}self_attn.k_proj.weight": [KV, D],
    f"{_L}self_attn.v_proj.weight": [KV, D],
}
_BIASES = {
    f"{_L}self_attn.q_proj.bias": [H],
    f"{_L}self_attn.k_proj.bias": [KV],
    f"{_L}self_attn.v_proj.bias": [KV],
    f"{_L}self_attn.o_proj.bias": [D],
}
_GATED = {
    f"{_L}mlp.gate_proj.weight": [F, D],
    f"{_L}mlp.up_proj.weight": [F, D],
    f"{_L}mlp.down_proj.weight": [D, F],
}
_MIXED = {
    f"{_L}mlp.gate.weight": [8, D],
    f"{_L}mlp.experts.{{0-7}}.gate_proj.weight": [E, D],
    f"{_L}mlp.experts.{{0-7}}.up_proj.weight": [E, D],
    f"{_L}mlp.experts.{{0-7}}.down_proj.weight": [D, E],
}

_B = "transformer.encoder.layers.{0-1}."
_T = "transformer.h.{0-1}."
FAMILIES: dict[str, tuple[str, dict[str, tuple[dict[str, Any], dict[str, list[int]]]]]] = {
    "pangu_pro_moe": (
        "vllm-project/vllm-ascend, vllm_ascend/models/pangu_moe.py at 082c2581ece856a2b133e073124fbc20b3d21db8",
        {
            "four shared experts in one": (
                {
                    **_GROUPED,
                    "model_type": "PanguProMoE",
                    "num_experts": 8,
                    "num_experts_per_tok": 4,
                    "moe_intermediate_size": E,
                    "shared_expert_intermediate_size": 4 * E,
                },
                {
                    **_LLAMA,
                    **_SPLIT,
                    **_BIASES,
                    **_MIXED,
                    f"{_L}mlp.router_scale": [1, 8],
                    f"{_L}mlp.shared_expert.gate_proj.weight": [4 * E, D],
                    f"{_L}mlp.shared_expert.up_proj.weight": [4 * E, D],
                    f"{_L}mlp.shared_expert.down_proj.weight": [D, 4 * E],
                },
            )
        },
    ),
    "openpangu_embedded": (
        "wujing215/OpenPangu7B-on-NVIDIA, modeling_openpangu_dense.py at 1d101f9f211b2f05d35127cec470bf2178f572d8",
        {
            "biases": (
                {**_GROUPED, "model_type": "PanguEmbedded"},
                {**_LLAMA, **_SPLIT, **_BIASES, **_GATED},
            )
        },
    ),
    "kimi_k2": (
        "vllm-project/vllm, vllm/model_executor/models/kimi_k25.py in release 0.33.0, which builds its language model from the class of "
        "DeepSeek",
        {
            "dense first": (
                {
                    **_CONFIG,
                    "model_type": "kimi_k2",
                    "num_key_value_heads": 4,
                    "n_routed_experts": 8,
                    "moe_intermediate_size": E,
                    "kv_lora_rank": 10,
                    "q_lora_rank": 12,
                    "qk_nope_head_dim": 6,
                    "qk_rope_head_dim": 2,
                    "v_head_dim": 4,
                },
                {
                    **_LLAMA,
                    f"{_L}self_attn.q_a_proj.weight": [12, D],
                    f"{_L}self_attn.q_a_layernorm.weight": [12],
                    f"{_L}self_attn.q_b_proj.weight": [4 * 8, 12],
                    f"{_L}self_attn.kv_a_proj_with_mqa.weight": [10 + 2, D],
                    f"{_L}self_attn.kv_a_layernorm.weight": [10],
                    f"{_L}self_attn.kv_b_proj.weight": [4 * (6 + 4), 10],
                    **{name.replace("{0-1}", "0"): shape for name, shape in _GATED.items()},
                    **{name.replace("{0-1}", "1"): shape for name, shape in _MIXED.items()},
                    "model.layers.1.mlp.gate.e_score_correction_bias": [8],
                    "model.layers.1.mlp.shared_experts.gate_proj.weight": [E, D],
                    "model.layers.1.mlp.shared_experts.up_proj.weight": [E, D],
                    "model.layers.1.mlp.shared_experts.down_proj.weight": [D, E],
                },
            )
        },
    ),
    "baichuan": (
        "jrd77/Baichuan2-13B-Chat, modeling_baichuan.py at 35e3d5af948ecfe718bbb31633f053ae2a063725; of the 7B the speeds of its "
        "rotary positions as well",
        {
            "alibi": (
                {**_CONFIG, "model_type": "baichuan"},
                {**_LLAMA, **_GATED, f"{_L}self_attn.W_pack.weight": [3 * D, D]},
            ),
            "rotary": (
                {**_CONFIG, "model_type": "baichuan"},
                {
                    **_LLAMA,
                    **_GATED,
                    f"{_L}self_attn.W_pack.weight": [3 * D, D],
                    f"{_L}self_attn.rotary_emb.inv_freq": [2],
                },
            ),
        },
    ),
    "minicpm": (
        "vllm-project/vllm, vllm/model_executor/models/minicpm.py in release 0.33.0",
        {
            "tied": (
                {**_GROUPED, "model_type": "minicpm", "tie_word_embeddings": True},
                {
                    name: shape
                    for name, shape in {**_LLAMA, **_SPLIT, **_GATED}.items()
                    if not name.startswith("lm_head")
                },
            ),
        },
    ),
    "internlm2": (
        "vllm-project/vllm, vllm/model_executor/models/internlm2.py in release 0.33.0; the order of heads as in "
        "modeling_internlm2.py of its checkpoints, 'b q (h gs d) -> b q h gs d'",
        {
            "grouped": (
                {**_GROUPED, "model_type": "internlm2"},
                {
                    "model.tok_embeddings.weight": [V, D],
                    f"{_L}attention_norm.weight": [D],
                    f"{_L}attention.wqkv.weight": [H + 2 * KV, D],
                    f"{_L}attention.wo.weight": [D, H],
                    f"{_L}ffn_norm.weight": [D],
                    f"{_L}feed_forward.w1.weight": [F, D],
                    f"{_L}feed_forward.w3.weight": [F, D],
                    f"{_L}feed_forward.w2.weight": [D, F],
                    "model.norm.weight": [D],
                    "output.weight": [V, D],
                },
            )
        },
    ),
    "chatglm": (
        "vllm-project/vllm, vllm/model_executor/models/chatglm.py in release 0.33.0, for the names; "
        "czk1997/chatglm3-copy, modeling_chatglm.py at 00f2a120452a7e7b874858d8216aca785743c519",
        {
            "two key heads": (
                {
                    "model_type": "chatglm",
                    "padded_vocab_size": V,
                    "hidden_size": D,
                    "num_layers": 2,
                    "num_attention_heads": 4,
                    "multi_query_group_num": 2,
                    "kv_channels": 4,
                    "ffn_hidden_size": F,
                },
                {
                    "transformer.embedding.word_embeddings.weight": [V, D],
                    "transformer.rotary_pos_emb.inv_freq": [1],
                    f"{_B}input_layernorm.weight": [D],
                    f"{_B}self_attention.query_key_value.weight": [H + 2 * KV, D],
                    f"{_B}self_attention.query_key_value.bias": [H + 2 * KV],
                    f"{_B}self_attention.dense.weight": [D, H],
                    f"{_B}post_attention_layernorm.weight": [D],
                    f"{_B}mlp.dense_h_to_4h.weight": [2 * F, D],
                    f"{_B}mlp.dense_4h_to_h.weight": [D, F],
                    "transformer.encoder.final_layernorm.weight": [D],
                    "transformer.output_layer.weight": [V, D],
                },
            )
        },
    ),
    "qwen": (
        "zhangningboo/Qwen-7B, modeling_qwen.py at 1ff20863b9e9c48b1550d42837331cb55ddfb4e0",
        {
            "language model": (
                {
                    "model_type": "qwen",
                    "vocab_size": V,
                    "hidden_size": D,
                    "num_hidden_layers": 2,
                    "num_attention_heads": 4,
                    "intermediate_size": 2 * F,
                },
                {
                    "transformer.wte.weight": [V, D],
                    f"{_T}ln_1.weight": [D],
                    f"{_T}attn.c_attn.weight": [3 * D, D],
                    f"{_T}attn.c_attn.bias": [3 * D],
                    f"{_T}attn.c_proj.weight": [D, D],
                    f"{_T}ln_2.weight": [D],
                    f"{_T}mlp.w1.weight": [F, D],
                    f"{_T}mlp.w2.weight": [F, D],
                    f"{_T}mlp.c_proj.weight": [D, F],
                    "transformer.ln_f.weight": [D],
                    "lm_head.weight": [V, D],
                },
            )
        },
    ),
    "exaone": (
        "vllm-project/vllm, vllm/model_executor/models/exaone.py in release 0.33.0",
        {
            "grouped": (
                {
                    "model_type": "exaone",
                    "vocab_size": V,
                    "hidden_size": D,
                    "num_layers": 2,
                    "num_attention_heads": 4,
                    "num_key_value_heads": 2,
                    "intermediate_size": F,
                },
                {
                    "transformer.wte.weight": [V, D],
                    f"{_T}ln_1.weight": [D],
                    f"{_T}attn.attention.q_proj.weight": [H, D],
                    f"{_T}attn.attention.k_proj.weight": [KV, D],
                    f"{_T}attn.attention.v_proj.weight": [KV, D],
                    f"{_T}attn.attention.out_proj.weight": [D, H],
                    f"{_T}ln_2.weight": [D],
                    f"{_T}mlp.c_fc_0.weight": [F, D],
                    f"{_T}mlp.c_fc_1.weight": [F, D],
                    f"{_T}mlp.c_proj.weight": [D, F],
                    "transformer.ln_f.weight": [D],
                    "lm_head.weight": [V, D],
                },
            )
        },
    ),
}


def main() -> None:
    """Write one file a family."""
    for family, (source, cases) in FAMILIES.items():
        lines = [
            f'  {json.dumps(case)}: {{\n   "config": {json.dumps(config, sort_keys=True)},\n   "tensors": {{\n'
            + ",\n".join(f"    {json.dumps(name)}: {json.dumps(shapes[name])}" for name in sorted(shapes))
            + "\n   }\n  }"
            for case, (config, shapes) in cases.items()
        ]
        text = (
            '{\n "cases": {\n'
            + ",\n".join(lines)
            + f'\n }},\n "made_with": {json.dumps("transcribed from " + source)}\n}}\n'
        )
        (Path(__file__).parent / f"{family}.json").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
