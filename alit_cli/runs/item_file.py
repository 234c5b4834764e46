"""Items frozen in an Arrow file: written as they are found, read through a memory map, a few at a time."""

import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, overload

import numpy as np
import pyarrow as pa

from alit_cli.data.sources.items import Item, ListedItem
from alit_cli.data.sources.listing import SameName, collision
from alit_cli.data.sources.remote import is_url

COLUMNS: list[tuple[str, pa.DataType]] = [
    ("image", pa.string()),
    ("source", pa.string()),
    ("path", pa.binary()),  # the file system's bytes: a path need not be UTF-8
    ("offset", pa.int64()),
    ("size", pa.int64()),
    ("row", pa.int64()),
    ("view", pa.string()),
    ("file_size", pa.int64()),
    ("mtime_ns", pa.int64()),
]
KEPT = "keep:"
"""Begins the name of a column of kept values (JSON texts)."""
BATCH = 2**14
"""Items that are written at a time: a few MiB."""
UNKNOWN = (-1, -1)
"""The stamp of a file of which nothing is known."""


class ItemFile(Sequence[Item]):
    """The items of a plan, made one by one from an Arrow table that also says how their files looked."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    @classmethod
    def of(cls, items: Iterable[Item]) -> "ItemFile":
        """The same items, frozen in memory. Raises InputError for two of one key."""
        sink = pa.BufferOutputStream()
        write_items((ListedItem(item) for item in items), (), sink)
        return cls(pa.ipc.open_file(sink.getvalue()).read_all())

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            # A negative step is rare, so it may read every item.
            return list(self._between(start, stop))[::step] if step > 0 else [*self][index]
        index = range(len(self))[index]
        return next(self._between(index, index + 1))

    def __iter__(self) -> Iterator[Item]:
        return self._between(0, len(self))

    def listed(self) -> Iterator[ListedItem]:
        """The items with the sizes and times of their files and with their kept values."""
        kept = [name for name in self.table.column_names if name.startswith(KEPT)]
        # A few thousand rows at a time become Python objects, never all of a million items together.
        for batch in self.table.to_batches(max_chunksize=4096):
            for row in batch.to_pylist():
                item = Item(row["image"], row["source"], os.fsdecode(row["path"]), *_place(row))
                yield ListedItem(item, (row["file_size"], row["mtime_ns"]), tuple(row[name] for name in kept))

    def kept(self, start: int, stop: int) -> dict[str, list[str | None]]:
        """The kept values of the items start … stop - 1: a list of JSON texts for every name."""
        rows = self.table.slice(start, stop - start)
        names = [name for name in rows.column_names if name.startswith(KEPT)]
        return {name.removeprefix(KEPT): rows[name].to_pylist() for name in names}

    def _between(self, start: int, stop: int) -> Iterator[Item]:
        rows = self.table.slice(start, max(0, stop - start)).select([name for name, _ in COLUMNS[:7]])
        for batch in rows.to_batches(max_chunksize=4096):
            for row in batch.to_pylist():
                yield Item(row["image"], row["source"], os.fsdecode(row["path"]), *_place(row))


def _place(row: Mapping[str, Any]) -> tuple[int, int, int, str]:
    return row["offset"], row["size"], row["row"], row["view"]


def write_items(listed: Iterable[ListedItem], names: Sequence[str], sink: Any) -> str:
    """Write items into an Arrow file as they come, with the size and time of change of their files.

    Args:
        listed: the items, with values for the `names` that are kept.
        names: of the kept values.
        sink: an open binary file, or a stream of pyarrow.

    Returns: the sha256 of their names, sources, sizes, times and kept values.

    Raises:
        InputError: two items have one key.
    """
    schema = pa.schema([*COLUMNS, *[(f"{KEPT}{name}", pa.string()) for name in names]])
    # Hashes of the keys, 8 bytes each, find keys that occur twice without holding all names in memory.
    digest, hashes, rest = hashlib.sha256(), array("q"), iter(listed)
    stamp = FileStamps()
    with pa.ipc.new_file(sink, schema) as writer:
        while chunk := list(islice(rest, BATCH)):
            batch = _batch(chunk, schema, stamp)
            # A NUL ends every value, so that the same letters divided in another way have another digest.
            for name in ("image", "source", *schema.names[len(COLUMNS) :]):
                digest.update("".join(f"{value}\0" for value in batch[name].to_pylist()).encode())
            for name in ("file_size", "mtime_ns"):
                # The byte order is fixed, so that all machines of a cluster compute the same digest.
                digest.update(np.asarray(batch[name]).astype("<i8").tobytes())
            # Python salts the hash of a string in each process, so these hashes never leave this one.
            hashes.extend([hash(entry.item.image) for entry in chunk])
            writer.write_batch(batch)
    _check_unique(np.frombuffer(hashes, np.int64), sink)
    return digest.hexdigest()


def open_items(path: str) -> ItemFile:
    """The items of an Arrow file, in a memory map. Raises OSError, and pa.ArrowInvalid for a damaged file."""
    with pa.memory_map(os.fsencode(path)) as source:
        return ItemFile(pa.ipc.open_file(source).read_all())


class FileStamps:
    """Sizes and times of files; the last one is remembered, as a tar has many items."""

    def __init__(self) -> None:
        self.path: str | None = None
        self.seen = UNKNOWN

    def __call__(self, entry: ListedItem) -> tuple[int, int]:
        """UNKNOWN if the file no longer exists, or is remote and its listing gave no size and time."""
        if entry.look is not None:
            return entry.look
        if entry.item.path != self.path:
            self.path, self.seen = entry.item.path, UNKNOWN
            if not is_url(entry.item.path):
                try:
                    stat = os.stat(entry.item.path)
                    self.seen = stat.st_size, stat.st_mtime_ns
                except OSError:
                    pass
        return self.seen


def _batch(chunk: Sequence[ListedItem], schema: pa.Schema, stamp: FileStamps) -> pa.RecordBatch:
    items, stamps = [entry.item for entry in chunk], [stamp(entry) for entry in chunk]
    columns: list[list[Any]] = [
        [item.image for item in items],
        [item.source for item in items],
        [os.fsencode(item.path) for item in items],
        [item.offset for item in items],
        [item.size for item in items],
        [item.row for item in items],
        [item.view for item in items],
        [size for size, _ in stamps],
        [changed for _, changed in stamps],
    ]
    columns += [
        [entry.kept[index] if entry.kept else None for entry in chunk] for index in range(len(schema) - len(COLUMNS))
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.record_batch(arrays, schema=schema)


def _check_unique(hashes: np.ndarray, sink: Any) -> None:
    """Raises InputError where two keys of the file are equal; only keys of equal hashes are compared."""
    ordered = np.sort(hashes)
    suspects = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    if not suspects:
        return
    if isinstance(sink, pa.MockOutputStream):  # nothing was kept to compare; 64 bits hardly ever agree by chance
        raise SameName("Two images of the inputs have the same name; give the folder that holds both.")
    if isinstance(sink, pa.BufferOutputStream):
        items = ItemFile(pa.ipc.open_file(sink.getvalue()).read_all())
    else:
        sink.flush()
        items = open_items(sink.name)
    seen: dict[str, Item] = {}
    for index in np.flatnonzero(np.isin(hashes, list(suspects))).tolist():
        item = items[index]
        twin = seen.setdefault(item.image, item)
        if twin is not item:
            raise collision(twin, item)
