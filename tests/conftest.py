"""For all tests: no promise depends on how busy the machine is or on what another test module has imported."""

import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.kafka_broker import KafkaBroker, NamedBroker, shared_broker
from tests.postgres_server import TestDatabase, shared_server

settings.register_profile("daicho", deadline=None)  # speed is measured in benchmarks/, not here
settings.load_profile("daicho")

SERVICE_RECURSION_LIMIT = 1_000  # py-evm raises it twelvefold when it is imported; only the node's process imports it


@pytest.fixture(autouse=True)
def _recursion_limit() -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(SERVICE_RECURSION_LIMIT)
    yield
    sys.setrecursionlimit(before)


@pytest.fixture
def database() -> Iterator[TestDatabase]:
    """A database of its own on the run's PostgreSQL."""
    made = shared_server().new_database()
    yield made
    made.drop()


@pytest.fixture
def broker() -> KafkaBroker | NamedBroker:
    """The run's Kafka, for tests that do it no harm: its `bootstrap`; names of books and topics by `new_name`."""
    return shared_broker()
