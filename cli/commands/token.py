"""`daicho token`: a token of the development issuer."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cli.development import SCOPES, make_token
from cli.settings import SettingsError, load_settings
from storage.folder import DataFolder


def token(
    subject: str,
    *,
    company: str = "",
    scope: Annotated[list[str] | None, Parameter(negative="")] = None,
    hours: float = 12.0,
    data: Path | None = None,
    secrets: Path | None = None,
) -> int:
    """Print a token for a user, signed by the development issuer of a data folder.

    Parameters
    ----------
    subject
        The user's name, as the identity provider would give it.
    company
        The company's code; leave it out for the operator or an auditor.
    scope
        May be repeated. Default: all that a company's user needs, or the operator's.
    hours
        How long it is valid.
    data
        The data folder.
    secrets
        The folder of the secrets, where it is not in the data folder (`daicho secrets`).
    """
    settings = load_settings(data_dir=data)
    if not settings.development:
        raise SettingsError("production has no issuer of its own: ask the identity provider for a token")
    unknown = sorted(set(scope or ()) - set(SCOPES))
    if unknown:
        raise SettingsError(f"unknown scope {', '.join(unknown)}; scopes are {', '.join(SCOPES)}")
    default = (
        [s for s in SCOPES if s not in {"operator", "audit:read", "support:read"}]
        if company
        else ["operator", "audit:read", "support:read"]
    )
    text = make_token(
        DataFolder(settings.data_dir, secrets),
        issuer=settings.issuer,
        audience=settings.jwt_audience,
        subject=subject,
        company=company,
        scopes=scope or default,
        seconds=int(hours * 3600),
    )
    sys.stdout.write(text + "\n")
    return 0
