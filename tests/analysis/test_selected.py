"""Criteria over token and score tables give each image the budget a plain oracle gives it, and keep the right ones."""

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alit_cli.analysis.query.criteria import holds, parse
from alit_cli.analysis.query.groups import group_images
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.selection.allocate import allocate_budgets, parse_objective
from alit_cli.analysis.selection.decide import allocate, decide, first_met
from alit_cli.analysis.selection.write import Narrowing, narrow, summaries_by_group, write_selection
from alit_cli.data.tables.parquet import KEY
from alit_cli.data.tables.score_table import read_score_info
from alit_cli.data.tables.token_table import TableOptions, read_info
from alit_cli.errors import InputError
from tests.analysis.score_tables import write_scores, write_world
from tests.analysis.tables import BUDGETS, tokens_of, write_tokens

TEXTS = (
    "l1<0.08",
    "class_rank<=5",
    "psnr>=28",
    "l1<0.08 and class_rank<=2",
    "l1<0.05 or (psnr>28 and class_rank==1)",
    "class_rank!=1",
)


def oracle(table: pd.DataFrame, text: str) -> pd.DataFrame:
    """The definition with pandas; a row per image and budget. A null compares as false in every comparison."""
    met: Any = table.eval(re.sub(r"(\w+)(<=|>=|<|>|==|!=)([\d.]+)", r"((\1==\1) and (\1\2\3))", text))
    first = table[met].groupby("image").budget.min().reindex(table.image.unique())
    later = table[~met].groupby("image").budget.max().reindex(first.index)
    return pd.DataFrame(
        {"n_tokens": first.fillna(BUDGETS[-1]), "satisfied": first.notna(), "lost": (later > first).fillna(False)}
    )


def test_selections_equal_a_pandas_oracle_on_1000_random_tables() -> None:
    generator = np.random.default_rng(0)
    for text in TEXTS:
        tables, found = [], []
        for _ in range(1000 // len(TEXTS) + 1):
            n = int(generator.integers(1, 10))
            columns = {
                "l1": generator.choice([0.01, 0.05, 0.08, 0.2, math.nan], (n, 3)),
                "class_rank": generator.choice([1, 2, 5, 6, math.nan], (n, 3)),
                "psnr": generator.choice([20, 28, 30, math.nan], (n, 3)),
            }
            index, satisfied, lost = first_met(holds(parse(text), columns.__getitem__))
            found.append(pd.DataFrame({"n_tokens": np.asarray(BUDGETS)[index], "satisfied": satisfied, "lost": lost}))
            tables.append(pd.DataFrame({name: values.ravel() for name, values in columns.items()}))
        rows = pd.concat(tables, ignore_index=True)
        rows = rows.assign(image=rows.index // 3, budget=np.tile(BUDGETS, len(rows) // 3))
        expected = oracle(rows, text).reset_index(drop=True)
        pd.testing.assert_frame_equal(pd.concat(found, ignore_index=True), expected, check_dtype=False)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A working folder with tokens and scores, and what is in them."""
    monkeypatch.chdir(tmp_path)
    return write_world(tmp_path)


def _write(tables: Tables, text: str, wanted: Narrowing | None = None, by: str | None = None) -> pd.DataFrame:
    (decision,) = decide(tables, [parse(text)])
    groups = group_images(tables, by) if by else None
    kept = narrow(tables, decision, wanted or Narrowing(), groups)
    write_selection(tables, decision, Path("selection.parquet"), {}, kept, groups)
    found: pd.DataFrame = pq.read_table("selection.parquet").to_pandas()
    return found


def test_a_selection_by_scores_has_their_values_and_the_right_tokens(world: dict[str, Any]) -> None:
    found = _write(Tables(Path("tokens.parquet")), "l1<0.1 and class_rank<=2")
    met = (world["l1"].astype(np.float32) < np.float32(0.1)) & (world["class_rank"][:, :3] <= 2)
    for row in range(59):
        step = int(met[row].argmax()) if met[row].any() else 2
        image = found.iloc[row]
        assert (image.n_tokens, image.satisfied) == (BUDGETS[step], met[row].any())
        assert image.tokens.tolist() == tokens_of(row, BUDGETS[step])
        assert image.l1 == np.float32(world["l1"][row, step])
        assert image.class_rank == world["class_rank"][row, step]
    assert len(found) == 59
    assert found.class_rank.dtype == np.int32
    assert 0 < found.satisfied.sum() < 59


def test_score_tables_in_another_order_or_incomplete_are_joined_by_name(world: dict[str, Any]) -> None:
    straight = _write(Tables(Path("tokens.parquet")), "class_rank<=2")
    path = Path("scores/classify@resnet-18.parquet")
    table = pq.read_table(path)
    pq.write_table(table.take(np.random.default_rng(0).permutation(60)), path)
    tables = Tables(Path("tokens.parquet"))
    pd.testing.assert_frame_equal(_write(tables, "class_rank<=2"), straight)
    assert tables.remarks == []
    pq.write_table(table.slice(10, 45), path)
    tables = Tables(Path("tokens.parquet"))
    partial = _write(tables, "class_rank<=2")
    assert tables.remarks == [
        "15 of 60 images of the token table have no row in 'scores/classify@resnet-18.parquet': "
        "photo/0.jpg, art/1.jpg, art/2.jpg and 12 more."
    ]
    pd.testing.assert_frame_equal(partial[10:55], straight[10:55], check_dtype=False)
    assert not partial.satisfied[:10].any()
    assert partial.class_rank[:10].isna().all()


def test_a_score_table_of_other_images_is_refused_with_examples(world: dict[str, Any]) -> None:
    write_scores(Path("scores/classify@resnet-18.parquet"), ["x.png", "y.png"], {"class_rank": np.ones((2, 3))})
    with pytest.raises(InputError, match=r"None of the rows of .* names images like 'x.png' and 'y.png', the table"):
        _write(Tables(Path("tokens.parquet")), "class_rank<=2")


def test_a_csv_of_ones_own_is_a_table_of_scores(world: dict[str, Any]) -> None:
    names = [name.rpartition("/")[2] for name in pq.read_table("tokens.parquet")["image"].to_pylist()]
    lines = [f"{name},{row},{row / 2},,{'ab'[row % 2]}" for row, name in enumerate(names)]
    Path("mine.csv").write_text("\n".join(["file,quality_4,quality_8,quality_12,kind", *lines[::-1]]))
    tables = Tables(Path("tokens.parquet"), own=[Path("mine.csv")])
    found = _write(tables, "quality<20", Narrowing("kind=='a'"))
    rows = np.arange(0, 59, 2)
    expected = np.where(rows < 20, 4, np.where(rows < 40, 8, 12))
    assert found.n_tokens.tolist() == expected.tolist()
    assert found.image.iloc[0] == "photo/0.jpg"


def test_where_hardest_and_easiest_narrow_by_group(world: dict[str, Any]) -> None:
    tables = Tables(Path("tokens.parquet"))
    everything = _write(tables, "l1<0.08", by="folder")
    some = _write(tables, "l1<0.08", Narrowing("n_tokens>=8 and folder=='art' and l1_4<0.12"), "folder")
    l1 = pd.Series(world["l1"][:59, 0].astype(np.float32))
    expected = everything[(everything.n_tokens >= 8) & (everything.folder == "art") & (l1 < np.float32(0.12))]
    pd.testing.assert_frame_equal(some, expected.reset_index(drop=True), check_dtype=False)
    ranked = everything.sort_values(["satisfied", "n_tokens", "l1"], ascending=[True, False, False], kind="stable")
    hard = _write(tables, "l1<0.08", Narrowing(hardest=3), "folder")
    easy = _write(tables, "l1<0.08", Narrowing(easiest=3), "folder")
    assert set(hard.image) == set(ranked.groupby("folder").head(3).image)
    assert set(easy.image) == set(ranked.groupby("folder").tail(3).image)
    assert len(_write(tables, "l1<0.08", Narrowing(hardest=2, easiest=2))) == 4


def test_groups_come_from_columns_folders_and_files_and_add_up(world: dict[str, Any]) -> None:
    Path("kinds.csv").write_text("image,kind,other\n" + "\n".join(f"{row}.jpg,k{row % 4},o" for row in range(50)))
    tables = Tables(Path("tokens.parquet"))
    (decision,) = decide(tables, [parse("l1<0.08")])
    for by, names in (
        ("folder", ("art", "photo")),
        ("label", ("art", "photo")),
        ("kinds.csv:kind", ("k0", "k1", "k2", "k3")),
    ):
        groups = group_images(tables, by)
        assert groups.names == names
        whole, *parts = summaries_by_group(tables, decision, None, groups)
        assert [part.group for part in parts] == [*names]
        assert sum(part.total for part in parts) == (50 if "csv" in by else 59) <= whole.total
    assert any("10 of 60 images" in remark for remark in tables.remarks)
    with pytest.raises(InputError, match="a value for every budget"):
        group_images(tables, "l1")


def test_labels_that_two_classifiers_share_are_one_column(world: dict[str, Any]) -> None:
    first, second = Path("scores/classify@resnet-18.parquet"), Path("scores/classify@vit.parquet")
    second.write_bytes(first.read_bytes())
    groups = group_images(Tables(Path("tokens.parquet")), "label")
    assert groups.names == ("art", "photo")
    table = pq.read_table(first)
    place = table.column_names.index("label")
    guessed = pa.array(["art"] * table.num_rows, table.schema.field("label").type)
    pq.write_table(table.set_column(place, "label", guessed), second)
    with pytest.raises(InputError, match="label@resnet-18 and label@vit"):
        group_images(Tables(Path("tokens.parquet")), "label")


def test_a_capacity_is_spent_on_the_images_that_were_tokenized(world: dict[str, Any]) -> None:
    tables = Tables(Path("tokens.parquet"))
    decision = allocate(tables, parse_objective("recon"), 0.6)
    (summary,) = summaries_by_group(tables, decision, None, None)
    assert summary.total == 59
    assert 0.6 - 8 / 12 / 59 < summary.capacity <= 0.6
    np.testing.assert_array_equal(
        decision.index[:59], allocate_budgets(world["l1"][:59].astype(np.float32), BUDGETS, 0.6)
    )
    up = allocate(tables, parse_objective("class_rank>"), 1)
    best = np.nanmax(world["class_rank"][:59, :3], axis=1)
    np.testing.assert_array_equal(up.values["class_rank"][:59], best.astype(np.float32))


def test_what_is_missing_or_ambiguous_is_said_with_what_there_is(world: dict[str, Any]) -> None:
    tables = Tables(Path("tokens.parquet"))
    with pytest.raises(InputError) as error:
        tables.find("ssim")
    assert str(error.value) == (
        "There is no measure 'ssim'; there is: recon (l1), class_rank, depth_error, features; "
        "`alit score tokens.parquet --task recon` makes it."
    )
    write_scores(Path("scores/classify@vit.parquet"), ["0.jpg"], {"class_rank": np.ones((1, 3))})
    write_scores(Path("scores/own.parquet"), ["0.jpg"], {"half": np.ones((1, 2))})
    tables = Tables(Path("tokens.parquet"))
    assert tables.models("class_rank") == ["resnet-18", "vit"]
    with pytest.raises(InputError, match="in 2 tables; write class_rank@resnet-18 and class_rank@vit"):
        tables.find("class_rank")
    with pytest.raises(InputError, match=r"There is no 'class_rank@alexnet'; there is: class_rank@resnet-18"):
        tables.find("class_rank@alexnet")
    with pytest.raises(InputError, match="has half_4 but no half_12"):
        tables.find("half")
    assert tables.find("class_rank@vit").source == 1


def test_scores_of_another_models_tokens_are_refused(world: dict[str, Any]) -> None:
    path = Path("scores/classify@resnet-18.parquet")
    found = read_score_info(path)
    assert found is not None
    about = dataclasses.replace(found, model_id="fedcba9876543210")
    pq.write_table(pq.read_table(path).replace_schema_metadata({KEY: about.to_json().encode()}), path)
    with pytest.raises(InputError, match=r"it scores tokens of the model fedcba9876543210, the token table is of 0123"):
        _write(Tables(Path("tokens.parquet")), "class_rank<=2")


def test_scores_of_another_run_of_the_same_model_are_refused_and_only_where_they_are_asked_for(
    world: dict[str, Any],
) -> None:
    names = pq.read_table("tokens.parquet")["image"].to_pylist()
    write_scores(Path("scores/recon.parquet"), names, {"psnr": np.full((60, 3), 20.0)}, run="the crop of another table")
    tables = Tables(Path("tokens.parquet"))
    with pytest.raises(InputError, match=r"'scores/recon.parquet' does not belong to 'tokens.parquet': .* another run"):
        _write(tables, "psnr>=10")
    assert "psnr" not in tables.measures()
    assert len(_write(tables, "class_rank<=2")) == 59  # the others are joined as before
    with pytest.raises(InputError, match="another run"):
        Tables(Path("tokens.parquet"), own=[Path("scores/recon.parquet")])


def test_a_table_that_stopped_answers_only_what_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tokens(tmp_path / "tokens.parquet", np.full((4, 3), 0.09), stop=0.1)
    write_scores(tmp_path / "scores/recon.parquet", [f"{row}.jpg" for row in range(4)], {"psnr": np.ones((4, 3))})
    tables = Tables(tmp_path / "tokens.parquet")
    assert decide(tables, [parse("l1<0.1 or l1<=0.2")])[0].satisfied.all()
    for text in ("l1<0.05", "psnr>=28", "l1>0.2", "l1<0.2 and psnr>=28"):
        with pytest.raises(InputError, match=r"stopped each image at l1<0.1 and cannot answer"):
            decide(tables, [parse(text)])
    with pytest.raises(InputError, match="cannot answer every budget"):
        allocate(tables, parse_objective("recon"), 0.6)


def test_a_table_of_scores_is_never_overwritten(world: dict[str, Any]) -> None:
    tables = Tables(Path("tokens.parquet"))
    (decision,) = decide(tables, [parse("class_rank<=2")])
    with pytest.raises(InputError, match="is a score table"):
        write_selection(tables, decision, Path("scores/classify@resnet-18.parquet"), {})


def test_kept_columns_are_carried_and_can_be_grouped_by(world: dict[str, Any]) -> None:
    table = pq.read_table("tokens.parquet")
    about = read_info("tokens.parquet")
    described = dataclasses.replace(about, options=TableOptions(keep={"caption": "string", "year": "int32"}))
    table = table.append_column("caption", [[f"c{row % 2}" for row in range(60)]])
    table = table.append_column("year", pa.array(range(60), pa.int32()))
    pq.write_table(table.replace_schema_metadata({KEY: described.to_json().encode()}), "tokens.parquet")
    found = _write(Tables(Path("tokens.parquet")), "l1<0.08", Narrowing("year>=10 and caption=='c1'"), "caption")
    assert found.columns.tolist() == [
        "image",
        "n_tokens",
        "satisfied",
        "tokens",
        "l1",
        "caption",
        "year",
        "caption_group",
    ]
    assert found.year.tolist() == list(range(11, 59, 2))
    assert set(found.caption) == set(found.caption_group) == {"c1"}
