"""Labels are joined to images as scores are, and what went wrong is one sentence."""

from pathlib import Path

import pytest

from alit_cli.data.annotations.labels import labels_of_file, labels_of_folders
from alit_cli.errors import InputError


def test_labels_come_from_folders_or_files(tmp_path: Path) -> None:
    images = ["cat/1.jpg", "dog/1.jpg", "dog/2.jpg"]
    assert labels_of_folders(images).of == {"cat/1.jpg": "cat", "dog/1.jpg": "dog", "dog/2.jpg": "dog"}
    (tmp_path / "l.csv").write_text("file;class\nx/cat/1.jpg;tabby\n2.jpg;pug\nnone.jpg;owl\n")
    labelled = labels_of_file(tmp_path / "l.csv", images)
    assert labelled.of == {"cat/1.jpg": "tabby", "dog/2.jpg": "pug"}
    assert labelled.unmatched == 1
    for content, sentence in (
        ("image,label\nz.jpg,owl\n", "None of the labels"),
        ("image,label\n1.jpg,owl\n", "'1.jpg' of the labels could be 'cat/1.jpg' or 'dog/1.jpg' of the input"),
        ("image,what\n1.jpg,owl\n", "name it with --label-col"),
    ):
        (tmp_path / "l.csv").write_text(content)
        with pytest.raises(InputError, match=sentence):
            labels_of_file(tmp_path / "l.csv", images, ways=("--image-col", "--label-col"), where="input")
    with pytest.raises(InputError, match=r"There is no file .* with the labels"):
        labels_of_file(tmp_path / "none.csv", images)
    (tmp_path / "l.csv").write_text("image,taste\n1.jpg,good\n")
    with pytest.raises(InputError, match="name it with the header 'label'"):
        labels_of_file(tmp_path / "l.csv", images)
    with pytest.raises(InputError, match="lies in no folder"):
        labels_of_folders(["1.jpg"])
