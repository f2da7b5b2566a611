"""Empty folders, parts of volumes, and many volumes at once: what containers see of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.files import Show, config_map, container, pod, secret, show
from tests.cluster.conformance.objects import core, is_ready
from tests.cluster.conftest import RunningCluster
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster
mark = pytest.mark

MEDIA = {"default": {"emptyDir": {}}, "tmpfs": {"emptyDir": {"medium": "Memory"}}}
MODES = {"0644": "-rw-r--r--", "0666": "-rw-rw-rw-", "0777": "-rwxrwxrwx"}
USERS = {"root": None, "non-root": 1001}
CONTENT = "mount-tester new file"
# For each volume and mode: what the file is like that a container makes there.
WRITE = f"""
echo '{CONTENT}' >/tmp/content
for medium in default tmpfs; do
    echo "$medium $(stat -c %A /v/$medium) $(stat -f -c %T /v/$medium)"
    for mode in 0644 0666 0777; do
        cp /tmp/content /v/$medium/$mode && chmod $mode /v/$medium/$mode
        echo "$medium/$mode $(stat -c %A /v/$medium/$mode) $(cat /v/$medium/$mode)"
    done
done
"""


def writers() -> list[dict[str, Any]]:
    """A pod for each user, which writes to folders of its own."""
    made = []
    for name, user in USERS.items():
        mounts = {medium: f"/v/{medium}" for medium in MEDIA}
        made.append(pod(name, [container("c", WRITE, mounts, user)], MEDIA))
    return made


def sharers() -> dict[str, Any]:
    """One container waits for the file that the other makes."""
    reads = "until test -e /shared/file; do sleep 0.1; done; cat /shared/file"
    containers = [
        container("main", reads, {"shared": "/shared"}),
        container("sub", "sleep 1; echo Hello from the busy-box sub-container >/shared/file", {"shared": "/shared"}),
    ]
    return pod("shared", containers, {"shared": {"emptyDir": {}}})


SUB_PATHS: dict[str, dict[str, Any]] = {
    "configmap": {"configMap": {"name": "config"}},
    "secret": {"secret": {"secretName": "secret"}},
    "downward": {"downwardAPI": {"items": [{"path": "downward/podname", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    "projected": {"projected": {"sources": [{"configMap": {"name": "config"}}]}},
}
EXISTING = "/etc/resolv.conf"


def sub_paths() -> dict[str, Any]:
    """A container for each kind of volume sees one file, or one folder, of it."""
    parts = {"configmap": "file", "secret": "file", "downward": "downward/podname", "projected": "file"}
    containers = []
    for kind, part in parts.items():
        mount = {"name": kind, "mountPath": "/test/file", "subPath": part}
        script = "cat /test/file; echo; ls /test; touch /test/file 2>/dev/null && echo written"
        containers.append(container(kind, f"{script}; true", {}, volumeMounts=[mount]))
    over = {"name": "configmap", "mountPath": EXISTING, "subPath": "file"}
    containers.append(container("existing", f"cat {EXISTING}", {}, volumeMounts=[over]))
    return pod("subpath", containers, SUB_PATHS)


def wrapped() -> dict[str, Any]:
    volumes = {kind: SUB_PATHS[kind] for kind in ("secret", "configmap")}
    script = "cat /v/secret/file /v/configmap/file"
    return pod("wrapped", [container("c", script, {kind: f"/v/{kind}" for kind in volumes})], volumes)


@pytest.fixture(scope="module")
def shown(cluster: RunningCluster) -> Iterator[Show]:
    sources = [config_map("config", file="from the config map"), secret("secret", file="from the secret")]
    with show(cluster, *sources, *writers(), sharers(), sub_paths(), wrapped()) as made:
        yield made


@pytest.mark.parametrize(
    ("user", "mode", "medium"),
    [
        pytest.param(
            "root",
            "0644",
            "default",
            marks=mark.behaviour("[sig-storage] EmptyDir volumes should support (root,0644,default) [LinuxOnly]"),
        ),
        pytest.param(
            "root",
            "0666",
            "default",
            marks=mark.behaviour("[sig-storage] EmptyDir volumes should support (root,0666,default) [LinuxOnly]"),
        ),
        pytest.param(
            "root",
            "0777",
            "default",
            marks=mark.behaviour("[sig-storage] EmptyDir volumes should support (root,0777,default) [LinuxOnly]"),
        ),
        pytest.param(
            "root",
            "0644",
            "tmpfs",
            marks=mark.behaviour("[sig-storage] EmptyDir volumes should support (root,0644,tmpfs) [LinuxOnly]"),
        ),
        pytest.param(
            "root",
            "0666",
            "tmpfs",
            marks=mark.behaviour("[sig-storage] EmptyDir volumes should support (root,0666,tmpfs) [LinuxOnly]"),
        ),
        pytest.param(
            "root",
            "0777",
            "tmpfs",
            marks=mark.behaviour("[sig-storage] EmptyDir volumes should support (root,0777,tmpfs) [LinuxOnly]"),
        ),
        pytest.param(
            "non-root",
            "0644",
            "default",
            marks=mark.behaviour("[sig-storage] EmptyDir volumes should support (non-root,0644,default) [LinuxOnly]"),
        ),
        pytest.param(
            "non-root",
            "0666",
            "default",
            marks=mark.behaviour("[sig-storage] EmptyDir volumes should support (non-root,0666,default) [LinuxOnly]"),
        ),
        pytest.param(
            "non-root",
            "0777",
            "default",
            marks=mark.behaviour("[sig-storage] EmptyDir volumes should support (non-root,0777,default) [LinuxOnly]"),
        ),
        pytest.param(
            "non-root",
            "0644",
            "tmpfs",
            marks=mark.behaviour("[sig-storage] EmptyDir volumes should support (non-root,0644,tmpfs) [LinuxOnly]"),
        ),
        pytest.param(
            "non-root",
            "0666",
            "tmpfs",
            marks=mark.behaviour("[sig-storage] EmptyDir volumes should support (non-root,0666,tmpfs) [LinuxOnly]"),
        ),
        pytest.param(
            "non-root",
            "0777",
            "tmpfs",
            marks=mark.behaviour("[sig-storage] EmptyDir volumes should support (non-root,0777,tmpfs) [LinuxOnly]"),
        ),
    ],
)
def test_files_in_an_empty_folder(shown: Show, user: str, mode: str, medium: str) -> None:
    lines = shown.log(user, "c").splitlines()
    assert f"{medium}/{mode} {MODES[mode]} {CONTENT}" in lines


@pytest.mark.parametrize(
    "medium",
    [
        pytest.param(
            "default",
            marks=mark.behaviour(
                "[sig-storage] EmptyDir volumes volume on default medium should have the correct mode [LinuxOnly]"
            ),
        ),
        pytest.param(
            "tmpfs",
            marks=mark.behaviour(
                "[sig-storage] EmptyDir volumes volume on tmpfs should have the correct mode [LinuxOnly]"
            ),
        ),
    ],
)
def test_an_empty_folder_is_for_everybody(shown: Show, medium: str) -> None:
    for user in USERS:
        (line,) = [one for one in shown.log(user, "c").splitlines() if one.startswith(f"{medium} ")]
        _, mode, kind = line.split()
        assert mode == "drwxrwxrwx"
        assert (kind == "tmpfs") or medium == "default"


@pytest.mark.behaviour("[sig-storage] EmptyDir volumes pod should support shared volumes between containers")
def test_containers_share_an_empty_folder(shown: Show) -> None:
    assert shown.log("shared", "main") == "Hello from the busy-box sub-container\n"


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        pytest.param(
            "configmap",
            "from the config map",
            marks=mark.behaviour(
                "[sig-storage] Subpath Atomic writer volumes should support subpaths with configmap pod"
            ),
        ),
        pytest.param(
            "secret",
            "from the secret",
            marks=mark.behaviour("[sig-storage] Subpath Atomic writer volumes should support subpaths with secret pod"),
        ),
        pytest.param(
            "downward",
            "subpath",
            marks=mark.behaviour(
                "[sig-storage] Subpath Atomic writer volumes should support subpaths with downward pod"
            ),
        ),
        pytest.param(
            "projected",
            "from the config map",
            marks=mark.behaviour(
                "[sig-storage] Subpath Atomic writer volumes should support subpaths with projected pod"
            ),
        ),
    ],
)
def test_one_file_of_a_volume(shown: Show, kind: str, content: str) -> None:
    assert shown.log("subpath", kind).splitlines()[:2] == [content, "file"]


@pytest.mark.behaviour(
    "[sig-storage] Subpath Atomic writer volumes should support subpaths with configmap pod with mountPath of "
    "existing file"
)
def test_one_file_in_place_of_another(shown: Show) -> None:
    assert shown.log("subpath", "existing") == "from the config map"


@pytest.mark.behaviour("[sig-storage] EmptyDir wrapper volumes should not conflict")
def test_volumes_side_by_side(shown: Show) -> None:
    assert shown.log("wrapped", "c") == "from the secretfrom the config map"


@pytest.mark.behaviour(
    "[sig-storage] EmptyDir wrapper volumes should not cause race condition when used for configmaps [Serial]"
)
def test_fifty_volumes_in_each_of_five_pods(shown: Show, api: Api) -> None:
    names = [f"racey-{number}" for number in range(50)]
    volumes = {name: {"configMap": {"name": name, "items": [{"key": "data-1", "path": "data-1"}]}} for name in names}
    node = api.get("/api/v1/nodes").ok()["items"][0]["metadata"]["name"]
    made = pod("wrapped-volume-race", [container("c", "sleep 10000", {one: f"/v/{one}" for one in names})], volumes)
    # All on one node, as upstream: its kubelet is what is tried.
    spec = {**made["spec"], "restartPolicy": "Always", "nodeName": node}
    template = {"metadata": {"labels": {"name": "race"}}, "spec": spec}
    controller = {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": "race"},
        "spec": {"replicas": 5, "selector": {"name": "race"}, "template": template},
    }
    sources = [config_map(name, **{"data-1": "value-1"}) for name in names]
    shown.cluster.apply(*sources, controller, namespace=shown.namespace)

    def ready() -> bool:
        pods = api.get(f"{core(shown.namespace, 'pods')}?labelSelector=name%3Drace").ok()["items"]
        return len(pods) == 5 and all(is_ready(one) for one in pods)

    eventually(ready, 120)
    pods = api.get(f"{core(shown.namespace, 'pods')}?labelSelector=name%3Drace").ok()["items"]
    assert all(one["status"]["containerStatuses"][0]["restartCount"] == 0 for one in pods)
    shown.cluster.kubectl("-n", shown.namespace, "delete", "rc", "race", "--wait=false")
