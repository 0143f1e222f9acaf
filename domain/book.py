"""Book: the ledger itself. Its first entry fixes where it is anchored and which keys sign for it."""

import msgspec

from domain.aggregate import Aggregate, Event, event_of
from domain.ids import book_id


class PreviousHead(msgspec.Struct, frozen=True):
    """The head of the log that this one succeeds."""

    origin: str
    size: int
    root: str


class Book(Aggregate):
    """One ledger, one book, one log."""

    __slots__ = ("chain_id", "contract")

    def __init__(self, aggregate_id: str) -> None:
        super().__init__(aggregate_id)
        self.chain_id, self.contract = 0, ""

    @classmethod
    def open(
        cls,
        origin: str,
        *,
        chain_id: int,
        contract: str,
        log_key: str,
        promise_key: str,
        previous: PreviousHead | None = None,
    ) -> "Book":
        """A new book: position 1 of its log."""
        book = cls(book_id(origin))
        book.trigger(BookOpened(chain_id, contract, log_key, promise_key, previous))
        return book


@event_of(Book)
class BookOpened(Event):
    """The chain and contract of its anchors and signatures, and the public keys (C2SP vkeys) of log and promises."""

    chain_id: int
    contract: str
    log_key: str
    promise_key: str
    previous: PreviousHead | None

    def apply(self, book: Book) -> None:
        book.chain_id, book.contract = self.chain_id, self.contract
