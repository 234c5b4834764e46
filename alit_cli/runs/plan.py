"""The plan of a long job: its images in order, cut into shards, and a fingerprint that tells plans apart."""

import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from alit_cli.data.files import make_folder, named_write_errors, open_output, readable
from alit_cli.data.sources.extra_columns import ExtraColumns
from alit_cli.data.sources.items import Item, ListedItem
from alit_cli.data.sources.listing import NO_EXTRA_COLUMNS
from alit_cli.data.tables.parts import PLAN
from alit_cli.errors import InputError
from alit_cli.runs.item_file import ItemFile, open_items, write_items

FORMAT = 3
"""Of the files of a plan; work of another format cannot be resumed."""
ITEMS = "_plan.arrow"
COPIES = re.compile(r"_copy-[0-9a-f]+")
PARTS = re.compile(r"_part-\d+\.json|part-\d+\.parquet")
MADE = re.compile(rf"{PARTS.pattern}|_plan\.(json|arrow)|_run\.json|.+\.tmp")
"""What a run makes again when it starts over."""
OURS = re.compile(rf"{MADE.pattern}|{COPIES.pattern}")
"""The names of everything that lies in a work folder; nothing else there is ever removed."""
MAX_COMPARED = 200_000
"""Items of two plans that are compared one by one to name a difference; more would take minutes and gigabytes."""


@dataclass(frozen=True)
class Shard:
    """The unit of work: the items start … stop - 1 of the plan."""

    index: int
    start: int
    stop: int

    @property
    def images(self) -> int:
        """How many items it has."""
        return self.stop - self.start


@dataclass(frozen=True, eq=False)
class Plan:
    """Frozen work: the items in order, cut into shards of `shard_size`, and what is to be done with them.

    `options` is what else decides the result (input, model, fit, budgets, precision …), as JSON knows it.
    `fingerprint` is the sha256 of the options, the shard size and every item's name, source, file size, time
    and kept values.
    """

    items: ItemFile
    shard_size: int
    options: Mapping[str, Any]
    fingerprint: str

    def shards(self) -> list[Shard]:
        """Every shard, in order; the last may be shorter."""
        return [self.shard(index) for index in range(-(-len(self.items) // self.shard_size))]

    def shard(self, index: int) -> Shard:
        """One shard."""
        start = index * self.shard_size
        return Shard(index, start, min(start + self.shard_size, len(self.items)))

    @classmethod
    def in_memory(cls, items: Iterable[Item], options: Mapping[str, Any]) -> "Plan":
        """A plan of one shard that lies in no folder and has no fingerprint, to try out a few items."""
        item_file = ItemFile.of(items)
        return cls(item_file, max(1, len(item_file)), options, "")

    def save_about(self, folder: str | Path) -> None:
        """Write `_plan.json` into a work folder where the items lie already; the plan counts once it is there."""
        about = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "items": len(self.items),
            "shard_size": self.shard_size,
            "options": self.options,
        }
        with open_output(os.path.join(folder, PLAN), "working file") as file:
            file.write(json.dumps(about, indent=2).encode())

    @classmethod
    def load(cls, folder: str | Path) -> "Plan":
        """Read a saved plan; its items stay in a memory map. InputError: there is none, or it is damaged."""
        name = readable(os.fspath(folder))
        try:
            with open(os.path.join(folder, PLAN), "rb") as file:
                about = json.load(file)
            if about["format"] != FORMAT:
                raise InputError(f"'{name}' is the work of another version of alit; add --overwrite to start again.")
            items = open_items(os.path.join(folder, ITEMS))
            if len(items) != about["items"]:
                raise ValueError("the items do not belong to the plan")
            return cls(items, about["shard_size"], about["options"], about["fingerprint"])
        except FileNotFoundError as problem:
            raise InputError(f"'{name}' holds no plan of unfinished work.") from problem
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise InputError(f"The plan in '{name}' is damaged; add --overwrite to start again.") from problem


def open_plan(
    folder: str | Path,
    listed: Iterable[ListedItem],
    shard_size: int,
    options: Mapping[str, Any],
    overwrite: bool = False,
    extra_columns: ExtraColumns = NO_EXTRA_COLUMNS,
    files_may_differ: bool = False,
) -> Plan:
    """The plan for this work in its folder: a new one, or the one that lies there if it is the same.

    The items are written to disk as they are found, so that millions of them need no memory.

    Args:
        folder: the work folder. A folder that holds files of anybody else is refused, and left alone.
        listed: the items, in order.
        shard_size: items per shard.
        options: what else decides the result, as JSON knows it.
        overwrite: remove the work of another run.
        extra_columns: what is carried along; its types join the options under `keep`, as they are known at the end.
        files_may_differ: sizes and times of files may have changed since the plan was made, which renews the plan and
            keeps its finished shards.

    Raises:
        InputError: work with another fingerprint lies there; the sentence names what differs.
    """
    make_folder(folder)
    check_folder(folder)
    plan_path, items_path = os.path.join(folder, PLAN), os.path.join(folder, ITEMS)
    try:
        with _new_plan(folder, listed, shard_size, options, extra_columns) as (temporary, plan):
            if os.path.exists(plan_path) and not overwrite:
                old = Plan.load(folder)
                if old.fingerprint == plan.fingerprint:
                    return old
                if not (files_may_differ and _only_files_differ(old, plan)):
                    raise InputError(_why_refused(folder, old, plan))
            else:
                # Parts without a plan are left over from a removal that was killed. Temporary files are kept: they may
                # be those of another worker that starts at this moment and writes the same plan.
                _remove(folder, MADE if overwrite else PARTS, spared=os.path.basename(temporary))
            os.replace(temporary, items_path)
            plan.save_about(folder)  # last, as the plan counts once this file is there
            return plan
    finally:
        with contextlib.suppress(OSError):  # of a run that never began, nothing stays
            os.rmdir(folder)


def renew_plan(
    folder: str | Path,
    listed: Iterable[ListedItem],
    shard_size: int,
    options: Mapping[str, Any],
    extra_columns: ExtraColumns,
) -> None:
    """Put another plan into a folder whose shards stay: the items have changed, their rows have been done again."""
    with _new_plan(folder, listed, shard_size, options, extra_columns) as (temporary, plan):
        os.replace(temporary, os.path.join(folder, ITEMS))
        plan.save_about(folder)


@contextlib.contextmanager
def _new_plan(
    folder: str | Path,
    listed: Iterable[ListedItem],
    shard_size: int,
    options: Mapping[str, Any],
    extra_columns: ExtraColumns,
) -> Iterator[tuple[str, Plan]]:
    """A new plan whose items lie in a temporary file, which is removed at the end if it is still there."""
    # Several workers may write the same plan at once, so each writes into a temporary file of its own.
    temporary = os.path.join(folder, f"{ITEMS}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with named_write_errors(folder), open(temporary, "xb") as file:
            digest = write_items(listed, extra_columns.names, file)
            file.flush()
            # The items must be on disk before the plan says that they are there.
            os.fsync(file.fileno())
        options = _plain(_with_types(options, extra_columns))
        yield temporary, Plan(open_items(temporary), shard_size, options, fingerprint_of(digest, shard_size, options))
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def fingerprint(
    listed: Iterable[ListedItem],
    shard_size: int,
    options: Mapping[str, Any],
    extra_columns: ExtraColumns = NO_EXTRA_COLUMNS,
) -> str:
    """The fingerprint that open_plan would give these items; nothing is written or held."""
    digest = write_items(listed, extra_columns.names, pa.MockOutputStream())
    return fingerprint_of(digest, shard_size, _with_types(options, extra_columns))


def _with_types(options: Mapping[str, Any], extra_columns: ExtraColumns) -> Mapping[str, Any]:
    """Options, and the types of what was kept, which are known once everything has been found."""
    return {**options, "keep": extra_columns.types()} if extra_columns.names else options


def fingerprint_of(digest: str, shard_size: int, options: Mapping[str, Any]) -> str:
    """The fingerprint of a plan whose items have this digest."""
    return hashlib.sha256(json.dumps([digest, shard_size, options], sort_keys=True).encode()).hexdigest()


def check_folder(folder: str | Path) -> None:
    """Raises InputError: the folder holds files that are not alit's."""
    with named_write_errors(folder):
        strangers = [entry for entry in os.listdir(folder) if not OURS.fullmatch(entry)]
    if strangers:
        name, example = readable(os.fspath(folder)), readable(strangers[0])
        raise InputError(f"'{name}' holds other files (such as '{example}'); choose another --out.")


def _only_files_differ(old: Plan, new: Plan) -> bool:
    """Whether two plans name the same images in the same order, to the same end."""
    same_options = (old.options, old.shard_size) == (new.options, new.shard_size)
    return same_options and all(old.items.table[name].equals(new.items.table[name]) for name in ("image", "source"))


def _why_refused(folder: str | Path, old: Plan, new: Plan) -> str:
    """What to do about a plan that lies where another one should."""
    return (
        f"'{readable(os.fspath(folder))}' holds unfinished work of another run ({_difference(old, new)}); repeat "
        "that run to finish it, add --overwrite to start again, or choose another --out."
    )


def remove_work(folder: str | Path) -> None:
    """Remove what alit wrote into a work folder, the plan last, and the folder if nothing else is in it."""
    _remove(folder, OURS)
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def remove_copies(folder: str | Path) -> None:
    """Remove the copies of remote files from a work folder."""
    _remove(folder, COPIES)


def _remove(folder: str | Path, pattern: re.Pattern[str], spared: str = "") -> None:
    with named_write_errors(folder):
        names = os.listdir(folder) if os.path.isdir(folder) else []
        # The plan goes last: as long as it is there, what is left of the folder is known to be work of alit.
        for name in sorted(names, key=lambda name: (name == ITEMS, name == PLAN)):
            if pattern.fullmatch(name) and name != spared:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(folder, name))


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON gives them back."""
    plain: dict[str, Any] = json.loads(json.dumps(options, sort_keys=True))
    return plain


def _change(key: str, was: Any, now: Any) -> str:
    """How one option differs; of two lists of names, only what one of them lacks."""
    if isinstance(was, list) and isinstance(now, list) and all(isinstance(value, str) for value in was + now):
        changes = {"gained": set(now) - set(was), "lost": set(was) - set(now)}
        named = [f"{what} {', '.join(sorted(names))}" for what, names in changes.items() if names]
        return f"{key} has {' and '.join(named) or 'another order'}"
    return f"{key} was {json.dumps(was)}, is {json.dumps(now)}"


def _difference(old: Plan, new: Plan) -> str:
    """What tells two plans apart, in a few words."""
    # The options of a table are nested in its description; each of them is compared by itself.
    was, now = (
        {**plan.options, **plan.options.get("options", {}), "options": None, "shard size": plan.shard_size}
        for plan in (old, new)
    )
    words = [_change(key, was.get(key), now.get(key)) for key in {**was, **now} if was.get(key) != now.get(key)]
    if max(len(old.items), len(new.items)) > MAX_COMPARED:
        return "; ".join(words) or "the images are others, have changed, or come in another order"
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
