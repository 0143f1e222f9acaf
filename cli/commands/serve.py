"""`daicho serve`: the whole service on one machine."""

import logging
import sys
from pathlib import Path

from cli.settings import Settings, load_settings


def serve(
    *,
    data: Path | None = None,
    host: str | None = None,
    port: int | None = None,
    log_level: str | None = None,
) -> int:
    """Serve the ledger until Ctrl-C or SIGTERM. Everything else is set by DAICHO_… in the environment.

    Parameters
    ----------
    data
        The data folder.
    host
        Address to listen on.
    port
        Port to listen on (0: any free one).
    log_level
        debug, info, warning or error.
    """
    settings = load_settings(data_dir=data, host=host, port=port, log_level=log_level)
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # a cluster's API asks it before the ledger opens
    import uvloop

    uvloop.run(run(settings))
    return 0


async def run(settings: Settings) -> None:
    """Start, listen, stop."""
    from cli.wiring.service import Service

    service = Service(settings)
    try:
        await service.start()
        await service.serve()
    finally:
        await service.stop()
