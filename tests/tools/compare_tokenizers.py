"""Compare four tokenizers on sample_data: the embedded model, its VAE alone, a TiTok and a One-D-Piece.

python tests/tools/compare_tokenizers.py FOLDER           # small TiTok and One-D-Piece, minutes on two cores
python tests/tools/compare_tokenizers.py FOLDER --full    # TiTok-S-128 and One-D-Piece-S-256, an hour on two cores

The weights of TiTok and One-D-Piece are made by a formula: their numbers and pictures mean nothing. The VAE of the
embedded model was fine-tuned with it and is no autoencoder any more. What can be looked at is whether tables and
figures are right: FOLDER/study holds them, and FOLDER/view.html is the page.
"""

from __future__ import annotations

import sys
from pathlib import Path

from safetensors.torch import save_file

from alit_cli.model.checkpoint import Record, embedded, read_base_weights, read_record, write_checkpoint
from alit_cli.model.tokenizers.grid import GridConfig, GridTokenizer
from tests.model import golden
from tests.tools.common import alit

SAMPLES = Path(__file__).parents[2] / "sample_data"
NAMES = "nano,its VAE,TiTok,One-D-Piece"


def main() -> None:
    """Make the models, then run the commands that a user would type; what is there already is resumed."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    models: dict[str, Path | None] = {"nano": None, "vae": _vae(folder)}
    for name, variant, latents in (("titok", "titok_small", 128), ("piece", "onedpiece_small", 256)):
        shapes = golden.full_size_titok(512, 8, latents)
        weights = golden.drawn(shapes) if "--full" in sys.argv else golden.weights(variant)
        save_file(
            {key: tensor.contiguous() for key, tensor in weights.items()}, folder / f"{name}-released.safetensors"
        )
        models[name] = folder / f"{name}.safetensors"
        alit("import", folder / f"{name}-released.safetensors", "--out", models[name])
    tables = [folder / f"{name}.parquet" for name in models]
    for table, checkpoint in zip(tables, models.values(), strict=True):
        model = ("-c", checkpoint) if checkpoint else ()
        # Every budget of a prefix tokenizer costs a decoding of each image.
        budgets = ("--budgets", "16,64,256") if table.stem == "piece" else ()
        alit("tokenize", SAMPLES / "images", *model, *budgets, "--out", table)
        alit("score", table, *model, "--task", "recon", "--out", folder / "scores" / table.stem)
    ends = ("--names", NAMES, "--scores", folder / "scores", "--out", folder / "study")
    alit("analyze", "quality", *tables, *ends)
    alit("analyze", "capacity", *tables, "--tsc", "recon,psnr", "--toi", "recon,psnr,ssim", *ends)
    alit("analyze", "complexity", SAMPLES / "complexity.csv", *tables, *ends[:2], *ends[4:])
    checkpoints = [word for checkpoint in models.values() if checkpoint for word in ("-c", checkpoint)]
    with embedded() as path:
        alit("view", *tables, "-c", path, *checkpoints, "--beside", folder / "study", "--out", folder / "view.html")


def _vae(folder: Path) -> Path:
    """The base tokenizer of the embedded model as a tokenizer of its own."""
    path = folder / "vae.safetensors"
    with embedded() as file:
        config = read_record(file).config
        base = read_record(file).base_config
        model = GridTokenizer(GridConfig("nano-vae", base, config.image_size))
        model.load_state_dict({f"base.{name}": tensor.float() for name, tensor in read_base_weights(file).items()})
    write_checkpoint(path, model.eval(), Record(model.config, ("base",)))
    return path


if __name__ == "__main__":
    main()
