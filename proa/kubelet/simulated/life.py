"""Lives: what happens to pods on simulated nodes, and to which pods. Values alone; `plan.py` lets pods live them.

A life has stages: pulling images, init containers, start, readiness, running, stopping. What happens in a stage may
differ from one try to the next (a list of tries, the last of which repeats), and spans may be drawn at random: always
the same ones for the same seed and pod.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import blake2b
from typing import TypeVar

from proa.meta.objects import Obj, annotations_of, labels_of, name_of, namespace_of

T = TypeVar("T")

FOREVER = float("inf")
KILLED = 137  # what a container exits with that is killed
OUT_OF_MEMORY = "OOMKilled"
PULL_ERROR = "failed to pull and unpack image: failed to resolve reference: not found"
EVICTION_MESSAGE = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 95Mi. "


@dataclass(frozen=True, slots=True)
class Uniform:
    """A span of `least` to `most` seconds, each as likely as the others."""

    least: float
    most: float


Span = float | Uniform


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """One try to pull an image: how long it takes, and why it fails (empty: it does not)."""

    seconds: Span = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a container: how long, and how it ends. `reason` is by default Completed or Error."""

    seconds: Span = FOREVER
    exit_code: int = 0
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """How pods that match live; the first that matches counts.

    Whom it is for: pods with all of `labels` and `annotations`, in `namespace`, with a container of an image like
    `image` (`*` and `?` as in file names), on nodes with all of `node_labels`; of these the part `share`.

    Times are seconds or Uniform: `start_seconds` from the images' being there to running, `ready_seconds` from running
    to ready (FOREVER: never), `run_seconds` until the containers end (FOREVER: when deleted) with `exit_code`,
    `stop_seconds` from being told to stop to having stopped (FOREVER: not before they are killed). `pulls`, `inits` and
    `runs` say what becomes of the first, second, … try of each container; the last one repeats. `runs` goes before
    `run_seconds` and `exit_code`. A pod is evicted `evict_seconds` after its start.

    `usage` is what a pod is said to use, by resource (`cpu`, `memory`) as quantities; by default what it requests.
    `containers` are lives of single containers by name, of which whom they are for and eviction do not count. A pod's
    labels may change, and with them its life: one that is not ready yet in its new life falls back.
    """

    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""
    image: str = ""
    node_labels: Mapping[str, str] = field(default_factory=dict)
    share: float = 1.0
    seed: int = 0
    pulls: Sequence[Pull] = ()
    inits: Sequence[Run] = ()
    start_seconds: Span = 0.0
    # Set: the runtime refuses to start the containers, and says this.
    start_error: str = ""
    # Set: the containers never start, but wait with this reason.
    stuck_reason: str = ""
    ready_seconds: Span = 0.0
    run_seconds: Span = FOREVER
    exit_code: int = 0
    runs: Sequence[Run] = ()
    stop_seconds: Span = 0.0
    stop_exit_code: int = KILLED
    evict_seconds: Span = FOREVER
    evict_message: str = EVICTION_MESSAGE
    usage: Mapping[str, str] = field(default_factory=dict)
    containers: Mapping[str, Life] = field(default_factory=dict)

    def matches(self, pod: Obj) -> bool:
        """Tells whether the pod is one of those that it is for, on whatever node."""
        return (
            (not self.namespace or self.namespace == namespace_of(pod))
            and (not self.labels or _has(labels_of(pod), self.labels))
            and (not self.annotations or _has(annotations_of(pod), self.annotations))
            and (not self.image or any(fnmatchcase(one, self.image) for one in _images(pod)))
            and (self.share >= 1 or draw(self, pod, "share") < self.share)
        )

    def is_on(self, node_labels: Mapping[str, str]) -> bool:
        """Tells whether it is for pods on a node with these labels."""
        return not self.node_labels or _has(node_labels, self.node_labels)

    def of(self, container: str) -> Life:
        """Returns the life of one container."""
        return self.containers.get(container, self) if self.containers else self

    def run(self, attempt: int) -> Run:
        """Returns what becomes of a main container's run; they count from 0."""
        if self.runs:
            return _nth(self.runs, attempt)
        return Run(seconds=self.run_seconds, exit_code=self.exit_code)

    def init(self, attempt: int) -> Run:
        return _nth(self.inits, attempt) if self.inits else _AT_ONCE

    def pull(self, attempt: int) -> Pull:
        return _nth(self.pulls, attempt) if self.pulls else _PRESENT


_PRESENT = Pull()
_AT_ONCE = Run(seconds=0.0)


def _nth(tries: Sequence[T], number: int) -> T:
    return tries[min(number, len(tries) - 1)]


def _has(known: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(known.get(key) == value for key, value in wanted.items())


def _images(pod: Obj) -> list[str]:
    spec = pod.get("spec") or {}
    return [one.get("image") or "" for key in ("containers", "initContainers") for one in spec.get(key) or ()]


def draw(life: Life, pod: Obj, *what: object) -> float:
    """Returns a number from 0 to 1 that depends on the seed, the pod's name and what it is for, and on nothing else."""
    text = "\0".join([str(life.seed), namespace_of(pod), name_of(pod), *map(str, what)])
    return int.from_bytes(blake2b(text.encode(), digest_size=6).digest()) / (1 << 48)


def seconds_of(span: Span, life: Life, pod: Obj, *what: object) -> float:
    """Returns how long a span takes for this pod."""
    if isinstance(span, Uniform):
        return span.least + (span.most - span.least) * draw(life, pod, *what)
    return span
