"""What the scheduler knows about storage: look-ups into the informers' copies, with what it has assumed on top. Pure.

An assumption (a volume reserved for a claim, a claim sent to a node) holds until the API shows a newer state of the
object, or until it is taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from proa.meta.objects import Obj, annotations_of, key_of, metadata, name_of, split_key

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY = "pv.kubernetes.io/bound-by-controller"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
VOLUMES_INDEX = "wanted by"
_FREE = "class:"  # no key of a claim begins so


class Lister(Protocol):
    """The part of an informer that decisions need."""

    def get(self, name: str, namespace: str = "") -> Obj | None: ...

    def objects(self, namespace: str = "") -> list[Obj]: ...


class VolumeLister(Lister, Protocol):
    """Volumes, which are also found by `wanted_by`."""

    def indexed(self, index: str, value: str) -> list[Obj]: ...


class Nothing:
    """A lister of an empty cluster."""

    def get(self, name: str, namespace: str = "") -> Obj | None:
        return None

    def objects(self, namespace: str = "") -> list[Obj]:
        return []

    def indexed(self, index: str, value: str) -> list[Obj]:
        return []


_NOTHING = Nothing()


@dataclass(slots=True)
class Storage:
    """Claims, volumes, classes and CSI objects."""

    claims: Lister = _NOTHING
    volumes: VolumeLister = _NOTHING
    classes: Lister = _NOTHING
    csi_nodes: Lister = _NOTHING
    drivers: Lister = _NOTHING
    capacities: Lister = _NOTHING
    # key or name -> (revision that the assumption stands on, object)
    _assumed_claims: dict[str, tuple[str, Obj]] = field(default_factory=dict, init=False)
    _assumed_volumes: dict[str, tuple[str, Obj]] = field(default_factory=dict, init=False)

    def claim(self, key: str) -> Obj | None:
        """Returns a claim by `namespace/name`."""
        namespace, name = split_key(key)
        return _newest(self.claims.get(name, namespace), self._assumed_claims, key)

    def volume(self, name: str) -> Obj | None:
        return _newest(self.volumes.get(name), self._assumed_volumes, name)

    def volumes_for(self, claim: Obj) -> Iterator[Obj]:
        """Yields the volumes that are reserved for a claim of this name, and the free ones of its class."""
        for wanted in (key_of(claim), _FREE + class_name(claim)):
            for volume in self.volumes.indexed(VOLUMES_INDEX, wanted):
                found = _newest(volume, self._assumed_volumes, name_of(volume)) if self._assumed_volumes else volume
                if found is not None:
                    yield found

    def class_for(self, obj: Obj) -> Obj | None:
        """Returns the storage class of a claim or volume."""
        name = class_name(obj)
        return self.classes.get(name) if name else None

    def assume_claim(self, claim: Obj) -> None:
        self._assumed_claims[key_of(claim)] = _revision(claim), claim

    def assume_volume(self, volume: Obj) -> None:
        self._assumed_volumes[name_of(volume)] = _revision(volume), volume

    def forget_claim(self, claim: Obj) -> None:
        self._assumed_claims.pop(key_of(claim), None)

    def forget_volume(self, volume: Obj) -> None:
        self._assumed_volumes.pop(name_of(volume), None)


def _revision(obj: Obj) -> str:
    return metadata(obj).get("resourceVersion") or ""


def _newest(known: Obj | None, assumed: dict[str, tuple[str, Obj]], key: str) -> Obj | None:
    entry = assumed.get(key) if assumed else None
    if entry is None:
        return known
    if known is None or _revision(known) != entry[0]:
        del assumed[key]
        return known
    return entry[1]


def class_name(obj: Obj) -> str:
    """Returns the name of the storage class of a claim or volume, empty for none."""
    annotation = annotations_of(obj).get(CLASS_ANNOTATION)
    return annotation if annotation is not None else obj["spec"].get("storageClassName") or ""


def wanted_by(volume: Obj) -> Iterable[str]:
    """Yields by what a claim finds the volume: its own key if it is reserved, else the class."""
    reference = volume["spec"].get("claimRef")
    yield f"{reference.get('namespace')}/{reference.get('name')}" if reference else _FREE + class_name(volume)


def is_bound(claim: Obj) -> bool:
    """Tells whether claim and volume are bound to each other, completely."""
    return bool(claim["spec"].get("volumeName")) and BIND_COMPLETED in annotations_of(claim)
