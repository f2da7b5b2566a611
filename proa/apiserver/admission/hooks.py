"""Webhooks and policies at hand: made from their stored configurations, anew only when one of these changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic

from proa.apis.registry import ResourceDef
from proa.apiserver.admission.matching import Aim, Criteria, Hook, Index
from proa.apiserver.contracts import AdmissionRequest
from proa.apiserver.live import Live
from proa.apiserver.resources import Resources
from proa.client.resources import NAMESPACES
from proa.meta.gvk import GVR
from proa.meta.objects import labels_of


class Hooks(Generic[Hook]):
    """`make` returns all hooks, in order, from what is stored of `configurations`."""

    def __init__(
        self,
        live: Live,
        resources: Resources,
        configurations: Sequence[GVR],
        make: Callable[[], Sequence[tuple[Hook, Criteria]]],
    ) -> None:
        self._live = live
        self._resources = resources
        self._configurations = configurations
        self._counters: Sequence[Callable[[], int]] = ()
        self._counts: list[int] = []
        self._make = make
        self._index: Index[Hook] = Index(resources)

    def find(self, request: AdmissionRequest) -> Sequence[tuple[Hook, Criteria, Sequence[Aim]]]:
        """Returns the hooks whose rules match a request; their names and selectors are still to be looked at."""
        if not self._counters:
            self._counters = [self._live.counter(one) for one in self._configurations]
        counts = [count() for count in self._counters]
        if counts != self._counts:
            self._index = Index(self._resources, self._make())
            self._counts = counts
        return self._index.find(request)

    def forms(self, request: AdmissionRequest) -> Sequence[ResourceDef]:
        """Returns a request's resource, then what is equivalent to it."""
        return self._index.forms(request)

    def namespace_labels(self, request: AdmissionRequest) -> Mapping[str, str]:
        """Returns the labels that namespace selectors look at: those of the request's namespace, of one its own."""
        if request.resource.plural == "namespaces" and not request.resource.group and not request.subresource:
            return labels_of(request.obj or request.old or {})
        namespace = self._live.get(NAMESPACES, request.namespace) if request.namespace else None
        return labels_of(namespace) if namespace else {}


def aim(
    request: AdmissionRequest, criteria: Criteria, aims: Sequence[Aim], namespace_labels: Mapping[str, str]
) -> Aim | None:
    """Returns how a hook wants a request, None if its names or selectors leave the request out."""
    found = next((one for one in aims if one.covers(request.name)), None)
    return found if found is not None and criteria.selects(request, namespace_labels) else None
