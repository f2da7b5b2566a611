"""Random requests against a model: a dict of config maps, and the log of what became of them, revision by revision.

Hypothesis draws sequences of writes (create, update, patch, apply, delete, with stale versions, preconditions,
finalizers, dry runs, generated names), reads (pages, selectors, the past) and watches, and after each the server must
hold what the model says. With SQLite the server is also killed and started again in between.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.hostile.raw import Endpoint, Raw, Reply, refused
from tests.support.apiserver_process import ApiServerProcess

EXAMPLES, STEPS = 8, 40
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
FINALIZER = "proa.test/held"

NAMES = st.sampled_from(["a", "b", "c"])
DATA = st.dictionaries(st.sampled_from(["x", "y", "one", "two"]), st.sampled_from(["1", "2", "é"]), max_size=3)
MANAGERS = st.sampled_from(["one", "two"])  # each applies the key of its own name
COUNTER = itertools.count()


@dataclass
class Known:
    """What the model knows of one object. `appliers` own their key by server-side apply."""

    version: str
    uid: str
    data: dict[str, str]
    held: bool = False
    deleting: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    appliers: set[str] = field(default_factory=set)


class Machine(RuleBasedStateMachine):
    """`server` and `raw` are set by the test, once for all examples."""

    server: ClassVar[ApiServerProcess]
    raw: ClassVar[Raw]
    durable: ClassVar[bool] = False

    @initialize()
    def begin(self) -> None:
        self.namespace = f"model-{next(COUNTER)}"
        assert self.raw.ask("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}}).status == 201
        self.path = f"/api/v1/namespaces/{self.namespace}/configmaps"
        self.restarted = False
        self.objects: dict[str, Known] = {}
        self.log: list[tuple[int, str, str, dict[str, str]]] = []  # revision, event, name, data
        first = int(self.raw.ask("GET", self.path).json["metadata"]["resourceVersion"])
        self.moments: list[tuple[int, dict[str, Known]]] = [(first, {})]

    # ------------------------------------------------------------ what the model does

    def noted(self, reply: Reply, event: str, name: str, known: Known) -> None:
        """Takes an acknowledged write into the model."""
        obj = reply.json
        version = obj["metadata"]["resourceVersion"]
        assert obj["metadata"]["name"] == name and obj.get("data", {}) == known.data
        if event != "ADDED" and version == self.objects[name].version:
            return  # it changed nothing
        assert int(version) > self.moments[-1][0], "revisions only grow"
        known.version, known.uid = version, obj["metadata"]["uid"]
        self.objects[name] = known
        self.remember(int(version), event, name, known.data)

    def remember(self, version: int, event: str, name: str, data: dict[str, str]) -> None:
        self.log.append((version, event, name, dict(data)))
        self.moments.append((version, copy.deepcopy(self.objects)))

    def changed(self, known: Known, data: dict[str, str]) -> Known:
        """Returns what an update with this data makes of an object: changed fields leave their appliers."""
        after = copy.deepcopy(known)
        after.data = data
        after.appliers = {one for one in known.appliers if data.get(one) == known.data.get(one) is not None}
        return after

    def gone(self, name: str) -> None:
        """Notes a deletion; its revision is the newest one."""
        version = int(self.raw.ask("GET", self.path).json["metadata"]["resourceVersion"])
        known = self.objects.pop(name)
        self.remember(version, "DELETED", name, known.data)

    # ------------------------------------------------------------ writes

    @rule(name=NAMES, data=DATA, dry=st.booleans(), held=st.booleans(), label=st.sampled_from(["", "p", "q"]))
    def create(self, name: str, data: dict[str, str], dry: bool, held: bool, label: str) -> None:
        labels = {"l": label} if label else {}
        meta = {"name": name, "labels": labels, "finalizers": [FINALIZER] if held else []}
        reply = self.raw.ask("POST", self.path + ("?dryRun=All" if dry else ""), {"metadata": meta, "data": data})
        if name in self.objects:
            refused(reply, 409)
            return
        assert reply.status == 201
        if not dry:
            self.noted(reply, "ADDED", name, Known("", "", data, held, labels=labels))

    @rule(data=DATA)
    def create_generated(self, data: dict[str, str]) -> None:
        reply = self.raw.ask("POST", self.path, {"metadata": {"generateName": "g-"}, "data": data})
        name = reply.json["metadata"]["name"]
        assert reply.status == 201 and name not in self.objects and len(name) == 7
        self.noted(reply, "ADDED", name, Known("", "", data))

    @rule(name=NAMES, data=DATA, version=st.sampled_from(["current", "none", "stale", "future"]), dry=st.booleans())
    def update(self, name: str, data: dict[str, str], version: str, dry: bool) -> None:
        known = self.objects.get(name)
        meta: dict[str, Any] = {"name": name}
        if known is not None:
            meta |= {"labels": known.labels, "finalizers": [FINALIZER] if known.held else []}
            stated = {"current": known.version, "none": "", "stale": "1", "future": str(int(known.version) + 10**6)}
            meta["resourceVersion"] = stated[version]
        path = f"{self.path}/{name}" + ("?dryRun=All" if dry else "")
        reply = self.raw.ask("PUT", path, {"metadata": meta, "data": data})
        if known is None:
            refused(reply, 404)
        elif version in ("stale", "future"):
            refused(reply, 409)
        else:
            assert reply.status == 200
            if not dry:
                self.noted(reply, "MODIFIED", name, self.changed(known, data))

    @rule(
        name=NAMES, data=st.dictionaries(st.sampled_from(["x", "one"]), st.sampled_from(["1", None, "3"]), min_size=1)
    )
    def merge(self, name: str, data: dict[str, Any]) -> None:
        reply = self.raw.ask("PATCH", f"{self.path}/{name}", {"data": data}, MERGE)
        known = self.objects.get(name)
        if known is None:
            refused(reply, 404)
            return
        after = {key: value for key, value in {**known.data, **data}.items() if value is not None}
        assert reply.status == 200
        self.noted(reply, "MODIFIED", name, self.changed(known, after))

    @rule(name=NAMES, key=st.sampled_from(["x", "y"]))
    def json_patch_that_tests(self, name: str, key: str) -> None:
        operations = [{"op": "test", "path": f"/data/{key}", "value": "1"}, {"op": "remove", "path": f"/data/{key}"}]
        reply = self.raw.ask("PATCH", f"{self.path}/{name}", operations, "application/json-patch+json")
        known = self.objects.get(name)
        if known is None:
            refused(reply, 404)
        elif known.data.get(key) != "1":
            refused(reply, 422)
        else:
            after = {one: value for one, value in known.data.items() if one != key}
            self.noted(reply, "MODIFIED", name, self.changed(known, after))

    @rule(name=NAMES, manager=MANAGERS, value=st.sampled_from(["1", "7", ""]))
    def apply(self, name: str, manager: str, value: str) -> None:
        """Applies the manager's own key, or nothing at all, which takes back what it applied."""
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        if value:
            body["data"] = {manager: value}
        path = f"{self.path}/{name}?fieldManager={manager}&force=true"
        reply = self.raw.ask("PATCH", path, body, APPLY)
        known = self.objects.get(name)
        if known is None:
            assert reply.status == 201
            applied = {manager: value} if value else {}
            self.noted(reply, "ADDED", name, Known("", "", applied, appliers={manager} if value else set()))
            return
        assert reply.status == 200, reply.body
        after = copy.deepcopy(known)
        if value:
            after.data[manager] = value
            after.appliers.add(manager)
        elif manager in after.appliers:
            after.appliers.discard(manager)
            after.data.pop(manager, None)
        if reply.json["metadata"]["resourceVersion"] == known.version:
            assert after.data == known.data
            known.appliers = after.appliers
        self.noted(reply, "MODIFIED", name, after)

    @rule(name=NAMES, how=st.sampled_from(["plain", "uid", "wrong uid", "wrong version", "dry"]))
    def delete(self, name: str, how: str) -> None:
        known = self.objects.get(name)
        options: dict[str, Any] = {}
        if how == "uid" and known is not None:
            options = {"preconditions": {"uid": known.uid, "resourceVersion": known.version}}
        elif how == "wrong uid":
            options = {"preconditions": {"uid": "other"}}
        elif how == "wrong version":
            options = {"preconditions": {"resourceVersion": "1"}}
        elif how == "dry":
            options = {"dryRun": ["All"]}
        reply = self.raw.ask("DELETE", f"{self.path}/{name}", options)
        if known is None:
            refused(reply, 404)
        elif how.startswith("wrong"):
            refused(reply, 409)
        else:
            assert reply.status == 200
            if how != "dry":
                self.deleted(name, known)

    def deleted(self, name: str, known: Known) -> None:
        if not known.held:
            self.gone(name)
            return
        obj = self.raw.ask("GET", f"{self.path}/{name}").json
        assert obj["metadata"]["deletionTimestamp"]
        if not known.deleting:
            known.deleting, known.version = True, obj["metadata"]["resourceVersion"]
            self.remember(int(known.version), "MODIFIED", name, known.data)
        assert obj["metadata"]["resourceVersion"] == known.version

    @rule(name=NAMES)
    def release(self, name: str) -> None:
        """Takes the finalizer away: what is being deleted goes with it."""
        known = self.objects.get(name)
        if known is None or not known.held:
            return
        reply = self.raw.ask("PATCH", f"{self.path}/{name}", {"metadata": {"finalizers": None}}, MERGE)
        assert reply.status == 200
        if known.deleting:
            self.gone(name)
            return
        after = copy.deepcopy(known)
        after.held = False
        self.noted(reply, "MODIFIED", name, after)

    @rule(label=st.sampled_from(["p", "q", ""]))
    def delete_collection(self, label: str) -> None:
        selector = f"?labelSelector=l%3D{label}" if label else ""
        chosen = sorted(name for name, one in self.objects.items() if not label or one.labels.get("l") == label)
        reply = self.raw.ask("DELETE", self.path + selector)
        assert reply.status == 200 and [one["metadata"]["name"] for one in reply.json["items"]] == chosen
        # Their order is the server's to choose: it is read back from a watch.
        expected = [name for name in chosen if not (self.objects[name].held and self.objects[name].deleting)]
        for event in self.events(self.moments[-1][0], len(expected)):
            name, version = event["object"]["metadata"]["name"], int(event["object"]["metadata"]["resourceVersion"])
            known = self.objects[name]
            assert event["type"] == ("MODIFIED" if known.held else "DELETED") and name in expected
            if known.held:
                known.deleting, known.version = True, str(version)
            else:
                del self.objects[name]
            self.remember(version, event["type"], name, known.data)

    # ------------------------------------------------------------ reads

    @rule(name=NAMES)
    def get(self, name: str) -> None:
        reply = self.raw.ask("GET", f"{self.path}/{name}")
        known = self.objects.get(name)
        if known is None:
            refused(reply, 404)
            return
        meta = reply.json["metadata"]
        assert (meta["resourceVersion"], meta["uid"], reply.json.get("data", {})) == (
            known.version,
            known.uid,
            known.data,
        )
        assert bool(meta.get("deletionTimestamp")) == known.deleting

    @rule(limit=st.integers(1, 3), back=st.integers(0, 6))
    def list_pages_of_a_moment(self, limit: int, back: int) -> None:
        revision, then = self.moments[max(len(self.moments) - 1 - back, 0)]
        query = f"limit={limit}&resourceVersion={revision}&resourceVersionMatch=Exact"
        shown: dict[str, str] = {}
        while query:
            reply = self.raw.ask("GET", f"{self.path}?{query}")
            assert reply.status == 200, reply.body
            page = reply.json
            assert page["metadata"]["resourceVersion"] == str(revision) and len(page["items"]) <= limit
            shown |= {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in page["items"]}
            token = page["metadata"].get("continue")
            query = f"limit={limit}&continue={token}" if token else ""
        assert shown == {name: one.version for name, one in sorted(then.items())}

    @rule(label=st.sampled_from(["p", "q"]))
    def list_selected(self, label: str) -> None:
        items = self.raw.ask("GET", f"{self.path}?labelSelector=l%3D{label}").json["items"]
        chosen = sorted(name for name, one in self.objects.items() if one.labels.get("l") == label)
        assert [one["metadata"]["name"] for one in items] == chosen

    def events(self, since: int, count: int) -> list[Any]:
        """Watches from a revision until so many events have come."""
        if not count:
            return []
        client = Raw(self.raw.endpoint)
        query = f"watch=1&timeoutSeconds=30&resourceVersion={since}"
        client.connect().sendall(f"GET {self.path}?{query} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        received = b""
        try:
            while received.partition(b"\r\n\r\n")[2].count(b"\n") < count:
                part = client.connect().recv(65536)
                assert part, (count, received[-2000:])
                received += part
        finally:
            client.close()
        return [json.loads(line) for line in received.partition(b"\r\n\r\n")[2].splitlines()[:count]]

    @rule(back=st.integers(1, 12))
    def watch_from_the_past(self, back: int) -> None:
        since = self.moments[max(len(self.moments) - 1 - back, 0)][0]
        expected = [one for one in self.log if one[0] > since]
        seen = [
            (
                int(one["object"]["metadata"]["resourceVersion"]),
                one["type"],
                one["object"]["metadata"]["name"],
                one["object"].get("data", {}),
            )
            for one in self.events(since, len(expected))
        ]
        assert seen == expected

    # ------------------------------------------------------------ the server

    @precondition(lambda self: self.durable and not self.restarted and len(self.moments) > 5)
    @rule()
    def kill_and_start_again(self) -> None:
        self.restarted = True
        self.raw.close()
        self.server.kill()
        self.server.start()

    @invariant()
    def the_server_holds_what_the_model_does(self) -> None:
        if not hasattr(self, "objects"):
            return
        items = self.raw.ask("GET", self.path).json["items"]
        shown = {one["metadata"]["name"]: (one["metadata"]["resourceVersion"], one.get("data", {})) for one in items}
        assert shown == {name: (one.version, one.data) for name, one in sorted(self.objects.items())}


@contextmanager
def serving(folder: Path, store: str) -> Iterator[ApiServerProcess]:
    server = ApiServerProcess(folder, store)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_random_requests(tmp_path: Path, store: str) -> None:
    (tmp_path / "client").mkdir()
    with serving(tmp_path, "memory" if store == "memory" else "") as server:
        Machine.server, Machine.durable = server, store == "sqlite"
        Machine.raw = Raw(Endpoint.of(server.kubeconfig, tmp_path / "client"))
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        assert "Traceback" not in server.log.read_text()
