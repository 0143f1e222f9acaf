"""What a store's server may answer instead of what it was asked for.

StoreError
├── StoreAway       nobody answers, or the store is in trouble or asks to wait: the same call may be made again
├── StoreRefused    the store says no, and would say so again
└── PurchaseGone    the store does not know the purchase any more
"""


class StoreError(Exception):
    """Root of the tree. Messages name the call and the status, never a token or what was sent."""


class StoreAway(StoreError):
    """Passes. `retry_after_seconds` is what the store asked for, if anything."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class StoreRefused(StoreError):
    """For good: what was asked is not allowed or not understood."""


class PurchaseGone(StoreError):
    """The purchase is not known any more: at Google 60 days after it expired."""
