"""`alit tokenize --dry-run`: what a run would read, and about how long it would take."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass

from alit_cli.data.sources.items import Found, Item
from alit_cli.data.tables.parts import finished_shards
from alit_cli.data.tables.token_table import TableInfo
from alit_cli.jobs.reading.reader import make_picture_reader
from alit_cli.jobs.tokenize import TokenizeJob, listing, shard_images
from alit_cli.jobs.tokenize_shard import ShardRun, reading
from alit_cli.model.oom import SplitOnOOM
from alit_cli.model.tokenizer import load
from alit_cli.progress import Progress, ProgressCallback, no_progress
from alit_cli.runs.item_file import UNKNOWN, FileStamps
from alit_cli.runs.shards import shard_stats

SAMPLE = 32
"""Images that are tokenized to see how fast it goes; a batch where that is more."""


@dataclass(frozen=True)
class Estimate:
    """What a run would do.

    Attributes:
        images, shards: to be tokenized, all of them.
        bytes: of their files; a Parquet file counts whole, files of unknown size not at all.
        done: images that unfinished work has already.
        images_per_second: of this process, or of the shards that are done.
        basis: what the speed was taken from.
    """

    images: int
    shards: int
    bytes: int
    done: int
    images_per_second: float
    basis: str

    @property
    def seconds(self) -> float:
        """Time that is left for one process."""
        return (self.images - self.done) / self.images_per_second


def estimate(job: TokenizeJob, tell: ProgressCallback = no_progress) -> Estimate:
    """List the inputs and time a few of them; writes nothing. `tell` is given how far both are.

    Raises:
        InputError: as prepare does for inputs, model and options.
    """
    info, found, _ = listing(job, tell)
    images, size, sample = _tally(found, max(SAMPLE, info.batch_size))
    shard_size = shard_images(job, info)
    stats = [shard_stats(job.work, index) for index in sorted(finished_shards(job.work))]
    done, seconds = sum(one["rows"] for one in stats), sum(one["seconds"] for one in stats)
    if done and seconds:
        speed, basis = done / seconds, f"the {len(stats)} shards that are done"
    else:
        speed, basis = _measured(job, info, sample, tell), f"{len(sample)} of the images, just now"
    return Estimate(images, -(-images // shard_size), size, done, speed, basis)


def _tally(found: Iterable[Found], size: int) -> tuple[int, int, list[Item]]:
    """How many there are, their bytes, and a fair sample; none is held."""
    rng, looks = random.Random(0), FileStamps()
    sample: list[Item] = []
    images = total = 0
    parquet: dict[str, int] = {}
    for one in found:
        images += 1
        length = max(0, looks(one)[0] if looks(one) != UNKNOWN and one.item.size < 0 else one.item.size)
        if one.item.row >= 0:
            parquet[one.item.path] = length
        else:
            total += length
        if len(sample) < size:
            sample.append(one.item)
        elif (place := rng.randrange(images)) < size:
            sample[place] = one.item
    return images, total + sum(parquet.values()), sample


def _measured(job: TokenizeJob, info: TableInfo, sample: list[Item], tell: ProgressCallback) -> float:
    """Images a second, the first batch left out: it warms up."""
    tokenizer = load(job.checkpoint, job.device, job.precision)
    reader = make_picture_reader(reading(tokenizer, info), min(1, 1 if job.workers is None else job.workers), [], 1)
    try:
        for done in (0, len(sample)):
            begun = time.perf_counter()
            run = ShardRun(tokenizer, info, reader, SplitOnOOM())
            for timed in run.run(sample):
                tell(Progress(done + timed, 2 * len(sample), note="timed"))
            seconds = time.perf_counter() - begun
    finally:
        reader.close()
    return len(sample) / max(seconds, 1e-9)
