"""What is known about a cluster between two commands: its configuration, its processes, and where both are written.

A cluster's files are in one directory (`cluster.json`, `pki/`, `ca/`, `logs/`, `nodes/`, the store, `kubeconfig`).
Clusters are found by name through the home directory (`/var/lib/proa` or $PROA_HOME), where a cluster made elsewhere
with `--data-dir` leaves a link. Sockets and mounts are in a run directory (`/run/proa/NAME`), because socket names are
short and because it is gone after a reboot, as the processes are.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import msgspec

from proa.cluster.problems import Problem
from proa.util.files import write_atomic

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
SERVICE_RANGE = "10.96.0.0/16"
POD_RANGE = "10.244.0.0/16"
ENCRYPTED = ("secrets",)
DNS_ADDRESS = "10.96.0.10"
# The group of node agents beside system:nodes: proxy, DNS and network policy read more than a kubelet does.
AGENTS_GROUP = "proa:agents"


def home() -> Path:
    return Path(os.environ.get("PROA_HOME") or "/var/lib/proa")


def run_home() -> Path:
    return Path(os.environ.get("PROA_RUN") or "/run/proa")


def check_name(name: str) -> str:
    """Returns a cluster's name if it is one; raises Problem."""
    if not _NAME.fullmatch(name):
        raise Problem(f"{name!r} is no cluster name", "use up to 32 lower-case letters, digits and inner hyphens")
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An isolated node. `number` counts from 1 and decides addresses."""

    name: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """What is audited and where it goes, named as the options that say so; 0, empty or None: as it is by default.

    `log_path` is `logs/audit.log` by default; `-` is standard output, `off` nowhere.
    """

    policy_file: str = ""
    log_path: str = ""
    log_maxsize: int | None = None  # MiB
    log_maxbackup: int | None = None
    log_maxage: int | None = None  # days
    webhook_config_file: str = ""
    webhook_batch_max_size: int = 0
    webhook_batch_max_wait_seconds: float = 0.0
    webhook_batch_buffer_size: int = 0
    webhook_initial_backoff_seconds: float = 0.0

    def over(self, known: AuditSettings) -> AuditSettings:
        """Returns the known settings with those that are given here in their place."""
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        default = AuditSettings()
        return replace(known, **{name: value for name, value in given.items() if value != getattr(default, name)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """What the API server runs and serves beside or instead of the usual, named as the options that say so."""

    enable_admission_plugins: tuple[str, ...] = ()
    disable_admission_plugins: tuple[str, ...] = ()
    runtime_config: tuple[str, ...] = ()

    def over(self, other: ApiSettings) -> ApiSettings:
        """Returns these settings where they say anything, the others' where not."""
        return ApiSettings(
            enable_admission_plugins=self.enable_admission_plugins or other.enable_admission_plugins,
            disable_admission_plugins=self.disable_admission_plugins or other.disable_admission_plugins,
            runtime_config=self.runtime_config or other.runtime_config,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A cluster's configuration, as `cluster.json` holds it. `segment` numbers its network (see `nodes.py`)."""

    name: str
    directory: str
    port: int
    segment: int
    nodes: tuple[Node, ...] = ()
    simulated_nodes: int = 0
    simulation: str = ""  # file that says what simulated nodes and their pods are like
    store: str = ""
    separate: bool = False  # API server, scheduler and controllers as processes of their own
    scheduler_config: str = ""  # file of a KubeSchedulerConfiguration
    scheduler_plugins: tuple[str, ...] = ()  # Python files with the user's scheduler plugins
    service_range: str = SERVICE_RANGE
    pod_range: str = POD_RANGE
    dns_address: str = DNS_ADDRESS
    kubeconfig: str = ""  # the user's file that holds the context, if merged
    # Where the API server listens, and the address by which it is reached: by default this machine alone, and the
    # segment of isolated nodes.
    bind_addresses: tuple[str, ...] = ()
    advertise_address: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    audit: AuditSettings = field(default_factory=AuditSettings)
    # Resources that are encrypted on disk with the cluster's own keys, or the EncryptionConfiguration that says which.
    encrypted_resources: tuple[str, ...] = ENCRYPTED
    encryption_config: str = ""
    api: ApiSettings = field(default_factory=ApiSettings)

    @property
    def path(self) -> Path:
        return Path(self.directory)

    @property
    def run(self) -> Path:
        return run_home() / self.name

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def save(self) -> None:
        """Writes `cluster.json` and makes the cluster findable by name."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path / "cluster.json", msgspec.json.format(msgspec.json.encode(self), indent=2))
        link = home() / self.name
        if link != self.path and not link.is_symlink():
            home().mkdir(parents=True, exist_ok=True)
            link.symlink_to(self.path)


def load(name: str) -> Cluster | None:
    """Returns the cluster of that name, or None; raises Problem if its file is unreadable."""
    file = home() / check_name(name) / "cluster.json"
    try:
        return msgspec.json.decode(file.read_bytes(), type=Cluster)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, PermissionError) as error:
        raise Problem(
            f"{file} cannot be read ({error})", f"remove it, or run as root: proa down --name {name}"
        ) from error


def load_directory(directory: Path) -> Cluster:
    """Returns the cluster in a directory; raises Problem if there is none."""
    file = directory / "cluster.json"
    try:
        return msgspec.json.decode(file.read_bytes(), type=Cluster)
    except (OSError, msgspec.DecodeError) as error:
        raise Problem(f"{file} cannot be read ({error})", "make a cluster there: proa up --data-dir …") from error


def existing(name: str) -> Cluster:
    """Returns the cluster of that name; raises Problem if there is none."""
    cluster = load(name)
    if cluster is None:
        raise Problem(f"there is no cluster {name!r}", "see `proa list`, or make it: proa up --name " + name)
    return cluster


def all_clusters() -> list[Cluster]:
    """Returns the clusters of this machine by name, broken ones left out."""
    if not home().is_dir():
        return []
    found = []
    for entry in sorted(home().iterdir()):
        if _NAME.fullmatch(entry.name) and (entry / "cluster.json").exists():
            with contextlib.suppress(Problem):
                cluster = load(entry.name)
                found += [cluster] if cluster else []
    return found


def forget(cluster: Cluster) -> None:
    """Removes the cluster's files, also those of a cluster that was never complete."""
    shutil.rmtree(cluster.run, ignore_errors=True)
    link = home() / cluster.name
    if link.is_symlink():
        link.unlink()
    shutil.rmtree(cluster.path, ignore_errors=True)


# ---------------------------------------------------------------- processes


@dataclass(frozen=True, slots=True)
class Process:
    """A process that cannot be mistaken for a later one with the same number: `started` is its start in clock ticks."""

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        return start_time(self.pid) == self.started


def start_time(pid: int) -> int | None:
    """Returns when a process started (ticks since boot), or None if it is gone or only a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def resident_bytes(pid: int) -> int:
    """Returns a process's resident memory, 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError):
        return 0


def of_pid(pid: int) -> Process | None:
    started = start_time(pid)
    return None if started is None else Process(pid, started)


def processes(run: Path) -> dict[str, Process]:
    """Returns the recorded processes of a cluster, by component, alive or not."""
    try:
        return msgspec.json.decode((run / "processes.json").read_bytes(), type=dict[str, Process])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


def marked(run: Path) -> Iterator[int]:
    """Yields the processes that were started for this cluster: their environment says so (PROA_CLUSTER_RUN)."""
    marker = f"PROA_CLUSTER_RUN={run}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if marker in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)
