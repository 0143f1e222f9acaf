"""A short chaos run on the real services: what `make chaos` does for a quarter of an hour."""

from pathlib import Path

import pytest

from tests.cluster.chaos.faults import SERVICES
from tests.cluster.chaos.run import play


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killing_and_pausing_everything_under_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    outcome = play(tmp_path, seed=20_261_126, seconds=75.0, commands=1_200, between_seconds=(1.0, 4.0))
    assert outcome.commands >= 1_200
    assert {fault.service for fault in outcome.faults} == set(SERVICES), outcome.text()
    assert (outcome.verdict.lost, outcome.verdict.doubled) == (0, 0)
    assert outcome.verdict.trades > 100
