"""Replays recorded writes through the strategies alone: default, prepare, validate; no server, no store.

A step passes if the strategy comes to upstream's status code, causes (reason and field) and object. Steps that depend
on more than a strategy (decoding errors, admission, conflicts) are left out, and counted as such by the tests.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from proa.apis.all import BY_GVR
from proa.apis.registry import Requestor, ResourceDef, StatusStrategy
from proa.meta.errors import FieldError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, copy_object
from tests.recorded import load

NOW = "<time>"
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
        for number, recorded in enumerate(sequence["steps"]):
            step = json.loads(json.dumps(recorded).replace("<u>", "u0"))
            target = _target(step["request"]["path"])
            if target is None or target[0].group not in groups or step["request"]["method"] == "GET":
                continue
            yield _Step(f"{theme}/{sequence['name']}[{number}]", step, target, stored).run()


def _target(path: str) -> tuple[ResourceDef, str, str, str] | None:
    """Returns (resource, namespace, name, subresource) of a path."""
    parts = path.partition("?")[0].strip("/").split("/")
    group, rest = ("", parts[1:]) if parts[0] == "api" else (parts[1] if len(parts) > 1 else "", parts[2:])
    if parts[0] not in ("api", "apis") or len(rest) < 2:
        return None
    version, rest = rest[0], rest[1:]
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces" and GVR(group, version, rest[2]) in BY_GVR:
        namespace, rest = rest[1], rest[2:]
    resource = BY_GVR.get(GVR(group, version, rest[0])) if rest else None
    if resource is None:
        return None
    name, subresource = [*rest[1:], "", ""][:2]
    return resource, namespace, name, subresource


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _merged(old: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def _comparable(obj: Obj) -> Obj:
    made: Obj = copy_object(obj)
    meta = made.get("metadata") or {}
    made["metadata"] = {key: value for key, value in meta.items() if key not in SERVER_OWNED}
    return made


class _Step:
    def __init__(self, name: str, step: Obj, target: tuple[ResourceDef, str, str, str], stored: dict[Any, Obj]) -> None:
        self.name = name
        self.request, self.response = step["request"], step["response"]
        self.partial = "view" in step
        self.resource, self.namespace, self.object_name, self.subresource = target
        self.stored = stored

    def run(self) -> Outcome:
        status, body = self.response["status"], self.response.get("body")
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
        return self.stored.get((self.resource.gvr, self.namespace, self.object_name))

    def _body(self, old: Obj | None) -> Obj | None:
        body = self.request.get("body")
        if not isinstance(body, dict):
            return None
        if self.request["method"] == "PATCH":
            kind = (self.request.get("headers") or {}).get("Content-Type", "")
            if not kind.startswith("application/merge-patch") or old is None:
                return None
            body = _merged(old, body)
        made: Obj = _without_nulls(body)
        made.setdefault("apiVersion", self.resource.api_version)
        made.setdefault("kind", self.resource.kind)
        return made

    def _create(self, obj: Obj) -> list[FieldError]:
        strategy = self.resource.strategy
        strategy.default(obj)
        strategy.prepare_create(obj)
        strategy.stamp(obj, None, NOW, REQUESTOR)
        if strategy.generation:
            obj["metadata"]["generation"] = 1
        name = obj["metadata"].get("name", "")
        errors = [
            FieldError("FieldValueInvalid", "metadata.name", name, p) for p in strategy.validate_name(name, False)
        ]
        return errors + strategy.validate(obj)

    def _update(self, obj: Obj, old: Obj) -> list[FieldError]:
        strategy = self.resource.strategy
        how: Any = strategy
        if self.subresource:
            found = self.resource.subresource(self.subresource)
            assert found is not None
            assert isinstance(found.strategy, StatusStrategy)
            how = found.strategy
        strategy.default(obj)
        how.prepare_update(obj, old)
        if self.subresource:
            how.stamp(obj, old, NOW)
        else:
            how.stamp(obj, old, NOW, REQUESTOR)
        if strategy.generation:
            changed = any(obj.get(k) != old.get(k) for k in {*obj, *old} - {"metadata", "status"})
            obj["metadata"]["generation"] = (old["metadata"].get("generation") or 0) + changed
        return list(how.validate_update(obj, old))

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
