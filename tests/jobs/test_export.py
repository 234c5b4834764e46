"""Exported tokens are the table's, in every format."""

from __future__ import annotations

import dataclasses
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from alit_cli.data.tables.parquet import write_table
from alit_cli.data.tables.token_table import TableInfo, TableOptions
from alit_cli.errors import InputError
from alit_cli.jobs.export import ENDINGS, export
from tests.conftest import Alit
from tests.data.test_token_table import CONTINUOUS, INFO, rows


def _written(tmp_path: Path, info: TableInfo, form: str) -> tuple[pa.Table, Path]:
    table = rows(info, [True, False, True, True])
    write_table(table, tmp_path / "t.parquet")
    for _ in export(tmp_path / "t.parquet", tmp_path / f"out{ENDINGS[form]}", form, 8):
        pass
    return table.filter(pc.equal(table["status"], "ok")), tmp_path / f"out{ENDINGS[form]}"


@pytest.mark.parametrize("info", [INFO, CONTINUOUS])
def test_json_lines(tmp_path: Path, info: TableInfo) -> None:
    table, path = _written(tmp_path, info, "jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["image"] for line in lines] == table["image"].to_pylist()
    for line, tokens in zip(lines, table[f"{info.tokens}_8"].to_pylist(), strict=True):
        assert np.array_equal(np.ravel(line["tokens"]), np.ravel(tokens))
        assert len(line["tokens"]) == 8
        assert line["width"] == 320


def test_npz(tmp_path: Path) -> None:
    table, path = _written(tmp_path, INFO, "npz")
    with np.load(path) as found:
        pieces = [found["tokens"][a:b] for a, b in zip(found["offsets"], found["offsets"][1:], strict=False)]
        assert found["images"].tolist() == table["image"].to_pylist()
    assert [piece.tolist() for piece in pieces] == table["tokens_8"].to_pylist()


def test_webdataset(tmp_path: Path) -> None:
    table, path = _written(tmp_path, INFO, "webdataset")
    with tarfile.open(path) as tar:
        assert tar.getnames() == [f"{i}.{end}" for i in (0, 2, 3) for end in ("tokens.npy", "json")]
        for image, tokens in zip((0, 2, 3), table["tokens_8"].to_pylist(), strict=True):
            member = tar.extractfile(f"{image}.tokens.npy")
            assert member is not None
            (tmp_path / "one.npy").write_bytes(member.read())
            assert np.load(tmp_path / "one.npy").tolist() == tokens


def test_what_cannot_be_exported(tmp_path: Path, alit: Alit) -> None:
    write_table(rows(INFO, [True]), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="4, 8"):
        list(export(tmp_path / "t.parquet", tmp_path / "x", "npz"))
    with pytest.raises(InputError, match="jsonl, npz, webdataset"):
        list(export(tmp_path / "t.parquet", tmp_path / "x", "csv", 4))
    assert not (tmp_path / "x").exists()
    result = alit("export", tmp_path / "t.parquet", "--format", "jsonl", "--budget", 4, "--out", tmp_path / "x.jsonl")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'x.jsonl'}\n")


def _selected(tmp_path: Path, tokens: bool) -> tuple[pa.Table, Path, Path]:
    """A token table with a kept column, and a selection of three of its rows at different budgets."""
    info = dataclasses.replace(INFO, options=dataclasses.replace(INFO.options, keep={"label": "string"}))
    table = rows(INFO, [True, True, False, True, True])
    table = table.append_column("label", pa.array(["a", None, "c", "d", "e"])).replace_schema_metadata(
        {b"alit": info.to_json()}
    )
    write_table(table, tmp_path / "t.parquet")
    chosen = [(0, 8, True), (1, 4, True), (4, 8, False)]
    keys = table["image"].to_pylist()
    columns = {
        "image": [keys[row] for row, _, _ in chosen],
        "n_tokens": pa.array([n for _, n, _ in chosen], pa.int32()),
        "satisfied": [fine for _, _, fine in chosen],
    }
    if tokens:
        ids = [table[f"tokens_{n}"][row].as_py() for row, n, _ in chosen]
        columns["tokens"] = pa.array(ids, pa.list_(pa.uint16()))
    columns["jpeg_bytes"] = pa.array([1.5, None, 3.0], pa.float32())
    selection = pa.table(columns).replace_schema_metadata({b"alit": info.to_json()})
    write_table(selection, tmp_path / "s.parquet")
    return table, tmp_path / "t.parquet", tmp_path / "s.parquet"


def _lines(tmp_path: Path, *arguments: Any) -> list[dict[str, Any]]:
    for _ in export(arguments[0], tmp_path / "x.jsonl", "jsonl", *arguments[1:]):
        pass
    return [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("tokens", [True, False])
def test_a_selection_chooses_each_images_budget(tmp_path: Path, tokens: bool) -> None:
    table, path, selection = _selected(tmp_path, tokens)
    lines = _lines(tmp_path, path, None, selection)
    assert [line["n_tokens"] for line in lines] == [len(line["tokens"]) for line in lines] == [8, 4, 8]
    for line, row in zip(lines, (0, 1, 4), strict=True):
        budget = line["n_tokens"]
        assert line["tokens"] == table[f"tokens_{budget}"][row].as_py()
        assert line["l1"] == pytest.approx(table[f"l1_{budget}"][row].as_py())
        assert line["label"] == table["label"][row].as_py()
    assert [line["jpeg_bytes"] for line in lines] == [1.5, None, 3.0]
    if tokens:  # the selection by itself has no kept columns, but the same tokens
        assert [line["tokens"] for line in _lines(tmp_path, selection)] == [line["tokens"] for line in lines]


def test_kept_columns_stand_in_the_npz_without_pickles(tmp_path: Path) -> None:
    _, path, selection = _selected(tmp_path, False)
    for _ in export(path, tmp_path / "x.npz", "npz", None, selection):
        pass
    with np.load(tmp_path / "x.npz", allow_pickle=False) as found:
        assert found["label"].tolist() == ["a", "", "e"]
        assert found["satisfied"].tolist() == [True, True, False]
        np.testing.assert_array_equal(found["jpeg_bytes"], [1.5, np.nan, 3.0])
        assert np.diff(found["offsets"]).tolist() == found["n_tokens"].tolist() == [8, 4, 8]


def test_views_and_twins_have_keys_of_their_own(tmp_path: Path) -> None:
    table = rows(INFO, [True] * 4)
    names = pa.array(["a/b.c.jpg", "a/b.c.jpg#flip", "a/b.c.png", "é"])
    write_table(table.set_column(0, "image", names), tmp_path / "t.parquet")
    for _ in export(tmp_path / "t.parquet", tmp_path / "x.tar", "webdataset", 4):
        pass
    with tarfile.open(tmp_path / "x.tar") as tar:
        keys = [name.removesuffix(".json") for name in tar.getnames() if name.endswith(".json")]
    assert keys == ["a/b_c", "a/b_c#flip", "a/b_c_png", "é"]


def test_no_name_leads_out_of_a_tar(tmp_path: Path) -> None:
    table = rows(INFO, [True] * 5)
    names = ["../../a.png", "/etc/a.png", "b/../../a.png", "etc/a.png", ".."]
    write_table(table.set_column(0, "image", pa.array(names)), tmp_path / "t.parquet")
    for _ in export(tmp_path / "t.parquet", tmp_path / "x.tar", "webdataset", 4):
        pass
    with tarfile.open(tmp_path / "x.tar") as tar:
        members = tar.getnames()
        told = [
            json.load(file)["image"] for name in members if name.endswith(".json") and (file := tar.extractfile(name))
        ]
    keys = [name.removesuffix(".json") for name in members if name.endswith(".json")]
    assert keys == ["__/__/a", "etc/a", "b/__/__/a", "etc/a_png", "__"]
    assert told == names


def test_what_a_selection_cannot_choose(tmp_path: Path) -> None:
    _, path, selection = _selected(tmp_path, False)
    with pytest.raises(InputError, match="holds no tokens: export the token table"):
        _lines(tmp_path, selection)
    with pytest.raises(InputError, match="one of the two"):
        _lines(tmp_path, path, 4, selection)
    write_table(rows(INFO, [True]), tmp_path / "short.parquet")
    with pytest.raises(InputError, match=r"is not in .*short"):
        _lines(tmp_path, tmp_path / "short.parquet", None, selection)
    with pytest.raises(InputError, match="is no selection of"):
        _lines(tmp_path, path, None, path)


@pytest.mark.parametrize("other", [{"budgets": (8, 16)}, {"options": TableOptions(plan="another run")}])
def test_a_selection_of_another_table_chooses_nothing(other: dict[str, Any], tmp_path: Path) -> None:
    table, path, selection = _selected(tmp_path, False)
    described = dataclasses.replace(INFO, options=TableOptions(plan="this run"))
    write_table(table.replace_schema_metadata({b"alit": described.to_json()}), path)
    foreign = pq.read_table(selection).replace_schema_metadata(
        {b"alit": dataclasses.replace(described, **other).to_json()}
    )
    write_table(foreign, selection)
    with pytest.raises(InputError, match="is no selection of"):
        _lines(tmp_path, path, None, selection)


def test_a_table_whose_images_stopped_early_is_exported_by_a_selection_alone(tmp_path: Path) -> None:
    described = dataclasses.replace(INFO, options=TableOptions(stop=0.08))
    write_table(rows(INFO, [True]).replace_schema_metadata({b"alit": described.to_json()}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"alit select --thr 0\.08"):
        _lines(tmp_path, tmp_path / "t.parquet", 8)
    assert len(_lines(tmp_path, tmp_path / "t.parquet", 4)) == 1  # the smallest budget, which every image has
