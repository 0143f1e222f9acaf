import subprocess
import sys
from typing import Any

import coincurve
import pytest
from eth_account import Account
from eth_account.messages import _hash_eip191_message, encode_typed_data
from eth_utils import keccak as reference_keccak
from eth_utils import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from chain.curve import ORDER, address_of_secret, assert_fast_crypto, checksummed, keccak, sign_digest
from chain.eip712 import BadSignature, TypedSigner, signature_hex
from domain.typed_data import TypedDataError, typed_data_json, typed_message
from tests.typed_samples import DATA, TRADE

ORIGIN = "daicho.invalid/3f9c"
CHAIN = 20260
CONTRACT = "0x" + "11" * 20
SECRET = bytes(31) + b"\x07"
ADDRESS = Account.from_key(SECRET).address
CONFIRM = {"by": "kita-logistics", "digest": "ab" * 32}
signer = TypedSigner(CHAIN, CONTRACT)


def digest_of(data: Any = CONFIRM, nonce: Any = 1, deadline: Any = 2, typed: Any = signer, origin: Any = ORIGIN) -> Any:
    return typed.digest("TradeConfirmed", origin, "trade-1", data, nonce, deadline)


def good_signature(digest: Any) -> Any:
    return signature_hex(sign_digest(SECRET, digest))


@pytest.mark.parametrize("event_type", sorted(DATA))
@given(data=st.data(), nonce=st.integers(0, 2**256 - 1), deadline=st.integers(0, 2**53), name=st.text(max_size=20))
def test_a_digest_is_the_one_every_ethereum_wallet_computes(
    event_type: Any, data: Any, nonce: Any, deadline: Any, name: Any
) -> None:
    name = name.encode(errors="ignore").decode()
    message = typed_message(event_type, ORIGIN, name, data.draw(DATA[event_type]), nonce, deadline)
    encoded = encode_typed_data(full_message=typed_data_json(message, CHAIN, CONTRACT))
    assert signer.message_digest(message) == _hash_eip191_message(encoded)


@given(secret=st.integers(1, ORDER - 1), data=DATA["TradeConfirmed"])
def test_a_signature_is_the_one_that_eth_account_makes_and_recovers_its_signer(secret: Any, data: Any) -> None:
    message = typed_message("TradeConfirmed", ORIGIN, "trade-1", data, 1, 2)
    account = Account.from_key(secret.to_bytes(32, "big"))
    theirs = account.sign_message(encode_typed_data(full_message=typed_data_json(message, CHAIN, CONTRACT)))
    digest = signer.message_digest(message)
    assert signature_hex(sign_digest(secret.to_bytes(32, "big"), digest)) == "0x" + theirs.signature.hex()
    assert signer.address_of(digest, "0x" + theirs.signature.hex()) == account.address
    assert address_of_secret(secret.to_bytes(32, "big")) == account.address


@given(st.binary(max_size=300))
def test_keccak_is_the_reference(data: Any) -> None:
    assert keccak(data) == reference_keccak(data)


@given(st.binary(min_size=20, max_size=20))
def test_an_address_is_spelt_as_eip_55_prescribes(raw: Any) -> None:
    assert checksummed(raw) == to_checksum_address(raw)


@pytest.mark.parametrize(
    "other",
    [
        digest_of(typed=TypedSigner(CHAIN + 1, CONTRACT)),
        digest_of(typed=TypedSigner(CHAIN, "0x" + "12" * 20)),
        digest_of(origin=ORIGIN + "x"),
        digest_of(nonce=2),
        digest_of(deadline=3),
        digest_of(data={**CONFIRM, "by": "aozora-foods"}),
        digest_of(data={**CONFIRM, "digest": "ac" * 32}),
        signer.digest("TradeConfirmed", ORIGIN, "trade-2", CONFIRM, 1, 2),
    ],
)
def test_a_signature_for_another_chain_contract_book_nonce_or_content_is_of_somebody_else(other: Any) -> None:
    assert signer.address_of(digest_of(), good_signature(digest_of())) == ADDRESS
    assert signer.address_of(other, good_signature(digest_of())) != ADDRESS


def test_a_malleable_high_s_signature_is_refused() -> None:
    raw = sign_digest(SECRET, digest_of())
    high = (ORDER - int.from_bytes(raw[32:64], "big")).to_bytes(32, "big")
    twin = raw[:32] + high + bytes((raw[64] ^ 1,))
    point = coincurve.PublicKey.from_signature_and_message(twin, digest_of(), hasher=None).format(compressed=False)
    assert checksummed(keccak(point[1:])[-20:]) == ADDRESS  # the twin is valid for a lax verifier
    with pytest.raises(BadSignature, match="upper half"):
        signer.address_of(digest_of(), signature_hex(twin))


@pytest.mark.parametrize("v", [0, 1, 2, 26, 29, 35, 255])
def test_another_v_than_27_or_28_is_refused(v: Any) -> None:
    with pytest.raises(BadSignature, match="not 27 or 28"):
        signer.address_of(digest_of(), good_signature(digest_of())[:-2] + f"{v:02x}")


@pytest.mark.parametrize(
    "spelling",
    [
        lambda s: s[:-2],  # 64 bytes, as EIP-2098 packs them
        lambda s: s + "00",
        lambda s: s[2:],
        lambda s: "0x" + s[2:].upper(),
        lambda s: s + "\n",
        lambda s: s.replace("0", "g", 1),
        lambda s: "",
        lambda s: None,
        lambda s: bytes.fromhex(s[2:]),
    ],
)
def test_another_spelling_of_a_signature_is_refused(spelling: Any) -> None:
    with pytest.raises(BadSignature, match="130 lower-case hex digits"):
        signer.address_of(digest_of(), spelling(good_signature(digest_of())))


@pytest.mark.parametrize(("r", "s"), [(0, 1), (1, 0), (ORDER, 1), (2**256 - 1, 1)])
def test_r_and_s_outside_the_group_are_refused(r: Any, s: Any) -> None:
    with pytest.raises(BadSignature, match="outside the group"):
        signer.address_of(digest_of(), f"0x{r:064x}{s:064x}1b")


def test_an_r_that_is_no_point_of_the_curve_is_refused() -> None:
    with pytest.raises(BadSignature, match="no key recovers"):
        signer.address_of(digest_of(), f"0x{5:064x}{1:064x}1b")  # x = 5 is on no point of secp256k1


def test_a_digest_of_another_length_is_refused() -> None:
    with pytest.raises(BadSignature, match="32 bytes"):
        signer.address_of(b"\0" * 31, good_signature(digest_of()))


def test_a_stored_event_is_checked_with_the_nonce_and_deadline_that_it_names() -> None:
    nonce, deadline = "0x" + "5a" * 32, 1_800_000_000
    value = good_signature(signer.digest("TradeRecorded", ORIGIN, "t", TRADE, int(nonce, 16), deadline))
    stored = {**TRADE, "signature": {"nonce": nonce, "deadline": deadline, "value": value}}
    signer.require_signer("TradeRecorded", ORIGIN, "t", stored, ADDRESS)
    signer.require_signer("TradeRecorded", ORIGIN, "t", stored, ADDRESS.lower())
    for changed in ({**stored, "reference": "A-2"}, {**stored, "signature": {**stored["signature"], "deadline": 1}}):
        with pytest.raises(BadSignature, match=f"not by {ADDRESS}"):
            signer.require_signer("TradeRecorded", ORIGIN, "t", changed, ADDRESS)
    with pytest.raises(TypedDataError):
        signer.require_signer("TradeRecorded", ORIGIN, "t", {**stored, "extra": 1}, ADDRESS)


def test_the_fast_libraries_are_in_use_here() -> None:
    assert_fast_crypto()


@pytest.mark.parametrize(("missing", "named"), [("coincurve", "coincurve"), ("sha3", "safe-pysha3")])
def test_slow_cryptography_is_refused_outside_development_and_correct_inside(missing: Any, named: Any) -> None:
    code = f"""
import sys
sys.modules[{missing!r}] = None
from chain.curve import SlowCryptoError, assert_fast_crypto, address_of_secret, sign_digest, keccak
from chain.eip712 import BadSignature, recover_address, signature_hex
try:
    assert_fast_crypto()
except SlowCryptoError as error:
    print(error)
assert_fast_crypto(allow_slow=True)
secret = bytes(31) + bytes([7])
digest = keccak(b"x")
value = signature_hex(sign_digest(secret, digest))
assert recover_address(digest, value) == address_of_secret(secret) == {ADDRESS!r}
print(value)
for broken in ("0x" + "00" * 31 + "05" + "00" * 31 + "01" + "1b",):
    try:
        recover_address(digest, broken)
    except BadSignature as error:
        print(error.reason)
try:
    address_of_secret(bytes(32))
except ValueError:
    print("no such secret")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    refusal, value, broken, last = done.stdout.splitlines() or [done.stderr, "", "", ""]
    assert f"install {named}" in refusal
    assert value == good_signature(keccak(b"x"))
    assert (broken, last) == ("no key recovers from this signature", "no such secret")
