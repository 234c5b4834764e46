"""How `alit analyze capacity` is answered: files, tables, and who judges what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from alit_cli.analysis.answers.cells import percent, with_intervals
from alit_cli.analysis.answers.questions import CapacityQuestion
from alit_cli.analysis.figures.capacity import draw_capacity
from alit_cli.analysis.figures.style import made_by
from alit_cli.analysis.query.criteria import comparisons, split
from alit_cli.analysis.query.groups import group_images
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.selection.sweep import UNIFORM, Outcome, Sweep, read_allocations, read_outcomes, read_sweeps
from alit_cli.analysis.studies.capacity import ALL, Capacity, measure_capacity, save_tables
from alit_cli.analysis.studies.capacity_points import Point
from alit_cli.results import Result, TextTable
from alit_cli.table_layout import Cell

MOST_GROUPS = 8
"""Groups whose best points are printed; the files have all of them."""
LEARNED_TASKS = ("classify", "depth", "language", "features")
"""Tasks whose scores are a network's: only a network can guess right by luck."""


def answer_capacity(question: CapacityQuestion) -> Result:
    """Sweep the criteria over the first table, write the tables and draw the figures.

    Raises InputError for criteria and outcomes that the tables cannot answer, and what `open_output` raises.
    """
    tables = Tables(question.tokens[0], question.scores, question.tables)
    # Outcomes and criteria are read first, so that a name that the tables do not know is told before any counting.
    outcomes = read_outcomes(tables, split(question.toi))
    sweeps = read_sweeps(tables, split(question.tsc), question.thr, question.points)
    result = measure_capacity(
        tables,
        sweeps,
        outcomes,
        group_images(tables, question.by) if question.by else None,
        question.bootstrap,
        question.seed,
        question.few_samples,
        read_allocations(tables, split(question.optimum)),
        question.share_of,
    )
    figures = draw_capacity(result, _source(tables, result), question.out, question.form)
    files = [*save_tables(result, question.out), *figures]
    data = {
        "table": tables.path,
        "capacity_of_one": result.full_tokens,
        "points": result.points,
        "within_1_percent": result.nearly,
        "at_equal_tokens": result.differences,
        "files": files,
    }
    remarks = (*tables.remarks, *_remarks(tables, result), *judge_remarks(tables, sweeps, outcomes))
    return Result((*capacity_tables(result), "\n".join(map(str, files))), remarks, data)


def _source(tables: Tables, result: Capacity) -> str:
    """Where the numbers of the figure come from."""
    # Groups have points of their own; the largest n is that of all images.
    images, budgets = max(point.n for point in result.points), tables.budgets
    model = f"{made_by(tables.info)}, {budgets[0]}–{budgets[-1]} tokens"
    return f"{images} images · {model} · 95 % bootstrap intervals"


def capacity_tables(result: Capacity) -> Iterator[TextTable]:
    """All outcomes of every policy, differences at equal tokens, and where each line is within 1 % of its best."""
    rows: dict[tuple[str, str], dict[str, Point]] = {}
    for point in result.points:
        if point.group == ALL:
            # A point is about one outcome, and the table has a row per policy, so the points of a policy are gathered.
            rows.setdefault((point.line, point.criterion), {})[point.outcome] = point
    columns = [
        outcome_cells([points.get(outcome.name) for points in rows.values()], outcome) for outcome in result.outcomes
    ]
    # All outcomes of a policy spend the same tokens, so any of its points tells how many.
    spent = [next(iter(points.values())) for points in rows.values()]
    yield TextTable(
        f"Outcomes ± half their 95 % interval, by tokens spent (capacity: share of {result.full_tokens} per image)",
        ("by", "", "capacity", "never", *(outcome.name for outcome in result.outcomes)),
        tuple(
            (line, text, percent(point.capacity), percent(point.unsatisfied), *cells)
            for (line, text), point, *cells in zip(rows, spent, *columns, strict=True)
        ),
    )
    yield from _difference_table(result)
    groups = len({near.group for near in result.nearly})
    shown = [near for near in result.nearly if groups <= MOST_GROUPS or near.group == ALL]
    yield TextTable(
        "Fewest tokens within 1 % of the best",
        ("group", "outcome", "best", "by", "", "capacity", "value"),
        tuple(
            (near.group, near.outcome, near.best, near.line, near.criterion, percent(near.capacity), near.value)
            for near in shown
        ),
    )


def _difference_table(result: Capacity) -> Iterator[TextTable]:
    """Each criterion against one budget for all, as many tokens on either side; the file has all pairs of lines."""
    against = [difference for difference in result.differences if difference.against == UNIFORM]
    if not against:
        return
    # A Fréchet distance has no number per image, so it cannot be paired.
    outcomes = [outcome for outcome in result.outcomes if not outcome.frechet]
    # A dict drops repeats and keeps the order of the lines.
    places = list(dict.fromkeys((difference.line, difference.criterion, difference.capacity) for difference in against))
    columns: list[list[str | None]] = []
    for outcome in outcomes:
        by_line = {
            (difference.line, difference.criterion): difference
            for difference in against
            if difference.outcome == outcome.name
        }
        known = [by_line[line, text] for line, text, _ in places if (line, text) in by_line]
        cells = with_intervals(
            [difference.difference for difference in known],
            [difference.low for difference in known],
            [difference.high for difference in known],
            share=outcome.test is not None,
            sign=True,
        )
        by_place = {
            (difference.line, difference.criterion): cell for difference, cell in zip(known, cells, strict=True)
        }
        columns.append([by_place.get((line, text)) for line, text, _ in places])
    yield TextTable(
        "Difference from one budget for all at equal tokens ± half its 95 % interval (paired)",
        ("by", "", "capacity", *(outcome.name for outcome in outcomes)),
        tuple(
            (line, text, percent(capacity), *cells)
            for (line, text, capacity), *cells in zip(places, *columns, strict=True)
        ),
    )


def outcome_cells(points: Sequence[Point | None], outcome: Outcome) -> list[Cell]:
    """One column: the values of an outcome and half their intervals, shares in percent."""
    known = [point for point in points if point is not None]
    cells = with_intervals(
        [point.value for point in known],
        [point.low for point in known],
        [point.high for point in known],
        share=outcome.test is not None,
    )
    # Unknown points are left out of the precision, and get their empty places back here.
    waiting = iter(cells)
    return [None if point is None else next(waiting) for point in points]


def _remarks(tables: Tables, result: Capacity) -> Iterator[str]:
    """What the numbers need to be understood."""
    largest = tables.budgets[-1]
    if result.full_tokens == largest:
        yield (
            f"100 % of the capacity is {largest} tokens per image, the largest budget of this table; --share-of N "
            "takes another number, such as the tokens of the base tokenizer's grid (the axis of the paper)."
        )
    if result.photographs:
        yield (
            f"The table has several views of each of {result.photographs} photographs: intervals resample photographs, "
            "not views."
        )
    yield from outcome_remarks(tables, result.outcomes, result.points, result.dimension)
    groups = len({near.group for near in result.nearly})
    if groups > MOST_GROUPS:
        yield f"Where the {groups} groups come within 1 % of their best is in capacity_nearly.csv."


def outcome_remarks(
    tables: Tables, outcomes: Sequence[Outcome], points: Sequence[Point], dimension: int
) -> Iterator[str]:
    """Which features a Fréchet distance is of, and whose labels an accuracy is by."""
    for outcome in outcomes:
        if outcome.frechet:
            # A Fréchet distance only counts images with features, which may be fewer than all.
            known = max(point.known for point in points if point.outcome == outcome.name)
            yield (
                f"{outcome.name}: from the originals' features ({outcome.column}, {dimension} dimensions, "
                f"{known} images; unbiased covariances, squared distance), intervals by a jackknife in eight parts."
            )
        # alit score writes this word where no labels were given and the network judges itself.
        elif "predicted" in tables.words(f"label_source@{tables.model(outcome.column)}"):
            yield f"{outcome.name}: labels are the model's own predictions on the originals, so that those are 100 %."


def judge_remarks(tables: Tables, sweeps: Sequence[Sweep], outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Where one network both chooses budgets and judges them: what it guesses right by luck then counts as gained."""
    choosing = {
        tables.model(part.name) for sweep in sweeps for criterion in sweep.criteria for part in comparisons(criterion)
    }
    for outcome in outcomes:
        judge = tables.model(outcome.column)
        # A plain measure of pixels judges without luck, so only scores of networks get this warning.
        if judge and judge in choosing and tables.task(outcome.column) in LEARNED_TASKS:
            yield (
                f"{outcome.name}: {judge} both chooses the budgets and judges them, so that its lucky guesses count as "
                "gained. Score a second network and give one of them to --tsc, the other to --toi, to see what holds."
            )
