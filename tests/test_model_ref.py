"""References to models as text and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.model_ref import AdapterRef, ModelRef, parse_model_ref

words = st.text(min_size=1, max_size=8).filter(lambda text: not set(text) & set("@+"))
adapters = st.builds(AdapterRef, words, st.none() | words)


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("org/name", ModelRef("org/name")),
        ("org/name@main", ModelRef("org/name", "main")),
        ("org/name+lora", ModelRef("org/name", None, (AdapterRef("lora"),))),
        ("base@v1+one@v2+two", ModelRef("base", "v1", (AdapterRef("one", "v2"), AdapterRef("two")))),
        ("./a folder/with spaces", ModelRef("./a folder/with spaces")),
    ],
)
def test_a_reference_is_read_and_written(text: str, ref: ModelRef) -> None:
    assert parse_model_ref(text) == ref
    assert str(ref) == text


@pytest.mark.parametrize("text", ["", "@", "@main", "a@", "a@b@c", "a+", "+a", "a++b", "a+@b"])
def test_what_is_no_reference_is_told_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="the form is `path") as caught:
        parse_model_ref(text)
    assert f"`{text}`" in str(caught.value)


@given(st.builds(ModelRef, words, st.none() | words, st.lists(adapters, max_size=3).map(tuple)))
def test_every_reference_survives_being_written_and_read(ref: ModelRef) -> None:
    assert parse_model_ref(str(ref)) == ref


@given(st.text(max_size=20))
def test_any_text_is_a_reference_or_a_value_error(text: str) -> None:
    try:
        ref = parse_model_ref(text)
    except ValueError:
        return
    assert str(ref) == text
