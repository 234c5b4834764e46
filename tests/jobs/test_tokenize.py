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

from alit_cli.data.pictures.fitting import Picture, read_picture
from alit_cli.data.sources.listing import list_items
from alit_cli.data.tables.summary import summarize
from alit_cli.errors import InputError, TooManyFailures
from alit_cli.jobs.tokenize import TokenizeJob, tokenize
from alit_cli.model.scheduler import RolloutScheduler
from alit_cli.model.tokenizer import load
from alit_cli.runs.run import check_error_rate
from tests.analysis.selections import select_table, summarize_table
from tests.model import tiny
from tests.training.photos import write_photos


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


@pytest.mark.parametrize(
    "change", [{"batch_size": 1}, {"batch_size": 5}, {"batch_size": 32}, {"workers": 0}, {"shard_size": 3}]
)
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
    assert not job.work_folder.exists()


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
        check_error_rate(job.out, 0.05)
    check_error_rate(job.out, 0.3)


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


def _stopped(job: TokenizeJob, quantile: float) -> tuple[pa.Table, pa.Table, float]:
    """The full table, the one that stopped early, and its threshold: a quantile of the full table's losses."""
    full = _table(job)
    losses = np.stack([full[name].to_numpy() for name in full.column_names if name.startswith("l1_")])
    threshold = float(np.quantile(losses, quantile))
    stopped = dataclasses.replace(job, stop=threshold, out=job.out.with_name("stopped.parquet"))
    return full, _table(stopped), threshold


@pytest.mark.parametrize("quantile", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_stopping_early_equals_selecting_later(job: TokenizeJob, quantile: float, batch_size: int) -> None:
    job = dataclasses.replace(job, batch_size=batch_size)
    _, stopped, threshold = _stopped(job, quantile)
    selections = []
    for table in (job.out, job.out.with_name("stopped.parquet")):
        select_table(table, threshold, job.out.with_name("selection.parquet"))
        selections.append(pq.read_table(job.out.with_name("selection.parquet")))
    _same(selections[0].drop_columns("l1"), selections[1].drop_columns("l1"))
    assert stopped["n_tokens"].to_pylist() == selections[0]["n_tokens"].to_pylist()


def test_stopping_early_runs_only_the_iterations_it_needs(job: TokenizeJob) -> None:
    full, stopped, threshold = _stopped(job, 0.5)
    tokenizer = load(job.checkpoint, "cpu")
    names = [f"l1_{b}" for b in tokenizer.budgets]
    losses = np.stack([full[name].to_numpy() for name in names], axis=1)
    below = losses < np.float32(threshold)
    needed = np.where(below.any(axis=1), below.argmax(axis=1) + 1, len(names))
    scheduler = RolloutScheduler(tokenizer, tokenizer.budgets, threshold, 4)
    pixels = (picture.pixels for picture in _pictures(job, tokenizer.config.image_size))
    finished = [one for some in scheduler.run(p for p in pixels if p is not None) for one in some]
    assert scheduler.advanced == needed.sum()
    assert sorted(one.index for one in finished) == list(range(len(needed)))
    for row, name in enumerate(names):
        assert (stopped[name].is_valid().to_numpy() == (needed > row)).all()


def _pictures(job: TokenizeJob, side: int) -> list[Picture]:
    return [read_picture(item, side, "crop", None) for item in list_items(list(job.paths))]


def test_a_stopped_table_resumes_to_the_same_bits(job: TokenizeJob) -> None:
    whole = dataclasses.replace(job, stop=0.3, shard_size=4)
    expected = _table(whole)
    broken = dataclasses.replace(whole, out=whole.out.with_name("broken.parquet"))
    run = tokenize(broken)
    list(itertools.islice(run, 5))
    del run
    _same(expected, _table(broken))


def test_a_stopped_table_refuses_what_it_cannot_answer(job: TokenizeJob) -> None:
    job = dataclasses.replace(job, stop=0.2)
    _table(job)
    with pytest.raises(InputError, match=r"l1<0\.2 .* l1<0\.1"):
        summarize_table(job.out, [0.3, 0.1])
    summarize_table(job.out, [0.2, 0.3])


def test_tokens_only(job: TokenizeJob) -> None:
    full = _table(job)
    bare = dataclasses.replace(job, losses=False, budgets=(full_budget := 6,), out=job.out.with_name("bare.parquet"))
    table = _table(bare)
    assert [name for name in table.column_names if name.startswith(("l1_", "tokens_"))] == [f"tokens_{full_budget}"]
    assert table[f"tokens_{full_budget}"].equals(full[f"tokens_{full_budget}"])
    assert summarize(bare.out).l1 == {}
    with pytest.raises(InputError, match="no-losses"):
        summarize_table(bare.out, [0.1])
    with pytest.raises(InputError, match="--stop"):
        _table(dataclasses.replace(bare, stop=0.1, out=job.out.with_name("x.parquet")))
