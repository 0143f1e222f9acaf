"""From entries back to everything that the event store keeps beside them: rows and claims.

Entries say which command led to them and what they are unique by, so a store that was lost can be made again from a
topic or an export, and repeated commands are recognised afterwards as before.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from domain.entry import Envelope, decode_envelope
from domain.signature import Signature

Record = tuple[int, bytes]
_RECORDED: Final = "TradeRecorded"
_OPENED: Final = "WalletOpened"


class RestoredCommand(NamedTuple):
    """What one command left in the store: its key's hash, its body's, its first position, its entries, its claims."""

    key: str
    body: str
    first: int
    entries: list[tuple[int, str, int, str, bytes]]
    claims: list[str]


class _Claimed(msgspec.Struct):
    signature: Signature | UnsetType | None = UNSET
    recorded_by: str = ""
    reference: str = ""


_decode_claimed = msgspec.json.Decoder(_Claimed).decode


def restored(records: Sequence[Record]) -> Iterator[RestoredCommand]:
    """The commands behind whole records, in order. The entries of a command stand together.

    An entry tuple is a row of the events table: position, aggregate id, version, type, bytes. Raises msgspec's errors
    for bytes that are no entry.
    """
    envelopes = [(decode_envelope(state), state) for _, state in records]
    for ref, group in groupby(envelopes, key=lambda pair: (pair[0].command.key, pair[0].command.body)):
        entries = list(group)
        first = entries[0][0]
        rows = [(e.position, e.aggregate_id, e.version, e.type, state) for e, state in entries]
        yield RestoredCommand(ref[0], ref[1], first.position, rows, _claims(first))


def whole_commands(records: Sequence[Record]) -> Sequence[Record]:
    """The records without the last command's, whose end may not be among them; all where there is but one command."""
    refs = [decode_envelope(state).command for _, state in records]
    end = len(records)
    while end and refs[end - 1] == refs[-1]:
        end -= 1
    return records[:end] or records


def _claims(entry: Envelope) -> list[str]:
    """What `domain.orders.Order.claims` gave: the nonce of its own signature, a new trade's reference."""
    data = _decode_claimed(entry.data)
    claims: list[str] = []
    # opening a wallet claims nothing: there is one opening a wallet, by its id
    if isinstance(data.signature, Signature) and data.signature.own and entry.type != _OPENED:
        claims.append(f"nonce|{data.signature.wallet}|{data.signature.nonce}")
    if entry.type == _RECORDED:
        claims.append(f"ref|{data.recorded_by}|{data.reference}")
    return claims
