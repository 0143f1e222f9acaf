"""Values for the examples in the OpenAPI document: one trade between two companies, everywhere the same."""

from typing import Any, Final

ORIGIN: Final = "daicho.invalid/3f9c2a7b51d04e88"
TRADE: Final = "01938a5e-7c00-7aaa-aaaa-0123456789ab"
WALLET: Final = "5b0f8d3e-2f6a-5c11-9d0a-7e4b1c2d3f60"
PURCHASE: Final = "2d7a1f64-9c0b-5d3e-8f41-6b5a4c3d2e1f"
SUBSCRIPTION: Final = "8e9f0a1b-2c3d-5e4f-9a6b-7c8d9e0f1a2b"
COMPANY: Final = "c1d2e3f4-0a1b-5c2d-8e3f-4a5b6c7d8e9f"
ANCHOR: Final = "7a6b5c4d-3e2f-5a1b-9c0d-1e2f3a4b5c6d"
ADDRESS: Final = "0x1f9840a85d5aF5bf1D1762F925BDADdC4201F984"
OTHER_ADDRESS: Final = "0x2f9840a85d5aF5bf1D1762F925BDADdC4201F985"
CONTRACT: Final = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
DIGEST: Final = "9f" * 32
LEAF: Final = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA="
TX: Final = "0x" + "7c" * 32
NONCE: Final = "0x" + "5a" * 32
TIME: Final = "2026-11-22T05:02:32.123456Z"
PROMISE: Final = (
    f"{ORIGIN}/promise\npublish-by 2026-11-22T05:10:00.000000Z\n17 {LEAF}\n\n— {ORIGIN}/promise Kx7Zb0Jq…\n"
)
CHECKPOINT: Final = f"{ORIGIN}\n17\n{LEAF}\n\n— {ORIGIN} Qm9vT2s…\n"
SIGNATURE: Final = {"deadline": 1795324952, "nonce": NONCE, "value": "0x" + "ab" * 64 + "1b"}
MONEY: Final = {"currency": "JPY", "units": "480000"}
ENTRY: Final = (
    '{"actor":{"company":"aozora-foods","subject":"0f1e2d3c4b5a69788796a5b4c3d2e1f0"},"aggregate":"Trade",…,'
    '"type":"TradeConfirmed","v":1,"version":2}'
)
RECORD: Final = {
    "seller": "aozora-foods",
    "buyer": "kaede-trading",
    "amount": MONEY,
    "traded_on": "2026-11-20",
    "due_on": "2026-12-31",
    "reference": "AF-2026-00017",
    "description": "matcha, ten boxes",
    "lines": [{"item": "matcha, 1 kg", "quantity": "10", "unit_price": "48000"}],
}
COMMAND_ANSWER: Final[dict[str, Any]] = {
    "id": TRADE,
    "version": 2,
    "position": 17,
    "entries": [{"position": 17, "leaf_hash": LEAF, "entry": ENTRY}],
    "promise": PROMISE,
}
ANCHOR_VIEW: Final[dict[str, Any]] = {
    "id": ANCHOR, "chain_id": 20260, "contract": CONTRACT, "log_id": "0x" + "3b" * 32, "nonce": 4, "size": 40,
    "root": "d4" * 32, "tx_hash": TX, "state": "final", "independent": False, "block_number": 12,
    "block_hash": "0x" + "9e" * 32, "block_time": 1795324990, "log_index": 0, "gas_used": 61234, "reason": "",
    "submitted_at": TIME, "updated_at": TIME,
}  # fmt: skip
RECEIPT: Final[dict[str, Any]] = {
    "position": 17, "leaf_hash": "ab" * 32, "type": "TradeConfirmed", "recorded_at": TIME,
    "checkpoint": {"size": 40, "root": "d4" * 32}, "anchor": ANCHOR_VIEW,
}  # fmt: skip
COMPANY_VIEW: Final[dict[str, Any]] = {
    "code": "aozora-foods", "name": "Aozora Foods K.K.", "state": "active", "reason": "", "registered_at": TIME,
    "updated_at": TIME, "version": 1, "position": 2, "last_position": 2,
}  # fmt: skip
WALLET_VIEW: Final[dict[str, Any]] = {
    "id": WALLET, "company": "aozora-foods", "subject": "0f1e2d3c4b5a69788796a5b4c3d2e1f0", "address": ADDRESS,
    "custody": "custodial", "state": "active", "reason": "",
    "keys": [{"address": ADDRESS, "from_position": 4, "until_position": None}], "opened_at": TIME, "updated_at": TIME,
    "version": 1, "position": 4, "last_position": 4,
}  # fmt: skip
TRADE_VIEW: Final[dict[str, Any]] = {
    "id": TRADE, "state": "confirmed", "seller": "aozora-foods", "buyer": "kaede-trading",
    "recorded_by": "aozora-foods", "amount": MONEY, "open": MONEY, "traded_on": "2026-11-20", "due_on": "2026-12-31",
    "description": "matcha, ten boxes", "lines": RECORD["lines"], "reference": "AF-2026-00017", "digest": DIGEST,
    "dispute": None, "proposed_settlement": None, "reversal_proposed_by": None, "created_at": TIME, "updated_at": TIME,
    "version": 2, "position": 16, "last_position": 17,
}  # fmt: skip
HISTORY_ITEM: Final[dict[str, Any]] = {
    "position": 17, "version": 2, "type": "TradeConfirmed", "by": "kaede-trading",
    "subject": "0f1e2d3c4b5a69788796a5b4c3d2e1f0", "recorded_at": TIME, "leaf_hash": "ab" * 32,
    "data": {
        "by": "kaede-trading", "digest": DIGEST,
        "signature": {"address": ADDRESS, "value": SIGNATURE["value"], "nonce": NONCE, "deadline": 1795324952,
                      "wallet": WALLET},
    },
    "receipt": RECEIPT,
}  # fmt: skip
TYPED_DATA: Final[dict[str, Any]] = {
    "typed_data": {
        "domain": {"name": "Daicho", "version": "1", "chainId": 20260, "verifyingContract": CONTRACT},
        "types": {"EIP712Domain": [], "ConfirmTrade": []},
        "primaryType": "ConfirmTrade",
        "message": {"book": ORIGIN, "trade": TRADE, "by": "kaede-trading"},
    },
    "nonce": NONCE, "deadline": 1795324952, "wallet": WALLET, "trade": TRADE,
}  # fmt: skip
