"""Local files: bounded reading and atomic writing."""

import os
import tempfile
from pathlib import Path

from daicho_verify.errors import MalformedError, UnavailableError


def read_bounded(path: str, most_bytes: int, what: str) -> bytes:
    """Read a local file of at most `most_bytes`; raises UnavailableError or MalformedError."""
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(most_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UnavailableError(f"{what} {path} cannot be read: {error}") from None
    if len(data) > most_bytes:
        raise MalformedError(what, f"must have at most {most_bytes} bytes")
    return data


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; raises UnavailableError when the disk refuses.

    A crash here leaves the old file, or the new one, and perhaps a stray temporary file beside it that nothing reads.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).replace(path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UnavailableError(f"{path} cannot be written: {error}") from None
