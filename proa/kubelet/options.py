"""How a node's kubelet is to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeletOptions:
    """`node_ips` are the node's own addresses, the first the main one. `root` holds volumes and per-pod files, `logs`
    the pods' logs; `local_volumes` holds the directories of local-path volumes, if the node offers any. `cgroup_root`
    is a cgroup path (such as `/proa/node-1`) below which all pods of this node live; `manage_cgroups` false leaves
    cgroups of pods alone (for a runtime that runs nothing).

    The HTTPS server listens on `port` if `certificate_file`, `key_file` and `client_ca_file` are given. Memory is in
    bytes, cpu in milli-cores. `cpu_capacity_milli` and `memory_capacity_bytes` 0 stand for the machine's own.
    """

    node_name: str
    node_ips: tuple[str, ...]
    runtime_address: str = "unix:///run/containerd/containerd.sock"
    root: Path = Path("/var/lib/kubelet")
    logs: Path = Path("/var/log/pods")
    local_volumes: Path | None = None
    port: int = 10250
    listen_address: str = "0.0.0.0"
    certificate_file: Path | None = None
    key_file: Path | None = None
    client_ca_file: Path | None = None
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    resolv_conf: Path = Path("/etc/resolv.conf")
    cgroup_root: str = ""
    manage_cgroups: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, str], ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    provider_id: str = ""
    pods_max: int = 110
    cpu_capacity_milli: int = 0
    memory_capacity_bytes: int = 0
    cpu_reserved_milli: int = 0
    memory_reserved_bytes: int = 100 * 1024 * 1024
    register: bool = True
    status_seconds: float = 10.0
    status_seconds_max: float = 300.0
    lease_seconds: int = 40
    log_bytes_max: int = 10 * 1024 * 1024
    log_files_max: int = 5
    image_gc_high_percent: int = 85
    image_gc_low_percent: int = 80
