"""How `alit analyze familiarity` is answered: files, the sets in numbers, and how they differ from the first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from alit_cli.analysis.answers.cells import with_intervals
from alit_cli.analysis.answers.questions import FamiliarityQuestion
from alit_cli.analysis.figures.familiarity import draw_familiarity
from alit_cli.analysis.figures.style import made_by
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.studies.familiarity import (
    Difference,
    Familiarity,
    check_between,
    compare_sets,
    read_set,
    save_tables,
)
from alit_cli.errors import InputError
from alit_cli.results import Result, TextTable
from alit_cli.table_layout import format_numbers


def answer_familiarity(question: FamiliarityQuestion) -> Result:
    """Compare the sets with the first; write the tables and the figure.

    Raises InputError for fewer than two sets, for tables of different models, and what `open_output` raises.
    """
    tables = open_sets(question.tables, question.scores)
    names = _names(question)
    # The budgets are checked before the sets are read, because reading is the slow part.
    between = check_between(tables[0].budgets, question.between)
    sets = [
        read_set(table, name, question.few_samples, question.seed, between)
        for table, name in zip(tables, names, strict=True)
    ]
    budgets = tables[0].budgets
    result = compare_sets(sets, budgets, question.thr, question.bootstrap, question.seed, between)
    figure = question.out / f"familiarity.{question.form}"
    files = [*save_tables(result, question.out), figure]
    draw_familiarity(result, f"model: {made_by(tables[0].info)} · bars: 95 % intervals", figure)
    data = {"sets": result.rows, "differences": result.differences, "between": between, "files": files}
    remarks = _remarks(tables, result, given=question.thr is not None)
    return Result((*familiarity_tables(result), "\n".join(map(str, files))), tuple(remarks), data)


def open_sets(paths: Sequence[Path], scores: Sequence[Path]) -> list[Tables]:
    """The tables, all of one model; each with its own scores, or none."""
    if scores and len(scores) != len(paths):
        raise InputError(f"There are {len(paths)} tables and {len(scores)} --scores; give one for each, in order.")
    if len(paths) < 2:
        raise InputError(
            "There is only one table, and nothing to compare it with; give the tables of two sets or more."
        )
    # Where several tables share a folder, its scores could be of any of them.
    one_folder_each = len({path.parent for path in paths}) == len(paths)
    tables = []
    for number, path in enumerate(paths):
        beside = path.parent / "scores"
        # What the user names comes first; then scores that lie beside the table and can only belong to it.
        folder = scores[number] if scores else beside if one_folder_each and beside.is_dir() else None
        tables.append(Tables(path, folder, with_scores=folder is not None))
    for other in tables[1:]:
        if (other.info.model_id, other.budgets) != (tables[0].info.model_id, tables[0].budgets):
            raise InputError(
                f"'{tables[0].name}' and '{other.name}' come from different models or budgets; tokenize both with one."
            )
    return tables


def _names(question: FamiliarityQuestion) -> list[str]:
    """What the sets are called: as given, else by their files, or by the folders of files that are all `tokens`."""
    given, paths = list(question.names), question.tables
    if given:
        # Two sets of one name would be one line of the figure.
        if len(given) != len(paths) or len(set(given)) < len(given):
            raise InputError(
                f"--names {','.join(given)} does not fit: give {len(paths)} different names, one for each table."
            )
        return given
    for names in ([path.stem for path in paths], [path.resolve().parent.name for path in paths]):
        # `tokens` says nothing of a set, and is the unit of half of the numbers.
        if len(set(names)) == len(names) and "tokens" not in names:
            return names
    return [str(path) for path in paths]


def _remarks(tables: Sequence[Tables], result: Familiarity, given: bool) -> Iterator[str]:
    """What the numbers need to be understood."""
    for table in tables:
        yield from table.remarks
        if table.photographs() is not None:
            yield f"'{table.name}' has several views of each photograph: every photograph counts once, by their mean."
    if not given:
        numbers = ", ".join(f"{number:g}" for number in result.thresholds)
        yield f"Thresholds of L1 taken from the data (quartiles at the middle budget): {numbers}."
    if any(row.matched for row in result.differences):
        yield (
            "Matched: both sets have equally many images in each of 20 bins of JPEG bytes; from the set with more in a "
            "bin, images are drawn at random."
        )
    else:
        yield "A table has no jpeg_bytes (--no-measures), so nothing is matched."
    with_features = [image_set for image_set in result.sets if image_set.frechet]
    for image_set in with_features:
        yield (
            f"{image_set.name}: Fréchet distance from the originals' features, {image_set.dimension} dimensions, "
            f"{len(image_set.l1)} images; unbiased covariances, squared distance."
        )
    # The bias of a Fréchet distance depends on the number of images and is not the same in sets of different size.
    if len({len(image_set.l1) for image_set in with_features}) > 1:
        yield (
            "The sets have different numbers of images, and a Fréchet distance is larger the fewer there are: compare "
            "its gaps only between sets of one size (tokenize them with the same --limit)."
        )
    if not with_features:
        yield (
            "No Fréchet distance (FD): it takes `alit score TABLE --task features --model … --out FOLDER` of each "
            "table, and these folders as --scores."
        )


def familiarity_tables(result: Familiarity) -> Iterator[TextTable]:
    """The sets in numbers, then how each differs from the first in the numbers that say most; the files have all."""
    few, many = result.between
    # A row per set and threshold would be too long to print; the middle one stands for all.
    middle = result.thresholds[len(result.thresholds) // 2]
    rows = [row for row in result.rows if row.threshold == middle]
    gaps = with_intervals([row.gap for row in rows], [row.gap_low for row in rows], [row.gap_high for row in rows])
    needs = with_intervals(
        [row.mean_tokens for row in rows], [row.tokens_low for row in rows], [row.tokens_high for row in rows]
    )
    heading = ("set", "images", "JPEG bytes", f"L1 at {few}", f"at {many}", "gap", "gap/L1")
    yield TextTable(
        "Sets ± half their 95 % interval",
        (*heading, f"FD at {few}", f"FD at {many}", f"need {middle:g}", "never"),
        tuple(
            (
                row.set,
                row.n,
                row.jpeg_bytes,
                row.l1_smallest,
                row.l1_largest,
                gap,
                f"{100 * row.relative_gap:.1f} %",
                row.frechet_smallest,
                row.frechet_largest,
                need,
                f"{100 * row.never:.1f} %",
            )
            for row, gap, need in zip(rows, gaps, needs, strict=True)
        ),
    )
    # Needs and gaps are the question; JPEG bytes say whether the matching has worked.
    shown = (f"l1_{few}", "l1 gap", f"tokens(l1<{middle:g})", "jpeg_bytes")
    yield TextTable(
        f"Against {result.sets[0].name}: Cliff's δ (above 0: more than there) and Mann–Whitney",
        ("set", "number", "JPEG bytes", "images", "mean", "there", "δ", "p"),
        tuple(
            (
                row.set,
                row.measure,
                "matched" if row.matched else "as they are",
                row.n,
                _mean(row.mean),
                _mean(row.mean_first),
                _delta(row),
                _p(row.p),
            )
            for row in result.differences
            if row.measure in shown
        ),
    )


def _mean(value: float) -> str:
    # Each row is another measure, so that a column has no precision of its own.
    return format_numbers([value])[0]


def _delta(row: Difference) -> str | None:
    if math.isnan(row.delta):
        return None
    # With --bootstrap 0 there is no interval.
    return f"{row.delta:+.2f}" + ("" if math.isnan(row.low) else f" [{row.low:+.2f}, {row.high:+.2f}]")


def _p(value: float) -> str | None:
    # Smaller p-values mean nothing more, because the approximation behind them is not that good.
    return None if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
