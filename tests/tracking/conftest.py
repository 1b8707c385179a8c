"""A tracking server of its own process, one for the tests of a module."""

from collections.abc import Iterator

import pytest

from tests.tracking.servers import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    one = Server(tmp_path_factory.mktemp("server"))
    one.start()
    yield one
    one.kill()
