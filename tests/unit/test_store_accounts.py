"""The token that a store is given for a user, and the user that a token stands for."""

import secrets
from uuid import UUID

import pytest

from domain.accounts import account_of, user_of_account
from domain.store_notification import Store


@pytest.mark.parametrize("store", list(Store))
def test_a_token_stands_for_the_user_it_was_made_for(store: Store) -> None:
    pseudonym = secrets.token_hex(16)
    token = account_of(pseudonym, store)
    assert user_of_account(token) == user_of_account(token.upper()) == pseudonym
    assert len(token) <= 64
    assert store is Store.GOOGLE or str(UUID(token)) == token


@pytest.mark.parametrize("token", [None, "", "user@example.com", "0" * 31, "g" * 32, "0" * 64])
def test_a_token_of_another_form_stands_for_nobody(token: str | None) -> None:
    assert user_of_account(token) is None
