"""How several token tables of `alit analyze quality` are answered: a table, a figure, and images below each L1."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from alit_cli.analysis.answers.cells import fixed, percent
from alit_cli.analysis.answers.questions import ComparisonQuestion
from alit_cli.analysis.figures.comparison import draw_comparison
from alit_cli.analysis.figures.style import made_by
from alit_cli.analysis.query.matched import ALL
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.selection.decide import check_thresholds
from alit_cli.analysis.studies.comparison import (
    Comparison,
    Point,
    compare,
    images_below,
    save_comparison,
    thresholds_for,
)
from alit_cli.errors import InputError
from alit_cli.results import Result, TextTable
from alit_cli.table_layout import Cell

NEEDS_SHOWN = 5
"""Thresholds of need that are printed; the csv has all."""


def answer_comparison(question: ComparisonQuestion) -> Result:
    """Read all tables, write the comparison and its figure.

    Raises InputError for tables that cannot be compared, and what `open_output` raises.
    """
    check_thresholds(question.thr or ())
    tables = tables_of(question.tokens, question.scores, question.tables)
    result = compare(tables, question.names)
    figure = question.out / f"comparison.{question.form}"
    files = [*save_comparison(result, question.out), figure]
    models = " · ".join(made_by(table.info) for table in tables)
    draw_comparison(result, f"{result.images} images · {models}", figure)
    data = {"points": result.points, "images": result.images, "features": result.features or None, "files": files}
    blocks = (*comparison_blocks(result, question.thr or thresholds_for(result)), "\n".join(map(str, files)))
    # The same remark may be true of several tables, and is printed once.
    return Result(blocks, tuple(dict.fromkeys((*result.remarks, *_missing(result)))), data)


def tables_of(tokens: Sequence[Path], scores: Path | None, own: Sequence[Path]) -> list[Tables]:
    """Every token table with its own scores; InputError for tables of the user's own, `own`."""
    # They would be joined to every token table, although their columns belong to one of them.
    if own:
        raise InputError("--table belongs to one token table; give it with one table alone.")
    return [Tables(path, _scores_of(path, scores)) for path in tokens]


def _scores_of(table: Path, scores: Path | None) -> Path | None:
    """The folder of a table's own scores, `scores/titok` of titok.parquet; None where scores lie as for one table."""
    # The folders are tried in the same order as those of one table: the working folder, then the one beside the table.
    for folder in (scores,) if scores else (Path("scores"), table.parent / "scores"):
        if (folder / table.stem).is_dir():
            return folder / table.stem
    return scores


def comparison_blocks(result: Comparison, thresholds: tuple[float, ...]) -> Iterator[TextTable | str]:
    """Every tokenizer at every budget, the needs, and images below thresholds."""
    points = [point for name in result.names for point in result.of(name)]
    yield _table(f"{result.images} images, means", points, [("tokenizer", [point.tokenizer for point in points])])
    for name in (*result.names, ALL):
        needs = result.of(name, "need")
        # The step spreads the printed thresholds over all; the second slice cuts off what the rounded step leaves over.
        needs = needs[:: max(1, len(needs) // NEEDS_SHOWN)][:NEEDS_SHOWN]
        if needs:
            leading: list[tuple[str, list[Cell]]] = [
                ("L1 below", [f"{point.threshold:.4g}" for point in needs]),
                ("images", [percent(point.satisfied) for point in needs]),
            ]
            title = "All tokenizers, each image by its own need" if name == ALL else f"{name}, each image by its need"
            yield _table(title, needs, leading)
    yield TextTable(
        "Images with an L1 below",
        ("tokenizer", "tokens", *(f"{threshold:g}" for threshold in thresholds)),
        tuple(
            (name, budget, *(images_below(result, name, step, threshold) for threshold in thresholds))
            for name in result.names
            for step, budget in enumerate(result.budgets[name])
        ),
    )


def _table(title: str, points: list[Point], leading: list[tuple[str, list[Cell]]]) -> TextTable:
    """One row per point; columns that the tables know nothing of are left out."""
    columns: dict[str, list[Cell]] = {
        **dict(leading),
        "tokens": [point.tokens if point.budget is None else point.budget for point in points],
        "bits": [point.bits for point in points],
        "bits/pixel": [fixed(point.bits_per_pixel, 4) for point in points],
        "L1": [fixed(point.l1, 4) for point in points],
        "PSNR": [fixed(point.psnr, 2) for point in points],
        "SSIM": [fixed(point.ssim, 3) for point in points],
        "LPIPS": [fixed(point.lpips, 3) for point in points],
        "accuracy": [percent(point.accuracy) for point in points],
        "Fréchet": [fixed(point.frechet, 2) for point in points],
    }
    return TextTable.of_known_columns(title, columns)


def _missing(result: Comparison) -> Iterator[str]:
    """Which scores would add columns."""
    # PSNR comes with every run of the task recon, so it tells whether there was one.
    if all(math.isnan(point.psnr) for point in result.points):
        yield (
            "No scores of recon were found. `alit score titok.parquet --task recon --out scores/titok` makes those of "
            "titok.parquet."
        )
