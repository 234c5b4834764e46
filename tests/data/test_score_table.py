"""Score tables: their columns, nulls for what is not known, and tables of one's own."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alit_cli.data.tables.parquet import KEY, open_columns, write_table
from alit_cli.data.tables.score_table import (
    Measure,
    ScoreInfo,
    list_score_tables,
    read_score_info,
    score_path,
    score_rows,
    score_schema,
)
from alit_cli.errors import InputError

INFO = ScoreInfo(
    task="classify",
    model="microsoft/resnet-18",
    model_id="0123456789abcdef",
    image_size=128,
    budgets=(8, 16),
    measures=("class_rank", "features"),
    options={"labels": "given"},
    versions={"alit": "0"},
)
MEASURES = (Measure("class_rank", "int32", original=True), Measure("features", "list<float16>"))


def test_columns_come_by_measure_and_budget_and_survive_the_file(tmp_path: Path) -> None:
    schema = score_schema(INFO, MEASURES, {"label": "string"})
    assert schema.names == [
        *("image", "class_rank_8", "class_rank_16", "class_rank_original"),
        *("features_8", "features_16", "label"),
    ]
    columns: dict[str, list[Any]] = {
        "image": ["a.jpg", "b.jpg"],
        "class_rank_8": [3, None],
        "class_rank_16": [1, math.nan],
        "class_rank_original": [1, None],
        "features_8": [[0.5, 1.0], None],
        "features_16": [[0.25, 2.0], None],
        "label": ["cat", None],
    }
    path = tmp_path / "scores" / "classify@resnet-18.parquet"
    write_table(score_rows(schema, columns), path)
    assert read_score_info(path) == INFO
    table = open_columns(path)
    assert table.schema.equals(schema)
    assert table["class_rank_16"].to_pylist() == [1, None]
    assert table["features_8"].to_pylist() == [[0.5, 1.0], None]
    assert list_score_tables(path.parent) == [path]


def test_a_task_and_the_last_part_of_its_model_are_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert score_path("recon") == Path("scores/recon.parquet")
    assert score_path("classify", "microsoft/resnet-18") == Path("scores/classify@resnet-18.parquet")
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    assert score_path("depth", ".", "here") == Path("here/depth@mine.parquet")
    assert score_path("depth", f"{tmp_path}/mine/") == Path("scores/depth@mine.parquet")


def test_tables_of_ones_own_say_nothing_and_others_are_refused(tmp_path: Path) -> None:
    own = tmp_path / "own.parquet"
    pq.write_table(pa.table({"image": ["a"], "taste_8": [1.0]}), own)
    assert read_score_info(own) is None
    newer = dataclasses.replace(INFO, format="alit-scores/2")
    for text, words in (
        (json.dumps({"format": "alit/1"}), "not that of a score table"),
        (newer.to_json(), "newer alit"),
    ):
        pq.write_table(pa.table({"image": ["a"]}).replace_schema_metadata({KEY: text.encode()}), own)
        with pytest.raises(InputError, match=words):
            read_score_info(own)
    own.write_text("image,taste_8\n")
    with pytest.raises(InputError, match="not a Parquet file"):
        read_score_info(own)
    with pytest.raises(InputError, match="does not exist"):
        read_score_info(tmp_path / "none.parquet")
