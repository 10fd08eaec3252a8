"""Run a command and print what it cost, as one line of JSON. What the command prints goes to stderr.

    python -I -S benchmarks/measure.py lamina merge recipe.yml out

A process of its own, with the standard library only, because Linux hands the peak memory of the process that
starts a child on to the child: started from a process with numpy in it, nothing would need less than numpy.
"""

import json
import os
import sys
import time


def main() -> None:
    command = sys.argv[1:]
    started = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - started
    cost = {
        "exit_code": os.waitstatus_to_exitcode(status),
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "disk_bytes_read": usage.ru_inblock * 512,
    }
    print(json.dumps(cost))


if __name__ == "__main__":
    main()
