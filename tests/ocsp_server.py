"""An OCSP responder over real HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager

from simulator.authority import OcspResponder
from tests.http_stub import Answer, serving


@contextmanager
def ocsp_responder() -> Iterator[OcspResponder]:
    """A responder on loopback, until the end of the block."""
    responder = OcspResponder()
    with serving(lambda asked: Answer(responder.answer(asked.body))) as stub:
        responder.url = f"{stub.url}/"
        yield responder
