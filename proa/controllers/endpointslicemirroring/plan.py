"""The slices that mirror an Endpoints object (pure). Follows upstream's endpointslice mirroring controller."""

from __future__ import annotations

from collections.abc import Sequence

from proa.controllers.pods import owner_reference
from proa.controllers.services import HEADLESS_LABEL, MANAGED_BY_LABEL, SERVICE_NAME_LABEL
from proa.controllers.slices import Group, Plan, group_key
from proa.controllers.slices import plan as fit
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, annotations_of, is_deleted, labels_of, name_of, namespace_of

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP_LABEL = "endpointslice.kubernetes.io/skip-mirror"
_LEADER = "control-plane.alpha.kubernetes.io/leader"
_ENDPOINTS_PER_SUBSET_MAX = 1000
_SLICE_SIZE_MAX = 1000
_LABELS_NOT_COPIED = frozenset({HEADLESS_LABEL, "endpoints.kubernetes.io/managed-by"})
_ANNOTATIONS_NOT_COPIED = frozenset(
    {"kubectl.kubernetes.io/last-applied-configuration", "endpoints.kubernetes.io/last-change-trigger-time"}
)


def is_mirrored(endpoints: Obj | None, service: Obj | None) -> bool:
    """Tells whether a user keeps these Endpoints for a service without a selector."""
    if endpoints is None or service is None or is_deleted(endpoints) or (service.get("spec") or {}).get("selector"):
        return False
    return labels_of(endpoints).get(SKIP_LABEL) != "true" and _LEADER not in annotations_of(endpoints)


def plan(endpoints: Obj, slices: Sequence[Obj]) -> Plan:
    groups: dict[str, Group] = {}
    for subset in endpoints.get("subsets") or ():
        ports = tuple(_port(port) for port in subset.get("ports") or ())
        listed = [(one, True) for one in subset.get("addresses") or ()]
        listed += [(one, False) for one in subset.get("notReadyAddresses") or ()]
        for address, ready in listed[:_ENDPOINTS_PER_SUBSET_MAX]:
            family = "IPv6" if ":" in address["ip"] else "IPv4"
            key = group_key(family, ports)
            group = groups.get(key) or Group(family, ports, ())
            groups[key] = Group(family, ports, (*group.endpoints, _endpoint(address, ready)))
    copied = {key: value for key, value in labels_of(endpoints).items() if key not in _LABELS_NOT_COPIED}
    annotations = annotations_of(endpoints)
    meta = {
        "generateName": f"{name_of(endpoints)}-",
        "namespace": namespace_of(endpoints),
        "labels": {**copied, SERVICE_NAME_LABEL: name_of(endpoints), MANAGED_BY_LABEL: MANAGER},
        "annotations": {key: value for key, value in annotations.items() if key not in _ANNOTATIONS_NOT_COPIED},
        "ownerReferences": [owner_reference(endpoints, GVK("", "v1", "Endpoints"))],
    }
    return fit(list(groups.values()), slices, meta, placeholder="", size_max=_SLICE_SIZE_MAX)


def _port(port: Obj) -> Obj:
    made: Obj = {"name": port.get("name") or "", "protocol": port.get("protocol") or "TCP", "port": port["port"]}
    if port.get("appProtocol"):
        made["appProtocol"] = port["appProtocol"]
    return made


def _endpoint(address: Obj, ready: bool) -> Obj:
    made: Obj = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    for field in ("hostname", "nodeName", "targetRef"):
        if address.get(field):
            made[field] = address[field]
    return made
