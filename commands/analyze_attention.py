"""`alit analyze attention`: which part of an image each token is for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from alit_cli.grouped_help import COMPUTE, INPUT, OUTPUT, Command, example, option
from alit_cli.option_types import Numbers
from alit_cli.options import images_options, iterations_option, report_options, seed_option

if TYPE_CHECKING:
    import pandas as pd

    from alit_cli.analysis.attention.study import AttentionStudy
    from alit_cli.data.annotations.masks import Masks
    from alit_cli.data.sources.items import Item
    from alit_cli.data.tables.token_maps import TokenMaps
    from alit_cli.jobs.reading.batches import ImageRecord

SHARES = (40.0, 60.0, 80.0)


def _read_keep(ctx: click.Context, param: click.Parameter, value: Any) -> tuple[str, tuple[float, ...]]:
    """('top' or 'mass', shares of 1) from `40,60,80`, `mass` or `mass:60`."""
    rule, text = "top", value
    if isinstance(value, str) and (found := re.fullmatch(r"mass(?::(.+))?", value.strip())):
        rule, text = "mass", found[1]
    percents = SHARES if text is None else Numbers(float).convert(text, param, ctx)
    if not all(0 < percent < 100 for percent in percents):
        raise click.BadParameter("each is a percentage between 0 and 100, such as 40,60,80", param=param)
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
    "--keep",
    type=click.UNPROCESSED,
    metavar="40,60,80|mass[:60]",
    callback=_read_keep,
    help="A token's region: the positions with most attention, so many percent of all; or mass, the fewest that hold "
    "so much of it. [default: 40,60,80]",
)
@option(
    COMPUTE,
    "--background",
    metavar="ID[,…]",
    type=Numbers(int),
    default="0",
    show_default=True,
    help="Ids of masks that are no segments; -1: none.",
)
@option(
    COMPUTE,
    "--ignore",
    metavar="ID[,…]",
    type=Numbers(int),
    help="Ids that do not count at all. [default: 255, unless a mask has no other]",
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
    help="Other images whose maps give a mask's chance level.",
)
@seed_option("the choice of shuffles")
@option(
    OUTPUT,
    "--sheets",
    metavar="N",
    type=click.IntRange(0),
    default=12,
    show_default=True,
    help="Images that get a sheet, the first ones.",
)
@option(OUTPUT, "--npz", is_flag=True, help="Also write the maps of every image, k×g×g, to maps/.")
@images_options
@report_options("study/attention", ("attention.csv", "attention.parquet"), "the figure, overview and sheets/")
def command(
    paths: tuple[str, ...], masks: str | None, keep: tuple[Any, tuple[float, ...]], as_json: bool, **options: Any
) -> None:
    """Show how much of each image position's attention goes to each token when the decoder rebuilds the image.

    PATHS as alit tokenize takes them. Writes a contact sheet per image, how narrow the maps are and how steady from
    iteration to iteration; with --masks, how well the best token fits each segment, beside masks of other images.
    """
    from alit_cli.analysis.attention.binding import Keep
    from alit_cli.analysis.attention.study import AttentionStudy, Question
    from alit_cli.console import print_json
    from alit_cli.data.files import make_folder
    from alit_cli.data.sources.listing import list_items
    from alit_cli.jobs.attention import AttentionJob, attend
    from alit_cli.model.tokenizer import load

    items = list_items(paths, options.pop("limit"))
    found = None if masks is None else list_items([masks])
    make_folder(options["out"])
    tokenizer = load(options.pop("checkpoint"), options.pop("device"), options.pop("precision"))
    config = tokenizer.config
    layer, iterations, batch = (options.pop(name) for name in ("layer", "iterations", "batch_size"))
    job = AttentionJob(items, layer, iterations, options["sheets"], batch)
    source = f"model {config.name} ({tokenizer.model_id[:8]}), decoder layer {layer} of {config.decoder_layers}"
    question = Question(source=f"{source}, {config.image_size}×{config.image_size} pixels", keep=Keep(*keep), **options)
    study = AttentionStudy(question, None if found is None else _masks(found, items, config.image_size))
    _take_all(study, items, attend(tokenizer, job))
    summary = study.finish()
    files = study.save(summary)
    _say_what_is_missing(study)
    if as_json:
        rows = summary.to_dict("records")
        print_json({"images": study.images, "without_mask": study.without_mask, "rows": rows, "files": files})
    else:
        _show(summary, study)
        click.echo("\n".join(map(str, files)))


def _masks(found: Sequence[Item], items: Sequence[Item], side: int) -> Masks:
    """The masks that belong to the images."""
    from alit_cli.analysis.attention.study import match_masks
    from alit_cli.console import say
    from alit_cli.data.annotations.masks import Masks

    masks = Masks(match_masks(found, items), side)
    say(f"{len(masks.items)} of {len(items)} images have one of the {len(found)} masks.")
    return masks


def _take_all(study: AttentionStudy, items: Sequence[Item], records: Iterator[ImageRecord[TokenMaps]]) -> None:
    """Every image into the study; those that cannot be read are said."""
    from alit_cli.console import follow_images
    from alit_cli.jobs.decode import file_names

    names = file_names([item.image for item in items])
    name_of = {item.image: name.removesuffix(".png") for item, name in zip(items, names, strict=True)}
    for maps in follow_images(records):
        study.take(maps, name_of[maps.image])


def _say_what_is_missing(study: AttentionStudy) -> None:
    from alit_cli.console import say

    if study.without_mask and study.masks is not None:
        names = study.without_mask
        say(f"{len(names)} images have no mask, or no segment in it, and count only for the maps: {names[0]}, …")
    if 0 < study.question.sheets < study.images:
        say(f"Sheets of the first {study.question.sheets} images only (--sheets).")


MEASURES = {
    "top_decile": "mass in the top tenth of positions",
    "entropy": "entropy (even map: 1)",
    "latent_share": "share of attention to tokens",
    "stability": "r with itself at the next iteration",
    "stability_others": "r with other tokens there",
    "overlap": "overlap of top tenths with the next",
    "sameness": "r with itself in other images",
}


def _show(summary: pd.DataFrame, study: AttentionStudy) -> None:
    """On stdout: the maps by iteration; with masks, the mIoU of all tokens and of the first budget's."""
    from alit_cli.analysis.attention.tables import SETS, measure_name
    from alit_cli.console import show_table

    tokens = [str(number) for number in sorted(summary.tokens.unique())]
    rows = [[label, *_means(summary, measure)] for measure, label in MEASURES.items()]
    show_table(f"Maps of the tokens, means over {study.images} images", ["tokens", *tokens], rows)
    if study.bound is None:
        return
    images, segments = study.bound
    shares = study.shares
    for whose in SETS:
        rows = []
        for share, label in shares.items():
            rows.append([label, *_means(summary, measure_name(whose, share, shuffled=False))])
            rows.append(["  chance", *_means(summary, measure_name(whose, share, shuffled=True))])
        name = "all tokens" if whose == "all" else f"the first {study.first} tokens"
        title = f"mIoU of the best token per segment, {name} ({images} images, {segments} segments)"
        show_table(title, ["region", *tokens], rows)
        click.echo(_verdict(summary, whose))


def _means(summary: pd.DataFrame, measure: str) -> list[str | None]:
    """One cell per iteration."""
    from alit_cli.analysis.attention.tables import series

    known = dict(zip(*(series(summary, measure)[name] for name in ("tokens", "mean")), strict=True))
    return [f"{known[n]:.3f}" if n in known else None for n in sorted(summary.tokens.unique())]


def _verdict(summary: pd.DataFrame, whose: str) -> str:
    """Whether the tokens bind to this image's objects, in a sentence."""
    from alit_cli.analysis.attention.tables import BEST, measure_name, series

    gain = series(summary, f"gain_{whose}_{BEST}")
    if gain.empty:
        return "No chance level: there are no other images to compare with.\n"
    last = gain.iloc[-1]
    above = "above" if last.low > 0 else "not above"
    own, chance = (
        series(summary, measure_name(whose, BEST, shuffled=shuffled)).iloc[-1]["mean"] for shuffled in (False, True)
    )
    return (
        f"Best threshold at {last.tokens} tokens: {own:.3f}, and {chance:.3f} for the same segments under other "
        f"images' maps; {last['mean']:+.3f} ({last.low:+.3f} … {last.high:+.3f}), {above} chance.\n"
    )
