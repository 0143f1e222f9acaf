"""The AnchorRegistry contract: its Solidity sources and the committed result of compiling them.

Imports nothing of ours. Nothing here needs a compiler at run time; `contracts/README.md` says how to rebuild.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class Artefact:
    """A compiled contract as committed.

    `abi` is the JSON ABI, `bytecode` the creation code (constructor arguments are appended to it),
    `runtime_bytecode` what `eth_getCode` answers once deployed, `sources` the SHA-256 of each
    source file (hex).
    """

    abi: list[dict[str, Any]]
    bytecode: bytes
    runtime_bytecode: bytes
    compiler: dict[str, Any]
    sources: dict[str, str]


@cache
def artefact() -> Artefact:
    """The committed AnchorRegistry artefact. Callers share one object and must not change it."""
    raw = json.loads((files(__name__) / "AnchorRegistry.json").read_text(encoding="utf-8"))
    return Artefact(
        abi=raw["abi"],
        bytecode=bytes.fromhex(raw["bytecode"].removeprefix("0x")),
        runtime_bytecode=bytes.fromhex(raw["runtime_bytecode"].removeprefix("0x")),
        compiler=raw["compiler"],
        sources=raw["sources"],
    )
