"""The four ways in which a check can end otherwise than well.

VerifierError
├── MalformedError      the input cannot be used: names the field and the rule (exit code 2)
├── UnavailableError    something outside could not be read: the ring is not checked
│   ├── MissingError    it answered that it has no such thing
│   └── RefusedError    the node answered with an error of its own
├── NotCheckedError     the ring cannot be checked with what is at hand
└── DisagreesError      the ring was checked and contradicts (exit code 1); may carry a proof to be kept
"""

from collections.abc import Mapping


class VerifierError(Exception):
    """Parent of all: caught once, in the command line."""


class MalformedError(VerifierError):
    """The input breaks a format rule; `field` says where, `rule` says which."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field
        self.rule = rule


class UnavailableError(VerifierError):
    """A file, a log or a node that the user named could not be read."""


class MissingError(UnavailableError):
    """The source answers, but has no such file (HTTP 404)."""


class RefusedError(UnavailableError):
    """The JSON-RPC node answered with an error object."""


class NotCheckedError(VerifierError):
    """The ring could not be checked; the message says why in plain words."""


class DisagreesError(VerifierError):
    """The ring was checked and is false; `proof` holds both sides where they contradict each other."""

    def __init__(self, why: str, proof: Mapping[str, object] | None = None) -> None:
        super().__init__(why)
        self.proof = proof
