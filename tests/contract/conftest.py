"""Each test of the writer's contract runs on every event store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.event_stores import EVENT_STORES, SqliteStore


@pytest.fixture(params=EVENT_STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqliteStore]:
    made = EVENT_STORES[request.param](tmp_path)
    yield made
    made.close()
