"""What the tests of every room share."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, settings

# Processes that a test starts import their jobs from here; at the end, so that an installed alit_cli is found first.
sys.path.append(str(Path(__file__).parents[1]))

os.environ["HF_HUB_OFFLINE"] = "1"  # no test ever looks for anything on the hub; read when the library is imported

# Workers of pytest-xdist share the cores: each computes with one thread, and so do the processes that it starts. torch
# reads this when it is imported, which happens later.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("alit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("alit")

KILLS = int(os.environ.get("KILLS", "20"))
"""How often the slow tests kill a command, at random moments."""

Alit = Callable[..., Result]
Refused = Callable[..., None]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own ALIT_* variables must not reach the tests."""
    for name in [name for name in os.environ if name.startswith("ALIT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def alit() -> Alit:
    """Run `alit ARGS…` in this process: `.exit_code`, `.stdout`, `.stderr`."""
    from alit_cli.cli import main

    def run(*args: object) -> Result:
        return CliRunner().invoke(main, [str(arg) for arg in args], prog_name="alit")

    return run


@pytest.fixture
def refused(alit: Alit) -> Refused:
    """Run `alit ARGS…` that must fail with 2 and nothing but one sentence of error that holds the first argument."""

    def run(sentence: str, *args: object) -> None:
        result = alit(*args)
        assert result.exit_code == 2
        assert sentence in result.stderr
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
        assert result.stdout == ""

    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; modules fill it in a fixture of the same name."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def photographs() -> list[Path]:
    """Three real photographs that may be redistributed: a face, a cup, a cat (sample_data/README.md)."""
    folder = Path(__file__).parents[1] / "sample_data" / "images"
    return [folder / f"{name}.jpg" for name in ("astronaut", "coffee", "chelsea")]


@pytest.fixture
def tiny_instead_of_embedded(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands without --checkpoint use a tiny random model, for tests that need only a model."""
    from tests.model import tiny

    folder = tmp_path_factory.mktemp("weights")
    tiny.checkpoint(folder).rename(folder / "nano.safetensors")
    monkeypatch.setattr("alit_cli.model.checkpoint.files", lambda _package: folder)


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A small disk, mounted on a new folder for this block; the test is skipped where that is not allowed."""
    folder.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(line, capture_output=True).returncode:
        pytest.skip("only root can mount a disk")
    yield folder
    # Lazily, since a plan that some traceback still holds keeps its file mapped.
    subprocess.run(["umount", "--lazy", folder], check=True)
