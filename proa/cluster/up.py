"""Brings a cluster up: checks the machine, makes what is missing, starts the supervisor, waits until all is ready.

Each step is reported with the time it took. A second `up` of a running cluster changes nothing; one of a cluster whose
processes are gone (a reboot, a kill) starts them again on the same data.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import http.client
import json
import os
import shutil
import socket
import ssl
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from proa.cluster import containerd, kubeconfig, nodes, state, supervisor, teardown
from proa.cluster.problems import Problem
from proa.cluster.state import ENCRYPTED, ApiSettings, AuditSettings, Cluster, Node
from proa.util.files import write_atomic

DEFAULT_PORT = 6443
_READY_SECONDS = 60.0
_POLL_SECONDS = 0.02
_SIMULATED_NODE_SECONDS = 0.02  # what the start of each may add, on a slow and busy machine
_ENDS_MAX = 4

# Called with what is being done; and again, with the seconds it took, once it is.
Progress = Callable[[str, float | None], None]


@dataclass(slots=True, kw_only=True)
class Wishes:
    """What the user asked for; None is as it was, or the default. `port` takes 6443, or the next free one."""

    name: str = "default"
    nodes: int | None = None
    simulated_nodes: int | None = None
    simulation: Path | None = None
    port: int | None = None
    directory: Path | None = None
    store: str = ""
    separate: bool | None = None
    scheduler_config: Path | None = None
    scheduler_plugins: tuple[Path, ...] = ()
    merge: bool = True
    audit: AuditSettings = field(default_factory=AuditSettings)
    encryption_config: Path | None = None
    encrypted_resources: tuple[str, ...] = ()
    api: ApiSettings = field(default_factory=ApiSettings)


@dataclass(slots=True)
class Outcome:
    """The cluster, and the seconds each step took; no steps if it was running already."""

    cluster: Cluster
    steps: dict[str, float] = field(default_factory=dict)


def up(wishes: Wishes, progress: Progress = lambda text, seconds: None) -> Outcome:
    """Brings the cluster up; raises Problem with what to do about it."""
    state.check_name(wishes.name)
    check_machine(wishes)
    with _lock(wishes.name):
        known = state.load(wishes.name)
        if known is not None:
            _check_same(known, wishes)
            if is_running(known):
                if _changed(known, wishes) != known:
                    raise Problem(
                        f"cluster {known.name!r} runs, with other options for auditing, the API or encryption",
                        "end its processes first, or leave the options out",
                    )
                wait_ready(known, _READY_SECONDS)
                return Outcome(_write_kubeconfigs(known, wishes.merge))
        return _start(known, wishes, progress)


def _start(known: Cluster | None, wishes: Wishes, progress: Progress) -> Outcome:
    steps: dict[str, float] = {}

    @contextlib.contextmanager
    def step(text: str) -> Iterator[None]:
        progress(text, None)
        before = time.monotonic()
        yield
        steps[text] = time.monotonic() - before
        progress(text, steps[text])

    if known is not None:
        with step("clear away what is left of the last run"):
            teardown.stop_processes(known)
            teardown.unmount_below([str(known.run), known.directory])
            nodes.remove(known)
            shutil.rmtree(known.run, ignore_errors=True)
    cluster = _changed(known, wishes) if known else _plan(wishes)
    if cluster.simulation:
        from proa.cluster import simulation

        cluster = simulation.settled(cluster, wishes.simulated_nodes)
    _check_port(cluster.port, explicit=bool(wishes.port))
    try:
        with step("make keys and certificates"):
            cluster.save()
            from proa.cluster import certificates  # only now: its imports take a while

            certificates.ensure(cluster)
            cluster = _write_kubeconfigs(cluster, wishes.merge)
        with step(f"make {_count(len(cluster.nodes), 'node')}"):
            if cluster.nodes:
                nodes.create(cluster)
            plan = run_plan(cluster)
        with step("start the control plane"):
            supervisor.start_detached(plan, cluster.path / "logs" / "supervisor.log")
            wait_serving(cluster, _READY_SECONDS)
        with step(f"wait for {_count(len(cluster.nodes) + cluster.simulated_nodes, 'node')} to be Ready"):
            wait_ready(cluster, _READY_SECONDS)
    except BaseException:
        if known is None and not os.environ.get("PROA_KEEP_FAILED"):
            failed = _last_lines(cluster)
            teardown.remove(cluster)
            if failed:
                print(failed, file=sys.stderr)
        raise
    return Outcome(cluster, steps)


def _changed(known: Cluster, wishes: Wishes) -> Cluster:
    """Returns a cluster with those of its options that may change when it starts again."""
    return replace(
        known,
        audit=wishes.audit.over(known.audit),
        api=wishes.api.over(known.api),
        encryption_config=str(wishes.encryption_config or known.encryption_config),
        encrypted_resources=wishes.encrypted_resources or known.encrypted_resources,
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# ---------------------------------------------------------------- checks


def check_machine(wishes: Wishes) -> None:
    """Raises Problem for the first thing that this machine lacks."""
    if os.geteuid() != 0:
        raise Problem("proa up needs root, to make network namespaces and run containerd", "sudo proa up")
    if (wishes.nodes or 0) > nodes.NODES_MAX:
        raise Problem(f"one machine takes at most {nodes.NODES_MAX} nodes", "try --simulated-nodes for more")
    for tool, package in (("ip", "iproute2"), ("nsenter", "util-linux")):
        if shutil.which(tool) is None:
            raise Problem(f"{tool} is not installed", f"run script/setup, or: apt-get install {package}")
    if wishes.nodes == 0:
        return
    containerd.version()
    containerd.cni_directory()
    for tool, package in (("runc", "runc"), ("nft", "nftables"), ("iptables", "iptables")):
        if shutil.which(tool) is None:
            raise Problem(f"{tool} is not installed", f"run script/setup, or: apt-get install {package}")


def _check_same(known: Cluster, wishes: Wishes) -> None:
    directory = wishes.directory.resolve() if wishes.directory else None
    remedy = f"proa down --name {known.name} first, or choose another --name"
    if directory is not None and directory != known.path:
        raise Problem(f"cluster {known.name!r} exists in {known.directory}", remedy)
    for what, is_, asked in (
        ("nodes", len(known.nodes), wishes.nodes),
        ("simulated nodes", known.simulated_nodes, wishes.simulated_nodes),
        ("simulation", known.simulation, str(wishes.simulation.resolve()) if wishes.simulation else None),
        ("port", known.port, wishes.port),
        ("store", known.store, wishes.store or None),
        ("separate processes", known.separate, wishes.separate),
        (
            "scheduler configuration",
            known.scheduler_config,
            str(wishes.scheduler_config.resolve()) if wishes.scheduler_config else None,
        ),
    ):
        if asked is not None and is_ != asked:
            raise Problem(f"cluster {known.name!r} exists with {what} {is_}, not {asked}", remedy)


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _check_port(port: int, *, explicit: bool) -> None:
    if not _is_free(port):
        what = "chosen" if explicit else "cluster's"
        raise Problem(f"port {port} of 127.0.0.1, the {what} API server port, is taken", "choose another: --port P")


def _plan(wishes: Wishes) -> Cluster:
    """Decides where a new cluster lives."""
    if wishes.scheduler_config or wishes.scheduler_plugins:
        from proa.cluster import components

        components.scheduler_file(wishes.scheduler_config, wishes.scheduler_plugins)  # so that mistakes show here
    others = state.all_clusters()
    directory = (wishes.directory or state.home() / wishes.name).resolve()
    if (directory / "cluster.json").exists():
        other = state.load_directory(directory)
        raise Problem(f"{directory} holds cluster {other.name!r}", f"proa up --name {other.name}")
    if directory.exists() and any(directory.iterdir()):
        raise Problem(f"{directory} is not empty", "choose another --data-dir")
    taken = {one.port for one in others}
    free = (port for port in range(DEFAULT_PORT, 65536) if port not in taken and _is_free(port))
    count = 1 if wishes.nodes is None else wishes.nodes
    return Cluster(
        name=wishes.name,
        directory=str(directory),
        port=wishes.port or next(free),
        segment=nodes.free_segment(zlib.crc32(wishes.name.encode()) % 256, [one.segment for one in others]),
        nodes=tuple(Node(name=f"node-{number}", number=number) for number in range(1, count + 1)),
        simulated_nodes=wishes.simulated_nodes or 0,
        simulation=str(wishes.simulation.resolve()) if wishes.simulation else "",
        store=wishes.store,
        separate=bool(wishes.separate),
        scheduler_config=str(wishes.scheduler_config.resolve()) if wishes.scheduler_config else "",
        scheduler_plugins=tuple(str(one.resolve()) for one in wishes.scheduler_plugins),
        audit=wishes.audit,
        encryption_config=str(wishes.encryption_config or ""),
        encrypted_resources=wishes.encrypted_resources or ENCRYPTED,
        api=wishes.api,
    )


@contextlib.contextmanager
def _lock(name: str) -> Iterator[None]:
    """Keeps two commands from changing one cluster at the same time."""
    state.run_home().mkdir(parents=True, exist_ok=True)
    with open(state.run_home() / f".{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# ---------------------------------------------------------------- making


def _write_kubeconfigs(cluster: Cluster, merge: bool) -> Cluster:
    """Writes the cluster's kubeconfig and, if wished, the user's; returns the cluster that remembers where."""
    content = kubeconfig.write_admin(cluster)
    if not merge:
        return cluster
    if not cluster.kubeconfig:
        cluster = replace(cluster, kubeconfig=str(kubeconfig.user_file()))
        cluster.save()
    try:
        kubeconfig.merge(Path(cluster.kubeconfig), content)
    except ValueError as error:
        raise Problem(str(error), "mend or move that file, or use --no-merge") from error
    return cluster


def run_plan(cluster: Cluster) -> supervisor.RunPlan:
    """Writes each node's configuration and returns what the supervisor shall run."""
    logs = cluster.path / "logs"
    python = [sys.executable, "-m"]
    programs = control_plane(cluster)
    for node in cluster.nodes:
        settings = containerd_settings(cluster, node)
        for directory in (settings.root, settings.state, settings.cni_config):
            directory.mkdir(parents=True, exist_ok=True)
        config = settings.state / "containerd.toml"
        write_atomic(config, containerd.render(settings))
        agent = cluster.path / "nodes" / node.name / "agent.json"
        write_atomic(agent, json.dumps(agent_config(cluster, node, settings), indent=1))
        inside = nodes.enter(cluster.name, node.name)
        programs += [
            supervisor.Program(
                name=f"containerd.{node.name}",
                command=[*inside, "containerd", "--config", str(config)],
                log=str(logs / f"containerd.{node.name}.log"),
            ),
            supervisor.Program(
                name=f"agent.{node.name}",
                command=[*inside, *python, "proa.cluster.agent", str(agent)],
                environment={"GRPC_ENABLE_FORK_SUPPORT": "false"},  # nothing here forks without exec
                log=str(logs / f"agent.{node.name}.log"),
            ),
        ]
    return supervisor.RunPlan(run=str(cluster.run), programs=programs)


def control_plane(cluster: Cluster) -> list[supervisor.Program]:
    """Returns the control plane's processes: one, or one per component."""
    proa = [sys.executable, "-m", "proa.cli"]
    commands = {"server": [sys.executable, "-m", "proa.cluster.start", cluster.directory]}
    if cluster.separate:
        verbs = ("apiserver", "controller-manager", "cloud-controller-manager", "scheduler")
        commands = {verb: [*proa, verb, "--data-dir", cluster.directory] for verb in verbs}
        if cluster.simulated_nodes:
            commands["simulated-nodes"] = [*proa, "simulated-nodes", "--data-dir", cluster.directory]
    return [
        supervisor.Program(
            name=name,
            command=command,
            environment={"MALLOC_ARENA_MAX": "2"},  # else each of its threads keeps free memory of its own
            log=str(cluster.path / "logs" / f"{name}.log"),
        )
        for name, command in commands.items()
    ]


def containerd_settings(cluster: Cluster, node: Node) -> containerd.Settings:
    directory = cluster.path / "nodes" / node.name
    return containerd.Settings(
        root=directory / "containerd",
        state=cluster.run / node.name,
        cni_config=cluster.run / node.name / "cni",
        cni_bin=containerd.cni_directory(),
        snapshotter=containerd.snapshotter(cluster.path / "nodes"),
        restrict_oom_score=containerd.lacks_sys_resource(),
        version=containerd.version(),
    )


def agent_config(cluster: Cluster, node: Node, settings: containerd.Settings) -> dict[str, Any]:
    """Returns the `AgentConfig` of an isolated node, as JSON."""
    from proa.cluster.images import pause_archive

    pki = cluster.path / "pki"
    return {
        "node_name": node.name,
        "node_addresses": [nodes.node_address(cluster, node)],
        "server": f"https://{nodes.host_address(cluster)}:{cluster.port}",
        "authority": str(pki / "ca.crt"),
        "certificate": str(pki / "nodes" / node.name / "client.crt"),
        "key": str(pki / "nodes" / node.name / "client.key"),
        "serving_certificate": str(pki / "nodes" / node.name / "server.crt"),
        "serving_key": str(pki / "nodes" / node.name / "server.key"),
        "directory": str(cluster.path / "nodes" / node.name),
        "runtime_socket": str(settings.socket),
        "cni_config": str(settings.cni_config),
        "cni_state": str(settings.state / "cni-leases"),
        "network_name": teardown.network_name(cluster.name, node.name),
        "pod_ranges": {"ip": cluster.pod_range},
        "dns_address": cluster.dns_address,
        "cgroup_root": f"{teardown.cgroup_root(cluster.name)}/{node.name}",
        "announce_on": "eth0",
        "pause_archive": str(pause_archive()),
        "snapshotter": settings.snapshotter,
        "provider_id": f"proa://{cluster.name}/{node.name}",
    }


# ---------------------------------------------------------------- waiting


def is_running(cluster: Cluster) -> bool:
    """Tells whether the cluster's supervisor lives and its nodes' namespaces are there."""
    supervising = state.processes(cluster.run).get("supervisor")
    connected = all(nodes.exists(cluster, node) for node in cluster.nodes)
    return supervising is not None and supervising.alive and connected


class Api:
    """A blocking, tiny client for waiting: the administrator's view of one API server."""

    def __init__(self, cluster: Cluster) -> None:
        pki = cluster.path / "pki"
        self._port = cluster.port
        self._context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._context.load_cert_chain(pki / "admin.crt", pki / "admin.key")

    def get(self, path: str) -> tuple[int, bytes]:
        """Returns (status, body); raises OSError or http.client.HTTPException while nobody answers."""
        return self.send("GET", path)

    def send(self, method: str, path: str, seconds_max: float = 5.0) -> tuple[int, bytes]:
        """Sends a request without a body; returns and raises as `get`."""
        connection = http.client.HTTPSConnection("127.0.0.1", self._port, timeout=seconds_max, context=self._context)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def nodes(self) -> dict[str, bool]:
        """Returns the nodes by name, and whether each is Ready."""
        code, body = self.get("/api/v1/nodes")
        if code != 200:
            return {}
        return {node["metadata"]["name"]: _is_ready(node) for node in json.loads(body)["items"]}


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def wait_serving(cluster: Cluster, seconds: float) -> None:
    """Waits for /readyz; raises Problem."""
    _wait(cluster, seconds, "the API server does not become ready", lambda api: api.get("/readyz")[0] == 200)


def wait_ready(cluster: Cluster, seconds: float) -> None:
    """Waits until the API server serves and every node is Ready; raises Problem."""
    wanted = {node.name for node in cluster.nodes}

    def ready(api: Api) -> bool:
        found = api.nodes()
        ready_count = sum(found.values())
        return ready_count >= len(wanted) + cluster.simulated_nodes and all(found.get(name) for name in wanted)

    wait_serving(cluster, seconds)
    if wanted or cluster.simulated_nodes:
        seconds += cluster.simulated_nodes * _SIMULATED_NODE_SECONDS
        _wait(cluster, seconds, "the nodes do not become Ready", ready)


def _wait(cluster: Cluster, seconds: float, complaint: str, done: Callable[[Api], bool]) -> None:
    api = Api(cluster)
    deadline = time.monotonic() + seconds
    while True:
        asked = time.monotonic()
        with contextlib.suppress(OSError, http.client.HTTPException):
            if done(api):
                return
        if time.monotonic() > deadline:
            raise Problem(f"{complaint} within {seconds:.0f} s", f"see the logs in {cluster.path / 'logs'}")
        ended = _gave_up(cluster)
        if ended:
            raise Problem(f"{complaint}: the {ended} ends again and again", _last_line(cluster, ended))
        # A question about thousands of nodes is dear to the server: ask for a tenth of the time at most.
        time.sleep(max(_POLL_SECONDS, 10 * (time.monotonic() - asked)) if cluster.simulated_nodes else _POLL_SECONDS)


def _gave_up(cluster: Cluster) -> str:
    """Returns the component that has ended several times since the supervisor started, or nothing."""
    log = cluster.path / "logs" / "supervisor.log"
    text = log.read_text(errors="replace").rpartition("supervising")[2] if log.exists() else ""
    counts = collections.Counter(line.split()[1] for line in text.splitlines() if "starting it again" in line)
    return next((name for name, count in counts.items() if count >= _ENDS_MAX), "")


def _last_line(cluster: Cluster, component: str) -> str:
    log = cluster.path / "logs" / f"{component}.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else "it writes nothing"


def _last_lines(cluster: Cluster, count: int = 5) -> str:
    """Returns the ends of the logs, for a start that failed and leaves nothing else behind."""
    parts = []
    for file in sorted((cluster.path / "logs").glob("*.log")):
        lines = file.read_text(errors="replace").splitlines()[-count:]
        if lines:
            parts += [f"--- {file.stem}", *lines]
    return "\n".join(parts)
