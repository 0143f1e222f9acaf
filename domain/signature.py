"""The signature objects that stand in the data of signed events, and the checks that need no cryptography."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from domain.errors import SignatureExpired, WrongSigner

Address = Annotated[str, Meta(pattern=r"\A0x[0-9a-fA-F]{40}\Z", description="EVM address", examples=["0x" + "1f" * 20])]
Nonce = Annotated[
    str,
    Meta(
        pattern=r"\A0x[0-9a-f]{64}\Z",
        description="256 random bits, used once per wallet",
        examples=["0x" + "5a" * 32],
    ),
]
SignatureValue = Annotated[
    str,
    Meta(
        pattern=r"\A0x[0-9a-f]{130}\Z",
        description="r, s, v of a low-s secp256k1 signature",
        examples=["0x" + "ab" * 65],
    ),
]
Deadline = Annotated[int, Meta(ge=0, lt=2**53, description="Unix time in seconds until when it may be recorded")]


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The authorship of one signed event: an EIP-712 signature of its own, or a place in a batch signed once.

    Own: `wallet`, `address`, `deadline`, `nonce`, `value`. In a batch: `wallet`, `batch` (its aggregate id) and
    `index` (from 0; its `BatchSigned` precedes it). The other fields are absent.
    """

    wallet: str
    address: Address | UnsetType = UNSET
    batch: str | UnsetType = UNSET
    deadline: Deadline | UnsetType = UNSET
    index: int | UnsetType = UNSET
    nonce: Nonce | UnsetType = UNSET
    value: SignatureValue | UnsetType = UNSET

    @property
    def own(self) -> bool:
        """True for a signature of the event's own, False for a place in a batch."""
        return self.batch is UNSET


class ClientSignature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client with a wallet in own custody sends beside a command."""

    deadline: Deadline
    nonce: Nonce
    value: SignatureValue


def require_live(deadline: int, now_seconds: float) -> None:
    """Raise SignatureExpired when the deadline has passed."""
    if deadline < now_seconds:
        raise SignatureExpired(f"the signature was valid until {deadline}, it is {int(now_seconds)}", deadline=deadline)


def same_address(one: object, other: str) -> bool:
    """True for two spellings of one EVM address (EIP-55 puts a checksum into upper and lower case)."""
    return one == other or (isinstance(one, str) and one.lower() == other.lower())


def wrong_signer(wallet: str, expected: str, given: object) -> WrongSigner:
    """The refusal of a signature by another key than the one expected."""
    return WrongSigner(f"signed by {given}, expected {expected}", wallet=wallet, expected=expected, given=given)
