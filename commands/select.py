"""`alit select`: the budget each image needs, as a selection of a token table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from alit_cli.console import percent, print_json, say, say_next, show_table
from alit_cli.errors import InputError
from alit_cli.grouped_help import COMPUTE, OUTPUT, Command, example, option
from alit_cli.option_types import Numbers
from alit_cli.options import (
    config_option,
    groups_option,
    json_option,
    out_option,
    quiet_option,
    tables_options,
    threshold_option,
)
from alit_cli.table_layout import Bar

if TYPE_CHECKING:
    from alit_cli.analysis.query.tables import Tables
    from alit_cli.analysis.selection.decide import BudgetChoice, Summary

MOST_GROUPS = 40
"""Groups that are printed; --json has all of them."""


@click.command(
    "select",
    cls=Command,
    epilog=example(
        "alit select --tsc recon --thr 0.08",
        "alit select --tsc classify --top 5",
        "alit select --tsc 'l1<0.08 and class_rank<=5' --where 'n_tokens>=48' --by folder",
        "alit select --tsc recon --capacity 0.4",
    ),
)
@click.argument("table", type=click.Path(path_type=Path), default="tokens.parquet")
@option(
    COMPUTE,
    "--tsc",
    metavar="CRITERION",
    default="recon",
    show_default=True,
    help="recon, classify, depth or a measure with its number beside it; or with it inside: 'psnr>=28 and l1<0.1'.",
)
@threshold_option("The threshold of recon, depth or a measure.")
@option(COMPUTE, "--top", type=Numbers(int), metavar="X[,…]", help="Of classify: the true class is among the first X.")
@option(
    COMPUTE,
    "--capacity",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="SHARE",
    help="Instead of a threshold: spend this share of the largest capacity where it improves the measure most.",
)
@option(COMPUTE, "--where", metavar="CRITERION", help="Keep only images with, for example, 'n_tokens>=48'.")
@option(COMPUTE, "--hardest", type=click.IntRange(1), metavar="K", help="Keep only the K that need most; per group.")
@option(COMPUTE, "--easiest", type=click.IntRange(1), metavar="K", help="Keep only the K that need least; per group.")
@groups_option
@option(OUTPUT, "--no-tokens", is_flag=True, help="Leave the tokens out of the selection; much faster on large tables.")
@tables_options
@out_option("selection.parquet", "Where to write the selection of one criterion.")
@json_option
@config_option
@quiet_option
def command(table: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Give every image of TABLE the smallest token budget that meets a criterion.

    TABLE is what alit tokenize wrote [default: tokens.parquet]. An image that no budget satisfies gets the largest
    one. One threshold writes the selection, which alit decode turns into pictures; several are only compared.
    Columns are looked up in TABLE, then in the tables of alit score; class_rank@resnet-18 names one of several.
    """
    from alit_cli.analysis.query.groups import group_images
    from alit_cli.analysis.query.tables import Tables
    from alit_cli.analysis.selection.write import Narrowing, narrow, summaries_by_group, write_selection

    tables = Tables(table, options["scores"], options["tables"])
    decisions = _decide(tables, options)
    groups = group_images(tables, options["by"]) if options["by"] else None
    wanted = Narrowing(options["where"], options["hardest"], options["easiest"])
    kept = [narrow(tables, decision, wanted, groups) for decision in decisions]
    summaries = [summaries_by_group(tables, *both, groups) for both in zip(decisions, kept, strict=True)]
    one = len(decisions) == 1
    if one:
        write_selection(tables, decisions[0], out, _described(options), kept[0], groups, not options["no_tokens"])
    if as_json:
        found = [_plain(summary) for some in summaries for summary in some]
        print_json({"table": table, "criterion": options["tsc"], "out": out if one else None, "selections": found})
    else:
        _show(summaries)
    _say_remarks(tables, summaries)
    if one:
        say(f"Wrote {out}.")
        say_next(f"alit decode {out} --out recon/", f"alit export {out} --out tokens.npz")
    else:
        say("Nothing was written: there are several thresholds, and a selection has one.")


def _decide(tables: Tables, options: Mapping[str, Any]) -> list[BudgetChoice]:
    """The decisions that the options ask for."""
    from alit_cli.analysis.query.criteria import criterion
    from alit_cli.analysis.selection.allocate import parse_objective
    from alit_cli.analysis.selection.decide import allocate, decide

    numbers = [(value, None) for value in options["thr"] or ()] + [(None, value) for value in options["top"] or ()]
    if options["capacity"] is not None:
        if numbers:
            raise InputError("--capacity takes the place of a threshold; leave --thr and --top out.")
        return [allocate(tables, parse_objective(options["tsc"]), options["capacity"])]
    context = click.get_current_context()
    if len(numbers) > 1 and context.get_parameter_source("out") is ParameterSource.COMMANDLINE:
        raise InputError(
            f"--out holds the selection of one threshold, but there are {len(numbers)}; give one, or no --out."
        )
    criteria = [criterion(options["tsc"], *number) for number in numbers or [(None, None)]]
    return decide(tables, criteria, values=len(criteria) == 1 or bool(options["hardest"] or options["easiest"]))


def _described(options: Mapping[str, Any]) -> dict[str, Any]:
    """What the selection says about how it was made."""
    numbers = {name: options[option][0] for name, option in (("threshold", "thr"), ("top", "top")) if options[option]}
    others = {name: options[name] for name in ("capacity", "where", "hardest", "easiest", "by") if options[name]}
    return {"criterion": options["tsc"], **numbers, **others}


def _show(summaries: list[list[Summary]]) -> None:
    """A row per criterion or group; for a single one also how many images each budget has, as bars."""
    first = summaries[0][0]
    rows = [row for some in summaries for row in some]
    plain = all(row.threshold is not None and row.criterion.startswith("l1<") for row in rows)
    groups = len(rows) > len(summaries)
    heading = ["L1 below" if plain else "criterion", *(["group"] if groups else [])]
    shown = [row for some in summaries for row in some[: MOST_GROUPS + 1]]
    show_table(
        f"Images per token budget, {first.total} in all",
        [*heading, *map(str, first.budgets), "mean tokens", "capacity", "never below" if plain else "never"],
        [
            [
                row.threshold if plain else row.criterion,
                *([row.group or "all images"] if groups else []),
                *row.images,
                row.mean_tokens,
                percent(row.capacity),
                percent(row.unsatisfied_share),
            ]
            for row in shown
        ],
    )
    if len(shown) < len(rows):
        say(f"{len(rows) - len(shown)} more groups are in --json.")
    if len(rows) == 1 and first.total:
        _show_bars(first)


def _show_bars(summary: Summary) -> None:
    longest = max(summary.images)
    show_table(
        "",
        ["tokens", "images", "share", ""],
        [
            [budget, images, percent(images / summary.total), Bar(images / longest)]
            for budget, images in zip(summary.budgets, summary.images, strict=True)
        ],
    )


def _say_remarks(tables: Tables, summaries: list[list[Summary]]) -> None:
    """What the table does not say: rows that did not match, failed or are not monotone."""
    for remark in tables.remarks:
        say(remark)
    first = summaries[0][0]
    if first.failed:
        say(f"{first.failed} of the table's rows have no tokens (their images failed) and are left out.")
    for summary, *_ in summaries:
        if summary.non_monotone:
            share = f"{100 * summary.non_monotone_share:.2g} % of the images"
            say(f"{summary.criterion}: {share} meet it at their budget, but not at some larger one.")


def _plain(summary: Summary) -> dict[str, object]:
    """A summary for `--json`."""
    return {
        "criterion": summary.criterion,
        "group": summary.group or None,
        "threshold": summary.threshold,
        "images": dict(zip(summary.budgets, summary.images, strict=True)),
        "total": summary.total,
        "mean_tokens": summary.mean_tokens,
        "capacity": summary.capacity,
        "unsatisfied": summary.unsatisfied,
        "unsatisfied_share": summary.unsatisfied_share,
        "non_monotone_share": summary.non_monotone_share,
        "failed": summary.failed,
    }
