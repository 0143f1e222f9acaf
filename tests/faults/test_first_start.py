"""The first start of a ledger: its book is the first entry, whoever is in a hurry."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.faults.auditor import Audit, rows_of
from tests.faults.harness import START_SECONDS, Service, wait_for
from tests.faults.test_disk_trouble import file_size_limit

pytest_plugins = ("tests.faults.fixtures",)
HURRIED = 8


@pytest.mark.slow
def test_commands_that_come_before_the_book_is_opened_wait_for_it(service: Service) -> None:
    service.start()

    def register(number: int) -> None:
        named = {"code": f"hurried-{number}", "name": "Hurried"}

        def done() -> bool:
            try:
                answer = service.ask("POST", "/v1/companies", key=f"register-{number}", json=named)
            except httpx.HTTPError:
                return False
            assert answer.status_code in {201, 503}, answer.text
            return answer.status_code == httpx.codes.CREATED

        wait_for(done, "the ledger to take commands", START_SECONDS)

    try:
        wait_for(service.folder.secrets.joinpath("issuer.pem").exists, "the issuer of tokens")
        service.token()
        with ThreadPoolExecutor(HURRIED) as pool:
            list(pool.map(register, range(HURRIED)))
        Audit(service).run()
        assert kinds(service) == ["BookOpened", *["CompanyRegistered"] * HURRIED]
    finally:
        service.end()


@pytest.mark.slow
def test_a_book_that_cannot_be_written_yet_is_tried_again_and_is_still_the_first(service: Service) -> None:
    service.start()
    try:
        wait_for(lambda: service.readiness()[0], "the service to listen", START_SECONDS)
        with file_size_limit(service.process):
            answer = service.ask("POST", "/v1/companies", key="register", json={"code": "early", "name": "Early"})
            assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE or kinds(service)[:1] == ["BookOpened"]
        service.wait_ready()
        answer = service.ask("POST", "/v1/companies", key="register", json={"code": "early", "name": "Early"})
        assert answer.status_code in {200, 201}, answer.text
        Audit(service).run()
        assert kinds(service) == ["BookOpened", "CompanyRegistered"]
    finally:
        service.end()


def kinds(service: Service) -> list[str]:
    """The types of all entries."""
    return [json.loads(state)["type"] for _, state in rows_of(service.folder.ledger, "stored_events")]
