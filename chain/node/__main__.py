"""Command line of the embedded node: python -m chain.node FILE --port N --chain-id ID [--read-only].

Exit codes: 0 stopped, 2 wrong arguments, 3 the file is busy, of another chain, or not readable, 4 the port is taken.
"""

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from chain.node.errors import NodeError
from chain.parent import announce, end_with_parent

EXIT_FILE: Final = 3
EXIT_PORT: Final = 4
ADDRESS_DIGITS: Final = 40


def _address(text: str) -> bytes:
    digits = text.removeprefix("0x")
    if len(digits) != ADDRESS_DIGITS:
        raise argparse.ArgumentTypeError(f"{text} is not an address")
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not an address") from None


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chain.node", description="A local Ethereum node over one file.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one and names it in the ready line")
    parser.add_argument("--chain-id", type=int, help="fixed when the file is made; needed then")
    parser.add_argument(
        "--fund", type=_address, action="append", default=[], help="address that owns the genesis coins"
    )
    parser.add_argument("--read-only", action="store_true", help="serve a copy; take no lock, write nothing")
    parser.add_argument("--end-with-parent", action="store_true", help="end when standard input is closed")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Opens the file and serves it until a signal; prints one JSON line when ready."""
    arguments = _arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("eth").setLevel(logging.WARNING)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    if arguments.end_with_parent:
        end_with_parent()
    # py-evm takes a second to import: arguments are checked first
    from chain.node.evm import Evm
    from chain.node.server import listen, serve

    try:
        listener = listen(arguments.port)
    except OSError as error:
        sys.stderr.write(f"port {arguments.port}: {error.strerror}\n")
        return EXIT_PORT
    try:
        evm = Evm(arguments.file, chain_id=arguments.chain_id, fund=arguments.fund, read_only=arguments.read_only)
    except (NodeError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FILE
    # uvicorn raises the signal that stopped it once more; by then everything is closed
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    port: int = listener.getsockname()[1]
    serve(evm, listener, lambda: announce(port=port, chain_id=evm.chain_id, read_only=evm.read_only))
    return 0


if __name__ == "__main__":
    sys.exit(main())
