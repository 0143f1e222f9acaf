"""The mutable rows that a fold changes, in column order of `schema.py`.

They are read back as JSON arrays in one step (`bulk.py`), hence `array_like`.
"""

from typing import Final

import msgspec


class CompanyRow(msgspec.Struct, array_like=True):
    """A row of `companies`."""

    position: int
    id: str
    code: str
    name: str
    registered_at: str
    state: str
    reason: str
    version: int
    last_position: int
    updated_at: str


class WalletRow(msgspec.Struct, array_like=True):
    """A row of `wallets`; `keys` holds (address, valid from position)."""

    position: int
    id: str
    company: str
    subject: str
    custody: str
    opened_at: str
    address: str
    state: str
    reason: str
    keys: list[tuple[str, int]]
    version: int
    last_position: int
    updated_at: str


class TradeTerms(msgspec.Struct, frozen=True, gc=False):
    """The columns of `trades` that never change and that no fold reads."""

    recorded_by: str
    traded_on: str
    description: str
    reference: str


class Pending(msgspec.Struct, omit_defaults=True, gc=False):
    """What one side has said about a trade and the other has not answered yet; "" for nothing.

    `proposed` is the settlement that the debtor claims, in minor units; `reversal_by` who proposed to reverse it.
    """

    dispute_reason: str = ""
    proposed: str = ""
    proposed_by: str = ""
    proposed_on: str = ""
    reversal_by: str = ""

    def settle(self) -> None:
        """Nothing is proposed any more."""
        self.proposed = self.proposed_by = self.proposed_on = ""


NOTHING_PENDING: Final = Pending()


class TradeRow(msgspec.Struct, array_like=True, gc=False):
    """What events change in `trades`, with the terms they need for it."""

    position: int
    id: str
    seller: str
    buyer: str
    currency: str
    amount: int
    state: str
    open: int
    disputed_by: str
    pending: Pending | None
    last_position: int


class BalanceRow(msgspec.Struct, array_like=True, gc=False):
    """A pair's row of `balances`, seen from the lesser code; `units` is a decimal of any size."""

    company: str
    counterparty: str
    currency: str
    units: str
    position: int
    pair: int


class AnchorRow(msgspec.Struct, array_like=True):
    """A row of `anchors`."""

    id: str
    chain_id: int
    contract: str
    log_id: str
    nonce: int
    size: int
    root: str
    tx_hash: str
    state: str
    block_number: int | None
    block_hash: str | None
    block_time: int | None
    log_index: int | None
    gas_used: int | None
    reason: str
    independent: int
    version: int
    first_position: int
    last_position: int
    submitted_at: str
    updated_at: str
