"""The report page: what it counts, what it shows, and that no name in it can do harm."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alit_cli.analysis.selection.decide import select
from alit_cli.data.pictures.fitting import fit
from alit_cli.data.tables.token_table import read_info
from alit_cli.errors import InputError
from alit_cli.model.tokenizer import load
from alit_cli.report.analysis_panels import find_panels
from alit_cli.report.facts import gather_facts
from alit_cli.report.page import embedded_json
from alit_cli.report.sample import choose, take_sample
from alit_cli.report.strips import make_strip
from alit_cli.report.view import ViewJob
from tests.analysis.tables import write_tokens
from tests.conftest import Alit
from tests.report.conftest import HARMFUL, Made, make


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


def test_every_threshold_counts_as_a_selection_does(tmp_path: Path) -> None:
    path = losses_table(tmp_path)
    facts = gather_facts(path, read_info(path))
    assert (facts.rows, facts.ok) == (3000, 2970)
    losses = pq.read_table(path).to_pandas().filter(regex="^l1_").dropna().to_numpy()
    for edge in [*facts.thresholds[:: len(facts.thresholds) // 12], 0.05, 0.1]:
        chosen = select(losses, (4, 8, 12), float(str(edge)))
        upto = facts.need[:, int(np.abs(facts.thresholds - edge).argmin())]
        satisfied = np.bincount(chosen.index[chosen.satisfied], minlength=3)
        assert np.diff(upto, prepend=0).tolist() == satisfied.tolist()
    assert facts.need[-1, 0] == 0 < facts.need[-1, 1]
    assert facts.need[0, -1] >= 0.999 * facts.ok > facts.need[0, -2]
    assert 0 < facts.start() < len(facts.thresholds) - 1


def test_curves_are_those_of_the_columns(tmp_path: Path) -> None:
    path = losses_table(tmp_path)
    facts = gather_facts(path, read_info(path))
    table = pq.read_table(path).to_pandas()
    for step, budget in enumerate((4, 8, 12)):
        column = table[f"l1_{budget}"].dropna()
        assert facts.mean[step] == pytest.approx(column.mean(), rel=1e-5)
        assert facts.quantiles[step] == pytest.approx(column.quantile([0.1, 0.25, 0.5, 0.75, 0.9]), abs=0.0006)


def test_a_sample_holds_every_need_alike(tmp_path: Path) -> None:
    strata = np.array([0] * 900 + [1] * 5 + [2] * 95 + [-1] * 50, np.int8)
    chosen = choose(strata, 60, 0)
    assert np.bincount(strata[chosen]).tolist() == [28, 5, 27] or np.bincount(strata[chosen]).tolist() == [27, 5, 28]
    assert (np.diff(chosen) > 0).all()
    assert len(choose(strata, 5000, 0)) == 1000
    assert len(choose(strata[:0], 10, 0)) == 0
    path = losses_table(tmp_path)
    sample = take_sample(path, read_info(path), 40, 0.1)
    assert (len(sample.rows), sample.of) == (40, 2970)
    assert sample.table["image"].to_pylist() == [f"{row}.jpg" for row in sample.rows]


def test_the_page_holds_the_table_and_true_pictures(made: Made) -> None:
    data, table, tokenizer = made.data, pq.read_table(made.job.table), load(made.job.checkpoint, "cpu")
    assert data["budgets"] == [2, 4, 6]
    assert data["bits"] == [10, 20, 30]
    assert data["facts"]["statuses"] == {"ok": 9, "unreadable": 1}
    assert data["facts"]["failures"][0][0] == "broken.jpg"
    assert (made.viewed.shown, made.viewed.of, made.viewed.originals) == (9, 9, 9)
    assert made.viewed.size == made.job.out.stat().st_size
    rows = {row["image"]: row for row in table.to_pylist()}
    assert len(data["images"]) == 9
    for image in data["images"]:
        row = rows[image["image"]]
        assert [np.float32(loss) for loss in image["l1"]] == [np.float32(row[f"l1_{budget}"]) for budget in (2, 4, 6)]
        ids = np.frombuffer(base64.b64decode(image["ids"]), "<u2").astype(np.int64)
        assert ids.tolist() == [*row["tokens_2"], *row["tokens_4"], *row["tokens_6"]]
        strip = np.asarray(Image.open(io.BytesIO(base64.b64decode(image["strip"]))).convert("L"), np.float32)
        decoded = tokenizer.decode([ids[:2], ids[2:6], ids[6:]]).mul(255).byte().permute(0, 2, 3, 1).numpy()
        with Image.open(made.job.table.parent / "photos" / image["image"]) as photo:
            original = fit(photo.convert("RGB"), 32)
        for shown, picture in zip(np.split(strip, 4, axis=1), [original, *decoded], strict=True):
            assert np.abs(shown - np.asarray(Image.fromarray(picture).convert("L"))).mean() < 8  # compressed


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
    names = {image["image"] for image in made.data["images"]}
    assert {name if name.endswith(".png") else f"{name}.png" for name in HARMFUL} <= names
    assert "window.hurt" in made.html
    assert not re.search(r"<[^>]*window\.hurt", made.html)
    assert embedded_json({"a": "</script>\u2028&\udce9"}) == '{"a":"\\u003c/script\\u003e\\u2028\\u0026\\udce9"}'


def test_analyses_beside_the_table_are_shown(made: Made, tmp_path: Path) -> None:
    (panel,) = made.data["panels"]
    assert panel["topic"] == "complexity"
    assert panel["figures"][0][0] == "complexity.png"
    assert panel["figures"][0][1].startswith("data:image/png;base64,")
    assert panel["tables"][0]["cells"] == [["<b>Art</b>", "l1_2", "0.1235"]]
    (tmp_path / "capacity.csv").write_text("")
    (tmp_path / "capacity.png").write_bytes(b"broken")
    noise = np.random.default_rng(0).integers(0, 255, (900, 2000, 3), dtype=np.uint8)
    (tmp_path / "attention" / "sheets").mkdir(parents=True)  # as a folder of its own, too
    Image.fromarray(noise).save(tmp_path / "attention" / "attention.png")
    for sheet in range(9):
        Image.new("RGB", (20, 20)).save(tmp_path / "attention" / "sheets" / f"{sheet}.png")
    (shown,) = find_panels(tmp_path)
    assert shown.topic == "attention"
    assert [name for name, _ in shown.figures] == ["attention.png", *(f"{sheet}.png" for sheet in range(5))]
    assert shown.left_out == 4
    assert len(shown.figures[0][1]) < 1_500_000
    with pytest.raises(InputError, match="no folder"):
        find_panels(tmp_path / "gone")


def test_without_originals_the_page_says_so(made: Made, tmp_path: Path) -> None:
    photos = made.job.table.parent / "photos"
    moved = photos.rename(tmp_path / "elsewhere")
    try:
        alone = make(dataclasses.replace(made.job, out=tmp_path / "alone.html", most=4))
        assert alone.viewed.originals == 0
        assert {image["frames"] for image in alone.data["images"]} == {3}
        again = make(dataclasses.replace(made.job, out=tmp_path / "again.html", images=(str(moved),)))
        assert again.viewed.originals == 9
    finally:
        moved.rename(photos)


def test_a_table_without_losses_or_images_still_makes_a_page(tmp_path: Path) -> None:
    empty = write_tokens(tmp_path / "tokens.parquet", np.full((3, 3), np.nan), failed=[0, 1, 2])
    none = make(ViewJob(empty, tmp_path / "none.html", threshold=0.1, pictures=False))
    assert none.data["images"] == []
    assert none.data["facts"]["thresholds"] == []
    assert none.viewed.of == 0


def test_strips_keep_to_their_bytes() -> None:
    noise = [np.random.default_rng(i).integers(0, 255, (128, 128, 3), dtype=np.uint8) for i in range(5)]
    for most in (1_000_000, 30_000, 6_000):
        strip = make_strip(noise[0], noise[1:], most)
        picture = Image.open(io.BytesIO(strip.data))
        assert len(strip.data) <= most
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
