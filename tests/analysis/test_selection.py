"""Selections equal a plain oracle, row by row, and say what they left out."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from alit_cli.analysis.selection.decide import quartiles, select
from alit_cli.data.tables.summary import summarize as summarize_tokens
from alit_cli.data.tables.token_table import TableInfo, read_info
from alit_cli.errors import InputError
from tests.analysis.selections import select_table, summarize_table
from tests.analysis.tables import BUDGETS, tokens_of, write_tokens

NAN = math.nan
# few values, so that ties with each other and with the threshold are common
LOSSES = st.lists(
    st.lists(st.sampled_from([0.0, 0.05, 0.08, 0.1, 0.3, NAN]), min_size=3, max_size=3), min_size=1, max_size=12
)


def oracle(losses: NDArray[Any], threshold: float) -> pd.DataFrame:
    """The definition, as one would write it by hand."""
    rows = []
    for row in losses:
        meets = [budget for budget, loss in zip(BUDGETS, row, strict=True) if loss < np.float32(threshold)]
        budget = meets[0] if meets else BUDGETS[-1]
        rows.append((budget, bool(meets), row[BUDGETS.index(budget)]))
    return pd.DataFrame(rows, columns=["n_tokens", "satisfied", "l1"])


@given(LOSSES, st.sampled_from([0.0, 0.05, 0.08, 0.2, 1.0]))
def test_select_equals_the_oracle(rows: list[list[float]], threshold: float) -> None:
    losses = np.array(rows, np.float32)
    found, expected = select(losses, BUDGETS, threshold), oracle(losses, threshold)
    np.testing.assert_array_equal(found.n_tokens, expected.n_tokens)
    np.testing.assert_array_equal(found.satisfied, expected.satisfied)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=LOSSES,
    threshold=st.sampled_from([0.05, 0.08, 0.2]),
    failed=st.sets(st.integers(0, 11)),
    group=st.integers(1, 5),
)
def test_select_table_equals_the_oracle(
    rows: list[list[float]], threshold: float, failed: set[int], group: int, tmp_path: Path
) -> None:
    losses = np.array(rows, np.float32)
    failed = {row for row in failed if row < len(rows)}
    tokens = write_tokens(tmp_path / "tokens.parquet", losses, failed=sorted(failed), group=group)
    summary = select_table(tokens, threshold, tmp_path / "selection.parquet")
    found = pq.read_table(tmp_path / "selection.parquet").to_pydict()
    kept = [row for row in range(len(rows)) if row not in failed]
    expected = oracle(losses[kept], threshold)
    assert found["image"] == [f"{row}.jpg" for row in kept]
    assert found["n_tokens"] == list(expected.n_tokens)
    assert found["satisfied"] == list(expected.satisfied)
    known = [not math.isnan(value) for value in expected.l1]
    assert found["tokens"] == [
        tokens_of(row, budget) if good else None
        for row, budget, good in zip(kept, expected.n_tokens, known, strict=True)
    ]
    assert found["l1"] == [value if good else None for value, good in zip(expected.l1.tolist(), known, strict=True)]
    assert summary.images == tuple(int((expected.n_tokens == budget).sum()) for budget in BUDGETS)
    assert (summary.total, summary.failed) == (len(kept), len(failed))
    assert summary.unsatisfied == int((~expected.satisfied.astype(bool)).sum())
    assert [summary] == summarize_table(tokens, [threshold])


def test_a_loss_that_prints_as_the_threshold_is_not_below_it() -> None:
    losses = np.array([[0.08, 0.07, 0.06]], np.float32)
    assert select(losses, BUDGETS, 0.08).n_tokens.tolist() == [8]


def test_the_first_budget_wins_though_a_later_one_fails() -> None:
    losses = np.array([[0.2, 0.05, 0.3]], np.float32)
    assert select(losses, BUDGETS, 0.1).n_tokens.tolist() == [8]


def test_summary_counts_tokens_against_the_largest_budget(tmp_path: Path) -> None:
    losses = np.array([[0.01, 0.01, 0.01], [0.2, 0.05, 0.01], [0.2, 0.2, 0.2], [NAN] * 3])
    tokens = write_tokens(tmp_path / "tokens.parquet", losses, failed=[3])
    (summary,) = summarize_table(tokens, [0.1])
    assert summary.images == (1, 1, 1)
    assert summary.mean_tokens == pytest.approx(8)
    assert summary.capacity == pytest.approx((4 + 8 + 12) / (3 * 12))
    assert summary.unsatisfied_share == pytest.approx(1 / 3)
    assert summary.failed == 1


def test_a_table_without_one_good_image_is_summed_up_without_a_warning(tmp_path: Path) -> None:
    tokens = write_tokens(tmp_path / "tokens.parquet", np.full((2, 3), NAN), failed=[0, 1])
    summary = select_table(tokens, 0.1, tmp_path / "selection.parquet")
    assert summary.total == 0
    assert math.isnan(summary.mean_tokens)
    assert math.isnan(summary.unsatisfied_share)
    assert pq.read_table(tmp_path / "selection.parquet").num_rows == 0


def test_continuous_latents_are_selected_too(tmp_path: Path) -> None:
    losses = np.array([[0.2, 0.05, 0.01], [0.2, 0.2, 0.2], [0.01, 0.01, 0.01]])
    tokens = write_tokens(tmp_path / "tokens.parquet", losses, codes=0)
    select_table(tokens, 0.1, tmp_path / "selection.parquet")
    table = pq.read_table(tmp_path / "selection.parquet")
    assert table.schema.field("latents").type.value_type == pa.float16()
    found = [np.array(row, np.float16).tolist() for row in table["latents"].to_pylist()]
    assert found == [tokens_of(0, 8, 0), tokens_of(1, 12, 0), tokens_of(2, 4, 0)]


def test_a_selection_says_what_it_was_made_of(tmp_path: Path) -> None:
    tokens = write_tokens(tmp_path / "tokens.parquet", np.full((2, 3), 0.1))
    select_table(tokens, 0.2, tmp_path / "selection.parquet")
    about: TableInfo = read_info(tmp_path / "selection.parquet")
    assert about.budgets == BUDGETS
    assert about.options.to_dict() == {"select": {"criterion": "recon", "threshold": 0.2}}


def test_a_folder_of_parts_is_read_as_one_table(tmp_path: Path) -> None:
    parts = tmp_path / "tokens"
    parts.mkdir()
    write_tokens(parts / "part-00000.parquet", np.full((2, 3), 0.1), images=["a.jpg", "b.jpg"])
    write_tokens(parts / "part-00001.parquet", np.full((1, 3), 0.3), images=["c.jpg"])
    summary = select_table(parts, 0.2, tmp_path / "selection.parquet")
    assert summary.images == (2, 0, 1)
    assert pq.read_table(tmp_path / "selection.parquet")["image"].to_pylist() == ["a.jpg", "b.jpg", "c.jpg"]


@given(LOSSES, st.sampled_from([0.05, 0.08, 0.2]), st.sampled_from([0.05, 0.08]))
@settings(max_examples=25, deadline=None)
def test_budgets_that_were_never_run_are_unknown_and_do_not_count_as_failed(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[float]], threshold: float, stop: float
) -> None:
    full = np.nan_to_num(np.array(rows, np.float32), nan=0.3)
    met = full < np.float32(stop)
    first = np.where(met.any(axis=1), met.argmax(axis=1), 2)
    stopped = np.where(np.arange(3) <= first[:, None], full, np.nan)
    tokens = write_tokens(tmp_path_factory.mktemp("stop") / "stop.parquet", stopped, stop=stop)
    if threshold < stop:
        with pytest.raises(InputError, match="stopped each image"):
            summarize_table(tokens, [threshold])
        return
    (summary,) = summarize_table(tokens, [threshold])
    expected = [
        any(met_at and failing > at for at, met_at in enumerate(run < np.float32(threshold)))
        for run in stopped
        for failing in [int(np.flatnonzero(run >= np.float32(threshold)).max(initial=-1))]
    ]
    assert summary.non_monotone == sum(expected)
    assert summary.images == tuple(np.bincount(oracle_steps(full, threshold), minlength=3))


def oracle_steps(losses: NDArray[Any], threshold: float) -> list[int]:
    return [BUDGETS.index(budget) for budget in oracle(losses, threshold).n_tokens]


def test_a_table_of_early_stops_says_of_no_image_that_a_larger_budget_fails(tmp_path: Path) -> None:
    full = np.array([[0.05, 0.04, 0.03], [0.2, 0.05, 0.04], [0.2, 0.15, 0.05]])
    stopped = np.array([[0.05, NAN, NAN], [0.2, 0.05, NAN], [0.2, 0.15, 0.05]])
    (of_full,) = summarize_table(write_tokens(tmp_path / "full.parquet", full), [0.1])
    (of_stopped,) = summarize_table(write_tokens(tmp_path / "stop.parquet", stopped, stop=0.08), [0.1])
    assert of_stopped == of_full
    assert of_stopped.non_monotone_share == 0
    summary = summarize_tokens(tmp_path / "stop.parquet")
    assert summary.l1 == {}  # the means of the images that are left would rise with the budget
    assert summary.stopped == {4: 1, 8: 1, 12: 1}
    assert summary.mean_tokens == 8
    assert summary.l1_at_stop == pytest.approx(0.05)


@pytest.mark.parametrize("threshold", [NAN, math.inf, -0.1])
def test_thresholds_that_mean_nothing_are_refused(threshold: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="threshold"):
        summarize_table(tmp_path / "tokens.parquet", [threshold])


def test_the_token_table_is_never_overwritten(tmp_path: Path) -> None:
    tokens = write_tokens(tmp_path / "tokens.parquet", np.full((2, 3), 0.1))
    with pytest.raises(InputError, match="is a token table, not a selection"):
        select_table(tokens, 0.2, tokens)
    assert pq.read_table(tokens).num_rows == 2


def test_a_table_without_losses_is_refused(tmp_path: Path) -> None:
    tokens = write_tokens(tmp_path / "tokens.parquet", np.full((2, 3), 0.1))
    select_table(tokens, 0.2, tmp_path / "selection.parquet")
    with pytest.raises(InputError, match="has no column"):
        summarize_table(tmp_path / "selection.parquet", [0.2])


def test_a_damaged_table_leaves_no_selection(tmp_path: Path) -> None:
    tokens = write_tokens(tmp_path / "tokens.parquet", np.random.default_rng(0).uniform(size=(600, 3)), group=100)
    content = bytearray(tokens.read_bytes())
    content[40 : len(content) // 2] = b"\0" * (len(content) // 2 - 40)
    tokens.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        select_table(tokens, 0.2, tmp_path / "selection.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokens.parquet"]


def test_quartiles_of_several_tables_are_three_however_close_they_are() -> None:
    close = np.array([[0.9, 0.0501, 0.0], [0.9, 0.0508, 0.0], [0.9, np.nan, 0.0]])
    assert quartiles(close, np.array([[0.9, 0.0515, 0.0]])) == (0.0504, 0.0508, 0.0512)
    assert quartiles(np.full((2, 3), np.nan)) == ()
