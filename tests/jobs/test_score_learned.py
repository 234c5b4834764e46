"""A classifier that was trained on the spot, through the whole path: images → tokens → scores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from alit_cli.data.tables.parquet import open_columns
from alit_cli.jobs.score import ScoreJob, score
from alit_cli.jobs.score_summary import summarize
from alit_cli.jobs.tokenize import TokenizeJob, tokenize
from tests.conftest import Alit
from tests.tasks import networks

COLOURS = ("red", "green", "blue")
ROOT = Path(__file__).parents[2]
LABELS = ROOT.parent / "shared" / "data" / "labels"


def _picture(rng: np.random.Generator, colour: int, side: int = 64) -> Image.Image:
    """Smooth noise in which one channel is brighter."""
    small = rng.integers(0, 100, (5, 5, 3))
    small[..., colour] += 150
    return Image.fromarray(small.astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)


def _trained(folder: Path) -> None:
    """A classifier of the brighter channel, saved."""
    rng = np.random.default_rng(0)
    model = networks.classifier(folder, COLOURS).train()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(40):
        truth = rng.integers(0, 3, 16)
        pixels = np.stack([np.asarray(_picture(rng, int(colour), 32)) for colour in truth])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        loss = F.cross_entropy(model(pixel_values=images).logits, torch.from_numpy(truth))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval().save_pretrained(folder)


def test_a_trained_classifier_knows_originals_and_reconstructions(tmp_path: Path) -> None:
    _trained(tmp_path / "colours")
    rng = np.random.default_rng(1)
    for number in range(12):
        path = tmp_path / "images" / COLOURS[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        _picture(rng, number % 3).save(path)
    table = tmp_path / "tokens.parquet"
    # Two of the budgets are enough to score, and every one more is decoded twice.
    job = TokenizeJob([str(tmp_path / "images")], table, device="cpu", measures=False, budgets=(32, 256))
    for _ in tokenize(job):
        pass
    scores = ScoreJob(
        table, [("classify", str(tmp_path / "colours"))], tmp_path / "scores", device="cpu", labels="folders"
    )
    for _ in score(scores):
        pass
    (path,) = scores.paths()
    means = summarize(path).means
    largest = max((end for end in means["top-1"] if end.isdigit()), key=int)
    assert means["top-1"]["original"] == 1
    assert (means["top-1"][largest] or 0) > 0.6
    found = open_columns(path, ["image", "label", f"class_prob_{largest}"])
    assert found["label"].to_pylist() == [name.split("/")[0] for name in found["image"].to_pylist()]
    assert np.mean(found[f"class_prob_{largest}"].to_pylist()) > 0.5


@pytest.mark.slow
@pytest.mark.skipif(not LABELS.exists(), reason="no photographs beside the checkout")
def test_half_of_real_photographs_train_and_the_other_half_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alit: Alit
) -> None:
    monkeypatch.chdir(tmp_path)
    script = str(ROOT / "tests/tools/train_classifier.py")
    line = [sys.executable, script, str(LABELS), str(LABELS / "labels.csv"), "photos"]
    subprocess.run([*line, "--steps", "150"], check=True, capture_output=True, cwd=tmp_path)
    assert alit("tokenize", "@photos/held_out.txt", "--no-measures").exit_code == 0
    result = alit("score", "--task", "classify", "--model", "photos", "--labels", "photos/held_out.csv")
    assert result.exit_code == 0, result.stderr
    summary = summarize(Path("scores/classify@photos.parquet"))
    assert summary.failed == 0
    assert (summary.means["top-1"]["original"] or 0) > 2 / 7
    largest = max((end for end in summary.means["top-1"] if end.isdigit()), key=int)
    assert (summary.means["top-1"][largest] or 0) > 1 / 7
