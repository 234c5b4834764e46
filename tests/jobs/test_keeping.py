"""What is kept of an image travels from its source to the table, the selection and the export."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import Alit
from tests.model import tiny
from tests.training.photos import write_photos

TINY = ("-c", "tiny.safetensors", "--device", "cpu")


@pytest.fixture
def here(here: Path) -> Path:
    """A working folder with a Parquet file as Hugging Face writes it, a WebDataset tar and a tiny model."""
    tiny.checkpoint(here).rename(here / "tiny.safetensors")
    photos = [path.read_bytes() for path in write_photos(here / "photos", 5)]
    images = [{"bytes": data, "path": f"p{i}.png"} for i, data in enumerate(photos)]
    columns = {
        "image": pa.array([*images, {"bytes": b"bad", "path": "bad.png"}]),
        "label": pa.array([3, 1, None, 2, 0, 9], pa.int16()),
        "box": pa.array([[0.1, 0.5], [], None, [1 / 3], [2.0], [3.0]], pa.list_(pa.float32())),
        "when": pa.array([0] * 6, pa.timestamp("s")),
    }
    pq.write_table(pa.table(columns), "train.parquet", row_group_size=2)
    members = [("a.cls", b"7\n"), ("b.jpg", photos[1]), ("a.left.jpg", photos[0])]  # in no order, a dotted name
    members += [("b.json", json.dumps({"label": 4, "caption": "a 😀 b"}).encode()), ("a.txt", "zwölf".encode())]
    with tarfile.open("web.tar", "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return here


def test_parquet_columns_keep_their_types_and_values(here: Path, alit: Alit) -> None:
    words = ("--keep", "label,box", "--shard-size", 4, "--max-error-rate", 0.5)
    result = alit("tokenize", "train.parquet", *TINY, *words)
    assert result.exit_code == 0, result.stderr
    source, table = pq.read_table("train.parquet"), pq.read_table("tokens.parquet")
    assert table["label"].type == pa.int16()
    for name in ("label", "box"):
        assert table[name].to_pylist() == source[name].to_pylist()
    assert alit("verify", "tokens.parquet").exit_code == 0
    assert alit("select", "--thr", 0.3).exit_code == 0
    selection = pq.read_table("selection.parquet")
    assert selection["label"].to_pylist() == [3, 1, None, 2, 0]
    assert alit("export", "--format", "jsonl", "--out", "x.jsonl").exit_code == 0
    lines = [json.loads(line) for line in Path("x.jsonl").read_text().splitlines()]
    assert [line["label"] for line in lines] == [3, 1, None, 2, 0]
    assert [line["box"] for line in lines] == selection["box"].to_pylist()


def test_sidecars_of_a_tar(here: Path, alit: Alit) -> None:
    assert alit("tokenize", "web.tar", *TINY, "--keep", "label,caption").exit_code == 0
    table = pq.read_table("tokens.parquet")
    assert table["image"].to_pylist() == ["b.jpg", "a.left.jpg"]
    assert table["label"].to_pylist() == [4, 7]
    assert table["caption"].to_pylist() == ["a 😀 b", "zwölf"]


def test_sources_that_differ_share_one_column(here: Path, alit: Alit) -> None:
    words = ("--keep", "label", "--max-error-rate", 0.5)
    assert alit("tokenize", "train.parquet", "web.tar", "photos", *TINY, *words).exit_code == 0
    labels = pq.read_table("tokens.parquet")["label"]
    assert labels.type == pa.int64()
    assert labels.to_pylist() == [3, 1, None, 2, 0, 9, 4, 7, *[None] * 5]


@pytest.mark.parametrize(
    ("source", "name", "words"),
    [
        ("photos", "label", "No input has 'label'"),
        ("train.parquet", "when", "timestamp"),
        ("web.tar", "nothing", "No input has 'nothing'"),
        ("train.parquet", "label,width", "'width' cannot be kept"),
    ],
)
def test_what_cannot_be_kept_is_said(here: Path, alit: Alit, source: str, name: str, words: str) -> None:
    result = alit("tokenize", source, *TINY, "--keep", name)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not list(here.glob("tokens.parquet*"))
