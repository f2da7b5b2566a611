"""Carries out what a plan says: makes sandboxes, starts containers with their hooks, ends them.

Each function is one action, told as upstream tells it in events; what goes wrong is raised as Refused with the reason
that the container then waits with.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proa.client.resources import RUNTIMECLASSES, SECRETS
from proa.kubelet import cgroups, envfiles
from proa.kubelet.configs import check_non_root, container_config, hosts_file, pod_cgroup, sandbox_config
from proa.kubelet.context import Context
from proa.kubelet.cri.types import CREATED, RUNNING, RuntimeFailure
from proa.kubelet.environment import ConfigError, environment
from proa.kubelet.handlers import Place, run_hook
from proa.kubelet.images import Refused, Tell
from proa.kubelet.plan import GRACE_SECONDS_MIN, CreateSandbox, KillContainer, Observed, StartContainer
from proa.kubelet.podspec import ContainerSpec, container_named, host_network, qos_class
from proa.kubelet.references import Reference
from proa.kubelet.volumes.subpath import read_inside
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, namespace_of, uid_of

_RETRY_SECONDS = 10.0


def pod_addresses(context: Context, pod: Obj, observed: Observed) -> tuple[str, ...]:
    if host_network(pod):
        return context.facts().host_ips
    sandbox = observed.ready_sandbox
    return sandbox.addresses if sandbox else ()


def sandbox_of(context: Context, pod: Obj, attempt: int) -> dict[str, Any]:
    cgroup = pod_cgroup(pod, qos_class(pod), context.settings.cgroup_root)
    return sandbox_config(
        pod, attempt, settings=context.settings, log_folder=str(context.log_folder(pod)), cgroup=cgroup
    )


async def create_sandbox(context: Context, pod: Obj, action: CreateSandbox) -> None:
    """Makes the pod's sandbox; raises Refused."""
    if action.attempt:
        message = "Pod sandbox changed, it will be killed and re-created."
        context.tell(pod, None, "Normal", "SandboxChanged", message)
    try:
        handler = await _runtime_handler(context, pod)
        config = sandbox_of(context, pod, action.attempt)
        context.log_folder(pod).mkdir(parents=True, exist_ok=True)
        context.pod_folder(uid_of(pod)).mkdir(parents=True, exist_ok=True)
        if context.settings.manage_cgroups:
            cgroups.make_pod(config["linux"]["cgroup_parent"], pod)
        await context.runtime.run_sandbox(config, handler)
    except (RuntimeFailure, ConfigError, OSError) as error:
        text = error.text if isinstance(error, RuntimeFailure) else str(error)
        context.tell(pod, None, "Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {text}")
        raise Refused("ContainerCreating", "", _RETRY_SECONDS) from None


async def _runtime_handler(context: Context, pod: Obj) -> str:
    name = (pod.get("spec") or {}).get("runtimeClassName")
    if not name:
        return ""
    try:
        found = await context.client.get(RUNTIMECLASSES, name)
    except StatusError as error:
        raise ConfigError(f"failed to get sandbox runtime: {error.message}") from None
    return str(found.get("handler") or "")


# ---------------------------------------------------------------- starting


async def start_container(
    context: Context, pod: Obj, action: StartContainer, observed: Observed, paths: Mapping[str, Path]
) -> None:
    """Pulls the image, makes the container, starts it and runs its postStart hook; raises Refused."""
    container = container_named(pod, action.name)
    sandbox = observed.ready_sandbox
    if container is None or sandbox is None:
        return

    def tell(type: str, reason: str, message: str) -> None:
        context.tell(pod, container, type, reason, message)

    shape = sandbox_of(context, pod, sandbox.attempt)
    secrets = await _pull_secrets(context, pod)
    image = await context.images.ensure(pod, container, secrets, shape, tell)
    try:
        config = await _config(context, pod, container, action, observed, paths, image.id, shape, tell)
        check_non_root(pod, container.spec, image.user)
    except (ConfigError, StatusError, OSError) as error:
        message = error.message if isinstance(error, StatusError) else str(error)
        tell("Warning", "Failed", f"Error: {message}")
        raise Refused("CreateContainerConfigError", message, _RETRY_SECONDS) from None
    try:
        stale = observed.current(container.name)
        if stale and stale.state == CREATED:
            await context.runtime.remove_container(stale.id)
        container_id = await context.runtime.create_container(sandbox.id, config, shape)
    except RuntimeFailure as failure:
        tell("Warning", "Failed", f"Error: {failure.message}")
        raise Refused("CreateContainerError", failure.message, _RETRY_SECONDS) from None
    tell("Normal", "Created", "Container created")
    if context.before_start is not None and not host_network(pod):
        await context.before_start(pod, sandbox.addresses)
    try:
        await context.runtime.start_container(container_id)
    except RuntimeFailure as failure:
        tell("Warning", "Failed", f"Error: {failure.message}")
        raise Refused("RunContainerError", failure.message, 0.0) from None
    tell("Normal", "Started", "Container started")
    await _post_start(context, pod, container, container_id, observed)


async def _pull_secrets(context: Context, pod: Obj) -> list[Obj]:
    names = [one.get("name") or "" for one in (pod.get("spec") or {}).get("imagePullSecrets") or []]
    found = []
    for name in names:
        try:
            secret = await context.references.get(Reference(SECRETS, namespace_of(pod), name))
        except StatusError:
            secret = None
        if secret is not None:
            found.append(secret)
        else:
            why = "attempting to pull the image may not succeed."
            message = f"Unable to retrieve some image pull secrets ({name}); {why}"
            context.tell(pod, None, "Warning", "FailedToRetrieveImagePullSecret", message)
    return found


async def _config(
    context: Context,
    pod: Obj,
    container: ContainerSpec,
    action: StartContainer,
    observed: Observed,
    paths: Mapping[str, Path],
    image_id: str,
    shape: dict[str, Any],
    tell: Tell,
) -> dict[str, Any]:
    addresses = pod_addresses(context, pod, observed)
    lookup = await context.volumes.lookup(pod)
    await context.services.wait_synced()
    variables = environment(
        pod,
        container.spec,
        node=context.facts(),
        pod_ips=addresses,
        services=context.services.objects(),
        lookup=lookup,
        read_file=lambda volume, path: read_inside(paths[volume], path, envfiles.FILE_BYTES_MAX + 1),
    )
    images = await _image_volumes(context, pod, container, shape, tell)
    if not context.image_volumes:
        paths = {**paths, **await context.volumes.mount_images(pod, images)}
        images = {}
    mounts = context.volumes.mounts(pod, container.spec, paths, variables, images)
    mounts += _managed_mounts(context, pod, container, action, addresses, mounts)
    target = container.spec.get("targetContainerName")
    target_container = observed.current(target) if target else None
    return container_config(
        pod,
        container,
        attempt=action.attempt,
        step=action.step,
        round=action.round,
        image=image_id,
        variables=variables,
        mounts=mounts,
        devices=context.volumes.devices(pod, container.spec, paths),
        settings=context.settings,
        target_id=target_container.id if target_container else "",
    )


async def _image_volumes(
    context: Context, pod: Obj, container: ContainerSpec, shape: dict[str, Any], tell: Tell
) -> dict[str, dict[str, Any]]:
    """Gets the images behind the container's image volumes (KEP-4639) onto the node; raises Refused or ConfigError."""
    used = {one["name"] for one in container.spec.get("volumeMounts") or []}
    result = {}
    for volume in (pod.get("spec") or {}).get("volumes") or []:
        source = volume.get("image")
        if source is None or volume["name"] not in used:
            continue
        if not (context.image_volumes or context.volumes.image_mounts):
            raise ConfigError(f'volume "{volume["name"]}": the container runtime of this node can\'t mount images')
        reference = source.get("reference") or ""
        like = {"name": volume["name"], "image": reference, "imagePullPolicy": source.get("pullPolicy")}
        secrets = await _pull_secrets(context, pod)
        image = await context.images.ensure(pod, ContainerSpec(container.kind, like), secrets, shape, tell)
        result[volume["name"]] = {"image": image.id, "user_specified_image": reference}
    return result


def termination_file(context: Context, uid: str, name: str, attempt: int) -> Path:
    """Where a container's termination message ends up on the node."""
    return context.pod_folder(uid) / "containers" / name / str(attempt)


def _managed_mounts(
    context: Context,
    pod: Obj,
    container: ContainerSpec,
    action: StartContainer,
    addresses: tuple[str, ...],
    mounts: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """The files that the kubelet provides: /etc/hosts, unless the container mounts its own, and the termination log."""
    result = []
    folder = context.pod_folder(uid_of(pod))
    folder.mkdir(parents=True, exist_ok=True)
    if not any(one["container_path"] == "/etc/hosts" for one in mounts):
        hosts = folder / "etc-hosts"
        of_node = Path("/etc/hosts").read_text() if host_network(pod) and Path("/etc/hosts").exists() else ""
        hosts.write_text(hosts_file(pod, addresses, context.settings, of_node))
        hosts.chmod(0o644)
        result.append({"container_path": "/etc/hosts", "host_path": str(hosts)})
    target = container.spec.get("terminationMessagePath") or "/dev/termination-log"
    message = termination_file(context, uid_of(pod), container.name, action.attempt)
    message.parent.mkdir(parents=True, exist_ok=True)
    message.write_bytes(b"")
    message.chmod(0o666)
    result.append({"container_path": target, "host_path": str(message)})
    return result


async def _post_start(
    context: Context, pod: Obj, container: ContainerSpec, container_id: str, observed: Observed
) -> None:
    hook = (container.spec.get("lifecycle") or {}).get("postStart")
    if not hook:
        return
    place = Place(container_id, next(iter(pod_addresses(context, pod, observed)), "127.0.0.1"), container.spec)
    outcome = await run_hook(hook, place, context.runtime)
    if not outcome.ok:
        # What the hook said stays out of events: it may hold secrets.
        context.tell(pod, container, "Warning", "FailedPostStartHook", "PostStartHook failed")
        seconds = (pod.get("spec") or {}).get("terminationGracePeriodSeconds")
        until = context.seconds() + (30 if seconds is None else seconds)
        message = "FailedPostStartHook"
        await kill_container(context, pod, KillContainer(container_id, container.name, message, until), observed)
        raise Refused("PostStartHookError", f"PostStartHook failed: {outcome.text}", 0.0)


# ---------------------------------------------------------------- ending


async def kill_container(context: Context, pod: Obj, action: KillContainer, observed: Observed) -> None:
    """Runs the preStop hook, then asks the runtime to stop the container, both within the grace period."""
    container = container_named(pod, action.name)
    context.tell(pod, container, "Normal", "Killing", action.message)
    hook = ((container.spec if container else {}).get("lifecycle") or {}).get("preStop")
    if action.abrupt:
        await context.runtime.stop_container(action.id, 0)
        return
    if hook and container:
        place = Place(action.id, next(iter(pod_addresses(context, pod, observed)), "127.0.0.1"), container.spec)
        left = max(0.0, action.until - context.seconds())
        try:
            async with asyncio.timeout(left):
                outcome = await run_hook(hook, place, context.runtime)
            if not outcome.ok:
                context.tell(pod, container, "Warning", "FailedPreStopHook", "PreStopHook failed")
        except TimeoutError:
            pass
    grace = max(GRACE_SECONDS_MIN, round(action.until - context.seconds()))
    await context.runtime.stop_container(action.id, grace)


async def running(context: Context, container_id: str) -> bool:
    try:
        return (await context.runtime.container_status(container_id)).state == RUNNING
    except RuntimeFailure as failure:
        return failure.code != "NOT_FOUND"


def remove_logs(path: str) -> None:
    """Removes a container's log file with its rotated ones."""
    if not path:
        return
    log = Path(path)
    for one in log.parent.glob(f"{log.name}*"):
        one.unlink(missing_ok=True)
    try:
        os.rmdir(log.parent)
    except OSError:
        pass
