"""`daicho node`: serve the embedded chain's file, or a copy of it, as an Ethereum node on loopback."""

from pathlib import Path


def node(file: Path, *, port: int = 8545, read_only: bool = False) -> int:
    """Serve a chain file over Ethereum JSON-RPC until it is stopped.

    An auditor serves a copy with --read-only and points `daicho-verify --rpc` at it.

    Parameters
    ----------
    file
        The chain's file (`chain.db` of a data folder).
    port
        Port on 127.0.0.1 (0: any free one, named in the line that it prints).
    read_only
        Take no lock and write nothing.
    """
    from chain.node.__main__ import main

    arguments = [str(file), "--port", str(port)]
    return main([*arguments, "--read-only"] if read_only else arguments)
