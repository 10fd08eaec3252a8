"""Is the folder a model at all: tensors, config.json and tokenizer agree with one another. No weight is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from lamina.architectures.infer import text_config
from lamina.architectures.roles import Role, role_of
from lamina.check.chat import eos_ids
from lamina.check.findings import Finding, Level, Section
from lamina.errors import CheckpointError
from lamina.models.plain import PlainModel
from lamina.planners.small_files import small_files
from lamina.tokenizers.vocabulary import VOCABULARY_FILES, Vocabulary
from lamina.wording import counted, listed


def check_structure(model: PlainModel) -> Section:
    """Findings about tensors that are missing or of another shape than their like, and about side files."""
    try:
        architecture = model.architecture
    except CheckpointError as error:
        return Section("structure", findings=(Finding(Level.BROKEN, "architecture", str(error)),))
    findings = [*_layers(model), *_sizes(model), *_tying(model), *_tokenizer(model)]
    size = f"{counted(len(model.checkpoint.specs), 'tensor')} in {counted(architecture.depth, 'layer')}"
    told = f"{size}; config.json and tokenizer agree with them"
    return Section("structure", told, tuple(findings))


def _layers(model: PlainModel) -> Iterator[Finding]:
    """Tensors that a layer lacks, or has in another shape, against most layers of its kind."""
    architecture, specs = model.architecture, model.checkpoint.specs
    kinds = _kinds(model)
    for kind in dict.fromkeys(kinds):
        members = [layer for layer, own in enumerate(kinds) if own == kind]
        shapes: dict[str, Counter[tuple[int, ...]]] = {}
        for layer in members:
            for suffix in architecture.layers[layer]:
                shape = specs[architecture.layer_name(layer, suffix)].shape
                shapes.setdefault(suffix, Counter())[shape] += 1
        usual = {
            suffix: count.most_common(1)[0][0] for suffix, count in shapes.items() if 2 * count.total() > len(members)
        }
        for layer in members:
            lacking = [suffix for suffix in usual if suffix not in architecture.layers[layer]]
            of_another_kind = any(suffix not in usual for suffix in architecture.layers[layer])  # dense among experts
            if lacking and not of_another_kind:
                message = f"layer {layer} lacks {listed(lacking)}, which the other layers have."
                yield Finding(Level.BROKEN, "lost-tensor", message, layer, architecture.layer_name(layer, lacking[0]))
            for suffix in architecture.layers[layer]:
                name = architecture.layer_name(layer, suffix)
                if suffix in usual and specs[name].shape != usual[suffix]:
                    message = (
                        f"{name} has shape {list(specs[name].shape)}, in other layers it is {list(usual[suffix])}."
                    )
                    yield Finding(Level.BROKEN, "shape", message, layer, name)


def _kinds(model: PlainModel) -> list[object]:
    """What kind config.json says each layer is of; one kind where it says nothing."""
    text, depth = text_config(model.config), model.architecture.depth
    lists = [text.get(key) for key in ("layer_types", "mlp_layer_types", "layers_block_type")]
    known = [values for values in lists if isinstance(values, list) and len(values) == depth]
    return [tuple(values[layer] for values in known) for layer in range(depth)]


def _sizes(model: PlainModel) -> Iterator[Finding]:
    """Numbers of config.json that shapes contradict."""
    text, specs, architecture = text_config(model.config), model.checkpoint.specs, model.architecture
    rows, width = text.get("vocab_size"), text.get("hidden_size")
    for what, name in (("embedding", architecture.embedding), ("head", architecture.head)):
        shape = specs[name].shape if name in specs else ()
        if len(shape) != 2:
            continue
        if isinstance(rows, int) and shape[0] != rows:
            message = f"{name}, the {what}, has {shape[0]} rows and config.json says vocab_size {rows}."
            yield Finding(Level.BROKEN, "vocab_size", message, None, name)
        if isinstance(width, int) and what == "embedding" and shape[1] != width and "embedding_size" not in text:
            message = f"{name} has {shape[1]} columns and config.json says hidden_size {width}."
            yield Finding(Level.BROKEN, "hidden_size", message, None, name)
    for role, key, count in (
        (Role.ATTENTION_QUERY, "num_attention_heads", text.get("num_attention_heads")),
        (Role.ATTENTION_KEY, "num_key_value_heads", text.get("num_key_value_heads")),
    ):
        yield from _head_rows(model, role, key, count)


def _head_rows(model: PlainModel, role: Role, key: str, heads: object) -> Iterator[Finding]:
    """Query and key projections with another number of rows than heads times their width."""
    width = text_config(model.config).get("head_dim")
    if not isinstance(heads, int) or not isinstance(width, int):
        return
    architecture = model.architecture
    for layer, suffixes in enumerate(architecture.layers):
        for suffix in suffixes:
            name = architecture.layer_name(layer, suffix)
            shape = model.checkpoint.specs[name].shape
            plain = suffix in ("self_attn.q_proj.weight", "self_attn.k_proj.weight")
            if plain and role_of(suffix) is role and shape[0] not in (heads * width, 2 * heads * width):
                message = f"{name} has {shape[0]} rows; config.json says {key} {heads} of {width}."
                yield Finding(Level.BROKEN, key, message, layer, name)


def _tying(model: PlainModel) -> Iterator[Finding]:
    """The flag that lets the head be the embedding, against what is there."""
    text, architecture = text_config(model.config), model.architecture
    flag = text.get("tie_word_embeddings", model.config.get("tie_word_embeddings"))
    if flag is False and architecture.head not in model.checkpoint.specs:
        message = f"config.json says tie_word_embeddings false, and there is no {architecture.head}."
        yield Finding(Level.BROKEN, "lost-tensor", message, None, architecture.head)


def _tokenizer(model: PlainModel) -> Iterator[Finding]:
    """Token ids beyond the embedding's rows, and the tokens with which a text ends."""
    rows = model.checkpoint.specs[model.architecture.embedding].shape[0]
    vocabulary = Vocabulary(small_files(model, VOCABULARY_FILES))
    try:
        tokens: Mapping[int, str] | None = vocabulary.tokens if vocabulary.is_there else {}
        ends = eos_ids(model)
    except ValueError as error:
        yield Finding(Level.BROKEN, "tokenizer", f"{error}.", key="tokenizer")
        return
    if tokens and max(tokens) >= rows:
        beyond = sum(number >= rows for number in tokens)
        message = f"the tokenizer has ids up to {max(tokens)} and the embedding {rows} rows: {beyond} ids have none."
        yield Finding(Level.BROKEN, "tokenizer", message, None, model.architecture.embedding)
    if not ends:
        message = "neither generation_config.json nor config.json says which token ends a text: it will not stop."
        yield Finding(Level.SUSPICIOUS, "eos", message, key="eos_token_id")
    for number in ends:
        if number >= rows or (tokens and number not in tokens):
            message = f"eos_token_id {number} is no token of the tokenizer."
            yield Finding(Level.SUSPICIOUS, "eos", message, key="eos_token_id")
