"""Folders, files, globs, tars and Parquet files behind URLs are the same items as here."""

from __future__ import annotations

import dataclasses
import io
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pyarrow.parquet as pq
import pytest

from alit_cli.data.pictures.fitting import read_picture
from alit_cli.data.sources import remote
from alit_cli.data.sources.extra_columns import ExtraColumns
from alit_cli.data.sources.items import ListedItem
from alit_cli.data.sources.listing import list_items, stream_items
from alit_cli.data.sources.remote_cache import RemoteCache
from alit_cli.errors import InputError
from alit_cli.runs.item_file import ItemFile
from tests.conftest import Alit
from tests.data.inputs import make, make_tar, png_bytes, write_parquet
from tests.model import tiny
from tests.training.photos import write_photos


def _fill(folder: Path) -> Path:
    """A folder of photographs, a tar and a Parquet file."""
    make(folder, "photos/b/img10.jpg", "photos/b/img2.png", "photos/a b 😀.webp", "photos/.hidden.jpg", "photos/x.txt")
    make_tar(folder / "x.tar", "1.jpg", "notes.txt", "sub/2.png")
    write_parquet(folder / "y.parquet", [{"bytes": png_bytes(i), "path": f"{i}.png"} for i in range(5)])
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
    fsspec.filesystem("memory").pipe_file("/data/1.png", png_bytes(1))
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


FETCHED: Counter[str] = Counter()
"""Bytes that the moto server has sent, by the last part of the address."""


def _counting(app: Any) -> Any:
    """The same WSGI application; the bodies of its answers are counted."""

    def counted(environment: dict[str, Any], start: Any) -> Iterator[bytes]:
        for piece in app(environment, start):
            FETCHED[environment["PATH_INFO"].rpartition("/")[2]] += len(piece)
            yield piece

    return counted


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket of a moto server on loopback."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    served: Any = server._server
    served.app = _counting(served.app)
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
    # fsspec keeps systems of its own: one that another test opened has looked for credentials and found none.
    fsspec.get_filesystem_class("s3").clear_instance_cache()
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
    frozen = ItemFile.of(list_items([f"{s3}/photos"]))
    assert [item.read() for item in frozen] == [item.read() for item in list_items([tmp_path / "photos"])]


def test_tokenizing_from_s3_gives_the_rows_of_the_same_files_here(tmp_path: Path, s3: str, alit: Alit) -> None:
    write_photos(tmp_path / "images", 5)
    _upload(tmp_path / "images", f"{s3}/images")
    model = tiny.checkpoint(tmp_path)
    there = f"{s3}/images"
    for name, source, workers in (("here", tmp_path / "images", 0), ("there", there, 0), ("apart", there, 1)):
        out = tmp_path / f"{name}.parquet"
        result = alit("tokenize", source, "-c", model, "--device", "cpu", "--decode-workers", workers, "--out", out)
        assert result.exit_code == 0, result.stderr
    names = ("here", "there", "apart")
    frames = [pq.read_table(tmp_path / f"{name}.parquet").to_pandas().drop(columns="source") for name in names]
    for frame in frames[1:]:
        pd.testing.assert_frame_equal(frames[0], frame, check_exact=True)
    assert alit("tokenize", tmp_path / "images", "--out", "s3://bucket/x.parquet").exit_code == 2


def test_a_remote_tar_is_fetched_once(tmp_path: Path, s3: str, alit: Alit) -> None:
    photos = write_photos(tmp_path / "photos", 12, side=200)
    (tmp_path / "here").mkdir()
    with tarfile.open(tmp_path / "here" / "x.tar", "w") as archive:
        for path in photos:
            archive.add(path, path.name)
    write_parquet(
        tmp_path / "here" / "y.parquet", [{"bytes": path.read_bytes(), "path": None} for path in photos], group=4
    )
    sizes = {name: (tmp_path / "here" / name).stat().st_size for name in ("x.tar", "y.parquet")}
    _upload(tmp_path / "here", f"{s3}/once")
    model = tiny.checkpoint(tmp_path)
    tables = []
    for copies, folder in ((32, ""), (32, "/"), (0, "")):
        FETCHED.clear()
        out = tmp_path / f"{copies}{len(folder)}"
        words = ("-c", model, "--device", "cpu", "--decode-workers", 0, "--out", f"{out}{folder}", "--copies", copies)
        result = alit("tokenize", f"{s3}/once/*", *words, "--shard-size", 6)
        assert result.exit_code == 0, result.stderr
        for name, size in sizes.items():
            assert FETCHED[name] == size if copies else FETCHED[name] > 1.9 * size
        left = os.listdir(out) if folder else os.listdir(tmp_path)
        assert not [name for name in left if "_copy" in name or name.endswith(".work")]
        parts = sorted(out.glob("*.parquet")) if folder else [out]
        tables.append(pd.concat([pq.read_table(part).to_pandas() for part in parts], ignore_index=True))
    for table in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], table, check_exact=True)


def test_copies_outlast_an_interruption_and_fit_into_their_room(tmp_path: Path, s3: str) -> None:
    _upload(_fill(tmp_path / "here"), f"{s3}/room")
    entry = remote.look(f"{s3}/room/x.tar")
    assert entry is not None
    (tmp_path / "work").mkdir()
    assert RemoteCache(tmp_path / "work", entry.size - 1).of(entry) is None
    assert os.listdir(tmp_path / "work") == []
    path = RemoteCache(tmp_path / "work", entry.size).of(entry)
    assert path is not None
    assert Path(path).read_bytes() == (tmp_path / "here" / "x.tar").read_bytes()
    FETCHED.clear()
    again = RemoteCache(tmp_path / "work", entry.size)
    assert again.of(entry) == path
    assert not FETCHED
    assert again.of(dataclasses.replace(entry, mtime_ns=1)) is None  # another file, for which there is no more room
    items = [found.item for found in stream_items([f"{s3}/room/x.tar"], copy=again.of)]
    assert [item.read() for item in items] == [item.read() for item in list_items([tmp_path / "here" / "x.tar"])]
    gone = dataclasses.replace(entry, url=f"{s3}/room/gone.tar", size=1)
    with pytest.raises(InputError, match="cannot be fetched"):
        RemoteCache(tmp_path / "work", 2**20).of(gone)
    assert len(os.listdir(tmp_path / "work")) == 1


def test_sidecars_of_a_remote_tar_are_kept(tmp_path: Path, memory: str) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, content in (("a.cls", b"3"), ("b.jpg", b"B"), ("a.jpg", b"A"), ("b.json", b'{"label": 4}')):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    _upload(tmp_path, memory)
    keeper = ExtraColumns(("label",))
    found: list[ListedItem] = list(stream_items([f"{memory}/x.tar"], keeper=keeper))
    assert [(one.item.image, one.kept) for one in found] == [("b.jpg", ("4",)), ("a.jpg", ("3",))]
    assert keeper.types() == {"label": "int64"}
