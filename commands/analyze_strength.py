"""`alit analyze strength`: do stronger models of a task lose more on reconstructions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alit_cli.console import print_json, say, show_table
from alit_cli.grouped_help import COMPUTE, Command, example, option
from alit_cli.options import bootstrap_option, report_options, scores_option, seed_option, tokens_option

if TYPE_CHECKING:
    from alit_cli.analysis.query.tables import Tables
    from alit_cli.analysis.studies.strength import Strength


@click.command(
    "strength",
    cls=Command,
    epilog=example("alit analyze strength --task classify --model resnet-18 --model vit-base-patch16-224"),
)
@option(COMPUTE, "--task", metavar="TASK", default="classify", show_default=True, help="classify, depth or language.")
@option(COMPUTE, "--model", multiple=True, metavar="NAME", help="A model that has been scored; repeat. [default: all]")
@option(COMPUTE, "--top", metavar="X", type=click.IntRange(1), default=1, show_default=True, help="Of classify: top-X.")
@tokens_option
@scores_option
@bootstrap_option
@seed_option("the resampling")
@report_options("study", ("strength.csv", "strength.parquet"))
def command(
    task: str,
    model: tuple[str, ...],
    top: int,
    tokens: Path,
    scores: Path | None,
    bootstrap: int,
    seed: int,
    form: str,
    out: Path,
    as_json: bool,
) -> None:
    """Hold what each model of a task loses at every budget against its own strength on the original images.

    Models are those that alit score has written tables for, by the last part of their names.
    """
    from alit_cli.analysis.figures.strength import draw_strength
    from alit_cli.analysis.query.tables import Tables
    from alit_cli.analysis.studies.strength import measure_strength, save_tables, task_outcomes

    tables = Tables(tokens, scores)
    result = measure_strength(tables, task_outcomes(tables, task, model, top), bootstrap, seed)
    files = [*save_tables(result, out), out / f"strength.{form}"]
    draw_strength(result, _source(tables, result), files[-1])
    for remark in tables.remarks:
        say(remark)
    if as_json:
        print_json({"table": tokens, "rows": result.rows, "spearman": result.spearman, "files": files})
    else:
        _show(result)
        click.echo("\n".join(map(str, files)))


def _source(tables: Tables, result: Strength) -> str:
    """Where the numbers of the figure come from."""
    from alit_cli.analysis.figures.style import made_by

    images = max(row.n for row in result.rows)
    return f"{images} images · model: {made_by(tables.info)} · bars: 95 % bootstrap intervals"


def _show(result: Strength) -> None:
    """A row per model, the weakest first; the last row is the rank correlation over the models."""
    share = result.outcome.test is not None
    scale, unit = (100, " %") if share else (1, "")
    models = {row.model: [other for other in result.rows if other.model == row.model] for row in result.rows}
    ranked = sorted(models.items(), key=lambda item: item[1][0].strength)
    budgets = list(result.spearman)
    rows: list[list[str | int | float | None]] = []
    for model, own in ranked:
        drops = [(scale * row.drop, scale * (row.drop_high - row.drop_low) / 2) for row in own]
        shown = [f"{drop:.3g}" if math.isnan(half) else f"{drop:.3g} ±{half:.2g}" for drop, half in drops]
        rows.append([model, own[0].n, f"{scale * own[0].strength:.3g}{unit}", *shown])
    if not all(math.isnan(value) for value in result.spearman.values()):
        found = [None if math.isnan(value) else f"{value:+.2f}" for value in result.spearman.values()]
        rows.append(["Spearman of strength and drop", None, None, *found])
    show_table(
        f"{result.outcome.label} of each model on the originals, and what it loses by budget"
        f"{' (points)' if share else ''} ± half its 95 % interval",
        ["model", "images", "originals", *(f"{budget} tokens" for budget in budgets)],
        rows,
    )
