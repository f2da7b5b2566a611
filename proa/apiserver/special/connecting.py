"""Admission of connections: exec, attach, port-forward and proxies are asked about as CONNECT, with their options."""

from __future__ import annotations

from proa.apiserver.api import Core
from proa.apiserver.contracts import AdmissionRequest
from proa.apiserver.server import HttpCall
from proa.meta.errors import not_found
from proa.meta.gvk import GVK
from proa.meta.objects import Obj


class Connections:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def admit(self, call: HttpCall, kind: str, options: Obj) -> Obj:
        """Returns a connection's options as admission leaves them; raises the StatusError that refuses it.

        `kind` is that of the options, such as PodExecOptions; those that say nothing are left out.
        """
        info = call.info
        assert info.resource is not None
        resource = self._core.resources.find(info.resource)
        if resource is None:
            raise not_found(info.resource, info.name)
        asked: Obj = {"kind": kind, "apiVersion": "v1", **{key: one for key, one in options.items() if one}}
        request = AdmissionRequest(
            user=call.user,
            operation="CONNECT",
            resource=resource,
            subresource=info.subresource,
            namespace=info.namespace,
            name=info.name,
            obj=asked,
            old=None,
            options=info.parameters,
            warnings=call.warnings,
            annotations=call.annotations,
            kind=GVK("", "v1", kind),
        )
        await self._core.shared.admission.mutate(request)
        await self._core.shared.admission.validate(request)
        return asked
