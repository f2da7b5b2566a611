"""JSON and YAML: values, duplicate keys, hostile texts, and the gap for a resourceVersion."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proa.meta.codec import json as json_codec
from proa.meta.codec import yaml as yaml_codec
from proa.meta.codec.json import Malformed
from proa.meta.errors import StatusError
from tests.unit import recorded


@pytest.mark.parametrize(
    ("body", "value", "duplicates"),
    [
        (b'{"a": 1}', {"a": 1}, []),
        (b'{"data":{"a":"1","a":"2"},"data":{"b":"1"}}', {"data": {"a": "2", "b": "1"}}, ["data.a", "data"]),
        (b'{"a":[{"b":1,"b":2}]}', {"a": [{"b": 2}]}, ["a[0].b"]),
        (b'{"a" :"\\":"}', {"a": '":'}, []),
        (b'{"a":"\\ud800"}', {"a": "\ufffd"}, []),
        (b'{"a":"\xff"}', {"a": "\ufffd"}, []),
        (b"99999999999999999999", 99999999999999999999, []),
        (b" null ", None, []),
    ],
)
def test_json(body: bytes, value: Any, duplicates: list[str]) -> None:
    assert json_codec.parse_strictly(body) == (value, duplicates)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "unexpected end of JSON input"),
        (b"{", "unexpected end of JSON input"),
        (b'{"a":NaN}', "invalid character 'N' looking for beginning of value"),
        (b"{'a':1}", "invalid character '\\'' looking for beginning of object key string"),
        (b'{"a":1}{', "invalid character '{' after top-level value"),
        (b"[" * 11000, "invalid character '[' exceeded max depth"),
        (b'{"a":' * 11000, "invalid character '[' exceeded max depth"),
    ],
)
def test_json_refuses(body: bytes, problem: str) -> None:
    with pytest.raises(Malformed) as caught:
        json_codec.parse_strictly(body)
    assert str(caught.value) == problem
    with pytest.raises(StatusError) as status:
        json_codec.decode(body)
    assert status.value.code == 400


def test_unrecognized_bodies_are_shown_as_recorded() -> None:
    checked = 0
    for sequence, request, response in recorded.steps("negotiation"):
        message = (response.get("body") or {}).get("message", "") if isinstance(response.get("body"), dict) else ""
        headers = request.get("headers") or {}
        if sequence != "bodies" or "json parse error" not in message or "text" not in request:
            continue
        if "unrecognized" not in message or headers.get("Content-Type") != "application/json":
            continue
        if "cannot unmarshal" in message:
            continue  # JSON, only no object
        with pytest.raises(Malformed) as caught:
            json_codec.parse(request["text"].encode())
        shown = message[message.rindex("(") :]
        text = json_codec.unrecognized("ConfigMap", request["text"].encode(), caught.value).message
        assert text.endswith(shown)
        checked += 1
    assert checked >= 8


@pytest.mark.parametrize(
    "obj",
    [
        {"kind": "A", "metadata": {"name": "a", "uid": "u", "labels": {"resourceVersion": "9"}}, "data": {"x": "y"}},
        {"kind": "A", "metadata": {"resourceVersion": "1", "name": "a"}},
        {"aaa": 1, "metadata": {"labels": {}}},
        {"kind": "A"},
        {"metadata": {}},
    ],
)
def test_encode_split(obj: dict[str, Any]) -> None:
    head, tail = json_codec.encode_split(obj)
    whole = json.loads(head + b"42" + tail)
    assert whole == obj | {"metadata": (obj.get("metadata") or {}) | {"resourceVersion": "42"}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("y", True),
        ("Off", False),
        ("'y'", "y"),
        ("!!str y", "y"),
        ("1:30", "1:30"),
        ("2001-01-01", "2001-01-01"),
        ("010", 8),
        ("0x1F", 31),
        ("1_000", 1000),
        ("1e3", 1000.0),
        ("1.5", 1.5),
        ("1.2.3", "1.2.3"),
        ("~", None),
        ("!!binary aGk=", "hi"),
        ("1: a\ntrue: b", {"1": "a", "true": "b"}),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  b: 3", {"a": {"b": 1, "c": 2}, "d": {"b": 3, "c": 2}}),
        ("---\na: 1\n---\nb: 2", {"a": 1}),
        ('{"a": "\\u00e9"}', {"a": "é"}),
    ],
)
def test_yaml(text: str, value: Any) -> None:
    assert yaml_codec.decode(text.encode()) == value


def test_yaml_tells_duplicates_as_recorded() -> None:
    body = b"metadata:\n  name: yam\n  nope: 1\ndata:\n  a: b\n  a: c\n"
    value, duplicates = yaml_codec.parse_strictly(body)
    assert duplicates == ['line 6: key "a" already set in map'] and value["data"] == {"a": "c"}


def test_yaml_is_bounded() -> None:
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
    )
    for body in (bomb.encode(), b"[" * 5000, b"- " * 5000 + b"x", b"a: [", b"*x", b"a: .nan", b"\x00"):
        with pytest.raises(StatusError) as caught:
            yaml_codec.decode(body)
        assert caught.value.code == 400


@pytest.mark.parametrize(
    "value", [{"b": 1, "a": "y"}, ["1e3", "010", "", "null", "<<", "a\nb", "é", "1:30"], {"a": None, "b": [], "c": {}}]
)
def test_yaml_round_trip(value: Any) -> None:
    assert yaml_codec.decode(yaml_codec.encode(value)) == value


def test_yaml_is_quoted_as_upstream_does() -> None:
    value = {"a": "1", "t": "2026-01-01T00:00:00Z", "m": "a: b", "s": "plain text", "l": ["x\ny\n"], "e": {}, "n": ""}
    lines = ['a: "1"', "e: {}", "l:", "- |", "  x", "  y", "m: 'a: b'", '"n": ""', "s: plain text"]
    assert yaml_codec.encode(value).decode().splitlines() == [*lines, 't: "2026-01-01T00:00:00Z"']
    assert yaml_codec.encode({"message": 'configmaps "nope" not found'}) == b'message: configmaps "nope" not found\n'
