"""A container runtime in memory, for tests of what stands above it. Behaves like a real one under the contract suite.

Containers run no program. What one would do is said by a function of its command: the exit code with which it ends
at once, or None to run until stopped (`outcome_of` knows `true`, `false` and `sh -c "exit N"`). `exit` ends one.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

from proa.kubelet.cri.types import (
    CREATED,
    EXITED,
    RUNNING,
    Condition,
    Config,
    Container,
    ExecResult,
    FilesystemUse,
    Image,
    RuntimeFailure,
    Sandbox,
    Stats,
    Version,
)
from proa.kubelet.podspec import POD_UID
from proa.util.clock import Clock

_NANO = 1_000_000_000
_KILLED = 137
_EXIT = re.compile(r"exit (\d+)$")


def outcome_of(command: list[str]) -> int | None:
    """The exit code of a command that ends at once; None for one that runs on."""
    if command[:1] in (["true"], ["false"]):
        return int(command[0] == "false")
    found = _EXIT.search(command[-1]) if command[:2] == ["sh", "-c"] else None
    return int(found.group(1)) if found else None


class FakeRuntime:
    """`calls` lists the names of the calls that changed something; `exec_results` answers commands by their text."""

    def __init__(self, clock: Clock, outcome: Callable[[list[str]], int | None] = outcome_of) -> None:
        self._clock = clock
        self._outcome = outcome
        self._numbers = itertools.count(1)
        self._sandboxes: dict[str, Sandbox] = {}
        self._containers: dict[str, Container] = {}
        self._commands: dict[str, list[str]] = {}
        self._images: dict[str, Image] = {}
        self._changed: list[asyncio.Queue[str]] = []
        self.configs: dict[str, Config] = {}
        self.calls: list[str] = []
        self.exec_results: dict[str, ExecResult] = {}
        self.failures: dict[str, RuntimeFailure] = {}
        self.pullable: dict[str, Image] = {}

    def add_image(self, name: str, user: int | str | None = None, digests: tuple[str, ...] = ()) -> Image:
        """Puts an image on the node, as if it had been loaded."""
        image = Image(id=f"sha256:{name}", tags=(name,), digests=digests, size_bytes=1000, user=user)
        self._images[name] = image
        return image

    def exit(self, container_id: str, code: int = 0) -> None:
        """Ends a running container."""
        container = self._containers[container_id]
        if container.state != RUNNING:
            return
        reason = "Completed" if code == 0 else "Error"
        self._containers[container_id] = replace(
            container, state=EXITED, exit_code=code, reason=reason, finished_at=self._now()
        )
        self._notify(container.sandbox_id)

    def _now(self) -> int:
        return int(self._clock.now().timestamp() * _NANO)

    def _notify(self, sandbox_id: str) -> None:
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is not None:
            for queue in self._changed:
                queue.put_nowait(sandbox.uid)

    def _did(self, call: str) -> None:
        self.calls.append(call)
        if call in self.failures:
            raise self.failures[call]

    def _container(self, container_id: str) -> Container:
        if container_id not in self._containers:
            raise RuntimeFailure("NOT_FOUND", f'container "{container_id}": not found')
        return self._containers[container_id]

    # ------------------------------------------------------------ the runtime

    async def version(self) -> Version:
        return Version("fake", "1", "v1")

    async def conditions(self) -> list[Condition]:
        return [Condition("RuntimeReady", True, "", ""), Condition("NetworkReady", True, "", "")]

    async def strict_groups(self) -> bool:
        return True

    async def events(self) -> AsyncIterator[str]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._changed.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._changed.remove(queue)

    # ------------------------------------------------------------ sandboxes

    async def run_sandbox(self, config: Config, handler: str = "") -> str:
        self._did("run_sandbox")
        number = next(self._numbers)
        meta = config["metadata"]
        host = (config.get("linux") or {}).get("security_context", {}).get("namespace_options", {}).get(
            "network"
        ) == "NODE"
        sandbox = Sandbox(
            id=f"sandbox{number}",
            name=meta["name"],
            namespace=meta.get("namespace", ""),
            uid=meta.get("uid", ""),
            attempt=meta.get("attempt", 0),
            ready=True,
            created_at=self._now(),
            labels=dict(config.get("labels") or {}),
            annotations=dict(config.get("annotations") or {}),
            addresses=() if host else (f"10.0.{number // 250}.{number % 250 + 1}",),
            host_network=host,
        )
        self._sandboxes[sandbox.id] = sandbox
        self.configs[sandbox.id] = config
        self._notify(sandbox.id)
        return sandbox.id

    async def stop_sandbox(self, sandbox_id: str) -> None:
        self._did("stop_sandbox")
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None or not sandbox.ready:
            return
        for container in list(self._containers.values()):
            if container.sandbox_id == sandbox_id:
                self.exit(container.id, _KILLED)
        self._sandboxes[sandbox_id] = replace(sandbox, ready=False, addresses=())
        self._notify(sandbox_id)

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self.stop_sandbox(sandbox_id)
        self._containers = {key: one for key, one in self._containers.items() if one.sandbox_id != sandbox_id}
        self._notify(sandbox_id)
        self._sandboxes.pop(sandbox_id, None)

    async def sandbox_status(self, sandbox_id: str) -> Sandbox:
        if sandbox_id not in self._sandboxes:
            raise RuntimeFailure("NOT_FOUND", f'an error occurred when try to find sandbox "{sandbox_id}": not found')
        return self._sandboxes[sandbox_id]

    async def sandboxes(self, pod_uid: str = "") -> list[Sandbox]:
        return [one for one in self._sandboxes.values() if pod_uid in ("", one.labels.get(POD_UID))]

    # ------------------------------------------------------------ containers

    async def create_container(self, sandbox_id: str, config: Config, sandbox_config: Config) -> str:
        self._did("create_container")
        await self.sandbox_status(sandbox_id)
        meta, name = config["metadata"], config["image"]["image"]
        image = await self.image(name)
        if image is None:
            raise RuntimeFailure("NOT_FOUND", f'failed to get image from containerd "{name}": not found')
        taken = (sandbox_id, meta["name"], meta.get("attempt", 0))
        if any((one.sandbox_id, one.name, one.attempt) == taken for one in self._containers.values()):
            raise RuntimeFailure("UNKNOWN", f'failed to reserve container name "{meta["name"]}": name is reserved')
        container = Container(
            id=f"container{next(self._numbers)}",
            sandbox_id=sandbox_id,
            name=meta["name"],
            attempt=meta.get("attempt", 0),
            state=CREATED,
            created_at=self._now(),
            image=image.tags[0] if image.tags else name,
            image_ref=image.digests[0] if image.digests else image.id,
            labels=dict(config.get("labels") or {}),
            annotations=dict(config.get("annotations") or {}),
            log_path=str(Path(sandbox_config.get("log_directory") or "/") / (config.get("log_path") or "")),
        )
        self._containers[container.id] = container
        self._commands[container.id] = [*(config.get("command") or []), *(config.get("args") or [])]
        self.configs[container.id] = config
        return container.id

    async def start_container(self, container_id: str) -> None:
        self._did("start_container")
        container = self._container(container_id)
        if container.state != CREATED:
            raise RuntimeFailure("UNKNOWN", f"container is in CONTAINER_{container.state.upper()} state")
        self._containers[container_id] = replace(container, state=RUNNING, started_at=self._now())
        self._notify(container.sandbox_id)
        code = self._outcome(self._commands[container_id])
        if code is not None:
            self.exit(container_id, code)

    async def stop_container(self, container_id: str, grace_seconds: int) -> None:
        self._did("stop_container")
        if container_id in self._containers:
            self.exit(container_id, _KILLED)

    async def remove_container(self, container_id: str) -> None:
        self._did("remove_container")
        container = self._containers.pop(container_id, None)
        if container is not None:
            self._notify(container.sandbox_id)

    async def container_status(self, container_id: str) -> Container:
        return self._container(container_id)

    async def containers(self, pod_uid: str = "") -> list[Container]:
        return [one for one in self._containers.values() if pod_uid in ("", one.labels.get(POD_UID))]

    async def update_resources(self, container_id: str, linux: Config) -> None:
        self._did("update_resources")
        self._container(container_id)

    async def reopen_log(self, container_id: str) -> None:
        self._did("reopen_log")
        if self._container(container_id).state != RUNNING:
            raise RuntimeFailure("UNKNOWN", "container is not running")

    async def exec_sync(self, container_id: str, command: list[str], timeout_seconds: float) -> ExecResult:
        if self._container(container_id).state != RUNNING:
            raise RuntimeFailure("UNKNOWN", "container is in CONTAINER_EXITED state")
        given = self.exec_results.get(" ".join(command))
        if given is not None:
            return given
        code = self._outcome(command)
        if code is None:
            await asyncio.sleep(timeout_seconds)
            raise RuntimeFailure(
                "DEADLINE_EXCEEDED", f"timeout {timeout_seconds:g}s exceeded: context deadline exceeded"
            )
        return ExecResult(b"", b"", code)

    async def exec_url(
        self, container_id: str, command: list[str], *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> str:
        raise RuntimeFailure("UNIMPLEMENTED", "a container in memory runs no commands")

    async def attach_url(self, container_id: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> str:
        raise RuntimeFailure("UNIMPLEMENTED", "a container in memory has no terminal")

    async def stats(self) -> list[Stats]:
        return [
            Stats(container_id=one.id, name=one.name, labels=one.labels, timestamp=self._now(), cpu_nanoseconds=0)
            for one in self._containers.values()
            if one.state == RUNNING
        ]

    # ------------------------------------------------------------ images

    async def images(self) -> list[Image]:
        return list(self._images.values())

    async def image(self, name: str) -> Image | None:
        return next((one for one in self._images.values() if name in (one.id, *one.tags, *one.digests)), None)

    async def pull_image(self, name: str, auth: Config | None, sandbox_config: Config) -> str:
        self._did("pull_image")
        if name not in self.pullable:
            raise RuntimeFailure("NOT_FOUND", f'failed to resolve reference "{name}": not found')
        self._images[name] = self.pullable[name]
        return self._images[name].id

    async def remove_image(self, name: str) -> None:
        self._did("remove_image")
        self._images = {key: one for key, one in self._images.items() if name not in (one.id, *one.tags, *one.digests)}

    async def image_filesystems(self) -> list[FilesystemUse]:
        return [FilesystemUse("/", 0, 0)]

    async def close(self) -> None:
        return None
