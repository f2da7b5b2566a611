"""Deletes everything in a namespace that is being deleted, pods first, and then lets it go."""

from __future__ import annotations

from proa.client.resources import APISERVICES, CUSTOMRESOURCEDEFINITIONS, NAMESPACES, PODS
from proa.controllers.discovery import AggregatedKinds, Kind, Kinds
from proa.controllers.namespace.plan import FINALIZER, Remains, conditions
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, is_deleted, name_of

_RECHECK_SECONDS_FIRST = 0.05
_RECHECK_SECONDS_MAX = 5.0


class NamespaceController(Controller):
    name = "namespace-controller"
    workers = 10

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._namespaces = self.watch(NAMESPACES, lambda obj: (name_of(obj),) if is_deleted(obj) else ())
        self._kinds = Kinds(self.need(CUSTOMRESOURCEDEFINITIONS))
        self._aggregated = AggregatedKinds(self.need(APISERVICES), self.client)
        self._rounds: dict[str, int] = {}

    async def reconcile(self, key: str) -> Result | None:
        namespace = self._namespaces.get(key)
        finalizers = ((namespace or {}).get("spec") or {}).get("finalizers") or []
        if namespace is None or not is_deleted(namespace) or FINALIZER not in finalizers:
            self._rounds.pop(key, None)
            return None
        remains = await self._empty(key)
        namespace = await self._write_conditions(namespace, remains)
        if remains.empty:
            self._rounds.pop(key, None)
            kept = [one for one in finalizers if one != FINALIZER]
            finalized = {**namespace, "spec": {**namespace["spec"], "finalizers": kept}}
            await ignore_absent(self.client.update(NAMESPACES, finalized, subresource="finalize"))
            return None
        rounds = self._rounds[key] = self._rounds.get(key, 0) + 1
        return Result(min(_RECHECK_SECONDS_FIRST * 2 ** min(rounds, 20), _RECHECK_SECONDS_MAX))

    async def _write_conditions(self, namespace: Obj, remains: Remains) -> Obj:
        changed = conditions(namespace, remains, self.clock.now())
        if changed is None:
            return namespace
        status = {**(namespace.get("status") or {}), "conditions": changed}
        return await self.client.update(NAMESPACES, {**namespace, "status": status}, subresource="status")

    async def _empty(self, namespace: str) -> Remains:
        """Asks for the deletion of all content; returns what is still there. Nothing else goes before the pods."""
        aggregated, undiscovered = await self._aggregated.discover()
        kinds = [*self._kinds.with_verbs("list", "delete"), *(one for one in aggregated if one.can("list", "delete"))]
        kinds = [kind for kind in kinds if kind.namespaced]
        remains = Remains(undiscovered=undiscovered)
        pods = [kind for kind in kinds if kind.resource == PODS]
        others = [kind for kind in kinds if kind.resource != PODS]
        for group in (pods, others):
            for kind in group:
                await self._empty_kind(namespace, kind, remains)
            if (remains.objects or remains.errors) and group is pods:
                break
        return remains

    async def _empty_kind(self, namespace: str, kind: Kind, remains: Remains) -> None:
        try:
            found = (await self.client.list(kind.resource, namespace)).items
            if not found:
                return
            if "deletecollection" in kind.verbs:
                await self.client.delete_collection(kind.resource, namespace)
            else:
                for item in found:
                    await ignore_absent(self.client.delete(kind.resource, name_of(item), namespace))
            remains.count(kind.resource, (await self.client.list(kind.resource, namespace)).items)
        except StatusError as error:
            if error.code not in (404, 405):
                remains.errors.append(f"{kind.resource.group_resource}: {error.message}")
