"""The account token that the app hands to a store at purchase, and that comes back in what the store says.

It is the user's pseudonym: random, known to the vault alone, and without meaning once the user is erased. Apple wants a
UUID (`appAccountToken`), Google a text of at most 64 characters (`obfuscatedExternalAccountId`).
"""

import re
from typing import Final
from uuid import UUID

from domain.store_notification import Store

_PSEUDONYM: Final = re.compile(r"[0-9a-f]{32}\Z")


def account_of(pseudonym: str, store: Store) -> str:
    """The token of a user at a store."""
    return str(UUID(pseudonym)) if store is Store.APPLE else pseudonym


def user_of_account(token: str | None) -> str | None:
    """The pseudonym that a token stands for, whether or not anybody has it; None for a token of another form."""
    if token is None:
        return None
    plain = token.lower().replace("-", "")
    return plain if _PSEUDONYM.match(plain) else None
