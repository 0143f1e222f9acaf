"""Batch: many commands signed at once. `BatchSigned` stands in the log right before the entries that it signs."""

from domain.aggregate import Aggregate, Event, event_of
from domain.signature import Signature


class Batch(Aggregate):
    """One signature over the RFC 6962 root of its entries' signed contents."""

    __slots__ = ("count", "root", "wallet")

    def __init__(self, aggregate_id: str) -> None:
        super().__init__(aggregate_id)
        self.wallet, self.root, self.count = "", "", 0

    @classmethod
    def sign(cls, batch_id: str, company: str, root: str, count: int, signature: Signature) -> "Batch":
        """A new batch of `count` entries under `root` (64 hex digits)."""
        batch = cls(batch_id)
        batch.trigger(BatchSigned(signature.wallet, company, root, count, signature))
        return batch


@event_of(Batch)
class BatchSigned(Event):
    """A wallet has signed the `count` entries that follow at once."""

    wallet: str
    company: str
    root: str
    count: int
    signature: Signature

    def apply(self, batch: Batch) -> None:
        batch.wallet, batch.root, batch.count = self.wallet, self.root, self.count
