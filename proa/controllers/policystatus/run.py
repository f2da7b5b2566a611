"""Keeps the status of validating admission policies: which generation was type checked, with what warnings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proa.apis.all import BY_GVR, RESOURCES
from proa.client.interface import MERGE_PATCH
from proa.client.resources import CUSTOMRESOURCEDEFINITIONS, VALIDATINGADMISSIONPOLICIES
from proa.controllers.runtime import Context, Controller, Result
from proa.meta.gvk import GVK, GVR
from proa.meta.objects import Obj, name_of

if TYPE_CHECKING:
    from proa.meta.cel.types import Type


class PolicyStatusController(Controller):
    name = "validatingadmissionpolicy-status-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._policies = self.need(VALIDATINGADMISSIONPOLICIES)
        self._policies.add_handler(self._changed)
        self._definitions = self.need(CUSTOMRESOURCEDEFINITIONS)

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        if new is not None:
            self.queue.add(name_of(new))

    async def reconcile(self, key: str) -> Result | None:
        policy = self._policies.get(key)
        if policy is None:
            return None
        from proa.controllers.policystatus.plan import status  # only where there is a policy

        wanted = status(policy, self._kind_of, self._type_of)
        if wanted is not None:
            patch = {"status": wanted}
            await self.client.patch(
                VALIDATINGADMISSIONPOLICIES, key, patch, patch_type=MERGE_PATCH, subresource="status"
            )
        return None

    def _kind_of(self, resource: GVR) -> GVK | None:
        builtin = BY_GVR.get(resource)
        if builtin is not None:
            return builtin.gvk
        specs = (one["spec"] for one in self._definitions.objects())
        names = (one["names"] for one in specs if one["group"] == resource.group)
        kind = next((one["kind"] for one in names if one["plural"] == resource.resource), "")
        return GVK(resource.group, resource.version, kind) if kind else None

    def _type_of(self, kind: GVK) -> Type | None:
        from proa.meta.cel.schemas import definition_type, schema_type
        from proa.meta.cel.types import Type

        builtin = next((one for one in RESOURCES if one.gvk == kind), None)
        if builtin is not None:
            return definition_type(builtin.schema)
        schema = self._schema(kind)
        own = schema_type(schema, kind.kind, resource=True) if schema is not None else None
        if own is None or own.fields is None:
            return own
        fields, meta = own.fields, definition_type("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
        return Type(kind.kind, (), lambda name: (name, meta) if name == "metadata" else fields(name))

    def _schema(self, kind: GVK) -> Obj | None:
        """Returns the schema of a custom resource in one version."""
        for one in self._definitions.objects():
            spec = one["spec"]
            if (spec["group"], spec["names"]["kind"]) == (kind.group, kind.kind):
                versions = (version for version in spec.get("versions") or () if version["name"] == kind.version)
                found: Obj | None = next(((one.get("schema") or {}).get("openAPIV3Schema") for one in versions), None)
                return found
        return None
