"""`alit select`: the smallest token budget that meets a criterion, for every image of a token table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from alit_cli.console import print_json, say, show_table
from alit_cli.errors import InputError
from alit_cli.options import Numbers, config_option, example, json_option, out_option, quiet_option

if TYPE_CHECKING:
    from alit_cli.analysis.selection import Summary


@click.command("select", epilog=example("alit select --tsc recon --thr 0.08"))
@click.argument("table", type=click.Path(path_type=Path), default="tokens.parquet")
@click.option("--tsc", metavar="CRITERION", default="recon", show_default=True, help="recon: L1 below the threshold.")
@click.option("--thr", type=Numbers(float), required=True, metavar="NUMBER[,…]", help="The threshold, or several.")
@out_option("selection.parquet", "Where to write the selection of one threshold.")
@json_option
@config_option
@quiet_option
@click.pass_context
def command(context: click.Context, table: Path, tsc: str, thr: tuple[float, ...], out: Path, as_json: bool) -> None:
    """Give every image of TABLE the smallest token budget that meets a criterion.

    TABLE is what alit tokenize wrote [default: tokens.parquet]. An image that no budget satisfies gets the largest
    one. One threshold writes the selection, which alit decode turns into pictures; several are only compared.
    """
    from alit_cli.analysis.selection import select_table, summarize_table

    one = len(thr) == 1
    if not one and context.get_parameter_source("out") is ParameterSource.COMMANDLINE:
        raise InputError(
            f"--out holds the selection of one threshold, but there are {len(thr)}; give one, or no --out."
        )
    summaries = [select_table(table, thr[0], out, tsc)] if one else summarize_table(table, thr, tsc)
    if as_json:
        print_json(
            {"table": table, "criterion": tsc, "out": out if one else None, "selections": [*map(_plain, summaries)]}
        )
    else:
        _show(summaries)
    if summaries[0].failed:
        say(f"{summaries[0].failed} of the table's rows have no tokens (their images failed) and are left out.")
    say(f"Wrote {out}." if one else "Nothing was written: there are several thresholds, and a selection has one.")


def _show(summaries: list[Summary]) -> None:
    """A row per threshold; for a single one also how many images each budget has, as bars."""
    budgets = summaries[0].budgets
    show_table(
        f"Images per token budget, {summaries[0].total} in all",
        ["L1 below", *map(str, budgets), "mean tokens", "capacity", "never below"],
        [
            [row.threshold, *row.images, row.mean_tokens, _percent(row.capacity), _percent(row.unsatisfied_share)]
            for row in summaries
        ],
    )
    if len(summaries) == 1 and summaries[0].total:
        _show_bars(summaries[0])


def _show_bars(summary: Summary) -> None:
    longest = max(summary.images)
    show_table(
        "",
        ["tokens", "images", "share", ""],
        [
            [budget, images, _percent(images / summary.total), "█" * round(40 * images / longest)]
            for budget, images in zip(summary.budgets, summary.images, strict=True)
        ],
    )


def _percent(share: float) -> str:
    return f"{100 * share:5.1f} %"


def _plain(summary: Summary) -> dict[str, object]:
    """A summary for `--json`."""
    return {
        "threshold": summary.threshold,
        "images": dict(zip(summary.budgets, summary.images, strict=True)),
        "total": summary.total,
        "mean_tokens": summary.mean_tokens,
        "capacity": summary.capacity,
        "unsatisfied": summary.unsatisfied,
        "unsatisfied_share": summary.unsatisfied_share,
        "failed": summary.failed,
    }
