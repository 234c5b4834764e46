"""`alit info`: what a file is, who made it, with what."""

from pathlib import Path
from typing import Any

import click

from alit_cli.grouped_help import Command, example
from alit_cli.options import config_option, json_option, quiet_option


@click.command("info", cls=Command, epilog=example("alit info", "alit info tokens.parquet"))
@click.argument("file", type=click.Path(path_type=Path), required=False)
@json_option
@quiet_option
@config_option
def command(file: Path | None, as_json: bool) -> None:
    """Describe FILE, a model or a table of ours; without FILE, the model inside the package."""
    from alit_cli.console import print_json

    description = _table(file) if file and file.suffix != ".safetensors" else _model(file)
    if as_json:
        print_json(description)
    else:
        _show(description)


def _model(file: Path | None) -> dict[str, Any]:
    from alit_cli.model.checkpoint import describe, embedded

    if file is not None:
        return describe(file)
    with embedded() as path:
        return describe(path)


def _table(file: Path) -> dict[str, Any]:
    from alit_cli.data.tables.parquet import count_rows, open_columns
    from alit_cli.data.tables.score_table import is_score_table, read_score_info
    from alit_cli.data.tables.token_table import read_info

    if is_score_table(file):
        return {"file": str(file), "rows": open_columns(file, ["image"]).num_rows, **vars(read_score_info(file))}
    return {"file": str(file), "rows": count_rows(file), **vars(read_info(file))}


def _show(description: dict[str, Any], indent: str = "") -> None:
    """One `name: value` a line, nested values indented."""
    for name, value in description.items():
        if isinstance(value, dict) and value:
            click.echo(f"{indent}{name}:")
            _show(value, indent + "  ")
        elif isinstance(value, list | tuple) and any(isinstance(item, dict) for item in value):
            for item in value:
                click.echo(f"{indent}{name}:")
                _show(item, indent + "  ")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            click.echo(f"{indent}{name}: {text}")
