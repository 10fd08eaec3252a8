"""Pickles read as data: as Python reads them where they hold values, refused where they ask for more."""

from __future__ import annotations

import os
import pickle
import pickletools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.checkpoints.pickle_machine import MAX_KEY, MAX_STEPS, Known, read_pickle

PROTO, STOP = b"\x80\x02", b"."

small = st.none() | st.booleans() | st.integers(-(2**200), 2**200) | st.floats(allow_nan=False) | st.text()
keys = st.text() | st.integers(1 - MAX_KEY, MAX_KEY - 1)
values = st.recursive(
    small, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.tuples(inner) | st.dictionaries(keys, inner)
)


def read(raw: bytes) -> object:
    return read_pickle(raw, {"m.f": Known("m.f", lambda arguments: ("called", arguments)), "m.v": Known("m.v")}, repr)


@given(values, st.sampled_from([2, 3, 4, 5]))
@settings(max_examples=300, deadline=None)
def test_values_are_read_as_python_reads_them(value: Any, protocol: int) -> None:
    assert read(pickle.dumps(value, protocol)) == value


def test_a_value_that_is_kept_is_the_same_when_it_comes_again() -> None:
    shared = ["x"]
    first, second = read(pickle.dumps([shared, shared], 2))
    assert first is second


def test_a_list_in_itself_is_read() -> None:
    endless: list[Any] = []
    endless.append(endless)
    found = read(pickle.dumps(endless, 2))
    assert isinstance(found, list)
    assert found[0] is found


def test_a_known_name_is_called_and_a_persistent_id_is_answered() -> None:
    assert read(PROTO + b"cm\nf\nK\x01\x85R" + STOP) == ("called", (1,))
    assert read(PROTO + b"K\x07Q" + STOP) == "7"


# What is refused

ATTACKS: dict[str, bytes] = {
    "os.system": b"cos\nsystem\nX\x0b\x00\x00\x00touch pwned\x85R.",
    "posix.system": b"cposix\nsystem\nX\x0b\x00\x00\x00touch pwned\x85R.",
    "builtins.eval": b"cbuiltins\neval\nX\x0e\x00\x00\x00open('pwned','w')\x85R.",
    "builtins.exec by text on the stack": b"\x8c\x08builtins\x8c\x04exec\x93\x8c\x01x\x85R.",
    "builtins.getattr": b"cbuiltins\ngetattr\ncos\nsystem\nX\x00\x00\x00\x00\x86R.",
    "an attribute of a known name": b"cm\nf.__globals__\n.",
    "a known name in pieces": b"cm.f\n__class__\n.",
    "a name with a zero byte": b"cm\nf\0\n.",
    "a name that is no UTF-8": b"cm\n\xff\n.",
    "an instance of the first protocol": b"(S'touch pwned'\nios\nsystem\n.",
    "an object of the first protocol": b"(cos\nsystem\nS'x'\no.",
    "a new object": b"cm\nf\n)\x81.",
    "a new object with keywords": b"cm\nf\n)}\x92.",
    "an extension": b"\x82\x01.",
    "text as Python 2 wrote it": b"S'x'\n.",
    "a number as text": b"I" + b"9" * 100_000 + b"\n.",
    "a long number as text": b"L" + b"9" * 100_000 + b"L\n.",
    "a persistent id as text": b"Px\n.",
    "a buffer from outside": b"\x97.",
    "a set": b"\x8f.",
    "bytes": b"C\x01x.",
    "a value that cannot be called": b"K\x01)R.",
    "a name that cannot be called": b"cm\nv\n)R.",
    "arguments that are a list": b"cm\nf\n]R.",
    "names that are numbers": b"K\x01K\x02\x93.",
    "a name without end": b"c" + b"a" * 1_000_000,
    "a name of a thousand letters": b"cm\n" + b"a" * 1000 + b"\n.",
    "no end": b"K\x01",
    "nothing": b"",
    "nothing on the stack": b".",
    "more taken than there is": b"K\x01\x86.",
    "taken from below a mark": b"K\x01(\x85.",
    "a mark that was not set": b"K\x01t.",
    "text beyond the end": b"X\xff\xff\xff\x7fabc.",
    "text of 2^63 bytes": b"\x8d" + b"\xff" * 8 + b"abc.",
    "text that is no UTF-8": b"X\x01\x00\x00\x00\xff.",
    "half a surrogate pair": b"X\x03\x00\x00\x00\xed\xa0\x80.",
    "a number beyond the end": b"\x8a\xff\x01.",
    "a number of 2^31 bytes": b"\x8b\xff\xff\xff\x7f\x01.",
    "a number of negative length": b"\x8b\xff\xff\xff\xff\x01.",
    "a number cut off": b"J\x01.",
    "a frame beyond the end": b"\x95" + b"\xff" * 8,
    "an unknown opcode": b"\xff.",
    "a memo that was not kept": b"h\x01.",
    "a memo of nothing": b"q\x01.",
    "an item of a list": b"]K\x01K\x02s.",
    "an item appended to a mapping": b"}K\x01a.",
    "a key without a value": b"}(K\x01u.",
    "a key that is a tuple": b"})K\x01s.",
    "a key that is a list": b"}]K\x01s.",
    "a key that is itself": b"}q\x00h\x00h\x00s.",
    "keys chosen to collide": b"}\x8a\x08" + (2**61 - 1).to_bytes(8, "little") + b"Ns.",
    "attributes of a name": b"cm\nf\n}b.",
    "attributes of a list": b"]}b.",
}


@pytest.mark.parametrize("what", ATTACKS)
def test_what_is_no_data_is_refused_and_not_run(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the sentences are the machine's own)
        read(PROTO + ATTACKS[what] if ATTACKS[what] else b"")
    assert len(str(caught.value)) < 500, "a letter is to be read"
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_a_refused_name_is_in_the_letter() -> None:
    with pytest.raises(ValueError, match=r"names 'os\.system'"):
        read(ATTACKS["os.system"])


def test_a_refused_opcode_is_in_the_letter() -> None:
    with pytest.raises(ValueError, match="opcode STRING at byte 1, "):
        read(ATTACKS["an instance of the first protocol"])


@pytest.mark.parametrize("opcode", sorted({each.code for each in pickletools.opcodes}))
def test_no_opcode_alone_is_another_error(opcode: str) -> None:
    for more in (b"", b"\0" * 20, b"\xff" * 20, b"\n" * 20):
        try:
            read(opcode.encode("latin-1") + more)
        except ValueError:
            continue


@given(st.binary(max_size=100))
@settings(max_examples=1000, deadline=None)
def test_random_bytes_are_a_value_or_a_value_error(raw: bytes) -> None:
    try:
        read(raw)
    except ValueError:
        return


# What costs nothing, or no more than it may


def laughs(depth: int, make: Callable[[int], bytes]) -> bytes:
    """A value that holds the one before twice, `depth` times."""
    return b"".join(make(index) for index in range(depth)) + STOP


BOMBS: dict[str, bytes] = {
    "tuples that double": b")q\x00" + laughs(200, lambda index: b"h%ch%c\x86q%c" % (index, index, index + 1)),
    "lists that double": b"]q\x00" + laughs(200, lambda index: b"](h%ch%ceq%c" % (index, index, index + 1)),
    "lists to a great depth": b"]" * 300_000 + b"a" * 299_999 + STOP,
    "tuples to a great depth": b")" + b"\x85" * 300_000 + STOP,
    "mappings to a great depth": b"}" + b"K\x01}" * 300_000 + b"s" * 300_000 + STOP,
    "a list in itself without end": b"]q\x00(" + b"h\x00" * 300_000 + b"e" + STOP,
    "values kept anew without end": b"N" + b"\x94" * 300_000 + STOP,
    "a memo at the last place": b"Nr\xff\xff\xff\xff" + STOP,
}


@pytest.mark.parametrize("what", BOMBS)
def test_depth_and_sharing_cost_no_more_than_the_bytes_that_write_them(what: str) -> None:
    started = time.process_time()
    read(PROTO + BOMBS[what])
    assert time.process_time() - started < 15  # about 2, on a slow machine


def test_a_key_that_doubles_is_refused_before_it_is_hashed() -> None:
    doubled = b")q\x00" + b"".join(b"h%ch%c\x86q%c" % (index, index, index + 1) for index in range(200))
    with pytest.raises(ValueError, match="tuple for a key"):
        read(PROTO + doubled + b"}h\xc8Ns" + STOP)


def test_steps_are_bounded() -> None:
    with pytest.raises(ValueError, match=f"more than {MAX_STEPS} steps"):
        read(b"(" * (MAX_STEPS + 1))
