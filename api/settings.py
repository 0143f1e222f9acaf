"""What the API may be told by its operator. `cli` fills it from the environment."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ALGORITHMS: Final = frozenset({"RS256", "ES256", "EdDSA"})  # asymmetric only: a public key must never verify an HMAC
_MIN_SECRET_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """Checked when it is made: ValueError names the setting that cannot be used.

    Exactly one of `public_key_pem`, `jwks_file` and `jwks_url` says whose tokens are believed.
    """

    issuer: str
    audience: str
    cursor_secret: bytes
    algorithms: tuple[str, ...] = ("EdDSA",)
    public_key_pem: bytes | None = None
    jwks_file: Path | None = None
    jwks_url: str | None = None
    jwks_max_age_seconds: float = 300.0
    jwks_pause_seconds: float = 10.0
    company_claim: str = "company"
    token_leeway_seconds: float = 30.0
    max_cached_tokens: int = 10_000

    max_body_bytes: int = 1024 * 1024
    max_bulk_bytes: int = 16 * 1024 * 1024
    max_bulk_lines: int = 10_000
    max_rpc_bytes: int = 64 * 1024
    body_timeout_seconds: float = 30.0
    wait_seconds: float = 5.0
    purchase_wait_seconds: float = 2.5
    soft_gap_seconds: float = 86_400.0

    log_entries_public: bool = False
    chain_independent: bool = False
    confirmations: int = 1
    rpc_block_range: int = 10_000
    rpc_timeout_seconds: float = 10.0
    rpc_in_flight: int = 8
    read_threads: int = 2
    reads_waiting: int = 2_000

    def __post_init__(self) -> None:
        if sum(source is not None for source in (self.public_key_pem, self.jwks_file, self.jwks_url)) != 1:
            raise ValueError("give exactly one of public_key_pem, jwks_file and jwks_url")
        if not self.algorithms or not set(self.algorithms) <= ALGORITHMS:
            raise ValueError(f"algorithms must be some of {', '.join(sorted(ALGORITHMS))}")
        if not self.issuer or not self.audience:
            raise ValueError("issuer and audience must not be empty")
        if len(self.cursor_secret) < _MIN_SECRET_BYTES:
            raise ValueError(f"cursor_secret must have at least {_MIN_SECRET_BYTES} bytes")
