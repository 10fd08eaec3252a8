"""Run by MergeKit's own Python, in the folder of the models: carries out recipes one after another.

A line of JSON in, `{"recipe": ..., "out": folder, "seed": n}`; a line out, `{"ok": true}`, or `{"ok": false}` and
the error.
Uses what MergeKit's README documents: MergeConfiguration, MergeOptions, run_merge.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is not an answer
    import torch
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    torch.set_num_threads(1)
    logging.disable(logging.WARNING)

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        try:
            config = MergeConfiguration.model_validate(request["recipe"])
            options = MergeOptions(random_seed=request["seed"], write_model_card=False, quiet=True)
            run_merge(config, request["out"], options)
        except Exception as error:  # whatever MergeKit raises is its answer
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            return {"ok": False, "error": f"{type(error).__name__}: {' '.join(lines)}"[:200]}
        return {"ok": True}

    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
