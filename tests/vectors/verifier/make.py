"""Write the verifier's fixtures anew: `python -m tests.vectors.verifier.make`. A test finds out when they are stale."""

import json
import sys
import tempfile
from pathlib import Path

from tests.vectors.verifier import story
from tests.vectors.verifier.attacks import ATTACKS, HONEST, heads, policy

HERE = Path(__file__).parent


def shrunken_log() -> dict[str, bytes]:
    """A log of 20 entries, shown to somebody who has seen 28."""
    book = story.story()
    with tempfile.TemporaryDirectory() as folder:
        book.write_log(Path(folder), 20)
        files = {
            f"shrunken-log/{found.relative_to(folder)}": found.read_bytes()
            for found in sorted(Path(folder).rglob("*"))
            if found.is_file()
        }
    return files | {"heads/shrunken-log.json": heads({book.origin: book.checkpoint()})}


def fixtures() -> dict[str, bytes]:
    """Give every fixture file by its path below this folder."""
    files = {"policy.json": policy(), **shrunken_log()}
    expected = {}
    for name, make in HONEST.items():
        files[f"honest/{name}.json"] = make()
    for name, make_attack in ATTACKS.items():
        attack = make_attack()
        files[f"refused/{name}.json"] = attack.shown
        expected[name] = {"exit": attack.code, "where": attack.where, "says": attack.says}
        if attack.heads is not None:
            files[f"heads/{name}.json"] = heads(attack.heads)
    files["expected.json"] = (json.dumps(expected, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()
    return files


def main() -> None:
    """Write them."""
    for name, data in fixtures().items():
        target = HERE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    sys.stdout.write(f"{len(fixtures())} files\n")


if __name__ == "__main__":
    main()
