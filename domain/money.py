"""Money: integer minor units of an ISO 4217 currency, a JSON string in and out."""

import re
from typing import Annotated, Final, Self

import msgspec
from msgspec import Meta

from domain.errors import CurrencyMismatch, Malformed

# ISO 4217, list one of 2024-06-25 and its amendments: active codes by their number of minor digits.
# Funds codes, precious metals and test codes are left out: nobody settles an invoice in them.
_TWO_DIGITS = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC"
    " CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR"
    " JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD"
    " NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN"
    " SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG"
)
_NO_DIGITS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_THREE_DIGITS = "BHD IQD JOD KWD LYD OMR TND"
EXPONENTS: Final[dict[str, int]] = {
    **dict.fromkeys(_TWO_DIGITS.split(), 2),
    **dict.fromkeys(_NO_DIGITS.split(), 0),
    **dict.fromkeys(_THREE_DIGITS.split(), 3),
}
_DECIMAL: Final = re.compile(r"([0-9]{1,40}|[0-9]{1,3}(?:,[0-9]{3}){1,12})(?:\.([0-9]{1,12}))?\Z")
MAX_DIGITS: Final = 18  # fits a signed 64-bit integer with room for sums over a trade's life

Currency = Annotated[str, Meta(pattern=r"\A[A-Z]{3}\Z", description="ISO 4217 code", examples=["JPY"])]
Units = Annotated[
    str,
    Meta(
        pattern=r"\A(0|[1-9][0-9]{0,17})\Z",
        description="integer minor units, without sign or leading zeros, at most 18 digits",
        examples=["1250000"],
    ),
]


class Money(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An amount: `units` integer minor units of `currency` (12.50 EUR is 1250 units; 1250 JPY is 1250 units)."""

    currency: Currency
    units: Units

    def __post_init__(self) -> None:
        if self.currency not in EXPONENTS:
            raise ValueError(f"currency {self.currency!r} is not an active ISO 4217 code")

    @property
    def minor(self) -> int:
        """The amount in minor units."""
        return int(self.units)

    @classmethod
    def of(cls, currency: str, minor: int) -> Self:
        """An amount of so many minor units; Malformed when it is negative, too large or of no known currency."""
        if currency not in EXPONENTS:
            raise Malformed(f"currency {currency!r} is not an active ISO 4217 code", field="currency", rule="ISO 4217")
        if not 0 <= minor < 10**MAX_DIGITS:
            raise Malformed("an amount has at most 18 digits and no sign", field="units", rule="0 to 10^18 - 1")
        return cls(currency, str(minor))

    @classmethod
    def parse(cls, currency: str, text: str) -> Self:
        """An amount from a person's decimal notation; its decimals may not exceed the currency's.

        "1234.5", "1,234.50": a comma only parts thousands, so a decimal comma ("12,50") is refused, not misread.
        """
        exponent = EXPONENTS.get(currency)
        if exponent is None:
            raise Malformed(f"currency {currency!r} is not an active ISO 4217 code", field="currency", rule="ISO 4217")
        found = _DECIMAL.match(text.strip())
        if found is None:
            raise Malformed(f"{text!r} is not a decimal amount", field="amount", rule="digits with one decimal point")
        whole, decimals = found[1].replace(",", ""), found[2] or ""
        if len(decimals) > exponent:
            raise Malformed(
                f"{currency} has {exponent} decimals, {text!r} has {len(decimals)}",
                field="amount",
                rule="minor units",
            )
        return cls.of(currency, int(whole + decimals.ljust(exponent, "0")))

    def same_currency(self, other: "Money") -> None:
        """Raise CurrencyMismatch unless both amounts are of one currency."""
        if self.currency != other.currency:
            raise CurrencyMismatch(
                f"the trade is in {self.currency}, not {other.currency}",
                expected=self.currency,
                given=other.currency,
            )

    def __str__(self) -> str:
        exponent = EXPONENTS[self.currency]
        if not exponent:
            return f"{self.minor:,} {self.currency}"
        whole, decimals = divmod(self.minor, 10**exponent)
        return f"{whole:,}.{decimals:0{exponent}d} {self.currency}"
