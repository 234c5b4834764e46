"""`alit score`: a token table and its images to score tables, as a job of a resumable run."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import torch

from alit_cli import __version__
from alit_cli.data.sources.items import Item, ListedItem
from alit_cli.data.tables.originals import find_originals
from alit_cli.data.tables.parquet import KEY, column_names
from alit_cli.data.tables.reconstructions import Reconstructions, codec_name, find_reconstructions
from alit_cli.data.tables.score_table import ERROR, FOLDER, ScoreInfo, score_path, score_schema
from alit_cli.data.tables.token_table import TableInfo, read_info
from alit_cli.errors import InputError
from alit_cli.jobs.score_shard import Scorers, ScoreSettings, ScoreWorker, TaskChoice, load_scorers
from alit_cli.jobs.tokenize import IMAGES_PER_SHARD
from alit_cli.model.device import choose_device, hardware_of
from alit_cli.progress import ProgressCallback, no_progress, report_count
from alit_cli.runs.job import Hardware, ItemStream, Output, Place, WorkerFactory
from alit_cli.runs.plan import Plan
from alit_cli.runs.run import ALONE, Progresses, run
from alit_cli.runs.workers import Workers

BATCH_SIZE = {"cpu": 16, "cuda": 128, "mps": 32}
"""Batches are not filled up here, and the networks of tasks are smaller than tokenizers: larger ones cost nothing."""


@dataclass(frozen=True)
class ScoreJob:
    """What to score, for which tasks, and where the tables go.

    Attributes:
        table: a token table.
        tasks: (task, model) pairs; the model is '' for a task that has none.
        out: the folder of score tables.
        images: roots of the original images if they are not where the table says.
        checkpoint: the model that made the tokens; None is the embedded one.
        device: auto, or as choose_device takes it.
        batch_size: images per batch; None leaves the choice to the device.
        workers: processes that decode images, 0 for none; None leaves the choice to the machine.
        labels, depth_maps, depth_unit, questions, lpips: as tasks.base.Request takes them.
        reconstructions: `[NAME=]DIR`, pictures of another codec to score instead of the tokens'; None is none.
        limit: only the first so many images of the table; None is all.
        retry_errors: once the tables are finished, do their failed rows again.
        shard_size: images per shard; None leaves the choice to the device.
        overwrite: replace the tables or the unfinished work of another run.
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
    reconstructions: str | None = None
    limit: int | None = None
    retry_errors: bool = False
    shard_size: int | None = None
    overwrite: bool = False

    def paths(self) -> list[Path]:
        """The score tables, in the order of the tasks."""
        codec = codec_name(self.reconstructions)[0] if self.reconstructions else ""
        return [score_path(task, model, self.out, codec) for task, model in self.tasks]

    @property
    def hardware(self) -> Hardware:
        """What the networks compute on. Raises InputError: there is no such device."""
        return hardware_of(self.device)

    @property
    def images_per_shard(self) -> int:
        """The unit that is committed and resumed."""
        return self.shard_size or IMAGES_PER_SHARD[self.hardware.kind]

    @cached_property
    def info(self) -> TableInfo:
        """What the token table says of itself. Raises InputError: it is a selection, or no table of alit."""
        info = read_info(self.table)
        if info.tokens in column_names(self.table):
            raise InputError(f"'{self.table}' is a selection; name the token table that it was made from.")
        return info

    def headline(self) -> str:
        """Tokens, tasks, device and precision, for the first line of a run."""
        info = read_info(self.table)
        names = ", ".join(f"{task} ({model})" if model else task for task, model in self.tasks)
        what = (
            f"pictures in {codec_name(self.reconstructions)[1]}" if self.reconstructions else f"tokens of {info.model}"
        )
        return f"{what}; {names}; on {choose_device(self.device)} in {info.precision}"

    def outputs(self) -> list[Output]:
        """One score table per task and network.

        Raises:
            InputError: the tokens are another model's, the images are gone, or a network or a file of a task cannot be
                used.
        """
        return [described.output for described in self._described.values()]

    def items(self, report: ProgressCallback, keep_copies: bool) -> ItemStream:
        """The original image of each row of the token table."""
        return ItemStream(report_count(map(ListedItem, self._originals), report, "images found"))

    def worker_factory(self, plans: Mapping[Path, Plan], here: bool) -> WorkerFactory:
        """What makes the workers. The only worker of this process gets the networks that outputs() has loaded."""
        schemas = {path: self._described[path].planned_schema(plan) for path, plan in plans.items()}
        # What a table says of itself was taken from the paths as given; only workers get absolute ones.
        settings = dataclasses.replace(self._settings, schemas=schemas).with_absolute_paths()
        loaded = self._loaded.pop() if self._loaded else None
        if loaded and not here:
            loaded.threads.shutdown()
        # Where others do the work, what was loaded to describe the tables is dropped, as it would only hold memory.
        return partial(ScoreWorker, settings, loaded=loaded if here else None)

    @cached_property
    def _originals(self) -> list[Item]:
        return find_originals(self.table, self.images)[: self.limit]

    @cached_property
    def _codec(self) -> Reconstructions | None:
        return find_reconstructions(self.reconstructions, self.table) if self.reconstructions else None

    @cached_property
    def _settings(self) -> ScoreSettings:
        """What every process needs, apart from the schemas, which need the plans."""
        choices = zip(self.tasks, self.paths(), strict=True)
        return ScoreSettings(
            table=self.table.absolute(),
            info=self.info,
            checkpoint=self.checkpoint,
            tasks=tuple(TaskChoice(name, model, path) for (name, model), path in choices),
            schemas={},
            batch_size=self.batch_size or BATCH_SIZE[self.hardware.kind],
            workers=self.workers,
            images=len(self._originals),
            first_path=self._originals[0].path,
            labels=self.labels,
            depth_maps=self.depth_maps,
            depth_unit=self.depth_unit,
            questions=self.questions,
            lpips=tuple(self.lpips),
            codec=self._codec,
        )

    @cached_property
    def _loaded(self) -> list[Scorers]:
        """What outputs() had to load to describe the tables, until worker_factory() takes it; empty afterwards."""
        # The dataclass is frozen, so what changes is kept in a list that can be filled and emptied.
        return []

    @cached_property
    def _described(self) -> dict[Path, _Described]:
        if len(set(self.paths())) < len(self.tasks):
            raise InputError(
                "Two networks have the same name and would write the same score table; score them in two runs, each "
                "with its own --out."
            )
        # The networks must be loaded to say what their tables are: the digest of the weights is part of the identity.
        scorers = load_scorers(self._settings, Place(self.device))
        self._loaded.append(scorers)
        return {choice.path: self._describe(choice, scorers) for choice in self._settings.tasks}

    def _describe(self, choice: TaskChoice, scorers: Scorers) -> _Described:
        """What tells a table from another run's, what it will say of itself, and its columns."""
        info, task = self.info, scorers.tasks[choice.path]
        # Batch size and device can change the last bits of a score, so they are part of what tells tables apart.
        options = {**task.options, "batch_size": self._settings.batch_size, "device": self.hardware.kind}
        if self._codec is not None:
            options["reconstructions"] = {"name": self._codec.name, "digest": self._codec.digest}
        described = ScoreInfo(
            task=choice.name,
            model=choice.model,
            model_id=info.model_id,
            image_size=info.image_size,
            budgets=info.budgets,
            measures=tuple(measure.name for measure in task.measures),
            options={**options, "tokens": info.options.plan},
            versions=_versions(),
        )
        # The plan of the token table stands for its images, so that its scores are never taken for another table's.
        tokens = [info.model_sha256, info.options.plan, info.budgets, info.fit]
        identity = {"task": choice.name, "measures": described.measures, "tokens": tokens, **options}
        # What a task says of originals stands in the table of the tokens, and a second one would make names ambiguous.
        extras = {} if self._codec else task.extras
        schema = score_schema(described, task.measures, {**extras, ERROR: "string"})
        output = Output(choice.path, "score table", identity, dataclasses.asdict(described))
        return _Described(output, described, schema)


@dataclass(frozen=True, eq=False)
class _Described:
    """One score table before its plan is known.

    Attributes:
        output: how the run describes it.
        info: what the table will say of itself.
        schema: its columns.
    """

    output: Output
    info: ScoreInfo
    schema: pa.Schema

    def planned_schema(self, plan: Plan) -> pa.Schema:
        """The columns, and what the table says of itself once its images are known."""
        options = dict(self.info.options)
        tokens = options.pop("tokens")  # written last, as it always was
        options |= {"plan": plan.fingerprint, "images": len(plan.items), "tokens": tokens}
        info = dataclasses.replace(self.info, options=options)
        return self.schema.with_metadata({KEY: info.to_json().encode()})


def score(job: ScoreJob, workers: Workers = ALONE, report: ProgressCallback = no_progress) -> Progresses:
    """Write a score table for every task; as run(), which has the arguments."""
    return run(job, workers, report)


def _versions() -> dict[str, str]:
    versions = {"alit": __version__, "torch": torch.__version__, "python": platform.python_version()}
    # The package transformers is an extra, which some tasks do without.
    with contextlib.suppress(metadata.PackageNotFoundError):
        versions["transformers"] = metadata.version("transformers")
    return versions
