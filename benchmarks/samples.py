"""The companies, users and commands that the measurements use."""

import datetime as dt
import json
from typing import Any, Final

from domain.entry import Actor
from domain.ids import IdSource

ORIGIN: Final = "daicho.invalid/benchmarks"
CHAIN_ID: Final = 20_260
CONTRACT: Final = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
SELLER: Final = "seller-00"
BUYERS: Final = tuple(f"buyer-{number:02d}" for number in range(31))
OPERATOR: Final = Actor("", "00" * 16)
_ids = IdSource()


def user_of(company: str) -> Actor:
    """The one user of a company, by a pseudonym that is a function of its code."""
    return Actor(company, company.encode().hex().ljust(32, "0")[:32])


def record_body(number: int, buyer: str = "") -> bytes:
    """A command to record a trade, as a client sends it: the fields that `naive.trade_fields` saves."""
    return json.dumps({"command": "RecordTrade", **_trade(number, buyer)}).encode()


def single_body(number: int, buyer: str) -> bytes:
    """The same as the body of a request of its own."""
    return json.dumps(_trade(number, buyer)).encode()


def _trade(number: int, buyer: str) -> dict[str, Any]:
    return {
        "seller": SELLER,
        "buyer": buyer or BUYERS[number % len(BUYERS)],
        "amount": {"currency": "JPY", "units": "123450"},
        "traded_on": dt.date(2026, 10, 22).isoformat(),
        "due_on": dt.date(2026, 12, 31).isoformat(),
        "description": "10 pallets of cement, delivered",
        "reference": f"INV-{_ids.uuid7()}",
    }


def company_body() -> bytes:
    """A command to register a company that nobody has registered before."""
    code = f"c{_ids.random128()}"
    return json.dumps({"command": "RegisterCompany", "code": code, "name": f"Company {code}"}).encode()


def confirm_body(trade: str) -> bytes:
    """A command to confirm a trade."""
    return json.dumps({"command": "ConfirmTrade", "trade": trade}).encode()


def command_key() -> str:
    """A fresh command key, as the clients of this project make them."""
    return _ids.uuid7()
