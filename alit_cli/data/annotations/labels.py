"""Class labels of images: from a file with one row per image, or from the folders they lie in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from alit_cli.data.annotations.frames import IMAGE_NAMES, LABEL_NAMES, find_column, read_frame
from alit_cli.data.annotations.matching import match
from alit_cli.errors import InputError


@dataclass(frozen=True)
class Labelled:
    """Which images have a label.

    Attributes:
        of: image key → its label.
        said: in a few words, where the labels are from.
        unmatched: rows of the file without an image.
    """

    of: dict[str, str]
    said: str
    unmatched: int = 0


def labels_of_folders(images: Sequence[str]) -> Labelled:
    """Each image's label is the folder it lies in; InputError for an image that lies in none."""
    for image in images:
        if "/" not in image:
            raise InputError(
                f"'{image}' lies in no folder below the input, so it has no label: give the folder that holds the "
                "classes' folders, or a file with --labels."
            )
    return Labelled({image: PurePosixPath(image).parent.name for image in images}, "the folders' names")


def labels_of_file(
    path: Path,
    images: Sequence[str],
    image_col: str | None = None,
    label_col: str | None = None,
    ways: tuple[str, str] = ("the header 'image'", "the header 'label'"),
    where: str = "table",
) -> Labelled:
    """Labels from a csv, tsv, parquet or xlsx file with columns of images and labels, joined as scores are.

    Args:
        images: the keys, in any order.
        image_col, label_col: the columns; None finds them by their names.
        ways: how the user can name either column, for an error that says so.
        where: what holds the images, likewise.

    Raises InputError where the file or a column cannot be read, or no row belongs to an image.
    """
    frame = read_frame(path, "labels")
    image = find_column(frame, image_col, IMAGE_NAMES, "image names", ways[0], path)
    # The user may have named a column such as 'class' as that of the images; then it is not that of the labels too.
    label = find_column(frame, label_col, LABEL_NAMES, "labels", ways[1], path, taken=(image,))
    # Without this an empty cell would become the label 'nan'.
    frame = frame[frame[image].notna() & frame[label].notna()]
    names, labels = frame[image].astype(str).tolist(), frame[label].astype(str).tolist()
    pairs = match(names, images, "labels", where)
    if not len(pairs.names):
        rows = f"it names images like '{names[0]}'" if names else "it has no row with both"
        raise InputError(f"None of the labels in {path} belongs to an image: {rows}, the {where} has '{images[0]}'.")
    labelled = {images[key]: labels[row] for row, key in zip(pairs.names, pairs.keys, strict=True)}
    return Labelled(labelled, f"'{label}' of {path.name}", len(pairs.unmatched_names))
