"""Talk to a model, or to a merge before it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lamina import api
from lamina.check.running import silent
from lamina.errors import CheckpointError
from lamina.execute.live_model import device_here, frameworks, live_model, live_tokenizer
from lamina.recipe.load import RecipeLike


@dataclass
class Conversation:
    """A model in memory and what was said so far, `messages` as transformers' templates take them.

    A model without a chat template goes on with the text: what it is told is put after what was said, and there is no
    place for a `system` message.
    """

    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    system: str = ""
    messages: list[dict[str, str]] = field(default_factory=list)

    @property
    def has_template(self) -> bool:
        return bool(getattr(self.tokenizer, "chat_template", None))

    @property
    def longest(self) -> int | None:
        """The positions that the model has, in tokens; None where its config names none."""
        found = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return None if found is None else int(found)

    def say(
        self,
        text: str,
        told: Callable[[str], None],
        *,
        most: int = 512,
        temperature: float | None = None,
        seed: int | None = None,
    ) -> str:
        """Say something; the answer goes to `told` piece by piece, and is returned whole.

        At most `most` tokens, drawn at `temperature`, at 0 always the likeliest; None leaves that to the model's
        generation_config.json. The same `seed` draws the same answer. Raises ValueError where what was said has no
        room in the model's positions. An answer that is stopped, or fails, was not said.
        """
        torch, transformers = frameworks()
        asked = [*self.messages, {"role": "user", "content": text}]
        tokens = self._tokens(asked, torch).to(self.model.device)
        room = most if self.longest is None else self.longest - tokens.shape[1]
        if room <= 0:
            raise ValueError(f"what was said takes {tokens.shape[1]} tokens, and the model has {self.longest}")
        drawn: dict[str, Any] = {}
        if temperature is not None:
            drawn = {"do_sample": temperature > 0, **({"temperature": temperature} if temperature > 0 else {})}
        if seed is not None:
            torch.manual_seed(seed)

        class Streamer(transformers.TextStreamer):  # type: ignore[misc, name-defined]
            def on_finalized_text(self, text: str, stream_end: bool = False) -> None:  # noqa: ARG002
                told(text)

        ends = self.model.generation_config.eos_token_id
        pad = ends[0] if isinstance(ends, list) else ends
        with torch.no_grad():
            made = self.model.generate(
                tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=min(most, room),
                pad_token_id=0 if pad is None else pad,
                streamer=Streamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True), **drawn,
            )  # fmt: skip
        answer = str(self.tokenizer.decode(made[0, tokens.shape[1] :], skip_special_tokens=True))
        self.messages = [*asked, {"role": "assistant", "content": answer}]
        return answer

    def _tokens(self, messages: list[dict[str, str]], torch: Any) -> Any:
        """Token ids, [1, length]."""
        if self.has_template:
            system = [{"role": "system", "content": self.system}] if self.system else []
            text = self.tokenizer.apply_chat_template([*system, *messages], tokenize=False, add_generation_prompt=True)
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        else:
            ids = self.tokenizer("".join(each["content"] for each in messages))["input_ids"]
        return torch.tensor([ids])


def conversation(source: RecipeLike, *, system: str = "", device: str = "cpu", options: api.Options) -> Conversation:
    """The merge of a recipe, in memory, ready to talk; nothing is written.

    Needs the extra `hf`: raises MissingExtra without it, DeviceError where there is no such `device`, both before
    anything is opened; CheckpointError for a model that transformers has no class
    or no tokenizer for, and the letters of a plan.
    """
    device_here(device)
    _, transformers = frameworks()
    with silent(transformers), api.tensors(source, **options) as merged:
        tokenizer = live_tokenizer(merged.plan)
        talking = Conversation(live_model(merged, device), tokenizer, system)
    if system:
        _check_takes_a_system_message(talking)
    return talking


def _check_takes_a_system_message(talking: Conversation) -> None:
    if not talking.has_template:
        raise CheckpointError(
            "--system: the model has no chat template, and without one there is no place for a system message. Say it "
            "at the beginning of the text itself, or give the recipe a `chat_template`."
        )
    messages = [{"role": "system", "content": talking.system}, {"role": "user", "content": ""}]
    try:
        talking.tokenizer.apply_chat_template(messages, tokenize=False)
    except Exception as error:  # whatever a template raises
        raise CheckpointError(f"the model's chat template takes no system message ({error}).") from error
