"""Bodies that no client should send: bombs, depths, numbers, bytes, duplicates, sizes, wrong types."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest

from tests.hostile.raw import Raw, Reply, refused

YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
REVISIONS = "/apis/apps/v1/namespaces/default/controllerrevisions"

BILLION_LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    "text",
    [
        BILLION_LAUGHS,
        "a: &a [*a]",
        "a: *nothing",
        "a: " + "[" * 20_000,
        "- " * 20_000 + "x",
        "a: " * 20_000,
        "!!python/object/apply:os.system ['id']",
        "!!python/name:os.system",
        "? [a]\n: b",
        "data: {a: .inf}",
        "data: {a: .nan}",
        "data: " + "9" * 100_000,
        "data: {a: 0x" + "f" * 1_000_000 + "}\nmetadata: 5",
        "a: {b: c",
        "\x00",
        "\x07: bell",
        "%YAML 9.9\n---\na: b",
        "- just\n- a list",
        "just a text",
    ],
    ids=lambda text: text[:24],
)
def test_yaml(raw: Raw, text: str) -> None:
    refused(raw.ask("POST", CONFIGMAPS, text, YAML))
    refused(raw.ask("PATCH", f"{CONFIGMAPS}/yaml?fieldManager=x", text, APPLY))


@pytest.mark.parametrize("body", [b"data: {a: \xff}", b"\xfe\xff\x00", b"kind: \xc3\x28"])
def test_yaml_that_is_no_text(raw: Raw, body: bytes) -> None:
    refused(raw.ask("POST", CONFIGMAPS, body, YAML), 400)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"metadata":{"annotations":{"a":' + "[" * 10_000 + "]" * 10_000 + "}}}",
        '{"metadata":{"name":"a"},"data":' + '{"a":' * 1_000 + "1" + "}" * 1_001,
        "9" * 100_000,
        '{"data":{"a":NaN}}',
        '{"data":{"a":Infinity}}',
        '{"data":{"a":-Infinity}}',
        '{"data":{"a":1e400}}',
        '{"data":{"a":01}}',
        '{"data":{"a":.5}}',
        '{"data":{"a":0x10}}',
        '{"data":{"a":+1}}',
        '{"data":{"a":"\x00"}}',
        '{"data":{"a":"\\x"}}',
        '{"data":{"a":"\\u12"}}',
        '{"data":{"a":tru}}',
        '{"data":{"a":1,}}',
        "{'data':{}}",
        '{"data":{}} trailing',
        '{"metadata":{"name":"a"}}{"metadata":{"name":"b"}}',
        "[]",
        "5",
        '"text"',
        '{"metadata":5}',
        '{"metadata":{"name":5}}',
        '{"metadata":{"name":{"a":"b"}}}',
        '{"metadata":{"labels":["a"]}}',
        '{"metadata":{"labels":{"a":{"b":"c"}}}}',
        '{"metadata":{"ownerReferences":{"a":1}}}',
        '{"metadata":{"ownerReferences":[5]}}',
        '{"metadata":{"ownerReferences":[{"uid":[]}]}}',
        '{"metadata":{"managedFields":"x"}}',
        '{"metadata":{"managedFields":[5]}}',
        '{"metadata":{"deletionTimestamp":"yesterday"}}',
        '{"metadata":{"creationTimestamp":5}}',
        '{"metadata":{"generation":1.5}}',
        '{"metadata":{"generation":9223372036854775808}}',
        '{"kind":5}',
        '{"apiVersion":{}}',
        '{"apiVersion":"a/b/c"}',
        '{"kind":"Pod"}',
        '{"data":{"a":5}}',
        '{"binaryData":{"a":"not base64!"}}',
        '{"immutable":"yes"}',
    ],
    ids=lambda text: text[:48],
)
def test_json(raw: Raw, text: str) -> None:
    refused(raw.ask("POST", CONFIGMAPS, text), 400, 422)


@pytest.mark.parametrize("number", ["9223372036854775808", "-9223372036854775809", "1e19", "1.5", "1e400", "9" * 5000])
def test_numbers_beyond_their_field(raw: Raw, number: str) -> None:
    text = f'{{"metadata":{{"name":"n"}},"revision":{number}}}'
    refused(raw.ask("POST", REVISIONS, text), 400)
    refused(raw.ask("POST", REVISIONS, text, YAML), 400)
    pod = '{"metadata":{"name":"n"},"spec":{"containers":[{"name":"c","image":"i"}],"activeDeadlineSeconds":%s}}'
    refused(raw.ask("POST", "/api/v1/namespaces/default/pods", pod % number), 400)


@pytest.mark.parametrize("number", ["9223372036854775807", "1e2", "1.0", "-0"])
def test_numbers_within_it(raw: Raw, namespace: str, number: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions"
    reply = raw.ask("POST", path, f'{{"metadata":{{"name":"n"}},"data":{{}},"revision":{number}}}')
    assert (reply.status, reply.json["revision"]) == (201, int(Decimal(number)))


@pytest.mark.parametrize(
    "value", ['"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', "18446744073709551616", "1e308", "-0.0"]
)
def test_odd_values_are_the_same_in_every_form(raw: Raw, namespace: str, value: str) -> None:
    """What is accepted can be read back, listed, patched and shown in every form."""
    path = f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions"
    assert raw.ask("POST", path, f'{{"metadata":{{"name":"n"}},"revision":1,"data":{{"x":{value}}}}}').status == 201
    kept = raw.ask("GET", f"{path}/n").json["data"]
    assert raw.ask("GET", path).json["items"][0]["data"] == kept
    for accept in (YAML, PROTOBUF, "application/json;as=Table;g=meta.k8s.io;v=v1"):
        assert raw.ask("GET", f"{path}/n", headers={"Accept": accept}).status == 200
    patched = raw.ask("PATCH", f"{path}/n", {"metadata": {"labels": {"a": "b"}}}, MERGE)
    assert (patched.status, patched.json["data"]) == (200, kept)


def test_what_is_nested_as_deeply_as_may_be_can_be_worked_with(raw: Raw, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions"
    depth = 190

    def body(name: str) -> str:
        data = '{"a":[' * (depth // 2) + "1" + "]}" * (depth // 2)
        identity = '"apiVersion":"apps/v1","kind":"ControllerRevision"'
        return f'{{{identity},"metadata":{{"name":"{name}"}},"revision":1,"data":{data}}}'

    assert raw.ask("POST", path, body("json")).status == 201
    assert raw.ask("POST", path, body("yaml"), YAML).status == 201
    assert raw.ask("PATCH", f"{path}/applied?fieldManager=x", body("applied"), APPLY).status == 201
    for name in ("json", "yaml", "applied"):
        for accept in ("application/json", YAML, PROTOBUF, "application/json;as=Table;g=meta.k8s.io;v=v1"):
            assert raw.ask("GET", f"{path}/{name}", headers={"Accept": accept}).status == 200
        for number, kind in enumerate(("merge", "strategic-merge")):
            label = {"metadata": {"labels": {"a": str(number)}}}
            assert raw.ask("PATCH", f"{path}/{name}", label, f"application/{kind}-patch+json").status == 200
        operation = [{"op": "add", "path": "/metadata/labels/b", "value": "c"}]
        assert raw.ask("PATCH", f"{path}/{name}", operation, "application/json-patch+json").status == 200
        assert raw.ask("PATCH", f"{path}/{name}?fieldManager=y&force=1", body(name), APPLY).status == 200
        assert raw.ask("DELETE", f"{path}/{name}").status == 200


def test_duplicate_keys(raw: Raw, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    twice = '{"metadata":{"name":"twice"},"data":{"a":"1","a":"2"},"data":{"b":"3"}}'
    assert 'duplicate field "data.a"' in refused(raw.ask("POST", f"{path}?fieldValidation=Strict", twice), 400)
    yaml = "metadata: {name: yaml}\ndata: {a: b, a: c}\n"
    assert "already set" in refused(raw.ask("POST", f"{path}?fieldValidation=Strict", yaml, YAML), 400)
    reply = raw.ask("POST", path, twice)
    assert reply.status == 201 and reply.json["data"] == {"a": "2", "b": "3"}
    assert 'duplicate field \\"data.a\\"' in reply.headers["warning"]


def test_many_problems_make_few_headers(raw: Raw, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    unknown = {"metadata": {"name": "many"}} | {f"unknown{n:05}": 1 for n in range(5000)}
    reply = raw.ask("POST", path, unknown)
    assert reply.status == 201 and len(reply.headers["warning"]) < 8192
    yaml = "a: &a {b: c}\nmetadata: {name: merged}\n" + "".join(f"d{n}: {{<<: *a}}\n" for n in range(5_000))
    assert raw.ask("POST", path, yaml, YAML).status == 201
    long = {"metadata": {"name": "long"}, "x" * 10_000: 1, "y" * 10_000: 1}
    reply = raw.ask("POST", path, long)
    assert reply.status == 201 and len(reply.headers["warning"]) < 1024


def configmap(name: str, size: int) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": {"a": "x" * size}}


def test_sizes(raw: Raw, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    assert raw.ask("POST", path, configmap("fits", (1 << 20) - 1)).status == 201
    refused(raw.ask("POST", path, configmap("large", (1 << 20) + 1)), 422)
    refused(raw.ask("POST", path, configmap("huge", 3 << 20)), 413)
    assert "x" in raw.ask("GET", f"{path}/fits").json["data"]["a"]
    revisions = f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions"
    large = {"metadata": {"name": "large"}, "revision": 1, "data": {"a": "x" * (1 << 20)}}
    assert raw.ask("POST", revisions, large).status == 201
    large["data"] = {"a": "x" * (2 << 20)}
    large["metadata"] = {"name": "larger"}
    refused(raw.ask("POST", revisions, large), 413)
    refused(raw.ask("GET", f"{revisions}/larger"), 404)


@pytest.mark.parametrize("kind", ["labels", "annotations"])
def test_huge_labels_and_annotations(raw: Raw, namespace: str, kind: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    refused(raw.ask("POST", path, {"metadata": {"name": "a", kind: {"k" * 64: "v"}}}), 422)
    refused(raw.ask("POST", path, {"metadata": {"name": "a", kind: {"-bad-": "v"}}}), 422)
    if kind == "labels":
        refused(raw.ask("POST", path, {"metadata": {"name": "a", kind: {"k": "v" * 64}}}), 422)
    else:
        refused(raw.ask("POST", path, {"metadata": {"name": "a", kind: {"k": "v" * (256 * 1024)}}}), 422)
        assert raw.ask("POST", path, {"metadata": {"name": "a", kind: {"k": "v" * (256 * 1024 - 1)}}}).status == 201


def test_a_hundred_megabytes(raw: Raw) -> None:
    head = f"POST {CONFIGMAPS} HTTP/1.1\r\nHost: x\r\nContent-Length: {100 << 20}\r\n\r\n"
    connection = raw.connect()
    connection.sendall(head.encode())
    with suppress(OSError):  # the server may have answered and closed
        for _ in range(100):
            connection.sendall(b" " * (1 << 20))
    with suppress(OSError):
        refused(raw.receive("POST"), 413)
    raw.close()


@pytest.mark.parametrize("form", ["application/json", YAML, APPLY])
def test_millions_of_parts(raw: Raw, namespace: str, form: str) -> None:
    path = f"/api/v1/namespaces/{namespace}"

    def send(kind: str, text: str) -> Reply:
        if form == APPLY:
            return raw.ask("PATCH", f"{path}/{kind}/m?fieldManager=x", text, APPLY)
        return raw.ask("POST", f"{path}/{kind}", text, form)

    configmap = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m"'
    refused(send("configmaps", configmap + ',"finalizers":[' + '"",' * 500_000 + '""]}}'), 400)
    refused(
        send("configmaps", configmap + '},"data":{' + "".join(f'"{n}":"",' for n in range(120_000)) + '"":""}}'), 400
    )
    pod = '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"m"},"spec":{"containers":['
    refused(send("pods", pod + "{}," * 500_000 + "{}]}}"), 400)
    refused(send("pods", pod + "[]," * 500_000 + "[]]}}"), 400)


def test_a_thousand_mistakes_are_told(raw: Raw, namespace: str) -> None:
    wrong = {"metadata": {"name": "m", "finalizers": [""] * 20_000}}
    reply = raw.ask("POST", f"/api/v1/namespaces/{namespace}/configmaps", wrong)
    refused(reply, 422)
    assert len(reply.json["details"]["causes"]) == 1000


@pytest.mark.parametrize(
    ("content_type", "code"),
    [
        ("text/plain", 415),
        ("application/xml", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/merge-patch+json", 415),
        ("application/cbor", 415),
        (PROTOBUF, 400),
        (YAML, 0),
        ("application/json/json", 415),
        ("*/*", 415),
        (";", 415),
        ("application/json\t; charset=utf-8", 0),
        ("APPLICATION/JSON", 0),
    ],
)
def test_content_types(raw: Raw, namespace: str, content_type: str, code: int) -> None:
    reply = raw.ask("POST", f"/api/v1/namespaces/{namespace}/configmaps", '{"metadata":\t{"name":"t"}}', content_type)
    if code:
        refused(reply, code)
    else:
        assert reply.status == 201


def test_compressed_bodies_are_refused(raw: Raw, namespace: str) -> None:
    """Upstream reads no compressed bodies either: they are no JSON."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    bomb = gzip.compress(b'{"metadata":{"name":"' + b"x" * (50 << 20) + b'"}}')
    for encoding in ("gzip", "deflate", "br", "identity, gzip"):
        refused(raw.ask("POST", path, bomb, headers={"Content-Encoding": encoding}), 400, 413, 415)
    refused(raw.ask("GET", f"{path}/x"), 404)


@pytest.mark.parametrize("verb", ["POST", "PUT", "PATCH"])
def test_an_empty_body(raw: Raw, namespace: str, verb: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps" + ("" if verb == "POST" else "/x")
    refused(raw.ask(verb, path, b"", MERGE if verb == "PATCH" else ""), 400, 404, 422)
    refused(raw.ask(verb, path, "null", MERGE if verb == "PATCH" else ""), 400, 404, 422)


@pytest.mark.parametrize(
    "options",
    [
        5,
        [],
        "text",
        {"gracePeriodSeconds": "soon"},
        {"gracePeriodSeconds": 1.5},
        {"gracePeriodSeconds": 2**63},
        {"orphanDependents": "yes"},
        {"propagationPolicy": 5},
        {"propagationPolicy": "Sideways"},
        {"propagationPolicy": "Orphan", "orphanDependents": True},
        {"preconditions": []},
        {"preconditions": {"uid": 5}},
        {"preconditions": {"resourceVersion": {}}},
        {"dryRun": "All"},
        {"dryRun": ["Some"]},
        {"dryRun": [5]},
        {"kind": "Pod", "apiVersion": "v1"},
        {"kind": 5},
        {"apiVersion": []},
        {"apiVersion": "a/b/c"},
    ],
    ids=str,
)
def test_delete_options(raw: Raw, namespace: str, options: Any) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    assert raw.ask("POST", path, {"metadata": {"name": "kept"}}).status == 201
    refused(raw.ask("DELETE", f"{path}/kept", json.dumps(options)), 400, 422)
    refused(raw.ask("DELETE", path, json.dumps(options)), 400, 422)
    assert raw.ask("GET", f"{path}/kept").status == 200
