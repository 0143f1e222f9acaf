"""The command line as a user meets it, and what it does with input that cannot be used."""

import gzip
import io
import json
import runpy
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from daicho_verify import cli, files, report, source
from daicho_verify.errors import MalformedError, MissingError, UnavailableError
from tests.vectors.verifier import story
from tests.vectors.verifier.attacks import fork
from tests.vectors.verifier.book import CHAIN_ID, CONTRACT, ORIGIN
from tests.vectors.verifier.loopback import serve
from tests.vectors.verifier.oracle import note_key, vkey
from tests.vectors.verifier.program import HERE, POLICY, run, write

HONEST = HERE / "honest" / "confirmed.json"
ROOT = HERE.parents[2]


def test_it_runs_alone_as_a_module_on_a_bare_interpreter(tmp_path: Path) -> None:
    words = [sys.executable, "-I", "-S", "-c", "import sys, runpy; sys.path.insert(0, sys.argv.pop(1)); "]
    words[-1] += "sys.argv[0] = 'x'; runpy.run_module('daicho_verify', run_name='__main__')"
    done = subprocess.run(
        [*words, str(ROOT / "verifier"), str(HONEST), "--policy", POLICY, "--json"],
        capture_output=True,
        cwd=tmp_path,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["answer"] == "qualified"


def test_the_verifier_imports_the_standard_library_only() -> None:
    code = (
        "import sys, pkgutil, importlib; sys.path.insert(0, sys.argv[1]); import daicho_verify as d;"
        "[importlib.import_module('daicho_verify.' + m.name) for m in pkgutil.iter_modules(d.__path__)"
        " if m.name != '__main__'];"
        "print({n.split('.')[0] for n in sys.modules} - set(sys.stdlib_module_names) - {'daicho_verify', '__main__'})"
    )
    words = [sys.executable, "-I", "-S", "-c", code, str(ROOT / "verifier")]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"


def test_a_policy_is_written_and_used(tmp_path: Path) -> None:
    book = story.story()
    words = ("policy", "--origin", ORIGIN, "--log-key", vkey(ORIGIN, book.log_key), "--chain-id", CHAIN_ID)
    words += ("--contract", CONTRACT, "--promise-key", vkey(f"{ORIGIN}/promise", book.promise_key))
    words += ("--confirmations", 3, "--independent", "--quorum", 1, "--require", "chain", "--require", "entry")
    words += ("--witness", vkey("kita.example", note_key("kita"), 4))
    assert run(*words, "--out", tmp_path / "policy.json").out == ""
    printed = run(*words)
    assert printed.out == (tmp_path / "policy.json").read_text()
    value = json.loads(printed.out)
    assert value["chain"] == {
        "chain_id": CHAIN_ID,
        "contract": CONTRACT,
        "confirmations": 3,
        "independent": True,
    }
    assert (value["quorum"], value["require"]) == (1, ["entry", "author", "inclusion", "log-signature", "chain"])
    assert run(HONEST, "--policy", tmp_path / "policy.json").code == 2  # no node was named
    plain = run(*words[:5])
    assert run(HONEST, "--policy", write(tmp_path / "plain.json", plain.out), "--json").code == 2
    assert json.loads(plain.out)["require"] == ["entry", "author", "inclusion", "log-signature"]


def test_a_policy_with_a_wrong_key_is_not_written(tmp_path: Path) -> None:
    result = run("policy", "--origin", ORIGIN, "--log-key", "no key", "--out", tmp_path / "policy.json")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("daicho-verify: policy.log_key: must be a verifier key")
    assert not (tmp_path / "policy.json").exists()


def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    result = run(tmp_path / "absent.json", "--policy", POLICY)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("daicho-verify: input: evidence ")
    assert result.err.count("\n") == 1
    assert run("nul\0byte", "--policy", POLICY).code == 2
    result = run(HONEST, "--policy", tmp_path / "absent.json", "--json")
    assert (result.code, result.answer["answer"], result.answer["error"]["field"]) == (2, "unusable", "input")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((HONEST, "--rpc", "ftp://node.example"), "--rpc: must be an http or https address"),
        ((HONEST, "--rpc", "http://"), "--rpc: must be an http or https address"),
        ((HONEST, "--rpc", "http://node.example:port"), "--rpc: must be an http or https address"),
        ((HONEST, "--rpc", "http://node.example/a b"), "--rpc: must be an http or https address"),
        ((HONEST, "--log", "nowhere"), "log nowhere is neither a folder nor"),
        (("log", "file:///etc"), "log: must be an http or https address"),
        (("log", "."), "is not there"),
        (("log", "http://ledger.example", "--token-file", POLICY), "--token-file: must hold one token"),
        (("log", "http://ledger.example", "--token-file", "{token}"), "over https, or to this machine, only"),
        (("log", ".", "--token-file", "{token}"), "is not there"),
    ],
)
def test_what_cannot_be_used_is_named(words: tuple[Any, ...], says: str, tmp_path: Path) -> None:
    token = write(tmp_path / "token", "t0ken")
    words = tuple(str(token) if word == "{token}" else tmp_path if word == "." else word for word in words)
    result = run(*words, "--policy", POLICY)
    assert (result.code, result.out) == (2, "")
    assert says in result.err


def test_a_wrong_command_line_ends_with_code_2() -> None:
    assert [run(*words).code for words in ((), ("--nonsense",), ("log", "x", "--sample", "0"))] == [2, 2, 2]
    assert "must be a whole number from 1" in run("log", "x", "--sample", "-5").err
    assert run("--version").out.startswith("daicho-verify 0.")


def test_the_module_runs_as_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["daicho-verify", str(HERE / "refused" / "wrong-leaf.json"), "--policy", POLICY])
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("daicho_verify", run_name="__main__")
    assert stop.value.code == 1


def test_the_arguments_default_to_those_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["daicho-verify", str(HONEST), "--policy", POLICY])
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert cli.main() == 0


def test_a_contradiction_stays_a_contradiction_when_it_cannot_be_saved(tmp_path: Path) -> None:
    file = write(tmp_path / "evidence.json", fork().evidence(8))
    book = story.story()
    heads = write(tmp_path / "heads.json", {"format": "daicho-heads/1", "heads": {ORIGIN: book.checkpoint()}})
    (tmp_path / "blocked").write_text("in the way")
    words = (file, "--policy", POLICY, "--heads", heads)
    result = run(*words, "--save", tmp_path / "blocked")
    assert result.code == 1
    assert "kept in NOT SAVED: " in result.out
    result = run(*words, "--save", tmp_path / "saved")
    assert f"kept in {tmp_path}/saved/daicho-contradiction-" in result.out


def test_a_failed_write_leaves_no_stray_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    target = write(tmp_path / "heads.json", b"old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UnavailableError, match="No space left"):
        files.write_atomically(target, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["heads.json"]
    assert target.read_bytes() == b"old"


def test_text_reaches_a_terminal_of_any_encoding() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", newline="\n")
    report.emit(stream, "緑茶")
    stream.flush()
    assert raw.getvalue() == b"\\u7dd1\\u8336\n"


# -- fetching


def test_an_answer_beyond_the_limit_is_not_read_to_its_end() -> None:
    with serve(lambda *_: (200, {}, bytes(1001))) as url:
        assert source.fetch(url, 1001) == bytes(1001)
        with pytest.raises(UnavailableError, match="more than 1000 bytes"):
            source.fetch(url, 1000)


def test_a_small_gzip_that_unfolds_beyond_the_limit_is_refused() -> None:
    with serve(lambda *_: (200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(1_000_000)))) as url:
        with pytest.raises(UnavailableError, match="more than 5000 bytes, or not whole"):
            source.fetch(url, 5000)
        assert source.fetch(url, 1_000_000) == bytes(1_000_000)


def test_a_gzip_that_ends_early_is_refused() -> None:
    with (
        serve(lambda *_: (200, {"Content-Encoding": "gzip"}, gzip.compress(b"abc" * 99)[:-4])) as url,
        pytest.raises(UnavailableError, match="or not whole"),
    ):
        source.fetch(url, 5000)


def test_a_server_that_drips_is_given_up() -> None:
    with (
        serve(lambda *_: (200, {}, bytes(200_000))) as url,
        pytest.MonkeyPatch.context() as patch,
    ):
        clock = iter(range(0, 1000, 10))
        patch.setattr(time, "monotonic", lambda: float(next(clock)))
        with pytest.raises(UnavailableError, match="did not answer whole within 20 s"):
            source.fetch(url, 1_000_000)


def test_a_server_that_speaks_no_http_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-nothing\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(UnavailableError, match="cannot be reached"):
            source.fetch(f"http://127.0.0.1:{listener.getsockname()[1]}", 1000)
        thread.join()


def test_only_a_missing_file_counts_as_missing() -> None:
    with serve(lambda path, *_: (404 if path == "/a" else 403, {}, b"")) as url:
        with pytest.raises(MissingError):
            source.fetch(f"{url}/a", 10)
        with pytest.raises(UnavailableError, match="403"):
            source.fetch(f"{url}/b", 10)


def test_a_redirect_is_not_followed() -> None:
    asked = []

    def answer(path: str, *_: Any) -> Any:
        asked.append(path)
        return 302, {"Location": "/elsewhere"}, b""

    with serve(answer) as url, pytest.raises(UnavailableError, match="302"):
        source.fetch(f"{url}/here", 10)
    assert asked == ["/here"]


def test_the_proxy_of_the_environment_is_for_other_machines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def proxy(path: str, *_: Any) -> Any:
        asked.append(path)
        return 200, {}, b"by proxy"

    with serve(proxy) as url, serve(lambda *_: (200, {}, b"direct")) as own:
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert source.fetch("http://ledger.invalid/log/checkpoint", 100) == b"by proxy"
        assert source.fetch(own, 100) == b"direct"
    assert asked == ["http://ledger.invalid/log/checkpoint"]


def test_a_token_may_travel_to_this_machine_or_over_https() -> None:
    for url in ("https://ledger.example/log", "http://127.0.0.1:1/log", "http://[::1]/log"):
        assert isinstance(source.open_source(url, "token"), source.HttpSource)
    with pytest.raises(MalformedError, match="over https"):
        source.open_source("http://ledger.example/log", "token")
