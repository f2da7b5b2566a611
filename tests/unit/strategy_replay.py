"""Replays recorded writes through the strategies alone: default, prepare, validate; no server, no store.

A step passes if the strategy comes to upstream's status code, causes (reason and field) and object. Steps that depend
on more than a strategy (decoding errors, admission, conflicts) are left out, and counted as such by the tests.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from proa.apis.all import BY_GVR
from proa.apis.apiextensions.custom_resources import CustomResourceStrategy, resources_of
from proa.apis.apiextensions.naming import TakenNames, established_status, is_served, names_status
from proa.apis.core.service_allocation import Plan, plan
from proa.apis.registry import Requestor, ResourceDef
from proa.meta import metadata
from proa.meta.errors import FieldError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, copy_object
from proa.meta.schema.decode import decode
from tests.recorded import load

_UID = "00000000-0000-4000-8000-"
POOLS = (GVR("", "", "pools"), "", "")
NOW = "2020-01-01T00:00:00Z"
REQUESTOR = Requestor("rq-u0", "9", ("system:masters", "g", "system:authenticated"), {"k": ("v",)})
SERVER_OWNED = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "namespace", "selfLink")


@dataclass
class Outcome:
    """`problem` is empty if the strategy did as upstream; `replayed` false if the step is beyond strategies."""

    name: str
    problem: str
    replayed: bool = True


def replay(theme: str, groups: set[str]) -> Iterator[Outcome]:
    """Yields an outcome for each write to a resource of the groups."""
    for sequence in load(f"exchanges/{theme}.json"):
        stored: dict[tuple[GVR, str, str], Obj] = {}
        custom: dict[GVR, ResourceDef] = {}
        for number, recorded in enumerate(sequence["steps"]):
            step = json.loads(json.dumps(recorded).replace("<u>", "u0"))
            step = _with_numbers(step)
            step = json.loads(re.sub("kube-api-access-<gen:[0-9]+>", "kube-api-access-gen", json.dumps(step)))
            target = _target(step["request"]["path"], custom)
            if target is None or step["request"]["method"] == "GET":
                continue
            if target[0].group not in groups and target[0].gvr not in custom:
                continue
            yield _Step(f"{theme}/{sequence['name']}[{number}]", step, target, stored).run()
            custom = _custom_resources(stored)


def _custom_resources(stored: dict[tuple[GVR, str, str], Obj]) -> dict[GVR, ResourceDef]:
    """Does what the server does for stored definitions: accepts their names and makes their resources."""
    definitions = [obj for (gvr, _, _), obj in stored.items() if gvr.resource == "customresourcedefinitions"]
    taken = TakenNames(definitions)
    for one in definitions:
        one["status"] = names_status(one, taken, NOW)
        taken.learn(one)
        if is_served(one):
            one["status"] = established_status(one["status"], NOW)
    made = [resource for one in definitions if is_served(one) for resource in resources_of(one)]
    return {resource.gvr: resource for resource in made}


def _with_numbers(step: Any) -> Any:
    """Puts addresses, node ports, uids and times in place of their placeholders."""
    text = re.sub('"<nodeport:([0-9]+)>"', lambda found: str(31000 + int(found[1])), json.dumps(step))
    text = re.sub("<nodeport:([0-9]+)>", lambda found: str(31000 + int(found[1])), text)
    text = re.sub("<uid:([0-9]+)>", lambda found: f"{_UID}{int(found[1]):012}", text)
    text = text.replace("<time>", NOW).replace("<microtime>", "2020-01-01T00:00:00.000000Z")
    return json.loads(re.sub("<ip:([0-9]+)>", lambda found: f"10.0.0.{found[1]}", text))


def _target(path: str, custom: dict[GVR, ResourceDef]) -> tuple[ResourceDef, str, str, str] | None:
    """Returns (resource, namespace, name, subresource) of a path."""
    parts = path.partition("?")[0].strip("/").split("/")
    group, rest = ("", parts[1:]) if parts[0] == "api" else (parts[1] if len(parts) > 1 else "", parts[2:])
    if parts[0] not in ("api", "apis") or len(rest) < 2:
        return None
    version, rest = rest[0], rest[1:]
    known = {**BY_GVR, **custom} if custom else BY_GVR
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces" and GVR(group, version, rest[2]) in known:
        namespace, rest = rest[1], rest[2:]
    resource = known.get(GVR(group, version, rest[0])) if rest else None
    if resource is None:
        return None
    name, subresource = [*rest[1:], "", ""][:2]
    return resource, namespace, name, subresource


def merged(old: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def _comparable(obj: Obj) -> Obj:
    made: Obj = copy_object(obj)
    meta = made.get("metadata") or {}
    made["metadata"] = {key: value for key, value in meta.items() if key not in SERVER_OWNED}
    return made


def _uid_in(body: Obj) -> str:
    """Returns the uid placeholder that an error mentions, since a job's labels are made of it."""
    found = re.search(_UID + "[0-9]+", json.dumps(body))
    return found[0] if found else f"{_UID}0"


_TOKEN_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_TOKEN_SOURCES = [
    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    {
        "downwardAPI": {
            "items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]
        }
    },
]


def admit(resource: ResourceDef, obj: Obj) -> None:
    """Does what upstream's admission adds to every pod (and a few other objects) in the recordings."""
    finalizers = {
        "persistentvolumeclaims": "kubernetes.io/pvc-protection",
        "persistentvolumes": "kubernetes.io/pv-protection",
    }
    if resource.plural in finalizers:
        obj["metadata"].setdefault("finalizers", []).append(finalizers[resource.plural])
    if resource.kind == "Node":
        taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
        obj["spec"].setdefault("taints", []).append(taint)
    if resource.kind != "Pod":
        return
    spec = obj["spec"]
    spec.setdefault("serviceAccountName", "default")
    spec.setdefault("serviceAccount", spec["serviceAccountName"])
    critical = spec.get("priorityClassName") == "system-node-critical"
    spec.setdefault("priority", 2000001000 if critical else 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    _tolerate(spec)
    if spec.get("automountServiceAccountToken") is not False:
        name = "kube-api-access-gen"
        projected = {"sources": copy_object(_TOKEN_SOURCES), "defaultMode": 420}
        spec.setdefault("volumes", []).append({"name": name, "projected": projected})
        for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
            mount = {"name": name, "readOnly": True, "mountPath": _TOKEN_MOUNT}
            container.setdefault("volumeMounts", []).append(mount)


def _tolerate(spec: Obj) -> None:
    for taint in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        effects = ("", "NoExecute")
        tolerated = any(
            one.get("operator") == "Exists" and one.get("key", taint) == taint and one.get("effect", "") in effects
            for one in spec.get("tolerations") or []
        )
        if not tolerated:
            toleration = {"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            spec.setdefault("tolerations", []).append(toleration)


class Pools:
    """Addresses and node ports of a sequence, given out as the recording shows them."""

    def __init__(self) -> None:
        self.taken: set[Any] = set()

    def begin(self, obj: Obj | None, old: Obj | None, expected: Obj) -> list[FieldError]:
        """Carries out what a service's plan asks for; `expected` is the recorded answer."""
        wanted = plan(obj, old, ("IPv4",))
        if wanted.errors or obj is None:
            self.taken -= {*wanted.release_addresses, *wanted.release_ports}
            return wanted.errors
        spec, shown = obj["spec"], expected.get("spec") or {}
        wanted.apply_families(spec)
        addresses = list(spec.get("clusterIPs") or [])
        for wish in wanted.addresses:
            if wish.address and (wish.address in self.taken or not wish.address.startswith("10.0.")):
                return [FieldError("FieldValueInvalid", "spec.clusterIPs", addresses, "cannot have it")]
            address = wish.address or (shown.get("clusterIPs") or ["10.0.200.1"])[wish.index]
            addresses[wish.index : wish.index + 1] = [address]
            self.taken.add(address)
        if addresses:
            spec["clusterIP"], spec["clusterIPs"] = addresses[0], addresses
        return self._ports(wanted, spec, shown)

    def _ports(self, wanted: Plan, spec: Obj, shown: Obj) -> list[FieldError]:
        for wish in wanted.node_ports:
            if wish.number and (wish.number in self.taken or not 30000 <= wish.number <= 32767):
                path = f"spec.ports[{wish.index}].nodePort"
                return [FieldError("FieldValueInvalid", path, wish.number, "cannot have it")]
            number = wish.number or ((shown.get("ports") or [{}])[wish.index]).get("nodePort", 32000)
            for index in (wish.index, *wish.shared):
                spec["ports"][index]["nodePort"] = number
            self.taken.add(number)
        if wanted.health_port is not None:
            spec["healthCheckNodePort"] = wanted.health_port or shown.get("healthCheckNodePort") or 32001
        self.taken -= {*wanted.release_addresses, *wanted.release_ports}
        return []


class _Step:
    def __init__(self, name: str, step: Obj, target: tuple[ResourceDef, str, str, str], stored: dict[Any, Obj]) -> None:
        self.name = name
        self.request, self.response = step["request"], step["response"]
        self.partial = "view" in step
        self.resource, self.namespace, self.object_name, self.subresource = target
        self.stored = stored

    def run(self) -> Outcome:
        if self.request["method"] == "DELETE" and self.resource.kind == "Service" and self._old() is not None:
            self.stored.setdefault(POOLS, Pools()).begin(None, self.stored.pop(self._old_key()), {})
        status, body = self.response["status"], self.response.get("body")
        found = self.resource.subresource(self.subresource)
        if self.subresource and (found is None or found.strategy is None):
            return Outcome(self.name, "", replayed=False)
        old = self._old()
        obj = self._body(old)
        created = old is None and not self.object_name
        if obj is None or status not in (200, 201, 422) or (old is None and not created):
            return Outcome(self.name, "", replayed=False)
        errors = self._create(obj) if created else self._update(obj, old or {})
        if errors and status == 422:
            return Outcome(self.name, self._compare_causes(errors, body))
        if errors or status == 422:
            causes = "; ".join(str(error) for error in errors)
            expected = f"{status} {body.get('message', '') if status == 422 else ''}"
            return Outcome(self.name, f"expected {expected}, got {causes or 'no error'}")
        if not self.partial:
            self.stored[self._key(body)] = body
            problem = "" if _comparable(obj) == _comparable(body) else _difference(_comparable(body), _comparable(obj))
            return Outcome(self.name, problem)
        self.stored[self._key(obj)] = obj
        return Outcome(self.name, "")

    def _key(self, obj: Obj) -> tuple[GVR, str, str]:
        return self.resource.gvr, self.namespace, (obj.get("metadata") or {}).get("name", "")

    def _old(self) -> Obj | None:
        return self.stored.get(self._old_key())

    def _old_key(self) -> tuple[GVR, str, str]:
        return self.resource.gvr, self.namespace, self.object_name

    def _body(self, old: Obj | None) -> Obj | None:
        body = self.request.get("body")
        if not isinstance(body, dict):
            return None
        if self.request["method"] == "PATCH":
            kind = (self.request.get("headers") or {}).get("Content-Type", "")
            if not kind.startswith("application/merge-patch") or old is None:
                return None
            body = merged(old, body)
        custom = self.resource.strategy
        if isinstance(custom, CustomResourceStrategy):
            fresh: Obj = copy_object(body)
            custom.prune(fresh)
            return fresh
        try:
            made: Obj = decode(self.resource.schema, body)[0]
        except ValueError:
            return None
        return {**made, "apiVersion": self.resource.api_version, "kind": self.resource.kind}

    def _create(self, obj: Obj) -> list[FieldError]:
        strategy = self.resource.strategy
        body = self.response.get("body") or {}
        obj.setdefault("metadata", {})["uid"] = (body.get("metadata") or {}).get("uid") or _uid_in(body)
        obj["metadata"].setdefault("namespace", self.namespace)
        strategy.default(obj)
        admit(self.resource, obj)
        strategy.prepare_create(obj)
        strategy.default(obj)
        strategy.stamp(obj, None, NOW, REQUESTOR)
        refused = self._allocate(obj, None)
        if refused:
            return refused
        if strategy.generation:
            obj["metadata"]["generation"] = 1
        found = metadata.validate_create(obj, self.resource.namespaced, strategy.validate_name)
        return found + strategy.validate(obj)

    def _update(self, obj: Obj, old: Obj) -> list[FieldError]:
        strategy = self.resource.strategy
        how: Any = strategy
        if self.subresource:
            found = self.resource.subresource(self.subresource)
            assert found is not None
            assert found.strategy is not None
            how = found.strategy
        strategy.default(obj)
        how.prepare_update(obj, old)
        strategy.default(obj)
        refused = self._allocate(obj, old)
        if refused:
            return refused
        if self.subresource:
            how.stamp(obj, old, NOW)
        else:
            how.stamp(obj, old, NOW, REQUESTOR)
        if strategy.generation:
            changed = self.subresource != "status" and strategy.specification(obj) != strategy.specification(old)
            obj["metadata"]["generation"] = (old["metadata"].get("generation") or 0) + changed
        return list(how.validate_update(obj, old))

    def _allocate(self, obj: Obj, old: Obj | None) -> list[FieldError]:
        if self.resource.kind != "Service" or self.subresource:
            return []
        pools: Pools = self.stored.setdefault(POOLS, Pools())
        return pools.begin(obj, old, self.response.get("body") or {})

    def _compare_causes(self, errors: list[FieldError], body: Obj) -> str:
        got = Counter((error.type, error.path) for error in errors)
        expected = Counter((one["reason"], one["field"]) for one in (body.get("details") or {}).get("causes") or [])
        if "details" not in body:
            return ""
        if got == expected:
            return ""
        return f"missing {sorted((expected - got).elements())}, too many {sorted((got - expected).elements())}"


def _difference(expected: Any, got: Any, path: str = "") -> str:
    if isinstance(expected, dict) and isinstance(got, dict):
        found = [
            _difference(expected.get(key, "<absent>"), got.get(key, "<absent>"), f"{path}.{key}")
            for key in {**expected, **got}
            if expected.get(key, "<absent>") != got.get(key, "<absent>")
        ]
        return "; ".join(found)
    if isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        pairs = enumerate(zip(expected, got, strict=True))
        return "; ".join(_difference(one, other, f"{path}[{i}]") for i, (one, other) in pairs if one != other)
    return f"{path}: {json.dumps(expected)} ≠ {json.dumps(got)}"
