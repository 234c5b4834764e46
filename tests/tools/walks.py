"""Print which files of alit a reader passes through who follows one image, one selection or one training step.

Usage: python tests/tools/walks.py

Every call of a function of alit_cli/ or commands/ is counted by sys.setprofile, in all threads. For one image, `alit
tokenize` runs over three and over four images, with one image per batch and per shard: a file counts if more of its
functions are called for the fourth image. For one training step, the last step of a distillation of eight images is
compared with one step less. For `alit select`, every file counts that is called while the command runs. `stops` are
changes from one file to another.
"""

import os
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

sys.path.append(str(Path(__file__).parents[2]))  # the tests lie there

from alit_cli.cli import main
from tests.model import tiny
from tests.training.photos import write_photos

ROOT = Path(__file__).parents[2]


class Walk:
    """The calls of our own functions by file, and the changes from one file to another, while a block runs."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.stops = 0
        self._last: dict[int, str] = {}

    def __enter__(self) -> "Walk":
        threading.setprofile(self._note)  # of threads that begin in the block
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_error: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _note(self, frame: FrameType, event: str, _arg: object) -> None:
        if event != "call" or not (name := self._file(frame)):
            return
        self.calls[name] += 1
        thread = threading.get_ident()
        if self._last.get(thread) != name:
            self.stops += 1
            self._last[thread] = name

    def _file(self, frame: FrameType) -> str:
        path = frame.f_code.co_filename
        if not path.startswith(str(ROOT)) or path.startswith(str(ROOT / "tests")):
            return ""
        return path[len(str(ROOT)) + 1 :]


def alit(*words: object) -> Walk:
    """What one command passes through."""
    with Walk() as walk:
        main([str(word) for word in (*words, "--quiet")], prog_name="alit", standalone_mode=False)
    return walk


def print_walk(title: str, calls: Counter[str], stops: int) -> None:
    """The files of a walk, with how often their functions are called."""
    print(f"{title}: {len(calls)} files, {stops} stops")
    for name, count in sorted(calls.items()):
        print(f"  {count:5d}  {name}")
    print()


def print_difference(title: str, walk: Callable[[int], Walk], count: int) -> None:
    """What `count` + 1 pieces of work pass through beyond `count` of them."""
    # The first call imports modules and fills caches; its calls are not those of any piece.
    walk(count)
    fewer, more = walk(count), walk(count + 1)
    print_walk(title, more.calls - fewer.calls, more.stops - fewer.stops)


def run() -> None:
    """Print the three walks."""
    os.chdir(tempfile.mkdtemp())
    here = Path.cwd()
    model = tiny.checkpoint(here)
    for count in (3, 4):
        write_photos(here / str(count), count)
    one_by_one = (
        "-c",
        model,
        "--decode-workers",
        0,
        "--batch-size",
        1,
        "--shard-size",
        1,
        "--device",
        "cpu",
        "--overwrite",
    )
    print_difference("One image of alit tokenize", lambda count: alit("tokenize", here / str(count), *one_by_one), 3)

    select = ("select", "tokens.parquet", "--tsc", "recon", "--thr", "0.2", "--out", "selection.parquet")
    alit(*select)
    walk = alit(*select)
    print_walk("alit select", walk.calls, walk.stops)

    def train(steps: int) -> Walk:
        stage = ("--init", model, "--stages", "distill", "--distill-steps", steps, "--batch-size", 2, "--overwrite")
        return alit("train", here / "4", *stage, "--out", here / f"{steps}.safetensors", "--device", "cpu")

    print_difference("One step of alit train", train, 3)


if __name__ == "__main__":
    run()
