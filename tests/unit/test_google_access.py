"""The access token for Google's API: asked for with a signed grant, kept until a minute before it runs out."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from stores.errors import StoreAway
from stores.google.access import SCOPE, AccessToken, _Token
from stores.google.client import PlayClient
from stores.google.push import GoogleSettingsError
from tests.http_stub import Answer, Asked, Stub, serving

KEY = rsa.generate_private_key(65537, 2048)


class Google:
    """The token server."""

    def __init__(self) -> None:
        self.answers: Callable[[Asked], Answer] = lambda _: Answer({"access_token": "t-1", "expires_in": 3600})
        self.clock = 1_790_000_000.0


@pytest.fixture
def google() -> Google:
    return Google()


@pytest.fixture
def stub(google: Google) -> Iterator[Stub]:
    def answer(asked: Asked) -> Answer:
        return google.answers(asked)

    with serving(answer) as stub:
        yield stub


@pytest.fixture
def access(google: Google, stub: Stub, tmp_path: Path) -> Iterator[AccessToken]:
    pem = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    file = tmp_path / "key.json"
    file.write_text(json.dumps({"client_email": "play@p", "private_key": pem, "token_uri": f"{stub.url}/token"}))
    with httpx.Client(timeout=1.0) as http:
        yield AccessToken(http, file, now=lambda: google.clock)


def test_the_grant_is_signed_for_the_scope_of_the_play_api(access: AccessToken, stub: Stub, google: Google) -> None:
    assert access() == "t-1"
    form = parse_qs(stub.asked[0].body.decode())
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    claims = jwt.decode(
        form["assertion"][0], KEY.public_key(), ["RS256"], audience=f"{stub.url}/token", options={"verify_exp": False,
        "verify_iat": False},
    )  # fmt: skip
    assert (claims["iss"], claims["scope"], claims["exp"] - claims["iat"]) == ("play@p", SCOPE, 3600)
    assert "PRIVATE" not in repr(access)


def test_it_is_kept_until_a_minute_before_it_runs_out(access: AccessToken, stub: Stub, google: Google) -> None:
    assert [access(), access()] == ["t-1", "t-1"]
    google.clock += 3_530
    assert access() == "t-1"
    google.clock += 20
    google.answers = lambda _: Answer({"access_token": "t-2", "expires_in": 3600})
    assert access() == "t-2"
    assert len(stub.asked) == 2


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"", 500),
        Answer(b"{}"),
        Answer(b"<html>"),
        Answer(b"x" * 70_000),
        Answer(b'{"access_token":"\xff","expires_in":3600}'),
        Answer({"access_token": "", "expires_in": 3600}),
        Answer({"access_token": "a\nb", "expires_in": 3600}),
        Answer({"access_token": "t", "expires_in": -1}),
    ],
)
def test_an_answer_that_is_no_token_passes(access: AccessToken, google: Google, answer: Answer) -> None:
    google.answers = lambda _: answer
    with pytest.raises(StoreAway):
        access()


def test_a_server_that_is_away_passes(access: AccessToken, tmp_path: Path) -> None:
    file = json.loads((tmp_path / "key.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps({**file, "token_uri": "http://127.0.0.1:1/token"}))
    with httpx.Client(timeout=1.0) as http, pytest.raises(StoreAway, match="ConnectError"):
        AccessToken(http, tmp_path / "other.json")()


@pytest.mark.parametrize("content", [b"", b"{}", b'{"client_email":"a","private_key":"x","token_uri":"b"}'])
def test_a_file_that_is_no_key_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(content)
    with httpx.Client() as http:
        for path in (file, tmp_path / "missing.json"):
            with pytest.raises(GoogleSettingsError, match="no service account key"):
                AccessToken(http, path)


def test_a_purchase_is_revoked_with_all_of_its_money(stub: Stub, google: Google) -> None:
    google.answers = lambda _: Answer({})
    with httpx.Client() as http:
        PlayClient(http, "com.example", lambda: "t", base_url=stub.url).revoke("tok/en")
    assert stub.asked[0].path.endswith("/com.example/purchases/subscriptionsv2/tokens/tok%2Fen:revoke")
    assert json.loads(stub.asked[0].body) == {"revocationContext": {"fullRefund": {}}}


def test_a_key_of_another_kind_is_refused_at_the_start(tmp_path: Path) -> None:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file = tmp_path / "key.json"
    file.write_text(json.dumps({"client_email": "a", "private_key": pem.decode(), "token_uri": "http://x"}))
    with httpx.Client() as http, pytest.raises(GoogleSettingsError, match="not RSA"):
        AccessToken(http, file)


def test_nothing_that_is_kept_shows_the_key_or_the_token(access: AccessToken) -> None:
    access()
    shown = repr(vars(access)["_key"]) + repr(access) + repr(_Token("t-1", 3_600.0))
    assert "PRIVATE" not in shown
    assert "t-1" not in shown
