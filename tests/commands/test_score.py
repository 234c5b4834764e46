"""`alit score` as one types it, through real networks in folders."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.conftest import Alit
from tests.model import tiny
from tests.tasks import networks
from tests.training.photos import write_photos

TINY = ("-c", "tiny.safetensors", "--device", "cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tokenized photographs in two folders, labels, depth maps, questions and networks."""
    root = tmp_path_factory.mktemp("work")
    for name, seed in (("cat", 0), ("dog", 1)):
        write_photos(root / "images" / name, 3, seed=seed)
    tiny.checkpoint(root).rename(root / "tiny.safetensors")
    networks.classifier(root / "nets" / "pets", ["cat", "dog", "bird"])
    networks.classifier(root / "nets" / "more-pets", ["cat", "dog"], seed=1)
    networks.depth_estimator(root / "nets" / "depth")
    networks.vit(root / "nets" / "vit")
    networks.blip(root / "nets" / "blip", answers=True)
    (root / "questions.csv").write_text("question\nwhat is this ?\n")
    (root / "labels.csv").write_text("image,label\ncat/img_0.png,cat\ndog/img_0.png,Dog\n")
    (root / "maps" / "cat").mkdir(parents=True)
    for number in range(3):
        Image.radial_gradient("L").resize((40 + number, 40)).point(lambda v: v + 1).save(
            root / "maps" / "cat" / f"img_{number}.png"
        )
    return root


@pytest.fixture
def here(made: Path, monkeypatch: pytest.MonkeyPatch, alit: Alit) -> Path:
    monkeypatch.chdir(made)
    if not (made / "tokens.parquet").exists():
        assert alit("tokenize", "images", *TINY).exit_code == 0
    return made


def test_every_task_in_one_pass(here: Path, alit: Alit) -> None:
    words = ["score", *TINY, "--task", "recon,classify,depth,features,language", "--task", "baselines", "--out", "all"]
    for task, net in (("classify", "pets"), ("classify", "more-pets"), ("depth", "depth"), ("language", "blip")):
        words += ["--model", f"{task}=nets/{net}"]
    words += ["--model", "features=nets/vit", "--labels", "folders", "--questions", "questions.csv"]
    result = alit(*words)
    assert result.exit_code == 0, result.stderr
    names = {path.name for path in (here / "all").iterdir()}
    assert names == {
        *("recon.parquet", "baselines.parquet", "classify@pets.parquet", "classify@more-pets.parquet"),
        *("depth@depth.parquet", "features@vit.parquet", "language@blip.parquet"),
    }
    assert "top-1" in result.stdout
    table = pq.read_table(here / "all" / "classify@pets.parquet")
    assert table["label"].to_pylist() == ["cat"] * 3 + ["dog"] * 3
    assert set(table["label_source"].to_pylist()) == {"folder"}
    assert all(name in table.column_names for name in ("class_rank_2", "class_prob_6", "class_rank_original"))
    features = pq.read_table(here / "all" / "features@vit.parquet")
    assert {len(row) for row in features["features_original"].to_pylist()} == {16}
    assert "depth_error_original" not in pq.read_table(here / "all" / "depth@depth.parquet").column_names
    assert json.loads(alit("info", here / "all" / "classify@pets.parquet", "--json").stdout)["task"] == "classify"


def test_a_baseline_that_is_the_same_at_every_budget_is_said_once(here: Path, alit: Alit) -> None:
    shown = alit("score", *TINY, "--task", "baselines", "--out", "level").stdout
    table, level = shown.split("The same at every budget\n")
    assert "thumb_l1" in table
    assert "jpeg_l1" not in table
    # Pictures of 32 pixels have no JPEG file as small as six tokens.
    assert {"jpeg_l1", "jpeg_size", "webp_psnr"} <= {line.split()[0] for line in level.splitlines()[1:]}


def test_labels_and_maps_of_ones_own(here: Path, alit: Alit) -> None:
    words = ["score", *TINY, "--task", "classify,depth", "--model", "classify=nets/pets", "--model", "depth=nets/depth"]
    result = alit(*words, "--labels", "labels.csv", "--depth-maps", "maps", "--out", "own", "--json")
    assert result.exit_code == 0, result.stderr
    found = {one["task"]: one for one in json.loads(result.stdout)["tables"]}
    assert "4 of 6 images have no class_rank" in found["classify"]["remarks"][0]
    assert "3 of 6 images have no depth_error" in found["depth"]["remarks"][0]
    assert (found["classify"]["images"], found["classify"]["failed"]) == (6, 0)
    table = pq.read_table("own/classify@pets.parquet")
    assert table["label"].to_pylist() == ["cat", None, None, "dog", None, None]
    assert table["class_rank_2"].null_count == 4
    depth = pq.read_table("own/depth@depth.parquet")
    assert depth["depth_error_original"].null_count == depth["depth_delta1_4"].null_count == 3


def test_depth_maps_that_cannot_be_read_are_counted_and_one_is_named(here: Path, alit: Alit) -> None:
    shutil.copytree("maps", "some-maps")
    Path("some-maps/cat/img_1.png").write_bytes(b"no picture")
    words = ["score", *TINY, "--task", "depth", "--model", "nets/depth", "--depth-maps", "some-maps", "--out", "some"]
    result = alit(*words, "--json")
    assert result.exit_code == 0, result.stderr
    (found,) = json.loads(result.stdout)["tables"]
    unreadable, missing = found["remarks"]
    assert unreadable.startswith("1 of 6 images have a depth map that cannot be read, such as 'cat/img_1.png': The")
    assert missing.startswith("3 of 5 images have no depth_error")
    errors = pq.read_table("some/depth@depth.parquet")["depth_map_error"].to_pylist()
    assert [error is not None for error in errors] == [False, True, False, False, False, False]
    assert "cannot be read" in alit(*words).stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--task", "taste"), "recon, baselines, classify"),
        (("--task", "classify"), "--model"),
        (("--task", "recon", "--model", "nets/pets"), "a task that takes one"),
        (("--task", "classify,depth", "--model", "nets/pets"), "classify=nets/pets"),
        (("--task", "recon", "--model", "classify=nets/pets"), "not asked for"),
        (("--task", "classify", "--model", "nets/none/"), "no folder"),
        (("--task", "classify", "--model", "nets/vit"), "no trained weights"),
        (("--task", "classify", "--model", "nets/depth"), "another kind of model"),
        (("--task", "classify", "--model", "images"), "cannot be used"),
        (("--task", "classify", "--model", "no/such-model"), "HF_HUB_OFFLINE"),
        (("--task", "classify", "--model", "nets/pets", "--labels", "none.csv"), "none.csv"),
        (("--task", "classify", "--model", "nets/pets", "--model", "images/../nets/pets"), "same name"),
        (("--task", "depth", "--model", "nets/depth", "--depth-maps", "none"), "no folder none"),
        (("--task", "language", "--model", "nets/blip"), "--questions"),
        (("--task", "recon", "--images", "nowhere"), "nowhere"),
        (("--task", "recon", "--lpips", "labels.csv"), "labels.csv"),
        (("--task", "recon", "--out", "labels.csv/scores"), "cannot be written"),
        (("nothing.parquet", "--task", "recon"), "nothing.parquet"),
        (("labels.csv", "--task", "recon"), "labels.csv"),
    ],
)
def test_bad_calls_are_one_sentence_and_exit_2(here: Path, alit: Alit, words: tuple[str, ...], expected: str) -> None:
    result = alit("score", *words, *TINY)
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error:")]
    assert (result.exit_code, len(errors)) == (2, 1), result.stderr
    assert expected in errors[0]


def test_another_model_is_refused_and_lost_images_are_named(here: Path, alit: Alit, tmp_path: Path) -> None:
    result = alit("score", "--task", "recon", "--out", tmp_path)
    assert result.exit_code == 2
    assert "not by nano" in result.stderr
    write_photos(here / "few", 3, seed=5)
    assert alit("tokenize", "few", *TINY, "--out", tmp_path / "few.parquet").exit_code == 0
    (here / "few" / "img_1.png").unlink()
    result = alit("score", tmp_path / "few.parquet", "--task", "recon", *TINY, "--out", tmp_path / "scores")
    assert result.exit_code == 3
    assert "img_1.png: The file cannot be read: No such file" in result.stderr
    assert "1 failed" in result.stdout
