"""A client with its key in its own custody: signs up with its own address and signs each trade before it sends it."""

import json
import secrets
from typing import Any, Final

from benchmarks.load import Request
from benchmarks.samples import single_body
from benchmarks.services import BUYER, Services
from chain.curve import address_of_secret, sign_digest
from chain.eip712 import TypedSigner, signature_hex
from domain.ids import IdSource

COMPANY: Final = "buyer-01"


class OwnWallet:
    """One user of one company."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._secret = secrets.token_bytes(32)
        self._ids = IdSource()
        self._person = services.person(COMPANY)
        services.person("").ask(
            "POST", "/v1/companies", key=f"company-{COMPANY}", json={"code": COMPANY, "name": COMPANY}
        )
        address = address_of_secret(self._secret)
        asked = {"command": "OpenWallet", "user": services.user_of(COMPANY), "address": address}
        answer = self._person.ask("POST", "/v1/typed-data", json=asked)
        document = answer["typed_data"]
        self._origin = document["message"]["book"]
        self._typed = TypedSigner(document["domain"]["chainId"], document["domain"]["verifyingContract"])
        data = {"company": COMPANY, "custody": "own", "address": address}
        proof = self._sign("WalletOpened", answer["wallet"], data, answer["nonce"], answer["deadline"])
        services.sign_up(self._person, custody="own", address=address, proof=proof)
        self._deadline: int = answer["deadline"]

    def requests(self, count: int) -> list[Request]:
        """Trades to record, each signed."""
        return [
            self._services.request("/v1/trades", self._signed(number), person=self._person) for number in range(count)
        ]

    def _signed(self, number: int) -> bytes:
        command = json.loads(single_body(number, BUYER))
        command |= {"seller": COMPANY, "trade": self._ids.uuid7()}
        signature = self._sign(
            "TradeRecorded", command["trade"], _event_data(command), self._ids.nonce(), self._deadline
        )
        return json.dumps({**command, "signature": signature}).encode()

    def _sign(
        self, event_type: str, aggregate_id: str, data: dict[str, Any], nonce: str, deadline: int
    ) -> dict[str, Any]:
        digest = self._typed.digest(event_type, self._origin, aggregate_id, data, int(nonce, 16), deadline)
        return {"deadline": deadline, "nonce": nonce, "value": signature_hex(sign_digest(self._secret, digest))}


def _event_data(command: dict[str, Any]) -> dict[str, Any]:
    """The data of the event that the command leads to, without its signature."""
    return {
        **{name: command[name] for name in ("seller", "buyer", "amount", "traded_on", "due_on")},
        **{name: command[name] for name in ("description", "reference")},
        "recorded_by": COMPANY,
        "lines": [],
        "digest": "",
    }
