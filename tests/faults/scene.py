"""A ledger in which something of everything has happened, for tests that look at a finished data folder."""

import json
from typing import Any

from tests.faults.auditor import Audit
from tests.faults.harness import COMPANIES, Service, trade

CREATED = {200, 201}


def play(service: Service) -> None:
    """Single trades through all their states, batches signed once, a rotated key, a frozen wallet; all anchored."""
    first, second, third = COMPANIES[:3]
    service.sign_up(COMPANIES[:3])
    for number, (seller, buyer) in enumerate([(first, second), (second, third), (third, first)]):
        settled(service, seller, buyer, f"S-{number}")
    batch(service, first, second, [f"B-{number}" for number in range(12)])
    contested(service, first, third)
    wallets = {code: wallet_of(service, code) for code in COMPANIES[:3]}
    done(service.ask("POST", f"/v1/wallets/{wallets[second]}:rotate", company=second, key="rotate", json={}))
    settled(service, second, first, "S-after-rotation")
    done(
        service.ask(
            "POST", f"/v1/wallets/{wallets[third]}:freeze", company=third, key="freeze", json={"reason": "lost"}
        )
    )
    batch(service, second, first, [f"C-{number}" for number in range(3)])
    Audit(service).run()


def settled(service: Service, seller: str, buyer: str, reference: str) -> None:
    """Recorded, confirmed, settled in part, remarked."""
    name = done(service.record(seller, buyer, reference))["id"]
    done(service.ask("POST", f"/v1/trades/{name}:confirm", company=buyer, key=f"{reference}-confirm", json={}))
    paid = {"amount": {"currency": "JPY", "units": "2000"}, "settled_on": "2026-11-30"}
    done(service.ask("POST", f"/v1/trades/{name}:settle", company=seller, key=f"{reference}-settle", json=paid))
    note = {"note": f"thanks for {reference}"}
    done(service.ask("POST", f"/v1/trades/{name}:note", company=buyer, key=f"{reference}-note", json=note))


def contested(service: Service, seller: str, buyer: str) -> None:
    """Recorded, disputed, withdrawn, reversed."""
    name = done(service.record(seller, buyer, "X-1"))["id"]
    for company, verb in ((buyer, "dispute"), (buyer, "withdraw-dispute"), (seller, "reverse")):
        reason = {"reason": f"because of {verb}"}
        done(service.ask("POST", f"/v1/trades/{name}:{verb}", company=company, key=f"X-1-{verb}", json=reason))


def batch(service: Service, seller: str, buyer: str, references: list[str]) -> None:
    """Recorded as one signed batch, confirmed as another."""
    bodies = [{"command": "RecordTrade", **trade(seller, buyer, reference)} for reference in references]
    trades = bulk(service, seller, f"bulk-{references[0]}", bodies)
    bulk(service, buyer, f"confirm-{references[0]}", [{"command": "ConfirmTrade", "trade": name} for name in trades])


def bulk(service: Service, company: str, key: str, lines: list[dict[str, Any]]) -> list[str]:
    """Send commands as one batch; their aggregates."""
    answer = service.ask(
        "POST", "/v1/commands", company=company, key=key, params={"mode": "atomic", "sign": "batch"},
        content="".join(json.dumps(line) + "\n" for line in lines), media="application/x-ndjson",
    )  # fmt: skip
    assert answer.status_code in CREATED, answer.text
    return [json.loads(line)["id"] for line in answer.text.splitlines()[:-1]]


def wallet_of(service: Service, company: str) -> str:
    """The wallet of a company's clerk."""
    user = {"user": f"clerk@{company}.example"}
    return str(done(service.ask("POST", "/v1/users", company=company, json=user))["id"])


def done(answer: Any) -> dict[str, Any]:
    """The answer's body; fails for a refusal."""
    assert answer.status_code in CREATED, answer.text
    body: dict[str, Any] = answer.json()
    return body
