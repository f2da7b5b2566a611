"""A whole kubelet against a real API server in this process, over a runtime in memory and virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from proa.apiserver.app import ApiServer, Options
from proa.client.informer import SharedInformers
from proa.client.interface import DeleteOptions, UserInfo
from proa.client.local import LocalClient
from proa.client.resources import CONFIGMAPS, EVENTS, LEASES, NAMESPACES, NODES, PODS, SERVICEACCOUNTS
from proa.kubelet.cri.fake import FakeRuntime
from proa.kubelet.cri.types import RUNNING, Image, RuntimeFailure, Version
from proa.kubelet.options import KubeletOptions
from proa.kubelet.run import Kubelet, mounts_images
from proa.meta.errors import StatusError
from proa.meta.objects import Obj
from proa.util.virtualtime import LoopClock, run_virtual

ADMIN = UserInfo("test", ("system:masters", "system:authenticated"))
IMAGE = "docker.io/library/app:1"


class Place:
    """An API server, a node with a runtime in memory, and its kubelet, which may be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.clock = LoopClock(asyncio.get_running_loop())
        self.server = ApiServer(Options(), self.clock)
        self.client = LocalClient(self.server.api, ADMIN)
        self.runtime = FakeRuntime(self.clock)
        self.runtime.add_image(IMAGE)
        self.options = KubeletOptions(
            node_name="n1",
            node_ips=("192.168.1.2",),
            root=folder / "kubelet",
            logs=folder / "logs",
            manage_cgroups=False,
        )

    async def open(self) -> None:
        await self.server.start()
        for name in ("default", "kube-node-lease"):
            await self._make(NAMESPACES, "Namespace", name, "")
        await self._make(SERVICEACCOUNTS, "ServiceAccount", "default", "default")
        await self.start_kubelet()

    async def _make(self, resource: Any, kind: str, name: str, namespace: str) -> None:
        try:
            await self.client.create(
                resource, {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}, namespace
            )
        except StatusError as error:
            if error.code != 409:
                raise

    async def start_kubelet(self) -> None:
        self.informers = SharedInformers(self.client)
        await self.informers.start()
        self.kubelet = Kubelet(self.options, self.client, self.informers, self.clock, self.runtime)
        await self.kubelet.start()

    async def stop_kubelet(self) -> None:
        await self.kubelet.stop()
        await self.informers.stop()

    async def close(self) -> None:
        await self.stop_kubelet()
        await self.server.stop()

    async def run_pod(self, *containers: Obj, name: str = "web", **spec: Any) -> Obj:
        made = [{"name": f"c{index}", "image": IMAGE, **one} for index, one in enumerate(containers)]
        fixed = {"nodeName": "n1", "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 5}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {**fixed, "containers": made, **spec},
        }
        return await self.client.create(PODS, pod, "default")

    async def until(self, holds: Callable[[Obj], Any], name: str = "web", seconds: float = 60.0) -> Obj:
        """Waits (virtual seconds) until a condition of the pod holds."""
        async with asyncio.timeout(seconds):
            while not holds(pod := await self.client.get(PODS, name, "default")):
                await asyncio.sleep(0.05)
            return pod

    async def until_gone(self, name: str = "web", seconds: float = 60.0) -> None:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    await self.client.get(PODS, name, "default")
                except StatusError as error:
                    if error.code != 404:
                        raise
                    return
                await asyncio.sleep(0.05)

    async def events(self, name: str = "web") -> list[tuple[str, str]]:
        await self.kubelet.context.recorder.flush()
        listed = (await self.client.list(EVENTS, "default")).items
        return [(one["reason"], one["message"]) for one in listed if one["involvedObject"]["name"] == name]


def play(folder: Path, scenario: Callable[[Place], Awaitable[None]]) -> None:
    async def run() -> None:
        place = Place(folder)
        await place.open()
        try:
            await scenario(place)
        finally:
            await place.close()

    run_virtual(run())


def is_ready(pod: Obj) -> bool:
    return any(
        one["type"] == "Ready" and one["status"] == "True" for one in (pod.get("status") or {}).get("conditions") or []
    )


def container(pod: Obj, name: str = "c0") -> Obj:
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return next((one for one in statuses if one["name"] == name), {"state": {}, "restartCount": 0})


def waiting_for(reason: str) -> Callable[[Obj], bool]:
    return lambda pod: (container(pod)["state"].get("waiting") or {}).get("reason") == reason


def test_a_node_registers_and_stays_alive(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        node = await place.client.get(NODES, "n1")
        assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "n1"
        assert node["status"]["addresses"][0] == {"type": "InternalIP", "address": "192.168.1.2"}
        ready = [one for one in node["status"]["conditions"] if one["type"] == "Ready"]
        assert ready[0]["status"] == "True"
        assert int(node["status"]["allocatable"]["pods"]) == 110
        await asyncio.sleep(5)
        lease = await place.client.get(LEASES, "n1", "kube-node-lease")
        await asyncio.sleep(25)
        later = await place.client.get(LEASES, "n1", "kube-node-lease")
        assert later["spec"]["renewTime"] > lease["spec"]["renewTime"]
        assert later["metadata"]["ownerReferences"][0]["uid"] == node["metadata"]["uid"]
        before = (await place.client.get(NODES, "n1"))["metadata"]["resourceVersion"]
        await asyncio.sleep(100)
        assert (await place.client.get(NODES, "n1"))["metadata"]["resourceVersion"] == before  # nothing changed

    play(tmp_path, scenario)


def test_a_pod_runs_and_goes(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        await place.run_pod({})
        pod = await place.until(is_ready)
        assert pod["status"]["phase"] == "Running"
        assert pod["status"]["podIP"].startswith("10.0.")
        await place.client.delete(PODS, "web", "default")
        await place.until_gone()
        async with asyncio.timeout(3600):  # folders are removed by a thread, which takes no virtual time
            while list((tmp_path / "logs").iterdir()) or await place.runtime.sandboxes():
                await asyncio.sleep(0.05)
        assert await place.runtime.containers() == []
        assert list((tmp_path / "kubelet" / "pods").iterdir()) == []
        reasons = [reason for reason, _ in await place.events()]
        assert reasons == ["Pulled", "Created", "Started", "Killing"]

    play(tmp_path, scenario)


def test_a_crashing_container_backs_off(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        await place.run_pod({"command": ["sh", "-c", "exit 3"]})
        begun = asyncio.get_running_loop().time()
        times = []
        for count in range(1, 6):
            await place.until(lambda pod, count=count: container(pod)["restartCount"] == count, seconds=400)
            times.append(round(asyncio.get_running_loop().time() - begun))
        assert times == [0, 10, 30, 70, 150]
        pod = await place.until(waiting_for("CrashLoopBackOff"))
        assert container(pod)["lastState"]["terminated"]["exitCode"] == 3
        assert ("BackOff", f"Back-off restarting failed container c0 in pod web_default({pod['metadata']['uid']})") in (
            await place.events()
        )
        # Of all that ended, the last two are kept.
        assert len(await place.runtime.containers()) == 2

    play(tmp_path, scenario)


def test_a_restart_of_the_agent_restarts_nothing(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        await place.run_pod({}, {"command": ["sh", "-c", "exit 1"]})
        before = await place.until(lambda pod: container(pod, "c1")["restartCount"] == 3, seconds=100)
        calls = len(place.runtime.calls)
        await place.stop_kubelet()
        await place.start_kubelet()
        await asyncio.sleep(20)
        after = await place.client.get(PODS, "web", "default")
        assert container(after)["containerID"] == container(before)["containerID"]
        assert len(place.runtime.calls) == calls  # the back-off of the other one goes on, too
        await place.until(lambda pod: container(pod, "c1")["restartCount"] == 4, seconds=60)

    play(tmp_path, scenario)


def test_what_was_deleted_meanwhile_is_taken_away(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        await place.run_pod({})
        await place.until(is_ready)
        await place.stop_kubelet()
        await place.client.delete(PODS, "web", "default", DeleteOptions(grace_seconds=0))
        await place.start_kubelet()
        async with asyncio.timeout(60):
            while await place.runtime.sandboxes():
                await asyncio.sleep(0.1)

    play(tmp_path, scenario)


def test_images_are_pulled_with_back_off(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        missing = "registry.example/none:1"
        await place.run_pod({"image": missing})
        pod = await place.until(waiting_for("ImagePullBackOff"))
        assert pod["status"]["phase"] == "Pending"
        tried = place.runtime.calls.count("pull_image")
        place.runtime.pullable[missing] = Image(id="sha256:2", tags=(missing,), digests=("x@sha256:2",), size_bytes=7)
        await place.until(is_ready)
        assert place.runtime.calls.count("pull_image") == tried + 1
        messages = [message for _, message in await place.events()]
        assert f'Failed to pull image "{missing}": failed to resolve reference "{missing}": not found' in messages
        assert any(message.startswith(f'Successfully pulled image "{missing}" in ') for message in messages)

    play(tmp_path, scenario)


def test_a_container_waits_for_its_config_map(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        await place.run_pod({"envFrom": [{"configMapRef": {"name": "late"}}]})
        pod = await place.until(waiting_for("CreateContainerConfigError"))
        assert container(pod)["state"]["waiting"]["message"] == 'configmap "late" not found'
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}, "data": {"A": "1"}}
        await place.client.create(CONFIGMAPS, config, "default")
        begun = asyncio.get_running_loop().time()
        await place.until(is_ready)
        assert asyncio.get_running_loop().time() - begun < 2
        (made,) = await place.runtime.containers()
        assert {"key": "A", "value": b"1"} in place.runtime.configs[made.id]["envs"]

    play(tmp_path, scenario)


def test_files_follow_their_config_map(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm"}, "data": {"a": "1"}}
        await place.client.create(CONFIGMAPS, config, "default")
        volumes = [{"name": "v", "configMap": {"name": "cm"}}]
        pod = await place.run_pod({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}, volumes=volumes)
        await place.until(is_ready)
        (made,) = await place.runtime.containers()
        mount = next(one for one in place.runtime.configs[made.id]["mounts"] if one["container_path"] == "/v")
        folder = Path(mount["host_path"])
        assert pod["metadata"]["uid"] in str(folder)
        assert (folder / "a").read_text() == "1"
        await place.client.patch(CONFIGMAPS, "cm", {"data": {"a": None, "b": "2"}}, "default")
        async with asyncio.timeout(5):
            while (folder / "a").exists():
                await asyncio.sleep(0.05)
        assert (folder / "b").read_text() == "2"

    play(tmp_path, scenario)


def test_a_job_s_pod_succeeds_and_stays_for_its_logs(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        await place.run_pod({"command": ["true"]}, {"command": ["true"]}, restartPolicy="Never")
        pod = await place.until(lambda pod: (pod.get("status") or {}).get("phase") == "Succeeded")
        assert container(pod)["state"]["terminated"]["exitCode"] == 0
        assert all(one.state != RUNNING for one in await place.runtime.containers())
        assert len(await place.runtime.containers()) == 2
        assert not (await place.runtime.sandboxes())[0].ready
        version = pod["metadata"]["resourceVersion"]
        await asyncio.sleep(120)
        assert (await place.client.get(PODS, "web", "default"))["metadata"]["resourceVersion"] == version

    play(tmp_path, scenario)


def test_a_sandbox_that_can_t_be_made_is_tried_again(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        place.runtime.failures["run_sandbox"] = RuntimeFailure("UNKNOWN", "no network")
        await place.run_pod({})
        await asyncio.sleep(3)
        assert (
            "FailedCreatePodSandBox",
            "Failed to create pod sandbox: rpc error: code = Unknown desc = no network",
        ) in await place.events()
        place.runtime.failures.clear()
        await place.until(is_ready)

    play(tmp_path, scenario)


def test_a_lost_sandbox_is_made_anew(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        await place.run_pod({})
        first = await place.until(is_ready)
        (sandbox,) = await place.runtime.sandboxes()
        await place.runtime.stop_sandbox(sandbox.id)
        again = await place.until(lambda pod: is_ready(pod) and container(pod)["restartCount"] == 1)
        assert again["status"]["podIP"] != first["status"]["podIP"]

    play(tmp_path, scenario)


def test_a_pod_that_does_not_fit_is_rejected(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        await place.run_pod({"resources": {"requests": {"cpu": "5000"}}})
        pod = await place.until(lambda pod: (pod.get("status") or {}).get("phase") == "Failed")
        assert pod["status"]["reason"] == "OutOfcpu"
        assert await place.runtime.sandboxes() == []

    play(tmp_path, scenario)


def test_a_deadline_ends_a_pod(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        await place.run_pod({}, activeDeadlineSeconds=30)
        await place.until(is_ready)
        pod = await place.until(lambda pod: pod["status"]["phase"] == "Failed")
        assert pod["status"]["reason"] == "DeadlineExceeded"

    play(tmp_path, scenario)


def test_an_image_as_a_volume(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        data = place.runtime.add_image("docker.io/library/data:1")
        volumes = [{"name": "v", "image": {"reference": "docker.io/library/data:1", "pullPolicy": "IfNotPresent"}}]
        mounts = [{"name": "v", "mountPath": "/v", "subPath": "inside"}]
        place.kubelet.context.image_volumes = False
        await place.run_pod({"volumeMounts": mounts}, volumes=volumes)
        pod = await place.until(waiting_for("CreateContainerConfigError"))
        assert "can't mount images" in container(pod)["state"]["waiting"]["message"]
        place.kubelet.context.image_volumes = True
        await place.until(is_ready)
        (made,) = await place.runtime.containers()
        mount = next(one for one in place.runtime.configs[made.id]["mounts"] if one["container_path"] == "/v")
        assert mount["image"]["image"] == data.id
        assert mount["image_sub_path"] == "inside"

    play(tmp_path, scenario)


def test_which_runtimes_mount_images() -> None:
    for name, version, able in (("containerd", "1.6.20~ds1", False), ("containerd", "v2.1.0", True), ("x", "9", False)):
        assert mounts_images(Version(name, version, "v1")) is able


def test_resizing_in_place(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        await place.run_pod({"resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}}})
        await place.until(is_ready)
        change = {"spec": {"containers": [{"name": "c0", "resources": {"limits": {"cpu": "300m"}}}]}}
        await place.client.patch(PODS, "web", change, "default", subresource="resize")
        pod = await place.until(lambda pod: container(pod)["resources"]["limits"]["cpu"] == "300m")
        assert container(pod)["restartCount"] == 0
        assert "update_resources" in place.runtime.calls
        too_much = {
            "spec": {"containers": [{"name": "c0", "resources": {"limits": {"cpu": "9k"}, "requests": {"cpu": "8k"}}}]}
        }
        await place.client.patch(PODS, "web", too_much, "default", subresource="resize")
        pod = await place.until(
            lambda pod: any(one["type"] == "PodResizePending" for one in pod["status"]["conditions"])
        )
        assert container(pod)["resources"]["limits"]["cpu"] == "300m"

    play(tmp_path, scenario)
