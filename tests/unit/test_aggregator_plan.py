"""What APIServices call for: availability, registrations of custom resources, identity headers, discovery forms."""

from __future__ import annotations

from typing import Any

import pytest

from proa.apis.discovery_documents import ServedVersion, aggregated_discovery, api_group_list, served_versions
from proa.apiserver.aggregator.plan import (
    LOCAL,
    PASSED,
    Reference,
    check_service,
    custom_api_service,
    failed_check,
    identity_headers,
    is_available,
    reference,
    registrations,
    version_discovery,
    with_verdict,
)
from proa.apiserver.aggregator.trust import trust_data
from proa.apiserver.authn.frontproxy import FrontProxy
from proa.client.interface import UserInfo

TO = Reference(name="v1.g.example", group="g.example", version="v1", namespace="ns", service="api", port=443)
SERVICE: dict[str, Any] = {"spec": {"type": "ClusterIP", "ports": [{"name": "https", "port": 443}]}}


def piece(*ready: bool | None, name: str = "https", port: int | None = 8443) -> dict[str, Any]:
    endpoints = [{"addresses": ["10.0.0.1"], "conditions": {} if one is None else {"ready": one}} for one in ready]
    return {"endpoints": endpoints, "ports": [{"name": name, "port": port}]}


@pytest.mark.parametrize(
    ("service", "slices", "reason", "message"),
    [
        (None, [], "ServiceNotFound", 'service/api in "ns" is not present'),
        (
            {"spec": {"ports": [{"port": 80}]}},
            [],
            "ServicePortError",
            'service/api in "ns" is not listening on port 443',
        ),
        (SERVICE, [], "EndpointsNotFound", 'cannot find endpointslices for service/api in "ns"'),
        (
            SERVICE,
            [piece(False)],
            "MissingEndpoints",
            'endpointslices for service/api in "ns" have no addresses with port name "https"',
        ),
        (SERVICE, [piece(True, name="other")], "MissingEndpoints", None),
        (SERVICE, [piece(True, port=None)], "MissingEndpoints", None),
        (SERVICE, [piece()], "MissingEndpoints", None),
        (SERVICE, [piece(False), piece(True)], None, None),
        (SERVICE, [piece(None)], None, None),
        ({"spec": {"type": "ExternalName", "externalName": "elsewhere"}}, [], None, None),
        ({"spec": {"type": "NodePort", "ports": []}}, [], None, None),
    ],
)
def test_a_service_that_cannot_answer_says_why(
    service: Any, slices: list[Any], reason: str | None, message: str | None
) -> None:
    verdict = check_service(TO, service, slices)
    assert (verdict.reason if verdict else None) == reason
    if message:
        assert verdict and verdict.message == message


def test_conditions_keep_their_time_and_their_neighbours() -> None:
    other = {"type": "StatusUpdated", "status": "True"}
    first = with_verdict({"status": {"conditions": [other]}}, failed_check("https://x", "no"), "t1")
    assert first and first[0] == other
    assert first[1]["reason"] == "FailedDiscoveryCheck"
    assert first[1]["message"] == "failing or missing response from https://x: no"
    obj = {"status": {"conditions": first}}
    assert not is_available(obj)
    assert with_verdict(obj, failed_check("https://x", "no"), "t2") is None
    changed = with_verdict(obj, failed_check("https://x", "maybe"), "t2")
    assert changed and changed[1]["lastTransitionTime"] == "t1"
    passed = with_verdict(obj, PASSED, "t3")
    assert passed and passed[1]["lastTransitionTime"] == "t3"
    assert is_available({"status": {"conditions": passed}})
    assert with_verdict({}, LOCAL, "t") is not None


def test_references_have_defaults() -> None:
    spec = {"group": "g.example", "version": "v1", "service": {"namespace": "ns", "name": "api"}}
    assert reference({"metadata": {"name": "v1.g.example"}, "spec": spec}) == TO
    assert reference({"metadata": {"name": "v1.apps"}, "spec": {"group": "apps", "version": "v1"}}) is None
    assert (TO.host, TO.path) == ("api.ns.svc", "/apis/g.example/v1")


def test_custom_resources_are_registered_once_and_no_longer_than_served() -> None:
    mine = custom_api_service("a.example", "v1")
    bent = {**custom_api_service("b.example", "v1"), "spec": {"group": "b.example", "version": "v1"}}
    theirs = {"metadata": {"name": "v1.c.example"}, "spec": {"service": {"name": "x"}}}
    gone = custom_api_service("d.example", "v1")
    start = {
        "metadata": {"name": "v1.apps", "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}},
        "spec": {},
    }
    existing = {one["metadata"]["name"]: one for one in (mine, bent, theirs, gone, start)}
    served = [(f"{letter}.example", "v1") for letter in "abce"]
    todo = registrations(served, existing)
    assert [one["metadata"]["name"] for one in todo.create] == ["v1.e.example"]
    assert [one["metadata"]["name"] for one in todo.update] == ["v1.b.example"]
    assert todo.delete == ["v1.d.example"]


def test_identity_headers_are_safe() -> None:
    user = UserInfo("a\r\nX-Remote-Group: system:masters", ("g1", "g2"), "u", {"example.org/k%": ("v1", "v2")})
    assert identity_headers(user) == [
        ("X-Remote-User", "a X-Remote-Group: system:masters"),
        ("X-Remote-Uid", "u"),
        ("X-Remote-Group", "g1"),
        ("X-Remote-Group", "g2"),
        ("X-Remote-Extra-example.org%2Fk%25", "v1"),
        ("X-Remote-Extra-example.org%2Fk%25", "v2"),
    ]


def test_a_resource_list_in_the_aggregated_form() -> None:
    resources = [
        {"name": "pods/scale", "namespaced": True, "kind": "Scale", "group": "autoscaling", "version": "v1"},
        {"name": "pods", "namespaced": True, "kind": "Pod", "verbs": ["get"], "categories": ["all"]},
        {"name": "nodes/cpu", "namespaced": False, "kind": "MetricValueList", "verbs": ["get"]},
        "nonsense",
    ]
    found = version_discovery({"groupVersion": "g.example/v1", "resources": resources})
    pods, nodes = found["resources"]
    assert (pods["scope"], pods["verbs"], pods["categories"]) == ("Namespaced", ["get"], ["all"])
    kind = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert pods["subresources"] == [{"subresource": "scale", "verbs": [], "responseKind": kind}]
    assert (nodes["resource"], nodes["scope"]) == ("nodes", "Cluster")


def remote(version: str, priority: int, group_priority: int = 100, **more: Any) -> ServedVersion:
    return ServedVersion(
        group="g.example",
        version=version,
        group_priority=group_priority,
        version_priority=priority,
        aggregated=True,
        **more,
    )


def test_versions_are_ordered_by_their_priorities() -> None:
    other = ServedVersion(group="a.example", version="v1", group_priority=500, version_priority=1, aggregated=True)
    served = served_versions([], [remote("v1beta1", 10), remote("v2", 5, 900), remote("v1", 10), other])
    groups = {one["name"]: one for one in api_group_list(served)["groups"]}
    assert list(groups) == ["g.example", "a.example"]
    assert [one["version"] for one in groups["g.example"]["versions"]] == ["v1", "v1beta1", "v2"]
    assert groups["g.example"]["preferredVersion"]["version"] == "v1"


def test_what_does_not_answer_is_stale() -> None:
    known = {"version": "v1", "resources": [{"resource": "things"}]}
    served = [remote("v1", 3, remote=known), remote("v2", 2, remote=known, stale=True), remote("v3", 1)]
    (group,) = aggregated_discovery(served, core=False)["items"]
    assert [(one["freshness"], "resources" in one) for one in group["versions"]] == [
        ("Current", True),
        ("Stale", True),
        ("Stale", False),
    ]


def test_trust_is_published_as_extension_servers_read_it() -> None:
    data = trust_data(b"CLIENTS", FrontProxy(authorities=[b"PROXIES"], names=["front-proxy-client"]))
    assert data == {
        "client-ca-file": "CLIENTS",
        "requestheader-allowed-names": '["front-proxy-client"]',
        "requestheader-client-ca-file": "PROXIES",
        "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
        "requestheader-group-headers": '["X-Remote-Group"]',
        "requestheader-uid-headers": '["X-Remote-Uid"]',
        "requestheader-username-headers": '["X-Remote-User"]',
    }
    assert trust_data(b"", FrontProxy()) == {}
