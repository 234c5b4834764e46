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
PICTURES = ("overview", "first_tokens")
"""Figures of attention that show photographs, beside the sheets."""
# The page is for looking; whoever needs all rows or figures opens the files themselves.
MOST_ROWS = 200
MOST_FIGURES = 6
WIDEST = 1600
"""Pixels: a wider figure is made smaller."""
MOST_FOLDERS = 200
"""Folders below the table's that are searched for analyses, so that a table in a home folder is shown at once."""
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

    An analysis that left none there may lie in a folder of any name, up to two folders down, if the manifest beside its
    csv files says that it was computed from one of the tables.

    Args:
        tables: the token tables that are shown. An analysis of other tables, or of other images, as the manifest beside
            its csv files says, is left out; its files are the second result.

    Raises InputError where there is no such folder. A file that cannot be read is not shown.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder '{folder}'; --beside names where analyses have written.")
    strangers: list[str] = []
    # Only folders with a manifest can hold files that are known to be of these tables.
    below = [inner for inner in _folders_below(folder) if read_manifest(str(inner))] if tables else []
    panels = [_panel(topic, folder, tables, strangers, below) for topic in TOPICS]
    return [panel for panel in panels if panel.figures or panel.tables], strangers


def _folders_below(folder: Path) -> list[Path]:
    """The folders in a folder, then those in them, by name, at most MOST_FOLDERS."""
    folders = _folders_in(folder)[:MOST_FOLDERS]
    for outer in tuple(folders):
        # A folder of classes may hold a thousand folders of images, which are not even listed.
        if len(folders) == MOST_FOLDERS:
            break
        folders += _folders_in(outer)[: MOST_FOLDERS - len(folders)]
    return folders


def _folders_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:  # which tells folders from files without a question to the disk for each
            inner = [Path(entry.path) for entry in entries if entry.is_dir()]
    except OSError:  # a folder that may not be read
        return []
    # Hidden folders are not meant to be looked into, and a work folder holds no analysis.
    return sorted(path for path in inner if not path.name.startswith(".") and path.suffix != ".work")


def _panel(topic: str, folder: Path, tables: Sequence[Path], strangers: list[str], below: Sequence[Path]) -> Panel:
    outer = (folder, folder / "study")  # the analyses write to study/ unless they are told otherwise
    places = [place for each in outer for place in (each, each / topic)]
    files_of = {place: list(_files(place, topic)) for place in places}
    # A figure belongs to the tables of its topic in its folder.
    foreign = {place for place, files in files_of.items() if any(_is_foreign(path, tables) for path in files)}
    strangers += [
        str(path.relative_to(folder))
        for place in places
        if place in foreign
        for path in files_of[place]
        if _is_table(path)
    ]
    names = [path for place in places if place not in foreign for path in files_of[place]]
    # Other folders are only searched for an analysis that is not where it is expected, so that no panel is there twice.
    if not names:
        names = [path for inner in below if _holds(inner, topic, tables) for path in _files(inner, topic)]
    pictures = [path for path in names if path.suffix in {".png", ".svg"}]
    # In each folder the figures of the analysis come before its sheets, so the sheets are cut first.
    shown = pictures[:MOST_FIGURES]
    figures = [Drawing(path.name, uri, _shows_photographs(path, topic)) for path in shown if (uri := _uri(path))]
    cells = [table for path in names if _is_table(path) and not _stands_alone(path, topic) for table in _tables(path)]
    return Panel(topic, TOPICS[topic], figures, cells, max(len(pictures) - MOST_FIGURES, 0))


def _files(folder: Path, topic: str) -> Iterator[Path]:
    """The files of an analysis in a folder, then its sheets, which lie deeper."""
    patterns = [f"{topic}*"]
    # Pictures of attention do not bear its name, so they belong to it only by the folder in which they lie.
    if topic == "attention" and (folder.name == topic or (folder / f"{topic}.csv").is_file()):
        patterns += [f"{name}.*" for name in PICTURES]
        # A sheet is called as its image, with the folders of the image's name.
        patterns.append("sheets/**/*")
    for pattern in patterns:
        # Sorted names give the same page each time, whatever order the file system has.
        yield from (path for path in sorted(folder.glob(pattern)) if path.is_file())


def _holds(folder: Path, topic: str, tables: Sequence[Path]) -> bool:
    """Whether a folder's manifest says that its files of an analysis were computed from one of the tables."""
    # The files of one analysis have the same sources, which are compared with a long table only once.
    stated = {Sources.of_entry(entry) for name, entry in read_manifest(str(folder)).items() if name.startswith(topic)}
    # What a manifest is silent on may be of any table, and so may be what lies beside a table without a fingerprint.
    known = [sources for sources in stated if sources.runs or sources.images]
    marked = [table for table in tables if read_info(table).options.plan is not None]
    return any(_belongs(sources, table) for sources in known for table in marked)


def _is_table(path: Path) -> bool:
    return path.suffix == ".csv"


def _stands_alone(path: Path, topic: str) -> bool:
    """Whether a csv file is only called as an analysis: no manifest lists it, and nothing else of one lies beside it.

    A file of scores is often called `complexity.csv`.
    """
    others = [other for other in path.parent.glob(f"{topic}*") if other != path]
    return path.name not in read_manifest(str(path.parent)) and not others


def _is_foreign(path: Path, tables: Sequence[Path]) -> bool:
    """Whether the manifest says that a csv file was computed from none of these; what it is silent on may be."""
    if not _is_table(path):
        return False
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
        {path for name in names if "://" in (path := place(name)) or os.path.exists(path)}
        for names in (filter(None, folders), sources.folders)
    )
    return not missing and not (theirs and ours and theirs.isdisjoint(ours))


def _shows_photographs(path: Path, topic: str) -> bool:
    # Plots are called as their analysis, which the name of an image could be too.
    return path.parent.name == "sheets" or not path.name.startswith(topic)


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
