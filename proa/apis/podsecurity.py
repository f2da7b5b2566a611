"""The Pod Security Standards: what a pod does that a level forbids. Pure.

Follows the standards' published controls (baseline and restricted), with the names and details of upstream's
`pod-security-admission` policies. Checks run in upstream's order: those of baseline, then those that restricted adds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from proa.meta.objects import Obj

PRIVILEGED, BASELINE, RESTRICTED = "privileged", "baseline", "restricted"
LEVELS = (PRIVILEGED, BASELINE, RESTRICTED)
LATEST = "latest"
_VERSION = re.compile(r"v1\.(0|[1-9][0-9]*)")

_BASELINE_CAPABILITIES = frozenset(
    (
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    )
)
_SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
_RESTRICTED_VOLUMES = frozenset(
    (
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
        "image",
    )
)
_SAFE_SYSCTLS = frozenset(
    (
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    )
)
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


class Violation(NamedTuple):
    """`reason` names the control, `detail` where it is broken."""

    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


def parse_version(text: str) -> int | None:
    """Returns the minor version of `v1.30`, or None for `latest` (and ""); raises ValueError for anything else."""
    if text in ("", LATEST):
        return None
    match = _VERSION.fullmatch(text)
    if match is None:
        raise ValueError('must be "latest" or "v1.x"')
    return int(match[1])


def violations(level: str, version: int | None, meta: Obj, spec: Obj) -> list[Violation]:
    """Returns what a pod (its metadata and spec) does that the level forbids."""
    if level == PRIVILEGED:
        return []
    found: list[Violation] = []
    for check in _checks(level, version):
        violation = check(meta, spec)
        if violation is not None:
            found.append(violation)
    return found


def _checks(level: str, version: int | None) -> Sequence[Callable[[Obj, Obj], Violation | None]]:
    if level == BASELINE:
        return _BASELINE
    replaced = {_capabilities, _seccomp, _host_path, _proc_mount_baseline}
    kept = [check for check in _BASELINE if check not in replaced]
    return [*kept, *(check for check, since in _RESTRICTED if version is None or version >= since)]


# ---------------------------------------------------------------- helpers


def _containers(spec: Obj) -> Iterator[Obj]:
    for key in ("containers", "initContainers", "ephemeralContainers"):
        yield from spec.get(key) or ()


def _context(holder: Obj) -> Obj:
    return holder.get("securityContext") or {}


def _named(kind: str, names: Iterable[str]) -> str:
    """Names things as messages do: `container "a"`, `containers "a", "b"`."""
    listed = list(dict.fromkeys(names))
    return f"{kind}{'s' if len(listed) > 1 else ''} {', '.join(_quoted(listed))}"


def _quoted(texts: Iterable[str]) -> list[str]:
    return [f'"{text}"' for text in texts]


def _breaking(spec: Obj, broken: Callable[[Obj], bool]) -> list[str]:
    return [one.get("name") or "" for one in _containers(spec) if broken(one)]


def _violation(reason: str, details: Iterable[str]) -> Violation | None:
    text = "; ".join(detail for detail in details if detail)
    return Violation(reason, text) if text else None


def _in_user_namespace(spec: Obj) -> bool:
    return spec.get("hostUsers") is False


# ---------------------------------------------------------------- baseline


def _apparmor(meta: Obj, spec: Obj) -> Violation | None:
    bad: list[str] = []
    forbidden = [one.get("name") or "" for one in _containers(spec) if _apparmor_type(one) == "Unconfined"]
    details = []
    if _apparmor_type(spec) == "Unconfined":
        details.append('pod must not set AppArmor profile type to "Unconfined"')
    if forbidden:
        details.append(f'{_named("container", forbidden)} must not set AppArmor profile type to "Unconfined"')
    prefix = "container.apparmor.security.beta.kubernetes.io/"
    for key, value in (meta.get("annotations") or {}).items():
        if key.startswith(prefix) and value not in ("", "runtime/default") and not value.startswith("localhost/"):
            bad.append(f'{key}="{value}"')
    if bad:
        details.append(f"annotation{'s' if len(bad) > 1 else ''} {', '.join(bad)}")
    reason = f"forbidden AppArmor profile{'s' if len(details) + len(forbidden) > 2 else ''}"
    return _violation(reason, details)


def _apparmor_type(holder: Obj) -> str:
    return (_context(holder).get("appArmorProfile") or {}).get("type") or ""


def _capabilities(meta: Obj, spec: Obj) -> Violation | None:
    return _violation("non-default capabilities", [_added_capabilities(spec, _BASELINE_CAPABILITIES)])


def _added_capabilities(spec: Obj, allowed: frozenset[str]) -> str:
    containers: list[str] = []
    capabilities: set[str] = set()
    for one in _containers(spec):
        extra = set((_context(one).get("capabilities") or {}).get("add") or ()) - allowed
        if extra:
            containers.append(one.get("name") or "")
            capabilities |= extra
    if not containers:
        return ""
    listed = ", ".join(_quoted(sorted(capabilities)))
    return f"{_named('container', containers)} must not include {listed} in securityContext.capabilities.add"


def _host_namespaces(meta: Obj, spec: Obj) -> Violation | None:
    shared = [f"{key}=true" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    return _violation("host namespaces", [", ".join(shared)])


def _host_path(meta: Obj, spec: Obj) -> Violation | None:
    names = [one.get("name") or "" for one in spec.get("volumes") or () if "hostPath" in one]
    return _violation("hostPath volumes", [_named("volume", names)] if names else [])


def _host_ports(meta: Obj, spec: Obj) -> Violation | None:
    containers: list[str] = []
    ports: set[int] = set()
    for one in _containers(spec):
        own = {port["hostPort"] for port in one.get("ports") or () if port.get("hostPort")}
        if own:
            containers.append(one.get("name") or "")
            ports |= own
    if not containers:
        return None
    several = len(set(containers)) > 1
    listed = f"hostPort{'s' if len(ports) > 1 else ''} {', '.join(str(port) for port in sorted(ports))}"
    return Violation("hostPort", f"{_named('container', containers)} {'use' if several else 'uses'} {listed}")


def _host_probes(meta: Obj, spec: Obj) -> Violation | None:
    names = _breaking(spec, lambda one: any(_handler_host(handler) for handler in _handlers(one)))
    detail = f"{_named('container', names)} must not set host in probes or lifecycle hooks" if names else ""
    return _violation("probe or lifecycle host", [detail])


def _handlers(container: Obj) -> Iterator[Obj]:
    for key in _PROBES:
        if container.get(key):
            yield container[key]
    for hook in (container.get("lifecycle") or {}).values():
        if isinstance(hook, dict):
            yield hook


def _handler_host(handler: Obj) -> Any:
    return (handler.get("httpGet") or {}).get("host") or (handler.get("tcpSocket") or {}).get("host")


def _privileged(meta: Obj, spec: Obj) -> Violation | None:
    names = _breaking(spec, lambda one: bool(_context(one).get("privileged")))
    detail = f"{_named('container', names)} must not set securityContext.privileged=true" if names else ""
    return _violation("privileged", [detail])


def _proc_mount(meta: Obj, spec: Obj) -> Violation | None:
    names = _breaking(spec, lambda one: _context(one).get("procMount") not in (None, "", "Default"))
    if not names:
        return None
    values = sorted({_context(one)["procMount"] for one in _containers(spec) if (one.get("name") or "") in names})
    listed = ", ".join(_quoted(values))
    return Violation("procMount", f"{_named('container', names)} must not set securityContext.procMount to {listed}")


def _proc_mount_baseline(meta: Obj, spec: Obj) -> Violation | None:
    return None if _in_user_namespace(spec) else _proc_mount(meta, spec)


def _selinux(meta: Obj, spec: Obj) -> Violation | None:
    holders = [("pod", spec), *((one.get("name") or "", one) for one in _containers(spec))]
    types, custom = [], []
    for name, holder in holders:
        options = _context(holder).get("seLinuxOptions") or {}
        where = "pod" if holder is spec else f'container "{name}"'
        if (options.get("type") or "") not in _SELINUX_TYPES:
            types.append(f'{where} set forbidden securityContext.seLinuxOptions: type "{options["type"]}"')
        forbidden = f"{where} set forbidden securityContext.seLinuxOptions"
        custom += [f"{forbidden}: {key} may not be set" for key in ("user", "role") if options.get(key)]
    return _violation("seLinuxOptions", [*types, *custom])


def _seccomp_type(holder: Obj) -> str:
    return (_context(holder).get("seccompProfile") or {}).get("type") or ""


def _seccomp_unconfined(spec: Obj) -> list[str]:
    details = []
    if _seccomp_type(spec) == "Unconfined":
        details.append("pod")
    names = _breaking(spec, lambda one: _seccomp_type(one) == "Unconfined")
    if names:
        details.append(_named("container", names))
    return (
        [f'{" and ".join(details)} must not set securityContext.seccompProfile.type to "Unconfined"'] if details else []
    )


def _seccomp(meta: Obj, spec: Obj) -> Violation | None:
    return _violation("seccompProfile", _seccomp_unconfined(spec))


def _sysctls(meta: Obj, spec: Obj) -> Violation | None:
    names = [one.get("name") or "" for one in _context(spec).get("sysctls") or ()]
    return _violation("forbidden sysctls", [", ".join(name for name in names if name not in _SAFE_SYSCTLS)])


def _windows_host_process(meta: Obj, spec: Obj) -> Violation | None:
    def host_process(holder: Obj) -> bool:
        return bool((_context(holder).get("windowsOptions") or {}).get("hostProcess"))

    names = _breaking(spec, host_process)
    where = ["pod"] if host_process(spec) else []
    where += [_named("container", names)] if names else []
    detail = f"{' and '.join(where)} must not set securityContext.windowsOptions.hostProcess=true" if where else ""
    return _violation("hostProcess", [detail])


# ---------------------------------------------------------------- restricted


def _is_windows(spec: Obj) -> bool:
    return (spec.get("os") or {}).get("name") == "windows"


def _escalation(meta: Obj, spec: Obj) -> Violation | None:
    if _is_windows(spec):
        return None
    names = _breaking(spec, lambda one: _context(one).get("allowPrivilegeEscalation") is not False)
    detail = f"{_named('container', names)} must set securityContext.allowPrivilegeEscalation=false" if names else ""
    return _violation("allowPrivilegeEscalation != false", [detail])


def _restricted_capabilities(meta: Obj, spec: Obj) -> Violation | None:
    if _is_windows(spec):
        return None
    keeping = _breaking(spec, lambda one: "ALL" not in ((_context(one).get("capabilities") or {}).get("drop") or ()))
    dropped = f'{_named("container", keeping)} must set securityContext.capabilities.drop=["ALL"]' if keeping else ""
    return _violation(
        "unrestricted capabilities", [dropped, _added_capabilities(spec, frozenset(("NET_BIND_SERVICE",)))]
    )


def _restricted_volumes(meta: Obj, spec: Obj) -> Violation | None:
    names: list[str] = []
    types: set[str] = set()
    for one in spec.get("volumes") or ():
        kinds = {key for key in one if key != "name"} - _RESTRICTED_VOLUMES
        if kinds:
            names.append(one.get("name") or "")
            types |= kinds
    if not names:
        return None
    verb = "use restricted volume type" if len(names) > 1 else "uses restricted volume type"
    listed = ", ".join(_quoted(sorted(types)))
    return Violation(
        "restricted volume types", f"{_named('volume', names)} {verb}{'s' if len(types) > 1 else ''} {listed}"
    )


def _run_as_non_root(meta: Obj, spec: Obj) -> Violation | None:
    if _in_user_namespace(spec):
        return None
    on_pod = _context(spec).get("runAsNonRoot")
    refusing = _breaking(spec, lambda one: _context(one).get("runAsNonRoot") is False)
    details = []
    if on_pod is False:
        details.append("pod")
    if refusing:
        details.append(_named("container", refusing))
    if details:
        return Violation(
            "runAsNonRoot != true", f"{' and '.join(details)} must not set securityContext.runAsNonRoot=false"
        )
    silent = [] if on_pod else _breaking(spec, lambda one: _context(one).get("runAsNonRoot") is None)
    detail = f"pod or {_named('container', silent)} must set securityContext.runAsNonRoot=true" if silent else ""
    return _violation("runAsNonRoot != true", [detail])


def _run_as_user(meta: Obj, spec: Obj) -> Violation | None:
    if _in_user_namespace(spec):
        return None
    names = _breaking(spec, lambda one: _context(one).get("runAsUser") == 0)
    where = ["pod"] if _context(spec).get("runAsUser") == 0 else []
    where += [_named("container", names)] if names else []
    return _violation("runAsUser=0", [f"{' and '.join(where)} must not set runAsUser=0"] if where else [])


def _restricted_seccomp(meta: Obj, spec: Obj) -> Violation | None:
    if _is_windows(spec):
        return None
    unconfined = _seccomp_unconfined(spec)
    if unconfined:
        return _violation("seccompProfile", unconfined)
    silent = [] if _seccomp_type(spec) else _breaking(spec, lambda one: not _seccomp_type(one))
    wanted = 'must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return _violation("seccompProfile", [f"pod or {_named('container', silent)} {wanted}"] if silent else [])


_BASELINE = (
    _apparmor,
    _capabilities,
    _host_namespaces,
    _host_path,
    _host_ports,
    _host_probes,
    _privileged,
    _proc_mount_baseline,
    _selinux,
    _seccomp,
    _sysctls,
    _windows_host_process,
)
# With the minor version that brought each
_RESTRICTED = (
    (_escalation, 8),
    (_restricted_capabilities, 22),
    (_proc_mount, 0),
    (_restricted_volumes, 0),
    (_run_as_non_root, 0),
    (_run_as_user, 23),
    (_restricted_seccomp, 19),
)


# ---------------------------------------------------------------- workloads

_TEMPLATES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("", "podtemplates"): ("template",),
    ("", "replicationcontrollers"): ("spec", "template"),
    ("apps", "daemonsets"): ("spec", "template"),
    ("apps", "deployments"): ("spec", "template"),
    ("apps", "replicasets"): ("spec", "template"),
    ("apps", "statefulsets"): ("spec", "template"),
    ("batch", "cronjobs"): ("spec", "jobTemplate", "spec", "template"),
    ("batch", "jobs"): ("spec", "template"),
}


def template_of(group: str, plural: str, obj: Obj) -> Obj | None:
    """Returns the pod template of an object that makes pods, None for any other."""
    path = _TEMPLATES.get((group, plural))
    if path is None:
        return None
    template: Any = obj
    for key in path:
        template = (template or {}).get(key)
    return template or None
