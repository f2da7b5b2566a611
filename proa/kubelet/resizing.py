"""Carries out what `resize.py` decides for one pod: room in its cgroup, the runtime's updates, what goes wrong.

Follows upstream: a memory limit is not set below what a container uses, which would end it; a resize that fails is
tried again, and says why in the condition PodResizeInProgress.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from proa.kubelet import cgroups
from proa.kubelet.configs import pod_cgroup, resources_mark
from proa.kubelet.context import Context
from proa.kubelet.cri.types import Container, RuntimeFailure
from proa.kubelet.plan import Observed
from proa.kubelet.podspec import ContainerSpec, qos_class
from proa.kubelet.resize import ResizePlan, plan_resize
from proa.kubelet.resources import linux_resources, memory_limit
from proa.meta.objects import Obj, metadata

_RETRY_SECONDS = 10.0


class Resizing:
    """The resizes of one pod. `plan` is what was decided last, `failure` why it could not be done, if so."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._marks: dict[str, str] = {}
        self._has_room = False
        self._failed_generation: int | None = None
        self.retry_at: float | None = None
        self.failure = ""
        self.plan = ResizePlan()

    def look(self, pod: Obj, observed: Observed, others: Callable[[], Iterable[Obj]]) -> ResizePlan:
        """Decides anew."""
        self.plan = plan_resize(pod, observed, self._marks, others, self._context.node())
        if not self.plan.update or metadata(pod).get("generation") != self._failed_generation:
            self.failure, self.retry_at = "", None
        if self.plan.pending:
            # Room may come when another pod goes, which nobody tells.
            self.retry_at = self._context.seconds() + _RETRY_SECONDS
        return self.plan

    def is_due(self, pod: Obj, replacing: bool) -> bool:
        """Makes room in the pod's cgroup, or takes back what is not needed; returns whether containers must change.

        The pod's own limits must not be below its containers': before, after, or when one is started in another's
        place (`replacing`: one is being).
        """
        settled = not (self.plan.update or self.plan.restart or replacing)
        if settled and not self._has_room:
            return False
        settings = self._context.settings
        if settings.manage_cgroups:
            cgroup = pod_cgroup(pod, qos_class(pod), settings.cgroup_root)
            (cgroups.make_pod if settled else cgroups.raise_limits)(cgroup, pod)
        self._has_room = not settled
        return bool(self.plan.update) and (self.retry_at is None or self._context.seconds() >= self.retry_at)

    async def carry_out(self, pod: Obj) -> None:
        """Gives running containers the resources that the pod now says; keeps why it could not."""
        self._failed_generation = metadata(pod).get("generation")
        self.failure, self.retry_at = "", None
        try:
            for container, current in self.plan.update:
                await self._update(pod, container, current)
        except RuntimeFailure as failure:
            self.failure, self.retry_at = failure.message, self._context.seconds() + _RETRY_SECONDS

    async def _update(self, pod: Obj, container: ContainerSpec, current: Container) -> None:
        context = self._context
        before, limit = memory_limit(self.plan.actual.get(current.id)), memory_limit(container.spec.get("resources"))
        if limit and (before is None or limit < before):
            used = await self._used(current.id)
            if used > limit:
                text = f"memory limit ({limit}) below current usage ({used})"
                raise RuntimeFailure(
                    "FAILED_PRECONDITION", f'aborting attempt to set container "{current.name}" {text}'
                )
        linux = linux_resources(pod, container, context.settings.memory_capacity_bytes)
        linux.pop("oom_score_adj", None)
        await context.runtime.update_resources(current.id, linux)
        self._marks[current.id] = resources_mark(container.spec)

    async def _used(self, container_id: str) -> int:
        """The memory that a container uses, in bytes; 0 if the runtime does not say."""
        for one in await self._context.runtime.stats():
            if one.container_id == container_id:
                return one.memory_working_set or 0
        return 0
