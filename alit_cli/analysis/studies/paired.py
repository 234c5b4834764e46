"""Two lines of a capacity study compared at equal tokens: which points belong together, and their differences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alit_cli.analysis.selection.sweep import UNIFORM, BudgetPolicies

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """A policy, and the two policies of another line that spend just fewer and just more tokens.

    Attributes:
        policy, fewer, more: their numbers; fewer and more are the same where one spends exactly as many.
        against: the name of the other line.
    """

    policy: int
    fewer: int
    more: int
    against: str


@dataclass(frozen=True)
class EqualTokens:
    """Differences between policies at equal tokens, as columns of means know them.

    At as many tokens as a policy spends, the other line is a mixture: a share of the images, drawn at random, gets the
    budgets of its next cheaper point and the others those of its next dearer one. The mean of that mixture lies on the
    straight line between the two, and so does its number for every image, so that the comparison is paired.

    Attributes:
        pairs: what is compared.
        policies, outcomes: how many there are; columns are laid out as `studies.capacity._Sums.means` has them.
    """

    pairs: tuple[Pair, ...]
    policies: int
    outcomes: int

    def __len__(self) -> int:
        return len(self.pairs)

    def differences(self, means: Floats) -> Floats:
        """r columns of means → r (pairs · outcomes): each policy's outcome less the other line's at equal tokens."""
        r = len(means)
        # An empty array has no second axis to reshape to, so the case without pairs is answered at once.
        if not self.pairs:
            return np.zeros((r, 0))
        values = means[:, : self.policies * self.outcomes].reshape(r, self.policies, self.outcomes)
        # The tokens stand in the last columns, one for each policy, as `_Sums` lays them out.
        tokens = means[:, means.shape[1] - self.policies :]
        policy, fewer, more = np.array([(pair.policy, pair.fewer, pair.more) for pair in self.pairs]).T
        gap = tokens[:, more] - tokens[:, fewer]
        # In a resample both points may cost the same; the division is thrown away there.
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(gap > 0, (tokens[:, policy] - tokens[:, fewer]) / gap, 0.0)[..., None]
        mixture = (1 - share) * values[:, fewer] + share * values[:, more]
        return (values[:, policy] - mixture).reshape(r, -1)


def equal_token_pairs(policies: BudgetPolicies, tokens: Floats, outcomes: int) -> EqualTokens:
    """Every point of every swept line against every other line, wherever that line spends as many tokens.

    Args:
        tokens: per image that each policy spends on all images.
        outcomes: how many there are that are means.
    """
    labels = policies.labels()
    lines: dict[str, list[int]] = {}
    for number, (line, _, _) in enumerate(labels):
        lines.setdefault(line, []).append(number)
    # Without any image, the tokens are NaN and give the points of a line no order.
    pairs = tuple(_pairs(lines, tokens)) if outcomes and np.isfinite(tokens).all() else ()
    return EqualTokens(pairs, len(labels), outcomes)


def _pairs(lines: dict[str, list[int]], tokens: Floats) -> Iterator[Pair]:
    for line, members in lines.items():
        # One budget for all is what lines are compared with; from its own side it would be the same comparison again.
        if line == UNIFORM:
            continue
        for against, others in lines.items():
            if against == line:
                continue
            ranked = sorted(others, key=lambda number: tokens[number])
            spent = tokens[ranked]
            # A point outside the range of the other line has no partner: a mixture cannot be extrapolated.
            for policy in members:
                place = int(np.searchsorted(spent, tokens[policy]))
                if place < len(ranked) and spent[place] == tokens[policy]:
                    yield Pair(policy, ranked[place], ranked[place], against)
                elif 0 < place < len(ranked):
                    yield Pair(policy, ranked[place - 1], ranked[place], against)
