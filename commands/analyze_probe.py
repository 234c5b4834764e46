"""`alit analyze probe`: do the tokens know what is in the image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alit_cli.analysis.answers.questions import ProbeQuestion
from alit_cli.grouped_help import COMPUTE, INPUT, Command, example, option
from alit_cli.options import (
    as_record,
    image_column_option,
    images_options,
    iterations_option,
    report_options,
    seed_option,
)

if TYPE_CHECKING:
    from alit_cli.data.sources.items import Item
    from alit_cli.data.tables.pooled import Pooled
    from alit_cli.model.tokenizer import Tokenizer

FOLDERS = "folders"
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
    help="What is averaged: all latents, the first of them, image tokens; both puts latents and image side by side, "
    "all averages over latents and image tokens together.",
)
@option(
    COMPUTE,
    "--first",
    metavar="N",
    type=click.IntRange(1),
    help="Latents that the pool 'first' averages. [default: the model's first budget]",
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

    PATHS as alit tokenize takes them. Logistic regression on standardised vectors, C chosen by cross-validation inside
    the training images; top-1 with a 95 % interval for every pool and iteration, beside chance and a probe on raw
    pixels (16×16×3).
    """
    import numpy as np

    from alit_cli.analysis.answers.probe import probe_blocks, probe_remarks
    from alit_cli.analysis.probe.figure import draw_probe
    from alit_cli.analysis.probe.probing import check_probe, check_split, features_of, probe, save_probe
    from alit_cli.console import follow, say_page, show_result
    from alit_cli.data.files import computed_from, make_folder
    from alit_cli.data.marks import Sources
    from alit_cli.data.sources.listing import list_items
    from alit_cli.model.tokenizer import load
    from alit_cli.results import Result

    # The first set is PATHS; the second one is --validation, if that was given.
    sets = [list_items(paths, question.limit) for paths in (question.paths, question.validation) if paths]
    labels_of = [_labels(question, items) for items in sets]
    # Images without a label are left out before the encoder sees them, because encoding is the slow part.
    sets = [[item for item in items if item.image in known] for items, known in zip(sets, labels_of, strict=True)]

    def check(labels: list[list[str]]) -> None:
        if question.validation:
            check_split(*labels)
        else:
            check_probe(labels[0], question.folds)

    # The labels are checked twice: here, before the slow encoder, and again below, because an image that cannot be read
    # takes its label with it.
    check([[known[item.image] for item in items] for items, known in zip(sets, labels_of, strict=True)])
    make_folder(question.out)
    tokenizer = load(question.checkpoint, question.device, question.precision)
    first = question.first or tokenizer.budgets[0]
    images = [_encode(question, tokenizer, items, first) for items in sets]
    labels = [[known[image.image] for image in some] for some, known in zip(images, labels_of, strict=True)]
    check(labels)
    # The probe takes one list of all images; `held_out` says which of them are the validation set.
    everything = [image for some in images for image in some]
    names = [label for some in labels for label in some]
    held_out = np.arange(len(names)) >= len(labels[0]) if question.validation else None
    features = features_of(everything, question.pool)
    records = probe(features, names, question.folds, question.seed, held_out)
    accuracies = [record.accuracy for record in follow(records, lambda record: record.progress) if record.accuracy]
    # The figure is the last of the files, where the next line takes its path from.
    # The page looks for a table of the training images; the validation set may be in another one.
    with computed_from(Sources.of_images(tokenizer.model_id, {item.image: item.source for item in sets[0]})):
        tables = save_probe(accuracies, question.out)
    files = [*tables, question.out / f"probe.{question.form}"]
    draw_probe(accuracies, first, _source(question, tokenizer, labels), files[-1])
    data = {"images": len(names), "classes": sorted(set(names)), "probes": accuracies, "files": files}
    blocks = (*probe_blocks(accuracies, first), "\n".join(map(str, files)))
    show_result(Result(blocks, tuple(probe_remarks(accuracies)), data), as_json)
    say_page([Path("tokens.parquet")], question.out)


def _encode(question: ProbeQuestion, tokenizer: Tokenizer, items: Sequence[Item], first: int) -> list[Pooled]:
    """The pooled vectors of every image that can be read."""
    from alit_cli.console import follow_images
    from alit_cli.jobs.probe import ProbeJob, encode_pooled

    job = ProbeJob(items, question.iterations, first, question.batch_size)
    return list(follow_images(encode_pooled(tokenizer, job)))


def _source(question: ProbeQuestion, tokenizer: Tokenizer, labels: Sequence[Sequence[str]]) -> str:
    """Where the numbers of the figure come from."""
    config, classes = tokenizer.config, len(set(labels[0]))
    tested = f"tested on {len(labels[1])} others" if question.validation else f"{question.folds} folds"
    size = f"{config.image_size}×{config.image_size} pixels"
    return (
        f"{len(labels[0])} images, {classes} classes, {tested} · model {config.name} ({tokenizer.model_id[:8]}), {size}"
    )


def _labels(question: ProbeQuestion, items: Sequence[Item]) -> dict[str, str]:
    """The labels by image, and a remark on where they come from."""
    from alit_cli.console import say
    from alit_cli.data.annotations.labels import labels_of_file, labels_of_folders

    images = [item.image for item in items]
    # A file called `folders` has to be given as ./folders.
    if question.labels == FOLDERS:
        labelled = labels_of_folders(images)
    else:
        columns, options = (question.image_col, question.label_col), ("--image-col", "--label-col")
        labelled = labels_of_file(Path(question.labels), images, *columns, options, "input")
    classes = len(set(labelled.of.values()))
    say(f"{len(labelled.of)} of {len(images)} images have a label, {classes} classes, from {labelled.said}.")
    if labelled.unmatched:
        say(f"{labelled.unmatched} labels have found no image.")
    return dict(labelled.of)
