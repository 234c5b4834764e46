"""`alit analyze probe`: labelled images through the encoder, probes fitted to its output, and what is printed."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import numpy as np

from alit_cli.analysis.answers.probe import probe_blocks, probe_remarks
from alit_cli.analysis.answers.questions import FOLDERS, ProbeQuestion
from alit_cli.analysis.probe.figure import draw_probe
from alit_cli.analysis.probe.probing import check_probe, check_split, features_of, probe, save_probe
from alit_cli.data.annotations.labels import labels_of_file, labels_of_folders
from alit_cli.data.files import computed_from, make_folder
from alit_cli.data.marks import Sources
from alit_cli.data.sources.items import Item
from alit_cli.data.sources.listing import list_items
from alit_cli.data.tables.pooled import Pooled
from alit_cli.jobs.probe import ProbeJob, encode_pooled
from alit_cli.model.tokenizer import Tokenizer, load
from alit_cli.progress import Progress
from alit_cli.results import Result


def answer_probe(question: ProbeQuestion) -> Iterator[Progress | str | Result]:
    """Write the table and the figure. Yields progress, remarks as they come up, and at last the answer.

    Raises:
        InputError: no image is there or can be read, labels are missing or too few, or the model has no such iteration.
    """
    # The first set is PATHS; the second one is --validation, if that was given.
    sets = [list_items(paths, question.limit) for paths in (question.paths, question.validation) if paths]
    labels_of = []
    for items in sets:
        labels_of.append((yield from _labels(question, items)))
    # Images without a label are left out before the encoder sees them, because encoding is the slow part.
    sets = [[item for item in items if item.image in known] for items, known in zip(sets, labels_of, strict=True)]
    # The labels are checked twice: here, before the slow encoder, and again below, because an image that cannot be read
    # takes its label with it.
    _check(question, [[known[item.image] for item in items] for items, known in zip(sets, labels_of, strict=True)])
    make_folder(question.out)
    tokenizer = load(question.checkpoint, question.device, question.precision)
    first = question.first or tokenizer.budgets[0]
    images = []
    for items in sets:
        images.append((yield from _encode(question, tokenizer, items, first)))
    labels = [[known[image.image] for image in some] for some, known in zip(images, labels_of, strict=True)]
    _check(question, labels)
    # The probe takes one list of all images; `held_out` says which of them are the validation set.
    everything = [image for some in images for image in some]
    names = [label for some in labels for label in some]
    held_out = np.arange(len(names)) >= len(labels[0]) if question.validation else None
    accuracies = []
    for record in probe(features_of(everything, question.pool), names, question.folds, question.seed, held_out):
        yield record.progress
        if record.accuracy is not None:
            accuracies.append(record.accuracy)
    # The page looks for a table of the training images; the validation set may be in another one.
    with computed_from(Sources.of_images(tokenizer.model_id, {item.image: item.source for item in sets[0]})):
        tables = save_probe(accuracies, question.out)
    # The figure is the last of the files, where the next line takes its path from.
    files = [*tables, question.out / f"probe.{question.form}"]
    draw_probe(accuracies, first, _source(question, tokenizer, labels), files[-1])
    data = {"images": len(names), "classes": sorted(set(names)), "probes": accuracies, "files": files}
    blocks = (*probe_blocks(accuracies, first), "\n".join(map(str, files)))
    yield Result(blocks, tuple(probe_remarks(accuracies)), data)


def _check(question: ProbeQuestion, labels: list[list[str]]) -> None:
    """Raises InputError: probes cannot be fitted to these labels, or not be tested on them."""
    if question.validation:
        check_split(*labels)
    else:
        check_probe(labels[0], question.folds)


def _encode(
    question: ProbeQuestion, tokenizer: Tokenizer, items: Sequence[Item], first: int
) -> Generator[Progress | str, None, list[Pooled]]:
    """The pooled vectors of every image that can be read."""
    pooled = []
    for record in encode_pooled(tokenizer, ProbeJob(items, question.iterations, first, question.batch_size)):
        yield record.progress
        if record.problem is not None:
            yield record.problem
        if record.value is not None:
            pooled.append(record.value)
    return pooled


def _source(question: ProbeQuestion, tokenizer: Tokenizer, labels: Sequence[Sequence[str]]) -> str:
    """Where the numbers of the figure come from."""
    config, classes = tokenizer.config, len(set(labels[0]))
    tested = f"tested on {len(labels[1])} others" if question.validation else f"{question.folds} folds"
    size = f"{config.image_size}×{config.image_size} pixels"
    return (
        f"{len(labels[0])} images, {classes} classes, {tested} · model {config.name} ({tokenizer.model_id[:8]}), {size}"
    )


def _labels(question: ProbeQuestion, items: Sequence[Item]) -> Generator[str, None, dict[str, str]]:
    """The labels by image, and remarks on where they come from."""
    images = [item.image for item in items]
    # A file called `folders` has to be given as ./folders.
    if question.labels == FOLDERS:
        labelled = labels_of_folders(images)
    else:
        columns, options = (question.image_col, question.label_col), ("--image-col", "--label-col")
        labelled = labels_of_file(Path(question.labels), images, *columns, options, "input")
    classes = len(set(labelled.of.values()))
    yield f"{len(labelled.of)} of {len(images)} images have a label, {classes} classes, from {labelled.said}."
    if labelled.unmatched:
        yield f"{labelled.unmatched} labels have found no image."
    return dict(labelled.of)
