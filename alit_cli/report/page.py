"""Data and hand-written templates → one HTML file that needs nothing else and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

SCRIPTS = (
    "base.js",
    "columns.js",
    "state.js",
    "charts.js",
    "need.js",
    "capacity.js",
    "sprite.js",
    "filters.js",
    "grid.js",
    "detail.js",
    "main.js",
)
"""In this order they are one script."""


def render(title: str, data: Mapping[str, Any]) -> str:
    """The page. `title` and every text in `data` are untrusted: file names may look like HTML."""
    style = _template("page.css")
    # The function around all files keeps their names out of the page's global scope.
    script = '"use strict";\n(() => {\n' + "\n".join(map(_template, SCRIPTS)) + "\n})();"
    # The browser runs and loads nothing but what the hashes name, so that a file name in the data can never become a
    # script.
    policy = (
        f"default-src 'none'; img-src data: blob:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "title": html.escape(title),
        "policy": policy,
        "style": style,
        "data": embedded_json(data),
        "script": script,
    }
    # One pass replaces all parts, so that braces inside the data are not taken for places of the template.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _template("page.html"))


def embedded_json(data: Mapping[str, Any]) -> str:
    """JSON that no text in it can end early, whatever it holds: `<`, `>` and `&` are written as \\u escapes."""
    # NaN is refused here, because a browser's JSON.parse refuses it and the page would stay empty.
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # The last two are line separators that older JavaScript does not allow inside a string.
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    # Half of a surrogate pair may come from a file name, and UTF-8 cannot write it.
    return text.encode("utf-8", "backslashreplace").decode()


def _template(name: str) -> str:
    return (files("alit_cli.report") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
