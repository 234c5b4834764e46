"""Options that belong to a group of the help page, show their defaults, and may still be called by a former name."""

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from alit_cli.console import say

INPUT = "Input"
COMPUTE = "What to compute"
OUTPUT = "Output"
HARDWARE = "Hardware"
RUN = "Run"
GROUPS = (INPUT, COMPUTE, OUTPUT, HARDWARE, RUN)
"""The groups of every help page, in the order in which they are printed."""

LINE = "alit_cli.line"
"""Key of a context's `meta`: the command line as it was written, for files that say how they were made."""

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Option(click.Option):
    """An option of one group. Its default is shown, and `formerly` are names that it had in the last release."""

    def __init__(self, *args: Any, group: str, formerly: Sequence[str] = (), **attributes: Any) -> None:
        # An option can still say otherwise, so this is only a default.
        attributes.setdefault("show_default", True)
        kind = attributes.get("type")
        if isinstance(kind, click.IntRange | click.FloatRange):  # click would print INTEGER RANGE
            attributes.setdefault("metavar", "N" if isinstance(kind, click.IntRange) else "NUMBER")
        super().__init__(*args, **attributes)
        self.group = group
        self.formerly = tuple(formerly)

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Read the environment under the option's name, then under its former names."""
        value = super().resolve_envvar_value(ctx)
        for name in self.formerly if value is None else ():
            variable = f"{ctx.auto_envvar_prefix}_{name.lstrip('-').replace('-', '_').upper()}"
            # An empty variable counts as not set, as click itself has it.
            value = value or os.environ.get(variable) or None
        return value


class Command(click.Command):
    """A command whose options are printed in groups and may be called by the names of the last release."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the options group by group; those without a group (--help) are the last ones of the last group."""
        for group in GROUPS:
            params = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
            # click's own --help has no group, and is put into the last one.
            options = [option for option in params if getattr(option, "group", RUN) == group]
            lines = [line for option in options if (line := option.get_help_record(ctx))]
            if lines:
                with formatter.section(group):
                    formatter.write_dl(lines)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line, and say which of its options have another name now."""
        new_names = {
            old: option.opts[0] for option in self.params if isinstance(option, Option) for old in option.formerly
        }
        # Old names are replaced before click reads the line, so they need no options of their own and no place in the
        # help.
        args, used = _renamed(args, new_names)
        ctx.meta[LINE] = shlex.join([*ctx.command_path.split(), *args])
        try:
            rest = super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # so that the sentence names this command's help
            raise
        with ctx.scope(cleanup=False):  # so that --quiet is known
            for old in used:
                say(f"{old} is called {new_names[old]} now; the old name will be gone in the next release.")
        return rest


def option(group: str, *declarations: str, **attributes: Any) -> Decorator:
    """`click.option` of a group; `formerly=["--old-name"]` keeps a former name working, with a remark."""
    return click.option(*declarations, cls=Option, group=group, **attributes)


def command(name: str, *examples: str) -> Callable[[Callable[..., Any]], Command]:
    """`click.command` with grouped options and the examples that end its help."""
    return click.command(name, cls=Command, epilog=example(*examples))


def example(*lines: str) -> str:
    """The `epilog=` of a command: the real examples that end its help."""
    return f"\b\nExample{'s' if len(lines) > 1 else ''}:\n" + "\n".join(f"  {line}" for line in lines)


def write_summaries(formatter: click.HelpFormatter, title: str, summaries: Mapping[str, str]) -> None:
    """One section of a group's help: a name and a whole sentence per line, never cut."""
    with formatter.section(title):
        formatter.write_dl(list(summaries.items()))


def _renamed(args: Sequence[str], new_names: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The arguments with options by their new names, and the old names that were used; all after `--` is left alone."""
    # What follows `--` are names of files, even if they look like options.
    end = args.index("--") if "--" in args else len(args)
    renamed, used = [], []
    for arg in args[:end]:
        # An option's value may be written after an equals sign, and must not be renamed.
        name, equals, value = arg.partition("=")
        if name in new_names:
            used.append(name)
            name = new_names[name]
        renamed.append(f"{name}{equals}{value}")
    return [*renamed, *args[end:]], used
