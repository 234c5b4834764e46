"""Shards: committed whole, joined whole, and safe to be killed between any two steps."""

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alit_cli.data.sources.items import Item, ListedItem
from alit_cli.data.tables.parquet import write_table
from alit_cli.data.tables.parts import finished_shards, part_path
from alit_cli.errors import AlitError, NotFinished
from alit_cli.runs import shards
from alit_cli.runs.plan import Plan, open_plan
from alit_cli.runs.shards import commit_shard, join_shards, shard_stats

STEPS = ("replace", "fsync", "unlink", "rmdir", "makedirs")


class Killed(BaseException):
    """What a kill looks like from inside: nothing runs any more."""


def items(count: int) -> list[ListedItem]:
    return [ListedItem(Item(f"{index}.jpg", "in", "/nowhere")) for index in range(count)]


def part(start: int, stop: int) -> pa.Table:
    names = [f"{index}.jpg" for index in range(start, stop)]
    table = pa.table({"image": names, "l1_4": pa.array([float(index) for index in range(start, stop)], pa.float32())})
    return table.replace_schema_metadata({b"alit": b'{"format": "alit/1"}'})


def digest(folder: Path, index: int) -> str:
    return hashlib.sha256(Path(part_path(folder, index)).read_bytes()).hexdigest()


def run(folder: Path, plan: Plan) -> None:
    """The work of a plan from wherever it stands."""
    for shard in plan.shards():
        if shard.index not in finished_shards(folder):
            commit_shard(part(shard.start, shard.stop), folder, shard.index, {"seconds": 1.5})


def test_a_shard_counts_once_its_mark_is_there(tmp_path: Path) -> None:
    assert finished_shards(tmp_path / "nowhere") == set()
    commit_shard(part(0, 3), tmp_path, 7, {"seconds": 1.5})
    write_table(part(0, 3), part_path(tmp_path, 8))
    (tmp_path / "_part-00009.json").write_text("{}")
    assert finished_shards(tmp_path) == {7}
    assert shard_stats(tmp_path, 7) == {"rows": 3, "seconds": 1.5, "sha256": digest(tmp_path, 7)}
    assert sorted(os.listdir(tmp_path)) == [
        "_part-00007.json",
        "_part-00009.json",
        "part-00007.parquet",
        "part-00008.parquet",
    ]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 25), st.integers(1, 30))
def test_joining_is_concatenation_in_even_row_groups(
    tmp_path_factory: pytest.TempPathFactory, count: int, shard_size: int, group: int
) -> None:
    folder = tmp_path_factory.mktemp("join")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "ROW_GROUP", group)
        plan = open_plan(folder / "work", items(count), shard_size, {})
        run(folder / "work", plan)
        join_shards(folder / "work", plan, folder / "out.parquet")
    table = pq.read_table(folder / "out.parquet")
    assert table.equals(part(0, count), check_metadata=True)
    about = pq.read_metadata(folder / "out.parquet")
    sizes = [about.row_group(index).num_rows for index in range(about.num_row_groups)]
    assert sizes == [group] * (count // group) + [count % group] * (count % group > 0)
    assert os.listdir(folder) == ["out.parquet"]


def test_shards_that_are_missing_or_damaged_stop_the_join(tmp_path: Path) -> None:
    work, out = tmp_path / "work", tmp_path / "out.parquet"
    plan = open_plan(work, items(5), 2, {})
    commit_shard(part(0, 2), work, 0, {})
    with pytest.raises(NotFinished, match=r"2 of 3 shards in '.*work' are not done"):
        join_shards(work, plan, out)
    run(work, plan)
    write_table(part(2, 3), part_path(work, 1), "working file")
    with pytest.raises(AlitError, match=r"part-00001\.parquet' lacks rows"):
        join_shards(work, plan, out)
    Path(part_path(work, 1)).write_bytes(b"PAR1 nonsense PAR1")
    with pytest.raises(AlitError, match=r"part-00001\.parquet' is damaged"):
        join_shards(work, plan, out)
    assert os.listdir(tmp_path) == ["work"]
    Path(part_path(work, 1)).unlink()
    run(work, plan)
    join_shards(work, plan, out)
    assert pq.read_table(out).equals(part(0, 5))


def killer(patch: pytest.MonkeyPatch, after: int) -> Callable[[], int]:
    """Kill the process, as it were, at the step of this number: that call and all later ones fail."""
    taken = 0

    def wrap(step: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            nonlocal taken
            taken += 1
            if taken > after:
                raise Killed
            return step(*args, **options)

        return wrapped

    for name in STEPS:
        patch.setattr(os, name, wrap(getattr(os, name)))
    return lambda: taken


def test_a_kill_between_any_two_steps_loses_nothing_but_the_shard_in_hand(tmp_path: Path) -> None:
    def all_of_it(folder: Path) -> None:
        plan = open_plan(folder / "work", items(3), 2, {})
        run(folder / "work", plan)
        join_shards(folder / "work", plan, folder / "out.parquet")

    with pytest.MonkeyPatch.context() as patch:
        taken = killer(patch, 10**9)
        all_of_it(tmp_path / "unbroken")
        steps = taken()
    assert steps > 20
    for step in range(steps):
        folder = tmp_path / str(step)
        with pytest.MonkeyPatch.context() as patch:
            killer(patch, step)
            with pytest.raises(Killed):
                all_of_it(folder)
        out = folder / "out.parquet"
        assert not out.exists() or pq.read_table(out).equals(part(0, 3))
        finished = finished_shards(folder / "work") if (folder / "work" / "_plan.json").exists() else set()
        assert all(pq.read_table(part_path(folder / "work", index)).num_rows for index in finished)
        all_of_it(folder)
        assert out.read_bytes() == (tmp_path / "unbroken" / "out.parquet").read_bytes()
        assert [name for name in os.listdir(folder) if not name.endswith(".tmp")] == ["out.parquet"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_is_one_sentence_and_the_work_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    work = tmp_path / "work"
    plan = open_plan(work, items(4), 2, {})
    commit_shard(part(0, 2), work, 0, {})

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(AlitError, match=r"The disk is full: '.*part-00001\.parquet' could not be written"):
            commit_shard(part(2, 4), work, 1, {})
        assert finished_shards(work) == {0}
        assert not [name for name in os.listdir(work) if name.endswith(".tmp")]
    run(work, plan)
    join_shards(work, plan, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").equals(part(0, 4))


def test_the_mark_is_readable_json(tmp_path: Path) -> None:
    commit_shard(part(0, 1), tmp_path, 0, {"statuses": {"ok": 1}})
    mark = json.loads((tmp_path / "_part-00000.json").read_text())
    assert mark == {"rows": 1, "statuses": {"ok": 1}, "sha256": digest(tmp_path, 0)}
