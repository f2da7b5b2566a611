"""Pods and what a runtime holds of them, in few words."""

from __future__ import annotations

from typing import Any

from proa.kubelet.cri.types import EXITED, RUNNING, Container, Sandbox
from proa.kubelet.plan import NANO, Observed
from proa.kubelet.podspec import BACKOFF_STEP, RESTART_COUNT

NOW = 1_800_000_000.0
SANDBOX = Sandbox(
    id="s0", name="web", namespace="default", uid="u", attempt=0, ready=True, created_at=1, addresses=("10.0.0.5",)
)


def pod(*containers: str | dict[str, Any], meta: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    made = [
        {"name": one, "image": "nginx"} if isinstance(one, str) else {"image": "nginx", **one} for one in containers
    ]
    return {
        "metadata": {"name": "web", "namespace": "default", "uid": "u", **(meta or {})},
        "spec": {"containers": made, **spec},
    }


def container(name: str, state: str = RUNNING, **more: Any) -> Container:
    """A container that started a minute ago; an exited one ended now unless `finished_at` says otherwise."""
    count, step = more.pop("count", 0), more.pop("step", 0)
    started = more.pop("started_at", NOW - 60)
    finished = more.pop("finished_at", NOW if state == EXITED else 0)
    return Container(
        **{
            "id": f"{name}-{count}",
            "sandbox_id": "s0",
            "name": name,
            "attempt": count,
            "state": state,
            "created_at": int(started * NANO),
            "started_at": int(started * NANO),
            "finished_at": int(finished * NANO),
            "image": "nginx",
            "image_ref": "sha256:1",
            "annotations": {RESTART_COUNT: str(count), BACKOFF_STEP: str(step)},
            **more,
        }
    )


def observed(*containers: Container, sandbox: Sandbox | None = SANDBOX) -> Observed:
    by_name: dict[str, list[Container]] = {}
    for one in containers:
        by_name.setdefault(one.name, []).append(one)
    return Observed(
        (sandbox,) if sandbox else (),
        {name: tuple(sorted(found, key=lambda one: -one.attempt)) for name, found in by_name.items()},
    )
