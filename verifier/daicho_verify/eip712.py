"""EIP-712 typed data, as far as Daicho's messages need it: flat structs of string, uint256, bytes32 and address."""

import re
from collections.abc import Mapping

from daicho_verify.keccak import keccak256

Word = str | int | bytes
_DOMAIN = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"


def encode_word(kind: str, value: Word) -> bytes:
    """Encode one member as 32 bytes (EIP-712, "Definition of encodeData").

    Raises ValueError when the value does not fit its kind.
    """
    if kind == "string" and isinstance(value, str):
        return keccak256(value.encode())
    if kind == "uint256" and isinstance(value, int) and 0 <= value < 1 << 256:
        return value.to_bytes(32)
    if kind == "bytes32" and isinstance(value, bytes) and len(value) == 32:  # noqa: PLR2004 - the kind says it
        return value
    if kind == "address" and isinstance(value, bytes) and len(value) == 20:  # noqa: PLR2004 - an address
        return value.rjust(32, b"\x00")
    raise ValueError(f"{kind} cannot hold this value")


def members(type_text: str) -> list[tuple[str, str]]:
    """Give (kind, name) of each member of "Name(kind name,…)"."""
    inside = re.fullmatch(r"[A-Za-z0-9]+\((.*)\)", type_text)
    if inside is None:
        raise ValueError("not a struct type")
    return [(kind, name) for kind, _, name in (part.partition(" ") for part in inside[1].split(","))]


def struct_hash(type_text: str, values: Mapping[str, Word]) -> bytes:
    """Give hashStruct: keccak256(typeHash || encodeData)."""
    words = [encode_word(kind, values[name]) for kind, name in members(type_text)]
    return keccak256(keccak256(type_text.encode()) + b"".join(words))


def domain_separator(name: str, version: str, chain_id: int, contract: bytes) -> bytes:
    """Give the hash that binds a signature to one application, chain and contract."""
    return struct_hash(_DOMAIN, {"name": name, "version": version, "chainId": chain_id, "verifyingContract": contract})


def signing_digest(domain: bytes, struct: bytes) -> bytes:
    """Give the 32 bytes that a wallet signs: keccak256(0x1901 || domain || struct)."""
    return keccak256(b"\x19\x01" + domain + struct)
