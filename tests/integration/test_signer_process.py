"""The signer as a process: who may speak to it, what it survives, when it ends."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from msgspec import Raw

from chain.authorship import NOBODY, CustodialSigner, TypedVerifier
from chain.children import ChildProcess
from chain.signer.client import BATCH_REQUESTS, BlockingSigner, SignerRefusedError
from chain.signer.protocol import (
    MAX_FRAME_BYTES,
    MAX_REQUESTS,
    CreateWalletKey,
    Describe,
    Message,
    Refused,
    WalletAddress,
    decode_results,
    encode,
    frame,
)
from domain.authorship import Unsigned
from domain.errors import SignatureInvalid, SignerUnavailable
from tests.signer_support import DEADLINE, ROOT, SignerProcess, nonce, open_files, record_trade, running_signer
from tests.typed_samples import TRADE
from tests.vault_support import CHAIN, CONTRACT, ORIGIN


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[SignerProcess]:
    with running_signer(tmp_path) as process:
        yield process


def connect(signer: SignerProcess) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(20)
    connection.connect(os.fspath(signer.socket))
    return connection


def pid_of(signer: SignerProcess) -> int:
    assert signer.process is not None
    return signer.process.pid


# who may speak to it --------------------------------------------------------------------------------------------------


def test_the_socket_is_for_its_owner_alone_and_gone_after_an_orderly_end(signer: SignerProcess) -> None:
    mode = signer.socket.lstat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert signer.stop() == 0
    assert not signer.socket.exists()
    assert signer.errors == [b""]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda s: s.sockets.chmod(0o750), "mode 0700"),
        (lambda s: s.socket.write_text("x"), "no socket"),
        (lambda s: s.folder.key_file.chmod(0o644), "chmod 600"),
        (lambda s: s.folder.key_file.write_text("x"), "master key file"),
        (lambda s: s.folder.database.write_text("x" * 5_000), "vault"),
    ],
)
def test_a_signer_that_may_not_start_says_why_in_one_line(tmp_path: Path, spoil: Any, reason: str) -> None:
    with running_signer(tmp_path) as signer:
        signer.wallet("wallet-1")
        signer.stop()
        for leftover in tmp_path.glob("vault.db-*"):
            leftover.unlink()
        spoil(signer)
        done = subprocess.run(signer.command("--detached"), capture_output=True, cwd=ROOT, check=False, timeout=60)
    assert done.returncode == 2
    assert reason in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1


def test_a_socket_path_that_is_too_long_is_refused_by_name(signer: SignerProcess) -> None:
    command = signer.command("--detached")
    command[command.index("--socket") + 1] = "/tmp/" + "x" * 110
    done = subprocess.run(command, capture_output=True, cwd=ROOT, check=False, timeout=60)
    assert (done.returncode, b"at most 107 bytes" in done.stderr) == (2, True)


def test_a_second_signer_on_the_same_socket_is_refused_and_the_first_goes_on(signer: SignerProcess) -> None:
    done = subprocess.run(signer.command("--detached"), capture_output=True, cwd=ROOT, check=False, timeout=60)
    assert (done.returncode, b"another signer listens" in done.stderr) == (2, True)
    assert signer.blocking().ask(Describe()).origin == ORIGIN


def test_it_ends_in_order_however_often_it_is_told_to(signer: SignerProcess) -> None:
    assert signer.process is not None
    pid = pid_of(signer)
    done = threading.Event()

    def insist() -> None:
        while not done.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            time.sleep(0.0005)  # some thousand times a second, and it still gets a processor

    thread = threading.Thread(target=insist)
    thread.start()
    code = signer.process.wait(timeout=20)
    done.set()
    thread.join()
    assert code == 0
    assert not signer.socket.exists()


# what it survives -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00",
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x03abc",
        (MAX_FRAME_BYTES + 1).to_bytes(4, "big"),
        b"\xff\xff\xff\xff" + b"x" * 1_000,
        frame(encode({"who": "x"})),
        frame(encode({"who": "x", "requests": [], "more": 1})),
        frame(encode({"who": "x", "requests": [{}] * (MAX_REQUESTS + 1)})),
        frame(b"\xc1"),
        frame(b"\xdd\xff\xff\xff\xff"),
        frame(b"\x91" * 5_000),
    ],
)
def test_garbage_costs_the_caller_its_connection_and_nobody_else_anything(
    signer: SignerProcess, garbage: bytes
) -> None:
    neighbour = signer.blocking()
    neighbour.ask(Describe())
    with connect(signer) as connection:
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):  # closed before it had read everything
            assert connection.recv(1_000) == b""
    assert neighbour.ask(Describe()).origin == ORIGIN


def test_a_bad_request_does_not_touch_its_neighbours_in_the_message(signer: SignerProcess) -> None:
    requests: list[Any] = [encode(CreateWalletKey("wallet-1")), encode({"type": "x"}), encode(7), encode(Describe())]
    with connect(signer) as connection:
        connection.sendall(frame(encode({"who": "x", "requests": [Raw(each) for each in requests]})))
        first, second, third, fourth = decode_results(read_frame(connection))
    assert isinstance(first, WalletAddress)
    assert (type(second), type(third)) == (Refused, Refused)
    assert getattr(fourth, "origin", None) == ORIGIN


def test_callers_that_vanish_leave_nothing_open(signer: SignerProcess) -> None:
    client = signer.blocking()
    client.ask(Describe())
    before = open_files(pid_of(signer))
    for _ in range(20):
        with connect(signer) as connection:
            connection.sendall(frame(encode(Message("x", [Raw(encode(Describe()))])))[:-3])
        with connect(signer) as connection:
            connection.sendall(frame(encode(Message("x", [Raw(encode(Describe()))]))))
    with connect(signer) as last:  # answered in order: by then every earlier end has been read
        last.sendall(frame(encode(Message("x", [Raw(encode(Describe()))]))))
        read_frame(last)
        wait_until(lambda: open_files(pid_of(signer)) <= before + 1)


def test_a_full_disk_is_an_answer_and_the_signer_goes_on_when_there_is_room(signer: SignerProcess) -> None:
    client = signer.blocking()
    pid = pid_of(signer)
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    address = signer.wallet("wallet-1")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, limits[1]))
    with pytest.raises(SignerUnavailable, match="vault cannot be used"):
        client.ask(record_trade("wallet-1", address))
    with pytest.raises(SignerUnavailable):
        client.ask(CreateWalletKey("wallet-2"))
    resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    assert client.ask(record_trade("wallet-1", address)).address == address
    assert client.ask(CreateWalletKey("wallet-2")).address == signer.wallet("wallet-2")


@pytest.mark.parametrize("after_seconds", [0.0, 0.002, 0.005, 0.01, 0.02, 0.04])
def test_a_wallet_whose_making_is_killed_has_one_address_afterwards(
    signer: SignerProcess, after_seconds: float
) -> None:
    seen: dict[str, str] = {}
    ids = [f"wallet-{i}" for i in range(400)]

    def create() -> None:
        client = signer.blocking(timeout_seconds=0.5)
        try:
            for wallet_id in ids:
                seen[wallet_id] = client.ask(CreateWalletKey(wallet_id)).address
        except SignerUnavailable:
            pass

    thread = threading.Thread(target=create)
    thread.start()
    wait_until(lambda: len(seen) > 3)
    threading.Event().wait(after_seconds)
    signer.kill()
    thread.join()
    signer.start()
    assert {wallet_id: signer.wallet(wallet_id) for wallet_id in seen} == seen
    opened = signer.folder.open()
    assert all(len(opened.store.keys("wallet", wallet_id)) <= 1 for wallet_id in ids)
    assert opened.care.trial_open(1_000) >= len(seen)


def test_no_core_is_dumped_and_no_other_process_reads_its_memory(signer: SignerProcess) -> None:
    pid = pid_of(signer)
    assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
    assert Path(f"/proc/{pid}/mem").stat().st_uid == 0
    status = Path(f"/proc/{pid}/status").read_text()
    assert "CoreDumping:\t0" in status
    # /proc files of an undumpable process belong to root whatever user it runs as (proc(5))
    assert Path(f"/proc/{pid}/environ").stat().st_uid == 0


def test_nothing_it_says_shows_a_key(signer: SignerProcess) -> None:
    address = signer.wallet("wallet-1")
    client = signer.blocking()
    for bad in (record_trade("wallet-1", address, contract="0x"), record_trade("wallet-9", address)):
        with pytest.raises(SignerRefusedError):
            client.ask(bad)
    with connect(signer) as connection:
        connection.sendall(b"\x00\x00\x00\x03abc")
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
    opened = signer.folder.open()
    secret = opened.vault.unseal(opened.vault.sealed("wallet", "wallet-1"))
    signer.stop()
    said = b"".join(signer.errors)
    assert b"closing a connection" in said
    assert secret.hex().encode() not in said
    assert secret not in said


# when it ends ---------------------------------------------------------------------------------------------------------


def test_it_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    with running_signer(tmp_path) as signer:
        signer.stop()
        code = f"""
import subprocess, sys
child = subprocess.Popen({signer.command()!r}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
print(child.stdout.readline().decode(), child.pid, flush=True)
sys.stdin.read()
"""
        pipe = subprocess.PIPE
        parent = subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, cwd=ROOT)
        assert parent.stdout is not None
        parent.stdout.readline()
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        parent.communicate()
        wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
        with pytest.raises(SignerUnavailable):
            signer.blocking(timeout_seconds=0.1).ask(Describe())


def test_it_ends_when_its_standard_input_closes(signer: SignerProcess) -> None:
    assert signer.process is not None
    assert signer.process.stdin is not None
    signer.process.stdin.close()
    signer.process.stdin = None
    assert signer.wait() == 0


def test_a_killed_signer_is_started_again_and_its_callers_wait_for_it(signer: SignerProcess) -> None:
    signer.stop()

    async def scenario() -> None:
        child = ChildProcess("signer", lambda _: signer.command())
        await child.start()
        client = signer.client(timeout_seconds=30)
        address = (await client.ask(CreateWalletKey("wallet-1"))).address
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        assert (await client.ask(CreateWalletKey("wallet-1"))).address == address
        assert child.restarts == 1
        await client.close()
        await child.stop()

    asyncio.run(scenario())


# its clients ----------------------------------------------------------------------------------------------------------


def test_concurrent_callers_share_messages(signer: SignerProcess) -> None:
    address = signer.wallet("wallet-1")

    async def scenario() -> None:
        client = signer.client()
        signatures = await asyncio.gather(
            *(client.ask(record_trade("wallet-1", address)) for _ in range(3 * BATCH_REQUESTS))
        )
        assert len({signature.value for signature in signatures}) == 3 * BATCH_REQUESTS
        await client.close()

    asyncio.run(scenario())
    with sqlite3.connect(signer.folder.database) as db:
        ((count,),) = db.execute("SELECT count(*) FROM audit WHERE purpose = 'TradeRecorded'")
        moments = db.execute("SELECT DISTINCT at_ms FROM audit WHERE purpose = 'TradeRecorded'").fetchall()
    assert count == 3 * BATCH_REQUESTS
    assert len(moments) < count


def test_a_caller_that_gives_up_does_not_hold_up_the_others(signer: SignerProcess) -> None:
    async def scenario() -> None:
        client = signer.client()
        impatient = asyncio.create_task(client.ask(CreateWalletKey("wallet-1")))
        patient = asyncio.create_task(client.ask(CreateWalletKey("wallet-2")))
        await asyncio.sleep(0)
        impatient.cancel()
        assert (await patient).address.startswith("0x")
        with pytest.raises(asyncio.CancelledError):
            await impatient
        await client.close()
        with pytest.raises(SignerUnavailable):
            await client.ask(Describe())

    asyncio.run(scenario())


def test_a_signer_that_is_not_there_is_unavailable_in_bounded_time(signer: SignerProcess) -> None:
    signer.stop()
    with pytest.raises(SignerUnavailable, match=r"no answer in 0\.2 s"):
        signer.blocking(timeout_seconds=0.2).ask(Describe())

    async def scenario() -> None:
        client = signer.client(timeout_seconds=0.2)
        with pytest.raises(SignerUnavailable, match=r"no answer in 0\.2 s"):
            await client.ask(Describe())
        waiting = asyncio.create_task(client.ask_all([Describe(), Describe()]))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(SignerUnavailable):
            await waiting

    asyncio.run(scenario())


def test_a_listener_that_answers_nonsense_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(os.fspath(path))
        listener.listen()

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(100)
                    connection.sendall(frame(encode([])))

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with pytest.raises(SignerUnavailable, match="FrameError"):
            BlockingSigner(path, "test", 0.2).ask(Describe())
        listener.shutdown(socket.SHUT_RDWR)


def test_the_ledgers_ports_sign_and_verify_and_one_refused_key_stops_only_its_own_command(
    signer: SignerProcess,
) -> None:
    address = signer.wallet("wallet-1")
    signer.wallet("wallet-erased")
    signer.folder.open().care.erase_wallet_key("wallet-erased")
    verifier = TypedVerifier(ORIGIN, CHAIN, CONTRACT)
    batch = {"wallet": "wallet-1", "company": "aozora-foods", "root": "ab" * 32, "count": 3}
    trade = Unsigned("wallet-1", address, "TradeRecorded", "trade-1", TRADE, nonce(), DEADLINE)
    messages = [
        trade,
        trade._replace(wallet="wallet-erased"),
        Unsigned("wallet-1", "", "BatchSigned", "batch-1", batch, nonce(), DEADLINE),
    ]

    async def scenario() -> list[Any]:
        client = signer.client()
        keys = CustodialSigner(client, ORIGIN, CHAIN, CONTRACT)
        signed = [
            *await keys.sign(messages),
            await keys.open_wallet("wallet-2", "aozora-foods", opening.nonce, DEADLINE),
            await keys.rotate_key("wallet-1", address, trade.nonce, DEADLINE),
        ]
        with pytest.raises(SignerRefusedError, match="key-erased"):
            await keys.open_wallet("wallet-erased", "aozora-foods", nonce(), DEADLINE)
        await client.close()
        return signed

    opening = Unsigned("wallet-2", "", "WalletOpened", "wallet-2", {}, nonce(), DEADLINE)
    one, refused, three, opened, rotation = asyncio.run(scenario())
    assert refused == NOBODY
    for message, signed in ((messages[0], one), (messages[2], three)):
        assert verifier.address_of(message, signed.value) == signed.address == address
    data: dict[str, Any] = {"company": "aozora-foods", "custody": "custodial", "address": opened.address}
    assert verifier.address_of(opening._replace(data=data), opened.value) == opened.address
    data = {"old": address, "new": rotation.new}
    turn = Unsigned("wallet-1", "", "WalletKeyRotated", "wallet-1", data, trade.nonce, DEADLINE)
    assert verifier.address_of(turn, rotation.signature) == address
    assert verifier.address_of(turn, rotation.new_signature) == rotation.new
    for bad in (trade._replace(data={}), trade):
        with pytest.raises(SignatureInvalid):
            verifier.address_of(bad, "0x00")


# helpers --------------------------------------------------------------------------------------------------------------


def read_frame(connection: socket.socket) -> bytes:
    with connection.makefile("rb") as file:
        return file.read(int.from_bytes(file.read(4), "big"))


def wait_until(condition: Any, timeout_seconds: float = 20.0) -> None:
    pause = threading.Event()
    for _ in range(int(timeout_seconds / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("the condition did not come true")
