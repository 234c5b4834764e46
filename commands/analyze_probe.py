"""`alit analyze probe`: do the tokens know what is in the image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alit_cli.grouped_help import COMPUTE, INPUT, Command, example, option
from alit_cli.options import (
    image_column_option,
    images_options,
    iterations_option,
    report_options,
    seed_option,
)

if TYPE_CHECKING:
    from alit_cli.analysis.probe.probing import Accuracy
    from alit_cli.data.annotations.labels import Labelled

FOLDERS = "folders"
POOLS = ("latents", "first", "image", "both")


def _read_pools(_ctx: click.Context, param: click.Parameter, value: Any) -> tuple[str, ...]:
    names = [str(name).strip() for name in (value if isinstance(value, list | tuple) else str(value).split(","))]
    for name in names:
        if name not in POOLS:
            raise click.BadParameter(f"'{name}' is none of {', '.join(POOLS)}", param=param)
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
    help="What is averaged: all latents, the first of them, image tokens; both puts latents and image side by side.",
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
def command(paths: tuple[str, ...], out: Path, form: str, as_json: bool, **options: Any) -> None:
    """Fit linear classifiers to what the encoder makes of labelled images, averaged over its tokens.

    PATHS as alit tokenize takes them. Logistic regression on standardised vectors, C chosen inside each fold; top-1
    with a 95 % interval for every pool and iteration, beside chance and a probe on raw pixels (16×16×3).
    """
    from alit_cli.analysis.probe.figure import draw_probe
    from alit_cli.analysis.probe.probing import check_probe, features_of, probe, save_probe
    from alit_cli.console import follow, follow_images, print_json
    from alit_cli.data.files import make_folder
    from alit_cli.data.sources.listing import list_items
    from alit_cli.jobs.probe import ProbeJob, encode_pooled
    from alit_cli.model.tokenizer import load

    items = list_items(paths, options["limit"])
    labelled = _labels(options, [item.image for item in items])
    items = [item for item in items if item.image in labelled.of]
    check_probe([labelled.of[item.image] for item in items], options["folds"])
    make_folder(out)
    tokenizer = load(options["checkpoint"], options["device"], options["precision"])
    first = options["first"] or tokenizer.budgets[0]
    job = ProbeJob(items, options["iterations"], first, options["batch_size"])
    images = list(follow_images(encode_pooled(tokenizer, job)))
    labels = [labelled.of[image.image] for image in images]
    check_probe(labels, options["folds"])
    records = probe(features_of(images, options["pool"]), labels, options["folds"], options["seed"])
    found = [record.accuracy for record in follow(records, lambda record: record.progress) if record.accuracy]
    files = [*save_probe(found, out), out / f"probe.{form}"]
    source = f"{len(images)} images, {len(set(labels))} classes, {options['folds']} folds"
    size = f"{tokenizer.config.image_size}×{tokenizer.config.image_size} pixels"
    model = f"model {tokenizer.config.name} ({tokenizer.model_id[:8]}), {size}"
    draw_probe(found, first, f"{source} · {model}", files[-1])
    if as_json:
        print_json({"images": len(images), "classes": sorted(set(labels)), "probes": found, "files": files})
    else:
        _show(found, first)
        click.echo("\n".join(map(str, files)))


def _labels(options: dict[str, Any], images: Sequence[str]) -> Labelled:
    """The images' labels, and a remark on where they come from."""
    from alit_cli.console import say
    from alit_cli.data.annotations.labels import labels_of_file, labels_of_folders

    if options["labels"] == FOLDERS:
        labelled = labels_of_folders(images)
    else:
        columns, ways = (options["image_col"], options["label_col"]), ("--image-col", "--label-col")
        labelled = labels_of_file(Path(options["labels"]), images, *columns, ways, "input")
    classes = len(set(labelled.of.values()))
    say(f"{len(labelled.of)} of {len(images)} images have a label, {classes} classes, from {labelled.said}.")
    if labelled.unmatched:
        say(f"{labelled.unmatched} labels have found no image.")
    return labelled


def _show(found: Sequence[Accuracy], first: int) -> None:
    """The accuracies, a row a pool; then how the last iteration stands against raw pixels and chance."""
    from alit_cli.analysis.probe.probing import pool_name
    from alit_cli.console import say, show_table

    plain, rest = found[0], found[1:]
    pools = list(dict.fromkeys(row.pool for row in rest))
    tokens = sorted({row.tokens for row in rest if row.tokens is not None})
    at = {(row.pool, row.tokens): f"{row.accuracy:.3f} ±{(row.high - row.low) / 2:.3f}" for row in rest}
    rows = [[pool_name(pool, first), *(at[pool, number] for number in tokens)] for pool in pools]
    show_table(
        f"Top-1 accuracy of linear probes ± half its 95 % interval, {plain.images} images",
        ["tokens", *map(str, tokens)],
        rows,
    )
    click.echo(f"raw pixels: {plain.accuracy:.3f} ({plain.low:.3f} … {plain.high:.3f}); chance: {plain.chance:.3f}")
    for row in rest:
        if row.tokens == tokens[-1]:
            click.echo(f"{pool_name(row.pool, first)} at {row.tokens} tokens: {_verdict(row)}")
    if not all(row.converged for row in found):
        say("Some fits did not converge; their rows say so in the column `converged`.")


def _verdict(row: Accuracy) -> str:
    """How one probe stands against chance and raw pixels."""
    chance = "above" if row.low > row.chance else "not above"
    beside = {(True, False): "above", (False, True): "below"}
    pixels = beside.get((row.above_low > 0, row.above_high < 0), "not told apart from")
    gain = f"{row.above_pixels:+.3f}, {row.above_low:+.3f} … {row.above_high:+.3f}"
    return f"{chance} chance, {pixels} raw pixels ({gain})"
