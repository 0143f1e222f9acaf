"""A data folder that knows less than others do: the service serves reads and refuses commands, and says why."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from storage.folder import DataFolder
from tests.faults.auditor import Audit, read, rows_of
from tests.faults.harness import COMPANIES, Service, Zygote, running, wait_for

pytest_plugins = ("tests.faults.fixtures",)

SELLER, BUYER = COMPANIES[:2]
ALL = ("ledger", "log", "anchors", "read")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class History:
    """One ledger at two moments: each a copy of a folder whose service was stopped in order, everything anchored."""

    def __init__(self, earlier: Path, later: Path) -> None:
        self.earlier, self.later = DataFolder(earlier), DataFolder(later)
        self.old_size = len(rows_of(self.earlier.ledger, "stored_events"))
        self.new_size = len(rows_of(self.later.ledger, "stored_events"))


@pytest.fixture(scope="module")
def history(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> History:
    folder = tmp_path_factory.mktemp("history")
    service = Service(zygote, folder / "data")
    for name, references in (("earlier", ["R-1"]), ("later", ["R-2", "R-3"])):
        with running(service):
            service.sign_up([SELLER, BUYER])
            for reference in references:
                assert service.record(SELLER, BUYER, reference).status_code == 201
            Audit(service).run()
            assert service.stop() == 0
        shutil.copytree(service.folder.path, folder / name)
    return History(folder / "earlier", folder / "later")


@pytest.fixture
def service(zygote: Zygote, tmp_path: Path, history: History) -> Iterator[Service]:
    """The later ledger, stopped."""
    shutil.copytree(history.later.path, tmp_path / "data")
    made = Service(zygote, tmp_path / "data")
    yield made
    made.end()


def put_back(service: Service, source: DataFolder, *names: str) -> None:
    """Restore these databases from a backup."""
    for name in names:
        lose(service, name)
        for file in source.path.glob(f"{name}.db*"):
            shutil.copy(file, service.folder.path)


def lose(service: Service, *names: str) -> None:
    """Delete these databases."""
    for name in names:
        for file in service.folder.path.glob(f"{name}.db*"):
            file.unlink()


def is_read_only(service: Service, source: str, size: int) -> str:
    """Wait until it says that it is read-only for good; the reason. Reads are answered, commands are not."""

    def reason() -> str:
        status, body = service.readiness()
        reasons = [text for text in body.get("reasons", []) if text.startswith("read-only: ")]
        known = status == httpx.codes.SERVICE_UNAVAILABLE and reasons and str(size) in reasons[0]
        return reasons[0] if known and "waiting" not in reasons[0] else ""

    service.start()
    why = wait_for(reason, f"a reason that names size {size}", 60.0)
    before = rows_of(service.folder.ledger, "stored_events")
    signed = read(service.folder.log, "SELECT count(*), max(size) FROM checkpoints")
    for attempt in ("R-4", "R-5"):
        answer = service.record(SELLER, BUYER, attempt)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "60"), answer.text
        problem = answer.json()
        assert problem["type"] == "urn:daicho:problem:ledger-read-only"
        assert (problem["values"]["source"], problem["values"]["size"]) == (source, size)
        assert problem["detail"] in why
    assert service.ask("GET", "/v1/trades", company=SELLER).json()["items"]
    assert httpx.get(f"{service.url}/log/checkpoint").status_code in {200, 404}
    assert rows_of(service.folder.ledger, "stored_events") == before
    assert read(service.folder.log, "SELECT count(*), max(size) FROM checkpoints") == signed, "it signed once more"
    return why


def goes_on(service: Service) -> None:
    """It takes commands again, and everything holds."""
    with running(service):
        answer = service.record(SELLER, BUYER, "R-4")
        assert answer.status_code == httpx.codes.CREATED, answer.text
        Audit(service).run()


def test_an_older_backup_of_the_events_is_read_only_until_the_missing_ones_are_back(
    service: Service, history: History
) -> None:
    put_back(service, history.earlier, "ledger")
    why = is_read_only(service, "log", history.new_size)
    assert f"the store ends at {history.old_size}" in why
    code, out, _ = service.daicho("check", "--json", "--data", str(service.folder.path))
    assert code == 1
    assert json.loads(out)["differences"], "check sees it, too"
    service.end()
    put_back(service, history.later, "ledger")
    goes_on(service)


def test_an_older_backup_of_everything_but_the_chain_is_read_only_for_the_contract_knows_more(
    service: Service, history: History
) -> None:
    put_back(service, history.earlier, *ALL)
    why = is_read_only(service, "contract", history.new_size)
    assert "contract" in why
    service.end()
    put_back(service, history.later, *ALL)
    goes_on(service)


def test_with_the_log_lost_and_older_events_the_service_is_read_only(service: Service, history: History) -> None:
    put_back(service, history.earlier, "ledger")
    lose(service, "log")
    is_read_only(service, "anchor", history.new_size)


def test_a_lost_log_is_built_again_from_the_events_and_its_head_signed_again(service: Service) -> None:
    lose(service, "log")
    goes_on(service)


def test_lost_read_models_are_built_again_from_the_events(service: Service) -> None:
    lose(service, "read")
    goes_on(service)


def test_an_older_backup_of_what_was_anchored_costs_the_list_of_those_anchors_and_nothing_else(
    service: Service, history: History
) -> None:
    put_back(service, history.earlier, "anchors")
    lose(service, "read")
    with running(service):
        assert service.record(SELLER, BUYER, "R-4").status_code == httpx.codes.CREATED
        service.ask("POST", "/v1/anchors:now")
        wait_for(lambda: all(row["lag"] == 0 for row in service.readiness()[1]["processors"]), "a final anchor")
        folder, rpc = str(service.folder.path), f"{service.url}/chain/rpc"
        code, out, _ = service.daicho("check", "--signatures", "--json", "--data", folder, "--rpc", rpc)
        assert (code, json.loads(out)["differences"]) == (0, [])


def test_without_its_chain_the_service_stays_read_only_and_check_misses_the_anchors(
    service: Service, history: History
) -> None:
    lose(service, "chain")
    service.start()

    def reason() -> str:
        reasons = service.readiness()[1].get("reasons", [])
        return next((text for text in reasons if "no registry answers" in text), "")

    assert wait_for(reason, "the reason").startswith("read-only: waiting for the contract's head")
    assert service.record(SELLER, BUYER, "R-4").status_code == httpx.codes.SERVICE_UNAVAILABLE
    code, out, _ = service.daicho("check", "--json", "--data", str(service.folder.path))
    first = json.loads(out)["first_difference"]
    assert (code, first["part"]) == (1, "contract")
    service.end()
    put_back(service, history.later, "chain")
    goes_on(service)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("DAICHO_ORIGIN", "daicho.invalid/another", "this ledger was started as daicho.invalid/"),
        ("DAICHO_CHAIN_ID", "1", "this ledger is anchored on 20260"),
        ("DAICHO_CONTRACT", "0x" + "11" * 20, "this ledger is anchored in 0x"),
    ],
)
def test_another_identity_than_the_ledgers_own_refuses_to_start_in_one_line(
    service: Service, setting: str, value: str, said: str
) -> None:
    code, line = service.refuses_to_start({setting: value})
    assert (code, line.count("\n")) == (2, 1), line
    assert line.startswith(f"daicho: {setting} is {value}")
    assert said in line
