"""Balances: what a company is owed and owes, per counterparty and currency, now or as it was."""

from typing import Any

from api import examples as x
from api.auth import Caller
from api.context import Context
from api.http import Answer, Call, json_answer
from api.operations import Operation, Success
from api.params import AS_OF, CODE, CURRENCY, MIN_POSITION, bad
from api.routes.trades import READ
from api.shapes import Balances as Shown
from domain import errors as e
from projections import balances
from projections.views import Money


class Balances:
    """The query on balances."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def rows(self) -> list[Operation]:
        """The table."""
        item = {"company": "aozora-foods", "counterparty": "kaede-trading", "balance": x.MONEY, "position": 17}
        example = {"company": "aozora-foods", "items": [item], "totals": [x.MONEY]}
        return [
            Operation(
                method="GET", path="/v1/balances", handler=self.get, summary="Get a company's balances", tag="balances",
                description="Above zero the company is owed, below zero it owes. Every balance is somebody else's with "
                "the sign turned, so all companies together sum to zero at every position.",
                scopes=READ,
                query=(CODE.named("company", "whose (needed unless the token names one)"),
                       CODE.named("counterparty", "with this company only"), CURRENCY, AS_OF, MIN_POSITION),
                success=Success("the balances", Shown, example), problems=(e.NotYetVisible,),
            )
        ]  # fmt: skip

    async def get(self, call: Call) -> Answer:
        """A company's balances and totals."""
        caller: Caller = call.caller
        args, viewer = call.args, caller.viewer
        company = args["company"] or viewer
        if company is None:
            raise bad("company", "required, since the token names no company")
        if viewer not in {None, company}:
            raise e.NotYourCompany(f"{viewer} may not read the balances of {company}", company=viewer)
        whose: str = company
        await self._context.reads.reach(args["min_position"])
        await self._context.reads.reach_moment(args["as_of"])

        def question(connection: Any) -> Shown:
            items = balances.balances(
                connection,
                viewer,
                whose,
                counterparty=args["counterparty"],
                currency=args["currency"],
                as_of=args["as_of"],
            )
            sums: dict[str, int] = {}
            for item in items:
                money = item.balance
                sums[money.currency] = sums.get(money.currency, 0) + int(money.units)
            return Shown(whose, items, [Money(code, str(units)) for code, units in sorted(sums.items())])

        return json_answer(await self._context.reads.ask(question))
