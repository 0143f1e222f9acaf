"""The story that all fixtures tell: two companies, three wallets, seven trades."""

from typing import Any

from tests.vectors.verifier.book import Data
from tests.vectors.verifier.oracle import seed, uid, wallet_key
from tests.vectors.verifier.proofs import PublicBook

AOZORA, KAEDE = "aozora-foods", "kaede-trading"
WALLET_A, WALLET_B, WALLET_C = uid("wallet a"), uid("wallet b"), uid("wallet c")
KEY_A, KEY_A2, KEY_B, KEY_C = (wallet_key(label) for label in ("key a", "key a2", "key b", "key c"))
TRADES = [uid(f"trade {n}") for n in range(1, 8)]
AMOUNT = {"currency": "JPY", "units": "5000"}


def opened(**options: Any) -> PublicBook:
    """Positions 1 to 6: the book, two companies, three wallets (C belongs to A's company)."""
    book = PublicBook(**options)
    book.open_book()
    book.register(AOZORA)
    book.register(KAEDE)
    book.open_wallet(WALLET_A, AOZORA, KEY_A)
    book.open_wallet(WALLET_B, KAEDE, KEY_B, "custodial")
    book.open_wallet(WALLET_C, AOZORA, KEY_C)
    return book


def terms(number: int) -> Data:
    return PublicBook.terms(AOZORA, AOZORA, KAEDE, 12_000 * number, f"INV-{number:04d}")


def by(company: str, number: int, **more: Any) -> Data:
    """The common part of a later trade event."""
    return {"by": company, "digest": terms(number)["digest"], **more}


def recorded(**options: Any) -> PublicBook:
    """Position 7: trade 1 recorded by A."""
    book = opened(**options)
    book.trade("TradeRecorded", TRADES[0], terms(1), AOZORA, WALLET_A, KEY_A)
    return book


def story(**options: Any) -> PublicBook:
    """The whole story, 28 entries: every signed event type, a rotation, a batch, a freeze, a close."""
    book = recorded(**options)
    b = (KAEDE, WALLET_B, KEY_B)
    book.trade("TradeConfirmed", TRADES[0], by(KAEDE, 1), *b)  # 8
    book.rotate(WALLET_A, AOZORA, KEY_A, KEY_A2)  # 9
    a = (AOZORA, WALLET_A, KEY_A2)
    attachments = [{"name": "納品書.pdf", "sha256": seed("file").hex()}]
    book.trade("TradeNoteAdded", TRADES[0], by(AOZORA, 1, note="納品済み", attachments=attachments), *a)  # 10
    book.batch([(TRADES[n - 1], terms(n)) for n in range(2, 7)], *a)  # 11, 12 to 16
    book.trade("TradeDisputed", TRADES[1], by(KAEDE, 2, reason="数量が違う"), *b)  # 17
    book.trade("TradeDisputeWithdrawn", TRADES[1], by(KAEDE, 2, reason="確認した"), *b)  # 18
    book.trade("TradeConfirmed", TRADES[1], by(KAEDE, 2), *b)  # 19
    book.trade("TradeSettlementProposed", TRADES[1], by(KAEDE, 2, amount=AMOUNT, settled_on="2026-12-01"), *b)  # 20
    book.trade("TradeSettled", TRADES[1], by(AOZORA, 2, amount=AMOUNT, settled_on="2026-12-01"), *a)  # 21
    book.trade("TradeReversalProposed", TRADES[2], by(KAEDE, 3, reason="取消"), *b)  # 22
    book.trade("TradeReversed", TRADES[2], by(AOZORA, 3, reason="取消"), *a)  # 23
    book.wallet_event("WalletFrozen", WALLET_B)  # 24
    book.wallet_event("WalletUnfrozen", WALLET_B)  # 25
    book.trade("TradeConfirmed", TRADES[3], by(KAEDE, 4), *b)  # 26
    book.wallet_event("WalletClosed", WALLET_B)  # 27
    book.append("CompanySuspended", "Company", uid(KAEDE), {"code": KAEDE, "reason": "unpaid"})  # 28
    return book


def long_book(entries: int) -> PublicBook:
    """The opening, and companies up to the given number of entries."""
    book = opened()
    for n in range(entries - len(book.raw)):
        book.append("CompanyRegistered", "Company", uid(f"many {n}"), {"code": f"c-{n}", "name": "Many"})
    return book
