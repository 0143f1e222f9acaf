"""Two attacks of a dishonest operator on a running cluster: a byte in PostgreSQL, a rewritten history for the chain."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg

from cli.demo.attacks import rewrite_history
from cli.demo.service import DemoFailed
from storage.postgres.database import Database
from storage.postgres.entry_log import PostgresEntryLog
from tests.cluster.local_cluster import LocalCluster

UPDATE = "UPDATE daicho_main.stored_events SET state = %s WHERE notification_id = %s"


def forge_as_service(cluster: LocalCluster, position: int) -> str:
    """Try it with the login of the API and the workers: PostgreSQL's refusal."""
    with psycopg.connect(cluster.database_url()) as connection:
        try:
            connection.execute(UPDATE, (b"forged", position))
        except psycopg.errors.InsufficientPrivilege as refusal:
            return str(refusal).splitlines()[0]
    raise DemoFailed("the services' login can change an entry")


@contextmanager
def one_byte_changed(cluster: LocalCluster, position: int) -> Iterator[tuple[str, str]]:
    """As the machine's owner, who comes in by the server's socket: an amount with another first digit, for a while."""
    environment = cluster["postgres"].environment
    address = {"host": environment["PGHOST"], "port": environment["PGPORT"], "dbname": environment["POSTGRES_DB"]}
    with psycopg.connect(user="postgres", autocommit=True, **address) as connection:
        query = "SELECT state FROM daicho_main.stored_events WHERE notification_id = %s"
        row = connection.execute(query, (position,)).fetchone()
        if row is None:
            raise DemoFailed(f"there is no entry {position} to tamper with")
        state = bytes(row[0])
        mark = state.index(b'"units":"') + len(b'"units":"')
        digit = state[mark] + 1 if state[mark] < ord("9") else ord("1")
        forged = state[:mark] + bytes([digit]) + state[mark + 1 :]
        connection.execute(UPDATE, (forged, position))
        end = state.index(b'"', mark)
        try:
            yield state[mark:end].decode(), forged[mark:end].decode()
        finally:
            connection.execute(UPDATE, (state, position))


def check(cluster: LocalCluster) -> tuple[int, dict[str, Any]]:
    """`daicho check` beside the cluster: its exit code and what it says."""
    done = cluster.daicho("api", "check", "--json")
    if not done.stdout.startswith("{"):
        raise DemoFailed(f"daicho check: {done.stderr}")
    said: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, said


def rewrite(cluster: LocalCluster, facts: Mapping[str, Any]) -> str:
    """Offer the contract a log in which the demo's trade is another: its refusal."""
    entries = PostgresEntryLog(Database(cluster.database_url()))
    try:
        return rewrite_history(
            cluster.rpc_url,
            entries,
            facts["origin"],
            facts["chain_id"],
            facts["contract"],
            facts["trade"]["position"],
        )
    finally:
        entries.close()
