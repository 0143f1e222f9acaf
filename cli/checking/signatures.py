"""Part 6: every signed entry is signed by the key that was valid at its position."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from cli.checking.findings import Report
from domain.authorship import SignatureVerifier, Unsigned
from domain.entry import Envelope, parse_time
from domain.errors import SignatureInvalid
from domain.signature import same_address
from domain.typed_data import PRIMARY_TYPES, signed_content, terms_digest
from merkle.flat_log import FlatLog
from merkle.hashing import leaf_hashes

_SIGNED_BY: Final = "wallet"


class SignatureAudit:
    """Follows wallets and trades along the log and checks every signature with the key valid at its position."""

    def __init__(self, verifier: SignatureVerifier, report: Report) -> None:
        self._verifier = verifier
        self._report = report
        self._wallets: dict[str, dict[str, str]] = {}
        self._digests: dict[str, str] = {}
        self._batch: tuple[str, int, str, list[bytes], int, str] | None = None

    def __call__(self, position: int, _state: bytes, envelope: Envelope) -> None:
        """Check one entry; entries that nobody signs only move the state on."""
        data: dict[str, Any] = msgspec.json.decode(envelope.data)
        signature = data.get("signature")
        if self._batch is not None and not (isinstance(signature, dict) and "batch" in signature):
            self.finish()
        if envelope.type in PRIMARY_TYPES and isinstance(signature, dict):
            self._check(position, envelope, data, signature)
            self._report.count("signatures")
        self._follow(envelope, data)

    def finish(self) -> None:
        """There is no more of a batch that is open: it must be whole (entries of a batch are stored together)."""
        if self._batch is not None:
            _, first, _, contents, count, _ = self._batch
            self._batch = None
            what = f"the batch signed at position {first} has {count} entries, after {len(contents)} of them it ends"
            self._report.differs("signatures", first + 1 + len(contents), what)

    def _check(self, position: int, envelope: Envelope, data: Mapping[str, Any], signature: Mapping[str, Any]) -> None:
        try:
            wrong = self._wrong(position, envelope, data, signature)
        except KeyError as missing:
            wrong = f"its signature has no {missing.args[0]}"
        if wrong:
            self._report.differs("signatures", position, wrong)

    def _wrong(self, position: int, envelope: Envelope, data: Mapping[str, Any], signature: Mapping[str, Any]) -> str:
        if envelope.type == "TradeRecorded" and terms_digest(data) != data["digest"]:
            return "its digest is not that of its terms"
        follows = envelope.aggregate == "Trade" and envelope.type != "TradeRecorded"
        if follows and self._digests.get(envelope.aggregate_id) != data["digest"]:
            return "its digest is not that of the recorded trade"
        if envelope.type == "WalletOpened":
            return self._recovered(envelope, data, signature, data["address"])
        if envelope.type == "WalletKeyRotated":
            return self._may_rotate(envelope.aggregate_id, data["old"]) or self._rotated(envelope, data, signature)
        wallet = self._wallets.get(str(signature.get(_SIGNED_BY)))
        company = data.get("by") or data.get("recorded_by") or data.get("company")
        if wallet is None or wallet["company"] != company:
            return "its wallet is none of the acting company"
        if wallet["state"] != "active":
            return f"its wallet was {wallet['state']}"
        if "batch" in signature:
            return self._in_batch(position, envelope, data, signature)
        wrong = self._recovered(envelope, data, signature, wallet["address"])
        if envelope.type == "BatchSigned" and not wrong:
            self._batch = (envelope.aggregate_id, position, data["root"], [], data["count"], str(signature["wallet"]))
        return wrong

    def _may_rotate(self, name: str, old: str) -> str:
        wallet = self._wallets.get(name)
        if wallet is None or wallet["state"] != "active":
            return f"its wallet was {wallet['state'] if wallet else 'not opened'}"
        return "" if same_address(old, wallet["address"]) else f"it replaces {old}, the key was {wallet['address']}"

    def _rotated(self, envelope: Envelope, data: Mapping[str, Any], signature: Mapping[str, Any]) -> str:
        by_old = self._recovered(envelope, data, signature, data["old"])
        return by_old or self._recovered(envelope, data, data["new_signature"], data["new"])

    def _recovered(
        self, envelope: Envelope, data: Mapping[str, Any], signature: Mapping[str, Any], expected: str
    ) -> str:
        if signature["deadline"] < parse_time(envelope.recorded_at).timestamp():
            return f"it was recorded at {envelope.recorded_at}, after its signature's deadline"
        content = {key: value for key, value in data.items() if key not in {"signature", "new_signature"}}
        message = Unsigned(
            signature["wallet"],
            expected,
            envelope.type,
            envelope.aggregate_id,
            content,
            signature["nonce"],
            signature["deadline"],
        )
        try:
            address = self._verifier.address_of(message, signature["value"])
        except SignatureInvalid as error:
            return f"no valid signature: {error}"
        if not same_address(signature["address"], address):
            return f"it names {signature['address']}, signed by {address}"
        return "" if same_address(address, expected) else f"signed by {address}, the wallet's key was {expected}"

    def _in_batch(
        self, position: int, envelope: Envelope, data: Mapping[str, Any], signature: Mapping[str, Any]
    ) -> str:
        if self._batch is None:
            return "it names a batch that does not precede it"
        batch, first, root, contents, count, wallet = self._batch
        if (signature["batch"], signature["wallet"]) != (batch, wallet):
            return "it names another batch than the one before it"
        if signature["index"] != len(contents) or position != first + 1 + len(contents):
            return "it is not at its place in the batch"
        contents.append(signed_content(envelope.type, envelope.aggregate_id, data))
        if len(contents) < count:
            return ""
        self._batch = None
        tree = FlatLog()
        tree.append(leaf_hashes(contents))
        return (
            "" if tree.root().hex() == root else f"the batch at position {first} does not have the root that was signed"
        )

    def _follow(self, envelope: Envelope, data: Mapping[str, Any]) -> None:
        kind, name = envelope.type, envelope.aggregate_id
        if kind == "TradeRecorded":
            self._digests[name] = data["digest"]
        elif kind == "WalletOpened":
            self._wallets[name] = {"company": data["company"], "address": data["address"], "state": "active"}
        elif kind == "WalletKeyRotated":
            self._wallets.setdefault(name, {"company": "", "state": "unknown"})["address"] = data["new"]
        elif kind in {"WalletFrozen", "WalletUnfrozen", "WalletClosed"}:
            state = {"WalletFrozen": "frozen", "WalletUnfrozen": "active", "WalletClosed": "closed"}[kind]
            self._wallets.setdefault(name, {"company": "", "address": ""})["state"] = state
