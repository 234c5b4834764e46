"""`alit analyze quality`: errors, codes and baselines at every budget, from the tables."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alit_cli.console import percent, print_json, say, show_table
from alit_cli.grouped_help import Command, example
from alit_cli.options import (
    report_options,
    tables_options,
    threshold_option,
)

if TYPE_CHECKING:
    from alit_cli.analysis.query.tables import Tables
    from alit_cli.analysis.studies.quality import Quality, Row


@click.command(
    "quality",
    cls=Command,
    epilog=example("alit analyze quality tokens.parquet"),
)
@click.argument("tokens", type=click.Path(path_type=Path), default="tokens.parquet")
@threshold_option("L1 to count images below. [default: spread over the data]")
@tables_options
@report_options("study", ("quality.csv", "quality.parquet", "quality_below.csv"))
def command(
    tokens: Path,
    thr: tuple[float, ...] | None,
    scores: Path | None,
    tables: tuple[Path, ...],
    form: str,
    out: Path,
    as_json: bool,
) -> None:
    """Say how good the tokens of TOKENS are at every budget [default: tokens.parquet].

    L1, bits, codes used and ids that change come from the token table; PSNR, SSIM, the base tokenizer alone, and
    thumbnail, JPEG and WebP of as many bits from alit score --task recon,baselines; the Fréchet distance from --task
    features. What was not scored is left out. Nothing is decoded.
    """
    from alit_cli.analysis.figures.quality import draw_quality
    from alit_cli.analysis.query.tables import Tables
    from alit_cli.analysis.selection.decide import check_thresholds
    from alit_cli.analysis.studies.quality import measure_quality, save_tables

    check_thresholds(thr or ())
    found = Tables(tokens, scores, tables)
    result = measure_quality(found)
    files = [*save_tables(result, found.budgets, out), out / f"quality.{form}"]
    draw_quality(result, found.budgets, _source(found, result), files[-1])
    for remark in result.remarks:
        say(remark)
    _say_missing(result)
    if as_json:
        print_json({"rows": result.rows, "features": result.frechet or None, "files": files})
    else:
        _show_tokens(result)
        _show_baselines(result)
        _show_below(result, found, thr)
        click.echo("\n".join(map(str, files)))


def _source(tables: Tables, result: Quality) -> str:
    """Where the numbers of the figure come from."""
    from alit_cli.analysis.figures.style import made_by

    images = max(row.images for row in result.rows)
    features = f" · features: {result.frechet}" if result.frechet else ""
    return f"{images} images · model: {made_by(tables.info)}{features}"


def _say_missing(result: Quality) -> None:
    """Which scores would add columns, and the warnings that numbers need."""
    tokens = result.of("tokens")
    lacking = [] if not math.isnan(tokens[-1].psnr) else ["recon"]
    lacking += [] if result.of("jpeg") else ["baselines"]
    if lacking:
        say(f"No scores of {' and '.join(lacking)} were found: alit score --task {','.join(lacking)} makes them.")
    images = tokens[-1].images
    if result.frechet and images <= result.features:
        say(f"A Fréchet distance of {result.features} features wants more images than these {images}: it is biased.")
    most = min(images * (tokens[0].budget or 0) / result.codes, 1) if result.codes else 1
    if most < 1:
        say(f"With {images} images at most {100 * most:.0f} % of the codes can occur at the smallest budget.")


def _show_tokens(result: Quality) -> None:
    """One row per budget; columns that the tables know nothing of are left out."""
    rows = result.of("tokens")
    columns: dict[str, list[str | int | float | None]] = {
        "tokens": [row.budget for row in rows],
        "bits": [row.bits for row in rows],
        "bits/pixel": [f"{row.bits_per_pixel:.4f}" for row in rows],
        "L1": [_number(row.l1, 4) for row in rows],
        "PSNR": [_number(row.psnr, 2) for row in rows],
        "SSIM": [_number(row.ssim, 3) for row in rows],
        "LPIPS": [_number(row.lpips, 3) for row in rows],
        "Fréchet": [_number(row.frechet, 2) for row in rows],
        "codes used": [percent(row.codes_used) for row in rows],
        "entropy": [_number(row.entropy, 2) for row in rows],
        "ids changed": [percent(row.changed) for row in rows],
    }
    known = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    show_table(
        f"{rows[0].images} images, means", [*known], [list(cells) for cells in zip(*known.values(), strict=True)]
    )


def _show_baselines(result: Quality) -> None:
    """L1 and PSNR of what as many bits buy otherwise; a codec's bytes where it cannot be as small."""
    systems = {"thumb": "thumbnail", "jpeg": "JPEG", "webp": "WebP"}
    shown = {system: result.of(system) for system in systems if result.of(system)}
    if not shown:
        return
    head, cells = (
        ["tokens", "bytes", "tokens' L1"],
        [[row.budget, row.bits / 8, _both(row)] for row in result.of("tokens")],
    )
    for system, rows in shown.items():
        head.append(systems[system])
        for line, row in zip(cells, rows, strict=True):
            line.append(_both(row))
        if system != "thumb":
            head.append("its bytes")
            for line, row in zip(cells, rows, strict=True):
                line.append(f"{row.bits / 8:.0f}")
    scored = not math.isnan(result.of("tokens")[0].psnr)
    show_table(f"L1{' (PSNR)' if scored else ''} beside what as many bits buy otherwise", head, cells)
    for row in result.of("base"):
        click.echo(f"The base tokenizer alone: L1 {row.l1:.4f}, PSNR {row.psnr:.2f} dB, SSIM {row.ssim:.3f}.\n")


def _show_below(result: Quality, tables: Tables, thr: tuple[float, ...] | None) -> None:
    from alit_cli.analysis.studies.quality import share_below, spread

    thresholds = thr or spread(result)
    show_table(
        "Images with an L1 below",
        ["tokens", *(f"{threshold:g}" for threshold in thresholds)],
        [
            [budget, *(percent(share_below(result, step, threshold)) for threshold in thresholds)]
            for step, budget in enumerate(tables.budgets)
        ],
    )


def _both(row: Row) -> str:
    return f"{row.l1:.4f}" if math.isnan(row.psnr) else f"{row.l1:.4f} ({row.psnr:.1f})"


def _number(value: float, digits: int) -> str | None:
    return None if math.isnan(value) else f"{value:.{digits}f}"
