"""An extension API server beside an in-process cluster, in a thread: `Extension` registers it as an add-on would."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from proa.cluster.pki import SERVER, Leaf, Pki
from proa.testing import Cluster
from tests.cluster.conformance.conftest import Api
from tests.cluster.waiting import eventually
from tests.support.extension_server import GROUP, VERSION, ExtensionServer
from tests.support.extension_server import Api as DelegatedApi

NAMESPACE, SERVICE = "wardle", "api"
BASE = f"/apis/{GROUP}/{VERSION}"
NAME = f"{VERSION}.{GROUP}"


def rights(account: str, namespace: str) -> list[dict[str, Any]]:
    """Returns the objects that let an account delegate authorization and read whom to trust."""
    subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    group = "rbac.authorization.k8s.io"
    return [
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": f"{namespace}:auth-delegator"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "system:auth-delegator"},
            "subjects": [subject],
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": f"{namespace}-auth-reader", "namespace": "kube-system"},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "extension-apiserver-authentication-reader"},
            "subjects": [subject],
        },
    ]


def api_service(namespace: str, service: str, port: int, bundle: bytes) -> dict[str, Any]:
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": NAME},
        "spec": {
            "group": GROUP,
            "version": VERSION,
            "groupPriorityMinimum": 2000,
            "versionPriority": 200,
            "caBundle": base64.b64encode(bundle).decode(),
            "service": {"namespace": namespace, "name": service, "port": port},
        },
    }


def certificates(folder: Path, host: str) -> Pki:
    """Makes an authority and a certificate for a host: `pki.certificate("ca")`, and the pair named `extension`."""
    pki = Pki(folder)
    pki.ensure([Leaf(path="extension", common_name=host, names=[host], usages=SERVER)], datetime.now(UTC))
    return pki


class Extension:
    """A running extension server and the cluster that it extends. `api` is a raw client of the cluster."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        assert cluster.kubeconfig is not None
        self.cluster = cluster
        self.api = Api(cluster.kubeconfig)
        self.pki = certificates(folder, f"{SERVICE}.{NAMESPACE}.svc")
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        cluster.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "extension"}}, NAMESPACE)
        for one in rights("extension", NAMESPACE):
            cluster.create(one)
        token = self.api.post(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/extension/token", {"spec": {}}).ok()
        authority = cluster.kubeconfig.with_name("ca.crt").read_text()
        delegated = DelegatedApi(f"{self.api.host}:{self.api.port}", authority, token["status"]["token"])
        pair = self.pki.certificate("extension"), self.pki.key("extension")
        self.server = ExtensionServer(("127.0.0.1", 0), delegated, *pair)
        self.port: int = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def register(self, *, bundle: bytes | None = None) -> None:
        """Makes service and APIService."""
        spec = {"type": "ExternalName", "externalName": "localhost"}
        meta = {"name": SERVICE, "namespace": NAMESPACE}
        self.cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec})
        authority = self.pki.certificate("ca").read_bytes() if bundle is None else bundle
        self.cluster.create(api_service(NAMESPACE, SERVICE, self.port, authority))

    def condition(self) -> dict[str, Any]:
        """Returns the APIService's condition Available, empty if it has none yet."""
        status = self.cluster.get("apiservices", NAME).get("status") or {}
        found = [one for one in status.get("conditions") or () if one["type"] == "Available"]
        return found[0] if found else {}

    def wait(self, reason: str) -> None:
        """Waits for a reason of the condition, and until requests are served by it."""
        eventually(lambda: self.condition().get("reason") == reason)
        available = self.condition()["status"] == "True"
        remotes = self.cluster.server.aggregator.remotes
        eventually(lambda: all(one.available == available for one in remotes()))

    def close(self) -> None:
        self.server.gone = True
        self.server.slow.set()
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def extended_cluster(folder: Path, **options: Any) -> Iterator[Extension]:
    """A cluster with an extension server that is not registered yet."""
    with Cluster(https=True, nodes=0, **options) as cluster:
        extension = Extension(cluster, folder)
        try:
            yield extension
        finally:
            extension.close()
