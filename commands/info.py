"""`alit info`: what a file is, who made it, and what can be asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alit_cli.console import print_json, show, show_fields, show_table
from alit_cli.grouped_help import Command, example
from alit_cli.options import config_option, json_option, quiet_option

if TYPE_CHECKING:
    from alit_cli.analysis.query.describe import TableDescription
    from alit_cli.data.tables.token_table import TableInfo


@click.command("info", cls=Command, epilog=example("alit info", "alit info tokens.parquet"))
@click.argument("file", type=click.Path(path_type=Path), required=False)
@json_option
@quiet_option
@config_option
def command(file: Path | None, as_json: bool) -> None:
    """Describe FILE: a model, a token table, a score table, a selection, or the work folder of a training.

    Without FILE it describes the model inside the package. Of a token table it lists every criterion that `alit select
    --tsc` takes. --json prints everything that the file records, such as the recipe of a training.
    """
    from alit_cli.training.work_folder import read_training, training_folder

    # A file is described as it is. A folder, or a name that does not exist yet, may be a training that has not ended.
    folder = training_folder(file) if file is not None and not file.is_file() else None
    if folder is not None:
        training = read_training(folder)
        if as_json:
            print_json({"kind": "training", **vars(training)})
        else:
            show_fields(training.fields())
    # Without a file it is the model inside the package.
    elif file is None or file.suffix == ".safetensors":
        _show_model(file, as_json)
    else:
        _show_table(file, as_json)


def _show_model(file: Path | None, as_json: bool) -> None:
    from alit_cli.model.checkpoint import describe, embedded

    if file is None:
        # A package in a zip file is unpacked for the length of this block only.
        with embedded() as path:
            # The model card lies beside the weights and has the same name.
            card = path.with_suffix(".md")
            description = {**describe(path), "licence": "Apache-2.0", "card": str(card)}
    else:
        description = describe(file)
    if as_json:
        print_json({"kind": "model", **description})
        return
    config = description["config"]
    show_fields(
        {
            "model": description["model"],
            "file": description["file"],
            "size": f"{description['bytes'] / 1e6:.1f} MB, {description['parameters'] / 1e6:.2f} million parameters in "
            f"{', '.join(description['stored'])}",
            "budgets": f"{', '.join(map(str, description['budgets']))} tokens of an image of "
            f"{config['image_size']}×{config['image_size']} pixels",
            "model_id": f"{description['sha256'][:16]} (the first digits of the file's sha256)",
            "stages": _stages(description["training"]),
            "licence": description.get("licence"),
            "model card": description.get("card"),
        }
    )


def _stages(training: Any) -> str:
    """How the weights came about, in one line: `base 3000 steps, distill 2400 steps`."""
    stages = []
    for record in training:
        recipe = record.get("recipe", {})
        # Records of older files and of imported models may lack a recipe, or hold something else under its name.
        planned = recipe.get(record.get("stage"), {}).get("steps") if isinstance(recipe, Mapping) else None
        steps = record.get("steps", planned)
        stages.append(f"{record.get('stage', record.get('imported', '?'))}{f' {steps} steps' if steps else ''}")
    return ", ".join(stages) or "not recorded"


def _show_table(file: Path, as_json: bool) -> None:
    from alit_cli.data.tables.parquet import open_columns
    from alit_cli.data.tables.score_table import is_score_table, read_score_info
    from alit_cli.data.tables.token_table import read_info

    # `read_info` only knows token tables and selections, so score tables are told apart first.
    if is_score_table(file):
        scores = read_score_info(file)
        # `is_score_table` has found this record already; the assert says so to the type checker.
        assert scores is not None
        rows = open_columns(file, ["image"]).num_rows
        if as_json:
            print_json({"kind": "score table", "file": file, "rows": rows, **vars(scores)})
            return
        show_fields(
            {
                "score table": file,
                "rows": rows,
                "task": scores.task,
                "network": scores.model or None,
                "measures": ", ".join(scores.measures),
                "budgets": ", ".join(map(str, scores.budgets)),
                "model_id": f"{scores.model_id} (the tokenizer that made the token table)",
            }
        )
        return
    from alit_cli.analysis.query.describe import describe_table

    info, description = read_info(file), describe_table(file)
    if as_json:
        print_json({"file": file, **vars(info), **vars(description)})
        return
    show_fields(
        {
            description.kind: file,
            "rows": f"{description.rows}{_counted(description.statuses)}, {description.bytes / 1e3:,.0f} kB",
            "model": f"{info.model} ({info.model_id}), {info.image_size}×{info.image_size} pixels, fit {info.fit}",
            "budgets": ", ".join(map(str, info.budgets)),
            "made with": _made_with(info),
            "mean tokens": description.mean_tokens,
            "sources": _first([f"{source} ({count})" for source, count in description.sources.items()]),
            "columns": _first(list(_short(description.columns, info.budgets)), 40),
        }
    )
    if description.mean_l1:
        show_table("", ["tokens", *map(str, description.mean_l1)], [["mean L1", *description.mean_l1.values()]])
    _show_questions(description)


def _made_with(info: TableInfo) -> str | None:
    """The options of `alit tokenize` that decide what is in a table; None where all are defaults."""
    options = [
        None if info.stop is None else f"--stop 'l1<{info.stop:g}'",
        None if info.losses else "--no-losses",
        None if info.options.views is None else f"--views {info.options.views}",
        None if info.precision == "float32" else f"--precision {info.precision}",
    ]
    return ", ".join(filter(None, options)) or None


def _show_questions(description: TableDescription) -> None:
    """The score tables beside the table, and what can stand in --tsc."""
    for scores in description.scores:
        show(f"{scores.path}: {', '.join(scores.measures)}" if scores.why_not is None else scores.why_not)
    if description.criteria:
        show(f"alit select --tsc takes: {', '.join(description.criteria)}; joined by 'and' or 'or'.")


def _counted(statuses: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{count} {status}' for status, count in sorted(statuses.items()))})" if statuses else ""


def _first(texts: list[str], most: int = 5) -> str | None:
    """The first few of many, and how many more there are."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return f"{', '.join(texts[:most])}{more}" if texts else None


def _short(columns: Mapping[str, str], budgets: tuple[int, ...]) -> dict[str, str]:
    """The columns with those of all budgets written once: `l1_32 … l1_256`."""
    names: dict[str, str] = {}
    for name, kind in columns.items():
        stem, _, end = name.rpartition("_")
        # The column of the first budget stands for all of them, if the last budget has a column of that name too.
        if stem and end == str(budgets[0]) and f"{stem}_{budgets[-1]}" in columns and len(budgets) > 1:
            names[f"{name} … {stem}_{budgets[-1]}"] = kind
        elif not (stem and end.isdigit() and f"{stem}_{budgets[0]}" in columns):
            names[name] = kind
    return names
