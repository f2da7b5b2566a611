"""What the stages of a request hand to each other: authentication, authorization, admission, special handlers.

Order of a request: authenticate, authorize, decode, default, mutate (admission), validate, admit (validating), store.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from proa.apis.registry import ResourceDef
from proa.client.interface import ApiRequest, UserInfo, WatchEvent
from proa.meta.gvk import GVK
from proa.meta.objects import Obj
from proa.wire.http import Request, Response

if TYPE_CHECKING:
    from proa.apiserver.server import HttpCall


class Authenticator(Protocol):
    """Finds out who asks."""

    async def authenticate(self, request: Request) -> UserInfo:
        """Returns the identity (system:anonymous if none is claimed); raises the 401 StatusError for a bad claim."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What authorization decides on. A request for no resource has only `path` and the lower-case method as `verb`."""

    user: UserInfo
    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    field_selector: str = ""
    label_selector: str = ""

    @property
    def is_resource(self) -> bool:
        return not self.path


@dataclass(frozen=True, slots=True)
class Decision:
    """`allowed` false means no opinion from any authorizer, or a denial; `reason` says why, for 403 and reviews."""

    allowed: bool
    reason: str = ""
    denied: bool = False


class Authorizer(Protocol):
    """Says yes or no from state in memory; never waits."""

    def authorize(self, attributes: Attributes) -> Decision: ...


@dataclass(slots=True)
class Reinvocation:
    """A second round of the mutating plugins: `wanted` if a webhook or policy changed the object, then `running`.

    `memory` is what each plugin remembers of the first round, by its name.
    """

    wanted: bool = False
    running: bool = False
    memory: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class AdmissionRequest:
    """`operation` is CREATE, UPDATE, DELETE or CONNECT. Mutating plugins change `obj` (the request's own);
    `old` is shared and never changed. Warnings become Warning headers, annotations (of keys such as
    `podsecurity.kubernetes.io/audit`) those of the request's audit event. `kind` is what `obj` is, where that is not
    the resource's own kind (the Eviction of a pod); `deletion` are the DeleteOptions of a deletion."""

    user: UserInfo
    operation: str
    resource: ResourceDef
    subresource: str
    namespace: str
    name: str
    obj: Obj | None
    old: Obj | None
    dry_run: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    kind: GVK | None = None
    # Of a custom resource: makes (object, apiVersion) an object of another version.
    convert: Callable[[Obj, str], Awaitable[Obj]] | None = None
    deletion: Obj | None = None
    reinvocation: Reinvocation | None = None


class AdmissionPlugin(Protocol):
    """A stage that may change or refuse a write; raises StatusError to refuse."""

    name: str

    async def mutate(self, request: AdmissionRequest) -> None: ...

    async def validate(self, request: AdmissionRequest) -> None: ...


# Serves a virtual resource or subresource (tokenreviews, pods/binding, serviceaccounts/token, …): decoded in, decoded
# out. Registered by (group, resource, subresource) and verb; runs after authorization, and does its own admission.
SpecialHandler = Callable[[ApiRequest], Awaitable[Obj]]


class Delegate(Protocol):
    """Another server that answers for a group version; every request to it has been authorized."""

    async def serve(self, call: HttpCall) -> Response | None:
        """Passes an HTTP request on; None after an upgrade."""
        ...

    async def call(self, request: ApiRequest) -> Obj:
        """Carries out an in-process client's request (any verb but watch); raises StatusError."""
        ...

    def watch(self, request: ApiRequest) -> AsyncGenerator[WatchEvent, None]: ...

    async def document(self) -> Obj:
        """Returns the APIResourceList of its group version; raises StatusError."""
        ...
