"""`alit score`: the same table however it came about, and a row of nulls for every image that is gone."""

from __future__ import annotations

import dataclasses
import io
import itertools
import shutil
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from alit_cli.data.pictures.fitting import fit
from alit_cli.data.tables.score_table import read_score_info
from alit_cli.data.tables.token_table import read_info
from alit_cli.errors import InputError, TooManyFailures
from alit_cli.jobs.score import ScoreJob, score
from alit_cli.jobs.score_summary import summarize
from alit_cli.jobs.tokenize import TokenizeJob, tokenize
from alit_cli.model.tokenizer import Tokenizer, load
from alit_cli.runs.run import check_error_rate
from tests.model import tiny
from tests.training.photos import write_photos

IMAGES = 7


def _tokens(root: Path, paths: list[str], **options: object) -> ScoreJob:
    """A token table of some images, and the job of scoring it."""
    checkpoint = str(tiny.checkpoint(root, codes=int(str(options.pop("codes", 32)))))
    job = TokenizeJob(paths, root / "tokens.parquet", checkpoint, "cpu", batch_size=4)
    for _ in tokenize(dataclasses.replace(job, **options)):  # type: ignore[arg-type]
        pass
    return ScoreJob(
        job.out, [("recon", "")], root / "scores", checkpoint=checkpoint, device="cpu", batch_size=4, shard_size=3
    )


@pytest.fixture
def job(tmp_path: Path) -> ScoreJob:
    write_photos(tmp_path / "photos", IMAGES)
    return _tokens(tmp_path, [str(tmp_path / "photos")])


def _run(job: ScoreJob) -> pa.Table:
    for _ in score(job):
        pass
    return pq.read_table(job.paths()[0])


@pytest.mark.parametrize("codes", [32, 0], ids=["ids", "latents"])
def test_scores_are_of_the_pictures_that_the_tokens_decode_to(tmp_path: Path, codes: int) -> None:
    write_photos(tmp_path / "photos", IMAGES)
    job = _tokens(tmp_path, [str(tmp_path / "photos")], codes=codes)
    table = _run(job)
    tokenizer = load(job.checkpoint, "cpu")
    names = pq.read_table(job.table)["image"].to_pylist()
    assert table["image"].to_pylist() == names
    images = tokenizer.as_pixels([Image.open(tmp_path / "photos" / name) for name in names])
    for record in tokenizer.rollout(images):
        mse = (record.reconstruction.clamp(0, 1) - images).square().mean(dim=(1, 2, 3)).numpy()
        np.testing.assert_allclose(table[f"mse_{record.budget}"].to_numpy(), mse, rtol=1e-4 if codes else 5e-3)
        np.testing.assert_allclose(table[f"psnr_{record.budget}"].to_numpy(), -10 * np.log10(mse), atol=0.03)
    info = read_score_info(job.paths()[0])
    assert info is not None
    assert (info.task, info.model, info.model_id, info.budgets) == ("recon", "", tokenizer.model_id, (2, 4, 6))
    assert info.measures == ("mse", "psnr", "ssim")


def test_images_that_were_not_resized_are_read_the_same_way_again(tmp_path: Path) -> None:
    """With --fit centre: the table says so, another fit does not resume it, and scores are those of the cut images."""
    write_photos(tmp_path / "photos", IMAGES, side=50)
    job = _tokens(tmp_path, [str(tmp_path / "photos")], fit="centre", shard_size=3)
    table = _run(job)
    assert read_info(job.table).fit == "centre"
    tokenizer = load(job.checkpoint, "cpu")
    images = [Image.open(tmp_path / "photos" / name) for name in table["image"].to_pylist()]
    cut = torch.stack([torch.from_numpy(fit(image, 32, "centre")).permute(2, 0, 1) / 255 for image in images])
    (*_, last) = tokenizer.rollout(cut)
    mse = (last.reconstruction.clamp(0, 1) - cut).square().mean(dim=(1, 2, 3)).numpy()
    np.testing.assert_allclose(table[f"mse_{last.budget}"].to_numpy(), mse, rtol=1e-4)
    with pytest.raises(InputError, match="of another run"):
        _tokens(tmp_path, [str(tmp_path / "photos")], fit="crop", shard_size=3)


def test_an_interrupted_run_goes_on_and_ends_in_the_same_table(job: ScoreJob, tmp_path: Path) -> None:
    job = dataclasses.replace(job, tasks=[("recon", ""), ("baselines", "")])
    whole = dataclasses.replace(job, out=tmp_path / "whole")
    _run(whole)
    run = score(job)
    list(itertools.islice(run, 4))
    del run
    assert not any(path.exists() for path in job.paths())
    assert next(iter(score(job))).done in (3, 6)
    _run(job)
    for one, other in zip(job.paths(), whole.paths(), strict=True):
        assert pq.read_table(one).equals(pq.read_table(other))
    assert sorted(path.name for path in job.out.iterdir()) == ["baselines.parquet", "recon.parquet"]


def test_a_selection_is_named_as_one(job: ScoreJob) -> None:
    table = pq.read_table(job.table)
    selection = job.table.with_name("selection.parquet")
    rows = table.select(["image", "tokens_2"]).rename_columns(["image", "tokens"])
    pq.write_table(rows.replace_schema_metadata(table.schema.metadata), selection)
    with pytest.raises(InputError, match="is a selection; name the token table"):
        next(iter(score(dataclasses.replace(job, table=selection))))


def test_two_runs_at_once_make_one_table(job: ScoreJob, tmp_path: Path) -> None:
    slow = score(job)
    list(itertools.islice(slow, 2))
    fast = _run(job)
    for _ in slow:
        pass
    assert pq.read_table(job.paths()[0]).equals(fast)
    assert [path.name for path in job.out.iterdir()] == ["recon.parquet"]


def test_tasks_share_one_decoding_and_do_not_change_each_other(
    job: ScoreJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = _run(job)
    decoded: list[int] = []
    whole: Callable[[Tokenizer, torch.Tensor], torch.Tensor] = Tokenizer.decode_batch

    def counted(self: Tokenizer, tokens: torch.Tensor) -> torch.Tensor:
        decoded.append(len(tokens))
        return whole(self, tokens)

    monkeypatch.setattr(Tokenizer, "decode_batch", counted)
    both = dataclasses.replace(job, tasks=[("recon", ""), ("baselines", "")], out=tmp_path / "both")
    assert _run(both).equals(alone)
    assert sum(decoded) == IMAGES * 3
    decoded.clear()
    _run(dataclasses.replace(job, tasks=[("baselines", "")], out=tmp_path / "none"))
    assert decoded == []


def test_a_finished_table_is_left_alone_and_anothers_is_refused(job: ScoreJob) -> None:
    _run(job)
    before = job.paths()[0].stat().st_mtime_ns
    assert [progress.done for progress in score(job)] == [IMAGES]
    assert job.paths()[0].stat().st_mtime_ns == before
    with pytest.raises(InputError, match="--overwrite"):
        _run(dataclasses.replace(job, batch_size=2))
    assert len(_run(dataclasses.replace(job, batch_size=2, overwrite=True))) == IMAGES
    nano = dataclasses.replace(job, checkpoint=None)
    with pytest.raises(InputError, match=r"made by the model test .* not by nano .* --checkpoint"):
        _run(nano)


def test_images_that_are_gone_or_have_changed_are_rows_of_nulls(job: ScoreJob, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    whole = _run(dataclasses.replace(job, out=tmp_path / "whole"))
    (photos / "img_1.png").unlink()
    (photos / "img_2.png").write_bytes(b"no picture")
    Image.new("RGB", (50, 40), "red").save(photos / "img_4.png")
    table = _run(job)
    errors = dict(zip(table["image"].to_pylist(), table["error"].to_pylist(), strict=True))
    assert [name for name, why in errors.items() if why] == ["img_1.png", "img_2.png", "img_4.png"]
    assert "No such file" in errors["img_1.png"]
    assert "not an image" in errors["img_2.png"]
    assert "not the image that was tokenized" in errors["img_4.png"]
    lost = [1, 2, 4]
    kept = [row for row in range(IMAGES) if row not in lost]
    for name in (f"{measure}_{budget}" for measure in ("mse", "psnr", "ssim") for budget in (2, 4, 6)):
        assert table[name].take(lost).null_count == 3
        np.testing.assert_allclose(table[name].take(kept).to_numpy(), whole[name].take(kept).to_numpy(), rtol=1e-4)
    summary = summarize(job.paths()[0])
    assert (summary.images, summary.failed, len(summary.errors)) == (IMAGES, 3, 3)
    assert summary.means["mse"]["2"] == pytest.approx(pc.mean(table["mse_2"]).as_py())
    with pytest.raises(TooManyFailures, match="3 of 7"):
        check_error_rate(summary.path, 0.05)
    shutil.rmtree(photos)
    with pytest.raises(InputError, match="--images"):
        _run(dataclasses.replace(job, out=tmp_path / "none"))


def test_images_that_failed_before_stay_failed(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 3)
    (tmp_path / "photos" / "img_00.png").write_bytes(b"")
    job = _tokens(tmp_path, [str(tmp_path / "photos")])
    table = _run(job)
    assert table.filter(pc.is_valid(table["error"]))["error"].to_pylist() == [
        "It was not tokenized: The file is empty."
    ]
    assert table["mse_2"].null_count == 1


@pytest.mark.parametrize("options", [{"stop": "median"}, {"budgets": (4,)}, {"losses": False, "measures": False}])
def test_what_the_table_lacks_is_null_and_the_rest_is_the_same(
    job: ScoreJob, tmp_path: Path, options: Mapping[str, object]
) -> None:
    whole = _run(dataclasses.replace(job, out=tmp_path / "whole"))
    if "stop" in options:
        options = {"stop": float(np.median(pq.read_table(job.table)["l1_2"].to_numpy()))}
    job.table.unlink()
    tokens = pq.read_table(_tokens(tmp_path, [str(tmp_path / "photos")], **options).table)
    table = _run(job)
    budgets = [2, 4, 6] if "budgets" not in options else [4]
    assert [name for name in table.column_names if name.startswith("mse_")] == [f"mse_{b}" for b in budgets]
    reached = 0
    for budget in budgets:
        there = tokens[f"tokens_{budget}"].is_valid()
        reached += there.to_numpy().sum()
        assert table[f"mse_{budget}"].is_valid().equals(there)
        mine, all_of_them = (one[f"mse_{budget}"].filter(there).to_numpy() for one in (table, whole))
        np.testing.assert_allclose(mine, all_of_them, rtol=1e-4)
    assert table["error"].null_count == IMAGES
    remarks = summarize(job.paths()[0]).remarks
    if "stop" in options:
        assert IMAGES < reached < 3 * IMAGES
        # The means of two budgets are of other images, and must not be read as a comparison.
        assert [sentence for sentence in remarks if f"{IMAGES} reached 2 tokens" in sentence]
    else:
        assert not remarks


def test_images_are_read_again_from_tars_parquet_and_other_places(
    job: ScoreJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _run(job)
    photos = sorted((tmp_path / "photos").iterdir())
    with tarfile.open(tmp_path / "pack.tar", "w") as archive:
        for photo in photos:
            archive.add(photo, photo.name)
    rows = [{"bytes": photo.read_bytes(), "path": photo.name} for photo in photos]
    pq.write_table(pa.table({"image": rows}), tmp_path / "pack.parquet", row_group_size=2)
    (tmp_path / "list.txt").write_text("".join(f"photos/{photo.name}\n" for photo in photos))
    monkeypatch.chdir(tmp_path)
    for number, source in enumerate(("pack.tar", "pack.parquet", "photos/*.png", "@list.txt")):
        job.table.unlink()
        again = dataclasses.replace(_tokens(tmp_path, [source]), out=tmp_path / f"again-{number}")
        assert _run(again).drop_columns(["image"]).equals(expected.drop_columns(["image"])), source
    (tmp_path / "photos").rename(tmp_path / "moved")
    for number, root in enumerate(("moved", "pack.tar", "pack.parquet")):
        moved = dataclasses.replace(again, images=[root], out=tmp_path / f"moved-{number}")
        assert _run(moved).drop_columns(["image"]).equals(expected.drop_columns(["image"])), root


def test_bytes_that_are_no_text_in_a_name_do_not_lose_the_image(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    write_photos(folder, 2)
    buffer = io.BytesIO()
    Image.open(folder / "img_0.png").save(buffer, "PNG")
    try:
        (folder / "caf\udce9.png").write_bytes(buffer.getvalue())
    except OSError:
        pytest.skip("this file system only takes UTF-8 names")
    table = _run(_tokens(tmp_path, [str(folder)]))
    assert table["error"].null_count == 3
