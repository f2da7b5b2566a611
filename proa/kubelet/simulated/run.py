"""Carries out the lives of pods on simulated nodes: one process, one watch, thousands of nodes.

Nodes renew their leases and report their status as kubelets do. A node can be stopped (its lease runs out, its pods are
left alone: a crash or a partition) and resumed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from proa import KUBERNETES_VERSION
from proa.apis.podspec.features import DECLARED
from proa.client.informer import Informers
from proa.client.interface import MERGE_PATCH, Client, DeleteOptions
from proa.client.resources import LEASES, NODES, PODS
from proa.client.workqueue import ShutDown, WorkQueue
from proa.kubelet.simulated.addresses import Addresses
from proa.kubelet.simulated.plan import Life, Step, plan, usage_annotations
from proa.kubelet.simulated.rounds import Rounds
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, key_of, name_of, namespace_of, split_key, uid_of
from proa.util.clock import Clock, rfc3339, rfc3339_micro

log = logging.getLogger(__name__)

SIMULATED = "proa.dev/simulated"
LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS = 40
RENEW_SECONDS = 10.0
# Nodes beyond the first 2,000 make all of them renew less often, so that leases cost a tenth of a core at most. At
# 25 s, one renewal may still fail before a node counts as silent (50 s).
RENEW_SECONDS_PER_NODE = 1 / 200
RENEW_SECONDS_MAX = 25.0
WORKERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTemplate:
    """What every simulated node offers; `zones` are dealt out in turn."""

    cpu: str = "32"
    memory: str = "256Gi"
    pods: int = 110
    resources: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Obj] = ()
    zones: Sequence[str] = ()
    name_prefix: str = "simulated"
    # Nothing ever listens there. The first quarter is for nodes; each node gets a part of the rest for its pods.
    addresses: str = "100.64.0.0/10"


class SimulatedNodes:
    """`count` nodes; the first of `lives` that matches a pod is its life, and a pod that none matches just runs."""

    def __init__(
        self,
        client: Client,
        informers: Informers,
        clock: Clock,
        count: int,
        template: NodeTemplate | None = None,
        lives: Sequence[Life] = (),
        *,
        renew_seconds: float | None = None,
    ) -> None:
        self.lives = list(lives)
        self.template = template or NodeTemplate()
        self.names = [f"{self.template.name_prefix}-{number}" for number in range(count)]
        self._numbers = {name: number for number, name in enumerate(self.names)}
        self._client = client
        self._clock = clock
        self._renew_seconds = renew_seconds or min(
            max(RENEW_SECONDS, count * RENEW_SECONDS_PER_NODE), RENEW_SECONDS_MAX
        )
        self._stopped: set[str] = set()
        self._addresses = Addresses(ipaddress.ip_network(self.template.addresses), count, self.template.pods)
        self._pods = informers.informer(PODS)
        self._queue: WorkQueue[str] = WorkQueue()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Registers the nodes; returns when all exist. From then on pods bound to them live."""
        await self._pods.wait_synced()
        await self._everywhere(self._register, self.names)
        self._pods.add_handler(self._pod_changed)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._work(), name="simulated pods") for _ in range(WORKERS)]
        renewals = Rounds(self.names, self._renew_seconds, self._renew_lease)
        self._tasks.append(loop.create_task(renewals.run(), name="simulated leases"))

    async def stop(self) -> None:
        """Stops living; the nodes stay registered."""
        self._queue.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def halt(self, name: str) -> None:
        """Makes a node fall silent: no lease, no status, nothing done for its pods."""
        self._stopped.add(name)

    def resume(self, name: str) -> None:
        """Makes a halted node go on."""
        self._stopped.discard(name)
        for pod in self._pods.objects():
            if (pod.get("spec") or {}).get("nodeName") == name:
                self._queue.add(key_of(pod))

    def look_again(self) -> None:
        """Makes every pod be looked at again, after `lives` was changed."""
        for pod in self._pods.objects():
            self._pod_changed(None, pod)

    # ------------------------------------------------------------ nodes

    async def _everywhere(self, action, names: Sequence[str]) -> None:  # type: ignore[no-untyped-def]
        waiting = iter(names)

        async def some() -> None:
            for name in waiting:
                await action(name)

        await asyncio.gather(*(some() for _ in range(WORKERS)))

    def _node(self, name: str) -> Obj:
        template, number, now = self.template, self._numbers[name], rfc3339(self._clock.now())
        labels = {
            "beta.kubernetes.io/arch": "amd64",
            "beta.kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            SIMULATED: "true",
            **template.labels,
        }
        if template.zones:
            labels["topology.kubernetes.io/zone"] = template.zones[number % len(template.zones)]
        capacity = {"cpu": template.cpu, "memory": template.memory, "pods": str(template.pods), **template.resources}
        good = [("MemoryPressure", "KubeletHasSufficientMemory"), ("DiskPressure", "KubeletHasNoDiskPressure")]
        good.append(("PIDPressure", "KubeletHasSufficientPID"))
        conditions = [_node_condition(kind, "False", reason, now) for kind, reason in good]
        conditions.append(_node_condition("Ready", "True", "KubeletReady", now))
        address, part = self._addresses.node(number), self._addresses.part(number)
        spec: Obj = {"podCIDR": part, "podCIDRs": [part]}
        if template.taints:
            spec["taints"] = [dict(taint) for taint in template.taints]
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels, "annotations": {SIMULATED: "true"}},
            "spec": spec,
            "status": {
                "capacity": capacity,
                "allocatable": capacity,
                "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
                "conditions": conditions,
                "declaredFeatures": list(DECLARED),
                "nodeInfo": {
                    "architecture": "amd64",
                    "bootID": "",
                    "containerRuntimeVersion": "simulated://1",
                    "kernelVersion": "simulated",
                    "kubeProxyVersion": "",
                    "kubeletVersion": KUBERNETES_VERSION,
                    "machineID": "",
                    "operatingSystem": "linux",
                    "osImage": "simulated",
                    "systemUUID": "",
                },
            },
        }

    async def _register(self, name: str) -> None:
        node = self._node(name)
        try:
            await self._client.create(NODES, node)
        except StatusError as error:
            if error.code != 409:
                raise
            status = {"status": node["status"]}
            await self._client.patch(NODES, name, status, patch_type=MERGE_PATCH, subresource="status")
        try:
            await self._client.create(LEASES, self._lease(name), LEASE_NAMESPACE)
        except StatusError as error:
            if error.code != 409:
                raise
            await self._renew_lease(name)

    def _lease(self, name: str) -> Obj:
        now = rfc3339_micro(self._clock.now())
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": LEASE_NAMESPACE},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now},
        }

    async def _renew_lease(self, name: str) -> None:
        if name in self._stopped:
            return
        lease = self._lease(name)
        try:
            patch = {"spec": lease["spec"]}
            await self._client.patch(LEASES, name, patch, LEASE_NAMESPACE, patch_type=MERGE_PATCH)
        except StatusError as error:
            if error.code != 404:
                raise
            await self._client.create(LEASES, lease, LEASE_NAMESPACE)

    # ------------------------------------------------------------ pods

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        pod = new or old or {}
        number = self._numbers.get((pod.get("spec") or {}).get("nodeName") or "")
        if number is None:
            return
        if new is None:
            self._addresses.free(number, uid_of(pod))
            return
        known = (pod.get("status") or {}).get("podIP")
        if known and old is None:  # another simulator gave it before this one started
            self._addresses.keep(number, uid_of(pod), known)
        self._queue.add(key_of(pod))

    async def _work(self) -> None:
        while True:
            try:
                key = await self._queue.get()
            except ShutDown:
                return
            try:
                await self._live(key)
                self._queue.forget(key)
            except (StatusError, OSError, EOFError) as error:
                log.debug("simulated pod %s: %s", key, error)
                self._queue.add_rate_limited(key)
            finally:
                self._queue.done(key)

    async def _live(self, key: str) -> None:
        namespace, name = split_key(key)
        pod = self._pods.get(name, namespace)
        if pod is None:
            return
        node = (pod.get("spec") or {}).get("nodeName")
        if node not in self._numbers or node in self._stopped:
            return
        life = next((one for one in self.lives if one.matches(pod)), _JUST_RUNS)
        number = self._numbers[node]
        pod_ip = (pod.get("status") or {}).get("podIP") or self._addresses.pod(number, uid_of(pod))
        step = plan(pod, life, pod_ip, self._addresses.node(number), self._clock.now())
        await self._carry_out(pod, step, usage_annotations(life) if life.usage else {})
        if step.after_seconds:  # what is due at once follows from the change that was just written
            self._queue.add_after(key, step.after_seconds)

    async def _carry_out(self, pod: Obj, step: Step, annotations: Mapping[str, str]) -> None:
        name, namespace = name_of(pod), namespace_of(pod)
        try:
            if step.remove:
                await self._client.delete(PODS, name, namespace, DeleteOptions(grace_seconds=0, uid=uid_of(pod)))
            elif step.status is not None:
                meta: Obj = {"uid": uid_of(pod)}
                if annotations:
                    meta["annotations"] = annotations
                patch = {"metadata": meta, "status": step.status}
                await self._client.patch(PODS, name, patch, namespace, patch_type=MERGE_PATCH, subresource="status")
        except StatusError as error:
            if error.code not in (404, 409):
                raise


_JUST_RUNS = Life()


def _node_condition(kind: str, status: str, reason: str, now: str) -> Obj:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": "simulated",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
