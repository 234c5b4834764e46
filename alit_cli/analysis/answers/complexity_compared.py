"""How several token tables of `alit analyze complexity` are answered: one table and one figure of all tokenizers."""

from __future__ import annotations

import math
from collections.abc import Iterator

from alit_cli.analysis.answers.cells import fixed, percent
from alit_cli.analysis.answers.complexity import correlation_cell, join_remarks
from alit_cli.analysis.answers.questions import ComplexityQuestion
from alit_cli.analysis.figures.complexity_compared import draw_compared_complexity
from alit_cli.analysis.figures.style import made_by
from alit_cli.analysis.query.matched import ALL, match_tables
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.studies.complexity import OVERALL
from alit_cli.analysis.studies.complexity_compared import (
    ComparedComplexity,
    TokenizerRow,
    compare_complexity,
    save_compared,
)
from alit_cli.analysis.studies.complexity_scores import read_scores
from alit_cli.results import Result, TextTable
from alit_cli.table_layout import Cell


def answer_compared_complexity(question: ComplexityQuestion) -> Result:
    """Correlate the scores with every tokenizer, write the rows and draw the figure.

    Raises InputError for tables that cannot be compared, and as `answer_complexity`.
    """
    listed = read_scores(question.scores, question.image_col, question.score_col, question.group_col)
    tables = [Tables(path, with_scores=False) for path in question.tokens]
    matched = match_tables(tables, question.names)
    result = compare_complexity(matched, listed, question.thr, question.bootstrap, question.seed)
    figure = question.out / f"complexity_compared.{question.form}"
    files = [*save_compared(result, question.out), figure]
    models = " · ".join(made_by(table.info) for table in tables)
    images = len(result.study.score)
    source = f"{images} images · scores: {question.scores.name} · {models} · bars: 95 %"
    draw_compared_complexity(result, source, figure)
    data = {
        "tables": [table.path for table in tables],
        "matched": images,
        "thresholds": result.thresholds,
        "rows": result.rows,
        "files": files,
    }
    remarks = (*matched.remarks, *join_remarks(listed, result.study), *_reading_remarks(result, question.thr is None))
    return Result((compared_table(result), "\n".join(map(str, files))), remarks, data)


def _reading_remarks(result: ComparedComplexity, chosen: bool) -> Iterator[str]:
    """What the printed table needs to be understood."""
    yield (
        "r and Spearman: of the code length (bits per pixel of a code that stores the tokens and what they leave, the "
        "measure to quote) and, in the rows of needs, of what an image needs for an L1 below, in tokens or, of all "
        "together, in bits."
    )
    if chosen:
        numbers = ", ".join(map(str, result.thresholds))
        yield f"Thresholds of L1 taken from the data (quartiles at the middle budgets of all): {numbers}."
    if result.group[0] == OVERALL:
        yield (
            "Correlations are pooled within categories, scores and measures standardised in each of them; the files "
            "have those of each category."
        )


def compared_table(result: ComparedComplexity) -> TextTable:
    """Every tokenizer at every budget, and the needs; of all images."""
    rows: list[tuple[Cell, ...]] = []
    for name in (*result.names, ALL):
        losses = {row.budget: row for row in result.of(name, "l1")}
        for row in result.of(name, "code length"):
            loss = losses[row.budget]
            of_loss = correlation_cell(loss, "Pearson")
            rows.append((name, "alike", *_costs(row), None, fixed(loss.mean, 4), *_both(row), of_loss))
        for row in result.of(name, "tokens"):
            never = None if row.share_largest is None or math.isnan(row.share_largest) else percent(row.share_largest)
            rows.append((name, f"L1 < {row.threshold:g}", *_costs(row), never, None, *_both(row), None))
    return TextTable(
        f"{len(result.study.score)} images: correlation with the score ± half its 95 % interval, by tokens and bits",
        ("tokenizer", "each", "tokens", "bits", "at largest", "L1", "r", "Spearman", "r of L1"),
        tuple(rows),
    )


def _costs(row: TokenizerRow) -> tuple[Cell, Cell]:
    tokens = None if row.tokens is None else f"{row.tokens:.0f}"
    return tokens, None if row.bits is None else f"{row.bits:.0f}"


def _both(row: TokenizerRow) -> tuple[Cell, Cell]:
    return correlation_cell(row, "Pearson"), correlation_cell(row, "Spearman")
