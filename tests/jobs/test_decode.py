"""`alit decode`: pictures equal what tokenization saw, under the names of their images."""

from __future__ import annotations

import dataclasses
import errno
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alit_cli.errors import AlitError, InputError
from alit_cli.jobs.decode import DecodeJob, decode, file_names
from alit_cli.jobs.tokenize import TokenizeJob, tokenize
from alit_cli.model.tokenizer import load
from tests.model import tiny
from tests.training.photos import write_photos


@pytest.fixture(params=[32, 0], ids=["ids", "latents"])
def job(tmp_path: Path, request: pytest.FixtureRequest) -> DecodeJob:
    write_photos(tmp_path / "photos", 5)
    write_photos(tmp_path / "photos" / "more 😀", 2)
    checkpoint = str(tiny.checkpoint(tmp_path, codes=request.param))
    for _ in tokenize(TokenizeJob([str(tmp_path / "photos")], tmp_path / "tokens.parquet", checkpoint, "cpu")):
        pass
    return DecodeJob(tmp_path / "tokens.parquet", tmp_path / "recon", 4, checkpoint, "cpu")


def test_pictures_equal_the_reconstructions_of_tokenization(job: DecodeJob) -> None:
    assert list(decode(job))[-1].done == 7
    tokenizer = load(job.checkpoint, "cpu")
    names = pq.read_table(job.table)["image"].to_pylist()
    photos = [Image.open(job.table.parent / "photos" / name) for name in names]
    (record,) = (r for r in tokenizer.rollout(photos) if r.budget == job.budget)
    expected = record.reconstruction.clamp(0, 1).mul(255).round().permute(0, 2, 3, 1).numpy()
    # float16 latents may round a pixel to its neighbour; ids may not.
    tolerance = 0 if tokenizer.config.codes else 1
    for name, pixels in zip(names, expected, strict=True):
        decoded = np.asarray(Image.open(job.out / Path(name).with_suffix(".png")), dtype=np.float32)
        assert np.abs(decoded - pixels).max() <= tolerance


def test_each_image_of_a_selection_has_its_own_budget(job: DecodeJob) -> None:
    table = pq.read_table(job.table)
    stem = "tokens" if "tokens_2" in table.column_names else "latents"
    budgets = [2, 4, 6, 2, 6, 4, 2]
    rows = [table[f"{stem}_{budget}"][i].as_py() for i, budget in enumerate(budgets)]
    mixed = pa.table({"image": table["image"], stem: pa.array(rows, table.schema.field(f"{stem}_2").type)})
    selection = job.table.with_name("selection.parquet")
    pq.write_table(mixed.replace_schema_metadata(table.schema.metadata), selection)
    list(decode(dataclasses.replace(job, table=selection, budget=None)))
    for i in (0, 3, 6):
        assert (job.out / Path(table["image"][i].as_py()).with_suffix(".png")).exists()
    mixed_picture = Image.open(job.out / "img_1.png").tobytes()
    list(decode(dataclasses.replace(job, out=job.out.with_name("four"))))
    assert Image.open(job.out.with_name("four") / "img_1.png").tobytes() == mixed_picture


def test_a_rerun_decodes_only_what_is_missing_damaged_or_of_other_tokens(job: DecodeJob) -> None:
    list(decode(job))
    pictures = sorted(job.out.rglob("*.png"))
    whole = {path: path.read_bytes() for path in pictures}
    untouched = {path: path.stat().st_ino for path in pictures[3:]}  # a picture that is written again is a new file
    pictures[0].unlink()
    pictures[1].write_bytes(whole[pictures[1]][:-100])
    half = len(whole[pictures[2]]) // 2
    pictures[2].write_bytes(whole[pictures[2]][:half] + bytes(len(whole[pictures[2]]) - half))
    first, *_, last = decode(job)
    assert (first.done, last.done, last.total) == (4, 7, 7)
    assert {path: path.read_bytes() for path in sorted(job.out.rglob("*.png"))} == whole
    assert {path: path.stat().st_ino for path in untouched} == untouched
    assert [progress.done for progress in decode(job)] == [7]
    # Another budget or another size of the batches is another picture, even where its pixels are equal.
    for other in (dataclasses.replace(job, budget=6), dataclasses.replace(job, budget=6, batch_size=3)):
        assert next(iter(decode(other))).done == 0
        assert [progress.done for progress in decode(other)] == list(range(8))
    fresh = dataclasses.replace(job, budget=6, batch_size=3, out=job.out.with_name("fresh"))
    list(decode(fresh))
    assert all((fresh.out / path.relative_to(job.out)).read_bytes() == path.read_bytes() for path in pictures)


def test_an_interrupted_run_goes_on_where_it_stopped(job: DecodeJob, tmp_path: Path) -> None:
    assert [progress.done for progress in islice(decode(job), 4)] == [0, 1, 2, 3]
    (job.out / "img_1.png").unlink(missing_ok=True)
    Image.new("RGB", (4, 4)).save(job.out / "img_1.png")
    with pytest.raises(InputError, match="may be yours"):  # nothing of the user's is taken for a finished picture
        list(decode(job))
    (job.out / "img_1.png").unlink()
    list(decode(job))
    whole = dataclasses.replace(job, out=tmp_path / "whole")
    list(decode(whole))
    for path in whole.out.rglob("*.png"):
        assert (job.out / path.relative_to(whole.out)).read_bytes() == path.read_bytes()


def test_tokens_of_another_model_are_refused(job: DecodeJob, tmp_path: Path) -> None:
    other = str(tiny.checkpoint(tmp_path, "vqgan"))
    with pytest.raises(InputError, match="checkpoint"):
        list(decode(dataclasses.replace(job, checkpoint=other)))
    with pytest.raises(InputError, match="budget"):
        list(decode(dataclasses.replace(job, budget=None)))
    with pytest.raises(InputError, match="budget"):
        list(decode(dataclasses.replace(job, budget=5)))


def test_names_stay_apart_and_inside() -> None:
    assert file_names(["a.jpg", "a.png", "b/c.tiff"]) == ["a.jpg.png", "a.png.png", "b/c.png"]
    assert file_names(["a.jpg", "a.png", "a.jpg.jpg"]) == ["a.jpg.png", "a.png.png", "a.jpg.jpg.png"]
    with pytest.raises(InputError):
        file_names(["../out.png"])


def test_a_full_disk_is_one_sentence(job: DecodeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(AlitError, match=r"The disk is full: '.*img_.*png' .* run the same command again"):
        list(decode(job))
