"""`alit tokenize`: images to a token table, as a job of a resumable run."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch

from alit_cli import __version__
from alit_cli.data.pictures.fitting import Fit
from alit_cli.data.pictures.measures import PLAIN_MEASURES
from alit_cli.data.pictures.views import with_views
from alit_cli.data.sources.extra_columns import ExtraColumns
from alit_cli.data.sources.items import ListedItem
from alit_cli.data.sources.listing import no_copy, stream_items
from alit_cli.data.sources.remote import is_url
from alit_cli.data.sources.remote_cache import RemoteCache
from alit_cli.data.tables.parts import work_folder
from alit_cli.data.tables.token_table import SELECTION_COLUMNS, TableInfo, TableOptions, token_schema
from alit_cli.errors import InputError
from alit_cli.jobs.tokenize_shard import TokenizeSettings, TokenizeWorker
from alit_cli.model.checkpoint import embedded, file_sha256, read_record
from alit_cli.model.device import choose_device, choose_precision, hardware_of
from alit_cli.model.released.hub import checkpoint_file
from alit_cli.model.tokenizer_model import TokenizerConfig
from alit_cli.progress import ProgressCallback, no_progress, report_count
from alit_cli.runs.job import Hardware, ItemStream, Output, WorkerFactory
from alit_cli.runs.plan import Plan
from alit_cli.runs.run import ALONE, Progresses, run
from alit_cli.runs.workers import Workers

IMAGES_PER_SHARD = {"cpu": 100, "cuda": 10_240, "mps": 1_024}
"""About a minute of work on each kind of device: so much at most is lost when a run is killed."""
BATCH_SIZE = {"cpu": 4, "cuda": 128, "mps": 32}
"""On a CPU larger batches are hardly faster, and a shard's last one costs as much as a full one, so it is small there;
on a GPU of 80 GB the largest model fits several times."""
LARGE_FILE, BATCH_SIZE_OF_LARGE = 100 << 20, 2
"""A model of at least so many bytes is as fast on a CPU with two images as with more, and costs seconds per image."""
GIB = 2**30


@dataclass(frozen=True)
class TokenizeJob:
    """What to tokenize, with what, and where the table goes.

    Attributes:
        paths: inputs, as list_items takes them.
        out: the table.
        checkpoint: a model file; None is the embedded model.
        device, precision: auto, or as choose_device and choose_precision take them.
        batch_size: images per batch; None leaves the choice to the device.
        workers: processes that decode images, 0 for none; None leaves the choice to the machine.
        fit: how an image becomes square.
        budgets: columns to write; None is all budgets of the model.
        stop: end each image's rollout at its first budget whose L1 is below this; None runs all to the end.
        losses: whether to decode pixels for the L1 columns at all.
        limit: only the first so many images; None is all.
        nul_separated: names on standard input end in NUL.
        measures: whether to add the columns of plain measures.
        keep: names of Parquet columns or tar sidecars that become columns of the table.
        hash_files: whether to add the sha256 of every file's bytes.
        views: rows for more views of every image: flip or ten-crop.
        parts: whether `out` is to be a folder of parts, as it also is if it exists as a folder.
        retry_errors: once the table is finished, do its failed rows again; files may have changed since they failed.
        remote_cache_gib: GiB of remote tars and Parquet files that may be copied into the work folder.
        shard_size: images per shard; None leaves the choice to the device.
        overwrite: replace the table or the unfinished work of another run.
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
    nul_separated: bool = False
    measures: bool = True
    keep: Sequence[str] = ()
    hash_files: bool = False
    views: str | None = None
    parts: bool = False
    retry_errors: bool = False
    remote_cache_gib: float = 32.0
    shard_size: int | None = None
    overwrite: bool = False

    @property
    def as_folder(self) -> bool:
        """Whether the table stays a folder of parts."""
        return self.parts or self.out.is_dir()

    @property
    def work_folder(self) -> Path:
        """Where shards are written."""
        return self.out if self.as_folder else work_folder(self.out)

    @property
    def hardware(self) -> Hardware:
        """What the model computes on. Raises InputError: there is no such device."""
        return hardware_of(self.device)

    @property
    def images_per_shard(self) -> int:
        """The unit that is committed and resumed."""
        if self.shard_size:
            return self.shard_size
        # Whole batches, so that only the last shard of a run has one that is not full.
        batch_size = self.batch_size or BATCH_SIZE[self.hardware.kind]
        return -(-IMAGES_PER_SHARD[self.hardware.kind] // batch_size) * batch_size

    @cached_property
    def info(self) -> TableInfo:
        """What the table will say of itself, apart from its images; cached, as it hashes the model file.

        Raises InputError as table_info.
        """
        return table_info(self)

    def headline(self) -> str:
        """Model, device and precision, for the first line of a run."""
        device = choose_device(self.device)
        with embedded() as path:
            # Only the metadata of the file is read, so that the first line of a run does not wait for the weights.
            model = read_record(path if self.checkpoint is None else checkpoint_file(self.checkpoint)).headline()
        return f"{model}; on {device} in {choose_precision(self.precision, device)}"

    def outputs(self) -> list[Output]:
        """The token table. Raises InputError as table_info, or where no table can be written."""
        if is_url(os.fspath(self.out)) or ":" in self.out.parts[0]:  # a Path has made one slash of two
            raise InputError(
                f"--out is '{self.out}', but tables are written to local files; copy the table there afterwards."
            )
        description = self.info.to_dict()
        # Another version of torch may resume a run, so versions do not tell two runs apart.
        identity = {name: value for name, value in description.items() if name not in ("format", "versions")}
        return [Output(self.out, "token table", identity, description, self.as_folder)]

    def items(self, report: ProgressCallback, keep_copies: bool) -> ItemStream:
        """The images of the inputs. Raises InputError as stream_items, or for a column that cannot be kept."""
        columns = ExtraColumns(self.keep)
        # A selection of the table carries its kept columns along, beside columns of its own.
        for name in set(columns.names) & {*token_schema(self.info, self.measures).names, *SELECTION_COLUMNS}:
            raise InputError(
                f"Column '{name}' cannot be kept: token tables or selections have a column of that name already."
            )
        # With --limit most of a remote tar is never read, so no copy of it is made.
        copies = keep_copies and self.limit is None
        copy = RemoteCache(self.work_folder, int(self.remote_cache_gib * GIB)).of if copies else no_copy

        def stream(prefixed: bool) -> Iterator[ListedItem]:
            listed = stream_items(list(self.paths), self.limit, self.nul_separated, columns, copy, prefixed)
            return report_count(with_views(listed, self.views), report, "images found")

        # Names begin with their inputs only in the second listing, which the run asks for where two images have one
        # name.
        return ItemStream(stream(False), columns, partial(stream, True))

    def worker_factory(self, plans: Mapping[Path, Plan], here: bool) -> WorkerFactory:
        """What makes the workers; the model is loaded by each of them."""
        plan = plans[self.out]
        info = planned_info(self.info, plan)
        # Ray actors have a working folder of their own, so the path must be absolute.
        checkpoint = None if self.checkpoint is None else os.path.abspath(self.checkpoint)
        # Where the first image lies tells whether other processes can see the images at all.
        first = plan.items[0].path if len(plan.items) else ""
        settings = TokenizeSettings(self.out, checkpoint, info, self.workers, len(plan.items), first)
        return partial(TokenizeWorker, settings)


def tokenize(job: TokenizeJob, workers: Workers = ALONE, report: ProgressCallback = no_progress) -> Progresses:
    """Write a token table; as run(), which has the arguments."""
    return run(job, workers, report)


def planned_info(info: TableInfo, plan: Plan) -> TableInfo:
    """What a table says of itself once its images are known."""
    options = dataclasses.replace(
        info.options, keep=plan.options.get("keep"), plan=plan.fingerprint, images=len(plan.items)
    )
    return dataclasses.replace(info, options=options)


def table_info(job: TokenizeJob) -> TableInfo:
    """What the table will say of itself, apart from its images.

    Raises:
        InputError: there is no such model or device, the model does not have one of the budgets, or two options
            exclude each other.
    """
    device = choose_device(job.device)
    config, sha256, size = _model(job.checkpoint)
    if job.stop is not None and not job.losses:
        raise InputError("--stop needs the losses that --no-losses leaves out; give one of the two options.")
    if job.views == "ten-crop" and job.fit in ("pad", "centre"):
        shows = "shows the whole image" if job.fit == "pad" else "takes the centre as it is"
        raise InputError(f"--views ten-crop cuts corners, but --fit {job.fit} {shows}; give one of the two.")
    budgets = tuple(sorted(set(job.budgets))) if job.budgets else config.budgets
    # This raises for a budget that the model cannot give, before anything is loaded.
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
        batch_size=job.batch_size or default_batch_size(device.type, size),
        versions={"alit": __version__, "torch": torch.__version__, "python": platform.python_version()},
        # What was not asked for is None, so that its key is absent and older fingerprints stay valid.
        options=TableOptions(
            measures=job.measures,
            device=device.type,
            losses=None if job.losses else False,
            stop=job.stop,
            hash=True if job.hash_files else None,
            views=job.views,
            prefix=True if config.prefix else None,
            plain_measures=list(PLAIN_MEASURES) if job.measures else None,
        ),
    )


def default_batch_size(device: str, size: int) -> int:
    """Images per batch where nobody says it, on a kind of device, for a model file of so many bytes."""
    return BATCH_SIZE_OF_LARGE if device == "cpu" and size >= LARGE_FILE else BATCH_SIZE[device]


def _model(checkpoint: str | None) -> tuple[TokenizerConfig, str, int]:
    """The model's configuration, and the sha256 and the size of its file."""
    with embedded() as path:
        file = path if checkpoint is None else checkpoint_file(checkpoint)
        return read_record(file).config, file_sha256(file), os.path.getsize(file)
