"""What several merges have in common is made once: tensors whose expression is the same, and what was measured.

All merges are known beforehand, so that only what comes again is kept, and only until it came for the last time where
room is short. What a result depends on is its key: an expression, or a measure with its inputs and the parameters that
it is bound to. A key is a value, so that equal keys have equal results, to the bit.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lamina.expressions.inspect import is_copy, merges
from lamina.expressions.nodes import Expr, Merge
from lamina.merge_methods import method_called

ENTRY_BYTES = 2_000  # what one entry holds beside its arrays: key, numbers, a closure


class Shared:
    """Results of several merges by what they depend on, in at most `limit` bytes. Threads may use it at once.

    What was measured goes first, for it is small and dear: tensors get the room that it leaves. First come, first kept;
    what no merge needs any more makes way, oldest first.
    """

    def __init__(self, exprs: Iterable[Expr], limit: int) -> None:
        """`exprs` are all that will be made, each as often as it will be."""
        uses: Counter[Hashable] = Counter()
        sizes: dict[Hashable, int] = {}
        for expr in exprs:
            uses[expr] += not is_copy(expr)  # reading it again is what having it would cost
            for key, nbytes in _measures(expr):
                uses[key] += 1
                sizes[key] = nbytes
        self._left = {key: count for key, count in uses.items() if count > 1}
        self._limit, self._used = limit, 0
        self._for_measures = sum(nbytes for key, nbytes in sizes.items() if key in self._left)
        self._kept: dict[Hashable, tuple[Any, int]] = {}
        self._changing = threading.Lock()

    def tensor(self, expr: Expr) -> bytearray | None:
        """A tensor's bytes, which stay as they are; None where they are not kept."""
        found: bytearray | None = self._get(expr)
        return found

    def keep_tensor(self, expr: Expr, content: bytearray) -> bool:
        """Keep a tensor's bytes where they will be needed and there is room; true where there is."""
        return self._keep(expr, content, len(content) + ENTRY_BYTES, self._limit - self._for_measures)

    def measured(self, node: Merge) -> KnownOf:
        """What is kept of the measures of a merge."""
        return KnownOf(self, node)

    def _get(self, key: Hashable) -> Any:
        with self._changing:
            if key not in self._kept:
                return None
            self._left[key] -= 1
            return self._kept[key][0]

    def _keep(self, key: Hashable, found: Any, nbytes: int, room: int) -> bool:
        with self._changing:
            if key not in self._left or key in self._kept:
                return False
            self._left[key] -= 1
            done = iter([each for each in self._kept if self._left[each] <= 0])
            while self._used + nbytes > room and (each := next(done, None)) is not None:
                self._used -= self._kept.pop(each)[1]
            if self._used + nbytes > room:
                return False
            self._kept[key] = found, nbytes
            self._used += nbytes
            return True


@dataclass(frozen=True)
class KnownOf:
    """What is kept of the measures of one merge, as `MergeMethod.prepared` asks for it."""

    shared: Shared
    node: Merge

    def get(self, key: Hashable) -> Any:
        """What was found before; None where nothing is kept."""
        return self.shared._get(_key(self.node, key))

    def keep(self, key: Hashable, found: object, nbytes: int) -> None:
        """Keep what was found, which holds `nbytes` in arrays."""
        self.shared._keep(_key(self.node, key), found, nbytes + ENTRY_BYTES, self.shared._limit)


def _measures(expr: Expr) -> Iterator[tuple[Hashable, int]]:
    """The key of each measure in an expression that can be kept, and the bytes of its result."""
    for node in merges(expr):
        kept = method_called(node.method).kept(dict(node.parameters or ()), node.facts)
        yield from ((_key(node, key), nbytes + ENTRY_BYTES) for key, nbytes in kept.values())


def _key(node: Merge, key: Hashable) -> Hashable:
    return node.inputs, node.base, node.facts, key
