"""Lists and watches under attack: odd combinations of options, the past, the future, and clients that misbehave."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.hostile.raw import Endpoint, Raw, refused

SHORT = "watch=1&timeoutSeconds=1"


def events(body: bytes) -> list[Any]:
    return [json.loads(line) for line in body.splitlines()]


@pytest.fixture
def path(raw: Raw, namespace: str) -> str:
    """Config maps a, b, c of a namespace of the test's own."""
    found = f"/api/v1/namespaces/{namespace}/configmaps"
    for name in "abc":
        assert raw.ask("POST", found, {"metadata": {"name": name, "labels": {"name": name}}}).status == 201
    return found


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("resourceVersionMatch=Exact", 422),
        ("resourceVersionMatch=NotOlderThan", 422),
        ("resourceVersionMatch=Newest&resourceVersion=1", 422),
        ("resourceVersionMatch=exact&resourceVersion=5", 422),
        ("resourceVersionMatch=Exact&resourceVersion=0", 422),
        ("resourceVersionMatch=Exact&resourceVersion=0&limit=1", 422),
        ("sendInitialEvents=true", 422),
        ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=1", 422),
        ("continue=x&resourceVersionMatch=NotOlderThan", 422),
        ("continue=x&resourceVersion=5", 400),
        ("watch=1&resourceVersionMatch=Exact&resourceVersion=1", 422),
        ("watch=1&resourceVersionMatch=NotOlderThan", 422),
        ("watch=1&sendInitialEvents=true", 422),
        ("watch=1&sendInitialEvents=true&resourceVersionMatch=Exact", 422),
        ("watch=1&sendInitialEvents=false", 422),
        ("watch=1&labelSelector=((", 400),
        ("watch=1&fieldSelector=nothing=x", 400),
    ],
)
def test_options_that_exclude_each_other(raw: Raw, path: str, query: str, code: int) -> None:
    refused(raw.ask("GET", f"{path}?{query}"), code)


def test_versions_of_a_list(raw: Raw, path: str) -> None:
    """Exact shows the past, NotOlderThan and nothing show the present, the future is refused after a while."""
    before = raw.ask("GET", path).json["metadata"]["resourceVersion"]
    assert raw.ask("DELETE", f"{path}/b").status == 200
    now = raw.ask("GET", path).json["metadata"]["resourceVersion"]
    assert int(now) > int(before)

    def names(query: str) -> list[str]:
        reply = raw.ask("GET", f"{path}?{query}")
        assert reply.status == 200, reply.body
        return [one["metadata"]["name"] for one in reply.json["items"]]

    assert names(f"resourceVersion={before}&resourceVersionMatch=Exact") == ["a", "b", "c"]
    assert names(f"resourceVersion={before}&resourceVersionMatch=Exact&limit=2") == ["a", "b"]
    assert names(f"resourceVersion={before}&resourceVersionMatch=NotOlderThan") == ["a", "c"]
    assert names(f"resourceVersion={before}&limit=2") == ["a", "b"], "a limit makes a version exact"
    assert names(f"resourceVersion={before}") == ["a", "c"]
    assert names("resourceVersion=0") == ["a", "c"]
    assert names("resourceVersion=0&resourceVersionMatch=NotOlderThan") == ["a", "c"]
    for query in ("", "&resourceVersionMatch=Exact", "&resourceVersionMatch=NotOlderThan", "&limit=1"):
        reply = raw.ask("GET", f"{path}?resourceVersion={int(now) + 10**12}{query}")
        refused(reply, 400, 504)
    reply = raw.ask("GET", f"{path}/a?resourceVersion={10**15}")
    refused(reply, 504)
    assert reply.json["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


def test_pages_show_one_moment(raw: Raw, path: str) -> None:
    page = raw.ask("GET", f"{path}?limit=1").json
    assert raw.ask("DELETE", f"{path}/b").status == 200
    assert raw.ask("POST", path, {"metadata": {"name": "b2"}}).status == 201
    seen = [one["metadata"]["name"] for one in page["items"]]
    while page["metadata"].get("continue"):
        version = page["metadata"]["resourceVersion"]
        page = raw.ask("GET", f"{path}?limit=1&continue={page['metadata']['continue']}").json
        assert page["metadata"]["resourceVersion"] == version
        seen += [one["metadata"]["name"] for one in page["items"]]
    assert seen == ["a", "b", "c"]


def test_watches_from_the_past_and_the_future(raw: Raw, path: str) -> None:
    first, *_ = raw.ask("GET", path).json["items"]
    since = int(first["metadata"]["resourceVersion"])
    assert raw.ask("DELETE", f"{path}/b").status == 200
    whole = events(raw.ask("GET", f"{path}?{SHORT}&resourceVersion={since}").body)
    assert [(one["type"], one["object"]["metadata"]["name"]) for one in whole] == [
        ("ADDED", "b"),
        ("ADDED", "c"),
        ("DELETED", "b"),
    ]
    versions = [int(one["object"]["metadata"]["resourceVersion"]) for one in whole]
    assert versions == sorted(set(versions))
    assert events(raw.ask("GET", f"{path}?{SHORT}&resourceVersion={versions[-1]}").body) == []
    selected = events(raw.ask("GET", f"{path}?{SHORT}&resourceVersion={since}&labelSelector=name%3Db").body)
    assert [one["type"] for one in selected] == ["ADDED", "DELETED"]
    refused(raw.ask("GET", f"{path}?{SHORT}&resourceVersion={10**15}"), 504)
    fresh = events(raw.ask("GET", f"{path}?{SHORT}&resourceVersion=0").body)
    assert [one["object"]["metadata"]["name"] for one in fresh] == ["a", "c"]
    initial = f"{path}?{SHORT}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    streamed = events(raw.ask("GET", initial).body)
    kinds = [one["type"] for one in streamed]
    assert kinds[:3] == ["ADDED", "ADDED", "BOOKMARK"]
    assert streamed[2]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"


@pytest.mark.parametrize("query", ["watch=true", "watch=1", "watch", "watch=yes", "watch=1&watch=0"])
def test_ways_to_ask_for_a_watch(raw: Raw, path: str, query: str) -> None:
    reply = raw.ask("GET", f"{path}?{query}&timeoutSeconds=1")
    assert [one["type"] for one in events(reply.body)] == ["ADDED"] * 3
    assert raw.ask("GET", f"{path}?watch=0").json["kind"] == "ConfigMapList"
    assert raw.ask("GET", f"{path}?watch=false").json["kind"] == "ConfigMapList"


def test_a_negative_timeout_ends_at_once(raw: Raw, path: str) -> None:
    assert raw.ask("GET", f"{path}?watch=1&timeoutSeconds=-5").status == 200


def test_watches_that_nobody_reads(raw: Raw, endpoint: Endpoint, path: str) -> None:
    """Clients that stop reading, or go away within an answer, cost others nothing."""
    silent = []
    for _ in range(20):
        client = Raw(endpoint)
        client.connect().sendall(f"GET {path}?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        silent.append(client)
    large = "x" * 200_000
    for number in range(40):
        assert raw.ask("PUT", f"{path}/a", {"metadata": {"name": "a"}, "data": {"n": f"{number}{large}"}}).status == 200
    for client in silent[:10]:
        client.close()
    assert raw.ask("PUT", f"{path}/a", {"metadata": {"name": "a"}}).status == 200
    assert raw.ask("GET", f"{path}/a").json["metadata"]["name"] == "a"
    for client in silent:
        client.close()


def test_half_requests(raw: Raw, endpoint: Endpoint) -> None:
    """Connections that say half of something, or nothing, don't keep others from being served."""
    waiting = []
    for part in (
        b"",
        b"G",
        b"GET /api HTTP/1.1\r\nHost:",
        b"POST /api/v1/namespaces HTTP/1.1\r\nContent-Length: 10\r\n\r\nx",
    ):
        for _ in range(10):
            client = Raw(endpoint)
            client.connect().sendall(part)
            waiting.append(client)
    for _ in range(20):
        assert raw.ask("GET", "/api/v1/namespaces/default").status == 200
    for client in waiting:
        client.close()
