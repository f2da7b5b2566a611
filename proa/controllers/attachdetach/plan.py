"""Which volumes a node needs attached, and what to do about it (pure).

Follows upstream's attach-detach controller and its CSI attacher: a VolumeAttachment is the wish, the driver's own
external attacher fulfils it, and `node.status.volumesAttached` tells the kubelet. A volume is detached once no pod of
the node uses it and the kubelet has let go of it (`volumesInUse`); a node that is not ready is waited for six minutes,
one that is out of service not at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from proa.meta.objects import Obj, annotations_of, is_deleted, metadata, name_of, namespace_of, uid_of
from proa.util.clock import parse_rfc3339

MANAGED = "volumes.kubernetes.io/controller-managed-attach-detach"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
ATTACH_SECONDS_MAX = 120.0
UNMOUNT_SECONDS_MAX = 360.0
_SHARED = {"ReadOnlyMany", "ReadWriteMany"}


def unique_name(volume: Obj) -> str:
    """Returns the name of a CSI volume in a node's status."""
    csi = volume["spec"]["csi"]
    return f"kubernetes.io/csi/{csi.get('driver')}^{csi.get('volumeHandle')}"


def attachment_name(volume: Obj, node: str) -> str:
    """Returns the name of the VolumeAttachment of a CSI volume on a node."""
    csi = volume["spec"]["csi"]
    text = f"{csi.get('volumeHandle')}{csi.get('driver')}{node}"
    return f"csi-{hashlib.sha256(text.encode()).hexdigest()}"


def claims_of(pod: Obj) -> list[str]:
    """Returns the names of the claims that a pod uses, those of its ephemeral volumes included."""
    names = []
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            names.append(volume["persistentVolumeClaim"].get("claimName") or "")
        elif volume.get("ephemeral"):
            names.append(f"{name_of(pod)}-{volume['name']}")
    return names


def bound_volume(claim: Obj | None, volumes: Mapping[str, Obj]) -> Obj | None:
    """Returns the CSI volume that a claim is bound to, None if there is none."""
    volume = volumes.get(((claim or {}).get("spec") or {}).get("volumeName") or "")
    if claim is None or volume is None or not volume["spec"].get("csi"):
        return None
    return volume if (volume["spec"].get("claimRef") or {}).get("uid") == uid_of(claim) else None


def wants_attaching(volume: Obj, drivers: Mapping[str, Obj]) -> bool:
    """Tells whether a volume's driver attaches; one that says nothing of it does."""
    driver = drivers.get(volume["spec"]["csi"].get("driver") or "")
    return driver is None or (driver.get("spec") or {}).get("attachRequired") is not False


@dataclass(slots=True)
class Need:
    """A volume that pods of the node use."""

    volume: Obj
    pods: list[Obj] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of a node: `needs` and `attachments` (the node's own) by unique name, `elsewhere` the pods that
    use a volume on other nodes that it is attached to, `unneeded_since` when a volume was first seen to be needed no
    longer."""

    node: Obj | None
    name: str
    needs: Mapping[str, Need]
    attachments: Mapping[str, Obj]
    elsewhere: Mapping[str, Sequence[Obj]]
    unneeded_since: Mapping[str, datetime]


@dataclass(frozen=True, slots=True)
class Told:
    """An event about every pod that needs a volume; `unique` names the volume. Some are told `once` only, as long as
    they hold."""

    unique: str
    type: str
    reason: str
    message: str
    once: bool = True


@dataclass(slots=True)
class Plan:
    """Attachments to create and (by name) to delete, what the node's status lists (None: as it is), what pods are
    told, and in how many seconds to look again."""

    attach: list[Obj] = field(default_factory=list)
    detach: list[str] = field(default_factory=list)
    attached: list[Obj] | None = None
    told: list[Told] = field(default_factory=list)
    look_again_seconds: float | None = None

    def look_again(self, seconds: float) -> None:
        known = self.look_again_seconds
        self.look_again_seconds = seconds if known is None else min(known, seconds)


def plan(seen: Seen, now: datetime) -> Plan:
    """Decides for one node."""
    made = Plan()
    listed = []
    status = (seen.node or {}).get("status") or {}
    known = {one.get("name") for one in status.get("volumesAttached") or ()}
    for unique, need in seen.needs.items():
        attachment = seen.attachments.get(unique)
        if attachment is None:
            _attach(seen, unique, need, made)
        elif (attachment.get("status") or {}).get("attached") and not is_deleted(attachment):
            listed.append(unique)
            if unique not in known:
                text = f'AttachVolume.Attach succeeded for volume "{name_of(need.volume)}" '
                made.told.append(Told(unique, "Normal", "SuccessfulAttachVolume", text))
        else:
            _tell_waiting(unique, need, attachment, now, made)
    for unique, attachment in seen.attachments.items():
        if unique in seen.needs:
            continue
        wait_seconds = _seconds_to_wait(seen, unique, now)
        if wait_seconds is None or wait_seconds > 0:
            if (attachment.get("status") or {}).get("attached"):
                listed.append(unique)
            if wait_seconds is not None:
                made.look_again(wait_seconds)
        elif not is_deleted(attachment):
            made.detach.append(name_of(attachment))
    if seen.node is not None and set(listed) != known:
        made.attached = [{"name": unique, "devicePath": ""} for unique in sorted(listed)]
    return made


def _attach(seen: Seen, unique: str, need: Need, made: Plan) -> None:
    if seen.node is None or annotations_of(seen.node).get(MANAGED) != "true":
        return
    name = name_of(need.volume)
    others = seen.elsewhere.get(unique)
    if others is not None and not _SHARED & set(need.volume["spec"].get("accessModes") or ()):
        text = f'Multi-Attach error for volume "{name}" {_already_used(need, others)}'
        made.told.append(Told(unique, "Warning", "FailedAttachVolume", text))
        return
    meta = {"name": attachment_name(need.volume, seen.name)}
    spec = {
        "attacher": need.volume["spec"]["csi"].get("driver"),
        "nodeName": seen.name,
        "source": {"persistentVolumeName": name},
    }
    kind = {"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment"}
    made.attach.append({**kind, "metadata": meta, "spec": spec})
    made.look_again(ATTACH_SECONDS_MAX)


def _already_used(need: Need, others: Sequence[Obj]) -> str:
    if not others:
        return "Volume is already exclusively attached to one node and can't be attached to another"
    own = {namespace_of(pod) for pod in need.pods}
    named = sorted(name_of(pod) for pod in others if namespace_of(pod) in own)
    foreign = len(others) - len(named)
    if not named:
        return f"Volume is already used by {foreign} pod(s) in different namespaces"
    rest = f" and {foreign} pod(s) in different namespaces" if foreign else ""
    return f"Volume is already used by pod(s) {', '.join(named)}{rest}"


def _tell_waiting(unique: str, need: Need, attachment: Obj, now: datetime, made: Plan) -> None:
    problem = ((attachment.get("status") or {}).get("attachError") or {}).get("message")
    csi = need.volume["spec"]["csi"]
    waited = (now - parse_rfc3339(metadata(attachment)["creationTimestamp"])).total_seconds()
    if not problem and waited < ATTACH_SECONDS_MAX:
        made.look_again(ATTACH_SECONDS_MAX - waited)
        return
    if not problem:
        problem = (
            f"timed out waiting for external-attacher of {csi.get('driver')} CSI driver to attach volume "
            f"{csi.get('volumeHandle')}"
        )
    text = f'AttachVolume.Attach failed for volume "{name_of(need.volume)}" : {problem}'
    made.told.append(Told(unique, "Warning", "FailedAttachVolume", text, once=False))
    made.look_again(ATTACH_SECONDS_MAX)


def _seconds_to_wait(seen: Seen, unique: str, now: datetime) -> float | None:
    """Returns how long a volume that no pod needs stays attached: 0 to detach it now, None until its node lets go."""
    if seen.node is None or is_out_of_service(seen.node):
        return 0.0
    if unique not in ((seen.node.get("status") or {}).get("volumesInUse") or ()):
        return 0.0
    if is_ready(seen.node):
        return None
    since = seen.unneeded_since.get(unique, now)
    return max(0.0, UNMOUNT_SECONDS_MAX - (now - since).total_seconds())


def is_ready(node: Obj) -> bool:
    conditions: Iterable[Obj] = (node.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def is_out_of_service(node: Obj) -> bool:
    return any(one.get("key") == OUT_OF_SERVICE for one in (node.get("spec") or {}).get("taints") or ())
