"""Token tables: their rows, what they say of themselves, how they are stored, and what is refused."""

import dataclasses
import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from alit_cli.data.pictures.fitting import Picture
from alit_cli.data.pictures.measures import NEWER_MEASURES, Measures
from alit_cli.data.tables.parquet import column_names, open_columns, write_table
from alit_cli.data.tables.token_table import TableInfo, TableOptions, read_info, token_rows, token_schema
from alit_cli.errors import AlitError, InputError

INFO = TableInfo(
    model="nano",
    model_sha256="0123456789abcdef" * 4,
    image_size=64,
    budgets=(4, 8),
    codes=512,
    token_dim=12,
    fit="crop",
    precision="float32",
    batch_size=5,
    versions={"alit": "0.1.0"},
    options=TableOptions(measures=True),
)
CONTINUOUS = dataclasses.replace(INFO, codes=0)
MEASURES = Measures(1000, 2000, 0.25, 7.5, 0.125, 50, 0.25, 900, None, (0.5, 0.25))


def picture(index: int, ok: bool = True, measured: bool = True) -> Picture:
    if not ok:
        return Picture(f"{index}.jpg", "in", "truncated", "The file breaks off.")
    return Picture(f"{index}.jpg", "in", "ok", None, 320, 240, None, MEASURES if measured else None)


def rows(info: TableInfo, good: list[bool], measures: bool = True, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    n = sum(good)
    if info.codes:
        tokens: dict[int, Any] = {b: rng.integers(0, info.codes, (n, b)).astype(np.uint16) for b in info.budgets}
    else:
        tokens = {b: rng.standard_normal((n, b, info.token_dim)).astype(np.float16) for b in info.budgets}
    l1 = {budget: rng.random(n).astype(np.float32) for budget in info.budgets}
    pictures = [picture(index, ok, measures) for index, ok in enumerate(good)]
    return token_rows(info, pictures, everywhere(n), l1, tokens, measures)


def everywhere(n: int) -> NDArray[np.bool_]:
    """All of n pictures reached both budgets."""
    return np.ones((n, 2), np.bool_)


def test_the_columns_are_those_of_the_design() -> None:
    common = ["image", "source", "status", "error", "width", "height"]
    measures = ["jpeg_bytes", "png_bytes", "edge_density", "entropy", "mad", *NEWER_MEASURES]
    measures += ["thumbnail_4", "thumbnail_8"]
    numbers = ["l1_4", "l1_8", "tokens_4", "tokens_8", "model_id"]
    assert token_schema(INFO, True).names == common + measures + numbers
    assert token_schema(INFO, False).names == common + numbers
    assert token_schema(CONTINUOUS, False).names[8:10] == ["latents_4", "latents_8"]


def test_a_failed_picture_is_a_row_of_nulls_in_its_place() -> None:
    table = rows(INFO, [True, False, True]).to_pylist()
    assert [row["image"] for row in table] == ["0.jpg", "1.jpg", "2.jpg"]
    assert {name for name, value in table[1].items() if value is not None} == {
        "image",
        "source",
        "status",
        "error",
        "model_id",
    }
    assert table[2]["model_id"] == "0123456789abcdef"
    assert (table[2]["width"], table[2]["jpeg_bytes"], table[2]["thumbnail_8"]) == (320, 1000, 0.25)
    assert [len(table[2][f"tokens_{budget}"]) for budget in (4, 8)] == [4, 8]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), max_size=12), st.booleans(), st.booleans())
def test_parquet_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, good: list[bool], measures: bool, continuous: bool
) -> None:
    info = CONTINUOUS if continuous else INFO
    table = rows(info, good, measures)
    path = tmp_path_factory.mktemp("table") / "tokens.parquet"
    write_table(table, path)
    assert open_columns(path).equals(table, check_metadata=True)
    assert read_info(path) == info
    assert column_names(path) == table.schema.names
    stem = "latents_8" if continuous else "tokens_8"
    assert open_columns(path, [stem, "image"]).equals(table.select([stem, "image"]))


def test_values_keep_their_place_and_their_bits() -> None:
    tokens = {4: np.arange(8, dtype=np.uint16).reshape(2, 4), 8: np.full((2, 8), 65535, dtype=np.uint16)}
    l1 = {4: np.array([0.1, 0.3], np.float32), 8: np.array([0.2, np.nan], np.float32)}
    table = token_rows(INFO, [picture(0), picture(1, ok=False), picture(2)], everywhere(2), l1, tokens, True)
    assert table["tokens_4"].to_pylist() == [[0, 1, 2, 3], None, [4, 5, 6, 7]]
    assert table["tokens_8"][2].as_py() == [65535] * 8
    assert table["l1_4"].to_pylist() == [np.float32(0.1), None, np.float32(0.3)]
    assert table["l1_8"].null_count == 1


def test_a_rollout_that_stopped_leaves_later_columns_empty() -> None:
    info = dataclasses.replace(INFO, options=TableOptions(stop=0.2))
    tokens = {4: np.arange(8, dtype=np.uint16).reshape(2, 4), 8: np.full((1, 8), 7, np.uint16)}
    l1 = {4: np.array([0.1, 0.3], np.float32), 8: np.array([0.25], np.float32)}
    reached = np.array([[True, False], [True, True]])
    table = token_rows(info, [picture(0), picture(1, ok=False), picture(2)], reached, l1, tokens, False)
    assert table["tokens_4"].to_pylist() == [[0, 1, 2, 3], None, [4, 5, 6, 7]]
    assert table["tokens_8"].to_pylist() == [None, None, [7] * 8]
    assert table["l1_8"].to_pylist() == [None, None, 0.25]
    assert table["n_tokens"].to_pylist() == [4, None, 8]


def test_a_table_without_losses_has_no_l1_columns() -> None:
    info = dataclasses.replace(INFO, options=TableOptions(losses=False))
    tokens = {b: np.zeros((1, b), np.uint16) for b in info.budgets}
    table = token_rows(info, [picture(0)], everywhere(1), {}, tokens, False)
    assert [name for name in table.column_names if "_" in name] == ["tokens_4", "tokens_8", "model_id"]


@pytest.mark.parametrize(
    ("reached", "tokens"),
    [
        (np.ones((1, 2), bool), {4: np.zeros((2, 4), np.uint16), 8: np.zeros((2, 8), np.uint16)}),
        (np.ones((2, 2), bool), {4: np.zeros((2, 4), np.int64), 8: np.zeros((2, 8), np.uint16)}),
        (np.ones((2, 2), bool), {4: np.zeros((2, 8), np.uint16), 8: np.zeros((2, 8), np.uint16)}),
    ],
)
def test_arrays_of_another_shape_are_refused(reached: Any, tokens: Any) -> None:
    with pytest.raises(ValueError, match="not"):
        token_rows(
            INFO, [picture(0), picture(1)], reached, dict.fromkeys(INFO.budgets, np.zeros(2, np.float32)), tokens, True
        )


@pytest.mark.parametrize("info", [INFO, CONTINUOUS])
def test_columns_are_stored_as_said(tmp_path: Path, info: TableInfo) -> None:
    write_table(rows(info, [True] * 400), tmp_path / "t.parquet")
    group = pq.read_metadata(tmp_path / "t.parquet").row_group(0)
    columns = {group.column(index).path_in_schema: group.column(index) for index in range(group.num_columns)}
    for path, column in columns.items():
        floating = path.startswith(("l1", "thumbnail", "edge", "entropy", "mad", "sobel", "latents"))
        assert column.compression == "ZSTD"
        assert column.has_offset_index
        assert ("BYTE_STREAM_SPLIT" in column.encodings) == floating
        assert ("RLE_DICTIONARY" in column.encodings) == (not floating)
    if info.codes:
        ids = columns["tokens_8.list.element"]
        assert ids.total_uncompressed_size < 400 * 8 * 2, "9 bits an id, and the dictionary"


def test_the_description_is_versioned(tmp_path: Path) -> None:
    assert TableInfo.from_json(INFO.to_json()) == INFO
    more = INFO.to_json()[:-1] + ', "criterion": "recon"}'
    assert TableInfo.from_json(more) == INFO
    with pytest.raises(InputError, match="install a newer alit"):
        TableInfo.from_json(INFO.to_json().replace("alit/1", "alit/2"))
    for text in ("{", "[]", "{}", '{"format": "alit/1"}', '{"format": "other"}', '{"format": "alit/x"}'):
        with pytest.raises(InputError, match="not one of alit"):
            TableInfo.from_json(text)
    table = rows(INFO, [True]).replace_schema_metadata({b"alit": b"{}"})
    write_table(table, tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"t\.parquet.*not one of alit"):
        read_info(tmp_path / "t.parquet")


def test_a_folder_of_parts_reads_as_one_table(tmp_path: Path) -> None:
    one, other = rows(INFO, [True, False], seed=1), rows(INFO, [True], seed=2)
    write_table(one, tmp_path / "part-00000.parquet")
    write_table(other, tmp_path / "part-00001.parquet")
    (tmp_path / "_plan.json").write_text("{}")
    assert open_columns(tmp_path).equals(pa.concat_tables([one, other]))
    assert pq.read_table(tmp_path).num_rows == 3, "other programs read the folder too"
    assert read_info(tmp_path) == INFO


def test_what_is_no_table_of_ours_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("not a table")
    (tmp_path / "zero.parquet").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    write_table(rows(INFO, [True]), tmp_path / "ours.parquet")
    whole = (tmp_path / "ours.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:-40])
    for name, words in (
        ("nowhere.parquet", "does not exist"),
        ("text.parquet", "not a Parquet file"),
        ("zero.parquet", "not a Parquet file"),
        ("cut.parquet", "not a Parquet file"),
        ("empty", "holds no .parquet"),
        ("other.parquet", "not one that alit wrote"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            read_info(tmp_path / name)
        assert name in str(caught.value)
    with pytest.raises(InputError, match="no column 'l1_999'; it has image, source"):
        open_columns(tmp_path / "ours.parquet", ["image", "l1_999"])


def test_a_failed_write_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.parquet"
    old, new = rows(INFO, [True]), rows(INFO, [False, True])
    write_table(old, path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AlitError, match=r"The disk is full: '.*t\.parquet'") as caught:
        write_table(new, path)
    assert caught.value.exit_code == 1
    assert os.listdir(tmp_path) == ["t.parquet"]
    assert open_columns(path).equals(old)


def test_a_place_where_nothing_can_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.parquet").mkdir()
    for out in (tmp_path / "file" / "t.parquet", tmp_path / "folder.parquet"):
        with pytest.raises(InputError, match=r"cannot be written.* --out") as caught:
            write_table(rows(INFO, [True]), out)
        assert out.name in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.parquet"]


def test_missing_folders_are_made_and_a_name_may_be_odd(tmp_path: Path) -> None:
    path = tmp_path / "new" / os.fsdecode(b"caf\xe9 \xf0\x9f\x98\x80") / "t.parquet"
    write_table(rows(INFO, [True]), path)
    assert open_columns(path).num_rows == 1


def test_options_that_were_not_given_have_no_key_in_the_json() -> None:
    info = dataclasses.replace(INFO, options=TableOptions(measures=False, device="cpu", keep={"label": "string"}))
    assert json.loads(info.to_json())["options"] == {"measures": False, "device": "cpu", "keep": {"label": "string"}}
    assert TableInfo.from_json(info.to_json()) == info
    for wrong in ({"options": {"images": "3"}}, {"options": 3}, {"fit": "stretch"}):
        with pytest.raises(InputError, match="not one of alit"):
            TableInfo.from_json(json.dumps({**info.to_dict(), **wrong}))
