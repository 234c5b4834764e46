"""What a command prints: results on stdout, everything else on stderr."""

import dataclasses
import json
import math
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from threading import RLock
from typing import Any, TextIO, TypeVar

import click

from alit_cli.progress import Progress, ProgressCallback, no_progress
from alit_cli.results import Result
from alit_cli.table_layout import GAP, Cell, fit_table, format_numbers, wrap_words

QUIET = "alit.quiet"
"""The key under which `--quiet` is kept for the length of a command."""

CHAINED = "alit.chained"
"""The key that is set while a command calls others, which then name no next step: the chain takes it itself."""

DEFAULT_THR = 0.08
"""The L1 that the commands which come next ask for, where the user has named none."""

UNLIMITED = 100_000
"""Columns of a line that no terminal has to fit."""

SECONDS_BETWEEN_LINES = 30.0
"""Seconds between two lines of progress where stderr is not a terminal."""

Record = TypeVar("Record")


def say(text: str) -> None:
    """Print a remark on stderr, unless the command is quiet; a terminal gets it wrapped at words."""
    if _quiet():
        return
    lines = "\n".join(wrap_words(text, terminal_width(sys.stderr)))
    # tqdm is only asked for where it is loaded already: without it there is no bar to move.
    if sys.stderr.isatty() and (module := sys.modules.get("tqdm")):
        module.tqdm.write(lines, file=sys.stderr)  # a bar on the screen moves down for it
    else:
        sys.stderr.write(f"{lines}\n")


def show(text: str) -> None:
    """Print a sentence of the result on stdout; a terminal gets it wrapped at words."""
    click.echo("\n".join(wrap_words(text, terminal_width(sys.stdout))))


def say_next(*commands: str) -> None:
    """Name the commands that usually come next, if any, as a remark on stderr; on a narrow terminal one per line."""
    context = click.get_current_context(silent=True)
    if not commands or (context is not None and context.meta.get(CHAINED)):
        return
    line, width = f"Next: {' · '.join(commands)}", terminal_width(sys.stderr)
    say(line if width is None or len(line) <= width else "\n".join(["Next:", *(f"  {text}" for text in commands)]))


def next_select(table: Path, losses: bool, stop: float | None, thr: float | None = None) -> list[str]:
    """The `alit select` that a token table can answer, as say_next takes it; none for a table without L1.

    `losses` and `stop` are those that the table says of itself, `thr` is the L1 that the user has named.
    """
    if not losses:
        return []
    # Where images stopped early, nobody knows at which budget they would fall below a smaller threshold.
    threshold = max(DEFAULT_THR if thr is None else thr, stop or 0)
    return [shlex.join(["alit", "select", str(table), "--thr", f"{threshold:g}"])]


def say_page(tokens: Sequence[Path], out: Path) -> None:
    """Name the command that shows what an analysis has written into `out` on the page of its token tables."""
    # An analysis of images knows of no table and supposes one of the default name, which need not be there.
    if not all(table.exists() for table in tokens):
        return
    # The page looks for analyses beside the table and up to two folders down by itself; with --beside only there.
    folder, written = tokens[0].absolute().parent, out.absolute()
    inside = folder in (written, *written.parents[:2])
    say_next(shlex.join(["alit", "view", *map(str, tokens), *([] if inside else ["--beside", str(out)])]))


def show_fields(fields: Mapping[str, object]) -> None:
    """Print one `name: value` per line on stdout, without those that are None; values are wrapped at words."""
    width = terminal_width(sys.stdout)
    for name, value in fields.items():
        if value is not None:
            text = format_numbers([value])[0] if isinstance(value, float) else str(value)
            first, *rest = wrap_words(f"{name}: {text}", width)
            click.echo(
                "\n".join([first, *(f"  {line}" for line in wrap_words(" ".join(rest), width and width - 2) if line)])
            )


def terminal_width(stream: TextIO) -> int | None:
    """Characters in a line of the terminal that the stream writes to; None for a pipe or a file."""
    # A pipe is read by programs, so lines are never wrapped there.
    return shutil.get_terminal_size().columns if stream.isatty() else None


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print a table on stdout: on a terminal in the form that fits its width, in a pipe one plain line per row.

    No cell is ever cut, no number folded and no word split. Numbers have four significant digits and equally many
    decimals along a row of budgets or a column of anything else.
    """
    # rich takes a while to import, and commands that print no table do without it.
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


def show_result(result: Result, as_json: bool) -> None:
    """Print an answer: remarks on stderr; on stdout its tables and sentences, or one JSON object."""
    for remark in result.remarks:
        say(remark)
    if as_json:
        print_json(result.data)
        return
    for block in result.blocks:
        if isinstance(block, str):
            show(block)
        else:
            show_table(block.title, block.columns, block.rows)


def print_json(value: Any) -> None:
    """Print one JSON object on stdout; dataclasses, paths and numpy scalars are welcome, NaN becomes null.

    Every command uses the same names: `out` is the file or folder that was written, `files` further ones, `table` the
    table that was read, `rows` and `images` are counts.
    """
    click.echo(json.dumps(_jsonable(value), indent=2))


def follow(
    records: Iterable[Record], progress: Callable[[Record], Progress | None], every: float = SECONDS_BETWEEN_LINES
) -> Iterator[Record]:
    """Pass a job's records on and show how far it is: a bar on a terminal, else a line every `every` seconds.

    `progress` picks the report out of a record (None: nothing to show). The first report is where the job
    starts, so the rate counts only what is done from there on. The last report is always shown.
    """
    with progress_reporter(every) as show:
        for record in records:
            report = progress(record)
            if report is not None:
                show(report)
            yield record


def run_with_progress(
    job: Callable[[ProgressCallback], Iterable[Progress]], every: float = SECONDS_BETWEEN_LINES
) -> None:
    """Do a job to its end and show how far it is, as follow does.

    The job is given what shows a report at once, for what it does before it can yield the first one.
    """
    with progress_reporter(every) as show:
        for report in job(show):
            show(report)


def follow_study(records: Iterable[Progress | str | Result]) -> Result:
    """Show the progress and the remarks of a study as they come; its result, which comes last."""
    result = None
    for record in follow(records, lambda record: record if isinstance(record, Progress) else None):
        if isinstance(record, str):
            say(record)
        elif isinstance(record, Result):
            result = record
    assert result is not None
    return result


@contextmanager
def progress_reporter(every: float = SECONDS_BETWEEN_LINES) -> Iterator[ProgressCallback]:
    """A function that shows a report at once, for a block that yields none; as follow does."""
    if _quiet():
        yield no_progress
        return
    # The bar is closed also after an error, so that the error's sentence begins on a line of its own.
    with closing(_ProgressDisplay(every)) as display:
        yield display.show


class _ProgressDisplay:
    """A tqdm bar; another unit or total is other work (the next stage of a training) and gets a bar of its own."""

    def __init__(self, every: float) -> None:
        self.every = every
        self.work: tuple[str, int] | None = None
        self.begun: set[tuple[str, int]] = set()
        self.bar: Any = None
        self.is_shown = True

    def show(self, report: Progress) -> None:
        """Bring the bar to this report."""
        # The unit and the total tell one kind of work from the next, because reports have no other name.
        if self.work != (report.unit, report.total):
            self.close()
            self.work = (report.unit, report.total)
            # Work that was interrupted by other work of this run, such as training by k-means, is no earlier run's.
            if self.work not in self.begun and self._is_done_before(report):
                return
            self.begun.add(self.work)
            self.bar = _new_bar(report, self.every)
        if self.bar is not None:
            notes = [report.note] if report.note else []
            notes += [f"{report.failed} failed"] if report.failed else []
            self.bar.set_postfix_str(", ".join(notes), refresh=False)
            # tqdm draws only now and then and says whether it did; `close` draws what is still missing.
            self.is_shown = bool(self.bar.update(report.done - self.bar.n))

    def close(self) -> None:
        """Leave the last report on the screen."""
        if self.bar is not None:
            if not self.is_shown:
                self.bar.refresh()
            self.bar.close()
            self.bar = None

    def _is_done_before(self, first: Progress) -> bool:
        """Say what an earlier run has left to this one; whether that is nothing."""
        # Without a total nobody knows how much is left.
        if not first.total or not first.done:
            return False
        if first.done >= first.total:
            say(f"All {first.total} {first.unit} are done already; there is nothing left to do.")
            return True
        say(f"An earlier run did {first.done} of {first.total} {first.unit}; this one does the rest.")
        return False


class _Lines:
    """A file for tqdm that is no terminal, such as a log: every state of the bar is one line."""

    def write(self, text: str) -> None:
        """Write the text as a line of its own, without what would move a cursor."""
        if line := text.strip():
            sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        """Pass it on."""
        sys.stderr.flush()


def _new_bar(first: Progress, every: float) -> Any:
    """A bar that starts at the first report, so that its rate counts only what is done from there on."""
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # no thread that wakes bars up: it would not survive a fork
    tqdm.set_lock(RLock())  # ours is one process; the default lock starts a resource tracker
    # The notes (a loss) stand before the rate, because a narrow terminal cuts off the end.
    known = "{n_fmt}/{total_fmt}{unit}" if first.total else "{n_fmt}{unit}"
    text = f"{known}{{postfix}}" + (", {rate_noinv_fmt}, {remaining} left" if first.total else "")
    # smoothing=0 makes the rate the mean of the whole run, because batches come in jumps.
    settings = {"total": first.total or None, "initial": first.done, "unit": f" {first.unit}", "smoothing": 0}
    if sys.stderr.isatty():
        bar_format = text + (" |{bar}|" if first.total else "")
        size = shutil.get_terminal_size()  # tqdm itself shows nothing where a terminal does not tell its size
        return tqdm(**settings, file=sys.stderr, ncols=size.columns, nrows=size.lines, bar_format=bar_format)
    # Nothing is printed for the first report, and miniters=0 looks at the clock at every report.
    return tqdm(
        **settings, file=_Lines(), mininterval=every, delay=max(every, 1e-9), miniters=0, leave=False, bar_format=text
    )


def _quiet() -> bool:
    context = click.get_current_context(silent=True)
    # A library call has no context of click, and is not quiet.
    return context is not None and bool(context.meta.get(QUIET))


def _jsonable(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(item) for item in value]
    if hasattr(value, "tolist"):  # numpy and pandas, without importing them
        return _jsonable(value.tolist())
    # JSON has no NaN and no infinity.
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)
