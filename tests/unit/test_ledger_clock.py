"""The ledger's clock: never back, never a jump, and it forgives a clock that is set right again."""

import pytest

from domain.entry import format_time, parse_time
from domain.errors import ClockJumped
from storage.clock import LedgerClock


class Machine:
    """A machine whose clock can be set."""

    def __init__(self) -> None:
        self.elapsed = 5000.0
        self.wrong = 0.0
        self.clock = LedgerClock(60, lambda: 1_800_000_000 + self.elapsed + self.wrong, lambda: self.elapsed)

    def later(self, seconds: float) -> "Machine":
        self.elapsed += seconds
        return self

    def next(self, last: str = "") -> str:
        return self.clock.next_time(last)


def seconds_between(one: str, other: str) -> float:
    return (parse_time(other) - parse_time(one)).total_seconds()


def test_time_passes() -> None:
    machine = Machine()
    first = machine.next()
    assert seconds_between(first, machine.later(2.5).next(first)) == 2.5


@pytest.mark.parametrize("pause", [1.0, 3600.0, 86_400.0 * 30])
def test_a_long_silence_is_no_jump(pause: float) -> None:
    machine = Machine()
    first = machine.next()
    assert seconds_between(first, machine.later(pause).next(first)) == pause


def test_a_jump_forward_is_refused_until_the_clock_is_set_right() -> None:
    machine = Machine()
    last = machine.next()
    machine.wrong = 61
    for _ in range(3):
        with pytest.raises(ClockJumped, match="forward by 61 s") as refused:
            machine.later(10).next(last)
    assert refused.value.values == {"jump_seconds": 61}
    machine.wrong = 0
    assert seconds_between(last, machine.next(last)) == 30


def test_a_jump_back_behind_the_last_entry_is_refused_until_the_clock_is_set_right() -> None:
    machine = Machine()
    last = machine.next()
    machine.wrong = -100
    with pytest.raises(ClockJumped, match="90 s behind the last entry") as refused:
        machine.later(10).next(last)
    assert refused.value.values == {"jump_seconds": -90}
    machine.wrong = 0
    assert seconds_between(last, machine.next(last)) == 10


def test_a_small_step_back_repeats_the_last_time_until_it_is_reached() -> None:
    machine = Machine()
    last = machine.next()
    machine.wrong = -30
    assert machine.later(10).next(last) == last
    assert machine.later(19).next(last) == last
    assert seconds_between(last, machine.later(2).next(last)) == 1


def test_a_clock_set_back_during_a_silence_may_be_set_right_again() -> None:
    machine = Machine()
    last = machine.next()
    machine.wrong = -300
    earlier = machine.later(1000).next(last)
    machine.wrong = 0
    assert seconds_between(earlier, machine.later(1).next(earlier)) == 301
    machine.wrong = 61
    with pytest.raises(ClockJumped):
        machine.next(earlier)


def test_small_steps_do_not_add_up_to_a_refusal() -> None:
    machine = Machine()
    last = machine.next()
    for _ in range(10):
        machine.wrong += 50
        last = machine.later(1).next(last)


def test_the_first_entry_of_a_log_has_the_wall_clocks_time() -> None:
    machine = Machine()
    assert parse_time(machine.next()).timestamp() == 1_800_005_000


def test_the_real_clock_serves_by_default() -> None:
    clock = LedgerClock()
    first = clock.next_time("")
    assert clock.next_time(first) >= first
    assert format_time(parse_time(first)) == first


def test_a_clock_that_is_behind_the_store_at_the_start_is_refused() -> None:
    machine = Machine()
    future = format_time(parse_time(machine.next()).replace(year=2099))
    with pytest.raises(ClockJumped, match="behind the last entry"):
        Machine().next(future)
