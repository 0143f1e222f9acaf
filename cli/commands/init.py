"""`daicho init`: begin a book that several processes will share. Everything it does may be repeated."""

import asyncio
from typing import Any

from cli.screen import console, print_json
from cli.settings import Settings, SettingsError, load_settings


def init(*, json: bool = False) -> int:
    """Migrate the schema, create the topics, give the book its identity, deploy its contract, register its log.

    What is done already is left as it is, so it can run before every start. Needs DAICHO_DATABASE_OWNER_URL.

    Parameters
    ----------
    json
        Print one JSON object.
    """
    settings = load_settings()
    if not settings.clustered:
        raise SettingsError("a book in the data folder begins with `daicho serve`; this is for one in PostgreSQL")
    found = asyncio.run(_begin(settings))
    if json:
        print_json(found)
    else:
        for name, value in found.items():
            console.print(f"{name:12} {value}", markup=False)
    return 0


async def _begin(settings: Settings) -> dict[str, Any]:
    from cli.wiring.beginning import begin_book

    return await begin_book(settings)
