"""EIP-712 digests of the messages in `domain.typed_data`, and the strict recovery of who signed one.

Five times faster than eth-account's general encoder (which the tests hold it equal to), because the types are
known: their hashes and the domain separator are computed once, each value is one word.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from chain.curve import ADDRESS_BYTES, ORDER, assert_fast_crypto, checksummed, keccak, recover
from domain.typed_data import (
    DOMAIN_FIELDS,
    DOMAIN_NAME,
    DOMAIN_VERSION,
    PRIMARY_TYPES,
    TypedMessage,
    nonce_and_deadline,
    typed_message,
)

__all__ = ["BadSignature", "TypedSigner", "assert_fast_crypto", "recover_address", "signature_hex"]

_SIGNATURE: Final = re.compile(r"0x[0-9a-f]{130}\Z")
_HALF_ORDER: Final = ORDER // 2
_DIGEST_BYTES: Final = 32
# fields with few values that come again and again: their hashes are kept
_REPEATING: Final = frozenset(
    {"book", "by", "recordedBy", "seller", "buyer", "currency", "tradedOn", "dueOn", "settledOn", "company", "custody"}
)
_V_OFFSET: Final = 27  # v is 27 or 28 (Ethereum yellow paper, appendix F); 0 and 1 are another spelling of the same
_cached_text = lru_cache(maxsize=4_096)(lambda text: keccak(text.encode()))


class BadSignature(ValueError):
    """The signature does not hold. `reason` is one plain clause, safe to show."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _type_hash(name: str, fields: str) -> bytes:
    return keccak(f"{name}({fields})".encode())


_DOMAIN_TYPE: Final = _type_hash("EIP712Domain", ",".join(f"{kind} {name}" for kind, name in DOMAIN_FIELDS))
_TYPE_HASHES: Final = {primary.name: keccak(primary.encoded.encode()) for primary in PRIMARY_TYPES.values()}


def recover_address(digest: bytes, signature: str) -> str:
    """EIP-55 address of the key that signed a 32-byte digest.

    `signature` is 0x and 130 lower-case hex digits r, s, v. Raises BadSignature for anything that is not the
    one accepted spelling of a signature: other lengths (EIP-2098 has 64 bytes), v other than 27 or 28, high s
    (EIP-2), r or s outside the group. A signature over another message recovers another address, never an
    error.
    """
    if not isinstance(signature, str) or not _SIGNATURE.match(signature):
        raise BadSignature("a signature is 0x and 130 lower-case hex digits (r, s, v)")
    raw = bytes.fromhex(signature[2:])
    v = raw[64]
    if v not in {_V_OFFSET, _V_OFFSET + 1}:
        raise BadSignature(f"v is {v}, not 27 or 28")
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:64], "big")
    if not 0 < r < ORDER or s == 0:
        raise BadSignature("r or s is outside the group")
    if s > _HALF_ORDER:
        raise BadSignature("s is in the upper half of the group: a malleable signature")
    try:
        point = recover(raw[:64] + bytes((v - _V_OFFSET,)), digest)
    except ValueError:
        raise BadSignature("no key recovers from this signature") from None
    return checksummed(keccak(point)[-ADDRESS_BYTES:])


def signature_hex(recoverable: bytes) -> str:
    """The accepted spelling of r, s, recovery bit (65 bytes, as the curve library returns them)."""
    return f"0x{recoverable[:64].hex()}{recoverable[64] + _V_OFFSET:02x}"


class TypedSigner:
    """Digests and signers of typed messages in one EIP-712 domain: one chain, one contract. Holds no key."""

    def __init__(self, chain_id: int, contract: str) -> None:
        """`contract` is the registry's address, 0x and 40 hex digits."""
        self.chain_id = chain_id
        self.contract = contract
        separator = keccak(
            _DOMAIN_TYPE
            + keccak(DOMAIN_NAME.encode())
            + keccak(DOMAIN_VERSION.encode())
            + chain_id.to_bytes(32, "big")
            + bytes(12)
            + bytes.fromhex(contract.removeprefix("0x"))
        )
        self._prefix = b"\x19\x01" + separator

    def digest(
        self,
        event_type: str,
        origin: str,
        aggregate_id: str,
        data: Mapping[str, Any],
        nonce: int,
        deadline: int,
    ) -> bytes:
        """The 32 bytes that are signed for this event; domain.typed_data.TypedDataError if it has none."""
        return self.message_digest(typed_message(event_type, origin, aggregate_id, data, nonce, deadline))

    def message_digest(self, message: TypedMessage) -> bytes:
        """The 32 bytes that are signed for a message already looked up in the table."""
        words = [_TYPE_HASHES[message.primary.name]]
        for kind, name, value in message.values:
            if isinstance(value, bytes):
                words.append(value)
            elif isinstance(value, int):
                words.append(value.to_bytes(32, "big"))
            elif name in _REPEATING:
                words.append(_cached_text(value))
            elif kind == "string":
                words.append(keccak(value.encode()))
            else:
                words.append(bytes(12) + bytes.fromhex(value[2:]))
        return keccak(self._prefix + keccak(b"".join(words)))

    def address_of(self, digest: bytes, signature: str) -> str:
        """EIP-55 address that signed the digest; BadSignature(reason) as `recover_address` gives it."""
        if len(digest) != _DIGEST_BYTES:
            raise BadSignature("a digest has 32 bytes")
        return recover_address(digest, signature)

    def require_signer(
        self, event_type: str, origin: str, aggregate_id: str, data: Mapping[str, Any], address: str
    ) -> None:
        """Raise BadSignature unless `data["signature"]` was made by `address` over exactly this event.

        For an event as it is stored: nonce and deadline are those of its own signature object.
        """
        signature = data["signature"]
        digest = self.digest(event_type, origin, aggregate_id, data, *nonce_and_deadline(signature))
        signer = self.address_of(digest, signature["value"])
        if signer.lower() != address.lower():
            raise BadSignature(f"signed by {signer}, not by {address} (or for another chain, book or contract)")
