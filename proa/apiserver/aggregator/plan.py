"""What APIServices call for (pure): whether one is available and why not, which ones stand for custom resources, who a
request is from as an extension server reads it, and its discovery document in the aggregated form.

Reasons and messages follow upstream's availability controllers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from proa.apis.discovery_documents import CUSTOM_GROUP_PRIORITY, CUSTOM_VERSION_PRIORITY
from proa.client.interface import UserInfo
from proa.meta.gvk import split_api_version
from proa.meta.objects import Obj, labels_of, name_of

AVAILABLE = "Available"
AUTOMANAGED = "kube-aggregator.kubernetes.io/automanaged"
ON_START, ALWAYS = "onstart", "true"

GroupVersion = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A state of the condition Available."""

    status: str
    reason: str
    message: str


LOCAL = Verdict("True", "Local", "Local APIServices are always available")
PASSED = Verdict("True", "Passed", "all checks passed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What an APIService with a service says of its server. `bundle` is base64 of PEM."""

    name: str
    group: str
    version: str
    namespace: str
    service: str
    port: int
    bundle: str = ""
    insecure: bool = False
    group_priority: int = CUSTOM_GROUP_PRIORITY
    version_priority: int = CUSTOM_VERSION_PRIORITY

    @property
    def group_version(self) -> GroupVersion:
        return self.group, self.version

    @property
    def host(self) -> str:
        """The name in the server's certificate."""
        return f"{self.service}.{self.namespace}.svc"

    @property
    def path(self) -> str:
        """Where the server describes its resources."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"


def reference(api_service: Obj) -> Reference | None:
    """Returns where an APIService leads, None if to the API server itself."""
    spec = api_service.get("spec") or {}
    service = spec.get("service")
    if not service:
        return None
    return Reference(
        name=name_of(api_service),
        group=spec.get("group") or "",
        version=spec.get("version") or "",
        namespace=service.get("namespace") or "",
        service=service.get("name") or "",
        port=service.get("port") or 443,
        bundle=spec.get("caBundle") or "",
        insecure=bool(spec.get("insecureSkipTLSVerify")),
        group_priority=spec.get("groupPriorityMinimum") or CUSTOM_GROUP_PRIORITY,
        version_priority=spec.get("versionPriority") or CUSTOM_VERSION_PRIORITY,
    )


def is_own(api_service: Obj) -> bool:
    """Tells whether an APIService has this server answer itself, and not by a custom resource definition."""
    return reference(api_service) is None and labels_of(api_service).get(AUTOMANAGED) != ALWAYS


def is_available(api_service: Obj) -> bool:
    conditions = (api_service.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == AVAILABLE and one.get("status") == "True" for one in conditions)


# ---------------------------------------------------------------- availability


def check_service(to: Reference, service: Obj | None, slices: Sequence[Obj]) -> Verdict | None:
    """Returns why a service cannot answer, None if it may: then its server is to be asked."""
    where = f'service/{to.service} in "{to.namespace}"'
    if service is None:
        return Verdict("False", "ServiceNotFound", f"{where} is not present")
    spec = service.get("spec") or {}
    if (spec.get("type") or "ClusterIP") != "ClusterIP":
        return None
    port = next((one for one in spec.get("ports") or () if one.get("port") == to.port), None)
    if port is None:
        return Verdict("False", "ServicePortError", f"{where} is not listening on port {to.port}")
    if not slices:
        return Verdict("False", "EndpointsNotFound", f"cannot find endpointslices for {where}")
    name = port.get("name") or ""
    if not any(_has_endpoint(one, name) for one in slices):
        message = f'endpointslices for {where} have no addresses with port name "{name}"'
        return Verdict("False", "MissingEndpoints", message)
    return None


def _has_endpoint(piece: Obj, port_name: str) -> bool:
    ready = any((one.get("conditions") or {}).get("ready") is not False for one in piece.get("endpoints") or ())
    return ready and any(
        (one.get("name") or "") == port_name and one.get("port") is not None for one in piece.get("ports") or ()
    )


def failed_check(url: str, why: str) -> Verdict:
    return Verdict("False", "FailedDiscoveryCheck", f"failing or missing response from {url}: {why}")


def with_verdict(api_service: Obj, verdict: Verdict, now: str) -> list[Obj] | None:
    """Returns the conditions with the verdict among them, None if they say so already."""
    conditions: list[Obj] = list((api_service.get("status") or {}).get("conditions") or ())
    made: Obj = {
        "type": AVAILABLE,
        "status": verdict.status,
        "lastTransitionTime": now,
        "reason": verdict.reason,
        "message": verdict.message,
    }
    for index, old in enumerate(conditions):
        if old.get("type") != AVAILABLE:
            continue
        if old.get("status") == verdict.status:
            made["lastTransitionTime"] = old.get("lastTransitionTime")
        if made == old:
            return None
        conditions[index] = made
        return conditions
    return [*conditions, made]


# ---------------------------------------------------------------- custom resources


def custom_api_service(group: str, version: str) -> Obj:
    """Returns the APIService of a version that custom resource definitions serve."""
    return {
        "metadata": {"name": f"{version}.{group}", "labels": {AUTOMANAGED: ALWAYS}},
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": CUSTOM_GROUP_PRIORITY,
            "versionPriority": CUSTOM_VERSION_PRIORITY,
        },
    }


@dataclass(frozen=True, slots=True)
class Registrations:
    """APIServices to create, those whose spec is to be put right, and the names of those to delete."""

    create: Sequence[Obj] = field(default_factory=tuple)
    update: Sequence[Obj] = field(default_factory=tuple)
    delete: Sequence[str] = field(default_factory=tuple)


def registrations(served: Iterable[GroupVersion], existing: Mapping[str, Obj]) -> Registrations:
    """Returns what brings the APIServices of custom resources into step; `existing` are all, by name.

    One that somebody made without our label is theirs, whatever it says.
    """
    wanted = {name_of(one): one for one in (custom_api_service(*each) for each in sorted(served))}
    ours = {name: one for name, one in existing.items() if labels_of(one).get(AUTOMANAGED) == ALWAYS}
    return Registrations(
        create=[one for name, one in wanted.items() if name not in existing],
        update=[one for name, one in wanted.items() if name in ours and ours[name].get("spec") != one["spec"]],
        delete=[name for name in ours if name not in wanted],
    )


# ---------------------------------------------------------------- identity

# Characters of a header's name, but for the escape character itself.
_TOKEN = "!#$&'*+-.^_`|~"


def identity_headers(user: UserInfo) -> list[tuple[str, str]]:
    """Returns the headers that say to an extension server who asks. Text beyond ASCII goes as UTF-8."""
    headers = [("X-Remote-User", _header_text(user.name))]
    if user.uid:
        headers.append(("X-Remote-Uid", _header_text(user.uid)))
    headers += [("X-Remote-Group", _header_text(group)) for group in user.groups]
    headers += [
        (f"X-Remote-Extra-{quote(key, safe=_TOKEN)}", _header_text(value))
        for key, values in user.extra.items()
        for value in values
    ]
    return headers


def _header_text(text: str) -> str:
    """Returns the text whose Latin-1 bytes are the UTF-8 bytes of the given one; line breaks become blanks."""
    return " ".join(text.splitlines() or [""]).encode().decode("latin-1")


# ---------------------------------------------------------------- discovery


def version_discovery(resource_list: Obj) -> Obj:
    """Returns an APIVersionDiscovery with what an APIResourceList says; ill-formed entries are left out."""
    _, version = split_api_version(resource_list.get("groupVersion") or "")
    found: dict[str, Obj] = {}
    for one in _entries(resource_list):
        if "/" not in one["name"]:
            found[one["name"]] = {"resource": one["name"], "responseKind": _kind(one), **_rest(one)}
    for one in _entries(resource_list):
        parent, separator, sub = one["name"].partition("/")
        if separator:
            # Subresources may exist without their resource, as those of custom metrics do.
            owner = found.setdefault(parent, {"resource": parent, "scope": _scope(one)})
            shown: Obj = {"subresource": sub, "verbs": list(one.get("verbs") or ())}
            if one.get("kind"):
                shown["responseKind"] = _kind(one)
            owner.setdefault("subresources", []).append(shown)
    return {"version": version, "resources": list(found.values())}


def _entries(resource_list: Obj) -> list[Obj]:
    listed: Sequence[Any] = resource_list.get("resources") or ()
    return [one for one in listed if isinstance(one, dict) and isinstance(one.get("name"), str)]


def _scope(one: Obj) -> str:
    return "Namespaced" if one.get("namespaced") else "Cluster"


def _kind(one: Obj) -> Obj:
    # A kind of the version at hand has neither group nor version, here as there.
    return {"group": one.get("group") or "", "version": one.get("version") or "", "kind": one.get("kind") or ""}


def _rest(one: Obj) -> Obj:
    shown: Obj = {
        "scope": _scope(one),
        "singularResource": one.get("singularName") or "",
        "verbs": list(one.get("verbs") or ()),
    }
    if one.get("shortNames"):
        shown["shortNames"] = list(one["shortNames"])
    if one.get("categories"):
        shown["categories"] = list(one["categories"])
    return shown
