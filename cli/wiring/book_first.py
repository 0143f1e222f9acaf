"""The book is always the first entry: until it stands in the log, nothing else is written."""

from domain.commands import OpenBook
from domain.errors import LedgerReadOnly
from domain.orders import Answer, Unit
from storage.writer import GroupWriter


class BookFirst:
    """domain.orders.Writer over the group writer; `refusal` says why all commands but OpenBook are refused, or None."""

    def __init__(self, writer: GroupWriter, *, is_open: bool) -> None:
        self.refusal = None if is_open else LedgerReadOnly("the book is not opened yet", source="start")
        self._writer = writer
        self.known, self.taken, self.receipt_of, self.warm = writer.known, writer.taken, writer.receipt_of, writer.warm
        self.alone = writer.alone

    async def submit(self, units: list[Unit]) -> list[list[Answer]]:
        """As the writer does it, or the refusal."""
        opens = all(isinstance(order.command, OpenBook) for unit in units for order in unit.orders)
        if self.refusal is not None and not opens:
            return [[self.refusal] * len(unit.orders) for unit in units]
        return await self._writer.submit(units)
