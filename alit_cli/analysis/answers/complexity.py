"""How `alit analyze complexity` is answered: files, correlations per group, and how measures compare."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from alit_cli.analysis.answers.questions import ComplexityQuestion
from alit_cli.analysis.figures.complexity import draw_complexity
from alit_cli.analysis.figures.style import made_by
from alit_cli.analysis.studies.complexity import (
    FEWEST_IMAGES,
    GROUP,
    OVERALL,
    RAW,
    RIVALS,
    Complexity,
    Row,
    correlate_complexity,
    quoted_measure,
    save_tables,
)
from alit_cli.analysis.studies.complexity_scores import Scores, read_scores
from alit_cli.analysis.studies.scored_images import Study, join_scores
from alit_cli.results import Result, TextTable
from alit_cli.table_layout import Cell

SHOWN_NAMES = 3
"""Names of unmatched images that a remark quotes."""
HEADINGS = {
    "jpeg_bytes": "JPEG bytes",
    "jpeg_bytes_128": "JPEG at 128",
    "jpeg_bytes_256": "JPEG at 256",
    "edge_density": "edges",
    "distinct_colours": "colours",
    "sobel_gradient": "Sobel",
}
"""The plain measures that are printed."""
Rows = Mapping[str, Row]
"""The rows of one group, by their measures."""


def answer_complexity(question: ComplexityQuestion) -> Result:
    """Correlate the scores with everything the first token table knows; write the tables and the figure.

    Raises InputError where the scores cannot be read or belong to no image, and what `open_output` raises.
    """
    listed = read_scores(question.scores, question.image_col, question.score_col, question.group_col)
    study = join_scores(question.tokens[0], listed)
    result = correlate_complexity(study, question.thr, question.bootstrap, question.seed)
    figure = question.out / f"complexity.{question.form}"
    files = [*save_tables(result, question.out), figure]
    draw_complexity(result, _source(study, question.scores), figure)
    given = question.thr is not None
    remarks = (*join_remarks(listed, study), *_reading_remarks(study, result, given), *_comparisons(study, result))
    blocks: tuple[TextTable | str, ...] = (*complexity_tables(study, result), "\n".join(map(str, files)))
    return Result(blocks, remarks, _plain(listed, study, result, files))


def _source(study: Study, scores: Path) -> str:
    """Where the numbers of the figure come from."""
    return f"{len(study.score)} images · scores: {scores.name} · model: {made_by(study.info)}"


def join_remarks(listed: Scores, study: Study) -> Iterator[str]:
    """How the join went, so that nothing is lost in silence."""
    image, score, group = listed.columns
    # Columns are found by their names, so it is said which ones they were.
    yield f"Read '{image}' and '{score}'{f' by {group!r}' if group else ''}: {len(listed.images)} images with a score."
    if listed.unscored:
        yield f"{listed.unscored} rows have no name or no score and are left out."
    pairs = study.pairs
    total = len(pairs.keys) + len(pairs.unmatched_keys)
    yield f"{len(pairs.names)} of {len(listed.images)} scores belong to one of the table's {total} images."
    # A table of a few of the scored images is right if every one of its images has a score.
    if len(pairs.names) < len(listed.images) / 2 and pairs.unmatched_keys:
        yield "Most scores have found no image: is this the right table?"
    for what, names in (
        ("Scores without an image", pairs.unmatched_names),
        ("Images without a score", pairs.unmatched_keys),
    ):
        if names:
            more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
            yield f"{what}: {', '.join(names[:SHOWN_NAMES])}{more}."
    if study.failed:
        yield f"{study.failed} of them failed when they were tokenized and are left out."
    if not study.measures:
        yield "The table has no measures of the images (--no-measures), so there are no baselines and no relative L1."
    elif lacking := [name for name in ("distinct_colours", "sobel_gradient") if name not in study.measures]:
        yield f"The table was made by an earlier version and has no {' and '.join(lacking)}; tokenize again for them."


def _reading_remarks(study: Study, result: Complexity, given: bool) -> Iterator[str]:
    """What the printed tables need to be understood."""
    side = study.info.image_size
    yield (
        "code: bits per pixel of a code that stores the tokens and what they leave, in 8-bit steps under a Laplace "
        "distribution (at one budget it rises with log L1); L1/mad: L1 relative to the image's contrast; need: tokens "
        "for an L1 below; thumb: L1 of an equal-bit thumbnail. All are measured on the same fitted images, as are JPEG "
        f"bytes, edges (Canny), colours (32 levels per channel) and Sobel's gradient: {side}×{side} pixels."
    )
    small = [row for row in result.rows if row.scope == GROUP and row.measure.startswith("l1_") and row.n]
    few = sorted({row.group for row in small if row.n < FEWEST_IMAGES})
    if few:
        yield (
            f"Fewer than {FEWEST_IMAGES} scored images say nothing about a correlation, so that these have dashes: "
            f"{', '.join(few)}."
        )
    if not given:
        numbers = ", ".join(map(str, result.thresholds))
        yield f"Thresholds of L1 taken from the data (quartiles at the middle budget): {numbers}."
    if result.rows[-1].scope == RAW:
        yield "overall: pooled within categories, scores and measures standardised in each of them."
    if result.scaled:
        yield "raw: not comparable across categories, because the scores look scaled within each of them."


def _comparisons(study: Study, result: Complexity) -> Iterator[str]:
    """How the quoted measure does beside plain ones: in how many groups, and by how much in all of them."""
    quoted = quoted_measure(study.info)
    # Scores of several categories are pooled; without categories there is only one group, which is then the whole.
    groups = [difference for difference in result.differences if difference.scope == GROUP]
    whole = next((difference.scope for difference in result.differences if difference.scope == OVERALL), GROUP)
    names = {f"thumbnail_{study.info.budgets[-1]}": "an equal-bit thumbnail's L1", **HEADINGS}
    lines = []
    for rival in dict.fromkeys(difference.rival for difference in result.differences):
        in_groups = [difference for difference in groups if difference.rival == rival]
        # A tie counts for the quoted measure, which is why the sentence says `at least as close`.
        at_least = sum(difference.difference >= 0 for difference in in_groups)
        pooled = next(
            difference for difference in result.differences if difference.rival == rival and difference.scope == whole
        )
        interval = "" if math.isnan(pooled.low) else f" [{pooled.low:+.3f}, {pooled.high:+.3f}]"
        lines.append(
            f"{names.get(rival, rival)}: {pooled.difference:+.3f}{interval}, at least as close in {at_least} of "
            f"{len(in_groups)} groups"
        )
    if lines:
        yield (
            f"The measure to quote is the code length at {study.info.budgets[-1]} tokens ({quoted}). Its Pearson's r "
            f"with the score, less that of a plain measure, is for {'; for '.join(lines)}."
        )


def complexity_tables(study: Study, result: Complexity) -> Iterator[TextTable]:
    """Pearson and Spearman of a few measures, and the tokens needed."""
    groups: dict[tuple[str, str], dict[str, Row]] = {}
    for row in result.rows:
        groups.setdefault((row.scope, row.group), {})[row.measure] = row
    # Every group has the same measures, so the first one tells which there are.
    first = next(iter(groups.values()))
    # Tables without measures of the images have fewer columns to print.
    headings = {name: text for name, text in _headings(study, result).items() if name in first and _known(groups, name)}
    for method in ("Pearson", "Spearman"):
        yield TextTable(
            f"{method} correlation with the score ± half its 95 % interval",
            ("", "n", *headings.values()),
            tuple(
                (_label(*which), _images(rows), *(correlation_cell(rows[name], method) for name in headings))
                for which, rows in groups.items()
            ),
        )
    needs = [row for row in first.values() if row.kind == "tokens"]
    yield TextTable(
        f"Tokens needed: mean (share at {study.info.budgets[-1]})",
        ("", "n", *(f"L1 < {row.threshold:g}" for row in needs)),
        tuple(
            (
                "all images" if scope == OVERALL else group,
                _images(rows),
                *(_need(rows[row.measure]) for row in needs),
            )
            for (scope, group), rows in groups.items()
            if scope != RAW  # its means are those of the row before
        ),
    )


def _headings(study: Study, result: Complexity) -> dict[str, str]:
    """The measures that are printed, and how they are called there; the files have all of them."""
    # Only the two ends of the budgets are printed, because those between them lie between them.
    first, last = study.info.budgets[0], study.info.budgets[-1]
    needs = {}
    if result.thresholds:
        # One need is enough among the correlations; a second table has the needs of all thresholds.
        middle = result.thresholds[len(result.thresholds) // 2]
        needs = {f"tokens(l1<{middle:g})": f"need {middle:g}"}
    own_side = f"jpeg_bytes_{study.info.image_size}"  # the same number as jpeg_bytes
    return {
        quoted_measure(study.info): f"code {last}",
        f"l1_{first}": f"L1 at {first}",
        f"relative_l1_{first}": f"L1/mad {first}",
        **needs,
        **{name: text for name, text in HEADINGS.items() if name != own_side},
        f"thumbnail_{last}": f"thumb {last}",
        f"thumbnail_{first}": f"thumb {first}",
    }


def _known(groups: Mapping[tuple[str, str], Rows], measure: str) -> bool:
    """Whether any group has images with this measure."""
    return any(rows[measure].n for rows in groups.values())


def _label(scope: str, group: str) -> str:
    return group if scope == GROUP else scope


def _images(rows: Rows) -> int:
    return max(row.n for row in rows.values())


def correlation_cell(row: Row, method: str) -> Cell:
    """A correlation ± half its interval."""
    if method == "Pearson":
        value, low, high = row.pearson, row.pearson_low, row.pearson_high
    else:
        value, low, high = row.spearman, row.spearman_low, row.spearman_high
    if math.isnan(value):
        return None
    text = f"{round(value, 2) + 0.0:.2f}"  # never -0.00
    return text if math.isnan(low) else f"{text} ±{(high - low) / 2:.2f}".replace("±0", "±")


def _need(row: Row) -> Cell:
    if row.share_largest is None or math.isnan(row.mean):
        return None
    return f"{row.mean:3.0f} ({100 * row.share_largest:2.0f} %)"


def _plain(listed: Scores, study: Study, result: Complexity, files: list[Path]) -> dict[str, object]:
    """The outcome for `--json`."""
    pairs = study.pairs
    return {
        "columns": dict(zip(("image", "score", "group"), listed.columns, strict=True)),
        "matched": len(pairs.names),
        "failed": study.failed,
        "scores_without_image": _count_of(pairs.unmatched_names),
        "images_without_score": _count_of(pairs.unmatched_keys),
        "thresholds": result.thresholds,
        "relative_thresholds": result.relative_thresholds,
        "scaled_within_groups": result.scaled,
        "quoted": quoted_measure(study.info),
        "rivals": list(RIVALS),
        "rows": result.rows,
        "differences": result.differences,
        "files": files,
    }


def _count_of(names: tuple[str, ...]) -> dict[str, object]:
    return {"count": len(names), "examples": names[:SHOWN_NAMES]}
