"""How `alit analyze quality` is answered: files, the tokens at every budget, and other codes of as many bits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from alit_cli.analysis.answers.cells import fixed, percent
from alit_cli.analysis.answers.questions import QualityQuestion
from alit_cli.analysis.figures.quality import draw_quality
from alit_cli.analysis.figures.style import made_by
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.selection.decide import check_thresholds
from alit_cli.analysis.studies.quality import (
    BASE,
    TOKENS,
    Quality,
    Row,
    measure_quality,
    save_tables,
    share_below,
    spread,
)
from alit_cli.results import Result, TextTable
from alit_cli.table_layout import Cell


def answer_quality(question: QualityQuestion) -> Result:
    """Read what the tables say of every budget; write the tables and the figure.

    Raises InputError for a threshold that is none, a table without losses or with early stops, and what `open_output`
    raises.
    """
    # Thresholds are checked first, because nothing has to be read to know that they are wrong.
    check_thresholds(question.thr or ())
    tables = Tables(question.tokens, question.scores, question.tables)
    result = measure_quality(tables)
    figure = question.out / f"quality.{question.form}"
    files = [*save_tables(result, tables.budgets, question.out), figure]
    draw_quality(result, tables.budgets, _source(tables, result), figure)
    data = {"rows": result.rows, "features": result.frechet or None, "base": result.base, "files": files}
    blocks = (*quality_blocks(result, tables.budgets, question.thr), "\n".join(map(str, files)))
    return Result(blocks, (*result.remarks, *_missing(result)), data)


def _source(tables: Tables, result: Quality) -> str:
    """Where the numbers of the figure come from."""
    images = max(row.images for row in result.rows)
    features = f" · features: {result.frechet}" if result.frechet else ""
    if features and images <= result.features:
        features += f" (biased: {result.features} numbers of {images} images)"
    return f"{images} images · model: {made_by(tables.info)}{features}"


def _missing(result: Quality) -> Iterator[str]:
    """Which scores would add columns, and the warnings that numbers need."""
    tokens = result.of(TOKENS)
    # PSNR comes with every run of the task recon, so it tells whether there was one.
    lacking = [] if not math.isnan(tokens[-1].psnr) else ["recon"]
    lacking += [] if result.of("jpeg") else ["baselines"]
    if lacking:
        yield f"No scores of {' and '.join(lacking)} were found: alit score --task {','.join(lacking)} makes them."
    images = tokens[-1].images
    # A covariance of d features has full rank only from more than d images.
    if result.frechet and images <= result.features:
        yield f"A Fréchet distance of {result.features} features wants more images than these {images}: it is biased."
    # So many ids are drawn in all; a codebook cannot be used further than that.
    most = min(images * (tokens[0].budget or 0) / result.codes, 1) if result.codes else 1
    if most < 1:
        yield f"With {images} images at most {100 * most:.0f} % of the codes can occur at the smallest budget."


def quality_blocks(
    result: Quality, budgets: Sequence[int], thresholds: Sequence[float] | None
) -> Iterator[TextTable | str]:
    """The tokens, what as many bits buy otherwise, the base tokenizer, and images below thresholds."""
    yield _tokens_table(result)
    yield from _baselines_table(result)
    for row in result.levels:
        yield level_sentence(result, row)
    thresholds = thresholds or spread(result)
    yield TextTable(
        "Images with an L1 below",
        ("tokens", *(f"{threshold:g}" for threshold in thresholds)),
        tuple(
            (budget, *(percent(share_below(result, step, threshold)) for threshold in thresholds))
            for step, budget in enumerate(budgets)
        ),
    )


def level_sentence(result: Quality, row: Row) -> str:
    """What the base tokenizer reaches without tokens and what it is by now; or what another codec's pictures reach."""
    forms = {
        f"L1 {row.l1:.4f}": row.l1,
        f"PSNR {row.psnr:.2f} dB": row.psnr,
        f"SSIM {row.ssim:.3f}": row.ssim,
        f"LPIPS {row.lpips:.3f}": row.lpips,
        f"Fréchet distance {row.frechet:.2f}": row.frechet,
    }
    # Only what was scored is known.
    numbers = ", ".join(text for text, value in forms.items() if not math.isnan(value))
    if row.system != BASE:
        return f"The pictures of {result.label(row)} ({row.images} images, bits not known): {numbers}."
    text = f"The {result.base.label}: {numbers}."
    if result.base.state == "fine-tuned":
        text += (
            " It was fine-tuned for the tokens and is no autoencoder of its own any more, so that this is no ceiling."
        )
    if result.base.stage_l1 is not None:
        text += f" After its own stage it had an L1 of {result.base.stage_l1:.4f} on photographs held out in training."
    return text


def _tokens_table(result: Quality) -> TextTable:
    """One row per budget; columns that the tables know nothing of are left out."""
    rows = result.of(TOKENS)
    columns: dict[str, list[Cell]] = {
        "tokens": [row.budget for row in rows],
        "bits": [row.bits for row in rows],
        "bits/pixel": [f"{row.bits_per_pixel:.4f}" for row in rows],
        "L1": [fixed(row.l1, 4) for row in rows],
        "PSNR": [fixed(row.psnr, 2) for row in rows],
        "SSIM": [fixed(row.ssim, 3) for row in rows],
        "LPIPS": [fixed(row.lpips, 3) for row in rows],
        "Fréchet": [fixed(row.frechet, 2) for row in rows],
        "codes used": [percent(row.codes_used) for row in rows],
        "entropy": [fixed(row.entropy, 2) for row in rows],
        "ids changed": [percent(row.changed) for row in rows],
    }
    return TextTable.of_known_columns(f"{rows[0].images} images, means", columns)


def _baselines_table(result: Quality) -> Iterator[TextTable]:
    """L1 and PSNR of what as many bits buy otherwise; a codec's bytes where it cannot be as small."""
    names = {"thumb": "thumbnail", "jpeg": "JPEG", "webp": "WebP"}
    shown = {system: result.of(system) for system in names if result.of(system)}
    if not shown:
        return
    tokens = result.of(TOKENS)
    columns: dict[str, list[Cell]] = {
        "tokens": [row.budget for row in tokens],
        "bytes": [row.bits / 8 for row in tokens],
        "tokens' L1": [_l1_and_psnr(row) for row in tokens],
    }
    for system, rows in shown.items():
        columns[names[system]] = [_l1_and_psnr(row) for row in rows]
        # A thumbnail is made of as many bits as the tokens; the smallest file of a codec may be larger than that.
        if system != "thumb":
            columns[f"{names[system]} bytes"] = [f"{row.bits / 8:.0f}" for row in rows]
    # Without scores the cells hold no PSNR, so the title does not promise one.
    scored = not math.isnan(tokens[0].psnr)
    title = f"L1{' (PSNR)' if scored else ''} beside what as many bits buy otherwise"
    yield TextTable(title, tuple(columns), tuple(zip(*columns.values(), strict=True)))


def _l1_and_psnr(row: Row) -> str:
    return f"{row.l1:.4f}" if math.isnan(row.psnr) else f"{row.l1:.4f} ({row.psnr:.1f})"
