"""`alit analyze capacity`: what becomes of tasks as criteria spend more or fewer tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alit_cli.console import percent, print_json, say, show_table
from alit_cli.grouped_help import COMPUTE, Command, example, option
from alit_cli.options import (
    bootstrap_option,
    few_samples_option,
    groups_option,
    report_options,
    seed_option,
    tables_options,
    threshold_option,
    tokens_option,
)

if TYPE_CHECKING:
    from alit_cli.analysis.query.tables import Tables
    from alit_cli.analysis.selection.sweep import Line, Outcome
    from alit_cli.analysis.studies.capacity import Capacity, Point

MOST_GROUPS = 8
"""Groups that are printed; the files have all of them."""


@click.command(
    "capacity",
    cls=Command,
    epilog=example("alit analyze capacity --tsc recon,classify --toi classify,psnr"),
)
@option(
    COMPUTE,
    "--tsc",
    metavar="CRITERION[,…]",
    multiple=True,
    default=("recon",),
    show_default="recon",
    help="recon, classify, depth or a measure, swept; with a number ('l1<0.08 and class_rank<=5') it is one point.",
)
@option(
    COMPUTE,
    "--toi",
    metavar="OUTCOME[,…]",
    multiple=True,
    default=("recon",),
    show_default="recon",
    help="What to look at: classify (top-1, top-5), top3, depth, recon, features (Fréchet distance), language, any "
    "measure (its mean) or comparison (its share).",
)
@tokens_option
@threshold_option("Thresholds of one --tsc. [default: spread over the data]")
@option(
    COMPUTE,
    "--points",
    metavar="N",
    type=click.IntRange(2),
    default=12,
    show_default=True,
    help="Thresholds that are chosen.",
)
@groups_option
@few_samples_option
@bootstrap_option
@seed_option("the resampling")
@tables_options
@report_options("study", ("capacity.csv", "capacity.parquet", "capacity_nearly.csv"), "the figures")
def command(tokens: Path, out: Path, as_json: bool, form: str, **options: Any) -> None:
    """Sweep criteria over thresholds; say how many tokens each spends and what becomes of tasks there.

    Beside the criteria stand one budget for all images and the originals. All of it is read from the token table
    and the tables of alit score; class_rank@resnet-18 names one of several.
    """
    from alit_cli.analysis.figures.capacity import draw_capacity
    from alit_cli.analysis.query.criteria import split
    from alit_cli.analysis.query.groups import group_images
    from alit_cli.analysis.query.tables import Tables
    from alit_cli.analysis.selection.sweep import read_lines, read_outcomes
    from alit_cli.analysis.studies.capacity import measure_capacity, save_tables

    tables = Tables(tokens, options["scores"], options["tables"])
    outcomes = read_outcomes(tables, split(options["toi"]))
    lines = read_lines(tables, split(options["tsc"]), options["thr"], options["points"])
    groups = group_images(tables, options["by"]) if options["by"] else None
    result = measure_capacity(
        tables, lines, outcomes, groups, options["bootstrap"], options["seed"], options["few_samples"]
    )
    files = [*save_tables(result, out), *draw_capacity(result, _source(tables, result), out, form)]
    _say_remarks(tables, result)
    _say_judges(tables, lines, outcomes)
    if as_json:
        print_json({"table": tokens, "points": result.points, "within_1_percent": result.nearly, "files": files})
    else:
        _show(result)
        click.echo("\n".join(map(str, files)))


def _source(tables: Tables, result: Capacity) -> str:
    """Where the numbers of the figure come from."""
    from alit_cli.analysis.figures.style import made_by

    images, budgets = max(point.n for point in result.points), tables.budgets
    model = f"{made_by(tables.info)}, {budgets[0]}–{budgets[-1]} tokens"
    return f"{images} images · {model} · bands: 95 % bootstrap intervals"


def _say_remarks(tables: Tables, result: Capacity) -> None:
    """What the numbers need to be understood."""
    for remark in tables.remarks:
        say(remark)
    for outcome in result.outcomes:
        if outcome.frechet:
            known = max(point.known for point in result.points if point.outcome == outcome.name)
            say(
                f"{outcome.name}: from the originals' features ({outcome.column}, {result.dimension} dimensions, "
                f"{known} images; unbiased covariances, squared distance), intervals by a jackknife in eight parts."
            )
        elif "predicted" in tables.words(f"label_source@{tables.model(outcome.column)}"):
            say(f"{outcome.name}: labels are the model's own predictions on the originals, so that those are 100 %.")


def _say_judges(tables: Tables, lines: Sequence[Line], outcomes: Sequence[Outcome]) -> None:
    """Where one network both chooses budgets and judges them: what it guesses right by luck then counts as gained."""
    from alit_cli.analysis.query.criteria import comparisons

    choosing = {tables.model(part.name) for line in lines for one in line.criteria for part in comparisons(one)}
    for outcome in outcomes:
        judge = tables.model(outcome.column)
        if judge and judge in choosing:
            say(
                f"{outcome.name}: {judge} both chooses the budgets and judges them, so that its lucky guesses count as "
                "gained. Score a second network and give one of them to --tsc, the other to --toi, to see what holds."
            )


def _show(result: Capacity) -> None:
    """A row per choice of budgets with all outcomes, then where each is within 1 % of its best."""
    from alit_cli.analysis.studies.capacity import ALL

    rows: dict[tuple[str, str], dict[str, Point]] = {}
    for point in result.points:
        if point.group == ALL:
            rows.setdefault((point.line, point.criterion), {})[point.outcome] = point
    show_table(
        "Outcomes ± half their 95 % interval, by tokens spent (share of the largest capacity)",
        ["by", "", "capacity", "never", *(outcome.name for outcome in result.outcomes)],
        [
            [line, text, *_spent(next(iter(found.values()))), *(_value(found, each) for each in result.outcomes)]
            for (line, text), found in rows.items()
        ],
    )
    groups = len({near.group for near in result.nearly})
    if groups > MOST_GROUPS:
        say(f"Where the {groups} groups come within 1 % of their best is in capacity_nearly.csv.")
    show_table(
        "Fewest tokens within 1 % of the best",
        ["group", "outcome", "best", "by", "", "capacity", "value"],
        [
            [near.group, near.outcome, near.best, near.line, near.criterion, percent(near.capacity), near.value]
            for near in result.nearly
            if groups <= MOST_GROUPS or near.group == ALL
        ],
    )


def _spent(point: Point) -> list[str | None]:
    return [percent(point.capacity), percent(point.unsatisfied)]


def _value(found: dict[str, Point], outcome: Outcome) -> str | None:
    """A value and half its interval, a share in percent."""
    point = found.get(outcome.name)
    if point is None or math.isnan(point.value):
        return None
    scale, unit = (100, " %") if outcome.test is not None else (1, "")
    half = "" if math.isnan(point.low) else f" ±{scale * (point.high - point.low) / 2:.2g}"
    return f"{scale * point.value:.4g}{half}{unit}"
