"""Inputs become items: which files, in which order, under which names, and what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alit_cli.data.sources.items import Item
from alit_cli.data.sources.listing import list_items
from alit_cli.errors import ImageProblem, InputError
from tests.data.inputs import make, make_tar


def names(*paths: str | Path, limit: int | None = None) -> list[str]:
    return [item.image for item in list_items(paths, limit)]


def test_a_folder_is_walked_in_natural_order(tmp_path: Path) -> None:
    make(tmp_path, "b/img10.jpg", "b/img2.PNG", "a.webp", "b/c/1.tif", "img1.jpg", "img01.jpg")
    make(tmp_path, ".hidden.jpg", ".git/x.jpg", "t.parquet.work/x.jpg", "notes.txt", "labels.csv")
    assert names(tmp_path) == ["a.webp", "b/c/1.tif", "b/img2.PNG", "b/img10.jpg", "img01.jpg", "img1.jpg"]


def test_items_say_where_they_come_from_and_read_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "photos", "one/x y 😀.jpg")
    monkeypatch.chdir(tmp_path)
    (item,) = list_items(["./photos/"])
    assert item == Item("one/x y 😀.jpg", "photos", str(tmp_path / "photos" / "one" / "x y 😀.jpg"))
    monkeypatch.chdir("/")
    assert item.read().decode() == "one/x y 😀.jpg"


def test_links_are_followed_but_never_in_a_loop(tmp_path: Path) -> None:
    make(tmp_path, "in/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "up").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert names(tmp_path / "in") == ["a.jpg", "gone.jpg", "link/b.jpg"]


def test_a_single_file_needs_no_suffix(tmp_path: Path) -> None:
    make(tmp_path, "a/picture", "b/x.jpg")
    assert names(tmp_path / "a" / "picture", tmp_path / "b") == ["picture", "x.jpg"]


def test_globs_keep_the_path_below_their_fixed_part(tmp_path: Path) -> None:
    make(tmp_path, "a/10.jpg", "a/9.jpg", "b/c/1.png", "b/readme.txt", "b/x.dat", "b/y.work/z.jpg")
    assert names(tmp_path / "**" / "*") == ["a/9.jpg", "a/10.jpg", "b/c/1.png"]
    assert names(tmp_path / "*" / "*.jpg") == ["a/9.jpg", "a/10.jpg"]
    assert names(tmp_path / "b" / "*.dat") == ["x.dat"]
    assert [item.source for item in list_items([tmp_path / "a" / "*.jpg"])] == [str(tmp_path / "a")] * 2


def test_a_name_that_looks_like_a_glob_is_first_a_name(tmp_path: Path) -> None:
    make(tmp_path, "[1].jpg", "1.jpg")
    assert names(tmp_path / "[1].jpg") == ["[1].jpg"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are not UTF-8")
def test_names_that_are_not_utf_8_stay_readable_and_apart(tmp_path: Path) -> None:
    make(tmp_path, *(os.fsdecode(name) for name in (b"caf\xe9.jpg", b"caf\xe8.jpg", "café.jpg".encode())))
    assert sorted(names(tmp_path)) == ["caf\\xe8.jpg", "caf\\xe9.jpg", "café.jpg"]
    assert {item.read() for item in list_items([tmp_path])} == {b"caf\xe9.jpg", b"caf\xe8.jpg", "café.jpg".encode()}


def test_tar_members_come_in_tar_order_and_are_read_in_place(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "x.tar", "b/2.jpg", "./a.png", "notes.txt", "._a.png", "../up.jpg", "x" * 150 + ".jpg")
    items = list_items([path])
    assert [item.image for item in items] == ["b/2.jpg", "a.png", "up.jpg", "x" * 150 + ".jpg"]
    assert [item.read()[:7] for item in items] == [b"b/2.jpg", b"./a.png", b"../up.j", b"xxxxxxx"]
    assert all(item.source == str(path) and len(item.read()) == item.size for item in items)
    assert names(tmp_path / "*.tar", limit=2) == ["b/2.jpg", "a.png"]


def statuses(path: Path) -> dict[str, str]:
    """What reading each item of an input ends in."""
    found = {}
    for item in list_items([path]):
        try:
            found[item.image] = "ok" if item.read() == item.image.encode() * 100 else "wrong"
        except ImageProblem as problem:
            found[item.image] = problem.status
    return found


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        (700, {"1.jpg": "truncated"}),
        (1024, {"1.jpg": "ok"}),  # only the padding is missing, and the end marker
        (1024 + 20, {"1.jpg": "ok", "x.tar@1024": "truncated"}),
        (1024 + 512 + 300, {"1.jpg": "ok", "2.jpg": "truncated"}),
        (2048, {"1.jpg": "ok", "2.jpg": "ok"}),
    ],
)
def test_a_tar_that_breaks_off_keeps_what_is_whole(tmp_path: Path, cut: int, expected: dict[str, str]) -> None:
    path = make_tar(tmp_path / "x.tar", "1.jpg", "2.jpg", "3.jpg")
    path.write_bytes(path.read_bytes()[:cut])
    assert statuses(path) == expected


def test_a_damaged_header_in_a_tar_is_an_item_of_its_own(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "x.tar", "1.jpg", "2.jpg")
    whole = path.read_bytes()
    path.write_bytes(whole[:1024] + b"garbage" + whole[1031:])
    assert statuses(path) == {"1.jpg": "ok", "x.tar@1024": "truncated"}
    path.write_bytes(b"")
    with pytest.raises(InputError, match="tar"):
        list_items([path])


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.tar"])
def test_a_compressed_tar_is_refused_whatever_its_name(tmp_path: Path, name: str) -> None:
    path = make_tar(tmp_path / name, "1.jpg", mode="w:gz")
    with pytest.raises(InputError, match="compressed"):
        list_items([path])


def test_the_limit_counts_over_all_inputs(tmp_path: Path) -> None:
    make(tmp_path, "a/1.jpg", "a/2.jpg", "b/3.jpg", "b/4.jpg")
    assert names(tmp_path / "a", tmp_path / "b", limit=3) == ["1.jpg", "2.jpg", "3.jpg"]
    with pytest.raises(InputError, match="at least 1"):
        list_items([tmp_path], limit=0)


def test_what_cannot_be_listed_is_said_in_one_sentence(tmp_path: Path) -> None:
    make(tmp_path, "a/1.jpg", "b/1.jpg", "text/readme.txt")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    for paths, words in (
        ([], "No input"),
        ([tmp_path / "a", tmp_path / "nowhere"], "nowhere.*does not exist"),
        ([tmp_path / "a", tmp_path / "empty"], "No image was found in '.*empty'"),
        ([tmp_path / "text"], "No image was found"),
        ([tmp_path / "*.jpg"], "No image was found"),
        ([tmp_path / "pipe"], "neither a folder nor a file"),
        (
            [tmp_path / "a" / "1.jpg", tmp_path / "b" / ".." / "b" / "1.jpg", tmp_path / "b"],
            "the same name|named twice",
        ),
        ([tmp_path / "a", tmp_path / "a" / "1.jpg"], "named twice"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            list_items(paths)
        assert caught.value.exit_code == 2


def test_inputs_with_images_of_one_name_lend_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "photos/one/0.jpg", "photos/two/0.jpg", "photos/two/1.jpg")
    for tar in ("x.tar", "y.tar"):
        make_tar(tmp_path / tar, "0.jpg")
    monkeypatch.chdir(tmp_path)
    assert names(tmp_path / "photos" / "one", tmp_path / "photos" / "two") == ["one/0.jpg", "two/0.jpg", "two/1.jpg"]
    assert names("photos/one", "x.tar") == ["photos/one/0.jpg", "x/0.jpg"]
    assert names("./*.tar") == ["x/0.jpg", "y/0.jpg"]
    assert names("photos/one/", "photos/two/1.jpg") == ["0.jpg", "1.jpg"]  # nothing collides, so nothing changes
    contents = [item.read()[:5] for item in list_items(["x.tar", "photos/one"])]
    assert contents == [b"0.jpg", b"photo"]


def test_a_folder_of_tars_says_what_to_write(tmp_path: Path) -> None:
    (tmp_path / "tars").mkdir()
    make_tar(tmp_path / "tars" / "x.tar", "0.jpg")
    with pytest.raises(InputError, match=r"to read the files inside it, write '.*/tars/\*\.tar'\."):
        list_items([tmp_path / "tars"])


def test_folders_nested_deeper_than_python_calls_functions(tmp_path: Path) -> None:
    folder = f"{tmp_path}/"
    for _ in range(1200):  # os.makedirs calls itself for each folder, too
        folder += "d/"
        os.mkdir(folder)
    os.symlink(tmp_path, f"{folder}back")
    Path(f"{folder}x.jpg").write_bytes(b"x")
    try:
        assert names(tmp_path) == ["d/" * 1200 + "x.jpg"]
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # as pytest could not


def test_a_gigantic_file_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "x.jpg", "wb") as file:
        file.truncate(3 * 2**30)
    with pytest.raises(ImageProblem, match="bytes") as caught:
        list_items([tmp_path])[0].read()
    assert caught.value.status == "too_large"


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0\\"), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None)
@given(st.sets(NAMES.map(lambda name: f"x{name}.jpg"), min_size=1, max_size=8))
def test_the_order_does_not_depend_on_the_file_system(
    tmp_path_factory: pytest.TempPathFactory, found: set[str]
) -> None:
    forwards, backwards = (tmp_path_factory.mktemp("order") for _ in range(2))
    make(forwards, *sorted(found))
    make(backwards, *sorted(found, reverse=True))
    assert names(forwards) == names(backwards)
    assert set(names(forwards)) == found
