"""What plugins want done in the API, as values; `binding.py` does it.

Apart from `framework.py`, so that it costs nothing to import: there is no array here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from proa.meta.gvk import GVR
from proa.meta.objects import Obj

DEFAULT_BINDER = "DefaultBinder"


class PostFilterError(Exception):
    """A post-filter could not do its work; the text ends the pod's message, and no other post-filter is asked."""


class Refused(Exception):
    """A change before binding cannot be made any more; the text says why."""


@dataclass(frozen=True, slots=True)
class Change:
    """A write that must be made before a pod is bound.

    With the verb `update`, `change` turns the newest state of the object into the wanted one; `create` sends what it
    makes of nothing, `patch` (strategic) too, `delete` deletes if it returns anything. None: there is nothing to do. It
    raises Refused.
    """

    resource: GVR
    namespace: str
    name: str
    change: Callable[[Obj], Obj | None]
    subresource: str = ""
    verb: Literal["update", "create", "patch", "delete"] = "update"
    now_at: tuple[str, ...] = ()  # where the time of the write is put, if there is nothing yet and what is around it is


@dataclass(frozen=True, slots=True)
class Until:
    """Something to wait for before a pod is bound: `done` is asked after each event, and raises Refused."""

    done: Callable[[], bool]
    timeout_seconds: float
    late: str


@dataclass(frozen=True, slots=True)
class Tell:
    """An event about the pod."""

    reason: str
    note: str
    type: str = "Normal"
    action: str = "Scheduling"


@dataclass(frozen=True, slots=True)
class Wait:
    """The pod must wait for permission, 15 minutes at most; see `waiting.py`."""

    timeout_seconds: float


# What is to be done before a pod is bound, in order. A generator gets the object that each write returned.
Step = Change | Until | Tell
Steps = Iterable[Step] | Generator[Step, Any, None]
