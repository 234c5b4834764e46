"""`alit tokenize`, `decode`, `info`, `import` and `train` as one types them, with what goes wrong."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from alit_cli.model.checkpoint import read_record
from tests.conftest import Alit
from tests.model import golden, tiny
from tests.training.channels_last import no_estimate
from tests.training.photos import write_photos

PYTHON = (sys.executable, "-W", "error", "-m", "alit_cli")


@pytest.fixture
def here(here: Path) -> Path:
    """A working folder with photographs and a tiny model."""
    write_photos(here / "images", 6)
    tiny.checkpoint(here).rename(here / "tiny.safetensors")
    return here


TINY = ("-c", "tiny.safetensors", "--device", "cpu")


def test_the_three_commands_as_written_with_the_embedded_model(here: Path, alit: Alit) -> None:
    (here / "savoias.csv").write_text("image,score\n" + "".join(f"img_{i}.png,{i}\n" for i in range(6)))
    for line in (
        "tokenize ./images --out tokens.parquet",
        "select --tsc recon --thr 0.08",
        "analyze complexity savoias.csv",
    ):
        result = alit(*line.split())
        assert result.exit_code == 0, result.stderr
    study = ("study/complexity.csv", "study/complexity.parquet", "study/complexity.png")
    for name in ("tokens.parquet", "selection.parquet", *study):
        assert (here / name).exists(), name


def test_tokenize_prints_what_it_did(here: Path, alit: Alit) -> None:
    (here / "images" / "bad.jpg").write_text("no picture")
    result = alit("tokenize", "images", *TINY, "--max-error-rate", 0.5)
    assert result.exit_code == 0
    assert "7 images (6 ok, 1 unreadable)" in result.stdout
    assert "bad.jpg" in result.stderr
    assert "on cpu in float32" in result.stderr
    found = json.loads(alit("tokenize", "images", *TINY, "--max-error-rate", 0.5, "--json").stdout)
    assert found["failed"] == 1
    assert found["summary"]["images"] == 7
    result = alit("tokenize", "images", *TINY)
    assert result.exit_code == 3
    assert pq.read_table("tokens.parquet").num_rows == 7


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("missing",), "missing"),
        (("empty",), "No image"),
        (("images", "-c", "missing.safetensors"), "missing.safetensors"),
        (("images", "-c", "images/img_0.png"), "img_0.png"),
        (("images", *TINY, "--budgets", "5"), "5"),
        (("images", *TINY, "--out", "images/img_0.png/x.parquet"), "cannot be written"),
        (("images", *TINY, "--device", "cuda:7"), "cuda"),
        (("images", *TINY, "--batch-size", "0"), "batch-size"),
    ],
)
def test_bad_calls_are_one_sentence_and_exit_2(here: Path, alit: Alit, arguments: tuple[str, ...], words: str) -> None:
    (here / "empty").mkdir()
    result = alit("tokenize", *arguments)
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error:")]
    assert result.exit_code == 2, result.stderr
    assert len(errors) == 1
    assert words in errors[0]
    assert not (here / "tokens.parquet").exists()


def test_decode_a_selection(here: Path, alit: Alit) -> None:
    assert alit("tokenize", "images", *TINY).exit_code == 0
    assert alit("select", "--thr", 0.3).exit_code == 0
    result = alit("decode", "selection.parquet", "--out", "recon/", *TINY)
    assert result.exit_code == 0
    assert len(list((here / "recon").glob("*.png"))) == 6
    assert alit("decode", "tokens.parquet", "--budget", 4, "--out", "four", *TINY).exit_code == 0
    assert alit("decode", "tokens.parquet", "--out", "four", *TINY).exit_code == 2


def test_info_and_import(here: Path, alit: Alit) -> None:
    released = {"ema": golden.weights("vqgan_quantized"), "args": argparse.Namespace(model="alit_tiny")}
    torch.save(released, "released.pth")
    result = alit("import", "released.pth", "--out", "ours.safetensors", "--half")
    assert result.exit_code == 0
    assert "vqgan base, 256 px, 32…256 tokens" in result.stdout
    assert "vqgan base" in alit("info", "ours.safetensors").stdout
    assert json.loads(alit("info", "--json").stdout)["config"]["name"] == "nano"
    alit("tokenize", "images", *TINY)
    assert json.loads(alit("info", "tokens.parquet", "--json").stdout)["rows"] == 6
    for name in ("images/img_0.png", "missing.safetensors", "missing.parquet"):
        assert alit("info", name).exit_code == 2


def test_train_in_one_go(here: Path, alit: Alit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alit_cli.training.loop.plan_memory", no_estimate)
    steps = [word for stage in ("base", "distill", "finetune") for word in (f"--{stage}-steps", 2)]
    sizes = "image_size = 64\nwidth = 32\nlayers = 1\ntokens_per_iteration = 2\n"
    Path("t.toml").write_text(f'[train]\nlr = 0.01\npreset = "nano"\nbase_tokenizer = "vae"\nviews = 1\n{sizes}')
    line = ["train", "images", "--out", "m.safetensors", *steps, "--batch-size", 2, "--config", "t.toml", "--half"]
    result = alit(*line, "--json")
    assert result.exit_code == 0, result.stderr
    made = json.loads(result.stdout)
    assert (made["out"], made["trained"]) == ("m.safetensors", True)
    assert {stage: about["steps"] for stage, about in made["stages"].items()} == dict.fromkeys(made["stages"], 2)
    assert len(made["stages"]["finetune"]["l1"]) == 8
    assert "base: 2 steps of 2 photographs, in " in result.stderr  # bf16 or float32, as the processor is
    assert "base step 2: L1 of held-out photographs by grid tokens  16: " in result.stderr
    assert read_record(Path("m.safetensors")).training[1]["recipe"]["distill"]["learning_rate"] == 0.01
    assert "there is nothing left to do" in alit(*line).stderr
    assert alit("tokenize", "images", "-c", "m.safetensors").exit_code == 0
    assert alit("train", "images", "--stages", "nonsense").exit_code == 2
    assert alit("train", "images", "--halting", "--out", "n.safetensors").exit_code == 2


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_leaves_no_table_and_goes_on(here: Path, alit: Alit, stop: signal.Signals) -> None:
    write_photos(here / "images", 120)
    words = ["tokenize", "images", *TINY, "--shard-size", "10", "--batch-size", "2"]
    line = [*PYTHON, *words]
    running = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while not list(here.glob("tokens.parquet.work/_part-*.json")):
        assert time.monotonic() < deadline
        assert running.poll() is None, running.stderr.read() if running.stderr else ""
        time.sleep(0.02)
    running.send_signal(stop)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[stop]
    assert not (here / "tokens.parquet").exists()
    if stop != signal.SIGKILL:
        assert "alit tokenize images" in errors
    resumed = alit(*words)  # in this process, as only the first run is stopped
    assert resumed.exit_code == 0, resumed.stderr
    assert pq.read_table("tokens.parquet")["status"].to_pylist() == ["ok"] * 120
    assert not (here / "tokens.parquet.work").exists()


@pytest.mark.parametrize("stop", ["0.08", "l1<x", "l1<-1", "l1<0", "psnr>3"])
def test_a_stop_that_means_nothing(tmp_path: Path, alit: Alit, stop: str) -> None:
    result = alit("tokenize", tmp_path, "--stop", stop)
    assert result.exit_code == 2
    assert "is not of the form 'l1<0.08'" in result.stderr
