"""Criteria are read as written, refused with their place, and hold where plain Python says so."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alit_cli.analysis.query.criteria import Comparison, Joined, criterion, holds, names, parse
from alit_cli.errors import InputError

COLUMNS = {
    "l1": np.array([0.05, 0.08, 0.1, math.nan], np.float32),
    "class_rank": np.array([1, 5, 6, 2]),
    "psnr": np.array([30.0, 28.0, math.nan, 27.0]),
}
COMPARISONS = st.builds(
    Comparison,
    st.sampled_from(list(COLUMNS)),
    st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
    st.sampled_from([0.08, 5.0, 28.0, 1e-3, -2.0]),
)
CRITERIA = st.recursive(
    COMPARISONS,
    lambda inner: st.builds(
        lambda word, parts: Joined(word, tuple(parts)),
        st.sampled_from(["and", "or"]),
        st.lists(inner, min_size=2, max_size=3),
    ),
    max_leaves=6,
)


@given(CRITERIA)
def test_what_is_written_is_read_back_and_holds_where_python_says(found: Comparison | Joined) -> None:
    assert parse(str(found)) == found
    for row in range(4):
        # numpy scalars compare in the column's precision, as the arrays do; NaN satisfies nothing, not even !=
        values = {name: column[row] for name, column in COLUMNS.items()}
        expected = eval(_python(found), {}, values)
        assert bool(holds(found, COLUMNS.__getitem__)[row]) == bool(expected)


def _python(found: Comparison | Joined) -> str:
    if isinstance(found, Joined):
        return "(" + f" {found.word} ".join(map(_python, found.parts)) + ")"
    return f"({found.name} {found.operator} {found.value} and {found.name} == {found.name})"


def test_and_binds_tighter_than_or_and_spaces_do_not_matter() -> None:
    found = parse("l1<.08 or psnr >= 28 AND(class_rank<=5 or l1 < 1e-2)")
    assert str(found) == "l1<0.08 or (psnr>=28 and (class_rank<=5 or l1<0.01))"
    assert names(found) == ("l1", "psnr", "class_rank")


def test_tasks_stand_for_their_measures_and_models_may_have_dots_and_dashes() -> None:
    assert str(parse("recon<0.08 and classify@vit-b.16<=5")) == "l1<0.08 and class_rank@vit-b.16<=5"
    assert criterion("recon", 0.08) == Comparison("l1", "<", 0.08)
    assert criterion("classify", top=5) == Comparison("class_rank", "<=", 5)
    assert criterion("depth@small", 0.1) == Comparison("depth_error@small", "<", 0.1)
    assert criterion("psnr", 28) == Comparison("psnr", ">=", 28)
    assert criterion("mine", 2) == Comparison("mine", "<", 2)


def test_words_are_compared_and_none_is_never_equal_nor_different() -> None:
    column = {"label": np.array(["cat", "dog", None], object)}
    assert holds(parse("label == 'cat'"), column.__getitem__).tolist() == [True, False, False]
    assert holds(parse('label != "cat"'), column.__getitem__).tolist() == [False, True, False]
    for text in ("label < 3", "label > 'a'"):
        with pytest.raises(InputError, match="cannot be answered"):
            holds(parse(text), column.__getitem__)
    with pytest.raises(InputError, match="holds numbers"):
        holds(parse("l1 == 'low'"), COLUMNS.__getitem__)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "at its end: expected a column"),
        ("l1", "at its end: expected a comparison of 'l1'"),
        ("l1<0.08 und x>2", "at 'und x>2': expected 'and', 'or' or the end"),
        ("l1<0.08 and", "at its end: expected a column"),
        ("(l1<0.08", "at its end: a parenthesis is not closed"),
        ("l1<0.08)", "at ')'"),
        ("0.08>l1", "at '0.08>l1': expected a column"),
        ("l1<0.08; import os", "this is no column"),
        ("__import__('os')<1", "expected a comparison"),
        ("l1 < 0.08.1", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        parse(text)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("recon", None, None), "needs a number: --thr"),
        (("classify", None, None), "needs a number: --top"),
        (("recon", None, 5), "needs a number: --thr"),
        (("classify", 0.5, 5), "needs a number"),
        (("l1<0.1", 0.08, None), "Remove --thr"),
        (("l1<0.1", None, 5), "Remove --top"),
        (("l1<", None, None), "compares with nothing"),
        (("recon", -1.0, None), "from 0 up"),
        (("psnr", math.inf, None), "cannot be inf"),
    ],
)
def test_numbers_in_the_wrong_place_are_refused(words: tuple[str, float | None, int | None], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        criterion(*words)
