"""The verifier's own cryptography against published vectors, and against other people's libraries as oracles."""

import coincurve
import pytest
import sha3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from eth_account import Account
from eth_account.messages import encode_typed_data

from daicho_verify import ed25519, eip712, secp256k1
from daicho_verify.keccak import keccak256
from tests.vectors.verifier.oracle import seed

L = 2**252 + 27742317777372353535851937790883648493
P = 2**255 - 19

# RFC 8032 section 7.1: TEST 1, 2 and 3: public key, message, signature
RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
            "d25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
            "387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
            "4a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
]

# Known values of Keccak-256: the Ethereum Yellow Paper's hash of nothing (also EIP-1052), and "abc"
KECCAK = {
    b"": "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470",
    b"abc": "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45",
}

# EIP-712, assets/eip-712/Example.js: the "Mail" of Cow to Bob
MAIL_TYPE = "Mail(Person from,Person to,string contents)Person(string name,address wallet)"
PERSON_TYPE = "Person(string name,address wallet)"
MAIL_CONTRACT = bytes.fromhex("cc" * 20)
COW = bytes.fromhex("cd2a3d9f938e13cd947ec05abc7fe734df8dd826")
MAIL_SIGNATURE = bytes.fromhex(
    "4355c47d63924e8a72e509b65029052eb6c299d53a04e167c5775fd466751c9d"
    "07299936d304c153f6443dfa05f40ff007d72911b6f72307f996231605b915621c"
)


def mail_digest() -> bytes:
    people = [
        eip712.struct_hash(PERSON_TYPE, {"name": name, "wallet": wallet})
        for name, wallet in (("Cow", COW), ("Bob", bytes.fromhex("bb" * 20)))
    ]
    contents = eip712.encode_word("string", "Hello, Bob!")
    struct = keccak256(keccak256(MAIL_TYPE.encode()) + b"".join(people) + contents)
    assert struct.hex() == "c52c0ee5d84264471806290a3f2c4cecfc5490626bf912d01f240d7a274b371e"
    domain = eip712.domain_separator("Ether Mail", "1", 1, MAIL_CONTRACT)
    assert domain.hex() == "f2cee375fa42b42143804025fc449deafd50cc031ca257e0b194a650a912090f"
    return eip712.signing_digest(domain, struct)


def test_keccak_gives_the_known_values() -> None:
    assert {data: keccak256(data).hex() for data in KECCAK} == KECCAK


def test_keccak_agrees_with_another_implementation_at_every_length_around_its_block() -> None:
    data = bytes(range(256)) * 2
    lengths = [*range(300), 407, 408, 409]
    assert [keccak256(data[:n]) for n in lengths] == [sha3.keccak_256(data[:n]).digest() for n in lengths]


@pytest.mark.parametrize(("key", "message", "signature"), RFC_8032)
def test_ed25519_accepts_the_vectors_of_rfc_8032(key: str, message: str, signature: str) -> None:
    public, text, value = bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature)
    assert ed25519.verify(public, value, text)
    assert not ed25519.verify(public, value, text + b"x")
    assert not ed25519.verify(public, value[:-1] + bytes([value[-1] ^ 1]), text)


def test_ed25519_accepts_what_another_library_signs() -> None:
    for n in range(16):
        key, message = Ed25519PrivateKey.from_private_bytes(seed(f"ed {n}")), bytes([n]) * n
        public = key.public_key().public_bytes_raw()
        assert ed25519.verify(public, key.sign(message), message)
        assert not ed25519.verify(public, key.sign(message), message + b".")


def test_ed25519_refuses_a_second_form_of_the_same_signature() -> None:
    public, message, value = (bytes.fromhex(part) for part in RFC_8032[1])
    s = int.from_bytes(value[32:], "little")
    assert not ed25519.verify(public, value[:32] + (s + L).to_bytes(32, "little"), message)


@pytest.mark.parametrize(
    "key",
    [
        (P + 1).to_bytes(32, "little"),  # y = 1 + p: not canonical
        (2).to_bytes(32, "little"),  # y = 2 is not on the curve
        (1 | 1 << 255).to_bytes(32, "little"),  # x = 0 with its sign set
        (1).to_bytes(32, "little"),  # the neutral element: every message would verify
        bytes(32),  # a point of order 4
        bytes(31),
    ],
)
def test_ed25519_refuses_keys_that_are_no_keys(key: bytes) -> None:
    forged = (1).to_bytes(32, "little") + bytes(32)  # R neutral, S zero: verifies under a key of small order
    assert not ed25519.verify(key, forged, b"anything")


def test_ed25519_refuses_a_signature_of_another_length() -> None:
    public, message, value = (bytes.fromhex(part) for part in RFC_8032[1])
    assert not ed25519.verify(public, value + b"\x00", message)


def test_the_mail_example_of_eip_712_gives_its_digest_and_signer() -> None:
    digest = mail_digest()
    assert digest.hex() == "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2"
    assert secp256k1.address_of_signature(digest, MAIL_SIGNATURE) == COW


def test_recovery_agrees_with_libsecp256k1_for_many_keys() -> None:
    for n in range(24):
        key, digest = coincurve.PrivateKey(seed(f"secp {n}")), seed(f"digest {n}")
        value = key.sign_recoverable(digest, hasher=None)
        address = keccak256(key.public_key.format(compressed=False)[1:])[12:]
        assert secp256k1.address_of_signature(digest, value[:64] + bytes([27 + value[64]])) == address


def spoiled(start: int, part: bytes) -> bytes:
    return MAIL_SIGNATURE[:start] + part + MAIL_SIGNATURE[start + len(part) :]


@pytest.mark.parametrize(
    ("signature", "rule"),
    [
        (MAIL_SIGNATURE[:64], "65 bytes"),
        (spoiled(64, b"\x00"), "27 or 28"),
        (spoiled(0, bytes(32)), "between 1"),
        (spoiled(0, secp256k1.N.to_bytes(32)), "between 1"),
        (spoiled(32, bytes(32)), "between 1"),
        (spoiled(32, secp256k1.N.to_bytes(32)), "between 1"),
        (spoiled(32, (secp256k1.N // 2 + 1).to_bytes(32)), "upper half"),
        (spoiled(0, (5).to_bytes(32)), "not the x of a point"),
    ],
)
def test_recovery_refuses_every_other_form(signature: bytes, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        secp256k1.address_of_signature(mail_digest(), signature)


def test_recovery_handles_the_points_where_the_formulas_are_special() -> None:
    generator = secp256k1._G
    x, odd = generator[0], generator[1] & 1
    with pytest.raises(ValueError, match="infinity"):  # R = G and s = z: the key would be (sG - zG) / r
        secp256k1.address_of_signature((7).to_bytes(32), x.to_bytes(32) + (7).to_bytes(32) + bytes([27 + odd]))
    # R = -G and s = z: R + G is the point at infinity; the key is -2z/r G
    value = x.to_bytes(32) + (7).to_bytes(32) + bytes([28 - odd])
    digest = (7).to_bytes(32)
    expected = coincurve.PublicKey.from_signature_and_message(value[:64] + bytes([1 - odd]), digest, hasher=None)
    assert secp256k1.address_of_signature(digest, value) == keccak256(expected.format(compressed=False)[1:])[12:]
    # z = 0: only R counts
    value = value[:64] + bytes([27 + odd])
    expected = coincurve.PublicKey.from_signature_and_message(value[:64] + bytes([odd]), bytes(32), hasher=None)
    assert secp256k1.address_of_signature(bytes(32), value) == keccak256(expected.format(compressed=False)[1:])[12:]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("string", b"bytes"),
        ("uint256", -1),
        ("uint256", 1 << 256),
        ("bytes32", bytes(31)),
        ("bytes32", "text"),
        ("address", bytes(32)),
        ("address", 1),
        ("bool", 1),
    ],
)
def test_typed_data_refuses_a_value_that_its_kind_cannot_hold(kind: str, value: str | int | bytes) -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        eip712.encode_word(kind, value)


def test_typed_data_refuses_what_is_no_struct_type() -> None:
    with pytest.raises(ValueError, match="struct"):
        eip712.members("Mail")


def test_typed_data_agrees_with_eth_account() -> None:
    text = "Deal(string what,uint256 price,bytes32 lines,address key)"
    values = {"what": "緑茶", "price": 2**255, "lines": bytes(range(32)), "key": COW}
    members = [{"type": kind, "name": name} for kind, name in eip712.members(text)]
    typed = {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
            ],
            "Deal": members,
        },
        "primaryType": "Deal",
        "domain": {"name": "D", "version": "1", "chainId": 5, "verifyingContract": "0x" + "cc" * 20},
        "message": values | {"key": "0x" + COW.hex()},
    }
    key = Account.from_key(seed("typed"))
    signed = key.sign_message(encode_typed_data(full_message=typed))
    digest = eip712.signing_digest(
        eip712.domain_separator("D", "1", 5, MAIL_CONTRACT), eip712.struct_hash(text, values)
    )
    assert digest == bytes(signed.message_hash)
    assert "0x" + secp256k1.address_of_signature(digest, signed.signature).hex() == key.address.lower()
