"""Tables and figures of other commands that lie beside a token table, made ready for the page."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow.compute as pc
from PIL import Image

from alit_cli.data.marks import Sources, place, read_manifest
from alit_cli.data.tables.parquet import column_names, stream_columns
from alit_cli.data.tables.token_table import read_info
from alit_cli.errors import InputError

TOPICS = {
    "complexity": "Complexity",
    "capacity": "Capacity",
    "familiarity": "Familiarity",
    "strength": "Strength",
    "quality": "Quality",
    "comparison": "Tokenizers compared",
    "attention": "Attention",
    "probe": "Probe",
}
"""How the files of an analysis begin, and the heading they get; in the order of the page."""
# The page is for looking; whoever needs all rows or figures opens the files themselves.
MOST_ROWS = 200
MOST_FIGURES = 6
WIDEST = 1600
"""Pixels: a wider figure is made smaller."""
# Six figures of each of eight analyses take about half of the page's 14 MB at this size.
MOST_BYTES = 180_000
# WebP qualities are tried in this order, and the first one that is small enough is taken.
QUALITIES = (90, 75, 55, 35)


@dataclass(frozen=True)
class Table:
    """A csv file: texts, at most MOST_ROWS rows of them out of `rows`."""

    name: str
    columns: list[str]
    cells: list[list[str]]
    rows: int


@dataclass(frozen=True)
class Drawing:
    """A figure as a data URI; one of photographs keeps its colours on a dark page."""

    name: str
    uri: str
    photographs: bool


@dataclass(frozen=True)
class Panel:
    """What one analysis left: figures, tables, and how many further figures there are."""

    topic: str
    title: str
    figures: list[Drawing] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    left_out: int = 0


def find_panels(folder: Path, tables: Sequence[Path] = ()) -> tuple[list[Panel], list[str]]:
    """The panels of every analysis that left csv, png or svg files in a folder or its `study/`, or in one of its name.

    Args:
        tables: the token tables that are shown. An analysis of other tables, or of other images, as the manifest beside
            its csv files says, is left out; its files are the second result.

    Raises InputError where there is no such folder. A file that cannot be read is not shown.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder '{folder}'; --beside names where analyses have written.")
    strangers: list[str] = []
    panels = [_panel(topic, folder, tables, strangers) for topic in TOPICS]
    return [panel for panel in panels if panel.figures or panel.tables], strangers


def _panel(topic: str, folder: Path, tables: Sequence[Path], strangers: list[str]) -> Panel:
    folders = (folder, folder / "study")  # the analyses write to study/ unless they are told otherwise
    patterns = (f"{topic}*", f"{topic}/{topic}*", f"{topic}/sheets/*")
    # Sorted names give the same page each time, whatever order the file system has.
    places = (sorted(folder.glob(pattern)) for folder in folders for pattern in patterns)
    names = [path for place in places for path in place if path.is_file()]
    # A figure belongs to the tables of its topic in its folder; sheets lie one folder deeper.
    foreign = {path.parent for path in names if path.suffix == ".csv" and _is_foreign(path, tables)}
    strangers += [str(path.relative_to(folder)) for path in names if path.suffix == ".csv" and path.parent in foreign]
    names = [path for path in names if path.parent not in foreign and path.parent.parent not in foreign - {folder}]
    pictures = [path for path in names if path.suffix in {".png", ".svg"}]
    # In each folder the figures of the analysis come before its sheets, so the sheets are cut first.
    shown = pictures[:MOST_FIGURES]
    figures = [Drawing(path.name, uri, _shows_photographs(path)) for path in shown if (uri := _uri(path))]
    cells = [table for path in names if path.suffix == ".csv" for table in _tables(path)]
    return Panel(topic, TOPICS[topic], figures, cells, max(len(pictures) - MOST_FIGURES, 0))


def _is_foreign(path: Path, tables: Sequence[Path]) -> bool:
    """Whether the manifest says that a csv file was computed from none of these; what it is silent on may be."""
    sources = Sources.of_entry(read_manifest(str(path.parent)).get(path.name, {}))
    return bool(tables) and not any(_belongs(sources, table) for table in tables)


def _belongs(sources: Sources, table: Path) -> bool:
    """Whether an analysis may be of a token table."""
    info = read_info(table)
    # A table of an earlier version has no fingerprint, and then no analysis of tables is taken for a foreign one.
    if sources.runs:
        return info.options.plan is None or info.options.plan in sources.runs
    if not sources.images:
        return True
    if sources.models != (info.model_id,):
        return False
    # An analysis of images may be of fewer of them than the table has, yet of no others.
    missing = set(sources.images)
    folders: set[str | None] = set()
    columns = ["image", *({"source"} & set(column_names(table)))]
    for batch in stream_columns(table, columns):
        missing.difference_update(batch["image"].to_pylist())
        folders.update(pc.unique(batch[columns[-1]]).to_pylist() if columns[1:] else ())
    # Images of two folders often have the same names. A folder that has been moved since cannot be told from another.
    theirs, ours = (
        {found for name in names if "://" in (found := place(name)) or os.path.exists(found)}
        for names in (filter(None, folders), sources.folders)
    )
    return not missing and not (theirs and ours and theirs.isdisjoint(ours))


def _shows_photographs(path: Path) -> bool:
    return path.parent.name == "sheets" or path.stem in ("overview", "first_tokens")


def _uri(path: Path) -> str | None:
    """A figure as a data URI of at most about MOST_BYTES; None where it is damaged or cannot be made so small."""
    content = path.read_bytes()
    if path.suffix == ".svg":
        # An SVG cannot be made smaller as a picture can, so it may take twice as much before it is left out.
        small = len(content) <= 2 * MOST_BYTES
        return f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}" if small else None
    try:
        # Only PNG is allowed, because other formats of an unknown file have no business here.
        with Image.open(io.BytesIO(content), formats=["PNG"]) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    if len(content) <= MOST_BYTES:
        return f"data:image/png;base64,{base64.b64encode(content).decode()}"
    # Sheets of attention are long, so the height is nearly free.
    picture.thumbnail((WIDEST, 4 * WIDEST))
    for quality in QUALITIES:
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=quality)
        if buffer.tell() <= MOST_BYTES:
            break
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _tables(path: Path) -> Iterator[Table]:
    try:
        # Everything is read as text, so that a number is shown with the digits that the file has.
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, OSError):  # what pandas says of an empty, foreign or broken file
        return
    cells = frame.head(MOST_ROWS).map(_short).to_numpy().tolist()
    yield Table(path.name, [str(name) for name in frame.columns], cells, len(frame))


def _short(text: str) -> str:
    """A number with four digits that matter; any other text as it is."""
    if "." not in text:
        return text
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text
