"""A wallet's life, folded from its proven entries: which key was valid for it at which position."""

from collections.abc import Sequence
from dataclasses import dataclass

from daicho_verify.entry import Entry
from daicho_verify.errors import DisagreesError
from daicho_verify.messages import Domain, address, check_signature, signature_of, text

_NEXT_STATUS = {"WalletFrozen": "frozen", "WalletUnfrozen": "open", "WalletClosed": "closed"}


@dataclass(frozen=True, slots=True)
class Wallet:
    """A wallet after some of its entries: company code, custody, valid key (20 bytes), status and since when."""

    wallet_id: str
    company: str
    custody: str
    key: bytes
    status: str
    since: int

    def must_sign(self, position: int) -> None:
        """Raise DisagreesError when this wallet may sign nothing at `position`."""
        if self.status != "open":
            raise DisagreesError(
                f"wallet {self.wallet_id} is {self.status} since position {self.since}, "
                f"it may sign nothing at {position}"
            )


def _opened(entry: Entry, domain: Domain) -> Wallet:
    if entry.type != "WalletOpened":
        raise DisagreesError(f"the first wallet entry is a {entry.type}, not a WalletOpened")
    key = address(entry, "address")
    check_signature(entry, "signature", domain, entry.aggregate_id, key)
    return Wallet(entry.aggregate_id, text(entry, "company"), text(entry, "custody"), key, "open", entry.position)


def _rotated(wallet: Wallet, entry: Entry, domain: Domain) -> Wallet:
    wallet.must_sign(entry.position)
    if address(entry, "old") != wallet.key:
        raise DisagreesError(f"the rotation at position {entry.position} replaces a key that was not valid")
    first, second = signature_of(entry), signature_of(entry, "new_signature")
    if (first.nonce, first.deadline) != (second.nonce, second.deadline):
        raise DisagreesError(f"the rotation at position {entry.position} has two nonces or deadlines")
    new = address(entry, "new")
    check_signature(entry, "signature", domain, wallet.wallet_id, wallet.key)
    check_signature(entry, "new_signature", domain, wallet.wallet_id, new)
    return Wallet(wallet.wallet_id, wallet.company, wallet.custody, new, wallet.status, entry.position)


def _next(wallet: Wallet, entry: Entry, domain: Domain) -> Wallet:
    if entry.type == "WalletKeyRotated":
        return _rotated(wallet, entry, domain)
    status = _NEXT_STATUS.get(entry.type)
    if status is None:
        raise DisagreesError(f"a {entry.type} at position {entry.position} is among the wallet entries")
    if wallet.status == "closed":
        raise DisagreesError(f"wallet {wallet.wallet_id} has a {entry.type} after it was closed")
    return Wallet(wallet.wallet_id, wallet.company, wallet.custody, wallet.key, status, entry.position)


def fold(entries: Sequence[Entry], wallet_id: str, domain: Domain) -> Wallet:
    """Give the wallet after its entries (ascending, at least one), each checked; raises DisagreesError.

    The opening and both sides of every rotation must be signed. A missing entry in between shows in the versions; one
    that was left out at the end does not: only reading the whole log shows that.
    """
    wallet: Wallet | None = None
    last = 0
    for version, entry in enumerate(entries, 1):
        if not entry.known or entry.aggregate_id != wallet_id:
            raise DisagreesError(f"the entry at position {entry.position} is not one of the wallet {wallet_id}")
        if entry.position <= last or entry.version != version:
            raise DisagreesError(
                f"wallet {wallet_id}: version {version} is missing or out of place at position {entry.position}"
            )
        last = entry.position
        wallet = _opened(entry, domain) if wallet is None else _next(wallet, entry, domain)
    if wallet is None:
        raise DisagreesError(f"no entry of the wallet {wallet_id} is shown")
    return wallet
