"""What remains of a namespace, as its conditions tell it (pure). Follows upstream's namespace deletion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from proa.controllers.conditions import condition, find, with_condition
from proa.meta.gvk import GVR
from proa.meta.objects import Obj

FINALIZER = "kubernetes"


@dataclass(slots=True)
class Remains:
    """What a round of deletion left: objects by resource, how many hold each finalizer, and what went wrong."""

    objects: dict[GVR, int] = field(default_factory=dict)
    finalizers: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    undiscovered: list[str] = field(default_factory=list)  # group versions whose resources are not known

    @property
    def empty(self) -> bool:
        return not self.objects and not self.errors and not self.undiscovered

    def count(self, resource: GVR, items: Sequence[Obj]) -> None:
        if items:
            self.objects[resource] = len(items)
        for item in items:
            for name in item["metadata"].get("finalizers") or ():
                self.finalizers[name] = self.finalizers.get(name, 0) + 1


def conditions(namespace: Obj, remains: Remains, now: datetime) -> list[Obj] | None:
    """Returns the conditions to write, None if they say all this already."""
    old = (namespace.get("status") or {}).get("conditions") or []
    result: list[Obj] = list(old)
    for type, (status, reason, message) in _wanted(remains).items():
        new = condition(type, status, reason, message, now)
        current = find(result, type)
        if current is not None and current.get("status") == status and current.get("message") != message:
            result[result.index(current)] = {**new, "lastTransitionTime": current.get("lastTransitionTime")}
        else:
            result = with_condition(result, new)
    return None if result == old else result


def _wanted(remains: Remains) -> Mapping[str, tuple[str, str, str]]:
    content = ("False", "ContentRemoved", "All content successfully removed")
    if remains.objects:
        listed = sorted(
            f"{resource.resource}.{resource.group} has {count} resource instances"
            for resource, count in remains.objects.items()
        )
        content = ("True", "SomeResourcesRemain", f"Some resources are remaining: {', '.join(listed)}")
    held = ("False", "ContentHasNoFinalizers", "All content-preserving finalizers finished")
    if remains.finalizers:
        listed = sorted(f"{name} in {count} resource instances" for name, count in remains.finalizers.items())
        text = f"Some content in the namespace has finalizers remaining: {', '.join(listed)}"
        held = ("True", "SomeFinalizersRemain", text)
    deleted = (
        "False",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    )
    if remains.errors:
        text = f"Failed to delete all resource types, {len(remains.errors)} remaining: {'; '.join(remains.errors)}"
        deleted = ("True", "ContentDeletionFailed", text)
    discovered = ("False", "ResourcesDiscovered", "All resources successfully discovered")
    if remains.undiscovered:
        listed = [f"{one}: stale GroupVersion discovery: {one}" for one in remains.undiscovered]
        text = (
            f"Discovery failed for some groups, {len(listed)} failing: unable to retrieve the complete list of server "
            f"APIs: {', '.join(listed)}"
        )
        discovered = ("True", "DiscoveryFailed", text)
    return {
        "NamespaceDeletionDiscoveryFailure": discovered,
        "NamespaceDeletionGroupVersionParsingFailure": (
            "False",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        "NamespaceDeletionContentFailure": deleted,
        "NamespaceContentRemaining": content,
        "NamespaceFinalizersRemaining": held,
    }
