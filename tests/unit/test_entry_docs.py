"""docs/entry.md says what the code writes: every event, every field, every message, and its snippet runs."""

import re
from pathlib import Path

import pytest

from domain.anchor import AnchorEvent
from domain.event_types import EVENT_TYPES
from domain.typed_data import PRIMARY_TYPES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "entry.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE.partition("## What the events mean")[0], re.MULTILINE))
MESSAGES = dict(re.findall(r"^\| `(\w+)` \| `(.*)` \|$", PAGE.partition("## Signatures")[2], re.MULTILINE))


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_every_event_is_described_with_all_its_fields(name: str) -> None:
    fields = set(EVENT_TYPES[name].__struct_fields__)
    if issubclass(EVENT_TYPES[name], AnchorEvent) and ROWS[name].startswith("the same"):
        fields -= set(AnchorEvent.__struct_fields__)
    words = set(re.findall(r"`(\w+)`", ROWS[name]))
    assert fields <= words


def test_no_event_is_described_that_is_not_there() -> None:
    assert {name for name in ROWS if name[0].isupper()} == set(EVENT_TYPES)


def test_every_signed_message_is_described_as_it_is_hashed() -> None:
    assert {event: primary.encoded for event, primary in PRIMARY_TYPES.items()} == MESSAGES


def test_the_snippet_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(snippet, "docs/entry.md", "exec"), {})


def test_every_decision_is_one_page_with_a_title() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert len(pages) >= 7
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text.startswith("# ")
        assert text.count("\n") < 80
    for target in re.findall(r"\]\((decisions/[^)]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists()
