"""The plan of a long job: its images in order, cut into shards, and a fingerprint that tells plans apart."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa

from alit_cli.data.atomic import atomic_file, make_folder, named_write_errors
from alit_cli.data.sources import Item, readable
from alit_cli.errors import InputError

FORMAT = 2
PLAN = "_plan.json"
ITEMS = "_plan.arrow"
RUN = "_run.json"
"""What else is needed to do a shard: written by the job whose plan this is."""
OURS = re.compile(r"_plan\.(json|arrow)|_run\.json|_part-\d+\.json|part-\d+\.parquet|.+\.tmp")
"""The names of everything that lies in a work folder; nothing else there is ever removed."""
PARTS = re.compile(r"_part-\d+\.json|part-\d+\.parquet")

COLUMNS = pa.schema(
    [
        ("image", pa.string()),
        ("source", pa.string()),
        ("path", pa.binary()),  # the file system's bytes: a path need not be UTF-8
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("row", pa.int64()),
        ("file_size", pa.int64()),
        ("mtime_ns", pa.int64()),
    ]
)


class Items(Sequence[Item]):
    """The items of a plan, made one by one from an Arrow table that also says how their files looked."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    @classmethod
    def of(cls, items: Sequence[Item]) -> "Items":
        """The same items, with the size and time of change of every file; -1 for a file that is gone."""
        looks: dict[str, tuple[int, int]] = {}
        for item in items:
            if item.path not in looks:
                looks[item.path] = _look(item.path)
        columns = [
            [item.image for item in items],
            [item.source for item in items],
            [os.fsencode(item.path) for item in items],
            [item.offset for item in items],
            [item.size for item in items],
            [item.row for item in items],
            [looks[item.path][0] for item in items],
            [looks[item.path][1] for item in items],
        ]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, COLUMNS, strict=True)]
        return cls(pa.table(arrays, schema=COLUMNS))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            return list(self._between(start, stop))[::step] if step > 0 else [*self][index]
        index = range(len(self))[index]
        return next(self._between(index, index + 1))

    def __iter__(self) -> Iterator[Item]:
        return self._between(0, len(self))

    def _between(self, start: int, stop: int) -> Iterator[Item]:
        for batch in self.table.slice(start, max(0, stop - start)).to_batches(max_chunksize=4096):
            for row in batch.to_pylist():
                path = os.fsdecode(row["path"])
                yield Item(row["image"], row["source"], path, row["offset"], row["size"], row["row"])


@dataclass(frozen=True)
class Shard:
    """The unit of work: the items start … stop - 1 of the plan."""

    index: int
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Plan:
    """Frozen work: the items in order, cut into shards of `shard_size`, and what is to be done with them.

    `options` is what else decides the result (input, model, fit, budgets, precision …), as JSON knows it.
    `fingerprint` is the sha256 of the options, the shard size and every item's name, source, file size and
    time.
    """

    items: Items
    shard_size: int
    options: Mapping[str, Any]
    fingerprint: str

    @classmethod
    def make(cls, items: Sequence[Item], shard_size: int, options: Mapping[str, Any]) -> "Plan":
        """Freeze these items and options; reads the size and time of every file."""
        frozen = Items.of(items)
        options = json.loads(json.dumps(options, sort_keys=True))
        digest = hashlib.sha256(json.dumps([shard_size, options], sort_keys=True).encode())
        for name in ("image", "source"):
            digest.update("\0".join(frozen.table[name].to_pylist()).encode())
        for name in ("file_size", "mtime_ns"):
            digest.update(np.asarray(frozen.table[name]).astype("<i8").tobytes())
        return cls(frozen, shard_size, options, digest.hexdigest())

    def shards(self) -> list[Shard]:
        """Every shard, in order; the last may be shorter."""
        starts = range(0, len(self.items), self.shard_size)
        return [
            Shard(index, start, min(start + self.shard_size, len(self.items))) for index, start in enumerate(starts)
        ]

    def save(self, folder: str | Path) -> None:
        """Write the plan into its work folder; it counts once its last file, `_plan.json`, is there."""
        with atomic_file(os.path.join(folder, ITEMS)) as file, pa.ipc.new_file(file, COLUMNS) as writer:
            writer.write_table(self.items.table)
        about = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "items": len(self.items),
            "shard_size": self.shard_size,
            "options": self.options,
        }
        with atomic_file(os.path.join(folder, PLAN)) as file:
            file.write(json.dumps(about, indent=2).encode())

    @classmethod
    def load(cls, folder: str | Path) -> "Plan":
        """Read a saved plan; its items stay in a memory map. InputError: there is none, or it is damaged."""
        name = readable(os.fspath(folder))
        try:
            with open(os.path.join(folder, PLAN), "rb") as file:
                about = json.load(file)
            if about["format"] != FORMAT:
                raise InputError(f"'{name}' is the work of another version of alit; add --overwrite to start anew.")
            with pa.memory_map(os.fsencode(os.path.join(folder, ITEMS))) as source:
                table = pa.ipc.open_file(source).read_all()
            if not table.schema.equals(COLUMNS) or table.num_rows != about["items"]:
                raise ValueError("the items do not belong to the plan")
            return cls(Items(table), about["shard_size"], about["options"], about["fingerprint"])
        except FileNotFoundError as problem:
            raise InputError(f"'{name}' holds no plan of unfinished work.") from problem
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise InputError(f"The plan in '{name}' is damaged; add --overwrite to start anew.") from problem


def open_plan(
    folder: str | Path,
    items: Sequence[Item],
    shard_size: int,
    options: Mapping[str, Any],
    overwrite: bool = False,
) -> Plan:
    """The plan for this work in its folder: a new one, or the one that lies there if it is the same.

    Work that lies there with another fingerprint raises InputError, which names what differs; `overwrite`
    removes it. A folder that holds anything else is refused, and left alone, in either case.
    """
    name = readable(os.fspath(folder))
    plan = Plan.make(items, shard_size, options)
    make_folder(folder)
    with named_write_errors(folder):
        strangers = [entry for entry in os.listdir(folder) if not OURS.fullmatch(entry)]
    if strangers:
        raise InputError(f"'{name}' holds other files (such as '{readable(strangers[0])}'); choose another --out.")
    if os.path.exists(os.path.join(folder, PLAN)) and not overwrite:
        old = Plan.load(folder)
        if old.fingerprint != plan.fingerprint:
            raise InputError(
                f"'{name}' holds unfinished work of another run ({_difference(old, plan)}); repeat that run to finish "
                "it, add --overwrite to start anew, or choose another --out."
            )
        return plan
    _remove(folder, OURS if overwrite else PARTS)  # temporary files may be those of another worker that starts now,
    plan.save(folder)  # and writes the same plan
    return plan


def remove_work(folder: str | Path) -> None:
    """Remove what alit wrote into a work folder, the plan last, and the folder if nothing else is in it."""
    _remove(folder, OURS)
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def _remove(folder: str | Path, pattern: re.Pattern[str]) -> None:
    with named_write_errors(folder):
        names = os.listdir(folder) if os.path.isdir(folder) else []
        for name in sorted(names, key=lambda name: (name == ITEMS, name == PLAN)):
            if pattern.fullmatch(name):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(folder, name))


def _look(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def _difference(old: Plan, new: Plan) -> str:
    """What tells two plans apart, in a few words."""
    was = {**old.options, "shard size": old.shard_size}
    now = {**new.options, "shard size": new.shard_size}
    words = [
        f"{key} was {json.dumps(was.get(key))}, is {json.dumps(now.get(key))}"
        for key in {**was, **now}
        if was.get(key) != now.get(key)
    ]
    before, after = (
        {row["image"]: (row["source"], row["file_size"], row["mtime_ns"]) for row in plan.items.table.to_pylist()}
        for plan in (old, new)
    )
    for names, what in (
        ([name for name in after if name not in before], "new"),
        ([name for name in before if name not in after], "gone"),
        ([name for name in after if name in before and before[name] != after[name]], "changed"),
    ):
        if names:
            count = "1 image is" if len(names) == 1 else f"{len(names)} images are"
            words.append(f"{count} {what}, such as '{names[0]}'")
    return "; ".join(words) or "the images come in another order"
