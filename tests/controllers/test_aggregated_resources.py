"""Garbage collection and namespace deletion of what an extension API server holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proa.meta.objects import uid_of
from tests.cluster.waiting import eventually
from tests.support.extension import BASE, Extension, extended_cluster
from tests.support.extension_server import GROUP, VERSION


@pytest.fixture
def extension(tmp_path: Path) -> Iterator[Extension]:
    with extended_cluster(tmp_path) as made:
        made.register()
        made.wait("Passed")
        yield made


def path(namespace: str, name: str = "") -> str:
    return f"{BASE}/namespaces/{namespace}/flunders" + (f"/{name}" if name else "")


def flunder(name: str, *owners: dict[str, Any], **meta: Any) -> dict[str, Any]:
    listed = [
        {"apiVersion": one["apiVersion"], "kind": one["kind"], "name": one["metadata"]["name"], "uid": uid_of(one)}
        for one in owners
    ]
    return {
        "kind": "Flunder",
        "apiVersion": f"{GROUP}/{VERSION}",
        "metadata": {"name": name, **({"ownerReferences": listed} if listed else {}), **meta},
    }


def config_map(name: str, **meta: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **meta}}


def test_dependents_go_with_their_owners_either_way(extension: Extension) -> None:
    cluster, api = extension.cluster, extension.api
    owner = cluster.create(config_map("owner"))
    api.post(path("default"), flunder("owned", owner)).ok()
    free = api.post(path("default"), flunder("free")).ok()
    references = flunder("unused", free)["metadata"]["ownerReferences"]
    cluster.create(config_map("dependent", ownerReferences=references))
    eventually(lambda: any(one["path"].endswith("/flunders") for one in extension.server.seen))
    cluster.delete("configmaps", "owner")
    eventually(lambda: api.get(path("default", "owned")).status == 404)
    assert api.get("/api/v1/namespaces/default/configmaps/dependent").status == 200
    api.delete(path("default", "free")).ok()
    eventually(lambda: api.get("/api/v1/namespaces/default/configmaps/dependent").status == 404)


def test_a_namespace_takes_its_flunders_along(extension: Extension) -> None:
    cluster, api = extension.cluster, extension.api
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "doomed"}})
    api.post(path("doomed"), flunder("held", finalizers=["example.com/hold"])).ok()
    api.post(path("doomed"), flunder("loose")).ok()
    api.delete("/api/v1/namespaces/doomed").ok()

    def conditions() -> dict[str, Any]:
        status = api.get("/api/v1/namespaces/doomed").ok()["status"]
        return {one["type"]: one for one in status.get("conditions") or ()}

    remaining = eventually(lambda: conditions().get("NamespaceContentRemaining"))
    assert f"flunders.{GROUP} has 1 resource instances" in remaining["message"]
    api.patch(path("doomed", "held"), '{"metadata": {"finalizers": null}}').ok()
    eventually(lambda: api.get("/api/v1/namespaces/doomed").status == 404)


def test_a_namespace_waits_for_servers_that_do_not_answer(extension: Extension) -> None:
    cluster, api = extension.cluster, extension.api
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "doomed"}})
    cluster.create(config_map("c"), "doomed")
    cluster.delete("services", "api", "wardle")
    extension.wait("ServiceNotFound")
    api.delete("/api/v1/namespaces/doomed").ok()

    def failure() -> Any:
        status = api.get("/api/v1/namespaces/doomed").ok()["status"]
        found = {one["type"]: one for one in status.get("conditions") or ()}
        failed = found.get("NamespaceDeletionDiscoveryFailure") or {}
        return failed if failed.get("status") == "True" else None

    found = eventually(failure)
    assert found["reason"] == "DiscoveryFailed"
    assert f"{GROUP}/{VERSION}: stale GroupVersion discovery" in found["message"]
    eventually(lambda: api.get("/api/v1/namespaces/doomed/configmaps/c").status == 404)
    cluster.delete("apiservices", f"{VERSION}.{GROUP}")
    eventually(lambda: api.get("/api/v1/namespaces/doomed").status == 404)
