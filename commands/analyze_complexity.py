"""`alit analyze complexity`: how far need follows scores of complexity."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alit_cli.console import print_json, say, show_table
from alit_cli.grouped_help import INPUT, Command, example, option
from alit_cli.options import (
    bootstrap_option,
    image_column_option,
    report_options,
    seed_option,
    threshold_option,
    tokens_option,
)

if TYPE_CHECKING:
    from alit_cli.analysis.studies.complexity import Complexity, Row
    from alit_cli.analysis.studies.complexity_scores import Scores
    from alit_cli.analysis.studies.scored_images import Study


@click.command(
    "complexity",
    cls=Command,
    epilog=example("alit analyze complexity savoias.csv"),
)
@click.argument("scores", type=click.Path(path_type=Path))
@tokens_option
@image_column_option
@option(INPUT, "--score-col", metavar="NAME", help="Its column of scores. [default: score, complexity …]")
@option(INPUT, "--group-col", metavar="NAME", help="Its column of groups. [default: category, group, class …, if any]")
@threshold_option("L1 to count the tokens needed for. [default: the data's quartiles]")
@bootstrap_option
@seed_option("the resampling")
@report_options("study", ("complexity.csv", "complexity.parquet"))
def command(
    scores: Path,
    tokens: Path,
    image_col: str | None,
    score_col: str | None,
    group_col: str | None,
    thr: tuple[float, ...] | None,
    bootstrap: int,
    seed: int,
    out: Path,
    form: str,
    as_json: bool,
) -> None:
    """Correlate SCORES of complexity with L1, the tokens needed and plain measures of the same images.

    SCORES is a csv, tsv, xlsx or parquet file with one row per image. Its names are looked up in the token table
    by the whole path, then by the longest ending that fits one image only.
    """
    from alit_cli.analysis.figures.complexity import draw_complexity
    from alit_cli.analysis.studies.complexity import correlate_complexity, save_tables
    from alit_cli.analysis.studies.complexity_scores import read_scores
    from alit_cli.analysis.studies.scored_images import join_scores

    listed = read_scores(scores, image_col, score_col, group_col)
    study = join_scores(tokens, listed)
    _say_joined(listed, study)
    result = correlate_complexity(study, thr, bootstrap, seed)
    files = [*save_tables(result, out), out / f"complexity.{form}"]
    draw_complexity(result, _source(study, scores), files[-1])
    _say_read_as(result, given=thr is not None)
    if as_json:
        print_json(_plain(listed, study, result, files))
    else:
        _show(study, result)
        _say_compared(study, result)
        click.echo("\n".join(map(str, files)))


def _say_joined(listed: Scores, study: Study) -> None:
    """How the join went, so that nothing is lost in silence."""
    image, score, group = listed.columns
    say(f"Read '{image}' and '{score}'{f' by {group!r}' if group else ''}: {len(listed.images)} images with a score.")
    if listed.unscored:
        say(f"{listed.unscored} rows have no name or no score and are left out.")
    pairs = study.pairs
    total = len(pairs.keys) + len(pairs.unmatched_keys)
    say(f"{len(pairs.names)} of {len(listed.images)} scores belong to one of the table's {total} images.")
    # A table of a part of the scored images is fine; what is odd is that neither side finds most of the other.
    if len(pairs.names) < min(len(listed.images), total) / 2:
        say("Most scores have found no image: is this the right table?")
    for what, names in (
        ("Scores without an image", pairs.unmatched_names),
        ("Images without a score", pairs.unmatched_keys),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            say(f"{what}: {', '.join(names[:3])}{more}.")
    if study.failed:
        say(f"{study.failed} of them failed when they were tokenized and are left out.")
    if not study.measures:
        say("The table has no measures of the images (--no-measures), so there are no baselines and no relative L1.")


def _say_read_as(result: Complexity, given: bool) -> None:
    """What the printed tables need to be understood."""
    say(
        "code: bits per pixel without loss, for the tokens and what they leave; L1/mad: L1 relative to the contrast; "
        "need: tokens for an L1 below; thumb: L1 of an equal-bit thumbnail."
    )
    if not given:
        numbers = ", ".join(map(str, result.thresholds))
        say(f"Thresholds of L1 taken from the data (quartiles at the middle budget): {numbers}.")
    if result.rows[-1].scope == "raw":
        say("overall: pooled within categories, scores and measures standardised in each of them.")
    if result.scaled:
        say("raw: not comparable across categories, because the scores look scaled within each of them.")


def _source(study: Study, scores: Path) -> str:
    """Where the numbers of the figure come from."""
    from alit_cli.analysis.figures.style import made_by

    return f"{len(study.score)} images · scores: {scores.name} · model: {made_by(study.info)}"


def _show(study: Study, result: Complexity) -> None:
    """Three tables on stdout: Pearson and Spearman of a few measures, and the tokens needed."""
    groups: dict[tuple[str, str], dict[str, Row]] = {}
    for row in result.rows:
        groups.setdefault((row.scope, row.group), {})[row.measure] = row
    first = next(iter(groups.values()))
    headings = {name: text for name, text in _headings(study, result).items() if name in first}
    for method in ("Pearson", "Spearman"):
        show_table(
            f"{method} correlation with the score ± half its 95 % interval",
            ["", "n", *headings.values()],
            [
                [_label(*which), _images(rows), *(_correlation(rows[name], method) for name in headings)]
                for which, rows in groups.items()
            ],
        )
    needs = [row for row in first.values() if row.kind == "tokens"]
    show_table(
        f"Tokens needed: mean (share at {study.info.budgets[-1]})",
        ["", "n", *(f"L1 < {row.threshold:g}" for row in needs)],
        [
            [
                "all images" if scope == "overall" else group,
                _images(rows),
                *(_need(rows[row.measure]) for row in needs),
            ]
            for (scope, group), rows in groups.items()
            if scope != "raw"  # its means are those of the row before
        ],
    )


def _say_compared(study: Study, result: Complexity) -> None:
    """How the measure to quote does beside plain ones, group by group."""
    last = study.info.budgets[-1]
    thumbnails, groups = result.groups_at_least(f"code_length_{last}", f"thumbnail_{last}")
    jpeg, _ = result.groups_at_least(f"code_length_{last}", "jpeg_bytes")
    if groups > 1:
        say(
            f"The code length at {last} tokens follows the score at least as closely as an equal-bit thumbnail's L1 in "
            f"{thumbnails} of {groups} groups, and as JPEG bytes in {jpeg} (Pearson)."
        )


def _label(scope: str, group: str) -> str:
    return group if scope == "group" else scope


def _headings(study: Study, result: Complexity) -> dict[str, str]:
    """The measures that are printed, and how they are called there; the files have all of them."""
    first, last = study.info.budgets[0], study.info.budgets[-1]
    middle = result.thresholds[len(result.thresholds) // 2]
    return {
        f"code_length_{last}": f"code {last}",
        f"l1_{first}": f"L1 at {first}",
        f"relative_l1_{first}": f"L1/mad {first}",
        f"tokens(l1<{middle:g})": f"need {middle:g}",
        "jpeg_bytes": "JPEG bytes",
        f"thumbnail_{last}": f"thumb {last}",
        f"thumbnail_{first}": f"thumb {first}",
    }


def _images(rows: dict[str, Row]) -> int:
    return max(row.n for row in rows.values())


def _correlation(row: Row, method: str) -> str | None:
    if method == "Pearson":
        value, low, high = row.pearson, row.pearson_low, row.pearson_high
    else:
        value, low, high = row.spearman, row.spearman_low, row.spearman_high
    if math.isnan(value):
        return None
    text = f"{round(value, 2) + 0.0:.2f}"  # never -0.00
    return text if math.isnan(low) else f"{text} ±{(high - low) / 2:.2f}".replace("±0", "±")


def _need(row: Row) -> str | None:
    return (
        None
        if row.share_largest is None or math.isnan(row.mean)
        else f"{row.mean:3.0f} ({100 * row.share_largest:2.0f} %)"
    )


def _plain(listed: Scores, study: Study, result: Complexity, files: list[Path]) -> dict[str, object]:
    """The outcome for `--json`."""
    pairs = study.pairs
    return {
        "columns": dict(zip(("image", "score", "group"), listed.columns, strict=True)),
        "matched": len(pairs.names),
        "failed": study.failed,
        "scores_without_image": _counted(pairs.unmatched_names),
        "images_without_score": _counted(pairs.unmatched_keys),
        "thresholds": result.thresholds,
        "relative_thresholds": result.relative_thresholds,
        "scaled_within_groups": result.scaled,
        "rows": result.rows,
        "files": files,
    }


def _counted(names: tuple[str, ...]) -> dict[str, object]:
    return {"count": len(names), "examples": names[:3]}
