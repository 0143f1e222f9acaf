"""Whose a line is, as far as its store says: the account token that comes back in what it says."""

from collections.abc import Callable, Sequence

from domain.accounts import user_of_account
from domain.commands import Command
from domain.ids import subscription_id
from domain.purchase_commands import ProveIdentity
from stores.reading import Said
from streams.store_tasks import Task


class Identities:
    """`exists` says whether a pseudonym is anybody's: a token of another system must not bind a line to nobody."""

    def __init__(self, exists: Callable[[str], bool]) -> None:
        self._exists = exists

    def commands(self, task: Task, said: Said) -> Sequence[tuple[str, Command]]:
        """The proof that a message holds, if it holds one."""
        about, user = said.notification, user_of_account(said.notification.account)
        if about.line is None or user is None or not self._exists(user):
            return ()
        subscription = subscription_id(about.store, about.environment, about.line)
        return ((f"prove {task.payload}", ProveIdentity(subscription=subscription, user=user)),)
