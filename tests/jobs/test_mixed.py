"""`--precision mixed`: tokens of float32, a table that says so, and commands that decode it the same way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from alit_cli.data.tables.token_table import read_info
from tests.conftest import Alit
from tests.model import tiny
from tests.training.photos import write_photos

BUDGETS = (2, 4, 6)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A command without its precision and its table."""
    write_photos(tmp_path / "photos", 7)
    return ["tokenize", str(tmp_path / "photos"), "--checkpoint", str(tiny.checkpoint(tmp_path)), "--device", "cpu"]


def test_tokens_are_those_of_float32_and_the_table_says_mixed(tmp_path: Path, alit: Alit, words: list[str]) -> None:
    tables = {}
    for precision in ("float32", "mixed"):
        out = tmp_path / f"{precision}.parquet"
        assert alit(*words, "--precision", precision, "--out", out).exit_code == 0
        assert read_info(out).precision == precision
        assert alit("verify", out).exit_code == 0
        tables[precision] = pq.read_table(out)
    exact, mixed = tables["float32"], tables["mixed"]
    gaps = []
    for budget in BUDGETS:
        assert exact[f"tokens_{budget}"].equals(mixed[f"tokens_{budget}"])
        gaps.append(np.abs(exact[f"l1_{budget}"].to_numpy() - mixed[f"l1_{budget}"].to_numpy()))
    assert 0 < np.max(gaps) < 1e-3
    assert np.mean(gaps) < 2e-4  # the embedded model, whose pictures are larger, is held to 1e-4 in tests/model


def test_the_rows_do_not_depend_on_shards_batches_or_processes(tmp_path: Path, alit: Alit, words: list[str]) -> None:
    ways = {"one": [], "shards": ["--shard-size", 2], "batches": ["--batch-size", 3], "two": ["--devices", 2]}
    tables = {}
    for name, options in ways.items():
        out = tmp_path / f"{name}.parquet"
        # Measures may be NaN, which equals nothing.
        result = alit(*words, "--no-measures", "--precision", "mixed", "--shard-size", 4, *options, "--out", out)
        assert result.exit_code == 0, result.stderr
        # The table says what its batches were, apart from which it is the same.
        tables[name] = pq.read_table(out).replace_schema_metadata(None)
    for name in ways:
        assert tables[name].equals(tables["one"]), name


def test_scores_and_pictures_are_made_in_the_precision_of_the_table(
    tmp_path: Path, alit: Alit, words: list[str]
) -> None:
    out = tmp_path / "tokens.parquet"
    assert alit(*words, "--precision", "mixed", "--out", out).exit_code == 0
    checkpoint = ["--checkpoint", tiny.checkpoint(tmp_path), "--device", "cpu"]
    result = alit("score", out, "--task", "recon", "--out", tmp_path / "scores", *checkpoint)
    assert result.exit_code == 0, result.stderr
    assert "in mixed" in result.stderr
    result = alit("decode", out, "--budget", 4, "--out", tmp_path / "pictures", *checkpoint)
    assert result.exit_code == 0, result.stderr
    # Another precision is another run.
    result = alit(*words, "--precision", "float32", "--out", out)
    assert result.exit_code == 2
    assert "another model" in result.stderr
