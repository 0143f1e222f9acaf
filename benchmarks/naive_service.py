"""The baseline's service: FastAPI as its manual shows it, a `def` endpoint, pydantic, the token verified each time.

`python -m benchmarks.naive_service --port N --db FILE-OR-URL --jwks FILE`: POST /trades saves a trade. With
`--secret` there is a custodial key, and POST /signed signs each trade by eth-account's general encoder and verifies
what it signed, as the other side's auditor would; POST /own verifies a signature that the client made.
"""

import argparse
import json
from pathlib import Path
from typing import Annotated, Any

import jwt
import uvicorn
from eth_account import Account
from eth_account.messages import encode_typed_data
from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel

from benchmarks.naive import NaiveLedger, NaiveTrade
from benchmarks.samples import CHAIN_ID, CONTRACT

AUDIENCE = "daicho"
_STRINGS = ("seller", "buyer", "recorded_by", "currency", "traded_on", "due_on", "description", "reference")
_DOMAIN = {"name": "Naive", "version": "1", "chainId": CHAIN_ID, "verifyingContract": CONTRACT}
_TYPES = {
    "RecordTrade": [
        *({"name": name, "type": "string"} for name in _STRINGS),
        {"name": "amount", "type": "uint256"},
        {"name": "nonce", "type": "uint256"},
        {"name": "deadline", "type": "uint256"},
    ]
}


class Amount(BaseModel):
    """Money."""

    currency: str
    units: str


class Body(BaseModel):
    """A trade to record."""

    seller: str
    buyer: str
    recorded_by: str
    amount: Amount
    traded_on: str
    due_on: str
    description: str
    lines: list[dict[str, str]] = []
    reference: str
    wallet: str
    signature: str = ""
    nonce: int = 0
    deadline: int = 0


class Out(BaseModel):
    """The answer."""

    id: str
    position: int
    signature: str


def signable(body: Body) -> Any:
    """The typed message over a trade."""
    message = {**{name: getattr(body, name, "") for name in _STRINGS}, "currency": body.amount.currency}
    message |= {"amount": int(body.amount.units), "nonce": body.nonce, "deadline": body.deadline}
    return encode_typed_data(domain_data=_DOMAIN, message_types=_TYPES, message_data=message)


def create(ledger: NaiveLedger, key: Any, secret: bytes) -> FastAPI:
    """The application."""
    app = FastAPI()
    address = Account.from_key(secret).address

    def save(body: Body, signature: str) -> Out:
        trade = NaiveTrade(
            body.seller, body.buyer, body.recorded_by, body.amount.units, body.amount.currency, body.traded_on,
            body.due_on, body.description, body.lines, body.reference, body.wallet, signature,
        )  # fmt: skip
        saved = ledger.save(trade)
        return Out(id=str(trade.id), position=saved[-1].notification.id, signature=signature)

    def require_caller(authorization: str) -> None:
        jwt.decode(authorization.removeprefix("Bearer "), key, algorithms=["EdDSA"], audience=AUDIENCE)

    def require_signer(message: Any, signature: str) -> None:
        if Account.recover_message(message, signature=signature) != address:
            raise HTTPException(403, "signed by somebody else")

    @app.post("/trades", status_code=201)
    def trades(body: Body, authorization: Annotated[str, Header()]) -> Out:
        require_caller(authorization)
        return save(body, body.signature)

    @app.post("/signed", status_code=201)
    def signed(body: Body, authorization: Annotated[str, Header()]) -> Out:
        require_caller(authorization)
        message = signable(body)
        signature = "0x" + Account.sign_message(message, secret).signature.hex()
        require_signer(message, signature)
        return save(body, signature)

    @app.post("/own", status_code=201)
    def own(body: Body, authorization: Annotated[str, Header()]) -> Out:
        require_caller(authorization)
        require_signer(signable(body), body.signature)
        return save(body, body.signature)

    return app


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--db", required=True, help="a SQLite file, or the address of a PostgreSQL database")
    parser.add_argument("--jwks", type=Path, required=True)
    parser.add_argument("--secret", required=True)
    options = parser.parse_args()
    key = jwt.PyJWK(json.loads(options.jwks.read_text())["keys"][0]).key
    ledger = NaiveLedger.on(options.db) if "://" in options.db else NaiveLedger.at(Path(options.db))
    app = create(ledger, key, bytes.fromhex(options.secret))
    uvicorn.run(app, port=options.port, loop="uvloop", http="httptools", access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
