"""Which pods each service selects, kept up to date by changes: nobody looks through a namespace of thousands because
one pod has become ready.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from proa.client.informer import CachedInformer
from proa.controllers.services import SELECTOR_INDEX, by_selector, endpoint_facts, selector_of, services_of
from proa.meta.objects import Obj, key_of, labels_of, namespace_of

_NONE: Mapping[str, Obj] = {}


class Members:
    """Calls `changed(service's key)` when what the service's endpoints depend on has changed."""

    def __init__(self, services: CachedInformer, pods: CachedInformer, changed: Callable[[str], None]) -> None:
        self._services = services
        self._informer = pods
        self._changed = changed
        self._pods: dict[str, dict[str, Obj]] = {}  # service -> its pods by key
        self._of: dict[str, tuple[str, ...]] = {}  # pod -> the services that select it, if any does
        services.add_index(SELECTOR_INDEX, by_selector)
        services.add_handler(self._service_changed)
        pods.add_handler(self._pod_changed)

    def pods(self, service: str) -> Mapping[str, Obj]:
        """Returns the pods of a service by key; not to be changed."""
        return self._pods.get(service, _NONE)

    def count(self, service: str) -> int:
        return len(self._pods.get(service, ()))

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        key = key_of(new or old or {})
        before = self._of.get(key, ())
        after: Collection[str] = ()
        if new is not None:
            same_labels = old is not None and labels_of(old) == labels_of(new)
            after = before if same_labels else services_of(new, self._services)
        if not before and not after:
            return
        self._move(key, before, tuple(after), new)
        if before != tuple(after) or old is None or new is None or endpoint_facts(old) != endpoint_facts(new):
            for service in {*before, *after}:
                self._changed(service)

    def _move(self, key: str, before: tuple[str, ...], after: tuple[str, ...], pod: Obj | None) -> None:
        for service in before:
            if service not in after:
                self._pods[service].pop(key, None)
        for service in after:
            assert pod is not None
            self._pods.setdefault(service, {})[key] = pod
        if after:
            self._of[key] = after
        else:
            self._of.pop(key, None)

    def _service_changed(self, old: Obj | None, new: Obj | None) -> None:
        """Looks through the namespace once for a new selector."""
        if old is not None and new is not None and selector_of(old) == selector_of(new):
            return
        key = key_of(new or old or {})
        for pod in self._pods.pop(key, {}):
            self._of[pod] = tuple(one for one in self._of[pod] if one != key)
            if not self._of[pod]:
                del self._of[pod]
        selector = selector_of(new) if new is not None else {}
        if not selector or new is None:
            return
        for pod_object in self._informer.objects(namespace_of(new)):
            if selector.items() <= labels_of(pod_object).items():
                pod = key_of(pod_object)
                self._pods.setdefault(key, {})[pod] = pod_object
                self._of[pod] = (*self._of.get(pod, ()), key)
