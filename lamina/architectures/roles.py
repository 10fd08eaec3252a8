"""What a tensor of a layer is for, told from its name: `self_attn.o_proj.weight` is an attention's output.

The same last word means one thing in one block and another thing in the next (`dense`, `c_proj`, `w2`), so a name
is read from the outside in: first the block that it stands in, then the word in it.
"""

from __future__ import annotations

import re
from enum import StrEnum


class Role(StrEnum):
    """What a tensor is for. The `*_OUTPUT` roles are the last matrices of what is added to the residual stream."""

    EMBEDDING = "embedding"
    POSITIONS = "position embedding"
    HEAD = "head"
    FINAL_NORM = "final norm"
    NORM = "norm"
    ATTENTION_QUERY = "attention query"
    ATTENTION_KEY = "attention key"
    ATTENTION_VALUE = "attention value"
    ATTENTION_OTHER = "attention"
    ATTENTION_OUTPUT = "attention output"
    MLP_INPUT = "MLP input"
    MLP_OUTPUT = "MLP output"  # of each expert, of the shared expert, of experts packed in one tensor
    ROUTER = "router"
    MIXER = "mixer"
    MIXER_OUTPUT = "mixer output"
    OUTPUT_BIAS = "bias of an output"
    OTHER = "other"


OUTPUTS = (Role.ATTENTION_OUTPUT, Role.MLP_OUTPUT, Role.MIXER_OUTPUT)

_ATTENTION = re.compile(r"attn|attention|^self_att$")
_MIXER = re.compile(r"^(mamba|linear_attn|conv|ssm|mlstm_layer|short_conv)")
_MLP = re.compile(r"mlp|ffn|^feed_?forward|^ff$|moe|expert|^(intermediate|output|fc1|fc2|fc_in|fc_out)$|^per_layer_")
_ANY_BLOCK = re.compile(r"^(mixer|temporal_block|recurrent_block)$")  # one name for whatever stands there
_NORM = re.compile(r"norm|^ln(_?\w)?$|_ln$|^ln_")
_NORM_BLOCK = re.compile(r"^(?!norm_).*norm$")
_ROUTER = re.compile(r"router|^gate$|^shared_expert_gate$|^moe_statics$|e_score_correction|^expert_bias$")

# The last matrix of a block, as models name it: wherever it stands, and in one kind of block alone.
_OUTPUT = re.compile(
    r"^(o_proj|out_proj|c_proj|dense|wo|wo_b|wo_ud|o|out|out_lin|output|attention_out|linear_out|output_linear)$"
)
_MLP_OUTPUT = re.compile(
    r"^(down_proj|c_proj|dense_4h_to_h|fc2|fc_out|lin2|linear_2|linear_fc2|layer_2|w2|w2_weight|wo|w_out|proj_down|"
    r"output_linear|output|value|out_proj|o_proj|proj_2|dense_2|2|per_layer_projection)$"
)
_QUERY = re.compile(r"^(q|wq|q_(a_|b_)?proj|query|query_proj|project_q|q_lin|wq_\w+)$")
_KEY = re.compile(r"^(k|wk|k_proj|key|key_proj|project_k|k_lin|wk_\w+)$")
_VALUE = re.compile(r"^(v|wv|v_proj|value|value_proj|project_v|v_lin|wv_\w+)$")

_PARAMETER = re.compile(r"^(weight|bias|qweight|qzeros|scales|g_idx)$|^weight_|_scale$|_scale_inv$|^lora_")
_BIAS = re.compile(r"^(.*)_bias$")


def role_of(suffix: str) -> Role:
    """The role of a tensor of a layer. `suffix` is its name behind the layer's number: `mlp.down_proj.weight`."""
    *blocks, word = (part.lower() for part in suffix.split("."))
    is_bias = word == "bias"
    if _PARAMETER.search(word) and blocks:
        *blocks, word = blocks
        if word == "linear" and blocks:  # a projection in a wrapper: o_proj.linear.weight
            *blocks, word = blocks
    elif (packed := _BIAS.match(word)) and not _ROUTER.search(word):  # experts.down_proj_bias, attention.dense_bias
        is_bias, word = True, packed[1]
    # A block's own bias (`mlp.bias`) is added to what the whole block gives.
    role = _role(blocks, word)
    return Role.OUTPUT_BIAS if is_bias and (role in OUTPUTS or word in ("mlp", "experts")) else role


def _role(blocks: list[str], word: str) -> Role:
    if _NORM.search(word) or any(map(_NORM_BLOCK.match, blocks)):
        return Role.NORM
    kind = _kind(blocks, word)
    routers = [part for part in (*blocks, word) if _ROUTER.search(part)]
    if routers and (kind is not Role.ATTENTION_OTHER or any("router" in part for part in routers)):
        return Role.ROUTER
    if kind is Role.ATTENTION_OTHER and "indexer" not in blocks:
        return _in_attention(word)
    if kind is Role.MLP_INPUT:
        # A dense layer's second matrix is called `output.dense` (BERT), its first `intermediate.dense`.
        is_output = _MLP_OUTPUT.match(word) or (word == "dense" and blocks[-1:] == ["output"])
        return Role.MLP_OUTPUT if is_output else Role.MLP_INPUT
    if kind is Role.MIXER and _OUTPUT.match(word):
        return Role.MIXER_OUTPUT
    return kind


def _kind(blocks: list[str], word: str) -> Role:
    """Which kind of block a word stands in: the innermost one that says so."""
    in_attention = any(_ATTENTION.search(block) and not _MIXER.search(block) for block in blocks)
    for block in reversed(blocks):
        if in_attention and block in ("output", "experts"):  # attention.output.dense, experts of an attention
            continue
        if _ANY_BLOCK.match(block):
            return _kind_of_word(word)
        for found, kind in ((_MIXER, Role.MIXER), (_ATTENTION, Role.ATTENTION_OTHER), (_MLP, Role.MLP_INPUT)):
            if found.search(block):
                return kind
    if _MLP.search(word):
        return Role.MLP_INPUT
    return Role.ATTENTION_OTHER if _ATTENTION.search(word) else Role.OTHER


def _kind_of_word(word: str) -> Role:
    if word in ("q_proj", "k_proj", "v_proj", "o_proj"):
        return Role.ATTENTION_OTHER
    return Role.MLP_INPUT if word in ("gate_proj", "up_proj", "down_proj") else Role.MIXER


def _in_attention(word: str) -> Role:
    for found, role in (
        (_OUTPUT, Role.ATTENTION_OUTPUT),
        (_QUERY, Role.ATTENTION_QUERY),
        (_KEY, Role.ATTENTION_KEY),
        (_VALUE, Role.ATTENTION_VALUE),
    ):
        if found.match(word):
            return role
    return Role.ATTENTION_OTHER


_HEADS = re.compile(r"^(lm_heads?|embed_out|output|cls|score|head|pred_layer|lm_loss|unembed|generator_\w+)$")
_POSITIONS = re.compile(r"wpe|pos(ition)?s?_(embed|emb)|embed_positions|position_bias|relative_attention_bias|^pos_emb")
_EMBEDDINGS = re.compile(
    r"^(embed_tokens|word_embeddings?|wte|embed_in|tok_embeddings|tokens_embed|embeddings?|shared|input_embedding|"
    r"emb|embed|w|word_embedding)$"
)


def end_role_of(name: str) -> Role:
    """The role of a tensor outside the layers: `model.norm.weight` is a final norm or one of the embeddings' norms.

    Numbers count for nothing: MusicGen has an embedding and a head for each of its codebooks.
    """
    *blocks, _ = (part for part in name.lower().split(".") if not part.isdecimal())
    if any(_HEADS.match(block) for block in blocks) or blocks == ["decoder"]:  # as ModernBERT calls its head
        return Role.HEAD
    if any(_POSITIONS.search(part) for part in name.lower().split(".")):
        return Role.POSITIONS
    word = blocks[-1] if blocks else name
    if _NORM.search(word):  # LFM2 calls its final norm `embedding_norm`
        is_first = any("embed" in part or part.endswith("_emb") for part in blocks) and word != "embedding_norm"
        return Role.NORM if is_first else Role.FINAL_NORM
    return Role.EMBEDDING if _EMBEDDINGS.match(word) else Role.OTHER
