"""`alit analyze`: questions to the tables, answered with tables and figures; one file per question."""

import importlib

import click

from alit_cli.grouped_help import example, write_summaries

ANALYSES = {
    "capacity": "What a task loses when fewer tokens are spent.",
    "quality": "Errors, codes and baselines at every token budget.",
    "complexity": "Whether tokens follow human scores of complexity.",
    "strength": "Whether stronger networks lose more on reconstructions.",
    "familiarity": "How data sets differ in the tokens they need.",
    "attention": "Where each token acts, and whether that is an object.",
    "probe": "Which classes linear probes find in the tokens.",
}
"""Every analysis and what it answers; each lives in analyze_<name>.py, which is imported when it is needed."""


class Analyses(click.Group):
    """The analyses by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name them."""
        return list(ANALYSES)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import an analysis' file."""
        if name not in ANALYSES:
            # click itself turns None into its sentence about an unknown command.
            return None
        # The annotation stands for a cast, because import_module gives a module of unknown content.
        command: click.Command = importlib.import_module(f"alit_cli.commands.analyze_{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Say what each analysis answers, without importing any of them."""
        write_summaries(formatter, "Analyses", ANALYSES)


@click.group("analyze", cls=Analyses, epilog=example("alit analyze complexity savoias.csv"))
def command() -> None:
    """Answer questions about the images from the tables of alit tokenize and alit score.

    attention and probe read the images themselves again; every other analysis reads tables only.
    """
