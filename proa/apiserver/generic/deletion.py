"""Deletion: preconditions, grace, propagation policies as finalizers, and deletion of collections.

Follows upstream's registry (`Store.Delete`, `BeforeDelete`): an object goes at once unless its resource grants grace
or finalizers hold it; then it gets a deletionTimestamp, and goes with the update that removes the last reason to stay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from proa.apis.registry import ResourceDef
from proa.apiserver.generic.selection import ListQuery, Selection
from proa.apiserver.generic.shared import Call, ended
from proa.apiserver.generic.store import GenericStore, Listing, Written
from proa.apiserver.requestinfo import integer
from proa.meta.errors import (
    FieldError,
    StatusError,
    conflict,
    forbidden,
    invalid,
    invalid_field,
    not_found,
    unsupported_field,
)
from proa.meta.gvk import GVK, GVR
from proa.meta.metadata import FOREGROUND, ORPHAN
from proa.meta.objects import Obj, copy_object
from proa.storage.interface import Conflict, Entry
from proa.util.clock import parse_rfc3339, rfc3339

_OPTIONS = GVK("meta.k8s.io", "", "DeleteOptions")
_POLICIES = ("Foreground", "Background", "Orphan")
# Resources whose deletion answers with the object that went, not with a Status.
_ANSWERS_WITH_OBJECT = {
    "": {
        "persistentvolumeclaims",
        "persistentvolumes",
        "pods",
        "podtemplates",
        "resourcequotas",
        "serviceaccounts",
        "services",
    },
    "storage.k8s.io": {
        "csidrivers",
        "csinodes",
        "csistoragecapacities",
        "storageclasses",
        "volumeattachments",
        "volumeattributesclasses",
    },
}
_ATTEMPTS = 50
_COLLECTION_WORKERS = 16


@dataclass(frozen=True, slots=True)
class DeleteRequest:
    """What a deletion asks for; `propagation` is None if it leaves that to the resource."""

    grace_seconds: int | None = None
    propagation: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    # The caller said orphanDependents=false, and expects 202 while the object waits.
    cascading: bool = False


def delete_request(body: Any, parameters: Mapping[str, str]) -> DeleteRequest:
    """Reads DeleteOptions from the body, or from the query if there is none; raises StatusErrors 400 and 422."""
    options: Obj = body if isinstance(body, dict) and body else _from_query(parameters)
    orphan, policy = options.get("orphanDependents"), options.get("propagationPolicy")
    errors: list[FieldError] = []
    if orphan is not None and policy is not None:
        text = "orphanDependents and deletionPropagation cannot be both set"
        errors.append(invalid_field("propagationPolicy", policy, text))
    if policy is not None and policy not in _POLICIES:
        errors.append(unsupported_field("propagationPolicy", policy, [*_POLICIES, "nil"]))
    if errors:
        raise invalid(_OPTIONS, "", errors)
    if orphan is not None:
        policy = "Orphan" if orphan else "Background"
    grace = options.get("gracePeriodSeconds")
    if grace is not None and grace < 0:
        grace = 1
    preconditions = options.get("preconditions") or {}
    return DeleteRequest(
        grace,
        policy,
        preconditions.get("uid"),
        preconditions.get("resourceVersion"),
        cascading=orphan is False,
    )


def _from_query(parameters: Mapping[str, str]) -> Obj:
    options: Obj = {}
    if parameters.get("gracePeriodSeconds"):
        options["gracePeriodSeconds"] = integer(parameters["gracePeriodSeconds"])
    if parameters.get("propagationPolicy"):
        options["propagationPolicy"] = parameters["propagationPolicy"]
    if parameters.get("orphanDependents"):
        options["orphanDependents"] = parameters["orphanDependents"] in ("true", "1")
    return options


def _options(asked: DeleteRequest) -> Obj:
    """Returns the DeleteOptions that a deletion stands for, as admission shows them."""
    options: Obj = {"gracePeriodSeconds": asked.grace_seconds, "propagationPolicy": asked.propagation}
    preconditions = {"uid": asked.uid, "resourceVersion": asked.resource_version}
    options["preconditions"] = {key: value for key, value in preconditions.items() if value is not None} or None
    return {key: value for key, value in options.items() if value is not None}


def answers_with_object(resource: ResourceDef) -> bool:
    """Tells whether a deletion that is done answers with the object."""
    return resource.plural in _ANSWERS_WITH_OBJECT.get(resource.group, ())


async def delete(store: GenericStore, call: Call, asked: DeleteRequest) -> Written:
    """Deletes an object or begins to; `deleted` in the outcome tells which. Raises StatusErrors 404 and 409."""
    shared, resource = store.shared, store.resource
    key = store.key(call.namespace, call.name)
    admitted = call.admitted
    for _ in range(_ATTEMPTS):
        entry = shared.store.current(key)
        if entry is None:
            raise not_found(resource.gvr, call.name)
        entry = await store.shown(entry)
        old = store.view(entry)
        _check(store, call, asked, old, entry)
        refusal = resource.strategy.deletion_refusal(old)
        if refusal:
            raise forbidden(resource.gvr, call.name, refusal)
        if not admitted:
            admission = store._admission(call, "DELETE", None, old)
            admission.deletion = _options(asked)
            await shared.admission.mutate(admission)
            await shared.admission.validate(admission)
            admitted = True
        plan = _plan(store, asked, old)
        if call.dry_run:
            return Written(plan.obj or old, None, deleted=plan.remove)
        try:
            if plan.obj is not None:
                entry = await store._write(key, plan.obj, entry.revision)
            if plan.remove:
                return await _remove(store, call, key, entry)
            return Written(store.view(entry), entry)
        except Conflict:
            continue
    raise conflict(resource.gvr, call.name, "the object changes too often")


def _check(store: GenericStore, call: Call, asked: DeleteRequest, old: Obj, entry: Entry) -> None:
    meta = old["metadata"]
    # Upstream names the kind here, where other conflicts name the resource.
    kind = GVR(store.resource.group, store.resource.version, store.resource.kind)
    if asked.uid is not None and asked.uid != meta.get("uid"):
        why = (
            f"the UID in the precondition ({asked.uid}) does not match the UID in record ({meta.get('uid')}). "
            "The object might have been deleted and then recreated"
        )
        raise conflict(kind, call.name, why)
    if asked.resource_version is not None and asked.resource_version != str(entry.revision):
        why = (
            f"the ResourceVersion in the precondition ({asked.resource_version}) does not match the ResourceVersion "
            f"in record ({entry.revision}). The object might have been modified"
        )
        raise conflict(kind, call.name, why)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a deletion does: writes `obj` if there is one, then removes the object if `remove`."""

    obj: Obj | None
    remove: bool


def _plan(store: GenericStore, asked: DeleteRequest, old: Obj) -> _Plan:
    meta = old["metadata"]
    now = store.shared.clock.now()
    if store.is_namespaces:
        return _namespace_plan(asked, old, rfc3339(now), _finalizers(store, asked, old))
    obj: Obj = copy_object(old)
    marked = obj["metadata"]
    grace: int | None = None
    if meta.get("deletionTimestamp"):
        remaining = meta.get("deletionGracePeriodSeconds") or 0
        if remaining:
            # Its grace is running, and may only become shorter.
            grace = store.resource.strategy.grace_seconds(old, asked.grace_seconds)
            if asked.grace_seconds is None or grace is None or grace >= remaining:
                return _Plan(None, False)
            began = parse_rfc3339(meta["deletionTimestamp"]) - timedelta(seconds=remaining)
            marked["deletionTimestamp"] = rfc3339(began + timedelta(seconds=grace))
            marked["deletionGracePeriodSeconds"] = grace
    else:
        grace = store.resource.strategy.grace_seconds(old, asked.grace_seconds)
        if grace is not None:
            _mark(marked, rfc3339(now + timedelta(seconds=grace)), grace)
    finalizers = _finalizers(store, asked, old)
    if finalizers:
        marked["finalizers"] = finalizers
        if grace is None and not marked.get("deletionTimestamp"):
            _mark(marked, rfc3339(now), 0)
    else:
        marked.pop("finalizers", None)
    if grace is None and not finalizers:
        return _Plan(None, True)
    return _Plan(None if obj == old else obj, not finalizers and not grace)


def _mark(meta: Obj, moment: str, grace: int) -> None:
    meta["deletionTimestamp"], meta["deletionGracePeriodSeconds"] = moment, grace
    if meta.get("generation"):
        meta["generation"] += 1


def _namespace_plan(asked: DeleteRequest, old: Obj, now: str, finalizers: list[str]) -> _Plan:
    """A namespace goes when its spec's finalizers are gone; until then it is terminating."""
    if not (old.get("spec") or {}).get("finalizers") and not finalizers:
        return _Plan(None, True)
    if old["metadata"].get("deletionTimestamp"):
        return _Plan(None, False)
    obj: Obj = copy_object(old)
    obj["metadata"]["deletionTimestamp"] = now
    if finalizers:
        obj["metadata"]["finalizers"] = finalizers
    obj.setdefault("status", {})["phase"] = "Terminating"
    return _Plan(obj, False)


def _finalizers(store: GenericStore, asked: DeleteRequest, old: Obj) -> list[str]:
    """Returns the finalizers as the propagation policy wants them; without one, those already there decide."""
    existing: list[str] = list(old["metadata"].get("finalizers") or ())
    if not old["metadata"].get("deletionTimestamp"):
        existing += [one for one in store.resource.strategy.deletion_finalizers if one not in existing]
    policy = asked.propagation
    if policy is None:
        if ORPHAN in existing or FOREGROUND in existing:
            return existing
        policy = store.resource.strategy.default_propagation(old)
    kept = [one for one in existing if one not in (ORPHAN, FOREGROUND)]
    added = {"Orphan": [ORPHAN], "Foreground": [FOREGROUND]}.get(policy, [])
    if added and added[0] in existing:
        return [one for one in existing if one in (*added, *kept)]
    return kept + added


async def _remove(store: GenericStore, call: Call, key: str, entry: Entry) -> Written:
    old = store.view(entry)
    reservation = await store._begin(call, None, old)
    ok = False
    try:
        gone = await store.shared.store.write(key, None, expected=entry.revision)
        ok = True
        if store.forms is not None:
            gone = entry.restamped(gone.revision)
        return Written(store.view(gone), gone, deleted=True)
    finally:
        await ended(reservation, ok)


async def delete_collection(
    store: GenericStore, call: Call, chosen: Selection, query: ListQuery, asked: DeleteRequest
) -> Listing:
    """Deletes every selected object (of a page, if the query says so); returns them as they were.

    Objects that are gone already are no error. Raises StatusErrors.
    """
    listing = await store.list(call.namespace, chosen, query)
    waiting = iter(listing.entries)

    async def work() -> None:
        for entry in waiting:
            meta = store.view(entry)["metadata"]
            one = Call(
                user=call.user,
                namespace=meta.get("namespace", ""),
                name=meta["name"],
                parameters=call.parameters,
                dry_run=call.dry_run,
                field_manager=call.field_manager,
                warnings=call.warnings,
            )
            try:
                await delete(store, one, asked)
            except StatusError as error:
                if error.code != 404:
                    raise

    await asyncio.gather(*(work() for _ in range(min(_COLLECTION_WORKERS, len(listing.entries)))))
    return listing
