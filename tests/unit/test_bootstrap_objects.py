"""The objects that a cluster starts with equal the recorded ones; existing ones gain what they lack."""

from __future__ import annotations

from typing import Any

import pytest

from proa.apis import bootstrap_objects
from proa.apis.all import BY_GVR
from proa.apis.flowcontrol.bootstrap import flow_schemas, schema_status
from proa.apis.rbac import bootstrap
from proa.apis.rbac.aggregate import aggregated_rules
from proa.meta.objects import Obj, copy_object, name_of
from tests.recorded import load


def made(plural: str) -> list[Obj]:
    found = []
    for gvr, obj in bootstrap_objects.policies():
        if gvr.resource == plural:
            fresh = copy_object(obj)
            strategy = BY_GVR[gvr].strategy
            strategy.default(fresh)
            strategy.prepare_create(fresh)
            assert strategy.validate(fresh) == []
            found.append(fresh)
    return found


def comparable(obj: Obj) -> Obj:
    meta = {key: value for key, value in obj["metadata"].items() if key != "generation"}
    return {**{k: v for k, v in obj.items() if k not in ("apiVersion", "kind", "status")}, "metadata": meta}


@pytest.mark.parametrize(
    "plural",
    [
        "clusterroles",
        "clusterrolebindings",
        "roles",
        "rolebindings",
        "flowschemas",
        "prioritylevelconfigurations",
        "priorityclasses",
    ],
)
def test_recorded(plural: str) -> None:
    expected = load("bootstrap.json")["apiServer"][plural]

    def key(obj: Obj) -> tuple[str, str]:
        return obj["metadata"].get("namespace", ""), name_of(obj)

    got = [comparable(one) for one in sorted(made(plural), key=key)]
    assert got == [comparable(one) for one in sorted(expected, key=key)]


def test_flow_schemas_find_their_levels() -> None:
    recorded = {name_of(one): one["status"] for one in load("bootstrap.json")["apiServer"]["flowschemas"]}
    levels = {name_of(one) for one in made("prioritylevelconfigurations")}
    for schema in flow_schemas():
        status = schema_status(schema, levels, "now")
        (condition,) = status["conditions"]
        assert condition.pop("lastTransitionTime") == "now"
        assert status == recorded[name_of(schema)]
    dangling = schema_status(next(flow_schemas()), {"other"}, "now")["conditions"][0]
    assert (dangling["status"], dangling["reason"]) == ("True", "NotFound")


def test_aggregation_gathers_the_recorded_rules() -> None:
    roles = {name_of(one): copy_object(one) for one in bootstrap.cluster_roles()}
    for name in ("view", "edit", "admin"):  # each gathers the one before
        roles[name]["rules"] = aggregated_rules(roles[name], roles.values())
    for expected in load("bootstrap.json")["controllersAdd"]["clusterroles"]:
        assert roles[name_of(expected)]["rules"] == expected["rules"], name_of(expected)


class TestReconciled:
    wanted: Any = next(one for one in bootstrap.cluster_roles() if name_of(one) == "system:discovery")

    def test_same_object_stays(self) -> None:
        assert bootstrap_objects.reconciled(self.wanted, self.wanted) is None

    def test_missing_rules_and_labels_come_back_and_others_stay(self) -> None:
        existing = copy_object(self.wanted)
        own = {"verbs": ["get"], "apiGroups": ["x.example"], "resources": ["ys"]}
        existing["rules"] = [own]
        del existing["metadata"]["labels"]
        made = bootstrap_objects.reconciled(existing, self.wanted)
        assert made is not None
        assert made["rules"][0] == own
        assert len(made["rules"]) > 1
        assert made["metadata"]["labels"] == self.wanted["metadata"]["labels"]
        assert bootstrap_objects.reconciled(made, self.wanted) is None

    def test_protected_object_stays(self) -> None:
        existing = copy_object(self.wanted)
        existing["rules"] = []
        existing["metadata"]["annotations"][bootstrap.AUTOUPDATE] = "false"
        assert bootstrap_objects.reconciled(existing, self.wanted) is None

    def test_missing_subjects_come_back(self) -> None:
        wanted = next(one for one in bootstrap.cluster_role_bindings() if name_of(one) == "cluster-admin")
        other = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "me"}
        existing = copy_object(wanted) | {"subjects": [other]}
        made = bootstrap_objects.reconciled(existing, wanted)
        assert made is not None
        assert made["subjects"] == [other, *wanted["subjects"]]

    def test_a_changed_priority_level_returns_unless_its_owner_says_otherwise(self) -> None:
        wanted = next(flow_schemas())
        existing = copy_object(wanted)
        existing["spec"]["matchingPrecedence"] = 5
        assert bootstrap_objects.reconciled(existing, wanted) == wanted
        existing["metadata"]["annotations"]["apf.kubernetes.io/autoupdate-spec"] = "false"
        assert bootstrap_objects.reconciled(existing, wanted) is None
