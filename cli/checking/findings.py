"""What a check finds."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not agree: in which part, at which position (0 where none applies), and how."""

    part: str
    position: int
    what: str


@dataclass(slots=True)
class Report:
    """The outcome of a check: how much was looked at, what differs, what could not be looked at."""

    pinned: int = 0
    looked_at: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    not_checked: dict[str, str] = field(default_factory=dict)

    def differs(self, part: str, position: int, what: str) -> None:
        """Note a difference."""
        self.findings.append(Finding(part, position, what))

    def count(self, part: str, number: int = 1) -> None:
        """Note that so many more things of a part were looked at."""
        self.looked_at[part] = self.looked_at.get(part, 0) + number

    @property
    def differences(self) -> list[dict[str, str | int]]:
        """The findings for machines."""
        return [{"part": f.part, "position": f.position, "what": f.what} for f in self.findings]

    @property
    def first(self) -> Finding | None:
        """The finding with the lowest position."""
        return min(self.findings, key=lambda finding: finding.position or 2**63, default=None)


Progress = Callable[[str, int, int], None]
"""Called with the part, how many are done and how many there are."""
