"""Who may ask for what: the checks that handlers share."""

import re
from typing import Final, TypeVar

from domain.commands import Command
from domain.errors import NotYourCompany, OperatorOnly, PersonNeeded
from domain.orders import Order

C = TypeVar("C", bound=Command)
_NOBODY: Final = "0" * 32
_PSEUDONYM: Final = re.compile(r"[0-9a-f]{32}\Z")


def require_operator(order: Order) -> None:
    """Raise OperatorOnly unless the operator asks."""
    if not order.actor.is_operator:
        raise OperatorOnly(f"{type(order.command).__name__} is for the operator", company=order.actor.company)


def require_person(order: Order) -> str:
    """The pseudonym of the operator's person who asks; OperatorOnly or, where a program asks, PersonNeeded."""
    require_operator(order)
    subject = order.actor.subject
    if subject == _NOBODY or not _PSEUDONYM.match(subject):
        raise PersonNeeded(f"{type(order.command).__name__} is for a person", command=type(order.command).__name__)
    return subject


def require_own_company(order: Order, company: str) -> None:
    """Raise NotYourCompany unless the operator or the company itself asks."""
    if not order.actor.is_operator and order.actor.company != company:
        raise NotYourCompany(f"{order.actor.company} may not act for {company}", company=order.actor.company)


def command_as(kind: type[C], order: Order) -> C:
    """The order's command, which is of that kind; TypeError when the table of handlers is wrong."""
    if not isinstance(order.command, kind):
        raise TypeError(f"{type(order.command).__name__} is not a {kind.__name__}")
    return order.command
