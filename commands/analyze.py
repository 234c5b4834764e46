"""`alit analyze`: questions to the tables, answered with tables and figures; one file a question."""

import importlib

import click

from alit_cli.options import example

ANALYSES = ("complexity", "capacity", "familiarity", "strength", "quality", "attention", "probe")
"""In the order of the work; each lives in analyze_<name>.py, which is imported when it is needed."""


class Analyses(click.Group):
    """The analyses by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name them."""
        return list(ANALYSES)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import an analysis' file."""
        if name not in ANALYSES:
            return None
        command: click.Command = importlib.import_module(f"alit_cli.commands.analyze_{name}").command
        return command


@click.group("analyze", cls=Analyses, epilog=example("alit analyze complexity savoias.csv"))
def command() -> None:
    """Ask the tables what the tokens say about the images."""
