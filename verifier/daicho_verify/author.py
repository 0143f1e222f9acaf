"""Ring 2, the author: a wallet's valid key signed exactly what the entry says.

1. Does this type of event need a signature at all?
2. The wallet's entries, each proven in the same checkpoint, give the key that was valid at the entry's position.
3. The digest is recomputed from the terms of the TradeRecorded.
4. The signer's company is the one that acts, and it is a party to the trade.
5. The signature itself: EIP-712 by that key, in time, or by way of a batch that was signed once.
"""

import hashlib
from dataclasses import dataclass
from typing import cast

from daicho_verify import jsontext
from daicho_verify.entry import SHAPES, Entry, parse_entry
from daicho_verify.errors import DisagreesError, NotCheckedError
from daicho_verify.evidence import AuthorProof, Proved
from daicho_verify.merkle import leaf_hash, verify_inclusion
from daicho_verify.messages import TYPES, Domain, check_signature, money, text
from daicho_verify.notes import Checkpoint
from daicho_verify.wallet import Wallet, fold

_CUSTODY = {
    "custodial": "the operator keeps this wallet's key: this proves integrity, not authorship",
    "own": "the user keeps this wallet's key",
}


@dataclass(frozen=True, slots=True)
class AuthorResult:
    """What ring 2 found: the reason in words, every entry that it proved, and whether the operator holds the key."""

    why: str
    proven: tuple[Entry, ...] = ()
    custodial: bool = False


def trade_digest(recorded: Entry) -> str:
    """Give the hex SHA-256 of the canonical terms: TradeRecorded's data without digest and signature."""
    terms = {key: value for key, value in recorded.data.items() if key not in {"digest", "signature"}}
    return hashlib.sha256(jsontext.canonical(terms)).hexdigest()


def batch_leaf(entry: Entry) -> bytes:
    """Give the leaf that stands for this entry in a signed batch: its data without signature, id and type."""
    data = {key: value for key, value in entry.data.items() if key != "signature"}
    return leaf_hash(jsontext.canonical({"aggregate_id": entry.aggregate_id, "data": data, "type": entry.type}))


def _prove(proved: Proved, checkpoint: Checkpoint) -> Entry:
    entry = parse_entry(proved.raw, proved.position, checkpoint.origin)
    if not verify_inclusion(proved.position - 1, checkpoint.size, entry.leaf, proved.inclusion, checkpoint.root):
        raise DisagreesError(f"the {entry.type} at position {entry.position} is not in the checkpoint's tree")
    return entry


class _Author:
    """One run of the five steps over one entry."""

    def __init__(self, entry: Entry, proof: AuthorProof, checkpoint: Checkpoint, domain: Domain) -> None:
        self.entry = entry
        self.proof = proof
        self.checkpoint = checkpoint
        self.domain = domain
        self.proven: list[Entry] = []
        self.custodial = False

    def _proved(self, proved: Proved) -> Entry:
        entry = _prove(proved, self.checkpoint)
        self.proven.append(entry)
        return entry

    def wallet_before(self, wallet_id: str, position: int) -> Wallet:
        """Step 2: the wallet as it stood before `position`."""
        entries = [self._proved(item) for item in self.proof.wallet]
        wallet = fold(entries, wallet_id, self.domain)
        if entries[-1].position >= position:
            raise DisagreesError(f"a wallet entry at position {entries[-1].position} is not before {position}")
        wallet.must_sign(position)
        return wallet

    def recorded_terms(self) -> Entry:
        """Step 3: the TradeRecorded of this trade, whose digest is recomputed."""
        entry = self.entry
        if entry.type == "TradeRecorded":
            recorded = entry
        elif self.proof.recorded is None:
            raise NotCheckedError("the evidence does not show the TradeRecorded that was answered")
        else:
            recorded = self._proved(self.proof.recorded)
            if recorded.type != "TradeRecorded" or not recorded.known:
                raise DisagreesError(f"a {recorded.type} is shown in place of the TradeRecorded")
            if recorded.aggregate_id != entry.aggregate_id or recorded.position >= entry.position:
                raise DisagreesError("the TradeRecorded shown is of another trade, or not earlier")
        digest = trade_digest(recorded)
        if text(recorded, "digest") != digest or text(entry, "digest") != digest:
            raise DisagreesError(f"the digest {text(entry, 'digest')} is not that of the recorded terms ({digest})")
        return recorded

    def party(self, wallet: Wallet) -> str:
        """Step 4: the acting company is the wallet's and a party; gives its code."""
        entry, recorded = self.entry, self.recorded_terms()
        actor = text(entry, "recorded_by" if entry.type == "TradeRecorded" else "by")
        if actor != wallet.company:
            raise DisagreesError(f"{actor} acts, but the wallet belongs to {wallet.company}")
        if actor not in {text(recorded, "seller"), text(recorded, "buyer")}:
            raise DisagreesError(f"{actor} is not a party to the trade")
        if entry.type == "TradeConfirmed" and actor == text(recorded, "recorded_by"):
            raise DisagreesError(f"{actor} confirms what it recorded itself")
        if "amount" in entry.data and money(entry)[0] != money(recorded)[0]:
            raise DisagreesError(f"the amount is in {money(entry)[0]}, the trade in {money(recorded)[0]}")
        return actor

    def batch(self, batch_id: str, index: int, wallet: Wallet) -> str:
        """Step 5 by way of a batch: it was signed by the same wallet and holds this entry at this place."""
        if self.proof.batch is None:
            raise NotCheckedError("the evidence does not show the batch that was signed")
        signed = self._proved(self.proof.batch)
        if signed.type != "BatchSigned" or not signed.known or signed.aggregate_id != batch_id:
            raise DisagreesError("the batch shown is not the one that the entry names")
        count = cast("int", signed.data["count"])
        if self.entry.position != signed.position + 1 + index:
            raise DisagreesError(f"entry {index} of the batch at {signed.position} cannot be at {self.entry.position}")
        if wallet.since >= signed.position:
            raise DisagreesError("the wallet changed between the batch and its entries")
        if text(signed, "wallet") != wallet.wallet_id or text(signed, "company") != wallet.company:
            raise DisagreesError("the batch was signed for another wallet or company")
        root = bytes.fromhex(text(signed, "root"))
        if not verify_inclusion(index, count, batch_leaf(self.entry), self.proof.batch_path, root):
            raise DisagreesError(f"the entry is not number {index} of the {count} that the batch signed")
        check_signature(signed, "signature", self.domain, wallet.wallet_id, wallet.key)
        return f"as number {index + 1} of {count} in the batch at position {signed.position}"

    def signed(self) -> str:
        """Steps 2 to 5 for an event that some existing wallet signs."""
        reference = cast("dict[str, object]", self.entry.data["signature"])
        wallet_id = cast("str", reference["wallet"])
        wallet = self.wallet_before(wallet_id, self.entry.position)
        if self.entry.type == "BatchSigned":
            company = text(self.entry, "company")
            if company != wallet.company or text(self.entry, "wallet") != wallet_id:
                raise DisagreesError("the batch names another wallet or company than its signature")
        else:
            company = self.party(wallet)
        if "batch" in reference:
            how = self.batch(cast("str", reference["batch"]), cast("int", reference["index"]), wallet)
        else:
            check_signature(self.entry, "signature", self.domain, wallet_id, wallet.key)
            how = "on its own"
        self.custodial = wallet.custody == "custodial"
        return f"signed {how} by 0x{wallet.key.hex()} for {company}; {_CUSTODY[wallet.custody]}"

    def wallet_entry(self) -> str:
        """Steps 2 and 5 for a WalletOpened or WalletKeyRotated: it is itself part of the wallet's life."""
        entries = [self._proved(item) for item in self.proof.wallet]
        if all(entry.raw != self.entry.raw for entry in entries):
            entries.append(self.entry)
        if entries[-1].raw != self.entry.raw:
            raise DisagreesError("the wallet entries shown go beyond the entry itself")
        wallet = fold(entries, self.entry.aggregate_id, self.domain)
        self.custodial = wallet.custody == "custodial"
        return f"signed by the wallet's key 0x{wallet.key.hex()}; {_CUSTODY[wallet.custody]}"


_OMISSION = "A later key change left out of this file would show only in the log itself."


def check_author(
    entry: Entry, proof: AuthorProof | None, checkpoint: Checkpoint, domain: Domain | None
) -> AuthorResult:
    """Check who signed `entry`; raises DisagreesError or NotCheckedError."""
    # Step 1: does this type need a signature?
    if not entry.known:
        raise NotCheckedError(f"this verifier does not know {entry.type} in this version")
    if entry.type not in TYPES:
        kind = SHAPES[entry.type][0]
        return AuthorResult(f"an act of the operator ({kind}): no wallet signs a {entry.type}")
    if domain is None:
        raise NotCheckedError("the policy names no chain and contract, which signatures are bound to")
    if proof is None:
        if entry.type != "WalletOpened":
            raise NotCheckedError("the evidence shows no wallet entries for this signed event")
        proof = AuthorProof((), None, (), None)
    author = _Author(entry, proof, checkpoint, domain)
    if entry.type in {"WalletOpened", "WalletKeyRotated"}:
        why = author.wallet_entry()
    else:
        why = f"{author.signed()}. {_OMISSION}"
    return AuthorResult(why, tuple(author.proven), author.custodial)
