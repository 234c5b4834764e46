"""Print, room by room, how many files and lines there are, how long functions are, and how many lines are comments.

Usage: python tests/tools/code_figures.py [CHECKOUT]
"""

import ast
import io
import statistics
import sys
import tokenize
from collections import defaultdict
from pathlib import Path


def room(file: Path, root: Path) -> str:
    """The folder a file belongs to: commands, a package of alit_cli, or alit_cli itself."""
    parts = file.relative_to(root).parts
    return parts[0] if len(parts) <= 2 else "/".join(parts[:2])


def comment_lines(text: str) -> int:
    """Lines that hold a comment; those that only silence a linter do not count."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = (token.string for token in tokens if token.type == tokenize.COMMENT)
    return sum(not comment.startswith(("# type:", "# noqa", "#!")) for comment in comments)


def spread(sizes: list[int]) -> str:
    """Median, 90th percentile and maximum."""
    if not sizes:
        return "–"
    tenth = sorted(sizes)[min(len(sizes) - 1, int(0.9 * len(sizes)))]
    return f"{statistics.median(sizes):.0f} / {tenth} / {max(sizes)}"


def main(root: Path) -> None:
    """One line per room, and one for all of the source without tests."""
    files: dict[str, list[int]] = defaultdict(list)
    functions: dict[str, list[int]] = defaultdict(list)
    comments: dict[str, int] = defaultdict(int)
    for file in sorted([*root.glob("alit_cli/**/*.py"), *root.glob("commands/*.py"), *root.glob("tests/**/*.py")]):
        text, place = file.read_text(), room(file, root)
        places = [place] if place.startswith("tests") else [place, "all but tests"]
        if place.startswith("tests"):
            places = ["tests"]
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        for name in places:
            files[name].append(len(text.splitlines()))
            functions[name] += [(node.end_lineno or node.lineno) - node.lineno + 1 for node in nodes]
            comments[name] += comment_lines(text)
    print(f"{'room':22} files  lines  file med/p90/max  function med/p90/max  comments per 100 lines")
    for name, sizes in files.items():
        density = 100 * comments[name] / max(1, sum(sizes))
        sizes_of_functions = spread(functions[name])
        print(f"{name:22} {len(sizes):5} {sum(sizes):6}  {spread(sizes):>16}  {sizes_of_functions:>20}  {density:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2])
