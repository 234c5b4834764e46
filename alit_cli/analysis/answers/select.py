"""How `alit select` is answered: the selection, its histogram, and what needs to be said about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from alit_cli.analysis.answers.cells import percent
from alit_cli.analysis.answers.questions import SelectQuestion
from alit_cli.analysis.query.criteria import criterion
from alit_cli.analysis.query.groups import group_images
from alit_cli.analysis.query.measures import MEASURES, bare
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.selection.allocate import parse_objective
from alit_cli.analysis.selection.decide import BudgetChoice, Summary, allocate, decide
from alit_cli.analysis.selection.write import Narrowing, narrow, summaries_by_group, write_selection
from alit_cli.errors import InputError
from alit_cli.results import Result, TextTable
from alit_cli.table_layout import Bar, Cell

MOST_GROUPS = 40
"""Groups that are printed; --json has all of them."""


def answer_select(question: SelectQuestion) -> Result:
    """Choose the budgets, and write the selection where there is one criterion.

    Raises InputError for a criterion that the tables cannot answer, and what `write_selection` raises.
    """
    tables = Tables(question.tokens, question.scores, question.tables)
    choices = _choices(tables, question)
    groups = group_images(tables, question.by) if question.by else None
    narrowing = Narrowing(question.where, question.hardest, question.easiest)
    kept = [narrow(tables, choice, narrowing, groups) for choice in choices]
    summaries = [summaries_by_group(tables, choice, rows, groups) for choice, rows in zip(choices, kept, strict=True)]
    written = len(choices) == 1
    if written:
        write_selection(tables, choices[0], question.out, _recorded(question), kept[0], groups, not question.no_tokens)
    # What the tables have to say comes before what the selection says about them.
    remarks = [*tables.remarks, *_remarks(choices, kept, summaries)]
    rows = sum(map(len, summaries))
    # The first row of every criterion is that of all images, hence one more than the groups.
    shown = sum(len(some[: MOST_GROUPS + 1]) for some in summaries)
    if shown < rows:
        remarks.append(f"{rows - shown} more groups are in --json.")
    remarks.append(
        f"Wrote {question.out}."
        if written
        else "Nothing was written: there are several thresholds, and a selection has one."
    )
    plain = [describe_summary(summary) for some in summaries for summary in some]
    out = question.out if written else None
    data = {"table": question.tokens, "criterion": question.tsc, "out": out, "selections": plain}
    return Result(tuple(summary_tables(summaries)), tuple(remarks), data)


def _choices(tables: Tables, question: SelectQuestion) -> list[BudgetChoice]:
    """The choices of budgets that are asked for."""
    if question.capacity is not None:
        if question.thr or question.top:
            raise InputError("--capacity takes the place of a threshold; leave --thr and --top out.")
        return [allocate(tables, parse_objective(question.tsc), question.capacity)]
    criteria = [criterion(question.tsc, *number) for number in question.numbers]
    # The values take memory, so several criteria keep them only where images are ranked by them.
    values_are_used = len(criteria) == 1 or bool(question.hardest or question.easiest)
    return decide(tables, criteria, values=values_are_used)


def _recorded(question: SelectQuestion) -> dict[str, object]:
    """What the selection says about how it was made; only what was asked for."""
    # Only a selection of one criterion is written, so the first number is the only one.
    first = {"threshold": (question.thr or (None,))[0], "top": (question.top or (None,))[0]}
    names = ("capacity", "where", "hardest", "easiest", "by")
    asked = {**first, **{name: getattr(question, name) for name in names}}
    return {"criterion": question.tsc, **{name: value for name, value in asked.items() if value}}


def summary_tables(summaries: Sequence[Sequence[Summary]]) -> Iterator[TextTable]:
    """One row per criterion or group; of a single one also how many images each budget has, as bars."""
    first = summaries[0][0]
    everything = [row for some in summaries for row in some]
    # A sweep of L1 alone needs no words in its first column, but only numbers.
    plain_l1 = all(row.threshold is not None and row.criterion.startswith("l1<") for row in everything)
    # Without groups every criterion has exactly one row.
    by_group = len(everything) > len(summaries)
    heading = ["L1 below" if plain_l1 else "criterion", *(["group"] if by_group else [])]
    rows: list[tuple[Cell, ...]] = [
        (
            row.threshold if plain_l1 else row.criterion,
            *([row.group or "all images"] if by_group else []),
            *row.images,
            row.mean_tokens,
            percent(row.capacity),
            percent(row.unsatisfied_share),
        )
        for some in summaries
        for row in some[: MOST_GROUPS + 1]
    ]
    largest = first.budgets[-1]
    yield TextTable(
        f"Images per token budget, {first.total} in all (capacity: tokens spent, of {largest} for every image)",
        (*heading, *map(str, first.budgets), "mean tokens", "capacity", "never below" if plain_l1 else "never"),
        tuple(rows),
    )
    if len(everything) == 1 and first.total:
        # The longest bar is that of the fullest budget, so that the shape is seen whatever the shares are.
        most = max(first.images)
        yield TextTable(
            "",
            ("tokens", "images", "share", ""),
            tuple(
                (budget, images, percent(images / first.total), Bar(images / most))
                for budget, images in zip(first.budgets, first.images, strict=True)
            ),
        )


def _remarks(
    choices: Sequence[BudgetChoice],
    kept: Sequence[NDArray[np.bool_] | None],
    summaries: Sequence[Sequence[Summary]],
) -> Iterator[str]:
    """What the table does not say: rows that failed or are not monotone, and criteria that tell no images apart."""
    first = summaries[0][0]
    # The failures are a matter of the table, so every criterion has the same number of them.
    if first.failed:
        yield f"{first.failed} of the table's rows have no tokens (their images failed) and are left out."
    for choice, rows, (summary, *_) in zip(choices, kept, summaries, strict=True):
        if summary.non_monotone:
            share = f"{100 * summary.non_monotone_share:.2g} % of the images"
            yield f"{summary.criterion}: {share} meet it at their budget, but not at some larger one."
        yield from _empty_answers(choice, rows, summary)


def _empty_answers(choice: BudgetChoice, kept: NDArray[np.bool_] | None, summary: Summary) -> Iterator[str]:
    """A sentence where every image or none meets a criterion, or none is kept: it rarely is what was meant."""
    name, operator = choice.first.name, choice.first.operator
    # Columns of the user's own are not in this list, and nobody knows which way is better.
    known = MEASURES.get(bare(name))
    # No image at all is another problem than a criterion that no image meets.
    if not summary.total:
        if kept is not None and choice.ok.any():
            yield f"No image is left by --where: of {int(choice.ok.sum())} images none has what it asks for."
        return
    if choice.first.value is None:
        return  # a capacity is spent, nothing has to be met
    left = "" if kept is None else " that is kept"  # those that are left out may be otherwise
    has_better_side = operator in ("<", "<=", ">", ">=")
    if known is not None and has_better_side and (operator[0] == "<") != known.lower_is_better:
        # `<=` keeps its equals sign, because only the arrow is turned.
        turned = operator.translate(str.maketrans("<>", "><"))
        better = "less" if known.lower_is_better else "more"
        yield f"{choice.first} asks for the worse side: {better} of {name} is better. Did you mean {name}{turned}?"
    if summary.unsatisfied == summary.total:
        value = choice.values.get(name)
        nearest = ""
        # Words, and a number that is to be met exactly, have no nearest value.
        if value is not None and has_better_side:
            values = value[choice.ok if kept is None else choice.ok & kept].astype(np.float64)
            # This compares with the rule as it was asked, also if its arrow points to the worse side.
            which, best = ("smallest", np.nanmin) if operator.startswith("<") else ("largest", np.nanmax)
            if np.isfinite(values).any():
                nearest = f"; the {which} {name} at the largest budget is {best(values):.4g}"
        yield f"No image{left} meets {summary.criterion} at any budget{nearest}. All of them get the largest one."
    # A table of one budget gives it to those that do not meet the criterion too.
    elif summary.images[0] == summary.total and not summary.unsatisfied:
        yield f"Every image{left} meets {summary.criterion} at the smallest budget already."


def describe_summary(summary: Summary) -> dict[str, object]:
    """A summary for `--json`."""
    return {
        "criterion": summary.criterion,
        "group": summary.group or None,
        "threshold": summary.threshold,
        "images": dict(zip(summary.budgets, summary.images, strict=True)),
        "total": summary.total,
        "mean_tokens": summary.mean_tokens,
        "capacity": summary.capacity,
        "unsatisfied": summary.unsatisfied,
        "unsatisfied_share": summary.unsatisfied_share,
        "non_monotone_share": summary.non_monotone_share,
        "failed": summary.failed,
    }
