"""The card beside a trained model: numbers of the log and the record, and no file of the user's is replaced."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from alit_cli.cli import main
from alit_cli.data.marks import kind_of_file
from alit_cli.data.pictures.measures import measure
from alit_cli.errors import InputError
from alit_cli.model.checkpoint import Record, read_alit, write_checkpoint
from alit_cli.model.rollout import Alit
from alit_cli.training.job import ModelOptions, TrainJob, training_job
from alit_cli.training.records.card import card_path, curves_path, draw_curves, read_log, thumbnail_errors
from alit_cli.training.records.log import Remark
from alit_cli.training.train import train
from tests.model import tiny
from tests.training.photos import write_photos
from tests.training.test_train import OFTEN, SAMPLED, _job


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    folder = tmp_path_factory.mktemp("card")
    job = dataclasses.replace(_job(folder, SAMPLED), command="alit train ./photos --preset nano")
    remarks = [report.text for report in train(job, OFTEN) if isinstance(report, Remark)]
    assert f"what it reaches and cost is in {card_path(job.out)}" in remarks
    return job


def test_a_card_says_what_the_record_says(trained: TrainJob) -> None:
    text = card_path(trained.out).read_text()
    _, record = read_alit(trained.out)
    l1 = record.training[-1]["validation_l1"]
    validation = np.load(trained.work / "validation.npy")
    bits = int(6 * trained.config.bits_per_token)
    thumbnail = np.mean([measure(pixels, (bits,)).thumbnail[0] for pixels in validation])
    assert f"| 6 | {l1['6']:.4f} | {thumbnail:.4f} | {l1['6'] / thumbnail:.3f} |" in text
    assert "| base | 6 × 4 | 24 | ? | ? |" in text  # less than a minute
    assert "Together 72 photographs" in text
    assert "12 photographs to train on, 2 held out, from" in text
    assert f"- `{trained.photos[0]}`" in text
    assert "```\nalit train ./photos --preset nano\n```" in text
    assert "GFLOP for all budgets" in text
    assert "torch 2." in text
    assert f"]({curves_path(trained.out).name})" in text
    assert kind_of_file(card_path(trained.out)) == "card"
    assert kind_of_file(curves_path(trained.out)) == "figure"
    with Image.open(curves_path(trained.out)) as picture:
        assert picture.width > 2 * picture.height  # three stages


def test_a_card_says_how_much_arithmetic_a_stage_took(trained: TrainJob, monkeypatch: pytest.MonkeyPatch) -> None:
    card = card_path(trained.out)
    before = card.read_text()
    card.unlink()
    monkeypatch.setattr("alit_cli.training.train.COUNTED_FROM", 0)
    monkeypatch.setattr("alit_cli.training.train.flop_per_photograph", lambda *_: 2.5e14)
    list(train(trained, OFTEN))
    # 24 photographs of 250 TFLOP
    assert "| base | 6 × 4 | 24 | 250 | 6 |" in card.read_text()
    card.write_text(before)


def test_a_card_that_is_gone_is_written_again_and_another_is_left(trained: TrainJob) -> None:
    card = card_path(trained.out)
    before, made = card.read_text(), card.stat().st_mtime_ns
    assert list(train(trained, OFTEN)) == []
    assert card.stat().st_mtime_ns == made
    card.unlink()
    list(train(trained, OFTEN))
    assert card.read_text() == before


def test_curves_take_each_step_once(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    records = [
        {"stage": "distill", "step": 2, "losses": {"total": 3.0}},
        {"stage": "base", "step": 2, "losses": {"total": 9.0}},
        {"stage": "base", "step": 1, "losses": {"total": 8.0}, "validation": {"16": 0.2}},
        {"stage": "base", "step": 2, "losses": {"total": 7.0}, "validation": {"16": 0.1}},  # after an interruption
    ]
    log.write_text("".join(json.dumps(record) + "\n" for record in records) + '{"stage": "ba')
    found = read_log(log)
    assert [(r["stage"], r["step"], r["losses"]["total"]) for r in found] == [
        ("base", 1, 8.0), ("base", 2, 7.0), ("distill", 2, 3.0),
    ]  # fmt: skip
    base, distill, held_out, _ = draw_curves(found).axes
    assert (base.get_title(), distill.get_title()) == ("base", "distill")
    assert base.get_lines()[0].get_ydata().tolist() == [8.0, 7.0]  # type: ignore[union-attr]
    assert held_out.get_lines()[0].get_ydata().tolist() == [0.2, 0.1]  # type: ignore[union-attr]


def test_thumbnails_of_budgets_that_buy_no_pixel_are_left_out() -> None:
    config = dataclasses.replace(tiny.config("vae", 32), tokens_per_iteration=1)
    photographs = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), dtype=np.uint8)
    assert list(thumbnail_errors(photographs, config)) == [3]  # two tokens have 10 bits, and a pixel takes 12


def test_a_file_of_the_users_in_the_way_is_told_before_training(tmp_path: Path) -> None:
    (tmp_path / "m.card.md").write_text("my notes")
    with pytest.raises(InputError, match=r"m\.card\.md' carries no mark of alit"):
        training_job([], tmp_path / "m.safetensors", ModelOptions(), ["base"], {}, {})
    assert (tmp_path / "m.card.md").read_text() == "my notes"


def test_the_command_is_the_line_that_was_written(tmp_path: Path) -> None:
    write_photos(tmp_path / "my photos", 6)
    config = tiny.config("vae", 32)
    write_checkpoint(tmp_path / "tiny.safetensors", Alit(config), Record(config))
    words = ["train", str(tmp_path / "my photos"), "--out", str(tmp_path / "m.safetensors"), "--stages", "base"]
    words += ["--init", str(tmp_path / "tiny.safetensors"), "--base-steps", "1", "--batch-size", "2", "--crops", "1"]
    result = CliRunner().invoke(main, words, prog_name="alit", catch_exceptions=False)
    assert result.exit_code == 0, result.output
    text = (tmp_path / "m.card.md").read_text()
    assert f"alit train '{tmp_path}/my photos' --out {tmp_path}/m.safetensors --stages base" in text
    assert "for the base tokenizer alone" in text
