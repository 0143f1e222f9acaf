"""What the signer signs and what it refuses, through its socket."""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from eth_account import Account

from chain.eip712 import TypedSigner
from chain.signer.client import BlockingSigner, SignerRefusedError
from chain.signer.desk import Desk
from chain.signer.protocol import (
    CreateWalletKey,
    Describe,
    Initialise,
    PinContract,
    ProveWallet,
    RotateKey,
    SignBatch,
    SignCheckpoint,
    SignPromise,
    WalletAddress,
    encode,
)
from chain.transactions import AnchorTx, DeployTx, RegisterLogTx, transaction_fields
from chain.vault import VaultConflictError
from contracts import artefact
from merkle.notes import join_note, open_note, parse_verifier_key
from tests.signer_support import DEADLINE, SignerProcess, nonce, record_trade, running_signer
from tests.typed_samples import TRADE
from tests.vault_support import CHAIN, CONTRACT, ORIGIN, Folder

STRANGER = "0x" + "22" * 20
LOG_ID = hashlib.sha256(ORIGIN.encode()).digest()
typed = TypedSigner(CHAIN, CONTRACT)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignerProcess]:
    with running_signer(tmp_path_factory.mktemp("vault")) as process:
        yield process


@pytest.fixture
def ask(signer: SignerProcess) -> Iterator[Any]:
    client: BlockingSigner = signer.blocking()
    yield client.ask
    client.close()


def envelope(**changes: Any) -> dict[str, Any]:
    fees = {"gas": 90_000, "max_fee_per_gas": 3 * 10**9, "max_priority_fee_per_gas": 10**9}
    return {"chain_id": CHAIN, "nonce": 5, **fees, **changes}


def anchor(**changes: Any) -> AnchorTx:
    head = {"contract": CONTRACT, "log_id": LOG_ID, "new_size": 300, "new_root": b"\1" * 32}
    return AnchorTx(**{**envelope(), **head, "proof": (b"\2" * 32, b"\3" * 32), **changes})


def checkpoint(size: int, root: bytes, origin: str = ORIGIN) -> bytes:
    return f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n".encode()


def refusal(ask: Any, request: Any) -> str:
    with pytest.raises(SignerRefusedError) as refused:
        ask(request)
    return refused.value.code


def test_a_trade_is_signed_by_its_wallet_over_exactly_its_fields(signer: SignerProcess, ask: Any) -> None:
    address = signer.wallet("wallet-1")
    request = record_trade("wallet-1", address)
    signature = ask(request)
    once = (int(request.nonce, 16), DEADLINE)
    digest = typed.digest("TradeRecorded", ORIGIN, "trade-1", TRADE, *once)
    assert (signature.digest, signature.address) == (digest, address)
    assert typed.address_of(digest, signature.value) == address
    assert ask(request) == signature


def test_a_batch_and_a_proof_of_possession_are_signed(signer: SignerProcess, ask: Any) -> None:
    address = signer.wallet("wallet-1")
    once = {"nonce": nonce(), "deadline": DEADLINE}
    domain = {"chain_id": CHAIN, "contract": CONTRACT, "origin": ORIGIN, "wallet_id": "wallet-1", **once}
    nonce_number = int(once["nonce"], 16)
    batch = ask(SignBatch(**domain, address=address, company="aozora-foods", root="ab" * 32, count=256))
    data: dict[str, Any] = {"wallet": "wallet-1", "company": "aozora-foods", "root": "ab" * 32, "count": 256}
    digest = typed.digest("BatchSigned", ORIGIN, "batch", data, nonce_number, DEADLINE)
    assert typed.address_of(digest, batch.value) == address
    proof = ask(ProveWallet(**domain, company="aozora-foods"))
    data = {"company": "aozora-foods", "custody": "custodial", "address": address, "subject": "p"}
    digest = typed.digest("WalletOpened", ORIGIN, "wallet-1", data, nonce_number, DEADLINE)
    assert typed.address_of(digest, proof.value) == proof.address == address


def test_a_rotation_is_signed_by_both_keys_and_repeats_itself(signer: SignerProcess, ask: Any) -> None:
    old = signer.wallet("wallet-rotating")
    request = RotateKey(CHAIN, CONTRACT, ORIGIN, "wallet-rotating", nonce(), DEADLINE, old)
    rotation = ask(request)
    assert ask(request) == rotation
    data = {"old": old, "new": rotation.new}
    digest = typed.digest("WalletKeyRotated", ORIGIN, "wallet-rotating", data, int(request.nonce, 16), DEADLINE)
    assert typed.address_of(digest, rotation.signature) == old
    assert typed.address_of(digest, rotation.new_signature) == rotation.new != old
    assert ask(CreateWalletKey("wallet-rotating")).address == old
    for address, signs in (("", rotation.new), (old, old), (rotation.new, rotation.new)):
        signature = ask(record_trade("wallet-rotating", address))
        assert typed.address_of(signature.digest, signature.value) == signature.address == signs


@pytest.mark.parametrize(
    "foreign",
    [{"chain_id": CHAIN + 1}, {"contract": STRANGER}, {"contract": ""}, {"origin": "daicho.invalid/other"}],
)
def test_another_chain_contract_or_book_is_refused(signer: SignerProcess, ask: Any, foreign: dict[str, Any]) -> None:
    address = signer.wallet("wallet-1")
    domain: dict[str, Any] = {"chain_id": CHAIN, "contract": CONTRACT, "origin": ORIGIN, **foreign}
    wallet = {"wallet_id": "wallet-1", "nonce": nonce(), "deadline": DEADLINE}
    for request in (
        record_trade("wallet-1", address, **foreign),
        SignBatch(**domain, **wallet, address=address, company="x", root="ab" * 32, count=1),
        ProveWallet(**domain, **wallet, company="x"),
        RotateKey(**domain, **wallet, old=address),
    ):
        assert refusal(ask, request) == "foreign-domain"
    assert ask(record_trade("wallet-1", "")).address == address  # the refused rotation made no key


def test_a_bare_digest_has_no_request_and_no_disguise(signer: SignerProcess, ask: Any) -> None:
    address = signer.wallet("wallet-1")

    class SignDigest(msgspec.Struct, tag="sign-digest"):
        wallet_id: str
        digest: bytes

    assert refusal(ask, SignDigest("wallet-1", b"\0" * 32)) == "malformed"
    extra = {**msgspec.to_builtins(record_trade("wallet-1", address)), "digest": b"\0" * 32}
    assert refusal(ask, extra) == "malformed"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"wallet_id": "wallet-unknown"}, "unknown-key"),
        ({"address": STRANGER}, "unknown-key"),
        ({"event_type": "WalletKeyRotated"}, "not-allowed"),
        ({"event_type": "BatchSigned"}, "not-allowed"),
        ({"event_type": "TradeInvented"}, "malformed"),
        ({"data": {**TRADE, "hidden": "x"}}, "malformed"),
        ({"data": {**TRADE, "amount": {"currency": "JPY", "units": "-1"}}}, "malformed"),
        ({"data": {}}, "malformed"),
        ({"nonce": "0x01"}, "malformed"),
        ({"nonce": 7}, "malformed"),
        ({"deadline": -1}, "malformed"),
    ],
)
def test_a_trade_that_is_not_one_is_refused(
    signer: SignerProcess, ask: Any, changes: dict[str, Any], code: str
) -> None:
    address = signer.wallet("wallet-1")
    assert refusal(ask, record_trade("wallet-1", address, **changes)) == code


@pytest.mark.parametrize("wallet_id", ["", "x" * 300, "line\nbreak"])
def test_a_wallet_without_a_proper_name_gets_no_key(ask: Any, wallet_id: str) -> None:
    assert refusal(ask, CreateWalletKey(wallet_id)) == "not-allowed"


def test_an_anchor_is_the_transaction_that_eth_account_would_make(signer: SignerProcess, ask: Any) -> None:
    publisher = ask(Describe()).publisher
    signed = signer.blocking().sign_transaction(anchor())
    assert Account.recover_transaction(signed.raw) == publisher
    opened = signer.folder.open()
    account = Account.from_key(opened.vault.unseal(opened.vault.sealed("publisher", "")))
    for tx in (
        anchor(),
        anchor(nonce=0, proof=(), new_size=1, max_priority_fee_per_gas=0, gas=2**63, max_fee_per_gas=0),
        anchor(nonce=200, proof=tuple(bytes([i]) * 32 for i in range(64))),
        RegisterLogTx(contract=CONTRACT, origin=ORIGIN, publisher=publisher, **envelope(nonce=127)),
    ):
        theirs = account.sign_transaction(transaction_fields(tx))
        ours = signer.blocking().sign_transaction(tx)
        assert (ours.raw, ours.tx_hash) == (bytes(theirs.raw_transaction), bytes(theirs.hash))


@pytest.mark.parametrize(
    "changes",
    [{"chain_id": CHAIN + 1}, {"contract": STRANGER}, {"log_id": b"\5" * 32}],
)
def test_an_anchor_on_another_chain_contract_or_log_is_refused(
    signer: SignerProcess, ask: Any, changes: dict[str, Any]
) -> None:
    with pytest.raises(SignerRefusedError, match="foreign-domain"):
        signer.blocking().sign_transaction(anchor(**changes))


@pytest.mark.parametrize("changes", [{"new_size": 0}, {"new_root": b"\1" * 31}, {"nonce": -1}, {"gas": -1}])
def test_an_anchor_that_no_chain_would_take_is_refused(signer: SignerProcess, changes: dict[str, Any]) -> None:
    with pytest.raises(SignerRefusedError, match="malformed"):
        signer.blocking().sign_transaction(anchor(**changes))


def test_another_log_or_publisher_is_not_registered(signer: SignerProcess, ask: Any) -> None:
    publisher = ask(Describe()).publisher
    for names in ({"origin": "daicho.invalid/x", "publisher": publisher}, {"origin": ORIGIN, "publisher": STRANGER}):
        with pytest.raises(SignerRefusedError, match="foreign-domain"):
            signer.blocking().sign_transaction(RegisterLogTx(contract=CONTRACT, **names, **envelope()))


def test_only_the_committed_registry_is_deployed_and_only_until_one_is_pinned(tmp_path: Path) -> None:
    with running_signer(tmp_path / "pinned-below", initialise=False) as fresh:
        client = fresh.blocking()
        publisher = client.ask(Initialise(ORIGIN, CHAIN)).publisher
        deploy = DeployTx(owner=publisher, bytecode=artefact().bytecode, **envelope())
        assert Account.recover_transaction(client.sign_transaction(deploy).raw) == publisher
        opened = fresh.folder.open()
        account = Account.from_key(opened.vault.unseal(opened.vault.sealed("publisher", "")))
        theirs = account.sign_transaction(transaction_fields(deploy))
        assert client.sign_transaction(deploy).raw == bytes(theirs.raw_transaction)
        for changes in ({"bytecode": artefact().bytecode + b"\0"}, {"owner": STRANGER}, {"chain_id": CHAIN + 1}):
            other = DeployTx(**{**envelope(), "owner": publisher, "bytecode": artefact().bytecode, **changes})
            with pytest.raises(SignerRefusedError):
                client.sign_transaction(other)
        with pytest.raises(SignerRefusedError, match="not-initialised"):
            client.sign_transaction(anchor())
        client.ask(PinContract(CONTRACT))
        with pytest.raises(SignerRefusedError, match="not-allowed"):
            client.sign_transaction(deploy)


def test_a_checkpoint_never_takes_back_an_earlier_one(signer: SignerProcess, ask: Any) -> None:
    key = parse_verifier_key(ask(Describe()).log_key)
    for size, root in ((10, b"\1" * 32), (10, b"\1" * 32), (12, b"\2" * 32)):
        text = checkpoint(size, root)
        assert open_note(join_note(text, [ask(SignCheckpoint(text)).line]), [key])[0] == text
    assert refusal(ask, SignCheckpoint(checkpoint(11, b"\3" * 32))) == "head-refused"
    assert refusal(ask, SignCheckpoint(checkpoint(12, b"\3" * 32))) == "head-refused"
    assert refusal(ask, SignCheckpoint(checkpoint(10, b"\1" * 32))) == "head-refused"
    assert signer.blocking().sign(checkpoint(12, b"\2" * 32)).startswith("— daicho".encode())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (checkpoint(99, b"\1" * 32, "daicho.invalid/other"), "foreign-domain"),
        (checkpoint(99, b"\1" * 32, ORIGIN + "/promise"), "foreign-domain"),
        (checkpoint(99, b"\1" * 32) + b"extension\n", "foreign-domain"),
        (checkpoint(99, b"\1" * 31), "malformed"),
        (checkpoint(99, b"\1" * 32)[:-1], "malformed"),
        (b"", "malformed"),
        (b"\xff\n1\n\n", "malformed"),
        (f"{ORIGIN}\n-1\n\n".encode(), "malformed"),
    ],
)
def test_the_log_key_signs_nothing_but_its_own_checkpoints(ask: Any, text: bytes, code: str) -> None:
    assert refusal(ask, SignCheckpoint(text)) == code


def test_a_promise_is_signed_under_its_own_name_and_nothing_else_is(ask: Any) -> None:
    key = parse_verifier_key(ask(Describe()).promise_key)
    text = f"{ORIGIN}/promise\npublish-by 2026-11-22T05:10:00.000000Z\n".encode()
    assert open_note(join_note(text, [ask(SignPromise(text)).line]), [key])[0] == text
    assert refusal(ask, SignPromise(checkpoint(99, b"\1" * 32))) == "foreign-domain"
    assert refusal(ask, SignPromise(f"{ORIGIN}/promises\n".encode())) == "foreign-domain"
    assert refusal(ask, SignPromise(text + b"\x07\n")) == "malformed"


@pytest.mark.parametrize(
    "request_", [Initialise("daicho.invalid/x", CHAIN), Initialise(ORIGIN, 1), PinContract(STRANGER)]
)
def test_a_signer_is_never_pinned_to_something_else(ask: Any, request_: Any) -> None:
    assert refusal(ask, request_) == "foreign-domain"


def test_a_contract_must_be_an_address(ask: Any) -> None:
    assert refusal(ask, PinContract("0x12")) == "not-allowed"


def test_an_uninitialised_signer_signs_nothing(tmp_path: Path) -> None:
    with running_signer(tmp_path, initialise=False) as fresh:
        client = fresh.blocking()
        client.ask(CreateWalletKey("wallet-1"))
        text = checkpoint(1, b"\1" * 32)
        for request in (Describe(), record_trade("wallet-1", ""), SignCheckpoint(text), PinContract(CONTRACT)):
            assert refusal(client.ask, request) == "not-initialised"


def test_every_use_is_in_the_audit_rows_with_who_asked(signer: SignerProcess, ask: Any) -> None:
    address = signer.wallet("wallet-audited")
    signature = ask(record_trade("wallet-audited", address))
    rows = [row[2:] for row in Folder(signer.folder.path).open().store.audit_rows(limit=10_000)]
    mine = [row for row in rows if row[2] == "wallet-audited"]
    assert [(purpose, digest) for _, purpose, _, digest in mine] == [
        ("create wallet key", b""),
        ("TradeRecorded", signature.digest),
    ]
    assert all(who.startswith("test pid ") for who, *_ in mine)


def test_two_signers_that_make_the_same_wallet_at_once_answer_the_same_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, fast = Folder(tmp_path).open(), Folder(tmp_path).open()
    commit = slow.store.commit
    addresses: list[str] = []

    def outrun(*values: Any) -> bool:
        if not addresses:
            addresses.append(fast.wallet("wallet-1"))
        return commit(*values)

    monkeypatch.setattr(slow.store, "commit", outrun)
    requests = [encode(CreateWalletKey("wallet-1")), encode(CreateWalletKey("wallet-2"))]
    first, second = Desk(slow.vault).answer(requests, "test")
    assert first == WalletAddress(addresses[0])
    assert second == WalletAddress(fast.wallet("wallet-2"))


def test_a_vault_that_others_write_all_the_time_is_an_error_not_an_endless_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Folder(tmp_path).open()
    monkeypatch.setattr(opened.store, "commit", lambda *_: False)
    with pytest.raises(VaultConflictError):
        Desk(opened.vault).answer([encode(CreateWalletKey("wallet-1"))], "test")
