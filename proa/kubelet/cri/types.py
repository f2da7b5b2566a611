"""What the kubelet knows of a container runtime: sandboxes and containers as values, and the calls as a protocol.

`CriRuntime` (client.py) speaks to a real runtime, `FakeRuntime` (fake.py) holds everything in memory; one contract
suite runs against both. Configurations are plain data in the shape of CRI's messages. Times are nanoseconds since
the epoch, 0 when not yet.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

Config = dict[str, Any]

CREATED, RUNNING, EXITED, UNKNOWN = "created", "running", "exited", "unknown"


class RuntimeFailure(Exception):
    """A call to the runtime failed. `code` is gRPC's status name: NOT_FOUND, UNAVAILABLE, DEADLINE_EXCEEDED, …"""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def text(self) -> str:
        """The failure as upstream's tools word it, in events and conditions."""
        return f"rpc error: code = {self.code.title().replace('_', '')} desc = {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A pod sandbox. Fields after `annotations` are known only from `sandbox_status`; `addresses` are the pod's."""

    id: str
    name: str
    namespace: str
    uid: str
    attempt: int
    ready: bool
    created_at: int
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    network_namespace: str = ""
    host_network: bool = False
    pid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container. Fields after `annotations` are known only from `container_status`; `pid` is 0 when unknown."""

    id: str
    sandbox_id: str
    name: str
    attempt: int
    state: str
    created_at: int
    image: str
    image_ref: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    log_path: str = ""
    pid: int = 0
    user: Mapping[str, Any] | None = None

    @property
    def running(self) -> bool:
        return self.state == RUNNING


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image on the node. `user` is the image's own user: a uid, a name, or None for root."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    size_bytes: int
    user: int | str | None = None
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Version:
    name: str
    version: str
    api_version: str


@dataclass(frozen=True, slots=True)
class ExecResult:
    stdout: bytes
    stderr: bytes
    exit_code: int


@dataclass(frozen=True, slots=True)
class Condition:
    """`type` is RuntimeReady or NetworkReady."""

    type: str
    status: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """A container's use of the machine at `timestamp` (ns); None where the runtime says nothing."""

    container_id: str
    name: str
    labels: Mapping[str, str]
    timestamp: int
    cpu_nanoseconds: int | None = None
    memory_working_set: int | None = None
    memory_usage: int | None = None
    memory_rss: int | None = None
    page_faults: int | None = None
    major_page_faults: int | None = None
    writable_bytes: int | None = None
    writable_inodes: int | None = None


@dataclass(frozen=True, slots=True)
class FilesystemUse:
    mountpoint: str
    used_bytes: int
    inodes_used: int


class Runtime(Protocol):
    """A container runtime and its images. Calls raise RuntimeFailure; removing or stopping what is gone is fine."""

    async def version(self) -> Version: ...

    async def conditions(self) -> list[Condition]: ...

    async def strict_groups(self) -> bool:
        """Tells whether it can leave out the groups that an image gives its user (KEP-3619)."""
        ...

    async def run_sandbox(self, config: Config, handler: str = "") -> str: ...

    async def stop_sandbox(self, sandbox_id: str) -> None: ...

    async def remove_sandbox(self, sandbox_id: str) -> None: ...

    async def sandbox_status(self, sandbox_id: str) -> Sandbox: ...

    async def sandboxes(self, pod_uid: str = "") -> list[Sandbox]: ...

    async def create_container(self, sandbox_id: str, config: Config, sandbox_config: Config) -> str: ...

    async def start_container(self, container_id: str) -> None: ...

    async def stop_container(self, container_id: str, grace_seconds: int) -> None: ...

    async def remove_container(self, container_id: str) -> None: ...

    async def container_status(self, container_id: str) -> Container: ...

    async def containers(self, pod_uid: str = "") -> list[Container]: ...

    async def update_resources(self, container_id: str, linux: Config) -> None: ...

    async def reopen_log(self, container_id: str) -> None: ...

    async def exec_sync(self, container_id: str, command: list[str], timeout_seconds: float) -> ExecResult:
        """Runs a command; raises RuntimeFailure DEADLINE_EXCEEDED after `timeout_seconds` (0: no limit)."""
        ...

    async def exec_url(
        self, container_id: str, command: list[str], *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> str: ...

    async def attach_url(self, container_id: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> str: ...

    async def stats(self) -> list[Stats]: ...

    def events(self) -> AsyncIterator[str]:
        """Yields uids of pods whose containers changed; raises RuntimeFailure UNIMPLEMENTED if there are none."""
        ...

    async def images(self) -> list[Image]: ...

    async def image(self, name: str) -> Image | None: ...

    async def pull_image(self, name: str, auth: Config | None, sandbox_config: Config) -> str: ...

    async def remove_image(self, name: str) -> None: ...

    async def image_filesystems(self) -> list[FilesystemUse]: ...

    async def close(self) -> None: ...
