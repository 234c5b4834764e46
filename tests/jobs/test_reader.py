"""Readers: pictures in order; a decoder that hangs or dies costs its own image only, and ends with its parent."""

from __future__ import annotations

import importlib
import io
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from alit_cli.data.pictures.fitting import Picture, Reading
from alit_cli.data.sources.items import Item
from alit_cli.data.sources.listing import list_items
from alit_cli.errors import AlitError
from alit_cli.jobs.reading.decoder_processes import ReaderProcesses
from alit_cli.jobs.reading.reader import ReaderThreads
from tests.training.photos import write_photos

ROOT = Path(__file__).parents[2]

TRICKY = """
import os, signal, time
from pathlib import Path
from alit_cli.data.pictures.fitting import Reading

class Tricky(Reading):
    def __call__(self, item):
        if item.image == "img_5.png":
            time.sleep(1000)
        once = Path(item.path).with_suffix(".once")
        if item.image == "img_9.png" or (item.image == "img_14.png" and not once.exists()):
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(item)

class Unusable(Reading):
    def __setstate__(self, state):
        raise RuntimeError
"""


@pytest.fixture
def tricky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module that other processes can import: a Reading that hangs, dies or dies once, and one that fails."""
    (tmp_path / "tricky_reading.py").write_text(TRICKY)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("tricky_reading")
    sys.modules.pop("tricky_reading")


def test_the_stuck_and_the_dead_are_named_and_replaced(tmp_path: Path, tricky: ModuleType) -> None:
    write_photos(tmp_path, 30)
    items = list_items([tmp_path])
    decoders = ReaderProcesses(tricky.Tricky(8), 2, lookahead=7, patience=3.0)
    try:
        pictures = list(decoders.read(items))
        assert [picture.image for picture in pictures] == [item.image for item in items]
        bad = {picture.image: picture.status for picture in pictures if picture.status != "ok"}
        assert bad == {"img_5.png": "timeout", "img_9.png": "crashed"}
        for name, words in (("img_5.png", "was stuck on"), ("img_9.png", "ended with code -9 on")):
            assert sum(f"{words} '{name}'" in remark for remark in decoders.remarks) == 1
        assert [picture.status for picture in decoders.read(items[20:])] == ["ok"] * 10  # and on they go
    finally:
        decoders.close()


def test_a_batch_that_is_given_up_leaves_nothing_behind(tmp_path: Path) -> None:
    write_photos(tmp_path, 20)
    items = list_items([tmp_path])
    decoders = ReaderProcesses(Reading(8), 1)
    try:
        assert len(list(itertools.islice(decoders.read(items), 3))) == 3
        again = [picture.image for picture in decoders.read(items[10:])]
        assert again == [item.image for item in items[10:]]
    finally:
        decoders.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "decoders"]


def test_processes_that_cannot_start_are_one_sentence(tmp_path: Path, tricky: ModuleType) -> None:
    write_photos(tmp_path, 2)
    decoders = ReaderProcesses(tricky.Unusable(8), 1)
    with pytest.raises(AlitError, match="--decode-workers 0"):
        list(decoders.read(list_items([tmp_path])))
    decoders.close()


def jpeg_of_many_scans(count: int, side: int) -> bytes:
    """A progressive JPEG that ends in `count` scans, each of which visits every block of side × side pixels."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)  # the first scan holds the DC values of all colours
    header = data[second : second + 2 + int.from_bytes(data[second + 2 : second + 4], "big")]
    return data[:-2] + (header + b"\0\0") * count + data[-2:]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_stuck_thread_costs_its_image_and_is_replaced(tmp_path: Path, threads: int) -> None:
    write_photos(tmp_path, 12)
    items = list_items([tmp_path])
    release = threading.Event()

    class Stuck(Reading):
        def __call__(self, item: Item) -> Picture:
            if item.image == "img_5.png":
                release.wait(60)
            return super().__call__(item)

    reader = ReaderThreads(Stuck(8), threads, lookahead=4, patience=0.5)
    pictures = list(reader.read(items))
    assert [picture.image for picture in pictures] == [item.image for item in items]
    assert {p.image: p.status for p in pictures if p.status != "ok"} == {"img_5.png": "timeout"}
    assert pictures[5].error == "Decoding took longer than 0.5 s and was given up."
    assert reader.remarks == ["A decoding thread was stuck on 'img_5.png' and was replaced."]
    assert [picture.status for picture in reader.read(items[6:])] == ["ok"] * 6
    release.set()
    reader.close()
    deadline = time.monotonic() + 10
    while any(thread.name == "decode" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_is_wrong_with_a_reader_reaches_the_caller(tmp_path: Path) -> None:
    write_photos(tmp_path, 3)

    class Broken(Reading):
        def __call__(self, item: Item) -> Picture:
            raise ZeroDivisionError(item.image)

    with pytest.raises(ZeroDivisionError, match="img_0"):
        list(ReaderThreads(Broken(8), 2).read(list_items([tmp_path])))


def test_pipes_and_devices_behind_names_of_images_are_rows_at_once(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 1)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "photos" / "fifo.png").symlink_to(tmp_path / "fifo")
    (tmp_path / "photos" / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "list.txt").write_text(f"{tmp_path}/fifo\n/dev/zero\n")
    items = [*list_items([tmp_path / "photos"]), *list_items([f"@{tmp_path}/list.txt"])]
    # Nothing waits for them: an item that was given up after a while would be a timeout.
    pictures = list(ReaderThreads(Reading(8), 2).read(items))
    assert [picture.status for picture in pictures] == ["unreadable", "ok", "unreadable", "unreadable", "unreadable"]
    assert pictures[0].error == "This is no regular file, but a pipe, a device or the like."


def test_a_jpeg_of_thousands_of_scans_is_not_decoded(tmp_path: Path) -> None:
    (tmp_path / "many.jpg").write_bytes(jpeg_of_many_scans(4000, 2000))
    (tmp_path / "some.jpg").write_bytes(jpeg_of_many_scans(20, 64))
    many, some = ReaderThreads(Reading(8), 1).read(list_items([tmp_path]))
    assert (many.status, some.status) == ("unsupported", "ok")
    assert "scans" in str(many.error)


SLOW_READER = """
import sys
from alit_cli.cli import Terminated, _sigterm_raises
from alit_cli.data.pictures.fitting import Reading
from alit_cli.data.sources.listing import list_items
from alit_cli.jobs.reading.reader import make_picture_reader

if __name__ == "__main__":
    items = list_items([sys.argv[1]])
    workers = None if sys.argv[2] == "threads" else int(sys.argv[2])
    reader = make_picture_reader(Reading(8), workers, len(items), "", 4)
    pictures = reader.read(items)
    try:
        with _sigterm_raises():
            next(pictures)
            print("reading", flush=True)
            next(pictures)
    except KeyboardInterrupt:
        pictures.close()
        sys.exit(130)
    except Terminated:
        pictures.close()
        sys.exit(143)
    finally:
        reader.close()
"""


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A folder with a script and a photograph that takes it a minute or so to read."""
    folder = tmp_path / "photos"
    write_photos(folder, 1)
    (folder / "z.jpg").write_bytes(jpeg_of_many_scans(490, 6000))
    (tmp_path / "slow.py").write_text(SLOW_READER)
    return tmp_path


def start_slow(folder: Path, workers: str) -> subprocess.Popen[str]:
    line = [sys.executable, str(folder / "slow.py"), str(folder / "photos"), workers]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # SIGINT is ignored in processes that a shell has put into the background, tests among them.
    line = [
        sys.executable,
        "-c",
        f"import os, signal; signal.signal(2, signal.SIG_DFL); os.execv({line[0]!r}, {line!r})",
    ]
    process = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "reading\n"
    time.sleep(0.5)
    return process


def children_of(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not, but this test's own init may be slow to bury it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("workers", ["0", "threads", "2"])
def test_the_first_signal_ends_a_process_that_waits_for_a_slow_decoder(
    slow: Path, workers: str, number: signal.Signals, code: int
) -> None:
    process = start_slow(slow, workers)
    children = children_of(process.pid)
    process.send_signal(number)
    # Half a second on an idle machine; a decoder that is waited for would take a minute.
    assert process.wait(30) == code
    time.sleep(0.5)
    assert not [child for child in children if alive(child)]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux lists children there")
def test_no_decoder_outlives_a_parent_that_was_killed(slow: Path) -> None:
    process = start_slow(slow, "2")
    children = children_of(process.pid)
    assert len(children) >= 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while any(alive(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    "options", [["--decode-workers", "0"], [], ["--decode-workers", "2"], ["--devices", "2", "--decode-workers", "1"]]
)
def test_the_first_signal_ends_alit_tokenize_in_every_mode(
    slow: Path, options: list[str], number: signal.Signals, code: int
) -> None:
    line = [sys.executable, "-m", "alit_cli", "tokenize", str(slow / "photos"), "--out", str(slow / "t.parquet")]
    line += ["--device", "cpu", "--shard-size", "1", *options]
    code_of_line = f"import os, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv({line[0]!r}, {line!r})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code_of_line], env=environment, stderr=subprocess.DEVNULL)
    while not (slow / "t.parquet.work" / "_part-00000.json").exists():  # then the second image is being decoded
        assert process.poll() is None
        time.sleep(0.2)
    children = children_of(process.pid)
    children += [grandchild for child in children for grandchild in children_of(child)]
    process.send_signal(number)
    assert process.wait(30) == code
    time.sleep(1)
    assert not [child for child in children if alive(child)]
