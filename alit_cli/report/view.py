"""`alit view`: token tables as one page to look at, with everything that is known about their images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alit_cli import __version__
from alit_cli.analysis.query.tables import Tables
from alit_cli.data.files import check_output, open_output, readable
from alit_cli.data.pictures.fitting import Pixels
from alit_cli.data.sources.items import Item
from alit_cli.data.tables.originals import find_originals
from alit_cli.data.tables.parquet import column_names, count_rows
from alit_cli.data.tables.token_table import TableInfo, read_info
from alit_cli.errors import InputError
from alit_cli.model.tokenizer import Tokenizer, load
from alit_cli.progress import Progress
from alit_cli.report.columns import Numbers, read_numbers, start_of
from alit_cli.report.content import panel_data, picture_data, table_data
from alit_cli.report.facts import gather_facts
from alit_cli.report.page import render
from alit_cli.report.panels import Panel, find_panels
from alit_cli.report.sample import Sample, take_sample
from alit_cli.report.sprites import Sprite, decode_all, make_sprite, read_original

PAGE_BYTES = 14_000_000
"""What a page may take, a little below the 15 MB that mail and chat programs still carry."""
LEAST_PICTURE_BYTES = 4_000_000
"""What the pictures get even where numbers and figures have taken most of a page."""
# With few images there would be room for more, but nobody would see the difference.
MOST_SPRITE_BYTES = 150_000


@dataclass(frozen=True)
class ViewJob:
    """What to show.

    Attributes:
        tables: token tables, each a file or a folder of parts; the page switches between them.
        out: the HTML file.
        images: where the originals lie now; empty: where the tables say.
        most: images with pictures at the most, of all tables together.
        threshold: the L1 that the page starts with; None lets the data decide.
        beside: the folder whose tables and figures are added; None is the first table's.
        scores: the folder of score tables; None: `scores`, as for every command.
        own: further tables with a column per budget or per image.
        pictures: False decodes nothing and needs no model.
        checkpoints: model files, each for the tables that it made; empty is the embedded model.
        device, batch_size: as the options; None takes the batch size of the table.
    """

    tables: tuple[Path, ...]
    out: Path
    images: tuple[str, ...] = ()
    most: int = 200
    threshold: float | None = None
    beside: Path | None = None
    scores: Path | None = None
    own: tuple[Path, ...] = ()
    pictures: bool = True
    checkpoints: tuple[str, ...] = ()
    device: str = "auto"
    batch_size: int | None = None


@dataclass(frozen=True)
class Viewed:
    """What was written: images shown of all that have tokens, how many with their original, bytes of the page.

    `remarks` are sentences about what was left out.
    """

    shown: int
    of: int
    originals: int
    size: int
    remarks: tuple[str, ...] = ()


@dataclass
class _Table:
    """One table while the page is made; `sprites` is filled last."""

    path: Path
    info: TableInfo
    numbers: Numbers
    sample: Sample
    data: dict[str, Any]
    sprites: list[Sprite] = field(default_factory=list)


def make_view(job: ViewJob) -> Iterator[Progress | Viewed]:
    """Write the page. Yields Progress in decoded pictures, first at zero, and at last what was written.

    Raises:
        InputError: no such table, folder or images, or the tokens were made by another model.
    """
    infos = [_check(path, job.out) for path in job.tables]
    first = job.tables[0]
    panels, strangers = find_panels(job.beside or (first.parent if first.is_file() else first), job.tables)
    # The models are loaded before the tables are read, so that a wrong checkpoint is told at once.
    models = _load(job, infos) if job.pictures else {}
    remarks: list[str] = []
    tables = [_read(job, path, info, remarks) for path, info in zip(job.tables, infos, strict=True)]

    # Numbers and figures are there already; pictures are made as fine as the rest of the page allows.
    rest = sum(len(json.dumps(table.data)) for table in tables) + len(json.dumps(panel_data(panels)))
    room = max(PAGE_BYTES - rest, LEAST_PICTURE_BYTES) * 3 // 4  # base64 turns 3 bytes into 4
    shown = sum(len(table.sample.rows) for table in tables)
    for table in tables:
        if table.info.model_sha256 in models:
            tokenizer = models[table.info.model_sha256]
            # Every picture gets an equal part of the room, so it does not matter which table comes first.
            yield from _decode(job, table, tokenizer, min(room // max(shown, 1), MOST_SPRITE_BYTES))

    page = _render(tables, panels, strangers).encode()
    with open_output(job.out, "page", tidy=True) as file:
        file.write(page)
    of = sum(table.numbers.of for table in tables)
    originals = sum(sprite.original for table in tables for sprite in table.sprites)
    # Several tables may have the same remark, and it is said once.
    yield Viewed(shown, of, originals, len(page), tuple(dict.fromkeys(remarks)))


def _check(path: Path, out: Path) -> TableInfo:
    info = read_info(path)
    # A selection has one column of tokens, while a token table has one per budget.
    if info.tokens in column_names(path):
        raise InputError(f"'{readable(str(path))}' is a selection; name the token table that it was made from.")
    check_output(out, "page")
    if not count_rows(path):
        raise InputError(f"'{readable(str(path))}' has no rows, so there is nothing to show.")
    return info


def _load(job: ViewJob, infos: Sequence[TableInfo]) -> dict[str, Tokenizer]:
    """The model of every table by its sha256; each file is read once."""
    # The pictures are decoded as the first table was made; a page has one precision for all its models.
    precision = infos[0].precision
    files: Sequence[str | None] = job.checkpoints or (None,)
    models = {tokenizer.sha256: tokenizer for tokenizer in (load(file, job.device, precision) for file in files)}
    for path, info in zip(job.tables, infos, strict=True):
        if info.model_sha256 not in models:
            others = ", ".join(tokenizer.model_id for tokenizer in models.values())
            raise InputError(
                f"The tokens of '{readable(str(path))}' were made by the model {info.model} ({info.model_id}), not by "
                f"this one ({others}); give its file with --checkpoint, or show no pictures with --no-pictures."
            )
    return models


def _read(job: ViewJob, path: Path, info: TableInfo, remarks: list[str]) -> _Table:
    """Everything about a table but its pictures."""
    tables = Tables(path, job.scores, job.own)
    left_out = [foreign.sentence for foreign in tables.foreign]
    facts = gather_facts(path, info)
    numbers = read_numbers(tables, facts.ok, share=len(job.tables))
    start = start_of(numbers, job.threshold, info.stop)
    sample = take_sample(path, info, numbers, max(job.most // len(job.tables), 1), start)
    remarks += [*left_out, *tables.remarks]
    return _Table(path, info, numbers, sample, table_data(path, info, facts, numbers, start, left_out))


def _decode(job: ViewJob, table: _Table, tokenizer: Tokenizer, most: int) -> Iterator[Progress]:
    """Fill the sprites of a table, each of at most `most` bytes."""
    info, tokens, sample = table.info, table.sample.tokens, table.sample
    # A null means that the image's run had stopped before this budget, so nothing is decoded there.
    total = sum(len(tokens) - tokens[f"{info.tokens}_{budget}"].null_count for budget in info.budgets)
    decoded: list[list[Pixels]] = [[] for _ in sample.rows]
    yield Progress(0, total, "pictures")
    # A batch of more pictures than there are would only take memory.
    batch_size = min(job.batch_size or info.batch_size, max(len(tokens), 1))
    for done, (row, _, pixels) in enumerate(decode_all(tokenizer, info, tokens, batch_size), 1):
        decoded[row].append(pixels)
        yield Progress(done, total, "pictures")
    sizes = table.numbers.sizes[sample.places].tolist()
    for item, (width, height), pictures in zip(_originals(job, table), sizes, decoded, strict=True):
        table.sprites.append(make_sprite(read_original(item, info, (width, height)), pictures, most))


def _originals(job: ViewJob, table: _Table) -> list[Item | None]:
    """The items of the sample's images; none where they are gone, unless the user said where they should be."""
    try:
        items = find_originals(table.path, job.images)
    except InputError:
        # The user said where the originals are, so an error there is the user's to know.
        if job.images:
            raise
        return [None] * len(table.sample.rows)
    return [items[row] for row in table.sample.rows]


def _render(tables: Sequence[_Table], panels: Sequence[Panel], strangers: Sequence[str]) -> str:
    names = ", ".join(readable(table.path.name) for table in tables)
    shown = [table.data | {"pictures": picture_data(table.info, table.sample, table.sprites)} for table in tables]
    return render(
        f"{names} · alit",
        {"version": __version__, "tables": shown, "panels": panel_data(panels), "strangers": strangers},
    )
