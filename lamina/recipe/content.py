"""A recipe's content under repair: what was meant is put in, what makes no sense is taken out, places go along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamina.recipe.forms import entry_of, items_of, moved_up
from lamina.recipe.ways import Way


class Content:
    """The content, where each part of it stands in the text, and what is set apart as `incomplete`.

    `origins` has for each part the way by which the text has it.
    """

    def __init__(self, value: Any, places: Mapping[Way, tuple[int, int]], origins: Mapping[Way, Way]) -> None:
        self.value = value
        self.places, self.origins = dict(places), dict(origins)
        self.incomplete: set[Way] = set()

    def at(self, way: Way) -> Any:
        """What stands there."""
        content = self.value
        for part in way:
            content = content[part]
        return content

    def delete(self, way: Way) -> None:
        """Take a key out, and the whole top-level key where the fault lies deeper than the text goes.

        What hangs on it is set apart or gets a value that stands in, so that it is no second fault.
        """
        if way[-2:-1] == ("parameters",):
            self.at(way[:-1])[way[-1]] = 1.0
        elif way == ("merge_method",) and isinstance(given := self.at(way), list) and given:
            self.value["merge_method"] = str(given[0])
        elif len(way) == 1 or not isinstance(around := self.at(way[:-1]), dict):
            self._drop(str(way[0]))
        else:
            around.pop(way[-1], None)
            if way[-1] in ("parameters", "base_model"):
                self.incomplete.add(way[:2] if way[0] == "slices" else ())

    def _drop(self, key: str) -> None:
        """Take a top-level key out. Without its layers, models or base a recipe cannot be looked at any further."""
        self.value.pop(key, None)
        if key in ("models", "slices", "stack", "modules", "base_model", "parameters"):
            self.incomplete.add(())
        if key == "stack":
            self.value.setdefault("merge_method", "linear")

    def leave_out(self, way: Way) -> Way:
        """Take an entry of a list out; those after it move up, and so do their places. Returns what was taken out.

        With the last entry goes what the list stands in: that it is empty then is no second fault.
        """
        *around, index = way
        prefix = tuple(around)
        entries = self.at(prefix) if isinstance(index, int) else None
        if not isinstance(index, int) or not isinstance(entries, list):
            self._drop(str(way[0]))
            return way[:1]
        if len(entries) == 1:
            return self.leave_out(entry_of(prefix))
        del entries[index]
        self.incomplete = {moved_up(other, prefix, index) for other in self.incomplete}
        self.places = {
            moved_up(other, prefix, index): place
            for other, place in self.places.items()
            if other[: len(prefix) + 1] != (*prefix, index)
        }
        self.origins = {
            moved_up(other, prefix, index): origin
            for other, origin in self.origins.items()
            if other[: len(prefix) + 1] != (*prefix, index)
        }
        self.incomplete.add(prefix[:-1] if prefix[-1] == "sources" else ())
        return way

    def move_places(self, old: Way, new: Way) -> None:
        """Let what was moved keep its place in the text."""
        for way in [way for way in self.places if way[: len(old)] == old]:
            self.places[new + way[len(old) :]] = self.places[way]
            if way in self.origins:
                self.origins[new + way[len(old) :]] = self.origins[way]

    def named(self) -> list[str]:
        """The models that the recipe names, as it names them."""
        found: list[str] = []

        def look(content: Any) -> None:
            for key, value in items_of(content):
                if key == "model" and isinstance(value, str):
                    found.append(value)
                look(value)

        look(self.value)
        return found
