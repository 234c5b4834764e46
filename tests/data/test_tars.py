"""Tars that real tools write, and tars that lie: sparse members, links, sizes that are not true, endless headers."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from alit_cli.data.sources.extra_columns import ExtraColumns, kept_column
from alit_cli.data.sources.listing import list_items, stream_items
from alit_cli.errors import ImageProblem, InputError

BLOCK = 512


def read(path: Path) -> dict[str, bytes | str]:
    """Content of every image of a tar; the status where there is none."""
    contents: dict[str, bytes | str] = {}
    for item in list_items([path]):
        try:
            contents[item.image] = item.read()
        except ImageProblem as problem:
            contents[item.image] = problem.status
    return contents


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar program")
@pytest.mark.parametrize("form", ["gnu", "pax --sparse-version=0.0", "pax --sparse-version=0.1", "pax"])
def test_sparse_members_read_as_the_same_file_in_a_folder(tmp_path: Path, form: str) -> None:
    (tmp_path / "in").mkdir()
    long_name = "n" * 120 + ".png"  # its headers stand before the sparse ones
    for name in ("a.png", long_name):
        with open(tmp_path / "in" / name, "wb") as file:
            for place in (0, 2**20, 3 * 2**20):
                file.seek(place)
                file.write(b"data" * 1000)
    (tmp_path / "in" / "z.png").write_bytes(b"plain")
    line = ["tar", "--sparse", *f"--format={form}".split(), "-C", str(tmp_path / "in"), "-cf", str(tmp_path / "x.tar")]
    subprocess.run([*line, "a.png", long_name, "z.png"], check=True)
    contents = read(tmp_path / "x.tar")
    assert (tmp_path / "x.tar").stat().st_size < 2**20, "this tar stored the holes"
    assert contents == {path.name: path.read_bytes() for path in (tmp_path / "in").iterdir()}


def test_a_link_is_the_file_that_it_names(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, kind, content in (
            ("s/early.jpg", tarfile.SYMTYPE, "../blob"),
            ("blob", tarfile.REGTYPE, "photograph"),
            ("hard.jpg", tarfile.LNKTYPE, "blob"),
            ("again.jpg", tarfile.SYMTYPE, "hard.jpg"),
            ("loop.jpg", tarfile.SYMTYPE, "loop.jpg"),
            ("gone.jpg", tarfile.SYMTYPE, "/etc/passwd"),
            ("notes.txt", tarfile.SYMTYPE, "blob"),
        ):
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == tarfile.REGTYPE:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content.encode()))
            else:
                member.linkname = content
                tar.addfile(member)
    same = dict.fromkeys(("s/early.jpg", "hard.jpg", "again.jpg"), b"photograph")
    assert read(tmp_path / "x.tar") == {**same, "loop.jpg": "unreadable", "gone.jpg": "unreadable"}


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, pax: dict[str, str] | None = None) -> bytes:
    """A member's header with a size that nothing has to follow; one that octal cannot hold is written as GNU does."""
    member = tarfile.TarInfo(name)
    member.size, member.type, member.pax_headers = size, kind, pax or {}
    return member.tobuf(tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT)


WHOLE = header("a.jpg", 3) + b"abc".ljust(BLOCK, b"\0")
END = bytes(2 * BLOCK)
LIES = {
    "negative size": WHOLE + header("b.jpg", -BLOCK) + WHOLE + END,
    "negative size that leads back": WHOLE + header("b.jpg", -3 * BLOCK) + END,
    "size beyond the file": WHOLE + header("b.jpg", 2**40) + END,
    "size beyond 64 bits": WHOLE + header("b.jpg", 2**70) + END,
    "name as long as a tar": WHOLE + header("././@LongLink", 2**33, tarfile.GNUTYPE_LONGNAME) + END,
    "size in PAX": WHOLE + header("b.jpg", pax={"size": "-5"}) + END,
    "no number in PAX": WHOLE + header("b.jpg", pax={"size": "many"}) + END,
    "sparse map": WHOLE + header("b.jpg", pax={"GNU.sparse.map": "0,9,8,x", "GNU.sparse.size": "9"}) + END,
    "sparse size": WHOLE + header("b.jpg", pax={"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**50)}) + END,
    "sparse 1.0": WHOLE + header("b.jpg", 9, pax={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}) + END,
    "long names without end": WHOLE + (header("l", 3, tarfile.GNUTYPE_LONGNAME) + b"abc".ljust(BLOCK, b"\0")) * 3000,
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_costs_its_own_row_only(tmp_path: Path, lie: str) -> None:
    (tmp_path / "x.tar").write_bytes(LIES[lie])
    contents = read(tmp_path / "x.tar")
    assert contents.pop("a.jpg") == b"abc"
    assert len(contents) == 1
    assert set(contents.values()) <= {"truncated", "too_large", b""}


@pytest.mark.parametrize("lie", LIES)
def test_a_first_header_that_lies_is_one_sentence_or_one_row(tmp_path: Path, lie: str) -> None:
    (tmp_path / "x.tar").write_bytes(LIES[lie].removeprefix(WHOLE))
    with contextlib.suppress(InputError):
        assert len(read(tmp_path / "x.tar")) <= 2


def test_sidecars_that_cannot_be_kept_as_they_are(tmp_path: Path) -> None:
    sidecars = {
        "deep": b"[" * 100_000,
        "half": b'{"label": "\\ud800 half a pair"}',
        "large": b'{"label": 9007199254740993}',
        "broken": b"\xff\xfe{",
    }
    files = {f"{key}.json": text for key, text in sidecars.items()} | {f"{key}.jpg": b"x" for key in sidecars}
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    keeper = ExtraColumns(["label"])
    kept = [found.kept[0] for found in stream_items([tmp_path / "x.tar"], keeper=keeper)]
    assert kept_column(kept, keeper.types()["label"]).to_pylist() == [
        None,
        "\\ud800 half a pair",
        "9007199254740993",
        None,
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2**53 + 1, 0.5], ["9007199254740993", "0.5"]),
        ([3, 0.5], [3.0, 0.5]),
        ([2**63, 1], ["9223372036854775808", "1"]),
    ],
)
def test_a_large_integer_beside_a_float_stays_exact(values: list[object], expected: list[object]) -> None:
    keeper = ExtraColumns(["x"])
    texts = [keeper.write("x", value) for value in values]
    assert kept_column(texts, keeper.types()["x"]).to_pylist() == expected
