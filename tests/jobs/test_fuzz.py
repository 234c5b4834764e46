"""A folder of everything that can be wrong with a file: no crash, no hang, and every one a row of the right status."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from alit_cli.data.files import readable
from alit_cli.jobs.tokenize import TokenizeJob, tokenize
from alit_cli.jobs.verify import problems
from alit_cli.model.checkpoint import Record, write_checkpoint
from alit_cli.model.rollout import Alit
from tests.jobs.fuzzed import KINDS, NAMES, write_fuzzed
from tests.model import tiny


def _model(folder: Path) -> str:
    """64 px, 1 + 1 layers."""
    torch.manual_seed(0)
    config = dataclasses.replace(tiny.config(), image_size=64, layers=1)
    write_checkpoint(folder / "m.safetensors", Alit(config).eval(), Record(config, ("base", "distill")))
    return str(folder / "m.safetensors")


def _table(folder: Path, expected: Mapping[Path, frozenset[str]], workers: int, out: str) -> pd.DataFrame:
    job = TokenizeJob([str(folder / "files")], folder / out, str(folder / "m.safetensors"), "cpu", workers=workers)
    for _ in tokenize(job):
        pass
    assert list(problems(job.out)) == []
    table: pd.DataFrame = pq.read_table(job.out).to_pandas()
    assert set(table["image"]) == {readable(path.name) for path in expected}
    assert len(table) == len(expected)
    return table


def _check(table: pd.DataFrame, expected: Mapping[Path, frozenset[str]]) -> None:
    statuses = dict(zip(table["image"], table["status"], strict=True))
    for path, allowed in expected.items():
        assert statuses[readable(path.name)] in allowed, path.name
    failed = table["status"].ne("ok")
    assert table.loc[failed, "error"].str.fullmatch(r"[^\n]+\.").all()
    assert table.loc[~failed, "error"].isna().all()


def test_a_hundred_and_fifty_fuzzed_files(tmp_path: Path) -> None:
    _model(tmp_path)
    expected = write_fuzzed(tmp_path / "files", 150)
    table = _table(tmp_path, expected, 0, "tokens.parquet")
    _check(table, expected)
    assert table["status"].nunique() == 6


@pytest.mark.slow
def test_two_thousand_fuzzed_files(tmp_path: Path) -> None:
    _model(tmp_path)
    expected = write_fuzzed(tmp_path / "files", 2_000, seed=1)
    assert len(KINDS) * len(NAMES) < len(expected)
    tables = [_table(tmp_path, expected, workers, f"{workers}.parquet") for workers in (0, 2)]
    _check(tables[0], expected)
    pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)
