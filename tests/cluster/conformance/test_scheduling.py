"""The scheduler on real nodes: resources, selectors, host ports, preemption, limit ranges, and the kinds of devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cluster.conformance.conftest import JSON_PATCH, STRATEGIC, Api
from tests.cluster.conformance.objects import apps, condition, core, is_ready, pod, workload
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

FOO = "scheduling.k8s.io/foo"
FAKE_CPU = "example.com/fakecpu"
CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
Obj = dict[str, Any]


def nodes(api: Api) -> list[Obj]:
    return [one for one in api.get("/api/v1/nodes").ok()["items"] if is_ready(one)]


def pinned(node: str) -> Obj:
    """Affinity to a node by its name."""
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


def asking(made: Obj, **resources: str) -> Obj:
    """Gives the pod's container requests and equal limits; `__` in a name stands for what is not part of a word."""
    named = {name.replace("__", "/").replace("_", "."): amount for name, amount in resources.items()}
    made["spec"]["containers"][0]["resources"] = {"requests": named, "limits": named}
    return made


def with_foo(made: Obj, amount: str) -> Obj:
    made["spec"]["containers"][0]["resources"] = {"requests": {FOO: amount}, "limits": {FOO: amount}}
    return made


def on_node(api: Api, namespace: str, name: str) -> str:
    return str(api.get(core(namespace, "pods", name)).ok()["spec"].get("nodeName") or "")


def is_running(api: Api, namespace: str, name: str) -> bool:
    return bool(api.get(core(namespace, "pods", name)).ok()["status"].get("phase") == "Running")


def run(api: Api, namespace: str, made: Obj) -> Obj:
    """Creates a pod and waits until it runs."""
    api.post(core(namespace, "pods"), made).ok()
    name = made["metadata"]["name"]
    eventually(lambda: is_running(api, namespace, name), what=f"{name} runs")
    return dict(api.get(core(namespace, "pods", name)).ok())


def refusal(api: Api, namespace: str, name: str) -> str:
    """Waits until the pod is told that it cannot be placed, and returns what both event and condition say."""

    def told() -> str:
        said = condition(api.get(core(namespace, "pods", name)).ok(), "PodScheduled")
        if said.get("reason") != "Unschedulable":
            return ""
        selector = f"?fieldSelector=involvedObject.name%3D{name},reason%3DFailedScheduling"
        events = api.get(core(namespace, "events") + selector).ok()["items"]
        return str(said["message"]) if any(one["message"] == said["message"] for one in events) else ""

    return eventually(told, what=f"{name} is refused")


@contextmanager
def extended(api: Api, names: list[str], resource: str, amount: str, *, allocatable: bool = True) -> Iterator[None]:
    """Gives nodes an extended resource, as upstream's tests do, and takes it away again."""
    status = {"capacity": {resource: amount}} | ({"allocatable": {resource: amount}} if allocatable else {})
    try:
        for name in names:
            api.patch(f"/api/v1/nodes/{name}/status", {"status": status}, STRATEGIC).ok()
        for name in names:

            def has(name: str = name) -> bool:
                node = api.get(f"/api/v1/nodes/{name}").ok()
                return bool(node["status"]["allocatable"].get(resource) == amount)

            eventually(has, what=f"{name} offers {resource}")
        yield
    finally:
        path = resource.replace("/", "~1")
        for name in names:
            api.patch(
                f"/api/v1/nodes/{name}/status", [{"op": "remove", "path": f"/status/capacity/{path}"}], JSON_PATCH
            )


@contextmanager
def priorities(api: Api, **values: int) -> Iterator[None]:
    try:
        for name, value in values.items():
            made = {"metadata": {"name": name.replace("_", "-")}, "value": value}
            api.post(CLASSES, {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", **made}).ok()
        yield
    finally:
        for name in values:
            api.delete(f"{CLASSES}/{name.replace('_', '-')}")


# ---------------------------------------------------------------- predicates


@pytest.mark.behaviour(
    "[sig-scheduling] SchedulerPredicates [Serial] validates resource limits of pods that are allowed to run"
)
def test_requests_beyond_what_is_left(api: Api, namespace: str) -> None:
    """Fills each node with a pod of 70 % of the free CPU; one more of 50 % fits nowhere."""
    free = {one["metadata"]["name"]: _free_cpu_milli(api, one) for one in nodes(api)}
    for name, milli in free.items():
        run(api, namespace, asking(pod(f"filler-{name}", affinity=pinned(name)), cpu=f"{milli * 7 // 10}m"))
    api.post(core(namespace, "pods"), asking(pod("additional"), cpu=f"{max(free.values()) // 2}m")).ok()
    count = len(free)
    message = refusal(api, namespace, "additional")
    assert message.startswith(f"0/{count} nodes are available: {count} Insufficient cpu. no new claims ")
    assert message.endswith(f"{count} No preemption victims found for incoming pod.")
    assert not on_node(api, namespace, "additional")


def _free_cpu_milli(api: Api, node: Obj) -> int:
    selector = (
        f"?fieldSelector=spec.nodeName%3D{node['metadata']['name']},status.phase!%3DSucceeded,status.phase!%3DFailed"
    )
    used = sum(
        _milli((container.get("resources") or {}).get("requests", {}).get("cpu", "0"))
        for one in api.get(f"/api/v1/pods{selector}").ok()["items"]
        for container in one["spec"]["containers"]
    )
    return _milli(node["status"]["allocatable"]["cpu"]) - used


def _milli(text: str) -> int:
    return int(text[:-1]) if text.endswith("m") else int(text) * 1000


@pytest.mark.behaviour(
    "[sig-scheduling] SchedulerPredicates [Serial] validates that NodeSelector is respected if not matching"
)
def test_node_selector_that_matches_nothing(api: Api, namespace: str) -> None:
    api.post(core(namespace, "pods"), pod("restricted-pod", nodeSelector={"label": "nonempty"})).ok()
    count = len(nodes(api))
    assert refusal(api, namespace, "restricted-pod") == (
        f"0/{count} nodes are available: {count} node(s) didn't match Pod's node affinity/selector. "
        "no new claims to deallocate, "
        f"preemption: 0/{count} nodes are available: {count} Preemption is not helpful for scheduling."
    )
    assert not on_node(api, namespace, "restricted-pod")


@pytest.mark.behaviour(
    "[sig-scheduling] SchedulerPredicates [Serial] validates that NodeSelector is respected if matching"
)
def test_node_selector_that_matches_a_node(api: Api, namespace: str) -> None:
    key = f"kubernetes.io/e2e-{namespace}"
    for node in (one["metadata"]["name"] for one in nodes(api)):
        api.patch(f"/api/v1/nodes/{node}", {"metadata": {"labels": {key: "42"}}}).ok()
        try:
            run(api, namespace, pod(f"with-labels-{node}", nodeSelector={key: "42"}))
            assert on_node(api, namespace, f"with-labels-{node}") == node
        finally:
            api.patch(f"/api/v1/nodes/{node}", {"metadata": {"labels": {key: None}}}).ok()


@pytest.mark.behaviour(
    "[sig-scheduling] SchedulerPredicates [Serial] validates that there exists conflict between pods with same "
    "hostPort and protocol but one using 0.0.0.0 hostIP"
)
def test_host_ports_conflict(api: Api, namespace: str) -> None:
    node = nodes(api)[0]
    address = next(one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP")

    def holding(name: str, host_ip: str, protocol: str = "TCP") -> Obj:
        made = pod(name, affinity=pinned(node["metadata"]["name"]))
        port = {"containerPort": 8080, "hostPort": 54322, "protocol": protocol, "hostIP": host_ip}
        made["spec"]["containers"][0]["ports"] = [port]
        return made

    run(api, namespace, holding("pod4", "0.0.0.0"))
    api.post(core(namespace, "pods"), holding("pod5", address)).ok()
    others = len(nodes(api)) - 1
    text = "1 node(s) didn't have free ports for the requested pod ports"
    message = refusal(api, namespace, "pod5")
    assert text in message and (not others or f"{others} node(s) didn't match Pod's node affinity/selector" in message)
    run(api, namespace, holding("other-protocol", address, "UDP"))


# ---------------------------------------------------------------- preemption


def _crowd(api: Api, namespace: str, low: str, medium: str) -> list[Obj]:
    """Runs two pods on each node that take four of its five pieces: the first of all of low priority."""
    made = []
    for node in (one["metadata"]["name"] for one in nodes(api)):
        for number in range(2):
            name = f"pod{len(made)}-{number}-{low if not made else medium}"
            wanted = pod(name, affinity=pinned(node), priorityClassName=medium if made else low)
            made.append(run(api, namespace, with_foo(wanted, "2")))
    return made


def _is_gone_or_going(api: Api, namespace: str, made: Obj) -> bool:
    found = api.get(core(namespace, "pods", made["metadata"]["name"]))
    if found.status == 404 or found.body["metadata"]["uid"] != made["metadata"]["uid"]:
        return True
    return bool(found.ok()["metadata"].get("deletionTimestamp"))


@pytest.mark.behaviour("[sig-scheduling] SchedulerPreemption [Serial] validates basic preemption works")
def test_a_pod_of_high_priority_takes_the_place_of_one_of_low(api: Api, namespace: str) -> None:
    names = [one["metadata"]["name"] for one in nodes(api)]
    levels = {
        f"{level}_{namespace.replace('-', '_')}": value
        for level, value in (("low", 1), ("medium", 100), ("high", 1000))
    }
    low, medium, high = (name.replace("_", "-") for name in levels)
    with priorities(api, **levels), extended(api, names, FOO, "5"):
        crowd = _crowd(api, namespace, low, medium)
        preemptor = pod("preemptor-pod", priorityClassName=high)
        run(api, namespace, with_foo(preemptor, "2"))
        assert _is_gone_or_going(api, namespace, crowd[0])
        assert not any(_is_gone_or_going(api, namespace, one) for one in crowd[1:])
        assert on_node(api, namespace, "preemptor-pod") == crowd[0]["spec"]["nodeName"]
        preemptor_uid = api.get(core(namespace, "pods", "preemptor-pod")).ok()["metadata"]["uid"]
        events = api.get(core(namespace, "events") + "?fieldSelector=reason%3DPreempted").ok()["items"]
        text = f"Preempted by pod {preemptor_uid} on node {crowd[0]['spec']['nodeName']}"
        assert [one["message"] for one in events] == [text]


@pytest.mark.behaviour(
    "[sig-scheduling] SchedulerPreemption [Serial] validates lower priority pod preemption by critical pod"
)
def test_a_critical_pod_takes_the_place_of_another(api: Api, namespace: str) -> None:
    names = [one["metadata"]["name"] for one in nodes(api)]
    levels = {f"{level}_{namespace.replace('-', '_')}": value for level, value in (("low", 1), ("medium", 100))}
    low, medium = (name.replace("_", "-") for name in levels)
    with priorities(api, **levels), extended(api, names, FOO, "5"):
        crowd = _crowd(api, namespace, low, medium)
        critical = pod("critical-pod", priorityClassName="system-cluster-critical")
        try:
            run(api, "kube-system", with_foo(critical, "2"))
            assert _is_gone_or_going(api, namespace, crowd[0])
            assert not any(_is_gone_or_going(api, namespace, one) for one in crowd[1:])
        finally:
            api.delete(core("kube-system", "pods", "critical-pod"))


@pytest.mark.behaviour(
    "[sig-scheduling] SchedulerPreemption [Serial] validates pod disruption condition is added to the preempted pod"
)
def test_a_preempted_pod_says_so(api: Api, namespace: str) -> None:
    node = nodes(api)[0]["metadata"]["name"]
    levels = {f"{level}_{namespace.replace('-', '_')}": value for level, value in (("low", 1), ("high", 1000))}
    low, high = (name.replace("_", "-") for name in levels)
    with priorities(api, **levels), extended(api, [node], FOO, "1"):
        victim = with_foo(pod("victim-pod", priorityClassName=low, affinity=pinned(node)), "1")
        victim["metadata"]["finalizers"] = ["example.com/test-finalizer"]
        try:
            run(api, namespace, victim)
            preemptor = pod("preemptor-pod", priorityClassName=high, affinity=pinned(node))
            api.post(core(namespace, "pods"), with_foo(preemptor, "1")).ok()

            def preempted() -> Obj:
                found = api.get(core(namespace, "pods", "victim-pod")).ok()
                return condition(found, "DisruptionTarget") if found["metadata"].get("deletionTimestamp") else {}

            said = eventually(preempted)
            assert (said["status"], said["reason"]) == ("True", "PreemptionByScheduler")
            assert said["message"] == "default-scheduler: preempting to accommodate a higher priority pod"
        finally:
            api.patch(core(namespace, "pods", "victim-pod"), {"metadata": {"finalizers": None}})
        eventually(lambda: api.get(core(namespace, "pods", "victim-pod")).status == 404)
        eventually(lambda: is_running(api, namespace, "preemptor-pod"))


@pytest.mark.behaviour(
    "[sig-scheduling] SchedulerPreemption [Serial] PreemptionExecutionPath runs ReplicaSets to verify preemption "
    "running path"
)
def test_replica_sets_of_four_priorities(api: Api, namespace: str) -> None:
    node = nodes(api)[0]
    name, hostname = node["metadata"]["name"], node["metadata"]["labels"]["kubernetes.io/hostname"]
    levels = {f"p{number}_{namespace.replace('-', '_')}": number for number in (1, 2, 3, 4)}
    classes = [one.replace("_", "-") for one in levels]

    def replica_set(number: int, cpu: str) -> Obj:
        selector = {"kubernetes.io/hostname": hostname}
        made = workload(
            "ReplicaSet", f"rs-pod{number}", 1, priorityClassName=classes[number - 1], nodeSelector=selector
        )
        container = made["spec"]["template"]["spec"]["containers"][0]
        container["resources"] = {"requests": {FAKE_CPU: cpu}, "limits": {FAKE_CPU: cpu}}
        return made

    def available(number: int) -> bool:
        status = api.get(apps(namespace, "replicasets", f"rs-pod{number}")).ok()["status"]
        return bool(status.get("availableReplicas") == 1)

    with priorities(api, **levels), extended(api, [name], FAKE_CPU, "1k"):
        begun = api.get(core(namespace, "pods")).ok()["metadata"]["resourceVersion"]
        for number, cpu in ((1, "200"), (2, "300"), (3, "450")):
            api.post(apps(namespace, "replicasets"), replica_set(number, cpu)).ok()
            eventually(lambda number=number: available(number))
        api.post(apps(namespace, "replicasets"), replica_set(4, "500")).ok()
        eventually(lambda: available(4))
        # The two least important ones have made room; their ReplicaSets have made new pods, which wait.
        seen: dict[str, set[str]] = {}
        with api.watch(core(namespace, "pods") + f"?resourceVersion={begun}") as events:
            for event in events:
                meta = event["object"]["metadata"]
                seen.setdefault(meta["labels"]["name"], set()).add(meta["name"])
                if [len(seen.get(f"rs-pod{number}", ())) for number in (1, 2, 3, 4)] == [2, 2, 1, 1]:
                    break
        assert {key: len(names) for key, names in seen.items()} == {
            "rs-pod1": 2,
            "rs-pod2": 2,
            "rs-pod3": 1,
            "rs-pod4": 1,
        }
        assert available(3)


@pytest.mark.behaviour(
    "[sig-scheduling] SchedulerPreemption [Serial] PriorityClass endpoints verify PriorityClass endpoints can be "
    "operated with different HTTP methods"
)
def test_priority_classes(api: Api, namespace: str) -> None:
    levels = {f"p{number}_{namespace.replace('-', '_')}": number for number in (1, 2)}
    with priorities(api, **levels):
        for key, value in levels.items():
            path = f"{CLASSES}/{key.replace('_', '-')}"
            live = api.get(path).ok()
            assert live["value"] == value
            for patch in ({"value": value * 10}, {"preemptionPolicy": "Never"}):
                kind = STRATEGIC if "value" in patch else JSON_PATCH
                body: Any = (
                    patch if "value" in patch else [{"op": "replace", "path": "/preemptionPolicy", "value": "Never"}]
                )
                assert api.patch(path, body, kind).failed(422, "Invalid")
            assert api.patch(path, {"description": "updated"}, STRATEGIC).ok()["description"] == "updated"
            live = api.get(path).ok()
            assert api.put(path, {**live, "value": value * 10}).failed(422, "Invalid")
            assert api.put(path, {**live, "description": "newly updated"}).ok()["description"] == "newly updated"
        listed = {one["metadata"]["name"]: one for one in api.get(CLASSES).ok()["items"]}
        for key, value in levels.items():
            found = listed[key.replace("_", "-")]
            assert found["value"] == value and found["description"] == "newly updated"


# ---------------------------------------------------------------- limit ranges

STORAGE = "ephemeral-storage"


def amounts(cpu: str, memory: str, storage: str) -> Obj:
    pairs = (("cpu", cpu), ("memory", memory), (STORAGE, storage))
    return {name: amount for name, amount in pairs if amount}


def limit_range(name: str, **labels: str) -> Obj:
    item = {
        "type": "Container",
        "min": amounts("50m", "100Mi", "100Gi"),
        "max": amounts("500m", "500Mi", "500Gi"),
        "default": amounts("500m", "500Mi", "500Gi"),
        "defaultRequest": amounts("100m", "200Mi", "200Gi"),
    }
    meta = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": meta, "spec": {"limits": [item]}}


def limited(name: str, requests: Obj, limits: Obj) -> Obj:
    made = pod(name)
    made["spec"]["containers"][0]["resources"] = {"requests": requests, "limits": limits}
    return made


@pytest.mark.behaviour(
    "[sig-scheduling] LimitRange should create a LimitRange with defaults and ensure pod has those defaults applied."
)
def test_limit_range_defaults(api: Api, namespace: str) -> None:
    collection, pods = core(namespace, "limitranges"), core(namespace, "pods")
    path = f"{collection}/limit-range"
    begun = api.get(f"{collection}?labelSelector=time%3Dt").ok()["metadata"]["resourceVersion"]
    with api.watch(f"{collection}?labelSelector=time%3Dt&resourceVersion={begun}") as events:
        made = api.post(collection, limit_range("limit-range", time="t")).ok()
        event = next(events)
        assert (event["type"], event["object"]["metadata"]["uid"]) == ("ADDED", made["metadata"]["uid"])
    assert api.get(path).ok()["spec"] == limit_range("limit-range")["spec"]

    def resources(body: Obj) -> Obj:
        api.post(pods, body).ok()
        found = api.get(f"{pods}/{body['metadata']['name']}").ok()
        return dict(found["spec"]["containers"][0]["resources"])

    assert resources(limited("pod-no-resources", {}, {})) == {
        "requests": amounts("100m", "200Mi", "200Gi"),
        "limits": amounts("500m", "500Mi", "500Gi"),
    }
    # A limit without a request is the request; the range's default request does not count then.
    assert resources(limited("pod-partial", amounts("", "150Mi", "150Gi"), amounts("300m", "", ""))) == {
        "requests": amounts("300m", "150Mi", "150Gi"),
        "limits": amounts("300m", "500Mi", "500Gi"),
    }
    small, large = amounts("10m", "50Mi", "50Gi"), amounts("600m", "600Mi", "600Gi")
    refused = api.post(pods, limited("too-small", small, {})).failed(403, "Forbidden")
    assert "minimum cpu usage per Container is 50m, but request is 10m" in refused["message"]
    refused = api.post(pods, limited("too-large", large, large)).failed(403, "Forbidden")
    assert "maximum cpu usage per Container is 500m" in refused["message"]
    changed = api.get(path).ok()
    changed["spec"]["limits"][0]["min"] = amounts("9m", "49Mi", "49Gi")
    api.put(path, changed).ok()
    assert api.get(path).ok()["spec"]["limits"][0]["min"] == amounts("9m", "49Mi", "49Gi")
    eventually(lambda: api.post(pods, limited("small", small, {})).status == 201, what="the new minimum holds")
    assert api.post(pods, limited("still-too-large", large, large)).failed(403, "Forbidden")
    api.delete(path, {"propagationPolicy": "Background"}).ok()
    eventually(lambda: api.get(path).status == 404)
    eventually(lambda: api.post(pods, limited("large", large, large)).status == 201, what="no range holds any more")


@pytest.mark.behaviour("[sig-scheduling] LimitRange should list, patch and delete a LimitRange by collection")
def test_limit_ranges_by_collection(api: Api, namespace: str) -> None:
    second = f"{namespace}-2"
    api.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": second}}).ok()
    try:
        selector = f"?labelSelector=e2e-test%3D{namespace}"
        for where in (namespace, second):
            api.post(core(where, "limitranges"), limit_range("e2e-limitrange", **{"e2e-test": namespace})).ok()
        assert len(api.get(f"/api/v1/limitranges{selector}").ok()["items"]) == 2
        path = core(namespace, "limitranges", "e2e-limitrange")
        change = {
            "metadata": {"labels": {"e2e-limitrange": "patched"}},
            "spec": {"limits": [{**limit_range("x")["spec"]["limits"][0], "min": amounts("9m", "49Mi", "49Gi")}]},
        }
        patched = api.patch(path, change, STRATEGIC).ok()
        assert patched["metadata"]["labels"]["e2e-limitrange"] == "patched"
        assert patched["spec"]["limits"][0]["min"] == amounts("9m", "49Mi", "49Gi")
        api.delete(core(namespace, "limitranges") + "?labelSelector=e2e-limitrange%3Dpatched").ok()
        eventually(lambda: api.get(path).status == 404)
        left = api.get(f"/api/v1/limitranges{selector}").ok()["items"]
        assert [one["metadata"]["namespace"] for one in left] == [second]
    finally:
        api.delete(f"/api/v1/namespaces/{second}")


# ---------------------------------------------------------------- the kinds of dynamic resource allocation


def _life(api: Api, path: str, made: Obj, change: Callable[[Obj], None], namespace: str) -> None:
    """Takes one object through every verb: create, get, list, watch, patch, update, delete, delete by collection."""
    label = f"special-label={namespace}".replace("=", "%3D")
    names = [f"{made['metadata']['name']}-{namespace}-{number}" for number in range(3)]

    def named(name: str) -> Obj:
        return {**made, "metadata": {"name": name, "labels": {"special-label": namespace}}}

    first = f"{path}/{names[0]}"
    with api.watch(f"{path}?labelSelector={label}") as events:
        created = api.post(path, named(names[0])).ok()
        assert created["metadata"]["uid"] and created["kind"] == made["kind"]
        assert next(events)["type"] == "ADDED"
        assert api.get(first).ok()["metadata"]["uid"] == created["metadata"]["uid"]
        assert [one["metadata"]["name"] for one in api.get(f"{path}?labelSelector={label}").ok()["items"]] == names[:1]
        patched = api.patch(first, {"metadata": {"annotations": {"patched": "true"}}}).ok()
        assert patched["metadata"]["annotations"]["patched"] == "true"
        assert next(events)["type"] == "MODIFIED"
        change(patched)
        updated = api.put(first, patched).ok()
        assert updated["metadata"]["resourceVersion"] != created["metadata"]["resourceVersion"]
        assert next(events)["type"] == "MODIFIED"
        assert api.put(first, patched).failed(409, "Conflict")
        api.delete(first).ok()
        assert next(events)["type"] == "DELETED"
    assert api.get(first).failed(404, "NotFound")
    for name in names[1:]:
        api.post(path, named(name)).ok()
    api.delete(f"{path}?labelSelector={label}").ok()
    eventually(lambda: not api.get(f"{path}?labelSelector={label}").ok()["items"])


def _annotated(obj: Obj) -> None:
    obj["metadata"]["annotations"]["updated"] = "true"


DEVICE_GROUP = "/apis/resource.k8s.io/v1"
REQUESTS = {"devices": {"requests": [{"name": "req-0", "exactly": {"deviceClassName": "example.com"}}]}}


def _device_kind(kind: str, spec: Obj) -> Obj:
    return {"apiVersion": "resource.k8s.io/v1", "kind": kind, "metadata": {"name": kind.lower()}, "spec": spec}


@pytest.mark.behaviour("[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 DeviceClass")
def test_device_classes(api: Api, namespace: str) -> None:
    def selecting(obj: Obj) -> None:
        obj["spec"]["selectors"] = [{"cel": {"expression": 'device.driver == "example.com"'}}]

    _life(api, f"{DEVICE_GROUP}/deviceclasses", _device_kind("DeviceClass", {}), selecting, namespace)


@pytest.mark.behaviour("[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceClaim")
def test_resource_claims(api: Api, namespace: str) -> None:
    path = f"{DEVICE_GROUP}/namespaces/{namespace}/resourceclaims"
    _life(api, path, _device_kind("ResourceClaim", REQUESTS), _annotated, namespace)
    made = api.post(path, _device_kind("ResourceClaim", REQUESTS)).ok()
    one = f"{path}/{made['metadata']['name']}"
    assert api.put(one, {**made, "spec": {"devices": {"requests": []}}}).failed(422, "Invalid")
    result = {"request": "req-0", "driver": "example.com", "pool": "worker", "device": "d0"}
    made["status"] = {"allocation": {"devices": {"results": [result]}}}
    allocated = api.put(f"{one}/status", made).ok()
    assert allocated["status"]["allocation"]["devices"]["results"] == [result]
    # No pod: the reservation of a pod that does not exist is taken away at once.
    user = {"apiGroup": "example.com", "resource": "widgets", "name": "w", "uid": "123"}
    reserved = api.patch(f"{one}/status", {"status": {"reservedFor": [user]}}).ok()
    assert reserved["status"]["reservedFor"] == [user]
    assert api.get(f"{one}/status").ok()["status"] == reserved["status"]
    emptied = api.patch(f"{one}/status", {"status": {"reservedFor": None, "allocation": None}}).ok()
    assert not emptied.get("status")
    api.delete(one).ok()
    eventually(lambda: api.get(one).status == 404)


@pytest.mark.behaviour("[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceClaimTemplate")
def test_resource_claim_templates(api: Api, namespace: str) -> None:
    path = f"{DEVICE_GROUP}/namespaces/{namespace}/resourceclaimtemplates"
    _life(api, path, _device_kind("ResourceClaimTemplate", {"spec": REQUESTS}), _annotated, namespace)


@pytest.mark.behaviour("[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceSlice")
def test_resource_slices(api: Api, namespace: str) -> None:
    def more(obj: Obj) -> None:
        obj["spec"]["pool"]["generation"] = 2
        obj["spec"]["devices"].append({"name": "d1"})

    spec = {
        "driver": "example.com",
        "nodeName": f"absent-{namespace}",
        "pool": {"name": "worker", "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "d0", "attributes": {"model": {"string": "a"}}}],
    }
    _life(api, f"{DEVICE_GROUP}/resourceslices", _device_kind("ResourceSlice", spec), more, namespace)
