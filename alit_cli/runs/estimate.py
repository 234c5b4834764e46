"""`--dry-run`: how many images a run would do, and about how long it would take."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from alit_cli.data.sources.items import ListedItem
from alit_cli.data.tables.parts import finished_shards
from alit_cli.progress import Progress, ProgressCallback, no_progress
from alit_cli.runs.item_file import FileStamps, ItemFile
from alit_cli.runs.job import Place, ShardedJob, ShardInput, ShardWorker
from alit_cli.runs.plan import Plan, Shard
from alit_cli.runs.shards import shard_stats

SAMPLE_IMAGES = {"cpu": 32, "cuda": 256, "mps": 64}
"""Images that are done to see how fast the work goes: two batches of each kind of device."""


@dataclass(frozen=True)
class Estimate:
    """What a run would do.

    Attributes:
        images, shards: how many there are in all.
        bytes: of their files. A Parquet file counts whole, files of unknown size do not count.
        done: images that unfinished work has already.
        images_per_second: of this process, or of the shards that are done.
        basis: what the speed was taken from, in words.
    """

    images: int
    shards: int
    bytes: int
    done: int
    images_per_second: float
    basis: str

    def as_row(self) -> dict[str, str | int | float | None]:
        """What is printed of it: name of the column → value."""
        return {
            "images": self.images,
            "size": f"{self.bytes / 2**20:,.1f} MiB",
            "shards": self.shards,
            "done": self.done,
            "images/s": self.images_per_second,
            "left": f"{self.seconds / 60:.1f} min",
        }

    @property
    def seconds(self) -> float:
        """The time that is left for one process."""
        return (self.images - self.done) / self.images_per_second


def estimate(job: ShardedJob, report: ProgressCallback = no_progress) -> Estimate:
    """List the items and time a few of them; nothing is written. `report` shows how far both are.

    Raises:
        InputError: as run() does for inputs, model and options.
    """
    outputs = job.outputs()
    stream = job.items(report, keep_copies=False)

    def look(listed: Iterable[ListedItem]) -> tuple[int, int, list[ListedItem], ItemFile]:
        images, size, sample = _tally(listed, SAMPLE_IMAGES[job.hardware.kind])
        # Two images of one name are refused here, and then listed again by the names that the run would give them.
        return images, size, sample, ItemFile.of(entry.item for entry in sample)

    images, size, sample, items = stream.used_by(look)
    # Several tables of one run have nearly the same shards; the first one stands for all.
    folder = outputs[0].folder
    stats = [shard_stats(folder, index) for index in sorted(finished_shards(folder))]
    done, seconds = sum(mark["rows"] for mark in stats), sum(mark["seconds"] for mark in stats)
    if done and seconds:
        speed, basis = done / seconds, f"the {len(stats)} shards that are done"
    else:
        # A sample is no shard of a plan; an empty plan in memory stands for it.
        keep = {"keep": stream.extra_columns.types()} if stream.extra_columns.names else {}
        plans = {output.path: Plan.in_memory(items, {**output.identity, **keep}) for output in outputs}
        worker = job.worker_factory(plans, True)(Place(job.hardware.name))
        try:
            speed = _images_per_second(worker, sample, list(plans), stream.extra_columns.names, report)
        finally:
            worker.close()
        basis = f"{len(sample)} of the images, just now"
    return Estimate(images, -(-images // job.images_per_shard), size, done, speed, basis)


def _tally(listed: Iterable[ListedItem], size: int) -> tuple[int, int, list[ListedItem]]:
    """How many items there are, their bytes, and a fair sample of `size`; the others are not held in memory."""
    # A fixed seed, so that two dry runs time the same images.
    rng, stamp = random.Random(0), FileStamps()
    sample: list[ListedItem] = []
    images = total = 0
    parquet_sizes: dict[str, int] = {}
    for entry in listed:
        images += 1
        # Only a part of a file, such as a member of a tar, knows its size without a look at the disk.
        length = max(0, stamp(entry)[0] if entry.item.size < 0 else entry.item.size)
        # All rows of a Parquet file name the same file, whose size counts once.
        if entry.item.row >= 0:
            parquet_sizes[entry.item.path] = length
        else:
            total += length
        # Reservoir sampling: each of the items so far is in the sample with the same probability.
        if len(sample) < size:
            sample.append(entry)
        elif (place := rng.randrange(images)) < size:
            sample[place] = entry
    return images, total + sum(parquet_sizes.values()), sample


def _images_per_second(
    worker: ShardWorker, sample: list[ListedItem], outputs: list[Path], names: tuple[str, ...], report: ProgressCallback
) -> float:
    """Speed of the second of two passes over the sample; the first one warms up."""
    items = [entry.item for entry in sample]
    extra = {name: [entry.kept[index] if entry.kept else None for entry in sample] for index, name in enumerate(names)}
    seconds = 0.0
    report(Progress(0, len(sample), note="timed"))  # the first report is where the work starts
    for done in (0, len(sample)):
        begun = time.perf_counter()
        running = worker.start(ShardInput(Shard(0, 0, len(items)), items, extra, outputs))
        for progress in running.run():
            # Two passes over the sample count as one, so that the bar shows as many images as the table names.
            report(Progress((done + progress.done) // 2, len(sample), note="timed"))
        seconds = time.perf_counter() - begun
    # A coarse clock may not have advanced over a sample of few images or none.
    return len(sample) / max(seconds, 1e-9)
