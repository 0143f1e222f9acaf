"""Every event type there is, by name: importing this module makes the list complete."""

from domain import (
    anchor,
    batch,
    book,
    case,
    company,
    erasure,
    purchase,
    store_identity,
    store_message,
    subscription,
    trade,
    wallet,
)
from domain.aggregate import EVENT_TYPES

__all__ = [
    "EVENT_TYPES",
    "anchor",
    "batch",
    "book",
    "case",
    "company",
    "erasure",
    "purchase",
    "store_identity",
    "store_message",
    "subscription",
    "trade",
    "wallet",
]
