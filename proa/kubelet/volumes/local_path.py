"""The directories of this node's local-path volumes: made when a pod first mounts one, removed when the volume goes.

Once it has had a directory, the node follows its own volumes (and no others) in the API. A volume that is being deleted
and no longer bound loses its directory, unless it is to be retained, and then the finalizer that stood for it. All
state is on disk and in the API, so whatever was deleted while the node was away is removed when it comes back.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

from proa.apis.storage.local_path import DIRECTORY_FINALIZER, NODE_LABEL, directory_of, is_local_path, is_on, node_label
from proa.client.events import EventRecorder
from proa.client.informer import Informer, Informers
from proa.client.interface import STRATEGIC_PATCH, Client
from proa.client.resources import PERSISTENTVOLUMES
from proa.kubelet.environment import ConfigError
from proa.kubelet.volumes import mounts
from proa.kubelet.volumes.users import Users
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, is_deleted, metadata, name_of, uid_of

log = logging.getLogger(__name__)

_RETRY_SECONDS = 10.0
# As wide open as an emptyDir: whoever runs in the pods of a claim may write to it.
_MODE = 0o777


class LocalPaths:
    """`folder` holds the directories; without one the node offers no such volumes. `run` removes what has to go."""

    def __init__(
        self,
        folder: Path | None,
        node: str,
        client: Client,
        informers: Informers,
        recorder: EventRecorder,
        users: Users,
    ) -> None:
        self._folder = folder
        self._node = node
        self._client = client
        self._informers = informers
        self._recorder = recorder
        self._users = users
        self._look = asyncio.Event()
        if folder is not None and folder.is_dir():
            self._look.set()

    async def provide(self, volume: Obj) -> Path:
        """Returns the volume's directory, made if it was not there; raises ConfigError, StatusError, OSError."""
        path = self._path(volume)
        if path is None:
            raise ConfigError(f'persistentvolume "{name_of(volume)}" is not on this node')
        # Closed to other users of the machine, whatever its directories allow.
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if DIRECTORY_FINALIZER not in (metadata(volume).get("finalizers") or ()):
            # Before the directory is there, so that no volume goes without it.
            await self._patch(volume, {"finalizers": [DIRECTORY_FINALIZER]})
        if not path.is_dir():
            path.mkdir()
            path.chmod(_MODE)
        self._look.set()
        return path

    def look(self) -> None:
        """Makes `run` look again: something is used no longer."""
        self._look.set()

    def _path(self, volume: Obj) -> Path | None:
        if self._folder is None or not is_local_path(volume) or not is_on(volume, self._node):
            return None
        found = directory_of(volume, str(self._folder))
        return Path(found) if found else None

    # ------------------------------------------------------------ removal

    async def run(self) -> None:
        """Removes the directories of volumes that are deleted, until cancelled."""
        if self._folder is None:
            return
        await self._look.wait()
        volumes = self._informers.informer(PERSISTENTVOLUMES, label_selector=f"{NODE_LABEL}={node_label(self._node)}")
        volumes.add_handler(lambda old, new: self._look.set())
        await volumes.wait_synced()
        while True:
            await self._look.wait()
            self._look.clear()
            if not await self._remove_all(volumes):
                asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._look.set)

    async def _remove_all(self, volumes: Informer) -> bool:
        """Returns whether everything that had to go is gone."""
        done = True
        for volume in volumes.objects():
            if not self._has_to_go(volume):
                continue
            try:
                await self._remove(volume)
            except (StatusError, OSError, EOFError) as error:
                if isinstance(error, StatusError) and error.code in (404, 409):
                    continue
                done = False
                log.warning("volume %s: %s", name_of(volume), error)
                text = f"error deleting the volume's directory: {error}"
                self._recorder.event(volume, "Warning", "VolumeFailedDelete", text)
        return done

    def _has_to_go(self, volume: Obj) -> bool:
        return (
            is_deleted(volume)
            and DIRECTORY_FINALIZER in (metadata(volume).get("finalizers") or ())
            and (volume.get("status") or {}).get("phase") != "Bound"
            and not self._users.of(name_of(volume))
            and self._path(volume) is not None
        )

    async def _remove(self, volume: Obj) -> None:
        path = self._path(volume)
        if path is not None and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
            if mounts.mounted_under(path):
                raise OSError(f"something is mounted below {path}")
            if path.exists():
                await asyncio.to_thread(shutil.rmtree, path)
        await self._patch(volume, {"$deleteFromPrimitiveList/finalizers": [DIRECTORY_FINALIZER]})

    async def _patch(self, volume: Obj, change: Obj) -> None:
        patch = {"metadata": {"uid": uid_of(volume), **change}}
        await self._client.patch(PERSISTENTVOLUMES, name_of(volume), patch, patch_type=STRATEGIC_PATCH)
