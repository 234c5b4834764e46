"""The four documents as tests and tools read them: their blocks, and the commands that stand in those blocks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from alit_cli.cli import main

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "commands/README.md", "alit_cli/README.md", "tests/README.md")
LANGUAGES = {"sh", "bash", "python", "py", "text", "toml"}
"""`sh` and `python` blocks are run in order; `bash` and `py` need a network, a GPU or more libraries and are only read.

A `text` block right after an `sh` block is what its last command prints."""

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.S | re.M)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, and where the text starts and ends in the document."""

    language: str
    text: str
    start: int
    end: int


def blocks(document: str) -> list[Block]:
    """The blocks of a document in their order."""
    return [Block(m[1], m[2], m.start(2), m.end(2)) for m in BLOCK.finditer((ROOT / document).read_text("utf-8"))]


def lines(block: Block) -> Iterator[list[str]]:
    """The words of every command of a shell block; a backslash at its end continues a line, comments are left out."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def alit_calls(words: list[str]) -> Iterator[list[str]]:
    """What a shell line passes to alit: `alit …`, `… -m alit_cli …` of a launcher, or a line quoted for sbatch."""
    for place, word in enumerate(words):
        before = words[place - 1] if place else "&&"
        if (word == "alit" and before in ("&&", "|")) or (word == "alit_cli" and before == "-m"):
            rest = words[place + 1 :]
            stops = [index for index, each in enumerate(rest) if each in ("&&", "|", ">", ";")]
            yield rest[: stops[0]] if stops else rest
            return
        if word.startswith("alit "):
            yield shlex.split(word)[1:]


def find_command(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the words call, and the words that are left for it."""
    command: click.Command = main
    while isinstance(command, click.Group):
        name, *words = words
        inner = command.get_command(click.Context(command), name)
        assert inner is not None, f"There is no command {name}."
        command = inner
    return command, words
