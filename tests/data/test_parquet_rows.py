"""Images inside Parquet files, lists, braces and standard input become items like any other."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alit_cli.data.pictures.fitting import read_picture
from alit_cli.data.sources.listing import list_items
from alit_cli.data.sources.parquet_rows import KEPT_GROUPS
from alit_cli.errors import InputError
from alit_cli.runs.item_file import ItemFile
from tests.data.inputs import make, make_tar, png_bytes, write_parquet


def test_rows_as_hugging_face_writes_them(tmp_path: Path) -> None:
    images: list[dict[str, object] | bytes | None] = [
        {"bytes": png_bytes(i), "path": f"cats/{i}.png"} for i in range(20)
    ]
    items = list_items([write_parquet(tmp_path / "train-00000.parquet", images)])
    assert [item.image for item in items] == [f"cats/{i}.png" for i in range(20)]
    with ThreadPoolExecutor(4) as pool:
        pictures = list(pool.map(lambda item: read_picture(item, 8), reversed(items)))
    assert [picture.pixels[0, 0, 0] for picture in pictures if picture.pixels is not None] == [*reversed(range(20))]
    assert len(items) > 3 * KEPT_GROUPS
    assert list(ItemFile.of(items)) == items


def test_plain_bytes_are_numbered_and_an_empty_row_is_a_status(tmp_path: Path) -> None:
    items = list_items([write_parquet(tmp_path / "b.parquet", [png_bytes(1), None, png_bytes(3)], "jpg", group=2)])
    assert [item.image for item in items] == ["b/0", "b/1", "b/2"]
    assert [read_picture(item, 8).status for item in items] == ["ok", "empty", "ok"]


def test_structs_without_paths_are_numbered(tmp_path: Path) -> None:
    items = list_items([write_parquet(tmp_path / "c.parquet", [{"bytes": png_bytes(1), "path": None}])])
    assert [item.image for item in items] == ["c/0"]


def test_a_parquet_without_images_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"no column of encoded images.*a, b"):
        list_items([tmp_path / "x.parquet"])
    (tmp_path / "y.parquet").write_text("no")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        list_items([tmp_path / "y.parquet"])


def test_braces_name_shards(tmp_path: Path) -> None:
    for number in range(3):
        make_tar(tmp_path / f"shard-{number:03d}.tar", f"{number}.jpg", f"{number}.json")
    found = [item.image for item in list_items([f"{tmp_path}/shard-{{000..002}}.tar"])]
    assert found == ["0.jpg", "1.jpg", "2.jpg"]
    with pytest.raises(InputError, match=r"shard-003\.tar' does not exist"):
        list_items([f"{tmp_path}/shard-{{000..003}}.tar"])
    make(tmp_path, "{odd}/a.jpg")
    assert [item.image for item in list_items([tmp_path / "{odd}"])] == ["a.jpg"]


def test_lists_keep_the_names_that_they_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a/1.jpg", "b/1.jpg", "c d/ü.jpg")
    monkeypatch.chdir(tmp_path)
    lines = ["a/1.jpg", "./b/1.jpg", "", "c d/ü.jpg", f"{tmp_path}/a/1.jpg"]
    (tmp_path / "list.txt").write_text("\r\n".join(lines), encoding="utf-8")
    items = list_items(["@list.txt"])
    assert [item.image for item in items][:3] == ["a/1.jpg", "b/1.jpg", "c d/ü.jpg"]
    assert items[3].image == f"{tmp_path}/a/1.jpg".lstrip("/")
    assert items[0].path == str(tmp_path / "a" / "1.jpg")
    with pytest.raises(InputError, match=r"list 'no\.txt' cannot be read"):
        list_items(["@no.txt"])


@pytest.mark.parametrize(("null", "end"), [(False, b"\n"), (True, b"\0")])
def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, null: bool, end: bytes) -> None:
    make(tmp_path, "a/1.jpg", "b/2.jpg")
    monkeypatch.chdir(tmp_path)
    reading, writing = os.pipe()
    os.write(writing, end.join([b"a/1.jpg", b"b/2.jpg", b""]))
    os.close(writing)
    with open(reading) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert [item.image for item in list_items(["-"], null=null)] == ["a/1.jpg", "b/2.jpg"]
    with pytest.raises(InputError, match="-0"):
        list_items([tmp_path], null=True)
