"""The settings about app stores and the billing system behind them: a part of `cli.settings.Settings`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AnyHttpUrl, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class StoreSettings(BaseSettings):
    """Each store is set up by naming our app there; what belongs to it is needed then."""

    store_company: str = Field(
        "",
        pattern=r"^([a-z0-9][a-z0-9-]{0,38}[a-z0-9])?$",
        description="code of the company whose apps they sell",
    )
    apple_bundle_id: str = Field("", description="our app's bundle id (default: no App Store)")
    apple_app_id: int | None = Field(None, ge=1, lt=2**53, description="our app's Apple id (needed for production)")
    apple_environments: Annotated[tuple[str, ...], NoDecode] = Field(
        ("production", "sandbox"), description="environments whose messages are taken, in this order"
    )
    apple_root_file: Path | None = Field(None, description="Apple Root CA - G3 as DER (from Apple's PKI page)")
    apple_revocation: Literal["online", "offline"] = Field(
        "online", description="whether Apple is asked if it has revoked a certificate"
    )
    apple_key_file: Path | None = Field(None, description="key (PEM, .p8) for the App Store Server API")
    apple_key_id: str = Field("", description="id of that key")
    apple_issuer_id: str = Field("", description="issuer id of that key")
    apple_api_url: AnyHttpUrl | None = Field(None, description="App Store Server API (default: Apple's own)")

    google_package: str = Field("", description="our app's package name (default: no Google Play)")
    google_subscription: str = Field("", description="Pub/Sub subscription that pushes to us (projects/…)")
    google_audience: str = Field("", description="audience that the subscription names in its tokens")
    google_push_account: str = Field("", description="e-mail address of the service account that it pushes as")
    google_jwks_url: AnyHttpUrl = Field(
        AnyHttpUrl("https://www.googleapis.com/oauth2/v3/certs"), description="Google's public keys (JWKS)"
    )
    google_key_file: Path | None = Field(None, description="service account key (JSON) for the Google Play API")
    google_api_url: AnyHttpUrl | None = Field(None, description="Google Play API (default: Google's)")

    apple_history_seconds: Seconds = Field(3_600.0, description="how often Apple's history is read for what never came")
    google_voided_seconds: Seconds = Field(21_600.0, description="how often Google is asked what was voided")

    billing_url: AnyHttpUrl | None = Field(None, description="the existing billing system (default: none)")
    billing_token: SecretStr | None = Field(None, description="bearer token for it")
    billing_token_file: Path | None = Field(None, description="file with that token")
    billing_plans: dict[str, str] = Field(
        default_factory=dict, description="plan at the billing system by product, JSON (default: the product's name)"
    )
    billing_timeout_seconds: Seconds = Field(5.0, description="longest wait for an answer of the billing system")
    billing_settle_seconds: Seconds = Field(
        60.0, description="after an unanswered request, how long until the billing system surely has done it or not"
    )
    purchase_wait_seconds: float = Field(2.5, ge=0, le=10, description="how long a purchase is waited for, else 202")
    soft_gap_seconds: float = Field(
        86_400.0, ge=0, le=7 * 86_400, description="access goes on so long when a store is late to report a renewal"
    )

    @field_validator("apple_environments", mode="before")
    @classmethod
    def _split_environments(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("apple_environments")
    @classmethod
    def _signed_environments(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not set(value) <= {"production", "sandbox"}:
            raise ValueError("must be production, sandbox or both: Apple signs nothing in any other one")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """What belongs to a store that is set up must be there, by name."""
        if self.apple_bundle_id:
            self._need("the App Store", "store_company", "apple_root_file")
            if "production" in self.apple_environments:
                self._need("the App Store in production", "apple_app_id")
        if self.google_package:
            needed = ("store_company", "google_subscription", "google_audience", "google_push_account")
            self._need("Google Play", *needed)
        if self.billing_token is not None and self.billing_token_file is not None:
            raise ValueError("billing_token and billing_token_file exclude each other")
        if self.billing_url is not None and self.billing_token is None and self.billing_token_file is None:
            raise ValueError("the billing system needs DAICHO_BILLING_TOKEN or DAICHO_BILLING_TOKEN_FILE")
        return self

    def _need(self, what: str, *names: str) -> None:
        missing = [f"DAICHO_{name.upper()}" for name in names if not getattr(self, name)]
        if missing:
            raise ValueError(f"{what} needs {', '.join(missing)}")

    @property
    def has_stores(self) -> bool:
        """True when an app of any store is set up."""
        return bool(self.apple_bundle_id or self.google_package)
