"""A folder of everything that can be wrong with a file: no crash, no hang, and every one a row of the right status."""

from __future__ import annotations

import dataclasses
import re
import resource
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from alit_cli.data.files import readable
from alit_cli.data.pictures.fitting import read_picture
from alit_cli.data.sources.extra_columns import ExtraColumns
from alit_cli.data.sources.listing import stream_items
from alit_cli.errors import InputError
from alit_cli.jobs.tokenize import TokenizeJob, tokenize
from alit_cli.jobs.verify import problems
from alit_cli.model.checkpoint import Record, write_checkpoint
from alit_cli.model.rollout import Alit
from tests.conftest import Alit as Run
from tests.jobs import fuzzed_inputs
from tests.jobs.fuzzed import KINDS, NAMES, write_fuzzed
from tests.model import tiny
from tests.training.photos import write_photos


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
def test_three_thousand_fuzzed_files(tmp_path: Path) -> None:
    _model(tmp_path)
    expected = write_fuzzed(tmp_path / "files", 3_000, seed=1)
    assert len(KINDS) * len(NAMES) < len(expected)
    tables = [_table(tmp_path, expected, workers, f"{workers}.parquet") for workers in (0, 2)]
    _check(tables[0], expected)
    pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)


MOST_SECONDS, MOST_MIB = 150, 2560
"""What one damaged input may take, whatever it claims of itself."""


def _begin() -> tuple[float, float]:
    """Now, and the most memory that this process has had so far, in MiB: other tests may have used more."""
    return time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _bounded(begun: tuple[float, float]) -> None:
    now, peak = _begin()
    assert now - begun[0] < MOST_SECONDS
    assert peak < max(MOST_MIB, begun[1] + 1)


def _read_all(path: str) -> Counter[str]:
    """Statuses of the images of an input; `refused` where it is refused in a sentence."""
    begun = _begin()
    counts: Counter[str] = Counter()
    try:
        for found in stream_items([path], limit=200, keeper=ExtraColumns(["label"])):
            counts[read_picture(found.item, 16).status] += 1
    except InputError as problem:
        counts["refused" if re.fullmatch(r"[^\n]+\.", str(problem)) else f"no sentence: {problem}"] += 1
    _bounded(begun)
    return counts


def _containers(folder: Path, ending: str, contents: Iterable[bytes]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for index, content in enumerate(contents):
        path = folder / f"{index}{ending}"
        path.write_bytes(content)
        one = _read_all(str(path))
        assert one, f"{path} is neither a row nor a sentence"
        assert not [status for status in one if status.startswith("no sentence")], one
        counts += one
    return counts


@pytest.mark.parametrize("count", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_damaged_tars(tmp_path: Path, count: int) -> None:
    counts = _containers(tmp_path, ".tar", fuzzed_inputs.tars(count, seed=count))
    assert counts["ok"] > count and counts["truncated"]


@pytest.mark.parametrize("count", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_damaged_parquet_files(tmp_path: Path, count: int) -> None:
    counts = _containers(tmp_path, ".parquet", fuzzed_inputs.parquets(count, seed=count))
    assert counts["ok"] > count / 3 and counts["refused"]


@pytest.mark.parametrize("count", [60])
def test_damaged_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("1.png", "é.png"):
        Path(name).write_bytes(fuzzed_inputs.picture(np.random.default_rng(0)))
    counts: Counter[str] = Counter()
    for index, content in enumerate(fuzzed_inputs.lists(count, ["1.png", "é.png"])):
        Path(f"{index}.txt").write_bytes(content)
        counts += _read_all(f"@{index}.txt")
    assert counts["ok"] > count and counts["refused"]


def _commands(table: Path, model: str, out: Path) -> dict[str, list[object]]:
    """Every command that reads a token table, as short as it can be."""
    end, o = ["--quiet"], "--out"
    return {
        "select": ["select", table, "--thr", "0.2", o, out / "s.parquet", *end],
        "select --capacity": ["select", table, "--capacity", "0.5", o, out / "s.parquet", *end],
        "capacity": ["analyze", "capacity", "--tokens", table, "--bootstrap", "0", o, out / "study", *end],
        "quality": ["analyze", "quality", table, o, out / "study", *end],
        "familiarity": ["analyze", "familiarity", table, "good.parquet", "--bootstrap", "0", o, out / "study", *end],
        "complexity": [
            *["analyze", "complexity", "s.csv", "--bootstrap", "0", "--tokens"],
            table,
            o,
            out / "study",
            *end,
        ],
        "view": ["view", table, o, out / "v.html", "-c", model, *end],
        "verify": ["verify", table],
        "status": ["status", table],
        "info": ["info", table],
        "jsonl": ["export", table, "--budget", "2", o, out / "e.jsonl", *end],
        "npz": ["export", table, "--budget", "2", o, out / "e.npz", *end],
        "tar": ["export", table, "--budget", "2", o, out / "e.tar", *end],
        "decode": ["decode", table, "--budget", "2", o, out / "recon", "-c", model, *end],
        "score": ["score", table, "--task", "recon", "-c", model, o, out / "scores", *end],
        "a table of one's own": [
            "select",
            "good.parquet",
            "--table",
            table,
            "--thr",
            "0.2",
            o,
            out / "s.parquet",
            *end,
        ],
        "tokenize": ["tokenize", table, o, out / "t.parquet", "-c", model, *end],
    }


@pytest.mark.parametrize("count", [4, pytest.param(200, marks=pytest.mark.slow)])
def test_damaged_tables_through_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alit: Run, count: int
) -> None:
    monkeypatch.chdir(tmp_path)
    model = str(tiny.checkpoint(tmp_path))
    write_photos(tmp_path / "photos", 4)
    assert alit("tokenize", "photos", "--out", "good.parquet", "-c", model, "-q").exit_code == 0
    Path("s.csv").write_text("image,score\n" + "".join(f"img_{index}.png,{index}\n" for index in range(4)))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    codes: Counter[int] = Counter()
    faults: list[str] = []
    for number, table in enumerate(fuzzed_inputs.tables(pq.read_table("good.parquet"), count, tmp_path, seed=count)):
        for name, line in _commands(table, model, tmp_path / f"out{number}").items():
            begun = _begin()
            result = alit(*line)
            codes[result.exit_code] += 1
            # Only alit verify ends with 1, when it has found something.
            allowed = {0, 1, 2} if name == "verify" else {0, 2, 3}
            # All faults of a run are told, as a run of 200 tables takes half an hour.
            if result.exit_code not in allowed or "ALIT_DEBUG" in result.stderr:
                faults.append(f"{name} of {table.name}: {result.stderr}")
            _bounded(begun)
        shutil.rmtree(tmp_path / f"out{number}", ignore_errors=True)
    assert not faults, "\n".join(faults)
    assert codes[2] > count
    print(f"{count} tables through {len(_commands(tmp_path, model, tmp_path))} commands, by exit code: {codes}")
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("count", [8, pytest.param(40, marks=pytest.mark.slow)])
def test_damaged_checkpoints(tmp_path: Path, alit: Run, count: int) -> None:
    write_photos(tmp_path / "photos", 1)
    whole = Path(tiny.checkpoint(tmp_path)).read_bytes()
    for index, content in enumerate(fuzzed_inputs.checkpoints(whole, count)):
        path = tmp_path / f"{index}.safetensors"
        path.write_bytes(content)
        begun = _begin()
        words = ("-c", path, "--device", "cpu", "--decode-workers", "0", "--out", tmp_path / f"{index}.parquet", "-q")
        for result in (alit("info", path), alit("tokenize", tmp_path / "photos", *words)):
            assert result.exit_code in (0, 2), f"{path.name}: {result.stderr}"
        _bounded(begun)
