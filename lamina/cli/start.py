"""The entry point: Ctrl-C is exit code 130 and one sentence from the first import on, to the last moment."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """`lamina VERB`, as the whole of a process: its handler of Ctrl-C is changed. Exits with one of EXIT_CODES."""
    try:
        from lamina.cli.main import main as run  # here, since it imports more, which takes a while

        run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        from lamina.cli.main import stopped

        code = stopped("", as_json="--json" in sys.argv)
    signal.signal(signal.SIGINT, lambda *_: os._exit(code))
    # Where Ctrl-C came in text that Python compiled (it makes dataclasses so), `python -m lamina` would end by the
    # signal instead of with our code, unless other text has run since.
    exec("")
    sys.exit(code)
