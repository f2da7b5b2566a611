"""What may be signed, and when a request is over (pure). Follows upstream's signers and approver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from proa.controllers.conditions import find, is_true
from proa.meta.objects import Obj, metadata, name_of
from proa.util.clock import parse_rfc3339

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY = "kubernetes.io/legacy-unknown"
SIGNERS = (CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY)

_NODE_USER = "system:node:"
_COMMON = {"digital signature", "key encipherment"}
_APPROVED_SECONDS = 3600.0
_DENIED_SECONDS = 3600.0
_PENDING_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Subject:
    """What an X.509 request asks for."""

    common_name: str
    organizations: tuple[str, ...]
    dns_names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()

    @property
    def has_names(self) -> bool:
        return bool(self.dns_names or self.addresses or self.emails or self.uris)


def conditions(request: Obj) -> Sequence[Obj]:
    return (request.get("status") or {}).get("conditions") or ()


def is_approved(request: Obj) -> bool:
    return is_true(conditions(request), "Approved") and not is_true(conditions(request), "Denied")


def refusal(signer: str, subject: Subject, usages: Sequence[str]) -> str:
    """Returns why a signer must not sign what was approved, empty if it may."""
    asked = set(usages)
    if signer == CLIENT:
        if "client auth" not in asked or not asked <= _COMMON | {"client auth"}:
            return "usages must include client auth and, besides it, only digital signature and key encipherment"
        return ""
    if signer in (KUBELET_CLIENT, KUBELET_SERVING):
        return _kubelet_refusal(signer, subject, asked)
    return "" if signer == LEGACY else "unknown signer"


def _kubelet_refusal(signer: str, subject: Subject, asked: set[str]) -> str:
    usage = "client auth" if signer == KUBELET_CLIENT else "server auth"
    if subject.organizations != ("system:nodes",):
        return "subject organization is not system:nodes"
    if not subject.common_name.startswith(_NODE_USER):
        return "subject common name does not begin with system:node:"
    if usage not in asked or "digital signature" not in asked or not asked <= _COMMON | {usage}:
        return f"usages must be {usage} and digital signature, key encipherment if need be"
    if signer == KUBELET_CLIENT:
        return "subjectAltNames are not allowed" if subject.has_names else ""
    if subject.emails or subject.uris:
        return "email and URI subjectAltNames are not allowed"
    if not subject.dns_names and not subject.addresses:
        return "a DNS name or an IP address is required"
    return ""


def are_own_names(subject: Subject, nodes: Sequence[Obj]) -> bool:
    """Tells whether a serving certificate of a kubelet would name its own node, and nothing that is another's too.

    Nodes report their addresses themselves: what two of them claim is for an administrator to judge.
    """
    claims = {name_of(node): _claimed(node) for node in nodes}
    own = claims.pop(subject.common_name.removeprefix(_NODE_USER), set())
    asked = {*subject.dns_names, *subject.addresses}
    return bool(asked) and asked <= own and not any(asked & others for others in claims.values())


def _claimed(node: Obj) -> set[str]:
    addresses = (node.get("status") or {}).get("addresses") or ()
    return {name_of(node), *(one["address"] for one in addresses)}


def is_over(request: Obj, now: datetime) -> bool:
    """Tells whether a request has been around long enough to be deleted."""

    def age(stamp: str | None) -> float:
        return (now - parse_rfc3339(stamp)).total_seconds() if stamp else 0.0

    created = metadata(request).get("creationTimestamp")
    for type, limit in (("Approved", _APPROVED_SECONDS), ("Denied", _DENIED_SECONDS), ("Failed", _DENIED_SECONDS)):
        found = find(conditions(request), type)
        if found is not None and age(found.get("lastUpdateTime") or created) > limit:
            return type != "Approved" or bool((request.get("status") or {}).get("certificate"))
    return not conditions(request) and age(created) > _PENDING_SECONDS
