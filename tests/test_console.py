"""What commands print, and where: results on stdout, the rest on stderr, less when quiet or in a pipe."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pytest

from alit_cli import console, progress
from alit_cli.progress import Progress, ProgressCallback, report_count

COLOUR = re.compile(rb"\x1b\[(?:\d+;)*(?:3[0-8]|9[0-7])(?:;\d+)*m")


def job(count: int = 3) -> Iterator[Progress]:
    for done in range(count + 1):
        yield Progress(done, count, failed=done // 2, note="loss [b]")


def same(record: Progress) -> Progress:
    return record


def test_remarks_go_to_stderr_and_quiet_silences_them(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("one")
    with click.Context(click.Command("x")) as context:
        context.meta[console.QUIET] = True
        console.say("two")
        assert len(list(console.follow(job(), same, every=0.0))) == 4
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "one\n")


def test_what_is_counted_is_told_while_it_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    def listing(tell: ProgressCallback) -> Iterator[Progress]:
        total = sum(1 for _ in report_count(range(1500), tell, "images found"))
        yield Progress(0, total)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "EVERY", 0.0)
        console.run_with_progress(listing, every=0.0)
        lines = capsys.readouterr().err.splitlines()
        assert lines[0] == "1 images found"
        assert "1500 images found" in lines[1499]
        assert lines[-1].startswith("0/1500 images")
    console.run_with_progress(listing, every=0.0)
    assert len(capsys.readouterr().err.splitlines()) < 100  # not one for each
    with click.Context(click.Command("x")) as context:
        context.meta[console.QUIET] = True
        console.run_with_progress(listing, every=0.0)
    assert capsys.readouterr().err == ""


def test_a_table_in_a_pipe_is_plain_whole_and_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    path = "a [red]:dog: " + "x" * 300
    console.show_table("Title [b]", ["image", "tokens", "l1"], [[path, 7, 0.123456], ["b", 123, float("nan")]])
    captured = capsys.readouterr()
    lines = [line.rstrip() for line in captured.out.splitlines()]
    assert captured.err == ""
    assert lines[0] == "Title [b]"
    assert lines[1].split() == ["image", "tokens", "l1"]
    assert lines[2].split("  ")[0].strip() == path
    assert lines[2].endswith("7  0.1235")
    assert lines[3].endswith("123       –")
    assert "\x1b" not in captured.out


def test_json_takes_what_the_library_makes(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass(frozen=True)
    class Row:
        path: Path
        values: tuple[float, ...]

    console.print_json({32: Row(Path("a/b"), (0.5, float("nan"))), "n": np.int64(3), "x": np.array([1.5])})
    expected = {"32": {"path": "a/b", "values": [0.5, None]}, "n": 3, "x": [1.5]}
    assert json.loads(capsys.readouterr().out) == expected


def test_without_a_terminal_progress_is_a_line_now_and_then_and_one_at_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    records = list(console.follow(job(), same))
    assert [record.done for record in records] == [0, 1, 2, 3]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"3/3 images, loss \[b\], 1 failed, +\S+ images/s, 00:00 left\n", captured.err)
    list(console.follow(job(), same, every=0.0))
    assert capsys.readouterr().err.count("\n") == 4


def test_the_last_line_also_comes_when_the_job_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    def breaks() -> Iterator[Progress]:
        yield Progress(0, 9)
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        list(console.follow(breaks(), same))
    assert capsys.readouterr().err.startswith("0/9 images")


def test_records_without_a_report_pass_silently(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(console.follow(["a", "b"], lambda _: None)) == ["a", "b"]
    assert capsys.readouterr().err == ""


def test_the_rate_counts_from_where_the_job_starts(capsys: pytest.CaptureFixture[str]) -> None:
    def resumed() -> Iterator[Progress]:
        yield Progress(1000, 8000)
        time.sleep(0.2)
        yield Progress(1001, 8000)

    list(console.follow(resumed(), same))
    remark, line = capsys.readouterr().err.splitlines()
    assert remark == "An earlier run did 1000 of 8000 images; this one does the rest."
    speed = re.fullmatch(r"1001/8000 images, +(\S+) images/s, \S+ left", line)
    assert speed
    assert float(speed[1]) <= 5


def test_work_that_is_done_already_shows_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    list(console.follow([Progress(60, 60)], same))
    assert capsys.readouterr().err == "All 60 images are done already; there is nothing left to do.\n"


def test_on_a_terminal_progress_is_a_bar_that_makes_room_for_remarks() -> None:
    code = (
        "from alit_cli import console; from alit_cli.progress import Progress\n"
        "for record in console.follow([Progress(0, 3), Progress(3, 3)], lambda record: record):\n"
        "    console.say('a remark'); print(record.done)"
    )
    environment = {key: os.environ[key] for key in os.environ if key not in ("NO_COLOR", "CI")}
    environment |= {"TERM": "xterm-256color"}
    reader, terminal = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=terminal, check=True
    )
    os.close(terminal)
    shown = read_all(reader)
    assert done.stdout == b"0\n3\n"
    assert b"3/3 images" in shown
    assert re.search(rb"\r +\ra remark\r\n", shown)  # the bar's line is cleared for it
    assert "█".encode() in shown
    assert not COLOUR.search(shown)


def read_all(terminal: int) -> bytes:
    """Everything that was shown on a terminal whose other end is closed (which Linux reports as an error)."""
    shown = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(terminal, 65536):
            shown += chunk
    os.close(terminal)
    return shown
