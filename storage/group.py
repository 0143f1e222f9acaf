"""A group in the making: who waits for it, what was decided, what it is going to store."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from domain.desk import Desk
from domain.entry import CommandRef
from domain.errors import DaichoError
from domain.orders import Answer, Decided, KnownCommand, Line, Order, Parcel, Unit
from storage.claims import ClaimRow, claim_rows, command_row
from storage.sealing import EventRow


@dataclass(slots=True)
class Waiting:
    """A request: its units, and where its answers go."""

    units: list[Unit]
    future: asyncio.Future[list[list[Answer]]]


@dataclass(slots=True)
class Group:
    """A group in work: the requests it answers, the desk it was decided at, the lines per unit."""

    waiting: list[Waiting]
    desk: Desk | None = None
    lines: list[list[Line]] = field(default_factory=list)
    first: dict[int, int] = field(default_factory=dict)
    decided: list[Decided] = field(default_factory=list)
    size: int = 0
    started: float = 0.0
    rows: list[EventRow] = field(default_factory=list)
    cursor: Any = None
    moment: str = ""
    known: dict[str, KnownCommand] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    forced: dict[CommandRef, DaichoError] = field(default_factory=dict)

    def units(self) -> list[Unit]:
        """All of them, in order."""
        return [unit for request in self.waiting for unit in request.units]

    def orders(self) -> list[Order]:
        """All of them, in order."""
        return [order for unit in self.units() for order in unit.orders]

    def claims(self) -> list[ClaimRow]:
        """What the decided orders take: their command keys and whatever is unique."""
        rows: list[ClaimRow] = []
        for decided in self.decided:
            first, ref = self.first[id(decided)], decided.order.ref
            rows.append(command_row(ref.key, ref.body, first, len(decided.entries)))
            rows += claim_rows(decided.claims, first)
        return rows

    def parcels(self) -> list[tuple[int, Parcel]]:
        """What came with the decided orders, each with the position of the entry that tells of it."""
        return [
            (self.first[id(decided)], decided.order.parcel)
            for decided in self.decided
            if decided.order.parcel is not None and decided.entries
        ]
