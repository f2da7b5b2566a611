"""What every component sees of the API server: the `Client`, in process or over HTTPS.

Both forms pass the same authentication identity, authorization, admission and validation. Objects that a client
returns are shared and must not be mutated (`proa.meta.objects.copy_object` makes one's own). Errors are `StatusError`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from proa.meta.gvk import GVR
from proa.meta.objects import Obj

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class UserInfo:
    """Who asks: the outcome of authentication."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOptions:
    """Options of list and watch, as on the wire; selectors are texts such as `app=web,tier!=db`."""

    label_selector: str = ""
    field_selector: str = ""
    resource_version: str = ""
    resource_version_match: str = ""
    limit: int = 0
    continue_token: str = ""
    timeout_seconds: int | None = None
    allow_watch_bookmarks: bool = False
    send_initial_events: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOptions:
    """Options of delete; None leaves the server's default."""

    grace_seconds: int | None = None
    propagation: str | None = None  # Background, Foreground, Orphan
    uid: str | None = None
    resource_version: str | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class ObjectList:
    """A list's items with the revision that they show; each item carries its apiVersion and kind."""

    items: list[Obj]
    resource_version: str
    continue_token: str = ""
    remaining: int | None = None


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """`type` is ADDED, MODIFIED, DELETED or BOOKMARK; an ERROR event is raised as StatusError instead."""

    type: str
    object: Obj


class Client(Protocol):
    """The API, as one identity. `namespace` is empty for cluster-scoped resources, or for all namespaces in a list.

    Every method raises StatusError with the server's code and reason. `watch` ends when the server ends it and must be
    closed by its user (`async for` to the end, or `aclose`).
    """

    async def get(
        self,
        resource: GVR,
        name: str,
        namespace: str = "",
        *,
        subresource: str = "",
        parameters: Mapping[str, str] | None = None,
    ) -> Obj:
        """`parameters`: of the query, for servers that know more than Kubernetes' own."""
        ...

    async def list(self, resource: GVR, namespace: str = "", options: ListOptions = ...) -> ObjectList: ...

    def watch(self, resource: GVR, namespace: str = "", options: ListOptions = ...) -> AsyncIterator[WatchEvent]: ...

    async def create(
        self,
        resource: GVR,
        obj: Obj,
        namespace: str = "",
        *,
        name: str = "",
        subresource: str = "",
        dry_run: bool = False,
    ) -> Obj: ...

    async def update(self, resource: GVR, obj: Obj, *, subresource: str = "", dry_run: bool = False) -> Obj: ...

    async def patch(
        self,
        resource: GVR,
        name: str,
        patch: Any,
        namespace: str = "",
        *,
        patch_type: str = STRATEGIC_PATCH,
        subresource: str = "",
        force: bool = False,
        dry_run: bool = False,
    ) -> Obj: ...

    async def delete(self, resource: GVR, name: str, namespace: str = "", options: DeleteOptions = ...) -> Obj: ...

    async def delete_collection(
        self,
        resource: GVR,
        namespace: str = "",
        options: DeleteOptions = ...,
        selection: ListOptions = ...,
    ) -> None: ...

    async def resource_list(self, group: str, version: str) -> Obj:
        """Returns the APIResourceList of a group version: what is served in it."""
        ...


# ---------------------------------------------------------------- what the in-process client talks to


@dataclass(slots=True, kw_only=True)
class ApiRequest:
    """One request to the API, after authentication and before everything else; HTTP and local clients make the same.

    `verb` is get, list, watch, create, update, patch, delete or deletecollection. `parameters` are the query parameters
    as on the wire, one value each. `body` belongs to the API from here on. For a patch, `body` is the decoded patch
    and `patch_type` its media type.
    """

    user: UserInfo
    verb: str
    resource: GVR
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    patch_type: str = ""
    field_manager: str = ""
    # Paths of keys that occurred twice in one object of the body: what field validation complains about.
    duplicates: Sequence[str] = ()
    # What the audit log is to say about the request beside what it shows itself.
    annotations: dict[str, str] = field(default_factory=dict)


class Api(Protocol):
    """The API server as the in-process client sees it; raises StatusError."""

    async def call(self, request: ApiRequest) -> Obj:
        """Carries out any verb but watch; returns the object, the list (as its List object) or a Status."""
        ...

    def watch(self, request: ApiRequest) -> AsyncIterator[WatchEvent]:
        """Carries out a watch."""
        ...

    async def resource_list(self, user: UserInfo, group: str, version: str) -> Obj:
        """Returns the APIResourceList of a group version."""
        ...
