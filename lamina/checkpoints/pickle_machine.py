"""A pickle read as data: the opcodes of plain values, and calls of nothing but what the caller hands in.

Python's own machine imports and calls whatever a pickle names. This one knows values, containers, and a table
of names; any other name, and any opcode that a state dict does not need, is refused by name. Nothing here
recurses over what was read, so that depth, cycles and shared values cost nothing.
The opcodes are documented in Python's `pickletools`.
"""

from __future__ import annotations

import pickle as op  # for the opcodes' names; none of its functions is used
import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MAX_STEPS = 5_000_000  # opcodes; a state dict takes about 30 a tensor
MAX_NAME = 200  # letters of a module or class
MAX_KEY = 1 << 31  # of integer keys: larger ones could be chosen to collide in a dict


@dataclass(frozen=True)
class Known:
    """A name that a pickle may use: `call` is given the arguments of a call of it; None forbids calls."""

    name: str
    call: Callable[[tuple[object, ...]], object] | None = None


def read_pickle(raw: bytes, known: Mapping[str, Known], persistent: Callable[[object], object]) -> object:
    """The value that a pickle describes. `persistent` answers for what lies outside it.

    Raises ValueError with a sentence for anything but values, containers and calls of what is `known`.
    """
    return _Machine(raw, known, persistent).run()


class _Machine:
    def __init__(self, raw: bytes, known: Mapping[str, Known], persistent: Callable[[object], object]) -> None:
        self._raw = raw
        self._at = 0
        self._known = known
        self._persistent = persistent
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}

    def run(self) -> object:
        for _ in range(MAX_STEPS):
            code = self._take(1)
            if code == op.STOP:
                return self._pop()
            step = _STEPS.get(code)
            if step is None:
                names = (each.name for each in pickletools.opcodes if each.code == code.decode("latin-1"))
                what = f"opcode {next(names, code.hex())}"
                raise ValueError(f"its pickle has the {what} at byte {self._at - 1}, which no state dict needs")
            step(self)
        raise ValueError(f"its pickle takes more than {MAX_STEPS} steps")

    def _take(self, count: int) -> bytes:
        found = self._raw[self._at : self._at + count]
        if len(found) < count:
            raise ValueError("its pickle ends in the middle")
        self._at += count
        return found

    def _number(self, width: int) -> int:
        return int.from_bytes(self._take(width), "little")

    def _text(self, width: int) -> str:
        return self._take(self._number(width)).decode("utf-8")

    def _line(self) -> str:
        end = self._raw.find(b"\n", self._at, self._at + MAX_NAME + 1)
        if end < 0:
            raise ValueError(f"its pickle has a name of more than {MAX_NAME} letters")
        line = self._take(end - self._at).decode("utf-8")
        self._at += 1
        return line

    def push(self, value: object) -> None:
        self._stack.append(value)

    def _pop(self) -> object:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise ValueError(f"its pickle takes a value at byte {self._at - 1} where none is left")
        return self._stack.pop()

    def _top(self) -> object:
        value = self._pop()
        self._stack.append(value)
        return value

    def _pop_mark(self) -> list[object]:
        if not self._marks:
            raise ValueError(f"its pickle goes back at byte {self._at - 1} to a mark that it did not set")
        mark = self._marks.pop()
        values = self._stack[mark:]
        del self._stack[mark:]
        return values

    # steps

    def number(self, width: int) -> None:
        self.push(self._number(width))

    def int4(self) -> None:
        self.push(int.from_bytes(self._take(4), "little", signed=True))

    def long1(self) -> None:
        self.push(int.from_bytes(self._take(self._number(1)), "little", signed=True))

    def float8(self) -> None:
        self.push(struct.unpack(">d", self._take(8))[0])

    def text(self, width: int) -> None:
        self.push(self._text(width))

    def skip(self, count: int) -> None:
        self._take(count)

    def mark(self) -> None:
        self._marks.append(len(self._stack))

    def tuple_of_mark(self) -> None:
        self.push(tuple(self._pop_mark()))

    def tuple_of(self, count: int) -> None:
        self.push(tuple([self._pop() for _ in range(count)][::-1]))

    def append(self, values: list[object]) -> None:
        target = self._top()
        if not isinstance(target, list):
            raise ValueError(f"its pickle appends at byte {self._at - 1} to what is no list")
        target += values

    def set_items(self, values: list[object]) -> None:
        target = self._top()
        if not isinstance(target, dict) or len(values) % 2:
            raise ValueError(f"its pickle sets items at byte {self._at - 1} of what is no mapping")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not (isinstance(key, str) or (isinstance(key, int) and abs(key) < MAX_KEY)):
                raise ValueError(f"its pickle has a mapping with a {type(key).__name__} for a key")
            target[key] = value

    def put(self, index: int) -> None:
        self._memo[index] = self._top()

    def get(self, width: int) -> None:
        index = self._number(width)
        if index not in self._memo:
            raise ValueError(f"its pickle asks at byte {self._at - width} for a value that it did not keep")
        self.push(self._memo[index])

    def name_on_stack(self) -> None:
        name, module = self._pop(), self._pop()
        self.name(module, name)

    def name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("its pickle has a name that is no text")
        full = f"{module}.{name}"
        if full not in self._known:
            raise ValueError(
                f"its pickle names {full[:MAX_NAME]!r}, which is not read, and nothing is run. Save the model's state "
                "dict alone, its tensors plain and dense."
            )
        self.push(self._known[full])

    def call(self) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Known) or function.call is None or not isinstance(arguments, tuple):
            raise ValueError(f"its pickle calls at byte {self._at - 1} what cannot be called")
        self.push(function.call(arguments))

    def build(self) -> None:
        """Attributes, which torch gives to the mapping of a state dict: nothing that a tensor needs."""
        self._pop()
        if not isinstance(self._top(), dict):
            raise ValueError(f"its pickle sets attributes at byte {self._at - 1} of what is no mapping")


_STEPS: dict[bytes, Callable[[_Machine], None]] = {
    op.PROTO: lambda m: m.skip(1),
    op.FRAME: lambda m: m.skip(8),
    op.NONE: lambda m: m.push(None),
    op.NEWTRUE: lambda m: m.push(True),
    op.NEWFALSE: lambda m: m.push(False),
    op.BININT: _Machine.int4,
    op.BININT1: lambda m: m.number(1),
    op.BININT2: lambda m: m.number(2),
    op.LONG1: _Machine.long1,
    op.BINFLOAT: _Machine.float8,
    op.SHORT_BINUNICODE: lambda m: m.text(1),
    op.BINUNICODE: lambda m: m.text(4),
    op.BINUNICODE8: lambda m: m.text(8),
    op.EMPTY_DICT: lambda m: m.push({}),
    op.EMPTY_LIST: lambda m: m.push([]),
    op.EMPTY_TUPLE: lambda m: m.push(()),
    op.MARK: _Machine.mark,
    op.TUPLE: _Machine.tuple_of_mark,
    op.TUPLE1: lambda m: m.tuple_of(1),
    op.TUPLE2: lambda m: m.tuple_of(2),
    op.TUPLE3: lambda m: m.tuple_of(3),
    op.APPEND: lambda m: m.append([m._pop()]),
    op.APPENDS: lambda m: m.append(m._pop_mark()),
    op.SETITEM: lambda m: m.set_items([m._pop(), m._pop()][::-1]),
    op.SETITEMS: lambda m: m.set_items(m._pop_mark()),
    op.BINPUT: lambda m: m.put(m._number(1)),
    op.LONG_BINPUT: lambda m: m.put(m._number(4)),
    op.MEMOIZE: lambda m: m.put(len(m._memo)),
    op.BINGET: lambda m: m.get(1),
    op.LONG_BINGET: lambda m: m.get(4),
    op.GLOBAL: lambda m: m.name(m._line(), m._line()),
    op.STACK_GLOBAL: _Machine.name_on_stack,
    op.BINPERSID: lambda m: m.push(m._persistent(m._pop())),
    op.REDUCE: _Machine.call,
    op.BUILD: _Machine.build,
}
