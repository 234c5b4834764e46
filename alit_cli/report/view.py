"""`alit view`: a token table as one page to look at; counts over all rows, pictures of some."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alit_cli import __version__
from alit_cli.data.files import check_output, open_output, readable
from alit_cli.data.pictures.fitting import Pixels
from alit_cli.data.sources.items import Item
from alit_cli.data.tables.originals import find_originals
from alit_cli.data.tables.parquet import column_names
from alit_cli.data.tables.token_table import TableInfo, read_info
from alit_cli.errors import InputError
from alit_cli.model.tokenizer import Tokenizer, load
from alit_cli.progress import Progress
from alit_cli.report.analysis_panels import find_panels
from alit_cli.report.content import page_data
from alit_cli.report.facts import gather_facts
from alit_cli.report.page import render
from alit_cli.report.sample import Sample, take_sample
from alit_cli.report.strips import Strip, decode_all, make_strip, read_original

PICTURE_BYTES = 8_000_000
"""All pictures together, before base64; the page stays below 15 MB with its tables and figures."""
MOST_A_PICTURE = 150_000


@dataclass(frozen=True)
class ViewJob:
    """What to show.

    Attributes:
        table: a token table, a file or a folder of parts.
        out: the HTML file.
        images: where the originals lie now; empty: where the table says.
        most: images to show at the most; a longer table is sampled.
        threshold: the L1 that the page starts with; None lets the data decide.
        beside: the folder whose tables and figures are added; None is the table's.
        pictures: False decodes nothing and needs no model.
        checkpoint, device, batch_size: as the options; None takes the batch size of the table.
    """

    table: Path
    out: Path
    images: tuple[str, ...] = ()
    most: int = 200
    threshold: float | None = None
    beside: Path | None = None
    pictures: bool = True
    checkpoint: str | None = None
    device: str = "auto"
    batch_size: int | None = None


@dataclass(frozen=True)
class Viewed:
    """What was written: images shown of all that have tokens, how many with their original, bytes of the page."""

    shown: int
    of: int
    originals: int
    size: int


def make_view(job: ViewJob) -> Iterator[Progress | Viewed]:
    """Write the page. Yields Progress in decoded pictures, first at zero, and at last what was written.

    Raises:
        InputError: no such table, folder or images, or the tokens were made by another model.
    """
    info = _check(job)
    panels = find_panels(job.beside or (job.table.parent if job.table.is_file() else job.table))
    tokenizer = _load(job, info) if job.pictures else None
    facts = gather_facts(job.table, info)
    thresholds = facts.thresholds
    start = facts.start()
    if job.threshold is not None and len(thresholds):
        start = int(np.abs(thresholds - job.threshold).argmin())
    sample = take_sample(job.table, info, job.most, float(thresholds[start]) if len(thresholds) else None)
    strips: list[Strip] = []
    if tokenizer is not None:
        yield from _decode(job, info, tokenizer, sample, strips)
    data = page_data(info, facts, start, sample, strips, panels)
    data |= {"table": readable(str(job.table)), "version": __version__}
    page = render(f"{readable(job.table.name)} · alit", data).encode()
    with open_output(job.out, "page", tidy=True) as file:
        file.write(page)
    yield Viewed(len(sample.rows), sample.of, sum(strip.original for strip in strips), len(page))


def _check(job: ViewJob) -> TableInfo:
    info = read_info(job.table)
    if info.tokens in column_names(job.table):
        raise InputError(f"'{readable(str(job.table))}' is a selection; name the token table that it was made from.")
    check_output(job.out, "page")
    return info


def _load(job: ViewJob, info: TableInfo) -> Tokenizer:
    tokenizer = load(job.checkpoint, job.device, info.precision)
    if tokenizer.sha256 != info.model_sha256:
        raise InputError(
            f"The tokens of '{readable(str(job.table))}' were made by the model {info.model} ({info.model_id}), not by "
            f"this one ({tokenizer.model_id}); give its file with --checkpoint, or show no pictures with --no-pictures."
        )
    return tokenizer


def _decode(
    job: ViewJob, info: TableInfo, tokenizer: Tokenizer, sample: Sample, strips: list[Strip]
) -> Iterator[Progress]:
    """Fill `strips`, one for each row of the sample."""
    rows = sample.table
    total = sum(len(rows) - rows[f"{info.tokens}_{budget}"].null_count for budget in info.budgets)
    decoded: list[list[Pixels]] = [[] for _ in sample.rows]
    yield Progress(0, total, "pictures")
    batch_size = min(job.batch_size or info.batch_size, max(len(rows), 1))
    for done, (row, _, pixels) in enumerate(decode_all(tokenizer, info, rows, batch_size), 1):
        decoded[row].append(pixels)
        yield Progress(done, total, "pictures")
    items = _originals(job, sample)
    most = min(PICTURE_BYTES // max(len(rows), 1), MOST_A_PICTURE)
    sizes = zip(rows["width"].to_pylist(), rows["height"].to_pylist(), strict=True)
    for item, size, pictures in zip(items, sizes, decoded, strict=True):
        strips.append(make_strip(read_original(item, info, size), pictures, most))


def _originals(job: ViewJob, sample: Sample) -> list[Item | None]:
    """The items of the sample's images; none where they are gone, unless the user said where they should be."""
    try:
        items = find_originals(job.table, job.images)
    except InputError:
        if job.images:
            raise
        return [None] * len(sample.rows)
    return [items[row] for row in sample.rows]
