"""A sound table is found sound; damage, missing rows and foreign rows are named."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alit_cli.data.tables.parquet import encodings, write_table
from alit_cli.data.tables.score_table import Measure, ScoreInfo, score_rows, score_schema
from alit_cli.data.tables.token_table import TableOptions
from alit_cli.errors import InputError
from alit_cli.jobs.verify import problems
from alit_cli.runs.status import status
from tests.conftest import Alit
from tests.data.test_token_table import INFO, rows


def _table(path: Path, good: list[bool] | None = None) -> pa.Table:
    table = rows(
        dataclasses.replace(INFO, options=TableOptions(images=3)), [True, False, True] if good is None else good
    )
    write_table(table, path)
    return table


def test_a_sound_table(tmp_path: Path, alit: Alit) -> None:
    path = tmp_path / "tokens.parquet"
    _table(path)
    assert list(problems(path)) == []
    assert alit("verify", path).stdout == f"{path} is a sound token table: 3 rows.\n"
    found = status(path)
    assert (found.finished, found.images, found.statuses) == (True, 3, {"ok": 2, "truncated": 1})


def test_missing_rows(tmp_path: Path, alit: Alit) -> None:
    _table(tmp_path / "t.parquet", [True, False])
    assert list(problems(tmp_path / "t.parquet")) == ["it has 2 rows, but 3 images were planned"]
    assert alit("verify", tmp_path / "t.parquet").exit_code == 1


def _changed(table: pa.Table, name: str, values: list[object]) -> pa.Table:
    index = table.schema.get_field_index(name)
    return table.set_column(index, table.schema.field(index), pa.array(values, table.schema.field(index).type))


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("image", ["0.jpg", "1.jpg", "0.jpg"], "1 images stand in it more than once, such as '0.jpg'"),
        ("model_id", ["0123456789abcdef", "other", "0123456789abcdef"], "rows are of the model other"),
        ("tokens_4", [[1, 2, 3, 4], None, None], "tokens_4 is missing"),
        ("tokens_4", [[1, 2, 3, 4], None, [1]], "tokens_4 has lists that are not 4 long"),
        ("l1_8", [0.5, None, None], "l1_8 is missing"),
        ("l1_8", [0.5, 0.5, 0.5], "or the other way round"),
    ],
)
def test_rows_that_cannot_be(tmp_path: Path, name: str, values: list[object], words: str) -> None:
    table = _changed(_table(tmp_path / "x.parquet"), name, values)
    write_table(table, tmp_path / "x.parquet")
    assert any(words in problem for problem in problems(tmp_path / "x.parquet"))


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = pa.concat_tables([_table(path)] * 50)
    pq.write_table(table, path, **encodings(table.schema))
    content = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(0).column(table.schema.get_field_index("tokens_8"))
    place = start.data_page_offset + start.total_compressed_size // 2
    content[place] ^= 0xFF
    path.write_bytes(content)
    assert any("damaged" in problem for problem in problems(path))


def _scores(path: Path, names: list[str], values: list[float | None], **changed: Any) -> None:
    options = {"images": 3, "tokens": None}
    about: dict[str, Any] = {"task": "recon", "model": "", "model_id": INFO.model_id, "image_size": 32}
    about |= {"budgets": INFO.budgets, "measures": ("psnr",), "options": options, "versions": {}, **changed}
    info = ScoreInfo(**about)
    schema = score_schema(info, [Measure("psnr")], {"error": "string"})
    columns = {f"psnr_{budget}": values for budget in info.budgets}
    write_table(
        score_rows(schema, {"image": names, **columns, "error": [None, "It is gone.", None]}), path, "score table"
    )


def test_score_tables_are_held_against_their_tokens(tmp_path: Path, alit: Alit) -> None:
    path = tmp_path / "scores" / "recon.parquet"
    names = ["0.jpg", "1.jpg", "2.jpg"]
    _scores(path, names, [20.0, None, 21.0])
    alone = alit("verify", path)
    assert (alone.exit_code, "not beside them" in alone.stderr) == (0, True)
    _table(tmp_path / "tokens.parquet")
    whole = alit("verify", path)
    assert whole.stdout == f"{path} is a sound score table: 3 rows, those of {tmp_path / 'tokens.parquet'}.\n"
    found = status(path)
    assert (found.kind, found.images, found.statuses) == ("score table", 3, {"ok": 2, "failed": 1})
    tokens = tmp_path / "tokens.parquet"
    changes: list[tuple[dict[str, Any], str]] = [
        ({"names": ["0.jpg", "2.jpg", "1.jpg"]}, "where it has '2.jpg', that has '1.jpg'"),
        ({"values": [20.0, 1.0, 21.0]}, "psnr_8 has values in rows that failed"),
        ({"model_id": "other"}, "tokens of the model other"),
        ({"options": {"images": 4}}, "it has 3 rows, but 4 images were planned"),
        ({"measures": ("psnr", "ssim")}, "it has no column ssim_4"),
    ]
    for change, words in changes:
        _scores(path, **{"names": names, "values": [20.0, None, 21.0], **change})
        assert any(words in problem for problem in problems(path, tokens)), words
    result = alit("verify", path, "--token-table", tokens)
    assert (result.exit_code, "alit score --overwrite" in result.stderr) == (1, True)
    for command in ("select", "decode"):
        assert (
            "another kind (alit-scores)" in alit(command, path, *(["--thr", 1] if command == "select" else [])).stderr
        )


def test_a_selection(tmp_path: Path, alit: Alit) -> None:
    _table(tmp_path / "tokens.parquet")
    out = tmp_path / "selection.parquet"
    assert alit("select", tmp_path / "tokens.parquet", "--thr", 0.9, "--out", out).exit_code == 0
    assert alit("verify", out).stdout == f"{out} is a sound selection: 2 rows.\n"
    assert status(out).kind == "selection"
    write_table(_changed(pq.read_table(out), "n_tokens", [4, 5]), out, "selection")
    assert any("no budget of the model" in problem for problem in problems(out))
    assert alit("verify", out).exit_code == 1


def test_status_of_unfinished_work(tmp_path: Path, alit: Alit) -> None:
    from alit_cli.jobs.tokenize import TokenizeJob, tokenize
    from tests.model import tiny
    from tests.training.photos import write_photos

    write_photos(tmp_path / "photos", 7)
    out = tmp_path / "tokens.parquet"
    with pytest.raises(InputError, match="neither"):
        status(out)
    job = TokenizeJob([str(tmp_path / "photos")], out, str(tiny.checkpoint(tmp_path)), "cpu", batch_size=2)
    job = dataclasses.replace(job, shard_size=2)
    run = tokenize(job)
    list(itertools.islice(run, 3))
    del run
    found = status(out)
    assert (found.finished, found.images, found.done, found.shards, found.shards_done) == (False, 7, 2, 4, 1)
    assert found.images_per_second > 0
    assert "unfinished" in alit("status", out).stdout
    for _ in tokenize(job):
        pass
    assert status(out).finished
    assert list(problems(out)) == []
