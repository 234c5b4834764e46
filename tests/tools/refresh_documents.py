"""Write what the documents show of the program itself: the options of every command, and with --output what it prints.

python tests/tools/refresh_documents.py            # the help texts in commands/README.md
python tests/tools/refresh_documents.py --output   # also the output that README.md shows, with the embedded model
python tests/tools/refresh_documents.py --check    # change nothing; exit with 1 if a help text is out of date
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import click
from click.testing import CliRunner

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from alit_cli.cli import main  # noqa: E402
from tests.documents import blocks, find_command, lines  # noqa: E402

REFERENCE = ROOT / "commands" / "README.md"
HELP = re.compile(
    r"(<summary>All options of <code>alit ([a-z ]+)</code></summary>\n\n```text\n).*?(^```$)", re.S | re.M
)


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[str]:
    """The words that call every command that is no group."""
    found: list[str] = []
    for name in group.list_commands(click.Context(group)):
        inner = group.get_command(click.Context(group), name)
        assert inner is not None
        found += commands(inner, (*path, name)) if isinstance(inner, click.Group) else [" ".join((*path, name))]
    return found


def help_text(words: str) -> str:
    """What `alit WORDS --help` prints on a terminal of 100 columns."""
    command, _ = find_command(words.split())
    parent = click.Context(main, info_name="alit", **main.context_settings)
    context = click.Context(command, parent, info_name=words, **command.context_settings)
    context.terminal_width = context.max_content_width = 100
    context.auto_envvar_prefix = None
    return re.sub(r" +$", "", command.get_help(context), flags=re.M) + "\n"


def with_help(text: str) -> str:
    """The reference with every help text as it is today."""
    missing = set(commands(main)) - {match[2] for match in HELP.finditer(text)}
    if missing:
        raise SystemExit(f"commands/README.md has no section with all options of: {', '.join(sorted(missing))}.")
    return HELP.sub(lambda match: match[1] + help_text(match[2]) + match[3], text)


def refresh_output(document: str) -> None:
    """Run the `sh` and `python` blocks of a document in a fresh folder and write down what they print."""
    os.environ["COLUMNS"] = "80"
    text, shift, printed, previous = (ROOT / document).read_text(), 0, "", ""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        shutil.copytree(ROOT / "sample_data", "sample_data")
        shutil.copytree(ROOT / "sample_data" / "images", "images")
        shutil.copy(ROOT / "sample_data" / "complexity.csv", "savoias.csv")
        for block in blocks(document):
            if block.language == "sh":
                for _, *words in lines(block):
                    result = CliRunner().invoke(main, words, prog_name="alit")
                    assert result.exit_code == 0, result.stderr
                    printed = re.sub(r" +$", "", result.stdout, flags=re.M)
            elif block.language == "text" and previous == "sh":
                # A block shows the beginning of the output, as many lines as it did before.
                shown = "".join(printed.splitlines(True)[: block.text.count("\n") or None])
                text = text[: block.start + shift] + shown + text[block.end + shift :]
                shift += len(shown) - (block.end - block.start)
            previous = block.language
        os.chdir(ROOT)
    (ROOT / document).write_text(text)


if __name__ == "__main__":
    old = REFERENCE.read_text()
    new = with_help(old)
    if "--check" in sys.argv:
        changed = [match[2] for match in HELP.finditer(old) if match[0] not in new]
        if changed:
            raise SystemExit(f"Out of date: {', '.join(changed)}. Run python tests/tools/refresh_documents.py.")
    else:
        REFERENCE.write_text(new)
    if "--output" in sys.argv:
        refresh_output("README.md")
