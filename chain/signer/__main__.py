"""`python -m chain.signer --vault FILE --kek-file FILE --socket PATH`: run the signer until its parent ends.

Started by the service with its standard input as a pipe that is never written to. Prints `ready` once it
listens. Exit codes: 0 stopped, 2 refused to start (one line on standard error says why).

The vault's store is named, not imported: the signer may not know what lies on disk (import rules).
"""

import argparse
import asyncio
import contextlib
import importlib
import logging
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from chain.curve import SlowCryptoError, assert_fast_crypto
from chain.envelope import VaultError
from chain.master_key import FileKeyProvider
from chain.parent import announce, end_with_parent
from chain.signer.desk import Desk
from chain.signer.hardening import forbid_dumps
from chain.signer.server import SignerServer, SocketError, bind_socket
from chain.vault import Vault
from chain.vault_care import VaultCare

_REFUSED = 2
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def main() -> int:
    """Check everything once, then serve."""
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    forbid_dumps()
    try:
        assert_fast_crypto(allow_slow=options.allow_slow_crypto)
        store = _open_store(options.store, options.vault)
        vault = Vault(store, FileKeyProvider(options.kek_file))
        VaultCare(vault, store).trial_open()
        listener = bind_socket(options.socket)
    except (VaultError, SlowCryptoError, SocketError, OSError) as error:
        sys.stderr.write(f"signer: {error}\n")
        return _REFUSED
    if not options.detached:
        end_with_parent()
    try:
        asyncio.run(_serve(Desk(vault), listener, options.socket))
    finally:
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # the interpreter puts back all handlers but this one as it ends
        options.socket.unlink(missing_ok=True)
        store.close()
    return 0


async def _serve(desk: Desk, listener: socket.socket, path: Path) -> None:
    server = SignerServer(desk, listener)
    _stop_on_signal(asyncio.get_running_loop(), server.stop)
    announce(socket=str(path))
    await server.serve()


def _stop_on_signal(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    """Stop in order on SIGTERM and SIGINT, however many come.

    Not by `loop.add_signal_handler`, which ends with the loop: the parent closes our standard input and sends SIGTERM,
    so a second one often comes while the vault is being closed.
    """

    def ask_to_stop(_number: int, _frame: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: we are ending already
            loop.call_soon_threadsafe(stop)

    for number in _STOP_SIGNALS:
        signal.signal(number, ask_to_stop)


def _open_store(name: str, path: Path) -> Any:
    """The store `module:Class` over a file; it fulfils VaultStore and CareStore."""
    module, _, attribute = name.partition(":")
    return cast("Any", getattr(importlib.import_module(module), attribute)(path))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chain.signer", description=__doc__.splitlines()[0])
    parser.add_argument("--vault", type=Path, required=True, help="the vault's database")
    parser.add_argument("--kek-file", type=Path, required=True, help="the master key file, mode 0600")
    parser.add_argument("--socket", type=Path, required=True, help="where to listen, in a folder of mode 0700")
    parser.add_argument("--store", default="storage.vault_store:SqliteVaultStore", help="module:class of the store")
    parser.add_argument("--detached", action="store_true", help="run on its own, not as a child of the service")
    parser.add_argument("--allow-slow-crypto", action="store_true", help="for development only")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
