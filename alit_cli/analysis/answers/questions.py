"""What `alit select` and the analyses are asked: one frozen record per command.

Nothing heavy is imported here, because a command's help needs these records. Options that several questions share mean
the same in all of them:

- tokens: the token table; scores: the folder of score tables, None for where they usually lie; tables: further tables
  of the user's own.
- thr: thresholds, None where they are chosen from the data.
- by: how images are grouped; few_samples: whether a biased Fréchet distance is wanted.
- bootstrap: resamples of the 95 % intervals, 0 for none; seed: of what is drawn at random.
- out: the folder (of a selection: the file) that is written; form: format of the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alit_cli.analysis.studies.capacity_options import CapacityOptions

FOLDERS = "folders"
"""The word for labels that are the names of the images' folders."""


@dataclass(frozen=True, kw_only=True)
class SelectQuestion:
    """Which budget each image needs.

    Attributes:
        tsc: the criterion, or a measure whose number is in thr, top or capacity.
        top: ranks of the true class; capacity: a share of the largest capacity to spend.
        where, hardest, easiest: which images are kept.
        no_tokens: whether the tokens are left out.
    """

    tokens: Path
    out: Path
    tsc: str = "recon"
    thr: tuple[float, ...] | None = None
    top: tuple[int, ...] | None = None
    capacity: float | None = None
    where: str | None = None
    hardest: int | None = None
    easiest: int | None = None
    by: str | None = None
    no_tokens: bool = False
    scores: Path | None = None
    tables: tuple[Path, ...] = ()

    @property
    def numbers(self) -> list[tuple[float | None, int | None]]:
        """The (threshold, top) of every criterion that is asked for; one without both where neither was given."""
        thresholds: list[tuple[float | None, int | None]] = [(value, None) for value in self.thr or ()]
        tops: list[tuple[float | None, int | None]] = [(None, value) for value in self.top or ()]
        return [*thresholds, *tops] or [(None, None)]


@dataclass(frozen=True, kw_only=True)
class CapacityQuestion(CapacityOptions):
    """What becomes of tasks as criteria spend more or fewer tokens.

    Attributes:
        tokens: the token table, or one of every tokenizer that is compared on the same images.
        names: what to call the tokenizers; empty is by their models.
    """

    tokens: tuple[Path, ...]
    out: Path
    names: tuple[str, ...] = ()
    form: str = "png"
    scores: Path | None = None
    tables: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ComplexityQuestion:
    """How far L1, needs and plain measures follow scores of complexity.

    Attributes:
        scores: the file of scores; image_col, score_col, group_col: its columns, None where their names tell.
        tokens: the token table, or one of every tokenizer that is compared on the same images.
        names: what to call the tokenizers; empty is by their models.
    """

    scores: Path
    tokens: tuple[Path, ...]
    out: Path
    names: tuple[str, ...] = ()
    form: str = "png"
    image_col: str | None = None
    score_col: str | None = None
    group_col: str | None = None
    thr: tuple[float, ...] | None = None
    bootstrap: int = 1000
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class FamiliarityQuestion:
    """Whether other sets of images gain more from tokens than the first, and need more of them.

    Attributes:
        tables: the token tables, the first to be compared with.
        names: how the sets are called; none: by their files.
        between: the two budgets whose gap is measured; None: the smallest and the largest.
        scores: one folder of score tables for each set, in order, or none.
    """

    tables: tuple[Path, ...]
    out: Path
    form: str = "png"
    names: tuple[str, ...] = ()
    between: tuple[int, ...] | None = None
    thr: tuple[float, ...] | None = None
    scores: tuple[Path, ...] = ()
    few_samples: bool = False
    bootstrap: int = 1000
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class StrengthQuestion:
    """Whether stronger networks of a task lose more on reconstructions.

    Attributes:
        task: classify, depth or language; model: names of networks, none for all that were scored.
        top: of classify, the true class is among the first so many.
    """

    tokens: Path
    out: Path
    form: str = "png"
    task: str = "classify"
    model: tuple[str, ...] = ()
    top: int = 1
    scores: Path | None = None
    bootstrap: int = 1000
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class QualityQuestion:
    """How good the tokens are at every budget, beside other codes of as many bits."""

    tokens: Path
    out: Path
    form: str = "png"
    thr: tuple[float, ...] | None = None
    scores: Path | None = None
    tables: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ComparisonQuestion:
    """Several tokenizers on the same images.

    Attributes:
        tokens: a token table of each.
        names: what to call them; empty is by their models.
        scores: a folder with a folder of scores for each table, called as the table without its suffix.
    """

    tokens: tuple[Path, ...]
    out: Path
    names: tuple[str, ...] = ()
    form: str = "png"
    thr: tuple[float, ...] | None = None
    scores: Path | None = None
    tables: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a model is run over images: `limit` of them, on a device, in batches."""

    limit: int | None = None
    checkpoint: str | None = None
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 16


@dataclass(frozen=True, kw_only=True)
class AttentionQuestion(ModelOptions):
    """Which part of an image each token is for.

    Attributes:
        paths, masks: images, and label maps that belong to them.
        layer, iterations: of the decoder; counted from 0, None for all.
        region: the rule ('top' or 'mass') and the shares of 1 that make a token's region.
        tokens: which tokens the sheets follow; None: the narrowest.
        background, ignore, min_area: what of a label map is a segment, as `segments` takes it.
        shuffles: label maps of other images that each image's maps are compared with; seed: of that choice.
        sheets: images that get a contact sheet, the first ones.
        npz: whether the maps are written.
    """

    paths: tuple[str, ...]
    out: Path
    form: str = "png"
    masks: str | None = None
    layer: int = -2
    iterations: tuple[int, ...] | None = None
    region: tuple[Literal["top", "mass"], tuple[float, ...]] = ("top", (0.4, 0.6, 0.8))
    tokens: tuple[int, ...] | None = None
    background: tuple[int, ...] = (0,)
    ignore: tuple[int, ...] | None = None
    min_area: float = 0.0
    shuffles: int = 5
    seed: int = 0
    sheets: int = 12
    npz: bool = False


@dataclass(frozen=True, kw_only=True)
class ProbeQuestion(ModelOptions):
    """Whether the tokens know what is in the image.

    Attributes:
        paths: labelled images; validation: others that probes are tested on, none for cross-validation.
        labels: a file, or 'folders'; image_col, label_col: its columns.
        pool: what is averaged; first: latents that the pool 'first' averages, None for the model's first budget.
        iterations: counted from 0, None for all; folds, seed: of the cross-validation.
    """

    paths: tuple[str, ...]
    out: Path
    form: str = "png"
    validation: tuple[str, ...] = ()
    labels: str = FOLDERS
    image_col: str | None = None
    label_col: str | None = None
    pool: tuple[str, ...] = ("latents", "first", "image", "both", "all")
    first: int | None = None
    iterations: tuple[int, ...] | None = None
    folds: int = 5
    seed: int = 0
