"""The rows of a capacity study: points, where a line comes near the best, and differences between lines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from alit_cli.analysis.selection.sweep import Outcome

NEAR = 0.01
"""How far from the best, relative to it, an outcome counts as nearly as good: the paper's 1 %."""


@dataclass(frozen=True)
class Point:
    """One outcome of one policy, in one group of images.

    Attributes:
        line: the criterion's name, `uniform` (one budget for all), or pictures without tokens: `originals` (the images
            themselves), `pictures of NAME` (another codec's).
        criterion: with its number; the budget of a uniform one.
        n: images of the group with tokens; known: those with a number for the outcome.
        capacity: tokens spent per image as a share of `Capacity.full_tokens`, 0–1; NaN for pictures without tokens.
        unsatisfied: share of images that no budget satisfies.
        value: with the ends of its 95 % bootstrap interval, NaN where it is not known.
    """

    group: str
    line: str
    criterion: str
    threshold: float | None
    n: int
    capacity: float
    mean_tokens: float
    unsatisfied: float
    outcome: str
    known: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class NearBest:
    """The fewest tokens with which an outcome is within 1 % of its best in the group, along one line.

    The best is that of all lines. A line that never comes so near has the criterion `never`, no capacity, and the
    value it comes nearest with.
    """

    group: str
    outcome: str
    line: str
    best: float
    criterion: str
    capacity: float
    value: float


@dataclass(frozen=True)
class PairedDifference:
    """How much an outcome of one point of a line differs from another line's at equal tokens, over all images.

    Attributes:
        capacity: that of the point.
        against: the other line; against_value is its outcome at as many tokens, a mixture of its two nearest points.
        difference: value less against_value, with the ends of its paired 95 % bootstrap interval.
    """

    outcome: str
    line: str
    criterion: str
    threshold: float | None
    capacity: float
    value: float
    against: str
    against_value: float
    difference: float
    low: float
    high: float


def nearly(points: Sequence[Point], outcomes: Sequence[Outcome]) -> Iterator[NearBest]:
    """Where each line comes within 1 % of the best that any policy reaches in the group."""
    lower = {outcome.name: outcome.lower_is_better for outcome in outcomes}
    spent: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        if math.isfinite(point.capacity) and math.isfinite(point.value):
            spent.setdefault((point.group, point.outcome), []).append(point)
    for (group, outcome), some in spent.items():
        best = min(point.value for point in some) if lower[outcome] else max(point.value for point in some)
        for line in dict.fromkeys(point.line for point in some):
            of_line = [point for point in some if point.line == line]
            # A distance from the best is relative to its size, because outcomes have different units.
            near = [point for point in of_line if abs(point.value - best) <= NEAR * abs(best)]
            if near:
                first = min(near, key=lambda point: point.capacity)
                yield NearBest(group, outcome, line, best, first.criterion, first.capacity, first.value)
            else:
                nearest = min(of_line, key=lambda point: abs(point.value - best))
                yield NearBest(group, outcome, line, best, "never", math.nan, nearest.value)
