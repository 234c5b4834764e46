"""The page's script, checked by TypeScript and ESLint where node has them; nothing of npm is part of alit.

`npm install -g typescript eslint prettier` makes these tests run.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "alit_cli" / "report").glob("*.js"))
LINT = Path(__file__).parent / "lint"
CHECKS = {
    "tsc": ["tsc", "-p", str(LINT / "tsconfig.json")],
    "eslint": ["eslint", "-c", str(LINT / "eslint.config.mjs"), *(path.name for path in SCRIPTS)],
    "prettier": ["prettier", "--print-width", "120", "--check", *(path.name for path in SCRIPTS)],
}


@pytest.mark.parametrize("tool", CHECKS)
def test_the_script_is_sound(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"there is no {tool}")
    result = subprocess.run(CHECKS[tool], cwd=SCRIPTS[0].parent, capture_output=True, text=True)
    assert (result.returncode, result.stdout + result.stderr if result.returncode else "") == (0, "")


def test_every_script_asks_to_be_checked_and_fits_the_line() -> None:
    for path in [*SCRIPTS, SCRIPTS[0].with_name("page.css"), SCRIPTS[0].with_name("page.html")]:
        text = path.read_text(encoding="utf-8")
        assert path.suffix != ".js" or text.startswith("// @ts-check\n")
        assert max(map(len, text.splitlines())) <= 120, path.name
