"""`alit analyze probe`: do the tokens know what is in the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from alit_cli.analysis.answers.questions import FOLDERS, ProbeQuestion
from alit_cli.grouped_help import COMPUTE, INPUT, Command, example, option
from alit_cli.options import (
    as_record,
    image_column_option,
    images_options,
    iterations_option,
    report_options,
    seed_option,
)

# The same names are in probing.py. They are repeated here, because that file imports scipy and pandas, and --help must
# not wait for those.
POOLS = ("latents", "first", "image", "both", "all")


def _read_pools(_ctx: click.Context, param: click.Parameter, value: Any) -> tuple[str, ...]:
    names = [str(name).strip() for name in (value if isinstance(value, list | tuple) else str(value).split(","))]
    for name in names:
        if name not in POOLS:
            raise click.BadParameter(f"'{name}' is none of {', '.join(POOLS)}", param=param)
    # A pool that is named twice is fitted once, at the place where it was named first.
    return tuple(dict.fromkeys(names))


@click.command(
    "probe",
    cls=Command,
    epilog=example(
        "alit analyze probe ./photos --out probe/",
        "alit analyze probe ./photos --labels labels.csv --pool latents,image --iterations 0,3,7",
    ),
)
@click.argument("paths", nargs=-1, required=True)
@option(
    INPUT,
    "--labels",
    metavar="FILE|folders",
    default=FOLDERS,
    show_default=True,
    help="A csv, tsv, parquet or xlsx file with columns of images and labels, or the names of the folders they lie in.",
)
@option(
    INPUT,
    "--validation",
    metavar="PATH",
    multiple=True,
    help="Labelled images to test on; probes are then fitted to all of PATHS. [default: cross-validation]",
)
@image_column_option
@option(INPUT, "--label-col", metavar="NAME", help="Its column of labels. [default: label, class …]")
@option(
    COMPUTE,
    "--pool",
    type=click.UNPROCESSED,
    metavar="NAME[,…]",
    default=",".join(POOLS),
    show_default=True,
    callback=_read_pools,
    help="What is averaged: all latent tokens (latents), the first of them (first), the image tokens (image), or "
    "latent and image tokens together (all); both puts the means of latents and image side by side.",
)
@option(
    COMPUTE,
    "--first",
    metavar="N",
    type=click.IntRange(1),
    help="Number of latent tokens in the pool 'first'. [default: the model's first budget]",
)
@iterations_option
@option(
    COMPUTE,
    "--folds",
    metavar="N",
    type=click.IntRange(2),
    default=5,
    show_default=True,
    help="Folds of the cross-validation.",
)
@seed_option("the folds")
@images_options
@report_options("study/probe", ("probe.csv", "probe.parquet"))
@as_record(ProbeQuestion)
def command(question: ProbeQuestion, as_json: bool) -> None:
    """Fit linear classifiers to what the encoder makes of labelled images, averaged over its tokens.

    PATHS are images as alit tokenize takes them. The classifier is a logistic regression on standardised vectors, whose
    C is chosen by cross-validation inside the training images. Prints the top-1 accuracy with a 95 % interval for every
    pool and iteration, beside chance and a probe on raw pixels (16×16×3).
    """
    # These modules import torch and matplotlib; the help of this command must not wait for them.
    from alit_cli.console import follow_study, say_page, show_result
    from alit_cli.image_studies.probe import answer_probe

    show_result(follow_study(answer_probe(question)), as_json)
    say_page([Path("tokens.parquet")], question.out)
