"""What the parts of one node's kubelet share: the runtime, the API, settings, folders."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from proa.client.events import EventRecorder
from proa.client.informer import Informer
from proa.client.interface import Client
from proa.kubelet.configs import NodeSettings
from proa.kubelet.cri.types import Runtime
from proa.kubelet.environment import NodeFacts
from proa.kubelet.images import Images
from proa.kubelet.podspec import ContainerSpec
from proa.kubelet.references import References
from proa.kubelet.volumes.manager import VolumeManager
from proa.kubelet.watcher import RuntimeWatcher
from proa.meta.objects import Obj, name_of, namespace_of, uid_of
from proa.util.clock import Clock

# Called with a pod and its addresses before each of its containers starts: what its network needs is in force then.
BeforeStart = Callable[[Obj, Sequence[str]], Awaitable[None]]

_FIELDS = {
    "init": "initContainers",
    "sidecar": "initContainers",
    "main": "containers",
    "ephemeral": "ephemeralContainers",
}


@dataclass(slots=True, kw_only=True)
class Context:
    """One node's kubelet. `facts` says what downward API references may ask of the node; `node` is its Node object,
    `taken` the pods that it has taken and that have not ended."""

    client: Client
    runtime: Runtime
    watcher: RuntimeWatcher
    volumes: VolumeManager
    images: Images
    references: References
    recorder: EventRecorder
    clock: Clock
    settings: NodeSettings
    facts: Callable[[], NodeFacts]
    services: Informer
    node: Callable[[], Obj | None]
    taken: Callable[[], list[Obj]]
    root: Path
    logs: Path
    runtime_name: str = "containerd"
    image_volumes: bool = False
    before_start: BeforeStart | None = None

    def seconds(self) -> float:
        """The time now, in seconds since the epoch."""
        return self.clock.now().timestamp()

    def pod_folder(self, uid: str) -> Path:
        return self.root / "pods" / uid

    def log_folder(self, pod: Obj) -> Path:
        return self.logs / f"{namespace_of(pod)}_{name_of(pod)}_{uid_of(pod)}"

    def tell(self, pod: Obj, container: ContainerSpec | None, type: str, reason: str, message: str) -> None:
        """Records an event about a pod or one of its containers."""
        path = f"spec.{_FIELDS[container.kind]}{{{container.name}}}" if container else ""
        about = pod if pod.get("kind") else {"kind": "Pod", "apiVersion": "v1", **pod}
        self.recorder.event(about, type, reason, message, field_path=path)
