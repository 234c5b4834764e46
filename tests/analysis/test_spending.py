"""A total is spent as well as any choice can spend it."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alit_cli.analysis.selection.allocate import allocate_budgets
from alit_cli.errors import InputError

NAN = math.nan
LOSS = st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.55, 0.9])


@settings(deadline=None)
@given(
    st.lists(st.lists(LOSS, min_size=3, max_size=3), min_size=1, max_size=5),
    st.sampled_from([(4, 8, 12), (4, 8, 16), (1, 2, 9)]),
    st.floats(0.5, 1),
)
def test_no_choice_that_spends_as_much_loses_less(
    rows: list[list[float]], budgets: tuple[int, ...], share: float
) -> None:
    losses = np.array(rows)
    index = allocate_budgets(losses, budgets, share)
    spent, total = np.asarray(budgets)[index].sum(), share * budgets[-1] * len(rows)
    lost = losses[np.arange(len(rows)), index].sum()
    assert spent <= total * (1 + 1e-9)
    best_for_spent, best = math.inf, math.inf
    for choice in itertools.product(range(3), repeat=len(rows)):
        tokens = np.asarray(budgets)[list(choice)].sum()
        loss = losses[np.arange(len(rows)), list(choice)].sum()
        best_for_spent = min(best_for_spent, loss if tokens <= spent else math.inf)
        best = min(best, loss if tokens <= total else math.inf)
    assert lost == pytest.approx(best_for_spent, abs=1e-9)
    assert lost - best <= np.ptp(losses, axis=1).max() + 1e-9  # what is left over is less than one step


@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=5), st.integers(0, 15))
def test_convex_losses_on_even_budgets_are_spent_exactly_as_brute_force(rows: list[list[int]], extra: int) -> None:
    drops = np.sort(np.array(rows), axis=1)[:, ::-1]  # each step saves at most as much as the one before
    losses = 30.0 - np.concatenate([np.zeros((len(rows), 1)), np.cumsum(drops, axis=1)], axis=1)
    steps = min(extra, 3 * len(rows))
    share = (len(rows) + steps) / (4 * len(rows))
    index = allocate_budgets(losses, (1, 2, 3, 4), share)
    brute = min(
        losses[np.arange(len(rows)), list(choice)].sum()
        for choice in itertools.product(range(4), repeat=len(rows))
        if sum(choice) <= steps
    )
    assert losses[np.arange(len(rows)), index].sum() == pytest.approx(brute)


def test_unknown_losses_are_worth_no_token() -> None:
    losses = np.array([[NAN, NAN, NAN], [0.5, NAN, 0.1], [0.3, NAN, NAN]])
    assert allocate_budgets(losses, (1, 2, 3), 1).tolist() == [0, 2, 0]


def test_too_small_a_share_is_refused() -> None:
    with pytest.raises(InputError, match=r"0\.25 of the largest"):
        allocate_budgets(np.ones((2, 2)), (1, 4), 0.2)
