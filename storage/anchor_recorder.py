"""The event store of the anchor book: the ledger's recorder over a table of its own, in a file of its own."""

from typing import Any, Final

from eventsourcing.sqlite import SQLiteDatastore

from storage.sqlite_recorder import LedgerRecorder

ANCHOR_TABLE: Final = "anchor_events"


class AnchorRecorder(LedgerRecorder):
    """Gapless positions, entries sealed under the lock, and the lane's sequence numbers tracked beside them."""

    def __init__(self, datastore: SQLiteDatastore, events_table_name: str = ANCHOR_TABLE, **kwargs: Any) -> None:
        super().__init__(datastore, events_table_name=events_table_name, **kwargs)
