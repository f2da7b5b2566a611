"""A deployment's replica sets (pure): which one is new, their revisions and annotations, sizes, and fence posts.

The annotations are upstream's, which `kubectl rollout` reads and writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proa.controllers.numbers import scaled
from proa.controllers.pods import owner_reference
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, annotations_of, copy_object, labels_of, metadata, name_of, namespace_of

KIND = GVK("apps", "v1", "Deployment")
HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAX = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        REVISION_HISTORY,
        DESIRED,
        MAX,
        "deprecated.deployment.rollback.to",
    }
)
_HISTORY_LENGTH_MAX = 2000
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


# ---------------------------------------------------------------- numbers


def replicas(obj: Obj) -> int:
    """Returns spec.replicas of a deployment or replica set."""
    value = obj["spec"].get("replicas")
    return 1 if value is None else int(value)


def counted(obj: Obj, name: str) -> int:
    """Returns a number of the status, 0 if absent."""
    return int((obj.get("status") or {}).get(name) or 0)


def total(sets: Iterable[Obj]) -> int:
    return sum(map(replicas, sets))


def is_rolling(deployment: Obj) -> bool:
    return bool((deployment["spec"].get("strategy") or {}).get("type", "RollingUpdate") == "RollingUpdate")


def _fence_posts(deployment: Obj) -> tuple[int, int]:
    """Returns (surge, unavailable) as counts; not both are 0, or nothing could ever move."""
    rolling = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    wanted = replicas(deployment)
    surge = scaled(rolling.get("maxSurge"), wanted, round_up=True, default="25%")
    unavailable = scaled(rolling.get("maxUnavailable"), wanted, round_up=False, default="25%")
    return surge, (1 if surge == 0 and unavailable == 0 else unavailable)


def surge_max(deployment: Obj) -> int:
    return _fence_posts(deployment)[0] if is_rolling(deployment) else 0


def unavailable_max(deployment: Obj) -> int:
    if not is_rolling(deployment) or replicas(deployment) == 0:
        return 0
    return min(_fence_posts(deployment)[1], replicas(deployment))


# ---------------------------------------------------------------- new and old


@dataclass(frozen=True, slots=True)
class Sets:
    """A deployment's replica sets: the one of the current template, if there is one, and the others, oldest first."""

    new: Obj | None
    old: tuple[Obj, ...]

    @property
    def all(self) -> tuple[Obj, ...]:
        return (*self.old, self.new) if self.new is not None else self.old

    @property
    def old_active(self) -> tuple[Obj, ...]:
        return tuple(one for one in self.old if replicas(one) > 0)


def sort_out(deployment: Obj, replica_sets: Sequence[Obj]) -> Sets:
    ordered = sorted(replica_sets, key=lambda one: (metadata(one).get("creationTimestamp") or "", name_of(one)))
    wanted = comparable(deployment["spec"]["template"])
    new = next((one for one in ordered if comparable(one["spec"]["template"]) == wanted), None)
    return Sets(new, tuple(one for one in ordered if one is not new))


def comparable(template: Obj) -> Any:
    """Returns a template in a form that equals that of the same template with a hash label or with empty parts."""
    cleaned = _without_empty(template)
    labels = (cleaned.get("metadata") or {}).get("labels")
    if labels:
        labels.pop(HASH_LABEL, None)
        if not labels:
            del cleaned["metadata"]["labels"]
    if cleaned.get("metadata") == {}:
        del cleaned["metadata"]
    return cleaned


def _without_empty(value: Any) -> Any:
    if isinstance(value, Mapping):
        cleaned = {key: _without_empty(item) for key, item in value.items() if item is not None}
        # emptyDir: {} says something; metadata: {} and labels: {} do not.
        return {key: item for key, item in cleaned.items() if item or key not in ("metadata", "labels", "annotations")}
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    return value


def template_hash(template: Obj, collisions: int | None) -> str:
    """Returns a label-safe hash of a template; another one after each collision."""
    text = json.dumps(comparable(template), sort_keys=True, separators=(",", ":"))
    if collisions is not None:
        text += f"/{collisions}"
    state = 0x811C9DC5  # FNV-1a, 32 bits
    for byte in text.encode():
        state = ((state ^ byte) * 0x01000193) & 0xFFFFFFFF
    return "".join(_ALPHABET[ord(digit) % len(_ALPHABET)] for digit in str(state))


# ---------------------------------------------------------------- annotations


def revision(obj: Obj) -> int:
    text = annotations_of(obj).get(REVISION, "")
    return int(text) if text.isdecimal() else 0


def size_annotations(deployment: Obj) -> dict[str, str]:
    wanted = replicas(deployment)
    return {DESIRED: str(wanted), MAX: str(wanted + surge_max(deployment))}


def annotations_for_new(deployment: Obj, current: Mapping[str, str], new_revision: int) -> dict[str, str]:
    """Returns the annotations that the new replica set should have, given those it has."""
    copied = {key: value for key, value in annotations_of(deployment).items() if key not in _NOT_COPIED}
    result = {**current, **copied}
    old_text = current.get(REVISION, "")
    old_revision = int(old_text) if old_text.isdecimal() else 0
    if old_revision < new_revision:
        result[REVISION] = str(new_revision)
        if old_revision:
            history = [one for one in current.get(REVISION_HISTORY, "").split(",") if one]
            history.append(old_text)
            while len(",".join(history)) > _HISTORY_LENGTH_MAX:
                history.pop(0)
            result[REVISION_HISTORY] = ",".join(history)
    return result


def make(deployment: Obj, new_revision: int, size: int) -> Obj:
    """Returns the replica set of the current template."""
    spec = deployment["spec"]
    template = copy_object(spec["template"])
    hashed = template_hash(spec["template"], (deployment.get("status") or {}).get("collisionCount"))
    labels = {**labels_of(template), HASH_LABEL: hashed}
    template["metadata"] = {**(template.get("metadata") or {}), "labels": labels}
    selector = copy_object(spec.get("selector") or {})
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH_LABEL: hashed}
    made: Obj = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{name_of(deployment)}-{hashed}",
            "namespace": namespace_of(deployment),
            "labels": labels,
            "annotations": {**annotations_for_new(deployment, {}, new_revision), **size_annotations(deployment)},
            "ownerReferences": [owner_reference(deployment, KIND)],
        },
        "spec": {"replicas": size, "selector": selector, "template": template},
    }
    if spec.get("minReadySeconds"):
        made["spec"]["minReadySeconds"] = spec["minReadySeconds"]
    return made
