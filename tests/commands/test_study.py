"""`alit study`: a chain of commands that resumes anywhere, and findings that say what the csv files say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from alit_cli.analysis.studies.findings import collect_findings
from alit_cli.analysis.studies.study import RECORD, StudyJob, plan_steps
from alit_cli.errors import InputError
from tests.conftest import Alit
from tests.model import tiny
from tests.tasks.networks import classifier, depth_estimator, vit
from tests.training.photos import write_photos

UNLABELLED = ("study", "photos", "-c", "tiny.safetensors", "--device", "cpu", "--bootstrap", "50")
STUDY = (*UNLABELLED, "--labels", "folders")
NETWORKS = ("--classify", "nets/weak", "--judge", "nets/strong")


@pytest.fixture
def here(here: Path) -> Path:
    """A working folder with photographs of two classes, and a tiny model."""
    write_photos(here / "photos" / "cat", 6)
    write_photos(here / "photos" / "dog", 6, seed=1)
    tiny.checkpoint(here).rename(here / "tiny.safetensors")
    return here


def findings_equal_the_csv_files(folder: Path) -> int:
    """Check every number of findings.json against its csv file and its sentence; gives how many there are."""
    found = json.loads((folder / "findings.json").read_text())["findings"]
    count = 0
    for finding in found:
        for number in finding["numbers"]:
            value = pd.read_csv(folder / number["file"])[number["column"]][number["row"]]
            assert value == number["value"], number
            forms = [format(value, form) for form in (".0f", ".4g", ".1%", ".0%", ".2f", ".3f", "+.3f")]
            assert any(text in finding["sentence"] for text in [*forms, f"{100 * value:.1f}"]), (number, finding)
            count += 1
    return count


def test_a_study_ends_in_a_page_and_in_findings_and_a_second_run_does_nothing(
    here: Path, alit: Alit, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two strengths of the penalty instead of five: how one is chosen is tested in tests/analysis/test_probing.py.
    monkeypatch.setattr("alit_cli.analysis.probe.probing.PENALTIES", (1e-2, 1.0))
    result = alit(*STUDY, "--json")
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed["page"] == str(here / "study" / "report.html")
    assert Path(printed["page"]).exists()
    for name in ("tokens", "quality", "capacity"):
        assert (here / "study" / f"{name}.parquet").exists()
        assert f"alit {'tokenize' if name == 'tokens' else 'analyze ' + name}" in result.stderr
    assert findings_equal_the_csv_files(here / "study") >= 10
    assert [line["sentence"] for line in printed["findings"]] == [
        line.removeprefix("- ").rpartition(" (")[0]
        for line in (here / "study" / "findings.md").read_text().splitlines()
        if line.startswith("- ") and line.endswith(".csv)")
    ]
    before = contents(here / "study")
    again = alit("study", "--config", "study/study.toml")
    assert again.exit_code == 0, again.stderr
    assert again.stderr.count("This step is done.") == len(steps_done(here / "study")) - 1
    assert contents(here / "study") == before


def test_a_dry_run_prints_the_commands_and_writes_nothing(here: Path, alit: Alit) -> None:
    result = alit(*STUDY, *NETWORKS, "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "alit analyze strength --task classify" in result.stdout
    assert "minutes" in result.stdout
    assert not (here / "study").exists()


def test_the_recipe_holds_every_option(here: Path, alit: Alit) -> None:
    job = StudyJob(("a 'b'", "c"), here / "out", labels="folders", judge=("x/y",), limit=3, bootstrap=7, form="svg")
    from alit_cli.analysis.studies.study import recipe

    assert tomllib.loads(recipe(job))["study"] == {
        "images": ["a 'b'", "c"],
        "out": str(here / "out"),
        "labels": "folders",
        "judge": ["x/y"],
        "device": "auto",
        "limit": 3,
        "bootstrap": 7,
        "format": "svg",
        "figure_size": "wide",
    }


def test_steps_follow_from_what_is_given(tmp_path: Path) -> None:
    def names(**options: object) -> list[str]:
        return [step.name for step in plan_steps(StudyJob(("photos",), tmp_path, **options))]  # type: ignore[arg-type]

    assert names() == ["tokenize", "score", "quality", "capacity", "view"]
    assert names(labels="folders", classify=("a", "b"))[4:] == ["strength", "probe", "view"]
    assert names(complexity="s.csv", masks="m")[4:] == ["complexity", "attention", "view"]
    assert names(against=("ood/art", "b.tar"))[4:] == ["tokenize art", "tokenize b", "familiarity", "view"]
    assert names(against=("ood/art",), features="x/net")[4:] == ["tokenize art", "score art", "familiarity", "view"]
    with pytest.raises(InputError, match="same name"):
        names(classify=("a/net", "b/net"))
    with pytest.raises(InputError, match="another set's"):
        names(against=("a/art", "b/art"))


def test_every_step_that_reads_scores_reads_the_studys_own(tmp_path: Path) -> None:
    """Scores of another table may lie where the study is started."""
    steps = plan_steps(StudyJob(("photos",), tmp_path, labels="folders", classify=("a", "b")))
    for step in steps:
        if step.name in ("quality", "capacity", "strength", "view"):
            assert step.words[step.words.index("--scores") + 1] == str(tmp_path / "scores"), step.name


@pytest.mark.slow
def test_depth_features_masks_and_other_images_run_from_a_file(here: Path, alit: Alit) -> None:
    depth_estimator(here / "nets" / "depth")
    vit(here / "nets" / "vit")
    write_photos(here / "sketches", 5, seed=2)
    for image in sorted((here / "photos").rglob("*.png")):
        mask = here / "masks" / image.relative_to(here / "photos")
        mask.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(image) as picture:
            ids = np.zeros(picture.size[::-1], np.uint8)
        ids[: len(ids) // 2] = 1
        Image.fromarray(ids).save(mask)
    Path("study.toml").write_text(
        '[study]\nimages = ["photos"]\ncheckpoint = "tiny.safetensors"\ndevice = "cpu"\nbootstrap = 20\n'
        'depth = "nets/depth"\nfeatures = "nets/vit"\nmasks = "masks"\nagainst = ["sketches"]\n'
    )
    result = alit("study", "--config", "study.toml")
    assert result.exit_code == 0, result.stderr
    assert "left out" not in result.stderr
    assert (here / "study" / "scores-sketches" / "features@vit.parquet").exists()
    familiarity = pd.read_csv(here / "study" / "familiarity.csv")
    assert set(familiarity.set) == {"photos", "sketches"}
    assert any("frechet" in str(column) and familiarity[column].notna().all() for column in familiarity)
    assert findings_equal_the_csv_files(here / "study") >= 20


def test_an_analysis_that_refuses_is_left_out_and_said(here: Path, alit: Alit) -> None:
    Path("scores.csv").write_text("image,score\nnobody.jpg,1\nnowhere.jpg,2\n")
    result = alit(*UNLABELLED, "--complexity", "scores.csv")
    assert result.exit_code == 0, result.stderr
    assert "The step complexity is left out: " in result.stderr
    assert "- complexity: " in (here / "study" / "findings.md").read_text()


def test_findings_of_analyses_with_known_numbers(tmp_path: Path) -> None:
    pd.DataFrame(
        {"model": ["weak", "strong"], "budget": [8, 8], "strength": [0.4, 0.8], "drop": [0.05, 0.2]}
        | {"drop_low": [0.01, 0.15], "drop_high": [0.09, 0.25]}
    ).to_csv(tmp_path / "strength.csv", index=False)
    (finding,) = collect_findings(tmp_path)
    assert finding.sentence == (
        "At 8 tokens, strong (80.0% on the originals) loses 20.0 points (15.0 to 25.0), "
        "and weak (40.0%) loses 5.0 points (1.0 to 9.0)."
    )


def test_a_foreign_record_is_not_replaced(here: Path, alit: Alit) -> None:
    (here / "study").mkdir()
    (here / "study" / RECORD).write_text("mine")
    result = alit(*STUDY)
    assert result.exit_code == 2
    assert "is not the record of a study" in result.stderr
    assert (here / "study" / RECORD).read_text() == "mine"


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file of a study but its record, which holds times."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def steps_done(folder: Path) -> list[str]:
    """The steps of a study that are done, by its record."""
    return list(json.loads((folder / RECORD).read_text())["done"])


@pytest.mark.slow
def test_killed_twice_on_the_way_the_files_are_the_same(here: Path, alit: Alit) -> None:
    classifier(here / "nets" / "weak", ("cat", "dog"))
    classifier(here / "nets" / "strong", ("cat", "dog"), seed=1)
    assert alit(*STUDY, *NETWORKS, "--out", "whole").exit_code == 0
    line = [sys.executable, "-m", "alit_cli", *STUDY, *NETWORKS]
    for wanted in ("scores", "quality.parquet"):
        with subprocess.Popen(line, cwd=here, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            for _ in waiting(process):
                if (here / "study" / wanted).exists():
                    os.kill(process.pid, signal.SIGKILL)
                    break
    assert not (here / "study" / "findings.md").exists()
    assert alit(*STUDY, *NETWORKS).exit_code == 0
    whole, study = contents(here / "whole"), contents(here / "study")
    assert study.keys() == whole.keys()
    assert steps_done(here / "study") == steps_done(here / "whole")
    assert {"strength.csv", "capacity.csv", "report.html"} <= study.keys()
    for name in whole.keys() - {"study.toml", "report.html", ".alit.json"}:  # these say where the study lies
        assert study[name] == whole[name], name


def waiting(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Moments until a process ends by itself."""
    while process.poll() is None:
        yield
        time.sleep(0.05)
