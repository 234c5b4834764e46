"""What the scripts share that make pictures of the documents."""

from pathlib import Path

from PIL import Image

from alit_cli.cli import main


def alit(*words: object) -> None:
    """Run `alit WORDS…` in this process, and end the script where it fails."""
    line = [str(word) for word in words]
    print("alit", *line, flush=True)
    if code := main(line, standalone_mode=False):
        raise SystemExit(code)


def small_copy(source: Path, target: Path, width: int) -> None:
    """A copy at most so wide, and below 400 kB: with 256 colours where it must be."""
    picture = Image.open(source).convert("RGB")
    picture.thumbnail((width, 10 * width), Image.Resampling.LANCZOS)
    picture.save(target, optimize=True)
    if target.stat().st_size > 400_000:
        picture.quantize(256, kmeans=2).save(target, optimize=True)
    print(target, target.stat().st_size)
