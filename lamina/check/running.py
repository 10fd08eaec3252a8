"""A model of transformers, ready to be asked: losses, what each layer receives, answers.

What is measured is decided elsewhere. Frameworks come through `execute.live_model`, the one place that imports them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamina.errors import CheckpointError
from lamina.execute.live_model import frameworks

LOGITS_BYTES = 256_000_000  # of one forward pass, in fp32
RUNTIME_BYTES = 700_000_000  # of a process beside the weights: torch, transformers, what is computed; 590 MB measured
FULL_PRECISION_BYTES = 1_500_000_000  # a model that is smaller than this in fp32 computes in fp32

Tokens = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Loading:
    """What transformers said when it loaded a folder: tensors it missed, did not know, found in other shapes."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]


@dataclass(frozen=True)
class Observation:
    """What a model makes of rows of tokens: its loss at each token but the first, nats, [rows, length - 1].

    `inputs[i]` is what layer i receives at the watched positions, [positions, hidden].
    """

    losses: Floats
    inputs: tuple[Floats, ...]


@dataclass(frozen=True)
class Answer:
    """A greedy answer: its tokens, its text, and whether the model ended it itself."""

    tokens: tuple[int, ...]
    text: str
    stopped: bool


class RunningModel:
    """A loaded model with its tokenizer."""

    def __init__(
        self,
        folder: Path,
        depth: int,
        elements: int,
        *,
        has_tokenizer: bool = True,
        memory: int | None = None,
        device: str = "cpu",
    ) -> None:
        """Load a folder. Raises MissingExtra without the extra `hf`, CheckpointError where transformers refuses.

        Computes in fp32 where the model is small, else as it is stored. Where the process would grow beyond `memory`
        bytes, what does not fit is kept on the disk and brought in layer by layer.
        """
        self._torch, transformers = frameworks()
        self._device = device
        options: dict[str, Any] = {"dtype": self._torch.float32 if _is_small(elements) else "auto"}
        self.is_streamed = is_streamed(elements, memory)
        if memory is not None and self.is_streamed:
            of_weights = memory - min(RUNTIME_BYTES, memory // 2)
            # What cannot be read in place is laid here, never into the model's own folder; it goes with this object.
            self._laid_out = tempfile.TemporaryDirectory(prefix="lamina-check-")
            options |= {"device_map": "auto", "max_memory": {"cpu": of_weights}, "offload_folder": self._laid_out.name}
        try:
            with silent(transformers):
                self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder) if has_tokenizer else None
                self.model, info = transformers.AutoModelForCausalLM.from_pretrained(
                    folder, output_loading_info=True, **options
                )
        except Exception as error:  # whatever a class does with a config that is at fault
            raise CheckpointError(f"transformers cannot load {folder}: {_first_line(error)}") from error
        (self.model if self.is_streamed else self.model.to(device)).eval()
        self.loading = Loading(
            *(tuple(map(str, info[f"{kind}_keys"])) for kind in ("missing", "unexpected", "mismatched"))
        )
        self.layers = _layers(self.model, depth)

    @property
    def is_rounded(self) -> bool:
        """True where it computes in less than fp32."""
        return bool(self.model.dtype.itemsize < self._torch.float32.itemsize)

    @property
    def longest(self) -> int:
        """How many tokens a row may have."""
        return int(getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 1 << 20)

    @property
    def window(self) -> int:
        """The sliding window, in tokens; 0 for none."""
        return int(getattr(self.model.config.get_text_config(), "sliding_window", None) or 0)

    @property
    def has_template(self) -> bool:
        return bool(getattr(self.tokenizer, "chat_template", None))

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def render(self, chat: Sequence[tuple[str, str]], *, ask: bool = False) -> str:
        """A conversation in the model's own template; as plain lines where it has none."""
        if self.has_template:
            messages = [{"role": role, "content": content} for role, content in chat]
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask))
        return "\n\n".join(content for _, content in chat) + "\n\n"

    def observe(self, rows: Tokens, watched: Sequence[int] = ()) -> Observation:
        """Losses of every row, and what layers receive at the `watched` positions of it."""
        losses: list[Floats] = []
        inputs: list[list[Floats]] = [[] for _ in self.layers]
        for part in self.parts(rows):
            with self._watching(inputs if watched else [], watched):
                losses.append(self.losses(part))
        seen = tuple(np.concatenate(each) for each in inputs) if watched else ()
        return Observation(np.concatenate(losses), seen)

    def parts(self, rows: Tokens) -> Iterator[Any]:
        """The rows as tensors on the device, as many at once as their logits leave memory for."""
        vocabulary = int(self.model.config.get_text_config().vocab_size)
        at_once = max(1, LOGITS_BYTES // (4 * vocabulary * rows.shape[1]))
        for start in range(0, len(rows), at_once):
            yield self._torch.from_numpy(rows[start : start + at_once]).to(self._device)

    def losses(self, part: Any) -> Floats:
        """The loss at each token of a part of the rows but their first, nats, [rows, length - 1]."""
        torch = self._torch
        with torch.no_grad():
            flat = self.model(part, use_cache=False).logits[:, :-1].float().flatten(0, 1)
            loss = torch.nn.functional.cross_entropy(flat, part[:, 1:].flatten(), reduction="none")
        found: Floats = loss.reshape(len(part), -1).cpu().numpy()
        return found

    def answer(self, prompt: str, most: int) -> Answer:
        """At most `most` tokens, always the likeliest."""
        torch = self._torch
        asked = self.encode(self.render([("user", prompt)], ask=True))
        with torch.no_grad():
            made = self.model.generate(
                torch.tensor([asked], device=self._device),
                attention_mask=torch.ones((1, len(asked)), dtype=torch.long, device=self._device),
                max_new_tokens=most, do_sample=False, pad_token_id=0,
            )  # fmt: skip
        tokens = tuple(made[0, len(asked) :].tolist())
        return Answer(tokens, self.tokenizer.decode(tokens, skip_special_tokens=True), len(tokens) < most)

    def cached_difference(self, row: Tokens, last: int) -> float:
        """The largest difference that a cache makes to the logits of the `last` tokens, of their largest logit."""
        torch = self._torch
        tokens = torch.from_numpy(row[None]).to(self._device)
        with torch.no_grad():
            plain = self.model(tokens, use_cache=False).logits[0, -last:].float()
            made = self.model(tokens[:, :-last], use_cache=True)
            stepped = []
            for index in range(len(row) - last, len(row)):
                made = self.model(tokens[:, index : index + 1], past_key_values=made.past_key_values, use_cache=True)
                stepped.append(made.logits[0, -1].float())
        return float((torch.stack(stepped) - plain).abs().max() / plain.abs().max())

    @contextmanager
    def _watching(self, inputs: Sequence[list[Floats]], watched: Sequence[int]) -> Iterator[None]:
        """While it runs, what each layer receives goes into `inputs`."""

        def watch(into: list[Floats]) -> Any:
            def hook(_module: Any, arguments: Any, named: Any) -> None:
                hidden = arguments[0] if arguments else named["hidden_states"]
                into.append(hidden[:, list(watched)].float().flatten(0, 1).cpu().numpy().copy())

            return hook

        hooks = [
            layer.register_forward_pre_hook(watch(into), with_kwargs=True)
            for layer, into in zip(self.layers, inputs, strict=False)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def is_streamed(elements: int, memory: int | None) -> bool:
    """True where a model of so many elements is brought in layer by layer, for a process of `memory` bytes."""
    size = elements * (4 if _is_small(elements) else 2)
    return memory is not None and size + min(RUNTIME_BYTES, memory // 2) > memory


def _is_small(elements: int) -> bool:
    return elements * 4 <= FULL_PRECISION_BYTES


def _layers(model: Any, depth: int) -> list[Any]:
    """The decoder's layers: the list of modules of that length with the most parameters."""
    lists = [module for module in model.modules() if type(module).__name__ == "ModuleList" and len(module) == depth]
    return list(max(lists, key=lambda each: sum(p.numel() for p in each.parameters()), default=()))


@contextmanager
def silent(transformers: Any) -> Iterator[None]:
    """Without its bars and warnings, and those of what streams: what matters of them is a finding here."""
    logging, streaming = transformers.utils.logging, getLogger("accelerate")
    level, level_of_streaming = logging.get_verbosity(), streaming.level
    logging.set_verbosity_error()
    streaming.setLevel("ERROR")
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        streaming.setLevel(level_of_streaming)
        logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
