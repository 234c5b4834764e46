"""Exported tokens are the table's, in every format."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from alit_cli.data.export import export
from alit_cli.data.table import TableInfo, write_table
from alit_cli.errors import InputError
from tests.conftest import Alit
from tests.data.test_table import CONTINUOUS, INFO, rows


def _written(tmp_path: Path, info: TableInfo, form: str) -> tuple[pa.Table, Path]:
    table = rows(info, [True, False, True, True])
    write_table(table, tmp_path / "t.parquet")
    for _ in export(tmp_path / "t.parquet", tmp_path / f"out.{form}", form, 8):
        pass
    return table.filter(pc.equal(table["status"], "ok")), tmp_path / f"out.{form}"


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
