"""Money: integer minor units of a currency, a string in JSON, never a float."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import CurrencyMismatch, Malformed
from domain.money import EXPONENTS, MAX_DIGITS, Money

CURRENCIES = st.sampled_from(sorted(EXPONENTS))
MINOR = st.integers(0, 10**MAX_DIGITS - 1)


def decode(text: str) -> Money:
    return msgspec.json.decode(text.encode(), type=Money)


@given(CURRENCIES, MINOR)
def test_money_survives_json_as_a_string_of_minor_units(currency: str, minor: int) -> None:
    money = Money.of(currency, minor)
    assert money.minor == minor
    assert msgspec.json.decode(msgspec.json.encode(money), type=Money) == money
    assert msgspec.to_builtins(money) == {"currency": currency, "units": str(minor)}


@pytest.mark.parametrize(
    "units",
    ["1.5", "-1", "+1", "01", "1e3", "", " 1", "1 ", "0x1", "\u0661", "1_000", "1000000000000000000", "NaN", "1\n"],
)
def test_units_that_are_no_plain_integer_of_18_digits_are_refused(units: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.units"):
        decode(msgspec.json.encode({"currency": "JPY", "units": units}).decode())


@pytest.mark.parametrize("units", ["12", "12.5", "1e3", "-1", "true", "null", "[]", "{}"])
def test_units_that_are_no_string_are_refused(units: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"Expected `str`.*\$\.units"):
        decode(f'{{"currency":"JPY","units":{units}}}')


@pytest.mark.parametrize("currency", ["XXX", "XTS", "XAU", "BTC", "DEM", "AAA"])
def test_a_currency_nobody_settles_in_is_refused(currency: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=f"'{currency}' is not an active ISO 4217 code"):
        decode(f'{{"currency":"{currency}","units":"1"}}')
    for make in (lambda: Money.of(currency, 1), lambda: Money.parse(currency, "1")):
        with pytest.raises(Malformed) as refused:
            make()
        assert refused.value.values["field"] == "currency"


@pytest.mark.parametrize("currency", ["jpy", "JP", "JPYX", "", "J1Y"])
def test_a_currency_of_another_form_is_refused(currency: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.currency"):
        decode(f'{{"currency":"{currency}","units":"1"}}')


def test_unknown_and_missing_fields_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `scale`"):
        decode('{"currency":"JPY","units":"1","scale":0}')
    with pytest.raises(msgspec.ValidationError, match="missing required field `units`"):
        decode('{"currency":"JPY"}')


@pytest.mark.parametrize("minor", [-1, 10**18, -(10**30), 10**30])
def test_an_amount_below_zero_or_above_18_digits_is_refused(minor: int) -> None:
    with pytest.raises(Malformed) as refused:
        Money.of("JPY", minor)
    assert refused.value.values["field"] == "units"


@pytest.mark.parametrize(
    ("currency", "text", "minor"),
    [
        ("JPY", "1234", 1234),
        ("JPY", "1,234", 1234),
        ("JPY", " 1,234,567 ", 1_234_567),
        ("JPY", "007", 7),
        ("EUR", "12", 1200),
        ("EUR", "12.5", 1250),
        ("EUR", "12.50", 1250),
        ("EUR", "1,234.05", 123_405),
        ("KWD", "1.234", 1234),
        ("KWD", "0.001", 1),
        ("USD", "0", 0),
    ],
)
def test_a_persons_decimal_notation_is_read(currency: str, text: str, minor: int) -> None:
    assert Money.parse(currency, text) == Money.of(currency, minor)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "12.",
        ".5",
        "-1",
        "+1",
        "1e3",
        "1 000",
        "1.2.3",
        "NaN",
        "Infinity",
        "¥100",
        "\uff11\uff12",
        "12a",
        "0x10",
        "1'000",
    ],
)
def test_what_is_no_decimal_amount_is_refused(text: str) -> None:
    with pytest.raises(Malformed, match="not a decimal amount"):
        Money.parse("EUR", text)


@pytest.mark.parametrize("text", ["12,50", "1,2345", "12,34,567", ",100", "1,,000", "1234,567", "1,234,56.00"])
def test_a_decimal_comma_is_refused_and_never_read_as_a_hundredfold(text: str) -> None:
    with pytest.raises(Malformed, match="not a decimal amount"):
        Money.parse("EUR", text)


@pytest.mark.parametrize(("currency", "text"), [("JPY", "1.0"), ("EUR", "1.001"), ("KWD", "1.0000")])
def test_more_decimals_than_the_currency_has_are_refused(currency: str, text: str) -> None:
    with pytest.raises(Malformed, match="decimals") as refused:
        Money.parse(currency, text)
    assert refused.value.values["rule"] == "minor units"


@pytest.mark.parametrize("text", ["9" * 19, "1" + "0" * 39, "9" * 5000, "1." + "0" * 5000])
def test_an_amount_of_any_length_is_refused_in_words(text: str) -> None:
    with pytest.raises(Malformed):
        Money.parse("EUR", text)


@given(CURRENCIES, MINOR)
def test_what_is_shown_is_read_back(currency: str, minor: int) -> None:
    shown, code = str(Money.of(currency, minor)).rsplit(" ", 1)
    assert Money.parse(code, shown) == Money.of(currency, minor)


def test_amounts_are_shown_with_their_currencys_decimals() -> None:
    shown = [str(Money.of(currency, 1_234_567)) for currency in ("JPY", "EUR", "KWD")]
    assert shown == ["1,234,567 JPY", "12,345.67 EUR", "1,234.567 KWD"]


def test_currencies_do_not_mix() -> None:
    Money.of("JPY", 1).same_currency(Money.of("JPY", 2))
    with pytest.raises(CurrencyMismatch) as refused:
        Money.of("JPY", 1).same_currency(Money.of("EUR", 1))
    assert refused.value.values == {"expected": "JPY", "given": "EUR"}


def test_the_table_of_currencies_has_no_code_twice() -> None:
    assert len(EXPONENTS) == 156
    assert {currency: EXPONENTS[currency] for currency in ("JPY", "EUR", "KWD", "HUF", "CLP", "ISK")} == {
        "JPY": 0, "EUR": 2, "KWD": 3, "HUF": 2, "CLP": 0, "ISK": 0,
    }  # fmt: skip
