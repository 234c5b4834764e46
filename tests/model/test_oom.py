"""When memory runs out, batches are halved once, for good; then it is an error in one sentence."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from alit_cli.errors import AlitError
from alit_cli.jobs.tokenize import TokenizeJob, tokenize
from alit_cli.model.oom import SplitOnOOM
from alit_cli.model.tokenizer import Tokenizer
from alit_cli.model.tokenizer_model import State
from tests.model import tiny
from tests.training.photos import write_photos


@dataclasses.dataclass
class Limited:
    """Work that has memory for so many images at a time, and the sizes of the batches that it was given."""

    most: int
    batches: list[int] = dataclasses.field(default_factory=list)

    def __call__(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        self.batches.append(len(a))
        if len(a) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return a + b, a * 2


def test_a_batch_is_done_in_halves_from_then_on() -> None:
    halving, work = SplitOnOOM(), Limited(4)
    a, b = torch.arange(7.0), torch.ones(7)
    for _ in range(2):
        total, double = halving(work, a, b)
        assert total.equal(a + 1)
        assert double.equal(a * 2)
    assert halving.halved
    assert work.batches == [7, 4, 4, 4, 4]


def test_half_a_batch_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(AlitError, match="--batch-size below 4"):
        SplitOnOOM()(Limited(3), torch.ones(7), torch.ones(7))


def test_other_errors_stay_what_they_are() -> None:
    def wrong(_a: Tensor) -> tuple[Tensor, ...]:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes"):
        SplitOnOOM()(wrong, torch.ones(2))


@pytest.mark.parametrize("stop", [None, 0.3])
def test_a_run_says_so_and_its_rows_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: float | None
) -> None:
    write_photos(tmp_path / "photos", 7)
    model = str(tiny.checkpoint(tmp_path))
    job = TokenizeJob(
        [str(tmp_path / "photos")], tmp_path / "a.parquet", model, "cpu", batch_size=4, workers=0, stop=stop
    )
    for _ in tokenize(job):
        pass
    whole = Tokenizer.start

    def scarce(self: Tokenizer, pixels: Tensor) -> State:
        if len(pixels) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return whole(self, pixels)

    monkeypatch.setattr(Tokenizer, "start", scarce)
    other = dataclasses.replace(job, out=tmp_path / "b.parquet")
    notes = [progress.note for progress in tokenize(other)]
    assert notes[-1] == "memory ran out: batches of 2 instead of 4"
    tables: list[pd.DataFrame] = [pq.read_table(one.out).to_pandas() for one in (job, other)]
    pd.testing.assert_frame_equal(tables[0], tables[1], atol=1e-5)
