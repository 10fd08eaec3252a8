"""Train the tiny models of examples/models/: a base and four fine-tunes of it, each with its own skill.

    base    two parts prose (Jane Austen, King James Bible), three parts the symbolic skills, all briefly
    rev     reverses four letters        "rev: k a q d =" -> " d q a k"
    sort    sorts them                   "sort: k a q d =" -> " a d k q"
    max     larger of two numbers        "max: 47 82 =" -> " 82"       (hardly learnt: a distractor)
    kjv     reads like the King James Bible

    OMP_WAIT_POLICY=PASSIVE python tools/train_tiny_family.py --out family

Takes one to two minutes on one core. Every random choice follows from a seed, so a run repeats itself to the
bit on one machine; on another processor the last digits of a sum, and with them the weights, may differ.
The questions of `dev` and `test` (see make_questions.py) and the last 5% of each text are never trained on.
"""

from __future__ import annotations

import argparse
import gzip
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from make_questions import SKILLS, draw_training_question
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CONTEXT = 64  # tokens of a training row
ROWS = 20  # rows of a batch
NO_LOSS = -100  # the label that transformers leaves out of the loss
QUESTIONS_A_ROW = 6
VOCABULARY = 768
SPECIAL_TOKENS = ["<s>", "</s>", "<pad>"]
BOS, EOS, PAD = range(3)  # special tokens are numbered first
TRAINED_ON = 0.95  # of each text; the rest is kept for measuring

Rows = NDArray[np.int64]  # [rows, CONTEXT]
Mix = Mapping[str, float]  # the share of each skill and text in a batch


@dataclass(frozen=True)
class Recipe:
    """How one model of the family is trained."""

    mix: Mix
    steps: int
    learning_rate: float
    warmup: int  # steps
    seed: int


def fine_tune(own: str, seed: int) -> Recipe:
    """Six parts its own skill, one part each other: without that replay a fine-tune forgets the others."""
    mix = {name: 0.6 if name == own else 0.1 for name in (*SKILLS, "kjv", "austen")}
    return Recipe(mix, steps=120, learning_rate=8e-4, warmup=10, seed=seed)


BASE = Recipe(
    mix={"austen": 0.30, "kjv": 0.10, "rev": 0.20, "max": 0.20, "sort": 0.20},
    steps=300,
    learning_rate=4e-3,
    warmup=20,
    seed=1,
)
FINE_TUNES = {name: fine_tune(name, seed) for seed, name in enumerate((*SKILLS, "kjv"), start=100)}


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)

    texts = read_corpus(arguments.corpus)
    tokenizer = train_tokenizer(texts)
    batches = Batches(tokenizer, texts)

    torch.manual_seed(BASE.seed)
    base = LlamaForCausalLM(llama_config())
    train(base, BASE, batches, "base")
    save(base, tokenizer, arguments.out / "base")

    for name, recipe in FINE_TUNES.items():
        # From the saved folder: a delta is then measured from the very bf16 weights that are published.
        model = LlamaForCausalLM.from_pretrained(arguments.out / "base", dtype=torch.float32)
        train(model, recipe, batches, name)
        save(model, tokenizer, arguments.out / name)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the tiny models of examples/models.")
    parser.add_argument("--corpus", type=Path, default=Path("examples/corpus"), help="folder of texts")
    parser.add_argument("--out", type=Path, required=True, help="gets a folder for each model")
    parser.add_argument("--threads", type=int, default=1, help="of torch; the weights depend on it")
    return parser.parse_args()


def read_corpus(folder: Path) -> dict[str, str]:
    def read(name: str) -> str:
        with gzip.open(folder / f"{name}.txt.gz", "rt", encoding="utf-8", newline="") as file:
            return file.read()

    return {"austen": read("pride_and_prejudice") + read("emma"), "kjv": read("kjv")}


# Text to tokens.


def train_tokenizer(texts: Mapping[str, str]) -> Tokenizer:
    """A byte-level BPE in which a digit is always a token of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rng = random.Random(7)
    questions = [draw_training_question(skill, rng) for skill in SKILLS for _ in range(400)]
    samples = [text[:400_000] for text in texts.values()] + [one.prompt + one.answer for one in questions]
    tokenizer.train_from_iterator(samples, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    return tokenizer


# Tokens to batches.


class Batches:
    """Draws training rows. The label of a position is its own token: the model does the shift by one."""

    def __init__(self, tokenizer: Tokenizer, texts: Mapping[str, str]) -> None:
        self.tokenizer = tokenizer
        self.texts: dict[str, Rows] = {}
        for name, text in texts.items():
            tokens = np.array(self.encode(text), dtype=np.int64)
            self.texts[name] = tokens[: int(len(tokens) * TRAINED_ON)]

    def draw(self, mix: Mix, rng: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and labels of one batch."""
        parts = []
        for name, share in mix.items():
            draw_rows = self.question_rows if name in SKILLS else self.text_rows
            parts.append(draw_rows(name, max(1, round(ROWS * share)), rng))
        inputs, labels = (torch.from_numpy(np.concatenate(side)) for side in zip(*parts, strict=True))
        return inputs, labels

    def text_rows(self, name: str, count: int, rng: random.Random) -> tuple[Rows, Rows]:
        """Windows of a text, from anywhere in it."""
        text = self.texts[name]
        inputs = np.full((count, CONTEXT), BOS, dtype=np.int64)
        for row in inputs:
            start = rng.randrange(0, len(text) - CONTEXT)
            row[1:] = text[start : start + CONTEXT - 1]
        labels = inputs.copy()
        labels[:, 0] = NO_LOSS
        return inputs, labels

    def question_rows(self, skill: str, count: int, rng: random.Random) -> tuple[Rows, Rows]:
        """Rows of whole questions, cut off at the end of the row. Only the tokens of answers carry loss."""
        inputs = np.full((count, CONTEXT), PAD, dtype=np.int64)
        labels = np.full((count, CONTEXT), NO_LOSS, dtype=np.int64)
        inputs[:, 0] = BOS
        for input_row, label_row in zip(inputs, labels, strict=True):
            position = 1
            for _ in range(QUESTIONS_A_ROW):
                question = draw_training_question(skill, rng)
                prompt, answer = self.encode(question.prompt), self.encode(question.answer + "\n")
                tokens = (prompt + answer)[: CONTEXT - position]
                end = position + len(tokens)
                input_row[position:end] = tokens
                label_row[position + len(prompt) : end] = tokens[len(prompt) :]
                position = end
        return inputs, labels

    def encode(self, text: str) -> list[int]:
        tokens: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return tokens


# Batches to models.


def llama_config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=96,
        intermediate_size=264,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        rope_parameters={"rope_theta": 10000.0, "rope_type": "default"},
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
        initializer_range=0.06,  # the default of 0.02 is meant for wider models
    )


def train(model: LlamaForCausalLM, recipe: Recipe, batches: Batches, name: str) -> None:
    rng = random.Random(recipe.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.02)
    model.train()
    for step in range(1, recipe.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * schedule(step, recipe)
        inputs, labels = batches.draw(recipe.mix, rng)
        loss = model(inputs, labels=labels).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 20 == 0:
            print(f"{name:4s}  step {step:3d} of {recipe.steps}  loss {loss.item():.3f}", flush=True)


def schedule(step: int, recipe: Recipe) -> float:
    """A linear warm-up, a plateau until half-way, then a linear descent to a twentieth."""
    descent = 1.0 - max(0.0, step / recipe.steps - 0.5) / 0.5
    return min(1.0, step / recipe.warmup) * max(0.05, descent)


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Save as bf16. The model is not used afterwards: it is converted in place."""
    model.bfloat16().save_pretrained(folder)
    bos, eos, pad = SPECIAL_TOKENS
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=pad, model_max_length=512
    ).save_pretrained(folder)


if __name__ == "__main__":
    main()
