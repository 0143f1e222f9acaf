"""About the service itself: its identity and head, whether it lives and is ready, what Prometheus reads."""

import hashlib
from typing import Any

from api import examples as x
from api.context import Context
from api.http import Answer, Call, json_answer
from api.metrics import MEDIA
from api.operations import Operation, Success
from api.shapes import BookAnswer
from api.text import b64
from domain.errors import NotYetVisible
from projections import queries

POLICY_FORMAT = "daicho-policy/1"


class Service:
    """The operations on the service."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def rows(self) -> list[Operation]:
        """The table."""
        log_key, promise_key = f"{x.ORIGIN}+1a2b3c4d+AQ…", f"{x.ORIGIN}/promise+5e6f7a8b+AQ…"
        book: dict[str, Any] = {
            "origin": x.ORIGIN, "chain_id": 20260, "contract": x.CONTRACT, "log_id": "0x" + "3b" * 32,
            "log_key": log_key, "promise_key": promise_key, "publish_by_seconds": 60.0, "log_entries": "private",
            "size": 17, "root": x.LEAF, "checkpoint": x.CHECKPOINT,
            "policy": {"format": POLICY_FORMAT, "origin": x.ORIGIN, "log_key": log_key, "promise_key": promise_key,
                       "chain": {"chain_id": 20260, "contract": x.CONTRACT, "confirmations": 1, "independent": False}},
        }  # fmt: skip
        shared: dict[str, Any] = {"method": "GET", "tag": "service", "scopes": None}
        plain = {"type": "object"}
        ready = {"ready": True, "reasons": [], "processors": [{"name": "sequencer", "position": 17, "lag": 0}]}
        return [
            Operation(
                path="/v1/book", handler=self.book, summary="Get the ledger's identity, keys and head",
                description="The policy is a proposal: compare its keys with those that somebody you trust gave you.",
                success=Success("the book", BookAnswer, book), problems=(NotYetVisible,), **shared,
            ),
            Operation(
                path="/healthz", handler=self.alive, summary="Is the process alive?",
                success=Success("it answers", plain, {"status": "alive"}), **shared,
            ),
            Operation(
                path="/readyz", handler=self.ready, summary="Should the service get traffic?",
                description="503 with the same body when it should not.",
                success=Success("it should", plain, ready), **shared,
            ),
            Operation(
                path="/metrics", handler=self.metrics, summary="Get the metrics",
                success=Success("Prometheus' text format", {"type": "string"}, "daicho_tree_size 17.0\n",
                                media="text/plain"), **shared,
            ),
        ]  # fmt: skip

    async def book(self, _: Call) -> Answer:
        """Identity, keys, head, and a policy to start from."""
        context, services = self._context, self._context.services
        opened = await context.reads.ask(queries.book)
        if opened is None:
            raise NotYetVisible("the book's first entry is not projected yet")
        head = services.log_view.head
        policy = {
            "format": POLICY_FORMAT,
            "origin": opened.origin,
            "log_key": opened.log_key,
            "promise_key": opened.promise_key,
            "chain": {
                "chain_id": opened.chain_id,
                "contract": opened.contract,
                "confirmations": context.settings.confirmations,
                "independent": context.settings.chain_independent,
            },
        }
        return json_answer(
            BookAnswer(
                origin=opened.origin,
                chain_id=opened.chain_id,
                contract=opened.contract,
                log_id=f"0x{hashlib.sha256(opened.origin.encode()).hexdigest()}",
                log_key=opened.log_key,
                promise_key=opened.promise_key,
                publish_by_seconds=services.promises.publish_by_seconds,
                log_entries="public" if context.settings.log_entries_public else "private",
                size=head.size if head is not None else 0,
                root=b64(head.root) if head is not None else None,
                checkpoint=head.note.decode() if head is not None else None,
                policy=policy,
            )
        )

    async def alive(self, _: Call) -> Answer:
        """The event loop turns."""
        return json_answer({"status": "alive"})

    async def ready(self, _: Call) -> Answer:
        """Whether traffic is welcome, why not, and how the processors are."""
        health = self._context.services.health
        reasons = list(health.readiness())
        body = {"ready": not reasons, "reasons": reasons, "processors": list(health.processors())}
        return json_answer(body, 503 if reasons else 200)

    async def metrics(self, _: Call) -> Answer:
        """The metrics."""
        return Answer(200, await self._context.reads.run(self._context.metrics.text), MEDIA)
