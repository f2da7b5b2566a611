"""Keeps the Node object and its lease alive: registration, status every ten seconds if it changed, lease renewals.

Follows upstream: the lease in kube-node-lease is the heartbeat; the status is written when it changes, and every five
minutes; labels that the kubelet owns are brought up to date when it starts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from proa.apis.podspec.features import DECLARED
from proa.apis.podspec.resources import is_extended
from proa.client.events import EventRecorder
from proa.client.interface import Client
from proa.client.resources import LEASES, NODES
from proa.kubelet.cri.types import Condition, Image, Runtime, RuntimeFailure, Version
from proa.kubelet.node import (
    TRANSITIONS,
    addresses,
    base_labels,
    conditions,
    images_status,
    measure,
    new_node,
    node_info,
    resources,
)
from proa.kubelet.options import KubeletOptions
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, annotations_of, copy_object, labels_of, metadata, uid_of
from proa.util.clock import Clock, rfc3339_micro

log = logging.getLogger(__name__)

_LEASES_NAMESPACE = "kube-node-lease"
_STARTING_SECONDS = 0.1
_RETRY_SECONDS = 1.0
_IMAGES_EVERY = 6


class Heartbeat:
    """The node's presence in the API. `failure` says why the kubelet itself is not ready, empty if it is."""

    def __init__(
        self,
        options: KubeletOptions,
        client: Client,
        runtime: Runtime,
        recorder: EventRecorder,
        clock: Clock,
        failure: Callable[[], str],
        current: Callable[[], Obj | None] = lambda: None,
    ) -> None:
        """`failure` tells what is wrong with the runtime; `current` returns the node as the API last showed it."""
        self._options = options
        self._client = client
        self._runtime = runtime
        self._recorder = recorder
        self._clock = clock
        self._failure = failure
        self._current = current
        self._version: Version | None = None
        self._strict_groups = False
        self._images: list[Image] = []
        self._rounds = 0
        self._lease: Obj | None = None
        self._written_at = 0.0
        self.node: Obj | None = None
        self.capacity, self.allocatable = resources(options, measure(options))
        self.shutting_down = asyncio.Event()

    async def register(self) -> None:
        """Creates the Node, or takes over the one that is there; retries until the API answers."""
        told = ""
        while True:
            try:
                self.node = await self._register_once()
                return
            except (StatusError, OSError, EOFError) as error:
                if str(error) != told:
                    log.warning("registering node %s: %s", self._options.node_name, error)
                told = str(error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _register_once(self) -> Obj:
        name = self._options.node_name
        wanted = new_node(self._options)
        try:
            node = await self._client.get(NODES, name)
        except StatusError as error:
            if error.code != 404 or not self._options.register:
                raise
            # Status comes along, so that the node never shows without capacity.
            wanted["status"] = await self._status({})
            created = await self._client.create(NODES, wanted)
            self._told(created)
            return created
        changed = {key: value for key, value in base_labels(self._options).items() if labels_of(node).get(key) != value}
        notes = metadata(wanted)["annotations"]
        noted = {key: value for key, value in notes.items() if annotations_of(node).get(key) != value}
        if changed or noted:
            node = await self._client.patch(NODES, name, {"metadata": {"labels": changed, "annotations": noted}})
        return node

    def _told(self, node: Obj) -> None:
        # Events about nodes carry the node's name as uid, as upstream's kubelet does.
        reference = {"kind": "Node", "apiVersion": "v1", "metadata": {"name": self._options.node_name}}
        reference["metadata"]["uid"] = self._options.node_name  # type: ignore[index]
        self._recorder.event(reference, "Normal", "Starting", "Starting kubelet.")

    async def run(self) -> None:
        """Writes the status until cancelled; often while the node is not ready yet."""
        while True:
            ready = False
            try:
                ready = await self._write_status()
            except (StatusError, OSError, EOFError) as error:
                # A Node that was deleted stays deleted until the agent starts again, as upstream's does.
                log.warning("status of node %s: %s", self._options.node_name, error)
            seconds = self._options.status_seconds
            young = self._rounds < 100
            await asyncio.sleep(seconds if ready or not young else _STARTING_SECONDS)

    async def _write_status(self) -> bool:
        assert self.node is not None
        before = self.node.get("status") or {}
        shown = (self._current() or self.node).get("status") or {}
        status = await self._status(before)
        gone = _add_extended(status, shown)
        self._rounds += 1
        ready = bool(status["conditions"][-1]["status"] == "True")
        now = self._clock.monotonic()
        changed = gone or _without_heartbeats(status) != _without_heartbeats({key: before.get(key) for key in status})
        if changed or now - self._written_at >= self._options.status_seconds_max:
            patch = {"status": copy_object(status)}
            patch["status"]["addresses"] = [{"$patch": "replace"}, *status["addresses"]]
            patch["status"]["allocatable"].update(dict.fromkeys(gone))
            self.node = await self._client.patch(NODES, self._options.node_name, patch, subresource="status")
            self._written_at = now
            self._tell_transitions(before, status)
        return ready

    def _tell_transitions(self, before: Obj, status: Obj) -> None:
        old = {one["type"]: one.get("status") for one in before.get("conditions") or []}
        for one in status["conditions"]:
            reason = TRANSITIONS.get((one["type"], one["status"]))
            if reason and old.get(one["type"]) != one["status"]:
                reference = {"kind": "Node", "apiVersion": "v1", "metadata": {"name": self._options.node_name}}
                reference["metadata"]["uid"] = self._options.node_name  # type: ignore[index]
                message = f"Node {self._options.node_name} status is now: {reason}"
                self._recorder.event(reference, "Normal", reason, message)

    async def _status(self, before: Obj) -> Obj:
        failure = self._failure()
        runtime: list[Condition] = []
        try:
            runtime = await self._runtime.conditions()
            if self._version is None:
                self._version = await self._runtime.version()
                self._strict_groups = await self._runtime.strict_groups()
            if self._rounds % _IMAGES_EVERY == 0:
                self._images = await self._runtime.images()
        except RuntimeFailure as error:
            failure = failure or f"container runtime is down: {error.message}"
        machine = measure(self._options)
        self.capacity, self.allocatable = resources(self._options, machine)
        return {
            "capacity": self.capacity,
            "allocatable": self.allocatable,
            "addresses": addresses(self._options),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._options.port}},
            "nodeInfo": node_info(self._version),
            "images": images_status(self._images),
            "declaredFeatures": list(DECLARED),
            **({"features": {"supplementalGroupsPolicy": True}} if self._strict_groups else {}),
            "conditions": conditions(machine, runtime, failure, before.get("conditions") or [], self._clock.now()),
        }

    # ------------------------------------------------------------ lease

    async def keep_lease(self) -> None:
        """Renews the node's lease four times in its duration, until cancelled."""
        while True:
            try:
                await self._renew()
                await asyncio.sleep(self._options.lease_seconds / 4)
            except (StatusError, OSError, EOFError) as error:
                self._lease = None
                log.warning("lease of node %s: %s", self._options.node_name, error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _renew(self) -> None:
        name = self._options.node_name
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": self._options.lease_seconds,
            "renewTime": rfc3339_micro(self._clock.now()),
        }
        if self._lease is None:
            try:
                self._lease = await self._client.get(LEASES, name, _LEASES_NAMESPACE)
            except StatusError as error:
                if error.code != 404:
                    raise
                meta: Obj = {"name": name, "namespace": _LEASES_NAMESPACE}
                if self.node is not None:
                    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid_of(self.node)}
                    meta["ownerReferences"] = [owner]
                lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
                self._lease = await self._client.create(LEASES, lease, _LEASES_NAMESPACE)
                return
        renewed = {**self._lease, "spec": {**(self._lease.get("spec") or {}), **spec}}
        self._lease = await self._client.update(LEASES, renewed)


def _add_extended(status: Obj, shown: Obj) -> list[str]:
    """Makes the extended resources that somebody gave the node's capacity allocatable, as upstream's kubelet does.

    Returns those to take out of allocatable: they are no capacity any more.
    """
    for name, amount in (shown.get("capacity") or {}).items():
        if is_extended(name) and name not in status["capacity"]:
            status["capacity"] = {**status["capacity"], name: amount}
            status["allocatable"] = {**status["allocatable"], name: amount}
    return [name for name in shown.get("allocatable") or () if is_extended(name) and name not in status["capacity"]]


def _without_heartbeats(status: Obj) -> Obj:
    trimmed = {key: value for key, value in status.items() if key != "conditions"}
    trimmed["conditions"] = {
        one["type"]: {key: value for key, value in one.items() if key != "lastHeartbeatTime"}
        for one in status.get("conditions") or []
    }
    return trimmed
