"""`alit select` as one types it."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from alit_cli.console import next_select
from alit_cli.data.tables.parquet import write_table
from alit_cli.data.tables.token_table import read_info
from tests.analysis.tables import write_tokens
from tests.conftest import Alit, Refused

LOSSES = np.array([[0.01, 0.01, 0.01], [0.2, 0.05, 0.01], [0.2, 0.2, 0.2], [0.2, 0.05, 0.09], [np.nan] * 3])


@pytest.fixture
def here(here: Path) -> Path:
    """A working folder with a token table, its last image failed."""
    write_tokens(here / "tokens.parquet", LOSSES, failed=[4])
    return here


def test_one_threshold_writes_the_selection_and_prints_its_table(here: Path, alit: Alit) -> None:
    result = alit("select", "--tsc", "recon", "--thr", "0.08")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["0.08", "1", "2", "1", "8", "66.7", "%", "25.0", "%"] in lines
    assert ["8", "2", "50.0", "%", "█" * 40] in lines
    assert "1 of the table's rows" in result.stderr
    assert "l1<0.08: 25 % of the images meet it at their budget, but not at some larger one." in result.stderr
    assert "Wrote selection.parquet." in result.stderr
    assert pq.read_table(here / "selection.parquet")["n_tokens"].to_pylist() == [4, 8, 12, 8]


def test_the_next_step_can_be_taken(here: Path, alit: Alit) -> None:
    """A selection without tokens needs the token table, and nothing reads a csv file."""
    assert "Next: alit decode selection.parquet" in alit("select", "--thr", "0.08").stderr
    said = alit("select", "--thr", "0.08", "--no-tokens", "--out", "short.parquet").stderr
    words = said.partition("Next: alit ")[2].split()
    assert words == ["export", "tokens.parquet", "--selection", "short.parquet", "--out", "tokens.npz"]
    assert alit(*words).exit_code == 0
    assert "Next" not in alit("select", "--thr", "0.08", "--out", "needs.csv").stderr


@pytest.mark.parametrize(
    ("losses", "stop", "words"),
    [
        (True, None, ["alit select 'my table.parquet' --thr 0.08"]),
        (True, 0.1, ["alit select 'my table.parquet' --thr 0.1"]),
        (True, 0.05, ["alit select 'my table.parquet' --thr 0.08"]),
        (False, None, []),
    ],
)
def test_the_selection_that_comes_next_is_one_that_the_table_can_answer(
    losses: bool, stop: float | None, words: list[str]
) -> None:
    assert next_select(Path("my table.parquet"), losses, stop) == words


def test_several_thresholds_are_compared_and_nothing_is_written(here: Path, alit: Alit) -> None:
    result = alit("select", "tokens.parquet", "--thr", "0.02,0.08,0.5")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()[2:]] == ["0.02", "0.08", "0.50"]
    assert "Nothing was written" in result.stderr
    assert [path.name for path in here.iterdir()] == ["tokens.parquet"]


def test_json_is_one_object(here: Path, alit: Alit) -> None:
    result = alit("select", "--thr", "0.08", "--out", "some/where.parquet", "--json", "--quiet")
    found = json.loads(result.stdout)
    assert found["out"] == "some/where.parquet"
    assert found["criterion"] == "recon"
    assert found["selections"] == [
        {
            "criterion": "l1<0.08",
            "group": None,
            "threshold": 0.08,
            "images": {"4": 1, "8": 2, "12": 1},
            "total": 4,
            "mean_tokens": 8.0,
            "capacity": pytest.approx(2 / 3),
            "unsatisfied": 1,
            "unsatisfied_share": 0.25,
            "non_monotone_share": 0.25,
            "failed": 1,
        }
    ]
    assert result.stderr == ""
    assert (here / "some" / "where.parquet").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--thr low", "'low' is not a number"),
        ("--thr 0.1,,0.2", "'' is not a number"),
        ("--thr nan", "'nan' is not a number"),
        ("--thr -1", "from 0 up"),
        ("", "--thr"),
        ("--thr 0.1 --tsc beauty", "There is no criterion 'beauty'; there is: recon"),
        ("--thr 0.1,0.2 --out both.parquet", "--out holds the selection of one threshold"),
        ("missing.parquet --thr 0.1", "alit tokenize"),
        ("note.txt --thr 0.1", "'note.txt' is not a Parquet file"),
        ("--thr 0.1 --out tokens.parquet", "is read by this command"),
        ("--thr 0.1 --out note.txt/selection.parquet", "cannot be written"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(words: str, sentence: str, here: Path, refused: Refused) -> None:
    (here / "note.txt").write_text("hello")
    refused(sentence, "select", *words.split())
    assert {path.name for path in here.iterdir()} == {"note.txt", "tokens.parquet"}


def test_a_table_of_one_budget_is_not_said_to_meet_what_it_misses(here: Path, alit: Alit) -> None:
    """Its one budget is the smallest, and also what an image gets that no budget satisfies."""
    table = pq.read_table("tokens.parquet")
    info = read_info(Path("tokens.parquet"))
    write_table(
        table.drop_columns([f"{stem}_{budget}" for stem in ("l1", "tokens") for budget in info.budgets[1:]])
        .replace_schema_metadata({b"alit": dataclasses.replace(info, budgets=info.budgets[:1]).to_json()}),
        here / "one.parquet",
    )  # fmt: skip
    result = alit("select", "one.parquet", "--thr", "0.08")
    assert result.exit_code == 0
    assert "75.0 %" in result.stdout
    assert "Every image meets" not in result.stderr
