"""Companies: admitted, suspended and resumed by the operator; everybody with a token may know who takes part."""

from functools import partial
from typing import Any

from api import examples as x
from api.auth import OPERATOR
from api.commanding import Commanding
from api.context import Context
from api.http import Answer, Call, json_answer
from api.operations import ANYBODY, Body, Operation, Success
from api.params import CODE, CURSOR, DRY_RUN, LIMIT, MIN_POSITION, etag
from api.shapes import CommandAnswer, PageOf
from api.strict import CommandBody
from domain import commands as c
from domain import errors as e
from projections import queries
from projections.views import CompanyView

_OPERATOR = frozenset({OPERATOR})
_KEYED = ("Idempotency-Key",)


class Companies:
    """The operations on companies."""

    def __init__(self, context: Context, commanding: Commanding) -> None:
        self._context = context
        self._commanding = commanding
        self._register = CommandBody(c.RegisterCompany)
        self._suspend = CommandBody(c.SuspendCompany, "code")
        self._resume = CommandBody(c.ResumeCompany, "code")

    def rows(self) -> list[Operation]:
        """The table."""
        one = "/v1/companies/{code}"
        done = Success("done; the entry and its promise", CommandAnswer, x.COMMAND_ANSWER)
        change: dict[str, Any] = {
            "method": "POST", "tag": "companies", "scopes": _OPERATOR, "path_params": (CODE,), "query": (DRY_RUN,),
            "headers": (*_KEYED, "If-Match"), "success": done,
            "problems": (e.CompanyNotFound, e.WrongState, e.VersionMismatch, e.CommandKeyReused),
        }  # fmt: skip
        return [
            Operation(
                method="POST", path="/v1/companies", handler=self.register, summary="Admit a company", tag="companies",
                scopes=_OPERATOR, query=(DRY_RUN,), headers=_KEYED,
                body=Body((self._register.kind,), {"code": "aozora-foods", "name": "Aozora Foods K.K."}),
                success=Success("registered", CommandAnswer, x.COMMAND_ANSWER, 201),
                problems=(e.AlreadyExists, e.CommandKeyReused),
            ),
            Operation(
                method="GET", path="/v1/companies", handler=self.list, summary="List the companies", tag="companies",
                scopes=ANYBODY, query=(LIMIT, CURSOR, MIN_POSITION),
                success=Success("in order of registration", PageOf[CompanyView],
                                {"items": [x.COMPANY_VIEW], "next": None}),
                problems=(e.NotYetVisible,),
            ),
            Operation(
                method="GET", path=one, handler=self.get, summary="Get a company", tag="companies", scopes=ANYBODY,
                path_params=(CODE,), query=(MIN_POSITION,),
                success=Success("the company", CompanyView, x.COMPANY_VIEW),
                problems=(e.CompanyNotFound, e.NotYetVisible),
            ),
            Operation(
                path=f"{one}:suspend", handler=partial(self._change, self._suspend),
                summary="Stop a company from signing", body=Body((self._suspend.kind,), {"reason": "licence expired"}),
                **change,
            ),
            Operation(
                path=f"{one}:resume", handler=partial(self._change, self._resume), summary="Let a company sign again",
                body=Body((self._resume.kind,), {"reason": "licence renewed"}), **change,
            ),
        ]  # fmt: skip

    async def register(self, call: Call) -> Answer:
        """Admit a company."""
        command = self._register.decode(await self._commanding.body(call))
        answer = await self._commanding.execute(call, command, versioned=False)
        if not call.args["dry_run"]:
            answer.status = 201
            answer.headers.append((b"location", f"/v1/companies/{command.code}".encode()))
        return answer

    async def _change(self, body: CommandBody[c.SuspendCompany] | CommandBody[c.ResumeCompany], call: Call) -> Answer:
        raw = await self._commanding.body(call)
        return await self._commanding.execute(call, body.decode(raw, code=call.path["code"]))

    async def list(self, call: Call) -> Answer:
        """List companies."""
        reads, args = self._context.reads, call.args
        await reads.reach(args["min_position"])
        cursors = self._context.cursors
        after = cursors.take(args["cursor"], "companies")
        page = await reads.ask(lambda store: queries.companies(store, after=after, limit=args["limit"]))
        return json_answer(PageOf(page.items, cursors.give(page.next, "companies")))

    async def get(self, call: Call) -> Answer:
        """Get one company."""
        code = call.path["code"]
        await self._context.reads.reach(call.args["min_position"])
        found = await self._context.reads.ask(lambda store: queries.company(store, code))
        if found is None:
            raise e.CompanyNotFound(f"no company {code!r}", company=code)
        return json_answer(found, headers=[(b"etag", etag(found.version))])
