"""alit: photographs in, tables of token ids and reconstruction errors at every token budget out."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alit_cli.model.tokenizer import load as load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]

# An installed package has `commands` inside; in a checkout it stands beside the package, so look there too.
if not os.path.isdir(os.path.join(__path__[0], "commands")):
    __path__.append(os.path.dirname(__path__[0]))


def __getattr__(name: str) -> Any:
    """Import `load` when it is first asked for: it brings torch, which the command line's help must not."""
    if name == "load":
        # Python calls this function only for names that the module does not have, so it costs nothing until then.
        from alit_cli.model.tokenizer import load

        return load
    raise AttributeError(f"module 'alit_cli' has no attribute {name!r}")
