"""Discovery, plain and aggregated, with custom resources as they come, change and go; tables that nobody can make."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.conformance.conftest import JSON_PATCH, Api
from tests.cluster.conformance.definitions import defined, definition, version
from tests.cluster.conftest import RunningCluster
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
EXPECTED = {
    ("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "v1", "apiservices"),
    ("apps", "v1", "deployments"),
    ("authentication.k8s.io", "v1", "tokenreviews"),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews"),
    ("autoscaling", "v1", "horizontalpodautoscalers"),
    ("autoscaling", "v2", "horizontalpodautoscalers"),
    ("batch", "v1", "jobs"),
    ("certificates.k8s.io", "v1", "certificatesigningrequests"),
    ("coordination.k8s.io", "v1", "leases"),
    ("discovery.k8s.io", "v1", "endpointslices"),
    ("events.k8s.io", "v1", "events"),
    ("networking.k8s.io", "v1", "ingresses"),
    ("node.k8s.io", "v1", "runtimeclasses"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("scheduling.k8s.io", "v1", "priorityclasses"),
    ("storage.k8s.io", "v1", "csinodes"),
}


def aggregated(api: Api, path: str = "/apis", accept: str = AGGREGATED) -> dict[tuple[str, str], dict[str, Any]]:
    """Returns the aggregated document's versions, by group and version."""
    reply = api.get(path, headers={"Accept": accept})
    body = reply.ok()
    assert (body["kind"], body["apiVersion"]) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2")
    assert reply.headers["content-type"] == AGGREGATED
    return {
        (group["metadata"].get("name", ""), one["version"]): one for group in body["items"] for one in group["versions"]
    }


def resources(document: dict[tuple[str, str], dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {
        (group, version, one["resource"])
        for (group, version), shown in document.items()
        for one in shown.get("resources", ())
    }


@pytest.mark.behaviour(
    "[sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery endpoint Accept headers"
)
def test_raw_aggregated(api: Api) -> None:
    assert resources(aggregated(api)) >= EXPECTED
    assert ("", "v1", "namespaces") in resources(aggregated(api, "/api"))
    reply = api.get("/apis", headers={"Accept": AGGREGATED})
    tag = reply.headers["etag"]
    unchanged = api.get("/apis", headers={"Accept": AGGREGATED, "If-None-Match": tag})
    assert (unchanged.status, unchanged.body) == (304, b"")
    assert api.get("/apis").ok()["kind"] == "APIGroupList"


@pytest.mark.behaviour("[sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface")
def test_aggregated_interface(api: Api) -> None:
    """Asks as client-go does: aggregated if possible, in the newest version that the server knows."""
    accept = f"{AGGREGATED},{AGGREGATED.replace('v=v2', 'v=v2beta1')},application/json"
    document = aggregated(api, accept=accept) | aggregated(api, "/api", accept)
    assert resources(document) >= EXPECTED | {("", "v1", "namespaces")}
    for shown in document.values():
        assert shown["freshness"] == "Current"
        for one in shown.get("resources", ()):
            assert one["scope"] in ("Namespaced", "Cluster")
            assert set(one["responseKind"]) == {"group", "version", "kind"}
            assert one["verbs"]


@pytest.mark.behaviour(
    "[sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery request for CRDs",
    "[sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface for CRDs",
)
def test_aggregated_custom_resources(api: Api, cluster: RunningCluster) -> None:
    wanted = definition(version("v1"), version("v2"))
    wanted["spec"]["names"] |= {"shortNames": ["nx"], "categories": ["all"]}
    with defined(api, wanted) as made:
        key = (made.group, "v1", made.plural)
        eventually(lambda: key in resources(aggregated(api)), seconds_max=1)
        (shown,) = aggregated(api)[made.group, "v1"]["resources"]
        assert shown["shortNames"] == ["nx"]
        assert shown["categories"] == ["all"]
        assert shown["scope"] == "Namespaced"
        assert made.name.partition(".")[0] in cluster.kubectl("api-resources", "--api-group", made.group)
        patch = [{"op": "replace", "path": "/spec/versions/1/served", "value": False}]
        api.patch(made.path, patch, JSON_PATCH).ok()
        eventually(lambda: (made.group, "v2") not in aggregated(api), seconds_max=1)
        assert api.get(made.objects("default", "v2")).status == 404
        assert [one["version"] for one in api.get(f"/apis/{made.group}").ok()["versions"]] == ["v1"]
        api.patch(made.path, [{**patch[0], "value": True}], JSON_PATCH).ok()
        eventually(lambda: (made.group, "v2") in aggregated(api), seconds_max=1)
        assert api.get(f"/apis/{made.group}").ok()["preferredVersion"]["version"] == "v2"
    assert made.group not in {group for group, _ in aggregated(api)}
    assert api.get(f"/apis/{made.group}").status == 404


@pytest.mark.behaviour("[sig-api-machinery] Discovery should validate PreferredVersion for each APIGroup")
def test_preferred_versions(api: Api) -> None:
    listed = api.get("/apis").ok()["groups"]
    assert listed
    for one in listed:
        group = api.get(f"/apis/{one['name']}").ok()
        assert group["kind"] == "APIGroup"
        assert group["preferredVersion"] in group["versions"]
        assert {key: group[key] for key in ("name", "versions", "preferredVersion")} == one


@pytest.mark.behaviour(
    "[sig-api-machinery] Discovery should locate the groupVersion and a resource within each APIGroup"
)
def test_resources_of_each_group(api: Api) -> None:
    for group in api.get("/apis").ok()["groups"]:
        for shown in group["versions"]:
            assert shown["groupVersion"] == f"{group['name']}/{shown['version']}"
            listed = api.get(f"/apis/{shown['groupVersion']}").ok()
            assert (listed["kind"], listed["groupVersion"]) == ("APIResourceList", shown["groupVersion"])
            assert listed["resources"]
            for one in listed["resources"]:
                assert one["name"]
                assert one["kind"]
                assert one["verbs"]
    assert "pods" in [one["name"] for one in api.get("/api/v1").ok()["resources"]]


@pytest.mark.behaviour(
    "[sig-api-machinery] Servers with support for Table transformation should return a 406 for a backend which does "
    "not implement metadata"
)
def test_tables_of_what_has_no_metadata(api: Api) -> None:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}},
    }
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    api.post(path, review, headers=accept).failed(406, "NotAcceptable")


def test_tables_of_custom_resources(api: Api, namespace: str, cluster: RunningCluster) -> None:
    columns = [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "description": "how large"},
        {"name": "Color", "type": "string", "jsonPath": ".spec.color", "priority": 1},
        {"name": "Since", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    with defined(api, definition(version(additionalPrinterColumns=columns))) as made:
        api.post(made.objects(namespace), made.object("a", spec={"size": 3, "color": "red"})).ok()
        table = api.get(
            made.objects(namespace), headers={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        ).ok()
        assert [one["name"] for one in table["columnDefinitions"]] == ["Name", "Size", "Color", "Since"]
        assert table["rows"][0]["cells"][:3] == ["a", 3, "red"]
        assert cluster.kubectl("-n", namespace, "get", made.name).split()[:3] == ["NAME", "SIZE", "SINCE"]
        wide = cluster.kubectl("-n", namespace, "get", made.name, "-o", "wide")
        assert wide.split()[:4] == ["NAME", "SIZE", "COLOR", "SINCE"]
