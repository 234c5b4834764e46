"""`alit analyze familiarity`: do unfamiliar images need more tokens, and gain more from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alit_cli.console import print_json, say, show_table
from alit_cli.errors import InputError
from alit_cli.grouped_help import INPUT, OUTPUT, Command, example, option
from alit_cli.options import (
    bootstrap_option,
    few_samples_option,
    report_options,
    seed_option,
    threshold_option,
)

if TYPE_CHECKING:
    from alit_cli.analysis.query.tables import Tables
    from alit_cli.analysis.studies.familiarity import Difference, Familiarity


@click.command(
    "familiarity",
    cls=Command,
    epilog=example("alit analyze familiarity photos.parquet sketches.parquet"),
)
@click.argument("tables", type=click.Path(path_type=Path), nargs=-1, required=True)
@threshold_option("L1 to count the tokens needed for. [default: the data's quartiles]")
@option(
    OUTPUT,
    "--names",
    metavar="NAME[,…]",
    help="What the sets are called, one name for each table. [default: their files, or their folders]",
)
@option(
    INPUT,
    "--scores",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="DIR",
    help="Where alit score put the features of a table, for Fréchet distances; one for each table, in their order.",
)
@few_samples_option
@bootstrap_option
@seed_option("resampling and matching")
@report_options("study", ("familiarity.csv", "familiarity.parquet", "familiarity_differences.csv"))
def command(
    tables: tuple[Path, ...],
    thr: tuple[float, ...] | None,
    scores: tuple[Path, ...],
    names: str | None,
    few_samples: bool,
    bootstrap: int,
    seed: int,
    form: str,
    out: Path,
    as_json: bool,
) -> None:
    """Hold the other TABLES of alit tokenize against the first: L1 at few and many tokens, and the tokens needed.

    Because unfamiliar images may just be busier, sets are also compared at matched JPEG bytes.
    """
    from alit_cli.analysis.figures.familiarity import draw_familiarity
    from alit_cli.analysis.figures.style import made_by
    from alit_cli.analysis.studies.familiarity import compare_sets, read_set, save_tables

    opened = _open(tables, scores)
    sets = [read_set(one, name, few_samples, seed) for one, name in zip(opened, _names(tables, names), strict=True)]
    result = compare_sets(sets, opened[0].budgets, thr, bootstrap, seed)
    files = [*save_tables(result, out), out / f"familiarity.{form}"]
    draw_familiarity(result, f"model: {made_by(opened[0].info)} · bars: 95 % intervals", files[-1])
    _say_remarks(opened, result, given=thr is not None)
    if as_json:
        print_json({"sets": result.rows, "differences": result.differences, "files": files})
    else:
        _show(result)
        if result.differences:
            _show_differences(result)
        click.echo("\n".join(map(str, files)))


def _open(paths: Sequence[Path], scores: Sequence[Path]) -> list[Tables]:
    """The tables, all of one model; each with its own scores, or none."""
    from alit_cli.analysis.query.tables import Tables

    if scores and len(scores) != len(paths):
        raise InputError(f"There are {len(paths)} tables and {len(scores)} --scores; give one for each, in order.")
    alone = len({path.parent for path in paths}) == len(paths)  # else one folder would hold the scores of several
    opened = []
    for number, path in enumerate(paths):
        beside = path.parent / "scores"
        place = scores[number] if scores else beside if alone and beside.is_dir() else None
        opened.append(Tables(path, place, with_scores=place is not None))
    for one in opened[1:]:
        if (one.info.model_id, one.budgets) != (opened[0].info.model_id, opened[0].budgets):
            raise InputError(
                f"'{opened[0].name}' and '{one.name}' come from different models or budgets; tokenize both with one."
            )
    return opened


def _names(paths: Sequence[Path], given: str | None) -> list[str]:
    """How the sets are called: as given, else by their files, or by the folders of files that are all `tokens`."""
    if given is not None:
        names = [name.strip() for name in given.split(",")]
        if len(names) != len(paths) or len(set(names)) < len(names) or not all(names):
            raise InputError(f"--names {given} does not fit: give {len(paths)} different names, one for each table.")
        return names
    for names in ([path.stem for path in paths], [path.resolve().parent.name for path in paths]):
        if len(set(names)) == len(names) and "tokens" not in names:
            return names
    return [str(path) for path in paths]


def _say_remarks(opened: Sequence[Tables], result: Familiarity, given: bool) -> None:
    """What the numbers need to be understood."""
    for tables in opened:
        for remark in tables.remarks:
            say(remark)
    if not given:
        say(f"Thresholds of L1 taken from the data (quartiles at the middle budget): {_list(result.thresholds)}.")
    if any(row.matched for row in result.differences):
        say(
            "Matched: both sets have equally many images in each of 20 bins of JPEG bytes; from the set with more in a "
            "bin, images are drawn at random."
        )
    elif len(result.sets) > 1:
        say("A table has no jpeg_bytes (--no-measures), so nothing is matched.")
    for one in result.sets:
        if one.frechet:
            say(
                f"{one.name}: Fréchet distance from the originals' features, {one.dimension} dimensions, "
                f"{len(one.l1)} images; unbiased covariances, squared distance."
            )
    if not any(one.frechet for one in result.sets):
        say(
            "No Fréchet distance (FD): it takes `alit score TABLE --task features --model … --out FOLDER` of each "
            "table, and these folders as --scores."
        )


def _list(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def _show(result: Familiarity) -> None:
    """The sets in numbers."""
    few, many = result.budgets[0], result.budgets[-1]
    middle = result.thresholds[len(result.thresholds) // 2]
    heading = ["set", "images", "JPEG bytes", f"L1 at {few}", f"at {many}", "gap", "gap/L1"]
    show_table(
        "Sets ± half their 95 % interval",
        [*heading, f"FD at {few}", f"FD at {many}", f"need {middle:g}", "never"],
        [
            [
                row.set,
                row.n,
                row.jpeg_bytes,
                row.l1_smallest,
                row.l1_largest,
                f"{row.gap:.4f} ±{(row.gap_high - row.gap_low) / 2:.4f}",
                f"{100 * row.relative_gap:.1f} %",
                row.frechet_smallest,
                row.frechet_largest,
                f"{row.mean_tokens:.3g} ±{(row.tokens_high - row.tokens_low) / 2:.2g}",
                f"{100 * row.never:.1f} %",
            ]
            for row in result.rows
            if row.threshold == middle
        ],
    )


def _show_differences(result: Familiarity) -> None:
    """How each set differs from the first, in the numbers that say most; the files have all."""
    middle = result.thresholds[len(result.thresholds) // 2]
    shown = (f"l1_{result.budgets[0]}", "l1 gap", f"tokens(l1<{middle:g})", "jpeg_bytes")
    show_table(
        f"Against {result.sets[0].name}: Cliff's δ (above 0: more than there) and Mann–Whitney",
        ["set", "number", "JPEG bytes", "images", "mean", "there", "δ", "p"],
        [
            [
                row.set,
                row.measure,
                "matched" if row.matched else "as they are",
                row.n,
                row.mean,
                row.mean_first,
                _delta(row),
                _p(row.p),
            ]
            for row in result.differences
            if row.measure in shown
        ],
    )


def _delta(row: Difference) -> str | None:
    if math.isnan(row.delta):
        return None
    return f"{row.delta:+.2f}" + ("" if math.isnan(row.low) else f" [{row.low:+.2f}, {row.high:+.2f}]")


def _p(value: float) -> str | None:
    return None if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
