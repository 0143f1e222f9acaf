"""Puts whole entries back into an event store that lacks them, with everything that it keeps beside them."""

from collections.abc import Sequence

from domain.restoring import restored
from storage.claims import ClaimRow, claim_rows, command_row
from storage.group_store import GroupStore
from storage.postgres.database import unavailable

Record = tuple[int, bytes]


class EventRestorer:
    """Appends entries as they are, each batch in one transaction under the writers' lock; with `claims` those, too."""

    def __init__(self, recorder: GroupStore, *, claims: bool = True) -> None:
        self._recorder, self._with_claims = recorder, claims

    def append(self, records: Sequence[Record]) -> None:
        """Store records that follow the store's last position without a gap. Raises StorageUnavailable.

        A crash before the commit leaves the store as it was, after it with the whole batch: the next run goes on behind
        it. ValueError, with nothing changed, when somebody else has moved the store on.
        """
        recorder = self._recorder
        cursor = recorder.begin()
        try:
            head = recorder.head_under_lock(cursor)
            _require_next(records[0][0], head)
            rows, claims = [], list[ClaimRow]()
            for command in restored(records):
                rows += command.entries
                if self._with_claims:
                    claims.append(command_row(command.key, command.body, command.first, len(command.entries)))
                    claims += claim_rows(command.claims, command.first)
            recorder.insert_group(cursor, rows, claims)
        except BaseException as error:
            recorder.rollback(error)
            if isinstance(error, recorder.DATABASE_ERRORS):
                raise unavailable(error) from error
            raise
        recorder.commit()


def _require_next(position: int, head: int) -> None:
    if position != head + 1:
        raise ValueError(f"the store ends at {head}, position {position} does not follow")
