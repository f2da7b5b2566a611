"""The discovery documents equal the recorded ones, in content and in order."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proa.apis import discovery_documents as documents
from proa.apis.all import BY_GVR, RESOURCES, preferred, preferred_kind
from proa.apis.discovery_documents import ServedVersion, served_versions, version_sort_key
from proa.apis.registry import ResourceDef
from proa.meta.gvk import GVR
from tests.recorded import load

SERVED = served_versions(RESOURCES)


def same(got: Any, expected: Any) -> bool:
    """Equality that also compares the order of lists and of object keys."""
    return json.dumps(got) == json.dumps(expected)


def resource_list(path: str) -> Any:
    parts = path.strip("/").split("/")
    group, version = ("", parts[1]) if parts[0] == "api" else (parts[1], parts[2])
    served = next(one for one in SERVED if (one.group, one.version) == (group, version))
    return documents.api_resource_list(served)


@pytest.mark.parametrize("path", ["/api", "/apis"])
def test_aggregated(path: str) -> None:
    expected = load("discovery.json")[path]
    assert same(documents.aggregated_discovery(SERVED, core=path == "/api"), expected)


def test_legacy() -> None:
    recorded = load("discovery-legacy.json")
    assert len(recorded) > 40
    for path, expected in recorded.items():
        if path == "/api":
            got = documents.api_versions(SERVED, "")
            del got["serverAddressByClientCIDRs"]  # not in the recording: addresses differ
        elif path == "/apis":
            got = documents.api_group_list(SERVED)
        elif expected["kind"] == "APIGroup":
            got = documents.api_group(SERVED, expected["name"])
        else:
            got = resource_list(path)
        assert same(got, expected), path


def test_columns() -> None:
    seen = 0
    for path, expected in load("tables.json").items():
        _, *group, version, plural = path.split("/")  # api/v1/pods or apis/apps/v1/deployments
        resource = BY_GVR.get(GVR("".join(group), version, plural))
        if resource is None:
            continue
        if not resource.columns:
            pytest.fail(f"{path} has no columns")
        got = [
            {"name": one.name, "type": one.type, "format": one.format, "priority": one.priority}
            for one in resource.columns
        ]
        assert got == expected["columnDefinitions"], path
        seen += 1
    assert seen > 50


def test_versions_sort_by_stability_then_number() -> None:
    versions = ["v1alpha1", "foo", "v1", "v10", "v2beta1", "v1beta2", "bar", "v2"]
    assert sorted(versions, key=version_sort_key) == ["v10", "v2", "v1", "v2beta1", "v1beta2", "v1alpha1", "bar", "foo"]


def test_custom_and_aggregated_groups_come_last() -> None:
    custom = [
        ResourceDef(group="a.example", version=version, kind="Widget", plural="widgets", singular="widget")
        for version in ("v1beta1", "v1")
    ]
    remote = ServedVersion(group="metrics.k8s.io", version="v1", group_priority=100, aggregated=True)
    served = served_versions([*RESOURCES, *custom], [remote])
    groups = documents.api_group_list(served)["groups"]
    assert [one["name"] for one in groups][-2:] == ["a.example", "metrics.k8s.io"]
    assert groups[-2]["preferredVersion"]["version"] == "v1"
    shown = documents.aggregated_discovery(served, core=False)["items"][-1]
    assert shown["versions"] == [{"version": "v1", "freshness": "Stale"}]


def test_look_ups() -> None:
    assert preferred("autoscaling", "horizontalpodautoscalers").version == "v2"  # type: ignore[union-attr]
    assert preferred_kind("", "Pod") is BY_GVR[GVR("", "v1", "pods")]
    assert preferred("nope", "pods") is None
