"""Every table that a command prints fits 60, 80 and 120 columns without a folded number, with the sample pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.cells import cell_len

from alit_cli import console
from alit_cli.table_layout import GAP, Block, Cell, fit_table
from tests.conftest import Alit
from tests.model import tiny

SAMPLES = Path(__file__).parents[1] / "sample_data"

COMMANDS = [
    "tokenize {samples}/images --dry-run",
    "tokenize {samples}/images",
    "tokenize {samples}/images --stop l1<0.3 --out stop.parquet",
    "score --task recon,baselines",
    "status",
    "status scores/recon.parquet",
    "info",
    "info tokens.parquet",
    "verify",
    "select --tsc recon --thr 0.2",
    "select --tsc recon --thr 0.1,0.123456,0.3 --by folder",
    "analyze capacity --tsc recon,psnr --toi recon,psnr --bootstrap 20 --out study",
    "analyze quality --out study",
    "analyze complexity {samples}/complexity.csv --bootstrap 20 --out study",
    "analyze familiarity tokens.parquet tokens.parquet --bootstrap 20 --out study",
    "analyze attention {samples}/images --limit 3 --sheets 0 --out attention",
    "analyze probe {samples}/images --labels labels.csv --folds 2 --out probe",
    "bench {samples}/images --limit 4 --batch-size 2 --stop l1<0.3",
]
WITH_A_MODEL = ("tokenize", "score", "analyze attention", "analyze probe", "bench")


def printed_width(block: Block) -> int:
    """Of the block, without the lines that one word longer than the terminal makes longer."""
    columns = zip(block.columns, *block.rows, strict=True)
    widths = [max(cell_len(line) for text in texts for line in text.split("\n")) for texts in columns]
    return sum(widths) + GAP * (len(widths) - 1)


@pytest.mark.slow
def test_no_command_folds_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alit: Alit) -> None:
    tables: list[tuple[str, list[str], list[list[Cell]]]] = []
    running = ""

    def record(columns: Sequence[str], rows: Sequence[Sequence[Cell]], width: int | None) -> list[Block]:
        tables.append((running, list(columns), [list(row) for row in rows]))
        return fit_table(columns, rows, width)

    monkeypatch.setattr(console, "fit_table", record)
    monkeypatch.chdir(tmp_path)
    model = tiny.checkpoint(tmp_path)
    names = sorted(path.name for path in (SAMPLES / "images").iterdir())
    labels = [f"{name},{'one' if number % 2 else 'two'}" for number, name in enumerate(names)]
    Path("labels.csv").write_text("\n".join(["image,label", *labels]))
    for line in COMMANDS:
        running = line.format(samples=SAMPLES)
        with_model = ["--checkpoint", model, "--device", "cpu"] if line.startswith(WITH_A_MODEL) else []
        result = alit(*running.split(), *with_model)
        assert result.exit_code == 0, f"{running}: {result.stderr}"
    assert len({line.split()[0] for line, _, _ in tables}) >= 6
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
