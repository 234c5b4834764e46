"""Print how long `alit --help` and the help of every command take in a fresh interpreter: the median of ten calls.

Usage: python tests/tools/time_of_help.py

The aim is below 0.15 s on an idle machine; what is imported is checked by tests/test_house.py.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from alit_cli.cli import COMMANDS

ROOT = Path(__file__).parents[2]
CALLS = 10


def seconds(words: list[str]) -> float:
    """How long one call takes."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", "alit_cli", *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


if __name__ == "__main__":
    for words in [[], *([name] for name in COMMANDS)]:
        line = [*words, "--help"]
        print(f"{statistics.median(seconds(line) for _ in range(CALLS)):.3f} s  alit {' '.join(line)}", flush=True)
