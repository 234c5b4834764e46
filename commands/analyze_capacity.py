"""`alit analyze capacity`: what becomes of tasks as criteria spend more or fewer tokens."""

from functools import partial

import click

from alit_cli.analysis.answers.questions import CapacityQuestion
from alit_cli.console import say_page, show_result
from alit_cli.grouped_help import COMPUTE, Command, example, option
from alit_cli.options import (
    as_record,
    bootstrap_option,
    few_samples_option,
    groups_option,
    names_option,
    report_options,
    seed_option,
    tables_options,
    threshold_option,
    tokens_argument,
)


@click.command(
    "capacity",
    cls=Command,
    epilog=example(
        "alit analyze capacity --tsc recon,classify --toi classify,psnr",
        "alit analyze capacity alit.parquet titok.parquet --names ALIT,TiTok",
    ),
)
@partial(tokens_argument, several=True)
@option(
    COMPUTE,
    "--tsc",
    metavar="CRITERION[,…]",
    multiple=True,
    default=("recon",),
    # The default is a tuple, and click would print it as Python writes it; so the help names it.
    show_default=False,
    help="recon, classify, depth or a measure, whose threshold is varied; a criterion with numbers ('l1<0.08 and "
    "class_rank<=5') gives one point. [default: recon]",
)
@option(
    COMPUTE,
    "--toi",
    metavar="OUTCOME[,…]",
    multiple=True,
    default=("recon",),
    show_default=False,
    help="The outcomes: classify (top-1, top-5), top3, depth, recon, features (Fréchet distance), language, any "
    "measure (its mean) or any comparison (its share of the images). [default: recon]",
)
@threshold_option("Thresholds, if there is one --tsc. [default: spread over the data]")
@option(
    COMPUTE,
    "--points",
    metavar="N",
    type=click.IntRange(2),
    default=12,
    show_default=True,
    help="Number of thresholds that are spread over the data.",
)
@option(
    COMPUTE,
    "--optimum",
    metavar="MEASURE[,…]",
    multiple=True,
    help="Also draw the best allocation for a measure, as alit select --capacity makes it.",
)
@option(
    COMPUTE,
    "--share-of",
    metavar="TOKENS",
    type=click.IntRange(1),
    help="Tokens per image that count as 100 %, such as those of the base tokenizer's grid, as in the paper. "
    "[default: the table's largest budget]",
)
@groups_option
@few_samples_option
@bootstrap_option
@seed_option("the resampling")
@names_option
@tables_options
@report_options(
    "study", ("capacity.csv", "capacity.parquet", "capacity_nearly.csv", "capacity_differences.csv"), "the figures"
)
@as_record(CapacityQuestion)
def command(question: CapacityQuestion, as_json: bool) -> None:
    """Vary the thresholds of criteria, and say how many tokens each spends and what tasks lose.

    TOKENS is a token table [default: tokens.parquet]. The criteria are compared with one budget for all images and with
    the originals; differences are at equal tokens. Everything is read from TOKENS and the score tables. If several
    networks were scored, write class_rank@resnet-18 for one of them.

    Several token tables of the same images are compared in one table and one figure, against bits and tokens. A further
    line is their mixture, in which each image takes the fewest bits that meet the criterion (capacity_compared.csv,
    capacity_compared.parquet).
    """
    # The answers import pandas and matplotlib; the help of this command must not wait for them.
    from alit_cli.analysis.answers.capacity import answer_capacity
    from alit_cli.analysis.answers.capacity_compared import answer_compared_capacity

    # Only a comparison has use for --names, so a name asks for one even where there is a single table.
    compared = len(question.tokens) > 1 or question.names
    show_result((answer_compared_capacity if compared else answer_capacity)(question), as_json)
    say_page(question.tokens, question.out)
