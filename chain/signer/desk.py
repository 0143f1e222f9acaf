"""What the signer checks before it signs: one method a request, one session of the vault a message.

Rules: origin, chain id and contract are those pinned in the vault; a message to sign is built here from its
typed fields; a checkpoint never takes back an earlier one; an anchor, a registration and a deployment are
this log's own.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from chain.eip712 import TypedSigner, signature_hex
from chain.envelope import MasterKeyError, SealBrokenError, VaultError
from chain.key_session import Session
from chain.signer.protocol import (
    AnyRequest,
    CreateWalletKey,
    Describe,
    Description,
    Initialise,
    NoteLine,
    PinContract,
    ProveWallet,
    Refused,
    Result,
    RotateKey,
    Rotation,
    SignAnchor,
    Signature,
    SignBatch,
    SignCheckpoint,
    SignDeploy,
    SignPromise,
    SignRegisterLog,
    SignTrade,
    Transaction,
    Typed,
    WalletAddress,
    decode_request,
)
from chain.signer.transaction import sign_transaction
from chain.transactions import AnchorTx, DeployTx, RegisterLogTx
from chain.vault import (
    LOG,
    PROMISE,
    PUBLISHER,
    WALLET,
    ForeignDomainError,
    HeadRefusedError,
    Identity,
    KeyErasedError,
    NotInitialisedError,
    UnknownKeyError,
    Vault,
    VaultConflictError,
    note_name,
)
from contracts import artefact
from domain.typed_data import TypedDataError, nonce_and_deadline
from merkle.checkpoint import CheckpointError, parse_checkpoint
from merkle.notes import NoteError

_ATTEMPTS: Final = 5  # a conflict needs another writer at the same instant: five in a row are a fault
_ADDRESS_DIGITS: Final = 40
_MAX_NAME: Final = 256
_CODES: Final[Mapping[type[Exception], str]] = {
    ForeignDomainError: "foreign-domain",
    NotInitialisedError: "not-initialised",
    UnknownKeyError: "unknown-key",
    KeyErasedError: "key-erased",
    HeadRefusedError: "head-refused",
    SealBrokenError: "broken-seal",
    MasterKeyError: "broken-seal",
    TypedDataError: "malformed",
    CheckpointError: "malformed",
    NoteError: "malformed",
    msgspec.DecodeError: "malformed",
    msgspec.ValidationError: "malformed",
}


class NotAllowedError(VaultError):
    """A well-formed request for something this signer does not sign."""


class Desk:
    """Answers messages of requests from one vault. One thread at a time."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._typed: tuple[Identity, TypedSigner] | None = None
        self._handlers: Mapping[type[AnyRequest], Callable[[Session, Any], Result]] = {
            SignTrade: self._trade,
            SignBatch: self._batch,
            CreateWalletKey: self._create_wallet_key,
            ProveWallet: self._prove,
            RotateKey: self._rotate,
            SignAnchor: self._transaction,
            SignRegisterLog: self._transaction,
            SignDeploy: self._transaction,
            SignCheckpoint: self._checkpoint,
            SignPromise: self._promise,
            Initialise: self._initialise,
            PinContract: self._pin_contract,
            Describe: self._describe,
        }

    def answer(self, requests: Sequence[bytes | msgspec.Raw], who: str) -> list[Result]:
        """Results in the order of the encoded requests, after everything they owe is on disk.

        A crash before the commit leaves nothing and no answer has left; after it, the same message again
        finds the same keys and gets the same signatures. Storage errors are raised: nothing was signed then.
        """
        for _ in range(_ATTEMPTS):
            session = Session(self._vault, who)
            results = [self._one(session, request) for request in requests]
            try:
                session.commit()
            except VaultConflictError:
                continue
            return results
        raise VaultConflictError("the vault is being written by others all the time")

    def _one(self, session: Session, encoded: bytes | msgspec.Raw) -> Result:
        try:
            request = decode_request(encoded)
            return self._handlers[type(request)](session, request)
        except NotAllowedError as refusal:
            return Refused("not-allowed", str(refusal))
        except tuple(_CODES) as refusal:
            code = next(code for kind, code in _CODES.items() if isinstance(refusal, kind))
            return Refused(code, str(refusal))

    def _initialise(self, session: Session, request: Initialise) -> Description:
        session.initialise(_named(request.origin), request.chain_id)
        return self._describe(session, request)

    def _pin_contract(self, session: Session, request: PinContract) -> Description:
        session.pin_contract(_address(request.contract))
        return self._describe(session, request)

    def _describe(self, session: Session, _: Describe | Initialise | PinContract) -> Description:
        pinned = session.identity()
        keys = (str(session.verifier_key(purpose)) for purpose in (LOG, PROMISE))
        return Description(*pinned, session.address(PUBLISHER, ""), *keys)

    def _create_wallet_key(self, session: Session, request: CreateWalletKey) -> WalletAddress:
        return WalletAddress(session.create_wallet_key(_named(request.wallet_id)))

    def _trade(self, session: Session, request: SignTrade) -> Signature:
        if not request.event_type.startswith("Trade"):
            raise NotAllowedError(f"{request.event_type} is no event of a trade")
        return self._typed_signature(
            session, request, request.event_type, request.aggregate_id, request.data, request.address
        )

    def _batch(self, session: Session, request: SignBatch) -> Signature:
        data = {
            "wallet": request.wallet_id,
            "company": request.company,
            "root": request.root,
            "count": request.count,
        }
        return self._typed_signature(session, request, "BatchSigned", "", data, request.address)

    def _prove(self, session: Session, request: ProveWallet) -> Signature:
        address = session.address(WALLET, request.wallet_id)
        data = {"company": request.company, "custody": "custodial", "address": address}
        return self._typed_signature(session, request, "WalletOpened", request.wallet_id, data, address)

    def _rotate(self, session: Session, request: RotateKey) -> Rotation:
        nonce_and_deadline({"nonce": request.nonce, "deadline": request.deadline})
        self._typed_signer(session, request)  # refuse a foreign domain before a key is made
        new = session.rotate_wallet_key(request.wallet_id, request.old, request.nonce)
        data = {"old": request.old, "new": new}
        by_old, by_new = (
            self._typed_signature(session, request, "WalletKeyRotated", request.wallet_id, data, address)
            for address in (request.old, new)
        )
        return Rotation(request.old, new, by_old.value, by_new.value)

    def _typed_signature(
        self,
        session: Session,
        request: Typed[Any],
        event_type: str,
        aggregate_id: str,
        data: Mapping[str, Any],
        address: str,
    ) -> Signature:
        signer = self._typed_signer(session, request)
        nonce, deadline = nonce_and_deadline({"nonce": request.nonce, "deadline": request.deadline})
        digest = signer.digest(event_type, request.origin, aggregate_id, data, nonce, deadline)
        address = address or session.newest_address(WALLET, request.wallet_id)
        value = session.sign(event_type, WALLET, request.wallet_id, address, digest)
        return Signature(address, signature_hex(value), digest)

    def _typed_signer(self, session: Session, request: Typed[Any]) -> TypedSigner:
        pinned = session.identity()
        _require_domain(pinned, request.chain_id, request.contract, request.origin)
        if self._typed is None or self._typed[0] != pinned:
            self._typed = (pinned, TypedSigner(pinned.chain_id, pinned.contract))
        return self._typed[1]

    def _transaction(self, session: Session, request: SignAnchor | SignRegisterLog | SignDeploy) -> Transaction:
        tx = request.tx
        pinned = session.identity()
        publisher = session.address(PUBLISHER, "")
        if isinstance(tx, DeployTx):
            _require_own_deployment(pinned, publisher, tx)
        else:
            _require_domain(pinned, tx.chain_id, tx.contract, pinned.origin)
        if isinstance(tx, AnchorTx) and tx.log_id != hashlib.sha256(pinned.origin.encode()).digest():
            raise ForeignDomainError(f"an anchor of another log than {pinned.origin}")
        if isinstance(tx, RegisterLogTx) and (tx.origin, tx.publisher) != (pinned.origin, publisher):
            raise ForeignDomainError(f"a registration of another log or publisher than {pinned.origin}")
        what = type(tx).__name__
        try:
            signed = sign_transaction(tx, lambda d: session.sign(what, PUBLISHER, "", publisher, d))
        except (ValueError, OverflowError) as error:
            raise msgspec.ValidationError(f"{what}: {error}") from None
        return Transaction(signed.raw, signed.tx_hash)

    def _checkpoint(self, session: Session, request: SignCheckpoint) -> NoteLine:
        checkpoint = parse_checkpoint(request.text)
        origin = session.identity().origin
        if checkpoint.origin != origin or checkpoint.extensions:
            raise ForeignDomainError(f"not a plain checkpoint of {origin}")
        session.advance_head(checkpoint.size, checkpoint.root)
        return NoteLine(session.sign_note(LOG, request.text))

    def _promise(self, session: Session, request: SignPromise) -> NoteLine:
        name = note_name(PROMISE, session.identity().origin)
        if not request.text.startswith(name.encode() + b"\n"):
            raise ForeignDomainError(f"not a promise of {name}")
        return NoteLine(session.sign_note(PROMISE, request.text))


def _require_domain(pinned: Identity, chain_id: int, contract: str, origin: str) -> None:
    if not pinned.contract:
        raise NotInitialisedError("no contract is pinned yet")
    if chain_id != pinned.chain_id:
        raise ForeignDomainError(f"chain {chain_id}, pinned is {pinned.chain_id}")
    if contract.lower() != pinned.contract.lower():
        raise ForeignDomainError(f"contract {contract}, pinned is {pinned.contract}")
    if origin != pinned.origin:
        raise ForeignDomainError(f"book {origin}, pinned is {pinned.origin}")


def _require_own_deployment(pinned: Identity, publisher: str, tx: DeployTx) -> None:
    if pinned.contract:
        raise NotAllowedError(f"the registry is deployed at {pinned.contract}")
    if tx.chain_id != pinned.chain_id:
        raise ForeignDomainError(f"chain {tx.chain_id}, pinned is {pinned.chain_id}")
    if tx.bytecode != artefact().bytecode or tx.owner.lower() != publisher.lower():
        raise NotAllowedError("a deployment is of the committed registry, owned by the vault's publisher")


def _named(name: str) -> str:
    if not name or len(name) > _MAX_NAME or not name.isprintable():
        raise NotAllowedError(f"a name has 1 to {_MAX_NAME} printable characters")
    return name


def _address(address: str) -> str:
    digits = address.removeprefix("0x")
    if len(digits) != _ADDRESS_DIGITS or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
        raise NotAllowedError("an address is 0x and 40 hex digits")
    return "0x" + digits
