"""A container runtime over CRI v1 (gRPC on a unix socket), for example containerd.

Translates messages to the values of `types.py` and gRPC errors to RuntimeFailure; decides nothing.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from proa.kubelet.cri.messages import methods
from proa.kubelet.cri.types import (
    CREATED,
    EXITED,
    RUNNING,
    UNKNOWN,
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

_STATES = {0: CREATED, 1: RUNNING, 2: EXITED, 3: UNKNOWN}
_MESSAGE_BYTES_MAX = 16 * 1024 * 1024
_NODE = 2  # NamespaceMode

# Seconds a call may take, where it is not the default: a pull ends by itself, a stop waits for the grace period.
_CALL_SECONDS = 120.0
_CREATE_SECONDS = 240.0


class CriRuntime:
    """The runtime behind `address`, such as unix:///run/containerd/containerd.sock. Connects when first used."""

    def __init__(self, address: str) -> None:
        options = [
            ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
            ("grpc.enable_http_proxy", 0),
            ("grpc.default_authority", "localhost"),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        self._channel = grpc.aio.insecure_channel(address, options=options)
        self._calls: dict[str, Any] = {}
        self._requests: dict[str, Any] = {}
        for service in ("RuntimeService", "ImageService"):
            for name, method in methods(service).items():
                make = self._channel.unary_stream if method.streams else self._channel.unary_unary
                self._requests[name] = method.request
                self._calls[name] = make(
                    method.path,
                    request_serializer=method.request.SerializeToString,
                    response_deserializer=method.response.FromString,
                )

    async def _call(self, name: str, seconds: float | None = _CALL_SECONDS, /, **fields: Any) -> Any:
        try:
            return await self._calls[name](self._requests[name](**fields), timeout=seconds)
        except grpc.aio.AioRpcError as error:
            raise _failure(error) from None

    async def close(self) -> None:
        await self._channel.close()

    # ------------------------------------------------------------ the runtime

    async def version(self) -> Version:
        answer = await self._call("Version", 5.0, version="v1")
        return Version(answer.runtime_name, answer.runtime_version, answer.runtime_api_version)

    async def conditions(self) -> list[Condition]:
        answer = await self._call("Status", 10.0)
        return [Condition(one.type, one.status, one.reason, one.message) for one in answer.status.conditions]

    async def strict_groups(self) -> bool:
        answer = await self._call("Status", 10.0)
        return bool(answer.features.supplemental_groups_policy)

    async def events(self) -> AsyncIterator[str]:
        try:
            async for event in self._calls["GetContainerEvents"](self._requests["GetContainerEvents"]()):
                yield event.pod_sandbox_status.metadata.uid
        except grpc.aio.AioRpcError as error:
            raise _failure(error) from None

    # ------------------------------------------------------------ sandboxes

    async def run_sandbox(self, config: Config, handler: str = "") -> str:
        answer = await self._call("RunPodSandbox", _CREATE_SECONDS, config=config, runtime_handler=handler)
        return str(answer.pod_sandbox_id)

    async def stop_sandbox(self, sandbox_id: str) -> None:
        await self._forgiving("StopPodSandbox", pod_sandbox_id=sandbox_id)

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self._forgiving("RemovePodSandbox", pod_sandbox_id=sandbox_id)

    async def sandbox_status(self, sandbox_id: str) -> Sandbox:
        answer = await self._call("PodSandboxStatus", pod_sandbox_id=sandbox_id, verbose=True)
        status = answer.status
        info = json.loads(answer.info.get("info") or "{}")
        addresses = [status.network.ip, *(one.ip for one in status.network.additional_ips)]
        return _sandbox(
            status,
            addresses=tuple(address for address in addresses if address),
            network_namespace=_network_namespace(info),
            pid=int(info.get("pid") or 0),
            host_network=status.linux.namespaces.options.network == _NODE,
        )

    async def sandboxes(self, pod_uid: str = "") -> list[Sandbox]:
        return [_sandbox(one) for one in (await self._call("ListPodSandbox", filter=_of_pod(pod_uid))).items]

    # ------------------------------------------------------------ containers

    async def create_container(self, sandbox_id: str, config: Config, sandbox_config: Config) -> str:
        answer = await self._call(
            "CreateContainer",
            _CREATE_SECONDS,
            pod_sandbox_id=sandbox_id,
            config=config,
            sandbox_config=sandbox_config,
        )
        return str(answer.container_id)

    async def start_container(self, container_id: str) -> None:
        await self._call("StartContainer", _CREATE_SECONDS, container_id=container_id)

    async def stop_container(self, container_id: str, grace_seconds: int) -> None:
        await self._forgiving(
            "StopContainer", grace_seconds + _CALL_SECONDS, container_id=container_id, timeout=grace_seconds
        )

    async def remove_container(self, container_id: str) -> None:
        await self._forgiving("RemoveContainer", container_id=container_id)

    async def container_status(self, container_id: str) -> Container:
        answer = await self._call("ContainerStatus", container_id=container_id, verbose=True)
        status = answer.status
        info = json.loads(answer.info.get("info") or "{}")
        return Container(
            id=status.id,
            sandbox_id=info.get("sandboxID") or "",
            name=status.metadata.name,
            attempt=status.metadata.attempt,
            state=_STATES[status.state],
            created_at=status.created_at,
            image=status.image.image,
            image_ref=status.image_ref or status.image_id,
            labels=dict(status.labels),
            annotations=dict(status.annotations),
            started_at=max(0, status.started_at),
            finished_at=max(0, status.finished_at),
            exit_code=status.exit_code,
            reason=status.reason,
            message=status.message,
            log_path=status.log_path,
            pid=int(info.get("pid") or 0),
            user=_user(status, info),
        )

    async def containers(self, pod_uid: str = "") -> list[Container]:
        return [
            Container(
                id=one.id,
                sandbox_id=one.pod_sandbox_id,
                name=one.metadata.name,
                attempt=one.metadata.attempt,
                state=_STATES[one.state],
                created_at=one.created_at,
                image=one.image.image,
                image_ref=one.image_ref,
                labels=dict(one.labels),
                annotations=dict(one.annotations),
            )
            for one in (await self._call("ListContainers", filter=_of_pod(pod_uid))).containers
        ]

    async def update_resources(self, container_id: str, linux: Config) -> None:
        await self._call("UpdateContainerResources", container_id=container_id, linux=linux)

    async def reopen_log(self, container_id: str) -> None:
        await self._call("ReopenContainerLog", container_id=container_id)

    async def exec_sync(self, container_id: str, command: list[str], timeout_seconds: float) -> ExecResult:
        limit = max(1, round(timeout_seconds)) if timeout_seconds else 0
        answer = await self._call(
            "ExecSync", limit + _CALL_SECONDS if limit else None, container_id=container_id, cmd=command, timeout=limit
        )
        return ExecResult(answer.stdout, answer.stderr, answer.exit_code)

    async def exec_url(
        self, container_id: str, command: list[str], *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> str:
        answer = await self._call(
            "Exec", container_id=container_id, cmd=command, stdin=stdin, stdout=stdout, stderr=stderr, tty=tty
        )
        return str(answer.url)

    async def attach_url(self, container_id: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> str:
        answer = await self._call(
            "Attach", container_id=container_id, stdin=stdin, stdout=stdout, stderr=stderr, tty=tty
        )
        return str(answer.url)

    async def stats(self) -> list[Stats]:
        return [_stats(one) for one in (await self._call("ListContainerStats")).stats]

    # ------------------------------------------------------------ images

    async def images(self) -> list[Image]:
        return [_image(one) for one in (await self._call("ListImages")).images]

    async def image(self, name: str) -> Image | None:
        answer = await self._call("ImageStatus", image={"image": name})
        return _image(answer.image) if answer.HasField("image") else None

    async def pull_image(self, name: str, auth: Config | None, sandbox_config: Config) -> str:
        fields: dict[str, Any] = {"image": {"image": name}, "sandbox_config": sandbox_config}
        if auth:
            fields["auth"] = auth
        return str((await self._call("PullImage", None, **fields)).image_ref)

    async def remove_image(self, name: str) -> None:
        await self._forgiving("RemoveImage", image={"image": name})

    async def image_filesystems(self) -> list[FilesystemUse]:
        answer = await self._call("ImageFsInfo")
        return [
            FilesystemUse(one.fs_id.mountpoint, one.used_bytes.value, one.inodes_used.value)
            for one in answer.image_filesystems
        ]

    async def _forgiving(self, name: str, seconds: float = _CALL_SECONDS, /, **fields: Any) -> None:
        try:
            await self._call(name, seconds, **fields)
        except RuntimeFailure as failure:
            if failure.code != "NOT_FOUND":
                raise


def _of_pod(uid: str) -> Config:
    return {"label_selector": {POD_UID: uid}} if uid else {}


def _failure(error: Any) -> RuntimeFailure:
    message = error.details() or "no details"
    return RuntimeFailure(error.code().name, message)


def _sandbox(one: Any, **more: Any) -> Sandbox:
    return Sandbox(
        id=one.id,
        name=one.metadata.name,
        namespace=one.metadata.namespace,
        uid=one.metadata.uid,
        attempt=one.metadata.attempt,
        ready=one.state == 0,
        created_at=one.created_at,
        labels=dict(one.labels),
        annotations=dict(one.annotations),
        **more,
    )


def _network_namespace(info: Config) -> str:
    namespaces = (info.get("runtimeSpec") or {}).get("linux", {}).get("namespaces") or []
    return next((one.get("path") or "" for one in namespaces if one.get("type") == "network"), "")


def _user(status: Any, info: Config) -> Config | None:
    """The first process' identity, as the runtime reports it (CRI since 1.31) or, before, as its specification says."""
    if status.HasField("user") and status.user.HasField("linux"):
        linux = status.user.linux
        return {"uid": linux.uid, "gid": linux.gid, "supplementalGroups": list(linux.supplemental_groups)}
    user = (info.get("runtimeSpec") or {}).get("process", {}).get("user")
    if user is None:
        return None
    groups = user.get("additionalGids") or []
    return {"uid": user.get("uid", 0), "gid": user.get("gid", 0), "supplementalGroups": list(groups)}


def _image(one: Any) -> Image:
    user: int | str | None = one.uid.value if one.HasField("uid") else (one.username or None)
    return Image(
        id=one.id,
        tags=tuple(one.repo_tags),
        digests=tuple(one.repo_digests),
        size_bytes=one.size,
        user=user,
        pinned=one.pinned,
    )


def _stats(one: Any) -> Stats:
    def value(parent: str, name: str) -> int | None:
        part = getattr(one, parent)
        return int(getattr(part, name).value) if one.HasField(parent) and part.HasField(name) else None

    return Stats(
        container_id=one.attributes.id,
        name=one.attributes.metadata.name,
        labels=dict(one.attributes.labels),
        timestamp=one.cpu.timestamp or one.memory.timestamp,
        cpu_nanoseconds=value("cpu", "usage_core_nano_seconds"),
        memory_working_set=value("memory", "working_set_bytes"),
        memory_usage=value("memory", "usage_bytes"),
        memory_rss=value("memory", "rss_bytes"),
        page_faults=value("memory", "page_faults"),
        major_page_faults=value("memory", "major_page_faults"),
        writable_bytes=value("writable_layer", "used_bytes"),
        writable_inodes=value("writable_layer", "inodes_used"),
    )
