"""How our Parquet files are stored."""

from typing import Any

import pyarrow as pa


def encodings(schema: pa.Schema) -> dict[str, Any]:
    """How our Parquet files are stored, as keywords for pyarrow.

    zstd, page index, floats as split byte streams without a dictionary, all else (ids, words, sizes) with one.
    """
    paths: dict[str, bool] = {}
    for field in schema:
        is_list = pa.types.is_list(field.type)
        path = f"{field.name}.list.element" if is_list else field.name
        paths[path] = pa.types.is_floating(field.type.value_type if is_list else field.type)
    return {
        "compression": "zstd",
        "compression_level": 3,
        "use_dictionary": [path for path, floating in paths.items() if not floating],
        "use_byte_stream_split": [path for path, floating in paths.items() if floating],
        "write_page_index": True,
        "write_page_checksum": True,
    }
