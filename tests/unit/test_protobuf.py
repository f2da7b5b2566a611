"""The protobuf form: what JSON holds comes back, and bytes from elsewhere are read."""

from __future__ import annotations

import re

import pytest

from proa.meta.codec.protobuf import MAGIC, decode, encode, encode_watch_event, has_form
from proa.meta.errors import StatusError
from proa.meta.objects import Obj
from tests.recorded import load

PLACEHOLDER = re.compile(r"<(time|microtime|nodeport)")
CONFIG = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"k": "v"}}


def test_the_envelope_is_upstreams() -> None:
    body = b"\x0a\x03\x0a\x01a\x12\x06\x0a\x01k\x12\x01v"
    type_meta = b"\x0a\x0f\x0a\x02v1\x12\x09ConfigMap"
    assert encode(CONFIG) == MAGIC + type_meta + b"\x12\x0d" + body + b"\x1a\x00\x22\x00"
    assert decode(encode(CONFIG)) == CONFIG


@pytest.mark.parametrize(
    ("spec", "comment"),
    [
        ({"ports": [{"port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 8081}]}, "int or string"),
        ({"externalIPs": [], "sessionAffinity": "None"}, "an empty list is not on the wire"),
    ],
)
def test_special_values(spec: Obj, comment: str) -> None:
    service = {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "s"}, "spec": spec}
    expected = {**service, "spec": {key: value for key, value in spec.items() if value != []}}
    assert decode(encode(service)) == expected, comment


def test_negative_numbers_and_pointers_to_zero() -> None:
    pod = {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": "p", "creationTimestamp": "2026-01-02T03:04:05Z"},
        "spec": {"priority": -5, "terminationGracePeriodSeconds": 0, "containers": [{"name": "c"}]},
    }
    assert decode(encode(pod)) == pod


def test_gos_zero_time_is_no_time() -> None:
    raw = b"\x0a\x05\x0a\x01a\x42\x00"  # metadata: name "a", creationTimestamp an empty message
    envelope = MAGIC + b"\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12" + bytes((len(raw),)) + raw
    assert decode(envelope)["metadata"] == {"name": "a"}


def test_watch_frames_carry_their_length() -> None:
    frame = encode_watch_event("ADDED", CONFIG)
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    assert encode(CONFIG) in frame


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        MAGIC,
        MAGIC + b"\x0a\xff",
        MAGIC + b"\x0a\x04\x0a\x02v1\x12\x00",
        MAGIC + b"\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x03\x0a\x7f\x00",
        MAGIC + b"\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x0c" + b"\xff" * 12,
    ],
)
def test_bad_bytes_are_a_400(body: bytes) -> None:
    with pytest.raises(StatusError) as refused:
        decode(body)
    assert refused.value.code == 400


def test_kinds_without_a_form_are_a_406() -> None:
    assert not has_form("example.com/v1", "Thing")
    with pytest.raises(StatusError) as refused:
        encode({"kind": "Thing", "apiVersion": "example.com/v1"})
    assert refused.value.code == 406


def recorded_objects() -> list[Obj]:
    """Returns every object of a built-in kind in the recorded answers of some themes."""
    found = []
    for theme in ("defaulting", "updates", "tables"):
        for sequence in load(f"exchanges/{theme}.json"):
            for step in sequence["steps"]:
                body = step["response"].get("body")
                if isinstance(body, dict) and has_form(str(body.get("apiVersion")), str(body.get("kind"))):
                    found.append(body)
    return found


def without_empty(value: object) -> object:
    """Drops what protobuf cannot tell from absent: nulls, empty lists and maps, and placeholder texts of recordings."""
    if isinstance(value, dict):
        for nested in {"volumeClaimTemplates", "items"} & value.keys():  # only JSON says what kind these are
            value = {**value, nested: [{**one, "kind": None, "apiVersion": None} for one in value[nested]]}
        kept = {key: without_empty(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in (None, [], {}) and "Timestamp" not in key}
    if isinstance(value, list):
        return [without_empty(item) for item in value]
    return value


def test_recorded_objects_survive() -> None:
    objects = [one for one in map(without_empty, recorded_objects()) if not PLACEHOLDER.search(str(one))]
    assert len(objects) > 100
    for one in objects:
        assert isinstance(one, dict)
        assert without_empty(decode(encode(one))) == one
