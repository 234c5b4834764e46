"""How several token tables of `alit analyze capacity` are answered: one table and one figure of all tokenizers."""

from __future__ import annotations

import dataclasses

from alit_cli.analysis.answers.capacity import judge_remarks, outcome_cells, outcome_remarks
from alit_cli.analysis.answers.cells import percent
from alit_cli.analysis.answers.comparison import tables_of
from alit_cli.analysis.answers.questions import CapacityQuestion
from alit_cli.analysis.figures.capacity_compared import draw_compared_capacity
from alit_cli.analysis.figures.style import made_by
from alit_cli.analysis.query.criteria import split
from alit_cli.analysis.query.matched import match_tables
from alit_cli.analysis.selection.sweep import UNIFORM
from alit_cli.analysis.studies.capacity import ALL as ALL_IMAGES
from alit_cli.analysis.studies.capacity import ORIGINAL
from alit_cli.analysis.studies.capacity_compared import (
    ComparedCapacity,
    TokenizerPoint,
    compare_capacity,
    save_compared,
)
from alit_cli.results import Result, TextTable


def answer_compared_capacity(question: CapacityQuestion) -> Result:
    """Sweep the criteria over every tokenizer, write the points and draw the figure.

    Raises InputError for tables that cannot be compared, and as `answer_capacity`.
    """
    tables = tables_of(question.tokens, question.scores, question.tables)
    # Each of these may be given several times and with commas.
    tsc, toi, optimum = (tuple(split(given)) for given in (question.tsc, question.toi, question.optimum))
    matched = match_tables(tables, question.names)
    result = compare_capacity(matched, dataclasses.replace(question, tsc=tsc, toi=toi, optimum=optimum))
    figure = question.out / f"capacity_compared.{question.form}"
    files = [*save_compared(result, question.out), figure]
    models = " · ".join(made_by(table.info) for table in tables)
    draw_compared_capacity(result, f"{result.images} images · {models} · bars: 95 % bootstrap intervals", figure)
    first = matched.tokenizers[0].tables
    remarks = (
        *result.remarks,
        *outcome_remarks(first, result.outcomes, result.points, result.dimension),
        *judge_remarks(first, result.sweeps, result.outcomes),
    )
    data = {"tables": [table.path for table in tables], "images": result.images, "points": result.points}
    return Result((compared_table(result), "\n".join(map(str, files))), remarks, data | {"files": files})


def compared_table(result: ComparedCapacity) -> TextTable:
    """Every tokenizer by every criterion and at one budget for all, then the mixture; of all images."""
    rows: dict[tuple[str, str, str], dict[str, TokenizerPoint]] = {}
    for point in result.points:
        if point.group == ALL_IMAGES:
            rows.setdefault((point.tokenizer, point.line, point.criterion), {})[point.outcome] = point
    columns = [
        outcome_cells([points.get(outcome.name) for points in rows.values()], outcome) for outcome in result.outcomes
    ]
    # All outcomes of a policy spend the same tokens, so any of its points tells how many.
    spent = [next(iter(points.values())) for points in rows.values()]
    names = {UNIFORM: "one budget for all"}
    return TextTable(
        f"{result.images} images: outcomes ± half their 95 % interval, by tokens and bits spent per image",
        ("tokenizer", "by", "", "tokens", "bits", "never", *(outcome.name for outcome in result.outcomes)),
        tuple(
            (
                tokenizer,
                names.get(line, line),
                text,
                *((None, None) if line == ORIGINAL else (f"{point.mean_tokens:.1f}", f"{point.bits:.0f}")),
                percent(point.unsatisfied),
                *cells,
            )
            for (tokenizer, line, text), point, *cells in zip(rows, spent, *columns, strict=True)
        ),
    )
