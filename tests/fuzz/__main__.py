"""`python -m fuzz`; see `command.py`."""

from __future__ import annotations

import os
import sys

SURROUNDINGS = {
    # A library's threads would not live on in a forked process.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "TOKENIZERS_PARALLELISM": "false",
    "GGML_NO_BACKTRACE": "1",  # an abort would call a debugger, for half a minute
}


def main() -> int:
    """Run the command in surroundings that let it fork."""
    os.environ |= SURROUNDINGS
    from .command import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
