"""`alit score`: a token table and its images to score tables, shard by shard."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from alit_cli import __version__
from alit_cli.data.files import check_output
from alit_cli.data.sources.items import Found, Item
from alit_cli.data.tables.originals import find_originals
from alit_cli.data.tables.parts import PLAN, is_finished
from alit_cli.data.tables.score_table import (
    ERROR,
    FOLDER,
    ORIGINAL,
    ScoreInfo,
    read_score_info,
    score_path,
    score_schema,
)
from alit_cli.data.tables.token_table import TableInfo, column_names, open_columns, read_info
from alit_cli.errors import InputError, TooManyFailures
from alit_cli.jobs.reading.reader import default_workers
from alit_cli.jobs.score_shard import ScoreShard
from alit_cli.jobs.tokenize import BATCH_IMAGES, PLAN_KEY, SHARD_IMAGES
from alit_cli.model.device import choose_device
from alit_cli.model.tokenizer import Tokenizer, load
from alit_cli.progress import Progress
from alit_cli.runs.plan import Plan, Shard, fingerprint, open_plan, remove_work
from alit_cli.runs.shards import commit_shard, join_once, join_shards
from alit_cli.tasks.base import Request, Task, build_task

ANY = "any"
"""What stands in the place of the budget where it makes no difference."""
MAX_ERRORS = 5
"""Failures that a summary names."""


@dataclass(frozen=True)
class ScoreJob:
    """What to score, for which tasks, and where the tables go.

    Attributes:
        table: a token table.
        tasks: (task, model) pairs; the model is '' for a task that has none.
        out: the folder of score tables.
        images: roots of the original images where they are not where the table says.
        checkpoint: the model that made the tokens; None is the embedded one.
        labels, depth_maps, depth_unit, questions, lpips: as tasks.base.Request takes them.
        max_error_rate: share of images that may fail.
        The others are as the options of `alit score`; None leaves the choice to the device.
    """

    table: Path
    tasks: Sequence[tuple[str, str]]
    out: Path = Path(FOLDER)
    images: Sequence[str] = ()
    checkpoint: str | None = None
    device: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    labels: str | None = None
    depth_maps: Path | None = None
    depth_unit: str | None = None
    questions: Path | None = None
    lpips: Sequence[Path] = ()
    shard_size: int | None = None
    max_error_rate: float = 0.05
    overwrite: bool = False

    def paths(self) -> list[Path]:
        """The score tables, in the order of the tasks."""
        return [score_path(task, model, self.out) for task, model in self.tasks]


@dataclass(frozen=True)
class Summary:
    """What a finished score table holds.

    Attributes:
        path, task, model: which table.
        images: rows.
        failed: rows without scores.
        errors: the first few of them, as (image, sentence).
        means: measure → budget, 'original' or 'any' → mean over the images that have it; instead of a rank the shares
            of ranks up to 1 and 5, `top-1` and `top-5`; lists have none.
        remarks: sentences about images without labels and the like.
    """

    path: Path
    task: str
    model: str
    images: int
    failed: int
    errors: list[tuple[str, str]]
    means: dict[str, dict[str, float | None]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def headline(job: ScoreJob) -> str:
    """Tokens, tasks, device and precision, for the first line of a run."""
    info = read_info(job.table)
    names = ", ".join(f"{task} ({model})" if model else task for task, model in job.tasks)
    return f"tokens of {info.model}; {names}; on {choose_device(job.device)} in {info.precision}"


def score(job: ScoreJob) -> Iterator[Progress]:
    """Write a score table for every task; shards that an earlier run finished are not done again.

    Yields: Progress, first where the run starts, then after every batch.

    Raises:
        InputError: the tokens are another model's, the images are gone, a network or file of a task cannot be used, or
            a table that is there belongs to another run.
    """
    if len(set(job.paths())) < len(job.tasks):
        raise InputError("Two of the networks have the same name, and their tables would too: give each its own --out.")
    info = read_info(job.table)
    if info.tokens in column_names(job.table):
        raise InputError(f"'{job.table}' is a selection; name the token table that it was made from.")
    tokenizer = load(job.checkpoint, job.device, info.precision)
    if tokenizer.sha256 != info.model_sha256:
        raise InputError(
            f"The tokens of {job.table} were made by the model {info.model} ({info.model_id}), "
            f"not by {tokenizer.config.name} ({tokenizer.model_id}): give its file with --checkpoint."
        )
    items = find_originals(job.table, job.images)
    run = _Run(job, info, tokenizer, items)
    due = [shard for shard in run.shards if run.due(shard)]
    done = len(items) - sum(shard.images for shard in due)
    failed = 0
    yield Progress(done, len(items))
    for shard in due:
        paths = run.due(shard)  # another process with the same task may have done it meanwhile
        if not paths:
            done += shard.images
            continue
        scoring = run.scoring(shard, paths)
        for read in scoring.run(items[shard.start : shard.stop]):
            yield Progress(done + read, len(items), failed=failed + scoring.failed)
        for path in paths:
            commit_shard(scoring.table(path, run.schemas[path]), _work(path), shard.index, scoring.stats())
        done, failed = done + shard.images, failed + scoring.failed
    for path, plan in run.plans.items():
        join_once(_work(path), partial(join_shards, _work(path), plan, path), wait=True)


class _Run:
    """The plans of all tables that are not finished yet, and how far each is."""

    def __init__(self, job: ScoreJob, info: TableInfo, tokenizer: Tokenizer, items: list[Item]) -> None:
        self.job, self.info, self.tokenizer = job, info, tokenizer
        self.batch_size = job.batch_size or BATCH_IMAGES[tokenizer.device.type]
        self.workers = default_workers() if job.workers is None else job.workers
        self.tasks: dict[Path, Task[Any]] = {}
        self.schemas: dict[Path, pa.Schema] = {}
        self.plans: dict[Path, Plan] = {}
        size = job.shard_size or SHARD_IMAGES[tokenizer.device.type]
        for (name, model), path in zip(job.tasks, job.paths(), strict=True):
            self._open(name, model, path, items, size)
        self.shards = next(iter(self.plans.values())).shards() if self.plans else []

    def due(self, shard: Shard) -> list[Path]:
        """The tables that lack a shard."""
        open_still = [path for path in self.plans if (_work(path) / PLAN).exists()]
        return [path for path in open_still if not is_finished(_work(path), shard.index)]

    def scoring(self, shard: Shard, paths: Sequence[Path]) -> ScoreShard:
        """The work on one shard, for some of the tables."""
        tasks = {path: self.tasks[path] for path in paths}
        return ScoreShard(self.tokenizer, self.info, self.job.table, tasks, shard, self.batch_size, self.workers)

    def _open(self, name: str, model: str, path: Path, items: list[Item], size: int) -> None:
        """Build a task and open its plan, unless its table is there already."""
        check_output(path, "score table")
        task = build_task(name, self._request(model, items))
        known = ScoreInfo(
            task=name,
            model=model,
            model_id=self.info.model_id,
            image_size=self.info.image_size,
            budgets=self.info.budgets,
            measures=tuple(measure.name for measure in task.measures),
            options={**task.options, "batch_size": self.batch_size, "device": self.tokenizer.device.type},
            versions=_versions(),
        )
        identity = {"task": name, "measures": known.measures, "tokens": self._table_identity(), **known.options}
        if path.exists() and not self.job.overwrite:
            self._check_same(path, fingerprint(map(Found, items), size, identity))
            if _work(path).exists():  # left by a run that was killed just after its last step
                remove_work(_work(path))
            return
        plan = open_plan(_work(path), map(Found, items), size, identity, self.job.overwrite)
        options = {**known.options, PLAN_KEY: plan.fingerprint, "images": len(items)}
        options["tokens"] = self.info.options.get(PLAN_KEY)
        known = ScoreInfo(**{**vars(known), "options": options})
        self.tasks[path], self.plans[path] = task, plan
        self.schemas[path] = score_schema(known, task.measures, {**task.extras, ERROR: "string"})

    def _request(self, model: str, items: list[Item]) -> Request:
        job = self.job
        return Request(
            tokenizer=self.tokenizer,
            info=self.info,
            images=[item.image for item in items],
            model=model,
            workers=self.workers,
            labels=job.labels,
            depth_maps=job.depth_maps,
            depth_unit=job.depth_unit,
            questions=job.questions,
            lpips=job.lpips,
        )

    def _table_identity(self) -> list[Any]:
        """What tells the token table from any other."""
        return [self.info.model_sha256, self.info.options.get(PLAN_KEY), self.info.budgets, self.info.fit]

    @staticmethod
    def _check_same(path: Path, wanted: str) -> None:
        """Raises InputError: the finished table is another run's."""
        found = read_score_info(path)
        if found is None or found.options.get(PLAN_KEY) != wanted:
            raise InputError(
                f"{path} holds the scores of other tokens, images, options or another network: "
                "give --overwrite to replace it, or choose another folder with --out."
            )


def summarize(path: Path) -> Summary:
    """Read a score table's summary; lists are not read."""
    info = read_score_info(path)
    assert info is not None
    names = [name for name in column_names(path) if not name.startswith("features_")]
    table = open_columns(path, names)
    failed = table.filter(pc.is_valid(table[ERROR])).slice(0, MAX_ERRORS)
    errors = list(zip(failed["image"].to_pylist(), failed[ERROR].to_pylist(), strict=True))
    means: dict[str, dict[str, float | None]] = {}
    for measure in info.measures:
        ends = [end for end in (*map(str, info.budgets), ORIGINAL) if f"{measure}_{end}" in names]
        for label, most in (("top-1", 1), ("top-5", 5)) if measure == "class_rank" else ((measure, None),):
            means[label] = {end: _mean(table[f"{measure}_{end}"], most) for end in ends}
    means |= {name: {ANY: _mean(table[name], None)} for name in names if name.startswith("base_")}
    count = len(table) - table[ERROR].null_count
    remarks = list(_remarks(info, table, len(table) - count))
    means = {name: ends for name, ends in means.items() if ends}
    return Summary(path, info.task, info.model, len(table), count, errors, means, remarks)


def _remarks(info: ScoreInfo, table: pa.Table, fine: int) -> Iterator[str]:
    """What the means do not say of themselves."""
    if info.options.get("labels") == "predicted":
        yield "No labels were given: the first guess on the original image stands for the true class."
    for measure in info.measures:
        names = [name for b in info.budgets if (name := f"{measure}_{b}") in table.column_names]
        known = max((len(table) - table[name].null_count for name in names), default=fine)
        if known < fine:
            yield f"{fine - known} of {fine} images have no {measure}: there is no label, map or question for them."
            return


def check_error_rate(job: ScoreJob, summaries: Sequence[Summary]) -> None:
    """Raises TooManyFailures: more than max_error_rate of a table's rows failed, or all of them."""
    for summary in summaries:
        if summary.failed > job.max_error_rate * summary.images or summary.failed == summary.images:
            raise TooManyFailures(
                f"{summary.failed} of {summary.images} images have no scores; "
                f"the column {ERROR} of {summary.path} says why, image by image."
            )


def _mean(column: pa.ChunkedArray, most: int | None) -> float | None:
    """The mean of what is known and finite, or the share of values up to `most`."""
    values = column.drop_null().to_numpy()
    values = values[np.isfinite(values)] if most is None else values <= most
    return float(values.mean(dtype=np.float64)) if len(values) else None


def _versions() -> Mapping[str, str]:
    versions = {"alit": __version__, "torch": torch.__version__, "python": platform.python_version()}
    try:
        from importlib.metadata import version

        versions["transformers"] = version("transformers")
    except ImportError:
        pass
    return versions


def _work(path: Path) -> Path:
    """Where unfinished shards of a table lie."""
    return path.with_name(path.name + ".work")
