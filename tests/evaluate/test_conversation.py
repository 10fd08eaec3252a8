"""`lamina chat`: an unwritten merge answers as the written one, sees what was said, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import lamina
from lamina.cli import chat as chat_verb
from lamina.cli.main import cli
from lamina.errors import CheckpointError, LaminaError
from lamina.evaluate.conversation import Conversation, conversation

EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPE = {
    "models": [{"model": str(EXAMPLES / "models" / name), "parameters": {"weight": 0.7}} for name in ("rev", "sort")],
    "merge_method": "task_arithmetic",
    "base_model": str(EXAMPLES / "models" / "base"),
}
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system message') }}{% endif %}"
    "{{ m.content }}{% endfor %}"
)


def alone(folder: Path) -> dict[str, object]:
    return {"models": [{"model": str(folder)}], "merge_method": "passthrough"}


def said(talking: Conversation, text: str, **how: object) -> str:
    pieces: list[str] = []
    answer = talking.say(text, pieces.append, most=8, **how)  # type: ignore[arg-type]
    assert "".join(pieces).strip() == answer.strip()
    return answer


@pytest.fixture
def templated(tmp_path: Path) -> Path:
    """A model with a chat template that takes no system message."""
    folder = tmp_path / "templated"
    shutil.copytree(EXAMPLES / "models" / "rev", folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": TEMPLATE}))
    return folder


def test_a_model_answers_what_it_was_trained_for() -> None:
    talking = conversation(alone(EXAMPLES / "models" / "rev"), options={})
    assert said(talking, "rev: n j p c =", temperature=0).split("\n")[0].strip() == "c p j n"


def test_an_unwritten_merge_answers_as_the_written_one(tmp_path: Path) -> None:
    lamina.merge(RECIPE, tmp_path / "out")
    for how in ({"temperature": 0}, {"temperature": 0.8, "seed": 7}):
        answers = [
            said(conversation(source, options={}), "sort: j t s m =", **how)
            for source in (RECIPE, alone(tmp_path / "out"))
        ]
        assert answers[0] == answers[1]


def test_a_seed_repeats_an_answer() -> None:
    talking = conversation(alone(EXAMPLES / "models" / "base"), options={})
    answers = []
    for seed in (1, 1, 2, 3, 4):
        talking.messages.clear()
        answers.append(said(talking, "And the", temperature=1.5, seed=seed))
    assert answers[0] == answers[1]
    assert len(set(answers)) > 1


def test_what_was_said_is_remembered_and_an_answer_that_was_stopped_is_not() -> None:
    talking = conversation(alone(EXAMPLES / "models" / "rev"), options={})
    said(talking, "rev: n j p c =", temperature=0)
    before = list(talking.messages)
    assert [each["role"] for each in before] == ["user", "assistant"]

    def stop(_piece: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        talking.say("rev: a b c d =", stop)
    assert talking.messages == before


def test_a_conversation_beyond_the_models_positions_is_told() -> None:
    talking = conversation(alone(EXAMPLES / "models" / "rev"), options={})
    assert talking.longest is not None
    with pytest.raises(ValueError, match=f"the model has {talking.longest}"):
        talking.say("a b c d " * talking.longest, lambda _piece: None)


def test_a_template_is_used_and_a_system_message_it_does_not_take_is_told(templated: Path) -> None:
    talking = conversation(alone(templated), options={})
    assert talking.has_template
    assert said(talking, "rev: n j p c =", temperature=0).split("\n")[0].strip() == "c p j n"
    with pytest.raises(CheckpointError, match="takes no system message"):
        conversation(alone(templated), system="be brief", options={})


def test_a_system_message_is_refused_where_there_is_no_template() -> None:
    with pytest.raises(CheckpointError, match=r"--system: the model has no chat template, .* Say it at the beginning"):
        conversation(alone(EXAMPLES / "models" / "rev"), system="be brief", options={})


def test_a_model_without_a_tokenizer_is_a_letter(tmp_path: Path) -> None:
    folder = tmp_path / "mute"
    shutil.copytree(EXAMPLES / "models" / "rev", folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(LaminaError, match="no tokenizer"):
        conversation(alone(folder), options={})


def chat(*arguments: str, given: str = "") -> Result:
    result = CliRunner().invoke(cli, ["chat", *arguments], input=given)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_lines_of_a_pipe_are_said_one_after_the_other() -> None:
    lines = "rev: n j p c =\n"
    piped = chat(str(EXAMPLES / "models" / "rev"), "--temperature", "0", "--max-tokens", "8", given=lines)
    asked = chat(str(EXAMPLES / "models" / "rev"), "--temperature", "0", "--max-tokens", "8", "--prompt", lines[:-1])
    assert piped.output == asked.output
    assert piped.output.startswith(" c p j n")


def test_a_talk_begins_anew_and_ends(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    talking = conversation(alone(EXAMPLES / "models" / "rev"), options={})
    given = iter(["rev: n j p c =", "/nonsense", "", "/new", "/exit"])
    monkeypatch.setattr("builtins.input", lambda _prompt: next(given))
    heard: list[str] = []

    def say(text: str) -> None:
        heard.append(said(talking, text, temperature=0))

    chat_verb._talk(talking, say)
    assert len(heard) == 1
    assert talking.messages == []
    out = capsys.readouterr().out
    assert "/new begins anew" in out
    assert "a new conversation" in out
