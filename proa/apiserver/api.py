"""Requests as calls: authorization, special handlers and generic stores, the same for HTTP and in-process clients.

`Core` is the `Api` that in-process clients talk to; the HTTP server authorizes, decodes and calls `execute` itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing

from proa.apis.apiextensions.custom_resources import CustomResourceStrategy
from proa.apis.apiextensions.decoding import decoded as custom_decoded
from proa.apis.discovery_documents import ServedVersion, api_resource_list
from proa.apis.registry import ResourceDef, Subresource
from proa.apiserver.answers import Answer, ComputedAnswer, ListAnswer, ObjectAnswer, PlainAnswer
from proa.apiserver.authz.chain import refusal, require
from proa.apiserver.contracts import AdmissionRequest, Attributes, Authorizer, Delegate, SpecialHandler
from proa.apiserver.decoding import expected_kind
from proa.apiserver.encoding import Recent
from proa.apiserver.fieldmanagement import FieldManagement
from proa.apiserver.fields import checked, definition_of
from proa.apiserver.generic.deletion import answers_with_object, delete, delete_collection, delete_request
from proa.apiserver.generic.forms import WatchEnded
from proa.apiserver.generic.selection import list_query, selection
from proa.apiserver.generic.shared import Call, Shared
from proa.apiserver.generic.store import GenericStore, Written, replacing
from proa.apiserver.generic.watching import BOOKMARK, ResourceWatch, open_watch
from proa.apiserver.patching import Patcher
from proa.apiserver.requestinfo import is_true
from proa.apiserver.resources import Resources, unknown_resource
from proa.apiserver.scale import read_scale, require_name, write_scale
from proa.apiserver.writeoptions import check_write_options
from proa.client.interface import ApiRequest, UserInfo, WatchEvent
from proa.meta.errors import StatusError, bad_request, method_not_supported, unavailable
from proa.meta.gvk import GVK, GVR
from proa.meta.objects import Obj
from proa.storage.interface import StoreFailed, StoreFull

SpecialKey = tuple[str, str, str]  # group, resource, subresource
BOOKMARK_SECONDS = 60.0
_JOB_WARNING = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set "
    "propagationPolicy=Orphan to suppress this warning"
)


class Core:
    """The API without its wire: implements `proa.client.interface.Api`."""

    def __init__(self, resources: Resources, shared: Shared, authorizer: Authorizer) -> None:
        self.resources = resources
        self.shared = shared
        self.authorizer = authorizer
        # Handlers of virtual resources and subresources, by verb; they run after authorization.
        self.special: dict[SpecialKey, Mapping[str, SpecialHandler]] = {}
        # Other servers, by the group and version that they answer for.
        self.delegates: dict[tuple[str, str], Delegate] = {}
        self.patcher = Patcher(FieldManagement(resources, shared.clock))
        self.recent_frames = Recent(1024)
        self._stores: dict[GVR, GenericStore] = {}
        self._verbs: dict[str, Callable[[GenericStore, ApiRequest, Call, Subresource | None], Awaitable[Answer]]] = {
            "get": self._get,
            "list": self._list,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }

    # ------------------------------------------------------------ what in-process clients call

    async def call(self, request: ApiRequest) -> Obj:
        self.authorize(request)
        if self.delegates and (delegate := self.delegate(request.resource)) is not None:
            return await delegate.call(request)
        if request.verb in ("create", "update"):
            self.check_fields(
                request, expected_kind(self.resources.get(request.resource), request.subresource), "Ignore"
            )
        answer = await self.execute(request, [])
        return answer.decoded()

    async def watch(self, request: ApiRequest) -> AsyncIterator[WatchEvent]:
        self.authorize(request)
        if self.delegates and (delegate := self.delegate(request.resource)) is not None:
            async with aclosing(delegate.watch(request)) as events:
                async for event in events:
                    yield event
            return
        watch = await self.open_watch(request)
        store = self.store(self.resources.get(request.resource))
        for change in watch.initial():
            yield WatchEvent(change.type, store.view(change.entry))
        if is_true(request.parameters.get("sendInitialEvents")):
            yield WatchEvent(BOOKMARK, bookmark(store.resource, watch.initial_revision, initial_end=True))
        bookmark_seconds = BOOKMARK_SECONDS if is_true(request.parameters.get("allowWatchBookmarks")) else None
        while True:
            try:
                changes = await watch.next(bookmark_seconds)
            except WatchEnded:
                return
            for change in changes:
                yield WatchEvent(change.type, store.view(change.entry, keep=True))
            if not changes and bookmark_seconds is not None:
                yield WatchEvent(BOOKMARK, bookmark(store.resource, watch.revision))

    async def resource_list(self, user: UserInfo, group: str, version: str) -> Obj:
        path = f"/apis/{group}/{version}" if group else f"/api/{version}"
        require(self.authorizer, Attributes(user=user, verb="get", path=path))
        delegate = self.delegates.get((group, version))
        if delegate is not None:
            return await delegate.document()
        found = tuple(one for one in self.resources.all() if (one.group, one.version) == (group, version))
        if not found:
            raise unknown_resource()
        return api_resource_list(ServedVersion(group=group, version=version, resources=found))

    # ------------------------------------------------------------ what the HTTP server calls too

    def delegate(self, resource: GVR) -> Delegate | None:
        """Returns the server that answers for a resource in our stead."""
        return self.delegates.get((resource.group, resource.version))

    def store(self, resource: ResourceDef) -> GenericStore:
        """Returns the resource's storage, made once; a changed definition gets a new one."""
        found = self._stores.get(resource.gvr)
        if found is None or found.resource is not resource:
            found = self._stores[resource.gvr] = GenericStore(resource, self.shared)
        return found

    def forget(self, resource: ResourceDef) -> None:
        """Drops the storage of a resource that is no longer served so."""
        found = self._stores.get(resource.gvr)
        if found is not None and found.resource is resource:
            del self._stores[resource.gvr]

    def authorize(self, request: ApiRequest, name: str | None = None) -> None:
        """Raises the 403 StatusError unless the user may do this."""
        attributes = attributes_of(request, request.name if name is None else name)
        decision = self.authorizer.authorize(attributes)
        if not decision.allowed:
            raise refusal(attributes, decision.reason)

    def check_fields(
        self,
        request: ApiRequest,
        kind: GVK,
        mode: str,
        duplicates: Sequence[str] = (),
        warnings: list[str] | None = None,
    ) -> None:
        """Brings the body of a create or update into canonical form; raises the 400 StatusError."""
        resource = self.resources.get(request.resource)
        if isinstance(resource.strategy, CustomResourceStrategy) and kind == resource.gvk:
            request.body, problems = custom_decoded(resource.strategy, request.body, mode, duplicates)
            if warnings is not None:
                warnings += problems
            return
        definition = definition_of(resource, kind)
        if definition:
            request.body = checked(definition, request.body, mode, duplicates, warnings)

    async def execute(self, request: ApiRequest, warnings: list[str]) -> Answer:
        """Carries out an authorized request (any verb but watch); raises StatusErrors. Adds to `warnings`."""
        resource = self.resources.get(request.resource)
        handlers = self.special.get((resource.group, resource.plural, request.subresource))
        if handlers and request.verb in handlers:
            status = 201 if request.verb == "create" else 200
            if request.verb == "create":
                await self._admit(resource, request, warnings)
            made = await handlers[request.verb](request)
            if request.verb in ("get", "list") and not request.subresource:
                return ComputedAnswer(resource, made)
            return PlainAnswer(made, status)
        sub = self._subresource(resource, request)
        if sub is not None and sub.strategy is None and sub.name != "scale":
            raise unknown_resource()
        call = Call.of(request, check_write_options(request), warnings)
        try:
            return await self._verbs[request.verb](self.store(resource), request, call, sub)
        except StoreFull as error:
            raise StatusError(507, "InsufficientStorage", str(error)) from None
        except StoreFailed as error:
            raise unavailable(str(error)) from None

    async def _admit(self, resource: ResourceDef, request: ApiRequest, warnings: list[str]) -> None:
        """Asks admission about what is created but not stored: reviews, tokens, evictions, bindings."""
        if not isinstance(request.body, dict):
            request.body = {}
        kind = expected_kind(resource, request.subresource)
        admission = AdmissionRequest(
            user=request.user,
            operation="CREATE",
            resource=resource,
            subresource=request.subresource,
            namespace=request.namespace,
            name=request.name or (request.body.get("metadata") or {}).get("name") or "",
            obj=request.body,
            old=None,
            dry_run=request.parameters.get("dryRun") == "All",
            options=request.parameters,
            warnings=warnings,
            annotations=request.annotations,
            kind=None if kind == resource.gvk else kind,
        )
        await self.shared.admission.mutate(admission)
        await self.shared.admission.validate(admission)

    def _subresource(self, resource: ResourceDef, request: ApiRequest) -> Subresource | None:
        verb = request.verb
        if not request.subresource:
            if verb not in resource.verbs:
                raise method_not_supported(resource.gvr, verb)
            return None
        sub = resource.subresource(request.subresource)
        if sub is None:
            raise unknown_resource()
        if verb not in sub.verbs:
            raise method_not_supported(resource.gvr, verb)
        return sub

    async def open_watch(self, request: ApiRequest) -> ResourceWatch:
        resource = self.resources.get(request.resource)
        if "watch" not in resource.verbs:
            raise method_not_supported(resource.gvr, "watch")
        parameters = request.parameters
        list_query(parameters, watch=True)
        chosen = selection(resource, parameters, request.name)
        initial = parameters.get("sendInitialEvents")
        version = parameters.get("resourceVersion", "")
        return await open_watch(
            self.store(resource), request.namespace, chosen, version, None if initial is None else is_true(initial)
        )

    # ------------------------------------------------------------ verbs

    async def _get(self, store: GenericStore, request: ApiRequest, call: Call, sub: Subresource | None) -> Answer:
        entry = await store.get(request.namespace, request.name, request.parameters.get("resourceVersion", ""))
        if sub is not None and sub.name == "scale":
            return PlainAnswer(read_scale(store.resource, store.view(entry)))
        return ObjectAnswer(store, entry)

    async def _list(self, store: GenericStore, request: ApiRequest, call: Call, sub: Subresource | None) -> Answer:
        chosen = selection(store.resource, request.parameters)
        query = list_query(request.parameters)
        return ListAnswer(store, await store.list(request.namespace, chosen, query))

    async def _create(self, store: GenericStore, request: ApiRequest, call: Call, sub: Subresource | None) -> Answer:
        if store.resource.closed:
            raise StatusError(405, "MethodNotAllowed", store.resource.closed, {})
        written = await store.create(call, request.body)
        return _answer(store, written)

    async def _update(self, store: GenericStore, request: ApiRequest, call: Call, sub: Subresource | None) -> Answer:
        if sub is not None and sub.name == "scale":
            require_name(request.body.get("metadata") or {}, request.name)
            return PlainAnswer(await write_scale(store, call, lambda _: request.body))
        meta = request.body.get("metadata") or {}
        require_name(meta, request.name)
        if store.resource.namespaced and (meta.get("namespace") or request.namespace) != request.namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        create = sub is None and store.resource.strategy.allow_create_on_update

        async def produce(old: Obj | None) -> Obj:
            return await replacing(request.body, old)

        return _answer(store, await store.update(call, produce, sub=sub, create=create))

    async def _patch(self, store: GenericStore, request: ApiRequest, call: Call, sub: Subresource | None) -> Answer:
        return await self.patcher.patch(store, request, call, sub)

    async def _delete(self, store: GenericStore, request: ApiRequest, call: Call, sub: Subresource | None) -> Answer:
        asked = delete_request(request.body, request.parameters)
        if asked.propagation is None and (store.resource.group, store.resource.plural) == ("batch", "jobs"):
            call.warnings.append(_JOB_WARNING)
        written = await delete(store, call, asked)
        if written.deleted and not answers_with_object(store.resource):
            return PlainAnswer(_deleted_status(store, request.name, written.obj))
        status = 202 if asked.cascading and not written.deleted else 200
        return ObjectAnswer(store, written.entry, written.obj, status)

    async def _delete_collection(
        self, store: GenericStore, request: ApiRequest, call: Call, sub: Subresource | None
    ) -> Answer:
        chosen = selection(store.resource, request.parameters)
        query = list_query(request.parameters)
        asked = delete_request(request.body, request.parameters)
        return ListAnswer(store, await delete_collection(store, call, chosen, query, asked))


def _answer(store: GenericStore, written: Written) -> ObjectAnswer:
    return ObjectAnswer(store, None if written.deleted else written.entry, written.obj, 201 if written.created else 200)


def _deleted_status(store: GenericStore, name: str, obj: Obj) -> Obj:
    details: Obj = {"name": name}
    if store.resource.group:
        details["group"] = store.resource.group
    details["kind"] = store.resource.plural
    details["uid"] = obj["metadata"].get("uid", "")
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def attributes_of(request: ApiRequest, name: str) -> Attributes:
    """Returns what authorization decides on; a namespace lies in itself."""
    resource = request.resource
    return Attributes(
        user=request.user,
        verb=request.verb,
        group=resource.group,
        version=resource.version,
        resource=resource.resource,
        subresource=request.subresource,
        namespace=name if resource.resource == "namespaces" and not resource.group else request.namespace,
        name=name,
        field_selector=request.parameters.get("fieldSelector", ""),
        label_selector=request.parameters.get("labelSelector", ""),
    )


def bookmark(resource: ResourceDef, revision: int, *, initial_end: bool = False) -> Obj:
    """Returns the object of a bookmark event."""
    meta: Obj = {"resourceVersion": str(revision)}
    if initial_end:
        meta["annotations"] = {"k8s.io/initial-events-end": "true"}
    return {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": meta}


Special = Mapping[SpecialKey, Mapping[str, SpecialHandler]]
