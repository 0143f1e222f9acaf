"""A signed bulk under way: which of its orders are answered, which are still to be signed and decided."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from domain.desk import bulk_rejected, key_reused
from domain.errors import BulkRejected, DaichoError
from domain.orders import Answer, BulkMode, Order, Receipt


class Bulk:
    """Collects an answer per order.

    An order that repeats a command key of the bulk waits for the first one's answer; with another body it is refused.
    """

    def __init__(self, orders: Sequence[Order], mode: BulkMode) -> None:
        self.orders = list(orders)
        self.mode = mode
        self._answers: dict[int, Answer] = {}
        self._repeats: dict[int, int] = {}
        first_of: dict[str, int] = {}
        for index, order in enumerate(self.orders):
            first = first_of.setdefault(order.ref.key, index)
            if self.orders[first].ref != order.ref:
                self._answers[index] = key_reused()
            elif first != index:
                self._repeats[index] = first
        self.left = [index for index in range(len(self.orders)) if index not in self._repeats]
        self._settle()

    def keys(self) -> list[str]:
        """The command key hashes of what is left."""
        return [self.orders[index].ref.key for index in self.left]

    def orders_left(self) -> list[Order]:
        """The orders that are still to be done."""
        return [self.orders[index] for index in self.left]

    def take_known(self, receipts: Mapping[str, Receipt | None]) -> None:
        """Answer the orders whose command key is stored: its receipt, or None where the body is another one."""
        for index in self.left:
            key = self.orders[index].ref.key
            if key in receipts:
                self._answers[index] = receipts[key] or key_reused()
        self._settle()

    def take(self, answers: Sequence[Answer | None]) -> None:
        """Take a round's answers for what was left; what was only rejected with the others (or None) stays left."""
        for index, answer in zip(self.left, answers, strict=True):
            if answer is not None and not isinstance(answer, BulkRejected):
                self._answers[index] = answer
        self._settle()

    def give_up(self, trouble: DaichoError) -> None:
        """Answer what is left with our trouble."""
        self._answers.update(dict.fromkeys(self.left, trouble))
        self._settle()

    def answers(self) -> list[Answer]:
        """An answer per order, in order."""
        return [self._answer_of(index) for index in range(len(self.orders))]

    def _settle(self) -> None:
        """Keep what has no answer yet; in an atomic bulk one refusal answers for all that is left."""
        self.left = [index for index in self.left if index not in self._answers]
        if self.mode == "atomic" and any(isinstance(answer, DaichoError) for answer in self._answers.values()):
            self._answers.update(dict.fromkeys(self.left, bulk_rejected()))
            self.left = []

    def _answer_of(self, index: int) -> Answer:
        answer = self._answers[self._repeats.get(index, index)]
        return replace(answer, hit=True) if index in self._repeats and isinstance(answer, Receipt) else answer
