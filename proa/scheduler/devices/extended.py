"""Extended resources that device classes serve (enhancement 5004).

A container's `example.com/gpu: 2` becomes requests of a claim that the scheduler makes for the pod. A class serves the
resource that its `extendedResourceName` names, and `deviceclass.resource.kubernetes.io/CLASS` always. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from proa.apis.pod_resources import amount_of, is_sidecar
from proa.meta.objects import Obj, annotations_of, controller_of, metadata, name_of

IMPLICIT = "deviceclass.resource.kubernetes.io/"
ANNOTATION = "resource.kubernetes.io/extended-resource-claim"


def classes_by_resource(classes: Iterable[Obj]) -> dict[str, str]:
    """Returns which class serves which resource; of several the youngest, then the first by name."""

    def age(one: Obj) -> tuple[list[int], str]:
        made = metadata(one).get("creationTimestamp") or ""
        return [-ord(letter) for letter in made], name_of(one)

    found: dict[str, str] = {}
    for one in sorted(classes, key=age, reverse=True):
        found[IMPLICIT + name_of(one)] = name_of(one)
        explicit = one["spec"].get("extendedResourceName")
        if explicit:
            found[explicit] = name_of(one)
    return found


def claim_of(pod: Obj, claims: Iterable[Obj]) -> Obj | None:
    """Returns the claim that an earlier attempt has made for the pod's extended resources."""
    uid = metadata(pod).get("uid")
    for claim in claims:
        if annotations_of(claim).get(ANNOTATION) == "true" and (controller_of(claim) or {}).get("uid") == uid:
            return claim
    return None


def new_claim(pod: Obj, requests: Sequence[Obj]) -> Obj:
    """Returns the claim to create, with a name that the server makes up."""
    meta = metadata(pod)
    owner = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta.get("uid", ""), "controller": True}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {
            "namespace": meta.get("namespace", ""),
            "generateName": f"{meta['name']}-extended-resources-",
            "annotations": {ANNOTATION: "true"},
            "ownerReferences": [owner],
        },
        "spec": {"devices": {"requests": list(requests)}},
    }


@dataclass(slots=True)
class _Of:
    """What becomes of one resource: requests by container, and who uses which."""

    resource: str
    class_name: str
    lasting: dict[int, Obj] = field(default_factory=dict)
    mappings: list[Obj] = field(default_factory=list)

    def wanted(self, container: Obj) -> int:
        text = ((container.get("resources") or {}).get("requests") or {}).get(self.resource)
        return 0 if text is None else amount_of(self.resource, str(text))

    def request(self, index: int, container: Obj, count: int) -> Obj:
        """Requests are named after the places of the container and of the resource among all that it requests."""
        place = sorted(container["resources"]["requests"]).index(self.resource)
        exactly = {"deviceClassName": self.class_name, "allocationMode": "ExactCount", "count": count}
        return {"name": f"container-{index}-request-{place}", "exactly": exactly}

    def mapping(self, container: Obj, request: Obj) -> Obj:
        return {
            "containerName": container["name"],
            "resourceName": self.resource,
            "requestName": request["name"],
        }


def requests_of(pod: Obj, resources: Collection[str], served_by: Mapping[str, str]) -> tuple[list[Obj], list[Obj]]:
    """Returns the requests of a claim for those of a pod's resources, and which container has which request.

    Init containers that end use the devices of the containers after them, and only ask for what they need beyond; one
    request serves them all.
    """
    spec = pod.get("spec") or {}
    starting: list[Obj] = spec.get("initContainers") or []
    containers = [*starting, *(spec.get("containers") or ())]
    passing = [index for index, one in enumerate(starting) if not is_sidecar(one)]
    requests: list[Obj] = []
    mappings: list[Obj] = []
    for resource in sorted(resources):
        of = _Of(resource, served_by[resource])
        for index, container in enumerate(containers):
            if index not in passing and (count := of.wanted(container)):
                of.lasting[index] = of.request(index, container, count)
                of.mappings.append(of.mapping(container, of.lasting[index]))
        extra = _for_passing(of, containers, passing)
        requests += [*([extra] if extra else ()), *of.lasting.values()]
        mappings += of.mappings
    return sorted(requests, key=lambda one: str(one["name"])), mappings


def _for_passing(of: _Of, containers: Sequence[Obj], passing: Iterable[int]) -> Obj | None:
    """Maps init containers that end to devices of later containers; returns the request for what is missing."""
    largest: Obj | None = None
    extra: list[Obj] = []
    for index in passing:
        container = containers[index]
        missing = of.wanted(container)
        for later in sorted(of.lasting):
            if missing > 0 and later >= index:
                extra.append(of.mapping(container, of.lasting[later]))
                missing -= of.lasting[later]["exactly"]["count"]
        if missing > 0:
            request = of.request(index, container, missing)
            extra.append({**of.mapping(container, request), "requestName": None})
            if largest is None or largest["exactly"]["count"] < missing:
                largest = request
    for one in extra:
        if one["requestName"] is None and largest is not None:
            one["requestName"] = largest["name"]
    of.mappings += extra
    return largest
