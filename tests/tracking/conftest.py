"""A tracking server in its own process, one per test module."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tracking.servers import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Server]:
    one = Server(tmp_path_factory.mktemp("server"), empty_store)
    one.start()
    yield one
    one.kill()
