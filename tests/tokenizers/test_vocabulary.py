"""Vocabularies from small files written here, and from the bundled models against the tokenizers library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.tokenizers.vocabulary import MAIN_FILES, VOCABULARY_FILES, Vocabulary, compared, difference_in_words, shown

MODELS = Path(__file__).parents[2] / "examples" / "models"


def tokenizer_json(vocab: Any, added: Any = ()) -> bytes:
    return json.dumps({"model": {"vocab": vocab}, "added_tokens": list(added)}).encode()


def tokens_of(**files: bytes) -> Any:
    """`tokenizer_json=...` is the file tokenizer.json."""
    return Vocabulary(
        {name.replace("_json", ".json").replace("_txt", ".txt"): raw for name, raw in files.items()}
    ).tokens


def piece(text: str, score: bytes = b"\x15\x00\x00\x80\xbf") -> bytes:
    """A SentencePiece as it lies in the file: field 1 its text, field 2 its score."""
    content = b"\x0a" + bytes([len(text.encode())]) + text.encode() + score
    return b"\x0a" + bytes([len(content)]) + content


def test_bpe_wordpiece_and_wordlevel_map_tokens_to_ids() -> None:
    assert tokens_of(tokenizer_json=tokenizer_json({"a": 0, "b": 1})) == {0: "a", 1: "b"}


@pytest.mark.parametrize("merges", [[], ["a b", '" ] \\'], [["a", "b"], ["]", '"']], [["\n", "[["]]])
def test_merges_are_passed_over_in_both_forms(merges: Any) -> None:
    model = {"merges": merges, "vocab": {"a": 0, "merges": 1, '"merges": [': 2}}
    for indent in (None, 2):
        raw = json.dumps({"added_tokens": [], "model": model}, indent=indent).encode()
        assert tokens_of(tokenizer_json=raw) == {0: "a", 1: "merges", 2: '"merges": ['}


def test_unigram_lists_tokens_with_their_scores() -> None:
    assert tokens_of(tokenizer_json=tokenizer_json([["<unk>", 0.0], ["▁a", -1.5]])) == {0: "<unk>", 1: "▁a"}


def test_added_tokens_count() -> None:
    added = [{"id": 1, "content": "<s>", "special": True}]
    assert tokens_of(tokenizer_json=tokenizer_json({"a": 0}, added)) == {0: "a", 1: "<s>"}


def test_tokens_that_only_tokenizer_config_adds_count() -> None:
    config = json.dumps({"added_tokens_decoder": {"7": {"content": "<think>"}, "0": {"content": "a"}}}).encode()
    assert tokens_of(tokenizer_json=tokenizer_json({"a": 0}), tokenizer_config_json=config) == {0: "a", 7: "<think>"}


def test_vocab_json_and_added_tokens_json() -> None:
    assert tokens_of(vocab_json=b'{"a": 0}', added_tokens_json=b'{"<x>": 1}') == {0: "a", 1: "<x>"}


def test_a_line_of_vocab_txt_is_a_token() -> None:
    assert tokens_of(vocab_txt="[PAD]\nein\n##ß\n".encode()) == {0: "[PAD]", 1: "ein", 2: "##ß"}


def test_sentencepiece_pieces_stand_in_the_order_of_their_ids() -> None:
    trainer = b"\x12\x02\x08\x01"  # field 2, which says how it was trained
    assert Vocabulary({"tokenizer.model": piece("<unk>") + piece("▁a") + trainer}).tokens == {0: "<unk>", 1: "▁a"}


def test_tokenizer_json_counts_before_older_files() -> None:
    assert tokens_of(vocab_txt=b"old", tokenizer_json=tokenizer_json({"new": 0}), added_tokens_json=b'{"o": 1}') == {
        0: "new"
    }


def test_tiktoken_is_not_read_and_still_compared() -> None:
    one, same, other = (Vocabulary({"qwen.tiktoken": raw}) for raw in (b"IQ== 0\n", b"IQ== 0\n", b"Ig== 0\n"))
    assert one.tokens is None
    assert one.is_there
    assert one.same_files(same)
    assert not one.same_files(other)


def test_a_model_without_tokenizer_files_has_none() -> None:
    assert not Vocabulary({"tokenizer_config.json": b"{}"}).is_there


def test_equal_files_are_equal_unread() -> None:
    broken = b"{"
    first, second = (Vocabulary({"tokenizer.json": broken, "merges.txt": raw}) for raw in (b"", b"x"))
    assert first.same_files(second)


def test_another_added_token_in_tokenizer_config_is_another_vocabulary() -> None:
    raw = tokenizer_json({"a": 0})
    config = json.dumps({"added_tokens_decoder": {"7": {"content": "<think>"}}}).encode()
    plain, more = (
        Vocabulary({"tokenizer.json": raw}),
        Vocabulary({"tokenizer.json": raw, "tokenizer_config.json": config}),
    )
    assert not plain.same_files(more)


@pytest.mark.parametrize(
    ("files", "letter"),
    [
        ({"tokenizer.json": b"{"}, "tokenizer.json is not valid JSON"),
        ({"tokenizer.json": b"\xff\xfe"}, "tokenizer.json is not valid JSON"),
        ({"tokenizer.json": b"[]"}, "tokenizer.json holds a list"),
        ({"tokenizer.json": b"{}"}, "tokenizer.json has no `model.vocab`"),
        ({"tokenizer.json": tokenizer_json({"a": "0"})}, "not mapped to ids"),
        ({"tokenizer.json": tokenizer_json({"a": True})}, "not mapped to ids"),
        ({"tokenizer.json": tokenizer_json({"a": -1})}, "not mapped to ids"),
        ({"tokenizer.json": tokenizer_json([["a"]])}, "not [token, score]"),
        ({"tokenizer.json": tokenizer_json({}, [{"id": 1}])}, "added_tokens"),
        ({"vocab.json": b"3"}, "vocab.json holds a int"),
        ({"vocab.txt": b"\xff"}, "vocab.txt is not text in UTF-8"),
        ({"tokenizer.model": b"\x0a\xff\x01"}, "tokenizer.model is not a SentencePiece model"),
        ({"tokenizer.model": b"\x0a\x02\x08\x01"}, "tokenizer.model is not a SentencePiece model"),
        ({"vocab.txt": b"a", "tokenizer_config.json": b'{"added_tokens_decoder": {"x": {}}}'}, "added_tokens_decoder"),
    ],
)
def test_a_malformed_file_is_named_in_a_sentence(files: dict[str, bytes], letter: str) -> None:
    with pytest.raises(ValueError, match=r".+") as caught:
        _ = Vocabulary(files).tokens
    assert letter in str(caught.value)


@given(st.sampled_from([*MAIN_FILES, "added_tokens.json", "tokenizer_config.json"]), st.binary(max_size=60))
def test_any_bytes_give_tokens_or_a_sentence(name: str, raw: bytes) -> None:
    files = {"vocab.txt": b"a", name: raw}
    try:
        tokens, told = Vocabulary(files).tokens, name
    except ValueError as error:
        tokens, told = {}, str(error)
    assert tokens is not None
    assert name in told
    assert all(isinstance(id_, int) and isinstance(token, str) for id_, token in tokens.items())


def test_ids_that_differ_are_found_in_order() -> None:
    difference = compared({0: "a", 1: "b", 2: "c"}, {0: "a", 1: "x", 3: "d"})
    assert (difference.unlike, difference.first_only, difference.second_only) == ((1,), (2,), (3,))
    assert compared({0: "a"}, {0: "a"}).equal


def test_equal_sizes_are_told_by_the_first_ids_and_both_tokens() -> None:
    first, second = ({0: "a", **{n: f"{model}{n}" for n in range(1, 6)}} for model in "xy")
    assert difference_in_words("x", first, "y", second) == (
        "id 1 is 'x1' in `x` and 'y1' in `y`, id 2 is 'x2' in `x` and 'y2' in `y`, id 3 is 'x3' in `x` and 'y3' in `y` "
        "and 2 more"
    )


def test_unequal_sizes_are_told_by_counts_and_the_tokens_that_one_lacks() -> None:
    assert difference_in_words("x", {0: "a"}, "y", {0: "a", 1: "<b>"}) == (
        "`x` has 1 tokens and `y` 2; only `y` has '<b>' (id 1)"
    )


def test_a_token_that_cannot_be_printed_is_escaped_and_a_long_one_cut() -> None:
    assert shown("\ud800\n") == r"'\ud800\n'"
    assert len(shown("x" * 1000)) == 42


@pytest.mark.parametrize(
    "folder", sorted(path for path in MODELS.iterdir() if path.is_dir()), ids=lambda path: path.name
)
def test_the_bundled_models_have_the_tokens_that_the_tokenizers_library_finds(folder: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    found = Vocabulary({name: (folder / name).read_bytes() for name in VOCABULARY_FILES if (folder / name).is_file()})
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    assert found.tokens == {id_: token for token, id_ in library.items()}
