"""A whole ledger behind the real API, in one process: real ledger, stores, projections and sequencer; software keys.

Everything is as `cli` wires it, but that keys lie in memory and that the processors are fed at each commit, so a test
never waits for a thread. `House.request` is synchronous: it runs the house's own event loop until the answer is there.
"""

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import httpx
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.accounts import Accounts, KeyRotation
from api.app import create_app
from api.services import Services
from api.settings import ApiSettings
from api.signing import TypedData
from chain.authorship import TypedVerifier
from chain.curve import address_of_secret, sign_digest
from chain.eip712 import TypedSigner, signature_hex
from domain.authorship import Authorship, Signed, Unsigned
from domain.commands import OpenBook
from domain.entry import Actor
from domain.errors import SignerUnavailable
from domain.ledger import Ledger
from domain.orders import Order
from merkle.notes import Ed25519Signer, join_note
from projections.anchor_projector import AnchorProjector
from projections.projector import Projector
from projections.store import ReadStore
from projections.waiting import PositionBoard
from storage.clock import LedgerClock
from storage.entry_log import SqliteEntryLog
from storage.log_store import SqliteLogStore
from storage.sqlite_recorder import LedgerRecorder
from storage.writer import GroupWriter
from streams.sequencer import Sequencer

ORIGIN = "daicho.invalid/3f9c3f9c3f9c3f9c"
CHAIN_ID = 20_260
CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
ISSUER, AUDIENCE, KID = "https://issuer.invalid", "daicho", "first"
COMPANY_SCOPES = "trade:write trade:read wallet:write purchase:write"


class SoftwareKeys:
    """Keeper of wallet keys in memory: the domain's Signer and `api.accounts.WalletKeys`, as the signer process is."""

    def __init__(self, origin: str = ORIGIN) -> None:
        self.typed = TypedSigner(CHAIN_ID, CONTRACT)
        self.origin = origin
        self.secrets: dict[str, list[bytes]] = {}
        self.rotated: dict[tuple[str, str], bytes] = {}
        self.away = False

    def digest(self, event: str, aggregate: str, data: Mapping[str, Any], nonce: str, deadline: int) -> bytes:
        return self.typed.digest(event, self.origin, aggregate, data, int(nonce, 16), deadline)

    async def sign(self, messages: Sequence[Unsigned]) -> list[Signed]:
        self._reachable()
        signed = []
        for m in messages:
            secret = next(s for s in self.secrets[m.wallet] if address_of_secret(s) == m.address)
            digest = self.digest(m.event_type, m.aggregate_id, m.data, m.nonce, m.deadline)
            signed.append(Signed(address_of_secret(secret), signature_hex(sign_digest(secret, digest))))
        return signed

    async def create(self, wallet: str) -> str:
        self._reachable()
        return address_of_secret(self.secrets.setdefault(wallet, [secrets.token_bytes(32)])[0])

    async def prove(self, wallet: str, company: str, nonce: str, deadline: int) -> str:
        self._reachable()
        secret = self.secrets[wallet][0]
        data = {"company": company, "custody": "custodial", "address": address_of_secret(secret)}
        return signature_hex(sign_digest(secret, self.digest("WalletOpened", wallet, data, nonce, deadline)))

    async def rotate(self, wallet: str, old: str, nonce: str, deadline: int) -> KeyRotation:
        self._reachable()
        fresh = self.rotated.setdefault((wallet, nonce), secrets.token_bytes(32))
        before = next(secret for secret in self.secrets[wallet] if address_of_secret(secret) == old)
        if fresh not in self.secrets[wallet]:
            self.secrets[wallet].append(fresh)
        new = address_of_secret(fresh)
        digest = self.digest("WalletKeyRotated", wallet, {"old": old, "new": new}, nonce, deadline)
        return KeyRotation(new, signature_hex(sign_digest(before, digest)), signature_hex(sign_digest(fresh, digest)))

    def _reachable(self) -> None:
        if self.away:
            raise SignerUnavailable("the signer does not answer")


class OwnWallet:
    """A key that only its user has."""

    def __init__(self) -> None:
        self.secret = secrets.token_bytes(32)
        self.address = address_of_secret(self.secret)

    def sign(self, answer: Mapping[str, Any], **domain: Any) -> dict[str, Any]:
        """Sign a typed-data answer with eth-account, as a browser's wallet would; `domain` forges its domain."""
        from eth_account import Account
        from eth_account.messages import encode_typed_data

        document = json.loads(json.dumps(answer["typed_data"]))
        document["domain"] |= domain
        message = document["message"]
        for field in document["types"][document["primaryType"]]:
            if field["type"] == "uint256":
                message[field["name"]] = int(message[field["name"]])
        signed = Account.sign_message(encode_typed_data(full_message=document), self.secret)
        return {"deadline": answer["deadline"], "nonce": answer["nonce"], "value": "0x" + signed.signature.hex()}


class Pseudonyms:
    """Pseudonyms in memory."""

    def __init__(self) -> None:
        self.of: dict[tuple[str, str], str] = {}
        self.asked = 0

    async def pseudonym(self, company: str, subject: str) -> str:
        self.asked += 1
        return self.of.setdefault((company, subject), secrets.token_hex(16))

    async def known(self, company: str, subject: str) -> str | None:
        return self.of.get((company, subject))


class Memory:
    """`api.accounts.Memory` over ledger and writer."""

    def __init__(self, ledger: Ledger, writer: GroupWriter) -> None:
        self.load, self.known, self.receipt_of = ledger.load, writer.known, writer.receipt_of


class Promises:
    """The promise key."""

    publish_by_seconds = 60.0

    def __init__(self, signer: Ed25519Signer) -> None:
        self.signer = signer

    async def sign(self, text: bytes) -> bytes:
        return join_note(text, [self.signer.sign(text)])


class Anchoring:
    """Remembers who asked."""

    def __init__(self) -> None:
        self.asked: list[Actor] = []

    async def request_now(self, actor: Actor) -> dict[str, Any]:
        self.asked.append(actor)
        return {"requested_size": 1}


class Rpc:
    """A chain that says back what it was asked; `answer` stands in for its result."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.head = "0x64"

    async def call(self, payload: bytes) -> bytes:
        asked = json.loads(payload)
        self.seen.append(asked)
        result = self.head if asked["method"] == "eth_blockNumber" else asked
        return json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}).encode()


class Health:
    """What the hosts would say."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.rows: list[dict[str, Any]] = [
            {"name": "projector", "position": 3, "lag": 0, "state": "running", "error": ""}
        ]

    def readiness(self) -> list[str]:
        return self.reasons

    def processors(self) -> list[dict[str, Any]]:
        return self.rows


class House:
    """The whole of it. Close it at the end. `more` makes further services, once the ledger is there."""

    def __init__(
        self, folder: Path, *, more: "Callable[[House], dict[str, Any]] | None" = None, **settings: Any
    ) -> None:
        self.runner = asyncio.Runner()
        self.run = self.runner.run
        self.folder = folder
        self.keys, self.pseudonyms = SoftwareKeys(), Pseudonyms()
        self.issuer = Ed25519PrivateKey.generate()
        self.jwks = folder / "jwks.json"
        self.write_jwks({KID: self.issuer})
        self.log_signer = Ed25519Signer.from_seed(ORIGIN, secrets.token_bytes(32))
        self.promise_signer = Ed25519Signer.from_seed(f"{ORIGIN}/promise", secrets.token_bytes(32))
        self.projecting = True
        self._ledger_side()
        self._stream_side()
        self.anchoring, self.rpc, self.health = Anchoring(), Rpc(), Health()
        accounts = Accounts(
            ORIGIN, self.ledger, Memory(self.ledger, self.writer), self.entries, self.pseudonyms, self.keys
        )
        typed = TypedData(ORIGIN, CHAIN_ID, CONTRACT, self.ledger.authorship)
        self.services = Services(
            origin=ORIGIN, ledger=self.ledger, entries=self.entries, log_view=self.sequencer.view,
            read_store=self.store, board=self.board, promises=Promises(self.promise_signer), users=accounts,
            anchoring=self.anchoring, chain_rpc=self.rpc, health=self.health, typed_data=typed,
            group_listeners=self.writer.on_group, **({} if more is None else more(self)),
        )  # fmt: skip
        self.settings = ApiSettings(**{
            "issuer": ISSUER, "audience": AUDIENCE, "cursor_secret": secrets.token_bytes(32), "jwks_file": self.jwks,
            "wait_seconds": 0.2, "jwks_pause_seconds": 0.0, **settings,
        })  # fmt: skip
        self.app = cast("Any", create_app(self.services, self.settings))
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=True)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://daicho.invalid")
        self.tokens: dict[str, str] = {}
        self._keys_used = 0

    def _ledger_side(self) -> None:
        path = self.folder / "ledger.db"
        self.ledger = Ledger({"SQLITE_DBNAME": str(path)})
        recorder = cast("LedgerRecorder", self.ledger.recorder)
        recorder.bind(ORIGIN, LedgerClock())
        self.entries = SqliteEntryLog(path)
        self.writer = GroupWriter(recorder, self.entries, self.ledger)
        authorship = Authorship(ORIGIN, self.ledger.load, self.keys, TypedVerifier(ORIGIN, CHAIN_ID, CONTRACT))
        self.ledger.connect(self.writer, authorship)

    def _stream_side(self) -> None:
        self.log_store = SqliteLogStore(self.folder / "log.db")
        self.sequencer = Sequencer(ORIGIN, self.log_store, self.log_signer)
        self.store = ReadStore(self.folder / "read.db")
        self.board = PositionBoard()
        self.projector = Projector(self.store, self.board.publish)
        self.anchor_projector = AnchorProjector(self.store, (CHAIN_ID,))
        self.writer.on_commit.append(self.feed)
        command = OpenBook(
            chain_id=CHAIN_ID, contract=CONTRACT, log_key=str(self.log_signer.key),
            promise_key=str(self.promise_signer.key),
        )  # fmt: skip
        self.run(self.ledger.execute(Order.of(ORIGIN, command, Actor("", "00" * 16), "open book")))

    # -- what goes on beside the API ---------------------------------------------------------------------------------

    def feed(self, _head: int) -> None:
        """Let the processors take what is new."""
        for processor in (self.projector, self.sequencer):
            if processor is self.projector and not self.projecting:
                continue
            while records := self.entries.read(processor.position()[0] + 1, 1000):
                processor.process(records)

    def catch_up(self) -> None:
        """Project what was held back."""
        self.projecting = True
        self.feed(0)

    def publish(self) -> None:
        """Sign and show the log's head."""
        self.sequencer.publish(datetime.now(UTC))

    def write_jwks(self, keys: Mapping[str, Ed25519PrivateKey]) -> None:
        """The issuer's public keys."""
        listed = []
        for kid, key in keys.items():
            x = jwt.utils.base64url_encode(key.public_key().public_bytes_raw()).decode()
            listed.append({"kty": "OKP", "crv": "Ed25519", "kid": kid, "alg": "EdDSA", "use": "sig", "x": x})
        self.jwks.write_text(json.dumps({"keys": listed}))

    # -- tokens and requests -----------------------------------------------------------------------------------------

    def token(self, subject: str, scope: str, company: str | None = None, **claims: Any) -> str:
        """A token of the issuer."""
        now = int(time.time())
        content = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "exp": now + 600, "scope": scope, **claims}
        if company is not None:
            content["company"] = company
        content = {name: value for name, value in content.items() if value is not None}
        return jwt.encode(content, self.issuer, "EdDSA", headers={"kid": KID})

    def as_(self, who: str) -> str:
        """The token of `operator`, `auditor`, or of a company's user: `aozora` or `aozora/second`."""
        if who not in self.tokens:
            company, _, user = who.partition("/")
            if who == "operator":
                self.tokens[who] = self.token("root", "operator anchor:now")
            elif who == "auditor":
                self.tokens[who] = self.token("auditor", "audit:read")
            else:
                self.tokens[who] = self.token(user or f"user of {company}", COMPANY_SCOPES, company)
        return self.tokens[who]

    def request(
        self,
        method: str,
        path: str,
        who: str | None = None,
        *,
        key: str | None = "",
        json_body: Any = None,
        **more: Any,
    ) -> httpx.Response:
        """One request; `key` "" makes a fresh Idempotency-Key for a POST, None sends none."""
        headers = dict(more.pop("headers", {}))
        if who is not None:
            headers["authorization"] = f"Bearer {self.as_(who)}"
        if method == "POST" and key is not None:
            self._keys_used += 1
            headers.setdefault("idempotency-key", key or f"test-{self._keys_used}")
        if json_body is not None:
            more["content"] = msgspec.json.encode(json_body)
            headers.setdefault("content-type", "application/json")
        return self.run(self.client.request(method, path, headers=headers, **more))

    def get(self, path: str, who: str | None = None, **more: Any) -> httpx.Response:
        return self.request("GET", path, who, **more)

    def post(self, path: str, who: str | None = None, json_body: Any = None, **more: Any) -> httpx.Response:
        return self.request("POST", path, who, json_body=json_body, **more)

    def bulk(self, who: str, lines: Sequence[Any], **params: Any) -> httpx.Response:
        """A bulk; lines that are bytes are sent as they are."""
        headers = params.pop("headers", {})
        key = params.pop("key", "")
        raw = b"\n".join(line if isinstance(line, bytes) else msgspec.json.encode(line) for line in lines)
        return self.request(
            "POST", "/v1/commands", who, key=key, content=raw, params=params,
            headers={"content-type": "application/x-ndjson", **headers},
        )  # fmt: skip

    # -- a story -----------------------------------------------------------------------------------------------------

    def admit(self, *codes: str) -> None:
        """Register companies, each with a custodial wallet for its first user."""
        for code in codes:
            assert self.post("/v1/companies", "operator", {"code": code, "name": f"{code} K.K."}).status_code == 201
            assert self.post("/v1/users", code, {"user": f"user of {code}"}).status_code == 201

    def record(self, who: str = "aozora", **changes: Any) -> dict[str, Any]:
        """Record a trade; the answer's body."""
        response = self.post("/v1/trades", who, terms(**changes))
        assert response.status_code == 201, response.text
        return cast("dict[str, Any]", response.json())

    def own_wallet(self, company: str, user: str) -> OwnWallet:
        """Sign a user up who keeps the key."""
        wallet = OwnWallet()
        asked = {"command": "OpenWallet", "user": user, "address": wallet.address}
        answer = self.post("/v1/typed-data", company, asked).json()
        body = {"user": user, "custody": "own", "address": wallet.address, "proof": wallet.sign(answer)}
        response = self.post("/v1/users", company, body)
        assert response.status_code == 201, response.text
        return wallet

    def head(self) -> int:
        """The event store's last position."""
        return self.entries.head()

    def close(self) -> None:
        self.run(self.client.aclose())
        self.app.context.reads.close()
        self.writer.close()
        cast("LedgerRecorder", self.ledger.recorder).close()
        self.entries.close()
        self.store.close()
        self.runner.close()


_references = iter(range(1, 1_000_000))


def terms(**changes: Any) -> dict[str, Any]:
    """A trade's terms, from aozora to kaede, with a reference of its own."""
    return {
        "seller": "aozora", "buyer": "kaede", "amount": {"currency": "JPY", "units": "120000"},
        "traded_on": "2026-11-20", "due_on": "2026-12-31", "reference": f"R-{next(_references)}", **changes,
    }  # fmt: skip


def log_id() -> str:
    """The log's id on the contract."""
    return "0x" + hashlib.sha256(ORIGIN.encode()).hexdigest()
