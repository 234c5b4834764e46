"""What a job brings to a resumable run over images, and what the run asks of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from alit_cli.data.marks import Kind
from alit_cli.data.sources.extra_columns import ExtraColumns
from alit_cli.data.sources.items import Item, ListedItem
from alit_cli.data.sources.listing import NO_EXTRA_COLUMNS, SameName
from alit_cli.data.tables.parts import PLAN, unfinished, work_folder
from alit_cli.progress import ProgressCallback
from alit_cli.runs.plan import Plan, Shard

Value = TypeVar("Value")


@dataclass(frozen=True)
class Output:
    """One table that a job writes.

    Attributes:
        path: the table.
        kind: what kind of table it is; no file of another kind is replaced.
        identity: what tells this table from that of another run, as JSON knows it. It becomes the options of the plan
            and so part of the fingerprint, hence it must never change for work that can be resumed.
        description: what the table will say of itself in its metadata, apart from the plan.
        as_folder: whether the table stays a folder of parts, one per shard.
    """

    path: Path
    kind: Kind
    identity: Mapping[str, Any]
    description: Mapping[str, Any]
    as_folder: bool = False

    @property
    def folder(self) -> Path:
        """Where the shards are written: the table itself where it is a folder of parts."""
        return self.path if self.as_folder else work_folder(self.path)

    @property
    def finished(self) -> bool:
        """Whether the whole table is there."""
        if self.as_folder:
            return (self.path / PLAN).exists() and not unfinished(self.path)
        return self.path.exists()


@dataclass(frozen=True)
class ItemStream:
    """The items of a job as they are found, in a fixed order.

    Attributes:
        listed: the items; may be taken once only.
        extra_columns: what is carried along with them. Its types are known only when `listed` has been exhausted.
        renamed: gives the same items with names that begin with their inputs'; None where names never change.
    """

    listed: Iterator[ListedItem]
    extra_columns: ExtraColumns = NO_EXTRA_COLUMNS
    renamed: Callable[[], Iterator[ListedItem]] | None = None

    def used_by(self, use: Callable[[Iterator[ListedItem]], Value]) -> Value:
        """What `use` makes of the items, or of the renamed ones where two inputs have images of one name."""
        try:
            return use(self.listed)
        except SameName:
            if self.renamed is None:
                raise
            return use(self.renamed())


@dataclass(frozen=True)
class Hardware:
    """What a run may be dealt to on this machine.

    Attributes:
        name: the device as the user named it: auto, cpu, cuda, cuda:1 or mps.
        kind: the kind of device that this means here: cpu, cuda or mps.
        gpus: CUDA devices on this machine.
    """

    name: str
    kind: str
    gpus: int = 0


@dataclass(frozen=True)
class Place:
    """Where one worker computes.

    Attributes:
        device: as Hardware.name, or one of several GPUs such as cuda:3.
        threads: how many threads the worker may use on a CPU that it shares with others; None leaves the choice to it.
    """

    device: str
    threads: int | None = None


@dataclass(frozen=True)
class ShardProgress:
    """How far a shard is after a batch: images that are done, how many of them failed, and a remark if there is one."""

    done: int
    failed: int
    remark: str = ""


@dataclass(frozen=True, eq=False)
class ShardInput:
    """What a worker needs to do one shard.

    Attributes:
        shard: which one.
        items: its images, in order.
        extra_values: by name of the extra column, the JSON of each item's value.
        outputs: the tables that lack this shard; the others have it already.
    """

    shard: Shard
    items: Sequence[Item]
    extra_values: Mapping[str, Sequence[str | None]]
    outputs: Sequence[Path]


class RunningShard(Protocol):
    """One shard on its way through a worker."""

    def run(self) -> Iterator[ShardProgress]:
        """Do the items; yields after each batch."""

    def tables(self) -> Mapping[Path, pa.Table]:
        """The rows of every output of the ShardInput, one per item in their order. Called once, after run().

        It is called in another thread, while the worker has begun the next shard.
        """

    def stats(self) -> Mapping[str, Any]:
        """What the mark of the shard records besides the numbers that any shard has; called as tables() is.

        Seconds that it waited for pictures as `waited`; what reading and decoding took as `read` and `decode`, added up
        over the workers that decode; whatever else is worth knowing, as JSON knows it.
        """


class ShardWorker(Protocol):
    """Does shards one after the other in one process; it holds what is costly to load, such as a model."""

    def start(self, work: ShardInput) -> RunningShard:
        """Prepare one shard."""

    def close(self) -> None:
        """End what the worker started, such as threads and processes."""


WorkerFactory = Callable[[Place], ShardWorker]
"""Makes a worker at a place. It is sent to other processes, so it is a top-level function or class, or a
`functools.partial` of one, whose arguments can be pickled."""


class ShardedJob(Protocol):
    """What a command does with images, cut into shards by the run."""

    @property
    def hardware(self) -> Hardware:
        """What the job computes on."""

    @property
    def images_per_shard(self) -> int:
        """The unit that is committed and resumed; about a minute of work is a good size."""

    @property
    def overwrite(self) -> bool:
        """Whether tables and unfinished work of other runs may be replaced."""

    @property
    def retry_errors(self) -> bool:
        """Whether the failed rows of finished tables are to be done again."""

    def outputs(self) -> Sequence[Output]:
        """The tables. Raises InputError: the job cannot be done as asked for."""

    def items(self, report: ProgressCallback, keep_copies: bool) -> ItemStream:
        """List the images. It may be called several times.

        Args:
            report: shows how many images have been found so far.
            keep_copies: whether remote containers may be copied into the work folder while they are listed.
        """

    def worker_factory(self, plans: Mapping[Path, Plan], here: bool) -> WorkerFactory:
        """What makes workers for outputs whose plans are frozen.

        Args:
            plans: the plan of each unfinished output, by its path.
            here: the only worker will be in this process, so that what outputs() has loaded may be handed to it.
        """


class NamedJob(ShardedJob, Protocol):
    """A sharded job as a command shows it."""

    @property
    def out(self) -> Path:
        """The table, or the folder of tables."""

    def headline(self) -> str:
        """What is done with which model on which device, for the first line of a run."""
