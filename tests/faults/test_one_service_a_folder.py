"""Two services on one data folder: the second one is refused and harms nobody."""

import re
import subprocess
import sys

from tests.faults.auditor import Audit
from tests.faults.harness import COMPANIES, ROOT, Service, Zygote, free_port, running

pytest_plugins = ("tests.faults.fixtures",)


def test_a_second_service_on_a_folder_is_refused_in_one_line_and_the_first_goes_on(service: Service) -> None:
    with running(service):
        service.sign_up(COMPANIES[:2])
        command = [sys.executable, "-m", "cli.main", "serve", "--data", str(service.folder.path)]
        second = subprocess.run(
            [*command, "--port", str(free_port())], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert (second.returncode, second.stdout) == (2, "")
        (line,) = second.stderr.splitlines()
        assert re.fullmatch(rf"daicho: .*/data is in use by another service \(process {service.process.pid}\).*", line)
        assert service.record(*COMPANIES[:2], "R-1").status_code == 201
        Audit(service).run()


def test_commands_that_need_a_stopped_service_are_refused_beside_a_running_one(service: Service) -> None:
    with running(service):
        code, _, said = service.daicho("keys", "rotate", "--data", str(service.folder.path))
        assert (code, said.count("\n")) == (2, 1)
        assert "is in use by another service" in said


def test_a_lock_file_left_by_a_killed_service_keeps_nobody_out(service: Service) -> None:
    with running(service):
        service.kill()
        assert (service.folder.path / "lock").exists()
        service.start()
        service.wait_ready()
        assert service.stop() == 0


def test_a_taken_port_is_one_clear_line(service: Service, zygote: Zygote) -> None:
    with running(service):
        other = Service(zygote, service.folder.path.with_name("other"))
        other.port = service.port
        code, said = other.refuses_to_start()
        assert (code, said.count("\n")) == (2, 1), said
        assert "Address already in use" in said
