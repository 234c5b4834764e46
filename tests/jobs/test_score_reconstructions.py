"""`alit score --reconstructions`: pictures of another codec are scored as those that tokens decode to."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alit_cli.data.tables.reconstructions import codec_name
from alit_cli.errors import InputError
from alit_cli.jobs.decode import DecodeJob, decode
from alit_cli.jobs.score import ScoreJob, score
from alit_cli.jobs.score_summary import summarize
from alit_cli.jobs.tokenize import TokenizeJob, tokenize
from alit_cli.jobs.verify import problems
from tests.model import tiny
from tests.training.photos import write_photos

LARGEST = 6


def run(job: ScoreJob) -> None:
    for _ in score(job):
        pass


def test_pictures_that_alit_decoded_have_the_scores_of_their_budget(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 5)
    checkpoint, tokens = str(tiny.checkpoint(tmp_path)), tmp_path / "tokens.parquet"
    for _ in tokenize(TokenizeJob([str(tmp_path / "photos")], tokens, checkpoint, "cpu")):
        pass
    for _ in decode(DecodeJob(tokens, tmp_path / "mine", LARGEST, checkpoint, "cpu", None)):
        pass
    job = ScoreJob(tokens, [("recon", "")], tmp_path / "scores", checkpoint=checkpoint, device="cpu", batch_size=2)
    run(job)
    codec = dataclasses.replace(job, reconstructions=f"mine={tmp_path / 'mine'}")
    first, *others = sorted((tmp_path / "mine").iterdir())
    first.unlink()
    others[0].write_bytes(b"no picture")
    # Any suffix and any size of the same shape are as good.
    others[1] = others[1].replace(tmp_path / "mine" / f"{others[1].stem}.bmp")
    with Image.open(others[1]) as picture:
        large = picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.NEAREST)
    large.save(others[1])
    run(codec)
    (path,) = codec.paths()
    assert path == tmp_path / "scores" / "recon-of-mine.parquet"
    ours, theirs = pq.read_table(job.paths()[0]), pq.read_table(path)
    assert theirs.column_names == ["image", "l1_mine", "mse_mine", "psnr_mine", "ssim_mine", "error"]
    errors = theirs["error"].to_pylist()
    assert errors[0] == f"It has no picture in '{tmp_path / 'mine'}'."
    assert errors[1].startswith(f"Its picture '{others[0]}' fails: ")
    assert errors[2:] == [None, None, None]
    # Files hold 8 bits, which the decoded pictures did not have before they were written.
    np.testing.assert_allclose(theirs["psnr_mine"].to_numpy()[3:], ours[f"psnr_{LARGEST}"].to_numpy()[3:], atol=0.02)
    losses = pq.read_table(tokens)[f"l1_{LARGEST}"].to_numpy()
    # A table's L1 is of unclamped pixels. Clamping to the range of the originals can only bring them nearer.
    assert (theirs["l1_mine"].to_numpy()[3:] <= losses[3:] + 1 / 255).all()
    assert summarize(path).means["psnr"].keys() == {"mine"}
    assert list(problems(path, tokens)) == []
    # Other pictures are another run's, which must not be mixed with this one.
    others[-1].unlink()
    with pytest.raises(InputError, match="finished table of another run"):
        run(dataclasses.replace(codec))  # a job lists its pictures once
    with pytest.raises(InputError, match="looks at no reconstruction"):
        run(dataclasses.replace(codec, tasks=[("baselines", "")]))
    (tmp_path / "strange").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "strange" / "other.png")
    with pytest.raises(InputError, match="None of the 1 pictures"):
        run(dataclasses.replace(codec, reconstructions=str(tmp_path / "strange")))


def test_a_codec_is_called_as_its_folder_unless_told(tmp_path: Path) -> None:
    assert codec_name("webp=some/where") == ("webp", "some/where")
    assert codec_name("some/bpg.v2/") == ("bpg", "some/bpg.v2/")
    for text in ("64=there", "original=there", "a b=there", "some/64"):
        with pytest.raises(InputError, match="cannot name the reconstructions"):
            codec_name(text)
