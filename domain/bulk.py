"""A signed bulk under way: which of its orders are answered, which are still to be signed and decided."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from domain.desk import bulk_rejected, key_reused
from domain.errors import BulkRejected, DaichoError, Overloaded
from domain.orders import Answer, BulkMode, Order, Receipt


class Bulk:
    """Collects an answer per order. Orders that repeat a command key inside the bulk wait for the first one's answer."""

    def __init__(self, orders: Sequence[Order], mode: BulkMode) -> None:
        self.orders = list(orders)
        self.mode = mode
        self._answers: dict[int, Answer] = {}
        self._first: dict[str, int] = {}
        self._repeats: dict[int, int] = {}
        for index, order in enumerate(self.orders):
            first = self._first.setdefault(order.ref.key, index)
            if first != index:
                self._repeats[index] = first
        self.left = [index for index in range(len(self.orders)) if index not in self._repeats]

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
                self._answer(index, receipts[key] or key_reused())
        self._shrink()

    def take(self, answers: Sequence[Answer | None]) -> None:
        """Take a round's answers for what was left; what was only rejected with the others (or None) stays left."""
        for index, answer in zip(self.left, answers, strict=True):
            if answer is not None and not isinstance(answer, BulkRejected):
                self._answer(index, answer)
        if self.mode == "atomic" and any(isinstance(answer, DaichoError) for answer in self._answers.values()):
            for index in self.left:
                self._answers.setdefault(index, bulk_rejected())
        self._shrink()

    def give_up(self) -> None:
        """Answer what is left after too many rounds."""
        for index in self.left:
            self._answer(index, Overloaded("the bulk met too many changes by others; send it again"))
        self._shrink()

    def answers(self) -> list[Answer]:
        """An answer per order, in order."""
        return [self._answer_of(index) for index in range(len(self.orders))]

    def _shrink(self) -> None:
        self.left = [index for index in self.left if index not in self._answers]

    def _answer(self, index: int, answer: Answer) -> None:
        self._answers[index] = answer

    def _answer_of(self, index: int) -> Answer:
        first = self._repeats.get(index)
        if first is None:
            return self._answers[index]
        if self.orders[first].ref.body != self.orders[index].ref.body:
            return key_reused()
        answer = self._answers[first]
        return replace(answer, hit=True) if isinstance(answer, Receipt) else answer
