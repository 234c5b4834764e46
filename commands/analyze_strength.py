"""`alit analyze strength`: do stronger models of a task lose more on reconstructions."""

import click

from alit_cli.analysis.answers.questions import StrengthQuestion
from alit_cli.console import say_page, show_result
from alit_cli.grouped_help import COMPUTE, Command, example, option
from alit_cli.options import (
    as_record,
    bootstrap_option,
    report_options,
    scores_option,
    seed_option,
    tokens_argument,
)


@click.command(
    "strength",
    cls=Command,
    epilog=example("alit analyze strength --task classify --model resnet-18 --model vit-base-patch16-224"),
)
@tokens_argument
@option(COMPUTE, "--task", metavar="TASK", default="classify", show_default=True, help="classify, depth or language.")
@option(
    COMPUTE,
    "--model",
    multiple=True,
    metavar="MODEL",
    help="A network that was scored, as alit score took it or by its last name; may be repeated. [default: all]",
)
@option(COMPUTE, "--top", metavar="X", type=click.IntRange(1), default=1, show_default=True, help="Of classify: top-X.")
@scores_option
@bootstrap_option
@seed_option("the resampling")
@report_options("study", ("strength.csv", "strength.parquet"))
@as_record(StrengthQuestion)
def command(question: StrengthQuestion, as_json: bool) -> None:
    """Compare what each model of a task loses at every budget with its own strength on the original images.

    TOKENS is a token table [default: tokens.parquet]. The models are those that alit score has written tables for; they
    are called by the last part of their names.
    """
    # The answer imports pandas and matplotlib; the help of this command must not wait for them.
    from alit_cli.analysis.answers.strength import answer_strength

    show_result(answer_strength(question), as_json)
    say_page([question.tokens], question.out)
