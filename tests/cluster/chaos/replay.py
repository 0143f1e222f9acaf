"""The acknowledged commands once more, one after the other, on an embedded ledger of its own."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.chaos.load import COMPANIES, Request, post, read_answer
from tests.faults.harness import Service, Zygote, child_environment, running


def replayed(scratch: Path, requests: Sequence[Request]) -> tuple[list[bytes], dict[str, Any]]:
    """Every entry's bytes, and each company's balances, after the requests were done serially in this order."""
    from tests.cluster.chaos.audit import plain_balances

    compiled = scratch / "compiled"
    compiled.mkdir()
    zygote = Zygote(child_environment(compiled))
    service = Service(zygote, scratch / "replay")
    with contextlib.closing(zygote), running(service):
        tokens = {code: service.token(code) for code in ("", *COMPANIES)}
        head = asyncio.run(_send(service.url, tokens, requests))
        balances = {}
        for code in COMPANIES:
            answer = service.ask("GET", "/v1/balances", company=code, params={"min_position": str(head)})
            balances[code] = plain_balances(answer.json()["items"])
        file = f"file:{service.folder.ledger}?mode=ro"
        connection = sqlite3.connect(file, uri=True)
        states = [row[0] for row in connection.execute("SELECT state FROM stored_events ORDER BY rowid")]
        connection.close()
    return states, balances


async def _send(url: str, tokens: dict[str, str], requests: Sequence[Request]) -> int:
    head = 0
    async with httpx.AsyncClient(timeout=60.0) as http:
        for request in requests:
            response = await post(http, url, tokens, request)
            assert response is not None
            entries = read_answer(request, response)
            head = max([head, *(position for position, _ in entries)])
    return head
