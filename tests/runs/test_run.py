"""A run, whoever does its shards: the same tables, nothing done twice, nothing lost when a process dies."""

from __future__ import annotations

import dataclasses
import os
import random
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alit_cli.data.files import ORPHAN_SECONDS, claimed
from alit_cli.data.tables.parts import PLAN, finished_shards
from alit_cli.errors import AlitError, InputError, NotFinished, TooManyFailures
from alit_cli.runs.estimate import estimate
from alit_cli.runs.in_process import ShardRunner
from alit_cli.runs.job import Hardware, Place
from alit_cli.runs.prepared import is_complete, join_output, prepare
from alit_cli.runs.processes import MAX_ATTEMPTS
from alit_cli.runs.run import check_error_rate, join_if_complete, run
from alit_cli.runs.status import status
from alit_cli.runs.workers import Workers, WorkerShare, share_of_environment
from tests.conftest import mounted
from tests.runs.squares import SquaresJob, run_to_the_end

ROOT = Path(__file__).parents[2]


@pytest.fixture
def job(tmp_path: Path) -> SquaresJob:
    return SquaresJob(tmp_path, bad=frozenset({6, 20}))


def table(job: SquaresJob, name: str = "squares") -> pa.Table:
    assert is_complete(job.path(name))
    if job.as_folder:
        return pa.concat_tables(pq.read_table(part) for part in sorted(job.path(name).glob("*.parquet")))
    return pq.read_table(job.path(name))


def check(job: SquaresJob, left_behind: tuple[str, ...] = (".work", ".tmp")) -> None:
    """The tables are whole and right, and no work of them is left."""
    for name in job.names:
        rows = table(job, name)
        expected = [None if n in job.bad else job.factor * n * n for n in range(job.images)]
        assert rows["square"].to_pylist() == expected
        assert rows["image"].to_pylist() == [f"{n}.jpg" for n in range(job.images)]
    assert not [path.name for path in job.folder.rglob("*") if path.suffix in left_behind]


def test_one_process_makes_every_table_and_does_nothing_twice(job: SquaresJob) -> None:
    job = dataclasses.replace(job, names=("squares", "again"))
    reports = list(run(job))
    assert (reports[0].done, reports[-1].done, reports[-1].failed) == (0, 23, 2)
    check(job)
    before = job.path().stat().st_mtime_ns
    assert [report.done for report in run(job)] == [23]
    assert job.path().stat().st_mtime_ns == before


def test_only_what_a_table_lacks_is_done(job: SquaresJob) -> None:
    run_to_the_end(job)
    both = dataclasses.replace(job, names=("squares", "second"))
    prepared = prepare(both)
    assert prepared is not None
    assert [output.path.name for output in prepared.outputs] == ["second.parquet"]
    both = dataclasses.replace(job, folder=job.folder / "both", names=("third", "fourth"))
    prepared = prepare(both)
    assert prepared is not None
    with ShardRunner(prepared, Place("cpu")) as runner:
        list(runner.do(0))
        runner.flush()
        os.unlink(prepared.outputs[0].folder / "_part-00000.json")  # as if it had been killed between the two commits
        assert [output.path.stem for output in prepared.outputs_due(0)] == ["third"]
        assert prepared.due_shards() == [0, 1, 2, 3, 4, 5]
    run_to_the_end(both)
    check(both)


def test_a_table_of_another_run_is_refused_and_can_be_replaced(job: SquaresJob) -> None:
    run_to_the_end(job)
    for other in (dataclasses.replace(job, factor=2), dataclasses.replace(job, images=5)):
        with pytest.raises(InputError, match=r"finished table of another run.*--overwrite"):
            run_to_the_end(other)
    other = dataclasses.replace(job, factor=2, overwrite=True)
    run_to_the_end(other)
    check(other)


def test_an_interrupted_run_resumes_after_the_last_finished_shard(job: SquaresJob) -> None:
    interrupted = run(job)
    for report in interrupted:
        if report.done == 10:
            break
    interrupted.close()
    assert not job.path().exists()
    with pytest.raises(InputError, match="unfinished work of another run"):
        run_to_the_end(dataclasses.replace(job, factor=2))
    assert next(iter(run(job))).done == 8
    assert status(job.path()).shards_done == 2
    run_to_the_end(job)
    check(job)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_workers_share_the_shards_and_the_last_joins_them(job: SquaresJob, count: int) -> None:
    done = []
    for index in range(min(count, 6)):  # of eight workers, two have nothing to do
        assert not is_complete(job.path())
        done.append(list(run(job, Workers(WorkerShare(index, count))))[-1].done)
    assert sum(done) == 23
    assert max(done) < 23
    check(job)


def test_a_process_that_dies_is_replaced_and_loses_nothing(job: SquaresJob) -> None:
    job = dataclasses.replace(job, trouble="dies once", names=("squares", "again"))
    reports = list(run(job, Workers(devices=2)))
    assert (job.folder / "died").exists()
    assert (reports[0].done, reports[-1].done, reports[-1].failed) == (0, 23, 2)
    check(job)


def test_a_shard_that_always_kills_is_left_and_the_rest_is_done(job: SquaresJob) -> None:
    deadly = dataclasses.replace(job, trouble="dies")
    with pytest.raises(NotFinished, match=f"1 of 6 shards .* {MAX_ATTEMPTS} processes"):
        list(run(deadly, Workers(devices=1)))
    assert not is_complete(job.path())
    assert next(iter(run(job))).done == 19
    run_to_the_end(job)
    check(job)


@pytest.mark.parametrize(("trouble", "sentence"), [("complains", "disk is full"), ("crashes", "a cause deep inside")])
def test_what_ends_one_process_ends_all_in_its_sentence(job: SquaresJob, trouble: str, sentence: str) -> None:
    with pytest.raises(AlitError, match=sentence) as caught:
        list(run(dataclasses.replace(job, trouble=trouble), Workers(devices=2)))  # type: ignore[arg-type]
    (note,) = caught.value.__notes__  # the traceback of the worker, which ALIT_DEBUG=1 prints
    assert "squares.py" in note
    assert "in meet" in note
    assert not is_complete(job.path())


@pytest.mark.slow
def test_actors_of_ray_and_one_dies(job: SquaresJob) -> None:
    ray = pytest.importorskip("ray")
    job = dataclasses.replace(job, trouble="dies once", names=("squares", "again"))
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=80_000_000,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )
    try:
        reports = list(run(job, Workers(engine="ray")))
        with pytest.raises(AlitError, match="a cause deep inside") as caught:
            list(run(dataclasses.replace(job, names=("other",), trouble="crashes"), Workers(engine="ray")))
    finally:
        ray.shutdown()
    assert "in meet" in "".join(caught.value.__notes__)
    assert (job.folder / "died").exists()
    assert (reports[0].done, reports[-1].done, reports[-1].failed) == (0, 23, 2)
    for name in job.names:
        assert table(job, name)["square"].null_count == 2


def test_two_never_join_at_once(job: SquaresJob) -> None:
    prepared = prepare(job)
    assert prepared is not None
    with ShardRunner(prepared, Place("cpu")) as runner:
        for index in prepared.due_shards()[1:]:
            list(runner.do(index))
        runner.flush()
        with pytest.raises(NotFinished):
            join_output(prepared.outputs[0])
        list(runner.do(0))
    with claimed(prepared.outputs[0].folder / PLAN) as mine:
        assert mine
        join_if_complete(prepared)
        assert not job.path().exists()
    join_if_complete(prepared)
    check(job)
    join_if_complete(prepared)  # another process has done it meanwhile


def test_a_worker_that_comes_late_neither_fails_nor_harms(job: SquaresJob) -> None:
    late = run(job)
    assert next(late).done == 0
    run_to_the_end(job)
    list(late)
    check(job)
    (report,) = run(job, Workers(WorkerShare(1, 2)))
    assert report.done == 23


def test_workers_may_not_overwrite(job: SquaresJob) -> None:
    for harmful in (dataclasses.replace(job, overwrite=True), dataclasses.replace(job, retry_errors=True)):
        with pytest.raises(InputError, match="leave the option out"):
            list(run(harmful, Workers(WorkerShare(0, 2))))


@pytest.mark.parametrize("as_folder", [False, True])
def test_only_failed_rows_are_done_again(job: SquaresJob, as_folder: bool) -> None:
    job = dataclasses.replace(job, as_folder=as_folder, names=("squares", "again"))
    run_to_the_end(job)
    before = table(job)
    better = dataclasses.replace(job, bad=frozenset({20}), retry_errors=True)
    assert [report.total for report in run(better)] == [2, 2, 2] * 2  # one retry per table, of two rows
    check(dataclasses.replace(better, retry_errors=False))
    kept = [n for n in range(23) if n != 6]
    assert table(job).take(kept).drop_columns(["padding"]).equals(before.take(kept).drop_columns(["padding"]))
    # The plain command knows the tables as its own, and a retry where nothing failed does nothing.
    assert [report.done for report in run(dataclasses.replace(better, retry_errors=False))] == [23]
    with pytest.raises(InputError, match="other options"):
        run_to_the_end(dataclasses.replace(better, factor=3))
    with pytest.raises(InputError, match="other images"):
        run_to_the_end(dataclasses.replace(better, images=24))
    run_to_the_end(dataclasses.replace(better, bad=frozenset()))
    check(dataclasses.replace(better, bad=frozenset()))


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_retry_does_not_make_a_damaged_table_look_sound(job: SquaresJob, as_folder: bool) -> None:
    job = dataclasses.replace(job, as_folder=as_folder, padding=1000)
    run_to_the_end(job)
    # Image 6 failed, and its shard is the second.
    damaged = sorted(job.path().glob("*.parquet"))[1] if as_folder else job.path()
    padding = pq.read_metadata(damaged).row_group(0).column(3)
    content = bytearray(damaged.read_bytes())
    # Random bytes do not compress, so a page with another byte still decompresses, and only its checksum tells.
    content[padding.data_page_offset - 500] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(InputError, match="is damaged; make it again"):
        run_to_the_end(dataclasses.replace(job, bad=frozenset(), retry_errors=True))
    assert damaged.read_bytes() == content


def test_a_retry_that_was_interrupted_resumes(job: SquaresJob) -> None:
    run_to_the_end(job)
    better = dataclasses.replace(job, bad=frozenset(), retry_errors=True, images_per_shard=1)
    interrupted = run(better)
    for _ in range(3):
        next(interrupted)
    interrupted.close()
    assert is_complete(job.path()) is False
    assert [report.done for report in run(better)] == [1, 2]
    check(better)


@pytest.mark.parametrize("kills", [4, pytest.param(30, marks=pytest.mark.slow)])
def test_killed_at_any_moment_a_run_resumes_where_it_was(tmp_path: Path, kills: int) -> None:
    job = SquaresJob(tmp_path, images=120, images_per_shard=5, names=("squares", "again"), pause=0.002)
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.runs.squares"])
    moments, left = random.Random(0), kills
    finished: dict[Path, int] = {}
    while left:
        process = context.Process(target=run_to_the_end, args=(job,))
        process.start()
        process.join(moments.uniform(0, 0.5))
        if process.is_alive():
            process.kill()
            left -= 1
        process.join()
        marks = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.work/_part-*.json")}
        for name in job.names:
            folder = tmp_path / f"{name}.parquet.work"
            if folder.exists() and not job.path(name).exists():  # else it has been joined, or is being removed
                old = {path: stamp for path, stamp in finished.items() if path.parent == folder}
                assert old.items() <= marks.items(), "no finished shard is done again"
        finished = marks
        if all(is_complete(job.path(name)) and not job.outputs()[0].folder.exists() for name in job.names):
            # A temporary file of a process that was killed within the last second is left to the next run, because it
            # might be of one that is about to lock it.
            check(job, left_behind=(".work",))
            for name in job.names:
                job.path(name).unlink()
            finished = {}
    time.sleep(ORPHAN_SECONDS)
    for name in job.names:
        job.path(name).unlink(missing_ok=True)
    run_to_the_end(job)
    check(job)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one MiB."""
    with mounted(tmp_path / "disk", "1m") as folder:
        yield folder


def test_a_full_disk_is_one_sentence_and_the_run_resumes_later(small_disk: Path) -> None:
    job = SquaresJob(small_disk, padding=10_000)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(850 * 1024))
    with pytest.raises(AlitError, match=r"The disk is full.*make space and run the same command again"):
        run_to_the_end(job)
    assert 0 < len(finished_shards(job.outputs()[0].folder)) < 6
    assert not list(small_disk.rglob("*.tmp"))
    ballast.unlink()
    run_to_the_end(job)
    check(job)


def test_two_runs_at_once_make_one_table(job: SquaresJob) -> None:
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.runs.squares"])
    slow = dataclasses.replace(job, pause=0.02)
    processes = [context.Process(target=run_to_the_end, args=(slow,)) for _ in range(3)]
    for process in processes:
        process.start()
        time.sleep(0.1)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    check(job)


def test_a_dry_run_estimates_and_writes_nothing(job: SquaresJob) -> None:
    expected = estimate(job)
    assert (expected.images, expected.shards, expected.done) == (23, 6, 0)
    assert expected.seconds > 0
    assert not list(job.folder.iterdir())


def test_too_many_failures_are_an_error(job: SquaresJob) -> None:
    run_to_the_end(job)
    check_error_rate(job.path(), 0.1)
    with pytest.raises(TooManyFailures, match="2 of 23 images failed"):
        check_error_rate(job.path(), 0.05)


def test_each_process_gets_a_device_of_its_own_or_its_share_of_the_cores() -> None:
    places: list[Place] = []

    class Stop(Exception):
        pass

    def make_worker(place: Place) -> None:
        places.append(place)
        raise Stop

    run = type("Run", (), {"make_worker": staticmethod(make_worker)})()
    gpus = Hardware("auto", "cuda", gpus=4)
    for share, hardware in ((WorkerShare(5, 8, local=5), gpus), (WorkerShare(), Hardware("cpu", "cpu"))):
        with pytest.raises(Stop):
            list(Workers(share).do(run, [0], hardware))
    assert places == [Place("cuda:1"), Place("cpu")]
    for count, hardware, sentence in ((5, gpus, "4 GPUs"), (2, Hardware("cuda:1", "cuda", 4), "CUDA_VISIBLE_DEVICES")):
        with pytest.raises(InputError, match=sentence):
            Workers(devices=count).do(run, [0], hardware)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1, None)),
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, (3, 8, 1)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (0, 1, None)),  # the batch script itself, not a step of it
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "2"}, (2, 4, 2)),
        ({"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "16", "SLURM_ARRAY_TASK_MIN": "0"}, (5, 16, None)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "9",
                "SLURM_ARRAY_TASK_MIN": "1",
                "SLURM_ARRAY_TASK_STEP": "4",
                "SLURM_ARRAY_TASK_COUNT": "3",
            },
            (2, 3, None),
        ),
        (
            {
                "SLURM_ARRAY_TASK_ID": "2",
                "SLURM_ARRAY_TASK_COUNT": "3",
                "SLURM_STEP_NUM_TASKS": "2",
                "SLURM_PROCID": "1",
            },
            (5, 6, 0),
        ),
    ],
)
def test_the_environment_says_which_share_this_process_has(
    environment: dict[str, str], expected: tuple[int, int, int | None]
) -> None:
    share = share_of_environment(environment)
    assert (share.index, share.count, share.local) == expected


def test_an_array_without_even_numbers_needs_to_be_told() -> None:
    with pytest.raises(InputError, match="SLURM_ARRAY_TASK_ID"):
        share_of_environment({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_COUNT": "2"})
