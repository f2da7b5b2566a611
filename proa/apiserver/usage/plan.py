"""From counters to usage (pure): kubelets' /metrics/resource as samples, and two samples of a node as NodeMetrics and
PodMetrics.

As metrics-server: CPU is the mean between the two samples, memory the working set of the later one; a pod with a
container that cannot be computed yet is left out. A container that began after the first sample is measured from its
start on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from proa.apis.metrics.resources import GROUP, VERSION
from proa.meta.objects import Obj, labels_of, metadata, name_of, namespace_of
from proa.meta.quantity import BINARY_SI, DECIMAL_SI, NANO_PER_UNIT, Quantity, parse
from proa.util.clock import rfc3339

# Annotations of pods on simulated nodes: what the pod uses, as quantities.
USAGE_ANNOTATIONS = {"cpu": "proa.dev/usage-cpu", "memory": "proa.dev/usage-memory"}
SIMULATED_WINDOW_SECONDS = 15.0
_API_VERSION = f"{GROUP}/{VERSION}"
_LINE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{([^}]*)\})?\s+(\S+)(?:\s+(-?\d+))?")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# Changes of a counter over less than this say little.
_SPAN_SECONDS_LEAST = 0.5


@dataclass(slots=True)
class Reading:
    """Counters of one thing; `at` and `started` are seconds since the epoch, `cpu` core-seconds, `memory` bytes."""

    at: float = 0.0
    cpu: float | None = None
    memory: int | None = None
    started: float = 0.0


ContainerKey = tuple[str, str, str]  # namespace, pod, container


@dataclass(slots=True)
class Sample:
    """All readings of one node at about one time."""

    at: float
    node: Reading = field(default_factory=Reading)
    containers: dict[ContainerKey, Reading] = field(default_factory=dict)


def read_sample(text: str, now: float) -> Sample:
    """Reads what /metrics/resource of a kubelet says; lines without a time of their own are of `now`."""
    sample = Sample(now)
    for match in map(_LINE.match, text.splitlines()):
        if match is None:
            continue
        name, labels_text, value_text, stamp = match.groups()
        reading = _reading_of(sample, name, dict(_LABEL.findall(labels_text or "")))
        if reading is None:
            continue
        try:
            value = float(value_text)
        except ValueError:
            continue
        if name.endswith("_cpu_usage_seconds_total"):
            reading.cpu, reading.at = value, int(stamp) / 1000 if stamp else now
        elif name.endswith("_memory_working_set_bytes"):
            reading.memory = int(value)
        elif name == "container_start_time_seconds":
            reading.started = value
    return sample


def _reading_of(sample: Sample, name: str, labels: Mapping[str, str]) -> Reading | None:
    if name.startswith("node_"):
        return sample.node
    if not name.startswith("container_") or not {"namespace", "pod", "container"} <= labels.keys():
        return None
    return sample.containers.setdefault((labels["namespace"], labels["pod"], labels["container"]), Reading())


@dataclass(frozen=True, slots=True)
class Usage:
    """`cpu` in cores, `memory` in bytes, over the `window` seconds up to `at` (seconds since the epoch)."""

    cpu: float
    memory: int
    at: float
    window: float

    def shown(self) -> Obj:
        """Returns it as the API does."""
        cpu = Quantity(max(0, round(self.cpu * NANO_PER_UNIT)), DECIMAL_SI)
        return {"cpu": str(cpu), "memory": str(Quantity(self.memory * NANO_PER_UNIT, BINARY_SI))}


def usage(old: Reading | None, new: Reading) -> Usage | None:
    """Returns what was used between two readings, None if they don't tell."""
    if new.cpu is None or new.memory is None:
        return None
    restarted = old is None or old.cpu is None or new.cpu < old.cpu or new.started != old.started
    since, used = (new.started, 0.0) if restarted or old is None else (old.at, old.cpu or 0.0)
    span = new.at - since
    if not since or span < _SPAN_SECONDS_LEAST:
        return None
    return Usage((new.cpu - used) / span, new.memory, new.at, span)


def node_usage(old: Sample, new: Sample) -> Usage | None:
    return usage(old.node, new.node)


def pod_usages(old: Sample, new: Sample) -> dict[tuple[str, str], dict[str, Usage]]:
    """Returns the usage of each pod's containers, by namespace and name; incomplete pods are left out."""
    found: dict[tuple[str, str], dict[str, Usage] | None] = {}
    for key, reading in new.containers.items():
        namespace, pod, container = key
        measured = usage(old.containers.get(key), reading)
        if measured is None:
            found[namespace, pod] = None
        elif (known := found.setdefault((namespace, pod), {})) is not None:
            known[container] = measured
    return {key: one for key, one in found.items() if one}


# ---------------------------------------------------------------- simulated nodes


def simulated_pod(pod: Obj, now: float) -> dict[str, Usage]:
    """Returns what the containers of a pod on a simulated node are said to use: a share each of what its annotations
    say, else what they request."""
    containers = (pod.get("spec") or {}).get("containers") or ()
    if (pod.get("status") or {}).get("phase") != "Running" or not containers:
        return {}
    annotations = metadata(pod).get("annotations") or {}
    stated = {resource: _quantity(annotations.get(key)) for resource, key in USAGE_ANNOTATIONS.items()}
    found = {}
    for one in containers:
        requests = (one.get("resources") or {}).get("requests") or {}
        nano = {
            resource: (_quantity(requests.get(resource)) or 0) if whole is None else whole // len(containers)
            for resource, whole in stated.items()
        }
        cpu, memory = nano["cpu"] / NANO_PER_UNIT, nano["memory"] // NANO_PER_UNIT
        found[one["name"]] = Usage(cpu, memory, now, SIMULATED_WINDOW_SECONDS)
    return found


def _quantity(text: object) -> int | None:
    """Returns a quantity in billionths, None if there is none (or nonsense)."""
    try:
        return None if text is None else parse(text).nano
    except ValueError:
        return None


def simulated_node(pods: Iterable[Obj], now: float) -> Usage:
    """Returns what a simulated node is said to use: what its pods do."""
    used = [one for pod in pods for one in simulated_pod(pod, now).values()]
    cpu, memory = sum(one.cpu for one in used), sum(one.memory for one in used)
    return Usage(cpu, memory, now, SIMULATED_WINDOW_SECONDS)


# ---------------------------------------------------------------- objects


def node_metrics(node: Obj, used: Usage, now: datetime) -> Obj:
    return {**_head("NodeMetrics", node, now), **_span(used.at, used.window), "usage": used.shown()}


def pod_metrics(pod: Obj, used: Mapping[str, Usage], now: datetime) -> Obj:
    """Returns a PodMetrics; its time is that of the container that was measured first."""
    first = min(used.values(), key=lambda one: one.at)
    containers = [{"name": name, "usage": one.shown()} for name, one in sorted(used.items())]
    return {**_head("PodMetrics", pod, now), **_span(first.at, first.window), "containers": containers}


def _head(kind: str, of: Obj, now: datetime) -> Obj:
    meta: Obj = {"name": name_of(of), "creationTimestamp": rfc3339(now)}
    if namespace_of(of):
        meta["namespace"] = namespace_of(of)
    if labels_of(of):
        meta["labels"] = dict(labels_of(of))
    return {"kind": kind, "apiVersion": _API_VERSION, "metadata": meta}


def _span(at: float, window: float) -> Obj:
    return {"timestamp": rfc3339(datetime.fromtimestamp(at, UTC)), "window": go_duration(window)}


def metrics_list(kind: str, items: Sequence[Obj]) -> Obj:
    untyped = [{key: value for key, value in one.items() if key not in ("kind", "apiVersion")} for one in items]
    return {"kind": f"{kind}List", "apiVersion": _API_VERSION, "metadata": {}, "items": untyped}


def go_duration(seconds: float) -> str:
    """Returns a span as Go prints it, to the millisecond: 15.02s, 1m30s, 1h0m2s."""
    whole_ms = max(0, round(seconds * 1000))
    minutes, left_ms = divmod(whole_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{left_ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
