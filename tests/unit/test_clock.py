"""The ledger's clock: time never decreases along the positions, and a jump is refused until it is explained."""

import pytest

from domain.entry import format_time, parse_time
from domain.errors import ClockJumped
from storage.clock import LedgerClock

START = 1_800_000_000.0


class Machine:
    """A wall clock that may be set, beside the time that really passes."""

    def __init__(self) -> None:
        self.wall, self.elapsed = START, 50.0
        self.clock = LedgerClock(60.0, lambda: self.wall, lambda: self.elapsed)
        self.last = ""

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.elapsed += seconds

    def stamp(self) -> float:
        """The time of the next entry, in seconds since the start."""
        moment = self.clock.next_time(self.last)
        assert moment >= self.last
        self.last = moment
        return round(parse_time(moment).timestamp() - START, 6)


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_entries_get_the_time_of_the_wall_clock(machine: Machine) -> None:
    machine.passes(1.5)
    assert machine.stamp() == 1.5
    machine.passes(3600 * 24 * 40)
    assert machine.stamp() == 1.5 + 3600 * 24 * 40, "a long pause is no jump"


def test_times_are_utc_with_microseconds(machine: Machine) -> None:
    assert machine.clock.next_time("") == "2027-01-15T08:00:00.000000Z"
    assert len(machine.clock.next_time("")) == 27


def test_a_clock_set_back_a_little_repeats_the_last_time_until_it_has_caught_up(machine: Machine) -> None:
    machine.passes(10)
    assert machine.stamp() == 10
    machine.wall -= 5
    assert machine.stamp() == 10
    machine.passes(4)
    assert machine.stamp() == 10
    machine.passes(2)
    assert machine.stamp() == 11


@pytest.mark.parametrize("jump", [-61.0, -3600.0, -1e8])
def test_a_clock_set_far_back_is_refused_until_it_is_right_again(machine: Machine, jump: float) -> None:
    machine.stamp()
    machine.wall += jump
    for _ in range(3):
        with pytest.raises(ClockJumped, match="behind the last entry") as refused:
            machine.stamp()
        assert refused.value.values["jump_seconds"] == pytest.approx(jump, abs=0.1)
        machine.passes(0.01)
    machine.wall -= jump
    assert machine.stamp() == pytest.approx(0.03)


@pytest.mark.parametrize("jump", [61.0, 3600.0, 1e8])
def test_a_clock_set_far_forward_is_refused_until_it_is_right_again(machine: Machine, jump: float) -> None:
    machine.stamp()
    machine.wall += jump
    for _ in range(3):
        with pytest.raises(ClockJumped, match="jumped forward") as refused:
            machine.stamp()
        assert refused.value.values["jump_seconds"] == pytest.approx(jump)
        machine.passes(1)
    machine.wall -= jump
    assert machine.stamp() == 3


def test_a_jump_within_the_limit_is_taken_and_small_ones_do_not_add_up_to_a_free_pass(machine: Machine) -> None:
    machine.wall += 59
    assert machine.stamp() == 59
    machine.wall += 59
    assert machine.stamp() == 118, "measured from the last time that was given"
    machine.wall += 61
    with pytest.raises(ClockJumped):
        machine.stamp()


def test_a_clock_set_back_and_right_again_is_no_jump_forward(machine: Machine) -> None:
    machine.passes(100)
    machine.stamp()
    machine.wall -= 50
    assert machine.stamp() == 100
    machine.passes(10)
    machine.wall += 50
    assert machine.stamp() == 110


def test_a_restart_accepts_a_wanted_change_forward_but_none_behind_the_last_entry() -> None:
    last = format_time(parse_time("2027-01-15T08:00:00.000000Z"))
    assert LedgerClock(60.0, lambda: START + 1e6, lambda: 0.0).next_time(last) > last
    with pytest.raises(ClockJumped):
        LedgerClock(60.0, lambda: START - 1e6, lambda: 0.0).next_time(last)


def test_an_empty_log_takes_whatever_time_it_is() -> None:
    assert LedgerClock(60.0, lambda: 0.0, lambda: 9.0).next_time("") == "1970-01-01T00:00:00.000000Z"
