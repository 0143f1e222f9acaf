"""The human queue: what no program may decide. One person proposes, another one approves."""

from functools import partial
from typing import Any

import msgspec

from api import examples as x
from api.auth import OPERATOR
from api.commanding import Commanding
from api.context import Context
from api.errors import NoSuchResource
from api.http import Answer, Call, json_answer
from api.operations import Body, Operation, Success
from api.params import ID, LIMIT, MIN_POSITION, POSITION
from api.shapes import CommandAnswer
from api.strict import Strict
from domain import errors as e
from domain.case import Case, CaseState
from domain.purchase_commands import ApproveCaseAction, Detail, ProposeCaseAction, WithdrawCaseAction
from domain.purchase_table import Action
from projections import store_lines


class CaseAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A case. `about` is an aggregate's id, `evidence` hashes of payloads or positions of entries."""

    id: str
    kind: str
    state: str
    about: str
    opened_because: str
    evidence: list[str]
    action: Action | None
    reason: str
    proposed_by: str
    version: int


class CasePage(msgspec.Struct, frozen=True, kw_only=True):
    """Cases in the order in which they were opened. `next_after` is the position to go on behind, null at the end."""

    items: list[CaseAnswer]
    next_after: int | None


class Propose(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say what is to be done. Skipping a step needs a reason."""

    action: Action
    reason: Detail = ""


class Approve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Agree to what another person has proposed, which is `action`."""

    action: Action


class Cases:
    """The operations on cases, for the operator's people."""

    def __init__(self, context: Context, commanding: Commanding) -> None:
        self._context, self._commanding = context, commanding
        self._propose: Strict[Propose] = Strict(Propose)
        self._approve: Strict[Approve] = Strict(Approve)

    def rows(self) -> list[Operation]:
        """The table."""
        case = {
            "id": x.PURCHASE, "kind": "saga_parked", "state": "open", "about": x.PURCHASE,
            "opened_because": "start: BillingUnknown", "evidence": ["9f" * 32], "action": None, "reason": "",
            "proposed_by": "", "version": 1,
        }  # fmt: skip
        shared: dict[str, Any] = {"tag": "cases", "scopes": frozenset({OPERATOR})}
        decided: dict[str, Any] = {
            **shared, "method": "POST", "path_params": (ID,), "headers": ("Idempotency-Key", "If-Match"),
            "success": Success("done", CommandAnswer, x.COMMAND_ANSWER),
            "problems": (e.CaseNotFound, e.WrongState, e.PersonNeeded, e.SecondPersonNeeded, e.CommandKeyReused,
                         e.VersionMismatch, e.OperatorOnly),
        }  # fmt: skip
        return [
            Operation(
                method="GET", path="/v1/cases", handler=self.listed, summary="List what waits for people",
                query=(POSITION.named("after", "go on behind this position"), LIMIT, MIN_POSITION),
                success=Success("cases that are not closed", CasePage, {"items": [case], "next_after": None}),
                problems=(NoSuchResource, e.NotYetVisible), **shared,
            ),
            Operation(
                method="GET", path="/v1/cases/{id}", handler=self.one, summary="Get a case", path_params=(ID,),
                success=Success("the case", CaseAnswer, case), problems=(NoSuchResource, e.CaseNotFound), **shared,
            ),
            Operation(
                path="/v1/cases/{id}:propose", handler=self.propose, summary="Say what is to be done",
                body=Body((Propose,), {"action": "retry", "reason": ""}), **decided,
            ),
            Operation(
                path="/v1/cases/{id}:approve", handler=self.approve, summary="Agree to what another person proposed",
                body=Body((Approve,), {"action": "retry"}), **decided,
            ),
            Operation(
                path="/v1/cases/{id}:withdraw", handler=self.withdraw, summary="Take a proposal back", **decided,
            ),
        ]  # fmt: skip

    async def listed(self, call: Call) -> Answer:
        """Cases that are not closed."""
        load = self._load()
        await self._context.reads.reach(call.args["min_position"])
        after, limit = call.args["after"] or 0, call.args["limit"]
        items: list[CaseAnswer] = []
        while len(items) < limit:
            rows = await self._context.reads.ask(partial(store_lines.cases_after, position=after, limit=100))
            for position, about in rows:
                after = position
                found = await load(about)
                if isinstance(found, Case) and found.state is not CaseState.CLOSED:
                    items.append(_shown(found))
                if len(items) == limit:
                    return json_answer(CasePage(items=items, next_after=after))
            if not rows:
                break
        return json_answer(CasePage(items=items, next_after=None))

    async def one(self, call: Call) -> Answer:
        """One case."""
        found = await self._load()(call.path["id"])
        if not isinstance(found, Case):
            raise e.CaseNotFound(f"no case {call.path['id']}", case=call.path["id"])
        return json_answer(_shown(found))

    async def propose(self, call: Call) -> Answer:
        """Say what is to be done."""
        wanted = self._propose.decode(await self._commanding.body(call))
        command = ProposeCaseAction(case=call.path["id"], action=wanted.action, reason=wanted.reason)
        return await self._commanding.execute(call, command)

    async def approve(self, call: Call) -> Answer:
        """Agree to it."""
        wanted = self._approve.decode(await self._commanding.body(call))
        return await self._commanding.execute(call, ApproveCaseAction(case=call.path["id"], action=wanted.action))

    async def withdraw(self, call: Call) -> Answer:
        """Take it back."""
        return await self._commanding.execute(call, WithdrawCaseAction(case=call.path["id"]))

    def _load(self) -> Any:
        support = self._context.services.support
        if support is None:
            raise NoSuchResource("no store is set up here")
        return support.load


def _shown(case: Case) -> CaseAnswer:
    return CaseAnswer(
        id=case.id, kind=case.kind, state=case.state, about=case.about, opened_because=case.opened_because,
        evidence=list(case.evidence), action=case.action, reason=case.reason, proposed_by=case.proposed_by,
        version=case.version,
    )  # fmt: skip
