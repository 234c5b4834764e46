"""Folders, files, globs, tars and Parquet files behind URLs are the same items as here."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pyarrow.parquet as pq
import pytest

from alit_cli.data import remote
from alit_cli.data.frozen import Items
from alit_cli.data.images import read_picture
from alit_cli.data.items import Found
from alit_cli.data.keeping import Keeper
from alit_cli.data.sources import list_items, stream_items
from alit_cli.errors import InputError
from tests.conftest import Alit
from tests.data.test_parquet_rows import _parquet, _png
from tests.data.test_sources import make, make_tar
from tests.jobs.photos import write_photos
from tests.model import tiny


def _fill(folder: Path) -> Path:
    """A folder of photographs, a tar and a Parquet file."""
    make(folder, "photos/b/img10.jpg", "photos/b/img2.png", "photos/a b 😀.webp", "photos/.hidden.jpg", "photos/x.txt")
    make_tar(folder / "x.tar", "1.jpg", "notes.txt", "sub/2.png")
    _parquet(folder / "y.parquet", [{"bytes": _png(i), "path": f"{i}.png"} for i in range(5)])
    return folder


def _upload(folder: Path, url: str, **options: Any) -> None:
    fs, root = fsspec.core.url_to_fs(url, **options)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = f"{root}/{path.relative_to(folder).as_posix()}"
            fs.makedirs(name.rpartition("/")[0], exist_ok=True)
            fs.pipe_file(name, path.read_bytes())


def _same_as_here(here: Path, url: str) -> None:
    for name in ("photos", "photos/b", "photos/b/*.jpg", "photos/*/*", "x.tar", "y.parquet", "photos/b/img2.png"):
        there = list_items([f"{url}/{name}"])
        local = list_items([str(here / name)])
        assert [item.image for item in there] == [item.image for item in local], name
        assert [item.read() for item in there] == [item.read() for item in local], name
    assert [item.image for item in list_items([f"{url}/{{x.tar,y.parquet}}"], limit=4)][:3] == [
        "1.jpg",
        "sub/2.png",
        "0.png",
    ]
    for words, name in (("does not exist", "nowhere"), ("No image", "photos/b/*.gif")):
        with pytest.raises(InputError, match=words):
            list_items([f"{url}/{name}"])


@pytest.fixture
def memory() -> Iterator[str]:
    fs = fsspec.filesystem("memory")
    yield "memory://data"
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


def test_in_memory(tmp_path: Path, memory: str) -> None:
    _upload(_fill(tmp_path), memory)
    _same_as_here(tmp_path, memory)
    looks = [found.look for found in stream_items([f"{memory}/photos"])]
    assert all(look is not None and look[0] > 0 and look[1] > 0 for look in looks)


def test_a_list_may_name_urls(tmp_path: Path, memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _upload(_fill(tmp_path), memory)
    Path("list.txt").write_text(f"{memory}/photos/b/img2.png\nphotos/b/img10.jpg\n")
    items = list_items(["@list.txt"])
    assert [item.image for item in items] == ["data/photos/b/img2.png", "photos/b/img10.jpg"]
    assert [item.read() for item in items] == [b"photos/b/img2.png", b"photos/b/img10.jpg"]


def test_what_is_gone_later_is_a_row(memory: str) -> None:
    fsspec.filesystem("memory").pipe_file("/data/1.png", _png(1))
    (item,) = list_items([memory])
    fsspec.filesystem("memory").rm("/data/1.png")
    picture = read_picture(item, 8)
    assert picture.status == "unreadable"
    assert picture.error is not None


@pytest.mark.parametrize(("protocol", "words"), [("s3", r"pip install 'alit\[remote\]'"), ("nosuch", "no protocol")])
def test_a_missing_extra_is_named(protocol: str, words: str, alit: Alit, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_names: object, **_options: object) -> None:
        raise ImportError("Install s3fs to access S3") if protocol == "s3" else ValueError("Protocol not known")

    remote._system.cache_clear()
    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(InputError, match=words):
        list_items([f"{protocol}://bucket/photos"])
    result = alit("tokenize", f"{protocol}://bucket/photos", "--device", "cpu")
    assert result.exit_code == 2
    assert result.stderr.count("Error:") == 1


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket of a moto server on loopback."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    wanted = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    remote._system.cache_clear()
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir("bucket")
    yield "s3://bucket/data"
    remote._system.cache_clear()
    server.stop()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


def test_on_s3(tmp_path: Path, s3: str) -> None:
    _upload(_fill(tmp_path), s3)
    _same_as_here(tmp_path, s3)
    with pytest.raises(InputError, match=r"nobucket.*does not exist|cannot be listed"):
        list_items(["s3://nobucket/photos"])
    frozen = Items.of(list_items([f"{s3}/photos"]))
    assert [item.read() for item in frozen] == [item.read() for item in list_items([tmp_path / "photos"])]


def test_tokenizing_from_s3_gives_the_rows_of_the_same_files_here(tmp_path: Path, s3: str, alit: Alit) -> None:
    write_photos(tmp_path / "images", 5)
    _upload(tmp_path / "images", f"{s3}/images")
    model = tiny.checkpoint(tmp_path)
    there = f"{s3}/images"
    for name, source, workers in (("here", tmp_path / "images", 0), ("there", there, 0), ("apart", there, 1)):
        out = tmp_path / f"{name}.parquet"
        result = alit("tokenize", source, "-c", model, "--device", "cpu", "--workers", workers, "--out", out)
        assert result.exit_code == 0, result.stderr
    names = ("here", "there", "apart")
    frames = [pq.read_table(tmp_path / f"{name}.parquet").to_pandas().drop(columns="source") for name in names]
    for frame in frames[1:]:
        pd.testing.assert_frame_equal(frames[0], frame, check_exact=True)
    assert alit("tokenize", tmp_path / "images", "--out", "s3://bucket/x.parquet").exit_code == 2


def test_sidecars_of_a_remote_tar_are_kept(tmp_path: Path, memory: str) -> None:
    import tarfile

    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, content in (("a.cls", b"3"), ("b.jpg", b"B"), ("a.jpg", b"A"), ("b.json", b'{"label": 4}')):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    _upload(tmp_path, memory)
    keeper = Keeper(("label",))
    found: list[Found] = list(stream_items([f"{memory}/x.tar"], keeper=keeper))
    assert [(one.item.image, one.kept) for one in found] == [("b.jpg", ("4",)), ("a.jpg", ("3",))]
    assert keeper.types() == {"label": "int64"}
