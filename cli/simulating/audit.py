"""What has become of everything that the stores have sent: read from the stopped service's own files."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chain.master_key import SERVICE, FileKeyProvider
from chain.payload_keys import PayloadKeys
from chain.vault import Vault
from cli.development import master_key_file
from domain.entry import decode_envelope
from domain.ids import subscription_id
from domain.ledger import Ledger
from domain.subscription import Subscription
from simulator.world import World
from storage.entry_log import SqliteEntryLog
from storage.folder import DataFolder
from storage.parcels import SqliteParcels
from storage.vault_store import SqliteVaultStore
from stores.google.envelope import line_of
from stores.parcel_format import is_fetched, is_google, is_handed_in, read_headers, unpack_google


@dataclass
class Audit:
    """`lost`: sent, and not archived; `altered`: archived, and not byte for byte what was sent.

    `differences`: what `daicho tieout` could not explain, `compared` how much it has looked at.
    """

    sent: int = 0
    first_try: int = 0
    retried: int = 0
    by_reconciler: int = 0
    lost: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong_state: list[str] = field(default_factory=list)
    wrong_contracts: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    compared: dict[str, int] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, altered, done twice or concluded wrongly."""
        wrong = self.wrong_state or self.wrong_contracts or self.differences
        return not (self.lost or self.altered or self.doubled or wrong)


def audit(world: World, folder: DataFolder) -> Audit:
    """Hold the files of a stopped service against what the stores have sent."""
    found = Audit()
    archived, pulled = _archived(folder)
    for apple in world.apple.sent:
        _count(found, apple.id, apple.attempts, pulled)
        _compare(found, apple.id, apple.signed_payload, archived)
    for google in world.google.sent:
        if any(result == "LOST" for _, result in google.attempts) and not google.delivered:
            continue  # Google keeps no history: what it never delivers, nobody can have
        _count(found, google.id, google.attempts, pulled)
        _compare(found, google.id, json.dumps(google.data), archived)
    found.doubled += _doubled(folder)
    _states(found, world, folder)
    keys = Counter(each.external_key for each in world.billing.active())
    found.wrong_contracts += [key for key, count in keys.items() if count > 1]
    return found


def _count(found: Audit, id_: str, attempts: list[tuple[int, str]], pulled: set[str]) -> None:
    found.sent += 1
    results = [result for _, result in attempts]
    if id_ in pulled:
        found.by_reconciler += 1
    elif results[:1] == ["SUCCESS"]:
        found.first_try += 1
    else:
        found.retried += 1


def _compare(found: Audit, id_: str, sent: str, archived: dict[str, str]) -> None:
    if id_ not in archived:
        found.lost.append(id_)
    elif archived[id_] != sent:
        found.altered.append(id_)


def _archived(folder: DataFolder) -> tuple[dict[str, str], set[str]]:
    """What the stores' words were, by their ids, and the ids of those that were found by asking."""
    store = SqliteVaultStore(folder.vault)
    keys = PayloadKeys(Vault(store, FileKeyProvider(master_key_file(folder), (SERVICE,))), store)
    parcels = SqliteParcels(folder.ledger)
    archived: dict[str, str] = {}
    pulled: set[str] = set()
    number = 1
    while rows := parcels.read(number, 1_000):
        for row in rows:
            plain = keys.open(row.owner, row.sealed)
            if is_fetched(plain) or is_handed_in(plain):
                continue
            id_, words = _google(plain) if is_google(plain) else _apple(plain)
            archived[id_] = words
            if read_headers(row.headers).origin == "pull":
                pulled.add(id_)
        number = rows[-1].number + 1
    parcels.close()
    store.close()
    return archived, pulled


def _apple(plain: bytes) -> tuple[str, str]:
    from stores.apple.verify import read_jws

    payload: str = json.loads(plain)["signedPayload"]
    return str(read_jws(payload)["notificationUUID"]), payload


def _google(plain: bytes) -> tuple[str, str]:
    import base64

    message = json.loads(unpack_google(plain).body)["message"]
    return str(message["messageId"]), base64.b64decode(message["data"]).decode()


def _doubled(folder: DataFolder) -> list[str]:
    """Messages that were recorded more often than once, or under one id with several contents."""
    entries = SqliteEntryLog(folder.ledger)
    seen: Counter[str] = Counter()
    at = 1
    while records := entries.read(at, 1_000):
        for _, entry in records:
            envelope = decode_envelope(entry)
            if envelope.type in {"NotificationReceived", "NotificationContradicted"}:
                seen[envelope.aggregate_id] += 1
        at = records[-1][0] + 1
    entries.close()
    return [message for message, count in seen.items() if count > 1]


def _states(found: Audit, world: World, folder: DataFolder) -> None:
    """Each line stands in the ledger as it does at its store."""
    ledger = Ledger({"SQLITE_DBNAME": str(folder.ledger)})
    for store, lines in (("apple", world.apple.lines), ("google", world.google.lines)):
        for name, line in lines.items():
            ours = name if store == "apple" else line_of(name)
            known: Any = ledger.load(subscription_id(store, "production", ours))
            state = known.history.state if isinstance(known, Subscription) else None
            expected = "superseded" if line.replaced else {"revoked": "expired"}.get(line.standing, line.standing.value)
            got = {"revoked": "expired"}.get(str(state), str(state))
            if got != expected:
                found.wrong_state.append(f"{store} {subscription_id(store, 'production', ours)}: {got}, not {expected}")
            elif store == "apple" and len(known.history.charges) != len(line.charges):
                found.wrong_state.append(f"apple: {len(known.history.charges)} of {len(line.charges)} charges")
    closing: Any = ledger.recorder
    closing.close()


def folder_of(path: Path) -> DataFolder:
    """The data folder of a stopped service."""
    return DataFolder(path)
