"""Files of options, as `--config` reads them: values for what the command line and the environment leave open."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from alit_cli.errors import InputError


def apply_config(ctx: click.Context, _param: click.Parameter, path: Path | None) -> None:
    """The callback of `--config`: make the file's values this command's defaults; nothing for None.

    Raises:
        InputError: no such file, no TOML, or a key that means nothing.
    """
    if path is None:
        return
    # Few calls have a config file, and the others do not wait for this import.
    import tomllib

    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read the config file {path}: {error.strerror}.") from error
    # TOMLDecodeError and UnicodeDecodeError are both ValueErrors, so a binary file is told as well.
    except ValueError as error:
        raise InputError(f"The config file {path} is not valid TOML: {error}.") from error
    values = {}
    known = _options(ctx.command)
    for key, value in _values_for(ctx, content, path).items():
        if key not in known:
            raise InputError(f"The config file {path} sets '{key}', which {ctx.command_path} does not have.")
        option = known[key]
        # An option that may be repeated wants a list, but a single value is written without brackets.
        values[str(option.name)] = [value] if option.multiple and not isinstance(value, list) else value
    # click asks this map after the command line and the environment, so the file only fills what they leave open.
    ctx.default_map = values


def _options(command: click.Command) -> dict[str, click.Parameter]:
    """The command's options by what a file may call them: their long names, and those of the Python they fill.

    An argument that takes any number of words may be given as a list under its name.
    """
    parameters: dict[str, click.Parameter] = {}
    for param in command.params:
        if isinstance(param, click.Argument) and param.nargs == -1 and not param.required:
            parameters[str(param.name)] = param
        if isinstance(param, click.Option):
            # Names of the last release work in files too, as they do on the command line.
            former: tuple[str, ...] = getattr(param, "formerly", ())
            for name in (param.name, *(text[2:] for text in (*param.opts, *former) if text.startswith("--"))):
                parameters[str(name).replace("-", "_")] = param
    return parameters


def _values_for(ctx: click.Context, content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The file's plain keys, then those of the command's table (`[tokenize]`, `[analyze.complexity]`)."""
    root = ctx.find_root()
    commands = root.command.list_commands(root) if isinstance(root.command, click.Group) else []
    for key, value in content.items():
        # One file may serve several commands, so tables of other commands are passed over, but not those of none.
        if isinstance(value, Mapping) and key not in commands:
            raise InputError(f"The config file {path} has a table [{key}], but there is no such command.")
    table = content
    # The first word of the path is `alit` itself.
    for name in ctx.command_path.split()[1:]:
        inner = table.get(name)
        table = inner if isinstance(inner, Mapping) else {}
    # The command's own table comes last, so that it wins over the plain keys.
    both = {**content, **table}
    return {key.replace("-", "_"): value for key, value in both.items() if not isinstance(value, Mapping)}
