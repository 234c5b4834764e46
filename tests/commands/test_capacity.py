"""`alit select` and `alit analyze` on score tables, as one types them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alit_cli.data.pictures.measures import NEWER_MEASURES
from tests.analysis.score_tables import write_scores, write_world
from tests.analysis.tables import write_tokens
from tests.conftest import Alit, Refused

HEADS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.fixture
def here(here: Path) -> Path:
    """A working folder with a token table and scores."""
    write_world(here)
    return here


def test_select_by_rank_by_group_without_tokens(here: Path, alit: Alit) -> None:
    result = alit("select", "--tsc", "classify", "--top", "1", "--by", "folder", "--no-tokens")
    assert result.exit_code == 0, result.stderr
    assert [line.split()[1] for line in result.stdout.splitlines()[2:5]] == ["all", "art", "photo"]
    found = pd.read_parquet("selection.parquet")
    assert found.columns.tolist() == ["image", "n_tokens", "satisfied", "class_rank", "folder"]
    assert (found.class_rank[found.satisfied] == 1).all()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--thr 0.0001", "No image meets l1<0.0001 at any budget; the smallest l1 at the largest budget is 0.0"),
        ("--thr 8", "Every image meets l1<8 at the smallest budget already."),
        ("--thr 0.0001 --hardest 2", "No image that is kept meets l1<0.0001 at any budget; the smallest l1"),
        ("--tsc l1>0.05", "l1>0.05 asks for the worse side: less of l1 is better. Did you mean l1<?"),
        ("--thr 0.08 --where n_tokens>100", "No image is left by --where: of 59 images none has what it asks for."),
    ],
)
def test_a_criterion_that_tells_no_images_apart_is_remarked(words: str, sentence: str, here: Path, alit: Alit) -> None:
    result = alit("select", *words.split())
    assert result.exit_code == 0
    assert sentence in result.stderr


def test_words_are_asked_for_by_name_and_lists_not_at_all(here: Path, alit: Alit) -> None:
    names = [f"{'art' if row % 3 else 'photo'}/{row}.jpg" for row in range(60)]
    rank = {"class_rank": np.ones((60, 4))}
    guesses = {f"class_guess_{end}": ["cat"] * 60 for end in (4, 8, 12, "original")}
    write_scores(here / "scores/classify@resnet-18.parquet", names, rank, guesses)
    criteria = json.loads(alit("info", "tokens.parquet", "--json").stdout)["criteria"]
    assert "class_guess=='WORD'" in criteria
    assert not [criterion for criterion in criteria if criterion.startswith("features")]
    result = alit("select", "--tsc", "class_guess=='dog'")
    assert result.exit_code == 0
    assert "No image meets class_guess=='dog' at any budget. All of them get the largest one." in result.stderr


def test_only_a_network_can_guess_by_luck(here: Path, alit: Alit) -> None:
    names = [f"{'art' if row % 3 else 'photo'}/{row}.jpg" for row in range(60)]
    psnr = np.random.default_rng(0).uniform(20, 30, (60, 3))
    write_scores(here / "scores/recon.parquet", names, {"psnr": psnr})
    result = alit("analyze", "capacity", "--tsc", "recon,psnr", "--toi", "psnr", "--bootstrap", "0", "--points", "3")
    assert result.exit_code == 0
    assert "both chooses" not in result.stderr
    assert "Difference from one budget for all at equal tokens" in result.stdout


def test_a_capacity_is_a_share_of_the_largest_budget_or_of_the_tokens_that_are_told(here: Path, alit: Alit) -> None:
    """The paper takes the tokens of the base tokenizer's grid for 100 %."""
    line = ["analyze", "capacity", "--bootstrap", "0", "--points", "3"]
    for words, tokens, largest in (([], 12, 1.0), (["--share-of", "16"], 16, 0.75)):
        printed = alit(*line, *words)
        assert printed.exit_code == 0, printed.stderr
        assert f"(capacity: share of {tokens} per image)" in printed.stdout
        said = f"100 % of the capacity is {tokens} tokens per image, the largest budget of this table; --share-of N"
        assert (said in printed.stderr) == (not words)
        found = json.loads(alit(*line, *words, "--json").stdout)
        assert found["capacity_of_one"] == tokens
        uniform = [point["capacity"] for point in found["points"] if point["line"] == "uniform"]
        assert uniform == pytest.approx([4 / tokens, 8 / tokens, largest])
        assert pd.read_csv("study/capacity.csv").capacity.max() == pytest.approx(largest)


def test_select_compares_ranks_and_spends_a_capacity(here: Path, alit: Alit) -> None:
    result = alit("select", "--tsc", "classify", "--top", "1,2,5", "--json")
    spent = [row["capacity"] for row in json.loads(result.stdout)["selections"]]
    assert spent == sorted(spent, reverse=True)
    assert not (here / "selection.parquet").exists()
    result = alit("select", "--tsc", "class_rank", "--capacity", "0.5", "--json", "--where", "n_tokens>4")
    assert result.exit_code == 0
    found = json.loads(result.stdout)["selections"][0]
    assert found["criterion"] == "least class_rank at capacity 0.5"
    assert found["images"]["4"] == 0


def test_capacity_prints_tables_and_writes_figures(here: Path, alit: Alit) -> None:
    words = ["--tsc", "recon,classify", "--toi", "classify,features", "--by", "label", "--out", "study"]
    result = alit("analyze", "capacity", *words, "--bootstrap", "50", "--points", "5")
    assert result.exit_code == 0, result.stderr
    assert "4 dimensions, 59 images; unbiased covariances" in result.stderr
    assert "Fewest tokens within 1 % of the best" in result.stdout
    for name in ("capacity.png", "capacity_groups.png"):
        assert (here / "study" / name).read_bytes()[:4] == HEADS["png"]
    assert set(pd.read_csv("study/capacity.csv").group) == {"all images", "art", "photo"}


def test_a_network_that_judges_its_own_choice_is_named(here: Path, alit: Alit) -> None:
    names = [f"{'art' if row % 3 else 'photo'}/{row}.jpg" for row in range(60)]
    ranks = np.random.default_rng(0).integers(1, 4, (60, 4)).astype(float)
    write_scores(here / "scores/classify@second.parquet", names, {"class_rank": ranks})
    line = ["analyze", "capacity", "--bootstrap", "0", "--points", "3", "--tsc", "classify@resnet-18", "--toi"]
    sentence = "resnet-18 both chooses the budgets and judges them"
    assert sentence in alit(*line, "classify@resnet-18,recon").stderr
    assert sentence not in alit(*line, "classify@second,recon").stderr


def test_accuracy_against_predicted_labels_is_said_to_be_that(here: Path, alit: Alit) -> None:
    names = [f"{row}.jpg" for row in range(60)]
    extras = {"label_source": ["predicted"] * 60}
    write_scores(here / "scores/classify@own.parquet", names, {"class_rank": np.ones((60, 4))}, extras)
    result = alit("analyze", "capacity", "--toi", "classify@own", "--bootstrap", "0", "--json", "--format", "svg")
    assert result.exit_code == 0, result.stderr
    assert "labels are the model's own predictions" in result.stderr
    assert json.loads(result.stdout)["points"][0]["value"] == 1
    assert (here / "study/capacity.svg").read_bytes()[:5] == HEADS["svg"]


def test_familiarity_and_strength_print_tables_and_write_figures(here: Path, alit: Alit) -> None:
    generator = np.random.default_rng(0)
    for name, scale in (("photos", 1.0), ("sketches", 1.5)):
        l1 = scale * generator.uniform(0.05, 0.1, (40, 1)) * np.array([1, 0.8, 0.7])
        described = dict.fromkeys(("png_bytes", "edge_density", "entropy", "mad", *NEWER_MEASURES), np.ones(40))
        described |= {f"thumbnail_{budget}": np.ones(40) for budget in (4, 8, 12)}
        described["jpeg_bytes"] = generator.uniform(10000, 50000, 40).round()
        write_tokens(here / f"{name}.parquet", l1, measures=described)
    result = alit(
        "analyze", "familiarity", "photos.parquet", "sketches.parquet", "--bootstrap", "50", "--format", "pdf"
    )
    assert result.exit_code == 0, result.stderr
    assert "Against photos: Cliff's δ" in result.stdout
    assert "e+" not in result.stdout  # thousands of bytes need no exponent
    assert "20 bins of JPEG bytes" in result.stderr
    assert "No Fréchet distance" in result.stderr
    assert (here / "study/familiarity.pdf").read_bytes()[:4] == HEADS["pdf"]
    result = alit("analyze", "strength", "--bootstrap", "50")
    assert result.exit_code == 0, result.stderr
    assert "resnet-18" in result.stdout
    assert (here / "study/strength.png").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("select --tsc psnr --thr 20", "`alit score tokens.parquet --task recon` makes it"),
        ("select --tsc l1<0.1,", "cannot be read at ','"),
        ("select --tsc l1<0.1 --thr 0.2", "already contains its threshold. Remove --thr."),
        ("select --tsc classify", "--tsc classify needs a number: --top 5"),
        ("select --capacity 0.1", "the smallest budget is 0.333333 of the largest"),
        ("select --capacity 0.5 --thr 0.1", "--capacity takes the place of a threshold"),
        ("select --thr 0.1 --where l1<", "compares"),
        ("select --thr 0.1 --where l2<3", "There is no criterion 'l2'"),
        ("select --thr 0.1 --where depth_error<3", "a value for every budget; write depth_error_12"),
        ("select --thr 0.1 --by nowhere.csv", "There is no file nowhere.csv"),
        ("select --thr 0.1 --by mood", "There is nothing called 'mood' to group by: give folder, a file of labels"),
        ("select --thr 0.1 --scores nowhere", "There is no folder 'nowhere'"),
        ("select --thr 0.1 --table nowhere.parquet", "There is no table 'nowhere.parquet'"),
        ("analyze capacity --toi lpips", "--task recon"),
        ("analyze capacity --tsc recon,depth --thr 0.1", "--thr goes with one --tsc"),
        ("analyze capacity none.parquet", "alit tokenize"),
        ("analyze capacity --format gif", "--format"),
        ("analyze familiarity", "TOKENS"),
        ("analyze familiarity tokens.parquet", "nothing to compare it with"),
        ("analyze familiarity tokens.parquet tokens.parquet --names a", "give 2 different names"),
        ("analyze familiarity tokens.parquet tokens.parquet --between 4,5", "two budgets of the tables"),
        ("analyze familiarity tokens.parquet --scores a --scores b", "1 tables and 2 --scores"),
        ("analyze familiarity tokens.parquet other.parquet", "different models or budgets"),
        ("analyze strength --model vit", "there is: class_rank@resnet-18"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(words: str, sentence: str, here: Path, refused: Refused) -> None:
    write_tokens(here / "other.parquet", np.full((2, 2), 0.1))
    refused(sentence, *words.split(), "-q")
    assert not (here / "selection.parquet").exists()
