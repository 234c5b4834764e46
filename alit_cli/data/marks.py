"""The mark in every file that alit writes, by which it knows its own files again before it replaces one.

Each format carries the mark where its readers do not see it: Parquet and safetensors in the metadata under `alit`, PNG
as a text chunk, SVG, PDF and HTML as metadata, npz as the comment of its zip archive, tar as a comment of its global
header. A csv or jsonl file has no such place (a comment line would break `pandas.read_csv`), so the folder's
`.alit.json` lists them with their sha256. One that the user has edited since is the user's, and is not replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast, get_args

Kind = Literal[
    "token table", "selection", "score table", "analysis", "figure", "picture", "attention maps", "export", "model",
    "page", "study", "card", "working file",
]  # fmt: skip
"""What a file is. A `working file` lies in a work folder or in the cache: its folder was checked, it has no mark."""
SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "token table": (".parquet", ".pq", ""),
    "selection": (".parquet", ".pq", ".csv"),
    "score table": (".parquet", ".pq"),
    "analysis": (".csv", ".parquet"),
    "figure": (".png", ".svg", ".pdf"),
    "picture": (".png",),
    "attention maps": (".npz",),
    "export": (".jsonl", ".npz", ".tar"),
    "model": (".safetensors",),
    "page": (".html", ".htm"),
    "study": (".md", ".json", ".toml"),
    "card": (".md",),
}
"""How the name of a file of each kind may end; a name without an ending is no lie."""
LISTED = (".csv", ".jsonl")
"""Formats without a place for a mark."""
MANIFEST = ".alit.json"
NAME = "alit-output"
KEY = "alit"
"""The metadata key of Parquet and safetensors."""
MADE_FROM = "alit-made-from"
"""The text chunk of a decoded picture with the checksum of what it was made from."""
ANALYSIS_FORMAT = "alit-analysis/1"
WINDOW = 2**16
"""Bytes at either end of a file in which its mark lies."""
MOST_HEADER = 2**26
"""Bytes of a safetensors header that are read; a foreign file may claim any length."""
MOST_IMAGES = 32
"""Images that a manifest names of an analysis of images."""
# Between name and kind each format has its own few bytes: ': ', '" content="', or a NUL in a PNG.
_FOUND = re.compile(rb"alit-output.{1,20}?(" + "|".join(get_args(Kind)).encode() + rb")", re.DOTALL)


def mark_text(kind: Kind) -> str:
    """The mark as a line of text."""
    return f"{NAME}: {kind}"


def html_mark(kind: Kind) -> str:
    """The mark as an element for the head of an HTML page."""
    return f'<meta name="{NAME}" content="{kind}">'


def figure_metadata(suffix: str) -> dict[str, Any]:
    """The mark as the `metadata` of matplotlib's `savefig`, by the figure's suffix without the dot."""
    # Each format has its own list of allowed keys. Without a date, the same figure is the same file.
    by_format: dict[str, dict[str, Any]] = {
        "png": {NAME: "figure"},
        "svg": {"Description": mark_text("figure"), "Date": None},
        "pdf": {"Subject": mark_text("figure"), "CreationDate": None},
    }
    return by_format[suffix]


def png_metadata(kind: Kind, made_from: str = "") -> Any:
    """The mark as the `pnginfo` of Pillow's `save`, and the checksum of what a picture was made from, if any."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text(NAME, kind)
    if made_from:
        info.add_text(MADE_FROM, made_from)
    return info


def mark_archive(file: BinaryIO, kind: Kind) -> None:
    """Add the mark to a finished zip archive (npz), open for reading and writing, as its comment."""
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = mark_text(kind).encode()


def kind_of_file(path: str | Path) -> Kind | None:
    """The kind of a file that alit wrote; None where it carries no mark or cannot be read."""
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            head = file.read(WINDOW)
            if head.startswith(b"PAR1"):
                return _kind_of_parquet(name)
            if name.lower().endswith(".safetensors"):
                length = int.from_bytes(head[:8], "little")
                file.seek(8)
                # A safetensors file begins with the length of its JSON header, 8 bytes with the lowest first.
                header = json.loads(file.read(length)) if length <= MOST_HEADER else {}
                return "model" if KEY in header.get("__metadata__", {}) else None
            # A file may be shorter than the window.
            file.seek(-min(WINDOW, os.fstat(file.fileno()).st_size), os.SEEK_END)
            match = _FOUND.search(head) or _FOUND.search(file.read())
    except (
        OSError,
        ValueError,
        AttributeError,
        TypeError,
        RecursionError,
    ):  # of a damaged file
        return None
    return cast(Kind, match[1].decode()) if match else _kind_in_manifest(name)


def _kind_of_parquet(path: str) -> Kind | None:
    """The kind of a Parquet file, by the format that its metadata name."""
    # Only here: whoever writes pictures or figures need not wait until pyarrow is imported.
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        about = json.loads((pq.read_schema(path).metadata or {}).get(KEY.encode(), b"{}"))
        form = str(about.get("format")).partition("/")[0]
        selected = "select" in about.get("options", {})
    except (OSError, pa.ArrowException, ValueError, AttributeError, TypeError, RecursionError):
        return None
    kinds: dict[str, Kind] = {"alit": "selection" if selected else "token table", "alit-scores": "score table"}
    return {**kinds, ANALYSIS_FORMAT.partition("/")[0]: "analysis"}.get(form)


def _kind_in_manifest(path: str) -> Kind | None:
    """The kind of a file that its folder's manifest lists, if nobody has changed it since."""
    entry = read_manifest(os.path.dirname(path)).get(os.path.basename(path), {})
    return entry.get("kind") if entry and _sha256(path) in entry.get("sha256", ()) else None


@dataclass(frozen=True)
class Sources:
    """What an analysis was computed from, as a manifest says it; what is empty is not known.

    Attributes:
        runs: fingerprints of the token tables.
        models, images, folders: of an analysis that reads images instead: the id of the model, the names of some of
            the images, and the folders, tars or files that they come from, as absolute paths.
    """

    runs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()

    @classmethod
    def of_images(cls, model_id: str, images: Mapping[str, str]) -> Sources:
        """Of a model and image name → where it comes from; of many images it takes some, evenly spaced."""
        chosen = list(images)[:: -(-len(images) // MOST_IMAGES) or 1]
        return cls((), (model_id,), tuple(chosen), tuple(sorted({place(images[name]) for name in chosen})))

    @classmethod
    def of_entry(cls, entry: Mapping[str, Any]) -> Sources:
        """What an entry of a manifest says; it may be of an earlier version, or of somebody else."""
        lists = {field.name: entry[field.name] for field in fields(cls) if isinstance(entry.get(field.name), list)}
        return cls(**{name: tuple(map(str, values)) for name, values in lists.items()})

    def entry(self) -> dict[str, Any]:
        """The same for a manifest."""
        return {name: value for name, value in vars(self).items() if value}


def place(source: str) -> str:
    """A URL, and what no path can be, as it is; or the absolute path of anything else."""
    return source if "://" in source or "\0" in source else os.path.realpath(source)


def read_manifest(folder: str) -> dict[str, Any]:
    """What a folder's manifest lists: name → `kind` and `sha256`, a list of one, or of two while one is replaced."""
    try:
        with open(os.path.join(folder, MANIFEST), "rb") as file:
            files = json.load(file)["files"]
        return files if isinstance(files, dict) and all(isinstance(entry, dict) for entry in files.values()) else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def listed(
    files: Mapping[str, Any], name: str, kind: Kind, temporary: str, replaced: bool, sources: Sources
) -> dict[str, Any]:
    """The entries of a manifest with one more file, whose bytes lie at `temporary`.

    Args:
        files: the entries so far.
        replaced: the file has its name now. Before that, the sums of the old and of the new bytes are both listed, so
            that a process that is killed in between leaves a file that is still known as alit's.
        sources: what the file was computed from.
    """
    # Only the last sum: an older one is of bytes that nobody has any more.
    before = [] if replaced else files.get(name, {}).get("sha256", [])[-1:]
    return {**files, name: {"kind": kind, "sha256": [*before, _sha256(temporary)], **sources.entry()}}


def _sha256(path: str) -> str:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
    return ""
