"""One resource's storage: get, list, create, update. Deletion is in `deletion`, watch in `watching`.

Order of a create follows upstream's registry: default, mutate (admission), prepare, begin (allocation), validate, admit
(validating), store; an update judges the resourceVersion after mutation, and a write without one is tried again on
whatever is current then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from proa.apis.registry import Requestor, ResourceDef, StatusStrategy, Subresource
from proa.apiserver.contracts import AdmissionRequest
from proa.apiserver.encoding import Decoded, decode, to_value, type_prefix
from proa.apiserver.generic.forms import Forms
from proa.apiserver.generic.selection import (
    ANY_REVISION,
    Continuation,
    ListQuery,
    Selection,
    stated_revision,
    too_large,
)
from proa.apiserver.generic.shared import Call, Produce, Shared, ended
from proa.client.interface import UserInfo
from proa.meta import metadata
from proa.meta.errors import (
    MODIFIED,
    FieldError,
    StatusError,
    already_exists,
    bad_request,
    conflict,
    gone,
    invalid,
    invalid_field,
    not_found,
    raise_if,
)
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, copy_for_change, copy_object
from proa.storage.interface import Compacted, Conflict, Entry
from proa.util.clock import rfc3339

Errors = list[FieldError]  # within the class, `list` is a method

_GENERATE_ATTEMPTS = 8
_OTHER_SERVERS = ("apiextensions.k8s.io", "apiregistration.k8s.io")
_UPDATE_ATTEMPTS = 50
OBJECT_BYTES_MAX = 3 << 19  # what etcd takes in one request, so that an object fits into every store
_FUTURE_SECONDS = 3.0
_FUTURE_STEP_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Listing:
    """Part of a list: `token` goes on where it ends; `remaining` is unknown (None) when something selects."""

    entries: Sequence[Entry]
    revision: int
    token: str = ""
    remaining: int | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """A write's outcome. `entry` is None for a dry run; `created` for a PUT that made the object; `deleted` for an
    update that took away the last finalizer of an object being deleted."""

    obj: Obj
    entry: Entry | None
    created: bool = False
    deleted: bool = False


class GenericStore:
    """Storage of one resource in one version.

    Every entry that it hands out is in that version: of custom resources `forms` makes them so.
    """

    def __init__(self, resource: ResourceDef, shared: Shared) -> None:
        self.resource = resource
        self.shared = shared
        self.table = resource.storage.replace("/", ".") + "/"
        self.custom = resource.custom
        # Upstream's servers of extensions and of aggregated APIs check metadata as for custom resources.
        self.strict_finalizers = not resource.custom and resource.group not in _OTHER_SERVERS
        self.forms = Forms(resource.form, shared.convert) if resource.form is not None else None
        # Revisions are decoded once for all versions, unless their entries differ.
        self.decoded = Decoded(64) if self.forms is not None else shared.decoded
        self.type_prefix = type_prefix(resource)
        self.is_namespaces = (resource.group, resource.plural) == ("", "namespaces")

    # ------------------------------------------------------------ reading

    def key(self, namespace: str, name: str) -> str:
        return f"{self.table}{namespace}/{name}" if self.resource.namespaced else self.table + name

    def prefix(self, namespace: str) -> str:
        return f"{self.table}{namespace}/" if namespace and self.resource.namespaced else self.table

    def view(self, entry: Entry, *, keep: bool = False) -> Obj:
        """Returns the entry's object in this version; shared, so nobody may change it."""
        obj = self.decoded.get(entry) if keep else self.decoded.peek(entry)
        convert = self.resource.from_stored
        return convert(obj) if convert else obj

    async def shown(self, entry: Entry) -> Entry:
        """Returns a stored entry as this version shows it; raises the 500 StatusError of a conversion that fails."""
        return entry if self.forms is None else await self.forms.show_one(entry)

    async def get(self, namespace: str, name: str, version: str = "") -> Entry:
        """Returns the entry, not older than `version`; raises StatusErrors 400, 404, 504."""
        if version and version != "0":
            await self.reach(stated_revision(version))
        entry = self.shared.store.current(self.key(namespace, name))
        if entry is None:
            raise not_found(self.resource.gvr, name)
        return entry if self.forms is None else await self.forms.show_one(entry)

    async def reach(self, revision: int) -> None:
        """Waits a little for a revision that lies ahead; raises the 504 StatusError."""
        store = self.shared.store
        left = _FUTURE_SECONDS
        while store.revision < revision:
            if left <= 0 or revision - store.revision > 1 << 40:
                raise too_large(revision, store.revision)
            await asyncio.sleep(_FUTURE_STEP_SECONDS)
            left -= _FUTURE_STEP_SECONDS

    async def list(self, namespace: str, chosen: Selection, query: ListQuery) -> Listing:
        """Returns the selected entries; raises StatusErrors 410 and 504."""
        store = self.shared.store
        if query.revision is not None and query.revision > store.revision:
            await self.reach(query.revision)
        at = query.revision if query.exact else None
        prefix = self.prefix(namespace)
        after = prefix + query.after if query.after else ""
        everything = chosen.everything
        try:
            page = await store.list(prefix, after=after, limit=query.limit if everything else 0, revision=at)
        except Compacted:
            raise expired(query) from None
        entries, remaining = page.entries, page.remaining
        if self.forms is not None:
            entries = await self.forms.show(entries)
        if not everything:
            entries, remaining = self._select(entries, chosen, query.limit)
        if not remaining:
            return Listing(entries, page.revision)
        token = Continuation(page.revision, entries[-1].key[len(prefix) :]).text()
        return Listing(entries, page.revision, token, remaining if everything else None)

    def _select(self, entries: Sequence[Entry], chosen: Selection, limit: int) -> tuple[Sequence[Entry], int]:
        """Returns the first matching entries and whether more follow (as a number)."""
        found: list[Entry] = []
        for entry in entries:
            if chosen.matches(entry, self.decoded):
                if limit and len(found) == limit:
                    return found, 1
                found.append(entry)
        return found, 0

    # ------------------------------------------------------------ creating

    async def create(self, call: Call, obj: Obj) -> Written:
        """Stores a new object, which becomes this method's own; raises StatusErrors."""
        meta = obj.setdefault("metadata", {})
        self._match_namespace(call, meta)
        self.resource.strategy.default(obj)
        generated = not meta.get("name") and bool(meta.get("generateName"))
        await self._manage_fields(call, obj, None, None)
        admission = self._admission(call, "CREATE", obj, None)
        await self.shared.admission.mutate(admission)
        for attempt in range(_GENERATE_ATTEMPTS):
            if generated and attempt:
                obj["metadata"].pop("name", None)
            try:
                return await self._create_once(call, obj, admission)
            except StatusError as error:
                if error.reason != "AlreadyExists" or not obj["metadata"].get("generateName"):
                    raise
                if not generated or attempt == _GENERATE_ATTEMPTS - 1:
                    raise _no_unique_name(error) from None
        raise AssertionError("unreachable")

    async def _create_once(self, call: Call, obj: Obj, admission: AdmissionRequest) -> Written:
        shared, resource, strategy = self.shared, self.resource, self.resource.strategy
        if obj["metadata"].get("resourceVersion") not in (None, "", "0"):
            raise StatusError(500, "", "resourceVersion should not be set on objects to be created")
        self._match_namespace(call, obj["metadata"])  # admission may have changed it
        call.warnings += metadata.drop_duplicate_owners(obj)
        meta = obj["metadata"]
        now = rfc3339(shared.clock.now())
        metadata.prepare_create(obj, now=now, uid=shared.uid(), suffix=self._suffix(meta))
        strategy.prepare_create(obj)
        strategy.default(obj)
        strategy.stamp(obj, None, now, _requestor(call.user))
        if strategy.generation:
            meta["generation"] = 1
        name = meta.get("name", "")
        reservation = await self._begin(call, obj, None)
        ok = False
        try:
            errors = metadata.validate_create(
                obj, resource.namespaced, strategy.validate_name, builtin=self.strict_finalizers
            ) + strategy.validate(obj)
            raise_if(self._stated_kind(obj), name, errors)
            call.warnings += strategy.warnings(obj, None)
            admission.name = call.name or name
            await shared.admission.validate(admission)
            key = self.key(meta.get("namespace", ""), name)
            if call.dry_run:
                if (existing := shared.store.current(key)) is not None:
                    raise self._exists(name, existing)
                return Written(obj, None, created=True)
            entry = await self._write(key, obj, 0)
            ok = True
            return Written(obj if self.forms is None else self.view(entry), entry, created=True)
        except Conflict as error:
            raise self._exists(name, error.current) from None
        finally:
            await ended(reservation, ok)

    def _stated_kind(self, obj: Obj) -> GVK:
        """Returns the kind that errors name: for a custom resource what it says it is, right or wrong."""
        kind = self.resource.gvk
        return kind._replace(kind=str(obj.get("kind") or kind.kind)) if self.custom else self.resource.stored_gvk

    def _suffix(self, meta: Obj) -> str:
        return self.shared.suffix() if meta.get("generateName") and not meta.get("name") else ""

    def _exists(self, name: str, entry: Entry | None) -> StatusError:
        error = already_exists(self.resource.gvr, name)
        if entry is not None and decode(entry.value)["metadata"].get("deletionTimestamp"):
            error.message = f"object is being deleted: {error.message}"
        return error

    def _match_namespace(self, call: Call, meta: Obj) -> None:
        if not self.resource.namespaced:
            if self.custom:
                meta.pop("namespace", None)
            if call.namespace:
                raise bad_request("namespace may not be set for a cluster-scoped resource")
            return
        stated = meta.get("namespace")
        if not stated:
            meta["namespace"] = call.namespace
        elif stated != call.namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")

    # ------------------------------------------------------------ updating

    async def update(
        self, call: Call, produce: Produce, *, sub: Subresource | None = None, create: bool = False
    ) -> Written:
        """Replaces an object by what `produce` makes of the current one (a copy to keep; None if there is none).

        `sub` is the subresource through which it is updated. `create`: a missing object is created. Tried again on a
        conflict unless the new object insists on a resourceVersion. Raises StatusErrors.
        """
        store = self.shared.store
        key = self.key(call.namespace, call.name)
        for _ in range(_UPDATE_ATTEMPTS):
            entry = store.current(key)
            if entry is None:
                if not create:
                    raise not_found(self.resource.gvr, call.name)
                return await self._create_by_update(call, await produce(None))
            shown = await self.shown(entry)
            old = self.view(shown)
            obj = await produce(old)
            stated = obj.setdefault("metadata", {}).get("resourceVersion") or ""
            try:
                return await self._update_once(call, key, shown, old, obj, sub)
            except Conflict:
                if stated not in ("", "0", str(entry.revision)) or (stated and not call.parameters.get("_patch")):
                    raise conflict(self.resource.gvr, call.name, MODIFIED) from None
        raise conflict(self.resource.gvr, call.name, MODIFIED)

    async def _create_by_update(self, call: Call, obj: Obj) -> Written:
        meta = obj["metadata"]
        if meta.get("uid"):
            why = f"uid mismatch: the provided object specified uid {meta['uid']}, and no existing object was found"
            raise conflict(self.resource.gvr, call.name, why)
        if call.applying:
            meta.pop("resourceVersion", None)
        return await self.create(call, obj)

    async def _update_once(
        self, call: Call, key: str, entry: Entry, old: Obj, obj: Obj, sub: Subresource | None
    ) -> Written:
        shared, strategy = self.shared, self.resource.strategy
        binding = sub is not None and sub.name == "binding"
        rules = sub.strategy if sub is not None and sub.strategy is not None else strategy
        if not binding:  # made from the stored object; nobody comes to own what it sets, as upstream
            rules.default(obj)
            await self._manage_fields(call, obj, old, sub)
        admission = None if call.admitted else self._admission(call, "UPDATE", obj, old)
        if admission is not None:
            await shared.admission.mutate(admission)
        self._match_version(call, entry, old, obj)
        metadata.prepare_update(obj, old)
        self._match_namespace(call, obj["metadata"])
        call.warnings += metadata.drop_duplicate_owners(obj)
        managed = obj["metadata"].get("managedFields")
        rules.prepare_update(obj, old)
        if managed and obj["metadata"].get("managedFields") != managed:
            obj["metadata"] = {**obj["metadata"], "managedFields": managed}
        if not binding:
            rules.default(obj)
        now = rfc3339(shared.clock.now())
        if isinstance(rules, StatusStrategy):
            rules.stamp(obj, old, now)
        else:
            rules.stamp(obj, old, now, _requestor(call.user))
        counted = strategy.generation and not binding and (sub is None or sub.name != "status")
        if counted and strategy.specification(obj) != strategy.specification(old):
            obj["metadata"]["generation"] = (old["metadata"].get("generation") or 0) + 1
        reservation = await self._begin(call, obj, old)
        ok = False
        try:
            errors = self._metadata_errors(obj, old) + rules.validate_update(obj, old)
            raise_if(self._stated_kind(obj), call.name, errors)
            if sub is None or sub.strategy is not None:
                call.warnings += rules.warnings(obj, old)
            if admission is not None:
                await shared.admission.validate(admission)
            if call.dry_run:
                return Written(obj, None)
            if _unchanged(obj, old) and (self.forms is None or await self._stored_so(key, obj)):
                return Written(old, entry)
            if self.finished(obj):
                gone_entry = await shared.store.write(key, None, expected=entry.revision)
                ok = True
                return Written(obj, gone_entry, deleted=True)
            written = await self._write(key, obj, entry.revision)
            ok = True
            return Written(obj if self.forms is None else self.view(written), written)
        finally:
            await ended(reservation, ok)

    def _metadata_errors(self, obj: Obj, old: Obj) -> Errors:
        """Checks metadata as often as upstream does: registry and strategies each do, so what is wrong shows again."""
        errors = metadata.validate_update(obj, old, builtin=self.strict_finalizers)
        return errors and errors * 2 + metadata.shared_errors(obj["metadata"], builtin=self.strict_finalizers) * 2

    def _match_version(self, call: Call, entry: Entry, old: Obj, obj: Obj) -> None:
        """Judges the resourceVersion and uid that a new object states; states the current one where it has none."""
        meta = obj["metadata"]
        stated = meta.get("resourceVersion") or ""
        uid = meta.get("uid") if not call.parameters.get("_patch") else None
        if uid and uid != old["metadata"].get("uid"):
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old['metadata'].get('uid')}"
            raise conflict(self.resource.gvr, call.name, why)
        if stated in ("", "0"):
            if not self.resource.strategy.allow_unconditional_update and not call.parameters.get("_patch"):
                error = invalid_field("metadata.resourceVersion", 0, "must be specified for an update")
                # Upstream names the resource here, where other errors name the kind.
                what = GVK(self.resource.group, self.resource.version, self.resource.plural)
                raise invalid(what, call.name, [error])
            meta["resourceVersion"] = str(entry.revision)
        elif stated != str(entry.revision):
            stated_revision(stated)
            raise conflict(self.resource.gvr, call.name, MODIFIED)

    def finished(self, obj: Obj) -> bool:
        """Tells whether an object that is being deleted waits for nothing any more."""
        meta = obj["metadata"]
        if not meta.get("deletionTimestamp") or meta.get("finalizers"):
            return False
        if self.is_namespaces:
            return not (obj.get("spec") or {}).get("finalizers")
        return not meta.get("deletionGracePeriodSeconds")

    # ------------------------------------------------------------ shared parts

    async def _manage_fields(self, call: Call, obj: Obj, old: Obj | None, sub: Subresource | None) -> None:
        manage = self.shared.manage_fields
        if manage is None:
            return
        if self.forms is None:
            manage(call, obj, old, self.resource, sub, None)
        else:
            await self.forms.assisted(lambda convert: manage(call, obj, old, self.resource, sub, convert))

    async def _begin(self, call: Call, obj: Obj | None, old: Obj | None):  # type: ignore[no-untyped-def]
        interceptor = self.shared.interceptors.get((self.resource.group, self.resource.plural))
        return await interceptor.begin(call, obj, old) if interceptor is not None else None

    async def _write(self, key: str, obj: Obj, expected: int) -> Entry:
        """Encodes and stores an object, and keeps its decoded form; raises Conflict and the store's errors."""
        resource, shared = self.resource, self.shared
        if self.forms is not None:
            return await self._write_form(self.forms, key, obj, expected)
        stored = resource.to_stored(obj) if resource.to_stored else obj
        kind = stored.get("kind", resource.kind) if resource.to_stored else resource.kind
        api_version = stored.get("apiVersion") if resource.to_stored else resource.api_version
        value = to_value(kind, api_version or resource.api_version, stored)
        if len(value.head) + len(value.tail) > OBJECT_BYTES_MAX:
            message = f"Request entity too large: the object is larger than {OBJECT_BYTES_MAX} bytes"
            raise StatusError(413, "RequestEntityTooLarge", message)

        def committed(revision: int) -> None:
            stored["kind"], stored["apiVersion"] = kind, api_version
            stored["metadata"]["resourceVersion"] = str(revision)
            shared.decoded.put(revision, stored)

        return await shared.store.write(key, value, expected=expected, committed=committed)

    async def _write_form(self, forms: Forms, key: str, obj: Obj, expected: int) -> Entry:
        """Stores a custom resource in its storage version; returns what this version shows of it afterwards."""
        stored = await forms.stored(obj)
        value = to_value(stored["kind"], stored["apiVersion"], stored)
        alike = stored["apiVersion"] == self.resource.api_version

        def committed(revision: int) -> None:
            if alike:
                stored["metadata"]["resourceVersion"] = str(revision)
                self.decoded.put(revision, stored)

        entry = await self.shared.store.write(key, value, expected=expected, committed=committed)
        if alike:
            forms.keep(entry, None)
        return await forms.show_one(entry)

    async def _stored_so(self, key: str, obj: Obj) -> bool:
        """Tells whether a custom resource would be stored as it is: not if only its reading gave it defaults, say."""
        forms, entry = self.forms, self.shared.store.current(key)
        if forms is None or entry is None or entry.form is forms.token:
            return True
        return _unchanged(await forms.stored(copy_object(obj)), decode(entry.value))

    def _admission(self, call: Call, operation: str, obj: Obj | None, old: Obj | None) -> AdmissionRequest:
        return AdmissionRequest(
            user=call.user,
            operation=operation,
            resource=self.resource,
            subresource=call.subresource,
            namespace=call.namespace,
            name=call.name or ((obj or {}).get("metadata") or {}).get("name", ""),
            obj=obj,
            old=old,
            dry_run=call.dry_run,
            options=call.parameters,
            warnings=call.warnings,
            annotations=call.annotations,
            convert=self.forms.between if self.forms is not None else None,
        )


def _no_unique_name(error: StatusError) -> StatusError:
    """The conflict of a generated name, which another try may avoid."""
    message = f"{error.message}, the server was not able to generate a unique name for the object"
    return StatusError(error.code, error.reason, message, {**(error.details or {}), "retryAfterSeconds": 1})


def expired(query: ListQuery) -> StatusError:
    """410 for a list that asks for too old a revision. A page's error brings a token that goes on with what is now."""
    if query.after:
        return gone(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list "
            "without the continue parameter, or use the continue token in this response to retrieve the remainder of "
            "the results. Continuing with the provided token results in an inconsistent list - objects that were "
            "created, modified, or deleted between the time the first chunk was returned and now may show up in the "
            "list.",
            Continuation(ANY_REVISION, query.after).text(),
        )
    return gone("The resourceVersion for the provided list is too old.")


def _requestor(user: UserInfo) -> Requestor:
    return Requestor(user.name, user.uid, tuple(user.groups), user.extra)


def _unchanged(obj: Obj, old: Obj) -> bool:
    """Tells whether an update changes nothing; the times in managedFields do not count."""
    if {key: item for key, item in obj.items() if key != "metadata"} != {
        key: item for key, item in old.items() if key != "metadata"
    }:
        return False
    return _counted(obj["metadata"]) == _counted(old["metadata"])


def _counted(meta: Obj) -> Obj:
    if "managedFields" not in meta:
        return meta
    managed = [{key: item for key, item in one.items() if key != "time"} for one in meta["managedFields"]]
    return {**meta, "managedFields": managed}


async def replacing(obj: Obj, old: Obj | None) -> Obj:
    """A `Produce` for PUT: a copy of the body for every attempt."""
    return copy_for_change(obj)
