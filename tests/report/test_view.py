"""The report page: what it counts, what it shows, and that no name in it can do harm."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.selection.decide import select
from alit_cli.data.pictures.fitting import fit
from alit_cli.data.tables.token_table import read_info
from alit_cli.errors import InputError
from alit_cli.model.tokenizer import load
from alit_cli.report.columns import read_numbers
from alit_cli.report.facts import gather_facts
from alit_cli.report.page import embedded_json
from alit_cli.report.panels import find_panels
from alit_cli.report.sample import choose, take_sample
from alit_cli.report.sprites import make_sprite
from alit_cli.report.view import ViewJob
from tests.analysis.score_tables import write_world
from tests.analysis.tables import write_tokens
from tests.conftest import Alit
from tests.report.conftest import HARMFUL, Made, make, score, tokenized


class Tags(HTMLParser):
    """Every tag that a browser would see, with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def losses_table(folder: Path, rows: int = 3000) -> Path:
    """A table of random losses that fall with the budget, some of them exactly on thresholds, some rows failed."""
    generator = np.random.default_rng(1)
    losses = np.sort(generator.uniform(0.02, 0.2, (rows, 3)), axis=1)[:, ::-1].astype(np.float32)
    losses[:200] = losses[:200].round(2)
    failed = range(0, rows, 100)
    return write_tokens(folder / "tokens.parquet", losses, failed=failed, group=1000)


def test_counts_and_means_are_those_of_all_rows(tmp_path: Path) -> None:
    path = losses_table(tmp_path)
    facts = gather_facts(path, read_info(path))
    table = pq.read_table(path).to_pandas()
    assert (facts.rows, facts.statuses, int(facts.ok.sum())) == (3000, {"ok": 2970, "truncated": 30}, 2970)
    assert len(facts.failures) == 30
    for step, budget in enumerate((4, 8, 12)):
        assert facts.mean[step] == pytest.approx(table[f"l1_{budget}"].dropna().mean(), rel=1e-5)


def test_every_kind_of_column_is_read(tmp_path: Path) -> None:
    world = write_world(tmp_path, 60)
    own = tmp_path / "mine.csv"
    rows = [f"photo/{row}.jpg,{row},{'red' if row % 2 else 'blue'}" for row in range(0, 60, 3)]
    own.write_text("\n".join(["image,stars,colour", *rows]))
    tables = Tables(tmp_path / "tokens.parquet", None, [own])
    numbers = read_numbers(tables, gather_facts(tables.path, tables.info).ok)
    assert (len(numbers.images), numbers.of) == (59, 59)  # the last image failed
    kinds = {column.key: column.kind for column in numbers.columns}
    # Sizes are unknown in this table, and a column without a number is none.
    assert kinds == {
        "l1": "measure",
        "class_rank": "measure",
        "depth_error": "measure",
        "label": "group",
        "stars": "number",
        "colour": "group",
        "folder": "group",
    }
    by_key = {column.key: column for column in numbers.columns}
    np.testing.assert_array_equal(by_key["l1"].values, world["l1"][:59].astype(np.float32))
    np.testing.assert_array_equal(by_key["class_rank"].values, world["class_rank"][:59, :3])
    originals = by_key["class_rank"].originals
    assert originals is not None
    np.testing.assert_array_equal(originals, world["class_rank"][:59, 3])
    folder = by_key["folder"]
    assert [folder.words[code] for code in folder.values] == [name.split("/")[0] for name in numbers.images]
    assert by_key["stars"].values[3] == 3
    assert np.isnan(by_key["stars"].values[1])
    assert by_key["colour"].values[1] == -1


def test_a_long_table_is_drawn_from_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alit_cli.report.columns.MOST_ROWS", 500)
    path = losses_table(tmp_path)
    tables = Tables(path)
    numbers = read_numbers(tables, gather_facts(path, tables.info).ok)
    assert (len(numbers.rows), numbers.of) == (500, 2970)
    assert (np.diff(numbers.rows) > 0).all()
    assert not (numbers.rows % 100 == 0).any()  # those have failed
    assert numbers.images == tuple(f"{row}.jpg" for row in numbers.rows)
    assert 1300 < numbers.rows.mean() < 1700
    page = make(ViewJob((path,), tmp_path / "long.html", pictures=False, most=40))
    assert (len(page.table["images"]), page.table["of"], len(page.table["pictures"])) == (500, 2970, 40)


def test_a_sample_holds_every_need_alike(tmp_path: Path) -> None:
    strata = np.array([0] * 900 + [1] * 5 + [2] * 95 + [-1] * 50, np.int8)
    chosen = choose(strata, 60, 0)
    assert np.bincount(strata[chosen]).tolist() == [28, 5, 27] or np.bincount(strata[chosen]).tolist() == [27, 5, 28]
    assert (np.diff(chosen) > 0).all()
    assert len(choose(strata, 5000, 0)) == 1000
    assert len(choose(strata[:0], 10, 0)) == 0
    tables = Tables(losses_table(tmp_path))
    numbers = read_numbers(tables, gather_facts(tables.path, tables.info).ok)
    sample = take_sample(tables.path, tables.info, numbers, 40, 0.1)
    assert sample.rows.tolist() == numbers.rows[sample.places].tolist()
    assert len(sample.rows) == len(sample.tokens) == 40
    losses = pq.read_table(tables.path, columns=["l1_4", "l1_8", "l1_12"]).to_pandas().to_numpy()[sample.rows]
    selection = select(losses, (4, 8, 12), 0.1)
    needs = np.where(selection.satisfied, selection.index, 3)
    assert np.bincount(needs, minlength=4).tolist() == [10, 10, 10, 10]


def test_the_page_holds_the_table_and_true_pictures(made: Made) -> None:
    data, table, tokenizer = made.table, pq.read_table(made.job.tables[0]), load(made.job.checkpoints[0], "cpu")
    assert data["budgets"] == [2, 4, 6]
    assert data["bits"] == [10, 20, 30]
    assert data["facts"]["statuses"] == {"ok": 9, "unreadable": 1}
    assert data["facts"]["failures"][0][0] == "broken.jpg"
    assert (made.viewed.shown, made.viewed.of, made.viewed.originals) == (9, 9, 9)
    assert made.viewed.size == made.job.out.stat().st_size
    rows = {row["image"]: row for row in table.to_pylist()}
    columns = {column["key"]: column for column in data["columns"]}
    l1 = np.frombuffer(base64.b64decode(columns["l1"]["values"]), "<f4").reshape(9, 3)
    assert len(data["pictures"]) == 9
    for picture in data["pictures"]:
        place = picture["place"]
        row = rows[data["images"][place]]
        assert l1[place].tolist() == [np.float32(row[f"l1_{budget}"]) for budget in (2, 4, 6)]
        ids = np.frombuffer(base64.b64decode(picture["ids"]), "<u2").astype(np.int64)
        assert ids.tolist() == [*row["tokens_2"], *row["tokens_4"], *row["tokens_6"]]
        strip = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture["sprite"]))).convert("L"), np.float32)
        decoded = tokenizer.decode([ids[:2], ids[2:6], ids[6:]]).mul(255).byte().permute(0, 2, 3, 1).numpy()
        with Image.open(made.job.tables[0].parent / "photos" / row["image"]) as photo:
            original = fit(photo.convert("RGB"), 32)
        for shown, pixels in zip(np.split(strip, 4, axis=1), [original, *decoded], strict=True):
            assert np.abs(shown - np.asarray(Image.fromarray(pixels).convert("L"))).mean() < 8  # compressed


def test_scores_of_another_table_are_left_out_and_named(tmp_path: Path) -> None:
    table = tokenized(tmp_path, 6)
    score(table)
    for name, about in {"recon": {"model_id": "f" * 16}, "depth@small": {"options": {"tokens": "other"}}}.items():
        path = tmp_path / "scores" / f"{name}.parquet"
        scores = pq.read_table(path)
        stated = json.loads(scores.schema.metadata[b"alit"]) | about
        pq.write_table(scores.replace_schema_metadata({b"alit": json.dumps(stated).encode()}), path)
    page = make(ViewJob((table,), tmp_path / "page.html", pictures=False))
    assert {"psnr", "depth_error"}.isdisjoint(column["key"] for column in page.table["columns"])
    depth, recon = page.table["leftOut"]
    assert ("depth@small" in depth, "another run" in depth) == (True, True)
    assert ("recon" in recon, "tokens of the model" in recon) == (True, True)
    assert set(page.viewed.remarks) == set(page.table["leftOut"])


def test_several_tables_are_on_one_page(made: Made, tmp_path: Path) -> None:
    one = made.job.tables[0]
    other = write_tokens(tmp_path / "other.parquet", np.full((5, 3), 0.1))
    page = make(ViewJob((one, other), tmp_path / "two.html", pictures=False, most=8))
    assert [table["path"] for table in page.data["tables"]] == [str(one), str(other)]
    assert [len(table["pictures"]) for table in page.data["tables"]] == [4, 4]


def test_views_say_which_photograph_they_show(tmp_path: Path) -> None:
    names = ["b.jpg", "b.jpg#flip", "gone.jpg", "gone.jpg#flip", "a.jpg", "a.jpg#flip"]
    views = write_tokens(tmp_path / "v.parquet", np.full((6, 3), 0.1), names, failed=[2, 3], views="flip")
    plain = write_tokens(tmp_path / "p.parquet", np.full((6, 3), 0.1), names)
    page = make(ViewJob((views, plain), tmp_path / "page.html", pictures=False))
    of_views, of_plain = (table["photographs"] for table in page.data["tables"])
    assert of_views[0] == of_views[1] != of_views[2] == of_views[3]
    assert of_plain is None


def test_the_page_asks_for_nothing_and_runs_only_its_own_script(made: Made) -> None:
    tags = Tags(made.html).found
    scripts = [attrs for tag, attrs in tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}]
    assert not [tag for tag, attrs in tags if {"src", "style", "onerror", "onclick"} & set(attrs) or tag == "link"]
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", made.html)
    policy = next(attrs["content"] for tag, attrs in tags if attrs.get("http-equiv"))
    assert policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert {attrs["for"] for tag, attrs in tags if tag == "label"} <= {attrs.get("id") for _, attrs in tags}


def test_names_come_through_unchanged_and_harmless(made: Made) -> None:
    names = set(made.table["images"])
    assert {name if name.endswith(".png") else f"{name}.png" for name in HARMFUL} <= names
    assert "window.hurt" in made.html
    assert not re.search(r"<[^>]*window\.hurt", made.html)
    assert embedded_json({"a": "</script>\u2028&\udce9"}) == '{"a":"\\u003c/script\\u003e\\u2028\\u0026\\udce9"}'


def test_analyses_beside_the_table_are_shown(made: Made, tmp_path: Path) -> None:
    (panel,) = made.data["panels"]
    assert panel["topic"] == "complexity"
    assert panel["figures"][0]["name"] == "complexity.png"
    assert panel["figures"][0]["uri"].startswith("data:image/png;base64,")
    assert panel["tables"][0]["cells"] == [["<b>Art</b>", "l1_2", "0.1235"]]
    (tmp_path / "complexity.csv").write_text("image,score\na.png,3\n")  # somebody's scores, and no analysis
    assert find_panels(tmp_path) == ([], [])
    (tmp_path / "capacity.csv").write_text("")
    (tmp_path / "capacity.png").write_bytes(b"broken")
    noise = np.random.default_rng(0).integers(0, 255, (900, 2000, 3), dtype=np.uint8)
    (tmp_path / "attention" / "sheets").mkdir(parents=True)  # as a folder of its own, too
    Image.fromarray(noise).save(tmp_path / "attention" / "attention.png")
    for sheet in range(9):
        Image.new("RGB", (20, 20)).save(tmp_path / "attention" / "sheets" / f"{sheet}.png")
    (shown,), strangers = find_panels(tmp_path)
    assert strangers == []
    assert shown.topic == "attention"
    assert [figure.name for figure in shown.figures] == ["attention.png", *(f"{sheet}.png" for sheet in range(5))]
    assert shown.left_out == 4
    assert len(shown.figures[0].uri) < 1_500_000
    with pytest.raises(InputError, match="no folder"):
        find_panels(tmp_path / "gone")


def test_analyses_of_another_table_are_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alit: Alit
) -> None:
    monkeypatch.chdir(tmp_path)
    mine, other = (tokenized(tmp_path / name, 12) for name in ("mine", "other"))
    for table, out in ((mine, "mine/study"), (other, "mine/quality")):
        result = alit("analyze", "quality", table, "--out", out, "-q")
        assert result.exit_code == 0, result.output
    page = make(ViewJob((mine,), tmp_path / "page.html", pictures=False))
    (panel,) = page.data["panels"]
    assert {table["name"] for table in panel["tables"]} == {"quality.csv", "quality_below.csv"}
    assert len(panel["figures"]) == 1
    assert page.data["strangers"] == ["quality/quality.csv", "quality/quality_below.csv"]


def test_analyses_in_folders_of_any_name_are_found_if_they_are_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alit: Alit
) -> None:
    monkeypatch.chdir(tmp_path)
    mine, other = (tokenized(tmp_path / name, 12) for name in ("mine", "other"))
    model = next(mine.parent.glob("*.safetensors"))
    seen = ("analyze", "attention", "mine/photos", "-c", model, "--sheets", "2", "--out", "mine/all", "-q")
    assert alit(*seen).exit_code == 0
    for table, out in ((mine, "mine/runs/first"), (other, "mine/runs/second")):
        result = alit("analyze", "quality", table, "--out", out, "-q")
        assert result.exit_code == 0, result.output
    panels, strangers = find_panels(mine.parent, [mine])
    assert strangers == []  # only what lies where an analysis is expected is missed
    found = {panel.topic: [figure.name for figure in panel.figures] for panel in panels}
    assert list(found) == ["quality", "attention"]
    assert found["quality"] == ["quality.png"]
    pictures = ["attention.png", "overview.png", "first_tokens.png", "img_0.png", "img_1.png"]
    assert found["attention"] == pictures
    drawn = {figure.photographs for panel in panels for figure in panel.figures if figure.name in pictures[1:]}
    assert drawn == {True}
    # Named with --beside, the folder shows its sheets as one of the usual name does.
    assert [len(panel.figures) for panel in find_panels(tmp_path / "mine" / "all", [mine])[0]] == [5]
    assert find_panels(tmp_path / "mine" / "all", [other])[0] == []


def test_analyses_of_other_images_are_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alit: Alit
) -> None:
    monkeypatch.chdir(tmp_path)
    mine, _ = (tokenized(tmp_path / name, 24) for name in ("mine", "other"))
    model = next(mine.parent.glob("*.safetensors"))
    # Fewer images than the table has are still its images.
    words = ("mine/photos", "-c", model, "--limit", "3", "--sheets", "0", "--out", "mine/study/attention", "-q")
    assert alit("analyze", "attention", *words).exit_code == 0
    others = ("other/photos", "-c", model, "--labels", "folders", "--folds", "2", "--out", "mine/probe", "-q")
    assert alit("analyze", "probe", *others).exit_code == 0
    page = make(ViewJob((mine,), tmp_path / "page.html", pictures=False))
    assert [panel["topic"] for panel in page.data["panels"]] == ["attention"]
    assert page.data["strangers"] == ["probe/probe.csv"]
    # Another model sees other things in the same images.
    panels, strangers = find_panels(mine.parent / "study", [losses_table(tmp_path)])
    assert (panels, strangers) == ([], ["attention/attention.csv"])
    # A folder that was moved is still that of the table.
    (tmp_path / "mine" / "photos").rename(tmp_path / "moved")
    panels, strangers = find_panels(mine.parent / "study", [mine])
    assert ([panel.topic for panel in panels], strangers) == (["attention"], [])


def test_without_originals_the_page_says_so(made: Made, tmp_path: Path) -> None:
    photos = made.job.tables[0].parent / "photos"
    moved = photos.rename(tmp_path / "elsewhere")
    try:
        alone = make(dataclasses.replace(made.job, out=tmp_path / "alone.html", most=4))
        assert alone.viewed.originals == 0
        assert {picture["frames"] for picture in alone.table["pictures"]} == {3}
        again = make(dataclasses.replace(made.job, out=tmp_path / "again.html", images=(str(moved),)))
        assert again.viewed.originals == 9
    finally:
        moved.rename(photos)


def test_a_table_without_losses_or_images_still_makes_a_page(tmp_path: Path) -> None:
    empty = write_tokens(tmp_path / "tokens.parquet", np.full((3, 3), np.nan), failed=[0, 1, 2])
    none = make(ViewJob((empty,), tmp_path / "none.html", threshold=0.1, pictures=False))
    assert none.table["images"] == []
    assert none.table["start"] is None
    assert none.viewed.of == 0


def test_sprites_keep_to_their_bytes() -> None:
    noise = [np.random.default_rng(i).integers(0, 255, (128, 128, 3), dtype=np.uint8) for i in range(5)]
    for most in (1_000_000, 30_000, 6_000):
        sprite = make_sprite(noise[0], noise[1:], most)
        picture = Image.open(io.BytesIO(sprite.data))
        assert len(sprite.data) <= most
        assert picture.width == 5 * picture.height
    assert picture.height < 128


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("gone.parquet", "alit tokenize"),
        ("selection.parquet", "is a selection"),
        ("tokens.parquet", "--checkpoint"),
        ("tokens.parquet --no-pictures --beside gone", "no folder 'gone'"),
        ("tokens.parquet --no-pictures --out tokens.parquet", "has the wrong ending"),
        ("tokens.parquet --no-pictures --out tokens.parquet/x.html", "cannot be written"),
        ("tokens.parquet --no-pictures --out .", "has the wrong ending"),
        ("tokens.parquet --thr 2", "--thr"),
    ],
)
def test_wrong_input_is_one_sentence(
    words: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alit: Alit
) -> None:
    monkeypatch.chdir(tmp_path)
    losses_table(tmp_path, 20)
    alit("select", "tokens.parquet", "--thr", "0.1", "-q")
    result = alit("view", *words.split())
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.html"))


def test_the_command_says_what_it_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alit: Alit) -> None:
    monkeypatch.chdir(tmp_path)
    losses_table(tmp_path)
    result = alit("view", "--no-pictures", "--sample", 50, "--thr", 0.1)
    assert result.exit_code == 0
    assert result.stdout == "report.html\n"
    assert "50 of 2970 images are shown" in result.stderr
    assert (tmp_path / "report.html").exists()
