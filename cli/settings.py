"""Every setting, checked at start. The only place that reads the environment (prefix `DAICHO_`, docs/operations.md)."""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AnyHttpUrl, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from cli.store_settings import StoreSettings

TESTS = "DAICHO_TEST_"  # names the services that the tests use; no setting of the product
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class SettingsError(Exception):
    """A setting that cannot be used; the message is one line that names it."""


class Settings(StoreSettings):
    """What an operator may set. Names end in their unit; an empty value means "not set"."""

    model_config = SettingsConfigDict(env_prefix="DAICHO_", env_ignore_empty=True, extra="forbid", frozen=True)

    environment: Literal["development", "production"] = Field(
        "development", description="production refuses made-up secrets and slow cryptography"
    )
    data_dir: Path = Field(Path("data"), description="folder of everything that is stored")
    host: str = Field("127.0.0.1", description="address that the API listens on")
    port: int = Field(8080, ge=0, le=65535, description="port that the API listens on (0: any free one)")
    origin: str = Field("", description="the log's name, fixed at the first start (default: daicho.invalid/<random>)")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="how much is logged")

    book: str = Field(
        "main", pattern=r"^[a-z][a-z0-9_]{0,30}$", description="the book's name: part of its schema and its topics"
    )
    database_url: SecretStr | None = Field(None, description="PostgreSQL of the book (default: SQLite in `data_dir`)")
    database_url_file: Path | None = Field(None, description="file with that URL")
    database_owner_url: SecretStr | None = Field(
        None, description="the same database as its owner, who migrates (`init`, `database`, `rebuild`)"
    )
    database_owner_url_file: Path | None = Field(None, description="file with the owner's URL")
    kafka_bootstrap: str = Field("", description="brokers, comma separated (needs a database; default: no Kafka)")
    metrics_host: str = Field("127.0.0.1", description="address of a worker's metrics")
    metrics_port: int | None = Field(None, ge=0, le=65535, description="port of a worker's metrics (default: none)")
    succeeds: Path | None = Field(
        None, description="checkpoint of the log that this one succeeds, named in the first entry (first start only)"
    )

    jwt_issuer: str = Field("", description="`iss` that tokens must carry (development: an issuer of our own)")
    jwt_audience: str = Field("daicho", description="`aud` that tokens must carry")
    jwt_algorithms: Annotated[tuple[str, ...], NoDecode] = Field(
        ("EdDSA",), description="accepted signature algorithms, comma separated, never `none`"
    )
    jwt_company_claim: str = Field("company", description="claim that holds the company's code")
    jwks_file: Path | None = Field(None, description="file with the issuer's public keys (JWKS)")
    jwks_url: AnyHttpUrl | None = Field(None, description="URL of the issuer's public keys (JWKS)")

    master_key_file: Path | None = Field(
        None, description="key file that seals the vault (default: in the data folder)"
    )
    cursor_secret_file: Path | None = Field(None, description="file with the secret that signs page cursors")

    rpc_url: AnyHttpUrl | None = Field(None, description="EVM node to anchor on (default: the embedded node)")
    chain_id: int = Field(20_260, ge=1, lt=2**53, description="chain id, fixed at the first start")
    chain_independent: bool = Field(
        default=False, description="whether the chain is run by somebody else than the operator"
    )
    contract: str = Field("", description="address of an AnchorRegistry deployed before (default: deploy one)")
    confirmations: int = Field(1, ge=1, le=10_000, description="blocks until an anchor is final")
    anchor_interval_seconds: Seconds = Field(10.0, description="how often a grown log is anchored")
    max_fee_gwei: float = Field(500.0, gt=0, le=1_000_000, description="most that an anchor may cost per unit of gas")
    bump_after_seconds: Seconds = Field(60.0, description="when an unmined anchor is sent again with higher fees")

    checkpoint_interval_seconds: Seconds = Field(1.0, description="how often a grown log is signed")
    publish_by_seconds: Seconds = Field(60.0, description="what a promise allows until its entries are in the log")
    log_entries: Literal["private", "public"] = Field("private", description="who may read entry bundles of the log")

    max_group_orders: int = Field(1024, ge=1, le=10_000, description="most commands in one commit")
    max_waiting_orders: int = Field(20_000, ge=1, le=1_000_000, description="most commands that may wait for a commit")
    clock_jump_limit_seconds: Seconds = Field(60.0, description="clock jump at which the ledger refuses to write")
    wait_seconds: Seconds = Field(5.0, description="longest wait of a read for `min_position`")
    max_body_bytes: int = Field(1024 * 1024, ge=1024, description="largest body of a single command")
    max_bulk_bytes: int = Field(16 * 1024 * 1024, ge=1024, description="largest body of a bulk")

    @field_validator("jwt_algorithms", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("jwt_algorithms")
    @classmethod
    def _asymmetric(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        allowed = {"RS256", "ES256", "EdDSA"}
        if not value or not set(value) <= allowed:
            raise ValueError(f"must be some of {', '.join(sorted(allowed))}")
        return value

    @model_validator(mode="after")
    def _production(self) -> Self:
        if self.jwks_file is not None and self.jwks_url is not None:
            raise ValueError("jwks_file and jwks_url exclude each other")
        self._one_of("database_url", "database_owner_url")
        if self.kafka_bootstrap and not self.clustered:
            raise ValueError("kafka_bootstrap needs a database: set DAICHO_DATABASE_URL or DAICHO_DATABASE_URL_FILE")
        if self.clustered and not self.kafka_bootstrap:
            raise ValueError("a book in PostgreSQL flows through Kafka: set DAICHO_KAFKA_BOOTSTRAP")
        if self.clustered and self.rpc_url is None:
            raise ValueError("a book in PostgreSQL is anchored by several processes: set DAICHO_RPC_URL")
        if self.environment == "production":
            needed = {
                "jwt_issuer": self.jwt_issuer,
                "jwks_file or DAICHO_JWKS_URL": self.jwks_file or self.jwks_url,
                "master_key_file": self.master_key_file,
                "cursor_secret_file": self.cursor_secret_file,
            }
            missing = [name for name, value in needed.items() if not value]
            if missing:
                raise ValueError(f"production needs {', '.join(f'DAICHO_{name.upper()}' for name in missing)}")
            if self.apple_bundle_id and self.apple_revocation != "online":
                raise ValueError("production asks Apple about revoked certificates: DAICHO_APPLE_REVOCATION=online")
        return self

    def _one_of(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) is not None and getattr(self, f"{name}_file") is not None:
                raise ValueError(f"{name} and {name}_file exclude each other")

    @property
    def clustered(self) -> bool:
        """True where the book lies in PostgreSQL and flows through Kafka, and several processes work on it."""
        return self.database_url is not None or self.database_url_file is not None

    @property
    def own_chains(self) -> tuple[int, ...]:
        """The chain, where the operator runs it: an anchor there proves nothing against its operator."""
        return () if self.chain_independent and self.rpc_url is not None else (self.chain_id,)

    @property
    def development(self) -> bool:
        """True where made-up secrets and our own token issuer are allowed."""
        return self.environment == "development"

    @property
    def issuer(self) -> str:
        """The issuer that tokens must name."""
        return self.jwt_issuer or "urn:daicho:development"


def child_environment(more: Mapping[str, str]) -> dict[str, str]:
    """The environment of a service that this process starts, with further settings."""
    return {**os.environ, **more}


def load_settings(**overrides: object) -> Settings:
    """The settings from the environment and the command line. Raises SettingsError with one line."""
    given = {name: value for name, value in overrides.items() if value is not None}
    known = {f"DAICHO_{name.upper()}" for name in Settings.model_fields}
    unknown = [name for name in os.environ if name.startswith("DAICHO_") and name not in known and TESTS not in name]
    if unknown:
        near = get_close_matches(unknown[0], known, 1)
        raise SettingsError(f"{unknown[0]} is no setting{f'; did you mean {near[0]}?' if near else ''}")
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"])
        where = f"DAICHO_{name.upper()}: " if name else ""
        raise SettingsError(f"{where}{first['msg'].removeprefix('Value error, ')}") from None
