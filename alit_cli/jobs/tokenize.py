"""`alit tokenize`: images to a token table, shard by shard."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from alit_cli import __version__
from alit_cli.data.files import check_output
from alit_cli.data.pictures.fitting import Fit
from alit_cli.data.pictures.views import with_views
from alit_cli.data.sources.extra_columns import ExtraColumns
from alit_cli.data.sources.items import Found
from alit_cli.data.sources.listing import no_copy, stream_items
from alit_cli.data.sources.remote import is_url
from alit_cli.data.sources.remote_cache import RemoteCache
from alit_cli.data.tables.parts import PLAN, unfinished
from alit_cli.data.tables.summary import Summary
from alit_cli.data.tables.token_table import TableInfo, count_rows, read_info, token_schema
from alit_cli.errors import InputError, TooManyFailures
from alit_cli.jobs.retry import join_retry, prepare_retry
from alit_cli.jobs.work import Work, alone
from alit_cli.model.checkpoint import embedded, file_sha256, read_record
from alit_cli.model.device import choose_device, choose_precision
from alit_cli.model.tokenizer_model import TokenizerConfig
from alit_cli.progress import Progress, ProgressCallback, no_progress, report_count
from alit_cli.runs.plan import fingerprint, open_plan, remove_copies, remove_work
from alit_cli.runs.shards import check_finished, join_shards

SHARD_IMAGES = {"cpu": 100, "cuda": 10_000, "mps": 1_000}
"""About a minute of work (design: the unit that is committed and resumed)."""
BATCH_IMAGES = {"cpu": 16, "cuda": 128, "mps": 32}
PLAN_KEY = "plan"
GIB = 2**30


@dataclass(frozen=True)
class TokenizeJob:
    """What to tokenize, with what, and where the table goes.

    Attributes:
        paths: inputs, as list_items takes them.
        out: the table.
        null: names on standard input end in NUL.
        checkpoint: a model file; None is the embedded model.
        budgets: columns to write; None is all of the model's.
        stop: end each image's rollout at its first budget whose L1 is below this; None runs all to the end.
        losses: whether to decode pixels for the L1 columns at all.
        measures: whether to add the complexity columns.
        keep: names of Parquet columns or tar sidecars that become columns of the table.
        digest: whether to add the sha256 of every file's bytes.
        views: rows for more views of every image: flip or ten-crop.
        parts: whether `out` is to be a folder of parts, as it also is where it exists as a folder.
        retry: once the table is finished, do its failed rows again; files may have changed since they failed.
        copies: GiB of remote tars and Parquet files that may be copied into the work folder, to be fetched once.
        max_error_rate: share of images that may fail.
        The others are as the options of `alit tokenize`; None leaves the choice to the device.
    """

    paths: Sequence[str]
    out: Path
    checkpoint: str | None = None
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    fit: Fit = "crop"
    budgets: Sequence[int] | None = None
    stop: float | None = None
    losses: bool = True
    limit: int | None = None
    null: bool = False
    measures: bool = True
    keep: Sequence[str] = ()
    digest: bool = False
    views: str | None = None
    parts: bool = False
    retry: bool = False
    copies: float = 32.0
    shard_size: int | None = None
    max_error_rate: float = 0.05
    overwrite: bool = False

    @property
    def folder(self) -> bool:
        """Whether the table stays a folder of parts."""
        return self.parts or self.out.is_dir()

    @property
    def work(self) -> Path:
        """Where shards are written."""
        return self.out if self.folder else self.out.with_name(self.out.name + ".work")


def headline(job: TokenizeJob) -> str:
    """Model, device and precision, for the first line of a run."""
    device = choose_device(job.device)
    with embedded() as path:
        model = read_record(path if job.checkpoint is None else Path(job.checkpoint)).headline()
    return f"{model}; on {device} in {choose_precision(job.precision, device)}"


def tokenize(job: TokenizeJob) -> Iterator[Progress]:
    """Write the table in this process; shards that an earlier run finished are not done again.

    Yields: Progress, first where the run starts, then after every batch.

    Raises:
        InputError: nothing to read, or `out` belongs to another run.
    """
    work = None
    for work in rounds(job):
        todo, total = work.todo(), len(work.plan.items)
        done = total - sum(work.plan.shard(index).images for index in todo)
        yield Progress(done, total)
        for step in alone(work, todo, job.device, job.workers):
            yield Progress(done + step.done, total, failed=step.failed, note=step.remark)
        join(work)
    if work is None:
        images = count_rows(job.out)
        yield Progress(images, images)


def rounds(job: TokenizeJob, tell: ProgressCallback = no_progress) -> Iterator[Work]:
    """What there is to do, one after the other: the table, and its failed rows where they are to be done again.

    `tell` is given how many images have been found, while they are being listed. Raises as prepare.
    """
    work = prepare(job, tell)
    if work is not None:
        yield work
        if job.retry and not work.retry:
            again = prepare(dataclasses.replace(job, overwrite=False), tell)
            if again is not None:
                yield again


def prepare(job: TokenizeJob, tell: ProgressCallback = no_progress) -> Work | None:
    """List the inputs and freeze the plan in the work folder, or find it there; None: the table is finished.

    From then on, `ShardWorker(folder).run(index)` does a shard in any process that sees the folder, and
    `join(Work.load(folder))` makes the table of them. No model is loaded.

    Raises:
        InputError: nothing to read, or `out` or the work folder belong to another run.
    """
    if not job.folder:
        check_output(job.out, "token table")
    finished = _finished(job) and not job.overwrite
    info, found, keeper = listing(job, tell, copying=not finished and job.limit is None)
    shard_size = shard_images(job, info)
    identity = _identity(info)
    if finished:
        if job.retry:
            return _prepare_retry(job, info, found, keeper, shard_size)
        if not job.folder:
            _check_same(job.out, fingerprint(found, shard_size, identity, keeper))
            if job.work.exists():  # left by a run that was killed just after its last step
                remove_work(job.work)
            return None
    plan = open_plan(job.work, found, shard_size, identity, job.overwrite, keeper, mended=job.retry)
    work = Work(job.work, job.out, job.checkpoint, plan, _planned(info, plan.fingerprint, len(plan.items), keeper))
    work.save()
    return work if work.todo() or not job.folder else None


def join(work: Work) -> None:
    """Make the table of the finished shards and remove the work folder. Raises NotFinished: shards are missing."""
    if work.retry:
        join_retry(work)
    elif work.folder == work.out:
        check_finished(work.folder, work.plan)
        remove_copies(work.folder)
    else:
        join_shards(work.folder, work.plan, work.out)


def listing(
    job: TokenizeJob, tell: ProgressCallback = no_progress, copying: bool = False
) -> tuple[TableInfo, Iterator[Found], ExtraColumns]:
    """What the table will say of itself, its inputs as a stream, and what that keeps. Raises InputError as prepare."""
    if is_url(os.fspath(job.out)) or ":" in job.out.parts[0]:  # a Path has made one slash of two
        raise InputError(f"--out is '{job.out}', but tables are written to files here; copy it there afterwards.")
    keeper, info = ExtraColumns(job.keep), table_info(job)
    for name in set(keeper.names) & set(token_schema(info, job.measures).names):
        raise InputError(f"'{name}' cannot be kept: the table has a column of that name of its own.")
    copy = RemoteCache(job.work, int(job.copies * GIB)).of if copying else no_copy
    found = with_views(stream_items(list(job.paths), job.limit, job.null, keeper, copy), job.views)
    return info, report_count(found, tell, "images found"), keeper


def shard_images(job: TokenizeJob, info: TableInfo) -> int:
    """Images a shard."""
    return job.shard_size or SHARD_IMAGES[str(info.options["device"])]


def _finished(job: TokenizeJob) -> bool:
    """Whether the table is there, whole."""
    if not job.folder:
        return job.out.exists()
    return (job.out / PLAN).exists() and not unfinished(job.out)


def _prepare_retry(
    job: TokenizeJob, info: TableInfo, found: Iterator[Found], keeper: ExtraColumns, shard_size: int
) -> Work | None:
    """As prepare, for the failed rows of a finished table."""
    made, identity = read_info(job.out), _identity(info)
    own = {PLAN_KEY, "images", "keep"}
    if _without(own, _identity(made)) != _without(own, identity):
        raise InputError(f"{job.out} was made with other options or another model: retry with its own.")
    return prepare_retry(job.out, job.checkpoint, made, found, keeper, shard_size, identity)


def _without(names: set[str], identity: dict[str, Any]) -> dict[str, Any]:
    """The identity of a run, without these options of it."""
    return {**identity, "options": {k: v for k, v in identity["options"].items() if k not in names}}


def _planned(info: TableInfo, plan: str, images: int, keeper: ExtraColumns) -> TableInfo:
    """The info of a table whose images are known."""
    kept = {"keep": keeper.types()} if keeper.names else {}
    return dataclasses.replace(info, options={**info.options, **kept, PLAN_KEY: plan, "images": images})


def _identity(info: TableInfo) -> dict[str, Any]:
    """What tells two runs over the same images apart; versions of packages do not."""
    return {k: v for k, v in dataclasses.asdict(info).items() if k not in ("format", "versions")}


def _check_same(out: Path, plan: str) -> None:
    """Raises InputError: the finished table `out` is another run's."""
    if read_info(out).options.get(PLAN_KEY) != plan:
        raise InputError(
            f"{out} is the finished table of other images, options or another model: "
            "give --overwrite to replace it, or choose another --out."
        )


def table_info(job: TokenizeJob) -> TableInfo:
    """What the table will say of itself.

    Raises:
        InputError: no such model or device, a budget that the model does not have, or a stop that needs the losses
            left out.
    """
    device = choose_device(job.device)
    config, sha256 = _model(job)
    if job.stop is not None and not job.losses:
        raise InputError("--stop looks at the losses that --no-losses leaves out: give one of the two.")
    if job.views == "ten-crop" and job.fit == "pad":
        raise InputError("--views ten-crop cuts corners, but --fit pad shows all of an image: give one of the two.")
    budgets = tuple(sorted(set(job.budgets))) if job.budgets else config.budgets
    config = config.offering(budgets)
    return TableInfo(
        model=config.name,
        model_sha256=sha256,
        image_size=config.image_size,
        budgets=budgets,
        codes=config.codes,
        token_dim=config.token_dim,
        fit=job.fit,
        precision=choose_precision(job.precision, device),
        batch_size=job.batch_size or BATCH_IMAGES[device.type],
        versions={"alit": __version__, "torch": torch.__version__, "python": platform.python_version()},
        options={
            "measures": job.measures,
            "device": device.type,
            **({} if job.losses else {"losses": False}),
            **({} if job.stop is None else {"stop": job.stop}),
            **({"hash": True} if job.digest else {}),
            **({} if job.views is None else {"views": job.views}),
        },
    )


def _model(job: TokenizeJob) -> tuple[TokenizerConfig, str]:
    """The model's configuration and the sha256 of its file."""
    with embedded() as path:
        file = path if job.checkpoint is None else Path(job.checkpoint)
        return read_record(file).config, file_sha256(file)


def check_error_rate(job: TokenizeJob, summary: Summary) -> None:
    """Raises TooManyFailures: more than max_error_rate of the rows failed, or all of them."""
    if summary.failed > job.max_error_rate * summary.images or summary.failed == summary.images:
        raise TooManyFailures(
            f"{summary.failed} of {summary.images} images could not be read; "
            f"the columns status and error of {job.out} say why, image by image."
        )
