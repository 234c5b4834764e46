"""`alit score`: what survives in the reconstructions, image by image and budget by budget."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from alit_cli.grouped_help import COMPUTE, INPUT, Command, example, option
from alit_cli.options import (
    as_record,
    checkpoint_option,
    config_option,
    device_option,
    json_option,
    limit_option,
    originals_option,
    out_option,
    quiet_option,
)
from alit_cli.run_options import RunOptions, do_run, run_options

if TYPE_CHECKING:
    from alit_cli.jobs.score_summary import ScoreSummary


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """What `alit score` is asked for; the fields are explained by jobs.score.ScoreJob and by the help."""

    table: Path
    task: tuple[str, ...]
    model: tuple[str, ...]
    labels: str | None
    depth_maps: Path | None
    depth_unit: Literal["mm", "cm", "m", "disparity"] | None
    questions: Path | None
    lpips: tuple[Path, ...]
    reconstructions: str | None
    images: tuple[str, ...]
    out: Path
    checkpoint: str | None
    device: str
    limit: int | None


@click.command(
    "score",
    cls=Command,
    epilog=example(
        "alit score tokens.parquet --task recon",
        "alit score --task classify --model microsoft/resnet-18 --labels labels.csv",
    ),
)
@click.argument("table", metavar="[TOKENS]", type=click.Path(path_type=Path), default="tokens.parquet")
@option(
    COMPUTE,
    # One word may hold several tasks, and the option may be repeated; pair_models accepts both.
    "--task",
    multiple=True,
    required=True,
    metavar="NAME[,NAME…]",
    help="recon, baselines, classify, depth, features or language; several tasks share one pass over the images.",
)
@option(
    COMPUTE,
    "--model",
    multiple=True,
    metavar="[TASK=]MODEL",
    help="The network of a task: a name on the Hugging Face hub or a folder. Write TASK= if several tasks need one; "
    "repeat the option for more networks.",
)
@option(
    INPUT,
    "--labels",
    metavar="FILE|folders",
    help="classify: true classes from a csv or parquet file, or the folders' names.",
)
@option(INPUT, "--depth-maps", type=click.Path(path_type=Path), help="depth: a folder of true maps, png, tif or npy.")
@option(
    INPUT,
    "--depth-unit",
    type=click.Choice(["mm", "cm", "m", "disparity"]),
    help="depth: what the maps hold. Scale and shift are fitted, so it only matters whether it is disparity.",
)
@option(INPUT, "--questions", type=click.Path(path_type=Path), help="language: questions or captions, csv or parquet.")
@option(
    COMPUTE,
    "--lpips",
    type=click.Path(path_type=Path),
    multiple=True,
    help="recon: the two weight files of LPIPS (torchvision's vgg16, lpips' vgg); give the option twice.",
)
@option(
    INPUT,
    "--reconstructions",
    metavar="[NAME=]DIR",
    help="Score pictures that another codec made, named like the images, instead of the tokens.",
)
@originals_option
@out_option("scores", "The folder for the score tables.")
@checkpoint_option
@device_option
@limit_option
@run_options
@json_option
@quiet_option
@config_option
@as_record(ScoreOptions, RunOptions)
def command(options: ScoreOptions, run: RunOptions) -> None:
    """Score the reconstructions of TOKENS against the original images, for one task or several.

    TOKENS is a token table [default: tokens.parquet]. Every budget is decoded once. One table is written per task and
    network, scores/TASK@MODEL.parquet. It holds `image`, every measure at every budget and, where it makes sense, the
    measure of the original. If an image is gone or has changed, its row is empty, and `error` says why. After an
    interruption, the same command resumes.

    With --reconstructions, pictures of another codec are scored instead, into separate tables
    (scores/TASK-of-NAME@MODEL.parquet with columns MEASURE_NAME). alit analyze quality and capacity draw them as
    horizontal lines beside the tokens.
    """
    # These modules import torch and pyarrow; `alit score --help` must not wait for them.
    from alit_cli.console import print_json, say_next
    from alit_cli.jobs.score import ScoreJob
    from alit_cli.jobs.score_summary import summarize
    from alit_cli.runs.run import check_error_rate

    job = ScoreJob(
        table=options.table,
        tasks=pair_models(options.task, options.model),
        out=options.out,
        images=options.images,
        checkpoint=options.checkpoint,
        device=options.device,
        batch_size=run.batch_size,
        workers=run.decode_workers,
        labels=options.labels,
        depth_maps=options.depth_maps,
        depth_unit=options.depth_unit,
        questions=options.questions,
        lpips=options.lpips,
        reconstructions=options.reconstructions,
        limit=options.limit,
        retry_errors=run.retry_errors,
        shard_size=run.shard_size,
        overwrite=run.overwrite,
    )
    if not do_run(job, run):
        return
    summaries = [summarize(path) for path in job.paths()]
    if run.as_json:
        print_json({"tables": summaries})
    else:
        for summary in summaries:
            _show(summary)
    # This check raises an error, so it comes after the summary: the means are printed even if too many images failed.
    for path in job.paths():
        check_error_rate(path, run.max_error_rate)
    say_next(*_next_commands(options.table, options.out))


def _next_commands(table: Path, out: Path) -> list[str]:
    """What reads the scores: not of a table that `alit analyze quality` refuses, which compares budgets by their L1."""
    from alit_cli.data.tables.score_table import FOLDER
    from alit_cli.data.tables.token_table import read_info

    info = shlex.join(["alit", "info", str(table)])
    tokens = read_info(table)
    if tokens.stop is not None or not tokens.losses:
        return [info]
    # Scores are found here and beside the table; any other folder has to be named.
    found = out.absolute() in (Path(FOLDER).absolute(), (table.parent / FOLDER).absolute())
    return [shlex.join(["alit", "analyze", "quality", str(table), *([] if found else ["--scores", str(out)])]), info]


def pair_models(tasks: tuple[str, ...], models: tuple[str, ...]) -> list[tuple[str, str]]:
    """Each task with each of its networks, '' for a task without one."""
    from alit_cli.errors import InputError
    from alit_cli.tasks import TASKS, WITH_MODEL

    # A dict drops repeated names and keeps the order in which the tasks were named.
    names = list(dict.fromkeys(name.strip() for some in tasks for name in some.split(",")))
    for name in names:
        if name not in TASKS:
            raise InputError(f"There is no task '{name}'; the tasks are {', '.join(TASKS)}.")
    wanting = [name for name in names if name in WITH_MODEL]
    given: dict[str, list[str]] = {name: [] for name in wanting}
    for model in models:
        task, equals, source = model.partition("=")
        # A path may contain an equals sign too, so the text before it only counts if it is the name of a task.
        if equals and task in TASKS:
            if task not in given:
                raise InputError(f"--model {model} is for the task '{task}', which takes none or is not asked for.")
            given[task].append(source)
        elif len(wanting) == 1:
            given[wanting[0]].append(model)
        else:
            what = (
                f"which of {', '.join(wanting)} it is for: {wanting[0]}={model}" if wanting else "a task that takes one"
            )
            raise InputError(f"--model {model} has to say {what}.")
    for name in wanting:
        if not given[name]:
            raise InputError(f"The task '{name}' looks through a network: name a hub id or a folder with --model.")
    # A task without a network is not in `given`; it runs once, with an empty name.
    return [(name, model) for name in names for model in given.get(name, [""])]


def _show(summary: "ScoreSummary") -> None:
    from alit_cli.console import say, show_table
    from alit_cli.progress import counted

    for image, sentence in summary.errors:
        say(f"{image}: {sentence}")
    # The summary keeps the sentences of the first failures only.
    if summary.failed > len(summary.errors):
        say(f"… and {summary.failed - len(summary.errors)} more without scores.")
    for sentence in summary.remarks:
        say(sentence)
    title = f"{summary.path}: {counted(summary.images, 'image')}" + (
        f", {summary.failed} failed" if summary.failed else ""
    )
    columns = list(dict.fromkeys(end for ends in summary.means.values() for end in ends))
    # Budgets are sorted by their size, not as text; `original` and other words come after them.
    columns.sort(key=lambda end: (not end.isdigit(), int(end) if end.isdigit() else 0))
    # No measure has a mean, for example because every image failed; the count of images is still worth a line.
    if not columns:
        say(title)
        return
    # A small image has no smaller JPEG than its smallest, which is then the same at every budget and is said once.
    level: dict[str, float | None] = {}
    for name, ends in summary.means.items() if summary.task == "baselines" else ():
        if len(ends) > 1 and len(set(ends.values())) == 1:
            level[name] = next(iter(ends.values()))
    rows = [[name, *(ends.get(end) for end in columns)] for name, ends in summary.means.items() if name not in level]
    show_table(title, ["mean", *columns], rows)
    if level:
        show_table("The same at every budget", ["", "mean"], [[name, mean] for name, mean in level.items()])
