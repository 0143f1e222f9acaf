"""What the verifier reads: strict JSON, notes, keys, policies, evidence. Each refusal names the field and the rule."""

import json
from typing import Any

import pytest

from daicho_verify import jsontext, notes
from daicho_verify.errors import DisagreesError, MalformedError
from daicho_verify.evidence import MAX_BUNDLE_BYTES, parse_evidence
from daicho_verify.policy import CORE_RINGS, checksummed, parse_policy, policy_text
from tests.vectors.verifier import story
from tests.vectors.verifier.book import CHAIN_ID, CONTRACT, ORIGIN
from tests.vectors.verifier.oracle import b64, key_id, note_key, sign_note, vkey

BOOK = story.recorded()
CHECKPOINT = BOOK.checkpoint()


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (b'{"a":1,"a":2}', "has the key 'a' twice"),
        (b'{"a":{"b":1,"b":1}}', "has the key 'b' twice"),
        (b"{" + b",".join(b'"%d":0' % n for n in range(100_000)) + b',"7":1}', "has the key '7' twice"),
        (b"1.5", "1.5, which is not an integer"),
        (b"1e3", "1e3, which is not an integer"),
        (b"NaN", "NaN, which is not an integer"),
        (b"-Infinity", "-Infinity, which is not"),
        (b"9" * 21, "more than 20 characters"),
        (b"[" * 40 + b"]" * 40, "nested too deeply"),
        (b"[" * 1_000_000, "nested too deeply"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "nested too deeply"),
        (b'["' + b"[" * 50, "one whole JSON text"),
        (b'"' + b'\\"' * 1_000_000, "one whole JSON text"),
        (b'"abc\\', "one whole JSON text"),
        (b'"\xff"', "UTF-8"),
        (b'"\\ud800"', "UTF-8"),
        (b'{"\\ud800":1}', "UTF-8"),
        (b"", "one whole JSON text"),
        (b"{} {}", "one whole JSON text"),
        (b"\xef\xbb\xbf{}", "one whole JSON text"),
    ],
)
def test_json_is_read_strictly(text: bytes, rule: str) -> None:
    with pytest.raises(MalformedError, match=r"^file: ") as refusal:
        jsontext.parse(text, "file")
    assert rule in refusal.value.rule


def test_brackets_inside_strings_are_no_nesting() -> None:
    text = '["' + "[" * 100 + '\\"' + "{" * 100 + '"]'
    assert jsontext.parse(text.encode(), "file") == ["[" * 100 + '"' + "{" * 100]


def test_canonical_json_is_a_fixed_point() -> None:
    text = '{"a":[1,true,null,"\\u0001\\n緑"],"b":{"c":-5}}'.encode()
    assert jsontext.canonical(jsontext.parse(text, "file")) == text


def refused(evidence: Any) -> tuple[str, str]:
    data = evidence if isinstance(evidence, bytes) else json.dumps(evidence).encode()
    with pytest.raises(MalformedError) as refusal:
        parse_evidence(data)
    return refusal.value.field, refusal.value.rule


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        ({"origin": 5}, "origin", "must be a string"),
        ({"origin": "x" * (1 << 20 | 1)}, "origin", "at most 1048576 characters"),
        ({"entry": []}, "entry", "must be an object"),
        ({"entry": {"position": True, "bytes": ""}}, "entry.position", "must be an integer"),
        ({"entry": {"position": 0, "bytes": ""}}, "entry.position", "must be between 1"),
        ({"entry": {"position": 1}}, "entry", "lacks the field 'bytes'"),
        ({"entry": {"position": 1, "bytes": "=="}}, "entry.bytes", "must be base64"),
        ({"entry": {"position": 1, "bytes": "YQ"}}, "entry.bytes", "must be base64"),
        ({"entry": {"position": 1, "bytes": "YR=="}}, "entry.bytes", "one canonical form"),
        ({"entry": {"position": 1, "bytes": "é"}}, "entry.bytes", "must be base64"),
        ({"inclusion": {}}, "inclusion", "must be a list"),
        ({"inclusion": [5]}, "inclusion[0]", "must be a string"),
        ({"inclusion": [b64(bytes(32))] * 65}, "inclusion", "at most 64 items"),
        ({"author": 1}, "author", "must be an object"),
        ({"author": {"wallet": [], "batch": {"entry": None}, "recorded": None}}, "author.batch", "lacks the field"),
        ({"author": {"wallet": [1], "batch": None, "recorded": None}}, "author.wallet[0]", "must be an object"),
        ({"anchor": BOOK.anchor(7, 7) | {"independent": 1}}, "anchor.independent", "must be true or false"),
        ({"anchor": BOOK.anchor(7, 7) | {"tx_hash": "0x12"}}, "anchor.tx_hash", "0x and 64 hexadecimal digits"),
        ({"anchor": BOOK.anchor(7, 7) | {"root": b64(b"")}}, "anchor.root", "32 bytes, has 0"),
        ({"anchor": BOOK.anchor(7, 7) | {"state": "pending"}}, "anchor.state", "mined or final"),
    ],
)
def test_evidence_of_another_shape_is_refused_by_field_and_rule(change: Any, field: str, rule: str) -> None:
    where, why = refused(BOOK.evidence(7) | change)
    assert where == field
    assert rule in why


def test_evidence_that_is_no_object_or_too_large_is_refused() -> None:
    assert refused([]) == ("evidence", "must be an object")
    assert refused(b" " * (MAX_BUNDLE_BYTES + 1)) == ("evidence", f"must have at most {MAX_BUNDLE_BYTES} bytes")


SIGNED = CHECKPOINT.split("\n\n")[1]


@pytest.mark.parametrize(
    ("note", "rule"),
    [
        ("x" * ((1 << 22) + 1), "at most 4194304 characters"),
        (CHECKPOINT.replace("\n", "\r\n"), "control characters"),
        ("no blank line\n", "an empty line"),
        ("\n\n— a YWJjZGVm\n", "an empty line"),
        ("text\n\n", "an empty line"),
        (CHECKPOINT[:-1], "an empty line"),
        (f"{ORIGIN}\n1\n\n" + SIGNED * 65, "at most 64 signature lines"),
        ("text\n\n- a YWJjZGVm\n", "must be '— name base64'"),
        ("text\n\n— a+b YWJjZGVm\n", "must be '— name base64'"),
        ("text\n\n— a YWJj\n", "too short"),
        ("text\n\n— a YWJ\n", "must be base64"),
        ("text\n\n" + SIGNED, "origin, size and root"),
        (f"{ORIGIN}\n1\n\n\n" + SIGNED, "origin, size and root"),
        (CHECKPOINT.replace("\n7\n", "\n07\n"), "leading zeros"),
        (CHECKPOINT.replace("\n7\n", "\n-7\n"), "leading zeros"),
        (CHECKPOINT.replace("\n7\n", f"\n{2**63}\n"), "below 2^63"),
        (CHECKPOINT.replace("\n7\n", "\n0\n"), "size 0 has the root of nothing"),
        (f"{ORIGIN}\n1\n{b64(bytes(31))}\n\n" + SIGNED, "32 bytes, has 31"),
        (f"{ORIGIN}\n1\nabc\n\n" + SIGNED, "must be base64"),
    ],
)
def test_a_checkpoint_of_another_form_is_refused(note: str, rule: str) -> None:
    with pytest.raises(MalformedError, match="checkpoint") as refusal:
        notes.parse_checkpoint(note, "checkpoint")
    assert rule in str(refusal.value)


def test_a_checkpoint_may_carry_extension_lines_and_strange_signatures() -> None:
    body = CHECKPOINT.split("\n\n")[0] + "\nextension 1\n"
    line = (ORIGIN, key_id(ORIGIN, BOOK.log_key), BOOK.log_key.sign(body.encode()))
    stranger = ("elsewhere.example", b"abcd", b"whatever")
    namesake = (ORIGIN, b"abcd", b"another key id under the same name")
    checkpoint = notes.parse_checkpoint(sign_note(body, stranger, namesake, line), "checkpoint")
    assert (checkpoint.origin, checkpoint.size) == (ORIGIN, 7)
    key = notes.parse_key(vkey(ORIGIN, BOOK.log_key), "key", notes.ED25519)
    assert "signed by" in notes.check_signed(checkpoint.note, key, "size 7")


def test_a_false_line_under_a_known_key_refuses_the_note_beside_a_good_one() -> None:
    body = CHECKPOINT.split("\n\n")[0] + "\n"
    ident = key_id(ORIGIN, BOOK.log_key)
    note = sign_note(body, (ORIGIN, ident, BOOK.log_key.sign(body.encode())), (ORIGIN, ident, bytes(64)))
    key = notes.parse_key(vkey(ORIGIN, BOOK.log_key), "key", notes.ED25519)
    with pytest.raises(DisagreesError, match="is false"):
        notes.check_signed(notes.parse_note(note, "note"), key, "note")


@pytest.mark.parametrize("value", [bytes(72), (5).to_bytes(8) + bytes(63), (5).to_bytes(8) + bytes(64)])
def test_a_cosignature_of_time_zero_or_wrong_length_or_false_is_refused(value: bytes) -> None:
    body = CHECKPOINT.split("\n\n")[0] + "\n"
    witness = note_key("kita")
    note = notes.parse_note(sign_note(body, ("kita.example", key_id("kita.example", witness, 4), value)), "note")
    key = notes.parse_key(vkey("kita.example", witness, 4), "key", notes.COSIGNATURE)
    with pytest.raises(DisagreesError, match=r"cosignature by kita\.example"):
        notes.cosigned_at(note, key)


GOOD_KEY = vkey(ORIGIN, BOOK.log_key)


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ("", "must be a verifier key"),
        ("name", "must be a verifier key"),
        ("na me+00000000+AAAA", "must be a verifier key"),
        (f"{ORIGIN}+0000000g+AAAA", "must be a verifier key"),
        (f"{ORIGIN}+00000000+AAAA", "type 01 and 32 bytes"),
        (vkey(ORIGIN, BOOK.log_key, 4), "type 01 and 32 bytes"),
        (GOOD_KEY.replace(ORIGIN, "another.example"), "key id does not belong"),
        (GOOD_KEY[:-4] + "!", "must be base64"),
    ],
)
def test_a_verifier_key_that_does_not_hold_together_is_refused(key: str, rule: str) -> None:
    with pytest.raises(MalformedError, match="key") as refusal:
        notes.parse_key(key, "key", notes.ED25519)
    assert rule in refusal.value.rule


CHAIN = {"chain_id": CHAIN_ID, "contract": CONTRACT}


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        ({"format": "daicho-policy/9"}, "policy.format", "daicho-policy/1"),
        ({"origin": "a b"}, "policy.origin", "without spaces"),
        ({"log_key": vkey("other", note_key("log"))}, "policy.log_key", f"a key named {ORIGIN}"),
        ({"promise_key": GOOD_KEY}, "policy.promise_key", f"a key named {ORIGIN}/promise"),
        ({"chain": CHAIN | {"contract": "0x" + "Ab" * 20}}, "policy.chain.contract", "wrong checksum"),
        ({"chain": CHAIN | {"chain_id": 0}}, "policy.chain.chain_id", "between 1"),
        ({"chain": CHAIN | {"confirmations": 0}}, "policy.chain.confirmations", "between 1"),
        ({"witnesses": [5]}, "policy.witnesses", "a list of strings"),
        ({"witnesses": [GOOD_KEY]}, "policy.witnesses[0]", "type 04"),
        ({"witnesses": [vkey("kita.example", note_key("kita"), 4)] * 2}, "policy.witnesses", "each key once"),
        ({"quorum": 4}, "policy.quorum", "between 0 and 3"),
        ({"require": ["everything"]}, "policy.require", "knows only"),
        ({"clock_tolerance_seconds": -1}, "policy.clock_tolerance_seconds", "between 0"),
        ({"trust": "everybody"}, "policy", "unknown field 'trust'"),
    ],
)
def test_a_policy_that_breaks_a_rule_is_refused_by_field_and_rule(change: Any, field: str, rule: str) -> None:
    with pytest.raises(MalformedError) as refusal:
        parse_policy(json.dumps(BOOK.policy() | change).encode())
    assert refusal.value.field == field
    assert rule in refusal.value.rule


def test_the_smallest_policy_asks_for_the_four_core_rings_and_trusts_no_chain() -> None:
    policy = parse_policy(json.dumps({"format": "daicho-policy/1", "origin": ORIGIN, "log_key": GOOD_KEY}).encode())
    assert policy.require == {"entry", "author", "inclusion", "log-signature"}
    assert (policy.chain, policy.promise_key, policy.witnesses, policy.quorum) == (None, None, (), 0)


def test_a_chain_without_further_words_is_final_at_once_and_not_independent() -> None:
    chain = parse_policy(json.dumps(BOOK.policy(chain=CHAIN | {"contract": CONTRACT.lower()})).encode()).chain
    assert chain is not None
    assert (chain.confirmations, chain.independent, chain.from_block) == (1, False, 0)
    full = {**CHAIN, "confirmations": 3, "independent": True, "from_block": 9}
    chain = parse_policy(json.dumps(BOOK.policy(chain=full)).encode()).chain
    assert chain is not None
    assert (chain.confirmations, chain.independent, chain.from_block) == (3, True, 9)


def test_a_quorum_makes_witnesses_a_required_ring() -> None:
    assert "witnesses" in parse_policy(json.dumps(BOOK.policy(quorum=2)).encode()).require


def test_a_written_policy_reads_back() -> None:
    words: dict[str, Any] = {
        "origin": ORIGIN,
        "log_key": GOOD_KEY,
        "promise_key": None,
        "chain_id": None,
        "contract": None,
        "confirmations": 1,
        "independent": False,
        "witnesses": [],
        "quorum": 0,
        "require": ["chain"],
    }
    assert parse_policy(policy_text(**words).encode()).require == {*CORE_RINGS, "chain"}
    with pytest.raises(MalformedError, match=r"policy\.chain\.contract"):
        policy_text(**words | {"chain_id": 5})
    with pytest.raises(MalformedError, match="UTF-8"):
        policy_text(**words | {"origin": "\udc80"})


# EIP-55, the address test vectors of the standard
@pytest.mark.parametrize(
    "address",
    [
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0xde709f2102306220921060314715629080e2fb77",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    ],
)
def test_address_checksums_are_those_of_eip_55(address: str) -> None:
    assert checksummed(bytes.fromhex(address[2:])) == address
