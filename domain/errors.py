"""Every way in which Daicho says no, as one tree.

DaichoError
├── Refusal                     the caller's doing: nothing was written, repeating it unchanged is pointless
│   ├── Malformed               the command itself is not well formed: names the field and the rule
│   │   └── EntryTooLarge       the entry would exceed 65,535 bytes
│   ├── Forbidden
│   │   ├── NotYourCompany      a command on behalf of another company
│   │   ├── NotAParty           the company is no side of the trade
│   │   ├── OperatorOnly        the operator's command from somebody else
│   │   ├── PersonNeeded        a program where one of the operator's people has to answer for it
│   │   ├── SecondPersonNeeded  a proposal approved by the person who made it
│   │   └── OtherSideNeeded     what only the other side may do
│   │       ├── CreditorNeeded      a debtor settling alone
│   │       └── BothSidesNeeded     a confirmed trade reversed by one side
│   ├── NotFound
│   │   ├── CompanyNotFound · WalletNotFound · TradeNotFound · EntryNotFound · AnchorNotFound
│   │   ├── MessageNotFound · SubscriptionNotFound
│   │   └── IdentityNotFound · PurchaseNotFound · CaseNotFound
│   ├── Conflict                the world is not as the command assumes
│   │   ├── CommandKeyReused    same key, other body
│   │   ├── AlreadyExists       a company, wallet or trade of that name exists
│   │   ├── ReferenceTaken      the recording company has used that reference
│   │   ├── NothingNew          what a command would record is known already
│   │   ├── VersionMismatch     the caller's expected version is not the current one
│   │   ├── WrongState          the aggregate's state forbids it
│   │   │   ├── CompanySuspended · WalletNotActive · TradePartlySettled
│   │   │   ├── OutcomeNotAllowed   a purchase's state knows no such outcome
│   │   │   └── AskFirst        a contract is requested again without asking for the one before
│   │   ├── LineTaken           another user has, or is buying, that line at the store
│   │   ├── AmountExceedsOpen   more than is open
│   │   ├── CurrencyMismatch    another currency than the trade's
│   │   ├── DigestMismatch      other terms than those recorded
│   │   └── BulkRejected        an atomic bulk in which another command was refused
│   └── SignatureRefused
│       ├── SignatureMissing    a wallet in own custody signs by itself
│       ├── SignatureInvalid    not a signature, or malleable
│       ├── SignatureExpired    its deadline has passed
│       ├── SignatureReplayed   its nonce has been used
│       └── WrongSigner         not by the key valid for that wallet now (or for another chain, book or contract)
└── Trouble                     our doing: nothing was written, the same command may be sent again
    ├── LedgerReadOnly          the store may be behind what was signed or anchored
    ├── StorageUnavailable      the database refuses (disk full, read-only, locked)
    ├── ClockJumped             the clock is too far from the last entry
    ├── Overloaded              the queue is full
    ├── SignerUnavailable       the signer process does not answer
    ├── ChainUnavailable        the chain does not answer
    └── NotYetVisible           the read model has not reached the position asked for in time
"""

from typing import Any


class DaichoError(Exception):
    """Root of the tree. `values` are the facts behind the message, safe to show to the caller."""

    def __init__(self, message: str, **values: Any) -> None:
        super().__init__(message)
        self.message = message
        self.values = values


class Refusal(DaichoError):
    """The caller's doing; nothing was written."""


class Malformed(Refusal):
    """Not a well-formed command. `values` hold `field` and `rule`."""


class EntryTooLarge(Malformed):
    """The entry would exceed the 65,535 bytes of a C2SP entry bundle."""


class Forbidden(Refusal):
    """The caller may not do this."""


class NotYourCompany(Forbidden):
    """A command on behalf of another company."""


class NotAParty(Forbidden):
    """The company is no side of the trade."""


class OperatorOnly(Forbidden):
    """The operator's command from somebody else."""


class PersonNeeded(Forbidden):
    """One of the operator's people has to answer for this, under a pseudonym of his own."""


class SecondPersonNeeded(Forbidden):
    """Who has proposed an action does not approve it."""


class OtherSideNeeded(Forbidden):
    """Only the other side of the trade may do this."""


class CreditorNeeded(OtherSideNeeded):
    """A debtor may propose a settlement; the creditor settles."""


class BothSidesNeeded(OtherSideNeeded):
    """A confirmed trade is reversed by both sides: one proposes, the other reverses."""


class NotFound(Refusal):
    """No such thing (or none that the caller may see)."""


class CompanyNotFound(NotFound):
    """No company of that code."""


class WalletNotFound(NotFound):
    """No such wallet."""


class TradeNotFound(NotFound):
    """No such trade."""


class EntryNotFound(NotFound):
    """No entry at that position."""


class AnchorNotFound(NotFound):
    """No such anchor."""


class MessageNotFound(NotFound):
    """No such message of a store."""


class SubscriptionNotFound(NotFound):
    """No such subscription."""


class IdentityNotFound(NotFound):
    """Nobody has ever been bound to that subscription."""


class PurchaseNotFound(NotFound):
    """No such purchase."""


class CaseNotFound(NotFound):
    """No such case."""


class Conflict(Refusal):
    """The world is not as the command assumes."""


class CommandKeyReused(Conflict):
    """The command key was used before with another body."""


class AlreadyExists(Conflict):
    """A company, wallet or trade of that name exists."""


class ReferenceTaken(Conflict):
    """The recording company has used that reference."""


class NothingNew(Conflict):
    """What the command would record is known already."""


class VersionMismatch(Conflict):
    """The expected version is not the current one."""


class WrongState(Conflict):
    """The aggregate's state forbids it."""


class CompanySuspended(WrongState):
    """A suspended company signs nothing."""


class WalletNotActive(WrongState):
    """A frozen or closed wallet signs nothing."""


class TradePartlySettled(WrongState):
    """A trade with settlements is not reversed; record a counter trade."""


class OutcomeNotAllowed(WrongState):
    """A purchase in that state knows no such outcome."""


class AskFirst(WrongState):
    """A contract may exist already: the billing system is asked before another one is requested."""


class LineTaken(Conflict):
    """Another user has, or is buying, that line at the store."""


class AmountExceedsOpen(Conflict):
    """More than is open."""


class CurrencyMismatch(Conflict):
    """Another currency than the trade's."""


class DigestMismatch(Conflict):
    """Other terms than those recorded."""


class BulkRejected(Conflict):
    """Another command of the atomic bulk was refused, so this one was not done either."""


class SignatureRefused(Refusal):
    """The authorship proof does not hold."""


class SignatureMissing(SignatureRefused):
    """A wallet in own custody signs by itself."""


class SignatureInvalid(SignatureRefused):
    """Not a signature, or a malleable one."""


class SignatureExpired(SignatureRefused):
    """The signature's deadline has passed."""


class SignatureReplayed(SignatureRefused):
    """The signature's nonce has been used by this wallet."""


class WrongSigner(SignatureRefused):
    """Signed by another key than the wallet's, or for another chain, book or contract."""


class Trouble(DaichoError):
    """Our doing; nothing was written, the same command may be sent again."""


class LedgerReadOnly(Trouble):
    """The store may be behind what was signed or anchored."""


class StorageUnavailable(Trouble):
    """The database refuses: disk full, read-only, locked."""


class ClockJumped(Trouble):
    """The clock is too far from the last entry."""


class Overloaded(Trouble):
    """The queue is full."""


class SignerUnavailable(Trouble):
    """The signer process does not answer."""


class ChainUnavailable(Trouble):
    """The chain does not answer."""


class NotYetVisible(Trouble):
    """The read model has not reached the position asked for in time."""
