"""What the kubelet relies on of a container runtime: the same for the one in memory and for a real containerd."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from proa.kubelet.cri.fake import FakeRuntime
from proa.kubelet.cri.types import CREATED, EXITED, RUNNING, Container, Runtime, RuntimeFailure
from proa.kubelet.podspec import POD_UID
from proa.util.clock import SystemClock
from tests.support import containerd_host

SECONDS_MAX = 20.0


@pytest.fixture(scope="module")
def host() -> Iterator[containerd_host.ContainerdHost]:
    lacking = containerd_host.missing()
    if lacking:
        pytest.skip(lacking)
    directory = Path(tempfile.mkdtemp(prefix="proa-cri-"))
    host = containerd_host.ContainerdHost(directory, f"proa-cri-{directory.name[-6:]}")
    try:
        host.start()
        yield host
    finally:
        host.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=["memory", "containerd"])
async def runtime(request: pytest.FixtureRequest) -> AsyncIterator[Runtime]:
    if request.param == "memory":
        fake = FakeRuntime(SystemClock())
        fake.add_image(containerd_host.BUSYBOX)
        yield fake
        return
    from proa.kubelet.cri.client import CriRuntime

    host = request.getfixturevalue("host")
    real = CriRuntime(host.address)
    yield real
    for sandbox in await real.sandboxes():
        await real.remove_sandbox(sandbox.id)
    await real.close()


def sandbox_config(name: str, tmp_path: Path) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", "attempt": 1},
        "log_directory": str(tmp_path),
        "labels": {POD_UID: f"uid-{name}", "app": name},
        "annotations": {"note": "x"},
        "linux": {"cgroup_parent": f"/{containerd_host.CGROUP}/{name}", "security_context": {"namespace_options": {}}},
    }


def container_config(name: str, command: list[str], attempt: int = 0) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "attempt": attempt},
        "image": {"image": containerd_host.BUSYBOX},
        "command": command,
        "labels": {POD_UID: "uid-web"},
        "annotations": {"step": "3"},
        "log_path": f"{name}/{attempt}.log",
        "linux": {},
    }


async def started(runtime: Runtime, sandbox: str, config: dict[str, Any], around: dict[str, Any]) -> str:
    made = await runtime.create_container(sandbox, config, around)
    await runtime.start_container(made)
    return made


async def until_exited(runtime: Runtime, container: str) -> Container:
    async with asyncio.timeout(SECONDS_MAX):
        while (status := await runtime.container_status(container)).state != EXITED:
            await asyncio.sleep(0.02)
    return status


async def test_sandbox_life(runtime: Runtime, tmp_path: Path) -> None:
    made = await runtime.run_sandbox(sandbox_config("web", tmp_path))
    listed = await runtime.sandboxes("uid-web")
    assert [(one.id, one.name, one.namespace, one.uid, one.attempt, one.ready) for one in listed] == [
        (made, "web", "default", "uid-web", 1, True)
    ]
    assert listed[0].labels["app"] == "web"
    assert listed[0].annotations["note"] == "x"
    status = await runtime.sandbox_status(made)
    assert status.ready
    assert len(status.addresses) == 1
    assert not status.host_network
    assert await runtime.sandboxes("uid-other") == []
    await runtime.stop_sandbox(made)
    assert not (await runtime.sandbox_status(made)).ready
    await runtime.stop_sandbox(made)
    await runtime.remove_sandbox(made)
    await runtime.remove_sandbox(made)
    assert await runtime.sandboxes() == []
    with pytest.raises(RuntimeFailure) as caught:
        await runtime.sandbox_status(made)
    assert caught.value.code == "NOT_FOUND"


async def test_container_life(runtime: Runtime, tmp_path: Path) -> None:
    around = sandbox_config("web", tmp_path)
    sandbox = await runtime.run_sandbox(around)
    made = await runtime.create_container(sandbox, container_config("app", ["sleep", "1000"], 2), around)
    created = await runtime.container_status(made)
    assert (created.state, created.started_at) == (CREATED, 0)
    await runtime.start_container(made)
    (listed,) = await runtime.containers("uid-web")
    assert (listed.id, listed.sandbox_id, listed.name, listed.attempt) == (made, sandbox, "app", 2)
    assert listed.state == RUNNING
    status = await runtime.container_status(made)
    assert status.annotations["step"] == "3"
    assert status.log_path == str(tmp_path / "app" / "2.log")
    assert 0 < status.created_at <= status.started_at
    assert (await runtime.exec_sync(made, ["true"], 5)).exit_code == 0
    assert (await runtime.exec_sync(made, ["false"], 5)).exit_code == 1
    await runtime.stop_container(made, 0)
    ended = await until_exited(runtime, made)
    assert ended.exit_code == 137
    assert ended.finished_at >= status.started_at
    await runtime.stop_container(made, 0)
    await runtime.remove_container(made)
    await runtime.remove_container(made)
    assert await runtime.containers() == []


@pytest.mark.parametrize(
    ("command", "code", "reason"), [(["true"], 0, "Completed"), (["sh", "-c", "exit 3"], 3, "Error")]
)
async def test_a_container_that_ends(
    runtime: Runtime, tmp_path: Path, command: list[str], code: int, reason: str
) -> None:
    around = sandbox_config("web", tmp_path)
    sandbox = await runtime.run_sandbox(around)
    ended = await until_exited(runtime, await started(runtime, sandbox, container_config("job", command), around))
    assert (ended.exit_code, ended.reason) == (code, reason)


async def test_a_slow_command_times_out(runtime: Runtime, tmp_path: Path) -> None:
    around = sandbox_config("web", tmp_path)
    sandbox = await runtime.run_sandbox(around)
    made = await started(runtime, sandbox, container_config("app", ["sleep", "1000"]), around)
    with pytest.raises(RuntimeFailure) as caught:
        await runtime.exec_sync(made, ["sleep", "1000"], 1)
    assert caught.value.code == "DEADLINE_EXCEEDED"


async def test_names_are_taken_once_per_attempt(runtime: Runtime, tmp_path: Path) -> None:
    around = sandbox_config("web", tmp_path)
    sandbox = await runtime.run_sandbox(around)
    await runtime.create_container(sandbox, container_config("app", ["true"]), around)
    with pytest.raises(RuntimeFailure):
        await runtime.create_container(sandbox, container_config("app", ["true"]), around)
    await runtime.create_container(sandbox, container_config("app", ["true"], 1), around)
    assert len(await runtime.containers("uid-web")) == 2


async def test_stopping_a_sandbox_ends_its_containers(runtime: Runtime, tmp_path: Path) -> None:
    around = sandbox_config("web", tmp_path)
    sandbox = await runtime.run_sandbox(around)
    made = await started(runtime, sandbox, container_config("app", ["sleep", "1000"]), around)
    await runtime.stop_sandbox(sandbox)
    await until_exited(runtime, made)
    await runtime.remove_sandbox(sandbox)
    assert await runtime.containers() == []


async def test_images(runtime: Runtime) -> None:
    image = await runtime.image(containerd_host.BUSYBOX)
    assert image is not None
    assert containerd_host.BUSYBOX in image.tags
    assert not image.digests  # loaded, not pulled
    assert image.id in {one.id for one in await runtime.images()}
    assert (await runtime.image(image.id)) == image
    assert await runtime.image("docker.io/library/nothing:here") is None


async def test_a_missing_container(runtime: Runtime) -> None:
    for call in (runtime.container_status("nothing"), runtime.start_container("nothing")):
        with pytest.raises(RuntimeFailure) as caught:
            await call
        assert caught.value.code == "NOT_FOUND"


async def test_the_runtime_says_what_it_is(runtime: Runtime) -> None:
    assert (await runtime.version()).name in ("fake", "containerd")
    conditions = {one.type: one.status for one in await runtime.conditions()}
    assert conditions["RuntimeReady"] is True
    assert conditions["NetworkReady"] is True
