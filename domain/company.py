"""Company: registered, suspended and resumed by the operator. It precedes wallets and trades."""

from domain.aggregate import Aggregate, Event, event_of
from domain.errors import CompanySuspended as SuspendedError
from domain.errors import WrongState
from domain.ids import company_id


class Company(Aggregate):
    """A company that trades, known by its code everywhere."""

    __slots__ = ("code", "name", "suspended")

    def __init__(self, aggregate_id: str) -> None:
        super().__init__(aggregate_id)
        self.code = self.name = ""
        self.suspended = False

    @classmethod
    def register(cls, code: str, name: str) -> "Company":
        """A new company."""
        company = cls(company_id(code))
        company.trigger(CompanyRegistered(code, name))
        return company

    def suspend(self, reason: str) -> None:
        """From now on the company signs nothing."""
        if self.suspended:
            raise WrongState(f"company {self.code} is suspended already", company=self.code, state="suspended")
        self.trigger(CompanySuspended(self.code, reason))

    def resume(self, reason: str) -> None:
        """The company may sign again."""
        if not self.suspended:
            raise WrongState(f"company {self.code} is not suspended", company=self.code, state="active")
        self.trigger(CompanyResumed(self.code, reason))

    def require_active(self) -> None:
        """Raise CompanySuspended unless the company may act."""
        if self.suspended:
            raise SuspendedError(f"company {self.code} is suspended", company=self.code, state="suspended")


@event_of(Company)
class CompanyRegistered(Event):
    """The operator has admitted a company."""

    code: str
    name: str

    def apply(self, company: Company) -> None:
        company.code, company.name = self.code, self.name


@event_of(Company)
class CompanySuspended(Event):
    """The operator has stopped a company from signing."""

    code: str
    reason: str

    def apply(self, company: Company) -> None:
        company.suspended = True


@event_of(Company)
class CompanyResumed(Event):
    """The operator lets a company sign again."""

    code: str
    reason: str

    def apply(self, company: Company) -> None:
        company.suspended = False
