"""How the application is served: uvicorn with httptools and uvloop, bounded, without words about itself."""

from typing import Any, Final

import uvicorn

KEEP_ALIVE_SECONDS: Final = 15
DRAIN_SECONDS: Final = 20
BACKLOG: Final = 2048


def server_config(app: Any, host: str, port: int, *, max_connections: int = 4096, **more: Any) -> uvicorn.Config:
    """The server's configuration. On SIGTERM it takes no more and lets running requests end within `DRAIN_SECONDS`."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        limit_concurrency=max_connections,
        backlog=BACKLOG,
        **more,
    )
