"""Parts 1 and 6: every entry says what its row says, follows the one before, and is signed by who may sign."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from cli.checking.findings import Progress, Report
from domain.authorship import SignatureVerifier, Unsigned
from domain.entry import Envelope, canonical, decode_envelope
from domain.errors import SignatureInvalid
from domain.event_types import EVENT_TYPES
from domain.typed_data import PRIMARY_TYPES, signed_content, terms_digest
from merkle.flat_log import FlatLog
from merkle.hashing import leaf_hashes
from storage.entry_log import SqliteEntryLog, StoredRow

BATCH: Final = 2000
_SIGNED_BY = "wallet"


def check_entries(
    log: SqliteEntryLog,
    origin: str,
    up_to: int,
    report: Report,
    progress: Progress,
    each: Callable[[int, bytes, Envelope], None],
) -> FlatLog:
    """Check every row up to a position and return the tree over them. `each` sees every entry in order."""
    tree, last_time, versions = FlatLog(), "", dict[str, int]()
    position = 0
    while position < up_to:
        rows = log.rows(position + 1, min(BATCH, up_to - position))
        if not rows:
            report.differs("entries", position + 1, f"position {position + 1} is missing")
            break
        tree.append(leaf_hashes([row.state for row in rows]))
        for row in rows:
            position += 1
            envelope = check_row(row, position, origin, report)
            if envelope is None:
                continue
            if envelope.recorded_at < last_time:
                report.differs("entries", position, f"its time {envelope.recorded_at} precedes the entry before")
            last_time = max(last_time, envelope.recorded_at)
            expected = versions.get(envelope.aggregate_id, 0) + 1
            if envelope.version != expected:
                report.differs("entries", position, f"version {envelope.version} of its aggregate, expected {expected}")
            versions[envelope.aggregate_id] = envelope.version
            each(position, row.state, envelope)
        report.count("entries", len(rows))
        progress("entries", position, up_to)
    return tree


def check_row(row: StoredRow, position: int, origin: str, report: Report) -> Envelope | None:
    """One row against its own bytes."""
    if row.position != position:
        report.differs("entries", position, f"the row after it has position {row.position}: a hole")
        return None
    try:
        envelope = decode_envelope(row.state)
        value = msgspec.json.decode(row.state)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        report.differs("entries", position, f"not an entry: {error}")
        return None
    if canonical(value) != row.state:
        report.differs("entries", position, "its bytes are not canonical")
    if envelope.position != position:
        report.differs("entries", position, f"its bytes say position {envelope.position}")
    if envelope.log != origin:
        report.differs("entries", position, f"its bytes say log {envelope.log!r}")
    kind = EVENT_TYPES.get(envelope.type)
    if kind is None or envelope.v != kind.VERSION:
        report.differs("entries", position, f"unknown event type {envelope.type!r} version {envelope.v}")
        return None
    if (row.aggregate_id, row.version, row.topic) != (envelope.aggregate_id, envelope.version, envelope.type):
        report.differs("entries", position, "its row names another aggregate, version or type than its bytes")
    try:
        msgspec.json.decode(envelope.data, type=kind)
    except msgspec.MsgspecError as error:
        report.differs("entries", position, f"its data is not that of {envelope.type}: {error}")
    return envelope


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
        if envelope.type in PRIMARY_TYPES and isinstance(signature, dict):
            self._check(position, envelope, data, signature)
            self._report.count("signatures")
        self._follow(envelope, data)

    def finish(self) -> None:
        """Say of a batch that was cut off by the pinned position that it was not checked."""
        self._batch = None

    def _check(self, position: int, envelope: Envelope, data: Mapping[str, Any], signature: Mapping[str, Any]) -> None:
        wrong = self._wrong(position, envelope, data, signature)
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
            return self._recovered(envelope, data, signature, data["old"]) or self._recovered(
                envelope, data, data["new_signature"], data["new"]
            )
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

    def _recovered(
        self, envelope: Envelope, data: Mapping[str, Any], signature: Mapping[str, Any], expected: str
    ) -> str:
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
        return "" if address == expected else f"signed by {address}, the wallet's key was {expected}"

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
            self._wallets[name]["address"] = data["new"]
        elif kind in {"WalletFrozen", "WalletUnfrozen", "WalletClosed"}:
            state = {"WalletFrozen": "frozen", "WalletUnfrozen": "active", "WalletClosed": "closed"}[kind]
            self._wallets[name]["state"] = state
