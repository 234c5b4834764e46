"""`alit tokenize`: the table is the same however it came about, and every input is a row."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pandas.testing import assert_series_equal

from alit_cli.errors import InputError, TooManyFailures
from alit_cli.jobs.tokenize import TokenizeJob, check_error_rate, summarize, tokenize
from alit_cli.model.tokenizer import load
from tests.jobs.photos import write_photos
from tests.model import tiny


@pytest.fixture
def job(tmp_path: Path) -> TokenizeJob:
    write_photos(tmp_path / "photos", 11)
    checkpoint = str(tiny.checkpoint(tmp_path))
    return TokenizeJob([str(tmp_path / "photos")], tmp_path / "tokens.parquet", checkpoint, "cpu", batch_size=4)


def _table(job: TokenizeJob) -> pa.Table:
    for _ in tokenize(job):
        pass
    return pq.read_table(job.out)


def _same(one: pa.Table, other: pa.Table, loose: str = "") -> None:
    """Every value of both is the same, to the bit; columns that start with `loose` only nearly."""
    frames = [table.to_pandas() for table in (one, other)]
    for name in frames[0]:
        exact = not loose or not name.startswith(loose)
        assert_series_equal(frames[0][name], frames[1][name], check_exact=exact, atol=1e-5)


def test_rows_hold_what_the_model_says(job: TokenizeJob) -> None:
    table = _table(job)
    tokenizer = load(job.checkpoint, "cpu")
    from PIL import Image

    pictures = [Image.open(Path(job.paths[0]) / name) for name in table["image"].to_pylist()]
    images = tokenizer.as_pixels(pictures)
    for record in tokenizer.rollout(images):
        stored = np.array(table[f"tokens_{record.budget}"].to_pylist())
        assert record.latents.ids is not None
        assert (stored == record.latents.ids.numpy()).all()
        l1 = (record.reconstruction - images).abs().mean(dim=(1, 2, 3))
        np.testing.assert_allclose(table[f"l1_{record.budget}"].to_numpy(), l1, atol=1e-6)


@pytest.mark.parametrize("change", [{"batch_size": 1}, {"batch_size": 5}, {"workers": 0}, {"shard_size": 3}])
def test_the_table_does_not_depend_on_how_it_was_made(job: TokenizeJob, tmp_path: Path, change: dict[str, int]) -> None:
    whole = _table(job)
    other = _table(dataclasses.replace(job, out=tmp_path / "other.parquet", **change))  # type: ignore[arg-type]
    _same(whole, other, loose="l1_" if "batch_size" in change else "")


def test_an_interrupted_run_goes_on_and_ends_in_the_same_table(job: TokenizeJob, tmp_path: Path) -> None:
    job = dataclasses.replace(job, shard_size=3)
    whole = _table(dataclasses.replace(job, out=tmp_path / "whole.parquet"))
    for stop in (3, 4):
        run = tokenize(job)
        list(itertools.islice(run, stop))
        del run
        assert not job.out.exists()
    first = next(iter(tokenize(job)))
    assert first.done == 9
    _same(_table(job), whole)
    assert not job.work.exists()


def test_a_finished_table_is_not_made_again(job: TokenizeJob) -> None:
    _table(job)
    before = job.out.stat().st_mtime_ns
    assert [progress.done for progress in tokenize(job)] == [11]
    assert job.out.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="overwrite"):
        list(tokenize(dataclasses.replace(job, limit=5)))
    assert len(_table(dataclasses.replace(job, limit=5, overwrite=True))) == 5


def test_bad_images_are_rows(job: TokenizeJob) -> None:
    folder = Path(job.paths[0])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("not a picture")
    whole = (folder / "img_3.png").read_bytes()
    (folder / "half 😀.png").write_bytes(whole[: len(whole) // 2])
    table = _table(job)
    statuses = dict(zip(table["image"].to_pylist(), table["status"].to_pylist(), strict=True))
    bad = {"empty.jpg": "empty", "text.jpg": "unreadable", "half 😀.png": "truncated"}
    assert statuses == {f"img_{i}.png": "ok" for i in range(11)} | bad
    failed = table.filter(pa.compute.not_equal(table["status"], "ok"))
    assert failed["tokens_2"].null_count == failed["l1_2"].null_count == 3
    summary = summarize(job.out)
    assert (summary.images, summary.failed) == (14, 3)
    with pytest.raises(TooManyFailures):
        check_error_rate(job, summary)
    check_error_rate(dataclasses.replace(job, max_error_rate=0.3), summary)


def test_some_budgets_only(job: TokenizeJob) -> None:
    whole = _table(job)
    few = _table(dataclasses.replace(job, out=job.out.with_name("few.parquet"), budgets=(4,), measures=False))
    assert [name for name in few.column_names if name.startswith(("l1", "tokens"))] == ["l1_4", "tokens_4"]
    assert few["tokens_4"].equals(whole["tokens_4"])
    with pytest.raises(InputError, match="budget"):
        _table(dataclasses.replace(job, out=job.out.with_name("no.parquet"), budgets=(5,)))


def test_a_continuous_model_stores_its_latents(job: TokenizeJob, tmp_path: Path) -> None:
    job = dataclasses.replace(job, checkpoint=str(tiny.checkpoint(tmp_path, codes=0)))
    table = _table(job)
    assert len(table["latents_4"][0].as_py()) == 4 * 4
    tokenizer = load(job.checkpoint, "cpu")
    stored = torch.tensor(table["latents_6"].to_pylist()).reshape(-1, 6, 4)
    assert tokenizer.decode(list(stored)).shape == (11, 3, 32, 32)
