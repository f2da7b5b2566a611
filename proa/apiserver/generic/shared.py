"""What all generic stores share, and what one request carries through them."""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from proa.apis.registry import ResourceDef, Subresource
from proa.apiserver.admission.base import Plugin
from proa.apiserver.contracts import AdmissionPlugin, AdmissionRequest
from proa.apiserver.encoding import Decoded, Recent
from proa.apiserver.generic.forms import AskWebhook, Convert
from proa.client.interface import ApiRequest, UserInfo
from proa.meta.metadata import SUFFIX_ALPHABET, SUFFIX_LENGTH
from proa.meta.objects import Obj
from proa.storage.interface import Store
from proa.util.clock import Clock

_MESSAGES_KEPT_MAX = 8192  # a few KiB each, once somebody lists in protobuf


@dataclass(slots=True, kw_only=True)
class Call:
    """One request on its way through a generic store. `warnings` become Warning headers, in order."""

    user: UserInfo
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    dry_run: bool = False
    field_manager: str = ""
    # Which managedFields operation this is: Update as a rule, Apply for server-side apply.
    applying: bool = False
    # Part of something that admission was asked about already (a binding, an eviction).
    admitted: bool = False
    warnings: list[str] = field(default_factory=list)
    # What the audit log is to say about the request.
    annotations: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, request: ApiRequest, dry_run: bool, warnings: list[str]) -> Call:
        return cls(
            user=request.user,
            namespace=request.namespace,
            name=request.name,
            subresource=request.subresource,
            parameters=request.parameters,
            dry_run=dry_run,
            field_manager=request.field_manager,
            warnings=warnings,
            annotations=request.annotations,
        )


class Reservation(Protocol):
    """What an interceptor holds for a write until its outcome is known (a service's addresses, for example)."""

    async def commit(self) -> None: ...

    async def cancel(self) -> None: ...


class Interceptor(Protocol):
    """A resource's own part in writes that needs more than the object: allocation. Changes `obj` in place."""

    async def begin(self, call: Call, obj: Obj | None, old: Obj | None) -> Reservation | None:
        """Called before validation of a create (old None), update, or before a deletion (obj None)."""
        ...


# Records who owns which field: (call, new, old or None, resource, subresource, conversion between versions, if that is
# not the definitions' own affair); changes `new` in place.
ManageFields = Callable[[Call, Obj, Obj | None, ResourceDef, Subresource | None, Convert | None], None]


_Ask = Callable[[AdmissionRequest], Awaitable[None]]


class AdmissionChain:
    """All plugins in order, as one; a plugin is asked only in the stages that it has, about what it is for."""

    def __init__(self, plugins: Sequence[AdmissionPlugin]) -> None:
        self.plugins = tuple(plugins)
        self._asked: dict[tuple[str, str, str], list[_Ask]] = {}

    async def mutate(self, request: AdmissionRequest) -> None:
        """Runs the mutating plugins; all of them once more if a webhook or policy changed the object."""
        plugins = self._of_stage("mutate", request)
        for mutate in plugins:
            await mutate(request)
        again = request.reinvocation
        if again is not None and again.wanted:
            again.running = True
            for mutate in plugins:
                await mutate(request)

    async def validate(self, request: AdmissionRequest) -> None:
        for validate in self._of_stage("validate", request):
            await validate(request)

    def _of_stage(self, stage: str, request: AdmissionRequest) -> list[_Ask]:
        """Returns what to ask in a stage: the plugins that have it and are about the resource; worked out once."""
        resource = request.resource
        asked = self._asked.get((stage, resource.group, resource.plural))
        if asked is None:
            concerned = [one for one in self.plugins if _is_about(one, resource.group, resource.plural)]
            own = [one for one in concerned if getattr(type(one), stage) is not getattr(Plugin, stage)]
            asked = [getattr(one, stage) for one in own]
            self._asked[stage, resource.group, resource.plural] = asked
        return asked


def _is_about(plugin: AdmissionPlugin, group: str, plural: str) -> bool:
    resources = getattr(plugin, "resources", None)
    return resources is None or (group, plural) in resources


# Names need to differ, not to be unguessable: upstream's are pseudo-random, too.
_random = random.Random()


def random_suffix() -> str:
    return "".join(_random.choices(SUFFIX_ALPHABET, k=SUFFIX_LENGTH))


def _uids() -> Iterator[str]:
    """Yields random UUIDs (version 4); to ask the system for each one's bytes would cost as much as to check a pod."""
    while True:
        digits = os.urandom(16 * _UIDS_AT_ONCE).hex()
        for start in range(0, len(digits), 32):
            one = digits[start : start + 32]
            variant = _VARIANTS[int(one[16], 16) & 3]
            yield f"{one[:8]}-{one[8:12]}-4{one[13:16]}-{variant}{one[17:20]}-{one[20:]}"


_UIDS_AT_ONCE = 128
_VARIANTS = "89ab"
_uid = _uids()


def new_uid() -> str:
    return next(_uid)


@dataclass(slots=True, kw_only=True)
class Shared:
    """`suffix` and `uid` are sources of chance: a seeded test replaces them. `protobuf_messages` are objects as
    protobuf's lists hold them."""

    store: Store
    clock: Clock
    admission: AdmissionChain
    decoded: Decoded = field(default_factory=Decoded)
    protobuf_messages: Recent = field(default_factory=lambda: Recent(_MESSAGES_KEPT_MAX))
    interceptors: Mapping[tuple[str, str], Interceptor] = field(default_factory=dict)
    manage_fields: ManageFields | None = None
    convert: AskWebhook | None = None
    suffix: Callable[[], str] = random_suffix
    uid: Callable[[], str] = new_uid


async def ended(reservation: Reservation | None, ok: bool) -> None:
    """Tells a reservation how its write went."""
    if reservation is not None:
        await (reservation.commit() if ok else reservation.cancel())


Produce = Callable[[Obj | None], Awaitable[Obj]]
