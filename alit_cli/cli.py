"""The `alit` command: finds the command files and turns every error into a sentence and an exit code."""

import contextlib
import errno
import importlib
import io
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

import click

from alit_cli import __version__
from alit_cli.errors import AlitError
from alit_cli.grouped_help import example, write_summaries

SECTIONS = {
    "Tables of images": {
        "tokenize": "Turn images into a table of tokens and errors.",
        "select": "Give each image the smallest budget that is good enough.",
        "view": "Show a token table as one HTML page.",
        "score": "Measure reconstructions: pixels, classes, depth, features.",
        "analyze": "Answer questions from the tables, with figures (see below).",
        "study": "Do all of this for one folder, ending in a page and findings.",
    },
    "Tokens for other programs": {
        "decode": "Turn tokens back into pictures.",
        "export": "Write tokens as jsonl, npz or webdataset.",
    },
    "Models": {
        "train": "Train a tokenizer on photographs of your own.",
        "import": "Convert the authors' released checkpoints for use here.",
    },
    "Files and machines": {
        "bench": "Measure how long a million images take on this machine.",
        "info": "Describe a model or a table, and the columns for criteria.",
        "status": "Say how far unfinished work is.",
        "verify": "Check that a table is complete and undamaged.",
    },
}
"""What `alit --help` prints: every command and its summary, in the order of use. No command's file is imported."""

COMMANDS = tuple(name for summaries in SECTIONS.values() for name in summaries)
LINE = "alit.line"
"""The key under which the typed line is kept."""


class Terminated(BaseException):
    """SIGTERM arrived; like a KeyboardInterrupt, no `except Exception` may swallow it."""


class Commands(click.Group):
    """A group whose commands live in one file each, imported when they are needed."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the commands in sections, then the analyses, so that nobody has to find them."""
        analyses = importlib.import_module("alit_cli.commands.analyze").ANALYSES
        for title, summaries in SECTIONS.items():
            write_summaries(formatter, title, summaries)
        write_summaries(formatter, "alit analyze", analyses)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command's file; one whose name is a Python keyword ends in an underscore."""
        # click itself turns None into its sentence about an unknown command.
        if name not in COMMANDS:
            return None
        # `import.py` could not be imported by its name, because import is a keyword of Python.
        stem = "import_" if name == "import" else name
        command: click.Command = importlib.import_module(f"alit_cli.commands.{stem}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command to run, or say which ones there are."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            # Only a wrong name needs this module, so it does not slow down every other call.
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"the commands are {', '.join(COMMANDS)}."
            _fail(f"There is no command '{args[0]}'; {hint}", 2)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the line as it was typed, for the hint that an interruption prints."""
        # The line is kept first, because click may take words off `args` while it parses them.
        ctx.meta[LINE] = shlex.join(["alit", *args])
        with _usage_in_a_sentence():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; the one place where errors and interruptions become exit codes."""
        try:
            with _sigterm_raises(), _usage_in_a_sentence():
                return super().invoke(ctx)
        # click's own errors already have their sentence and exit code.
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except AlitError as error:
            _show_traceback()
            _fail(str(error), error.exit_code)
        except (KeyboardInterrupt, Terminated) as stop:
            _show_traceback()
            click.echo(f"\nInterrupted. To resume, run the same command again: {ctx.meta[LINE]}", err=True)
            # Shells say 128 + the signal's number: 15 for SIGTERM, 2 for Ctrl-C.
            exit_code = 143 if isinstance(stop, Terminated) else 130
            _end_at_once(stop, exit_code)
            # This line is only reached where the command was called from Python and `_end_at_once` has let it go on.
            ctx.exit(exit_code)
        except Exception as error:
            # A closed pipe, as in `alit info | head`, is no error; click ends the command quietly.
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise
            _show_traceback()
            sentence = _sentence(f"{type(error).__name__}: {error}")
            _fail(f"{sentence} ALIT_DEBUG=1 shows where this happened.", 1)


@click.group(
    cls=Commands,
    context_settings={"auto_envvar_prefix": "ALIT", "help_option_names": ["-h", "--help"]},
    epilog=example(
        "alit tokenize ./images --out tokens.parquet",
        "alit select --tsc recon --thr 0.08",
        "alit view tokens.parquet",
        "alit analyze complexity savoias.csv",
    ),
)
@click.version_option(__version__, prog_name="alit")
def main() -> None:
    """Turn images into tables that hold, for every image, its token ids and its reconstruction error at every token
    budget. Later questions are queries on these tables. A small trained model is part of the package.

    Every option can also be set in a file (--config) or as ALIT_<COMMAND>_<OPTION> in the environment.
    """
    # A file name that the terminal cannot show must not end the work.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _end_at_once(stop: BaseException, exit_code: int) -> None:
    """End an interrupted process without the tidying of the interpreter; a command called from Python goes on.

    Taking torch and its memory apart takes seconds on a busy machine, and so does waiting for a decoder that is deep
    inside C. Nothing of it is needed: what commands have opened is closed here, with the frames that hold it.
    """
    import traceback

    # Clearing the frames drops what they hold: generators that wait run their `finally`, and open files are closed.
    traceback.clear_frames(stop.__traceback__)
    if sys.stdout is sys.__stdout__ and sys.stdout and sys.stderr:  # click's CliRunner and pytest put their own there
        sys.stdout.flush()
        sys.stderr.flush()
        # This exit writes no buffers out, which is why both streams are flushed before it.
        os._exit(exit_code)


@contextlib.contextmanager
def _usage_in_a_sentence() -> Iterator[None]:
    """Turn click's three lines about a wrong call into our one; a group without a command shows its help."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "alit"
        # Exit code 2 means a wrong call, as that of an InputError.
        _fail(f"{_sentence(error.format_message())} See {command} --help.", 2)


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Let SIGTERM unwind this process as Ctrl-C does; a forked worker just ends."""
    owner = os.getpid()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        if os.getpid() != owner:
            # A forked worker has inherited this handler, but the work that it would unwind belongs to its parent.
            os._exit(143)
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread: whoever embeds us handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(message: str, exit_code: int) -> NoReturn:
    click.echo(f"Error: {message}", err=True)
    raise click.exceptions.Exit(exit_code)


def _sentence(text: str) -> str:
    """What click or Python says, ended with a full stop where it has no end of its own."""
    text = text.strip()
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _show_traceback() -> None:
    # Both an empty value and 0 switch it off.
    if os.environ.get("ALIT_DEBUG", "0") not in ("", "0"):
        import traceback

        traceback.print_exc()
