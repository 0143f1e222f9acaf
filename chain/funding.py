"""Coins for the publisher on a development chain, whose node keeps unlocked accounts full of them."""

from typing import Any, Final

from chain.connection import Connection, failures
from chain.errors import NodeRefusedError

ENOUGH_WEI: Final = 10**18  # a coin: some ten thousand anchors at a development chain's fees
_RECEIPT_TIMEOUT_SECONDS: Final = 60.0


def fund_from_node(connection: Connection, address: str, wei: int = 10 * ENOUGH_WEI) -> bool:
    """Send `wei` from the node's first unlocked account to an address that has not enough; True when it was done.

    A node without unlocked accounts (any real one) does nothing. A crash after it was sent: the next call finds the
    balance. Raises ChainUnavailableError, NodeRefusedError.
    """
    if connection.balance(address) >= ENOUGH_WEI:
        return False
    accounts = _unlocked(connection)
    if not accounts:
        return False
    with failures():
        eth: Any = connection.web3.eth
        sent = eth.send_transaction({"from": accounts[0], "to": address, "value": wei})
        receipt = eth.wait_for_transaction_receipt(sent, timeout=_RECEIPT_TIMEOUT_SECONDS)
    if receipt["status"] != 1:
        raise NodeRefusedError(0, f"the funding of {address} failed")
    return True


def _unlocked(connection: Connection) -> list[str]:
    """The accounts that the node signs for; none where it says that it has no such method."""
    try:
        with failures():
            return list(connection.web3.eth.accounts)
    except NodeRefusedError:
        return []
