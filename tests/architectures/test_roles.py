"""What a tensor is for: names of many families, read by where in the block they stand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.architectures.roles import Role, end_role_of, role_of

IN_A_LAYER = {
    Role.ATTENTION_OUTPUT: [
        "self_attn.o_proj.weight", "self_attn.out_proj.weight", "attn.c_proj.weight", "attention.dense.weight",
        "self_attention.dense.weight", "attention.output.dense.weight", "attention.output.weight", "attn.wo_b.weight",
        "attention.wo.weight", "self_attn.0.o_proj.weight", "self_attn.o_proj.linear.weight", "mixer.o_proj.weight",
        "norm_attn_norm.attn.out_proj.weight", "temporal_block.o_proj.weight", "cross_attn.o_proj.weight",
        "self_attention.experts.output_linear.weight", "rel_attn.o", "self_attn.o_proj.qweight",
    ],
    Role.MLP_OUTPUT: [
        "mlp.down_proj.weight", "mlp.c_proj.weight", "mlp.fc2.weight", "fc2.weight", "mlp.fc_out.weight",
        "mlp.dense_4h_to_h.weight", "output.dense.weight", "feed_forward.w2.weight", "mlp.Wo.weight", "ffn.2.weight",
        "block_sparse_moe.experts.3.w2.weight", "mlp.experts.7.down_proj.weight", "mlp.experts.down_proj",
        "mlp.shared_expert.down_proj.weight", "mlp.shared_experts.down_proj.weight", "shared_mlp.output_linear.weight",
        "feed_forward.value.weight", "mixer.experts.0.down_proj.weight", "ffn.experts.mlp.w2",
        "mlps.1.down_proj.weight",
    ],
    Role.MIXER_OUTPUT: [
        "mixer.out_proj.weight", "mamba.out_proj.weight", "linear_attn.o_proj.weight", "conv.out_proj.weight",
        "temporal_block.linear_out.weight", "mamba_decoder.mamba.out_proj.weight",
    ],
    Role.OUTPUT_BIAS: [
        "self_attn.o_proj.bias", "attn.c_proj.bias", "attention.dense.bias", "attention.dense_bias", "mlp.fc2.bias",
        "mlp.experts.down_proj_bias", "mlp.bias", "self_attention.experts.bias", "output.dense.bias",
    ],
    Role.ROUTER: [
        "mlp.gate.weight", "block_sparse_moe.gate.weight", "feed_forward.router.weight", "mixer.gate.weight",
        "mlp.shared_expert_gate.weight", "mlp.router.bias", "mlp.gate.e_score_correction_bias", "mlp.expert_bias",
        "self_attention.experts.router.layer.weight",
    ],
    Role.MLP_INPUT: [
        "mlp.gate_proj.weight", "mlp.up_proj.bias", "mlp.experts.gate_up_proj", "intermediate.dense.weight",
        "feed_forward.key.weight", "fc1.bias", "block_sparse_moe.experts.3.w1.weight", "mlp.experts.gate_up_proj_bias",
    ],
    Role.NORM: [
        "input_layernorm.weight", "post_attention_layernorm.bias", "ln_1.weight", "self_attn.q_norm.weight",
        "attention.output.LayerNorm.weight", "post_attention_layernorm.0.weight", "mixer.norm.weight",
        "norm_attn_norm.norm_1.weight",
    ],
    Role.ATTENTION_QUERY: ["self_attn.q_proj.weight", "attention.self.query.bias", "self_attn.q_b_proj.weight"],
    Role.ATTENTION_KEY: ["self_attn.k_proj.weight", "attention.self.key.weight", "self_attn.k_proj.bias"],
    Role.ATTENTION_VALUE: ["self_attn.v_proj.weight", "attention.value.weight"],
    Role.ATTENTION_OTHER: [
        "attn.c_attn.weight", "self_attn.qkv_proj.weight", "self_attn.sinks", "self_attn.indexer.wk.weight",
        "self_attn.rel_logits_proj.proj", "attn.wo_a.weight", "self_attn.gate_proj.weight",
    ],
    Role.MIXER: ["mamba.in_proj.weight", "mixer.A_log", "linear_attn.q_proj.weight", "conv.conv.weight"],
    Role.OTHER: ["layer_scalar", "rotary_emb.inv_freq", "weight"],
}  # fmt: skip

AT_AN_END = {
    Role.EMBEDDING: [
        "model.embed_tokens.weight", "wte.weight", "gpt_neox.embed_in.weight", "transformer.word_embeddings.weight",
        "backbone.embeddings.weight", "bert.embeddings.word_embeddings.weight", "transformer.tokens_embed.weight",
    ],
    Role.POSITIONS: [
        "wpe.weight", "model.decoder.embed_positions.weight", "bert.embeddings.position_embeddings.weight",
    ],
    Role.HEAD: [
        "lm_head.weight", "lm_head.bias", "embed_out.weight", "cls.predictions.transform.dense.weight", "head.weight",
        "language_model.lm_head.weight", "lm_head.layer_norm.weight",
    ],
    Role.FINAL_NORM: [
        "model.norm.weight", "transformer.ln_f.bias", "model.final_layernorm.weight", "backbone.norm_f.weight",
        "model.embedding_norm.weight",
    ],
    Role.NORM: ["bert.embeddings.LayerNorm.weight", "transformer.word_embeddings_layernorm.bias"],
    Role.OTHER: ["bert.embeddings.token_type_embeddings.weight", "model.decoder.project_in.weight"],
}  # fmt: skip


@pytest.mark.parametrize(("suffix", "role"), [(name, role) for role, names in IN_A_LAYER.items() for name in names])
def test_a_tensor_of_a_layer_is_known_by_its_block_and_its_word(suffix: str, role: Role) -> None:
    assert role_of(suffix) is role


@pytest.mark.parametrize(("name", "role"), [(name, role) for role, names in AT_AN_END.items() for name in names])
def test_a_tensor_outside_the_layers_is_known_by_its_word(name: str, role: Role) -> None:
    assert end_role_of(name) is role


@given(st.lists(st.text(alphabet="abo_12.", max_size=9), min_size=1, max_size=4).map(".".join))
def test_any_name_has_a_role(name: str) -> None:
    assert isinstance(role_of(name), Role)
    assert isinstance(end_role_of(name), Role)
