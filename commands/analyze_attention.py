"""`alit analyze attention`: which part of an image each token is for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from alit_cli.analysis.answers.questions import AttentionQuestion
from alit_cli.grouped_help import COMPUTE, INPUT, OUTPUT, Command, example, option
from alit_cli.option_types import Numbers
from alit_cli.options import as_record, images_options, iterations_option, report_options, seed_option

# Percent of the positions, as the option takes them. There are three, because no single size of region suits small and
# large objects.
SHARES = (40.0, 60.0, 80.0)


def _read_region(ctx: click.Context, param: click.Parameter, value: Any) -> tuple[str, tuple[float, ...]]:
    """('top' or 'mass', shares of 1) from `40,60,80`, `mass` or `mass:60`."""
    rule, text = "top", value
    # A config file may hold a list of numbers, and only a text can begin with `mass`.
    if isinstance(value, str) and (match := re.fullmatch(r"mass(?::(.+))?", value.strip())):
        rule, text = "mass", match[1]
    # `text` is None without the option, and also for `mass` without a number: both mean the usual shares.
    percents = SHARES if text is None else Numbers(float).convert(text, param, ctx)
    if not all(0 < percent < 100 for percent in percents):
        raise click.BadParameter("each is a percentage between 0 and 100, such as 40,60,80", param=param)
    # Columns are named after the shares, so a share that is given twice must count once.
    return rule, tuple(sorted({percent / 100 for percent in percents}))


@click.command(
    "attention",
    cls=Command,
    epilog=example(
        "alit analyze attention ./images --out attention/",
        "alit analyze attention ./images --masks ./masks --limit 100 --out attention/",
    ),
)
@click.argument("paths", nargs=-1, required=True)
@option(INPUT, "--masks", metavar="DIR", help="A label map per image: a PNG of ids, named like the image.")
@option(
    COMPUTE,
    "--layer",
    metavar="N",
    type=int,
    default=-2,
    show_default=True,
    help="Which layer of the decoder; negative counts from the end.",
)
@iterations_option
@option(
    COMPUTE,
    "--region",
    formerly=["--keep"],
    type=click.UNPROCESSED,
    metavar="40,60,80|mass[:60]",
    callback=_read_region,
    help="Which positions form a token's region: the top 40, 60, 80 % by attention, or mass:60, the smallest set that "
    "holds 60 % of it. [default: 40,60,80]",
)
@option(
    COMPUTE,
    "--tokens",
    metavar="ID[,…]",
    type=Numbers(int),
    help="Tokens that the sheets follow through the iterations, at most four, counted from 0. [default: those with the "
    "narrowest maps]",
)
@option(
    COMPUTE,
    "--background",
    metavar="ID[,…]",
    type=Numbers(int),
    default="0",
    show_default=True,
    help="Ids in masks that are background and no segments; -1 for none.",
)
@option(
    COMPUTE,
    "--ignore",
    metavar="ID[,…]",
    type=Numbers(int),
    help="Ids of pixels that are ignored. [default: 255, unless a mask has no other id]",
)
@option(
    COMPUTE,
    "--min-area",
    metavar="SHARE",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Leave out segments of a smaller share of the picture.",
)
@option(
    COMPUTE,
    "--shuffles",
    metavar="N",
    type=click.IntRange(0),
    default=5,
    show_default=True,
    help="Number of other images whose maps give the chance level of a mask.",
)
@seed_option("the choice of shuffles")
@option(
    OUTPUT,
    "--sheets",
    metavar="N",
    type=click.IntRange(0),
    default=12,
    show_default=True,
    help="Number of images, from the first on, that get a contact sheet.",
)
@option(OUTPUT, "--npz", is_flag=True, help="Also write the maps of every image, k×g×g, to maps/.")
@images_options
@report_options("study/attention", ("attention.csv", "attention.parquet"), "the figure, overview and sheets/")
@as_record(AttentionQuestion)
def command(question: AttentionQuestion, as_json: bool) -> None:
    """Show how much of each image position's attention goes to each token when the decoder rebuilds the image.

    PATHS are images as alit tokenize takes them. Contact sheets of the first images are written, and tables that say
    how narrow the maps of the tokens are and how steady from iteration to iteration. With --masks they also say how
    well the best token fits each segment, beside masks of other images.
    """
    # These modules import torch and matplotlib; the help of this command must not wait for them.
    from alit_cli.console import follow_study, say_page, show_result
    from alit_cli.image_studies.attention import answer_attention

    show_result(follow_study(answer_attention(question)), as_json)
    say_page([Path("tokens.parquet")], question.out)
