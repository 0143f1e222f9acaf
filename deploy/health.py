#!/usr/bin/env python3
"""Exit 0 when a process in this container answers well: `daicho-health PORT_VARIABLE PATH`."""

import http.client
import os
import sys

TIMEOUT_SECONDS = 4.0


def main() -> int:
    """Ask once; say on standard output what was wrong."""
    variable, path = sys.argv[1:]
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ[variable]), timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read(2000).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"{path}: {error}\n")
        return 1
    if answer.status != http.client.OK:
        sys.stdout.write(f"{path}: {answer.status} {text}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
