"""The kubelet of one node: registers it, runs the pods bound to it, keeps it tidy.

`run_kubelet` is the one entry. Pods come from an informer of those bound to this node; each has a `PodWorker`. Whatever
the runtime, the root folder or the cgroups hold of pods that the API does not know is taken away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import shutil
import ssl
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from proa.client.events import EventRecorder
from proa.client.informer import Informer, Informers
from proa.client.interface import Client
from proa.client.resources import NODES, PODS, SERVICES
from proa.kubelet import cgroups, csinode
from proa.kubelet.configs import NodeSettings
from proa.kubelet.context import BeforeStart, Context
from proa.kubelet.cri.types import Container, Runtime, RuntimeFailure, Sandbox, Version
from proa.kubelet.environment import NodeFacts
from proa.kubelet.heartbeat import Heartbeat
from proa.kubelet.housekeeping import Housekeeping
from proa.kubelet.images import Images
from proa.kubelet.options import KubeletOptions
from proa.kubelet.podspec import POD_GRACE
from proa.kubelet.references import References
from proa.kubelet.volumes import images
from proa.kubelet.volumes.claims import Claims
from proa.kubelet.volumes.local_path import LocalPaths
from proa.kubelet.volumes.manager import VolumeManager
from proa.kubelet.volumes.users import Users
from proa.kubelet.watcher import RuntimeWatcher
from proa.kubelet.worker import PodWorker
from proa.meta.objects import Obj, uid_of
from proa.meta.quantity import parse
from proa.util.clock import Clock, rfc3339

if TYPE_CHECKING:
    from proa.kubelet.server.app import KubeletServer
    from proa.wire.server import Server

log = logging.getLogger(__name__)

_CERTIFICATE_SECONDS = 60.0


class Kubelet:
    """The parts of one node's kubelet, wired together. `start` returns once the node is registered."""

    def __init__(
        self, options: KubeletOptions, client: Client, informers: Informers, clock: Clock, runtime: Runtime
    ) -> None:
        self.options = options
        self.runtime = runtime
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._background: list[asyncio.Task[None]] = []
        recorder = EventRecorder(client, clock, "kubelet", options.node_name)
        self._recorder = recorder
        self.watcher = RuntimeWatcher(runtime, self._runtime_changed)
        self.references = References(client, self._references_changed)
        self._nodes = informers.informer(NODES, field_selector=f"metadata.name={options.node_name}")
        self.heartbeat = Heartbeat(
            options,
            client,
            runtime,
            recorder,
            clock,
            lambda: self.watcher.failure,
            lambda: self._nodes.get(options.node_name),
        )
        self.pods: Informer = informers.informer(PODS, field_selector=f"spec.nodeName={options.node_name}")
        users = Users()
        self.local_paths = LocalPaths(options.local_volumes, options.node_name, client, informers, recorder, users)
        claims = Claims(client, self.references, self.node, users, self.local_paths)
        self.volumes = VolumeManager(options.root, client, self.references, self.facts, clock, claims)
        self.context = Context(
            client=client,
            runtime=runtime,
            watcher=self.watcher,
            volumes=self.volumes,
            images=Images(runtime, clock),
            references=self.references,
            recorder=recorder,
            clock=clock,
            settings=self._settings(),
            facts=self.facts,
            services=informers.informer(SERVICES),
            node=self.node,
            taken=lambda: [worker.pod for worker in self._workers.values() if worker.taken],
            root=options.root,
            logs=options.logs,
        )
        self.server: Server | None = None
        self.handler: KubeletServer | None = None
        self.housekeeping = Housekeeping(self.context, options, self.workers)

    def facts(self) -> NodeFacts:
        options = self.options
        return NodeFacts(name=options.node_name, host_ips=options.node_ips, allocatable=self.heartbeat.allocatable)

    def node(self) -> Obj | None:
        """The Node object as the API shows it, or as it was registered."""
        return self._nodes.get(self.options.node_name) or self.heartbeat.node

    def workers(self) -> Mapping[str, PodWorker]:
        """The workers by pod uid."""
        return self._workers

    def _settings(self) -> NodeSettings:
        options = self.options
        capacity = self.heartbeat.capacity.get("memory") or "0"
        return NodeSettings(
            name=options.node_name,
            cluster_dns=options.cluster_dns,
            cluster_domain=options.cluster_domain,
            host_dns=read_resolv_conf(options.resolv_conf.read_text() if options.resolv_conf.exists() else ""),
            cgroup_root=options.cgroup_root,
            manage_cgroups=options.manage_cgroups,
            seccomp_folder=str(options.root / "seccomp"),
            memory_capacity_bytes=parse(capacity).value,
            apparmor=_is_on(Path("/sys/module/apparmor/parameters/enabled")),
        )

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Registers the node and begins to run pods."""
        with contextlib.suppress(RuntimeFailure):
            version = await self.runtime.version()
            self.context.runtime_name = version.name
            self.context.image_volumes = mounts_images(version)
            if version.name == "containerd" and not self.context.image_volumes and images.is_available():
                self.volumes.image_mounts = images.ImageMounts(self.options.runtime_address, self.runtime)
        await self.heartbeat.register()
        await self._listen()
        heartbeat = self.heartbeat
        works = heartbeat.run(), heartbeat.keep_lease(), self.watcher.run(), self._take_pods(), self.local_paths.run()
        registered = heartbeat.node
        for work in (*works, *([csinode.ensure(self.context.client, registered)] if registered else [])):
            self._background.append(asyncio.create_task(work))

    async def _listen(self) -> None:
        options = self.options
        if not (options.certificate_file and options.key_file and options.client_ca_file):
            return
        from proa.kubelet.server.app import KubeletServer
        from proa.wire.server import serve
        from proa.wire.tls import server_context

        tls = server_context(options.certificate_file, options.key_file, options.client_ca_file)
        self.handler = KubeletServer(self.context, options, self.workers)
        self.server = await serve(self.handler, options.listen_address, options.port, tls)
        renewal = self._follow_certificate(tls, options.certificate_file, options.key_file)
        self._background.append(asyncio.create_task(renewal))

    async def _follow_certificate(self, tls: ssl.SSLContext, certificate: Path, key: Path) -> None:
        """Serves later connections with a renewed certificate as soon as its files change."""
        seen = _changed_at(certificate, key)
        while True:
            await asyncio.sleep(_CERTIFICATE_SECONDS)
            now = _changed_at(certificate, key)
            if now != seen:
                try:
                    tls.load_cert_chain(certificate, key)
                    seen = now
                except (OSError, ssl.SSLError) as error:
                    log.warning("the renewed serving certificate can't be used yet: %s", error)

    async def _take_pods(self) -> None:
        await self.pods.wait_synced()
        self.pods.add_handler(self._pod_changed)
        await self._take_leftovers()
        await self.housekeeping.run()

    async def stop(self) -> None:
        """Stops the kubelet; containers go on running."""
        tasks = [*self._background, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.server is not None and self.handler is not None:
            await self.server.close()
            await self.handler.close()
        await self.references.stop()
        await self._recorder.stop()

    # ------------------------------------------------------------ pods

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is not None and (new is None or uid_of(new) != uid_of(old)):
            worker = self._workers.get(uid_of(old))
            if worker is not None:
                worker.update(old)
                worker.removed()
        if new is None:
            return
        worker = self._workers.get(uid_of(new))
        if worker is None:
            self._begin(PodWorker(self.context, new))
        else:
            worker.update(new)

    def _begin(self, worker: PodWorker) -> None:
        self._workers[worker.uid] = worker
        task = asyncio.create_task(worker.run())
        self._tasks[worker.uid] = task
        task.add_done_callback(partial(self._over, worker.uid))

    def _over(self, uid: str, task: asyncio.Task[None]) -> None:
        self._workers.pop(uid, None)
        self._tasks.pop(uid, None)
        for other in self._workers.values():
            if other.waits_for_room:
                other.poke()
        if not task.cancelled() and task.exception() is not None:
            log.error("worker of pod %s failed", uid, exc_info=task.exception())
            self._restart(uid)

    def _restart(self, uid: str) -> None:
        """A worker that failed is an error of ours; the pod gets a new one, which starts from what it finds."""

        def begin() -> None:
            pod = next((one for one in self.pods.objects() if uid_of(one) == uid), None)
            if pod is not None and uid not in self._workers:
                self._begin(PodWorker(self.context, pod))

        asyncio.get_running_loop().call_later(1.0, begin)

    def _runtime_changed(self, uid: str) -> None:
        worker = self._workers.get(uid)
        if worker is not None:
            worker.poke()
        elif self.pods.synced:
            task = asyncio.create_task(self._take_orphan(uid))
            self._background.append(task)
            task.add_done_callback(self._background.remove)

    def _references_changed(self, uid: str) -> None:
        worker = self._workers.get(uid)
        if worker is not None:
            worker.references_changed()

    # ------------------------------------------------------------ what nobody wants any more

    async def _take_orphan(self, uid: str) -> None:
        """The runtime holds something of a pod that the API does not know: end it, as if it were deleted."""
        try:
            sandboxes = await self.runtime.sandboxes(uid)
            containers = await self.runtime.containers(uid)
        except RuntimeFailure:
            return
        if uid in self._workers or not sandboxes:
            return
        worker = PodWorker(self.context, self._as_pod(sandboxes[0], containers))
        worker.removed()
        self._begin(worker)

    def _as_pod(self, sandbox: Sandbox, containers: list[Container]) -> Obj:
        grace = max((int(one.annotations.get(POD_GRACE, 0)) for one in containers), default=0)
        until = self.context.clock.now().timestamp() + grace
        now = self.context.clock.now()
        meta = {
            "name": sandbox.name,
            "namespace": sandbox.namespace,
            "uid": sandbox.uid,
            "deletionTimestamp": rfc3339(now.fromtimestamp(until, now.tzinfo)),
            "deletionGracePeriodSeconds": grace,
        }
        return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}}

    async def _take_leftovers(self) -> None:
        """Removes folders, logs and cgroups of pods that went while no agent was there."""
        with contextlib.suppress(RuntimeFailure):
            held = {one.uid for one in await self.runtime.sandboxes()}
            known = {uid_of(pod) for pod in self.pods.objects()}
            for uid in held - known:
                await self._take_orphan(uid)
            for uid in self.context.volumes.leftovers() - held - known:
                await self.context.volumes.remove(uid)
            for folder in self.options.logs.iterdir() if self.options.logs.is_dir() else ():
                if folder.name.rpartition("_")[2] not in held | known:
                    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            leftovers = cgroups.pods_under(self.options.cgroup_root) if self.options.manage_cgroups else {}
            for uid, cgroup in leftovers.items():
                if uid not in held | known:
                    cgroups.remove(cgroup)


def _is_on(switch: Path) -> bool:
    return switch.exists() and switch.read_text().strip() == "Y"


def _changed_at(*files: Path) -> list[float]:
    return [file.stat().st_mtime if file.exists() else 0.0 for file in files]


def mounts_images(runtime: Version) -> bool:
    """Tells whether the runtime mounts images as volumes: containerd does from 2.1 on, CRI-O from 1.31 on."""
    least = {"containerd": (2, 1), "cri-o": (1, 31)}.get(runtime.name)
    found = re.match(r"v?(\d+)\.(\d+)", runtime.version)
    return bool(least and found and (int(found.group(1)), int(found.group(2))) >= least)


def read_resolv_conf(text: str) -> dict[str, list[str]]:
    """Returns servers, searches and options of a resolv.conf."""
    result: dict[str, list[str]] = {"servers": [], "searches": [], "options": []}
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if not words:
            continue
        if words[0] == "nameserver" and len(words) > 1:
            result["servers"].append(words[1])
        elif words[0] in ("search", "domain"):
            result["searches"] = [word.rstrip(".") or "." for word in words[1:]]
        elif words[0] == "options":
            result["options"] += words[1:]
    return result


async def run_kubelet(
    options: KubeletOptions,
    client: Client,
    informers: Informers,
    clock: Clock,
    before_start: BeforeStart | None = None,
) -> None:
    """Runs the kubelet until cancelled. `client` is the node's own identity; `informers` may be shared with others;
    for `before_start` see `context.py`."""
    from proa.kubelet.cri.client import CriRuntime

    runtime = CriRuntime(options.runtime_address)
    kubelet = Kubelet(options, client, informers, clock, runtime)
    kubelet.context.before_start = before_start
    try:
        await kubelet.start()
        await asyncio.Event().wait()
    finally:
        await kubelet.stop()
        await runtime.close()


__all__ = ["Kubelet", "KubeletOptions", "run_kubelet"]
