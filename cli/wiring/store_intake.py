"""The stores' way in, wired: verifiers out of the settings, the receiver over the ledger, spool and quarantine."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx
import msgspec
from cryptography import x509

from api.pulse import Pulse
from api.purchasing import Load, Purchasing
from api.reserve import Reserve
from api.services import SupportPorts
from api.store_intake import NotificationIntake
from chain.envelope import Context, Sealed, VaultError, seal, unseal
from chain.payload_keys import PayloadKeys
from chain.vault import PAYLOAD, KeyErasedError, Vault
from cli.settings import Settings, SettingsError
from cli.wiring.ledger_side import OPERATOR_SUBJECT, LedgerSide
from cli.wiring.stores import Stores
from domain.store_notification import Store, StoreEnvironment
from storage.folder import DataFolder
from storage.quarantine import Quarantine
from storage.spool import Spool
from stores.apple.verify import MAX_AGE_SECONDS, AppleApp, AppleSettingsError, AppleVerifier
from stores.google.keys import KeySet, http_fetch
from stores.google.push import GoogleApp, PushVerifier
from stores.intake import AppleIntake, GoogleIntake, Intake
from stores.purchases import HandIn
from stores.receive import OwnerErased, Receiver

APPLE_ROOT_SHA256: Final = "63343abfb89a6a03ebb57e9b3f5fa7be7c4f5c756f3017b3a8c488c3653e9179"
"""Apple Root CA - G3: https://www.apple.com/certificateauthority/"""
KEYS_TIMEOUT_SECONDS: Final = 5.0
_SPOOLED: Final = Context(PAYLOAD, "this machine's spool", "")


class Payloads:
    """stores.receive.Sealer and its counterpart over the payload keys."""

    def __init__(self, keys: PayloadKeys) -> None:
        self.keys = keys

    def seal(self, owner: str, payload: bytes) -> bytes:
        """The payload as ciphertext under its owner's key."""
        try:
            return self.keys.seal(owner, payload)
        except KeyErasedError:
            raise OwnerErased(owner) from None

    def open(self, owner: str, sealed: bytes) -> bytes:
        """The payload again."""
        try:
            return self.keys.open(owner, sealed)
        except KeyErasedError:
            raise OwnerErased(owner) from None


class MasterKeySeal:
    """api.reserve.LocalSeal: with the master key alone, since the vault's database may be what is away."""

    def __init__(self, vault: Vault) -> None:
        self._provider = vault.provider

    def seal(self, plain: bytes) -> bytes:
        """A record, sealed under a data key of its own."""
        return msgspec.msgpack.encode(tuple(seal(plain, _SPOOLED, self._provider)))

    def open(self, sealed: bytes) -> bytes:
        """The record again. Raises ValueError for what was altered."""
        try:
            parts = msgspec.msgpack.decode(sealed, type=tuple[int, bytes, bytes, bytes, bytes])
            return unseal(Sealed(*parts), _SPOOLED, self._provider)
        except (VaultError, msgspec.DecodeError):
            raise ValueError("not a record of this machine's spool") from None


def receiver_of(ledger: LedgerSide) -> Receiver:
    """Records messages in this ledger."""

    async def subject() -> str:
        return await asyncio.to_thread(ledger.subjects.pseudonym, "", OPERATOR_SUBJECT)

    return Receiver(ledger.description.origin, ledger.ledger, Payloads(ledger.payload_keys), subject)


def intake_of(settings: Settings, folder: DataFolder, ledger: LedgerSide) -> NotificationIntake | None:
    """The intake of the stores that are set up, None where none is. Raises SettingsError."""
    intakes: dict[Store, Intake] = {}
    if (verifier := apple_verifier(settings, online=settings.apple_revocation == "online")) is not None:
        intakes[Store.APPLE] = AppleIntake(verifier)
    if (app := google_app(settings)) is not None:
        client = httpx.Client(timeout=KEYS_TIMEOUT_SECONDS)
        keys = KeySet(http_fetch(client, str(settings.google_jwks_url)))
        intakes[Store.GOOGLE] = GoogleIntake(app, PushVerifier(app, keys))
    if not intakes:
        return None
    receiver = receiver_of(ledger)
    reserve = Reserve(Spool(folder.spool), MasterKeySeal(ledger.vault), receiver)
    return NotificationIntake(intakes, receiver, reserve, Quarantine(folder.quarantine))


def purchasing_of(
    settings: Settings, ledger: LedgerSide, pulse: Pulse, load: Load, hurried: Callable[[], bool]
) -> Purchasing | None:
    """Takes purchases that apps hand in; None where no store is set up. Raises SettingsError."""
    if not settings.has_stores:
        return None
    hand_in = HandIn(apple_verifier(settings, online=False, max_age_seconds=None), google=bool(settings.google_package))
    return Purchasing(
        ledger.description.origin, settings.store_company, ledger.ledger, load, receiver_of(ledger), hand_in, pulse,
        hurried=hurried,
    )  # fmt: skip


class ReadAudit:
    """api.services.ReadAuditPort over the vault's audit table."""

    def __init__(self, ledger: LedgerSide) -> None:
        self._vault = ledger.vault

    def record(self, who: str, what: str, about: str) -> None:
        """A row, durable on return."""
        self._vault.store.commit(None, (), None, (self._vault.audit_row(who, what, about, b""),))


def support_of(settings: Settings, ledger: LedgerSide, stores: Stores, load: Load) -> SupportPorts | None:
    """What support reads besides the ledger; None where no store is set up."""
    if not settings.has_stores:
        return None
    return SupportPorts(
        load=load, parcels=stores.parcels(), opener=Payloads(ledger.payload_keys), audit=ReadAudit(ledger)
    )


def apple_verifier(
    settings: Settings, *, online: bool, max_age_seconds: float | None = MAX_AGE_SECONDS
) -> AppleVerifier | None:
    """The verifier of our app's messages; None without one. Raises SettingsError."""
    if not settings.apple_bundle_id or settings.apple_root_file is None:
        return None
    environments = tuple(StoreEnvironment(name) for name in settings.apple_environments)
    root = root_certificate(settings.apple_root_file, pinned=not settings.development)
    try:
        app = AppleApp(settings.apple_bundle_id, settings.apple_app_id, environments)
        return AppleVerifier(app, [root], online=online, max_age_seconds=max_age_seconds)
    except AppleSettingsError as error:
        raise SettingsError(f"DAICHO_APPLE_BUNDLE_ID: {error}") from None


def google_app(settings: Settings) -> GoogleApp | None:
    """Our app at Google, None without one."""
    if not settings.google_package:
        return None
    return GoogleApp(
        settings.google_package,
        settings.google_subscription,
        settings.google_audience,
        settings.google_push_account,
    )


def root_certificate(file: Path, *, pinned: bool) -> bytes:
    """The root certificate (DER) in a file; `pinned`: it must be Apple's. Raises SettingsError."""
    try:
        root = file.read_bytes()
        x509.load_der_x509_certificate(root)
    except OSError as error:
        raise SettingsError(f"DAICHO_APPLE_ROOT_FILE: {error.strerror}: {file}") from None
    except ValueError:
        raise SettingsError(f"DAICHO_APPLE_ROOT_FILE: {file} is no certificate in DER") from None
    if pinned and hashlib.sha256(root).hexdigest() != APPLE_ROOT_SHA256:
        raise SettingsError(f"DAICHO_APPLE_ROOT_FILE: {file} is not Apple Root CA - G3, which production trusts alone")
    return root
