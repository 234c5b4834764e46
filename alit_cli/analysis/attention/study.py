"""`alit analyze attention`, image by image: rows, sheets and arrays as the maps come in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from alit_cli.analysis.answers.questions import AttentionQuestion
from alit_cli.analysis.attention.binding import Keep, Segments, segments
from alit_cli.analysis.attention.figure import draw_attention
from alit_cli.analysis.attention.sheets import (
    MARKED,
    draw_first_tokens,
    draw_overview,
    draw_sheet,
    narrow_marks,
    segment_marks,
)
from alit_cli.analysis.attention.sparsity import Sameness
from alit_cli.analysis.attention.tables import BEST, by_iteration, join_rows, overlap_rows, save_attention, spread_rows
from alit_cli.data.annotations.masks import Labels, Masks, stem
from alit_cli.data.annotations.matching import match
from alit_cli.data.sources.items import Item
from alit_cli.data.tables.token_maps import TokenMaps, save_maps
from alit_cli.errors import InputError

OVERVIEW = 12
"""Images on the overview, at most."""


class AttentionStudy:
    """Takes in maps one image at a time and keeps only numbers, and the maps on the overview.

    Args:
        question: what is asked of the maps.
        source: which model and layer, for the sheets.
        masks: label maps of the images; None is none.

    Attributes:
        keep: what a token's region is.
        first: tokens of the model's first budget.
        files: sheets written so far, and the folder of the arrays.
        without_mask: images that have no mask, or one without a segment.
    """

    def __init__(self, question: AttentionQuestion, source: str, masks: Masks | None = None) -> None:
        self.question, self.source, self.masks = question, source, masks
        self.keep = Keep(*question.region)
        self.spread: list[pd.DataFrame] = []
        self.overlap: list[pd.DataFrame] = []
        self.segments: list[int] = []
        self.first = 0
        self.sameness = Sameness()
        self.pictured: list[TokenMaps] = []
        self.files: list[Path] = []
        self.without_mask: list[str] = []

    def take(self, maps: TokenMaps, name: str) -> None:
        """One more image; `name` is a relative path without suffix for its sheet and arrays."""
        self.first = maps.first
        own = self._own(maps)
        self.spread.append(spread_rows(maps))
        # An image without segments still counts for the maps, but not for the objects.
        if own is not None:
            # The segments of other images meet the maps of this one too; that is how the chance level of those segments
            # is measured.
            label_maps = {maps.image: own, **self._others(maps.image)}
            self.overlap.append(overlap_rows(maps, self.keep, label_maps))
            self.segments.append(len(own.masks))
        self.sameness.add(maps)
        # Maps are large, so only those that the overview will draw are kept.
        if len(self.pictured) < min(OVERVIEW, self.question.sheets):
            self.pictured.append(maps)
        # `spread` has this image already, so it counts the images up to this one.
        if len(self.spread) <= self.question.sheets:
            self._draw(maps, own, self.question.out / "sheets" / f"{name}.{self.question.form}")
        if self.question.npz:
            folder = self.question.out / "maps"
            save_maps(maps, folder / f"{name}.npz")
            # There may be thousands of arrays, so the folder is named once in their place.
            self.files += [folder] if folder not in self.files else []

    @property
    def images(self) -> int:
        """Images taken in."""
        return len(self.spread)

    @property
    def shares(self) -> dict[str, str]:
        """The names of the shares that mIoU is known for, and how to call them."""
        rule = "of the mass" if self.keep.rule == "mass" else "of positions"
        return {**{name: f"{name} % {rule}" for name in self.keep.names}, BEST: "best for each image"}

    @property
    def bound(self) -> tuple[int, int] | None:
        """Images and segments that objects were looked for in; None where there are none."""
        return (len(self.segments), sum(self.segments)) if self.segments else None

    @property
    def unreadable_masks(self) -> dict[str, str]:
        """Image key → why its mask cannot be used."""
        return {} if self.masks is None else self.masks.unreadable

    def rows(self) -> pd.DataFrame:
        """One row per image and iteration, as `join_rows` has them."""
        overlap = pd.concat(self.overlap, ignore_index=True) if self.overlap else None
        return join_rows(pd.concat(self.spread, ignore_index=True), overlap)

    def finish(self) -> pd.DataFrame:
        """Draw the overview; the means by iteration, as `by_iteration` has them.

        Raises InputError: none of the images, or none of the masks, can be used.
        """
        if not self.spread:
            raise InputError("None of the images could be read, so there is nothing to look at.")
        if self.masks is not None and 0 < len(self.masks.unreadable) == len(self.masks.items):
            raise InputError(f"None of the masks can be used: {next(iter(self.masks.unreadable.values()))}")
        # An overview of one image would only repeat its sheet.
        if len(self.pictured) > 1:
            self.files.append(self.question.out / f"overview.{self.question.form}")
            draw_overview(self.pictured, self.source, self.files[-1])
        # This figure sets the first iteration beside the last one, so there must be two.
        if self.pictured and len(self.pictured[0].iterations) > 1:
            self.files.append(self.question.out / f"first_tokens.{self.question.form}")
            draw_first_tokens(self.pictured[0], self.source, self.files[-1])
        return by_iteration(self.rows(), self.sameness)

    def save(self, summary: pd.DataFrame) -> list[Path]:
        """Write the tables and the figure; every file of the study, those that were asked for first."""
        question = self.question
        figure = question.out / f"attention.{question.form}"
        tables = save_attention(self.rows(), summary, question.out)
        draw_attention(summary, self.first, self.shares, f"{self._counts()} · {self.source}", figure)
        return [*tables, figure, *self.files]

    def _counts(self) -> str:
        """How much the numbers stand for."""
        images, segments = self.bound or (0, 0)
        return f"{self.images} images" + (f", {images} of them with masks of {segments} segments" if segments else "")

    def _draw(self, maps: TokenMaps, own: Segments | None, path: Path) -> None:
        if own is None:
            marks, heading = (
                narrow_marks(maps, self.question.tokens),
                ("the narrowest of the others", "on the pictures: which token"),
            )
        else:
            marks, count = segment_marks(maps, own, self.keep), len(own.masks)
            which = f"the {MARKED} largest of {count} segments" if count > MARKED else f"{count} segments"
            heading = (f"best token of {which}", "token: IoU · cyan: the segment, white: the token's region")
        draw_sheet(maps, marks, heading, self.source, path, self.question.tokens)
        self.files.append(path)

    def _own(self, maps: TokenMaps) -> Segments | None:
        if self.masks is None:
            return None
        labels = self.masks.own(maps.image, maps.width, maps.height)
        if maps.image in self.masks.unreadable:
            return None
        own = None if labels is None else self._segments(labels)
        # A mask that holds nothing but background has no segment to be found.
        if own is None or not len(own.masks):
            self.without_mask.append(maps.image)
            return None
        return own

    def _others(self, image: str) -> dict[str, Segments]:
        assert self.masks is not None
        others = self.masks.others(image, self.question.shuffles, self.question.seed)
        segments_of = {other: self._segments(labels) for other, labels in others}
        # Some of the other masks may hold no segment either, and a mean over none is not defined.
        return {other: wanted for other, wanted in segments_of.items() if len(wanted.masks)}

    def _segments(self, labels: Labels) -> Segments:
        question = self.question
        return segments(labels, question.background, question.ignore, question.min_area)


def match_masks(masks: Sequence[Item], images: Sequence[Item]) -> dict[str, Item]:
    """Image key → its mask, by the paths without their suffixes, else by their longest common endings.

    Raises InputError where no mask belongs to an image, or one could belong to several.
    """
    pairs = match([stem(item.image) for item in masks], [stem(item.image) for item in images], "masks", "input")
    # The names of both sides are quoted, because mostly a folder or an ending differs.
    if not len(pairs.names):
        raise InputError(
            f"None of the {len(masks)} masks belongs to an image: they are named like '{masks[0].image}', "
            f"the images like '{images[0].image}'."
        )
    return {images[key].image: masks[name] for name, key in zip(pairs.names, pairs.keys, strict=True)}
