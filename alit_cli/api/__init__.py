"""alit in Python: `import alit`, then load a model, encode images, read tables and select budgets.

    import alit

    tokenizer = alit.load()                                  # the model inside the package
    tokens = tokenizer.encode("photo.jpg", l1=0.08)           # one tensor of token ids per image
    pictures = tokenizer.decode(tokens)                       # b 3 S S float32 in [0, 1]
    table = alit.read_table("tokens.parquet")                 # a pandas DataFrame
    budgets = alit.select("tokens.parquet", "recon", thr=0.08)

An installed alit has this package as `alit`; in a checkout it is `alit_cli.api`. Nothing heavy is imported before the
first call.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from alit_cli import __version__

if TYPE_CHECKING:
    import pandas as pd

    from alit_cli.model.tokenizer import Tokenizer

__all__ = ["__version__", "load", "read_table", "select"]


def load(checkpoint: str | Path | None = None, device: str = "auto", precision: str = "auto") -> Tokenizer:
    """Load a model.

    Args:
        checkpoint: a safetensors file of `alit train` or `alit import`; None is the model inside the package.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, float32, mixed (tokens in float32, pixels in bf16) or bf16.

    Returns: a tokenizer with `encode`, `decode` and `rollout`.

    Raises:
        alit_cli.errors.InputError: there is no such file or device, or the file is not one of alit.
    """
    from alit_cli.model.tokenizer import load as load_tokenizer

    return load_tokenizer(checkpoint, device, precision)


def read_table(path: str | Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a token table, a score table or a selection: one row per image.

    Args:
        path: a Parquet file, or a folder of parts.
        columns: only these; None reads all of them, token ids included.

    Raises:
        alit_cli.errors.InputError: there is no such table or column, or it is damaged.
    """
    from alit_cli.data.tables.parquet import open_columns

    frame: pd.DataFrame = open_columns(path, columns).to_pandas()
    return frame


def select(
    table: str | Path,
    tsc: str = "recon",
    thr: float | None = None,
    top: int | None = None,
    scores: str | Path | None = None,
) -> pd.DataFrame:
    """Give every image the smallest token budget that meets a criterion, as `alit select` does.

    Args:
        table: a token table.
        tsc: recon, classify, depth, a measure, or a whole condition such as 'l1<0.08 and class_rank<=5'.
        thr: the threshold of recon, depth or a measure.
        top: of classify, the true class has to be among the first so many.
        scores: the folder of score tables; None looks in `scores`, here or beside the table.

    Returns: the columns `image`, `n_tokens` and `satisfied`, without the images that could not be tokenized. An image
    that no budget satisfies has the largest budget and `satisfied` False.

    Raises:
        alit_cli.errors.InputError: there is no such table or measure, or the criterion cannot be read.
    """
    import numpy as np
    import pandas as pd

    from alit_cli.analysis.query.criteria import criterion
    from alit_cli.analysis.query.tables import Tables
    from alit_cli.analysis.selection.decide import decide

    tables = Tables(Path(table), None if scores is None else Path(scores))
    (choice,) = decide(tables, [criterion(tsc, thr, top)])
    frame = pd.DataFrame(
        {
            "image": tables.images(),
            "n_tokens": np.asarray(tables.budgets)[choice.index],
            "satisfied": choice.satisfied,
        }
    )
    return frame[choice.ok].reset_index(drop=True)
