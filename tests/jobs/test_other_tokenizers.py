"""Tokenizers that are no ALIT go through every command: the same table, the same rows however they came about."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_series_equal
from PIL import Image
from safetensors.torch import save_file

from alit_cli.data.tables.parquet import open_columns
from alit_cli.errors import InputError
from alit_cli.jobs.probe import ProbeJob, encode_pooled
from alit_cli.jobs.tokenize import TokenizeJob, tokenize
from alit_cli.model.tokenizer import load
from tests.conftest import Alit
from tests.model import golden, tiny
from tests.training.photos import write_photos

KINDS = ("titok", "piece", "vqgan", "vae")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", 7)
    return tmp_path / "photos"


def made(job: TokenizeJob) -> pa.Table:
    for _ in tokenize(job):
        pass
    return pq.read_table(job.out)


def job_of(photos: Path, kind: str) -> TokenizeJob:
    checkpoint = str(tiny.other_checkpoint(photos.parent, kind))
    return TokenizeJob([str(photos)], photos.parent / "tokens.parquet", checkpoint, "cpu", batch_size=4, workers=0)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_hold_what_the_model_says(photos: Path, kind: str) -> None:
    job = job_of(photos, kind)
    table = made(job)
    tokenizer = load(job.checkpoint, "cpu")
    images = tokenizer.as_pixels([Image.open(photos / name) for name in table["image"].to_pylist()])
    for record in tokenizer.rollout(images):
        column = "tokens" if tokenizer.config.codes else "latents"
        stored = np.array(open_columns(job.out, [f"{column}_{record.budget}"])[0].to_pylist())
        said = record.latents.tokens.numpy().reshape(len(stored), -1)
        np.testing.assert_allclose(stored, said, atol=0 if tokenizer.config.codes else 1e-2)
        l1 = (record.reconstruction - images).abs().mean(dim=(1, 2, 3))
        np.testing.assert_allclose(table[f"l1_{record.budget}"], l1, atol=1e-5)


@pytest.mark.parametrize("change", [{"batch_size": 1}, {"batch_size": 5}, {"batch_size": 32}, {"workers": 2}])
@pytest.mark.parametrize("kind", ["titok", "piece", "vqgan"])
def test_rows_are_equal_however_they_came_about(photos: Path, kind: str, change: dict[str, Any]) -> None:
    job = job_of(photos, kind)
    whole = made(job)
    other = made(dataclasses.replace(job, out=photos.parent / "other.parquet", **change))
    for name in whole.column_names:
        if name.startswith("l1_") and "batch_size" in change:
            np.testing.assert_allclose(whole[name], other[name], atol=1e-5)
        else:
            # NaN, where so few bits are no picture, equals NaN.
            assert_series_equal(whole[name].to_pandas(), other[name].to_pandas(), check_exact=True)


def test_a_prefix_tokenizer_offers_any_budgets(photos: Path) -> None:
    job = job_of(photos, "piece")
    whole = made(job)
    few = made(dataclasses.replace(job, out=photos.parent / "few.parquet", budgets=(1, 5)))
    assert [name for name in few.column_names if name.startswith("tokens_")] == ["tokens_5"]
    assert few["tokens_5"].to_pylist() == [row[:5] for row in whole["tokens_6"].to_pylist()]
    for wrong in ((0, 2), (7,)):
        with pytest.raises(InputError, match="1 to 6"):
            made(dataclasses.replace(job, out=photos.parent / "wrong.parquet", budgets=wrong))
    with pytest.raises(InputError, match="no budget 5"):
        made(dataclasses.replace(job_of(photos, "titok"), out=photos.parent / "wrong.parquet", budgets=(5,)))


def test_stopping_early_keeps_what_each_image_reached(photos: Path) -> None:
    job = job_of(photos, "piece")
    whole = made(job)
    l1 = np.stack([whole[f"l1_{budget}"].to_numpy() for budget in (2, 4, 6)], axis=1)
    threshold = float(np.median(l1.min(axis=1)))
    stopped = made(dataclasses.replace(job, out=photos.parent / "stopped.parquet", stop=threshold))
    below = l1 < np.float32(threshold)
    reached = np.where(below.any(axis=1), below.argmax(axis=1), 2)
    expected = [2 * (step + 1) for step in reached]
    assert stopped["n_tokens"].to_pylist() == expected
    lists = stopped["tokens_6"].to_pylist()
    assert [len(row) for row in lists] == expected
    assert lists == [row[:k] for row, k in zip(whole["tokens_6"].to_pylist(), expected, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_command_takes_the_table(alit: Alit, photos: Path, kind: str) -> None:
    job = job_of(photos, kind)
    made(job)
    folder = photos.parent
    tokenizer = load(job.checkpoint, "cpu")
    budget = tokenizer.budgets[0]
    for line in (
        ("verify", job.out),
        ("select", job.out, "--thr", "0.5", "--out", folder / "selection.parquet"),
        ("verify", folder / "selection.parquet"),
        ("decode", job.out, "-c", job.checkpoint, "--budget", budget, "--out", folder / "decoded"),
        ("decode", folder / "selection.parquet", "-c", job.checkpoint, "--out", folder / "chosen"),
        ("export", job.out, "--budget", budget, "--format", "npz", "--out", folder / "tokens.npz"),
        ("export", folder / "selection.parquet", "--format", "npz", "--out", folder / "chosen.npz"),
        ("score", job.out, "-c", job.checkpoint, "--task", "recon", "--out", folder / "scores"),
        ("view", job.out, "-c", job.checkpoint, "--out", folder / "view.html"),
        ("info", job.out),
        ("info", job.checkpoint),
    ):
        result = alit(*line)
        assert result.exit_code == 0, (line, result.output)
    assert len(list((folder / "decoded").glob("*.png"))) == 7
    scores = pq.read_table(folder / "scores" / "recon.parquet")
    assert scores[f"psnr_{budget}"].null_count == 0


def test_what_only_alit_has_is_refused_in_a_sentence(alit: Alit, photos: Path) -> None:
    titok, vqgan = (tiny.other_checkpoint(photos.parent, kind) for kind in ("titok", "vqgan"))
    with pytest.raises(InputError, match="A probe reads the encoder of an ALIT model"):
        next(encode_pooled(load(titok, "cpu"), ProbeJob([])))
    for sentence, *line in (
        ("without attention to its tokens", "analyze", "attention", photos, "-c", vqgan),
        ("is no ALIT model", "train", photos, "--init", titok, "--out", photos.parent / "m.safetensors"),
    ):
        result = alit(*line)
        assert result.exit_code == 2, result.output
        assert sentence in " ".join(result.stderr.split())


@pytest.mark.slow
def test_a_full_size_titok_goes_all_the_way(alit: Alit, photos: Path) -> None:
    """TiTok-S-128 with weights by formula, which mean nothing: about ten seconds of one core for every image."""
    folder = photos.parent
    hub = folder / "hub"
    hub.mkdir()
    save_file(golden.drawn(golden.full_size_titok(512, 8, 128)), hub / "model.safetensors")
    names = sorted(path.name for path in photos.iterdir())
    for name in names[3:]:
        (photos / name).unlink()
    checkpoint = folder / "titok.safetensors"
    assert alit("import", hub, "--out", checkpoint).exit_code == 0
    tables = {}
    for batch in (1, 5, 32):
        out = folder / f"{batch}.parquet"
        result = alit("tokenize", photos, "-c", checkpoint, "--batch-size", batch, "--out", out)
        assert result.exit_code == 0, result.output
        tables[batch] = pq.read_table(out)
    for batch in (5, 32):
        assert tables[batch]["tokens_128"].equals(tables[1]["tokens_128"])
        np.testing.assert_allclose(tables[batch]["l1_128"], tables[1]["l1_128"], atol=1e-5)
    table = folder / "5.parquet"
    for line in (
        ("decode", table, "-c", checkpoint, "--budget", 128, "--out", folder / "decoded"),
        ("score", table, "-c", checkpoint, "--task", "recon", "--out", folder / "scores"),
        ("export", table, "--budget", 128, "--format", "npz", "--out", folder / "tokens.npz"),
        ("view", table, "-c", checkpoint, "--out", folder / "view.html"),
    ):
        result = alit(*line)
        assert result.exit_code == 0, (line, result.output)
    said = json.loads(alit("info", checkpoint, "--json").stdout)
    assert said["parameters"] == 83_674_639
