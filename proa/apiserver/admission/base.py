"""What admission plugins share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from proa.apiserver.contracts import AdmissionRequest
from proa.meta.errors import StatusError, forbidden
from proa.meta.objects import Obj, metadata

MIRROR = "kubernetes.io/config.mirror"


class Plugin:
    """An `AdmissionPlugin` that does nothing; override what differs."""

    name = ""
    # The resources that it is about, as (group, plural): it is not asked about others. None: it may be about all.
    resources: ClassVar[frozenset[tuple[str, str]] | None] = None

    async def mutate(self, request: AdmissionRequest) -> None:
        """Changes `request.obj` or refuses; runs before validation of the object."""

    async def validate(self, request: AdmissionRequest) -> None:
        """Refuses; runs after validation of the object."""


def concerns(
    request: AdmissionRequest, resource: str, *operations: str, group: str = "", subresource: str = ""
) -> bool:
    """Whether a request is one of these operations on this resource."""
    definition = request.resource
    return (
        definition.plural == resource
        and definition.group == group
        and request.subresource == subresource
        and (not operations or request.operation in operations)
    )


def name_of_request(request: AdmissionRequest) -> str:
    """Returns the object's name, of one that is to be named its generateName."""
    return request.name or metadata(request.obj or {}).get("generateName") or ""


def namespace_of_request(request: AdmissionRequest) -> str:
    """Returns the namespace that webhooks and policies see; a namespace lies in itself."""
    resource = request.resource
    return request.name if resource.plural == "namespaces" and not resource.group else request.namespace


def refusal(request: AdmissionRequest, why: str) -> StatusError:
    """Returns the 403 with which a plugin refuses a request."""
    return forbidden(request.resource.gvr, name_of_request(request), why)


def is_mirror(pod: Obj) -> bool:
    """Whether a pod stands for one that a node runs on its own."""
    return MIRROR in (metadata(pod).get("annotations") or {})


def containers_of(spec: Obj, *, ephemeral: bool = False) -> Iterator[Obj]:
    """Yields a pod's init containers, containers and, if asked for, ephemeral ones."""
    yield from spec.get("initContainers") or ()
    yield from spec.get("containers") or ()
    if ephemeral:
        yield from spec.get("ephemeralContainers") or ()
