"""The API's ports, fulfilled: what it asks of vault, signer, anchoring and chain."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import httpx

from api.accounts import KeyRotation
from chain.children import ChildProcess, ChildState
from chain.signer.client import SignerClient, SignerRefusedError
from chain.signer.protocol import CreateWalletKey, Description, ProveWallet, RotateKey
from chain.subjects import Subjects
from chain.vault import NoteKey
from cli.wiring.ledger_side import LedgerSide
from domain.entry import Actor
from domain.errors import ChainUnavailable, SignerUnavailable
from merkle.log_view import LogView
from merkle.notes import join_note
from projections.waiting import PositionBoard

RPC_TIMEOUT_SECONDS: Final = 10.0


class Following(Protocol):
    """What follows the entries, in this process or in others: StreamsSide, ReadingSide."""

    @property
    def view(self) -> LogView:
        """What is published of the log."""
        ...

    @property
    def read_store(self) -> Any:
        """The read models."""
        ...

    @property
    def board(self) -> PositionBoard:
        """How far the read models are."""
        ...

    def on_commit(self, heard: Callable[[int], None]) -> None:
        """Tell of everything that is committed, by whichever process; before `start` only."""
        ...

    async def start(self) -> None:
        """Start to follow."""
        ...

    async def open_ledger(self) -> bool:
        """Compare the store with what others know; True when the ledger takes commands."""
        ...

    async def request_anchor(self) -> Mapping[str, Any]:
        """Ask for an anchor of the published head at once."""
        ...

    def processors(self) -> list[Mapping[str, Any]]:
        """Every processor: name, position, lag, state, error."""
        ...

    async def stop(self) -> None:
        """Stop and close."""
        ...


class CustodialKeys:
    """api.accounts.WalletKeys over the signer process."""

    def __init__(self, client: SignerClient, book: Description) -> None:
        self._client = client
        self._domain = (book.chain_id, book.contract, book.origin)

    async def create(self, wallet: str) -> str:
        """The address of the wallet's first key."""
        try:
            return (await self._client.ask(CreateWalletKey(wallet))).address
        except SignerRefusedError as error:
            raise SignerUnavailable(f"signer: {error}") from error

    async def prove(self, wallet: str, company: str, nonce: str, deadline: int) -> str:
        """Its signature over OpenWallet."""
        try:
            return (await self._client.ask(ProveWallet(*self._domain, wallet, nonce, deadline, company))).value
        except SignerRefusedError as error:
            raise SignerUnavailable(f"signer: {error}") from error

    async def rotate(self, wallet: str, old: str, nonce: str, deadline: int) -> KeyRotation:
        """The key after `old`, and RotateKey signed by both."""
        try:
            made = await self._client.ask(RotateKey(*self._domain, wallet, nonce, deadline, old))
        except SignerRefusedError as error:
            raise SignerUnavailable(f"signer: {error}") from error
        return KeyRotation(made.new, made.signature, made.new_signature)


class ThreadedPseudonyms:
    """api.accounts.Pseudonyms: the vault's file is read in a thread, never on the event loop."""

    def __init__(self, subjects: Subjects) -> None:
        self._subjects = subjects

    async def pseudonym(self, company: str, subject: str) -> str:
        """The pseudonym, made on first use."""
        return await asyncio.to_thread(self._subjects.pseudonym, company, subject)

    async def known(self, company: str, subject: str) -> str | None:
        """The pseudonym if there is one."""
        return await asyncio.to_thread(self._subjects.known, company, subject)


class Promises:
    """api.services.PromisesPort: signs in process (chain.vault says what that costs and buys)."""

    def __init__(self, key: NoteKey, publish_by_seconds: float) -> None:
        self._key = key
        self.publish_by_seconds = publish_by_seconds

    async def sign(self, text: bytes) -> bytes:
        """The whole signed note over a promise's text."""
        return join_note(text, [self._key.sign(text)])


class Anchoring:
    """api.services.AnchoringPort."""

    def __init__(self, streams: Following) -> None:
        self._streams = streams

    async def request_now(self, actor: Actor) -> Mapping[str, Any]:  # noqa: ARG002 the port's signature
        """Ask for an anchor of the present head at once."""
        return await self._streams.request_anchor()


class ChainRpc:
    """api.services.ChainRpcPort: passes bytes on to the node; the API has judged them."""

    def __init__(self, rpc_url: str) -> None:
        self._client = httpx.AsyncClient(timeout=RPC_TIMEOUT_SECONDS)
        self._url = rpc_url

    async def call(self, payload: bytes) -> bytes:
        """The node's answer to one request or batch."""
        try:
            response = await self._client.post(self._url, content=payload, headers={"content-type": "application/json"})
        except httpx.HTTPError as error:
            raise ChainUnavailable("the chain node does not answer", reason=type(error).__name__) from error
        return response.content

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class Health:
    """api.services.HealthPort: what keeps the service from answering commands and reads.

    A chain that is away delays anchors and nothing else, so it is shown among the processors but is no reason to send
    the traffic elsewhere.
    """

    NEEDED: Final = frozenset({"sequencer", "projector", "publisher", "log-follower"})

    def __init__(self, ledger: LedgerSide, streams: Following, children: Callable[[], Sequence[ChildProcess]]) -> None:
        self._ledger = ledger
        self._streams = streams
        self._children = children

    def readiness(self) -> Sequence[str]:
        """Why the service should get no traffic; empty when it should."""
        refusal = self._ledger.refusal
        reasons = [f"read-only: {refusal.message}"] if refusal is not None else []
        reasons += [
            f"{row['name']} is {row['state']}: {row['error']}"
            for row in self._streams.processors()
            if row["name"] in self.NEEDED and row["state"] != "running"
        ]
        away = [child for child in self._children() if child.name == "signer" and child.state is not ChildState.READY]
        return reasons + [f"{child.name} is {child.state}" for child in away]

    def processors(self) -> Sequence[Mapping[str, Any]]:
        """Every processor, and every child process that is not ready: name, position, lag, state, error."""
        away = [child for child in self._children() if child.state is not ChildState.READY]
        rows = [
            {"name": child.name, "position": 0, "lag": 0, "state": str(child.state), "error": child.last_error or ""}
            for child in away
        ]
        return [*self._streams.processors(), *rows]
