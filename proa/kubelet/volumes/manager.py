"""Makes a pod's volumes on this node, keeps their files fresh, and removes them.

All state is on disk under the node's root folder (`pods/<uid>/volumes/…`, upstream's layout) or is read again from the
API, so a new agent goes on where the old one ended. Secrets and tokens live on tmpfs only.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from proa.client.interface import Client
from proa.client.resources import CLUSTERTRUSTBUNDLES, CONFIGMAPS, SECRETS
from proa.kubelet.environment import ConfigError, NodeFacts
from proa.kubelet.podspec import containers_of
from proa.kubelet.references import Reference, References
from proa.kubelet.volumes import mounts
from proa.kubelet.volumes.bundles import wants_bundles
from proa.kubelet.volumes.claims import Claims, Unready, Unusable
from proa.kubelet.volumes.host import host_path
from proa.kubelet.volumes.images import FOLDER as IMAGES
from proa.kubelet.volumes.images import ImageMounts
from proa.kubelet.volumes.payload import claim_name, payload, references_of, token_requests
from proa.kubelet.volumes.subpath import bind_sub_path, sub_path
from proa.kubelet.volumes.tokens import Tokens
from proa.kubelet.volumes.writer import write_files
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, namespace_of, uid_of
from proa.meta.quantity import parse
from proa.util.clock import Clock

_RESOURCES = {"configmaps": CONFIGMAPS, "secrets": SECRETS}
_KINDS = {
    "emptyDir": "empty-dir",
    "configMap": "configmap",
    "secret": "secret",
    "projected": "projected",
    "downwardAPI": "downward-api",
}
_ON_TMPFS = ("secret", "projected")
_PROPAGATION = {"HostToContainer": "PROPAGATION_HOST_TO_CONTAINER", "Bidirectional": "PROPAGATION_BIDIRECTIONAL"}


class VolumeError(Exception):
    """A volume can't be made (yet); the text is that of the event."""


def _failed(volume: str, why: str, failed: str = "MountVolume.SetUp failed") -> VolumeError:
    return VolumeError(f'{failed} for volume "{volume}" : {why}')


class VolumeManager:
    """The volumes of all pods of one node."""

    def __init__(
        self,
        root: Path,
        client: Client,
        references: References,
        facts: Callable[[], NodeFacts],
        clock: Clock,
        claims: Claims,
    ) -> None:
        self._root = root
        self._client = client
        self._references = references
        self._facts = facts
        self._claims = claims
        self._tokens = Tokens(client, clock)
        # Mounts image volumes for a runtime that can't; None: it can, or nothing can.
        self.image_mounts: ImageMounts | None = None

    def pod_folder(self, uid: str) -> Path:
        return self._root / "pods" / uid

    def _volumes(self, uid: str) -> Path:
        return self.pod_folder(uid) / "volumes"

    def renew_at(self, uid: str) -> float | None:
        return self._tokens.renew_at(uid)

    async def lookup(self, pod: Obj) -> Callable[[str, str], Obj | None]:
        """Reads all that the pod refers to and returns a function that finds it; raises StatusError."""
        wanted = [one for one in references_of(pod) if one.resource in _RESOURCES.values()]
        found = await asyncio.gather(*(self._references.get(one) for one in wanted))
        by_reference = dict(zip(wanted, found, strict=True))
        namespace = namespace_of(pod)
        return lambda kind, name: by_reference.get(Reference(_RESOURCES[kind], namespace, name))

    async def ensure(self, pod: Obj) -> dict[str, Path]:
        """Makes every volume, or brings its files up to date; returns volume name -> path. Raises VolumeError."""
        volumes = (pod.get("spec") or {}).get("volumes") or []
        if not volumes:
            return {}
        try:
            lookup = await self.lookup(pod)
        except StatusError as error:
            raise _failed(volumes[0]["name"], error.message) from None
        paths: dict[str, Path] = {}
        for volume in volumes:
            try:
                paths[volume["name"]] = await self._make(pod, volume, lookup)
            except Unready as error:
                name = volume["name"]
                text = f"unmounted volumes=[{name}], unattached volumes=[], failed to process volumes=[{name}]: {error}"
                raise VolumeError(f"Unable to attach or mount volumes: {text}") from None
            except Unusable as error:
                raise _failed(error.volume, str(error), error.failed) from None
            except (ConfigError, OSError) as error:
                raise _failed(volume["name"], str(error)) from None
            except StatusError as error:
                raise _failed(volume["name"], error.message) from None
        return paths

    async def _make(self, pod: Obj, volume: Obj, lookup: Callable[[str, str], Obj | None]) -> Path:
        if "hostPath" in volume:
            return host_path(volume["hostPath"])
        if "image" in volume:
            return Path()  # mounted by the runtime itself, see `launch.py`
        if claim_name(pod, volume):
            mounted = await self._claims.mount(pod, volume)
            if mounted.owned and not _is_read_only(volume):
                await asyncio.to_thread(_own, mounted.path, pod)
            return mounted.path
        kind = next((key for key in _KINDS if volume.get(key) is not None), None)
        if kind is None:
            unknown = ", ".join(key for key in volume if key != "name")
            raise ConfigError(f"no volume plugin for {unknown}")
        folder: Path = self._volumes(uid_of(pod)) / f"kubernetes.io~{_KINDS[kind]}" / volume["name"]
        if kind == "emptyDir":
            _empty_dir(folder, pod, volume["emptyDir"])
            return folder
        tokens = {request: await self._tokens.get(pod, request) for request in token_requests(volume)}
        bundles = await self._bundles() if wants_bundles(volume) else ()
        files = payload(pod, volume, node=self._facts(), lookup=lookup, tokens=tokens, bundles=bundles)
        _prepare(folder, on_tmpfs=kind in _ON_TMPFS)
        group = ((pod.get("spec") or {}).get("securityContext") or {}).get("fsGroup")
        write_files(folder, files or {}, group)
        return folder

    async def _bundles(self) -> list[Obj]:
        """Returns the cluster's trust bundles; none where they are not served."""
        try:
            return (await self._client.list(CLUSTERTRUSTBUNDLES)).items
        except StatusError as error:
            if error.code == 404:
                return []
            raise

    # ------------------------------------------------------------ mounts of a container

    async def mount_images(self, pod: Obj, images: Mapping[str, dict[str, Any]]) -> dict[str, Path]:
        """Mounts CRI's ImageSpecs, by volume name; returns where they are. Raises ConfigError."""
        paths = {name: self._volumes(uid_of(pod)) / IMAGES / name for name in images}
        if self.image_mounts is not None:
            for name, place in paths.items():
                await self.image_mounts.mount(images[name]["image"], place)
        return paths

    def mounts(
        self,
        pod: Obj,
        container: Obj,
        paths: Mapping[str, Path],
        variables: Mapping[str, str],
        images: Mapping[str, dict[str, Any]],
    ) -> list[dict[str, Any]]:
        """Returns CRI's mounts of the container's volumes; raises ConfigError for a mount that can't be.

        `images` are CRI's ImageSpecs of the image volumes, by volume name.
        """
        result = []
        read_only = {one["name"] for one in (pod.get("spec") or {}).get("volumes") or () if _is_read_only(one)}
        for index, mount in enumerate(container.get("volumeMounts") or []):
            source = paths.get(mount["name"])
            if source is None:
                raise ConfigError(f"volume {mount['name']} of container {container['name']} is not mounted")
            if mount.get("recursiveReadOnly") == "Enabled":
                raise ConfigError("the container runtime of this node does not support recursive read-only mounts")
            path = sub_path(mount, variables)
            if mount["name"] in images:
                shown = {"image": images[mount["name"]], "image_sub_path": path, "readonly": True}
                result.append({"container_path": mount["mountPath"], **shown})
                continue
            if path:
                place = self.pod_folder(uid_of(pod)) / "volume-subpaths" / mount["name"] / container["name"]
                source = bind_sub_path(source, path, place / str(index), mount["name"])
            target = mount["mountPath"]
            result.append(
                {
                    "container_path": target if target.startswith("/") else f"/{target}",
                    "host_path": str(source),
                    "readonly": bool(mount.get("readOnly")) or mount["name"] in read_only,
                    "propagation": _PROPAGATION.get(mount.get("mountPropagation") or "", "PROPAGATION_PRIVATE"),
                }
            )
        return result

    def devices(self, pod: Obj, container: Obj, paths: Mapping[str, Path]) -> list[dict[str, Any]]:
        """Returns CRI's devices for block volumes."""
        return [
            {"container_path": one["devicePath"], "host_path": str(paths[one["name"]]), "permissions": "mrw"}
            for one in container.get("volumeDevices") or []
            if one["name"] in paths
        ]

    # ------------------------------------------------------------ removal

    async def remove(self, uid: str) -> None:
        """Unmounts and removes everything of a pod that no container uses any more."""
        self._tokens.forget(uid)
        self._claims.release(uid)
        folder = self.pod_folder(uid)
        if self.image_mounts is not None:
            await self.image_mounts.unmount_all(self._volumes(uid))
        if folder.exists():
            await asyncio.to_thread(_remove, folder)

    def leftovers(self) -> set[str]:
        """The uids of pods that have a folder on this node."""
        folder = self._root / "pods"
        return {one.name for one in folder.iterdir()} if folder.is_dir() else set()


def _is_read_only(volume: Obj) -> bool:
    return "image" in volume or bool((volume.get("persistentVolumeClaim") or {}).get("readOnly"))


def _remove(folder: Path) -> None:
    for point in mounts.mounted_under(folder):
        mounts.unmount(point)
    # Nothing that is still mounted may be emptied: a host's files could be behind it.
    if not mounts.mounted_under(folder):
        shutil.rmtree(folder, ignore_errors=True)


# ---------------------------------------------------------------- kinds


def _prepare(folder: Path, on_tmpfs: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if on_tmpfs and not mounts.is_mounted(folder):
        mounts.mount_tmpfs(folder)


def _empty_dir(folder: Path, pod: Obj, source: Obj) -> None:
    if folder.exists() and (source.get("medium") != "Memory" or mounts.is_mounted(folder)):
        return
    medium = source.get("medium") or ""
    if medium not in ("", "Memory"):
        raise ConfigError(f"unknown storage medium {medium}")
    folder.mkdir(parents=True, exist_ok=True)
    if medium == "Memory":
        mounts.mount_tmpfs(folder, _memory_size(pod, source), 0o777)
    folder.chmod(0o777)
    _own(folder, pod)


def _memory_size(pod: Obj, source: Obj) -> int | None:
    """The smaller of the size limit and what the pod's containers may use together."""
    limits = [((one.spec.get("resources") or {}).get("limits") or {}).get("memory") for one in containers_of(pod)]
    sizes = []
    if all(limits) and limits:
        sizes.append(sum(parse(one).value for one in limits))
    if source.get("sizeLimit") and parse(source["sizeLimit"]).value:
        sizes.append(parse(source["sizeLimit"]).value)
    return min(sizes) if sizes else None


def _own(path: Path, pod: Obj) -> None:
    """Gives a writable volume to the pod's fsGroup: group, group permissions, set-group-id on folders."""
    context = (pod.get("spec") or {}).get("securityContext") or {}
    group = context.get("fsGroup")
    if group is None or not path.is_dir():
        return
    if context.get("fsGroupChangePolicy") == "OnRootMismatch" and _is_owned(path, group):
        return
    for parent, _, names in os.walk(path, topdown=False):
        for name in names:
            _give(Path(parent) / name, group, 0o060)
        _give(Path(parent), group, 0o070 | stat.S_ISGID)


def _is_owned(path: Path, group: int) -> bool:
    found = path.stat()
    return found.st_gid == group and found.st_mode & 0o2070 == 0o2070


def _give(path: Path, group: int, bits: int) -> None:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return
    os.chown(path, -1, group)
    path.chmod(stat.S_IMODE(found.st_mode) | bits)
