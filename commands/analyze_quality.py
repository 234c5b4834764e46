"""`alit analyze quality`: errors, codes and baselines at every budget, from the tables."""

import click

from alit_cli.analysis.answers.questions import QualityQuestion
from alit_cli.console import show_result
from alit_cli.grouped_help import Command, example
from alit_cli.options import as_record, report_options, tables_options, threshold_option, tokens_argument


@click.command(
    "quality",
    cls=Command,
    epilog=example("alit analyze quality tokens.parquet"),
)
@tokens_argument
@threshold_option("L1 to count images below. [default: spread over the data]")
@tables_options
@report_options("study", ("quality.csv", "quality.parquet", "quality_below.csv"))
@as_record(QualityQuestion)
def command(question: QualityQuestion, as_json: bool) -> None:
    """Say how good the tokens of TOKENS are at every budget [default: tokens.parquet].

    L1, bits, codes used and ids that change come from the token table; PSNR, SSIM, the base tokenizer without tokens,
    and thumbnail, JPEG and WebP of as many bits from alit score --task recon,baselines; the Fréchet distance from
    --task features. What was not scored is left out. Nothing is decoded.
    """
    from alit_cli.analysis.answers.quality import answer_quality

    show_result(answer_quality(question), as_json)
