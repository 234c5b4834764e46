"""What a command prints: results on stdout, everything else on stderr."""

import dataclasses
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, Protocol, TextIO, TypeVar

import click

from alit_cli.progress import Progress, ProgressCallback, no_progress
from alit_cli.table_layout import GAP, Cell, fit_table, wrap_words

QUIET = "alit.quiet"
"""The key under which `--quiet` is kept for the length of a command."""

UNLIMITED = 100_000
"""Columns of a line that no terminal has to fit."""

Record = TypeVar("Record")
T_co = TypeVar("T_co", covariant=True)


def say(text: str) -> None:
    """Print a remark on stderr, unless the command is quiet; a terminal gets it wrapped at words."""
    if not _quiet():
        # Not click.echo, which writes past sys.stderr: the progress bar would not move aside for it.
        sys.stderr.write("\n".join(wrap_words(text, terminal_width(sys.stderr))) + "\n")


def show(text: str) -> None:
    """Print a sentence of the result on stdout; a terminal gets it wrapped at words."""
    click.echo("\n".join(wrap_words(text, terminal_width(sys.stdout))))


def terminal_width(stream: TextIO) -> int | None:
    """Characters in a line of the terminal that the stream writes to; None for a pipe or a file."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print a table on stdout: on a terminal in the form that fits its width, in a pipe one plain line per row.

    No cell is ever cut, no number folded and no word split. Numbers have four significant digits and equally many
    decimals along a row of budgets or a column of anything else.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = terminal_width(sys.stdout)
    # What is printed already fits: rich must not fit it again.
    console = Console(markup=False, emoji=False, highlight=False, width=UNLIMITED)
    if title:
        console.print(Text("\n".join(wrap_words(title, width))))
    for block in fit_table(columns, [list(row) for row in rows], width):
        table = Table(
            box=None if width is None else box.SIMPLE_HEAD,
            show_edge=False,
            show_header=block.has_heading,
            padding=(0, GAP - 1 if width else GAP, 0, 0),  # the box itself takes one place
            pad_edge=False,
        )
        for name, right in zip(block.columns, block.right, strict=True):
            table.add_column(name, justify="right" if right else "left", vertical="bottom", no_wrap=True)
        for row in block.rows:
            table.add_row(*row)
        console.print(table)
        if width is not None:
            click.echo()


def percent(share: float) -> str | None:
    """A share as a cell of a column, their points below each other: ` 12.5 %`; None for NaN."""
    return None if math.isnan(share) else f"{100 * share:5.1f} %"


def print_json(value: Any) -> None:
    """Print one JSON object on stdout; dataclasses, paths and numpy scalars are welcome, NaN becomes null."""
    click.echo(json.dumps(_jsonable(value), indent=2))


def follow(
    records: Iterable[Record], progress: Callable[[Record], Progress | None], every: float = 30.0
) -> Iterator[Record]:
    """Pass a job's records on and show how far it is: a bar on a terminal, else a line every `every` seconds.

    `progress` picks the report out of a record (None: nothing to show). The first report is where the job
    starts, so the rate counts only what is done from there on. The last report is always shown.
    """
    with telling(every) as show:
        for record in records:
            report = progress(record)
            if report is not None:
                show(report)
            yield record


def work_off(job: Callable[[ProgressCallback], Iterable[Progress]], every: float = 30.0) -> None:
    """Do a job to its end and show how far it is, as follow does.

    The job is given what shows a report at once, for what it does before it can yield the first one.
    """
    with telling(every) as show:
        for report in job(show):
            show(report)


class ReadImage(Protocol[T_co]):
    """What became of one image of a job."""

    @property
    def progress(self) -> Progress:
        """How far the job is."""

    @property
    def value(self) -> T_co | None:
        """What is made of it; None for a problem, and before the first image."""

    @property
    def problem(self) -> str | None:
        """Why it could not be read, in a sentence."""


def follow_images(records: Iterable[ReadImage[T_co]]) -> Iterator[T_co]:
    """Pass on what a job makes of every image that could be read; say the problems of the others."""
    for record in follow(records, lambda record: record.progress):
        if record.problem:
            say(record.problem)
        if record.value is not None:
            yield record.value


@contextmanager
def telling(every: float = 30.0) -> Iterator[ProgressCallback]:
    """What shows a report at once, for a block that yields none; as follow does."""
    if _quiet():
        yield no_progress
        return
    pace = _Pace()
    with closing(_Bar() if sys.stderr.isatty() else _Lines(every)) as display:
        yield lambda report: display.show(report, pace.sentence(report))


class _Pace:
    """How fast the work goes, from its first report on; another unit or total is other work (a stage)."""

    def __init__(self) -> None:
        self.work: tuple[str, int] | None = None
        self.start = (0, 0.0)

    def sentence(self, report: Progress) -> str:
        """`120/4000 images, 3.2 images/s, 2 failed, 20 min left, loss 0.1`, leaving out what is not known."""
        now = time.monotonic()
        if self.work != (report.unit, report.total):
            self.work, self.start = (report.unit, report.total), (report.done, now)
        done, seconds = report.done - self.start[0], now - self.start[1]
        parts = [f"{report.done}/{report.total} {report.unit}" if report.total else f"{report.done} {report.unit}"]
        if done > 0 and seconds > 0:
            parts.append(f"{_rate(done / seconds)} {report.unit}/s")
        if report.failed:
            parts.append(f"{report.failed} failed")
        if done > 0 and report.done < report.total:
            parts.append(f"{_duration(seconds / done * (report.total - report.done))} left")
        return ", ".join([*parts, report.note] if report.note else parts)


class _Lines:
    """Progress where nobody watches, such as a log file: now and then a line, and the last one."""

    def __init__(self, every: float) -> None:
        self.every = every
        self.printed = time.monotonic()
        self.waiting: str | None = None

    def show(self, report: Progress, sentence: str) -> None:
        """Print the sentence when it is time, else keep it."""
        self.waiting = sentence
        if time.monotonic() - self.printed >= self.every:
            self.close()

    def close(self) -> None:
        """Print the sentence that waits."""
        if self.waiting is not None:
            click.echo(self.waiting, err=True)
            self.printed, self.waiting = time.monotonic(), None


class _Bar:
    """Progress on a terminal: one line that is drawn anew."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        text = TextColumn("{task.description}", markup=False)
        self.bar = Progress(BarColumn(), text, console=Console(stderr=True), redirect_stdout=False)
        self.task = self.bar.add_task("", total=None)
        self.bar.start()

    def show(self, report: Progress, sentence: str) -> None:
        """Draw the bar at this report."""
        self.bar.update(self.task, completed=report.done, total=report.total or None, description=sentence)

    def close(self) -> None:
        """Leave the last state on the screen."""
        self.bar.stop()


def _quiet() -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(QUIET))


def _rate(speed: float) -> str:
    return f"{speed:.0f}" if speed >= 100 else f"{speed:.3g}"


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _jsonable(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(item) for item in value]
    if hasattr(value, "tolist"):  # numpy and pandas, without importing them
        return _jsonable(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)
