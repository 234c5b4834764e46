"""Quality: every number against one computed by hand from the same columns."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.stats.code_counts import CodeCounts
from alit_cli.analysis.stats.loss_histogram import EDGES, histogram
from alit_cli.analysis.studies.quality import measure_quality, share_below, spread
from alit_cli.data.tables.parquet import KEY
from alit_cli.report.columns import read_numbers
from tests.analysis.score_tables import frechet_distance, write_scores, write_world
from tests.analysis.tables import BUDGETS, tokens_of, write_study, write_tokens
from tests.conftest import Alit

FILES = ["quality.csv", "quality.parquet", "quality_below.csv", "quality.png"]


def columns(*lists: list[list[int] | None]) -> list[pa.ChunkedArray]:
    return [pa.chunked_array([pa.array(rows, pa.list_(pa.uint16()))]) for rows in lists]


@pytest.fixture
def here(here: Path) -> Path:
    """A working folder with tokens, features, recon scores of all images and baselines."""
    world = write_world(here)
    names = pd.read_parquet("tokens.parquet")["image"].tolist()
    base = np.where(np.isnan(world["l1"][:, 0]), np.nan, 0.03)
    ones = np.where(np.isnan(world["l1"]), np.nan, 1.0)
    write_scores(here / "scores" / "recon.parquet", names, {"psnr": 20 * ones, "ssim": ones * [0.1, 0.2, 0.3]})
    measures = {f"{what}_{name}": ones / 4 for what in ("thumb", "jpeg", "webp") for name in ("l1", "psnr", "ssim")}
    measures |= {"jpeg_size": 300 * ones, "webp_size": ones * [40, 50, 60]}
    extras = {f"base_{name}": base.tolist() for name in ("l1", "psnr", "ssim")}
    write_scores(here / "scores" / "baselines.parquet", names, measures, extras)
    return here


def test_codes_are_counted() -> None:
    counts = CodeCounts(8, 2)
    counts.add(columns([[0, 1], None, [0, 0]], [[0, 1, 2, 3], None, [0, 1, 4, 4]]))
    counts.add(columns([[2, 3]], [[2, 3, 7, 7]]))
    assert counts.used(0) == 4 / 8
    assert counts.used(1) == 6 / 8
    share = np.array([3, 1, 1, 1]) / 6
    assert counts.entropy(0) == pytest.approx(-(share * np.log2(share)).sum())
    assert math.isnan(counts.changed(0))
    assert counts.changed(1) == 1 / 6
    assert math.isnan(CodeCounts(8, 2).entropy(0))


def test_places_compare_strictly_and_in_float32() -> None:
    counted = histogram(np.array([0.08, 0.0799, np.nan, 5.0, -0.1], np.float32)).cumsum()
    at = {threshold: int(np.searchsorted(EDGES, np.float32(threshold))) for threshold in (0.0, 0.08, 0.0805)}
    assert [int(counted[at[threshold]]) for threshold in (0.0, 0.08, 0.0805)] == [1, 2, 3]
    assert (counted[len(EDGES) - 1], counted[-1]) == (3, 4)


def test_every_number_is_that_of_its_columns(here: Path) -> None:
    result = measure_quality(Tables(here / "tokens.parquet"))
    table = pd.read_parquet("tokens.parquet")[:-1]
    tokens = result.of("tokens")
    assert [row.budget for row in tokens] == list(BUDGETS)
    for step, (row, budget) in enumerate(zip(tokens, BUDGETS, strict=True)):
        losses = table[f"l1_{budget}"]
        assert row.images == 59
        assert row.l1 == pytest.approx(losses.mean(), rel=1e-6)
        assert (row.bits, row.bits_per_pixel) == (12 * budget, 12 * budget / 64**2)
        assert (row.psnr, row.ssim) == pytest.approx((20, [0.1, 0.2, 0.3][step]), rel=1e-6)
        ids = {code for image in range(59) for code in tokens_of(image, budget)}
        assert row.codes_used == len(ids) / 4096
        assert share_below(result, step, 0.08) == pytest.approx((losses < np.float32(0.08)).mean())
        features = np.stack(pd.read_parquet("scores/features@dino.parquet")[f"features_{budget}"][:-1].to_list())
        original = np.stack(pd.read_parquet("scores/features@dino.parquet")["features_original"][:-1].to_list())
        assert row.frechet == pytest.approx(frechet_distance(original, features), rel=1e-4, abs=1e-6)
    assert [row.changed for row in tokens[1:]] == [1, 1]  # the tokens of `tables` are other ones at every budget
    assert (result.frechet, result.features) == ("dino", 4)
    assert [row.bits for row in result.of("jpeg")] == [2400] * 3
    assert [row.bits for row in result.of("webp")] == [320, 400, 480]
    assert [row.bits for row in result.of("thumb")] == [48, 96, 144]
    (base,) = result.of("base")
    assert base.l1 == pytest.approx(0.03)
    assert base.budget is None
    assert all(0 < threshold < 0.2 for threshold in spread(result))


def shown_of_thumbnails(tables: Tables) -> list[str]:
    """The columns of thumbnails that the page has."""
    columns = read_numbers(tables, np.ones(tables.rows(), np.bool_)).columns
    return [column.key for column in columns if column.key.startswith("thumb")]


def test_the_error_of_thumbnails_is_one_measure_under_either_name(tmp_path: Path) -> None:
    path, _ = write_study(tmp_path, {"art": 8})
    names = pd.read_parquet(path)["image"].tolist()
    write_scores(tmp_path / "scores" / "baselines.parquet", names, {"thumb_l1": np.full((8, 3), 0.5)})
    tables = Tables(path, tmp_path / "scores")
    assert [name for name in tables.measures() if name.startswith("thumb")] == ["thumbnail"]
    assert tables.find("thumb_l1") == tables.find("thumbnail")
    assert shown_of_thumbnails(tables) == ["thumbnail"]
    # Without measures in the token table, that of the scores is found by both names.
    alone = write_tokens(tmp_path / "alone.parquet", np.full((8, 3), 0.1), names)
    tables = Tables(alone, tmp_path / "scores")
    assert [name for name in tables.measures() if name.startswith("thumb")] == ["thumb_l1"]
    assert tables.find("thumb_l1") == tables.find("thumbnail")
    assert shown_of_thumbnails(tables) == ["thumb_l1"]


def test_pictures_of_another_codec_are_levels(here: Path, alit: Alit) -> None:
    names = pd.read_parquet("tokens.parquet")["image"].tolist()
    values = np.full((len(names), 1), 0.25)
    values[0] = np.nan
    measures = {"l1": values, "psnr": 100 * values}
    write_scores(here / "scores" / "recon-of-bpg.parquet", names, measures, codec="bpg")
    result = measure_quality(Tables(Path("tokens.parquet")))
    (row,) = result.of("codec bpg")
    assert (row.budget, row.images, row.l1, row.psnr) == (None, len(names) - 2, 0.25, 25.0)
    assert math.isnan(row.bits)
    printed = alit("analyze", "quality")
    assert printed.exit_code == 0, printed.stderr
    assert f"The pictures of bpg ({len(names) - 2} images, bits not known): L1 0.2500, PSNR 25.00 dB." in printed.stdout


@pytest.mark.parametrize(
    ("options", "name", "sentences"),
    [
        (
            {"base": "fine-tuned", "base_stage_l1": 0.0643},
            "base tokenizer as fine-tuned",
            ("so that this is no ceiling", "After its own stage it had an L1 of 0.0643 on photographs held out"),
        ),
        ({"base": "as trained"}, "base tokenizer without tokens", ()),
        ({"base": "imported"}, "base tokenizer as in the imported model", ()),
    ],
)
def test_what_the_base_tokenizer_is_by_now_stands_beside_its_number(
    here: Path, alit: Alit, options: dict[str, object], name: str, sentences: tuple[str, ...]
) -> None:
    path = here / "scores" / "baselines.parquet"
    table = pq.read_table(path)
    about = json.loads(table.schema.metadata[KEY])
    about["options"] = {**about.get("options", {}), **options}
    pq.write_table(table.replace_schema_metadata({KEY: json.dumps(about).encode()}), path)
    result = alit("analyze", "quality", "--format", "svg")
    assert result.exit_code == 0, result.stderr
    printed = " ".join(result.stdout.split())
    assert f"The {name}: L1 0.0300" in printed
    assert all(sentence in printed for sentence in sentences)
    assert ("no ceiling" in printed) == bool(sentences)
    assert name in (here / "study" / "quality.svg").read_text()


def test_partial_scores_are_said_and_nothing_is_made_up(here: Path) -> None:
    names = pd.read_parquet("tokens.parquet")["image"].tolist()
    (here / "scores" / "baselines.parquet").unlink()
    write_scores(here / "scores" / "recon.parquet", names[:10], {"psnr": np.full((10, 3), 20.0)})
    result = measure_quality(Tables(here / "tokens.parquet"))
    assert any("10 of the 59 images" in remark for remark in result.remarks)
    assert {row.system for row in result.rows} == {"tokens"}
    assert all(math.isnan(row.ssim) for row in result.rows)


def test_scores_of_other_images_are_left_out_and_said(here: Path) -> None:
    write_scores(here / "scores" / "recon.parquet", ["else.jpg"], {"psnr": np.full((1, 3), 20.0)})
    path = here / "scores" / "baselines.parquet"
    table = pq.read_table(path)
    about = json.loads(table.schema.metadata[KEY]) | {"model_id": "another"}
    pq.write_table(table.replace_schema_metadata({KEY: json.dumps(about)}), path)
    result = measure_quality(Tables(here / "tokens.parquet"))
    assert sum("left out" in remark for remark in result.remarks) == 2
    assert any("tokens of the model another" in remark for remark in result.remarks)
    assert {row.system for row in result.rows} == {"tokens"}
    assert math.isnan(result.rows[0].psnr)
    assert result.frechet == "dino"


def test_the_command_prints_and_writes_every_format(here: Path, alit: Alit) -> None:
    result = alit("analyze", "quality", "--thr", "0.05,0.08", "--format", "svg", "--out", "q")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-4:] == [f"q/{name}".replace("png", "svg") for name in FILES]
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["tokens", "0.05", "0.08"] in lines
    assert "base tokenizer: L1 0.0300" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 120
    assert "Next: alit view tokens.parquet\n" in result.stderr  # the page finds q by itself
    assert b"<svg" in (here / "q" / "quality.svg").read_bytes()[:1000]
    written = pd.read_csv("q/quality.csv")
    assert len(written) == 13
    assert written.l1.tolist() == pytest.approx(pd.read_parquet("q/quality.parquet").l1.tolist(), rel=1e-5)
    below = pd.read_csv("q/quality_below.csv")
    assert (below.groupby("budget").share.last() > 0.99).all()
    assert (below.groupby("budget").share.apply(lambda shares: shares.is_monotonic_increasing)).all()
    deep = alit("analyze", "quality", "--out", "one/two/three")
    assert "Next: alit view tokens.parquet --beside one/two/three\n" in deep.stderr


def test_a_table_alone_is_enough(tmp_path: Path, alit: Alit) -> None:
    losses = np.linspace(0.02, 0.2, 30).reshape(10, 3)
    path = write_tokens(tmp_path / "tokens.parquet", losses, codes=0)
    result = alit("analyze", "quality", path, "--json", "--out", tmp_path)
    assert result.exit_code == 0
    assert "alit score --task recon,baselines" in result.stderr
    found = json.loads(result.stdout)
    assert [row["budget"] for row in found["rows"]] == list(BUDGETS)
    assert found["rows"][0]["entropy"] is None
    assert found["rows"][0]["bits"] == 4 * 2 * 16
    assert all((tmp_path / name).stat().st_size for name in FILES)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("gone.parquet", "alit tokenize"),
        ("--thr -1", "from 0 up"),
        ("--scores gone", "no folder 'gone'"),
        ("--format gif", "gif"),
        ("--out tokens.parquet/q", "cannot be written"),
    ],
)
def test_wrong_input_is_one_sentence(words: str, sentence: str, here: Path, alit: Alit) -> None:
    result = alit("analyze", "quality", *words.split())
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stdout == ""
