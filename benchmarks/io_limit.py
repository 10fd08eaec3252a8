"""The machine's limit for a merge: read the same bytes, write as many, compute nothing.

    python -I -S benchmarks/io_limit.py WORK.json OUT

WORK.json (merge_speed.py writes it) lists the output's files and tensors and, for each tensor, where its
inputs lie. Every input is read with preadv into one small buffer; the last one read is written with pwrite.
Space is reserved first and everything is synced last, as `lamina merge` does. Standard library only.
"""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

BLOCK_BYTES = 1 << 20


def main() -> None:
    work: dict[str, Any] = json.loads(Path(sys.argv[1]).read_bytes())
    out = Path(sys.argv[2])
    out.mkdir()
    sources = [os.open(path, os.O_RDONLY) for path in work["inputs"]]
    targets = [reserved(out / shard["file"], shard["size"]) for shard in work["shards"]]
    blocks: SimpleQueue[tuple[Any, int, int]] = SimpleQueue()
    for tensor in work["tensors"]:
        for start in range(0, tensor["nbytes"], BLOCK_BYTES):
            blocks.put((tensor, start, min(BLOCK_BYTES, tensor["nbytes"] - start)))

    def copy_blocks() -> None:
        buffer = memoryview(bytearray(BLOCK_BYTES))
        while True:
            try:
                tensor, start, length = blocks.get_nowait()
            except Empty:
                return
            part = buffer[:length]
            for source, offset in tensor["reads"]:
                done(os.preadv(sources[source], [part], offset + start), length)
            done(os.pwrite(targets[tensor["shard"]], part, tensor["offset"] + start), length)

    with ThreadPoolExecutor(work["threads"]) as pool:
        for copied in [pool.submit(copy_blocks) for _ in range(work["threads"])]:
            copied.result()
    for target in targets:
        os.fsync(target)


def reserved(path: Path, size: int) -> int:
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    os.posix_fallocate(target, 0, size)
    return target


def done(count: int, length: int) -> None:
    if count != length:
        raise OSError(f"{count} of {length} bytes: a file ends early or the disk is full")


if __name__ == "__main__":
    main()
