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


def test_a_page_that_is_damaged_but_still_decompresses_is_told_by_its_checksum(tmp_path: Path) -> None:
    images: list[dict[str, object] | bytes | None] = [png_bytes(value) for value in (1, 2)]
    table = pa.table({"image": images})
    plain = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(table, tmp_path / "x.parquet", write_page_checksum=True, **plain)
    content = bytearray((tmp_path / "x.parquet").read_bytes())
    place = content.index(b"IHDR") + 8  # one bit of the width, inside the page
    content[place] ^= 1
    (tmp_path / "x.parquet").write_bytes(content)
    pictures = [read_picture(item, 8) for item in list_items([tmp_path / "x.parquet"])]
    assert {picture.status for picture in pictures} == {"unreadable"}
    assert all(picture.error and "damaged" in picture.error for picture in pictures)


def test_columns_that_cannot_be_read_as_they_are(tmp_path: Path) -> None:
    two = pa.Table.from_arrays([pa.array([png_bytes(1)]), pa.array([png_bytes(2)])], ["image", "image"])
    pq.write_table(two, tmp_path / "two.parquet")
    with pytest.raises(InputError, match="two columns called 'image'"):
        list_items([tmp_path / "two.parquet"])
    path = pa.array([b"caf\xe9.png", b"ok.png"]).cast(pa.binary()).view(pa.string())
    image = pa.StructArray.from_arrays([pa.array([png_bytes(1), png_bytes(2)]), path], ["bytes", "path"])
    pq.write_table(pa.table({"image": image}), tmp_path / "bytes.parquet")
    items = list_items([tmp_path / "bytes.parquet"])
    assert [item.image for item in items] == ["caf\\xe9.png", "ok.png"]
    assert [read_picture(item, 8).status for item in items] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xef\xbb\xbf1.png\n2.png\n", ["1.png", "2.png"]),
        ("1.png\r\n2.png\r\n".encode("utf-16"), ["1.png", "2.png"]),
        (b"1.png\0002.png\0", "Line 1 of the list '.*' holds a NUL byte"),
        (b"\xff\xfe1", "is damaged UTF-16"),
    ],
)
def test_lists_as_other_systems_write_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, expected: list[str] | str
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path, "1.png", "2.png")
    (tmp_path / "list.txt").write_bytes(content)
    if isinstance(expected, list):
        items = list_items(["@list.txt"])
        assert [item.image for item in items] == expected
        assert [item.read() for item in items] == [b"1.png", b"2.png"]
    else:
        with pytest.raises(InputError, match=expected):
            list_items(["@list.txt"])
