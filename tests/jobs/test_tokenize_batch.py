"""How many images a batch has where nobody says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from alit_cli.jobs.tokenize import TokenizeJob, default_batch_size


def test_a_large_model_has_small_batches_on_a_cpu() -> None:
    assert [default_batch_size("cpu", size) for size in (17 << 20, 100 << 20, 1 << 30)] == [4, 2, 2]
    assert {default_batch_size("cuda", size) for size in (17 << 20, 1 << 30)} == {128}


@pytest.mark.parametrize(("batch_size", "shard"), [(None, 100), (2, 100), (16, 112), (128, 128)])
def test_shards_are_whole_batches(batch_size: int | None, shard: int) -> None:
    job = TokenizeJob(["a"], Path("t.parquet"), device="cpu", batch_size=batch_size)
    assert job.images_per_shard == shard
