"""A pod's claims as folders of this node: what their volumes are, and why one can't be mounted.

Texts and their order follow upstream's kubelet: first the claim, then the volume's place, then the mount itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proa.apis.storage.local_path import is_local_path
from proa.client.interface import Client
from proa.client.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from proa.kubelet.admit import matches_node_selector
from proa.kubelet.environment import ConfigError
from proa.kubelet.podspec import containers_of
from proa.kubelet.references import Reference, References
from proa.kubelet.volumes.host import existing, host_path
from proa.kubelet.volumes.local_path import LocalPaths
from proa.kubelet.volumes.payload import claim_name
from proa.kubelet.volumes.users import Users
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, controller_of, is_deleted, name_of, namespace_of, uid_of

IN_USE = "volume uses the ReadWriteOncePod access mode and is already in use by another pod"


class Unusable(Exception):
    """A claim can't be mounted: `failed` is the step that did not go, as events say it, `volume` the volume's name."""

    def __init__(self, failed: str, volume: str, why: str) -> None:
        super().__init__(why)
        self.failed = failed
        self.volume = volume


class Unready(Exception):
    """A claim has no volume yet, or not one of the kind that the pod wants."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """A claim's volume on this node; `owned` if its files may be given to the pod's fsGroup."""

    path: Path
    owned: bool


class Claims:
    """The claims of all pods of this node. `node` returns the Node, as the API shows it."""

    def __init__(
        self,
        client: Client,
        references: References,
        node: Callable[[], Obj | None],
        users: Users,
        local: LocalPaths,
    ) -> None:
        self._client = client
        self._references = references
        self._node = node
        self._users = users
        self._local = local

    def release(self, uid: str) -> None:
        """Nothing of the pod uses a volume any more."""
        if self._users.release(uid):
            self._local.look()

    async def mount(self, pod: Obj, volume: Obj) -> Mounted:
        """Returns the place of a pod's claimed volume; raises Unready, Unusable."""
        bound = await self._bound(pod, volume)
        name = name_of(bound)
        only_one = "ReadWriteOncePod" in (bound["spec"].get("accessModes") or ())
        if only_one and self._users.of(name) - {uid_of(pod)}:
            raise Unusable("MountVolume.SetUp failed", name, IN_USE)
        self._users.add(name, uid_of(pod))
        node, required = self._node(), (bound["spec"].get("nodeAffinity") or {}).get("required")
        if required and node and not matches_node_selector(required, node):
            raise Unusable("MountVolume.NodeAffinity check failed", name, "no matching NodeSelectorTerms")
        try:
            return await self._place(bound, uid_of(pod))
        except (StatusError, OSError, ConfigError) as error:
            raise Unusable("MountVolume.SetUp failed", name, str(error)) from None

    async def _bound(self, pod: Obj, volume: Obj) -> Obj:
        """Returns the PersistentVolume that the claim is bound to."""
        name, namespace = claim_name(pod, volume), namespace_of(pod)
        about = f"error processing PVC {namespace}/{name}"
        try:
            claim = await self._references.get(Reference(PERSISTENTVOLUMECLAIMS, namespace, name))
            if claim is None:
                why = f'failed to fetch PVC from API server: persistentvolumeclaims "{name}" not found'
                raise Unready(f"{about}: {why}")
            if volume.get("ephemeral") and (controller_of(claim) or {}).get("uid") != uid_of(pod):
                why = f"PVC {namespace}/{name} was not created for pod {namespace}/{name_of(pod)} (pod is not owner)"
                raise Unready(f"{about}: {why}")
            if is_deleted(claim) and not self._users.of((claim.get("spec") or {}).get("volumeName") or ""):
                raise Unready(f"{about}: PVC is being deleted")
            bound = (claim.get("spec") or {}).get("volumeName")
            if not bound or (claim.get("status") or {}).get("phase") != "Bound":
                raise Unready(f"{about}: PVC is not bound")
            found = await self._client.get(PERSISTENTVOLUMES, bound)
        except StatusError as error:
            raise Unready(f"{about}: {error.message}") from None
        if ((found["spec"].get("claimRef") or {}).get("uid") or "") != uid_of(claim):
            raise Unready(f"{about}: PVC is bound to volume {bound}, which is not bound to it")
        _check_mode(pod, volume, found)
        return found

    async def _place(self, volume: Obj, uid: str) -> Mounted:
        spec = volume["spec"]
        if is_local_path(volume):
            return Mounted(await self._local.provide(volume), owned=True)
        if spec.get("hostPath"):
            return Mounted(host_path(spec["hostPath"]), owned=False)
        if spec.get("local"):
            try:
                return Mounted(existing(Path(spec["local"]["path"])), owned=True)
            except ConfigError as error:
                failed = "MountVolume.NewMounter initialization failed"
                raise Unusable(failed, name_of(volume), str(error)) from None
        if spec.get("csi"):
            why = (
                "kubernetes.io/csi: attacher.MountDevice failed to create newCsiDriverClient: driver name "
                f"{spec['csi'].get('driver')} not found in the list of registered CSI drivers"
            )
            raise Unusable("MountVolume.MountDevice failed", name_of(volume), why)
        raise Unusable("MountVolume.NewMounter initialization failed", name_of(volume), "no volume plugin matched")


def _check_mode(pod: Obj, volume: Obj, bound: Obj) -> None:
    """A block volume is for devices, one with files for mounts; raises Unready."""
    name, mode = volume["name"], bound["spec"].get("volumeMode") or "Filesystem"
    field = {"Filesystem": "volumeDevices", "Block": "volumeMounts"}[mode]
    for container in containers_of(pod):
        if any(one.get("name") == name for one in container.spec.get(field) or ()):
            raise Unready(f"volume {name} has volumeMode {mode}, but is specified in {field}")
