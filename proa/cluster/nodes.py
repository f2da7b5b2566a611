"""Isolated nodes: places on one machine, each a network namespace with a containerd of its own.

A cluster has a segment: one /24 of 10.213.0.0/16, chosen so that no route of the host overlaps it. On it:

    .1          the host, where the API server listens
    .2 - .127   nodes
    .128 - .254 addresses of LoadBalancer services

    host ──veth proaN──► namespace proa.NAME (bridge "fabric") ──veth──► namespace proa.NAME.NODE (eth0), one per node

The bridge is in a namespace of its own, so the host's firewall and bridge settings never see traffic between nodes,
and deleting the namespaces removes every link. No namespace has a default route: nothing leaves the segment. Service
addresses get a route inside nodes only so that the kernel lets packets start; the proxy rewrites them.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from proa.cluster.problems import Problem
from proa.cluster.state import Cluster, Node

SEGMENTS = ipaddress.ip_network("10.213.0.0/16")
_HOST, _FIRST_NODE, _FIRST_BALANCER = 1, 2, 128
NODES_MAX = _FIRST_BALANCER - _FIRST_NODE

# Inside each node. Bridged pod traffic must pass the rules (services, policies); the rest is what routers need.
SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/route_localnet": "1",
    "net/bridge/bridge-nf-call-iptables": "1",
    "net/ipv4/ping_group_range": "0 2147483647",
}


def network(segment: int) -> ipaddress.IPv4Network:
    return list(SEGMENTS.subnets(new_prefix=24))[segment]  # type: ignore[return-value]


def host_address(cluster: Cluster) -> str:
    return str(network(cluster.segment)[_HOST])


def node_address(cluster: Cluster, node: Node) -> str:
    return str(network(cluster.segment)[_FIRST_NODE + node.number - 1])


def balancer_range(cluster: Cluster) -> tuple[str, str]:
    """Returns the first and last address for LoadBalancer services."""
    segment = network(cluster.segment)
    return str(segment[_FIRST_BALANCER]), str(segment[254])


def host_link(cluster: Cluster) -> str:
    return f"proa{cluster.segment}"


def fabric_namespace(cluster_name: str) -> str:
    return f"proa.{cluster_name}"


def namespace(cluster_name: str, node_name: str) -> str:
    return f"proa.{cluster_name}.{node_name}"


def namespace_path(cluster_name: str, node_name: str) -> Path:
    return Path("/run/netns") / namespace(cluster_name, node_name)


def enter(cluster_name: str, node_name: str) -> list[str]:
    """Returns the words to put before a command that shall run inside a node."""
    return ["nsenter", f"--net={namespace_path(cluster_name, node_name)}", "--"]


def free_segment(preferred: int, taken: Iterable[int]) -> int:
    """Returns a segment that no route on the host overlaps and no other cluster has, `preferred` if possible."""
    shown = subprocess.run(["ip", "-j", "-4", "route", "show", "table", "all"], capture_output=True, check=True).stdout
    routes = [one.get("dst", "default") for one in json.loads(shown or "[]")]
    used = [ipaddress.ip_network(one, strict=False) for one in routes if one != "default"]
    blocked = set(taken)
    for offset in range(256):
        segment = (preferred + offset) % 256
        if segment not in blocked and not any(network(segment).overlaps(one) for one in used if one.prefixlen >= 8):
            return segment
    raise Problem("no network is free in 10.213.0.0/16", "remove clusters (proa list) or host routes in that range")


# ---------------------------------------------------------------- plans: lines for `ip -batch`


def fabric_plan(cluster: Cluster) -> list[str]:
    fabric, link = fabric_namespace(cluster.name), host_link(cluster)
    return [
        f"netns add {fabric}",
        f"link add {link} type veth peer name host netns {fabric}",
        f"addr add {host_address(cluster)}/24 dev {link}",
        f"link set {link} up",
    ]


def fabric_inner_plan() -> list[str]:
    return ["link set lo up", "link add fabric type bridge", "link set fabric up", "link set host master fabric up"]


def node_plan(cluster: Cluster, node: Node) -> list[str]:
    fabric, place = fabric_namespace(cluster.name), namespace(cluster.name, node.name)
    return [
        f"netns add {place}",
        f"link add n{node.number} netns {fabric} type veth peer name eth0 netns {place}",
    ]


def node_inner_plan(cluster: Cluster, node: Node) -> list[str]:
    address = node_address(cluster, node)
    return [
        "link set lo up",
        f"addr add {address}/24 dev eth0",
        "link set eth0 up",
        f"route add {cluster.service_range} dev eth0 src {address}",
    ]


def removal_plan(cluster: Cluster) -> list[str]:
    """Removes whatever of the cluster's network exists; also what an interrupted start left."""
    ours = fabric_namespace(cluster.name)
    there = [path.name for path in Path("/run/netns").glob("*")] if Path("/run/netns").is_dir() else []
    namespaces = [name for name in there if name == ours or name.startswith(f"{ours}.")]
    links = [host_link(cluster)] if Path(f"/sys/class/net/{host_link(cluster)}").exists() else []
    return [f"link delete {link}" for link in links] + [f"netns delete {name}" for name in sorted(namespaces)]


# ---------------------------------------------------------------- carrying plans out


def exists(cluster: Cluster, node: Node) -> bool:
    """Tells whether a node's namespace is there and connected."""
    return (
        _is_namespace(namespace_path(cluster.name, node.name))
        and _is_namespace(Path("/run/netns") / fabric_namespace(cluster.name))
        and Path(f"/sys/class/net/{host_link(cluster)}").exists()
    )


def _is_namespace(path: Path) -> bool:
    """A name may outlive its namespace (after a reboot): only a mount is one."""
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except FileNotFoundError:
        return False


def create(cluster: Cluster) -> None:
    """Makes the segment and every node's namespace; raises Problem if the kernel refuses."""
    run_ip([*fabric_plan(cluster), *(line for node in cluster.nodes for line in node_plan(cluster, node))])
    fabric = fabric_namespace(cluster.name)
    run_ip([*fabric_inner_plan(), *(f"link set n{node.number} master fabric up" for node in cluster.nodes)], fabric)
    _write_sysctls(fabric, {"net/bridge/bridge-nf-call-iptables": "0"})
    for node in cluster.nodes:
        place = namespace(cluster.name, node.name)
        run_ip(node_inner_plan(cluster, node), place)
        _write_sysctls(place, SYSCTLS)


def remove(cluster: Cluster) -> None:
    run_ip(removal_plan(cluster), force=True)


def run_ip(lines: Sequence[str], place: str = "", *, force: bool = False) -> None:
    """Runs lines of `ip -batch`, inside a named namespace if given; `force` goes on after errors."""
    if not lines:
        return
    command = ["ip", *(["-n", place] if place else []), *(["-force"] if force else []), "-batch", "-"]
    text = "\n".join(lines) + "\n"
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise Problem("iproute2 is not installed", "run script/setup, or: apt-get install iproute2") from error
    if done.returncode and not force:
        raise Problem(f"the network could not be made: {' '.join(done.stderr.split())}", "see `proa doctor`")


def _write_sysctls(place: str, values: dict[str, str]) -> None:
    """Writes settings inside a namespace; those that this kernel lacks are left out."""
    script = "".join(f"[ ! -e /proc/sys/{key} ] || echo '{value}' >/proc/sys/{key}\n" for key, value in values.items())
    subprocess.run(["nsenter", f"--net=/run/netns/{place}", "--", "sh", "-c", script], check=True, capture_output=True)
