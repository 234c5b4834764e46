"""`alit analyze complexity`: how far need follows scores of complexity."""

from functools import partial
from pathlib import Path

import click

from alit_cli.analysis.answers.questions import ComplexityQuestion
from alit_cli.console import say_page, show_result
from alit_cli.grouped_help import INPUT, Command, example, option
from alit_cli.options import (
    as_record,
    bootstrap_option,
    image_column_option,
    names_option,
    report_options,
    seed_option,
    threshold_option,
    tokens_argument,
)


@click.command(
    "complexity",
    cls=Command,
    epilog=example(
        "alit analyze complexity savoias.csv",
        "alit analyze complexity savoias.csv alit.parquet titok.parquet --names ALIT,TiTok",
    ),
)
@click.argument("scores", type=click.Path(path_type=Path))
@partial(tokens_argument, several=True)
@image_column_option
@option(INPUT, "--score-col", metavar="NAME", help="Its column of scores. [default: score, complexity …]")
@option(INPUT, "--group-col", metavar="NAME", help="Its column of groups. [default: category, group, class …, if any]")
@threshold_option("L1 thresholds for which the tokens needed are counted. [default: the data's quartiles]")
@bootstrap_option
@seed_option("the resampling")
@names_option
@report_options("study", ("complexity.csv", "complexity.parquet", "complexity_differences.csv"))
@as_record(ComplexityQuestion)
def command(question: ComplexityQuestion, as_json: bool) -> None:
    """Correlate SCORES of complexity with L1, the tokens needed and plain measures of the same images.

    SCORES is a csv, tsv, xlsx or parquet file with one row per image. Its names are looked up in the token table TOKENS
    [default: tokens.parquet] by the whole path, then by the longest ending that fits one image only.

    Several token tables of the same images are compared in one table and one figure, which show how closely every
    tokenizer follows the scores, against bits and tokens (complexity_compared.csv, complexity_compared.parquet).
    """
    # The answers import pandas and matplotlib; the help of this command must not wait for them.
    from alit_cli.analysis.answers.complexity import answer_complexity
    from alit_cli.analysis.answers.complexity_compared import answer_compared_complexity

    # Only a comparison has use for --names, so a name asks for one even where there is a single table.
    compared = len(question.tokens) > 1 or question.names
    show_result((answer_compared_complexity if compared else answer_complexity)(question), as_json)
    say_page(question.tokens, question.out)
