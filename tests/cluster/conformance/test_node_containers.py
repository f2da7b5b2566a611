"""Containers as they run: logs, /etc/hosts, ephemeral containers, users and rights, sysctls, images as volumes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conformance.conftest import STRATEGIC, Api
from tests.cluster.conformance.fleet import PYTHON, Fleet, Obj, container, launched, pod_of, shell
from tests.cluster.conformance.objects import core, is_ready
from tests.cluster.conftest import RunningCluster, proa
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

KITTEN = "docker.io/library/kitten:latest"
MANAGED = "# Kubernetes-managed hosts file."
SYSCTL = "kernel.shm_rmid_forced"
# A copy of a program that root owns and that asks to run as its owner.
SET_UID = "import os, shutil; shutil.copy('/usr/bin/python3', '/work/program'); os.chmod('/work/program', 0o4755)"
WHO = ("/work/program", "-c", "import os; print('Effective uid:', os.geteuid())")


def escalating(name: str, allowed: bool) -> Obj:
    mounts = {"volumeMounts": [{"name": "work", "mountPath": "/work"}]}
    made = container(
        "main", *WHO, image=PYTHON, securityContext={"runAsUser": 1000, "allowPrivilegeEscalation": allowed}, **mounts
    )
    first = container("init", "python3", "-c", SET_UID, image=PYTHON, **mounts)
    return pod_of(name, made, initContainers=[first], volumes=[{"name": "work", "emptyDir": {}}])


def secured(name: str, script: str, of_pod: Obj | None = None, **context: Any) -> Obj:
    return shell(name, script, securityContext=context, pod={"securityContext": of_pod or {}})


def objects() -> list[Obj]:
    aliases = [{"ip": "123.45.67.89", "hostnames": ["foo", "bar"]}]
    own_hosts = {"volumeMounts": [{"name": "host-etc-hosts", "mountPath": "/etc/hosts"}]}
    hosts = [{"name": "host-etc-hosts", "hostPath": {"path": "/etc/hosts", "type": "File"}}]
    sysctls = {"sysctls": [{"name": SYSCTL, "value": "1"}]}
    return [
        shell("logs", "echo Hello World; echo and this >&2; sleep 600"),
        shell("always-fails", "exit 7"),
        secured("read-only", "echo test >/file; sleep 240", readOnlyRootFilesystem=True),
        secured("writable", "echo checking >/file && cat /file", readOnlyRootFilesystem=False),
        shell("aliases", "cat /etc/hosts", pod={"hostAliases": aliases}),
        pod_of("hosts", container("managed"), container("other"), container("mounted", **own_hosts), volumes=hosts),
        pod_of("host-network", container("main"), hostNetwork=True),
        pod_of("debugged", container("main"), terminationGracePeriodSeconds=1),
        secured("as-nobody", "id -u", runAsUser=65534),
        secured("unprivileged", "ip link add dummy0 type dummy; echo $?", privileged=False),
        escalating("no-escalation", False),
        escalating("escalation", True),
        secured("pod-ids", "id", {"runAsUser": 1001, "runAsGroup": 2002}),
        secured("container-ids", "id", {"runAsUser": 5, "runAsGroup": 6}, runAsUser=1001, runAsGroup=2002),
        secured("sysctl", f"cat /proc/sys/{SYSCTL.replace('.', '/')}", sysctls),
        image_volume("image-volume"),
    ]


def image_volume(name: str) -> Obj:
    volumes = [{"name": "volume", "image": {"reference": KITTEN, "pullPolicy": "Always"}}]
    made = container("main", volumeMounts=[{"name": "volume", "mountPath": "/volume"}])
    return pod_of(name, made, volumes=volumes, restartPolicy="Always")


@pytest.fixture(scope="module")
def fleet(cluster: RunningCluster, api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    files = tmp_path_factory.mktemp("kitten")
    (files / "data.json").write_text('{"image": "kitten.jpg"}')
    (files / "os-release").write_text('NAME="Kitten Linux"')
    parts = [f"{files / 'data.json'}:data.json", f"{files / 'os-release'}:etc/os-release"]
    options = [word for part in parts for word in ("--file", part)]
    proa("image", "build", "--load", *cluster.options, KITTEN, *options)
    with launched(cluster, api, *objects()) as made:
        yield made


# ---------------------------------------------------------------- kubelet


@pytest.mark.behaviour("[sig-node] Kubelet when scheduling a busybox command in a pod should print the output to logs")
def test_logs(fleet: Fleet) -> None:
    eventually(lambda: sorted(fleet.logs("logs").splitlines()) == ["Hello World", "and this"])


@pytest.mark.behaviour(
    "[sig-node] Kubelet when scheduling a busybox command that always fails in a pod should have an terminated reason"
)
def test_terminated_reason(fleet: Fleet) -> None:
    pod = fleet.phase("always-fails", "Failed")
    (status,) = pod["status"]["containerStatuses"]
    assert status["state"]["terminated"]["reason"] == "Error"
    assert status["state"]["terminated"]["exitCode"] == 7


@pytest.mark.behaviour(
    "[sig-node] Kubelet when scheduling a busybox command that always fails in a pod should be possible to delete"
)
def test_a_failed_pod_can_be_deleted(api: Api, fleet: Fleet) -> None:
    fleet.create(shell("to-delete", "false", pod={"restartPolicy": "Always"}))
    fleet.until("to-delete", lambda pod: pod["status"].get("containerStatuses"), what="no status")
    fleet.delete("to-delete")


@pytest.mark.behaviour(
    "[sig-node] Kubelet when scheduling a read only busybox container should not write to root filesystem [LinuxOnly]"
)
def test_read_only_root(fleet: Fleet) -> None:
    eventually(lambda: fleet.logs("read-only") == "sh: can't create /file: Read-only file system\n")


@pytest.mark.behaviour(
    "[sig-node] Kubelet when scheduling an agnhost Pod with hostAliases should write entries to /etc/hosts"
)
def test_host_aliases(fleet: Fleet) -> None:
    said = fleet.output("aliases")
    assert said.startswith(MANAGED)
    assert said.endswith("\n# Entries added by HostAliases.\n123.45.67.89\tfoo\tbar\n")


@pytest.mark.behaviour("[sig-node] KubeletManagedEtcHosts should test kubelet managed /etc/hosts file")
def test_managed_hosts(fleet: Fleet) -> None:
    """Managed in a pod's own network; not where the container mounts its own, nor in the host's network."""
    address = fleet.ready("hosts")["status"]["podIP"]
    fleet.ready("host-network")
    for name in ("managed", "other"):
        found = fleet.run("hosts", "cat /etc/hosts", name)
        assert MANAGED in found and f"{address}\thosts\n" in found
    assert MANAGED not in fleet.run("hosts", "cat /etc/hosts", "mounted")
    found = fleet.run("host-network", "cat /etc/hosts")
    assert MANAGED not in found and Path("/etc/hosts").read_text().rstrip() in found


# ---------------------------------------------------------------- ephemeral containers


def debugger(name: str, said: str) -> Obj:
    script = f"trap exit TERM; while true; do echo {said}; sleep 0.2; done"
    return container(name, "sh", "-c", script, stdin=True, tty=True)


def runs(fleet: Fleet, name: str, said: str) -> None:
    eventually(lambda: "running" in fleet.container("debugged", name).get("state", {}), what=f"{name} runs")
    eventually(lambda: said in fleet.logs("debugged", name))


@pytest.mark.behaviour(
    "[sig-node] Ephemeral Containers will start an ephemeral container in an existing pod",
    "[sig-node] Ephemeral Containers should update the ephemeral containers in an existing pod",
)
def test_ephemeral_containers(api: Api, fleet: Fleet) -> None:
    fleet.ready("debugged")
    path = fleet.path("debugged") + "/ephemeralcontainers"
    api.patch(path, {"spec": {"ephemeralContainers": [debugger("debugger", "polo")]}}, STRATEGIC).ok()
    runs(fleet, "debugger", "polo")
    found = api.get(path).ok()
    assert [one["name"] for one in found["spec"]["ephemeralContainers"]] == ["debugger"]
    found["spec"]["ephemeralContainers"].append(debugger("debugger2", "marco"))
    api.put(path, found).ok()
    runs(fleet, "debugger2", "marco")
    pod = fleet.get("debugged")
    assert [one["name"] for one in pod["spec"]["ephemeralContainers"]] == ["debugger", "debugger2"]
    assert [one["name"] for one in pod["status"]["ephemeralContainerStatuses"]] == ["debugger", "debugger2"]
    assert is_ready(pod)
    pod["spec"]["ephemeralContainers"] = []
    api.put(path, pod).failed(422, "Invalid")


# ---------------------------------------------------------------- users and rights


@pytest.mark.behaviour(
    "[sig-node] Security Context When creating a container with runAsUser should run the container with uid 65534 "
    "[LinuxOnly]"
)
def test_run_as_user(fleet: Fleet) -> None:
    assert fleet.output("as-nobody").strip() == "65534"


@pytest.mark.behaviour(
    "[sig-node] Security Context When creating a pod with privileged should run the container as unprivileged when "
    "false [LinuxOnly]"
)
def test_unprivileged(fleet: Fleet) -> None:
    said = fleet.output("unprivileged")
    assert "Operation not permitted" in said or said.strip().splitlines()[-1] != "0"


@pytest.mark.behaviour(
    "[sig-node] Security Context When creating a pod with readOnlyRootFilesystem should run the container with "
    "writable rootfs when readOnlyRootFilesystem=false"
)
def test_writable_root(fleet: Fleet) -> None:
    assert fleet.output("writable") == "checking\n"


@pytest.mark.behaviour(
    "[sig-node] Security Context when creating containers with AllowPrivilegeEscalation should not allow privilege "
    "escalation when false [LinuxOnly]"
)
def test_no_privilege_escalation(fleet: Fleet) -> None:
    assert fleet.output("no-escalation") == "Effective uid: 1000\n"
    assert fleet.output("escalation") == "Effective uid: 0\n"


@pytest.mark.behaviour(
    "[sig-node] Security Context should support pod.Spec.SecurityContext.RunAsUser And "
    "pod.Spec.SecurityContext.RunAsGroup [LinuxOnly]",
    "[sig-node] Security Context should support container.SecurityContext.RunAsUser And "
    "container.SecurityContext.RunAsGroup [LinuxOnly]",
)
@pytest.mark.parametrize("name", ["pod-ids", "container-ids"])
def test_user_and_group(fleet: Fleet, name: str) -> None:
    said = fleet.output(name)
    assert "uid=1001" in said and "gid=2002" in said


def test_strict_groups_need_a_runtime_that_knows_them(api: Api, fleet: Fleet) -> None:
    fleet.create(secured("strict-groups", "id", {"runAsUser": 1001, "supplementalGroupsPolicy": "Strict"}))
    pod = fleet.phase("strict-groups", "Succeeded", "Failed")
    node = api.get(f"/api/v1/nodes/{pod['spec']['nodeName']}").ok()
    if not node["status"].get("features", {}).get("supplementalGroupsPolicy"):
        assert pod["status"]["reason"] == "SupplementalGroupsPolicyNotSupported"
        assert pod["status"]["observedGeneration"] == 1


# ---------------------------------------------------------------- sysctls


@pytest.mark.behaviour("[sig-node] Sysctls [LinuxOnly] should support sysctls [Environment:NotInUserNS]")
def test_sysctls(fleet: Fleet) -> None:
    assert fleet.output("sysctl").strip() == "1"


@pytest.mark.behaviour("[sig-node] Sysctls [LinuxOnly] should reject invalid sysctls")
def test_invalid_sysctls(api: Api, fleet: Fleet) -> None:
    names = ("foo-", "kernel.shmmax", "safe-and-unsafe", "bar..")
    sysctls = {"sysctls": [{"name": name, "value": "bar"} for name in names]}
    body = secured("bad-sysctls", "true", sysctls)
    refused = api.post(core(fleet.namespace, "pods"), body).failed(422, "Invalid")
    assert 'Invalid value: "foo-"' in refused["message"] and 'Invalid value: "bar.."' in refused["message"]
    assert "safe-and-unsafe" not in refused["message"] and "kernel.shmmax" not in refused["message"]


def test_unsafe_sysctls_are_refused_by_the_node(fleet: Fleet) -> None:
    fleet.create(secured("unsafe-sysctl", "true", {"sysctls": [{"name": "kernel.msgmax", "value": "10000000000"}]}))
    pod = fleet.phase("unsafe-sysctl", "Failed")
    assert pod["status"]["reason"] == "SysctlForbidden"
    eventually(lambda: [one for one in fleet.events("unsafe-sysctl") if one["reason"] == "SysctlForbidden"])


# ---------------------------------------------------------------- images as volumes


@pytest.mark.behaviour(
    "[sig-node] ImageVolume should succeed with pod and pull policy of Always [LinuxOnly] [MinimumKubeletVersion:1.35]"
)
def test_an_image_as_a_volume(fleet: Fleet) -> None:
    fleet.phase("image-volume", "Running")
    assert "kitten.jpg" in fleet.run("image-volume", "cat /volume/data.json")
    assert "Kitten Linux" in fleet.run("image-volume", "cat /volume/etc/os-release")
    assert "Read-only file system" in fleet.run("image-volume", "touch /volume/x 2>&1 || true")
    fleet.delete("image-volume")
