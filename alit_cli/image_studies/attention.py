"""`alit analyze attention`: images through the model, its maps into the study, and what is printed of them."""

from __future__ import annotations

from collections.abc import Iterator

from alit_cli.analysis.answers.attention import attention_blocks, attention_remarks
from alit_cli.analysis.answers.questions import AttentionQuestion
from alit_cli.analysis.attention.study import AttentionStudy, match_masks
from alit_cli.data.annotations.masks import Masks
from alit_cli.data.files import computed_from, make_folder
from alit_cli.data.marks import Sources
from alit_cli.data.sources.listing import list_items
from alit_cli.jobs.attention import AttentionJob, attend
from alit_cli.jobs.decode import file_names
from alit_cli.model.tokenizer import load
from alit_cli.progress import Progress
from alit_cli.results import Result


def answer_attention(question: AttentionQuestion) -> Iterator[Progress | str | Result]:
    """Write the tables, sheets and figures. Yields progress, remarks as they come up, and at last the answer.

    Raises:
        InputError: no image or mask is there or can be read, or the model has no such layer or iteration.
    """
    # Images and masks are listed before the model is loaded, so that a wrong path is told at once.
    items = list_items(question.paths, question.limit)
    mask_items = None if question.masks is None else list_items([question.masks])
    make_folder(question.out)
    tokenizer = load(question.checkpoint, question.device, question.precision)
    config = tokenizer.config
    masks = None
    if mask_items is not None:
        masks = Masks(match_masks(mask_items, items), config.image_size)
        yield f"{len(masks.items)} of {len(items)} images have one of the {len(mask_items)} masks."
    source = (
        f"model {config.name} ({tokenizer.model_id[:8]}), decoder layer {question.layer} of {config.decoder_layers}, "
        f"{config.image_size}×{config.image_size} pixels"
    )
    study = AttentionStudy(question, source, masks)
    job = AttentionJob(items, question.layer, question.iterations, question.sheets, question.batch_size)
    # Sheets and arrays are named as alit decode names its pictures, without the suffix.
    names = file_names([item.image for item in items])
    name_of = {item.image: name.removesuffix(".png") for item, name in zip(items, names, strict=True)}
    # The study takes one image at a time, because the maps of all images would not fit into memory.
    for record in attend(tokenizer, job):
        yield record.progress
        if record.problem is not None:
            yield record.problem
        if record.value is not None:
            study.take(record.value, name_of[record.value.image])
    summary = study.finish()
    # `finish` draws the overview and adds it to the study's files, so `save` comes after it.
    with computed_from(Sources.of_images(tokenizer.model_id, {item.image: item.source for item in items})):
        files = study.save(summary)
    rows = summary.to_dict("records")
    data = {
        "images": study.images,
        "without_mask": study.without_mask,
        "unreadable_masks": study.unreadable_masks,
        "rows": rows,
        "files": files,
    }
    blocks = (*attention_blocks(summary, study), "\n".join(map(str, files)))
    yield Result(blocks, tuple(attention_remarks(study)), data)
