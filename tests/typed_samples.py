"""Random data for every signed event type, in the shape of the entry format."""

from hypothesis import strategies as st

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
codes = st.from_regex(r"[a-z0-9-]{2,40}", fullmatch=True)
hex32 = st.binary(min_size=32, max_size=32).map(bytes.hex)
addresses = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
uints = st.integers(0, 2**256 - 1)
money = st.fixed_dictionaries({"currency": st.sampled_from(["JPY", "EUR", "USD"]), "units": uints.map(str)})
dates = st.dates().map(str)
lines = st.lists(
    st.fixed_dictionaries({"item": texts, "quantity": st.just("1.5"), "unit_price": uints.map(str)}), max_size=3
)
attachments = st.lists(st.fixed_dictionaries({"name": texts, "sha256": hex32}), max_size=3)
by = {"by": codes, "digest": hex32}
reason = st.fixed_dictionaries({**by, "reason": texts})
settlement = st.fixed_dictionaries({**by, "amount": money, "settled_on": dates})

DATA = {
    "TradeRecorded": st.fixed_dictionaries(
        {
            "seller": codes,
            "buyer": codes,
            "recorded_by": codes,
            "amount": money,
            "traded_on": dates,
            "due_on": dates,
            "description": texts,
            "lines": lines,
            "reference": texts,
            "digest": hex32,
        }
    ),
    "TradeConfirmed": st.fixed_dictionaries(by),
    "TradeDisputed": reason,
    "TradeDisputeWithdrawn": reason,
    "TradeSettlementProposed": settlement,
    "TradeSettled": settlement,
    "TradeReversalProposed": reason,
    "TradeReversed": reason,
    "TradeNoteAdded": st.fixed_dictionaries({**by, "note": texts, "attachments": attachments}),
    "BatchSigned": st.fixed_dictionaries(
        {"wallet": texts, "company": codes, "root": hex32, "count": st.integers(1, 2**32)}
    ),
    "WalletOpened": st.fixed_dictionaries(
        {"subject": texts, "company": codes, "address": addresses, "custody": st.sampled_from(["own", "custodial"])}
    ),
    "WalletKeyRotated": st.fixed_dictionaries({"old": addresses, "new": addresses}),
}

TRADE = {
    "seller": "aozora-foods",
    "buyer": "kita-logistics",
    "recorded_by": "aozora-foods",
    "amount": {"currency": "JPY", "units": "12000"},
    "traded_on": "2026-11-20",
    "due_on": "2026-12-31",
    "description": "りんご 20 箱",
    "lines": [{"item": "りんご", "quantity": "20", "unit_price": "600"}],
    "reference": "A-1",
}
