"""Server-side apply and field ownership against recorded exchanges.

Each recorded answer is the live object of the next request; of updates the answer also shows the new object.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from proa.meta.codec import json as json_codec
from proa.meta.codec import yaml as yaml_codec
from proa.meta.errors import StatusError
from proa.meta.gvk import GVK, split_api_version
from proa.meta.patch import fieldset
from proa.meta.patch.apply import apply
from proa.meta.patch.managed import UPDATERS_MAX, OneVersion, track
from proa.meta.patch.shape import Shape, of_definition, of_structural
from proa.meta.patch.typed import compare
from proa.meta.schema.catalog import catalog
from proa.meta.schema.decode import decode
from tests.unit import recorded
from tests.unit.test_patch import agrees, without_server_fields
from tests.unit.test_schema import filled

NOW = "2026-02-02T00:00:00Z"
CONFIG_MAP = "io.k8s.api.core.v1.ConfigMap"


class TwoVersions:
    """Autoscalers of v1 and v2 whose fields agree, as far as the recorded ones go."""

    def shape(self, api_version: str) -> Shape | None:
        return of_definition(f"io.k8s.api.autoscaling.{api_version.rpartition('/')[2]}.HorizontalPodAutoscaler")

    def convert(self, obj: Any, api_version: str) -> Any:
        return obj | {"apiVersion": api_version}


def definition_of(obj: Any) -> str:
    kinds = {kind: name for name in catalog().names for kind in catalog()[name].kinds}
    return kinds[GVK(*split_api_version(obj["apiVersion"]), obj["kind"])]


def options(definition: str, obj: Any, subresource: str) -> dict[str, Any]:
    kind = {"kind": obj["kind"], "apiVersion": obj["apiVersion"]}
    one = OneVersion(obj["apiVersion"], of_definition(definition))
    ignored = ("spec", "metadata.labels") if subresource == "status" else ("status",)
    return {
        "empty": kind | decode(definition, {})[0],
        "api_version": obj["apiVersion"],
        "versions": TwoVersions() if "autoscaling" in definition else one,
        "now": NOW,
        "subresource": subresource,
        "ignored": fieldset.from_paths(*ignored) if subresource in ("", "status") else {},
    }


def owners(obj: Any) -> list[Any]:
    entries = obj["metadata"].get("managedFields") or []
    return sorted(([key, value] for entry in entries for key, value in [(owner(entry), entry["fieldsV1"])]), key=repr)


def owner(entry: Any) -> list[str]:
    return [entry.get(key, "") for key in ("manager", "operation", "apiVersion", "subresource")]


def steps(sequence: str) -> Iterator[tuple[Any, Any, str, str, Any, Any]]:
    """Yields (request, query, path of the object, subresource, live object, response) for writes."""
    live: dict[str, Any] = {}
    unknown: set[str] = set()
    for name, request, response in recorded.steps("apply"):
        if name != sequence:
            continue
        path, _, query = request["path"].partition("?")
        parts = path.split("/")
        subresource = parts[-1] if parts[-1] in ("status", "scale", "ephemeralcontainers") else ""
        key = path.removesuffix(f"/{subresource}") if subresource else path
        body = filled(response.get("body"))
        if subresource == "scale":
            if response["status"] < 300:
                unknown.add(key)  # the answer is a Scale: what became of the object shows in no answer
            continue
        if key in unknown:
            continue
        yield (
            request,
            dict(one.partition("=")[::2] for one in query.split("&")),
            key,
            subresource,
            live.get(key),
            response,
        )
        if response["status"] < 300 and isinstance(body, dict) and "metadata" in body:
            key = key if request["method"] != "POST" else f"{key}/{body['metadata']['name']}"
            live[key] = body


SEQUENCES = [
    "create-and-conflict", "co-ownership-and-removal", "update-and-patch-own-fields", "list-maps", "subresources",
    "client-side-apply-migration", "managers-of-other-versions", "bad-requests", "many-kinds", "status-writers",
]  # fmt: skip


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_as_recorded(sequence: str) -> None:
    checked = 0
    for request, query, _, subresource, live, response in steps(sequence):
        body, answer = request.get("body"), filled(response.get("body"))
        if "text" in request:
            body = yaml_codec.decode(request["text"].encode()) if request["text"] not in ("a: [",) else []
        kind = (request.get("headers") or {}).get("Content-Type", "")
        if response["status"] in (404, 422) or request["method"] == "GET" or "does not match" in str(answer):
            continue
        if "apply" in kind:
            checked += check_apply(request, query, body, subresource, live, response["status"], answer)
        elif response["status"] < 300 and (live is not None or request["method"] == "POST"):
            given = ((body or {}).get("metadata") or {}).get("managedFields") if isinstance(body, dict) else None
            if "json-patch" in kind and "managedFields" in str(body):
                given = [{}]
            meta = {key: value for key, value in answer["metadata"].items() if key != "managedFields"}
            new = answer | {"metadata": meta | ({"managedFields": given} if given is not None else {})}
            if request["method"] == "POST" and new["kind"] == "Pod":
                new["spec"] = {key: new["spec"][key] for key in new["spec"] if key not in ADMITTED}
                new["spec"]["containers"] = [{**one} for one in new["spec"]["containers"]]
                for one in new["spec"]["containers"]:
                    one.pop("volumeMounts", None)
            more = options(definition_of(answer), answer, subresource)
            found = track(live, new, manager=query.get("fieldManager", "replay"), **more)
            assert owners(found) == owners(answer), f"{request}"
            checked += 1
    assert checked >= 2


ADMITTED = ("volumes", "tolerations", "serviceAccount", "serviceAccountName", "priority", "preemptionPolicy")


def check_apply(request: Any, query: Any, body: Any, subresource: str, live: Any, status: int, answer: Any) -> int:
    shown = answer if answer.get("kind") != "Status" else live or (body if isinstance(body, dict) else {})
    if (
        status >= 400
        and live is None
        and "typed patch" not in answer["message"]
        and "invalid object" not in str(answer)
    ):
        return 0
    try:
        definition = definition_of(shown)
    except KeyError:
        shown, definition = {"kind": "ConfigMap", "apiVersion": "v1"}, CONFIG_MAP
    if "/configmaps/" in request["path"]:
        shown, definition = {"kind": "ConfigMap", "apiVersion": "v1"}, CONFIG_MAP
    more = options(definition, shown, subresource)
    if "autoscaling" in definition:
        version = "autoscaling/" + request["path"].split("/")[3]
        more |= {"api_version": version, "empty": more["empty"] | {"apiVersion": version}}
        live = live or next(iter(AUTOSCALERS), None)
        live = live and live | {"apiVersion": version}
    more |= {"manager": query["fieldManager"], "kind": shown["kind"], "force": query.get("force") in ("true", "banana")}
    if status >= 400:
        with pytest.raises(StatusError) as caught:
            apply(live, body, **more)
        assert caught.value.code == status, request
        causes = (caught.value.details or {}).get("causes")
        expected = (answer.get("details") or {}).get("causes")
        assert causes == expected, request
        if "typed patch" in answer["message"] or status == 409:
            assert caught.value.message == answer["message"]
        return 1
    found = apply(live, body, **more)
    if "autoscaling" in definition:
        AUTOSCALERS[:] = [answer]
    assert owners(found) == owners(answer), f"{request}"
    if "autoscaling" in definition:
        return 1
    decoded, problems = decode(definition, found)
    assert problems == []
    if not subresource and not (body or {}).get("stringData") and shown["kind"] not in ("Node", "Pod"):
        for one in (decoded, answer, live or {}):
            one.get("metadata", {}).pop("annotations", None)  # last-applied: see below
        decoded.pop("status", None)
        before = without_server_fields(live) if live else {}
        assert agrees(without_server_fields(decoded), without_server_fields(answer), before), request
    times = {tuple(owner(entry)): "time" in entry for entry in answer["metadata"].get("managedFields", ())}
    assert times == {tuple(owner(entry)): "time" in entry for entry in found["metadata"].get("managedFields", ())}
    return 1


AUTOSCALERS: list[Any] = []


# ---------------------------------------------------------------- custom resources, sets, many writers

WIDGET = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "size": {"type": "integer"},
                "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "tags": {"type": "array", "items": {"type": "string"}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "ports": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["port"],
                    "items": {"type": "object", "properties": {"port": {"type": "integer"}, "x": {"type": "string"}}},
                },
            },
        }
    },
}
KIND = {"apiVersion": "e.com/v1", "kind": "Widget"}


def widget(live: Any, spec: Any, manager: str, **more: Any) -> Any:
    versions = OneVersion("e.com/v1", of_structural(WIDGET))
    patch = KIND | {"metadata": {"name": "w"}, "spec": spec}
    more = {"empty": KIND, "kind": "Widget", "api_version": "e.com/v1", "versions": versions, "now": NOW} | more
    return apply(live, patch, manager=manager, **more)


def test_custom_resources() -> None:
    live = widget(None, {"size": 1, "set": ["a"], "ports": [{"port": 1}], "free": {"l": [1], "m": {"n": 1}}}, "one")
    (entry,) = live["metadata"]["managedFields"]
    assert entry["fieldsV1"]["f:spec"] == {
        "f:size": {},
        "f:set": {'v:"a"': {}},
        "f:ports": {'k:{"port":1}': {".": {}, "f:port": {}}},
        "f:free": {"f:l": {}, "f:m": {".": {}, "f:n": {}}},
    }
    live = widget(live, {"set": ["b"], "ports": [{"port": 2, "x": "y"}], "free": {"m": {"o": 1}}}, "two")
    assert live["spec"]["set"] == ["a", "b"]
    assert live["spec"]["ports"] == [{"port": 1}, {"port": 2, "x": "y"}]
    live = widget(live, {"size": 1}, "one")
    assert live["spec"] == {"size": 1, "set": ["b"], "ports": [{"port": 2, "x": "y"}], "free": {"m": {"o": 1}}}
    for bad, message in (({"nosuch": 1}, ".spec.nosuch: field not declared"), ({"size": "x"}, "expected numeric")):
        with pytest.raises(StatusError, match=message):
            widget(live, bad, "one")


def test_kubectl_may_take_over_its_own_fields() -> None:
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    last = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"a":"1"}}'
    meta = {"name": "c", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": last}}
    new = kind | {"metadata": meta, "data": {"a": "1", "b": "1"}}
    more = options(CONFIG_MAP, new, "")
    live = track(None, new, manager="kubectl-client-side-apply", **more)
    patch = kind | {"metadata": {"name": "c"}, "data": {"a": "2"}}
    applied = apply(live, patch, manager="kubectl", kind="ConfigMap", **more)
    annotations = applied["metadata"]["annotations"]
    assert json_codec.decode(annotations["kubectl.kubernetes.io/last-applied-configuration"].encode()) == patch
    for manager, data in (("kubectl", {"b": "2"}), ("other", {"a": "2"})):
        with pytest.raises(StatusError, match="1 conflict"):
            apply(live, patch | {"data": data}, manager=manager, kind="ConfigMap", **more)


def test_conflicts_name_every_field() -> None:
    live = widget(None, {"size": 1, "tags": ["t"], "set": ["a"]}, "one")
    with pytest.raises(StatusError) as caught:
        widget(live, {"size": 2, "tags": ["u"], "set": ["a"]}, "two")
    assert caught.value.message == 'Apply failed with 2 conflicts: conflicts with "one":\n- .spec.size\n- .spec.tags'
    forced = widget(live, {"size": 2, "tags": ["u"], "set": ["a"]}, "two", force=True)
    assert forced["spec"] == {"size": 2, "tags": ["u"], "set": ["a"]}


def test_merged_lists_keep_their_order() -> None:
    live = widget(None, {"ports": [{"port": port} for port in (1, 2, 3)]}, "one")
    live = widget(live, {"ports": [{"port": port} for port in (3, 9, 1)]}, "two")
    assert [one["port"] for one in live["spec"]["ports"]] == [2, 3, 9, 1]


def test_the_first_apply_adopts_what_is_there() -> None:
    live = KIND | {"metadata": {"name": "w", "uid": "u"}, "spec": {"size": 1}}
    applied = widget(live, {"size": 1, "set": ["a"]}, "one")
    assert [entry["manager"] for entry in applied["metadata"]["managedFields"]] == ["one", "before-first-apply"]


def test_many_updaters_are_joined() -> None:
    definition, live = CONFIG_MAP, None
    for number in range(UPDATERS_MAX + 5):
        data = {f"k{one}": "v" for one in range(number + 1)}
        new = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "uid": "u"}, "data": data}
        more = options(definition, new, "") | {"now": f"2026-02-02T00:00:{number:02d}Z"}
        live = track(live, new, manager=f"m{number}", **more)
    entries = live["metadata"]["managedFields"] if live else []
    assert len(entries) == UPDATERS_MAX
    (ancient,) = [entry for entry in entries if entry["manager"] == "ancient-changes"]
    assert len(ancient["fieldsV1"]["f:data"]) == 7


def test_an_untracked_object_stays_untracked() -> None:
    new = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}}
    more = options(CONFIG_MAP, new, "")
    assert "managedFields" not in track(new, new | {"data": {"a": "c"}}, manager="m", **more)["metadata"]
    reset = new | {"metadata": {"name": "c", "managedFields": []}}
    tracked = track(None, new, manager="m", **more)
    assert "managedFields" not in track(tracked, reset, manager="m", **more)["metadata"]


def test_sets() -> None:
    first = {"f:a": {}, "f:b": {".": {}, "f:c": {}}}
    second = {"f:b": {"f:c": {}, "f:d": {}}}
    assert fieldset.union(first, second) == {"f:a": {}, "f:b": {".": {}, "f:c": {}, "f:d": {}}}
    assert fieldset.difference(first, second) == {"f:a": {}, "f:b": {}}
    assert fieldset.difference(first, {"f:b": {}}) == {"f:a": {}, "f:b": {"f:c": {}}}
    assert fieldset.intersection(first, second) == {"f:b": {"f:c": {}}}
    assert fieldset.recursive_difference(second, {"f:b": {}}) == {}
    keyed = {"f:x": {fieldset.element_of_keys({"protocol": "TCP", "port": 1}): {}, 'v:"s"': {}}}
    assert list(fieldset.paths(keyed)) == ['.x[port=1,protocol="TCP"]', '.x[="s"]']
    assert json_codec.encode(fieldset.from_paths("a.b", "a.c")) == b'{"f:a":{"f:b":{},"f:c":{}}}'


def test_what_one_object_lacks_is_compared_as_a_whole() -> None:
    pod = {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "protocol": "TCP"}], "args": []}]}}
    added = compare(of_definition("io.k8s.api.core.v1.Pod"), {}, pod).added
    assert list(fieldset.paths(added)) == [
        ".spec",
        ".spec.containers",
        '.spec.containers[name="c"]',
        '.spec.containers[name="c"].args',
        '.spec.containers[name="c"].name',
        '.spec.containers[name="c"].ports',
        '.spec.containers[name="c"].ports[containerPort=80,protocol="TCP"]',
        '.spec.containers[name="c"].ports[containerPort=80,protocol="TCP"].containerPort',
        '.spec.containers[name="c"].ports[containerPort=80,protocol="TCP"].protocol',
    ]
