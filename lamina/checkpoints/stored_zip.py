"""A zip archive whose records are stored, not compressed: each is a run of the file's bytes. Nothing is unpacked.

The directory at the end of the archive says what is where, and is not trusted: a record's own header must say
the same, and records may not overlap.
"""

from __future__ import annotations

import struct
import zipfile
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from lamina.checkpoints.entries import ReadAt

MAX_DIRECTORY = 32_000_000  # bytes; a record takes about 100
READ_AHEAD = 1 << 17  # bytes: the directory of most archives, and what their first records hold
LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, length of the name, length of what follows it


class Window:
    """A file as `zipfile` wants it, in few and bounded reads: what is read ahead is kept."""

    def __init__(self, read: ReadAt, size: int) -> None:
        self.size = size
        self._read = read
        self._place = 0
        self._pieces: list[tuple[int, bytes]] = []

    def at(self, offset: int, length: int, ahead: int = 0) -> bytes:
        """`length` bytes from `offset` on, read with more around them up to `ahead`.

        Raises ValueError where the file ends before.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"bytes {offset} to {offset + length} are asked of a file of {self.size}")
        for start, piece in self._pieces:
            if start <= offset and offset + length <= start + len(piece):
                return piece[offset - start : offset - start + length]
        start = min(offset, max(0, self.size - ahead))
        piece = self._read(start, min(max(offset + length - start, ahead), self.size - start))
        if ahead:
            self._pieces.append((start, piece))
        found = piece[offset - start : offset - start + length]
        if len(found) < length:
            raise ValueError(f"it ends at byte {start + len(piece)}")
        return found

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        place = offset + [0, self._place, self.size][whence]
        if place < 0:
            raise OSError("a place before the first byte")  # as files do: zipfile tries such places
        self._place = place
        return place

    def tell(self) -> int:
        return self._place

    def read(self, count: int = -1) -> bytes:
        left = max(0, self.size - self._place)
        count = left if count < 0 else min(count, left)
        if count > MAX_DIRECTORY:
            raise ValueError(f"a directory of {count} bytes, where at most {MAX_DIRECTORY} are read")
        found = self.at(self._place, count, ahead=READ_AHEAD)
        self._place += count
        return found


@dataclass(frozen=True)
class _Record:
    """One file in the archive; `header` is the byte at which its own header starts."""

    header: int
    size: int
    name: bytes
    is_stored: bool


class StoredZip:
    """The records of an archive, by name. Opening it reads the directory; raises ValueError with a sentence."""

    def __init__(self, file: Window) -> None:
        self._file = file
        self._records, directory = _directory_of(file)
        self._bounds = sorted({record.header for record in self._records.values()} | {directory})
        self._starts: dict[str, int] = {}
        self.sizes: Mapping[str, int] = {name: record.size for name, record in self._records.items()}

    def start(self, name: str) -> int:
        """The byte at which a record's content begins: behind its header, which must say what the directory says."""
        if name not in self._starts:
            self._starts[name] = self._found(self._records[name])
        return self._starts[name]

    def content(self, name: str, limit: int) -> bytes:
        """A whole small record."""
        size = self.sizes[name]
        if size > limit:
            raise ValueError(f"its {shown(name)} has {size} bytes, where at most {limit} are read")
        return self._file.at(self.start(name), size, ahead=4096)  # what small records lie behind it, too

    def _found(self, record: _Record) -> int:
        if not record.is_stored:
            name = shown(record.name.decode(errors="replace"))
            raise ValueError(
                f"its archive compresses {name}, which torch does not; load it with torch and save it again"
            )
        header = self._file.at(record.header, LOCAL_HEADER.size + len(record.name))
        signature, name_length, more = LOCAL_HEADER.unpack_from(header)
        start: int = record.header + LOCAL_HEADER.size + name_length + more
        if signature != b"PK\3\4" or header[LOCAL_HEADER.size :] != record.name or name_length != len(record.name):
            raise ValueError(f"its archive has no record at byte {record.header}, where its directory says that one is")
        if start + record.size > self._bounds[bisect_right(self._bounds, record.header)]:
            raise ValueError(f"the record at byte {record.header} of its archive reaches into the one behind it")
        return start


def shown(name: str) -> str:
    """A name of the file's, as a letter can show it."""
    return f"`{name}`" if name.isprintable() and len(name) <= 200 else repr(name[:100])


def _directory_of(file: Window) -> tuple[dict[str, _Record], int]:
    """The records by name, and the byte at which the directory starts."""
    try:
        with zipfile.ZipFile(file) as archive:
            found, directory = archive.infolist(), archive.start_dir
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise ValueError(f"it is cut off, or damaged: no zip archive that can be read ({error})") from error
    records = {}
    for each in found:
        name = each.orig_filename.encode("utf-8" if each.flag_bits & 0x800 else "cp437")
        is_stored = each.compress_type == zipfile.ZIP_STORED and not each.flag_bits & 1
        records[each.orig_filename] = _Record(each.header_offset, each.file_size, name, is_stored)
    if len(records) < len(found):
        raise ValueError("its archive holds two records of one name")
    if any(not 0 <= record.header < directory for record in records.values()):
        raise ValueError("its archive's directory names a record outside the archive")
    return records, directory
