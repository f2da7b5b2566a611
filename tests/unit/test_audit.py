"""Auditing: what a policy says of a request, what events show at each stage, and where they go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from proa.apiserver.app import ApiServer, Options, Surroundings, default_parts
from proa.apiserver.audit import policy as policies
from proa.apiserver.audit.logfile import FileBackend, LogFile
from proa.apiserver.audit.run import Audit, AuditOptions, open_audit
from proa.apiserver.audit.webhook import Webhook, WebhookBackend
from proa.apiserver.contracts import Attributes
from proa.client.interface import UserInfo
from proa.meta.errors import unauthorized
from proa.meta.objects import Obj
from proa.util.clock import SystemClock
from proa.wire.http import Request, Response
from proa.wire.server import serve
from tests.unit.test_apiserver import Http

BOB = UserInfo("bob", ("dev", "system:authenticated"))
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


def policy(*rules: Obj, **more: Any) -> Obj:
    return {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": list(rules), **more}


# ---------------------------------------------------------------- policies


@pytest.mark.parametrize(
    ("rule", "asked", "name", "fits"),
    [
        ({"users": ["bob"]}, {"resource": "pods"}, "", True),
        ({"users": ["eve"]}, {"resource": "pods"}, "", False),
        ({"userGroups": ["dev", "ops"]}, {"path": "/version"}, "", True),
        ({"userGroups": ["ops"]}, {"path": "/version"}, "", False),
        ({"verbs": ["get"]}, {"resource": "pods"}, "", True),
        ({"verbs": ["list"]}, {"resource": "pods"}, "", False),
        ({"namespaces": ["a"]}, {"resource": "pods", "namespace": "a"}, "", True),
        ({"namespaces": [""]}, {"resource": "nodes"}, "", True),
        ({"namespaces": ["a"]}, {"path": "/version"}, "", False),
        ({"resources": [{"group": ""}]}, {"resource": "pods"}, "", True),
        ({"resources": [{"group": "apps"}]}, {"resource": "pods"}, "", False),
        ({"resources": [{"group": "", "resources": ["pods"]}]}, {"resource": "pods", "subresource": "log"}, "", False),
        (
            {"resources": [{"group": "", "resources": ["pods/log"]}]},
            {"resource": "pods", "subresource": "log"},
            "",
            True,
        ),
        ({"resources": [{"group": "", "resources": ["pods/*"]}]}, {"resource": "pods", "subresource": "log"}, "", True),
        ({"resources": [{"group": "", "resources": ["pods/*"]}]}, {"resource": "pods"}, "", False),
        ({"resources": [{"group": "", "resources": ["*/log"]}]}, {"resource": "pods", "subresource": "log"}, "", True),
        ({"resources": [{"group": "", "resources": ["*"]}]}, {"resource": "pods", "subresource": "log"}, "", True),
        ({"resources": [{"resources": ["pods"], "resourceNames": ["x"]}]}, {"resource": "pods"}, "x", True),
        ({"resources": [{"resources": ["pods"], "resourceNames": ["x"]}]}, {"resource": "pods"}, "y", False),
        ({"nonResourceURLs": ["/healthz*"]}, {"path": "/healthz/ping"}, "", True),
        ({"nonResourceURLs": ["/healthz"]}, {"path": "/healthz/ping"}, "", False),
        ({"nonResourceURLs": ["*"]}, {"resource": "pods"}, "", False),
    ],
)
def test_rules(rule: Obj, asked: dict[str, str], name: str, fits: bool) -> None:
    made = policies.read(policy({"level": "Request", **rule}, {"level": "Metadata"}))
    outcome = made.decide(Attributes(user=BOB, verb="get", name=name, **asked))
    assert outcome.level == (policies.REQUEST if fits else policies.METADATA)


def test_what_no_rule_is_for_is_not_audited() -> None:
    made = policies.read(policy({"level": "Metadata", "users": ["eve"]}))
    assert made.decide(Attributes(user=BOB, verb="get", resource="pods")).level == policies.NONE


def test_stages_and_managed_fields_of_policy_and_rule() -> None:
    rule = {"level": "Request", "omitStages": ["Panic"], "omitManagedFields": False}
    made = policies.read(policy(rule, omitStages=["RequestReceived"], omitManagedFields=True))
    outcome = made.decide(Attributes(user=BOB, verb="get", resource="pods"))
    assert (outcome.omitted, outcome.omit_managed_fields) == ({"RequestReceived", "Panic"}, False)


@pytest.mark.parametrize(
    ("bad", "path"),
    [
        ({"kind": "Policy", "apiVersion": "audit.k8s.io/v1beta1"}, "apiVersion"),
        (policy(), "rules"),
        (policy({"level": "All"}), "rules[0].level"),
        (policy({"level": "Metadata", "omitStages": ["End"]}), "rules[0].omitStages[0]"),
        (policy({"level": "Metadata", "nonResourceURLs": ["a"]}), "rules[0].nonResourceURLs[0]"),
        (policy({"level": "Metadata", "nonResourceURLs": ["/a"], "namespaces": ["b"]}), "rules[0].nonResourceURLs"),
        (policy({"level": "Metadata", "resources": [{"resourceNames": ["b"]}]}), "rules[0].resources[0].resourceNames"),
        ("text", "kind Policy"),
    ],
)
def test_bad_policies_are_refused(bad: Any, path: str) -> None:
    with pytest.raises(ValueError) as refused:
        policies.read(bad)
    assert path in str(refused.value)


# ---------------------------------------------------------------- events


class Kept:
    """A backend that remembers."""

    name = "kept"
    dropped = 0

    def __init__(self) -> None:
        self.events: list[Obj] = []

    def put(self, event: bytes) -> None:
        self.events.append(json.loads(event))

    async def close(self) -> None:
        pass

    def of(self, uri: str) -> list[Obj]:
        return [one for one in self.events if one["requestURI"].partition("?")[0] == uri]


class Fixed:
    async def authenticate(self, request: Request) -> UserInfo:
        if request.header("user") == "nobody":
            raise unauthorized()
        return UserInfo("admin", ("system:masters", "system:authenticated"), extra={"k": ("v",)})


class Audited(Http):
    def __init__(self, server: ApiServer, kept: Kept) -> None:
        super().__init__(server)
        self.kept = kept

    def by(self, given: Obj) -> None:
        """Audits by this policy from now on."""
        self.server.http.audit = Audit(policies.read(given), [self.kept], SystemClock())
        self.kept.events.clear()


@pytest.fixture
async def http() -> AsyncIterator[Audited]:
    def parts(around: Surroundings) -> Any:
        return replace(default_parts(around), authenticator=Fixed())

    server, kept = ApiServer(Options(), make_parts=parts), Kept()
    await server.start()
    made = Audited(server, kept)
    made.by(policies.DEFAULT)
    yield made
    await server.stop()


def config_map(name: str) -> Obj:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"secret": "word"}}


async def test_metadata_of_a_create_by_default(http: Audited) -> None:
    reply = await http("POST", CONFIG_MAPS, config_map("a"), x_forwarded_for="10.0.0.1, junk", user_agent="agent/1")
    (event,) = http.kept.events
    stamps = [datetime.fromisoformat(event.pop(key)) for key in ("requestReceivedTimestamp", "stageTimestamp")]
    assert stamps[0] <= stamps[1] <= datetime.now(UTC)
    line = dict(one.split(": ", 1) for one in reply.head.decode().splitlines())
    assert event == {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": line["Audit-Id"],
        "stage": "ResponseComplete",
        "requestURI": CONFIG_MAPS,
        "verb": "create",
        "user": {"username": "admin", "groups": ["system:masters", "system:authenticated"], "extra": {"k": ["v"]}},
        "sourceIPs": ["10.0.0.1", "127.0.0.1"],
        "userAgent": "agent/1",
        "objectRef": {"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 201},
        "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""},
    }
    assert list(event)[:6] == ["kind", "apiVersion", "level", "auditID", "stage", "requestURI"]


async def test_ids_are_taken_from_the_request_or_made(http: Audited) -> None:
    await http("GET", CONFIG_MAPS, audit_id="mine")
    await http("GET", CONFIG_MAPS)
    await http("GET", CONFIG_MAPS)
    ids = [one["auditID"] for one in http.kept.events]
    assert ids[0] == "mine" and len(set(ids)) == 3


async def test_bodies_at_request_and_response_level(http: Audited) -> None:
    rules = [
        {"level": "RequestResponse", "verbs": ["create", "patch", "delete"], "omitManagedFields": True},
        {"level": "Request", "verbs": ["update", "get"]},
    ]
    http.by(policy(*rules, omitStages=["RequestReceived"]))
    made = (await http("POST", CONFIG_MAPS, config_map("a"))).body
    await http("PATCH", f"{CONFIG_MAPS}/a", {"data": {"x": "y"}}, content_type="application/merge-patch+json")
    await http("PUT", f"{CONFIG_MAPS}/a", made | {"data": {"n": "m"}})
    await http("GET", f"{CONFIG_MAPS}/a")
    await http("DELETE", f"{CONFIG_MAPS}/a", {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0})
    create, patch, update, get, delete = http.kept.events
    assert create["requestObject"]["data"] == {"secret": "word"}
    assert create["responseObject"]["metadata"]["uid"] == made["metadata"]["uid"]
    assert "managedFields" in made["metadata"] and "managedFields" not in create["responseObject"]["metadata"]
    assert patch["requestObject"] == {"data": {"x": "y"}}
    assert (update["requestObject"]["data"], "responseObject" in update) == ({"n": "m"}, False)
    assert update["objectRef"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert update["objectRef"]["uid"] == made["metadata"]["uid"]
    assert update["responseStatus"]["reason"] == "Conflict" and update["responseStatus"]["code"] == 409
    assert "requestObject" not in get
    assert delete["requestObject"]["gracePeriodSeconds"] == 0
    assert delete["responseStatus"]["status"] == "Success"


async def test_every_stage_of_a_watch(http: Audited) -> None:
    http.by(policy({"level": "Metadata", "omitStages": ["Panic"]}))
    await http("GET", f"{CONFIG_MAPS}?watch=1&timeoutSeconds=1", user_agent="w/1")
    stages = [(one["stage"], one.get("responseStatus", {}).get("code")) for one in http.kept.events]
    assert stages == [("RequestReceived", None), ("ResponseStarted", 200), ("ResponseComplete", 200)]
    assert {one["userAgent"] for one in http.kept.events} == {"w/1"}
    assert len({one["auditID"] for one in http.kept.events}) == 1


async def test_refusals_show_why(http: Audited) -> None:
    missing = await http("GET", f"{CONFIG_MAPS}/missing")
    (event,) = http.kept.events
    assert event["responseStatus"] == {"metadata": {}, **{key: missing.body[key] for key in _STATUS}}
    acting = {"impersonate_user": "eve"}
    await http("GET", CONFIG_MAPS, **acting)
    event = http.kept.events[1]
    assert (event["user"]["username"], event["impersonatedUser"]["username"]) == ("admin", "eve")
    assert event["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert event["responseStatus"]["code"] == 403
    await http("GET", CONFIG_MAPS, user="nobody")
    event = http.kept.events[2]
    assert (event["stage"], event["user"], event["responseStatus"]["code"]) == (
        "ResponseStarted",
        {"username": ""},
        401,
    )


_STATUS = ("status", "message", "reason", "details", "code")


async def test_a_fault_of_the_server_is_a_panic(http: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> Any:
        raise KeyError("oh")

    monkeypatch.setattr(http.server.api, "execute", fail)
    assert (await http("GET", CONFIG_MAPS)).status == 500
    assert [(one["stage"], one["responseStatus"]["code"]) for one in http.kept.events] == [
        ("Panic", 500),
        ("ResponseComplete", 500),
    ]
    assert http.kept.events[0]["responseStatus"]["message"].startswith("APIserver panic'd:")


async def test_who_leaves_early_is_audited_too(http: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(http.server.api, "execute", hang)
    asking = asyncio.ensure_future(http("POST", CONFIG_MAPS, config_map("a")))
    while not http.server.gate.mutating:
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    (event,) = http.kept.events
    assert event["stage"] == "ResponseComplete" and "responseStatus" not in event
    assert http.server.gate.mutating == 0


async def test_probes_are_left_out_by_default(http: Audited) -> None:
    for path in ("/healthz", "/readyz/ping", "/livez?verbose", "/metrics"):
        await http("GET", path, accept="text/plain")
    await http("GET", "/version")
    assert [one["requestURI"] for one in http.kept.events] == ["/version"]


# ---------------------------------------------------------------- backends


class Hours:
    """A clock that an hour passes on each look at it."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        self.time += timedelta(hours=1)
        return self.time

    def monotonic(self) -> float:
        return 0.0


def names_in(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


async def test_files_are_private_rotate_and_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "audit.log"
    backend = FileBackend(LogFile(path=str(path), size_max=1, backups_max=2), Hours())
    for index in range(5):
        backend.put(b"%d" % index + b"x" * (1 << 20))
        backend._flush()
    await backend.close()
    assert path.stat().st_mode & 0o777 == 0o600
    names = names_in(path.parent)
    assert names == ["audit-2026-01-01T04-00-00.000.log", "audit-2026-01-01T05-00-00.000.log", "audit.log"]
    assert [(path.parent / name).read_bytes()[:1] for name in names] == [b"2", b"3", b"4"]


async def test_files_go_with_age(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    (tmp_path / "audit-2025-12-01T00-00-00.000.log").touch()
    (tmp_path / "audit-2025-12-31T23-00-00.000.log").touch()
    (tmp_path / "audit-notes.log").touch()
    backend = FileBackend(LogFile(path=str(path), size_max=1, backups_max=0, days_max=7), Hours())
    for _ in range(2):
        backend.put(b"x" * (1 << 20))
        backend._flush()
    await backend.close()
    assert names_in(tmp_path) == [
        *("audit-2025-12-31T23-00-00.000.log", "audit-2026-01-01T02-00-00.000.log", "audit-notes.log", "audit.log"),
    ]


async def test_a_webhook_gets_batches_and_is_tried_again(tmp_path: Path) -> None:
    received: list[Obj] = []
    statuses = [503, 200, 200, 400]

    async def take(request: Request) -> Response:
        received.append({"authorization": request.header("authorization"), "path": request.target})
        received[-1] |= json.loads(await request.body.read(1 << 20))
        return Response(status=statuses[len(received) - 1])

    server = await serve(take)
    config = {
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.port}/audit?x=1"}}],
        "users": [{"name": "u", "user": {"token": "word"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "config").write_text(json.dumps(config))
    settings = Webhook(config=tmp_path / "config", batch_size_max=2, wait_seconds_max=0.01, backoff_seconds=0.01)
    backend = WebhookBackend(replace(settings, buffer_size=5))
    for index in range(6):
        backend.put(b'{"auditID":"%d"}' % index)
    async with asyncio.timeout(10):
        while not backend.dropped >= 2:
            await asyncio.sleep(0.01)
    await backend.close()
    await server.close()
    batches = [[item["auditID"] for item in one["items"]] for one in received]
    assert batches == [["0", "1"], ["0", "1"], ["2", "3"], ["4"]], "the first is tried again, the sixth had no room"
    assert {one["kind"] for one in received} == {"EventList"}
    assert {(one["authorization"], one["path"]) for one in received} == {("Bearer word", "/audit?x=1")}
    assert backend.dropped == 2


def test_without_a_place_to_go_nothing_is_audited() -> None:
    assert open_audit(AuditOptions(), SystemClock()) is None


def test_a_policy_that_cannot_be_read_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "policy").write_text("rules: [")
    options = AuditOptions(policy=tmp_path / "policy", log=LogFile(path=str(tmp_path / "log")))
    with pytest.raises(ValueError, match="cannot be read"):
        open_audit(options, SystemClock())
