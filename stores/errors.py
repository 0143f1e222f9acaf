"""What a store's server, or the billing system, may answer instead of what it was asked for.

StoreError
├── StoreAway       nobody answers, or the store is in trouble or asks to wait: the same call may be made again
├── StoreRefused    the store says no, and would say so again
└── PurchaseGone    the store does not know the purchase any more
BillingError
├── BillingAway     surely nothing was done: nobody answers, or it is under maintenance
├── BillingUnknown  it may have been done or not: ask before it is tried again
└── BillingRefused  for good, with the billing system's own code
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


class BillingError(Exception):
    """Root of the billing system's. Messages name the call and the status, never what was sent."""


class BillingAway(BillingError):
    """Surely nothing was done. `retry_after_seconds` is what the billing system asked for, if anything."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class BillingUnknown(BillingError):
    """It may have been done or not."""


class BillingRefused(BillingError):
    """For good. `code` is the billing system's word for why."""

    def __init__(self, code: str) -> None:
        super().__init__(f"the billing system refuses: {code}")
        self.code = code
