"""The data folder: one service at a time, private, and free again however its service ended."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from storage.folder import DataFolder, FolderInUse

HOLDER = """
import sys, time
from pathlib import Path
from storage.folder import DataFolder
held = DataFolder(Path(sys.argv[1])).lock()
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_new_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "deep" / "data")
    assert not folder.exists()
    with folder.lock():
        assert folder.path.stat().st_mode & 0o777 == 0o700
    assert not folder.exists(), "a lock is no ledger"


def test_each_kind_of_data_has_a_file_of_its_own(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    files = [folder.ledger, folder.log, folder.reads, folder.anchors, folder.chain, folder.vault, folder.secrets]
    assert len(set(files)) == len(files)
    assert {file.parent for file in files} == {tmp_path.resolve()}


def test_a_relative_path_means_the_same_folder_after_a_change_of_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = DataFolder(Path("data"))
    monkeypatch.chdir("/")
    assert folder.path == (tmp_path / "data").resolve()


def test_a_second_holder_is_refused_by_name_until_the_first_lets_go(tmp_path: Path) -> None:
    first, second = DataFolder(tmp_path), DataFolder(tmp_path)
    with first.lock():
        with pytest.raises(FolderInUse, match=rf"in use by another service \(process {os.getpid()}\)"):
            second.lock()
        with pytest.raises(FolderInUse):
            DataFolder(tmp_path / "." / "").lock()
    with second.lock():
        pass


def test_letting_go_twice_does_no_harm(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path).lock()
    folder.release()
    folder.release()
    with DataFolder(tmp_path).lock():
        pass


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    with process.stdout, process.stdin:
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(FolderInUse, match=f"process {process.pid}"):
            DataFolder(tmp_path).lock()
        process.kill()
        process.wait()
    with DataFolder(tmp_path).lock():
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
