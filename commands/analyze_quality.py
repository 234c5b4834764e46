"""`alit analyze quality`: errors, codes and baselines at every budget, from the tables; several tables are compared."""

from functools import partial

import click

from alit_cli.analysis.answers.questions import ComparisonQuestion, QualityQuestion
from alit_cli.console import say_page, show_result
from alit_cli.grouped_help import Command, example
from alit_cli.options import as_record, names_option, report_options, tables_options, threshold_option, tokens_argument


@click.command(
    "quality",
    cls=Command,
    epilog=example(
        "alit analyze quality tokens.parquet",
        "alit analyze quality alit.parquet titok.parquet vqgan.parquet --names ALIT,TiTok,VQGAN",
    ),
)
# `tokens_argument` is itself a decorator, so that other commands can write it without brackets; partial gives it its
# argument.
@partial(tokens_argument, several=True)
@threshold_option("L1 thresholds below which images are counted. [default: spread over the data]")
@names_option
@tables_options
@report_options("study", ("quality.csv", "quality.parquet", "quality_below.csv"))
# A question about several tables has all options; one about a single table has no use for names.
@as_record(ComparisonQuestion)
def command(question: ComparisonQuestion, as_json: bool) -> None:
    """Say how good the tokens of TOKENS are at every budget [default: tokens.parquet].

    L1, bits, codes used and ids that change come from the token table. PSNR, SSIM, and the baselines (the base
    tokenizer without tokens; thumbnail, JPEG and WebP of as many bits) come from alit score --task recon,baselines, and
    the Fréchet distance from --task features. What was not scored is left out. Nothing is decoded.

    Several token tables of the same images are compared in one table and one figure, against bits and tokens, also with
    each image at the budget that it needs (comparison.csv, comparison.parquet, comparison_below.csv).
    """
    from alit_cli.analysis.answers.comparison import answer_comparison
    from alit_cli.analysis.answers.quality import answer_quality

    # A name asks for a comparison even where there is a single table.
    if len(question.tokens) > 1 or question.names:
        result = answer_comparison(question)
    else:
        result = answer_quality(
            QualityQuestion(
                tokens=question.tokens[0],
                out=question.out,
                form=question.form,
                thr=question.thr,
                scores=question.scores,
                tables=question.tables,
            )
        )
    show_result(result, as_json)
    say_page(question.tokens, question.out)
