"""A total number of tokens spent where it lowers a loss most: greedy on each image's lower convex hull."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alit_cli.analysis.query.criteria import Comparison, measure, parse
from alit_cli.analysis.query.measures import measure_info
from alit_cli.errors import InputError

Floats = NDArray[np.floating[Any]]


def parse_objective(text: str) -> Comparison:
    """The measure of `--tsc TEXT`, and which way is better: as written (`quality>`), else as we know it.

    Raises InputError for a criterion with a number, or with more than one measure.
    """
    # The reader wants a sign, so a bare measure is given its own.
    written = text if re.search("[<>=]", text) else f"{text}{measure_info(measure(text.strip())).operator}"
    objective = parse(written, open_ended=True)
    if not isinstance(objective, Comparison) or objective.value is not None:
        raise InputError(f"'{text}' is a criterion; here a measure alone is wanted, such as recon, or 'quality>'.")
    return objective


def allocate_budgets(losses: Floats, budgets: Sequence[int], share: float) -> NDArray[np.uint8]:
    """Which budget each image gets so that the sum of the losses is as small as the total allows.

    Every image starts at the smallest budget; then the step that lowers the loss most per token is taken, again
    and again, until the next one does not fit. Steps lead from corner to corner of an image's lower convex hull,
    so no other choice that spends as much has a smaller sum; what is left over is less than one step.

    Args:
        losses: n T; NaN is never worth a token.
        budgets: T, ascending.
        share: of the largest budget for every image, above 0 and at most 1.

    Returns: the number of the budget of each image, n.

    Raises InputError where even the smallest budget for every image costs more.
    """
    least = budgets[0] / budgets[-1]
    if not 0 < share <= 1 or share < least:
        raise InputError(
            f"A capacity cannot be {share:g}: the smallest budget is {least:g} of the largest; give {least:g} to 1."
        )
    # The smallest budget of every image is paid already; only the rest can be spent.
    left = (share * budgets[-1] - budgets[0]) * len(losses)
    rows, reached, widths, rates = _steps(losses, np.asarray(budgets, np.float64))
    order = np.argsort(-rates, kind="stable")  # of one image the earlier step comes first, also where two are equal
    # The share of a budget is rarely exact in binary; the margin lets the last step that fits exactly be taken.
    taken = order[np.cumsum(widths[order]) <= left * (1 + 1e-9)]
    index = np.zeros(len(losses), np.uint8)
    # An image may take several steps, and the furthest counts. Plain indexing would keep only the last one written.
    np.maximum.at(index, rows[taken], reached[taken])
    return index


def _steps(losses: Floats, budgets: NDArray[np.float64]) -> tuple[NDArray[Any], ...]:
    """The steps along every image's hull, image by image: row, budget reached, tokens, loss saved per token."""
    n, t = losses.shape
    # A budget without a loss is never a target. As a start it counts as the worst, so that any known one is better.
    worst = np.nanmax(np.where(np.isnan(losses), -np.inf, losses), axis=1, initial=-np.inf)
    corner = np.zeros((n, t), np.bool_)
    corner[:, 0] = True
    # One table per row and budget is large at millions of images, so the smallest types that suffice are used.
    rates, reached = np.zeros((n, t), np.float32), np.zeros((n, t), np.uint8)
    for start in range(t - 1):
        here = np.where(np.isnan(losses[:, start]), worst, losses[:, start])
        best = np.zeros(n, np.float64)
        for end in range(start + 1, t):
            # Infinite losses give NaN here, which is no better than anything and so is no step.
            with np.errstate(invalid="ignore"):
                # From a corner, the steepest way to any later budget leads to the next corner of the lower convex hull.
                rate = (here - losses[:, end]) / (budgets[end] - budgets[start])
            better = corner[:, start] & (rate > best)  # of equal ones the nearest: small steps leave less over
            best[better] = rate[better]
            reached[better, start] = end
        # Zero stands for no step: no step can lead to the smallest budget.
        rows_with_step = np.flatnonzero(reached[:, start])
        corner[rows_with_step, reached[rows_with_step, start]] = True
        rates[:, start] = best
    # Budgets that are no corners get infinity, so that they cannot lower the running minimum.
    falling = np.where(corner, rates, np.inf)
    np.minimum.accumulate(falling, axis=1, out=falling)  # so that rounding never turns two steps of an image round
    rows, starts = np.nonzero(reached)
    ends = reached[rows, starts]
    return rows, ends, budgets[ends] - budgets[starts], falling[rows, starts]
