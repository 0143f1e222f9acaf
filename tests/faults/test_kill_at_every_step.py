"""One kill after every durable step, by name; then a restart and the whole audit (`crash_points.py`, `auditor.py`)."""

import asyncio
import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import crash_points as at
from tests.faults.auditor import Audit, rows_of
from tests.faults.harness import COMPANIES, ROOT, Service, Zygote, wait_for
from tests.faults.load import Load

pytest_plugins = ("tests.faults.fixtures",)

LINES = 2_500
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Armed(Service):
    """A service that dies where it is told to."""

    def __init__(self, zygote: Zygote, folder: Path) -> None:
        self.trigger = folder.with_name("trigger")
        site = ROOT / "tests" / "faults" / "site"
        super().__init__(
            zygote, folder, {at.TRIGGER: str(self.trigger), "PYTHONPATH": f"{ROOT}:{ROOT / 'verifier'}:{site}"}
        )

    def dies_at(self, name: str, times: int = 1) -> None:
        """From now on, at the n-th time."""
        at.pull(self.trigger, name, times)

    def restart(self) -> None:
        """After it died: at once."""
        self.kill(by_itself=True)
        assert not self.trigger.exists(), "it died of something else"
        self.start()
        self.wait_ready()


@pytest.fixture(scope="module")
def worked(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Armed]:
    """One ledger that goes on through all the crashes of this module."""
    made = Armed(zygote, tmp_path_factory.mktemp("steps") / "data")
    try:
        made.start()
        made.wait_ready()
        made.sign_up(COMPANIES)
        yield made
    finally:
        made.end()


@pytest.mark.parametrize("step", at.WHILE_WORKING)
def test_killed_while_working_it_goes_on_as_if_nothing_had_been(worked: Armed, step: str) -> None:
    load = Load(worked, COMPANIES, seed=worked.starts, name="step")

    async def work() -> None:
        async with load.at_work(single=3, bulks=1):
            worked.dies_at(step)
            await asyncio.to_thread(worked.restart)
            await load.until(more=3)

    asyncio.run(work())
    Audit(worked, load.acknowledged, load.given_up).run()


@pytest.mark.parametrize("step", at.WHILE_SIGNING_UP)
def test_killed_while_signing_up_a_user_has_one_wallet_in_the_end(worked: Armed, step: str) -> None:
    company = f"newcomer-{worked.starts}"
    worked.dies_at(step)
    with pytest.raises(Exception, match=r"disconnected|reset|closed"):
        worked.sign_up([company])
    worked.restart()
    worked.sign_up([company])
    Audit(worked).run()
    assert len(wallets_of(worked, company)) == 1


def test_a_signer_killed_after_it_stored_a_key_makes_no_second_one(worked: Armed) -> None:
    company = "key-in-doubt"
    named = {"code": company, "name": company}
    assert worked.ask("POST", "/v1/companies", key=f"register-{company}", json=named).status_code == 201
    signer = worked.children()["signer"]
    worked.dies_at("signer: key stored, not answered")
    user = {"user": f"clerk@{company}.example"}

    def signed_up() -> bool:
        answer = worked.ask("POST", "/v1/users", company=company, key=f"user-{company}", json=user)
        assert answer.status_code in {200, 201, 503}, answer.text
        return answer.status_code != 503

    wait_for(signed_up, "the signer to be back")
    assert worked.children()["signer"] != signer
    Audit(worked).run()
    (opened,) = wallets_of(worked, company)
    answer = worked.ask("GET", f"/v1/users/{user['user']}/wallet", company=company)
    assert answer.json()["address"] == opened["address"], answer.text


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("signer", "signer: head remembered, signature not given out"),
        ("node", "node: block durable, not answered"),
    ],
)
def test_a_child_killed_after_its_durable_step_comes_back_and_the_service_never_stopped(
    worked: Armed, name: str, step: str
) -> None:
    lives, child = worked.starts, worked.children()[name]
    load = Load(worked, COMPANIES, seed=lives, name=name)

    async def work() -> None:
        async with load.at_work(single=2, bulks=0):
            worked.dies_at(step)
            await asyncio.to_thread(wait_for, lambda: worked.children().get(name, child) != child, f"another {name}")
            await load.until(more=3)

    asyncio.run(work())
    assert not load.given_up
    Audit(worked, load.acknowledged, load.given_up).run()
    assert worked.starts == lives


def test_an_import_killed_in_the_middle_is_resumed_and_nothing_is_imported_twice(worked: Armed) -> None:
    seller, buyer = COMPANIES[:2]
    table, token = worked.folder.path.with_name("table.csv"), worked.folder.path.with_name("token")
    token.write_text(worked.token(seller))
    with table.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["reference", "seller", "buyer", "amount", "currency", "traded_on", "due_on"])
        writer.writerows([f"T-{n}", seller, buyer, n, "JPY", "2026-11-01", "2026-12-01"] for n in range(1, LINES + 1))
    command = ["import", str(table), "--token-file", str(token), "--url", worked.url, "--json"]
    worked.dies_at("writer: committed, not answered", times=2)
    code, out, err = worked.daicho(*command)
    assert (code, out) == (2, "")
    assert "does not answer" in err
    worked.restart()
    code, out, err = worked.daicho(*command)
    told = json.loads(out)
    assert (code, told["imported"], told["already_imported"], told["refused"]) == (0, LINES - 2_000, 2_000, []), err
    Audit(worked).run()
    references = Counter(d["reference"] for d in data_of(worked, "TradeRecorded") if d["reference"].startswith("T-"))
    assert references == {f"T-{n}": 1 for n in range(1, LINES + 1)}


def test_killed_at_every_step_of_its_first_start_it_has_one_identity_contract_and_book(
    zygote: Zygote, tmp_path: Path
) -> None:
    service = Armed(zygote, tmp_path / "data")
    try:
        for step in at.WHILE_STARTING_FIRST:
            service.dies_at(step)
            service.start()
            service.kill(by_itself=True)
            assert not service.trigger.exists(), f"it died before {step}"
        begin_and_audit(service)
        assert len(data_of(service, "BookOpened")) == 1
    finally:
        service.end()


@pytest.mark.parametrize("step", at.AT_THE_NODES_BIRTH)
def test_a_node_killed_while_it_makes_its_chain_makes_it_at_the_next_start(
    zygote: Zygote, tmp_path: Path, step: str
) -> None:
    service = Armed(zygote, tmp_path / "data")
    try:
        service.dies_at(step)
        code, said = service.refuses_to_start()
        assert (code, said.count("\n")) == (2, 1), said
        assert "node" in said
        begin_and_audit(service)
    finally:
        service.end()


def begin_and_audit(service: Service) -> None:
    """Start it, let it work a little, and audit it."""
    service.start()
    service.wait_ready()
    service.sign_up(COMPANIES[:2])
    assert service.record(*COMPANIES[:2], "R-1").status_code == 201
    Audit(service).run()


def data_of(service: Service, kind: str) -> list[dict[str, str]]:
    """The data of all entries of a type."""
    entries = [json.loads(state) for _, state in rows_of(service.folder.ledger, "stored_events")]
    return [entry["data"] for entry in entries if entry["type"] == kind]


def wallets_of(service: Service, company: str) -> list[dict[str, str]]:
    """What was said at the opening of each wallet of a company."""
    return [data for data in data_of(service, "WalletOpened") if data["company"] == company]
