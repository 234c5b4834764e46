"""`alit analyze familiarity`: do unfamiliar images need more tokens, and gain more from them."""

from pathlib import Path

import click

from alit_cli.analysis.answers.questions import FamiliarityQuestion
from alit_cli.console import say_page, show_result
from alit_cli.grouped_help import COMPUTE, INPUT, Command, example, option
from alit_cli.option_types import Numbers
from alit_cli.options import (
    as_record,
    bootstrap_option,
    few_samples_option,
    names_option,
    report_options,
    seed_option,
    threshold_option,
)


@click.command(
    "familiarity",
    cls=Command,
    epilog=example("alit analyze familiarity photos.parquet sketches.parquet"),
)
@click.argument("tables", metavar="TOKENS...", type=click.Path(path_type=Path), nargs=-1, required=True)
@option(
    COMPUTE,
    "--between",
    type=Numbers(int),
    metavar="FEW,MANY",
    help="The two budgets whose gap is measured. [default: the smallest and the largest]",
)
@threshold_option("L1 thresholds for which the tokens needed are counted. [default: the data's quartiles]")
@names_option
@option(
    INPUT,
    "--scores",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="DIR",
    help="The folder of score tables with features, for Fréchet distances; repeat it for each token table, in their "
    "order.",
)
@few_samples_option
@bootstrap_option
@seed_option("resampling and matching")
@report_options("study", ("familiarity.csv", "familiarity.parquet", "familiarity_differences.csv"))
@as_record(FamiliarityQuestion)
def command(question: FamiliarityQuestion, as_json: bool) -> None:
    """Compare token tables with the first of them: L1 at few and many tokens, and the tokens needed.

    Unfamiliar images may simply be more complex. So the sets are also compared after matching them by JPEG bytes.
    """
    # The answer imports pandas and matplotlib; the help of this command must not wait for them.
    from alit_cli.analysis.answers.familiarity import answer_familiarity

    show_result(answer_familiarity(question), as_json)
    say_page(question.tables, question.out)
