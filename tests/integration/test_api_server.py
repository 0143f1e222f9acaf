"""The application behind a real server: what clients send byte by byte, what is logged, how it ends."""

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.server import server_config
from tests.api_support import House, terms


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path, body_timeout_seconds=0.3, max_body_bytes=100_000)
    made.admit("aozora", "kaede")
    yield made
    made.close()


class Served:
    """The house behind uvicorn on loopback, in a thread that runs the house's own event loop."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.server = uvicorn.Server(server_config(house.app, "127.0.0.1", self.port))
        self.thread = threading.Thread(target=lambda: house.run(self.server.serve([self.socket])))

    def __enter__(self) -> Self:
        self.thread.start()
        deadline = time.monotonic() + 20
        while not self.server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def head(self, length: int, *more: str) -> bytes:
        """The head of a POST of a trade."""
        lines = [
            "POST /v1/trades HTTP/1.1", "host: daicho.invalid", f"authorization: Bearer {self.house.as_('aozora')}",
            "content-type: application/json", "idempotency-key: raw-1", f"content-length: {length}", *more, "", "",
        ]  # fmt: skip
        return "\r\n".join(lines).encode()


def received(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    return data


def body_of(answer: bytes) -> Any:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def test_a_command_works_over_a_real_connection_that_is_kept(house: House) -> None:
    with Served(house) as served, served.connect() as connection:
        for number in range(2):
            raw = json.dumps(terms()).encode()
            connection.sendall(served.head(len(raw)).replace(b"raw-1", b"raw-%d" % number) + raw)
            answer = connection.recv(65536)
            while not answer.endswith(b"}"):  # the head and the body may come one after the other
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 201 ")
            assert b"server:" not in answer.lower()


def test_a_body_announced_too_large_is_refused_unread_and_the_connection_closed(house: House) -> None:
    with Served(house) as served, served.connect() as connection:
        connection.sendall(served.head(10_000_000) + b"{")
        answer = received(connection)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert body_of(answer)["values"]["limit_bytes"] == 100_000


def test_a_body_that_grows_too_large_in_chunks_is_cut_off(house: House) -> None:
    with Served(house) as served, served.connect() as connection:
        head = served.head(0).replace(b"content-length: 0", b"transfer-encoding: chunked")
        connection.sendall(head + b"1000\r\n" + b"x" * 4096 + b"\r\n")
        for _ in range(40):
            try:
                connection.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            except OSError:
                break
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_body_that_does_not_come_is_not_waited_for_long(house: House) -> None:
    with Served(house) as served, served.connect() as connection:
        connection.sendall(served.head(50) + b'{"sel')
        answer = received(connection)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert body_of(answer)["type"] == "urn:daicho:problem:body-timeout"


def test_a_client_that_goes_away_in_the_middle_leaves_nothing_and_nobody_is_hurt(house: House) -> None:
    head = house.head()
    with Served(house) as served:
        with served.connect() as connection:
            connection.sendall(served.head(50) + b'{"sel')
        with served.connect() as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert received(connection).startswith(b"HTTP/1.1 200 ")
    assert house.head() == head


def test_a_request_under_way_is_finished_before_the_service_ends(house: House) -> None:
    entered, leave = threading.Event(), asyncio.Event()
    execute = house.ledger.execute

    async def slow(order: Any) -> Any:
        entered.set()
        await leave.wait()
        return await execute(order)

    house.ledger.execute = slow  # type: ignore[method-assign]
    served = Served(house)
    with served, served.connect() as connection:
        raw = json.dumps(terms()).encode()
        connection.sendall(served.head(len(raw)) + raw)
        assert entered.wait(10)
        served.server.should_exit = True
        house.runner.get_loop().call_soon_threadsafe(leave.set)
        assert received(connection).startswith(b"HTTP/1.1 201 ")


# -- the shell ---------------------------------------------------------------------------------------------------------


def test_every_response_has_the_security_headers_and_an_id(house: House) -> None:
    for path in ("/healthz", "/v1/trades", "/nowhere", "/log/checkpoint"):
        headers = house.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["referrer-policy"] == "no-referrer"
        assert len(headers["x-request-id"]) == 32
        assert "cache-control" in headers
    assert house.get("/healthz", headers={"x-request-id": "abc-12345"}).headers["x-request-id"] == "abc-12345"
    forged = house.get("/healthz", headers={"x-request-id": 'x","status":200,"a":"'}).headers["x-request-id"]
    assert len(forged) == 32


def test_the_access_log_is_one_escaped_line_a_request_without_secrets(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "daicho.access"):
        house.get("/v1/trades?text=secret", "aozora")
        house.get('/v1/x%0d%0a{"event":"forged"}%e2%80%a8')
        house.post("/v1/trades", "aozora", terms(description="private"))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    for line in lines:
        assert "\n" not in line
        assert "\r" not in line
        shown = json.loads(line)
        assert shown["event"] == "request"
        assert shown["status"] in {200, 201, 404}
        assert shown["milliseconds"] >= 0
    assert json.loads(lines[0])["company"] == "aozora"
    assert json.loads(lines[0])["path"] == "/v1/trades"
    assert house.as_("aozora") not in caplog.text
    assert "secret" not in caplog.text
    assert "private" not in caplog.text


def test_a_defect_of_ours_is_a_500_without_its_inside_and_logged_once(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_order: Any) -> Any:
        raise ZeroDivisionError("inside\nsecret")

    house.ledger.execute = broken  # type: ignore[method-assign]
    with caplog.at_level(logging.ERROR, "daicho.error"):
        response = house.post("/v1/trades", "aozora", terms())
    body = response.json()
    assert (response.status_code, body["type"]) == (500, "urn:daicho:problem:internal-error")
    assert "secret" not in response.text
    assert body["values"]["request"] == response.headers["x-request-id"]
    (record,) = caplog.records
    shown = json.loads(record.getMessage())
    assert shown["error"] == "ZeroDivisionError"
    assert shown["request"] == response.headers["x-request-id"]
    assert "\n" not in record.getMessage()


def test_a_database_that_cannot_be_read_is_503_not_500(house: House) -> None:
    house.get("/v1/trades", "aozora")
    house.folder.joinpath("read.db").write_bytes(b"x" * 8192)
    for name in ("read.db-wal", "read.db-shm"):
        house.folder.joinpath(name).unlink(missing_ok=True)
    house.store.close()
    response = house.get("/v1/trades", "aozora")
    assert (response.status_code, response.json()["type"]) == (503, "urn:daicho:problem:storage-unavailable")


def test_websockets_are_not_served(house: House) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/v1/trades", "headers": []}
    house.run(house.app(scope, None, send))
    assert sent == [{"type": "websocket.close", "code": 1003}]


# -- anything at all ---------------------------------------------------------------------------------------------------

_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def open_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("api"))
    made.admit("aozora", "kaede")
    made.record()
    made.publish()
    yield made
    made.close()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nothing_that_is_sent_to_any_operation_is_ever_answered_with_500(
    open_house: House, data: st.DataObject
) -> None:
    house = open_house
    row = data.draw(st.sampled_from(house.app.operations), label="operation")
    path = row.path.replace(":path}", "}")
    for param in row.path_params:
        value = data.draw(st.just(str(param.example)) | st.text(min_size=1, max_size=20), label=param.name)
        path = path.replace(f"{{{param.name}}}", "".join(f"%{byte:02x}" for byte in value.encode("utf-8", "replace")))
    names = st.sampled_from([param.name for param in row.query] or ["x"])
    query = data.draw(st.dictionaries(names | st.text(max_size=5), st.text(max_size=20), max_size=3))
    content: Any = None
    headers: dict[str, Any] = {"idempotency-key": data.draw(st.text("abc 茶\t", max_size=5)).encode()}
    if row.body is not None:
        headers["content-type"] = row.body.media
        example = dict(row.body.example)
        change = data.draw(st.dictionaries(st.sampled_from([*example, "wallet", "x"]), _json, max_size=2))
        content = data.draw(
            st.just(json.dumps({**example, **change}).encode("utf-8", "replace")) | st.binary(max_size=60)
        )
    who = data.draw(st.sampled_from(["aozora", "operator", "auditor", None]))
    response = house.request(row.method, path, who, key=None, params=query, headers=headers, content=content)
    assert response.status_code < 500 or response.status_code == 503, response.text
    if response.status_code >= 400 and response.headers["content-type"] != "application/x-ndjson":
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["type"].startswith("urn:daicho:problem:")
