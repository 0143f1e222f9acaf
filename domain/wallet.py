"""Wallet: the one key of a company's user. A key is valid by position, so old trades stay verifiable."""

from typing import Literal

from domain.aggregate import Aggregate, Event, event_of
from domain.errors import NotYourCompany, WalletNotActive, WrongState
from domain.ids import wallet_id
from domain.signature import Signature, same_address, wrong_signer

Custody = Literal["custodial", "own"]


class Wallet(Aggregate):
    """Custodial: the key is sealed in our vault (proves integrity). Own: only its user has it (proves authorship)."""

    __slots__ = ("address", "company", "custody", "state", "subject")

    def __init__(self, aggregate_id: str) -> None:
        super().__init__(aggregate_id)
        self.address = self.company = self.subject = self.custody = ""
        self.state = "active"

    @classmethod
    def open(cls, subject: str, company: str, address: str, custody: Custody, signature: Signature) -> "Wallet":
        """A new wallet; the signature proves possession of its key."""
        wallet = cls(wallet_id(company, subject))
        wallet.trigger(WalletOpened(subject, company, address, custody, signature))
        return wallet

    def rotate(self, new: str, signature: Signature, new_signature: Signature) -> None:
        """Replace the key; signed by the old and by the new one."""
        self.require_active()
        if same_address(new, self.address):
            raise WrongState("the new key is the current one", wallet=self.id, address=new)
        self.trigger(WalletKeyRotated(self.address, new, signature, new_signature))

    def freeze(self, reason: str) -> None:
        """From now on the wallet signs nothing, until it is unfrozen."""
        self.require_active()
        self.trigger(WalletFrozen(reason))

    def unfreeze(self, reason: str) -> None:
        """The wallet may sign again."""
        if self.state != "frozen":
            raise WrongState(f"wallet is {self.state}, not frozen", wallet=self.id, state=self.state)
        self.trigger(WalletUnfrozen(reason))

    def close(self, reason: str) -> None:
        """The wallet signs nothing any more, for good."""
        if self.state == "closed":
            raise WrongState("wallet is closed already", wallet=self.id, state=self.state)
        self.trigger(WalletClosed(reason))

    def require_active(self) -> None:
        """Raise WalletNotActive unless the wallet may sign."""
        if self.state != "active":
            raise WalletNotActive(f"wallet {self.id} is {self.state}", wallet=self.id, state=self.state)

    def require_signer(self, company: str, signature: Signature) -> None:
        """Raise unless this wallet may sign for the company now and the signature is by its current key."""
        self.require_company(company)
        self.require_active()
        if signature.own and not same_address(signature.address, self.address):
            raise wrong_signer(self.id, self.address, signature.address)

    def require_company(self, company: str) -> None:
        """Raise NotYourCompany unless the wallet belongs to the company."""
        if self.company != company:
            raise NotYourCompany(f"wallet {self.id} is not a wallet of {company}", wallet=self.id, company=company)


@event_of(Wallet)
class WalletOpened(Event):
    """A user of a company has a key from this position on."""

    subject: str
    company: str
    address: str
    custody: Custody
    signature: Signature

    def apply(self, wallet: Wallet) -> None:
        wallet.subject, wallet.company, wallet.address = self.subject, self.company, self.address
        wallet.custody = self.custody


@event_of(Wallet)
class WalletKeyRotated(Event):
    """From this position on another key signs."""

    old: str
    new: str
    signature: Signature
    new_signature: Signature

    def apply(self, wallet: Wallet) -> None:
        wallet.address = self.new


@event_of(Wallet)
class WalletFrozen(Event):
    """The wallet may not sign for the time being."""

    reason: str

    def apply(self, wallet: Wallet) -> None:
        wallet.state = "frozen"


@event_of(Wallet)
class WalletUnfrozen(Event):
    """The wallet may sign again."""

    reason: str

    def apply(self, wallet: Wallet) -> None:
        wallet.state = "active"


@event_of(Wallet)
class WalletClosed(Event):
    """The wallet never signs again."""

    reason: str

    def apply(self, wallet: Wallet) -> None:
        wallet.state = "closed"
