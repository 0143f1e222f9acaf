"""Settings: read from the environment, checked at start, one clear line for a bad one."""

from pathlib import Path

import pytest

from cli.settings import Settings, SettingsError, load_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("DAICHO_"):
            monkeypatch.delenv(name)


def refused(monkeypatch: pytest.MonkeyPatch, **settings: str) -> str:
    """What is said about these settings: one line."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_without_any_setting_the_defaults_are_those_of_a_development_machine() -> None:
    settings = load_settings()
    assert settings.development
    assert (settings.host, settings.port, settings.chain_id) == ("127.0.0.1", 8080, 20_260)
    assert settings.data_dir == Path("data")
    assert settings.issuer == "urn:daicho:development"
    assert settings.rpc_url is None


def test_the_environment_is_read_and_the_command_line_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAICHO_PORT", "9000")
    monkeypatch.setenv("DAICHO_JWT_ALGORITHMS", " ES256 , RS256 ")
    monkeypatch.setenv("DAICHO_DATA_DIR", "/somewhere")
    assert load_settings(port=None).port == 9000
    assert load_settings(port=9001).port == 9001
    assert load_settings().jwt_algorithms == ("ES256", "RS256")
    assert load_settings().data_dir == Path("/somewhere")


def test_an_empty_value_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAICHO_RPC_URL", "")
    monkeypatch.setenv("DAICHO_PORT", "")
    assert (load_settings().rpc_url, load_settings().port) == (None, 8080)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DAICHO_PORT", "http", "integer"),
        ("DAICHO_PORT", "70000", "65535"),
        ("DAICHO_PORT", "-1", "0"),
        ("DAICHO_ENVIRONMENT", "staging", "development"),
        ("DAICHO_LOG_LEVEL", "loud", "debug"),
        ("DAICHO_JWT_ALGORITHMS", "none", "must be some of"),
        ("DAICHO_JWT_ALGORITHMS", "HS256", "must be some of"),
        ("DAICHO_JWT_ALGORITHMS", ",", "must be some of"),
        ("DAICHO_RPC_URL", "not a url", "URL"),
        ("DAICHO_JWKS_URL", "ftp://keys", "URL"),
        ("DAICHO_CHAIN_ID", "0", "greater"),
        ("DAICHO_CHAIN_ID", "1.5", "integer"),
        ("DAICHO_CONFIRMATIONS", "0", "greater"),
        ("DAICHO_CHECKPOINT_INTERVAL_SECONDS", "0", "greater than 0"),
        ("DAICHO_CHECKPOINT_INTERVAL_SECONDS", "nan", "86400"),
        ("DAICHO_ANCHOR_INTERVAL_SECONDS", "1e9", "86400"),
        ("DAICHO_MAX_FEE_GWEI", "-1", "greater than 0"),
        ("DAICHO_MAX_FEE_GWEI", "inf", "1000000"),
        ("DAICHO_MAX_FEE_GWEI", "nan", "1000000"),
        ("DAICHO_MAX_GROUP_ORDERS", "0", "greater"),
        ("DAICHO_MAX_BODY_BYTES", "10", "1024"),
        ("DAICHO_LOG_ENTRIES", "secret", "private"),
        ("DAICHO_CHAIN_INDEPENDENT", "maybe", "boolean"),
    ],
)
def test_a_bad_setting_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    line = refused(monkeypatch, **{name: value})
    assert line.startswith(f"{name}: ")
    assert said.lower() in line.lower()


def test_a_misspelt_setting_is_refused_with_the_one_that_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    line = refused(monkeypatch, DAICHO_ORIGEN="example.org/log")
    assert line == "DAICHO_ORIGEN is no setting; did you mean DAICHO_ORIGIN?"


def test_the_issuers_keys_come_from_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "exclude each other" in refused(
        monkeypatch, DAICHO_JWKS_FILE="/keys.json", DAICHO_JWKS_URL="https://idp.example/keys"
    )


PRODUCTION = {
    "DAICHO_ENVIRONMENT": "production",
    "DAICHO_JWT_ISSUER": "https://idp.example",
    "DAICHO_JWKS_URL": "https://idp.example/keys",
    "DAICHO_MASTER_KEY_FILE": "/run/secrets/master.key",
    "DAICHO_CURSOR_SECRET_FILE": "/run/secrets/cursor",
}


@pytest.mark.parametrize("left_out", sorted(PRODUCTION.keys() - {"DAICHO_ENVIRONMENT"}))
@pytest.mark.parametrize("how", ["missing", "empty"])
def test_production_refuses_made_up_secrets(monkeypatch: pytest.MonkeyPatch, left_out: str, how: str) -> None:
    given = {name: value for name, value in PRODUCTION.items() if name != left_out}
    line = refused(monkeypatch, **given, **({left_out: ""} if how == "empty" else {}))
    assert "production needs" in line
    assert left_out in line


def test_production_starts_with_all_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert not settings.development
    assert settings.issuer == "https://idp.example"


def test_settings_cannot_be_changed_once_they_are_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().port = 1


def test_every_setting_is_documented_with_its_default_and_meaning() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        assert f"| `DAICHO_{name.upper()}` |" in text
        assert field.description
        assert field.description in text, name
