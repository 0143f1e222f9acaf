"""Row 4: 32 callers, each with one command at a time: ours share commits, the library's threads take turns."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from benchmarks.ledger_rows import CONDITIONS, both
from benchmarks.naive import NaiveCompany, NaiveLedger
from benchmarks.rig import Rig
from benchmarks.rows import Budget, Goal, Row, make_row, rate, take_turns
from benchmarks.samples import OPERATOR, company_body

CALLERS = 32
SAVES = 1_280


def group_commit_row(budget: Budget) -> Row:
    """Companies registered a second. That command needs no wallet's signature: the row shows commits, not curves."""
    goal = Goal(
        "group-commit", f"{CALLERS} callers (tasks) registering companies, one at a time each (commands/s)",
        f"{CALLERS} callers (threads) of app.save (eventsourcing 9.5.6, default Aggregate, SQLite recorder)", 1.6, 5,
    )  # fmt: skip
    with both() as (naive, rig, _):
        return company_row(goal, naive, rig, budget, SAVES, CONDITIONS)


def company_row(goal: Goal, naive: NaiveLedger, rig: Rig, budget: Budget, saves: int, conditions: str) -> Row:
    """So many companies registered in a round by `CALLERS` callers: threads on the library's side, tasks on ours."""
    each = budget.count(saves, CALLERS) // CALLERS

    def save(caller: int) -> None:
        for number in range(each):
            code = f"c{caller:03d}{number:029d}"
            naive.save(NaiveCompany(code, f"Company {code}"))

    async def register(bodies: list[bytes]) -> None:
        for body in bodies:
            await rig.execute(body, OPERATOR)

    async def register_all(bodies: list[list[bytes]]) -> None:
        await asyncio.gather(*(register(part) for part in bodies))

    def ours() -> float:
        bodies = [[company_body() for _ in range(each)] for _ in range(CALLERS)]
        figure = rate(each * CALLERS, lambda: rig.run(register_all(bodies)))
        rig.run(rig.drain())
        return figure

    with ThreadPoolExecutor(CALLERS) as pool:
        base, mine = take_turns(
            budget.rounds, lambda: rate(each * CALLERS, lambda: list(pool.map(save, range(CALLERS)))), ours
        )
    return make_row(goal, base, mine, f"{conditions}; aggregates made inside the measured time on both sides")
