"""One API server of ours behind another: what is asked of the first is answered by the second, as the same user."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proa.apiserver.app import ApiServer, Options
from proa.apiserver.authn.frontproxy import FrontProxy
from proa.client.interface import UserInfo
from proa.client.local import LocalClient
from proa.cluster.pki import SERVER, Leaf, Pki
from proa.meta.gvk import GVR
from proa.testing import Cluster
from proa.wire.tls import server_context
from tests.cluster.conformance.conftest import Api
from tests.cluster.waiting import eventually
from tests.support.extension import api_service

GROUP = "wardle.example.com"
BASE = f"/apis/{GROUP}/v1alpha1"
DEFINITIONS = GVR("apiextensions.k8s.io", "v1", "customresourcedefinitions")


def definition() -> dict[str, Any]:
    spec = {"type": "object", "properties": {"size": {"type": "integer", "description": "how large it is"}}}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": schema, "subresources": {"status": {}}}
    names = {"plural": "flunders", "singular": "flunder", "kind": "Flunder"}
    return {
        "metadata": {"name": f"flunders.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("second")
    with Cluster(https=True, nodes=0, controllers=False) as cluster:
        assert cluster.kubeconfig is not None
        front = cluster.kubeconfig.with_name("front-proxy-ca.crt")
        proxy = FrontProxy(authorities=[front.read_bytes()], names=["front-proxy-client"])
        second = cluster.run(_second(cluster, folder, front, proxy))
        bundle = (folder / "pki" / "ca.crt").read_bytes()
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "w"}})
        external = {"type": "ExternalName", "externalName": "localhost"}
        meta = {"name": "second", "namespace": "w"}
        cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": external})
        cluster.create(api_service("w", "second", second.port, bundle))
        made = Api(cluster.kubeconfig)
        eventually(lambda: made.get(f"{BASE}/flunders").status == 200)
        yield made
        cluster.run(second.stop())


async def _second(cluster: Cluster, folder: Path, front: Path, proxy: FrontProxy) -> ApiServer:
    """Starts a second server that believes the first one's front proxy, and serves flunders."""
    pki = Pki(folder)
    pki.ensure([Leaf(path="second", common_name="second", names=["second.w.svc"], usages=SERVER)])
    context = server_context(pki.certificate("second"), pki.key("second"), front)
    server = ApiServer(Options(ssl_context=context, front_proxy=proxy), cluster.clock)
    await server.start()
    client = LocalClient(server.api, UserInfo("u", ("system:masters",)))
    await client.create(DEFINITIONS, definition())
    return server


def flunder(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": f"{GROUP}/v1alpha1", "kind": "Flunder", "metadata": {"name": name}, "spec": spec}


def test_every_kind_of_request_goes_through(api: Api) -> None:
    path = f"{BASE}/namespaces/default/flunders"
    made = api.post(path, flunder("a", size=1)).ok()
    assert made["metadata"]["managedFields"]
    warned = api.post(f"{path}?fieldValidation=Warn", flunder("b", unknown=1))
    assert warned.status == 201
    assert "unknown field" in warned.headers["warning"]
    api.post(path, flunder("c", size="large")).failed(422, "Invalid")
    applied = json.dumps(flunder("a", size=2))
    done = api.patch(f"{path}/a?fieldManager=me&force=true", applied, "application/apply-patch+yaml").ok()
    assert done["spec"] == {"size": 2}
    status = api.patch(f"{path}/a/status", json.dumps({"status": {"x": 1}}))
    assert status.status == 200
    page = api.get(f"{path}?limit=1").ok()
    assert page["metadata"]["remainingItemCount"] == 1
    rest = api.get(f"{path}?limit=1&continue={page['metadata']['continue']}").ok()
    assert [one["metadata"]["name"] for one in rest["items"]] == ["b"]
    table = api.get(path, headers={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}).ok()
    assert [row["cells"][0] for row in table["rows"]] == ["a", "b"]
    api.delete(path).ok()
    assert api.get(path).ok()["items"] == []


def test_watches_with_initial_events_and_bookmarks(api: Api) -> None:
    path = f"{BASE}/namespaces/default/flunders"
    api.post(path, flunder("w")).ok()
    query = "allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    with api.watch(f"{path}?{query}") as events:
        assert next(events)["object"]["metadata"]["name"] == "w"
        assert next(events)["type"] == "BOOKMARK"
        api.delete(f"{path}/w").ok()
        assert next(events)["type"] == "DELETED"
    with api.watch(f"{path}?resourceVersion=1") as events:
        assert next(events)["type"] in ("ADDED", "ERROR")


def test_its_openapi_is_found_by_its_own_hash(api: Api) -> None:
    name = f"apis/{GROUP}/v1alpha1"
    url = json.loads(api.get("/openapi/v3").ok())["paths"][name]["serverRelativeURL"]
    third = api.get(url)
    schemas = third.ok()["components"]["schemas"]
    (found,) = [one for key, one in schemas.items() if key.endswith("v1alpha1.Flunder")]
    assert found["properties"]["spec"]["properties"]["size"]["description"] == "how large it is"
    assert third.headers["cache-control"] == "public, immutable"
    second = api.get("/openapi/v2").ok()
    assert f"{BASE}/namespaces/{{namespace}}/flunders" in second["paths"]
    # Both servers mean the same by what they share, so nothing had to be renamed.
    assert not [one for one in second["definitions"] if one.endswith("_v2")]


def test_an_identity_is_the_same_on_both(api: Api) -> None:
    nobody = {"Impersonate-User": "jane", "Impersonate-Group": "painters"}
    refused = api.get(f"{BASE}/namespaces/default/flunders", headers=nobody).failed(403, "Forbidden")
    assert 'User "jane" cannot list resource "flunders"' in refused["message"]
