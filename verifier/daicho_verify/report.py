"""The answer: rings with their verdicts, one overall answer, an exit code; as text for a screen or as JSON."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from daicho_verify.errors import DisagreesError, MalformedError, NotCheckedError, UnavailableError
from daicho_verify.files import write_atomically

FORMAT = "daicho-verdict/1"
CONTRADICTION_FORMAT = "daicho-contradiction/1"
OK = "ok"
FAILED = "failed"
NOT_CHECKED = "not checked"
AGREES_CODE, DISAGREES_CODE, UNCHECKED_CODE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Ring:
    """One ring's verdict (ok, failed, not checked) with its reason in plain words."""

    number: int
    name: str
    verdict: str
    why: str
    required: bool
    proof: Mapping[str, object] | None = None


def run_ring(number: int, name: str, required: frozenset[str], check: Callable[[], str]) -> Ring:
    """Run one ring's check: what it returns is the reason of an ok, what it raises decides otherwise."""
    needed = name in required
    try:
        return Ring(number, name, OK, check(), needed)
    except DisagreesError as error:
        return Ring(number, name, FAILED, str(error), needed, error.proof)
    except (NotCheckedError, UnavailableError) as error:
        return Ring(number, name, NOT_CHECKED, str(error), needed)
    except MalformedError as error:
        # The user named something for this ring that cannot be used: that is never a mere reservation.
        return Ring(number, name, NOT_CHECKED, str(error), required=True)


@dataclass(slots=True)
class Report:
    """All rings of one run; `reservations` are the reasons for which an agreement stays qualified."""

    command: str
    subject: dict[str, object]
    rings: list[Ring]
    reservations: list[str] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 agrees (also when qualified), 1 disagrees, 2 a required ring was not checked."""
        if any(ring.verdict == FAILED for ring in self.rings):
            return DISAGREES_CODE
        if any(ring.verdict == NOT_CHECKED and ring.required for ring in self.rings):
            return UNCHECKED_CODE
        return AGREES_CODE

    @property
    def answer(self) -> str:
        """The overall answer in one word: agrees, qualified, disagrees or unchecked."""
        if self.exit_code == AGREES_CODE:
            return "qualified" if self.reservations or self._names(NOT_CHECKED) else "agrees"
        return "disagrees" if self.exit_code == DISAGREES_CODE else "unchecked"

    @property
    def sentence(self) -> str:
        """The overall answer in one sentence."""
        names = {verdict: self._names(verdict) for verdict in (FAILED, NOT_CHECKED)}
        required = ", ".join(r.name for r in self.rings if r.verdict == NOT_CHECKED and r.required)
        reserved = "; ".join(
            [*([f"not checked: {names[NOT_CHECKED]}"] if names[NOT_CHECKED] else []), *self.reservations]
        )
        return {
            "agrees": "every ring was checked and agrees",
            "qualified": f"nothing contradicts, but {reserved}",
            "disagrees": f"false: {names[FAILED]}",
            "unchecked": f"the policy asks for what could not be checked: {required}",
        }[self.answer]

    def _names(self, verdict: str) -> str:
        return ", ".join(ring.name for ring in self.rings if ring.verdict == verdict)

    def save_proofs(self, folder: str) -> None:
        """Write each proven contradiction to a file of its own, named by its content.

        The answer stands also when the disk refuses; then the place of the file says so.
        A crash here loses nothing: the next run on the same input finds the same contradiction.
        """
        for ring in self.rings:
            if ring.proof is not None:
                value = {"format": CONTRADICTION_FORMAT, "ring": ring.name, **ring.proof}
                data = (json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()
                path = Path(folder) / f"daicho-contradiction-{hashlib.sha256(data).hexdigest()[:16]}.json"
                try:
                    write_atomically(path, data)
                    self.saved.append(str(path))
                except UnavailableError as error:
                    self.saved.append(f"NOT SAVED: {error}")

    def as_json(self) -> dict[str, object]:
        """Give the machine's form."""
        return {
            "format": FORMAT,
            "command": self.command,
            "subject": self.subject,
            "answer": self.answer,
            "why": self.sentence,
            "exit": self.exit_code,
            "rings": [
                {
                    "number": ring.number,
                    "name": ring.name,
                    "verdict": ring.verdict,
                    "required": ring.required,
                    "why": ring.why,
                }
                for ring in self.rings
            ],
            "saved": self.saved,
        }

    def as_text(self) -> str:
        """Give the reader's form: one line a ring."""
        lines = [f"{self.command}: " + ", ".join(f"{key} {value}" for key, value in self.subject.items()), ""]
        for ring in self.rings:
            star = "*" if ring.required else " "
            lines.append(f"{ring.number:>2}{star} {ring.name:<14} {ring.verdict:<12} {ring.why}")
        lines += ["", f"{self.answer.upper()}: {self.sentence}", "(* = asked for by the policy)"]
        lines += [f"both sides of the contradiction are kept in {path}" for path in self.saved]
        return "\n".join(escape(line) for line in lines)


def escape(text: str) -> str:
    """Show control and invisible characters of untrusted text as escapes: a terminal must not obey them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def emit(stream: TextIO, text: str) -> None:
    """Write a line to a stream whatever its encoding; what it cannot show is escaped."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def dump(value: Mapping[str, object]) -> str:
    """Give one line of JSON that every terminal can show."""
    return json.dumps(value, ensure_ascii=True)


def unusable(command: str, where: str, rule: str) -> dict[str, object]:
    """Give the JSON answer for input that cannot be used."""
    return {
        "format": FORMAT,
        "command": command,
        "answer": "unusable",
        "exit": UNCHECKED_CODE,
        "error": {"field": where, "rule": rule},
    }


def merge_reservations(rings: Sequence[Ring], reservations: Mapping[str, str]) -> list[str]:
    """Give the reservations of the rings that are ok (a ring not checked is named anyway)."""
    return [reservations[ring.name] for ring in rings if ring.verdict == OK and ring.name in reservations]
