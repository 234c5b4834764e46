"""What a task is told, for the tests of tasks."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from alit_cli.data.tables.token_table import TableInfo, TableOptions
from alit_cli.model.tokenizer import load
from alit_cli.tasks.base import Request
from tests.model import tiny

BUDGETS = (2, 4, 6, 1000, 4000)


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Request:
    """Three images of a tiny tokenizer of 5-bit tokens; the last two budgets are only there for codecs."""
    info = TableInfo(
        model="test",
        model_sha256="0" * 64,
        image_size=32,
        budgets=BUDGETS,
        codes=32,
        token_dim=4,
        fit="crop",
        precision="float32",
        batch_size=2,
        versions={},
        options=TableOptions(),
    )
    tokenizer = load(tiny.checkpoint(tmp_path_factory.mktemp("tokenizer")), "cpu")
    return Request(
        tokenizer=tokenizer, info=info, images=["a.jpg", "b.jpg", "c.jpg"], threads=ThreadPoolExecutor(2), workers=2
    )
