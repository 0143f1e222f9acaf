"""The heads in the contract's own events, asked of a node."""

from collections.abc import Sequence

from chain.connection import Connection
from chain.errors import ChainError
from chain.registry import Registry, log_id_of
from cli.checking.heads import AnchorHead
from cli.checking.run import ChainHeads
from domain.book import BookOpened


def heads_of_node(rpc_url: str) -> ChainHeads:
    """A reader of every Anchored event of a book's log. It raises OSError when the node gives no usable answer."""

    def heads(book: BookOpened, origin: str) -> Sequence[AnchorHead]:
        try:
            connection = Connection(rpc_url, retries=2)
            registry = Registry(connection, chain_id=book.chain_id, contract=book.contract, log_id=log_id_of(origin))
            found = connection.chain_id()
            if found != book.chain_id:
                raise OSError(f"it serves chain {found}, the book is on {book.chain_id}")
            return registry.anchored_events(0)
        except ChainError as error:
            raise OSError(str(error)) from error

    return heads
