"""One leader at a time: killed, paused, cut off or restarted with its database, and how the next one takes over."""

import threading
import time
from collections.abc import Iterator

import pytest

from storage.postgres.leader import Leadership
from storage.postgres.processor_status import ProcessorStatusTable
from storage.postgres.wakeups import Wakeups
from tests.postgres_server import PostgresServer, TestDatabase

SOON = 20.0


@pytest.fixture
def two(database: TestDatabase) -> Iterator[tuple[Leadership, Leadership]]:
    made = (
        Leadership(database.writer, "relay", lease_seconds=2.0),
        Leadership(database.writer, "relay", lease_seconds=2.0),
    )
    yield made
    for each in made:
        each.release()


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + SOON
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_of_two_one_leads_and_the_other_takes_over_when_it_is_released(two: tuple[Leadership, Leadership]) -> None:
    one, other = two
    assert one.acquire(1.0)
    assert one.held()
    assert not other.acquire(0.3)
    assert not other.held()
    one.release()
    assert not one.held()
    assert other.acquire(SOON)


def test_different_names_and_books_do_not_meet(database: TestDatabase) -> None:
    leaders = [Leadership(database.writer, name) for name in ("relay", "sequencer")]
    assert all(leader.acquire(1.0) for leader in leaders)
    for leader in leaders:
        leader.release()


def test_a_leader_whose_session_ends_goes_on_if_nobody_was_faster(
    two: tuple[Leadership, Leadership], database: TestDatabase
) -> None:
    one, _ = two
    assert one.acquire(1.0)
    with database.owner.connect("fault") as owner:
        owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%leader relay'"
        )
    time.sleep(2.5)
    assert one.held()
    assert not one.lost


def test_a_leader_whose_session_was_ended_leads_no_more_before_its_next_renewal(database: TestDatabase) -> None:
    one = Leadership(database.writer, "relay", lease_seconds=60.0)
    assert one.acquire(1.0)
    one._ending.set()  # no renewal that could find out
    assert one.held()
    with database.owner.connect("fault") as owner:
        owner.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE '%leader relay'"
        )
    wait_for(lambda: not one.held())
    one.release()


def test_a_killed_leader_is_followed_at_once(two: tuple[Leadership, Leadership]) -> None:
    one, other = two
    assert one.acquire(1.0)
    one._ending.set()  # its process is gone: nothing renews any more, and its connection ends
    one._drop()
    assert other.acquire(SOON)
    assert other.held()


def test_a_paused_leader_loses_its_session_and_knows_it_when_it_wakes(two: tuple[Leadership, Leadership]) -> None:
    one, other = two
    assert one.acquire(1.0)
    one._ending.set()  # it sleeps: nothing renews, its connection stays open
    assert other.acquire(SOON)
    assert not one.held()
    one._ending.clear()
    one._renew_on()
    assert one.lost
    assert other.held()


def test_a_restarted_database_leaves_the_leader_in_office() -> None:
    with PostgresServer() as server:
        database = server.new_database()
        one = Leadership(database.writer, "relay")
        assert one.acquire(1.0)
        server.kill9()
        server.start()
        wait_for(lambda: one._connection is not None and not one._connection.closed)
        wait_for(one.held)
        assert not one.lost
        one.release()


# ---- wake-ups


def test_the_newest_number_of_each_channel_is_told_and_what_was_missed_is_looked_for() -> None:
    with PostgresServer() as server:
        database = server.new_database()
        heard: dict[str, int] = {}
        looked = threading.Semaphore(0)
        wakeups = Wakeups(
            database.writer,
            {"events": lambda number: heard.update(events=number), "work": lambda number: heard.update(work=number)},
            on_connected=[looked.release],
        )
        wakeups.start()
        assert looked.acquire(timeout=SOON)
        assert wakeups.alive
        with database.writer.connect("notify") as connection:
            for number in (1, 2, 17):
                connection.execute("SELECT pg_notify('daicho_main.events', %s)", (str(number),))
            connection.execute("SELECT pg_notify('daicho_main.work', '')")
        wait_for(lambda: heard == {"events": 17, "work": 0})
        server.kill9()
        wait_for(lambda: not wakeups.alive)
        server.start()
        assert looked.acquire(timeout=SOON)
        with database.writer.connect("notify") as connection:
            connection.execute("SELECT pg_notify('daicho_main.events', '18')")
        wait_for(lambda: heard["events"] == 18)
        wakeups.stop()


def test_a_listener_that_fails_does_not_end_the_listening(database: TestDatabase) -> None:
    heard: list[int] = []

    def fail_first(number: int) -> None:
        heard.append(number)
        if len(heard) == 1:
            raise RuntimeError("once")

    connected = threading.Event()
    wakeups = Wakeups(database.writer, {"events": fail_first}, on_connected=[connected.set])
    wakeups.start()
    assert connected.wait(SOON)
    with database.writer.connect("notify") as connection:
        for number in (1, 2):
            connection.execute("SELECT pg_notify('daicho_main.events', %s)", (str(number),))
            wait_for(lambda number=number: number in heard)
    wakeups.stop()


def test_workers_reports_are_overwritten_and_bounded(database: TestDatabase) -> None:
    table = ProcessorStatusTable(database.writer)
    table.report("projector", 5, 2, "running", "", "host:1")
    table.report("projector", 6, 0, "failed", "x" * 10_000, "host:2")
    (row,) = table.rows()
    assert (row["name"], row["position"], row["state"], row["worker"]) == ("projector", 6, "failed", "host:2")
    assert len(row["error"]) == 500
    table.close()
