"""What objects count for in quotas, and which quotas cover them."""

from __future__ import annotations

from typing import Any

import pytest

from proa.apis.quota import covers, usage_of
from proa.controllers.resourcequota.plan import concerns
from proa.meta.objects import Obj

DEVICES = "deviceclass.resource.k8s.io/devices"
GROUP = "resource.k8s.io"


def quota(scope: str, operator: str = "Exists", *values: str) -> Obj:
    term = {"scopeName": scope, "operator": operator, "values": list(values)}
    return {"spec": {"scopeSelector": {"matchExpressions": [term]}}}


def claim(*requests: Obj) -> Obj:
    return {"spec": {"devices": {"requests": list(requests)}}}


def exactly(name: str, **more: Any) -> Obj:
    return {"name": "r", "exactly": {"deviceClassName": name, **more}}


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ([], {}),
        ([exactly("gpu")], {"gpu": "1"}),
        ([exactly("gpu", count=3), exactly("gpu", count=2), exactly("nic")], {"gpu": "5", "nic": "1"}),
        ([exactly("gpu", allocationMode="All")], {"gpu": "32"}),
        ([{"name": "r", "deviceClassName": "gpu", "count": 2}], {"gpu": "2"}),
        (
            [
                {
                    "name": "r",
                    "firstAvailable": [
                        {"name": "a", "deviceClassName": "gpu", "count": 1},
                        {"name": "b", "deviceClassName": "gpu", "count": 4},
                        {"name": "c", "deviceClassName": "nic", "count": 2},
                    ],
                },
                exactly("nic"),
            ],
            {"gpu": "4", "nic": "3"},
        ),
    ],
)
def test_devices_of_a_claim(requests: list[Obj], expected: dict[str, str]) -> None:
    used = {name: str(quantity) for name, quantity in usage_of(GROUP, "resourceclaims", claim(*requests)).items()}
    assert used.pop("count/resourceclaims.resource.k8s.io") == "1"
    assert used == {f"{name}.{DEVICES}": count for name, count in expected.items()}


def test_which_quotas_count_claims_of_devices() -> None:
    assert concerns([f"gpu.{DEVICES}"], GROUP, "resourceclaims")
    assert concerns(["count/resourceclaims.resource.k8s.io"], GROUP, "resourceclaims")
    assert not concerns(["pods"], GROUP, "resourceclaims")
    assert concerns(["count/widgets.example.com"], "example.com", "widgets")
    assert not concerns([f"gpu.{DEVICES}"], "example.com", "widgets")


@pytest.mark.parametrize(
    ("wanted", "current", "changing", "operator", "values", "expected"),
    [
        ("gold", None, None, "In", ("gold", "silver"), True),
        ("gold", None, None, "In", ("silver",), False),
        ("gold", "silver", None, "In", ("silver",), True),
        ("gold", None, "silver", "In", ("silver",), True),
        ("gold", "silver", None, "NotIn", ("silver",), False),
        (None, None, None, "NotIn", ("silver",), True),
        ("gold", None, None, "Exists", (), True),
        (None, None, None, "Exists", (), False),
        (None, None, None, "DoesNotExist", (), True),
    ],
)
def test_classes_of_volumes(
    wanted: str | None,
    current: str | None,
    changing: str | None,
    operator: str,
    values: tuple[str, ...],
    expected: bool,
) -> None:
    status = {"currentVolumeAttributesClassName": current, "modifyVolumeStatus": None}
    if changing:
        status["modifyVolumeStatus"] = {"targetVolumeAttributesClassName": changing}  # type: ignore[assignment]
    made = {"spec": {"volumeAttributesClassName": wanted}, "status": status}
    one = quota("VolumeAttributesClass", operator, *values)
    assert covers(one, "", "persistentvolumeclaims", made) == expected
    assert not covers(one, "", "services", {}) and not covers(one, "", "pods", {"spec": {}})


@pytest.mark.parametrize(
    ("spec", "scope", "expected"),
    [
        ({"activeDeadlineSeconds": 5}, quota("Terminating"), True),
        ({}, quota("Terminating"), False),
        ({}, quota("NotTerminating"), True),
        ({"containers": [{"name": "c"}]}, quota("BestEffort"), True),
        ({"containers": [{"resources": {"requests": {"cpu": "1"}}}]}, quota("BestEffort"), False),
        ({"containers": [{"resources": {"requests": {"cpu": "1"}}}]}, quota("NotBestEffort"), True),
        ({"priorityClassName": "high"}, quota("PriorityClass", "In", "high"), True),
        ({"priorityClassName": "low"}, quota("PriorityClass", "In", "high"), False),
        ({"priorityClassName": "low"}, quota("PriorityClass", "NotIn", "high"), True),
        ({}, quota("PriorityClass", "DoesNotExist"), True),
        ({}, {"spec": {"scopes": ["CrossNamespacePodAffinity"]}}, False),
        (
            {
                "affinity": {
                    "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["other"]}]}
                }
            },
            {"spec": {"scopes": ["CrossNamespacePodAffinity"]}},
            True,
        ),
    ],
)
def test_scopes_of_pods(spec: Obj, scope: Obj, expected: bool) -> None:
    assert covers(scope, "", "pods", {"spec": spec}) == expected
    assert not covers(scope, "", "persistentvolumeclaims", {"spec": {}})
