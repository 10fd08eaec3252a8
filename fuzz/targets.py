"""The targets: what is read of strangers, each as a function of bytes that may raise a LaminaError and nothing else.

A target is a row of TARGETS: the right inputs it starts from, and what is done with one. What a target did wrong
once is kept in `corpus/TARGET/`, and replayed by the tests.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import xxhash
import yaml

import lamina
from fuzz.guard import guarded
from fuzz.world import (
    AVERAGE,
    CONFIG,
    TOKENIZER_FILES,
    safetensors,
    specs,
    torch_archive,
    torch_pickle,
    world,
)
from lamina.api import forecast, merge, reproduce
from lamina.checkpoints.checkpoint import FetchProgress, each_header, open_checkpoint
from lamina.checkpoints.entries import Entry
from lamina.checkpoints.formats import read_tensors
from lamina.checkpoints.hub_client import HubOptions
from lamina.checkpoints.journal import read_journal
from lamina.checkpoints.staging import staging_of
from lamina.checkpoints.writer import MADE_BY, damage
from lamina.errors import CheckpointError, LaminaError
from lamina.ledger.notebook import Notebook
from lamina.model_ref import parse_model_ref
from lamina.models.plain import files_of
from lamina.tensor_spec import DTYPES, TensorSpec
from lamina.tokenizers.chat_templates import check_template, template_of, without_template
from lamina.tokenizers.vocabulary import Vocabulary

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus"
EXAMPLES = HERE.parent / "tests" / "corpus"
MOST_READ = 1 << 16  # bytes read of a tensor that was accepted
UNNOTED = Notebook(wanted=False)


@dataclass(frozen=True)
class Target:
    """One door through which strangers' bytes come in."""

    name: str
    seeds: Callable[[], Iterable[bytes]]
    run: Callable[[bytes], object]
    may_read_elsewhere: bool = False  # where the input is a path of the user's own

    def __call__(self, raw: bytes) -> None:
        """Run one input. Raises whatever is no letter, and Escape where it reached beyond its folder."""
        with guarded(world(), reads_elsewhere=self.may_read_elsewhere):
            try:
                self.run(raw)
            except LaminaError as error:
                told = [str(error), *(problem.message for problem in error.problems)]
                assert all(told), "a letter without a word in it"


# Tensor files


def _tensors(name: str, raw: bytes) -> dict[str, Entry]:
    """A tensor file in memory; what is accepted is read, and may not lie outside of it."""

    def fill(buffer: memoryview, offset: int) -> None:
        assert 0 <= offset <= offset + len(buffer) <= len(raw), "a tensor outside its file"
        buffer[:] = raw[offset : offset + len(buffer)]

    found = read_tensors(name, name, lambda offset, length: raw[offset : offset + length], len(raw), here=True)
    for entry in found.values():
        size = min(entry.spec.nbytes, MOST_READ)
        for first in (0, entry.spec.nbytes - size):
            entry.read_into(fill, first, memoryview(bytearray(size)))
    return found


def _safetensors_seeds() -> Iterator[bytes]:
    yield safetensors(specs())
    yield safetensors({"a": TensorSpec((), DTYPES["F32"]), "b": TensorSpec((0, 3), DTYPES["U8"])})
    yield safetensors({name: TensorSpec((4,), dtype) for name, dtype in DTYPES.items()})
    yield safetensors({})


def _pickle(raw: bytes) -> None:
    _tensors("model.pt", torch_archive(raw))


def _pickle_seeds() -> Iterator[bytes]:
    yield torch_pickle()
    yield torch_pickle((3, 2), (1, 3))
    yield torch_pickle(protocol=4)
    yield b"\x80\x02}X\x05\x00\x00\x00modelq\x00" + torch_pickle()[2:-1] + b"s."


def _archive_seeds() -> Iterator[bytes]:
    yield from (torch_archive(pickle) for pickle in _pickle_seeds())


@dataclass(frozen=True)
class _Memory:
    """A model's files that are nowhere but in memory."""

    content: Mapping[str, bytes]
    folder: Path = Path("/nowhere")
    label: str = "x"
    commit: str | None = None
    note: str = ""

    def names(self) -> Sequence[str]:
        return sorted(self.content)

    def read(self, name: str) -> bytes:
        if name not in self.content:
            raise CheckpointError(f"{name} is not there")
        return self.content[name]

    def digest(self, _name: str) -> str:
        return ""

    def headers(self, names: Sequence[str]) -> dict[str, dict[str, Entry]]:
        return each_header(names, lambda name: _tensors(name, self.content[name]))

    def bytes_to_fetch(self, _names: Iterable[str]) -> int:
        return 0

    def fetch(self, names: Iterable[str], progress: FetchProgress) -> None:
        """Nothing to do."""


SHARDS = {f"{name}.safetensors": safetensors({name: TensorSpec((2,), DTYPES["U8"])}) for name in ("one", "two")}


def _index(raw: bytes) -> None:
    for name in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        checkpoint = open_checkpoint(_Memory({name: raw, **SHARDS, "p.bin": torch_archive(torch_pickle())}))
        checkpoint.fetch(checkpoint.specs)


def _index_seeds() -> Iterator[bytes]:
    for weight_map in ({"one": "one.safetensors", "two": "two.safetensors"}, {"a": "p.bin"}, {"a": "../p.bin"}, {}):
        yield json.dumps({"metadata": {"total_size": 4}, "weight_map": weight_map}).encode()


# Recipes


def _plan(recipe: bytes | str) -> None:
    path = world() / "recipe.yml"
    path.write_bytes(recipe if isinstance(recipe, bytes) else recipe.encode(errors="replace"))
    lamina.plan(path, offline=True, cache_dir=world() / "cache")


def _recipe_seeds() -> Iterator[bytes]:
    yield AVERAGE.encode()
    for path in sorted(EXAMPLES.rglob("*.yml")):
        yield path.read_bytes()


OWN_CODE = "from fuzz.guard import Escape\nraise Escape('the code of a recipe that came with a model was run')\n"


def _carried(raw: bytes) -> None:
    """A recipe in a model's folder, beside code that it may name and that must not be run unasked."""
    folder = world() / "carried"
    folder.mkdir(exist_ok=True)
    (folder / "own.py").write_text(OWN_CODE)
    (folder / "lamina.yml").write_bytes(raw)
    lamina.plan(folder, offline=True, cache_dir=world() / "cache")


def _carried_seeds() -> Iterator[bytes]:
    for method in ("linear", "own.py:mean", "./own.py:mean", "../carried/own.py:mean"):
        models = "models: [{model: ../a}, {model: ../b}]\nparameters: {weight: 1}\n"
        yield f"{models}merge_method: {method}\n".encode()


def _reference(raw: bytes) -> None:
    text = raw.decode(errors="replace")
    try:
        ref = parse_model_ref(text)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    files_of(ref, world(), HubOptions(world() / "cache", offline=True)).names()


def _reference_seeds() -> Iterator[bytes]:
    for text in ("a", "org/name", "org/name@v1.0", "a+b", "org/a@main+org/b@dev", "../a", "~/models/a", "./a@b"):
        yield text.encode()


# The small files of a model


def _with_file(name: str, raw: bytes, recipe: str = AVERAGE) -> None:
    """Plan a merge of a model in which one file is hostile; the file is taken out again."""
    path = world() / "x" / name
    before = path.read_bytes() if path.exists() else None
    path.write_bytes(raw)
    try:
        _plan(recipe)
    finally:
        path.unlink() if before is None else path.write_bytes(before)


def _config(raw: bytes) -> None:
    _with_file("config.json", raw)
    _with_file("config.json", raw, "stack: [{model: x, layers: 0-1}, {model: x, layers: 1, at: 1}]\noverlap: ramp\n")


def _config_seeds() -> Iterator[bytes]:
    yield json.dumps(CONFIG).encode()
    yield json.dumps({"model_type": "x", "text_config": CONFIG, "architectures": None}).encode()
    more = {"sliding_window": 4, "max_window_layers": 1, "rope_parameters": {"rope_theta": 1e4}, "mlp_only_layers": [0]}
    yield json.dumps(CONFIG | more | {"quantization_config": {"bits": 4}, "auto_map": {"a": "b.py"}}).encode()


TOKENIZER_NAMES = (*TOKENIZER_FILES, "vocab.txt", "tokenizer.model", "chat_template.json", "tekken.json")
UNION = AVERAGE + "tokenizer: {source: union}\nchat_template: auto\n"


def _tokenizer(raw: bytes) -> None:
    """The first byte says which file the rest is of. What is understood of it is planned with, too."""
    name = TOKENIZER_NAMES[(raw or b"0")[0] % len(TOKENIZER_NAMES)]
    try:
        _ = Vocabulary({name: raw[1:]}).tokens
        template_of({name: raw[1:]})
        without_template({name: raw[1:]})
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    main = world() / "x" / "tokenizer.json"
    hidden = world() / "tokenizer.aside"
    if name not in TOKENIZER_FILES or name == "vocab.json":  # of several, the first that a model has is read
        main.rename(hidden)
    try:
        _with_file(name, raw[1:], UNION)
    finally:
        if hidden.exists():
            hidden.rename(main)


def _tokenizer_seeds() -> Iterator[bytes]:
    for number, name in enumerate(TOKENIZER_NAMES):
        content = TOKENIZER_FILES.get(name, {"chat_template": "{{ x }}"})
        yield bytes([number]) + json.dumps(content).encode()
    piece = b"\x0a\x0e\x0a\x02t1\x15\x00\x00\x80\xbf\x18\x01"
    yield bytes([TOKENIZER_NAMES.index("tokenizer.model")]) + piece * 3
    yield bytes([TOKENIZER_NAMES.index("vocab.txt")]) + b"t0\nt1\nt2\n"


def _template(raw: bytes) -> None:
    text = raw.decode(errors="replace")
    try:
        check_template(text)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    _plan(AVERAGE + yaml.safe_dump({"chat_template": text}))


def _template_seeds() -> Iterator[bytes]:
    for path in sorted((HERE.parent / "lamina" / "tokenizers" / "templates").glob("*.jinja")):
        yield path.read_bytes()
    yield b"{% for m in messages %}{{ ''.__class__.__mro__[1].__subclasses__() }}{% endfor %}"


# What a merge left


def _made_by(raw: bytes) -> None:
    out = world() / "out"
    out.mkdir(exist_ok=True)
    (out / MADE_BY).write_bytes(raw)
    damage(out)
    if b'"plan"' in raw:
        forecast(world() / "right.yml", out, offline=True, cache_dir=world() / "cache")


def _made_by_seeds() -> Iterator[bytes]:
    (world() / "right.yml").write_text(AVERAGE)
    plan = lamina.plan(world() / "right.yml")
    listed: Sequence[object] = ({"config.json": 3}, {"../a/config.json": 3}, [])
    for files in listed:
        yield json.dumps({"lamina": "0.1.0", "plan": plan.digest, "seed": 0, "inputs": [], "files": files}).encode()


@cache
def _published() -> Path:
    """A merge that is complete, in a folder whose `lamina.json` is then a hostile one."""
    (world() / "right.yml").write_text(AVERAGE)
    merge(world() / "right.yml", world() / "published", workers=1, notebook=UNNOTED)
    return world() / "published"


def _record(raw: bytes) -> None:
    out = _published()
    (out / MADE_BY).write_bytes(raw)
    reproduce(out, digests_only=True)
    reproduce(out, recipe=world() / "right.yml", workers=1)


def _record_seeds() -> Iterator[bytes]:
    whole = json.loads((_published() / MADE_BY).read_bytes())
    yield json.dumps(whole).encode()
    yield json.dumps(whole | {"options": {"border": "strict", "unlike_models": True, "copy_tokenizer": False}}).encode()
    few = {name: dict(list(whole[name].items())[:1]) for name in ("tensors", "files", "file_digests")}
    yield json.dumps(whole | few | {"inputs": [], "seed": 1}).encode()


@dataclass(frozen=True)
class _Halfway:
    """A merge that was stopped when some tensors were finished."""

    out: Path
    aside: Path  # a copy of what it had staged
    journal: bytes


@cache
def _halfway() -> _Halfway:
    (world() / "right.yml").write_text(AVERAGE)
    out, aside, seen = world() / "halfway", world() / "aside", 0

    def stop(_name: str, _nbytes: int) -> None:
        nonlocal seen
        seen += 1
        if seen == 6:
            raise KeyboardInterrupt

    try:
        merge(world() / "right.yml", out, workers=1, progress=stop, notebook=UNNOTED)
    except KeyboardInterrupt:
        shutil.copytree(staging_of(out).folder, aside)
    return _Halfway(out, aside, staging_of(out).journal.read_bytes())


def _journal(raw: bytes) -> None:
    """What a run that was stopped has left, with another journal. A line of JSON gets the checksum that it needs."""
    signed = b"\n".join(_signed(line) if line.startswith(b"{") else line for line in raw.split(b"\n"))
    halfway = _halfway()
    staging = staging_of(halfway.out)
    shutil.rmtree(staging.folder, ignore_errors=True)
    shutil.copytree(halfway.aside, staging.folder)
    staging.journal.write_bytes(signed)
    staging.finished()
    if read_journal(staging.journal) is not None:
        try:
            merge(world() / "right.yml", halfway.out, workers=1, notebook=UNNOTED)
        finally:
            shutil.rmtree(halfway.out, ignore_errors=True)


def _signed(line: bytes) -> bytes:
    return xxhash.xxh3_64_hexdigest(line).encode() + b" " + line


def _journal_seeds() -> Iterator[bytes]:
    whole = _halfway().journal
    yield whole
    lines = [line.partition(b" ")[2] for line in whole.splitlines()]
    assert len(lines) > 2
    yield b"\n".join([*lines, b""])
    yield b"\n".join([*lines[:2], b""])
    made = json.loads(lines[1]) | {"coefficients": [[1, 0.5], [1e300]], "finite": False}
    yield b"\n".join([lines[0], json.dumps(made).encode(), b""])


TARGETS = {
    target.name: target
    for target in (
        Target("safetensors", _safetensors_seeds, partial(_tensors, "model.safetensors")),
        Target("pickle", _pickle_seeds, _pickle),
        Target("archive", _archive_seeds, partial(_tensors, "model.pt")),
        Target("index", _index_seeds, _index),
        Target("recipe", _recipe_seeds, _plan, may_read_elsewhere=True),
        Target("carried", _carried_seeds, _carried, may_read_elsewhere=True),
        Target("reference", _reference_seeds, _reference, may_read_elsewhere=True),
        Target("config", _config_seeds, _config),
        Target("tokenizer", _tokenizer_seeds, _tokenizer),
        Target("template", _template_seeds, _template),
        Target("made_by", _made_by_seeds, _made_by),
        Target("record", _record_seeds, _record, may_read_elsewhere=True),
        Target("journal", _journal_seeds, _journal),
    )
}
