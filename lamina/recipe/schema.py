"""The form of a recipe: which keys there are, what they hold. One class a level of the YAML.

Everything is frozen: a recipe stays what the user wrote. The meaning is given by the planner.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from lamina.model_ref import AdapterRef, ModelRef, parse_model_ref
from lamina.recipe.settings import Setting, parse_setting
from lamina.recipe.steps import Misformed, Put, Remove
from lamina.tensor_spec import FLOAT_DTYPES, DType

_PART_FORM = "{path: ..., revision: ...}"
_MODEL_FORMS = f"a folder or `org/name`, or `{{model: {_PART_FORM}, lora: ...}}`"


def _kind(raw: Any) -> str:
    if isinstance(raw, dict):
        return f"a mapping with {', '.join(f'`{key}`' for key in raw) or 'nothing in it'}"
    return "a list" if isinstance(raw, list) else f"`{str(raw).lower() if isinstance(raw, bool) else raw}`"


def _ref(raw: Any) -> ModelRef:
    if isinstance(raw, ModelRef):
        return raw
    if isinstance(raw, str | int | float) and not isinstance(raw, bool):
        return parse_model_ref(str(raw))
    if isinstance(raw, dict) and "model" in raw and set(raw) <= {"model", "lora"}:
        head = _ref_part(raw["model"])
        adapters = () if raw.get("lora") is None else (_ref_part(raw["lora"]),)
        return ModelRef(head.path, head.revision, (*head_adapters(raw["model"]), *adapters))
    message = f"a model is {_MODEL_FORMS}, and this is {_kind(raw)}"
    if isinstance(raw, dict) and isinstance(raw.get("path"), str):
        others = [value for key, value in raw.items() if key != "path" and isinstance(value, str)]
        meant = "@".join([raw["path"], *others[:1]])
        raise Misformed(f"{message}. Did you mean `{meant}`?", Put((), meant))
    raise ValueError(message)


def head_adapters(raw: Any) -> tuple[AdapterRef, ...]:
    return parse_model_ref(raw).adapters if isinstance(raw, str) else ()


def _ref_part(raw: Any) -> AdapterRef:
    if isinstance(raw, str):
        ref = parse_model_ref(raw)
        return AdapterRef(ref.path, ref.revision)
    if isinstance(raw, dict) and isinstance(raw.get("path"), str) and set(raw) <= {"path", "revision"}:
        if raw.get("revision") is not None and not isinstance(raw["revision"], str):
            raise ValueError("a revision is text: the name of a branch or tag, or a commit")
        return AdapterRef(raw["path"], raw.get("revision"))
    raise ValueError(f"inside a reference stands a folder, `org/name` or `{_PART_FORM}`, and this is {_kind(raw)}")


_OTHER_NAMES = {
    "bf16": "bfloat16", "fp16": "float16", "f16": "float16", "half": "float16", "fp32": "float32", "f32": "float32",
    "float": "float32", "fp64": "float64", "double": "float64",
}  # fmt: skip


def _dtype(raw: Any) -> DType:
    name = str(raw).removeprefix("torch.")
    if name not in FLOAT_DTYPES:
        meant = _OTHER_NAMES.get(name) or next(iter(get_close_matches(name, FLOAT_DTYPES, n=1)), None)
        valid = f"valid are {', '.join(FLOAT_DTYPES)}"
        other = f"{valid.capitalize()}; left out, it is that of the models"
        hint = f"Did you mean `{meant}`? {valid.capitalize()}" if meant else other
        message = f"`{raw}` is no dtype that a merge can be stored in. {hint}"
        raise Misformed(message, Put((), meant) if meant else Remove(()))
    return FLOAT_DTYPES[name]


def _range(raw: Any) -> tuple[int, int]:
    numbers = list(raw) if isinstance(raw, list | tuple) else []
    if len(numbers) != 2 or not all(_is_whole(number) for number in numbers):
        form = "a layer_range is two whole numbers, `[start, end]`, the end not included"
        meant = _meant_range(raw)
        raise ValueError(f"{form}; this is {_shown_range(raw)}{f'. Did you mean `{meant}`?' if meant else ''}")
    return int(numbers[0]), int(numbers[1])


def _is_whole(number: Any) -> bool:
    """True for 2 and 2.0. A whole number may be too large to be any float."""
    if isinstance(number, float):
        return math.isfinite(number) and number == int(number)
    return isinstance(number, int) and not isinstance(number, bool)


def _shown_range(raw: Any) -> str:
    if isinstance(raw, dict):
        return "a mapping"
    shown = f"[{', '.join(map(str, raw))}]" if isinstance(raw, list) else str(raw)
    return f"`{shown}`" if len(shown) < 60 else "something else"


def range_in_words(raw: Any) -> list[int]:
    """A layer_range as it is meant. Raises ValueError where nobody can tell."""
    if isinstance(raw, list) and len(raw) == 2 and all(map(_is_whole, raw)):
        return [int(raw[0]), int(raw[1])]
    meant = _meant_range(raw)
    if meant is None:
        raise ValueError(f"`{raw}` is no range of layers")
    return meant


def _meant_range(raw: Any) -> list[int] | None:
    """`0-3` and `0:4` are `[0, 4]`; `[4]` is `[0, 4]`; None where nobody can tell."""
    if isinstance(raw, str) and (found := re.fullmatch(r"\s*(\d+)\s*(-|:|,|\.\.)\s*(\d+)\s*", raw)):
        start, end = int(found[1]), int(found[3])
        return [start, end + (found[2] == "-")]
    if isinstance(raw, dict) and _is_whole(raw.get("start")) and _is_whole(raw.get("end")):
        return [int(raw["start"]), int(raw["end"])]
    raw = [raw] if _is_number(raw) else raw
    if isinstance(raw, list) and 0 < len(raw) < 4 and all(map(_is_number, raw)):
        start, end = (0, raw[0]) if len(raw) == 1 else raw[:2]  # of three, a step is no part of the form
        return [math.floor(start), math.ceil(end)]
    return None


UNTOLD = 10**9  # the end of a layer_range that nobody can read: the planner knows how many layers there are


def _is_number(raw: Any) -> bool:
    return isinstance(raw, int | float) and not isinstance(raw, bool) and 0 <= raw < UNTOLD


Ref = Annotated[ModelRef, BeforeValidator(_ref)]
StorageDType = Annotated[DType, BeforeValidator(_dtype)]
LayerRange = Annotated[tuple[int, int], BeforeValidator(_range)]
AnySetting = Annotated[Setting, BeforeValidator(parse_setting)]
Parameters = dict[str, AnySetting]


class _Level(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class InputModel(_Level):
    """One entry of `models`, or of the sources of an end."""

    model: Ref
    parameters: Parameters = {}


class SliceSource(_Level):
    """One entry of a slice's `sources`: layers [start, end) of a model."""

    model: Ref
    layer_range: LayerRange
    parameters: Parameters = {}


class OutputSlice(_Level):
    """One entry of `slices`: output layers made of equally many layers of each source."""

    sources: list[SliceSource] = Field(min_length=1)
    base_model: Ref | None = None
    parameters: Parameters = {}
    residual_weight: float | None = None  # MergeKit reads it and does nothing with it; so do we


class StackEntry(_Level):
    """One entry of `stack`: layers of a model, in words, and the output layer at which they start."""

    model: Ref
    layers: Any = None
    layer_range: LayerRange | None = None
    at: Annotated[int, Field(strict=True, ge=0)] | None = None
    weight: AnySetting | None = None
    parameters: Parameters = {}


class WeightedModel(_Level):
    """One source of an end (`embed`, `norm`, `head`)."""

    model: Ref
    weight: AnySetting | None = None


class OutputModule(_Level):
    """One entry of `modules`: a part of a model (its text decoder, say), made as a recipe of its own."""

    models: list[InputModel] | None = Field(default=None, min_length=1)
    slices: list[OutputSlice] | None = Field(default=None, min_length=1)
    parameters: Parameters = {}

    @model_validator(mode="after")
    def _one_of_two(self) -> OutputModule:
        if (self.models is None) == (self.slices is None):
            raise ValueError("a module has either `models` or `slices`")
        return self


def _end(raw: Any) -> Any:
    return raw if isinstance(raw, list) else [{"model": raw}]


End = Annotated[list[WeightedModel], Field(min_length=1), BeforeValidator(_end)]


def _tokenizer_source(raw: Any) -> Any:
    return raw if raw in ("base", "union") else _ref(raw)


TokenizerSource = Annotated[Literal["base", "union"] | ModelRef, BeforeValidator(_tokenizer_source)]


def _token_rules(raw: Any) -> Any:
    """`tokens`, whose keys are the user's own words. Raises ValueError for what is no rule of MergeKit's."""
    if not isinstance(raw, dict):
        raise ValueError("these are rules by token: `{<|im_end|>: {source: MODEL, force: false}}`")
    for token, rule in raw.items():
        if not isinstance(rule, dict) or not set(rule) <= {"source", "force"}:
            raise ValueError(f"the rule of a token is `{{source: MODEL, force: false}}`; `{token}` has `{rule}`")
        if not isinstance(rule.get("force", False), bool):
            raise ValueError(f"`force` of `{token}` is true or false, not `{rule['force']}`")
        if rule.get("source") is not None:
            _check_token_source(token, rule["source"])
    return raw


def _check_token_source(token: str, raw: Any) -> None:
    if not isinstance(raw, dict) or "kind" not in raw:
        _ref(raw)
    elif raw["kind"] == "model_token":
        if set(raw) not in ({"kind", "model", "token"}, {"kind", "model", "token_id"}):
            raise ValueError(
                f"the source of `{token}` is a row of a model: "
                "`{kind: model_token, model: MODEL, token: ...}`, or `token_id: ...` in its place"
            )
        _ref(raw["model"])
    elif raw != {"kind": "zero"}:
        raise ValueError(f"the source of `{token}` has kind `model_token` or `zero`, not `{raw['kind']}`")


class TokenizerSettings(_Level):
    """`tokenizer`, the long form of `tokenizer_source`."""

    source: TokenizerSource = "union"
    tokens: Annotated[dict[str, Any], BeforeValidator(_token_rules)] = {}
    pad_to_multiple_of: Annotated[int, Field(strict=True, ge=1)] | None = None


def _tokenizer(raw: Any) -> Any:
    if not isinstance(raw, dict | TokenizerSettings):
        message = f"this is a mapping, `{{source: {raw}}}`; in one word it is `tokenizer_source: {raw}`"
        raise Misformed(message, Put((), {"source": raw}))
    return raw


Overlap = Literal["cut", "average", "ramp"]
GradientEnds = Literal["first", "own"]
VALUES: Mapping[str, Sequence[str]] = {  # of keys at the top level that take one of few words
    "dtype": tuple(FLOAT_DTYPES), "out_dtype": tuple(FLOAT_DTYPES),
    "overlap": get_args(Overlap), "gradient_ends": get_args(GradientEnds),
}  # fmt: skip


class RecipeSchema(_Level):
    """The top level of a recipe."""

    merge_method: str | None = None
    models: list[InputModel] | None = Field(default=None, min_length=1)
    slices: list[OutputSlice] | None = Field(default=None, min_length=1)
    stack: list[StackEntry] | None = Field(default=None, min_length=1)
    modules: dict[str, OutputModule] | None = None
    base_model: Ref | None = None
    parameters: Parameters = {}
    dtype: StorageDType | None = None
    out_dtype: StorageDType | None = None
    overlap: Overlap | None = None
    gradient_ends: GradientEnds | None = None
    embed: End | None = None
    norm: End | None = None
    head: End | None = None
    tokenizer_source: TokenizerSource | None = None
    tokenizer: Annotated[TokenizerSettings, BeforeValidator(_tokenizer)] | None = None
    chat_template: str | None = None
    name: str | None = None  # of use where several recipes stand in one file
    input_model_parameters: Any = None  # in MergeKit's documents, and without effect there

    @property
    def vocabulary_source(self) -> Literal["base", "union"] | ModelRef | None:
        """Whose tokenizer the result has, in whichever form it is said; None where the recipe says nothing."""
        return self.tokenizer.source if self.tokenizer is not None else self.tokenizer_source
