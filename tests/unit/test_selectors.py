"""Selectors: what recorded answers say, and what compiled matchers do."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from proa.meta import selectors
from proa.meta.errors import StatusError
from tests.unit import recorded

OBJECTS = {
    "a": {"app": "web", "tier": "1"},
    "b": {"app": "db", "tier": "2"},
    "c": {"app": "web", "tier": "3"},
    "d": {},
    "e": {"other": ""},
}


def test_label_selectors_as_recorded() -> None:
    checked = 0
    for sequence, request, response in recorded.steps("selectors"):
        query = parse_qs(urlsplit(request["path"]).query, keep_blank_values=True)
        if sequence != "labels" or request["method"] != "GET" or "labelSelector" not in query:
            continue
        text, body = query["labelSelector"][0], response["body"]
        checked += 1
        if response["status"] == 400:
            with pytest.raises(StatusError) as caught:
                selectors.parse_labels(text)
            assert (caught.value.code, caught.value.message) == (400, body["/message"])
        else:
            expected = [body[f"/items/{index}/metadata/name"] for index in range(6)]
            parsed = selectors.parse_labels(text)
            found = [name for name, labels in OBJECTS.items() if parsed.matches(labels)]
            assert found == [name for name in expected if name], text
    assert checked > 25


def test_field_selectors_as_recorded() -> None:
    checked = 0
    for sequence, request, response in recorded.steps("selectors"):
        query = urlsplit(request["path"]).query
        if sequence != "fields" or not query.startswith("fieldSelector="):
            continue
        text = query.partition("=")[2].replace("%5C", "\\")
        message = response["body"].get("/message") or ""
        if message.startswith(("field label", '"')):
            continue
        checked += 1
        if message:
            with pytest.raises(StatusError) as caught:
                selectors.parse_fields(text)
            assert caught.value.message == message
        else:
            assert str(selectors.parse_fields(text)).replace("==", "=") == text
    assert checked > 15


@pytest.mark.parametrize(
    ("text", "matching"),
    [
        ("x in (1,,2)", ["", "1", "2"]),
        ("x in (,1)", ["", "1"]),
        ("x notin (1)", ["", "2", None]),
        ("x!=", ["1", "2", None]),
    ],
)
def test_value_sets(text: str, matching: list[str | None]) -> None:
    parsed = selectors.parse_labels(text)
    found = [value for value in ("", "1", "2", None) if parsed.matches({} if value is None else {"x": value})]
    assert found == matching


def test_objects() -> None:
    assert not selectors.from_object(None).matches({})
    assert selectors.from_object({}).matches({"a": "b"})
    selector = selectors.from_object(
        {"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["2", "3"]}]}
    )
    assert selector.matches({"a": "1"}) and not selector.matches({"a": "1", "b": "3"}) and not selector.matches({})
    assert str(selector) == "a=1,b notin (2,3)" and selector.exact("a") == "1"
    for bad in ({"operator": "Odd"}, {"operator": "In"}, {"operator": "Exists", "values": ["x"]}):
        with pytest.raises(ValueError, match=r"."):
            selectors.from_object({"matchExpressions": [{"key": "a", **bad}]})


def test_validation_names_fields() -> None:
    errors = selectors.validate_selector(
        {
            "matchLabels": {"a b": "c"},
            "matchExpressions": [
                {"key": "a", "operator": "In"},
                {"key": "a", "operator": "Exists", "values": ["x"]},
                {"key": "", "operator": "Odd"},
                {"key": "a", "operator": "In", "values": ["-"]},
            ],
        },
        "spec.selector",
    )
    assert [error.path.removeprefix("spec.selector.") for error in errors] == [
        "matchLabels",
        "matchExpressions[0].values",
        "matchExpressions[1].values",
        "matchExpressions[2].operator",
        "matchExpressions[2].key",
        "matchExpressions[2].key",
        "matchExpressions[3].values[0]",
    ]


def test_field_selector_matching() -> None:
    parsed = selectors.parse_fields(r"a=x\,y,b!=z")
    assert parsed.matches({"a": "x,y"}) and not parsed.matches({"a": "x,y", "b": "z"})
    assert parsed.exact("a") == "x,y" and parsed.exact("b") is None
    parsed.check(["a", "b"])
    with pytest.raises(StatusError, match="field label not supported: b"):
        parsed.check(["a"])
