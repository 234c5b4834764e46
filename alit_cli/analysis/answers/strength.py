"""How `alit analyze strength` is answered: files and one table of networks."""

from __future__ import annotations

from alit_cli.analysis.answers.cells import with_intervals
from alit_cli.analysis.answers.questions import StrengthQuestion
from alit_cli.analysis.figures.strength import draw_strength
from alit_cli.analysis.figures.style import made_by
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.studies.strength import Strength, measure_strength, save_tables, task_outcomes
from alit_cli.results import Result, TextTable
from alit_cli.table_layout import Cell, format_numbers


def answer_strength(question: StrengthQuestion) -> Result:
    """Compare what each network loses with its own strength; write the tables and the figure.

    Raises InputError where the networks have no scores of the originals, and what `open_output` raises.
    """
    tables = Tables(question.tokens, question.scores)
    outcomes = task_outcomes(tables, question.task, question.model, question.top)
    result = measure_strength(tables, outcomes, question.bootstrap, question.seed)
    figure = question.out / f"strength.{question.form}"
    files = [*save_tables(result, question.out), figure]
    draw_strength(result, _source(tables, result), figure)
    data = {"table": question.tokens, "rows": result.rows, "spearman": result.spearman, "files": files}
    return Result((strength_table(result), "\n".join(map(str, files))), tuple(tables.remarks), data)


def _source(tables: Tables, result: Strength) -> str:
    """Where the numbers of the figure come from."""
    images = max(row.n for row in result.rows)
    return f"{images} images · model: {made_by(tables.info)} · bars: 95 % bootstrap intervals"


def strength_table(result: Strength) -> TextTable:
    """One row per network, the weakest first; the last row is the rank correlation over the networks."""
    share = result.outcome.test is not None
    # The rows of a network are those of its budgets, and they keep that order.
    by_model = {row.model: [other for other in result.rows if other.model == row.model] for row in result.rows}
    # The strength is that on the originals, so it is the same at every budget of a network.
    ranked = sorted(by_model.items(), key=lambda item: item[1][0].strength)
    # Shares are printed in percent, so what they lose is in percentage points.
    scale = 100 if share else 1
    strengths = format_numbers([scale * rows[0].strength for _, rows in ranked])
    rows: list[tuple[Cell, ...]] = []
    for (model, drops), strength in zip(ranked, strengths, strict=True):
        cells = with_intervals(
            [scale * row.drop for row in drops],
            [scale * row.drop_low for row in drops],
            [scale * row.drop_high for row in drops],
        )
        rows.append((model, drops[0].n, f"{strength} %" if share else strength, *cells))
    correlations = list(result.spearman.values())
    if any(value == value for value in correlations):  # at least one is no NaN
        cells = [None if value != value else f"{value:+.2f}" for value in correlations]
        rows.append(("Spearman of strength and drop", None, None, *cells))
    return TextTable(
        f"{result.outcome.label} of each model on the originals, and what it loses by budget"
        f"{' (points)' if share else ''} ± half its 95 % interval",
        ("model", "images", "originals", *(f"{budget} tokens" for budget in result.spearman)),
        tuple(rows),
    )
