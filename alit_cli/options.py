"""The options that several commands share, each a decorator, so that they behave alike everywhere."""

import contextlib
import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from alit_cli.config_files import apply_config
from alit_cli.console import QUIET, say
from alit_cli.grouped_help import COMPUTE, HARDWARE, INPUT, OUTPUT, RUN, Decorator, option
from alit_cli.option_types import Names, Numbers


def out_option(default: str | None, text: str = "Where to write.") -> Decorator:
    """`--out PATH`: a `Path`; a command without a default must be told. What it reads is then not replaced."""
    # For click a default of None is a value, so that an option that must be given may name no default at all.
    given = {"required": True} if default is None else {"default": default}
    declared = option(OUTPUT, "--out", "-o", type=click.Path(path_type=Path), help=text, **given)
    return lambda function: declared(protecting_inputs(function))


def protecting_inputs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let no output of a command replace what its other arguments and options name, be it files or folders."""

    @functools.wraps(function)
    def guarded(*args: Any, **options: Any) -> Any:
        from alit_cli.data.files import protected  # late, so that --help stays quick

        if missing := _missing_folder(options.get("out")):
            # A path that was mistyped looks like a new folder, so somebody should hear of it.
            say(f"The folder {missing} does not exist yet; the output will make it.")
        given = [value for name, value in options.items() if name != "out"]  # any option may name an input
        values = [part for value in given for part in (value if isinstance(value, list | tuple) else [value])]
        with protected(value for value in values if isinstance(value, str | Path)):
            return function(*args, **options)

    return guarded


def _missing_folder(out: object) -> Path | None:
    """The outermost folder above an output that has to be made; None where all are there, or far away."""
    if not isinstance(out, str | Path) or "://" in str(out):
        return None
    return next((folder for folder in reversed(Path(out).parents) if not folder.exists()), None)


def checkpoint_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--checkpoint FILE`: a str, or None for the embedded model."""
    text = "A model file of alit train or import, or hf:OWNER/NAME. [default: the small model inside the package]"
    return option(INPUT, "--checkpoint", "-c", metavar="FILE", default=None, help=text)(function)


def device_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--device NAME`: 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'."""
    return option(
        HARDWARE,
        "--device",
        metavar="auto|cpu|cuda[:N]|mps",
        default="auto",
        callback=_check_device,
        help="Where to compute; auto takes a GPU where there is one.",
    )(function)


def precision_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--precision NAME`: 'auto', 'float32', 'mixed' or 'bf16'."""
    return option(
        HARDWARE,
        "--precision",
        type=click.Choice(["auto", "float32", "mixed", "bf16"]),
        default="auto",
        help="mixed makes tokens in float32 and pixels in bf16; auto is bf16 on a GPU that has it, else float32.",
    )(function)


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--json`: the command gets `as_json`."""
    text = "Print one JSON object instead of a table."
    return option(OUTPUT, "--json", "as_json", is_flag=True, help=text)(function)


def iterations_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--iterations all|0,3,7`: a tuple counted from 0, or None for all."""
    return option(
        COMPUTE,
        "--iterations",
        type=click.UNPROCESSED,
        metavar="all|0,3,7",
        callback=lambda ctx, param, value: None if value in (None, "all") else Numbers(int).convert(value, param, ctx),
        help="Which iterations, counted from 0. [default: all]",
    )(function)


def quiet_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--quiet`: of stderr only the errors; the console knows about it, the command gets nothing."""
    return option(
        RUN,
        "--quiet",
        "-q",
        is_flag=True,
        expose_value=False,
        callback=lambda ctx, _param, value: ctx.meta.update({QUIET: value}),
        help="No progress and no remarks, only results and errors.",
    )(function)


def config_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--config FILE.toml`: values for options that the command line and the environment leave open."""
    return option(
        RUN,
        "--config",
        type=click.Path(path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=apply_config,
        help="A TOML file with values for these options, at its top or in a section with the command's name.",
    )(function)


def tokens_argument(function: Callable[..., Any], several: bool = False) -> Callable[..., Any]:
    """TOKENS: the command gets `tokens`, a Path, or a tuple of them if `several`; the former `--tokens` works too."""
    kind = click.Path(path_type=Path)

    @functools.wraps(function)
    def command(*args: Any, tokens: Any, former_tokens: Path | None, **options: Any) -> Any:
        if former_tokens is not None:
            say("The token table is an argument now: leave --tokens out, it will be gone in the next release.")
            tokens = (former_tokens,) if several else former_tokens  # the command gets one kind of value
        return function(*args, tokens=tokens or (Path("tokens.parquet"),), **options)

    former = option(INPUT, "--tokens", "former_tokens", type=kind, hidden=True, help="The token table.")
    default = None if several else "tokens.parquet"  # click has no default for any number of words
    return click.argument("tokens", type=kind, nargs=-1 if several else 1, default=default)(former(command))


NAMES = "Names of the tables, one for each. [default: their files or folders, or their models]"
names_option = option(OUTPUT, "--names", type=Names(), metavar="NAME[,…]", default=(), help=NAMES)
"""`--names A,B`: the command gets `names`, a tuple; empty leaves the choice to it."""


def as_record(*records: type[Any]) -> Decorator:
    """Hand a command's options over as frozen records whose fields have their names.

    The command gets the records first, in this order, then what is no field of them (`as_json`) by name.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def command(**options: Any) -> Any:
            filled = []
            for record in records:
                names = [field.name for field in dataclasses.fields(record) if field.name in options]
                filled.append(record(**{name: options.pop(name) for name in names}))
            return function(*filled, **options)

        return command

    return decorate


def scores_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--scores DIR`: the command gets a Path, or None for the places where scores usually lie."""
    text = "The folder of score tables. [default: scores, here or beside the token table]"
    return option(INPUT, "--scores", type=click.Path(path_type=Path), metavar="DIR", help=text)(function)


def originals_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--images PATH …`: the command gets `images`, a tuple; empty: where they were tokenized."""
    text = (
        "Where the originals are now, as alit tokenize takes it; may be repeated. [default: where they were tokenized]"
    )
    return option(INPUT, "--images", multiple=True, metavar="PATH", help=text)(function)


def tables_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--scores DIR` and `--table FILE …`: the command gets `scores` (or None) and `tables`, a tuple."""
    kind = click.Path(path_type=Path)
    text = "A csv or parquet file of your own with `image` and a column per budget (quality_32 …); may be repeated."
    function = option(INPUT, "--table", "tables", type=kind, multiple=True, metavar="FILE", help=text)(function)
    return scores_option(function)


def image_column_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--image-col NAME` of a file that lists images: a str or None."""
    text = "The file's column of image names. [default: image, file, path …]"
    return option(INPUT, "--image-col", metavar="NAME", help=text)(function)


def threshold_option(text: str) -> Decorator:
    """`--thr NUMBER[,…]`: the command gets a tuple of numbers or None."""
    return option(COMPUTE, "--thr", type=Numbers(float), metavar="NUMBER[,…]", help=text)


def groups_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--by COLUMN`: how images are grouped, as `group_images` reads it."""
    text = "Groups of images: a column, 'folder', or a file of labels (FILE or FILE:COLUMN)."
    return option(COMPUTE, "--by", metavar="COLUMN", help=text)(function)


def few_samples_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--few-samples`: a flag."""
    text = "Compute the Fréchet distance also of too few images, although it is then biased."
    return option(COMPUTE, "--few-samples", is_flag=True, help=text)(function)


def bootstrap_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--bootstrap N`: resamples, 0 for none."""
    text = "Number of resamples for the 95 % intervals; 0 for no intervals."
    kind = click.IntRange(0)
    return option(COMPUTE, "--bootstrap", metavar="N", type=kind, default=1000, help=text)(function)


def seed_option(what: str) -> Decorator:
    """`--seed N` of `what` is drawn at random."""
    return option(COMPUTE, "--seed", metavar="N", type=click.IntRange(0), default=0, help=f"Seed of {what}.")


def images_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a command that runs a model over images wants to know: `limit checkpoint device precision batch_size`."""
    text, kind = "Images per batch.", click.IntRange(1)
    function = option(HARDWARE, "--batch-size", metavar="N", type=kind, default=16, help=text)(function)
    return limit_option(checkpoint_option(device_option(precision_option(function))))


def limit_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--limit N`: an int, or None for all."""
    text = "Use only the first N images. [default: all]"
    return option(INPUT, "--limit", metavar="N", type=click.IntRange(1), help=text)(function)


def report_options(out: str, tables: tuple[str, ...], more: str = "the figure") -> Decorator:
    """How every analysis ends: the command gets `out`, `form` and `as_json`.

    Args:
        out: the folder by default.
        tables: the names of the csv and Parquet files that go there; the figure is called as the first of them.
        more: what goes there beside the tables, for the help.

    A file in the way that is not to be replaced ends the command before it begins.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def checked(*args: Any, **options: Any) -> Any:
            from alit_cli.analysis.figures.style import figure_size
            from alit_cli.data.files import check_output, computed_from
            from alit_cli.data.marks import Sources

            # The check comes before hours of work, whose result could otherwise not be written.
            for name in tables:
                check_output(options["out"] / name, "analysis")
            check_output((options["out"] / tables[0]).with_suffix(f".{options['form']}"), "figure")
            with figure_size(options.pop("figure_size")), computed_from(Sources(_runs(options))):
                return function(*args, **options)

        listed = format_option(json_option(config_option(quiet_option(checked))))
        return out_option(out, f"The folder for {', '.join(tables)} and {more}.")(listed)

    return decorate


def _runs(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The fingerprints of the token tables among a command's options; what is no token table is passed over."""
    from alit_cli.data.tables.token_table import read_info
    from alit_cli.errors import InputError

    values = [options.get(name) for name in ("tokens", "table", "tables")]  # where analyses take token tables
    paths = [path for value in values for path in (value if isinstance(value, tuple) else (value,))]
    runs = []
    for path in paths:
        if isinstance(path, Path):
            with contextlib.suppress(InputError):  # the command itself says what is wrong with its input
                runs.append(read_info(path).options.plan)
    return tuple(run for run in runs if run is not None)  # tables of earlier versions have no fingerprint


def format_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--format png|svg|pdf`: how figures are written; the command gets `form`."""
    return option(
        OUTPUT,
        "--format",
        "form",
        type=click.Choice(["png", "svg", "pdf"]),
        default="png",
        help="The format of the figures.",
    )(figure_size_option(function))


def figure_size_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--figure-size wide|paper`: the command gets `figure_size`; `report_options` hands it on to the figures."""
    return option(
        OUTPUT,
        "--figure-size",
        type=click.Choice(["wide", "paper"]),
        default="wide",
        help="Figures for a screen, or as wide as one or two columns of a paper.",
    )(function)


def stop_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--stop 'l1<NUMBER'`: the command gets the number, or None."""
    return option(
        COMPUTE,
        "--stop",
        metavar="'l1<NUMBER'",
        callback=_read_stop,
        help="End each image at its first budget with an L1 below NUMBER; the columns of larger budgets stay empty.",
    )(function)


def _read_stop(_ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    match = re.fullmatch(r"\s*l1\s*<\s*([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)\s*", value)
    if not match or not float(match[1]) > 0:
        raise click.BadParameter(f"'{value}' is not of the form 'l1<0.08'", param=param)
    return float(match[1])


def _check_device(_ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        raise click.BadParameter(f"'{value}' is not one of auto, cpu, cuda, cuda:N, mps", param=param)
    return value
