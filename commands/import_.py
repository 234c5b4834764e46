"""`alit import`: the authors' released checkpoints become ours."""

from pathlib import Path

import click

from alit_cli.grouped_help import INPUT, OUTPUT, Command, example, option
from alit_cli.options import config_option, json_option, out_option, quiet_option


@click.command("import", cls=Command, epilog=example("alit import alit_small.pth --out small.safetensors"))
@click.argument("file", type=click.Path(path_type=Path))
@out_option("model.safetensors", "The checkpoint to write.")
@option(INPUT, "--heads", type=click.IntRange(1), help="Attention heads, where the file does not tell.")
@option(OUTPUT, "--half", is_flag=True, help="Store float16 weights (half the file).")
@json_option
@quiet_option
@config_option
def command(file: Path, out: Path, heads: int | None, half: bool, as_json: bool) -> None:
    """Convert FILE, a .pth or .ckpt of the authors' code, into one safetensors file.

    Takes whole ALIT models (the averaged weights; discriminators and perceptual networks are left behind) and base
    tokenizers alone. Pickles are read with torch's safe loader only.
    """
    import torch

    from alit_cli.console import print_json, say_next
    from alit_cli.data.files import check_output
    from alit_cli.model.checkpoint import describe, import_released, write_checkpoint

    check_output(out, "model")
    model, record = import_released(file, heads)
    write_checkpoint(out, model, record, torch.float16 if half else torch.float32)
    if as_json:
        print_json({"out": out, **describe(out)})
    else:
        click.echo(f"{out}: {record.headline()}")
    say_next(f"alit tokenize ./images -c {out} --out tokens.parquet", f"alit info {out}")
