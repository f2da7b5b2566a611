"""NamespaceLifecycle: no content in namespaces that don't exist or are going, and some namespaces never go."""

from __future__ import annotations

from proa.apiserver.admission.base import Plugin, name_of_request, refusal
from proa.apiserver.contracts import AdmissionRequest
from proa.apiserver.live import Live
from proa.client.resources import NAMESPACES
from proa.meta.errors import not_found
from proa.meta.objects import metadata

_IMMORTAL = ("default", "kube-system", "kube-public")


class NamespaceLifecycle(Plugin):
    name = "NamespaceLifecycle"

    def __init__(self, live: Live) -> None:
        self._live = live

    async def mutate(self, request: AdmissionRequest) -> None:
        resource = request.resource
        if resource.plural == "namespaces" and not resource.group:
            if request.operation == "DELETE" and request.name in _IMMORTAL:
                raise refusal(request, "this namespace may not be deleted")
            return
        if not request.namespace or not resource.namespaced or request.operation not in ("CREATE", "UPDATE"):
            return
        if (resource.group, resource.plural) == ("authorization.k8s.io", "localsubjectaccessreviews"):
            return  # it stores nothing, and may ask about a namespace that is not there
        namespace = self._live.get(NAMESPACES, request.namespace)
        if namespace is None:
            raise not_found(NAMESPACES, request.namespace)
        if request.operation == "CREATE" and metadata(namespace).get("deletionTimestamp"):
            why = f"unable to create new content in namespace {request.namespace} because it is being terminated"
            error = refusal(request, why)
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {request.namespace} is being terminated",
                "field": "metadata.namespace",
            }
            error.details = {"name": name_of_request(request), **(error.details or {}), "causes": [cause]}
            raise error
