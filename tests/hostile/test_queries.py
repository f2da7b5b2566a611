"""Selectors, versions, limits and continue tokens: malformed, tampered with, and from a fuzzer."""

from __future__ import annotations

import base64
import json
import random
import string
from typing import Any
from urllib.parse import quote

import pytest

from tests.hostile.raw import Raw, refused

SEED = 20260601
ROUNDS = 300
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
PIECES = [
    *(
        "a",
        "b",
        "metadata.name",
        "spec.nodeName",
        "app",
        "x" * 300,
        "é",
        "\x00",
        "\n",
        " ",
        "",
        "in",
        "notin",
        "exists",
    ),
    *(
        "=",
        "==",
        "!=",
        "!",
        ",",
        "(",
        ")",
        "((",
        "))",
        "<",
        ">",
        "<=",
        "\\",
        "\\,",
        "\\=",
        "'",
        '"',
        "*",
        "/",
        "//",
        ".",
    ),
    *("-1", "0", "1", "9" * 30, "1.5", "null", "true", "%", "%00", "&", "?", "#", "\ud7ff", "\U0001f600"),
]


@pytest.fixture(scope="module")
def dice() -> random.Random:
    return random.Random(SEED)


def test_selectors_from_a_fuzzer(raw: Raw, dice: random.Random) -> None:
    """Every selector is either understood or refused; the verb does not matter."""
    codes = set()
    for _ in range(ROUNDS):
        text = quote("".join(dice.choices(PIECES, k=dice.randrange(1, 9))), safe="")
        parameter = dice.choice(["labelSelector", "fieldSelector"])
        path = dice.choice(["/api/v1/pods", CONFIGMAPS, "/apis/apps/v1/deployments", "/api/v1/nodes", "/api/v1/events"])
        verb = dice.choice(["GET", "GET", "GET", "DELETE"]) if path == CONFIGMAPS else "GET"
        watch = "&watch=1&timeoutSeconds=1&resourceVersion=1" if dice.random() < 0.1 and verb == "GET" else ""
        reply = raw.ask(verb, f"{path}?{parameter}={text}{'&dryRun=All' if verb == 'DELETE' else ''}{watch}")
        codes.add(reply.status)
        if reply.status != 200:
            refused(reply, 400)
    assert codes == {200, 400}


def test_parameters_from_a_fuzzer(raw: Raw, dice: random.Random) -> None:
    names = [
        "limit",
        "continue",
        "resourceVersion",
        "resourceVersionMatch",
        "timeoutSeconds",
        "pretty",
        "dryRun",
        "watch",
    ]
    names += ["allowWatchBookmarks", "sendInitialEvents", "fieldValidation", "fieldManager", "force", "includeObject"]
    for _ in range(ROUNDS):
        chosen = dice.sample(names, dice.randrange(1, 4))
        query = "&".join(f"{name}={quote(dice.choice(PIECES), safe='')}" for name in chosen if name != "watch")
        reply = raw.ask("GET", f"{CONFIGMAPS}?{query}")
        if reply.status not in (200, 410, 504):
            refused(reply, 400, 422)
        reply = raw.ask("GET", f"{CONFIGMAPS}/nothing?{query}")
        refused(reply, 400, 404, 500, 504)  # 500: upstream's answer to a resourceVersion that is no number
        if reply.status == 500:
            assert "resourceVersion" in reply.message


def test_odd_query_strings(raw: Raw) -> None:
    for query in (
        "&&&",
        "=",
        "a",
        "%",
        "%zz=1",
        "limit=1&limit=2",
        "a=" + "b" * 50_000,
        "&" * 50_000,
        ";;",
        "a[]=1",
        "limit",
    ):
        assert raw.ask("GET", f"{CONFIGMAPS}?{query}").status in (200, 400)


@pytest.mark.parametrize(
    "text",
    [
        "a,,b",
        "=",
        "a=b=c",
        "a in b",
        "a in (",
        "a in ()x",
        "!a=b",
        "a>b",
        "-a=b",
        "a=" + "x" * 64,
        ",",
        "a in (b,c",
        "x/y/z=a",
    ],
)
def test_label_selectors(raw: Raw, text: str) -> None:
    refused(raw.ask("GET", f"{CONFIGMAPS}?labelSelector={quote(text, safe='')}"), 400)
    refused(raw.ask("DELETE", f"{CONFIGMAPS}?labelSelector={quote(text, safe='')}"), 400)
    refused(raw.ask("GET", f"{CONFIGMAPS}?watch=1&labelSelector={quote(text, safe='')}"), 400)


@pytest.mark.parametrize(
    "text",
    ["metadata.nothing=x", "spec.nodeName=x", "metadata.name", "a in (b)", "metadata.name=\\q", "data.a=b", "=x"],
)
def test_field_selectors(raw: Raw, text: str) -> None:
    refused(raw.ask("GET", f"{CONFIGMAPS}?fieldSelector={quote(text, safe='')}"), 400)
    refused(raw.ask("DELETE", f"{CONFIGMAPS}?fieldSelector={quote(text, safe='')}"), 400)


def test_a_selector_of_many_terms(raw: Raw) -> None:
    many = quote(",".join(f"k{n}!=v" for n in range(5000)), safe="")
    assert raw.ask("GET", f"{CONFIGMAPS}?labelSelector={many}").status == 200
    values = quote("a in (" + ",".join(f"v{n}" for n in range(8000)) + ")", safe="")
    assert raw.ask("GET", f"{CONFIGMAPS}?labelSelector={values}").status == 200


def token(**parts: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "!!!!",
        "e30",
        token(v="meta.k8s.io/v1"),
        token(v="meta.k8s.io/v2", rv=1, start="a"),
        token(v="meta.k8s.io/v1", rv="1", start="a"),
        token(v="meta.k8s.io/v1", rv=1.5, start="a"),
        token(v="meta.k8s.io/v1", rv=True, start="a"),
        token(v="meta.k8s.io/v1", rv=1, start=5),
        token(v="meta.k8s.io/v1", rv=1, start=""),
        token(v="meta.k8s.io/v1", rv=1, start="../secrets/x"),
        token(v="meta.k8s.io/v1", rv=1, start="../../kube-system/x\0"),
        token(v=["meta.k8s.io/v1"], rv={}, start=[]),
        base64.urlsafe_b64encode(b"[" * 5000).decode(),
        base64.urlsafe_b64encode(b'{"a":' * 5000).decode(),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        base64.urlsafe_b64encode(b"null").decode(),
        base64.urlsafe_b64encode(b"5").decode(),
        "a" * 50_000,
        "%00",
        "%ff",
    ],
    ids=lambda text: text[:30],
)
def test_continue_tokens(raw: Raw, text: str) -> None:
    refused(raw.ask("GET", f"{CONFIGMAPS}?limit=1&continue={text}"), 400)


def test_tampered_tokens_stay_within_their_list(raw: Raw, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for name in "abc":
        assert raw.ask("POST", path, {"metadata": {"name": name}}).status == 201
    first = raw.ask("GET", f"{path}?limit=1").json
    revision = int(first["metadata"]["resourceVersion"])
    good = first["metadata"]["continue"]
    assert [one["metadata"]["name"] for one in raw.ask("GET", f"{path}?continue={good}").json["items"]] == ["b", "c"]
    everywhere = {"v": "meta.k8s.io/v1", "rv": revision}
    for start in ("b\0", "a/../../secrets\0", "\0", "\uffff", "zzz", "../a", "/"):
        reply = raw.ask("GET", f"{path}?continue={token(**everywhere, start=start)}")
        if reply.status == 200:
            assert all(one["metadata"]["namespace"] == namespace for one in reply.json["items"])
        else:
            refused(reply, 400)
    refused(raw.ask("GET", f"{path}?continue={token(v='meta.k8s.io/v1', rv=10**18, start='a')}"), 400, 410, 504)
    refused(raw.ask("GET", f"{path}?continue={token(v='meta.k8s.io/v1', rv=2**70, start='a')}"), 400, 410, 504)
    assert raw.ask("GET", f"{path}?continue={token(v='meta.k8s.io/v1', rv=-1, start='a')}").status in (200, 400)
    refused(raw.ask("GET", f"{path}?continue={good}&resourceVersion={revision}"), 400)
    refused(raw.ask("GET", f"{path}?continue={good}&resourceVersionMatch=Exact&resourceVersion={revision}"), 400, 422)


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "0x10", "1e3", "9" * 30, " 1", "1 ", "+1", "١", "1_0"])
def test_resource_versions(raw: Raw, text: str) -> None:
    shown = quote(text, safe="")
    refused(raw.ask("GET", f"{CONFIGMAPS}?resourceVersion={shown}"), 400)
    refused(raw.ask("GET", f"{CONFIGMAPS}?resourceVersion={shown}&resourceVersionMatch=Exact"), 400)
    reply = raw.ask("GET", f"{CONFIGMAPS}?watch=1&timeoutSeconds=1&resourceVersion={shown}")
    assert refused(reply, 400, 500).startswith(("resourceVersion", "invalid resource version"))
    body = {"metadata": {"name": "kube-root-ca.crt", "resourceVersion": text}}
    refused(raw.ask("PUT", f"{CONFIGMAPS}/kube-root-ca.crt", body), 400, 404, 409, 500)


@pytest.mark.parametrize("text", ["x", "1.5", "0x10", "1e3", "9" * 30, "%201", "١"])
def test_limits_and_timeouts(raw: Raw, text: str) -> None:
    refused(raw.ask("GET", f"{CONFIGMAPS}?limit={quote(text, safe='%')}"), 400)
    refused(raw.ask("GET", f"{CONFIGMAPS}?timeoutSeconds={quote(text, safe='%')}"), 400)
    refused(raw.ask("GET", f"{CONFIGMAPS}?watch=1&timeoutSeconds={quote(text, safe='%')}"), 400)


def test_nothing_but_printable_text_comes_back(raw: Raw) -> None:
    """A message that repeats what was asked is JSON all the same."""
    for character in string.printable:
        reply = raw.ask("GET", f"{CONFIGMAPS}/{quote(character, safe='')}?fieldSelector={quote(character, safe='')}")
        if reply.status != 200:
            refused(reply)
