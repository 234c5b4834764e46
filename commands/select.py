"""`alit select`: the budget each image needs, as a selection of a token table."""

import shlex

import click
from click.core import ParameterSource

from alit_cli.analysis.answers.questions import SelectQuestion
from alit_cli.console import say_next, show_result
from alit_cli.errors import InputError
from alit_cli.grouped_help import COMPUTE, OUTPUT, Command, example, option
from alit_cli.option_types import Numbers
from alit_cli.options import (
    as_record,
    config_option,
    groups_option,
    json_option,
    out_option,
    quiet_option,
    tables_options,
    threshold_option,
    tokens_argument,
)


@click.command(
    "select",
    cls=Command,
    epilog=example(
        "alit select --tsc recon --thr 0.08",
        "alit select --tsc classify --top 5",
        "alit select --tsc 'l1<0.08 and class_rank<=5' --where 'n_tokens>=48' --by folder",
        "alit select --tsc recon --capacity 0.4",
    ),
)
@tokens_argument
@option(
    COMPUTE,
    "--tsc",
    metavar="CRITERION",
    default="recon",
    show_default=True,
    help="recon, classify, depth or a measure, with its number in --thr or --top; or a whole criterion such as "
    "'psnr>=28 and l1<0.1'.",
)
@threshold_option("The threshold of recon, depth or a measure.")
@option(COMPUTE, "--top", type=Numbers(int), metavar="X[,…]", help="For classify: the true class is among the first X.")
@option(
    COMPUTE,
    "--capacity",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="SHARE",
    help="Instead of a threshold: spend this share of all possible tokens where they improve the measure most.",
)
@option(COMPUTE, "--where", metavar="CRITERION", help="Keep only images with, for example, 'n_tokens>=48'.")
@option(
    COMPUTE,
    "--hardest",
    type=click.IntRange(1),
    metavar="K",
    help="Keep only the K that need most tokens, in each group.",
)
@option(
    COMPUTE, "--easiest", type=click.IntRange(1), metavar="K", help="Keep only the K that need fewest, in each group."
)
@groups_option
@option(OUTPUT, "--no-tokens", is_flag=True, help="Leave the tokens out of the selection; much faster on large tables.")
@tables_options
@out_option("selection.parquet", "Where to write the selection of one criterion.")
@json_option
@config_option
@quiet_option
@as_record(SelectQuestion)
def command(question: SelectQuestion, as_json: bool) -> None:
    """Give every image of a token table the smallest token budget that meets a criterion.

    TOKENS is a token table of alit tokenize [default: tokens.parquet]. An image that no budget satisfies gets the
    largest one. With one threshold the selection is written, which alit decode turns into pictures; several thresholds
    are only compared. Columns are looked up in TOKENS, then in the score tables. If several networks were scored, write
    class_rank@resnet-18 for one of them. `alit info TOKENS` lists everything that a criterion can name.
    """
    from alit_cli.analysis.answers.select import answer_select

    several = len(question.numbers)
    # Only an --out that was typed is an error with several thresholds: a default or a config file may well name one.
    source = click.get_current_context().get_parameter_source("out")
    if several > 1 and source is ParameterSource.COMMANDLINE:
        raise InputError(f"--out holds the selection of one threshold, but there are {several}; give one, or no --out.")
    show_result(answer_select(question), as_json)
    # Several thresholds write no selection, and a csv file is for people, so there is no next step.
    if several > 1 or question.out.suffix == ".csv":
        return
    if question.no_tokens:
        chosen = [str(question.tokens), "--selection", str(question.out)]
        say_next(shlex.join(["alit", "export", *chosen, "--out", "tokens.npz"]))
    else:
        out = shlex.quote(str(question.out))
        say_next(f"alit decode {out} --out recon/", f"alit export {out} --out tokens.npz")
