"""Development's made-up secrets: an own token issuer, a master key and a cursor secret under `data/secrets`.

Production refuses to start on them (settings.py): there an identity provider issues tokens and the operator provides
the files.
"""

import json
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import OKPAlgorithm

from chain.master_key import create_master_key_file
from storage.folder import DataFolder


class NotStarted(Exception):
    """The data folder has no development secrets yet."""


KEY_ID: Final = "development"
SCOPES: Final = (
    "operator", "trade:write", "trade:read", "wallet:write", "purchase:write", "support:read", "audit:read",
    "anchor:now",
)  # fmt: skip


def prepare_secrets(folder: DataFolder) -> None:
    """Make what is missing. Each file is complete or absent: a crash in between is repaired by the next start."""
    folder.create()
    folder.secrets.mkdir(mode=0o700, exist_ok=True)
    if not issuer_file(folder).exists():
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(issuer_file(folder), pem)
    write_private(jwks_file(folder), json.dumps({"keys": [_jwk(_issuer_key(folder))]}, indent=1).encode())
    if not cursor_file(folder).exists():
        write_private(cursor_file(folder), secrets.token_hex(32).encode())
    if not master_key_file(folder).exists():
        create_master_key_file(master_key_file(folder))


def issuer_file(folder: DataFolder) -> Path:
    """The issuer's private key."""
    return folder.secrets / "issuer.pem"


def jwks_file(folder: DataFolder) -> Path:
    """The issuer's public key."""
    return folder.secrets / "jwks.json"


def cursor_file(folder: DataFolder) -> Path:
    """The secret that signs page cursors."""
    return folder.secrets / "cursor.secret"


def master_key_file(folder: DataFolder) -> Path:
    """The master key of the vault."""
    return folder.secrets / "master.key"


def make_token(
    folder: DataFolder, *, issuer: str, audience: str, subject: str, company: str, scopes: Sequence[str], seconds: int
) -> str:
    """A token of the development issuer. Raises NotStarted before the first start of the service."""
    if not issuer_file(folder).exists():
        raise NotStarted(f"there is no token issuer in {folder.path}: start the service first (daicho serve)")
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": audience,
        "sub": subject,
        "iat": now,
        "exp": now + seconds,
        "scope": " ".join(scopes),
    }
    if company:
        claims["company"] = company
    return jwt.encode(claims, _issuer_key(folder), algorithm="EdDSA", headers={"kid": KEY_ID})


def _issuer_key(folder: DataFolder) -> Ed25519PrivateKey:
    key = load_pem_private_key(issuer_file(folder).read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError(f"{issuer_file(folder).name} is no Ed25519 key")
    return key


def _jwk(key: Ed25519PrivateKey) -> dict[str, Any]:
    jwk = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**jwk, "kid": KEY_ID, "alg": "EdDSA", "use": "sig"}


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600, whole or not at all."""
    partial = path.with_suffix(".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    partial.replace(path)
