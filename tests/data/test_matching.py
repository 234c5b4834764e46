"""Names find their image by the whole path or the longest ending, and never by luck."""

import string
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alit_cli.data.annotations.matching import match
from alit_cli.errors import InputError

PATHS = st.lists(
    st.lists(st.sampled_from(["a", "b", "c.jpg", "d.jpg"]), min_size=1, max_size=4).map("/".join),
    min_size=1,
    max_size=6,
    unique=True,
)


def pairs(names: Sequence[str], keys: Sequence[str]) -> dict[str, str]:
    found = match(names, keys)
    assert set(found.unmatched_names) == set(names) - {names[row] for row in found.names}
    assert set(found.unmatched_keys) == set(keys) - {keys[row] for row in found.keys}
    return {names[left]: keys[right] for left, right in zip(found.names, found.keys, strict=True)}


def test_the_whole_path_comes_first() -> None:
    assert pairs(["7.jpg", "art/7.jpg"], ["art/7.jpg", "7.jpg"]) == {"7.jpg": "7.jpg", "art/7.jpg": "art/7.jpg"}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("7.jpg", "images/art/7.jpg"),
        ("art/7.jpg", "images/art/7.jpg"),
        ("/data/savoias/art/7.jpg", "art/7.jpg"),
        (r"C:\data\art\7.jpg", "art/7.jpg"),
        ("./art//7.jpg", "art/7.jpg"),
        ("caf\u00e9.jpg", "cafe\u0301.jpg"),
        ("a b 🐈.jpg", "x/a b 🐈.jpg"),
    ],
)
def test_a_path_finds_the_one_that_ends_like_it(name: str, key: str) -> None:
    assert pairs([name], [key, "images/art/17.jpg"]) == {name: key}


@pytest.mark.parametrize(("name", "key"), [("art/7.jpg", "objects/7.jpg"), ("7.jpg", "17.jpg"), ("7.png", "7.jpg")])
def test_a_shared_file_name_is_not_enough(name: str, key: str) -> None:
    assert pairs([name], [key]) == {}


def test_the_longest_ending_wins() -> None:
    assert pairs(["x/art/7.jpg"], ["7.jpg", "art/7.jpg"]) == {"x/art/7.jpg": "art/7.jpg"}


def test_a_name_that_fits_two_images_is_an_error_that_names_all() -> None:
    with pytest.raises(InputError, match=r"'7\.jpg' .*'art/7\.jpg' or 'objects/7\.jpg'"):
        match(["7.jpg"], ["art/7.jpg", "objects/7.jpg"])


def test_two_names_for_one_image_are_an_error_that_names_all() -> None:
    with pytest.raises(InputError, match=r"'art/7\.jpg' and 'objects/7\.jpg' .*'7\.jpg'"):
        match(["art/7.jpg", "objects/7.jpg"], ["7.jpg"])


def test_a_name_that_is_there_twice_is_an_error() -> None:
    with pytest.raises(InputError, match=r"'\./7\.jpg' more than once"):
        match(["7.jpg", "./7.jpg"], ["7.jpg"])


@given(PATHS)
def test_a_table_matches_itself(keys: list[str]) -> None:
    assert pairs(keys, keys) == {key: key for key in keys}


@given(PATHS, st.text(string.ascii_lowercase, min_size=1, max_size=5))
def test_a_root_before_all_paths_changes_nothing(keys: list[str], root: str) -> None:
    rooted = [f"{root}/z/{key}" for key in keys]
    try:
        found = pairs(rooted, keys)
    except InputError:  # only where one path ends like another
        assert any(one != other and one.endswith(f"/{other}") for one in keys for other in keys)
    else:
        assert found == dict(zip(rooted, keys, strict=True))


@given(PATHS, PATHS)
def test_matches_are_one_to_one_and_agree_to_the_end(names: list[str], keys: list[str]) -> None:
    try:
        found = pairs(names, keys)
    except InputError:
        return
    assert len(set(found.values())) == len(found)
    for name, key in found.items():
        assert f"/{name}".endswith(f"/{key}") or f"/{key}".endswith(f"/{name}")
