"""The command line: `daicho-verify FILE`, `daicho-verify log`, `daicho-verify promise`, `daicho-verify policy`.

Exit codes: 0 agrees (perhaps qualified), 1 disagrees, 2 something the policy asks for could not be checked, or the
input cannot be used.
"""

import argparse
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from daicho_verify import __version__
from daicho_verify.errors import MalformedError, UnavailableError, VerifierError
from daicho_verify.evidence import MAX_BUNDLE_BYTES, parse_evidence
from daicho_verify.files import read_bounded, write_atomically
from daicho_verify.heads import Heads
from daicho_verify.log import Depth, verify_log
from daicho_verify.policy import RINGS, Policy, load_policy, policy_text
from daicho_verify.promise import MAX_PROMISE_BYTES, parse_promise, verify_promise
from daicho_verify.report import UNCHECKED_CODE, Report, dump, emit, escape, unusable
from daicho_verify.rpc import Node
from daicho_verify.source import open_source
from daicho_verify.verify import verify_evidence

_COMMANDS = ("log", "promise", "policy")
_MAX_TOKEN_BYTES = 1 << 16
_REDRAW_SECONDS = 0.5

_ABOUT = """Checks the evidence of a Daicho ledger without trusting its operator.
  daicho-verify FILE              an evidence file, ring by ring
  daicho-verify log URL|FOLDER    a whole log: tiles, entries, anchors
  daicho-verify promise FILE      a promise, and whether it was kept
  daicho-verify policy            write a policy file
Trust comes from the policy file and your own node only. Exit codes: 0 agrees, 1 disagrees, 2 could not check."""


def _shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", metavar="FILE", help="whom you trust and which rings you ask for")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--save", metavar="DIR", default=".", help="folder for proven contradictions (default: .)")


def _parser(command: str) -> argparse.ArgumentParser:
    name = "daicho-verify" if command == "evidence" else f"daicho-verify {command}"
    parser = argparse.ArgumentParser(
        name, description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    if command == "policy":
        _policy_options(parser)
        return parser
    _shared(parser)
    if command == "evidence":
        parser.add_argument("--version", action="version", version=f"daicho-verify {__version__}")
        parser.add_argument("file", metavar="FILE", help="evidence file")
    elif command == "promise":
        parser.add_argument("file", metavar="FILE", help="promise note")
    else:
        parser.add_argument("log", metavar="URL|FOLDER", help="the log's prefix, or a folder with its files")
        depth = parser.add_mutually_exclusive_group()
        depth.add_argument("--sample", type=_count, metavar="N", help="check N random leaves")
        depth.add_argument("--full", action="store_true", help="check every tile (the default)")
        parser.add_argument("--entries", action="store_true", help="check the entry bundles too")
        parser.add_argument("--token-file", metavar="FILE", help="bearer token for the entry bundles")
    if command != "log":
        parser.add_argument("--log", metavar="URL|FOLDER", help="the log, to prove heads or promised leaves")
    if command != "promise":
        parser.add_argument("--rpc", metavar="URL", help="your own Ethereum node")
        parser.add_argument("--heads", metavar="DIR|FILE", help="remembered heads: read, and kept up to date")
    return parser


def _policy_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--origin", required=True, help="the log's name")
    parser.add_argument("--log-key", required=True, metavar="VKEY", help="the log's verifier key")
    parser.add_argument("--promise-key", metavar="VKEY", help="the verifier key of promises")
    parser.add_argument("--chain-id", type=int, metavar="N", help="the chain that anchors the log")
    parser.add_argument("--contract", metavar="0x…", help="the registry contract")
    parser.add_argument("--confirmations", type=int, default=1, metavar="N", help="blocks until final (default: 1)")
    parser.add_argument("--independent", action="store_true", help="the chain is not the operator's own")
    parser.add_argument("--witness", action="append", default=[], metavar="VKEY", help="a witness; repeatable")
    parser.add_argument("--quorum", type=int, default=0, metavar="K", help="witnesses asked for (default: 0)")
    parser.add_argument(
        "--require",
        action="append",
        default=[],
        choices=RINGS,
        help="a ring asked for beside entry, author, inclusion, log-signature; repeatable",
    )
    parser.add_argument("--out", metavar="FILE", help="write there instead of printing")


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError("must be a whole number from 1")
    return int(text)


def _token(path: str | None) -> str | None:
    if path is None:
        return None
    token = read_bounded(path, _MAX_TOKEN_BYTES, "--token-file").decode(errors="replace").strip()
    if not re.fullmatch(r"[!-~]+", token):
        raise MalformedError("--token-file", "must hold one token of printable ASCII characters")
    return token


class _Progress:
    """One line on a stream, redrawn at most twice a second, and once more when the work is done."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._drawn = 0.0

    def __call__(self, what: str, done: int, of: int) -> None:
        """Show that `done` of `of` are finished."""
        now = time.monotonic()
        if done == of or now - self._drawn >= _REDRAW_SECONDS:
            self._drawn = now
            self._stream.write(f"\r{what}: {done} of {of} ({100 * done // of} %)" + ("\n" if done == of else ""))
            self._stream.flush()


def _report(command: str, options: argparse.Namespace) -> Report:
    policy: Policy | None = load_policy(options.policy) if options.policy is not None else None
    if command == "promise":
        promise = parse_promise(read_bounded(options.file, MAX_PROMISE_BYTES, "promise"))
        return verify_promise(promise, policy, open_source(options.log) if options.log is not None else None)
    node = Node(options.rpc) if options.rpc is not None else None
    heads = Heads(options.heads) if options.heads is not None else None
    if command == "log":
        source = open_source(options.log, _token(options.token_file))
        depth = Depth(options.sample, options.entries)
        return verify_log(source, policy, node, heads, depth, _Progress(sys.stderr))
    evidence = parse_evidence(read_bounded(options.file, MAX_BUNDLE_BYTES, "evidence"))
    log = open_source(options.log) if options.log is not None else None
    return verify_evidence(evidence, policy, node, heads, log)


def _write_policy(options: argparse.Namespace) -> None:
    text = policy_text(
        origin=options.origin,
        log_key=options.log_key,
        promise_key=options.promise_key,
        chain_id=options.chain_id,
        contract=options.contract,
        confirmations=options.confirmations,
        independent=options.independent,
        witnesses=options.witness,
        quorum=options.quorum,
        require=options.require,
    )
    if options.out is None:
        emit(sys.stdout, text.rstrip("\n"))
    else:
        # A crash here leaves the former policy, or the new one; the command can simply be given again.
        write_atomically(Path(options.out), text.encode())


def _refuse(error: VerifierError, command: str, *, as_json: bool) -> int:
    where, rule = (error.field, error.rule) if isinstance(error, MalformedError) else ("input", str(error))
    if as_json:
        emit(sys.stdout, dump(unusable(command, where, rule)))
    else:
        emit(sys.stderr, escape(f"daicho-verify: {where}: {rule}"))
    return UNCHECKED_CODE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = words.pop(0) if words and words[0] in _COMMANDS else "evidence"
    options = _parser(command).parse_args(words)
    as_json = command != "policy" and options.json
    try:
        if command == "policy":
            _write_policy(options)
            return 0
        report = _report(command, options)
        report.save_proofs(options.save)
    except (MalformedError, UnavailableError) as error:
        return _refuse(error, command, as_json=as_json)
    emit(sys.stdout, dump(report.as_json()) if as_json else report.as_text())
    return report.exit_code
