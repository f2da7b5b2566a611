"""Type checking of validating admission policies: warnings about expressions that cannot work."""

from __future__ import annotations

from typing import Any

from proa.apis.all import BY_GVR, RESOURCES
from proa.controllers.policystatus.plan import matched_kinds, status
from proa.meta.cel.schemas import definition_type
from proa.meta.cel.types import Type
from proa.meta.gvk import GVK, GVR
from proa.meta.objects import Obj


def kind_of(resource: GVR) -> GVK | None:
    found = BY_GVR.get(resource)
    return found.gvk if found else None


def type_of(kind: GVK) -> Type | None:
    found = next((one for one in RESOURCES if one.gvk == kind), None)
    return definition_type(found.schema) if found else None


def rule(group: str, *resources: str) -> Obj:
    return {"apiGroups": [group], "apiVersions": ["v1"], "resources": list(resources), "operations": ["CREATE"]}


def policy(*expressions: str, rules: list[Obj], generation: int = 1, **spec: Any) -> Obj:
    validations = [{"expression": one} for one in expressions]
    constraints = {"resourceRules": rules}
    return {
        "metadata": {"name": "p", "generation": generation},
        "spec": {"validations": validations, "matchConstraints": constraints, **spec},
    }


def warnings(given: Obj) -> list[Obj]:
    found = status(given, kind_of, type_of)
    assert found is not None
    assert found["observedGeneration"] == given["metadata"]["generation"]
    listed: list[Obj] = found["typeChecking"].get("expressionWarnings") or []
    return listed


def test_expressions_that_may_work_make_no_warnings() -> None:
    good = policy(
        "object.spec.replicas <= 5 && oldObject.metadata.name == object.metadata.name",
        "object.spec.template.spec.containers.all(c, c.image.startsWith('registry.example/'))",
        "variables.n > 1 && params.data['x'] == 'y' && has(object.metadata.labels)",
        "object.metadata.creationTimestamp < timestamp('2030-01-01T00:00:00Z')",
        rules=[rule("apps", "deployments")],
        variables=[{"name": "n", "expression": "object.spec.replicas"}],
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
    )
    assert warnings(good) == []


def test_wrong_fields_and_types_are_named_for_each_kind() -> None:
    bad = policy(
        "object.replicas > 1",
        "object.spec.replicas > '1'",
        "variables.n == 'one'",
        rules=[rule("apps", "deployments", "replicasets")],
        variables=[{"name": "n", "expression": "object.spec.replicas"}],
    )
    first, second, third = warnings(bad)
    assert first == {
        "fieldRef": "spec.validations[0].expression",
        "warning": "\n".join(
            f"apps/v1, Kind={kind}: ERROR: <input>:1:7: undefined field 'replicas'\n"
            " | object.replicas > 1\n | ......^\n"
            for kind in ("Deployment", "ReplicaSet")
        ),
    }
    assert "found no matching overload for '_>_' applied to '(int, string)'" in second["warning"]
    assert "found no matching overload for '_==_' applied to '(int, string)'" in third["warning"]


def test_wildcards_and_subresources_are_not_checked() -> None:
    rules = [rule("*", "deployments"), rule("apps", "*", "deployments/scale"), rule("none.example", "things")]
    assert matched_kinds(policy(rules=rules)["spec"], kind_of) == []
    assert warnings(policy("object.nonsense == 1", rules=rules)) == []


def test_a_generation_is_checked_once() -> None:
    done = policy("true", rules=[rule("apps", "deployments")], generation=2) | {"status": {"observedGeneration": 2}}
    assert status(done, kind_of, type_of) is None
