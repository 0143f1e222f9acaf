"""EIP-712 documents for wallets in own custody: what the browser's or the company's own wallet is asked to sign."""

from collections.abc import Mapping
from typing import Any, Protocol

from domain.authorship import Unsigned
from domain.errors import Malformed
from domain.orders import Order
from domain.typed_data import TypedDataError, typed_data_json, typed_message


class MessageSource(Protocol):
    """`domain.authorship.Authorship`."""

    def message_of(self, order: Order, nonce: str, deadline: int) -> Unsigned:
        """The message that a wallet in own custody has to sign for an order."""


class TypedData:
    """The port `TypedDataPort`, for one book on one chain and contract."""

    def __init__(self, origin: str, chain_id: int, contract: str, messages: MessageSource) -> None:
        self._origin = origin
        self._chain_id = chain_id
        self._contract = contract
        self._messages = messages

    def of_order(self, order: Order, nonce: str, deadline: int) -> dict[str, Any]:
        """What a trade command's wallet signs; sets the trade's id in `order.trade_id`. Raises refusals."""
        message = self._messages.message_of(order, nonce, deadline)
        return self._document(message.event_type, message.aggregate_id, message.data, nonce, deadline)

    def of_wallet(
        self, event_type: str, wallet: str, data: Mapping[str, Any], nonce: str, deadline: int
    ) -> dict[str, Any]:
        """What a wallet signs for its own opening or rotation. Raises Malformed."""
        return self._document(event_type, wallet, data, nonce, deadline)

    def _document(
        self, event_type: str, aggregate_id: str, data: Mapping[str, Any], nonce: str, deadline: int
    ) -> dict[str, Any]:
        try:
            message = typed_message(event_type, self._origin, aggregate_id, data, int(nonce, 16), deadline)
        except TypedDataError as error:
            raise Malformed(str(error), field="$", rule="can be signed as EIP-712") from None
        return typed_data_json(message, self._chain_id, self._contract)
