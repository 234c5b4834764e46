"""What must hold of a table before its rows are used, since somebody else may have made or damaged it."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import pyarrow as pa
import pyarrow.compute as pc

from alit_cli.data.files import readable
from alit_cli.data.marks import KEY
from alit_cli.data.pictures.fitting import Fit
from alit_cli.data.pictures.measures import PLAIN_MEASURES
from alit_cli.data.sources.extra_columns import kept_type
from alit_cli.errors import InputError

TEXTS = ("image", "source", "status", "error", "model_id")
SIZES = ("width", "height", "n_tokens")
NUMBERS = re.compile(r"(l1|thumbnail)_\d+")
LISTS = re.compile(r"(tokens|latents)(_\d+)?")
PRECISIONS = ("float32", "mixed", "bf16")
FITS = get_args(Fit)
MOST = 2**20
"""No image size, budget or batch is larger; a description that claims one would take all memory."""


def check_description(values: Mapping[str, Any]) -> None:
    """Raise ValueError where a TableInfo's values are not of its types, or are sizes that nothing can have."""
    counts = (*values["budgets"], values["image_size"], values["token_dim"], values["batch_size"])
    if not values["budgets"] or not all(type(count) is int and 0 < count <= MOST for count in counts):
        raise ValueError("a size is not a whole number, or too large")
    if list(values["budgets"]) != sorted(set(values["budgets"])):
        raise ValueError("budgets do not rise")
    if type(values["codes"]) is not int or not 0 <= values["codes"] <= MOST:
        raise ValueError("codes are not a whole number")
    if values["precision"] not in PRECISIONS or values["fit"] not in FITS:
        raise ValueError("an unknown precision or fit")
    if not all(isinstance(values[name], dict) for name in ("options", "versions")):
        raise ValueError("options are not named")
    if not all(isinstance(values[name], str) for name in ("model", "model_sha256")):
        raise ValueError("a name is no text")
    if not values["model"].isprintable():  # it is printed on terminals and figures
        raise ValueError("the model's name holds control characters")
    for kind in (values["options"].get("keep") or {}).values():
        kept_type(kind)  # a KeyError for one that there is not


def check_columns(schema: pa.Schema, path: str) -> None:
    """Raise InputError where columns that alit knows have another type."""
    for column in schema:
        if not _fits(column.name, column.type):
            kind = f"its column '{readable(column.name)}' has the type {column.type}"
            raise InputError(f"'{readable(path)}' cannot be used: {kind}; make it again.")


def _fits(name: str, kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if name in TEXTS:
        # An empty table of other tools may have columns of type null.
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))
    if name in SIZES:
        return bool(pa.types.is_integer(kind))
    if NUMBERS.fullmatch(name):
        return bool(pa.types.is_floating(kind))
    if name in PLAIN_MEASURES:
        return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
    if LISTS.fullmatch(name):
        return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))
    return True


def check_unique(schema: pa.Schema, path: str) -> None:
    """Raise InputError where two columns have one name."""
    if twice := [name for name, count in Counter(schema.names).items() if count > 1]:
        raise InputError(f"'{readable(path)}' has two columns called '{readable(twice[0])}'; make it again.")


def check_rows(rows: pa.Table | pa.RecordBatch, path: str) -> None:
    """Raise InputError where rows have no name or status, text is no UTF-8, or tokens are none of the model's."""
    columns = set(rows.schema.names)
    for name in {"image", "status"} & columns:
        if rows[name].null_count:
            raise InputError(f"'{readable(path)}' has rows without a value in '{name}'; make it again.")
    for name in columns.intersection(TEXTS):
        try:
            rows[name].validate(full=True)
        except pa.ArrowInvalid as problem:
            raise InputError(f"'{readable(path)}' is damaged: '{name}' holds bytes that are no UTF-8.") from problem
    stored = [name for name in columns if LISTS.fullmatch(name)]
    if stored and KEY.encode() in (rows.schema.metadata or {}):
        about = json.loads(rows.schema.metadata[KEY.encode()])
        for name in stored if "codes" in about else ():  # a score table says nothing of tokens
            # A prefix tokenizer's one list is as long as the last budget that the image reached.
            ends = about["budgets"] if about["options"].get("prefix") else [int(name.partition("_")[2] or 0)]
            _check_tokens(rows[name], name, int(about["codes"]), int(about["token_dim"]), ends, path)


def _check_tokens(column: Any, name: str, codes: int, token_dim: int, budgets: Sequence[int], path: str) -> None:
    """Raise InputError for lists that are of none of the budgets' lengths, or ids outside the codebook."""
    lengths = set(pc.unique(pc.list_value_length(column)).to_pylist()) - {None}
    # The column of a selection, which has no budget in its name, holds lists of any.
    if "_" in name and lengths - {budget * (1 if codes else token_dim) for budget in budgets}:
        raise InputError(f"'{readable(path)}' cannot be used: '{name}' has lists of another length; make it again.")
    values = pc.list_flatten(column)
    if codes and len(values) and (pc.max(values).as_py() or 0) >= codes:
        raise InputError(f"'{readable(path)}' cannot be used: '{name}' has ids outside the codebook; make it again.")
