"""Peak resident memory of `alit tokenize` over few and many images: a tar that repeats small ones, a tiny random model.

    python tests/tools/memory_of_tokenize.py 2000 50000

Prints a line for each count: MiB of the process that was started (its decoders are others), seconds, and the ratio.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main() -> None:
    """A run for every count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("counts", type=int, nargs="+")
    parser.add_argument("--shard-size", type=int, default=100)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests" / "jobs"))
    scale = importlib.import_module("scale")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tar = scale.write_tar(folder / "photos.tar", max(options.counts))
        model = scale.quick_checkpoint(folder / "m.safetensors")
        first = 0.0
        for count in options.counts:
            line = [sys.executable, "-m", "alit_cli", "tokenize", str(tar), "-c", str(model), "--limit", str(count)]
            line += ["--no-measures", "--shard-size", str(options.shard_size), "--device", "cpu", "--batch-size", "64"]
            memory, seconds = _peak([*line, "--quiet", "--out", str(folder / f"{count}.parquet")])
            first = first or memory
            print(
                f"{count:8d} images: {memory:7.1f} MiB, {seconds:6.1f} s, {memory / first:.3f} × the first", flush=True
            )


def _peak(line: list[str]) -> tuple[float, float]:
    """MiB that the process had resident at most, and seconds."""
    begun = time.monotonic()
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)})
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"it ended with status {status}")
    return usage.ru_maxrss / 1024, time.monotonic() - begun


if __name__ == "__main__":
    main()
