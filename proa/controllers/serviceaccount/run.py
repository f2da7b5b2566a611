"""Makes the default service account and the root CA's config map in every namespace, again if they are deleted."""

from __future__ import annotations

from proa.client.resources import CONFIGMAPS, NAMESPACES, SERVICEACCOUNTS
from proa.controllers.runtime import Context, Controller, Result
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, is_deleted, name_of, namespace_of

CA_NAME = "kube-root-ca.crt"
_CA_DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


class ServiceAccountController(Controller):
    name = "service-account-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._namespaces = self.watch(NAMESPACES, lambda obj: (name_of(obj),), relevant=is_deleted)
        self._accounts = self.watch(
            SERVICEACCOUNTS, lambda obj: (namespace_of(obj),) if name_of(obj) == "default" else ()
        )

    async def reconcile(self, key: str) -> Result | None:
        namespace = self._namespaces.get(key)
        if namespace is None or is_deleted(namespace) or self._accounts.get("default", key) is not None:
            return None
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": key}}
        await _create_once(self, SERVICEACCOUNTS, account, key)
        return None


class RootCaController(Controller):
    name = "root-ca-cert-publisher"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._namespaces = self.watch(NAMESPACES, lambda obj: (name_of(obj),), relevant=is_deleted)
        self._maps = self.watch(CONFIGMAPS, lambda obj: (namespace_of(obj),) if name_of(obj) == CA_NAME else ())
        self._data = {"ca.crt": context.options.root_ca}

    async def reconcile(self, key: str) -> Result | None:
        namespace = self._namespaces.get(key)
        if namespace is None or is_deleted(namespace):
            return None
        current = self._maps.get(CA_NAME, key)
        annotations = {"kubernetes.io/description": _CA_DESCRIPTION}
        if current is None:
            meta = {"name": CA_NAME, "namespace": key, "annotations": annotations}
            made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": self._data}
            await _create_once(self, CONFIGMAPS, made, key)
        elif current.get("data") != self._data or current["metadata"].get("annotations") != annotations:
            meta = {**current["metadata"], "annotations": annotations}
            await self.client.update(CONFIGMAPS, {**current, "metadata": meta, "data": self._data})
        return None


async def _create_once(controller: Controller, resource: GVR, obj: Obj, namespace: str) -> None:
    try:
        await controller.client.create(resource, obj, namespace)
    except StatusError as error:
        if error.reason != "AlreadyExists" and error.code != 404:
            raise
