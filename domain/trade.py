"""Trade between two companies: one side records, the other confirms.

    recorded ──confirm (other side)──▶ confirmed ──settle (creditor), until nothing is open──▶ settled
       └──reverse (recorder alone)──▶ reversed ◀──reverse (one side proposes, the other reverses)──┘

While one side disputes it, a trade can only be noted, or reversed by its recorder before confirmation.
"""

from domain.aggregate import Aggregate, event_of
from domain.errors import (
    AmountExceedsOpen,
    BothSidesNeeded,
    CreditorNeeded,
    DigestMismatch,
    Malformed,
    NotAParty,
    OtherSideNeeded,
    TradePartlySettled,
    WrongState,
)
from domain.money import Money
from domain.signature import Signature
from domain.trade_events import (
    Attachment,
    Terms,
    TradeConfirmed,
    TradeDisputed,
    TradeDisputeWithdrawn,
    TradeNoteAdded,
    TradeRecorded,
    TradeReversalProposed,
    TradeReversed,
    TradeSettled,
    TradeSettlementProposed,
)


class Trade(Aggregate):
    """A receivable of the seller and a payable of the buyer, once both have signed."""

    __slots__ = (
        "amount",
        "buyer",
        "digest",
        "disputed_by",
        "open",
        "recorded_by",
        "reversal_by",
        "seller",
        "state",
    )

    amount: Money

    def __init__(self, aggregate_id: str) -> None:
        super().__init__(aggregate_id)
        self.seller = self.buyer = self.recorded_by = self.digest = self.state = ""
        self.disputed_by = self.reversal_by = ""
        self.open = 0

    @classmethod
    def record(cls, trade_id: str, terms: Terms, digest: str, signature: Signature) -> "Trade":
        """A new trade, recorded by one of its two sides."""
        if terms.seller == terms.buyer:
            raise Malformed("a company does not trade with itself", field="buyer", rule="differs from seller")
        if terms.recorded_by not in {terms.seller, terms.buyer}:
            raise NotAParty(
                f"{terms.recorded_by} is neither seller nor buyer", company=terms.recorded_by, trade=trade_id
            )
        if not terms.amount.minor:
            raise Malformed("a trade has an amount above zero", field="amount.units", rule="above zero")
        trade = cls(trade_id)
        t = terms
        trade.trigger(
            TradeRecorded(
                t.seller, t.buyer, t.recorded_by, t.amount, t.traded_on, t.due_on, t.description, t.lines, t.reference,
                digest, signature,
            )
        )  # fmt: skip
        return trade

    def confirm(self, by: str, signature: Signature) -> None:
        """The side that did not record it agrees."""
        self.require_party(by)
        self._require_state("recorded")
        self._require_undisputed()
        if by == self.recorded_by:
            raise OtherSideNeeded(
                f"{by} recorded the trade; the other side confirms it",
                company=by,
                trade=self.id,
                needed=self.other(by),
            )
        self.trigger(TradeConfirmed(by, self.digest, signature))

    def dispute(self, by: str, reason: str, signature: Signature) -> None:
        """Either side contests it, as long as it is neither settled nor reversed."""
        self.require_party(by)
        self._require_state("recorded", "confirmed")
        self._require_undisputed()
        self.trigger(TradeDisputed(by, self.digest, reason, signature))

    def withdraw_dispute(self, by: str, reason: str, signature: Signature) -> None:
        """The side that disputed it no longer does."""
        self.require_party(by)
        if not self.disputed_by:
            raise WrongState("the trade is not disputed", trade=self.id, state=self.state)
        if by != self.disputed_by:
            raise OtherSideNeeded(
                f"{self.disputed_by} disputed the trade and withdraws it",
                company=by,
                trade=self.id,
                needed=self.disputed_by,
            )
        self.trigger(TradeDisputeWithdrawn(by, self.digest, reason, signature))

    def propose_settlement(self, by: str, amount: Money, settled_on: str, signature: Signature) -> None:
        """The debtor says it has paid."""
        self.require_party(by)
        self._require_settleable(amount)
        if by != self.buyer:
            raise OtherSideNeeded(
                f"{by} is the creditor and settles directly", company=by, trade=self.id, needed=self.buyer
            )
        self.trigger(TradeSettlementProposed(by, self.digest, amount, settled_on, signature))

    def settle(self, by: str, amount: Money, settled_on: str, signature: Signature) -> None:
        """The creditor has received it; partial amounts are allowed, never more than is open."""
        self.require_party(by)
        self._require_settleable(amount)
        if by != self.seller:
            raise CreditorNeeded(
                f"{by} owes the amount; only {self.seller} settles (propose a settlement instead)",
                company=by,
                trade=self.id,
                needed=self.seller,
            )
        self.trigger(TradeSettled(by, self.digest, amount, settled_on, signature))

    def propose_reversal(self, by: str, reason: str, signature: Signature) -> None:
        """One side asks the other to undo a confirmed trade."""
        self.require_party(by)
        self._require_state("confirmed")
        self._require_undisputed()
        self._require_unsettled()
        if self.reversal_by == by:
            raise WrongState(f"{by} has proposed the reversal already", trade=self.id, state=self.state)
        self.trigger(TradeReversalProposed(by, self.digest, reason, signature))

    def reverse(self, by: str, reason: str, signature: Signature) -> None:
        """Undo it: the recorder alone before confirmation; afterwards the side that did not propose it."""
        self.require_party(by)
        self._require_state("recorded", "confirmed")
        if self.state == "recorded":
            if by != self.recorded_by:
                raise OtherSideNeeded(
                    f"before confirmation only {self.recorded_by} reverses (dispute it instead)",
                    company=by,
                    trade=self.id,
                    needed=self.recorded_by,
                )
        else:
            self._require_undisputed()
            self._require_unsettled()
            if self.reversal_by != self.other(by):
                raise BothSidesNeeded(
                    f"a confirmed trade is reversed by both sides: {self.other(by)} has not proposed it",
                    company=by,
                    trade=self.id,
                    needed=self.other(by),
                )
        self.trigger(TradeReversed(by, self.digest, reason, signature))

    def add_note(self, by: str, note: str, attachments: tuple[Attachment, ...], signature: Signature) -> None:
        """Either side adds a remark, in any state."""
        self.require_party(by)
        self.trigger(TradeNoteAdded(by, self.digest, note, attachments, signature))

    # -- guards ------------------------------------------------------------------------------------------------------

    def other(self, company: str) -> str:
        """The other side's code."""
        return self.buyer if company == self.seller else self.seller

    def require_party(self, company: str) -> None:
        """Raise NotAParty unless the company is one of the two sides."""
        if company not in {self.seller, self.buyer}:
            raise NotAParty(f"{company} is no party of the trade", company=company, trade=self.id)

    def require_digest(self, digest: str | None) -> None:
        """Raise DigestMismatch when the caller saw other terms than those recorded."""
        if digest is not None and digest != self.digest:
            raise DigestMismatch(
                "the digest is not that of the recorded terms",
                trade=self.id,
                expected=self.digest,
                given=digest,
            )

    def _require_state(self, *states: str) -> None:
        if self.state not in states:
            raise WrongState(
                f"the trade is {self.state}, not {' or '.join(states)}",
                trade=self.id,
                state=self.state,
                needed=list(states),
            )

    def _require_undisputed(self) -> None:
        if self.disputed_by:
            raise WrongState(f"the trade is disputed by {self.disputed_by}", trade=self.id, state="disputed")

    def _require_unsettled(self) -> None:
        if self.open != self.amount.minor:
            raise TradePartlySettled(
                "part of the trade is settled; record a counter trade instead",
                trade=self.id,
                state=self.state,
            )

    def _require_settleable(self, amount: Money) -> None:
        self._require_state("confirmed")
        self._require_undisputed()
        self.amount.same_currency(amount)
        if not amount.minor:
            raise Malformed("a settlement has an amount above zero", field="amount.units", rule="above zero")
        if amount.minor > self.open:
            raise AmountExceedsOpen(
                f"{amount} is more than the open {Money.of(amount.currency, self.open)}",
                trade=self.id,
                open=str(self.open),
                given=amount.units,
            )


for _event in (
    TradeRecorded,
    TradeConfirmed,
    TradeDisputed,
    TradeDisputeWithdrawn,
    TradeSettlementProposed,
    TradeSettled,
    TradeReversalProposed,
    TradeReversed,
    TradeNoteAdded,
):
    event_of(Trade)(_event)
