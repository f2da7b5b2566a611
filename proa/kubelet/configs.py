"""A pod's sandbox and containers as CRI wants them described. Pure: paths, addresses and images are arguments.

Follows upstream's kubelet: hostnames and DNS policies, security contexts with the pod's under the container's,
namespace modes, masked paths, managed hosts file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from proa.kubelet.environment import ConfigError, expand
from proa.kubelet.podspec import (
    BACKOFF_STEP,
    CONTAINER_HASH,
    CONTAINER_NAME,
    POD_GRACE,
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    RESOURCES,
    RESTART_COUNT,
    ROUND,
    TERMINATION_PATH,
    TERMINATION_POLICY,
    ContainerSpec,
    by_kind,
    grace_seconds,
    host_network,
)
from proa.kubelet.resources import linux_resources
from proa.meta.objects import Obj, annotations_of, labels_of, name_of, namespace_of, uid_of

_MASKED = (
    "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/proc/interrupts", "/sys/firmware",
    "/sys/devices/virtual/powercap",
)  # fmt: skip
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_SEARCHES_MAX, _SERVERS_MAX = 32, 3
_TERMINATION_PATH = "/dev/termination-log"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """What of the node goes into configurations. `host_dns`: servers, searches, options of the host's resolv.conf."""

    name: str
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    host_dns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    cgroup_root: str = ""
    manage_cgroups: bool = True
    seccomp_folder: str = "/var/lib/kubelet/seccomp"
    memory_capacity_bytes: int = 0
    apparmor: bool = False
    seccomp_default: bool = False


# ---------------------------------------------------------------- names


def host_name(pod: Obj, node_name: str) -> str:
    spec = pod.get("spec") or {}
    if spec.get("hostnameOverride"):
        return str(spec["hostnameOverride"])
    if host_network(pod):
        return node_name
    return str(spec.get("hostname") or name_of(pod)[:63].rstrip("-."))


def host_domain(pod: Obj, cluster_domain: str) -> str:
    """The domain of the pod's fully qualified name; empty without a subdomain."""
    subdomain = (pod.get("spec") or {}).get("subdomain")
    if not subdomain or (pod.get("spec") or {}).get("hostnameOverride"):
        return ""
    return f"{subdomain}.{namespace_of(pod)}.svc.{cluster_domain}"


def hosts_file(pod: Obj, addresses: Sequence[str], settings: NodeSettings, of_node: str = "") -> str:
    """Returns the managed /etc/hosts; a pod in the host's network gets the node's file (`of_node`) first."""
    if host_network(pod):
        lines = ["# Kubernetes-managed hosts file (host network).", of_node.rstrip("\n")]
    else:
        name, domain = host_name(pod, settings.name), host_domain(pod, settings.cluster_domain)
        names = f"{name}.{domain}\t{name}" if domain else name
        lines = [
            "# Kubernetes-managed hosts file.",
            "127.0.0.1\tlocalhost",
            "::1\tlocalhost ip6-localhost ip6-loopback",
            "fe00::0\tip6-localnet",
            "fe00::0\tip6-mcastprefix",
            "fe00::1\tip6-allnodes",
            "fe00::2\tip6-allrouters",
            *(f"{address}\t{names}" for address in addresses),
        ]
    aliases = (pod.get("spec") or {}).get("hostAliases") or []
    if aliases:
        lines += ["", "# Entries added by HostAliases."]
        lines += ["\t".join([one["ip"], *(one.get("hostnames") or [])]) for one in aliases]
    return "\n".join(lines) + "\n"


def dns_config(pod: Obj, settings: NodeSettings) -> dict[str, list[str]]:
    """Returns servers, searches and options by the pod's dnsPolicy and dnsConfig."""
    spec = pod.get("spec") or {}
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    if policy == "ClusterFirst" and host_network(pod):
        policy = "Default"
    host = settings.host_dns
    servers, searches, options = (list(host.get(key) or ()) for key in ("servers", "searches", "options"))
    if policy == "None":
        servers, searches, options = [], [], []
    elif policy != "Default" and settings.cluster_dns:
        domain = settings.cluster_domain
        servers = list(settings.cluster_dns)
        searches = [f"{namespace_of(pod)}.svc.{domain}", f"svc.{domain}", domain, *searches]
        options = ["ndots:5"]
    own = spec.get("dnsConfig") or {}
    servers += own.get("nameservers") or []
    searches += own.get("searches") or []
    merged = {one.partition(":")[0]: one for one in options}
    for option in own.get("options") or []:
        value = option.get("value")
        merged[option["name"]] = f"{option['name']}:{value}" if value else option["name"]
    return {
        "servers": list(dict.fromkeys(servers))[:_SERVERS_MAX],
        "searches": list(dict.fromkeys(searches))[:_SEARCHES_MAX],
        "options": list(merged.values()),
    }


# ---------------------------------------------------------------- sandbox


def pod_cgroup(pod: Obj, quality: str, root: str) -> str:
    """The pod's cgroup, by its quality of service; `root` is the node's own part of the tree."""
    tier = {"Guaranteed": "", "Burstable": "/burstable", "BestEffort": "/besteffort"}[quality]
    return f"{root}/kubepods{tier}/pod{uid_of(pod)}"


def sandbox_config(pod: Obj, attempt: int, *, settings: NodeSettings, log_folder: str, cgroup: str) -> dict[str, Any]:
    """Returns CRI's PodSandboxConfig."""
    spec = pod.get("spec") or {}
    if spec.get("hostUsers") is False:
        raise ConfigError("the container runtime of this node does not support user namespaces")
    context = spec.get("securityContext") or {}
    name, domain = host_name(pod, settings.name), host_domain(pod, settings.cluster_domain)
    if spec.get("setHostnameAsFQDN") and domain and not spec.get("hostnameOverride"):
        name = f"{name}.{domain}"
        if len(name) > 64:
            raise ConfigError(
                f"failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long "
                f"(64 characters is the max, {len(name)} characters requested)"
            )
    security: dict[str, Any] = {
        "namespace_options": _namespaces(pod),
        "privileged": any(
            (one.spec.get("securityContext") or {}).get("privileged") for one in by_kind(pod, "init", "sidecar", "main")
        ),
        "seccomp": {"profile_type": "RuntimeDefault"},
        "supplemental_groups": _groups(context),
    }
    _set_identity(security, context)
    if context.get("seLinuxOptions"):
        security["selinux_options"] = dict(context["seLinuxOptions"])
    config: dict[str, Any] = {
        "metadata": {"name": name_of(pod), "namespace": namespace_of(pod), "uid": uid_of(pod), "attempt": attempt},
        "log_directory": log_folder,
        "dns_config": dns_config(pod, settings),
        "port_mappings": _port_mappings(pod),
        "labels": {**labels_of(pod), **_pod_labels(pod)},
        "annotations": dict(annotations_of(pod)),
        "linux": {
            "cgroup_parent": cgroup,
            "security_context": security,
            "sysctls": {one["name"]: one["value"] for one in context.get("sysctls") or []},
        },
    }
    if not host_network(pod):
        config["hostname"] = name
    return config


def _pod_labels(pod: Obj) -> dict[str, str]:
    return {POD_NAME: name_of(pod), POD_NAMESPACE: namespace_of(pod), POD_UID: uid_of(pod)}


def _namespaces(pod: Obj) -> dict[str, Any]:
    spec = pod.get("spec") or {}
    pid = "NODE" if spec.get("hostPID") else "POD" if spec.get("shareProcessNamespace") else "CONTAINER"
    return {
        "network": "NODE" if spec.get("hostNetwork") else "POD",
        "pid": pid,
        "ipc": "NODE" if spec.get("hostIPC") else "POD",
    }


def _port_mappings(pod: Obj) -> list[dict[str, Any]]:
    if host_network(pod):
        return []
    return [
        {
            "protocol": port.get("protocol") or "TCP",
            "container_port": port["containerPort"],
            "host_port": port.get("hostPort") or 0,
            "host_ip": port.get("hostIP") or "",
        }
        for container in by_kind(pod, "sidecar", "main")
        for port in container.spec.get("ports") or []
        if port.get("hostPort")
    ]


def _groups(context: Obj) -> list[int]:
    groups = list(context.get("supplementalGroups") or [])
    if context.get("fsGroup") is not None:
        groups.append(context["fsGroup"])
    return groups


def _set_identity(security: dict[str, Any], context: Obj) -> None:
    if context.get("runAsUser") is not None:
        security["run_as_user"] = {"value": context["runAsUser"]}
    if context.get("runAsGroup") is not None:
        security["run_as_group"] = {"value": context["runAsGroup"]}


# ---------------------------------------------------------------- containers


def container_hash(container: Obj) -> str:
    """Marks what makes a running container no longer the wanted one: its name and image."""
    return hashlib.sha256(f"{container['name']}\0{container.get('image')}".encode()).hexdigest()[:12]


def resources_mark(container: Obj) -> str:
    """The container's resources in one comparable text: a running container is resized when it changes."""
    return json.dumps(container.get("resources") or {}, sort_keys=True, separators=(",", ":"))


def effective_security(pod: Obj, container: Obj) -> Obj:
    """The container's security context over the pod's."""
    of_pod = (pod.get("spec") or {}).get("securityContext") or {}
    shared = ("runAsUser", "runAsGroup", "runAsNonRoot", "seLinuxOptions", "seccompProfile", "appArmorProfile")
    own = {key: value for key, value in (container.get("securityContext") or {}).items() if value is not None}
    return {**{key: of_pod[key] for key in shared if of_pod.get(key) is not None}, **own}


def check_non_root(pod: Obj, container: Obj, image_user: int | str | None) -> None:
    """Raises ConfigError if the container must not run as root but would, or if that can't be told."""
    context = effective_security(pod, container)
    if not context.get("runAsNonRoot"):
        return
    where = f'(pod: "{name_of(pod)}_{namespace_of(pod)}({uid_of(pod)})", container: {container["name"]})'
    if context.get("runAsUser") is not None:
        if context["runAsUser"] == 0:
            raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
    elif isinstance(image_user, str):
        raise ConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({image_user}), cannot verify user is non-root "
            f"{where}"
        )
    elif not image_user:
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")


def container_config(
    pod: Obj,
    container: ContainerSpec,
    *,
    attempt: int,
    step: int,
    round: int = 0,
    image: str,
    variables: Mapping[str, str],
    mounts: Sequence[Mapping[str, Any]],
    devices: Sequence[Mapping[str, Any]] = (),
    settings: NodeSettings,
    target_id: str = "",
) -> dict[str, Any]:
    """Returns CRI's ContainerConfig. `target_id` is the container whose processes an ephemeral container shares."""
    spec = container.spec
    config: dict[str, Any] = {
        "metadata": {"name": container.name, "attempt": attempt},
        "image": {"image": image, "user_specified_image": spec.get("image") or ""},
        "command": [expand(one, variables) for one in spec.get("command") or []],
        "args": [expand(one, variables) for one in spec.get("args") or []],
        "working_dir": spec.get("workingDir") or "",
        "envs": [{"key": key, "value": value.encode()} for key, value in variables.items()],
        "mounts": [dict(one) for one in mounts],
        "devices": [dict(one) for one in devices],
        "labels": {CONTAINER_NAME: container.name, **_pod_labels(pod)},
        "annotations": {
            CONTAINER_HASH: container_hash(spec),
            RESTART_COUNT: str(attempt),
            BACKOFF_STEP: str(step),
            **({ROUND: str(round)} if round else {}),
            RESOURCES: resources_mark(spec),
            TERMINATION_PATH: spec.get("terminationMessagePath") or _TERMINATION_PATH,
            TERMINATION_POLICY: spec.get("terminationMessagePolicy") or "File",
            POD_GRACE: str(grace_seconds(pod)),
        },
        "log_path": str(PurePosixPath(container.name) / f"{attempt}.log"),
        "stdin": bool(spec.get("stdin")),
        "stdin_once": bool(spec.get("stdinOnce")),
        "tty": bool(spec.get("tty")),
        "linux": {
            "resources": linux_resources(pod, container, settings.memory_capacity_bytes),
            "security_context": _security(pod, container, settings, target_id),
        },
    }
    stop_signal = (spec.get("lifecycle") or {}).get("stopSignal")
    if stop_signal:
        config["stop_signal"] = stop_signal
    return config


def _security(pod: Obj, container: ContainerSpec, settings: NodeSettings, target_id: str) -> dict[str, Any]:
    context = effective_security(pod, container.spec)
    of_pod = (pod.get("spec") or {}).get("securityContext") or {}
    namespaces = _namespaces(pod)
    if target_id:
        namespaces.update(pid="TARGET", target_id=target_id)
    privileged = bool(context.get("privileged"))
    capabilities = context.get("capabilities") or {}
    security: dict[str, Any] = {
        "privileged": privileged,
        "namespace_options": namespaces,
        "readonly_rootfs": bool(context.get("readOnlyRootFilesystem")),
        "supplemental_groups": _groups(of_pod),
        "no_new_privs": context.get("allowPrivilegeEscalation") is False,
        "capabilities": {
            "add_capabilities": list(capabilities.get("add") or []),
            "drop_capabilities": list(capabilities.get("drop") or []),
        },
    }
    if of_pod.get("supplementalGroupsPolicy"):
        security["supplemental_groups_policy"] = of_pod["supplementalGroupsPolicy"]
    _set_identity(security, context)
    if not privileged and context.get("procMount") != "Unmasked":
        security["masked_paths"], security["readonly_paths"] = list(_MASKED), list(_READ_ONLY)
    if not privileged:
        security["seccomp"] = _profile(context.get("seccompProfile"), settings.seccomp_folder, settings.seccomp_default)
    if settings.apparmor and context.get("appArmorProfile"):
        security["apparmor"] = _profile(context["appArmorProfile"], "", False)
    if context.get("seLinuxOptions"):
        security["selinux_options"] = dict(context["seLinuxOptions"])
    return security


def _profile(profile: Obj | None, folder: str, confined_by_default: bool) -> dict[str, Any]:
    kind = (profile or {}).get("type") or ("RuntimeDefault" if confined_by_default else "Unconfined")
    if kind != "Localhost":
        return {"profile_type": kind}
    reference = (profile or {}).get("localhostProfile") or ""
    return {"profile_type": kind, "localhost_ref": f"{folder}/{reference}" if folder else reference}
