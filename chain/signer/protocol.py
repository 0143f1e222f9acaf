"""What may be asked of the signer, as msgpack over a unix socket: typed requests only, never a bare digest.

A frame is a 4-byte big-endian length and that many bytes of msgpack. One frame carries many requests and one
answer frame as many results in the same order; a request that is refused does not touch its neighbours. Every
request is idempotent: keys are made once and signatures are deterministic (RFC 6979, RFC 8032), so a lost
answer is asked again.
"""

from typing import Any, Final, Generic, TypeVar

import msgspec

from chain.transactions import AnchorTx, DeployTx, RegisterLogTx

HEADER_BYTES: Final = 4
MAX_FRAME_BYTES: Final = 32 * 1024 * 1024  # 256 trades of 64 KiB, and room
MAX_REQUESTS: Final = 1_024
Answer = TypeVar("Answer")


class FrameError(Exception):
    """The other side does not speak this protocol; the connection is of no use any more."""


# results --------------------------------------------------------------------------------------------------------------


class Description(msgspec.Struct, frozen=True, tag="description"):
    """The pinned identity and the public keys: `contract` "" until pinned, note keys as verifier keys."""

    origin: str
    chain_id: int
    contract: str
    publisher: str
    log_key: str
    promise_key: str


class WalletAddress(msgspec.Struct, frozen=True, tag="address"):
    """The EIP-55 address of a wallet's first key."""

    address: str


class Signature(msgspec.Struct, frozen=True, tag="signature"):
    """An EIP-712 signature: 0x and 130 hex digits r, s, v; made by `address` over `digest` (32 bytes)."""

    address: str
    value: str
    digest: bytes


class Rotation(msgspec.Struct, frozen=True, tag="rotation"):
    """The new address, and the same message signed by the old and by the new key."""

    old: str
    new: str
    signature: str
    new_signature: str


class Transaction(msgspec.Struct, frozen=True, tag="transaction"):
    """A signed EIP-1559 transaction: the bytes to send, their hash (32 bytes)."""

    raw: bytes
    tx_hash: bytes


class NoteLine(msgspec.Struct, frozen=True, tag="line"):
    """A signature line of a signed note, with its LF."""

    line: bytes


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """A refusal.

    `code`: malformed, foreign-domain, not-initialised, unknown-key, key-erased, head-refused,
    broken-seal, not-allowed; or unavailable, which may be asked again.
    """

    code: str
    reason: str


Result = Description | WalletAddress | Signature | Rotation | Transaction | NoteLine | Refused


# requests -------------------------------------------------------------------------------------------------------------


class Request(msgspec.Struct, Generic[Answer], frozen=True, forbid_unknown_fields=True):
    """A request that is answered by `Answer` or `Refused`."""


class Describe(Request[Description], frozen=True, tag="describe"):
    """Ask what the vault is pinned to."""


class Initialise(Request[Description], frozen=True, tag="initialise"):
    """Pin origin and chain id, make the operator's keys. Repeatable with the same values."""

    origin: str
    chain_id: int


class PinContract(Request[Description], frozen=True, tag="pin-contract"):
    """Pin the registry's address. Repeatable with the same address."""

    contract: str


class CreateWalletKey(Request[WalletAddress], frozen=True, tag="create-wallet-key"):
    """Make the first key of a wallet; the same address again however often it is asked."""

    wallet_id: str


class Typed(Request[Answer], Generic[Answer], frozen=True):
    """What every EIP-712 request names: its domain (chain, contract, book), nonce and deadline (unix seconds).

    `nonce` is 0x and 64 hex digits, as the entry will hold it.
    """

    chain_id: int
    contract: str
    origin: str
    wallet_id: str
    nonce: str
    deadline: int


class ProveWallet(Typed[Signature], frozen=True, tag="prove-wallet"):
    """Sign OpenWallet with the first key of a custodial wallet: proof that the signer holds it."""

    company: str


class SignTrade(Typed[Signature], frozen=True, tag="sign-trade"):
    """Sign a trade's event with the wallet's key at `address`: the ledger knows which one is valid now.

    Without an address the newest key signs, also before the ledger knows of its rotation.
    """

    address: str
    event_type: str
    aggregate_id: str
    data: dict[str, Any]


class SignBatch(Typed[Signature], frozen=True, tag="sign-batch"):
    """Sign a batch of `count` entries under their root (64 hex digits); `address` as for a trade."""

    address: str
    company: str
    root: str
    count: int


class RotateKey(Typed[Rotation], frozen=True, tag="rotate-key"):
    """Make the key after `old` and sign RotateKey with both. The same nonce gives the same key again."""

    old: str


class SignAnchor(Request[Transaction], frozen=True, tag="sign-anchor"):
    """Sign the publication of a head."""

    tx: AnchorTx


class SignRegisterLog(Request[Transaction], frozen=True, tag="sign-register-log"):
    """Sign the registration of the pinned log with the vault's own publisher."""

    tx: RegisterLogTx


class SignDeploy(Request[Transaction], frozen=True, tag="sign-deploy"):
    """Sign the creation of the registry from the committed bytecode; only before a contract is pinned."""

    tx: DeployTx


class SignCheckpoint(Request[NoteLine], frozen=True, tag="sign-checkpoint"):
    """Sign a checkpoint's text: of the pinned origin, never smaller than the last, never another root."""

    text: bytes


class SignPromise(Request[NoteLine], frozen=True, tag="sign-promise"):
    """Sign a promise's text, whose first line is the pinned origin and `/promise`."""

    text: bytes


AnyRequest = (
    Describe
    | Initialise
    | PinContract
    | CreateWalletKey
    | ProveWallet
    | SignTrade
    | SignBatch
    | RotateKey
    | SignAnchor
    | SignRegisterLog
    | SignDeploy
    | SignCheckpoint
    | SignPromise
)


# frames ---------------------------------------------------------------------------------------------------------------


class Message(msgspec.Struct, forbid_unknown_fields=True):
    """Many requests at once, still encoded, on behalf of `who` (a name for the audit rows)."""

    who: str
    requests: list[msgspec.Raw]


encode = msgspec.msgpack.Encoder().encode
decode_message = msgspec.msgpack.Decoder(Message).decode
decode_request = msgspec.msgpack.Decoder(AnyRequest).decode
decode_results = msgspec.msgpack.Decoder(list[Result]).decode


def frame(payload: bytes) -> bytes:
    """A payload behind its length; FrameError when it is too large to be read by the other side."""
    if len(payload) > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {len(payload)} bytes, {MAX_FRAME_BYTES} at most")
    return len(payload).to_bytes(HEADER_BYTES, "big") + payload


def frame_length(header: bytes) -> int:
    """The length that a frame's 4 bytes announce; FrameError when it is too large."""
    length = int.from_bytes(header, "big")
    if length > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {length} bytes was announced, {MAX_FRAME_BYTES} at most")
    return length
