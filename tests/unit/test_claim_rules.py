"""Rules of claims that change: classes of attributes are not lost, quotas count claims by them."""

from __future__ import annotations

from typing import Any

import pytest

from proa.apis.core.persistent_volume_claim import PERSISTENT_VOLUME_CLAIM
from proa.apis.quota import covers
from proa.meta.objects import Obj


def claim(attributes: str | None = None, phase: str = "Bound", **status: Any) -> Obj:
    spec: Obj = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeName": "v"}
    if attributes is not None:
        spec["volumeAttributesClassName"] = attributes
    return {"metadata": {"name": "c"}, "spec": spec, "status": {"phase": phase, **status}}


@pytest.mark.parametrize(
    ("old", "new", "problems"),
    [
        (None, "gold", []),
        ("silver", "gold", []),
        ("gold", None, ["update from non-nil value to nil is forbidden"]),
        ("gold", "", ["update from non-nil value to an empty string is forbidden"]),
    ],
)
def test_a_class_of_attributes_is_not_lost(old: str | None, new: str | None, problems: list[str]) -> None:
    found = PERSISTENT_VOLUME_CLAIM.strategy.validate_update(claim(new), claim(old))
    assert [one.detail for one in found] == problems


def quota(operator: str, *values: str) -> Obj:
    term = {"scopeName": "VolumeAttributesClass", "operator": operator, "values": list(values)}
    return {"spec": {"scopeSelector": {"matchExpressions": [term]}}}


MODIFIED = {"modifyVolumeStatus": {"status": "InProgress", "targetVolumeAttributesClassName": "gold"}}


@pytest.mark.parametrize(
    ("given", "counted", "covered"),
    [
        (quota("Exists"), claim("gold"), True),
        (quota("Exists"), claim(), False),
        (quota("DoesNotExist"), claim(), True),
        (quota("In", "gold"), claim("gold"), True),
        (quota("In", "gold"), claim("silver"), False),
        (quota("In", "gold"), claim("silver", **MODIFIED), True),
        (quota("In", "gold"), claim("silver", currentVolumeAttributesClassName="gold"), True),
        (quota("NotIn", "gold"), claim("silver"), True),
        ({"spec": {"scopes": ["NotTerminating"]}}, claim(), False),
    ],
)
def test_quotas_by_class_of_attributes(given: Obj, counted: Obj, covered: bool) -> None:
    assert covers(given, "", "persistentvolumeclaims", counted) is covered
    assert not covers(given, "", "services", {"spec": {}})
