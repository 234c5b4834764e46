"""`alit import`: the authors' released checkpoints become ours."""

import shlex
from pathlib import Path

import click

from alit_cli.grouped_help import INPUT, OUTPUT, Command, example, option
from alit_cli.options import config_option, json_option, out_option, quiet_option


@click.command(
    "import",
    cls=Command,
    epilog=example(
        "alit import alit_small.pth --out small.safetensors",
        "alit import hf:yucornetto/tokenizer_titok_s128_imagenet --out titok.safetensors",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@out_option("model.safetensors", "The checkpoint to write.")
@option(INPUT, "--heads", type=click.IntRange(1), help="Number of attention heads, if the file does not say it.")
@option(OUTPUT, "--half", is_flag=True, help="Store float16 weights (half the file).")
@json_option
@quiet_option
@config_option
def command(file: Path, out: Path, heads: int | None, half: bool, as_json: bool) -> None:
    """Convert FILE, a model that its authors released, into one safetensors file.

    FILE is a .safetensors, .bin, .pth or .ckpt file, a folder with one, or hf:OWNER/NAME on the Hugging Face hub. It is
    recognized by the names of its tensors: an ALIT model (of which the averaged weights are taken, without
    discriminators and perceptual networks), a TiTok, a One-D-Piece, or a VQGAN or VAE alone. Pickles are read with
    torch's safe loader only.
    """
    # torch takes seconds to import, and --help must not wait for it.
    import torch

    from alit_cli.console import print_json, say, say_next
    from alit_cli.data.files import check_output
    from alit_cli.model.checkpoint import describe, write_checkpoint
    from alit_cli.model.released.hub import fetch
    from alit_cli.model.released.importing import import_released

    # This comes first, so that nobody downloads gigabytes for an output that cannot be written.
    check_output(out, "model")
    imported = import_released(fetch(file), heads)
    say(imported.summary)
    if half:
        say("Half precision rounds the weights, which can change a few token ids.")
    write_checkpoint(out, imported.model, imported.record, torch.float16 if half else torch.float32)
    if as_json:
        print_json({"out": out, **describe(out)})
    else:
        click.echo(f"{out}: {imported.record.headline()}")
    name = shlex.quote(str(out))
    say_next(f"alit tokenize ./images -c {name} --out tokens.parquet", f"alit info {name}")
