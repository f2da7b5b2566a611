"""Gets a container's image onto the node: pull policies, registry credentials, back-off.

Follows upstream's image manager: reasons ErrImagePull, ImagePullBackOff (10 s doubling to 5 min), ErrImageNeverPull,
InvalidImageName, and its events. One rule is ours: an image without a registry digest was loaded onto the node by hand
(`proa image load`), so `imagePullPolicy: Always` uses it as it is; no registry could have a newer one under its name.
"""

from __future__ import annotations

import asyncio
import base64
import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from proa.kubelet.cri.types import Image, Runtime, RuntimeFailure
from proa.kubelet.plan import BACKOFF_SECONDS_FIRST, BACKOFF_SECONDS_MAX
from proa.kubelet.podspec import ContainerSpec
from proa.meta.objects import Obj, uid_of
from proa.util.clock import Clock

# Records an event about a container: (type, reason, message).
Tell = Callable[[str, str, str], None]

_NAME = re.compile(
    r"^(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::\d+)?/|\[[0-9a-fA-F:]+\](?::\d+)?/)?"
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
    r"(?::\w[\w.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?$"
)
_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


class Refused(Exception):
    """A container can't be started now; `retry_seconds` says when to try again."""

    def __init__(self, reason: str, message: str, retry_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_seconds = retry_seconds


class Images:
    """The images of one node."""

    def __init__(self, runtime: Runtime, clock: Clock) -> None:
        self._runtime = runtime
        self._clock = clock
        self._failures: dict[tuple[str, str], tuple[float, float, str]] = {}
        self._pulls: dict[tuple[str, str], asyncio.Task[str]] = {}
        self.used_at: dict[str, float] = {}

    async def ensure(
        self, pod: Obj, container: ContainerSpec, secrets: Iterable[Obj], sandbox: dict[str, Any], tell: Tell
    ) -> Image:
        """Returns the container's image, pulled if its policy says so; raises Refused."""
        name = container.spec.get("image") or ""
        if not _NAME.match(name):
            message = f'Failed to apply default image tag "{name}": couldn\'t parse image name'
            tell("Warning", "InspectFailed", message)
            raise Refused("InvalidImageName", message, BACKOFF_SECONDS_MAX)
        present = await self._find(name, tell)
        if present is not None and not _must_pull(container.spec, name, present):
            text = f'Container image "{name}" already present on machine and can be accessed by the pod'
            tell("Normal", "Pulled", text)
            self._failures.pop((uid_of(pod), name), None)
            return self._used(present)
        if container.spec.get("imagePullPolicy") == "Never":
            message = f'Container image "{name}" is not present with pull policy of Never'
            tell("Warning", "ErrImageNeverPull", message)
            raise Refused("ErrImageNeverPull", message, BACKOFF_SECONDS_FIRST)
        await self._pull(pod, name, list(secrets), sandbox, tell)
        pulled = await self._find(name, tell)
        if pulled is None:
            raise Refused("ErrImagePull", f'image "{name}" is missing after it was pulled', BACKOFF_SECONDS_FIRST)
        return self._used(pulled)

    def _used(self, image: Image) -> Image:
        self.used_at[image.id] = self._clock.now().timestamp()
        return image

    async def _find(self, name: str, tell: Tell) -> Image | None:
        try:
            return await self._runtime.image(name)
        except RuntimeFailure as failure:
            message = f'Failed to inspect image "{name}": {failure.message}'
            tell("Warning", "InspectFailed", message)
            raise Refused("ImageInspectError", message, BACKOFF_SECONDS_FIRST) from None

    async def _pull(self, pod: Obj, name: str, secrets: list[Obj], sandbox: dict[str, Any], tell: Tell) -> None:
        key = (uid_of(pod), name)
        now = self._clock.now().timestamp()
        delay, until, why = self._failures.get(key, (0.0, 0.0, ""))
        if now < until:
            message = f'Back-off pulling image "{name}"'
            tell("Normal", "BackOff", message)
            tell("Warning", "Failed", "Error: ImagePullBackOff")
            raise Refused("ImagePullBackOff", f"{message}: ErrImagePull: {why}", until - now)
        tell("Normal", "Pulling", f'Pulling image "{name}"')
        started = self._clock.monotonic()
        try:
            await self._pull_with(name, credentials(name, secrets), sandbox)
        except RuntimeFailure as failure:
            delay = min(BACKOFF_SECONDS_MAX, delay * 2 or BACKOFF_SECONDS_FIRST)
            self._failures[key] = (delay, self._clock.now().timestamp() + delay, failure.message)
            tell("Warning", "Failed", f'Failed to pull image "{name}": {failure.message}')
            tell("Warning", "Failed", "Error: ErrImagePull")
            # The next try, shortly after, turns into ImagePullBackOff, as upstream shows it.
            raise Refused("ErrImagePull", failure.message, 1.0) from None
        self._failures.pop(key, None)
        seconds = self._clock.monotonic() - started
        size = next(iter([one.size_bytes for one in [await self._runtime.image(name)] if one]), 0)
        took = f"{seconds:.3g}s"
        text = f'Successfully pulled image "{name}" in {took} ({took} including waiting). Image size: {size} bytes.'
        tell("Normal", "Pulled", text)

    async def _pull_with(self, name: str, tries: list[dict[str, str]], sandbox: dict[str, Any]) -> None:
        """Pulls with each credential in turn, without any if there are none; equal pulls share one."""
        failure: RuntimeFailure | None = None
        for auth in tries or [{}]:
            key = (name, json.dumps(auth, sort_keys=True))
            task = self._pulls.get(key)
            if task is None:
                task = self._pulls[key] = asyncio.create_task(self._runtime.pull_image(name, auth or None, sandbox))
                task.add_done_callback(lambda _, key=key: self._pulls.pop(key, None))  # type: ignore[misc]
            try:
                await asyncio.shield(task)
                return
            except RuntimeFailure as error:
                failure = error
        if failure is not None:
            raise failure

    def forget(self, uid: str) -> None:
        self._failures = {key: value for key, value in self._failures.items() if key[0] != uid}


def _must_pull(container: Obj, name: str, present: Image) -> bool:
    policy = container.get("imagePullPolicy")
    if not policy:
        tag = name.rpartition("/")[2].partition(":")[2]
        policy = "Always" if "@" not in name and tag in ("", "latest") else "IfNotPresent"
    return policy == "Always" and bool(present.digests) and "@" not in name


# ---------------------------------------------------------------- credentials


def credentials(image: str, secrets: Iterable[Obj]) -> list[dict[str, str]]:
    """Returns CRI's AuthConfigs that the pull secrets hold for this image, the most specific first."""
    found = []
    for registry, entry in _entries(secrets):
        score = _match(registry, image)
        if score:
            found.append((score, _auth(entry)))
    return [auth for _, auth in sorted(found, key=lambda one: -one[0])]


def _entries(secrets: Iterable[Obj]) -> Iterator[tuple[str, Obj]]:
    for secret in secrets:
        data = secret.get("data") or {}
        try:
            if ".dockerconfigjson" in data:
                yield from (json.loads(base64.b64decode(data[".dockerconfigjson"])).get("auths") or {}).items()
            elif ".dockercfg" in data:
                yield from json.loads(base64.b64decode(data[".dockercfg"])).items()
        except (ValueError, AttributeError):
            continue


def _match(registry: str, image: str) -> int:
    """How specifically a registry entry (host with optional scheme, port, path, wildcards) is for the image; 0: not."""
    place = re.sub(r"^https?://", "", registry).rstrip("/")
    place = re.sub(r"/v[12]$", "", place)
    host, _, path = place.partition("/")
    first, slash, rest = image.partition("/")
    if not slash or ("." not in first and ":" not in first and first != "localhost"):
        first, rest = "docker.io", image if slash else f"library/{image}"
    if host in _DOCKER_HUB:
        host = "docker.io"
    same_depth = host.count(".") == first.count(".")
    if not (same_depth and fnmatch.fnmatchcase(first, host)):
        return 0
    if path and not (rest == path or rest.startswith(f"{path}/")):
        return 0
    return 1 + len(place)


def _auth(entry: Obj) -> dict[str, str]:
    username, password = entry.get("username") or "", entry.get("password") or ""
    if entry.get("auth") and not username:
        decoded = base64.b64decode(entry["auth"]).decode("utf-8", "replace")
        username, _, password = decoded.partition(":")
    auth = {"username": username, "password": password, "identity_token": entry.get("identitytoken") or ""}
    return {key: value for key, value in auth.items() if value}
