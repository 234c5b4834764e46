"""Plans: the same work gives the same plan, other work is refused with its difference, nobody's files are lost."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alit_cli.data.sources.items import Item, ListedItem
from alit_cli.data.sources.listing import list_items
from alit_cli.errors import InputError
from alit_cli.runs.item_file import ItemFile, write_items
from alit_cli.runs.plan import Plan, Shard, remove_work
from alit_cli.runs.plan import open_plan as open_found

OPTIONS: dict[str, Any] = {"model": "abc", "budgets": (8, 16), "fit": "crop", "options": {"columns": ["a", "b"]}}


def open_plan(folder: Path, items: list[Item], *rest: Any, **options: Any) -> Plan:
    return open_found(folder, (ListedItem(item) for item in items), *rest, **options)


def images(folder: Path, *names: str) -> list[Item]:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(os.fsencode(name))
        os.utime(folder / name, (1, 1))
    return list_items([folder])


def in_memory(items: list[Item], shard_size: int) -> Plan:
    """A plan that lies in no folder."""
    sink = pa.BufferOutputStream()
    digest = write_items(map(ListedItem, items), (), sink)
    return Plan(ItemFile(pa.ipc.open_file(sink.getvalue()).read_all()), shard_size, {}, digest)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 50), st.integers(1, 20))
def test_shards_cover_the_items_once_in_order(count: int, size: int) -> None:
    plan = in_memory([Item(f"{i}.jpg", "x", "/nowhere") for i in range(count)], size)
    shards = plan.shards()
    assert [index for shard in shards for index in range(shard.start, shard.stop)] == list(range(count))
    assert [shard.index for shard in shards] == list(range(len(shards)))
    assert all(shard.stop - shard.start == size for shard in shards[:-1])


def test_items_behave_like_a_list(tmp_path: Path) -> None:
    found = images(tmp_path / "in", "1.jpg", "2.jpg", "3.jpg", os.fsdecode(b"caf\xe9.jpg"))
    items = in_memory(found, 2).items
    assert len(items) == 4
    assert list(items) == found
    assert [items[index] for index in range(4)] == found
    for part in (slice(1, 3), slice(None), slice(2, 1), slice(-2, None), slice(None, None, 2), slice(None, None, -1)):
        assert items[part] == found[part]
    assert items[-1] == found[-1]
    with pytest.raises(IndexError):
        items[4]


def test_a_plan_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    found = images(tmp_path / "in", "a 😀.jpg", os.fsdecode(b"caf\xe9.jpg"))
    plan = open_found(tmp_path / "work", map(ListedItem, found), 1, OPTIONS)
    assert list(plan.items) == found
    loaded = Plan.load(tmp_path / "work")
    assert list(loaded.items) == list(plan.items)
    assert (loaded.fingerprint, loaded.shard_size, loaded.options) == (plan.fingerprint, 1, plan.options)
    assert loaded.shards() == [Shard(0, 0, 1), Shard(1, 1, 2)]
    assert [item.read() for item in loaded.items] == [item.read() for item in plan.items]


def test_the_same_work_resumes_and_keeps_its_shards(tmp_path: Path) -> None:
    items = images(tmp_path / "in", "1.jpg", "2.jpg")
    first = open_plan(tmp_path / "work", items, 1, OPTIONS)
    (tmp_path / "work" / "part-00000.parquet").write_text("done")
    again = open_plan(tmp_path / "work", list_items([tmp_path / "in"]), 1, {**OPTIONS, "budgets": [8, 16]})
    assert again.fingerprint == first.fingerprint
    assert (tmp_path / "work" / "part-00000.parquet").exists()


def test_other_work_is_refused_and_the_difference_is_named(tmp_path: Path) -> None:
    items = images(tmp_path / "in", "1.jpg", "2.jpg", "3.jpg")
    open_plan(tmp_path / "work", items, 1, OPTIONS)
    os.utime(tmp_path / "in" / "2.jpg", (2, 2))
    changed = list_items([tmp_path / "in"])
    os.utime(tmp_path / "in" / "2.jpg", (1, 1))
    for other, size, options, words in (
        (items, 1, {**OPTIONS, "model": "xyz"}, 'model was "abc", is "xyz"'),
        (items, 1, {**OPTIONS, "new": 1}, "new was null, is 1"),
        (items, 1, {**OPTIONS, "options": {"columns": ["a", "c"]}}, "(columns has gained c and lost b)"),
        (items, 1, {**OPTIONS, "options": {}}, '(columns was ["a", "b"], is null)'),
        (items, 2, OPTIONS, "shard size was 1, is 2"),
        (items[:2], 1, OPTIONS, "1 image is gone, such as '3.jpg'"),
        ([*items, Item("4.jpg", "in", "/nowhere")], 1, OPTIONS, "1 image is new, such as '4.jpg'"),
        (items[::-1], 1, OPTIONS, "another order"),
    ):
        with pytest.raises(InputError, match="--overwrite") as caught:
            open_plan(tmp_path / "work", other, size, options)
        assert words in str(caught.value)
    assert open_plan(tmp_path / "work", changed, 1, OPTIONS)
    os.utime(tmp_path / "in" / "2.jpg", (2, 2))
    with pytest.raises(InputError, match=r"1 image is changed, such as '2\.jpg'"):
        open_plan(tmp_path / "work", items, 1, OPTIONS)


def test_overwrite_starts_anew(tmp_path: Path) -> None:
    work = tmp_path / "work"
    items = images(tmp_path / "in", "1.jpg")
    open_plan(work, items, 1, OPTIONS)
    (work / "part-00000.parquet").write_text("old")
    (work / "_part-00000.json").write_text("old")
    plan = open_plan(work, items, 1, {"model": "xyz"}, overwrite=True)
    assert sorted(os.listdir(work)) == ["_plan.arrow", "_plan.json"]
    assert Plan.load(work).fingerprint == plan.fingerprint


def test_left_over_shards_without_a_plan_are_not_taken_for_new_ones(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "part-00000.parquet").write_text("old")
    (work / "_plan.arrow.1-2.tmp").write_text("half")  # or that of a worker that starts at the same time
    open_plan(work, images(tmp_path / "in", "1.jpg"), 1, OPTIONS)
    assert sorted(os.listdir(work)) == ["_plan.arrow", "_plan.arrow.1-2.tmp", "_plan.json"]
    remove_work(work)
    assert not work.exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, overwrite: bool) -> None:
    items = images(tmp_path / "in", "1.jpg")
    with pytest.raises(InputError, match=r"holds other files \(such as '1\.jpg'\)"):
        open_plan(tmp_path / "in", items, 1, OPTIONS, overwrite)
    remove_work(tmp_path / "in")
    assert os.listdir(tmp_path / "in") == ["1.jpg"]


def test_damaged_and_missing_plans_are_named(tmp_path: Path) -> None:
    work = tmp_path / "work"
    items = images(tmp_path / "in", "1.jpg")
    with pytest.raises(InputError, match="holds no plan"):
        Plan.load(work)
    open_plan(work, items, 1, OPTIONS)
    (work / "_plan.arrow").write_bytes((work / "_plan.arrow").read_bytes()[:100])
    with pytest.raises(InputError, match="damaged; add --overwrite"):
        open_plan(work, items, 1, {"model": "xyz"})
    (work / "_plan.json").write_text("{")
    with pytest.raises(InputError, match="damaged; add --overwrite"):
        open_plan(work, items, 1, OPTIONS)
    (work / "_plan.json").write_text('{"format": 99}')
    with pytest.raises(InputError, match="another version"):
        open_plan(work, items, 1, OPTIONS)
    assert open_plan(work, items, 1, OPTIONS, overwrite=True)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "work"):
        with pytest.raises(InputError, match="cannot be written"):
            open_plan(folder, images(tmp_path / "in", "1.jpg"), 1, OPTIONS)


def test_removing_work_that_is_not_there_is_fine(tmp_path: Path) -> None:
    remove_work(tmp_path / "nowhere")
    assert os.listdir(tmp_path) == []
