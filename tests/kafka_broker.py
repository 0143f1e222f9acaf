"""A real Kafka for tests: one broker in KRaft mode from Maven's jars, on loopback, to be killed, paused and restarted.

One broker a run serves all tests that do it no harm (`shared_broker`, or the one that `DAICHO_TEST_KAFKA` names), each
with topics and groups of its own names; tests that kill it start their own `KafkaBroker`.
"""

import atexit
import fcntl
import functools
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Self

import pytest

from tests.postgres_server import free_port

ROOT = Path(__file__).resolve().parent.parent
POM = ROOT / "tests" / "kafka" / "pom.xml"
JARS = ROOT / "build" / "kafka-jars"
NAMED = "DAICHO_TEST_KAFKA"
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"  # 16 bytes, base64url
FETCH_SECONDS = 240
START_SECONDS = 60.0
STOP_SECONDS = 20.0
JVM = (
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Djava.net.preferIPv4Stack=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "inter.broker.listener.name": "PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "num.partitions": "1",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "broker.session.timeout.ms": "2000",  # by default a killed broker is not let in again for 9 s
    "broker.heartbeat.interval.ms": "250",
    "num.network.threads": "2",
    "num.io.threads": "2",
    "log.cleaner.threads": "1",
    "log.cleaner.dedupe.buffer.size": "4194304",
}
_numbers = count()


class KafkaBroker:
    """A broker in a folder of its own; the same port and data after `kill9` or `stop` and `start`.

    `settings` are broker properties with underscores for dots.
    """

    def __init__(self, **settings: str) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="daicho-kafka-"))
        self.data = self.base / "data"
        self.port, self._controller_port = free_port(), free_port()
        self._settings = {**SETTINGS, **{name.replace("_", "."): value for name, value in settings.items()}}
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """The address for clients."""
        return f"127.0.0.1:{self.port}"

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start, or start again; returns when it answers."""
        java, jars = require_java(), fetched_jars()
        command = [java, *JVM, "-cp", f"{jars}/*"]
        properties = self._write_properties()
        with (self.base / "broker.log").open("ab") as log:
            if not (self.data / "meta.properties").exists():
                tool = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)]
                subprocess.run([*command, *tool], check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self._process = subprocess.Popen(
                [*command, "kafka.Kafka", str(properties)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.base,
            )
        self._watch(self._process.pid)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if answers(self.port):
                return self
            time.sleep(0.05)
        self.kill9()
        raise RuntimeError(f"Kafka did not start: {self.log()[-3000:]}")

    def kill9(self) -> None:
        """Kill it at once; what was acknowledged is in the page cache and survives."""
        if self._process is not None:
            self._unwatch()
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Stop in good order."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill9()
            self._unwatch()
            self._process = None

    def pause(self) -> None:
        """Hold it where it is: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def lose_disk(self) -> None:
        """Delete all it has stored; it must not be running. The next `start` is an empty broker at the same address."""
        shutil.rmtree(self.data)

    def remove(self) -> None:
        """Kill it and delete its folder."""
        self.kill9()
        shutil.rmtree(self.base, ignore_errors=True)

    def log(self) -> str:
        """What it has printed."""
        return (self.base / "broker.log").read_text(errors="replace")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _watch(self, broker: int) -> None:
        """End the broker with this process, however that ends: a run that is killed must leave no broker behind."""
        command = ["sh", "-c", 'read _; kill -9 "$0"; rm -rf "$1"', str(broker), str(self.base)]
        self._watcher = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, cwd="/")

    def _unwatch(self) -> None:
        if self._watcher is not None and self._watcher.stdin is not None:
            self._watcher.kill()
            self._watcher.wait()
            self._watcher.stdin.close()
            self._watcher = None

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _write_properties(self) -> Path:
        listeners = f"PLAINTEXT://127.0.0.1:{self.port}"
        own = {
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": listeners,
            "log.dirs": str(self.data),
        }
        path = self.base / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in {**self._settings, **own}.items()))
        return path


class NamedBroker:
    """A broker that somebody else runs: its address only."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap


def answers(port: int) -> bool:
    """Whether a broker at this port answers a request for its API versions (asked without a client library)."""
    try:
        with socket.create_connection(("127.0.0.1", port), 0.5) as connection:
            connection.settimeout(2)
            request = struct.pack(">hhih", 18, 0, 7, -1)  # ApiVersions, version 0, correlation id 7, no client id
            connection.sendall(struct.pack(">i", len(request)) + request)
            head = connection.recv(10)
            return len(head) == 10 and struct.unpack(">iih", head)[1:] == (7, 0)
    except OSError:
        return False


def require_java() -> str:
    """The java command. Without it: a failure where `CI` is set, else a skip that says why."""
    return _required("java")


@functools.cache
def fetched_jars() -> Path:
    """The folder with the broker's jars, fetched by the first test process that needs them."""
    JARS.mkdir(parents=True, exist_ok=True)
    stamp = JARS / ".complete"
    with (JARS / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_bytes() == POM.read_bytes():
            return JARS
        for old in JARS.glob("*.jar"):
            old.unlink()
        command = [_required("mvn"), "-B", "-ntp", "-q", "-f", str(POM), "dependency:copy-dependencies"]
        command += ["-DincludeScope=runtime", f"-DoutputDirectory={JARS}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
        if done.returncode or not list(JARS.glob("kafka_2.13-*.jar")):
            pytest.fail(f"Maven did not fetch the broker: {(done.stdout + done.stderr)[-1500:]}")
        stamp.write_bytes(POM.read_bytes())
    return JARS


@functools.cache
def shared_broker() -> KafkaBroker | NamedBroker:
    """The run's broker, started by the first test that asks. Never kill or pause it."""
    named = os.environ.get(NAMED)
    if named:
        return NamedBroker(named)
    broker = KafkaBroker()
    atexit.register(broker.remove)
    return broker.start()


def new_name(kind: str = "t") -> str:
    """A name for a book, topic or group that no other test of this or another run uses (a valid book name)."""
    return f"{kind}{os.getpid()}_{time.time_ns() % 10**9:09d}_{next(_numbers)}"


def _required(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        reason = f"the tests' Kafka needs {program}, which is not installed (or name a broker in {NAMED})"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path
