"""What pods and the node use: /stats/summary, /metrics/resource and the kubelet's own /metrics.

Follows upstream's Summary API and resource metrics, from which metrics-server and `kubectl top` read. Rates come from
two samples at least ten seconds apart, or since the first one.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from proa.kubelet.context import Context
from proa.kubelet.cri.types import Sandbox, Stats
from proa.kubelet.node import KUBELET_VERSION, measure
from proa.kubelet.options import KubeletOptions
from proa.kubelet.podspec import CONTAINER_NAME, POD_UID
from proa.kubelet.server.volumestats import CLAIM_METRICS, volume_stats
from proa.kubelet.worker import PodWorker
from proa.meta.objects import Obj, name_of, namespace_of
from proa.util.clock import rfc3339

_SAMPLE_SECONDS = 10.0
_NANO = 1_000_000_000


@dataclass(slots=True)
class _Sample:
    timestamp: int
    value: int


class _Rates:
    """Use per second from growing counters: the difference to a sample of at least ten seconds ago."""

    def __init__(self) -> None:
        self._old: dict[str, _Sample] = {}
        self._rate: dict[str, int] = {}

    def rate(self, key: str, timestamp: int, value: int) -> int:
        """Returns units per second; 0 until there are two samples."""
        old = self._old.get(key)
        span = timestamp - old.timestamp if old else 0
        if old is None or value < old.value:
            self._old[key] = _Sample(timestamp, value)
        elif span > 0:
            self._rate[key] = (value - old.value) * _NANO // span
            if span >= _SAMPLE_SECONDS * _NANO:
                self._old[key] = _Sample(timestamp, value)
        return self._rate.get(key, 0)


class Statistics:
    """Figures of one node."""

    def __init__(
        self, context: Context, options: KubeletOptions, workers: Callable[[], Mapping[str, PodWorker]]
    ) -> None:
        self._context = context
        self._options = options
        self._workers = workers
        self._rates = _Rates()
        self._started_at = context.clock.now()

    async def _by_pod(self) -> dict[str, list[Stats]]:
        result: dict[str, list[Stats]] = {}
        for one in await self._context.runtime.stats():
            result.setdefault(one.labels.get(POD_UID, ""), []).append(one)
        return result

    # ------------------------------------------------------------ summary

    async def summary(self) -> Obj:
        """Returns upstream's Summary object."""
        by_pod = await self._by_pod()
        volumes = await self._volumes()
        pods = [
            self._pod(worker, by_pod.get(uid, [])) | ({"volume": volumes[uid]} if volumes.get(uid) else {})
            for uid, worker in self._workers().items()
            if worker.observed.sandbox is not None
        ]
        return {"node": self._node(), "pods": pods}

    async def _volumes(self, claims_only: bool = False) -> dict[str, list[Obj]]:
        """Returns the VolumeStats of all pods by uid; file systems are read in a thread."""
        stamp = rfc3339(self._context.clock.now())
        wanted = {
            uid: (worker.pod, dict(worker.volume_paths))
            for uid, worker in self._workers().items()
            if worker.volume_paths and not (claims_only and not _has_claims(worker.pod))
        }
        if not wanted:
            return {}
        return await asyncio.to_thread(
            lambda: {uid: volume_stats(pod, paths, stamp, claims_only) for uid, (pod, paths) in wanted.items()}
        )

    def _node(self) -> Obj:
        machine = measure(self._options)
        now = self._context.clock.now()
        stamp, nano = rfc3339(now), int(now.timestamp() * _NANO)
        cpu = _node_cpu_nanoseconds()
        used = machine.memory_bytes - machine.memory_available_bytes
        disk = {
            "time": stamp,
            "availableBytes": machine.disk_available_bytes,
            "capacityBytes": machine.disk_bytes,
            "usedBytes": machine.disk_bytes - machine.disk_available_bytes,
            "inodesFree": machine.inodes_free,
            "inodes": machine.inodes,
            "inodesUsed": machine.inodes - machine.inodes_free,
        }
        return {
            "nodeName": self._options.node_name,
            "startTime": rfc3339(self._started_at),
            "cpu": {
                "time": stamp,
                "usageNanoCores": self._rates.rate("node", nano, cpu),
                "usageCoreNanoSeconds": cpu,
            },
            "memory": {
                "time": stamp,
                "availableBytes": machine.memory_available_bytes,
                "usageBytes": used,
                "workingSetBytes": used,
            },
            "network": {"time": stamp, **_network("self")},
            "fs": disk,
            "runtime": {"imageFs": disk},
            "rlimit": {"time": stamp, "maxpid": machine.processes_max, "curproc": machine.processes},
        }

    def _pod(self, worker: PodWorker, stats: list[Stats]) -> Obj:
        pod = worker.pod
        containers = [self._container(worker, one) for one in stats]
        stamp = rfc3339(self._context.clock.now())
        result: Obj = {
            "podRef": {"name": name_of(pod), "namespace": namespace_of(pod), "uid": worker.uid},
            "startTime": (pod.get("status") or {}).get("startTime"),
            "containers": containers,
            "cpu": {
                "time": stamp,
                "usageNanoCores": sum(one["cpu"]["usageNanoCores"] for one in containers),
                "usageCoreNanoSeconds": sum(one["cpu"]["usageCoreNanoSeconds"] for one in containers),
            },
            "memory": {
                "time": stamp,
                "usageBytes": sum(one["memory"]["usageBytes"] for one in containers),
                "workingSetBytes": sum(one["memory"]["workingSetBytes"] for one in containers),
                "rssBytes": sum(one["memory"]["rssBytes"] for one in containers),
            },
        }
        sandbox: Sandbox | None = worker.observed.ready_sandbox
        if sandbox is not None and sandbox.pid and not sandbox.host_network:
            result["network"] = {"time": stamp, **_network(str(sandbox.pid))}
        return result

    def _container(self, worker: PodWorker, one: Stats) -> Obj:
        name = one.labels.get(CONTAINER_NAME, one.name)
        stamp = rfc3339(datetime.fromtimestamp(one.timestamp / _NANO, UTC))
        latest = worker.observed.latest(name)
        started = latest.started_at if latest else one.timestamp
        cpu = one.cpu_nanoseconds or 0
        logs = Path(latest.log_path) if latest and latest.log_path else None
        return {
            "name": name,
            "startTime": rfc3339(datetime.fromtimestamp(started / _NANO, UTC)),
            "cpu": {
                "time": stamp,
                "usageNanoCores": self._rates.rate(one.container_id, one.timestamp, cpu),
                "usageCoreNanoSeconds": cpu,
            },
            "memory": {
                "time": stamp,
                "usageBytes": one.memory_usage or one.memory_working_set or 0,
                "workingSetBytes": one.memory_working_set or 0,
                "rssBytes": one.memory_rss or 0,
                "pageFaults": one.page_faults or 0,
                "majorPageFaults": one.major_page_faults or 0,
            },
            "rootfs": {"time": stamp, "usedBytes": one.writable_bytes or 0, "inodesUsed": one.writable_inodes or 0},
            "logs": {"time": stamp, "usedBytes": _folder_bytes(logs.parent) if logs else 0},
        }

    # ------------------------------------------------------------ metrics

    async def resource_metrics(self) -> str:
        """Returns what metrics-server scrapes; counters of containers bear the time of their reading."""
        by_pod = await self._by_pod()
        machine, cpu = measure(self._options), _node_cpu_nanoseconds()
        now_ms = int(self._context.clock.now().timestamp() * 1000)
        rows: dict[str, list[tuple[dict[str, str], Any]]] = {name: [] for name in _RESOURCE_METRICS}
        rows["node_cpu_usage_seconds_total"].append(({}, f"{cpu / _NANO} {now_ms}"))
        used = machine.memory_bytes - machine.memory_available_bytes
        rows["node_memory_working_set_bytes"].append(({}, f"{used} {now_ms}"))
        for uid, worker in self._workers().items():
            if worker.observed.sandbox is not None:
                self._add_pod(worker, by_pod.get(uid, []), now_ms, rows)
        rows["resource_scrape_error"].append(({}, 0))
        return "".join(_metric(name, *_RESOURCE_METRICS[name], rows[name]) for name in _RESOURCE_METRICS)

    @staticmethod
    def _add_pod(
        worker: PodWorker, stats: list[Stats], now_ms: int, rows: Mapping[str, list[tuple[dict[str, str], Any]]]
    ) -> None:
        where = {"namespace": namespace_of(worker.pod), "pod": name_of(worker.pod)}
        cpu, memory = sum(one.cpu_nanoseconds or 0 for one in stats), sum(one.memory_working_set or 0 for one in stats)
        rows["pod_cpu_usage_seconds_total"].append((where, f"{cpu / _NANO} {now_ms}"))
        rows["pod_memory_working_set_bytes"].append((where, f"{memory} {now_ms}"))
        for one in stats:
            name = one.labels.get(CONTAINER_NAME, one.name)
            labels, stamp = {"container": name, **where}, one.timestamp * 1000 // _NANO
            latest = worker.observed.latest(name)
            started = (latest.started_at if latest else one.timestamp) / _NANO
            rows["container_cpu_usage_seconds_total"].append((labels, f"{(one.cpu_nanoseconds or 0) / _NANO} {stamp}"))
            rows["container_memory_working_set_bytes"].append((labels, f"{one.memory_working_set or 0} {stamp}"))
            rows["container_start_time_seconds"].append((labels, started))

    async def own_metrics(self) -> str:
        """Returns figures of the kubelet itself."""
        states: dict[str, int] = {}
        for worker in self._workers().values():
            for one in worker.observed.all():
                states[one.state] = states.get(one.state, 0) + 1
        claims: dict[tuple[str, str], Obj] = {}
        for volumes in (await self._volumes(claims_only=True)).values():
            claims |= {(volume["pvcRef"]["namespace"], volume["pvcRef"]["name"]): volume for volume in volumes}
        use = resource.getrusage(resource.RUSAGE_SELF)
        parts: list[tuple[str, str, str, list[tuple[dict[str, str], Any]]]] = [
            ("kubelet_node_name", "gauge", "The node's name.", [({"node": self._options.node_name}, 1)]),
            ("kubernetes_build_info", "gauge", "The version.", [({"git_version": KUBELET_VERSION}, 1)]),
            (
                "kubelet_running_pods",
                "gauge",
                "Number of pods that have a running pod sandbox",
                [({}, sum(worker.observed.ready_sandbox is not None for worker in self._workers().values()))],
            ),
            (
                "kubelet_running_containers",
                "gauge",
                "Number of currently running containers",
                [({"container_state": state}, count) for state, count in sorted(states.items())],
            ),
            ("process_cpu_seconds_total", "counter", "CPU time.", [({}, use.ru_utime + use.ru_stime)]),
            ("process_resident_memory_bytes", "gauge", "Resident memory.", [({}, _resident_bytes())]),
        ]
        for end, (field, about) in CLAIM_METRICS.items() if claims else ():
            rows: list[tuple[dict[str, str], Any]] = [
                ({"namespace": namespace, "persistentvolumeclaim": name}, figures[field])
                for (namespace, name), figures in sorted(claims.items())
            ]
            parts.append((f"kubelet_volume_stats_{end}", "gauge", about, rows))
        return "".join(_metric(name, kind, about, rows) for name, kind, about, rows in parts)


_RESOURCE_METRICS = {
    "container_cpu_usage_seconds_total": ("counter", "Cumulative cpu time consumed by the container in core-seconds"),
    "container_memory_working_set_bytes": ("gauge", "Current working set of the container in bytes"),
    "container_start_time_seconds": ("gauge", "Start time of the container since unix epoch in seconds"),
    "node_cpu_usage_seconds_total": ("counter", "Cumulative cpu time consumed by the node in core-seconds"),
    "node_memory_working_set_bytes": ("gauge", "Current working set of the node in bytes"),
    "pod_cpu_usage_seconds_total": ("counter", "Cumulative cpu time consumed by the pod in core-seconds"),
    "pod_memory_working_set_bytes": ("gauge", "Current working set of the pod in bytes"),
    "resource_scrape_error": ("gauge", "1 if there was an error while getting container metrics, 0 otherwise"),
}


def _metric(name: str, kind: str, about: str, rows: list[tuple[dict[str, str], Any]]) -> str:
    def line(labels: dict[str, str], value: Any) -> str:
        inside = ",".join(f'{key}="{text}"' for key, text in labels.items())
        return f"{name}{{{inside}}} {value}\n" if inside else f"{name} {value}\n"

    return f"# HELP {name} {about}\n# TYPE {name} {kind}\n" + "".join(line(*row) for row in rows)


def _node_cpu_nanoseconds() -> int:
    """CPU time of the whole machine, from /proc/stat: all but idle and waiting."""
    fields = [int(one) for one in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    busy = sum(fields) - fields[3] - fields[4]
    return busy * _NANO // os.sysconf("SC_CLK_TCK")


def _network(pid: str) -> Obj:
    """Bytes and errors of a network namespace's interfaces, its main one on top."""
    interfaces = []
    for name, numbers in _device_lines(pid):
        if name != "lo":
            interfaces.append(
                {
                    "name": name,
                    "rxBytes": numbers[0],
                    "rxErrors": numbers[2],
                    "txBytes": numbers[8],
                    "txErrors": numbers[10],
                }
            )
    main = next((one for one in interfaces if one["name"] == "eth0"), interfaces[0] if interfaces else {})
    return {**main, "interfaces": interfaces}


def _device_lines(pid: str) -> Iterator[tuple[str, list[int]]]:
    try:
        lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    except OSError:
        return
    for line in lines:
        name, _, rest = line.partition(":")
        yield name.strip(), [int(one) for one in rest.split()]


def _has_claims(pod: Obj) -> bool:
    volumes = (pod.get("spec") or {}).get("volumes") or ()
    return any("persistentVolumeClaim" in one or "ephemeral" in one for one in volumes)


def _folder_bytes(folder: Path) -> int:
    try:
        return sum(one.stat().st_size for one in folder.iterdir())
    except OSError:
        return 0


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
