"""`alit status`: how far a table is."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from alit_cli.grouped_help import Command, example
from alit_cli.options import config_option, json_option, quiet_option

if TYPE_CHECKING:
    from alit_cli.runs.status import Status


@click.command("status", cls=Command, epilog=example("alit status tokens.parquet", "alit status scores"))
@click.argument("out", type=click.Path(path_type=Path), default="tokens.parquet")
@json_option
@quiet_option
@config_option
def command(out: Path, as_json: bool) -> None:
    """Say how far the table OUT is [default: tokens.parquet], or the training of the model OUT.

    The command can be used while the work runs, after an interruption, and after the end. For a folder of score tables,
    such as scores, it reports on each table.
    """
    from alit_cli.console import print_json, show_fields
    from alit_cli.runs.status import status, tables_at
    from alit_cli.training.work_folder import read_training, training_folder

    # A model is written after each stage, so that its training may go on while its file is there.
    if (not out.is_file() or out.suffix == ".safetensors") and (folder := training_folder(out)) is not None:
        training = read_training(folder)
        if as_json:
            print_json({"kind": "training", **vars(training)})
        else:
            show_fields(training.fields())
        return
    tables = tables_at(out)
    statuses = {table: status(table) for table in tables}
    if as_json:
        records = [
            {"out": table, "images_per_second": state.images_per_second, **vars(state)}
            for table, state in statuses.items()
        ]
        # A table prints one object. A folder prints a list, also where it holds one table only.
        print_json(records[0] if tables == [out] else {"tables": records})
        return
    for table, state in statuses.items():
        _show(table, state)


def _show(table: Path, status: "Status") -> None:
    from alit_cli.console import say, show_table

    state = "finished" if status.finished else "unfinished"
    # A speed of 0 means that none is known yet, and None is printed as a dash.
    speed = status.images_per_second or None
    rows = [[status.done, status.images, f"{status.shards_done}/{status.shards}", speed, *status.statuses.values()]]
    columns = ["done", "images", "shards", "images/s", *status.statuses]
    show_table(f"{table}: {status.kind}, {state}", columns, rows)
    if status.seconds:
        times = [round(value, 1) for value in status.seconds.values()]
        names = [name if name != "seconds" else "in all" for name in status.seconds]
        show_table("seconds, all workers together", [*names, "peak MiB"], [[*times, status.memory]])
    for error in status.errors:
        say(error)
