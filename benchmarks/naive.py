"""The baseline's ledger: the eventsourcing library as shipped (default Aggregate, JSON transcoder, SQLite recorder).

Its SQLite settings are the library's own: WAL and synchronous FULL, as ours.
"""

# ruff: noqa: ARG002 -- the library reads an event's fields from the signature

from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import psycopg
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event


class NaiveTrade(Aggregate):
    """A trade with the fields of ours, and the one rule that its confirmation needs."""

    @event("Recorded")
    def __init__(
        self,
        seller: str,
        buyer: str,
        recorded_by: str,
        units: str,
        currency: str,
        traded_on: str,
        due_on: str,
        description: str,
        lines: list[dict[str, str]],
        reference: str,
        wallet: str,
        signature: str,
    ) -> None:
        self.seller, self.buyer, self.recorded_by = seller, buyer, recorded_by
        self.units, self.currency = int(units), currency
        self.state = "recorded"

    def confirm(self, by: str, wallet: str, signature: str) -> None:
        """Agree, as the side that did not record it."""
        if self.state != "recorded" or by == self.recorded_by:
            raise ValueError(self.state)
        self._confirm(by, wallet, signature)

    @event("Confirmed")
    def _confirm(self, by: str, wallet: str, signature: str) -> None:
        self.state = "confirmed"


class NaiveCompany(Aggregate):
    """A company."""

    @event("Registered")
    def __init__(self, code: str, name: str) -> None:
        self.code, self.name = code, name


class NaiveLedger(Application[UUID]):
    """Saves trades one by one."""

    env: ClassVar[dict[str, str]] = {"PERSISTENCE_MODULE": "eventsourcing.sqlite"}

    @classmethod
    def at(cls, path: Path) -> "NaiveLedger":
        """In a file."""
        return cls({"SQLITE_DBNAME": str(path)})

    @classmethod
    def on(cls, conninfo: str) -> "NaiveLedger":
        """In a PostgreSQL database, with a connection for every caller."""
        return cls({**postgres_environment(conninfo), "POSTGRES_POOL_SIZE": "40"})


def postgres_environment(conninfo: str, prefix: str = "") -> dict[str, str]:
    """How the library finds a PostgreSQL database; `prefix` is the name of a projection."""
    found = psycopg.conninfo.conninfo_to_dict(conninfo)
    names = {"DBNAME": "dbname", "HOST": "host", "PORT": "port", "USER": "user", "PASSWORD": "password"}
    environment = {f"{prefix}POSTGRES_{ours}": str(found.get(theirs, "")) for ours, theirs in names.items()}
    return {"PERSISTENCE_MODULE": "eventsourcing.postgres", **environment}


def trade_fields(number: int) -> dict[str, Any]:
    """The fields of a trade that both sides store: what `samples.record_body` asks ours to record."""
    return {
        "seller": f"seller-{number % 20:02d}",
        "buyer": f"buyer-{number % 31:02d}",
        "recorded_by": f"seller-{number % 20:02d}",
        "units": "123450",
        "currency": "JPY",
        "traded_on": "2026-10-22",
        "due_on": "2026-12-31",
        "description": "10 pallets of cement, delivered",
        "lines": [],
        "reference": f"INV-{number:07d}",
        "wallet": "5d0a5b8e-9a35-5d0f-8a4f-1c7e52f03e8b",
        "signature": "0x" + "ab" * 65,
    }
