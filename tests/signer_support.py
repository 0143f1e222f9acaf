"""A real signer process over a real vault, and requests to send it."""

import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chain.master_key import create_master_key_file
from chain.signer.client import BlockingSigner, SignerClient
from chain.signer.protocol import CreateWalletKey, Description, Initialise, PinContract, SignTrade
from tests.typed_samples import TRADE
from tests.vault_support import CHAIN, CONTRACT, ORIGIN, Folder

ROOT = Path(__file__).parent.parent
DEADLINE = 1_800_000_000


@dataclass
class SignerProcess:
    """One vault and the signer over it; the socket lies in a short folder of its own."""

    folder: Folder
    sockets: Path
    process: "subprocess.Popen[bytes] | None" = None
    errors: list[bytes] = field(default_factory=list)

    @property
    def socket(self) -> Path:
        return self.sockets / "s"

    def command(self, *more: str) -> list[str]:
        files = ["--vault", str(self.folder.database), "--kek-file", str(self.folder.key_file)]
        return [sys.executable, "-m", "chain.signer", *files, "--socket", str(self.socket), *more]

    def start(self) -> "SignerProcess":
        if not self.folder.key_file.exists():
            create_master_key_file(self.folder.key_file)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(self.command(), stdin=pipe, stdout=pipe, stderr=pipe, cwd=ROOT)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert b'"ready": true' in line, self.process.communicate()[1]
        return self

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.wait()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.wait()

    def wait(self) -> int:
        assert self.process is not None
        _, errors = self.process.communicate(timeout=20)
        self.errors.append(errors)
        return self.process.returncode

    def client(self, timeout_seconds: float = 10.0) -> SignerClient:
        return SignerClient(self.socket, "test", timeout_seconds)

    def blocking(self, timeout_seconds: float = 10.0) -> BlockingSigner:
        return BlockingSigner(self.socket, "test", timeout_seconds)

    def initialise(self) -> Description:
        signer = self.blocking()
        signer.ask(Initialise(ORIGIN, CHAIN))
        description = signer.ask(PinContract(CONTRACT))
        signer.close()
        return description

    def wallet(self, wallet_id: str) -> str:
        signer = self.blocking()
        address = signer.ask(CreateWalletKey(wallet_id)).address
        signer.close()
        return address


@contextmanager
def running_signer(path: Path, *, initialise: bool = True) -> Iterator[SignerProcess]:
    """A signer over a vault in this folder, killed at the end."""
    path.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="daicho-") as sockets:
        signer = SignerProcess(Folder(path), Path(sockets)).start()
        try:
            if initialise:
                signer.initialise()
            yield signer
        finally:
            if signer.process is not None and signer.process.poll() is None:
                signer.kill()


def nonce() -> str:
    return "0x" + secrets.token_hex(32)


def record_trade(wallet_id: str, address: str, /, **changes: Any) -> SignTrade:
    """A request to sign TRADE as it stands, with `changes`."""
    values: dict[str, Any] = {
        "chain_id": CHAIN,
        "contract": CONTRACT,
        "origin": ORIGIN,
        "wallet_id": wallet_id,
        "nonce": nonce(),
        "deadline": DEADLINE,
        "address": address,
        "event_type": "TradeRecorded",
        "aggregate_id": "trade-1",
        "data": TRADE,
    }
    return SignTrade(**{**values, **changes})


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
