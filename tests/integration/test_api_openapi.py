"""The OpenAPI document is complete and true, and docs/api.md says the same; its blocks are run as they stand."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from api.errors import RULES, problem_name, rule_of
from api.metrics import Metrics
from api.openapi import problems_of
from domain.errors import DaichoError, Refusal, Trouble
from tests.api_support import House

DOCS = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
ABSTRACT = {"DaichoError", "Refusal", "Trouble", "Forbidden", "NotFound", "Conflict", "SignatureRefused"}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("api"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def document(house: House) -> dict[str, Any]:
    response = house.get("/openapi.json")
    assert response.status_code == 200
    assert response.json() == json.loads(json.dumps(house.app.openapi()))
    return response.json()  # type: ignore[no-any-return]


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_operation_has_a_summary_an_example_and_its_problems(document: dict[str, Any]) -> None:
    seen = set()
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["operationId"] not in seen, name
        seen.add(operation["operationId"])
        statuses = set(operation["responses"])
        success = [status for status in statuses if status.startswith("2")]
        assert len(success) == (2 if name == "POST /v1/purchases" else 1), name
        for media in operation["responses"][success[0]]["content"].values():
            assert "example" in media, name
            assert media["schema"], name
        problems = [operation["responses"][status] for status in statuses - set(success)]
        assert problems, name
        for problem in problems:
            assert problem["content"]["application/problem+json"]["examples"], name
        if "requestBody" in operation:
            assert {"415", "413", "422"} <= statuses, name
            assert all("example" in media for media in operation["requestBody"]["content"].values()), name
        if operation.get("security"):
            assert {"401", "503"} <= statuses, name
        for parameter in operation["parameters"]:
            assert parameter["description"], (name, parameter["name"])
            assert "example" in parameter or parameter["name"] == "cursor", (name, parameter["name"])


def test_every_path_that_is_served_is_documented_and_the_other_way_round(
    house: House, document: dict[str, Any]
) -> None:
    served = {re.sub(r":path}", "}", route.path) for route in house.app.routes}
    assert served == set(document["paths"])
    assert len(list(operations(document))) == len(house.app.operations)
    named = set(re.findall(r"^\| `((?:GET|POST) [^`]+)` \|", DOCS, re.MULTILINE))
    assert named == {name for name, _ in operations(document)}


def test_the_page_names_the_same_scopes_as_the_table_that_is_obeyed(house: House) -> None:
    for row in house.app.operations:
        path = row.path.replace(":path}", "}")
        line = next(line for line in DOCS.splitlines() if line.startswith(f"| `{row.method} {path}` |"))
        scopes = "everybody" if row.scopes is None else ", ".join(f"`{s}`" for s in sorted(row.scopes)) or "any token"
        assert line == f"| `{row.method} {path}` | {row.summary} | {scopes} |"


def test_every_problem_is_named_on_the_page_with_its_status() -> None:
    rows = re.findall(r"^\| ([0-9, ]+) \| [^|]+ \| (.+) \|$", DOCS, re.MULTILINE)
    page = {name: statuses for statuses, names in rows for name in re.findall(r"`([a-z-]+)`", names)}
    for kind in RULES:
        if kind.__name__ not in ABSTRACT:
            assert str(rule_of(kind).status) in page[problem_name(kind)], kind
    known = {problem_name(kind) for kind in RULES}
    assert set(page) <= known


def test_every_problem_but_the_abstract_ones_is_documented_for_some_operation(house: House) -> None:
    documented: set[type[DaichoError]] = set()
    for row in house.app.operations:
        documented |= set(problems_of(row))
    # answered beside the table: no path, no method
    elsewhere = {"NoSuchResource", "MethodNotAllowed", "BadCursor", "OperatorOnly", "NotAParty"}
    # told to the ledger's own parts alone
    elsewhere |= {"MessageNotFound", "SubscriptionNotFound", "IdentityNotFound", "PurchaseNotFound", "CaseNotFound"}
    elsewhere |= {"NothingNew", "OutcomeNotAllowed", "AskFirst", "LineTaken", "PersonNeeded", "SecondPersonNeeded"}
    missing = {kind.__name__ for kind in RULES} - {kind.__name__ for kind in documented} - elsewhere - ABSTRACT
    assert not missing
    assert all(issubclass(kind, Refusal | Trouble) for kind in documented)


def test_every_example_obeys_its_schema(document: dict[str, Any]) -> None:
    components = document["components"]

    def check(schema: Any, example: Any, name: str) -> None:
        whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "components": components}
        try:
            jsonschema_rs.validator_for(whole).validate(example)
        except jsonschema_rs.ValidationError as error:
            pytest.fail(f"{name}: {error}")

    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            for media in response["content"].values():
                for example in [media["example"]] if "example" in media else [
                    shown["value"] for shown in media["examples"].values()
                ]:  # fmt: skip
                    check(media["schema"], example, f"{name} {status}")
        for media in operation.get("requestBody", {}).get("content", {}).values():
            check(media["schema"], media["example"], f"{name} body")
        for parameter in operation["parameters"]:
            if "example" in parameter:
                check(parameter["schema"], parameter["example"], f"{name} {parameter['name']}")


def test_patterns_are_written_for_every_dialect(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    assert "\\\\A" not in text
    assert "\\\\Z" not in text


BLOCK = re.compile(r"```http\n(?P<line>[^\n]+)\n(?P<rest>.*?)→ (?P<status>\d+)\n```", re.DOTALL)


def test_the_blocks_of_the_page_work_as_they_stand(tmp_path: Path) -> None:
    house = House(tmp_path)
    known: dict[str, str] = {}
    blocks = list(BLOCK.finditer(DOCS))
    assert len(blocks) == DOCS.count("```http")
    for block in blocks:
        target, _, who = block["line"].partition("   as ")
        method, _, path = target.strip().partition(" ")
        for name, value in known.items():
            path = path.replace(f"{{{name}}}", value)
        head, _, body = block["rest"].partition("\n\n")
        headers = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
        content = body.strip().encode() or None
        response = house.request(method, path, who.strip(), key=None, headers=headers, content=content)
        assert response.status_code == int(block["status"]), (block["line"], response.text)
        if response.headers["content-type"] == "application/json" and "position" in response.json():
            known = {name: str(response.json()[name]) for name in ("id", "position")}
    house.close()


def test_the_metrics_have_no_name_twice(house: House) -> None:
    assert Metrics(house.services).registry is not house.app.state.metrics.registry
    names = re.findall(r"^# TYPE (\S+)", house.get("/metrics").text, re.MULTILINE)
    assert len(names) == len(set(names))
