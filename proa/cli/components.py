"""proa apiserver, scheduler, controller-manager, cloud-controller-manager, kubelet, proxy, simulated-nodes: one
component per process
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from proa.cli.options import api_options, audit_options, cluster_options, find
from proa.cluster.state import ApiSettings, AuditSettings

if TYPE_CHECKING:
    from proa.apiserver.authn.frontproxy import FrontProxy
    from proa.client.kubeconfig import ClientConfig

F = TypeVar("F", bound=Callable[..., Any])


def _connection_options(function: F) -> F:
    function = click.option(
        "--kubeconfig",
        type=click.Path(path_type=Path),
        help="How to connect [default: as the cluster's own].",
    )(function)
    return cluster_options(function)


def _elect_option(function: F) -> F:
    return click.option("--leader-elect/--no-leader-elect", default=True, help="Of several, one works at a time.")(
        function
    )


class _Duration(click.ParamType):  # type: ignore[type-arg]
    """A span as Go writes it, such as `1m30s`, or a number of seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        parts = re.findall(r"([0-9.]+)(h|m|s|ms)", str(value))
        try:
            if "".join(map("".join, parts)) != value:
                return float(value)
            return sum(float(number) * {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}[unit] for number, unit in parts)
        except ValueError:
            self.fail(f"{value!r} is no duration such as 50s", param, ctx)


# Upstream's flags, by the options that they set.
_CONTROLLER_FLAGS: dict[str, tuple[str, Any, str]] = {
    "node_grace_seconds": ("--node-monitor-grace-period", _Duration(), "Silence after which a node is Unknown."),
    "node_check_seconds": ("--node-monitor-period", _Duration(), "Between two looks at all nodes."),
    "node_evictions_per_second": ("--node-eviction-rate", float, "Silent nodes of a zone given up per second."),
    "node_secondary_evictions_per_second": (
        "--secondary-node-eviction-rate",
        float,
        "The same in a large zone that is partly lost.",
    ),
    "unhealthy_zone_share": ("--unhealthy-zone-threshold", float, "From which share of silent nodes on it is that."),
    "large_cluster_nodes": ("--large-cluster-size-threshold", int, "Zones of at most so many nodes are not large."),
    "terminated_pods_max": ("--terminated-pod-gc-threshold", int, "Ended pods that are kept."),
}


def _controller_options(function: F) -> F:
    for name, (flag, kind, text) in reversed(_CONTROLLER_FLAGS.items()):
        function = click.option(flag, name, type=kind, default=None, help=text)(function)
    return function


def _run(work: Coroutine[Any, Any, None]) -> None:
    from proa.cluster import logs
    from proa.wire.server import run

    logs.configure()
    run(work)


def _config(name: str | None, data_dir: Path | None, kubeconfig: Path | None, component: str) -> ClientConfig:
    from proa.cluster import standalone

    if kubeconfig:
        return standalone.from_kubeconfig(kubeconfig)
    return standalone.identity(find(name, data_dir), component)


_REQUEST_HEADERS = {
    "allowed-names": ("", "Common names that a front proxy may have [default: any]."),
    "username-headers": ("X-Remote-User", "Headers that name the user."),
    "uid-headers": ("X-Remote-Uid", "Headers that give the user's uid."),
    "group-headers": ("X-Remote-Group", "Headers that name a group each."),
    "extra-headers-prefix": ("X-Remote-Extra-", "How headers with more about the user begin."),
}


def _request_header_options(function: F) -> F:
    for name, (default, about) in reversed(_REQUEST_HEADERS.items()):
        function = click.option(
            f"--requestheader-{name}", default=default, help=about, metavar="LIST", show_default=bool(default)
        )(function)
    return click.option(
        "--requestheader-client-ca-file",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="Certificates of the authority of front proxies [default: the cluster's own].",
    )(function)


@click.command()
@cluster_options
@audit_options
@api_options
@_request_header_options
def apiserver(
    name: str | None,
    data_dir: Path | None,
    audit: AuditSettings,
    api: ApiSettings,
    requestheader_client_ca_file: Path | None,
    **headers: str,
) -> None:
    """Run a cluster's API server alone. Lists are separated by commas."""
    from proa.cluster.server import serve

    cluster = find(name, data_dir)
    front_proxy = _front_proxy(requestheader_client_ca_file, headers) if requestheader_client_ca_file else None
    settings = replace(cluster, audit=audit.over(cluster.audit), api=api.over(cluster.api))
    _run(serve(settings, alone=True, front_proxy=front_proxy))


def _front_proxy(authority: Path, headers: dict[str, str]) -> FrontProxy:
    """Returns the trust in front proxies that the options --requestheader-* describe."""
    from proa.apiserver.authn.frontproxy import FrontProxy

    lists = {
        name.removeprefix("requestheader_"): [one.strip() for one in text.split(",") if one.strip()]
        for name, text in headers.items()
    }
    return FrontProxy(
        authorities=[authority.read_bytes()],
        names=lists["allowed_names"],
        user_headers=lists["username_headers"],
        uid_headers=lists["uid_headers"],
        group_headers=lists["group_headers"],
        extra_prefixes=lists["extra_headers_prefix"],
    )


@click.command()
@_connection_options
@click.option("--leader-elect/--no-leader-elect", default=None, help="Of several, one works at a time [default: yes].")
@click.option("--config", "file", type=click.Path(path_type=Path), help="A KubeSchedulerConfiguration file.")
@click.option("--plugin", "plugins", multiple=True, type=click.Path(path_type=Path), help="Python file with plugins.")
def scheduler(
    name: str | None,
    data_dir: Path | None,
    kubeconfig: Path | None,
    leader_elect: bool | None,
    file: Path | None,
    plugins: tuple[Path, ...],
) -> None:
    """Run the scheduler alone, for a cluster of ours or any other."""
    from proa.cluster import components
    from proa.cluster.standalone import run_scheduler

    if not kubeconfig:
        known = find(name, data_dir)
        file = file or (Path(known.scheduler_config) if known.scheduler_config else None)
        plugins = plugins or tuple(map(Path, known.scheduler_plugins))
    said = components.scheduler_file(file, plugins)
    if said is not None:
        kubeconfig = kubeconfig or (Path(said.kubeconfig) if said.kubeconfig else None)
        leader_elect = said.leader_elect if leader_elect is None else leader_elect
    options = components.as_options(said)
    config = _config(name, data_dir, kubeconfig, "scheduler")
    lease = said.lease if said is not None else {}
    _run(run_scheduler(config, options, elect=leader_elect is not False, lease=lease))


@click.command("controller-manager")
@_connection_options
@_elect_option
@_controller_options
def controller_manager(
    name: str | None, data_dir: Path | None, kubeconfig: Path | None, leader_elect: bool, **limits: float
) -> None:
    """Run the controllers alone. Keys and ranges are those of the cluster."""
    from proa.cluster.standalone import run_controllers

    config = _config(name, data_dir, kubeconfig, "controller-manager")
    said = {name: value for name, value in limits.items() if value is not None}
    _run(run_controllers(config, find(name, data_dir), cloud=False, elect=leader_elect, said=said))


@click.command("cloud-controller-manager")
@_connection_options
@_elect_option
def cloud_controller_manager(
    name: str | None, data_dir: Path | None, kubeconfig: Path | None, leader_elect: bool
) -> None:
    """Run the cloud controllers alone, with the local provider."""
    from proa.cluster.standalone import run_controllers

    config = _config(name, data_dir, kubeconfig, "cloud-controller-manager")
    _run(run_controllers(config, find(name, data_dir), cloud=True, elect=leader_elect))


@click.command("simulated-nodes")
@_connection_options
@click.option("--count", type=click.IntRange(0), help="How many in all [default: as the cluster or the file says].")
@click.option(
    "--simulation",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with kinds of nodes, and lives of pods on them [default: the cluster's].",
)
def simulated_nodes(
    name: str | None, data_dir: Path | None, kubeconfig: Path | None, count: int | None, simulation: Path | None
) -> None:
    """Run simulated nodes alone, for a cluster of ours or any other."""
    from proa.cluster.standalone import run_simulated_nodes

    if not kubeconfig:
        known = find(name, data_dir)
        count = known.simulated_nodes if count is None and simulation is None else count
        simulation = simulation or (Path(known.simulation) if known.simulation else None)
    config = _config(name, data_dir, kubeconfig, "admin")
    _run(run_simulated_nodes(config, simulation, count))


@click.command()
@click.option("--config", "file", required=True, type=click.Path(path_type=Path, exists=True), help="agent.json")
def kubelet(file: Path) -> None:
    """Run a node's kubelet alone, in this network namespace."""
    from proa.cluster.standalone import run_kubelet

    _run(run_kubelet(file))


@click.command()
@_connection_options
@click.option("--node-name", required=True, help="The node that this is.")
@click.option("--node-ip", "addresses", multiple=True, required=True, help="An address for node ports.")
@click.option("--cluster-cidr", default="10.244.0.0/16", show_default=True, help="The pods' addresses.")
def proxy(
    name: str | None,
    data_dir: Path | None,
    kubeconfig: Path | None,
    node_name: str,
    addresses: tuple[str, ...],
    cluster_cidr: str,
) -> None:
    """Run a node's service proxy alone, in this network namespace."""
    from proa.cluster.standalone import run_proxy

    ranges = {"ip6" if ":" in one else "ip": one for one in cluster_cidr.split(",")}
    _run(run_proxy(_config(name, data_dir, kubeconfig, "proxy"), node_name, addresses, ranges))
