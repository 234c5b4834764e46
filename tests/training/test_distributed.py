"""Several processes, accumulation and interruption: the same training, whoever works on it."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from alit_cli.model.checkpoint import Record, write_checkpoint
from alit_cli.model.rollout import Alit
from alit_cli.training.distributed import Distributed
from tests.model import tiny
from tests.training import channels_last
from tests.training.photos import write_photos

ROOT = Path(__file__).parents[2]


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


def _words(folder: Path, out: str, *options: str) -> list[str]:
    """`alit train …`: a small vqgan-based model learns from a few photographs for a few steps per stage."""
    words = ["train", str(folder / "photos"), "--out", str(folder / out), "--device", "cpu"]
    words += ["--init", str(folder / "tiny.safetensors"), "--no-halting", "--gan", "none"]
    words += ["--precision", "float32"]  # in bf16 the order of sums shows in the fourth digit
    words += ["--base-steps", "3", "--distill-steps", "4", "--finetune-steps", "3", "--batch-size", "8", "--lr", "1e-3"]
    return [*words, *options]


def _train(folder: Path, out: str, processes: int, *options: str) -> list[str]:
    """The command that trains in processes of its own. Its convolutions are channels-last, as they are on a GPU."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    program = ["-m", "tests.training.channels_last", *_words(folder, out, *options)]
    return [sys.executable, *(launcher if processes > 1 else []), *program]


def _train_here(words: list[str]) -> None:
    """Train in this process, as the command does that `_train` gives."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the other processes: the sums of more threads may differ in the last bit
    try:
        channels_last.run(words)
    finally:
        torch.set_num_threads(threads)


def _train_as(rank: int, processes: int, port: int, words: list[str]) -> None:
    """One of the processes of a training; the variables are those that torchrun sets."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    _train_here(words)


def _train_together(processes: int, words: list[str]) -> None:
    """Train in several processes, which are copies of one that has imported torch already; or here, if it is one."""
    if processes == 1:
        _train_here(words)
        return
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.training.test_distributed", "alit_cli.training.train"])
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    started = [context.Process(target=_train_as, args=(rank, processes, port, words)) for rank in range(processes)]
    for process in started:
        process.start()
    try:
        for process in started:
            process.join(timeout=300)
        assert [process.exitcode for process in started] == [0] * processes
    finally:
        for process in started:
            process.kill()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    write_photos(folder / "photos", 14)
    config = tiny.config("vqgan", 32)
    torch.manual_seed(0)
    write_checkpoint(folder / "tiny.safetensors", Alit(config), Record(config))
    _train_here(_words(folder, "one.safetensors"))
    return folder


def _losses(folder: Path, out: str) -> list[float]:
    log = (folder / f"{out}.work" / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["losses"]["total"] for line in log]


def _parts(folder: Path, out: str) -> list[tuple[str, dict[str, float]]]:
    """Of every step, the stage and all parts of its loss."""
    log = (folder / f"{out}.work" / "log.jsonl").read_text().splitlines()
    return [(entry["stage"], entry["losses"]) for entry in map(json.loads, log)]


@pytest.mark.parametrize(
    ("processes", "options"), [(2, []), (1, ["--accumulate", "3"])], ids=["two processes", "accumulated"]
)
def test_shared_work_takes_the_same_steps(folder: Path, processes: int, options: list[str]) -> None:
    out = f"shared-{processes}.safetensors"
    if processes == 1:
        _train_here(_words(folder, out, *options))
    else:  # the one test that starts torchrun itself
        command = _train(folder, out, processes, *options)
        subprocess.run(command, check=True, env=_environment(), cwd=folder, capture_output=True, timeout=300)
    assert _losses(folder, out) == pytest.approx(_losses(folder, "one.safetensors"), rel=1e-4)
    expected, found = load_file(folder / "one.safetensors"), load_file(folder / out)
    for name in expected:
        # Adam divides by gradients of near 0, so single weights may differ by a step of lr where float sums do.
        assert (expected[name] - found[name]).abs().mean() < 1e-4, name


# At the usual rate of these tests the critic soon knows all photographs by heart. What is then left of its gradients is
# rounding, which Adam makes as large as any other.
CRITIC = ["--gan", "base,finetune", "--gan-schedule", "0:0.8", "--lr", "1e-4", "--validate-every", "1"]


@pytest.fixture(scope="module", params=["vae", "vqgan"])
def with_critic(folder: Path, request: pytest.FixtureRequest) -> tuple[str, list[str]]:
    """One process has trained with a critic; the file it left, and how to repeat it."""
    config = tiny.config(request.param, 32)
    torch.manual_seed(0)
    start = folder / f"start-{request.param}.safetensors"
    write_checkpoint(start, Alit(config), Record(config))
    options, out = [*CRITIC, "--init", str(start)], f"critic-{request.param}.safetensors"
    _train_here(_words(folder, out, *options))
    return out, options


BOTH = pytest.param(2, ["--accumulate", "2"], marks=pytest.mark.slow)
SPLIT = [(2, []), (1, ["--accumulate", "3"]), BOTH]


@pytest.mark.parametrize(("processes", "options"), SPLIT, ids=["two processes", "accumulated", "both"])
def test_a_critic_judges_the_whole_batch(
    folder: Path, with_critic: tuple[str, list[str]], processes: int, options: list[str]
) -> None:
    """Its statistics, the adaptive weight and a VAE's noise do not depend on who holds the rows, nor on the pieces."""
    alone, with_it = with_critic
    out = f"{processes}-{len(options)}-{alone}"
    _train_together(processes, _words(folder, out, *with_it, *options))
    expected, found = _parts(folder, alone), _parts(folder, out)
    assert [stage for stage, _ in expected] == ["base"] * 3 + ["distill"] * 4 + ["finetune"] * 3
    assert all(losses.keys() >= {"l1", "gan", "critic"} for stage, losses in expected if stage != "distill")
    for (stage, losses), (_, others) in zip(expected, found, strict=True):
        for part in losses.keys() - {"usage"}:  # a process counts the codes that it used itself
            assert others[part] == pytest.approx(losses[part], rel=1e-3, abs=1e-5), f"{stage} {part}"
    one, two = load_file(folder / alone), load_file(folder / out)
    # All of it together, as Adam makes single weights differ by a step where their gradients are near 0.
    start = load_file(Path(with_it[-1]))
    apart, moved = (
        sum((one[name] - other[name]).square().sum().item() for name in one) ** 0.5 for other in (two, start)
    )
    assert apart < 0.03 * moved, f"{apart / moved:.3f}"


def test_summed_gradients_have_the_layout_of_their_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels-last convolutions, as on a GPU: fused optimizers read a parameter and its gradient alike."""
    monkeypatch.setattr("torch.distributed.all_reduce", lambda tensor: tensor)  # the other process has zeros
    images = torch.rand(2, 3, 8, 8)

    def stepped(world_size: int) -> torch.Tensor:
        torch.manual_seed(0)
        layer = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        layer(images).square().mean().backward()
        parameters = list(layer.parameters())
        distributed = Distributed(world_size=world_size)
        assert distributed.sum_gradients(parameters, torch.tensor([3.0])).tolist() == [3.0]
        assert all(p.grad is not None and p.grad.stride() == p.stride() for p in parameters)
        torch.optim.AdamW(parameters, lr=0.1, fused=True).step()
        weight: torch.Tensor = layer.weight.detach()
        return weight

    torch.testing.assert_close(stepped(2), stepped(1))


@pytest.mark.slow  # two processes, and a run that is resumed, have a fast test each
def test_two_processes_go_on_where_one_stopped(folder: Path) -> None:
    out = "handed-over.safetensors"
    log = folder / f"{out}.work" / "pictures"
    run = subprocess.Popen(_train(folder, out, 1, "--validate-every", "1"), env=_environment(), cwd=folder)
    while run.poll() is None and not (log.exists() and list(log.glob("*.png"))):
        time.sleep(0.02)
    run.send_signal(signal.SIGTERM)
    assert run.wait(timeout=120) == 143
    both = _train(folder, out, 2, "--validate-every", "1")
    subprocess.run(both, check=True, env=_environment(), cwd=folder, capture_output=True, timeout=300)
    expected, found = load_file(folder / "one.safetensors"), load_file(folder / out)
    assert all((expected[name] - found[name]).abs().mean() < 1e-4 for name in expected)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_ends_a_run_that_then_ends_in_the_same_weights(folder: Path, number: signal.Signals) -> None:
    out = f"stopped-{number.name}.safetensors"
    command = _train(folder, out, 1, "--validate-every", "1")
    log = folder / f"{out}.work" / "pictures"
    run = subprocess.Popen(command, env=_environment(), cwd=folder, stderr=subprocess.PIPE, text=True)
    steps = random.Random(number).randint(1, 2)  # of ten, so that the signal is in time on a busy machine
    while run.poll() is None and len(list(log.glob("*.png")) if log.exists() else []) < steps:
        time.sleep(0.02)
    run.send_signal(number)
    _, said = run.communicate(timeout=120)
    assert run.returncode == (130 if number == signal.SIGINT else 143), said
    assert "run the same command again" in said
    assert len(list(log.glob("*.png"))) < 10  # a picture per step, of ten steps
    _train_here(_words(folder, out, "--validate-every", "1"))
    expected, found = load_file(folder / "one.safetensors"), load_file(folder / out)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
