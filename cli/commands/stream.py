"""`daicho stream`: one processor of a cluster as a process of its own."""

import asyncio
import logging
import sys
from typing import Literal

from cli.settings import SettingsError, load_settings

Name = Literal["relay", "sequencer", "projector", "anchor-projector", "anchorer", "stores"]


def stream(name: Name, *, metrics_port: int | None = None, log_level: str | None = None) -> int:
    """Run a processor until Ctrl-C or SIGTERM. A second copy stands by and takes over when the first one is gone.

    Exit code 3: another process has taken over the leadership; start it again, and it stands by.

    Parameters
    ----------
    name
        relay: from the event store to Kafka. sequencer: entries to the log, and its signed heads. projector: entries to
        read models. anchorer: heads to the chain. anchor-projector: anchors to read models.
        stores: what app stores have said, and purchases.
    metrics_port
        Port of its metrics (0: any free one).
    log_level
        debug, info, warning or error.
    """
    settings = load_settings(metrics_port=metrics_port, log_level=log_level)
    if not settings.clustered:
        raise SettingsError("a ledger in the data folder runs its processors inside `daicho serve`")
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    for noisy in ("httpx", "faust", "mode"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    for noisy in ("kafka", "aiokafka"):  # in an outage, hundreds of lines about what our own say once
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    from cli.wiring.workers.parts import run_part

    return asyncio.run(run_part(settings, name))
