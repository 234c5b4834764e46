"""Rows are read by number, and their images are found again."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alit_cli.data.sources import remote
from alit_cli.data.sources.listing import list_items
from alit_cli.data.tables.originals import find_originals
from alit_cli.data.tables.parquet import KEY, read_rows
from alit_cli.errors import InputError
from tests.analysis.tables import info


def _table(path: Path, images: list[str], source: str) -> Path:
    rows = pa.table({"image": images, "source": [source] * len(images)})
    pq.write_table(rows.replace_schema_metadata({KEY: info().to_json().encode()}), path)
    return path


def test_rows_by_number_across_row_groups_and_parts(tmp_path: Path) -> None:
    whole = pa.table({"n": range(23), "text": [str(n) for n in range(23)]})
    pq.write_table(whole.slice(0, 11), tmp_path / "a.parquet", row_group_size=4)
    pq.write_table(whole.slice(11), tmp_path / "b.parquet", row_group_size=5)
    for start, stop in ((0, 23), (3, 5), (4, 8), (10, 12), (9, 22), (22, 23)):
        assert read_rows(tmp_path, ["n"], range(start, stop))["n"].to_pylist() == list(range(start, stop))
    assert read_rows(tmp_path, ["n"], [0, 4, 10, 11, 22])["n"].to_pylist() == [0, 4, 10, 11, 22]
    assert read_rows(tmp_path, ["n"], [])["n"].to_pylist() == []


def test_images_below_their_source_or_wherever_they_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.png", "b/1.png", "b/2.png"):
        (tmp_path / "old" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "old" / name).touch()
    table = _table(tmp_path / "t.parquet", ["b/2.png", "a/1.png", "gone.png"], "old")
    items = find_originals(table)
    assert [item.path for item in items] == [
        str(tmp_path / "old" / name) for name in ("b/2.png", "a/1.png", "gone.png")
    ]
    assert [item.image for item in items] == ["b/2.png", "a/1.png", "gone.png"]
    (tmp_path / "old").rename(tmp_path / "deep")
    with pytest.raises(InputError, match="--images"):
        find_originals(table)
    (tmp_path / "new").mkdir()
    (tmp_path / "deep").rename(tmp_path / "new" / "deep")
    items = find_originals(table, ["new"])
    assert [Path(item.path).exists() for item in items] == [True, True, False]
    assert items[0].path == str(tmp_path / "new" / "deep" / "b" / "2.png")
    with pytest.raises(InputError, match=r"t\.parquet.* has no rows"):
        find_originals(_table(tmp_path / "t.parquet", [], "old"))


@pytest.mark.parametrize("place", [".", "study"])
def test_images_are_found_again_from_another_folder(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    for folder in ("photos", "study", "elsewhere"):
        (work / folder).mkdir(parents=True)
    (work / "photos" / "1.png").touch()
    table = _table(work / place / "t.parquet", ["1.png"], "photos")
    monkeypatch.chdir(work / "elsewhere")
    assert [item.path for item in find_originals(table)] == [str(work / "photos" / "1.png")]
    assert [item.source for item in find_originals(table)] == ["photos"]
    # What lies where we are comes first, as it did when the table was made.
    (work / "elsewhere" / "photos").mkdir()
    (work / "elsewhere" / "photos" / "1.png").touch()
    assert [item.path for item in find_originals(table)] == [str(work / "elsewhere" / "photos" / "1.png")]


def test_originals_of_inputs_that_lent_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one/0.png", "two/0.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(name)
    listed = list_items([str(tmp_path / "one"), str(tmp_path / "two")])
    assert [item.image for item in listed] == ["one/0.png", "two/0.png"]
    table = pa.table({"image": [item.image for item in listed], "source": [item.source for item in listed]})
    pq.write_table(table.replace_schema_metadata({KEY: info().to_json().encode()}), tmp_path / "t.parquet")
    assert [item.read() for item in find_originals(tmp_path / "t.parquet")] == [b"one/0.png", b"two/0.png"]


@pytest.mark.parametrize("source", ["s3://bucket/x", "http://127.0.0.1:9/x.tar", "file:///etc", "reference://x"])
def test_an_address_that_a_table_names_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    def opened(*_: object) -> None:
        raise AssertionError("the table made alit open an address")

    monkeypatch.setattr(remote, "_open_system", opened)
    table = _table(tmp_path / "t.parquet", ["passwd", "1.png"], source)
    with pytest.raises(InputError, match=f"not opened by itself; name it with --images {source}"):
        find_originals(table)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "1.png").write_text("x")
    assert [Path(item.path).exists() for item in find_originals(table, [str(tmp_path / "here")])] == [False, True]
