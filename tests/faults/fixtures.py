"""What tests of the whole service share: one process that forks services, and a service not started yet.

A test module asks for them with `pytest_plugins = ("tests.faults.fixtures",)`. PYTEST_DONT_REWRITE: see
tests/chain_fixtures.py.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness import Service, Zygote, child_environment


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    made = Zygote(child_environment(tmp_path_factory.mktemp("compiled")))
    yield made
    made.close()


@pytest.fixture
def service(zygote: Zygote, tmp_path: Path) -> Iterator[Service]:
    """A service that is not started yet."""
    made = Service(zygote, tmp_path / "data")
    yield made
    made.end()
