"""Every table that a command prints fits 60, 80 and 120 columns without a folded number, with the sample pictures."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from rich.cells import cell_len

from alit_cli import console
from alit_cli.model.checkpoint import Record, write_checkpoint
from alit_cli.model.rollout import Alit as Model
from alit_cli.table_layout import GAP, Block, Cell, fit_table
from tests.conftest import Alit
from tests.model import tiny
from tests.tasks import networks

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "sample_data"

COMMANDS = [
    "tokenize {samples}/images --dry-run",
    "tokenize {samples}/images",
    "tokenize {samples}/images --stop l1<0.3 --out stop.parquet",
    "tokenize {samples}/images --out piece.parquet --checkpoint {piece}",
    "score --task recon,baselines",
    "score --task classify --model small --model large --labels labels.csv",
    "status",
    "status scores",
    "info",
    "info tokens.parquet",
    "info stop.parquet",
    "info scores/recon.parquet",
    "verify",
    "select --tsc recon --thr 0.2",
    "select --tsc recon --thr 0.1,0.123456,0.3 --by folder",
    "select --tsc classify@small --top 1,2",
    "select --tsc recon --capacity 0.5 --by labels.csv:label",
    "info selection.parquet",
    "analyze capacity --tsc recon,psnr --toi recon,psnr,classify@large --bootstrap 20 --out study",
    "analyze capacity tokens.parquet piece.parquet --bootstrap 20 --out study",
    "analyze quality --out study",
    "analyze quality tokens.parquet piece.parquet --out study",
    "analyze complexity {samples}/complexity.csv --bootstrap 20 --out study",
    "analyze complexity {samples}/complexity.csv tokens.parquet piece.parquet --bootstrap 20 --out study",
    "analyze familiarity tokens.parquet tokens.parquet --bootstrap 20 --out study",
    "analyze strength --bootstrap 20 --out study",
    "analyze attention {samples}/images --limit 3 --sheets 0 --out attention",
    "analyze probe {samples}/images --labels labels.csv --folds 2 --out probe",
    "bench {samples}/images --limit 4 --batch-size 2 --stop l1<0.3",
    "train {samples}/images --init {model} --batch-size 2 --out trained.safetensors --dry-run",
    "study {samples}/images --complexity {samples}/complexity.csv --out all --dry-run",
]
WITH_A_MODEL = ("tokenize", "score", "analyze attention", "analyze probe", "bench", "study")


def test_every_command_that_prints_a_table_is_among_them() -> None:
    printing = re.compile(r"\b(show_table|show_result)\(")
    files = [path for path in (ROOT / "commands").glob("*.py") if printing.search(path.read_text())]
    commands = {path.stem.replace("analyze_", "analyze ") for path in files}
    assert commands >= {"select", "info", "status", "analyze quality"}
    assert not {command for command in commands if not any(line.startswith(command) for line in COMMANDS)}


def printed_width(block: Block) -> int:
    """Of the block, without the lines that one word longer than the terminal makes longer."""
    columns = zip(block.columns, *block.rows, strict=True)
    widths = [max(cell_len(line) for text in texts for line in text.split("\n")) for texts in columns]
    return sum(widths) + GAP * (len(widths) - 1)


def eight_wide_budgets(folder: Path) -> Path:
    """A tiny random model of 32, 64 … 256 tokens, whose columns are as many and as wide as those of a real one."""
    torch.manual_seed(0)
    config = dataclasses.replace(tiny.config(), tokens_per_iteration=32, iterations=8, codes=4096)
    write_checkpoint(folder / "wide.safetensors", Model(config).eval(), Record(config, ("base", "distill")))
    return folder / "wide.safetensors"


@pytest.mark.slow
def test_no_command_folds_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alit: Alit) -> None:
    tables: list[tuple[str, list[str], list[list[Cell]]]] = []
    running = ""

    def record(columns: Sequence[str], rows: Sequence[Sequence[Cell]], width: int | None) -> list[Block]:
        tables.append((running, list(columns), [list(row) for row in rows]))
        return fit_table(columns, rows, width)

    monkeypatch.setattr(console, "fit_table", record)
    monkeypatch.chdir(tmp_path)
    model, piece = eight_wide_budgets(tmp_path), tiny.other_checkpoint(tmp_path, "piece")
    for seed, network in enumerate(("small", "large")):
        Path(network).mkdir()
        networks.classifier(Path(network), ["one", "two", "three"], seed)
        networks.processor(Path(network))
    names = sorted(path.name for path in (SAMPLES / "images").iterdir())
    labels = [f"{name},{'one' if number % 2 else 'two'}" for number, name in enumerate(names)]
    Path("labels.csv").write_text("\n".join(["image,label", *labels]))
    for line in COMMANDS:
        running = line.format(samples=SAMPLES, piece=piece, model=model)
        given = [] if "{piece}" in line else ["--checkpoint", model]
        with_model = [*given, "--device", "cpu"] if line.startswith(WITH_A_MODEL) else []
        result = alit(*running.split(), *with_model)
        assert result.exit_code == 0, f"{running}: {result.stderr}"
    assert len({line for line, _, _ in tables}) == len(COMMANDS) - 5  # the others print sentences alone
    for line, columns, rows in tables:
        (plain,) = fit_table(columns, rows, None)
        for width in (60, 80, 120):
            blocks = fit_table(columns, rows, width)
            lines = {piece for block in blocks for row in (block.columns, *block.rows) for text in row
                     for piece in text.split("\n")}  # fmt: skip
            words = {word for piece in lines for word in piece.split()}
            for row in (plain.columns, *plain.rows):
                for text in row:
                    where = f"alit {line} at {width} columns: {text!r}"
                    assert "█" in text or set(text.split()) <= words, f"{where} is folded"
            assert max(map(printed_width, blocks)) <= width, f"alit {line} at {width} columns is too wide"
