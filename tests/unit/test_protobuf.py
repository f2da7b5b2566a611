"""Protobuf: JSON to protobuf and back is the identity for recorded objects; hostile bytes give an error."""

from __future__ import annotations

import os
import struct
from typing import Any

import pytest

from proa.meta.codec import protobuf
from proa.meta.codec.json import Malformed
from proa.meta.codec.protobuf_messages import message
from proa.meta.codec.protobuf_wire import sized
from proa.meta.errors import StatusError
from proa.meta.gvk import GVK, split_api_version
from proa.meta.schema.catalog import catalog
from proa.meta.schema.decode import decode
from tests.unit.test_schema import answers

THEMES = ["apply", "certificates", "defaulting", "metadata", "services", "subresources", "updates", "validation"]


@pytest.fixture(scope="module")
def by_kind() -> dict[GVK, str]:
    return {kind: name for name in catalog().names for kind in catalog()[name].kinds}


@pytest.mark.parametrize("theme", THEMES)
def test_round_trip_of_recorded_objects(theme: str, by_kind: dict[GVK, str]) -> None:
    checked = 0
    for body in answers(theme):
        definition = by_kind.get(GVK(*split_api_version(body["apiVersion"]), body["kind"]))
        if definition is None:
            continue
        body = decode(definition, body)[0]
        for claim in body.get("spec", {}).get("volumeClaimTemplates") or ():
            claim.pop("kind", None), claim.pop("apiVersion", None)  # the wire has no place for them
        decoded, problems = decode(definition, protobuf.decode(protobuf.encode(body)))
        assert (decoded, problems) == (body, [])
        checked += 1
    assert checked > 5


def test_bytes_are_those_of_the_wire() -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}
    names = b"\x0a\x02v1\x12\x09ConfigMap"
    message = b"\x0a\x03\x0a\x01a" + b"\x12\x06\x0a\x01k\x12\x01v"
    expected = b"k8s\0\x0a" + bytes([len(names)]) + names + b"\x12" + bytes([len(message)]) + message + b"\x1a\0\x22\0"
    assert protobuf.encode(body) == expected
    assert protobuf.decode(expected) == body


@pytest.mark.parametrize(
    ("definition", "body"),
    [
        (
            "io.k8s.api.core.v1.Pod",
            {
                "metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": -1},
                "spec": {
                    "volumes": [{"name": "v", "hostPath": {"path": "/x", "type": ""}}, {"name": "w", "emptyDir": {}}],
                    "containers": [
                        {
                            "name": "é",
                            "resources": {"limits": {"cpu": "500m", "nvidia.com/gpu": "1"}},
                            "livenessProbe": {"httpGet": {"port": "web"}, "initialDelaySeconds": 5},
                            "readinessProbe": {"tcpSocket": {"port": 80}},
                        }
                    ],
                    "nodeSelector": {"a": "", "b": "c"},
                    "securityContext": {"supplementalGroups": [1, 2**40, -1]},
                    "enableServiceLinks": False,
                },
                "status": {},
            },
        ),
        ("io.k8s.api.core.v1.Secret", {"metadata": {}, "data": {"a": "AAEC/w==", "b": ""}}),
        ("io.k8s.api.coordination.v1.Lease", {"metadata": {}, "spec": {"renewTime": "2026-01-01T00:00:00.123456Z"}}),
        ("io.k8s.api.apps.v1.ControllerRevision", {"metadata": {}, "data": {"x": [1, {"y": None}]}, "revision": 1}),
        (
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceValidation",
            {
                "openAPIV3Schema": {
                    "$ref": "#/x",
                    "type": "object",
                    "maximum": 1.5,
                    "default": {"a": 1},
                    "enum": [1, "a", None],
                    "properties": {"a": {"items": {"type": "string"}}, "b": {"items": [{"type": "string"}, {}]}},
                    "additionalProperties": False,
                    "additionalItems": {"type": "integer"},
                    "dependencies": {"a": ["b"], "c": {"type": "string"}},
                    "x-kubernetes-preserve-unknown-fields": False,
                    "x-kubernetes-list-map-keys": ["k"],
                }
            },
        ),
        ("io.k8s.api.authentication.v1.UserInfo", {"username": "u", "extra": {"a": ["b", "c"], "d": []}}),
        ("io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration", {"metadata": {}, "webhooks": []}),
    ],
    ids=lambda value: value.rpartition(".")[2] if isinstance(value, str) else "",
)
def test_messages(definition: str, body: dict[str, Any]) -> None:
    from proa.meta.schema.build import message_name

    found = message(*message_name(definition))
    body = decode(definition, body)[0]
    assert decode(definition, found.decoded(found.encode(body)))[0] == body


def test_every_served_kind_has_a_form() -> None:
    kinds = {kind for name in catalog().names for kind in catalog()[name].kinds}
    assert [kind for kind in kinds if not protobuf.has_form(kind.api_version, kind.kind)] == []
    assert protobuf.has_form("meta.k8s.io/v1", "PartialObjectMetadata")
    assert protobuf.has_form("apps/v1", "DeleteOptions")
    assert not protobuf.has_form("example.com/v1", "Widget")
    assert not protobuf.has_form("meta.k8s.io/v1", "Table")


def test_kinds_without_a_form_are_a_406() -> None:
    with pytest.raises(StatusError) as refused:
        protobuf.encode({"kind": "Thing", "apiVersion": "example.com/v1"})
    assert refused.value.code == 406


def test_gos_zero_time_is_no_time() -> None:
    raw = b"\x0a\x05\x0a\x01a\x42\x00"  # metadata: name "a", creationTimestamp an empty message
    envelope = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12" + bytes((len(raw),)) + raw
    assert protobuf.decode(envelope)["metadata"] == {"name": "a"}


def test_watch_frames() -> None:
    obj = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}}
    frames = protobuf.encode_watch_event("ADDED", obj) + protobuf.encode_watch_event("DELETED", obj)
    (length,) = struct.unpack(">I", frames[:4])
    assert frames[4 : 4 + length].startswith(b"\x0a\x05ADDED\x12")
    assert list(protobuf.decode_watch_events(frames)) == [("ADDED", obj), ("DELETED", obj)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"{}",
        b"k8s\0",
        b"k8s\0\xff",
        b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x0c" + b"\xff" * 12,
        b"k8s\0\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"k8s\0\x0a\x05\x0a\x03abc\x12\x00",
        b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x02\x0a\x09",
        b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x02\x08\x09",
        b"k8s\0\x0b",
    ],
)
def test_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        protobuf.decode(body)


def test_random_damage_never_crashes() -> None:
    whole = protobuf.encode(
        {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "c"}]}}
    )
    for _ in range(300):
        damaged = bytearray(whole)
        for place in os.urandom(3):
            damaged[4 + place % (len(whole) - 4)] ^= 1 << (place % 8)
        try:
            assert isinstance(protobuf.decode(bytes(damaged)), dict)
        except Malformed:
            pass


def body_of(raw: bytes, kind: str = "Pod", api_version: str = "v1") -> bytes:
    """Returns a body with this message in it."""
    names = b"\x0a" + sized(api_version.encode()) + b"\x12" + sized(kind.encode())
    return b"k8s\0\x0a" + sized(names) + b"\x12" + sized(raw)


def in_spec(raw: bytes) -> bytes:
    return body_of(b"\x12" + sized(raw))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (in_spec(b"\x20\x05"), {"terminationGracePeriodSeconds": 5}),
        (in_spec(b"\x20" + b"\xff" * 9 + b"\x01"), {"terminationGracePeriodSeconds": -1}),
        (in_spec(b"\x8a\x06\x03abc" + b"\x20\x05"), {"terminationGracePeriodSeconds": 5}),  # unknown, with a length
        (in_spec(b"\x88\x06\x05" + b"\x20\x05"), {"terminationGracePeriodSeconds": 5}),  # unknown varint
        (in_spec(b"\x89\x06" + b"\0" * 8 + b"\x8d\x06" + b"\0" * 4), {}),  # unknown fixed ones
        (in_spec(b"\x8b\x06\x08\x01\x13\x1a\x02ab\x14\x8c\x06" + b"\x20\x05"), {"terminationGracePeriodSeconds": 5}),
        (
            in_spec(b"\x72" + sized(b"\x20\x01\x20\x02\x22\x03\x03\x04\x05")),
            {"securityContext": {"supplementalGroups": [1, 2, 3, 4, 5]}},
        ),
        (in_spec(b"\x72\x02\x10\x07" + b"\x72\x02\x28\x01"), {"securityContext": {"runAsUser": 7, "fsGroup": 1}}),
        (in_spec(b"\x3a\x06\x0a\x01a\x12\x01b\x3a\x03\x0a\x01c"), {"nodeSelector": {"a": "b", "c": ""}}),
        (in_spec(b"\x3a\x09\x1a\x01z\x12\x01b\x0a\x01a"), {"nodeSelector": {"a": "b"}}),
    ],
)
def test_the_wire_is_read_as_go_reads_it(body: bytes, expected: dict[str, Any]) -> None:
    found = protobuf.decode(body)["spec"]
    assert {key: found.get(key) for key in expected} == expected


@pytest.mark.parametrize(
    "raw",
    [
        b"\x22\x01a",  # a number as a text
        b"\x1d\0\0\0\0",  # a text as fixed32
        b"\x19" + b"\0" * 8,
        b"\x18\x01",  # a text as a number
        b"\x0d\0\0\0\0",  # a message as fixed32
        b"\x10\x01",  # a list of messages as a number
        b"\x38\x01",  # a map as a number
        b"\x3a\x02\x08\x01",  # a map's key as a number
        b"\x3a\x02\x10\x01",
        b"\x13\x14",  # a list of messages as a group
        b"\x14",  # a group's end alone
        b"\x8b\x06\x08\x01",  # an unknown group without end
        b"\x00\x01",  # field number 0
        b"\x07",  # wire type 7
        b"\x0e\x01",
        b"\x12\xff\xff\xff\xff\x0f",  # longer than there is
        b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x20" + b"\xff" * 11,
        b"\x20",
        b"\x20\x80",
        b"\x72\x03\x10\x80\x80",  # leads out of its message
        b"\x89\x06\0\0",
    ],
    ids=lambda raw: raw.hex(),
)
def test_wrong_wire_types_and_ends(raw: bytes) -> None:
    with pytest.raises(Malformed):
        protobuf.decode(in_spec(raw))


def test_a_body_without_type_is_of_the_expected_one() -> None:
    raw = b"\x0a\x03\x0a\x01a"
    body = b"k8s\0\x0a\x00\x12" + sized(raw)
    assert protobuf.decode(body, GVK("apps", "v1", "Deployment")) == {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": "a"},
    }
    with pytest.raises(Malformed):
        protobuf.decode(body)


def test_32_bits_are_the_lower_half() -> None:
    found = protobuf.decode(body_of(b"\x12" + sized(b"\x08\x85\x80\x80\x80\x10"), "Deployment", "apps/v1"))
    assert found["spec"]["replicas"] == 5


def test_depth_is_bounded() -> None:
    raw = b"\x0a\x01x"
    for _ in range(400):
        raw = b"\xc2\x01" + sized(b"\x0a" + sized(raw))  # items of items
    schema = b"\x0a" + sized(raw)
    version = b"\x12" + sized(b"\x3a" + sized(b"\x0a\x02v1" + b"\x22" + sized(schema)))
    with pytest.raises(Malformed):
        protobuf.decode(body_of(version, "CustomResourceDefinition", "apiextensions.k8s.io/v1"))


def test_lists_are_joined_from_their_items() -> None:
    items: list[dict[str, Any]] = [
        {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}} for name in "ab"
    ]
    metadata = {"resourceVersion": "7", "continue": "x", "remainingItemCount": 3}
    whole = {"kind": "ConfigMapList", "apiVersion": "v1", "metadata": metadata, "items": items}
    joined = protobuf.encode_list("v1", "ConfigMapList", metadata, map(protobuf.encode_message, items))
    assert joined == protobuf.encode(whole)
